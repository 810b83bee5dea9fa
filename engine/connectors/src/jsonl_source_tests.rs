use super::*;
use crate::datum::notation;
use crate::options::testing::build;
use crate::rows::testing::{All, check_positions, read};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMillisecondType, UInt64Type};
use proptest::prelude::*;

fn source(content: &[u8], options: &str) -> Result<JsonLinesSource, ConnectorError> {
    let dir = tempfile::tempdir().unwrap().keep();
    std::fs::write(dir.join("x.jsonl"), content).unwrap();
    build(&dir, &format!("path: x.jsonl\n{options}"), JsonLinesSource::new)
}

fn all(content: &str, options: &str) -> All {
    read(&source(content.as_bytes(), options).unwrap(), 100).unwrap()
}

fn message(content: &str, notation: &str) -> String {
    let all = all(content, &format!("schema: {{a: '{notation}'}}"));
    assert_eq!(all.batches.len(), 0, "{content}");
    all.messages().join("; ")
}

fn schema(content: &str) -> Result<Vec<String>, String> {
    let schema = source(content.as_bytes(), "").map_err(|error| error.to_string())?.schema();
    Ok(schema.fields().iter().map(|field| format!("{}: {}", field.name(), notation(field))).collect())
}

fn ints(rows: &RecordBatch, column: usize) -> Vec<Option<i64>> {
    rows.column(column).as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn lines_that_do_not_fit_are_isolated_and_named() {
    let content = "{\"a\": 1}\n[1]\n5\n\n{\"a\": \"x\"}\n{\"a\": 1.5}\n{\"b\": 1}\n{\"a\": null}\n{\"a\": 2}{\"a\": 3}\n{\"a\": \n4}\n{\"a\": 5, \"z\": {}}\n";
    let all = all(content, "schema: {a: int64}");
    assert_eq!(
        all.messages(),
        [
            "x.jsonl:2: a JSON object is wanted, got a list",
            "x.jsonl:3: a JSON object is wanted, got a number",
            "x.jsonl:5: column a: got \"x\", wanted int64",
            "x.jsonl:6: column a: got 1.5, wanted int64",
            "x.jsonl:7: column a: got nothing, wanted int64",
            "x.jsonl:8: column a: got nothing, wanted int64",
            "x.jsonl:9: not JSON: trailing characters at column 9",
            "x.jsonl:10: not JSON: EOF while parsing a value at column 5",
            "x.jsonl:11: a JSON object is wanted, got a number",
        ]
    );
    assert_eq!(ints(&all.rows(), 0), [Some(1), Some(5)]);
    assert_eq!(all.rejected[0].raw, "[1]");
}

#[test]
fn every_type_says_what_it_wants() {
    assert_eq!(message("{\"a\": true}", "int64"), "x.jsonl:1: column a: got true, wanted int64");
    assert_eq!(message("{\"a\": 300}", "uint8?"), "x.jsonl:1: column a: got 300, wanted uint8?");
    assert_eq!(message("{\"a\": -1}", "uint64"), "x.jsonl:1: column a: got -1, wanted uint64");
    assert_eq!(
        message("{\"a\": 18446744073709551615}", "int64"),
        "x.jsonl:1: column a: got 18446744073709551615, wanted int64"
    );
    assert_eq!(message("{\"a\": \"1\"}", "float64"), "x.jsonl:1: column a: got \"1\", wanted float64");
    assert_eq!(message("{\"a\": 1}", "utf8"), "x.jsonl:1: column a: got 1, wanted utf8");
    assert_eq!(message("{\"a\": [1]}", "utf8"), "x.jsonl:1: column a: got a list, wanted utf8");
    assert_eq!(message("{\"a\": {\"b\": 1}}", "list<int64>"), "x.jsonl:1: column a: got an object, wanted list<int64>");
    assert_eq!(message("{\"a\": [1, null]}", "list<int64>"), "x.jsonl:1: column a[1]: got nothing, wanted int64");
    assert_eq!(
        message("{\"a\": {\"b\": [{\"c\": 1}, {\"c\": \"x\"}]}}", "struct<b: list<struct<c: int64>>>"),
        "x.jsonl:1: column a.b[1].c: got \"x\", wanted int64"
    );
    assert_eq!(message("{\"a\": {}}", "struct<b: int64>"), "x.jsonl:1: column a.b: got nothing, wanted int64");
    assert_eq!(
        message("{\"a\": {\"k\": \"v\"}}", "map<utf8, int64>"),
        "x.jsonl:1: column a.k: got \"v\", wanted int64"
    );
    assert_eq!(message("{\"a\": 1000}", "decimal(3,0)"), "x.jsonl:1: column a: got 1000, wanted decimal(3,0)");
    assert_eq!(message("{\"a\": [1]}", "decimal(3,0)"), "x.jsonl:1: column a: got [1], wanted decimal(3,0)");
    assert_eq!(
        message("{\"a\": \"soon\"}", "timestamp(ms)"),
        "x.jsonl:1: column a: got \"soon\", wanted timestamp(ms)"
    );
    assert_eq!(message("{\"a\": 1e39}", "float32").replace('0', ""), "x.jsonl:1: column a: got 1, wanted float32");
}

#[test]
fn values_are_exact() {
    let content = "{\"d\": 0.1000000000000000055, \"t\": \"1970-01-01T00:00:01\", \"u\": 18446744073709551615}\n\
                   {\"u\": 0, \"t\": 5, \"d\": \"2.5\"}\n";
    let rows = all(content, "schema: {d: 'decimal(38,19)', t: timestamp(ms), u: uint64}").rows();
    assert_eq!(
        rows.column(0).as_primitive::<Decimal128Type>().values(),
        &[1_000_000_000_000_000_055, 25_000_000_000_000_000_000]
    );
    assert_eq!(rows.column(1).as_primitive::<TimestampMillisecondType>().values(), &[1000, 5]);
    assert_eq!(rows.column(2).as_primitive::<UInt64Type>().values(), &[u64::MAX, 0]);
}

#[test]
fn nested_values_and_escapes() {
    let content = "{\"a\": {\"k\\n\": [1, null]}, \"s\": \"\\u00e9\"}\n{\"s\": null, \"a\": null}\n{\"a\": {}, \"a\": {\"last\": []}}\n";
    let rows = all(content, "schema: {a: 'map<utf8, list<int64?>>?', s: utf8?}").rows();
    let maps = rows.column(0).as_map();
    assert_eq!(maps.keys().as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["k\n", "last"]);
    assert!(maps.is_null(1));
    assert_eq!(rows.column(1).as_string::<i32>().value(0), "é");
}

/// A struct may be null although its fields never are.
#[test]
fn null_structs_with_fields_that_are_never_null() {
    let notation = "struct<i: int64, t: utf8, l: list<int64>, s: struct<b: bool, d: 'x'>>?".replace("'x'", "date");
    let rows = all("{\"a\": null}\n{}\n", &format!("schema: {{a: '{notation}'}}")).rows();
    assert_eq!(rows.column(0).null_count(), 2);
}

#[test]
fn types_are_inferred() {
    let content = "{\"i\": 1, \"f\": 1, \"s\": \"2013-01-01\"}\nnonsense\n{\"f\": 1.5, \"b\": true, \"l\": [], \"o\": {\"x\": null}}\n{\"l\": [1], \"o\": {\"x\": [\"t\"]}}\n";
    let expected =
        ["i: int64?", "f: float64?", "s: utf8?", "b: bool?", "l: list<int64?>?", "o: struct<x: list<utf8?>?>?"];
    assert_eq!(schema(content).unwrap(), expected);
    assert_eq!(schema("{\"a\": null}").unwrap_err(), "x.jsonl: column a is always null: give the option schema");
    assert_eq!(
        schema("").unwrap_err(),
        "x.jsonl: the file is empty, so that its columns are not known: give the option schema"
    );
    assert_eq!(
        schema("{}\n").unwrap_err(),
        "x.jsonl: no object has a key, so that there are no columns: give the option schema"
    );
    assert_eq!(
        schema("\n[{\"a\": 1},\n{\"a\": 2}]\n").unwrap_err(),
        "x.jsonl:2: a JSON object is wanted, got a list: each line must be one whole JSON object, and none of the \
         first 2 is one"
    );
    let cut = schema("{\"a\":\n 1}\n").unwrap_err();
    assert!(
        cut.starts_with("x.jsonl:1: not JSON: EOF while parsing a value at column 5: each line must be one"),
        "{cut}"
    );
    assert_eq!(
        schema("{\"a\": {\"b\": 1}}\n{\"a\": {\"b\": \"x\"}}").unwrap_err(),
        "x.jsonl: column a.b has values of several kinds (int64 and utf8): give the option schema"
    );
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(20), "]".repeat(20));
    assert!(schema(&deep).unwrap_err().contains("nests deeper"));
}

