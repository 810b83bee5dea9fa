//! Scalar, filter and map: a row in, a value out.

use crate::context::OpenContext;
use crate::data_type::Field;
use crate::effects::{Effects, Output};
use crate::frame::{Bundle, FrameError, Status};
use crate::function::{
    Binding, Bound, Description, Kind, Meta, Problem, Runner, binds_null, check_arguments, check_result, null_message,
};
use crate::row::Input;
use crate::state::loaded;
use crate::value::{Cell, ColumnWriter, ToColumn, Typed};

/// What `#[udf]`, `#[udf(filter)]` and `#[udf(map)]` implement.
pub trait OneToOne: Sized + 'static {
    const META: Meta;
    const KIND: Kind;
    type Args<'f>: Input<'f>;
    type Writer: ColumnWriter;
    type Output<'f>: ToColumn<Writer = Self::Writer>;

    fn open(context: &OpenContext<'_>) -> Result<Self, String>;

    fn call<'f>(&self, args: Self::Args<'f>) -> Result<Self::Output<'f>, String>;
}

pub fn describe<F: OneToOne>() -> Description {
    Description {
        name: F::META.name.to_owned(),
        kind: F::KIND,
        arguments: F::Args::fields(F::META.arguments),
        result: F::Output::data_type(),
        states: Vec::new(),
        deterministic: F::META.deterministic,
        documentation: F::META.documentation.to_owned(),
    }
}

pub fn bind<F: OneToOne>(binding: &Binding, context: &OpenContext<'_>) -> Result<Bound, Problem> {
    let name = F::META.name;
    let declared = F::Args::fields(F::META.arguments);
    check_arguments(name, &declared, &binding.arguments)?;
    let mut result = F::Output::data_type();
    if F::KIND == Kind::Scalar {
        result.nullable |= binds_null(&declared, &binding.arguments);
    }
    check_result(name, &result, binding.result.as_ref())?;
    crate::state::bind_states(Vec::new(), binding, context)?;
    let udf = F::open(context).map_err(|error| Problem::new(format!("`{name}` failed in open: {error}")))?;
    let runner = Box::new(OneToOneRunner { udf, declared, writer: F::Writer::default() });
    Ok(Bound { loaded: loaded(result, Vec::new()), runner })
}

struct OneToOneRunner<F: OneToOne> {
    udf: F,
    declared: Vec<Field>,
    writer: F::Writer,
}

impl<F: OneToOne> Runner for OneToOneRunner<F> {
    fn run(&mut self, mut bundle: Bundle<'_>, effects: &mut Effects) -> Result<(), FrameError> {
        let rows = bundle.rows;
        let readers = F::Args::open(&mut bundle.slots, rows)?;
        let (udf, declared, writer) = (&self.udf, &self.declared, &mut self.writer);
        writer.truncate(0);
        let null_out = F::KIND == Kind::Scalar;
        if null_out && F::Args::has_nulls(&readers) {
            let each = |row| match F::Args::missing(&readers, row) {
                true => Cell::Null,
                false => one::<F>(udf, declared, &readers, row, effects),
            };
            F::Output::push_each(rows, each, writer);
        } else {
            F::Output::push_each(rows, |row| one::<F>(udf, declared, &readers, row, effects), writer);
        }
        effects.finish(Output { status: Status::Done, sources: None, rows }, |frame| writer.write(frame), |_| ());
        Ok(())
    }
}

/// Handles one row.
#[inline(always)]
fn one<'f, F: OneToOne>(
    udf: &F,
    declared: &[Field],
    readers: &<F::Args<'f> as Input<'f>>::Readers,
    row: usize,
    effects: &mut Effects,
) -> Cell<F::Output<'f>> {
    // SAFETY: the readers were opened with the bundle's rows, and `row` is one of them.
    match unsafe { F::Args::get(readers, row) } {
        Ok(args) => match udf.call(args) {
            Ok(value) => Cell::Value(value),
            Err(message) => {
                effects.error(row, "error", &message);
                Cell::Hole
            }
        },
        Err(null) => {
            effects.error(row, "null", &null_message(F::META.name, declared, null));
            Cell::Hole
        }
    }
}
