//! What a person sees when a UDF, or the way a job uses it, is wrong. Each case is a job in data; one checker runs them all.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Longest time that any case may take, on a machine that is busy with other tests: nothing here may hang.
const CASE_TIME_MAX: Duration = Duration::from_secs(120);

fn reference() -> PathBuf {
    let path = Path::new(ROOT).join("guests/target/wasm32-wasip2/release/reference.wasm");
    assert!(path.is_file(), "{} is not built: run `make guests`", path.display());
    path
}

/// A folder with the reference guests and what the case brings.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(reference(), folder.path().join("rust.wasm")).unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

struct Ran {
    code: Option<i32>,
    err: String,
}

fn run(folder: &Path, command: &str, job: &str) -> Ran {
    std::fs::write(folder.join("job.yaml"), job).unwrap();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_wasmill"))
        .args([command, "job.yaml"])
        .current_dir(folder)
        .env("WASMILL_CACHE_DIR", cache)
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    assert!(started.elapsed() < CASE_TIME_MAX, "took {:?}", started.elapsed());
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(!err.contains("panicked at engine") && !err.contains("please report"), "a panic reached the user:\n{err}");
    Ran { code: output.status.code(), err }
}

/// A job over three rows: x = 12, 13, 14; y = 2, 0, null; s = "a", null, "c".
fn job(udfs: &str, node: &str) -> String {
    format!(
        "name: bad\nudfs:\n  u: {{ {udfs} }}\npipeline:\n  - rows: {{ source: collection, schema: {{ x: int64, y: int64?, s: utf8? }}, rows: [[12, 2, a], [13, 0, null], [14, null, c]] }}\n  - n: {{ from: rows, {node} }}\n  - out: {{ from: n, sink: jsonl, path: out }}\n"
    )
}

/// Every text stands in the error, and nothing was written.
fn refused(command: &str, code: i32, udfs: &str, node: &str, files: &[(&str, &str)], texts: &[&str]) {
    let folder = folder(files);
    let ran = run(folder.path(), command, &job(udfs, node));
    assert_eq!(ran.code, Some(code), "{udfs} {node}\n{}", ran.err);
    for text in texts {
        assert!(ran.err.contains(text), "{udfs} {node}: {text:?} is not in\n{}", ran.err);
    }
    let said = |word: &str| {
        let after = |line: &str| line.trim_start().strip_prefix(word).map(str::to_owned);
        ran.err.lines().filter_map(after).collect::<Vec<String>>()
    };
    let mut lines = [said("error: "), said("caused by: ")].concat();
    lines.sort_unstable();
    let all = lines.len();
    lines.dedup();
    assert_eq!(lines.len(), all, "{udfs} {node}: something is said twice in\n{}", ran.err);
    let out = folder.path().join("out");
    let left: Vec<_> = std::fs::read_dir(&out)
        .map_or_else(|_| Vec::new(), |entries| entries.map(|entry| entry.unwrap().file_name()).collect());
    assert!(left.is_empty(), "{udfs} {node}: {left:?} was left");
}

const RUST: &str = "path: rust.wasm";
const PYTHON: &str = "path: u.py";

fn invalid(udfs: &str, node: &str, files: &[(&str, &str)], texts: &[&str]) {
    refused("check", 2, udfs, node, files, texts);
}

fn fails(udfs: &str, node: &str, files: &[(&str, &str)], texts: &[&str]) {
    refused("run", 1, udfs, node, files, texts);
}

#[test]
fn files_that_are_no_udf() {
    invalid(
        "path: gone.wasm",
        "map: u.f",
        &[],
        &["job.yaml:3:", "udf \"u\": cannot read ", "gone.wasm", "No such file"],
    );
    invalid("path: gone.py", "map: u.f", &[], &["udf \"u\": cannot read ", "gone.py"]);
    invalid("path: x.wasm", "map: u.f", &[("x.wasm", "not wasm")], &["is not WebAssembly", "udf \"u\""]);
    invalid(
        "path: x.wasm",
        "map: u.f",
        &[("x.wasm", "\0asm\x01\0\0\0")],
        &["is a core WebAssembly module, not a component"],
    );
    invalid("path: x.wasm", "map: u.f", &[("x.wasm", "\0asm\x0d\0\x01\0")], &["is a component, but not a UDF"]);
    invalid("path: x.txt", "map: u.f", &[("x.txt", "")], &["is neither .wasm nor .py", "wasmill udf build"]);
}

