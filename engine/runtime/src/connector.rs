//! What a connector is to the runtime: sources that are read split by split, sinks that prepare and commit.
//!
//! Both go on after a crash. A reader tells its [`Position`], from which another one reads the rows that follow. A writer prepares
//! at each checkpoint what it has written, and tells its [`WriterState`]; when the checkpoint is complete, its sink commits.
//! What a checkpoint keeps of them is text in the connector's own words, so that the runtime need not know them.
//!
//! The runtime names no connector. A [`ConnectorRegistry`] turns the `source:` or `sink:` name and the options of a
//! job file into a [`Source`] or [`Sink`]; who embeds the engine can register more.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::value::Options;

/// What went wrong in a connector.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConnectorError {
    /// Names the file or address, what was got and what to do.
    pub message: String,
    /// What is to be gone on from is not this source's any more: the same call never succeeds.
    pub unfit: bool,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ConnectorError {
    pub fn new(message: impl Into<String>) -> ConnectorError {
        ConnectorError { message: message.into(), unfit: false, source: None }
    }

    /// Of a position that the source has not any more.
    pub fn unfit(message: impl Into<String>) -> ConnectorError {
        ConnectorError { unfit: true, ..ConnectorError::new(message) }
    }

    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> ConnectorError {
        self.source = Some(Box::new(source));
        self
    }
}

/// A part of a source that is read in order: a file, a partition. Order is kept within a split only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Unique in its source and the same in every run: a path, a partition number.
    pub id: String,
    /// Size in the source's own unit (rows or bytes), for the progress bar.
    pub size: Option<u64>,
}

/// A row that the source could not turn into columns: a CSV line with too few fields, a JSON line that is no object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Row number in the split, from 0, counted with the good rows.
    pub row: u64,
    /// The row as it stood in the source, cut to at most 4 KiB.
    pub raw: String,
    /// `data/x.csv:17: 3 fields, 5 expected`.
    pub message: String,
}

/// What a reader has to give now.
pub enum ReadOutcome {
    Rows {
        rows: RecordBatch,
        /// Row number in the split of the first of `rows`. Rejected rows between good ones make a gap: a reader
        /// ends the batch before a rejected row, so that rows within a batch are consecutive.
        first_row: u64,
    },
    Rejected(Vec<RejectedRow>),
    /// Nothing now; ask again, at the latest after the given time. The task does other things meanwhile.
    Pending(std::time::Duration),
    /// Nothing any more.
    End,
}

/// Where a reader goes on, in the source's own words (JSON text, small). Made by [`SourceReader::position`], taken by
/// [`Source::open`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position(pub String);

/// Reads one split.
pub trait SourceReader: Send {
    /// At most `rows_max` rows.
    fn next(&mut self, rows_max: usize) -> Result<ReadOutcome, ConnectorError>;
    /// How much of [`Split::size`] has been read, also by readers before this one.
    fn done(&self) -> u64;
    /// After what `next` has given so far: a reader opened there gives exactly the rows that follow, with the same row numbers.
    /// What was read ahead and not given counts for nothing.
    fn position(&self) -> Position;
}

/// Where rows come from.
pub trait Source: Send + Sync + fmt::Debug {
    /// Known before anything runs: `check` validates against it.
    fn schema(&self) -> SchemaRef;
    /// The splits, in an order that is the same in every run. Split i is read by subtask i % parallelism.
    fn splits(&self) -> Result<Vec<Split>, ConnectorError>;
    /// A reader of the rows behind `from`, of all without it. A position that does not fit the split any more (its file was cut
    /// off since) is an error that names the split, the position and what to do.
    fn open(&self, split: &Split, from: Option<&Position>) -> Result<Box<dyn SourceReader>, ConnectorError>;
    /// Does it end by itself?
    fn bounded(&self) -> bool;
}

/// Which of a sink's writers this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subtask {
    pub index: usize,
    pub parallelism: usize,
}

/// What a writer has prepared and a commit makes real, in the sink's own words (a path to rename, a transaction id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committable(pub String);

/// What a writer must know to go on after a restore, in the sink's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterState(pub String);

/// What a writer gives to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Never told before, and never told again: where the checkpoint is given up, they belong to the next one.
    pub committables: Vec<Committable>,
    /// How a writer goes on from here.
    pub state: WriterState,
}

