//! Sessions: one row each, found by key, by time and by agent. What was said in them is in [`crate::transcripts`].
//!
//! What a key, an entry or a label may be is not known here.

use leanclaw_types::session::{
    AgentSessions, DecideSession, MarkedPage, MarkedSession, RecallSessions, SessionChange, SessionKind, SessionLookup,
    SessionMark, SessionOutcome, SessionPage, SessionQuery, SessionRow,
};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use crate::error::StoreError;
use crate::queue::Lane;
use crate::runs;
use crate::store::Store;
use crate::{to_signed, to_unsigned};

/// The most rows that are read on the calling thread.
const QUICK_ROWS: u64 = 200;
/// Rows that [`Store::find_sessions`] gives at most.
const MAX_FOUND: u32 = 20;

/// When a person last said something in a session, of what is in sight of its transcript; null when nobody did.
const SPOKEN_MS: &str = "(SELECT at_ms FROM messages WHERE session = sessions.id AND seq > sessions.starts_after_seq \
                         AND role = 'user' ORDER BY seq DESC LIMIT 1)";

const COLUMNS: &str = "key, session_id, agent, kind, label, archived, created_ms, updated_ms, entry";

impl Store {
    /// The sessions that were asked for. Costs the same however many others there are where few are wanted, put away or not, of
    /// all agents or of one, in the order of their changes, and under no other condition; else it looks at all of them.
    ///
    /// # Errors
    /// [`StoreError`] when the file or a row cannot be read.
    pub async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError> {
        if is_quick(&query) {
            return self.database.read(|connection| page(connection, &query));
        }
        self.database.read_many(move |connection| page(connection, &query)).await
    }

    /// As [`Store::sessions`]; the rows of those that `recall` knows are not read.
    ///
    /// # Errors
    /// [`StoreError`] when the file or a row cannot be read.
    pub async fn marked_sessions(&self, query: SessionQuery, recall: RecallSessions) -> Result<MarkedPage, StoreError> {
        if is_quick(&query) {
            return self.database.read(|connection| marked_page(connection, &query, recall));
        }
        self.database.read_many(move |connection| marked_page(connection, &query, recall)).await
    }

    /// The session with that key.
    ///
    /// # Errors
    /// [`StoreError`] when the file or the row cannot be read.
    pub fn session(&self, key: &str) -> Result<Option<SessionRow>, StoreError> {
        self.database.read(|connection| one(connection, key))
    }

    /// The sessions that are found in another way, at most 20 of them.
    ///
    /// # Errors
    /// [`StoreError`] when the file or a row cannot be read.
    pub fn find_sessions(&self, lookup: &SessionLookup) -> Result<Vec<SessionRow>, StoreError> {
        self.database.read(|connection| {
            let (condition, values) = match lookup {
                SessionLookup::Id(id) => ("session_id = ?", vec![text(id)]),
                // Nothing in an id sorts after `~`.
                SessionLookup::IdStart(start) => {
                    ("session_id >= ? AND session_id < ?", vec![text(start), Sql::Text(format!("{start}~"))])
                }
                SessionLookup::Label { label, agent: None } => ("label = ?", vec![text(label)]),
                SessionLookup::Label { label, agent: Some(agent) } => {
                    ("label = ? AND agent = ?", vec![text(label), text(agent)])
                }
            };
            let sql = format!(
                "SELECT {COLUMNS} FROM sessions WHERE {condition} ORDER BY updated_ms DESC, id DESC LIMIT {MAX_FOUND}"
            );
            rows(connection, &sql, values)
        })
    }

