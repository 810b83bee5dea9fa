//! Sinks that write files. A file appears whole or not at all.
//!
//! Options of all of them, beside those of the format:
//!
//! | option | default | |
//! |---|---|---|
//! | `path` | | a directory, or (with one subtask) a file that ends in the format's extension; of this machine, or an `s3://`, `gs://` or `az://` URL |
//! | `overwrite` | `false` | replace what an earlier run left there, in whichever format, at the first commit and not before |
//! | `roll.size` | `128MiB` | a part that has this size is followed by another; in a directory only |
//! | `roll.time` | | so is one that was begun this long ago, when more rows come |
//!
//! In a directory subtask i writes `part-<i>-0.<extension>`, then `part-<i>-1.<extension>`: also where a checkpoint ends a part. A
//! subtask without rows writes nothing, but where none ever has rows one empty file with the columns is left. How a file is kept
//! out of sight until the commit is the matter of its [`Output`]. The next run removes what a crash left; while a run lives, another
//! one does not start in its place.
//!
//! A run that goes on from a checkpoint commits the parts that the checkpoint names, numbers its own beyond all that are there, and
//! removes the rest of what the crash left.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use wasmill_runtime::connector::{
    Committable, ConnectorContext, ConnectorError, Sink, SinkWriter, Subtask, WriterState,
};
use wasmill_runtime::value::{Location, Options};

use crate::contract_types;
use crate::file_writer::{FileWriter, Roll, close_empty};
use crate::files;
use crate::local_output::{self, LocalOutput};
use crate::options::{self, wrong, wrong_at};
use crate::output::{Output, Scope};
use crate::remote;
use crate::remote_output::RemoteOutput;

/// A directory holds the output of one job, which may have had another format before.
const EXTENSIONS: [&str; 3] = ["parquet", "csv", "jsonl"];

/// What a sink writes that has a directory.
const PARTS: &str = "parts";

/// The size of a part in a directory, where the job says none.
const ROLL_BYTES: u64 = 128 << 20;

pub(crate) type EncodeError = Box<dyn std::error::Error + Send + Sync>;

/// How rows become the bytes of a file.
pub(crate) trait Format: fmt::Debug + Send + Sync {
    /// Without the dot.
    fn extension(&self) -> &'static str;
    /// Says why it cannot hold the columns, if so.
    fn refuse(&self, schema: &SchemaRef) -> Option<String>;
    fn encoder(&self, schema: &SchemaRef, file: Box<dyn Write + Send>) -> Result<Box<dyn Encoder>, EncodeError>;
}

/// One file being written.
pub(crate) trait Encoder: Send {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), EncodeError>;
    /// About how many bytes are still to be written of the rows so far.
    fn buffered_bytes(&self) -> usize;
    /// Writes what comes last, and flushes.
    fn finish(self: Box<Self>) -> Result<(), EncodeError>;
}

/// Writes files of one format.
#[derive(Debug)]
pub(crate) struct FileSink {
    target: Target,
    overwrite: bool,
    run: Arc<Mutex<Run>>,
    /// What the last commit has put in place, so that it can be repeated: a file of the wanted name proves nothing. Locked
    /// through a commit, while writers go on.
    finished: Mutex<HashSet<String>>,
}

/// Where and how the sink and its writers write.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub format: Arc<dyn Format>,
    pub output: Arc<dyn Output>,
    /// The one file of the sink, where the path names one.
    pub file: Option<String>,
    pub roll: Roll,
}

/// What the sink and its writers know of the run, which may be one that goes on from a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// That of the writers.
    schema: Option<SchemaRef>,
    /// No part has this number or a larger one.
    first_part: u64,
    /// Has any part been prepared, also before the checkpoint?
    pub wrote: bool,
    /// What an earlier run left and the first commit replaces; `None` where nothing is to be replaced, or has been.
    pub earlier: Option<BTreeSet<String>>,
}

/// What a writer leaves in a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// The number of the writer's next part.
    pub next_part: u64,
    pub wrote: bool,
    /// As [`Run::earlier`]; the first writer's counts. With `overwrite` the files of this run cannot be told from those of the
    /// earlier one by their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<BTreeSet<String>>,
}

