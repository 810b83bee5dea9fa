//! What is measured: pieces of work, each a job file and the functions that do the same without Wasmill.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use wasmill_runtime::connector::{ConnectorContext, ConnectorRegistry, ReadOutcome, Source};
use wasmill_runtime::job_file;
use wasmill_runtime::spec::{Endpoint, JobSpec, OperationSpec};

use crate::floor::{self, RustFunction};
use crate::{BenchError, root};

/// Rows of a call. 1 is `execution-mode: thread`.
pub const BUNDLES: [usize; 5] = [1, 10, 100, 1000, 10_000];
/// For work that is about large bundles.
const LARGE: [usize; 2] = [1000, 10_000];
/// For windows, which fire once in 10 000 rows.
const MIDDLE: [usize; 3] = [100, 1000, 10_000];

/// What a source reads at once in all ways. The default of `arrow.batch.size` is 10 000; small bundles are slow, and the pace can be
/// seen only once several batches have come to the sink.
pub fn batch_rows(bundle: usize) -> usize {
    if bundle < 100 { 1000 } else { 10_000 }
}

/// The same in every way.
pub struct Work {
    /// Of the figures, and the name of the job file.
    pub id: &'static str,
    pub title: &'static str,
    /// Tells variants of one id apart; [`PLAIN`] where there are none.
    pub stat: &'static str,
    /// What the variant changes in the job, as `--set` takes it.
    pub set: Option<(&'static str, &'static str)>,
    pub bundles: &'static [usize],
    pub floor: Floor,
    /// The function of `python/calls.py` that a worker process serves.
    pub process: &'static str,
    pub results: Results,
}

/// The stat of work that has one variant only.
pub const PLAIN: &str = "median";

/// The function without any boundary.
pub enum Floor {
    /// Makes a new instance of it.
    Rust(fn() -> Box<dyn RustFunction>),
    /// A function of `python/calls.py`, in CPython itself.
    Python,
}

/// What comes out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Results {
    /// A row for each row: the result is the last column.
    EachRow,
    /// Windows of 10 000 rows with 1000 keys. The last one fires at the end of all, with no row to wait for.
    Windows,
}

const WINDOW_ROWS: u64 = 10_000;
const KEYS: u64 = 1000;

impl Results {
    /// How many come of `rows` rows.
    pub fn of(self, rows: u64) -> u64 {
        match self {
            Results::EachRow => rows,
            Results::Windows => rows / WINDOW_ROWS * KEYS + (rows % WINDOW_ROWS).min(KEYS),
        }
    }

    /// How many come together with others at the end, so that they say nothing about the pace.
    pub fn at_end(self) -> u64 {
        match self {
            Results::EachRow => 0,
            Results::Windows => KEYS,
        }
    }

    /// The columns to compare; `None`: the last.
    pub fn columns(self) -> Option<[&'static str; 5]> {
        match self {
            Results::EachRow => None,
            Results::Windows => Some(["key", "window_start", "count", "sum", "max"]),
        }
    }
}

/// Work of one variant with all bundles.
const fn work(id: &'static str, title: &'static str, floor: Floor, process: &'static str) -> Work {
    Work { id, title, stat: PLAIN, set: None, bundles: &BUNDLES, floor, process, results: Results::EachRow }
}

const fn keyed(stat: &'static str, function: &'static str, bundles: &'static [usize]) -> Work {
    Work {
        stat,
        set: Some(("nodes.results.process", function)),
        bundles,
        ..work(
            "rust-keyed-average",
            "Rust, mean per key: two value states, 1000 keys",
            Floor::Rust(floor::keyed_average),
            "KeyedAverage",
        )
    }
}

