//! A running UDF.
use crate::bundle::{Bundle, Effects};
use crate::declare::Loaded;
use crate::fault::Fault;

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Finest.
    Trace,
    /// For developers.
    Debug,
    /// Normal; also what the guest prints to stdout.
    Info,
    /// Worth a look; also what the guest prints to stderr.
    Warn,
    /// Failed.
    Error,
}

/// What an instance needs of whoever runs it.
pub trait UdfHost: Send + 'static {
    /// A line from the guest, bounded in length, in any order with those of other instances.
    fn log(&mut self, level: LogLevel, message: &str);

    /// The value of a state with access `call` as it was before this bundle, in the encoding of `wit/README.md` ("Values").
    /// `state` is an index into [`Loaded::states`] of the running function, `key` one below [`Bundle::keys`].
    ///
    /// # Errors
    /// Any text; the call ends with [`FaultKind::Host`](crate::FaultKind::Host).
    fn state_get(&mut self, state: u32, key: u32) -> Result<Option<Vec<u8>>, String>;
}

/// A running UDF. It belongs to one thread at a time.
pub struct UdfInstance<H> {
    host: H,
}

impl<H: UdfHost> UdfInstance<H> {
    /// One per binding, in order.
    pub fn loaded(&self) -> &[Loaded] {
        unimplemented!()
    }
    /// What was given to `instantiate`.
    pub fn host(&self) -> &H {
        &self.host
    }
    /// What was given to `instantiate`.
    pub fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }
    /// Runs one bundle.
    pub fn run(&mut self, bundle: &Bundle<'_>) -> Result<Effects, Fault> {
        unimplemented!("{bundle:?}")
    }
    /// Linear memory in use, in bytes.
    pub fn memory_bytes(&self) -> usize {
        unimplemented!()
    }
}
