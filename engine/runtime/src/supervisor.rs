//! Runs a job: tasks on threads, files and commits on one more, and the [coordinator](Coordinator) that decides.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use wasmill_host::LogLevel;

use crate::assembly::{Assembly, Controls, EarlyBarriers, Seed};
use crate::checkpoint::coordinator::Coordinator;
use crate::checkpoint::keeper::Keeper;
use crate::checkpoint::protocol::{Action, Event, Happening, Outcome, Refusal, RegionId, Request, Target, TaskId};
use crate::checkpoint::restore::Restored;
use crate::checkpoint::snapshot::{Alignment, Barrier, TaskSnapshot};
use crate::checkpoint::storage::CheckpointStorage;
use crate::connector::{Committable, Subtask};
use crate::control::job_with_causes;
use crate::dead_letter::LetterWriter;
use crate::error::JobError;
use crate::graph::JobGraph;
use crate::job::{Clock, Log, LogRecord};
use crate::metrics::{JobMetrics, LastCheckpoint};
use crate::replay::Failures;
use crate::shared::{Reports, Shared, locked};
use crate::simulate::Sabotage;

/// Guests run on the task's own stack: wasmtime wants room for theirs and for the host's below it.
const STACK_BYTES: usize = 8 << 20;

pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, JobError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run);
    thread.map_err(|error| JobError::Thread { node: name.to_owned(), error })
}

/// What every task of a job is made with, whichever thread runs it.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub assembly: Arc<Assembly>,
    pub clock: Arc<dyn Clock>,
    pub log: Arc<Log>,
    pub metrics: Arc<JobMetrics>,
    pub stop: Arc<AtomicBool>,
    /// Does the job take checkpoints?
    pub checkpoints: bool,
    /// Of all tasks, where the job takes no checkpoints.
    pub letters: Arc<Mutex<Option<Arc<Mutex<LetterWriter>>>>>,
    /// `None`: calls that end the job are not recorded.
    pub failures: Option<Arc<Failures>>,
    pub events: Sender<Event>,
    /// Only in a simulation.
    pub sabotage: Option<Sabotage>,
}

impl Surroundings {
    /// What a task knows of the job.
    pub(crate) fn shared(
        &self,
        task: TaskId,
        attempt: u64,
        cancelled: &Arc<AtomicBool>,
        from: Option<&Restored>,
    ) -> Result<Arc<Shared>, JobError> {
        let graph = &self.assembly.graph;
        Ok(Arc::new(Shared {
            job: graph.name.clone(),
            config: graph.config.clone(),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            log: Arc::clone(&self.log),
            splits: Arc::clone(&self.assembly.split_names),
            checkpoints: self.checkpoints,
            letters: self.letters(task, from)?,
            failures: self.failures.clone(),
            stop: Arc::clone(&self.stop),
            cancelled: Arc::clone(cancelled),
            reports: Reports { task, attempt, events: self.events.clone() },
            sabotage: self.sabotage,
        }))
    }

    /// A writer of dead letters for the task alone, whose parts go with its checkpoints; without checkpoints one for all.
    fn letters(&self, task: TaskId, from: Option<&Restored>) -> Result<Option<Arc<Mutex<LetterWriter>>>, JobError> {
        let graph = &self.assembly.graph;
        let Some(sink) = &graph.dead_letters else { return Ok(None) };
        let open = |subtask| {
            let before = from.and_then(|from| from.manifest.node(crate::dead_letter::LETTERS));
            let states = before.map(crate::checkpoint::restore::writer_states).unwrap_or_default();
            let writer = sink.writer(&crate::dead_letter::schema(), subtask, &states).map_err(JobError::DeadLetters)?;
            Ok(Arc::new(Mutex::new(LetterWriter::new(&graph.name, writer, self.checkpoints))))
        };
        if self.checkpoints {
            return open(Subtask { index: task, parallelism: self.assembly.tasks.len() }).map(Some);
        }
        let mut shared = locked(&self.letters);
        if shared.is_none() {
            *shared = Some(open(Subtask { index: 0, parallelism: 1 })?);
        }
        Ok(shared.clone())
    }

