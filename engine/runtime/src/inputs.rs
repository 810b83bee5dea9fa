//! The channels that lead into a task: whose turn it is, what time it is, and where barriers have come to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Select, TryRecvError};

use crate::batch::{StreamElement, WATERMARK_MIN};
use crate::checkpoint::snapshot::{Alignment, Barrier, ChannelSnapshot, TaskSnapshot};
use crate::error::JobError;
use crate::exchange::{Inlet, Urgent};
use crate::metrics::NodeMetrics;
use crate::simulate::Sabotage;
use crate::task::{Chain, Turn};

pub(crate) struct Inputs {
    ports: Vec<Port>,
    /// The watermark that the chain has been told.
    current: i64,
    next: usize,
    /// The barrier that has come from some and not yet from all.
    aligning: Option<Aligning>,
    /// The newest barrier that came.
    newest: u64,
    /// Of no node: what enters a chain from channels was put out by another task's.
    entry: Arc<NodeMetrics>,
}

/// Barriers that have come to a task and are not taken in yet, as its operators see them.
#[derive(Clone)]
pub(crate) struct WaitingBarriers {
    overtaking: Vec<Receiver<Urgent>>,
    /// Of a source.
    asked: Option<Receiver<Barrier>>,
}

impl WaitingBarriers {
    pub(crate) fn new(inlets: &[Inlet], asked: Option<&Receiver<Barrier>>) -> WaitingBarriers {
        let overtaking = inlets.iter().map(|inlet| inlet.urgent.clone()).collect();
        WaitingBarriers { overtaking, asked: asked.cloned() }
    }

    pub(crate) fn are_there(&self) -> bool {
        self.overtaking.iter().any(|barriers| !barriers.is_empty())
            || self.asked.as_ref().is_some_and(|barriers| !barriers.is_empty())
    }
}

/// An element and its number in its channel, from 1; those that a checkpoint has kept come before all and have 0.
type Numbered = (u64, StreamElement);

/// One channel.
struct Port {
    inlet: Inlet,
    watermark: i64,
    /// Ended channels do not count any more.
    ended: bool,
    /// Elements so far, whether they have been taken in or wait here.
    received: u64,
    /// Out of the channel, and not taken in yet: a barrier has overtaken them, or comes before them.
    waiting: VecDeque<Numbered>,
    /// No barrier will overtake any more: the sender has gone.
    is_left: bool,
}

impl Port {
    /// Nothing more will come out of the channel, a barrier neither.
    fn is_over(&self) -> bool {
        self.ended || matches!(self.waiting.back(), Some((_, StreamElement::EndOfInput)))
    }
}

/// How far a barrier is.
struct Aligning {
    barrier: Barrier,
    since: Duration,
    /// By channel. Those that have ended count as arrived.
    arrived: Vec<bool>,
    /// What the task handed over, where the barrier has overtaken elements; they are still to be told, by channel.
    taken: Option<(TaskSnapshot, Vec<Vec<Numbered>>)>,
}

impl Inputs {
    pub(crate) fn new(inlets: Vec<Inlet>) -> Inputs {
        let port = |inlet| Port {
            inlet,
            watermark: WATERMARK_MIN,
            ended: false,
            received: 0,
            waiting: VecDeque::new(),
            is_left: false,
        };
        Inputs {
            ports: inlets.into_iter().map(port).collect(),
            current: WATERMARK_MIN,
            next: 0,
            aligning: None,
            newest: 0,
            entry: Arc::default(),
        }
    }

    /// Elements that come before all others of their channel, which a checkpoint has kept.
    pub(crate) fn restore(&mut self, kept: impl Iterator<Item = Vec<StreamElement>>) {
        for (port, elements) in self.ports.iter_mut().zip(kept) {
            port.waiting.extend(elements.into_iter().map(|element| (0, element)));
        }
    }

    /// What waits where, for who looks for the reason.
    pub(crate) fn describe(&self) -> String {
        let port = |(channel, port): (usize, &Port)| {
            let (waiting, queued) = (port.waiting.len(), port.inlet.elements.len());
            let blocked = if self.is_blocked(channel) { " blocked" } else { "" };
            format!("{:?}: {waiting}+{queued}{blocked}{}", port.inlet.from, if port.ended { " ended" } else { "" })
        };
        let ports = self.ports.iter().enumerate().map(port).collect::<Vec<_>>().join(", ");
        let aligning =
            self.aligning.as_ref().map(|aligning| (&aligning.barrier, &aligning.arrived, aligning.taken.is_some()));
        format!("[{ports}] newest {} {aligning:?}", self.newest)
    }

    /// The sending ends, in order.
    pub(crate) fn senders(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.ports.iter().map(|port| port.inlet.from)
    }

