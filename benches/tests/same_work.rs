//! A comparison means something only if every way does the same work.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use wasmill_benches::pace::Pace;
use wasmill_benches::same::check;
use wasmill_benches::values;
use wasmill_benches::wasmill;
use wasmill_benches::work::WORK;

#[test]
fn every_way_gives_the_same() {
    let environment = wasmill::environment().unwrap();
    for work in &WORK {
        for bundle in [1, 100, 10_000] {
            check(work, bundle, &environment).unwrap();
        }
    }
}

/// A value of every type goes in and comes out the same; what that costs has a figure each way.
#[test]
fn values_of_every_type_come_back() {
    let pace = Pace { run: Duration::from_millis(1), samples: 1, ..Pace::new(true) };
    let figures = values::measure(&pace, &wasmill::environment().unwrap()).unwrap();
    let types = figures.len() / 4;
    assert!(types >= 20, "{types}");
    assert!(figures.iter().all(|figure| figure.value.is_finite() && figure.id == values::ID), "{figures:?}");
}
