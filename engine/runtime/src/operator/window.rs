//! Aggregates in tumbling event-time windows.
//!
//! The host assigns windows; the guest sees rows, the index of each row's (key, window) and a column of accumulators,
//! and cannot tell a window from a key. Semantics are Flink's: a window fires when the watermark reaches its last
//! millisecond, and a row is late if its window has fired.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, TimestampMillisecondArray, new_empty_array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use serde_json::json;
use wasmill_host::{Fault, Operation, RowError};

use crate::batch::{Batch, NO_TIME, WATERMARK_MIN, columns_of, record_batch};
use crate::checkpoint::SnapshotError;
use crate::checkpoint::keyed::{KeyLayout, KeyedSnapshot};
use crate::checkpoint::restore::{MyKeys, NodeState};
use crate::checkpoint::snapshot::{Barrier, NodeSnapshot};
use crate::dead_letter::record_of;
use crate::error::{JobError, StateError};
use crate::graph::{BoundCall, TumblingWindow};
use crate::key::{BundleKeys, EncodedKeys, KeyEncoder};
use crate::metrics::NodeMetrics;
use crate::operator::bundled::BundleOperator;
use crate::operator::isolate::{Isolate, Search};
use crate::operator::keyed::first_keys;
use crate::operator::pieces::{kept, whole_column};
use crate::operator::udf::{CallerState, Context, KeyedInput, UdfCaller};
use crate::state::{KeyedState, table_key};

/// Kind of the row error of a row that belongs to no window.
const NO_WINDOW: &str = "no-event-time";

pub(crate) struct Window {
    udf: UdfCaller,
    node: String,
    schema: SchemaRef,
    window: TumblingWindow,
    key: Vec<usize>,
    encoder: KeyEncoder,
    /// By start.
    open: BTreeMap<i64, Open>,
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
}

