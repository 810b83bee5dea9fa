//! What can be asked of a running job from outside, whoever asks: a signal, a command over HTTP, a page, a program that embeds it.
//!
//! These types go over the wire as JSON (docs/control.md), so a change here is a change there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::restore::Restored;
use crate::checkpoint::storage::CheckpointStorage;
use crate::connector::ConnectorError;
use crate::error::JobError;
use crate::graph::JobGraph;
use crate::job::{RequestError, RunningJob, StopHandle};
use crate::metrics::JobMetrics;
use crate::shared::locked;
use crate::udf_file::Environment;
use crate::validate::{self, calls};

/// Asks something of a job while it runs.
///
/// Calls come from any thread, several at once, and may take as long as a checkpoint takes. Only [`status`](Self::status) answers at
/// once.
pub trait JobControl: Send + Sync {
    fn status(&self) -> JobStatus;

    /// Takes a checkpoint now, and returns when it is complete.
    fn checkpoint(&self) -> Result<Taken, ControlError>;

    /// Takes a savepoint to `to`, a path or URL that means the same to every process; empty: where the job keeps its own. Returns
    /// when it is complete.
    fn savepoint(&self, to: &str) -> Result<Taken, ControlError>;

    /// Ends the job. With `savepoint` (as [`savepoint`](Self::savepoint) takes it) it is complete on return, and no row after it has
    /// been read. With `drain` every window and timer fires first, as if the sources had ended: the job is not meant to go on later.
    /// Returns when the end is certain; rows on their way may still be finished then.
    fn stop(&self, drain: bool, savepoint: Option<&str>) -> Result<Option<Taken>, ControlError>;

    /// Ends the job at once. What is not committed yet never is.
    fn cancel(&self) -> Result<(), ControlError>;

    /// Replaces the UDF called `udf` by the file at `path`, at a checkpoint, its state kept, and returns that checkpoint when the new
    /// version runs everywhere; [`Taken::millis`] is how long no row was read. Where that cannot be, the old one goes on.
    fn swap(&self, udf: &str, path: &Path) -> Result<Taken, ControlError>;
}

/// How a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    pub name: String,
    pub state: JobState,
    pub uptime_millis: u64,
    /// How often it failed and went on from a checkpoint.
    pub restarts: u64,
    /// The last that is complete.
    pub checkpoint: Option<CompletedCheckpoint>,
    /// In the order of the graph: what a node reads stands before it.
    pub nodes: Vec<NodeStatus>,
    /// Those that nodes call, by name.
    pub udfs: Vec<UdfStatus>,
}

/// Which file a UDF is now: that of the job, or the one for which it was swapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdfStatus {
    pub name: String,
    pub path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    Running,
    /// It failed, and goes on from its last checkpoint as soon as its restart strategy says so.
    Restarting,
    /// It reads nothing any more; rows on their way are being finished.
    Stopping,
    Finished,
    Failed,
}

/// What a node is and has done since the job began, all subtasks together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub name: String,
    /// `filter legs.is_late`, for a person.
    pub is: String,
    /// The nodes that it reads. A source has none.
    pub inputs: Vec<String>,
    pub parallelism: usize,
    pub rows_in: u64,
    pub rows_out: u64,
    pub row_errors: u64,
    pub late_rows: u64,
    /// Calls of a UDF.
    pub bundles: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedCheckpoint {
    pub id: u64,
    /// When, in milliseconds since 1970-01-01T00:00Z.
    pub completed_at_millis: i64,
    pub bytes: u64,
    /// How long it took.
    pub millis: u64,
}

/// A checkpoint or savepoint that was asked for and is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub id: u64,
    /// What `wasmill run --from` takes.
    pub location: String,
    pub bytes: u64,
    pub millis: u64,
}

/// Why a job did not do what was asked. The job goes on as if it had not been asked, unless the message says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// This job cannot do that, now or ever.
    #[error("{0}")]
    NotPossible(String),
    /// What was given does not fit: a UDF of other types, a place that cannot be written.
    #[error("{0}")]
    Refused(String),
    /// It was tried. Another try may succeed.
    #[error("{0}")]
    Failed(String),
    #[error("the job has ended")]
    Ended,
}

/// Opens the place that a path or URL names.
pub type OpenPlace = dyn Fn(&str) -> Result<Arc<dyn CheckpointStorage>, ConnectorError> + Send + Sync;

