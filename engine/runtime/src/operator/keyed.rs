//! map, flat map, filter, process and reduce: rows out in the place of rows in, by functions that may have state per key.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use serde_json::json;
use wasmill_host::{Access, Effects, Fault, Operation, StateDeclaration, value_column};

use crate::batch::{Batch, columns_of, record_batch};
use crate::checkpoint::SnapshotError;
use crate::checkpoint::changes::Changes;
use crate::checkpoint::keyed::{KeyBytes, KeyLayout, KeyedSnapshot, StateField};
use crate::checkpoint::restore::{MyKeys, NodeState};
use crate::checkpoint::snapshot::{Barrier, NodeSnapshot};
use crate::error::JobError;
use crate::graph::BoundCall;
use crate::key::{BundleKeys, EncodedKeys, KeyEncoder, KeyTable, hash};
use crate::operator::bundled::BundleOperator;
use crate::operator::pieces::{Pieces, Sources, Taken};
use crate::operator::udf::{CallerState, Context, KeyedInput, OperatorHost, UdfCaller};
use crate::simulate::Sabotage;
use crate::state::StateColumn;

/// A function that gives rows for rows, and the state of this task's keys if it has keys.
pub(crate) struct Keyed {
    udf: UdfCaller,
    node: String,
    schema: SchemaRef,
    key_columns: Vec<usize>,
    encoder: KeyEncoder,
    table: KeyTable,
    /// States that travel with the bundle, in the order of their declaration.
    columns: Vec<StateColumn>,
    /// Has it others, which it reaches by call?
    by_call: bool,
    /// All of them, in the order of their declaration.
    states: Vec<StateDeclaration>,
    layout: KeyLayout,
    /// `None`: nobody will ask.
    changes: Option<Changes>,
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
        let in_columns = states.iter().filter(|state| state.access == Access::Column);
        Ok(Keyed {
            udf: UdfCaller::open(call, context)?,
            node: context.place.node.clone(),
            schema,
            key_columns: key.to_vec(),
            table: KeyTable::new(encoder.width()),
            encoder,
            columns: in_columns.map(|state| StateColumn::new(&state.data_type)).collect(),
            by_call: states.iter().any(|state| state.access == Access::Call),
            states: states.clone(),
            layout: KeyLayout::new(input, key, false),
            changes: context.shared.checkpoints.then(Changes::default),
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
        for row in part.clone() {
            let key = self.keys.get(row);
            self.bundle.push(self.table.slot(key, hash(key)));
        }
        let slots = &self.bundle.slots;
        self.columns.iter_mut().for_each(|column| column.grow(self.table.capacity()));
        let states: Vec<ArrayRef> =
            self.columns.iter().map(|column| column.gather(slots)).collect::<Result<_, _>>().map_err(arrow)?;
        let key_columns = first_keys(&self.rows, &self.key_columns, part.start, &self.bundle).map_err(arrow)?;
        if self.by_call {
            self.udf.host_mut().slots.clone_from(slots);
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
    fn apply(&mut self, effects: &Effects) -> Result<(), ArrowError> {
        if !self.keyed {
            return Ok(());
        }
        let slots = &self.bundle.slots;
        for (column, writes) in self.columns.iter_mut().zip(&effects.states) {
            column.scatter(slots, &writes.values, &writes.written)?;
        }
        if self.by_call {
            let host = self.udf.host_mut();
            for call in effects.state_calls.iter() {
                host.states[call.state as usize].set(slots[call.key as usize], call.value);
            }
        }
        self.release_empty(true);
        Ok(())
    }

    /// A key of the bundle without any value needs no slot; the states of the others may have changed.
    fn release_empty(&mut self, changed: bool) {
        if !self.keyed {
            return;
        }
        let host = self.by_call.then(|| self.udf.host());
        for &slot in &self.bundle.slots {
            if has_value(&self.columns, host, slot) {
                if let Some(changes) = self.changes.as_mut().filter(|_| changed) {
                    changes.touch(slot);
                }
                continue;
            }
            if let Some(changes) = &mut self.changes {
                changes.gone(slot, self.table.key(slot));
            }
            self.table.release(slot);
        }
    }

    fn has_value(&self, slot: u32) -> bool {
        has_value(&self.columns, self.by_call.then(|| self.udf.host()), slot)
    }

    /// The values of `slots`, a column for each state.
    fn gather(&self, slots: &[u32]) -> Result<Vec<(StateField, ArrayRef)>, ArrowError> {
        let mut columns = self.columns.iter();
        let each = self.states.iter().enumerate().map(|(index, state)| {
            let field = StateField { name: state.name.clone(), data_type: state.data_type.clone() };
            let column = if state.access == Access::Call { None } else { columns.next() };
            let values = match column {
                Some(column) => column.gather(slots)?,
                None => value_column::decode(&field.data_type, self.udf.host().states[index].at(slots))
                    .map_err(|error| ArrowError::ExternalError(Box::new(error)))?,
            };
            Ok((field, values))
        });
        each.collect()
    }

    fn keyed_snapshot(&mut self, barrier: &Barrier) -> Result<Option<KeyedSnapshot>, ArrowError> {
        let Some(changes) = self.changes.as_mut().filter(|_| self.keyed) else { return Ok(None) };
        let asked = changes.take(barrier, self.table.len());
        let full = asked.slots.is_none();
        let mut slots = asked.slots.map_or_else(|| self.table.live(), |slots| slots.iter().collect());
        slots.retain(|slot| self.has_value(*slot));
        if self.udf.sabotage() == Some(Sabotage::DropStateWrite) {
            slots.pop();
        }
        let mut keys = KeyBytes::with_capacity(slots.len(), self.encoder.width().unwrap_or(0));
        slots.iter().for_each(|slot| keys.push(self.table.key(*slot)));
        asked.gone.iter().filter(|key| self.table.find(key).is_none()).for_each(|key| keys.push(key));
        Ok(Some(KeyedSnapshot { full, layout: self.layout.clone(), keys, states: self.gather(&slots)? }))
    }

    /// Takes over the states of some keys; those without any are gone.
    fn take_over(&mut self, mine: &MyKeys<'_>, state: &NodeState<'_>) -> Result<(), SnapshotError> {
        let slots: Vec<u32> = mine.keys().map(|key| self.table.slot(key, hash(key))).collect();
        let all = BooleanBuffer::new_set(slots.len());
        self.columns.iter_mut().for_each(|column| column.grow(self.table.capacity()));
        let mut columns = self.columns.iter_mut();
        for (index, declared) in self.states.iter().enumerate() {
            let column = if declared.access == Access::Call { None } else { columns.next() };
            let Some(values) = mine.values(&declared.name)? else { continue };
            let values = state.fitting(&format!("state \"{}\"", declared.name), &values, &declared.data_type)?;
            match column {
                Some(column) => column.scatter(&slots, &values, &all)?,
                None => {
                    let values = value_column::encode(&values)
                        .map_err(|error| state.unfit(format!("state \"{}\": {error}", declared.name)))?;
                    let held = &mut self.udf.host_mut().states[index];
                    slots.iter().zip(values.iter()).for_each(|(slot, value)| held.set(*slot, value));
                }
            }
        }
        for &slot in &slots {
            match self.has_value(slot) {
                true => self.changes.iter_mut().for_each(|changes| changes.touch(slot)),
                false => self.table.release(slot),
            }
        }
        Ok(())
    }
}

/// Has the key in `slot` any state, in columns or, where it has others, with the host?
fn has_value(columns: &[StateColumn], host: Option<&OperatorHost>, slot: u32) -> bool {
    columns.iter().any(|column| column.is_present(slot))
        || host.is_some_and(|host| host.states.iter().any(|state| state.get(slot).is_some()))
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
                self.release_empty(false);
                return Err(error);
            }
        };
        self.apply(&effects).map_err(|error| JobError::Arrow { node: self.node.clone(), error })?;
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
        let keyed = keyed.map_err(|error| JobError::Arrow { node: self.node.clone(), error })?;
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
