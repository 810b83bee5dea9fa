use super::*;
use crate::options::testing::build;
use crate::rows::ROW_BYTES_MAX;
use crate::rows::testing::{All, check_positions, read};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use proptest::prelude::*;
use tempfile::TempDir;
use wasmill_runtime::connector::ReadOutcome;

fn dir(content: &[u8]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.csv"), content).unwrap();
    dir
}

fn source(content: &str, options: &str) -> Result<CsvSource, ConnectorError> {
    let dir = dir(content.as_bytes());
    // The file is opened again by name later on, so that the directory has to stay.
    build(&dir.keep(), &format!("path: x.csv\n{options}"), CsvSource::new)
}

fn rows(content: &str, options: &str) -> All {
    read(&source(content, options).unwrap(), 100).unwrap()
}

fn types(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| format!("{}: {}", field.name(), datum::notation(field))).collect()
}

fn ints(batch: &RecordBatch, column: usize) -> Vec<Option<i64>> {
    batch.column(column).as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn types_are_inferred() {
    let content =
        "i,f,b,d,t,s,n\n1,1.5,true,2013-01-01,2013-01-01T05:00:00,a,\n2,2,FALSE,2013-01-02,2013-01-01 06:00:00,1,\n";
    let source = source(content, "").unwrap();
    let expected = ["i: int64?", "f: float64?", "b: bool?", "d: date?", "t: timestamp(us)?", "s: utf8?", "n: utf8?"];
    assert_eq!(types(&source.schema()), expected);
    let all = read(&source, 100).unwrap();
    assert_eq!(ints(&all.rows(), 0), [Some(1), Some(2)]);
    assert_eq!(all.rows().column(6).null_count(), 2);
    assert_eq!(all.rejected, []);
}

#[test]
fn a_quote_that_is_never_closed_is_no_value() {
    let all = rows("a,b\n1,x\n2,\"y\n3,z\n4,w\n", "schema: {a: int64, b: utf8}");
    assert_eq!(ints(&all.rows(), 0), [Some(1)]);
    let message = "x.csv:3: a quote that opens in this row is never closed: the 3 lines below are in it too";
    assert_eq!(all.rejected.iter().map(|row| row.message.as_str()).collect::<Vec<_>>(), [message]);
    for closed in ["1,\"y\nz\"", "1,\"\"\"y\"", "1,y\"z", "1,y", "1,\"\""] {
        let all = rows(&format!("a,b\n{closed}"), "schema: {a: int64, b: utf8}");
        assert_eq!((all.rows().num_rows(), all.rejected.len()), (1, 0), "{closed}");
    }
}

#[test]
fn bad_rows_are_isolated_and_named() {
    let content = "a,b\n1,x\n2\n3,y,z\nfour,w\n5,\"multi\nline\"\n,v\n7,u\n";
    let all = rows(content, "schema: {a: int64, b: utf8?}");
    assert_eq!(
        all.messages(),
        [
            "x.csv:3: 1 fields, 2 expected",
            "x.csv:4: 3 fields, 2 expected",
            "x.csv:5: column a: got \"four\", wanted int64",
            "x.csv:8: column a: got nothing, wanted int64",
        ]
    );
    assert_eq!(ints(&all.rows(), 0), [Some(1), Some(5), Some(7)]);
    assert_eq!(all.rejected[1].raw, "3,y,z");
    assert_eq!(all.rejected.iter().map(|row| row.row).collect::<Vec<_>>(), [1, 2, 3, 5]);
    assert_eq!(all.batches.iter().map(|(first, _)| *first).collect::<Vec<_>>(), [0, 4, 6]);
}

#[test]
fn lines_are_counted_with_any_line_end_and_blank_lines() {
    for end in ["\n", "\r\n"] {
        let content = format!("a,b{end}{end}1,\"x{end}{end}y\"{end}{end}{end}bad,z{end}");
        let all = rows(&content, "schema: {a: int64, b: utf8}");
        assert_eq!(all.messages(), ["x.csv:8: column a: got \"bad\", wanted int64"], "{end:?}");
    }
}

#[test]
fn no_whole_number_is_rounded_in_an_inferred_column() {
    let inferred = |content: &str| types(&source(content, "").unwrap().schema()).join(", ");
    assert_eq!(inferred("a\n9223372036854775807\n"), "a: int64?");
    assert_eq!(inferred("a\n1\n1.5\n9007199254740992\n"), "a: float64?");
    // Texts lose nothing.
    assert_eq!(inferred("a\n1.5\n9007199254740993\n"), "a: utf8?");
    assert_eq!(inferred("a\n9007199254740993\n1.5\n"), "a: utf8?");
    assert_eq!(inferred("a\n1\n18446744073709551615\n"), "a: utf8?");
    assert_eq!(inferred("a,b\n5,1\ntrue,true\n"), "a: utf8?, b: bool?");
    let beyond = format!("a\n{}-9007199254740993\n2.5\n", "1.5\n".repeat(SAMPLE_ROWS));
    let all = rows(&beyond, "");
    assert_eq!(
        all.messages(),
        [
            "x.csv:1002: column a: got \"-9007199254740993\", wanted float64?, which would round it: give the option schema, \
          with int64, decimal or utf8, or with float64 where the nearest float will do"
        ]
    );
    assert_eq!(all.rows().num_rows(), SAMPLE_ROWS + 1);
    // Who asks for floats gets them.
    let all = rows("a\n9007199254740993\n", "schema: {a: float64}");
    assert_eq!(all.rows().column(0).as_primitive::<Float64Type>().value(0), 9007199254740992.0);
}

#[test]
fn a_type_that_was_guessed_is_told_as_such() {
    let content = format!("a,b\n{}x,1\n1.5,1\n", "1,1\n".repeat(SAMPLE_ROWS + 500));
    let message = |line: usize, got: &str, better: &str| {
        format!(
            "x.csv:{line}: column a: got \"{got}\", wanted int64?, which was guessed from the first 1000 rows: if that is wrong, \
             name the columns and their types, as in schema: {{ a: {better} }}"
        )
    };
    assert_eq!(rows(&content, "").messages(), [message(1502, "x", "utf8"), message(1503, "1.5", "float64")]);
    let declared = rows(&content, "schema: {a: int64}");
    assert_eq!(declared.messages()[0], "x.csv:1502: column a: got \"x\", wanted int64");
}

#[test]
fn what_follows_a_closing_quote_is_no_part_of_the_field() {
    let all = rows("a,b\n3,\"p\"q\n4,\"r\" \n5,\"s\"\"\"\n\"6\"\"7\"x,t\n7,u\"\"\n", "schema: {a: int64, b: utf8}");
    let message = |line: u64, field: u64| {
        format!("x.csv:{line}: field {field} goes on after its closing quote: a quote inside quotes is written twice")
    };
    assert_eq!(all.messages(), [message(2, 2), message(3, 2), message(5, 1)]);
    assert_eq!(all.rejected[0].raw, "3,\"p\"q");
    let texts = all.rows().column(1).as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(texts, ["s\"", "u\"\""]);
}

#[test]
fn an_empty_text_is_quoted_and_null_is_not() {
    let texts = |content: &str, options: &str| {
        let rows = rows(content, options).rows();
        let column = rows.column(1).as_string::<i32>().clone();
        column.iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>()
    };
    let content = "a,b\n1,\n2,\"\"\n3,NA\n\"\",\"NA\"\n5,x\n";
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(texts(content, ""), [None, text(""), text("NA"), text("NA"), text("x")]);
    assert_eq!(texts(content, "schema: {a: int64?, b: utf8}"), [text(""), text(""), text("NA"), text("NA"), text("x")]);
    let missing = "schema: {a: utf8?, b: utf8?}\nnull-literal: NA";
    assert_eq!(texts(content, missing), [text(""), text(""), None, text("NA"), text("x")]);
    // A number that is missing may stand in quotes, where a program quotes every field.
    assert_eq!(ints(&rows(content, "").rows(), 0), [Some(1), Some(2), Some(3), None, Some(5)]);
}

#[test]
fn dialects() {
    let all = rows("a\tb\n'x\ty'\tNA\n", "{}".replace("{}", "delimiter: tab\nquote: \"'\"\nnull-literal: NA").as_str());
    assert_eq!(all.rows().column(0).as_string::<i32>().value(0), "x\ty");
    assert!(all.rows().column(1).is_null(0));
    let all = rows("1;2.5\n3;4\n", "header: false\ndelimiter: ;");
    assert_eq!(types(&all.rows().schema()), ["column_1: int64?", "column_2: float64?"]);
    let all = rows("1,2.5\n", "header: false\nschema: {x: int64, y: float64}");
    assert_eq!(all.rows().column(1).as_primitive::<Float64Type>().value(0), 2.5);
}

#[test]
fn with_a_header_columns_go_by_name() {
    let all = rows("a,b,c\n1,2,3\n", "schema: {c: int64, a: int64}");
    assert_eq!(ints(&all.rows(), 0), [Some(3)]);
    let all = rows("a,b,c\n1,2,3\n", "columns: [b]");
    assert_eq!(types(&all.rows().schema()), ["b: int64?"]);
    assert_eq!(ints(&all.rows(), 0), [Some(2)]);
}

#[test]
fn an_empty_text_is_no_null_where_there_is_none() {
    let all = rows("a,b\n,1\n", "schema: {a: utf8, b: int64}");
    assert_eq!(all.rows().column(0).as_string::<i32>().value(0), "");
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_header() {
    assert_eq!(types(&source("\u{feff}a,b\n1,2\n", "").unwrap().schema()), ["a: int64?", "b: int64?"]);
}

#[test]
fn wrong_options_are_named() {
    let message = |content: &str, options: &str| source(content, options).unwrap_err().to_string();
    assert_eq!(message("a\n", "schema: {b: int64}"), "schema: x.csv has no column \"b\"; its header is a");
    assert!(message("a\n", "schema: {a: integer}").starts_with("schema.a: \"integer\" is not a type"));
    assert_eq!(message("a\n", "columns: [b]"), "columns: x.csv has no column \"b\"; it has a");
    assert_eq!(message("a\n", "columns: [a, a]"), "columns: \"a\" stands twice: remove one");
    assert!(message("a\n", "delimiter: ab").contains("one ASCII character"));
    assert_eq!(
        message("a\n", "delimiter: ;\nquote: ;"),
        "quote: is the delimiter too: give another character for one of them"
    );
    assert_eq!(
        message("a\n", "null-literal: 'a,b'"),
        "null-literal: is \"a,b\"; a text without delimiter, quote and line end is wanted"
    );
    assert_eq!(
        build(std::path::Path::new("."), "path: ''", CsvSource::new).unwrap_err().to_string(),
        "path: is empty: give a file, a directory or a URL"
    );
    assert!(message("a\n", "schema: {a: 'list<int64>'}").contains("cannot hold column a of type list<int64>"));
    assert_eq!(message("", ""), "x.csv is empty: it has no header");
    assert_eq!(message("a,a\n", ""), "x.csv: the header names the column \"a\" twice: rename one");
    let error = build(std::path::Path::new("."), "header: true", CsvSource::new).unwrap_err();
    assert_eq!(error.to_string(), "path: is missing");
}

#[test]
fn files_with_another_header_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("1.csv"), "a,b\n1,2\n").unwrap();
    std::fs::write(dir.path().join("2.csv"), "b,a\n1,2\n").unwrap();
    let source = build(dir.path(), "path: '*.csv'", CsvSource::new).unwrap();
    let error = read(&source, 10).err().unwrap();
    assert_eq!(error.to_string(), "1.csv and 2.csv have different headers: a, b and b, a");
}

