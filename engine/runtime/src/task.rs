//! A task: one subtask of a chain of operators, on a thread of its own.

use std::time::Instant;

use crossbeam::channel::{Receiver, RecvError, Select, TryRecvError};

use crate::batch::{StreamElement, WATERMARK_MAX, WATERMARK_MIN};
use crate::dead_letter::DeadLetter;
use crate::error::JobError;
use crate::exchange::Output;
use crate::job::Shared;
use crate::metrics::NodeMetrics;
use crate::operator::{Chained, Emitter, flush_due};
use crate::source::{Numbered, ReadError, Splits, Step, WatermarkEmitter};
use crate::spec::OnError;

use std::sync::Arc;

/// Runs until input ends, the job is stopped, or something fails.
pub(crate) struct Task {
    /// Of the first node.
    pub node: String,
    pub head: Head,
    pub chain: Vec<Chained>,
    pub output: Output,
    pub shared: Arc<Shared>,
}

pub(crate) enum Head {
    Source(SourceHead),
    Channels { receivers: Vec<Receiver<StreamElement>> },
}

pub(crate) struct SourceHead {
    pub source: Arc<dyn crate::connector::Source>,
    pub watermark: Option<crate::graph::Watermark>,
    pub on_error: OnError,
    pub splits: Vec<Numbered>,
    pub metrics: Arc<NodeMetrics>,
}

impl Task {
    pub(crate) fn run(mut self) -> Result<(), JobError> {
        // Elements enter the chain through the emitter of a head that is no operator itself.
        let entry = NodeMetrics::default();
        match self.head {
            Head::Source(head) => {
                let mut chain = Chain { chain: &mut self.chain, output: &mut self.output };
                read(&head, &self.node, &self.shared, &mut chain)
            }
            Head::Channels { receivers } => {
                let mut chain = Chain { chain: &mut self.chain, output: &mut self.output };
                Inputs::new(receivers).run(&mut chain, &entry)
            }
        }
    }
}

struct Chain<'a> {
    chain: &'a mut [Chained],
    output: &'a mut Output,
}

impl Chain<'_> {
    fn emitter<'b>(&'b mut self, metrics: &'b NodeMetrics) -> Emitter<'b> {
        Emitter::new(self.chain, self.output, metrics)
    }

    fn flush_if_due(&mut self, metrics: &NodeMetrics) -> Result<(), JobError> {
        match flush_due(self.chain) {
            Some(due) if due <= Instant::now() => self.emitter(metrics).flush(),
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

fn read(head: &SourceHead, node: &str, shared: &Shared, chain: &mut Chain<'_>) -> Result<(), JobError> {
    let mut splits = Splits::new(head.source.as_ref(), head.watermark, head.splits.clone());
    let mut watermarks = WatermarkEmitter::new(shared.config.watermark_interval);
    let progress = &shared.metrics.progress.done;
    loop {
        if shared.stopping() {
            return chain.end(&head.metrics, false);
        }
        let step = splits.step(shared.config.batch_rows_max, |more| progress.add(more));
        let step = step.map_err(|error| match error {
            ReadError::Connector(error) => JobError::Connector { node: node.to_owned(), error },
            ReadError::Arrow(error) => JobError::Arrow { node: node.to_owned(), error },
        })?;
        match step {
            Step::Rows(batch) => chain.emitter(&head.metrics).emit(batch)?,
            Step::Rejected { split, rows } => rejected(head, node, shared, split, &rows)?,
            Step::Wait(time) => {
                chain.emitter(&head.metrics).flush()?;
                shared.sleep(time);
            }
            Step::End => return chain.end(&head.metrics, true),
        }
        chain.flush_if_due(&head.metrics)?;
        if let Some(watermark) = watermarks.due(splits.watermark()) {
            chain.emitter(&head.metrics).watermark(watermark)?;
        }
    }
}

fn rejected(
    head: &SourceHead,
    node: &str,
    shared: &Shared,
    split: u16,
    rows: &[crate::connector::RejectedRow],
) -> Result<(), JobError> {
    for row in rows {
        head.metrics.row_errors.add(1);
        match head.on_error {
            OnError::Skip => {}
            OnError::Fail => {
                return Err(JobError::Rejected { node: node.to_owned(), message: row.message.clone() });
            }
            OnError::DeadLetter => {
                let place = shared.place_of(crate::batch::position(split, row.row));
                shared.dead_letter(DeadLetter {
                    node: node.to_owned(),
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

/// The channels that lead into a task, and the event time of each.
struct Inputs {
    receivers: Vec<Receiver<StreamElement>>,
    watermarks: Vec<i64>,
    /// Ended channels do not count any more.
    ended: Vec<bool>,
    /// The watermark that the chain has been told.
    current: i64,
    next: usize,
}

impl Inputs {
    fn new(receivers: Vec<Receiver<StreamElement>>) -> Inputs {
        let channels = receivers.len();
        Inputs {
            receivers,
            watermarks: vec![WATERMARK_MIN; channels],
            ended: vec![false; channels],
            current: WATERMARK_MIN,
            next: 0,
        }
    }

    fn run(mut self, chain: &mut Chain<'_>, entry: &NodeMetrics) -> Result<(), JobError> {
        loop {
            let (channel, element) = match self.ready()? {
                Some(ready) => ready,
                None => {
                    // Nothing waits: what is held back goes on now, not when more comes.
                    chain.emitter(entry).flush()?;
                    self.wait()?
                }
            };
            match element {
                StreamElement::Batch(batch) => {
                    chain.emitter(entry).emit(batch)?;
                    chain.flush_if_due(entry)?;
                }
                StreamElement::Watermark(watermark) => {
                    self.watermarks[channel] = self.watermarks[channel].max(watermark);
                    self.advance(chain, entry)?;
                }
                StreamElement::EndOfInput => {
                    self.ended[channel] = true;
                    if self.ended.iter().all(|ended| *ended) {
                        // WATERMARK_MAX has come before, if input came to its end.
                        return chain.end(entry, false);
                    }
                    self.advance(chain, entry)?;
                }
            }
        }
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

    fn wait(&self) -> Result<(usize, StreamElement), JobError> {
        let open: Vec<usize> = (0..self.receivers.len()).filter(|&channel| !self.ended[channel]).collect();
        let mut select = Select::new();
        for &channel in &open {
            select.recv(&self.receivers[channel]);
        }
        let operation = select.select();
        let channel = open[operation.index()];
        // A channel that closes before its end belongs to a task that failed; that task says why.
        let element = operation.recv(&self.receivers[channel]).map_err(|RecvError| JobError::Stopped)?;
        Ok((channel, element))
    }
}
