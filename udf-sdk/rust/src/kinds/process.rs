//! Process functions: a row in, any number of rows out, with state per key.

use super::Beside;
use super::aggregate::{get_input, open_input};
use crate::context::{Context, OpenContext, RowKind};
use crate::data_type::{DataType, Field};
use crate::effects::{Effects, MORE_BYTES, Output};
use crate::frame::{Bundle, FrameError, Status};
use crate::function::{
    Binding, Bound, Description, Kind, Meta, Problem, Runner, check_arguments, check_result, null_message,
};
use crate::row::Input;
use crate::state::{States, bind_states, loaded};
use crate::value::{ColumnWriter, ToColumn, Typed, Value};

/// A process function: `#[derive(States)]` on the struct, `#[udf]` on the `impl`.
///
/// A row that gives `Err` leaves no trace: what it wrote to states and gave out is taken back.
pub trait Process: States {
    /// A struct with `#[derive(Row)]`, a tuple, or one value.
    type In: for<'f> Input<'f>;
    /// What is given out: one value, or a struct with `#[derive(Row)]`.
    type Out: Value;

    /// Called once before the first row; there is no key yet, so states have no values.
    fn open(&mut self, _context: &OpenContext<'_>) -> crate::Result {
        Ok(())
    }

    /// Handles a row.
    fn process(&mut self, value: Self::In, context: &mut Context<'_, Self::Out>) -> crate::Result;
}

pub fn describe<P: Process>(meta: Meta) -> Description {
    Description {
        name: meta.name.to_owned(),
        kind: Kind::Process,
        arguments: fields::<P>(),
        result: P::Out::data_type(),
        states: P::declare(),
        deterministic: meta.deterministic,
        documentation: meta.documentation.to_owned(),
    }
}

fn fields<P: Process>() -> Vec<Field> {
    <P::In as Input<'static>>::fields(&[])
}

pub fn bind<P: Process>(meta: Meta, binding: &Binding, context: &OpenContext<'_>) -> Result<Bound, Problem> {
    let declared = fields::<P>();
    check_arguments(meta.name, &declared, &binding.arguments)?;
    let result = P::Out::data_type();
    check_result(meta.name, &result, binding.result.as_ref())?;
    let states = bind_states(P::declare(), binding, context)?;
    let mut udf = P::create(&states);
    udf.open(context).map_err(|error| Problem::new(format!("`{}` failed in open: {error}", meta.name)))?;
    let runner = ProcessRunner {
        udf,
        name: meta.name,
        declared,
        stateful: !states.is_empty(),
        key_types: binding.key.iter().map(|field| field.data_type.clone()).collect(),
        key: binding.key.clone(),
        writer: Default::default(),
        sources: Vec::new(),
        next: 0,
        random: 0,
    };
    Ok(Bound { loaded: loaded(result, states), runner: Box::new(runner) })
}

struct ProcessRunner<P: Process> {
    udf: P,
    name: &'static str,
    declared: Vec<Field>,
    stateful: bool,
    key: Vec<Field>,
    key_types: Vec<DataType>,
    writer: <P::Out as ToColumn>::Writer,
    sources: Vec<[u8; 4]>,
    /// The row to go on with.
    next: usize,
    random: u64,
}

impl<P: Process> Runner for ProcessRunner<P> {
    fn run(&mut self, bundle: Bundle<'_>, effects: &mut Effects) -> Result<(), FrameError> {
        (self.next, self.random) = (0, bundle.seed);
        self.portion(bundle, effects, true)
    }

    fn resume(&mut self, bundle: Bundle<'_>, effects: &mut Effects) -> Result<(), FrameError> {
        self.portion(bundle, effects, false)
    }
}

impl<P: Process> ProcessRunner<P> {
    /// Handles rows until the output is enough for one answer.
    fn portion(&mut self, mut bundle: Bundle<'_>, effects: &mut Effects, first: bool) -> Result<(), FrameError> {
        let (rows, keys) = (bundle.rows, bundle.keys);
        let readers = open_input::<P::In>(&mut bundle)?;
        let beside = Beside::open(&mut bundle, &self.key_types)?;
        if first {
            self.udf.visit(&mut |state| state.load(&mut bundle.slots, keys))?;
        }
        let index = if self.stateful { Some(beside.keys_of_rows(rows)?) } else { beside.key_index };
        self.writer.truncate(0);
        self.sources.clear();
        while self.next < rows && self.writer.bytes() + 4 * self.sources.len() < MORE_BYTES {
            let row = self.next;
            self.next += 1;
            let key = index.map(|index| beside.key(index, row));
            // SAFETY: the readers were opened with the bundle's rows, and `row` is one of them.
            let value = match unsafe { get_input::<P::In>(&readers, row) } {
                Ok(value) => value,
                Err(null) => {
                    effects.error(row, "null", &null_message(self.name, &self.declared, null));
                    continue;
                }
            };
            if self.stateful
                && let Some(key) = key
            {
                self.udf.select(key);
            }
            let given = self.writer.len();
            let mut context = Context {
                out: &mut self.writer,
                sources: &mut self.sources,
                row: row as u32,
                key,
                keys,
                key_fields: &self.key,
                key_slots: &beside.key_slots,
                event_time: beside
                    .event_times
                    .map(|times| i64::from_le_bytes(times[row]))
                    .filter(|time| *time != i64::MIN),
                row_kind: beside.row_kinds.map_or(RowKind::Insert, |kinds| RowKind::from_byte(kinds[row][0])),
                watermark: bundle.watermark,
                processing_time: bundle.processing_time,
                random: &mut self.random,
            };
            match self.udf.process(value, &mut context) {
                Ok(()) => self.udf.commit(),
                Err(error) => {
                    self.udf.undo();
                    self.writer.truncate(given);
                    self.sources.truncate(given);
                    effects.error(row, "error", &error.to_string());
                }
            }
        }
        let status = if self.next < rows { Status::More } else { Status::Done };
        let (udf, writer) = (&mut self.udf, &self.writer);
        let output = Output { status, sources: Some(&self.sources), rows: writer.len() };
        effects.finish(
            output,
            |frame| writer.write(frame),
            |frame| {
                let store = udf.visit(&mut |state| {
                    state.store(frame);
                    Ok(())
                });
                store.expect("storing states does not fail: it writes or traps");
            },
        );
        Ok(())
    }
}
