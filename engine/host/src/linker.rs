//! What a guest may call: the contract's `host` and `state`, and an empty machine's WASI.

use std::time::Instant;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker};

use crate::CONTRACT_VERSION;
use crate::context::{Context, HostTrap};
use crate::contract::PACKAGE;
use crate::fault::FaultKind;
use crate::instance::LogLevel;

/// In `get-many` and `put-many`: there is no value.
const ABSENT: u32 = 1 << 31;
/// Keys of one call between two looks at the time.
const KEYS_UNCHECKED_MAX: usize = 1 << 16;

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "made by lifting only")]
enum LevelEnum {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

/// Makes the linker for all UDFs of an engine.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Context>> {
    let mut linker = Linker::new(engine);
    crate::wasi::add_to_linker(&mut linker)?;
    add_host(&mut linker)?;
    add_state(&mut linker)?;
    Ok(linker)
}

fn add_host(linker: &mut Linker<Context>) -> wasmtime::Result<()> {
    let mut host = linker.instance(&format!("{PACKAGE}host@{CONTRACT_VERSION}"))?;
    host.func_wrap("log", |mut store: StoreContextMut<'_, Context>, (level, message): (LevelEnum, String)| {
        let context = store.data_mut();
        context.count_call()?;
        let level = match level {
            LevelEnum::Trace => LogLevel::Trace,
            LevelEnum::Debug => LogLevel::Debug,
            LevelEnum::Info => LogLevel::Info,
            LevelEnum::Warn => LogLevel::Warn,
            LevelEnum::Error => LogLevel::Error,
        };
        context.log.add(level, &message);
        Ok(())
    })?;
    host.func_wrap("panicked", |mut store: StoreContextMut<'_, Context>, (message, location): (String, String)| {
        let context = store.data_mut();
        context.count_call()?;
        context.panicked = Some((message, location));
        Ok(())
    })
}

fn add_state(linker: &mut Linker<Context>) -> wasmtime::Result<()> {
    let mut state = linker.instance(&format!("{PACKAGE}state@{CONTRACT_VERSION}"))?;
    state.func_wrap("get", |mut store: StoreContextMut<'_, Context>, (state, key): (u32, u32)| {
        let context = store.data_mut();
        context.count_call()?;
        context.check_state(state)?;
        let mut value = Vec::new();
        let found = context.read_state(state, key, &mut value)?;
        Ok((found.then_some(value),))
    })?;
    state.func_wrap(
        "put",
        |mut store: StoreContextMut<'_, Context>, (state, key, value): (u32, u32, Option<Vec<u8>>)| {
            let context = store.data_mut();
            context.count_call()?;
            context.check_state(state)?;
            Ok(context.put_state(state, key, value.as_deref())?)
        },
    )?;
    state.func_wrap("get-many", |mut store: StoreContextMut<'_, Context>, (state, keys): (u32, Vec<u32>)| {
        let context = store.data_mut();
        context.count_call()?;
        context.check_state(state)?;
        Ok((context.get_many(state, &keys)?,))
    })?;
    type PutMany = (u32, Vec<u32>, Vec<u32>, Vec<u8>);
    state.func_wrap("put-many", |mut store: StoreContextMut<'_, Context>, (state, keys, ends, values): PutMany| {
        let context = store.data_mut();
        context.count_call()?;
        context.check_state(state)?;
        Ok(context.put_many(state, &keys, &ends, &values)?)
    })
}

impl Context {
    /// Checks that the running function has this state, and by call.
    fn check_state(&self, state: u32) -> Result<(), HostTrap> {
        let Some(running) = self.running else {
            return Err(HostTrap::lie("it asked for state outside of a bundle"));
        };
        match self.plans[running].call_states.get(state as usize) {
            Some(Some(_)) => Ok(()),
            Some(None) => Err(HostTrap::lie(format!("it asked by call for state {state}, whose access is column"))),
            None => {
                Err(HostTrap::lie(format!("it asked for state {state} of {}", self.plans[running].call_states.len())))
            }
        }
    }

