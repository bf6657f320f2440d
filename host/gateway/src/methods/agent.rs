//! `agent` and `agent.wait`: a message for an agent, and how that ended.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use leanclaw_types::Failure;
use leanclaw_types::frame::{ErrorShape, error_code};
use leanclaw_types::run::{AbortReason, RunEnd, RunOutcome, RunState};
use leanclaw_types::session::{SessionLookup, SessionRow};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::chat::{Command, command};
use super::pictures::pictures;
use super::sessions::{Taken, Turn, check_message, missing, restart, thinking};
use super::{ADMIN, WRITE};
use crate::connection::{Answer, Call, Outcome};
use crate::error::{failure_details, failure_to_error};
use crate::gateway::State;
use crate::handshake::Session;
use crate::once;
use crate::phrase::{Shape, no_nulls};
use crate::runs::{is_silent, words_of};
use crate::sessions::{Begun, Key};
use crate::snapshot::DEFAULT_AGENT;
use crate::wire::{Payload, joined};

/// How long `agent.wait` waits when nobody says how long, and at most.
const WAIT_MS: u64 = 30_000;
const MAX_WAIT_MS: u64 = 24 * 3_600_000;
/// What is said when nothing but a new beginning was asked for.
const BEGUN: &str = "A new conversation has begun.";

