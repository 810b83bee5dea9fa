//! Runs a [`JobGraph`]: tasks on threads, a commit when all have ended well.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender, bounded};
use wasmill_host::LogLevel;

use crate::batch::split_and_row;
use crate::config::{Config, default_max_parallelism};
use crate::connector::{Committable, Sink, SinkWriter, Subtask};
use crate::dead_letter::{DeadLetter, to_batch};
use crate::error::JobError;
use crate::exchange::{Edge, Output, Wires, partition, wires};
use crate::graph::{Exchange, JobGraph, NodeId, Operation};
use crate::metrics::JobMetrics;
use crate::operator::{Chained, SinkOperator, build};
use crate::source::{Numbered, Splits, WatermarkEmitter};
use crate::task::{Head, Inputs, SourceHead, Task};

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

type Log = dyn Fn(&LogRecord<'_>) + Send + Sync;

/// What a job needs from who runs it.
pub struct RunOptions {
    /// Called from the tasks' threads.
    pub log: Arc<Log>,
    pub clock: Arc<dyn Clock>,
}

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

/// What all tasks of a job share.
pub(crate) struct Shared {
    pub job: String,
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<JobMetrics>,
    log: Arc<Log>,
    /// By split number: name of the source, id of the split.
    splits: Vec<(String, String)>,
    dead_letters: Mutex<Option<Sender<DeadLetter>>>,
    prepared: Mutex<BTreeMap<String, Vec<Committable>>>,
    stop: AtomicBool,
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

    /// Waits while the writer of dead letters is behind.
    pub(crate) fn dead_letter(&self, letter: DeadLetter) -> Result<(), JobError> {
        let sender = locked(&self.dead_letters).clone();
        match sender {
            // The writer has failed and says why when the job is joined.
            Some(sender) => sender.send(letter).map_err(|_| JobError::Stopped),
            None => Ok(()),
        }
    }

    pub(crate) fn prepared(&self, node: &str, more: Vec<Committable>) {
        locked(&self.prepared).entry(node.to_owned()).or_default().extend(more);
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sleeps, but not through a stop.
    pub(crate) fn sleep(&self, time: Duration) {
        const STEP: Duration = Duration::from_millis(20);
        let until = Instant::now() + time;
        while !self.stopping() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(STEP));
        }
    }
}

/// What is behind these locks is whole after a panic elsewhere: each critical section is one call.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a job ended.
#[derive(Debug)]
pub struct Summary {
    pub duration: Duration,
    pub metrics: Arc<JobMetrics>,
    /// Stopped by [`RunningJob::stop`] before its sources ended.
    pub stopped: bool,
    /// Where each sink's output lies: (node, place).
    pub outputs: Vec<(String, String)>,
}

/// The sink of the dead letters, and the thread that writes them.
type Letters = (Arc<dyn Sink>, JoinHandle<Result<Vec<Committable>, JobError>>);

/// A job whose tasks are running.
pub struct RunningJob {
    shared: Arc<Shared>,
    tasks: Vec<(String, JoinHandle<Result<(), JobError>>)>,
    letters: Option<Letters>,
    sinks: Vec<(String, Arc<dyn Sink>)>,
    /// Do all sources end by themselves?
    bounded: bool,
    started: Instant,
}

/// Stops a job from elsewhere: a signal handler, a watchdog.
#[derive(Clone)]
pub struct StopHandle(Arc<Shared>);

