//! Attacks on the engine, each a function, for the tests of what SECURITY.md promises (`tests/tests/hostile.rs`). None of them works.

mod endless;
mod floods;
mod looks;
#[cfg(target_family = "wasm")]
mod raw;

use endless::*;
use floods::*;
use looks::*;
#[cfg(target_family = "wasm")]
use raw::*;

/// Outside of Wasm there is no interface to ask too much of.
#[cfg(not(target_family = "wasm"))]
#[wasmill_udf::udf]
fn asks(_what: &str) -> String {
    String::new()
}

wasmill_udf::export!(
    // looks.rs
    attempts,
    clocks,
    random,
    Scribbles,
    // endless.rs
    loops,
    naps,
    LoopsInOpen,
    loops_in_drop,
    LoopsWhenDropped,
    recurses,
    // floods.rs
    hoards_in_steps,
    hoards_at_once,
    yields,
    yields_text,
    logs,
    logs_long,
    prints,
    prints_unended,
    fails_long,
    panics_long,
    calls_host,
    FloodsColumn,
    FloodsCall,
    wild_date,
    wild_time,
    wild_timestamp,
    // raw.rs
    asks
);
