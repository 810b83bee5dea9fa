//! Vectorised functions: whole columns in, a column of the same length out.

use crate::column::Columns;
use crate::context::OpenContext;
use crate::data_type::Field;
use crate::effects::{Effects, Output};
use crate::frame::{Bundle, FrameError, Status};
use crate::function::{
    Binding, Bound, Description, Kind, Meta, Problem, Runner, binds_null, check_arguments, check_result,
};
use crate::row::Input;
use crate::state::loaded;
use crate::value::{ColumnWriter, ToColumn, Typed};

/// What `#[udf(vectorized)]` implements.
pub trait Vectorized: Sized + 'static {
    const META: Meta;
    type Columns<'f>: Columns<'f>;
    type Item: ToColumn + 'static;

    fn open(context: &OpenContext<'_>) -> Result<Self, String>;

    fn call(&self, columns: Self::Columns<'_>) -> Result<Vec<Self::Item>, String>;
}

/// One row of the columns, for tests.
pub type RowOf<'f, F> = <<F as Vectorized>::Columns<'f> as Columns<'f>>::Row;

fn fields<F: Vectorized>() -> Vec<Field> {
    <RowOf<'static, F>>::fields(F::META.arguments)
}

pub fn describe<F: Vectorized>() -> Description {
    Description {
        name: F::META.name.to_owned(),
        kind: Kind::Vectorized,
        arguments: fields::<F>(),
        result: F::Item::data_type(),
        states: Vec::new(),
        deterministic: F::META.deterministic,
        documentation: F::META.documentation.to_owned(),
    }
}

pub fn bind<F: Vectorized>(binding: &Binding, context: &OpenContext<'_>) -> Result<Bound, Problem> {
    let name = F::META.name;
    let declared = fields::<F>();
    check_arguments(name, &declared, &binding.arguments)?;
    let mut result = F::Item::data_type();
    result.nullable |= binds_null(&declared, &binding.arguments);
    check_result(name, &result, binding.result.as_ref())?;
    crate::state::bind_states(Vec::new(), binding, context)?;
    let udf = F::open(context).map_err(|error| Problem::new(format!("`{name}` failed in open: {error}")))?;
    let runner = Box::new(VectorizedRunner { udf, writer: Default::default() });
    Ok(Bound { loaded: loaded(result, Vec::new()), runner })
}

struct VectorizedRunner<F: Vectorized> {
    udf: F,
    writer: <F::Item as ToColumn>::Writer,
}

impl<F: Vectorized> Runner for VectorizedRunner<F> {
    fn run(&mut self, bundle: Bundle<'_>, effects: &mut Effects) -> Result<(), FrameError> {
        self.run_on(bundle, effects)
    }
}

impl<F: Vectorized> VectorizedRunner<F> {
    fn run_on<'f>(&mut self, mut bundle: Bundle<'f>, effects: &mut Effects) -> Result<(), FrameError> {
        let rows = bundle.rows;
        let mut again = bundle.slots.clone();
        let readers = <RowOf<'f, F>>::open(&mut bundle.slots, rows)?;
        let columns = F::Columns::open(&mut again, rows)?;
        self.writer.truncate(0);
        match self.udf.call(columns) {
            Ok(values) => {
                let (name, got) = (F::META.name, values.len());
                assert!(
                    got == rows,
                    "`{name}` gave {got} values for {rows} rows: a vectorized UDF gives one for each row"
                );
                F::Item::push_all(&values, &mut self.writer);
            }
            Err(message) => {
                for row in 0..rows {
                    effects.error(row, "error", &message);
                    self.writer.hole();
                }
            }
        }
        if <RowOf<'f, F>>::has_nulls(&readers) {
            (0..rows).filter(|row| <RowOf<'f, F>>::missing(&readers, *row)).for_each(|row| self.writer.set_null(row));
        }
        let writer = &self.writer;
        effects.finish(Output { status: Status::Done, sources: None, rows }, |frame| writer.write(frame), |_| ());
        Ok(())
    }
}
