//! Counting wrong credentials per address and kind of credential.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::Peer;
use crate::auth::peer::network;
use crate::config::Limits;

/// The most counts of one kind that are kept: a flood of distinct addresses must not become a flood of memory.
const MAX_COUNTS: usize = 8192;

/// What kind of credential was wrong. Each has its own count, so that devices whose tokens are out of date lock out nobody who
/// shows the gateway's credential, and the other way round. What is held against nothing here (a bootstrap token) has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The gateway's token or password, and the named credentials; over HTTP too.
    Shared,
    /// A device's own token.
    Device,
    /// The token of the hooks.
    Hook,
}

/// How wrong credentials of one kind are counted.
#[derive(Debug)]
struct Rules {
    attempts: usize,
    window_ms: u64,
    lockout_ms: u64,
    /// Whether programs on this machine are counted as well.
    counts_local: bool,
}

/// Failed logins per kind and address. IPv6 callers are counted by their /64, which one host owns whole.
#[derive(Debug)]
pub(crate) struct Lockout {
    shared: Counts,
    device: Counts,
    hook: Counts,
}

/// Failed logins of one kind.
#[derive(Debug)]
struct Counts {
    rules: Rules,
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

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
        let (window_ms, lockout_ms) = (milliseconds(limits.auth_window), milliseconds(limits.auth_lockout));
        let of_gateway = || Rules { attempts: limits.auth_attempts.max(1), window_ms, lockout_ms, counts_local: false };
        // Of hooks nobody is exempt, and a lock is over with the window.
        let of_hooks =
            Rules { attempts: limits.hook_attempts.max(1), window_ms, lockout_ms: window_ms, counts_local: true };
        let counts = |rules| Counts { rules, failures: Mutex::default() };
        Self { shared: counts(of_gateway()), device: counts(of_gateway()), hook: counts(of_hooks) }
    }

    fn of(&self, kind: Kind) -> &Counts {
        match kind {
            Kind::Shared => &self.shared,
            Kind::Device => &self.device,
            Kind::Hook => &self.hook,
        }
    }

    /// How long the peer is still locked out; none when it is not. Of the gateway's own credentials and of devices' tokens
    /// programs on this machine with nothing between are exempt.
    pub(crate) fn locked(&self, peer: &Peer, kind: Kind, now_ms: u64) -> Option<u64> {
        let counts = self.of(kind);
        let who = counts.who(peer)?;
        let until_ms = counts.lock().get(&who)?.locked_until_ms;
        (until_ms > now_ms).then(|| until_ms - now_ms)
    }

    /// Notes a wrong credential.
    pub(crate) fn failed(&self, peer: &Peer, kind: Kind, now_ms: u64) {
        let counts = self.of(kind);
        if let Some(who) = counts.who(peer) {
            counts.failed(who, now_ms);
        }
    }

    /// Forgets the failures of a peer that has shown a right credential which leaves it nothing to guess at.
    pub(crate) fn succeeded(&self, peer: &Peer, kind: Kind) {
        let counts = self.of(kind);
        if let Some(who) = counts.who(peer) {
            counts.lock().remove(&who);
        }
    }
}

impl Counts {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn who(&self, peer: &Peer) -> Option<IpAddr> {
        (self.rules.counts_local || !peer.is_local()).then(|| network(peer.ip()))
    }

    fn failed(&self, who: IpAddr, now_ms: u64) {
        let Rules { attempts, window_ms, lockout_ms, .. } = self.rules;
        let mut all = self.lock();
        let is_new = all.len() >= MAX_COUNTS && !all.contains_key(&who);
        let inherited = if is_new { self.make_room(&mut all, now_ms) } else { VecDeque::new() };
        let failures = all.entry(who).or_default();
        failures.at_ms.extend(inherited);
        while failures.at_ms.front().is_some_and(|at| at + window_ms <= now_ms) {
            failures.at_ms.pop_front();
        }
        failures.at_ms.push_back(now_ms);
        if failures.at_ms.len() >= attempts {
            failures.at_ms.clear();
            failures.locked_until_ms = now_ms + lockout_ms;
        }
    }

    /// Forgets what does not matter any more; where all of it does, what matters least. The failures of that one are handed
    /// back, for the newcomer to take over: else two that displace each other would never be counted to an end. What is
    /// displaced while it is locked has been counted to its end, so of that nothing is handed on.
    fn make_room(&self, all: &mut HashMap<IpAddr, Failures>, now_ms: u64) -> VecDeque<u64> {
        let weight = |failures: &Failures| failures.weight(self.rules.window_ms, now_ms);
        all.retain(|_, failures| !matches!(weight(failures), (0, 0, _)));
        if all.len() < MAX_COUNTS {
            return VecDeque::new();
        }
        let least = all.iter().min_by_key(|(_, failures)| weight(failures)).map(|(who, _)| *who);
        let displaced = least.and_then(|who| all.remove(&who)).filter(|failures| failures.locked_until_ms <= now_ms);
        displaced.map(|failures| failures.at_ms).unwrap_or_default()
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
        assert_eq!(lockout.shared.lock().len(), MAX_COUNTS);
        assert!(lockout.locked(&locked, Kind::Shared, 4).is_some());
        lockout.failed(&trying, Kind::Shared, 4);
        assert!(lockout.locked(&trying, Kind::Shared, 4).is_some(), "the tenth");
        let late = remote("10.1.1.2");
        for _ in 0..10 {
            lockout.failed(&late, Kind::Shared, 4);
        }
        assert!(lockout.locked(&late, Kind::Shared, 4).is_some(), "who comes when there is no room is counted too");
        lockout.failed(&ip(1_000_000), Kind::Shared, 400_000);
        assert_eq!(lockout.shared.lock().len(), 1, "what is over makes room");
    }

    #[test]
    fn who_would_displace_each_other_in_a_flood_guess_no_more_often_than_others() {
        let ip = |number: u32| remote(&std::net::Ipv4Addr::from(0x0b00_0000 + number).to_string());
        let two = [remote("10.1.1.1"), remote("10.1.1.2")];
        // In the second table everybody is locked, so the one of the two that came last is what matters least.
        for tries_of_others in [2, 10] {
            let lockout = Lockout::new(&Limits::default());
            for number in 0..MAX_COUNTS as u32 {
                for _ in 0..tries_of_others {
                    lockout.failed(&ip(number), Kind::Shared, 1);
                }
            }
            let guesses = two.iter().cycle().take(60).filter(|one| {
                let is_free = lockout.locked(one, Kind::Shared, 2).is_none();
                if is_free {
                    lockout.failed(one, Kind::Shared, 2);
                }
                is_free
            });
            assert!(guesses.count() <= 20, "{tries_of_others}");
            assert_eq!(lockout.shared.lock().len(), MAX_COUNTS);
        }
    }

    #[test]
    fn hooks_count_everybody_more_often_and_for_a_shorter_time() {
        let lockout = Lockout::new(&Limits::default());
        let here = peer("127.0.0.1:5", &[("host", "localhost")]);
        for _ in 0..19 {
            lockout.failed(&here, Kind::Hook, 1);
        }
        assert_eq!(lockout.locked(&here, Kind::Hook, 1), None);
        lockout.failed(&here, Kind::Hook, 1);
        assert_eq!(lockout.locked(&here, Kind::Hook, 1), Some(60_000));
        assert_eq!(lockout.locked(&here, Kind::Shared, 1), None);
    }
}
