//! When a failed region starts again: Flink's restart strategies.

use std::collections::VecDeque;
use std::time::Duration;

/// Names and defaults are Flink's.
#[derive(Debug, Clone, PartialEq)]
pub enum RestartStrategy {
    /// The first failure ends the job.
    None,
    /// So many times, so long after each failure.
    FixedDelay { attempts: u64, delay: Duration },
    /// The wait grows with every failure, up to a bound, and shrinks to its beginning when there was none for a while.
    ExponentialDelay { initial: Duration, max: Duration, multiplier: f64, reset_after: Duration, attempts: u64 },
    /// As long as there are not more failures than so many in an interval.
    FailureRate { failures_max: u64, interval: Duration, delay: Duration },
}

impl RestartStrategy {
    pub(crate) const EXPONENTIAL: RestartStrategy = RestartStrategy::ExponentialDelay {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(60),
        multiplier: 1.5,
        reset_after: Duration::from_secs(3600),
        attempts: u64::MAX,
    };
}

/// A strategy and the failures that it has seen.
#[derive(Debug)]
pub(crate) struct Restarts {
    strategy: RestartStrategy,
    count: u64,
    wait: Duration,
    last: Option<Duration>,
    recent: VecDeque<Duration>,
}

impl Restarts {
    pub(crate) fn new(strategy: RestartStrategy) -> Restarts {
        Restarts { strategy, count: 0, wait: Duration::ZERO, last: None, recent: VecDeque::new() }
    }

    /// Something failed at `now`: how long to wait, or `None` if it was once too often.
    pub(crate) fn failed(&mut self, now: Duration) -> Option<Duration> {
        let last = self.last.replace(now);
        self.count += 1;
        match &self.strategy {
            RestartStrategy::None => None,
            RestartStrategy::FixedDelay { attempts, delay } => (self.count <= *attempts).then_some(*delay),
            RestartStrategy::ExponentialDelay { initial, max, multiplier, reset_after, attempts } => {
                // Flink counts quiet time from the end of the wait on.
                let quiet = last.is_none_or(|last| now.saturating_sub(last + self.wait) >= *reset_after);
                if quiet {
                    self.count = 1;
                }
                self.wait = if quiet { *initial } else { self.wait.mul_f64(*multiplier).min(*max) };
                (self.count <= *attempts).then_some(self.wait)
            }
            RestartStrategy::FailureRate { failures_max, interval, delay } => {
                self.recent.push_back(now);
                while self.recent.front().is_some_and(|first| now.saturating_sub(*first) > *interval) {
                    self.recent.pop_front();
                }
                (self.recent.len() as u64 <= *failures_max).then_some(*delay)
            }
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(strategy: RestartStrategy, at: &[u64]) -> Vec<Option<u64>> {
        let mut restarts = Restarts::new(strategy);
        let failed = |&at: &u64| restarts.failed(Duration::from_secs(at)).map(|wait| wait.as_millis() as u64);
        at.iter().map(failed).collect()
    }

    #[test]
    fn strategies_are_flinks() {
        assert_eq!(waits(RestartStrategy::None, &[0]), [None]);
        let fixed = RestartStrategy::FixedDelay { attempts: 2, delay: Duration::from_secs(3) };
        assert_eq!(waits(fixed, &[0, 10, 20]), [Some(3000), Some(3000), None]);
        let exponential = RestartStrategy::EXPONENTIAL;
        assert_eq!(waits(exponential.clone(), &[0, 2, 4]), [Some(1000), Some(1500), Some(2250)]);
        assert_eq!(waits(exponential.clone(), &[0, 3600, 9000]), [Some(1000), Some(1500), Some(1000)]);
        let many: Vec<u64> = (0..20).map(|n| n * 61).collect();
        assert_eq!(waits(exponential, &many).last(), Some(&Some(60_000)));
        let rate = RestartStrategy::FailureRate {
            failures_max: 2,
            interval: Duration::from_secs(10),
            delay: Duration::from_secs(1),
        };
        assert_eq!(waits(rate, &[0, 5, 20, 22, 24]), [Some(1000), Some(1000), Some(1000), Some(1000), None]);
    }
}
