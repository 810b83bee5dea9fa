//! What SECURITY.md promises, tried by guests that attack (`guests/hostile`), each as a job of its own with a good job beside it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "hostile/checker.rs"]
mod checker;

use std::time::Duration;

use checker::{Attack, Outcome, Ran};
use serde_json::Value;

const ATTEMPTS: &str = "with: { z: u.attempts(s) }";

/// Attempts of both languages that must all be told that they could not.
fn denied(attempts: &[&str]) {
    for attack in [Attack::rust(ATTEMPTS), Attack::python(ATTEMPTS)] {
        let (_, found) = attack.texts(attempts.iter().copied()).set("timeout: 5s").ends();
        assert_eq!(found.len(), attempts.len());
        for (attempt, found) in attempts.iter().zip(&found) {
            assert!(found.as_str().unwrap().starts_with("error: "), "{attempt}: {found}");
        }
    }
}

/// The same for Rust and Python.
fn both(node: &str) -> [Attack; 2] {
    [Attack::rust(node), Attack::python(node)]
}

fn texts(values: &[Value]) -> Vec<&str> {
    values.iter().map(|value| value.as_str().unwrap()).collect()
}

// ---- an empty machine

#[test]
fn files_cannot_be_read() {
    denied(&[
        "read:/etc/passwd",
        "read:/proc/self/environ",
        "read:/proc/self/mem",
        "read:/dev/urandom",
        "read:secret.txt",
        "read:./secret.txt",
        "read:../Cargo.toml",
        "read:../../../../../../../../etc/passwd",
        "read:/../etc/passwd",
        "read:link",
        "read:granted.txt",
        "list:/",
        "list:.",
        "list:..",
        "list:/proc/self/fd",
    ]);
}

#[test]
fn files_cannot_be_written() {
    let outside = std::env::temp_dir().join("wasmill-was-here");
    let write = format!("write:{}", outside.display());
    denied(&[
        &write,
        "write:here.txt",
        "write:/here.txt",
        "write:../here.txt",
        "write:/dev/shm/wasmill-was-here",
        "write:/proc/self/comm",
        "append:secret.txt",
        "append:granted.txt",
        "remove:secret.txt",
        "make:a/b",
        "link:/etc/passwd",
    ]);
    assert!(!outside.exists());
}

#[test]
fn a_resource_is_a_copy() {
    let attack = || Attack::rust("with: { z: u.scribbles(s) }, parallelism: 2").set("resources: [granted.txt]");
    for _ in 0..2 {
        // Each instance writes into its own, and none finds what another wrote; that the file is as before, the checker sees.
        let (_, found) = attack().texts(["a"; 20]).ends();
        assert_eq!(texts(&found), ["gX"; 20]);
    }
    let program = "from wasmill import ScalarFunction\nclass F(ScalarFunction):\n    def open(self, context):\n        self.content = context.get_resource('granted.txt')\n    def eval(self, x: int) -> str:\n        try:\n            self.content[0] = 88\n        except TypeError as error:\n            return f'{error}: {self.content!r}'\n";
    let (_, found) = Attack::program(program, "with: { z: u.F(x) }").set("resources: [granted.txt]").ends();
    assert_eq!(texts(&found), ["'bytes' object does not support item assignment: b'granted'"]);
}

#[test]
fn there_is_no_environment() {
    for attack in both(ATTEMPTS) {
        let (_, found) = attack.texts(["variables", "arguments", "stdin"]).ends();
        assert!(matches!(texts(&found)[..], ["[]", "[]", "\"\"" | "''"]), "{found:?}");
    }
    // The test's own process has both.
    assert!(std::env::vars().count() > 0 && std::env::args().count() > 0);
}

#[test]
fn there_is_no_network() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = format!("connect:{}", server.local_addr().unwrap());
    denied(&[
        &connect,
        "connect:127.0.0.1:80",
        "connect:169.254.169.254:80",
        "listen:127.0.0.1:0",
        "listen:0.0.0.0:0",
        "resolve:localhost:80",
        "resolve:example.com:80",
    ]);
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody connected");
    let (_, found) = Attack::rust(ATTEMPTS).texts(["datagram:127.0.0.1:0", "datagram:[::1]:0"]).ends();
    assert!(texts(&found).iter().all(|found| found.starts_with("error: ")), "{found:?}");
}

#[test]
fn there_are_no_threads_or_processes() {
    denied(&["thread", "process:/bin/true"]);
    let attempts = ["fork", "shell:true", "native:libc.so.6"];
    let (_, found) = Attack::python(ATTEMPTS).texts(attempts).ends();
    assert!(texts(&found).iter().all(|found| found.starts_with("error: ")), "{found:?}");
}