impl StopHandle {
    /// See [`RunningJob::stop`].
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Opens sinks and UDFs and starts every task.
pub fn start(graph: &JobGraph, options: RunOptions) -> Result<RunningJob, JobError> {
    let started = Instant::now();
    let sinks: Vec<(String, Arc<dyn Sink>)> = graph
        .nodes
        .iter()
        .filter_map(|node| match &node.operation {
            Operation::Sink { sink } => Some((node.name.clone(), Arc::clone(sink))),
            _ => None,
        })
        .collect();
    for (node, sink) in &sinks {
        sink.start().map_err(|error| JobError::Connector { node: node.clone(), error })?;
    }
    if let Some(sink) = &graph.dead_letters {
        sink.start().map_err(JobError::DeadLetters)?;
    }
    let mut assigned = assign_splits(graph)?;
    let metrics = Arc::new(JobMetrics::new(graph.nodes.iter().map(|node| node.name.clone())));
    metrics.progress.total.set(assigned.size);
    let (letter_sender, letter_receiver) = bounded(1024);
    let shared = Arc::new(Shared {
        job: graph.name.clone(),
        config: graph.config.clone(),
        clock: options.clock,
        metrics,
        log: options.log,
        splits: std::mem::take(&mut assigned.names),
        dead_letters: Mutex::new(graph.dead_letters.is_some().then_some(letter_sender)),
        prepared: Mutex::default(),
        stop: AtomicBool::new(false),
    });
    let mut job = RunningJob {
        shared: Arc::clone(&shared),
        tasks: Vec::new(),
        letters: None,
        sinks,
        bounded: assigned.bounded,
        started,
    };
    if let Some(sink) = &graph.dead_letters {
        let writer = Arc::clone(sink);
        let name = graph.name.clone();
        let thread = spawn("dead-letters", move || write_letters(writer.as_ref(), &name, &letter_receiver))?;
        job.letters = Some((Arc::clone(sink), thread));
    }
    match start_tasks(graph, &shared, assigned, &mut job) {
        Ok(()) => Ok(job),
        Err(error) => {
            job.shared.stop.store(true, Ordering::Relaxed);
            job.abandon();
            Err(error)
        }
    }
}

/// Guests run on the task's own stack: wasmtime wants room for theirs and for the host's below it.
const STACK_BYTES: usize = 8 << 20;

fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, JobError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run);
    thread.map_err(|error| JobError::Thread { node: name.to_owned(), error })
}

struct Assigned {
    /// By source node and subtask.
    splits: BTreeMap<NodeId, Vec<Vec<Numbered>>>,
    names: Vec<(String, String)>,
    /// Sum of the sizes; 0 if one is unknown.
    size: u64,
    bounded: bool,
}

fn assign_splits(graph: &JobGraph) -> Result<Assigned, JobError> {
    let mut assigned = Assigned { splits: BTreeMap::new(), names: Vec::new(), size: 0, bounded: true };
    let mut sized = true;
    for (id, node) in graph.nodes.iter().enumerate() {
        let Operation::Source { source, .. } = &node.operation else { continue };
        assigned.bounded &= source.bounded();
        let splits = source.splits().map_err(|error| JobError::Connector { node: node.name.clone(), error })?;
        let mut subtasks = vec![Vec::new(); node.parallelism];
        for (index, split) in splits.into_iter().enumerate() {
            sized &= split.size.is_some();
            assigned.size += split.size.unwrap_or(0);
            // More splits than numbers share numbers: only the text of a dead letter's position suffers.
            let number = (assigned.names.len() % usize::from(u16::MAX)) as u16;
            assigned.names.push((node.name.clone(), split.id.clone()));
            subtasks[index % node.parallelism].push((number, split));
        }
        assigned.splits.insert(id, subtasks);
    }
    if !sized {
        assigned.size = 0;
    }
    Ok(assigned)
}

/// Nodes that run in one task, first to last.
fn chains(graph: &JobGraph) -> Vec<Vec<NodeId>> {
    let mut readers = vec![0; graph.nodes.len()];
    for node in &graph.nodes {
        node.inputs.iter().for_each(|(input, _)| readers[*input] += 1);
    }
    let mut chains: Vec<Vec<NodeId>> = Vec::new();
    let mut chain_of = vec![0; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        match node.inputs.as_slice() {
            [(input, Exchange::Forward)] if readers[*input] == 1 => {
                chain_of[id] = chain_of[*input];
                chains[chain_of[id]].push(id);
            }
            _ => {
                chain_of[id] = chains.len();
                chains.push(vec![id]);
            }
        }
    }
    chains
}

/// The channels of one chain, by subtask.
struct Ports {
    receivers: Vec<Vec<Receiver<crate::batch::StreamElement>>>,
    outputs: Vec<Vec<Edge>>,
}

