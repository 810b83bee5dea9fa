//! Sinks that write files. A file appears whole or not at all.
//!
//! Options of all of them, beside those of the format:
//!
//! | option | default | |
//! |---|---|---|
//! | `path` | | a directory, or (with one subtask) a file that ends in the format's extension |
//! | `overwrite` | `false` | replace what an earlier run left there, at the commit and not before |
//!
//! In a directory subtask i writes `part-<i>-0.<extension>`; a subtask without rows writes nothing, but where none has rows one
//! empty file with the columns is left. Until the commit a file has the hidden name `.part-<i>-0.<extension>.inprogress-<run>`
//! in the same directory: it is synced to disk, then renamed, then the directory is synced. The next run removes what a crash
//! left under such names, so two jobs must not write to one directory at once.

use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wasmill_runtime::connector::{Committable, ConnectorContext, ConnectorError, Sink, SinkWriter, Subtask};

use crate::contract_types;
use crate::files;
use crate::options::wrong;

const BUFFER_BYTES: usize = 256 << 10;

const MARK: &str = ".inprogress-";

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
    format: Arc<dyn Format>,
    directory: PathBuf,
    /// The one file of the sink, where the path names one.
    file: Option<String>,
    overwrite: bool,
    /// Tells temporary files of this run from those of others.
    run: String,
    state: Mutex<State>,
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
        let given = context.options.required_string("path").map_err(wrong)?;
        let overwrite = context.options.boolean("overwrite").map_err(wrong)?.unwrap_or(false);
        let path = match files::url_of(&given)? {
            // A job file in the current directory: names as the job wrote them.
            None if context.base == Path::new(".") => PathBuf::from(&given),
            None => context.base.join(&given),
            Some(url) if url.scheme() == "file" => files::local_path(&url)?,
            Some(url) => {
                let message = format!(
                    "path: {url}: sinks write to this machine only: give a path or file://…, and copy it from there"
                );
                return Err(ConnectorError::new(message));
            }
        };
        let is_file = path.extension().is_some_and(|found| found == format.extension()) && !path.is_dir();
        let (directory, file) = match (is_file, path.parent(), path.file_name()) {
            (true, Some(parent), Some(name)) => {
                // The parent of a bare name is empty, which no call of the system takes for the current directory.
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                (parent.to_owned(), Some(name.to_string_lossy().into_owned()))
            }
            _ => (path, None),
        };
        let run = format!("{:016x}", RandomState::new().build_hasher().finish());
        Ok(FileSink { format, directory, file, overwrite, run, state: Mutex::default() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extension(&self) -> &'static str {
        self.format.extension()
    }

    /// The final name of a temporary file of ours, of whatever run.
    fn final_name<'a>(&self, temporary: &'a str) -> Option<&'a str> {
        let (name, run) = temporary.strip_prefix('.')?.rsplit_once(MARK)?;
        (self.is_ours(name) && run.len() == 16 && run.bytes().all(|b| b.is_ascii_hexdigit())).then_some(name)
    }

    /// Is it the name of an output file of this sink?
    fn is_ours(&self, name: &str) -> bool {
        if let Some(file) = &self.file {
            return name == file;
        }
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        name.strip_prefix("part-")
            .and_then(|rest| rest.strip_suffix(self.extension())?.strip_suffix('.')?.split_once('-'))
            .is_some_and(|(subtask, part)| number(subtask) && number(part))
    }

    fn names(&self) -> Result<Vec<String>, ConnectorError> {
        let listed = std::fs::read_dir(&self.directory).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
        });
        listed
            .map_err(|error| ConnectorError::new(format!("cannot list {}", self.directory.display())).caused_by(error))
    }

    fn remove(&self, name: &str) -> Result<(), ConnectorError> {
        let path = self.directory.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ConnectorError::new(format!("cannot remove {}", path.display())).caused_by(error))
            }
            _ => Ok(()),
        }
    }

    /// A new file under a temporary name.
    fn create(&self, name: &str, schema: &SchemaRef) -> Result<Open, ConnectorError> {
        let temporary = format!(".{name}{MARK}{}", self.run);
        let path = self.directory.join(&temporary);
        let cannot = |error: EncodeError| cannot_write(&path, error);
        let file = File::create(&path).map_err(|error| cannot(error.into()))?;
        let copy = file.try_clone().map_err(|error| cannot(error.into()))?;
        let buffered = Box::new(BufWriter::with_capacity(BUFFER_BYTES, copy));
        let encoder = self.format.encoder(schema, buffered).map_err(cannot)?;
        Ok(Open { path, temporary, file, encoder })
    }

    fn rename(&self, temporary: &str) -> Result<(), ConnectorError> {
        let Some(name) = self.final_name(temporary) else {
            return Err(ConnectorError::new(format!("{temporary:?} is no file that this sink has prepared")));
        };
        let (from, to) = (self.directory.join(temporary), self.directory.join(name));
        let exists = to.exists();
        if !from.exists() && exists {
            // A commit that is repeated.
            return Ok(());
        }
        if exists && !self.overwrite {
            let message = format!("{} appeared while the job ran: move it away and run again", to.display());
            return Err(ConnectorError::new(message));
        }
        std::fs::rename(&from, &to).map_err(|error| {
            ConnectorError::new(format!("cannot rename {} to {}", from.display(), to.display())).caused_by(error)
        })
    }

    /// What earlier runs left, except the names in `kept`.
    fn remove_earlier(&self, kept: &[&str]) -> Result<(), ConnectorError> {
        let earlier = self.names()?;
        earlier
            .iter()
            .filter(|name| self.is_ours(name) && !kept.contains(&name.as_str()))
            .try_for_each(|name| self.remove(name))
    }
}

