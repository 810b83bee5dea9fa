//! `source: collection`: rows that stand in the job file, or come from Rust.
//!
//! | option | |
//! |---|---|
//! | `schema` | `{column: type}` |
//! | `rows` | a list of rows, each a list of values in the order of the schema or a map by column, where a missing one is null |
//!
//! Dates, times, timestamps and decimals can be written as texts, binary as hexadecimal.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use wasmill_runtime::connector::{
    ConnectorContext, ConnectorError, Position, ReadOutcome, Source, SourceReader, Split,
};
use wasmill_runtime::value::{Location, Value, ValueKind};

use crate::columns::Columns;
use crate::contract_types;
use crate::datum::{self, Datum, Misfit};
use crate::options::{self, wrong_at};
use crate::position;

/// Rows that are there already.
#[derive(Debug, Clone)]
pub struct CollectionSource {
    schema: SchemaRef,
    splits: Vec<Vec<RecordBatch>>,
}

impl CollectionSource {
    /// One split with the rows of `batches`, in order.
    ///
    /// # Errors
    /// A batch has other columns than `schema`, or a column has a type that the contract does not know.
    pub fn from_batches(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<CollectionSource, ConnectorError> {
        CollectionSource::from_splits(schema, vec![batches])
    }

    /// As [`from_batches`](Self::from_batches), with several splits.
    ///
    /// # Errors
    /// The same.
    pub fn from_splits(schema: SchemaRef, splits: Vec<Vec<RecordBatch>>) -> Result<CollectionSource, ConnectorError> {
        if let Some(message) = contract_types::unsupported(&schema) {
            return Err(ConnectorError::new(message));
        }
        if let Some(other) = splits.iter().flatten().find(|batch| batch.schema() != schema) {
            let message = format!("a batch has the columns {:?}, not those of the source, {schema:?}", other.schema());
            return Err(ConnectorError::new(message));
        }
        Ok(CollectionSource { schema, splits })
    }

    pub(crate) fn new(mut context: ConnectorContext<'_>) -> Result<CollectionSource, ConnectorError> {
        let missing = || {
            wrong_at(Location::NONE, "schema", "is missing: give the columns' types, such as {id: int64, name: utf8?}")
        };
        let schema = options::schema(&mut context)?.ok_or_else(missing)?;
        let Some(value) = context.options.value("rows") else {
            return Err(wrong_at(Location::NONE, "rows", "is missing"));
        };
        let ValueKind::List(rows) = &value.kind else {
            return Err(wrong_at(value.at, "rows", format!("is {}; a list of rows is wanted", value.describe())));
        };
        let mut columns = Columns::new(Arc::clone(&schema));
        let mut errors = Vec::new();
        for (number, value) in rows.iter().enumerate() {
            match row(value, &schema) {
                Ok(row) => columns.append(&row),
                Err((at, message)) => errors.push(wrong_at(at, &format!("rows[{number}]"), message)),
            }
        }
        options::together(errors, "rows do not fit the schema")?;
        let cannot = |error| ConnectorError::new("rows: cannot make columns").caused_by(error);
        let rows = columns.finish().map_err(cannot)?;
        CollectionSource::from_batches(schema, vec![rows])
    }
}

/// A row of the job file; an error says where.
fn row<'a>(value: &'a Value, schema: &Schema) -> Result<Vec<Datum<'a>>, (Location, String)> {
    let fields = schema.fields();
    let one = |value: &'a Value, field: &Field| {
        datum(value, field).map_err(|misfit| (value.at, misfit.in_column(field.name())))
    };
    match &value.kind {
        ValueKind::List(values) if values.len() == fields.len() => {
            values.iter().zip(fields).map(|(value, field)| one(value, field)).collect()
        }
        ValueKind::List(values) => Err((value.at, format!("{} values, {} expected", values.len(), fields.len()))),
        ValueKind::Map(entries) => {
            if let Some((name, _)) = entries.iter().find(|(name, _)| schema.index_of(&name.text).is_err()) {
                return Err((name.at, format!("no column {name} in the schema")));
            }
            let find = |field: &Field| entries.iter().rev().find(|(name, _)| &name.text == field.name());
            let values = fields.iter().map(|field| match find(field) {
                Some((_, value)) => one(value, field),
                None => datum::null(field).map_err(|misfit| (value.at, misfit.in_column(field.name()))),
            });
            values.collect()
        }
        _ => Err((value.at, format!("is {}; a list or a map is wanted", value.describe()))),
    }
}

