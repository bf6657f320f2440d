//! How often may be called: per address, per credential and per class of methods, in sliding windows.
//!
//! A connection takes calls in blocks from what its address and its credential share, so that a call costs a subtraction and
//! no lock. A block is at most a thousandth of a limit; what is left of it goes back when the connection ends.
//! So many distinct addresses or credentials are told apart; beyond that the new ones share one account.

mod window;

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leanclaw_types::frame::{ErrorShape, ProtocolVersion, error_code};
use serde_json::json;

use crate::auth::peer::network;
use crate::config::Live;
use window::{Given, Number, Window};

/// Addresses, and likewise credentials, that are told apart.
const MAX_KEYS: usize = 8192;
/// The most calls a connection holds at a time.
const MAX_BLOCK: u32 = 1024;

/// What a method costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Read,
    Write,
    Admin,
    Expensive,
}

const CLASSES: usize = 4;

/// Calls per window and class; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassLimits {
    /// Methods that only read.
    pub read: u32,
    /// Methods that change something.
    pub write: u32,
    /// Methods for admins, and those that approve and pair.
    pub admin: u32,
    /// Methods that make others work: tools, messages, sums over everything.
    pub expensive: u32,
}

impl ClassLimits {
    fn of(&self, class: Class) -> u32 {
        match class {
            Class::Read => self.read,
            Class::Write => self.write,
            Class::Admin => self.admin,
            Class::Expensive => self.expensive,
        }
    }
}

/// How often may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimits {
    /// The window, at least a second.
    pub window: Duration,
    /// For each address (IPv6: /64).
    pub per_ip: ClassLimits,
    /// For each device, credential or user.
    pub per_credential: ClassLimits,
    /// In place of both for programs on this machine.
    pub loopback: ClassLimits,
    /// Control-plane writes (`config.apply` and the like), per method and credential, whatever the class allows.
    pub control_plane: u32,
    /// The same for clients of version 3.
    pub control_plane_v3: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            per_ip: ClassLimits { read: 60_000, write: 12_000, admin: 3_000, expensive: 3_000 },
            per_credential: ClassLimits { read: 240_000, write: 48_000, admin: 6_000, expensive: 6_000 },
            loopback: ClassLimits { read: 60_000_000, write: 30_000_000, admin: 6_000_000, expensive: 6_000_000 },
            control_plane: 30,
            control_plane_v3: 3,
        }
    }
}

impl RateLimits {
    fn window_ms(&self) -> u64 {
        u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX / 4).clamp(1000, u64::MAX / 4)
    }
}

/// What one address or one credential has used.
#[derive(Debug, Default)]
pub(crate) struct Account {
    classes: Mutex<[Window; CLASSES]>,
    control_plane: Mutex<HashMap<&'static str, Window>>,
}

impl Account {
    fn is_idle(&self, window_ms: u64, now_ms: u64) -> bool {
        let classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        let control_plane = self.control_plane.lock().unwrap_or_else(PoisonError::into_inner);
        classes.iter().chain(control_plane.values()).all(|window| window.is_idle(window_ms, now_ms))
    }

    fn with<R>(&self, class: Class, act: impl FnOnce(&mut Window) -> R) -> R {
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        let [read, write, admin, expensive] = &mut *classes;
        act(match class {
            Class::Read => read,
            Class::Write => write,
            Class::Admin => admin,
            Class::Expensive => expensive,
        })
    }

    /// Takes calls back that were counted in a window; none were where there is none.
    fn give_back(&self, class: Class, count: u32, taken_in: Option<Number>) {
        if let (1.., Some(taken_in)) = (count, taken_in) {
            self.with(class, |window| window.give_back(count, taken_in));
        }
    }
}

/// Accounts by key, a bounded number of them.
#[derive(Debug)]
struct Book<K> {
    accounts: Mutex<HashMap<K, Arc<Account>>>,
    /// Of all whom there is no more room for.
    rest: Arc<Account>,
}

impl<K: Hash + Eq> Book<K> {
    fn new() -> Self {
        Self { accounts: Mutex::default(), rest: Arc::default() }
    }

    fn open(&self, key: K, window_ms: u64, now_ms: u64) -> Arc<Account> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(&key) {
            return Arc::clone(account);
        }
        if accounts.len() >= MAX_KEYS {
            accounts.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_idle(window_ms, now_ms));
        }
        if accounts.len() >= MAX_KEYS {
            return Arc::clone(&self.rest);
        }
        Arc::clone(accounts.entry(key).or_default())
    }
}

/// Every account.
#[derive(Debug)]
pub(crate) struct Rates {
    live: Live,
    /// How often the limits were changed.
    revision: AtomicU32,
    /// By address, apart for programs on this machine.
    ips: Book<(IpAddr, bool)>,
    credentials: Book<(String, bool)>,
}

