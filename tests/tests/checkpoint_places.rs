//! Places from which no job can go on, and places in which none can keep checkpoints: each says what is wrong and what to do, with the
//! exit code for it, and leaves what is there byte for byte.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wasmill_tests::program::{PATIENCE, program};

/// Counts the rows of each key: state that can be told wrong from right by what comes out.
const UDF: &str = "\
from typing import Iterator, NamedTuple

from wasmill import KeyedProcessFunction, Row, Types, ValueStateDescriptor


class Counted(NamedTuple):
    k: int
    n: int
    count: int


class Count(KeyedProcessFunction):
    def open(self, runtime_context):
        type = Types.ROW_NAMED(['count'], [Types.LONG()])
        self.seen = runtime_context.get_state(ValueStateDescriptor('seen', type))

    def process_element(self, value, ctx) -> Iterator[Counted]:
        seen = self.seen.value()
        count = (seen.count if seen else 0) + 1
        self.seen.update(Row(count=count))
        yield Counted(0, value.n, count)


def slowly(n: int) -> int:
    for _ in range(20_000):
        pass
    return n
";

/// Two thousand rows in two seconds, so that it can be killed between.
const JOB: &str = "\
name: counts
config:
  parallelism: 2
  arrow.batch.size: 20
  execution.checkpointing.dir: checkpoints
  execution.checkpointing.interval: 30ms
  execution.checkpointing.num-retained: 2
  restart-strategy.type: none
udfs: { u: { path: udf.py } }
pipeline:
  - numbers: { source: generator, rows: 2000, rate: 1000, splits: 2, fields: { n: { sequence: {} }, k: { modulo: 7 } } }
  - counted: { from: numbers, key: [k], process: u.Count }
  - out: { from: counted, sink: jsonl, path: out }
";

/// Rows that wait in channels and bundles: the function is slower than the source.
const SLOW: &str = "\
name: slow
config:
  arrow.batch.size: 20
  bundle.size: 20
  execution.checkpointing.dir: checkpoints
  execution.checkpointing.interval: 30ms
  execution.checkpointing.unaligned.enabled: true
  restart-strategy.type: none
udfs: { u: { path: udf.py } }
pipeline:
  - numbers: { source: generator, rows: 100000, fields: { n: { sequence: {} } } }
  - slow: { from: numbers, with: { m: u.slowly(n) }, parallelism: 2 }
  - out: { from: slow, sink: jsonl, path: out, parallelism: 1 }
";

/// A file that is read slowly.
const FILE: &str = "\
name: file
config:
  arrow.batch.size: 20
  exchange.elements.max: 1
  execution.checkpointing.dir: checkpoints
  execution.checkpointing.interval: 30ms
  restart-strategy.type: none
udfs: { u: { path: udf.py } }
pipeline:
  - lines: { source: csv, path: lines.csv, schema: { n: int64 } }
  - slow: { from: lines, with: { m: u.slowly(n) } }
  - out: { from: slow, sink: jsonl, path: out }
";

/// What a command says: exit code, and standard error with the folder's name left out.
fn wasmill(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let child = program(folder, arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let output = ended(child);
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text.replace(&folder.display().to_string(), "DIR"))
}

/// Waits for the end, which comes.
fn ended(mut child: Child) -> Output {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn newest(folder: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(folder.join("checkpoints/checkpoints")).ok()?;
    let number = |name: String| name.strip_suffix(".manifest")?.parse().ok();
    entries.filter_map(|entry| number(entry.unwrap().file_name().into_string().unwrap())).max()
}

/// A folder in which `job` was killed when `enough` said so of the newest checkpoint's manifest.
fn killed(job: &str, enough: impl Fn(&Path) -> bool) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "udf.py", UDF);
    write(folder.path(), "job.yaml", job);
    let lines: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    write(folder.path(), "lines.csv", &format!("n\n{lines}"));
    let mut child = program(folder.path(), &["run", "-q", "job.yaml"]).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while !newest(folder.path()).is_some_and(|number| enough(&manifest(folder.path(), number))) {
        assert!(child.try_wait().unwrap().is_none(), "it has ended too soon: {:?}", child.wait_with_output());
        assert!(began.elapsed() < PATIENCE, "there is no such checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    folder
}

fn manifest(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("checkpoints/checkpoints/{number}.manifest"))
}

