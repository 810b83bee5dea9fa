#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Int64Array, ListArray, MapArray, StringArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Field;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::frame::{MAGIC_EFFECTS, lie};

/// Rows of an array as the only column of a frame.
fn frame_of(plan: &ColumnPlan, array: &ArrayRef, rows: Range<usize>) -> Result<Vec<u8>, Lie> {
    let mut frame = FrameWriter::default();
    frame.begin(MAGIC_EFFECTS, plan.slots);
    if let Err(mismatch) = plan.write_part(array, rows, &mut frame) {
        lie!("{mismatch}");
    }
    Ok(frame.finish().unwrap().to_vec())
}

/// Writes a column as the only one of a frame and reads it back.
fn round(plan: &ColumnPlan, array: &ArrayRef) -> Result<ArrayRef, Lie> {
    let bytes = frame_of(plan, array, 0..array.len())?;
    let mut reader = FrameReader::new(bytes, MAGIC_EFFECTS, plan.slots)?;
    let read = plan.read(&mut reader, array.len())?;
    reader.finish()?;
    Ok(read)
}

/// A type and an array of it, nested up to `depth`, sliced at random.
fn arrays(rows: usize, depth: u32) -> BoxedStrategy<ArrayRef> {
    let leaf = prop_oneof![
        prop::collection::vec(any::<Option<bool>>(), rows).prop_map(|v| Arc::new(BooleanArray::from(v)) as ArrayRef),
        prop::collection::vec(any::<Option<i64>>(), rows).prop_map(|v| Arc::new(Int64Array::from(v)) as ArrayRef),
        prop::collection::vec(any::<i64>(), rows)
            .prop_map(|v| Arc::new(TimestampMillisecondArray::from(v).with_timezone("UTC")) as ArrayRef),
        prop::collection::vec(prop::option::of(-999i128..999), rows)
            .prop_map(|v| Arc::new(Decimal128Array::from(v).with_precision_and_scale(3, 1).unwrap()) as ArrayRef),
        prop::collection::vec(prop::option::of("\\PC{0,5}"), rows)
            .prop_map(|v| Arc::new(StringArray::from(v)) as ArrayRef),
        prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..9)), rows)
            .prop_map(|v| Arc::new(BinaryArray::from_iter(v)) as ArrayRef),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let validity = prop::collection::vec(any::<bool>(), rows).prop_map(NullBuffer::from);
    let lengths = prop::collection::vec(0usize..4, rows);
    let list = (lengths.clone(), prop::option::of(validity.clone())).prop_flat_map(move |(lengths, nulls)| {
        let total = lengths.iter().sum();
        arrays(total, depth - 1).prop_map(move |items| {
            let field = Arc::new(Field::new("item", items.data_type().clone(), true));
            Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths.iter().copied()), items, nulls.clone()))
                as ArrayRef
        })
    });
    let structure =
        (arrays(rows, depth - 1), arrays(rows, depth - 1), prop::option::of(validity)).prop_map(|(a, b, nulls)| {
            let fields =
                vec![Field::new("a", a.data_type().clone(), true), Field::new("b", b.data_type().clone(), true)];
            Arc::new(StructArray::new(fields.into(), vec![a, b], nulls)) as ArrayRef
        });
    let map = lengths.prop_flat_map(move |lengths| {
        let total = lengths.iter().sum::<usize>();
        (prop::collection::vec(any::<i64>(), total), arrays(total, depth - 1)).prop_map(move |(keys, values)| {
            let fields: Fields =
                vec![Field::new("key", DataType::Int64, false), Field::new("value", values.data_type().clone(), true)]
                    .into();
            let entries = StructArray::new(fields.clone(), vec![Arc::new(Int64Array::from(keys)), values], None);
            let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
            Arc::new(MapArray::new(field, OffsetBuffer::from_lengths(lengths.iter().copied()), entries, None, false))
                as ArrayRef
        })
    });
    prop_oneof![leaf, list, structure, map].boxed()
}

#[test]
fn every_array_comes_back_however_it_is_sliced() {
    let cases = (0usize..40, 0u32..3).prop_flat_map(|(rows, depth)| (arrays(rows, depth), 0..=rows, 0..=rows));
    let mut runner = TestRunner::new(Config { cases: 1000, ..Config::default() });
    runner
        .run(&cases, |(array, a, b)| {
            let sliced = array.slice(a.min(b), a.max(b) - a.min(b));
            let plan = ColumnPlan::new(array.data_type(), true).unwrap();
            let read = round(&plan, &sliced).map_err(|lie| TestCaseError::fail(lie.0))?;
            prop_assert_eq!(&read, &sliced);
            // A part of an array is written as the array of that part.
            let (part, rest) = (0..sliced.len() / 2, sliced.len() / 2..sliced.len());
            for rows in [part, rest] {
                let alone = sliced.slice(rows.start, rows.len());
                prop_assert_eq!(frame_of(&plan, &sliced, rows), frame_of(&plan, &alone, 0..alone.len()));
            }
            read.to_data().validate_full().map_err(|error| TestCaseError::fail(error.to_string()))
        })
        .unwrap();
}

#[test]
fn every_fixed_type_has_its_width() {
    for text in [
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float32",
        "float64",
        "decimal(38,3)",
        "date",
        "time",
        "timestamp(s)",
        "timestamp(ms)",
        "timestamp(us,UTC)",
        "timestamp(ns)",
    ] {
        let data_type = crate::data_type::parse(text).unwrap().data_type;
        let array = arrow::array::new_null_array(&data_type, 5);
        let read = round(&ColumnPlan::new(&data_type, true).unwrap(), &array).unwrap();
        assert_eq!(&read, &array, "{text}");
        assert_eq!(read.data_type(), &data_type);
    }
}

