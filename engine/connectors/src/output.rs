//! Where a file sink writes, and how a file appears there whole.

use std::fmt;
use std::io::Write;

use wasmill_runtime::connector::ConnectorError;

use crate::file_sink::EncodeError;

/// A directory, of this machine or of an object store. What is written to it is seen when it is finished, and not before.
pub(crate) trait Output: fmt::Debug + Send + Sync {
    /// For a person: where the file `name` lies, or the directory itself.
    fn place(&self, name: Option<&str>) -> String;

    /// The directory, the same however it is spelt.
    fn identity(&self) -> String;

    /// Why no file can be made there, if that is known before the job runs; touches nothing.
    fn refuse(&self) -> Option<String>;

    /// Makes it ready, and refuses where another run is writing the same now. Nobody else writes these files until
    /// [`release`](Self::release).
    fn enter(&self, scope: &Scope<'_>) -> Result<(), ConnectorError>;

    /// Removes what earlier runs left unfinished of the files whose names are `ours`, as far as it can be told from what others
    /// write.
    fn clear(&self, ours: &dyn Fn(&str) -> bool) -> Result<(), ConnectorError>;

    /// The names of the finished files that lie directly in it, or of `one` if it is there.
    fn names(&self, one: Option<&str>) -> Result<Vec<String>, ConnectorError>;

    /// Begins the file `name`.
    fn create(&self, name: &str) -> Result<Unfinished, ConnectorError>;

    /// The name that the file will have which [`Prepare::prepare`] told as `prepared`, in this run or an earlier one; `None` if it
    /// was not told so here.
    fn name_of(&self, prepared: &str) -> Option<String>;

    /// Lets a file appear under its name, in place of another of that name.
    fn finish(&self, prepared: &str) -> Result<(), ConnectorError>;

    /// Is there a file of that name which cannot be what was `prepared`?
    fn is_taken(&self, prepared: &str) -> Result<bool, ConnectorError>;

    /// As [`finish`](Self::finish), for what an earlier run prepared and may have finished itself.
    fn recover(&self, prepared: &str) -> Result<(), ConnectorError>;

    fn remove(&self, name: &str) -> Result<(), ConnectorError>;

    /// What was finished or removed must be so after a crash too.
    fn settle(&self) -> Result<(), ConnectorError>;

    /// The run has ended: another one may start here.
    fn release(&self);

    /// Removes what this run wrote and did not finish, but not what was prepared as one of `keep`, and [releases](Self::release) the
    /// place. What cannot be removed is left.
    fn abort(&self, keep: &[&str]);
}

/// What a run writes in a directory where others may write something else.
pub(crate) struct Scope<'a> {
    /// A name for it, that of the file where there is only one.
    pub what: &'a str,
    /// Could a run that writes what has this name write the same files?
    pub clashes: &'a dyn Fn(&str) -> bool,
}

/// A file being written.
pub(crate) struct Unfinished {
    /// For messages.
    pub place: String,
    pub content: Box<dyn Write + Send>,
    pub end: Box<dyn Prepare>,
}

/// The end of an unfinished file, when its content is written and flushed.
pub(crate) trait Prepare: Send {
    /// Brings all of it to where it stays, and tells what finishes it.
    fn prepare(self: Box<Self>) -> Result<String, EncodeError>;
}
