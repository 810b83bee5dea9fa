//! Each function through frames, without Wasm.

use std::collections::BTreeMap;

use wasmill_udf::function::{Function, Kind};
use wasmill_udf::testing::{Access, Feed, Harness, Outcome};
use wasmill_udf::value::Value;
use wasmill_udf::{Date, Decimal, RowKind, Time, Timestamp};

use super::*;

/// Values that come back as they went.
fn there_and_back<F, T>(values: Vec<T>)
where
    T: Value + std::fmt::Debug + PartialEq,
    F: for<'f> Function<Input<'f> = (T,), Output<'f> = T>,
{
    let mut identity = Harness::<F>::new().open().expect("opens");
    let got = identity.run(values.iter().cloned().map(|value| (value,))).values();
    assert_eq!(got, values);
    let many: Vec<T> = values.iter().cloned().cycle().take(100).collect();
    assert_eq!(identity.run(many.iter().cloned().map(|value| (value,))).values(), many);
    assert!(identity.run([]).values().is_empty());
}

#[test]
fn every_type_comes_back() {
    there_and_back::<id_bool, _>(vec![true, false, true]);
    there_and_back::<id_i8, _>(vec![i8::MIN, 0, i8::MAX]);
    there_and_back::<id_i16, _>(vec![i16::MIN, 0, i16::MAX]);
    there_and_back::<id_i32, _>(vec![i32::MIN, 0, i32::MAX]);
    there_and_back::<id_i64, _>(vec![i64::MIN, 0, i64::MAX]);
    there_and_back::<id_u8, _>(vec![0, u8::MAX]);
    there_and_back::<id_u16, _>(vec![0, u16::MAX]);
    there_and_back::<id_u32, _>(vec![0, u32::MAX]);
    there_and_back::<id_u64, _>(vec![0, u64::MAX]);
    there_and_back::<id_f32, _>(vec![f32::MIN, -0.0, f32::INFINITY]);
    there_and_back::<id_f64, _>(vec![f64::MIN, -0.0, f64::INFINITY]);
    let decimal = |unscaled| Decimal::from_unscaled(unscaled).expect("12 digits");
    there_and_back::<id_decimal, _>(vec![decimal(-999_999_999_999), decimal(1)]);
    there_and_back::<id_utf8, _>(vec!["".to_owned(), "Zürich 😀".to_owned()]);
    there_and_back::<id_binary, _>(vec![vec![], vec![0, 255]]);
    there_and_back::<id_date, _>(vec![Date(-1), Date(20_000)]);
    there_and_back::<id_time, _>(vec![Time(0), Time(86_399_999_999)]);
    there_and_back::<id_timestamp_s, _>(vec![Timestamp::new(-1)]);
    there_and_back::<id_timestamp_ms, _>(vec![Timestamp::new(1)]);
    there_and_back::<id_timestamp_us, _>(vec![Timestamp::new(2)]);
    there_and_back::<id_timestamp_ns, _>(vec![Timestamp::new(i64::MAX)]);
    there_and_back::<id_timestamp_utc, _>(vec![Timestamp::new(4)]);
    there_and_back::<id_list, _>(vec![vec![], vec![1, 2, 3]]);
    there_and_back::<id_list_nullable, _>(vec![vec![None], vec![Some("a".to_owned()), None]]);
    let point = |y| Point { x: 1.5, y };
    there_and_back::<id_struct, _>(vec![point(None), point(Some(2.0))]);
    there_and_back::<id_map, _>(vec![
        BTreeMap::new(),
        BTreeMap::from([("a".to_owned(), None), ("b".to_owned(), Some(2))]),
    ]);
    let nested = |at, tags| Nested { at, tags, counts: BTreeMap::from([("x".to_owned(), vec![1, 2])]), renamed: true };
    there_and_back::<id_nested, _>(vec![
        nested(None, None),
        nested(Some(point(None)), Some(vec![None, Some("t".to_owned())])),
    ]);
}

