//! Columns of any Arrow type, brought into the types of the contract where that loses nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use wasmill_host::data_type;
use wasmill_runtime::batch::record_batch;

/// `field` in a type of the contract, or why there is none.
pub(crate) fn field(field: &Field) -> Result<Field, data_type::DataTypeError> {
    let data_type = data_type::canonical(&widen(field.data_type()))?;
    Ok(Field::new(field.name(), data_type, field.is_nullable()))
}

/// Encodings and widths that only say how the same values lie in memory are replaced; what would change values is left, and
/// refused later.
fn widen(data_type: &DataType) -> DataType {
    let child = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_data_type(widen(field.data_type())));
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, values) => widen(values),
        DataType::RunEndEncoded(_, values) => widen(values.data_type()),
        DataType::Float16 => DataType::Float32,
        DataType::Time32(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => DataType::List(child(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(child).collect::<Fields>()),
        DataType::Map(entries, _) => DataType::Map(child(entries), false),
        other => other.clone(),
    }
}

/// `rows`, whose columns have the names of `schema` in its order, with the types of `schema`.
pub(crate) fn convert(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = rows.columns().iter().zip(schema.fields());
    let columns: Result<Vec<ArrayRef>, ArrowError> = columns
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                return Ok(Arc::clone(column));
            }
            cast_with_options(column, field.data_type(), &options)
        })
        .collect();
    record_batch(Arc::clone(schema), columns?, rows.num_rows())
}

/// The first column of `schema` that the contract has no type for.
pub(crate) fn unsupported(schema: &Schema) -> Option<String> {
    schema.fields().iter().find_map(|field| {
        let error = data_type::display(field.data_type(), field.is_nullable()).err()?;
        Some(format!("column {}: {error}", field.name()))
    })
}
