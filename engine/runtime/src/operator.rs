//! Operators: synchronous state machines, chained in a task. Rows go down the chain by plain calls.

mod bundled;
mod isolate;
mod keyed;
mod pieces;
mod rows;
mod sink;
mod udf;
mod window;

use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, StreamElement};
use crate::checkpoint::SnapshotError;
use crate::checkpoint::restore::NodeState;
use crate::checkpoint::snapshot::{Barrier, NodeSnapshot};
use crate::error::JobError;
use crate::exchange::Output;
use crate::graph::{Node, NodeId, Operation, Place};
use crate::inputs::WaitingBarriers;
use crate::metrics::NodeMetrics;
use crate::shared::Shared;

pub(crate) use bundled::Bundled;
pub(crate) use sink::{Parts, SinkOperator};

/// One operator of a chain. Every method emits through `out`, which calls the next operator at once.
pub(crate) trait Operator: Send {
    fn process(&mut self, batch: Batch, out: &mut Emitter<'_>) -> Result<(), JobError>;

    /// Event time has come to `watermark`: emits what that makes due. The chain forwards the watermark itself.
    fn watermark(&mut self, watermark: i64, out: &mut Emitter<'_>) -> Result<(), JobError>;

    /// Emits everything held back: the input is quiet, the bundle's time is over, or input has ended. Unless all of it has to be
    /// done (`whole`), rows may be held back again for a barrier that waits.
    fn flush(&mut self, whole: bool, out: &mut Emitter<'_>) -> Result<(), JobError>;

    /// Barriers that wait shall not wait long: rows that are held back go into checkpoints.
    fn watch(&mut self, _: &WaitingBarriers) {}

    /// When `flush` is due at the latest, by [`Clock::elapsed`](crate::job::Clock::elapsed), if rows are held back.
    fn flush_due(&self) -> Option<Duration>;

    /// What is to be known of it to go on later. What was held back has been flushed, or is part of it.
    fn snapshot(&mut self, _: &Barrier) -> Result<NodeSnapshot, JobError> {
        Ok(NodeSnapshot::default())
    }

    /// Goes on from a snapshot: called once, before the first row.
    fn restore(&mut self, _: &NodeState<'_>) -> Result<(), SnapshotError> {
        Ok(())
    }
}

/// An operator and whose it is.
pub(crate) struct Chained {
    pub node: NodeId,
    pub operator: Box<dyn Operator>,
    pub metrics: Arc<NodeMetrics>,
}

/// The rest of the chain and the channels behind it.
pub(crate) struct Emitter<'a> {
    chain: &'a mut [Chained],
    output: &'a mut Output,
    /// The emitting node's.
    metrics: &'a NodeMetrics,
}

impl<'a> Emitter<'a> {
    /// For what enters the chain at its head.
    pub(crate) fn new(chain: &'a mut [Chained], output: &'a mut Output, metrics: &'a NodeMetrics) -> Emitter<'a> {
        Emitter { chain, output, metrics }
    }

    pub(crate) fn emit(&mut self, batch: Batch) -> Result<(), JobError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.metrics.rows_out.add(batch.num_rows() as u64);
        match self.chain.split_first_mut() {
            None => self.output.batch(batch),
            Some((next, chain)) => {
                next.metrics.rows_in.add(batch.num_rows() as u64);
                let mut out = Emitter { chain, output: self.output, metrics: &next.metrics };
                next.operator.process(batch, &mut out)
            }
        }
    }

    /// Watermarks and the end go through every operator, each emitting before what it owes.
    pub(crate) fn watermark(&mut self, watermark: i64) -> Result<(), JobError> {
        match self.chain.split_first_mut() {
            None => self.output.broadcast(&StreamElement::Watermark(watermark)),
            Some((next, chain)) => {
                let mut out = Emitter { chain, output: self.output, metrics: &next.metrics };
                next.operator.watermark(watermark, &mut out)?;
                out.watermark(watermark)
            }
        }
    }

    /// See [`Operator::flush`].
    pub(crate) fn flush(&mut self, whole: bool) -> Result<(), JobError> {
        match self.chain.split_first_mut() {
            None => Ok(()),
            Some((next, chain)) => {
                let mut out = Emitter { chain, output: self.output, metrics: &next.metrics };
                next.operator.flush(whole, &mut out)?;
                out.flush(whole)
            }
        }
    }

    pub(crate) fn end(&mut self) -> Result<(), JobError> {
        self.output.broadcast(&StreamElement::EndOfInput)
    }
}

/// The first flush that is due in a chain.
pub(crate) fn flush_due(chain: &[Chained]) -> Option<Duration> {
    chain.iter().filter_map(|chained| chained.operator.flush_due()).min()
}

/// The operator of a node that is neither source nor sink; `None` for a union, whose work the task's inputs do.
pub(crate) fn build(
    node: &Node,
    input: &arrow::datatypes::SchemaRef,
    subtask: usize,
    shared: &Arc<Shared>,
    metrics: &Arc<NodeMetrics>,
) -> Result<Option<Box<dyn Operator>>, JobError> {
    let place = Place { job: shared.job.clone(), node: node.name.clone(), subtask, parallelism: node.parallelism };
    let context = udf::Context { place, shared: Arc::clone(shared), metrics: Arc::clone(metrics) };
    let schema = Arc::clone(&node.schema);
    Ok(match &node.operation {
        Operation::Source { .. } | Operation::Sink { .. } => None,
        Operation::Union => Some(Box::new(rows::Retype { schema })),
        Operation::Select { columns } => Some(Box::new(rows::Select { columns: columns.clone(), schema })),
        Operation::With { columns } => {
            Some(Box::new(Bundled::new(rows::With::open(columns, schema, &context)?, shared)))
        }
        Operation::Rows { call, key } | Operation::Filter { call, key } => {
            let filters = matches!(node.operation, Operation::Filter { .. });
            Some(Box::new(Bundled::new(keyed::Keyed::open(call, key, filters, input, schema, &context)?, shared)))
        }
        Operation::Window { call, key, window } => {
            Some(Box::new(Bundled::new(window::Window::open(call, key, *window, input, schema, &context)?, shared)))
        }
    })
}
