//! `sessions.list`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::session::{MarkedPage, MarkedSession, SessionQuery, SessionRow, TranscriptQuery};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{failed, shortened};
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::phrase::{Shape, no_nulls};
use crate::sessions::{Look, STORE_PATH, defaults, listed, text_of};
use crate::wire::Payload;

/// Rows when no limit is named.
const DEFAULT_ROWS: u64 = 200;
/// Rows at most: what is left is a page away.
const MAX_ROWS: u64 = 1000;
/// Rows whose transcript is looked into.
const MAX_TITLED: usize = 200;
/// Characters of a title and of a last message.
const TITLE_CHARS: usize = 60;
const LAST_MESSAGE_CHARS: usize = 200;

/// Parameters of both versions. Filters for what LeanClaw's sessions do not have match nothing that is asked for. An
/// interaction is something that a person said; all other orders are that of the last change.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = no_nulls)]
pub(super) struct List {
    #[schemars(range(min = 1))]
    limit: Option<u64>,
    offset: Option<u64>,
    #[schemars(range(min = 1))]
    active_minutes: Option<u64>,
    require_last_interaction: Option<bool>,
    #[schemars(extend("enum" = ["updatedAt", "lastInteractionAt", "activity"]))]
    sort_by: Option<String>,
    include_global: Option<bool>,
    include_unknown: Option<bool>,
    configured_agents_only: Option<bool>,
    include_derived_titles: Option<bool>,
    include_last_message: Option<bool>,
    #[schemars(length(min = 1, max = 512))]
    label: Option<String>,
    #[schemars(extend("enum" = ["chat", "dashboard"]))]
    board_face: Option<String>,
    #[schemars(length(min = 1))]
    creator_id: Option<String>,
    #[schemars(length(min = 1))]
    owner_id: Option<String>,
    owner_first: Option<bool>,
    involving_me: Option<bool>,
    #[schemars(length(min = 1))]
    involving_profile_id: Option<String>,
    include_people: Option<bool>,
    include_activity_summary: Option<bool>,
    exclude_subagents: Option<bool>,
    has_board: Option<bool>,
    active_only: Option<bool>,
    #[schemars(length(min = 1))]
    spawned_by: Option<String>,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    search: Option<String>,
    #[schemars(extend("enum" = [true, false, "all"]))]
    archived: Option<Value>,
}

static LIST: LazyLock<Shape> = LazyLock::new(Shape::of::<List>);

/// `sessions.list {limit?, …}` → `{ts, path, count, defaults, sessions}`, the one that changed last first; version 4
/// besides `{totalCount, limitApplied, nextOffset, hasMore, owners}`.
pub(crate) fn list(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let (version, revision) = (call.session.version, call.state.services.sessions.revision());
    // The answer names the model, which may change while no session does.
    let asked = match call.state.default_model() {
        None => Cow::Borrowed(call.params),
        Some(model) => {
            let context_tokens = model.context_tokens.unwrap_or(0);
            Cow::Owned(format!("{}/{} {context_tokens} {}", model.provider, model.id, call.params))
        }
    };
    if let Some(text) = call.state.lists.get(revision, version, &asked, call.state.now_ms()) {
        return Ok(Answer::Now(Ok(Payload::Own(text))));
    }
    let list = read(call)?;
    // What was active lately changes with the time alone, and which agents there are without any session.
    let depends = list.active_minutes.is_some() || list.configured_agents_only == Some(true);
    let asked = (!depends).then(|| asked.into_owned());
    Ok(call.later(move |state, session| async move {
        let text = answer(Arc::clone(&state), session, list).await?;
        if let Some(asked) = asked {
            state.lists.keep(revision, version, asked, &text);
        }
        Ok(Payload::Own(text))
    }))
}

/// The parameters of a call that lists.
pub(super) fn read(call: &Call<'_>) -> Result<List, ErrorShape> {
    call.read(&LIST, &[])
}

/// The answer to them, as text.
pub(super) async fn answer(state: Arc<State>, session: Arc<Session>, list: List) -> Result<String, ErrorShape> {
    let now_ms = state.now_ms();
    let limit = list.limit.unwrap_or(DEFAULT_ROWS).min(MAX_ROWS);
    let offset = list.offset.unwrap_or(0);
    let looks = Looks {
        version: session.version,
        title: list.include_derived_titles == Some(true),
        last: list.include_last_message == Some(true),
    };
    let page = match list.query(&state, &session, now_ms, offset, limit)? {
        Some(query) => {
            let kept = Arc::clone(&state);
            let recall = Box::new(move |marks: &[_]| kept.rows.recall(marks, |place| looks.at(place)));
            state.services.sessions.list_marked(query, recall).await.map_err(failed(&session))?
        }
        None => MarkedPage::default(),
    };
    let (count, total) = (page.rows.len() as u64, page.total);
    let mut rows = Vec::with_capacity(page.rows.len());
    for (place, row) in page.rows.into_iter().enumerate() {
        rows.push(shown(&state, &session, row, looks.at(place)).await?);
    }
    let bytes: usize = rows.iter().map(|row| row.len() + 1).sum();
    let mut text = String::with_capacity(bytes + 512);
    let defaults = defaults(session.version, state.default_model().as_ref());
    // Writing to a string does not fail.
    let _ = write!(text, "{{\"ts\":{now_ms},\"path\":\"{STORE_PATH}\",\"count\":{count},\"defaults\":{defaults},");
    text.push_str("\"sessions\":[");
    for (place, row) in rows.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(row);
    }
    text.push(']');
    if session.version.is_newest() {
        let end = offset.saturating_add(count);
        let more = count > 0 && end < total;
        let _ = write!(text, ",\"totalCount\":{total},\"limitApplied\":{limit},\"nextOffset\":");
        let _ = if more { write!(text, "{end}") } else { write!(text, "null") };
        let _ = write!(text, ",\"hasMore\":{more},\"owners\":[]");
    }
    text.push('}');
    Ok(text)
}

