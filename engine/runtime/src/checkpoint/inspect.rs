//! What state a checkpoint holds, for a person.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Int64Type, Schema};
use hashbrown::HashMap;
use serde::Deserialize;

use super::SnapshotError;
use super::keyed::KeyedReader;
use super::manifest::SubtaskManifest;
use super::restore::Restored;

/// The nodes that have state by key.
pub fn nodes(of: &Restored) -> Vec<String> {
    let keyed = |subtasks: &[SubtaskManifest]| subtasks.iter().any(|subtask| !subtask.keyed.is_empty());
    of.manifest.nodes.iter().filter(|node| keyed(&node.subtasks)).map(|node| node.id.clone()).collect()
}

/// All state of a node: the key's columns, `window_start` where state belongs to windows, and the states. A batch of each subtask.
///
/// # Errors
/// Damaged files.
pub fn states(of: &Restored, node: &str) -> Result<Vec<RecordBatch>, SnapshotError> {
    let subtasks = of.manifest.node(node).map_or(&[][..], |node| &node.subtasks);
    let parts = subtasks.iter().map(|subtask| subtask_states(of, subtask));
    Ok(parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// What a window operator says of itself.
#[derive(Deserialize)]
struct Windows {
    watermark: i64,
    size_ms: i64,
}

fn subtask_states(of: &Restored, subtask: &SubtaskManifest) -> Result<Option<RecordBatch>, SnapshotError> {
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut rows_before = 0u32;
    // Key → its newest row. What a later file says of a key goes before.
    let mut newest: HashMap<Vec<u8>, u32> = HashMap::new();
    let mut states = 0;
    let mut windowed = false;
    for file in &subtask.keyed {
        of.file(file, |content| {
            let mut reader = KeyedReader::new(content)?;
            states = reader.states().len();
            windowed = reader.layout().windowed;
            while let Some(batch) = reader.next()? {
                for (row, key) in batch.keys.iter().enumerate() {
                    newest.insert(key.to_vec(), rows_before + row as u32);
                }
                rows_before += batch.rows.num_rows() as u32;
                batches.push(batch.rows);
            }
            Ok(())
        })?;
    }
    let Some(first) = batches.first() else { return Ok(None) };
    // A state's type may have grown between two files only with a restore, and the first checkpoint after one has all state.
    let schema = Arc::new(Schema::new(first.schema().fields().clone()));
    let all = concat_batches(&first.schema(), &batches)?;
    let windows = Windows::deserialize(&subtask.own).ok().filter(|_| windowed);
    let is_there = |row: &u32| {
        let columns = &all.columns()[all.num_columns() - states..];
        columns.iter().any(|column| column.is_valid(*row as usize))
    };
    // That a window has fired is told by the watermark alone.
    let is_open = |row: &u32| {
        windows.as_ref().is_none_or(|windows| {
            let starts = all.column(all.num_columns() - states - 1).as_primitive::<Int64Type>();
            starts.value(*row as usize).saturating_add(windows.size_ms - 1) > windows.watermark
        })
    };
    let mut rows: Vec<u32> = newest.into_values().filter(|row| is_there(row) && is_open(row)).collect();
    rows.sort_unstable();
    let taken = take_record_batch(&all, &UInt32Array::from(rows))?;
    Ok(Some(RecordBatch::try_new(schema, taken.columns().to_vec())?))
}
