//! Checkpoints of every version of the format stay readable: those in `tests/snapshots` were written by the program as it was then,
//! and hold what their rows and functions say they must.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use serde_json::Value;
use wasmill_connectors::checkpoint_storage;
use wasmill_runtime::batch::Batch;
use wasmill_runtime::checkpoint::container;
use wasmill_runtime::checkpoint::inspect;
use wasmill_runtime::checkpoint::manifest::SnapshotKind;
use wasmill_runtime::checkpoint::restore::{Restored, numbers};
use wasmill_runtime::checkpoint::storage::CheckpointStorage;
use wasmill_runtime::fuzz;
use wasmill_tests::root;

fn version_1() -> PathBuf {
    root().join("tests/snapshots/v1")
}

fn storage() -> Arc<dyn CheckpointStorage> {
    checkpoint_storage(&version_1(), "checkpoints").unwrap()
}

/// A row of the job's input.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    who: String,
    word: String,
    n: i64,
    at: i64,
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(version_1().join("rows.jsonl")).unwrap();
    let row = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        Row { who: text("who"), word: text("word"), n: value["n"].as_i64().unwrap(), at: value["at"].as_i64().unwrap() }
    };
    text.lines().map(row).collect()
}

/// How many rows had been read.
fn read_rows(of: &Restored) -> usize {
    let own = &of.manifest.node("rows").unwrap().subtasks[0].own;
    assert_eq!(own["open"][0]["id"], "rows.jsonl");
    let position: Value = serde_json::from_str(own["open"][0]["position"].as_str().unwrap()).unwrap();
    position["row"].as_u64().unwrap().try_into().unwrap()
}

/// Of rows on their way to `node`, in channels and open bundles, the numbers.
fn on_their_way(of: &Restored, node: &str) -> BTreeSet<i64> {
    let channels = of.manifest.channels.iter().filter(|channel| channel.to == node);
    let bundles = of.manifest.node(node).unwrap().subtasks.iter().filter_map(|subtask| subtask.bundle.as_ref());
    let files = channels.filter_map(|channel| channel.file.as_ref()).chain(bundles);
    let batches = files.flat_map(|file| {
        let batches = fuzz::read_rows(&storage().get(&file.name).unwrap()).unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>(), file.rows);
        batches
    });
    let input = rows();
    batches.flat_map(|batch| numbers_of(&batch, &input)).collect()
}

/// The rows of the batch are those of the input, with their times and places.
fn numbers_of(batch: &Batch, input: &[Row]) -> Vec<i64> {
    let column = |name: &str| batch.rows().column_by_name(name).unwrap();
    let numbers = column("n").as_primitive::<Int64Type>();
    for row in 0..batch.num_rows() {
        let n = numbers.value(row);
        let wanted = &input[n as usize];
        assert_eq!(column("who").as_string::<i32>().value(row), wanted.who);
        assert_eq!(column("word").as_string::<i32>().value(row), wanted.word);
        assert_eq!(batch.event_times().unwrap()[row], wanted.at);
        assert_eq!(batch.positions().get(row), Some(n as u64));
    }
    numbers.values().to_vec()
}

/// Who → how often and when last, and the words.
type Visits = BTreeMap<String, (i64, i64, Vec<String>)>;

/// What `made_by.py` makes of the rows.
fn visits(rows: &[Row]) -> Visits {
    let mut all = Visits::new();
    for row in rows {
        if row.word == "!" {
            all.remove(&row.who);
            continue;
        }
        let (visits, at, words) = all.entry(row.who.clone()).or_default();
        (*visits, *at) = (*visits + 1, row.at);
        words.push(row.word.clone());
        let old = words.len().saturating_sub(2);
        words.drain(..old);
    }
    all
}

fn read_visits(batches: &[RecordBatch]) -> Visits {
    let mut all = Visits::new();
    for batch in batches {
        let last = batch.column_by_name("last").unwrap().as_struct();
        let (visits, at) = (last.column(0).as_primitive::<Int64Type>(), last.column(1).as_primitive::<Int64Type>());
        let words = batch.column_by_name("words").unwrap().as_list::<i32>();
        for (row, who) in batch.column_by_name("who").unwrap().as_string::<i32>().iter().enumerate() {
            let words = words.value(row);
            let words = words.as_string::<i32>().iter().map(|word| word.unwrap().to_owned()).collect();
            let before = all.insert(who.unwrap().to_owned(), (visits.value(row), at.value(row), words));
            assert!(before.is_none(), "a key is told once");
        }
    }
    all
}

/// Who and start → count and sum.
type Totals = BTreeMap<(String, i64), (i64, i64)>;

