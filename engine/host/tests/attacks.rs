//! Guests written by hand that attack: each is held to its time and memory, is told what it did, and is not noticed by the instance
//! that runs beside it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use support::{Answer, GuestText, OneRow, TestHost, setup};
use wasmill_host::{Bundle, Capabilities, Engine, EngineConfig, FaultKind, HostError, Limits};

/// An attack takes this long at most; its limits are 200 ms, all else is for a busy machine.
const TIME_MAX: Duration = Duration::from_secs(10);
const FOREVER: &str = "(loop $l (br $l)) unreachable";

fn limits() -> Limits {
    Limits {
        memory_bytes_max: 16 << 20,
        call_time_max: Duration::from_millis(200),
        load_time_max: Duration::from_millis(200),
        output_bytes_max: 16 << 20,
        host_calls_per_bundle_max: 100_000,
        ..Limits::default()
    }
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(EngineConfig { instances_max: 20, ..EngineConfig::default() }).unwrap())
}

/// What came of an attack: the fault's kind, unless it was refused for what it says, and its text.
type Told = (Option<FaultKind>, String);

fn attack(guest: &GuestText, limits: &Limits, answer: &[u8]) -> Result<usize, Told> {
    let of_host = |error: HostError| match &error {
        HostError::Fault { fault, .. } => (Some(fault.kind), error.to_string()),
        _ => (None, error.to_string()),
    };
    let module = engine().load("parrot", &guest.build()).map_err(of_host)?;
    let mut instance = module
        .instantiate(setup(guest), limits.clone(), Capabilities::default(), TestHost::default())
        .map_err(of_host)?;
    let row = OneRow::new(answer);
    let index = [0];
    let bundle = Bundle { key_index: Some(&index), keys: 20, ..row.bundle() };
    // States by column are for other tests: here all are reached by call.
    let result = instance.run(&bundle);
    assert!(instance.memory_bytes() <= limits.memory_bytes_max);
    let lines: usize = instance.host().lines.iter().map(|(_, line)| line.len()).sum();
    assert!(lines <= limits.log_bytes_per_bundle_max + 100, "{lines} bytes of log");
    result.map(|effects| effects.output_rows()).map_err(|fault| (Some(fault.kind), fault.to_string()))
}

/// Runs an attack beside a good instance, in a thread of its own: a test must end even where nothing holds the guest.
fn held(guest: GuestText, limits: Limits, answer: &[u8]) -> Result<usize, Told> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let good = GuestText::default();
    let beside = engine().load("good", &good.build()).unwrap();
    let mut beside =
        beside.instantiate(setup(&good), Limits::default(), Capabilities::default(), TestHost::default()).unwrap();
    let memory_max = 8 * limits.memory_bytes_max + (32 << 20);
    let before = resident_bytes();
    let most = AtomicUsize::new(before);
    let stop = AtomicBool::new(false);
    let answer = answer.to_vec();
    let (done, ended) = channel();
    let begun = Instant::now();
    std::thread::spawn(move || done.send(attack(&guest, &limits, &answer)));
    let told = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let good = Answer::of(&[7, 8], &[0, 0]).frame();
                let effects = beside.run(&OneRow::new(&good).bundle()).unwrap();
                assert_eq!(effects.outputs[0].column.as_primitive::<Int64Type>().values(), &[7, 8]);
                most.fetch_max(resident_bytes(), Ordering::Relaxed);
            }
        });
        let told = ended.recv_timeout(TIME_MAX);
        stop.store(true, Ordering::Relaxed);
        told
    });
    let told = told.unwrap_or_else(|_| panic!("it still runs after {:?}, or the host panicked", begun.elapsed()));
    let grown = most.load(Ordering::Relaxed).saturating_sub(before);
    assert!(grown <= memory_max, "the process took on {} MiB, limit {} MiB", grown >> 20, memory_max >> 20);
    if let Err((_, text)) = &told {
        assert!(text.len() < 40 << 10 && !text.contains(char::is_control), "{text:?}");
    }
    told
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn fails_with(guest: GuestText, limits: Limits, kind: impl Into<Option<FaultKind>>, says: &[&str]) {
    let mut answer = Answer::of(&[], &[]);
    answer.status = 1;
    answer.slots.truncate(16);
    let (got, text) = held(guest, limits, &answer.frame()).unwrap_err();
    for says in says {
        assert!(text.contains(says), "{says:?} is not in {text}");
    }
    assert_eq!(got, kind.into(), "{text}");
}

