//! How commands find the jobs that run: each writes a file, which only its user can read, and removes it at its end.
//!
//! It is `<job>-<pid>.json` in `$XDG_RUNTIME_DIR/wasmill`, else in `wasmill-<uid>` of the folder for temporary files. That of a process
//! that was killed is removed by the next one who looks.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::token::Token;

/// The part of the file's name that comes from the job's has this length at most.
const NAME_CHARS_MAX: usize = 100;

/// A file is not read beyond this.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What a job says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Announcement {
    pub job: String,
    pub pid: u32,
    pub address: SocketAddr,
    pub token: Token,
    /// Milliseconds since 1970-01-01T00:00Z.
    pub started_at_millis: i64,
    /// Absolute.
    pub job_file: PathBuf,
}

impl Announcement {
    /// Tells it from other jobs of the same name.
    pub fn id(&self) -> String {
        format!("{}-{}", self.job, self.pid)
    }

    /// The job's name can be anything; a file's cannot.
    fn file_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
        let name: String = self.job.chars().take(NAME_CHARS_MAX).map(plain).collect();
        format!("{name}-{}.json", self.pid)
    }
}

/// Why jobs cannot be announced or found.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    #[error("cannot {doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} {why}: remove it, or set XDG_RUNTIME_DIR to a folder of your own", .path.display())]
    NotOurs { path: PathBuf, why: &'static str },
}

/// Removes the file of a job when it is dropped.
#[derive(Debug)]
pub struct Announced {
    path: PathBuf,
}

impl Drop for Announced {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next one who looks.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The folders in which jobs are announced: the first one there is for new ones, all of them to look in, since a job that was started
/// by a service may not know of the first.
#[derive(Debug, Clone)]
pub struct Folders(Vec<PathBuf>);

impl Folders {
    /// Those of this user, by the environment of this process.
    pub fn from_environment() -> Folders {
        Folders::of(std::env::var_os("XDG_RUNTIME_DIR"), &std::env::temp_dir())
    }

    fn of(runtime_dir: Option<OsString>, temporary: &Path) -> Folders {
        let own = runtime_dir.map(PathBuf::from).filter(|path| path.is_absolute() && path.is_dir());
        let folders =
            own.map(|path| path.join("wasmill")).into_iter().chain([temporary.join(format!("wasmill-{}", user()))]);
        Folders(folders.collect())
    }

    /// Lets `job` be found until what is returned is dropped.
    pub fn announce(&self, job: &Announcement) -> Result<Announced, DiscoveryError> {
        let folder = self.0.first().expect("the second folder is always there");
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| DiscoveryError::Io { doing, path, source }
        };
        make_private(folder).map_err(failed("make", folder))?;
        refuse_others(folder)?;
        let path = folder.join(job.file_name());
        let text = serde_json::to_vec_pretty(job).expect("texts and numbers are JSON");
        // Such a file is for its user alone from the start. It gets its name when all of it is there.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed("write into", folder))?;
        file.write_all(&text).map_err(failed("write", &path))?;
        file.persist(&path).map_err(|error| failed("write", &path)(error.error))?;
        Ok(Announced { path })
    }

    /// The jobs that run, by name and process. Files of processes that are gone are removed.
    pub fn running(&self) -> Result<Vec<Announcement>, DiscoveryError> {
        let mut jobs = Vec::new();
        for folder in &self.0 {
            if folder.symlink_metadata().is_err() {
                continue;
            }
            refuse_others(folder)?;
            let failed = |source| DiscoveryError::Io { doing: "list", path: folder.clone(), source };
            for entry in std::fs::read_dir(folder).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                // What is no announcement, or one of a version to come, is not ours to touch.
                let Some(job) = read(&path) else { continue };
                match is_running(job.pid) {
                    true => jobs.push(job),
                    false => drop(Announced { path }),
                }
            }
        }
        jobs.sort_by(|a, b| (&a.job, a.pid).cmp(&(&b.job, b.pid)));
        Ok(jobs)
    }

    /// Removes the file of a job that does not listen any more.
    pub fn forget(&self, job: &Announcement) {
        for folder in &self.0 {
            let path = folder.join(job.file_name());
            // Another one may have come since, with the same process number.
            if read(&path)
                .is_some_and(|found| found.address == job.address && found.token.is(job.token.secret().as_bytes()))
            {
                drop(Announced { path });
            }
        }
    }
}

fn read(path: &Path) -> Option<Announcement> {
    let is_small =
        |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= FILE_BYTES_MAX);
    if path.extension().is_none_or(|extension| extension != "json") || !is_small(path) {
        return None;
    }
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// A folder that only this user can enter.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// In a folder that anyone may write to, someone else may have been there first, to learn tokens or to give out their own.
#[cfg(unix)]
fn refuse_others(folder: &Path) -> Result<(), DiscoveryError> {
    use std::os::unix::fs::MetadataExt;
    let path = folder.to_owned();
    let found = match folder.symlink_metadata() {
        Ok(found) => found,
        Err(source) => return Err(DiscoveryError::Io { doing: "look at", path, source }),
    };
    if !found.is_dir() {
        return Err(DiscoveryError::NotOurs { path, why: "is no folder" });
    }
    if found.uid() != rustix::process::getuid().as_raw() {
        return Err(DiscoveryError::NotOurs { path, why: "belongs to another user" });
    }
    if found.mode() & 0o077 != 0 {
        return Err(DiscoveryError::NotOurs { path, why: "can be entered by other users" });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_others(_: &Path) -> Result<(), DiscoveryError> {
    Ok(())
}

#[cfg(unix)]
fn user() -> String {
    rustix::process::getuid().as_raw().to_string()
}

#[cfg(not(unix))]
fn user() -> String {
    std::env::var("USERNAME").unwrap_or_default()
}

/// Where that cannot be found out, it is taken to run; whether it listens shows when it is asked.
#[cfg(unix)]
fn is_running(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

#[cfg(not(unix))]
fn is_running(_: u32) -> bool {
    true
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
