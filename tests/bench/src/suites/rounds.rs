//! What one of several arms did, round by round, and how two of them compare.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use leanclaw_bench::numbers::{Spread, median};

/// The rounds of one arm.
#[derive(Default)]
pub(crate) struct Rounds {
    calls_per_second: Vec<f64>,
    latency: Vec<Spread>,
}

/// The rounds of each arm by its name.
#[derive(Default)]
pub(crate) struct Arms(BTreeMap<String, Rounds>);

impl Arms {
    pub(crate) fn add(&mut self, arm: String, calls_per_second: f64, latency: Spread) {
        let rounds = self.0.entry(arm).or_default();
        rounds.calls_per_second.push(calls_per_second);
        rounds.latency.push(latency);
    }

    pub(crate) fn get(&self, arm: &str) -> Result<&Rounds> {
        self.0.get(arm).with_context(|| format!("no round of {arm}"))
    }
}

impl Rounds {
    /// The middle rate.
    pub(crate) fn rate(&self) -> f64 {
        median(&self.calls_per_second)
    }

    /// The middle one of the rounds' ratios: what hits one arm of a round hits the other as well.
    pub(crate) fn part_of(&self, reference: &Self) -> f64 {
        let pairs = self.calls_per_second.iter().zip(&reference.calls_per_second);
        median(&pairs.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
    }

    /// The middle latencies.
    pub(crate) fn latency(&self) -> Spread {
        let middle = |pick: fn(&Spread) -> f64| median(&self.latency.iter().map(pick).collect::<Vec<_>>());
        Spread { median_us: middle(|spread| spread.median_us), p99_us: middle(|spread| spread.p99_us) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_are_compared_round_by_round() {
        let mut arms = Arms::default();
        for (ours, theirs) in [(50.0, 100.0), (5.0, 10.0), (90.0, 100.0)] {
            arms.add("ours".to_owned(), ours, Spread { median_us: ours, p99_us: 2.0 * ours });
            arms.add("theirs".to_owned(), theirs, Spread::default());
        }
        let ours = arms.get("ours").unwrap();
        assert_eq!((ours.rate(), ours.part_of(arms.get("theirs").unwrap())), (50.0, 0.5));
        assert_eq!(ours.latency().p99_us, 100.0);
        assert!(arms.get("nobody").is_err());
    }
}
