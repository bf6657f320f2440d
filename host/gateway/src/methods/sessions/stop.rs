//! Ending runs before their time, and `sessions.abort`.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::run::{AbortReason, ActiveRun};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::KEY_ALIASES;
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::methods::ADMIN;
use crate::phrase::{Shape, no_nulls};
use crate::sessions::Key;
use crate::wire::Payload;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Abort {
    #[schemars(length(min = 1))]
    key: Option<String>,
    #[schemars(length(min = 1))]
    run_id: Option<String>,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    clear_queued: Option<bool>,
}

static ABORT: LazyLock<Shape> = LazyLock::new(Shape::of::<Abort>);

/// `sessions.abort {key?, runId?, clearQueued?}` → `{ok, abortedRunId, status}`: ends the named run, or the one whose turn it
/// is in the session; with `clearQueued` those that wait there too.
pub(crate) fn abort(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked: Abort = call.read(&ABORT, KEY_ALIASES)?;
    let key = asked.key.as_deref().map(|key| Key::read(key, asked.agent_id.as_deref())).transpose()?;
    if key.is_none() && asked.run_id.is_none() {
        return Err(ErrorShape::invalid("key or runId required"));
    }
    Ok(call.later(move |state, session| async move {
        session.taking.is_over().await;
        let runs = &state.services.runs;
        let is_there = |run: &ActiveRun| key.as_ref().is_none_or(|key| key.text == run.session_key);
        let mut wanted: Vec<ActiveRun> = match (&asked.run_id, &key) {
            (Some(run_id), _) => runs.find(run_id).filter(is_there).into_iter().collect(),
            (None, key) => key.as_ref().map_or_else(Vec::new, |key| runs.active(&key.text)),
        };
        if asked.clear_queued != Some(true) {
            wanted.truncate(1);
        }
        require_own(&session, &wanted)?;
        let ended = stop(&state, &wanted, AbortReason::Rpc).await;
        let status = if ended.is_empty() { "no-active-run" } else { "aborted" };
        Ok(Payload::json(&json!({"ok": true, "abortedRunId": ended.first(), "status": status})))
    }))
}

/// Whether a connection may end a run: it is that connection's, or that device's, or the caller is an admin.
pub(crate) fn may_stop(session: &Session, run: &ActiveRun) -> bool {
    let owner = &run.owner;
    let is_same_device = owner.device.is_some() && owner.device == session.device;
    owner.connection == session.id || is_same_device || session.caller.holds(ADMIN)
}

/// # Errors
/// One of them is somebody else's.
pub(crate) fn require_own(session: &Session, runs: &[ActiveRun]) -> Result<(), ErrorShape> {
    if runs.iter().all(|run| may_stop(session, run)) {
        return Ok(());
    }
    Err(ErrorShape::invalid("unauthorized")
        .hint("only who asked for a run may abort it, or a client with operator.admin"))
}

/// Ends runs, the last first, so that none of them has its turn meanwhile. Gives the names of those it ended, in their order.
pub(crate) async fn stop(state: &State, runs: &[ActiveRun], why: AbortReason) -> Vec<String> {
    let mut ended = Vec::new();
    for run in runs.iter().rev() {
        if state.services.runs.abort(&run.run_id, why).await {
            ended.push(run.run_id.clone());
        }
    }
    ended.reverse();
    // Whoever asked is told of the ends before it is answered: what waits for its connection goes out meanwhile.
    tokio::task::yield_now().await;
    ended
}

/// Ends every run of a session: its transcript is about to change under them.
pub(super) async fn stop_all(state: &State, key: &Key) {
    stop(state, &state.services.runs.active(&key.text), AbortReason::Rpc).await;
}
