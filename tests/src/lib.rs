//! What the end-to-end tests share: where things are built, and jobs run through the library.

pub mod program;
pub mod s3;
pub mod simulator;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use wasmill_host::{Engine, EngineConfig};
use wasmill_runtime::connector::ConnectorRegistry;
use wasmill_runtime::error::{JobError, Problem};
use wasmill_runtime::job::{RunOptions, Summary, start};
use wasmill_runtime::spec::JobSpec;
use wasmill_runtime::udf_file::Environment;
use wasmill_runtime::validate::validate;

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the root's folder `tests`")
}

/// What `make` built; a missing file says how to build it.
pub fn built(path: &str) -> PathBuf {
    let path = root().join(path);
    assert!(path.exists(), "{} is not built: run `make build python-runner guests`", path.display());
    path
}

/// One engine and cache for all tests of a process: components compile once.
pub fn environment() -> Environment {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let cache_dir = Some(root().join("target/test-cache"));
        Engine::new(EngineConfig { cache_dir, ..EngineConfig::default() }).expect("an engine")
    });
    Environment {
        engine: engine.clone(),
        python_runner: Some(built("target/wasmill/python-runner.wasm")),
        packages_dir: None,
    }
}

pub fn connectors() -> ConnectorRegistry {
    let mut registry = ConnectorRegistry::default();
    wasmill_connectors::register(&mut registry);
    registry
}

/// A log line of a UDF: node, UDF, message.
pub type Line = (String, String, String);

/// How a job went.
#[derive(Debug)]
pub struct Run {
    pub outcome: Result<Summary, JobError>,
    pub log: Vec<Line>,
}

/// Validates and runs a job to its end.
pub fn run(spec: &JobSpec) -> Result<Run, Vec<Problem>> {
    run_in(&environment(), spec)
}

/// As [`run`], in an environment of the test's own.
pub fn run_in(environment: &Environment, spec: &JobSpec) -> Result<Run, Vec<Problem>> {
    let graph = validate(spec, environment, &connectors())?;
    let log: Arc<Mutex<Vec<Line>>> = Arc::default();
    let lines = Arc::clone(&log);
    let options = RunOptions::new(Arc::new(move |record| {
        let line = (record.node.to_owned(), record.udf.to_owned(), record.message.to_owned());
        lines.lock().expect("no test panics while it logs").push(line);
    }));
    let outcome = start(&graph, options).and_then(|job| job.wait());
    let log = std::mem::take(&mut *log.lock().expect("no test panics while it logs"));
    Ok(Run { outcome, log })
}

/// All rows of a Parquet file, or of the Parquet files in a folder in the order of their names.
pub fn read_parquet(path: &Path) -> Vec<RecordBatch> {
    let mut files: Vec<PathBuf> = match path.is_dir() {
        true => std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()).collect(),
        false => vec![path.to_owned()],
    };
    files.sort();
    let rows = |file: &PathBuf| {
        let file = std::fs::File::open(file).expect("the file opens");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
        reader.expect("it is Parquet").map(|batch| batch.expect("it is whole")).collect::<Vec<_>>()
    };
    files.iter().flat_map(rows).collect()
}
