//! `source: csv`
//!
//! | option | default | |
//! |---|---|---|
//! | `path` | | file, directory, glob or URL; each file is a split |
//! | `header` | `true` | the first row of each file names the columns |
//! | `delimiter` | `,` | one ASCII character, or `tab` |
//! | `quote` | `"` | one ASCII character; doubled inside a quoted field it stands for itself |
//! | `null-literal` | empty | the text that means null; an empty field of a `utf8` or `binary` column that is never null stays empty |
//! | `schema` | inferred | `{column: type}`; with a header by name (other columns are skipped), else by position |
//! | `columns` | all | which columns to read, in which order |
//!
//! Without `schema` the types come from the first [`SAMPLE_ROWS`] rows of the first file: the first of `int64`, `float64`,
//! `bool`, `date`, `timestamp(us)` that all values of a column fit, else `utf8`; all may be null. Without a header the
//! columns are `column_1`, `column_2` …. A row that does not fit is rejected, and the next one is read. Blank lines are skipped.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use csv_core::ReadRecordResult;
use wasmill_runtime::connector::{ConnectorContext, ConnectorError, Source, SourceReader, Split};

use crate::columns::Columns;
use crate::datum::{self, Datum};
use crate::files::{self, InputFile, cannot_read};
use crate::options::{self, wrong};
use crate::rows::{Batches, ROW_BYTES_MAX, Row, RowReader, raw_text};

/// Rows that decide the types where the job says none.
pub const SAMPLE_ROWS: usize = 1000;

const INPUT_BYTES: usize = 64 << 10;

/// Fields of a row, at most.
const FIELDS_MAX: usize = 100_000;

#[derive(Debug, Clone)]
struct Dialect {
    header: bool,
    delimiter: u8,
    quote: u8,
    null: String,
}

/// Rows of CSV files.
#[derive(Debug)]
pub(crate) struct CsvSource {
    files: Vec<InputFile>,
    dialect: Dialect,
    /// The names in the header of the first file, or as many names as there are fields.
    header: Vec<String>,
    schema: SchemaRef,
    /// Field number of each column of `schema`.
    fields: Vec<usize>,
}

impl CsvSource {
    pub(crate) fn new(mut context: ConnectorContext<'_>) -> Result<CsvSource, ConnectorError> {
        let path = context.options.required_string("path").map_err(wrong)?;
        let dialect = Dialect {
            header: context.options.boolean("header").map_err(wrong)?.unwrap_or(true),
            delimiter: options::character(context.options, "delimiter")?.unwrap_or(b','),
            quote: options::character(context.options, "quote")?.unwrap_or(b'"'),
            null: context.options.string("null-literal").map_err(wrong)?.unwrap_or_default(),
        };
        let declared = options::schema(&mut context)?;
        let files = files::list(context.base, &path)?;
        let first = &files[0];
        let header = header_of(first, &dialect, declared.as_ref())?;
        let (schema, mut fields) = match declared {
            Some(schema) => declared_fields(first, &dialect, &header, schema)?,
            None => (infer(first, &dialect, &header)?, (0..header.len()).collect()),
        };
        check_types(&schema)?;
        let schema = match options::projection(context.options, &schema, &first.name)? {
            None => schema,
            Some(indices) => {
                fields = indices.iter().map(|&index| fields[index]).collect();
                Arc::new(schema.project(&indices).expect("the projection was looked up in this schema"))
            }
        };
        Ok(CsvSource { files, dialect, header, schema, fields })
    }
}

/// The columns' names in the first file; without a header, as the schema says or numbered.
fn header_of(file: &InputFile, dialect: &Dialect, declared: Option<&SchemaRef>) -> Result<Vec<String>, ConnectorError> {
    if !dialect.header
        && let Some(schema) = declared
    {
        return Ok(schema.fields().iter().map(|field| field.name().clone()).collect());
    }
    let mut records = Records::open(file, dialect)?;
    let first = records.next()?.then(|| records.texts()).transpose();
    match first.map_err(|message| ConnectorError::new(format!("{}:{}: {message}", file.name, records.line)))? {
        None if dialect.header => Err(ConnectorError::new(format!("{} is empty: it has no header", file.name))),
        None => Err(ConnectorError::new(format!(
            "{} is empty: give the option schema, so that its columns are known",
            file.name
        ))),
        Some(first) if dialect.header => {
            let header: Vec<String> = first.into_iter().map(|name| name.trim().to_owned()).collect();
            for (index, name) in header.iter().enumerate() {
                if header[..index].contains(name) {
                    let message = format!("{}: the header names the column {name:?} twice: rename one", file.name);
                    return Err(ConnectorError::new(message));
                }
            }
            Ok(header)
        }
        Some(first) => Ok((1..=first.len()).map(|number| format!("column_{number}")).collect()),
    }
}

