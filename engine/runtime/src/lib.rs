//! The stream processor: a validated [`graph::JobGraph`] runs as tasks on threads.
//!
//! ```text
//! job file ──▶ job_file::read ─┐
//!                              ├─▶ spec::JobSpec ─▶ validate::validate ─▶ graph::JobGraph ─▶ job::start
//! Rust ──────▶ spec ───────────┘
//! ```
//!
//! A task is one subtask of a chain of operators. Rows travel in [`batch::Batch`]es, watermarks in band with them.
//! A UDF is called in the thread of its task, a bundle at a time; what it answers is applied when it has returned.
//!
//! This crate names no connector (see [`connector`]) and no Wasm engine (that is `wasmill-host`).

pub mod spec;
pub mod job_file;
pub mod call;
pub mod value;
pub mod duration;
pub mod config;

pub mod validate;
pub mod graph;
pub mod udf_file;
pub mod error;
mod bind;

pub mod job;
pub mod metrics;
pub mod connector;
pub mod batch;
pub mod dead_letter;
pub mod key;
mod task;
mod source;
mod exchange;
mod operator;
mod state;