fn run(body: &str) -> GuestText {
    GuestText { run: body.into(), ..GuestText::default() }
}

/// A guest with a state reached by call.
fn stateful(data_type: &'static str, body: &str) -> GuestText {
    GuestText { kind: 7, states: vec![("s", data_type, true)], ..run(body) }
}

fn leak(text: String) -> &'static str {
    text.leak()
}

#[test]
fn a_loop_ends_wherever_it_is() {
    let forever = FOREVER.to_string();
    let load = "ran longer than 200 ms to load: do less at import and in open, or raise udfs.parrot.load.timeout";
    let before: [GuestText; 4] = [
        GuestText { describe: Some(forever.clone()), ..GuestText::default() },
        GuestText { load: Some(forever.clone()), ..GuestText::default() },
        GuestText { start: forever.clone(), ..GuestText::default() },
        GuestText { realloc: forever.clone(), ..GuestText::default() },
    ];
    for guest in before {
        fails_with(guest, limits(), FaultKind::Deadline, &[load]);
    }
    let call =
        "ran longer than 200 ms for a bundle of 1 row: make it faster, lower bundle.size, or raise udfs.parrot.timeout";
    let during = [
        run(FOREVER),
        GuestText { resume: forever.clone(), ..GuestText::default() },
        GuestText { post: forever.clone(), ..GuestText::default() },
    ];
    for guest in during {
        fails_with(guest, limits(), FaultKind::Deadline, &[call]);
    }
}

/// The same answer, `more` and nothing else, again and again.
fn more_and_more() -> GuestText {
    let keep = "(global $kept (mut i32) (i32.const 0))";
    let run = format!(
        "(memory.copy (i32.const 196608) (i32.add (local.get 0) (i32.load offset=80 (local.get 0))) (i32.load offset=84 (local.get 0)))
        (i32.store (i32.const 20) (i32.load offset=84 (local.get 0))) {MORE}"
    );
    const MORE: &str = "(i32.store (i32.const 16) (i32.const 196608)) (i32.const 16)";
    GuestText { run, resume: MORE.into(), functions: keep.into(), ..GuestText::default() }
}

#[test]
fn more_of_nothing_ends() {
    fails_with(more_and_more(), limits(), FaultKind::OutputLimit, &["sent out more than 16 MiB for a bundle of 1 row"]);
    let patient = Limits { output_bytes_max: usize::MAX, ..limits() };
    fails_with(more_and_more(), patient, FaultKind::Deadline, &["ran longer than 200 ms"]);
}

#[test]
fn recursion_ends_wherever_it_is() {
    let down = "(func $down (param i32) (result i32) (i32.add (i32.const 1) (call $down (local.get 0))))
        (table $ways 1 funcref) (elem (i32.const 0) $around)
        (func $around (param i32) (result i32) (i32.add (i32.const 1) (call_indirect $ways (param i32) (result i32) (local.get 0) (i32.const 0))))";
    let says = ["recursed deeper than its stack: recurse less deeply"];
    for function in ["down", "around"] {
        let body = format!("(call ${function} (i32.const 0))");
        let guest = GuestText { functions: down.into(), ..run(&body) };
        fails_with(guest, limits(), FaultKind::StackOverflow, &says);
        let guest = GuestText { functions: down.into(), describe: Some(body.clone()), ..GuestText::default() };
        fails_with(guest, limits(), FaultKind::StackOverflow, &says);
        let guest = GuestText { functions: down.into(), realloc: format!("(drop {body})"), ..GuestText::default() };
        fails_with(guest, limits(), FaultKind::StackOverflow, &says);
    }
}

