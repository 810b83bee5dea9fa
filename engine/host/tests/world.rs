//! What a guest sees of the world: an empty machine whose clock and randomness belong to the bundle.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use support::{TestHost, bundle, cached_engine};
use wasmill_host::{Binding, Bundle, Capabilities, FaultKind, Limits, LogLevel, Setup, UdfInstance, UdfModule};

/// The guest in `tests/guest`, built if it is not fresh.
fn module() -> UdfModule {
    static MODULE: OnceLock<UdfModule> = OnceLock::new();
    let build = || {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--release", "--target", "wasm32-wasip2", "--target-dir"])
            .arg(&target)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest"))
            .env_remove("RUSTFLAGS")
            .status()
            .unwrap();
        assert!(status.success(), "tests/guest does not build: is the target wasm32-wasip2 installed?");
        let wasm = std::fs::read(target.join("wasm32-wasip2/release/guest.wasm")).unwrap();
        cached_engine(20).load("guest", &wasm).unwrap()
    };
    MODULE.get_or_init(build).clone()
}

fn open(function: &str, data_type: DataType, limits: Limits, capabilities: Capabilities) -> UdfInstance<TestHost> {
    let arguments = vec![Field::new("x", data_type, false)];
    let binding =
        Binding { function: function.into(), arguments, key: vec![], result: None, access: vec![], parameters: vec![] };
    let setup = Setup { bindings: vec![binding], parallelism: 1, ..Setup::default() };
    module().instantiate(setup, limits, capabilities, TestHost::default()).unwrap()
}

fn open_int(function: &str) -> UdfInstance<TestHost> {
    open(function, DataType::Int64, Limits::default(), Capabilities::default())
}

fn run(instance: &mut UdfInstance<TestHost>, values: &[i64], time: i64, seed: u64) -> Vec<i64> {
    let arguments = [Arc::new(Int64Array::from(values.to_vec())) as ArrayRef];
    let bundle = Bundle { processing_time: time, seed, ..bundle(&arguments, values.len()) };
    let effects = instance.run(&bundle).unwrap();
    assert!(effects.errors.is_empty(), "{:?}", effects.errors);
    effects.outputs[0].column.as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn the_clock_is_the_bundles() {
    let mut instance = open_int("now");
    assert_eq!(run(&mut instance, &[0, 0], 1_700_000_000_123, 1), [1_700_000_000_123; 2]);
    assert_eq!(run(&mut instance, &[0], 5, 1), [5]);
    let real = Capabilities { real_clock: true, ..Capabilities::default() };
    let mut instance = open("now", DataType::Int64, Limits::default(), real);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    assert!((run(&mut instance, &[0], 5, 1)[0] - now).abs() < 60_000);
}

#[test]
fn a_sleep_takes_no_time_but_moves_the_clock() {
    let mut instance = open_int("sleeps");
    let begun = Instant::now();
    assert_eq!(run(&mut instance, &[3_600_000, 0, 50], 1000, 1), [3_600_000, 0, 50]);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn randomness_comes_from_the_seed() {
    // A hash map's keys are drawn once per thread of the guest: so a fresh instance each time.
    let draw = |seed: u64, capabilities| {
        let mut instance = open("random", DataType::Int64, Limits::default(), capabilities);
        run(&mut instance, &[1, 2], 0, seed)
    };
    let denied = Capabilities::default();
    let (first, again, other) = (draw(1, denied), draw(1, denied), draw(2, denied));
    assert_eq!(first, again);
    assert_ne!(first, other);
    let real = Capabilities { real_random: true, ..Capabilities::default() };
    assert_ne!(draw(1, real), draw(1, real));
}

#[test]
fn exit_is_a_fault() {
    let mut instance = open_int("exits");
    let arguments = [Arc::new(Int64Array::from(vec![3])) as ArrayRef];
    let fault = instance.run(&bundle(&arguments, 1)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Exit);
    assert!(fault.message.starts_with("called exit with status "), "{fault}");
}

#[test]
fn what_is_printed_is_logged_by_the_line() {
    let mut instance = open_int("prints");
    run(&mut instance, &[1, 2], 0, 0);
    let lines: Vec<_> = instance.host().lines.iter().map(|(level, line)| (*level, line.as_str())).collect();
    let out: Vec<_> = lines.iter().filter(|(level, _)| *level == LogLevel::Info).map(|(_, line)| *line).collect();
    let err: Vec<_> = lines.iter().filter(|(level, _)| *level == LogLevel::Warn).map(|(_, line)| *line).collect();
    assert_eq!(out, ["row 1", "half a line of 1, row 2"]);
    assert_eq!(err, ["trouble with 1", "trouble with 2"]);
}

#[test]
fn a_flood_of_lines_is_cut() {
    let limits = Limits { log_bytes_per_bundle_max: 1000, ..Limits::default() };
    let mut instance = open("floods", DataType::Int64, limits, Capabilities::default());
    run(&mut instance, &[5000], 0, 0);
    let lines = &instance.host().lines;
    assert!(lines.iter().map(|(_, line)| line.len() + 1).sum::<usize>() < 1100);
    assert!(lines.last().unwrap().1.ends_with("log lines of this bundle were dropped: print less"));
}

#[test]
fn the_machine_is_empty() {
    let mut instance = open("looks", DataType::Utf8, Limits::default(), Capabilities::default());
    let mut look = |what: &str| {
        let arguments = [Arc::new(StringArray::from(vec![what])) as ArrayRef];
        let effects = instance.run(&bundle(&arguments, 1)).unwrap();
        assert!(effects.errors.is_empty(), "{:?}", effects.errors);
        effects.outputs[0].column.as_string::<i32>().value(0).to_string()
    };
    assert_eq!(look("variables"), "0");
    assert_eq!(look("arguments"), "0");
    assert_eq!(look("stdin"), "\"\"");
    for what in [
        "thread",
        "write",
        "listen",
        "connect",
        "datagram",
        "resolve",
        "/etc/passwd",
        "/proc/self/environ",
        "../Cargo.toml",
        "Cargo.toml",
        "/",
        ".",
    ] {
        let found = look(what);
        assert!(found.starts_with("error: "), "{what}: {found}");
    }
    assert!(!Path::new("/tmp/wasmill-was-here").exists());
}
