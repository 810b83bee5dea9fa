//! Rows that could not be handled, on their way to the job's dead letters.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::{ArrayWriter, WriterBuilder, writer::JsonArray};
use serde_json::Value;

use crate::checkpoint::snapshot::Barrier;
use crate::connector::{Committable, SinkWriter};
use crate::error::JobError;
use crate::operator::Parts;

/// One row that a UDF raised on, or that a source could not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub node: String,
    /// `legs.grade`; `None` where the source itself could not read the row.
    pub function: Option<String>,
    pub source: Option<String>,
    pub split: Option<String>,
    /// Row number in the split, from 0.
    pub row: Option<i64>,
    pub kind: String,
    pub message: String,
    pub traceback: String,
    /// The row as JSON, or as it stood in the source.
    pub record: String,
}

/// The columns of dead letters.
pub fn schema() -> SchemaRef {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("job", false),
        text("node", false),
        text("function", true),
        text("source", true),
        text("split", true),
        Field::new("row", DataType::Int64, true),
        text("kind", false),
        text("message", false),
        text("traceback", false),
        text("record", false),
    ]))
}

pub(crate) fn to_batch(job: &str, letters: &[DeadLetter]) -> Result<RecordBatch, ArrowError> {
    let text = |value: fn(&DeadLetter) -> Option<&str>| -> ArrayRef {
        Arc::new(letters.iter().map(value).collect::<StringArray>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(letters.iter().map(|_| job))),
        text(|letter| Some(&letter.node)),
        text(|letter| letter.function.as_deref()),
        text(|letter| letter.source.as_deref()),
        text(|letter| letter.split.as_deref()),
        Arc::new(letters.iter().map(|letter| letter.row).collect::<Int64Array>()),
        text(|letter| Some(&letter.kind)),
        text(|letter| Some(&letter.message)),
        text(|letter| Some(&letter.traceback)),
        text(|letter| Some(&letter.record)),
    ];
    RecordBatch::try_new(schema(), columns)
}

/// Letters that wait before they are written together.
const BATCH_LETTERS_MAX: usize = 1000;

/// Writes letters to the job's sink for them.
pub(crate) struct LetterWriter {
    job: String,
    parts: Parts,
    waiting: Vec<DeadLetter>,
}

impl LetterWriter {
    pub(crate) fn new(job: &str, writer: Box<dyn SinkWriter>, checkpoints: bool) -> LetterWriter {
        LetterWriter { job: job.to_owned(), parts: Parts::new(writer, checkpoints), waiting: Vec::new() }
    }

    pub(crate) fn push(&mut self, letter: DeadLetter) -> Result<(), JobError> {
        self.waiting.push(letter);
        if self.waiting.len() < BATCH_LETTERS_MAX { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), JobError> {
        let letters = std::mem::take(&mut self.waiting);
        if letters.is_empty() {
            return Ok(());
        }
        let rows = to_batch(&self.job, &letters);
        let rows = rows.map_err(|error| JobError::Arrow { node: LETTERS.to_owned(), error })?;
        self.parts.writer().and_then(|writer| writer.write(&rows)).map_err(JobError::DeadLetters)
    }

    /// What a checkpoint says of it: its own words, and the parts that are prepared.
    pub(crate) fn snapshot(&mut self, barrier: &Barrier) -> Result<(Value, Vec<Committable>), JobError> {
        self.flush()?;
        self.parts.snapshot(barrier).map_err(JobError::DeadLetters)
    }
}

/// The name of the job's dead letters among its sinks.
pub(crate) const LETTERS: &str = "dead-letters";

/// A row as a JSON object, nulls included.
pub(crate) fn record_of(rows: &RecordBatch, row: usize) -> Result<String, ArrowError> {
    let mut writer: ArrayWriter<Vec<u8>> =
        WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
    writer.write(&rows.slice(row, 1))?;
    writer.finish()?;
    let text = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    Ok(text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_its_nulls() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]);
        let a: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let b: ArrayRef = Arc::new(StringArray::from(vec![Some("x\"y"), None]));
        let rows = RecordBatch::try_new(Arc::new(schema), vec![a, b]).unwrap();
        assert_eq!(record_of(&rows, 0).unwrap(), r#"{"a":1,"b":"x\"y"}"#);
        assert_eq!(record_of(&rows, 1).unwrap(), r#"{"a":null,"b":null}"#);
    }
}
