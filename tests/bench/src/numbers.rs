//! Samples and what is said of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Measured times, in nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<u64>);

/// A sample set in two numbers.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// Half of the samples are below, in microseconds.
    pub median_us: f64,
    /// 99 of 100 samples are below, in microseconds.
    pub p99_us: f64,
}

impl Samples {
    /// Adds one.
    pub fn push(&mut self, time: Duration) {
        self.0.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds all of `other`.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Median and 99th percentile; zero without samples.
    #[must_use]
    pub fn spread(&self) -> Spread {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        Spread { median_us: at(&sorted, 50), p99_us: at(&sorted, 99) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a measurement need no 53 bits")]
fn at(sorted: &[u64], percent: usize) -> f64 {
    let index = sorted.len().saturating_mul(percent) / 100;
    let value = sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default();
    value as f64 / 1000.0
}

/// The middle one of some numbers; zero of none.
#[must_use]
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Milliseconds.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// MiB in MB.
#[must_use]
pub fn megabytes(mib: f64) -> f64 {
    mib * 1024.0 * 1024.0 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_tail() {
        let mut samples = Samples::default();
        for microseconds in 0..1000 {
            samples.push(Duration::from_micros(microseconds));
        }
        let spread = samples.spread();
        assert_eq!((spread.median_us, spread.p99_us), (500.0, 990.0));
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(Samples::default().spread().p99_us, 0.0);
    }
}
