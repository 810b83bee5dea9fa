//! One bad row costs one row: rows that end the guest's instance leave order, state and output as if they had never been there.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use wasmill_host::Access;
use wasmill_runtime::error::JobError;
use wasmill_runtime::job::Summary;
use wasmill_runtime::spec::{JobSpec, NodeSpec, UdfSpec};
use wasmill_tests::{built, run};

/// Key, value, event time; a negative value ends the instance.
type Row = (String, i64, i64);

#[derive(Debug, Clone, Copy)]
struct Setting {
    bundle: usize,
    parallelism: usize,
    access: Access,
    on_error: &'static str,
    timeout: &'static str,
}

/// The running sum per key, and the sums of hourly windows.
fn job(folder: &Path, rows: &[Row], setting: Setting) -> JobSpec {
    let lines: String = rows.iter().map(|(k, v, t)| format!("{}\n", json!({ "k": k, "v": v, "t": t }))).collect();
    std::fs::write(folder.join("rows.jsonl"), lines).unwrap();
    let guest = built("guests/target/wasm32-wasip2/release/reference.wasm");
    let udf = UdfSpec::new("u", &guest.display().to_string())
        .set("on-error", setting.on_error)
        .set("timeout", setting.timeout)
        .set("memory.max", "16MiB");
    let schema = "{k: utf8, v: int64, t: int64}";
    let mut source = NodeSpec::source("rows", "jsonl", [("path", "rows.jsonl")]).watermark("t", "9000d");
    if let wasmill_runtime::spec::OperationSpec::Source {
        source: wasmill_runtime::spec::Endpoint::Named(named), ..
    } = &mut source.operation
    {
        named.options.set("schema", schema_value(schema));
    }
    JobSpec::new("bad", folder)
        .config("bundle.size", &setting.bundle.to_string())
        .config("parallelism", &setting.parallelism.to_string())
        .udf(udf)
        .node(source)
        .node(NodeSpec::process("sums", "rows", "u.TrapsHalfway(v)").key(["k"]).state_access("seen", setting.access))
        .node(NodeSpec::sink("running", "sums", "jsonl", [("path", "running")]))
        .node(NodeSpec::tumbling("hourly", "rows", "1h", "u.TrapsInSum(v)").key(["k"]))
        .node(NodeSpec::sink("windows", "hourly", "jsonl", [("path", "windows")]))
        .dead_letters("jsonl", [("path", "dead.jsonl")])
}

fn schema_value(text: &str) -> wasmill_runtime::value::Value {
    serde_saphyr::from_str(text).unwrap()
}

fn lines(folder: &Path) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    texts.flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()).collect()
}

struct Ran {
    /// As the sink has them: in order with one subtask.
    running: Vec<Value>,
    windows: Vec<String>,
    dead: Vec<Value>,
    outcome: Result<Summary, JobError>,
}

fn ran(rows: &[Row], setting: Setting) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let outcome = run(&job(folder.path(), rows, setting)).unwrap().outcome;
    if outcome.is_err() {
        return Ran { running: Vec::new(), windows: Vec::new(), dead: Vec::new(), outcome };
    }
    let mut running = lines(&folder.path().join("running"));
    if setting.parallelism > 1 {
        running.sort_by_key(ToString::to_string);
    }
    let mut windows: Vec<String> = lines(&folder.path().join("windows")).iter().map(ToString::to_string).collect();
    windows.sort();
    let text = std::fs::read_to_string(folder.path().join("dead.jsonl")).unwrap();
    let dead = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Ran { running, windows, dead, outcome }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    // None ends by its deadline, which costs the time limit several times over.
    let value = prop_oneof![40 => 0i64..50, 2 => -4i64..0];
    let row = ("[a-d]", value, 0i64..20_000_000);
    prop::collection::vec(row, 1..300)
}

