//! What belongs to one instance on the host's side: its host, limits, clock, random numbers, log and state overlay.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::ResourceLimiter;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::fault::FaultKind;
use crate::instance::{LogLevel, UdfHost};
use crate::limits::{Capabilities, Limits};
use crate::overlay::Overlay;
use crate::plan::BindingPlan;

/// A host of unknown type: the linker is made once for all of them.
pub(crate) trait AnyHost: UdfHost {
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<H: UdfHost> AnyHost for H {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The data of a store.
pub(crate) struct Context {
    pub(crate) host: Box<dyn AnyHost>,
    pub(crate) limits: Limits,
    pub(crate) capabilities: Capabilities,
    pub(crate) limiter: Limiter,
    pub(crate) time: Time,
    pub(crate) random: Random,
    pub(crate) log: Log,
    pub(crate) overlay: Overlay,
    /// Plans of the bindings, once they are loaded.
    pub(crate) plans: Arc<[BindingPlan]>,
    /// Index into `plans` of the function that runs.
    pub(crate) running: Option<usize>,
    /// Distinct keys of the bundle that runs.
    pub(crate) keys: usize,
    /// Calls into the host since the bundle began.
    pub(crate) calls: u64,
    /// What the guest said just before it trapped: message, location.
    pub(crate) panicked: Option<(String, String)>,
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
}

impl Context {
    pub(crate) fn new(host: Box<dyn AnyHost>, limits: Limits, capabilities: Capabilities) -> Self {
        let limiter = Limiter::new(&limits);
        let log = Log::new(limits.log_bytes_per_bundle_max);
        // The defaults of wasmtime-wasi grant no files, arguments, variables, names or addresses; TCP and UDP are closed on top.
        let wasi = WasiCtxBuilder::new().allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false).build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            host,
            limits,
            capabilities,
            limiter,
            time: Time::default(),
            random: Random::default(),
            log,
            overlay: Overlay::default(),
            plans: Arc::new([]),
            running: None,
            keys: 0,
            calls: 0,
            panicked: None,
            wasi,
            table,
        }
    }

    /// Makes ready for a call. `processing_time` is in ms since the epoch.
    pub(crate) fn begin(&mut self, running: Option<usize>, keys: usize, processing_time: i64, seed: u64) {
        self.running = running;
        self.keys = keys;
        self.calls = 0;
        self.panicked = None;
        self.limiter.refused = None;
        self.time = Time { now_ns: processing_time.max(0) as u64 * 1_000_000 };
        self.random = Random { state: seed };
        self.log.begin();
    }

    /// Ends a call: what was printed goes to the host. `flush` = also what has no newline yet.
    pub(crate) fn end(&mut self, flush: bool) {
        self.running = None;
        self.log.drain(flush, &mut *self.host);
    }

    pub(crate) fn host<H: UdfHost>(&self) -> &H {
        self.host.as_any().downcast_ref().expect("an instance is made with a host of its own type")
    }

    pub(crate) fn host_mut<H: UdfHost>(&mut self) -> &mut H {
        self.host.as_any_mut().downcast_mut().expect("an instance is made with a host of its own type")
    }

    /// Counts a call into the host.
    #[inline]
    pub(crate) fn count_call(&mut self) -> Result<(), HostTrap> {
        self.calls += 1;
        if self.calls > self.limits.host_calls_per_bundle_max {
            return Err(HostTrap { kind: FaultKind::CallLimit, message: String::new() });
        }
        Ok(())
    }
}

/// Handles (streams, pollables) that a guest may hold at once.
const RESOURCES_MAX: usize = 10_000;

impl WasiView for Context {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Why a host function ends the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub(crate) struct HostTrap {
    pub(crate) kind: FaultKind,
    pub(crate) message: String,
}

impl HostTrap {
    pub(crate) fn lie(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::Lie, message: message.into() }
    }
}

/// Memory and tables of all the core instances of one component together.
pub(crate) struct Limiter {
    memory_bytes_max: usize,
    table_elements_max: usize,
    pub(crate) memory_bytes: usize,
    table_elements: usize,
    /// What the last growth added, in case the system refuses what we granted.
    growing: usize,
    /// What was asked for and refused in this call.
    pub(crate) refused: Option<Refused>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Bytes in all.
    Memory(usize),
    /// Elements in all.
    Table(usize),
}

