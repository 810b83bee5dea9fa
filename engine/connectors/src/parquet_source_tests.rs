use std::path::Path;

use super::*;
use crate::options::testing::build;
use crate::rows::testing::{All, check_positions, read};
use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, LargeStringArray, ListBuilder, StringArray,
    StringBuilder, StringViewArray, Time64NanosecondArray,
};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use parquet::arrow::ArrowWriter;
use std::error::Error;

fn write(dir: &Path, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(dir.join(name)).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn source(dir: &Path, yaml: &str) -> Result<ParquetSource, ConnectorError> {
    build(dir, yaml, ParquetSource::new)
}

fn all(dir: &Path, yaml: &str, rows_max: usize) -> All {
    read(&source(dir, yaml).unwrap(), rows_max).unwrap()
}

fn ints(range: std::ops::Range<i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(range))
}

#[test]
fn rows_come_in_order_in_batches_of_any_size() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x.parquet", vec![("v", ints(0..2500))]);
    for rows_max in [1, 7, 1000, 5000] {
        let rows = all(dir.path(), "path: x.parquet", rows_max).rows();
        assert_eq!(rows.column(0).as_ref(), ints(0..2500).as_ref());
    }
    assert_eq!(source(dir.path(), "path: x.parquet").unwrap().splits().unwrap()[0].size, Some(2500));
}

#[test]
fn the_size_of_batches_may_change_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x.parquet", vec![("v", ints(0..10))]);
    let source = source(dir.path(), "path: x.parquet").unwrap();
    let mut reader = source.open(&source.splits().unwrap()[0], None).unwrap();
    let mut sizes = Vec::new();
    for rows_max in [8, 3, 3, 100, 100] {
        match reader.next(rows_max).unwrap() {
            ReadOutcome::Rows { rows, first_row } => sizes.push((first_row, rows.num_rows())),
            _ => break,
        }
    }
    assert_eq!(sizes, [(0, 8), (8, 2)]);
}

#[test]
fn columns_are_chosen_and_ordered() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x.parquet", vec![("a", ints(0..1)), ("b", ints(1..2)), ("c", ints(2..3))]);
    let rows = all(dir.path(), "{path: x.parquet, columns: [c, a]}", 10).rows();
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), 2);
    assert_eq!(rows.schema().field(1).name(), "a");
    let error = source(dir.path(), "{path: x.parquet, columns: [d]}").unwrap_err();
    assert_eq!(error.to_string(), "columns: x.parquet has no column \"d\"; it has a, b, c");
}

#[test]
fn encodings_are_read_as_plain_types() {
    let dir = tempfile::tempdir().unwrap();
    let dictionary: DictionaryArray<Int32Type> = vec!["x", "y", "x"].into_iter().collect();
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, true));
    for _ in 0..3 {
        lists.append_value([Some("l"), None]);
    }
    write(
        dir.path(),
        "x.parquet",
        vec![
            ("d", Arc::new(dictionary)),
            ("l", Arc::new(LargeStringArray::from(vec!["a", "b", "c"]))),
            ("v", Arc::new(StringViewArray::from(vec!["a", "b", "a long text that is not inlined"]))),
            ("t", Arc::new(lists.finish())),
        ],
    );
    let rows = all(dir.path(), "path: x.parquet", 2).rows();
    let types: Vec<String> = rows.schema().fields().iter().map(|field| notation(field)).collect();
    assert_eq!(
        types.iter().map(|text| text.trim_end_matches('?')).collect::<Vec<_>>(),
        ["utf8", "utf8", "utf8", "list<utf8?>"]
    );
    assert_eq!(rows.column(0).as_string::<i32>(), &StringArray::from(vec!["x", "y", "x"]));
    assert_eq!(rows.column(2).as_string::<i32>().value(2), "a long text that is not inlined");
}

#[test]
fn a_type_that_would_lose_something_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x.parquet", vec![("a", ints(0..1)), ("t", Arc::new(Time64NanosecondArray::from(vec![1])))]);
    let error = source(dir.path(), "path: x.parquet").unwrap_err().to_string();
    assert!(error.starts_with("x.parquet: column t: Arrow type Time64(ns) cannot cross into a UDF"), "{error}");
    assert_eq!(all(dir.path(), "{path: x.parquet, columns: a}", 10).rows().num_columns(), 1);
}

#[test]
fn files_must_agree() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "1.parquet", vec![("a", ints(0..2)), ("b", ints(0..2))]);
    write(dir.path(), "2.parquet", vec![("b", ints(2..4)), ("a", ints(2..4))]);
    let rows = all(dir.path(), "path: .", 10).rows();
    assert_eq!(rows.column(0).as_ref(), ints(0..4).as_ref());
    write(dir.path(), "3.parquet", vec![("a", Arc::new(Int32Array::from(vec![1]))), ("b", ints(0..1))]);
    let error = source(dir.path(), "path: '*.parquet'").unwrap_err().to_string();
    assert_eq!(error, "1.parquet and 3.parquet differ: column a is int64 in the first and int32 in the second");
    write(dir.path(), "3.parquet", vec![("a", ints(0..1))]);
    let error = source(dir.path(), "path: '*.parquet'").unwrap_err().to_string();
    assert_eq!(error, "1.parquet and 3.parquet differ: column b is int64 in the first and missing in the second");
}

