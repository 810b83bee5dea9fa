//! Carries out what the coordinator decides about files and sinks: writes parts and manifests, commits, clears up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::SnapshotError;
use super::manifest::{Manifest, NodeManifest, SnapshotKind, SubtaskManifest};
use super::protocol::{NodeRecord, Record, RegionId, Target, TaskId, TaskRecord};
use super::restore::{CHECKPOINTS, Restored, SAVEPOINT, checkpoint_of, manifest_name, writer_states};
use super::snapshot::{TaskSnapshot, channel_files, node_files};
use super::storage::CheckpointStorage;
use crate::assembly::Assembly;
use crate::connector::{Committable, Sink};
use crate::dead_letter::LETTERS;
use crate::error::JobError;
use crate::graph::{NodeId, Operation};
use crate::simulate::Sabotage;

pub(crate) struct Keeper {
    assembly: Arc<Assembly>,
    storage: Option<Arc<dyn CheckpointStorage>>,
    savepoints: BTreeMap<u64, Savepoint>,
    /// Complete ones by number, and that from which the job began.
    complete: BTreeMap<u64, Restored>,
    sinks: BTreeMap<NodeId, Arc<dyn Sink>>,
    /// Regions whose sinks have been made ready before.
    started: BTreeSet<RegionId>,
    /// Only in a simulation.
    sabotage: Option<Sabotage>,
}

/// A savepoint that was asked for.
struct Savepoint {
    storage: Arc<dyn CheckpointStorage>,
    /// The job ends with it, and commits what it holds.
    last: bool,
}

impl Keeper {
    pub(crate) fn new(
        assembly: Arc<Assembly>,
        storage: Option<Arc<dyn CheckpointStorage>>,
        from: Option<&Restored>,
    ) -> Keeper {
        let nodes = assembly.graph.nodes.iter().enumerate();
        let sinks = nodes.filter_map(|(id, node)| match &node.operation {
            Operation::Sink { sink } => Some((id, Arc::clone(sink))),
            _ => None,
        });
        let letters = assembly.graph.dead_letters.iter().map(|sink| (assembly.graph.nodes.len(), Arc::clone(sink)));
        let sinks = sinks.chain(letters).collect();
        let complete = from.map(|from| (from.manifest.checkpoint, from.clone())).into_iter().collect();
        Keeper {
            storage,
            savepoints: BTreeMap::new(),
            complete,
            sinks,
            started: BTreeSet::new(),
            assembly,
            sabotage: None,
        }
    }

    /// Breaks the protocol, to show that it is seen.
    pub(crate) fn sabotaged(self, sabotage: Option<Sabotage>) -> Keeper {
        Keeper { sabotage, ..self }
    }

    /// From here on checkpoints are of the same job with other functions.
    pub(crate) fn swap(&mut self, assembly: Arc<Assembly>) {
        self.assembly = assembly;
    }

    /// Where the savepoint of this request goes, and whether the job ends with it.
    pub(crate) fn expect(&mut self, request: u64, storage: Arc<dyn CheckpointStorage>, last: bool) {
        self.savepoints.insert(request, Savepoint { storage, last });
    }

    pub(crate) fn restored(&self, checkpoint: u64) -> Option<&Restored> {
        self.complete.get(&checkpoint)
    }

    /// The newest checkpoint that the job can go on from.
    pub(crate) fn newest(&self) -> Option<u64> {
        let own = self.complete.iter().filter(|(_, restored)| restored.manifest.kind == SnapshotKind::Checkpoint);
        own.map(|(checkpoint, _)| *checkpoint).next_back().or(self.complete.keys().next_back().copied())
    }

    /// Where each sink's output lies.
    pub(crate) fn outputs(&self) -> Vec<(String, String)> {
        self.sinks.iter().map(|(node, sink)| (self.assembly.node_name(*node).to_owned(), sink.location())).collect()
    }

    fn storage(&self, target: Target) -> Result<&Arc<dyn CheckpointStorage>, SnapshotError> {
        let storage = match target {
            Target::Checkpoints => self.storage.as_ref(),
            Target::Savepoint(request) => self.savepoints.get(&request).map(|savepoint| &savepoint.storage),
        };
        storage.ok_or_else(|| SnapshotError::Columns("there is no place for it".into()))
    }

    /// The savepoint with which a job ends is a checkpoint too: who went on from the one before would write again what this one
    /// commits.
    fn copy(&self, target: Target) -> Option<&Arc<dyn CheckpointStorage>> {
        let Target::Savepoint(request) = target else { return None };
        self.storage.as_ref().filter(|_| self.savepoints.get(&request).is_some_and(|savepoint| savepoint.last))
    }

