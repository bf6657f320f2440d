//! Where a request comes from, as far as that can be known.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Uri, header};

use crate::config::LiveConfig;

/// Headers that only a proxy adds.
const FORWARDING: [&str; 7] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "cf-connecting-ip",
    "true-client-ip",
];

/// Why somebody is sent away who came through a proxy, or from a page, that the configuration names no more.
const PROXY_TAKEN_OUT: &str = "access was taken back: a proxy in between is no longer in gateway.trustedProxies";
const ORIGIN_TAKEN_OUT: &str =
    "access was taken back: the page's origin is no longer in gateway.controlUi.allowedOrigins";

/// Where a request comes from.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The caller's address: the socket's, or what a trusted proxy says.
    pub(crate) address: SocketAddr,
    /// The `Origin` header, as sent.
    pub(crate) origin: Option<String>,
    /// Whether a browser made the request on behalf of a page, with or without an `Origin` header.
    pub(crate) from_page: bool,
    /// Loopback socket, loopback `Host`, no proxy between.
    pub(crate) direct_loopback: bool,
    /// A loopback socket whose request went through a proxy nobody trusts: the caller may be anyone.
    pub(crate) hidden_behind_proxy: bool,
    /// The proxies whose word all this is, each once; none when nobody stood between.
    proxies: Box<[IpAddr]>,
    /// The trusted proxy that does not say who calls, so that it stands for everybody behind it.
    pub(crate) unnamed_behind: Option<IpAddr>,
}

impl Peer {
    /// Reads a request's headers.
    pub(crate) fn new(socket: SocketAddr, headers: &HeaderMap, config: &LiveConfig) -> Self {
        let socket_ip = socket.ip().to_canonical();
        let forwarded = FORWARDING.iter().any(|name| headers.contains_key(*name));
        let trusted = is_trusted(config, socket_ip);
        let mut proxies = Vec::new();
        let mut named = None;
        if trusted && forwarded {
            proxies.push(socket_ip);
            named = forwarded_for(headers, config, &mut proxies);
        }
        let origin = headers.get(header::ORIGIN).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        // A page can make some requests without an Origin header; browsers mark those too.
        let fetched = headers.get("sec-fetch-site").is_some_and(|site| site != "none");
        Self {
            address: SocketAddr::new(named.unwrap_or(socket_ip), socket.port()),
            from_page: origin.is_some() || fetched,
            origin,
            direct_loopback: socket_ip.is_loopback() && !trusted && !forwarded && host_is_loopback(headers),
            hidden_behind_proxy: socket_ip.is_loopback() && forwarded && !trusted,
            proxies: proxies.into(),
            unnamed_behind: Some(socket_ip).filter(|_| trusted && named.is_none()),
        }
    }

    /// Whether it is a program on this machine, with nothing between.
    pub(crate) fn is_local(&self) -> bool {
        self.direct_loopback && !self.from_page
    }

    /// What let it in and does no more: a proxy whose word was taken is not trusted, or the page's origin not allowed. It fits
    /// the reason of a close. What came to be trusted or allowed since then takes nothing away.
    pub(crate) fn taken_back(&self, config: &LiveConfig) -> Option<&'static str> {
        if !self.is_told_by_trusted(config) {
            return Some(PROXY_TAKEN_OUT);
        }
        (self.origin.is_some() && self.check_origin(config).is_err()).then_some(ORIGIN_TAKEN_OUT)
    }

    /// Whether every proxy is trusted whose word was taken for where this comes from.
    pub(crate) fn is_told_by_trusted(&self, config: &LiveConfig) -> bool {
        self.proxies.iter().all(|proxy| is_trusted(config, *proxy))
    }

    /// The caller's address without its port.
    pub(crate) fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// Whether a page of this request's origin may talk to the gateway.
    ///
    /// # Errors
    /// The reason the real gateway gives.
    pub(crate) fn check_origin(&self, config: &LiveConfig) -> Result<(), &'static str> {
        let origin = self.origin.as_deref().unwrap_or_default();
        let Some(host) = origin_host(origin) else { return Err("origin missing or invalid") };
        let listed =
            config.allowed_origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin));
        if listed || (self.direct_loopback && is_loopback_name(&host)) { Ok(()) } else { Err("origin not allowed") }
    }
}

/// What one host can have of addresses: an IPv4 address, an IPv6 /64.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        ip @ IpAddr::V4(_) => ip,
    }
}

fn is_trusted(config: &LiveConfig, ip: IpAddr) -> bool {
    config.trusted_proxies.iter().any(|proxy| proxy.to_canonical() == ip)
}

