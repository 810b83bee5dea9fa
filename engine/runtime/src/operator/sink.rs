//! The end of a chain that writes to a sink.

use std::time::Duration;

use serde_json::json;

use crate::batch::Batch;
use crate::checkpoint::snapshot::{Barrier, NodeSnapshot};
use crate::connector::{Committable, ConnectorError, Prepared, SinkWriter};
use crate::error::JobError;
use crate::operator::{Emitter, Operator};

pub(crate) struct SinkOperator {
    node: String,
    writer: Box<dyn SinkWriter>,
    /// What was prepared, and for which checkpoint.
    prepared: Vec<(u64, Committable)>,
}

impl SinkOperator {
    pub(crate) fn new(node: &str, writer: Box<dyn SinkWriter>) -> SinkOperator {
        SinkOperator { node: node.to_owned(), writer, prepared: Vec::new() }
    }

    fn failed(&self, error: ConnectorError) -> JobError {
        JobError::Connector { node: self.node.clone(), error }
    }
}

impl Operator for SinkOperator {
    fn process(&mut self, batch: Batch, _: &mut Emitter<'_>) -> Result<(), JobError> {
        self.writer.write(batch.rows()).map_err(|error| self.failed(error))
    }

    fn watermark(&mut self, _: i64, _: &mut Emitter<'_>) -> Result<(), JobError> {
        Ok(())
    }

    fn flush(&mut self, _: &mut Emitter<'_>) -> Result<(), JobError> {
        self.writer.flush().map_err(|error| self.failed(error))
    }

    fn flush_due(&self) -> Option<Duration> {
        None
    }

    /// Parts of checkpoints that are not confirmed are told again: what one that failed had of them, nobody has committed.
    fn snapshot(&mut self, barrier: &Barrier) -> Result<NodeSnapshot, JobError> {
        let Prepared { committables, state } = self.writer.checkpoint().map_err(|error| self.failed(error))?;
        self.prepared.retain(|(checkpoint, _)| *checkpoint > barrier.confirmed);
        self.prepared.extend(committables.into_iter().map(|part| (barrier.checkpoint, part)));
        let prepared = self.prepared.iter().map(|(_, part)| part.clone()).collect();
        Ok(NodeSnapshot { own: json!({ "writer": state.0 }), prepared, ..NodeSnapshot::default() })
    }
}
