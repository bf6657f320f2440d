//! `sessions.resolve`, `sessions.describe` and `sessions.preview`: finding sessions and looking into them.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::session::{SessionKind, SessionLookup, SessionRow, TranscriptQuery};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{KEY_ALIASES, failed, is_newest, later};
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::phrase::{Shape, no_nulls};
use crate::sessions::{Key, listed, preview as lines};
use crate::wire::Payload;

/// Sessions that one call looks into, and lines it shows of each.
const MAX_PREVIEWS: usize = 64;
const PREVIEW_LINES: usize = 12;
const MAX_PREVIEW_LINES: usize = 50;
/// Characters of a line.
const PREVIEW_CHARS: usize = 240;
const MAX_PREVIEW_CHARS: usize = 2000;
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

/// `sessions.resolve {key | sessionId | label | shortId}` → `{ok, key}`; version 4 adds `agentId`, and `ok: false` with
/// `allowMissing`.
pub(crate) fn resolve(call: &Call<'_>) -> Answer {
    let resolve: Resolve = match call.read(&RESOLVE, KEY_ALIASES) {
        Ok(resolve) => resolve,
        Err(error) => return Answer::error(error),
    };
    let found = find(call, &resolve);
    let missing_is_fine = is_newest(call.session) && resolve.allow_missing == Some(true);
    match found {
        Ok(Found::One(row)) => {
            let mut answer = json!({"ok": true, "key": row.key});
            if is_newest(call.session)
                && let Some(answer) = answer.as_object_mut()
            {
                answer.insert("agentId".into(), json!(row.agent));
                answer.extend(row.entry.get("displayName").map(|name| ("displayName".to_owned(), name.clone())));
            }
            Answer::json(&answer)
        }
        Ok(Found::Several(rows)) if missing_is_fine => {
            let candidate = |row: &SessionRow| json!({"key": row.key, "agentId": row.agent});
            let candidates: Vec<Value> = rows.iter().take(MAX_CANDIDATES).map(candidate).collect();
            Answer::json(&json!({"ok": false, "candidates": candidates}))
        }
        Ok(Found::Several(rows)) => {
            let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
            Answer::error(ErrorShape::invalid(format!("Multiple sessions found ({})", keys.join(", "))))
        }
        Ok(Found::None(_)) if missing_is_fine => Answer::json(&json!({"ok": false})),
        Ok(Found::None(what)) => Answer::error(ErrorShape::invalid(format!("No session found: {what}"))),
        Err(error) => Answer::error(error),
    }
}

enum Found {
    One(SessionRow),
    Several(Vec<SessionRow>),
    None(String),
}

fn find(call: &Call<'_>, resolve: &Resolve) -> Result<Found, ErrorShape> {
    let named = [&resolve.key, &resolve.session_id, &resolve.label, &resolve.short_id];
    match named.iter().filter(|name| name.is_some()).count() {
        0 => return Err(ErrorShape::invalid("Either key, sessionId or label is required")),
        1 => {}
        _ => return Err(ErrorShape::invalid("Provide either key, sessionId or label (not several)")),
    }
    let sessions = &call.state.services.sessions;
    let agent = resolve.agent_id.as_deref().map(crate::sessions::agent_id).transpose()?;
    let (what, rows) = if let Some(given) = &resolve.key {
        let key = Key::read(given, resolve.agent_id.as_deref())?;
        let row = sessions.get(&key.text).map_err(failed(call.session))?;
        // To version 4 the main session is always there.
        let main = || (is_newest(call.session) && key.is_main()).then(|| super::fresh(&key, call.state.now_ms()));
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
    let fits = |row: &SessionRow| {
        let spawned_by = row.entry.get("spawnedBy").and_then(Value::as_str);
        agent.as_ref().is_none_or(|agent| row.agent == *agent)
            && resolve.spawned_by.as_deref().is_none_or(|parent| spawned_by == Some(parent))
            && (resolve.key.is_some() || row.kind != SessionKind::Global || resolve.include_global == Some(true))
            && (resolve.key.is_some() || row.kind != SessionKind::Unknown || resolve.include_unknown == Some(true))
    };
    let mut rows: Vec<SessionRow> = rows.into_iter().filter(fits).collect();
    Ok(match rows.len() {
        0 => Found::None(what.clone()),
        1 => rows.pop().map_or_else(|| Found::None(what.clone()), Found::One),
        _ => Found::Several(rows),
    })
}

/// `sessions.describe {key}` → `{session}`, null when there is none.
pub(crate) fn describe(call: &Call<'_>) -> Answer {
    let read = call.read::<Describe>(&DESCRIBE, KEY_ALIASES);
    let row = read.and_then(|describe| {
        let key = Key::read(&describe.key, describe.agent_id.as_deref())?;
        let row = call.state.services.sessions.get(&key.text).map_err(failed(call.session))?;
        Ok((row, (describe.include_derived_titles == Some(true), describe.include_last_message == Some(true))))
    });
    match row {
        Ok((None, _)) => Answer::json(&json!({"session": null})),
        Ok((Some(row), wanted)) => later(call, move |state, session| async move {
            let mut shown = listed(&row, session.version);
            super::list::look_into(&state, &session, &row, wanted, &mut shown).await?;
            Ok(Payload::json(&json!({"session": shown})))
        }),
        Err(error) => Answer::error(error),
    }
}

/// `sessions.preview {keys, limit?, maxChars?}` → `{ts, previews: [{key, status, items: [{role, text}]}]}`; each key as
/// it was given.
pub(crate) fn preview(call: &Call<'_>) -> Answer {
    let aliases = &[("sessionKeys", "keys")];
    let preview: Preview = match call.read(&PREVIEW, aliases) {
        Ok(preview) => preview,
        Err(error) => return Answer::error(error),
    };
    later(call, |state, session| async move {
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
    })
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
