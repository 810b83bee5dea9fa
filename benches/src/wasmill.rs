//! Wasmill itself: the job as a user runs it, generator → UDF → blackhole, through runtime and host.

use std::sync::Arc;
use std::time::Duration;

use wasmill_host::{Engine, EngineConfig};
use wasmill_runtime::graph::JobGraph;
use wasmill_runtime::job::{self, RunOptions, SystemClock};
use wasmill_runtime::udf_file::Environment;
use wasmill_runtime::validate::validate;

use crate::work::{Work, connectors};
use crate::{BenchError, Way, built, root};

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
    fn graph(&mut self, rows: u64) -> Result<&JobGraph, BenchError> {
        if self.graph.as_ref().is_none_or(|(for_rows, _)| *for_rows != rows) {
            let set = match self.bundle {
                1 => ("execution-mode", "thread".to_owned()),
                rows => ("bundle.size", rows.to_string()),
            };
            let spec = self.work.job(rows, &[set])?;
            let graph = validate(&spec, &self.environment, &connectors())
                .map_err(|problems| BenchError::Job { path: self.work.job_path(), problems })?;
            self.graph = Some((rows, graph));
        }
        let (_, graph) = self.graph.as_ref().expect("it has just been made");
        Ok(graph)
    }
}

impl Way for Wasmill {
    /// From the start of a validated job, with its tasks and instances, to its end.
    fn run(&mut self, rows: u64) -> Result<Duration, BenchError> {
        let graph = self.graph(rows)?;
        let log = |record: &job::LogRecord<'_>| eprintln!("{}: {}", record.udf, record.message);
        let summary = job::start(graph, RunOptions { log: Arc::new(log), clock: Arc::new(SystemClock) })?.wait()?;
        let got = summary.metrics.node("out").map_or(0, |sink| sink.rows_in.get());
        if got == rows { Ok(summary.duration) } else { Err(BenchError::Rows { got, want: rows }) }
    }
}
