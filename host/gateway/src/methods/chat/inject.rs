//! `chat.inject`: words put into an agent's mouth, and what the gateway itself says in a conversation.

use std::sync::LazyLock;

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::session::{NewMessage, SessionRow};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::KEY_ALIASES;
use crate::connection::{Answer, Call};
use crate::error::failure_to_error;
use crate::gateway::State;
use crate::hub::Event;
use crate::methods::READ;
use crate::methods::sessions::{check_message, missing};
use crate::phrase::{Shape, no_nulls};
use crate::runs::chat_payload;
use crate::sessions::Key;
use crate::wire::{Payload, joined};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Inject {
    #[schemars(length(min = 1))]
    session_key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(length(min = 1))]
    message: String,
    #[schemars(length(max = 100))]
    label: Option<String>,
}

static INJECT: LazyLock<Shape> = LazyLock::new(Shape::of::<Inject>);

/// `chat.inject {sessionKey, message, label?}` → `{ok, messageId}`: the agent is taken to have said it.
pub(crate) fn inject(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked: Inject = call.read(&INJECT, &[KEY_ALIASES.as_slice(), &[("text", "message")]].concat())?;
    check_message(&asked.message, false)?;
    let key = Key::read(&asked.session_key, asked.agent_id.as_deref())?;
    let label = asked.label.as_deref().map(str::trim).filter(|label| !label.is_empty());
    let text = label.map_or_else(|| asked.message.clone(), |label| format!("[{label}]\n\n{}", asked.message));
    Ok(call.later(move |state, session| async move {
        let failed = |failure| failure_to_error(session.version, &failure);
        let at_ms = state.now_ms();
        let message = NewMessage { role: "assistant".to_owned(), body: body(&text), at_ms };
        let appended = state.services.sessions.append(&key.text, message).await.map_err(failed)?;
        let message = appended.ok_or_else(|| missing(&key))?.message;
        let row = state.services.sessions.get(&key.text).map_err(failed)?.ok_or_else(|| missing(&key))?;
        state.session_said(&row, &message);
        state.session_changed(&row.key, "inject", Some(&row));
        tell_final(&state, (&format!("inject-{}", message.id), 0), &row, &text);
        Ok(Payload::json(&json!({"ok": true, "messageId": message.id.to_string()})))
    }))
}

/// A message of an agent that no model wrote.
fn body(text: &str) -> Map<String, Value> {
    let usage = json!({
        "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 0,
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "total": 0},
    });
    let body = [
        ("content", json!([{"type": "text", "text": text}])),
        ("stopReason", json!("stop")),
        ("usage", usage),
        ("api", json!("openai-responses")),
        ("provider", json!("openclaw")),
        ("model", json!("gateway-injected")),
    ];
    body.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Tells everybody what the gateway said in place of an agent. `run` is the name of the run that it stands for, and the number
/// of its event.
pub(super) fn tell_final(state: &State, run: (&str, u64), row: &SessionRow, text: &str) {
    let message = json!({"role": "assistant", "timestamp": state.now_ms()});
    let message = joined(message, body(text));
    for version in [ProtocolVersion::V3, ProtocolVersion::V4] {
        let fields = vec![("message", message.clone())];
        let event = Event::new("chat", "").scope(READ);
        state.hub.broadcast_in(version, event, || {
            chat_payload(version, run, (&row.key, &row.agent), "final", fields).to_string()
        });
    }
}