/// A value of a job file as a value of a column.
pub(crate) fn datum<'a>(value: &'a Value, field: &Field) -> Result<Datum<'a>, Misfit> {
    let misfit = || Misfit::new(value.describe(), field);
    match (&value.kind, field.data_type()) {
        (ValueKind::Null, _) => datum::null(field),
        (ValueKind::Bool(value), DataType::Boolean) => Ok(Datum::Bool(*value)),
        (ValueKind::Integer(value), DataType::Float32 | DataType::Float64) => Ok(Datum::Float(*value as f64)),
        (ValueKind::Integer(value), data_type) if data_type.is_integer() => {
            datum::integer(*value, data_type).ok_or_else(misfit)
        }
        (ValueKind::Float(value), DataType::Float64) => Ok(Datum::Float(*value)),
        (ValueKind::Float(value), DataType::Float32) if datum::fits_f32(*value) => Ok(Datum::Float(*value)),
        (ValueKind::Integer(_) | ValueKind::Float(_), DataType::Decimal128(_, _)) => {
            let text = value.scalar_text().ok_or_else(misfit)?;
            match datum::from_text(&text, field) {
                Ok(Datum::Decimal(units)) => Ok(Datum::Decimal(units)),
                _ => Err(misfit()),
            }
        }
        (ValueKind::Text(text), _) => datum::from_text(text, field),
        (ValueKind::List(values), DataType::List(item)) => {
            let item = |(at, value)| datum(value, item).map_err(|misfit| misfit.below(&format!("[{at}]")));
            values.iter().enumerate().map(item).collect::<Result<_, _>>().map(Datum::List)
        }
        (ValueKind::Map(entries), DataType::Struct(fields)) => {
            if let Some((name, _)) = entries.iter().find(|(name, _)| fields.find(&name.text).is_none()) {
                return Err(Misfit::new(format!("a field {name:?}"), field));
            }
            let value = |field: &Arc<Field>| {
                let found = entries.iter().rev().find(|(name, _)| &name.text == field.name());
                let read = found.map_or_else(|| datum::null(field), |(_, value)| datum(value, field));
                read.map_err(|misfit| misfit.below(&format!(".{}", field.name())))
            };
            fields.iter().map(value).collect::<Result<_, _>>().map(Datum::Struct)
        }
        (ValueKind::Map(entries), DataType::Map(inner, _)) => match inner.data_type() {
            DataType::Struct(fields) => {
                let entry = |(name, value): &'a (wasmill_runtime::value::Name, Value)| {
                    let below = |misfit: Misfit| misfit.below(&format!(".{name}"));
                    let key = datum::from_text(&name.text, &fields[0]).map_err(below)?;
                    Ok((key, datum(value, &fields[1]).map_err(below)?))
                };
                entries.iter().map(entry).collect::<Result<_, _>>().map(Datum::Map)
            }
            _ => Err(misfit()),
        },
        _ => Err(misfit()),
    }
}

impl Source for CollectionSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Sizes are in rows.
    fn splits(&self) -> Result<Vec<Split>, ConnectorError> {
        let rows = |batches: &Vec<RecordBatch>| batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let splits = self.splits.iter().enumerate();
        Ok(splits.map(|(number, batches)| Split { id: number.to_string(), size: Some(rows(batches)) }).collect())
    }

    fn open(&self, split: &Split, from: Option<&Position>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let batches = split.id.parse().ok().and_then(|number: usize| self.splits.get(number));
        let batches =
            batches.ok_or_else(|| ConnectorError::new(format!("{} is no split of this collection", split.id)))?;
        let mut reader = CollectionReader { batches: batches.clone(), batch: 0, offset: 0, row: 0 };
        if let Some(from) = from {
            reader.skip_to(&format!("collection, split {}", split.id), from)?;
        }
        Ok(Box::new(reader))
    }

    fn bounded(&self) -> bool {
        true
    }
}

struct CollectionReader {
    batches: Vec<RecordBatch>,
    /// The next row is at `offset` in the batch of this number.
    batch: usize,
    offset: usize,
    row: u64,
}

/// The position of a reader.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CollectionPosition {
    row: u64,
}

impl CollectionReader {
    fn skip_to(&mut self, name: &str, from: &Position) -> Result<(), ConnectorError> {
        let CollectionPosition { row } = position::read(from, name)?;
        let mut left = row;
        while left > 0 {
            let Some(batch) = self.batches.get(self.batch) else {
                return Err(position::shrunk(name, from, row - left, "rows", row));
            };
            let rows = batch.num_rows() as u64;
            if left < rows {
                self.offset = usize::try_from(left).expect("less than the rows of a batch");
                break;
            }
            left -= rows;
            self.batch += 1;
        }
        self.row = row;
        Ok(())
    }
}

impl SourceReader for CollectionReader {
    fn next(&mut self, rows_max: usize) -> Result<ReadOutcome, ConnectorError> {
        while let Some(batch) = self.batches.get(self.batch) {
            let count = (batch.num_rows() - self.offset).min(rows_max.max(1));
            if count == 0 {
                self.batch += 1;
                self.offset = 0;
                continue;
            }
            let rows = batch.slice(self.offset, count);
            let first_row = self.row;
            self.offset += count;
            self.row += count as u64;
            return Ok(ReadOutcome::Rows { rows, first_row });
        }
        Ok(ReadOutcome::End)
    }

