//! How a task's output gets to the tasks behind it: bounded channels, so that a slow task slows those before it.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use crate::batch::{Batch, StreamElement};
use crate::checkpoint::snapshot::{Alignment, Barrier};
use crate::error::JobError;
use crate::graph::{Exchange, NodeId};
use crate::key::{KeyEncoder, hash, key_group, subtask_of};

/// Everything behind one subtask.
pub(crate) struct Output {
    pub edges: Vec<Edge>,
}

/// The way to one task behind.
pub(crate) struct Edge {
    /// Of the node that sends, for messages.
    pub node: String,
    /// One for each subtask that this one can reach.
    pub lanes: Vec<Lane>,
    pub partition: Partition,
}

/// The sending end of a channel.
pub(crate) struct Lane {
    elements: Sender<StreamElement>,
    /// For barriers that do not wait behind elements.
    urgent: Sender<Urgent>,
    /// Elements so far.
    sent: u64,
}

/// A barrier that has overtaken elements.
#[derive(Debug, Clone)]
pub(crate) struct Urgent {
    pub barrier: Barrier,
    /// So many elements of the channel are before it.
    pub after: u64,
}

/// The receiving end of a channel.
pub(crate) struct Inlet {
    /// Node and subtask at the other end.
    pub from: (NodeId, usize),
    pub elements: Receiver<StreamElement>,
    pub urgent: Receiver<Urgent>,
}

impl Lane {
    /// Waits while the channel is full. One closes early only when its reader has failed or was stopped, and that has been told
    /// elsewhere.
    fn send(&mut self, element: StreamElement) -> Result<(), JobError> {
        self.sent += 1;
        self.elements.send(element).map_err(|_| JobError::Stopped)
    }

    fn overtake(&self, barrier: &Barrier) -> Result<(), JobError> {
        let urgent = Urgent { barrier: barrier.clone(), after: self.sent };
        self.urgent.send(urgent).map_err(|_| JobError::Stopped)
    }

    /// Elements that wait.
    pub(crate) fn backlog(&self) -> usize {
        self.elements.len()
    }
}

pub(crate) enum Partition {
    /// There is one sender.
    Forward,
    Rebalance {
        next: usize,
    },
    Hash {
        encoder: KeyEncoder,
        max_parallelism: usize,
    },
}

impl Output {
    pub(crate) fn batch(&mut self, batch: Batch) -> Result<(), JobError> {
        let Some((last, others)) = self.edges.split_last_mut() else { return Ok(()) };
        for edge in others {
            edge.batch(batch.clone())?;
        }
        last.batch(batch)
    }

    pub(crate) fn broadcast(&mut self, element: &StreamElement) -> Result<(), JobError> {
        let mut lanes = self.edges.iter_mut().flat_map(|edge| &mut edge.lanes);
        lanes.try_for_each(|lane| lane.send(element.clone()))
    }

    /// Before the elements that wait, if it is unaligned, else behind them.
    pub(crate) fn barrier(&mut self, barrier: &Barrier) -> Result<(), JobError> {
        match barrier.alignment {
            Alignment::Unaligned => {
                let mut lanes = self.edges.iter().flat_map(|edge| &edge.lanes);
                lanes.try_for_each(|lane| lane.overtake(barrier))
            }
            Alignment::Aligned | Alignment::Timeout(_) => self.broadcast(&StreamElement::Barrier(barrier.clone())),
        }
    }
}

