//! `wasmill swap` on running jobs, by the built program: what is swapped in goes on with the state, what does not fit leaves the job as
//! it was, and each row is there once.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use wasmill_tests::built;
use wasmill_tests::program::{Job, ask, committed};

const ROWS: u64 = 3000;
const KEYS: u64 = 7;

/// Counts each key, and says by which version a row was counted.
const UDF: &str = "\
from typing import Iterator, NamedTuple, Optional

from wasmill import KeyedProcessFunction, MapFunction, Types, ValueStateDescriptor


class Counted(NamedTuple):
    k: int
    n: int
    count: int
    by: str


class Count(KeyedProcessFunction):
    def open(self, runtime_context):
        self.count = runtime_context.get_state(ValueStateDescriptor('count', Types.LONG()))

    def process_element(self, value, ctx) -> Iterator[Counted]:
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        yield Counted(value.k, value.n, count, 'old')


class Average(NamedTuple):
    count: int
    average: float


class Reading(NamedTuple):
    value: float


class KeyedAverage(KeyedProcessFunction):
    def open(self, runtime_context):
        self.count = runtime_context.get_state(ValueStateDescriptor('count', Types.LONG()))
        self.sum = runtime_context.get_state(ValueStateDescriptor('sum', Types.DOUBLE()))

    def process_element(self, value: Reading, ctx) -> Iterator[Average]:
        self.count.update((self.count.value() or 0) + 1)
        self.sum.update((self.sum.value() or 0.0) + value.value)
        yield Average(self.count.value(), -1.0)
";

/// Three seconds of rows, in two regions.
const JOB: &str = "\
name: counts
config:
  parallelism: 2
  arrow.batch.size: 20
  execution.checkpointing.dir: checkpoints
  execution.checkpointing.interval: 50ms
  restart-strategy.type: fixed-delay
  restart-strategy.fixed-delay.attempts: 1000
  restart-strategy.fixed-delay.delay: 200ms
udfs: { u: { path: udf.py } }
pipeline:
  - numbers:
      source: generator
      rows: 3000
      rate: 1000
      fields: { n: { sequence: {} }, k: { modulo: 7 }, value: { choice: [0.5] } }
  - counted: { from: numbers, key: [k], process: u.Count }
  - out: { from: counted, sink: jsonl, path: out/counted }
  - others: { source: generator, rows: 3000, rate: 1000, fields: { m: { sequence: {} } } }
  - others-out: { from: others, sink: jsonl, path: out/others }
";

struct Home(TempDir);

impl Home {
    fn new(job: &str) -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        home.write("udf.py", UDF);
        home.write("job.yaml", job);
        home
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    /// The UDF with some of its text replaced.
    fn write_version(&self, name: &str, from: &str, to: &str) {
        assert!(UDF.contains(from), "{from}");
        self.write(name, &UDF.replacen(from, to, 1));
    }

    fn start(&self, arguments: &[&str]) -> Job {
        Job::start(self.path(), arguments)
    }

    /// Waits until the job has committed more rows than `rows`.
    fn after(&self, job: &mut Job, rows: usize) {
        job.until(|| self.lines("counted").len() > rows);
    }

    fn running(&self, arguments: &[&str]) -> Job {
        let mut job = self.start(arguments);
        self.after(&mut job, 100);
        job
    }

    fn ask(&self, arguments: &[&str]) -> (i32, String, String) {
        ask(self.path(), arguments)
    }

    /// A swap of the job's UDF that is done.
    fn swap(&self, path: &str) -> String {
        let (code, out, err) = self.ask(&["swap", "counts", "u", path]);
        assert_eq!((code, out.as_str()), (0, ""), "{path}: {err}");
        assert!(err.contains(&format!("udf \"u\" is {path} since checkpoint ")), "{err}");
        err
    }

    /// A swap that is refused, for a reason in which `reason` stands.
    fn refused(&self, udf: &str, path: &str, reason: &str) {
        let (code, out, err) = self.ask(&["swap", "counts", udf, path]);
        assert_eq!((code, out.as_str()), (1, ""), "{path}: {err}");
        assert!(err.contains(reason), "{path}: {err}");
    }

