//! What a sink of a format writes, the source of the same format reads, value for value.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListBuilder,
    RecordBatch, StringArray, StringBuilder, StructArray, Time64MicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Schema};
use proptest::prelude::*;
use wasmill_runtime::connector::{ConnectorContext, ConnectorRegistry, Subtask};

use crate::contract_types::convert;
use crate::datum::notation;
use crate::options::testing::options;
use crate::rows::testing::read;

fn registry() -> ConnectorRegistry {
    let mut registry = ConnectorRegistry::default();
    crate::register(&mut registry);
    registry
}

fn round_trip(format: &str, rows: &RecordBatch) -> RecordBatch {
    round_trip_with(format, rows, "")
}

fn round_trip_with(format: &str, rows: &RecordBatch, more: &str) -> RecordBatch {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry();
    let mut given = options(&format!("path: out\n{more}"));
    let sink = registry.sink(format, ConnectorContext { base: dir.path(), options: &mut given }).unwrap();
    sink.accept(&rows.schema()).unwrap();
    sink.start().unwrap();
    let mut writer = sink.writer(&rows.schema(), Subtask { index: 0, parallelism: 1 }, &[]).unwrap();
    let half = rows.num_rows() / 2;
    writer.write(&rows.slice(0, half)).unwrap();
    writer.write(&rows.slice(half, rows.num_rows() - half)).unwrap();
    sink.commit(&writer.prepare().unwrap()).unwrap();
    sink.finish().unwrap();

    let schema =
        match format {
            "parquet" => String::new(),
            _ => rows.schema().fields().iter().fold("schema:\n".to_owned(), |text, field| {
                text + &format!("  {}: '{}'\n", field.name(), notation(field))
            }),
        };
    let mut given = options(&format!("path: out\n{more}\n{schema}"));
    let source = registry.source(format, ConnectorContext { base: dir.path(), options: &mut given }).unwrap();
    let all = read(source.as_ref(), 7).unwrap();
    assert_eq!(all.rejected, []);
    all.rows()
}

type Values = (Option<i64>, u64, f64, bool, String, Vec<u8>, i32, i64, i64, i128);

fn value() -> impl Strategy<Value = Values> {
    // Times within what the text formats can name: years of four digits.
    let ms = -30_000_000_000_000i64..250_000_000_000_000;
    let micros = 0i64..86_400_000_000;
    let binary = proptest::collection::vec(any::<u8>(), 0..6);
    let units = -10i128.pow(20)..10i128.pow(20);
    (
        any::<Option<i64>>(),
        any::<u64>(),
        proptest::num::f64::NORMAL,
        any::<bool>(),
        any::<String>(),
        binary,
        -300_000i32..2_000_000,
        micros,
        ms,
        units,
    )
}

fn table(values: &[Values]) -> RecordBatch {
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("i", Arc::new(values.iter().map(|row| row.0).collect::<Int64Array>()), true),
        ("u", Arc::new(UInt64Array::from_iter_values(values.iter().map(|row| row.1))), false),
        ("f", Arc::new(Float64Array::from_iter_values(values.iter().map(|row| row.2))), false),
        ("b", Arc::new(values.iter().map(|row| Some(row.3)).collect::<BooleanArray>()), false),
        ("s", Arc::new(StringArray::from_iter_values(values.iter().map(|row| &row.4))), false),
        ("x", Arc::new(BinaryArray::from_iter_values(values.iter().map(|row| &row.5))), false),
        ("d", Arc::new(Date32Array::from_iter_values(values.iter().map(|row| row.6))), false),
        ("c", Arc::new(Time64MicrosecondArray::from_iter_values(values.iter().map(|row| row.7))), false),
        ("t", Arc::new(TimestampMillisecondArray::from_iter_values(values.iter().map(|row| row.8))), false),
        (
            "z",
            Arc::new(
                TimestampNanosecondArray::from_iter_values(values.iter().map(|row| row.8 / 30 * 1_000 + row.7))
                    .with_timezone("America/New_York"),
            ),
            false,
        ),
        (
            "dec",
            Arc::new(
                Decimal128Array::from_iter_values(values.iter().map(|row| row.9))
                    .with_precision_and_scale(38, 9)
                    .unwrap(),
            ),
            false,
        ),
    ];
    let fields = columns.iter().map(|(name, column, null)| Field::new(*name, column.data_type().clone(), *null));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, column, _)| column).collect()).unwrap()
}

