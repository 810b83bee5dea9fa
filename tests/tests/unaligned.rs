//! Barriers that overtake, with tasks on threads of their own: what a checkpoint says that sources have read is in its state, or on its
//! way in it, and nothing else is.
//!
//! A rate that leaves channels empty most of the time is where elements and barriers race; the simulator, in which a task's turn is one
//! step, has no such races.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use wasmill_connectors::checkpoint_storage;
use wasmill_runtime::checkpoint::inspect;
use wasmill_runtime::checkpoint::manifest::{Manifest, SubtaskManifest};
use wasmill_runtime::checkpoint::restore::{self, Restored};
use wasmill_runtime::checkpoint::storage::CheckpointStorage;
use wasmill_tests::built;
use wasmill_tests::program::Job;

const JOB: &str = "\
name: unaligned
config:
  parallelism: 2
  arrow.batch.size: 50
  execution.checkpointing.dir: checkpoints
  execution.checkpointing.interval: 10ms
  execution.checkpointing.num-retained: 1000
  execution.checkpointing.unaligned.enabled: true
udfs: { ref: { path: REFERENCE } }
pipeline:
  - rows:
      source: generator
      rows: 60000
      rate: 25000
      splits: 2
      fields: { k: { modulo: 700 }, n: { modulo: 13 }, v: { random: { type: float64 } } }
  - more: { from: rows, parallelism: 3, with: { n: ref.add_one(n) } }
  - average: { from: more, key: [k], process: ref.KeyedAverage(v) }
  - out: { from: average, sink: jsonl, path: out }
";

/// Rows that the sources have read.
fn read(manifest: &Manifest) -> u64 {
    let subtasks = manifest.node("rows").unwrap().subtasks.iter();
    let open = subtasks.flat_map(|subtask| subtask.own["open"].as_array().cloned().unwrap_or_default());
    let row = |split: serde_json::Value| {
        let position: serde_json::Value = serde_json::from_str(split["position"].as_str()?).unwrap();
        position["row"].as_u64()
    };
    open.filter_map(row).sum()
}

/// Rows in channels and open bundles.
fn on_their_way(manifest: &Manifest) -> u64 {
    let channels = manifest.channels.iter().filter_map(|channel| channel.file.as_ref());
    let subtasks = manifest.nodes.iter().flat_map(|node| &node.subtasks);
    let bundles = subtasks.filter_map(|subtask: &SubtaskManifest| subtask.bundle.as_ref());
    channels.chain(bundles).map(|file| file.rows).sum()
}

fn counted(checkpoint: &Restored) -> u64 {
    let states = inspect::states(checkpoint, "average").unwrap();
    let count = |batch: &arrow::array::RecordBatch| {
        let counts = batch.column_by_name("count").unwrap().as_primitive::<Int64Type>();
        counts.values().iter().sum::<i64>().cast_unsigned()
    };
    states.iter().map(count).sum()
}

/// How many checkpoints there are that can be told from all rows read.
fn check(folder: &Path, what: &str) -> usize {
    let storage: Arc<dyn CheckpointStorage> = checkpoint_storage(folder, "checkpoints").unwrap();
    let mut seen = 0;
    for number in restore::numbers(&storage).unwrap() {
        let checkpoint = Restored::checkpoint(&storage, number).unwrap();
        let manifest = &checkpoint.manifest;
        let ended = manifest
            .node("rows")
            .unwrap()
            .subtasks
            .iter()
            .any(|subtask| subtask.own["ended"].as_array().is_some_and(|ended| !ended.is_empty()));
        // A split that has ended has no position any more.
        if ended || manifest.finished {
            continue;
        }
        let (read, there) = (read(manifest), counted(&checkpoint) + on_their_way(manifest));
        assert_eq!(read, there, "{what}: checkpoint {number}: rows read, and rows in state or on their way");
        seen += 1;
    }
    seen
}

#[test]
fn a_row_is_in_the_state_or_on_its_way() {
    for (what, settings) in [
        ("flush", &[][..]),
        ("persist", &["checkpoint.bundle=persist"]),
        ("after a millisecond", &["execution.checkpointing.aligned-checkpoint-timeout=1ms"]),
        ("state on disk", &["state.backend.type=disk", "state.backend.disk.memory=4KiB"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let reference = built("guests/target/wasm32-wasip2/release/reference.wasm");
        std::fs::write(folder.path().join("job.yaml"), JOB.replace("REFERENCE", &reference.display().to_string()))
            .unwrap();
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let (code, text) = Job::start(folder.path(), &settings).ended();
        assert_eq!(code, 0, "{what}: {text}");
        let seen = check(folder.path(), what);
        assert!(seen >= 10, "{what}: only {seen} checkpoints were taken on the way");
    }
}
