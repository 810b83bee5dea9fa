//! How a task's output gets to the tasks behind it: bounded channels, so that a slow task slows those before it.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::batch::{Batch, StreamElement};
use crate::error::JobError;
use crate::graph::Exchange;
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
    pub senders: Vec<Sender<StreamElement>>,
    pub partition: Partition,
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
        for edge in &self.edges {
            for sender in &edge.senders {
                send(sender, element.clone())?;
            }
        }
        Ok(())
    }
}

impl Edge {
    fn batch(&mut self, batch: Batch) -> Result<(), JobError> {
        match &mut self.partition {
            Partition::Forward => send(&self.senders[0], StreamElement::Batch(batch)),
            Partition::Rebalance { next } => {
                *next = (*next + 1) % self.senders.len();
                send(&self.senders[*next], StreamElement::Batch(batch))
            }
            Partition::Hash { encoder, max_parallelism } => {
                let parts = split(&batch, encoder, self.senders.len(), *max_parallelism);
                let parts = parts.map_err(|error| JobError::Arrow { node: self.node.clone(), error })?;
                for (sender, part) in self.senders.iter().zip(parts) {
                    if let Some(part) = part {
                        send(sender, StreamElement::Batch(part))?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// A channel closes early only when its reader has failed or was stopped, and that has been told elsewhere.
fn send(sender: &Sender<StreamElement>, element: StreamElement) -> Result<(), JobError> {
    sender.send(element).map_err(|_| JobError::Stopped)
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
    pub senders: Vec<Vec<Sender<StreamElement>>>,
    pub receivers: Vec<Vec<Receiver<StreamElement>>>,
}

/// Channels from `from` subtasks to `to` subtasks.
pub(crate) fn wires(exchange: &Exchange, from: usize, to: usize, elements_max: usize) -> Wires {
    let mut wires = Wires { senders: vec![Vec::new(); from], receivers: vec![Vec::new(); to] };
    for sender in 0..from {
        for receiver in 0..to {
            if *exchange == Exchange::Forward && sender != receiver {
                continue;
            }
            let (tx, rx) = bounded(elements_max);
            wires.senders[sender].push(tx);
            wires.receivers[receiver].push(rx);
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
