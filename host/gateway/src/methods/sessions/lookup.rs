//! `sessions.resolve`, `sessions.describe` and `sessions.preview`: finding sessions and looking into them.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::session::{SessionKind, SessionLookup, SessionQuery, SessionRow, TranscriptQuery};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{KEY_ALIASES, failed};
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::phrase::{Shape, no_nulls};
use crate::sessions::{Key, listed, preview as lines};
use crate::wire::{Payload, joined};

/// Sessions that one call looks into, and lines it shows of each.
const MAX_PREVIEWS: usize = 64;
const PREVIEW_LINES: usize = 12;
const MAX_PREVIEW_LINES: usize = 50;
/// Characters of a line.
const PREVIEW_CHARS: usize = 240;
const MAX_PREVIEW_CHARS: usize = 2000;
/// Sessions whose names are compared with that in an address, and characters of such a name.
const MAX_NAMED: u64 = 1000;
const SLUG_CHARS: usize = 48;
/// Candidates that are named.
const MAX_CANDIDATES: usize = 10;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Resolve {
    #[schemars(length(min = 1))]
    key: Option<String>,
    #[schemars(length(min = 1))]
    session_id: Option<String>,
    #[schemars(length(min = 1, max = 512))]
    label: Option<String>,
    reference: Option<Reference>,
    #[schemars(length(min = 1))]
    short_id: Option<String>,
    #[schemars(length(min = 1))]
    slug_hint: Option<String>,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(length(min = 1))]
    spawned_by: Option<String>,
    include_global: Option<bool>,
    include_unknown: Option<bool>,
    allow_missing: Option<bool>,
}

/// What stands for a session in the address of a page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Reference {
    #[schemars(length(min = 1))]
    key: String,
    #[schemars(length(min = 1))]
    slug: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Describe {
    #[schemars(length(min = 1))]
    key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    include_derived_titles: Option<bool>,
    include_last_message: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Preview {
    #[schemars(length(min = 1), inner(length(min = 1)))]
    keys: Vec<String>,
    #[schemars(range(min = 1))]
    limit: Option<usize>,
    #[schemars(range(min = 20))]
    max_chars: Option<usize>,
}

static RESOLVE: LazyLock<Shape> = LazyLock::new(Shape::of::<Resolve>);
static DESCRIBE: LazyLock<Shape> = LazyLock::new(Shape::of::<Describe>);
static PREVIEW: LazyLock<Shape> = LazyLock::new(Shape::of::<Preview>);

/// `sessions.resolve {key | sessionId | label | shortId | reference}` → `{ok, key}`; version 4 adds `agentId`, and
/// `ok: false` with `allowMissing`.
pub(crate) fn resolve(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let resolve: Resolve = call.read(&RESOLVE, KEY_ALIASES)?;
    let newest = call.session.version.is_newest();
    let missing_is_fine = newest && resolve.allow_missing == Some(true);
    match find(call, &resolve)? {
        Found::None(what) if resolve.reference.as_ref().is_some_and(|reference| reference.slug.is_some()) => Ok(call
            .later(move |state, session| async move {
                let found = by_slug(&state, &session, &resolve, what).await?;
                Ok(Payload::json(&answer(found, newest, missing_is_fine)?))
            })),
        found => Ok(Answer::json(&answer(found, newest, missing_is_fine)?)),
    }
}

fn answer(found: Found, newest: bool, missing_is_fine: bool) -> Result<Value, ErrorShape> {
    match found {
        Found::One(row) => {
            let agent = Some(("agentId", json!(row.agent)));
            let name = row.entry.get("displayName").map(|name| ("displayName", name.clone()));
            Ok(joined(json!({"ok": true, "key": row.key}), agent.into_iter().chain(name).filter(|_| newest)))
        }
        Found::Several(rows) if missing_is_fine => {
            let candidate = |row: &SessionRow| json!({"key": row.key, "agentId": row.agent});
            let candidates: Vec<Value> = rows.iter().take(MAX_CANDIDATES).map(candidate).collect();
            Ok(json!({"ok": false, "candidates": candidates}))
        }
        Found::Several(rows) => {
            let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
            Err(ErrorShape::invalid(format!("Multiple sessions found ({})", keys.join(", "))))
        }
        Found::None(_) if missing_is_fine => Ok(json!({"ok": false})),
        Found::None(what) => Err(ErrorShape::invalid(format!("No session found: {what}"))),
    }
}

/// The sessions of an agent whose key ends in a number of its own and whose name, as an address writes it, is the slug.
async fn by_slug(state: &State, session: &Session, resolve: &Resolve, what: String) -> Result<Found, ErrorShape> {
    let slug = resolve.reference.as_ref().and_then(|reference| reference.slug.clone()).unwrap_or_default();
    let agent = resolve.agent_id.as_deref().map(crate::sessions::agent_id).transpose()?;
    let agents = agent.map(|agent| vec![agent]);
    let query = SessionQuery { agents, limit: Some(MAX_NAMED), ..SessionQuery::default() };
    let page = state.services.sessions.list(query).await.map_err(failed(session))?;
    let named = |row: &SessionRow| {
        let name = row.label.as_deref().or_else(|| row.entry.get("displayName").and_then(Value::as_str));
        let end = row.key.rsplit(':').next().unwrap_or_default();
        uuid::Uuid::parse_str(end).is_ok() && name.is_some_and(|name| slug_of(name) == slug)
    };
    let mut rows: Vec<SessionRow> = page.rows.into_iter().filter(named).collect();
    Ok(match rows.len() {
        0 => Found::None(what),
        1 => rows.pop().map_or(Found::None(what), Found::One),
        _ => Found::Several(rows),
    })
}

/// A name as the address of a page writes it: small letters and digits with dashes between, without an end that could be
/// the start of a number.
fn slug_of(name: &str) -> String {
    let words: String =
        name.to_lowercase().chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { ' ' }).collect();
    let words: Vec<&str> = words.split(' ').filter(|word| !word.is_empty()).collect();
    let says_something = |word: &&str| word.chars().any(|letter| ('g'..='z').contains(&letter));
    let end = words.iter().rposition(says_something).map_or(0, |last| last + 1);
    let slug: String = words.get(..end).unwrap_or_default().join("-").chars().take(SLUG_CHARS).collect();
    slug.trim_end_matches('-').to_owned()
}

