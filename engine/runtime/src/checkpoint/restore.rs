//! Going on from a checkpoint: what of it is whose, now that the job may have another parallelism.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StructArray, UInt32Array, new_empty_array, new_null_array};
use arrow::buffer::Buffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field};
use serde::de::DeserializeOwned;
use wasmill_host::data_type;

use super::SnapshotError;
use super::keyed::{KeyBytes, KeyedReader, StateField};
use super::manifest::{ChannelElement, FileRef, Manifest, NodeManifest};
use super::rows;
use super::storage::{CheckpointStorage, StorageError};
use crate::batch::{Batch, StreamElement};
use crate::connector::WriterState;
use crate::key::{KeyEncoder, hash, key_group, subtask_of};

/// A complete checkpoint, and where its files are.
#[derive(Debug, Clone)]
pub struct Restored {
    pub manifest: Arc<Manifest>,
    storage: Arc<dyn CheckpointStorage>,
}

/// The folder of the manifests of checkpoints.
pub(crate) const CHECKPOINTS: &str = "checkpoints/";

/// The manifest of a savepoint: there is one in a place.
pub(crate) const SAVEPOINT: &str = "savepoint.manifest";

pub(crate) fn manifest_name(checkpoint: u64) -> String {
    format!("{CHECKPOINTS}{checkpoint}.manifest")
}

/// The number in the name of a manifest.
pub(crate) fn checkpoint_of(name: &str) -> Option<u64> {
    name.strip_prefix(CHECKPOINTS)?.strip_suffix(".manifest")?.parse().ok()
}

