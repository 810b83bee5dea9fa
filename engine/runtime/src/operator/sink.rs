//! The end of a chain that writes to a sink.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::Batch;
use crate::connector::{ConnectorError, SinkWriter};
use crate::error::JobError;
use crate::job::Shared;
use crate::operator::{Emitter, Operator};

pub(crate) struct SinkOperator {
    pub node: String,
    /// `None` once prepared.
    pub writer: Option<Box<dyn SinkWriter>>,
    pub shared: Arc<Shared>,
}

impl SinkOperator {
    fn failed(&self, error: ConnectorError) -> JobError {
        JobError::Connector { node: self.node.clone(), error }
    }
}

impl Operator for SinkOperator {
    fn process(&mut self, batch: Batch, _: &mut Emitter<'_>) -> Result<(), JobError> {
        match &mut self.writer {
            Some(writer) => writer.write(batch.rows()).map_err(|error| self.failed(error)),
            None => Err(self.failed(ConnectorError::new("rows came after the end of input"))),
        }
    }

    fn watermark(&mut self, _: i64, _: &mut Emitter<'_>) -> Result<(), JobError> {
        Ok(())
    }

    fn flush(&mut self, _: &mut Emitter<'_>) -> Result<(), JobError> {
        match &mut self.writer {
            Some(writer) => writer.flush().map_err(|error| self.failed(error)),
            None => Ok(()),
        }
    }

    fn flush_due(&self) -> Option<Duration> {
        None
    }

    fn finish(&mut self) -> Result<(), JobError> {
        if let Some(writer) = self.writer.take() {
            let prepared = writer.prepare().map_err(|error| self.failed(error))?;
            self.shared.prepared(&self.node, prepared);
        }
        Ok(())
    }
}
