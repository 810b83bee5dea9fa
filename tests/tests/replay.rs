//! Calls that end a job are recorded, and `wasmill replay` runs them again: by the built program. The example of docs/replay.md too.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use wasmill_tests::{built, root};

const REFERENCE: &str = "guests/target/wasm32-wasip2/release/reference.wasm";

/// A folder with a job.
struct Folder(TempDir);

/// Exit code, standard output and error.
type Said = (i32, String, String);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn say(&self, arguments: &[&str], given: &str) -> Said {
        let mut command = Command::new(built("target/release/wasmill"));
        command.current_dir(self.0.path()).env("WASMILL_CACHE_DIR", root().join("target/test-cache")).args(arguments);
        command.env("TMPDIR", self.0.path()).env("XDG_RUNTIME_DIR", self.0.path());
        command.env("PYTHON", root().join(".venv/bin/python")).env_remove("PYTHONPATH");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut program = command.spawn().unwrap();
        // One that asks for nothing may have ended already.
        let _ = program.stdin.take().unwrap().write_all(given.as_bytes());
        let output = program.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn run(&self, arguments: &[&str]) -> Said {
        self.say(arguments, "")
    }

    /// Runs a job that fails, and gives its error.
    fn fails(&self, job: &str) -> String {
        self.write("job.yaml", job);
        let (code, _, err) = self.run(&["run", "--quiet", "job.yaml"]);
        assert_eq!(code, 1, "{err}");
        err
    }

    /// The records of a job, by name.
    fn records(&self, job: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path("failures").join(job)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Replays a record of the job `sums`.
    fn replay(&self, record: &str, arguments: &[&str]) -> Said {
        let folder = format!("failures/sums/{record}");
        self.run(&[&["replay", &folder], arguments].concat())
    }

    fn changed(&self, file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let bytes = std::fs::read(self.path(file)).unwrap();
        self.write(file, change(bytes));
    }
}

/// The code blocks of a language in a Markdown text.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str()).skip(1).map(|block| block.split("\n```").next().unwrap()).collect()
}

#[test]
fn the_documented_example_runs() {
    let text = std::fs::read_to_string(root().join("docs/replay.md")).unwrap();
    let example = text.split("\n## ").nth(1).unwrap();
    let ([job], [program]) = (&blocks(example, "yaml")[..], &blocks(example, "python")[..]) else {
        panic!("{example}")
    };
    let folder = Folder::new();
    folder.write("totals.yaml", job);
    folder.write("totals.py", program);
    folder.write("mended.py", program.replace("// value.pieces", "// (value.pieces or 1)"));
    let (commands, told) = (blocks(example, "sh"), blocks(example, "text"));
    assert_eq!((commands.len(), told.len()), (4, 4));
    for (command, told) in commands.iter().zip(told) {
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        let (code, out, err) = folder.say(&arguments, "p value.price\np self.cents.value()\nq\n");
        assert_eq!(code, i32::from(!command.contains("--udf")), "{command}: {out}{err}");
        let both = format!("{out}{err}");
        for line in told.lines() {
            assert!(both.contains(line), "{command}\n{line}\nis not in\n{both}");
        }
        if command.ends_with("--pdb") {
            assert!(out.contains("(Pdb) 9\n") && out.contains("(Pdb) 500\n"), "a local, and the state so far: {out}");
            assert!(out.contains("fails as it did"), "{out}");
        }
    }
    let source = std::fs::read_dir(folder.path("failures/totals/totals-Totals-0-2/source")).unwrap();
    assert_eq!(source.count(), 1, "no bytecode lies there");
}

/// Values of the keys a and b by turns, into a function of the reference guest.
fn sums(function: &str, udf: &str, node: &str, values: &[i64]) -> String {
    let keys = ["a", "b"].iter().cycle();
    let rows: Vec<String> = values.iter().zip(keys).map(|(value, key)| format!("[{key}, {value}]")).collect();
    format!(
        "name: sums\nconfig: {{ bundle.size: 4, failures.dir: failures }}\n\
         udfs: {{ u: {{ path: {}{udf} }} }}\npipeline:\n\
         - rows: {{ source: collection, schema: {{ k: utf8, v: int64 }}, rows: [{}] }}\n\
         - sums: {{ from: rows, key: [k], process: u.{function}(v){node} }}\n\
         - out: {{ from: sums, sink: blackhole }}\n",
        built(REFERENCE).display(),
        rows.join(", ")
    )
}

