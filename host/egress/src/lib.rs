//! The one way out of the program.
//!
//! Every outgoing connection is made here, for a named owner and under that owner's [`EgressPolicy`]: allowlist, rate
//! and concurrency, resolving, address check, dialling the checked address, TLS, secrets, size and time limits,
//! scrubbing. What a step refuses, and the command that would allow it, is in [`EgressError`]. There is no global client,
//! no default that allows anything, no connection reuse, no redirect following, no proxy support and no decompression.
//!
//! ```no_run
//! # use std::{sync::Arc, time::Duration};
//! # use leanclaw_egress::{Deadline, Egress, EgressPolicy, NoObserver, NoSecrets, Request, SystemResolver};
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let egress = Egress::new(Arc::new(SystemResolver::default()), Arc::new(NoObserver));
//! let mut policy = EgressPolicy::new("feed-reader");
//! policy.allow.push("https://*.example.com".parse()?);
//! let handle = egress.open(policy, Arc::new(NoSecrets));
//! let request = Request::new(http::Method::GET, "https://news.example.com/feed".parse()?);
//! let response = handle.send(request, Deadline::after(Duration::from_secs(20))).await?;
//! let feed = response.body.bytes().await?;
//! # drop(feed);
//! # Ok(())
//! # }
//! ```

mod address;
mod body;
mod client;
mod connect;
mod deadline;
mod error;
mod headers;
mod inject;
mod limit;
mod observe;
mod policy;
mod remedy;
mod resolve;
mod scrub;
mod websocket;

#[cfg(test)]
mod tests;

pub use address::{AddressClass, classify};
pub use body::{BoxError, RequestBody, ResponseBody};
pub use client::{Egress, EgressHandle, Request, Response};
pub use deadline::{Deadline, GuestTimeouts};
pub use error::{EgressError, UndeclaredSecret};
pub use observe::{EgressObserver, EgressRecord, NoObserver, Outcome};
pub use policy::{EgressLimits, EgressPolicy, NoSecrets, RequestedHosts, SecretSource};
pub use remedy::{Remedy, Right};
pub use resolve::{FixedResolver, Resolver, SystemResolver};
pub use websocket::{Socket, SocketMessage};
