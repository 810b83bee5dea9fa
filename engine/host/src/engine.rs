//! One wasmtime engine for the whole process: how it is set up, its ticker, and how components are loaded.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::cache::{self, Key};
use crate::context::Context;
use crate::error::HostError;
use crate::module::{Compiled, UdfModule};
use crate::source_section;

/// How the engine is set up. `Default` reads no environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Directory of compiled components, made if it is not there. `None` (default): compile each time.
    pub cache_dir: Option<PathBuf>,
    /// Granularity of deadlines. Default 10 ms, at least 1 ms.
    pub epoch_tick: Duration,
    /// Instances that may live at once, of all UDFs together; each reserves 4 GiB of address space, not of memory. Default 1000,
    /// at most 10,000.
    pub instances_max: u32,
    /// Stack of a guest, in bytes, for all UDFs. Default 1 MiB, at most 8 MiB. The guest runs on the stack of the thread that calls
    /// it: that needs at least 512 KiB more.
    pub stack_bytes_max: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { cache_dir: None, epoch_tick: Duration::from_millis(10), instances_max: 1000, stack_bytes_max: 1 << 20 }
    }
}

/// Compiles UDFs and holds what they share. Cheap to clone; one per process is enough.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) linker: Linker<Context>,
    pub(crate) config: EngineConfig,
    /// Modules in use: the same component twice is compiled once.
    loaded: Mutex<HashMap<Key, Weak<Compiled>>>,
    _ticker: Ticker,
}

