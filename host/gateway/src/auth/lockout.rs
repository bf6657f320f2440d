//! Counting wrong credentials per address and kind of credential.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::auth::Peer;
use crate::auth::door::network;
use crate::config::Limits;

/// The most counts that are kept: a flood of distinct addresses must not become a flood of memory.
const MAX_COUNTS: usize = 8192;

/// What kind of credential was wrong. Each has its own count, so that devices whose tokens are out of date lock out nobody who
/// shows the gateway's credential, and the other way round. What is held against nothing here (a bootstrap token) has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The gateway's token or password, and the named credentials; over HTTP too.
    Shared,
    /// A device's own token.
    Device,
    /// The token of the hooks.
    Hook,
}

/// Failed logins per address and kind. IPv6 callers are counted by their /64, which one host owns whole.
#[derive(Debug)]
pub(crate) struct Lockout {
    attempts: usize,
    window_ms: u64,
    lockout_ms: u64,
    /// Whether programs on this machine are counted as well.
    counts_local: bool,
    counts: Mutex<HashMap<Key, Failures>>,
}

type Key = (IpAddr, Kind);

#[derive(Debug, Default)]
struct Failures {
    at_ms: VecDeque<u64>,
    locked_until_ms: u64,
}

impl Failures {
    /// How much it matters that this is remembered: a lock, the longest most, then how many failures there were of late, then
    /// when the last was. The first two are zero where it does not matter at all.
    fn weight(&self, window_ms: u64, now_ms: u64) -> (u64, usize, u64) {
        let lock = if self.locked_until_ms > now_ms { self.locked_until_ms } else { 0 };
        let recent = self.at_ms.iter().filter(|at| **at + window_ms > now_ms).count();
        (lock, recent, self.at_ms.back().copied().unwrap_or_default())
    }
}

