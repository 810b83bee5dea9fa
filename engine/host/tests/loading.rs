//! What can be loaded and what cannot, the cache, and limits while loading.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::fs;
use std::time::Duration;

use support::{Answer, GuestText, OneRow, TestHost, engine, open, setup};
use wasmill_host::{Capabilities, Engine, EngineConfig, FaultKind, HostError, Limits, LogLevel};

#[test]
fn what_is_not_a_component_is_told_what_it_is() {
    let engine = engine();
    for (bytes, says) in [
        (&b""[..], "is not WebAssembly (it begins with nothing: it is empty)"),
        (b"#!/usr/bin/env python3", "is not WebAssembly (it begins with \"#!/usr/bin/env p\")"),
        (b"\0asm\x01\0\0\0", "is a core WebAssembly module, not a component"),
        (b"\0asm\x0d\0\x01\0\xff", "is cut off or damaged at byte 8"),
        (b"\0asm\x0d\0\x01\0\x01\x01\0", "does not compile"),
        (
            b"\0asm\x0d\0\x01\0",
            "is a component, but not a UDF: it has no export wasmill:udf/control@0.1.0; it exports nothing",
        ),
        (b"\0asm", "does not compile"),
    ] {
        let error = engine.load("x", bytes).unwrap_err().to_string();
        assert!(error.starts_with("udf \"x\"") && error.contains(says), "{error}");
    }
}

#[test]
fn a_component_of_another_version_is_told_both() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/udf.wit");
    let contract = fs::read_to_string(path).unwrap();
    for other in ["0.2.0", "0.1.1"] {
        let wit = Some(contract.replace("wasmill:udf@0.1.0", &format!("wasmill:udf@{other}")));
        let error = engine().load("x", &GuestText { wit, ..GuestText::default() }.build()).unwrap_err();
        assert!(matches!(error, HostError::ContractVersion { .. }), "{error}");
        assert!(error.to_string().contains(&format!("wasmill:udf@{other}, this engine speaks 0.1.0")), "{error}");
    }
}

#[test]
fn an_import_that_is_not_there_is_named() {
    let text = r#"(component (import "acme:db/query@1.0.0" (instance (export "run" (func)))))"#;
    let error = engine().load("x", &wat::parse_str(text).unwrap()).unwrap_err();
    assert!(matches!(error, HostError::MissingExport { .. }), "{error}");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/udf.wit");
    let wit = fs::read_to_string(path).unwrap() + "\n";
    let wit = wit.replace("world udf {", "interface query { run: func(); }\nworld udf {\n    import query;");
    let functions = r#"(import "wasmill:udf/query@0.1.0" "run" (func $query))"#.to_string();
    // Imports come first in a module: the hand-written guest has its own before.
    let guest = GuestText { wit: Some(wit), start: "(call $query)".into(), functions, ..GuestText::default() };
    let error = engine().load("x", &guest.build_importing()).unwrap_err();
    assert!(matches!(error, HostError::UnknownImport { .. }), "{error}");
    assert!(error.to_string().contains("query"), "{error}");
}

#[test]
fn declarations_against_the_contract_are_told() {
    let aggregate = |states| GuestText { kind: 6, states, ..GuestText::default() };
    for (guest, says) in [
        (
            GuestText { result: "int65", ..GuestText::default() },
            "function \"f\": result: \"int65\" is not a type: unknown type",
        ),
        (
            GuestText { arguments: vec!["list<any>"], ..GuestText::default() },
            "argument \"a0\": \"list<any>\" is not a type",
        ),
        (GuestText { kind: 3, ..GuestText::default() }, "a filter's result is bool, got int64"),
        (GuestText { kind: 7, states: vec![("s", "int64?", false)], ..GuestText::default() }, "is nullable at the top"),
        (
            GuestText { kind: 7, states: vec![("s", "int64", false); 2], ..GuestText::default() },
            "a second state of the name \"s\"",
        ),
        (aggregate(vec![("sum", "int64", false)]), "kind aggregate has exactly one state, \"accumulator\""),
        (aggregate(vec![("accumulator", "int64", true)]), "with access column"),
    ] {
        let mut guest = guest;
        guest.pages = 4;
        let module = engine().load("x", &guest.build()).unwrap();
        let error = module.describe(&Limits::default()).unwrap_err();
        assert!(matches!(error, HostError::Declaration { during: "describe", .. }), "{error}");
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

#[test]
fn describe_and_start_have_a_deadline_too() {
    let forever = "(loop $l (br $l))".to_string();
    let limits = Limits { load_time_max: Duration::from_millis(30), ..Limits::default() };
    let describes = GuestText { describe: Some(format!("{forever} unreachable")), ..GuestText::default() };
    let starts = GuestText { start: forever, ..GuestText::default() };
    for guest in [describes, starts] {
        let error = engine().load("x", &guest.build()).unwrap().describe(&limits).unwrap_err();
        let HostError::Fault { fault, .. } = &error else { panic!("{error}") };
        assert_eq!(fault.kind, FaultKind::Deadline, "{error}");
        assert!(fault.message.starts_with("ran longer than 30 ms to load"), "{error}");
    }
}

#[test]
fn log_lines_arrive_and_a_flood_is_bounded() {
    let log = |count: u32| {
        format!(
            "(local $i i32) (loop $l (call $log (i32.const 3) (i32.const 32) (i32.const 5))
            (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const {count}))))"
        )
    };
    let functions = r#"(data (i32.const 32) "hello")"#.to_string();
    for (count, lines, last) in [(2, 2, "hello"), (1000, 11, "990 more log lines of this bundle were dropped")] {
        let guest = GuestText {
            run: format!("{} {}", log(count), support::PARROT),
            functions: functions.clone(),
            ..GuestText::default()
        };
        let mut instance = open(&guest, Limits { log_bytes_per_bundle_max: 60, ..Limits::default() }).unwrap();
        for _ in 0..2 {
            instance.host_mut().lines.clear();
            instance.run(&OneRow::new(&Answer::of(&[], &[]).frame()).bundle()).unwrap();
            let got = &instance.host().lines;
            assert_eq!(got.len(), lines, "{got:?}");
            assert_eq!(got[0], (LogLevel::Warn, "hello".to_string()));
            assert!(got.last().unwrap().1.starts_with(last), "{got:?}");
        }
    }
}

