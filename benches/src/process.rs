//! The way that Wasmill replaces: the function in a CPython process of its own, Arrow batches over a Unix socket.
//!
//! Asynchronous: one thread sends, another receives, and up to [`IN_FLIGHT_BUNDLES_MAX`] bundles are on their way. The worker is
//! up before the time is taken, and has a core of its own if the machine has one: whatever could be held against this way is left out.

use std::hint::black_box;
use std::io::{BufRead, BufReader, BufWriter};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use crossbeam::channel::{Receiver, Sender, bounded};
use tempfile::TempDir;
use wasmill_runtime::connector::Source;

use crate::native::end;
use crate::same::lines;
use crate::work::{Work, for_each_bundle};
use crate::{BenchError, Way, python, root};

/// Bundles that are sent and not yet answered.
pub const IN_FLIGHT_BUNDLES_MAX: usize = 64;

/// Small bundles share a system call, but half of what may be in flight is always on its way.
const UNSENT_BUNDLES_MAX: usize = IN_FLIGHT_BUNDLES_MAX / 2;

const BUFFER_BYTES: usize = 64 << 10;

const WORKER: &str = "the worker process of benches/python/worker.py";

/// A worker that serves one function.
pub struct Process {
    work: &'static Work,
    bundle: usize,
    process: Child,
    socket: PathBuf,
    /// Where the socket lies.
    _folder: TempDir,
}

/// Starts the worker and waits until it listens.
///
/// # Errors
/// [`BenchError`] if it does not come up.
pub fn open(work: &'static Work, bundle: usize) -> Result<Box<dyn Way>, BenchError> {
    Ok(Box::new(start(work, bundle)?))
}

/// As [`open`].
pub(crate) fn start(work: &'static Work, bundle: usize) -> Result<Process, BenchError> {
    let folder = tempfile::tempdir().map_err(BenchError::file(std::env::temp_dir()))?;
    let socket = folder.path().join("udf.sock");
    let mut process = Command::new(python()?)
        .arg(root().join("benches/python/worker.py"))
        .arg(work.process)
        .arg(&socket)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(BenchError::worker(WORKER))?;
    let output = process.stdout.take().expect("standard output is a pipe");
    let worker = Process { work, bundle, process, socket, _folder: folder };
    let mut ready = String::new();
    BufReader::new(output).read_line(&mut ready).map_err(BenchError::worker(WORKER))?;
    match ready.trim() {
        "ready" => Ok(worker),
        _ => Err(BenchError::Answer { what: WORKER, got: ready, want: "\"ready\"" }),
    }
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn connect(&self) -> Result<UnixStream, BenchError> {
        UnixStream::connect(&self.socket).map_err(BenchError::worker(WORKER))
    }

    /// From the first row sent to the last received. Every connection is a new instance of the function.
    fn each(&self, rows: u64, each: impl FnMut(RecordBatch)) -> Result<Duration, BenchError> {
        let source = self.work.source(rows, &[])?;
        let stream = self.connect()?;
        let (window, slots) = bounded(IN_FLIGHT_BUNDLES_MAX);
        let started = Instant::now();
        let (sent, received) = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let sent = send(source.as_ref(), self.bundle, &stream, &window);
                // Also after a failure: the worker then ends its answers, and the receiver does not wait for more.
                let closed = stream.shutdown(Shutdown::Write).map_err(BenchError::worker(WORKER));
                sent.and(closed)
            });
            let received = receive(&stream, slots, each);
            (sender.join().expect("sending does not panic"), received)
        });
        let time = started.elapsed();
        let got = received?;
        sent?;
        let want = self.work.results.of(rows);
        if got == want { Ok(time) } else { Err(BenchError::Rows { got, want }) }
    }
}

impl Way for Process {
    fn run(&mut self, rows: u64) -> Result<Duration, BenchError> {
        self.each(rows, |batch| drop(black_box(batch)))
    }

    fn output(&mut self, rows: u64) -> Result<Option<Vec<String>>, BenchError> {
        let mut batches = Vec::new();
        self.each(rows, |batch| batches.push(batch))?;
        Ok(Some(lines(self.work.results, &batches)?))
    }
}

fn send(source: &dyn Source, bundle: usize, stream: &UnixStream, window: &Sender<()>) -> Result<(), BenchError> {
    let output = BufWriter::with_capacity(BUFFER_BYTES, stream);
    let mut writer = StreamWriter::try_new(output, &source.schema())?;
    let mut unsent = 0;
    for_each_bundle(source, bundle, |batch| {
        if unsent == UNSENT_BUNDLES_MAX {
            writer.flush()?;
            unsent = 0;
        }
        // An error: the receiver has gone, and says why.
        if window.send(()).is_ok() {
            writer.write(&batch)?;
            unsent += 1;
        }
        Ok(())
    })?;
    Ok(writer.finish()?)
}

/// Takes all answers, and makes room for another bundle with each.
fn receive(stream: &UnixStream, slots: Receiver<()>, mut each: impl FnMut(RecordBatch)) -> Result<u64, BenchError> {
    let mut rows = 0;
    for batch in StreamReader::try_new(BufReader::with_capacity(BUFFER_BYTES, stream), None)? {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        each(batch);
        // Nothing waits for room any more once all has been sent.
        let _all_sent = slots.try_recv();
    }
    Ok(rows)
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}
