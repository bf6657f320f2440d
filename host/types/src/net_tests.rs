//! What the host-pattern grammar accepts, refuses and covers.

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> HostPattern {
    text.parse().unwrap()
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn covers(allowed: &str, requested: &str) -> bool {
    pattern(allowed).matches(&url(requested))
}

#[test]
fn each_pattern_has_one_spelling() {
    for (given, shown) in [
        ("api.example.com", "https://api.example.com"),
        ("HTTPS://API.Example.COM:443", "https://api.example.com"),
        ("api.example.com.", "https://api.example.com"),
        ("api.example.com:8443", "https://api.example.com:8443"),
        ("http://api.example.com", "http://api.example.com"),
        ("http://api.example.com:80", "http://api.example.com"),
        ("http://api.example.com:443", "http://api.example.com:443"),
        ("wss://gateway.example.com", "https://gateway.example.com"),
        ("ws://localhost:9000", "http://localhost:9000"),
        ("*.example.com", "https://*.example.com"),
        ("http://*.example.com:81", "http://*.example.com:81"),
        ("*", "https://*"),
        ("http://*", "http://*"),
        ("b\u{fc}cher.example", "https://xn--bcher-kva.example"),
        ("127.0.0.1", "https://127.0.0.1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]", "https://[::1]"),
        ("http://[2001:DB8::1]:8080", "http://[2001:db8::1]:8080"),
        ("_dmarc.example.com", "https://_dmarc.example.com"),
    ] {
        assert_eq!(pattern(given).to_string(), shown, "{given}");
        assert_eq!(pattern(shown), pattern(given), "{given}");
    }
}

#[test]
fn what_is_not_a_pattern_is_refused_with_the_reason() {
    for (given, reason) in [
        ("", "missing"),
        ("https://", "missing"),
        ("*foo", "stands alone"),
        ("*foo.example.com", "stands alone"),
        ("foo.*.com", "stands alone"),
        ("*.*.com", "stands alone"),
        ("**", "stands alone"),
        ("*.", "missing"),
        ("*.127.0.0.1", "not before an address"),
        ("*.[::1]", "stands alone"),
        ("x[::1]", "stands alone"),
        ("ftp://example.com", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("https://user@example.com", "user name"),
        ("https://user:word@example.com", "user name"),
        ("https://example.com/", "path"),
        ("example.com/v1", "path"),
        ("https:\\\\example.com", "path"),
        ("example.com?x=1", "query"),
        ("example.com#top", "fragment"),
        ("example.com:", "port"),
        ("example.com:0", "port"),
        ("example.com:065", "port"),
        ("example.com:+80", "port"),
        ("example.com:65536", "port"),
        ("example.com:http", "port"),
        ("::1", "brackets"),
        ("[::1", "`]`"),
        ("[::1]x", "`:port`"),
        ("[example.com]", "cannot be read"),
        ("127.1", "write the address as `127.0.0.1`"),
        ("0x7f.0.0.1", "write the address as `127.0.0.1`"),
        ("2130706433", "write the address as `127.0.0.1`"),
        ("1.2.3.256", "cannot be read"),
        ("exa%6dple.com", "percent"),
        ("a..example.com", "each part"),
        (".example.com", "each part"),
        ("-a.example.com", "each part"),
        ("a-.example.com", "each part"),
        ("ex!ample.com", "each part"),
        (" example.com", "space"),
        ("example.com\n", "space"),
        ("exam\u{0}ple.com", "control"),
    ] {
        let problem = given.parse::<HostPattern>().expect_err(given).to_string();
        assert!(problem.contains(reason), "{given:?}: {problem}");
    }
    for long in [format!("{}.example.com", "a".repeat(64)), "a.".repeat(127) + "com", "a".repeat(400)] {
        assert!(long.parse::<HostPattern>().is_err(), "{long}");
    }
}

#[test]
fn a_refusal_shows_hostile_text_short_and_escaped() {
    let problem = format!("\u{1b}[31m{}", "a".repeat(1000)).parse::<HostPattern>().unwrap_err().to_string();
    assert!(!problem.contains('\u{1b}') && problem.len() < 400, "{problem:?}");
}

#[test]
fn scheme_host_and_port_must_all_match() {
    assert!(covers("api.example.com", "https://api.example.com/v1?x=1#y"));
    assert!(covers("api.example.com", "https://API.EXAMPLE.COM./v1"));
    assert!(covers("api.example.com", "wss://api.example.com/socket"));
    assert!(covers("wss://api.example.com", "https://api.example.com/"));
    assert!(covers("ws://api.example.com:81", "http://api.example.com:81/"));
    assert!(!covers("api.example.com", "http://api.example.com/"));
    assert!(!covers("http://api.example.com", "https://api.example.com/"));
    assert!(!covers("api.example.com", "https://api.example.com:8443/"));
    assert!(!covers("api.example.com", "https://api.example.com.evil.org/"));
    assert!(!covers("api.example.com", "https://xapi.example.com/"));
    assert!(!covers("api.example.com", "https://api.example.com@evil.org/"));
    assert!(!covers("*", "ftp://example.com/"));
    assert!(!covers("*", "data:text/plain,x"));
}

#[test]
fn a_wildcard_covers_names_below_and_not_the_name_itself() {
    assert!(covers("*.example.com", "https://a.example.com/"));
    assert!(covers("*.example.com", "https://a.b.example.com./"));
    assert!(!covers("*.example.com", "https://example.com/"));
    assert!(!covers("*.example.com", "https://badexample.com/"));
    assert!(!covers("*.example.com", "https://.example.com/"));
    assert!(!covers("*.example.com", "https://a.example.com.evil.org/"));
    assert!(covers("*", "https://anything.example/"));
    assert!(covers("*", "https://192.0.2.1/"));
    assert!(!covers("*", "https://anything.example:444/"));
    assert!(pattern("*").is_any_host() && !pattern("*.com").is_any_host());
}

#[test]
fn odd_spellings_of_an_address_are_that_address() {
    for spelling in ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1."] {
        assert!(covers("http://127.0.0.1", &format!("http://{spelling}/")), "{spelling}");
    }
    assert!(covers("http://[::1]", "http://[0:0:0:0:0:0:0:1]/"));
    assert!(!covers("http://127.0.0.1", "http://[::ffff:127.0.0.1]/"));
    assert!(!covers("*.0.0.com", "http://127.0.0.1/"));
}

#[test]
fn the_pattern_for_a_url_covers_it_and_nothing_wider() {
    let request = url("wss://API.example.com.:8443/socket?x=1");
    let narrow = HostPattern::for_url(&request).unwrap();
    assert_eq!(narrow.to_string(), "https://api.example.com:8443");
    assert!(narrow.matches(&request));
    assert!(!narrow.matches(&url("wss://api.example.com/socket")));
    assert_eq!(HostPattern::for_url(&url("mailto:a@example.com")), None);
}

#[test]
fn patterns_and_rules_are_plain_json() {
    let rule: SecretRule = serde_json::from_value(serde_json::json!(
        {"name": "key", "host": "api.example.com", "placement": {"header": "authorization"}}
    ))
    .unwrap();
    assert_eq!(rule.placement, Placement::Header("authorization".into()));
    assert_eq!(serde_json::to_value(&rule).unwrap()["host"], "https://api.example.com");
    assert_eq!(serde_json::to_value(Placement::Path).unwrap(), "path");
    let problem = serde_json::from_str::<HostPattern>("\"*foo\"").unwrap_err().to_string();
    assert!(problem.contains("stands alone"), "{problem}");
}

fn any_host() -> impl Strategy<Value = String> {
    let name = "[a-z0-9_]([a-z0-9-]{0,10}[a-z0-9_])?(\\.[a-z]([a-z0-9-]{0,10}[a-z0-9])?){0,3}\\.[a-z]{2,6}";
    prop_oneof![
        Just("*".to_owned()),
        name.prop_map(|name| name),
        name.prop_map(|name| format!("*.{name}")),
        any::<Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|address| format!("[{address}]")),
    ]
}

