//! What tasks hand over at a barrier, and how it becomes files.

use serde_json::Value;

use super::keyed::KeyedSnapshot;
use super::manifest::{ChannelElement, ChannelManifest, FileRef, SubtaskManifest};
use super::{SnapshotError, rows};
use crate::batch::{Batch, StreamElement};
use crate::connector::Committable;

/// What a checkpoint asks of a task. Travels in band, from the sources on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Barrier {
    /// Of the checkpoint: larger than all before.
    pub checkpoint: u64,
    /// The newest checkpoint that is complete, 0 = none: what was in it need not be told again.
    pub confirmed: u64,
    /// A savepoint stands for itself: all state, whatever has changed.
    pub full: bool,
    pub alignment: Alignment,
    /// Nothing is read behind it.
    pub stop: Option<Stop>,
}

/// How a task with several inputs waits for the barrier of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alignment {
    /// Inputs whose barrier has come wait for the others.
    Aligned,
    /// As before, but not longer than so many milliseconds: then as below.
    Timeout(u64),
    /// The barrier goes before the rows that wait in channels; they become part of the checkpoint.
    Unaligned,
}

/// The end of a job that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// To go on later.
    Suspend,
    /// For good: event time goes to its end first, so that windows fire.
    Drain,
}

/// All that one task knows at a barrier.
#[derive(Debug, Default)]
pub(crate) struct TaskSnapshot {
    /// [`Barrier::confirmed`], against which its parts are told.
    pub confirmed: u64,
    pub nodes: Vec<NodeSnapshot>,
    pub channels: Vec<ChannelSnapshot>,
}

/// Of one node of its chain.
#[derive(Debug, Default)]
pub(crate) struct NodeSnapshot {
    pub node: usize,
    /// The operator's own words.
    pub own: Value,
    pub keyed: Option<KeyedSnapshot>,
    /// Rows of its open bundle.
    pub bundle: Vec<Batch>,
    /// Prepared since the confirmed checkpoint.
    pub prepared: Vec<Committable>,
}

/// What waited in a channel.
#[derive(Debug)]
pub(crate) struct ChannelSnapshot {
    /// The sending node and subtask.
    pub from: (usize, usize),
    pub elements: Vec<StreamElement>,
}

/// A file to be written.
#[derive(Debug)]
pub(crate) struct Written {
    pub file: FileRef,
    pub content: Vec<u8>,
}

/// Makes the files of one node's part, one after the other; `prefix` is that of their names.
pub(crate) fn node_files(
    node: &NodeSnapshot,
    prefix: &str,
    mut put: impl FnMut(&Written) -> Result<(), SnapshotError> + Send,
) -> Result<SubtaskManifest, SnapshotError> {
    let mut subtask =
        SubtaskManifest { own: node.own.clone(), prepared: node.prepared.clone(), ..SubtaskManifest::default() };
    if let Some(keyed) = &node.keyed {
        keyed.files(|keys, content| {
            let name = match subtask.keyed.len() {
                0 => format!("{prefix}.keyed"),
                part => format!("{prefix}-{part}.keyed"),
            };
            let written = written(name, keys as u64, content);
            put(&written)?;
            subtask.keyed.push(written.file);
            Ok(())
        })?;
    }
    if !node.bundle.is_empty() {
        let rows_held = node.bundle.iter().map(|batch| batch.num_rows() as u64).sum();
        let written = written(format!("{prefix}.rows"), rows_held, rows::write(&node.bundle)?);
        put(&written)?;
        subtask.bundle = Some(written.file);
    }
    Ok(subtask)
}

/// As [`node_files`], for a channel into subtask `to`.
pub(crate) fn channel_files(
    channel: &ChannelSnapshot,
    names: (&str, &str),
    to_subtask: usize,
    prefix: &str,
) -> Result<(ChannelManifest, Option<Written>), SnapshotError> {
    let mut batches = Vec::new();
    let mut elements = Vec::new();
    for element in &channel.elements {
        match element {
            StreamElement::Batch(batch) => {
                batches.push(batch.clone());
                elements.push(ChannelElement::Rows);
            }
            StreamElement::Watermark(watermark) => elements.push(ChannelElement::Watermark(*watermark)),
            // Told anew by the task that sends.
            StreamElement::Barrier(_) | StreamElement::EndOfInput => {}
        }
    }
    let rows_held = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    let file = match batches.is_empty() {
        true => None,
        false => Some(written(format!("{prefix}.rows"), rows_held, rows::write(&batches)?)),
    };
    let manifest = ChannelManifest {
        from: names.0.to_owned(),
        from_subtask: channel.from.1,
        to: names.1.to_owned(),
        to_subtask,
        elements,
        file: file.as_ref().map(|written| written.file.clone()),
    };
    Ok((manifest, file))
}

fn written(name: String, rows: u64, content: Vec<u8>) -> Written {
    Written { file: FileRef { name, bytes: content.len() as u64, rows }, content }
}
