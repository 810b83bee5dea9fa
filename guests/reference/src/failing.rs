//! Each way to fail.

use wasmill_udf::prelude::*;

/// Odd numbers are row errors.
#[udf]
pub fn fails_on_odd(x: i64) -> Result<i64, String> {
    if x % 2 == 0 { Ok(x / 2) } else { Err(format!("{x} is odd")) }
}

/// Panics on 13.
#[udf]
pub fn panics_on(x: i64) -> i64 {
    assert!(x != 13, "no row may be {x}");
    x
}

/// Panics where `b` is 0.
#[udf]
pub fn divides(a: i64, b: i64) -> i64 {
    a / b
}

/// Panics on the largest number.
#[udf]
pub fn overflows(x: i64) -> i64 {
    x + 1
}

/// Never comes back from 13.
#[udf]
pub fn loops_on(x: i64) -> i64 {
    while std::hint::black_box(x) == 13 {}
    x
}

/// Takes so many MiB of memory, and touches them.
#[udf]
pub fn hogs(mebibytes: i64) -> i64 {
    let pages: Vec<Vec<u8>> = (0..mebibytes).map(|at| vec![at as u8 | 1; 1 << 20]).collect();
    std::hint::black_box(&pages).iter().map(|page| i64::from(page[page.len() / 2] != 0)).sum()
}

/// Recurses so deep.
#[udf]
pub fn recurses(depth: i64) -> i64 {
    fn down(depth: i64) -> i64 {
        let frame = std::hint::black_box([depth; 32]);
        if depth == 0 { 0 } else { 1 + down(frame[7] - 1) }
    }
    down(depth)
}

#[derive(States)]
pub struct FailsHalfway {
    seen: ValueState<i64>,
}

/// Gives a row out and writes its state, then fails on odd numbers: neither may be seen.
#[udf]
impl Process for FailsHalfway {
    type In = i64;
    type Out = i64;

    fn process(&mut self, value: i64, context: &mut Context<'_, i64>) -> Result {
        let seen = self.seen.get().unwrap_or(0) + value;
        self.seen.set(seen);
        context.emit(seen);
        if value % 2 != 0 {
            self.seen.clear();
            return Err(format!("{value} is odd").into());
        }
        Ok(())
    }
}

/// Ends its instance on a negative number: -1 panics, -2 traps, -3 takes too much memory, -4 recurses without end, others loop.
fn ends_instance(value: i64) {
    match value {
        0.. => {}
        -1 => panic!("no row may be negative"),
        -2 => std::process::abort(),
        -3 => drop(std::hint::black_box((0..4096).map(|at| vec![at as u8 | 1; 1 << 20]).collect::<Vec<_>>())),
        -4 => drop(std::hint::black_box(recurses(i64::MAX))),
        _ => while std::hint::black_box(value) < 0 {},
    }
}

#[derive(States)]
pub struct TrapsHalfway {
    seen: ValueState<i64>,
}

/// Gives the sum so far of each key, having written its state, then ends its instance on negative numbers.
#[udf]
impl Process for TrapsHalfway {
    type In = i64;
    type Out = i64;

    fn process(&mut self, value: i64, context: &mut Context<'_, i64>) -> Result {
        let seen = self.seen.get().unwrap_or(0) + value.abs();
        self.seen.set(seen);
        context.emit(seen);
        ends_instance(value);
        Ok(())
    }
}

#[derive(Default)]
pub struct TrapsInSum;

/// A sum that ends its instance when a negative number is added, and that has no result if it is 7.
#[udf]
impl Aggregate for TrapsInSum {
    type Accumulator = i64;
    type Input = i64;
    type Output = i64;

    fn accumulate(&self, sum: &mut i64, value: i64) -> Result {
        *sum += value.abs();
        ends_instance(value);
        Ok(())
    }

    fn result(&self, sum: &i64) -> Result<i64> {
        ends_instance(if *sum == 7 { -2 } else { 0 });
        Ok(*sum)
    }
}

/// Never opens.
pub struct FailsToOpen;

#[udf]
impl FailsToOpen {
    fn open(context: &OpenContext<'_>) -> Result<Self> {
        context.resource("no-such-file.csv")?;
        Ok(Self)
    }

    /// Is never called.
    fn fails_to_open(&self, x: i64) -> i64 {
        x
    }
}

/// Panics rather than open.
pub struct PanicsInOpen;

#[udf]
impl PanicsInOpen {
    fn open(context: &OpenContext<'_>) -> Self {
        assert!(context.parallelism() > 1000, "open does not like it here");
        Self
    }

    /// Is never called.
    fn panics_in_open(&self, x: i64) -> i64 {
        x
    }
}

#[derive(Default)]
pub struct FailsInResult;

/// A sum that has no result if it is negative.
#[udf]
impl Aggregate for FailsInResult {
    type Accumulator = i64;
    type Input = i64;
    type Output = i64;

    fn accumulate(&self, sum: &mut i64, value: i64) -> Result {
        *sum += value;
        Ok(())
    }

    fn result(&self, sum: &i64) -> Result<i64> {
        if *sum < 0 { Err(format!("the sum is {sum}").into()) } else { Ok(*sum) }
    }
}