/// The numbers of the checkpoints in `storage`, ascending. A savepoint is none of them.
///
/// # Errors
/// The place cannot be listed.
pub fn numbers(storage: &Arc<dyn CheckpointStorage>) -> Result<Vec<u64>, SnapshotError> {
    let mut numbers: Vec<u64> = storage.list(CHECKPOINTS)?.iter().filter_map(|name| checkpoint_of(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

impl Restored {
    pub(crate) fn new(manifest: Arc<Manifest>, storage: Arc<dyn CheckpointStorage>) -> Restored {
        Restored { manifest, storage }
    }

    /// The newest checkpoint in `storage`; a savepoint if that is what is there.
    ///
    /// # Errors
    /// Also if it is damaged: that an older one is whole is for the user to find good enough.
    pub fn newest(storage: &Arc<dyn CheckpointStorage>) -> Result<Option<Restored>, SnapshotError> {
        match numbers(storage)?.last() {
            Some(number) => Restored::read(storage, &manifest_name(*number)).map(Some),
            None => match Restored::read(storage, SAVEPOINT) {
                Err(SnapshotError::Storage(StorageError::Missing { .. })) => Ok(None),
                found => found.map(Some),
            },
        }
    }

    /// The checkpoint with this number.
    ///
    /// # Errors
    /// [`SnapshotError`], if it is not there too.
    pub fn checkpoint(storage: &Arc<dyn CheckpointStorage>, number: u64) -> Result<Restored, SnapshotError> {
        Restored::read(storage, &manifest_name(number))
    }

    fn read(storage: &Arc<dyn CheckpointStorage>, name: &str) -> Result<Restored, SnapshotError> {
        let in_file = |error| SnapshotError::File { place: storage.location(Some(name)), error: Box::new(error) };
        let file = storage.get(name)?;
        let manifest = Manifest::read(&file).map_err(|error| in_file(error.into()))?;
        Ok(Restored { manifest: Arc::new(manifest), storage: Arc::clone(storage) })
    }

    pub fn location(&self) -> String {
        self.storage.location(None)
    }

    /// The content of one of its files, as `read` understands it.
    pub(crate) fn file<T>(
        &self,
        file: &FileRef,
        read: impl FnOnce(&Buffer) -> Result<T, SnapshotError>,
    ) -> Result<T, SnapshotError> {
        let content = Buffer::from_vec(self.storage.get(&file.name)?);
        read(&content).map_err(|error| match error {
            named @ (SnapshotError::File { .. } | SnapshotError::Storage(_) | SnapshotError::Unfit { .. }) => named,
            error => SnapshotError::File { place: self.storage.location(Some(&file.name)), error: Box::new(error) },
        })
    }
}

/// What a subtask of a node finds of itself.
pub(crate) struct NodeState<'a> {
    pub from: &'a Restored,
    pub node: &'a NodeManifest,
    pub subtask: usize,
    pub parallelism: usize,
}

/// Keys of this subtask and their states.
pub(crate) struct MyKeys<'a> {
    pub keys: &'a KeyBytes,
    /// Of each key, its place in `states`.
    pub rows: &'a [u32],
    pub fields: &'a [StateField],
    /// In the order of `fields`.
    pub states: &'a [ArrayRef],
    /// Of [`NodeState::own`], whose this is.
    pub told_by: usize,
}

impl NodeState<'_> {
    fn is_rescaled(&self) -> bool {
        self.node.subtasks.len() != self.parallelism
    }

    fn owns(&self, group: usize) -> bool {
        subtask_of(group, self.parallelism, self.node.max_parallelism) == self.subtask
    }

    /// The words of the subtasks that this one follows: of its own predecessor where there are as many as before, else of all.
    pub(crate) fn own<T: DeserializeOwned>(&self) -> Result<Vec<T>, SnapshotError> {
        let subtasks: &[_] = match self.is_rescaled() {
            true => &self.node.subtasks,
            false => &self.node.subtasks[self.subtask..=self.subtask],
        };
        let own = subtasks.iter().map(|subtask| &subtask.own).filter(|own| !own.is_null());
        own.map(|own| {
            T::deserialize(own).map_err(|error| SnapshotError::Unfit {
                place: self.from.location(),
                message: format!("what node \"{}\" says of itself is not understood: {error}", self.node.id),
            })
        })
        .collect()
    }

    /// What all writers of the sink said.
    pub(crate) fn writers(&self) -> Vec<WriterState> {
        writer_states(self.node)
    }

    /// Visits the state of this subtask's keys, older before newer.
    pub(crate) fn keyed(
        &self,
        mut visit: impl FnMut(&MyKeys<'_>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        for (told_by, subtask) in self.node.subtasks.iter().enumerate() {
            if !self.is_rescaled() && told_by != self.subtask {
                continue;
            }
            for file in &subtask.keyed {
                self.from.file(file, |content| {
                    let mut reader = KeyedReader::new(content)?;
                    let fields = reader.states().to_vec();
                    let suffix = if reader.layout().windowed { size_of::<i64>() } else { 0 };
                    while let Some(batch) = reader.next()? {
                        let mine = |row: &u32| {
                            let key = batch.keys.get(*row as usize);
                            let group = key_group(hash(&key[..key.len() - suffix]), self.node.max_parallelism);
                            !self.is_rescaled() || self.owns(group)
                        };
                        let rows: Vec<u32> = (0..batch.keys.len() as u32).filter(mine).collect();
                        let (keys, states) = (&batch.keys, batch.states.as_slice());
                        let told_by = if self.is_rescaled() { told_by } else { 0 };
                        visit(&MyKeys { keys, rows: &rows, fields: &fields, states, told_by })?;
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// The job is another one than that which told this.
    pub(crate) fn unfit(&self, message: String) -> SnapshotError {
        SnapshotError::Unfit { place: self.from.location(), message: format!("node \"{}\": {message}", self.node.id) }
    }

    /// `values` as those of `what`, which is `wanted` now.
    pub(crate) fn fitting(&self, what: &str, values: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, SnapshotError> {
        grown(values, wanted).ok_or_else(|| {
            let now = data_type::display(wanted, false).unwrap_or_default();
            let before = data_type::display(values.data_type(), false).unwrap_or_default();
            self.unfit(format!("{what} is {now}, and was {before} in the checkpoint"))
        })
    }

    /// Rows of open bundles that are now this subtask's, by key where there is one.
    pub(crate) fn bundle(&self, key: Option<&KeyEncoder>) -> Result<Vec<Batch>, SnapshotError> {
        let mut mine = Vec::new();
        for (told_by, subtask) in self.node.subtasks.iter().enumerate() {
            let Some(file) = &subtask.bundle else { continue };
            if !self.is_rescaled() && told_by != self.subtask {
                continue;
            }
            for batch in self.from.file(file, rows::read)? {
                mine.extend(self.part(batch, told_by, key)?);
            }
        }
        Ok(mine)
    }

    /// The rows of `batch`, which belonged to subtask `was`, that are now this one's.
    fn part(&self, batch: Batch, was: usize, key: Option<&KeyEncoder>) -> Result<Option<Batch>, SnapshotError> {
        if !self.is_rescaled() {
            return Ok((was == self.subtask).then_some(batch));
        }
        let Some(key) = key else { return Ok((was % self.parallelism == self.subtask).then_some(batch)) };
        let keys = key.encode(batch.rows())?;
        let mine = (0..batch.num_rows())
            .map(|row| Some(self.owns(key_group(hash(keys.get(row)), self.node.max_parallelism))))
            .collect::<BooleanArray>();
        let part = batch.filter(&mine)?;
        Ok((part.num_rows() > 0).then_some(part))
    }

    /// What was in the channels from `from`, which has so many subtasks now: for each of them, what comes first.
    pub(crate) fn channels(
        &self,
        from: &str,
        senders: usize,
        key: Option<&KeyEncoder>,
    ) -> Result<Vec<Vec<StreamElement>>, SnapshotError> {
        let mut found: Vec<Vec<StreamElement>> = (0..senders).map(|_| Vec::new()).collect();
        let channels = &self.from.manifest.channels;
        let old_senders = self.from.manifest.node(from).map_or(senders, |node| node.subtasks.len());
        for channel in channels.iter().filter(|channel| channel.from == from && channel.to == self.node.id) {
            if !self.is_rescaled() && channel.to_subtask != self.subtask {
                continue;
            }
            let batches = channel.file.as_ref().map(|file| self.from.file(file, rows::read)).transpose()?;
            let mut batches = batches.unwrap_or_default().into_iter();
            let place = &mut found[channel.from_subtask % senders];
            for element in &channel.elements {
                match element {
                    ChannelElement::Rows => {
                        let batch = batches.next().ok_or_else(|| {
                            SnapshotError::Columns("a channel has fewer rows than its manifest says".into())
                        })?;
                        place.extend(self.part(batch, channel.to_subtask, key)?.map(StreamElement::Batch));
                    }
                    // Where channels come together, one of them must not speak for the others; sources tell theirs anew.
                    ChannelElement::Watermark(watermark) => {
                        if !self.is_rescaled() && old_senders == senders {
                            place.push(StreamElement::Watermark(*watermark));
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

/// What all writers of a sink said.
pub(crate) fn writer_states(node: &NodeManifest) -> Vec<WriterState> {
    let own = node.subtasks.iter().map(|subtask| &subtask.own);
    own.filter_map(written_state).collect()
}

/// What a sink's writer said, in the words of its operator.
fn written_state(own: &serde_json::Value) -> Option<WriterState> {
    own.get("writer").and_then(|writer| writer.as_str()).map(|writer| WriterState(writer.to_owned()))
}

impl MyKeys<'_> {
    /// The values of the state `name` for each of the keys; `None` if the checkpoint has none of that name.
    pub(crate) fn values(&self, name: &str) -> Result<Option<ArrayRef>, SnapshotError> {
        let Some(index) = self.fields.iter().position(|field| field.name == name) else { return Ok(None) };
        let values = &self.states[index];
        Ok(Some(match self.rows.len() == values.len() {
            true => Arc::clone(values),
            false => take(values, &UInt32Array::from(self.rows.to_vec()), None)?,
        }))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.rows.iter().map(|row| self.keys.get(*row as usize))
    }
}

/// Can a state that is `before` be `wanted` from here on? Values may keep it from that all the same: a field that has nulls cannot
/// come to take none.
pub(crate) fn can_become(before: &DataType, wanted: &DataType) -> bool {
    grown(&new_empty_array(before), wanted).is_some()
}

/// `values` as those of a state that is `wanted` now: of the same type, or of one that has grown by fields that may be null.
pub(crate) fn grown(values: &ArrayRef, wanted: &DataType) -> Option<ArrayRef> {
    if values.data_type() == wanted {
        return Some(Arc::clone(values));
    }
    let (DataType::Struct(_), DataType::Struct(fields)) = (values.data_type(), wanted) else { return None };
    let before = values.as_struct();
    let known = |name: &str| fields.iter().any(|field| field.name() == name);
    if !before.column_names().into_iter().all(known) {
        return None;
    }
    let column = |field: &Arc<Field>| match before.column_by_name(field.name()) {
        Some(column) if field.is_nullable() || column.logical_null_count() == 0 => grown(column, field.data_type()),
        // A field of a row that is not there is null, whatever the type says.
        Some(column) if before.null_count() > 0 => grown(column, field.data_type()),
        None if field.is_nullable() => Some(new_null_array(field.data_type(), before.len())),
        _ => None,
    };
    let columns = fields.iter().map(column).collect::<Option<Vec<_>>>()?;
    let rows = StructArray::try_new_with_length(fields.clone(), columns, before.nulls().cloned(), before.len());
    rows.ok().map(|rows| Arc::new(rows) as ArrayRef)
}
