//! Compiles, caches, instantiates and calls one UDF component, and believes nothing that it answers.
//!
//! A *UDF* is a WebAssembly component of the world `wasmill:udf` (`wit/udf.wit`; the bytes are in `wit/README.md`). This crate is
//! what stands between it and whoever owns the data. It knows nothing of jobs, channels or checkpoints.
//!
//! # Concepts
//!
//! ```text
//! Engine ── load(bytes) ──► UdfModule ── instantiate(Setup, Limits, Capabilities, host) ──► UdfInstance
//! one per process,           compiled code,        a Wasm store of its own, 40 KiB and up,
//! ticker, disk cache         shared, cheap          one thread at a time
//!
//!                 Bundle (Arrow arrays) ──► frame ──► guest ──► frame ──► Effects (Arrow arrays)
//!                        UdfInstance::run:   one copy in          validated, one copy out
//! ```
//!
//! - A [`Bundle`] is everything that a call may know: rows, keys, state, the time, a seed. [`Effects`] are everything that it did:
//!   rows out, state written, rows failed. A call is a function of the bundle's bytes and has done nothing until the caller applies
//!   its effects: one that fails can be run again, whole or in parts, on a fresh instance.
//! - A [`Binding`] is one use of one function. When functions are opened (in [`UdfModule::instantiate`]) each binding becomes a plan
//!   of slots; a call then writes and reads buffers by that plan, without looking at types again.
//! - State reaches the guest by column, with the bundle, or by call, through [`UdfHost::state_get`]. Writes by call stay in an
//!   overlay that the guest itself reads through, and come out with the effects.
//! - A [`Fault`] is a call that failed as a whole. It names the UDF, what it did, the limit and what to do. After any fault of the
//!   guest's the instance is *poisoned*: it will not be entered again. Drop it and make another, in microseconds.
//! - [`Limits`] bound memory, tables, time, stack, output, log and calls. [`Capabilities`] say what of the world is real; the default
//!   is nothing: clocks show the bundle's processing time, random numbers come from its seed, and there are no files, variables,
//!   arguments or addresses. What a guest prints is its log.
//!
//! # Rules
//!
//! - Nothing from the guest reaches Arrow unchecked: `effects.rs` and `column.rs` are the one gate.
//! - The guest runs on the caller's stack: a thread that calls UDFs needs [`EngineConfig::stack_bytes_max`] and 512 KiB. It must not
//!   be inside of an async task, for what WASI calls blocking blocks there (though nothing here ever waits).
//! - A compiled component is only ever loaded from bytes that this engine made: never accept one from a user.
//!
//! # Example
//!
//! ```no_run
//! use std::sync::Arc;
//! use arrow::array::{ArrayRef, Int64Array};
//! use wasmill_host::{
//!     Binding, Bundle, Capabilities, Engine, EngineConfig, Limits, LogLevel, Operation, Setup, UdfHost, data_type,
//! };
//!
//! struct Host;
//!
//! impl UdfHost for Host {
//!     fn log(&mut self, level: LogLevel, message: &str) {
//!         eprintln!("{level:?} {message}");
//!     }
//!     fn state_get(&mut self, _state: u32, _key: u32, _value: &mut Vec<u8>) -> Result<bool, String> {
//!         Ok(false)
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let engine = Engine::new(EngineConfig::default())?;
//!     let module = engine.load("numbers", &std::fs::read("numbers.wasm")?)?;
//!     for function in module.describe(&Limits::default())? {
//!         println!("{} {}", function.kind, function.name);
//!     }
//!     let arguments = vec![data_type::parse("int64")?.to_field("x")];
//!     let binding = Binding {
//!         function: "add_one".into(), arguments, key: vec![], result: None, access: vec![], parameters: vec![],
//!     };
//!     let setup = Setup { job: "example".into(), parallelism: 1, bindings: vec![binding], ..Setup::default() };
//!     let mut instance = module.instantiate(setup, Limits::default(), Capabilities::default(), Host)?;
//!     let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
//!     let effects = instance.run(&Bundle {
//!         function: 0, operation: Operation::Process, rows: 3, arguments: &[column], first_row: 0,
//!         event_times: None, row_kinds: None, key_index: None, keys: 0, key_columns: &[], states: &[], sources: &[],
//!         watermark: i64::MIN, processing_time: 0, seed: 0,
//!     })?;
//!     println!("{:?}", effects.outputs);
//!     Ok(())
//! }
//! ```
#![warn(missing_docs)]

pub mod data_type;
#[doc(hidden)]
pub mod fuzz;
pub mod source_section;
pub mod value_column;

mod bundle;
mod declare;
mod error;
mod fault;
mod limits;

mod cache;
mod engine;
mod guard;
mod instance;
mod module;

mod column;
mod effects;
mod frame;
mod plan;
mod recorded;
mod value;

mod context;
mod contract;
mod linker;
mod overlay;
mod wasi;

#[cfg(test)]
mod vectors_tests;

pub use bundle::{Bundle, Effects, Operation, Output, RowError, StateCall, StateCalls, StateWrites};
pub use declare::{
    Access, ArgumentDeclaration, Binding, FunctionDeclaration, Kind, Loaded, Resource, Setup, SourceFile,
    StateDeclaration,
};
pub use engine::{Engine, EngineConfig};
pub use error::HostError;
pub use fault::{Fault, FaultKind};
pub use instance::{LogLevel, UdfHost, UdfInstance};
pub use limits::{Capabilities, Limits};
pub use module::UdfModule;
pub use recorded::{RecordedBundle, RecordedBundleError};

/// Version of the contract (`wit/`) that this host speaks.
pub const CONTRACT_VERSION: &str = "0.1.0";
