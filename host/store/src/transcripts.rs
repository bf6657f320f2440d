//! What was said in sessions: messages with rising numbers, and the tokens they report.

use std::collections::HashSet;

use leanclaw_types::session::{
    Appended, NewMessage, TokenSums, Transcript, TranscriptMessage, TranscriptQuery, UsageCell, UsageQuery,
};
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::{Map, Value};

use crate::error::StoreError;
use crate::queue::Lane;
use crate::store::Store;
use crate::{to_signed, to_unsigned};

/// Messages that one [`Store::transcript`] gives at most.
const MAX_MESSAGES: u64 = 1000;
/// The newest message in sight that was added under an idempotency key. Its index is named, so that this is an error and
/// not a reading of every message where the index cannot be used: it runs before every message that has a key.
pub(crate) const SAME: &str = "
SELECT m.id, m.seq, m.role, m.at_ms, m.body
FROM messages AS m INDEXED BY messages_by_idempotency_key
WHERE m.session = (SELECT id FROM sessions WHERE key = ?1)
    AND m.body ->> '$.idempotencyKey' = ?2 AND json_type(m.body, '$.idempotencyKey') = 'text'
    AND m.seq > (SELECT starts_after_seq FROM sessions WHERE key = ?1)
ORDER BY m.seq DESC LIMIT 1
";
/// What is in sight of a session, newest first: read as far as it is wanted, and of one moment.
pub(crate) const HISTORY: &str = "
SELECT m.id, m.seq, m.role, m.at_ms, m.body, json_extract(m.body, '$.__openclaw.runId') FROM sessions AS s
JOIN messages AS m ON m.session = s.id WHERE s.key = ?1 AND m.seq > s.starts_after_seq ORDER BY m.seq DESC
";
/// The newest message of a run behind the one that it answers.
pub(crate) const OF_RUN: &str = "
SELECT m.id, m.seq, m.role, m.at_ms, m.body FROM sessions AS s JOIN messages AS m ON m.session = s.id
WHERE s.key = ?1 AND m.id > ?2 AND json_extract(m.body, '$.__openclaw.runId') = ?3 ORDER BY m.seq DESC LIMIT 1
";

impl Store {
    /// A session's transcript since its last reset, or a part of it; empty when there is no such session.
    ///
    /// # Errors
    /// [`StoreError`] when the file or a row cannot be read.
    pub async fn transcript(&self, key: &str, query: TranscriptQuery) -> Result<Transcript, StoreError> {
        let key = key.to_owned();
        self.database.read_many(move |connection| transcript(connection, &key, query)).await
    }

    /// Adds a message to a session's transcript and answers with it once it is on disk; none when there is no such
    /// session.
    ///
    /// # Errors
    /// [`StoreError`] when it was not stored.
    pub async fn append_message(
        &self,
        key: &str,
        role: &str,
        body: Map<String, Value>,
        at_ms: u64,
    ) -> Result<Option<TranscriptMessage>, StoreError> {
        let message = NewMessage { role: role.to_owned(), body, at_ms };
        Ok(self.append_once(key, message).await?.map(|appended| appended.message))
    }

    /// As [`Store::append_message`]; a message whose `idempotencyKey` one of the session has since its last reset is
    /// that one.
    ///
    /// # Errors
    /// [`StoreError`] when it was not stored.
    pub async fn append_once(&self, key: &str, message: NewMessage) -> Result<Option<Appended>, StoreError> {
        let key = key.to_owned();
        let json = json(&message)?;
        self.database.write(Lane::Host, json.len(), move |connection| add_once(connection, &key, message, json)).await
    }

