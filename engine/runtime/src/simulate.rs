//! The whole runtime on one thread, under a seed: the real tasks, operators, coordinator and keeper, with a clock that is turned,
//! tasks that die, a process that dies, and a store that its maker lets fail. For tests: what it proves is in `docs/guarantees.md`.
//!
//! Channels have no bound here, since nobody could wait: a task whose output is full is not given a turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};

use crate::assembly::{Assembly, Controls, EarlyBarriers};
use crate::checkpoint::coordinator::Coordinator;
use crate::checkpoint::fit;
use crate::checkpoint::keeper::Keeper;
use crate::checkpoint::protocol::{Action, Event, Happening, Outcome, Plan, RegionId, Request};
use crate::checkpoint::restore::Restored;
use crate::checkpoint::snapshot::Stop;
use crate::checkpoint::storage::CheckpointStorage;
use crate::error::JobError;
use crate::graph::JobGraph;
use crate::job::Clock;
use crate::metrics::JobMetrics;
use crate::supervisor::{Surroundings, carry_out, end};
use crate::task::{Task, Turn};

/// Ways to break the protocol, to show that the simulator would see it. No other caller can ask for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The first barrier counts for all inputs.
    SkipAlignment,
    /// Sinks commit before the manifest is there.
    CommitBeforeComplete,
    /// Rows that a barrier has overtaken are left out.
    ForgetInFlight,
    /// Splits that were begun are read from their beginning.
    RestoreOlderPosition,
    /// One key that changed is left out.
    DropStateWrite,
    /// What sinks had prepared is not committed when the job goes on.
    ForgetPrepared,
    /// Rows of the open bundle are left out.
    ForgetBundle,
    /// Changes are told against a checkpoint that failed.
    ConfirmFailed,
    /// Keys that are on disk are left out.
    ForgetStored,
}

/// Every way.
pub const SABOTAGES: [Sabotage; 9] = [
    Sabotage::SkipAlignment,
    Sabotage::CommitBeforeComplete,
    Sabotage::ForgetInFlight,
    Sabotage::RestoreOlderPosition,
    Sabotage::DropStateWrite,
    Sabotage::ForgetPrepared,
    Sabotage::ForgetBundle,
    Sabotage::ConfirmFailed,
    Sabotage::ForgetStored,
];

/// How much goes wrong: chances in a million, at every step.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub task_dies: u64,
    pub process_dies: u64,
    /// A task gets no turn for a while.
    pub task_sleeps: u64,
    /// Somebody stops the job, half the times with a savepoint, and starts it again, from that.
    pub stops: u64,
    /// Somebody takes a savepoint.
    pub savepoints: u64,
    /// The functions are swapped; one in four times the new ones do not open.
    pub swaps: u64,
    /// So many steps later nothing goes wrong any more, so that there is an end.
    pub steps: u64,
}

impl Faults {
    pub const NONE: Faults =
        Faults { task_dies: 0, process_dies: 0, task_sleeps: 0, stops: 0, savepoints: 0, swaps: 0, steps: 0 };
}

/// What happened.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub steps: u64,
    pub checkpoints: u64,
    pub tasks_died: u64,
    pub processes_died: u64,
    pub stops: u64,
    /// Savepoints that are complete.
    pub savepoints: u64,
    /// Of these, those from which the job was started again.
    pub from_savepoints: u64,
    /// Functions that were swapped in.
    pub swaps: u64,
    /// Those of them that did not open, so that the old ones came back.
    pub swaps_back: u64,
    pub restarts: u64,
}

/// Steps after which a simulation has lost its way.
const STEPS_MAX: u64 = 1_000_000;

struct VirtualClock(AtomicU64);

impl VirtualClock {
    fn turn(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn processing_time_ms(&self) -> i64 {
        i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// SplitMix64: the same numbers from a seed, everywhere.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 for 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.number() % bound }
    }

    /// True so many times in a million.
    pub fn hit(&mut self, millionths: u64) -> bool {
        self.below(1_000_000) < millionths
    }
}

/// One job, started again and again until it has come to its end.
pub struct Simulation<'a> {
    pub seed: u64,
    /// The job as it is started for the nth time, when parallelism may change, and after so many swaps since then, when only calls
    /// may.
    pub graph: &'a dyn Fn(u64, u64) -> JobGraph,
    /// Makes a place for checkpoints, or for one savepoint.
    pub place: &'a dyn Fn() -> Arc<dyn CheckpointStorage>,
    pub faults: Faults,
    pub sabotage: Option<Sabotage>,
}