impl State {
    fn all(states: &[WriterState]) -> Result<Vec<State>, ConnectorError> {
        let read = |state: &WriterState| {
            serde_json::from_str(&state.0).map_err(|error| {
                let message = format!(
                    "the checkpoint has the state {}, which is none of a file sink: has the job got another sink since? Give back \
                     what it was, or start the job without the checkpoint",
                    state.0
                );
                ConnectorError::new(message).caused_by(error)
            })
        };
        states.iter().map(read).collect()
    }
}

impl FileSink {
    pub(crate) fn new(context: ConnectorContext<'_>, format: Arc<dyn Format>) -> Result<FileSink, ConnectorError> {
        let given = options::path(context.options)?;
        let overwrite = context.options.boolean("overwrite").map_err(wrong)?.unwrap_or(false);
        let roll = Rolling::new(context.options)?;
        let path = match files::url_of(&given)? {
            // A job file in the current directory: names as the job wrote them.
            None if context.base == Path::new(".") => PathBuf::from(&given),
            None => context.base.join(&given),
            Some(url) if url.scheme() == "file" => files::local_path(&url)?,
            Some(url) => {
                let (store, key) = remote::open(&url)?;
                let is_file = key.extension() == Some(format.extension());
                let file = key.filename().filter(|_| is_file).map(str::to_owned);
                let folder = match &file {
                    Some(_) => key.parts().take(key.parts().count() - 1).collect(),
                    None => key,
                };
                let roll = roll.of(file.as_deref())?;
                let output = Arc::new(RemoteOutput::new(Arc::new(store), folder)?);
                return Ok(FileSink::to(Target { format, output, file, roll }, overwrite));
            }
        };
        let (directory, file) = local_output::split(path, format.extension());
        let roll = roll.of(file.as_deref())?;
        Ok(FileSink::to(Target { format, output: Arc::new(LocalOutput::new(directory)), file, roll }, overwrite))
    }

    pub(crate) fn to(target: Target, overwrite: bool) -> FileSink {
        FileSink { target, overwrite, run: Arc::default(), finished: Mutex::default() }
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        lock(&self.run)
    }

    /// The run begins as `begun` says, or has not begun.
    fn note(&self, begun: Result<Run, ConnectorError>) -> Result<(), ConnectorError> {
        match begun {
            Ok(run) => {
                *self.run() = run;
                Ok(())
            }
            Err(error) => {
                self.target.output.release();
                Err(error)
            }
        }
    }

    fn enter(&self) -> Result<(), ConnectorError> {
        let target = &self.target;
        let what = target.file.as_deref().unwrap_or(PARTS);
        target.output.enter(&Scope { what, clashes: &|what| target.clashes(what) })
    }

    /// As [`Sink::start`], in the place that is this run's now.
    fn begin(&self) -> Result<Run, ConnectorError> {
        let target = &self.target;
        // Asked for with `overwrite` too: a place that cannot be reached is told before the work is done.
        let earlier = target.parts()?;
        if let (Some(name), false) = (earlier.first(), self.overwrite) {
            return Err(ConnectorError::new(format!(
                "{} is there already, from an earlier run: remove it, give another path, or set overwrite: true",
                target.output.place(Some(name))
            )));
        }
        target.output.clear(&|name| target.is_ours(name))?;
        lock(&self.finished).clear();
        Ok(Run { earlier: self.overwrite.then_some(earlier), ..Run::default() })
    }

    /// As [`Sink::resume`], in the place that is this run's now.
    fn go_on(&self, prepared: &[Committable], states: &[WriterState]) -> Result<Run, ConnectorError> {
        let (target, output) = (&self.target, &self.target.output);
        let states = State::all(states)?;
        let names = self.names_of(prepared)?;
        for file in prepared {
            if !self.overwrite && output.is_taken(&file.0)? {
                return Err(self.appeared(&file.0));
            }
            output.recover(&file.0)?;
        }
        let mut run = Run {
            schema: None,
            first_part: states.iter().map(|state| state.next_part).max().unwrap_or(0),
            wrote: !prepared.is_empty() || states.iter().any(|state| state.wrote),
            earlier: states.into_iter().find_map(|state| state.earlier),
        };
        if run.wrote {
            // The first commit is behind, though the crash may have come before its end.
            let earlier = run.earlier.take().unwrap_or_default();
            earlier.difference(&names).try_for_each(|name| output.remove(name))?;
        }
        output.settle()?;
        output.clear(&|name| target.is_ours(name))?;
        *lock(&self.finished) = prepared.iter().map(|file| file.0.clone()).collect();
        let beyond = target.parts()?.iter().filter_map(|name| number_of(name)).map(|number| number + 1).max();
        run.first_part = run.first_part.max(beyond.unwrap_or(0));
        Ok(run)
    }

