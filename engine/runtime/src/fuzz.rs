//! Doors to the readers of checkpoints' files, for `tests/fuzz` alone. No part of this crate's API.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_empty_array};
use arrow::compute::concat;
use arrow::datatypes::SchemaRef;

use crate::batch::Batch;
use crate::checkpoint::keyed::{KeyBytes, KeyLayout, KeyedReader, KeyedSnapshot, StateField};
use crate::checkpoint::{SnapshotError, rows};

/// All of a file of state by key.
#[derive(Debug, Clone, PartialEq)]
pub struct Keyed {
    /// The key's columns.
    pub key: SchemaRef,
    /// Does a key belong to a window?
    pub windowed: bool,
    /// As bytes, in the order of the file.
    pub keys: Vec<Vec<u8>>,
    /// Name and values, one for each key.
    pub states: Vec<(String, ArrayRef)>,
}

/// Reads a file of state by key, or says what is wrong with it.
pub fn read_keyed(file: &[u8]) -> Result<Keyed, String> {
    keyed(file).map_err(|error| error.to_string())
}

fn keyed(file: &[u8]) -> Result<Keyed, SnapshotError> {
    let mut reader = KeyedReader::new(&file.into())?;
    let mut keys = Vec::new();
    let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::new(); reader.states().len()];
    while let Some(batch) = reader.next()? {
        keys.extend(batch.keys.iter().map(<[u8]>::to_vec));
        parts.iter_mut().zip(batch.states).for_each(|(parts, values)| parts.push(values));
    }
    let whole = |(field, parts): (&StateField, Vec<ArrayRef>)| {
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        let values = if parts.is_empty() { new_empty_array(&field.data_type) } else { concat(&parts)? };
        Ok((field.name.clone(), values))
    };
    let states = reader.states().iter().zip(parts).map(whole).collect::<Result<_, SnapshotError>>()?;
    Ok(Keyed { key: Arc::clone(&reader.layout().schema), windowed: reader.layout().windowed, keys, states })
}

/// The file of such state.
pub fn write_keyed(keyed: &Keyed) -> Result<Vec<u8>, String> {
    let mut keys = KeyBytes::default();
    keyed.keys.iter().for_each(|key| keys.push(key));
    let state = |(name, values): &(String, ArrayRef)| {
        (StateField { name: name.clone(), data_type: values.data_type().clone() }, Arc::clone(values))
    };
    let layout = KeyLayout { schema: Arc::clone(&keyed.key), windowed: keyed.windowed };
    let states = keyed.states.iter().map(state).collect();
    let snapshot = KeyedSnapshot { full: true, layout, keys, states, stored: None };
    snapshot.write(0..snapshot.keys.len()).map_err(|error| error.to_string())
}

/// Reads a file of rows on their way, or says what is wrong with it.
pub fn read_rows(file: &[u8]) -> Result<Vec<Batch>, String> {
    rows::read(&file.into()).map_err(|error| error.to_string())
}

/// The file of such rows: at least one batch, all of the same columns.
pub fn write_rows(batches: &[Batch]) -> Result<Vec<u8>, String> {
    rows::write(batches).map_err(|error| error.to_string())
}
