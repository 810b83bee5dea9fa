//! Finds out which columns a UDF call takes: names, order, types, nulls.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use wasmill_host::data_type::{self, FieldType};
use wasmill_host::{ArgumentDeclaration, FunctionDeclaration, Kind};

use crate::call::{Argument, Arguments};
use crate::error::{ArgumentMismatch, ProblemKind};
use crate::graph::BoundArgument;

/// A call of `function` on rows of `schema`, by the node `node`.
pub(crate) struct Binder<'a> {
    pub node: &'a str,
    /// `legs.grade`, for messages.
    pub title: &'a str,
    pub function: &'a FunctionDeclaration,
    pub schema: &'a Schema,
}

/// An argument and the field that the guest will be told of.
type Bound = (Field, BoundArgument);

const ROW_KINDS: [Kind; 4] = [Kind::Map, Kind::Filter, Kind::Reduce, Kind::Process];

impl Binder<'_> {
    pub(crate) fn bind(&self, arguments: &Arguments) -> Result<Vec<Bound>, ProblemKind> {
        let declared = &self.function.arguments;
        match arguments {
            Arguments::ByName => declared.iter().map(|argument| self.by_name(argument)).collect(),
            Arguments::Row => match declared.as_slice() {
                [one] => Ok(vec![self.row(one)?]),
                _ => Err(self.arity(1)),
            },
            Arguments::List(list) => match declared.as_slice() {
                [one] if list.len() > 1 && takes_row(one) => Ok(vec![self.packed(one, list)?]),
                _ if declared.len() == list.len() => {
                    declared.iter().zip(list).map(|(argument, given)| self.given(argument, given)).collect()
                }
                _ => Err(self.arity(list.len())),
            },
        }
    }

    fn arity(&self, got: usize) -> ProblemKind {
        let argument = |argument: &ArgumentDeclaration| format!("{}: {}", argument.name, declared_text(argument));
        ProblemKind::Arity {
            node: self.node.to_owned(),
            function: self.title.to_owned(),
            wanted: self.function.arguments.len(),
            signature: self.function.arguments.iter().map(argument).collect::<Vec<_>>().join(", "),
            got,
        }
    }

    /// A single argument that takes rows gets one, unless it is plainly a column: functions of columns get the
    /// column of the argument's name first.
    fn by_name(&self, argument: &ArgumentDeclaration) -> Result<Bound, ProblemKind> {
        let single = self.function.arguments.len() == 1;
        let column = self.schema.index_of(&argument.name).ok();
        let row_first = ROW_KINDS.contains(&self.function.kind) || column.is_none();
        if single && takes_row(argument) && row_first {
            return self.row(argument);
        }
        match column {
            Some(index) => self.column(argument, index),
            None => Err(self.unknown(&argument.name)),
        }
    }

    fn row(&self, argument: &ArgumentDeclaration) -> Result<Bound, ProblemKind> {
        let fields = match argument.data_type.as_ref().map(|declared| &declared.data_type) {
            None => {
                let whole = |index: usize| {
                    let field = self.schema.field(index);
                    self.column_as(&ArgumentDeclaration { name: field.name().clone(), data_type: None }, index)
                };
                (0..self.schema.fields().len()).map(whole).collect::<Result<Vec<_>, _>>()?
            }
            Some(DataType::Struct(wanted)) => {
                wanted.iter().map(|field| self.field(argument, field, None)).collect::<Result<Vec<_>, _>>()?
            }
            Some(_) => return Err(self.row_for_value(argument)),
        };
        Ok(row_of(argument, fields))
    }

    fn row_for_value(&self, argument: &ArgumentDeclaration) -> ProblemKind {
        let mismatch = self.mismatch(argument, "the whole row".to_owned(), "a struct".to_owned());
        let advice = ": name the column it should take";
        ProblemKind::ArgumentType(Box::new(ArgumentMismatch { advice, ..mismatch }))
    }

    fn mismatch(&self, argument: &ArgumentDeclaration, given: String, got: String) -> ArgumentMismatch {
        ArgumentMismatch {
            node: self.node.to_owned(),
            function: self.title.to_owned(),
            argument: argument.name.clone(),
            wanted: declared_text(argument),
            given,
            got,
            advice: "",
        }
    }

    /// A field of a row argument: from the column of its name, or from `given`.
    fn field(
        &self,
        argument: &ArgumentDeclaration,
        field: &Field,
        given: Option<&Argument>,
    ) -> Result<Bound, ProblemKind> {
        let wanted = ArgumentDeclaration {
            name: format!("{}.{}", argument.name, field.name()),
            data_type: Some(FieldType { data_type: field.data_type().clone(), nullable: field.is_nullable() }),
        };
        let (bound_field, bound) = match given {
            Some(given) => self.given(&wanted, given)?,
            None => match self.schema.index_of(field.name()) {
                Ok(index) => self.column(&wanted, index)?,
                Err(_) => return Err(self.unknown(field.name())),
            },
        };
        Ok((bound_field.with_name(field.name()), bound))
    }

    fn packed(&self, argument: &ArgumentDeclaration, list: &[Argument]) -> Result<Bound, ProblemKind> {
        let fields = match argument.data_type.as_ref().map(|declared| &declared.data_type) {
            Some(DataType::Struct(wanted)) if wanted.len() == list.len() => {
                let each = wanted.iter().zip(list);
                each.map(|(field, given)| self.field(argument, field, Some(given))).collect::<Result<Vec<_>, _>>()?
            }
            Some(_) => return Err(self.arity(list.len())),
            None => {
                let any = |(index, given): (usize, &Argument)| {
                    let name = match given {
                        Argument::Column(name) => name.clone(),
                        _ => format!("f{index}"),
                    };
                    self.given(&ArgumentDeclaration { name, data_type: None }, given)
                };
                list.iter().enumerate().map(any).collect::<Result<Vec<_>, _>>()?
            }
        };
        Ok(row_of(argument, fields))
    }

    fn given(&self, argument: &ArgumentDeclaration, given: &Argument) -> Result<Bound, ProblemKind> {
        match given {
            Argument::Column(name) => match self.schema.index_of(name) {
                Ok(index) => self.column(argument, index),
                Err(_) => Err(self.unknown(name)),
            },
            literal => self.literal(argument, literal),
        }
    }

    fn column(&self, argument: &ArgumentDeclaration, index: usize) -> Result<Bound, ProblemKind> {
        let bound = self.column_as(argument, index)?;
        let strict = !matches!(self.function.kind, Kind::Scalar | Kind::Vectorized | Kind::Table);
        match &argument.data_type {
            Some(declared) if strict && self.schema.field(index).is_nullable() && !declared.nullable => {
                let field = self.schema.field(index);
                let (given, got) = (format!("column \"{}\"", field.name()), text(field.data_type(), true));
                Err(ProblemKind::Nullability(Box::new(self.mismatch(argument, given, got))))
            }
            _ => Ok(bound),
        }
    }

    fn column_as(&self, argument: &ArgumentDeclaration, index: usize) -> Result<Bound, ProblemKind> {
        let field = self.schema.field(index);
        let column = field.data_type();
        let Ok(canonical) = data_type::canonical(column) else {
            return Err(ProblemKind::ColumnType {
                node: self.node.to_owned(),
                column: field.name().clone(),
                got: column.to_string(),
                wanted: "UDFs cannot take this type: leave the column out with a `select` before",
            });
        };
        let wanted = argument.data_type.as_ref().map_or(&canonical, |declared| &declared.data_type);
        if !same(wanted, &canonical) && !widens(&canonical, wanted) {
            let (given, got) = (format!("column \"{}\"", field.name()), text(&canonical, field.is_nullable()));
            return Err(ProblemKind::ArgumentType(Box::new(self.mismatch(argument, given, got))));
        }
        let cast = (wanted != column).then(|| wanted.clone());
        let bound = Field::new(&argument.name, wanted.clone(), field.is_nullable());
        Ok((bound, BoundArgument::Column { index, cast }))
    }

    fn literal(&self, argument: &ArgumentDeclaration, literal: &Argument) -> Result<Bound, ProblemKind> {
        let wanted = argument.data_type.as_ref().map(|declared| declared.data_type.clone());
        let (natural, value): (DataType, Option<ArrayRef>) = match literal {
            Argument::Integer(value) => (DataType::Int64, Some(Arc::new(Int64Array::from(vec![*value])))),
            Argument::Float(value) => (DataType::Float64, Some(Arc::new(Float64Array::from(vec![*value])))),
            Argument::Text(value) => (DataType::Utf8, Some(Arc::new(StringArray::from(vec![value.as_str()])))),
            Argument::Bool(value) => (DataType::Boolean, Some(Arc::new(BooleanArray::from(vec![*value])))),
            Argument::Null | Argument::Column(_) => (wanted.clone().unwrap_or(DataType::Int64), None),
        };
        let wanted = wanted.unwrap_or_else(|| natural.clone());
        let fits =
            natural == wanted || widens(&natural, &wanted) || (natural == DataType::Int64 && wanted.is_integer());
        let cast = match &value {
            None => Some(new_null_array(&wanted, 1)),
            Some(value) if fits => arrow::compute::cast(value, &wanted).ok().filter(|cast| cast.null_count() == 0),
            Some(_) => None,
        };
        match cast {
            Some(array) => Ok((Field::new(&argument.name, wanted, value.is_none()), BoundArgument::Literal(array))),
            None => {
                let mismatch = self.mismatch(argument, "the constant".to_owned(), literal.to_string());
                Err(ProblemKind::ArgumentType(Box::new(mismatch)))
            }
        }
    }

    fn unknown(&self, column: &str) -> ProblemKind {
        unknown_column(self.node, column, self.schema)
    }
}