#[test]
fn memory_ends_at_its_limit() {
    let limit = "limit 16 MiB: raise udfs.parrot.memory.max";
    let steps = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    let once = "(if (i32.eq (memory.grow (i32.const 65000)) (i32.const -1)) (then unreachable)) (i32.const 0)";
    for body in [steps, once] {
        fails_with(run(body), limits(), FaultKind::MemoryLimit, &[limit]);
        let guest = GuestText { describe: Some(body.into()), ..GuestText::default() };
        fails_with(guest, limits(), FaultKind::MemoryLimit, &[limit, "(in describe)"]);
    }
    let start = steps.to_string();
    fails_with(GuestText { start, ..GuestText::default() }, limits(), FaultKind::MemoryLimit, &[limit]);
    let large = GuestText { pages: 60_000, ..GuestText::default() };
    fails_with(large, limits(), FaultKind::MemoryLimit, &["asked for 3.7 GiB of memory", limit]);
}

#[test]
fn tables_end_at_their_limit() {
    let says = ["asked for tables of ", "elements, limit 100000: use fewer function pointers"];
    let table = "(table $t 1 funcref)";
    let grow = |by: u32| format!("(table.grow $t (ref.null func) (i32.const {by}))");
    let steps = format!("(loop $l (br_if $l (i32.ne {} (i32.const -1)))) unreachable", grow(100));
    let once = format!("(if (i32.eq {} (i32.const -1)) (then unreachable)) (i32.const 0)", grow(u32::MAX / 2));
    for body in [steps, once] {
        let guest = GuestText { functions: table.into(), ..run(&body) };
        fails_with(guest, limits(), FaultKind::MemoryLimit, &says);
    }
    let large = GuestText { functions: "(table $t 150000 funcref)".into(), ..GuestText::default() };
    fails_with(large, limits(), FaultKind::MemoryLimit, &says);
}

const LOG: &str = "(call $log (i32.const 3) (i32.const 32) (i32.const 5))";
const PANICKED: &str = "(call $panicked (i32.const 32) (i32.const 4) (i32.const 36) (i32.const 9))";

#[test]
fn calls_of_the_host_end() {
    let says = ["called the host more than 100000 times for a bundle of 1 row: use get-many and put-many"];
    let state = [
        "(call $get (i32.const 0) (i32.const 1) (i32.const 512))",
        "(call $put (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0))",
        "(call $get_many (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))",
        "(call $put_many (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
    ];
    for call in [LOG, PANICKED].into_iter().chain(state) {
        let body = format!("(loop $l {call} (br $l)) unreachable");
        let patient = Limits { call_time_max: Duration::from_secs(5), ..limits() };
        fails_with(stateful("int64", &body), patient, FaultKind::CallLimit, &says);
    }
    let guest = GuestText { describe: Some(format!("(loop $l {LOG} (br $l)) unreachable")), ..GuestText::default() };
    let patient = Limits { load_time_max: Duration::from_secs(5), ..limits() };
    fails_with(guest, patient, FaultKind::CallLimit, &["called the host more than 100000 times"]);
}

/// Makes room for 15 MiB of zeros behind the first pages.
const GROW: &str = "(if (i32.eq (memory.grow (i32.const 240)) (i32.const -1)) (then unreachable))";

#[test]
fn arguments_that_lie_outside_of_memory_are_lies() {
    let all = -1;
    for call in [
        format!("(call $log (i32.const 3) (i32.const 32) (i32.const {all}))"),
        format!("(call $log (i32.const 3) (i32.const {all}) (i32.const 1))"),
        format!("(call $panicked (i32.const 32) (i32.const {all}) (i32.const 36) (i32.const {all}))"),
        format!("(call $get_many (i32.const 0) (i32.const 32) (i32.const {all}) (i32.const 512))"),
        format!("(call $put (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32) (i32.const {all}))"),
        format!(
            "(call $put_many (i32.const 0) (i32.const 32) (i32.const {all}) (i32.const 32) (i32.const {all}) (i32.const 32) (i32.const {all}))"
        ),
    ] {
        let guest = stateful("int64", &format!("{call} unreachable"));
        fails_with(guest, limits(), FaultKind::Lie, &["broke the contract: ", "rebuild it with the SDK"]);
    }
    // A level that there is none of, and a list that is not where numbers can be.
    let level = run("(call $log (i32.const 9) (i32.const 32) (i32.const 5)) unreachable");
    fails_with(level, limits(), FaultKind::Lie, &["broke the contract: "]);
    let keys = "(call $get_many (i32.const 0) (i32.const 33) (i32.const 1) (i32.const 512)) unreachable";
    fails_with(stateful("int64", keys), limits(), FaultKind::Lie, &["broke the contract: "]);
}

