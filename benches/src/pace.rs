//! How long to measure: `QUICK=1` in the environment wants an answer soon, else it is to be trusted.

use std::time::Duration;

pub struct Pace {
    pub quick: bool,
    /// Of one run of one way.
    pub run: Duration,
    pub samples: usize,
    /// Rows whose latency is taken, at 100 a second.
    pub latency_rows: u64,
    pub starts: usize,
    /// Rows over which memory must not grow.
    pub growth_rows: u64,
    /// Runs on one core and on two, in turn.
    pub scaling_pairs: usize,
}

impl Pace {
    pub fn new(quick: bool) -> Pace {
        match quick {
            true => Pace {
                quick,
                run: Duration::from_millis(30),
                samples: 10,
                latency_rows: 250,
                starts: 10,
                growth_rows: 4_000_000,
                scaling_pairs: 3,
            },
            false => Pace {
                quick,
                run: Duration::from_millis(200),
                samples: 20,
                latency_rows: 2000,
                starts: 20,
                growth_rows: 10_000_000,
                scaling_pairs: 9,
            },
        }
    }
}

/// The value below which `share` of `values` lies; they become sorted. 0 without values.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1)) as f64 * share;
    values.get(at.round() as usize).copied().unwrap_or(0.0)
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}
