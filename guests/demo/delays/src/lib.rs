//! How late the flights of a window were.

use wasmill_udf::prelude::*;

/// A flight.
#[derive(Clone, Debug, Row)]
struct Flight {
    /// Minutes; null = cancelled.
    dep_delay: Option<i64>,
    /// Was it late because its aircraft came late?
    inherited: bool,
}

/// What is kept of the flights so far.
#[derive(Clone, Debug, Default, PartialEq, Row)]
struct Delays {
    flights: i64,
    cancelled: i64,
    delay_sum: i64,
    delay_max: Option<i64>,
    inherited: i64,
}

/// A line of the summary.
#[derive(Clone, Debug, PartialEq, Row)]
struct Line {
    flights: i64,
    cancelled: i64,
    /// Minutes, over the flights that were not cancelled.
    mean_dep_delay: Option<f64>,
    max_dep_delay: Option<i64>,
    inherited: i64,
}

#[derive(Default)]
struct Summary;

/// Counts flights, cancelled flights and inherited delays, and takes mean and maximum of the departure delays.
#[udf]
impl Aggregate for Summary {
    type Accumulator = Delays;
    type Input = Flight;
    type Output = Line;

    fn accumulate(&self, delays: &mut Delays, flight: Flight) -> Result {
        delays.flights += 1;
        delays.inherited += i64::from(flight.inherited);
        match flight.dep_delay {
            Some(delay) => {
                delays.delay_sum += delay;
                delays.delay_max = delays.delay_max.max(Some(delay));
            }
            None => delays.cancelled += 1,
        }
        Ok(())
    }

    fn merge(&self, delays: &mut Delays, other: Delays) -> Result {
        delays.flights += other.flights;
        delays.cancelled += other.cancelled;
        delays.delay_sum += other.delay_sum;
        delays.delay_max = delays.delay_max.max(other.delay_max);
        delays.inherited += other.inherited;
        Ok(())
    }

    fn result(&self, delays: &Delays) -> Result<Line> {
        let flown = delays.flights - delays.cancelled;
        Ok(Line {
            flights: delays.flights,
            cancelled: delays.cancelled,
            mean_dep_delay: (flown > 0).then(|| delays.delay_sum as f64 / flown as f64),
            max_dep_delay: delays.delay_max,
            inherited: delays.inherited,
        })
    }
}

export!(Summary);

#[cfg(test)]
mod tests;
