//! Guests written by hand, and hosts that remember: what the tests of this crate share.
//!
//! A [`GuestText`] is a core module in WebAssembly text with the answers of `describe` and `load-functions` laid out in its memory, made
//! into a component. Its bodies decide what `run-frame` does. The default one is a parrot: the first argument, of type binary, is the
//! frame that it answers with, so that a test can put any answer into a guest's mouth.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod sample;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray};
use arrow::datatypes::{DataType, Field};
use wasmill_host::{
    Binding, Bundle, Capabilities, Engine, EngineConfig, Fault, HostError, Limits, LogLevel, Operation, Setup, UdfHost,
    UdfInstance,
};

/// A state for [`GuestText`]: name, type, whether it is reached by call.
pub type State = (&'static str, &'static str, bool);

/// What the guest declares, and what it does.
pub struct GuestText {
    /// Discriminant of `kind`.
    pub kind: u8,
    /// Types of the arguments `a0`, `a1` …
    pub arguments: Vec<&'static str>,
    pub result: &'static str,
    pub states: Vec<State>,
    /// Body of `run(pointer, length) -> pointer to (pointer, length)`.
    pub run: String,
    /// Body of `resume`, likewise.
    pub resume: String,
    /// Body of `describe() -> pointer`.
    pub describe: Option<String>,
    /// Body of `load-functions(…) -> pointer`.
    pub load: Option<String>,
    /// What `cabi_realloc` does first, and what comes after an answer of `run-frame` has been read.
    pub realloc: String,
    pub post: String,
    /// Body of the start function.
    pub start: String,
    /// Further functions.
    pub functions: String,
    /// Further imports.
    pub imports: String,
    /// Pages of memory to begin with.
    pub pages: u32,
    /// Text of another WIT package to be a guest of.
    pub wit: Option<String>,
}

/// Answers with the value of the only row of the first argument: slot 2 is the data of `binary`, whose directory entry is at 64 + 16.
pub const PARROT: &str = "(i32.store (i32.const 16) (i32.add (local.get 0) (i32.load offset=80 (local.get 0))))
    (i32.store (i32.const 20) (i32.load offset=84 (local.get 0)))
    (i32.const 16)";

impl Default for GuestText {
    fn default() -> Self {
        Self {
            kind: 2,
            arguments: vec!["binary"],
            result: "int64",
            states: vec![],
            run: PARROT.to_string(),
            resume: PARROT.to_string(),
            describe: None,
            load: None,
            realloc: String::new(),
            post: String::new(),
            start: String::new(),
            functions: String::new(),
            imports: String::new(),
            pages: 4,
            wit: None,
        }
    }
}

/// Where the answers lie; the heap begins behind them, or here.
const DATA: u32 = 1024;
const HEAP_MIN: u32 = 65536;

struct Data {
    bytes: Vec<u8>,
}

impl Data {
    fn place(&mut self, bytes: &[u8]) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = DATA + self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        at
    }

    fn string(&mut self, text: &str) -> [u32; 2] {
        [self.place(text.as_bytes()), text.len() as u32]
    }

    fn words(&mut self, words: &[u32]) -> u32 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.place(&bytes)
    }
}

impl GuestText {
    /// The component, where `functions` are imports: they come before all else.
    pub fn build_importing(mut self) -> Vec<u8> {
        self.imports = std::mem::take(&mut self.functions);
        self.build()
    }

    /// The component.
    pub fn build(&self) -> Vec<u8> {
        let mut data = Data { bytes: Vec::new() };
        let mut arguments = Vec::new();
        for (i, argument) in self.arguments.iter().enumerate() {
            arguments.extend(data.string(&format!("a{i}")));
            arguments.extend(data.string(argument));
        }
        let mut states = Vec::new();
        for (name, data_type, call) in &self.states {
            states.extend(data.string(name));
            states.extend(data.string(data_type));
            states.push(u32::from(*call));
        }
        let (arguments_at, states_at) = (data.words(&arguments), data.words(&states));
        let (name, result) = (data.string("f"), data.string(self.result));
        let counts = [self.arguments.len() as u32, self.states.len() as u32];
        let function =
            [&name[..], &[u32::from(self.kind), arguments_at, counts[0], 1], &result, &[states_at, counts[1], 1, 0, 0]];
        let function_at = data.words(&function.concat());
        let loaded_at = data.words(&[result[0], result[1], states_at, counts[1]]);
        let describe_at = data.words(&[0, function_at, 1]);
        let load_at = data.words(&[0, loaded_at, 1]);
        let ok_at = data.words(&[0]);
        self.component(&data.bytes, describe_at, load_at, ok_at)
    }