    /// Writes what a task handed over.
    pub(crate) fn write(
        &self,
        task: TaskId,
        checkpoint: u64,
        target: Target,
        snapshot: &TaskSnapshot,
    ) -> Result<TaskRecord, SnapshotError> {
        let storage = self.storage(target)?;
        let put = |file: &str, content: &[u8]| -> Result<(), SnapshotError> {
            storage.put(file, content)?;
            self.copy(target).map_or(Ok(()), |copy| Ok(copy.put(file, content)?))
        };
        let (head, subtask) = self.assembly.place(task);
        let mut record = TaskRecord { nodes: Vec::new(), channels: Vec::new(), confirmed: snapshot.confirmed };
        for node in &snapshot.nodes {
            // The letters of every task are a part of their own.
            let subtask = if node.node == self.assembly.graph.nodes.len() { task } else { subtask };
            let prefix = format!("state/{}-{subtask}-{checkpoint}", file_name(self.assembly.node_id(node.node)));
            let manifest = node_files(node, &prefix, |written| put(&written.file.name, &written.content))?;
            let full = node.keyed.as_ref().is_none_or(|keyed| keyed.full);
            record.nodes.push(NodeRecord { node: node.node, subtask, manifest, full });
        }
        for (index, channel) in snapshot.channels.iter().enumerate() {
            let names = (self.assembly.node_id(channel.from.0), self.assembly.node_id(head));
            let prefix = format!("state/{}-{subtask}-{checkpoint}-channel-{index}", file_name(names.1));
            let (manifest, file) = channel_files(channel, names, subtask, &prefix)?;
            if let Some(file) = file {
                put(&file.file.name, &file.content)?;
            }
            record.channels.push(manifest);
        }
        Ok(record)
    }

    /// Writes the manifest: from here on the checkpoint is complete. Bytes of all that it names.
    pub(crate) fn complete(
        &mut self,
        checkpoint: u64,
        target: Target,
        finished: bool,
        record: &Record,
        now_ms: i64,
    ) -> Result<u64, SnapshotError> {
        let storage = Arc::clone(self.storage(target)?);
        let manifest = self.manifest(checkpoint, target, finished, record, now_ms);
        let name = match target {
            Target::Checkpoints => manifest_name(checkpoint),
            Target::Savepoint(_) => SAVEPOINT.to_owned(),
        };
        // The copy first: where the savepoint is there, nobody goes on from an older checkpoint by mistake.
        let copy = self.copy(target).map(|copy| {
            let manifest = Manifest { kind: SnapshotKind::Checkpoint, ..manifest.clone() };
            copy.put(&manifest_name(checkpoint), &manifest.write())?;
            Ok::<_, SnapshotError>(Restored::new(Arc::new(manifest), Arc::clone(copy)))
        });
        let copy = copy.transpose()?;
        storage.put(&name, &manifest.write())?;
        let bytes = manifest.files().map(|file| file.bytes).sum();
        let written = copy.unwrap_or_else(|| Restored::new(Arc::new(manifest), storage));
        self.complete.insert(checkpoint, written);
        Ok(bytes)
    }

    fn manifest(&self, checkpoint: u64, target: Target, finished: bool, record: &Record, now_ms: i64) -> Manifest {
        let mut nodes: Vec<NodeManifest> =
            (0..self.assembly.graph.nodes.len()).map(|node| self.assembly.describe(node)).collect();
        if self.assembly.graph.dead_letters.is_some() {
            nodes.push(NodeManifest {
                id: LETTERS.to_owned(),
                does: LETTERS.to_owned(),
                max_parallelism: self.assembly.tasks.len(),
                key: Vec::new(),
                states: Vec::new(),
                subtasks: vec![SubtaskManifest::default(); self.assembly.tasks.len()],
            });
        }
        for node in record.values().flat_map(|task| &task.nodes) {
            if let Some(place) = nodes.get_mut(node.node).and_then(|manifest| manifest.subtasks.get_mut(node.subtask)) {
                *place = node.manifest.clone();
            }
        }
        Manifest {
            job: self.assembly.graph.name.clone(),
            checkpoint,
            kind: if target == Target::Checkpoints { SnapshotKind::Checkpoint } else { SnapshotKind::Savepoint },
            taken_at: now_ms,
            finished,
            splits: self.assembly.split_names.to_vec(),
            nodes,
            channels: record.values().flat_map(|task| task.channels.iter().cloned()).collect(),
        }
    }

    /// Makes real what sinks prepared.
    pub(crate) fn commit(&self, prepared: &BTreeMap<NodeId, Vec<Committable>>) -> Result<(), JobError> {
        let mut before = Vec::new();
        for (node, sink) in &self.sinks {
            let Some(prepared) = prepared.get(node).filter(|prepared| !prepared.is_empty()) else { continue };
            let node = self.assembly.node_name(*node).to_owned();
            sink.commit(prepared).map_err(|error| JobError::Commit {
                node: node.clone(),
                error,
                before: before.clone(),
            })?;
            before.push((node, sink.location()));
        }
        Ok(())
    }

