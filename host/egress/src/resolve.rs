//! From a name to addresses.
//!
//! A resolver only answers. Which of its answers may be dialled is decided by the caller, on the answer itself, and the
//! address that was judged is the address that is dialled: a name is resolved once per request, so a server cannot
//! answer with a public address for the check and a private one for the connection.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use futures_util::future::BoxFuture;

/// Turns a DNS name into addresses.
pub trait Resolver: Send + Sync + 'static {
    /// All addresses of `host` (lower-case, no trailing dot; never an address literal), in the order to try them.
    ///
    /// # Errors
    /// When the name does not exist or the lookup failed.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver (`/etc/hosts`, then DNS, as the machine is set up).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
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
