//! A swap: the job goes on with other functions.
//!
//! All tasks end with a checkpoint, as for a stop. When it is committed, all begin again from it with other functions. As long as one
//! of them has not, anything that fails brings the old functions back, from the same checkpoint: none is taken meanwhile. A job that
//! waits to start again after a failure does so at once, from the checkpoint that it has.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Coordinator, Ending};
use crate::checkpoint::protocol::{Action, Happening, Refusal, Target, TaskId};
use crate::checkpoint::snapshot::Stop;
use crate::control::with_causes;
use crate::error::JobError;

/// A swap that has been asked for and is neither done nor refused.
#[derive(Debug)]
pub(super) struct Swap {
    request: u64,
    /// Tasks that have not opened with the new functions; `None`: the old ones are in place.
    opening: Option<BTreeSet<TaskId>>,
}

impl Coordinator {
    pub(super) fn begin_swap(&mut self, request: u64, now: Duration, out: &mut Vec<Action>) {
        self.give_up_all("functions are swapped", out);
        let checkpoint = self.trigger(Target::Checkpoints, None, Some(Stop::Suspend), now, out);
        self.ending = Some(Ending::Swapping(checkpoint));
        self.swap = Some(Swap { request, opening: None });
    }

    /// A part of the job waits to start again, perhaps because of the very function that is to go: all of it begins again, from the
    /// newest checkpoint that there is.
    pub(super) fn begin_swap_while_down(
        &mut self,
        request: u64,
        checkpoint: u64,
        now: Duration,
        out: &mut Vec<Action>,
    ) {
        self.give_up_all("functions are swapped", out);
        self.ending = Some(Ending::Swapping(checkpoint));
        self.swap = Some(Swap { request, opening: None });
        self.cancel_all(out);
        self.end_if_over(now, out);
    }

    /// No task runs any more, and their last checkpoint is committed.
    pub(super) fn take_up(&mut self, out: &mut Vec<Action>) {
        let Some(swap) = &mut self.swap else { return };
        swap.opening = Some((0..self.plan.tasks.len()).collect());
        // Tasks that were cancelled for this have ended with an error.
        self.cause = None;
        out.push(Action::Swap { request: swap.request });
        self.start_all(out);
    }

    pub(super) fn opened(&mut self, task: TaskId, out: &mut Vec<Action>) {
        let Some(Swap { request, opening: Some(opening) }) = &mut self.swap else { return };
        opening.remove(&task);
        // Where another task has failed, all are on their way back.
        if opening.is_empty() && self.ending.is_none() {
            let (request, checkpoint) = (*request, self.latest.unwrap_or(0));
            self.swap = None;
            out.push(Action::Answer { request, result: Ok(checkpoint) });
            out.push(Action::Tell(Happening::Swapped { checkpoint }));
        }
    }

    /// The checkpoint at which functions were to change is that with which the job stops.
    pub(super) fn stop_instead(&mut self, checkpoint: u64, request: u64, out: &mut Vec<Action>) {
        self.refuse_swap(Refusal::NotRunning, out);
        self.ending = Some(Ending::Stopping(checkpoint));
        self.stop_request = Some(request);
        if let Some(pending) = self.pending.get_mut(&checkpoint) {
            pending.request = Some(request);
        }
    }

    pub(super) fn refuse_swap(&mut self, why: Refusal, out: &mut Vec<Action>) {
        if let Some(Swap { request, .. }) = self.swap.take() {
            out.push(Action::Answer { request, result: Err(why) });
        }
    }

    /// Takes back a swap that has failed, and lets all begin again with the functions that they had; the error if there is no swap,
    /// or if it is one that would have come without it.
    pub(super) fn swap_failed(&mut self, cause: JobError, out: &mut Vec<Action>) -> Option<JobError> {
        let Some(Swap { opening, .. }) = &self.swap else { return Some(cause) };
        let why = with_causes(&cause);
        if opening.is_some() {
            self.refuse_swap(Refusal::Unfit(why.clone()), out);
            out.push(Action::Tell(Happening::SwappedBack { checkpoint: self.latest, why }));
            out.push(Action::SwapBack);
            self.start_all(out);
            return None;
        }
        self.refuse_swap(Refusal::Failed(why), out);
        let tolerable = self.plan.checkpoints.as_ref().map_or(0, |policy| policy.tolerable_failures);
        if matches!(cause, JobError::Checkpoint { .. }) && self.failures <= tolerable {
            // All that is amiss is that sources read nothing more.
            self.start_all(out);
            return None;
        }
        Some(cause)
    }
}

#[cfg(test)]
#[path = "swap_tests.rs"]
mod tests;
