//! Where checkpoints are kept: named contents that appear whole or not at all, and stay.
//!
//! The protocol asks no more of a disk or an object store than this trait, so that a test can let any of it fail, come late or get
//! lost. What implements it for real places is the connectors' (`wasmill_connectors::checkpoint_storage`).

use std::error::Error;
use std::fmt;

/// The longest name, in bytes, and the longest part of one: what every file system and store takes, with room for a suffix.
const NAME_BYTES_MAX: usize = 512;
const PART_BYTES_MAX: usize = 200;

/// Named contents in one place.
///
/// Names are `a/b/c`: parts of `[A-Za-z0-9._-]` that do not begin with a dot, with `/` between. Hidden names are the storage's own.
/// Calls come from several threads at once, but never two for one name.
pub trait CheckpointStorage: Send + Sync + fmt::Debug {
    /// Writes `name` whole, or not at all; on return it is there after a crash of the machine too. Replaces what was there.
    ///
    /// After an error either content can be there, the old or the new, and after some errors the new one may yet appear: an answer
    /// that got lost on its way is no proof that nothing was done.
    fn put(&self, name: &str, content: &[u8]) -> Result<(), StorageError>;

    /// All of it. [`StorageError::Missing`] if there is none.
    fn get(&self, name: &str) -> Result<Vec<u8>, StorageError>;

    /// Names that begin with `prefix` (a folder with its `/`, or ""), sorted. Unfinished writes are not among them, nor is anything
    /// that could not have been written here. A place that is not there yet is empty.
    fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError>;

    /// No error if it is not there. On return it is gone after a crash of the machine too: what is deleted in some order never
    /// comes back in another.
    fn delete(&self, name: &str) -> Result<(), StorageError>;

    /// For a person: where it is, of `name` or of all.
    fn location(&self, name: Option<&str>) -> String;

    /// Says that this process works here, until the claim is dropped or the process dies, and clears up what crashes left
    /// unfinished. [`StorageError::Taken`] while another claim is held, be it of this process. Who writes holds the claim.
    fn claim(&self) -> Result<Box<dyn Claim>, StorageError>;
}

/// Held by the one job that works in a place.
pub trait Claim: Send {}

/// What went wrong with a place where checkpoints are kept.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("there is no {place}")]
    Missing { place: String },
    /// `by` says whose it is, and what to do if that one is dead.
    #[error("{place} is taken: {by}")]
    Taken { place: String, by: String },
    #[error("\"{name}\" cannot name a part of a checkpoint: {why}")]
    Name { name: String, why: &'static str },
    /// `what` names the place: `cannot write /data/chk/7/manifest`.
    #[error("{what}")]
    Io {
        what: String,
        place: String,
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl StorageError {
    /// `what` went wrong at `place`; `what` says where.
    pub fn io(what: impl Into<String>, place: impl Into<String>) -> StorageError {
        StorageError::Io { what: what.into(), place: place.into(), source: None }
    }

    #[must_use]
    pub fn caused_by(mut self, cause: impl Error + Send + Sync + 'static) -> StorageError {
        if let StorageError::Io { source, .. } = &mut self {
            *source = Some(Box::new(cause));
        }
        self
    }
}

/// Can `name` be written? Every storage asks this first, so that what one place takes every place takes.
pub fn check_name(name: &str) -> Result<(), StorageError> {
    let wrong = |why| Err(StorageError::Name { name: name.to_owned(), why });
    if name.len() > NAME_BYTES_MAX {
        return wrong("it is longer than 512 bytes");
    }
    for part in name.split('/') {
        if part.is_empty() {
            return wrong("a part of it is empty");
        }
        if part.len() > PART_BYTES_MAX {
            return wrong("a part of it is longer than 200 bytes");
        }
        if part.starts_with('.') {
            return wrong("a part of it begins with a dot, as the storage's own files do");
        }
        if !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return wrong("letters, digits, `.`, `_` and `-` are possible, and `/` between");
        }
    }
    Ok(())
}

/// Can what begins with `prefix` be listed? The folder that it is, without its `/`.
pub fn check_prefix(prefix: &str) -> Result<&str, StorageError> {
    if prefix.is_empty() {
        return Ok(prefix);
    }
    match prefix.strip_suffix('/') {
        Some(folder) => check_name(folder).map(|()| folder),
        None => Err(StorageError::Name { name: prefix.to_owned(), why: "a folder with its `/` is wanted" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["a", "chk-1/manifest", "A/b.c/d_e-f.9", &"x".repeat(200)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", ".a", "a/.b", "a b", "ä", "a\\b", "a\0"] {
            assert!(matches!(check_name(name), Err(StorageError::Name { .. })), "{name}");
        }
        assert!(check_name(&"x".repeat(201)).is_err());
        assert!(check_name(&["x"; 300].join("/")).is_err());
        assert_eq!(check_prefix("").ok(), Some(""));
        assert_eq!(check_prefix("a/b/").ok(), Some("a/b"));
        for prefix in ["a", "/", "a//", "../"] {
            assert!(check_prefix(prefix).is_err(), "{prefix}");
        }
    }
}
