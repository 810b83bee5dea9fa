//! Decides what happens to checkpoints and to regions that fail. It does nothing itself: it is told [events](Event), and says
//! [what to do](Action), which the [supervisor](crate::supervisor) does, with threads and files, and the simulator with neither.
//!
//! A checkpoint is *pending* from its barrier until its manifest is written, then *complete*, and what sinks prepared for it may be
//! committed. It is given up if it takes too long, if something of it cannot be written, or if a region fails. Nothing is lost by
//! that: what it would have told, the next one tells ([`Barrier::confirmed`]).
//!
//! A region is what can fail by itself: nodes that rows connect. When a task fails, its region is cancelled, and when all tasks of
//! it have ended it starts again from the newest complete checkpoint, after the wait that the restart strategy says. While all
//! regions end together, for a stop or a [swap], they start again together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::SnapshotError;
use super::protocol::{
    Action, Event, Happening, Outcome, Plan, Record, Refusal, RegionId, Request, Target, TaskId, TaskRecord,
};
use super::restart::Restarts;
use super::snapshot::{Alignment, Barrier, Stop, TaskSnapshot};
use crate::config::CheckpointConfig;
use crate::connector::Committable;
use crate::control::with_causes;
use crate::error::JobError;
use crate::simulate::Sabotage;

mod failures;
mod swap;

#[derive(Debug)]
enum Region {
    Running,
    /// Its tasks are ending, because of an error or since it was asked for.
    Cancelling,
    Waiting {
        until: Duration,
    },
    Ended,
}

#[derive(Debug)]
struct Pending {
    began: Duration,
    target: Target,
    request: Option<u64>,
    stop: Option<Stop>,
    confirmed: u64,
    /// Tasks that have not handed over yet.
    awaited: BTreeSet<TaskId>,
    /// Parts on their way to the store.
    writing: BTreeSet<TaskId>,
    record: Record,
    /// The manifest is being written.
    completing: bool,
    finished: bool,
}

/// The last words of a task that has ended.
#[derive(Debug)]
struct LastWords {
    snapshot: Arc<TaskSnapshot>,
    /// As it was written, and for which checkpoint.
    record: Option<(u64, TaskRecord)>,
}

#[derive(Debug)]
pub(crate) struct Coordinator {
    plan: Plan,
    regions: Vec<(Region, u64)>,
    ended: BTreeMap<TaskId, Option<LastWords>>,
    pending: BTreeMap<u64, Pending>,
    /// Complete, the newest last.
    complete: BTreeMap<u64, Record>,
    /// Complete and not committed.
    uncommitted: BTreeSet<u64>,
    /// The newest checkpoint to go on from.
    latest: Option<u64>,
    next: u64,
    next_trigger: Option<Duration>,
    last_done: Option<Duration>,
    failures: u64,
    restarts: Restarts,
    ending: Option<Ending>,
    /// Who asked for the end.
    stop_request: Option<u64>,
    swap: Option<swap::Swap>,
    /// A region could not even be started for the first time.
    never_began: bool,
    /// Why the job is going down.
    cause: Option<JobError>,
    done: bool,
}

/// How the job is to end, or all of its tasks, where that has been decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// This checkpoint was its last.
    Stopping(u64),
    Cancelled,
    /// Asked to stop while a part of it waited to start again: there is no more to be taken than what is complete.
    Halted,
    Failed,
    /// Behind this checkpoint all begin again, with other functions.
    Swapping(u64),
    /// Something failed for all of them: they begin again from the newest checkpoint.
    Again,
    /// All tasks have ended: the last commit is under way.
    Closing(u64),
}