#[test]
fn no_whole_number_is_rounded_in_an_inferred_column() {
    let columns =
        |values: &[&str]| schema(&values.iter().map(|value| format!("{{\"a\": {value}}}\n")).collect::<String>());
    assert_eq!(columns(&["9223372036854775807"]).unwrap(), ["a: int64?"]);
    assert_eq!(columns(&["1.5", "9007199254740992", "1e30"]).unwrap(), ["a: float64?"]);
    // A float that holds it exactly.
    assert_eq!(columns(&["1", "100000000000000000000"]).unwrap(), ["a: float64?"]);
    for values in [["1.5", "9007199254740993"], ["9007199254740993", "1e3"]] {
        assert_eq!(
            columns(&values).unwrap_err(),
            "x.jsonl: column a has numbers with a point or exponent, and 9007199254740993, which float64 would round: give \
             the option schema"
        );
    }
    for beyond in ["18446744073709551615", "-9223372036854775809", "100000000000000000001"] {
        assert_eq!(
            columns(&["1", beyond]).unwrap_err(),
            format!(
                "x.jsonl: column a has whole numbers beyond int64, and {beyond}, which float64 would round: give the option \
                 schema"
            )
        );
    }
    for beyond in ["9007199254740993", "18446744073709551615", "100000000000000000001", "-100000000000000000001"] {
        let content = format!("{}{{\"a\": [{beyond}]}}\n{{\"a\": [1e20]}}\n", "{\"a\": [1.5]}\n".repeat(SAMPLE_ROWS));
        let found = all(&content, "");
        assert_eq!(
            found.messages(),
            [format!(
                "x.jsonl:1001: column a[0]: got {beyond}, wanted float64?, which would round it: give the option schema, with \
                 int64, decimal or utf8, or with float64 where the nearest float will do"
            )]
        );
        assert_eq!(found.rows().num_rows(), SAMPLE_ROWS + 1);
        // Who asks for floats gets them.
        assert_eq!(all(&content, "schema: {a: 'list<float64>'}").rows().num_rows(), SAMPLE_ROWS + 2);
    }
}