proptest! {
    #[test]
    fn what_is_shown_reads_back_as_the_same_pattern(
        scheme in prop_oneof![Just(""), Just("https://"), Just("http://"), Just("wss://"), Just("ws://")],
        host in any_host(),
        port in proptest::option::of(1_u16..),
    ) {
        let text = format!("{scheme}{host}{}", port.map(|port| format!(":{port}")).unwrap_or_default());
        // A generated `xn--` label may not be valid IDNA; such a text is refused, not misread.
        if let Ok(first) = text.parse::<HostPattern>() {
            let shown = first.to_string();
            prop_assert_eq!(&shown.parse::<HostPattern>().unwrap(), &first);
            prop_assert_eq!(shown.parse::<HostPattern>().unwrap().to_string(), shown);
        } else {
            prop_assert!(host.contains("--"), "{}", text);
        }
    }

    #[test]
    fn any_text_is_read_or_refused_without_harm(text in ".{0,60}") {
        if let Ok(parsed) = text.parse::<HostPattern>() {
            prop_assert_eq!(parsed.to_string().parse::<HostPattern>().unwrap(), parsed);
        }
    }

    #[test]
    fn an_exact_pattern_and_its_url_agree(host in any_host(), port in 1_u16..) {
        prop_assume!(!host.contains('*') && !host.contains("--"));
        let request = url(&format!("https://{host}:{port}/path"));
        let narrow = HostPattern::for_url(&request).unwrap();
        prop_assert!(narrow.matches(&request));
        prop_assert_eq!(narrow, pattern(&format!("{host}:{port}")));
    }
}
