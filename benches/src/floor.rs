//! The functions of `guests/bench` in native Rust, over the generator's Arrow arrays.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, Scalar, StringArray};
use arrow::compute::kernels::numeric::mul;
use arrow::compute::kernels::zip::zip;
use arrow::compute::{cast, starts_with};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use hashbrown::HashMap;

/// A function of a batch; it may keep state.
pub trait RustFunction {
    fn call(&mut self, rows: &RecordBatch) -> ArrayRef;
}

/// A function without state.
struct Plain(fn(&RecordBatch) -> ArrayRef);

impl RustFunction for Plain {
    fn call(&mut self, rows: &RecordBatch) -> ArrayRef {
        (self.0)(rows)
    }
}

/// `i + 1` of the first column.
pub fn add_one() -> Box<dyn RustFunction> {
    Box::new(Plain(|rows| {
        Arc::new(rows.column(0).as_primitive::<Int64Type>().unary::<_, Int64Type>(|i| i.wrapping_add(1)))
    }))
}

/// As the guest's `work`, letter for letter.
fn work(x: i64, rounds: i64) -> i64 {
    let mut state = x as u64;
    for _ in 0..rounds {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^= state >> 31;
    }
    state as i64
}

/// 64 rounds of SplitMix64 of the first column.
pub fn rounds() -> Box<dyn RustFunction> {
    Box::new(Plain(|rows| {
        // An argument of the guest's function, which its compiler does not know either.
        let rounds = black_box(64);
        Arc::new(rows.column(0).as_primitive::<Int64Type>().unary::<_, Int64Type>(|x| work(x, rounds)))
    }))
}

/// Price times count where the name begins with `a`, else 0, by Arrow's kernels.
pub fn revenue() -> Box<dyn RustFunction> {
    Box::new(Plain(|rows| {
        const FITS: &str = "the generator's columns are f64, i64 and utf8, without null";
        let counts = cast(rows.column(1), &DataType::Float64).expect(FITS);
        let products = mul(rows.column(0), &counts).expect(FITS);
        let letter = Scalar::new(StringArray::from(vec!["a"]));
        let chosen = starts_with(rows.column(2).as_string::<i32>(), &letter).expect(FITS);
        let zero = Scalar::new(Float64Array::from(vec![0.0]));
        zip(&chosen, &products, &zero).expect(FITS)
    }))
}

/// The mean so far of the second column, per value of the first.
pub fn keyed_average() -> Box<dyn RustFunction> {
    #[derive(Default)]
    struct KeyedAverage {
        states: HashMap<i64, (f64, i64)>,
    }
    impl RustFunction for KeyedAverage {
        fn call(&mut self, rows: &RecordBatch) -> ArrayRef {
            let keys = rows.column(0).as_primitive::<Int64Type>().values();
            let values = rows.column(1).as_primitive::<Float64Type>().values();
            let means = keys.iter().zip(values).map(|(key, value)| {
                let (sum, count) = self.states.entry(*key).or_default();
                *sum += value;
                *count += 1;
                *sum / *count as f64
            });
            Arc::new(Float64Array::from_iter_values(means))
        }
    }
    Box::new(KeyedAverage::default())
}
