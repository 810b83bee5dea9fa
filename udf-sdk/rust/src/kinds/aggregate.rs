//! Aggregates: rows fold into an accumulator per key, and a result is taken from it.

use super::Beside;
use crate::context::OpenContext;
use crate::data_type::{DataType, Field};
use crate::effects::{Effects, Output};
use crate::frame::{Bundle, FrameError, Operation, Slots, Status};
use crate::function::{
    Access, Binding, Bound, Description, Kind, Meta, Problem, Runner, StateDeclaration, check_arguments, check_result,
    null_message,
};
use crate::row::Input;
use crate::state::{Folded, bind_folded, loaded, read_nullable};
use crate::value::{ColumnWriter, NonNull, NullFound, ToColumn, Typed, Value};

/// An aggregate: put `#[udf]` on the `impl`. Windows and keys are the host's: the function sees one accumulator at a time.
///
/// A row that gives `Err` leaves the accumulator as it was.
pub trait Aggregate: Default + 'static {
    /// What is kept per key (and window).
    type Accumulator: Value + NonNull + Default;
    /// A struct with `#[derive(Row)]`, a tuple, or one value.
    type Input: for<'f> Input<'f>;
    /// The result: one value, or a struct with `#[derive(Row)]`.
    type Output: Value;

    /// Called once before the first row.
    fn open(&mut self, _context: &OpenContext<'_>) -> crate::Result {
        Ok(())
    }

    /// Takes a row in.
    fn accumulate(&self, accumulator: &mut Self::Accumulator, input: Self::Input) -> crate::Result;

    /// Takes a row out again. Needed only where rows are deleted or updated.
    fn retract(&self, _accumulator: &mut Self::Accumulator, _input: Self::Input) -> crate::Result {
        Err("the aggregate cannot take rows out again: implement Aggregate::retract".into())
    }

    /// Takes another accumulator in. Needed only for session windows and pre-aggregation.
    fn merge(&self, _accumulator: &mut Self::Accumulator, _other: Self::Accumulator) -> crate::Result {
        Err("the aggregate cannot merge accumulators: implement Aggregate::merge".into())
    }

    /// What the accumulator comes to.
    fn result(&self, accumulator: &Self::Accumulator) -> crate::Result<Self::Output>;
}

const STATE: &str = "accumulator";

pub fn describe<A: Aggregate>(meta: Meta) -> Description {
    Description {
        name: meta.name.to_owned(),
        kind: Kind::Aggregate,
        arguments: fields::<A>(),
        result: A::Output::data_type(),
        states: vec![StateDeclaration {
            name: STATE.to_owned(),
            data_type: A::Accumulator::data_type(),
            access: Access::Column,
        }],
        deterministic: meta.deterministic,
        documentation: meta.documentation.to_owned(),
    }
}

fn fields<A: Aggregate>() -> Vec<Field> {
    <A::Input as Input<'static>>::fields(&[])
}

pub fn bind<A: Aggregate>(meta: Meta, binding: &Binding, context: &OpenContext<'_>) -> Result<Bound, Problem> {
    let declared = fields::<A>();
    check_arguments(meta.name, &declared, &binding.arguments)?;
    let result = A::Output::data_type();
    check_result(meta.name, &result, binding.result.as_ref())?;
    let states = bind_folded::<A::Accumulator>(STATE, binding, context)?;
    let mut udf = A::default();
    udf.open(context).map_err(|error| Problem::new(format!("`{}` failed in open: {error}", meta.name)))?;
    let key = binding.key.iter().map(|field| field.data_type.clone()).collect();
    let runner = AggregateRunner {
        udf,
        name: meta.name,
        declared,
        key,
        state: Folded::default(),
        sources: Vec::new(),
        writer: Default::default(),
    };
    Ok(Bound { loaded: loaded(result, states), runner: Box::new(runner) })
}

struct AggregateRunner<A: Aggregate> {
    udf: A,
    name: &'static str,
    declared: Vec<Field>,
    key: Vec<DataType>,
    state: Folded<A::Accumulator>,
    sources: Vec<Option<A::Accumulator>>,
    writer: <A::Output as ToColumn>::Writer,
}

impl<A: Aggregate> Runner for AggregateRunner<A> {
    fn run(&mut self, mut bundle: Bundle<'_>, effects: &mut Effects) -> Result<(), FrameError> {
        self.writer.truncate(0);
        match bundle.operation {
            Operation::Accumulate => {
                self.fold(&mut bundle, effects, |udf, accumulator, input| udf.accumulate(accumulator, input))?
            }
            Operation::Retract => {
                self.fold(&mut bundle, effects, |udf, accumulator, input| udf.retract(accumulator, input))?
            }
            Operation::Merge => self.merge(&mut bundle, effects)?,
            Operation::Result => self.result(&mut bundle, effects)?,
            Operation::Process => {
                return Err(FrameError(format!("aggregate `{}` was given operation 0 (process)", self.name)));
            }
        }
        let (writer, state) = (&self.writer, &mut self.state);
        // An operation that gives no rows says so by an empty source index; `result` gives one for each key.
        let output = Output { status: Status::Done, sources: None, rows: writer.len() };
        effects.finish(output, |frame| writer.write(frame), |frame| state.store(frame));
        Ok(())
    }
}