#[test]
fn names_and_types_that_do_not_fit() {
    invalid(RUST, "with: { z: v.f(x) }", &[], &["no UDF is called \"v\"; there are u", "job.yaml:6:"]);
    invalid(RUST, "with: { z: u.no_such(x) }", &[], &["udf \"u\" has no function \"no_such\"; it has "]);
    invalid(RUST, "with: { z: u.panics_on(q) }", &[], &["node \"n\": no column is called \"q\"; there are x, y, s"]);
    invalid(
        RUST,
        "with: { z: u.panics_on(s) }",
        &[],
        &["argument \"x\" of u.panics_on is int64, and column \"s\" is utf8?"],
    );
    invalid(
        RUST,
        "with: { z: 'u.panics_on(x, y)' }",
        &[],
        &["u.panics_on takes 1 arguments (x: int64), and is given 2"],
    );
    invalid(RUST, "with: { z: u.panics_on( }", &[], &["is no call"]);
    invalid(RUST, "map: u.FailsHalfway", &[], &["u.FailsHalfway is of kind process; here a map function is wanted"]);
    invalid(
        RUST,
        "process: u.FailsHalfway(x)",
        &[],
        &["has state per key (seen), but the operator has no key: give it a `key`"],
    );
    invalid(RUST, "key: [x], process: u.FailsHalfway(y)", &[], &["takes no null, and column \"y\" may be null"]);
    invalid(RUST, "key: [x, x], process: u.FailsHalfway(x)", &[], &["key column \"x\" stands twice"]);
    invalid(RUST, "window: { tumbling: 1h }, aggregate: u.FailsInResult(x)", &[], &["windows need event time"]);
}

#[test]
fn python_that_does_not_load() {
    let with = "with: { z: u.f(x) }";
    invalid(PYTHON, with, &[("u.py", "def f(x):\n    return (\n")], &["u.py:2: SyntaxError"]);
    invalid(
        PYTHON,
        with,
        &[("u.py", "import numpy\ndef f(x: int) -> int:\n    return x\n")],
        &["u.py", "ModuleNotFoundError", "numpy"],
    );
    invalid(
        PYTHON,
        with,
        &[("u.py", "def f(x):\n    return x\nraise ValueError('not today')\n")],
        &["u.py:3", "ValueError: not today"],
    );
    invalid(PYTHON, with, &[("u.py", "from wasmill import udf\n@udf\ndef f(x):\n    return x\n")], &["f", "result"]);
    invalid(
        "path: u.py, packages: [lib.so]",
        with,
        &[("u.py", "x = 1\n"), ("lib.so", "")],
        &["needs native code (lib.so)"],
    );
    let picture = [("u.py", "x = 1\n"), ("x.png", "")];
    invalid("path: u.py, packages: [x.png]", with, &picture, &["is no module (.py), folder, zip, wheel (.whl)"]);
    invalid("path: u.py, packages: [x.zip]", with, &[("u.py", ""), ("x.zip", "no")], &["is no readable zip file"]);
    invalid("path: rust.wasm, packages: [u.py]", with, &[("u.py", "")], &["packages: goes with a .py file"]);
    let slow = [("u.py", "import time\nwhile True:\n    pass\n")];
    invalid("path: u.py, load.timeout: 300ms", with, &slow, &["ran longer than 300 ms to load", "udfs.u.load.timeout"]);
    invalid("path: u.py, timeout: 0s", with, &slow, &["timeout: is 0; 1ms or more is possible"]);
}

