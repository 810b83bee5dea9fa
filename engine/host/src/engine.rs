//! One wasmtime engine for the whole process.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::HostError;
use crate::module::UdfModule;

/// How the engine is set up. `Default` reads no environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Directory of compiled components. `None` (default): compile each time.
    pub cache_dir: Option<PathBuf>,
    /// Granularity of deadlines. Default 10 ms, at least 1 ms.
    pub epoch_tick: Duration,
    /// Instances that may live at once, of all UDFs together. Default 1000.
    pub instances_max: u32,
    /// Stack of a guest, in bytes, for all UDFs. Default 1 MiB. A thread that calls UDFs needs at least 512 KiB more.
    pub stack_bytes_max: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { cache_dir: None, epoch_tick: Duration::from_millis(10), instances_max: 1000, stack_bytes_max: 1 << 20 }
    }
}

/// Compiles UDFs. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    _inner: Arc<EngineConfig>,
}

impl Engine {
    /// Starts the engine and its ticker thread, which ends with the last clone.
    pub fn new(config: EngineConfig) -> Result<Self, HostError> {
        Ok(Self { _inner: Arc::new(config) })
    }

    /// Compiles a component, or takes it from the cache. `name` is for messages.
    pub fn load(&self, name: &str, wasm: &[u8]) -> Result<UdfModule, HostError> {
        unimplemented!("{name} {}", wasm.len())
    }
}