#[test]
fn an_array_that_does_not_fit_says_why() {
    let plan = |text: &str| {
        let parsed = crate::data_type::parse(text).unwrap();
        ColumnPlan::of(&parsed).unwrap()
    };
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let mut frame = FrameWriter::default();
    let mut write = |text: &str, array: &ArrayRef, rows: usize| {
        let plan = plan(text);
        frame.begin(MAGIC_EFFECTS, plan.slots);
        plan.write(array, rows, &mut frame).unwrap_err().to_string()
    };
    assert_eq!(write("utf8?", &ints, 2), "is of type int64?, the binding says utf8?");
    assert_eq!(write("uint64?", &ints, 2), "is of type int64?, the binding says uint64?");
    assert_eq!(write("bool?", &ints.slice(0, 0), 0), "is of type int64, the binding says bool?");
    assert_eq!(write("int64?", &ints, 3), "has 2 rows, the bundle 3");
    assert!(write("int64", &ints, 2).starts_with("has 1 nulls, but its type int64 has none"));
    assert!(write("list<int64>?", &ints, 2).starts_with("is of type int64?"));
    assert!(write("struct<a: int64>?", &ints, 2).starts_with("is of type int64?"));
    assert!(write("map<int64, int64>?", &ints, 2).starts_with("is of type int64?"));
    let plan = plan("int64");
    assert!(frame_of(&plan, &ints, 0..1).is_ok(), "the null is in another part");
    assert!(frame_of(&plan, &ints, 1..2).unwrap_err().0.starts_with("has 1 nulls"));
    assert!(frame_of(&plan, &ints, 1..3).unwrap_err().0.starts_with("has 2 rows"));
}

/// Reads a column of two rows out of slots that a guest might have made.
fn read(text: &str, slots: &[&[u8]]) -> String {
    let plan = ColumnPlan::of(&crate::data_type::parse(text).unwrap()).unwrap();
    assert_eq!(plan.slots, slots.len());
    let mut frame = FrameWriter::default();
    frame.begin(MAGIC_EFFECTS, slots.len());
    slots.iter().for_each(|slot| frame.slot(slot));
    let bytes = frame.finish().unwrap().to_vec();
    let mut reader = FrameReader::new(bytes, MAGIC_EFFECTS, slots.len()).unwrap();
    match plan.read(&mut reader, 2) {
        Ok(array) => format!("{array:?}"),
        Err(lie) => lie.0,
    }
}

fn offsets(offsets: &[i32]) -> Vec<u8> {
    offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect()
}

#[test]
fn lying_columns_are_found_out() {
    let two = offsets(&[0, 1, 2]);
    for (text, slots, problem) in [
        ("int64", vec![&[][..], &[0; 15]], "has 15 bytes, expected 16"),
        ("int64", vec![&[], &[]], "has 0 bytes, expected 16"),
        ("int64", vec![&[0b01], &[0; 16]], "1 nulls in a column of type int64"),
        ("int64?", vec![&[0, 0], &[0; 16]], "a validity bitmap has 2 bytes, expected 1"),
        ("bool", vec![&[], &[0, 0]], "has 2 bytes, expected 1"),
        ("bool", vec![&[], &[]], "absent"),
        ("utf8", vec![&[], &[], b"ab"], "offsets are absent"),
        ("utf8", vec![&[], &two[..8], b"ab"], "offsets has 8 bytes, expected 12"),
        ("utf8", vec![&[], &offsets(&[1, 1, 2]), b"ab"], "the first offset is 1"),
        ("utf8", vec![&[], &offsets(&[-1, 1, 2]), b"ab"], "the first offset is -1"),
        ("utf8", vec![&[], &offsets(&[0, 2, 1]), b"ab"], "offsets descend from 2 to 1 at row 1"),
        ("utf8", vec![&[], &offsets(&[0, 1, 3]), b"ab"], "has 2 bytes, expected 3"),
        ("utf8", vec![&[], &offsets(&[0, 1, i32::MAX]), b"ab"], "has 2 bytes, expected 2147483647"),
        ("utf8", vec![&[], &two, &[0xC3, 0x28]], "not UTF-8 at byte 0"),
        ("utf8", vec![&[], &two, &[0xC3, 0xA9]], "offset 1 of row 1 is inside of a UTF-8 character"),
        (
            "list<int8>",
            vec![&[], &offsets(&[0, 1, 3]), &[], &[1, 2]],
            "item: a column of fixed width has 2 bytes, expected 3",
        ),
        ("list<int8>", vec![&[], &two, &[0b10], &[1, 2]], "item: 1 nulls"),
        ("list<struct<>>", vec![&[], &offsets(&[0, 1, i32::MAX]), &[]], "rows of a struct without fields"),
        ("struct<a: int8>", vec![&[], &[], &[1]], "a: a column of fixed width has 1 bytes"),
        ("map<int8, int8>", vec![&[], &two, &[0b01], &[1, 2], &[], &[1, 2]], "key: 1 nulls"),
        ("decimal(1,0)", vec![&[], &[10; 32]], "has more than 1 digits"),
    ] {
        let got = read(text, &slots);
        assert!(got.contains(problem), "{text} {slots:?}: {got}");
    }
}

#[test]
fn what_lies_under_nulls_does_not_matter() {
    assert!(read("decimal(1,0)?", &[&[0b10], &[[255; 16], [0; 16]].concat()]).contains("null"));
    assert!(read("struct<a: int64>?", &[&[0b01], &[], &[7; 16]]).contains("StructArray"));
}
