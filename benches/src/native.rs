//! The floor: the function called where its data is, with no boundary.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{Float64Type, Int64Type};
use arrow_ipc::writer::StreamWriter;
use hashbrown::HashMap;
use tempfile::TempDir;

use crate::work::{Floor, Work, for_each_bundle};
use crate::{BenchError, Way, python, root};

/// The floor of a piece of work, on batches of `bundle` rows.
///
/// # Errors
/// [`BenchError`] if the Python process cannot start.
pub fn open(work: &'static Work, bundle: usize) -> Result<Box<dyn Way>, BenchError> {
    Ok(match work.floor {
        Floor::Rust(make) => Box::new(Rust { work, bundle, make }),
        Floor::Python(function) => Box::new(InProcess::start(work, bundle, function)?),
    })
}

/// A function of a batch; it may keep state.
pub trait RustFunction {
    fn call(&mut self, rows: &RecordBatch) -> ArrayRef;
}

/// `i + 1` of the first column.
pub fn add_one() -> Box<dyn RustFunction> {
    struct AddOne;
    impl RustFunction for AddOne {
        fn call(&mut self, rows: &RecordBatch) -> ArrayRef {
            Arc::new(rows.column(0).as_primitive::<Int64Type>().unary::<_, Int64Type>(|i| i.wrapping_add(1)))
        }
    }
    Box::new(AddOne)
}

/// The mean so far of the second column, per value of the first.
pub fn keyed_average() -> Box<dyn RustFunction> {
    #[derive(Default)]
    struct KeyedAverage {
        states: HashMap<i64, (f64, i64)>,
    }
    impl RustFunction for KeyedAverage {
        fn call(&mut self, rows: &RecordBatch) -> ArrayRef {
            let keys = rows.column(0).as_primitive::<Int64Type>().values();
            let values = rows.column(1).as_primitive::<Float64Type>().values();
            let means = keys.iter().zip(values).map(|(key, value)| {
                let (sum, count) = self.states.entry(*key).or_default();
                *sum += value;
                *count += 1;
                *sum / *count as f64
            });
            Arc::new(Float64Array::from_iter_values(means))
        }
    }
    Box::new(KeyedAverage::default())
}

/// Generator → function → nowhere, in this thread.
struct Rust {
    work: &'static Work,
    bundle: usize,
    make: fn() -> Box<dyn RustFunction>,
}

impl Rust {
    fn each(&self, rows: u64, mut each: impl FnMut(ArrayRef)) -> Result<Duration, BenchError> {
        let source = self.work.source(rows)?;
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
        self.each(rows, |column| drop(black_box(column)))
    }

    fn output(&mut self, rows: u64) -> Result<Option<ArrayRef>, BenchError> {
        let mut columns = Vec::new();
        self.each(rows, |column| columns.push(column))?;
        Ok(Some(joined(&columns)?))
    }
}

/// One column of all.
pub(crate) fn joined(columns: &[ArrayRef]) -> Result<ArrayRef, BenchError> {
    let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    Ok(concat(&columns)?)
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
    fn start(work: &Work, bundle: usize, function: &str) -> Result<InProcess, BenchError> {
        let folder = tempfile::tempdir().map_err(BenchError::file(std::env::temp_dir()))?;
        let path = folder.path().join("rows.arrow");
        write_rows(work, &path)?;
        let mut process = Command::new(python()?)
            .arg(root().join("benches/python/in_process.py"))
            .arg(function)
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
    let source = work.source(IN_PROCESS_ROWS)?;
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

    fn output(&mut self, _: u64) -> Result<Option<ArrayRef>, BenchError> {
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
