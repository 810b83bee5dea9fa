//! What the coordinator decides where no random job of the simulator would tell it apart.

use super::*;
use crate::checkpoint::protocol::TaskPlan;
use crate::checkpoint::restart::RestartStrategy;
use crate::connector::ConnectorError;

fn coordinator() -> Coordinator {
    let plan = Plan {
        tasks: vec![TaskPlan { region: 0, source: true }],
        regions: 1,
        checkpoints: Some(CheckpointConfig::default()),
        restart: RestartStrategy::EXPONENTIAL,
        from: Some(7),
        sabotage: None,
    };
    let mut coordinator = Coordinator::new(plan, Duration::ZERO);
    let started = coordinator.start();
    assert!(matches!(started[..], [Action::Start { region: 0, attempt: 0, from: Some(7) }]), "{started:?}");
    coordinator
}

fn fails(coordinator: &mut Coordinator, error: JobError) -> Vec<Action> {
    let ended = Event::Ended { task: 0, attempt: 0, outcome: Err(error) };
    coordinator.handle(ended, Duration::from_secs(1))
}

fn panicked() -> JobError {
    JobError::Panic { node: "n".into(), message: "m".into() }
}

#[test]
fn a_failure_is_followed_by_a_restart_from_the_newest_checkpoint() {
    let mut coordinator = coordinator();
    let told = fails(&mut coordinator, panicked());
    assert!(matches!(told.last(), Some(Action::Tell(Happening::Failed { from: Some(7), .. }))), "{told:?}");
    assert_eq!(coordinator.wake_at(), Some(Duration::from_secs(2)));
    let again = coordinator.handle(Event::Tick, Duration::from_secs(2));
    assert!(matches!(again[..], [Action::Start { attempt: 1, from: Some(7), .. }]), "{again:?}");
}

#[test]
fn what_no_restart_mends_ends_the_job() {
    let damaged = SnapshotError::Columns("damaged".into());
    let restore = JobError::Restore { node: "n".into(), error: damaged };
    let shrank = JobError::Connector { node: "n".into(), error: ConnectorError::unfit("it shrank") };
    for error in [restore, JobError::Unfit(SnapshotError::Columns("other".into())), shrank] {
        let actions = fails(&mut coordinator(), error);
        assert!(matches!(actions.last(), Some(Action::Finish(Outcome::Failed(_)))), "{actions:?}");
    }
    let mut coordinator = coordinator();
    let not_started = Event::NotStarted { region: 0, attempt: 0, error: panicked() };
    let actions = coordinator.handle(not_started, Duration::ZERO);
    assert!(matches!(actions.last(), Some(Action::Finish(Outcome::Failed(_)))), "{actions:?}");
}

#[test]
fn a_job_that_waits_to_start_again_can_be_stopped() {
    let mut coordinator = coordinator();
    fails(&mut coordinator, panicked());
    let stop = Request::Stop { request: 1, stop: Stop::Suspend, savepoint: false };
    let actions = coordinator.handle(Event::Requested(stop), Duration::from_secs(1));
    let stopped = |action: &Action| matches!(action, Action::Finish(Outcome::Stopped { checkpoint: Some(7) }));
    assert!(actions.iter().any(stopped), "{actions:?}");
    assert!(actions.iter().any(|action| matches!(action, Action::Answer { request: 1, result: Ok(7) })), "{actions:?}");
}