/// The folder of the job that counts, killed at its sixth checkpoint or soon after; each test has a copy.
fn counts() -> TempDir {
    static KILLED: OnceLock<TempDir> = OnceLock::new();
    let original = KILLED.get_or_init(|| killed(JOB, |manifest| *manifest >= *manifest.with_file_name("6.manifest")));
    copy_of(original.path())
}

fn copy_of(original: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let status = Command::new("cp").arg("-a").arg(original.join(".")).arg(copy.path()).status().unwrap();
    assert!(status.success());
    copy
}

/// Every file of a folder, but the markers of runs and what says where they can be reached.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains(".writing-") || name == "runtime" {
            continue;
        }
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

/// Changes a byte of a file.
fn patch(path: &Path, at: usize, change: impl Fn(u8) -> u8) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] = change(bytes[at]);
    std::fs::write(path, bytes).unwrap();
}

/// One way to be refused.
struct Case {
    what: &'static str,
    change: Change,
    arguments: &'static [&'static str],
    code: i32,
    /// NEWEST is the number of the newest checkpoint, DIR the folder; # is a checksum.
    says: &'static str,
}

/// What somebody does to the folder, with the number of its newest checkpoint.
type Change = fn(&Path, u64);

fn nothing(_: &Path, _: u64) {}

fn edit(folder: &Path, from: &str, to: &str) {
    let job = std::fs::read_to_string(folder.join("job.yaml")).unwrap();
    assert!(job.contains(from), "{from}");
    write(folder, "job.yaml", &job.replace(from, to));
}

fn edit_udf(folder: &Path, from: &str, to: &str) {
    assert!(UDF.contains(from), "{from}");
    write(folder, "udf.py", &UDF.replace(from, to));
}

/// Checksums are not foretold.
fn without_checksums(text: &str) -> String {
    let is_one = |word: &str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let word = |word: &str| {
        let plain = word.trim_end_matches([',', ')', ':']);
        let hidden = plain.rsplit_once('-').map_or(plain, |(_, end)| end);
        if is_one(hidden) { word.replace(hidden, "#") } else { word.to_owned() }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn check(case: &Case) {
    let folder = counts();
    let folder = folder.path();
    let newest = newest(folder).unwrap();
    (case.change)(folder, newest);
    let before = files(folder);
    let (code, text) = wasmill(folder, &[&["run", "-q", "job.yaml"], case.arguments].concat());
    let text = without_checksums(text.trim_end());
    assert_eq!(text, case.says.replace("NEWEST", &newest.to_string()), "{}", case.what);
    assert_eq!(code, case.code, "{}", case.what);
    let after = files(folder);
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before), "{}", case.what);
    assert!(after == before, "{}: a file has another content", case.what);
}

const RESUME: &[&str] = &["--resume"];