#[test]
fn of_a_bundle_that_falls_the_bad_row_is_recorded() {
    let folder = Folder::new();
    let err = folder.fails(&sums("TrapsHalfway", "", "", &[1, 2, 3, 4, 5, 6, -1, 8]));
    let [record] = &folder.records("sums")[..] else { panic!("{err}") };
    assert!(
        err.contains(&format!("the call is recorded: wasmill replay {}", folder.path("failures/sums").display())),
        "{err}"
    );
    assert!(err.contains(record), "{err}");
    let (code, out, err) = folder.replay(record, &[]);
    assert_eq!((code, err.as_str()), (1, "error: the call fails as it did\n"), "{out}");
    assert!(out.contains("1 rows, the first from rows, split 0, row 6; 1 keys"), "{out}");
    assert!(out.contains("| 0   | a | 9    |"), "the sum of the rows before: {out}");
    assert!(out.contains("panic: panicked: no row may be negative (at reference/src/failing.rs:"), "{out}");
    let (code, _, err) = folder.replay(record, &["--native"]);
    assert!(code == 2 && err.contains("is run natively by a test of its own crate: docs/replay.md"), "{err}");
}

#[test]
fn a_call_past_its_deadline_is_recorded_whole() {
    let folder = Folder::new();
    folder.fails(&sums("TrapsHalfway", ", timeout: 200ms", "", &[1, 2, 3, -9]));
    let (code, out, err) = folder.replay("sums-TrapsHalfway-0-1", &[]);
    assert!(code == 1 && err.contains("fails as it did"), "{err}");
    assert!(out.contains("4 rows, ") && out.contains("the call failed: deadline: "), "{out}");
}

#[test]
fn states_behind_calls_are_recorded_as_they_were_before_the_bundle() {
    let folder = Folder::new();
    let by_call = ", state: { seen: { access: call } }";
    folder.fails(&sums("FailsHalfway", "", by_call, &[10, 20, 4, 2, 2, 6, 9, 8]));
    let (code, out, err) = folder.replay("sums-FailsHalfway-0-2", &[]);
    assert!(code == 1 && err.contains("fails as it did"), "{err}");
    // What the good rows of the same bundle wrote is not in it.
    assert!(out.contains("| 0   | a | 14   |") && out.contains("| 1   | b | 22   |"), "{out}");
    assert!(out.contains("raised on row 2 (rows, split 0, row 6): error: 9 is odd"), "{out}");
    let after = out.split("keys whose states were written").nth(1).unwrap();
    assert!(after.contains("| 0   | a | 16   |") && after.contains("| 1   | b | 36   |"), "{out}");
    // Another function of the same kind, which does not mind, but has no such state.
    folder.changed("failures/sums/sums-FailsHalfway-0-2/replay.json", |bytes| {
        String::from_utf8(bytes).unwrap().replace("\"FailsHalfway\"", "\"TrapsHalfway\"").into_bytes()
    });
    let (code, out, _) = folder.replay("sums-FailsHalfway-0-2", &[]);
    assert!(code == 0 && out.contains("run again: runs well") && out.contains("| 1   | b | 36   |"), "{out}");
}

#[test]
fn the_job_says_how_many_are_kept() {
    let folder = Folder::new();
    let keep = |keep: usize, bad: usize| {
        let mut values = [2; 12];
        values[bad] = 9;
        sums("FailsHalfway", "", "", &values).replace("failures.dir", &format!("failures.keep: {keep}, failures.dir"))
    };
    assert!(!folder.fails(&keep(0, 1)).contains("wasmill replay"));
    assert_eq!(folder.records("sums"), [""; 0]);
    for bad in [1, 5, 9] {
        folder.fails(&keep(2, bad));
    }
    assert_eq!(folder.records("sums"), ["sums-FailsHalfway-0-2", "sums-FailsHalfway-0-3"]);
    folder.fails(&keep(2, 9));
    assert_eq!(folder.records("sums"), ["sums-FailsHalfway-0-2", "sums-FailsHalfway-0-3"]);
}

#[test]
fn only_what_ends_the_job_is_recorded() {
    let folder = Folder::new();
    folder.write("job.yaml", sums("FailsHalfway", ", on-error: skip", "", &[2, 9, 4]));
    let (code, _, err) = folder.run(&["run", "--quiet", "job.yaml"]);
    assert_eq!((code, folder.records("sums").len()), (0, 0), "{err}");
    let err = folder.fails(&sums("TrapsHalfway", ", on-error: skip", "", &[-1; 40]));
    assert!(err.contains("failed on 16 rows one after the other") && err.contains("wasmill replay"), "{err}");
    let [record] = &folder.records("sums")[..] else { panic!("{err}") };
    let (code, out, err) = folder.replay(record, &[]);
    assert!(code == 1 && err.contains("fails as it did") && out.contains("split 0, row 15"), "{out}{err}");
}