    /// The names that files which are prepared will have; each must be one of this sink's.
    fn names_of(&self, prepared: &[Committable]) -> Result<BTreeSet<String>, ConnectorError> {
        let name = |file: &Committable| {
            let name = self.target.output.name_of(&file.0).filter(|name| self.target.is_ours(name));
            name.ok_or_else(|| ConnectorError::new(format!("{:?} is no file that this sink has prepared", file.0)))
        };
        prepared.iter().map(name).collect()
    }

    fn appeared(&self, prepared: &str) -> ConnectorError {
        ConnectorError::new(format!(
            "{} appeared while the job ran: does another job write to that place, or was this one started twice? \
             Give each its own path, move the file away and run again",
            self.target.output.place(self.target.output.name_of(prepared).as_deref())
        ))
    }
}

/// The options `roll.size` and `roll.time`.
struct Rolling {
    size: (Location, Option<u64>),
    time: (Location, Option<Duration>),
}

impl Rolling {
    fn new(options: &mut Options) -> Result<Rolling, ConnectorError> {
        let places = [options.at("roll.size"), options.at("roll.time")];
        let size = options.bytes("roll.size").map_err(wrong)?;
        let time = options.duration("roll.time").map_err(wrong)?;
        if size == Some(0) {
            return Err(wrong_at(places[0], "roll.size", "is 0; at least one byte is wanted"));
        }
        if time == Some(Duration::ZERO) {
            return Err(wrong_at(places[1], "roll.time", "is 0; at least 1ms is wanted"));
        }
        Ok(Rolling { size: (places[0], size), time: (places[1], time) })
    }