#[test]
fn what_is_damaged_is_refused() {
    let cases = [
        Case {
            what: "cut off",
            change: |folder, newest| {
                let bytes = std::fs::read(manifest(folder, newest)).unwrap();
                std::fs::write(manifest(folder, newest), &bytes[..30]).unwrap();
                patch(&manifest(folder, newest), 16, |_| 200);
                patch(&manifest(folder, newest), 17, |_| 0);
            },
            arguments: RESUME,
            code: 1,
            says: "error: cannot go on from DIR/checkpoints\n  caused by: DIR/checkpoints/checkpoints/NEWEST.manifest: it is cut off: 30 bytes, 232 expected",
        },
        Case {
            what: "empty",
            change: |folder, newest| std::fs::write(manifest(folder, newest), "").unwrap(),
            arguments: RESUME,
            code: 1,
            says: "error: cannot go on from DIR/checkpoints\n  caused by: DIR/checkpoints/checkpoints/NEWEST.manifest: it is no file of a checkpoint: it does not begin with WASMILLC",
        },
        Case {
            what: "a bit of the manifest",
            change: |folder, newest| patch(&manifest(folder, newest), 100, |byte| byte ^ 4),
            arguments: RESUME,
            code: 1,
            says: "error: cannot go on from DIR/checkpoints\n  caused by: DIR/checkpoints/checkpoints/NEWEST.manifest: it is damaged: its checksum is #, # expected",
        },
        Case {
            // The version is looked at before the checksum: a newer format may have its own.
            what: "a newer version",
            change: |folder, newest| patch(&manifest(folder, newest), 8, |version| version + 1),
            arguments: RESUME,
            code: 1,
            says: "error: cannot go on from DIR/checkpoints\n  caused by: DIR/checkpoints/checkpoints/NEWEST.manifest: it has version 2 of the format, and this program knows them up to 1: use a newer Wasmill",
        },
        Case {
            what: "another file in its place",
            change: |folder, newest| {
                let state = folder.join(format!("checkpoints/state/counted-0-{newest}.keyed"));
                std::fs::copy(state, manifest(folder, newest)).unwrap();
            },
            arguments: RESUME,
            code: 1,
            says: "error: cannot go on from DIR/checkpoints\n  caused by: DIR/checkpoints/checkpoints/NEWEST.manifest: it is state by key, where a manifest is expected",
        },
        Case {
            what: "a bit of state",
            change: |folder, newest| {
                patch(&folder.join(format!("checkpoints/state/counted-0-{newest}.keyed")), 40, |byte| byte ^ 1);
            },
            arguments: &["--resume", "--set", "nodes.counted.parallelism=1"],
            code: 1,
            says: "error: node \"counted\": cannot go on from a checkpoint: DIR/checkpoints/state/counted-0-NEWEST.keyed: it is damaged: its checksum is #, # expected",
        },
        Case {
            what: "no state",
            change: |folder, newest| {
                std::fs::remove_file(folder.join(format!("checkpoints/state/counted-1-{newest}.keyed"))).unwrap();
            },
            arguments: &["--resume", "--set", "nodes.counted.parallelism=1"],
            code: 1,
            says: "error: node \"counted\": cannot go on from a checkpoint: there is no DIR/checkpoints/state/counted-1-NEWEST.keyed",
        },
    ];
    for case in &cases[..5] {
        check(case);
    }
    // What is found when tasks start leaves files of sinks committed, which is no loss: only the checkpoint is looked at.
    for case in &cases[5..] {
        check_checkpoint(case);
    }
}

/// The files of checkpoints. What a dead run was writing is cleared away by who comes next.
fn kept(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files(&folder.join("checkpoints"));
    files.retain(|path, _| !path.to_string_lossy().contains(".inprogress-"));
    files
}

/// As [`check`], of the checkpoints alone: what they say is committed may be committed.
fn check_checkpoint(case: &Case) {
    let folder = counts();
    let folder = folder.path();
    let newest = newest(folder).unwrap();
    (case.change)(folder, newest);
    let before = kept(folder);
    let (code, text) = wasmill(folder, &[&["run", "-q", "job.yaml"], case.arguments].concat());
    let said = without_checksums(text.trim_end());
    assert_eq!(said, case.says.replace("NEWEST", &newest.to_string()), "{}", case.what);
    assert_eq!(code, case.code, "{}", case.what);
    assert!(kept(folder) == before, "{}: a file has another content", case.what);
}

