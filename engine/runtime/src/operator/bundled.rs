//! Bundles: rows are gathered until there are enough, time is up, the input is quiet or a watermark comes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use wasmill_host::Fault;

use crate::batch::Batch;
use crate::checkpoint::SnapshotError;
use crate::checkpoint::restore::NodeState;
use crate::checkpoint::snapshot::{Barrier, NodeSnapshot};
use crate::error::JobError;
use crate::inputs::WaitingBarriers;
use crate::job::Clock;
use crate::key::KeyEncoder;
use crate::operator::isolate::{Isolate, Search};
use crate::operator::{Emitter, Operator};
use crate::shared::Shared;
use crate::simulate::Sabotage;

/// An operator that handles a bundle at a time: one guest call, whose effects are applied together. What is needed of rows is
/// computed for a whole batch, however small the bundles are.
pub(crate) trait BundleOperator: Send {
    fn node(&self) -> &str;

    /// Takes the rows of the bundles that follow, and says how many of them are to be bundled.
    fn begin(&mut self, rows: Batch) -> Result<usize, JobError>;

    /// Those rows.
    fn rows(&self) -> &Batch;

    /// Handles a bundle of these rows. After a [`JobError::Fault`] nothing has changed.
    fn bundle(&mut self, rows: Range<usize>) -> Result<(), JobError>;

    /// Fresh instances in the place of those that a fault with these of the rows has cost.
    fn lost(&mut self, rows: Range<usize>, fault: &Fault) -> Result<(), JobError>;

    /// The guest fails on this one of the rows.
    fn bad_row(&mut self, row: usize, fault: &Fault) -> Result<(), JobError>;

    /// The job ends with `error`, since the guest has failed on too many rows, on the last by `fault`.
    fn given_up(&mut self, fault: &Fault, error: JobError) -> JobError;

    /// Rows that the bundles have put out and nobody took.
    fn ready(&self) -> usize;

    /// Pushes them.
    fn take(&mut self, out: &mut Vec<Batch>) -> Result<(), JobError>;

    /// Event time has come to `watermark`; the bundle before is done.
    fn watermark(&mut self, watermark: i64, out: &mut Vec<Batch>) -> Result<(), JobError>;

    /// As [`Operator::snapshot`].
    fn snapshot(&mut self, barrier: &Barrier) -> Result<NodeSnapshot, JobError>;

    /// As [`Operator::restore`].
    fn restore(&mut self, state: &NodeState<'_>) -> Result<(), SnapshotError>;

    /// By which rows that were in an open bundle find their subtask, if it has a key.
    fn key(&self) -> Option<&KeyEncoder>;
}

/// Gathers rows into bundles for `T`, and what `T` puts out into batches worth passing on.
///
/// A bundle is handed over when it has `bundle.size` rows; when `bundle.time` has passed since its first; before a
/// watermark; and at once when the input queue is empty, so that a quiet stream has the latency of single rows.
pub(crate) struct Bundled<T> {
    operator: T,
    open: Vec<Batch>,
    open_rows: usize,
    /// When the first of them came.
    opened: Option<Duration>,
    rows_max: usize,
    time_max: Duration,
    search: Search,
    out: Vec<Batch>,
    out_rows_max: usize,
    clock: Arc<dyn Clock>,
    /// Where rows of an open bundle go into checkpoints: for what must not wait until they are done.
    hurry: Option<Hurry>,
    /// Only in a simulation: leaves its rows out of checkpoints.
    forgetful: bool,
}

/// With `checkpoint.bundle: persist` a barrier that overtakes gets through between two calls, and calls are short.
struct Hurry {
    waiting: WaitingBarriers,
    /// Rows of a call that takes as long as one may.
    rows_max: usize,
}

/// A tenth of a second is what a barrier may take: through a call, and through what is around it.
const CALL_TIME: Duration = Duration::from_millis(20);

/// Of a function that is not known yet.
const FIRST_CALL_ROWS: usize = 16;

impl<T: BundleOperator> Bundled<T> {
    pub(crate) fn new(operator: T, shared: &Shared) -> Bundled<T> {
        let config = &shared.config;
        Bundled {
            operator,
            open: Vec::new(),
            open_rows: 0,
            opened: None,
            rows_max: config.call_rows_max(),
            time_max: config.bundle_time,
            search: Search::default(),
            out: Vec::new(),
            out_rows_max: config.batch_rows_max,
            clock: Arc::clone(&shared.clock),
            hurry: None,
            forgetful: shared.sabotage == Some(Sabotage::ForgetBundle),
        }
    }

    /// Hands the open bundle over; `whole`: even if a barrier waits.
    fn close(&mut self, whole: bool, out: &mut Emitter<'_>) -> Result<(), JobError> {
        self.opened = None;
        self.open_rows = 0;
        if self.open.is_empty() {
            return Ok(());
        }
        let rows = Batch::concat(&self.open).map_err(|error| self.arrow(error))?;
        self.open.clear();
        self.run(rows, whole, out)
    }