fn start_tasks(
    graph: &JobGraph,
    shared: &Arc<Shared>,
    mut assigned: Assigned,
    job: &mut RunningJob,
) -> Result<(), JobError> {
    let chains = chains(graph);
    let mut ports = connect(graph, &chains)?;
    for (chain, ports) in chains.iter().zip(&mut ports) {
        let first = &graph.nodes[chain[0]];
        let mut splits = assigned.splits.remove(&chain[0]).unwrap_or_default().into_iter();
        for subtask in 0..first.parallelism {
            let head = match &first.operation {
                Operation::Source { source, watermark, on_error } => Head::Source(Box::new(SourceHead {
                    node: first.name.clone(),
                    splits: Splits::new(Arc::clone(source), *watermark, splits.next().unwrap_or_default()),
                    watermarks: WatermarkEmitter::new(shared.config.watermark_interval, shared.clock.elapsed()),
                    on_error: *on_error,
                    metrics: Arc::clone(&shared.metrics.nodes[chain[0]].1),
                })),
                _ => Head::Channels(Inputs::new(std::mem::take(&mut ports.receivers[subtask]))),
            };
            let output = Output { edges: std::mem::take(&mut ports.outputs[subtask]) };
            let (graph, shared, chain) = (graph.clone(), Arc::clone(shared), chain.clone());
            let thread = spawn(&format!("{}/{subtask}", first.name), move || {
                let mut unless_done = StopUnlessDone { shared: &Arc::clone(&shared), done: false };
                let chain = operators(&graph, &chain, subtask, &shared)?;
                Task { head, chain, output, shared }.run()?;
                unless_done.done = true;
                Ok(())
            })?;
            job.tasks.push((first.name.clone(), thread));
        }
    }
    Ok(())
}

/// A task that fails or panics stops the sources, also of parts of the graph that it is not connected with.
struct StopUnlessDone<'a> {
    shared: &'a Shared,
    done: bool,
}

impl Drop for StopUnlessDone<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Channels between chains, as the exchanges of the graph say.
fn connect(graph: &JobGraph, chains: &[Vec<NodeId>]) -> Result<Vec<Ports>, JobError> {
    let empty = |chain: &Vec<NodeId>| {
        let parallelism = graph.nodes[chain[0]].parallelism;
        let edges = (0..parallelism).map(|_| Vec::new()).collect();
        Ports { receivers: vec![Vec::new(); parallelism], outputs: edges }
    };
    let mut ports: Vec<Ports> = chains.iter().map(empty).collect();
    let ends_with = |id: NodeId| chains.iter().position(|chain| chain.last() == Some(&id));
    for (to, chain) in chains.iter().enumerate() {
        let node = &graph.nodes[chain[0]];
        for (input, exchange) in &node.inputs {
            let Some(from) = ends_with(*input) else { continue };
            let sender = &graph.nodes[*input];
            let Wires { senders, receivers } =
                wires(exchange, sender.parallelism, node.parallelism, graph.config.exchange_elements_max);
            for (port, more) in ports[to].receivers.iter_mut().zip(receivers) {
                port.extend(more);
            }
            let max = graph.config.max_parallelism.unwrap_or_else(|| default_max_parallelism(node.parallelism));
            for (subtask, (edges, senders)) in ports[from].outputs.iter_mut().zip(senders).enumerate() {
                let partition = partition(exchange, &sender.schema, subtask, max)
                    .map_err(|error| JobError::Arrow { node: node.name.clone(), error })?;
                edges.push(Edge { node: sender.name.clone(), senders, partition });
            }
        }
    }
    Ok(ports)
}

/// The operators of one subtask of a chain. UDFs are instantiated here, on the thread that will call them.
fn operators(
    graph: &JobGraph,
    chain: &[NodeId],
    subtask: usize,
    shared: &Arc<Shared>,
) -> Result<Vec<Chained>, JobError> {
    let mut operators = Vec::new();
    for &id in chain {
        let node = &graph.nodes[id];
        let metrics = Arc::clone(&shared.metrics.nodes[id].1);
        let input = node.inputs.first().map_or(&node.schema, |(input, _)| &graph.nodes[*input].schema);
        let operator = match &node.operation {
            Operation::Sink { sink } => {
                let place = Subtask { index: subtask, parallelism: node.parallelism };
                let writer = sink
                    .writer(&node.schema, place, &[])
                    .map_err(|error| JobError::Connector { node: node.name.clone(), error })?;
                let shared = Arc::clone(shared);
                let operator = SinkOperator { node: node.name.clone(), writer: Some(writer), shared };
                Some(Box::new(operator) as Box<dyn crate::operator::Operator>)
            }
            _ => build(node, input, subtask, shared, &metrics)?,
        };
        operators.extend(operator.map(|operator| Chained { operator, metrics }));
    }
    Ok(operators)
}

