//! Which gateway to call, and with what token.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use leanclaw_types::redact::Secret;
use url::{Host, Url};

use super::error::ClientError;
use crate::config::{Config, GatewayAuth};

/// A gateway and the token for it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its address, `ws://...`.
    pub(super) url: Url,
    /// The shared token.
    pub(super) token: Option<Secret>,
    /// Where the token comes from, for error messages.
    pub(super) token_from: Option<String>,
}

impl Target {
    /// The gateway that this configuration starts, with its token.
    ///
    /// The address must be one of this machine. A `.env` file in whatever directory a command runs in may name any
    /// address, and the token must not follow it there.
    ///
    /// # Errors
    /// [`ClientError::Foreign`] when it is not; [`ClientError::Url`] when the port is 0.
    pub fn configured(config: &Config) -> Result<Self, ClientError> {
        Self::of_this_machine(config, config.gateway.listen_address())
    }

    /// The gateway that listens on `address`, an address of this machine, with the configured token.
    ///
    /// # Errors
    /// As [`Target::configured`].
    pub fn of_this_machine(config: &Config, address: SocketAddr) -> Result<Self, ClientError> {
        // "Every address" is one to listen on; it is reached through the loopback address.
        let host = match address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            address => address,
        };
        let address = SocketAddr::new(host, address.port());
        if address.port() == 0 {
            let why = "port 0 takes any free port, so the one in use is not known; pass --url".to_owned();
            return Err(ClientError::Url { given: address.to_string(), why });
        }
        // Only an address of this machine can be bound.
        if !host.is_loopback() && UdpSocket::bind((host, 0)).is_err() {
            return Err(ClientError::Foreign { address });
        }
        let token = config.gateway.credential().cloned();
        let token_from = token.as_ref().map(|_| secret_name(config).to_owned());
        Ok(Self { url: parse(&format!("ws://{address}"))?, token, token_from })
    }

    /// The gateway at `url`. The configured token goes along to a loopback address only, never to whatever other
    /// address is named.
    ///
    /// # Errors
    /// [`ClientError::Url`] or [`ClientError::Tls`].
    pub fn named(config: &Config, url: &str) -> Result<Self, ClientError> {
        let target = Self::at(url)?;
        Ok(match config.gateway.credential() {
            Some(token) if target.is_loopback() => target.with_token(token.clone(), secret_name(config)),
            _ => target,
        })
    }

    /// The gateway at `url`, without a token.
    ///
    /// # Errors
    /// [`ClientError::Url`] or [`ClientError::Tls`].
    pub fn at(url: &str) -> Result<Self, ClientError> {
        Ok(Self { url: parse(url)?, token: None, token_from: None })
    }

    /// The same gateway with another token.
    #[must_use]
    pub fn with_token(self, token: Secret, token_from: &str) -> Self {
        Self { token: Some(token), token_from: Some(token_from.to_owned()), ..self }
    }

    /// The address, `ws://...`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Host and port to connect to.
    pub(super) fn address(&self) -> (String, u16) {
        let host = match self.url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        (host, self.url.port_or_known_default().unwrap_or(80))
    }

    fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        }
    }
}

/// The variable that holds the configured secret.
fn secret_name(config: &Config) -> &'static str {
    match config.gateway.auth {
        GatewayAuth::Password(_) => "LEANCLAW_GATEWAY_PASSWORD",
        GatewayAuth::Token(_) | GatewayAuth::Open => "LEANCLAW_GATEWAY_API_KEY",
    }
}

fn parse(given: &str) -> Result<Url, ClientError> {
    let wrong = |why: &str| ClientError::Url { given: given.to_owned(), why: why.to_owned() };
    let with_scheme = if given.contains("://") { given.to_owned() } else { format!("ws://{given}") };
    let mut url = Url::parse(&with_scheme).map_err(|error| wrong(&error.to_string()))?;
    match url.scheme() {
        "ws" => {}
        "wss" | "https" => return Err(ClientError::Tls { given: given.to_owned() }),
        "http" => {
            // Both are schemes of the same kind, so this cannot fail; if it did, the check below would say so.
            let _changed = url.set_scheme("ws");
        }
        _ => return Err(wrong("its scheme is not ws")),
    }
    if url.scheme() != "ws" || url.host().is_none() {
        return Err(wrong("it names no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let shown =
            ClientError::Url { given: "URL".to_owned(), why: "it carries a user name; pass --token".to_owned() };
        return Err(shown);
    }
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(environment: &[(&str, &str)]) -> Config {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        crate::config::resolve(&crate::config::Sources::of_environment(environment.collect())).unwrap().config
    }

    #[test]
    fn the_configured_token_stays_on_this_machine() {
        let config = config(&[("LEANCLAW_GATEWAY_API_KEY", "t0ken"), ("LEANCLAW_GATEWAY_HOST", "0.0.0.0")]);
        let local = Target::configured(&config).unwrap();
        assert_eq!(local.url.as_str(), "ws://127.0.0.1:18789/", "a gateway on every address is called on loopback");
        assert!(local.token.is_some());
        for (url, goes_along) in [
            ("ws://127.0.0.1:1", true),
            ("ws://localhost:1", true),
            ("ws://[::1]:1", true),
            ("ws://192.0.2.1:1", false),
            ("ws://localhost.example.com", false),
            ("ws://127.0.0.1.example.com", false),
        ] {
            assert_eq!(Target::named(&config, url).unwrap().token.is_some(), goes_along, "{url}");
        }
    }

    #[test]
    fn a_configured_address_of_another_machine_is_refused() {
        // 192.0.2.0/24 is set aside for documentation; no machine has an address in it.
        let config = config(&[("LEANCLAW_GATEWAY_API_KEY", "t0ken"), ("LEANCLAW_GATEWAY_HOST", "192.0.2.1")]);
        let error = Target::configured(&config).unwrap_err();
        assert!(matches!(error, ClientError::Foreign { .. }), "{error}");
        assert!(error.hints()[0].contains("--url ws://192.0.2.1:18789"), "{:?}", error.hints());
    }

    #[test]
    fn addresses() {
        for (given, url, host, port) in [
            ("ws://127.0.0.1:18789", "ws://127.0.0.1:18789/", "127.0.0.1", 18789),
            ("http://localhost:1/x", "ws://localhost:1/x", "localhost", 1),
            ("[::1]:7", "ws://[::1]:7/", "::1", 7),
            ("example.com", "ws://example.com/", "example.com", 80),
        ] {
            let target = Target::at(given).unwrap();
            assert_eq!(target.url.as_str(), url);
            assert_eq!(target.address(), (host.to_owned(), port));
        }
        assert!(matches!(Target::at("wss://x"), Err(ClientError::Tls { .. })));
        for bad in ["ftp://x", "ws://", "", "ws://a b"] {
            assert!(matches!(Target::at(bad), Err(ClientError::Url { .. })), "{bad}");
        }
        let error = Target::at("ws://me:hunter2@x").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