#[test]
fn another_job_is_refused() {
    let cases = [
        Case {
            what: "no --resume",
            change: nothing,
            arguments: &[],
            code: 1,
            says: "error: checkpoints: DIR/checkpoints: it has checkpoints of an earlier run, the newest is NEWEST: go on from them (wasmill run --resume), remove them, or give another directory",
        },
        Case {
            what: "another job, no --resume",
            change: |folder, _| edit(folder, "name: counts", "name: other"),
            arguments: &[],
            code: 1,
            says: "error: checkpoints: DIR/checkpoints: it has checkpoints of job \"counts\": give job \"other\" a directory of its own",
        },
        Case {
            what: "another job",
            change: |folder, _| edit(folder, "name: counts", "name: other"),
            arguments: RESUME,
            code: 1,
            says: "error: cannot go on from a checkpoint: DIR/checkpoints: it is of job \"counts\", and this one is \"other\"",
        },
        Case {
            what: "a node renamed",
            change: |folder, _| edit(folder, "counted", "tallied"),
            arguments: RESUME,
            code: 1,
            says: "error: cannot go on from a checkpoint: DIR/checkpoints: it has state of node \"counted\" (process u.Count), and the job has no node of that name or id: give one that id, or leave the state out with --allow-non-restored",
        },
        Case {
            what: "another key type",
            change: |folder, _| edit(folder, "k: { modulo: 7 }", "k: { choice: [a, b] }"),
            arguments: RESUME,
            code: 1,
            says: "error: cannot go on from a checkpoint: DIR/checkpoints: node \"counted\" has the key (k: utf8) now and had (k: int64)",
        },
        Case {
            what: "another state name",
            change: |folder, _| edit_udf(folder, "'seen'", "'known'"),
            arguments: RESUME,
            code: 1,
            says: "error: cannot go on from a checkpoint: DIR/checkpoints: node \"counted\" had a state \"seen\", and its function has none of that name now",
        },
        Case {
            what: "other key groups",
            change: nothing,
            arguments: &["--resume", "--set", "pipeline.max-parallelism=64"],
            code: 1,
            says: "error: cannot go on from a checkpoint: DIR/checkpoints: node \"numbers\" has 128 key groups in it, and pipeline.max-parallelism is 64: it cannot be changed",
        },
        Case {
            what: "more subtasks than key groups",
            change: nothing,
            arguments: &["--resume", "--set", "nodes.counted.parallelism=200"],
            code: 1,
            says: "error: cannot go on from a checkpoint: DIR/checkpoints: node \"counted\" has 128 key groups in it, and a parallelism of 200 now: at most as many are possible",
        },
        Case {
            what: "nowhere",
            change: nothing,
            arguments: &["--from", "nowhere"],
            code: 2,
            says: "error: there is no checkpoint and no savepoint in nowhere",
        },
        Case {
            what: "no directory",
            change: |folder, _| {
                edit(
                    folder,
                    "  execution.checkpointing.dir: checkpoints\n  execution.checkpointing.interval: 30ms\n",
                    "",
                )
            },
            arguments: RESUME,
            code: 2,
            says: "error: --resume: the job keeps no checkpoints: set execution.checkpointing.dir, or say where they are with --from",
        },
    ];
    cases.iter().for_each(check);
    check_checkpoint(&Case {
        what: "another state type",
        change: |folder, _| edit_udf(folder, "Types.LONG()", "Types.STRING()"),
        arguments: RESUME,
        code: 1,
        says: "error: node \"counted\": cannot go on from a checkpoint: DIR/checkpoints: node \"counted\": state \"seen\" is struct<count: utf8?>, and was struct<count: int64?> in the checkpoint",
    });
}

#[test]
fn a_place_that_cannot_be_written_is_refused() {
    const BLOCKED: &str = "execution.checkpointing.dir=blocked";
    let block: Change = |folder, _| write(folder, "blocked", "");
    let cases = [
        Case {
            what: "a file",
            change: block,
            arguments: &["--set", BLOCKED],
            code: 1,
            says: "error: checkpoints: cannot make the directory DIR/blocked: DIR/blocked is a file, where a directory is wanted\n  caused by: File exists (os error 17)",
        },
        Case {
            what: "a file, to go on from",
            change: block,
            arguments: &["--resume", "--set", BLOCKED],
            code: 1,
            says: "error: cannot go on from DIR/blocked\n  caused by: cannot list DIR/blocked/checkpoints: it is a file, where a directory is wanted\n  caused by: Not a directory (os error 20)",
        },
        Case {
            what: "below a file",
            change: block,
            arguments: &["--set", "execution.checkpointing.dir=blocked/inner"],
            code: 1,
            says: "error: checkpoints: cannot make the directory DIR/blocked/inner: DIR/blocked is a file, where a directory is wanted\n  caused by: File exists (os error 17)",
        },
    ];
    cases.iter().for_each(check);
}

