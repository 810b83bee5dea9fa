//! Wasmill itself: the job as a user runs it, generator → UDF → blackhole, through runtime and host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use wasmill_connectors::CollectSink;
use wasmill_host::{Engine, EngineConfig};
use wasmill_runtime::connector::{Committable, ConnectorError, Sink, SinkWriter, Subtask};
use wasmill_runtime::graph::JobGraph;
use wasmill_runtime::job::{self, RunOptions, SystemClock};
use wasmill_runtime::spec::{Endpoint, OperationSpec};
use wasmill_runtime::udf_file::Environment;
use wasmill_runtime::validate::validate;

use crate::native::joined;
use crate::work::{BATCH_ROWS, Work, connectors};
use crate::{BenchError, Way, built, root};

/// The sink of every job in `jobs/`: a black hole, in whose place stands one with a clock.
const SINK: &str = "out";

/// The engine and the Python runner, as `wasmill run` sets them up: one for everything.
///
/// # Errors
/// [`BenchError::Missing`] before `make python-runner guests`, [`BenchError::Host`].
pub fn environment() -> Result<Environment, BenchError> {
    built("guests/target/wasm32-wasip2/release/bench_guest.wasm", "make guests")?;
    let runner = built("target/wasmill/python-runner.wasm", "make python-runner")?;
    let config = EngineConfig { cache_dir: Some(root().join("target/wasmill-cache")), ..EngineConfig::default() };
    Ok(Environment { engine: Engine::new(config)?, python_runner: Some(runner), packages_dir: None })
}

/// A job with one bundle size.
struct Wasmill {
    work: &'static Work,
    bundle: usize,
    environment: Environment,
    /// The job as it was validated last, for how many rows, and its sink's clock.
    validated: Option<(u64, JobGraph, ClockSink)>,
}

/// A job with calls of `bundle` rows; 1 is `execution-mode: thread`.
pub fn open(work: &'static Work, bundle: usize, environment: &Environment) -> Box<dyn Way> {
    Box::new(Wasmill { work, bundle, environment: environment.clone(), validated: None })
}

impl Wasmill {
    fn validate(&self, rows: u64, sink: Arc<dyn Sink>) -> Result<JobGraph, BenchError> {
        let set = match self.bundle {
            1 => ("execution-mode", "thread".to_owned()),
            rows => ("bundle.size", rows.to_string()),
        };
        let mut spec = self.work.job(rows, &[set])?;
        for node in spec.nodes.iter_mut().filter(|node| node.name.text == SINK) {
            node.operation = OperationSpec::Sink { sink: Endpoint::Built(Arc::clone(&sink)) };
        }
        validate(&spec, &self.environment, &connectors())
            .map_err(|problems| BenchError::Job { path: self.work.job_path(), problems })
    }
}

/// The job from start to end.
fn run(graph: &JobGraph, rows: u64) -> Result<(), BenchError> {
    let log = |record: &job::LogRecord<'_>| eprintln!("{}: {}", record.udf, record.message);
    let summary = job::start(graph, RunOptions { log: Arc::new(log), clock: Arc::new(SystemClock) })?.wait()?;
    let got = summary.metrics.node(SINK).map_or(0, |sink| sink.rows_in.get());
    if got == rows { Ok(()) } else { Err(BenchError::Rows { got, want: rows }) }
}

impl Way for Wasmill {
    /// From the first rows that reach the sink to the last, as long as all rows take at that pace: without the start of the job.
    fn run(&mut self, rows: u64) -> Result<Duration, BenchError> {
        if self.validated.as_ref().is_none_or(|(for_rows, ..)| *for_rows != rows) {
            let clock = ClockSink::default();
            let graph = self.validate(rows, Arc::new(clock.clone()))?;
            self.validated = Some((rows, graph, clock));
        }
        let (_, graph, clock) = self.validated.as_ref().expect("it has just been made");
        clock.reset();
        run(graph, rows)?;
        clock.time_of(rows)
    }

    fn rows_min(&self) -> u64 {
        // Rows reach the sink a batch at a time, and those of the first do not count.
        8 * BATCH_ROWS as u64
    }

    fn output(&mut self, rows: u64) -> Result<Option<ArrayRef>, BenchError> {
        let kept = CollectSink::new();
        run(&self.validate(rows, Arc::new(kept.clone()))?, rows)?;
        let columns: Vec<ArrayRef> =
            kept.batches().iter().filter_map(|batch| batch.columns().last().cloned()).collect();
        Ok(Some(joined(&columns)?))
    }
}

/// A black hole that notes when rows come.
#[derive(Debug, Clone, Default)]
struct ClockSink(Arc<Mutex<Option<Seen>>>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Instant,
    first_rows: u64,
    last: Instant,
    rows: u64,
}

impl ClockSink {
    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self) {
        *self.seen() = None;
    }

    /// How long `rows` rows take at the pace of all rows after the first write.
    fn time_of(&self, rows: u64) -> Result<Duration, BenchError> {
        match *self.seen() {
            Some(seen) if seen.rows > seen.first_rows => {
                let share = rows as f64 / (seen.rows - seen.first_rows) as f64;
                Ok(seen.last.duration_since(seen.first).mul_f64(share))
            }
            seen => Err(BenchError::Rows { got: seen.map_or(0, |seen| seen.rows), want: rows }),
        }
    }
}

impl SinkWriter for ClockSink {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), ConnectorError> {
        let (now, count) = (Instant::now(), rows.num_rows() as u64);
        let mut seen = self.seen();
        let so_far = seen.get_or_insert(Seen { first: now, first_rows: count, last: now, rows: 0 });
        so_far.last = now;
        so_far.rows += count;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn prepare(self: Box<Self>) -> Result<Vec<Committable>, ConnectorError> {
        Ok(Vec::new())
    }
}

impl Sink for ClockSink {
    fn accept(&self, _: &SchemaRef) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn start(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn writer(&self, _: &SchemaRef, _: Subtask) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(self.clone()))
    }

    fn commit(&self, _: &[Committable]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn abort(&self) {}

    fn claim(&self) -> Option<String> {
        None
    }

    fn location(&self) -> String {
        "nowhere".into()
    }
}
