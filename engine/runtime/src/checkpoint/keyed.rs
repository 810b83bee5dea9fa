//! State by key, as a file of a checkpoint: an Arrow IPC stream in a [container].
//!
//! The columns are the key's columns, `window_start` (milliseconds) where state belongs to a key and window, and the states. What a
//! column is stands in its metadata, `wasmill.role`: `key`, `window` or `state`. A null is no value; a row without any value says
//! that the key is gone. A key stands in a file once. A state has the column of its type however its function reaches it, so that it
//! may be reached in another way after a restore. `docs/checkpoint-format.md` has all of it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_ipc::writer::StreamWriter;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use wasmill_host::data_type;

use super::SnapshotError;
use super::batches::BatchReader;
use super::container::{self, Content};
use crate::key::KeyEncoder;
use crate::state::{View, decode_rows, table_key};

const ROLE: &str = "wasmill.role";
const WINDOW: &str = "window_start";

/// Keys in memory that go into one file.
const MEMORY_PART_KEYS: usize = 1 << 18;
/// Of one file, beside columns.
const FRAME_BYTES: usize = 4 << 10;

/// Keys of one file that come from disk, and bytes of them and their values, at most: so much is in memory at a time.
const PART_KEYS: usize = 1 << 18;
const PART_BYTES: usize = 8 << 20;

/// Rows of one batch of a file, at most: a reader believes in no more, since keys and states may take no bytes at all.
const BATCH_ROWS: usize = 1 << 16;

/// What the bytes of keys stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyLayout {
    /// The key's columns alone.
    pub schema: SchemaRef,
    /// The start of a window follows the key, eight bytes, big-endian.
    pub windowed: bool,
}

impl KeyLayout {
    pub(crate) fn new(input: &Schema, key: &[usize], windowed: bool) -> KeyLayout {
        let fields: Vec<Field> = key.iter().map(|&column| input.field(column).clone()).collect();
        KeyLayout { schema: Arc::new(Schema::new(fields)), windowed }
    }

    fn encoder(&self) -> Result<KeyEncoder, ArrowError> {
        KeyEncoder::new(&self.schema, &(0..self.schema.fields().len()).collect::<Vec<_>>())
    }
}

/// The bytes of keys, one after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyBytes {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl KeyBytes {
    /// For so many keys of about so many bytes.
    pub(crate) fn with_capacity(keys: usize, bytes: usize) -> KeyBytes {
        KeyBytes { bytes: Vec::with_capacity(keys * bytes), ends: Vec::with_capacity(keys) }
    }

    pub(crate) fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// What an operator hands over of its state at a barrier.
#[derive(Debug)]
pub(crate) struct KeyedSnapshot {
    /// All keys; else those that have changed since the checkpoint that the barrier calls confirmed.
    pub full: bool,
    pub layout: KeyLayout,
    /// Keys with values, then those that are gone.
    pub keys: KeyBytes,
    /// Of each state, a value for each of the keys that have any.
    pub states: Vec<(StateField, ArrayRef)>,
    /// Keys on disk, some of them perhaps older than here.
    pub stored: Option<View>,
}

/// A state, as it lies in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateField {
    pub name: String,
    pub data_type: DataType,
}

impl KeyedSnapshot {
    /// Visits its files, each with its number of keys: what is newer comes later.
    pub(crate) fn files(
        &self,
        mut put: impl FnMut(usize, Vec<u8>) -> Result<(), SnapshotError> + Send,
    ) -> Result<(), SnapshotError> {
        if let Some(stored) = &self.stored {
            let (mut keys, mut values) = (KeyBytes::default(), KeyBytes::default());
            let mut of = 0;
            stored.each(|epoch, key, value| {
                let full = keys.len() >= PART_KEYS || keys.bytes.len() + values.bytes.len() >= PART_BYTES;
                // A key stands in a file once.
                if full || epoch != of && keys.len() > 0 {
                    self.put_stored(std::mem::take(&mut keys), &std::mem::take(&mut values), &mut put)?;
                }
                of = epoch;
                keys.push(&table_key(key, self.layout.windowed));
                values.push(value);
                Ok::<_, SnapshotError>(())
            })?;
            if keys.len() > 0 {
                self.put_stored(keys, &values, &mut put)?;
            }
        }
        match self.keys.len() {
            0 if !self.full => Ok(()),
            // Not worth the way to other threads.
            keys if keys <= MEMORY_PART_KEYS => put(keys, self.write(0..keys)?),
            keys => self.put_parts(keys, put),
        }
    }

