//! What checkpoints cost: throughput with and without them, how long a barrier takes through a slow function, and how fast much
//! state is written and read back. And what state on disk costs beside state in memory.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use tempfile::TempDir;
use wasmill_connectors::checkpoint_storage;
use wasmill_runtime::checkpoint::restore::Restored;
use wasmill_runtime::connector::{ConnectorError, Position, ReadOutcome, Sink, Source, SourceReader, Split};
use wasmill_runtime::job::{self, RunOptions, RunningJob};
use wasmill_runtime::job_file;
use wasmill_runtime::spec::{Endpoint, JobSpec, OperationSpec};
use wasmill_runtime::udf_file::Environment;
use wasmill_runtime::validate::validate;

use crate::figures::{Figure, ROWS_PER_SECOND, WayName};
use crate::pace::{Pace, median};
use crate::wasmill::{WatchSink, into_sink};
use crate::work::{connectors, job_path, source_of};
use crate::{BenchError, root};

/// In the figures.
pub const IDS: [&str; 5] = ["checkpoint-overhead", "checkpoint-slow-udf", "snapshot", "restore", "disk-state"];

const BUNDLE: usize = 1000;

const DIR: &str = "execution.checkpointing.dir";

/// Keys of `snapshot` and `restore`.
const KEYS: u64 = 10_000_000;
const KEYS_QUICK: u64 = 1_000_000;

/// One in so many keys changes before the incremental snapshot.
const CHANGED: u64 = 100;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder on the disk of the build: that for temporary files is often memory.
fn folder() -> Result<TempDir, BenchError> {
    let target = root().join("target");
    tempfile::tempdir_in(&target).map_err(BenchError::file(target))
}

/// The job of `jobs/<id>.yaml`; with `folder` it takes checkpoints there.
fn read(id: &str, set: &[(&str, &str)], folder: Option<&Path>) -> Result<JobSpec, BenchError> {
    let path = job_path(id);
    let text = std::fs::read_to_string(&path).map_err(BenchError::file(&path))?;
    parse(path, &text, set, folder)
}

fn parse(path: PathBuf, text: &str, set: &[(&str, &str)], folder: Option<&Path>) -> Result<JobSpec, BenchError> {
    let mut pairs: Vec<(String, String)> = set.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    pairs.extend(folder.map(|folder| (DIR.to_owned(), folder.display().to_string())));
    job_file::read(text, &root().join("benches/jobs"), &pairs).map_err(|problems| BenchError::Job { path, problems })
}

fn start(
    spec: &JobSpec,
    folder: Option<&Path>,
    from: Option<Restored>,
    environment: &Environment,
) -> Result<RunningJob, BenchError> {
    let invalid = |problems| BenchError::Job { path: job_path(&spec.name.text), problems };
    let graph = validate(spec, environment, &connectors()).map_err(invalid)?;
    let log = |record: &job::LogRecord<'_>| eprintln!("{}: {}", record.udf, record.message);
    let checkpoints = folder.map(|folder| checkpoint_storage(folder, ".")).transpose()?;
    Ok(job::start(&graph, RunOptions { checkpoints, from, ..RunOptions::new(Arc::new(log)) })?)
}