enum Found {
    One(SessionRow),
    Several(Vec<SessionRow>),
    None(String),
}

fn find(call: &Call<'_>, resolve: &Resolve) -> Result<Found, ErrorShape> {
    let referred = resolve.reference.as_ref().map(|reference| reference.key.clone());
    let named = [&resolve.key, &resolve.session_id, &resolve.label, &resolve.short_id, &referred];
    match named.iter().filter(|name| name.is_some()).count() {
        0 => return Err(ErrorShape::invalid("Either key, sessionId or label is required")),
        1 => {}
        _ => return Err(ErrorShape::invalid("Provide either key, sessionId or label (not several)")),
    }
    let sessions = &call.state.services.sessions;
    let agent = resolve.agent_id.as_deref().map(crate::sessions::agent_id).transpose()?;
    let (what, rows) = if let Some(given) = resolve.key.as_ref().or(referred.as_ref()) {
        let key = Key::read(given, resolve.agent_id.as_deref())?;
        let row = sessions.get(&key.text).map_err(failed(call.session))?;
        // To version 4 the main session is always there.
        let main =
            || (call.session.version.is_newest() && key.is_main()).then(|| super::fresh(&key, call.state.now_ms()));
        (given, row.or_else(main).into_iter().collect())
    } else if let Some(id) = &resolve.session_id {
        (id, sessions.find(&SessionLookup::Id(id.clone())).map_err(failed(call.session))?)
    } else if let Some(label) = &resolve.label {
        let lookup = SessionLookup::Label { label: label.trim().to_owned(), agent: agent.clone() };
        (label, sessions.find(&lookup).map_err(failed(call.session))?)
    } else {
        let id = resolve.short_id.as_ref().or(resolve.slug_hint.as_ref());
        let Some(id) = id else { return Ok(Found::None(String::new())) };
        (id, sessions.find(&SessionLookup::IdStart(id.clone())).map_err(failed(call.session))?)
    };
    let by_key = resolve.key.is_some() || referred.is_some();
    let fits = |row: &SessionRow| {
        let spawned_by = row.entry.get("spawnedBy").and_then(Value::as_str);
        agent.as_ref().is_none_or(|agent| row.agent == *agent)
            && resolve.spawned_by.as_deref().is_none_or(|parent| spawned_by == Some(parent))
            && (by_key || row.kind != SessionKind::Global || resolve.include_global == Some(true))
            && (by_key || row.kind != SessionKind::Unknown || resolve.include_unknown == Some(true))
    };
    let mut rows: Vec<SessionRow> = rows.into_iter().filter(fits).collect();
    Ok(match rows.len() {
        0 => Found::None(what.clone()),
        1 => rows.pop().map_or_else(|| Found::None(what.clone()), Found::One),
        _ => Found::Several(rows),
    })
}

