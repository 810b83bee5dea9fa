//! Checkpoints: what makes a job go on after a failure as if there had been none.
//!
//! ```text
//! coordinator ──barrier──▶ sources ──in band──▶ every task ──snapshot──▶ files ──▶ manifest ──▶ commit
//! ```
//!
//! A [barrier](snapshot::Barrier) enters the streams at the sources. A task that has it from all its inputs hands over what it
//! knows; the [coordinator](coordinator::Coordinator) lets that be written, then the [manifest], which makes the checkpoint
//! complete, and only then may sinks commit. What to do is decided by the coordinator, a state machine without threads or files:
//! the [supervisor](crate::supervisor) carries it out, and the simulator does so with faults.

pub(crate) mod batches;
pub mod container;
pub mod inspect;
pub(crate) mod keyed;
pub mod manifest;
pub(crate) mod rows;
pub mod storage;

pub mod restart;

pub(crate) mod changes;
pub(crate) mod coordinator;
pub(crate) mod fit;
pub(crate) mod keeper;
pub(crate) mod protocol;
pub mod restore;
pub(crate) mod snapshot;

use arrow::error::ArrowError;

use container::ContainerError;
use manifest::ManifestError;
use storage::StorageError;

use crate::error::StateError;

/// Why a checkpoint cannot be written or gone on from.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("it is damaged: {0}")]
    Arrow(#[from] ArrowError),
    #[error("it is damaged: {0}")]
    Columns(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// State that is kept on disk.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file of it.
    #[error("{place}: {error}")]
    File { place: String, error: Box<SnapshotError> },
    /// It is whole, but the job is another one.
    #[error("{place}: {message}")]
    Unfit { place: String, message: String },
}
