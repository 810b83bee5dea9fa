//! What the coordinator is told, and what it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::SnapshotError;
use super::manifest::{ChannelManifest, SubtaskManifest};
use super::restart::RestartStrategy;
use super::snapshot::{Barrier, Stop, TaskSnapshot};
use crate::config::CheckpointConfig;
use crate::connector::Committable;
use crate::error::JobError;
use crate::simulate::Sabotage;

/// Index of a task in [`Plan::tasks`].
pub(crate) type TaskId = usize;
pub(crate) type RegionId = usize;

/// What there is to coordinate.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub tasks: Vec<TaskPlan>,
    pub regions: usize,
    /// `None`: the job takes no checkpoints.
    pub checkpoints: Option<CheckpointConfig>,
    pub restart: RestartStrategy,
    /// The number of the checkpoint from which the job goes on.
    pub from: Option<u64>,
    /// Only in a simulation.
    pub sabotage: Option<Sabotage>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskPlan {
    pub region: RegionId,
    /// Barriers begin here.
    pub source: bool,
}

/// Where files go: to the job's checkpoints, or to a savepoint, by the number of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Checkpoints,
    Savepoint(u64),
}

/// One part of a checkpoint, written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TaskRecord {
    pub nodes: Vec<NodeRecord>,
    pub channels: Vec<ChannelManifest>,
    /// Those of a later checkpoint build on this one's files.
    pub confirmed: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeRecord {
    pub node: usize,
    pub subtask: usize,
    pub manifest: SubtaskManifest,
    /// Its keyed state is all there is, not an addition.
    pub full: bool,
}

/// All parts of a complete checkpoint, with every file that they need.
pub(crate) type Record = BTreeMap<TaskId, TaskRecord>;

/// What a user asks of a running job; the number is the user's, for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Checkpoint(u64),
    Savepoint(u64),
    /// With a last savepoint, or a last checkpoint.
    Stop {
        request: u64,
        stop: Stop,
        savepoint: bool,
    },
    /// At once; nothing more is committed.
    Cancel(u64),
    /// All tasks end with a checkpoint, and begin again from it with the functions that go with this request.
    Swap(u64),
}

impl Request {
    pub(crate) fn number(self) -> u64 {
        match self {
            Request::Checkpoint(number)
            | Request::Savepoint(number)
            | Request::Cancel(number)
            | Request::Swap(number) => number,
            Request::Stop { request, .. } => request,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    /// Time has passed.
    Tick,
    /// A task is there, with its functions and what they knew, and is about to read its first row.
    Opened {
        task: TaskId,
        attempt: u64,
    },
    Acknowledged {
        task: TaskId,
        attempt: u64,
        checkpoint: u64,
        snapshot: TaskSnapshot,
    },
    /// A task has come to its end, with its last words, or failed.
    Ended {
        task: TaskId,
        attempt: u64,
        outcome: Result<TaskSnapshot, JobError>,
    },
    /// A region could not be started; no task of it runs.
    NotStarted {
        region: RegionId,
        attempt: u64,
        error: JobError,
    },
    Written {
        task: TaskId,
        attempt: u64,
        checkpoint: u64,
        /// They were the task's last words.
        last: bool,
        result: Result<TaskRecord, SnapshotError>,
    },
    /// The manifest is there, or is not.
    Completed {
        checkpoint: u64,
        result: Result<(), SnapshotError>,
    },
    Committed {
        checkpoint: u64,
        result: Result<(), JobError>,
    },
    Requested(Request),
}

#[derive(Debug)]
pub(crate) enum Action {
    /// To a task that is a source.
    Trigger {
        task: TaskId,
        attempt: u64,
        barrier: Barrier,
    },
    Write {
        task: TaskId,
        attempt: u64,
        checkpoint: u64,
        target: Target,
        last: bool,
        snapshot: Arc<TaskSnapshot>,
    },
    Complete {
        checkpoint: u64,
        target: Target,
        finished: bool,
        /// When its barrier was sent.
        began: Duration,
        record: Record,
    },
    /// What sinks prepared, by node.
    Commit {
        checkpoint: u64,
        prepared: BTreeMap<usize, Vec<Committable>>,
    },
    /// Only these complete checkpoints, and what they need, are wanted any more.
    /// Files of a checkpoint before `pending_from` that none of them names are nobody's.
    Retain {
        checkpoints: BTreeSet<u64>,
        pending_from: u64,
    },
    Start {
        region: RegionId,
        attempt: u64,
        from: Option<u64>,
    },
    /// Every start from here on is with the functions that go with this request.
    Swap {
        request: u64,
    },
    /// With those before the last swap again.
    SwapBack,
    /// Its tasks end as soon as they can.
    Cancel {
        region: RegionId,
        attempt: u64,
    },
    Answer {
        request: u64,
        result: Result<u64, Refusal>,
    },
    /// For the log.
    Tell(Happening),
    /// The last one.
    Finish(Outcome),
}

/// What a person who watches wants to know.
#[derive(Debug)]
pub(crate) enum Happening {
    Failed { error: Arc<JobError>, wait: Duration, from: Option<u64> },
    GaveUp { checkpoint: u64, why: String },
    Swapped { checkpoint: u64 },
    SwappedBack { checkpoint: Option<u64>, why: String },
}

/// Why a request was not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoCheckpoints,
    NotRunning,
    Failed(String),
    /// What was given does not work in this job.
    Unfit(String),
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// All sources have ended.
    Finished,
    /// As asked; the job can go on from this checkpoint.
    Stopped {
        checkpoint: Option<u64>,
    },
    Cancelled,
    Failed(JobError),
}