pub(crate) fn unknown_column(node: &str, column: &str, schema: &Schema) -> ProblemKind {
    let known = schema.fields().iter().map(|field| field.name().clone()).collect();
    ProblemKind::UnknownColumn { node: node.to_owned(), column: column.to_owned(), known }
}

fn row_of(argument: &ArgumentDeclaration, fields: Vec<Bound>) -> Bound {
    let of: Fields = fields.iter().map(|(field, _)| field.clone()).collect();
    (Field::new(&argument.name, DataType::Struct(of), false), BoundArgument::Row { fields })
}

fn takes_row(argument: &ArgumentDeclaration) -> bool {
    argument.data_type.as_ref().is_none_or(|declared| matches!(declared.data_type, DataType::Struct(_)))
}

fn declared_text(argument: &ArgumentDeclaration) -> String {
    argument.data_type.as_ref().map_or("any".into(), |declared| text(&declared.data_type, declared.nullable))
}

/// The type in the contract's notation, or in Arrow's if it has none.
pub(crate) fn text(data_type: &DataType, nullable: bool) -> String {
    data_type::display(data_type, nullable).unwrap_or_else(|_| data_type.to_string())
}

/// Equal but for the names of list items and map entries, which mean nothing.
fn same(a: &DataType, b: &DataType) -> bool {
    a == b || a.equals_datatype(b)
}

/// Does every value of `from` exist in `to`, unchanged? Then a column of `from` may be given where `to` is declared.
fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    match to {
        Int64 => matches!(from, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32),
        Int32 => matches!(from, Int8 | Int16 | UInt8 | UInt16),
        Int16 => matches!(from, Int8 | UInt8),
        UInt64 => matches!(from, UInt8 | UInt16 | UInt32),
        UInt32 => matches!(from, UInt8 | UInt16),
        UInt16 => matches!(from, UInt8),
        Float64 => matches!(from, Float32 | Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32),
        Float32 => matches!(from, Int8 | Int16 | UInt8 | UInt16),
        DataType::Timestamp(to_unit, to_zone) => match from {
            DataType::Timestamp(unit, zone) => {
                zone == to_zone && rank(*unit) < rank(*to_unit) && *to_unit != TimeUnit::Nanosecond
            }
            _ => false,
        },
        _ => false,
    }
}

fn rank(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    }
}
