//! Table functions: a row in, any number of rows out.

use crate::context::OpenContext;
use crate::data_type::Field;
use crate::effects::{Effects, MORE_BYTES, Output};
use crate::frame::{Bundle, FrameError, Status};
use crate::function::{
    Binding, Bound, Description, Kind, Meta, Problem, Runner, check_arguments, check_result, null_message,
};
use crate::row::Input;
use crate::state::loaded;
use crate::value::{ColumnWriter, ToColumn, Typed};

/// What `#[udf(table)]` implements.
pub trait Table: Sized + 'static {
    const META: Meta;
    type Args<'f>: Input<'f>;
    type Item: ToColumn + 'static;

    fn open(context: &OpenContext<'_>) -> Result<Self, String>;

    /// The rows. The iterator outlives the call, since the host may take them in portions.
    fn call(&self, args: Self::Args<'_>) -> Result<impl Iterator<Item = Self::Item> + 'static, String>;
}

pub fn describe<F: Table>() -> Description {
    Description {
        name: F::META.name.to_owned(),
        kind: Kind::Table,
        arguments: F::Args::fields(F::META.arguments),
        result: F::Item::data_type(),
        states: Vec::new(),
        deterministic: F::META.deterministic,
        documentation: F::META.documentation.to_owned(),
    }
}

pub fn bind<F: Table>(binding: &Binding, context: &OpenContext<'_>) -> Result<Bound, Problem> {
    let name = F::META.name;
    let declared = F::Args::fields(F::META.arguments);
    check_arguments(name, &declared, &binding.arguments)?;
    let result = F::Item::data_type();
    check_result(name, &result, binding.result.as_ref())?;
    crate::state::bind_states(Vec::new(), binding, context)?;
    let udf = F::open(context).map_err(|error| Problem::new(format!("`{name}` failed in open: {error}")))?;
    let runner = TableRunner { udf, declared, writer: Default::default(), sources: Vec::new(), next: 0, begun: None };
    Ok(Bound { loaded: loaded(result, Vec::new()), runner: Box::new(runner) })
}

struct TableRunner<F: Table> {
    udf: F,
    declared: Vec<Field>,
    writer: <F::Item as ToColumn>::Writer,
    sources: Vec<[u8; 4]>,
    /// The row to go on with.
    next: usize,
    /// What is left of the row before it.
    begun: Option<Box<dyn Iterator<Item = F::Item>>>,
}

impl<F: Table> Runner for TableRunner<F> {
    fn run(&mut self, bundle: Bundle<'_>, effects: &mut Effects) -> Result<(), FrameError> {
        (self.next, self.begun) = (0, None);
        self.resume(bundle, effects)
    }

    fn resume(&mut self, mut bundle: Bundle<'_>, effects: &mut Effects) -> Result<(), FrameError> {
        let readers = F::Args::open(&mut bundle.slots, bundle.rows)?;
        self.writer.truncate(0);
        self.sources.clear();
        if let Some(mut begun) = self.begun.take()
            && self.drain(&mut begun)
        {
            self.begun = Some(begun);
        }
        while self.begun.is_none() && self.next < bundle.rows && self.writer.bytes() < MORE_BYTES {
            let row = self.next;
            self.next += 1;
            // SAFETY: the readers were opened with the bundle's rows, and `row` is one of them.
            let items = match unsafe { F::Args::get(&readers, row) } {
                Ok(args) => self.udf.call(args),
                Err(null) => {
                    effects.error(row, "null", &null_message(F::META.name, &self.declared, null));
                    continue;
                }
            };
            match items {
                Ok(mut items) => {
                    if drain(&mut items, row, &mut self.writer, &mut self.sources) {
                        self.begun = Some(Box::new(items));
                    }
                }
                Err(message) => effects.error(row, "error", &message),
            }
        }
        let more = self.begun.is_some() || self.next < bundle.rows;
        let status = if more { Status::More } else { Status::Done };
        let output = Output { status, sources: Some(&self.sources), rows: self.writer.len() };
        effects.finish(output, |frame| self.writer.write(frame), |_| ());
        Ok(())
    }
}

impl<F: Table> TableRunner<F> {
    fn drain(&mut self, items: &mut dyn Iterator<Item = F::Item>) -> bool {
        drain(items, self.next - 1, &mut self.writer, &mut self.sources)
    }
}

/// Takes rows until there are no more or they are enough for one answer; true = there may be more.
fn drain<T: ToColumn>(
    items: &mut (impl Iterator<Item = T> + ?Sized),
    row: usize,
    writer: &mut T::Writer,
    sources: &mut Vec<[u8; 4]>,
) -> bool {
    let source = (row as u32).to_le_bytes();
    for item in items {
        item.push_to(writer);
        sources.push(source);
        // The source index counts too: rows may be empty.
        if writer.bytes() + 4 * sources.len() >= MORE_BYTES {
            return true;
        }
    }
    false
}
