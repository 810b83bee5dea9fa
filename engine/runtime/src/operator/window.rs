//! Aggregates in tumbling event-time windows.
//!
//! The host assigns windows; the guest sees rows, the index of each row's (key, window) and a column of accumulators,
//! and cannot tell a window from a key. Semantics are Flink's: a window fires when the watermark reaches its last
//! millisecond, and a row is late if its window has fired.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use wasmill_host::{Operation, RowError};

use crate::batch::{Batch, NO_TIME, WATERMARK_MIN, columns_of, record_batch};
use crate::error::JobError;
use crate::graph::{BoundCall, TumblingWindow};
use crate::key::{BundleKeys, KeyEncoder, KeyTable, hash};
use crate::metrics::NodeMetrics;
use crate::operator::bundled::BundleOperator;
use crate::operator::keyed::first_keys;
use crate::operator::udf::{Context, KeyedInput, UdfCaller, kept, whole_column};
use crate::state::StateColumn;

/// Kind of the row error of a row that belongs to no window.
const NO_WINDOW: &str = "no-event-time";

pub(crate) struct Window {
    udf: UdfCaller,
    node: String,
    schema: SchemaRef,
    window: TumblingWindow,
    key: Vec<usize>,
    encoder: KeyEncoder,
    /// Keys followed by the window's start.
    table: KeyTable,
    accumulators: StateColumn,
    /// Start → slots of its open (key, window)s, in order of arrival.
    open: BTreeMap<i64, Vec<u32>>,
    watermark: i64,
    results_max: usize,
    bundle: BundleKeys,
    metrics: Arc<NodeMetrics>,
}

impl Window {
    pub(crate) fn open(
        call: &BoundCall,
        key: &[usize],
        window: TumblingWindow,
        input: &Schema,
        schema: SchemaRef,
        context: &Context,
    ) -> Result<Window, JobError> {
        let accumulator = &call.loaded.states.first();
        let accumulator = accumulator.map_or(&DataType::Null, |state| &state.data_type);
        Ok(Window {
            udf: UdfCaller::open(call, context)?,
            node: context.place.node.clone(),
            schema,
            window,
            key: key.to_vec(),
            encoder: KeyEncoder::new(input, key).map_err(|error| context.arrow(error))?,
            table: KeyTable::default(),
            accumulators: StateColumn::new(accumulator),
            open: BTreeMap::new(),
            watermark: WATERMARK_MIN,
            results_max: context.shared.config.call_rows_max(),
            bundle: BundleKeys::default(),
            metrics: Arc::clone(&context.metrics),
        })
    }

    fn arrow(&self, error: ArrowError) -> JobError {
        JobError::Arrow { node: self.node.clone(), error }
    }

    /// The start of each row's window; rows that have none are errors, late rows are counted, and both left out.
    fn assign(&mut self, rows: &Batch) -> Result<(Batch, Vec<i64>), JobError> {
        let mut starts = Vec::with_capacity(rows.num_rows());
        let mut keep = vec![true; rows.num_rows()];
        let mut late = 0;
        for row in 0..rows.num_rows() {
            let time = rows.event_times().map_or(NO_TIME, |times| times[row]);
            let start = if time == NO_TIME { None } else { self.window.start(time) };
            match start {
                Some(start) if start + (self.window.size_ms - 1) > self.watermark => starts.push(start),
                Some(_) => {
                    late += 1;
                    keep[row] = false;
                }
                None => {
                    keep[row] = false;
                    self.no_window(rows, row, time)?;
                }
            }
        }
        if late > 0 {
            self.metrics.late_rows.add(late);
        }
        if starts.len() == rows.num_rows() {
            return Ok((rows.clone(), starts));
        }
        let rows = rows.filter(&BooleanArray::from(keep)).map_err(|error| self.arrow(error))?;
        Ok((rows, starts))
    }

    fn no_window(&mut self, rows: &Batch, row: usize, time: i64) -> Result<(), JobError> {
        let message = match time {
            NO_TIME => "the row's event time is null: it belongs to no window".to_owned(),
            _ => format!("the window of event time {time} ms passes the ends of time"),
        };
        let error = RowError { row: row as u32, kind: NO_WINDOW.into(), message, traceback: String::new() };
        self.udf.row_errors(rows, &[error])
    }

    fn number_groups(&mut self, rows: &Batch, starts: &[i64]) -> Result<(), ArrowError> {
        let keys = self.encoder.encode(rows.rows())?;
        self.bundle.clear();
        let mut bytes = Vec::new();
        for (row, start) in starts.iter().enumerate() {
            bytes.clear();
            bytes.extend_from_slice(keys.get(row));
            bytes.extend_from_slice(&start.to_be_bytes());
            self.bundle.push(self.table.slot(&bytes, hash(&bytes)));
        }
        Ok(())
    }