impl Engine {
    /// Starts the engine and its ticker thread, which ends with the last clone.
    ///
    /// # Errors
    /// [`HostError::Setting`] for a setting out of range, [`HostError::Engine`] if wasmtime cannot start (say, no address space).
    pub fn new(config: EngineConfig) -> Result<Self, HostError> {
        check(&config)?;
        let failed = |error: wasmtime::Error| HostError::Engine { during: "start", problem: format!("{error:#}") };
        let wasmtime = wasmtime::Engine::new(&wasmtime_config(&config)).map_err(failed)?;
        let linker = crate::linker::linker(&wasmtime).map_err(failed)?;
        let ticker = Ticker::start(&wasmtime, config.epoch_tick)?;
        let inner = Inner { wasmtime, linker, config, loaded: Mutex::default(), _ticker: ticker };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Compiles a component, or takes it from memory or the disk cache. `name` is the UDF's name for messages. Files that travel
    /// inside the component ([`source_section`](crate::source_section)) become the module's source.
    ///
    /// # Errors
    /// [`HostError`]: `NotWasm`, `CoreModule`, `SourceSection`, `MissingExport`, `ContractVersion`, `UnknownImport`, `Compile`, `Cache`.
    pub fn load(&self, name: &str, wasm: &[u8]) -> Result<UdfModule, HostError> {
        check_header(name, wasm)?;
        let (wasm, files) =
            source_section::split(wasm).map_err(|error| HostError::SourceSection { udf: name.to_string(), error })?;
        let module = self.load_plain(name, wasm)?;
        Ok(if files.is_empty() { module } else { module.with_source(files) })
    }

    /// As [`load`](Self::load), for the component of an interpreter, which is given its source later and carries none. It is large:
    /// if it is in the cache, the file is not read into memory.
    ///
    /// # Errors
    /// As [`load`](Self::load), and `File`.
    pub fn load_interpreter(&self, name: &str, path: &Path) -> Result<UdfModule, HostError> {
        let unreadable = |source| HostError::File { udf: name.to_string(), path: path.to_path_buf(), source };
        if let Some(directory) = &self.inner.config.cache_dir {
            let key = Key::of_file(&self.inner.wasmtime.precompile_compatibility_hash(), path).map_err(unreadable)?;
            if let Some(module) = self.in_use(name, key) {
                return Ok(module);
            }
            if let Some(component) = cache::find(&self.inner.wasmtime, directory, key) {
                return self.keep(name, key, &component);
            }
        }
        self.load(name, &std::fs::read(path).map_err(unreadable)?)
    }

    fn in_use(&self, name: &str, key: Key) -> Option<UdfModule> {
        let compiled = self.loaded().get(&key).and_then(Weak::upgrade)?;
        Some(UdfModule::new(self.clone(), name, compiled))
    }

    fn load_plain(&self, name: &str, wasm: &[u8]) -> Result<UdfModule, HostError> {
        let engine = &self.inner.wasmtime;
        let key = Key::new(&engine.precompile_compatibility_hash(), wasm);
        if let Some(module) = self.in_use(name, key) {
            return Ok(module);
        }
        let problem =
            |error: wasmtime::Error| HostError::Compile { udf: name.to_string(), problem: format!("{error:#}") };
        let component = match &self.inner.config.cache_dir {
            Some(directory) => {
                cache::load(engine, directory, key, || engine.precompile_component(wasm).map_err(problem))?
            }
            None => Component::from_binary(engine, wasm).map_err(problem)?,
        };
        self.keep(name, key, &component)
    }

    fn keep(&self, name: &str, key: Key, component: &Component) -> Result<UdfModule, HostError> {
        let compiled = Arc::new(Compiled::new(&self.inner, name, component)?);
        let mut loaded = self.loaded();
        loaded.retain(|_, module| module.strong_count() > 0);
        loaded.insert(key, Arc::downgrade(&compiled));
        drop(loaded);
        Ok(UdfModule::new(self.clone(), name, compiled))
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Weak<Compiled>>> {
        self.inner.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

fn check(config: &EngineConfig) -> Result<(), HostError> {
    let refuse =
        |setting, got: String, advice: &str| Err(HostError::Setting { setting, got, advice: advice.to_string() });
    if config.epoch_tick < Duration::from_millis(1) {
        return refuse("epoch_tick", format!("{:?}", config.epoch_tick), "choose at least 1 ms");
    }
    if !(1..=10_000).contains(&config.instances_max) {
        return refuse("instances_max", config.instances_max.to_string(), "choose 1 to 10000");
    }
    if !(64 << 10..=8 << 20).contains(&config.stack_bytes_max) {
        return refuse("stack_bytes_max", config.stack_bytes_max.to_string(), "choose 64 KiB to 8 MiB");
    }
    Ok(())
}

fn check_header(udf: &str, wasm: &[u8]) -> Result<(), HostError> {
    let udf = || udf.to_string();
    let Some(rest) = wasm.strip_prefix(b"\0asm") else {
        let first = &wasm[..wasm.len().min(16)];
        let begins = if first.is_empty() {
            "nothing: it is empty".to_string()
        } else {
            format!("{:?}", String::from_utf8_lossy(first))
        };
        return Err(HostError::NotWasm { udf: udf(), begins });
    };
    // After the magic come a version and a layer; layer 0 is a core module, layer 1 a component.
    match rest.get(2..4) {
        Some([0, 0]) => Err(HostError::CoreModule { udf: udf() }),
        _ => Ok(()),
    }
}

/// What every component is compiled for. Each line of it is part of the cache's key.
fn wasmtime_config(settings: &EngineConfig) -> Config {
    let mut config = Config::new();
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.memory_init_cow(true);
    // 4 GiB reserved and guards behind: no bounds checks in the code.
    config.memory_reservation(4 << 30);
    config.max_wasm_stack(settings.stack_bytes_max);
    config.async_stack_size(settings.stack_bytes_max + (1 << 20));
    config.wasm_backtrace_max_frames(NonZeroUsize::new(32));
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    // The same bytes must come out on every CPU.
    config.relaxed_simd_deterministic(true);
    // What no guest of the contract needs is not there to be attacked.
    config.gc_support(false);
    config.wasm_function_references(false);
    config.wasm_gc(false);
    config.wasm_memory64(false);
    let mut pool = PoolingAllocationConfig::new();
    let instances = settings.instances_max;
    pool.total_component_instances(instances);
    // An interpreter links a dozen core modules; a Rust guest has three.
    pool.max_core_instances_per_component(100);
    pool.total_core_instances(instances.saturating_mul(100));
    pool.max_memories_per_component(2);
    pool.total_memories(instances.saturating_mul(2));
    pool.max_tables_per_component(20);
    pool.total_tables(instances.saturating_mul(4));
    pool.table_elements(200_000);
    pool.max_core_instance_size(4 << 20);
    pool.max_component_instance_size(4 << 20);
    pool.total_stacks(1);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// A thread that moves the engine's epoch on, so that a guest notices that its time is up.
struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: &wasmtime::Engine, tick: Duration) -> Result<Self, HostError> {
        let (stop, stopped) = channel();
        let weak = engine.weak();
        let run = move |stopped: Receiver<()>| {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(tick) {
                match weak.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => break,
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("wasmill-ticker".to_string())
            .spawn(move || run(stopped))
            .map_err(|error| HostError::Engine { during: "start of the ticker thread", problem: error.to_string() })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, and cannot have panicked: joining only makes sure that it is gone.
            let _ = thread.join();
        }
    }
}