#[test]
fn half_a_surrogate_pair_is_told() {
    let half = "x.jsonl:1: not JSON: a text has half a surrogate pair (\\ud800 to \\udfff mean a character only as two, high and \
                low): write both, or \\ufffd, at column";
    for text in ["\\ud800", "\\ud800x", "\\ud800\\n", "\\ud800\\u0041", "\\udc00"] {
        let line = format!("{{\"a\": \"{text}\"}}");
        let found = message(&line, "utf8");
        assert!(found.starts_with(half), "{text}: {found}");
        let found = source(line.as_bytes(), "").unwrap_err().to_string();
        assert!(found.starts_with(half), "{text}: {found}");
    }
    assert_eq!(all("{\"a\": \"\\ud83d\\ude00\"}", "").rows().column(0).as_string::<i32>().value(0), "😀");
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(200), "]".repeat(200));
    let found = source(deep.as_bytes(), "").unwrap_err().to_string();
    assert!(found.starts_with("x.jsonl:1: not JSON: nested too deep"), "{found}");
}

#[test]
fn a_type_that_was_guessed_is_told_as_such() {
    let content = format!("{}{{\"a\": \"x\"}}\n", "{\"a\": 1}\n".repeat(SAMPLE_ROWS + 500));
    let wanted = "x.jsonl:1501: column a: got \"x\", wanted int64?, which was guessed from the first 1000 lines: if that is \
                  wrong, give the option schema";
    assert_eq!(all(&content, "").messages(), [wanted]);
    assert_eq!(all(&content, "schema: {a: int64}").messages(), ["x.jsonl:1501: column a: got \"x\", wanted int64"]);
}

