//! What a guest may ask of its host. In a native build, where there is none, a stand-in in the same thread answers.

#[cfg(target_family = "wasm")]
pub use imported::*;
#[cfg(not(target_family = "wasm"))]
pub use stand_in::*;

/// How much a line of the log matters; in the order of the contract's `enum level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[cfg(target_family = "wasm")]
mod imported {
    use super::Level;

    #[link(wasm_import_module = "wasmill:udf/host@0.1.0")]
    unsafe extern "C" {
        #[link_name = "log"]
        fn import_log(level: i32, message: *const u8, length: usize);
        #[link_name = "panicked"]
        fn import_panicked(message: *const u8, message_length: usize, location: *const u8, location_length: usize);
    }

    #[link(wasm_import_module = "wasmill:udf/state@0.1.0")]
    unsafe extern "C" {
        #[link_name = "get"]
        fn import_get(state: u32, key: u32, answer: *mut Optional);
        #[link_name = "get-many"]
        fn import_get_many(state: u32, keys: *const u32, count: usize, answer: *mut Pair);
        #[link_name = "put-many"]
        fn import_put_many(
            state: u32,
            keys: *const u32,
            count: usize,
            ends: *const u32,
            end_count: usize,
            values: *const u8,
            length: usize,
        );
    }

    /// `option<list<u8>>` as the canonical ABI lays it out.
    #[repr(C)]
    struct Optional {
        some: u8,
        bytes: *mut u8,
        length: usize,
    }

    /// `tuple<list<u32>, list<u8>>` as the canonical ABI lays it out.
    #[repr(C)]
    struct Pair {
        ends: *mut u32,
        end_count: usize,
        bytes: *mut u8,
        length: usize,
    }

    pub fn log(level: Level, message: &str) {
        // SAFETY: the canonical ABI takes a text as its address and length, and only reads it.
        unsafe { import_log(level as i32, message.as_ptr(), message.len()) }
    }

    pub fn panicked(message: &str, location: &str) {
        // SAFETY: as in `log`.
        unsafe { import_panicked(message.as_ptr(), message.len(), location.as_ptr(), location.len()) }
    }

    pub fn state_get(state: u32, key: u32) -> Option<Vec<u8>> {
        let mut answer = Optional { some: 0, bytes: std::ptr::null_mut(), length: 0 };
        // SAFETY: the host fills `answer`, with a list that it allocated by `cabi_realloc` and that is ours from then on.
        unsafe {
            import_get(state, key, &mut answer);
            (answer.some != 0).then(|| crate::guest::owned(answer.bytes, answer.length))
        }
    }

    pub fn state_get_many(state: u32, keys: &[u32]) -> (Vec<u32>, Vec<u8>) {
        let mut answer = Pair { ends: std::ptr::null_mut(), end_count: 0, bytes: std::ptr::null_mut(), length: 0 };
        // SAFETY: as in `state_get`.
        unsafe {
            import_get_many(state, keys.as_ptr(), keys.len(), &mut answer);
            (crate::guest::owned(answer.ends, answer.end_count), crate::guest::owned(answer.bytes, answer.length))
        }
    }

    pub fn state_put_many(state: u32, keys: &[u32], ends: &[u32], values: &[u8]) {
        // SAFETY: the host only reads the lists.
        unsafe {
            import_put_many(state, keys.as_ptr(), keys.len(), ends.as_ptr(), ends.len(), values.as_ptr(), values.len())
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod stand_in {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use super::Level;
    use crate::state::ABSENT;

    /// What the stand-in holds for the bundle that is being run.
    #[derive(Default)]
    pub struct StandIn {
        /// Lines of the log.
        pub log: Vec<(Level, String)>,
        /// Values of states with access `call`, by state and key index.
        pub state: HashMap<(u32, u32), Vec<u8>>,
        /// Calls for state so far.
        pub state_calls: usize,
    }

    thread_local! {
        static STAND_IN: RefCell<StandIn> = RefCell::default();
    }

    /// Looks at the thread's stand-in.
    pub fn with<R>(look: impl FnOnce(&mut StandIn) -> R) -> R {
        STAND_IN.with_borrow_mut(look)
    }

    pub fn log(level: Level, message: &str) {
        with(|host| host.log.push((level, message.to_owned())));
    }

    pub fn state_get(state: u32, key: u32) -> Option<Vec<u8>> {
        with(|host| {
            host.state_calls += 1;
            host.state.get(&(state, key)).cloned()
        })
    }

    pub fn state_get_many(state: u32, keys: &[u32]) -> (Vec<u32>, Vec<u8>) {
        with(|host| {
            host.state_calls += 1;
            let (mut ends, mut bytes) = (Vec::new(), Vec::new());
            for key in keys {
                let value = host.state.get(&(state, *key));
                bytes.extend_from_slice(value.map_or(&[], Vec::as_slice));
                ends.push(bytes.len() as u32 | if value.is_none() { ABSENT } else { 0 });
            }
            (ends, bytes)
        })
    }

    pub fn state_put_many(state: u32, keys: &[u32], ends: &[u32], values: &[u8]) {
        with(|host| {
            host.state_calls += 1;
            let mut start = 0;
            for (key, end) in keys.iter().zip(ends) {
                let at = (end & !ABSENT) as usize;
                match end & ABSENT {
                    0 => host.state.insert((state, *key), values[start..at].to_vec()),
                    _ => host.state.remove(&(state, *key)),
                };
                start = at;
            }
        });
    }
}
