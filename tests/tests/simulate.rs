//! The simulator: random jobs with everything going wrong give what they give with nothing going wrong, and a broken protocol is
//! seen. `make simulate SEEDS=1000` runs more of it; `make simulate SEED=17` one seed alone.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmill_runtime::simulate::{Faults, SABOTAGES, Sabotage, Tally};
use wasmill_tests::simulator::Scenario;

const FAULTS: Faults = Faults {
    task_dies: 700,
    process_dies: 500,
    task_sleeps: 3000,
    stops: 100,
    savepoints: 150,
    swaps: 400,
    steps: 12_000,
};

/// Seeds of `make test`.
const SEEDS: u64 = 60;

/// By which a broken protocol must be seen.
const SABOTAGE_SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap())
}

/// Runs seeds on all cores until `stop` says so of one.
fn each(seeds: std::ops::Range<u64>, run: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || run(seed) {
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
    });
}

#[test]
fn faults_leave_no_trace() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => number("FROM").unwrap_or(0)..number("FROM").unwrap_or(0) + number("SEEDS").unwrap_or(SEEDS),
    };
    let total = Mutex::new(Tally::default());
    let failed = Mutex::new(Vec::new());
    each(seeds.clone(), |seed| {
        let scenario = Scenario::new(seed);
        let (difference, tally) = scenario.difference(FAULTS, None);
        let mut total = total.lock().unwrap();
        total.checkpoints += tally.checkpoints;
        total.steps += tally.steps;
        total.tasks_died += tally.tasks_died;
        total.processes_died += tally.processes_died;
        total.stops += tally.stops;
        total.savepoints += tally.savepoints;
        total.from_savepoints += tally.from_savepoints;
        total.swaps += tally.swaps;
        total.swaps_back += tally.swaps_back;
        total.restarts += tally.restarts;
        if let Some(difference) = difference {
            println!("seed {seed}: {difference}\n  {scenario:?}\n  again: make simulate SEED={seed}");
            failed.lock().unwrap().push(seed);
        }
        false
    });
    println!("seeds {seeds:?}: {:?}", total.lock().unwrap());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "seeds {failed:?} gave something else");
    let total = total.into_inner().unwrap();
    // A simulation in which nothing goes wrong proves nothing.
    let all_kinds = [
        total.tasks_died,
        total.processes_died,
        total.checkpoints,
        total.savepoints,
        total.from_savepoints,
        total.swaps,
        total.swaps_back,
    ];
    assert!(number("SEED").is_some() || all_kinds.iter().all(|times| *times > 0), "{total:?}");
}

fn is_caught(sabotage: Sabotage) {
    let caught = AtomicU64::new(u64::MAX);
    each(0..SABOTAGE_SEEDS, |seed| {
        let (difference, _) = Scenario::new(seed).difference(FAULTS, Some(sabotage));
        if difference.is_some() {
            caught.fetch_min(seed, Ordering::Relaxed);
        }
        difference.is_some()
    });
    let caught = caught.into_inner();
    println!("{sabotage:?}: caught by seed {caught}");
    assert!(caught < SABOTAGE_SEEDS, "{sabotage:?} was not seen in {SABOTAGE_SEEDS} seeds");
}

#[test]
fn a_broken_protocol_is_seen() {
    SABOTAGES.into_iter().for_each(is_caught);
}