    /// What the writer that all tasks share has written, at the end.
    pub(crate) fn last_letters(&self) -> Result<Vec<Committable>, JobError> {
        let Some(letters) = locked(&self.letters).take() else { return Ok(Vec::new()) };
        let end = Barrier { checkpoint: 1, confirmed: 0, full: true, alignment: Alignment::Aligned, stop: None };
        locked(&letters).snapshot(&end).map(|(_, prepared)| prepared)
    }
}

/// What the thread for files has to do, in order.
enum Chore {
    Do(Action),
    Expect {
        request: u64,
        storage: Arc<dyn CheckpointStorage>,
        last: bool,
    },
    /// What follows is of the job with other functions.
    Swap(Arc<Assembly>),
    /// The last one.
    End(Outcome),
}

/// A region whose sinks are ready.
struct Ready {
    region: RegionId,
    attempt: u64,
    from: Option<Restored>,
}

/// What comes from outside.
pub(crate) enum Wish {
    /// With where its savepoint goes, and to whom the answer.
    Request(Request, Option<Arc<dyn CheckpointStorage>>, Sender<Result<u64, Refusal>>),
    /// With the job as it is to go on, which differs from that which runs in its functions alone.
    Swap(u64, Box<JobGraph>, Sender<Result<u64, Refusal>>),
}

/// Tasks of a region, on their threads.
struct Running {
    attempt: u64,
    cancelled: Arc<AtomicBool>,
    controls: Controls,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) struct Supervisor {
    surroundings: Surroundings,
    coordinator: Coordinator,
    events: Receiver<Event>,
    wishes: Receiver<Wish>,
    ready: Receiver<Ready>,
    chores: Sender<Chore>,
    files: JoinHandle<(Keeper, Result<Outcome, JobError>)>,
    running: BTreeMap<RegionId, Running>,
    early: EarlyBarriers,
    answers: BTreeMap<u64, Sender<Result<u64, Refusal>>>,
    /// What the job would be after a swap, by its request.
    offered: BTreeMap<u64, Box<JobGraph>>,
    /// What the job was before a swap that may still be taken back.
    before: Option<Arc<Assembly>>,
}

/// How a job ended, and what it leaves.
pub(crate) struct Ended {
    pub outcome: Outcome,
    pub outputs: Vec<(String, String)>,
    pub restarts: u64,
}

impl Supervisor {
    pub(crate) fn new(
        surroundings: Surroundings,
        coordinator: Coordinator,
        keeper: Keeper,
        events: Receiver<Event>,
        wishes: Receiver<Wish>,
    ) -> Result<Supervisor, JobError> {
        let (chores, todo) = unbounded();
        let (to_start, ready) = unbounded();
        let context = surroundings.clone();
        let files = spawn("checkpoints", move || keep(keeper, context, &todo, &to_start))?;
        Ok(Supervisor {
            surroundings,
            coordinator,
            events,
            wishes,
            ready,
            chores,
            files,
            running: BTreeMap::new(),
            early: EarlyBarriers::default(),
            answers: BTreeMap::new(),
            offered: BTreeMap::new(),
            before: None,
        })
    }

    /// Runs the job to its end.
    pub(crate) fn run(mut self) -> Ended {
        let first = self.coordinator.start();
        let mut outcome = self.perform(first);
        while outcome.is_none() {
            outcome = self.step();
        }
        for (_, running) in std::mem::take(&mut self.running) {
            running.join();
        }
        let decided = outcome.unwrap_or(Outcome::Cancelled);
        let restarts = self.coordinator.restarts();
        let _it_waits_for_this = self.chores.send(Chore::End(decided));
        drop(self.chores);
        match self.files.join() {
            Ok((keeper, ended)) => {
                let outcome = ended.unwrap_or_else(Outcome::Failed);
                Ended { outcome, outputs: keeper.outputs(), restarts }
            }
            Err(panic) => {
                let error = JobError::Panic { node: "checkpoints".into(), message: panic_message(panic.as_ref()) };
                Ended { outcome: Outcome::Failed(error), outputs: Vec::new(), restarts }
            }
        }
    }

