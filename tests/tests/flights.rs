//! The demo job: one exact table, whatever the bundles, batches, parallelism and mode.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType};
use wasmill_runtime::job_file;
use wasmill_tests::{built, read_parquet, root, run};

const DAY_MS: i64 = 86_400_000;

/// A line of the result: flights, cancelled, mean and maximum of the departure delays, inherited.
#[derive(Debug, Clone, Default, PartialEq)]
struct Daily {
    flights: i64,
    cancelled: i64,
    mean: Option<f64>,
    max: Option<i64>,
    inherited: i64,
}

type Table = BTreeMap<(String, i64), Daily>;

/// The result as plain loops over the input say it: nothing of the engine is in here.
fn expected() -> Table {
    let mut last_arrival: HashMap<String, Option<i32>> = HashMap::new();
    let mut sums: BTreeMap<(String, i64), (Daily, i64)> = BTreeMap::new();
    for batch in read_parquet(&root().join("guests/demo/data/flights.parquet")) {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let times = column("sched_dep").as_primitive::<TimestampMicrosecondType>();
        let (dep, arr) =
            (column("dep_delay").as_primitive::<Int32Type>(), column("arr_delay").as_primitive::<Int32Type>());
        let (carrier, tail) = (column("carrier").as_string::<i32>(), column("tailnum").as_string::<i32>());
        for row in 0..batch.num_rows() {
            let delay = dep.is_valid(row).then(|| dep.value(row));
            let arrival = arr.is_valid(row).then(|| arr.value(row));
            let mut inherited = false;
            if tail.is_valid(row) {
                let before = last_arrival.get(tail.value(row)).copied().flatten();
                inherited = delay.is_some_and(|delay| delay > 15) && before.is_some_and(|before| before > 15);
                if delay.is_some() {
                    last_arrival.insert(tail.value(row).to_owned(), arrival);
                }
            }
            let day = times.value(row).div_euclid(1000).div_euclid(DAY_MS) * DAY_MS;
            let (daily, sum) = sums.entry((carrier.value(row).to_owned(), day)).or_default();
            daily.flights += 1;
            daily.inherited += i64::from(inherited);
            match delay.map(i64::from) {
                None => daily.cancelled += 1,
                Some(delay) => {
                    *sum += delay;
                    daily.max = daily.max.max(Some(delay));
                }
            }
        }
    }
    let line = |(daily, sum): (Daily, i64)| {
        let flown = daily.flights - daily.cancelled;
        Daily { mean: (flown > 0).then(|| sum as f64 / flown as f64), ..daily }
    };
    sums.into_iter().map(|(key, sums)| (key, line(sums))).collect()
}

fn actual(folder: &std::path::Path) -> Table {
    let mut table = Table::new();
    for batch in read_parquet(folder) {
        let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        let wanted = "carrier,window_start,window_end,flights,cancelled,mean_dep_delay,max_dep_delay,inherited";
        assert_eq!(names.join(","), wanted);
        let number = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
        let time = |column: usize| batch.column(column).as_primitive::<TimestampMillisecondType>().clone();
        let (start, end, carrier) = (time(1), time(2), batch.column(0).as_string::<i32>());
        let (mean, max) = (batch.column(5).as_primitive::<Float64Type>(), number("max_dep_delay"));
        for row in 0..batch.num_rows() {
            assert_eq!(end.value(row), start.value(row) + DAY_MS);
            let daily = Daily {
                flights: number("flights").value(row),
                cancelled: number("cancelled").value(row),
                mean: mean.is_valid(row).then(|| mean.value(row)),
                max: max.is_valid(row).then(|| max.value(row)),
                inherited: number("inherited").value(row),
            };
            let before = table.insert((carrier.value(row).to_owned(), start.value(row)), daily);
            assert_eq!(before, None, "a window fires once");
        }
    }
    table
}

#[test]
fn the_result_is_one_exact_table() {
    built("guests/demo/udfs/distance.wasm");
    let expected = expected();
    assert_eq!(expected.len(), 5_442);
    let text = std::fs::read_to_string(root().join("guests/demo/flights.yaml")).unwrap();
    let settings: [&[(&str, &str)]; 6] = [
        &[],
        &[("parallelism", "1"), ("bundle.size", "10000")],
        &[("parallelism", "3"), ("bundle.size", "7"), ("arrow.batch.size", "1013")],
        &[("parallelism", "2"), ("execution-mode", "thread")],
        &[
            ("parallelism", "5"),
            ("bundle.size", "100"),
            ("pipeline.auto-watermark-interval", "0ms"),
            ("exchange.elements.max", "1"),
        ],
        &[("nodes.chained.parallelism", "1"), ("nodes.daily.parallelism", "4")],
    ];
    for setting in settings {
        let out = tempfile::tempdir().unwrap();
        let mut set: Vec<(String, String)> =
            setting.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        for (node, folder) in [("nodes.out.path", "daily"), ("nodes.legs.path", "legs")] {
            set.push((node.into(), out.path().join(folder).display().to_string()));
        }
        set.push(("dead-letters.path".into(), out.path().join("dead.jsonl").display().to_string()));
        let job = job_file::read(&text, &root().join("guests/demo"), &set).unwrap();
        let run = run(&job).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let summary = run.outcome.unwrap_or_else(|error| panic!("{setting:?}: {error}"));
        let node = |name: &str| summary.metrics.node(name).unwrap();
        assert_eq!(node("daily").late_rows.get(), 0, "{setting:?}");
        assert_eq!(node("chained").row_errors.get() + node("graded").row_errors.get(), 0, "{setting:?}");
        assert_eq!(node("flights").rows_out.get(), 336_776);
        assert_eq!(actual(&out.path().join("daily")), expected, "{setting:?}");
    }
}
