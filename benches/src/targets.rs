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
const TARGETS: [(&str, &str, usize, Goal); 43] = [
    ("rust-add", "median", 1, AtLeast(M)),
    ("rust-add", "median", 10_000, AtLeast(150.0 * M)),
    ("rust-work", "median", 1000, OfNative(1.0 / 1.25)),
    ("rust-work", "median", 10_000, OfNative(1.0 / 1.25)),
    ("rust-vectorized", "median", 1000, OfNative(1.0 / 4.0)),
    ("rust-vectorized", "median", 10_000, OfNative(1.0 / 4.0)),
    // No bundle is asked for: both large ones are judged.
    ("rust-keyed-average", "column", 1000, AtLeast(20.0 * M)),
    ("rust-keyed-average", "column", 10_000, AtLeast(20.0 * M)),
    ("rust-keyed-average", "batched", 1000, AtLeast(8.0 * M)),
    ("rust-keyed-average", "batched", 10_000, AtLeast(8.0 * M)),
    ("rust-keyed-average", "single", 1000, AtLeast(2.0 * M)),
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
    ("checkpoint-overhead", "of the pace without", 1000, AtLeast(0.95)),
    ("checkpoint-slow-udf", "barrier to manifest", 1000, AtMost(100.0)),
    ("snapshot", "full", 1000, OfNative(0.5)),
    ("restore", "start to first row", 1000, AtLeast(1.0)),
    ("disk-state", "10 k keys", 1000, OfNative(0.3)),
    ("scaling", "python-keyed-average", 1000, AtLeast(1.8)),
    ("scaling", "python-json", 1000, AtLeast(1.8)),
];

/// By profile (`perf record` of `wasmill run` on the work's job): where the time goes in work whose target is missed.
const LIMITS: [(&str, &str); 10] = [
    (
        "rust-add",
        "at bundle 1 the host, not the guest, which has a sixth: a third of the time is Wasmtime's way into the guest and back, \
         a third writing the frame, checking the answer and moving its row. No single function has more than a twentieth.",
    ),
    (
        "rust-keyed-average",
        "`column`: nearly half is the guest, a sixth finding each row's key and its slot; with bundles of 1000 every state of every \
         key travels there and back for each row, with 10,000 for ten. `batched`: a third is encoding and decoding values one by \
         one, on both sides. `single`: most is the component model's way out of the guest and back, each call with its own \
         lowering and lifting.",
    ),
    (
        "python-add",
        "CPython: nine tenths of the time are in the guest, half of that in its evaluator, a fifth in making and freeing integers. \
         The SDK's C code is a seventh, the host a twenty-fifth.",
    ),
    (
        "python-keyed-average",
        "from bundles of 1000 on, CPython's evaluator (over a quarter of all by itself), and making and freeing floats and \
         generators; the SDK's C code is about a tenth, the host less. At bundle 1 the host is half: keys, states \
         and frames for a single row.",
    ),
    (
        "python-json",
        "nine tenths are in the guest: a quarter of all is the parser in C, the rest making and freeing what it makes (CPython for \
         WASI has no allocator of its own for small objects) and CPython's evaluator.",
    ),
    (
        "python-window",
        "CPython's evaluator, the freeing of objects, and setting fields of the accumulator by name, which goes through \
         general attribute access. A window of ten rows a key also means a result for ten rows.",
    ),
    (
        "checkpoint-overhead",
        "the copy of a million keys' states in the task's thread, a few hundredths of a second for each checkpoint, and the cache that \
         the thread which writes takes from it. The rest of the task is finding keys in memory that no cache holds.",
    ),
    (
        "checkpoint-slow-udf",
        "a call that has begun is not interrupted: calls are cut to 20 ms, and every operator of the chain may be in one.",
    ),
    (
        "snapshot",
        "the copy of all states in the task's thread comes first; then parts are encoded on all cores while those before are written, \
         each synced. The disk beside it takes its bytes in one file, at times into the system's cache at the pace of a copy.",
    ),
    (
        "scaling",
        "the processor time of a row is the same with one subtask and with two (`time wasmill run`, 3 M rows: within a \
         twentieth), so that two subtasks add no work. What is missing is a second core that had something else to do.",
    ),
];

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
