//! From a name to addresses.
//!
//! A resolver only answers. Which of its answers may be dialled is decided by the caller, on the answer itself, and the
//! address that was judged is the address that is dialled: a name is resolved once per request, so a server cannot
//! answer with a public address for the check and a private one for the connection.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

/// Turns a DNS name into addresses.
pub trait Resolver: Send + Sync + 'static {
    /// All addresses of `host` (lower-case, no trailing dot; never an address literal), in the order to try them.
    ///
    /// # Errors
    /// When the name does not exist or the lookup failed.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// Lookups of the operating system's resolver that run at once, of all owners together. Each holds a thread until the
/// system answers, and nothing can end it earlier.
const LOOKUPS: usize = 32;

/// The operating system's resolver (`/etc/hosts`, then DNS, as the machine is set up).
#[derive(Debug, Clone)]
pub struct SystemResolver {
    places: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let host = host.to_owned();
        Box::pin(on_a_thread(Arc::clone(&self.places), move || {
            Ok((host.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect())
        }))
    }
}

/// Runs `lookup` on a thread as soon as one of `places` is free. The place is taken until `lookup` returns, also when
/// nobody waits for it any more.
async fn on_a_thread<T: Send + 'static>(
    places: Arc<Semaphore>,
    lookup: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let place = places.acquire_owned().await.map_err(io::Error::other)?;
    let looking = tokio::task::spawn_blocking(move || {
        let found = lookup();
        drop(place);
        found
    });
    looking.await.map_err(io::Error::other)?
}

/// A fixed table of names: for tests, and for programs that must not ask DNS at all.
#[derive(Debug, Clone, Default)]
pub struct FixedResolver {
    names: HashMap<String, Vec<IpAddr>>,
}

impl FixedResolver {
    /// A resolver that knows no name.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a name (lower-case, no trailing dot) and its addresses.
    #[must_use]
    pub fn with(mut self, host: impl Into<String>, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.names.insert(host.into(), addresses.into_iter().collect());
        self
    }
}

impl Resolver for FixedResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            self.names.get(host).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lookup_that_nobody_waits_for_keeps_its_place_until_it_ends() {
        let places = Arc::new(Semaphore::new(1));
        let (finish, wait) = std::sync::mpsc::channel::<()>();
        let first = on_a_thread(Arc::clone(&places), move || {
            let _ = wait.recv();
            Ok(())
        });
        let first = tokio::time::timeout(std::time::Duration::from_millis(50), first);
        assert!(first.await.is_err(), "nobody waits any more");
        assert_eq!(places.available_permits(), 0);
        finish.send(()).unwrap();
        assert_eq!(on_a_thread(places, || Ok(5)).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn the_system_knows_this_machine() {
        let found = SystemResolver::default().resolve("localhost").await.unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