impl Simulation<'_> {
    /// Runs it. With what happened, the place of its last checkpoint.
    ///
    /// # Errors
    /// What keeps the job from coming to its end.
    pub fn run(&self) -> Result<(Tally, Arc<dyn CheckpointStorage>), String> {
        let mut chance = Chance::new(self.seed);
        let clock = Arc::new(VirtualClock(AtomicU64::new(1_000_000_000)));
        let mut tally = Tally::default();
        let mut last = 0;
        let mut places = Places { own: (self.place)(), savepoint: None };
        for incarnation in 0.. {
            let mut begun = Process::begin(self, incarnation, &places, &clock);
            match begun {
                // With this parallelism it cannot: as its user would, it is started as it was.
                Err(JobError::Unfit(_)) => begun = Process::begin(self, last, &places, &clock),
                _ => last = incarnation,
            }
            let mut process = begun.map_err(|error| format!("start {incarnation}: {error}"))?;
            match process.live(self, &mut chance, &mut tally)? {
                Life::Over => break,
                Life::Again => {}
                Life::From(savepoint) => {
                    tally.from_savepoints += 1;
                    places = Places { own: (self.place)(), savepoint: Some(savepoint) };
                }
            }
        }
        Ok((tally, places.own))
    }
}

/// Where a job has its checkpoints, and the savepoint from which it goes on as long as it has none.
struct Places {
    own: Arc<dyn CheckpointStorage>,
    savepoint: Option<Arc<dyn CheckpointStorage>>,
}

impl Places {
    fn newest(&self) -> Result<Option<Restored>, JobError> {
        let own = Restored::newest(&self.own).map_err(JobError::Unfit)?;
        match (&own, &self.savepoint) {
            (None, Some(savepoint)) => Restored::newest(savepoint).map_err(JobError::Unfit),
            _ => Ok(own),
        }
    }
}

/// How a process ended.
enum Life {
    /// The job has come to its end.
    Over,
    /// It died, or was stopped.
    Again,
    /// It was stopped with this savepoint.
    From(Arc<dyn CheckpointStorage>),
}

/// A task in its region.
struct Actor {
    at: Box<Task>,
    asleep_until: Duration,
    /// It had nothing to do at its last turn.
    idle: bool,
}

struct Region {
    attempt: u64,
    cancelled: Arc<AtomicBool>,
    controls: Controls,
}

struct Process {
    clock: Arc<VirtualClock>,
    surroundings: Surroundings,
    coordinator: Coordinator,
    keeper: Keeper,
    events: Receiver<Event>,
    chores: VecDeque<Action>,
    actors: Vec<Actor>,
    regions: BTreeMap<RegionId, Region>,
    early: EarlyBarriers,
    outcome: Option<Outcome>,
    elements_max: usize,
    requests: u64,
    /// Those for savepoints that are not answered yet, and where they go; with which of them the job is to end.
    savepoints: BTreeMap<u64, (Arc<dyn CheckpointStorage>, bool)>,
    savepoints_taken: u64,
    /// The savepoint with which the job has ended.
    left: Option<Arc<dyn CheckpointStorage>>,
    /// The last failure that the coordinator told of.
    told: Option<Happening>,
    incarnation: u64,
    swaps: Swaps,
}

/// How often functions have changed, and what there is to change to.
#[derive(Default)]
struct Swaps {
    /// And whether it opens.
    offered: Option<(Arc<Assembly>, bool)>,
    before: Option<Arc<Assembly>>,
    /// Those that are in place do not open.
    broken: bool,
    asked: u64,
    done: u64,
    undone: u64,
}