impl Limiter {
    fn new(limits: &Limits) -> Self {
        let Limits { memory_bytes_max, table_elements_max, .. } = *limits;
        Self { memory_bytes_max, table_elements_max, memory_bytes: 0, table_elements: 0, growing: 0, refused: None }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        self.growing = 0;
        if total > self.memory_bytes_max {
            self.refused = Some(Refused::Memory(total));
            return Ok(false);
        }
        self.growing = total - self.memory_bytes;
        self.memory_bytes = total;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_bytes -= std::mem::take(&mut self.growing);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > self.table_elements_max {
            self.refused = Some(Refused::Table(total));
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }
}

/// The only clock: stands still, unless the guest sleeps.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Time {
    /// Since the epoch.
    pub(crate) now_ns: u64,
}

/// The only randomness: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Lines of one instance on their way to the host's log, bounded per bundle. What a guest prints comes through wasmtime-wasi's
/// streams, which must be shareable: hence the mutex, which is never contended.
pub(crate) struct Log {
    pub(crate) lines: Arc<Mutex<Lines>>,
}

#[derive(Debug)]
pub(crate) struct Lines {
    bytes_max: usize,
    bytes: usize,
    dropped: u64,
    ready: Vec<(LogLevel, String)>,
    /// What was printed since the last newline, to stdout and stderr.
    partial: [Vec<u8>; 2],
}

/// Longest line; what goes beyond becomes the next line.
const LINE_BYTES_MAX: usize = 8 << 10;

impl Log {
    fn new(bytes_max: usize) -> Self {
        let lines = Lines { bytes_max, bytes: 0, dropped: 0, ready: Vec::new(), partial: [Vec::new(), Vec::new()] };
        Self { lines: Arc::new(Mutex::new(lines)) }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        lock(&self.lines)
    }

    fn begin(&mut self) {
        let mut lines = self.lock();
        lines.bytes = 0;
        lines.dropped = 0;
    }

    pub(crate) fn add(&mut self, level: LogLevel, message: &str) {
        self.lock().line(level, message);
    }

    fn drain(&mut self, flush: bool, host: &mut dyn AnyHost) {
        let (ready, dropped) = {
            let mut lines = self.lock();
            if flush {
                lines.flush();
            }
            if lines.ready.is_empty() && lines.dropped == 0 {
                return;
            }
            (std::mem::take(&mut lines.ready), std::mem::take(&mut lines.dropped))
        };
        for (level, line) in &ready {
            host.log(*level, line);
        }
        if dropped > 0 {
            host.log(LogLevel::Warn, &format!("{dropped} more log lines of this bundle were dropped: print less"));
        }
    }
}

pub(crate) fn lock(lines: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    // A panic while the lock was held leaves lines that are still lines.
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    fn line(&mut self, level: LogLevel, message: &str) {
        let room = self.bytes_max.saturating_sub(self.bytes);
        // An empty line costs too: a million of them is a flood.
        if message.len() + 1 > room {
            self.dropped += 1;
            return;
        }
        self.bytes += message.len() + 1;
        self.ready.push((level, message.to_string()));
    }

    /// Takes what the guest printed; `stream` 0 = stdout, 1 = stderr.
    pub(crate) fn print(&mut self, stream: usize, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial[stream].extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial[stream].len() >= LINE_BYTES_MAX {
                self.flush_stream(stream);
            }
        }
    }

    fn flush(&mut self) {
        for stream in 0..self.partial.len() {
            if !self.partial[stream].is_empty() {
                self.flush_stream(stream);
            }
        }
    }

    fn flush_stream(&mut self, stream: usize) {
        let level = if stream == 0 { LogLevel::Info } else { LogLevel::Warn };
        let line = std::mem::take(&mut self.partial[stream]);
        let text = String::from_utf8_lossy(&line);
        self.line(level, text.trim_end_matches(['\n', '\r']));
    }
}