    fn component(&self, data: &[u8], describe_at: u32, load_at: u32, ok_at: u32) -> Vec<u8> {
        let mut escaped = String::new();
        for byte in data {
            write!(escaped, "\\{byte:02x}").unwrap();
        }
        let heap = HEAP_MIN.max((DATA + data.len() as u32).next_multiple_of(HEAP_MIN));
        let pages = self.pages + (heap - HEAP_MIN) / HEAP_MIN;
        let Self { run, resume, start, functions, imports, realloc, post, .. } = self;
        let load = self.load.clone().unwrap_or(format!("(i32.const {load_at})"));
        let describe = self.describe.clone().unwrap_or(format!("(i32.const {describe_at})"));
        let text = format!(
            r#"(module
            {imports}
            (import "wasmill:udf/host@0.1.0" "panicked" (func $panicked (param i32 i32 i32 i32)))
            (import "wasmill:udf/host@0.1.0" "log" (func $log (param i32 i32 i32)))
            (import "wasmill:udf/state@0.1.0" "get" (func $get (param i32 i32 i32)))
            (import "wasmill:udf/state@0.1.0" "put" (func $put (param i32 i32 i32 i32 i32)))
            (import "wasmill:udf/state@0.1.0" "get-many" (func $get_many (param i32 i32 i32 i32)))
            (import "wasmill:udf/state@0.1.0" "put-many" (func $put_many (param i32 i32 i32 i32 i32 i32 i32)))
            (memory (export "memory") {pages})
            (global $heap (mut i32) (i32.const {heap}))
            (data (i32.const {DATA}) "{escaped}")
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                {realloc}
                (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
                (global.set $heap (i32.add (local.get $at) (local.get 3)))
                (block $room (loop $more
                    (br_if $room (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
                    (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
                    (br $more)))
                (local.get $at))
            {functions}
            (func $run (param i32 i32) (result i32) {run})
            (func $resume (param i32 i32) (result i32) {resume})
            (func (export "wasmill:udf/bundle@0.1.0#run-frame") (param i32 i32) (result i32)
                (call $run (local.get 0) (local.get 1)))
            (func (export "cabi_post_wasmill:udf/bundle@0.1.0#run-frame") (param i32) (global.set $heap (i32.const {heap})) {post})
            (func (export "wasmill:udf/bundle@0.1.0#resume-frame") (param i32 i32) (result i32)
                (call $resume (local.get 0) (local.get 1)))
            (func (export "wasmill:udf/control@0.1.0#describe") (result i32) {describe})
            (func (export "wasmill:udf/control@0.1.0#load-source") (param i32 i32) (result i32) (i32.const {ok_at}))
            (func (export "wasmill:udf/control@0.1.0#load-functions")
                (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {load})
            (func $start {start})
            (start $start))"#
        );
        self.encode(&text)
    }

    fn encode(&self, text: &str) -> Vec<u8> {
        let contract =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/udf.wit")).unwrap();
        let wit = self.wit.clone().unwrap_or(contract);
        let version = wit.split_once("wasmill:udf@").map_or("", |(_, rest)| rest.split(';').next().unwrap());
        let mut module = wat::parse_str(text.replace("@0.1.0", &format!("@{version}"))).unwrap();
        let mut resolve = wit_parser::Resolve::default();
        let package = resolve.push_source("udf.wit", &wit).unwrap();
        let world = resolve.select_world(&[package], None).unwrap();
        wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8)
            .unwrap();
        wit_component::ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
    }
}

/// Remembers log lines and serves state from a list.
#[derive(Default)]
pub struct TestHost {
    pub lines: Vec<(LogLevel, String)>,
    pub state: Vec<((u32, u32), Vec<u8>)>,
}

impl UdfHost for TestHost {
    fn log(&mut self, level: LogLevel, message: &str) {
        self.lines.push((level, message.to_string()));
    }

    fn state_get(&mut self, state: u32, key: u32, value: &mut Vec<u8>) -> Result<bool, String> {
        if key == 13 {
            return Err("disk on fire".to_string());
        }
        let found = self.state.iter().find(|(at, _)| *at == (state, key));
        value.extend(found.iter().flat_map(|(_, value)| value));
        Ok(found.is_some())
    }
}

/// The reference guest, built if it is not fresh.
pub fn reference() -> Vec<u8> {
    static BUILT: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let build = || {
        let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests");
        let status = std::process::Command::new(env!("CARGO"))
            .args([
                "build",
                "--release",
                "--target",
                "wasm32-wasip2",
                "--package",
                "wasmill-reference",
                "--target-dir",
                "target",
            ])
            .current_dir(&guests)
            .env_remove("RUSTFLAGS")
            .status()
            .expect("cargo runs");
        assert!(status.success(), "guests/reference does not build: is the target wasm32-wasip2 installed?");
        std::fs::read(guests.join("target/wasm32-wasip2/release/reference.wasm")).unwrap()
    };
    BUILT.get_or_init(build).clone()
}

pub fn engine() -> Engine {
    Engine::new(EngineConfig { instances_max: 10, ..EngineConfig::default() }).unwrap()
}

/// An engine whose compiled code outlives it, for guests that take long to compile.
pub fn cached_engine(instances_max: u32) -> Engine {
    let cache_dir = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled"));
    Engine::new(EngineConfig { instances_max, cache_dir, ..EngineConfig::default() }).unwrap()
}

pub fn field(text: &str, name: &str) -> Field {
    wasmill_host::data_type::parse(text).unwrap().to_field(name)
}

/// The setup of a guest of [`GuestText`].
pub fn setup(guest: &GuestText) -> Setup {
    let arguments = guest.arguments.iter().enumerate().map(|(i, text)| field(text, &format!("a{i}"))).collect();
    let binding =
        Binding { function: "f".into(), arguments, key: vec![], result: None, access: vec![], parameters: vec![] };
    Setup {
        job: "job".into(),
        operator: "operator".into(),
        subtask: 0,
        parallelism: 1,
        bindings: vec![binding],
        resources: vec![],
    }
}

pub fn open(guest: &GuestText, limits: Limits) -> Result<UdfInstance<TestHost>, HostError> {
    let module = engine().load("parrot", &guest.build())?;
    module.instantiate(setup(guest), limits, Capabilities::default(), TestHost::default())
}

/// A bundle of one row whose first argument is these bytes.
pub struct OneRow {
    arguments: Vec<ArrayRef>,
}

impl OneRow {
    pub fn new(bytes: &[u8]) -> Self {
        Self { arguments: vec![Arc::new(BinaryArray::from(vec![bytes]))] }
    }

    pub fn bundle(&self) -> Bundle<'_> {
        bundle(&self.arguments, 1)
    }
}

pub fn bundle(arguments: &[ArrayRef], rows: usize) -> Bundle<'_> {
    Bundle {
        function: 0,
        operation: Operation::Process,
        rows,
        arguments,
        first_row: 0,
        event_times: None,
        row_kinds: None,
        key_index: None,
        keys: 0,
        key_columns: &[],
        states: &[],
        sources: &[],
        watermark: i64::MIN,
        processing_time: 1_700_000_000_123,
        seed: 42,
    }
}