    /// Waits for something to happen, and does what follows from it.
    fn step(&mut self) -> Option<Outcome> {
        let now = self.surroundings.clock.elapsed();
        let wait = self.coordinator.wake_at().map_or(Duration::from_secs(3600), |at| at.saturating_sub(now));
        let mut select = crossbeam::channel::Select::new();
        let events = select.recv(&self.events);
        let wishes = select.recv(&self.wishes);
        select.recv(&self.ready);
        let found = if wait.is_zero() { Err(()) } else { select.ready_timeout(wait).map_err(drop) };
        let event = match found {
            Err(()) => Some(Event::Tick),
            Ok(index) if index == events => self.events.try_recv().ok(),
            Ok(index) if index == wishes => match self.wishes.try_recv() {
                Ok(Wish::Request(request, storage, answer)) => Some(self.wish(request, storage, answer)),
                Ok(Wish::Swap(number, graph, answer)) => {
                    self.offered.insert(number, graph);
                    Some(self.wish(Request::Swap(number), None, answer))
                }
                // Nobody will ask any more.
                Err(_) => {
                    self.wishes = crossbeam::channel::never();
                    None
                }
            },
            Ok(_) => {
                let ready = self.ready.try_recv().ok()?;
                self.launch(ready)
            }
        };
        let now = self.surroundings.clock.elapsed();
        let actions = self.coordinator.handle(event?, now);
        self.perform(actions)
    }

    fn wish(
        &mut self,
        request: Request,
        storage: Option<Arc<dyn CheckpointStorage>>,
        answer: Sender<Result<u64, Refusal>>,
    ) -> Event {
        let number = request.number();
        self.answers.insert(number, answer);
        if let Some(storage) = storage {
            let last = matches!(request, Request::Stop { .. });
            self.chore(Chore::Expect { request: number, storage, last });
        }
        Event::Requested(request)
    }

    fn chore(&self, chore: Chore) {
        // The thread ends only after the last chore.
        let _ended = self.chores.send(chore);
    }

    fn perform(&mut self, actions: Vec<Action>) -> Option<Outcome> {
        for action in actions {
            match action {
                Action::Trigger { task, attempt, barrier } => {
                    let mut regions = self.running.values().filter(|running| running.attempt == attempt);
                    match regions.find_map(|running| running.controls.get(&task)) {
                        // A source that has ended says so by itself.
                        Some(control) => drop(control.send(barrier)),
                        None => self.early.keep(task, attempt, barrier),
                    }
                }
                Action::Cancel { region, attempt } => {
                    if let Some(running) = self.running.get(&region).filter(|running| running.attempt == attempt) {
                        running.cancelled.store(true, Ordering::Relaxed);
                    }
                }
                Action::Swap { request } => {
                    if let Some(graph) = self.offered.remove(&request) {
                        let assembly = Arc::new(self.surroundings.assembly.with(*graph));
                        self.before = Some(self.swap(assembly));
                    }
                }
                Action::SwapBack => {
                    if let Some(before) = self.before.take() {
                        self.swap(before);
                    }
                }
                Action::Answer { request, result } => {
                    self.offered.remove(&request);
                    if let Some(answer) = self.answers.remove(&request) {
                        // Who asked may have gone.
                        let _gone = answer.send(result);
                    }
                }
                Action::Tell(happening) => {
                    if let Happening::Swapped { .. } = happening {
                        self.before = None;
                    }
                    self.tell(&happening);
                }
                Action::Start { region, .. } => {
                    if let Some(before) = self.running.remove(&region) {
                        before.join();
                    }
                    // Letters of a run that has failed are as good as unwritten.
                    drop(locked(&self.surroundings.letters).take());
                    self.chore(Chore::Do(action));
                }
                Action::Finish(outcome) => return Some(outcome),
                Action::Write { .. } | Action::Complete { .. } | Action::Commit { .. } | Action::Retain { .. } => {
                    self.chore(Chore::Do(action));
                }
            }
        }
        None
    }