    /// The jobs that run, with the files that their UDFs are now.
    fn listed(&self) -> String {
        let (code, out, err) = self.ask(&["jobs"]);
        assert_eq!(code, 0, "{err}");
        out
    }

    fn lines(&self, sink: &str) -> Vec<Value> {
        let mut lines = committed(&self.path().join("out").join(sink));
        lines.sort_by_key(|line| line["n"].as_u64());
        lines
    }

    /// Every row is there once and counted by the state of those before it; the versions by which they were, in their order.
    fn versions(&self) -> Vec<String> {
        let rows = self.lines("counted");
        let got = rows.iter().map(|row| (row["n"].as_u64().unwrap(), row["count"].as_u64().unwrap()));
        let wanted = (0..ROWS).map(|n| (n, n / KEYS + 1));
        assert!(got.eq(wanted), "{} rows, {ROWS} wanted", rows.len());
        let mut others: Vec<u64> = self.lines("others").iter().map(|row| row["m"].as_u64().unwrap()).collect();
        others.sort_unstable();
        assert!(others.into_iter().eq(0..ROWS), "a source that calls nothing goes on too");
        let mut versions: Vec<String> = rows.iter().map(|row| row["by"].as_str().unwrap().to_owned()).collect();
        versions.dedup();
        versions
    }
}

#[test]
fn a_new_version_goes_on_with_the_state() {
    let home = Home::new(JOB);
    home.write_version("new.py", "'old'", "'new'");
    let mut job = home.running(&[]);
    assert!(home.listed().contains("  u: udf.py"), "{}", home.listed());
    let told = home.swap("new.py");
    assert!(
        told.contains("no row was read for ") && told.contains("--resume takes the file that the job names"),
        "{told}"
    );
    assert!(home.listed().contains("  u: new.py"), "{}", home.listed());
    let rows = home.lines("counted").len();
    home.after(&mut job, rows + 100);
    // Back, and with a file that lies where it lay before.
    home.write_version("udf.py", "'old'", "'third'");
    home.swap("udf.py");
    let (code, text) = job.ended();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("going on with a new version of a UDF since checkpoint "), "{text}");
    assert_eq!(home.versions(), ["old", "new", "third"]);
}

#[test]
fn python_becomes_rust_with_its_state() {
    let home = Home::new(&JOB.replace("process: u.Count", "process: u.KeyedAverage"));
    std::fs::copy(built("guests/target/wasm32-wasip2/release/reference.wasm"), home.path().join("ref.wasm")).unwrap();
    std::fs::copy(home.path().join("ref.wasm"), home.path().join("again.wasm")).unwrap();
    let mut job = home.running(&[]);
    home.swap("ref.wasm");
    let rows = home.lines("counted").len();
    home.after(&mut job, rows + 100);
    home.swap("again.wasm");
    let (code, text) = job.ended();
    assert_eq!(code, 0, "{text}");
    let rows = home.lines("counted");
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap();
    let mut counts: Vec<u64> = rows.iter().map(|row| row["count"].as_u64().unwrap()).collect();
    counts.sort_unstable();
    assert!(counts.into_iter().eq((0..ROWS).map(|n| n / KEYS + 1)), "each count of each key once");
    let (python, rust): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| number(row, "average") < 0.0);
    // The sum that Python kept is Rust's.
    assert!(rust.iter().all(|row| (number(row, "average") - 0.5).abs() < 1e-9));
    let last = python.iter().map(|row| row["count"].as_u64().unwrap()).max().unwrap();
    let first = rust.iter().map(|row| row["count"].as_u64().unwrap()).min().unwrap();
    assert!(first > 1 && first <= last + 1, "python counted to {last}, rust from {first}");
}