/// All 2000 rows are there once, each counted by the state of its key.
fn is_whole(folder: &Path, what: &str) {
    let mut counts: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut rows = Vec::new();
    for (path, content) in files(&folder.join("out")) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with("part-"), "{what}: {name} is left");
        for line in String::from_utf8(content).unwrap().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let (n, count) = (line["n"].as_u64().unwrap(), line["count"].as_u64().unwrap());
            rows.push(n);
            counts.entry(n % 7).or_default().push(count);
        }
    }
    rows.sort_unstable();
    assert_eq!(rows.len(), 2000, "{what}");
    assert!(rows.into_iter().eq(0..2000), "{what}: a row is there twice, and another is not");
    for (key, mut counts) in counts {
        counts.sort_unstable();
        let many = counts.len() as u64;
        assert!(counts.into_iter().eq(1..=many), "{what}: the state of key {key} is not what it was");
    }
}

/// What is accepted, and gives what it would have given without a crash.
#[test]
fn what_fits_is_gone_on_with() {
    let (none, grown): (Change, Change) = (nothing, |folder, _| {
        edit_udf(folder, "['count'], [Types.LONG()]", "['count', 'last'], [Types.LONG(), Types.LONG()]");
        let text = std::fs::read_to_string(folder.join("udf.py")).unwrap();
        write(folder, "udf.py", &text.replace("Row(count=count)", "Row(count=count, last=value.n)"));
    });
    let cases: [(&str, Change, &[&str]); 5] = [
        ("as it was", none, &["--resume"]),
        ("from its own place", none, &["--from", "checkpoints"]),
        ("a state grown by a field that may be null", grown, &["--resume"]),
        ("more subtasks", none, &["--resume", "--set", "parallelism=3"]),
        (
            "unfinished files of checkpoints",
            |folder, _| write(folder, "checkpoints/state/.x.keyed.checkpoint.inprogress-0123456789abcdef", "x"),
            &["--resume"],
        ),
    ];
    for (what, change, arguments) in cases {
        let folder = counts();
        change(folder.path(), newest(folder.path()).unwrap());
        let (code, text) = wasmill(folder.path(), &[&["run", "-q", "job.yaml"], arguments].concat());
        assert_eq!((code, text.as_str()), (0, ""), "{what}");
        is_whole(folder.path(), what);
        assert!(!files(folder.path()).keys().any(|path| path.to_string_lossy().contains("inprogress")), "{what}");
    }
    // Without its state the node counts from 1 again, which is what was asked for.
    let folder = counts();
    edit(folder.path(), "counted", "tallied");
    let (code, text) = wasmill(folder.path(), &["run", "-q", "job.yaml", "--resume", "--allow-non-restored"]);
    assert_eq!((code, text.as_str()), (0, ""));
}

#[test]
fn a_job_that_came_to_its_end_is_told_so() {
    let folder = counts();
    let folder = folder.path();
    assert_eq!(wasmill(folder, &["run", "-q", "job.yaml", "--resume"]).0, 0);
    let before = files(folder);
    let newest = newest(folder).unwrap();
    let (code, text) = wasmill(folder, &["run", "-q", "job.yaml"]);
    let wanted = format!(
        "error: checkpoints: DIR/checkpoints: it has checkpoints of an earlier run, which came to its end with checkpoint {newest}: remove them \
         to run the job anew, or give another directory\n"
    );
    assert_eq!((code, text), (1, wanted));
    let (code, text) = wasmill(folder, &["run", "job.yaml", "--resume"]);
    let wanted = format!(
        "the job came to its end with checkpoint {newest}: nothing is left to do but to commit what that run could not"
    );
    assert!(code == 0 && text.contains(&wanted), "{text}");
    assert!(files(folder) == before);
}

#[test]
fn where_no_checkpoint_is_the_job_begins() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "udf.py", UDF);
    write(folder.path(), "job.yaml", JOB);
    let (code, text) = wasmill(folder.path(), &["run", "job.yaml", "--resume"]);
    assert!(
        code == 0 && text.contains("no checkpoint is in DIR/checkpoints yet: beginning at the beginning"),
        "{text}"
    );
    is_whole(folder.path(), "from the beginning");
}

