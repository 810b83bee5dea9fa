//! The file that makes a checkpoint complete: written last, it names all others.
//!
//! Its body is JSON. That of checkpoint 17 is `checkpoints/17.manifest` in the job's directory; the files that it names lie in
//! `state/` there, where later checkpoints name them too. A savepoint is a directory of its own with a `savepoint.manifest` and a
//! `state/`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::container::{self, ContainerError, Content};
use crate::connector::Committable;

/// Everything that a job needs to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the job.
    pub job: String,
    /// Grows by one with each that is begun, whether it completes or not.
    pub checkpoint: u64,
    pub kind: SnapshotKind,
    /// Milliseconds since 1970-01-01T00:00Z.
    pub taken_at: i64,
    /// The job had come to its end: there is nothing to go on with, only commits to repeat.
    pub finished: bool,
    /// Numbers of splits as positions of rows have them: the source node and the split's id.
    pub splits: Vec<(String, String)>,
    pub nodes: Vec<NodeManifest>,
    /// Rows that were in channels (unaligned checkpoints).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelManifest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    /// The job's own: it deletes old ones.
    Checkpoint,
    /// The user's.
    Savepoint,
}

/// One node of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeManifest {
    /// By which it is found again.
    pub id: String,
    /// For a person: `process legs.Inherited`.
    pub does: String,
    /// Number of key groups.
    pub max_parallelism: usize,
    /// Name and type, in the contract's notation, of the key's columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<(String, String)>,
    /// Name and type of each state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<(String, String)>,
    /// One for each of its subtasks, in order.
    pub subtasks: Vec<SubtaskManifest>,
}

/// What one subtask of a node left.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SubtaskManifest {
    /// The operator's own words: positions of splits, watermarks, a sink's next part.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub own: Value,
    /// Files of state by key, the oldest first: what a later one says of a key goes before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keyed: Vec<FileRef>,
    /// Rows of an open bundle (`checkpoint.bundle: persist`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<FileRef>,
    /// What the sink prepared and no completed checkpoint before this one has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepared: Vec<Committable>,
}

/// A file of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    pub name: String,
    pub bytes: u64,
    pub rows: u64,
}

/// What was in one channel, between two subtasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelManifest {
    pub from: String,
    pub from_subtask: usize,
    pub to: String,
    pub to_subtask: usize,
    /// In order; each `rows` is the next batch of the file.
    pub elements: Vec<ChannelElement>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileRef>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelElement {
    Rows,
    Watermark(i64),
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error("it is damaged: {0}")]
    Json(#[from] serde_json::Error),
}

impl Manifest {
    /// The file.
    pub fn write(&self) -> Vec<u8> {
        let body = serde_json::to_vec_pretty(self).expect("a manifest is plain text, numbers and lists");
        container::seal(Content::Manifest, &body)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn read(file: &[u8]) -> Result<Manifest, ManifestError> {
        Ok(serde_json::from_slice(container::open(Content::Manifest, file)?)?)
    }

    /// All files that it names.
    pub fn files(&self) -> impl Iterator<Item = &FileRef> {
        let subtasks = self.nodes.iter().flat_map(|node| &node.subtasks);
        let own = subtasks.flat_map(|subtask| subtask.keyed.iter().chain(&subtask.bundle));
        own.chain(self.channels.iter().filter_map(|channel| channel.file.as_ref()))
    }

    pub fn node(&self, id: &str) -> Option<&NodeManifest> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// What the sink with this id had prepared.
    pub fn prepared(&self, id: &str) -> Vec<Committable> {
        let subtasks = self.node(id).into_iter().flat_map(|node| &node.subtasks);
        subtasks.flat_map(|subtask| subtask.prepared.iter().cloned()).collect()
    }
}