    /// Files of all keys in memory: the next are made, on all cores, while those before are written.
    fn put_parts(
        &self,
        keys: usize,
        mut put: impl FnMut(usize, Vec<u8>) -> Result<(), SnapshotError> + Send,
    ) -> Result<(), SnapshotError> {
        let part = |start: usize| start..(start + MEMORY_PART_KEYS).min(keys);
        let parts: Vec<Range<usize>> = (0..keys).step_by(MEMORY_PART_KEYS).map(part).collect();
        let mut made: Vec<(usize, Vec<u8>)> = Vec::new();
        for parts in parts.chunks(rayon::current_num_threads()).chain([&[][..]]) {
            let make = |part: &Range<usize>| Ok((part.len(), self.write(part.clone())?));
            let (written, next) = rayon::join(
                || made.into_iter().try_for_each(|(keys, file)| put(keys, file)),
                || parts.par_iter().map(make).collect::<Result<_, ArrowError>>(),
            );
            written?;
            made = next?;
        }
        Ok(())
    }

    /// A file of keys from disk.
    fn put_stored(
        &self,
        keys: KeyBytes,
        values: &KeyBytes,
        put: &mut impl FnMut(usize, Vec<u8>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let fields: Vec<&StateField> = self.states.iter().map(|(field, _)| field).collect();
        let columns = decode_rows(&fields, values.iter())?;
        let states = fields.into_iter().cloned().zip(columns).collect();
        let layout = self.layout.clone();
        let part = KeyedSnapshot { full: self.full, layout, keys, states, stored: None };
        put(part.keys.len(), part.write(0..part.keys.len())?)
    }

    /// The file of these of the keys in memory.
    pub(crate) fn write(&self, keys: Range<usize>) -> Result<Vec<u8>, ArrowError> {
        let encoder = self.layout.encoder()?;
        let schema = self.schema();
        let mut file = container::begin(Content::Keyed, self.bytes_about(&keys));
        let mut writer = StreamWriter::try_new(&mut file, &schema)?;
        for start in keys.clone().step_by(BATCH_ROWS) {
            let end = (start + BATCH_ROWS).min(keys.end);
            writer.write(&self.batch(&schema, &encoder, start..end)?)?;
        }
        writer.finish()?;
        drop(writer);
        Ok(container::end(file))
    }

    /// So that a file need not grow while it is written.
    fn bytes_about(&self, keys: &Range<usize>) -> usize {
        let all: usize = self.states.iter().map(|(_, values)| values.get_array_memory_size()).sum();
        let key_bytes = self.keys.bytes.len() + all;
        key_bytes / self.keys.len().max(1) * keys.len() + FRAME_BYTES
    }

    fn schema(&self) -> SchemaRef {
        let role = |role: &str| HashMap::from([(ROLE.to_owned(), role.to_owned())]);
        let key = self.layout.schema.fields().iter().map(|field| field.as_ref().clone().with_metadata(role("key")));
        let mut fields: Vec<Field> = key.collect();
        if self.layout.windowed {
            fields.push(Field::new(WINDOW, DataType::Int64, false).with_metadata(role("window")));
        }
        let state = |(state, _): &(StateField, ArrayRef)| Field::new(&state.name, state.data_type.clone(), true);
        fields.extend(self.states.iter().map(|each| state(each).with_metadata(role("state"))));
        Arc::new(Schema::new(fields))
    }

    fn batch(&self, schema: &SchemaRef, encoder: &KeyEncoder, rows: Range<usize>) -> Result<RecordBatch, ArrowError> {
        let suffix = if self.layout.windowed { size_of::<i64>() } else { 0 };
        let parts = rows.clone().map(|row| {
            let key = self.keys.get(row);
            key.split_at(key.len() - suffix)
        });
        let mut columns = encoder.decode(parts.clone().map(|(key, _)| key))?;
        if self.layout.windowed {
            let starts =
                parts.map(|(_, start)| i64::from_be_bytes(start.try_into().expect("eight bytes were split off")));
            columns.push(Arc::new(Int64Array::from_iter_values(starts)));
        }
        for (state, values) in &self.states {
            let there = rows.start.min(values.len())..rows.end.min(values.len());
            let gone = rows.len() - there.len();
            let part = values.slice(there.start, there.len());
            columns.push(match gone {
                0 => part,
                gone => arrow::compute::concat(&[&part, &arrow::array::new_null_array(&state.data_type, gone)])?,
            });
        }
        crate::batch::record_batch(Arc::clone(schema), columns, rows.len())
    }
}

/// State by key that was read from a file, batch by batch.
pub(crate) struct KeyedReader {
    reader: BatchReader,
    layout: KeyLayout,
    encoder: KeyEncoder,
    states: Vec<StateField>,
}

/// Some keys and their states.
pub(crate) struct KeyedBatch {
    pub keys: KeyBytes,
    /// In the order of [`KeyedReader::states`].
    pub states: Vec<ArrayRef>,
    /// As columns, for a person.
    pub rows: RecordBatch,
}

impl KeyedReader {
    /// # Errors
    /// Whatever the bytes are: no panic.
    pub(crate) fn new(file: &Buffer) -> Result<KeyedReader, SnapshotError> {
        let reader = BatchReader::new(Content::Keyed, file)?;
        let schema = reader.schema();
        let of_role = |role: &'static str| schema.fields().iter().filter(move |field| is(field, role));
        let key: Vec<Field> =
            of_role("key").map(|field| field.as_ref().clone().with_metadata(HashMap::new())).collect();
        let windowed = of_role("window").next().is_some();
        let states: Vec<StateField> = of_role("state")
            .map(|field| StateField { name: field.name().clone(), data_type: field.data_type().clone() })
            .collect();
        check_columns(schema, key.len(), windowed, states.len())?;
        let layout = KeyLayout { schema: Arc::new(Schema::new(key)), windowed };
        let encoder = layout.encoder()?;
        Ok(KeyedReader { reader, layout, encoder, states })
    }

