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
    match asked.run_id {
        None => all(call, &key, AbortReason::Rpc),
        Some(run_id) => {
            let runs = call.state.services.runs.active(&key.text);
            let wanted: Vec<ActiveRun> = runs.into_iter().filter(|run| run.run_id == run_id).collect();
            require_own(call.session, &wanted)?;
            Ok(ending(call, wanted, AbortReason::Rpc))
        }
    }
}

/// Ends the runs of a session that the caller may end.
///
/// # Errors
/// There are runs, and none of them is the caller's.
pub(super) fn all(call: &Call<'_>, key: &Key, why: AbortReason) -> Result<Answer, ErrorShape> {
    let runs = call.state.services.runs.active(&key.text);
    let own: Vec<ActiveRun> = runs.iter().filter(|run| may_stop(call.session, run)).cloned().collect();
    if own.is_empty() {
        require_own(call.session, &runs)?;
    }
    Ok(ending(call, own, why))
}

fn ending(call: &Call<'_>, runs: Vec<ActiveRun>, why: AbortReason) -> Answer {
    call.later(move |state, _| async move {
        let ended = stop(&state, &runs, why).await;
        Ok(Payload::json(&json!({"ok": true, "aborted": !ended.is_empty(), "runIds": ended})))
    })
}
