use super::*;
use crate::options::testing::build;
use crate::rows::testing::{check_positions, read};
use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int8Type, Int64Type, TimestampMillisecondType};
use std::path::Path;

fn source(yaml: &str) -> Result<GeneratorSource, String> {
    build(Path::new("."), yaml, GeneratorSource::new).map_err(|error| error.to_string())
}

const ALL: &str = "fields:\n  s: {sequence: {start: 5, step: -2}}\n  m: {modulo: 3}\n  t: {timestamp: {start: '1970-01-01T00:00:01', step: 500ms}}\n  \
                   i: {random: {type: int8, min: -2, max: 2}}\n  f: {random: {type: float64, min: 1, max: 2}}\n  b: {random: {type: bool}}\n  \
                   u: {random: {type: utf8, length: 11}}\n  c: {choice: [a, b, null]}\n  n: {choice: [1, 2.5]}\n";

#[test]
fn every_field_that_is_wrong_is_told() {
    let error =
        source("fields:\n  a: {modulo: 0}\n  b: {modulo: 2}\n  c: {random: {type: int8, min: 300}}\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "2 fields cannot be generated:\n  line 2: fields.a.modulo: is 0; a whole number above 0 is wanted\n  \
         line 4: fields.c.random.min: is 300; a value of int8 is wanted"
    );
}

#[test]
fn a_choice_rounds_no_number() {
    let error = source("fields: {a: {choice: [1.5, 9007199254740993]}}").unwrap_err().to_string();
    assert!(
        error.starts_with("fields.a.choice: has 9007199254740993 among values of float64, which would round it"),
        "{error}"
    );
    source("fields: {a: {choice: [1.5, 9007199254740992]}}").unwrap();
}

#[test]
fn every_kind_has_its_values() {
    let rows = read(&source(&format!("rows: 1000\n{ALL}")).unwrap(), 64).unwrap().rows();
    assert_eq!(rows.num_rows(), 1000);
    assert_eq!(&rows.column(0).as_primitive::<Int64Type>().values()[..3], &[5, 3, 1]);
    assert_eq!(&rows.column(1).as_primitive::<Int64Type>().values()[..5], &[0, 1, 2, 0, 1]);
    assert_eq!(&rows.column(2).as_primitive::<TimestampMillisecondType>().values()[..3], &[1000, 1500, 2000]);
    let mut integers = rows.column(3).as_primitive::<Int8Type>().values().to_vec();
    integers.sort_unstable();
    integers.dedup();
    assert_eq!(integers, [-2, -1, 0, 1, 2]);
    let floats = rows.column(4).as_primitive::<Float64Type>();
    assert!(floats.values().iter().all(|value| (1.0..2.0).contains(value)));
    assert!((450..550).contains(&rows.column(5).as_boolean().true_count()));
    assert!(rows.column(6).as_string::<i32>().iter().all(|text| text.unwrap().len() == 11));
    assert!((250..420).contains(&rows.column(7).null_count()));
    assert_eq!(rows.column(8).data_type(), &DataType::Float64);
    assert!(rows.schema().field(7).is_nullable() && !rows.schema().field(8).is_nullable());
}

/// The rows of the whole are the same however they are split and cut into batches.
#[test]
fn rows_do_not_depend_on_splits_or_batches() {
    let whole = read(&source(&format!("rows: 101\n{ALL}")).unwrap(), 1000).unwrap().rows();
    let source = source(&format!("rows: 101\nsplits: 3\n{ALL}")).unwrap();
    assert_eq!(source.splits().unwrap().iter().map(|split| split.size.unwrap()).collect::<Vec<_>>(), [34, 34, 33]);
    for (number, split) in source.splits().unwrap().iter().enumerate() {
        let mut reader = source.open(split, None).unwrap();
        let mut row = number;
        while let ReadOutcome::Rows { rows, .. } = reader.next(7).unwrap() {
            for at in 0..rows.num_rows() {
                assert_eq!(rows.slice(at, 1), whole.slice(row, 1));
                row += 3;
            }
        }
        assert_eq!(row, 101 + (number + 3 - 101 % 3) % 3);
    }
}

