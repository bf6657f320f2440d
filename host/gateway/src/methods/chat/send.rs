//! `chat.send`: a message for an agent.

use std::sync::{Arc, LazyLock};

use leanclaw_types::frame::{ErrorShape, ProtocolVersion, error_code};
use leanclaw_types::run::{AbortReason, RunEnd, RunOutcome, RunState};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::inject::tell_final;
use super::{Command, KEY_ALIASES, abort, command};
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::methods::ADMIN;
use crate::methods::pictures::pictures;
use crate::methods::sessions::{Taken, Turn, check_message, restart, thinking};
use crate::once;
use crate::phrase::{Shape, no_nulls};
use crate::runs::{FAILED, words_of};
use crate::sessions::{Begun, Key};
use crate::wire::{Payload, joined};

/// What is said of a conversation that begins anew.
const BEGUN: &str = "A new conversation has begun.";

/// The parameters of both versions. Runs of a session happen one after the other, whatever `queueMode` says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
#[expect(dead_code, reason = "a client may say more than there is a use for here")]
struct Send {
    #[schemars(length(min = 1, max = 512))]
    session_key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(length(min = 1))]
    session_id: Option<String>,
    message: String,
    intent: Option<Map<String, Value>>,
    thinking: Option<String>,
    #[schemars(extend("enum" = [true, false, "auto"]))]
    fast_mode: Option<Value>,
    #[schemars(range(min = 1))]
    fast_auto_on_seconds: Option<u64>,
    #[schemars(extend("enum" = ["steer", "followup", "collect", "interrupt"]))]
    queue_mode: Option<String>,
    deliver: Option<bool>,
    originating_channel: Option<String>,
    originating_to: Option<String>,
    originating_account_id: Option<String>,
    originating_thread_id: Option<String>,
    #[schemars(length(min = 1))]
    reply_to_id: Option<String>,
    attachments: Option<Vec<Value>>,
    tool_bindings: Option<Map<String, Value>>,
    timeout_ms: Option<u64>,
    system_input_provenance: Option<Map<String, Value>>,
    system_provenance_receipt: Option<String>,
    suppress_command_interpretation: Option<bool>,
    expected_leaf_entry_id: Option<Value>,
    #[schemars(length(min = 1))]
    expected_session_routing_contract: Option<String>,
    expected_permission_mode: Option<Value>,
    expected_tool_overrides: Option<Value>,
    #[schemars(length(min = 1))]
    idempotency_key: String,
}

static SEND: LazyLock<Shape> = LazyLock::new(Shape::of::<Send>);

/// `chat.send {sessionKey, message, idempotencyKey, …}` → `{runId, status}`: `started`, or for a key that was used before
/// `in_flight`, `ok` or `error`. What says that the agent shall stop answers as `chat.abort` does.
pub(crate) fn send(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let aliases = [KEY_ALIASES.as_slice(), &[("text", "message")]].concat();
    let send: Send = call.read(&SEND, &aliases)?;
    let key = Key::read(&send.session_key, send.agent_id.as_deref())?;
    let images = pictures(send.attachments.as_deref().unwrap_or_default())?;
    check_message(&send.message, !images.is_empty())?;
    if send.suppress_command_interpretation != Some(true) && images.is_empty() {
        match command(&send.message) {
            Some(Command::Stop) => return Ok(abort::ending(call, key, None, AbortReason::Stop)),
            Some(Command::Reset { reason, then }) => {
                return begin_anew(call, key, (reason, then), send.idempotency_key.clone());
            }
            None => {}
        }
    }
    let run_id = send.idempotency_key;
    let turn = Turn {
        images,
        thinking: thinking(send.thinking.as_deref())?,
        timeout_ms: send.timeout_ms.filter(|timeout_ms| *timeout_ms > 0),
        session_id: send.session_id,
        begun: Some(Begun::by(call.session)),
        ..Turn::plain(run_id.clone(), key, send.message)
    };
    let (state, session) = (Arc::clone(call.state), Arc::clone(call.session));
    Ok(Answer::to_its_end(async move {
        match turn.take(&state, &*session).await {
            Ok(taken) => answer(session.version, &run_id, &taken),
            Err(error) => Answer::error(error),
        }
    }))
}

fn answer(version: ProtocolVersion, run_id: &str, taken: &Taken) -> Answer {
    let sent = json!({"runId": run_id, "status": taken.status()});
    match &taken.before {
        None => {
            let seq = version.is_newest().then(|| ("messageSeq", json!(taken.message.seq)));
            Answer::json(&joined(sent, seq))
        }
        // Version 4 is told both that it failed and of what.
        Some(RunState::Ended(RunEnd { outcome: RunOutcome::Failed { failure }, .. })) if version.is_newest() => {
            let words = format!("{FAILED}{}", words_of(failure));
            let summary = Payload::json(&joined(sent, [("summary", json!(words))]));
            Answer::Both(summary, ErrorShape::new(error_code::UNAVAILABLE, words))
        }
        Some(_) => Answer::json(&sent),
    }
}

/// Begins a conversation anew, once per idempotency key, and says in it at once what came with the command.
fn begin_anew(call: &Call<'_>, key: Key, (reason, then): (&str, &str), run_id: String) -> Result<Answer, ErrorShape> {
    call.require(ADMIN)?;
    let own = once::Call::of(&call.session.caller, call.method, &key.text, &run_id);
    let what = once::What::of(&[reason, then]);
    let (state, session) = (Arc::clone(call.state), Arc::clone(call.session));
    let (reason, then) = (reason.to_owned(), then.to_owned());
    once::run(call.state, own, what, move || {
        Ok(async move {
            let outcome = begun(&state, &session, key, (&reason, then), run_id).await;
            once::Ended { is_final: outcome.is_ok(), outcome }
        })
    })
}

async fn begun(
    state: &State,
    session: &Session,
    key: Key,
    (reason, then): (&str, String),
    run_id: String,
) -> Result<Payload, ErrorShape> {
    let row = restart(state, session, &key, reason).await?;
    if then.is_empty() {
        tell_final(state, (&run_id, 1), &row, BEGUN);
    } else {
        Turn::plain(run_id.clone(), key, then).take(state, session).await?;
    }
    Ok(Payload::json(&json!({"runId": run_id, "status": "started"})))
}
