//! Runs a [`JobGraph`]: tasks on threads, a commit when all have ended well.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Sender, bounded, unbounded};
use wasmill_host::LogLevel;

use crate::assembly::Assembly;
use crate::checkpoint::coordinator::Coordinator;
use crate::checkpoint::fit;
use crate::checkpoint::keeper::Keeper;
use crate::checkpoint::protocol::{Outcome, Plan, Refusal, Request};
use crate::checkpoint::restore::Restored;
use crate::checkpoint::snapshot::Stop;
use crate::checkpoint::storage::{CheckpointStorage, Claim};
use crate::error::JobError;
use crate::graph::JobGraph;
use crate::metrics::JobMetrics;
use crate::replay::Failures;
use crate::state;
use crate::supervisor::{Ended, Supervisor, Surroundings, Wish, end, spawn};

/// The clock that UDFs, bundles and tasks go by.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01T00:00Z.
    fn processing_time_ms(&self) -> i64;

    /// Time since some moment before the job began. It never goes back, whatever becomes of the date.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn processing_time_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn elapsed(&self) -> Duration {
        static FIRST_ASKED: LazyLock<Instant> = LazyLock::new(Instant::now);
        FIRST_ASKED.elapsed()
    }
}

/// A line that a UDF logged or printed.
pub struct LogRecord<'a> {
    pub job: &'a str,
    pub node: &'a str,
    pub subtask: usize,
    pub udf: &'a str,
    pub level: LogLevel,
    pub message: &'a str,
}

pub type Log = dyn Fn(&LogRecord<'_>) + Send + Sync;

/// What a job needs from who runs it.
pub struct RunOptions {
    /// Called from the tasks' threads.
    pub log: Arc<Log>,
    pub clock: Arc<dyn Clock>,
    /// Where checkpoints go; without it the job takes none, whatever its configuration says.
    pub checkpoints: Option<Arc<dyn CheckpointStorage>>,
    /// What the job goes on from.
    pub from: Option<Restored>,
    /// State of nodes that the job does not have any more is left out, where it would else be refused.
    pub allow_non_restored: bool,
    /// Where calls that end the job are recorded; without it none is.
    pub failures: Option<Failures>,
}

impl RunOptions {
    /// A job that begins at its beginning, takes no checkpoints and records nothing.
    pub fn new(log: Arc<Log>) -> RunOptions {
        let clock = Arc::new(SystemClock);
        RunOptions { log, clock, checkpoints: None, from: None, allow_non_restored: false, failures: None }
    }
}

/// How a job ended.
#[derive(Debug)]
pub struct Summary {
    pub duration: Duration,
    pub metrics: Arc<JobMetrics>,
    /// Stopped by [`RunningJob::stop`] before its sources ended.
    pub stopped: bool,
    /// The checkpoint from which a stopped job can go on.
    pub checkpoint: Option<u64>,
    /// How often a part of it was started again after a failure.
    pub restarts: u64,
    /// Where each sink's output lies: (node, place).
    pub outputs: Vec<(String, String)>,
}

/// A job whose tasks are running.
pub struct RunningJob {
    metrics: Arc<JobMetrics>,
    handle: StopHandle,
    supervisor: JoinHandle<Ended>,
    started: Instant,
    /// No other job keeps its checkpoints in the same place meanwhile.
    _claim: Option<Box<dyn Claim>>,
}

/// Stops a job from elsewhere, and asks it for checkpoints: a signal handler, a watchdog, a server.
#[derive(Clone)]
pub struct StopHandle {
    wishes: Sender<Wish>,
    stop: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
    numbers: Arc<AtomicU64>,
    checkpoints: bool,
    /// Do all sources end by themselves?
    bounded: bool,
}

/// Why a running job did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the job takes no checkpoints: give it execution.checkpointing.dir")]
    NoCheckpoints,
    #[error(
        "the job does not run just now: it is starting again after a failure, taking up a new version of a UDF, or coming to its end"
    )]
    NotRunning,
    #[error("{0}")]
    Failed(String),
    /// What was given does not work in this job.
    #[error("{0}")]
    Unfit(String),
}