impl Rates {
    pub(crate) fn new(live: Live) -> Self {
        Self { live, revision: AtomicU32::new(0), ips: Book::new(), credentials: Book::new() }
    }

    /// There are other limits: what connections took under the old ones is counted against the new ones.
    pub(crate) fn changed(&self) {
        self.revision.fetch_add(1, Ordering::Release);
    }

    /// A meter for one caller. `local` is a program on this machine.
    pub(crate) fn meter(&self, ip: IpAddr, principal: &str, local: bool, now_ms: u64) -> Meter {
        let window_ms = self.live.now().rates.window_ms();
        Meter {
            held: Default::default(),
            charged: Default::default(),
            revision: Cell::new(self.revision.load(Ordering::Acquire)),
            local,
            ip: self.ips.open((network(ip), local), window_ms, now_ms),
            credential: self.credentials.open((principal.to_owned(), local), window_ms, now_ms),
        }
    }

    /// Takes one call over HTTP.
    ///
    /// # Errors
    /// Milliseconds until the next may be made.
    pub(crate) fn once(
        &self,
        (ip, principal, local): (IpAddr, &str, bool),
        class: Class,
        now_ms: u64,
    ) -> Result<(), u64> {
        let meter = self.meter(ip, principal, local, now_ms);
        meter.reserve(self, class, 1, now_ms).map(drop).map_err(|(_, wait_ms)| wait_ms)
    }
}

/// What one connection may still do without asking.
#[derive(Debug)]
pub(crate) struct Meter {
    held: [Cell<u32>; CLASSES],
    /// Who was charged for what is held.
    charged: [Cell<Charged>; CLASSES],
    /// The limits' revision under which it was taken.
    revision: Cell<u32>,
    local: bool,
    ip: Arc<Account>,
    credential: Arc<Account>,
}

/// The windows that a block of calls was counted in; none where there was no limit to count against.
#[derive(Debug, Default, Clone, Copy)]
struct Charged {
    ip: Option<Number>,
    credential: Option<Number>,
}

/// What belongs to a class.
fn of<T>([read, write, admin, expensive]: &[T; CLASSES], class: Class) -> &T {
    match class {
        Class::Read => read,
        Class::Write => write,
        Class::Admin => admin,
        Class::Expensive => expensive,
    }
}

impl Meter {
    /// Counts one call.
    ///
    /// # Errors
    /// There were too many.
    pub(crate) fn spend(
        &self,
        rates: &Rates,
        class: Class,
        method: &str,
        now_ms: impl FnOnce() -> u64,
    ) -> Result<(), ErrorShape> {
        let revision = rates.revision.load(Ordering::Acquire);
        if self.revision.replace(revision) != revision {
            self.give_back();
        }
        let cell = of(&self.held, class);
        let held = match cell.get() {
            0 => {
                let taken = self.reserve(rates, class, MAX_BLOCK, now_ms());
                taken.map_err(|(limit, wait_ms)| exceeded(rates, method, limit, wait_ms))?
            }
            held => held,
        };
        cell.set(held - 1);
        Ok(())
    }

    /// Counts one control-plane write.
    ///
    /// # Errors
    /// There were too many of this method.
    pub(crate) fn spend_control_plane(
        &self,
        rates: &Rates,
        version: ProtocolVersion,
        method: &'static str,
        now_ms: u64,
    ) -> Result<(), ErrorShape> {
        let limits = &rates.live.now().rates;
        // Version 3 limits fewer methods, and those much.
        let old = version == ProtocolVersion::V3 && matches!(method, "config.apply" | "config.patch" | "update.run");
        let limit = if old { limits.control_plane_v3 } else { limits.control_plane };
        if limit == 0 {
            return Ok(());
        }
        let mut windows = self.credential.control_plane.lock().unwrap_or_else(PoisonError::into_inner);
        match windows.entry(method).or_default().take(limit, limits.window_ms(), 1, now_ms) {
            Given::Some(_) => Ok(()),
            Given::None(wait_ms) => Err(exceeded(rates, method, limit, wait_ms)),
        }
    }