    fn accumulate(&mut self, rows: &Batch, starts: &[i64]) -> Result<(), JobError> {
        self.number_groups(rows, starts).map_err(|error| self.arrow(error))?;
        self.accumulators.grow(self.table.capacity());
        let slots = &self.bundle.slots;
        let before = self.accumulators.gather(slots).map_err(|error| self.arrow(error))?;
        let key_columns = first_keys(rows, &self.key, &self.bundle).map_err(|error| self.arrow(error))?;
        let states = [Arc::clone(&before)];
        let keyed = KeyedInput {
            index: Some(&self.bundle.index),
            keys: slots.len(),
            key_columns: &key_columns,
            states: &states,
        };
        let effects = self.udf.rows(Operation::Accumulate, rows, &keyed)?;
        for writes in &effects.states {
            let scattered = self.accumulators.scatter(slots, &writes.values, &writes.written);
            scattered.map_err(|error| JobError::Arrow { node: self.node.clone(), error })?;
        }
        for (index, &slot) in slots.iter().enumerate() {
            match (before.is_valid(index), self.accumulators.is_present(slot)) {
                (false, true) => self.open.entry(starts[self.bundle.first[index] as usize]).or_default().push(slot),
                // All its rows raised.
                (false, false) => self.table.release(slot),
                (true, _) => {}
            }
        }
        self.udf.row_errors(rows, &effects.errors)
    }

    /// Fires windows whose last millisecond the watermark has reached.
    fn fire(&mut self, out: &mut Vec<Batch>) -> Result<(), JobError> {
        let mut due: Vec<(i64, u32)> = Vec::new();
        while let Some(first) = self.open.first_entry() {
            let start = *first.key();
            if start + (self.window.size_ms - 1) > self.watermark {
                break;
            }
            due.extend(first.remove().into_iter().map(|slot| (start, slot)));
        }
        for part in due.chunks(self.results_max) {
            self.results(part, out)?;
        }
        Ok(())
    }

    fn results(&mut self, due: &[(i64, u32)], out: &mut Vec<Batch>) -> Result<(), JobError> {
        let arrow = |error| JobError::Arrow { node: self.node.clone(), error };
        let slots: Vec<u32> = due.iter().map(|(_, slot)| *slot).collect();
        let states = [self.accumulators.gather(&slots).map_err(arrow)?];
        let keys = slots.iter().map(|&slot| {
            let key = self.table.key(slot);
            &key[..key.len() - size_of::<i64>()]
        });
        let key_columns = self.encoder.decode(keys).map_err(arrow)?;
        let keyed = KeyedInput { index: None, keys: slots.len(), key_columns: &key_columns, states: &states };
        let effects = self.udf.results(&keyed)?;
        let result = &self.udf.call().loaded.result.data_type;
        let column = whole_column(&effects.outputs, result).map_err(arrow)?;
        let rows = self.result_rows(due, key_columns, &column).map_err(arrow)?;
        for error in &effects.errors {
            let record = || crate::dead_letter::record_of(rows.rows(), error.row as usize);
            self.udf.row_error(error, None, record)?;
        }
        for &slot in &slots {
            self.accumulators.clear(slot);
            self.table.release(slot);
        }
        out.push(match kept(rows.num_rows(), &effects.errors) {
            None => rows,
            Some(keep) => rows.filter(&keep).map_err(|error| self.arrow(error))?,
        });
        Ok(())
    }

    /// Key, window start and end, result; the event time is the window's last millisecond.
    fn result_rows(&self, due: &[(i64, u32)], key: Vec<ArrayRef>, result: &ArrayRef) -> Result<Batch, ArrowError> {
        let size = self.window.size_ms;
        let time = |at: fn(i64, i64) -> i64| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::from_iter_values(due.iter().map(|(start, _)| at(*start, size))))
        };
        let mut columns = key;
        columns.push(time(|start, _| start));
        columns.push(time(|start, size| start + size));
        columns.extend(columns_of(result, matches!(result.data_type(), DataType::Struct(_))));
        let times = due.iter().map(|(start, _)| start + (size - 1)).collect();
        let rows = record_batch(Arc::clone(&self.schema), columns, due.len())?;
        Ok(Batch::new(rows).with_event_times(Some(times)))
    }
}

impl BundleOperator for Window {
    fn node(&self) -> &str {
        &self.node
    }

    fn bundle(&mut self, rows: &Batch, _: &mut Vec<Batch>) -> Result<(), JobError> {
        let (rows, starts) = self.assign(rows)?;
        if starts.is_empty() {
            return Ok(());
        }
        self.accumulate(&rows, &starts)
    }

    fn watermark(&mut self, watermark: i64, out: &mut Vec<Batch>) -> Result<(), JobError> {
        self.watermark = watermark;
        self.udf.set_watermark(watermark);
        self.fire(out)
    }
}