impl StopHandle {
    /// See [`RunningJob::stop`].
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let request = match (self.checkpoints, self.bounded) {
            (true, _) => Request::Stop { request: number, stop: Stop::Suspend, savepoint: false },
            (false, true) => Request::Cancel(number),
            (false, false) => {
                self.stop.store(true, Ordering::Relaxed);
                return;
            }
        };
        let (answer, _nobody_waits) = bounded(1);
        // An error: the job has ended already.
        let _ended = self.wishes.send(Wish::Request(request, None, answer));
    }

    /// A checkpoint now; its number.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn checkpoint(&self) -> Result<u64, RequestError> {
        self.ask(Request::Checkpoint, None)
    }

    /// A savepoint into `to`; its number.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn savepoint(&self, to: Arc<dyn CheckpointStorage>) -> Result<u64, RequestError> {
        self.ask(Request::Savepoint, Some(to))
    }

    /// Ends the job with a last savepoint in `to`, or else a last checkpoint, which is committed; its number. With `drain` event
    /// time goes to its end before, so that all windows fire: for a job that is not to go on.
    ///
    /// # Errors
    /// [`RequestError`]; the job goes on then.
    pub fn stop_with(&self, drain: bool, to: Option<Arc<dyn CheckpointStorage>>) -> Result<u64, RequestError> {
        let stop = if drain { Stop::Drain } else { Stop::Suspend };
        let savepoint = to.is_some();
        let stopped = self.ask(|request| Request::Stop { request, stop, savepoint }, to);
        self.stopped.fetch_or(stopped.is_ok(), Ordering::Relaxed);
        stopped
    }

    /// Ends the job at once; what is not committed never will be, but by going on from its last checkpoint.
    ///
    /// # Errors
    /// [`RequestError::NotRunning`] where it has ended already.
    pub fn cancel(&self) -> Result<(), RequestError> {
        self.ask(Request::Cancel, None).map(drop)
    }

    /// Goes on with the functions of `graph`, from a checkpoint that is taken now, with the state that there is; the checkpoint's
    /// number, when all tasks have begun with them. `graph` is from [`swap`](crate::validate::swap::swap).
    ///
    /// # Errors
    /// [`RequestError`]; the job goes on with the functions that it has.
    pub fn swap(&self, graph: JobGraph) -> Result<u64, RequestError> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.answer(|sender| Wish::Swap(number, Box::new(graph), sender))
    }

    /// Has it been told to stop, and said that it will?
    pub fn is_stopping(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn ask(
        &self,
        request: impl FnOnce(u64) -> Request,
        to: Option<Arc<dyn CheckpointStorage>>,
    ) -> Result<u64, RequestError> {
        let request = request(self.numbers.fetch_add(1, Ordering::Relaxed));
        self.answer(|sender| Wish::Request(request, to, sender))
    }

    fn answer(&self, wish: impl FnOnce(Sender<Result<u64, Refusal>>) -> Wish) -> Result<u64, RequestError> {
        let (sender, answer) = bounded(1);
        let asked = self.wishes.send(wish(sender));
        let answer = asked.ok().and_then(|()| answer.recv().ok()).unwrap_or(Err(Refusal::NotRunning));
        answer.map_err(|refusal| match refusal {
            Refusal::NoCheckpoints => RequestError::NoCheckpoints,
            Refusal::NotRunning => RequestError::NotRunning,
            Refusal::Failed(why) => RequestError::Failed(why),
            Refusal::Unfit(why) => RequestError::Unfit(why),
        })
    }
}