impl Sink for FileSink {
    fn accept(&self, schema: &SchemaRef) -> Result<(), ConnectorError> {
        let refused = contract_types::unsupported(schema).or_else(|| self.format.refuse(schema));
        refused.map_or(Ok(()), |message| Err(ConnectorError::new(message)))
    }

    fn start(&self) -> Result<(), ConnectorError> {
        std::fs::create_dir_all(&self.directory).map_err(|error| {
            ConnectorError::new(format!("cannot make the directory {}", self.directory.display())).caused_by(error)
        })?;
        let names = self.names()?;
        if !self.overwrite
            && let Some(name) = names.iter().find(|name| self.is_ours(name))
        {
            let message = format!(
                "{} is there already, from an earlier run: remove it, give another path, or set overwrite: true",
                self.directory.join(name).display()
            );
            return Err(ConnectorError::new(message));
        }
        names.iter().filter(|name| self.final_name(name).is_some()).try_for_each(|name| self.remove(name))
    }

    fn writer(&self, schema: &SchemaRef, subtask: Subtask) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        if let Some(file) = &self.file
            && subtask.parallelism > 1
        {
            let message = format!(
                "{} is one file, but {} subtasks write: give a directory as path, or parallelism: 1",
                self.directory.join(file).display(),
                subtask.parallelism
            );
            return Err(ConnectorError::new(message));
        }
        self.state().schema = Some(Arc::clone(schema));
        let name = self.file.clone().unwrap_or_else(|| part_name(subtask.index, self.extension()));
        Ok(Box::new(FileWriter { sink: self.same(), schema: Arc::clone(schema), name, open: None }))
    }

    fn commit(&self, prepared: &[Committable]) -> Result<(), ConnectorError> {
        let mut state = self.state();
        let mut temporaries: Vec<String> = prepared.iter().map(|one| one.0.clone()).collect();
        if temporaries.is_empty()
            && !state.committed
            && let Some(schema) = &state.schema
        {
            let name = self.file.clone().unwrap_or_else(|| part_name(0, self.extension()));
            temporaries.push(self.create(&name, schema)?.close()?);
        }
        temporaries.iter().try_for_each(|temporary| self.rename(temporary))?;
        if self.overwrite && !state.committed {
            let kept: Vec<&str> = temporaries.iter().filter_map(|temporary| self.final_name(temporary)).collect();
            self.remove_earlier(&kept)?;
        }
        state.committed = true;
        sync_directory(&self.directory)
    }

    /// What cannot be removed is removed by the next run.
    fn abort(&self) {
        let Ok(names) = self.names() else { return };
        for name in names.iter().filter(|name| self.final_name(name).is_some() && name.ends_with(&self.run)) {
            let _ = self.remove(name);
        }
    }

    fn claim(&self) -> Option<String> {
        // The same folder can be spelt in several ways; links are followed as far as the path is there.
        let path = std::path::absolute(&self.directory).unwrap_or_else(|_| self.directory.clone());
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                std::path::Component::ParentDir => {
                    plain.pop();
                }
                part => plain.push(part),
            }
        }
        let plain = plain.canonicalize().unwrap_or(plain);
        Some(self.file.as_ref().map_or(plain.clone(), |file| plain.join(file)).display().to_string())
    }

    fn location(&self) -> String {
        self.file.as_ref().map_or(self.directory.clone(), |file| self.directory.join(file)).display().to_string()
    }
}

impl FileSink {
    /// For the writers: they create files as this sink would.
    fn same(&self) -> FileSink {
        FileSink {
            format: Arc::clone(&self.format),
            directory: self.directory.clone(),
            file: self.file.clone(),
            overwrite: self.overwrite,
            run: self.run.clone(),
            state: Mutex::default(),
        }
    }
}

fn part_name(subtask: usize, extension: &str) -> String {
    format!("part-{subtask}-0.{extension}")
}

fn cannot_write(path: &Path, error: EncodeError) -> ConnectorError {
    ConnectorError { message: format!("cannot write {}", path.display()), retry: false, source: Some(error) }
}

/// A renamed file is only sure to be there after a crash when its directory is on disk too.
fn sync_directory(directory: &Path) -> Result<(), ConnectorError> {
    if cfg!(windows) {
        return Ok(());
    }
    let synced = File::open(directory).and_then(|file| file.sync_all());
    synced.map_err(|error| ConnectorError::new(format!("cannot sync {}", directory.display())).caused_by(error))
}

struct Open {
    path: PathBuf,
    temporary: String,
    file: File,
    encoder: Box<dyn Encoder>,
}

impl Open {
    /// Brings it to disk and tells its temporary name.
    fn close(self) -> Result<String, ConnectorError> {
        self.encoder.finish().map_err(|error| cannot_write(&self.path, error))?;
        self.file.sync_all().map_err(|error| cannot_write(&self.path, error.into()))?;
        Ok(self.temporary)
    }
}

struct FileWriter {
    sink: FileSink,
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
            None => self.open.insert(self.sink.create(&self.name, &self.schema)?),
        };
        open.encoder.write(rows).map_err(|error| cannot_write(&open.path, error))
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
