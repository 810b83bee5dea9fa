//! State by call: reads go through, writes stay in the bundle until it is done, lies are found out.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use support::{GuestText, OneRow, PARROT, TestHost, engine, setup};
use wasmill_host::{Bundle, Capabilities, Effects, Fault, FaultKind, Limits, StateCall};

/// An empty answer of a process function with one `int64` state by call, at address 4096: only a header and 16 absent slots.
const EMPTY: &str = r#"(data (i32.const 4096) "WME1\10")"#;
const GIVE_EMPTY: &str =
    "(i32.store (i32.const 16) (i32.const 4096)) (i32.store (i32.const 20) (i32.const 192)) (i32.const 16)";

fn run(body: &str, data: &str, keys: usize, limits: Limits) -> Result<Effects, Fault> {
    let guest = GuestText {
        kind: 7,
        states: vec![("s", "int64", true)],
        run: format!("{body} {GIVE_EMPTY}"),
        functions: format!("{EMPTY} {data}"),
        ..GuestText::default()
    };
    let module = engine().load("stateful", &guest.build()).unwrap();
    let host = TestHost { state: vec![((0, 1), vec![5, 0, 0, 0, 0, 0, 0, 0])], ..TestHost::default() };
    let mut instance = module.instantiate(setup(&guest), limits, Capabilities::default(), host).unwrap();
    let (row, index) = (OneRow::new(b""), [0]);
    let effects = instance.run(&Bundle { key_index: Some(&index), keys, ..row.bundle() })?;
    // What one bundle wrote is not seen by the next, unless the engine applies it.
    let again = instance.run(&Bundle { key_index: Some(&index), keys, ..row.bundle() })?;
    assert_eq!(effects.state_calls, again.state_calls);
    Ok(effects)
}

/// Adds one to the state of key 1: the value that `get` left at 512 + 8 (discriminant, pointer, length).
const ADD_ONE: &str = "(call $get (i32.const 0) (i32.const 1) (i32.const 512))
    (i64.store (i32.load offset=4 (i32.const 512)) (i64.add (i64.const 1) (i64.load (i32.load offset=4 (i32.const 512)))))
    (call $put (i32.const 0) (i32.const 1) (i32.const 1) (i32.load offset=4 (i32.const 512)) (i32.const 8))";

/// The writes of state 0, which is the only one.
fn calls(effects: &Effects) -> Vec<(u32, Option<Vec<u8>>)> {
    let write = |call: StateCall<'_>| {
        assert_eq!(call.state, 0);
        (call.key, call.value.map(<[u8]>::to_vec))
    };
    effects.state_calls.iter().map(write).collect()
}

fn value(number: i64) -> Option<Vec<u8>> {
    Some(number.to_le_bytes().to_vec())
}

#[test]
fn a_write_is_seen_by_later_reads_of_the_bundle() {
    let effects = run(&ADD_ONE.repeat(3), "", 3, Limits::default()).unwrap();
    assert_eq!(calls(&effects), [(1, value(8))]);
}