    /// Handles rows in bundles of at most [`Bundled::rows_max`]. Where a barrier waits, those that are not done are held back.
    fn run(&mut self, rows: Batch, whole: bool, out: &mut Emitter<'_>) -> Result<(), JobError> {
        let count = self.operator.begin(rows)?;
        let mut at = 0;
        while at < count {
            if !whole && self.is_hurried() {
                self.hold(self.operator.rows().slice(at, count - at));
                break;
            }
            let rows_max = self.hurry.as_ref().map_or(self.rows_max, |hurry| hurry.rows_max);
            let end = (at + rows_max).min(count);
            let began = self.hurry.as_ref().map(|_| self.clock.elapsed());
            self.search.run(at..end, &mut Parts(&mut self.operator))?;
            if let (Some(hurry), Some(began)) = (&mut self.hurry, began) {
                hurry.took(end - at, self.clock.elapsed().saturating_sub(began), self.rows_max);
            }
            at = end;
            if self.operator.ready() >= self.out_rows_max {
                self.operator.take(&mut self.out)?;
                self.pass_on(out)?;
            }
        }
        self.operator.take(&mut self.out)
    }

    fn is_hurried(&self) -> bool {
        self.hurry.as_ref().is_some_and(|hurry| hurry.waiting.are_there())
    }

    fn hold(&mut self, rows: Batch) {
        self.open_rows += rows.num_rows();
        self.open.push(rows);
        if self.opened.is_none() {
            self.opened = Some(self.clock.elapsed());
        }
    }

    fn pass_on(&mut self, out: &mut Emitter<'_>) -> Result<(), JobError> {
        let batches = std::mem::take(&mut self.out);
        let mut first = 0;
        while first < batches.len() {
            // Small batches are joined, large ones go as they are.
            let mut rows = 0;
            let joined = batches[first..].iter().take_while(|batch| {
                rows += batch.num_rows();
                rows <= self.out_rows_max
            });
            let count = joined.count().max(1);
            let batch = Batch::concat(&batches[first..first + count]).map_err(|error| self.arrow(error))?;
            out.emit(batch)?;
            first += count;
        }
        Ok(())
    }

    fn arrow(&self, error: arrow::error::ArrowError) -> JobError {
        JobError::Arrow { node: self.operator.node().to_owned(), error }
    }
}

impl Hurry {
    /// `rows` rows took so long.
    fn took(&mut self, rows: usize, time: Duration, rows_max: usize) {
        let fitting = rows as f64 * CALL_TIME.as_secs_f64() / time.as_secs_f64().max(1e-9);
        // One quick call says little; a slow one may be followed by more.
        self.rows_max = (fitting as usize).min(self.rows_max * 2).clamp(1, rows_max);
    }
}

/// The rows of a bundle, to be done by parts if need be.
struct Parts<'a, T>(&'a mut T);

impl<T: BundleOperator> Isolate for Parts<'_, T> {
    fn part(&mut self, rows: Range<usize>) -> Result<(), JobError> {
        self.0.bundle(rows)
    }

    fn lost(&mut self, rows: Range<usize>, fault: &Fault) -> Result<(), JobError> {
        self.0.lost(rows, fault)
    }

    fn bad_row(&mut self, row: usize, fault: &Fault) -> Result<(), JobError> {
        self.0.bad_row(row, fault)
    }

    fn given_up(&mut self, fault: &Fault, error: JobError) -> JobError {
        self.0.given_up(fault, error)
    }
}

impl<T: BundleOperator> Operator for Bundled<T> {
    fn process(&mut self, batch: Batch, out: &mut Emitter<'_>) -> Result<(), JobError> {
        let mut offset = 0;
        while offset < batch.num_rows() {
            let left = batch.num_rows() - offset;
            if self.open_rows == 0 && left >= self.rows_max {
                // As many whole bundles as there are.
                let rows = left - left % self.rows_max;
                self.run(batch.slice(offset, rows), false, out)?;
                offset += rows;
            } else if self.open_rows < self.rows_max {
                let rows = (self.rows_max - self.open_rows).min(left);
                self.hold(batch.slice(offset, rows));
                offset += rows;
            }
            if self.open_rows >= self.rows_max {
                self.close(false, out)?;
            }
            if self.open_rows > 0 && offset < batch.num_rows() && self.is_hurried() {
                self.hold(batch.slice(offset, batch.num_rows() - offset));
                break;
            }
        }
        self.pass_on(out)
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter<'_>) -> Result<(), JobError> {
        self.close(true, out)?;
        self.operator.watermark(watermark, &mut self.out)?;
        self.pass_on(out)
    }

    fn flush(&mut self, whole: bool, out: &mut Emitter<'_>) -> Result<(), JobError> {
        self.close(whole, out)?;
        self.pass_on(out)
    }

    fn watch(&mut self, waiting: &WaitingBarriers) {
        self.hurry = Some(Hurry { waiting: waiting.clone(), rows_max: self.rows_max.min(FIRST_CALL_ROWS) });
    }

    fn flush_due(&self) -> Option<Duration> {
        self.opened.map(|opened| opened + self.time_max)
    }

    fn snapshot(&mut self, barrier: &Barrier) -> Result<NodeSnapshot, JobError> {
        let bundle = if self.forgetful { Vec::new() } else { self.open.clone() };
        Ok(NodeSnapshot { bundle, ..self.operator.snapshot(barrier)? })
    }

    fn restore(&mut self, state: &NodeState<'_>) -> Result<(), SnapshotError> {
        self.operator.restore(state)?;
        self.open = state.bundle(self.operator.key())?;
        self.open_rows = self.open.iter().map(Batch::num_rows).sum();
        self.opened = (self.open_rows > 0).then(|| self.clock.elapsed());
        Ok(())
    }
}