    /// Adds what a run said to a session's transcript, in this order, all of it in one transaction; none when there is no such
    /// session. Each message goes as with [`Store::append_once`]: one that is there already is given as it is.
    ///
    /// The transcript is the session's as it is now. Where that began anew since the run did, what comes late is seen in the
    /// new one and not lost: what it used has to be counted. Whoever has a transcript begin anew ends the session's runs
    /// before, and by then they have said all they had to.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was stored.
    pub async fn append_run_messages(
        &self,
        key: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Option<Vec<TranscriptMessage>>, StoreError> {
        let key = key.to_owned();
        let with_json = |message| Ok((json(&message)?, message));
        let messages = messages.into_iter().map(with_json).collect::<Result<Vec<_>, StoreError>>()?;
        let bytes = messages.iter().map(|(json, _)| json.len()).sum();
        self.database
            .write(Lane::Host, bytes, move |connection| {
                let exists = connection.prepare_cached("SELECT 1 FROM sessions WHERE key = ?")?.exists([&key])?;
                if !exists {
                    return Ok(None);
                }
                let mut added = Vec::with_capacity(messages.len());
                for (json, message) in messages {
                    added.extend(add_once(connection, &key, message, json)?.map(|appended| appended.message));
                }
                Ok::<_, StoreError>(Some(added))
            })
            .await
    }

    /// The newest messages of a session since its last reset whose bodies have no more than `most_bytes` together, as JSON, and
    /// which belong to none of the runs in `without`. Oldest first, and none else left out in between: the first that does not
    /// fit is where it ends, so there are none when the newest does not fit. They may begin in the middle of an exchange. Empty
    /// when there is no such session.
    ///
    /// # Errors
    /// [`StoreError`] when the file or a row cannot be read.
    pub async fn history(
        &self,
        key: &str,
        without: HashSet<String>,
        most_bytes: usize,
    ) -> Result<Vec<TranscriptMessage>, StoreError> {
        let key = key.to_owned();
        self.database.read_many(move |connection| history(connection, &key, &without, most_bytes)).await
    }

    /// The newest message that a run left behind after the one it answers, `prompt`; none when it left nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the file or the row cannot be read.
    pub async fn last_of_run(
        &self,
        key: &str,
        run_id: &str,
        prompt: i64,
    ) -> Result<Option<TranscriptMessage>, StoreError> {
        let (key, run_id) = (key.to_owned(), run_id.to_owned());
        self.database
            .read_many(move |connection| {
                let mut statement = connection.prepare_cached(OF_RUN)?;
                statement.query_row((key, prompt, run_id), message).optional()?.map(whole).transpose()
            })
            .await
    }

    /// What was said and used in a span of time, by session, day, role, provider and model. Reads every message of that
    /// time.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub async fn usage_of_sessions(&self, query: UsageQuery) -> Result<Vec<UsageCell>, StoreError> {
        self.database
            .read_many(move |connection| {
                let mut statement = connection.prepare_cached(USAGE)?;
                let values = (
                    to_signed(query.from_ms),
                    to_signed(query.until_ms),
                    query.day_shift_ms,
                    query.key.as_deref(),
                    query.agent.as_deref(),
                );
                let cells = statement.query_map(values, cell)?;
                Ok(cells.collect::<Result<_, _>>()?)
            })
            .await
    }
}

/// The body of a message as it is stored.
pub(crate) fn json(message: &NewMessage) -> Result<String, StoreError> {
    serde_json::to_string(&message.body).map_err(|error| StoreError::row("the message", error))
}

fn add_once(
    connection: &Connection,
    key: &str,
    message: NewMessage,
    json: String,
) -> Result<Option<Appended>, StoreError> {
    if let Some(message) = said_before(connection, key, &message)? {
        return Ok(Some(Appended { message, repeated: true }));
    }
    Ok(add(connection, key, message, json)?.map(|message| Appended { message, repeated: false }))
}

/// The message that has the idempotency key of this one.
pub(crate) fn said_before(
    connection: &Connection,
    key: &str,
    message: &NewMessage,
) -> Result<Option<TranscriptMessage>, StoreError> {
    match message.body.get("idempotencyKey").and_then(Value::as_str) {
        Some(id) => same(connection, key, id),
        None => Ok(None),
    }
}

/// Adds a message, its body given as [`json`] too, whether it was said before or not; none when there is no such session.
pub(crate) fn add(
    connection: &Connection,
    key: &str,
    message: NewMessage,
    json: String,
) -> Result<Option<TranscriptMessage>, StoreError> {
    let NewMessage { role, body, at_ms } = message;
    // With a revision set here, the row is not written once more for it. The message gives it another.
    let session: Option<(i64, String, i64)> = connection
        .prepare_cached(
            "UPDATE sessions SET last_seq = last_seq + 1, updated_ms = max(updated_ms, ?2), \
             revision = revision + 1 WHERE key = ?1 RETURNING id, session_id, last_seq",
        )?
        .query_row((key, to_signed(at_ms)), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((session, session_id, seq)) = session else { return Ok(None) };
    let id = connection
        .prepare_cached("INSERT INTO messages (session, session_id, seq, role, at_ms, body) VALUES (?, ?, ?, ?, ?, ?)")?
        .insert((session, session_id, seq, &role, to_signed(at_ms), json))?;
    Ok(Some(TranscriptMessage { id, seq: to_unsigned(seq), role, body, at_ms }))
}

/// The message with that id, in sight or not.
pub(crate) fn by_id(connection: &Connection, id: i64) -> Result<Option<TranscriptMessage>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id, seq, role, at_ms, body FROM messages WHERE id = ?")?;
    statement.query_row([id], message).optional()?.map(whole).transpose()
}

fn history(
    connection: &Connection,
    key: &str,
    without: &HashSet<String>,
    most_bytes: usize,
) -> Result<Vec<TranscriptMessage>, StoreError> {
    let mut statement = connection.prepare_cached(HISTORY)?;
    let mut rows = statement.query([key])?;
    let (mut messages, mut left) = (Vec::new(), most_bytes);
    while let Some(row) = rows.next()? {
        let run: Option<String> = row.get(5)?;
        if run.is_some_and(|run| without.contains(&run)) {
            continue;
        }
        let (message, body) = message(row)?;
        let Some(rest) = left.checked_sub(body.len()) else { break };
        left = rest;
        messages.push(whole((message, body))?);
    }
    messages.reverse();
    Ok(messages)
}

