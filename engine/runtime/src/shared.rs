//! What a task and its operators know of the job around them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::channel::Sender;

use crate::batch::split_and_row;
use crate::checkpoint::protocol::{Event, TaskId};
use crate::checkpoint::snapshot::TaskSnapshot;
use crate::config::Config;
use crate::dead_letter::{DeadLetter, LetterWriter};
use crate::error::JobError;
use crate::job::{Clock, Log, LogRecord};
use crate::metrics::JobMetrics;
use crate::replay::Failures;
use crate::simulate::Sabotage;

/// Where a row came from, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowPlace<'a> {
    pub source: &'a str,
    pub split: &'a str,
    pub row: u64,
}

impl std::fmt::Display for RowPlace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, split {}, row {}", self.source, self.split, self.row)
    }
}

/// One for each task.
pub(crate) struct Shared {
    pub job: String,
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<JobMetrics>,
    pub log: Arc<Log>,
    /// By split number: name of the source, id of the split.
    pub splits: Arc<[(String, String)]>,
    /// Are changes of state to be remembered?
    pub checkpoints: bool,
    /// Of all tasks, or of this one alone; `None`: the job has none.
    pub letters: Option<Arc<Mutex<LetterWriter>>>,
    /// `None`: calls that end the job are not recorded.
    pub failures: Option<Arc<Failures>>,
    /// Sources read nothing more; rows on their way are finished.
    pub stop: Arc<AtomicBool>,
    /// The region is given up.
    pub cancelled: Arc<AtomicBool>,
    pub reports: Reports,
    /// Only in a simulation.
    pub sabotage: Option<Sabotage>,
}

/// The way from a task to the coordinator.
#[derive(Clone)]
pub(crate) struct Reports {
    pub task: TaskId,
    pub attempt: u64,
    pub events: Sender<Event>,
}

impl Reports {
    pub(crate) fn opened(&self) {
        let Reports { task, attempt, ref events } = *self;
        // Nobody listens any more when the job is over.
        let _over = events.send(Event::Opened { task, attempt });
    }

    pub(crate) fn acknowledge(&self, checkpoint: u64, snapshot: TaskSnapshot) {
        let Reports { task, attempt, ref events } = *self;
        let _over = events.send(Event::Acknowledged { task, attempt, checkpoint, snapshot });
    }

    pub(crate) fn ended(&self, outcome: Result<TaskSnapshot, JobError>) {
        let Reports { task, attempt, ref events } = *self;
        let _over = events.send(Event::Ended { task, attempt, outcome });
    }
}

impl Shared {
    pub(crate) fn log(&self, record: &LogRecord<'_>) {
        (self.log)(record);
    }

    pub(crate) fn place_of(&self, position: u64) -> Option<RowPlace<'_>> {
        let (split, row) = split_and_row(position);
        let (source, split) = self.splits.get(usize::from(split))?;
        Some(RowPlace { source, split, row })
    }

    pub(crate) fn dead_letter(&self, letter: DeadLetter) -> Result<(), JobError> {
        match &self.letters {
            Some(letters) => locked(letters).push(letter),
            None => Ok(()),
        }
    }

    /// Is the end near: by a stop, or since the region is given up?
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cancelled()
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// How long a task that waits does not look whether the job is being stopped.
pub(crate) const WAIT_STEP: Duration = Duration::from_millis(20);

/// What is behind these locks is whole after a panic elsewhere: each critical section is one call.
pub(crate) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
