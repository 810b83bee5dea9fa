//! Compiles, caches, instantiates and calls one UDF component.
#![warn(missing_docs)]

pub mod data_type;
pub mod source_section;

mod bundle;
mod declare;
mod error;
mod fault;
mod limits;

mod cache;
mod context;
mod engine;
mod linker;
mod overlay;
mod wasi;

mod contract;
mod guard;
mod instance;
mod module;

mod column;
mod effects;
mod frame;
mod plan;
mod value;

#[cfg(test)]
mod vectors_tests;

pub use bundle::{Bundle, Effects, Operation, Output, RowError, StateCall, StateWrites};
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

/// Version of the contract (`wit/`) that this host speaks.
pub const CONTRACT_VERSION: &str = "0.1.0";