#[test]
fn arguments_as_large_as_memory_are_held_to_time_and_memory() {
    // 15 MiB of text in each line, and in a panic.
    let log = format!(
        "{GROW} (loop $l (call $log (i32.const 3) (i32.const 262144) (i32.const 15728640)) (br $l)) unreachable"
    );
    fails_with(run(&log), limits(), FaultKind::Deadline, &["ran longer than 200 ms"]);
    let panics = format!(
        "{GROW} (memory.fill (i32.const 262144) (i32.const 112) (i32.const 15728640))
        (call $panicked (i32.const 262144) (i32.const 8000000) (i32.const 262144) (i32.const 8000000)) unreachable"
    );
    fails_with(run(&panics), limits(), FaultKind::Panic, &["panicked: ppp"]);
    // Two million keys in one call, again and again: read, and written. What is read lies below what is asked for.
    let many = |call: &str| format!("{GROW} (loop $l (global.set $heap (i32.const 65536)) {call} (br $l)) unreachable");
    let get = "(call $get_many (i32.const 0) (i32.const 8000000) (i32.const 1900000) (i32.const 512))";
    fails_with(stateful("int64", &many(get)), limits(), FaultKind::Deadline, &["ran longer than 200 ms"]);
    let put = "(call $put_many (i32.const 0) (i32.const 262144) (i32.const 1900000) (i32.const 262144) (i32.const 1900000) (i32.const 0) (i32.const 0))";
    fails_with(stateful("struct<>", &many(put)), limits(), FaultKind::Deadline, &["ran longer than 200 ms"]);
    let impatient = Limits { call_time_max: Duration::from_nanos(1), ..limits() };
    let once = format!("{GROW} {put} unreachable");
    fails_with(stateful("struct<>", &once), impatient, FaultKind::Deadline, &["ran longer than "]);
    // One large value, named again and again in one call.
    let value = "(call $put (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 300000) (i32.const 1000004))";
    let again = "(call $get_many (i32.const 0) (i32.const 262144) (i32.const 1000) (i32.const 512))";
    let body = format!("{GROW} (i32.store (i32.const 300000) (i32.const 1000000)) {value} {again} unreachable");
    let says = ["it asked for more than 16777216 bytes of state at once"];
    fails_with(stateful("binary", &body), limits(), FaultKind::Lie, &says);
}

/// Answers `describe` with so many records of zeros, whose documentation is so long; all of them the same bytes.
fn describes(records: u32, documentation: u32) -> GuestText {
    let describe = format!(
        "(local $i i32) (if (i32.eq (memory.grow (i32.const 230)) (i32.const -1)) (then unreachable))
        (loop $l
            (i32.store offset=44 (i32.add (i32.const 262144) (i32.mul (local.get $i) (i32.const 52))) (i32.const 12582912))
            (i32.store offset=48 (i32.add (i32.const 262144) (i32.mul (local.get $i) (i32.const 52))) (i32.const {documentation}))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const {records}))))
        (i32.store (i32.const 512) (i32.const 0)) (i32.store (i32.const 516) (i32.const 262144))
        (i32.store (i32.const 520) (i32.const {records})) (i32.const 512)"
    );
    GuestText { describe: Some(describe), ..GuestText::default() }
}

