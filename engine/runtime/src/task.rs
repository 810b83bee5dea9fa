//! A task: one subtask of a chain of operators, on a thread of its own.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Select};
use serde_json::json;

use crate::batch::{Batch, WATERMARK_MAX, position};
use crate::checkpoint::snapshot::{Alignment, Barrier, NodeSnapshot, Stop, TaskSnapshot};
use crate::config::BarrierBundle;
use crate::connector::RejectedRow;
use crate::dead_letter::DeadLetter;
use crate::error::JobError;
use crate::exchange::Output;
use crate::graph::NodeId;
use crate::inputs::Inputs;
use crate::metrics::NodeMetrics;
use crate::operator::{Chained, Emitter, flush_due};
use crate::shared::{Shared, WAIT_STEP, locked};
use crate::source::{ReadError, Splits, Step, WatermarkEmitter};
use crate::spec::OnError;

/// One subtask at work: its thread takes it from [turn](Task::turn) to turn, and waits between.
pub(crate) struct Task {
    pub head: Head,
    pub chain: Vec<Chained>,
    pub output: Output,
    pub shared: Arc<Shared>,
    /// [`Barrier::confirmed`] of the last barrier.
    pub confirmed: u64,
    /// Rows that a checkpoint has kept for an operator of the chain, by its place: they come before all others.
    pub early: Vec<(usize, Batch)>,
}

/// What elements enter the chain from.
pub(crate) enum Head {
    Source(Box<SourceHead>),
    Channels(Box<Inputs>),
}

pub(crate) struct SourceHead {
    pub id: NodeId,
    pub node: String,
    /// Barriers begin here.
    pub control: Receiver<Barrier>,
    pub splits: Splits,
    pub watermarks: WatermarkEmitter,
    pub on_error: OnError,
    pub metrics: Arc<NodeMetrics>,
}

/// What a task does next.
#[derive(Debug)]
pub(crate) enum Turn {
    /// There may be more to do at once.
    Again,
    /// Nothing is there: ask again when an element has come in, a source at the latest after this time.
    Wait(Duration),
    /// It has ended well; its last words.
    Done(TaskSnapshot),
}

impl Task {
    /// Runs until input ends, the job is stopped, or something fails.
    pub(crate) fn run(mut self) -> Result<TaskSnapshot, JobError> {
        loop {
            match self.turn()? {
                Turn::Again => {}
                Turn::Wait(time) => self.wait(time),
                Turn::Done(last_words) => return Ok(last_words),
            }
        }
    }

    /// Takes in one element at most, with all that follows from it. Blocks only while a channel that leads out is full.
    pub(crate) fn turn(&mut self) -> Result<Turn, JobError> {
        if self.shared.cancelled() {
            return Err(JobError::Stopped);
        }
        let mut chain = Chain {
            chain: &mut self.chain,
            output: &mut self.output,
            shared: &self.shared,
            confirmed: &mut self.confirmed,
        };
        if !self.early.is_empty() {
            let entry = NodeMetrics::default();
            for (place, batch) in std::mem::take(&mut self.early) {
                Emitter::new(&mut chain.chain[place..], chain.output, &entry).emit(batch)?;
            }
        }
        match &mut self.head {
            Head::Source(source) => source.turn(&mut chain),
            Head::Channels(inputs) => inputs.turn(&mut chain),
        }
    }

    fn wait(&self, time: Duration) {
        match &self.head {
            Head::Source(source) => source.wait(time, &self.shared),
            Head::Channels(inputs) => inputs.wait(time),
        }
    }

    /// What it waits for, for who looks for the reason.
    pub(crate) fn describe(&self) -> String {
        match &self.head {
            Head::Source(_) => "source".to_owned(),
            Head::Channels(inputs) => inputs.describe(),
        }
    }

    /// The most elements that wait in a channel that leads out.
    pub(crate) fn backlog(&self) -> usize {
        let lanes = self.output.edges.iter().flat_map(|edge| &edge.lanes);
        lanes.map(crate::exchange::Lane::backlog).max().unwrap_or(0)
    }
}

/// The operators of a task and what is behind them, while its head has a turn.
pub(crate) struct Chain<'a> {
    pub chain: &'a mut [Chained],
    output: &'a mut Output,
    pub shared: &'a Shared,
    confirmed: &'a mut u64,
}