impl Edge {
    fn batch(&mut self, batch: Batch) -> Result<(), JobError> {
        match &mut self.partition {
            Partition::Forward => self.lanes[0].send(StreamElement::Batch(batch)),
            Partition::Rebalance { next } => {
                *next = (*next + 1) % self.lanes.len();
                self.lanes[*next].send(StreamElement::Batch(batch))
            }
            Partition::Hash { encoder, max_parallelism } => {
                let parts = split(&batch, encoder, self.lanes.len(), *max_parallelism);
                let parts = parts.map_err(|error| JobError::Arrow { node: self.node.clone(), error })?;
                for (lane, part) in self.lanes.iter_mut().zip(parts) {
                    if let Some(part) = part {
                        lane.send(StreamElement::Batch(part))?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The rows of each subtask, in their order.
fn split(
    batch: &Batch,
    encoder: &KeyEncoder,
    parallelism: usize,
    max_parallelism: usize,
) -> Result<Vec<Option<Batch>>, arrow::error::ArrowError> {
    let keys = encoder.encode(batch.rows())?;
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); parallelism];
    for row in 0..batch.num_rows() {
        let group = key_group(hash(keys.get(row)), max_parallelism);
        rows[subtask_of(group, parallelism, max_parallelism)].push(row as u32);
    }
    let part = |rows: Vec<u32>| match rows.len() {
        0 => Ok(None),
        all if all == batch.num_rows() => Ok(Some(batch.clone())),
        _ => batch.take(&rows).map(Some),
    };
    rows.into_iter().map(part).collect()
}

/// What a connection between two tasks gave each side, by subtask.
pub(crate) struct Wires {
    pub lanes: Vec<Vec<Lane>>,
    pub inlets: Vec<Vec<Inlet>>,
}

/// Channels from `from` subtasks of a node to `to` subtasks. Without a bound nobody waits: who runs the tasks sees to it.
pub(crate) fn wires(exchange: &Exchange, node: NodeId, from: usize, to: usize, elements_max: Option<usize>) -> Wires {
    let mut wires =
        Wires { lanes: (0..from).map(|_| Vec::new()).collect(), inlets: (0..to).map(|_| Vec::new()).collect() };
    for sender in 0..from {
        for receiver in 0..to {
            if *exchange == Exchange::Forward && sender != receiver {
                continue;
            }
            let (elements, incoming) = elements_max.map_or_else(unbounded, bounded);
            // Barriers are few, and must not wait.
            let (urgent, incoming_urgent) = unbounded();
            wires.lanes[sender].push(Lane { elements, urgent, sent: 0 });
            wires.inlets[receiver].push(Inlet { from: (node, sender), elements: incoming, urgent: incoming_urgent });
        }
    }
    wires
}

/// The way in which one subtask of `exchange` picks among its senders.
pub(crate) fn partition(
    exchange: &Exchange,
    schema: &Arc<arrow::datatypes::Schema>,
    subtask: usize,
    max_parallelism: usize,
) -> Result<Partition, arrow::error::ArrowError> {
    Ok(match exchange {
        Exchange::Forward => Partition::Forward,
        // Subtasks begin at different places, so that short streams spread too.
        Exchange::Rebalance => Partition::Rebalance { next: subtask },
        Exchange::Hash(key) => Partition::Hash { encoder: KeyEncoder::new(schema, key)?, max_parallelism },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use proptest::prelude::*;

    proptest! {
        /// Every row arrives once, order is kept, and a key always goes to the same subtask.
        #[test]
        fn hash_keeps_rows_and_order(keys in prop::collection::vec(prop::option::of(0i64..10), 1..100), parallelism in 1usize..5) {
            let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("i", DataType::Int64, false)]));
            let numbers = Int64Array::from_iter_values(0..keys.len() as i64);
            let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(keys.clone())), Arc::new(numbers)]).unwrap();
            let encoder = KeyEncoder::new(&schema, &[0]).unwrap();
            let parts = split(&Batch::new(rows), &encoder, parallelism, 128).unwrap();
            let mut home = std::collections::HashMap::new();
            let mut seen = Vec::new();
            for (subtask, part) in parts.iter().enumerate() {
                let Some(part) = part else { continue };
                let numbers: Vec<i64> = part.column(1).as_primitive::<Int64Type>().values().to_vec();
                prop_assert!(numbers.is_sorted());
                for &number in &numbers {
                    prop_assert_eq!(*home.entry(keys[number as usize]).or_insert(subtask), subtask);
                }
                seen.extend(numbers);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..keys.len() as i64).collect::<Vec<_>>());
        }
    }
}
