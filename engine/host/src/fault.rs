//! How a call can end other than well.

use std::fmt;
use std::sync::Arc;

/// What went wrong in a call. Each is the doing of the UDF, except [`FaultKind::Input`] and [`FaultKind::Host`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The guest trapped: unreachable, out of bounds, division by zero, a bad indirect call.
    Trap,
    /// The guest said why (panic message and location), and then trapped.
    Panic,
    /// Ran longer than `call_time_max` (or `load_time_max`).
    Deadline,
    /// Asked for more memory, or larger tables, than it may have, and failed for it.
    MemoryLimit,
    /// Recursed deeper than its stack.
    StackOverflow,
    /// Sent out more than `output_bytes_max`.
    OutputLimit,
    /// Called the host more often than `host_calls_per_bundle_max`.
    CallLimit,
    /// Called `exit`.
    Exit,
    /// Answered something that breaks the contract.
    Lie,
    /// An earlier fault has cost this instance; the guest was not entered.
    Poisoned,
    /// The caller's bundle does not fit the binding; the guest was not entered and is as good as before.
    Input,
    /// The engine's own state could not be read, or the host itself failed.
    Host,
}

impl FaultKind {
    /// One word for counters and dead letters.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::Trap => "trap",
            FaultKind::Panic => "panic",
            FaultKind::Deadline => "deadline",
            FaultKind::MemoryLimit => "memory-limit",
            FaultKind::StackOverflow => "stack-overflow",
            FaultKind::OutputLimit => "output-limit",
            FaultKind::CallLimit => "call-limit",
            FaultKind::Exit => "exit",
            FaultKind::Lie => "lie",
            FaultKind::Poisoned => "poisoned",
            FaultKind::Input => "input",
            FaultKind::Host => "host",
        }
    }

    /// Whether the instance can be called again. All other faults poison it: drop it and make a new one.
    pub fn leaves_instance_usable(self) -> bool {
        matches!(self, FaultKind::Input)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call that failed as a whole. It has had no effect: the same bundle, or parts of it, can run on a fresh instance.
///
/// `Display` is one line for a user: the UDF, what it did, the limit, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it was.
    pub kind: FaultKind,
    /// Name of the UDF, as given to [`Engine::load`](crate::Engine::load).
    pub udf: Arc<str>,
    /// Name of the function; empty while no function runs (`describe`, `load-source`, `load-functions`).
    pub function: String,
    /// What happened and what to do, without the names.
    pub message: String,
    /// Where the guest says it was (`src/lib.rs:12:5`), or empty.
    pub location: String,
    /// Frames of the guest, innermost first, one a line, or empty.
    pub backtrace: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "udf {:?}", self.udf)?;
        if !self.function.is_empty() {
            write!(f, " function {:?}", self.function)?;
        }
        write!(f, " {}", self.message)?;
        if !self.location.is_empty() {
            write!(f, " (at {})", self.location)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