#[test]
fn columns_are_chosen() {
    let rows = all("{\"a\": 1, \"b\": 2}", "columns: [b]").rows();
    assert_eq!((rows.num_columns(), ints(&rows, 0)), (1, vec![Some(2)]));
    let error = source(b"{}", "schema: {a: 'map<int64, int64>'}").unwrap_err().to_string();
    assert_eq!(error, "schema: column a of type map<int64, int64>: in JSON the keys of a map are utf8");
}

#[test]
fn windows_line_ends_byte_order_marks_and_deep_nesting() {
    assert_eq!(ints(&all("\u{feff}{\"a\": 1}\r\n\r\n{\"a\": 2}", "").rows(), 0), [Some(1), Some(2)]);
    let deep = format!("{{\"z\": {}}}", "[".repeat(100_000));
    let text = message(&deep, "int64?");
    assert!(text.contains("not JSON: expected value at column 100007"), "{text}");
    let source = source(b"{\"a\": \"\xff\"}\n", "schema: {a: utf8}").unwrap();
    assert_eq!(read(&source, 1).unwrap().messages(), ["x.jsonl:1: not UTF-8"]);
}

#[test]
fn a_line_without_end_is_an_error() {
    let mut content = b"{\"a\": \"".to_vec();
    content.resize(ROW_BYTES_MAX + 100, b'x');
    let source = source(&content, "schema: {a: utf8}").unwrap();
    let error = read(&source, 1).err().unwrap().to_string();
    assert_eq!(error, "x.jsonl:1: a line of more than 16777216 bytes: is this JSON lines?");
}

const PIECES: [&str; 7] =
    ["{\"a\": 1}\n", "{\"a\": 2}\r\n", "\n", "  \r\n", "{\"a\": \"x\"}\n", "[1]\n", "{\"a\": null, \"b\": [1, {}]}\n"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What serde_json writes comes back.
    #[test]
    fn objects_come_back(table in proptest::collection::vec((any::<i64>(), any::<Option<String>>(), any::<f64>()), 1..30), rows_max in 1usize..40) {
        let mut content = String::new();
        for (a, b, c) in &table {
            content += &format!("{}\n", serde_json::json!({"b": b, "a": a, "c": c, "unknown": [b]}));
        }
        let source = source(content.as_bytes(), "schema: {a: int64, b: utf8?, c: float64?}").unwrap();
        let rows = read(&source, rows_max).unwrap().rows();
        for (row, (a, b, c)) in table.iter().enumerate() {
            prop_assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(row), *a);
            let text = rows.column(1).as_string::<i32>();
            prop_assert_eq!((!text.is_null(row)).then(|| text.value(row)), b.as_deref());
            let number = rows.column(2).as_primitive::<arrow::datatypes::Float64Type>();
            prop_assert_eq!((!number.is_null(row)).then(|| number.value(row)), Some(*c).filter(|c| c.is_finite()));
        }
    }

    #[test]
    fn a_reader_goes_on_where_another_stopped(
        picked in proptest::collection::vec(0..PIECES.len() + 1, 0..40),
        mark in any::<bool>(),
        whole_line in any::<bool>(),
        sizes in proptest::collection::vec(1usize..6, 1..5),
    ) {
        let mut content = if mark { "\u{feff}".to_owned() } else { String::new() };
        for piece in picked {
            match PIECES.get(piece) {
                Some(piece) => content += piece,
                // Longer than what is read at once.
                None => content += &format!("{{\"a\": 3, \"z\": \"{}\"}}\n", "long".repeat(80_000)),
            }
        }
        if !whole_line {
            content.truncate(content.trim_end().len());
        }
        check_positions(&source(content.as_bytes(), "schema: {a: int64?}").unwrap(), &sizes);
    }

    #[test]
    fn any_bytes_are_read_or_refused(content in proptest::collection::vec(any::<u8>(), 0..200)) {
        let source = source(&content, "schema: {a: 'struct<b: list<decimal(5,2)?>?>?'}").unwrap();
        let _ = read(&source, 3).unwrap();
    }
}