    /// Decides on a session inside a transaction of the writer, and stores what was decided. It is on disk when this
    /// answers. Where its transcript begins anew, its runs that wait or go on end, as what they answer is out of sight. Where
    /// the session goes, its runs go too, ended or not.
    ///
    /// # Errors
    /// [`StoreError`] when nothing changed.
    pub async fn change_session(&self, key: String, decide: DecideSession) -> Result<SessionOutcome, StoreError> {
        self.database
            .write(Lane::Host, 2048, move |connection| match decide(one(connection, &key)?) {
                SessionChange::Nothing => Ok(SessionOutcome::Done),
                SessionChange::Put(row) => put(connection, &row, None),
                SessionChange::Restart(row) => restart(connection, &row),
                SessionChange::Keep { row, messages } => put(connection, &row, Some(messages)),
                SessionChange::Remove { transcript } => remove(connection, &key, transcript),
            })
            .await
    }

    /// Every agent that has sessions, by name, with its `recent` latest. Costs the same however many sessions there are.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub fn sessions_at_a_glance(&self, recent: u32) -> Result<Vec<AgentSessions>, StoreError> {
        self.database.read(|connection| {
            let mut counts = connection.prepare_cached(
                "SELECT agent, sum(count) FROM session_counts WHERE archived = 0 AND kind NOT IN ('global', 'unknown') \
                 GROUP BY agent HAVING sum(count) > 0 ORDER BY agent",
            )?;
            let mut latest = connection.prepare_cached(
                "SELECT key, updated_ms FROM sessions WHERE agent = ? AND archived = 0 \
                 AND kind <> 'global' AND kind <> 'unknown' ORDER BY updated_ms DESC, id DESC LIMIT ?",
            )?;
            let agents = counts.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
            agents
                .map(|agent| {
                    let (agent, count) = agent?;
                    let recent = latest
                        .query_map((&agent, recent), |row| Ok((row.get(0)?, to_unsigned(row.get(1)?))))?
                        .collect::<Result<_, _>>()?;
                    Ok(AgentSessions { agent, count: to_unsigned(count), recent })
                })
                .collect()
        })
    }
}

/// Whether a query may be read on the calling thread.
fn is_quick(query: &SessionQuery) -> bool {
    let scans = query.exclude_subagents
        || query.search.is_some()
        || query.spawned_by.is_some()
        || query.agents.as_ref().is_some_and(|agents| agents.len() != 1)
        || query.spoken_in
        || query.last_spoken_first
        || query.updated_since_ms.is_some();
    !scans && query.archived.is_some() && query.limit.is_some_and(|limit| limit <= QUICK_ROWS)
}

fn text(text: &str) -> Sql {
    Sql::Text(text.to_owned())
}

/// The conditions of a query, and their values.
fn conditions(query: &SessionQuery) -> (String, Vec<Sql>) {
    let mut all = vec!["1"];
    let mut values = Vec::new();
    let mut add = |condition: &'static str, value: Sql| {
        all.push(condition);
        values.push(value);
    };
    match query.agents.as_deref() {
        None => {}
        Some([agent]) => add("agent = ?", text(agent)),
        // Not by the index of agents, which would have all that fits sorted.
        Some(agents) => {
            add("+agent IN (SELECT value FROM json_each(?))", Sql::Text(serde_json::json!(agents).to_string()));
        }
    }
    if let Some(archived) = query.archived {
        add("archived = ?", Sql::Integer(archived.into()));
    }
    if let Some(label) = &query.label {
        add("label = ?", text(label));
    }
    if let Some(parent) = &query.spawned_by {
        add("json_extract(entry, '$.spawnedBy') = ?", text(parent));
    }
    if let Some(search) = &query.search {
        add("instr(search, ?) > 0", Sql::Text(search.to_lowercase()));
    }
    if let Some(since_ms) = query.updated_since_ms {
        add("updated_ms >= ?", Sql::Integer(to_signed(since_ms)));
    }
    let spoken_in = format!("{SPOKEN_MS} IS NOT NULL");
    all.extend(query.spoken_in.then_some(spoken_in.as_str()));
    all.extend((!query.include_global).then_some("kind <> 'global'"));
    all.extend((!query.include_unknown).then_some("kind <> 'unknown'"));
    all.extend(query.exclude_subagents.then_some("key NOT GLOB 'agent:*:subagent:*'"));
    (all.join(" AND "), values)
}

