//! Turns raw values into typed ones. A parser answers `None` for a value that does not fit; what would fit is the
//! variable's own `expects`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use leanclaw_types::redact::Secret;
use serde_json::Value;

use super::{LogFormat, LogLevel, Pooling};

/// Where `~` and relative paths lead.
#[derive(Debug, Clone)]
pub(crate) struct PathBase {
    pub(crate) home: Option<PathBuf>,
    pub(crate) relative_to: PathBuf,
}

/// The value as text: strings as they are, numbers and truth values as written; nothing else has a text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

pub(crate) fn choice<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Option<T> {
    let text = text(value)?.to_ascii_lowercase();
    choices.iter().find(|(name, _)| *name == text).map(|(_, chosen)| *chosen)
}

pub(crate) fn host(value: &Value) -> Option<IpAddr> {
    let text = text(value)?.to_ascii_lowercase();
    match text.as_str() {
        "localhost" | "loopback" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        "lan" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        address => address.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    }
}

/// JSON5 numbers may come as floating point; `18789.0` is a whole number too.
pub(crate) fn whole_number(value: &Value, least: u64, most: u64) -> Option<u64> {
    let number = match value.as_f64() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the guard keeps it in range")]
        Some(number) if number.fract() == 0.0 && (0.0..=9e15).contains(&number) => number as u64,
        Some(_) => return None,
        None => text(value)?.parse().ok()?,
    };
    (least..=most).contains(&number).then_some(number)
}

pub(crate) fn port(value: &Value) -> Option<u16> {
    whole_number(value, 0, u64::from(u16::MAX)).and_then(|port| port.try_into().ok())
}

pub(crate) fn instances(value: &Value) -> Option<u32> {
    whole_number(value, 1, 100_000).and_then(|count| count.try_into().ok())
}

pub(crate) fn audit_rows(value: &Value) -> Option<u32> {
    whole_number(value, 1000, 1_000_000_000).and_then(|count| count.try_into().ok())
}

/// How the admin wants clients to prove themselves.
pub(crate) fn auth_mode(value: &Value) -> Option<AuthMode> {
    choice(value, &[("token", AuthMode::Token), ("password", AuthMode::Password), ("none", AuthMode::None)])
}

/// How clients prove themselves, before the secret for it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthMode {
    Token,
    Password,
    None,
}

impl AuthMode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Password => "password",
            Self::None => "none",
        }
    }
}

pub(crate) fn secret(value: &Value) -> Option<Secret> {
    let Value::String(text) = value else { return None };
    let good = (1..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| Secret::new(text.clone()))
}

pub(crate) fn pooling(value: &Value) -> Option<Pooling> {
    choice(value, &[("auto", Pooling::Auto), ("off", Pooling::Off)])
}

pub(crate) fn log_level(value: &Value) -> Option<LogLevel> {
    choice(
        value,
        &[
            ("trace", LogLevel::Trace),
            ("debug", LogLevel::Debug),
            ("info", LogLevel::Info),
            ("warn", LogLevel::Warn),
            ("error", LogLevel::Error),
            ("fatal", LogLevel::Error),
            ("silent", LogLevel::Silent),
        ],
    )
}

pub(crate) fn log_format(value: &Value) -> Option<LogFormat> {
    choice(value, &[("pretty", LogFormat::Pretty), ("compact", LogFormat::Pretty), ("json", LogFormat::Json)])
}

pub(crate) fn time_zone(value: &Value) -> Option<TimeZone> {
    let text = text(value)?;
    let name = text.strip_prefix(':').unwrap_or(&text);
    TimeZone::get(name).or_else(|_| TimeZone::posix(name)).ok()
}

/// The parts of a list: a JSON list of texts, or one text with commas between the parts.
fn parts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(list) => list.iter().map(|part| part.as_str().map(|part| part.trim().to_owned())).collect(),
        Value::String(text) => Some(text.split(',').map(|part| part.trim().to_owned()).collect()),
        _ => None,
    }
}

pub(crate) fn addresses(value: &Value) -> Option<Vec<IpAddr>> {
    parts(value)?.iter().map(|part| part.parse().ok()).collect()
}

/// Web origins: `*`, or scheme, host and port and nothing after them.
pub(crate) fn origins(value: &Value) -> Option<Vec<String>> {
    let is_origin = |part: &String| {
        part == "*" || url::Url::parse(part).is_ok_and(|url| url.origin().ascii_serialization() == *part)
    };
    parts(value).filter(|parts| parts.iter().all(is_origin))
}

