//! Sinks that write files. A file appears whole or not at all.
//!
//! Options of all of them, beside those of the format:
//!
//! | option | default | |
//! |---|---|---|
//! | `path` | | a directory, or (with one subtask) a file that ends in the format's extension; of this machine, or an `s3://`, `gs://` or `az://` URL |
//! | `overwrite` | `false` | replace what an earlier run left there, in whichever format, at the commit and not before |
//!
//! In a directory subtask i writes `part-<i>-0.<extension>`; a subtask without rows writes nothing, but where none has rows one
//! empty file with the columns is left. How a file is kept out of sight until the commit is the matter of its [`Output`]. The next
//! run removes what a crash left; while a run lives, another one does not start in its place.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wasmill_runtime::connector::{Committable, ConnectorContext, ConnectorError, Sink, SinkWriter, Subtask};

use crate::contract_types;
use crate::files;
use crate::local_output::{self, LocalOutput};
use crate::options::{self, wrong};
use crate::output::{Output, Prepare, Scope, Unfinished};
use crate::remote;
use crate::remote_output::RemoteOutput;

/// A directory holds the output of one job, which may have had another format before.
const EXTENSIONS: [&str; 3] = ["parquet", "csv", "jsonl"];

/// What a sink writes that has a directory.
const PARTS: &str = "parts";

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
    /// Writes what comes last, and flushes.
    fn finish(self: Box<Self>) -> Result<(), EncodeError>;
}

/// Writes files of one format.
#[derive(Debug)]
pub(crate) struct FileSink {
    target: Target,
    overwrite: bool,
    state: Mutex<State>,
}

/// What the sink and its writers share.
#[derive(Debug, Clone)]
struct Target {
    format: Arc<dyn Format>,
    output: Arc<dyn Output>,
    /// The one file of the sink, where the path names one.
    file: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    /// That of the writers.
    schema: Option<SchemaRef>,
    /// A commit left at least one file.
    committed: bool,
}