#[test]
fn the_seed_decides() {
    let rows = |seed: u64| read(&source(&format!("rows: 50\nseed: {seed}\n{ALL}")).unwrap(), 50).unwrap().rows();
    assert_eq!(rows(1), rows(1));
    assert_ne!(rows(1).column(4), rows(2).column(4));
    assert_eq!(rows(1).column(0), rows(2).column(0));
}

#[test]
fn without_rows_it_does_not_end() {
    let source = source("fields: {i: {sequence: {}}}").unwrap();
    assert!(!source.bounded());
    let splits = source.splits().unwrap();
    assert_eq!(splits[0].size, None);
    let mut reader = source.open(&splits[0], None).unwrap();
    for _ in 0..10 {
        assert!(matches!(reader.next(1000).unwrap(), ReadOutcome::Rows { rows, .. } if rows.num_rows() == 1000));
    }
    assert_eq!(reader.done(), 10_000);
}

#[test]
fn a_rate_is_kept_by_waiting() {
    let source = source("rows: 3\nrate: 1000\nfields: {i: {sequence: {}}}").unwrap();
    let mut reader = source.open(&source.splits().unwrap()[0], None).unwrap();
    assert!(matches!(reader.next(10).unwrap(), ReadOutcome::Pending(wait) if wait <= Duration::from_millis(1)));
    assert_eq!(read(&source, 10).unwrap().rows().num_rows(), 3);
    let mut pace = Pace { rate: 1e6, start: Some(Instant::now() - Duration::from_secs(1)), from: 0 };
    assert_eq!(pace.due(0, 500), Ok(500));
    assert!(pace.due(2_000_000, 500).is_err_and(|wait| wait > Duration::from_millis(900)));
}

#[test]
fn wrong_options_are_named() {
    for (yaml, expected) in [
        ("rows: 1", "fields: is missing; {column: {sequence: {}}} is the simplest"),
        ("fields: {i: 5}", "fields.i: is 5; one of {sequence: …}, {random: …} and so on is wanted"),
        (
            "fields: {i: {count: {}}}",
            "fields.i.count: no such kind; there are sequence, modulo, timestamp, random, choice",
        ),
        ("fields: {i: {sequence: {from: 1}}}", "fields.i.sequence.from: unknown key; there are start, step"),
        ("fields: {i: {sequence: {start: x}}}", "fields.i.sequence.start: is \"x\"; a whole number is wanted"),
        ("fields: {i: {modulo: 0}}", "fields.i.modulo: is 0; a whole number above 0 is wanted"),
        (
            "fields: {i: {random: {type: date}}}",
            "fields.i.random.type: is date; an integer or float type, bool or utf8 is wanted",
        ),
        ("fields: {i: {random: {type: int8, max: 128}}}", "fields.i.random.max: is 128; a value of int8 is wanted"),
        ("fields: {i: {random: {min: 5, max: 4}}}", "fields.i.random.max: is 4, min is 5; at least min is wanted"),
        ("fields: {i: {choice: []}}", "fields.i.choice: at least one value is wanted: a truth value, number or text"),
        ("fields: {i: {choice: [1, true]}}", "fields.i.choice: has true among values of int64"),
        (
            "fields: {i: {timestamp: {start: now}}}",
            "fields.i.timestamp.start: is \"now\"; a time such as 2013-01-01T00:00:00 is wanted",
        ),
        (
            "{rows: 3, fields: {i: {sequence: {start: 9223372036854775807}}}}",
            "fields.i: row 2 would be beyond int64 (start 9223372036854775807, step 1, limits -9223372036854775808 and \
             9223372036854775807): lower rows, or give another start or step",
        ),
        (
            "{rows: 9223372036854775807, fields: {t: {timestamp: {step: 1h}}}}",
            "fields.t: row 9223372036854775806 would be beyond timestamp(ms) (start 0 ms since 1970, step 3600000 ms, limits \
             -9223372036854775808 and 9223372036854775807): lower rows, or give another start or step",
        ),
        (
            "fields: {f: {random: {type: float32, max: 1e39}}}",
            "fields.f.random.max: is 1000000000000000000000000000000000000000; a value of float32 is wanted",
        ),
        ("{splits: 0, fields: {i: {sequence: {}}}}", "splits: is 0; 1 to 1024 is possible"),
        ("{rate: 0, fields: {i: {sequence: {}}}}", "rate: is 0; a number of rows a second above 0 is wanted"),
    ] {
        assert_eq!(source(yaml).unwrap_err(), expected);
    }
}

