//! Does a job fit what it is to go on from, and the place where it is to keep its checkpoints?

use std::sync::Arc;

use super::SnapshotError;
use super::manifest::NodeManifest;
use super::restore::{CHECKPOINTS, Restored, checkpoint_of};
use super::storage::CheckpointStorage;
use crate::assembly::Assembly;
use crate::dead_letter::LETTERS;
use crate::error::JobError;
use crate::graph::{JobGraph, Operation};

/// A place with checkpoints of an earlier run is for going on from them: they would be lost else.
pub(crate) fn place(
    graph: &JobGraph,
    storage: &Arc<dyn CheckpointStorage>,
    from: Option<&Restored>,
) -> Result<(), JobError> {
    let newest = storage.list(CHECKPOINTS)?.iter().filter_map(|name| checkpoint_of(name)).max();
    let Some(newest) = newest else { return Ok(()) };
    let place = storage.location(None);
    let goes_on = from.is_some_and(|from| from.location() == place);
    if goes_on {
        return Ok(());
    }
    let found = Restored::newest(storage).ok().flatten();
    let message = match found.as_ref().map(|found| &*found.manifest) {
        Some(manifest) if manifest.job != graph.name => format!(
            "it has checkpoints of job \"{}\": give job \"{}\" a directory of its own",
            manifest.job, graph.name
        ),
        Some(manifest) if manifest.finished => format!(
            "it has checkpoints of an earlier run, which came to its end with checkpoint {newest}: remove them to run the job anew, or \
             give another directory"
        ),
        _ => format!(
            "it has checkpoints of an earlier run, the newest is {newest}: go on from them (wasmill run --resume), remove them, or give another \
             directory"
        ),
    };
    // Nothing was to be gone on from: it is the place that does not fit.
    Err(JobError::Files(SnapshotError::Unfit { place, message }))
}

/// Everything that the checkpoint knows must have a place in the job, and be of its types.
pub(crate) fn job(graph: &JobGraph, from: &Restored, allow_non_restored: bool) -> Result<(), JobError> {
    let unfit = |message: String| JobError::Unfit(SnapshotError::Unfit { place: from.location(), message });
    let manifest = &from.manifest;
    if manifest.job != graph.name {
        return Err(unfit(format!("it is of job \"{}\", and this one is \"{}\"", manifest.job, graph.name)));
    }
    for before in &manifest.nodes {
        let Some(id) = graph.nodes.iter().position(|node| node.id == before.id) else {
            let is_letters = before.id == LETTERS && graph.dead_letters.is_some();
            if has_state(before) && !is_letters && !allow_non_restored {
                return Err(unfit(format!(
                    "it has state of node \"{}\" ({}), and the job has no node of that name or id: give one that id, or leave the \
                     state out with --allow-non-restored",
                    before.id, before.does
                )));
            }
            continue;
        };
        let node = &graph.nodes[id];
        if let Some(max) = graph.config.max_parallelism.filter(|max| *max != before.max_parallelism) {
            return Err(unfit(format!(
                "node \"{}\" has {} key groups in it, and pipeline.max-parallelism is {max}: it cannot be changed",
                before.id, before.max_parallelism
            )));
        }
        if node.parallelism > before.max_parallelism {
            return Err(unfit(format!(
                "node \"{}\" has {} key groups in it, and a parallelism of {} now: at most as many are possible",
                before.id, before.max_parallelism, node.parallelism
            )));
        }
        states(graph, id, before).map_err(unfit)?;
        rows_on_their_way(graph, id, before, from).map_err(unfit)?;
    }
    Ok(())
}

/// Rows on their way find their subtask by key. Without one they could be put anywhere, and others that follow them elsewhere: their
/// order would be lost, and with it their place before watermarks.
fn rows_on_their_way(graph: &JobGraph, id: usize, before: &NodeManifest, from: &Restored) -> Result<(), String> {
    let node = &graph.nodes[id];
    let refused = |what: &str| {
        let (was, is) = (before.subtasks.len(), node.parallelism);
        Err(format!(
            "node \"{}\" had {was} subtasks and has {is} now, while {what}, which have no key to find their subtask by: keep its \
             parallelism, or change it with a savepoint, which has no rows on their way",
            before.id
        ))
    };
    if before.subtasks.len() == node.parallelism {
        return Ok(());
    }
    let keyed = node.operation.key().is_some_and(|key| !key.is_empty());
    if !keyed && before.subtasks.iter().any(|subtask| subtask.bundle.is_some()) {
        return refused("rows of open bundles are in the checkpoint (checkpoint.bundle: persist)");
    }
    if !keyed && from.manifest.channels.iter().any(|channel| channel.to == before.id && channel.file.is_some()) {
        return refused("rows that a barrier has overtaken are in the checkpoint (unaligned)");
    }
    Ok(())
}

fn has_state(node: &NodeManifest) -> bool {
    node.subtasks.iter().any(|subtask| !subtask.own.is_null() || !subtask.keyed.is_empty() || subtask.bundle.is_some())
}

/// What can be told without reading the state: kind of node, key, names of states. Types are looked at when values are read.
fn states(graph: &JobGraph, id: usize, before: &NodeManifest) -> Result<(), String> {
    let keyed = before.subtasks.iter().any(|subtask| !subtask.keyed.is_empty());
    let node = &graph.nodes[id];
    let now = Assembly::describe_of(graph, id, before.max_parallelism);
    let kind = |does: &str| does.split(' ').next().unwrap_or_default().to_owned();
    let (is, was) = (kind(&now.does), kind(&before.does));
    let same_kind = is == was
        || (keyed && matches!(node.operation, Operation::Rows { .. } | Operation::Filter { .. }) && was != "window");
    if !same_kind && has_state(before) {
        return Err(format!(
            "node \"{}\" is \"{}\" now and was \"{}\": give it another name",
            before.id, now.does, before.does
        ));
    }
    if keyed && before.key.iter().map(|(_, key)| key).ne(now.key.iter().map(|(_, key)| key)) {
        let types = |key: &[(String, String)]| {
            key.iter().map(|(name, key)| format!("{name}: {key}")).collect::<Vec<_>>().join(", ")
        };
        return Err(format!(
            "node \"{}\" has the key ({}) now and had ({})",
            before.id,
            types(&now.key),
            types(&before.key)
        ));
    }
    match before.states.iter().find(|(name, _)| keyed && !now.states.iter().any(|(known, _)| known == name)) {
        Some((name, _)) => {
            Err(format!("node \"{}\" had a state \"{name}\", and its function has none of that name now", before.id))
        }
        None => Ok(()),
    }
}
