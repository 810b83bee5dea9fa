//! Wasmill itself: the job as a user runs it, generator → UDF → blackhole, through runtime and host.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wasmill_connectors::CollectSink;
use wasmill_host::{Engine, EngineConfig};
use wasmill_runtime::connector::{Committable, ConnectorError, Prepared, Sink, SinkWriter, Subtask, WriterState};
use wasmill_runtime::graph::JobGraph;
use wasmill_runtime::job::{self, RunOptions};
use wasmill_runtime::spec::{Endpoint, JobSpec, OperationSpec};
use wasmill_runtime::udf_file::Environment;
use wasmill_runtime::validate::validate;

use crate::cores::on_one_core;
use crate::same::lines;
use crate::work::{Results, Work, batch_rows, connectors};
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
    // The stack is that of `wasmill run`, too.
    let config = EngineConfig { cache_dir: Some(cache_dir()), stack_bytes_max: 2 << 20, ..EngineConfig::default() };
    Ok(Environment { engine: Engine::new(config)?, python_runner: Some(runner), packages_dir: None })
}

/// Where compiled modules are kept.
pub(crate) fn cache_dir() -> PathBuf {
    root().join("target/wasmill-cache")
}

/// A job with one bundle size.
struct Wasmill {
    work: &'static Work,
    bundle: usize,
    /// Subtasks of each node. With 1 the whole job is held to one core.
    cores: usize,
    environment: Environment,
    /// The job as it was validated last, for how many rows, and its sink's clock.
    validated: Option<(u64, JobGraph, Clock)>,
}

/// A job with calls of `bundle` rows on so many cores; a bundle of 1 is `execution-mode: thread`.
pub fn open(work: &'static Work, bundle: usize, cores: usize, environment: &Environment) -> Box<dyn Way> {
    Box::new(Wasmill { work, bundle, cores, environment: environment.clone(), validated: None })
}

impl Wasmill {
    fn validate(&self, rows: u64, sink: Arc<dyn Sink>) -> Result<JobGraph, BenchError> {
        let mut set = vec![("arrow.batch.size", batch_rows(self.bundle).to_string())];
        match self.bundle {
            1 => set.push(("execution-mode", "thread".to_owned())),
            rows => set.push(("bundle.size", rows.to_string())),
        }
        if self.cores > 1 {
            set.extend(["parallelism", "nodes.rows.splits"].map(|key| (key, self.cores.to_string())));
        }
        let mut spec = self.work.job(rows, &set)?;
        into_sink(&mut spec, &sink);
        validate(&spec, &self.environment, &connectors())
            .map_err(|problems| BenchError::Job { path: self.work.job_path(), problems })
    }

    fn run_once(&self, graph: &JobGraph, rows: u64) -> Result<(), BenchError> {
        let once = || run(graph, self.work.results.of(rows));
        if self.cores == 1 { on_one_core(once) } else { once() }
    }
}

/// Puts `sink` in the place of the job's black hole.
pub(crate) fn into_sink(job: &mut JobSpec, sink: &Arc<dyn Sink>) {
    for node in job.nodes.iter_mut().filter(|node| node.name.text == SINK) {
        node.operation = OperationSpec::Sink { sink: Endpoint::Built(Arc::clone(sink)) };
    }
}

/// The job from start to end; `want` rows must have come to the sink.
pub(crate) fn run(graph: &JobGraph, want: u64) -> Result<(), BenchError> {
    let log = |record: &job::LogRecord<'_>| eprintln!("{}: {}", record.udf, record.message);
    let summary = job::start(graph, RunOptions::new(Arc::new(log)))?.wait()?;
    let got = summary.metrics.node(SINK).map_or(0, |sink| sink.rows_in.get());
    if got == want { Ok(()) } else { Err(BenchError::Rows { got, want }) }
}

impl Way for Wasmill {
    /// From the first rows that reach the sink to the last, as long as all rows take at that pace: without the start of the job.
    fn run(&mut self, rows: u64) -> Result<Duration, BenchError> {
        if self.validated.as_ref().is_none_or(|(for_rows, ..)| *for_rows != rows) {
            let clock = Clock::default();
            let noting = clock.clone();
            let graph = self.validate(rows, Arc::new(WatchSink(Arc::new(move |rows| noting.note(rows)))))?;
            self.validated = Some((rows, graph, clock));
        }
        let (_, graph, clock) = self.validated.as_ref().expect("it has just been made");
        clock.reset();
        self.run_once(graph, rows)?;
        clock.time_of(rows, self.work.results)
    }

    fn rows_min(&self) -> u64 {
        // Rows reach the sink a batch at a time, and those of the first do not count.
        8 * (batch_rows(self.bundle) * self.cores) as u64
    }

    fn output(&mut self, rows: u64) -> Result<Option<Vec<String>>, BenchError> {
        let kept = CollectSink::new();
        self.run_once(&self.validate(rows, Arc::new(kept.clone()))?, rows)?;
        Ok(Some(lines(self.work.results, &kept.batches())?))
    }
}

/// When rows come to the sink.
#[derive(Debug, Clone, Default)]
struct Clock(Arc<Mutex<Option<Seen>>>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Instant,
    first_rows: u64,
    last: Instant,
    rows: u64,
}

impl Clock {
    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, rows: usize) {
        let (now, count) = (Instant::now(), rows as u64);
        let mut seen = self.seen();
        let so_far = seen.get_or_insert(Seen { first: now, first_rows: count, last: now, rows: 0 });
        so_far.last = now;
        so_far.rows += count;
    }

    fn reset(&self) {
        *self.seen() = None;
    }

    /// How long `rows` rows take at the pace of all results after the first write.
    fn time_of(&self, rows: u64, results: Results) -> Result<Duration, BenchError> {
        let want = results.of(rows);
        match *self.seen() {
            Some(seen) if seen.rows > seen.first_rows + results.at_end() => {
                let share = want as f64 / (seen.rows - seen.first_rows - results.at_end()) as f64;
                Ok(seen.last.duration_since(seen.first).mul_f64(share))
            }
            seen => Err(BenchError::Rows { got: seen.map_or(0, |seen| seen.rows), want }),
        }
    }
}

/// A black hole that tells how many rows come, whenever some do.
#[derive(Clone)]
pub(crate) struct WatchSink(pub(crate) Arc<dyn Fn(usize) + Send + Sync>);

impl fmt::Debug for WatchSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchSink")
    }
}

impl SinkWriter for WatchSink {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), ConnectorError> {
        (self.0)(rows.num_rows());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Prepared, ConnectorError> {
        Ok(Prepared { committables: Vec::new(), state: WriterState(String::new()) })
    }

    fn prepare(self: Box<Self>) -> Result<Vec<Committable>, ConnectorError> {
        Ok(Vec::new())
    }
}

impl Sink for WatchSink {
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
        Ok(Box::new(self.clone()))
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