    /// Takes up to `most` calls from both accounts; fewer of a small limit, so that counting stays exact.
    fn reserve(&self, rates: &Rates, class: Class, most: u32, now_ms: u64) -> Result<u32, (u32, u64)> {
        let limits = &rates.live.now().rates;
        let window_ms = limits.window_ms();
        let pair = if self.local { (limits.loopback, limits.loopback) } else { (limits.per_ip, limits.per_credential) };
        let (ip_limit, credential_limit) = (pair.0.of(class), pair.1.of(class));
        let block = |limit: u32| if limit == 0 { MAX_BLOCK } else { (limit / 1024).clamp(1, MAX_BLOCK) };
        let wanted = most.min(block(ip_limit)).min(block(credential_limit));
        let take = |account: &Account, limit: u32, wanted: u32| match limit {
            0 => Ok((wanted, None)),
            _ => account.with(class, |window| match window.take(limit, window_ms, wanted, now_ms) {
                Given::Some(count) => Ok((count, Some(window.number()))),
                Given::None(wait_ms) => Err((limit, wait_ms)),
            }),
        };
        let (by_ip, ip) = take(&self.ip, ip_limit, wanted)?;
        match take(&self.credential, credential_limit, by_ip) {
            Ok((both, credential)) => {
                self.ip.give_back(class, by_ip - both, ip);
                of(&self.charged, class).set(Charged { ip, credential });
                Ok(both)
            }
            Err(refusal) => {
                self.ip.give_back(class, by_ip, ip);
                Err(refusal)
            }
        }
    }
}

