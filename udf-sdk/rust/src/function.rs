//! A function as the host sees it: described, bound to columns, run on bundles.

use crate::context::OpenContext;
use crate::data_type::{DataType, Field, Shape};
use crate::effects::Effects;
use crate::frame::{Bundle, FrameError};
use crate::row::Input;
use crate::value::{FromColumn, NullFound, ToColumn};

/// Why the guest could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// In the order of the contract's `enum kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Scalar,
    Vectorized,
    Table,
    Filter,
    Map,
    Reduce,
    Aggregate,
    Process,
}

/// How a state is reached; in the order of the contract's `enum access`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Column,
    Call,
}

/// A state per key with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDeclaration {
    pub name: String,
    pub data_type: DataType,
    pub access: Access,
}

/// What is known of a function from its source.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    pub name: &'static str,
    /// Names of the arguments; a row struct has names of its own.
    pub arguments: &'static [&'static str],
    pub documentation: &'static str,
    pub deterministic: bool,
}

/// What `describe` says of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub kind: Kind,
    pub arguments: Vec<Field>,
    pub result: DataType,
    pub states: Vec<StateDeclaration>,
    pub deterministic: bool,
    pub documentation: String,
}

/// A function as one place in a job uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    pub function: String,
    pub arguments: Vec<Field>,
    pub key: Vec<Field>,
    pub result: Option<DataType>,
    pub access: Vec<(String, Access)>,
    pub parameters: Vec<(String, String)>,
}

/// What a binding came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub result: DataType,
    pub states: Vec<StateDeclaration>,
}

/// A binding that is ready to run.
pub struct Bound {
    pub loaded: Loaded,
    pub runner: Box<dyn Runner>,
}

/// Runs bundles of one binding.
pub trait Runner {
    /// The first effects of a bundle.
    fn run(&mut self, bundle: Bundle<'_>, effects: &mut Effects) -> Result<(), FrameError>;

    /// The next effects of the same bundle, after `more`.
    fn resume(&mut self, _bundle: Bundle<'_>, _effects: &mut Effects) -> Result<(), FrameError> {
        Err(FrameError("resume-frame was called, but the last effects were done".to_owned()))
    }
}

/// What `#[udf]` makes of a function, an `impl` block or an `impl Aggregate` or `impl Process`; what `export!` takes a list of.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a UDF",
    note = "put #[udf] on the function, on its `impl` block, or on `impl Aggregate for …` or `impl Process for …`"
)]
pub trait Function: 'static {
    /// What the input is written to in tests.
    type Writers;
    type Input<'f>: Input<'f, Writers = Self::Writers>;
    type Output<'f>: ToColumn + FromColumn<'f>;

    /// What the function is.
    fn describe() -> Description;

    /// Checks the columns against the declaration and opens the function.
    fn bind(binding: &Binding, context: &OpenContext<'_>) -> Result<Bound, Problem>;
}

/// May a column of type `got` be used where `declared` is?
fn fits(declared: &DataType, got: &DataType) -> bool {
    let same = match (&declared.shape, &got.shape) {
        (Shape::List(declared), Shape::List(got)) => fits(declared, got),
        (Shape::Map(key, value), Shape::Map(got_key, got_value)) => fits(key, got_key) && fits(value, got_value),
        (Shape::Struct(declared), Shape::Struct(got)) => {
            let pairs = || declared.iter().zip(got);
            declared.len() == got.len()
                && pairs().all(|(field, got)| field.name == got.name && fits(&field.data_type, &got.data_type))
        }
        (declared, got) => declared == got,
    };
    same && (declared.nullable || !got.nullable)
}

fn listed(fields: &[Field]) -> String {
    let texts: Vec<String> = fields.iter().map(|field| format!("{}: {}", field.name, field.data_type)).collect();
    format!("({})", texts.join(", "))
}

/// Are these columns what the function declares? A nullable column may be bound to an argument without null: the rows that are null
/// there give null, or a row error, as the kind has it.
pub(crate) fn check_arguments(function: &str, declared: &[Field], got: &[Field]) -> Result<(), Problem> {
    if declared.len() != got.len() {
        let (wanted, were) = (declared.len(), got.len());
        return Err(Problem::new(format!(
            "`{function}` takes {wanted} arguments {}, got {were} {}: bind one column to each argument",
            listed(declared),
            listed(got)
        )));
    }
    for (wanted, got) in declared.iter().zip(got) {
        let without_null = DataType { shape: got.data_type.shape.clone(), nullable: false };
        if !fits(&wanted.data_type, &without_null) {
            return Err(Problem::new(format!(
                "argument `{}` of `{function}` is {}, got column `{}` of {}: cast the column, or change the argument's type in the UDF",
                wanted.name, wanted.data_type, got.name, got.data_type
            )));
        }
    }
    Ok(())
}

/// Is the result what the job wants?
pub(crate) fn check_result(function: &str, result: &DataType, wanted: Option<&DataType>) -> Result<(), Problem> {
    match wanted {
        Some(wanted) if !fits(wanted, result) => {
            Err(Problem::new(format!("`{function}` gives {result}, the job wants {wanted}: change one of the two")))
        }
        _ => Ok(()),
    }
}

/// Is any argument without null bound to a nullable column?
pub(crate) fn binds_null(declared: &[Field], got: &[Field]) -> bool {
    declared.iter().zip(got).any(|(declared, got)| got.data_type.nullable && !declared.data_type.nullable)
}

/// The text of a row error of kind `null`.
pub(crate) fn null_message(function: &str, declared: &[Field], null: NullFound) -> String {
    let (name, data_type) = match declared.get(null.argument) {
        Some(field) => (field.name.as_str(), field.data_type.to_string()),
        None => ("?", "?".to_owned()),
    };
    match null.field {
        None => format!(
            "`{name}` of `{function}` is null, but declared as {data_type}: declare it as Option<…>, or filter such rows out"
        ),
        Some(field) => format!(
            "`{field}` inside `{name}` of `{function}` is null, but `{name}` is declared as {data_type}: declare it as Option<…>, or filter such rows out"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(types: &[&str]) -> Vec<Field> {
        let field = |text: &&str| Field { name: "x".to_owned(), data_type: DataType::parse(text).expect(text) };
        types.iter().map(field).collect()
    }

    #[test]
    fn columns_must_have_the_declared_types() {
        let check = |declared: &[&str], got: &[&str]| {
            check_arguments("f", &fields(declared), &fields(got)).map_err(|problem| problem.message)
        };
        assert_eq!(check(&["int64?"], &["int64"]), Ok(()));
        assert_eq!(check(&["int64"], &["int64?"]), Ok(()));
        assert_eq!(check(&["list<int64?>"], &["list<int64>?"]), Ok(()));
        assert_eq!(
            check(&["int64"], &["int32?"]),
            Err("argument `x` of `f` is int64, got column `x` of int32?: cast the column, or change the argument's type in the UDF".to_owned())
        );
        assert!(check(&["list<int64>"], &["list<int64?>"]).is_err());
        assert!(check(&["struct<a: int8>"], &["struct<b: int8>"]).is_err());
        assert_eq!(
            check(&["utf8", "bool?"], &["utf8"]),
            Err("`f` takes 2 arguments (x: utf8, x: bool?), got 1 (x: utf8): bind one column to each argument"
                .to_owned())
        );
    }
}