    pub(crate) fn layout(&self) -> &KeyLayout {
        &self.layout
    }

    pub(crate) fn states(&self) -> &[StateField] {
        &self.states
    }

    /// All columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.reader.schema()
    }

    /// The next keys; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<KeyedBatch>, SnapshotError> {
        let Some(rows) = self.reader.next()? else { return Ok(None) };
        if rows.num_rows() > BATCH_ROWS {
            let message = format!("a batch of {} rows, where {BATCH_ROWS} are possible", rows.num_rows());
            return Err(SnapshotError::Columns(message));
        }
        let encoded = self.encoder.encode(&rows)?;
        let width = self.layout.schema.fields().len();
        let starts = self.layout.windowed.then(|| rows.column(width).as_primitive::<Int64Type>());
        let mut keys = KeyBytes::default();
        let mut bytes = Vec::new();
        for row in 0..rows.num_rows() {
            bytes.clear();
            bytes.extend_from_slice(encoded.get(row));
            if let Some(starts) = starts {
                bytes.extend_from_slice(&starts.value(row).to_be_bytes());
            }
            keys.push(&bytes);
        }
        let states = rows.columns()[width + usize::from(self.layout.windowed)..].to_vec();
        Ok(Some(KeyedBatch { keys, states, rows }))
    }
}

/// Are the columns a key's, then perhaps a window's, then states', of types that those can have?
fn check_columns(schema: &Schema, key: usize, windowed: bool, states: usize) -> Result<(), SnapshotError> {
    let roles = [("key", key), ("window", usize::from(windowed)), ("state", states)];
    let roles = roles.iter().flat_map(|(role, count)| std::iter::repeat_n(*role, *count));
    let mut fields = schema.fields().iter();
    if !roles.zip(&mut fields).all(|(role, field)| is(field, role)) || fields.next().is_some() {
        return Err(SnapshotError::Columns(
            "its columns are not a key's, a window's and states', in this order".into(),
        ));
    }
    for field in schema.fields() {
        // Arrow has more types than the contract, in which a file of ours has none.
        let known = data_type::display(field.data_type(), false).is_ok();
        let (fits, what) = match field {
            key if is(key, "key") => (crate::key::is_keyable(key.data_type()), "part of a key"),
            window if is(window, "window") => {
                (*window.data_type() == DataType::Int64 && !window.is_nullable(), "start of a window")
            }
            state => (state.is_nullable(), "state"),
        };
        if !known || !fits {
            return Err(SnapshotError::Columns(format!("{} of type {} is no {what}", field.name(), field.data_type())));
        }
    }
    Ok(())
}