#[test]
fn every_type_can_be_null() {
    there_and_back::<maybe_bool, _>(vec![None, Some(true), None, Some(false)]);
    there_and_back::<maybe_i64, _>(vec![Some(1), None, Some(i64::MIN)]);
    there_and_back::<maybe_f64, _>(vec![None, None]);
    there_and_back::<maybe_utf8, _>(vec![Some(String::new()), None]);
    there_and_back::<maybe_decimal, _>(vec![None, Decimal::from_unscaled(5)]);
    there_and_back::<maybe_list, _>(vec![None, Some(vec![]), Some(vec![None, Some(1)])]);
    there_and_back::<maybe_struct, _>(vec![None, Some(Point { x: 0.0, y: None })]);
}

#[test]
fn texts_and_bytes_can_be_borrowed() {
    let mut text = Harness::<id_text>::new().open().expect("opens");
    assert_eq!(text.run([("a",), ("",), ("日本",)]).values(), ["a", "", "日本"]);
    let mut bytes = Harness::<id_bytes>::new().open().expect("opens");
    assert_eq!(bytes.run([(&[1u8, 2][..],), (&[],)]).values(), [&[1u8, 2][..], &[]]);
}

#[test]
fn functions_are_described_as_they_are_written() {
    let add = add::describe();
    assert_eq!(
        (add.name.as_str(), add.kind, add.documentation.as_str()),
        ("add", Kind::Scalar, "The sum; null where one is null.")
    );
    let arguments: Vec<String> = Sale::describe_fields();
    assert_eq!(arguments, ["item: utf8", "price: float64", "count: int32?"]);
    assert_eq!(
        KeyedAverage::describe().states.iter().map(|state| state.name.as_str()).collect::<Vec<_>>(),
        ["count", "sum"]
    );
    assert_eq!(KeyedAverageByCall::describe().states[0].access, Access::Call);
    assert_eq!(longest::describe().states[0].data_type.to_string(), "struct<word: utf8, position: int32>");
    assert_eq!(Parameterised::describe().name, "scaled");
    let mut names: Vec<String> = super::WASMILL_FUNCTIONS.iter().map(|entry| (entry.describe)().name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "two functions of one name");
}

impl Sale {
    fn describe_fields() -> Vec<String> {
        large::describe().arguments.iter().map(|field| format!("{}: {}", field.name, field.data_type)).collect()
    }
}

#[test]
fn scalars_take_columns_side_by_side() {
    assert_eq!(Harness::<constant>::new().open().expect("opens").run([(), ()]).values(), [42, 42]);
    let mut greet = Harness::<greet>::new().open().expect("opens");
    assert_eq!(greet.run([("Hello", Some("Ann")), ("Hi", None)]).values(), ["Hello, Ann!", "Hi, stranger!"]);
}

#[test]
fn a_row_that_fails_leaves_the_others() {
    let mut parse = Harness::<parse_number>::new().open().expect("opens");
    let results = parse.run([("1",), ("x",), (" 3 ",)]).results();
    assert_eq!(results[0], Ok(1));
    assert_eq!(results[1].as_ref().expect_err("fails").message, "invalid digit found in string");
    assert_eq!(results[1].as_ref().expect_err("fails").kind, "error");
    assert_eq!(results[2], Ok(3));
    let many = Harness::<fails_on_odd>::new().open().expect("opens").run((0..100).map(|x| (x,)));
    assert_eq!((many.given.len(), many.errors.len()), (50, 50));
    assert_eq!(many.given[10], (20, 10));
}

#[test]
fn columns_go_in_and_out_whole() {
    let mut add = Harness::<add_columns>::new().open().expect("opens");
    let rows: Vec<(f64, f64)> = (0..100).map(|x| (f64::from(x), 0.5)).collect();
    assert_eq!(add.run(rows.clone()).values(), rows.iter().map(|(a, b)| a + b).collect::<Vec<_>>());
    let mut shout = Harness::<shout>::new().open().expect("opens");
    assert_eq!(shout.run([("a",), ("",)]).values(), [Some("A".to_owned()), None]);
}

#[test]
fn a_table_function_gives_many_rows_for_one() {
    let mut words = Harness::<words>::new().open().expect("opens");
    let outcome = words.run(["to be  or".to_owned(), String::new(), "not".to_owned()]);
    let word = |word: &str, position| Word { word: word.to_owned(), position };
    assert_eq!(outcome.given, [(0, word("to", 0)), (0, word("be", 1)), (0, word("or", 2)), (2, word("not", 0))]);
}