#[test]
fn a_job_fails_by_its_own_error_where_nothing_can_be_recorded() {
    let folder = Folder::new();
    folder.write("failures", "a file");
    let err = folder.fails(&sums("FailsHalfway", "", "", &[9]));
    assert!(err.contains("the call that failed is not recorded for a replay: cannot make "), "{err}");
    assert!(err.contains("raised error: 9 is odd") && !err.contains("wasmill replay"), "{err}");
}

#[test]
fn a_changed_or_missing_component_is_told() {
    let folder = Folder::new();
    std::fs::copy(built(REFERENCE), folder.path("u.wasm")).unwrap();
    let job = sums("FailsHalfway", "", "", &[9]).replace(&built(REFERENCE).display().to_string(), "u.wasm");
    folder.fails(&job);
    let record = "failures/sums/sums-FailsHalfway-0-1";
    folder.write("u.wasm", "another");
    let (code, out, _) = folder.run(&["replay", record]);
    assert!(code == 1 && out.contains("u.wasm has changed since: this is as it was; --udf "), "{out}");
    folder.changed(&format!("{record}/replay.json"), |bytes| {
        String::from_utf8(bytes).unwrap().replace("\"component\": true", "\"component\": false").into_bytes()
    });
    let (code, _, err) = folder.run(&["replay", record]);
    assert!(code == 2 && err.contains("u.wasm is not what it was: name a version of it with --udf"), "{err}");
    std::fs::remove_file(folder.path("u.wasm")).unwrap();
    let (code, _, err) = folder.run(&["replay", record]);
    assert!(code == 2 && err.contains("u.wasm cannot be read (No such file"), "{err}");
    let reference = built(REFERENCE).display().to_string();
    let (code, out, _) = folder.run(&["replay", record, "--udf", &reference]);
    assert!(code == 1 && out.contains("note: the recorded version cannot be run to compare: "), "{out}");
}

/// Records of each version of the format stay readable; and what is wrong with one is told.
#[test]
fn records_of_version_1_are_read_and_damaged_ones_told() {
    let folder = Folder::new();
    let copy = |name: &str| {
        let from = root().join("tests/replays/v1").join(name);
        std::fs::create_dir_all(folder.path(name).join("source")).unwrap();
        for file in ["replay.json", "bundle.frame", "states.bin", "source/totals.py"] {
            if from.join(file).exists() {
                std::fs::copy(from.join(file), folder.path(name).join(file)).unwrap();
            }
        }
    };
    let reference = built(REFERENCE).display().to_string();
    for (name, udf) in [("python", None), ("panics", Some(&reference)), ("raises", Some(&reference))] {
        copy(name);
        let arguments = udf.map_or(vec!["replay", name], |udf| vec!["replay", name, "--udf", udf]);
        let (code, out, err) = folder.run(&arguments);
        assert_eq!((code, err.as_str()), (1, "error: the call fails as it did\n"), "{name}: {out}");
    }
    let refused = |arguments: &[&str]| {
        let (code, out, err) = folder.run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        err
    };
    assert_eq!(
        refused(&["replay", "nowhere"]),
        "error: nowhere holds no recorded call: there is no replay.json in it\n"
    );
    let frame = std::fs::read(folder.path("python/bundle.frame")).unwrap();
    folder.changed("python/bundle.frame", |bytes| bytes[..bytes.len() - 64].to_vec());
    assert!(
        refused(&["replay", "python"])
            .contains("bundle.frame is damaged: the frame of function \"Totals\" is not what it was")
    );
    folder.write("python/bundle.frame", frame);
    folder.changed("raises/states.bin", |bytes| bytes[..bytes.len() - 1].to_vec());
    assert!(
        refused(&["replay", "raises", "--udf", &reference]).contains("states.bin is damaged: it ends within value 1")
    );
    let program = std::fs::read_to_string(folder.path("python/source/totals.py")).unwrap();
    folder.write("text.py", program.replace("Types.LONG()", "Types.STRING()"));
    let err = refused(&["replay", "python", "--udf", "text.py"]);
    assert!(err.contains("state \"sum\" is utf8 in this version, and its recorded values are int64"), "{err}");
    folder.write("other.py", "def Totals(value) -> int:\n    return 1\n");
    let err = refused(&["replay", "python", "--udf", "other.py"]);
    assert!(err.contains("function \"Totals\" is of kind scalar in this version, and was process"), "{err}");
    folder.changed("panics/replay.json", |bytes| {
        String::from_utf8(bytes).unwrap().replace("\"version\": 1", "\"version\": 2").into_bytes()
    });
    assert!(refused(&["replay", "panics"]).contains("is of version 2, and this Wasmill reads up to 1: replay it with"));
}