fn declared_fields(
    file: &InputFile,
    dialect: &Dialect,
    header: &[String],
    schema: SchemaRef,
) -> Result<(SchemaRef, Vec<usize>), ConnectorError> {
    if !dialect.header {
        let fields = (0..schema.fields().len()).collect();
        return Ok((schema, fields));
    }
    let mut fields = Vec::new();
    for field in schema.fields() {
        let found = header.iter().position(|name| name == field.name()).ok_or_else(|| {
            let message =
                format!("schema: {} has no column {:?}; its header is {}", file.name, field.name(), header.join(", "));
            ConnectorError::new(message)
        })?;
        fields.push(found);
    }
    Ok((schema, fields))
}

fn check_types(schema: &Schema) -> Result<(), ConnectorError> {
    match schema.fields().iter().find(|field| field.data_type().is_nested()) {
        None => Ok(()),
        Some(field) => Err(ConnectorError::new(format!(
            "schema: a CSV field cannot hold column {} of type {}: use jsonl or parquet",
            field.name(),
            datum::notation(field)
        ))),
    }
}

/// In this order: the first that fits all values of the sample.
fn candidates() -> [DataType; 6] {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    [DataType::Int64, DataType::Float64, DataType::Boolean, DataType::Date32, timestamp, DataType::Utf8]
}

fn infer(file: &InputFile, dialect: &Dialect, header: &[String]) -> Result<SchemaRef, ConnectorError> {
    let types = candidates();
    let probes: Vec<Field> = types.iter().map(|data_type| Field::new("", data_type.clone(), true)).collect();
    // Per column: how many of the candidates are out, and whether there was any value at all.
    let mut columns = vec![(0, false); header.len()];
    let mut records = Records::open(file, dialect)?;
    if dialect.header {
        records.next()?;
    }
    let mut sampled = 0;
    while sampled < SAMPLE_ROWS && records.next()? {
        sampled += 1;
        // A row that is wrong in itself says nothing of types; it is rejected when it is read.
        let Ok(texts) = records.texts() else { continue };
        if texts.len() != header.len() {
            continue;
        }
        for ((out, seen), text) in columns.iter_mut().zip(texts).filter(|(_, text)| *text != dialect.null) {
            *seen = true;
            while datum::from_text(text, &probes[*out]).is_err() {
                *out += 1;
            }
        }
    }
    let type_of = |(out, seen): &(usize, bool)| if *seen { types[*out].clone() } else { DataType::Utf8 };
    let fields = header.iter().zip(&columns).map(|(name, column)| Field::new(name, type_of(column), true));
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

impl Source for CsvSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Result<Vec<Split>, ConnectorError> {
        Ok(self.files.iter().map(InputFile::split).collect())
    }

    fn open(&self, split: &Split) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let file = files::find(self.files.iter(), split)?;
        let mut records = Records::open(file, &self.dialect)?;
        if self.dialect.header && records.next()? {
            let texts =
                records.texts().map_err(|message| ConnectorError::new(format!("{}:1: {message}", file.name)))?;
            if !texts.iter().map(|text| text.trim()).eq(self.header.iter()) {
                return Err(ConnectorError::new(format!(
                    "{} and {} have different headers: {} and {}",
                    self.files[0].name,
                    file.name,
                    self.header.join(", "),
                    texts.join(", ")
                )));
            }
        }
        let reader = CsvReader {
            records,
            schema: Arc::clone(&self.schema),
            fields: self.fields.clone(),
            width: self.header.len(),
            null: self.dialect.null.clone(),
        };
        Ok(Box::new(Batches::new(reader, Columns::new(Arc::clone(&self.schema)), file.name.clone())))
    }

    fn bounded(&self) -> bool {
        true
    }
}

struct CsvReader {
    records: Records,
    schema: SchemaRef,
    fields: Vec<usize>,
    width: usize,
    null: String,
}

impl CsvReader {
    fn row(&self) -> Result<Vec<Datum<'_>>, String> {
        let found = self.records.len();
        if self.records.unclosed {
            let lines = self.records.next_line - self.records.line;
            return Err(format!(
                "a quote that opens in this row is never closed: the {lines} lines below are in it too"
            ));
        }
        if found != self.width {
            return Err(format!("{found} fields, {} expected", self.width));
        }
        let columns = self.schema.fields().iter().zip(&self.fields);
        columns.map(|(field, &index)| self.value(field, index)).collect()
    }

    fn value(&self, field: &Field, index: usize) -> Result<Datum<'_>, String> {
        let text = self.records.text(index).map_err(|message| format!("column {}: {message}", field.name()))?;
        let has_empty = matches!(field.data_type(), DataType::Utf8 | DataType::Binary);
        let kept = text.is_empty() && !field.is_nullable() && has_empty;
        if text == self.null && !kept { datum::null(field) } else { datum::from_text(text, field) }
            .map_err(|misfit| misfit.in_column(field.name()))
    }
}