#[test]
fn a_part_that_somebody_removed_is_missed() {
    let folder = counts();
    let folder = folder.path();
    // Whichever of its parts the newest checkpoint has prepared: their files are gone under both names.
    for path in files(&folder.join("out")).into_keys() {
        std::fs::remove_file(path).unwrap();
    }
    let before = files(folder);
    let (code, text) = wasmill(folder, &["run", "-q", "job.yaml", "--resume"]);
    let said = "error: node \"out\": the checkpoint has a file that was removed or replaced since: out/part-";
    assert!(code == 1 && text.starts_with(said), "{text}");
    assert!(text.ends_with("put it back, or start the job without the checkpoint\n"), "{text}");
    assert!(files(folder) == before);
}

#[test]
fn rows_on_their_way_keep_their_subtasks() {
    let in_flight = |manifest: &Path| {
        let bytes = std::fs::read(manifest).unwrap_or_default();
        // The only files of that node are rows before it.
        String::from_utf8_lossy(&bytes).contains("state/slow-")
    };
    let folder = killed(SLOW, in_flight);
    let folder = folder.path();
    let before = files(&folder.join("checkpoints"));
    let (code, text) = wasmill(folder, &["run", "-q", "job.yaml", "--resume", "--set", "nodes.slow.parallelism=3"]);
    let wanted = "error: cannot go on from a checkpoint: DIR/checkpoints: node \"slow\" had 2 subtasks and has 3 now, while rows that a \
                  barrier has overtaken are in the checkpoint (unaligned), which have no key to find their subtask by: keep its \
                  parallelism, or change it with a savepoint, which has no rows on their way\n";
    assert_eq!((code, text.as_str()), (1, wanted));
    let after = files(&folder.join("checkpoints"));
    // Only what a dead run left unfinished is cleared away.
    assert!(after.iter().all(|(path, content)| before.get(path) == Some(content)));
}

#[test]
fn a_source_that_is_no_longer_what_it_was_is_refused() {
    let folder = killed(FILE, |manifest| *manifest >= *manifest.with_file_name("2.manifest"));
    let cases: [(&str, Change, i32, &str); 2] = [
        ("shrank", |folder, _| write(folder, "lines.csv", "n\n1\n"), 1, "error: node \"lines\": "),
        ("vanished", |folder, _| std::fs::remove_file(folder.join("lines.csv")).unwrap(), 2, "error: job.yaml:"),
    ];
    for (what, change, code, says) in cases {
        let copy = copy_of(folder.path());
        change(copy.path(), 0);
        let before = kept(copy.path());
        let (got, text) = wasmill(copy.path(), &["run", "-q", "job.yaml", "--resume"]);
        println!("{what}: {text}");
        assert!(got == code && text.starts_with(says) && text.contains("lines.csv"), "{what}: {got} {text}");
        assert!(kept(copy.path()) == before, "{what}");
    }
}

#[test]
fn one_file_takes_part_in_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "udf.py", UDF);
    write(
        folder.path(),
        "job.yaml",
        &JOB.replace("path: out", "path: out.jsonl").replace("parallelism: 2", "parallelism: 1"),
    );
    let (code, text) = wasmill(folder.path(), &["check", "job.yaml"]);
    let wanted = "error: job.yaml:13:5: node \"out\": path: out.jsonl is one file, which can only appear whole, at the end, while a checkpoint \
                  keeps what is written so far: give a directory, such as ./out, where each checkpoint adds files\n";
    assert_eq!((code, text.as_str()), (2, wanted));
}

#[test]
fn two_jobs_do_not_share_a_place() {
    let folder = counts();
    let folder = folder.path();
    let first = program(folder, &["run", "-q", "job.yaml", "--resume"]).stderr(Stdio::piped()).spawn().unwrap();
    let (before, began) = (newest(folder), Instant::now());
    while newest(folder) == before {
        assert!(began.elapsed() < PATIENCE, "the first does not go on");
        std::thread::sleep(Duration::from_millis(2));
    }
    for arguments in [&["--resume"][..], &[], &["--resume", "--set", "nodes.out.path=elsewhere"]] {
        let (code, text) = wasmill(folder, &[&["run", "-q", "job.yaml"], arguments].concat());
        let text = without_checksums(text.trim_end());
        let wanted = "error: checkpoints: DIR/checkpoints is taken: a job that runs now keeps its checkpoints there (it holds a lock on \
                      .checkpoints.writing-#): stop it, or give each job a place of its own";
        assert_eq!((code, text.as_str()), (1, wanted), "{arguments:?}");
    }
    let output = ended(first);
    assert!(output.status.success(), "{output:?}");
    is_whole(folder, "the first");
}

