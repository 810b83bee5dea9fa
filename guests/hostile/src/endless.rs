//! Does not come back.

use std::time::Duration;

use wasmill_udf::prelude::*;

fn forever() {
    while std::hint::black_box(true) {}
}

/// Never ends.
#[udf]
pub fn loops(x: i64) -> i64 {
    forever();
    x
}

/// Sleeps, and sleeps again.
#[udf]
pub fn naps(x: i64) -> i64 {
    while std::hint::black_box(true) {
        std::thread::sleep(Duration::from_secs(3600));
    }
    x
}

/// Never opens.
pub struct LoopsInOpen;

#[udf]
impl LoopsInOpen {
    fn open(_context: &OpenContext<'_>) -> Self {
        forever();
        Self
    }

    /// Is never called.
    fn loops_in_open(&self, x: i64) -> i64 {
        x
    }
}

struct Sticky;

impl Drop for Sticky {
    fn drop(&mut self) {
        forever();
    }
}

/// Drops what cannot be dropped.
#[udf]
pub fn loops_in_drop(x: i64) -> i64 {
    let _sticky = Sticky;
    x
}

/// Is a good function, until it is dropped.
pub struct LoopsWhenDropped {
    _sticky: Sticky,
}

#[udf]
impl LoopsWhenDropped {
    fn open(_context: &OpenContext<'_>) -> Self {
        Self { _sticky: Sticky }
    }

    /// One more.
    fn loops_when_dropped(&self, x: i64) -> i64 {
        x + 1
    }
}

/// Recurses without end.
#[udf]
pub fn recurses(x: i64) -> i64 {
    fn down(depth: i64) -> i64 {
        let frame = std::hint::black_box([depth; 16]);
        if std::hint::black_box(false) {
            return depth;
        }
        1 + down(frame[7] + 1)
    }
    down(x)
}
