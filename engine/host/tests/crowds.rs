//! Many instances and several processes at once: nothing grows, and nothing is torn.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use support::{Answer, GuestText, OneRow, TestHost, setup};
use wasmill_host::{Capabilities, Engine, EngineConfig, Limits, Resource, Setup, UdfInstance, UdfModule};

const MODULES: usize = 10;
const INSTANCES: usize = 1000;
/// What the process may take on in one go of the work.
const GROWTH_BYTES_MAX: usize = 24 << 20;

fn guests() -> Vec<GuestText> {
    (0..MODULES as u32).map(|at| GuestText { pages: 4 + at, ..GuestText::default() }).collect()
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn run_good(instance: &mut UdfInstance<TestHost>) {
    let answer = Answer::of(&[7, 8], &[0, 0]).frame();
    assert_eq!(instance.run(&OneRow::new(&answer).bundle()).unwrap().output_rows(), 2);
}

/// The memory of the process is that of all its tests: one of these at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What leaks grows each time; allocators and pools only until they have what they need.
fn settles(mut work: impl FnMut()) {
    const TIMES: usize = 8;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut grown = Vec::new();
    while grown.len() < TIMES {
        let before = resident_bytes();
        work();
        match resident_bytes().saturating_sub(before) {
            0..=GROWTH_BYTES_MAX => return,
            more => grown.push(more >> 10),
        }
    }
    panic!("grew by {grown:?} KiB, each time more than {} KiB", GROWTH_BYTES_MAX >> 10);
}

/// Rounds of a thousand instances that all live at once, each having run. Every tenth trap, and its instance is lost.
fn come_and_go(time: Duration) {
    let engine = Engine::new(EngineConfig { instances_max: 1100, ..EngineConfig::default() }).unwrap();
    let guests = guests();
    let modules: Vec<UdfModule> = guests.iter().map(|guest| engine.load("parrot", &guest.build()).unwrap()).collect();
    let resource = Resource { name: "shared".into(), content: vec![7; 100_000].into() };
    let round = || {
        let mut alive = Vec::with_capacity(INSTANCES);
        for at in 0..INSTANCES {
            let (module, guest) = (&modules[at % MODULES], &guests[at % MODULES]);
            let setup = Setup { resources: vec![resource.clone()], ..setup(guest) };
            let host = TestHost::default();
            let mut instance = module.instantiate(setup, Limits::default(), Capabilities::default(), host).unwrap();
            run_good(&mut instance);
            if at % 10 == 0 {
                assert!(instance.run(&OneRow::new(b"no answer").bundle()).is_err());
                assert!(instance.is_poisoned());
            }
            alive.push(instance);
        }
        assert_eq!(alive.len(), INSTANCES);
        // All of them, some time later.
        alive.iter_mut().filter(|instance| !instance.is_poisoned()).for_each(run_good);
    };
    settles(|| {
        let begun = Instant::now();
        while begun.elapsed() < time {
            round();
        }
    });
}

#[test]
fn a_thousand_instances_come_and_go() {
    come_and_go(Duration::from_secs(1));
}

#[test]
#[ignore = "takes a minute"]
fn a_thousand_instances_come_and_go_for_a_minute() {
    come_and_go(Duration::from_secs(60));
}

/// Modules that are compiled and forgotten leave nothing either.
#[test]
fn modules_come_and_go() {
    let engine = support::engine();
    let guest = |pages| GuestText { pages, ..GuestText::default() }.build();
    let load = |from: u32| {
        for pages in from..from + 40 {
            engine.load("x", &guest(pages)).unwrap();
        }
    };
    let mut from = 4;
    settles(|| {
        (0..3).for_each(|round| load(from + 40 * round));
        from += 120;
    });
}

// ---- two processes and one cache

const CACHE: &str = "WASMILL_TEST_CACHE";
const TIME_MAX: Duration = Duration::from_secs(120);

/// Name and content of every file.
fn entries(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

/// Loads every module through a cache, and runs it. `backwards`: the two processes meet in the middle.
fn fill(directory: &Path, backwards: bool) {
    let config = EngineConfig { cache_dir: Some(directory.into()), instances_max: 4, ..EngineConfig::default() };
    let engine = Engine::new(config).unwrap();
    let mut guests = guests();
    if backwards {
        guests.reverse();
    }
    for guest in guests {
        let module = engine.load("x", &guest.build()).unwrap();
        let host = TestHost::default();
        let mut instance = module.instantiate(setup(&guest), Limits::default(), Capabilities::default(), host).unwrap();
        run_good(&mut instance);
    }
}

fn process(test: &str, directory: &Path, backwards: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact"]).env(CACHE, directory).stdout(Stdio::null()).stderr(Stdio::null());
    if backwards {
        command.env("WASMILL_TEST_BACKWARDS", "1");
    }
    command.spawn().unwrap()
}

fn ends_well(mut child: Child) {
    let begun = Instant::now();
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return assert!(status.success(), "a process that filled the cache: {status}"),
            None if begun.elapsed() > TIME_MAX => {
                child.kill().unwrap();
                panic!("a process that fills the cache still runs");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[test]
fn two_processes_fill_one_cache_at_once() {
    const TEST: &str = "two_processes_fill_one_cache_at_once";
    if let Some(directory) = std::env::var_os(CACHE) {
        return fill(Path::new(&directory), std::env::var_os("WASMILL_TEST_BACKWARDS").is_some());
    }
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path(), false);
    let good = entries(directory.path());
    assert_eq!(good.len(), MODULES);
    for (round, same_way) in [true, false, true, false].into_iter().enumerate() {
        // Entries that are gone, cut off, damaged, another's, or empty; and what a process left behind that was killed.
        let contents: Vec<&Vec<u8>> = good.values().collect();
        for (at, (path, content)) in good.iter().enumerate() {
            let bad = match (at + round) % 5 {
                0 => {
                    std::fs::remove_file(path).unwrap();
                    continue;
                }
                1 => content[..content.len() / 2].to_vec(),
                2 => content
                    .iter()
                    .enumerate()
                    .map(|(i, byte)| if i == content.len() / 3 { !byte } else { *byte })
                    .collect(),
                3 => contents[(at + 1) % contents.len()].clone(),
                _ => Vec::new(),
            };
            std::fs::write(path, bad).unwrap();
        }
        let left = directory.path().join(".compiling-left");
        std::fs::write(&left, "half of a").unwrap();
        let children = [process(TEST, directory.path(), false), process(TEST, directory.path(), !same_way)];
        children.into_iter().for_each(ends_well);
        std::fs::remove_file(left).unwrap();
        let now = entries(directory.path());
        assert!(now.keys().eq(good.keys()), "nothing more and nothing less: {:?}", now.keys());
        assert!(now == good, "every entry is whole");
    }
}
