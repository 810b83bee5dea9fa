//! `source: jsonl`
//!
//! | option | default | |
//! |---|---|---|
//! | `path` | | file, directory, glob or URL; each file is a split |
//! | `schema` | inferred | `{column: type}` |
//! | `columns` | all | which columns to read, in which order |
//!
//! A line is an object, a row. Keys that are no column are skipped; a missing key is null. Dates, times and timestamps are ISO
//! 8601 texts, a whole number for a timestamp counts its units since 1970; binary is a hexadecimal text; a decimal is a number
//! or a text; a map with `utf8` keys is an object. A line that is no object or does not fit is rejected, and the next one is
//! read. Blank lines are skipped.
//!
//! Without `schema` it comes from the first [`SAMPLE_ROWS`] lines of the first file: `bool`, `int64`, `float64` (where a number
//! has a point or is beyond int64), `utf8`, lists and structs of them, all of which may be null. A column that is only null, or
//! of several kinds, is an error that asks for `schema`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use serde_json::Value;
use wasmill_runtime::connector::{ConnectorContext, ConnectorError, Source, SourceReader, Split};

use crate::columns::Columns;
use crate::csv_source::SAMPLE_ROWS;
use crate::file_sink::Format;
use crate::files::{self, InputFile, cannot_read};
use crate::formats::JsonLines;
use crate::json_value;
use crate::options::{self, wrong};
use crate::rows::{Batches, ROW_BYTES_MAX, Row, RowReader, raw_text};

/// Rows of files of JSON lines.
#[derive(Debug)]
pub(crate) struct JsonLinesSource {
    files: Vec<InputFile>,
    schema: SchemaRef,
}

impl JsonLinesSource {
    pub(crate) fn new(mut context: ConnectorContext<'_>) -> Result<JsonLinesSource, ConnectorError> {
        let path = context.options.required_string("path").map_err(wrong)?;
        let declared = options::schema(&mut context)?;
        let files = files::list(context.base, &path)?;
        let schema = match declared {
            Some(schema) => schema,
            None => Arc::new(infer(&files[0])?),
        };
        if let Some(message) = JsonLines.refuse(&schema) {
            return Err(ConnectorError::new(format!("schema: {message}")));
        }
        let schema = match options::projection(context.options, &schema, &files[0].name)? {
            None => schema,
            Some(indices) => Arc::new(schema.project(&indices).expect("the projection was looked up in this schema")),
        };
        Ok(JsonLinesSource { files, schema })
    }
}

impl Source for JsonLinesSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Result<Vec<Split>, ConnectorError> {
        Ok(self.files.iter().map(InputFile::split).collect())
    }

    fn open(&self, split: &Split) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let file = files::find(self.files.iter(), split)?;
        let reader = JsonLinesReader { lines: Lines::open(file)? };
        Ok(Box::new(Batches::new(reader, Columns::new(Arc::clone(&self.schema)), file.name.clone())))
    }

    fn bounded(&self) -> bool {
        true
    }
}

struct JsonLinesReader {
    lines: Lines,
}

impl RowReader for JsonLinesReader {
    fn read(&mut self, columns: &mut Columns) -> Result<Row, ConnectorError> {
        if !self.lines.next()? {
            return Ok(Row::End);
        }
        let schema = Arc::clone(columns.schema());
        let fields: Vec<&Field> = schema.fields().iter().map(AsRef::as_ref).collect();
        match json_value::row(&self.lines.line, &fields) {
            Ok(row) => {
                columns.append(&row);
                Ok(Row::Good)
            }
            Err(message) => {
                let message = format!("{}:{}: {message}", self.lines.name, self.lines.number);
                Ok(Row::Rejected { raw: raw_text(&self.lines.line), message })
            }
        }
    }

    fn bytes_read(&self) -> u64 {
        self.lines.bytes_read
    }
}

/// The lines of a file that are not blank.
struct Lines {
    name: String,
    file: BufReader<File>,
    /// Without its line end.
    line: Vec<u8>,
    /// From 1.
    number: u64,
    bytes_read: u64,
}

impl Lines {
    fn open(file: &InputFile) -> Result<Lines, ConnectorError> {
        let reader = BufReader::with_capacity(256 << 10, file.open()?);
        Ok(Lines { name: file.name.clone(), file: reader, line: Vec::new(), number: 0, bytes_read: 0 })
    }

    /// Goes to the next line; false at the end of the file.
    fn next(&mut self) -> Result<bool, ConnectorError> {
        loop {
            self.line.clear();
            let limit = ROW_BYTES_MAX as u64 + 1;
            let read = self.file.by_ref().take(limit).read_until(b'\n', &mut self.line);
            let read = read.map_err(|error| cannot_read(&self.name, error))?;
            if read == 0 {
                return Ok(false);
            }
            self.number += 1;
            self.bytes_read += read as u64;
            if self.line.len() > ROW_BYTES_MAX {
                let message = format!(
                    "{}:{}: a line of more than {ROW_BYTES_MAX} bytes: is this JSON lines?",
                    self.name, self.number
                );
                return Err(ConnectorError::new(message));
            }
            if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            let kept = self.line.trim_ascii_end().len();
            self.line.truncate(kept);
            if !self.line.trim_ascii_start().is_empty() {
                return Ok(true);
            }
        }
    }
}