/// All of them that `wanted` says.
///
/// # Errors
/// [`BenchError`].
pub fn measure(
    pace: &Pace,
    environment: &Environment,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Figure>, BenchError> {
    let mut figures = Vec::new();
    if wanted(IDS[0]) {
        figures.extend(overhead(pace, environment)?);
    }
    if wanted(IDS[1]) {
        figures.push(slow_udf(pace, environment)?);
    }
    if wanted(IDS[2]) || wanted(IDS[3]) {
        figures.extend(snapshots(pace, environment)?);
    }
    if wanted(IDS[4]) {
        figures.extend(disk_state(pace, environment)?);
    }
    Ok(figures)
}

/// Keys that memory has room for, and more than that, with state on disk and in memory: in turn, since the machine may be busy.
fn disk_state(pace: &Pace, environment: &Environment) -> Result<Vec<Figure>, BenchError> {
    let pairs = if pace.quick { 3 } else { 5 };
    // With QUICK an eighth of the keys, and of the memory for them.
    let (many, memory) = if pace.quick { (1_250_000, "16MiB") } else { (KEYS, "128MiB") };
    let path = job_path(IDS[4]);
    let text = std::fs::read_to_string(&path).map_err(BenchError::file(&path))?;
    let works = [("10 k keys", 10_000, 20_000_000, pairs), ("10 M keys", many, 2 * many, 1)];
    let mut figures = Vec::new();
    for (stat, keys, rows, pairs) in works {
        // The job says it of ten thousand keys.
        let text = text.replace("max: 9999", &format!("max: {}", keys - 1));
        let (mut on_disk, mut in_memory) = (Vec::new(), Vec::new());
        for _ in 0..pairs {
            let folder = folder()?;
            let dir = folder.path().display().to_string();
            let rows_text = rows.to_string();
            let work = [("nodes.rows.rows", rows_text.as_str())];
            let disk = [
                ("state.backend.type", "disk"),
                ("state.backend.disk.memory", memory),
                ("state.backend.disk.dir", dir.as_str()),
            ];
            let pace_of = |took: Duration| rows as f64 / took.as_secs_f64();
            let job = |set: &[(&str, &str)]| parse(path.clone(), &text, set, None);
            on_disk.push(pace_of(run(job(&[&work[..], &disk].concat())?, None, environment)?));
            in_memory.push(pace_of(run(job(&work)?, None, environment)?));
        }
        let mut add = |way, paces: &mut [f64]| {
            figures.push(Figure::new(IDS[4], way, BUNDLE, stat, median(paces), ROWS_PER_SECOND));
        };
        add(WayName::Wasmill, &mut on_disk);
        add(WayName::Native, &mut in_memory);
    }
    Ok(figures)
}

/// Runs with checkpoints once a second and without any in turn: a busy machine slows both.
fn overhead(pace: &Pace, environment: &Environment) -> Result<Vec<Figure>, BenchError> {
    let (rows, pairs) = if pace.quick { ("40000000", 3) } else { ("100000000", 5) };
    let mut ratios = Vec::new();
    for _ in 0..pairs {
        let rows_set = ("nodes.rows.rows", rows);
        let without = run(read(IDS[0], &[rows_set], None)?, None, environment)?.as_secs_f64();
        let folder = folder()?;
        let place = Some(folder.path());
        let set = [rows_set, ("execution.checkpointing.interval", "1s")];
        let with = run(read(IDS[0], &set, place)?, place, environment)?.as_secs_f64();
        ratios.push(without / with);
    }
    Ok(vec![Figure::new(IDS[0], WayName::Wasmill, BUNDLE, "of the pace without", median(&mut ratios), "×")])
}

/// From the first rows that reach the sink to the last: without the start and the end of the job.
fn run(mut spec: JobSpec, folder: Option<&Path>, environment: &Environment) -> Result<Duration, BenchError> {
    let seen: Arc<Mutex<Option<(Instant, Instant)>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let sink = WatchSink(Arc::new(move |_| {
        let now = Instant::now();
        lock(&noted).get_or_insert((now, now)).1 = now;
    }));
    into_sink(&mut spec, &(Arc::new(sink) as Arc<dyn Sink>));
    start(&spec, folder, None, environment)?.wait()?;
    let seen = lock(&seen).take();
    seen.map(|(first, last)| last - first)
        .ok_or_else(|| BenchError::Nothing { what: IDS[0], problem: "no row came out".into() })
}

/// From the barrier to the manifest, which takes in the barrier's way through all operators.
fn slow_udf(pace: &Pace, environment: &Environment) -> Result<Figure, BenchError> {
    let folder = folder()?;
    let place = Some(folder.path());
    let set = [
        ("checkpoint.bundle", "persist"),
        ("execution.checkpointing.unaligned.enabled", "true"),
        ("execution.checkpointing.interval", "0ms"),
    ];
    let job = start(&read(IDS[1], &set, place)?, place, None, environment)?;
    let handle = job.stop_handle();
    let mut times = Vec::new();
    for _ in 0..if pace.quick { 5 } else { 20 } {
        std::thread::sleep(Duration::from_millis(300));
        handle.checkpoint().map_err(|error| BenchError::Nothing { what: IDS[1], problem: error.to_string() })?;
        let last = job.metrics().recovery.last_checkpoint();
        times.extend(last.map(|last| last.took.as_secs_f64() * 1e3));
    }
    // It has no end; that it ends now is no failure.
    let _cancelled = handle.cancel();
    let _stopped = job.wait();
    Ok(Figure::new(IDS[1], WayName::Wasmill, BUNDLE, "barrier to manifest", median(&mut times), "ms"))
}

/// How many rows a source may give.
#[derive(Debug, Default)]
struct Gate {
    rows: Mutex<u64>,
    passed: AtomicU64,
}

/// A source that gives so many rows of another, and then waits.
#[derive(Debug)]
struct Gated {
    source: Arc<dyn Source>,
    gate: Arc<Gate>,
}

struct GatedReader {
    reader: Box<dyn SourceReader>,
    gate: Arc<Gate>,
}

impl Source for Gated {
    fn schema(&self) -> SchemaRef {
        self.source.schema()
    }

    fn splits(&self) -> Result<Vec<Split>, ConnectorError> {
        self.source.splits()
    }

    fn open(&self, split: &Split, from: Option<&Position>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        Ok(Box::new(GatedReader { reader: self.source.open(split, from)?, gate: Arc::clone(&self.gate) }))
    }

    fn bounded(&self) -> bool {
        self.source.bounded()
    }
}

impl SourceReader for GatedReader {
    fn next(&mut self, rows_max: usize) -> Result<ReadOutcome, ConnectorError> {
        let left = lock(&self.gate.rows).saturating_sub(self.gate.passed.load(Ordering::Relaxed));
        if left == 0 {
            return Ok(ReadOutcome::Pending(Duration::from_millis(1)));
        }
        let outcome = self.reader.next(rows_max.min(usize::try_from(left).unwrap_or(usize::MAX)))?;
        if let ReadOutcome::Rows { rows, .. } = &outcome {
            self.gate.passed.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
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

/// Rows that have come to the sink.
#[derive(Debug, Default)]
struct Arrived {
    rows: Mutex<u64>,
    more: Condvar,
}

impl Arrived {
    fn wait(&self, want: u64) {
        let rows = lock(&self.rows);
        drop(self.more.wait_while(rows, |rows| *rows < want).unwrap_or_else(PoisonError::into_inner));
    }
}

/// A job on gated rows, and what has come of them.
fn gated(keys: u64, folder: &Path, gate: &Arc<Gate>, arrived: &Arc<Arrived>) -> Result<JobSpec, BenchError> {
    let keys = keys.to_string();
    let set = [("execution.checkpointing.interval", "0ms"), ("nodes.rows.fields.key.modulo", keys.as_str())];
    let mut spec = read(IDS[2], &set, Some(folder))?;
    if let Some(source) = source_of(&mut spec)?
        && let Some(node) = spec.nodes.first_mut()
    {
        let gated: Arc<dyn Source> = Arc::new(Gated { source, gate: Arc::clone(gate) });
        if let OperationSpec::Source { source, .. } = &mut node.operation {
            *source = Endpoint::Built(gated);
        }
    }
    let counted = Arc::clone(arrived);
    let sink = WatchSink(Arc::new(move |rows| {
        *lock(&counted.rows) += rows as u64;
        counted.more.notify_all();
    }));
    into_sink(&mut spec, &(Arc::new(sink) as Arc<dyn Sink>));
    Ok(spec)
}

/// All keys, one in a hundred of them, and all of them read back.
fn snapshots(pace: &Pace, environment: &Environment) -> Result<Vec<Figure>, BenchError> {
    let keys = if pace.quick { KEYS_QUICK } else { KEYS };
    let folder = folder()?;
    let (gate, arrived) = (Arc::new(Gate::default()), Arc::new(Arrived::default()));
    let job = start(&gated(keys, folder.path(), &gate, &arrived)?, Some(folder.path()), None, environment)?;
    let handle = job.stop_handle();
    let mut figures = Vec::new();
    let mut add = |id, way, stat, value, unit| figures.push(Figure::new(id, way, BUNDLE, stat, value, unit));
    let mut bytes_before = 0;
    let mut rows = 0;
    for (stat, more) in [("full", keys), ("incremental, 1 % of keys changed", keys / CHANGED)] {
        rows += more;
        *lock(&gate.rows) = rows;
        arrived.wait(rows);
        handle.checkpoint().map_err(|error| BenchError::Nothing { what: IDS[2], problem: error.to_string() })?;
        let Some(last) = job.metrics().recovery.last_checkpoint() else { continue };
        let written = last.bytes - bytes_before;
        bytes_before = last.bytes;
        add(IDS[2], WayName::Wasmill, stat, written as f64 / 1e6 / last.took.as_secs_f64(), "MB/s");
        add(IDS[2], WayName::Native, stat, disk(folder.path(), written)?, "MB/s");
    }
    handle.stop_with(false, None).map_err(|error| BenchError::Nothing { what: IDS[2], problem: error.to_string() })?;
    job.wait()?;
    let storage = checkpoint_storage(folder.path(), ".")?;
    let from =
        Restored::newest(&storage).map_err(|error| BenchError::Nothing { what: IDS[3], problem: error.to_string() })?;
    let (gate, arrived) = (Arc::new(Gate::default()), Arc::new(Arrived::default()));
    *lock(&gate.rows) = 1;
    let spec = gated(keys, folder.path(), &gate, &arrived)?;
    let began = Instant::now();
    let job = start(&spec, Some(folder.path()), from, environment)?;
    arrived.wait(1);
    let took = began.elapsed();
    let _cancelled = job.stop_handle().cancel();
    let _stopped = job.wait();
    add(IDS[3], WayName::Wasmill, "start to first row", keys as f64 / took.as_secs_f64() / 1e6, "million keys/s");
    Ok(figures)
}

/// What the disk itself takes: as many bytes in one file, synced, in MB/s.
fn disk(folder: &Path, bytes: u64) -> Result<f64, BenchError> {
    let path = folder.join("plain");
    let content = vec![0x5a; usize::try_from(bytes).unwrap_or(0)];
    let failed = |error| BenchError::File { path: path.clone(), source: error };
    let began = Instant::now();
    let mut file = std::fs::File::create(&path).map_err(failed)?;
    file.write_all(&content).and_then(|()| file.sync_all()).map_err(failed)?;
    let took = began.elapsed();
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(bytes as f64 / 1e6 / took.as_secs_f64())
}
