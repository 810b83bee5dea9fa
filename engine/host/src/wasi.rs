//! WASI as an empty machine: no files, variables, arguments or addresses; a clock and randomness of the bundle's; stdout and stderr go
//! to the log. Guests import it because their standard libraries do.
//!
//! Nothing here waits: a guest that sleeps finds its time gone by at once. So wasmtime-wasi's clocks, random numbers and output
//! streams are not linked at all, and what is linked of it never has a reason to block.

use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sockets, sync};
use wasmtime_wasi::p2::{DynOutputStream, DynPollable, OutputStream, Pollable, StreamResult, subscribe};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi::{WasiView, async_trait};

use crate::context::{Context, HostTrap, Lines, lock};

/// Most random bytes of one call.
const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// Most bytes of one write to a stream.
const WRITE_BYTES_MAX: usize = 64 << 10;

struct World;

impl HasData for World {
    type Data<'a> = &'a mut Context;
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Adds every interface of `wasi:cli/imports` 0.2.
pub(crate) fn add_to_linker(linker: &mut Linker<Context>) -> wasmtime::Result<()> {
    let l = linker;
    // Ours.
    clocks::wall_clock::add_to_linker::<Context, World>(l, |context| context)?;
    clocks::monotonic_clock::add_to_linker::<Context, World>(l, |context| context)?;
    random::random::add_to_linker::<Context, World>(l, |context| context)?;
    random::insecure::add_to_linker::<Context, World>(l, |context| context)?;
    random::insecure_seed::add_to_linker::<Context, World>(l, |context| context)?;
    cli::stdout::add_to_linker::<Context, World>(l, |context| context)?;
    cli::stderr::add_to_linker::<Context, World>(l, |context| context)?;
    // wasmtime-wasi's, of an empty context.
    sync::io::poll::add_to_linker::<Context, Table>(l, |context| context.ctx().table)?;
    sync::io::streams::add_to_linker::<Context, Table>(l, |context| context.ctx().table)?;
    wasmtime_wasi::p2::bindings::io::error::add_to_linker::<Context, Table>(l, |context| context.ctx().table)?;
    cli::exit::add_to_linker::<Context, WasiCli>(l, Context::cli)?;
    cli::environment::add_to_linker::<Context, WasiCli>(l, Context::cli)?;
    cli::stdin::add_to_linker::<Context, WasiCli>(l, Context::cli)?;
    cli::terminal_input::add_to_linker::<Context, WasiCli>(l, Context::cli)?;
    cli::terminal_output::add_to_linker::<Context, WasiCli>(l, Context::cli)?;
    cli::terminal_stdin::add_to_linker::<Context, WasiCli>(l, Context::cli)?;
    cli::terminal_stdout::add_to_linker::<Context, WasiCli>(l, Context::cli)?;
    cli::terminal_stderr::add_to_linker::<Context, WasiCli>(l, Context::cli)?;
    filesystem::preopens::add_to_linker::<Context, WasiFilesystem>(l, Context::filesystem)?;
    sync::filesystem::types::add_to_linker::<Context, WasiFilesystem>(l, Context::filesystem)?;
    let options = sync::LinkOptions::default();
    sockets::network::add_to_linker::<Context, WasiSockets>(l, &(&options).into(), Context::sockets)?;
    sockets::instance_network::add_to_linker::<Context, WasiSockets>(l, Context::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<Context, WasiSockets>(l, Context::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<Context, WasiSockets>(l, Context::sockets)?;
    sync::sockets::tcp::add_to_linker::<Context, WasiSockets>(l, Context::sockets)?;
    sync::sockets::udp_create_socket::add_to_linker::<Context, WasiSockets>(l, Context::sockets)?;
    sync::sockets::udp::add_to_linker::<Context, WasiSockets>(l, Context::sockets)?;
    Ok(())
}

impl Context {
    fn now_ns(&self) -> u64 {
        if self.capabilities.real_clock {
            let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            return u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        }
        self.time.now_ns
    }

    /// Nanoseconds of a clock that does not go back: real, since the process began to look at it.
    fn monotonic_ns(&self) -> u64 {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        if self.capabilities.real_clock {
            return u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX);
        }
        self.time.now_ns
    }

    fn random_u64(&mut self) -> wasmtime::Result<u64> {
        if self.capabilities.real_random {
            let mut bytes = [0; 8];
            system_random(&mut bytes)?;
            return Ok(u64::from_le_bytes(bytes));
        }
        Ok(self.random.next())
    }

    fn random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        if count > RANDOM_BYTES_MAX {
            return Err(
                HostTrap::lie(format!("it asked for {count} random bytes at once, limit {RANDOM_BYTES_MAX}")).into()
            );
        }
        let mut bytes = vec![0; count as usize];
        if self.capabilities.real_random {
            system_random(&mut bytes)?;
            return Ok(bytes);
        }
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.random.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(bytes)
    }

    /// A pollable that is ready: whoever waits finds that the time has passed.
    fn elapsed(&mut self, until_ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.time.now_ns = self.time.now_ns.max(until_ns);
        let elapsed = self.table.push(Elapsed)?;
        subscribe(&mut self.table, elapsed)
    }
}

fn system_random(bytes: &mut [u8]) -> wasmtime::Result<()> {
    getrandom::fill(bytes).map_err(|error| wasmtime::Error::msg(format!("the system has no random numbers: {error}")))
}

struct Elapsed;

#[async_trait]
impl Pollable for Elapsed {
    async fn ready(&mut self) {}
}

impl clocks::wall_clock::Host for &mut Context {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        let now = self.now_ns();
        Ok(clocks::wall_clock::Datetime { seconds: now / 1_000_000_000, nanoseconds: (now % 1_000_000_000) as u32 })
    }

    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime { seconds: 0, nanoseconds: 1_000_000 })
    }
}

impl clocks::monotonic_clock::Host for &mut Context {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.monotonic_ns())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1_000_000)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.elapsed(when)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let until = self.time.now_ns.saturating_add(duration);
        self.elapsed(until)
    }
}

impl random::random::Host for &mut Context {
    fn get_random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(count)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random_u64()
    }
}

impl random::insecure::Host for &mut Context {
    fn get_insecure_random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(count)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random_u64()
    }
}

impl random::insecure_seed::Host for &mut Context {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random_u64()?, self.random_u64()?))
    }
}

impl cli::stdout::Host for &mut Context {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(Printed { lines: self.log.lines.clone(), stream: 0 });
        Ok(self.table.push(stream)?)
    }
}

impl cli::stderr::Host for &mut Context {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(Printed { lines: self.log.lines.clone(), stream: 1 });
        Ok(self.table.push(stream)?)
    }
}

/// Stdout or stderr, line by line into the log.
struct Printed {
    lines: Arc<Mutex<Lines>>,
    stream: usize,
}

#[async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        lock(&self.lines).print(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}
