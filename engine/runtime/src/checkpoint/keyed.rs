//! State by key, as a file of a checkpoint: an Arrow IPC stream in a [container].
//!
//! The columns are the key's columns, `window_start` (milliseconds) where state belongs to a key and window, and the states. What a
//! column is stands in its metadata, `wasmill.role`: `key`, `window` or `state`. A null is no value; a row without any value says
//! that the key is gone. A key stands in a file once. A state that the function reaches by call has its values as `binary`, in the
//! encoding of `wit/README.md` ("Values"), and `wasmill.encoding: value` says so.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;

use super::SnapshotError;
use super::container::{self, Content};
use crate::key::KeyEncoder;

const ROLE: &str = "wasmill.role";
const ENCODING: &str = "wasmill.encoding";
const WINDOW: &str = "window_start";

/// Rows of one batch of a file: what a reader holds at a time.
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
#[derive(Debug, Clone)]
pub(crate) struct KeyedSnapshot {
    /// All keys; else those that have changed since the checkpoint that the barrier calls confirmed.
    pub full: bool,
    pub layout: KeyLayout,
    /// Keys with values, then those that are gone.
    pub keys: KeyBytes,
    /// Of each state, a value for each of the keys that have any.
    pub states: Vec<(StateField, ArrayRef)>,
}

/// A state, as it lies in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateField {
    pub name: String,
    pub data_type: DataType,
    /// Encoded values.
    pub encoded: bool,
}

impl StateField {
    fn field(&self) -> Field {
        let mut metadata = HashMap::from([(ROLE.to_owned(), "state".to_owned())]);
        if self.encoded {
            metadata.insert(ENCODING.to_owned(), "value".to_owned());
        }
        Field::new(&self.name, self.stored(), true).with_metadata(metadata)
    }

    fn stored(&self) -> DataType {
        if self.encoded { DataType::Binary } else { self.data_type.clone() }
    }
}

impl KeyedSnapshot {
    /// The file.
    pub(crate) fn write(&self) -> Result<Vec<u8>, ArrowError> {
        let encoder = self.layout.encoder()?;
        let schema = self.schema();
        let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
        let mut start = 0;
        while start < self.keys.len() {
            let end = (start + BATCH_ROWS).min(self.keys.len());
            writer.write(&self.batch(&schema, &encoder, start..end)?)?;
            start = end;
        }
        writer.finish()?;
        Ok(container::seal(Content::Keyed, &writer.into_inner()?))
    }

    fn schema(&self) -> SchemaRef {
        let role = |role: &str| HashMap::from([(ROLE.to_owned(), role.to_owned())]);
        let key = self.layout.schema.fields().iter().map(|field| field.as_ref().clone().with_metadata(role("key")));
        let mut fields: Vec<Field> = key.collect();
        if self.layout.windowed {
            fields.push(Field::new(WINDOW, DataType::Int64, false).with_metadata(role("window")));
        }
        fields.extend(self.states.iter().map(|(state, _)| state.field()));
        Arc::new(Schema::new(fields))
    }

    fn batch(
        &self,
        schema: &SchemaRef,
        encoder: &KeyEncoder,
        rows: std::ops::Range<usize>,
    ) -> Result<RecordBatch, ArrowError> {
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
                gone => arrow::compute::concat(&[&part, &arrow::array::new_null_array(&state.stored(), gone)])?,
            });
        }
        crate::batch::record_batch(Arc::clone(schema), columns, rows.len())
    }
}

/// State by key that was read from a file, batch by batch.
pub(crate) struct KeyedReader<'a> {
    reader: StreamReader<Cursor<&'a [u8]>>,
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

