//! Which sessions a connection wants to hear of.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Single sessions that one connection may follow.
const MAX_FOLLOWED: usize = 1000;

/// What a connection subscribed to. Gone with the connection.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    wanted: Mutex<Wanted>,
}

#[derive(Debug, Default)]
struct Wanted {
    all: bool,
    keys: HashSet<String>,
}

impl Subscriptions {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes of every session, or no longer.
    pub(crate) fn set_all(&self, on: bool) {
        self.wanted().all = on;
    }

    /// Follows one session; false when too many are followed already.
    pub(crate) fn follow(&self, key: &str) -> bool {
        let mut wanted = self.wanted();
        if wanted.keys.len() >= MAX_FOLLOWED && !wanted.keys.contains(key) {
            return false;
        }
        wanted.keys.insert(key.to_owned());
        true
    }

    pub(crate) fn unfollow(&self, key: &str) {
        self.wanted().keys.remove(key);
    }

    /// Whether what is said in this session is wanted.
    pub(crate) fn follows(&self, key: &str) -> bool {
        self.wanted().keys.contains(key)
    }

    /// Whether a change of this session is wanted.
    pub(crate) fn want(&self, key: &str) -> bool {
        let wanted = self.wanted();
        wanted.all || wanted.keys.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_cannot_follow_without_end() {
        let subscriptions = Subscriptions::default();
        for number in 0..MAX_FOLLOWED {
            assert!(subscriptions.follow(&number.to_string()));
        }
        assert!(!subscriptions.follow("one more"));
        assert!(subscriptions.follow("0"), "again is no more");
        subscriptions.unfollow("0");
        assert!(subscriptions.follow("one more"));
        assert!(subscriptions.want("one more") && !subscriptions.want("0"));
    }
}
