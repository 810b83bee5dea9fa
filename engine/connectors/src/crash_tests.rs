//! File sinks through crashes: whatever happens between checkpoints, each row is there once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use object_store::ObjectStoreExt;
use proptest::prelude::*;
use wasmill_runtime::connector::{Committable, Sink, SinkWriter, Subtask, WriterState};

use crate::file_sink::{FileSink, Target};
use crate::file_writer::Roll;
use crate::formats::JsonLines;
use crate::local_output::LocalOutput;
use crate::output::Output;
use crate::remote::{Store, block_on, testing};
use crate::remote_output::RemoteOutput;

fn rows(range: std::ops::Range<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
    RecordBatch::try_from_iter([("v", column)]).unwrap()
}

/// A place where processes come and go.
trait World {
    /// What a new process has.
    fn output(&self) -> Arc<dyn Output>;
    fn put(&self, name: &str, text: &str);
    /// By name; what is hidden is left out.
    fn files(&self) -> BTreeMap<String, String>;
    /// What is not finished and nobody sees, if that can be told.
    fn unfinished(&self) -> usize;
}

struct Local(tempfile::TempDir);

impl World for Local {
    fn output(&self) -> Arc<dyn Output> {
        Arc::new(LocalOutput::new(self.0.path().to_owned()))
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn files(&self) -> BTreeMap<String, String> {
        let names = all_names(self.0.path()).into_iter().filter(|name| !name.starts_with('.'));
        names.map(|name| (name.clone(), std::fs::read_to_string(self.0.path().join(name)).unwrap())).collect()
    }

    fn unfinished(&self) -> usize {
        all_names(self.0.path()).iter().filter(|name| name.starts_with('.')).count()
    }
}

fn all_names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    std::fs::read_dir(dir).unwrap().map(name).collect()
}

struct Remote(Arc<Store>);

impl World for Remote {
    fn output(&self) -> Arc<dyn Output> {
        Arc::new(RemoteOutput::new(Arc::clone(&self.0), "out".into()).unwrap())
    }

    fn put(&self, name: &str, text: &str) {
        let key = format!("out/{name}").into();
        block_on(self.0.objects.put(&key, text.to_owned().into())).unwrap().unwrap();
    }

    fn files(&self) -> BTreeMap<String, String> {
        let named = |(name, bytes): (String, Vec<u8>)| {
            (name.strip_prefix("out/").unwrap().to_owned(), String::from_utf8(bytes).unwrap())
        };
        testing::content(&self.0).into_iter().map(named).collect()
    }

    fn unfinished(&self) -> usize {
        0
    }
}

fn worlds() -> [Box<dyn World>; 2] {
    [Box::new(Local(tempfile::tempdir().unwrap())), Box::new(Remote(testing::store(&[])))]
}

/// A new process's sink. A part has a few rows.
fn sink(world: &dyn World, overwrite: bool) -> FileSink {
    let roll = Roll { bytes_max: 30, time_max: None };
    FileSink::to(Target { format: Arc::new(JsonLines), output: world.output(), file: None, roll }, overwrite)
}

fn values(files: &BTreeMap<String, String>) -> Vec<i64> {
    let value = |line: &str| line.strip_prefix("{\"v\":")?.strip_suffix('}')?.parse().ok();
    let mut values: Vec<i64> = files.values().flat_map(|text| text.lines()).filter_map(value).collect();
    values.sort_unstable();
    values
}

/// What a complete checkpoint has.
#[derive(Debug, Clone, Default)]
struct Checkpoint {
    /// Where the source goes on.
    next: i64,
    prepared: Vec<Committable>,
    states: Vec<WriterState>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many rows by one of the writers.
    Write(usize, i64),
    Checkpoint(Commit),
    /// A checkpoint that never became complete: what it prepared belongs to the next one.
    GivenUp,
    /// The job fails, and goes on in the same process or in another one, with so many writers.
    Crash {
        same_process: bool,
        writers: usize,
    },
}

/// How far the commit of a checkpoint comes.
#[derive(Debug, Clone, Copy)]
enum Commit {
    Not,
    /// The first of its files.
    Half,
    Once,
    Twice,
    /// It begins when the writers are at the next checkpoint already.
    Late,
}

