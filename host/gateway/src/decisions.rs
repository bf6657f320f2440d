//! What became of questions ([`crate::approvals`]): kept for who looks later, the newest of them, over restarts.

use std::sync::{Arc, Weak};

use leanclaw_types::Failure;
use leanclaw_types::frame::ErrorShape;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::approvals::{End, Kind, Question};
use crate::gateway::State;
use crate::handshake::Session;
use crate::methods::ADMIN;
use crate::services::Records;
use crate::shelf::{Change, Shelf};

/// Decisions that are kept; beyond that the oldest that nobody decided makes room, then the oldest.
pub(crate) const MAX_KEPT: usize = 500;
/// What somebody may decide.
pub(crate) const DECISIONS: [&str; 3] = ["allow-once", "allow-always", "deny"];
/// Characters of one text of a question that are kept.
const MAX_CHARS: usize = 4000;

/// A question that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Decision {
    pub(crate) id: String,
    created_at_ms: u64,
    expires_at_ms: u64,
    presentation: Value,
    pub(crate) resolved_at_ms: u64,
    /// `allowed`, `denied` or `expired`.
    status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<Value>,
    resolver: Value,
    /// The device that asked; nobody is shown it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asker: Option<String>,
}

impl Decision {
    fn of(question: &Question, end: &End, now_ms: u64) -> Self {
        let (status, decision, reason) = match end {
            End::Decided(decision, _) if decision == "deny" => ("denied", Some("deny"), "user"),
            End::Decided(decision, _) => ("allowed", Some(decision.as_str()), "user"),
            End::NoRoute => ("denied", Some("deny"), "no-route"),
            End::TimedOut => ("expired", None, "timeout"),
        };
        let resolver = match end {
            End::Decided(_, by) => match &by.device {
                Some(device) => json!({"kind": "device", "id": device}),
                None => json!({"kind": "runtime", "id": by.actor}),
            },
            End::NoRoute | End::TimedOut => json!({"kind": "system"}),
        };
        Self {
            id: question.id.clone(),
            created_at_ms: question.created_at_ms,
            expires_at_ms: question.expires_at_ms,
            presentation: presentation(question),
            resolved_at_ms: now_ms,
            status: status.to_owned(),
            decision: decision.map(str::to_owned),
            reason: reason.to_owned(),
            source: source(question),
            resolver,
            asker: question.device().map(str::to_owned),
        }
    }

    /// Whether a person decided. What was never answered costs only asking, so it makes room first: who asks must not be
    /// able to push out what people said.
    fn is_answered(&self) -> bool {
        self.reason == "user"
    }

    /// Whether it was about that kind of thing: `exec`, `plugin`.
    pub(crate) fn is_about(&self, kind: &str) -> bool {
        self.presentation.get("kind").and_then(Value::as_str) == Some(kind)
    }

    /// Whether a connection may know of it: an admin's, or one of the device that asked.
    pub(crate) fn is_visible_to(&self, session: &Session) -> bool {
        session.caller.holds(ADMIN) || self.asker.is_some() && self.asker == session.device
    }

    /// As clients see it.
    pub(crate) fn shown(&self) -> Value {
        let mut shown = serde_json::to_value(self).unwrap_or_default();
        if let Some(shown) = shown.as_object_mut() {
            shown.shift_remove("asker");
            shown.insert("urlPath".into(), json!(url_path(&self.id)));
        }
        shown
    }
}

/// A question as clients see it in one shape with those that have ended.
pub(crate) fn shown(question: &Question, now_ms: u64) -> Value {
    if let Some(end) = question.ended() {
        return Decision::of(question, &end, now_ms).shown();
    }
    let mut shown = json!({
        "id": question.id, "urlPath": url_path(&question.id), "createdAtMs": question.created_at_ms,
        "expiresAtMs": question.expires_at_ms, "presentation": presentation(question), "status": "pending",
    });
    let key = question.request.get("sessionKey").and_then(Value::as_str).filter(|key| !key.is_empty());
    if let (Some(key), Some(shown)) = (key, shown.as_object_mut()) {
        shown.insert("sourceSessionKey".into(), json!(key));
    }
    shown
}

