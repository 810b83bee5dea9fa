//! Rows on their way, as a file of a checkpoint: an Arrow IPC stream in a [container], a batch for each that was held.
//!
//! Behind the rows' own columns stand three more, whose metadata have `wasmill.beside`: `event_time` (int64, milliseconds),
//! `row_kind` (uint8) and `position` (uint64). A column that is null throughout is not there at all in the batch.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt8Array, UInt64Array, new_null_array};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt8Type, UInt64Type};
use arrow::error::ArrowError;
use arrow_ipc::writer::StreamWriter;

use super::SnapshotError;
use super::batches::BatchReader;
use super::container::{self, Content};
use crate::batch::{Batch, NO_TIME, Positions};

const BESIDE: &str = "wasmill.beside";

/// What is beside a row, and the type of each.
const BESIDES: [(&str, DataType); 3] =
    [("event_time", DataType::Int64), ("row_kind", DataType::UInt8), ("position", DataType::UInt64)];

/// The file; the batches have one schema, and there is at least one.
pub(crate) fn write(batches: &[Batch]) -> Result<Vec<u8>, ArrowError> {
    let Some(first) = batches.first() else {
        return Err(ArrowError::InvalidArgumentError("a file of no rows".into()));
    };
    let schema = with_besides(&first.schema());
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    for batch in batches {
        let rows = batch.num_rows();
        let mut columns = batch.rows().columns().to_vec();
        let times: Option<ArrayRef> = batch.event_times().map(|times| {
            let times = times.iter().map(|&time| (time != NO_TIME).then_some(time));
            Arc::new(Int64Array::from_iter(times)) as ArrayRef
        });
        let kinds = batch.row_kinds().map(|kinds| Arc::new(UInt8Array::new(kinds.clone(), None)) as ArrayRef);
        let positions: Option<ArrayRef> = match batch.positions() {
            Positions::None => None,
            some => Some(Arc::new(UInt64Array::from_iter((0..rows).map(|row| some.get(row))))),
        };
        for (column, (_, data_type)) in [times, kinds, positions].into_iter().zip(BESIDES) {
            columns.push(column.unwrap_or_else(|| new_null_array(&data_type, rows)));
        }
        writer.write(&crate::batch::record_batch(Arc::clone(&schema), columns, rows)?)?;
    }
    writer.finish()?;
    Ok(container::seal(Content::Rows, &writer.into_inner()?))
}

fn with_besides(schema: &Schema) -> SchemaRef {
    let beside = BESIDES.map(|(name, data_type)| {
        Field::new(name, data_type, true).with_metadata(HashMap::from([(BESIDE.to_owned(), name.to_owned())]))
    });
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.extend(beside);
    Arc::new(Schema::new(fields))
}

/// The batches, as they were.
///
/// # Errors
/// Whatever the bytes are: no panic.
pub(crate) fn read(file: &Buffer) -> Result<Vec<Batch>, SnapshotError> {
    let mut reader = BatchReader::new(Content::Rows, file)?;
    let schema = Arc::clone(reader.schema());
    let own = schema.fields().len().checked_sub(BESIDES.len());
    let fits = |own: &usize| {
        let fields = schema.fields()[*own..].iter().zip(&BESIDES);
        fields.into_iter().all(|(field, (name, data_type))| {
            field.data_type() == data_type && field.metadata().get(BESIDE).is_some_and(|beside| beside == name)
        })
    };
    let Some(own) = own.filter(fits) else {
        return Err(SnapshotError::Columns("its last columns are not event_time, row_kind and position".into()));
    };
    let plain = Arc::new(Schema::new(schema.fields()[..own].to_vec()));
    let mut batches = Vec::new();
    while let Some(rows) = reader.next()? {
        batches.push(batch(&plain, &rows)?);
    }
    Ok(batches)
}

fn batch(schema: &SchemaRef, all: &RecordBatch) -> Result<Batch, SnapshotError> {
    let (columns, beside) = all.columns().split_at(schema.fields().len());
    let rows = crate::batch::record_batch(Arc::clone(schema), columns.to_vec(), all.num_rows())?;
    let given = |column: &ArrayRef| column.null_count() < column.len();
    let times = given(&beside[0]).then(|| {
        let times = beside[0].as_primitive::<Int64Type>();
        times.iter().map(|time| time.unwrap_or(NO_TIME)).collect()
    });
    let kinds: Option<ScalarBuffer<u8>> = given(&beside[1])
        .then(|| beside[1].as_primitive::<UInt8Type>().iter().map(Option::unwrap_or_default).collect());
    if let Some(kind) = kinds.iter().flat_map(|kinds| kinds.iter()).find(|kind| **kind > 3) {
        return Err(SnapshotError::Columns(format!("a row of kind {kind}, where 0 to 3 are possible")));
    }
    let positions = match given(&beside[2]) {
        true => Positions::of(beside[2].as_primitive::<UInt64Type>().iter().map(Option::unwrap_or_default).collect()),
        false => Positions::None,
    };
    Ok(Batch::new(rows).with_event_times(times).with_row_kinds(kinds).with_positions(positions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: Vec<i64>) -> Batch {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
        Batch::new(RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values))]).unwrap())
    }

    #[test]
    fn rows_come_back_with_what_is_beside_them() {
        let batches = [
            rows(vec![1, 2, 3]).with_event_times(Some(vec![5, NO_TIME, 7].into())).with_positions(Positions::From(40)),
            rows(vec![4]),
            rows(vec![5, 6]).with_row_kinds(Some(vec![0, 3].into())).with_positions(Positions::Each(vec![9, 2].into())),
        ];
        let back = read(&write(&batches).unwrap().into()).unwrap();
        assert_eq!(back.len(), 3);
        for (back, batch) in back.iter().zip(&batches) {
            assert_eq!(back.rows(), batch.rows());
            assert_eq!(back.event_times(), batch.event_times());
            assert_eq!(back.row_kinds(), batch.row_kinds());
            assert_eq!(back.positions(), batch.positions());
        }
    }

    #[test]
    fn other_columns_are_refused() {
        let schema = Schema::new(vec![Field::new("v", DataType::Int64, false)]);
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
        writer.finish().unwrap();
        let file = container::seal(Content::Rows, &writer.into_inner().unwrap());
        assert!(matches!(read(&file.into()), Err(SnapshotError::Columns(_))));
    }
}