#[test]
fn writes_come_once_each_in_order_of_keys() {
    let put = |key: u32, some: u32| {
        format!("(call $put (i32.const 0) (i32.const {key}) (i32.const {some}) (i32.const 600) (i32.const 8))")
    };
    let body = [put(2, 1), put(0, 1), put(2, 0), put(1, 0), put(1, 1)].concat();
    let effects = run(&body, r#"(data (i32.const 600) "\07")"#, 3, Limits::default()).unwrap();
    assert_eq!(calls(&effects), [(0, value(7)), (1, value(7)), (2, None)]);
}

#[test]
fn many_are_read_and_written_at_once() {
    // Keys 0, 1 at 700; get-many leaves (ends pointer, length, values pointer, length) at 512, which goes into put-many as it is.
    let body = "(call $get_many (i32.const 0) (i32.const 700) (i32.const 2) (i32.const 512))
        (call $put_many (i32.const 0) (i32.const 700) (i32.const 2) (i32.load offset=0 (i32.const 512)) (i32.load offset=4 (i32.const 512))
            (i32.load offset=8 (i32.const 512)) (i32.load offset=12 (i32.const 512)))";
    let effects = run(body, r#"(data (i32.const 700) "\00\00\00\00\01\00\00\00")"#, 2, Limits::default()).unwrap();
    assert_eq!(calls(&effects), [(0, None), (1, value(5))]);
}

#[test]
fn of_two_writes_of_one_key_in_one_call_the_last_counts() {
    let body = "(call $put_many (i32.const 0) (i32.const 700) (i32.const 2) (i32.const 712) (i32.const 2) (i32.const 600) (i32.const 16))";
    let data = r#"(data (i32.const 700) "\01\00\00\00\01\00\00\00\00\00\00\00\08\00\00\00\10\00\00\00")
        (data (i32.const 600) "\05\00\00\00\00\00\00\00\07\00\00\00\00\00\00\00")"#;
    let effects = run(body, data, 3, Limits::default()).unwrap();
    assert_eq!(calls(&effects), [(1, value(7))]);
}

#[test]
fn calls_that_are_lies_end_the_bundle() {
    let get = |state: u32, key: u32| format!("(call $get (i32.const {state}) (i32.const {key}) (i32.const 512))");
    let put = |length: u32| {
        format!("(call $put (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 600) (i32.const {length}))")
    };
    let many = |keys: u32, ends: u32, bytes: u32| {
        format!(
            "(call $put_many (i32.const 0) (i32.const 700) (i32.const {keys}) (i32.const 704) (i32.const {ends}) (i32.const 600) (i32.const {bytes}))"
        )
    };
    for (body, says) in [
        (get(1, 0), "it asked for state 1 of 1"),
        (get(0, 3), "it asked for the state of key 3 of 3"),
        (get(u32::MAX, u32::MAX), "it asked for state 4294967295 of 1"),
        (put(7), "it put a value into state 0 of key 0 that is none: the value ends 1 bytes early"),
        (put(9), "1 bytes behind the value"),
        (many(1, 2, 0), "it put 2 values for 1 keys"),
        (many(1, 1, 7), "it put values whose ends are wrong at 8 of 7"),
        (many(1, 1, 9), "it put 1 bytes behind the last value"),
        (many(1, 1 << 20, 0), "out of bounds"),
    ] {
        let fault = run(&body, r#"(data (i32.const 704) "\08")"#, 3, Limits::default()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Lie, "{fault}");
        assert!(fault.message.contains(says), "{says}: {fault}");
    }
}

#[test]
fn state_that_the_engine_cannot_read_is_not_the_guests_fault() {
    let fault = run("(call $get (i32.const 0) (i32.const 13) (i32.const 512))", "", 20, Limits::default()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Host);
    assert_eq!(fault.message, "could not read state 0 of key 13: disk on fire");
}

#[test]
fn calls_and_values_without_end_meet_their_limits() {
    let forever =
        "(loop $l (call $put (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 600) (i32.const 8)) (br $l))";
    let fault = run(forever, "", 1, Limits { host_calls_per_bundle_max: 1000, ..Limits::default() }).unwrap_err();
    assert_eq!(fault.kind, FaultKind::CallLimit);
    assert!(fault.message.starts_with("called the host more than 1000 times for a bundle of 1 row:"), "{fault}");
    let flood = "(local $k i32) (loop $l
        (call $put (i32.const 0) (local.get $k) (i32.const 1) (i32.const 600) (i32.const 8))
        (local.set $k (i32.add (local.get $k) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $k) (i32.const 100000))))";
    let fault = run(flood, "", 100_000, Limits { output_bytes_max: 1 << 20, ..Limits::default() }).unwrap_err();
    assert_eq!(fault.kind, FaultKind::OutputLimit, "{fault}");
}

#[test]
fn state_outside_of_a_bundle_is_a_lie() {
    let guest = GuestText {
        kind: 7,
        states: vec![("s", "int64", true)],
        describe: Some("(call $get (i32.const 0) (i32.const 0) (i32.const 512)) unreachable".to_string()),
        run: PARROT.to_string(),
        ..GuestText::default()
    };
    let error = engine().load("early", &guest.build()).unwrap().describe(&Limits::default()).unwrap_err();
    assert!(error.to_string().contains("it asked for state outside of a bundle"), "{error}");
}
