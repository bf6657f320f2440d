//! `sessions.send`: a message into a session that is there, for its agent to answer.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::run::{RunEnd, RunOutcome, RunState};
use leanclaw_types::session::SessionLookup;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::turn::{Turn, check_message, thinking};
use super::{KEY_ALIASES, failed};
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::methods::pictures::pictures;
use crate::phrase::{Shape, no_nulls};
use crate::runs::words_of;
use crate::sessions::{Begun, Key};
use crate::wire::{Payload, joined};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
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
/// runError?}`. The same idempotency key stores it once, and stands for that message. Clients of the original name a session by
/// its id, as `sessionId`.
pub(crate) fn send(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let aliases: Vec<(&str, &str)> =
        KEY_ALIASES.iter().copied().chain([("sessionId", "key"), ("text", "message")]).collect();
    let send: Send = call.read(&SEND, &aliases)?;
    let images = pictures(send.attachments.as_deref().unwrap_or_default())?;
    check_message(&send.message, !images.is_empty())?;
    let (key, thinking) = (Key::read(&send.key, send.agent_id.as_deref())?, thinking(send.thinking.as_deref())?);
    Ok(call.later(move |state, session| async move {
        let key = meant(&state, &session, key, &send)?;
        let run_id = send.idempotency_key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let turn = Turn {
            images,
            thinking,
            timeout_ms: send.timeout_ms.filter(|timeout_ms| *timeout_ms > 0),
            makes: false,
            begun: Some(Begun::by(&session)),
            ..Turn::plain(run_id.clone(), key, send.message)
        };
        let taken = turn.take(&state, &*session).await?;
        let sent = json!({
            "ok": true, "key": taken.row.key, "sessionId": taken.row.session_id,
            "messageId": taken.message.id.to_string(), "messageSeq": taken.message.seq, "runId": run_id,
            "status": taken.status(), "runStarted": true,
        });
        let error = match &taken.before {
            Some(RunState::Ended(RunEnd { outcome: RunOutcome::Failed { failure }, .. })) => {
                Some(("runError", json!({"code": "UNAVAILABLE", "message": words_of(failure)})))
            }
            _ => None,
        };
        Ok(Payload::json(&joined(sent, error)))
    }))
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
