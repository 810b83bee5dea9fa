//! A compiled UDF.
use crate::declare::{FunctionDeclaration, Setup, SourceFile};
use crate::error::HostError;
use crate::instance::{UdfHost, UdfInstance};
use crate::limits::{Capabilities, Limits};

/// A compiled UDF, from which instances are made. Cheap to clone.
#[derive(Clone)]
pub struct UdfModule {
    name: String,
}

impl UdfModule {
    /// As given to [`Engine::load`](crate::Engine::load).
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Interfaces that the component imports besides the contract's, such as `wasi:clocks/wall-clock@0.2.6`, sorted.
    pub fn imports(&self) -> Vec<String> {
        unimplemented!()
    }
    /// The same module with files for its interpreter, handed to `load-source` in each new instance before anything else.
    pub fn with_source(&self, files: Vec<SourceFile>) -> UdfModule {
        unimplemented!("{files:?}")
    }
    /// What it offers, asked once in a throw-away instance.
    pub fn describe(&self, limits: &Limits) -> Result<Vec<FunctionDeclaration>, HostError> {
        unimplemented!("{limits:?}")
    }
    /// Makes an instance and opens its functions.
    pub fn instantiate<H: UdfHost>(
        &self,
        setup: Setup,
        limits: Limits,
        capabilities: Capabilities,
        host: H,
    ) -> Result<UdfInstance<H>, HostError> {
        unimplemented!("{setup:?} {limits:?} {capabilities:?} {}", std::mem::size_of_val(&host))
    }
}