/// What is wanted of the rows of a list.
#[derive(Clone, Copy)]
struct Looks {
    version: ProtocolVersion,
    title: bool,
    last: bool,
}

impl Looks {
    /// What is shown of the row at that place.
    fn at(self, place: usize) -> Look {
        let Self { version, title, last } = self;
        let looks_into = place < MAX_TITLED;
        Look { version, title: title && looks_into, last: last && looks_into }
    }
}

/// A row as text, from then on kept.
async fn shown(state: &State, session: &Session, row: MarkedSession, look: Look) -> Result<Arc<str>, ErrorShape> {
    let (mark, row) = match row {
        MarkedSession::Kept(text) => return Ok(text),
        MarkedSession::Read(mark, row) => (mark, row),
    };
    let mut shown = listed(&row, look.version);
    look_into(state, session, &row, (look.title, look.last), &mut shown).await?;
    let text = shown.to_string().into();
    state.rows.keep(mark, look, &text);
    Ok(text)
}

impl List {
    /// What to ask the store for; none when nothing can match.
    fn query(
        &self,
        state: &State,
        session: &Session,
        now_ms: u64,
        offset: u64,
        limit: u64,
    ) -> Result<Option<SessionQuery>, ErrorShape> {
        // No session of LeanClaw's has an owner, a creator, people of its own or a board, and none shows that something runs in it.
        let nobodys = self.owner_id.is_some() || self.creator_id.is_some() || self.involving_profile_id.is_some();
        let needs_more =
            self.has_board == Some(true) || self.active_only == Some(true) || self.involving_me == Some(true);
        if nobodys || needs_more || self.board_face.as_deref() == Some("dashboard") {
            return Ok(None);
        }
        let archived = match &self.archived {
            Some(Value::String(_)) => None,
            Some(Value::Bool(archived)) => Some(*archived),
            // Version 3 knows of no archive, and so of no way to look into it.
            _ => Some(false),
        };
        let agent = self.agent_id.as_deref().map(crate::sessions::agent_id).transpose()?;
        let mut agents = agent.map(|agent| vec![agent]);
        if self.configured_agents_only == Some(true) {
            let mut all: Vec<String> = state.agents.all().into_iter().map(|(id, _)| id).collect();
            all.retain(|id| agents.as_ref().is_none_or(|wanted| wanted.contains(id)));
            if all.is_empty() {
                return Ok(None);
            }
            agents = Some(all);
        }
        let search = self.search.as_deref().map(str::trim).filter(|search| !search.is_empty());
        Ok(Some(SessionQuery {
            agents,
            spoken_in: self.require_last_interaction == Some(true),
            last_spoken_first: self.sort_by.as_deref() == Some("lastInteractionAt"),
            archived: archived.filter(|_| session.version.is_newest() || self.archived.is_none()),
            include_global: self.include_global == Some(true),
            include_unknown: self.include_unknown == Some(true),
            label: self.label.clone(),
            spawned_by: self.spawned_by.clone(),
            exclude_subagents: self.exclude_subagents == Some(true),
            search: search.map(str::to_owned),
            updated_since_ms: self.active_minutes.map(|minutes| now_ms.saturating_sub(minutes.saturating_mul(60_000))),
            offset,
            limit: Some(limit),
        }))
    }
}

/// Adds what the transcript tells.
pub(super) async fn look_into(
    state: &State,
    session: &Session,
    row: &SessionRow,
    (title, last): (bool, bool),
    shown: &mut Value,
) -> Result<(), ErrorShape> {
    let Some(shown) = shown.as_object_mut() else { return Ok(()) };
    let sessions = &state.services.sessions;
    if last {
        let query = TranscriptQuery { limit: 1, ..TranscriptQuery::default() };
        let newest = sessions.transcript(&row.key, query).await.map_err(failed(session))?;
        if let Some(text) = newest.messages.first().map(text_of).filter(|text| !text.trim().is_empty()) {
            shown.insert("lastMessagePreview".into(), json!(shortened(text.trim(), LAST_MESSAGE_CHARS)));
        }
    }
    if title {
        let query = TranscriptQuery { oldest: true, limit: 4, ..TranscriptQuery::default() };
        let oldest = sessions.transcript(&row.key, query).await.map_err(failed(session))?;
        let name = row.entry.get("displayName").and_then(Value::as_str).map(str::to_owned);
        let said = || oldest.messages.iter().find(|message| message.role == "user").map(text_of);
        let text = name.or_else(said).map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            shown.insert("derivedTitle".into(), json!(shortened(&text, TITLE_CHARS)));
        }
    }
    Ok(())
}
