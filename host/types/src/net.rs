//! The grammar of network grants: which hosts may be reached, and where in a request a secret may stand.
//!
//! A [`HostPattern`] is parsed once, where it enters the program (manifest, config, command line), and compared many
//! times; there is one spelling of each pattern, so two grants are equal exactly when they allow the same requests.
//! Names only: what a name resolves to, and whether that address may be dialled, is decided where the dialling is done.
//!
//! | pattern | what it covers |
//! |---|---|
//! | `api.example.com` | `https://api.example.com`, port 443 |
//! | `http://api.example.com:8080` | plain HTTP, which must be named, on that port |
//! | `*.example.com` | every name below `example.com` at any depth, not `example.com` itself |
//! | `127.0.0.1`, `[::1]:8443` | that address written as a literal |
//! | `*` | any host; private addresses still need a grant that names them |
//!
//! `wss://` is the same as `https://` and `ws://` the same as `http://`: a WebSocket is a request to the same server.
//! An empty list of patterns covers nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::{Host, Url};

/// The longest pattern that is read, in bytes: a DNS name has at most 253.
const MAX_PATTERN_BYTES: usize = 300;
/// The longest DNS name, in bytes.
const MAX_NAME_BYTES: usize = 253;
/// The longest part of a DNS name between two dots, in bytes.
const MAX_LABEL_BYTES: usize = 63;

/// Why a text is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a host pattern: {reason}")]
pub struct InvalidHostPattern {
    given: String,
    reason: String,
}

/// How the bytes travel. WebSocket schemes count as the HTTP scheme they start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Scheme {
    Https,
    Http,
}

impl Scheme {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "https" | "wss" => Some(Self::Https),
            "http" | "ws" => Some(Self::Http),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// Which hosts a pattern covers. Names are lower-case, in ASCII form, without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum HostRule {
    Any,
    Below(String),
    Name(String),
    Address(IpAddr),
}

/// One entry of an allowlist: `[scheme://]host[:port]`. The module documentation has the grammar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPattern {
    scheme: Scheme,
    host: HostRule,
    port: u16,
}

impl HostPattern {
    /// The narrowest pattern that covers `url`; none when its scheme is not HTTP or WebSocket. Denials use it to name
    /// the grant that would have allowed the request.
    #[must_use]
    pub fn for_url(url: &Url) -> Option<Self> {
        let scheme = Scheme::from_name(url.scheme())?;
        let port = url.port_or_known_default()?;
        let host = match url.host()? {
            Host::Domain(name) => HostRule::Name(without_trailing_dot(name).to_owned()),
            Host::Ipv4(address) => HostRule::Address(address.into()),
            Host::Ipv6(address) => HostRule::Address(address.into()),
        };
        Some(Self { scheme, host, port })
    }

    /// Whether `url` has this scheme and port and one of these hosts. Path, query and credentials play no part.
    #[must_use]
    pub fn matches(&self, url: &Url) -> bool {
        Scheme::from_name(url.scheme()) == Some(self.scheme)
            && url.port_or_known_default() == Some(self.port)
            && url.host().is_some_and(|host| self.host.covers(&host))
    }

    /// Whether this is `*`, which names no host in particular.
    #[must_use]
    pub fn is_any_host(&self) -> bool {
        self.host == HostRule::Any
    }
}

impl HostRule {
    fn covers(&self, host: &Host<&str>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Name(wanted), Host::Domain(name)) => wanted == without_trailing_dot(name),
            (Self::Below(parent), Host::Domain(name)) => without_trailing_dot(name)
                .strip_suffix(parent.as_str())
                .and_then(|front| front.strip_suffix('.'))
                .is_some_and(|front| !front.is_empty()),
            (Self::Address(wanted), Host::Ipv4(address)) => *wanted == IpAddr::V4(*address),
            (Self::Address(wanted), Host::Ipv6(address)) => *wanted == IpAddr::V6(*address),
            _ => false,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(parent) = text.strip_prefix("*.") {
            return match parse_host(parent)? {
                Self::Name(name) => Ok(Self::Below(name)),
                _ => Err("`*.` goes before a DNS name, not before an address".into()),
            };
        }
        parse_host(text)
    }
}

fn without_trailing_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Reads a name or an address; never gives [`HostRule::Any`] or [`HostRule::Below`].
fn parse_host(text: &str) -> Result<HostRule, String> {
    if text.is_empty() {
        return Err("the host is missing".into());
    }
    if text.contains('*') {
        return Err("`*` stands alone (any host) or as `*.` before a name (`*.example.com`)".into());
    }
    if text.contains('%') {
        return Err("write the host without percent-encoding".into());
    }
    match Host::parse(text).map_err(|problem| format!("the host cannot be read ({problem})"))? {
        Host::Ipv6(address) => Ok(HostRule::Address(address.into())),
        Host::Ipv4(address) => parse_ipv4(text, address),
        Host::Domain(name) => parse_name(without_trailing_dot(&name)),
    }
}

