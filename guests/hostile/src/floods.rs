//! Takes or gives more than there is room for.

use wasmill_udf::host::Level;
use wasmill_udf::prelude::*;

const MEBIBYTE: usize = 1 << 20;

/// Takes memory by the mebibyte.
#[udf]
pub fn hoards_in_steps(x: i64) -> i64 {
    let mut held = Vec::new();
    while std::hint::black_box(true) {
        held.push(vec![x as u8 | 1; MEBIBYTE]);
    }
    held.len() as i64
}

/// Takes 2 GiB at once.
#[udf]
pub fn hoards_at_once(x: i64) -> i64 {
    std::hint::black_box(vec![x as u8 | 1; 2047 * MEBIBYTE]).len() as i64
}

/// Gives the same number without end.
#[udf(table)]
pub fn yields(x: i64) -> impl Iterator<Item = i64> + 'static {
    std::iter::repeat(x)
}

/// Gives texts of a mebibyte without end.
#[udf(table)]
pub fn yields_text(_x: i64) -> impl Iterator<Item = String> + 'static {
    std::iter::repeat_with(|| "y".repeat(MEBIBYTE))
}

/// Logs so many lines.
#[udf]
pub fn logs(lines: i64) -> i64 {
    for line in 0..lines {
        log::error!("line {line}");
    }
    lines
}

/// Logs a line of so many MiB, ten times.
#[udf]
pub fn logs_long(mebibytes: i64) -> i64 {
    let line = "l".repeat(mebibytes as usize * MEBIBYTE);
    for _ in 0..10 {
        wasmill_udf::host::log(Level::Error, &line);
    }
    mebibytes
}

/// Prints so many lines.
#[udf]
pub fn prints(lines: i64) -> i64 {
    for line in 0..lines {
        println!("line {line}");
    }
    lines
}

/// Prints so many MiB without an end of a line.
#[udf]
pub fn prints_unended(mebibytes: i64) -> i64 {
    for _ in 0..mebibytes * 1024 {
        eprint!("{}", "p".repeat(1024));
    }
    mebibytes
}

/// Fails with a message of so many MiB.
#[udf]
pub fn fails_long(mebibytes: i64) -> Result<i64, String> {
    Err("e".repeat(mebibytes as usize * MEBIBYTE))
}

/// Panics with a message of so many MiB.
#[udf]
pub fn panics_long(mebibytes: i64) -> i64 {
    panic!("{}", "p".repeat(mebibytes as usize * MEBIBYTE))
}

/// Calls the host without end.
#[udf]
pub fn calls_host(x: i64) -> i64 {
    while std::hint::black_box(true) {
        wasmill_udf::host::log(Level::Trace, "");
    }
    x
}

macro_rules! floods {
    ($name:ident, $(#[$attribute:meta])?) => {
        #[derive(States)]
        pub struct $name {
            $(#[$attribute])?
            held: ValueState<String>,
        }

        /// Keeps a mebibyte for each key.
        #[udf]
        impl Process for $name {
            type In = i64;
            type Out = i64;

            fn process(&mut self, x: i64, context: &mut Context<'_, i64>) -> Result {
                self.held.set("s".repeat(MEBIBYTE));
                context.emit(x);
                Ok(())
            }
        }
    };
}

floods!(FloodsColumn,);
floods!(FloodsCall, #[state(access = "call")]);

/// A day that no calendar has.
#[udf]
pub fn wild_date(_x: i64) -> Date {
    Date(i32::MAX)
}

/// A time of day that no day has.
#[udf]
pub fn wild_time(_x: i64) -> Time {
    Time(i64::MIN)
}

/// A time that no calendar has.
#[udf]
pub fn wild_timestamp(_x: i64) -> Timestamp {
    Timestamp::new(i64::MAX)
}
