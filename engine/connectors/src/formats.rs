//! Parquet and JSON lines, as files and other places are written in them. CSV is in `csv_sink.rs`.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow_json::writer::LineDelimited;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use wasmill_runtime::connector::{ConnectorContext, ConnectorError};

use crate::calendar;
use crate::datum::notation;
use crate::file_sink::{EncodeError, Encoder, Format};
use crate::options::wrong;

/// A row group is written when it holds this much, so that memory is bounded whatever the width of rows.
const ROW_GROUP_BYTES_MAX: usize = 64 << 20;

/// `sink: parquet`; option `compression`: `zstd` (default), `snappy`, `none`.
#[derive(Debug)]
pub(crate) struct Parquet {
    compression: Compression,
}

impl Parquet {
    pub(crate) fn new(context: &mut ConnectorContext<'_>) -> Result<Parquet, ConnectorError> {
        let zstd = Compression::ZSTD(ZstdLevel::default());
        let choices = [("zstd", zstd), ("snappy", Compression::SNAPPY), ("none", Compression::UNCOMPRESSED)];
        let compression = context.options.choice("compression", &choices).map_err(wrong)?.unwrap_or(zstd);
        Ok(Parquet { compression })
    }
}

impl Format for Parquet {
    fn extension(&self) -> &'static str {
        "parquet"
    }

    fn refuse(&self, schema: &SchemaRef) -> Option<String> {
        if schema.fields().is_empty() {
            return Some("there are no columns, without which Parquet has no rows: keep one".to_owned());
        }
        schema.fields().iter().find_map(|field| {
            let empty = has_empty_struct(field.data_type());
            empty.then(|| {
                format!("column {} of type {}: Parquet has no struct without fields", field.name(), notation(field))
            })
        })
    }

    fn encoder(&self, schema: &SchemaRef, file: Box<dyn Write + Send>) -> Result<Box<dyn Encoder>, EncodeError> {
        let properties = WriterProperties::builder().set_compression(self.compression).build();
        Ok(Box::new(ParquetEncoder(ArrowWriter::try_new(file, Arc::clone(schema), Some(properties))?)))
    }
}

fn has_empty_struct(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.is_empty() || fields.iter().any(|field| has_empty_struct(field.data_type())),
        DataType::List(item) | DataType::Map(item, _) => has_empty_struct(item.data_type()),
        _ => false,
    }
}

struct ParquetEncoder(ArrowWriter<Box<dyn Write + Send>>);

impl Encoder for ParquetEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), EncodeError> {
        self.0.write(rows)?;
        if self.0.in_progress_size() >= ROW_GROUP_BYTES_MAX {
            self.0.flush()?;
        }
        Ok(())
    }

    /// Of the row group at hand.
    fn buffered_bytes(&self) -> usize {
        self.0.in_progress_size()
    }

    fn finish(self: Box<Self>) -> Result<(), EncodeError> {
        Ok(self.0.into_inner()?.flush()?)
    }
}

/// `sink: jsonl`: an object a line, with all columns in order.
///
/// Null, NaN and infinities are `null`; decimals are numbers; dates, times and timestamps are ISO 8601 texts; binary is a
/// hexadecimal text; a map is an object, so that its keys must be `utf8`.
#[derive(Debug)]
pub(crate) struct JsonLines;

impl Format for JsonLines {
    fn extension(&self) -> &'static str {
        "jsonl"
    }

    fn refuse(&self, schema: &SchemaRef) -> Option<String> {
        schema.fields().iter().find_map(|field| {
            let bad = has_map_without_text_keys(field);
            bad.then(|| {
                format!("column {} of type {}: in JSON the keys of a map are utf8", field.name(), notation(field))
            })
        })
    }

    fn encoder(&self, _: &SchemaRef, file: Box<dyn Write + Send>) -> Result<Box<dyn Encoder>, EncodeError> {
        Ok(Box::new(JsonEncoder(json_writer(file))))
    }
}

pub(crate) fn json_writer<W: Write>(to: W) -> arrow_json::Writer<W, LineDelimited> {
    arrow_json::WriterBuilder::new().with_explicit_nulls(true).build(to)
}

fn has_map_without_text_keys(field: &Field) -> bool {
    match field.data_type() {
        DataType::Struct(fields) => fields.iter().any(|field| has_map_without_text_keys(field)),
        DataType::List(item) => has_map_without_text_keys(item),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                fields[0].data_type() != &DataType::Utf8 || has_map_without_text_keys(&fields[1])
            }
            _ => true,
        },
        _ => false,
    }
}

struct JsonEncoder(arrow_json::Writer<Box<dyn Write + Send>, LineDelimited>);

impl Encoder for JsonEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), EncodeError> {
        // Arrow's writer would put the text of its error in the place of the value.
        calendar::check(rows)?;
        Ok(self.0.write(rows)?)
    }

    fn buffered_bytes(&self) -> usize {
        0
    }

    fn finish(mut self: Box<Self>) -> Result<(), EncodeError> {
        self.0.finish()?;
        Ok(self.0.into_inner().flush()?)
    }
}
