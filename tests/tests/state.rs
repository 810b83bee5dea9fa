//! `wasmill state` and `run --from … --checkpoint`, by the built program, on the checkpoints of `tests/snapshots`.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::{Array, AsArray};
use serde_json::Value;
use tempfile::TempDir;
use wasmill_connectors::checkpoint_storage;
use wasmill_runtime::checkpoint::restore::numbers;
use wasmill_tests::{built, read_parquet, root};

/// A folder with the job and its checkpoints, to be changed at will.
struct Copied(TempDir);

impl Copied {
    fn new() -> Copied {
        let folder = tempfile::tempdir().unwrap();
        copy(&root().join("tests/snapshots/v1"), folder.path());
        Copied(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What a command says: exit code, standard output and error.
    fn ask(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(built("target/release/wasmill"));
        command.current_dir(self.0.path()).env("WASMILL_CACHE_DIR", root().join("target/test-cache")).args(arguments);
        let output = command.env("TMPDIR", self.0.path()).env("XDG_RUNTIME_DIR", self.0.path()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// The answer of a command that goes well and says nothing else.
    fn told(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.ask(arguments);
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}: {out}");
        out
    }

    /// The complaint about a command that cannot be carried out.
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let (got, out, err) = self.ask(arguments);
        assert_eq!((got, out.as_str()), (code, ""), "{arguments:?}: {err}");
        err
    }

    /// The numbers of the checkpoints, the older first.
    fn numbers(&self) -> Vec<u64> {
        numbers(&checkpoint_storage(self.0.path(), "checkpoints").unwrap()).unwrap()
    }

    /// Changes a bit in the middle of a file.
    fn damage(&self, name: &str) {
        let mut bytes = std::fs::read(self.path(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// The lines of state that an export gives, in order.
    fn exported(&self, place: &str, node: &str) -> Vec<String> {
        let file = format!("{}-{node}.jsonl", place.replace('/', "-"));
        self.told(&["state", place, node, "--output", &file]);
        let text = std::fs::read_to_string(self.path(&file)).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// The cells of a table's line.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn a_checkpoint_is_listed_with_what_each_node_keeps() {
    let copied = Copied::new();
    let newest = *copied.numbers().last().unwrap();
    let out = copied.told(&["state", "checkpoints"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with(&format!("job snapshot, checkpoint {newest} of 20")), "{out}");
    assert!(lines[0].ends_with("/checkpoints") && lines[0].contains("Z, in /"), "{out}");
    let node =
        |name: &str| *lines.iter().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {out}"));
    for part in ["process f.Visits  2  ", "  who: utf8  last: struct<visits: int64?, at: int64?>, words: list<utf8?>"] {
        let spaced = node("visits").split("  ").filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("  ");
        assert!(spaced.contains(part.trim()), "{spaced}");
    }
    assert!(node("totals").contains("accumulator: struct<count: int64, sum: int64>"), "{out}");
    assert!(node("rows").contains("positions: 1 splits begun, 0 ended"), "{out}");
    assert!(node("seen").contains("parts prepared"), "{out}");
    assert!(!lines.iter().any(|line| line.starts_with("doubled")), "it has no state: {out}");
    let older = copied.numbers()[0];
    let out = copied.told(&["state", "checkpoints", "--checkpoint", &older.to_string()]);
    assert!(out.starts_with(&format!("job snapshot, checkpoint {older} of ")), "{out}");
}

#[test]
fn state_by_key_is_shown_and_found() {
    let copied = Copied::new();
    let out = copied.told(&["state", "checkpoints", "visits", "--rows", "3"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(cells(lines[1]), ["who", "last", "words"]);
    // Three lines of frame, one of names, one that counts.
    assert_eq!(lines.len(), 3 + 3 + 1 + 1, "{out}");
    let end = lines.last().unwrap();
    assert!(
        end.ends_with(" more (--rows, --output)") && end.contains("keys of node visits (process f.Visits)"),
        "{out}"
    );
    let out = copied.told(&["state", "checkpoints", "visits", "--key", "k09"]);
    assert!(out.contains("| k09 | {visits: 2, at: 3300} | [w9, w33] |"), "{out}");
    assert!(out.ends_with("\n1 keys of that value of node visits (process f.Visits)\n"), "{out}");
    let out = copied.told(&["state", "checkpoints", "visits", "--key", "nobody"]);
    assert!(out.ends_with("\n0 keys of that value of node visits (process f.Visits)\n"), "{out}");
    let out = copied.told(&["state", "checkpoints", "totals"]);
    assert_eq!(cells(out.lines().nth(1).unwrap()), ["who", "window_start", "accumulator"]);
    assert!(out.contains("| 1970-01-01T00:00:"), "{out}");
    let err = copied.refused(2, &["state", "checkpoints", "totals", "--key", "k00", "--key", "k01"]);
    assert!(err.contains("--key is given 2 times, and the key of node \"totals\" has 1 columns"), "{err}");
}

#[test]
fn positions_and_parts_are_shown_as_json() {
    let copied = Copied::new();
    let json = |node: &str| -> Value { serde_json::from_str(&copied.told(&["state", "checkpoints", node])).unwrap() };
    let rows = json("rows");
    assert_eq!((&rows["node"], &rows["does"]), (&"rows".into(), &"source".into()));
    let split = &rows["subtasks"][0]["own"]["open"][0];
    assert_eq!(split["id"], "rows.jsonl");
    assert!(split["position"]["row"].as_u64().unwrap() > 100, "the connector's own words are read too: {rows}");
    let seen = json("seen");
    assert_eq!(seen["subtasks"].as_array().unwrap().len(), 2);
    assert!(seen["subtasks"][0]["own"]["writer"]["next_part"].is_u64(), "{seen}");
    let prepared = seen["subtasks"].as_array().unwrap().iter().filter_map(|subtask| subtask["prepared"].as_array());
    assert!(prepared.flatten().all(|part| part["file"].as_str().unwrap().starts_with(".part-")), "{seen}");
    let err = copied.refused(2, &["state", "checkpoints", "rows", "--output", "rows.parquet"]);
    assert!(err.contains("node \"rows\" (source) has no keys"), "{err}");
}

#[test]
fn all_of_it_is_exported() {
    let copied = Copied::new();
    let said = copied.told(&["state", "checkpoints", "visits", "--output", "visits.parquet"]);
    let batches = read_parquet(&copied.path("visits.parquet"));
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(said, format!("{rows} keys of node visits are in visits.parquet\n"));
    let lines = copied.exported("checkpoints", "visits");
    assert_eq!(lines.len(), rows);
    let mut who: Vec<String> = batches
        .iter()
        .flat_map(|batch| {
            batch.column(0).as_string::<i32>().iter().map(|who| who.unwrap().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    who.sort();
    let keys =
        lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["who"].as_str().unwrap().to_owned());
    assert_eq!(keys.collect::<Vec<_>>(), who);
    assert_eq!(
        lines.iter().find(|line| line.contains("k09")).unwrap(),
        r#"{"who":"k09","last":{"visits":2,"at":3300},"words":["w9","w33"]}"#
    );
    copied.told(&["state", "checkpoints", "visits", "--key", "k09", "--output", "one.jsonl"]);
    assert_eq!(std::fs::read_to_string(copied.path("one.jsonl")).unwrap().lines().count(), 1);
    assert_eq!(batches[0].column(1).null_count(), 0);

    let err = copied.refused(2, &["state", "checkpoints", "visits", "--output", "visits.parquet"]);
    assert!(err.contains("--output: visits.parquet is there already: remove it, or name another file"), "{err}");
    let err = copied.refused(2, &["state", "checkpoints", "visits", "--output", "visits.xlsx"]);
    assert!(err.contains("a file whose name ends in .parquet, .jsonl or .csv is wanted"), "{err}");
    let err = copied.refused(1, &["state", "checkpoints", "visits", "--output", "visits.csv"]);
    assert!(err.contains("cannot export the state to visits.csv"), "{err}");
    assert!(!copied.path("visits.csv").exists());
}

#[test]
fn a_savepoint_is_shown_like_a_checkpoint() {
    let copied = Copied::new();
    let newest = *copied.numbers().last().unwrap();
    copy(&copied.path("checkpoints/state"), &copied.path("monday/state"));
    let manifest = copied.path(&format!("checkpoints/checkpoints/{newest}.manifest"));
    std::fs::copy(manifest, copied.path("monday/savepoint.manifest")).unwrap();
    for node in ["visits", "totals", "rows"] {
        let [checkpoint, savepoint] = ["checkpoints", "monday"].map(|place| copied.told(&["state", place, node]));
        assert_eq!(checkpoint, savepoint);
    }
    let err = copied.refused(2, &["state", "monday", "--checkpoint", &newest.to_string()]);
    assert!(err.contains("it is a savepoint: leave out --checkpoint"), "{err}");
}

#[test]
fn what_is_not_there_is_named() {
    let copied = Copied::new();
    let err = copied.refused(2, &["state", "nowhere"]);
    assert_eq!(err, "error: there is no checkpoint and no savepoint in nowhere\n");
    let err = copied.refused(2, &["state", "nowhere", "--checkpoint", "3"]);
    assert!(err.contains("nowhere has no checkpoint 3: there is none, and no savepoint"), "{err}");
    let all = copied.numbers().iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let err = copied.refused(2, &["state", "checkpoints", "--checkpoint", "4711"]);
    assert_eq!(err, format!("error: checkpoints has no checkpoint 4711: there are {all}\n"));
    let err = copied.refused(2, &["state", "checkpoints", "nobody"]);
    assert!(
        err.contains("/checkpoints has no node \"nobody\": there are rows, visits, totals, doubled, sums, seen"),
        "{err}"
    );
    let err = copied.refused(2, &["state", "checkpoints", "doubled"]);
    assert!(
        err.contains("node \"doubled\" (")
            && err.contains("has no state: those that have some are rows, visits, totals"),
        "{err}"
    );
    let err = copied.refused(2, &["state", "checkpoints", "--output", "all.parquet"]);
    assert!(err.contains("NODE"), "{err}");
}

#[test]
fn what_is_damaged_is_named() {
    let copied = Copied::new();
    let newest = *copied.numbers().last().unwrap();
    let state = format!("checkpoints/state/totals-0-{newest}.keyed");
    copied.damage(&state);
    copied.told(&["state", "checkpoints"]);
    let err = copied.refused(1, &["state", "checkpoints", "totals"]);
    assert!(err.contains(&format!("{state}: it is damaged: its checksum is ")), "{err}");
    std::fs::remove_file(copied.path(&state)).unwrap();
    let err = copied.refused(1, &["state", "checkpoints", "totals", "--output", "totals.parquet"]);
    assert!(err.contains("there is no ") && err.contains(&state), "{err}");
    assert!(!copied.path("totals.parquet").exists());
    let manifest = format!("checkpoints/checkpoints/{newest}.manifest");
    let bytes = std::fs::read(copied.path(&manifest)).unwrap();
    std::fs::write(copied.path(&manifest), &bytes[..bytes.len() - 100]).unwrap();
    let err = copied.refused(1, &["state", "checkpoints"]);
    assert!(err.contains(&format!("{manifest}: it is cut off: ")), "{err}");
    // The older one is whole, for whoever asks for it.
    copied.told(&["state", "checkpoints", "--checkpoint", &copied.numbers()[0].to_string()]);
}

/// Writes the job with states reached in this way, and sinks that know nothing of a run before.
fn job(copied: &Copied, access: (&str, &str)) {
    let text = std::fs::read_to_string(copied.path("job.yaml")).unwrap();
    let ways = format!("state: {{ last: {{ access: {} }}, words: {{ access: {} }} }}", access.0, access.1);
    let was = "state: { last: { access: column }, words: { access: call } }";
    assert!(text.contains(was));
    let text = text.replace(was, &ways).replace("- seen:", "- again:").replace("- sums:", "- summed:");
    std::fs::write(copied.path("other.yaml"), text).unwrap();
}

/// A job goes on from each of the checkpoints, its states reached as before, the other way round, or all alike; and comes to what a
/// run without a stop does.
#[test]
fn a_job_goes_on_however_it_reaches_its_state() {
    let copied = Copied::new();
    let run = |name: &str, arguments: &[&str]| {
        let out = [format!("nodes.again.path={name}/seen"), format!("nodes.summed.path={name}/sums")];
        let dir = format!("execution.checkpointing.dir={name}");
        let mut all = vec!["run", "--quiet", "other.yaml", "--control", "off", "--set", &dir];
        all.extend(out.iter().flat_map(|path| ["--set", path]));
        all.extend(arguments);
        let (code, _, err) = copied.ask(&all);
        assert_eq!(code, 0, "{err}");
        copied.exported(name, "visits")
    };
    job(&copied, ("column", "call"));
    let wanted = run("whole", &[]);
    assert!(wanted.len() > 10);
    let numbers: Vec<String> = copied.numbers().iter().map(u64::to_string).collect();
    let ways = [("column", "call"), ("call", "column"), ("call", "call"), ("column", "column")];
    for (index, access) in ways.into_iter().enumerate() {
        job(&copied, access);
        let number = &numbers[index % 2];
        let from = ["--from", "checkpoints", "--checkpoint", number, "--allow-non-restored"];
        assert_eq!(run(&format!("went-on-{index}"), &from), wanted, "{access:?} from {number}");
    }
    let err = copied.refused(2, &["run", "other.yaml", "--from", "checkpoints", "--checkpoint", "4711"]);
    assert!(err.contains("checkpoints has no checkpoint 4711: there are "), "{err}");
    let err = copied.refused(2, &["run", "other.yaml", "--checkpoint", "4711"]);
    assert!(err.contains("--from"), "{err}");
}