#[test]
fn functions_that_do_not_open() {
    invalid(RUST, "with: { z: u.fails_to_open(x) }", &[], &["no-such-file.csv"]);
    let texts = ["udf \"u\" function \"panics_in_open\" panicked", "open does not like it here", "failing.rs:"];
    invalid(RUST, "with: { z: u.panics_in_open(x) }", &[], &texts);
    let program = "from wasmill import MapFunction\nclass F(MapFunction):\n    def open(self, context):\n        raise ValueError('not today')\n    def map(self, x: int) -> int:\n        return x\n";
    invalid(
        PYTHON,
        "map: u.F(x)",
        &[("u.py", program)],
        &["udf \"u\" function \"F\": ", "ValueError: not today", "u.py\", line 4, in open"],
    );
    invalid(
        "path: rust.wasm, resources: [gone.csv]",
        "with: { z: u.panics_on(x) }",
        &[],
        &["cannot read ", "gone.csv"],
    );
}

#[test]
fn rows_that_raise() {
    let texts =
        ["node \"n\": udf \"u\" function \"fails_on_odd\" raised error: 13 is odd", "(at rows, split 0, row 1)"];
    fails(RUST, "with: { z: u.fails_on_odd(x) }", &[], &texts);
    let program = "def f(x: int) -> float:\n    return 1 / (x - 13)\n";
    let texts = ["raised ZeroDivisionError: ", "u.py\", line 2, in f", "(at rows, split 0, row 1)"];
    fails(PYTHON, "with: { z: u.f(x) }", &[("u.py", program)], &texts);
    let program = "def f(x: int) -> int:\n    return x * 2**62\n";
    fails(PYTHON, "with: { z: u.f(x) }", &[("u.py", program)], &["raised OverflowError"]);
}

#[test]
fn traps_panics_and_endless_loops() {
    fails(RUST, "with: { z: u.panics_on(x) }", &[], &["udf \"u\"", "panics_on", "no row may be 13", "failing.rs:"]);
    fails(RUST, "with: { z: 'u.divides(x, y)' }", &[], &["divide by zero", "failing.rs:"]);
    fails(RUST, "with: { z: u.overflows(9223372036854775807) }", &[], &["overflow", "failing.rs:"]);
    fails(
        "path: rust.wasm, timeout: 200ms",
        "with: { z: u.loops_on(x) }",
        &[],
        &["udf \"u\"", "200", "udfs.u.timeout"],
    );
    fails("path: rust.wasm, memory.max: 16MiB", "with: { z: u.hogs(64) }", &[], &["16 MiB", "udfs.u.memory.max"]);
    fails(RUST, "with: { z: u.recurses(100000000) }", &[], &["udf \"u\"", "stack"]);
    let program = "def f(x: int) -> int:\n    while True:\n        x += 1\n";
    fails("path: u.py, timeout: 300ms", "with: { z: u.f(x) }", &[("u.py", program)], &["udf \"u\"", "udfs.u.timeout"]);
    let program = "def f(x: int) -> int:\n    held = []\n    while True:\n        held.append(bytearray(1 << 20))\n";
    fails("path: u.py, memory.max: 64MiB", "with: { z: u.f(x) }", &[("u.py", program)], &["udf \"u\"", "emory"]);
}

