//! Counting what happens again and again, so that the audit log tells of each kind once a minute and not a million times.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

const WINDOW_MS: u64 = 60_000;
/// Kinds that are told apart at once; beyond it those of everyone are counted together.
const MAX_KINDS: usize = 4096;

/// What happened, by who it happened to and a code, of which there must be few.
#[derive(Debug)]
pub(crate) struct Repeats<Who> {
    kinds: Mutex<HashMap<(Option<Who>, String), Seen>>,
}

impl<Who> Default for Repeats<Who> {
    fn default() -> Self {
        Self { kinds: Mutex::default() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    since_ms: u64,
    more: u64,
}

impl<Who: Eq + Hash> Repeats<Who> {
    /// Notes that it happened. Some when it is to be written down: with the number of equal ones since the last that was.
    pub(crate) fn note(&self, who: Who, code: &str, now_ms: u64) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (Some(who), code.to_owned());
        if kinds.len() >= MAX_KINDS && !kinds.contains_key(&key) {
            kinds.retain(|_, seen| seen.since_ms + WINDOW_MS > now_ms);
            if kinds.len() >= MAX_KINDS {
                key.0 = None;
            }
        }
        match kinds.get_mut(&key) {
            Some(seen) if seen.since_ms + WINDOW_MS > now_ms => {
                seen.more += 1;
                None
            }
            earlier => {
                let repeated = earlier.map_or(0, |seen| seen.more);
                kinds.insert(key, Seen { since_ms: now_ms, more: 0 });
                Some(repeated)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn the_first_of_a_minute_is_told_with_how_many_came_since() {
        let repeats = Repeats::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(repeats.note(ip("9.9.9.9"), "A", 1000), Some(0));
        for at_ms in 1001..1100 {
            assert_eq!(repeats.note(ip("9.9.9.9"), "A", at_ms), None);
        }
        assert_eq!(repeats.note(ip("9.9.9.9"), "B", 1100), Some(0));
        assert_eq!(repeats.note(ip("9.9.9.8"), "A", 1100), Some(0));
        assert_eq!(repeats.note(ip("9.9.9.9"), "A", 61_000), Some(99));
    }

    #[test]
    fn a_flood_of_addresses_is_a_few_rows_and_little_memory() {
        let repeats = Repeats::default();
        let told = (0..100_000_u32).filter(|number| repeats.note(IpAddr::V4((*number).into()), "A", 5).is_some());
        assert_eq!(told.count(), MAX_KINDS + 1);
        assert_eq!(repeats.kinds.lock().unwrap().len(), MAX_KINDS + 1);
    }
}