impl Process {
    fn begin(
        simulation: &Simulation<'_>,
        incarnation: u64,
        places: &Places,
        clock: &Arc<VirtualClock>,
    ) -> Result<Process, JobError> {
        let graph = &(simulation.graph)(incarnation, 0);
        let from = places.newest()?;
        if let Some(from) = &from {
            fit::job(graph, from, false)?;
        }
        let assembly = Arc::new(Assembly::new(graph, from.as_ref())?);
        let (sender, events) = unbounded();
        let surroundings = Surroundings {
            assembly: Arc::clone(&assembly),
            clock: Arc::clone(clock) as Arc<dyn Clock>,
            log: Arc::new(|_| {}),
            metrics: Arc::new(JobMetrics::new(graph.nodes.iter().map(|node| node.name.clone()))),
            stop: Arc::default(),
            checkpoints: true,
            letters: Arc::new(Mutex::new(None)),
            failures: None,
            events: sender,
            sabotage: simulation.sabotage,
        };
        let plan = Plan {
            tasks: assembly.plans(),
            regions: assembly.region_count(),
            checkpoints: Some(graph.config.checkpoint.clone()),
            restart: graph.config.restart_strategy(),
            from: from.as_ref().map(|from| from.manifest.checkpoint),
            sabotage: simulation.sabotage,
        };
        let mut coordinator = Coordinator::new(plan, clock.elapsed());
        let keeper = Keeper::new(assembly, Some(Arc::clone(&places.own)), from.as_ref()).sabotaged(simulation.sabotage);
        let finished = from.is_some_and(|from| from.manifest.finished);
        let first = if finished { Vec::new() } else { coordinator.start() };
        let mut process = Process {
            clock: Arc::clone(clock),
            surroundings,
            coordinator,
            keeper,
            events,
            chores: VecDeque::new(),
            actors: Vec::new(),
            regions: BTreeMap::new(),
            early: EarlyBarriers::default(),
            outcome: None,
            elements_max: graph.config.exchange_elements_max,
            requests: 0,
            savepoints: BTreeMap::new(),
            savepoints_taken: 0,
            left: None,
            told: None,
            incarnation,
            swaps: Swaps::default(),
        };
        if finished {
            let from = process.coordinator.latest();
            let regions = process.surroundings.assembly.region_count();
            (0..regions).try_for_each(|region| process.keeper.ready(region, from))?;
            process.outcome = Some(Outcome::Finished);
        }
        process.perform(first);
        Ok(process)
    }

    /// Until the job has ended, or the process is killed.
    fn live(&mut self, simulation: &Simulation<'_>, chance: &mut Chance, tally: &mut Tally) -> Result<Life, String> {
        let life = self.live_on(simulation, chance, tally);
        tally.restarts += self.coordinator.restarts();
        tally.savepoints += self.savepoints_taken;
        tally.swaps += self.swaps.done;
        tally.swaps_back += self.swaps.undone;
        life
    }

    fn live_on(&mut self, simulation: &Simulation<'_>, chance: &mut Chance, tally: &mut Tally) -> Result<Life, String> {
        loop {
            if let Some(outcome) = self.outcome.take() {
                return match end(&self.keeper, outcome) {
                    Ok(Outcome::Finished) => Ok(Life::Over),
                    Ok(Outcome::Stopped { .. }) => Ok(self.left.take().map_or(Life::Again, Life::From)),
                    // As if somebody started it again.
                    Ok(Outcome::Failed(_) | Outcome::Cancelled) | Err(_) => Ok(Life::Again),
                };
            }
            tally.steps += 1;
            if tally.steps > STEPS_MAX {
                return Err(format!("it does not come to an end: {tally:?}; {}", self.describe()));
            }
            let harm = tally.steps < simulation.faults.steps;
            if harm && chance.hit(simulation.faults.process_dies) {
                tally.processes_died += 1;
                return Ok(Life::Again);
            }
            if harm && chance.hit(simulation.faults.swaps) {
                self.ask_to_swap(simulation, chance);
            }
            self.step(simulation, harm, chance, tally);
        }
    }

    /// Somebody asks for other functions, while others may be on their way.
    fn ask_to_swap(&mut self, simulation: &Simulation<'_>, chance: &mut Chance) {
        self.swaps.asked += 1;
        self.requests += 1;
        let graph = (simulation.graph)(self.incarnation, self.swaps.asked);
        let assembly = Arc::new(self.surroundings.assembly.with(graph));
        self.swaps.offered = Some((assembly, chance.below(4) > 0));
        self.handle(Event::Requested(Request::Swap(self.requests)));
    }

