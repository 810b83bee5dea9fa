//! A directory of this machine.
//!
//! An unfinished file has the hidden name `.<name>.inprogress-<run>` in the same directory. It is synced to disk, then renamed, then
//! the directory is synced.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufWriter};
use std::path::{Component, Path, PathBuf};

use wasmill_runtime::connector::ConnectorError;

use crate::file_sink::EncodeError;
use crate::output::{Output, Prepare, Unfinished};

const BUFFER_BYTES: usize = 256 << 10;

const MARK: &str = ".inprogress-";

#[derive(Debug)]
pub(crate) struct LocalOutput {
    directory: PathBuf,
    /// Tells unfinished files of this run from those of others.
    run: String,
}

impl LocalOutput {
    pub(crate) fn new(directory: PathBuf) -> LocalOutput {
        LocalOutput { directory, run: format!("{:016x}", RandomState::new().build_hasher().finish()) }
    }

    fn all_names(&self) -> Result<Vec<String>, ConnectorError> {
        let listed = std::fs::read_dir(&self.directory).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
        });
        listed
            .map_err(|error| ConnectorError::new(format!("cannot list {}", self.directory.display())).caused_by(error))
    }
}

/// The name that an unfinished file, of whatever run, would have had.
fn final_name(unfinished: &str) -> Option<&str> {
    let (name, run) = unfinished.strip_prefix('.')?.rsplit_once(MARK)?;
    (run.len() == 16 && run.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
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

    fn start(&self, ours: &dyn Fn(&str) -> bool) -> Result<(), ConnectorError> {
        std::fs::create_dir_all(&self.directory).map_err(|error| {
            ConnectorError::new(format!("cannot make the directory {}", self.directory.display())).caused_by(error)
        })?;
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
        let unfinished = format!(".{name}{MARK}{}", self.run);
        let path = self.directory.join(&unfinished);
        let place = path.display().to_string();
        let opened = File::create(&path).and_then(|file| Ok((file.try_clone()?, file)));
        let (content, file) =
            opened.map_err(|error| ConnectorError::new(format!("cannot write {place}")).caused_by(error))?;
        let content = Box::new(BufWriter::with_capacity(BUFFER_BYTES, content));
        Ok(Unfinished { place, content, end: Box::new(Synced { file, unfinished }) })
    }

    fn name_of(&self, prepared: &str) -> Option<String> {
        final_name(prepared).map(str::to_owned)
    }

    fn is_finished(&self, prepared: &str) -> bool {
        let there = |name: &str| self.directory.join(name).exists();
        !there(prepared) && final_name(prepared).is_some_and(there)
    }

    fn finish(&self, prepared: &str) -> Result<(), ConnectorError> {
        let name = final_name(prepared).unwrap_or(prepared);
        let (from, to) = (self.directory.join(prepared), self.directory.join(name));
        std::fs::rename(&from, &to).map_err(|error| {
            let gone = match error.kind() {
                io::ErrorKind::NotFound => {
                    ": it is gone; did another job, or this one a second time, start in that directory?"
                }
                _ => "",
            };
            ConnectorError::new(format!("cannot rename {} to {}{gone}", from.display(), to.display())).caused_by(error)
        })
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
        if cfg!(windows) {
            return Ok(());
        }
        let synced = File::open(&self.directory).and_then(|file| file.sync_all());
        synced
            .map_err(|error| ConnectorError::new(format!("cannot sync {}", self.directory.display())).caused_by(error))
    }

    /// What is left is removed by the next run.
    fn abort(&self) {
        let Ok(names) = self.all_names() else { return };
        for name in names.iter().filter(|name| final_name(name).is_some() && name.ends_with(&self.run)) {
            let _ = self.remove(name);
        }
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

struct Synced {
    file: File,
    unfinished: String,
}

impl Prepare for Synced {
    fn prepare(self: Box<Self>) -> Result<String, EncodeError> {
        self.file.sync_all()?;
        Ok(self.unfinished)
    }
}
