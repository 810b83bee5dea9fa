//! `source: parquet`
//!
//! | option | default | |
//! |---|---|---|
//! | `path` | | file, directory, glob or URL; each file is a split |
//! | `columns` | all | which columns to read, in which order |
//!
//! The schema is that of the first file. All files must have its columns with its types; a column may be null if it may be in
//! any of them. Encodings such as dictionaries and views are read as the plain types of the contract. The footers of local
//! files are all read before the job starts, those of remote files when each is opened.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use serde::{Deserialize, Serialize};
use wasmill_runtime::connector::{
    ConnectorContext, ConnectorError, Position, ReadOutcome, Source, SourceReader, Split,
};

use crate::contract_types;
use crate::datum::notation;
use crate::files::{self, InputFile};
use crate::options;
use crate::position;

/// Rows of Parquet files.
#[derive(Debug)]
pub(crate) struct ParquetSource {
    files: Vec<(InputFile, Option<u64>)>,
    schema: SchemaRef,
}

impl ParquetSource {
    pub(crate) fn new(context: ConnectorContext<'_>) -> Result<ParquetSource, ConnectorError> {
        let path = options::path(context.options)?;
        let files = files::list(context.base, &path)?;
        let first = &files[0];
        let metadata = metadata(first, &first.peek_file()?)?;
        let all = metadata.schema();
        let indices = options::projection(context.options, all, &first.name)?;
        let indices = indices.unwrap_or_else(|| (0..all.fields().len()).collect());
        let mut fields = Vec::with_capacity(indices.len());
        for index in indices {
            let column = all.field(index);
            fields.push(contract_types::field(column).map_err(|error| {
                let message = format!("{}: column {}: {error}; columns: can leave it out", first.name, column.name());
                ConnectorError::new(message)
            })?);
        }
        let mut sized = vec![(first.clone(), Some(rows_of(&metadata)))];
        for file in &files[1..] {
            let rows = if file.is_local() { Some(agree(first, &mut fields, file)?) } else { None };
            sized.push((file.clone(), rows));
        }
        Ok(ParquetSource { files: sized, schema: Arc::new(Schema::new(fields)) })
    }
}

/// Checks that `file` has `fields` as `first` does, lets them be null where they may be in `file`, and tells its rows.
fn agree(first: &InputFile, fields: &mut [Field], file: &InputFile) -> Result<u64, ConnectorError> {
    let metadata = metadata(file, &file.peek_file()?)?;
    for field in fields {
        let found = column(metadata.schema(), field, first, file)?;
        if found.is_nullable() && !field.is_nullable() {
            *field = field.clone().with_nullable(true);
        }
    }
    Ok(rows_of(&metadata))
}

/// The column of `file` that is `field` in `first`.
fn column(schema: &Schema, field: &Field, first: &InputFile, file: &InputFile) -> Result<Field, ConnectorError> {
    let differ = |found: String| {
        let (name, wanted) = (field.name(), notation(field));
        ConnectorError::new(format!(
            "{} and {} differ: column {name} is {wanted} in the first and {found}",
            first.name, file.name
        ))
    };
    let found = schema.field_with_name(field.name()).map_err(|_| differ("missing in the second".into()))?;
    match contract_types::field(found) {
        Ok(found) if found.data_type() == field.data_type() => Ok(found),
        Ok(found) => Err(differ(format!("{} in the second", notation(&found)))),
        Err(_) => Err(differ(format!("{} in the second", found.data_type()))),
    }
}

fn rows_of(metadata: &ArrowReaderMetadata) -> u64 {
    u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
}

fn metadata(file: &InputFile, content: &File) -> Result<ArrowReaderMetadata, ConnectorError> {
    guarded(&file.name, || ArrowReaderMetadata::load(content, ArrowReaderOptions::new()))?.map_err(|error| {
        let message = format!(
            "{} is not a readable Parquet file ({} bytes): is it cut off, or of another format?",
            file.name, file.bytes
        );
        ConnectorError::new(message).caused_by(error)
    })
}

/// The Parquet library may panic on bytes that no writer wrote; then the file is at fault, not the job.
fn guarded<T>(name: &str, work: impl FnOnce() -> T) -> Result<T, ConnectorError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text =
            payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
        ConnectorError::new(format!("{name} is damaged: {}", text.unwrap_or("its pages make no sense")))
    })
}

