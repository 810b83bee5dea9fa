//! Calls into guests written by hand: what comes back, and what becomes of a guest that fails.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use support::{Answer, GuestText, OneRow, open};
use wasmill_host::{FaultKind, Limits};

#[test]
fn an_answer_becomes_effects() {
    let mut instance = open(&GuestText::default(), Limits::default()).unwrap();
    for round in 0..3 {
        let answer = Answer::of(&[7, 8, round], &[0, 0, 0]).frame();
        let effects = instance.run(&OneRow::new(&answer).bundle()).unwrap();
        assert_eq!(effects.outputs.len(), 1);
        assert_eq!(effects.outputs[0].column.as_primitive::<Int64Type>().values(), &[7, 8, round]);
        assert_eq!(effects.outputs[0].source_rows.as_deref(), Some(&[0, 0, 0][..]));
        assert_eq!(effects.outputs[0].row_kinds, None);
    }
}

/// Runs a bundle through a guest that fails; returns how.
fn fails(guest: GuestText, limits: Limits) -> wasmill_host::Fault {
    let mut instance = open(&guest, limits).unwrap();
    let row = OneRow::new(b"x");
    let fault = instance.run(&row.bundle()).unwrap_err();
    let again = instance.run(&row.bundle()).unwrap_err();
    assert_eq!(again.kind, FaultKind::Poisoned, "{again}");
    assert!(again.to_string().contains(&fault.message), "{again}");
    fault
}

