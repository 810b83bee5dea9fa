//! map, flat map, filter, process and reduce: rows out in the place of rows in, by functions that may have state per key.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use serde_json::json;
use wasmill_host::{Effects, Fault, Operation};

use crate::batch::{Batch, columns_of, record_batch};
use crate::checkpoint::SnapshotError;
use crate::checkpoint::keyed::{KeyLayout, KeyedSnapshot};
use crate::checkpoint::restore::{MyKeys, NodeState};
use crate::checkpoint::snapshot::{Barrier, NodeSnapshot};
use crate::error::{JobError, StateError};
use crate::graph::BoundCall;
use crate::key::{BundleKeys, EncodedKeys, KeyEncoder};
use crate::operator::bundled::BundleOperator;
use crate::operator::pieces::{Pieces, Sources, Taken};
use crate::operator::udf::{CallerState, Context, KeyedInput, UdfCaller};
use crate::simulate::Sabotage;
use crate::state::KeyedState;

/// A function that gives rows for rows, and the state of this task's keys if it has keys.
pub(crate) struct Keyed {
    udf: UdfCaller,
    node: String,
    schema: SchemaRef,
    key_columns: Vec<usize>,
    encoder: KeyEncoder,
    /// Has it state that it reaches by call?
    by_call: bool,
    layout: KeyLayout,
    /// Does the function see keys? One without `key` does not, and has no state.
    keyed: bool,
    /// Are rows out those rows in for which the function gives true?
    filters: bool,
    rows: Batch,
    arguments: Vec<ArrayRef>,
    /// Of each of `rows`.
    keys: EncodedKeys,
    bundle: BundleKeys,
    pieces: Pieces,
}

impl Keyed {
    pub(crate) fn open(
        call: &BoundCall,
        key: &[usize],
        filters: bool,
        input: &Schema,
        schema: SchemaRef,
        context: &Context,
    ) -> Result<Keyed, JobError> {
        let encoder = KeyEncoder::new(input, key).map_err(|error| context.arrow(error))?;
        let states = &call.loaded.states;
        let state = KeyedState::new(encoder.width(), false, states, &context.shared);
        Ok(Keyed {
            by_call: state.is_called(),
            udf: UdfCaller::open(call, context, state)?,
            node: context.place.node.clone(),
            schema,
            key_columns: key.to_vec(),
            encoder,
            layout: KeyLayout::new(input, key, false),
            keyed: !key.is_empty() || !states.is_empty(),
            filters,
            rows: Batch::empty(),
            arguments: Vec::new(),
            keys: EncodedKeys::default(),
            bundle: BundleKeys::default(),
            pieces: Pieces::default(),
        })
    }

    fn run(&mut self, part: Range<usize>) -> Result<Effects, JobError> {
        let arrow = |error| JobError::Arrow { node: self.node.clone(), error };
        if !self.keyed {
            return self.udf.rows(Operation::Process, &self.rows, &self.arguments, part, &KeyedInput::default());
        }
        self.bundle.clear();
        let state = self.udf.keyed_mut();
        for row in part.clone() {
            self.bundle.push(state.slot(self.keys.get(row)));
        }
        state.load().map_err(|error| JobError::State { node: self.node.clone(), error })?;
        let slots = &self.bundle.slots;
        let states = state.columns(slots).map_err(arrow)?;
        let key_columns = first_keys(&self.rows, &self.key_columns, part.start, &self.bundle).map_err(arrow)?;
        if self.by_call {
            self.udf.set_slots(slots);
        }
        let keyed = KeyedInput {
            index: Some(&self.bundle.index),
            keys: slots.len(),
            key_columns: &key_columns,
            states: &states,
        };
        self.udf.rows(Operation::Process, &self.rows, &self.arguments, part, &keyed)
    }

    /// Makes the bundle's state writes real.
    fn apply(&mut self, effects: &Effects) -> Result<(), JobError> {
        let slots = &self.bundle.slots;
        let written = self.udf.keyed_mut().write(slots, effects);
        written.map_err(|error| JobError::Arrow { node: self.node.clone(), error })?;
        self.settle(true)
    }

    /// A key of the bundle without any value needs no slot; the states of the others may have changed.
    fn settle(&mut self, changed: bool) -> Result<(), JobError> {
        let state = self.udf.keyed_mut();
        state.settle(&self.bundle.slots, changed);
        state.finish().map_err(|error| JobError::State { node: self.node.clone(), error })?;
        Ok(())
    }

    fn keyed_snapshot(&mut self, barrier: &Barrier) -> Result<Option<KeyedSnapshot>, StateError> {
        if !self.keyed {
            return Ok(None);
        }
        let Some(asked) = self.udf.keyed_mut().asked(barrier) else { return Ok(None) };
        let mut slots = self.udf.keyed().slots_of(&asked);
        if self.udf.sabotage() == Some(Sabotage::DropStateWrite) {
            slots.pop();
        }
        let mut snapshot = self.udf.keyed().snapshot(&asked, &slots, &self.layout)?;
        if self.udf.sabotage() == Some(Sabotage::ForgetStored) {
            snapshot.stored = None;
        }
        Ok(Some(snapshot))
    }

