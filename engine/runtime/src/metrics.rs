//! Counters of a running job: written by tasks once a batch, read by whoever watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// The metrics of a job.
#[derive(Debug)]
pub struct JobMetrics {
    /// In the order of [`crate::graph::JobGraph::nodes`].
    pub nodes: Vec<(String, Arc<NodeMetrics>)>,
    pub progress: Progress,
}

impl JobMetrics {
    pub(crate) fn new(names: impl Iterator<Item = String>) -> JobMetrics {
        JobMetrics { nodes: names.map(|name| (name, Arc::default())).collect(), progress: Progress::default() }
    }

    /// The metrics of the node called `name`.
    pub fn node(&self, name: &str) -> Option<&NodeMetrics> {
        self.nodes.iter().find(|(node, _)| node == name).map(|(_, metrics)| metrics.as_ref())
    }
}