    /// Where it stands, for who looks for the reason.
    fn describe(&self) -> String {
        let actors = self.actors.iter().map(|actor| {
            let Actor { at, idle, asleep_until, .. } = actor;
            let (head, subtask) = self.surroundings.assembly.place(at.shared.reports.task);
            let node = self.surroundings.assembly.node_name(head);
            format!(
                "{node}/{subtask} idle {idle} backlog {} asleep until {asleep_until:?} {}",
                at.backlog(),
                at.describe()
            )
        });
        let actors = actors.collect::<Vec<_>>().join("; ");
        let (chores, events) = (self.chores.len(), self.events.len());
        format!("at {:?} {chores} chores, {events} events, {actors}; told {:?}", self.clock.elapsed(), self.told)
    }

    fn expect(&mut self, request: u64, place: Arc<dyn CheckpointStorage>, last: bool) {
        self.keeper.expect(request, Arc::clone(&place), last);
        self.savepoints.insert(request, (place, last));
    }

    fn answered(&mut self, request: u64, is_taken: bool) {
        let Some((place, last)) = self.savepoints.remove(&request).filter(|_| is_taken) else { return };
        self.savepoints_taken += 1;
        if last {
            self.left = Some(place);
        }
    }

    /// One thing happens.
    fn step(&mut self, simulation: &Simulation<'_>, harm: bool, chance: &mut Chance, tally: &mut Tally) {
        let faults = harm.then_some(simulation.faults);
        if let Some(faults) = faults
            && chance.hit(faults.stops)
        {
            tally.stops += 1;
            self.requests += 1;
            let (request, savepoint) = (self.requests, chance.below(2) == 0);
            if savepoint {
                self.expect(request, (simulation.place)(), true);
            }
            self.handle(Event::Requested(Request::Stop { request, stop: Stop::Suspend, savepoint }));
        }
        if let Some(faults) = faults
            && chance.hit(faults.savepoints)
        {
            self.requests += 1;
            self.expect(self.requests, (simulation.place)(), false);
            self.handle(Event::Requested(Request::Savepoint(self.requests)));
        }
        let moved = match chance.below(16) {
            0..=9 => self.give_turn(faults, chance, tally),
            10..=12 => self.deliver(),
            13..=14 => self.chore(chance, tally),
            _ => false,
        };
        if !moved {
            let quiet = self.events.is_empty() && self.chores.is_empty() && self.actors.iter().all(|actor| actor.idle);
            // What sleeps wakes sooner where nothing else is to be done.
            let most = if quiet { 50_000 } else { 500 };
            self.clock.turn(Duration::from_micros(chance.below(most)));
            self.actors.iter_mut().for_each(|actor| actor.idle = false);
            self.handle(Event::Tick);
        }
    }

    fn give_turn(&mut self, faults: Option<Faults>, chance: &mut Chance, tally: &mut Tally) -> bool {
        if self.actors.is_empty() {
            return false;
        }
        let index = chance.below(self.actors.len() as u64) as usize;
        let now = self.clock.elapsed();
        let actor = &mut self.actors[index];
        let cancelled = actor.at.shared.cancelled();
        // A task that is to end is never held up.
        if !cancelled && (actor.asleep_until > now || actor.idle || actor.at.backlog() >= self.elements_max) {
            return false;
        }
        if let Some(faults) = faults {
            if chance.hit(faults.task_dies) {
                tally.tasks_died += 1;
                let actor = self.actors.swap_remove(index);
                let error = JobError::Panic { node: "simulated".into(), message: "the task died".into() };
                actor.at.shared.reports.ended(Err(error));
                return true;
            }
            if chance.hit(faults.task_sleeps) {
                actor.asleep_until = now + Duration::from_millis(chance.below(12_000));
            }
        }
        match actor.at.turn() {
            Ok(Turn::Again) => {}
            Ok(Turn::Wait(_)) => actor.idle = true,
            Ok(Turn::Done(last_words)) => {
                let actor = self.actors.swap_remove(index);
                actor.at.shared.reports.ended(Ok(last_words));
            }
            Err(error) => {
                let actor = self.actors.swap_remove(index);
                actor.at.shared.reports.ended(Err(error));
            }
        }
        // What one task put out may be what others wait for.
        self.actors
            .iter_mut()
            .enumerate()
            .filter(|(other, _)| *other != index)
            .for_each(|(_, actor)| actor.idle = false);
        true
    }

