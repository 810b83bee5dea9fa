//! Savepoints of running jobs, by the built program: whatever they are used for, each row is there once.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;
use wasmill_tests::program::{Job, ask, committed};

const ROWS: u64 = 3000;
const KEYS: u64 = 7;

/// Counts each key: a row that is lost, doubled or counted by the wrong state is seen in the counts.
const UDF: &str = "\
from typing import Iterator, NamedTuple

from wasmill import AggregateFunction, KeyedProcessFunction, Types, ValueStateDescriptor


class Counted(NamedTuple):
    k: int
    n: int
    count: int


class Count(KeyedProcessFunction):
    def open(self, runtime_context):
        self.count = runtime_context.get_state(ValueStateDescriptor('count', Types.LONG()))

    def process_element(self, value, ctx) -> Iterator[Counted]:
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        yield Counted(value.k, value.n, count)


class Sum(NamedTuple):
    rows: int


class Rows(AggregateFunction):
    def create_accumulator(self) -> Sum:
        return Sum(0)

    def accumulate(self, accumulator: Sum, n: int) -> Sum:
        return Sum(accumulator.rows + 1)

    def get_value(self, accumulator: Sum) -> int:
        return accumulator.rows


def poisoned(n: int) -> int:
    if n == 700:
        raise ValueError('seven hundred')
    return n
";

/// Three seconds of rows, with all kinds of state: positions, state by key, open windows, files in the making.
const JOB: &str = "\
name: counts
config:
  parallelism: 2
  arrow.batch.size: 20
  execution.checkpointing.dir: checkpoints
  execution.checkpointing.interval: 50ms
udfs: { u: { path: udf.py } }
pipeline:
  - numbers:
      source: generator
      rows: 3000
      rate: 1000
      fields: { n: { sequence: {} }, k: { modulo: 7 }, at: { timestamp: { step: 1s } } }
      watermark: { column: at, delay: 0s }
  - counted: { from: numbers, key: [k], process: u.Count }
  - hourly: { from: numbers, key: [k], window: { tumbling: 1h }, aggregate: u.Rows(n) }
  - out: { from: counted, sink: jsonl, path: out/counted }
  - hours: { from: hourly, sink: jsonl, path: out/hourly }
";

struct Home(TempDir);

impl Home {
    fn new(job: &str) -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        std::fs::write(home.path().join("udf.py"), UDF).unwrap();
        std::fs::write(home.path().join("job.yaml"), job).unwrap();
        home
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn start(&self, arguments: &[&str]) -> Job {
        Job::start(self.path(), arguments)
    }

    /// Runs it to its end, which is a good one.
    fn run(&self, arguments: &[&str]) {
        let (code, text) = self.start(arguments).ended();
        assert_eq!(code, 0, "{arguments:?}: {text}");
    }

    /// Starts it, and returns when it has written more rows than `rows`.
    fn running(&self, arguments: &[&str], rows: usize) -> Job {
        let mut job = self.start(arguments);
        job.until(|| self.counted().len() > rows);
        job
    }

