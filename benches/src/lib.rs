//! Measures how fast a UDF is called, in three ways that do the same work on the same rows:
//!
//! | way | |
//! |---|---|
//! | [`wasmill`] | a job: generator → UDF → blackhole, through runtime and host, as one task |
//! | [`process`] | what it replaces: the generator's rows go to a CPython process as Arrow batches over a Unix socket, many in flight, and come back |
//! | [`native`] | the floor, no boundary at all: the function in Rust on the generator's Arrow arrays, or in CPython, called in its own process |
//!
//! A piece of [`work`] is a job file in `jobs/` and the functions that do the same elsewhere. Every way is a [`Way`]: it does its
//! work on so many rows and says how long that took. `benches/throughput.rs` hands that to Criterion, in which everything is one
//! benchmark `id/way/bundle`; [`figures`] reads Criterion's medians back, and [`report`] makes tables of them.

pub mod floor;
pub mod work;

pub mod native;
pub mod process;
pub mod wasmill;

pub mod same;

pub mod checkpoints;
pub mod latency;
pub mod program;
pub mod scaling;
pub mod values;

pub mod figures;
pub mod pace;
pub mod plots;
pub mod report;
pub mod targets;

mod cores;
mod error;

use std::path::PathBuf;
use std::time::Duration;

use wasmill_runtime::udf_file::Environment;

use figures::WayName;
use work::Work;

pub use error::BenchError;

/// One way to do a piece of work, set up and warm.
pub trait Way {
    /// Does the work on `rows` rows, and says how long that took.
    ///
    /// # Errors
    /// [`BenchError`], also if not every row came out.
    fn run(&mut self, rows: u64) -> Result<Duration, BenchError>;

    /// Fewer rows than this say nothing. Default 1.
    fn rows_min(&self) -> u64 {
        1
    }

    /// What the function makes of the first `rows` rows, a line each, to see that all ways do the same. `None`: this way keeps it to
    /// itself.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    fn output(&mut self, rows: u64) -> Result<Option<Vec<String>>, BenchError>;
}

/// A way to do `work`, on one core where it can be held to it.
///
/// # Errors
/// [`BenchError`] if it cannot be set up.
pub fn open(
    work: &'static Work,
    way: WayName,
    bundle: usize,
    environment: &Environment,
) -> Result<Box<dyn Way>, BenchError> {
    match way {
        WayName::Wasmill => Ok(wasmill::open(work, bundle, 1, environment)),
        WayName::Process => process::open(work, bundle),
        WayName::Native => native::open(work, bundle),
    }
}

/// The folder of the repository, in which everything that is measured has been built.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The private virtual environment's interpreter.
///
/// # Errors
/// [`BenchError::Missing`] before `make setup`.
pub fn python() -> Result<PathBuf, BenchError> {
    built(".venv/bin/python", "make setup")
}

/// A file of the build, by its path from [`root`].
///
/// # Errors
/// [`BenchError::Missing`], which says how to make it.
pub fn built(path: &str, made_by: &'static str) -> Result<PathBuf, BenchError> {
    let path = root().join(path);
    if path.exists() { Ok(path) } else { Err(BenchError::Missing { path, made_by }) }
}
