//! Reduce: the rows of a key become one, two at a time.

use super::Beside;
use crate::context::OpenContext;
use crate::data_type::{DataType, Field};
use crate::effects::{Effects, Output};
use crate::frame::{Bundle, FrameError, Status};
use crate::function::{
    Access, Binding, Bound, Description, Kind, Meta, Problem, Runner, StateDeclaration, check_arguments, check_result,
    null_message,
};
use crate::row::field_of;
use crate::state::{Folded, bind_folded, loaded};
use crate::value::{ColumnWriter, NonNull, NullFound, Reader, ToColumn, Typed, Value};

/// What `#[udf(reduce)]` implements.
pub trait Reduce: Sized + 'static {
    const META: Meta;
    type Item: Value + NonNull;

    fn open(context: &OpenContext<'_>) -> Result<Self, String>;

    /// `first` is what the key's rows came to so far.
    fn call(&self, first: Self::Item, second: Self::Item) -> Result<Self::Item, String>;
}

const STATE: &str = "reduced";

pub fn describe<F: Reduce>() -> Description {
    Description {
        name: F::META.name.to_owned(),
        kind: Kind::Reduce,
        arguments: vec![field_of::<F::Item>("value")],
        result: F::Item::data_type(),
        states: vec![StateDeclaration {
            name: STATE.to_owned(),
            data_type: F::Item::data_type(),
            access: Access::Column,
        }],
        deterministic: F::META.deterministic,
        documentation: F::META.documentation.to_owned(),
    }
}

pub fn bind<F: Reduce>(binding: &Binding, context: &OpenContext<'_>) -> Result<Bound, Problem> {
    let name = F::META.name;
    let declared = vec![field_of::<F::Item>("value")];
    check_arguments(name, &declared, &binding.arguments)?;
    let result = F::Item::data_type();
    check_result(name, &result, binding.result.as_ref())?;
    let states = bind_folded::<F::Item>(STATE, binding, context)?;
    let udf = F::open(context).map_err(|error| Problem::new(format!("`{name}` failed in open: {error}")))?;
    let key = binding.key.iter().map(|field| field.data_type.clone()).collect();
    let runner = ReduceRunner { udf, declared, key, reduced: Folded::default(), writer: Default::default() };
    Ok(Bound { loaded: loaded(result, states), runner: Box::new(runner) })
}

struct ReduceRunner<F: Reduce> {
    udf: F,
    declared: Vec<Field>,
    key: Vec<DataType>,
    reduced: Folded<F::Item>,
    writer: <F::Item as ToColumn>::Writer,
}

impl<F: Reduce> Runner for ReduceRunner<F> {
    fn run(&mut self, mut bundle: Bundle<'_>, effects: &mut Effects) -> Result<(), FrameError> {
        let rows = bundle.rows;
        let reader = open_item::<F::Item>(&mut bundle)?;
        let beside = Beside::open(&mut bundle, &self.key)?;
        self.reduced.load(&mut bundle.slots, bundle.keys)?;
        self.writer.truncate(0);
        self.writer.reserve(rows);
        let index = beside.keys_of_rows(rows)?;
        for row in 0..rows {
            let key = beside.key(index, row);
            let value = if reader.is_null(row) {
                Err(NullFound { argument: 0, field: None })
            } else {
                // SAFETY: the reader was opened with the bundle's rows, and `row` is one of them.
                unsafe { get_item::<F::Item>(&reader, row) }
            };
            match value {
                Ok(value) => self.fold(key, row, value, effects),
                Err(null) => {
                    effects.error(row, "null", &null_message(F::META.name, &self.declared, null));
                    self.writer.hole();
                }
            }
        }
        let (writer, reduced) = (&self.writer, &mut self.reduced);
        effects.finish(
            Output { status: Status::Done, sources: None, rows },
            |frame| writer.write(frame),
            |frame| reduced.store(frame),
        );
        Ok(())
    }
}

impl<F: Reduce> ReduceRunner<F> {
    fn fold(&mut self, key: usize, row: usize, value: F::Item, effects: &mut Effects) {
        let result = match &self.reduced.values[key] {
            Some(first) => self.udf.call(first.clone(), value),
            None => Ok(value),
        };
        match result {
            Ok(value) => {
                value.push_to(&mut self.writer);
                self.reduced.values[key] = Some(value);
                self.reduced.wrote(key);
            }
            Err(message) => {
                effects.error(row, "error", &message);
                self.writer.hole();
            }
        }
    }
}

type ItemReader<'f, T> = <T as crate::value::FromColumn<'f>>::Reader;

fn open_item<'f, T: Value>(bundle: &mut Bundle<'f>) -> Result<ItemReader<'f, T>, FrameError> {
    <T as crate::value::FromColumn<'f>>::open(&mut bundle.slots, bundle.rows)
}

/// # Safety
/// As [`FromColumn::get`](crate::value::FromColumn::get).
unsafe fn get_item<'f, T: Value>(reader: &ItemReader<'f, T>, row: usize) -> Result<T, NullFound> {
    // SAFETY: the caller's promise.
    unsafe { <T as crate::value::FromColumn<'f>>::get(reader, row) }
}
