//! `sessions.send`: a message into a session. It is stored and told to who follows the session; no agent runs that would
//! answer it, and the answer says so.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::session::{NewMessage, SessionChange, SessionLookup, SessionRow};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{KEY_ALIASES, change, failed, fresh};
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::phrase::{Shape, no_nulls};
use crate::sessions::Key;
use crate::wire::Payload;

/// Bytes of one message.
const MAX_BYTES: usize = 1024 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
#[expect(dead_code, reason = "a client may say more than there is a use for here")]
struct Send {
    #[schemars(length(min = 1))]
    key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    message: String,
    thinking: Option<String>,
    attachments: Option<Vec<Value>>,
    timeout_ms: Option<u64>,
    #[schemars(length(min = 1))]
    idempotency_key: Option<String>,
}

static SEND: LazyLock<Shape> = LazyLock::new(Shape::of::<Send>);

/// `sessions.send {key, message, idempotencyKey?, …}` → `{ok, key, sessionId, messageId, messageSeq, runId, status, runStarted,
/// runError}`. The same idempotency key in a session stores it once, and stands for that message. Clients of the original name a
/// session by its id, as `sessionId`.
pub(crate) fn send(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let aliases: Vec<(&str, &str)> =
        KEY_ALIASES.iter().copied().chain([("sessionId", "key"), ("text", "message")]).collect();
    let send: Send = call.read(&SEND, &aliases)?;
    send.check()?;
    let key = Key::read(&send.key, send.agent_id.as_deref())?;
    Ok(call.later(move |state, session| async move {
        let key = meant(&state, &session, key, &send)?;
        let row = existing(&state, &session, &key).await?;
        if row.entry.get("sendPolicy").and_then(Value::as_str) == Some("deny") {
            let hint = "an admin lifts that: leanclaw call sessions.patch '{\"key\": \"…\", \"sendPolicy\": null}'";
            return Err(ErrorShape::invalid("send blocked by session policy").hint(hint));
        }
        let content = json!([{"type": "text", "text": send.message}]);
        let mut body = Map::from_iter([("content".to_owned(), content.clone())]);
        // Only a key that the client gave can come again; the store need not look for one made up here.
        body.extend(send.idempotency_key.iter().map(|given| ("idempotencyKey".to_owned(), json!(given))));
        let run = send.idempotency_key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let message = NewMessage { role: "user".to_owned(), body, at_ms: state.now_ms() };
        let appended = state.services.sessions.append(&row.key, message).await.map_err(failed(&session))?;
        let appended = appended.ok_or_else(|| missing(&key))?;
        if appended.repeated && appended.message.body.get("content") != Some(&content) {
            let used = "this idempotencyKey was used for another message of this session; use a new one";
            return Err(ErrorShape::invalid(used));
        }
        if !appended.repeated {
            // It is stored: who follows the session is told, with the row at hand where the newest cannot be read.
            let row = state.services.sessions.get(&row.key).ok().flatten().unwrap_or_else(|| row.clone());
            state.session_said(&row, &appended.message);
            state.session_changed(&row.key, "send", Some(&row));
        }
        let why = "the message is stored and shown to who follows the session; there is no agent yet that answers";
        Ok(Payload::json(&json!({
            "ok": true, "key": row.key, "sessionId": row.session_id, "messageId": appended.message.id.to_string(),
            "messageSeq": appended.message.seq, "runId": run, "status": "error", "runStarted": false,
            "runError": {"code": "UNAVAILABLE", "message": why},
        })))
    }))
}

impl Send {
    fn check(&self) -> Result<(), ErrorShape> {
        if self.attachments.as_ref().is_some_and(|list| !list.is_empty()) {
            return Err(ErrorShape::invalid("sessions.send cannot keep `attachments` here; leave them out"));
        }
        if self.message.trim().is_empty() {
            return Err(ErrorShape::invalid("message or attachment required"));
        }
        if self.message.contains('\0') {
            return Err(ErrorShape::invalid("message must not contain null bytes"));
        }
        if self.message.len() > MAX_BYTES {
            return Err(ErrorShape::invalid(format!("message takes more than {MAX_BYTES} bytes; send less at once")));
        }
        Ok(())
    }
}

/// The session that is meant: the one of the key, else the one that has what was given as its id.
fn meant(state: &State, session: &Session, key: Key, send: &Send) -> Result<Key, ErrorShape> {
    let sessions = &state.services.sessions;
    if uuid::Uuid::parse_str(&send.key).is_err() || sessions.get(&key.text).map_err(failed(session))?.is_some() {
        return Ok(key);
    }
    let found = sessions.find(&SessionLookup::Id(send.key.clone())).map_err(failed(session))?;
    found.first().map_or(Ok(key), |row| Key::read(&row.key, send.agent_id.as_deref()))
}

fn missing(key: &Key) -> ErrorShape {
    ErrorShape::invalid(format!("session not found: {}; sessions.create makes it", key.text))
}

/// The session; an agent's main one is made when it is missing.
async fn existing(state: &State, session: &Session, key: &Key) -> Result<SessionRow, ErrorShape> {
    let (own, now_ms) = (key.clone(), state.now_ms());
    let decide = move |row: Option<SessionRow>| match row {
        Some(row) => Ok((SessionChange::Nothing, row)),
        None if own.is_main() => {
            let row = fresh(&own, now_ms);
            Ok((SessionChange::Put(row.clone()), row))
        }
        None => Err(missing(&own)),
    };
    change(state, session, key, decide).await
}