impl Coordinator {
    pub(crate) fn new(plan: Plan, now: Duration) -> Coordinator {
        let interval = plan.checkpoints.as_ref().and_then(|policy| policy.interval);
        Coordinator {
            regions: (0..plan.regions).map(|_| (Region::Running, 0)).collect(),
            ended: BTreeMap::new(),
            pending: BTreeMap::new(),
            complete: BTreeMap::new(),
            uncommitted: BTreeSet::new(),
            latest: plan.from,
            next: plan.from.map_or(1, |from| from + 1),
            next_trigger: interval.map(|interval| now + interval),
            last_done: None,
            failures: 0,
            restarts: Restarts::new(plan.restart.clone()),
            ending: None,
            stop_request: None,
            swap: None,
            never_began: false,
            cause: None,
            done: false,
            plan,
        }
    }

    /// The first things to do.
    pub(crate) fn start(&mut self) -> Vec<Action> {
        let from = self.latest;
        (0..self.regions.len()).map(|region| Action::Start { region, attempt: 0, from }).collect()
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.count()
    }

    /// The newest checkpoint to go on from.
    pub(crate) fn latest(&self) -> Option<u64> {
        self.latest
    }

    /// When [`Event::Tick`] is due at the latest.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        let mut times: Vec<Duration> = Vec::new();
        for (region, _) in &self.regions {
            if let Region::Waiting { until } = region {
                times.push(*until);
            }
        }
        if let Some(policy) = &self.plan.checkpoints {
            times.extend(self.pending.values().map(|pending| pending.began + policy.timeout));
            if self.can_trigger() {
                times.extend(self.next_trigger.map(|at| at.max(self.pause_over(policy))));
            }
        }
        times.into_iter().min()
    }

    fn pause_over(&self, policy: &CheckpointConfig) -> Duration {
        self.last_done.map_or(Duration::ZERO, |done| done + policy.min_pause)
    }

    pub(crate) fn handle(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut out = Vec::new();
        if self.done {
            return out;
        }
        match event {
            Event::Tick => self.tick(now, &mut out),
            Event::Opened { task, attempt } => {
                if self.is_current(task, attempt) {
                    self.opened(task, &mut out);
                }
            }
            Event::Acknowledged { task, attempt, checkpoint, snapshot } => {
                if self.is_current(task, attempt) {
                    self.acknowledged(task, checkpoint, snapshot, &mut out);
                }
            }
            Event::Ended { task, attempt, outcome } => {
                if self.is_current(task, attempt) {
                    self.task_ended(task, outcome, now, &mut out);
                }
            }
            Event::NotStarted { region, attempt, error } => {
                if self.regions[region].1 == attempt {
                    let tasks: Vec<TaskId> = self.tasks_of(region).collect();
                    self.ended.extend(tasks.into_iter().map(|task| (task, None)));
                    // What cannot begin at all will not begin later: a place is taken, output of an earlier run is there.
                    self.never_began |= attempt == 0 && !matches!(error, JobError::Stopped);
                    self.region_failed(region, error, &mut out);
                    self.region_is_down(region, now, &mut out);
                }
            }
            Event::Written { task, attempt, checkpoint, last, result } => {
                if self.is_current(task, attempt) {
                    self.written((task, last), checkpoint, result, now, &mut out);
                }
            }
            Event::Completed { checkpoint, result } => self.completed(checkpoint, result, now, &mut out),
            Event::Committed { checkpoint, result } => self.committed(checkpoint, result, now, &mut out),
            Event::Requested(request) => self.requested(request, now, &mut out),
        }
        out
    }

    /// Is the region still to be started for this attempt? If it was cancelled meanwhile, no task heard of that.
    pub(crate) fn is_wanted(&self, region: RegionId, attempt: u64) -> bool {
        matches!(self.regions[region], (Region::Running, current) if current == attempt)
    }

    fn is_current(&self, task: TaskId, attempt: u64) -> bool {
        self.regions[self.plan.tasks[task].region].1 == attempt
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Action>) {
        for region in 0..self.regions.len() {
            if let (Region::Waiting { until }, attempt) = &mut self.regions[region]
                && *until <= now
            {
                *attempt += 1;
                let attempt = *attempt;
                self.regions[region].0 = Region::Running;
                out.push(Action::Start { region, attempt, from: self.latest });
            }
        }
        let Some(policy) = self.plan.checkpoints.clone() else { return };
        let late: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.began + policy.timeout <= now)
            .map(|(checkpoint, _)| *checkpoint)
            .collect();
        for checkpoint in late {
            let awaited = self.pending[&checkpoint].awaited.len();
            let why = format!(
                "it took longer than {:?} (execution.checkpointing.timeout); {awaited} tasks had not got to it",
                policy.timeout
            );
            self.give_up(checkpoint, &why, true, now, out);
        }
        let due = self.next_trigger.is_some_and(|at| at <= now) && self.pause_over(&policy) <= now;
        if due && self.can_trigger() {
            self.next_trigger = policy.interval.map(|interval| now + interval);
            self.trigger(Target::Checkpoints, None, None, now, out);
        }
    }

    fn can_trigger(&self) -> bool {
        let Some(policy) = &self.plan.checkpoints else { return false };
        self.is_up() && self.pending.len() < policy.concurrent_max && self.ended.len() < self.plan.tasks.len()
    }

    /// Everything runs, or has ended well, and nothing is about to end.
    fn is_up(&self) -> bool {
        self.ending.is_none()
            && self.swap.is_none()
            && self.regions.iter().all(|(region, _)| matches!(region, Region::Running | Region::Ended))
    }

    /// Does a part of it wait to start again, while nothing else is about to happen?
    fn is_waiting(&self) -> bool {
        let is_cancelling = |(region, _): &(Region, u64)| matches!(region, Region::Cancelling);
        self.ending.is_none() && self.swap.is_none() && !self.is_up() && !self.regions.iter().any(is_cancelling)
    }

    fn trigger(
        &mut self,
        target: Target,
        request: Option<u64>,
        stop: Option<Stop>,
        now: Duration,
        out: &mut Vec<Action>,
    ) -> u64 {
        let checkpoint = self.next;
        self.next += 1;
        let mut confirmed = self.complete.keys().next_back().copied().unwrap_or(0);
        if self.plan.sabotage == Some(Sabotage::ConfirmFailed) {
            confirmed = checkpoint - 1;
        }
        let all: BTreeSet<TaskId> = (0..self.plan.tasks.len()).collect();
        let mut pending = Pending {
            began: now,
            target,
            request,
            stop,
            confirmed,
            awaited: all,
            writing: BTreeSet::new(),
            record: Record::new(),
            completing: false,
            finished: false,
        };
        let alignment = self.plan.checkpoints.as_ref().map_or(Alignment::Aligned, |policy| policy.alignment());
        let full = target != Target::Checkpoints;
        // As in Flink: a savepoint has no rows in flight, and behind a barrier that stops nothing is to be in flight.
        let alignment = if full || stop.is_some() { Alignment::Aligned } else { alignment };
        let barrier = Barrier { checkpoint, confirmed, full, alignment, stop };
        for (task, plan) in self.plan.tasks.iter().enumerate() {
            if plan.source && !self.ended.contains_key(&task) {
                let attempt = self.regions[plan.region].1;
                out.push(Action::Trigger { task, attempt, barrier: barrier.clone() });
            }
        }
        for (&task, words) in &self.ended {
            pending.awaited.remove(&task);
            pending.take_last_words(task, self.regions[self.plan.tasks[task].region].1, checkpoint, words, out);
        }
        self.pending.insert(checkpoint, pending);
        self.complete_if_whole(checkpoint, out);
        checkpoint
    }

    fn acknowledged(&mut self, task: TaskId, checkpoint: u64, snapshot: TaskSnapshot, out: &mut Vec<Action>) {
        // One that was given up: what it tells, the next one tells.
        let Some(pending) = self.pending.get_mut(&checkpoint) else { return };
        if pending.awaited.remove(&task) {
            pending.writing.insert(task);
            let attempt = self.regions[self.plan.tasks[task].region].1;
            let target = pending.target;
            let snapshot = Arc::new(snapshot);
            out.push(Action::Write { task, attempt, checkpoint, target, last: false, snapshot });
        }
    }

    fn task_ended(
        &mut self,
        task: TaskId,
        outcome: Result<TaskSnapshot, JobError>,
        now: Duration,
        out: &mut Vec<Action>,
    ) {
        let region = self.plan.tasks[task].region;
        match outcome {
            Ok(snapshot) => {
                let attempt = self.regions[region].1;
                let words = LastWords { snapshot: Arc::new(snapshot), record: None };
                for (&checkpoint, pending) in &mut self.pending {
                    if pending.awaited.remove(&task) {
                        pending.take_last_words(task, attempt, checkpoint, &Some(&words), out);
                    }
                }
                self.ended.insert(task, Some(words));
            }
            Err(error) => {
                self.ended.insert(task, None);
                self.region_failed(region, error, out);
            }
        }
        if self.tasks_of(region).all(|task| self.ended.contains_key(&task)) {
            self.region_is_down(region, now, out);
        }
        let checkpoints: Vec<u64> = self.pending.keys().copied().collect();
        checkpoints.into_iter().for_each(|checkpoint| self.complete_if_whole(checkpoint, out));
    }

    fn tasks_of(&self, region: RegionId) -> impl Iterator<Item = TaskId> + '_ {
        let tasks = self.plan.tasks.iter().enumerate();
        tasks.filter(move |(_, task)| task.region == region).map(|(task, _)| task)
    }

    /// All regions have ended: the last commit, or the end.
    fn end_if_over(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.done || !self.regions.iter().all(|(region, _)| matches!(region, Region::Ended)) {
            return;
        }
        match self.ending {
            Some(Ending::Cancelled) => self.finish(Outcome::Cancelled, out),
            Some(Ending::Halted) => {
                let stopped = |latest| Outcome::Stopped { checkpoint: Some(latest) };
                self.finish(self.latest.map_or(Outcome::Cancelled, stopped), out);
            }
            Some(Ending::Failed) => {
                let cause = self.cause.take().unwrap_or(JobError::Stopped);
                self.finish(Outcome::Failed(cause), out);
            }
            Some(Ending::Stopping(checkpoint)) => {
                if self.is_committed(checkpoint) {
                    self.finish(Outcome::Stopped { checkpoint: Some(checkpoint) }, out);
                }
            }
            Some(Ending::Swapping(checkpoint)) => {
                if self.is_committed(checkpoint) {
                    self.take_up(out);
                }
            }
            Some(Ending::Again) => {
                self.begin_again(now, out);
                self.end_if_over(now, out);
            }
            Some(Ending::Closing(_)) => {}
            None => {
                self.give_up_all("the job came to its end", out);
                self.close(now, out);
            }
        }
    }

    /// Of a checkpoint that was not given up: is it complete, and committed?
    fn is_committed(&self, checkpoint: u64) -> bool {
        !self.pending.contains_key(&checkpoint) && !self.uncommitted.contains(&checkpoint)
    }

    /// All tasks have ended well: a last checkpoint, which is only committed.
    fn close(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.plan.checkpoints.is_some() {
            let checkpoint = self.trigger_closing(now, out);
            self.ending = Some(Ending::Closing(checkpoint));
            self.complete_if_whole(checkpoint, out);
            return;
        }
        let mut prepared: BTreeMap<usize, Vec<Committable>> = BTreeMap::new();
        for words in self.ended.values().flatten() {
            for node in &words.snapshot.nodes {
                prepared.entry(node.node).or_default().extend(node.prepared.iter().cloned());
            }
        }
        self.ending = Some(Ending::Closing(0));
        self.uncommitted.insert(0);
        out.push(Action::Commit { checkpoint: 0, prepared });
    }

    fn trigger_closing(&mut self, now: Duration, out: &mut Vec<Action>) -> u64 {
        let checkpoint = self.trigger(Target::Checkpoints, None, None, now, out);
        if let Some(pending) = self.pending.get_mut(&checkpoint) {
            pending.finished = true;
        }
        checkpoint
    }

    fn written(
        &mut self,
        (task, last): (TaskId, bool),
        checkpoint: u64,
        result: Result<TaskRecord, SnapshotError>,
        now: Duration,
        out: &mut Vec<Action>,
    ) {
        let Some(pending) = self.pending.get_mut(&checkpoint) else { return };
        if !pending.writing.remove(&task) {
            return;
        }
        match result {
            Ok(record) => {
                let base = self.complete.get(&record.confirmed).and_then(|base| base.get(&task));
                let record = chained(record, base);
                if let Some(Some(words)) = self.ended.get_mut(&task)
                    && last
                    && pending.target == Target::Checkpoints
                {
                    words.record = Some((checkpoint, record.clone()));
                }
                pending.record.insert(task, record);
                self.complete_if_whole(checkpoint, out);
            }
            Err(error) => self.give_up(checkpoint, &with_causes(&error), true, now, out),
        }
    }

    fn complete_if_whole(&mut self, checkpoint: u64, out: &mut Vec<Action>) {
        let Some(pending) = self.pending.get_mut(&checkpoint) else { return };
        let whole = pending.awaited.is_empty() && pending.writing.is_empty() && !pending.completing;
        if whole && pending.record.len() == self.plan.tasks.len() {
            pending.completing = true;
            let Pending { target, finished, began, record, .. } = pending;
            if self.plan.sabotage == Some(Sabotage::CommitBeforeComplete) {
                out.push(Action::Commit { checkpoint, prepared: prepared(record) });
            }
            let (target, finished, began, record) = (*target, *finished, *began, record.clone());
            out.push(Action::Complete { checkpoint, target, finished, began, record });
        }
    }

    fn completed(&mut self, checkpoint: u64, result: Result<(), SnapshotError>, now: Duration, out: &mut Vec<Action>) {
        if let Err(error) = result {
            self.give_up(checkpoint, &with_causes(&error), true, now, out);
            return;
        }
        // Given up meanwhile: it is complete all the same, and nobody builds on it.
        let Some(pending) = self.pending.remove(&checkpoint) else { return };
        if pending.target == Target::Checkpoints {
            self.subsume(checkpoint, out);
        }
        self.failures = 0;
        self.last_done = Some(now);
        if pending.target != Target::Checkpoints && pending.stop.is_none() {
            self.answer(pending.request, Ok(checkpoint), out);
            return;
        }
        let prepared = prepared(&pending.record);
        self.uncommitted.insert(checkpoint);
        // The savepoint of a stop too: it commits, so that nothing may go back behind it, and is among the checkpoints as well.
        self.latest = Some(checkpoint);
        self.complete.insert(checkpoint, pending.record);
        self.retain(out);
        if pending.stop.is_none() {
            self.answer(pending.request, Ok(checkpoint), out);
        }
        out.push(Action::Commit { checkpoint, prepared });
    }

    /// Older ones that are still on their way are not waited for: going back to one of them would undo what this one commits.
    fn subsume(&mut self, checkpoint: u64, out: &mut Vec<Action>) {
        let older = self.pending.range(..checkpoint).filter(|(_, pending)| pending.target == Target::Checkpoints);
        for number in older.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.give_up(number, "a newer one is complete", false, Duration::ZERO, out);
        }
    }

    /// Old checkpoints go; not those on which one that is on its way builds.
    fn retain(&mut self, out: &mut Vec<Action>) {
        let retained = self.plan.checkpoints.as_ref().map_or(1, |policy| policy.retained.max(1));
        let mut keep: BTreeSet<u64> = self.complete.keys().rev().take(retained).copied().collect();
        keep.extend(self.pending.values().map(|pending| pending.confirmed));
        self.complete.retain(|checkpoint, _| keep.contains(checkpoint));
        // Last words are written once, for a checkpoint that may have been given up since, and used by all later ones: from a
        // complete one on, that one names their files.
        let newest = self.complete.values().next_back();
        let told = self.ended.iter().filter_map(|(task, words)| Some((task, words.as_ref()?.record.as_ref()?)));
        let is_named = |task: &TaskId, record: &TaskRecord| newest.and_then(|newest| newest.get(task)) == Some(record);
        let unnamed =
            told.filter(|(task, (_, record))| !is_named(task, record)).map(|(_, (checkpoint, _))| *checkpoint);
        let pending_from = self.pending.keys().copied().chain(unnamed).min().unwrap_or(self.next);
        out.push(Action::Retain { checkpoints: self.complete.keys().copied().collect(), pending_from });
    }

    fn committed(&mut self, checkpoint: u64, result: Result<(), JobError>, now: Duration, out: &mut Vec<Action>) {
        self.uncommitted.remove(&checkpoint);
        match result {
            Ok(()) => match self.ending {
                Some(Ending::Closing(closing)) if closing == checkpoint => self.finish(Outcome::Finished, out),
                _ => self.end_if_over(now, out),
            },
            // Nothing would be read after the commit: who goes on from here repeats it.
            Err(error) if matches!(self.ending, Some(Ending::Stopping(last)) if last == checkpoint) => {
                self.ending = Some(Ending::Failed);
                self.cause = Some(error);
                self.cancel_all(out);
                self.end_if_over(now, out);
            }
            // The checkpoint is complete: going on from it repeats the commit.
            Err(error) => self.fail_everything(error, now, out),
        }
    }

    fn give_up_all(&mut self, why: &str, out: &mut Vec<Action>) {
        let checkpoints: Vec<u64> = self.pending.keys().copied().collect();
        for checkpoint in checkpoints {
            self.give_up(checkpoint, why, false, Duration::ZERO, out);
        }
    }

    /// A checkpoint will not complete. `fault`: by a failure of its own, of which only so many are tolerated.
    fn give_up(&mut self, checkpoint: u64, why: &str, fault: bool, now: Duration, out: &mut Vec<Action>) {
        let Some(pending) = self.pending.remove(&checkpoint) else { return };
        self.last_done = Some(now.max(self.last_done.unwrap_or_default()));
        if pending.stop.is_some() {
            self.stop_request = None;
        }
        self.answer(pending.request, Err(Refusal::Failed(format!("checkpoint {checkpoint}: {why}"))), out);
        if !fault {
            return;
        }
        out.push(Action::Tell(Happening::GaveUp { checkpoint, why: why.to_owned() }));
        self.failures += 1;
        let tolerable = self.plan.checkpoints.as_ref().map_or(0, |policy| policy.tolerable_failures);
        // Behind a barrier that stops, sources read nothing any more; and the last checkpoint has to be.
        let needed = pending.stop.is_some() || pending.finished;
        if self.failures > tolerable || needed {
            let error = JobError::Checkpoint { checkpoint, why: why.to_owned(), tolerable };
            if pending.finished {
                self.ending = None;
            }
            self.fail_everything(error, now, out);
        }
    }

    fn answer(&self, request: Option<u64>, result: Result<u64, Refusal>, out: &mut Vec<Action>) {
        out.extend(request.map(|request| Action::Answer { request, result }));
    }

    fn requested(&mut self, request: Request, now: Duration, out: &mut Vec<Action>) {
        let number = request.number();
        if let Request::Cancel(_) = request {
            self.ending = Some(Ending::Cancelled);
            self.give_up_all("the job was cancelled", out);
            self.cancel_all(out);
            self.answer(Some(number), Ok(0), out);
            self.end_if_over(now, out);
            return;
        }
        let plain_stop = matches!(request, Request::Stop { savepoint: false, stop: Stop::Suspend, .. });
        if self.plan.checkpoints.is_none() {
            self.answer(Some(number), Err(Refusal::NoCheckpoints), out);
        } else if let (true, Some(Ending::Swapping(checkpoint))) = (plain_stop, self.ending) {
            self.stop_instead(checkpoint, number, out);
        } else if plain_stop && matches!(self.ending, None | Some(Ending::Again)) && !self.is_up() {
            self.ending = Some(Ending::Halted);
            self.answer(self.stop_request, Err(Refusal::NotRunning), out);
            self.stop_request = Some(number);
            self.give_up_all("the job was stopped", out);
            self.cancel_all(out);
            self.end_if_over(now, out);
        } else if let (Request::Swap(number), Some(latest), true) = (request, self.latest, self.is_waiting()) {
            self.begin_swap_while_down(number, latest, now, out);
        } else if !self.is_up() || self.ended.len() == self.plan.tasks.len() {
            self.answer(Some(number), Err(Refusal::NotRunning), out);
        } else if let Request::Swap(number) = request {
            self.begin_swap(number, now, out);
        } else {
            let (target, stop) = match request {
                Request::Savepoint(number) => (Target::Savepoint(number), None),
                Request::Stop { request, stop, savepoint: true } => (Target::Savepoint(request), Some(stop)),
                Request::Stop { stop, .. } => (Target::Checkpoints, Some(stop)),
                Request::Checkpoint(_) | Request::Swap(_) | Request::Cancel(_) => (Target::Checkpoints, None),
            };
            // A task that has come past an unaligned barrier does not go on with it when the next one comes.
            let aligned = self.plan.checkpoints.as_ref().is_some_and(|policy| policy.alignment() == Alignment::Aligned);
            if stop.is_some() || !aligned {
                self.give_up_all("a newer one was asked for", out);
            }
            let checkpoint = self.trigger(target, Some(number), stop, now, out);
            if stop.is_some() {
                self.ending = Some(Ending::Stopping(checkpoint));
                self.stop_request = Some(number);
            }
        }
    }

    fn finish(&mut self, outcome: Outcome, out: &mut Vec<Action>) {
        self.done = true;
        let result = match &outcome {
            Outcome::Stopped { checkpoint } => Ok(checkpoint.unwrap_or(0)),
            Outcome::Failed(error) => Err(Refusal::Failed(error.to_string())),
            Outcome::Finished | Outcome::Cancelled => Err(Refusal::NotRunning),
        };
        self.refuse_swap(result.clone().err().unwrap_or(Refusal::NotRunning), out);
        self.answer(self.stop_request, result, out);
        out.push(Action::Finish(outcome));
    }
}

