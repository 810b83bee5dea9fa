//! A function of every kind and type, and functions that fail in every way: what the tests of the host call.

mod failing;
mod identities;
mod kinds;

use failing::*;
use identities::*;
use kinds::*;
use wasmill_udf::export;

export!(
    // identities.rs
    id_bool,
    id_i8,
    id_i16,
    id_i32,
    id_i64,
    id_u8,
    id_u16,
    id_u32,
    id_u64,
    id_f32,
    id_f64,
    id_decimal,
    id_utf8,
    id_text,
    id_binary,
    id_bytes,
    id_date,
    id_time,
    id_timestamp_s,
    id_timestamp_ms,
    id_timestamp_us,
    id_timestamp_ns,
    id_timestamp_utc,
    id_list,
    id_list_nullable,
    id_struct,
    id_map,
    id_nested,
    maybe_bool,
    maybe_i64,
    maybe_f64,
    maybe_utf8,
    maybe_decimal,
    maybe_list,
    maybe_struct,
    // kinds.rs
    add_one,
    add,
    constant,
    greet,
    parse_number,
    add_columns,
    shout,
    words,
    count_to,
    large,
    enrich,
    longest,
    total,
    Parameterised,
    sum,
    KeyedAverage,
    KeyedAverageByCall,
    KeyedAverageOneByOne,
    Statistics,
    Collected,
    Largest,
    Echo,
    Whoami,
    // failing.rs
    fails_on_odd,
    panics_on,
    divides,
    overflows,
    loops_on,
    hogs,
    recurses,
    FailsHalfway,
    FailsToOpen,
    PanicsInOpen,
    FailsInResult,
    TrapsHalfway,
    TrapsInSum
);

#[cfg(test)]
mod tests;
