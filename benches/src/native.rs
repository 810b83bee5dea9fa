//! The floor: the function called where its data is, with no boundary.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use tempfile::TempDir;

use crate::cores::on_one_core;
use crate::floor::RustFunction;
use crate::same::lines;
use crate::work::{Floor, Work, for_each_bundle};
use crate::{BenchError, Way, python, root};

/// The floor of a piece of work, on batches of `bundle` rows.
///
/// # Errors
/// [`BenchError`] if the Python process cannot start.
pub fn open(work: &'static Work, bundle: usize) -> Result<Box<dyn Way>, BenchError> {
    Ok(match work.floor {
        Floor::Rust(make) => Box::new(Rust { work, bundle, make }),
        Floor::Python => Box::new(InProcess::start(work, bundle)?),
    })
}

/// Generator → function → nowhere, in this thread.
struct Rust {
    work: &'static Work,
    bundle: usize,
    make: fn() -> Box<dyn RustFunction>,
}

impl Rust {
    fn each(&self, rows: u64, mut each: impl FnMut(ArrayRef)) -> Result<Duration, BenchError> {
        let source = self.work.source(rows, &[])?;
        let mut function = (self.make)();
        let mut got = 0;
        let started = Instant::now();
        for_each_bundle(source.as_ref(), self.bundle, |batch| {
            let column = function.call(black_box(&batch));
            got += column.len() as u64;
            each(column);
            Ok(())
        })?;
        let time = started.elapsed();
        if got == rows { Ok(time) } else { Err(BenchError::Rows { got, want: rows }) }
    }
}

impl Way for Rust {
    fn run(&mut self, rows: u64) -> Result<Duration, BenchError> {
        on_one_core(|| self.each(rows, |column| drop(black_box(column))))
    }

    fn output(&mut self, rows: u64) -> Result<Option<Vec<String>>, BenchError> {
        let mut columns = Vec::new();
        self.each(rows, |column| columns.push(column))?;
        let batches = columns.into_iter().map(|column| RecordBatch::try_from_iter([("result", column)]));
        Ok(Some(lines(self.work.results, &batches.collect::<Result<Vec<_>, _>>()?)?))
    }
}

/// Rows that CPython in-process goes over again and again: it has no generator to wait for.
const IN_PROCESS_ROWS: u64 = 100_000;

const IN_PROCESS: &str = "the CPython process of benches/python/in_process.py";

/// CPython that calls the function itself, on Arrow batches that it already has, and takes the time itself.
struct InProcess {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    bundle: usize,
    /// Where its rows lie.
    _folder: TempDir,
}

impl InProcess {
    fn start(work: &Work, bundle: usize) -> Result<InProcess, BenchError> {
        let folder = tempfile::tempdir().map_err(BenchError::file(std::env::temp_dir()))?;
        let path = folder.path().join("rows.arrow");
        write_rows(work, &path)?;
        let mut process = Command::new(python()?)
            .arg(root().join("benches/python/in_process.py"))
            .arg(work.process)
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(BenchError::worker(IN_PROCESS))?;
        let ask = process.stdin.take().expect("standard input is a pipe");
        let answers = BufReader::new(process.stdout.take().expect("standard output is a pipe"));
        Ok(InProcess { process, ask, answers, bundle, _folder: folder })
    }
}

fn write_rows(work: &Work, path: &std::path::Path) -> Result<(), BenchError> {
    let source = work.source(IN_PROCESS_ROWS, &[])?;
    let file = File::create(path).map_err(BenchError::file(path))?;
    let mut writer = StreamWriter::try_new_buffered(file, &source.schema())?;
    for_each_bundle(source.as_ref(), usize::MAX, |batch| Ok(writer.write(&batch)?))?;
    Ok(writer.finish()?)
}

impl Way for InProcess {
    fn run(&mut self, rows: u64) -> Result<Duration, BenchError> {
        let failed = BenchError::worker(IN_PROCESS);
        writeln!(self.ask, "{rows} {}", self.bundle).and_then(|()| self.ask.flush()).map_err(&failed)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(&failed)?;
        match answer.trim().parse() {
            Ok(nanoseconds) => Ok(Duration::from_nanos(nanoseconds)),
            Err(_) => Err(BenchError::Answer { what: IN_PROCESS, got: answer, want: "a number of nanoseconds" }),
        }
    }

    fn output(&mut self, _: u64) -> Result<Option<Vec<String>>, BenchError> {
        Ok(None)
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Ends a process that has nothing more to do. It may have ended by itself: then there is nothing to end.
pub(crate) fn end(process: &mut Child) {
    let _ended_already = process.kill();
    let _status = process.wait();
}