/// Letters are written in batches as they come; when the job has dropped its sender, the rest is prepared.
fn write_letters(sink: &dyn Sink, job: &str, letters: &Receiver<DeadLetter>) -> Result<Vec<Committable>, JobError> {
    const BATCH_LETTERS_MAX: usize = 1000;
    let subtask = Subtask { index: 0, parallelism: 1 };
    let mut writer: Box<dyn SinkWriter> =
        sink.writer(&crate::dead_letter::schema(), subtask, &[]).map_err(JobError::DeadLetters)?;
    while let Ok(first) = letters.recv() {
        let mut batch = vec![first];
        batch.extend(letters.try_iter().take(BATCH_LETTERS_MAX - 1));
        let rows = to_batch(job, &batch).map_err(|error| JobError::Arrow { node: "dead-letters".to_owned(), error })?;
        writer.write(&rows).map_err(JobError::DeadLetters)?;
    }
    writer.prepare().map_err(JobError::DeadLetters)
}

impl RunningJob {
    pub fn metrics(&self) -> &Arc<JobMetrics> {
        &self.shared.metrics
    }

    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.shared))
    }

    /// Sources stop reading, rows on their way are finished. A job that could go on for ever commits them; one whose
    /// sources are bounded commits nothing, since a part of its result would look like the whole.
    pub fn stop(&self) {
        self.stop_handle().stop();
    }

    pub fn is_finished(&self) -> bool {
        self.tasks.iter().all(|(_, task)| task.is_finished())
    }

    /// Waits for the end, then commits; after a failure, everything uncommitted is removed.
    pub fn wait(mut self) -> Result<Summary, JobError> {
        let mut outcome = self.join();
        let stopped = self.shared.stopping();
        if outcome.is_ok() && stopped && self.bounded {
            outcome = Err(JobError::Stopped);
        }
        match outcome.and_then(|letters| self.commit(&letters)) {
            Ok(()) => {}
            Err(error) => {
                self.abort();
                return Err(error);
            }
        }
        let outputs = self.sinks.iter().map(|(node, sink)| (node.clone(), sink.location())).collect();
        let (duration, metrics) = (self.started.elapsed(), Arc::clone(&self.shared.metrics));
        Ok(Summary { duration, metrics, stopped, outputs })
    }

    /// Waits for every task. The first error that is not just the echo of another's end is the job's.
    fn join(&mut self) -> Result<Vec<Committable>, JobError> {
        let mut failure: Option<JobError> = None;
        let mut keep = |error: JobError| {
            if matches!(failure, None | Some(JobError::Stopped)) {
                failure = Some(error);
            }
        };
        for (node, task) in self.tasks.drain(..) {
            match task.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => keep(error),
                Err(panic) => keep(JobError::Panic { node, message: panic_message(panic.as_ref()) }),
            }
        }
        *locked(&self.shared.dead_letters) = None;
        let mut prepared = Vec::new();
        if let Some((sink, thread)) = self.letters.take() {
            match thread.join() {
                Ok(Ok(letters)) => prepared = letters,
                Ok(Err(error)) => keep(error),
                Err(panic) => {
                    keep(JobError::Panic { node: "dead-letters".into(), message: panic_message(panic.as_ref()) });
                }
            }
            self.sinks.push(("dead-letters".to_owned(), sink));
        }
        failure.map_or(Ok(prepared), Err)
    }

    fn commit(&self, letters: &[Committable]) -> Result<(), JobError> {
        let prepared = locked(&self.shared.prepared);
        for (index, (node, sink)) in self.sinks.iter().enumerate() {
            let own = if node == "dead-letters" { Some(letters) } else { prepared.get(node).map(Vec::as_slice) };
            sink.commit(own.unwrap_or_default()).and_then(|()| sink.finish()).map_err(|error| {
                let before = self.sinks[..index].iter().map(|(node, sink)| (node.clone(), sink.location())).collect();
                JobError::Commit { node: node.clone(), error, before }
            })?;
        }
        Ok(())
    }

    fn abort(&self) {
        self.sinks.iter().for_each(|(_, sink)| sink.abort(&[]));
    }

    /// Ends what has started when the rest cannot start.
    fn abandon(mut self) {
        // Why it ends is already known; what the tasks say now is only its echo.
        let _echo = self.join();
        self.abort();
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