#[test]
fn what_does_not_fit_leaves_the_job_as_it_was() {
    let home = Home::new(JOB);
    let job = home.running(&[]);
    for (name, from, to, reason) in [
        (
            "result.py",
            "    count: int\n    by",
            "    count: float\n    by",
            "node \"counted\" would give count: float64, and gives count: int64: what takes the place of a UDF gives the same types",
        ),
        (
            "column.py",
            "    by: str\n",
            "    by: str\n    more: Optional[int] = None\n",
            "node \"counted\" would give more: int64?, and gives nothing more",
        ),
        (
            "state.py",
            "Types.LONG()",
            "Types.STRING()",
            "node \"counted\": state \"count\" would be utf8, and is int64: a state can only get more fields, which may be null",
        ),
        (
            "renamed.py",
            "ValueStateDescriptor('count'",
            "ValueStateDescriptor('number'",
            "node \"counted\" has the state \"count\", and u.Count would have none of that name",
        ),
        (
            "function.py",
            "class Count(",
            "class Counts(",
            "node \"counted\": udf \"u\" has no function \"Count\"; it has ",
        ),
        (
            "kind.py",
            "class Count(KeyedProcessFunction):\n",
            "class Count(MapFunction):\n    def map(self, value: Counted) -> Counted:\n        return None\n\n\nclass Other(KeyedProcessFunction):\n",
            "node \"counted\": u.Count is of kind map; here a process function is wanted",
        ),
        ("syntax.py", "class Average", "clas Average", "SyntaxError"),
        ("open.py", "        self.count = ", "        raise ValueError('no')\n        self.count = ", "ValueError: no"),
    ] {
        home.write_version(name, from, to);
        home.refused("u", name, reason);
    }
    home.refused("u", "gone.py", "cannot read gone.py");
    home.write("not.wasm", "no component");
    home.refused("u", "not.wasm", "udf \"u\" is not WebAssembly");
    home.write("notes.txt", "");
    home.refused("u", "notes.txt", "is neither .wasm nor .py");
    home.refused("v", "udf.py", "no UDF is called \"v\"; there are u");
    assert!(home.listed().contains("  u: udf.py"), "{}", home.listed());
    let (code, text) = job.ended();
    assert_eq!(code, 0, "{text}");
    assert_eq!(home.versions(), ["old"]);
}

/// Only the second subtask finds out that it cannot begin: by then the old version has gone, and comes back.
#[test]
fn what_does_not_open_everywhere_is_taken_back() {
    let home = Home::new(JOB);
    let open =
        "        if runtime_context.get_index_of_this_subtask() == 1:\n            raise ValueError('not here')\n";
    let before = "    def open(self, runtime_context):\n";
    home.write_version("new.py", before, &format!("{before}{open}"));
    let job = home.running(&[]);
    home.refused("u", "new.py", "ValueError: not here");
    assert!(home.listed().contains("  u: udf.py"), "{}", home.listed());
    let (code, text) = job.ended();
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("a new version of a UDF does not work: ") && text.contains("; going on with the old"),
        "{text}"
    );
    assert_eq!(home.versions(), ["old"]);
}

/// A version that fails on a row is there again after each failure, until a better one takes its place.
#[test]
fn a_version_that_fails_is_mended_while_the_job_runs() {
    let home = Home::new(JOB);
    let count = "        count = (";
    home.write_version(
        "bad.py",
        count,
        &format!("        if value.n == 1200:\n            raise ValueError('no')\n{count}"),
    );
    home.write_version("mended.py", "'old'", "'mended'");
    let mut job = home.running(&[]);
    home.swap("bad.py");
    job.until(|| home.listed().contains("restarting"));
    // It may fail again on its way to the swap's checkpoint.
    job.until(|| home.ask(&["swap", "counts", "u", "mended.py"]).0 == 0);
    let (code, text) = job.ended();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("raised ValueError: no"), "{text}");
    assert_eq!(home.versions(), ["old", "mended"]);
}

/// The job file says which version a job has that is gone on with.
#[test]
fn after_a_resume_the_jobs_own_file_counts() {
    let home = Home::new(JOB);
    home.write_version("new.py", "'old'", "'new'");
    let mut job = home.running(&[]);
    home.swap("new.py");
    let rows = home.lines("counted").len();
    home.after(&mut job, rows + 100);
    drop(job);
    let job = home.start(&["--resume"]);
    let (code, text) = job.ended();
    assert_eq!(code, 0, "{text}");
    assert_eq!(home.versions(), ["old", "new", "old"]);
}