/// Opens sinks and UDFs and starts every task.
///
/// # Errors
/// What is wrong before any task runs; what goes wrong in a task is told by [`RunningJob::wait`].
pub fn start(graph: &JobGraph, options: RunOptions) -> Result<RunningJob, JobError> {
    let started = Instant::now();
    let RunOptions { log, clock, checkpoints, from, allow_non_restored, failures } = options;
    let claim = checkpoints.as_ref().map(|storage| storage.claim()).transpose()?;
    if let Some(storage) = &checkpoints {
        fit::place(graph, storage, from.as_ref())?;
    }
    if let Some(from) = &from {
        fit::job(graph, from, allow_non_restored)?;
    }
    state::check_place(&graph.config.state_backend).map_err(JobError::StatePlace)?;
    let assembly = Arc::new(Assembly::new(graph, from.as_ref())?);
    let metrics = Arc::new(JobMetrics::new(graph.nodes.iter().map(|node| node.name.clone())));
    metrics.progress.total.set(assembly.size);
    let (events, incoming) = unbounded();
    let (wishes, wished) = unbounded();
    let stop = Arc::new(AtomicBool::new(false));
    let handle = StopHandle {
        wishes,
        stop: Arc::clone(&stop),
        stopped: Arc::default(),
        numbers: Arc::new(AtomicU64::new(1)),
        checkpoints: checkpoints.is_some(),
        bounded: assembly.bounded,
    };
    let surroundings = Surroundings {
        assembly: Arc::clone(&assembly),
        clock: Arc::clone(&clock),
        log,
        metrics: Arc::clone(&metrics),
        stop,
        checkpoints: checkpoints.is_some(),
        letters: Arc::new(Mutex::new(None)),
        failures: failures.map(Arc::new),
        events,
        sabotage: None,
    };
    let policy = checkpoints.is_some().then(|| graph.config.checkpoint.clone());
    let plan = Plan {
        tasks: assembly.plans(),
        regions: assembly.region_count(),
        checkpoints: policy,
        restart: graph.config.restart_strategy(),
        from: from.as_ref().map(|from| from.manifest.checkpoint),
        sabotage: None,
    };
    let keeper = Keeper::new(assembly, checkpoints, from.as_ref());
    let finished = from.is_some_and(|from| from.manifest.finished);
    let supervisor = match finished {
        true => finish_again(keeper, &plan)?,
        false => {
            let coordinator = Coordinator::new(plan, clock.elapsed());
            let supervisor = Supervisor::new(surroundings, coordinator, keeper, incoming, wished)?;
            spawn("supervisor", move || supervisor.run())?
        }
    };
    Ok(RunningJob { metrics, handle, supervisor, started, _claim: claim })
}

/// A job that had come to its end: all that may be missing is its last commit.
fn finish_again(mut keeper: Keeper, plan: &Plan) -> Result<JoinHandle<Ended>, JobError> {
    let (regions, from) = (plan.regions, plan.from);
    spawn("supervisor", move || {
        let committed = (0..regions).try_for_each(|region| keeper.ready(region, from));
        let outcome = committed.and_then(|()| end(&keeper, Outcome::Finished)).unwrap_or_else(Outcome::Failed);
        Ended { outcome, outputs: keeper.outputs(), restarts: 0 }
    })
}

impl RunningJob {
    pub fn metrics(&self) -> &Arc<JobMetrics> {
        &self.metrics
    }

    pub fn stop_handle(&self) -> StopHandle {
        self.handle.clone()
    }

    /// Ends the job before its sources do. One that takes checkpoints takes a last one, commits, and can go on from there. Of the
    /// others, one that could go on for ever commits the rows that are on their way; one whose sources are bounded commits
    /// nothing, since a part of its result would look like the whole.
    pub fn stop(&self) {
        self.handle.stop();
    }

    pub fn is_finished(&self) -> bool {
        self.supervisor.is_finished()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// What ended the job, if it did not come to its end and was not stopped. What was not committed has been removed.
    pub fn wait(self) -> Result<Summary, JobError> {
        let ended = self.supervisor.join().map_err(|_| JobError::Panic {
            node: "supervisor".to_owned(),
            message: "see the standard error".to_owned(),
        })?;
        let (duration, metrics) = (self.started.elapsed(), self.metrics);
        let stopped = self.handle.stopped.load(Ordering::Relaxed);
        let Ended { outcome, outputs, restarts } = ended;
        match outcome {
            Outcome::Finished => {
                // One that takes checkpoints is stopped by a checkpoint: this one was at its end before that could be asked for.
                let stopped = stopped && !self.handle.checkpoints;
                Ok(Summary { duration, metrics, stopped, checkpoint: None, restarts, outputs })
            }
            Outcome::Stopped { checkpoint } => {
                Ok(Summary { duration, metrics, stopped: true, checkpoint, restarts, outputs })
            }
            Outcome::Cancelled => Err(JobError::Stopped),
            Outcome::Failed(error) => Err(error),
        }
    }
}