fn nested(values: &[Values]) -> RecordBatch {
    let flat = table(values);
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in values {
        match row.0 {
            None => lists.append_null(),
            Some(_) => lists.append_value([Some(row.4.as_str()), None]),
        }
    }
    let inner = StructArray::from(flat.clone());
    let lists: ArrayRef = Arc::new(lists.finish());
    let fields =
        vec![Field::new("l", lists.data_type().clone(), true), Field::new("o", inner.data_type().clone(), false)];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![lists, Arc::new(inner)]).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn flat_rows_come_back(values in proptest::collection::vec(value(), 1..20)) {
        let rows = table(&values);
        for format in ["csv", "jsonl", "parquet"] {
            prop_assert_eq!(&round_trip(format, &rows), &rows, "{}", format);
        }
    }

    /// Null, the empty text, and texts that look like null or are full of what CSV is made of.
    #[test]
    fn null_and_the_empty_text_come_back_apart(
        values in proptest::collection::vec(
            (proptest::option::of("[\"a,;\r\n\u{feff}]{0,3}|NA|NULL"), proptest::option::of(any::<i8>()), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..2))),
            1..20,
        ),
        null in prop_oneof![Just(""), Just("NA"), Just("NULL")],
        first in any::<bool>(),
    ) {
        let texts: ArrayRef = Arc::new(values.iter().map(|row| row.0.clone()).collect::<StringArray>());
        let ints: ArrayRef = Arc::new(values.iter().map(|row| row.1).collect::<arrow::array::Int8Array>());
        let bytes: ArrayRef = Arc::new(values.iter().map(|row| row.2.clone()).collect::<BinaryArray>());
        let mut columns = vec![("s", texts, true), ("i", ints, true), ("b", bytes, true)];
        if !first {
            columns.rotate_left(1);
        }
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        for more in ["", "delimiter: ;", "header: false"] {
            let more = format!("null-literal: '{null}'\n{more}");
            prop_assert_eq!(&round_trip_with("csv", &rows, &more), &rows, "{}", more);
        }
    }

    /// A file of one column has blank lines where a value is nothing.
    #[test]
    fn one_column_comes_back(values in proptest::collection::vec(proptest::option::of("[a\"\n]{0,2}"), 1..20), number in any::<bool>()) {
        let column: ArrayRef = match number {
            true => Arc::new(values.iter().map(|value| value.as_ref().map(|text| text.len() as i64)).collect::<Int64Array>()),
            false => Arc::new(values.iter().cloned().collect::<StringArray>()),
        };
        let rows = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap();
        let null = if number { "" } else { "null-literal: NA" };
        prop_assert_eq!(&round_trip_with("csv", &rows, null), &rows);
    }

    #[test]
    fn nested_rows_come_back(values in proptest::collection::vec(value(), 1..20)) {
        let rows = nested(&values);
        for format in ["jsonl", "parquet"] {
            let back = round_trip(format, &rows);
            prop_assert_eq!(&convert(&back, &rows.schema()).unwrap(), &rows, "{}", format);
        }
    }
}

#[test]
fn a_null_that_would_be_a_blank_line_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut given = options("path: out\n");
    let sink = registry().sink("csv", ConnectorContext { base: dir.path(), options: &mut given }).unwrap();
    let column: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    let rows = RecordBatch::try_from_iter([("c", column)]).unwrap();
    sink.start().unwrap();
    let mut writer = sink.writer(&rows.schema(), Subtask { index: 0, parallelism: 1 }, &[]).unwrap();
    let error = writer.write(&rows).unwrap_err();
    assert!(
        error.source.unwrap().to_string().ends_with("give the sink a null-literal, such as null-literal: \"NULL\"")
    );
}

#[test]
fn every_connector_is_registered() {
    let registry = registry();
    let mut none = options("{}");
    let unknown = registry.source("kafka", ConnectorContext { base: Path::new("."), options: &mut none }).unwrap_err();
    assert!(unknown.to_string().ends_with("there are collection, csv, generator, jsonl, parquet"), "{unknown}");
    let unknown = registry.sink("kafka", ConnectorContext { base: Path::new("."), options: &mut none }).unwrap_err();
    assert!(unknown.to_string().ends_with("there are blackhole, csv, jsonl, parquet, print"), "{unknown}");
}
