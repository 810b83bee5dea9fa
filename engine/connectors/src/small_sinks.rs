//! Sinks that leave nothing: `print` and `blackhole`. They have nothing to commit, so that in a job with checkpoints rows that were
//! written after the last one are written again when it goes on from there (at least once).

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wasmill_runtime::connector::{
    Committable, ConnectorContext, ConnectorError, Prepared, Sink, SinkWriter, Subtask, WriterState,
};

use crate::calendar;
use crate::contract_types;
use crate::file_sink::Format;
use crate::formats::{JsonLines, json_writer};
use crate::options::wrong;

/// Where [`PrintSink`] writes.
type Output = Arc<Mutex<dyn Write + Send>>;

/// What a checkpoint needs of a sink that has nothing to commit.
fn nothing() -> Prepared {
    Prepared { committables: Vec::new(), state: WriterState(String::new()) }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `sink: print`: a row a line to standard output, in JSON as the `jsonl` sink writes it.
///
/// With the option `prefix: p` a line begins with `p> `, with several subtasks with `p:1> ` or `1> `, as in Flink's `print()`.
/// Rows are seen when they are written, not at a commit. A reader that goes away (`| head`) ends the job with an error whose
/// source is an [`io::Error`] of kind `BrokenPipe`.
pub struct PrintSink {
    prefix: Option<String>,
    output: Output,
}

impl PrintSink {
    pub(crate) fn new(context: ConnectorContext<'_>) -> Result<PrintSink, ConnectorError> {
        let prefix = context.options.string("prefix").map_err(wrong)?;
        Ok(PrintSink { prefix, output: Arc::new(Mutex::new(io::stdout())) })
    }

    /// Prints to `output` instead of standard output.
    pub fn to(output: Arc<Mutex<dyn Write + Send>>, prefix: Option<String>) -> PrintSink {
        PrintSink { prefix, output }
    }
}

impl fmt::Debug for PrintSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrintSink").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Sink for PrintSink {
    fn accept(&self, schema: &SchemaRef) -> Result<(), ConnectorError> {
        let refused = contract_types::unsupported(schema).or_else(|| JsonLines.refuse(schema));
        refused.map_or(Ok(()), |message| Err(ConnectorError::new(message)))
    }

    fn start(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn resume(&self, _: &[Committable], _: &[WriterState]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn writer(
        &self,
        _: &SchemaRef,
        subtask: Subtask,
        _: &[WriterState],
    ) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        let prefix = match (&self.prefix, subtask.parallelism > 1) {
            (None, false) => String::new(),
            (None, true) => format!("{}> ", subtask.index + 1),
            (Some(prefix), false) => format!("{prefix}> "),
            (Some(prefix), true) => format!("{prefix}:{}> ", subtask.index + 1),
        };
        Ok(Box::new(PrintWriter { prefix, output: Arc::clone(&self.output) }))
    }

    fn commit(&self, _: &[Committable]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn finish(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn abort(&self, _: &[Committable]) {}

    fn claim(&self) -> Option<String> {
        None
    }

    fn location(&self) -> String {
        "standard output".into()
    }

    fn refuse_checkpoints(&self) -> Option<String> {
        None
    }
}

struct PrintWriter {
    prefix: String,
    output: Output,
}

fn cannot_print(error: io::Error) -> ConnectorError {
    let message = match error.kind() {
        io::ErrorKind::BrokenPipe => "standard output was closed by its reader",
        _ => "cannot write to standard output",
    };
    ConnectorError::new(message).caused_by(error)
}

impl PrintWriter {
    fn lines(&self, rows: &RecordBatch) -> Result<Vec<u8>, ConnectorError> {
        calendar::check(rows).map_err(|error| ConnectorError::new("cannot print rows as JSON").caused_by(error))?;
        let mut writer = json_writer(Vec::new());
        writer.write(rows).map_err(|error| ConnectorError::new("cannot print rows as JSON").caused_by(error))?;
        let lines = writer.into_inner();
        if self.prefix.is_empty() {
            return Ok(lines);
        }
        // JSON has no line break within an object.
        let prefixed = lines.split_inclusive(|&byte| byte == b'\n').flat_map(|line| [self.prefix.as_bytes(), line]);
        Ok(prefixed.collect::<Vec<_>>().concat())
    }
}

impl SinkWriter for PrintWriter {
    /// Whole lines under one lock, so that subtasks do not mix theirs.
    fn write(&mut self, rows: &RecordBatch) -> Result<(), ConnectorError> {
        let lines = self.lines(rows)?;
        lock(&self.output).write_all(&lines).map_err(cannot_print)
    }

    fn flush(&mut self) -> Result<(), ConnectorError> {
        lock(&self.output).flush().map_err(cannot_print)
    }

    fn checkpoint(&mut self) -> Result<Prepared, ConnectorError> {
        self.flush()?;
        Ok(nothing())
    }

    fn prepare(mut self: Box<Self>) -> Result<Vec<Committable>, ConnectorError> {
        self.flush()?;
        Ok(Vec::new())
    }
}

/// `sink: blackhole`: takes any rows and drops them, for measuring.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlackholeSink;

impl Sink for BlackholeSink {
    fn accept(&self, _: &SchemaRef) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn start(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn resume(&self, _: &[Committable], _: &[WriterState]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn writer(&self, _: &SchemaRef, _: Subtask, _: &[WriterState]) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(BlackholeSink))
    }

    fn commit(&self, _: &[Committable]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn finish(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn abort(&self, _: &[Committable]) {}

    fn claim(&self) -> Option<String> {
        None
    }

    fn location(&self) -> String {
        "nowhere".into()
    }

    fn refuse_checkpoints(&self) -> Option<String> {
        None
    }
}

impl SinkWriter for BlackholeSink {
    fn write(&mut self, _: &RecordBatch) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Prepared, ConnectorError> {
        Ok(nothing())
    }

    fn prepare(self: Box<Self>) -> Result<Vec<Committable>, ConnectorError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::error::Error;

    fn rows() -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a\nb", "c"]));
        RecordBatch::try_from_iter([("n", numbers), ("s", texts)]).unwrap()
    }

    fn printed(prefix: Option<&str>, parallelism: usize) -> String {
        let output = Arc::new(Mutex::new(Vec::new()));
        let sink = PrintSink::to(output.clone(), prefix.map(str::to_owned));
        sink.start().unwrap();
        sink.accept(&rows().schema()).unwrap();
        let mut writer = sink.writer(&rows().schema(), Subtask { index: 1, parallelism }, &[]).unwrap();
        writer.write(&rows()).unwrap();
        writer.flush().unwrap();
        sink.commit(&writer.prepare().unwrap()).unwrap();
        String::from_utf8(lock(&output).clone()).unwrap()
    }

    #[test]
    fn rows_are_lines() {
        assert_eq!(printed(None, 1), "{\"n\":1,\"s\":\"a\\nb\"}\n{\"n\":null,\"s\":\"c\"}\n");
        assert_eq!(printed(None, 2), "2> {\"n\":1,\"s\":\"a\\nb\"}\n2> {\"n\":null,\"s\":\"c\"}\n");
        assert!(printed(Some("x"), 1).starts_with("x> {"));
        assert!(printed(Some("x"), 4).starts_with("x:2> {"));
    }

    #[test]
    fn a_reader_that_goes_away_is_known_by_its_kind() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let sink = PrintSink::to(Arc::new(Mutex::new(Closed)), None);
        let mut writer = sink.writer(&rows().schema(), Subtask { index: 0, parallelism: 1 }, &[]).unwrap();
        let error = writer.write(&rows()).unwrap_err();
        assert_eq!(error.to_string(), "standard output was closed by its reader");
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).unwrap();
        assert_eq!(cause.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_black_hole_takes_all() {
        let mut writer = BlackholeSink.writer(&rows().schema(), Subtask { index: 0, parallelism: 1 }, &[]).unwrap();
        writer.write(&rows()).unwrap();
        assert_eq!(writer.prepare().unwrap(), []);
    }
}
