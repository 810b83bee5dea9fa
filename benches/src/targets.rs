//! What the figures must reach, and what limits those that do not.

use crate::figures::{Figure, WayName};

/// Of Wasmill's figure on one row of a table.
#[derive(Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// At least so many times the native pace on the same row.
    OfNative(f64),
}
use Goal::{AtLeast, AtMost, OfNative};

const M: f64 = 1e6;

/// Of resident memory: pages that the allocator keeps or gives back by chance are no growth. A leak of one byte in ten rows would be as much.
const GROWTH_MB_MAX: f64 = 1.0;

/// Id, stat, bundle, goal.
const TARGETS: [(&str, &str, usize, Goal); 37] = [
    ("rust-add", "median", 1, AtLeast(M)),
    ("rust-add", "median", 10_000, AtLeast(150.0 * M)),
    ("rust-work", "median", 1000, OfNative(1.0 / 1.25)),
    ("rust-work", "median", 10_000, OfNative(1.0 / 1.25)),
    ("rust-vectorized", "median", 1000, OfNative(1.0 / 4.0)),
    ("rust-vectorized", "median", 10_000, OfNative(1.0 / 4.0)),
    ("rust-keyed-average", "column", 10_000, AtLeast(20.0 * M)),
    ("rust-keyed-average", "batched", 10_000, AtLeast(8.0 * M)),
    ("rust-keyed-average", "single", 10_000, AtLeast(2.0 * M)),
    ("python-add", "median", 1, AtLeast(0.4 * M)),
    ("python-add", "median", 100, AtLeast(3.0 * M)),
    ("python-add", "median", 1000, AtLeast(4.5 * M)),
    ("python-add", "median", 10_000, AtLeast(5.0 * M)),
    ("python-keyed-average", "median", 1, AtLeast(0.4 * M)),
    ("python-keyed-average", "median", 1000, AtLeast(M)),
    ("python-keyed-average", "median", 1000, OfNative(0.7)),
    ("python-json", "median", 1000, AtLeast(0.55 * M)),
    ("python-json", "median", 1000, OfNative(1.4)),
    ("python-json", "two-cores", 1000, AtLeast(0.55 * M)),
    ("python-window", "median", 1000, AtLeast(M)),
    ("python-process", "median", 1000, AtLeast(1.2 * M)),
    ("latency-rust", "p50", 1000, AtMost(0.05)),
    ("latency-rust", "p99", 1000, AtMost(0.3)),
    ("latency-python", "p50", 1000, AtMost(0.1)),
    ("latency-python", "p99", 1000, AtMost(0.5)),
    ("start", "median", 1000, AtMost(200.0)),
    ("memory", "job", 1000, AtMost(100.0)),
    ("memory", "instance", 1000, AtMost(3.0)),
    ("memory", "growth python-add", 1000, AtMost(GROWTH_MB_MAX)),
    ("memory", "growth python-keyed-average", 1000, AtMost(GROWTH_MB_MAX)),
    ("memory", "growth python-json", 1000, AtMost(GROWTH_MB_MAX)),
    ("memory", "growth python-window", 1000, AtMost(GROWTH_MB_MAX)),
    ("memory", "growth python-process", 1000, AtMost(GROWTH_MB_MAX)),
    ("scaling", "python-keyed-average", 1000, AtLeast(1.8)),
    ("scaling", "python-json", 1000, AtLeast(1.8)),
    ("rust-keyed-average", "batched", 1000, AtLeast(8.0 * M)),
    ("rust-keyed-average", "single", 1000, AtLeast(2.0 * M)),
];

/// By profile (`perf record` of the bench with one name): where the time goes in work whose target is missed.
const LIMITS: [(&str, &str); 0] = [];

/// What one row must reach, and whether it does: none where nothing is asked.
pub fn judge(figures: &[Figure], id: &str, stat: &str, bundle: usize) -> Vec<(Goal, bool)> {
    let find = |way| {
        let same =
            |figure: &&Figure| figure.id == id && figure.stat == stat && figure.bundle == bundle && figure.way == way;
        figures.iter().find(same).map(|figure| figure.value)
    };
    let Some(value) = find(WayName::Wasmill) else { return Vec::new() };
    let goals = TARGETS.iter().filter(|(of, its, rows, _)| (*of, *its, *rows) == (id, stat, bundle));
    let judged = goals.filter_map(|(.., goal)| {
        let reached = match *goal {
            AtLeast(least) => value >= least,
            AtMost(most) => value <= most,
            OfNative(share) => value >= share * find(WayName::Native)?,
        };
        Some((*goal, reached))
    });
    judged.collect()
}

/// Why an id misses what it must reach.
pub fn limit(id: &str) -> Option<&'static str> {
    LIMITS.iter().find(|(of, _)| *of == id).map(|(_, why)| *why)
}