impl RowReader for CsvReader {
    fn read(&mut self, columns: &mut Columns) -> Result<Row, ConnectorError> {
        if !self.records.next()? {
            return Ok(Row::End);
        }
        match self.row() {
            Ok(row) => {
                columns.append(&row);
                Ok(Row::Good)
            }
            Err(message) => Ok(Row::Rejected {
                raw: raw_text(&self.records.raw),
                message: format!("{}:{}: {message}", self.records.name, self.records.line),
            }),
        }
    }

    fn bytes_read(&self) -> u64 {
        self.records.bytes_read
    }
}

/// The records of a file, with the line on which each begins.
struct Records {
    name: String,
    file: File,
    parser: csv_core::Reader,
    input: Vec<u8>,
    /// What of `input` is read and not yet parsed.
    at: usize,
    end: usize,
    bytes_read: u64,
    /// Line of the current record, and that of the next byte.
    line: u64,
    next_line: u64,
    /// The current record as it stood in the file, its first few kB.
    raw: Vec<u8>,
    text: Vec<u8>,
    ends: Vec<usize>,
    fields: usize,
    /// Did the file end inside a quote of this record?
    unclosed: bool,
}

impl Records {
    fn open(file: &InputFile, dialect: &Dialect) -> Result<Records, ConnectorError> {
        Ok(Records {
            name: file.name.clone(),
            file: file.open()?,
            parser: csv_core::ReaderBuilder::new().delimiter(dialect.delimiter).quote(dialect.quote).build(),
            input: vec![0; INPUT_BYTES],
            at: 0,
            end: 0,
            bytes_read: 0,
            line: 1,
            next_line: 1,
            raw: Vec::new(),
            text: vec![0; 1 << 10],
            ends: vec![0; 32],
            fields: 0,
            unclosed: false,
        })
    }

    /// Reads more input where there is none left; false at the end of the file.
    fn fill(&mut self) -> Result<bool, ConnectorError> {
        while self.at == self.end {
            match self.file.read(&mut self.input) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    let start =
                        if self.bytes_read == 0 && self.input[..read].starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
                    (self.at, self.end) = (start, read);
                    self.bytes_read += read as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(cannot_read(&self.name, error)),
            }
        }
        Ok(true)
    }

    /// The parser would skip these too, but then the line of the record would be that of the gap before it.
    fn skip_blank_lines(&mut self) -> Result<bool, ConnectorError> {
        while self.fill()? {
            match self.input[self.at] {
                b'\n' => self.next_line += 1,
                b'\r' => {}
                _ => return Ok(true),
            }
            self.at += 1;
        }
        Ok(false)
    }

    /// Goes to the next record; false at the end of the file.
    fn next(&mut self) -> Result<bool, ConnectorError> {
        self.raw.clear();
        self.fields = 0;
        if !self.skip_blank_lines()? {
            return Ok(false);
        }
        self.line = self.next_line;
        self.unclosed = false;
        let (mut text, mut probed) = (0, false);
        loop {
            // The parser takes the end of the file for the end of a quoted field. A line's end before it does not close a
            // quote, so that a row which swallowed the rest of the file can be told from one without a last newline.
            let probe = !self.fill()? && !probed;
            let input = if probe { &b"\n"[..] } else { &self.input[self.at..self.end] };
            let (result, read, written, ends) =
                self.parser.read_record(input, &mut self.text[text..], &mut self.ends[self.fields..]);
            if probe {
                probed = read > 0;
                self.unclosed = probed && !matches!(result, ReadRecordResult::Record);
            } else {
                let room = crate::rows::RAW_BYTES_MAX.saturating_sub(self.raw.len()).min(read);
                self.raw.extend_from_slice(&input[..room]);
                self.next_line += input[..read].iter().filter(|&&byte| byte == b'\n').count() as u64;
                self.at += read;
            }
            text += written;
            self.fields += ends;
            match result {
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(false),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => {
                    self.text.resize(self.grown(self.text.len(), ROW_BYTES_MAX, "bytes")?, 0)
                }
                ReadRecordResult::OutputEndsFull => {
                    self.ends.resize(self.grown(self.ends.len(), FIELDS_MAX, "fields")?, 0)
                }
            }
        }
        while self.raw.ends_with(b"\n") || self.raw.ends_with(b"\r") {
            self.raw.pop();
        }
        Ok(true)
    }

    fn grown(&self, size: usize, limit: usize, what: &str) -> Result<usize, ConnectorError> {
        if size >= limit {
            let message =
                format!("{}:{}: a row of more than {limit} {what}: is a quote not closed?", self.name, self.line);
            return Err(ConnectorError::new(message));
        }
        Ok((size * 2).min(limit))
    }

    fn len(&self) -> usize {
        self.fields
    }

    fn text(&self, index: usize) -> Result<&str, String> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        std::str::from_utf8(&self.text[start..self.ends[index]]).map_err(|_| "got bytes that are not UTF-8".to_owned())
    }

    fn texts(&self) -> Result<Vec<&str>, String> {
        (0..self.fields).map(|index| self.text(index)).collect()
    }
}

#[cfg(test)]
#[path = "csv_source_tests.rs"]
mod tests;