impl<A: Aggregate> AggregateRunner<A> {
    fn fold(
        &mut self,
        bundle: &mut Bundle<'_>,
        effects: &mut Effects,
        step: impl Fn(&A, &mut A::Accumulator, A::Input) -> crate::Result,
    ) -> Result<(), FrameError> {
        let rows = bundle.rows;
        let readers = open_input::<A::Input>(bundle)?;
        let beside = Beside::open(bundle, &self.key)?;
        let mut states = bundle.slots.clone();
        self.state.load(&mut bundle.slots, bundle.keys)?;
        let index = beside.keys_of_rows(rows)?;
        // A copy of the accumulator undoes what a failing row did to it. Where copies allocate they are made only from
        // the first failure of a bundle on, and that one is undone by folding the key's rows before it once more.
        let mut copies = !std::mem::needs_drop::<A::Accumulator>();
        for row in 0..rows {
            let key = beside.key(index, row);
            // SAFETY: the readers were opened with the bundle's rows, and `row` is one of them.
            let input = match unsafe { get_input::<A::Input>(&readers, row) } {
                Ok(input) => input,
                Err(null) => {
                    effects.error(row, "null", &null_message(self.name, &self.declared, null));
                    continue;
                }
            };
            if copies {
                self.step(key, row, effects, |udf, accumulator| step(udf, accumulator, input));
                continue;
            }
            match step(&self.udf, self.state.values[key].get_or_insert_default(), input) {
                Ok(()) => self.state.wrote(key),
                Err(error) => {
                    effects.error(row, "error", &error.to_string());
                    let rows = (0..row).filter(|before| beside.key(index, *before) == key);
                    // SAFETY: as above. A row with a null was not folded the first time either.
                    let inputs = rows.filter_map(|before| unsafe { get_input::<A::Input>(&readers, before) }.ok());
                    self.state.values[key] = again::<A>(&self.udf, &mut states, bundle.keys, key, inputs, &step)?;
                    copies = true;
                }
            }
        }
        Ok(())
    }

    /// Changes a key's accumulator, or leaves it as it was if that fails.
    #[inline]
    fn step(
        &mut self,
        key: usize,
        row: usize,
        effects: &mut Effects,
        change: impl FnOnce(&A, &mut A::Accumulator) -> crate::Result,
    ) {
        let slot = &mut self.state.values[key];
        let before = slot.clone();
        match change(&self.udf, slot.get_or_insert_default()) {
            Ok(()) => self.state.wrote(key),
            Err(error) => {
                *slot = before;
                effects.error(row, "error", &error.to_string());
            }
        }
    }

    fn merge(&mut self, bundle: &mut Bundle<'_>, effects: &mut Effects) -> Result<(), FrameError> {
        bundle.slots.skip(self.declared.iter().map(|field| field.data_type.slots()).sum())?;
        let beside = Beside::open(bundle, &self.key)?;
        self.state.load(&mut bundle.slots, bundle.keys)?;
        let mut sources = std::mem::take(&mut self.sources);
        read_nullable(&mut bundle.slots, bundle.rows, &mut sources)?;
        let index = beside.keys_of_rows(bundle.rows)?;
        for (row, source) in sources.drain(..).enumerate() {
            let key = beside.key(index, row);
            self.step(key, row, effects, |udf, accumulator| udf.merge(accumulator, source.unwrap_or_default()));
        }
        self.sources = sources;
        Ok(())
    }

    fn result(&mut self, bundle: &mut Bundle<'_>, effects: &mut Effects) -> Result<(), FrameError> {
        bundle.slots.skip(self.declared.iter().map(|field| field.data_type.slots()).sum())?;
        Beside::open(bundle, &self.key)?;
        self.state.load(&mut bundle.slots, bundle.keys)?;
        let new = A::Accumulator::default();
        for (key, accumulator) in self.state.values.iter().enumerate() {
            match self.udf.result(accumulator.as_ref().unwrap_or(&new)) {
                Ok(value) => value.push_to(&mut self.writer),
                Err(error) => {
                    effects.error(key, "error", &error.to_string());
                    self.writer.hole();
                }
            }
        }
        Ok(())
    }
}

/// What a key's accumulator comes to from its state and the rows that were folded without failing.
#[cold]
fn again<A: Aggregate>(
    udf: &A,
    states: &mut Slots<'_>,
    keys: usize,
    key: usize,
    inputs: impl Iterator<Item = A::Input>,
    step: impl Fn(&A, &mut A::Accumulator, A::Input) -> crate::Result,
) -> Result<Option<A::Accumulator>, FrameError> {
    let mut stored = Vec::new();
    read_nullable(states, keys, &mut stored)?;
    let mut accumulator: Option<A::Accumulator> = stored.swap_remove(key);
    for input in inputs {
        step(udf, accumulator.get_or_insert_default(), input).map_err(|error| {
            FrameError(format!(
                "a row was folded once and then failed ({error}): accumulate must depend on its arguments only"
            ))
        })?;
    }
    Ok(accumulator)
}

pub(crate) type InputReaders<'f, I> = <I as Input<'f>>::Readers;

/// Opens an owned input on a bundle's arguments.
pub(crate) fn open_input<'f, I: Input<'f>>(bundle: &mut Bundle<'f>) -> Result<InputReaders<'f, I>, FrameError> {
    I::open(&mut bundle.slots, bundle.rows)
}

/// # Safety
/// As [`Input::get`].
#[inline(always)]
pub(crate) unsafe fn get_input<'f, I: Input<'f>>(readers: &InputReaders<'f, I>, row: usize) -> Result<I, NullFound> {
    // SAFETY: the caller's promise.
    unsafe { I::get(readers, row) }
}