#[test]
fn settings_that_cannot_be_had_are_told() {
    for (config, says) in [
        (
            EngineConfig { epoch_tick: Duration::ZERO, ..EngineConfig::default() },
            "epoch_tick is 0ns: choose at least 1 ms",
        ),
        (EngineConfig { instances_max: 0, ..EngineConfig::default() }, "instances_max is 0"),
        (EngineConfig { stack_bytes_max: 1, ..EngineConfig::default() }, "stack_bytes_max is 1"),
    ] {
        let error = Engine::new(config).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

fn cached(directory: &std::path::Path) -> Engine {
    Engine::new(EngineConfig { cache_dir: Some(directory.to_path_buf()), instances_max: 4, ..EngineConfig::default() })
        .unwrap()
}

fn works(engine: &Engine, guest: &GuestText) {
    let module = engine.load("x", &guest.build()).unwrap();
    let mut instance =
        module.instantiate(setup(guest), Limits::default(), Capabilities::default(), TestHost::default()).unwrap();
    instance.run(&OneRow::new(&Answer::of(&[1], &[0]).frame()).bundle()).unwrap();
}

fn entries(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_damaged_or_foreign_cache_entry_is_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let (guest, other) = (GuestText::default(), GuestText { pages: 5, ..GuestText::default() });
    works(&cached(directory.path()), &other);
    let foreign = fs::read(&entries(directory.path())[0]).unwrap();
    fs::remove_file(&entries(directory.path())[0]).unwrap();
    works(&cached(directory.path()), &guest);
    let path = entries(directory.path()).remove(0);
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let mut key = good.clone();
    let at = good.len() - 48;
    key[at] ^= 1;
    for bad in [&b""[..], &good[..100], &good[..good.len() - 1], &flipped, &key, &foreign, &[&good[..], &[0]].concat()]
    {
        fs::write(&path, bad).unwrap();
        works(&cached(directory.path()), &guest);
        assert!(fs::read(&path).unwrap() == good, "rebuilt as it was");
        assert_eq!(entries(directory.path()).len(), 1, "nothing is left behind");
    }
}

#[test]
fn a_cache_entry_is_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let guest = GuestText::default();
    works(&cached(directory.path()), &guest);
    let path = entries(directory.path()).remove(0);
    let made = fs::metadata(&path).unwrap().modified().unwrap();
    works(&cached(directory.path()), &guest);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), made);
}

#[test]
fn an_interpreter_is_loaded_from_its_file_or_the_cache() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, path) = (directory.path().join("cache"), directory.path().join("interpreter.wasm"));
    fs::write(&path, GuestText::default().build()).unwrap();
    works(&cached(&cache), &GuestText::default());
    let load = |engine: &Engine| engine.load_interpreter("x", &path);
    let made = |entry: &std::path::Path| fs::metadata(entry).unwrap().modified().unwrap();
    let before = made(&entries(&cache)[0]);
    load(&cached(&cache)).unwrap();
    assert_eq!(
        entries(&cache).iter().map(|entry| made(entry)).collect::<Vec<_>>(),
        [before],
        "the entry of `load` serves"
    );
    fs::write(&path, GuestText { pages: 5, ..GuestText::default() }.build()).unwrap();
    load(&cached(&cache)).unwrap();
    assert_eq!(entries(&cache).len(), 2, "another file is another component");
    load(&Engine::new(EngineConfig::default()).unwrap()).unwrap();
    fs::remove_file(&path).unwrap();
    for engine in [cached(&cache), Engine::new(EngineConfig::default()).unwrap()] {
        let error = load(&engine).unwrap_err();
        assert!(matches!(error, HostError::File { .. }), "{error}");
    }
}

#[test]
fn several_engines_fill_one_cache_at_once() {
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for pages in 4..8 {
                    works(&cached(directory.path()), &GuestText { pages, ..GuestText::default() });
                }
            });
        }
    });
    assert_eq!(entries(directory.path()).len(), 4);
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = cached(&file.path().join("below")).load("x", &GuestText::default().build()).unwrap_err();
    assert!(matches!(error, HostError::Cache { .. }), "{error}");
    assert!(error.to_string().contains("set WASMILL_CACHE_DIR"), "{error}");
}