/// Everything, in the order of the report; variants of one id follow each other.
pub const WORK: [Work; 11] = [
    work("rust-add", "Rust, `i + 1`", Floor::Rust(floor::add_one), "one_more"),
    work("rust-work", "Rust, 64 rounds of SplitMix64 a row", Floor::Rust(floor::rounds), "work"),
    Work {
        bundles: &LARGE,
        ..work("rust-vectorized", "Rust, vectorised kernel over f64, i64, utf8", Floor::Rust(floor::revenue), "revenue")
    },
    keyed("column", "bench.KeyedAverage", &BUNDLES),
    keyed("batched", "bench.KeyedAverageByCall", &MIDDLE),
    keyed("single", "bench.KeyedAverageOneByOne", &MIDDLE),
    work("python-add", "Python, `i + 1`", Floor::Python, "one_more"),
    work("python-keyed-average", "Python, mean per key: two value states, 1000 keys", Floor::Python, "KeyedAverage"),
    work("python-json", "Python, `json.loads`, a field, upper; 155-byte documents", Floor::Python, "name_of"),
    Work {
        bundles: &MIDDLE,
        results: Results::Windows,
        ..work(
            "python-window",
            "Python, count, sum and max in tumbling event-time windows, 1000 keys",
            Floor::Python,
            "Summarise",
        )
    },
    work("python-process", "Python, `process_element` as a generator, one output a row", Floor::Python, "OneMore"),
];

/// The connectors that job files may name.
pub fn connectors() -> ConnectorRegistry {
    let mut registry = ConnectorRegistry::default();
    wasmill_connectors::register(&mut registry);
    registry
}

/// The job file `id.yaml`.
pub fn job_path(id: &str) -> PathBuf {
    root().join("benches/jobs").join(format!("{id}.yaml"))
}

impl Work {
    /// In Criterion's names, in which no two may be the same.
    pub fn name(&self) -> String {
        if self.stat == PLAIN { self.id.to_owned() } else { format!("{}.{}", self.id, self.stat) }
    }

    pub fn python(&self) -> bool {
        matches!(self.floor, Floor::Python)
    }

    pub fn job_path(&self) -> PathBuf {
        job_path(self.id)
    }

    /// The job for so many rows, with further settings as `--set` takes them.
    ///
    /// # Errors
    /// [`BenchError::File`], [`BenchError::Job`].
    pub fn job(&self, rows: u64, set: &[(&str, String)]) -> Result<JobSpec, BenchError> {
        let path = self.job_path();
        let text = std::fs::read_to_string(&path).map_err(BenchError::file(&path))?;
        let mut pairs = vec![("nodes.rows.rows".to_owned(), rows.to_string())];
        pairs.extend(self.set.map(|(key, value)| (key.to_owned(), value.to_owned())));
        pairs.extend(set.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let base = root().join("benches/jobs");
        job_file::read(&text, &base, &pairs).map_err(|problems| BenchError::Job { path, problems })
    }

    /// The job's source alone, for ways that are no job.
    ///
    /// # Errors
    /// As [`job`](Self::job); [`BenchError::NoSource`], [`BenchError::Connector`].
    pub fn source(&self, rows: u64, set: &[(&str, String)]) -> Result<Arc<dyn Source>, BenchError> {
        let mut job = self.job(rows, set)?;
        source_of(&mut job)?.ok_or_else(|| BenchError::NoSource { path: self.job_path() })
    }
}

/// What the first node of a job reads from.
///
/// # Errors
/// [`BenchError::Connector`].
pub fn source_of(job: &mut JobSpec) -> Result<Option<Arc<dyn Source>>, BenchError> {
    match job.nodes.first_mut().map(|node| &mut node.operation) {
        Some(OperationSpec::Source { source: Endpoint::Named(spec), .. }) => {
            let context = ConnectorContext { base: &job.base, options: &mut spec.options };
            Ok(Some(connectors().source(&spec.connector.text, context)?))
        }
        _ => Ok(None),
    }
}

/// Reads a source from end to end as a job does, cut to `bundle` rows.
///
/// # Errors
/// The source's and those of `each`.
pub fn for_each_bundle(
    source: &dyn Source,
    bundle: usize,
    mut each: impl FnMut(RecordBatch) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    for split in source.splits()? {
        let mut reader = source.open(&split, None)?;
        loop {
            match reader.next(batch_rows(bundle))? {
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