    fn deliver(&mut self) -> bool {
        match self.events.try_recv() {
            Ok(event) => {
                self.handle(event);
                true
            }
            Err(_) => false,
        }
    }

    fn handle(&mut self, event: Event) {
        let actions = self.coordinator.handle(event, self.clock.elapsed());
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Trigger { task, attempt, barrier } => {
                    let mut regions = self.regions.values().filter(|region| region.attempt == attempt);
                    match regions.find_map(|region| region.controls.get(&task)) {
                        // A source that has ended says so by itself.
                        Some(control) => drop(control.send(barrier)),
                        None => self.early.keep(task, attempt, barrier),
                    }
                }
                Action::Cancel { region, attempt } => {
                    if let Some(region) = self.regions.get(&region).filter(|region| region.attempt == attempt) {
                        region.cancelled.store(true, Ordering::Relaxed);
                    }
                    self.actors.iter_mut().for_each(|actor| actor.idle = false);
                }
                Action::Finish(outcome) => self.outcome = Some(outcome),
                Action::Tell(happening) => self.told = Some(happening),
                Action::Answer { request, result } => self.answered(request, result.is_ok()),
                Action::Swap { .. } => {
                    self.swaps.done += 1;
                    self.swaps.before = Some(Arc::clone(&self.surroundings.assembly));
                    if let Some((assembly, opens)) = self.swaps.offered.take() {
                        self.swaps.broken = !opens;
                        self.swap(assembly);
                    }
                }
                Action::SwapBack => {
                    self.swaps.undone += 1;
                    self.swaps.broken = false;
                    if let Some(before) = self.swaps.before.take() {
                        self.swap(before);
                    }
                }
                action => self.chores.push_back(action),
            }
        }
    }

    fn swap(&mut self, assembly: Arc<Assembly>) {
        self.keeper.swap(Arc::clone(&assembly));
        self.surroundings.assembly = assembly;
    }

    /// One of the chores: writes come in any order, all else in its own.
    fn chore(&mut self, chance: &mut Chance, tally: &mut Tally) -> bool {
        let writes = self.chores.iter().take_while(|action| matches!(action, Action::Write { .. })).count();
        let index = if writes > 1 { chance.below(writes as u64) as usize } else { 0 };
        let Some(action) = self.chores.remove(index) else { return false };
        self.clock.turn(Duration::from_micros(chance.below(2000)));
        if let Action::Start { region, attempt, from } = action {
            let is_wanted = self.coordinator.is_wanted(region, attempt);
            let started = if is_wanted { self.start(region, attempt, from) } else { Err(JobError::Stopped) };
            if let Err(error) = started {
                self.handle(Event::NotStarted { region, attempt, error });
            }
            return true;
        }
        tally.checkpoints += u64::from(matches!(action, Action::Complete { .. }));
        if let Some(event) = carry_out(&mut self.keeper, &self.surroundings, action) {
            self.handle(event);
        }
        true
    }

    fn start(&mut self, region: RegionId, attempt: u64, from: Option<u64>) -> Result<(), JobError> {
        self.keeper.ready(region, from)?;
        let from = from.and_then(|from| self.keeper.restored(from).cloned());
        let assembly = Arc::clone(&self.surroundings.assembly);
        if self.swaps.broken && region + 1 == assembly.region_count() {
            return Err(JobError::Panic { node: "simulated".into(), message: "the function does not open".into() });
        }
        let (seeds, controls) = assembly.seeds(region, None)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut opened = Vec::new();
        for seed in seeds {
            let task = seed.task;
            let shared = self.surroundings.shared(task, attempt, &cancelled, from.as_ref())?;
            let at = Box::new(assembly.open(seed, from.as_ref(), shared)?);
            opened.push(Actor { at, asleep_until: Duration::ZERO, idle: false });
        }
        opened.iter().for_each(|actor| actor.at.shared.reports.opened());
        self.actors.extend(opened);
        self.early.hand_over(attempt, &controls);
        self.regions.insert(region, Region { attempt, cancelled, controls });
        Ok(())
    }
}
