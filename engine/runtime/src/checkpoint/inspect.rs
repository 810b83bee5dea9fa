//! What state a checkpoint holds, for a person.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use hashbrown::HashMap;
use serde::Deserialize;

use super::SnapshotError;
use super::keyed::KeyedReader;
use super::manifest::SubtaskManifest;
use super::restore::Restored;
use crate::batch::record_batch;

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
    parts(of, node).collect()
}

/// As [`states`], the subtasks one after the other: each is read when it is asked for.
pub fn parts(of: &Restored, node: &str) -> impl Iterator<Item = Result<RecordBatch, SnapshotError>> {
    let subtasks = of.manifest.node(node).map_or(&[][..], |node| &node.subtasks);
    subtasks.iter().filter_map(|subtask| subtask_states(of, subtask).transpose())
}

/// What a window operator says of itself.
#[derive(Deserialize)]
struct Windows {
    watermark: i64,
    size_ms: i64,
}

/// The state of one subtask; `None` if it has no files.
fn subtask_states(of: &Restored, subtask: &SubtaskManifest) -> Result<Option<RecordBatch>, SnapshotError> {
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut rows_before = 0u32;
    // Key → its newest row. What a later file says of a key goes before.
    let mut newest: HashMap<Vec<u8>, u32> = HashMap::new();
    let mut columns = None;
    for file in &subtask.keyed {
        of.file(file, |content| {
            let mut reader = KeyedReader::new(content)?;
            // A state's type may have grown between two files only with a restore, and the first checkpoint after one has all state.
            columns.get_or_insert_with(|| (Arc::clone(reader.schema()), reader.layout().clone()));
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
    let Some((schema, layout)) = columns else { return Ok(None) };
    let all = concat_batches(&schema, &batches)?;
    let key = layout.schema.fields().len();
    let first_state = key + usize::from(layout.windowed);
    let is_there = |row: &u32| all.columns()[first_state..].iter().any(|column| column.is_valid(*row as usize));
    let windows = Windows::deserialize(&subtask.own).ok().filter(|_| layout.windowed);
    // That a window has fired is told by the watermark alone.
    let is_open = |row: &u32| {
        windows.as_ref().is_none_or(|windows| {
            let start = all.column(key).as_primitive::<Int64Type>().value(*row as usize);
            start.saturating_add(windows.size_ms.saturating_sub(1)) > windows.watermark
        })
    };
    let mut rows: Vec<u32> = newest.into_values().filter(|row| is_there(row) && is_open(row)).collect();
    rows.sort_unstable();
    let taken = take_record_batch(&all, &UInt32Array::from(rows))?;
    Ok(Some(for_a_person(&taken, layout.windowed.then_some(key))?))
}

/// Without what only a reader of files wants to know, and the start of windows as a time.
fn for_a_person(rows: &RecordBatch, window: Option<usize>) -> Result<RecordBatch, SnapshotError> {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let mut columns = rows.columns().to_vec();
    let fields = rows.schema();
    let fields = fields.fields().iter().map(|field| field.as_ref().clone().with_metadata(Default::default()));
    let mut fields: Vec<Field> = fields.collect();
    if let Some(window) = window {
        columns[window] = cast(&columns[window], &time)?;
        fields[window] = fields[window].clone().with_data_type(time);
    }
    Ok(record_batch(Arc::new(Schema::new(fields)), columns, rows.num_rows())?)
}
