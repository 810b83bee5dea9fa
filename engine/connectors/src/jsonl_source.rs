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
//! of several kinds, or has whole numbers that its float64 would round, is an error that asks for `schema`.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use wasmill_runtime::connector::{ConnectorContext, ConnectorError, Position, Source, SourceReader, Split};

use crate::columns::Columns;
use crate::csv_source::SAMPLE_ROWS;
use crate::file_sink::Format;
use crate::files::{self, InputFile, cannot_read};
use crate::formats::JsonLines;
use crate::json_guess;
use crate::json_value;
use crate::options;
use crate::position::Mark;
use crate::rows::{Batches, ROW_BYTES_MAX, Row, RowReader, raw_text};

/// Rows of files of JSON lines.
#[derive(Debug)]
pub(crate) struct JsonLinesSource {
    files: Vec<InputFile>,
    schema: SchemaRef,
    /// How many lines decided the types, where the job did not.
    sampled: Option<usize>,
}

impl JsonLinesSource {
    pub(crate) fn new(mut context: ConnectorContext<'_>) -> Result<JsonLinesSource, ConnectorError> {
        let path = options::path(context.options)?;
        let declared = options::schema(&mut context)?;
        let files = files::list(context.base, &path)?;
        let (schema, sampled) = match declared {
            Some(schema) => (schema, None),
            None => infer(&files[0]).map(|(schema, sampled)| (Arc::new(schema), Some(sampled)))?,
        };
        if let Some(message) = JsonLines.refuse(&schema) {
            return Err(ConnectorError::new(format!("schema: {message}")));
        }
        let schema = match options::projection(context.options, &schema, &files[0].name)? {
            None => schema,
            Some(indices) => Arc::new(schema.project(&indices).expect("the projection was looked up in this schema")),
        };
        Ok(JsonLinesSource { files, schema, sampled })
    }
}

impl Source for JsonLinesSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Result<Vec<Split>, ConnectorError> {
        Ok(self.files.iter().map(InputFile::split).collect())
    }

    fn open(&self, split: &Split, from: Option<&Position>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let file = files::find(self.files.iter(), split)?;
        let (content, from) = file.open_at(from)?;
        let reader = JsonLinesReader { lines: Lines::new(&file.name, content, from.mark()), sampled: self.sampled };
        Ok(Box::new(Batches::new(reader, Columns::new(Arc::clone(&self.schema)), file.name.clone(), from)))
    }

    fn bounded(&self) -> bool {
        true
    }
}

struct JsonLinesReader {
    lines: Lines,
    sampled: Option<usize>,
}

impl RowReader for JsonLinesReader {
    fn read(&mut self, columns: &mut Columns) -> Result<Row, ConnectorError> {
        if !self.lines.next()? {
            return Ok(Row::End);
        }
        let schema = Arc::clone(columns.schema());
        let fields: Vec<&Field> = schema.fields().iter().map(AsRef::as_ref).collect();
        match json_value::row(&self.lines.line, &fields, self.sampled) {
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

    fn mark(&self) -> Mark {
        Mark { byte: self.lines.bytes_read, line: self.lines.number }
    }
}

/// The lines of a file that are not blank.
struct Lines {
    name: String,
    file: BufReader<Box<dyn Read + Send>>,
    /// Without its line end.
    line: Vec<u8>,
    /// From 1.
    number: u64,
    /// Up to the end of the line.
    bytes_read: u64,
}

impl Lines {
    /// `file` is read on from `from`.
    fn new(name: &str, file: Box<dyn Read + Send>, from: Mark) -> Lines {
        let file = BufReader::with_capacity(256 << 10, file);
        Lines { name: name.to_owned(), file, line: Vec::new(), number: from.line, bytes_read: from.byte }
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

/// The types, and how many lines decided them.
fn infer(file: &InputFile) -> Result<(Schema, usize), ConnectorError> {
    let mut lines = Lines::new(&file.name, file.peek()?, Mark::default());
    let mut entries = Vec::new();
    let (mut sampled, mut objects) = (0, 0);
    // A line that is no object says nothing of types; it is rejected when it is read.
    let mut malformed = None;
    let fail = |message: String| ConnectorError::new(format!("{}: {message}: give the option schema", file.name));
    while sampled < SAMPLE_ROWS && lines.next()? {
        sampled += 1;
        if let Some(found) = json_guess::columns(&lines.line) {
            objects += 1;
            entries = found.and_then(|found| json_guess::merge(entries, found, "")).map_err(fail)?;
        } else if malformed.is_none() {
            let message = json_value::row(&lines.line, &[], None).err();
            malformed = Some((lines.number, message.unwrap_or_else(|| json_value::malformed(&lines.line))));
        }
    }
    match malformed {
        _ if !entries.is_empty() => {}
        None if objects > 0 => return Err(fail("no object has a key, so that there are no columns".into())),
        None => return Err(fail("the file is empty, so that its columns are not known".into())),
        Some((line, message)) => {
            return Err(ConnectorError::new(format!(
                "{}:{line}: {message}: each line must be one whole JSON object, and none of the first {sampled} is one",
                file.name
            )));
        }
    }
    let schema = Schema::new(json_guess::fields(entries, "").map_err(fail)?);
    match crate::contract_types::unsupported(&schema) {
        Some(message) => Err(fail(message)),
        None => Ok((schema, sampled)),
    }
}

#[cfg(test)]
#[path = "jsonl_source_tests.rs"]
mod tests;
