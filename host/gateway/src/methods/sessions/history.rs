//! `chat.history` and `sessions.get`: what was said.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::session::{SessionRow, Transcript, TranscriptMessage, TranscriptQuery};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{KEY_ALIASES, failed};
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::phrase::{Shape, no_nulls};
use crate::sessions::{Caps, Key, defaults, kept, listed, shown};
use crate::wire::{Payload, joined};

/// Messages when no limit is named, and at most.
const DEFAULT_MESSAGES: u64 = 200;
const MAX_MESSAGES: u64 = 1000;

/// Parameters of both versions. Inputs do not wait here, so none is ever pending.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
#[expect(dead_code, reason = "a client may say more than there is a use for here")]
struct History {
    #[schemars(length(min = 1))]
    session_key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    cursor: Option<String>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u64>,
    offset: Option<u64>,
    #[schemars(range(min = 1))]
    pending_before: Option<u64>,
    input_run_ids: Option<Vec<String>>,
    #[schemars(length(min = 1))]
    message_id: Option<String>,
    #[schemars(length(min = 1))]
    session_id: Option<String>,
    #[schemars(range(min = 1, max = 500_000))]
    max_chars: Option<usize>,
    #[schemars(range(min = 1))]
    max_bytes: Option<usize>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Get {
    #[schemars(length(min = 1))]
    key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(range(min = 1))]
    limit: Option<u64>,
}

static HISTORY: LazyLock<Shape> = LazyLock::new(Shape::of::<History>);
static GET: LazyLock<Shape> = LazyLock::new(Shape::of::<Get>);

/// `chat.history {sessionKey, limit?}` → `{sessionKey, sessionId?, messages, thinkingLevel, …}`; version 4 adds pages
/// and, with a cursor, only what is new since.
pub(crate) fn history(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    history_with(call, Vec::new())
}

/// The same, with more in the answer.
pub(crate) fn history_with(call: &Call<'_>, more: Vec<(&'static str, Value)>) -> Result<Answer, ErrorShape> {
    let history: History = call.read(&HISTORY, &[("chatJid", "sessionKey"), ("key", "sessionKey")])?;
    let key = Key::read(&history.session_key, history.agent_id.as_deref())?;
    Ok(call.later(|state, session| async move {
        Ok(Payload::json(&joined(said(&state, &session, &key, &history).await?, more)))
    }))
}

/// `sessions.get {key, limit?}` → `{messages}`, empty when there is no such session.
pub(crate) fn get(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let get: Get = call.read(&GET, KEY_ALIASES)?;
    let key = Key::read(&get.key, get.agent_id.as_deref())?;
    let limit = get.limit.unwrap_or(DEFAULT_MESSAGES).min(MAX_MESSAGES);
    Ok(call.later(move |state, session| async move {
        let query = TranscriptQuery { limit, ..TranscriptQuery::default() };
        let transcript = state.services.sessions.transcript(&key.text, query).await.map_err(failed(&session))?;
        let messages = capped(&transcript.messages, &session, &Caps::default());
        Ok(Payload::json(&json!({"messages": messages})))
    }))
}

fn capped(messages: &[TranscriptMessage], session: &Session, caps: &Caps) -> Vec<Value> {
    kept(messages.iter().map(|message| shown(message, session.version, caps)).collect(), caps.total_bytes)
}