    pub(crate) fn turn(&mut self, chain: &mut Chain<'_>) -> Result<Turn, JobError> {
        self.overtaking(chain)?;
        self.hurry(chain)?;
        let entry = Arc::clone(&self.entry);
        let Some((channel, element)) = self.ready(chain)? else {
            // Nothing waits: what is held back goes on now, not when more comes.
            chain.emitter(&entry).flush(false)?;
            return Ok(Turn::Wait(self.patience(chain)));
        };
        match element {
            StreamElement::Batch(batch) => {
                chain.emitter(&entry).emit(batch)?;
                chain.flush_if_due(&entry)?;
            }
            StreamElement::Watermark(watermark) => {
                let port = &mut self.ports[channel];
                port.watermark = port.watermark.max(watermark);
                self.advance(chain)?;
            }
            StreamElement::Barrier(barrier) => self.arrived(channel, &barrier, chain)?,
            StreamElement::EndOfInput => {
                self.ports[channel].ended = true;
                if let Some(aligning) = &mut self.aligning {
                    aligning.arrived[channel] = true;
                }
                self.finish_alignment(chain)?;
                if self.ports.iter().all(|port| port.ended) {
                    // WATERMARK_MAX has come before, if input came to its end.
                    return chain.end(&entry, false).map(Turn::Done);
                }
                self.advance(chain)?;
            }
        }
        Ok(Turn::Again)
    }

    /// Event time is the least of the channels that can still bring rows.
    fn advance(&mut self, chain: &mut Chain<'_>) -> Result<(), JobError> {
        let least = self.ports.iter().filter(|port| !port.ended).map(|port| port.watermark).min();
        match least {
            Some(least) if least > self.current => {
                self.current = least;
                chain.emitter(&self.entry).watermark(least)
            }
            _ => Ok(()),
        }
    }

    /// An element that waits in some channel, each channel in turn. A channel whose barrier has come waits for the others.
    fn ready(&mut self, chain: &mut Chain<'_>) -> Result<Option<(usize, StreamElement)>, JobError> {
        // What has waited longest comes first: after a restore with another parallelism, rows that follow those here may come on
        // other channels.
        for channel in 0..self.ports.len() {
            if !self.is_blocked(channel)
                && let Some((_, element)) = self.ports[channel].waiting.pop_front()
            {
                return Ok(Some((channel, element)));
            }
        }
        for _ in 0..self.ports.len() {
            let channel = self.next;
            self.next = (self.next + 1) % self.ports.len();
            if self.ports[channel].ended || self.is_blocked(channel) {
                continue;
            }
            let port = &mut self.ports[channel];
            match port.inlet.elements.try_recv() {
                Ok(element) => {
                    port.received += 1;
                    let number = port.received;
                    // A barrier may have overtaken since one was last looked for, and the element be behind it. Who sends tells
                    // the barrier first: now that the element is here, it is to be seen.
                    let is_overtaken = !port.inlet.urgent.is_empty();
                    self.record(channel, &element);
                    if is_overtaken {
                        self.ports[channel].waiting.push_back((number, element));
                        self.overtaking(chain)?;
                        return self.ready(chain);
                    }
                    return Ok(Some((channel, element)));
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(JobError::Stopped),
            }
        }
        Ok(None)
    }

    fn is_blocked(&self, channel: usize) -> bool {
        self.aligning.as_ref().is_some_and(|aligning| aligning.taken.is_none() && aligning.arrived[channel])
    }

    /// What comes on a channel before its barrier, after the task has handed over, was on its way.
    fn record(&mut self, channel: usize, element: &StreamElement) {
        let Some(Aligning { arrived, taken: Some((_, kept)), .. }) = &mut self.aligning else { return };
        if !arrived[channel] && matches!(element, StreamElement::Batch(_) | StreamElement::Watermark(_)) {
            kept[channel].push((self.ports[channel].received, element.clone()));
        }
    }

    /// A barrier has come in its place among the elements.
    fn arrived(&mut self, channel: usize, barrier: &Barrier, chain: &mut Chain<'_>) -> Result<(), JobError> {
        if !self.begin(barrier, chain) {
            return Ok(());
        }
        if let Some(aligning) = &mut self.aligning {
            aligning.arrived[channel] = true;
        }
        self.finish_alignment(chain)
    }

    /// False for a barrier that was given up, of which a newer one has told already.
    fn begin(&mut self, barrier: &Barrier, chain: &Chain<'_>) -> bool {
        if barrier.checkpoint < self.newest {
            return false;
        }
        if barrier.checkpoint == self.newest {
            return self.aligning.is_some();
        }
        self.newest = barrier.checkpoint;
        let skip = chain.shared.sabotage == Some(Sabotage::SkipAlignment);
        let arrived = self.ports.iter().map(|port| skip || port.is_over()).collect();
        let since = chain.shared.clock.elapsed();
        self.aligning = Some(Aligning { barrier: barrier.clone(), since, arrived, taken: None });
        true
    }

    /// Barriers that do not wait behind elements.
    fn overtaking(&mut self, chain: &mut Chain<'_>) -> Result<(), JobError> {
        for channel in 0..self.ports.len() {
            while !self.ports[channel].is_left {
                let Urgent { barrier, after } = match self.ports[channel].inlet.urgent.try_recv() {
                    Ok(urgent) => urgent,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        self.ports[channel].is_left = true;
                        break;
                    }
                };
                if !self.begin(&barrier, chain) {
                    continue;
                }
                self.hand_over(chain)?;
                self.take_out(channel, Some(after));
                if let Some(aligning) = &mut self.aligning {
                    aligning.arrived[channel] = true;
                    // Some may have come out of the channel before the barrier was looked for.
                    if let Some((_, kept)) = &mut aligning.taken {
                        kept[channel].retain(|(number, _)| *number <= after);
                    }
                }
                self.finish_alignment(chain)?;
            }
        }
        Ok(())
    }