#[test]
fn a_trap_is_named_with_its_backtrace() {
    let run = "(i32.store (i32.const 0) (i32.div_u (i32.const 1) (i32.const 0))) unreachable";
    let fault = fails(GuestText { run: run.into(), ..GuestText::default() }, Limits::default());
    assert_eq!(fault.kind, FaultKind::Trap);
    assert_eq!(fault.to_string(), r#"udf "parrot" function "f" trapped: integer divide by zero"#);
    assert!(fault.backtrace.contains("run"), "{}", fault.backtrace);
}

#[test]
fn a_panic_is_told_in_the_guests_words() {
    let run = "(call $panicked (i32.const 32) (i32.const 4) (i32.const 36) (i32.const 9)) unreachable";
    let functions = r#"(data (i32.const 32) "boomlib.rs:12")"#;
    let guest = GuestText { run: run.into(), functions: functions.into(), ..GuestText::default() };
    let fault = fails(guest, Limits::default());
    assert_eq!(fault.kind, FaultKind::Panic);
    assert_eq!(fault.location, "lib.rs:12");
    assert_eq!(fault.to_string(), r#"udf "parrot" function "f" panicked: boom (at lib.rs:12)"#);
}

#[test]
fn an_endless_loop_meets_its_deadline() {
    let limits = Limits { call_time_max: Duration::from_millis(50), ..Limits::default() };
    let begun = Instant::now();
    let fault = fails(GuestText { run: "(loop $l (br $l)) unreachable".into(), ..GuestText::default() }, limits);
    assert_eq!(fault.kind, FaultKind::Deadline);
    assert_eq!(
        fault.message,
        "ran longer than 50 ms for a bundle of 1 row: make it faster, lower bundle.size, or raise udfs.parrot.timeout"
    );
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

#[test]
fn endless_recursion_meets_its_stack() {
    let functions = "(func $down (param i32) (result i32) (i32.add (i32.const 1) (call $down (local.get 0))))";
    let run = "(call $down (i32.const 0))";
    let fault =
        fails(GuestText { run: run.into(), functions: functions.into(), ..GuestText::default() }, Limits::default());
    assert_eq!(fault.kind, FaultKind::StackOverflow);
    assert!(fault.message.starts_with("recursed deeper than its stack"), "{fault}");
}

#[test]
fn memory_beyond_the_limit_is_refused_and_named() {
    let run = "(if (i32.eq (memory.grow (i32.const 1024)) (i32.const -1)) (then unreachable)) (i32.const 0)";
    let limits = Limits { memory_bytes_max: 1 << 20, ..Limits::default() };
    let fault = fails(GuestText { run: run.into(), ..GuestText::default() }, limits);
    assert_eq!(fault.kind, FaultKind::MemoryLimit);
    assert_eq!(fault.message, "asked for 64.2 MiB of memory, limit 1 MiB: raise udfs.parrot.memory.max");
}

#[test]
fn memory_that_the_guest_begins_with_is_limited_too() {
    let limits = Limits { memory_bytes_max: 64 << 10, ..Limits::default() };
    let error = open(&GuestText::default(), limits).err().unwrap();
    assert!(error.to_string().contains("asked for 256 KiB of memory, limit 64 KiB"), "{error}");
}

#[test]
fn endless_more_meets_the_output_limit() {
    // An answer with status `more`, again and again, from where the bundle put it.
    let mut answer = Answer::of(&[1; 1000], &[0; 1000]);
    answer.status = 1;
    let keep = "(global $kept (mut i32) (i32.const 0))";
    let run = format!("(global.set $kept (i32.const 16)) {}", support::PARROT);
    let guest = GuestText { run, resume: "(global.get $kept)".into(), functions: keep.into(), ..GuestText::default() };
    let limits = Limits { output_bytes_max: 1 << 20, ..Limits::default() };
    let mut instance = open(&guest, limits).unwrap();
    let fault = instance.run(&OneRow::new(&answer.frame()).bundle()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::OutputLimit, "{fault}");
    assert!(fault.message.starts_with("sent out more than 1 MiB for a bundle of 1 row:"), "{fault}");
}

#[test]
fn a_row_that_ran_out_of_memory_learns_the_limit() {
    let one = support::numbers(&[0, 11]);
    let mut answer = Answer::of(&[], &[]);
    for (slot, bytes) in
        [(7, &support::numbers(&[0])[..]), (8, &one), (9, b"MemoryError"), (10, &[0; 8]), (12, &[0; 8])]
    {
        answer.slots[slot] = bytes.to_vec();
    }
    let run = format!("(drop (memory.grow (i32.const 1024))) {}", support::PARROT);
    let limits = Limits { memory_bytes_max: 1 << 20, ..Limits::default() };
    let mut instance = open(&GuestText { run, ..GuestText::default() }, limits).unwrap();
    let effects = instance.run(&OneRow::new(&answer.frame()).bundle()).unwrap();
    assert_eq!(effects.errors[0].kind, "MemoryError");
    assert_eq!(effects.errors[0].message, "asked for 64.2 MiB of memory, limit 1 MiB: raise udfs.parrot.memory.max");
}

#[test]
fn a_huge_panic_message_is_cut() {
    // A part of the memory with nothing but zeros.
    let run =
        "(call $panicked (i32.const 131072) (i32.const 100000) (i32.const 131072) (i32.const 100000)) unreachable";
    let fault = fails(GuestText { run: run.into(), ..GuestText::default() }, Limits::default());
    assert_eq!(fault.kind, FaultKind::Panic);
    assert!(fault.message.len() < 17 << 10 && fault.location.len() < 17 << 10);
}

#[test]
fn a_list_that_lies_outside_of_memory_is_a_lie() {
    let run = "(i32.store (i32.const 16) (i32.const -64)) (i32.store (i32.const 20) (i32.const 1024)) (i32.const 16)";
    let fault = fails(GuestText { run: run.into(), ..GuestText::default() }, Limits::default());
    assert_eq!(fault.kind, FaultKind::Lie, "{fault}");
}

#[test]
fn an_instance_can_move_to_another_thread() {
    let mut instance = open(&GuestText::default(), Limits::default()).unwrap();
    let answer = Answer::of(&[7], &[0]).frame();
    let run = move || instance.run(&OneRow::new(&answer).bundle()).unwrap().output_rows();
    assert_eq!(std::thread::spawn(run).join().unwrap(), 1);
}

#[test]
fn an_engine_ends_with_its_last_clone() {
    let threads =
        || std::fs::read_dir("/proc/self/task").unwrap().filter(|task| is_ticker(task.as_ref().unwrap())).count();
    let engine = support::engine();
    let clone = engine.clone();
    let waits_for = |wanted: fn(usize) -> bool| {
        let begun = Instant::now();
        while !wanted(threads()) && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(wanted(threads()), "{} tickers", threads());
    };
    // A thread gives itself its name, some time after it was started.
    waits_for(|tickers| tickers >= 1);
    drop(engine);
    drop(clone);
    // Other tests have engines of their own: none of them may outlive its test.
    waits_for(|tickers| tickers == 0);
}

fn is_ticker(task: &std::fs::DirEntry) -> bool {
    std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "wasmill-ticker")
}