    /// Takes over the states of some keys; those without any are gone.
    fn take_over(&mut self, mine: &MyKeys<'_>, state: &NodeState<'_>) -> Result<(), SnapshotError> {
        let own = self.udf.keyed_mut();
        let slots: Vec<u32> = mine.keys().map(|key| own.slot(key)).collect();
        own.load()?;
        own.take_over(&slots, mine, state)?;
        own.settle(&slots, true);
        own.finish()?;
        Ok(())
    }
}

/// The key columns of the bundle's distinct keys. The bundle begins with row `start` of `rows`.
pub(crate) fn first_keys(
    rows: &Batch,
    key: &[usize],
    start: usize,
    bundle: &BundleKeys,
) -> Result<Vec<ArrayRef>, ArrowError> {
    if bundle.slots.len() == bundle.index.len() {
        // No key stands twice.
        return Ok(key.iter().map(|&column| rows.column(column).slice(start, bundle.index.len())).collect());
    }
    let first = UInt32Array::from_iter_values(bundle.first.iter().map(|row| start as u32 + row));
    key.iter().map(|&column| take(rows.column(column), &first, None)).collect()
}

/// What calls put out, as a batch: each row with the time, kind and position of the row that it came from.
fn take_rows(
    pieces: &mut Pieces,
    rows: &Batch,
    call: &BoundCall,
    filters: bool,
    schema: &SchemaRef,
) -> Result<Option<Batch>, ArrowError> {
    let count = pieces.rows();
    if count == 0 {
        return Ok(None);
    }
    let result = &call.loaded.result.data_type;
    let Taken { mut columns, sources, row_kinds } = pieces.take(std::iter::once(result))?;
    let column = columns.pop().expect("one column was asked for");
    if filters {
        let keep = column.as_boolean();
        // Null is not true.
        let bits = keep.nulls().map_or_else(|| keep.values().clone(), |nulls| keep.values() & nulls.inner());
        return sources.of(rows)?.filter(&BooleanArray::new(bits, None)).map(Some);
    }
    let columns = columns_of(&column, matches!(result, DataType::Struct(_)));
    let columns = record_batch(Arc::clone(schema), columns, count)?;
    let batch = match sources {
        Sources::All(all) if all.len() == rows.num_rows() => rows.with_rows(columns),
        Sources::All(all) => rows.slice(all.start, all.len()).with_rows(columns),
        Sources::Each(each) => rows.beside_taken(columns, &each),
    };
    Ok(Some(match row_kinds {
        Some(kinds) => batch.with_row_kinds(Some(kinds.into())),
        None => batch,
    }))
}

impl BundleOperator for Keyed {
    fn node(&self) -> &str {
        &self.node
    }

    fn rows(&self) -> &Batch {
        &self.rows
    }

    fn begin(&mut self, rows: Batch) -> Result<usize, JobError> {
        self.arguments = self.udf.arguments(&rows)?;
        let keys = self.encoder.encode(rows.rows());
        self.keys = keys.map_err(|error| JobError::Arrow { node: self.node.clone(), error })?;
        self.rows = rows;
        Ok(self.rows.num_rows())
    }

    fn bundle(&mut self, part: Range<usize>) -> Result<(), JobError> {
        let effects = match self.run(part.clone()) {
            Ok(effects) => effects,
            Err(error) => {
                if self.keyed {
                    self.settle(false)?;
                }
                return Err(error);
            }
        };
        if self.keyed {
            self.apply(&effects)?;
        }
        self.udf.row_errors(&self.rows, part.start, &effects.errors)?;
        let one_to_one = self.udf.call().kind.is_one_to_one();
        let pushed = self.pieces.push_effects(&self.rows, part, one_to_one, &effects);
        pushed.map_err(|error| JobError::Arrow { node: self.node.clone(), error })
    }

    fn lost(&mut self, rows: Range<usize>, fault: &Fault) -> Result<(), JobError> {
        self.udf.lost(self.rows.positions().get(rows.start), rows.len(), fault)
    }

    fn bad_row(&mut self, row: usize, fault: &Fault) -> Result<(), JobError> {
        self.udf.bad_row(&self.rows, row, fault)
    }

    fn given_up(&mut self, fault: &Fault, error: JobError) -> JobError {
        self.udf.given_up(fault, error)
    }

    fn ready(&self) -> usize {
        self.pieces.rows()
    }

    fn take(&mut self, out: &mut Vec<Batch>) -> Result<(), JobError> {
        let taken = take_rows(&mut self.pieces, &self.rows, self.udf.call(), self.filters, &self.schema);
        out.extend(taken.map_err(|error| JobError::Arrow { node: self.node.clone(), error })?);
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, _: &mut Vec<Batch>) -> Result<(), JobError> {
        self.udf.set_watermark(watermark);
        Ok(())
    }

    fn snapshot(&mut self, barrier: &Barrier) -> Result<NodeSnapshot, JobError> {
        let keyed = self.keyed_snapshot(barrier);
        let keyed = keyed.map_err(|error| JobError::State { node: self.node.clone(), error })?;
        Ok(NodeSnapshot { own: json!(self.udf.state()), keyed, ..NodeSnapshot::default() })
    }

    fn restore(&mut self, state: &NodeState<'_>) -> Result<(), SnapshotError> {
        let own: Vec<CallerState> = state.own()?;
        self.udf.restore(own.iter().copied());
        state.keyed(|mine| self.take_over(mine, state))
    }

    fn key(&self) -> Option<&KeyEncoder> {
        (!self.key_columns.is_empty()).then_some(&self.encoder)
    }
}
