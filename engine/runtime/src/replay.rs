//! Calls that failed, to be run again: written down when they end a job ([`Failures`]), read back ([`Recorded`]), and run against the same
//! or another version of the UDF ([`Recorded::run`]).
//!
//! A call is a function of the bytes that the guest is given, so that these bytes are all that has to be kept. `docs/replay.md` has the
//! format.

mod failures;
mod record;
mod run;

pub(crate) use failures::FailedCall;
pub use failures::{Failures, RECORD_BYTES_MAX};
pub use record::{Column, Failure, FailureOf, Function, RECORD_VERSION, Record, Recorded, ReplayError, State, Udf};
pub use run::{Input, Rerun};