#[test]
fn no_clock_moves() {
    for (attack, expected) in both("with: { z: u.clocks(s) }").into_iter().zip(["0 ns, 0 ns", "0 ns, 0 ns, 0 ns"]) {
        let (_, found) = attack.set("timeout: 10s").ends();
        assert_eq!(texts(&found), [expected]);
    }
}

#[test]
fn randomness_repeats() {
    for make in [Attack::rust, Attack::python] {
        let draw = |grants: &str| {
            let (_, found) = make("with: { z: u.random(s) }").texts(["a", "b"]).set(grants).ends();
            found
        };
        let none = "grants: []";
        assert_eq!(draw(none), draw(none));
        assert_ne!(draw(none), draw("grants: [random]"), "it can be granted");
    }
}

#[test]
fn exit_ends_the_instance() {
    for attack in both(ATTEMPTS) {
        attack
            .texts(["exit:0"])
            .fails(&["udf \"u\" function \"attempts\" called exit with status 0: return from the function"]);
    }
    for attack in both(ATTEMPTS) {
        attack.texts(["exit:3"]).fails(&["called exit with status "]);
    }
    Attack::rust(ATTEMPTS).texts(["abort"]).fails(&["trapped: "]);
    Attack::python(ATTEMPTS).texts(["abort"]).fails(&["udf \"u\" function \"attempts\" "]);
}

// ---- time

const DEADLINE: [&str; 2] = ["ran longer than 200 ms for a bundle of 1 row", "raise udfs.u.timeout"];
const LOAD_DEADLINE: [&str; 2] = ["ran longer than 1 s to load", "raise udfs.u.load.timeout"];

#[test]
fn an_endless_function_ends() {
    for node in ["with: { z: u.loops(x) }", "with: { z: u.naps(x) }"] {
        for attack in both(node) {
            attack.fails(&DEADLINE);
        }
    }
    Attack::python("with: { z: u.holds_on(x) }").fails(&DEADLINE);
    Attack::python("with: { z: u.fails_slowly(x) }").fails(&DEADLINE);
    Attack::python("with: { z: u.powers(x) }").fails(&["udf \"u\" function \"powers\" "]);
}

#[test]
fn an_endless_open_ends() {
    Attack::rust("with: { z: u.loops_in_open(x) }").set("load.timeout: 1s").invalid(&LOAD_DEADLINE);
    Attack::python("with: { z: u.LoopsInOpen(x) }").set("load.timeout: 1s").invalid(&LOAD_DEADLINE);
}

#[test]
fn an_endless_program_ends() {
    // What has state is opened once without a job, to see which: in `describe`.
    let described = "from wasmill import KeyedProcessFunction\nclass F(KeyedProcessFunction):\n    result_type = 'int64'\n    def open(self, context):\n        while True:\n            pass\n    def process_element(self, value, ctx):\n        yield 1\n";
    for program in ["while True:\n    pass\n", described, "import re\nre.match('(a*)*b', 'a' * 40)\n"] {
        Attack::program(program, "with: { z: u.f(x) }").set("load.timeout: 1s").invalid(&LOAD_DEADLINE);
    }
}

#[test]
fn an_endless_destructor_ends() {
    for attack in both("with: { z: u.loops_in_drop(x) }") {
        attack.fails(&DEADLINE);
    }
    // An instance is dropped as a whole: nothing in it runs once more.
    for attack in both("with: { z: u.loops_when_dropped(x) }") {
        let (_, found) = attack.ends();
        assert_eq!(found, [2]);
    }
}

// ---- memory

#[test]
fn endless_recursion_ends() {
    Attack::rust("with: { z: u.recurses(x) }").fails(&["recursed deeper than its stack: recurse less deeply"]);
    for node in ["with: { z: u.recurses(x) }", "with: { z: u.recurses_in_c(x) }"] {
        Attack::python(node).set("timeout: 5s").fails(&["recursed deeper than its stack: recurse less deeply"]);
    }
}

#[test]
fn memory_ends_at_its_limit() {
    for node in ["with: { z: u.hoards_in_steps(x) }", "with: { z: u.hoards_at_once(x) }"] {
        Attack::rust(node).set("timeout: 5s").fails(&["of memory, limit 16 MiB: raise udfs.u.memory.max"]);
        let texts = ["MemoryError", "of memory, limit 64 MiB: raise udfs.u.memory.max"];
        Attack::python(node).set("timeout: 5s").fails(&texts);
    }
    Attack::python("with: { z: u.hoards_on(x) }").fails(&DEADLINE);
}

// ---- output