/// The statement that reads a page of these columns. Offset and limit are its last two values.
pub(crate) fn page_sql(query: &SessionQuery, columns: &str) -> (String, Vec<Sql>) {
    let (conditions, values) = conditions(query);
    let first = if query.last_spoken_first { format!("{SPOKEN_MS} DESC, ") } else { String::new() };
    let sql = format!(
        "SELECT {columns} FROM sessions WHERE {conditions} ORDER BY {first}updated_ms DESC, id DESC LIMIT ? OFFSET ?"
    );
    (sql, values)
}

/// What says which sessions a page shows.
pub(crate) const MARK: &str = "id, revision";

/// The statement of [`page_sql`] with all of its values.
fn bound_page_sql(query: &SessionQuery, columns: &str) -> (String, Vec<Sql>) {
    let (sql, mut values) = page_sql(query, columns);
    values.push(Sql::Integer(query.limit.map_or(-1, to_signed)));
    values.push(Sql::Integer(to_signed(query.offset)));
    (sql, values)
}

fn page(connection: &Connection, query: &SessionQuery) -> Result<SessionPage, StoreError> {
    let (sql, values) = bound_page_sql(query, COLUMNS);
    with_total(connection, query, |connection| rows(connection, &sql, values))
        .map(|(rows, total)| SessionPage { rows, total })
}

fn marked_page(
    connection: &Connection,
    query: &SessionQuery,
    recall: RecallSessions,
) -> Result<MarkedPage, StoreError> {
    let (sql, values) = bound_page_sql(query, MARK);
    let (rows, total) = with_total(connection, query, |connection| {
        let mut statement = connection.prepare_cached(&sql)?;
        let marks = statement.query_map(params_from_iter(values), |row| {
            Ok(SessionMark { session: row.get(0)?, revision: row.get(1)? })
        })?;
        let marks: Vec<SessionMark> = marks.collect::<Result<_, _>>()?;
        let mut kept = recall(&marks).into_iter();
        let sql = format!("SELECT {COLUMNS} FROM sessions WHERE id = ?");
        let mut rows = Vec::with_capacity(marks.len());
        for mark in marks {
            rows.push(match kept.next().flatten() {
                Some(kept) => MarkedSession::Kept(kept),
                None => {
                    let row = connection.prepare_cached(&sql)?.query_row([mark.session], read)?;
                    MarkedSession::Read(mark, Box::new(finish(row)?))
                }
            });
        }
        Ok(rows)
    })?;
    Ok(MarkedPage { rows, total })
}

/// Reads, and counts what there is: from the counts that are kept, unless more is asked than they know. Both are of the same
/// moment: a statement that has not come to its end holds on to what it sees, for the others too.
fn with_total<T>(
    connection: &Connection,
    query: &SessionQuery,
    read: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<(T, u64), StoreError> {
    let counted = !query.exclude_subagents
        && query.label.is_none()
        && query.spawned_by.is_none()
        && query.search.is_none()
        && !query.spoken_in
        && query.updated_since_ms.is_none();
    let (conditions, values) = conditions(query);
    let sql = if counted {
        format!("SELECT coalesce(sum(count), 0) FROM session_counts WHERE {conditions}")
    } else {
        format!("SELECT count(*) FROM sessions WHERE {conditions}")
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let mut sums = statement.query(params_from_iter(values))?;
    let total: i64 = match sums.next()? {
        Some(row) => row.get(0)?,
        None => 0,
    };
    Ok((read(connection)?, to_unsigned(total)))
}

fn rows(connection: &Connection, sql: &str, values: Vec<Sql>) -> Result<Vec<SessionRow>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params_from_iter(values), read)?;
    rows.map(|row| finish(row?)).collect()
}