impl Lockout {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            attempts: limits.auth_attempts.max(1),
            window_ms: milliseconds(limits.auth_window),
            lockout_ms: milliseconds(limits.auth_lockout),
            counts_local: false,
            counts: Mutex::default(),
        }
    }

    /// For the tokens of hooks: nobody is exempt, and it is over with the window.
    pub(crate) fn of_hooks(limits: &Limits) -> Self {
        Self {
            attempts: limits.hook_attempts.max(1),
            lockout_ms: milliseconds(limits.auth_window),
            counts_local: true,
            ..Self::new(limits)
        }
    }

    /// How long the peer is still locked out; none when it is not. Programs on this machine with nothing between are exempt.
    pub(crate) fn locked(&self, peer: &Peer, kind: Kind, now_ms: u64) -> Option<u64> {
        let key = self.key(peer, kind)?;
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let until_ms = counts.get(&key)?.locked_until_ms;
        (until_ms > now_ms).then(|| until_ms - now_ms)
    }

    /// Notes a wrong credential.
    pub(crate) fn failed(&self, peer: &Peer, kind: Kind, now_ms: u64) {
        let Some(key) = self.key(peer, kind) else { return };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MAX_COUNTS && !counts.contains_key(&key) {
            self.make_room(&mut counts, now_ms);
        }
        let failures = counts.entry(key).or_default();
        while failures.at_ms.front().is_some_and(|at| at + self.window_ms <= now_ms) {
            failures.at_ms.pop_front();
        }
        failures.at_ms.push_back(now_ms);
        if failures.at_ms.len() >= self.attempts {
            failures.at_ms.clear();
            failures.locked_until_ms = now_ms + self.lockout_ms;
        }
    }

    /// Forgets what does not matter any more; where all of it does, what matters least.
    fn make_room(&self, counts: &mut HashMap<Key, Failures>, now_ms: u64) {
        let weight = |failures: &Failures| failures.weight(self.window_ms, now_ms);
        counts.retain(|_, failures| !matches!(weight(failures), (0, 0, _)));
        if counts.len() >= MAX_COUNTS
            && let Some(least) = counts.iter().min_by_key(|(_, failures)| weight(failures)).map(|(key, _)| *key)
        {
            counts.remove(&least);
        }
    }

    fn key(&self, peer: &Peer, kind: Kind) -> Option<Key> {
        (self.counts_local || !peer.is_local()).then(|| (network(peer.ip()), kind))
    }

    /// Forgets the failures of a peer that has shown a right credential which leaves it nothing to guess at.
    pub(crate) fn succeeded(&self, peer: &Peer, kind: Kind) {
        if let Some(key) = self.key(peer, kind) {
            self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LiveConfig;
    use http::HeaderMap;

    fn peer(address: &str, headers: &[(&'static str, &str)]) -> Peer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let config = LiveConfig { trusted_proxies: vec!["127.0.0.9".parse().unwrap()], ..LiveConfig::default() };
        Peer::new(address.parse().unwrap(), &map, &config)
    }

    fn remote(address: &str) -> Peer {
        peer(&format!("{address}:5"), &[])
    }

    #[test]
    fn ten_failures_lock_an_address_for_five_minutes() {
        let lockout = Lockout::new(&Limits::default());
        let caller = remote("10.1.1.1");
        for attempt in 0..10 {
            assert_eq!(lockout.locked(&caller, Kind::Shared, attempt), None);
            lockout.failed(&caller, Kind::Shared, attempt);
        }
        assert_eq!(lockout.locked(&caller, Kind::Shared, 9), Some(300_000));
        assert_eq!(lockout.locked(&caller, Kind::Device, 9), None, "another credential");
        assert_eq!(lockout.locked(&remote("10.1.1.2"), Kind::Shared, 9), None);
        lockout.succeeded(&caller, Kind::Device);
        assert!(lockout.locked(&caller, Kind::Shared, 9).is_some());
        assert_eq!(lockout.locked(&caller, Kind::Shared, 300_009), None);
    }

    #[test]
    fn only_programs_on_this_machine_with_nothing_between_are_exempt() {
        let lockout = Lockout::new(&Limits::default());
        let slow = remote("10.1.1.1");
        for attempt in 0..30 {
            lockout.failed(&slow, Kind::Shared, attempt * 10_000);
        }
        assert_eq!(lockout.locked(&slow, Kind::Shared, 300_000), None);
        let host = ("host", "localhost");
        for (caller, is_exempt) in [
            (peer("127.0.0.1:5", &[host]), true),
            (peer("127.0.0.1:5", &[host, ("origin", "http://localhost")]), false),
            (peer("127.0.0.1:5", &[("host", "evil.example")]), false),
            (peer("127.0.0.1:5", &[host, ("x-forwarded-for", "9.9.9.9")]), false),
            (peer("127.0.0.9:5", &[host, ("x-real-ip", "9.9.9.9")]), false),
            (peer("127.0.0.9:5", &[host, ("x-forwarded-for", "unknown")]), false),
        ] {
            let lockout = Lockout::new(&Limits::default());
            for _ in 0..10 {
                lockout.failed(&caller, Kind::Shared, 1);
            }
            assert_eq!(lockout.locked(&caller, Kind::Shared, 2).is_none(), is_exempt, "{caller:?}");
        }
    }

    #[test]
    fn one_ipv6_network_counts_as_one_and_a_flood_makes_nobody_forgotten_who_matters_more() {
        let lockout = Lockout::new(&Limits::default());
        for host in 1..=10 {
            lockout.failed(&remote(&format!("[2001:db8::{host}]")), Kind::Shared, 1);
        }
        let (locked, trying) = (remote("[2001:db8::ffff]"), remote("10.1.1.1"));
        for _ in 0..9 {
            lockout.failed(&trying, Kind::Shared, 1);
        }
        let ip = |number: u32| remote(&std::net::Ipv4Addr::from(0x0b00_0000 + number).to_string());
        for number in 0..MAX_COUNTS as u32 + 100 {
            lockout.failed(&ip(number), Kind::Shared, 3);
        }
        assert_eq!(lockout.counts.lock().unwrap().len(), MAX_COUNTS);
        assert!(lockout.locked(&locked, Kind::Shared, 4).is_some());
        lockout.failed(&trying, Kind::Shared, 4);
        assert!(lockout.locked(&trying, Kind::Shared, 4).is_some(), "the tenth");
        let late = remote("10.1.1.2");
        for _ in 0..10 {
            lockout.failed(&late, Kind::Shared, 4);
        }
        assert!(lockout.locked(&late, Kind::Shared, 4).is_some(), "who comes when there is no room is counted too");
        lockout.failed(&ip(1_000_000), Kind::Shared, 400_000);
        assert_eq!(lockout.counts.lock().unwrap().len(), 1, "what is over makes room");
    }
}