/// The JSON lines of all parts, in their order.
fn output(folder: &Path) -> String {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    // part-0-10 comes behind part-0-9.
    files.sort_by_key(|file| (file.as_os_str().len(), file.clone()));
    files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

const NOISY: &str = "
import random
from typing import Iterator, NamedTuple
from wasmill import KeyedProcessFunction, Types, ValueStateDescriptor

class Noise(NamedTuple):
    k: str
    v: int
    total: float

class Noisy(KeyedProcessFunction):
    def open(self, runtime_context):
        self.total = runtime_context.get_state(ValueStateDescriptor('total', Types.DOUBLE()))

    def process_element(self, value, ctx) -> Iterator[Noise]:
        if value.v == BAD:
            raise ValueError('not this one')
        total = (self.total.value() or 0.0) + random.random()
        self.total.update(total)
        yield Noise(value.k, value.v, total)
";

/// The same seed and input give the same bytes after a failure, here of a function with state and randomness. A call per row, since bundles
/// also end by time, and each has a seed of its own.
#[test]
fn a_failure_leaves_no_trace_in_the_bytes_of_the_output() {
    const ROWS: i64 = 40_000;
    let folder = Folder::new();
    let rows: String = (0..ROWS).map(|v| format!("{{\"k\": \"k{}\", \"v\": {v}}}\n", v % 7)).collect();
    folder.write("rows.jsonl", rows);
    let job = |out: &str| {
        format!(
            "name: noisy\nconfig: {{ execution-mode: thread, arrow.batch.size: 100, exchange.elements.max: 1, seed: 5,\n\
             execution.checkpointing.interval: 10ms, execution.checkpointing.dir: checkpoints-{out}, restart-strategy.type: none,\n\
             failures.dir: failures }}\nudfs: {{ f: {{ path: noisy.py }} }}\npipeline:\n\
             - rows: {{ source: jsonl, path: rows.jsonl, schema: {{ k: utf8, v: int64 }} }}\n\
             - noisy: {{ from: rows, key: [k], process: f.Noisy }}\n\
             - out: {{ from: noisy, sink: jsonl, path: {out} }}\n"
        )
    };
    let noisy = |bad: i64| folder.write("noisy.py", NOISY.replace("BAD", &bad.to_string()));
    folder.write("whole.yaml", job("whole"));
    folder.write("broken.yaml", job("broken"));
    noisy(-1);
    let (code, _, err) = folder.run(&["run", "--quiet", "whole.yaml"]);
    assert_eq!(code, 0, "{err}");
    noisy(ROWS - 500);
    let (code, _, err) = folder.run(&["run", "--quiet", "broken.yaml"]);
    assert!(code == 1 && err.contains("ValueError: not this one") && err.contains("wasmill replay"), "{err}");
    let (before, whole) = (output(&folder.path("broken")), output(&folder.path("whole")));
    assert!(!before.is_empty() && before.len() < whole.len(), "{} of {}", before.len(), whole.len());
    // The call that failed, by the mended function: what it then puts out is what the job will.
    let [record] = &folder.records("noisy")[..] else { panic!("{err}") };
    noisy(-1);
    let record = format!("failures/noisy/{record}");
    let (code, out, err) = folder.run(&["replay", &record, "--udf", "noisy.py"]);
    assert_eq!(code, 0, "{out}{err}");
    let (code, _, err) = folder.run(&["run", "--quiet", "broken.yaml", "--resume"]);
    assert_eq!(code, 0, "{err}");
    assert!(output(&folder.path("broken")) == whole, "other bytes");
    let line = whole.lines().nth(usize::try_from(ROWS - 500).unwrap()).unwrap();
    let total = line.split("\"total\":").nth(1).unwrap().trim_end_matches('}').trim();
    assert!(out.contains(total), "{line}\n{out}");
}