/// (key, window)s of one start.
#[derive(Default)]
struct Open {
    /// Of those in memory, in the order in which they came there.
    slots: Vec<u32>,
    /// There may be others.
    on_disk: bool,
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
        let width = encoder.width().map(|width| width + size_of::<i64>());
        let state = KeyedState::new(width, true, &call.loaded.states, &context.shared);
        Ok(Window {
            udf: UdfCaller::open(call, context, state)?,
            node: context.place.node.clone(),
            schema,
            window,
            key: key.to_vec(),
            encoder,
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
        })
    }

    fn arrow(&self, error: ArrowError) -> JobError {
        JobError::Arrow { node: self.node.clone(), error }
    }

    fn state(&self, error: StateError) -> JobError {
        JobError::State { node: self.node.clone(), error }
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

    fn number_groups(&mut self, part: Range<usize>) -> Result<(), StateError> {
        self.bundle.clear();
        let state = self.udf.keyed_mut();
        let mut bytes = Vec::new();
        for row in part {
            bytes.clear();
            bytes.extend_from_slice(self.keys.get(row));
            bytes.extend_from_slice(&self.starts[row].to_be_bytes());
            self.bundle.push(state.slot(&bytes));
        }
        self.load()
    }

    /// Makes new slots usable; what came from disk is in memory, and open there, from now on.
    fn load(&mut self) -> Result<(), StateError> {
        for slot in self.udf.keyed_mut().load()? {
            self.open.entry(start_of(self.udf.keyed().key(slot))).or_default().slots.push(slot);
        }
        Ok(())
    }

    /// A bundle is over: some (key, window)s may go to disk.
    fn finish(&mut self) -> Result<(), StateError> {
        let Some(evicted) = self.udf.keyed_mut().finish()? else { return Ok(()) };
        for open in self.open.values_mut() {
            let before = open.slots.len();
            open.slots.retain(|slot| !evicted.contains(*slot));
            open.on_disk |= open.slots.len() < before;
        }
        Ok(())
    }

    fn accumulate(&mut self, part: Range<usize>) -> Result<(), JobError> {
        self.number_groups(part.clone()).map_err(|error| self.state(error))?;
        let slots = &self.bundle.slots;
        let states = self.udf.keyed().columns(slots).map_err(|error| self.arrow(error))?;
        let was_open: Vec<bool> = slots.iter().map(|slot| self.udf.keyed().is_present(*slot)).collect();
        let key_columns = first_keys(&self.rows, &self.key, part.start, &self.bundle);
        let key_columns = key_columns.map_err(|error| self.arrow(error))?;
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
                let new = slots.iter().zip(&was_open).filter(|(_, open)| !**open);
                new.for_each(|(slot, _)| self.udf.keyed_mut().remove(*slot, false));
                return Err(error);
            }
        };
        let state = self.udf.keyed_mut();
        state.write(slots, &effects).map_err(|error| JobError::Arrow { node: self.node.clone(), error })?;
        for (index, &slot) in slots.iter().enumerate() {
            match (was_open[index], state.is_present(slot)) {
                (false, true) => {
                    let start = self.starts[part.start + self.bundle.first[index] as usize];
                    self.open.entry(start).or_default().slots.push(slot);
                }
                // All its rows raised.
                (false, false) => state.remove(slot, false),
                (true, _) => {}
            }
            if was_open[index] || state.is_present(slot) {
                state.touch(slot, true);
            }
        }
        self.finish().map_err(|error| self.state(error))?;
        self.udf.row_errors(&self.rows, part.start, &effects.errors)
    }

    /// Fires windows whose last millisecond the watermark has reached.
    fn fire(&mut self, out: &mut Vec<Batch>) -> Result<(), JobError> {
        if self.udf.keyed().is_on_disk() {
            return self.fire_by_key(out);
        }
        let mut due: Vec<(i64, u32)> = Vec::new();
        while let Some((start, open)) = self.next_due() {
            due.extend(open.slots.into_iter().map(|slot| (start, slot)));
        }
        self.fire_these(&due, out)
    }

    fn next_due(&mut self) -> Option<(i64, Open)> {
        let first = self.open.first_entry()?;
        let is_due = *first.key() + (self.window.size_ms - 1) <= self.watermark;
        is_due.then(|| first.remove_entry())
    }

    fn fire_these(&mut self, due: &[(i64, u32)], out: &mut Vec<Batch>) -> Result<(), JobError> {
        let mut search = std::mem::take(&mut self.search);
        let outcome = due
            .chunks(self.results_max)
            .try_for_each(|due| search.run(0..due.len(), &mut Due { window: self, due, out }));
        self.search = search;
        outcome
    }

    /// As [`fire`](Self::fire), by window and the bytes of the key: which of them are in memory shows in nothing.
    fn fire_by_key(&mut self, out: &mut Vec<Batch>) -> Result<(), JobError> {
        while let Some((start, mut open)) = self.next_due() {
            let state = self.udf.keyed();
            open.slots.sort_unstable_by(|a, b| state.key(*a).cmp(state.key(*b)));
            let mut in_memory = open.slots.into_iter().peekable();
            let mut last: Option<Vec<u8>> = None;
            let mut more = open.on_disk;
            while more {
                let (mut page, end) = self
                    .udf
                    .keyed_mut()
                    .page(start, last.as_deref(), self.results_max)
                    .map_err(|error| self.state(error))?;
                more = end.is_some();
                let state = self.udf.keyed();
                let before = |slot: &u32| end.as_ref().is_none_or(|end| *state.key(*slot) <= *table_key(end, true));
                page.extend(std::iter::from_fn(|| in_memory.next_if(before)));
                page.sort_unstable_by(|a, b| state.key(*a).cmp(state.key(*b)));
                let due: Vec<(i64, u32)> = page.into_iter().map(|slot| (start, slot)).collect();
                self.fire_these(&due, out)?;
                self.udf.keyed_mut().flush().map_err(|error| self.state(error))?;
                last = end;
            }
            let due: Vec<(i64, u32)> = in_memory.map(|slot| (start, slot)).collect();
            self.fire_these(&due, out)?;
        }
        self.udf.keyed_mut().flush().map_err(|error| self.state(error))
    }

    /// The key columns of these (key, window)s.
    fn keys_of(&self, due: &[(i64, u32)]) -> Result<Vec<ArrayRef>, JobError> {
        let keys = due.iter().map(|&(_, slot)| {
            let key = self.udf.keyed().key(slot);
            &key[..key.len() - size_of::<i64>()]
        });
        self.encoder.decode(keys).map_err(|error| self.arrow(error))
    }

    fn close(&mut self, due: &[(i64, u32)]) {
        // That they are gone need not be told: the watermark says so.
        due.iter().for_each(|(_, slot)| self.udf.keyed_mut().remove(*slot, false));
    }

    fn keyed_snapshot(&mut self, barrier: &Barrier) -> Result<Option<KeyedSnapshot>, StateError> {
        let Some(asked) = self.udf.keyed_mut().asked(barrier) else { return Ok(None) };
        // In the order in which results will come.
        let open = self.open.values().flat_map(|open| &open.slots).copied();
        let slots: Vec<u32> =
            open.filter(|slot| asked.slots.as_ref().is_none_or(|asked| asked.contains(*slot))).collect();
        self.udf.keyed().snapshot(&asked, &slots, &self.layout).map(Some)
    }

    /// Takes over accumulators of windows that have not fired by `watermark`.
    fn take_over(&mut self, mine: &MyKeys<'_>, watermark: i64, state: &NodeState<'_>) -> Result<(), SnapshotError> {
        let last = self.window.size_ms - 1;
        let mut rows = Vec::new();
        for (row, key) in mine.rows.iter().zip(mine.keys()) {
            if key.len() < size_of::<i64>() {
                return Err(state.unfit("a key of the checkpoint belongs to no window".into()));
            }
            if start_of(key).saturating_add(last) > watermark {
                rows.push(*row);
            }
        }
        let mine = MyKeys { rows: &rows, ..*mine };
        let own = self.udf.keyed_mut();
        let slots: Vec<u32> = mine.keys().map(|key| own.slot(key)).collect();
        self.load()?;
        let was_open: Vec<bool> = slots.iter().map(|slot| self.udf.keyed().is_present(*slot)).collect();
        let own = self.udf.keyed_mut();
        own.take_over(&slots, &mine, state)?;
        for (&slot, was_open) in slots.iter().zip(was_open) {
            if !was_open {
                self.open.entry(start_of(own.key(slot))).or_default().slots.push(slot);
            }
            own.touch(slot, true);
        }
        Ok(self.finish()?)
    }

    fn results(&mut self, due: &[(i64, u32)], out: &mut Vec<Batch>) -> Result<(), JobError> {
        let arrow = |error| JobError::Arrow { node: self.node.clone(), error };
        let slots: Vec<u32> = due.iter().map(|(_, slot)| *slot).collect();
        let states = self.udf.keyed().columns(&slots).map_err(arrow)?;
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

/// The start of the window to which a key of the state belongs.
fn start_of(key: &[u8]) -> i64 {
    key.last_chunk::<8>().map_or(0, |start| i64::from_be_bytes(*start))
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
        let keyed = self.keyed_snapshot(barrier).map_err(|error| self.state(error))?;
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