impl<'a> KeyedReader<'a> {
    /// # Errors
    /// Whatever the bytes are: no panic.
    pub(crate) fn new(file: &'a [u8]) -> Result<KeyedReader<'a>, SnapshotError> {
        let body = container::open(Content::Keyed, file)?;
        let reader = StreamReader::try_new(Cursor::new(body), None)?;
        let schema = reader.schema();
        let of_role = |role: &'static str| schema.fields().iter().filter(move |field| is(field, role));
        let key: Vec<Field> =
            of_role("key").map(|field| field.as_ref().clone().with_metadata(HashMap::new())).collect();
        let windowed = of_role("window").next().is_some();
        let states: Vec<StateField> = of_role("state")
            .map(|field| StateField {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                encoded: field.metadata().get(ENCODING).is_some_and(|encoding| encoding == "value"),
            })
            .collect();
        let known = key.len() + usize::from(windowed) + states.len();
        let in_order = schema.fields()[..key.len()].iter().all(|field| is(field, "key"));
        let window_fits = of_role("window").all(|field| *field.data_type() == DataType::Int64 && !field.is_nullable());
        if known != schema.fields().len() || !in_order || of_role("window").count() > 1 || !window_fits {
            return Err(SnapshotError::Columns("its columns are not a key's, a window's and states'".into()));
        }
        if let Some(field) = key.iter().find(|field| !crate::key::is_keyable(field.data_type())) {
            return Err(SnapshotError::Columns(format!("{} of type {} is no key", field.name(), field.data_type())));
        }
        if states.iter().any(|state| state.encoded && state.data_type != DataType::Binary) {
            return Err(SnapshotError::Columns("encoded values are not binary".into()));
        }
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

    /// The next keys; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<KeyedBatch>, SnapshotError> {
        let Some(rows) = self.reader.next() else { return Ok(None) };
        let rows = rows?;
        let encoded = self.encoder.encode(&rows)?;
        let width = self.layout.schema.fields().len();
        let starts = match self.layout.windowed {
            true => {
                let column = rows.schema().index_of(WINDOW).map_err(SnapshotError::Arrow)?;
                Some(rows.column(column).as_primitive::<Int64Type>().clone())
            }
            false => None,
        };
        let mut keys = KeyBytes::default();
        let mut bytes = Vec::new();
        for row in 0..rows.num_rows() {
            bytes.clear();
            bytes.extend_from_slice(encoded.get(row));
            if let Some(starts) = &starts {
                bytes.extend_from_slice(&starts.value(row).to_be_bytes());
            }
            keys.push(&bytes);
        }
        let states = rows.columns()[width + usize::from(starts.is_some())..].to_vec();
        Ok(Some(KeyedBatch { keys, states, rows }))
    }
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
        let names: ArrayRef = Arc::new(arrow::array::BinaryArray::from(vec![None, Some(&b"n"[..])]));
        let state = |name: &str, data_type, encoded| StateField { name: name.into(), data_type, encoded };
        let states = vec![(state("sum", DataType::Int64, false), sums), (state("b", DataType::Utf8, true), names)];
        KeyedSnapshot { full: true, layout, keys, states }
    }

    #[test]
    fn what_was_written_comes_back() {
        for windowed in [false, true] {
            let written = snapshot(windowed);
            let file = written.write().unwrap();
            let mut reader = KeyedReader::new(&file).unwrap();
            assert_eq!(reader.layout(), &written.layout);
            let batch = reader.next().unwrap().unwrap();
            assert!(batch.keys.iter().eq(written.keys.iter()));
            // The third key is gone: it has no value.
            assert_eq!(batch.states[0].as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(7), None, None]);
            assert_eq!(batch.states[1].as_binary::<i32>().iter().collect::<Vec<_>>(), [None, Some(&b"n"[..]), None]);
            assert!(reader.states()[1].encoded);
            assert!(reader.next().unwrap().is_none());
        }
    }

    #[test]
    fn what_is_no_keyed_state_is_refused() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, false)]);
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
        writer.finish().unwrap();
        let file = container::seal(Content::Keyed, &writer.into_inner().unwrap());
        assert!(matches!(KeyedReader::new(&file), Err(SnapshotError::Columns(_))));
        let file = container::seal(Content::Keyed, b"nonsense");
        assert!(KeyedReader::new(&file).is_err());
    }
}
