//! One subtask's files of a file sink: part after part.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wasmill_runtime::connector::{Committable, ConnectorError, Prepared, SinkWriter, WriterState};

use crate::file_sink::{EncodeError, Encoder, Run, State, Target, lock};
use crate::output::{Prepare, Unfinished};

/// When a part is followed by another one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Roll {
    pub bytes_max: u64,
    pub time_max: Option<Duration>,
}

pub(crate) struct FileWriter {
    target: Target,
    run: Arc<Mutex<Run>>,
    schema: SchemaRef,
    subtask: usize,
    /// The number of the part that is open, or comes next.
    part: u64,
    open: Option<Open>,
    /// Parts since the last checkpoint.
    closed: Vec<Part>,
}

/// A part that is written, and not yet seen.
struct Part {
    name: String,
    committable: Committable,
}

impl FileWriter {
    /// Its parts are numbered from `part`.
    pub(crate) fn new(
        target: Target,
        run: Arc<Mutex<Run>>,
        schema: SchemaRef,
        subtask: usize,
        part: u64,
    ) -> FileWriter {
        FileWriter { target, run, schema, subtask, part, open: None, closed: Vec::new() }
    }

    fn close(&mut self) -> Result<(), ConnectorError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let name = self.target.name(self.subtask, self.part);
        self.closed.push(Part { name, committable: open.close()? });
        self.part += 1;
        Ok(())
    }

    /// All parts since the last checkpoint, as the run notes them.
    fn take_closed(&mut self) -> Vec<Committable> {
        let mut run = lock(&self.run);
        run.wrote |= !self.closed.is_empty();
        if let Some(earlier) = &mut run.earlier {
            // What this run writes in the place of an earlier run's file is no file of that one any more.
            self.closed.iter().for_each(|part| {
                earlier.remove(&part.name);
            });
        }
        self.closed.drain(..).map(|part| part.committable).collect()
    }

    fn state(&self) -> WriterState {
        let run = lock(&self.run);
        let earlier = run.earlier.clone().filter(|_| self.subtask == 0);
        let state = State { next_part: self.part, wrote: run.wrote, earlier };
        WriterState(serde_json::to_string(&state).expect("numbers and texts can be written as JSON"))
    }
}

impl SinkWriter for FileWriter {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), ConnectorError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let Roll { bytes_max, time_max } = self.target.roll;
        if self.open.as_ref().is_some_and(|open| time_max.is_some_and(|max| open.since.elapsed() >= max)) {
            self.close()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                self.open.insert(Open::new(&self.target, &self.target.name(self.subtask, self.part), &self.schema)?)
            }
        };
        open.encoder.write(rows).map_err(|error| cannot_write(&open.place, error))?;
        if open.bytes() >= bytes_max {
            self.close()?;
        }
        Ok(())
    }

    /// Nothing is seen before the commit, so there is nothing to hurry.
    fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Prepared, ConnectorError> {
        if let Some(message) = self.target.refuse_checkpoints() {
            return Err(ConnectorError::new(message));
        }
        self.close()?;
        let committables = self.take_closed();
        Ok(Prepared { committables, state: self.state() })
    }

    fn prepare(mut self: Box<Self>) -> Result<Vec<Committable>, ConnectorError> {
        self.close()?;
        Ok(self.take_closed())
    }
}

/// A file with the columns and no rows, written and not yet seen.
pub(crate) fn close_empty(target: &Target, name: &str, schema: &SchemaRef) -> Result<Committable, ConnectorError> {
    Open::new(target, name, schema)?.close()
}

pub(crate) fn cannot_write(place: &str, error: EncodeError) -> ConnectorError {
    ConnectorError { message: format!("cannot write {place}"), unfit: false, source: Some(error) }
}

/// A file being written.
struct Open {
    place: String,
    encoder: Box<dyn Encoder>,
    written: Arc<AtomicU64>,
    since: Instant,
    end: Box<dyn Prepare>,
}

impl Open {
    fn new(target: &Target, name: &str, schema: &SchemaRef) -> Result<Open, ConnectorError> {
        let Unfinished { place, content, end } = target.output.create(name)?;
        let written = Arc::new(AtomicU64::new(0));
        let counted = Box::new(Counted { to: content, written: Arc::clone(&written) });
        match target.format.encoder(schema, counted) {
            Ok(encoder) => Ok(Open { place, encoder, written, since: Instant::now(), end }),
            Err(error) => Err(cannot_write(&place, error)),
        }
    }

    /// About its size, if it were closed now.
    fn bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed) + self.encoder.buffered_bytes() as u64
    }

    /// What the commit needs to finish it.
    fn close(self) -> Result<Committable, ConnectorError> {
        let finished = self.encoder.finish().and_then(|()| self.end.prepare());
        finished.map(Committable).map_err(|error| cannot_write(&self.place, error))
    }
}

/// Counts what passes: an encoder keeps its writer to itself.
struct Counted {
    to: Box<dyn Write + Send>,
    written: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.to.write(bytes)?;
        self.written.fetch_add(taken as u64, Ordering::Relaxed);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
