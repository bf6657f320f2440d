//! `sessions.viewers.set` and `sessions.branches.list`: what a page that shows a session tells and asks.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::session::TranscriptQuery;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{failed, shortened};
use crate::clock_text;
use crate::connection::{Answer, Call};
use crate::phrase::Shape;
use crate::sessions::{Key, text_of};
use crate::wire::Payload;

/// Sessions that one page shows at once.
const MAX_VIEWED: usize = 50;
/// Bytes of their keys, which everyone who sees the presence is sent.
const MAX_VIEWED_BYTES: usize = 4096;
/// Characters of a branch's headline.
const HEADLINE_CHARS: usize = 120;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Viewed {
    session_keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Branches {
    session_key: String,
    agent_id: Option<String>,
}

static VIEWED: LazyLock<Shape> = LazyLock::new(|| Shape::of_properties(&[("sessionKeys", "strings", true)]));
static BRANCHES: LazyLock<Shape> =
    LazyLock::new(|| Shape::of_properties(&[("sessionKey", "string", true), ("agentId", "string", false)]));

/// `sessions.viewers.set {sessionKeys}` → `{sessionKeys}`: which sessions this connection shows, for others to see in its
/// presence.
pub(crate) fn viewers(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let viewed: Viewed = call.read(&VIEWED, &[])?;
    let mut keys = Vec::new();
    let mut bytes = 0;
    for given in viewed.session_keys.iter().take(MAX_VIEWED) {
        let key = Key::read(given, None)?.text;
        if !keys.contains(&key) {
            bytes += key.len();
            if bytes > MAX_VIEWED_BYTES {
                break;
            }
            keys.push(key);
        }
    }
    call.state.presence.watches(call.session, &keys, call.state.now_ms());
    Ok(Answer::json(&json!({"sessionKeys": keys})))
}

/// `sessions.branches.list {sessionKey, agentId?}` → `{branches}`: a transcript has one branch, and none before anything
/// was said.
pub(crate) fn branches(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked: Branches = call.read(&BRANCHES, &[("key", "sessionKey")])?;
    let key = Key::read(&asked.session_key, asked.agent_id.as_deref())?;
    Ok(call.later(|state, session| async move {
        let query = TranscriptQuery { limit: 1, ..TranscriptQuery::default() };
        let newest = state.services.sessions.transcript(&key.text, query).await.map_err(failed(&session))?;
        let branch = newest.messages.first().map(|message| {
            json!({
                "leafEntryId": message.id.to_string(),
                "headline": shortened(text_of(message).trim(), HEADLINE_CHARS),
                "messageCount": newest.total,
                "updatedAt": clock_text::iso(message.at_ms),
                "active": true,
            })
        });
        let branches: Vec<Value> = branch.into_iter().collect();
        Ok(Payload::json(&json!({"branches": branches})))
    }))
}