/// The same failing rows, where the job goes on without them.
#[test]
fn rows_that_raise_are_skipped_or_become_dead_letters() {
    let out = |folder: &Path| std::fs::read_to_string(folder.join("out/part-0-0.jsonl")).unwrap();
    let folder = folder(&[]);
    let ran = run(folder.path(), "run", &job("path: rust.wasm, on-error: skip", "with: { z: u.fails_on_odd(x) }"));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(out(folder.path()).lines().count(), 2);
    assert!(ran.err.contains("1 row"), "the summary counts it: {}", ran.err);
    let letters = "dead-letters: { sink: jsonl, path: dead.jsonl }\n";
    let text = job("path: rust.wasm, on-error: dead-letter", "with: { z: u.fails_on_odd(x) }");
    let ran =
        run(folder.path(), "run", &format!("{letters}{text}").replace("path: out }", "path: out, overwrite: true }"));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let letter = std::fs::read_to_string(folder.path().join("dead.jsonl")).unwrap();
    let letter: serde_json::Value = serde_json::from_str(&letter).unwrap();
    let expected = serde_json::json!({
        "job": "bad", "node": "n", "function": "u.fails_on_odd", "source": "rows", "split": letter["split"], "row": 1,
        "kind": "error", "message": "13 is odd", "traceback": "", "record": "{\"x\":13,\"y\":0,\"s\":null}",
    });
    assert_eq!(letter, expected);
    let ran =
        run(folder.path(), "check", &job("path: rust.wasm, on-error: dead-letter", "with: { z: u.fails_on_odd(x) }"));
    assert!(ran.err.contains("the job has no dead letters: add `dead-letters:"), "{}", ran.err);
}

#[test]
fn graphs_that_cannot_run() {
    let text = |pipeline: &str| format!("name: bad\npipeline:\n{pipeline}");
    let source = "  - a: { source: collection, schema: { x: int64 }, rows: [[1]] }\n";
    let cases = [
        (
            format!("{source}  - a: {{ from: a, sink: print }}\n"),
            "two nodes are called \"a\", the first at 3:5: rename one",
        ),
        (
            format!("{source}  - s: {{ from: b, sink: print }}\n"),
            "node \"s\" reads from \"b\", and no node is called that; did you mean \"a\"?",
        ),
        (
            format!(
                "{source}  - s: {{ from: a, sink: print }}\n  - p: {{ from: [a, q] }}\n  - q: {{ from: p, select: x }}\n"
            ),
            "the nodes \"p\", \"q\" read from each other in a circle",
        ),
        (
            format!("{source}  - s: {{ from: a, sink: print }}\n  - t: {{ from: s, sink: print }}\n"),
            "reads from \"s\", which is a sink",
        ),
        (format!("{source}  - b: {{ from: a, select: x }}\n"), "node \"b\" is read by nobody: add a sink"),
        (
            format!("{source}  - b: {{ from: a, map: f.g, filter: f.h }}\n  - s: {{ from: a, sink: nowhere }}\n"),
            "node \"b\" has map and filter: make them nodes of their own\nerror: job.yaml:5:19: node \"s\": no sink is called",
        ),
        (format!("{source}  - b: {{ from: a, select: [] }}\n  - s: {{ from: b, sink: print }}\n"), "select: is empty"),
        (
            format!("{source}  - b: {{ from: a, wiht: {{ y: f.g(x) }} }}\n  - s: {{ from: b, sink: print }}\n"),
            "node \"b\": wiht: unknown key; did you mean \"with\"?",
        ),
        (
            format!(
                "{source}  - b: {{ from: [a, c] }}\n  - c: {{ from: b, select: x }}\n  - s: {{ from: c, sink: print }}\n"
            ),
            "the nodes \"b\", \"c\" read from each other in a circle",
        ),
        (
            format!(
                "{source}  - c: {{ from: a, select: {{ y: x }} }}\n  - b: {{ from: [a, c] }}\n  - s: {{ from: b, sink: print }}\n"
            ),
            "\"a\" has the columns x: int64, and \"c\" has y: int64: make them equal with a `select` before",
        ),
        (format!("{source}---\nname: x\n"), "bad YAML: a second document begins (`---`)"),
        (format!("{source}  - s: {{ from: b, sink: csvv }}\n"), "no sink is called \"csvv\"; there are "),
        (
            format!("{source}  - s: {{ from: a, sink: print, state: {{ n: {{ access: call }} }} }}\n"),
            "state.n: there is no function with states here",
        ),
        (
            format!(
                "{source}  - s: {{ from: a, sink: csv, path: out }}\n  - t: {{ from: a, sink: csv, path: ./x/../out/ }}\n"
            ),
            "\"s\" and \"t\" both write to ",
        ),
        (format!("{source}  - s: {{ from: a, sink: nowhere }}\n"), "no sink is called \"nowhere\"; there are "),
        (format!("{source}  - s: {{ from: a, sink: print, parallelism: 0 }}\n"), "parallelism is 0"),
        (
            format!("{source}  - b: {{ from: a, select: [x, {{ x: x }}] }}\n  - s: {{ from: b, sink: print }}\n"),
            "two columns would be called \"x\"",
        ),
    ];
    for (pipeline, expected) in cases {
        let folder = folder(&[]);
        let ran = run(folder.path(), "check", &text(&pipeline));
        assert_eq!(ran.code, Some(2), "{pipeline}\n{}", ran.err);
        assert!(ran.err.contains(expected), "{pipeline}\n{expected:?} is not in\n{}", ran.err);
    }
}

