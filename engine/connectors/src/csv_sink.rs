//! `sink: csv`; options `header` (default `true`), `delimiter` (`,`), `quote` (`"`), `null-literal` (empty).
//!
//! A field is quoted where it needs to be: also a text that could be taken for null, so that an empty text is `""` and null is
//! nothing. Binary is hexadecimal; times are ISO 8601.

use std::io::Write;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use wasmill_runtime::connector::{ConnectorContext, ConnectorError};

use crate::calendar;
use crate::csv_dialect::Dialect;
use crate::datum::notation;
use crate::file_sink::{EncodeError, Encoder, Format};

#[derive(Debug)]
pub(crate) struct Csv(Dialect);

impl Csv {
    pub(crate) fn new(context: &mut ConnectorContext<'_>) -> Result<Csv, ConnectorError> {
        Ok(Csv(Dialect::new(context.options)?))
    }
}

impl Format for Csv {
    fn extension(&self) -> &'static str {
        "csv"
    }

    fn refuse(&self, schema: &SchemaRef) -> Option<String> {
        if schema.fields().is_empty() {
            return Some("there are no columns, without which CSV has no rows: keep one".to_owned());
        }
        let nested = schema.fields().iter().find(|field| field.data_type().is_nested())?;
        let (name, notation) = (nested.name(), notation(nested));
        Some(format!("column {name} of type {notation} cannot be a CSV field: drop it, or use jsonl or parquet"))
    }

    fn encoder(&self, schema: &SchemaRef, file: Box<dyn Write + Send>) -> Result<Box<dyn Encoder>, EncodeError> {
        let mut encoder = CsvEncoder { to: file, dialect: self.0.clone(), line: Vec::new(), text: String::new() };
        if self.0.header {
            for (index, field) in schema.fields().iter().enumerate() {
                encoder.separate(index);
                encoder.text.clone_from(field.name());
                encoder.put_text();
            }
            encoder.end_line()?;
        }
        Ok(Box::new(encoder))
    }
}

struct CsvEncoder {
    to: Box<dyn Write + Send>,
    dialect: Dialect,
    line: Vec<u8>,
    /// The value at hand.
    text: String,
}

impl CsvEncoder {
    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.line.push(self.dialect.delimiter);
        }
    }

    /// Appends the value at hand, in quotes where it would not come back without them.
    fn put_text(&mut self) {
        let Dialect { quote, null, .. } = &self.dialect;
        // A byte order mark at the start of a file is no part of its first field.
        let ambiguous = self.text == *null || self.text.starts_with('\u{feff}');
        if !ambiguous && !self.text.bytes().any(|byte| self.dialect.is_special(byte)) {
            return self.line.extend_from_slice(self.text.as_bytes());
        }
        self.line.push(*quote);
        for part in self.text.as_bytes().split_inclusive(|byte| byte == quote) {
            self.line.extend_from_slice(part);
            if part.ends_with(&[*quote]) {
                self.line.push(*quote);
            }
        }
        self.line.push(*quote);
    }

    /// Null is the literal and nothing around it.
    fn put_null(&mut self, data_type: &DataType, columns: usize) -> Result<(), EncodeError> {
        let text = matches!(data_type, DataType::Utf8 | DataType::Binary);
        if text && columns == 1 && self.dialect.null.is_empty() {
            return Err("a null in the only column would be a blank line, which nobody reads as a row: \
                        give the sink a null-literal, such as null-literal: \"NULL\""
                .into());
        }
        self.line.extend_from_slice(self.dialect.null.as_bytes());
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), EncodeError> {
        if self.line.is_empty() {
            // Readers skip blank lines.
            self.line.extend_from_slice(&[self.dialect.quote; 2]);
        }
        self.line.push(b'\n');
        self.to.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }
}

impl Encoder for CsvEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), EncodeError> {
        calendar::check(rows)?;
        let options = FormatOptions::default();
        let columns = rows.columns().iter().map(|column| {
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
            Ok((column, column.as_string_opt::<i32>(), formatter))
        });
        let columns: Vec<_> = columns.collect::<Result<_, arrow::error::ArrowError>>()?;
        for row in 0..rows.num_rows() {
            for (index, (column, texts, formatter)) in columns.iter().enumerate() {
                self.separate(index);
                if column.is_null(row) {
                    self.put_null(column.data_type(), columns.len())?;
                    continue;
                }
                self.text.clear();
                match texts {
                    Some(texts) => self.text.push_str(texts.value(row)),
                    None => formatter.value(row).write(&mut self.text)?,
                }
                self.put_text();
            }
            self.end_line()?;
        }
        Ok(())
    }

    fn buffered_bytes(&self) -> usize {
        0
    }

    fn finish(mut self: Box<Self>) -> Result<(), EncodeError> {
        Ok(self.to.flush()?)
    }
}