async fn said(state: &State, session: &Session, key: &Key, history: &History) -> Result<Value, ErrorShape> {
    let sessions = &state.services.sessions;
    let row = sessions.get(&key.text).map_err(failed(session))?;
    if let Some(wanted) = &history.session_id
        && row.as_ref().is_some_and(|row| row.session_id != *wanted)
    {
        return Err(ErrorShape::invalid("the session was reset since; read its history without sessionId"));
    }
    let mut caps = Caps::default();
    caps.text_chars = history.max_chars.unwrap_or(caps.text_chars);
    caps.total_bytes = history.max_bytes.unwrap_or(caps.total_bytes).min(caps.total_bytes);
    let limit = history.limit.unwrap_or(DEFAULT_MESSAGES);
    if session.version.is_newest()
        && let Some(cursor) = &history.cursor
    {
        return since(state, session, key, row.as_ref(), (cursor, limit, caps)).await;
    }
    let query = TranscriptQuery {
        up_to_id: history.message_id.as_ref().map(|id| id.parse().unwrap_or(0)),
        offset: history.offset.unwrap_or(0),
        limit,
        ..TranscriptQuery::default()
    };
    let transcript = sessions.transcript(&key.text, query).await.map_err(failed(session))?;
    let messages = capped(&transcript.messages, session, &caps);
    let read = messages.len() as u64;
    let own = |name: &str| row.as_ref().and_then(|row| row.entry.get(name).cloned());
    let mut answer = json!({
        "sessionKey": history.session_key,
        "messages": messages,
        "thinkingLevel": own("thinkingLevel").unwrap_or_else(|| json!("off")),
    });
    let Some(object) = answer.as_object_mut() else { return Ok(answer) };
    object.extend(row.as_ref().map(|row| ("sessionId".to_owned(), json!(row.session_id))));
    for name in ["fastMode", "verboseLevel"] {
        object.extend(own(name).map(|value| (name.to_owned(), value)));
    }
    if session.version.is_newest() {
        let end = query.offset.saturating_add(read);
        let more = read > 0 && end < transcript.total;
        object.insert("pendingInputs".into(), json!({"items": [], "total": 0}));
        object.insert("totalMessages".into(), json!(transcript.total));
        object.insert("hasMore".into(), json!(more));
        object.extend(more.then(|| ("nextOffset".to_owned(), json!(end))));
        object.insert("deltaCursor".into(), json!(cursor_of(row.as_ref(), &transcript, transcript.last_seq)));
        object.insert("defaults".into(), defaults(session.version, state.default_model().as_ref()));
        object.insert("sessionInfo".into(), info(row.as_ref(), key, session));
    }
    Ok(answer)
}

fn info(row: Option<&SessionRow>, key: &Key, session: &Session) -> Value {
    row.map_or_else(|| json!({"key": key.text, "agentId": key.agent}), |row| listed(row, session.version))
}

/// Where a reader of this transcript is. Another transcript, such as the one after a reset, has other cursors.
fn cursor_of(row: Option<&SessionRow>, transcript: &Transcript, seq: u64) -> String {
    format!("{}.{}.{seq}", row.map_or("", |row| row.session_id.as_str()), transcript.starts_after_seq)
}

/// What came after a cursor; `{kind: "reset"}` when that was in another transcript, or too much came.
async fn since(
    state: &State,
    session: &Session,
    key: &Key,
    row: Option<&SessionRow>,
    (cursor, limit, caps): (&str, u64, Caps),
) -> Result<Value, ErrorShape> {
    let seq: u64 = cursor.rsplit('.').next().and_then(|seq| seq.parse().ok()).unwrap_or(0);
    let query = TranscriptQuery { after_seq: Some(seq), limit, oldest: true, ..TranscriptQuery::default() };
    let read = state.services.sessions.transcript(&key.text, query).await;
    let transcript = read.map_err(failed(session))?;
    let messages: Vec<Value> =
        transcript.messages.iter().map(|message| shown(message, session.version, &caps)).collect();
    let bytes: usize = messages.iter().map(|message| message.to_string().len()).sum();
    if cursor_of(row, &transcript, seq) != cursor || seq > transcript.last_seq || bytes > caps.total_bytes {
        return Ok(json!({"kind": "reset"}));
    }
    let reached = transcript.messages.last().map_or(seq, |message| message.seq);
    let delta = |(message, shown): (&TranscriptMessage, Value)| {
        json!({
            "sessionKey": key.text, "agentId": key.agent, "messageId": message.id.to_string(),
            "messageSeq": message.seq, "message": shown,
        })
    };
    let messages: Vec<Value> = transcript.messages.iter().zip(messages).map(delta).collect();
    Ok(json!({
        "kind": "delta",
        "messages": messages,
        "deltaCursor": cursor_of(row, &transcript, reached),
        "sessionInfo": info(row, key, session),
        "pendingInputs": {"items": [], "total": 0},
    }))
}