    /// Removes checkpoints that nobody wants any more, and files that none of the others needs. What cannot be removed is tried
    /// again with the next.
    pub(crate) fn retain(&mut self, checkpoints: &BTreeSet<u64>, pending_from: u64) {
        let Some(storage) = &self.storage else { return };
        let wanted = |number: u64| number >= pending_from || checkpoints.contains(&number);
        self.complete.retain(|checkpoint, _| wanted(*checkpoint));
        let needed: BTreeSet<&str> = self
            .complete
            .values()
            .flat_map(|restored| restored.manifest.files())
            .map(|file| file.name.as_str())
            .collect();
        let manifests = storage.list(CHECKPOINTS).unwrap_or_default();
        let old = manifests.iter().filter(|name| checkpoint_of(name).is_some_and(|number| !wanted(number)));
        let files = storage.list("state/").unwrap_or_default();
        let stale = files.iter().filter(|name| {
            !needed.contains(name.as_str()) && checkpoint_in(name).is_some_and(|number| number < pending_from)
        });
        // Manifests go first: none is left that names what is gone.
        if old.map(|name| storage.delete(name)).filter(Result::is_err).count() == 0 {
            for name in stale {
                let _again_with_the_next = storage.delete(name);
            }
        }
    }

    /// Before the job goes back to `from`, what is newer must be gone: a manifest that could not be written may be there all the
    /// same, and what it names is about to be removed.
    fn forget_newer(&self, from: Option<u64>) -> Result<(), SnapshotError> {
        let Some(storage) = &self.storage else { return Ok(()) };
        for name in storage.list(CHECKPOINTS)? {
            if checkpoint_of(&name).is_some_and(|number| from.is_none_or(|from| number > from)) {
                storage.delete(&name)?;
            }
        }
        Ok(())
    }

    /// Makes the sinks of a region ready: for the first time, or again from where the job goes on.
    pub(crate) fn ready(&mut self, region: RegionId, from: Option<u64>) -> Result<(), JobError> {
        let letters = self.assembly.graph.nodes.len();
        let again = !self.started.insert(region);
        self.forget_newer(from).map_err(JobError::Files)?;
        let from = from.and_then(|from| self.complete.get(&from));
        // Where there are letters, all of the job is one region.
        let nodes: Vec<NodeId> = self.assembly.nodes_of(region).chain([letters]).collect();
        for node in nodes {
            let Some(sink) = self.sinks.get(&node) else { continue };
            let failed = |error| match node == letters {
                true => JobError::DeadLetters(error),
                false => JobError::Connector { node: self.assembly.node_name(node).to_owned(), error },
            };
            let id = self.assembly.node_id(node);
            let before = from.and_then(|from| from.manifest.node(id));
            let mut prepared = from.map(|from| from.manifest.prepared(id)).unwrap_or_default();
            if self.sabotage == Some(Sabotage::ForgetPrepared) {
                prepared.clear();
            }
            if again {
                sink.abort(&prepared);
            }
            match (from, before) {
                (Some(_), Some(before)) => sink.resume(&prepared, &writer_states(before)).map_err(failed)?,
                // A sink that the checkpoint does not know begins.
                _ => sink.start().map_err(failed)?,
            }
        }
        Ok(())
    }

    /// After the last commit of a job that has come to its end.
    pub(crate) fn finish(&self) -> Result<(), JobError> {
        for (node, sink) in &self.sinks {
            let failed =
                |error| JobError::Commit { node: self.assembly.node_name(*node).to_owned(), error, before: Vec::new() };
            sink.finish().map_err(failed)?;
        }
        Ok(())
    }

    /// Removes what no checkpoint can bring back.
    pub(crate) fn abort(&self, latest: Option<u64>) {
        let latest = latest.and_then(|latest| self.complete.get(&latest));
        for (node, sink) in &self.sinks {
            let keep = latest.map(|latest| latest.manifest.prepared(self.assembly.node_id(*node)));
            sink.abort(&keep.unwrap_or_default());
        }
    }
}

/// A node's id as part of a file's name, short and of letters that every store takes. Only the manifest says which file is whose: two
/// long names that begin alike do not meet, since each has its own hash.
fn file_name(node: &str) -> String {
    const PLAIN_BYTES: usize = 60;
    let letters = |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte) } else { '_' };
    let name: String = node.bytes().take(PLAIN_BYTES).map(letters).collect();
    match name == node {
        true => name,
        false => format!("{name}_{:08x}", xxh3_64(node.as_bytes()) as u32),
    }
}

/// The checkpoint for which a file was written.
fn checkpoint_in(name: &str) -> Option<u64> {
    let name = name.strip_prefix("state/")?.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let mut parts = name.split('-').skip(2);
    parts.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_tell_their_checkpoint() {
        for node in ["daily", "a-b", "ö", "a_b"] {
            let plain = file_name(node);
            for rest in ["keyed", "rows"] {
                assert_eq!(checkpoint_in(&format!("state/{plain}-3-17.{rest}")), Some(17), "{node} {rest}");
            }
            assert_eq!(checkpoint_in(&format!("state/{plain}-3-17-channel-0.rows")), Some(17));
        }
        assert_eq!(checkpoint_in("state/notes.txt"), None);
    }
}
