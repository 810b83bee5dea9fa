//! What the coordinator decides about a swap, of a job of two sources that nothing connects.

use super::*;
use crate::checkpoint::SnapshotError;
use crate::checkpoint::protocol::{Event, Outcome, Plan, Request, TaskPlan, TaskRecord};
use crate::checkpoint::restart::RestartStrategy;
use crate::checkpoint::snapshot::TaskSnapshot;
use crate::config::CheckpointConfig;

const NOW: Duration = Duration::from_secs(1);

/// The number of the swap's checkpoint, since the job began from 7.
const CHECKPOINT: u64 = 8;

struct Job(Coordinator);

impl Job {
    fn new() -> Job {
        let plan = Plan {
            tasks: [0, 1].map(|region| TaskPlan { region, source: true }).to_vec(),
            regions: 2,
            checkpoints: Some(CheckpointConfig { tolerable_failures: 1, ..CheckpointConfig::default() }),
            restart: RestartStrategy::EXPONENTIAL,
            from: Some(7),
            sabotage: None,
        };
        let mut coordinator = Coordinator::new(plan, Duration::ZERO);
        assert_eq!(coordinator.start().len(), 2);
        Job(coordinator)
    }

    /// What follows from an event, as text.
    fn tell(&mut self, event: Event) -> Vec<String> {
        self.0.handle(event, NOW).iter().map(short).collect()
    }

    fn ask(&mut self, request: Request) -> Vec<String> {
        self.tell(Event::Requested(request))
    }

    /// The task comes to the barrier, hands over and ends.
    fn ends(&mut self, task: TaskId, attempt: u64) {
        let snapshot = TaskSnapshot::default;
        self.tell(Event::Acknowledged { task, attempt, checkpoint: CHECKPOINT, snapshot: snapshot() });
        self.tell(Event::Ended { task, attempt, outcome: Ok(snapshot()) });
    }

    fn is_written(&mut self, task: TaskId, good: bool) -> Vec<String> {
        let record = TaskRecord { nodes: Vec::new(), channels: Vec::new(), confirmed: 7 };
        let result = if good { Ok(record) } else { Err(SnapshotError::Columns("the disk is full".into())) };
        self.tell(Event::Written { task, attempt: 0, checkpoint: CHECKPOINT, last: false, result })
    }

    /// A swap was asked for by request 1, and all tasks have ended; the checkpoint is committed.
    fn is_saved(&mut self) -> Vec<String> {
        assert_eq!(self.ask(Request::Swap(1)), ["trigger 0", "trigger 1"]);
        for task in [0, 1] {
            self.ends(task, 0);
        }
        assert_eq!(self.is_written(0, true), [""; 0]);
        assert_eq!(self.is_written(1, true), ["complete 8"]);
        assert_eq!(self.tell(Event::Completed { checkpoint: CHECKPOINT, result: Ok(()) }), ["retain", "commit 8"]);
        self.tell(Event::Committed { checkpoint: CHECKPOINT, result: Ok(()) })
    }

    fn fails(&mut self, task: TaskId, attempt: u64) -> Vec<String> {
        self.tell(Event::Ended { task, attempt, outcome: Err(panicked()) })
    }

    fn is_cancelled(&mut self, task: TaskId, attempt: u64) -> Vec<String> {
        self.tell(Event::Ended { task, attempt, outcome: Err(JobError::Stopped) })
    }
}

fn panicked() -> JobError {
    JobError::Panic { node: "n".into(), message: "m".into() }
}

fn short(action: &Action) -> String {
    match action {
        Action::Trigger { task, barrier, .. } => {
            assert_eq!(barrier.stop, Some(Stop::Suspend));
            format!("trigger {task}")
        }
        Action::Write { task, .. } => format!("write {task}"),
        Action::Complete { checkpoint, .. } => format!("complete {checkpoint}"),
        Action::Commit { checkpoint, .. } => format!("commit {checkpoint}"),
        Action::Retain { .. } => "retain".into(),
        Action::Start { region, attempt, from } => format!("start {region}, {attempt} from {}", from.unwrap_or(0)),
        Action::Swap { request } => format!("swap {request}"),
        Action::SwapBack => "swap back".into(),
        Action::Cancel { region, attempt } => format!("cancel {region}, {attempt}"),
        Action::Answer { request, result: Ok(checkpoint) } => format!("answer {request}: {checkpoint}"),
        Action::Answer { request, result: Err(refusal) } => {
            let kind = match refusal {
                Refusal::NoCheckpoints => "no checkpoints",
                Refusal::NotRunning => "not running",
                Refusal::Failed(_) => "failed",
                Refusal::Unfit(_) => "unfit",
            };
            format!("answer {request}: {kind}")
        }
        Action::Tell(Happening::Failed { .. }) => "failed".into(),
        Action::Tell(Happening::GaveUp { .. }) => "gave up".into(),
        Action::Tell(Happening::Swapped { .. }) => "swapped".into(),
        Action::Tell(Happening::SwappedBack { .. }) => "swapped back".into(),
        Action::Finish(Outcome::Stopped { checkpoint }) => format!("stopped with {}", checkpoint.unwrap_or(0)),
        Action::Finish(outcome) => format!("finish {outcome:?}"),
    }
}

