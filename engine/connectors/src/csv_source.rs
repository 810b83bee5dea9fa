//! `source: csv`
//!
//! | option | default | |
//! |---|---|---|
//! | `path` | | file, directory, glob or URL; each file is a split |
//! | `header` | `true` | the first row of each file names the columns |
//! | `delimiter` | `,` | one ASCII character, or `tab` |
//! | `quote` | `"` | one ASCII character; doubled inside a quoted field it stands for itself |
//! | `null-literal` | empty | the text that means null, but in quotes in a `utf8` or `binary` column; an empty field of such a column that is never null stays empty |
//! | `schema` | inferred | `{column: type}`; with a header by name (other columns are skipped), else by position |
//! | `columns` | all | which columns to read, in which order |
//!
//! Without `schema` the types come from the first [`SAMPLE_ROWS`] rows of the first file: the first of `int64`, `float64`,
//! `bool`, `date`, `timestamp(us)` that all values of a column fit, else `utf8`; all may be null. A whole number that float64
//! would round does not fit it. Without a header the columns are `column_1`, `column_2` …. A row that does not fit is rejected,
//! and the next one is read. Blank lines are skipped.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use wasmill_runtime::connector::{ConnectorContext, ConnectorError, Position, Source, SourceReader, Split};

use crate::columns::Columns;
use crate::csv_dialect::Dialect;
use crate::csv_records::Records;
use crate::datum::{self, Datum, Misfit};
use crate::files::{self, InputFile};
use crate::options;
use crate::position::{Mark, TextPosition};
use crate::rows::{Batches, Row, RowReader, raw_text};

/// Rows that decide the types where the job says none.
pub const SAMPLE_ROWS: usize = 1000;

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
    /// How many rows decided the types, where the job did not.
    sampled: Option<usize>,
}

impl CsvSource {
    pub(crate) fn new(mut context: ConnectorContext<'_>) -> Result<CsvSource, ConnectorError> {
        let path = options::path(context.options)?;
        let dialect = Dialect::new(context.options)?;
        let declared = options::schema(&mut context)?;
        let files = files::list(context.base, &path)?;
        let (first, mut sampled) = (&files[0], None);
        let header = header_of(first, &dialect, declared.as_ref())?;
        let (schema, mut fields) = match declared {
            Some(schema) => declared_fields(first, &dialect, &header, schema)?,
            None => {
                let (schema, rows) = infer(first, &dialect, &header)?;
                sampled = Some(rows);
                (schema, (0..header.len()).collect())
            }
        };
        check_types(&schema)?;
        let schema = match options::projection(context.options, &schema, &first.name)? {
            None => schema,
            Some(indices) => {
                fields = indices.iter().map(|&index| fields[index]).collect();
                Arc::new(schema.project(&indices).expect("the projection was looked up in this schema"))
            }
        };
        Ok(CsvSource { files, dialect, header, schema, fields, sampled })
    }

    /// The current record of `records` must be the header that the first file has.
    fn check_header(&self, name: &str, records: &Records) -> Result<(), ConnectorError> {
        let texts = records.texts().map_err(|message| ConnectorError::new(format!("{name}:1: {message}")))?;
        if texts.iter().map(|text| text.trim()).eq(self.header.iter()) {
            return Ok(());
        }
        let (first, wanted) = (&self.files[0].name, self.header.join(", "));
        let message = format!("{first} and {name} have different headers: {wanted} and {}", texts.join(", "));
        Err(ConnectorError::new(message))
    }
}

/// The columns' names in the first file; without a header, as the schema says or numbered.
fn header_of(file: &InputFile, dialect: &Dialect, declared: Option<&SchemaRef>) -> Result<Vec<String>, ConnectorError> {
    if !dialect.header
        && let Some(schema) = declared
    {
        return Ok(schema.fields().iter().map(|field| field.name().clone()).collect());
    }
    let mut records = Records::new(&file.name, file.peek()?, dialect, Mark::default());
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

/// A value of a column whose type the sample decided: nobody asked for a float there, so that no whole number is rounded to one.
fn inferred_value<'a>(text: &'a str, field: &Field) -> Result<Datum<'a>, Misfit> {
    match datum::from_text(text, field) {
        Ok(Datum::Float(_)) if datum::float64_rounds(text) => Err(Misfit::text(text, field).rounded()),
        value => value,
    }
}

