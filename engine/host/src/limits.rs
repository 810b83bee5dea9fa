//! What a UDF may use, and what it may see.

use std::time::Duration;

/// What one instance of a UDF may use. Reaching a limit is a [`Fault`](crate::Fault) that names the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// All linear memories of the instance together, in bytes. Default 64 MiB: right for Rust guests; an interpreter needs more.
    /// At most 4 GiB.
    pub memory_bytes_max: usize,
    /// All tables of the instance together, in elements. Default 100,000, which the largest interpreters stay below.
    pub table_elements_max: usize,
    /// One call of `run-frame` with all its `resume-frame`, in wall-clock time. Default 10 s. Granularity is
    /// [`EngineConfig::epoch_tick`](crate::EngineConfig::epoch_tick).
    pub call_time_max: Duration,
    /// Instantiation, `load-source`, `describe` or `load-functions`, each. Default 30 s.
    pub load_time_max: Duration,
    /// Everything that a bundle brings out, in bytes: frames and state values. Default 256 MiB.
    pub output_bytes_max: usize,
    /// Log lines of one bundle, in bytes; what goes beyond is counted and dropped, and the last line says so. Default 256 KiB.
    pub log_bytes_per_bundle_max: usize,
    /// Calls of the guest into the host during one bundle. Default 100 million.
    pub host_calls_per_bundle_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 64 << 20,
            table_elements_max: 100_000,
            call_time_max: Duration::from_secs(10),
            load_time_max: Duration::from_secs(30),
            output_bytes_max: 256 << 20,
            log_bytes_per_bundle_max: 256 << 10,
            host_calls_per_bundle_max: 100_000_000,
        }
    }
}

/// What a UDF may see of the world. Default: nothing. There is no capability for files, environment or network: resources are
/// handed over at open, and everything else of WASI answers as an empty machine would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Clocks tell the real time instead of the bundle's processing time. Bundles then no longer replay.
    pub real_clock: bool,
    /// Random numbers come from the system instead of the bundle's seed. Bundles then no longer replay.
    pub real_random: bool,
}