impl Source for ParquetSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Sizes are in rows.
    fn splits(&self) -> Result<Vec<Split>, ConnectorError> {
        Ok(self.files.iter().map(|(file, rows)| Split { id: file.name.clone(), size: *rows }).collect())
    }

    fn open(&self, split: &Split, from: Option<&Position>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let first = &self.files[0].0;
        let file = files::find(self.files.iter().map(|(file, _)| file), split)?;
        let content = file.open_file()?;
        let metadata = metadata(file, &content)?;
        for field in self.schema.fields() {
            let found = column(metadata.schema(), field, first, file)?;
            if found.is_nullable() && !field.is_nullable() {
                let message = format!(
                    "{} and {} differ: column {} may be null in the second only",
                    first.name,
                    file.name,
                    field.name()
                );
                return Err(ConnectorError::new(message));
            }
        }
        let rows = rows_of(&metadata);
        Ok(Box::new(ParquetReader {
            name: file.name.clone(),
            schema: Arc::clone(&self.schema),
            rows,
            pending: Some((content, metadata)),
            reader: None,
            rest: None,
            row: from.map_or(Ok(0), |from| row_of(from, &file.name, rows))?,
        }))
    }

    fn bounded(&self) -> bool {
        true
    }
}

/// The position of a reader.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParquetPosition {
    row: u64,
    /// Those that the file had.
    rows: u64,
}

/// The row that `from` says, in a file of `rows` rows.
fn row_of(from: &Position, name: &str, rows: u64) -> Result<u64, ConnectorError> {
    let at: ParquetPosition = position::read(from, name)?;
    let before = at.rows.max(at.row);
    if rows < before { Err(position::shrunk(name, from, rows, "rows", before)) } else { Ok(at.row) }
}

/// The row groups that have rows behind the first `row`, and how many of their rows are among these.
fn groups_from(metadata: &ArrowReaderMetadata, row: u64) -> (Vec<usize>, usize) {
    let groups = metadata.metadata().row_groups();
    let mut left = row;
    let mut first = 0;
    for group in groups {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        if rows > left {
            break;
        }
        left -= rows;
        first += 1;
    }
    ((first..groups.len()).collect(), usize::try_from(left).unwrap_or(usize::MAX))
}

struct ParquetReader {
    name: String,
    schema: SchemaRef,
    /// What the footer says.
    rows: u64,
    /// Until the first call says how many rows a batch has.
    pending: Option<(File, ArrowReaderMetadata)>,
    reader: Option<ParquetRecordBatchReader>,
    /// Rows that were read and did not fit into the last batch.
    rest: Option<RecordBatch>,
    row: u64,
}

impl ParquetReader {
    fn start(&mut self, rows_max: usize) -> Result<(), ConnectorError> {
        let Some((file, metadata)) = self.pending.take() else { return Ok(()) };
        let roots = self.schema.fields().iter().map(|field| {
            metadata.schema().index_of(field.name()).expect("open checked that the file has every column")
        });
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots.collect::<Vec<_>>());
        let (groups, skipped) = groups_from(&metadata, self.row);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata).with_row_groups(groups);
        let builder = if skipped > 0 { builder.with_offset(skipped) } else { builder };
        let reader = guarded(&self.name, || builder.with_projection(mask).with_batch_size(rows_max).build())?;
        self.reader = Some(reader.map_err(|error| self.damaged(error))?);
        Ok(())
    }

    fn damaged(&self, error: impl std::error::Error + Send + Sync + 'static) -> ConnectorError {
        ConnectorError::new(format!("cannot read {} from row {}: it is damaged or cut off", self.name, self.row))
            .caused_by(error)
    }

    fn read(&mut self) -> Result<Option<RecordBatch>, ConnectorError> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let Some(read) = guarded(&self.name, || reader.next())? else { return Ok(None) };
        let read = read.map_err(|error| self.damaged(error))?;
        // The file has the columns in its own order.
        let columns = self.schema.fields().iter().map(|field| read.schema().index_of(field.name()));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| self.damaged(error))?;
        let read = read.project(&columns).map_err(|error| self.damaged(error))?;
        contract_types::convert(&read, &self.schema).map(Some).map_err(|error| self.damaged(error))
    }
}

impl SourceReader for ParquetReader {
    fn next(&mut self, rows_max: usize) -> Result<ReadOutcome, ConnectorError> {
        let rows_max = rows_max.max(1);
        self.start(rows_max)?;
        let rows = loop {
            match self.read()? {
                None if self.row < self.rows => {
                    let message =
                        format!("{} is damaged: it has {} rows, its footer says {}", self.name, self.row, self.rows);
                    return Err(ConnectorError::new(message));
                }
                None => return Ok(ReadOutcome::End),
                Some(rows) if rows.num_rows() == 0 => {}
                Some(rows) => break rows,
            }
        };
        let taken = rows.num_rows().min(rows_max);
        if taken < rows.num_rows() {
            self.rest = Some(rows.slice(taken, rows.num_rows() - taken));
        }
        let first_row = self.row;
        self.row += taken as u64;
        Ok(ReadOutcome::Rows { rows: rows.slice(0, taken), first_row })
    }

    fn done(&self) -> u64 {
        self.row
    }

    fn position(&self) -> Position {
        position::write(&ParquetPosition { row: self.row, rows: self.rows })
    }
}

#[cfg(test)]
#[path = "parquet_source_tests.rs"]
mod tests;
