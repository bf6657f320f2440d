//! Why a call to a gateway failed, and what to do about it.

use std::time::Duration;

use leanclaw_gateway::{is_of_version_3_only, own_methods};
use leanclaw_types::id::RESERVED_PLUGIN_IDS;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_tungstenite::tungstenite;

/// An error as a gateway words it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Refusal {
    /// Such as `INVALID_REQUEST`.
    pub code: String,
    /// For a person.
    pub message: String,
    /// For a program; `details.code` is finer than `code`, `details.hints` is a list of texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// Whether the same call may succeed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// When to come back, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// The finer code in the details; empty when there is none.
    #[must_use]
    pub fn detail_code(&self) -> &str {
        self.details.as_ref().and_then(|details| details.get("code")).and_then(Value::as_str).unwrap_or_default()
    }

    fn hints(&self) -> Vec<String> {
        let details = self.details.as_ref();
        let list = details.and_then(|details| details.get("hints")).and_then(Value::as_array);
        let mut hints: Vec<String> = list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        // A gateway may have them in the message alone.
        let told = self.message.lines().filter_map(|line| line.strip_prefix("hint: "));
        let news: Vec<String> = told.map(str::to_owned).filter(|hint| !hints.contains(hint)).collect();
        hints.extend(news);
        if let Some(missing) = details.and_then(|details| details.get("missingScope")).and_then(Value::as_str) {
            hints.push(format!("the gateway did not grant this client the scope {missing}"));
        }
        match (self.retryable, self.retry_after_ms) {
            (_, Some(after_ms)) => hints.push(format!("it may work in {after_ms} ms")),
            (Some(true), None) => hints.push("it may work later".to_owned()),
            _ => {}
        }
        hints
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A gateway may repeat its hints in the message, for clients that show nothing else; here they have lines of
        // their own.
        let hints = self.hints();
        let is_hint =
            |line: &&str| line.starts_with("hint: ") || hints.iter().any(|hint| line.ends_with(hint.as_str()));
        let message = self.message.lines().filter(|line| !is_hint(line)).collect::<Vec<_>>().join("\n");
        let message = if message.is_empty() { "it gave no reason" } else { message.as_str() };
        match (self.code.as_str(), self.detail_code()) {
            ("", _) => formatter.write_str(message),
            (code, "") => write!(formatter, "{message} ({code})"),
            (code, detail) => write!(formatter, "{message} ({code}, {detail})"),
        }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not one of a gateway.
    #[error("`{given}` is not the address of a gateway: {why}")]
    Url {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// The address asks for TLS.
    #[error("`{given}` asks for TLS, which this client does not speak")]
    Tls {
        /// What was given.
        given: String,
    },
    /// The configured address belongs to another machine.
    #[error("the configured gateway address {address} is not an address of this machine")]
    Foreign {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// Nobody takes the connection.
    #[error("nothing answers at {url}")]
    NotListening {
        /// The address.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else answers.
    #[error("what answers at {url} is not a gateway: {what}")]
    NotAGateway {
        /// The address.
        url: String,
        /// How it shows.
        what: String,
    },
    /// The gateway does not let this client in.
    #[error("the gateway at {url} refused the connection: {refusal}")]
    ConnectRefused {
        /// The address.
        url: String,
        /// Its words.
        refusal: Box<Refusal>,
        /// Where the token comes from; none when there is none.
        token_from: Option<String>,
    },
    /// The gateway answered with an error.
    #[error("{refusal}")]
    Refused {
        /// The method that was called.
        method: String,
        /// Its words.
        refusal: Box<Refusal>,
    },
    /// It took too long.
    #[error("{url} did not answer within {} ms (waited {waited_for})", timeout.as_millis())]
    TimedOut {
        /// The address.
        url: String,
        /// What was waited for, worded to follow "waited".
        waited_for: String,
        /// The time allowed.
        timeout: Duration,
    },
    /// The gateway closed the connection.
    #[error("{url} closed the connection (code {code}{})", shown_reason(reason))]
    Closed {
        /// The address.
        url: String,
        /// The WebSocket close code; 1006 when there was none.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection to {url} broke")]
    Broken {
        /// The address.
        url: String,
        /// How.
        source: Box<tungstenite::Error>,
    },
}

fn shown_reason(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(", {reason}") }
}

impl ClientError {
    /// A connection that ends before `hello-ok` without a word may well belong to something else.
    pub(super) fn during_handshake(self) -> Self {
        match self {
            Self::Closed { url, code: 1006, .. } => {
                Self::NotAGateway { url, what: "it closed the connection during the handshake".to_owned() }
            }
            other => other,
        }
    }

    /// The gateway's own words, when it said something.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::ConnectRefused { refusal, .. } | Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let one = |hint: &str| vec![hint.to_owned()];
        match self {
            Self::Url { .. } => one("write it like ws://127.0.0.1:18789"),
            Self::Tls { .. } => vec![
                "from another machine, go through SSH: ssh -N -L 18789:127.0.0.1:18789 HOST".to_owned(),
                "then use --url ws://127.0.0.1:18789".to_owned(),
            ],
            Self::Foreign { address } => {
                vec![format!("if that is the gateway you mean, say so: --url ws://{address}")]
            }
            Self::NotListening { .. } => vec![
                "start it with `leanclaw start`".to_owned(),
                "if it listens elsewhere, set LEANCLAW_GATEWAY_HOST and LEANCLAW_GATEWAY_PORT, or pass --url"
                    .to_owned(),
            ],
            Self::NotAGateway { .. } => {
                one("check the address: `leanclaw config` shows LEANCLAW_GATEWAY_HOST and LEANCLAW_GATEWAY_PORT")
            }
            Self::ConnectRefused { refusal, token_from, .. } => connect_hints(refusal, token_from.as_deref()),
            Self::Refused { method, refusal } => {
                let mut hints = refusal.hints();
                if !hints.is_empty() {
                    return hints;
                }
                if refusal.message.starts_with("unknown method") {
                    hints.extend(about_unknown(method));
                }
                if let Some(scope) = refusal.message.strip_prefix("missing scope: ") {
                    hints.push(how_to_get(scope));
                }
                hints
            }
            Self::TimedOut { .. } => one("allow more time with --timeout MS, or look at the log of the gateway"),
            Self::Closed { code: 1012, .. } => one("it is restarting or stopping; try again when it is back"),
            Self::Closed { .. } | Self::Broken { .. } => one("the log of the gateway says more"),
        }
    }
}

/// What is known here of a method that a gateway does not know.
fn about_unknown(method: &str) -> Option<String> {
    let (first, _) = method.split_once('.')?;
    if is_of_version_3_only(method) {
        return Some(
            "only version 3 of the protocol has this method, and this connection speaks 4, in which nodes are approved by what \
             they declare when they connect: `leanclaw nodes`"
                .to_owned(),
        );
    }
    // The gateway's own methods begin with these, and no plugin's.
    let is_its_own = RESERVED_PLUGIN_IDS.contains(&first);
    Some(match own_methods(first).as_slice() {
        _ if !is_its_own => format!("leanclaw plugin inspect {first} shows the methods of a plugin of that name"),
        [] => format!("LeanClaw has no methods that begin with `{first}.`"),
        known => format!("the methods that begin with `{first}.` are {}", known.join(", ")),
    })
}

/// What helps who lacks a scope.
fn how_to_get(scope: &str) -> String {
    format!(
        "use a credential or a device that has {scope}: `leanclaw devices` shows what each may do, `leanclaw devices role` \
         changes it"
    )
}

fn connect_hints(refusal: &Refusal, token_from: Option<&str>) -> Vec<String> {
    let mut hints = refusal.hints();
    match (refusal.detail_code(), token_from) {
        ("AUTH_RATE_LIMITED", _) => {
            hints.push("too many wrong tokens came from here; wait, then try the right one".into())
        }
        ("PROTOCOL_MISMATCH", _) => hints.push("this client speaks protocol versions 3 and 4".into()),
        (_, None) => hints.push("set LEANCLAW_GATEWAY_API_KEY to the gateway's token, or pass --token".into()),
        (detail, Some(origin)) if detail.starts_with("AUTH_") => {
            hints.push(format!("the token came from {origin}; it must equal the gateway's LEANCLAW_GATEWAY_API_KEY"));
        }
        _ => {}
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_a_scope_hears_what_gives_it() {
        let refusal = Refusal { message: "missing scope: operator.admin".to_owned(), ..Refusal::default() };
        let hints = ClientError::Refused { method: "wake".to_owned(), refusal: Box::new(refusal) }.hints();
        assert!(
            hints.len() == 1 && hints[0].contains("operator.admin") && hints[0].contains("devices role"),
            "{hints:?}"
        );
    }

    #[test]
    fn a_plugin_is_suggested_only_where_a_plugin_can_be_meant() {
        let hints = |method: &str| {
            let refusal = Refusal { message: format!("unknown method: {method}"), ..Refusal::default() };
            ClientError::Refused { method: method.to_owned(), refusal: Box::new(refusal) }.hints()
        };
        assert!(hints("notes.nothing")[0].contains("leanclaw plugin inspect notes"), "{:?}", hints("notes.nothing"));
        let older = hints("node.pair.verify");
        assert!(
            older.len() == 1 && older[0].contains("this connection speaks 4") && older[0].contains("leanclaw nodes"),
            "{older:?}"
        );
        assert!(hints("node.nothing")[0].contains("node.invoke, "), "{:?}", hints("node.nothing"));
        assert!(!hints("node.nothing")[0].contains("node.pair.verify"), "it is of version 3");
        assert_eq!(hints("talk.mode"), ["LeanClaw has no methods that begin with `talk.`"]);
        assert_eq!(hints("nothing"), Vec::<String>::new());
    }
}