#[test]
fn endless_output_ends() {
    for node in ["flat_map: u.yields(x)", "flat_map: u.yields_text(x)"] {
        for attack in both(node) {
            let texts = ["sent out more than 4 MiB for a bundle of 1 row", "raise udfs.u.output.max"];
            attack.set("output.max: 4MiB").set("timeout: 5s").fails(&texts);
        }
    }
}

/// Lines of the log that a UDF may have for a bundle: 256 KiB, and one that says how many there were.
fn log_is_cut(ran: &Ran) {
    let bytes: usize = ran.log.iter().map(|(_, _, message)| message.len()).sum();
    assert!(bytes <= (256 << 10) + 100, "{bytes} bytes of log");
    let last = &ran.log.last().unwrap().2;
    assert!(last.ends_with("more log lines of this bundle were dropped: print less"), "{last}");
}

#[test]
fn a_flood_of_log_lines_is_cut() {
    for node in ["with: { z: u.logs(x) }", "with: { z: u.prints(x) }"] {
        for attack in both(node) {
            let (ran, _) = attack.numbers([100_000]).set("timeout: 10s").within(Duration::from_secs(30)).ends();
            log_is_cut(&ran);
        }
    }
}

#[test]
fn long_log_lines_are_cut() {
    let (ran, _) = Attack::rust("with: { z: u.logs_long(x) }").numbers([4]).set("timeout: 5s").ends();
    log_is_cut(&ran);
    let (ran, _) = Attack::python("with: { z: u.logs_long(x) }").numbers([4]).set("timeout: 5s").ends();
    assert!(ran.log.iter().all(|(_, _, line)| line.len() < 17 << 10), "{} lines", ran.log.len());
    let (ran, _) = Attack::rust("with: { z: u.prints_unended(x) }").numbers([4]).set("timeout: 5s").ends();
    log_is_cut(&ran);
    let (ran, _) = Attack::python("with: { z: u.prints_unended(x) }").numbers([4]).set("timeout: 5s").ends();
    assert!(ran.log.iter().all(|(_, _, line)| line.len() < 17 << 10), "{} lines", ran.log.len());
}

const LETTERS: &str = "dead-letters: { sink: jsonl, path: dead.jsonl }\n";

#[test]
fn long_errors_are_cut() {
    for attack in both("with: { z: u.fails_long(x) }") {
        let attack = attack.numbers([2; 20]).tail(LETTERS).set("on-error: dead-letter").set("timeout: 5s");
        let (ran, _) = attack.ends();
        let letters = std::fs::read_to_string(ran.folder.path().join("dead.jsonl")).unwrap();
        assert_eq!(letters.lines().count(), 20);
        assert!(letters.lines().all(|letter| letter.len() < 50 << 10), "{} bytes of letters", letters.len());
    }
    for attack in both("with: { z: u.fails_long(x) }") {
        attack.numbers([2]).set("timeout: 5s").fails(&["udf \"u\" function \"fails_long\" raised "]);
    }
    Attack::rust("with: { z: u.panics_long(x) }").numbers([4]).set("timeout: 5s").fails(&["panicked: ppp"]);
    Attack::python("with: { z: u.fails_with_a_long_name(x) }").numbers([4]).set("timeout: 5s").fails(&["raised EEE"]);
    Attack::python("with: { z: u.fails_to_say(x) }").set("timeout: 5s").fails(&["raised Mute"]);
    let program = "raise ValueError('e' * (4 << 20))\n";
    Attack::program(program, "with: { z: u.f(x) }").invalid(&["attack.py:1: ValueError: eee"]);
}

// ---- the host's interfaces

#[test]
fn endless_calls_end() {
    for attack in both("with: { z: u.calls_host(x) }") {
        attack.fails(&DEADLINE);
    }
}

#[test]
fn asking_for_too_much_is_refused() {
    let asks = |what: &'static str| Attack::rust("with: { z: u.asks(s) }").texts([what]).set("timeout: 2s");
    for (what, texts) in [
        ("zeroes", &["broke the contract", "cannot write more zeroes than"][..]),
        ("random", &["broke the contract", "9223372036854775807 random bytes at once, limit 1048576"]),
        ("write-blocking", &["broke the contract", "Buffer too large for blocking-write-and-flush"]),
        ("outside", &["broke the contract", "out of bounds"]),
        ("handles", &["broke the contract"]),
        ("pollables", &["broke the contract"]),
        ("polls", &["broke the contract", "handle limit exceeded"]),
        ("no-handle", &["broke the contract", "unknown handle index"]),
    ] {
        asks(what).fails(texts);
    }
    for what in ["stdin", "write"] {
        asks(what).ends();
    }
}