#[test]
fn a_large_output_comes_in_portions() {
    let mut count = Harness::<count_to>::new().open().expect("opens");
    let outcome = count.run([3, 1_000_000, -1, 2]);
    assert!((12..20).contains(&outcome.portions), "{} portions of 12 MB", outcome.portions);
    assert_eq!(outcome.given.len(), 1_000_005);
    assert_eq!(outcome.given[3..6], [(1, 0), (1, 1), (1, 2)]);
    assert_eq!(outcome.given[1_000_003..], [(3, 0), (3, 1)]);
    assert_eq!(outcome.errors.len(), 1);
    assert_eq!((outcome.errors[0].row, outcome.errors[0].message.as_str()), (2, "cannot count to -1"));
    assert_eq!(count.run([1]).values(), [0], "a bundle begins anew");
}

#[test]
fn rows_are_kept_or_changed() {
    let sale = |price, count| Sale { item: "tea".to_owned(), price, count };
    let mut large = Harness::<large>::new().open().expect("opens");
    assert_eq!(large.run([sale(100.0, None), sale(100.5, Some(1))]).values(), [false, true]);
    let mut enrich = Harness::<enrich>::new().open().expect("opens");
    assert_eq!(enrich.run([sale(2.5, Some(4))]).values(), [Amount { item: "tea".to_owned(), amount: 10.0 }]);
}

#[test]
fn a_reduce_keeps_one_value_per_key() {
    let mut total = Harness::<total>::keyed::<String>("k").open().expect("opens");
    let key = |key: &str| key.to_owned();
    let outcome = total.process([
        (key("a"), (1,)),
        (key("b"), (5,)),
        (key("a"), (2,)),
        (key("a"), (i64::MAX,)),
        (key("a"), (4,)),
    ]);
    assert_eq!(outcome.given, [(0, 1), (1, 5), (2, 3), (4, 7)]);
    assert_eq!(outcome.errors.len(), 1);
    assert_eq!(outcome.errors[0].message, "3 + 9223372036854775807 does not fit int64");
    assert_eq!(total.process([(key("a"), (1,))]).values(), [8]);
    assert_eq!(total.state::<i64>("reduced", &key("b")), Some(5));
}

fn averages<F>(harness: &mut Harness<F, Option<String>>) -> Outcome<Average>
where
    F: for<'f> Function<Input<'f> = Reading, Output<'f> = Average>,
{
    let row = |key: Option<&str>, value| (key.map(str::to_owned), Reading { value });
    let first = harness.process([
        row(Some("a"), 1.0),
        row(None, 10.0),
        row(Some("a"), 3.0),
        row(Some("a"), -1.0),
        row(None, 20.0),
    ]);
    assert_eq!(first.errors.len(), 1);
    assert_eq!((first.errors[0].row, first.errors[0].message.as_str()), (3, "-1 is negative"));
    assert_eq!(
        first.given.iter().map(|(row, average)| (*row, average.average)).collect::<Vec<_>>(),
        [(0, 1.0), (1, 10.0), (2, 2.0), (4, 15.0)]
    );
    assert_eq!(harness.state::<f64>("sum", &Some("a".to_owned())), Some(4.0));
    let second = harness.process([row(Some("a"), 5.0), row(None, f64::NAN), row(Some("c"), 7.0)]);
    assert_eq!(harness.state::<i64>("count", &None), None);
    assert_eq!(harness.state::<i64>("count", &Some("a".to_owned())), Some(3));
    second
}