/// A disk of 256 KiB, where the machine lets a test mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let folder = folder(&[]);
    std::fs::create_dir(folder.path().join("disk")).unwrap();
    let job = "name: big\npipeline:\n  - g: { source: generator, rows: 1000000, fields: { i: { random: { type: int64 } } } }\n  - out: { from: g, sink: parquet, path: disk/out }\n";
    std::fs::write(folder.path().join("job.yaml"), job).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=256k none disk || exit 77; {} run job.yaml; code=$?; ls -A disk/out; exit $code",
        env!("CARGO_BIN_EXE_wasmill")
    );
    let output = Command::new("unshare").args(["-rm", "sh", "-c", &script]).current_dir(folder.path()).output();
    let Ok(output) = output else { return eprintln!("not tested: there is no unshare") };
    let err = String::from_utf8(output.stderr).unwrap();
    if output.status.code() == Some(77) || err.contains("unshare failed") {
        return eprintln!("not tested: this machine lets no test mount a disk: {err}");
    }
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("No space left on device") && err.contains("disk/out"), "{err}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "nothing half is left");
}

/// Rows of one source would have no event time: `check` says so, and not the first row.
#[test]
fn a_window_over_a_source_without_a_watermark() {
    let source = |name: &str, watermark: &str| {
        format!(
            "  - {name}: {{ source: collection, schema: {{ x: int64, t: timestamp(ms) }}, rows: [[1, '2026-01-01T00:00:00']]{watermark} }}\n"
        )
    };
    let (with, without) = (source("a", ", watermark: { column: t }"), source("b", ""));
    let job = format!(
        "name: bad\nudfs: {{ u: rust.wasm }}\npipeline:\n{with}{without}  - both: {{ from: [a, b] }}\n  - n: {{ from: both, window: {{ tumbling: 1h }}, aggregate: u.FailsInResult(x) }}\n  - out: {{ from: n, sink: print }}\n"
    );
    let ran = run(folder(&[]).path(), "check", &job);
    let expected = "windows need event time, and the source \"b\" before has no watermark: add `watermark: ";
    assert!(ran.code == Some(2) && ran.err.contains(expected), "{}", ran.err);
}

/// The job says how a state is reached; what comes out is the same.
#[test]
fn the_access_of_a_state_is_the_jobs_to_choose() {
    let program = "from typing import Iterator, NamedTuple\nfrom wasmill import KeyedProcessFunction, Types, ValueStateDescriptor\nclass Out(NamedTuple):\n    n: int\nclass Count(KeyedProcessFunction):\n    def open(self, context):\n        self.seen = context.get_state(ValueStateDescriptor('seen', Types.LONG()))\n    def process_element(self, x: int, ctx) -> Iterator[Out]:\n        self.seen.update((self.seen.value() or 0) + x)\n        yield Out(self.seen.value())\n";
    let mut results = Vec::new();
    for access in ["column", "call"] {
        let folder = folder(&[("u.py", program)]);
        let node = format!("key: [s], process: u.Count(x), state: {{ seen: {{ access: {access} }} }}");
        let ran = run(folder.path(), "run", &job(PYTHON, &node));
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        results.push(std::fs::read_to_string(folder.path().join("out/part-0-0.jsonl")).unwrap());
    }
    assert_eq!(results[0].lines().count(), 3);
    assert_eq!(results[0], results[1]);
    let node = "key: [s], process: u.Count(x), state: { sen: { access: call } }";
    invalid(PYTHON, node, &[("u.py", program)], &["state.sen: u.Count has no such state; it has seen"]);
    invalid(PYTHON, "key: [s], process: u.Count(x), state: { seen: 5 }", &[("u.py", program)], &["state.seen: is 5; "]);
}

