//! Counting wrong credentials per address.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::auth::Peer;
use crate::auth::door::network;
use crate::config::Limits;

/// The most addresses that are remembered: a flood of distinct addresses must not become a flood of memory.
const MAX_ADDRESSES: usize = 8192;

/// Failed logins per address. IPv6 callers are counted by their /64, which one host owns whole.
#[derive(Debug)]
pub(crate) struct Lockout {
    attempts: usize,
    window_ms: u64,
    lockout_ms: u64,
    /// Whether programs on this machine are counted as well.
    counts_local: bool,
    addresses: Mutex<HashMap<IpAddr, Failures>>,
}

#[derive(Debug, Default)]
struct Failures {
    at_ms: VecDeque<u64>,
    locked_until_ms: u64,
}

impl Lockout {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            attempts: limits.auth_attempts.max(1),
            window_ms: milliseconds(limits.auth_window),
            lockout_ms: milliseconds(limits.auth_lockout),
            counts_local: false,
            addresses: Mutex::default(),
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

    /// How long the peer is still locked out; none when it is not. Local programs are exempt, web pages are not.
    pub(crate) fn locked(&self, peer: &Peer, now_ms: u64) -> Option<u64> {
        let key = self.key(peer)?;
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let until_ms = addresses.get(&key)?.locked_until_ms;
        (until_ms > now_ms).then(|| until_ms - now_ms)
    }

    /// Notes a wrong credential.
    pub(crate) fn failed(&self, peer: &Peer, now_ms: u64) {
        let Some(key) = self.key(peer) else { return };
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&key) {
            let window_ms = self.window_ms;
            addresses.retain(|_, failures| {
                failures.locked_until_ms > now_ms || failures.at_ms.back().is_some_and(|at| at + window_ms > now_ms)
            });
            if addresses.len() >= MAX_ADDRESSES {
                return;
            }
        }
        let failures = addresses.entry(key).or_default();
        while failures.at_ms.front().is_some_and(|at| at + self.window_ms <= now_ms) {
            failures.at_ms.pop_front();
        }
        failures.at_ms.push_back(now_ms);
        if failures.at_ms.len() >= self.attempts {
            failures.at_ms.clear();
            failures.locked_until_ms = now_ms + self.lockout_ms;
        }
    }

    fn key(&self, peer: &Peer) -> Option<IpAddr> {
        let ip = peer.ip().to_canonical();
        if ip.is_loopback() && !peer.from_page && !peer.hidden_behind_proxy && !self.counts_local {
            return None;
        }
        Some(network(ip))
    }

    /// Forgets the failures of a peer that has shown the right credential.
    pub(crate) fn succeeded(&self, peer: &Peer) {
        if let Some(key) = self.key(peer) {
            self.addresses.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
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

    fn peer(address: &str, origin: Option<&str>) -> Peer {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert("origin", origin.parse().unwrap());
        }
        Peer::new(address.parse().unwrap(), &headers, &LiveConfig::default())
    }

    #[test]
    fn ten_failures_lock_an_address_for_five_minutes() {
        let lockout = Lockout::new(&Limits::default());
        let remote = peer("10.1.1.1:5", None);
        for attempt in 0..10 {
            assert_eq!(lockout.locked(&remote, attempt), None);
            lockout.failed(&remote, attempt);
        }
        assert_eq!(lockout.locked(&remote, 9), Some(300_000));
        assert_eq!(lockout.locked(&peer("10.1.1.2:5", None), 9), None);
        assert_eq!(lockout.locked(&remote, 300_009), None);
    }

    #[test]
    fn slow_failures_and_local_programs_are_not_locked_out_but_pages_are() {
        let lockout = Lockout::new(&Limits::default());
        let remote = peer("10.1.1.1:5", None);
        for attempt in 0..30 {
            lockout.failed(&remote, attempt * 10_000);
        }
        assert_eq!(lockout.locked(&remote, 300_000), None);
        let (program, page) = (peer("127.0.0.1:5", None), peer("127.0.0.1:5", Some("http://localhost")));
        for _ in 0..10 {
            lockout.failed(&program, 1);
            lockout.failed(&page, 1);
        }
        assert_eq!(lockout.locked(&program, 2), None);
        assert!(lockout.locked(&page, 2).is_some());
    }

    #[test]
    fn one_ipv6_network_counts_as_one_and_memory_is_bounded() {
        let lockout = Lockout::new(&Limits::default());
        for host in 1..=10 {
            lockout.failed(&peer(&format!("[2001:db8::{host}]:5"), None), 1);
        }
        assert!(lockout.locked(&peer("[2001:db8::ffff]:5", None), 2).is_some());
        for number in 0..20_000_u32 {
            let ip = std::net::Ipv4Addr::from(0x0b00_0000 + number);
            lockout.failed(&peer(&format!("{ip}:5"), None), 3);
        }
        assert!(lockout.addresses.lock().unwrap().len() <= MAX_ADDRESSES);
    }
}
