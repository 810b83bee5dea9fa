//! A marker in a directory of this machine, which says that a run writes there.
//!
//! Two runs must not write to one place at once: the second would take the files of the first for leftovers of a crash. So each run
//! keeps a hidden marker `.<what>.writing-<run>` there from its start to its end, and holds a lock on it, which the system releases
//! when the process dies, however it dies. A marker that is locked is that of a run that lives; one that is not, of a crash.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wasmill_runtime::connector::ConnectorError;

const WRITING: &str = ".writing-";

/// How often a marker is made anew that another run, which starts at the same moment, took for one of a crash.
const MARKER_TRIES: usize = 100;

/// How long one start waits for another one in the directory.
const TURN_TRIES: usize = 100;
const TURN_PAUSE: Duration = Duration::from_millis(5);

/// Says that a run writes here, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Marker {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Drop for Marker {
    /// Removed while it is locked, so that nobody finds it without its lock.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Why a directory could not be marked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MarkerError {
    #[error(
        "another job is writing to {} now (it holds a lock on {marker} there): wait for its end, or give each job its own path",
        .directory.display()
    )]
    Taken { directory: PathBuf, marker: String },
    #[error(
        "cannot find out whether another job is writing to {} now: if none is, remove {marker} there", .directory.display()
    )]
    Unknown { directory: PathBuf, marker: String, source: io::Error },
    #[error("cannot lock {}: other jobs start there all the time: try again", .path.display())]
    Busy { path: PathBuf },
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot list {}", .directory.display())]
    List { directory: PathBuf, source: io::Error },
}

impl From<MarkerError> for ConnectorError {
    fn from(error: MarkerError) -> ConnectorError {
        let message = ConnectorError::new(error.to_string());
        match error {
            MarkerError::Taken { .. } | MarkerError::Busy { .. } => message,
            MarkerError::Unknown { source, .. }
            | MarkerError::Write { source, .. }
            | MarkerError::List { source, .. } => message.caused_by(source),
        }
    }
}

/// A name that no other run has, in 16 hexadecimal digits.
pub(crate) fn run_name() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// The marker of `run` in `directory`, for what it calls `what`. Refused where a run that lives keeps a marker there for what
/// `clashes` with it; markers of crashes that do are removed. `None` where the file system has no locks.
pub(crate) fn mark(
    directory: &Path,
    run: &str,
    what: &str,
    clashes: &dyn Fn(&str) -> bool,
) -> Result<Option<Marker>, MarkerError> {
    let turn = turn(directory);
    // Before the others' are looked at, so that of two runs at least one sees the other.
    let Some(marker) = make(directory, run, what)? else { return Ok(None) };
    let own = marker.path.file_name().map(|name| name.to_string_lossy().into_owned());
    let names = names(directory).map_err(|source| MarkerError::List { directory: directory.to_owned(), source })?;
    names
        .iter()
        .filter(|name| Some(*name) != own.as_ref() && named(name, WRITING).is_some_and(clashes))
        .try_for_each(|name| look_at(directory, name))?;
    drop(turn);
    Ok(Some(marker))
}

/// Two starts at one moment would see each other's markers, and both give up. The lock on the directory lets them come one
/// after the other; without it (some systems cannot lock a directory, and someone else may hold it) they are still safe.
fn turn(directory: &Path) -> Option<File> {
    let directory = File::open(directory).ok()?;
    for _ in 0..TURN_TRIES {
        match directory.try_lock() {
            Ok(()) => return Some(directory),
            Err(TryLockError::WouldBlock) => std::thread::sleep(TURN_PAUSE),
            Err(TryLockError::Error(_)) => break,
        }
    }
    None
}

/// The marker, locked; `None` where the file system has no locks.
fn make(directory: &Path, run: &str, what: &str) -> Result<Option<Marker>, MarkerError> {
    let path = directory.join(format!(".{what}{WRITING}{run}"));
    for _ in 0..MARKER_TRIES {
        let file = File::create(&path).map_err(|source| MarkerError::Write { path: path.clone(), source })?;
        let locked = file.try_lock();
        // Until it was locked, another run could take it for one of a crash, and remove it.
        match locked {
            Ok(()) if path.exists() => return Ok(Some(Marker { path, _file: file })),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(_)) => {
                drop(Marker { path, _file: file });
                return Ok(None);
            }
        }
    }
    Err(MarkerError::Busy { path })
}

/// Refuses where the marker `name` is that of a run that lives, and removes it where it is not.
fn look_at(directory: &Path, name: &str) -> Result<(), MarkerError> {
    let path = directory.join(name);
    // Some network file systems want a file open for writing where it is to be locked.
    let opened = File::options().read(true).write(true).open(&path).or_else(|_| File::open(&path));
    let locked = match opened {
        Ok(file) => file.try_lock().map(|()| file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(TryLockError::Error(error)),
    };
    let (directory, marker) = (directory.to_owned(), name.to_owned());
    match locked {
        Ok(file) => {
            drop(Marker { path, _file: file });
            Ok(())
        }
        Err(TryLockError::WouldBlock) => Err(MarkerError::Taken { directory, marker }),
        Err(TryLockError::Error(source)) => Err(MarkerError::Unknown { directory, marker, source }),
    }
}

/// The names of all that lies directly in `directory`.
pub(crate) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(directory)?;
    entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
}

/// What stands in the hidden name `hidden` before `mark` and a run.
pub(crate) fn named<'a>(hidden: &'a str, mark: &str) -> Option<&'a str> {
    let (name, run) = hidden.strip_prefix('.')?.rsplit_once(mark)?;
    (run.len() == 16 && run.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
}
