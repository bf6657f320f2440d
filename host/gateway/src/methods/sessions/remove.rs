//! `sessions.reset` and `sessions.delete`.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::session::{SessionChange, SessionRow};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::stop::stop_all;
use super::{Expected, KEY_ALIASES, begin, change, failed, fresh, touch};
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::methods::{ADMIN, WRITE};
use crate::phrase::{Shape, no_nulls};
use crate::sessions::{Key, entry, resolved};
use crate::wire::Payload;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Reset {
    #[schemars(length(min = 1))]
    key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(extend("enum" = ["new", "reset"]))]
    reason: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
#[expect(dead_code, reason = "a client may say more than there is a use for here")]
struct Delete {
    #[schemars(length(min = 1))]
    key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    delete_transcript: Option<bool>,
    #[schemars(length(min = 1))]
    expected_session_id: Option<String>,
    #[schemars(length(min = 1))]
    expected_lifecycle_revision: Option<String>,
    #[schemars(range(min = 0))]
    expected_session_updated_at: Option<f64>,
    emit_lifecycle_hooks: Option<bool>,
    archived_only: Option<bool>,
}

static RESET: LazyLock<Shape> = LazyLock::new(Shape::of::<Reset>);
static DELETE: LazyLock<Shape> = LazyLock::new(Shape::of::<Delete>);

/// `sessions.reset {key, reason?}` → `{ok, key, entry}`, and `resolved` in version 4. The transcript begins anew; what
/// the session was set to stays. Version 3 gives it another session id, version 4 another lifecycle revision.
pub(crate) fn reset(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let reset: Reset = call.read(&RESET, KEY_ALIASES)?;
    let key = Key::read(&reset.key, reset.agent_id.as_deref())?;
    let reason = reset.reason.unwrap_or_else(|| "reset".to_owned());
    Ok(call.later(move |state, session| async move {
        let row = restart(&state, &session, &key, &reason).await?;
        let mut answer = json!({"ok": true, "key": row.key, "entry": entry(&row, session.version)});
        if let Some(answer) = answer.as_object_mut().filter(|_| session.version.is_newest()) {
            answer.insert("resolved".into(), resolved(&row));
        }
        Ok(Payload::json(&answer))
    }))
}

/// Has a session's transcript begin anew. What goes on in it ends first.
///
/// # Errors
/// It cannot be stored.
pub(crate) async fn restart(
    state: &State,
    session: &Session,
    key: &Key,
    reason: &str,
) -> Result<SessionRow, ErrorShape> {
    stop_all(state, key).await;
    let (now_ms, newest, own) = (state.now_ms(), session.version.is_newest(), key.clone());
    let decide = move |row: Option<SessionRow>| {
        let mut row = row.unwrap_or_else(|| fresh(&own, now_ms));
        begin(&mut row, now_ms);
        if !newest {
            row.session_id = uuid::Uuid::new_v4().to_string();
        }
        touch(&mut row, now_ms);
        Ok((SessionChange::Restart(row.clone()), row))
    };
    let row = change(state, session, key, decide).await?;
    // What was taken on in between answers what is out of sight now.
    stop_all(state, key).await;
    state.session_changed(&row.key, reason, Some(&row));
    Ok(row)
}

/// `sessions.delete {key, deleteTranscript?}` → `{ok, key, deleted, archived}`. An agent's main session stays. What goes on in a
/// session that goes ends first.
pub(crate) fn delete(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let delete: Delete = call.read(&DELETE, KEY_ALIASES)?;
    let archived_only = delete.archived_only == Some(true);
    let scope = if call.session.version.is_newest() && archived_only { WRITE } else { ADMIN };
    call.require(scope)?;
    let key = Key::read(&delete.key, delete.agent_id.as_deref())?;
    if key.is_main() {
        return Err(ErrorShape::invalid(format!("Cannot delete the main session ({}).", key.text)));
    }
    let expected = Expected {
        session_id: delete.expected_session_id,
        lifecycle_revision: delete.expected_lifecycle_revision,
        updated_ms: delete.expected_session_updated_at,
    };
    let transcript = delete.delete_transcript != Some(false);
    Ok(call.later(move |state, session| async move {
        let may_go = move |row: &SessionRow| {
            expected.check(Some(row))?;
            if archived_only && !row.archived {
                let message = "the session is not archived; leave out archivedOnly to delete it anyway";
                return Err(ErrorShape::invalid(message));
            }
            Ok(())
        };
        // Nothing ends for a session that stays.
        if let Some(row) = state.services.sessions.get(&key.text).map_err(failed(&session))? {
            may_go(&row)?;
        }
        stop_all(&state, &key).await;
        let decide = move |row: Option<SessionRow>| {
            let Some(row) = row else { return Ok((SessionChange::Nothing, false)) };
            may_go(&row)?;
            Ok((SessionChange::Remove { transcript }, true))
        };
        let deleted = change(&state, &session, &key, decide).await?;
        if deleted {
            state.session_changed(&key.text, "delete", None);
        }
        let archived: [Value; 0] = [];
        Ok(Payload::json(&json!({"ok": true, "key": key.text, "deleted": deleted, "archived": archived})))
    }))
}