fn one(connection: &Connection, key: &str) -> Result<Option<SessionRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM sessions WHERE key = ?");
    let row = connection.prepare_cached(&sql)?.query_row([key], read).optional()?;
    row.map(finish).transpose()
}

/// A row, its entry still a text.
fn read(row: &Row<'_>) -> rusqlite::Result<(SessionRow, String)> {
    let session = SessionRow {
        key: row.get(0)?,
        session_id: row.get(1)?,
        agent: row.get(2)?,
        kind: SessionKind::of(&row.get::<_, String>(3)?),
        label: row.get(4)?,
        archived: row.get(5)?,
        created_ms: to_unsigned(row.get(6)?),
        updated_ms: to_unsigned(row.get(7)?),
        entry: serde_json::Map::new(),
    };
    Ok((session, row.get(8)?))
}

fn finish((mut session, entry): (SessionRow, String)) -> Result<SessionRow, StoreError> {
    session.entry =
        serde_json::from_str(&entry).map_err(|error| StoreError::row(format!("session {}", session.key), error))?;
    Ok(session)
}

/// Stores a session; of its transcript the newest `keep` messages stay in sight, or all that are.
pub(crate) fn put(connection: &Connection, row: &SessionRow, keep: Option<u64>) -> Result<SessionOutcome, StoreError> {
    if let Some(label) = &row.label {
        let taken: bool = connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM sessions WHERE label = ? AND agent = ? AND key <> ?)")?
            .query_row([label, &row.agent, &row.key], |row| row.get(0))?;
        if taken {
            return Ok(SessionOutcome::LabelTaken);
        }
    }
    let entry = serde_json::to_string(&row.entry).map_err(|error| StoreError::row("the session", error))?;
    connection
        .prepare_cached(
            "INSERT INTO sessions (key, session_id, agent, kind, label, archived, created_ms, updated_ms, search, entry, \
             last_seq, starts_after_seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, 0) \
             ON CONFLICT (key) DO UPDATE SET session_id = ?2, agent = ?3, kind = ?4, label = ?5, archived = ?6, \
             updated_ms = ?8, search = ?9, entry = ?10, starts_after_seq = max(starts_after_seq, last_seq - coalesce(?11, last_seq))",
        )?
        .execute((
            &row.key,
            &row.session_id,
            &row.agent,
            row.kind.as_str(),
            &row.label,
            row.archived,
            to_signed(row.created_ms),
            to_signed(row.updated_ms),
            search_text(row),
            entry,
            keep.map(to_signed),
        ))?;
    Ok(SessionOutcome::Done)
}

/// Stores a session whose transcript begins anew.
fn restart(connection: &Connection, row: &SessionRow) -> Result<SessionOutcome, StoreError> {
    let outcome = put(connection, row, Some(0))?;
    if outcome == SessionOutcome::Done {
        runs::end_all(connection, &row.key, row.updated_ms)?;
    }
    Ok(outcome)
}

fn search_text(row: &SessionRow) -> String {
    let name = row.entry.get("displayName").and_then(serde_json::Value::as_str).unwrap_or_default();
    [&row.key, row.label.as_deref().unwrap_or_default(), &row.session_id, name].join("\n").to_lowercase()
}

fn remove(connection: &Connection, key: &str, transcript: bool) -> Result<SessionOutcome, StoreError> {
    let removed: Option<i64> = connection
        .prepare_cached("DELETE FROM sessions WHERE key = ? RETURNING id")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    let Some(session) = removed else { return Ok(SessionOutcome::Done) };
    // Its runs went with it: they refer to it. Messages go after the session: as long as that is there, each that goes gives
    // it another revision.
    if transcript {
        connection.prepare_cached("DELETE FROM messages WHERE session = ?")?.execute([session])?;
    }
    Ok(SessionOutcome::Removed { session })
}
