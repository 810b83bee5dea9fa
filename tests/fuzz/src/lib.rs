//! What must hold of everything that a guest may answer and a person may write. Each target has one function, `check`, that takes any
//! bytes at all and panics if something does not hold. `fuzz_targets/` gives them to cargo-fuzz, `tests/tests/fuzz.rs` to `cargo test`.

pub mod describe;
pub mod effects;
pub mod frame;
pub mod input;
pub mod job_file;
pub mod plain;
pub mod snapshot;
