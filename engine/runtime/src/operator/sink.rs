//! The end of a chain that writes to a sink.

use std::time::Duration;

use serde_json::{Value, json};

use crate::batch::Batch;
use crate::checkpoint::snapshot::{Barrier, NodeSnapshot};
use crate::connector::{Committable, ConnectorError, Prepared, SinkWriter};
use crate::error::JobError;
use crate::operator::{Emitter, Operator};

pub(crate) struct SinkOperator {
    node: String,
    writer: Parts,
}

/// A writer and the parts that it has prepared.
pub(crate) struct Parts {
    /// `None` at the end.
    writer: Option<Box<dyn SinkWriter>>,
    /// Does the job take checkpoints? Without them there is one end, and the writer need not be one that goes on.
    checkpoints: bool,
    /// What was prepared, and for which checkpoint.
    prepared: Vec<(u64, Committable)>,
}

impl Parts {
    pub(crate) fn new(writer: Box<dyn SinkWriter>, checkpoints: bool) -> Parts {
        Parts { writer: Some(writer), checkpoints, prepared: Vec::new() }
    }

    pub(crate) fn writer(&mut self) -> Result<&mut dyn SinkWriter, ConnectorError> {
        match &mut self.writer {
            Some(writer) => Ok(writer.as_mut()),
            None => Err(ConnectorError::new("rows came after the end of input")),
        }
    }

    /// Parts of checkpoints that are not confirmed are told again: what one that failed had of them, nobody has committed.
    pub(crate) fn snapshot(&mut self, barrier: &Barrier) -> Result<(Value, Vec<Committable>), ConnectorError> {
        let (committables, own) = if self.checkpoints {
            let Prepared { committables, state } = self.writer()?.checkpoint()?;
            (committables, json!({ "writer": state.0 }))
        } else {
            (self.writer.take().map_or(Ok(Vec::new()), SinkWriter::prepare)?, Value::Null)
        };
        self.prepared.retain(|(checkpoint, _)| *checkpoint > barrier.confirmed);
        self.prepared.extend(committables.into_iter().map(|part| (barrier.checkpoint, part)));
        Ok((own, self.prepared.iter().map(|(_, part)| part.clone()).collect()))
    }
}

impl SinkOperator {
    pub(crate) fn new(node: &str, writer: Box<dyn SinkWriter>, checkpoints: bool) -> SinkOperator {
        SinkOperator { node: node.to_owned(), writer: Parts::new(writer, checkpoints) }
    }

    fn failed(&self, error: ConnectorError) -> JobError {
        JobError::Connector { node: self.node.clone(), error }
    }
}

impl Operator for SinkOperator {
    fn process(&mut self, batch: Batch, _: &mut Emitter<'_>) -> Result<(), JobError> {
        let written = self.writer.writer().and_then(|writer| writer.write(batch.rows()));
        written.map_err(|error| self.failed(error))
    }

    fn watermark(&mut self, _: i64, _: &mut Emitter<'_>) -> Result<(), JobError> {
        Ok(())
    }

    fn flush(&mut self, _: bool, _: &mut Emitter<'_>) -> Result<(), JobError> {
        let flushed = self.writer.writer().and_then(|writer| writer.flush());
        flushed.map_err(|error| self.failed(error))
    }

    fn flush_due(&self) -> Option<Duration> {
        None
    }

    fn snapshot(&mut self, barrier: &Barrier) -> Result<NodeSnapshot, JobError> {
        let (own, prepared) = self.writer.snapshot(barrier).map_err(|error| self.failed(error))?;
        Ok(NodeSnapshot { own, prepared, ..NodeSnapshot::default() })
    }
}
