//! What is measured: pieces of work, each a job file and the functions that do the same without Wasmill.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use wasmill_runtime::connector::{ConnectorContext, ConnectorRegistry, ReadOutcome, Source};
use wasmill_runtime::job_file;
use wasmill_runtime::spec::{Endpoint, JobSpec, OperationSpec};

use crate::native::{self, RustFunction};
use crate::{BenchError, root};

/// Rows of a call. 1 is `execution-mode: thread`.
pub const BUNDLES: [usize; 5] = [1, 10, 100, 1000, 10_000];

/// What a source reads at once in all ways: the default of `arrow.batch.size`.
pub const BATCH_ROWS: usize = 10_000;

/// The same in every way.
pub struct Work {
    /// Of the figures, and the name of the job file.
    pub id: &'static str,
    pub title: &'static str,
    /// Tells variants of one id apart; [`PLAIN`] where there are none.
    pub stat: &'static str,
    pub floor: Floor,
    /// The function of `python/udfs.py` that a worker process serves.
    pub process: &'static str,
}

/// The stat of work that has one variant only.
pub const PLAIN: &str = "median";

/// The function without any boundary.
pub enum Floor {
    /// Makes a new instance of it.
    Rust(fn() -> Box<dyn RustFunction>),
    /// A function of `python/udfs.py`, in CPython itself.
    Python(&'static str),
}

/// Everything, in the order of the report.
pub const WORK: [Work; 4] = [
    Work {
        id: "rust-add",
        title: "Rust, `i + 1`",
        stat: PLAIN,
        floor: Floor::Rust(native::add_one),
        process: "add_one",
    },
    Work {
        id: "rust-keyed-average",
        title: "Rust, mean per key: two value states, 1000 keys",
        stat: "column",
        floor: Floor::Rust(native::keyed_average),
        process: "KeyedAverage",
    },
    Work {
        id: "python-add",
        title: "Python, `i + 1`",
        stat: PLAIN,
        floor: Floor::Python("add_one"),
        process: "add_one",
    },
    Work {
        id: "python-keyed-average",
        title: "Python, mean per key: two value states, 1000 keys",
        stat: PLAIN,
        floor: Floor::Python("KeyedAverage"),
        process: "KeyedAverage",
    },
];

/// The connectors that job files may name.
pub fn connectors() -> ConnectorRegistry {
    let mut registry = ConnectorRegistry::default();
    wasmill_connectors::register(&mut registry);
    registry
}

impl Work {
    pub fn job_path(&self) -> PathBuf {
        root().join("benches/jobs").join(format!("{}.yaml", self.id))
    }

    /// The job for so many rows, with further settings as `--set` takes them.
    ///
    /// # Errors
    /// [`BenchError::File`], [`BenchError::Job`].
    pub fn job(&self, rows: u64, set: &[(&str, String)]) -> Result<JobSpec, BenchError> {
        let path = self.job_path();
        let text = std::fs::read_to_string(&path).map_err(BenchError::file(&path))?;
        let mut pairs = vec![("nodes.rows.rows".to_owned(), rows.to_string())];
        pairs.extend(set.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let base = root().join("benches/jobs");
        job_file::read(&text, &base, &pairs).map_err(|problems| BenchError::Job { path, problems })
    }

    /// The job's source alone, for ways that are no job.
    ///
    /// # Errors
    /// As [`job`](Self::job); [`BenchError::NoSource`], [`BenchError::Connector`].
    pub fn source(&self, rows: u64) -> Result<Arc<dyn Source>, BenchError> {
        let mut job = self.job(rows, &[])?;
        match job.nodes.first_mut().map(|node| &mut node.operation) {
            Some(OperationSpec::Source { source: Endpoint::Named(spec), .. }) => {
                let context = ConnectorContext { base: &job.base, options: &mut spec.options };
                Ok(connectors().source(&spec.connector.text, context)?)
            }
            _ => Err(BenchError::NoSource { path: self.job_path() }),
        }
    }
}

/// Reads a source from end to end in batches of [`BATCH_ROWS`], as a job does, cut to `bundle` rows.
///
/// # Errors
/// The source's and those of `each`.
pub fn for_each_bundle(
    source: &dyn Source,
    bundle: usize,
    mut each: impl FnMut(RecordBatch) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    for split in source.splits()? {
        let mut reader = source.open(&split)?;
        loop {
            match reader.next(BATCH_ROWS)? {
                ReadOutcome::End => break,
                ReadOutcome::Rows { rows, .. } => {
                    let mut at = 0;
                    while at < rows.num_rows() {
                        let part = rows.slice(at, bundle.min(rows.num_rows() - at));
                        at += part.num_rows();
                        each(part)?;
                    }
                }
                ReadOutcome::Pending(time) => std::thread::sleep(time),
                ReadOutcome::Rejected(rows) => {
                    return Err(BenchError::Rows { got: 0, want: rows.len() as u64 });
                }
            }
        }
    }
    Ok(())
}