    /// One file cannot be followed by another.
    fn of(self, file: Option<&str>) -> Result<Roll, ConnectorError> {
        let Some(file) = file else {
            return Ok(Roll { bytes_max: self.size.1.unwrap_or(ROLL_BYTES), time_max: self.time.1 });
        };
        let given =
            [("roll.size", self.size.0, self.size.1.is_some()), ("roll.time", self.time.0, self.time.1.is_some())];
        match given.into_iter().find(|(_, _, given)| *given) {
            None => Ok(Roll { bytes_max: u64::MAX, time_max: None }),
            Some((key, at, _)) => {
                let message = format!("is given, but path is one file, {file}: remove it, or give a directory as path");
                Err(wrong_at(at, key, message))
            }
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Target {
    /// Is it the name of an output file of this sink, or of one that wrote here before it?
    fn is_ours(&self, name: &str) -> bool {
        self.file.as_ref().map_or_else(|| is_part(name), |file| name == file)
    }

    /// Could a sink that writes `what` write a file of this one?
    fn clashes(&self, what: &str) -> bool {
        match &self.file {
            None => what == PARTS || is_part(what),
            Some(file) => what == file || (what == PARTS && is_part(file)),
        }
    }

    /// The files of this sink, or of one that wrote here before it, that are there.
    fn parts(&self) -> Result<BTreeSet<String>, ConnectorError> {
        let names = self.output.names(self.file.as_deref())?;
        Ok(names.into_iter().filter(|name| self.is_ours(name)).collect())
    }

    /// The name of what subtask `index` writes as its part `number`.
    pub(crate) fn name(&self, index: usize, number: u64) -> String {
        self.file.clone().unwrap_or_else(|| format!("part-{index}-{number}.{}", self.format.extension()))
    }

    fn place(&self) -> String {
        self.output.place(self.file.as_deref())
    }

    /// Why it cannot take part in checkpoints.
    pub(crate) fn refuse_checkpoints(&self) -> Option<String> {
        let file = self.file.as_ref()?;
        let path = self.place();
        let directory = path.strip_suffix(&format!(".{}", self.format.extension())).unwrap_or(&path);
        Some(format!(
            "path: {file} is one file, which can only appear whole, at the end, while a checkpoint keeps what is written so far: \
             give a directory, such as {directory}, where each checkpoint adds files"
        ))
    }
}

/// Is it the name of a file in a directory that a sink, of whatever format, writes?
fn is_part(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    part_numbers(name).is_some_and(|(subtask, part)| is_number(subtask) && is_number(part))
}

fn part_numbers(name: &str) -> Option<(&str, &str)> {
    let (numbers, extension) = name.strip_prefix("part-")?.split_once('.')?;
    EXTENSIONS.contains(&extension).then_some(numbers)?.split_once('-')
}

/// Which of its subtask's parts has this name? One beyond all numbers is of nobody.
fn number_of(name: &str) -> Option<u64> {
    part_numbers(name)?.1.parse().ok().filter(|number| *number < u64::MAX)
}

impl Sink for FileSink {
    fn accept(&self, schema: &SchemaRef) -> Result<(), ConnectorError> {
        let Target { format, output, file, .. } = &self.target;
        if let Some(message) = output.refuse() {
            let extension = format.extension();
            let advice = match file {
                None => format!("give another path, or one that ends in .{extension} for one file"),
                Some(_) => "give another path".to_owned(),
            };
            return Err(ConnectorError::new(format!("path: {message}: {advice}")));
        }
        let refused = contract_types::unsupported(schema).or_else(|| format.refuse(schema));
        refused.map_or(Ok(()), |message| Err(ConnectorError::new(message)))
    }

    fn start(&self) -> Result<(), ConnectorError> {
        self.enter()?;
        self.note(self.begin())
    }

    fn resume(&self, prepared: &[Committable], states: &[WriterState]) -> Result<(), ConnectorError> {
        if let Some(message) = self.refuse_checkpoints() {
            return Err(ConnectorError::new(message));
        }
        self.enter()?;
        self.note(self.go_on(prepared, states))
    }

    fn writer(
        &self,
        schema: &SchemaRef,
        subtask: Subtask,
        from: &[WriterState],
    ) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        if self.target.file.is_some() && subtask.parallelism > 1 {
            let message = format!(
                "{} is one file, but {} subtasks write: give a directory as path, or parallelism: 1",
                self.target.place(),
                subtask.parallelism
            );
            return Err(ConnectorError::new(message));
        }
        let next = State::all(from)?.iter().map(|state| state.next_part).max().unwrap_or(0);
        let mut run = self.run();
        run.schema = Some(Arc::clone(schema));
        let part = next.max(run.first_part);
        drop(run);
        let (target, run) = (self.target.clone(), Arc::clone(&self.run));
        Ok(Box::new(FileWriter::new(target, run, Arc::clone(schema), subtask.index, part)))
    }

    fn commit(&self, prepared: &[Committable]) -> Result<(), ConnectorError> {
        let (target, output) = (&self.target, &self.target.output);
        let names = self.names_of(prepared)?;
        if names.is_empty() {
            return Ok(());
        }
        let mut finished = lock(&self.finished);
        finished.retain(|done| prepared.iter().any(|file| file.0 == *done));
        // A commit that is repeated finds its files there.
        let files: Vec<&String> =
            prepared.iter().map(|file| &file.0).filter(|file| !finished.contains(*file)).collect();
        if !self.overwrite {
            for file in &files {
                let name = output.name_of(file);
                if !output.names(name.as_deref())?.is_empty() {
                    return Err(self.appeared(file));
                }
            }
        }
        for file in files {
            output.finish(file)?;
            finished.insert(file.clone());
        }
        if self.run().earlier.is_some() {
            // Nothing of this run was there before.
            target.parts()?.difference(&names).try_for_each(|name| output.remove(name))?;
        }
        output.settle()?;
        let mut run = self.run();
        run.earlier = None;
        run.wrote = true;
        Ok(())
    }

    fn finish(&self) -> Result<(), ConnectorError> {
        let run = self.run();
        let (schema, part) = (run.schema.clone().filter(|_| !run.wrote), run.first_part);
        drop(run);
        if let Some(schema) = schema {
            let empty = close_empty(&self.target, &self.target.name(0, part), &schema)?;
            self.commit(&[empty])?;
        }
        self.target.output.release();
        Ok(())
    }

    fn abort(&self, keep: &[Committable]) {
        let keep: Vec<&str> = keep.iter().map(|file| file.0.as_str()).collect();
        self.target.output.abort(&keep);
    }

    fn claim(&self) -> Option<String> {
        let folder = self.target.output.identity();
        Some(
            self.target.file.as_ref().map_or(folder.clone(), |file| format!("{}/{file}", folder.trim_end_matches('/'))),
        )
    }

    fn location(&self) -> String {
        self.target.place()
    }

    fn refuse_checkpoints(&self) -> Option<String> {
        self.target.refuse_checkpoints()
    }
}

#[cfg(test)]
#[path = "file_sink_tests.rs"]
mod tests;