/// The types, and how many rows decided them.
fn infer(file: &InputFile, dialect: &Dialect, header: &[String]) -> Result<(SchemaRef, usize), ConnectorError> {
    let types = candidates();
    let probes: Vec<Field> = types.iter().map(|data_type| Field::new("", data_type.clone(), true)).collect();
    // Per column: which of the candidates all values fit so far, and whether there was any value at all.
    let mut columns = vec![([true; 6], false); header.len()];
    let mut records = Records::new(&file.name, file.peek()?, dialect, Mark::default());
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
        for ((fits, seen), text) in columns.iter_mut().zip(texts).filter(|(_, text)| *text != dialect.null) {
            *seen = true;
            for (fits, probe) in fits.iter_mut().zip(&probes) {
                *fits = *fits && inferred_value(text, probe).is_ok();
            }
        }
    }
    let type_of = |(fits, seen): &([bool; 6], bool)| {
        let first = fits.iter().position(|fits| *fits).filter(|_| *seen);
        first.map_or(DataType::Utf8, |first| types[first].clone())
    };
    let fields = header.iter().zip(&columns).map(|(name, column)| Field::new(name, type_of(column), true));
    Ok((Arc::new(Schema::new(fields.collect::<Vec<_>>())), sampled))
}

impl Source for CsvSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Result<Vec<Split>, ConnectorError> {
        Ok(self.files.iter().map(InputFile::split).collect())
    }

    fn open(&self, split: &Split, from: Option<&Position>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let file = files::find(self.files.iter(), split)?;
        let (content, mut from) = file.open_at(from)?;
        let mut records = Records::new(&file.name, content, &self.dialect, from.mark());
        // Beyond the start the header lies behind, and was looked at by the reader that came by.
        if self.dialect.header && from.byte == 0 && records.next()? {
            self.check_header(&file.name, &records)?;
            let Mark { byte, line } = records.mark();
            from = TextPosition { byte, line, ..from };
        }
        let reader = CsvReader {
            records,
            schema: Arc::clone(&self.schema),
            fields: self.fields.clone(),
            width: self.header.len(),
            null: self.dialect.null.clone(),
            sampled: self.sampled,
        };
        Ok(Box::new(Batches::new(reader, Columns::new(Arc::clone(&self.schema)), file.name.clone(), from)))
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
    sampled: Option<usize>,
}

impl CsvReader {
    fn row(&self) -> Result<Vec<Datum<'_>>, String> {
        self.records.fault()?;
        let found = self.records.len();
        if found != self.width {
            return Err(format!("{found} fields, {} expected", self.width));
        }
        let columns = self.schema.fields().iter().zip(&self.fields);
        columns.map(|(field, &index)| self.value(field, index)).collect()
    }

    fn value(&self, field: &Field, index: usize) -> Result<Datum<'_>, String> {
        let text = self.records.text(index).map_err(|message| format!("column {}: {message}", field.name()))?;
        let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::Binary);
        // Programs that quote every field do so with a missing number too, but what is quoted in a column of texts is a text.
        let kept = is_text && (self.records.quoted(index) || (text.is_empty() && !field.is_nullable()));
        let value = match text == self.null && !kept {
            true => datum::null(field),
            false if self.sampled.is_some() => inferred_value(text, field),
            false => datum::from_text(text, field),
        };
        value.map_err(|misfit| match self.sampled {
            Some(rows) if !misfit.explained => {
                format!("{}{}", misfit.in_column(field.name()), advice(rows, text, field))
            }
            _ => misfit.in_column(field.name()),
        })
    }
}

/// What to do about `text`, which the sample of `rows` rows did not foresee.
fn advice(rows: usize, text: &str, field: &Field) -> String {
    let is_number = inferred_value(text, &Field::new("", DataType::Float64, true)).is_ok();
    let better = if field.data_type() == &DataType::Int64 && is_number { "float64" } else { "utf8" };
    let (guessed, name) = (datum::guessed_from(rows, "rows"), field.name());
    format!("{guessed}: if that is wrong, name the columns and their types, as in schema: {{ {name}: {better} }}")
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

    fn mark(&self) -> Mark {
        self.records.mark()
    }
}

#[cfg(test)]
#[path = "csv_source_tests.rs"]
mod tests;
