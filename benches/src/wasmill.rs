//! Wasmill itself: the job as a user runs it, generator → UDF → blackhole, through runtime and host.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::ArrayRef;
use wasmill_connectors::CollectSink;
use wasmill_host::{Engine, EngineConfig};
use wasmill_runtime::graph::JobGraph;
use wasmill_runtime::job::{self, RunOptions, SystemClock};
use wasmill_runtime::spec::{Endpoint, JobSpec, OperationSpec};
use wasmill_runtime::udf_file::Environment;
use wasmill_runtime::validate::validate;

use crate::native::joined;
use crate::work::{Work, connectors};
use crate::{BenchError, Way, built, root};

/// The sink of every job in `jobs/`.
const SINK: &str = "out";

/// The engine and the Python runner, as `wasmill run` sets them up: one for everything.
///
/// # Errors
/// [`BenchError::Missing`] before `make python-runner guests`, [`BenchError::Host`].
pub fn environment() -> Result<Environment, BenchError> {
    built("guests/target/wasm32-wasip2/release/bench_guest.wasm", "make guests")?;
    let runner = built("target/release/python-runner.wasm", "make python-runner")?;
    let config = EngineConfig { cache_dir: Some(root().join("target/wasmill-cache")), ..EngineConfig::default() };
    Ok(Environment { engine: Engine::new(config)?, python_runner: Some(runner) })
}

/// A job with one bundle size.
pub struct Wasmill {
    work: &'static Work,
    bundle: usize,
    environment: Environment,
    /// The job as it was validated last, and for how many rows.
    graph: Option<(u64, JobGraph)>,
}

/// A job with calls of `bundle` rows; 1 is `execution-mode: thread`.
pub fn open(work: &'static Work, bundle: usize, environment: &Environment) -> Box<dyn Way> {
    Box::new(Wasmill { work, bundle, environment: environment.clone(), graph: None })
}

impl Wasmill {
    fn spec(&self, rows: u64) -> Result<JobSpec, BenchError> {
        let set = match self.bundle {
            1 => ("execution-mode", "thread".to_owned()),
            rows => ("bundle.size", rows.to_string()),
        };
        self.work.job(rows, &[set])
    }

    fn validated(&self, spec: &JobSpec) -> Result<JobGraph, BenchError> {
        validate(spec, &self.environment, &connectors())
            .map_err(|problems| BenchError::Job { path: self.work.job_path(), problems })
    }

    fn graph(&mut self, rows: u64) -> Result<&JobGraph, BenchError> {
        if self.graph.as_ref().is_none_or(|(for_rows, _)| *for_rows != rows) {
            self.graph = Some((rows, self.validated(&self.spec(rows)?)?));
        }
        let (_, graph) = self.graph.as_ref().expect("it has just been made");
        Ok(graph)
    }
}

/// From the start of a validated job, with its tasks and instances, to its end.
fn run(graph: &JobGraph, rows: u64) -> Result<Duration, BenchError> {
    let log = |record: &job::LogRecord<'_>| eprintln!("{}: {}", record.udf, record.message);
    let summary = job::start(graph, RunOptions { log: Arc::new(log), clock: Arc::new(SystemClock) })?.wait()?;
    let got = summary.metrics.node(SINK).map_or(0, |sink| sink.rows_in.get());
    if got == rows { Ok(summary.duration) } else { Err(BenchError::Rows { got, want: rows }) }
}

impl Way for Wasmill {
    fn run(&mut self, rows: u64) -> Result<Duration, BenchError> {
        run(self.graph(rows)?, rows)
    }

    fn output(&mut self, rows: u64) -> Result<Option<ArrayRef>, BenchError> {
        let kept = CollectSink::new();
        let mut spec = self.spec(rows)?;
        for node in spec.nodes.iter_mut().filter(|node| node.name.text == SINK) {
            node.operation = OperationSpec::Sink { sink: Endpoint::Built(Arc::new(kept.clone())) };
        }
        run(&self.validated(&spec)?, rows)?;
        let columns: Vec<ArrayRef> =
            kept.batches().iter().filter_map(|batch| batch.columns().last().cloned()).collect();
        Ok(Some(joined(&columns)?))
    }
}
