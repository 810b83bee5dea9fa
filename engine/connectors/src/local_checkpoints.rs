//! Checkpoints in a directory of this machine.
//!
//! A write goes to the hidden file `.<name>.checkpoint.inprogress-<run>` in the folder of its name. It is synced to disk, renamed, and
//! the folder is synced; so is the parent of each folder that is made. A deletion syncs its folder too, so that after a crash of the
//! machine files are there that were put and not deleted, and no others, whatever the order.
//!
//! Hidden files of crashes are removed by the next claim, which is a [`Marker`]: a file with a lock.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wasmill_runtime::checkpoint::storage::{CheckpointStorage, Claim, StorageError, check_name, check_prefix};

use crate::writing_marker::{self, Marker, MarkerError, named};

/// Longer than that of sinks, so that neither takes the other's for its own where a job is given one directory for both.
const UNFINISHED: &str = ".checkpoint.inprogress-";

/// What the marker is for.
const CHECKPOINTS: &str = "checkpoints";

#[derive(Debug)]
pub(crate) struct LocalCheckpoints {
    root: PathBuf,
    /// Tells unfinished files of this run from those of others.
    run: String,
    folders: Mutex<Folders>,
}

/// What this run knows to be there, and to be there after a crash too.
#[derive(Debug, Default)]
struct Folders {
    root: bool,
    below: HashSet<String>,
}

struct Held {
    _marker: Marker,
}

impl Claim for Held {}

impl LocalCheckpoints {
    pub(crate) fn new(root: PathBuf) -> LocalCheckpoints {
        LocalCheckpoints { root, run: writing_marker::run_name(), folders: Mutex::default() }
    }

    fn folders(&self) -> MutexGuard<'_, Folders> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &str, path: &Path, error: io::Error) -> StorageError {
        let place = path.display().to_string();
        let advice = match (path.parent().and_then(in_the_way), error.kind()) {
            (Some(advice), _) => advice,
            (None, io::ErrorKind::NotFound) if !self.root.exists() && self.folders().root => {
                format!(": {} is gone: did someone remove it? What was kept there is lost", self.root.display())
            }
            (None, io::ErrorKind::NotFound) => ": its folder is gone: did someone clear up there?".to_owned(),
            _ => String::new(),
        };
        StorageError::io(format!("cannot {doing} {place}{advice}"), place).caused_by(error)
    }

    /// Makes the directory itself, once: one that is removed later is not made anew, as if nothing had been in it.
    fn make_root(&self) -> Result<(), StorageError> {
        let mut folders = self.folders();
        if folders.root {
            return Ok(());
        }
        if let Err(error) = make_directories(&self.root) {
            drop(folders);
            let place = self.root.display().to_string();
            let advice = in_the_way(&self.root).unwrap_or_default();
            return Err(StorageError::io(format!("cannot make the directory {place}{advice}"), place).caused_by(error));
        }
        folders.root = true;
        Ok(())
    }

    /// Begins `unfinished` in `folder`, which is made if need be. No folder is removed meanwhile.
    fn create(&self, folder: &str, unfinished: &Path) -> io::Result<File> {
        let mut folders = self.folders();
        let made = self.make_folder(&mut folders, folder).and_then(|()| File::create(unfinished));
        if made.is_err() {
            // Someone else may have removed what was known to be there.
            folders.below.clear();
        }
        made
    }

    fn make_folder(&self, folders: &mut Folders, folder: &str) -> io::Result<()> {
        let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
        for part in ends.map(|end| &folder[..end]).filter(|part| !part.is_empty()) {
            if folders.below.contains(part) {
                continue;
            }
            let path = self.root.join(part);
            make_directory(&path)?;
            path.parent().map_or(Ok(()), sync)?;
            folders.below.insert(part.to_owned());
        }
        Ok(())
    }

    /// Removes `folder` and those above it, as far as there is nothing in them.
    fn remove_empty(&self, folder: &str) {
        let mut folders = self.folders();
        let mut folder = Some(folder);
        while let Some(part) = folder.filter(|part| !part.is_empty()) {
            if std::fs::remove_dir(self.root.join(part)).is_err() {
                return;
            }
            folders.below.remove(part);
            folder = part.rsplit_once('/').map(|(above, _)| above);
        }
    }

    /// Calls `each` with every file at or below `folder`: the name of its folder, its own, and its path.
    fn walk(
        &self,
        folder: &str,
        each: &mut dyn FnMut(&str, &str, &Path) -> io::Result<()>,
    ) -> Result<(), StorageError> {
        let path = if folder.is_empty() { self.root.clone() } else { self.root.join(folder) };
        let cannot = |error| self.failed("list", &path, error);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            // Nothing was kept there yet, or it has just been deleted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                let place = path.display().to_string();
                let what = format!("cannot list {place}: it is a file, where a directory is wanted");
                return Err(StorageError::io(what, place).caused_by(error));
            }
            Err(error) => return Err(cannot(error)),
        };
        for entry in entries {
            let entry = entry.map_err(cannot)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if entry.file_type().map_err(cannot)?.is_dir() {
                let below = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if check_name(&below).is_ok() {
                    self.walk(&below, each)?;
                }
            } else {
                each(folder, &name, &entry.path()).map_err(cannot)?;
            }
        }
        Ok(())
    }
}

