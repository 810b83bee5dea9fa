#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use super::*;

fn round(text: &str) {
    let parsed = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(display(&parsed.data_type, parsed.nullable).unwrap(), text);
}

#[test]
fn every_type_prints_as_it_was_read() {
    for text in [
        "bool",
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
        "decimal(38,0)",
        "decimal(10,10)",
        "utf8",
        "binary",
        "date",
        "time",
        "timestamp(s)",
        "timestamp(ms)",
        "timestamp(us)",
        "timestamp(ns)",
        "timestamp(us,UTC)",
        "timestamp(ms,America/Argentina/Buenos_Aires)",
        "timestamp(ns,+01:00)",
        "timestamp(s,Etc/GMT+5)",
        "list<int64>",
        "list<utf8?>?",
        "struct<>",
        "struct<a: int64, tags: list<utf8?>?>",
        "map<utf8, list<float64?>?>?",
        "struct<\"a b\": int64, \"\\\"\\\\\": bool?, \"\": date, \"1\": time>",
        "struct<list: list<int8>, struct: struct<>>",
    ] {
        round(text);
        if !text.ends_with('?') {
            round(&format!("{text}?"));
        }
    }
}

#[test]
fn white_space_between_tokens_means_nothing() {
    let spaced = parse(" struct <\n a :int64 , b\t: timestamp( ms , UTC ) ? , m: map < utf8,int8 > > ? ").unwrap();
    assert_eq!(spaced, parse("struct<a: int64, b: timestamp(ms,UTC)?, m: map<utf8, int8>>?").unwrap());
}

#[test]
fn a_text_that_is_no_type_says_where() {
    for (text, problem, at) in [
        ("", "expected the name of a type", 0),
        ("int", "unknown type \"int\"", 0),
        ("any", "unknown type \"any\"", 0),
        ("int64 x", "unexpected text", 6),
        ("int64??", "unexpected text", 6),
        ("list<int64", "expected '>'", 10),
        ("list int64", "expected '<'", 5),
        ("map<utf8?, int8>", "a map's key is never null", 9),
        ("decimal(39,0)", "decimal(p,s) needs", 12),
        ("decimal(3,4)", "decimal(p,s) needs", 11),
        ("decimal(0,0)", "decimal(p,s) needs", 11),
        ("decimal(300,0)", "expected a number", 8),
        ("timestamp(m)", "expected one of", 11),
        ("timestamp(ms,)", "IANA", 13),
        ("timestamp(ms,UTC", "expected ')'", 16),
        ("timestamp(ms,a b)", "IANA", 13),
        ("struct<a: int8, a: int8>", "second field", 17),
        ("struct<a int8>", "expected ':'", 9),
        ("struct<\"a: int8>", "does not end", 16),
        ("struct<\"\\n\": int8>", "after a backslash", 9),
        ("struct<1: int8>", "expected '\"'", 7),
    ] {
        match parse(text) {
            Err(DataTypeError::Syntax { problem: got, at: got_at, .. }) => {
                assert!(got.contains(problem), "{text}: {got}");
                assert_eq!(got_at, at, "{text}: {got}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}int8{}", "list<".repeat(depth - 1), ">".repeat(depth - 1));
    round(&nested(NEST_MAX));
    assert!(matches!(parse(&nested(NEST_MAX + 1)), Err(DataTypeError::TooDeep { .. })));
    assert!(matches!(parse(&nested(100_000)), Err(DataTypeError::TooDeep { .. })));
    assert!(matches!(parse(&" ".repeat(TEXT_BYTES_MAX + 1)), Err(DataTypeError::TooLong { .. })));
    let mut deep = DataType::Int8;
    for _ in 0..NEST_MAX {
        deep = DataType::List(Arc::new(Field::new("item", deep, false)));
    }
    assert!(matches!(display(&deep, false), Err(DataTypeError::TooDeep { .. })));
}

#[test]
fn arrow_types_outside_the_contract_say_what_to_do() {
    for (data_type, advice) in [
        (DataType::LargeUtf8, "Utf8"),
        (DataType::Utf8View, "Utf8"),
        (DataType::Date64, "Date32"),
        (DataType::Decimal256(10, 2), "Decimal128"),
        (DataType::Decimal128(10, -2), "Decimal128"),
        (DataType::Null, "drop the column"),
    ] {
        let message = display(&data_type, true).unwrap_err().to_string();
        assert!(message.contains(advice), "{message}");
    }
}

#[test]
fn canonical_form_renames_children_and_drops_metadata() {
    let element =
        Field::new("element", DataType::Utf8, true).with_metadata([("k".to_string(), "v".to_string())].into());
    let canonical = canonical(&DataType::List(Arc::new(element))).unwrap();
    assert_eq!(canonical, DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))));
}
