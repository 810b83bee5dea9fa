use std::path::PathBuf;

use arrow::error::ArrowError;
use wasmill_host::HostError;
use wasmill_runtime::connector::ConnectorError;
use wasmill_runtime::error::{JobError, Problem};

/// Why there is no figure. Nothing is measured around an error.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{} is missing: run `{made_by}` first", .path.display())]
    Missing { path: PathBuf, made_by: &'static str },
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {}", .path.display(), .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Job { path: PathBuf, problems: Vec<Problem> },
    #[error("{}: its first node is no source", .path.display())]
    NoSource { path: PathBuf },
    #[error("the job failed: {0}")]
    Run(Box<JobError>),
    #[error("{0}")]
    Host(Box<HostError>),
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error("{what}: {source}")]
    Worker { what: &'static str, source: std::io::Error },
    #[error("{what} said {got:?}, expected {want}: its standard error tells more")]
    Answer { what: &'static str, got: String, want: &'static str },
    #[error("{got} rows came out, expected {want}")]
    Rows { got: u64, want: u64 },
    #[error("{work}: {way} does not do the same: {what}")]
    NotTheSame { work: String, way: String, what: String },
    #[error("cannot choose cores: {0}")]
    Cores(std::io::Error),
    #[error("{what} gave nothing to measure: {problem}")]
    Nothing { what: &'static str, problem: String },
    #[error("cannot draw {}: {problem}", .path.display())]
    Plot { path: PathBuf, problem: String },
    #[error("{}: no Criterion estimate: {problem}", .path.display())]
    Estimate { path: PathBuf, problem: String },
}

// Boxed, since both are far larger than the rest.
impl From<JobError> for BenchError {
    fn from(error: JobError) -> BenchError {
        BenchError::Run(Box::new(error))
    }
}

impl From<HostError> for BenchError {
    fn from(error: HostError) -> BenchError {
        BenchError::Host(Box::new(error))
    }
}

impl BenchError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> BenchError {
        let path = path.into();
        move |source| BenchError::File { path, source }
    }

    pub(crate) fn worker(what: &'static str) -> impl Fn(std::io::Error) -> BenchError {
        move |source| BenchError::Worker { what, source }
    }
}