/// Where rows go. What a writer writes is not seen from outside before `commit`.
///
/// A run is `start`, the writers, any number of commits, `finish`; or, from a checkpoint, `resume` in the place of `start`. One
/// that fails or is stopped ends with `abort`. The same sink may then be resumed, or started, again.
pub trait Sink: Send + Sync + fmt::Debug {
    /// Can it take these columns? Called by `check`; touches nothing.
    fn accept(&self, schema: &SchemaRef) -> Result<(), ConnectorError>;
    /// Clears up what an earlier run left unfinished. Called once, before any writer.
    fn start(&self) -> Result<(), ConnectorError>;
    /// In the place of `start` when a job goes on from a checkpoint: commits what the checkpoint says was `prepared` (it may have
    /// been committed before the crash, by another process), removes whatever else an earlier run left unfinished, and keeps
    /// what is committed. `states`: those of all writers at the checkpoint.
    fn resume(&self, prepared: &[Committable], states: &[WriterState]) -> Result<(), ConnectorError>;
    /// `from`: all states that writers of the old run left, where the job goes on from a checkpoint; their number may differ from
    /// this run's parallelism. No name that an old writer used may be used again.
    fn writer(
        &self,
        schema: &SchemaRef,
        subtask: Subtask,
        from: &[WriterState],
    ) -> Result<Box<dyn SinkWriter>, ConnectorError>;
    /// Makes real what writers prepared, all or none as far as the target can. Called once per completed checkpoint and at the
    /// end, and maybe again with the same.
    fn commit(&self, prepared: &[Committable]) -> Result<(), ConnectorError>;
    /// After the last commit of a run that ended well: what only then can be done, such as to leave an empty file with the columns
    /// where no row came. Another run may start in its place afterwards.
    fn finish(&self) -> Result<(), ConnectorError>;
    /// Removes what was written and neither committed nor in `keep`, which a job that is resumed will commit. Called when the job
    /// fails or is stopped; must not fail the stop.
    fn abort(&self, keep: &[Committable]);
    /// For a person: where the output lies.
    fn location(&self) -> String;
    /// What only one sink of a job may write to, such as a folder; `None`: any number may, as to standard output.
    fn claim(&self) -> Option<String>;
    /// Why it cannot take part in checkpoints, and what to do instead; `None` if it can.
    fn refuse_checkpoints(&self) -> Option<String>;
}

/// One subtask's hand on a sink.
pub trait SinkWriter: Send {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), ConnectorError>;
    /// Called when the stream is quiet, so that a person who watches sees rows soon.
    fn flush(&mut self) -> Result<(), ConnectorError>;
    /// A checkpoint: everything written so far is on its way to stay (synced). Rows may follow, which belong to the next one.
    fn checkpoint(&mut self) -> Result<Prepared, ConnectorError>;
    /// The end: as `checkpoint`, and no row follows.
    fn prepare(self: Box<Self>) -> Result<Vec<Committable>, ConnectorError>;
}

/// What a connector gets to build itself from.
pub struct ConnectorContext<'a> {
    /// Relative paths are relative to the job file.
    pub base: &'a std::path::Path,
    /// The node's options: every key that the job file gave and the runtime did not take.
    pub options: &'a mut Options,
}

type SourceFactory = dyn Fn(ConnectorContext<'_>) -> Result<Arc<dyn Source>, ConnectorError> + Send + Sync;
type SinkFactory = dyn Fn(ConnectorContext<'_>) -> Result<Arc<dyn Sink>, ConnectorError> + Send + Sync;

/// The connectors that a job can name.
#[derive(Default)]
pub struct ConnectorRegistry {
    sources: BTreeMap<String, Box<SourceFactory>>,
    sinks: BTreeMap<String, Box<SinkFactory>>,
}

impl ConnectorRegistry {
    pub fn register_source(
        &mut self,
        name: &str,
        factory: impl Fn(ConnectorContext<'_>) -> Result<Arc<dyn Source>, ConnectorError> + Send + Sync + 'static,
    ) {
        self.sources.insert(name.to_owned(), Box::new(factory));
    }

    pub fn register_sink(
        &mut self,
        name: &str,
        factory: impl Fn(ConnectorContext<'_>) -> Result<Arc<dyn Sink>, ConnectorError> + Send + Sync + 'static,
    ) {
        self.sinks.insert(name.to_owned(), Box::new(factory));
    }

    pub fn source(&self, name: &str, context: ConnectorContext<'_>) -> Result<Arc<dyn Source>, ConnectorError> {
        match self.sources.get(name) {
            Some(factory) => factory(context),
            None => Err(unknown("source", name, self.sources.keys())),
        }
    }

    pub fn sink(&self, name: &str, context: ConnectorContext<'_>) -> Result<Arc<dyn Sink>, ConnectorError> {
        match self.sinks.get(name) {
            Some(factory) => factory(context),
            None => Err(unknown("sink", name, self.sinks.keys())),
        }
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> ConnectorError {
    let known = known.map(String::as_str).collect::<Vec<_>>().join(", ");
    ConnectorError::new(format!("no {what} is called \"{name}\"; there are {known}"))
}