#[test]
fn bytes_that_are_not_utf8_reject_the_row() {
    let dir = dir(b"a,b\n1,\xff\n2,y\n");
    let source = build(dir.path(), "path: x.csv\nschema: {a: int64, b: utf8}", CsvSource::new).unwrap();
    let all = read(&source, 10).unwrap();
    assert_eq!(all.messages(), ["x.csv:2: column b: got bytes that are not UTF-8"]);
    assert_eq!(ints(&all.rows(), 0), [Some(2)]);
}

#[test]
fn a_quote_that_is_never_closed_ends_in_an_error() {
    let content = format!("a,b\n1,\"{}", "x\n".repeat(ROW_BYTES_MAX));
    let source = source(&content, "schema: {a: int64, b: utf8}").unwrap();
    let error = read(&source, 10).err().unwrap();
    assert!(
        error.to_string().starts_with("x.csv:2: a row of more than 16777216 bytes: is a quote not closed?"),
        "{error}"
    );
}

#[test]
fn the_number_of_rejected_rows_in_hand_is_bounded() {
    let content = format!("a\n{}", "x\n".repeat(2500));
    let all = rows(&content, "schema: {a: int64}");
    assert_eq!(all.rejected.len(), 2500);
}

const PIECES: [&str; 9] =
    ["1,a\n", "2,\"x\ny\"\r\n", "3,\"q\"\"q\"\n", "\n", "\r\n", "x,no number\n", "1,2,3\n", "4,\r\n", "7,\"p\"q\n"];

