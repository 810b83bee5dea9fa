//! A comparison means something only if every way does the same work.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use wasmill_benches::figures::{WAYS, WayName};
use wasmill_benches::work::{WORK, Work};
use wasmill_benches::{Way, native, process, wasmill};

/// More than a batch of the source, and no multiple of a bundle.
const ROWS: u64 = 12_345;

#[test]
fn every_way_gives_the_same() {
    let environment = wasmill::environment().unwrap();
    for work in &WORK {
        for bundle in [1, 100, 10_000] {
            let mut outputs = Vec::new();
            for way in WAYS {
                let mut open: Box<dyn Way> = match way {
                    WayName::Wasmill => wasmill::open(work, bundle, &environment),
                    WayName::Process => process::open(work, bundle).unwrap(),
                    WayName::Native => native::open(work, bundle).unwrap(),
                };
                outputs.extend(open.output(ROWS).unwrap().map(|column| (way, column)));
            }
            let Some(((_, first), others)) = outputs.split_first() else { panic!("{}: nothing to compare", work.id) };
            assert_eq!(first.len() as u64, ROWS, "{}", work.id);
            assert!(!others.is_empty(), "{}: nothing to compare with", work.id);
            for (way, column) in others {
                same(work, bundle, way.text(), first, column);
            }
        }
    }
}

/// Keyed rows pass an exchange, which keeps the order: row for row the same, and means in the same order of additions.
fn same(work: &Work, bundle: usize, way: &str, wasmill: &ArrayRef, other: &ArrayRef) {
    assert_eq!(wasmill.null_count(), 0, "{}", work.id);
    assert_eq!(wasmill.data_type(), other.data_type(), "{} {way}", work.id);
    if wasmill.data_type() == &DataType::Float64 {
        let (wasmill, other) = (wasmill.as_primitive::<Float64Type>(), other.as_primitive::<Float64Type>());
        assert_eq!(wasmill.values(), other.values(), "{}, bundle {bundle}: {way}", work.id);
    } else {
        assert_eq!(wasmill, other, "{}, bundle {bundle}: {way}", work.id);
    }
}
