//! State that is larger than the memory for it, in the built program: what comes out is what is to come out, and memory stays as it is.
//!
//! `make large-state` runs it with 50 million keys and a limit of 512 MB.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use wasmill_tests::{built, read_parquet};

/// Of one test run; each comes twice.
const KEYS: u64 = 1_500_000;
const MEMORY: &str = "16MiB";
/// Of rows, in turn.
const VALUES: u64 = 1009;
/// What the whole process may take. In memory the keys alone would take more.
const LIMIT_MB: u64 = 200;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map_or(default, |text| text.parse().unwrap())
}

/// Each key comes twice, in order.
fn job(folder: &Path, keys: u64, memory: &str) -> String {
    let reference = built("guests/target/wasm32-wasip2/release/reference.wasm");
    format!(
        "
name: large-state
config:
  state.backend.type: disk
  state.backend.disk.memory: {memory}
  state.backend.disk.dir: {folder}/state
  execution.checkpointing.dir: {folder}/checkpoints
  execution.checkpointing.interval: 2s
udfs:
  ref: {{ path: {reference} }}
pipeline:
  - rows:
      source: generator
      rows: {rows}
      fields:
        key: {{ modulo: {keys} }}
        n: {{ modulo: {VALUES} }}
  - totals: {{ from: rows, key: [key], reduce: ref.total(n) }}
  - out: {{ from: totals, sink: parquet, path: {folder}/out }}
",
        folder = folder.display(),
        reference = reference.display(),
        rows = keys * 2,
    )
}

/// The sum of the values of a row's key so far.
fn total(row: u64, keys: u64) -> i64 {
    let value = |row: u64| (row % VALUES).cast_signed();
    value(row) + row.checked_sub(keys).map_or(0, value)
}

fn start(job: &Path) -> Child {
    let run = ["run", job.to_str().unwrap(), "--resume"];
    Command::new(built("target/release/wasmill"))
        .args(run)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The most memory that a process has had resident, in MB.
fn peak_mb(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

/// Waits until the process has ended or `enough` is true, and watches its memory.
fn watch(process: &mut Child, mut enough: impl FnMut() -> bool) -> (Option<bool>, u64) {
    let mut peak = 0;
    loop {
        peak = peak.max(peak_mb(process.id()).unwrap_or(0));
        if let Some(status) = process.try_wait().unwrap() {
            return (Some(status.success()), peak);
        }
        if enough() {
            return (None, peak);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn checkpoints(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("checkpoints/checkpoints")).map_or(0, Iterator::count)
}

#[test]
fn keys_that_memory_has_no_room_for() {
    let keys = number("KEYS", KEYS);
    let limit = number("LIMIT_MB", LIMIT_MB);
    let memory = std::env::var("STATE_MEMORY").ok().filter(|text| !text.is_empty()).unwrap_or(MEMORY.into());
    let folder = tempfile::tempdir_in(built("target")).unwrap();
    let path = folder.path().join("job.yaml");
    std::fs::write(&path, job(folder.path(), keys, &memory)).unwrap();

    // Killed behind its first checkpoint, when much of its state is on disk and more in memory alone.
    let mut process = start(&path);
    let (ended, first) = watch(&mut process, || checkpoints(folder.path()) > 0);
    assert_eq!(ended, None, "it was over before its first checkpoint: give it more KEYS");
    process.kill().unwrap();
    process.wait().unwrap();

    let mut process = start(&path);
    let (ended, second) = watch(&mut process, || false);
    let mut told = String::new();
    std::io::Read::read_to_string(&mut process.stderr.take().unwrap(), &mut told).unwrap();
    assert_eq!(ended, Some(true), "{told}");
    println!("{keys} keys: at most {first} MB before it was killed, {second} MB after");
    assert!(first.max(second) <= limit, "{first} MB before it was killed, {second} MB after; {limit} are allowed");

    let mut row = 0;
    for batch in read_parquet(&folder.path().join("out")) {
        for got in batch.column(0).as_primitive::<Int64Type>().values() {
            assert_eq!(*got, total(row, keys), "row {row}");
            row += 1;
        }
    }
    assert_eq!(row, keys * 2);
    // What lay on disk is gone, that of the process that was killed too.
    assert_eq!(std::fs::read_dir(folder.path().join("state")).unwrap().count(), 0);
}