fn setting() -> impl Strategy<Value = Setting> {
    let access = prop_oneof![Just(Access::Column), Just(Access::Call)];
    (prop_oneof![Just(1), Just(7), Just(1000)], 1usize..3, access).prop_map(|(bundle, parallelism, access)| Setting {
        bundle,
        parallelism,
        access,
        on_error: "dead-letter",
        // Longer than a busy machine takes for any of the ends.
        timeout: "60s",
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_others_go_on(rows in rows(), setting in setting()) {
        let with = ran(&rows, setting);
        with.outcome.unwrap();
        let good: Vec<Row> = rows.iter().filter(|(_, v, _)| *v >= 0).cloned().collect();
        let without = ran(&good, setting);
        prop_assert_eq!(with.running, without.running);
        prop_assert_eq!(&with.windows, &without.windows);

        // Each of the others is a dead letter, once for either function, with what it did and where it stood.
        let mut expected: BTreeMap<(String, i64), Vec<&str>> = BTreeMap::new();
        for (at, (_, v, _)) in rows.iter().enumerate().filter(|(_, row)| row.1 < 0) {
            let kind = ["panic", "trap", "memory-limit", "stack-overflow"][(-1 - v) as usize];
            for function in ["u.TrapsHalfway", "u.TrapsInSum"] {
                expected.entry((function.to_owned(), at as i64)).or_default().push(kind);
            }
        }
        let mut found: BTreeMap<(String, i64), Vec<&str>> = BTreeMap::new();
        for letter in with.dead.iter().filter(|letter| letter["row"].is_i64()) {
            let key = (letter["function"].as_str().unwrap().to_owned(), letter["row"].as_i64().unwrap());
            found.entry(key).or_default().push(letter["kind"].as_str().unwrap());
            let v = rows[letter["row"].as_i64().unwrap() as usize].1;
            let record: Value = serde_json::from_str(letter["record"].as_str().unwrap()).unwrap();
            prop_assert_eq!(&record["v"], v);
        }
        prop_assert_eq!(found, expected);
        // A window whose result the guest fails on is one too, under its key and time.
        let sevens = with.dead.iter().filter(|letter| letter["row"].is_null());
        for letter in sevens {
            prop_assert_eq!(&letter["kind"], "trap");
            prop_assert!(letter["record"].as_str().unwrap().contains("window_start"), "{}", letter);
        }
    }
}

fn row(value: i64) -> Row {
    ("a".into(), value, 0)
}

const PLAIN: Setting =
    Setting { bundle: 1000, parallelism: 1, access: Access::Column, on_error: "dead-letter", timeout: "60s" };

#[test]
fn a_row_that_loops_is_found_by_its_deadline() {
    let mut rows = vec![row(1); 100];
    rows[70] = row(-9);
    let ran = ran(&rows, Setting { timeout: "100ms", ..PLAIN });
    assert_eq!(ran.running.len(), 99);
    assert_eq!(ran.dead.len(), 2);
    assert!(ran.dead.iter().all(|letter| letter["kind"] == "deadline" && letter["row"] == 70), "{:?}", ran.dead);
}

#[test]
fn with_on_error_fail_the_row_is_named() {
    let mut rows = vec![row(1); 100];
    rows[70] = row(-1);
    let error = ran(&rows, Setting { on_error: "fail", ..PLAIN }).outcome.unwrap_err();
    let JobError::Fault { position, fault, .. } = &error else { panic!("{error}") };
    assert_eq!(position.as_deref(), Some("rows, split rows.jsonl, row 70"));
    assert!(fault.message.contains("no row may be negative"), "{error}");
}

#[test]
fn a_udf_that_fails_on_everything_ends_the_job() {
    for bundle in [1, 1000] {
        let error = ran(&vec![row(-1); 2000], Setting { bundle, ..PLAIN }).outcome.unwrap_err();
        assert!(matches!(error, JobError::Hopeless { .. }), "{error}");
        assert!(error.to_string().contains("failed on 16 rows one after the other"), "{error}");
    }
}

#[test]
fn a_window_whose_result_fails_costs_that_window() {
    let rows: Vec<Row> = [("a", 7), ("b", 1), ("c", 2)].map(|(key, value)| (key.to_owned(), value, 0)).into();
    let ran = ran(&rows, PLAIN);
    assert_eq!(ran.windows.len(), 2, "{:?}", ran.windows);
    assert_eq!(ran.dead.len(), 1);
    let record: Value = serde_json::from_str(ran.dead[0]["record"].as_str().unwrap()).unwrap();
    assert_eq!((&record["k"], &record["window_start"]), (&json!("a"), &json!("1970-01-01T00:00:00")));
}
