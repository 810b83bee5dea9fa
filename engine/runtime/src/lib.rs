//! The stream processor: a validated [`graph::JobGraph`] runs as tasks on threads.
//!
//! ```text
//! job file ──▶ job_file::load ─┐
//!                              ├─▶ spec::JobSpec ─▶ validate::validate ─▶ graph::JobGraph ─▶ job::start
//! Rust ──────▶ spec ───────────┘
//! ```
//!
//! A task is one subtask of a chain of operators. Rows travel in [`batch::Batch`]es, watermarks in band with them.
//! A UDF is called in the thread of its task, a bundle at a time; what it answers is applied when it has returned.
//!
//! This crate names no connector (see [`connector`]) and no Wasm engine (that is `wasmill-host`).

pub mod call;
pub mod config;
pub mod duration;
pub mod job_file;
pub mod spec;
pub mod value;

mod assembly;
mod bind;
pub mod error;
pub mod graph;
pub mod python_files;
pub mod udf_file;
pub mod validate;

pub mod batch;
pub mod checkpoint;
pub mod connector;
pub mod control;
pub mod dead_letter;
mod exchange;
mod fixed;
#[doc(hidden)]
pub mod fuzz;
mod inputs;
pub mod job;
pub mod key;
pub mod metrics;
mod operator;
pub mod replay;
mod shared;
pub mod simulate;
mod source;
mod state;
mod supervisor;
mod task;

/// JSON Schema of job files, for editors.
pub const JOB_SCHEMA: &str = include_str!("job.schema.json");