#[test]
fn a_sequence_without_end_does_not_wrap() {
    let source = source("fields: {s: {sequence: {start: 9223372036854775805}}}").unwrap();
    let mut reader = source.open(&source.splits().unwrap()[0], None).unwrap();
    let ReadOutcome::Rows { rows, .. } = reader.next(3).unwrap() else { panic!("rows are there") };
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[i64::MAX - 2, i64::MAX - 1, i64::MAX]);
    let error = reader.next(3).err().unwrap().to_string();
    assert!(error.starts_with("fields.s: row 5 would be beyond int64 (start 9223372036854775805, step 1"), "{error}");
}

#[test]
fn floats_stay_below_their_end() {
    let kind = "fields: {f: {random: {type: float64, min: 0.99999999999999978, max: 1}}}";
    let rows = read(&source(&format!("rows: 1000\n{kind}")).unwrap(), 1000).unwrap().rows();
    assert!(rows.column(0).as_primitive::<Float64Type>().values().iter().all(|value| *value < 1.0));
}

#[test]
fn extremes_do_not_overflow() {
    let yaml = "rows: 100\nfields:\n  a: {random: {min: -9223372036854775808}}\n  b: {sequence: {start: 9223372036854775807, step: -186264514923095700}}\n  \
                c: {modulo: 9223372036854775807}\n  d: {random: {type: uint64}}\n  e: {random: {min: 7, max: 7}}\n";
    let rows = read(&source(yaml).unwrap(), 33).unwrap().rows();
    assert_eq!(rows.num_rows(), 100);
    assert!(rows.column(4).as_primitive::<Int64Type>().values().iter().all(|value| *value == 7));
}

#[test]
fn a_reader_goes_on_where_another_stopped() {
    let yaml = "rows: 50\nsplits: 3\nfields:\n  a: {sequence: {start: 5, step: 3}}\n  b: {random: {type: utf8}}\n  c: {modulo: 7}\n  \
                d: {choice: [x, z, null]}\n  e: {timestamp: {step: 1s}}\n  f: {random: {type: float32}}\n";
    check_positions(&source(yaml).unwrap(), &[1, 4, 2]);
    check_positions(&source("rows: 20\nrate: 100000\nfields: {i: {sequence: {}}}").unwrap(), &[3]);
    check_positions(&source("rows: 0\nfields: {i: {sequence: {}}}").unwrap(), &[3]);
}

#[test]
fn the_rate_is_that_of_now_and_makes_nothing_good() {
    let mut pace = Pace { rate: 1000.0, start: None, from: 1_000_000 };
    assert!(pace.due(1_000_000, 500).is_err());
    pace.start = Some(Instant::now() - Duration::from_millis(100));
    assert!(pace.due(1_000_000, 500).is_ok_and(|rows| (100..500).contains(&rows)));
}

#[test]
fn a_position_of_another_generator_is_refused() {
    let open = |yaml: &str, at: &str| {
        let source = source(yaml).unwrap();
        source.open(&source.splits().unwrap()[0], Some(&Position(at.into()))).err().map(|error| error.to_string())
    };
    let at = "{\"row\":10,\"splits\":1}";
    assert_eq!(open("rows: 10\nfields: {i: {sequence: {}}}", at), None);
    assert_eq!(open("fields: {i: {sequence: {}}}", at), None);
    assert_eq!(
        open("rows: 9\nfields: {i: {sequence: {}}}", at).unwrap(),
        "generator, split 0 has 9 rows, and had at least 10 when the checkpoint was made (position {\"row\":10,\"splits\":1}): it was \
         cut off or replaced. Give back what the source was, or start the job without the checkpoint"
    );
    assert_eq!(
        open("splits: 2\nfields: {i: {sequence: {}}}", at).unwrap(),
        "generator, split 0: splits is 2, and was 1 when the checkpoint was made, so that rows would be made twice or not at all: \
         set splits: 1, or start the job without the checkpoint"
    );
}