#[test]
fn what_turns_its_sdk_against_itself_harms_only_itself() {
    // Whatever the codec makes of it, it ends: well, or with a fault of this instance.
    let ran = Attack::python("with: { z: u.breaks_in(x) }").set("timeout: 2s").run();
    assert!(!matches!(ran.outcome, Outcome::Invalid(_)), "{:?}", ran.outcome);
}

#[test]
fn a_flood_of_state_is_cut() {
    let rust = ["FloodsColumn", "FloodsCall"].map(|name| Attack::rust(&format!("process: u.{name}(x), key: [x]")));
    let python = ["column", "call"].map(|access| {
        Attack::python(&format!("process: u.Floods, key: [x], state: {{ held: {{ access: {access} }} }}"))
    });
    for attack in rust.into_iter().chain(python) {
        let attack = attack.set("memory.max: 96MiB").set("output.max: 4MiB").set("timeout: 10s").numbers(0..16);
        // Of the halves that the bundle is tried in, those of up to 3 keys have room.
        let (_, _) = attack.within(Duration::from_secs(30)).ends();
    }
    let attack = Attack::rust("process: u.FloodsCall(x), key: [x]").set("output.max: 256KiB");
    attack.fails(&["sent out more than 256 KiB for a bundle of 1 row"]);
}

// ---- schemas and names

fn struct_of(columns: usize) -> String {
    let fields: Vec<String> = (0..columns).map(|at| format!("c{at}: int64")).collect();
    format!("struct<{}>", fields.join(", "))
}

#[test]
fn ten_thousand_columns_are_many() {
    let program = format!(
        "from wasmill import udf\n@udf(result_type='{}')\ndef f(x):\n    return tuple(range(10000))\n",
        struct_of(10_000)
    );
    let attack = Attack::program(&program, "with: { z: u.f(x) }").numbers(0..10).set("timeout: 10s");
    let (_, found) = attack.set("load.timeout: 10s").within(Duration::from_secs(30)).ends();
    assert_eq!(found.len(), 10);
    assert_eq!(found[9]["c9999"], 9999);
    let program =
        format!("from wasmill import udf\n@udf(result_type='{}')\ndef f(x):\n    return x\n", struct_of(200_000));
    // Refused for its length, or for the time that the runner takes to read it.
    Attack::program(&program, "with: { z: u.f(x) }").set("load.timeout: 2s").invalid(&["udf \"u\""]);
}

#[test]
fn types_without_a_bottom_are_refused() {
    for (open, close) in [("list<", ">"), ("struct<a: ", ">"), ("map<utf8, ", ">"), ("list<", "")] {
        let deep = format!("{}int64{}", open.repeat(20_000), close.repeat(20_000));
        let program = format!("from wasmill import udf\n@udf(result_type='{deep}')\ndef f(x):\n    return x\n");
        Attack::program(&program, "with: { z: u.f(x) }").invalid(&["udf \"u\""]);
    }
    // As deep in the data as the type is: and no deeper.
    let program = "from wasmill import udf\ndeep = []\nfor _ in range(100000):\n    deep = [deep]\n@udf(result_type='list<list<int64>>')\ndef f(x):\n    return deep\n";
    Attack::program(program, "with: { z: u.f(x) }").fails(&["udf \"u\" function \"f\" raised "]);
}

#[test]
fn names_cannot_move_the_cursor() {
    for name in ["\\x1b[2J", "a\\nerror: b", "a\\rb", "\\x00", "\\x9b1m"] {
        let program =
            format!("from wasmill import udf\n@udf(result_type='int64', name='{name}')\ndef f(x):\n    return x\n");
        let ran = Attack::program(&program, "with: { z: u.f(x) }").invalid(&["of a function has control characters"]);
        let Outcome::Invalid(text) = ran.outcome else { unreachable!() };
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    let name = "n".repeat(1 << 20);
    let program =
        format!("from wasmill import udf\n@udf(result_type='int64', name='{name}')\ndef f(x):\n    return x\n");
    Attack::program(&program, "with: { z: u.f(x) }").invalid(&["the name of a function has 1048576 bytes, limit 1000"]);
}

// ---- what reaches the connectors

#[test]
fn times_beyond_the_calendar_do_not_end_the_process() {
    for function in ["wild_date", "wild_time", "wild_timestamp"] {
        for sink in ["jsonl", "csv", "parquet", "print"] {
            // Parquet can hold them; a text cannot, and says so.
            let ran = Attack::rust(&format!("with: {{ z: u.{function}(x) }}")).sink(sink).run();
            let held = matches!(ran.outcome, Outcome::Ended(_));
            assert!(!matches!(ran.outcome, Outcome::Invalid(_)), "{function} into {sink}: {:?}", ran.outcome);
            assert_eq!(held, sink == "parquet", "{function} into {sink}: {:?}", ran.outcome);
        }
    }
}