/// `0177.1` and `2130706433` are addresses too, but nobody reading a grant would see which one.
fn parse_ipv4(text: &str, address: Ipv4Addr) -> Result<HostRule, String> {
    if text == address.to_string() {
        Ok(HostRule::Address(address.into()))
    } else {
        Err(format!("write the address as `{address}`"))
    }
}

fn parse_name(name: &str) -> Result<HostRule, String> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(format!("a DNS name has 1 to {MAX_NAME_BYTES} characters"));
    }
    for label in name.split('.') {
        let good_length = (1..=MAX_LABEL_BYTES).contains(&label.len());
        let good_bytes = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !good_length || !good_bytes || label.starts_with('-') || label.ends_with('-') {
            return Err(format!(
                "each part of a DNS name has 1 to {MAX_LABEL_BYTES} of a-z, 0-9, `-`, `_`, and no `-` at its ends"
            ));
        }
    }
    Ok(HostRule::Name(name.to_owned()))
}

/// Splits `host[:port]`.
fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = if text.starts_with('[') {
        let end = text.find(']').ok_or("the `]` of the IPv6 address is missing")?;
        let (host, rest) = text.split_at(end + 1);
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err("only `:port` may follow the `]`".into()),
        }
    } else {
        match text.split_once(':') {
            _ if text.contains('[') => return Err("an IPv6 address in brackets stands alone".into()),
            Some((_, rest)) if rest.contains(':') => {
                return Err("write an IPv6 address in brackets, such as `[2001:4860::8888]`".into());
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let Some(port) = port else { return Ok((host, None)) };
    match port.parse::<u16>() {
        Ok(number) if number != 0 && number.to_string() == port => Ok((host, Some(number))),
        _ => Err("the port is a number from 1 to 65535".into()),
    }
}

fn parse(text: &str) -> Result<HostPattern, String> {
    if text.len() > MAX_PATTERN_BYTES {
        return Err(format!("it is longer than {MAX_PATTERN_BYTES} bytes"));
    }
    if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return Err("it contains a space or a control character".into());
    }
    let (scheme, rest) = match text.split_once("://") {
        None => (Scheme::Https, text),
        Some((name, rest)) => (
            Scheme::from_name(&name.to_ascii_lowercase()).ok_or("the scheme is one of `https`, `http`, `wss`, `ws`")?,
            rest,
        ),
    };
    for (mark, what) in
        [('@', "a user name or password"), ('/', "a path"), ('\\', "a path"), ('?', "a query"), ('#', "a fragment")]
    {
        if rest.contains(mark) {
            return Err(format!("remove {what} (`{mark}`): a grant is for a whole host, as `[scheme://]host[:port]`"));
        }
    }
    let (host, port) = split_port(rest)?;
    Ok(HostPattern { scheme, host: HostRule::parse(host)?, port: port.unwrap_or(scheme.default_port()) })
}

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;

    fn from_str(text: &str) -> Result<Self, InvalidHostPattern> {
        parse(text).map_err(|reason| {
            // The text may be hostile and long: show a short, escaped piece of it.
            let given = text.chars().take(80).collect::<String>().escape_debug().to_string();
            InvalidHostPattern { given, reason }
        })
    }
}

impl fmt::Display for HostPattern {
    /// `scheme://host`, with `:port` where it is not the scheme's own. Reading it back gives the same pattern.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://", self.scheme.name())?;
        match &self.host {
            HostRule::Any => formatter.write_str("*")?,
            HostRule::Below(parent) => write!(formatter, "*.{parent}")?,
            HostRule::Name(name) => formatter.write_str(name)?,
            HostRule::Address(IpAddr::V4(address)) => write!(formatter, "{address}")?,
            HostRule::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]")?,
        }
        if self.port == self.scheme.default_port() { Ok(()) } else { write!(formatter, ":{}", self.port) }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where in a request a secret may stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Placement {
    /// In the value of this header; the name in lower case.
    Header(String),
    /// In the value of this query parameter.
    Query(String),
    /// Anywhere in the path.
    Path,
}

impl fmt::Display for Placement {
    /// `header=NAME`, `query=NAME` or `path`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(formatter, "header={name}"),
            Self::Query(name) => write!(formatter, "query={name}"),
            Self::Path => formatter.write_str("path"),
        }
    }
}

/// One secret, the one host it may be sent to, and the one place it may stand in there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRule {
    /// The secret's name, as in `{{secret:NAME}}`.
    pub name: String,
    /// The host it may be sent to.
    pub host: HostPattern,
    /// The place it may stand in.
    pub placement: Placement,
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