    /// What a command that goes well prints.
    fn ask(&self, arguments: &[&str]) -> String {
        let (code, out, err) = ask(self.path(), arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        out.trim().to_owned()
    }

    fn lines(&self, sink: &str) -> Vec<serde_json::Value> {
        committed(&self.path().join("out").join(sink))
    }

    /// Each row and how many of its key there were until then.
    fn counted(&self) -> Vec<(u64, u64)> {
        let number = |line: &serde_json::Value, name: &str| line[name].as_u64().unwrap();
        let mut rows: Vec<_> =
            self.lines("counted").iter().map(|line| (number(line, "n"), number(line, "count"))).collect();
        rows.sort_unstable();
        rows
    }

    /// By start of the window, the rows of all keys in it.
    fn hourly(&self) -> BTreeMap<String, u64> {
        let mut hours = BTreeMap::new();
        for line in self.lines("hourly") {
            let rows = line.as_object().unwrap().values().filter_map(serde_json::Value::as_u64).next_back().unwrap();
            *hours.entry(line["window_start"].as_str().unwrap().to_owned()).or_default() += rows;
        }
        hours
    }

    /// Everything is there, once.
    fn is_whole(&self, what: &str) {
        let wanted: Vec<(u64, u64)> = (0..ROWS).map(|n| (n, n / KEYS + 1)).collect();
        let got = self.counted();
        assert!(
            got == wanted,
            "{what}: {} rows, {ROWS} wanted: {:?}",
            got.len(),
            got.iter().zip(&wanted).find(|(a, b)| a != b)
        );
        assert_eq!(self.hourly().into_values().collect::<Vec<_>>(), [ROWS], "{what}");
    }
}

/// A job is stopped in one way and gone on with in another.
struct Stopped {
    what: &'static str,
    stop: &'static [&'static str],
    /// SAVEPOINT is what the command printed.
    again: &'static [&'static str],
}

#[test]
fn a_stopped_job_goes_on_where_it_was() {
    const ELSEWHERE: &str = "execution.checkpointing.dir=again";
    for Stopped { what, stop, again } in [
        Stopped { what: "the job's own place", stop: &["stop", "counts"], again: &["--resume"] },
        Stopped { what: "no savepoint", stop: &["stop", "counts", "--no-savepoint"], again: &["--resume"] },
        Stopped { what: "by another name", stop: &["stop", "counts", "--no-savepoint"], again: &["--from", "link"] },
        Stopped { what: "a place of the user's", stop: &["stop", "counts", "--to", "mine"], again: &["--resume"] },
        Stopped {
            what: "from the savepoint",
            stop: &["stop", "counts", "--to", "mine"],
            again: &["--from", "SAVEPOINT", "--set", ELSEWHERE],
        },
        Stopped {
            what: "from the savepoint, with other subtasks",
            stop: &["stop", "counts"],
            again: &["--from", "SAVEPOINT", "--set", ELSEWHERE, "--set", "parallelism=3"],
        },
        Stopped {
            what: "by --resume, with other subtasks",
            stop: &["stop", "counts"],
            again: &["--resume", "--set", "parallelism=1"],
        },
    ] {
        let home = Home::new(JOB);
        std::os::unix::fs::symlink("checkpoints", home.path().join("link")).unwrap();
        let job = home.running(&[], 100);
        let savepoint = home.ask(stop);
        let (code, text) = job.ended();
        assert_eq!(code, 0, "{what}: {text}");
        let before = home.counted().len();
        assert!(before < ROWS as usize, "{what}: it was stopped before its end");
        assert!(home.hourly().is_empty(), "{what}: a window that is open says nothing");
        let again: Vec<&str> = again.iter().map(|word| if *word == "SAVEPOINT" { &*savepoint } else { word }).collect();
        home.run(&again);
        home.is_whole(what);
    }
}

/// Wherever state is kept, and whatever a node is called: it is found by its id.
#[test]
fn a_job_goes_on_with_state_elsewhere_and_nodes_of_other_names() {
    const ON_DISK: [&str; 5] =
        ["--resume", "--set", "state.backend.type=disk", "--set", "state.backend.disk.memory=1 B"];
    let home = Home::new(JOB);
    let mut before = 0;
    for (what, arguments) in [("in memory", &[][..]), ("on disk", &ON_DISK), ("in memory again", &["--resume"])] {
        let job = home.running(arguments, before + 100);
        home.ask(&["stop", "counts"]);
        let (code, text) = job.ended();
        assert_eq!(code, 0, "{what}: {text}");
        before = home.counted().len();
        assert!(before < ROWS as usize, "{what}: it was stopped before its end");
    }
    let renamed = JOB.replace("- counted: {", "- tallied: { id: counted,").replace("from: counted", "from: tallied");
    let renamed = renamed.replace("- hourly: {", "- by-hour: { id: hourly,").replace("from: hourly", "from: by-hour");
    std::fs::write(home.path().join("job.yaml"), renamed).unwrap();
    home.run(&ON_DISK);
    home.is_whole("with other names");
}