/// The parameters of both versions. What a run does is up to the program's configuration and its session, so of what else a
/// client may say about it here nothing comes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
#[expect(dead_code, reason = "a client may say more than there is a use for here")]
struct Agent {
    #[schemars(length(min = 1))]
    message: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    to: Option<String>,
    reply_to: Option<String>,
    session_id: Option<String>,
    session_key: Option<String>,
    #[schemars(length(min = 1))]
    expected_existing_session_id: Option<String>,
    thinking: Option<String>,
    deliver: Option<bool>,
    attachments: Option<Vec<Value>>,
    channel: Option<String>,
    reply_channel: Option<String>,
    account_id: Option<String>,
    reply_account_id: Option<String>,
    thread_id: Option<String>,
    group_id: Option<String>,
    group_channel: Option<String>,
    group_space: Option<String>,
    timeout: Option<u64>,
    best_effort_deliver: Option<bool>,
    lane: Option<String>,
    #[schemars(length(min = 1))]
    cwd: Option<String>,
    cleanup_bundle_mcp_on_run_end: Option<bool>,
    model_run: Option<bool>,
    #[schemars(extend("enum" = ["full", "minimal", "none"]))]
    prompt_mode: Option<String>,
    extra_system_prompt: Option<String>,
    #[schemars(extend("enum" = ["full", "lightweight"]))]
    bootstrap_context_mode: Option<String>,
    #[schemars(extend("enum" = ["default", "heartbeat", "cron"]))]
    bootstrap_context_run_kind: Option<String>,
    input_provenance: Option<Map<String, Value>>,
    #[schemars(extend("enum" = ["automatic", "message_tool_only"]))]
    source_reply_delivery_mode: Option<String>,
    disable_message_tool: Option<bool>,
    voice_wake_trigger: Option<String>,
    #[schemars(length(min = 1, max = 512))]
    label: Option<String>,
    #[schemars(length(min = 1))]
    idempotency_key: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Wait {
    #[schemars(length(min = 1))]
    run_id: String,
    timeout_ms: Option<u64>,
}

static AGENT: LazyLock<Shape> = LazyLock::new(Shape::of::<Agent>);
static WAIT: LazyLock<Shape> = LazyLock::new(Shape::of::<Wait>);

/// `agent {message, idempotencyKey, …}` → first `{runId, status: "accepted", acceptedAt}`, then under the same id `{runId,
/// status, summary, result: {payloads, meta}}`. A run that is over is answered once, with its end.
pub(crate) fn run(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let aliases = [("chatJid", "sessionKey"), ("key", "sessionKey"), ("text", "message")];
    let asked: Agent = call.read(&AGENT, &aliases)?;
    let images = pictures(asked.attachments.as_deref().unwrap_or_default())?;
    check_message(&asked.message, !images.is_empty())?;
    let begins = match command(&asked.message) {
        Some(Command::Reset { reason, then }) => Some((reason.to_owned(), then.to_owned())),
        _ => None,
    };
    call.require(if begins.is_some() { ADMIN } else { WRITE })?;
    let agent = asked.agent_id.as_deref().map(crate::sessions::agent_id).transpose()?;
    if let Some(id) = agent.as_deref().filter(|id| call.state.agents.get(id).is_none()) {
        return Err(ErrorShape::invalid(format!("invalid agent params: unknown agent id \"{id}\"")));
    }
    let key = asked.key(call, agent.as_deref())?;
    let turn = Turn {
        images,
        thinking: thinking(asked.thinking.as_deref())?,
        timeout_ms: asked.timeout.filter(|seconds| *seconds > 0).map(|seconds| seconds.saturating_mul(1000)),
        system: asked.extra_system_prompt.unwrap_or_default(),
        session_id: asked.expected_existing_session_id,
        begun: Some(Begun::by(call.session)),
        ..Turn::plain(asked.idempotency_key, key, asked.message)
    };
    let (state, session) = (Arc::clone(call.state), Arc::clone(call.session));
    Ok(Answer::to_its_end(async move {
        let answer = match begins {
            None => taken(state, session, turn).await,
            Some(begins) => begun(state, session, turn, begins).await,
        };
        answer.unwrap_or_else(Answer::error)
    }))
}

impl Agent {
    /// The session that is meant: that of the key, else the one with the id, else the agent's main one.
    fn key(&self, call: &Call<'_>, agent: Option<&str>) -> Result<Key, ErrorShape> {
        let given =
            |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        if let Some(key) = given(&self.session_key) {
            return Key::read(&key, agent);
        }
        let Some(id) = given(&self.session_id) else {
            return Key::read("main", Some(agent.unwrap_or(DEFAULT_AGENT)));
        };
        let found = call.state.services.sessions.find(&SessionLookup::Id(id.clone()));
        let found = found.map_err(|failure| failure_to_error(call.session.version, &failure))?;
        let found = found.iter().find(|row| agent.is_none_or(|agent| agent == row.agent));
        // An id that a client made up names one session from then on.
        found.map_or_else(|| Key::read(&format!("explicit:{id}"), agent), |row| Key::read(&row.key, None))
    }
}

async fn taken(state: Arc<State>, session: Arc<Session>, turn: Turn) -> Result<Answer, ErrorShape> {
    let run_id = turn.run_id.clone();
    let Taken { row, message, before } = turn.take(&state, &*session).await?;
    if let Some(RunState::Ended(end)) = before {
        return Ok(Answer::Now(ended(&run_id, &row, &end)));
    }
    let accepted = accepted(&session, &run_id, &row, message.at_ms);
    Ok(Answer::Twice(
        accepted,
        Box::pin(async move {
            let end = state.services.runs.wait(&run_id).await;
            ended(&run_id, &row, &end)
        }),
    ))
}

/// A new beginning, and what is said in it.
async fn begun(
    state: Arc<State>,
    session: Arc<Session>,
    turn: Turn,
    (reason, then): (String, String),
) -> Result<Answer, ErrorShape> {
    begin_once(&state, &session, &turn, (reason, &then)).await?;
    if !then.is_empty() {
        return taken(state, session, Turn { message: then, ..turn }).await;
    }
    let row =
        state.services.sessions.get(&turn.key.text).map_err(|failure| failure_to_error(session.version, &failure))?;
    let row = row.ok_or_else(|| missing(&turn.key))?;
    let now_ms = state.now_ms();
    let first = accepted(&session, &turn.run_id, &row, now_ms);
    let done = RunEnd {
        outcome: RunOutcome::Done,
        text: BEGUN.to_owned(),
        started_ms: Some(now_ms),
        ended_ms: now_ms,
        provider: None,
        model: None,
        usage: leanclaw_types::model::TokenUsage::default(),
    };
    Ok(Answer::Twice(first, Box::pin(async move { ended(&turn.run_id, &row, &done) })))
}

/// Begins a session anew, once for each name of a run.
async fn begin_once(
    state: &Arc<State>,
    session: &Arc<Session>,
    turn: &Turn,
    (reason, then): (String, &str),
) -> Result<(), ErrorShape> {
    let call = once::Call::of(&session.caller, "agent", &turn.key.text, &turn.run_id);
    let what = once::What::of(&[&reason, then]);
    let (own_state, own_session, key) = (Arc::clone(state), Arc::clone(session), turn.key.clone());
    let answer = once::run(state, call, what, move || {
        Ok(async move {
            let begun = restart(&own_state, &own_session, &key, &reason).await;
            let outcome = begun.map(|row| Payload::json(&json!({"key": row.key})));
            once::Ended { is_final: outcome.is_ok(), outcome }
        })
    })?;
    match answer {
        Answer::Later(outcome) => outcome.await.map(drop),
        Answer::Now(outcome) => outcome.map(drop),
        _ => Ok(()),
    }
}

fn accepted(session: &Session, run_id: &str, row: &SessionRow, at_ms: u64) -> Payload {
    let accepted = json!({"runId": run_id, "status": "accepted", "acceptedAt": at_ms});
    let newest = [("sessionKey", json!(row.key)), ("agentId", json!(row.agent))];
    Payload::json(&joined(accepted, newest.into_iter().filter(|_| session.version.is_newest())))
}

/// How a run ended, as whoever asked for it is told.
fn ended(run_id: &str, row: &SessionRow, end: &RunEnd) -> Outcome {
    let (status, summary, stop) = match &end.outcome {
        RunOutcome::Done => ("ok", "completed", "stop"),
        RunOutcome::Aborted { by: by @ AbortReason::Timeout } => ("timeout", "timed out", by.as_str()),
        RunOutcome::Aborted { by } => ("ok", "aborted", by.as_str()),
        RunOutcome::Failed { failure } => return Err(failed(failure)),
    };
    let payloads: Vec<Value> =
        (!is_silent(&end.text)).then(|| json!({"text": end.text, "mediaUrl": null})).into_iter().collect();
    let usage = &end.usage;
    let mut about = json!({"sessionId": row.session_id});
    let known = [("provider", &end.provider), ("model", &end.model)];
    about = joined(about, known.into_iter().filter_map(|(name, value)| Some((name, json!(value.as_ref()?)))));
    if end.model.is_some() {
        let total = usage.input + usage.output + usage.cache_read + usage.cache_write;
        let usage = json!({
            "input": usage.input, "output": usage.output, "cacheRead": usage.cache_read,
            "cacheWrite": usage.cache_write, "total": total,
        });
        about = joined(about, [("usage", usage)]);
    }
    let meta = json!({
        "durationMs": end.ended_ms.saturating_sub(end.started_ms.unwrap_or(end.ended_ms)), "agentMeta": about,
        "aborted": !matches!(end.outcome, RunOutcome::Done), "stopReason": stop,
    });
    let result = json!({"payloads": payloads, "meta": meta});
    Ok(Payload::json(&json!({"runId": run_id, "status": status, "summary": summary, "result": result})))
}

/// A run that failed is no fault of the request, whatever it failed of.
fn failed(failure: &Failure) -> ErrorShape {
    ErrorShape {
        code: error_code::UNAVAILABLE.into(),
        message: words_of(failure),
        details: Some(failure_details(failure)),
        retryable: failure.retryable.then_some(true),
        retry_after_ms: failure.retry_after_ms,
    }
}

/// `agent.wait {runId, timeoutMs?}` → `{runId, status, startedAt?, endedAt?, error?}`; a run that goes on, or that nobody knows,
/// is `timeout` once that long was waited for it.
pub(crate) fn wait(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked: Wait = call.read(&WAIT, &[])?;
    let limit = Duration::from_millis(asked.timeout_ms.unwrap_or(WAIT_MS).min(MAX_WAIT_MS));
    Ok(call.later(move |state, session| async move {
        let waiting = tokio::time::timeout(limit, state.services.runs.wait(&asked.run_id));
        let Ok(end) = waiting.await else {
            return Ok(Payload::json(&json!({"runId": asked.run_id, "status": "timeout"})));
        };
        let (status, stop, error) = match &end.outcome {
            RunOutcome::Done => ("ok", Some("stop"), None),
            RunOutcome::Aborted { by } => ("timeout", Some(by.as_str()), None),
            RunOutcome::Failed { failure } => ("error", None, Some(words_of(failure))),
        };
        let newest = session.version.is_newest();
        let shows = newest && status == "ok" && !is_silent(&end.text);
        let more = [
            end.started_ms.map(|at_ms| ("startedAt", json!(at_ms))),
            Some(("endedAt", json!(end.ended_ms))),
            error.map(|error| ("error", json!(error))),
            stop.filter(|_| newest).map(|stop| ("stopReason", json!(stop))),
            shows.then(|| ("terminalReply", json!({"disposition": "visible", "text": end.text}))),
        ];
        let answer = json!({"runId": asked.run_id, "status": status});
        Ok(Payload::json(&joined(answer, more.into_iter().flatten())))
    }))
}
