//! One core: what a job with several threads is held to, so that its pace is that of one core.

use std::io;
use std::mem::{size_of, zeroed};

use crate::BenchError;

/// Runs `work` on one core, as does every thread that it starts.
///
/// # Errors
/// [`BenchError::Cores`] if the system does not allow it, and those of `work`.
pub fn on_one_core<T>(work: impl FnOnce() -> Result<T, BenchError>) -> Result<T, BenchError> {
    let all = allowed().map_err(BenchError::Cores)?;
    // The last: interrupts are mostly the first one's.
    let last = (0..libc::CPU_SETSIZE as usize).rev().find(|core| is_set(*core, &all));
    allow(&one(last.unwrap_or(0))).map_err(BenchError::Cores)?;
    let result = work();
    allow(&all).map_err(BenchError::Cores)?;
    result
}

fn allowed() -> io::Result<libc::cpu_set_t> {
    // SAFETY: all zeros is an empty set; the call writes at most as many bytes as it is told.
    unsafe {
        let mut set = zeroed();
        match libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) {
            0 => Ok(set),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn is_set(core: usize, set: &libc::cpu_set_t) -> bool {
    // SAFETY: `core` is below CPU_SETSIZE.
    unsafe { libc::CPU_ISSET(core, set) }
}

fn one(core: usize) -> libc::cpu_set_t {
    // SAFETY: all zeros is an empty set, and `core` is below CPU_SETSIZE.
    unsafe {
        let mut set = zeroed();
        libc::CPU_SET(core, &mut set);
        set
    }
}

fn allow(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: the call reads as many bytes as it is told.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
