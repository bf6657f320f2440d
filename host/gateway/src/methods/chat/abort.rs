//! `chat.abort`: an end to what an agent does in a session.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::run::{AbortReason, ActiveRun};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::KEY_ALIASES;
use crate::connection::{Answer, Call};
use crate::methods::sessions::{may_stop, require_own, stop};
use crate::phrase::{Shape, no_nulls};
use crate::sessions::Key;
use crate::wire::Payload;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
#[expect(dead_code, reason = "no run has others at its side")]
struct Abort {
    #[schemars(length(min = 1))]
    session_key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(length(min = 1))]
    run_id: Option<String>,
    preserve_side_runs: Option<bool>,
}

static ABORT: LazyLock<Shape> = LazyLock::new(Shape::of::<Abort>);

/// `chat.abort {sessionKey, runId?}` → `{ok, aborted, runIds}`: ends the named run of the session, or all of them that the
/// caller may end, those that wait too.
pub(crate) fn abort(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked: Abort = call.read(&ABORT, &KEY_ALIASES)?;
    let key = Key::read(&asked.session_key, asked.agent_id.as_deref())?;
    Ok(ending(call, key, asked.run_id, AbortReason::Rpc))
}

/// Ends the named run of a session, or those that the caller may end. What this connection said before was taken on by then.
pub(super) fn ending(call: &Call<'_>, key: Key, run_id: Option<String>, why: AbortReason) -> Answer {
    call.later(move |state, session| async move {
        session.taking.is_over().await;
        let mut wanted = state.services.runs.active(&key.text);
        wanted.retain(|run| run_id.as_ref().is_none_or(|run_id| run.run_id == *run_id));
        // Where some are the caller's, those are meant.
        let own: Vec<ActiveRun> = wanted.iter().filter(|run| may_stop(&session, run)).cloned().collect();
        if own.is_empty() {
            require_own(&session, &wanted)?;
        }
        let ended = stop(&state, &own, why).await;
        Ok(Payload::json(&json!({"ok": true, "aborted": !ended.is_empty(), "runIds": ended})))
    })
}
