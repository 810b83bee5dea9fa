//! What can be wrong with a job before it runs ([`Problem`]) and what can end it ([`JobError`]).

use std::path::PathBuf;

use arrow::error::ArrowError;
use wasmill_host::value_column::ValueError;
use wasmill_host::{Fault, HostError};

use crate::call::CallError;
use crate::checkpoint::SnapshotError;
use crate::checkpoint::storage::StorageError;
use crate::connector::ConnectorError;
use crate::python_files::PythonFilesError;
use crate::value::{Location, OptionError};

/// Something that keeps a job from running, and where it stands in the job file.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct Problem {
    pub at: Location,
    #[source]
    pub kind: ProblemKind,
}

impl Problem {
    pub fn new(at: Location, kind: ProblemKind) -> Problem {
        Problem { at, kind }
    }
}

/// Each message names the culprit, what was got and what there would be.
#[derive(Debug, thiserror::Error)]
pub enum ProblemKind {
    #[error("bad YAML: {0}")]
    Yaml(String),
    #[error("{0}")]
    Shape(String),
    #[error("{}{error}", .owner.as_ref().map_or(String::new(), |owner| format!("node \"{owner}\": ")))]
    Option { owner: Option<String>, error: OptionError },
    #[error("udf \"{udf}\": {error}")]
    UdfOption { udf: String, error: OptionError },
    #[error("two {what}s are called \"{name}\"{}", first_at(*.first))]
    Duplicate { what: &'static str, name: String, first: Location },
    #[error("node \"{node}\" has the id \"{id}\", under which checkpoints know \"{other}\": give it another")]
    SharedId { node: String, other: String, id: String },
    #[error("node \"{node}\" reads from \"{from}\", and no node is called that{}", hint(.near.as_ref()))]
    Dangling { node: String, from: String, near: Option<String> },
    #[error("node \"{node}\" reads from \"{from}\", which is a sink: nothing comes out of it")]
    FromSink { node: String, from: String },
    #[error("the nodes {} read from each other in a circle: rows would never end", .nodes.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", "))]
    Cycle { nodes: Vec<String> },
    #[error("node \"{node}\" has {got} inputs; {wanted}")]
    Inputs { node: String, got: usize, wanted: &'static str },
    #[error("node \"{node}\" is read by nobody: add a sink that reads from it")]
    Unread { node: String },
    #[error("\"{node}\" and \"{other}\" both write to {target}: give each a place of its own")]
    SharedTarget { node: String, other: String, target: String },
    #[error("the job has no {0}")]
    Empty(&'static str),
    #[error("node \"{node}\": {error}")]
    Call { node: String, error: CallError },
    /// Only an echo of why it could not, which is a problem of its own.
    #[error("node \"{node}\": udf \"{udf}\" could not be loaded")]
    NotLoaded { node: String, udf: String },
    #[error("node \"{node}\": no UDF is called \"{udf}\"; there are {}", list(.known))]
    UnknownUdf { node: String, udf: String, known: Vec<String> },
    #[error("node \"{node}\": udf \"{udf}\" has no function \"{function}\"; it has {}", list(.known))]
    UnknownFunction { node: String, udf: String, function: String, known: Vec<String> },
    #[error("node \"{node}\": no column is called \"{column}\"; there are {}", list(.known))]
    UnknownColumn { node: String, column: String, known: Vec<String> },
    #[error("node \"{node}\": {function} is of kind {kind}; here {wanted} is wanted")]
    Kind { node: String, function: String, kind: String, wanted: &'static str },
    #[error("node \"{node}\": {function} takes {wanted} arguments ({signature}), and is given {got}")]
    Arity { node: String, function: String, wanted: usize, signature: String, got: usize },
    #[error("{0}")]
    ArgumentType(Box<ArgumentMismatch>),
    #[error("node \"{}\": argument \"{}\" of {} takes no null, and {} may be null: declare it {}? in the UDF (Option in Rust, Optional in Python), or filter the nulls out before", .0.node, .0.argument, .0.function, .0.given, .0.wanted)]
    Nullability(Box<ArgumentMismatch>),
    #[error("node \"{node}\": two columns would be called \"{column}\": rename one with a `select` before")]
    DuplicateColumn { node: String, column: String },
    #[error("node \"{node}\": column \"{column}\" is {got}; {wanted}")]
    ColumnType { node: String, column: String, got: String, wanted: &'static str },
    #[error("node \"{node}\": {message}")]
    Node { node: String, message: String },
    #[error("node \"{node}\": {error}")]
    Connector { node: String, error: ConnectorError },
    #[error("udf \"{udf}\": cannot read {}: {error}", .path.display())]
    UdfFile { udf: String, path: PathBuf, error: std::io::Error },
    #[error("udf \"{udf}\": {error}")]
    PythonFiles { udf: String, error: PythonFilesError },
    #[error("udf \"{udf}\": {message}")]
    Udf { udf: String, message: String },
    #[error("{error}")]
    Host { error: HostError },
}

/// An argument and what was given for it.
#[derive(Debug, thiserror::Error)]
#[error("node \"{node}\": argument \"{argument}\" of {function} is {wanted}, and {given} is {got}{advice}")]
pub struct ArgumentMismatch {
    pub node: String,
    pub function: String,
    pub argument: String,
    pub wanted: String,
    /// `column "dep_delay"`.
    pub given: String,
    /// The type of what was given.
    pub got: String,
    pub advice: &'static str,
}

/// Why state cannot be kept, or read back from where it was.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot keep state in {} (state.backend.disk.dir): {error}", .dir.display())]
    Folder { dir: PathBuf, error: std::io::Error },
    #[error("cannot keep state in {}: {}: is there room? Another place is chosen by state.backend.disk.dir", .dir.display(), store_error(.error))]
    Store { dir: PathBuf, error: Box<fjall::Error> },
    #[error("the state on disk is damaged: a row of it has not the length that it says")]
    Damaged,
    #[error(transparent)]
    Value(Box<ValueError>),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

impl From<ValueError> for StateError {
    fn from(error: ValueError) -> StateError {
        StateError::Value(Box::new(error))
    }
}

/// fjall shows its errors as a programmer writes them.
fn store_error(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.to_string(),
        error => format!("{error:?}"),
    }
}

fn first_at(first: Location) -> String {
    if first.is_known() { format!(", the first at {first}: rename one") } else { ": rename one".into() }
}

fn hint(near: Option<&String>) -> String {
    near.map_or(String::new(), |near| format!("; did you mean \"{near}\"?"))
}

pub(crate) fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// What ended a running job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A row that raised, where the UDF's policy is `fail`.
    #[error("{0}")]
    Row(Box<RowFailure>),
    /// A bundle that trapped, ran out of time or memory, or answered with nonsense; `position` is that of the one row on which it
    /// does, where the UDF's policy is `fail`.
    #[error("node \"{node}\": {fault}{}{}", at(.position), below(&.fault.backtrace))]
    Fault { node: String, fault: Box<Fault>, position: Option<String> },
    /// Rows one after the other each cost an instance: there is no use in going on without them.
    #[error("node \"{node}\": the UDF failed on {rows} rows one after the other, whatever its on-error says; on the last: {fault}{}", below(&.fault.backtrace))]
    Hopeless { node: String, rows: u32, fault: Box<Fault> },
    /// A call that ended the job and can be run again.
    #[error("{error}\nthe call is recorded: wasmill replay {}", .dir.display())]
    Recorded { error: Box<JobError>, dir: PathBuf },
    #[error("node \"{node}\": {error}")]
    Host { node: String, error: Box<HostError> },
    #[error("node \"{node}\": {error}")]
    Connector { node: String, error: ConnectorError },
    /// A sink could not commit what it had prepared. Those before it had committed, which nothing takes back.
    #[error("node \"{node}\": {error}{}", committed(.before))]
    Commit { node: String, error: ConnectorError, before: Vec<(String, String)> },
    /// A row that a source could not read, where the source's policy is `fail`.
    #[error("node \"{node}\": {message}: set on-error: skip or dead-letter to go on without such rows")]
    Rejected { node: String, message: String },
    #[error("dead letters: {0}")]
    DeadLetters(ConnectorError),
    #[error("node \"{node}\": {error}")]
    Arrow { node: String, error: ArrowError },
    #[error("node \"{node}\": {error}")]
    State { node: String, error: StateError },
    #[error("{0}")]
    StatePlace(StateError),
    #[error("cannot start a thread for node \"{node}\": {error}")]
    Thread { node: String, error: std::io::Error },
    /// A defect of Wasmill, not of the job.
    #[error("node \"{node}\": the task panicked: {message}; please report this")]
    Panic { node: String, message: String },
    /// More checkpoints failed, one after the other, than the job tolerates.
    #[error(
        "checkpoint {checkpoint} failed: {why} (execution.checkpointing.tolerable-failed-checkpoints: {tolerable})"
    )]
    Checkpoint { checkpoint: u64, why: String, tolerable: u64 },
    /// The job cannot go on from where it was told to.
    #[error("node \"{node}\": cannot go on from a checkpoint: {error}")]
    Restore { node: String, error: SnapshotError },
    #[error("cannot go on from a checkpoint: {0}")]
    Unfit(SnapshotError),
    #[error("checkpoints: {0}")]
    Files(SnapshotError),
    #[error("checkpoints: {0}")]
    Storage(#[from] StorageError),
    #[error("the job was stopped before its end; nothing was committed")]
    Stopped,
}

/// A row on which a UDF raised.
#[derive(Debug, thiserror::Error)]
#[error("node \"{node}\": udf \"{udf}\" function \"{function}\" raised {kind}: {message}{}{}", at(.position), below(.traceback))]
pub struct RowFailure {
    pub node: String,
    pub udf: String,
    pub function: String,
    /// `ValueError`.
    pub kind: String,
    pub message: String,
    pub traceback: String,
    /// `flights, split data/flights.parquet, row 17`, if the row comes from a source.
    pub position: Option<String>,
}

fn committed(before: &[(String, String)]) -> String {
    if before.is_empty() {
        return String::new();
    }
    let names = before.iter().map(|(node, place)| format!("\"{node}\" ({place})")).collect::<Vec<_>>().join(", ");
    format!("; already committed, and to be removed before another run: {names}")
}

fn at(position: &Option<String>) -> String {
    position.as_ref().map_or(String::new(), |position| format!(" (at {position})"))
}

fn below(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\n{}", text.trim_end()) }
}

impl JobError {
    /// What is behind it, of which its own text says nothing.
    pub fn behind(&self) -> Option<&(dyn std::error::Error + 'static)> {
        use std::error::Error;
        match self {
            JobError::Recorded { error, .. } => error.behind(),
            JobError::Connector { error, .. } | JobError::Commit { error, .. } | JobError::DeadLetters(error) => {
                error.source()
            }
            JobError::Host { error, .. } => error.source(),
            JobError::Arrow { error, .. } => error.source(),
            JobError::Thread { error, .. } => error.source(),
            JobError::Storage(error) => error.source(),
            JobError::Files(error) | JobError::Unfit(error) | JobError::Restore { error, .. } => error.source(),
            other => other.source(),
        }
    }
}
