//! Counters of a running job: written by tasks once a batch, read by whoever watches.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Relaxed: counters order nothing.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one node has done so far, all subtasks together.
#[derive(Debug, Default)]
pub struct NodeMetrics {
    pub rows_in: Counter,
    pub rows_out: Counter,
    /// Guest calls.
    pub bundles: Counter,
    /// Rows whose UDF raised, or that a source could not read, whatever became of them.
    pub row_errors: Counter,
    /// Rows that came after their window had fired.
    pub late_rows: Counter,
}

/// How far a source has come, in the unit of its splits' sizes (rows or bytes).
#[derive(Debug, Default)]
pub struct Progress {
    pub done: Counter,
    /// 0 = unknown.
    pub total: Counter,
}

/// A checkpoint that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCheckpoint {
    pub id: u64,
    /// Milliseconds since 1970-01-01T00:00Z.
    pub completed_at_ms: i64,
    /// Of all files that it names, those of earlier ones too.
    pub bytes: u64,
    /// From its barrier to its manifest.
    pub took: Duration,
}

/// How the job has fared as a whole.
#[derive(Debug, Default)]
pub struct Recovery {
    /// How often a part of it was started again after a failure.
    pub restarts: Counter,
    restarting: AtomicBool,
    last: Mutex<Option<LastCheckpoint>>,
}

impl Recovery {
    /// Does a part of it wait to be started again?
    pub fn is_restarting(&self) -> bool {
        self.restarting.load(Ordering::Relaxed)
    }

    /// The newest checkpoint.
    pub fn last_checkpoint(&self) -> Option<LastCheckpoint> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn failed(&self) {
        self.restarts.add(1);
        self.restarting.store(true, Ordering::Relaxed);
    }

    pub(crate) fn started(&self) {
        self.restarting.store(false, Ordering::Relaxed);
    }

    pub(crate) fn completed(&self, checkpoint: LastCheckpoint) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(checkpoint);
    }
}

/// The metrics of a job.
#[derive(Debug)]
pub struct JobMetrics {
    /// In the order of [`crate::graph::JobGraph::nodes`].
    pub nodes: Vec<(String, Arc<NodeMetrics>)>,
    pub progress: Progress,
    pub recovery: Recovery,
}

impl JobMetrics {
    pub(crate) fn new(names: impl Iterator<Item = String>) -> JobMetrics {
        JobMetrics {
            nodes: names.map(|name| (name, Arc::default())).collect(),
            progress: Progress::default(),
            recovery: Recovery::default(),
        }
    }

    /// The metrics of the node called `name`.
    pub fn node(&self, name: &str) -> Option<&NodeMetrics> {
        self.nodes.iter().find(|(node, _)| node == name).map(|(_, metrics)| metrics.as_ref())
    }
}
