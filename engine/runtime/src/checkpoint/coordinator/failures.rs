//! What becomes of regions when a task, a commit or a checkpoint fails.

use std::sync::Arc;
use std::time::Duration;

use super::{Coordinator, Ending, Region};
use crate::checkpoint::SnapshotError;
use crate::checkpoint::protocol::{Action, Happening, Refusal, RegionId, TaskId};
use crate::checkpoint::storage::StorageError;
use crate::control::with_causes;
use crate::error::JobError;

impl Coordinator {
    /// The first error of a region cancels it; what its other tasks say then is only an echo.
    pub(super) fn region_failed(&mut self, region: RegionId, error: JobError, out: &mut Vec<Action>) {
        let echo = matches!(error, JobError::Stopped);
        if self.cause.is_none() || (matches!(self.cause, Some(JobError::Stopped)) && !echo) {
            self.cause = Some(error);
        }
        let (state, attempt) = &mut self.regions[region];
        if !matches!(state, Region::Running) {
            return;
        }
        *state = Region::Cancelling;
        out.push(Action::Cancel { region, attempt: *attempt });
        if self.is_joined() {
            self.end_to_begin_again(out);
        }
    }

    /// The last task of a region has ended.
    pub(super) fn region_is_down(&mut self, region: RegionId, now: Duration, out: &mut Vec<Action>) {
        match self.regions[region].0 {
            Region::Running => self.regions[region].0 = Region::Ended,
            Region::Cancelling => {
                self.give_up_all("a part of the job failed", out);
                if self.ending.is_none()
                    && let Some(cause) = self.cause.take()
                {
                    self.restart_or_fail(vec![region], cause, now, out);
                } else {
                    self.regions[region].0 = Region::Ended;
                }
            }
            Region::Waiting { .. } | Region::Ended => {}
        }
        self.end_if_over(now, out);
    }

    /// Regions of which no task runs go on after a wait, or else the job fails.
    pub(super) fn restart_or_fail(
        &mut self,
        regions: Vec<RegionId>,
        cause: JobError,
        now: Duration,
        out: &mut Vec<Action>,
    ) {
        let hopeless = self.never_began || is_hopeless(&cause);
        let wait = self.restarts.failed(now).filter(|_| !hopeless);
        match wait {
            Some(wait) => {
                self.ending = None;
                for region in regions {
                    let tasks: Vec<TaskId> = self.tasks_of(region).collect();
                    tasks.iter().for_each(|task| drop(self.ended.remove(task)));
                    self.regions[region].0 = Region::Waiting { until: now + wait };
                }
                out.push(Action::Tell(Happening::Failed { error: Arc::new(cause), wait, from: self.latest }));
            }
            None => {
                self.ending = Some(Ending::Failed);
                self.cause = Some(cause);
                self.cancel_all(out);
            }
        }
    }

    pub(super) fn cancel_all(&mut self, out: &mut Vec<Action>) {
        for (region, (state, attempt)) in self.regions.iter_mut().enumerate() {
            match state {
                Region::Running => {
                    *state = Region::Cancelling;
                    out.push(Action::Cancel { region, attempt: *attempt });
                }
                Region::Waiting { .. } => *state = Region::Ended,
                Region::Cancelling | Region::Ended => {}
            }
        }
        // Those that had failed already are down.
        for region in 0..self.regions.len() {
            if self.tasks_of(region).all(|task| self.ended.contains_key(&task)) {
                self.regions[region].0 = Region::Ended;
            }
        }
    }

    /// Do all regions go on together, or none? Sources of some may have ended behind a barrier that stops, and functions change in
    /// all of them or in none.
    pub(super) fn is_joined(&self) -> bool {
        match self.ending {
            Some(Ending::Stopping(_) | Ending::Swapping(_)) => true,
            None => self.swap.is_some(),
            Some(_) => false,
        }
    }

    /// Something failed that all regions have to do with: they end.
    pub(super) fn end_to_begin_again(&mut self, out: &mut Vec<Action>) {
        self.ending = Some(Ending::Again);
        self.give_up_all("a part of the job failed", out);
        self.cancel_all(out);
    }

    /// Something that belongs to no region failed.
    pub(super) fn fail_everything(&mut self, error: JobError, now: Duration, out: &mut Vec<Action>) {
        if self.cause.is_none() {
            self.cause = Some(error);
        }
        if self.is_joined() {
            self.end_to_begin_again(out);
            return self.end_if_over(now, out);
        }
        let down: Vec<RegionId> =
            (0..self.regions.len()).filter(|region| matches!(self.regions[*region].0, Region::Ended)).collect();
        for (region, (state, attempt)) in self.regions.iter_mut().enumerate() {
            if matches!(state, Region::Running) {
                *state = Region::Cancelling;
                out.push(Action::Cancel { region, attempt: *attempt });
            }
        }
        if down.len() == self.regions.len()
            && let Some(cause) = self.cause.take()
        {
            self.restart_or_fail(down, cause, now, out);
            self.end_if_over(now, out);
        }
    }

    /// No task runs any more, where all were to begin again.
    pub(super) fn begin_again(&mut self, now: Duration, out: &mut Vec<Action>) {
        let cause = self.cause.take().unwrap_or(JobError::Stopped);
        if let Some(request) = self.stop_request.take() {
            out.push(Action::Answer { request, result: Err(Refusal::Failed(with_causes(&cause))) });
        }
        if let Some(cause) = self.swap_failed(cause, out) {
            self.restart_or_fail((0..self.regions.len()).collect(), cause, now, out);
        }
    }

    /// Every region begins again at once, from the newest checkpoint. This is no failure.
    pub(super) fn start_all(&mut self, out: &mut Vec<Action>) {
        self.ending = None;
        self.ended.clear();
        let from = self.latest;
        for (region, (state, attempt)) in self.regions.iter_mut().enumerate() {
            *state = Region::Running;
            *attempt += 1;
            out.push(Action::Start { region, attempt: *attempt, from });
        }
    }
}

/// Would it be the same however often it is tried? What a checkpoint says, and whether it fits, does not change; that a store cannot
/// be read just now may.
fn is_hopeless(error: &JobError) -> bool {
    match error {
        JobError::Restore { error, .. } => !matches!(error, SnapshotError::Storage(StorageError::Io { .. })),
        JobError::Unfit(_) => true,
        JobError::Connector { error, .. } => error.unfit,
        _ => false,
    }
}
