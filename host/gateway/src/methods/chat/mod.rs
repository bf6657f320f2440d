//! `chat.*`: talking to an agent, and what a page needs to show a conversation. What was said is `chat.history`'s business.

mod abort;
mod commands;
mod inject;
mod send;

use std::sync::LazyLock;

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::session::TranscriptQuery;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{models, sessions};
use crate::connection::{Answer, Call};
use crate::error::failure_to_error;
use crate::gateway::State;
use crate::phrase::{Shape, no_nulls};
use crate::sessions::{Caps, Key, shown};
use crate::wire::Payload;

pub(crate) use abort::abort;
pub(crate) use commands::{Command, command};
pub(crate) use inject::inject;
pub(crate) use send::send;

/// Further names that a session's key goes by.
const KEY_ALIASES: [(&str, &str); 2] = [("chatJid", "sessionKey"), ("key", "sessionKey")];

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Metadata {
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(length(min = 1))]
    session_key: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Message {
    #[schemars(length(min = 1))]
    session_key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(length(min = 1))]
    message_id: String,
    #[schemars(range(min = 1, max = 2_000_000))]
    max_chars: Option<usize>,
}

static METADATA: LazyLock<Shape> = LazyLock::new(Shape::of::<Metadata>);
static MESSAGE: LazyLock<Shape> = LazyLock::new(Shape::of::<Message>);

/// `chat.metadata {sessionKey?, agentId?}` → `{models, commands, swarmEnabled, accountSelection, runtimeSelectionLocked}`.
pub(crate) fn metadata(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let metadata: Metadata = call.read(&METADATA, &[("key", "sessionKey")])?;
    metadata.session_key.map(|key| Key::read(&key, metadata.agent_id.as_deref())).transpose()?;
    Ok(Answer::json(&about(call.state, call.session.version)))
}

/// `chat.startup {sessionKey, limit?, …}` → what `chat.history` tells, and `metadata` as `chat.metadata` tells it.
pub(crate) fn startup(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    sessions::history_with(call, vec![("metadata", about(call.state, call.session.version))])
}

/// What the caller may choose from. The commands there are (`/stop`, `/new`, `/reset`) have methods of their own, and anything
/// else that begins with `/` is the agent's to understand.
fn about(state: &State, version: ProtocolVersion) -> Value {
    json!({
        "models": models::rows(state, version),
        "commands": [],
        "swarmEnabled": false,
        "accountSelection": {"kind": "automatic", "label": "Automatic"},
        "runtimeSelectionLocked": false,
    })
}

/// `chat.message.get {sessionKey, messageId, maxChars?}` → `{ok, message?, unavailableReason?}`: one message that a history cut
/// short.
pub(crate) fn message(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked: Message = call.read(&MESSAGE, &KEY_ALIASES)?;
    let key = Key::read(&asked.session_key, asked.agent_id.as_deref())?;
    Ok(call.later(move |state, session| async move {
        let id = asked.message_id.parse().ok();
        let query = TranscriptQuery { up_to_id: Some(id.unwrap_or(0)), limit: 1, ..TranscriptQuery::default() };
        let transcript = state.services.sessions.transcript(&key.text, query).await;
        let transcript = transcript.map_err(|failure| failure_to_error(session.version, &failure))?;
        let found = transcript.messages.first().filter(|message| Some(message.id) == id);
        let most = asked.max_chars.unwrap_or(MAX_MESSAGE_CHARS);
        let caps = Caps { text_chars: most, message_bytes: MAX_MESSAGE_BYTES, total_bytes: MAX_MESSAGE_BYTES };
        Ok(Payload::json(&match found {
            Some(message) => json!({"ok": true, "message": shown(message, session.version, &caps)}),
            None => json!({"ok": false, "unavailableReason": "not_found"}),
        }))
    }))
}

/// Characters of a text and bytes of a message that is asked for on its own.
const MAX_MESSAGE_CHARS: usize = 500_000;
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