    /// A barrier that has waited for the others too long goes on without them.
    fn hurry(&mut self, chain: &mut Chain<'_>) -> Result<(), JobError> {
        let Some(Aligning { barrier, since, taken: None, .. }) = &self.aligning else { return Ok(()) };
        let Alignment::Timeout(milliseconds) = barrier.alignment else { return Ok(()) };
        if chain.shared.clock.elapsed() < *since + Duration::from_millis(milliseconds) {
            return Ok(());
        }
        self.hand_over(chain)?;
        for channel in 0..self.ports.len() {
            self.take_out(channel, None);
        }
        self.finish_alignment(chain)
    }

    fn patience(&self, chain: &Chain<'_>) -> Duration {
        match &self.aligning {
            Some(Aligning { barrier, since, taken: None, .. }) => match barrier.alignment {
                Alignment::Timeout(milliseconds) => {
                    (*since + Duration::from_millis(milliseconds)).saturating_sub(chain.shared.clock.elapsed())
                }
                Alignment::Aligned | Alignment::Unaligned => Duration::MAX,
            },
            _ => Duration::MAX,
        }
    }

    /// The task hands over before all channels have brought the barrier: what they still bring before it belongs to the checkpoint.
    fn hand_over(&mut self, chain: &mut Chain<'_>) -> Result<(), JobError> {
        let Some(aligning) = self.aligning.as_mut().filter(|aligning| aligning.taken.is_none()) else { return Ok(()) };
        let barrier = Barrier { alignment: Alignment::Unaligned, ..aligning.barrier.clone() };
        let snapshot = chain.barrier(&barrier, &self.entry)?;
        let kept = self.ports.iter().map(|port| {
            let waiting = port.waiting.iter();
            waiting.filter(|(_, element)| !matches!(element, StreamElement::EndOfInput)).cloned().collect()
        });
        aligning.taken = Some((snapshot, kept.collect()));
        Ok(())
    }

    /// Takes out of the channel what is before the barrier: as much of it as is there, or all if it is known how much that is.
    fn take_out(&mut self, channel: usize, after: Option<u64>) {
        let Some(Aligning { barrier, arrived, .. }) = &self.aligning else { return };
        let (number, mut done) = (barrier.checkpoint, arrived[channel]);
        while !done && after.is_none_or(|after| self.ports[channel].received < after) {
            let port = &mut self.ports[channel];
            let Ok(element) = port.inlet.elements.try_recv() else { break };
            port.received += 1;
            match element {
                StreamElement::Barrier(barrier) => done = barrier.checkpoint == number,
                element => {
                    done = matches!(element, StreamElement::EndOfInput);
                    self.record(channel, &element);
                    let port = &mut self.ports[channel];
                    port.waiting.push_back((port.received, element));
                }
            }
        }
        if let Some(aligning) = &mut self.aligning {
            aligning.arrived[channel] |= done;
        }
    }

    /// The barrier has come from all channels.
    fn finish_alignment(&mut self, chain: &mut Chain<'_>) -> Result<(), JobError> {
        let Some(aligning) = self.aligning.take_if(|aligning| aligning.arrived.iter().all(|arrived| *arrived)) else {
            return Ok(());
        };
        let Aligning { barrier, taken, .. } = aligning;
        let snapshot = match taken {
            None => chain.barrier(&barrier, &self.entry)?,
            Some((mut snapshot, kept)) => {
                let ports = self.ports.iter().zip(kept).filter(|(_, elements)| !elements.is_empty());
                let elements = |kept: Vec<Numbered>| kept.into_iter().map(|(_, element)| element).collect();
                let channels =
                    ports.map(|(port, kept)| ChannelSnapshot { from: port.inlet.from, elements: elements(kept) });
                snapshot.channels = channels.collect();
                if chain.shared.sabotage == Some(Sabotage::ForgetInFlight) {
                    snapshot.channels.clear();
                }
                snapshot
            }
        };
        chain.shared.reports.acknowledge(barrier.checkpoint, snapshot);
        Ok(())
    }

    /// Until some channel has an element, or is closed: that of a task that failed closes before its end, and it says why.
    pub(crate) fn wait(&self, time: Duration) {
        let mut select = Select::new();
        for (channel, port) in self.ports.iter().enumerate().filter(|(_, port)| !port.ended) {
            if !self.is_blocked(channel) {
                select.recv(&port.inlet.elements);
            }
            if !port.is_left {
                select.recv(&port.inlet.urgent);
            }
        }
        if time == Duration::MAX {
            select.ready();
        } else {
            // An error: the time is over, which is what was waited for.
            let _over = select.ready_timeout(time);
        }
    }
}
