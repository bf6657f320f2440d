//! Counting what one address holds open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::peer::network;

/// Counts per address (IPv6 per /64, which one host owns whole); entries vanish at zero, so memory is bounded by what is open.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Counter {
    /// Counts one more for `ip` until the ticket is dropped; none when `most` are open already.
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr, most: usize) -> Option<Ticket> {
        let ip = network(ip);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(ip).or_insert(0);
        if *count >= most {
            if *count == 0 {
                open.remove(&ip);
            }
            return None;
        }
        *count += 1;
        drop(open);
        Some(Ticket { counter: Arc::clone(self), ip })
    }
}

/// One counted thing.
#[derive(Debug)]
pub(crate) struct Ticket {
    counter: Arc<Counter>,
    ip: IpAddr,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.counter.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.ip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_counted_per_address_and_given_back() {
        let counter = Arc::new(Counter::default());
        let (one, two): (IpAddr, IpAddr) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
        let first = counter.enter(one, 2).unwrap();
        let _second = counter.enter(one, 2).unwrap();
        assert!(counter.enter(one, 2).is_none());
        assert!(counter.enter(two, 2).is_some());
        drop(first);
        assert!(counter.enter(one, 2).is_some());
        assert_eq!(counter.open.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_host_with_a_whole_network_is_one_host() {
        let counter = Arc::new(Counter::default());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let _first = counter.enter(ip("2001:db8:1:2::1"), 1).unwrap();
        assert!(counter.enter(ip("2001:db8:1:2:3:4:5:6"), 1).is_none());
        assert!(counter.enter(ip("2001:db8:1:3::1"), 1).is_some());
        let _mapped = counter.enter(ip("::ffff:9.9.9.9"), 1).unwrap();
        assert!(counter.enter(ip("9.9.9.9"), 1).is_none());
    }
}