/// `sessions.describe {key}` → `{session}`, null when there is none.
pub(crate) fn describe(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let describe: Describe = call.read(&DESCRIBE, KEY_ALIASES)?;
    let key = Key::read(&describe.key, describe.agent_id.as_deref())?;
    let row = call.state.services.sessions.get(&key.text).map_err(failed(call.session))?;
    let Some(row) = row else { return Ok(Answer::json(&json!({"session": null}))) };
    let wanted = (describe.include_derived_titles == Some(true), describe.include_last_message == Some(true));
    Ok(call.later(move |state, session| async move {
        let mut shown = listed(&row, session.version);
        super::list::look_into(&state, &session, &row, wanted, &mut shown).await?;
        Ok(Payload::json(&json!({"session": shown})))
    }))
}

/// `sessions.preview {keys, limit?, maxChars?}` → `{ts, previews: [{key, status, items: [{role, text}]}]}`; each key as
/// it was given. Also `{chatJid}` and `{sessionKey}`, for one.
pub(crate) fn preview(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let single = of_one(call.params);
    let call = &Call { params: single.as_deref().unwrap_or(call.params), ..*call };
    let preview: Preview = call.read(&PREVIEW, &[("sessionKeys", "keys")])?;
    Ok(call.later(|state, session| async move {
        let mut previews = Vec::new();
        for given in preview.keys.iter().take(MAX_PREVIEWS) {
            let (status, items) = match looked(&state, &session, given, &preview).await {
                Ok(Some(items)) if items.is_empty() => ("empty", items),
                Ok(Some(items)) => ("ok", items),
                Ok(None) => ("missing", Vec::new()),
                Err(_) => ("error", Vec::new()),
            };
            previews.push(json!({"key": given, "status": status, "items": items}));
        }
        Ok(Payload::json(&json!({"ts": state.now_ms(), "previews": previews})))
    }))
}

/// Parameters that name one session, as the original LeanClaw has it, with a list of it; none when they are others.
fn of_one(params: &str) -> Option<String> {
    const NAMES: [&str; 2] = ["chatJid", "sessionKey"];
    // Read once more only where one of the names is somewhere in it.
    if !NAMES.iter().any(|name| params.contains(name)) {
        return None;
    }
    let mut params: Map<String, Value> = serde_json::from_str(params).ok()?;
    let name = NAMES.into_iter().find(|name| params.contains_key(*name))?;
    if params.contains_key("keys") {
        return None;
    }
    let key = params.shift_remove(name)?;
    params.insert("keys".into(), json!([key]));
    serde_json::to_string(&params).ok()
}

/// The last lines of a session; none when there is no such session.
async fn looked(
    state: &State,
    session: &Session,
    given: &str,
    preview: &Preview,
) -> Result<Option<Vec<Value>>, ErrorShape> {
    let key = Key::read(given, None)?;
    let sessions = &state.services.sessions;
    if sessions.get(&key.text).map_err(failed(session))?.is_none() {
        return Ok(None);
    }
    let limit = preview.limit.unwrap_or(PREVIEW_LINES).min(MAX_PREVIEW_LINES);
    let max_chars = preview.max_chars.unwrap_or(PREVIEW_CHARS).min(MAX_PREVIEW_CHARS);
    let query = TranscriptQuery { limit: limit as u64, ..TranscriptQuery::default() };
    let transcript = sessions.transcript(&key.text, query).await.map_err(failed(session))?;
    let mut items: Vec<Value> = transcript.messages.iter().flat_map(|message| lines(message, max_chars)).collect();
    Ok(Some(items.split_off(items.len().saturating_sub(limit))))
}

#[cfg(test)]
mod tests {
    use super::slug_of;

    #[test]
    fn names_are_written_as_addresses_write_them() {
        for (name, slug) in [
            ("Plans for the Garden!", "plans-for-the-garden"),
            ("  Größe  x ", "gr-e-x"),
            ("trip 2026", "trip"),
            ("dead beef", ""),
            ("", ""),
        ] {
            assert_eq!(slug_of(name), slug, "{name}");
        }
    }
}
