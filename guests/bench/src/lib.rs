//! Functions that the benchmarks call.

use wasmill_udf::prelude::*;

/// One more: all cost is the boundary's.
#[udf]
fn add_one(x: i64) -> i64 {
    x.wrapping_add(1)
}

/// One more, over a column.
#[udf(vectorized)]
fn add_one_vectorized(x: Column<'_, i64>) -> Vec<i64> {
    x.map(|x| x.wrapping_add(1))
}

/// About a microsecond of work: rounds of SplitMix64.
#[udf]
fn work(x: i64, rounds: i64) -> i64 {
    let mut state = x as u64;
    for _ in 0..rounds {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^= state >> 31;
    }
    state as i64
}

/// Fahrenheit of Celsius, over a column.
#[udf(vectorized)]
fn fahrenheit(celsius: Column<'_, f64>) -> Vec<f64> {
    celsius.map(|celsius| celsius * 1.8 + 32.0)
}

/// Price times count where the name begins with `a`, else 0: three columns of three types.
#[udf(vectorized)]
fn revenue(price: Column<'_, f64>, count: Column<'_, i64>, name: Utf8Column<'_>) -> Vec<f64> {
    let mut products = price.zip(&count, |price, count| price * count as f64).into_iter();
    name.map(|name| products.next().filter(|_| name.starts_with('a')).unwrap_or(0.0))
}

/// ASCII upper case of a text.
#[udf]
fn upper(text: &str) -> String {
    text.to_ascii_uppercase()
}

/// An i64, an f64 and a text in, a text out.
#[udf]
fn describe(id: i64, value: f64, name: &str) -> String {
    format!("{id}:{name}:{value:.1}")
}

/// A reading of a key.
#[derive(Clone, Row)]
struct Reading {
    value: f64,
}

/// The mean of a key's values so far, once for each way that a function can reach its state.
macro_rules! keyed_average {
    ($name:ident, $(#[$attribute:meta])?) => {
        #[derive(States)]
        struct $name {
            $(#[$attribute])?
            count: ValueState<i64>,
            $(#[$attribute])?
            sum: ValueState<f64>,
        }

        /// The mean of a key's values so far.
        #[udf]
        impl Process for $name {
            type In = Reading;
            type Out = f64;

            fn process(&mut self, reading: Reading, context: &mut Context<'_, f64>) -> Result {
                let count = self.count.get().unwrap_or(0) + 1;
                let sum = self.sum.get().unwrap_or(0.0) + reading.value;
                self.count.set(count);
                self.sum.set(sum);
                context.emit(sum / count as f64);
                Ok(())
            }
        }
    };
}

keyed_average!(KeyedAverage,);
keyed_average!(KeyedAverageByCall, #[state(access = "call")]);
keyed_average!(KeyedAverageOneByOne, #[state(access = "call", prefetch = false)]);

#[derive(Default)]
struct Mean;

#[derive(Clone, Default, Row)]
struct MeanSoFar {
    count: i64,
    sum: f64,
}

/// The mean.
#[udf]
impl Aggregate for Mean {
    type Accumulator = MeanSoFar;
    type Input = Reading;
    type Output = Option<f64>;

    fn accumulate(&self, so_far: &mut MeanSoFar, reading: Reading) -> Result {
        so_far.count += 1;
        so_far.sum += reading.value;
        Ok(())
    }

    fn merge(&self, so_far: &mut MeanSoFar, other: MeanSoFar) -> Result {
        so_far.count += other.count;
        so_far.sum += other.sum;
        Ok(())
    }

    fn result(&self, so_far: &MeanSoFar) -> Result<Option<f64>> {
        Ok((so_far.count > 0).then(|| so_far.sum / so_far.count as f64))
    }
}

export!(
    add_one,
    add_one_vectorized,
    work,
    fahrenheit,
    upper,
    revenue,
    describe,
    KeyedAverage,
    KeyedAverageByCall,
    KeyedAverageOneByOne,
    Mean
);