/// A job with one sink, its source a number that grows.
struct Job<'a> {
    world: &'a dyn World,
    overwrite: bool,
    sink: FileSink,
    writers: Vec<Box<dyn SinkWriter>>,
    next: i64,
    /// Prepared for checkpoints that were given up.
    carried: Vec<Committable>,
    complete: Option<Checkpoint>,
    /// Of the last complete checkpoint, to be committed yet.
    late: Vec<Committable>,
    /// All that is committed so far is to be seen.
    committed: bool,
}

impl Job<'_> {
    fn new(world: &dyn World, overwrite: bool, writers: usize) -> Job<'_> {
        let mut job = Job {
            world,
            overwrite,
            sink: sink(world, overwrite),
            writers: Vec::new(),
            next: 0,
            carried: Vec::new(),
            complete: None,
            late: Vec::new(),
            committed: false,
        };
        job.begin(writers);
        job
    }

    /// From the last complete checkpoint, or from the start.
    fn begin(&mut self, writers: usize) {
        match &self.complete {
            Some(Checkpoint { prepared, states, .. }) => self.sink.resume(prepared, states).unwrap(),
            None => self.sink.start().unwrap(),
        }
        let from = self.complete.clone().unwrap_or_default();
        self.next = from.next;
        self.carried.clear();
        self.late.clear();
        let place = |index| Subtask { index, parallelism: writers };
        let writer = |index| self.sink.writer(&rows(0..0).schema(), place(index), &from.states).unwrap();
        self.writers = (0..writers).map(writer).collect();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(writer, count) => {
                let writer = writer % self.writers.len();
                self.writers[writer].write(&rows(self.next..self.next + count)).unwrap();
                self.next += count;
            }
            Step::GivenUp => {
                self.prepare();
            }
            Step::Checkpoint(commit) => {
                let states = self.prepare();
                self.sink.commit(&std::mem::take(&mut self.late)).unwrap();
                let prepared = std::mem::take(&mut self.carried);
                self.complete = Some(Checkpoint { next: self.next, prepared: prepared.clone(), states });
                self.commit(commit, &prepared);
            }
            Step::Crash { same_process, writers } => {
                self.writers.clear();
                match same_process {
                    true => self.sink.abort(&self.complete.clone().unwrap_or_default().prepared),
                    false => self.sink = sink(self.world, self.overwrite),
                }
                self.begin(writers);
                self.committed = self.complete.is_some();
            }
        }
        if self.committed {
            self.check();
        }
    }

    fn prepare(&mut self) -> Vec<WriterState> {
        let mut states = Vec::new();
        for writer in &mut self.writers {
            let prepared = writer.checkpoint().unwrap();
            self.carried.extend(prepared.committables);
            states.push(prepared.state);
        }
        states
    }

    /// What is left out of a commit that does not come to its end is lost to this process, which crashes.
    fn commit(&mut self, commit: Commit, prepared: &[Committable]) {
        self.committed = true;
        match commit {
            Commit::Once => self.sink.commit(prepared).unwrap(),
            Commit::Twice => {
                self.sink.commit(prepared).unwrap();
                self.sink.commit(prepared).unwrap();
            }
            Commit::Late => {
                self.late = prepared.to_vec();
                self.committed = false;
            }
            Commit::Not | Commit::Half => {
                if matches!(commit, Commit::Half) {
                    self.sink.commit(&prepared[..prepared.len().min(1)]).unwrap();
                }
                self.committed = false;
                self.step(Step::Crash { same_process: matches!(commit, Commit::Half), writers: self.writers.len() });
            }
        }
    }

    /// Everything up to the last complete checkpoint is seen once, and the output of an earlier run is seen until something is.
    fn check(&self) {
        let files = self.world.files();
        let wanted = self.complete.as_ref().map_or(0, |complete| complete.next);
        assert_eq!(values(&files), (0..wanted).collect::<Vec<_>>());
        if self.overwrite {
            let old = files.values().filter(|text| text.as_str() == OLD).count();
            assert_eq!(old, if wanted == 0 { EARLIER.len() } else { 0 }, "{files:?}");
        }
    }

    fn end(mut self) {
        self.sink.commit(&self.late).unwrap();
        let mut prepared = std::mem::take(&mut self.carried);
        for writer in self.writers.drain(..) {
            prepared.extend(writer.prepare().unwrap());
        }
        self.sink.commit(&prepared).unwrap();
        self.sink.finish().unwrap();
        let files = self.world.files();
        assert_eq!(values(&files), (0..self.next).collect::<Vec<_>>());
        assert!(files.values().all(|text| text != OLD), "{files:?}");
        assert!(self.next > 0 || files.len() == 1, "{files:?}");
        assert_eq!(self.world.unfinished(), 0);
    }
}

