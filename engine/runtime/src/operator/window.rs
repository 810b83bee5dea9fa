//! Aggregates in tumbling event-time windows.
//!
//! The host assigns windows; the guest sees rows, the index of each row's (key, window) and a column of accumulators,
//! and cannot tell a window from a key. Semantics are Flink's: a window fires when the watermark reaches its last
//! millisecond, and a row is late if its window has fired.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, TimestampMillisecondArray, UInt32Array, new_empty_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use serde_json::json;
use wasmill_host::{Fault, Operation, RowError};

use crate::batch::{Batch, NO_TIME, WATERMARK_MIN, columns_of, record_batch};
use crate::checkpoint::SnapshotError;
use crate::checkpoint::changes::Changes;
use crate::checkpoint::keyed::{KeyBytes, KeyLayout, KeyedSnapshot, StateField};
use crate::checkpoint::restore::{MyKeys, NodeState};
use crate::checkpoint::snapshot::{Barrier, NodeSnapshot};
use crate::dead_letter::record_of;
use crate::error::JobError;
use crate::graph::{BoundCall, TumblingWindow};
use crate::key::{BundleKeys, EncodedKeys, KeyEncoder, KeyTable, hash};
use crate::metrics::NodeMetrics;
use crate::operator::bundled::BundleOperator;
use crate::operator::isolate::{Isolate, Search};
use crate::operator::keyed::first_keys;
use crate::operator::pieces::{kept, whole_column};
use crate::operator::udf::{CallerState, Context, KeyedInput, UdfCaller};
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
    /// Those of the batch that belong to an open window, the start of each one's, their keys and the function's arguments.
    rows: Batch,
    starts: Vec<i64>,
    keys: EncodedKeys,
    arguments: Vec<ArrayRef>,
    bundle: BundleKeys,
    search: Search,
    metrics: Arc<NodeMetrics>,
    layout: KeyLayout,
    /// `None`: nobody will ask.
    changes: Option<Changes>,
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
        let encoder = KeyEncoder::new(input, key).map_err(|error| context.arrow(error))?;
        let accumulator = &call.loaded.states.first();
        let accumulator = accumulator.map_or(&DataType::Null, |state| &state.data_type);
        Ok(Window {
            udf: UdfCaller::open(call, context)?,
            node: context.place.node.clone(),
            schema,
            window,
            key: key.to_vec(),
            table: KeyTable::new(encoder.width().map(|width| width + size_of::<i64>())),
            encoder,
            accumulators: StateColumn::new(accumulator),
            open: BTreeMap::new(),
            watermark: WATERMARK_MIN,
            results_max: context.shared.config.call_rows_max(),
            rows: Batch::empty(),
            starts: Vec::new(),
            keys: EncodedKeys::default(),
            arguments: Vec::new(),
            bundle: BundleKeys::default(),
            search: Search::default(),
            metrics: Arc::clone(&context.metrics),
            layout: KeyLayout::new(input, key, true),
            changes: context.shared.checkpoints.then(Changes::default),
        })
    }

    fn arrow(&self, error: ArrowError) -> JobError {
        JobError::Arrow { node: self.node.clone(), error }
    }

    /// The start of each row's window; rows that have none are errors, late rows are counted, and both left out.
    fn assign(&mut self, rows: Batch) -> Result<(), JobError> {
        self.starts.clear();
        let mut keep = vec![true; rows.num_rows()];
        let (mut late, mut errors) = (0, Vec::new());
        for (row, keep) in keep.iter_mut().enumerate() {
            let time = rows.event_times().map_or(NO_TIME, |times| times[row]);
            let start = if time == NO_TIME { None } else { self.window.start(time) };
            *keep = false;
            match start {
                Some(start) if start + (self.window.size_ms - 1) > self.watermark => {
                    self.starts.push(start);
                    *keep = true;
                }
                Some(_) => late += 1,
                None => errors.push(no_window(row, time)),
            }
        }
        self.metrics.late_rows.add(late);
        self.udf.row_errors(&rows, 0, &errors)?;
        self.rows = match self.starts.len() == rows.num_rows() {
            true => rows,
            false => rows.filter(&BooleanArray::from(keep)).map_err(|error| self.arrow(error))?,
        };
        Ok(())
    }

    fn number_groups(&mut self, part: Range<usize>) {
        self.bundle.clear();
        let mut bytes = Vec::new();
        for row in part {
            bytes.clear();
            bytes.extend_from_slice(self.keys.get(row));
            bytes.extend_from_slice(&self.starts[row].to_be_bytes());
            self.bundle.push(self.table.slot(&bytes, hash(&bytes)));
        }
    }

    fn accumulate(&mut self, part: Range<usize>) -> Result<(), JobError> {
        self.number_groups(part.clone());
        self.accumulators.grow(self.table.capacity());
        let slots = &self.bundle.slots;
        let before = self.accumulators.gather(slots).map_err(|error| self.arrow(error))?;
        let key_columns = first_keys(&self.rows, &self.key, part.start, &self.bundle);
        let key_columns = key_columns.map_err(|error| self.arrow(error))?;
        let states = [Arc::clone(&before)];
        let keyed = KeyedInput {
            index: Some(&self.bundle.index),
            keys: slots.len(),
            key_columns: &key_columns,
            states: &states,
        };
        let called = self.udf.rows(Operation::Accumulate, &self.rows, &self.arguments, part.clone(), &keyed);
        let effects = match called {
            Ok(effects) => effects,
            Err(error) => {
                // Nothing has changed: a group that is not open yet needs no slot.
                let new = slots.iter().enumerate().filter(|(index, _)| before.is_null(*index));
                new.for_each(|(_, slot)| self.table.release(*slot));
                return Err(error);
            }
        };
        for writes in &effects.states {
            let scattered = self.accumulators.scatter(slots, &writes.values, &writes.written);
            scattered.map_err(|error| JobError::Arrow { node: self.node.clone(), error })?;
        }
        for (index, &slot) in slots.iter().enumerate() {
            match (before.is_valid(index), self.accumulators.is_present(slot)) {
                (false, true) => {
                    let start = self.starts[part.start + self.bundle.first[index] as usize];
                    self.open.entry(start).or_default().push(slot);
                }
                // All its rows raised.
                (false, false) => self.table.release(slot),
                (true, _) => {}
            }
        }
        if let Some(changes) = &mut self.changes {
            slots.iter().for_each(|slot| changes.touch(*slot));
        }
        self.udf.row_errors(&self.rows, part.start, &effects.errors)
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
        let mut search = std::mem::take(&mut self.search);
        let outcome = due
            .chunks(self.results_max)
            .try_for_each(|due| search.run(0..due.len(), &mut Due { window: self, due, out }));
        self.search = search;
        outcome
    }

    /// The key columns of these (key, window)s.
    fn keys_of(&self, due: &[(i64, u32)]) -> Result<Vec<ArrayRef>, JobError> {
        let keys = due.iter().map(|&(_, slot)| {
            let key = self.table.key(slot);
            &key[..key.len() - size_of::<i64>()]
        });
        self.encoder.decode(keys).map_err(|error| self.arrow(error))
    }

    fn close(&mut self, due: &[(i64, u32)]) {
        for &(_, slot) in due {
            self.accumulators.clear(slot);
            self.table.release(slot);
            // That it is gone need not be told: the watermark says so.
            self.changes.iter_mut().for_each(|changes| changes.forget(slot));
        }
    }

    fn keyed_snapshot(&mut self, barrier: &Barrier) -> Result<Option<KeyedSnapshot>, ArrowError> {
        let Some(changes) = &mut self.changes else { return Ok(None) };
        let asked = changes.take(barrier, self.table.len());
        let full = asked.slots.is_none();
        // In the order in which results will come.
        let open = self.open.values().flatten().copied();
        let slots: Vec<u32> =
            open.filter(|slot| asked.slots.as_ref().is_none_or(|asked| asked.contains(*slot))).collect();
        let mut keys = KeyBytes::default();
        slots.iter().for_each(|slot| keys.push(self.table.key(*slot)));
        let values = self.accumulators.gather(&slots)?;
        let states = self.accumulator_field().map(|field| (field, values)).into_iter().collect();
        Ok(Some(KeyedSnapshot { full, layout: self.layout.clone(), keys, states }))
    }

    fn accumulator_field(&self) -> Option<StateField> {
        let state = self.udf.call().loaded.states.first()?;
        Some(StateField { name: state.name.clone(), data_type: state.data_type.clone() })
    }

    /// Takes over accumulators of windows that have not fired by `watermark`.
    fn take_over(&mut self, mine: &MyKeys<'_>, watermark: i64, state: &NodeState<'_>) -> Result<(), SnapshotError> {
        let Some(field) = self.accumulator_field() else { return Ok(()) };
        let Some(values) = mine.values(&field.name)? else { return Ok(()) };
        let values = state.fitting("the accumulator", &values, &field.data_type)?;
        let (mut slots, mut rows) = (Vec::new(), Vec::new());
        for (row, key) in mine.keys().enumerate() {
            let Some((_, start)) = key.split_last_chunk::<8>() else {
                return Err(state.unfit("a key of the checkpoint belongs to no window".into()));
            };
            let start = i64::from_be_bytes(*start);
            if start.saturating_add(self.window.size_ms - 1) <= watermark {
                continue;
            }
            let slot = self.table.slot(key, hash(key));
            self.accumulators.grow(self.table.capacity());
            if !self.accumulators.is_present(slot) {
                self.open.entry(start).or_default().push(slot);
            }
            slots.push(slot);
            rows.push(row as u32);
        }
        let values = take(&values, &UInt32Array::from(rows), None)?;
        self.accumulators.scatter(&slots, &values, &BooleanBuffer::new_set(slots.len()))?;
        if let Some(changes) = &mut self.changes {
            slots.iter().for_each(|slot| changes.touch(*slot));
        }
        Ok(())
    }

    fn results(&mut self, due: &[(i64, u32)], out: &mut Vec<Batch>) -> Result<(), JobError> {
        let arrow = |error| JobError::Arrow { node: self.node.clone(), error };
        let slots: Vec<u32> = due.iter().map(|(_, slot)| *slot).collect();
        let states = [self.accumulators.gather(&slots).map_err(arrow)?];
        let key_columns = self.keys_of(due)?;
        let keyed = KeyedInput { index: None, keys: slots.len(), key_columns: &key_columns, states: &states };
        let effects = self.udf.results(&keyed)?;
        let result = &self.udf.call().loaded.result.data_type;
        let column = whole_column(&effects.outputs).map_err(arrow)?.unwrap_or_else(|| new_empty_array(result));
        let rows = self.result_rows(due, key_columns, &column).map_err(arrow)?;
        for error in &effects.errors {
            let record = || record_of(rows.rows(), error.row as usize);
            self.udf.row_error(error, None, record)?;
        }
        self.close(due);
        out.push(match effects.errors.is_empty() {
            true => rows,
            false => rows.filter(&kept(rows.num_rows(), &effects.errors)).map_err(|error| self.arrow(error))?,
        });
        Ok(())
    }

    /// Key, window start and end, result; the event time is the window's last millisecond.
    fn result_rows(&self, due: &[(i64, u32)], key: Vec<ArrayRef>, result: &ArrayRef) -> Result<Batch, ArrowError> {
        let size = self.window.size_ms;
        let mut columns = self.group_columns(due, key);
        columns.extend(columns_of(result, matches!(result.data_type(), DataType::Struct(_))));
        let times = due.iter().map(|(start, _)| start + (size - 1)).collect();
        let rows = record_batch(Arc::clone(&self.schema), columns, due.len())?;
        Ok(Batch::new(rows).with_event_times(Some(times)))
    }
}

