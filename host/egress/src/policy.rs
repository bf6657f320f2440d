//! What one owner may do: hosts, private hosts, secrets and limits.
//!
//! Plain data, made from the grants by whoever opens a handle. Nothing here touches the network or a secret's value.

use std::time::Duration;

use leanclaw_types::net::{HostPattern, SecretRule};
use leanclaw_types::redact::Secret;
use url::Url;

/// The network rights of one owner. The rights of an [`EgressPolicy::new`] are empty: every request is denied.
#[derive(Debug, Clone)]
pub struct EgressPolicy {
    /// Who this is for, as the grant command names it: `notes`, or `notes/work` for an account.
    pub owner: String,
    /// Hosts that may be sent requests.
    pub allow: Vec<HostPattern>,
    /// Hosts that a WebSocket may be opened to.
    pub sockets: Vec<HostPattern>,
    /// Hosts that may resolve to this machine or a private network. It lifts the address check only: the host must
    /// stand in `allow` (or `sockets`) too. `*` is ignored here, because a grant for private hosts names them.
    pub private: Vec<HostPattern>,
    /// Secrets the host may put into this owner's requests, each for one host and one place. A rule for `*` is
    /// ignored.
    pub secrets: Vec<SecretRule>,
    /// What the owner asks for, granted or not. It gives no right: a refusal reads it to name what would help. None when
    /// that is not known.
    pub requested: Option<RequestedHosts>,
    /// How much, how often and how long.
    pub limits: EgressLimits,
}

/// The hosts an owner asks for.
#[derive(Debug, Clone, Default)]
pub struct RequestedHosts {
    /// As [`EgressPolicy::allow`].
    pub http: Vec<HostPattern>,
    /// As [`EgressPolicy::private`].
    pub private_http: Vec<HostPattern>,
    /// As [`EgressPolicy::sockets`].
    pub sockets: Vec<HostPattern>,
}

impl EgressPolicy {
    /// No rights and the default limits.
    #[must_use]
    pub fn new(owner: impl Into<String>) -> Self {
        Self {
            owner: owner.into(),
            allow: Vec::new(),
            sockets: Vec::new(),
            private: Vec::new(),
            secrets: Vec::new(),
            requested: None,
            limits: EgressLimits::default(),
        }
    }

    /// Whether `url` may resolve to this machine or a private network.
    pub(crate) fn allows_private(&self, url: &Url) -> bool {
        self.private.iter().any(|pattern| !pattern.is_any_host() && pattern.matches(url))
    }
}

/// How much, how often and how long. Each bound ends in an error of its own, never in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressLimits {
    /// Bytes of one request body. Default 8 MiB.
    pub request_bytes: u64,
    /// Bytes of one response body. Default 16 MiB.
    pub response_bytes: u64,
    /// Bytes of the headers and address of one request, and of the headers of one response. Default 64 KiB; less than
    /// 8 KiB counts as 8 KiB for responses.
    pub header_bytes: usize,
    /// Requests in flight at once, counted until the response body is read or dropped. One more waits for a place as
    /// long as connecting may take. Default 8.
    pub concurrency: usize,
    /// WebSockets open at once. Default 4.
    pub sockets: usize,
    /// Bytes of one WebSocket message, either way. Default 1 MiB.
    pub socket_message_bytes: usize,
    /// Requests and WebSocket handshakes begun in any 60 seconds. Default 600.
    pub requests_per_minute: usize,
    /// Waiting for a place; and then, anew, resolving, connecting and the TLS handshake together. Default 10 s each.
    pub connect_timeout: Duration,
    /// From connected until the response's headers, sending the request's body included. Default 75 s, so that a
    /// one-minute long poll fits.
    pub first_byte_timeout: Duration,
    /// Between two parts of the response's body. Default 30 s.
    pub between_bytes_timeout: Duration,
    /// Everything together, up to the last byte of the response. Default 120 s.
    pub total_timeout: Duration,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            request_bytes: 8 * 1024 * 1024,
            response_bytes: 16 * 1024 * 1024,
            header_bytes: 64 * 1024,
            concurrency: 8,
            sockets: 4,
            socket_message_bytes: 1024 * 1024,
            requests_per_minute: 600,
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(75),
            between_bytes_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(120),
        }
    }
}

/// Where secret values come from. One source serves one owner: it must not know other owners' secrets.
pub trait SecretSource: Send + Sync + 'static {
    /// The value of the secret called `name`, when there is one. Asked at the last moment, for every request.
    fn get(&self, name: &str) -> Option<Secret>;
}

/// A source without secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSecrets;

impl SecretSource for NoSecrets {
    fn get(&self, _name: &str) -> Option<Secret> {
        None
    }
}