#[test]
fn state_is_the_same_however_it_is_reached() {
    let mut by_column = Harness::<KeyedAverage>::keyed::<Option<String>>("k").open().expect("opens");
    let wanted = averages(&mut by_column);
    assert_eq!(by_column.state_calls, 0);
    assert_eq!(wanted.given, [(0, Average { count: 3, average: 3.0 }), (2, Average { count: 1, average: 7.0 })]);
    let mut batched = Harness::<KeyedAverageByCall>::keyed::<Option<String>>("k").open().expect("opens");
    assert_eq!(averages(&mut batched), wanted);
    assert_eq!(batched.state_calls, 2 * 2 * 2, "a fetch and a store for each state and bundle");
    let mut single = Harness::<KeyedAverageOneByOne>::keyed::<Option<String>>("k").open().expect("opens");
    assert_eq!(averages(&mut single), wanted);
    assert!(single.state_calls > batched.state_calls);
    let builder = Harness::<KeyedAverage>::keyed::<Option<String>>("k").access("sum", Access::Call);
    let mut mixed = builder.open().expect("opens");
    assert_eq!(averages(&mut mixed), wanted);
    assert_eq!(mixed.state_calls, 4);
}

#[test]
fn a_row_in_the_errors_has_left_no_trace() {
    let mut halfway = Harness::<FailsHalfway>::keyed::<i64>("k").open().expect("opens");
    let outcome = halfway.process([(7, 2), (7, 3), (8, 5), (7, 4)]);
    assert_eq!(outcome.given, [(0, 2), (3, 6)]);
    assert_eq!(outcome.errors.len(), 2);
    assert_eq!(halfway.state::<i64>("seen", &7), Some(6));
    assert_eq!(halfway.state::<i64>("seen", &8), None);
}

#[test]
fn aggregates_fold_take_out_merge_and_give() {
    let mut statistics = Harness::<Statistics>::keyed::<i32>("k").open().expect("opens");
    let errors = statistics.accumulate([(1, 5), (1, 666), (2, -3), (1, 7)]);
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].row, errors[0].message.as_str()), (1, "666 is not counted"));
    assert!(statistics.retract([(1, 5)]).is_empty());
    let two = Seen { count: 2, sum: 10, least: Some(-9), greatest: None };
    assert!(statistics.merge([(2, Some(two)), (3, None)]).is_empty());
    let results = statistics.result([1, 2, 3, 4]).values();
    assert_eq!(results[0], Seen { count: 1, sum: 7, least: Some(5), greatest: Some(7) });
    assert_eq!(results[1], Seen { count: 3, sum: 7, least: Some(-9), greatest: Some(-3) });
    assert_eq!(results[2..], [Seen::default(), Seen::default()]);

    let mut largest = Harness::<Largest>::keyed::<i32>("k").open().expect("opens");
    assert_eq!(
        largest.retract([(1, 5)])[0].message,
        "the aggregate cannot take rows out again: implement Aggregate::retract"
    );
    assert_eq!(
        largest.merge([(1, Some(5i64))])[0].message,
        "the aggregate cannot merge accumulators: implement Aggregate::merge"
    );

    let mut fails = Harness::<FailsInResult>::keyed::<i32>("k").open().expect("opens");
    assert!(fails.accumulate([(1, 5), (2, -5)]).is_empty());
    let results = fails.result([1, 2]).results();
    assert_eq!(results[0], Ok(5));
    assert_eq!(results[1].as_ref().expect_err("fails").message, "the sum is -5");
}

#[test]
fn an_accumulator_that_owns_memory_is_put_right_too() {
    let mut collected = Harness::<Collected>::keyed::<i32>("k").open().expect("opens");
    assert!(collected.accumulate([(1, "a".to_owned())]).is_empty());
    let text = |key, text: &str| (key, text.to_owned());
    let rows =
        [text(1, "b"), text(2, "x"), text(1, ""), text(1, "c"), text(2, ""), text(3, ""), text(1, ""), text(2, "y")];
    let errors = collected.accumulate(rows);
    assert_eq!(errors.iter().map(|error| error.row).collect::<Vec<_>>(), [2, 4, 5, 6]);
    let lists = collected.result([1, 2, 3]).values();
    assert_eq!(lists, [vec!["a", "b", "c"], vec!["x", "y"], vec![]]);
    assert_eq!(collected.state::<Vec<String>>("accumulator", &3), None);
}