/// What is known of a column's type from the values so far.
#[derive(Debug, Clone, PartialEq)]
enum Guess {
    Unknown,
    Bool,
    Int,
    Float,
    Text,
    List(Box<Guess>),
    Struct(Vec<(String, Guess)>),
}

impl Guess {
    fn of(value: &Value) -> Result<Guess, String> {
        Ok(match value {
            Value::Null => Guess::Unknown,
            Value::Bool(_) => Guess::Bool,
            Value::Number(number) if number.is_i64() => Guess::Int,
            Value::Number(_) => Guess::Float,
            Value::String(_) => Guess::Text,
            Value::Array(items) => {
                let items = items.iter().try_fold(Guess::Unknown, |guess, item| guess.and(Guess::of(item)?, "[]"));
                Guess::List(Box::new(items?))
            }
            Value::Object(entries) => Guess::Struct(Guess::entries(entries)?),
        })
    }

    fn entries(entries: &serde_json::Map<String, Value>) -> Result<Vec<(String, Guess)>, String> {
        entries.iter().map(|(name, value)| Ok((name.clone(), Guess::of(value)?))).collect()
    }

    /// What both fit.
    fn and(self, other: Guess, path: &str) -> Result<Guess, String> {
        Ok(match (self, other) {
            (Guess::Unknown, one) | (one, Guess::Unknown) => one,
            (Guess::Int, Guess::Float) | (Guess::Float, Guess::Int) => Guess::Float,
            (Guess::List(a), Guess::List(b)) => Guess::List(Box::new(a.and(*b, &format!("{path}[]"))?)),
            (Guess::Struct(a), Guess::Struct(b)) => Guess::Struct(merge(a, b, &format!("{path}."))?),
            (a, b) if a == b => a,
            (a, b) => return Err(format!("column {path} has values of several kinds ({} and {})", a.name(), b.name())),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Guess::Unknown => "null",
            Guess::Bool => "bool",
            Guess::Int => "int64",
            Guess::Float => "float64",
            Guess::Text => "utf8",
            Guess::List(_) => "list",
            Guess::Struct(_) => "struct",
        }
    }

    fn data_type(self, path: &str) -> Result<DataType, String> {
        Ok(match self {
            Guess::Unknown => return Err(format!("column {path} is always null")),
            Guess::Bool => DataType::Boolean,
            Guess::Int => DataType::Int64,
            Guess::Float => DataType::Float64,
            Guess::Text => DataType::Utf8,
            Guess::List(item) => {
                DataType::List(Arc::new(Field::new("item", item.data_type(&format!("{path}[]"))?, true)))
            }
            Guess::Struct(entries) => DataType::Struct(fields(entries, &format!("{path}."))?),
        })
    }
}

fn merge(
    mut into: Vec<(String, Guess)>,
    from: Vec<(String, Guess)>,
    path: &str,
) -> Result<Vec<(String, Guess)>, String> {
    for (name, guess) in from {
        match into.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => {
                let before = std::mem::replace(known, Guess::Unknown);
                *known = before.and(guess, &format!("{path}{name}"))?;
            }
            None => into.push((name, guess)),
        }
    }
    Ok(into)
}

fn fields(entries: Vec<(String, Guess)>, path: &str) -> Result<Fields, String> {
    let field = |(name, guess): (String, Guess)| {
        let data_type = guess.data_type(&format!("{path}{name}"))?;
        Ok(Field::new(name, data_type, true))
    };
    entries.into_iter().map(field).collect()
}

fn infer(file: &InputFile) -> Result<Schema, ConnectorError> {
    let mut lines = Lines::open(file)?;
    let mut entries = Vec::new();
    let mut sampled = 0;
    let fail = |message: String| ConnectorError::new(format!("{}: {message}: give the option schema", file.name));
    while sampled < SAMPLE_ROWS && lines.next()? {
        sampled += 1;
        // A line that is no object says nothing of types; it is rejected when it is read.
        if let Ok(Value::Object(object)) = serde_json::from_slice(&lines.line) {
            entries = Guess::entries(&object).and_then(|found| merge(entries, found, "")).map_err(fail)?;
        }
    }
    if entries.is_empty() {
        return Err(fail("no object to learn the columns from".into()));
    }
    let schema = Schema::new(fields(entries, "").map_err(fail)?);
    match crate::contract_types::unsupported(&schema) {
        Some(message) => Err(fail(message)),
        None => Ok(schema),
    }
}

#[cfg(test)]
#[path = "jsonl_source_tests.rs"]
mod tests;