/// Where a page that shows the question would be: the id as one segment of a path.
fn url_path(id: &str) -> String {
    let mut path = String::from("/approve/");
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

fn text(request: &Value, field: &str, most: usize) -> Option<String> {
    let text = request.get(field)?.as_str().filter(|text| !text.is_empty())?;
    Some(text.chars().take(most).collect())
}

fn source(question: &Question) -> Option<Value> {
    let mut source = Map::new();
    for field in ["agentId", "sessionKey"] {
        source.extend(text(&question.request, field, MAX_CHARS).map(|text| (field.to_owned(), json!(text))));
    }
    (!source.is_empty()).then_some(Value::Object(source))
}

/// What people are shown of a question.
fn presentation(question: &Question) -> Value {
    let request = &question.request;
    let mut shown = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        shown.extend(value.map(|value| (name.to_owned(), json!(value))));
    };
    put("kind", Some(question.kind.name().to_owned()));
    let also: &[&str] = match question.kind {
        Kind::Exec => {
            put("commandText", text(request, "command", MAX_CHARS));
            &["warningText", "host", "nodeId", "agentId"]
        }
        Kind::Plugin => {
            put("title", text(request, "title", 80));
            put("description", text(request, "description", 512));
            let severity = text(request, "severity", 8);
            let known = severity.filter(|severity| matches!(severity.as_str(), "info" | "warning" | "critical"));
            put("severity", Some(known.unwrap_or_else(|| "info".to_owned())));
            &["detail", "pluginId", "toolName", "agentId"]
        }
    };
    for field in also {
        put(field, text(request, field, MAX_CHARS));
    }
    if let Some(scope) = request.get("scope") {
        shown.insert("scope".into(), scope.clone());
    }
    shown.insert("allowedDecisions".into(), json!(question.allowed()));
    Value::Object(shown)
}

/// All that is kept.
pub(crate) struct Decisions {
    kept: Shelf<Decision>,
}

impl Decisions {
    /// Reads what is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(records: &Arc<dyn Records>) -> Result<Self, Failure> {
        Ok(Self { kept: Shelf::open(records, "approval")? })
    }

    /// Every decision with the place it has in the order, the newest first.
    pub(crate) fn newest(&self) -> Vec<(String, Arc<Decision>)> {
        let mut all = self.kept.all();
        all.reverse();
        all
    }

    async fn keep(&self, decision: Decision) -> Result<(), ErrorShape> {
        let keep = self.kept.change(|shelf| {
            let known = shelf.all();
            let last = known.last().and_then(|(place, _)| place.parse::<u64>().ok()).unwrap_or(0);
            // Places have one length, so that their order is that of the decisions.
            let mut change = Change::nothing().put(format!("{:020}", last + 1), decision);
            let (answered, others): (Vec<_>, Vec<_>) = known.iter().partition(|(_, decision)| decision.is_answered());
            for (place, _) in others.into_iter().chain(answered).take((known.len() + 1).saturating_sub(MAX_KEPT)) {
                change = change.remove(place.clone());
            }
            Ok((change, ()))
        });
        keep.await
    }
}

/// Waits for the end of a question, whoever else still does, and writes it down.
pub(crate) fn watch(state: &Arc<State>, question: &Arc<Question>) {
    let (state, question): (Weak<State>, _) = (Arc::downgrade(state), Arc::clone(question));
    tokio::spawn(async move {
        let end = question.outcome(question.created_at_ms).await;
        if let Some(state) = state.upgrade() {
            let decision = Decision::of(&question, &end, state.now_ms());
            if let Err(error) = state.approvals.decisions.keep(decision).await {
                tracing::warn!(id = question.id, error = error.message, "what became of an approval was not stored");
            }
        }
        question.settle();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_of_an_address() {
        assert_eq!(url_path("plugin:a/b ä"), "/approve/plugin%3Aa%2Fb%20%C3%A4");
    }
}