#[test]
fn a_column_may_be_null_if_it_may_be_in_any_file() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "1.parquet", vec![("a", ints(0..2))]);
    write(dir.path(), "2.parquet", vec![("a", Arc::new(Int64Array::from(vec![None, Some(1)])))]);
    let rows = all(dir.path(), "path: '*.parquet'", 10).rows();
    assert!(rows.schema().field(0).is_nullable());
    assert_eq!(rows.column(0).null_count(), 1);
}

#[test]
fn what_is_no_parquet_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x.parquet", vec![("v", ints(0..2500))]);
    let bytes = std::fs::read(dir.path().join("x.parquet")).unwrap();
    for (name, content) in
        [("cut.parquet", &bytes[..bytes.len() - 3]), ("empty.parquet", b"".as_slice()), ("text.parquet", b"a,b\n1,2\n")]
    {
        std::fs::write(dir.path().join(name), content).unwrap();
        let error = source(dir.path(), &format!("path: {name}")).unwrap_err();
        let expected = format!(
            "{name} is not a readable Parquet file ({} bytes): is it cut off, or of another format?",
            content.len()
        );
        assert_eq!(error.to_string(), expected);
        assert!(error.source().is_some());
    }
}

/// A file of `rows` rows in groups of `group`.
fn write_groups(dir: &Path, name: &str, rows: i64, group: usize) {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("name {i}"))));
    let mut lists = ListBuilder::new(StringBuilder::new());
    (0..rows).for_each(|row| lists.append_value((0..row % 4).map(|item| Some(format!("{row}.{item}")))));
    let columns: [(&str, ArrayRef); 3] = [("v", ints(0..rows)), ("n", names), ("l", Arc::new(lists.finish()))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(group))
        .set_data_page_row_count_limit(7)
        .set_write_batch_size(7)
        .build();
    let file = File::create(dir.join(name)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn a_reader_goes_on_where_another_stopped() {
    let dir = tempfile::tempdir().unwrap();
    write_groups(dir.path(), "groups.parquet", 100, 30);
    let names = source(dir.path(), "path: groups.parquet").unwrap();
    let chosen = source(dir.path(), "{path: groups.parquet, columns: [l, v]}").unwrap();
    for sizes in [&[1][..], &[7, 30, 2], &[30], &[29, 1], &[100]] {
        check_positions(&names, sizes);
        check_positions(&chosen, sizes);
    }
    write_groups(dir.path(), "none.parquet", 0, 30);
    check_positions(&source(dir.path(), "path: none.parquet").unwrap(), &[3]);
}

#[test]
fn groups_of_rows_before_a_position_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    write_groups(dir.path(), "x.parquet", 100, 30);
    let metadata =
        ArrowReaderMetadata::load(&File::open(dir.path().join("x.parquet")).unwrap(), ArrowReaderOptions::new());
    let metadata = metadata.unwrap();
    for (row, groups, skipped) in [(0, 0..4, 0), (29, 0..4, 29), (30, 1..4, 0), (95, 3..4, 5), (100, 4..4, 0)] {
        assert_eq!(groups_from(&metadata, row), (groups.collect(), skipped), "{row}");
    }
}

#[test]
fn a_file_with_fewer_rows_than_before_is_another_one() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x.parquet", vec![("v", ints(0..10))]);
    let source = source(dir.path(), "path: x.parquet").unwrap();
    let split = &source.splits().unwrap()[0];
    let mut reader = source.open(split, None).unwrap();
    reader.next(3).unwrap();
    let at = reader.position();
    write(dir.path(), "x.parquet", vec![("v", ints(0..9))]);
    let error = source.open(split, Some(&at)).err().unwrap().to_string();
    assert_eq!(
        error,
        "x.parquet has 9 rows, and had at least 10 when the checkpoint was made (position {\"row\":3,\"rows\":10}): it was cut off \
         or replaced. Give back what the source was, or start the job without the checkpoint"
    );
}

/// A footer that is whole with pages that are not: the error comes while reading, never as a panic or a wrong number of rows.
#[test]
fn damaged_pages_are_an_error_or_other_values() {
    let dir = tempfile::tempdir().unwrap();
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..2500).map(|i| format!("name {i}"))));
    write(dir.path(), "x.parquet", vec![("v", ints(0..2500)), ("n", names)]);
    let bytes = std::fs::read(dir.path().join("x.parquet")).unwrap();
    let mut errors = 0;
    for at in (0..bytes.len()).step_by(bytes.len() / 300) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xa5;
        std::fs::write(dir.path().join("y.parquet"), damaged).unwrap();
        match source(dir.path(), "path: y.parquet").and_then(|source| read(&source, 1000)) {
            Ok(all) => {
                assert_eq!(all.batches.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>(), 2500, "byte {at}")
            }
            Err(error) => {
                assert!(error.to_string().contains("y.parquet"), "{error}");
                errors += 1;
            }
        }
    }
    assert!(errors > 0);
}
