//! How long a row is on its way, at 100 rows a second and default settings.
//!
//! The generator gives a row every 10 ms. The time runs from the moment at which its reader hands the row over to that at which the
//! sink gets it, both taken inside the job; rows keep their order, so that the n-th time belongs to the n-th row.

use std::fmt;
use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use wasmill_runtime::connector::{ConnectorError, Position, ReadOutcome, Sink, Source, SourceReader, Split};
use wasmill_runtime::spec::{Endpoint, JobSpec, OperationSpec};
use wasmill_runtime::udf_file::Environment;
use wasmill_runtime::validate::validate;

use crate::figures::{Figure, WayName};
use crate::pace::{Pace, quantile};
use crate::wasmill::{WatchSink, into_sink, run};
use crate::work::{Floor, WORK, Work, connectors, for_each_bundle, source_of};
use crate::{BenchError, process};

/// The id of the figures, and the work whose job it is.
pub const LATENCIES: [(&str, &str); 2] = [("latency-rust", "rust-add"), ("latency-python", "python-add")];

const RATE: (&str, &str) = ("nodes.rows.rate", "100");

/// The default `bundle.size`: a bundle ends when no row waits, so that each has one row here.
const BUNDLE: usize = 1000;

/// p50 and p99 of all ways that have any.
///
/// # Errors
/// [`BenchError`].
pub fn measure(id: &str, work_id: &str, pace: &Pace, environment: &Environment) -> Result<Vec<Figure>, BenchError> {
    let Some(work) = WORK.iter().find(|work| work.id == work_id) else { return Ok(Vec::new()) };
    let mut figures = Vec::new();
    let mut add = |way: WayName, mut times: Vec<f64>| {
        // The first rows find everything cold.
        let times = times.get_mut(pace.latency_rows as usize / 10..).unwrap_or_default();
        for (stat, share) in [("p50", 0.5), ("p99", 0.99)] {
            figures.push(Figure::new(id, way, BUNDLE, stat, quantile(times, share), "ms"));
        }
    };
    add(WayName::Wasmill, of_job(work, pace.latency_rows, environment)?);
    add(WayName::Process, of_process(work, pace.latency_rows)?);
    if let Floor::Rust(_) = work.floor {
        add(WayName::Native, of_native(work, pace.latency_rows)?);
    }
    Ok(figures)
}

fn rate() -> [(&'static str, String); 1] {
    [(RATE.0, RATE.1.to_owned())]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn of_job(work: &Work, rows: u64, environment: &Environment) -> Result<Vec<f64>, BenchError> {
    let mut spec = work.job(rows, &rate())?;
    let times = Times::default();
    let left = watch_source(&mut spec)?.ok_or_else(|| BenchError::NoSource { path: work.job_path() })?;
    let arrived = times.clone();
    let sink: Arc<dyn Sink> = Arc::new(WatchSink(Arc::new(move |rows: usize| arrived.note(rows))));
    into_sink(&mut spec, &sink);
    let graph = validate(&spec, environment, &connectors())
        .map_err(|problems| BenchError::Job { path: work.job_path(), problems })?;
    run(&graph, rows)?;
    let pairs = left.take().into_iter().zip(times.take());
    Ok(pairs.map(|(left, arrived)| milliseconds(arrived.duration_since(left))).collect())
}

/// A row sent, and its answer awaited.
fn of_process(work: &'static Work, rows: u64) -> Result<Vec<f64>, BenchError> {
    let worker = process::start(work, 1)?;
    let stream = worker.connect()?;
    let source = work.source(rows, &rate())?;
    let mut writer = StreamWriter::try_new(&stream, &source.schema())?;
    let mut reader = None;
    let mut times = Vec::new();
    for_each_bundle(source.as_ref(), 1, |row| {
        let left = Instant::now();
        writer.write(&row)?;
        writer.flush()?;
        // The worker's stream begins with its first answer.
        let answers = match &mut reader {
            Some(answers) => answers,
            none => none.insert(StreamReader::try_new(&stream, None)?),
        };
        black_box(answers.next().transpose()?);
        times.push(milliseconds(left.elapsed()));
        Ok(())
    })?;
    writer.finish()?;
    Ok(times)
}

fn of_native(work: &Work, rows: u64) -> Result<Vec<f64>, BenchError> {
    let Floor::Rust(make) = work.floor else { return Ok(Vec::new()) };
    let mut function = make();
    let mut times = Vec::new();
    for_each_bundle(work.source(rows, &rate())?.as_ref(), 1, |row| {
        let left = Instant::now();
        black_box(function.call(&row));
        times.push(milliseconds(left.elapsed()));
        Ok(())
    })?;
    Ok(times)
}

/// When rows came by.
#[derive(Debug, Clone, Default)]
struct Times(Arc<Mutex<Vec<Instant>>>);

impl Times {
    fn note(&self, rows: usize) {
        let now = Instant::now();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(std::iter::repeat_n(now, rows));
    }

    fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Has the job's source note when rows leave it.
fn watch_source(job: &mut JobSpec) -> Result<Option<Times>, BenchError> {
    let Some(source) = source_of(job)? else { return Ok(None) };
    let times = Times::default();
    if let Some(OperationSpec::Source { source: endpoint, .. }) = job.nodes.first_mut().map(|node| &mut node.operation)
    {
        *endpoint = Endpoint::Built(Arc::new(WatchedSource { source, times: times.clone() }));
    }
    Ok(Some(times))
}

struct WatchedSource {
    source: Arc<dyn Source>,
    times: Times,
}

impl fmt::Debug for WatchedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Source for WatchedSource {
    fn schema(&self) -> SchemaRef {
        self.source.schema()
    }

    fn splits(&self) -> Result<Vec<Split>, ConnectorError> {
        self.source.splits()
    }

    fn open(&self, split: &Split, from: Option<&Position>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        Ok(Box::new(WatchedReader { reader: self.source.open(split, from)?, times: self.times.clone() }))
    }

    fn bounded(&self) -> bool {
        self.source.bounded()
    }
}

struct WatchedReader {
    reader: Box<dyn SourceReader>,
    times: Times,
}

impl SourceReader for WatchedReader {
    fn next(&mut self, rows_max: usize) -> Result<ReadOutcome, ConnectorError> {
        let outcome = self.reader.next(rows_max)?;
        if let ReadOutcome::Rows { rows, .. } = &outcome {
            self.times.note(RecordBatch::num_rows(rows));
        }
        Ok(outcome)
    }

    fn done(&self) -> u64 {
        self.reader.done()
    }

    fn position(&self) -> Position {
        self.reader.position()
    }
}
