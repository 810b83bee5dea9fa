//! `wasmill show`: rows of a file that a job wrote or reads, as a table.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches;
use wasmill_runtime::connector::{ConnectorContext, ReadOutcome};
use wasmill_runtime::value::{Options, Value};

use crate::environment::connectors;
use crate::report::{Failure, plain};

/// The first `rows` rows of the file or folder, and how many there are.
pub(crate) fn show(path: &Path, rows: usize) -> Result<String, Failure> {
    let connector = connector_of(path)?;
    let mut options = Options::default();
    options.set("path", Value::text(path.display().to_string()));
    let failed = |error| Failure::because(format!("cannot show {}", path.display()), error);
    let context = ConnectorContext { base: Path::new("."), options: &mut options };
    let source = connectors().source(connector, context).map_err(failed)?;
    let (mut shown, mut total): (Vec<RecordBatch>, usize) = (Vec::new(), 0);
    for split in source.splits().map_err(failed)? {
        let mut reader = source.open(&split, None).map_err(failed)?;
        loop {
            match reader.next(10_000).map_err(failed)? {
                ReadOutcome::Rows { rows: batch, .. } => {
                    let missing = rows.saturating_sub(total).min(batch.num_rows());
                    shown.push(batch.slice(0, missing));
                    total += batch.num_rows();
                }
                ReadOutcome::Rejected(rejected) => {
                    rejected.iter().for_each(|row| eprintln!("warning: {}", row.message));
                }
                ReadOutcome::Pending(time) => std::thread::sleep(time),
                ReadOutcome::End => break,
            }
        }
    }
    let table = table_of(&shown).map_err(|error| Failure::because(format!("cannot show {}", path.display()), error))?;
    let left = total.saturating_sub(rows);
    let more = if left > 0 { format!(", {left} more") } else { String::new() };
    Ok(format!("{table}\n{total} rows in {}{more}\n", path.display()))
}

/// Rows of the same columns as a table.
pub(crate) fn table_of(batches: &[RecordBatch]) -> Result<String, ArrowError> {
    let shown = batches.iter().map(readable).collect::<Result<Vec<_>, _>>()?;
    pretty_format_batches(&shown).map(|table| table.to_string())
}

/// A line of text for each row: `0, carrier: UA, sum: 5`, the first column without its name.
pub(crate) fn lines_of(batch: &RecordBatch) -> Result<impl Iterator<Item = String> + use<>, ArrowError> {
    let texts = readable(batch)?;
    let schema = texts.schema();
    Ok((0..texts.num_rows()).map(move |row| {
        let cells = schema.fields().iter().zip(texts.columns()).enumerate().map(|(at, (field, column))| {
            let value = column.as_string::<i32>().value(row);
            if at == 0 { value.to_owned() } else { format!("{}: {value}", field.name()) }
        });
        cells.collect::<Vec<_>>().join(", ")
    }))
}

/// Every value as one line of text, a null told apart from an empty text.
fn readable(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let options = FormatOptions::default().with_null("NULL");
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let values = ArrayFormatter::try_new(column, &options)?;
        let text = |row: usize| {
            let text = values.value(row).try_to_string()?;
            Ok(plain(&text).replace('\n', "\\n").replace('\t', "\\t"))
        };
        let texts = (0..batch.num_rows()).map(text).collect::<Result<Vec<String>, ArrowError>>()?;
        fields.push(Field::new(plain(field.name()).replace('\n', "\\n"), DataType::Utf8, false));
        columns.push(Arc::new(StringArray::from(texts)));
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &rows)
}

/// By the ending of the file, or of the files in the folder, which must be of one format.
fn connector_of(path: &Path) -> Result<&'static str, Failure> {
    let ending = |path: &Path| match path.extension()?.to_str()? {
        "parquet" => Some("parquet"),
        "csv" => Some("csv"),
        "jsonl" | "ndjson" => Some("jsonl"),
        _ => None,
    };
    if !path.exists() {
        return Err(Failure::Usage(format!("there is no {}", path.display())));
    }
    let found = if path.is_dir() {
        let mut found: Vec<&'static str> = Vec::new();
        for entry in std::fs::read_dir(path).map_err(Failure::file("read", path))? {
            let file = entry.map_err(Failure::file("read", path))?.path();
            found.extend(ending(&file).filter(|ending| !found.contains(ending)));
        }
        found.sort_unstable();
        if found.len() > 1 {
            let message =
                format!("{} holds files of several formats ({}): name one of them", path.display(), found.join(", "));
            return Err(Failure::Usage(message));
        }
        found.pop()
    } else {
        ending(path)
    };
    found.ok_or_else(|| {
        Failure::Usage(format!(
            "{} holds no .parquet, .csv or .jsonl: name such a file or a folder of them",
            path.display()
        ))
    })
}