impl Window {
    /// Key, window start and end.
    fn group_columns(&self, due: &[(i64, u32)], key: Vec<ArrayRef>) -> Vec<ArrayRef> {
        let size = self.window.size_ms;
        let time = |at: fn(i64, i64) -> i64| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::from_iter_values(due.iter().map(|(start, _)| at(*start, size))))
        };
        let mut columns = key;
        columns.push(time(|start, _| start));
        columns.push(time(|start, size| start + size));
        columns
    }

    /// Key and window as JSON, for the dead letter of a window whose result the guest fails on.
    fn group_record(&self, due: &[(i64, u32)], key: Vec<ArrayRef>) -> Result<String, ArrowError> {
        let columns = self.group_columns(due, key);
        let schema = self.schema.project(&(0..columns.len()).collect::<Vec<_>>())?;
        record_of(&record_batch(Arc::new(schema), columns, due.len())?, 0)
    }
}

fn no_window(row: usize, time: i64) -> RowError {
    let message = match time {
        NO_TIME => "the row's event time is null: it belongs to no window".to_owned(),
        _ => format!("the window of event time {time} ms passes the ends of time"),
    };
    RowError { row: row as u32, kind: NO_WINDOW.into(), message, traceback: String::new() }
}

/// Windows that are due, to be fired by parts if need be.
struct Due<'a> {
    window: &'a mut Window,
    due: &'a [(i64, u32)],
    out: &'a mut Vec<Batch>,
}