impl Chain<'_> {
    pub(crate) fn emitter<'b>(&'b mut self, metrics: &'b NodeMetrics) -> Emitter<'b> {
        Emitter::new(self.chain, self.output, metrics)
    }

    pub(crate) fn flush_if_due(&mut self, metrics: &NodeMetrics) -> Result<(), JobError> {
        match flush_due(self.chain) {
            Some(due) if due <= self.shared.clock.elapsed() => self.emitter(metrics).flush(false),
            _ => Ok(()),
        }
    }

    /// A barrier has come from all sides: what is before it has been taken in.
    pub(crate) fn barrier(&mut self, barrier: &Barrier, metrics: &NodeMetrics) -> Result<TaskSnapshot, JobError> {
        // Nothing follows a barrier that stops: what is held back has to be done some time.
        let persist = self.shared.config.checkpoint_bundle == BarrierBundle::Persist && barrier.stop.is_none();
        if !persist {
            self.emitter(metrics).flush(true)?;
        }
        self.output.barrier(barrier)?;
        self.snapshot(barrier)
    }

    fn snapshot(&mut self, barrier: &Barrier) -> Result<TaskSnapshot, JobError> {
        *self.confirmed = barrier.confirmed;
        let nodes = self.chain.iter_mut().map(|chained| {
            let snapshot = chained.operator.snapshot(barrier)?;
            Ok(NodeSnapshot { node: chained.node, ..snapshot })
        });
        let mut nodes = nodes.collect::<Result<Vec<_>, JobError>>()?;
        // Those that all tasks share belong to none of them.
        if let Some(letters) = self.shared.letters.as_ref().filter(|_| self.shared.checkpoints) {
            let (own, prepared) = locked(letters).snapshot(barrier)?;
            let node = self.shared.metrics.nodes.len();
            nodes.push(NodeSnapshot { node, own, prepared, ..NodeSnapshot::default() });
        }
        Ok(TaskSnapshot { confirmed: barrier.confirmed, nodes, channels: Vec::new() })
    }

    /// The end: what is held back goes out, then the last watermark if input really ended, then the end itself.
    pub(crate) fn end(&mut self, metrics: &NodeMetrics, complete: bool) -> Result<TaskSnapshot, JobError> {
        let mut out = self.emitter(metrics);
        out.flush(true)?;
        if complete {
            out.watermark(WATERMARK_MAX)?;
        }
        out.end()?;
        // All of it, since it may be asked for by savepoints too.
        let barrier = Barrier {
            checkpoint: u64::MAX,
            confirmed: *self.confirmed,
            full: true,
            alignment: Alignment::Aligned,
            stop: None,
        };
        self.snapshot(&barrier)
    }
}

impl SourceHead {
    fn turn(&mut self, chain: &mut Chain<'_>) -> Result<Turn, JobError> {
        let shared = chain.shared;
        if let Ok(barrier) = self.control.try_recv() {
            return self.barrier(&barrier, chain);
        }
        if shared.stopping() {
            return self.end(chain, false);
        }
        let progress = &shared.metrics.progress.done;
        let step = self.splits.step(shared.config.batch_rows_max, |more| progress.add(more));
        let step = step.map_err(|error| match error {
            ReadError::Connector(error) => JobError::Connector { node: self.node.clone(), error },
            ReadError::Arrow(error) => JobError::Arrow { node: self.node.clone(), error },
        })?;
        let mut turn = Turn::Again;
        match step {
            Step::Rows(batch) => chain.emitter(&self.metrics).emit(batch)?,
            Step::Rejected { split, rows } => self.rejected(shared, split, &rows)?,
            Step::Wait(time) => {
                chain.emitter(&self.metrics).flush(false)?;
                turn = Turn::Wait(time);
            }
            Step::End => return self.end(chain, true),
        }
        chain.flush_if_due(&self.metrics)?;
        if let Some(watermark) = self.watermarks.due(self.splits.watermark(), || shared.clock.elapsed()) {
            chain.emitter(&self.metrics).watermark(watermark)?;
        }
        Ok(turn)
    }

    fn barrier(&mut self, barrier: &Barrier, chain: &mut Chain<'_>) -> Result<Turn, JobError> {
        if barrier.stop == Some(Stop::Drain) {
            chain.emitter(&self.metrics).watermark(WATERMARK_MAX)?;
        }
        let mut snapshot = chain.barrier(barrier, &self.metrics)?;
        snapshot.nodes.push(self.snapshot());
        chain.shared.reports.acknowledge(barrier.checkpoint, snapshot);
        match barrier.stop {
            None => Ok(Turn::Again),
            Some(_) => self.end(chain, false),
        }
    }

    fn snapshot(&self) -> NodeSnapshot {
        NodeSnapshot { node: self.id, own: json!(self.splits.state()), ..NodeSnapshot::default() }
    }

    fn end(&mut self, chain: &mut Chain<'_>, complete: bool) -> Result<Turn, JobError> {
        let mut last_words = chain.end(&self.metrics, complete)?;
        last_words.nodes.push(self.snapshot());
        Ok(Turn::Done(last_words))
    }

    /// Until there may be something to read, a barrier has come, or the job is to end.
    fn wait(&self, time: Duration, shared: &Shared) {
        let until = shared.clock.elapsed() + time;
        let mut select = Select::new();
        select.recv(&self.control);
        loop {
            let left = until.saturating_sub(shared.clock.elapsed());
            if left.is_zero() || shared.stopping() || select.ready_timeout(left.min(WAIT_STEP)).is_ok() {
                return;
            }
        }
    }

    fn rejected(&self, shared: &Shared, split: u16, rows: &[RejectedRow]) -> Result<(), JobError> {
        for row in rows {
            self.metrics.row_errors.add(1);
            match self.on_error {
                OnError::Skip => {}
                OnError::Fail => {
                    return Err(JobError::Rejected { node: self.node.clone(), message: row.message.clone() });
                }
                OnError::DeadLetter => {
                    let place = shared.place_of(position(split, row.row));
                    shared.dead_letter(DeadLetter {
                        node: self.node.clone(),
                        function: None,
                        source: place.as_ref().map(|place| place.source.to_owned()),
                        split: place.as_ref().map(|place| place.split.to_owned()),
                        row: i64::try_from(row.row).ok(),
                        kind: "rejected".to_owned(),
                        message: row.message.clone(),
                        traceback: String::new(),
                        record: row.raw.clone(),
                    })?;
                }
            }
        }
        Ok(())
    }
}
