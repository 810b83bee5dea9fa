//! Compiles, caches, instantiates and calls one UDF component.
#![warn(missing_docs)]

pub mod data_type;
pub mod source_section;

mod bundle;
mod declare;
mod fault;
mod error;
mod limits;

mod engine;
mod cache;
mod linker;
mod wasi;
mod context;
mod overlay;

mod module;
mod contract;
mod instance;
mod guard;

mod plan;
mod effects;
mod column;
mod frame;
mod value;

#[cfg(test)]
mod vectors_tests;

pub use bundle::{Bundle, Effects, Operation, Output, RowError, StateCall, StateWrites};
pub use declare::{
    Access, ArgumentDeclaration, Binding, FunctionDeclaration, Kind, Loaded, Resource, Setup, SourceFile, StateDeclaration,
};
pub use engine::{Engine, EngineConfig};
pub use error::HostError;
pub use fault::{Fault, FaultKind};
pub use instance::{LogLevel, UdfHost, UdfInstance};
pub use limits::{Capabilities, Limits};
pub use module::UdfModule;

/// Version of the contract (`wit/`) that this host speaks.
pub const CONTRACT_VERSION: &str = "0.1.0";
