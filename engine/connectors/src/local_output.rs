//! A directory of this machine.
//!
//! An unfinished file has the hidden name `.<name>.inprogress-<run>` in the same directory. It is synced to disk with its name, then
//! renamed, then the directory is synced. So whoever goes on from a checkpoint finds each file that it names under one of its two
//! names, whichever process renamed it, and wherever that one died.
//!
//! That no two runs write to one place at once is seen to by a [`Marker`].

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use wasmill_runtime::connector::ConnectorError;

use crate::file_sink::EncodeError;
use crate::output::{Output, Prepare, Scope, Unfinished};
use crate::writing_marker::{self, Marker};

const BUFFER_BYTES: usize = 256 << 10;

const UNFINISHED: &str = ".inprogress-";

#[derive(Debug)]
pub(crate) struct LocalOutput {
    directory: PathBuf,
    /// Tells unfinished files of this run from those of others.
    run: String,
    /// From the start to the end of the run.
    marker: Mutex<Option<Marker>>,
}

/// What finishes a file, as its committable says it.
#[derive(Debug, Serialize, Deserialize)]
struct Prepared {
    /// The hidden name.
    file: String,
    bytes: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LocalOutput {
    pub(crate) fn new(directory: PathBuf) -> LocalOutput {
        LocalOutput { directory, run: writing_marker::run_name(), marker: Mutex::default() }
    }

    /// Where what was `prepared` is, where it will be, and its size.
    fn paths(&self, prepared: &str) -> Result<(PathBuf, PathBuf, u64), ConnectorError> {
        let read = serde_json::from_str::<Prepared>(prepared).ok();
        let paths = read.and_then(|Prepared { file, bytes }| {
            let to = self.directory.join(final_name(&file)?);
            Some((self.directory.join(&file), to, bytes))
        });
        paths.ok_or_else(|| ConnectorError::new(format!("{prepared:?} is no file in the making")))
    }

    fn all_names(&self) -> Result<Vec<String>, ConnectorError> {
        writing_marker::names(&self.directory)
            .map_err(|error| ConnectorError::new(format!("cannot list {}", self.directory.display())).caused_by(error))
    }
}

/// The name that an unfinished file, of whatever run, would have had.
fn final_name(unfinished: &str) -> Option<&str> {
    writing_marker::named(unfinished, UNFINISHED)
}

impl Output for LocalOutput {
    fn place(&self, name: Option<&str>) -> String {
        name.map_or(self.directory.clone(), |name| self.directory.join(name)).display().to_string()
    }