fn totals(rows: &[Row], watermark: i64) -> Totals {
    let mut all = Totals::new();
    for row in rows {
        let start = row.at - row.at % 5000;
        if start + 4999 > watermark {
            let (count, sum) = all.entry((row.who.clone(), start)).or_default();
            (*count, *sum) = (*count + 1, *sum + row.n);
        }
    }
    all
}

fn read_totals(batches: &[RecordBatch]) -> Totals {
    let mut all = Totals::new();
    for batch in batches {
        let accumulator = batch.column_by_name("accumulator").unwrap().as_struct();
        let [count, sum] = [0, 1].map(|column| accumulator.column(column).as_primitive::<Int64Type>().clone());
        let starts = batch.column_by_name("window_start").unwrap().as_primitive::<TimestampMillisecondType>();
        for (row, who) in batch.column_by_name("who").unwrap().as_string::<i32>().iter().enumerate() {
            all.insert((who.unwrap().to_owned(), starts.value(row)), (count.value(row), sum.value(row)));
        }
    }
    all
}

#[test]
fn version_1_holds_what_its_rows_say() {
    let numbers = numbers(&storage()).unwrap();
    assert_eq!(numbers.len(), 2, "{numbers:?}");
    let mut files = BTreeSet::new();
    for number in numbers {
        let of = Restored::checkpoint(&storage(), number).unwrap();
        let manifest = &of.manifest;
        assert_eq!(
            (manifest.job.as_str(), manifest.checkpoint, manifest.kind),
            ("snapshot", number, SnapshotKind::Checkpoint)
        );
        assert!(!manifest.finished && manifest.taken_at > 1_700_000_000_000);
        let read = &rows()[..read_rows(&of)];
        let processed = |node: &str| {
            let waiting = on_their_way(&of, node);
            assert!(waiting.iter().all(|n| (*n as usize) < read.len()), "{waiting:?}");
            read.iter().filter(|row| !waiting.contains(&row.n)).cloned().collect::<Vec<Row>>()
        };
        assert_eq!(inspect::nodes(&of), ["visits", "totals"]);
        assert_eq!(read_visits(&inspect::states(&of, "visits").unwrap()), visits(&processed("visits")));
        let watermark = manifest.node("totals").unwrap().subtasks[0].own["watermark"].as_i64().unwrap();
        assert_eq!(read_totals(&inspect::states(&of, "totals").unwrap()), totals(&processed("totals"), watermark));
        let writers = manifest.node("seen").unwrap().subtasks.iter().map(|subtask| &subtask.own["writer"]);
        assert!(writers.into_iter().all(|writer| writer.as_str().unwrap().contains("next_part")));
        assert!(!manifest.prepared("seen").is_empty());
        files.extend(manifest.files().map(|file| file.name.clone()));
    }
    assert_eq!(storage().list("state/").unwrap(), files.into_iter().collect::<Vec<_>>(), "no file is in vain");
}

/// The fixture has all that the format has; were it made again, it should still.
#[test]
fn version_1_has_a_bit_of_everything() {
    let all: Vec<Restored> =
        numbers(&storage()).unwrap().iter().map(|number| Restored::checkpoint(&storage(), *number).unwrap()).collect();
    let newest = &all[1].manifest;
    let states = &newest.node("visits").unwrap().states;
    let states: Vec<(&str, &str)> = states.iter().map(|(name, of)| (name.as_str(), of.as_str())).collect();
    assert_eq!(states, [("last", "struct<visits: int64?, at: int64?>"), ("words", "list<utf8?>")]);
    assert_eq!(newest.node("visits").unwrap().key, [("who".to_owned(), "utf8".to_owned())]);
    assert!(all.iter().any(|of| !of.manifest.channels.is_empty()), "rows in a channel");
    let subtasks = || all.iter().flat_map(|of| &of.manifest.nodes).flat_map(|node| &node.subtasks);
    assert!(subtasks().any(|subtask| subtask.keyed.len() > 1), "files that build on each other");
    let gone = subtasks().flat_map(|subtask| &subtask.keyed).any(|file| {
        let keyed = fuzz::read_keyed(&storage().get(&file.name).unwrap()).unwrap();
        (0..keyed.keys.len()).any(|row| keyed.states.iter().all(|(_, values)| values.is_null(row)))
    });
    assert!(gone, "a key that is gone");
    for name in storage().list("").unwrap() {
        let file = storage().get(&name).unwrap();
        assert_eq!(
            file[8..10],
            1u16.to_le_bytes(),
            "{name} is of version 1, and {} is written now",
            container::VERSION
        );
    }
}