    /// A guest of 4 GiB can name a billion keys in one call, in which no tick of the engine's would be noticed.
    fn check_time(&self, begun: Instant, keys: usize) -> Result<(), HostTrap> {
        if keys == 0 || !keys.is_multiple_of(KEYS_UNCHECKED_MAX) || begun.elapsed() <= self.limits.call_time_max {
            return Ok(());
        }
        Err(HostTrap { kind: FaultKind::Deadline, message: String::new() })
    }

    fn check_key(&self, key: u32) -> Result<(), HostTrap> {
        if (key as usize) < self.keys {
            Ok(())
        } else {
            Err(HostTrap::lie(format!("it asked for the state of key {key} of {}", self.keys)))
        }
    }

    /// Appends a value, as the bundle wrote it or as the engine has it, and says whether there is one.
    fn read_state(&mut self, state: u32, key: u32, value: &mut Vec<u8>) -> Result<bool, HostTrap> {
        self.check_key(key)?;
        if let Some(written) = self.overlay.get(state as usize, key) {
            value.extend_from_slice(written.unwrap_or_default());
            return Ok(written.is_some());
        }
        let message = |error| format!("could not read state {state} of key {key}: {error}");
        self.host
            .state_get(state, key, value)
            .map_err(|error| HostTrap { kind: FaultKind::Host, message: message(error) })
    }

    fn put_state(&mut self, state: u32, key: u32, value: Option<&[u8]>) -> Result<(), HostTrap> {
        self.check_key(key)?;
        if let (Some(bytes), Some(running)) = (value, self.running)
            && let Some(plan) = &self.plans[running].call_states[state as usize]
        {
            plan.check(bytes).map_err(|lie| {
                HostTrap::lie(format!("it put a value into state {state} of key {key} that is none: {lie}"))
            })?;
        }
        self.overlay.put(state as usize, key, self.keys, value);
        if self.overlay.bytes() > self.limits.output_bytes_max {
            return Err(HostTrap { kind: FaultKind::OutputLimit, message: String::new() });
        }
        Ok(())
    }

    fn get_many(&mut self, state: u32, keys: &[u32]) -> Result<(Vec<u32>, Vec<u8>), HostTrap> {
        let mut ends = Vec::with_capacity(keys.len());
        let mut values = Vec::new();
        let begun = Instant::now();
        for (at, key) in keys.iter().enumerate() {
            self.check_time(begun, at)?;
            let absent = if self.read_state(state, *key, &mut values)? { 0 } else { ABSENT };
            // A guest can name one large value again and again.
            if values.len() > self.limits.memory_bytes_max.min(ABSENT as usize - 1) {
                let message = format!("it asked for more than {} bytes of state at once", self.limits.memory_bytes_max);
                return Err(HostTrap::lie(message));
            }
            ends.push(values.len() as u32 | absent);
        }
        Ok((ends, values))
    }

    fn put_many(&mut self, state: u32, keys: &[u32], ends: &[u32], values: &[u8]) -> Result<(), HostTrap> {
        if keys.len() != ends.len() {
            return Err(HostTrap::lie(format!("it put {} values for {} keys", ends.len(), keys.len())));
        }
        let mut start = 0;
        let begun = Instant::now();
        for (at, (key, end)) in keys.iter().zip(ends).enumerate() {
            self.check_time(begun, at)?;
            let (end, absent) = ((end & !ABSENT) as usize, end & ABSENT != 0);
            let Some(bytes) = values.get(start..end).filter(|bytes| !absent || bytes.is_empty()) else {
                return Err(HostTrap::lie(format!("it put values whose ends are wrong at {end} of {}", values.len())));
            };
            self.put_state(state, *key, if absent { None } else { Some(bytes) })?;
            start = end;
        }
        if start != values.len() {
            return Err(HostTrap::lie(format!("it put {} bytes behind the last value", values.len() - start)));
        }
        Ok(())
    }
}