    /// Links are followed as far as the path is there.
    fn identity(&self) -> String {
        let path = std::path::absolute(&self.directory).unwrap_or_else(|_| self.directory.clone());
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                Component::ParentDir => {
                    plain.pop();
                }
                part => plain.push(part),
            }
        }
        plain.canonicalize().unwrap_or(plain).display().to_string()
    }

    fn refuse(&self) -> Option<String> {
        let there = self.directory.ancestors().find_map(|path| Some((path, std::fs::metadata(path).ok()?)));
        let (path, found) = there?;
        (!found.is_dir()).then(|| format!("{} is a file, where a directory is wanted", path.display()))
    }

    fn enter(&self, scope: &Scope<'_>) -> Result<(), ConnectorError> {
        self.release();
        std::fs::create_dir_all(&self.directory).map_err(|error| {
            ConnectorError::new(format!("cannot make the directory {}", self.directory.display())).caused_by(error)
        })?;
        // Without locks no leftover can be told from a file of a run that lives.
        let Some(marker) = writing_marker::mark(&self.directory, &self.run, scope.what, scope.clashes)? else {
            return Ok(());
        };
        *lock(&self.marker) = Some(marker);
        Ok(())
    }

    /// Without locks no leftover can be told from a file of a run that lives.
    fn clear(&self, ours: &dyn Fn(&str) -> bool) -> Result<(), ConnectorError> {
        if lock(&self.marker).is_none() {
            return Ok(());
        }
        let names = self.all_names()?;
        names.iter().filter(|name| final_name(name).is_some_and(ours)).try_for_each(|name| self.remove(name))
    }

    fn names(&self, one: Option<&str>) -> Result<Vec<String>, ConnectorError> {
        match one {
            Some(name) if self.directory.join(name).exists() => Ok(vec![name.to_owned()]),
            Some(_) => Ok(Vec::new()),
            None => self.all_names(),
        }
    }

    fn create(&self, name: &str) -> Result<Unfinished, ConnectorError> {
        let unfinished = format!(".{name}{UNFINISHED}{}", self.run);
        let path = self.directory.join(&unfinished);
        let place = path.display().to_string();
        let opened = File::create(&path).and_then(|file| Ok((file.try_clone()?, file)));
        let (content, file) =
            opened.map_err(|error| ConnectorError::new(format!("cannot write {place}")).caused_by(error))?;
        let content = Box::new(BufWriter::with_capacity(BUFFER_BYTES, content));
        Ok(Unfinished { place, content, end: Box::new(Synced { file, unfinished, directory: self.directory.clone() }) })
    }

    fn name_of(&self, prepared: &str) -> Option<String> {
        let (_, to, _) = self.paths(prepared).ok()?;
        to.file_name().map(|name| name.to_string_lossy().into_owned())
    }

    /// A file that is under its final name already proves nothing: another job may have put it there.
    fn finish(&self, prepared: &str) -> Result<(), ConnectorError> {
        let (from, to, _) = self.paths(prepared)?;
        std::fs::rename(&from, &to).map_err(|error| cannot_rename(&from, &to, error))
    }

    /// Of what was prepared there is one name at a time.
    fn is_taken(&self, prepared: &str) -> Result<bool, ConnectorError> {
        let (from, to, _) = self.paths(prepared)?;
        Ok(from.exists() && to.exists())
    }

    /// What lies under the final name was renamed before the crash, if it has the size.
    fn recover(&self, prepared: &str) -> Result<(), ConnectorError> {
        let (from, to, bytes) = self.paths(prepared)?;
        match std::fs::rename(&from, &to) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot_rename(&from, &to, error)),
        }
        let what = match std::fs::metadata(&to).map(|found| found.len()) {
            Ok(found) if found == bytes => return Ok(()),
            Ok(found) => format!("{} has {found} bytes, but {bytes} were written", to.display()),
            Err(_) => format!("{} is gone, and so is {}, the name that it had before", to.display(), from.display()),
        };
        Err(ConnectorError::new(format!(
            "the checkpoint has a file that was removed or replaced since: {what}: put it back, or start the job without the \
             checkpoint"
        )))
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

    /// A renamed file is only sure to be there after a crash when its directory is on disk too.
    fn settle(&self) -> Result<(), ConnectorError> {
        sync_directory(&self.directory)
            .map_err(|error| ConnectorError::new(format!("cannot sync {}", self.directory.display())).caused_by(error))
    }

    fn release(&self) {
        lock(&self.marker).take();
    }

    /// What is left is removed by the next run.
    fn abort(&self, keep: &[&str]) {
        let kept = keep.iter().filter_map(|prepared| serde_json::from_str::<Prepared>(prepared).ok());
        let kept: Vec<String> = kept.map(|prepared| prepared.file).collect();
        for name in self.all_names().unwrap_or_default() {
            if final_name(&name).is_some() && name.ends_with(&self.run) && !kept.contains(&name) {
                let _ = self.remove(&name);
            }
        }
        self.release();
    }
}

/// The path of a sink in this machine: the directory, and the file in it where `extension` says that it is one.
pub(crate) fn split(path: PathBuf, extension: &str) -> (PathBuf, Option<String>) {
    let is_file = path.extension().is_some_and(|found| found == extension) && !path.is_dir();
    match (is_file, path.parent(), path.file_name()) {
        (true, Some(parent), Some(name)) => {
            // The parent of a bare name is empty, which no call of the system takes for the current directory.
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            (parent.to_owned(), Some(name.to_string_lossy().into_owned()))
        }
        _ => (path, None),
    }
}

fn cannot_rename(from: &Path, to: &Path, error: io::Error) -> ConnectorError {
    let gone = match error.kind() {
        io::ErrorKind::NotFound => ": it is gone: did someone clear up in that directory? Run the job again",
        _ => "",
    };
    ConnectorError::new(format!("cannot rename {} to {}{gone}", from.display(), to.display())).caused_by(error)
}

/// Makes names that files were given stay through a crash.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(windows) { Ok(()) } else { File::open(directory)?.sync_all() }
}

struct Synced {
    file: File,
    unfinished: String,
    directory: PathBuf,
}

impl Prepare for Synced {
    fn prepare(self: Box<Self>) -> Result<String, EncodeError> {
        self.file.sync_all()?;
        sync_directory(&self.directory)?;
        let prepared = Prepared { file: self.unfinished, bytes: self.file.metadata()?.len() };
        Ok(serde_json::to_string(&prepared)?)
    }
}