impl Isolate for Due<'_> {
    fn part(&mut self, due: Range<usize>) -> Result<(), JobError> {
        self.window.results(&self.due[due], self.out)
    }

    fn lost(&mut self, due: Range<usize>, fault: &Fault) -> Result<(), JobError> {
        self.window.udf.lost(None, due.len(), fault)
    }

    fn bad_row(&mut self, index: usize, fault: &Fault) -> Result<(), JobError> {
        let due = &self.due[index..=index];
        let key = self.window.keys_of(due)?;
        let record = self.window.group_record(due, key);
        self.window.close(due);
        self.window.udf.bad(fault, None, || record)
    }

    fn given_up(&mut self, fault: &Fault, error: JobError) -> JobError {
        self.window.udf.given_up(fault, error)
    }
}

impl BundleOperator for Window {
    fn node(&self) -> &str {
        &self.node
    }

    fn rows(&self) -> &Batch {
        &self.rows
    }

    fn begin(&mut self, rows: Batch) -> Result<usize, JobError> {
        self.assign(rows)?;
        self.arguments = self.udf.arguments(&self.rows)?;
        self.keys = self.encoder.encode(self.rows.rows()).map_err(|error| self.arrow(error))?;
        Ok(self.rows.num_rows())
    }

    fn bundle(&mut self, part: Range<usize>) -> Result<(), JobError> {
        self.accumulate(part)
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

    /// Rows come out when their window fires.
    fn ready(&self) -> usize {
        0
    }

    fn take(&mut self, _: &mut Vec<Batch>) -> Result<(), JobError> {
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, out: &mut Vec<Batch>) -> Result<(), JobError> {
        // After a restore with another parallelism, sources may say again what this window knows already.
        self.watermark = self.watermark.max(watermark);
        self.udf.set_watermark(self.watermark);
        self.fire(out)
    }

    fn snapshot(&mut self, barrier: &Barrier) -> Result<NodeSnapshot, JobError> {
        let keyed = self.keyed_snapshot(barrier).map_err(|error| self.arrow(error))?;
        let CallerState { bundles, watermark } = self.udf.state();
        let own = json!({ "bundles": bundles, "watermark": watermark, "size_ms": self.window.size_ms });
        Ok(NodeSnapshot { own, keyed, ..NodeSnapshot::default() })
    }

    fn restore(&mut self, state: &NodeState<'_>) -> Result<(), SnapshotError> {
        let own: Vec<CallerState> = state.own()?;
        self.udf.restore(own.iter().copied());
        self.watermark = self.udf.state().watermark;
        // Unaligned barriers reach subtasks at different times: what each had fired, its own watermark says.
        state.keyed(|mine| {
            let watermark = own.get(mine.told_by).map_or(WATERMARK_MIN, |own| own.watermark);
            self.take_over(mine, watermark, state)
        })
    }

    fn key(&self) -> Option<&KeyEncoder> {
        (!self.key.is_empty()).then_some(&self.encoder)
    }
}
