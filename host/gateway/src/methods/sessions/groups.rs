//! `sessions.groups.*`: the groups that sessions are sorted into.

use std::sync::{Arc, LazyLock};

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::session::{SessionChange, SessionQuery, SessionRow};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{change, failed};
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::phrase::{Shape, no_nulls};
use crate::sessions::{Defaults, Kept, Key, MAX_GROUPS};
use crate::wire::Payload;

/// Sessions that are read at once.
const PAGE: u64 = 1000;
/// Parts of a page whose order is kept.
const MAX_SECTIONS: usize = 500;
/// Characters of the folder that a group's sessions begin in.
const MAX_PATH_CHARS: usize = 4096;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Put {
    #[schemars(length(max = MAX_GROUPS), inner(length(min = 1, max = 512)))]
    names: Vec<String>,
    #[schemars(length(max = MAX_SECTIONS), inner(length(min = 1, max = 512)))]
    section_order: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rename {
    #[schemars(length(min = 1, max = 512))]
    name: String,
    #[schemars(length(min = 1, max = 512))]
    to: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["name", "cwd", "worktree"]))]
struct Update {
    #[schemars(length(min = 1, max = 512))]
    name: String,
    #[serde(deserialize_with = "Option::deserialize")]
    #[schemars(length(min = 1, max = MAX_PATH_CHARS))]
    cwd: Option<String>,
    worktree: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Delete {
    #[schemars(length(min = 1, max = 512))]
    name: String,
}

static PUT: LazyLock<Shape> = LazyLock::new(Shape::of::<Put>);
static RENAME: LazyLock<Shape> = LazyLock::new(Shape::of::<Rename>);
static UPDATE: LazyLock<Shape> = LazyLock::new(Shape::of::<Update>);
static DELETE: LazyLock<Shape> = LazyLock::new(Shape::of::<Delete>);

/// `sessions.groups.list {}` → `{groups: [{name, position}], sectionOrder}`.
pub(crate) fn list_groups(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    Ok(Answer::json(&Value::Object(call.state.groups.now().listed())))
}

/// `sessions.groups.defaults {}` → `{defaults: [{name, cwd?, worktree?}]}`.
pub(crate) fn group_defaults(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    Ok(Answer::json(&json!({"defaults": call.state.groups.now().listed_defaults()})))
}

/// `sessions.groups.put {names, sectionOrder?}` → `{ok, groups, sectionOrder}`: these groups in this order.
pub(crate) fn put_groups(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let put: Put = call.read(&PUT, &[])?;
    Ok(call.later(|state, _| async move {
        let decide = |kept: &mut Kept| {
            kept.set_names(put.names);
            kept.section_order = put.section_order.unwrap_or_else(|| std::mem::take(&mut kept.section_order));
            Ok(())
        };
        Ok(mutated(&state.groups.change(decide).await?, None))
    }))
}

/// `sessions.groups.rename {name, to}` → `{ok, groups, sectionOrder, updatedSessions}`: its sessions come along.
pub(crate) fn rename_group(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let Rename { name, to } = call.read(&RENAME, &[])?;
    moved(call, name, Some(to))
}

/// `sessions.groups.delete {name}` → `{ok, groups, sectionOrder, updatedSessions}`: its sessions are in none then.
pub(crate) fn delete_group(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let Delete { name } = call.read(&DELETE, &[])?;
    moved(call, name, None)
}

/// `sessions.groups.update {name, cwd, worktree}` → `{ok, defaults}`: what a new session of the group begins with.
pub(crate) fn update_group(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let update: Update = call.read(&UPDATE, &[])?;
    Ok(call.later(|state, _| async move {
        let decide = |kept: &mut Kept| {
            kept.known(&update.name)?;
            kept.defaults.insert(update.name, Defaults { cwd: update.cwd, worktree: update.worktree });
            Ok(())
        };
        let kept = state.groups.change(decide).await?;
        Ok(Payload::json(&json!({"ok": true, "defaults": kept.listed_defaults()})))
    }))
}

fn mutated(kept: &Kept, updated_sessions: Option<u64>) -> Payload {
    let mut answer = kept.listed();
    answer.insert("ok".into(), json!(true));
    answer.extend(updated_sessions.map(|count| ("updatedSessions".to_owned(), json!(count))));
    Payload::json(&Value::Object(answer))
}

/// Gives a group another name or none. The group first: when that cannot be, no session changes.
fn moved(call: &Call<'_>, name: String, to: Option<String>) -> Result<Answer, ErrorShape> {
    Ok(call.later(|state, session| async move {
        let kept = state.groups.change(|kept| kept.rename(&name, to.as_deref())).await?;
        let mut updated = 0;
        for key in members(&state, &session, &name).await? {
            updated += u64::from(regroup(&state, &session, &key, (&name, to.as_deref())).await?);
        }
        Ok(mutated(&kept, Some(updated)))
    }))
}

/// The keys of the sessions in a group.
async fn members(state: &State, session: &Session, name: &str) -> Result<Vec<String>, ErrorShape> {
    let mut keys = Vec::new();
    let mut offset = 0;
    loop {
        let query = SessionQuery {
            include_global: true,
            include_unknown: true,
            offset,
            limit: Some(PAGE),
            ..SessionQuery::default()
        };
        let page = state.services.sessions.list(query).await.map_err(failed(session))?;
        let read = page.rows.len() as u64;
        keys.extend(page.rows.into_iter().filter(|row| is_in(row, name)).map(|row| row.key));
        offset += read;
        if read < PAGE {
            return Ok(keys);
        }
    }
}

fn is_in(row: &SessionRow, name: &str) -> bool {
    row.entry.get("category").and_then(Value::as_str) == Some(name)
}

/// Puts one session into another group, unless it has left its own meanwhile; whether it did.
async fn regroup(
    state: &Arc<State>,
    session: &Session,
    key: &str,
    (name, to): (&str, Option<&str>),
) -> Result<bool, ErrorShape> {
    let key = Key::read(key, None)?;
    let (name, to) = (name.to_owned(), to.map(str::to_owned));
    let changed = change(state, session, &key, move |row| {
        let Some(mut row) = row.filter(|row| is_in(row, &name)) else { return Ok((SessionChange::Nothing, None)) };
        match to {
            Some(to) => row.entry.insert("category".into(), json!(to)),
            None => row.entry.shift_remove("category"),
        };
        Ok((SessionChange::Put(row.clone()), Some(row)))
    })
    .await?;
    if let Some(row) = &changed {
        state.session_changed(&key.text, "patch", Some(row));
    }
    Ok(changed.is_some())
}
