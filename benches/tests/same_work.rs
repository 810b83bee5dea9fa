//! A comparison means something only if every way does the same work.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use wasmill_benches::same::check;
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