#[test]
fn a_position_is_that_of_the_last_row_that_was_given() {
    let source = source("a\n1\nx\n\n2\n", "schema: {a: int64}").unwrap();
    let split = &source.splits().unwrap()[0];
    let mut reader = source.open(split, None).unwrap();
    let at = |row: u64, byte: u64, line: u64| {
        Position(format!("{{\"row\":{row},\"byte\":{byte},\"line\":{line},\"file_bytes\":9}}"))
    };
    assert_eq!(reader.position(), at(0, 2, 1));
    reader.next(10).unwrap();
    assert_eq!(reader.position(), at(1, 4, 2), "the row that ended the batch is read and not given");
    reader.next(10).unwrap();
    assert_eq!(reader.position(), at(2, 6, 3));
    reader.next(10).unwrap();
    assert_eq!(reader.position(), at(3, 9, 5));
    assert!(matches!(reader.next(10).unwrap(), ReadOutcome::End));
}

#[test]
fn a_file_may_grow_but_not_shrink_below_a_position() {
    let dir = dir(b"a\n1\n2\n");
    let (file, yaml) = (dir.path().join("x.csv"), "path: x.csv\nschema: {a: int64}");
    let source = build(dir.path(), yaml, CsvSource::new).unwrap();
    let split = &source.splits().unwrap()[0];
    let mut reader = source.open(split, None).unwrap();
    while !matches!(reader.next(1).unwrap(), ReadOutcome::End) {}
    let at = reader.position();
    std::fs::write(&file, "a\n1\n2\nx\n3\n").unwrap();
    let grown = build(dir.path(), yaml, CsvSource::new).unwrap();
    for source in [&source, &grown] {
        let mut reader = source.open(split, Some(&at)).unwrap();
        let ReadOutcome::Rejected(rows) = reader.next(10).unwrap() else { panic!("x is no number") };
        assert!(rows[0].row == 2 && rows[0].message.starts_with("x.csv:4: "), "{rows:?}");
        assert!(matches!(reader.next(10).unwrap(), ReadOutcome::Rows { first_row: 3, .. }));
    }
    std::fs::write(&file, "a\n1\n").unwrap();
    let error = source.open(split, Some(&at)).err().unwrap().to_string();
    assert_eq!(
        error,
        "x.csv has 4 bytes, and had at least 6 when the checkpoint was made (position {\"row\":2,\"byte\":6,\"line\":3,\
         \"file_bytes\":6}): it was cut off or replaced. Give back what the source was, or start the job without the checkpoint"
    );
    let error = source.open(split, Some(&Position("{\"row\":1,\"rows\":2}".into()))).err().unwrap().to_string();
    assert!(
        error.starts_with("x.csv: the checkpoint has the position {\"row\":1,\"rows\":2}, which is none of this kind"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against the simplest model: every field quoted, read back as it was, whatever the size of batches and buffers.
    #[test]
    fn quoted_fields_come_back(
        table in proptest::collection::vec(("[^\u{0}]{0,12}", "[a-z\",\r\n]{0,6}"), 1..40),
        rows_max in 1usize..50,
    ) {
        let mut content = String::from("a,b\n");
        for (a, b) in &table {
            content += &format!("\"{}\",\"{}\"\n", a.replace('"', "\"\""), b.replace('"', "\"\""));
        }
        let dir = dir(content.as_bytes());
        let source = build(dir.path(), "path: x.csv\nschema: {a: utf8, b: utf8}", CsvSource::new).unwrap();
        let all = read(&source, rows_max).unwrap();
        prop_assert_eq!(all.rejected.len(), 0);
        let rows = all.rows();
        let texts = |column: usize| rows.column(column).as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect::<Vec<_>>();
        prop_assert_eq!(texts(0).into_iter().zip(texts(1)).collect::<Vec<_>>(), table);
    }

    /// Good rows, rows that are rejected, blank lines, quoted line ends and rows longer than the buffer, in any order and batches.
    #[test]
    fn a_reader_goes_on_where_another_stopped(
        picked in proptest::collection::vec(0..PIECES.len() + 1, 0..25),
        mark in any::<bool>(),
        header in any::<bool>(),
        end in 0..3usize,
        sizes in proptest::collection::vec(1usize..6, 1..5),
    ) {
        let mut content = if mark { "\u{feff}".to_owned() } else { String::new() };
        content += if header { "\na,b\r\n" } else { "" };
        for piece in picked {
            match PIECES.get(piece) {
                Some(piece) => content += piece,
                None => content += &format!("9,\"{}\"\n", "long\n".repeat(20_000)),
            }
        }
        content += ["", "5,last", "6,\"never\nclosed"][end];
        let source = source(&content, &format!("header: {header}\nschema: {{a: int64, b: utf8?}}"));
        if let Ok(source) = source {
            check_positions(&source, &sizes);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(content in proptest::collection::vec(any::<u8>(), 0..300)) {
        let dir = dir(&content);
        if let Ok(source) = build(dir.path(), "path: x.csv", CsvSource::new) {
            let _ = read(&source, 7);
        }
    }
}