/// An effects frame, true or not.
pub struct Answer {
    pub status: u32,
    pub rows: u32,
    pub slots: Vec<Vec<u8>>,
}

impl Answer {
    /// Of an `int64` column without states: validity, values, source rows, row kinds, 3 timers, 7 errors, 2 reserved.
    pub fn of(values: &[i64], sources: &[u32]) -> Self {
        let mut slots = vec![vec![]; 16];
        slots[1] = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        slots[2] = numbers(sources);
        Self { status: 0, rows: values.len() as u32, slots }
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; (64 + 8 * self.slots.len()).next_multiple_of(64)];
        frame[0..4].copy_from_slice(b"WME1");
        frame[4..8].copy_from_slice(&(self.slots.len() as u32).to_le_bytes());
        frame[8..12].copy_from_slice(&self.status.to_le_bytes());
        frame[12..16].copy_from_slice(&self.rows.to_le_bytes());
        for (i, slot) in self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_empty()) {
            let start = frame.len() as u32;
            frame[64 + 8 * i..68 + 8 * i].copy_from_slice(&start.to_le_bytes());
            frame[68 + 8 * i..72 + 8 * i].copy_from_slice(&(slot.len() as u32).to_le_bytes());
            frame.extend_from_slice(slot);
            frame.resize(frame.len().next_multiple_of(64), 0);
        }
        frame
    }
}

pub fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Puts an answer into the mouth of a fresh parrot, and returns what the host makes of it.
pub fn parrot(guest: &GuestText, answer: &[u8]) -> Result<wasmill_host::Effects, Fault> {
    open(guest, Limits::default()).unwrap().run(&OneRow::new(answer).bundle())
}

pub fn any_field(data_type: DataType) -> Field {
    Field::new("c", data_type, true)
}