#[test]
fn all_regions_go_on_with_other_functions() {
    let mut job = Job::new();
    assert_eq!(job.is_saved(), ["swap 1", "start 0, 1 from 8", "start 1, 1 from 8"]);
    assert_eq!(job.ask(Request::Checkpoint(2)), ["answer 2: not running"]);
    assert_eq!(job.ask(Request::Swap(3)), ["answer 3: not running"]);
    assert_eq!(job.tell(Event::Opened { task: 0, attempt: 1 }), [""; 0]);
    assert_eq!(job.tell(Event::Opened { task: 1, attempt: 1 }), ["answer 1: 8", "swapped"]);
    assert_eq!(job.0.restarts(), 0);
    assert_eq!(job.ask(Request::Swap(4)), ["trigger 0", "trigger 1"]);
}

#[test]
fn what_does_not_open_is_taken_back() {
    let mut job = Job::new();
    job.is_saved();
    assert_eq!(job.tell(Event::Opened { task: 0, attempt: 1 }), [""; 0]);
    assert_eq!(job.fails(1, 1), ["cancel 1, 1", "cancel 0, 1"]);
    let back = ["answer 1: unfit", "swapped back", "swap back", "start 0, 2 from 8", "start 1, 2 from 8"];
    assert_eq!(job.is_cancelled(0, 1), back);
    assert_eq!(job.0.restarts(), 0);
    assert!(!job.0.is_wanted(0, 1) && job.0.is_wanted(0, 2));
    // It runs as before, also to somebody else's failure.
    assert_eq!(job.fails(0, 2), ["cancel 0, 2", "failed"]);
}

#[test]
fn a_failure_before_that_is_one_of_all_regions() {
    let mut job = Job::new();
    job.ask(Request::Swap(1));
    job.ends(0, 0);
    assert_eq!(job.fails(1, 0), ["cancel 1, 0", "answer 1: failed", "failed"]);
    let again = job.0.handle(Event::Tick, NOW + NOW).iter().map(short).collect::<Vec<_>>();
    assert_eq!(again, ["start 0, 1 from 7", "start 1, 1 from 7"]);
}

#[test]
fn a_checkpoint_that_fails_and_is_tolerated_costs_the_swap_alone() {
    let mut job = Job::new();
    job.ask(Request::Swap(1));
    job.ends(0, 0);
    job.ends(1, 0);
    assert_eq!(job.is_written(0, false), ["gave up", "answer 1: failed", "start 0, 1 from 7", "start 1, 1 from 7"]);
    assert_eq!(job.0.restarts(), 0);
}

#[test]
fn a_stop_goes_before_a_swap() {
    let stop = Request::Stop { request: 2, stop: Stop::Suspend, savepoint: false };
    let mut job = Job::new();
    job.ask(Request::Swap(1));
    assert_eq!(job.ask(stop), ["answer 1: not running"]);
    for task in [0, 1] {
        job.ends(task, 0);
        job.is_written(task, true);
    }
    job.tell(Event::Completed { checkpoint: CHECKPOINT, result: Ok(()) });
    let ended = job.tell(Event::Committed { checkpoint: CHECKPOINT, result: Ok(()) });
    assert_eq!(ended, ["answer 2: 8", "stopped with 8"]);

    let mut job = Job::new();
    job.is_saved();
    assert_eq!(job.ask(stop), ["cancel 0, 1", "cancel 1, 1"]);
    job.is_cancelled(0, 1);
    assert_eq!(job.is_cancelled(1, 1), ["answer 1: not running", "answer 2: 8", "stopped with 8"]);
}

#[test]
fn a_job_that_waits_to_start_again_takes_other_functions_at_once() {
    let mut job = Job::new();
    assert_eq!(job.fails(0, 0), ["cancel 0, 0", "failed"]);
    assert_eq!(job.ask(Request::Swap(1)), ["cancel 1, 0"]);
    assert_eq!(job.is_cancelled(1, 0), ["swap 1", "start 0, 1 from 7", "start 1, 1 from 7"]);
    job.tell(Event::Opened { task: 0, attempt: 1 });
    assert_eq!(job.tell(Event::Opened { task: 1, attempt: 1 }), ["answer 1: 7", "swapped"]);
}

/// A region whose sources have ended behind the barrier has rows left to read.
#[test]
fn a_stop_that_fails_starts_all_regions_again() {
    let mut job = Job::new();
    job.ask(Request::Stop { request: 1, stop: Stop::Suspend, savepoint: false });
    job.ends(0, 0);
    assert_eq!(job.fails(1, 0), ["cancel 1, 0", "answer 1: failed", "failed"]);
    let again = job.0.handle(Event::Tick, NOW + NOW).iter().map(short).collect::<Vec<_>>();
    assert_eq!(again, ["start 0, 1 from 7", "start 1, 1 from 7"]);
}

/// It has committed: going on from an older one would write again what is there.
#[test]
fn nothing_goes_back_behind_the_savepoint_of_a_stop() {
    let mut job = Job::new();
    job.ask(Request::Stop { request: 1, stop: Stop::Suspend, savepoint: true });
    job.ends(0, 0);
    job.tell(Event::Acknowledged { task: 1, attempt: 0, checkpoint: CHECKPOINT, snapshot: TaskSnapshot::default() });
    job.is_written(0, true);
    assert_eq!(job.is_written(1, true), ["complete 8"]);
    assert_eq!(job.tell(Event::Completed { checkpoint: CHECKPOINT, result: Ok(()) }), ["retain", "commit 8"]);
    job.tell(Event::Committed { checkpoint: CHECKPOINT, result: Ok(()) });
    job.fails(1, 0);
    let again = job.0.handle(Event::Tick, NOW + NOW).iter().map(short).collect::<Vec<_>>();
    assert_eq!(again, ["start 0, 1 from 8", "start 1, 1 from 8"]);
}