/// Where a job keeps what it takes.
pub struct Places {
    pub checkpoints: Arc<dyn CheckpointStorage>,
    /// The folder of savepoints that are not told another place, as [`open`](Self::open) takes it.
    pub savepoints: String,
    pub open: Box<OpenPlace>,
}

/// Control of a job by its [`StopHandle`].
pub struct Controlled {
    name: String,
    /// What is known of each node before it runs, in the order of the metrics.
    nodes: Vec<NodeStatus>,
    metrics: Arc<JobMetrics>,
    started: Instant,
    handle: StopHandle,
    places: Option<Places>,
    environment: Environment,
    /// The job as it runs now.
    graph: Mutex<Arc<JobGraph>>,
    /// Held during a swap: the next one begins with what this one leaves.
    swapping: Mutex<()>,
}

impl Controlled {
    /// Of `job`, which runs `graph` and has just been started; without `places` it takes no checkpoints. `environment` is that in which
    /// `graph` was validated, for UDFs that are swapped in.
    pub fn new(graph: &JobGraph, job: &RunningJob, places: Option<Places>, environment: Environment) -> Controlled {
        let nodes = graph.nodes().iter().map(|node| NodeStatus {
            name: node.name().to_owned(),
            is: node.describe(),
            inputs: node.inputs().iter().map(|(input, _)| graph.nodes()[*input].name().to_owned()).collect(),
            parallelism: node.parallelism(),
            rows_in: 0,
            rows_out: 0,
            row_errors: 0,
            late_rows: 0,
            bundles: 0,
        });
        Controlled {
            name: graph.name().to_owned(),
            nodes: nodes.collect(),
            metrics: Arc::clone(job.metrics()),
            started: Instant::now(),
            handle: job.stop_handle(),
            places,
            environment,
            graph: Mutex::new(Arc::new(graph.clone())),
            swapping: Mutex::new(()),
        }
    }

    fn places(&self, instead: &str) -> Result<&Places, ControlError> {
        self.places.as_ref().ok_or_else(|| no_checkpoints(instead))
    }

    /// Takes a savepoint to `to` by `take`. There is one in a place, and what is there already is never replaced.
    fn save(
        &self,
        places: &Places,
        to: &str,
        take: impl FnOnce(Arc<dyn CheckpointStorage>) -> Result<u64, RequestError>,
    ) -> Result<Taken, ControlError> {
        let began = Instant::now();
        let own = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("{}/savepoint-{}", places.savepoints.trim_end_matches('/'), now.as_millis())
        };
        let to = if to.is_empty() { own() } else { to.to_owned() };
        let storage = (places.open)(&to).map_err(|error| ControlError::Refused(with_causes(&error)))?;
        let _claim = storage.claim().map_err(|error| ControlError::Refused(with_causes(&error)))?;
        let found = storage.list("").map_err(|error| ControlError::Refused(with_causes(&error)))?;
        if let Some(name) = found.first() {
            let place = storage.location(None);
            let message = format!("{place} is not empty ({name} is there): give the savepoint a place of its own");
            return Err(ControlError::Refused(message));
        }
        let id = take(Arc::clone(&storage))?;
        let bytes = Restored::newest(&storage).ok().flatten().map_or(0, |taken| bytes_of(&taken.manifest));
        Ok(Taken { id, location: storage.location(None), bytes, millis: millis(began.elapsed()) })
    }
}

impl JobControl for Controlled {
    fn status(&self) -> JobStatus {
        let nodes = self.nodes.iter().zip(&self.metrics.nodes).map(|(known, (_, counted))| NodeStatus {
            rows_in: counted.rows_in.get(),
            rows_out: counted.rows_out.get(),
            row_errors: counted.row_errors.get(),
            late_rows: counted.late_rows.get(),
            bundles: counted.bundles.get(),
            ..known.clone()
        });
        let recovery = &self.metrics.recovery;
        let checkpoint = recovery.last_checkpoint().map(|last| CompletedCheckpoint {
            id: last.id,
            completed_at_millis: last.completed_at_ms,
            bytes: last.bytes,
            millis: millis(last.took),
        });
        JobStatus {
            name: self.name.clone(),
            state: match (self.handle.is_stopping(), recovery.is_restarting()) {
                (true, _) => JobState::Stopping,
                (false, true) => JobState::Restarting,
                (false, false) => JobState::Running,
            },
            uptime_millis: millis(self.started.elapsed()),
            restarts: recovery.restarts.get(),
            checkpoint,
            nodes: nodes.collect(),
            udfs: udfs(&locked(&self.graph)),
        }
    }

