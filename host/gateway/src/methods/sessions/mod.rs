//! `sessions.*`, `usage.*` and `chat.history`: what sessions there are, what was said in them, and changing them.

mod compact;
mod create;
mod days;
mod groups;
mod history;
mod list;
mod lookup;
mod page;
mod patch;
mod remove;
mod send;
mod stop;
mod subscribe;
mod sums;
mod totals;
mod turn;
mod usage;

use leanclaw_types::Failure;
use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::session::{SessionChange, SessionOutcome, SessionRow};
use serde_json::{Map, json};

use crate::error::{failure_to_error, unavailable};
use crate::gateway::State;
use crate::handshake::Session;
use crate::sessions::Key;

pub(crate) use compact::compact;
pub(crate) use create::create;
pub(crate) use groups::{delete_group, group_defaults, list_groups, put_groups, rename_group, update_group};
pub(crate) use history::{get, history, history_with};
pub(crate) use list::list;
pub(crate) use lookup::{describe, preview, resolve};
pub(crate) use page::{branches, viewers};
pub(crate) use patch::{patch, patch_many};
pub(crate) use remove::{delete, reset, restart};
pub(crate) use send::send;
pub(crate) use stop::{abort, may_stop, require_own, stop};
pub(crate) use subscribe::{follow, subscribe, unfollow, unsubscribe};
pub(crate) use totals::{cost, logs, status, timeseries};
pub(crate) use turn::{Asker, Taken, Turn, check_message, missing, thinking};
pub(crate) use usage::usage;

/// Further names that a session's key goes by.
pub(super) const KEY_ALIASES: &[(&str, &str)] = &[("sessionKey", "key"), ("chatJid", "key")];

fn failed(session: &Session) -> impl Fn(Failure) -> ErrorShape {
    failed_in(session.version)
}

fn failed_in(version: ProtocolVersion) -> impl Fn(Failure) -> ErrorShape {
    move |failure| failure_to_error(version, &failure)
}

/// Decides on a session in the store, with no other change in between.
async fn change<R: Send + 'static>(
    state: &State,
    session: &Session,
    key: &Key,
    decide: impl FnOnce(Option<SessionRow>) -> Result<(SessionChange, R), ErrorShape> + Send + 'static,
) -> Result<R, ErrorShape> {
    change_in(session.version, state, key, decide).await
}

/// The same, with errors in the words of that version.
async fn change_in<R: Send + 'static>(
    version: ProtocolVersion,
    state: &State,
    key: &Key,
    decide: impl FnOnce(Option<SessionRow>) -> Result<(SessionChange, R), ErrorShape> + Send + 'static,
) -> Result<R, ErrorShape> {
    let (sender, mut decided) = tokio::sync::oneshot::channel();
    let decide = Box::new(move |row| {
        let (change, result) = match decide(row) {
            Ok((change, result)) => (change, Ok(result)),
            Err(error) => (SessionChange::Nothing, Err(error)),
        };
        // Whoever asked may be gone; the change is made all the same.
        let _ = sender.send(result);
        change
    });
    match state.services.sessions.change(key.text.clone(), decide).await.map_err(failed_in(version))? {
        SessionOutcome::Done => {}
        SessionOutcome::Removed { session } => state.rows.forget(session),
        SessionOutcome::LabelTaken => return Err(ErrorShape::invalid("label already in use")),
    }
    decided.try_recv().unwrap_or_else(|_| Err(unavailable("the change was lost")))
}

/// A session that nothing was said in yet.
fn fresh(key: &Key, now_ms: u64) -> SessionRow {
    let mut row = SessionRow {
        key: key.text.clone(),
        session_id: uuid::Uuid::new_v4().to_string(),
        agent: key.agent.clone(),
        kind: key.kind(),
        label: None,
        archived: false,
        created_ms: now_ms,
        updated_ms: now_ms,
        entry: Map::new(),
    };
    row.entry.insert("createdVia".into(), json!("operator"));
    begin(&mut row, now_ms);
    row
}

/// What an entry says when its transcript begins.
fn begin(row: &mut SessionRow, now_ms: u64) {
    let facts = json!({
        "lifecycleRevision": uuid::Uuid::new_v4().to_string(), "sessionStartedAt": now_ms, "systemSent": false,
        "abortedLastRun": false, "compactionCount": 0, "inputTokens": 0, "outputTokens": 0, "totalTokens": 0,
        "totalTokensFresh": true,
    });
    if let serde_json::Value::Object(facts) = facts {
        row.entry.extend(facts);
    }
}

/// What a client believes of the session it changes; version 4 only.
#[derive(Debug, Default)]
struct Expected {
    session_id: Option<String>,
    lifecycle_revision: Option<String>,
    updated_ms: Option<f64>,
}

impl Expected {
    fn check(&self, row: Option<&SessionRow>) -> Result<(), ErrorShape> {
        let revision = row.and_then(|row| row.entry.get("lifecycleRevision")?.as_str());
        let updated_ms = row.map(|row| row.updated_ms);
        let fits = self.session_id.as_deref().is_none_or(|id| row.is_some_and(|row| row.session_id == id))
            && self.lifecycle_revision.as_deref().is_none_or(|own| revision == Some(own))
            && self.updated_ms.is_none_or(|own| updated_ms.is_some_and(|at_ms| at_ms as f64 == own));
        if fits {
            Ok(())
        } else {
            Err(ErrorShape::invalid("the session changed since it was read; read it again and retry"))
        }
    }
}

/// A time that is later than `before_ms`, so that what changed last comes first in lists.
fn touch(row: &mut SessionRow, now_ms: u64) {
    row.updated_ms = now_ms.max(row.updated_ms);
}

/// The first `max` characters.
fn shortened(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}
