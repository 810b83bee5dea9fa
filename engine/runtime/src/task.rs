//! A task: one subtask of a chain of operators, on a thread of its own.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Select, TryRecvError};

use crate::batch::{StreamElement, WATERMARK_MAX, WATERMARK_MIN, position};
use crate::connector::RejectedRow;
use crate::dead_letter::DeadLetter;
use crate::error::JobError;
use crate::exchange::Output;
use crate::job::Shared;
use crate::metrics::NodeMetrics;
use crate::operator::{Chained, Emitter, flush_due};
use crate::source::{ReadError, Splits, Step, WatermarkEmitter};
use crate::spec::OnError;

/// One subtask at work: its thread takes it from [turn](Task::turn) to turn, and waits between.
pub(crate) struct Task {
    pub head: Head,
    pub chain: Vec<Chained>,
    pub output: Output,
    pub shared: Arc<Shared>,
}

/// What elements enter the chain from.
pub(crate) enum Head {
    Source(Box<SourceHead>),
    Channels(Inputs),
}

pub(crate) struct SourceHead {
    pub node: String,
    pub splits: Splits,
    pub watermarks: WatermarkEmitter,
    pub on_error: OnError,
    pub metrics: Arc<NodeMetrics>,
}

/// What a task does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There may be more to do at once.
    Again,
    /// Nothing is there: ask again when an element has come in, a source at the latest after this time.
    Wait(Duration),
    /// It has ended well.
    Done,
}

impl Task {
    /// Runs until input ends, the job is stopped, or something fails.
    pub(crate) fn run(mut self) -> Result<(), JobError> {
        loop {
            match self.turn()? {
                Turn::Again => {}
                Turn::Wait(time) => self.wait(time),
                Turn::Done => return Ok(()),
            }
        }
    }

    /// Takes in one element at most, with all that follows from it. Blocks only while a channel that leads out is full.
    fn turn(&mut self) -> Result<Turn, JobError> {
        let mut chain = Chain { chain: &mut self.chain, output: &mut self.output, shared: &self.shared };
        match &mut self.head {
            Head::Source(source) => source.turn(&mut chain),
            Head::Channels(inputs) => inputs.turn(&mut chain),
        }
    }

    fn wait(&self, time: Duration) {
        match &self.head {
            Head::Source(_) => self.shared.sleep(time),
            Head::Channels(inputs) => inputs.wait(),
        }
    }
}

struct Chain<'a> {
    chain: &'a mut [Chained],
    output: &'a mut Output,
    shared: &'a Shared,
}

impl Chain<'_> {
    fn emitter<'b>(&'b mut self, metrics: &'b NodeMetrics) -> Emitter<'b> {
        Emitter::new(self.chain, self.output, metrics)
    }

    fn flush_if_due(&mut self, metrics: &NodeMetrics) -> Result<(), JobError> {
        match flush_due(self.chain) {
            Some(due) if due <= self.shared.clock.elapsed() => self.emitter(metrics).flush(),
            _ => Ok(()),
        }
    }

    /// The end: what is held back goes out, then the last watermark if input really ended, then the end itself.
    fn end(&mut self, metrics: &NodeMetrics, complete: bool) -> Result<(), JobError> {
        let mut out = self.emitter(metrics);
        out.flush()?;
        if complete {
            out.watermark(WATERMARK_MAX)?;
        }
        for chained in self.chain.iter_mut() {
            chained.operator.finish()?;
        }
        self.emitter(metrics).end()
    }
}

impl SourceHead {
    fn turn(&mut self, chain: &mut Chain<'_>) -> Result<Turn, JobError> {
        let shared = chain.shared;
        if shared.stopping() {
            return chain.end(&self.metrics, false).map(|()| Turn::Done);
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
                chain.emitter(&self.metrics).flush()?;
                turn = Turn::Wait(time);
            }
            Step::End => return chain.end(&self.metrics, true).map(|()| Turn::Done),
        }
        chain.flush_if_due(&self.metrics)?;
        if let Some(watermark) = self.watermarks.due(self.splits.watermark(), || shared.clock.elapsed()) {
            chain.emitter(&self.metrics).watermark(watermark)?;
        }
        Ok(turn)
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

/// The channels that lead into a task, and the event time of each.
pub(crate) struct Inputs {
    receivers: Vec<Receiver<StreamElement>>,
    watermarks: Vec<i64>,
    /// Ended channels do not count any more.
    ended: Vec<bool>,
    /// The watermark that the chain has been told.
    current: i64,
    next: usize,
    /// Of no node: what enters a chain from channels was put out by another task's.
    entry: Arc<NodeMetrics>,
}

impl Inputs {
    pub(crate) fn new(receivers: Vec<Receiver<StreamElement>>) -> Inputs {
        let channels = receivers.len();
        Inputs {
            receivers,
            watermarks: vec![WATERMARK_MIN; channels],
            ended: vec![false; channels],
            current: WATERMARK_MIN,
            next: 0,
            entry: Arc::default(),
        }
    }

    fn turn(&mut self, chain: &mut Chain<'_>) -> Result<Turn, JobError> {
        let entry = Arc::clone(&self.entry);
        let Some((channel, element)) = self.ready()? else {
            // Nothing waits: what is held back goes on now, not when more comes.
            chain.emitter(&entry).flush()?;
            return Ok(Turn::Wait(Duration::MAX));
        };
        match element {
            StreamElement::Batch(batch) => {
                chain.emitter(&entry).emit(batch)?;
                chain.flush_if_due(&entry)?;
            }
            StreamElement::Watermark(watermark) => {
                self.watermarks[channel] = self.watermarks[channel].max(watermark);
                self.advance(chain, &entry)?;
            }
            StreamElement::EndOfInput => {
                self.ended[channel] = true;
                if self.ended.iter().all(|ended| *ended) {
                    // WATERMARK_MAX has come before, if input came to its end.
                    return chain.end(&entry, false).map(|()| Turn::Done);
                }
                self.advance(chain, &entry)?;
            }
        }
        Ok(Turn::Again)
    }

    /// Event time is the least of the channels that can still bring rows.
    fn advance(&mut self, chain: &mut Chain<'_>, entry: &NodeMetrics) -> Result<(), JobError> {
        let open = self.watermarks.iter().zip(&self.ended).filter(|(_, ended)| !**ended);
        let least = open.map(|(watermark, _)| *watermark).min();
        match least {
            Some(least) if least > self.current => {
                self.current = least;
                chain.emitter(entry).watermark(least)
            }
            _ => Ok(()),
        }
    }

    /// An element that waits in some channel, each channel in turn.
    fn ready(&mut self) -> Result<Option<(usize, StreamElement)>, JobError> {
        for _ in 0..self.receivers.len() {
            let channel = self.next;
            self.next = (self.next + 1) % self.receivers.len();
            if self.ended[channel] {
                continue;
            }
            match self.receivers[channel].try_recv() {
                Ok(element) => return Ok(Some((channel, element))),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(JobError::Stopped),
            }
        }
        Ok(None)
    }

    /// Until some channel has an element, or is closed: that of a task that failed closes before its end, and it says why.
    fn wait(&self) {
        let open = self.receivers.iter().zip(&self.ended).filter(|(_, ended)| !**ended);
        let mut select = Select::new();
        open.for_each(|(receiver, _)| {
            select.recv(receiver);
        });
        select.ready();
    }
}