/// A file system of its own, if this user may mount one.
struct Mounted(PathBuf);

impl Mounted {
    fn new(path: PathBuf) -> Option<Mounted> {
        std::fs::create_dir(&path).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&path).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Mounted(path));
        }
        println!("skipped: this user may mount no file system");
        None
    }

    fn read_only(&self) {
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status().unwrap().success());
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.0.join("ballast")).unwrap();
        while std::io::Write::write_all(&mut ballast, &[0; 512]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A new job that keeps its checkpoints in `small/c`, which it has begun to do.
fn kept_in(folder: &Path, settings: &[&str], place: &str) -> Child {
    write(folder, "udf.py", UDF);
    write(folder, "job.yaml", JOB);
    let dir = format!("execution.checkpointing.dir={place}");
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    let arguments: Vec<&str> = ["run", "-q", "job.yaml", "--set", &dir].into_iter().chain(settings).collect();
    let mut child = program(folder, &arguments).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while !std::fs::read_dir(folder.join(place).join("checkpoints")).is_ok_and(|mut names| names.next().is_some()) {
        assert!(child.try_wait().unwrap().is_none(), "it has ended too soon: {:?}", child.wait_with_output());
        assert!(began.elapsed() < PATIENCE, "there is no checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

#[test]
fn a_read_only_place_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "udf.py", UDF);
    write(folder.path(), "job.yaml", JOB);
    let Some(mounted) = Mounted::new(folder.path().join("small")) else { return };
    mounted.read_only();
    let (code, text) =
        wasmill(folder.path(), &["run", "-q", "job.yaml", "--set", "execution.checkpointing.dir=small/c"]);
    let wanted =
        "error: checkpoints: cannot make the directory DIR/small/c\n  caused by: Read-only file system (os error 30)\n";
    assert_eq!((code, text.as_str()), (1, wanted));
    assert!(!folder.path().join("out").exists());
}

#[test]
fn a_full_disk_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(mounted) = Mounted::new(folder.join("small")) else { return };
    let child = kept_in(folder, &[], "small/c");
    mounted.fill();
    let output = ended(child);
    let text = String::from_utf8(output.stderr).unwrap().replace(&folder.display().to_string(), "DIR");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error: checkpoint ") && text.contains(" failed: cannot write DIR/small/c/"), "{text}");
    assert!(text.contains("(execution.checkpointing.tolerable-failed-checkpoints: 0)"), "{text}");
    mounted.free();
    let (code, text) =
        wasmill(folder, &["run", "-q", "job.yaml", "--resume", "--set", "execution.checkpointing.dir=small/c"]);
    assert_eq!((code, text.as_str()), (0, ""));
    is_whole(folder, "a full disk, and room again");
}

/// As long as failures are tolerated the job goes on, and the first checkpoint that succeeds commits what the others could not.
#[test]
fn a_full_disk_is_outlived() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(mounted) = Mounted::new(folder.join("small")) else { return };
    let settings = ["execution.checkpointing.tolerable-failed-checkpoints=1000"];
    let mut child = kept_in(folder, &settings, "small/c");
    mounted.fill();
    let mut errors = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let given_up = errors.find(|line| line.as_ref().is_ok_and(|line| line.contains("is given up: cannot write")));
    assert!(given_up.is_some(), "no checkpoint failed");
    mounted.free();
    let rest: Vec<String> = errors.map_while(Result::ok).collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    is_whole(folder, "a disk that was full for a while");
}

#[test]
fn a_place_that_vanishes_ends_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let child = kept_in(folder, &["execution.checkpointing.num-retained=1"], "gone");
    // A write may make a file between two removals.
    while std::fs::remove_dir_all(folder.join("gone")).is_err() {}
    let output = ended(child);
    let text = String::from_utf8(output.stderr).unwrap().replace(&folder.display().to_string(), "DIR");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error: checkpoint ") && text.contains(" failed: cannot write DIR/gone/"), "{text}");
    assert!(
        text.contains(": DIR/gone is gone: did someone remove it?") || text.contains(": its folder is gone:"),
        "{text}"
    );
}