/// The job goes on behind a savepoint; another one that begins there gives what is missing from then on, whatever its parallelism.
#[test]
fn a_savepoint_is_the_job_at_one_moment() {
    let home = Home::new(JOB);
    let job = home.running(&[], 100);
    let savepoint = home.ask(&["savepoint", "counts", "--to", "kept"]);
    let (code, text) = job.ended();
    assert_eq!(code, 0, "{text}");
    home.is_whole("the job goes on");
    // Files that were in the making when it was taken belong to the sinks of then; others begin anew.
    let anew = JOB.replace("- out:", "- anew:").replace("- hours:", "- hours-anew:");
    std::fs::write(home.path().join("job.yaml"), anew).unwrap();
    for parallelism in [1, 2, 3] {
        std::fs::rename(home.path().join("out"), home.path().join(format!("out-before-{parallelism}"))).unwrap();
        let (dir, subtasks) =
            (format!("execution.checkpointing.dir=c{parallelism}"), format!("parallelism={parallelism}"));
        home.run(&["--from", &savepoint, "--allow-non-restored", "--set", &dir, "--set", &subtasks]);
        let rows = home.counted();
        let first = rows[0].0;
        assert!(first > 0, "it does not begin at the beginning");
        let wanted: Vec<(u64, u64)> = (first..ROWS).map(|n| (n, n / KEYS + 1)).collect();
        assert!(rows == wanted, "parallelism {parallelism}: {} rows, {} wanted", rows.len(), wanted.len());
        assert_eq!(home.hourly().into_values().collect::<Vec<_>>(), [ROWS], "the window has what came before");
    }
}

#[test]
fn who_drains_has_all_windows_fire() {
    let home = Home::new(JOB);
    let job = home.running(&[], 100);
    home.ask(&["stop", "counts", "--drain", "--to", "last"]);
    let (code, text) = job.ended();
    assert_eq!(code, 0, "{text}");
    let rows = home.counted().len() as u64;
    assert!(rows < ROWS);
    assert_eq!(home.hourly().into_values().collect::<Vec<_>>(), [rows], "all that was read is in its window");
}

/// A row that cannot be got over fails the job each time; after so many restarts it is given up, and what is committed stays.
#[test]
fn restarts_come_to_an_end() {
    let home = Home::new(&JOB.replace("key: [k], process: u.Count", "with: { count: u.poisoned(n) }"));
    let strategy = [
        "--set",
        "restart-strategy.type=fixed-delay",
        "--set",
        "restart-strategy.fixed-delay.attempts=2",
        "--set",
        "restart-strategy.fixed-delay.delay=10ms",
    ];
    let (code, text) = home.start(&strategy).ended();
    assert_eq!(code, 1, "{text}");
    let warnings = text.lines().filter(|line| line.starts_with("WARN") && line.contains("going on from")).count();
    assert_eq!(warnings, 2, "{text}");
    let raised =
        "error: node \"counted\": udf \"u\" function \"poisoned\" raised ValueError: seven hundred (at numbers, split ";
    assert!(text.contains(raised), "{text}");
    let rows: Vec<u64> = home.counted().iter().map(|(n, _)| *n).collect();
    assert_eq!(rows, (0..rows.len() as u64).collect::<Vec<_>>(), "each row until then is there once");
    // Whoever mends the function goes on.
    let mended = UDF.replace("if n == 700:", "if n == -1:");
    std::fs::write(home.path().join("udf.py"), mended).unwrap();
    home.run(&["--resume"]);
    let rows: Vec<u64> = home.counted().iter().map(|(n, _)| *n).collect();
    assert_eq!(rows, (0..ROWS).collect::<Vec<_>>());
}
