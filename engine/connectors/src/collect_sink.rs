//! Rows handed to Rust.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wasmill_runtime::connector::{Committable, ConnectorError, Prepared, Sink, SinkWriter, Subtask, WriterState};

/// Hands rows to Rust, for tests and for who embeds the engine. Rows are there when they are committed: at each checkpoint and
/// at the end, exactly once. What a writer gives to one checkpoint stays together and in order. Clones share the rows.
///
/// Rows live as long as the sink: a job can go on from a checkpoint with the sink that it had, not with a new one.
#[derive(Debug, Clone, Default)]
pub struct CollectSink {
    batches: Arc<Mutex<Vec<RecordBatch>>>,
    staged: Arc<Mutex<Staged>>,
}

/// What is prepared and not yet committed.
#[derive(Debug)]
struct Staged {
    /// Tells the committables of this sink from those of others.
    sink: String,
    /// The number that the next committable gets: smaller ones have been given away.
    next: u64,
    batches: BTreeMap<u64, Vec<RecordBatch>>,
    /// Numbers that an abort or a restore has dropped, and that cannot be committed any more.
    dropped: BTreeSet<u64>,
}

impl Default for Staged {
    fn default() -> Staged {
        let sink = format!("{:016x}", RandomState::new().build_hasher().finish());
        Staged { sink, next: 0, batches: BTreeMap::new(), dropped: BTreeSet::new() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Staged {
    fn add(&mut self, batches: Vec<RecordBatch>) -> Vec<Committable> {
        if batches.is_empty() {
            return Vec::new();
        }
        let number = self.next;
        self.next += 1;
        self.batches.insert(number, batches);
        vec![Committable(format!("{}-{number}", self.sink))]
    }

    /// The number of what a writer of this sink prepared as `committable`.
    fn number(&self, committable: &Committable) -> Result<u64, ConnectorError> {
        let number = committable.0.strip_prefix(&self.sink).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
        let known = number.filter(|number| *number < self.next && !self.dropped.contains(number));
        known.ok_or_else(|| {
            let message = format!(
                "the rows {} were collected in memory that is gone, by another sink or before an abort: collect sinks go on \
                 from a checkpoint in the process that made it only; start the job without the checkpoint",
                committable.0
            );
            ConnectorError::new(message)
        })
    }

    fn numbers(&self, committables: &[Committable]) -> Result<Vec<u64>, ConnectorError> {
        committables.iter().map(|one| self.number(one)).collect()
    }

    fn drop_all_but(&mut self, kept: &[u64]) {
        self.dropped.extend(self.batches.keys().filter(|number| !kept.contains(number)));
        self.batches.retain(|number, _| kept.contains(number));
    }
}

impl CollectSink {
    /// A sink that has no rows yet.
    pub fn new() -> CollectSink {
        CollectSink::default()
    }

    /// What has been committed so far; empty batches are left out.
    pub fn batches(&self) -> Vec<RecordBatch> {
        lock(&self.batches).clone()
    }

    /// The batches themselves, to take from while the job runs.
    pub fn shared(&self) -> Arc<Mutex<Vec<RecordBatch>>> {
        Arc::clone(&self.batches)
    }
}

impl Sink for CollectSink {
    fn accept(&self, _: &SchemaRef) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn start(&self) -> Result<(), ConnectorError> {
        lock(&self.staged).drop_all_but(&[]);
        Ok(())
    }

    fn resume(&self, prepared: &[Committable], _: &[WriterState]) -> Result<(), ConnectorError> {
        self.commit(prepared)?;
        lock(&self.staged).drop_all_but(&[]);
        Ok(())
    }

    fn writer(&self, _: &SchemaRef, _: Subtask, _: &[WriterState]) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(CollectWriter { staged: Arc::clone(&self.staged), batches: Vec::new() }))
    }

    fn commit(&self, prepared: &[Committable]) -> Result<(), ConnectorError> {
        let mut staged = lock(&self.staged);
        let numbers = staged.numbers(prepared)?;
        // What is not staged any more has been committed before.
        let rows = numbers.iter().filter_map(|number| staged.batches.remove(number)).flatten();
        lock(&self.batches).extend(rows);
        Ok(())
    }

    fn finish(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn abort(&self, keep: &[Committable]) {
        let mut staged = lock(&self.staged);
        let kept: Vec<u64> = keep.iter().filter_map(|one| staged.number(one).ok()).collect();
        staged.drop_all_but(&kept);
    }

    fn claim(&self) -> Option<String> {
        None
    }

    fn location(&self) -> String {
        "memory".into()
    }

    fn refuse_checkpoints(&self) -> Option<String> {
        None
    }
}

struct CollectWriter {
    staged: Arc<Mutex<Staged>>,
    batches: Vec<RecordBatch>,
}

impl SinkWriter for CollectWriter {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), ConnectorError> {
        if rows.num_rows() > 0 {
            self.batches.push(rows.clone());
        }
        Ok(())
    }

    /// Nothing is seen before the commit, so there is nothing to hurry.
    fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Prepared, ConnectorError> {
        let committables = lock(&self.staged).add(std::mem::take(&mut self.batches));
        Ok(Prepared { committables, state: WriterState(String::new()) })
    }

    fn prepare(self: Box<Self>) -> Result<Vec<Committable>, ConnectorError> {
        Ok(lock(&self.staged).add(self.batches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    const ALONE: Subtask = Subtask { index: 0, parallelism: 1 };

    fn rows(range: std::ops::Range<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
        RecordBatch::try_from_iter([("v", column)]).unwrap()
    }

    fn writer(sink: &CollectSink) -> Box<dyn SinkWriter> {
        sink.clone().writer(&rows(0..0).schema(), ALONE, &[]).unwrap()
    }

    fn seen(sink: &CollectSink) -> Vec<i64> {
        sink.batches().iter().flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[test]
    fn rows_are_shared_when_they_are_committed() {
        let sink = CollectSink::new();
        sink.start().unwrap();
        let mut writer = writer(&sink);
        writer.write(&rows(0..0)).unwrap();
        writer.write(&rows(0..2)).unwrap();
        let first = writer.checkpoint().unwrap();
        assert_eq!(writer.checkpoint().unwrap().committables, []);
        writer.write(&rows(2..3)).unwrap();
        assert_eq!(sink.batches(), []);
        sink.commit(&first.committables).unwrap();
        sink.commit(&first.committables).unwrap();
        assert_eq!(seen(&sink), [0, 1]);
        sink.commit(&writer.prepare().unwrap()).unwrap();
        sink.finish().unwrap();
        assert_eq!(seen(&sink), [0, 1, 2]);
        assert_eq!(lock(&sink.shared()).len(), 2);
    }

    #[test]
    fn a_restart_gives_every_row_once() {
        let sink = CollectSink::new();
        sink.start().unwrap();
        let mut before = writer(&sink);
        before.write(&rows(0..2)).unwrap();
        let checkpoint = before.checkpoint().unwrap();
        before.write(&rows(2..4)).unwrap();
        let lost = before.checkpoint().unwrap();
        drop(before);
        sink.abort(&checkpoint.committables);
        for _ in 0..2 {
            sink.resume(&checkpoint.committables, std::slice::from_ref(&checkpoint.state)).unwrap();
            assert_eq!(seen(&sink), [0, 1]);
        }
        sink.commit(&lost.committables).unwrap_err();
        let mut after = writer(&sink);
        after.write(&rows(2..4)).unwrap();
        sink.commit(&after.prepare().unwrap()).unwrap();
        assert_eq!(seen(&sink), [0, 1, 2, 3]);
    }

    #[test]
    fn rows_of_another_sink_are_gone() {
        let mut writer = writer(&CollectSink::new());
        writer.write(&rows(0..1)).unwrap();
        let prepared = writer.prepare().unwrap();
        let error = CollectSink::new().resume(&prepared, &[]).unwrap_err().to_string();
        assert!(error.contains("collected in memory that is gone, by another sink or before an abort"), "{error}");
    }
}