    /// What starts from here on is of `assembly`; what it was of until now.
    fn swap(&mut self, assembly: Arc<Assembly>) -> Arc<Assembly> {
        self.chore(Chore::Swap(Arc::clone(&assembly)));
        std::mem::replace(&mut self.surroundings.assembly, assembly)
    }

    /// Starts the tasks of a region; an event if that cannot be.
    fn launch(&mut self, Ready { region, attempt, from }: Ready) -> Option<Event> {
        if !self.coordinator.is_wanted(region, attempt) {
            return Some(Event::NotStarted { region, attempt, error: JobError::Stopped });
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let launched = self.launch_all(region, attempt, from.as_ref(), &cancelled);
        match launched {
            Ok((controls, threads)) => {
                self.surroundings.metrics.recovery.started();
                self.early.hand_over(attempt, &controls);
                self.running.insert(region, Running { attempt, cancelled, controls, threads });
                None
            }
            Err((error, threads)) => {
                cancelled.store(true, Ordering::Relaxed);
                threads.into_iter().for_each(|thread| drop(thread.join()));
                Some(Event::NotStarted { region, attempt, error })
            }
        }
    }

    #[allow(clippy::type_complexity, reason = "the threads that run already go with the error")]
    fn launch_all(
        &self,
        region: RegionId,
        attempt: u64,
        from: Option<&Restored>,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<(Controls, Vec<JoinHandle<()>>), (JobError, Vec<JoinHandle<()>>)> {
        let assembly = &self.surroundings.assembly;
        let elements_max = assembly.graph.config.exchange_elements_max;
        let (seeds, controls) = assembly.seeds(region, Some(elements_max)).map_err(|error| (error, Vec::new()))?;
        let mut threads = Vec::new();
        for seed in seeds {
            match self.launch_one(seed, attempt, from, cancelled) {
                Ok(thread) => threads.push(thread),
                Err(error) => return Err((error, threads)),
            }
        }
        Ok((controls, threads))
    }

    fn launch_one(
        &self,
        seed: Seed,
        attempt: u64,
        from: Option<&Restored>,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<JoinHandle<()>, JobError> {
        let surroundings = self.surroundings.clone();
        let (node, subtask) = surroundings.assembly.place(seed.task);
        let node = surroundings.assembly.node_name(node).to_owned();
        let shared = surroundings.shared(seed.task, attempt, cancelled, from)?;
        let from = from.cloned();
        spawn(&format!("{node}/{subtask}"), move || {
            let reports = shared.reports.clone();
            let run = || {
                let task = surroundings.assembly.open(seed, from.as_ref(), shared)?;
                reports.opened();
                task.run()
            };
            // A panic is a failure like any other: the region goes on from its last checkpoint.
            let outcome: Result<TaskSnapshot, JobError> = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
                Err(JobError::Panic { node: node.clone(), message: panic_message(panic.as_ref()) })
            });
            reports.ended(outcome);
        })
    }

    fn tell(&self, happening: &Happening) {
        let (level, message) = match happening {
            Happening::Failed { error, wait, from } => {
                self.surroundings.metrics.recovery.failed();
                let from = from_text(*from);
                (LogLevel::Warn, format!("{}; going on from {from} in {wait:?}", job_with_causes(error)))
            }
            Happening::GaveUp { checkpoint, why } => {
                (LogLevel::Warn, format!("checkpoint {checkpoint} is given up: {why}"))
            }
            Happening::Swapped { checkpoint } => {
                (LogLevel::Info, format!("going on with a new version of a UDF since checkpoint {checkpoint}"))
            }
            Happening::SwappedBack { checkpoint, why } => {
                let from = from_text(*checkpoint);
                (
                    LogLevel::Warn,
                    format!("a new version of a UDF does not work: {why}; going on with the old from {from}"),
                )
            }
        };
        let job = &self.surroundings.assembly.graph.name;
        let record = LogRecord { job, node: "job", subtask: 0, udf: "supervisor", level, message: &message };
        (self.surroundings.log)(&record);
    }
}

fn from_text(checkpoint: Option<u64>) -> String {
    checkpoint.map_or("the beginning".to_owned(), |checkpoint| format!("checkpoint {checkpoint}"))
}

impl Running {
    fn join(self) {
        for thread in self.threads {
            // Panics have been caught inside, and told.
            let _told = thread.join();
        }
    }
}

/// The thread for files: does one chore after the other, and reports.
fn keep(
    mut keeper: Keeper,
    mut context: Surroundings,
    chores: &Receiver<Chore>,
    ready: &Sender<Ready>,
) -> (Keeper, Result<Outcome, JobError>) {
    loop {
        let chore = match chores.recv_timeout(Duration::from_secs(3600)) {
            Ok(chore) => chore,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return (keeper, Ok(Outcome::Cancelled)),
        };
        match chore {
            Chore::Expect { request, storage, last } => keeper.expect(request, storage, last),
            Chore::Swap(assembly) => {
                keeper.swap(Arc::clone(&assembly));
                context.assembly = assembly;
            }
            Chore::Do(Action::Start { region, attempt, from }) => match keeper.ready(region, from) {
                Ok(()) => {
                    let from = from.and_then(|from| keeper.restored(from).cloned());
                    let _over = ready.send(Ready { region, attempt, from });
                }
                Err(error) => drop(context.events.send(Event::NotStarted { region, attempt, error })),
            },
            Chore::Do(action) => {
                if let Some(event) = carry_out(&mut keeper, &context, action) {
                    let _over = context.events.send(event);
                }
            }
            Chore::End(outcome) => {
                let ended = end(&keeper, outcome);
                return (keeper, ended);
            }
        }
    }
}

/// Does what there is to do with files and sinks; what came of it.
pub(crate) fn carry_out(keeper: &mut Keeper, context: &Surroundings, action: Action) -> Option<Event> {
    match action {
        Action::Write { task, attempt, checkpoint, target, last, snapshot } => {
            let result = keeper.write(task, checkpoint, target, &snapshot);
            Some(Event::Written { task, attempt, checkpoint, last, result })
        }
        Action::Complete { checkpoint, target, finished, began, record } => {
            let completed_at_ms = context.clock.processing_time_ms();
            let result = keeper.complete(checkpoint, target, finished, &record, completed_at_ms);
            if let (Ok(bytes), Target::Checkpoints) = (&result, target) {
                let took = context.clock.elapsed().saturating_sub(began);
                let last = LastCheckpoint { id: checkpoint, completed_at_ms, bytes: *bytes, took };
                context.metrics.recovery.completed(last);
            }
            let result = result.map(drop);
            Some(Event::Completed { checkpoint, result })
        }
        Action::Commit { checkpoint, mut prepared } => {
            let result = context.last_letters().and_then(|letters| {
                prepared.entry(context.assembly.graph.nodes.len()).or_default().extend(letters);
                keeper.commit(&prepared)
            });
            Some(Event::Committed { checkpoint, result })
        }
        Action::Retain { checkpoints, pending_from } => {
            keeper.retain(&checkpoints, pending_from);
            None
        }
        _ => None,
    }
}

/// What is to be done with sinks at the end.
pub(crate) fn end(keeper: &Keeper, outcome: Outcome) -> Result<Outcome, JobError> {
    match &outcome {
        Outcome::Finished => keeper.finish()?,
        Outcome::Stopped { checkpoint } => keeper.abort(*checkpoint),
        Outcome::Cancelled | Outcome::Failed(_) => keeper.abort(keeper.newest()),
    }
    Ok(outcome)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
