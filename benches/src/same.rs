//! A comparison means something only if every way does the same work.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use wasmill_runtime::udf_file::Environment;

use crate::figures::WAYS;
use crate::work::{Results, Work};
use crate::{BenchError, open};

/// More than a batch of the source, and no multiple of a bundle.
const ROWS: u64 = 12_345;

/// Has every way do `work` on some rows, and compares what comes out.
///
/// # Errors
/// [`BenchError::NotTheSame`], and those of the ways.
pub fn check(work: &'static Work, bundle: usize, environment: &Environment) -> Result<(), BenchError> {
    let mut outputs = Vec::new();
    for way in WAYS {
        let lines = open(work, way, bundle, environment)?.output(ROWS)?;
        outputs.extend(lines.map(|lines| (way, lines)));
    }
    let differ = |way: &str, what: String| BenchError::NotTheSame { work: work.name(), way: way.to_owned(), what };
    let Some(((_, first), others)) = outputs.split_first() else {
        return Err(differ("every way", "no output to compare".into()));
    };
    let want = work.results.of(ROWS) as usize;
    if first.len() != want || others.is_empty() {
        return Err(differ("wasmill", format!("{} rows and {} ways to compare with", first.len(), others.len())));
    }
    for (way, lines) in others {
        if let Some(at) = (0..first.len().max(lines.len())).find(|at| first.get(*at) != lines.get(*at)) {
            let what = format!("row {at} is {:?}, wasmill's {:?}", lines.get(at), first.get(at));
            return Err(differ(way.text(), what));
        }
    }
    Ok(())
}

/// A line for each row of output: the columns that count, with their types. Windows of one time fire in any order, so they are sorted;
/// other rows keep theirs across an exchange, and means are those of the same order of additions.
///
/// # Errors
/// [`BenchError::Arrow`].
pub(crate) fn lines(results: Results, batches: &[RecordBatch]) -> Result<Vec<String>, BenchError> {
    let mut lines = Vec::new();
    for batch in batches {
        let columns = columns(results, batch)?;
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|column| {
                let value = array_value_to_string(column, row)?;
                Ok(format!(
                    "{value}: {}",
                    if column.is_null(row) { DataType::Null } else { column.data_type().clone() }
                ))
            });
            lines.push(values.collect::<Result<Vec<_>, BenchError>>()?.join(", "));
        }
    }
    if results == Results::Windows {
        lines.sort();
    }
    Ok(lines)
}

fn columns(results: Results, batch: &RecordBatch) -> Result<Vec<ArrayRef>, BenchError> {
    let Some(names) = results.columns() else { return Ok(batch.columns().last().cloned().into_iter().collect()) };
    let mut columns = Vec::new();
    for column in names.into_iter().filter_map(|name| batch.column_by_name(name)) {
        // A time is a number to the worker.
        columns.push(match column.data_type() {
            DataType::Timestamp(..) => cast(column, &DataType::Int64)?,
            _ => column.clone(),
        });
    }
    Ok(columns)
}