/// What a UDF logs cannot move the cursor, nor pass for a line of another's.
#[test]
fn log_lines_are_plain() {
    let program = "def f(x: int) -> int:\n    print('a\\x1b[2Jb\\nERROR other/node/0 u: forged')\n    return x\n";
    let folder = folder(&[("u.py", program)]);
    let ran = run(folder.path(), "run", &job(PYTHON, "with: { z: u.f(x) }"));
    assert!(ran.err.contains("INFO  bad/n/0 u: a\\u{1b}[2Jb\nINFO  bad/n/0 u: ERROR other/node/0"), "{}", ran.err);
}

/// A PyFlink class with state in flat_map, map or filter runs under `key`.
#[test]
fn maps_and_filters_with_state() {
    let program = "from typing import Iterator, NamedTuple\nfrom wasmill import FilterFunction, FlatMapFunction, Types, ValueStateDescriptor\nclass Out(NamedTuple):\n    n: int\nclass Pairs(FlatMapFunction):\n    def open(self, context):\n        self.last = context.get_state(ValueStateDescriptor('last', Types.LONG()))\n    def flat_map(self, x: int) -> Iterator[Out]:\n        if self.last.value() is None:\n            self.last.update(x)\n        else:\n            yield Out(self.last.value() + x)\n            self.last.clear()\nclass First(FilterFunction):\n    def open(self, context):\n        self.seen = context.get_state(ValueStateDescriptor('seen', Types.BOOLEAN()))\n    def filter(self, x: int) -> bool:\n        first = not self.seen.value()\n        self.seen.update(True)\n        return first\n";
    let rows = "  - rows: { source: collection, schema: { k: int64, x: int64 }, rows: [[1, 1], [2, 10], [1, 2], [2, 20], [1, 3]] }\n";
    for (node, expected) in [
        ("flat_map: u.Pairs(x)", "{\"n\":3}\n{\"n\":30}\n"),
        ("filter: u.First(x)", "{\"k\":1,\"x\":1}\n{\"k\":2,\"x\":10}\n"),
    ] {
        for settings in ["{ bundle.size: 1 }", "{ bundle.size: 100 }"] {
            let folder = folder(&[("u.py", program)]);
            let job = format!(
                "name: state\nconfig: {settings}\nudfs: {{ u: u.py }}\npipeline:\n{rows}  - n: {{ from: rows, key: [k], {node} }}\n  - out: {{ from: n, sink: jsonl, path: out }}\n"
            );
            let ran = run(folder.path(), "run", &job);
            assert_eq!(ran.code, Some(0), "{}", ran.err);
            let out = std::fs::read_to_string(folder.path().join("out/part-0-0.jsonl")).unwrap();
            assert_eq!(out, expected, "{node} {settings}");
        }
        invalid(PYTHON, node, &[("u.py", program)], &["key"]);
    }
}

/// What is skipped is told of, up to a bound; a search is told of when it begins.
#[test]
fn skipped_rows_are_told_of() {
    let folder = folder(&[]);
    let ran = run(folder.path(), "run", &job("path: rust.wasm, on-error: skip", "with: { z: u.panics_on(x) }"));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for text in
        ["its 3 rows, from rows, split 0, row 0 on, are tried in parts", "panics_on raised panic: ", "row skipped"]
    {
        assert!(ran.err.contains(text), "{text:?} is not in\n{}", ran.err);
    }
}