/// A path, made absolute: `~` is the home directory, anything relative starts at the base. A list with one path is
/// that path.
pub(crate) fn path(value: &Value, base: &PathBase) -> Option<PathBuf> {
    let text = match value {
        Value::String(text) => text.as_str(),
        Value::Array(list) => match list.as_slice() {
            [Value::String(only)] => only.as_str(),
            _ => return None,
        },
        _ => return None,
    };
    if text.is_empty() || text.contains('\0') {
        return None;
    }
    let path = match (text.strip_prefix('~'), &base.home) {
        (Some(""), home) => home.clone()?,
        (Some(rest), home) if rest.starts_with('/') => home.as_ref()?.join(rest.trim_start_matches('/')),
        _ => base.relative_to.join(text),
    };
    Some(path.components().collect())
}

/// A path in a URL: `/` at its start and none at its end; empty for the top.
pub(crate) fn url_path(value: &Value) -> Option<String> {
    let text = value.as_str()?.trim_matches('/');
    let good = |part: &str| {
        !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
    };
    if text.is_empty() {
        return Some(String::new());
    }
    text.split('/').all(good).then(|| format!("/{text}"))
}

/// The display form of a path.
pub(crate) fn shown_path(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hosts() {
        for (given, expected) in
            [("127.0.0.1", "127.0.0.1"), ("LocalHost", "127.0.0.1"), ("lan", "0.0.0.0"), ("[::1]", "::1"), ("::", "::")]
        {
            assert_eq!(host(&json!(given)).map(|host| host.to_string()).as_deref(), Some(expected), "{given}");
        }
        for bad in [json!("example.com"), json!("127.0.0.1:80"), json!(""), json!(null), json!(["127.0.0.1"])] {
            assert_eq!(host(&bad), None, "{bad}");
        }
    }

    #[test]
    fn ports() {
        for good in [json!(18789), json!(18789.0), json!("18789"), json!(" 18789 ")] {
            assert_eq!(port(&good), Some(18789), "{good}");
        }
        for bad in
            [json!(65536), json!(-1), json!(1.5), json!("12x"), json!(""), json!(true), json!(null), json!("0x10")]
        {
            assert_eq!(port(&bad), None, "{bad}");
        }
    }

    #[test]
    fn secrets_are_never_trimmed_or_emptied() {
        assert!(secret(&json!("s3cret!")).is_some());
        for bad in [json!(""), json!(" a"), json!("a b"), json!("ä"), json!(12), json!("x".repeat(513))] {
            assert!(secret(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn paths_are_absolute() {
        let base = PathBase { home: Some("/home/u".into()), relative_to: "/work".into() };
        let shown = |value| path(&value, &base).map(|path| path.display().to_string());
        assert_eq!(shown(json!("~/p")).as_deref(), Some("/home/u/p"));
        assert_eq!(shown(json!("~")).as_deref(), Some("/home/u"));
        assert_eq!(shown(json!("./p/")).as_deref(), Some("/work/p"));
        assert_eq!(shown(json!("/x")).as_deref(), Some("/x"));
        assert_eq!(shown(json!(["/x"])).as_deref(), Some("/x"));
        assert_eq!(shown(json!("~other")).as_deref(), Some("/work/~other"));
        for bad in [json!(["/x", "/y"]), json!([]), json!(""), json!(7)] {
            assert_eq!(shown(bad.clone()), None, "{bad}");
        }
        let homeless = PathBase { home: None, relative_to: "/work".into() };
        assert_eq!(path(&json!("~/p"), &homeless), None);
    }

    #[test]
    fn paths_in_urls() {
        for (given, path) in [("", ""), ("/", ""), ("claw", "/claw"), ("/a/b-c_1/", "/a/b-c_1")] {
            assert_eq!(url_path(&json!(given)).as_deref(), Some(path));
        }
        for bad in [json!("/a//b"), json!("/../x"), json!("/a b"), json!("/a?b"), json!("/<x>"), json!(1)] {
            assert_eq!(url_path(&bad), None, "{bad}");
        }
    }

    #[test]
    fn lists() {
        assert_eq!(addresses(&json!("10.0.0.1, ::1")).map(|list| list.len()), Some(2));
        assert_eq!(addresses(&json!(["10.0.0.1"])).map(|list| list.len()), Some(1));
        assert_eq!(addresses(&json!([])), Some(Vec::new()));
        for bad in [json!("10.0.0.0/8"), json!("a,"), json!([1]), json!({})] {
            assert_eq!(addresses(&bad), None, "{bad}");
        }
        assert!(origins(&json!("https://ui.example.com, http://localhost:3000,*")).is_some());
        for bad in
            ["https://ui.example.com/", "ui.example.com", "https://u@ui.example.com", "HTTPS://UI.example.com", ""]
        {
            assert_eq!(origins(&json!(bad)), None, "{bad}");
        }
    }

    #[test]
    fn zones() {
        for good in ["UTC", ":UTC", "CET-1CEST,M3.5.0,M10.5.0/3"] {
            assert!(time_zone(&json!(good)).is_some(), "{good}");
        }
        for bad in ["Mars/Olympus", ""] {
            assert!(time_zone(&json!(bad)).is_none(), "{bad}");
        }
    }
}
