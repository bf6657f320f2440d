//! What would allow a destination that was refused: a grant, or first a line in the manifest.

use leanclaw_types::net::HostPattern;
use url::{Host, Url};

use crate::address::{AddressClass, classify};
use crate::policy::EgressPolicy;

/// A right to reach hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Requests.
    Http,
    /// Requests to this machine or a private network.
    PrivateHttp,
    /// WebSockets.
    Socket,
}

impl Right {
    fn field(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::PrivateHttp => "privateHttp",
            Self::Socket => "sockets",
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Http => "--http ",
            Self::PrivateHttp => "--private-http ",
            Self::Socket => "socket:",
        }
    }
}

/// What would allow a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// The right to be granted.
    pub right: Right,
    /// For which hosts.
    pub pattern: HostPattern,
    /// Whether the owner asks for it already; when not, its manifest has to, or granting it does nothing.
    pub is_requested: bool,
}

impl Remedy {
    /// For a destination that none of the owner's grants covers.
    pub(crate) fn for_denied(policy: &EgressPolicy, url: &Url, is_socket: bool) -> Option<Self> {
        let class = class_of_host(url);
        let is_public = class == AddressClass::Public;
        if !is_public && !class.is_grantable() {
            return None;
        }
        match (is_socket, is_public) {
            (true, _) => Self::find(policy, url, &[Right::Socket], Right::Socket),
            // A grant for a private host covers the host as such too.
            (false, false) => Self::find(policy, url, &[Right::PrivateHttp, Right::Http], Right::PrivateHttp),
            (false, true) => Self::find(policy, url, &[Right::PrivateHttp, Right::Http], Right::Http),
        }
    }

    /// For a destination that is granted and leads to this machine or a private network.
    pub(crate) fn for_private(policy: &EgressPolicy, url: &Url) -> Option<Self> {
        Self::find(policy, url, &[Right::PrivateHttp], Right::PrivateHttp)
    }

    fn find(policy: &EgressPolicy, url: &Url, rights: &[Right], plain: Right) -> Option<Self> {
        let requested = |right: &Right| {
            let all = policy.requested.as_ref()?;
            let patterns = match right {
                Right::Http => &all.http,
                Right::PrivateHttp => &all.private_http,
                Right::Socket => &all.sockets,
            };
            let pattern = patterns.iter().find(|pattern| pattern.matches(url))?.clone();
            Some(Self { right: *right, pattern, is_requested: true })
        };
        rights.iter().find_map(requested).or_else(|| {
            let pattern = HostPattern::for_url(url)?;
            Some(Self { right: plain, pattern, is_requested: policy.requested.is_none() })
        })
    }

    /// What to do, in order.
    pub(crate) fn hints(&self, owner: &str) -> Vec<String> {
        let pattern = self.pattern.to_string();
        let mut hints = Vec::new();
        if !self.is_requested {
            hints.push(format!("manifest, permissions.{}: [{}]", self.right.field(), json_text(&pattern)));
        }
        hints.push(grant(owner, self.right.option(), &pattern));
        hints
    }
}

/// What the address itself says. A name other than `localhost` says nothing: it is not resolved for this.
fn class_of_host(url: &Url) -> AddressClass {
    match url.host() {
        Some(Host::Ipv4(address)) => classify(address.into()),
        Some(Host::Ipv6(address)) => classify(address.into()),
        Some(Host::Domain(name)) if name == "localhost" || name.ends_with(".localhost") => AddressClass::Loopback,
        _ => AddressClass::Public,
    }
}

/// The command that grants a right.
pub(crate) fn grant(owner: &str, option: &str, value: &str) -> String {
    format!("leanclaw plugin grant {} {option}{}", shell_word(owner), shell_word(value))
}

/// The text as JSON, readable on one line of a terminal.
pub(crate) fn json_text(text: &str) -> String {
    let escaped = text.chars().fold(String::new(), |mut out, character| {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            plain => out.push(plain),
        }
        out
    });
    format!("\"{escaped}\"")
}

/// One word of a shell command. Hosts and parameter names come from guests, and people paste hints into a shell.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@=,+".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    let printable: String = text.chars().filter(|character| !character.is_control()).collect();
    format!("'{}'", printable.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::EgressError;
    use crate::policy::RequestedHosts;

    fn denied(policy: &EgressPolicy, url: &str, is_socket: bool) -> Vec<String> {
        let remedy = Remedy::for_denied(policy, &Url::parse(url).unwrap(), is_socket);
        EgressError::Denied { owner: policy.owner.clone(), origin: String::new(), remedy }.hints()
    }

    fn patterns(texts: &[&str]) -> Vec<HostPattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_asked_for_needs_a_grant_and_what_is_not_a_manifest_line_first() {
        let mut policy = EgressPolicy::new("notes");
        policy.requested = Some(RequestedHosts {
            http: patterns(&["https://*.example.com", "http://127.0.0.1:1"]),
            private_http: patterns(&["http://127.0.0.1:1"]),
            sockets: patterns(&["https://chat.example.com"]),
        });
        for (url, hints) in [
            ("https://api.example.com/v1", vec!["leanclaw plugin grant notes --http 'https://*.example.com'"]),
            ("http://127.0.0.1:1/x", vec!["leanclaw plugin grant notes --private-http http://127.0.0.1:1"]),
            (
                "https://other.example/?secret=1",
                vec![
                    r#"manifest, permissions.http: ["https://other.example"]"#,
                    "leanclaw plugin grant notes --http https://other.example",
                ],
            ),
            (
                "http://10.0.0.1/",
                vec![
                    r#"manifest, permissions.privateHttp: ["http://10.0.0.1"]"#,
                    "leanclaw plugin grant notes --private-http http://10.0.0.1",
                ],
            ),
        ] {
            assert_eq!(denied(&policy, url, false), hints, "{url}");
        }
        assert_eq!(denied(&policy, "http://169.254.169.254/", false), [""; 0], "nothing would help");
        let socket = denied(&policy, "wss://chat.example.com/", true);
        assert_eq!(socket, ["leanclaw plugin grant notes socket:https://chat.example.com"]);
        assert_eq!(denied(&policy, "wss://other.example/", true).len(), 2);
    }

    #[test]
    fn an_owner_whose_wishes_are_not_known_is_told_the_grant() {
        let policy = EgressPolicy::new("notes/work");
        assert_eq!(
            denied(&policy, "https://a.example/", false),
            ["leanclaw plugin grant notes/work --http https://a.example"]
        );
        let remedy = Remedy::for_private(&policy, &Url::parse("http://inside.example:8080/").unwrap());
        assert_eq!(
            remedy.unwrap().hints("notes"),
            ["leanclaw plugin grant notes --private-http http://inside.example:8080"]
        );
    }

    #[test]
    fn a_hint_cannot_carry_a_command_of_the_guest() {
        let hints = denied(&EgressPolicy::new("notes"), "https://a;$(reboot)'b.example/", true);
        assert_eq!(hints, [r"leanclaw plugin grant notes socket:'https://a;$(reboot)'\''b.example'"]);
        assert_eq!(shell_word("a\nb"), "'ab'");
        assert_eq!(json_text("a\"\\\n"), r#""a\"\\\u000a""#);
    }
}