/// The last address in `X-Forwarded-For` that is not itself a trusted proxy. The proxies after it go to `passed`. What is no
/// address ends the search: what stands before it may be the caller's own invention.
fn forwarded_for(headers: &HeaderMap, config: &LiveConfig, passed: &mut Vec<IpAddr>) -> Option<IpAddr> {
    for line in headers.get_all("x-forwarded-for").iter().rev() {
        for entry in line.to_str().ok()?.rsplit(',') {
            let ip = address_in(entry.trim())?.to_canonical();
            if !is_trusted(config, ip) {
                return Some(ip);
            }
            if !passed.contains(&ip) {
                passed.push(ip);
            }
        }
    }
    None
}

/// The address in `ADDRESS`, `ADDRESS:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`, the last two for IPv6.
fn address_in(entry: &str) -> Option<IpAddr> {
    let bare = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    entry.parse().ok().or_else(with_port).or_else(bare)
}

fn host_is_loopback(headers: &HeaderMap) -> bool {
    headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<http::uri::Authority>().ok())
        .is_some_and(|authority| is_loopback_name(authority.host()))
}

fn origin_host(origin: &str) -> Option<String> {
    let uri: Uri = origin.parse().ok()?;
    uri.scheme()?;
    uri.host().map(str::to_owned)
}