const EARLIER: [&str; 4] = ["part-0-0.jsonl", "part-0-1.jsonl", "part-1-0.csv", "part-7-0.jsonl"];
const OLD: &str = "of an earlier run\n";

fn step() -> impl Strategy<Value = Step> {
    let commit =
        prop_oneof![Just(Commit::Not), Just(Commit::Half), Just(Commit::Once), Just(Commit::Twice), Just(Commit::Late)];
    prop_oneof![
        4 => (0usize..3, 1i64..6).prop_map(|(writer, count)| Step::Write(writer, count)),
        3 => commit.prop_map(Step::Checkpoint),
        1 => Just(Step::GivenUp),
        1 => (any::<bool>(), 1usize..4).prop_map(|(same_process, writers)| Step::Crash { same_process, writers }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_crashes_each_row_is_there_once(
        steps in proptest::collection::vec(step(), 0..25),
        writers in 1usize..4,
        overwrite in any::<bool>(),
    ) {
        for world in worlds() {
            let earlier: &[&str] = if overwrite { &EARLIER } else { &[] };
            earlier.iter().for_each(|name| world.put(name, OLD));
            let mut job = Job::new(world.as_ref(), overwrite, writers);
            steps.iter().for_each(|step| job.step(*step));
            job.end();
        }
    }
}

fn local() -> (Local, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    (Local(dir), path)
}

/// A checkpoint with a file of each of two writers, not committed, of a process that is gone.
fn crashed(world: &dyn World, overwrite: bool) -> Checkpoint {
    let mut job = Job::new(world, overwrite, 2);
    job.step(Step::Write(0, 1));
    job.step(Step::Write(1, 1));
    let states = job.prepare();
    job.step(Step::Write(0, 1));
    Checkpoint { next: 2, prepared: std::mem::take(&mut job.carried), states }
}

#[test]
fn a_crash_in_the_midst_of_the_first_commit_leaves_nothing_of_the_earlier_run() {
    for world in worlds() {
        EARLIER.iter().for_each(|name| world.put(name, OLD));
        let Checkpoint { prepared, states, .. } = crashed(world.as_ref(), true);
        // One file is in its place, and the earlier run's are still there.
        world.output().finish(&prepared[0].0).unwrap();
        let sink = sink(world.as_ref(), true);
        sink.resume(&prepared, &states).unwrap();
        let files = world.files();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["part-0-0.jsonl", "part-1-0.jsonl"]);
        assert_eq!(values(&files), [0, 1]);
    }
}

#[test]
fn names_of_an_old_writer_are_not_used_again() {
    for world in worlds() {
        let Checkpoint { prepared, states, .. } = crashed(world.as_ref(), false);
        // Committed after the checkpoint, by a run that went on from it.
        world.put("part-1-6.jsonl", "{\"v\":2}\n");
        let sink = sink(world.as_ref(), false);
        sink.resume(&prepared, &states).unwrap();
        let mut writer = sink.writer(&rows(0..0).schema(), Subtask { index: 0, parallelism: 1 }, &states).unwrap();
        writer.write(&rows(3..4)).unwrap();
        sink.commit(&writer.prepare().unwrap()).unwrap();
        let wanted = ["part-0-0.jsonl", "part-0-7.jsonl", "part-1-0.jsonl", "part-1-6.jsonl"];
        assert_eq!(world.files().keys().collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn output_that_was_removed_after_the_checkpoint_is_named() {
    for (text, wanted) in [
        (None, "part-0-0.jsonl is gone, and so is "),
        (
            Some("short"),
            "part-0-0.jsonl has 5 bytes, but 8 were written: put it back, or start the job without the checkpoint",
        ),
    ] {
        let (world, dir) = local();
        let Checkpoint { prepared, states, .. } = crashed(&world, false);
        let first = sink(&world, false);
        first.resume(&prepared, &states).unwrap();
        drop(first);
        std::fs::remove_file(dir.join("part-0-0.jsonl")).unwrap();
        if let Some(text) = text {
            world.put("part-0-0.jsonl", text);
        }
        let error = sink(&world, false).resume(&prepared, &states).unwrap_err().to_string();
        assert!(error.starts_with("the checkpoint has a file that was removed or replaced since: "), "{error}");
        assert!(error.contains(wanted), "{error}");
    }
    let world = Remote(testing::store(&[]));
    let Checkpoint { prepared, states, .. } = crashed(&world, false);
    block_on(world.0.uploads.as_ref().unwrap().abort_multipart(&"out/part-0-0.jsonl".into(), &upload(&prepared[0])))
        .unwrap()
        .unwrap();
    let error = sink(&world, false).resume(&prepared, &states).unwrap_err().to_string();
    assert!(error.starts_with("cannot complete mem://out/part-0-0.jsonl"), "{error}");
}

fn upload(prepared: &Committable) -> String {
    let prepared: serde_json::Value = serde_json::from_str(&prepared.0).unwrap();
    prepared["upload"].as_str().unwrap().to_owned()
}

#[test]
fn a_file_of_another_job_in_the_way_is_named() {
    for world in worlds() {
        let Checkpoint { prepared, states, .. } = crashed(world.as_ref(), false);
        world.put("part-0-0.jsonl", "of another job");
        let error = sink(world.as_ref(), false).resume(&prepared, &states).unwrap_err().to_string();
        assert!(error.contains("part-0-0.jsonl appeared while the job ran: does another job write"), "{error}");
        assert_eq!(world.files()["part-0-0.jsonl"], "of another job");
    }
}

#[test]
fn a_run_that_starts_anew_by_mistake_does_not_take_the_files_of_a_checkpoint() {
    let (world, _dir) = local();
    let Checkpoint { prepared, states, .. } = crashed(&world, false);
    world.output().finish(&prepared[0].0).unwrap();
    let error = sink(&world, false).start().unwrap_err().to_string();
    assert!(error.contains("part-0-0.jsonl is there already, from an earlier run"), "{error}");
    sink(&world, false).resume(&prepared, &states).unwrap();
    assert_eq!(values(&world.files()), [0, 1]);
}

#[test]
fn one_run_at_a_time_goes_on_from_a_checkpoint() {
    let (world, _dir) = local();
    let Checkpoint { prepared, states, .. } = crashed(&world, false);
    let (first, second) = (sink(&world, false), sink(&world, false));
    first.resume(&prepared, &states).unwrap();
    for error in [second.resume(&prepared, &states), second.start()] {
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("another job is writing to "), "{error}");
    }
    second.abort(&[]);
    // The same run after a failure.
    first.abort(&prepared);
    first.resume(&prepared, &states).unwrap();
    first.finish().unwrap();
    second.resume(&prepared, &states).unwrap();
    assert_eq!(values(&world.files()), [0, 1]);
}

#[test]
fn what_is_no_checkpoint_of_this_sink_is_refused() {
    let (world, _dir) = local();
    let state = WriterState("{\"offset\":1}".into());
    let error = sink(&world, false).resume(&[], std::slice::from_ref(&state)).unwrap_err().to_string();
    assert!(error.starts_with("the checkpoint has the state {\"offset\":1}, which is none of a file sink"), "{error}");
    let subtask = Subtask { index: 0, parallelism: 1 };
    assert!(sink(&world, false).writer(&rows(0..0).schema(), subtask, &[state]).is_err());
    for text in [
        "part-0-0.jsonl",
        "{\"file\":\".x.txt.inprogress-0123456789abcdef\",\"bytes\":1}",
        "{\"file\":\"../x\",\"bytes\":1}",
    ] {
        let error = sink(&world, false).resume(&[Committable(text.into())], &[]).unwrap_err().to_string();
        assert!(error.ends_with("is no file that this sink has prepared"), "{error}");
    }
}