impl Pending {
    /// A task that has ended takes part with its last words, which are written once.
    fn take_last_words(
        &mut self,
        task: TaskId,
        attempt: u64,
        checkpoint: u64,
        words: &Option<impl std::borrow::Borrow<LastWords>>,
        out: &mut Vec<Action>,
    ) {
        let Some(words) = words.as_ref().map(std::borrow::Borrow::borrow) else { return };
        match &words.record {
            Some((_, record)) if self.target == Target::Checkpoints => {
                self.record.insert(task, record.clone());
            }
            _ => {
                self.writing.insert(task);
                let target = self.target;
                let snapshot = Arc::clone(&words.snapshot);
                out.push(Action::Write { task, attempt, checkpoint, target, last: true, snapshot });
            }
        }
    }
}

/// What sinks prepared, by node.
fn prepared(record: &Record) -> BTreeMap<usize, Vec<Committable>> {
    let mut prepared: BTreeMap<usize, Vec<Committable>> = BTreeMap::new();
    for node in record.values().flat_map(|task| &task.nodes) {
        prepared.entry(node.node).or_default().extend(node.manifest.prepared.iter().cloned());
    }
    prepared
}

/// The record with the files of `base` before its own, where it tells only what has changed since.
fn chained(mut record: TaskRecord, base: Option<&TaskRecord>) -> TaskRecord {
    for node in record.nodes.iter_mut().filter(|node| !node.full) {
        let before = base.and_then(|base| base.nodes.iter().find(|before| before.node == node.node));
        let before = before.map(|before| before.manifest.keyed.clone()).unwrap_or_default();
        node.manifest.keyed.splice(0..0, before);
    }
    record
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
