//! process and reduce: functions with a state per key.

use arrow::array::ArrayRef;
use arrow::compute::take;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use wasmill_host::{Access, Effects, Fault, Operation};

use crate::batch::Batch;
use crate::dead_letter::record_of;
use crate::error::JobError;
use crate::graph::BoundCall;
use crate::key::{BundleKeys, KeyEncoder, KeyTable, hash};
use crate::operator::bundled::BundleOperator;
use crate::operator::rows::output_batches;
use crate::operator::udf::{Context, KeyedInput, UdfCaller};
use crate::state::StateColumn;

/// A process or reduce function and the state of this task's keys.
pub(crate) struct Keyed {
    udf: UdfCaller,
    node: String,
    schema: SchemaRef,
    key_columns: Vec<usize>,
    encoder: KeyEncoder,
    table: KeyTable,
    /// States that travel with the bundle, in the order of their declaration.
    columns: Vec<StateColumn>,
    /// Does the function see keys? A process function without `key` does not, and has no state.
    keyed: bool,
    bundle: BundleKeys,
}

impl Keyed {
    pub(crate) fn open(
        call: &BoundCall,
        key: &[usize],
        input: &Schema,
        schema: SchemaRef,
        context: &Context,
    ) -> Result<Keyed, JobError> {
        let states = &call.loaded.states;
        let in_columns = states.iter().filter(|state| state.access == Access::Column);
        Ok(Keyed {
            udf: UdfCaller::open(call, context)?,
            node: context.place.node.clone(),
            schema,
            key_columns: key.to_vec(),
            encoder: KeyEncoder::new(input, key).map_err(|error| context.arrow(error))?,
            table: KeyTable::default(),
            columns: in_columns.map(|state| StateColumn::new(&state.data_type)).collect(),
            keyed: !key.is_empty() || !states.is_empty(),
            bundle: BundleKeys::default(),
        })
    }

    fn run(&mut self, rows: &Batch) -> Result<Effects, JobError> {
        let arrow = |error| JobError::Arrow { node: self.node.clone(), error };
        if !self.keyed {
            return self.udf.rows(Operation::Process, rows, &KeyedInput::default());
        }
        number_keys(&self.encoder, &mut self.table, rows, &mut self.bundle).map_err(arrow)?;
        let slots = &self.bundle.slots;
        self.columns.iter_mut().for_each(|column| column.grow(self.table.capacity()));
        let states: Vec<ArrayRef> =
            self.columns.iter().map(|column| column.gather(slots)).collect::<Result<_, _>>().map_err(arrow)?;
        let key_columns = first_keys(rows, &self.key_columns, &self.bundle).map_err(arrow)?;
        self.udf.host_mut().slots.clone_from(slots);
        let keyed = KeyedInput {
            index: Some(&self.bundle.index),
            keys: slots.len(),
            key_columns: &key_columns,
            states: &states,
        };
        self.udf.rows(Operation::Process, rows, &keyed)
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
        let host = self.udf.host_mut();
        for call in &effects.state_calls {
            host.states[call.state as usize].set(slots[call.key as usize], call.value.clone());
        }
        self.release_empty();
        Ok(())
    }

    /// A key of the bundle without any value needs no slot.
    fn release_empty(&mut self) {
        if !self.keyed {
            return;
        }
        let host = self.udf.host_mut();
        for &slot in &self.bundle.slots {
            let in_columns = self.columns.iter().any(|column| column.is_present(slot));
            if !in_columns && !host.states.iter().any(|state| state.get(slot).is_some()) {
                self.table.release(slot);
            }
        }
    }
}

/// Gives each row's key a slot and numbers the bundle's distinct keys.
fn number_keys(
    encoder: &KeyEncoder,
    table: &mut KeyTable,
    rows: &Batch,
    bundle: &mut BundleKeys,
) -> Result<(), ArrowError> {
    let keys = encoder.encode(rows.rows())?;
    bundle.clear();
    for row in 0..rows.num_rows() {
        let key = keys.get(row);
        bundle.push(table.slot(key, hash(key)));
    }
    Ok(())
}

/// The key columns of the bundle's distinct keys.
pub(crate) fn first_keys(rows: &Batch, key: &[usize], bundle: &BundleKeys) -> Result<Vec<ArrayRef>, ArrowError> {
    let first = arrow::array::UInt32Array::from(bundle.first.clone());
    key.iter().map(|&column| take(rows.column(column), &first, None)).collect()
}

impl BundleOperator for Keyed {
    fn node(&self) -> &str {
        &self.node
    }

    fn bundle(&mut self, rows: &Batch, out: &mut Vec<Batch>) -> Result<(), JobError> {
        let effects = match self.run(rows) {
            Ok(effects) => effects,
            Err(error) => {
                self.release_empty();
                return Err(error);
            }
        };
        self.apply(&effects).map_err(|error| JobError::Arrow { node: self.node.clone(), error })?;
        self.udf.row_errors(rows, &effects.errors)?;
        output_batches(rows, &effects, self.udf.call(), &self.schema, out)
            .map_err(|error| JobError::Arrow { node: self.node.clone(), error })
    }

    fn reopen(&mut self) -> Result<(), JobError> {
        self.udf.reopen()
    }

    fn bad_row(&mut self, row: &Batch, fault: &Fault) -> Result<(), JobError> {
        self.udf.bad_row(fault, row.positions().get(0), || record_of(row.rows(), 0))
    }

    fn watermark(&mut self, watermark: i64, _: &mut Vec<Batch>) -> Result<(), JobError> {
        self.udf.set_watermark(watermark);
        Ok(())
    }
}