    fn checkpoint(&self) -> Result<Taken, ControlError> {
        let (storage, began) = (&self.places("")?.checkpoints, Instant::now());
        let id = self.handle.checkpoint()?;
        Ok(taken_in(storage, id, began.elapsed()))
    }

    fn savepoint(&self, to: &str) -> Result<Taken, ControlError> {
        self.save(self.places("")?, to, |storage| self.handle.savepoint(storage))
    }

    fn stop(&self, drain: bool, savepoint: Option<&str>) -> Result<Option<Taken>, ControlError> {
        match (savepoint, drain) {
            (Some(to), _) => {
                let places = self.places(", or stop it without a savepoint (--no-savepoint)")?;
                self.save(places, to, |storage| self.handle.stop_with(drain, Some(storage))).map(Some)
            }
            (None, true) => {
                self.places(", or stop it without --drain")?;
                self.handle.stop_with(true, None)?;
                Ok(None)
            }
            (None, false) if self.places.is_some() => {
                self.handle.stop_with(false, None)?;
                Ok(None)
            }
            (None, false) => {
                self.handle.stop();
                Ok(None)
            }
        }
    }

    fn cancel(&self) -> Result<(), ControlError> {
        Ok(self.handle.cancel()?)
    }

    fn swap(&self, udf: &str, path: &Path) -> Result<Taken, ControlError> {
        let storage = &self.places("")?.checkpoints;
        let _one_after_the_other = locked(&self.swapping);
        let graph = Arc::clone(&locked(&self.graph));
        let graph = validate::swap::swap(&graph, udf, path, &self.environment);
        let graph = graph.map_err(|error| ControlError::Refused(error.to_string()))?;
        let began = Instant::now();
        let id = self.handle.swap(graph.clone())?;
        let took = began.elapsed();
        *locked(&self.graph) = Arc::new(graph);
        Ok(taken_in(storage, id, took))
    }
}

impl From<RequestError> for ControlError {
    fn from(error: RequestError) -> ControlError {
        match error {
            RequestError::NoCheckpoints => no_checkpoints(""),
            RequestError::NotRunning | RequestError::Failed(_) => ControlError::Failed(error.to_string()),
            RequestError::Unfit(why) => ControlError::Refused(why),
        }
    }
}

fn no_checkpoints(instead: &str) -> ControlError {
    let message =
        format!("this job takes no checkpoints: set execution.checkpointing.dir in its configuration{instead}");
    ControlError::NotPossible(message)
}

/// The job's own checkpoint `id`, which may have made room for the next one by now.
fn taken_in(storage: &Arc<dyn CheckpointStorage>, id: u64, took: Duration) -> Taken {
    let bytes = Restored::checkpoint(storage, id).map_or(0, |taken| bytes_of(&taken.manifest));
    Taken { id, location: storage.location(None), bytes, millis: millis(took) }
}

fn udfs(graph: &JobGraph) -> Vec<UdfStatus> {
    let called = graph.nodes.iter().flat_map(|node| calls(&node.operation));
    let paths: BTreeMap<&str, &Path> = called.map(|call| (call.udf.name.as_str(), call.udf.path.as_path())).collect();
    paths.into_iter().map(|(name, path)| UdfStatus { name: name.to_owned(), path: path.to_owned() }).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The sizes of the files that a checkpoint consists of, also those that it shares with others.
fn bytes_of(manifest: &Manifest) -> u64 {
    let subtasks = manifest.nodes.iter().flat_map(|node| &node.subtasks);
    let files = subtasks.flat_map(|subtask| subtask.keyed.iter().chain(&subtask.bundle));
    files.chain(manifest.channels.iter().filter_map(|channel| channel.file.as_ref())).map(|file| file.bytes).sum()
}

/// A message goes over the wire as one text.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    in_one(error.to_string(), error.source())
}

/// As [`with_causes`], of what ends a job.
pub(crate) fn job_with_causes(error: &JobError) -> String {
    in_one(error.to_string(), error.behind())
}

fn in_one(mut text: String, mut cause: Option<&(dyn std::error::Error + 'static)>) -> String {
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