impl FileSink {
    pub(crate) fn new(context: ConnectorContext<'_>, format: Arc<dyn Format>) -> Result<FileSink, ConnectorError> {
        let given = options::path(context.options)?;
        let overwrite = context.options.boolean("overwrite").map_err(wrong)?.unwrap_or(false);
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
                return Ok(FileSink::to(
                    format,
                    Arc::new(RemoteOutput::new(Arc::new(store), folder)?),
                    file,
                    overwrite,
                ));
            }
        };
        let (directory, file) = local_output::split(path, format.extension());
        Ok(FileSink::to(format, Arc::new(LocalOutput::new(directory)), file, overwrite))
    }

    pub(crate) fn to(
        format: Arc<dyn Format>,
        output: Arc<dyn Output>,
        file: Option<String>,
        overwrite: bool,
    ) -> FileSink {
        FileSink { target: Target { format, output, file }, overwrite, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

    fn earlier(&self) -> Result<Vec<String>, ConnectorError> {
        let mut names = self.output.names(self.file.as_deref())?;
        names.retain(|name| self.is_ours(name));
        names.sort();
        Ok(names)
    }

    /// The name of what subtask `index` writes.
    fn name(&self, index: usize) -> String {
        self.file.clone().unwrap_or_else(|| format!("part-{index}-0.{}", self.format.extension()))
    }

    fn place(&self) -> String {
        self.output.place(self.file.as_deref())
    }

    fn create(&self, name: &str, schema: &SchemaRef) -> Result<Open, ConnectorError> {
        let Unfinished { place, content, end } = self.output.create(name)?;
        match self.format.encoder(schema, content) {
            Ok(encoder) => Ok(Open { place, encoder, end }),
            Err(error) => Err(cannot_write(&place, error)),
        }
    }
}

/// Is it the name of a file in a directory that a sink, of whatever format, writes?
fn is_part(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts = name.strip_prefix("part-").and_then(|rest| {
        let (numbers, extension) = rest.split_once('.')?;
        EXTENSIONS.contains(&extension).then_some(numbers)?.split_once('-')
    });
    parts.is_some_and(|(subtask, part)| is_number(subtask) && is_number(part))
}

impl Sink for FileSink {
    fn accept(&self, schema: &SchemaRef) -> Result<(), ConnectorError> {
        let Target { format, output, file } = &self.target;
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
        let target = &self.target;
        let what = target.file.as_deref().unwrap_or(PARTS);
        target.output.start(&Scope {
            what,
            clashes: &|what| target.clashes(what),
            ours: &|name| target.is_ours(name),
        })?;
        // Asked for with `overwrite` too: a place that cannot be reached is told before the work is done.
        let earlier = target.earlier().and_then(|earlier| match earlier.first() {
            Some(name) if !self.overwrite => Err(ConnectorError::new(format!(
                "{} is there already, from an earlier run: remove it, give another path, or set overwrite: true",
                target.output.place(Some(name))
            ))),
            _ => Ok(()),
        });
        if earlier.is_err() {
            target.output.release();
        }
        earlier
    }

    fn writer(&self, schema: &SchemaRef, subtask: Subtask) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        if self.target.file.is_some() && subtask.parallelism > 1 {
            let message = format!(
                "{} is one file, but {} subtasks write: give a directory as path, or parallelism: 1",
                self.target.place(),
                subtask.parallelism
            );
            return Err(ConnectorError::new(message));
        }
        self.state().schema = Some(Arc::clone(schema));
        let name = self.target.name(subtask.index);
        Ok(Box::new(FileWriter { target: self.target.clone(), schema: Arc::clone(schema), name, open: None }))
    }

    fn commit(&self, prepared: &[Committable]) -> Result<(), ConnectorError> {
        let mut state = self.state();
        let (target, output) = (&self.target, &self.target.output);
        let mut files: Vec<String> = prepared.iter().map(|one| one.0.clone()).collect();
        if files.is_empty()
            && !state.committed
            && let Some(schema) = &state.schema
        {
            files.push(target.create(&target.name(0), schema)?.close()?);
        }
        let mut names = Vec::with_capacity(files.len());
        for file in &files {
            let name = output.name_of(file).filter(|name| target.is_ours(name));
            names.push(
                name.ok_or_else(|| ConnectorError::new(format!("{file:?} is no file that this sink has prepared")))?,
            );
        }
        // A commit that is repeated finds its files there.
        files.retain(|file| !output.is_finished(file));
        if !self.overwrite && !files.is_empty() {
            let wanted: Vec<String> = files.iter().filter_map(|file| output.name_of(file)).collect();
            if let Some(name) = target.earlier()?.iter().find(|name| wanted.contains(name)) {
                return Err(ConnectorError::new(format!(
                    "{} appeared while the job ran: does another job write to that place, or was this one started twice? \
                     Give each its own path, move the file away and run again",
                    output.place(Some(name))
                )));
            }
        }
        files.iter().try_for_each(|file| output.finish(file))?;
        if self.overwrite && !state.committed {
            let earlier = target.earlier()?;
            earlier.iter().filter(|name| !names.contains(name)).try_for_each(|name| output.remove(name))?;
        }
        state.committed = true;
        output.settle()?;
        output.release();
        Ok(())
    }

    fn abort(&self) {
        self.target.output.abort();
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
}

fn cannot_write(place: &str, error: EncodeError) -> ConnectorError {
    ConnectorError { message: format!("cannot write {place}"), retry: false, source: Some(error) }
}

struct Open {
    place: String,
    encoder: Box<dyn Encoder>,
    end: Box<dyn Prepare>,
}

impl Open {
    /// What the commit needs to finish it.
    fn close(self) -> Result<String, ConnectorError> {
        let finished = self.encoder.finish().and_then(|()| self.end.prepare());
        finished.map_err(|error| cannot_write(&self.place, error))
    }
}

struct FileWriter {
    target: Target,
    schema: SchemaRef,
    name: String,
    open: Option<Open>,
}

impl SinkWriter for FileWriter {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), ConnectorError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(self.target.create(&self.name, &self.schema)?),
        };
        open.encoder.write(rows).map_err(|error| cannot_write(&open.place, error))
    }

    /// Nothing is seen before the commit, so there is nothing to hurry.
    fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn prepare(self: Box<Self>) -> Result<Vec<Committable>, ConnectorError> {
        self.open.map_or(Ok(Vec::new()), |open| Ok(vec![Committable(open.close()?)]))
    }
}

#[cfg(test)]
#[path = "file_sink_tests.rs"]
mod tests;