fn is_loopback_name(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let named = bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost");
    named || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(socket: &str, headers: &[(&'static str, &str)], config: &LiveConfig) -> Peer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Peer::new(socket.parse().unwrap(), &map, config)
    }

    #[test]
    fn only_an_unproxied_local_caller_is_direct() {
        let config = LiveConfig::default();
        for (socket, headers, direct) in [
            ("127.0.0.1:5", &[("host", "127.0.0.1:1")][..], true),
            ("[::1]:5", &[("host", "localhost:1")], true),
            ("[::ffff:127.0.0.1]:5", &[("host", "[::1]:1")], true),
            ("127.0.0.1:5", &[("host", "evil.example")], false),
            ("127.0.0.1:5", &[], false),
            ("127.0.0.1:5", &[("host", "localhost"), ("x-forwarded-for", "1.2.3.4")], false),
            ("127.0.0.1:5", &[("host", "localhost"), ("forwarded", "for=1.2.3.4")], false),
            ("10.0.0.9:5", &[("host", "localhost")], false),
        ] {
            assert_eq!(peer(socket, headers, &config).direct_loopback, direct, "{socket} {headers:?}");
        }
    }

    #[test]
    fn a_proxy_is_believed_only_when_trusted() {
        let mut config = LiveConfig::default();
        let headers = [("host", "localhost"), ("x-forwarded-for", "9.9.9.9, 10.0.0.1")];
        let hidden = peer("127.0.0.1:5", &headers, &config);
        assert!(hidden.hidden_behind_proxy);
        assert_eq!(hidden.ip(), "127.0.0.1".parse::<IpAddr>().unwrap());
        config.trusted_proxies = vec!["127.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let seen = peer("127.0.0.1:5", &headers, &config);
        assert!(!seen.hidden_behind_proxy && !seen.direct_loopback);
        assert_eq!((seen.ip(), seen.unnamed_behind), ("9.9.9.9".parse::<IpAddr>().unwrap(), None));
        for unnamed in [("x-real-ip", "9.9.9.9"), ("x-forwarded-for", "unknown"), ("host", "localhost")] {
            let peer = peer("127.0.0.1:5", &[unnamed], &config);
            assert_eq!(peer.unnamed_behind, Some("127.0.0.1".parse().unwrap()), "{unnamed:?}");
            assert!(!peer.direct_loopback);
        }
        assert_eq!(hidden.unnamed_behind, None, "nobody asked it");
    }

    #[test]
    fn a_peer_is_good_as_long_as_all_are_believed_who_spoke_for_it() {
        let trusting = |proxies: &[&str]| LiveConfig {
            trusted_proxies: proxies.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..LiveConfig::default()
        };
        let both = trusting(&["127.0.0.1", "10.0.0.1"]);
        let headers = [("host", "localhost"), ("x-forwarded-for", "7.7.7.7, 9.9.9.9, 10.0.0.1, 10.0.0.1")];
        let through_two = peer("127.0.0.1:5", &headers, &both);
        assert_eq!(through_two.proxies.len(), 2, "each once");
        let is_good = |peer: &Peer, config: &LiveConfig| peer.taken_back(config).is_none();
        assert!(is_good(&through_two, &trusting(&["10.0.0.1", "127.0.0.1", "9.9.9.9"])), "more of them do no harm");
        assert_eq!(through_two.taken_back(&trusting(&["127.0.0.1"])), Some(PROXY_TAKEN_OUT));
        assert_eq!(through_two.taken_back(&trusting(&["10.0.0.1"])), Some(PROXY_TAKEN_OUT));
        // A proxy that says nothing of where a request comes from lets it in all the same.
        let silent = peer("127.0.0.1:5", &[("host", "localhost"), ("x-real-ip", "9.9.9.9")], &both);
        assert!(is_good(&silent, &trusting(&["127.0.0.1"])) && !is_good(&silent, &trusting(&[])));
        let direct = peer("127.0.0.1:5", &[("host", "localhost")], &trusting(&[]));
        assert!(is_good(&direct, &trusting(&[])) && is_good(&direct, &both));
    }

    #[test]
    fn a_proxy_is_believed_up_to_what_is_no_address() {
        let config = LiveConfig {
            trusted_proxies: ["127.0.0.1", "10.0.0.1", "2001:db8::1"].iter().map(|ip| ip.parse().unwrap()).collect(),
            ..LiveConfig::default()
        };
        let from = |lines: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", http::HeaderValue::from_bytes(line).unwrap());
            }
            Peer::new("127.0.0.1:5".parse().unwrap(), &headers, &config).ip().to_string()
        };
        for (chain, seen) in [
            ("9.9.9.9:1234", "9.9.9.9"),
            ("[2001:db8::9]", "2001:db8::9"),
            ("[2001:db8::9]:1234", "2001:db8::9"),
            ("2001:db8::9", "2001:db8::9"),
            ("9.9.9.9, 10.0.0.1:80,[2001:db8::1]:443", "9.9.9.9"),
            ("7.7.7.7, unknown", "127.0.0.1"),
            ("7.7.7.7, _hidden, 10.0.0.1", "127.0.0.1"),
            ("7.7.7.7, [9.9.9.9]", "127.0.0.1"),
            ("7.7.7.7, 9.9.9.9:port", "127.0.0.1"),
            ("7.7.7.7, ", "127.0.0.1"),
            ("10.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(from(&[chain.as_bytes()]), seen, "{chain}");
        }
        assert_eq!(from(&[b"7.7.7.7", b"9.9.9.9"]), "9.9.9.9", "the proxy's own line is the last");
        assert_eq!(from(&[b"7.7.7.7", b"10.0.0.1"]), "7.7.7.7");
        assert_eq!(from(&[b"7.7.7.7", b"\xff, 10.0.0.1"]), "127.0.0.1", "a line that is no text");
    }

    #[test]
    fn pages_are_recognised_and_origins_checked() {
        let mut config = LiveConfig::default();
        let with = |origin: &'static str, config: &LiveConfig| {
            peer("127.0.0.1:5", &[("host", "localhost"), ("origin", origin)], config)
        };
        assert_eq!(with("http://localhost:3000", &config).check_origin(&config), Ok(()));
        assert_eq!(with("https://evil.example", &config).check_origin(&config), Err("origin not allowed"));
        assert_eq!(with("null", &config).check_origin(&config), Err("origin missing or invalid"));
        config.allowed_origins = vec!["https://ui.example".into()];
        assert_eq!(with("https://ui.example", &config).check_origin(&config), Ok(()));
        let (listed, local) = (with("https://ui.example", &config), with("http://localhost:3000", &config));
        assert_eq!((listed.taken_back(&config), local.taken_back(&config)), (None, None));
        let none = LiveConfig::default();
        assert_eq!((listed.taken_back(&none), local.taken_back(&none)), (Some(ORIGIN_TAKEN_OUT), None));
        for near in ["https://ui.exampl", "https://ui.example.evil", "http://ui.example", "https://ui.example:444"] {
            assert_eq!(with(near, &config).check_origin(&config), Err("origin not allowed"), "{near}");
        }
        // What a page says is local to whoever opened it, and that is another machine.
        let afar = [("host", "leanclaw.example"), ("origin", "http://localhost:3000")];
        assert_eq!(peer("192.0.2.1:5", &afar, &config).check_origin(&config), Err("origin not allowed"));
        let image = peer("127.0.0.1:5", &[("host", "localhost"), ("sec-fetch-site", "cross-site")], &config);
        assert!(image.from_page && image.origin.is_none());
        assert!(!peer("127.0.0.1:5", &[("host", "localhost"), ("sec-fetch-site", "none")], &config).from_page);
    }
}
