//! Why a request did not happen or did not end well.
//!
//! A refusal names the rule and, in [`EgressError::hints`], the command that would lift it. No message contains a
//! secret, a path, a query, or the address a name resolved to: messages travel to guests.

use leanclaw_types::net::{HostPattern, Placement};

use crate::address::AddressClass;
use crate::remedy::{Remedy, grant, json_text, shell_word};

/// Why a request failed. [`EgressError::code`] is stable; the messages are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// No grant covers the host.
    #[error("`{owner}` may not reach {origin}: it is not in its granted hosts")]
    Denied {
        /// Who asked.
        owner: String,
        /// Scheme, host and port asked for.
        origin: String,
        /// What would allow it, where anything could.
        remedy: Option<Remedy>,
    },
    /// The request itself is not one that can be sent.
    #[error("the request cannot be sent: {detail}")]
    InvalidRequest {
        /// What is wrong with it.
        detail: String,
    },
    /// A header that only the host may set, or that the host sets from a secret.
    #[error("the request header `{name}` is refused: {reason}")]
    ForbiddenHeader {
        /// The header, in lower case.
        name: String,
        /// Why, and what to do instead.
        reason: String,
    },
    /// A secret placeholder where no granted rule puts that secret.
    #[error("{0}")]
    SecretNotDeclared(Box<UndeclaredSecret>),
    /// The rule is granted, but there is no usable value.
    #[error("secret `{name}` of `{owner}` cannot be used: {reason}")]
    SecretMissing {
        /// Who asked.
        owner: String,
        /// The secret's name.
        name: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// The name did not resolve.
    #[error("the name `{host}` could not be resolved: {detail}")]
    ResolveFailed {
        /// The name.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// The host is or resolves to an address that must not be dialled.
    #[error("`{owner}` may not reach {origin}: it leads to {}", .class.describe())]
    AddressRefused {
        /// Who asked.
        owner: String,
        /// Where the request goes.
        origin: String,
        /// What kind of address it is.
        class: AddressClass,
        /// What would allow it, where anything could.
        remedy: Option<Remedy>,
    },
    /// The destination is this program itself.
    #[error("`{owner}` may not reach {origin}: it leads to the gateway of this program")]
    OwnGateway {
        /// Who asked.
        owner: String,
        /// Where the request goes.
        origin: String,
    },
    /// No connection.
    #[error("no connection to {origin}: {detail}")]
    ConnectFailed {
        /// Where the request goes.
        origin: String,
        /// What went wrong.
        detail: String,
    },
    /// No trusted TLS session with a server of that name.
    #[error("no secure connection to {origin}: {detail}")]
    TlsFailed {
        /// Where the request goes.
        origin: String,
        /// What went wrong.
        detail: String,
    },
    /// A time limit passed.
    #[error("timed out: {phase} took too long")]
    TimedOut {
        /// Which part took too long, in words.
        phase: &'static str,
    },
    /// A size limit was passed.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What is too large, in words.
        what: &'static str,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// Too many requests in the last minute.
    #[error("`{owner}` sent its {limit} requests of this minute; try again in {retry_after_ms} ms")]
    RateLimited {
        /// Who asked.
        owner: String,
        /// Requests allowed per minute.
        limit: usize,
        /// When one will be allowed again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Too many requests at once, and none ended in time.
    #[error("`{owner}` already has {limit} {what} open")]
    Busy {
        /// Who asked.
        owner: String,
        /// `requests` or `WebSockets`.
        what: &'static str,
        /// How many may be open.
        limit: usize,
    },
    /// The other side broke the rules of HTTP or WebSocket, or closed early.
    #[error("{origin} did not answer properly: {detail}")]
    Protocol {
        /// Where the request went.
        origin: String,
        /// What went wrong.
        detail: String,
    },
    /// The caller gave up.
    #[error("the request was cancelled")]
    Cancelled,
}

/// A secret placeholder where no granted rule puts that secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secret `{name}` may not stand in {place} of a request to {origin}: {reason}")]
pub struct UndeclaredSecret {
    /// Who asked.
    pub owner: String,
    /// The secret's name.
    pub name: String,
    /// Where the placeholder was found, in words.
    pub place: String,
    /// Where the request goes.
    pub origin: String,
    /// Which rule is missing, or where the secret may stand instead.
    pub reason: String,
    /// The declaration that would allow it, where one could.
    pub wanted: Option<(HostPattern, Placement)>,
}

impl UndeclaredSecret {
    /// The manifest line and the grant.
    fn hints(&self) -> Vec<String> {
        let Some((host, placement)) = &self.wanted else { return Vec::new() };
        let place = match placement {
            Placement::Header(header) => format!("\"header\": {}", json_text(header)),
            Placement::Query(query) => format!("\"query\": {}", json_text(query)),
            Placement::Path => "\"path\": true".to_owned(),
        };
        let (name, host_text) = (json_text(&self.name), json_text(&host.to_string()));
        vec![
            format!("manifest, permissions.secrets: {{\"name\": {name}, \"host\": {host_text}, {place}}}"),
            grant(&self.owner, "secret:", &format!("{}@{host}/{placement}", self.name)),
        ]
    }
}

impl EgressError {
    /// A stable word for programs. The list may grow.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied { .. } => "denied",
            Self::InvalidRequest { .. } => "invalid-request",
            Self::ForbiddenHeader { .. } => "forbidden-header",
            Self::SecretNotDeclared(_) => "secret-not-declared",
            Self::SecretMissing { .. } => "secret-missing",
            Self::ResolveFailed { .. } => "resolve-failed",
            Self::AddressRefused { .. } | Self::OwnGateway { .. } => "address-refused",
            Self::ConnectFailed { .. } => "connect-failed",
            Self::TlsFailed { .. } => "tls-failed",
            Self::TimedOut { .. } => "timed-out",
            Self::TooLarge { .. } => "too-large",
            Self::RateLimited { .. } => "rate-limited",
            Self::Busy { .. } => "busy",
            Self::Protocol { .. } => "protocol",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether a rule refused it, rather than the network or the other side.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        matches!(
            self,
            Self::Denied { .. }
                | Self::ForbiddenHeader { .. }
                | Self::SecretNotDeclared(_)
                | Self::SecretMissing { .. }
                | Self::AddressRefused { .. }
                | Self::OwnGateway { .. }
                | Self::RateLimited { .. }
        )
    }

    /// Whether the same request may succeed later without anybody changing a grant, a secret or the request.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::ResolveFailed { .. }
                | Self::ConnectFailed { .. }
                | Self::TimedOut { .. }
                | Self::RateLimited { .. }
                | Self::Busy { .. }
                | Self::Protocol { .. }
        )
    }

    /// When to try again, in milliseconds, where that is known.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_ms, .. } => Some(*retry_after_ms),
            _ => None,
        }
    }

    /// What an admin can do about it, one line each: commands and manifest lines, safe to paste into a shell.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Denied { owner, remedy: Some(remedy), .. }
            | Self::AddressRefused { owner, remedy: Some(remedy), .. } => remedy.hints(owner),
            Self::AddressRefused { class: AddressClass::Metadata, .. } => {
                vec!["metadata addresses are refused whatever is granted".into()]
            }
            Self::OwnGateway { .. } => {
                vec![
                    "the gateway's own address is refused whatever is granted: use the plugin interfaces instead"
                        .into(),
                ]
            }
            Self::SecretNotDeclared(undeclared) => undeclared.hints(),
            Self::SecretMissing { owner, name, .. } => {
                vec![format!("leanclaw plugin secret set {} {}", shell_word(owner), shell_word(name))]
            }
            // What to do instead is part of the reason, and of nothing else a rule could say.
            Self::Denied { .. } | Self::AddressRefused { .. } | Self::ForbiddenHeader { .. } | Self::Cancelled => {
                Vec::new()
            }
            other => vec![other.remedy_in_words()],
        }
    }

    /// What to do about something that no grant and no secret would change.
    fn remedy_in_words(&self) -> String {
        match self {
            Self::TooLarge { what: "the body of the response", .. } => {
                "raise limits.httpResponseKib in the plugin's manifest, or ask for less at a time".into()
            }
            Self::TooLarge { what, .. } => format!("send less at a time: the limit on {what} is fixed"),
            Self::RateLimited { .. } => {
                "raise limits.httpRequestsPerMinute in the plugin's manifest, or ask less often".into()
            }
            Self::Busy { what, .. } => format!("wait until some of the {what} have ended before opening more"),
            Self::TimedOut { .. } => {
                "allow the request more time, within limits.callTimeoutMs of the plugin's manifest".into()
            }
            Self::ResolveFailed { host, .. } => {
                format!("check the name; this machine's own resolver is asked: getent hosts {}", shell_word(host))
            }
            Self::ConnectFailed { origin, .. } | Self::Protocol { origin, .. } => {
                format!("see what the server does by itself: curl -v {}", shell_word(origin))
            }
            Self::TlsFailed { .. } => {
                "the server's certificate has to be valid, for its name, and signed by a known authority".into()
            }
            _ => "send a request with an HTTP method, a whole http(s) address and well-formed headers".into(),
        }
    }

    /// The same error with `scrub` applied to the text that came from outside.
    pub(crate) fn map_detail(mut self, scrub: impl Fn(&str) -> String) -> Self {
        match &mut self {
            Self::ResolveFailed { detail, .. }
            | Self::ConnectFailed { detail, .. }
            | Self::TlsFailed { detail, .. }
            | Self::Protocol { detail, .. } => *detail = scrub(detail),
            _ => {}
        }
        self
    }
}

/// An error and what caused it, short, in one line and without control characters: parts of it may come from a server.
pub(crate) fn describe(problem: &dyn std::error::Error) -> String {
    let mut text = problem.to_string();
    let mut source = problem.source();
    while let Some(cause) = source {
        // Some errors repeat their cause in their own text.
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.chars().take(300).map(|character| if character.is_control() { ' ' } else { character }).collect()
}