impl Meter {
    /// Gives back what is held and not used, to whom it was taken from.
    fn give_back(&self) {
        for class in [Class::Read, Class::Write, Class::Admin, Class::Expensive] {
            let (held, charged) = (of(&self.held, class).take(), of(&self.charged, class).take());
            self.ip.give_back(class, held, charged.ip);
            self.credential.give_back(class, held, charged.credential);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn exceeded(rates: &Rates, method: &str, limit: u32, wait_ms: u64) -> ErrorShape {
    let shown: String = method.chars().take(120).collect();
    let message = format!("rate limit exceeded for {shown}; retry after {}s", wait_ms.div_ceil(1000));
    let per = format!("{limit} per {}s", rates.live.now().rates.window_ms() / 1000);
    let mut error = ErrorShape::new(error_code::UNAVAILABLE, message).details(json!({"method": shown, "limit": per}));
    error.retryable = Some(true);
    error.retry_after_ms = Some(wait_ms);
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LiveConfig;

    fn going_by(rates: RateLimits) -> Rates {
        Rates::new(Live::new(LiveConfig { rates, ..LiveConfig::default() }))
    }

    fn rates(read: u32) -> Rates {
        let per_ip = ClassLimits { read, write: 2, admin: 0, expensive: 1 };
        let per_credential = ClassLimits { read: 1_000_000, write: 3, admin: 0, expensive: 1 };
        going_by(RateLimits { per_ip, per_credential, ..RateLimits::default() })
    }

    fn ip(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn spent(meter: &Meter, rates: &Rates, class: Class, calls: u32) -> usize {
        (0..calls).filter(|_| meter.spend(rates, class, "m", || 5_000).is_ok()).count()
    }

    #[test]
    fn connections_of_one_address_share_its_limit_and_of_one_credential_that() {
        let rates = rates(10);
        let (one, two) = (rates.meter(ip(1), "a", false, 5_000), rates.meter(ip(1), "b", false, 5_000));
        assert_eq!(spent(&one, &rates, Class::Read, 7) + spent(&two, &rates, Class::Read, 7), 10);
        let three = rates.meter(ip(2), "a", false, 5_000);
        assert_eq!(spent(&three, &rates, Class::Read, 7), 7, "another address");
        assert_eq!(spent(&one, &rates, Class::Write, 5), 2, "another class; the address has two");
        assert_eq!(spent(&three, &rates, Class::Write, 5), 1, "the credential has three");
        assert_eq!(spent(&one, &rates, Class::Admin, 5000), 5000, "no limit");
    }

    #[test]
    fn a_refusal_says_when_and_what() {
        let rates = rates(1);
        let meter = rates.meter(ip(1), "a", false, 0);
        meter.spend(&rates, Class::Read, "status", || 0).unwrap();
        let error = meter.spend(&rates, Class::Read, "status", || 15_000).unwrap_err();
        assert_eq!((error.code.as_str(), error.retryable), ("UNAVAILABLE", Some(true)));
        let wait_ms = error.retry_after_ms.unwrap();
        assert_eq!(error.message, format!("rate limit exceeded for status; retry after {}s", wait_ms.div_ceil(1000)));
        assert_eq!(error.details, Some(json!({"method": "status", "limit": "1 per 60s"})));
        assert!(meter.spend(&rates, Class::Read, "status", || 15_000 + wait_ms).is_ok());
    }

    #[test]
    fn what_a_connection_holds_goes_back_when_it_ends() {
        let rates = rates(102_400);
        for _ in 0..2000 {
            let meter = rates.meter(ip(1), "a", false, 0);
            meter.spend(&rates, Class::Read, "m", || 0).unwrap();
        }
        let meter = rates.meter(ip(1), "a", false, 0);
        assert_eq!(spent(&meter, &rates, Class::Read, 200_000), 102_400 - 2000, "each counted once");
    }

    #[test]
    fn other_limits_count_for_what_a_connection_already_holds() {
        let rates = going_by(RateLimits::default());
        let meter = rates.meter(ip(1), "a", true, 5_000);
        assert_eq!(spent(&meter, &rates, Class::Read, 4), 4);
        let mut live = LiveConfig::default();
        live.rates.loopback.read = 6;
        rates.live.swap(live.clone());
        rates.changed();
        assert_eq!(spent(&meter, &rates, Class::Read, 9), 2, "four of the six are used");
        live.rates.loopback.read = 0;
        rates.live.swap(live);
        rates.changed();
        assert_eq!(spent(&meter, &rates, Class::Read, 9), 9);
    }

    #[test]
    fn what_was_never_counted_is_no_credit_for_others() {
        let mut live = LiveConfig::default();
        live.rates.per_ip.read = 0;
        let per_credential = live.rates.per_credential.read;
        let rates = Rates::new(Live::new(live.clone()));
        let [early, late] = ["a", "b"].map(|name| rates.meter(ip(1), name, false, 5_000));
        assert_eq!((spent(&early, &rates, Class::Read, 1), spent(&late, &rates, Class::Read, 1)), (1, 1), "no limit");
        live.rates.per_ip.read = 6;
        rates.live.swap(live);
        rates.changed();
        let third = rates.meter(ip(1), "c", false, 5_000);
        assert_eq!(spent(&third, &rates, Class::Read, 9), 6, "those before came without a limit");
        assert_eq!(spent(&early, &rates, Class::Read, 9), 0, "what it held was nobody's");
        drop(late);
        assert_eq!(spent(&third, &rates, Class::Read, 9), 0, "nor is it when its connection ends");
        let elsewhere = rates.meter(ip(2), "a", false, 5_000);
        let used = |meter: &Meter| {
            meter.credential.with(Class::Read, |window| window.take(per_credential, 60_000, u32::MAX, 5_000))
        };
        assert_eq!(
            used(&elsewhere),
            Given::Some(per_credential - 1),
            "its credential was charged, and got all but one back"
        );
    }

    #[test]
    fn local_programs_have_a_limit_of_their_own_that_benches_do_not_meet() {
        let rates = going_by(RateLimits::default());
        let meter = rates.meter(ip(0x7f00_0001), "token", true, 0);
        assert_eq!(spent(&meter, &rates, Class::Read, 350_000), 350_000);
        let outside = rates.meter(ip(0x7f00_0001), "token", false, 0);
        assert_eq!(spent(&outside, &rates, Class::Read, 350_000), 60_000);
    }

    #[test]
    fn a_flood_of_addresses_takes_little_memory_and_shares_one_limit() {
        let rates = rates(10);
        let kept: Vec<Meter> = (0..MAX_KEYS as u32).map(|number| rates.meter(ip(number), "a", false, 0)).collect();
        let late: Vec<Meter> = (0..20_000).map(|number| rates.meter(ip(1_000_000 + number), "a", false, 0)).collect();
        assert_eq!(rates.ips.accounts.lock().unwrap().len(), MAX_KEYS);
        let total: usize = late.iter().map(|meter| spent(meter, &rates, Class::Read, 1)).sum();
        assert_eq!(total, 10);
        assert_eq!(spent(&kept[0], &rates, Class::Read, 20), 10, "who was there keeps its own");
        drop((kept, late));
        rates.meter(ip(7_000_000), "a", false, 10_000_000);
        assert!(rates.ips.accounts.lock().unwrap().len() < 10, "what is idle makes room");
    }

    #[test]
    fn control_plane_writes_are_counted_per_method_and_version() {
        let rates = going_by(RateLimits::default());
        let meter = rates.meter(ip(1), "a", true, 0);
        let count =
            |version, method| (0..50).filter(|_| meter.spend_control_plane(&rates, version, method, 0).is_ok()).count();
        assert_eq!(count(ProtocolVersion::V3, "config.patch"), 3);
        assert_eq!(count(ProtocolVersion::V4, "config.patch"), 27, "of thirty, three are gone");
        assert_eq!(count(ProtocolVersion::V4, "config.apply"), 30);
        let error = meter.spend_control_plane(&rates, ProtocolVersion::V3, "config.patch", 0).unwrap_err();
        assert_eq!(error.details, Some(json!({"method": "config.patch", "limit": "3 per 60s"})));
    }
}
