//! What the gateway is told when it starts. Where the values come from (flags, environment, files) is not its business.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use leanclaw_types::redact::Secret;

use crate::auth::Role;
use crate::error::GatewayError;
use crate::hooks::Hooks;
use crate::rate::RateLimits;

/// How callers prove themselves.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// The shared token. Without a token and a password only direct loopback callers without an `Origin` header are let
    /// in, and paired devices.
    pub token: Option<Secret>,
    /// The shared password; where it is set, the token counts for nothing.
    pub password: Option<Secret>,
    /// What the shared token or password is good for at most.
    pub role: Role,
    /// Further credentials; they count only where a token or a password is set.
    pub named: Vec<Credential>,
}

/// A credential beside the shared one, with a name and a role of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Credential {
    /// Names it in audit rows and to plugins, as `user:<name>`.
    pub name: String,
    /// What callers show, in place of the token or the password.
    pub secret: Secret,
    /// What it is good for at most.
    pub role: Role,
}

/// Everything the gateway is configured with.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The program's version, as clients see it.
    pub version: String,
    /// How callers prove themselves.
    pub auth: Auth,
    /// Bounds and timers.
    pub limits: Limits,
    /// Hooks; none takes none.
    pub hooks: Option<Hooks>,
    /// What may change later on.
    pub live: LiveConfig,
}

/// What counts as soon as the configuration file says it, without a new start. Who was let in by an origin or a proxy that
/// is not in it any more is sent away.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveConfig {
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Origins of web pages that may connect, such as `https://ui.example.com`; `*` allows every page.
    pub allowed_origins: Vec<String>,
    /// The web page that is served.
    pub control_ui: ControlUi,
    /// How often may be called.
    pub rates: RateLimits,
    /// What may be asked of nodes beside what their platform allows, and what may not.
    pub node_commands: NodeCommands,
}

impl LiveConfig {
    /// The keys of the configuration file at which the two differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let Self { trusted_proxies, allowed_origins, control_ui, rates, node_commands } = self;
        let ControlUi { root, base_path } = control_ui;
        let NodeCommands { allow, deny } = node_commands;
        let keys = [
            ("gateway.trustedProxies", *trusted_proxies != other.trusted_proxies),
            ("gateway.controlUi.allowedOrigins", *allowed_origins != other.allowed_origins),
            ("gateway.controlUi.root", *root != other.control_ui.root),
            ("gateway.controlUi.basePath", *base_path != other.control_ui.base_path),
            ("gateway.rateLimits", *rates != other.rates),
            ("gateway.nodes.allowCommands", *allow != other.node_commands.allow),
            ("gateway.nodes.denyCommands", *deny != other.node_commands.deny),
        ];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

/// What of a [`GatewayConfig`] is read once and stays as it was at the start.
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) version: String,
    pub(crate) auth: Auth,
    pub(crate) limits: Limits,
    pub(crate) hooks: Option<Hooks>,
}

/// The [`LiveConfig`] in use, for all who read it: swapped as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Live(Arc<ArcSwap<LiveConfig>>);

impl Live {
    pub(crate) fn new(config: LiveConfig) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config)))
    }

    /// What counts now.
    pub(crate) fn now(&self) -> Arc<LiveConfig> {
        self.0.load_full()
    }

    /// Has another one count. Returns what counted before.
    pub(crate) fn swap(&self, config: LiveConfig) -> Arc<LiveConfig> {
        self.0.swap(Arc::new(config))
    }
}

/// Commands of nodes that an admin decided on, whatever the platform.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeCommands {
    /// Asked of nodes that declare them, too.
    pub allow: Vec<String>,
    /// Never asked; wins over everything else.
    pub deny: Vec<String>,
}

/// An installed Control UI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlUi {
    /// The folder that holds its `index.html`; none serves no page.
    pub root: Option<PathBuf>,
    /// The path below which it is served: empty, or like `/claw`, with no slash at its end.
    pub base_path: String,
}

impl GatewayConfig {
    /// A configuration with no credential and every bound at its default.
    pub fn new(version: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            auth: Auth::default(),
            limits: Limits::default(),
            hooks: None,
            live: LiveConfig::default(),
        }
    }

    /// What stays as it is, and what may change. Nothing is in both.
    pub(crate) fn parted(self) -> (Fixed, LiveConfig) {
        let Self { version, auth, limits, hooks, live } = self;
        (Fixed { version, auth: auth.meant(), limits, hooks }, live)
    }
}

impl Auth {
    /// The same, with empty secrets taken for none: they would prove nothing.
    pub(crate) fn meant(self) -> Self {
        let meant = |secret: Option<Secret>| secret.filter(|secret| !secret.expose().is_empty());
        let named = self.named.into_iter().filter(|credential| !credential.secret.expose().is_empty());
        Self { token: meant(self.token), password: meant(self.password), role: self.role, named: named.collect() }
    }

    /// The credential callers must show, and what it is called: `password` or `token`.
    pub(crate) fn credential(&self) -> Option<(&'static str, &Secret)> {
        let password = self.password.as_ref().map(|secret| ("password", secret));
        password.or_else(|| self.token.as_ref().map(|secret| ("token", secret)))
    }

    /// Every secret that lets somebody in.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let named = self.named.iter().map(|credential| &credential.secret);
        self.token.iter().chain(&self.password).chain(named)
    }

    /// Whether callers must show anything.
    pub(crate) fn is_set(&self) -> bool {
        self.credential().is_some()
    }
}

