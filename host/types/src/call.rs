//! Who calls, stamped by the host.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Documented values of [`Caller::kind`].
pub mod kind {
    /// A gateway client (WebSocket or HTTP).
    pub const CLIENT: &str = "client";
    /// An agent run.
    pub const AGENT: &str = "agent";
    /// A person who wrote in a channel.
    pub const SENDER: &str = "sender";
    /// A scheduled job.
    pub const SCHEDULE: &str = "schedule";
    /// Another plugin.
    pub const PLUGIN: &str = "plugin";
    /// LeanClaw itself.
    pub const HOST: &str = "host";
}

/// Who is behind a call. The host fills this in; what a guest or a client claims about itself is never copied here. The
/// one thing a client chooses is the session it acts in: whoever holds `operator.write` may act in any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// One of [`kind`].
    pub kind: String,
    /// Stable within its kind: a connection's principal, an agent id, a plugin id.
    pub id: String,
    /// `operator`, `node`, `admin`, `user`, `viewer`, or empty.
    pub role: String,
    /// Operator scopes, such as `operator.read`.
    pub scopes: Vec<String>,
    /// The session the call belongs to, when there is one.
    pub session_key: Option<String>,
    /// Anything further, as JSON.
    pub extra: Option<Value>,
}

impl Caller {
    /// LeanClaw itself, for the part of the program called `id`.
    pub fn host(id: impl Into<String>) -> Self {
        Self {
            kind: kind::HOST.into(),
            id: id.into(),
            role: "admin".into(),
            scopes: vec!["operator.admin".into()],
            session_key: None,
            extra: None,
        }
    }

    /// A gateway client with these scopes.
    pub fn client(id: impl Into<String>, role: impl Into<String>, scopes: Vec<String>) -> Self {
        Self { kind: kind::CLIENT.into(), id: id.into(), role: role.into(), scopes, session_key: None, extra: None }
    }

    /// Who that is in an audit row: `kind:id`, such as `client:device:…`.
    #[must_use]
    pub fn actor(&self) -> String {
        format!("{}:{}", self.kind, self.id)
    }

    /// Whether the caller holds `scope`. `operator.admin` holds every scope, `operator.write` also holds
    /// `operator.read`.
    #[must_use]
    pub fn holds(&self, scope: &str) -> bool {
        self.scopes.iter().any(|held| {
            held == scope || held == "operator.admin" || (held == "operator.write" && scope == "operator.read")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(scope: &str) -> Caller {
        Caller::client("c", "operator", vec![scope.into()])
    }

    #[test]
    fn admin_holds_all_and_write_holds_read() {
        assert!(with("operator.admin").holds("operator.pairing"));
        assert!(with("operator.write").holds("operator.read"));
        assert!(!with("operator.read").holds("operator.write"));
        assert!(!with("operator.write").holds("operator.admin"));
    }
}