fn transcript(connection: &Connection, key: &str, query: TranscriptQuery) -> Result<Transcript, StoreError> {
    let session: Option<(i64, i64, i64)> = connection
        .prepare_cached("SELECT id, last_seq, starts_after_seq FROM sessions WHERE key = ?")?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((session, last_seq, starts_after)) = session else { return Ok(Transcript::default()) };
    let after = query.after_seq.map_or(starts_after, |seq| to_signed(seq).max(starts_after));
    let order = if query.oldest { "ASC" } else { "DESC" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, seq, role, at_ms, body FROM messages WHERE session = ? AND seq > ? AND id <= ? \
         ORDER BY seq {order} LIMIT ? OFFSET ?",
    ))?;
    let up_to = query.up_to_id.unwrap_or(i64::MAX);
    let values = (session, after, up_to, to_signed(query.limit.min(MAX_MESSAGES)), to_signed(query.offset));
    let mut messages = statement.query_map(values, message)?.map(|row| whole(row?)).collect::<Result<Vec<_>, _>>()?;
    if !query.oldest {
        messages.reverse();
    }
    Ok(Transcript {
        messages,
        total: to_unsigned(last_seq.saturating_sub(starts_after)),
        last_seq: to_unsigned(last_seq),
        starts_after_seq: to_unsigned(starts_after),
    })
}

/// A message without its body, and that as JSON text.
fn message(row: &Row<'_>) -> rusqlite::Result<(TranscriptMessage, String)> {
    let message = TranscriptMessage {
        id: row.get(0)?,
        seq: to_unsigned(row.get(1)?),
        role: row.get(2)?,
        body: Map::new(),
        at_ms: to_unsigned(row.get(3)?),
    };
    Ok((message, row.get(4)?))
}

fn whole((mut message, body): (TranscriptMessage, String)) -> Result<TranscriptMessage, StoreError> {
    message.body =
        serde_json::from_str(&body).map_err(|error| StoreError::row(format!("message {}", message.id), error))?;
    Ok(message)
}

/// The message with that idempotency key among those of a session that are in sight.
fn same(connection: &Connection, key: &str, id: &str) -> Result<Option<TranscriptMessage>, StoreError> {
    connection.prepare_cached(SAME)?.query_row((key, id), message).optional()?.map(whole).transpose()
}

/// Numbers of a usage that are missing count as nothing.
const USAGE: &str = "
SELECT s.key, (m.at_ms + ?3) / 86400000 AS day, m.role,
    m.body ->> '$.provider' AS provider, m.body ->> '$.model' AS model,
    count(*), coalesce(sum(coalesce(m.body ->> '$.isError', 0) OR m.body ->> '$.stopReason' = 'error'), 0),
    min(m.at_ms), max(m.at_ms),
    cast(coalesce(sum(m.body ->> '$.usage.input'), 0) AS INTEGER), cast(coalesce(sum(m.body ->> '$.usage.output'), 0) AS INTEGER),
    cast(coalesce(sum(m.body ->> '$.usage.cacheRead'), 0) AS INTEGER), cast(coalesce(sum(m.body ->> '$.usage.cacheWrite'), 0) AS INTEGER),
    cast(coalesce(sum(m.body ->> '$.usage.totalTokens'), 0) AS INTEGER),
    coalesce(sum(m.body ->> '$.usage.cost.input'), 0.0), coalesce(sum(m.body ->> '$.usage.cost.output'), 0.0),
    coalesce(sum(m.body ->> '$.usage.cost.cacheRead'), 0.0), coalesce(sum(m.body ->> '$.usage.cost.cacheWrite'), 0.0),
    coalesce(sum(m.body ->> '$.usage.cost.total'), 0.0),
    coalesce(sum(m.body ->> '$.usage.totalTokens' > 0 AND m.body ->> '$.usage.cost.total' IS NULL), 0)
FROM messages m JOIN sessions s ON s.id = m.session
WHERE m.at_ms >= ?1 AND m.at_ms < ?2 AND (?4 IS NULL OR s.key = ?4) AND (?5 IS NULL OR s.agent = ?5)
GROUP BY s.key, day, m.role, provider, model ORDER BY s.key, day, m.role, provider, model";

fn cell(row: &Row<'_>) -> rusqlite::Result<UsageCell> {
    let number = |column: usize| Ok::<u64, rusqlite::Error>(to_unsigned(row.get(column)?));
    let tokens = TokenSums {
        input: number(9)?,
        output: number(10)?,
        cache_read: number(11)?,
        cache_write: number(12)?,
        total: number(13)?,
        input_cost: row.get(14)?,
        output_cost: row.get(15)?,
        cache_read_cost: row.get(16)?,
        cache_write_cost: row.get(17)?,
        total_cost: row.get(18)?,
        missing_costs: number(19)?,
    };
    Ok(UsageCell {
        key: row.get(0)?,
        day: row.get(1)?,
        role: row.get(2)?,
        provider: row.get(3)?,
        model: row.get(4)?,
        messages: number(5)?,
        errors: number(6)?,
        first_ms: number(7)?,
        last_ms: number(8)?,
        tokens,
    })
}