/// Bounds and timers. The defaults are those the real clients expect.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest frame before `hello-ok`, in bytes.
    pub handshake_frame_bytes: usize,
    /// Largest frame after it, in bytes.
    pub frame_bytes: usize,
    /// Most unsent bytes towards one client before it is cut off as a slow consumer.
    pub buffered_bytes: usize,
    /// Unsent bytes towards one client above which no further request of it is read, and events that it may miss are
    /// dropped.
    pub read_pause_bytes: usize,
    /// Most calls one connection may have running at once.
    pub calls_in_flight: usize,
    /// Time from the upgrade to `hello-ok`.
    pub handshake_timeout: Duration,
    /// Time between two `tick` events.
    pub tick_interval: Duration,
    /// Time between two WebSocket pings.
    pub ping_interval: Duration,
    /// Age at which the health snapshot is taken anew.
    pub health_interval: Duration,
    /// Time a client has to take the last bytes before its socket is dropped.
    pub close_grace: Duration,
    /// How long nobody is connected before the program gives back what only clients need.
    pub alone_after: Duration,
    /// Time running calls and requests have to end once the gateway stops.
    pub drain: Duration,
    /// Time a client has to send the head of an HTTP request.
    pub http_header_timeout: Duration,
    /// Time a client has to send the body of an HTTP request.
    pub http_body_timeout: Duration,
    /// Most sockets from one address that have not yet seen `hello-ok`.
    pub unauthenticated_sockets_per_ip: usize,
    /// Most TCP connections from one address that are not authenticated WebSockets.
    pub connections_per_ip: usize,
    /// Most TCP connections together.
    pub connections: usize,
    /// Largest body of `POST /tools/invoke`, in bytes.
    pub tool_body_bytes: usize,
    /// Largest body of a webhook, in bytes.
    pub webhook_body_bytes: usize,
    /// Largest body of a plugin's HTTP route, in bytes.
    pub route_body_bytes: usize,
    /// Wrong credentials from one address within [`Self::auth_window`] that lock it out.
    pub auth_attempts: usize,
    /// See [`Self::auth_attempts`].
    pub auth_window: Duration,
    /// How long a lockout lasts.
    pub auth_lockout: Duration,
    /// Wrong hook tokens from one address within [`Self::auth_window`] after which no further one is looked at for as long.
    pub hook_attempts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_frame_bytes: 64 * 1024,
            frame_bytes: 25 * 1024 * 1024,
            buffered_bytes: 50 * 1024 * 1024,
            read_pause_bytes: 1024 * 1024,
            calls_in_flight: 256,
            handshake_timeout: Duration::from_secs(15),
            tick_interval: Duration::from_secs(30),
            ping_interval: Duration::from_secs(25),
            health_interval: Duration::from_secs(60),
            close_grace: Duration::from_secs(2),
            alone_after: Duration::from_secs(1),
            drain: Duration::from_secs(5),
            http_header_timeout: Duration::from_secs(10),
            http_body_timeout: Duration::from_secs(30),
            unauthenticated_sockets_per_ip: 32,
            connections_per_ip: 512,
            connections: 16 * 1024,
            tool_body_bytes: 2 * 1024 * 1024,
            webhook_body_bytes: 1024 * 1024,
            route_body_bytes: 8 * 1024 * 1024,
            auth_attempts: 10,
            auth_window: Duration::from_secs(60),
            auth_lockout: Duration::from_secs(300),
            hook_attempts: 20,
        }
    }
}

/// Refuses an address that others can reach while nothing would stop them there.
///
/// # Errors
/// [`GatewayError::OpenBind`] when `address` is not loopback and no token is configured.
pub fn check_bind(address: SocketAddr, auth: &Auth) -> Result<(), GatewayError> {
    if address.ip().to_canonical().is_loopback() || auth.clone().meant().is_set() {
        Ok(())
    } else {
        Err(GatewayError::OpenBind { address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What clients are built on; a test that needs another number sets its own.
    #[test]
    fn the_defaults_are_those_of_the_protocol() {
        const MIB: usize = 1024 * 1024;
        let limits = Limits::default();
        let bytes = [limits.handshake_frame_bytes, limits.frame_bytes, limits.buffered_bytes];
        assert_eq!(bytes, [64 * 1024, 25 * MIB, 50 * MIB]);
        let timers = [limits.handshake_timeout, limits.ping_interval, limits.tick_interval];
        assert_eq!(timers.map(|timer| timer.as_secs()), [15, 25, 30]);
        assert_eq!(limits.unauthenticated_sockets_per_ip, 32);
        let lockout = [limits.auth_window, limits.auth_lockout].map(|time| time.as_secs());
        assert_eq!((limits.auth_attempts, lockout), (10, [60, 300]));
        assert_eq!(limits.hook_attempts, 20);
    }

    #[test]
    fn an_open_address_needs_a_token() {
        let with_token = Auth { token: Some(Secret::new("t")), ..Auth::default() };
        for (address, open) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.168.1.2:1", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(check_bind(address, &Auth::default()).is_ok(), open, "{address}");
            assert!(check_bind(address, &with_token).is_ok(), "{address}");
        }
        let empty = Auth { token: Some(Secret::new("")), ..Auth::default() };
        assert!(check_bind("0.0.0.0:1".parse().unwrap(), &empty).is_err());
        let error = check_bind("0.0.0.0:18789".parse().unwrap(), &Auth::default()).unwrap_err().to_string();
        assert!(error.contains("LEANCLAW_GATEWAY_API_KEY") && error.contains("127.0.0.1"), "{error}");
    }
}