fn is(field: &Field, role: &str) -> bool {
    field.metadata().get(ROLE).is_some_and(|found| found == role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;

    fn snapshot(windowed: bool) -> KeyedSnapshot {
        let input = Schema::new(vec![
            Field::new("v", DataType::Int64, false),
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Int64, false),
        ]);
        let layout = KeyLayout::new(&input, &[2, 1], windowed);
        let a: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("")]));
        let b: ArrayRef = Arc::new(Int64Array::from(vec![1, -2, 3]));
        let rows = RecordBatch::try_new(Arc::clone(&layout.schema), vec![b, a]).unwrap();
        let encoded = layout.encoder().unwrap().encode(&rows).unwrap();
        let mut keys = KeyBytes::default();
        for row in 0..3 {
            let window = if windowed { (row as i64 - 5).to_be_bytes().to_vec() } else { Vec::new() };
            keys.push(&[encoded.get(row), &window[..]].concat());
        }
        let sums: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
        let names: ArrayRef = Arc::new(StringArray::from(vec![None, Some("n")]));
        let state = |name: &str, data_type| StateField { name: name.into(), data_type };
        let states = vec![(state("sum", DataType::Int64), sums), (state("b", DataType::Utf8), names)];
        KeyedSnapshot { full: true, layout, keys, states, stored: None }
    }

    #[test]
    fn what_was_written_comes_back() {
        for windowed in [false, true] {
            let written = snapshot(windowed);
            let file = written.write(0..written.keys.len()).unwrap().into();
            let mut reader = KeyedReader::new(&file).unwrap();
            assert_eq!(reader.layout(), &written.layout);
            let batch = reader.next().unwrap().unwrap();
            assert!(batch.keys.iter().eq(written.keys.iter()));
            // The third key is gone: it has no value.
            assert_eq!(batch.states[0].as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(7), None, None]);
            assert_eq!(batch.states[1].as_string::<i32>().iter().collect::<Vec<_>>(), [None, Some("n"), None]);
            assert_eq!(reader.states()[1], written.states[1].0);
            assert!(reader.next().unwrap().is_none());
        }
    }

    /// A key may have any name, also that of the column of windows.
    #[test]
    fn a_key_may_be_called_as_the_window_is() {
        let input = Schema::new(vec![Field::new(WINDOW, DataType::Utf8, false)]);
        let layout = KeyLayout::new(&input, &[0], true);
        let names: ArrayRef = Arc::new(StringArray::from(vec!["monday"]));
        let rows = RecordBatch::try_new(Arc::clone(&layout.schema), vec![names]).unwrap();
        let key = layout.encoder().unwrap().encode(&rows).unwrap();
        let mut keys = KeyBytes::default();
        keys.push(&[key.get(0), &7i64.to_be_bytes()].concat());
        let state = StateField { name: "n".into(), data_type: DataType::Int64 };
        let states = vec![(state, Arc::new(Int64Array::from(vec![1])) as ArrayRef)];
        let file =
            KeyedSnapshot { full: true, layout, keys: keys.clone(), states, stored: None }.write(0..1).unwrap().into();
        let batch = KeyedReader::new(&file).unwrap().next().unwrap().unwrap();
        assert!(batch.keys.iter().eq(keys.iter()));
    }

    #[test]
    fn what_is_no_keyed_state_is_refused() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, false)]);
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
        writer.finish().unwrap();
        let file = container::seal(Content::Keyed, &writer.into_inner().unwrap());
        assert!(matches!(KeyedReader::new(&file.into()), Err(SnapshotError::Columns(_))));
        let file = container::seal(Content::Keyed, b"nonsense");
        assert!(KeyedReader::new(&file.into()).is_err());
    }
}