    fn done(&self) -> u64 {
        self.row
    }

    fn position(&self) -> Position {
        position::write(&CollectionPosition { row: self.row })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::testing::build;
    use crate::rows::testing::{check_positions, read};
    use arrow::array::{Array, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use std::path::Path;

    fn source(yaml: &str) -> Result<CollectionSource, String> {
        build(Path::new("."), yaml, CollectionSource::new).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_are_lists_or_maps() {
        let source =
            source("schema: {id: int64, name: utf8?}\nrows: [[1, a], [2, null], {name: c, id: 3}, {id: 4}]").unwrap();
        for rows_max in [1, 3, 100] {
            let rows = read(&source, rows_max).unwrap().rows();
            assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[1, 2, 3, 4]);
            assert_eq!(
                rows.column(1).as_string::<i32>().iter().collect::<Vec<_>>(),
                [Some("a"), None, Some("c"), None]
            );
        }
    }

    #[test]
    fn every_type_can_be_written() {
        let yaml = "schema: {a: 'list<int8?>', b: 'struct<x: float32, y: date?>', c: 'map<int64, bool>', d: 'decimal(5,2)', t: timestamp(ms), u: uint64}\n\
                    rows:\n- [[1, null], {x: 1}, {5: true}, 1.25, 2013-01-01T00:00:00, 18446744073709551615]\n";
        let rows = read(&source(yaml).unwrap(), 10).unwrap().rows();
        assert_eq!(rows.num_rows(), 1);
        assert_eq!(rows.column(3).as_primitive::<arrow::datatypes::Decimal128Type>().value(0), 125);
        assert_eq!(rows.column(5).as_primitive::<arrow::datatypes::UInt64Type>().value(0), u64::MAX);
        assert_eq!(rows.column(0).as_list::<i32>().value(0).null_count(), 1);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let message =
            |rows: &str| source(&format!("schema: {{id: int64, tags: 'list<utf8>?'}}\nrows: {rows}")).unwrap_err();
        assert_eq!(message("[[x, null]]"), "rows[0]: column id: got \"x\", wanted int64");
        assert_eq!(message("[[1, [a, 2]]]"), "rows[0]: column tags[1]: got 2, wanted utf8");
        assert_eq!(message("[[1, null], [2]]"), "rows[1]: 1 values, 2 expected");
        assert_eq!(message("[{tags: []}]"), "rows[0]: column id: got nothing, wanted int64");
        assert_eq!(message("[{id: 1, tag: []}]"), "rows[0]: no column tag in the schema");
        assert_eq!(message("[1]"), "rows[0]: is 1; a list or a map is wanted");
        assert_eq!(message("1"), "rows: is 1; a list of rows is wanted");
        assert!(source("rows: []").unwrap_err().starts_with("schema: is missing"));
        assert_eq!(
            message("\n- [x, null]\n- [1, null]\n- [2]"),
            "2 rows do not fit the schema:\n  line 3: rows[0]: column id: got \"x\", wanted int64\n  \
             line 5: rows[2]: 1 values, 2 expected"
        );
        let many = message(&format!("[{}]", "[x, null], ".repeat(1000)));
        assert!(many.starts_with("1000 rows do not fit the schema:\n"), "{many}");
        assert!(many.ends_with("\n  and 990 more") && many.lines().count() == 12, "{many}");
        assert_eq!(source("schema: {a: int64}").unwrap_err(), "rows: is missing");
    }

    #[test]
    fn batches_from_rust() {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
        let batch = |values: Vec<i64>| {
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(values))]).unwrap()
        };
        let source = CollectionSource::from_splits(
            Arc::clone(&schema),
            vec![vec![batch(vec![1, 2]), batch(vec![]), batch(vec![3])], vec![batch(vec![4])]],
        )
        .unwrap();
        assert_eq!(source.splits().unwrap().iter().map(|split| split.size.unwrap()).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(read(&source, 2).unwrap().rows().column(0).as_primitive::<Int64Type>().values(), &[1, 2, 3, 4]);
        check_positions(&source, &[1]);
        check_positions(&source, &[2, 1]);
        let split = &source.splits().unwrap()[1];
        let open = |row: u64| source.open(split, Some(&Position(format!("{{\"row\":{row}}}"))));
        assert_eq!(open(1).unwrap().done(), 1);
        let error = open(3).err().unwrap().to_string();
        assert!(
            error.starts_with("collection, split 1 has 1 rows, and had at least 3 when the checkpoint was made"),
            "{error}"
        );
        let other = Arc::new(Schema::new(vec![Field::new("w", DataType::Int64, false)]));
        assert!(CollectionSource::from_batches(other, vec![batch(vec![1])]).is_err());
        let view = Arc::new(Schema::new(vec![Field::new("w", DataType::Utf8View, false)]));
        assert!(CollectionSource::from_batches(view, vec![]).unwrap_err().to_string().contains("cast it to Utf8"));
    }
}