impl CheckpointStorage for LocalCheckpoints {
    fn put(&self, name: &str, content: &[u8]) -> Result<(), StorageError> {
        check_name(name)?;
        self.make_root()?;
        let path = self.root.join(name);
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        let unfinished = self.root.join(folder).join(format!(".{file}{UNFINISHED}{}", self.run));
        let write = |mut file: File| file.write_all(content).and_then(|()| file.sync_all());
        let written = self.create(folder, &unfinished).and_then(write);
        let renamed = written.and_then(|()| std::fs::rename(&unfinished, &path));
        if let Err(error) = renamed {
            let _ = std::fs::remove_file(&unfinished);
            return Err(self.failed("write", &path, error));
        }
        sync(&self.root.join(folder)).map_err(|error| self.failed("sync the folder of", &path, error))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, StorageError> {
        check_name(name)?;
        let path = self.root.join(name);
        std::fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StorageError::Missing { place: path.display().to_string() },
            _ => self.failed("read", &path, error),
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let mut names = Vec::new();
        self.walk(check_prefix(prefix)?, &mut |folder, file, _| {
            let name = if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") };
            if check_name(&name).is_ok() {
                names.push(name);
            }
            Ok(())
        })?;
        names.sort();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<(), StorageError> {
        check_name(name)?;
        let path = self.root.join(name);
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let removed = std::fs::remove_file(&path).and_then(|()| sync(&self.root.join(folder)));
        match removed {
            Ok(()) => {
                self.remove_empty(folder);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.failed("delete", &path, error)),
        }
    }

    fn location(&self, name: Option<&str>) -> String {
        name.map_or_else(|| self.root.clone(), |name| self.root.join(name)).display().to_string()
    }

    fn claim(&self) -> Result<Box<dyn Claim>, StorageError> {
        self.make_root()?;
        let place = self.root.display().to_string();
        // A name of its own, since what has claimed already may claim again.
        let run = writing_marker::run_name();
        let marked = writing_marker::mark(&self.root, &run, CHECKPOINTS, &|what| what == CHECKPOINTS);
        let marker = match marked {
            Ok(Some(marker)) => marker,
            Ok(None) => {
                let what = format!(
                    "cannot claim {place}: its file system has no locks, so that nothing would keep a second job out: choose \
                     a directory elsewhere"
                );
                return Err(StorageError::io(what, place));
            }
            Err(error) => return Err(refused(place, error)),
        };
        self.walk("", &mut |_, file, path| match named(file, UNFINISHED) {
            Some(_) => std::fs::remove_file(path),
            None => Ok(()),
        })?;
        Ok(Box::new(Held { _marker: marker }))
    }
}

fn refused(place: String, error: MarkerError) -> StorageError {
    let what = error.to_string();
    match error {
        MarkerError::Taken { marker, .. } => {
            let by = format!(
                "a job that runs now keeps its checkpoints there (it holds a lock on {marker}): stop it, or give each job a \
                 place of its own"
            );
            StorageError::Taken { place, by }
        }
        MarkerError::Busy { .. } => StorageError::io(what, place),
        MarkerError::Unknown { source, .. } | MarkerError::Write { source, .. } | MarkerError::List { source, .. } => {
            StorageError::io(what, place).caused_by(source)
        }
    }
}

/// What is there in place of the directory `path`, or of one above it, if something is.
fn in_the_way(path: &Path) -> Option<String> {
    let there = path.ancestors().find(|path| path.symlink_metadata().is_ok())?;
    (!there.is_dir()).then(|| format!(": {} is a file, where a directory is wanted", there.display()))
}

/// As `create_dir_all`, and what it makes is there after a crash.
fn make_directories(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let Some(parent) = path.parent() else { return make_directory(path) };
    make_directories(parent)?;
    make_directory(path)?;
    sync(parent)
}

fn make_directory(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

/// Brings the names in a directory to disk.
fn sync(directory: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    File::open(directory)?.sync_all()
}

#[cfg(test)]
#[path = "local_checkpoints_tests.rs"]
mod tests;