#[test]
fn descriptions_without_end_are_refused() {
    let patient = || Limits { load_time_max: Duration::from_secs(5), ..limits() };
    let says = ["broke the contract: too much data is being copied"];
    fails_with(describes(1000, 1 << 20), patient(), FaultKind::Lie, &says);
    let says =
        ["answers describe against the contract: 50000 functions with 0 arguments and states, limits 10000 and 100000"];
    fails_with(describes(50_000, 0), patient(), None, &says);
    fails_with(describes(1, 0), patient(), None, &["or one without a name"]);
    let names: Vec<support::State> = (0..1001).map(|at| (leak(format!("s{at}")), "int64", true)).collect();
    let guest = GuestText { kind: 7, states: names, ..GuestText::default() };
    fails_with(guest, limits(), None, &["function \"f\": 1001 states, limit 1000"]);
}

/// What `load-functions` says must fit the bindings, whatever `describe` said.
#[test]
fn what_is_loaded_must_fit_what_was_asked_for() {
    let loads = |count: u32| {
        let load = format!(
            "(i32.store (i32.const 512) (i32.const 0)) (i32.store (i32.const 516) (i32.const 196608))
            (i32.store (i32.const 520) (i32.const {count})) (i32.const 512)"
        );
        GuestText { load: Some(load), ..GuestText::default() }
    };
    fails_with(loads(0), limits(), None, &["answers load-functions", "0 functions loaded for 1 bindings"]);
    fails_with(loads(2), limits(), None, &["answers load-functions", "2 functions loaded for 1 bindings"]);
    fails_with(loads(1), limits(), None, &["answers load-functions", "function \"f\": result: \"\" is not a type"]);
    fails_with(loads(u32::MAX), limits(), FaultKind::Lie, &["broke the contract: "]);
}

#[test]
fn names_are_short_and_plain() {
    let with = |name: &'static str| GuestText { kind: 7, states: vec![(name, "int64", true)], ..GuestText::default() };
    for (name, shown) in [("\x1b[2J", "\\u{1b}[2J"), ("a\nb", "a\\nb"), ("a\0", "a\\0"), ("\u{9b}1m", "\\u{9b}1m")] {
        fails_with(with(name), limits(), None, &[&format!("the name \"{shown}\" of a state has control characters")]);
    }
    let long = leak("n".repeat(100_000));
    fails_with(with(long), limits(), None, &["the name of a state has 100000 bytes, limit 1000"]);
}

#[test]
fn types_are_bounded() {
    let result = |result: &'static str| GuestText { result, ..GuestText::default() };
    let deep = leak(format!("{}int64{}", "list<".repeat(16), ">".repeat(16)));
    fails_with(result(deep), limits(), None, &["nests deeper than 16 levels: flatten the type"]);
    let deeper = leak("struct<a: ".repeat(100_000));
    fails_with(result(deeper), limits(), None, &["nests deeper than 16 levels"]);
    let struct_of = |columns: usize| {
        let fields: Vec<String> = (0..columns).map(|at| format!("column_{at}: int64?")).collect();
        leak(format!("struct<{}>", fields.join(", ")))
    };
    fails_with(
        result(struct_of(60_000)),
        Limits { load_time_max: Duration::from_secs(5), ..limits() },
        None,
        &["bytes of text, limit 1048576: split the struct into several columns"],
    );
    // 10,000 columns are many, and no attack.
    let wide = result(struct_of(10_000));
    let answer = Answer { status: 0, rows: 0, slots: vec![vec![]; 1 + 2 * 10_000 + 14] };
    let patient =
        || Limits { load_time_max: Duration::from_secs(5), call_time_max: Duration::from_secs(5), ..limits() };
    assert_eq!(held(wide, patient(), &answer.frame()), Ok(0));
    let mut answer = Answer { status: 0, rows: 1, slots: vec![vec![]; 1 + 2 * 10_000 + 14] };
    (0..10_000).for_each(|column| answer.slots[2 + 2 * column] = vec![1; 8]);
    assert_eq!(held(result(struct_of(10_000)), patient(), &answer.frame()), Ok(1));
    answer.slots[2 + 2 * 9_999] = vec![1; 7];
    let (kind, text) = held(result(struct_of(10_000)), patient(), &answer.frame()).unwrap_err();
    assert_eq!(kind, Some(FaultKind::Lie));
    assert!(text.contains("column_9999: a column of fixed width has 7 bytes, expected 8"), "{text}");
}