#[test]
fn a_process_function_sees_times_keys_and_its_place() {
    let mut echo = Harness::<Echo>::keyed::<i64>("k").open().expect("opens");
    (echo.watermark, echo.processing_time) = (Some(1000), 5000);
    let feed = Feed { key: 1, value: (Some(2),), event_time: Some(1500), row_kind: RowKind::Delete };
    let got = echo.process([feed, Feed { key: 1, value: (None,), event_time: None, row_kind: RowKind::Insert }]);
    let said = |value, copy, event_time, row_kind| Said {
        value,
        copy,
        event_time,
        watermark: Some(1000),
        processing_time: 5000,
        row_kind,
    };
    assert_eq!(
        got.given,
        [(0, said(Some(2), 0, Some(1500), 3)), (0, said(Some(2), 1, Some(1500), 3)), (1, said(None, 0, None, 0))]
    );

    let mut whoami = Harness::<Whoami>::keyed::<Option<String>>("name").open().expect("opens");
    let got = whoami.process([(Some("ann".to_owned()), 0), (None, 0), (Some("ann".to_owned()), 0)]).values();
    assert_eq!(got, ["test/Whoami 0 of 1: ann 1", "test/Whoami 0 of 1: null 1", "test/Whoami 0 of 1: ann 2"]);
    assert_eq!(whoami.log[0].1, "row 1 of ann");
}

#[test]
fn what_the_job_lacks_is_said() {
    let open = |builder: wasmill_udf::testing::Builder<Parameterised>| {
        builder.open().map(|_| ()).expect_err("does not open").message
    };
    let new = Harness::<Parameterised>::new;
    assert_eq!(
        open(new()),
        "`scaled` failed in open: `scaled` asks for resource `offset.txt`, but it has none: grant it under the UDF's `resources`"
    );
    assert_eq!(
        open(new().parameter("offset", "1")),
        "`scaled` failed in open: `scaled` asks for parameter `factor`, but it has offset: set it where the job uses the function"
    );
    assert_eq!(open(new().parameter("offset", "one")), "`scaled` failed in open: invalid digit found in string");
    let mut scaled = new().parameter("factor", "3").resource("offset.txt", " 4\n").open().expect("opens");
    assert_eq!(scaled.run([(1,), (10,)]).values(), [7, 34]);
    let unkeyed = Harness::<KeyedAverage>::new().open().map(|_| ()).expect_err("does not open").message;
    assert_eq!(unkeyed, "`KeyedAverage` has state per key (count, sum), but the operator has no key: give it a `key`");
    let unknown = Harness::<KeyedAverage>::keyed::<i64>("k")
        .access("total", Access::Call)
        .open()
        .map(|_| ())
        .expect_err("does not open")
        .message;
    assert_eq!(unknown, "`KeyedAverage` has no state `total`; it has count, sum");
}

#[test]
#[should_panic(expected = "no row may be 13")]
fn a_panic_is_a_panic() {
    Harness::<panics_on>::new().open().expect("opens").run([(1,), (13,)]);
}

/// Calls that ended jobs (tests/replays), run again natively: what docs/replay.md shows.
mod replays {
    use std::panic::catch_unwind;

    use wasmill_udf::testing::{Replayed, replay};

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/replays/v1");

    fn run(name: &str) -> Replayed {
        replay(crate::WASMILL_FUNCTIONS, format!("{FOLDER}/{name}")).expect("it opens")
    }

    #[test]
    fn a_panic_panics_here_too() {
        let panic = catch_unwind(|| run("panics")).expect_err("it panics");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"no row may be negative"));
    }

    #[test]
    fn a_row_error_comes_with_what_the_others_did() {
        let replayed = run("raises");
        assert_eq!((replayed.errors[0].row, replayed.errors[0].message.as_str()), (1, "9 is odd"));
        assert_eq!(replayed.given, [(0, "22".to_owned()), (2, "28".to_owned())]);
        assert_eq!(replayed.written, [("\"b\"".to_owned(), "seen".to_owned(), "28".to_owned())]);
    }

    #[test]
    fn what_is_no_record_is_told() {
        let told = |name: &str| {
            replay(crate::WASMILL_FUNCTIONS, format!("{FOLDER}/{name}")).expect_err("it cannot run").to_string()
        };
        assert!(told("none").contains("none/replay.json: No such file"), "{}", told("none"));
        assert!(told("python").contains("there is no function `Totals`"), "{}", told("python"));
    }
}
