//! Sessions and messages that come from another program, many at a time.

use std::collections::HashSet;

use leanclaw_types::session::SessionRow;
use rusqlite::OptionalExtension as _;
use serde_json::{Map, Value};

use crate::error::StoreError;
use crate::queue::Lane;
use crate::sessions;
use crate::store::Store;
use crate::to_signed;

/// A message that another program kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignMessage {
    /// Who speaks: `user` or `assistant`.
    pub role: String,
    /// The message as the gateway protocol shows it. Its `idempotencyKey` is what it is known by when it comes again.
    pub body: Map<String, Value>,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl Store {
    /// The idempotency keys of all messages of a session, those before a reset included; none without the session.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub async fn idempotency_keys(&self, session: &str) -> Result<Option<HashSet<String>>, StoreError> {
        let session = session.to_owned();
        self.database
            .read_many(move |connection| {
                let id: Option<i64> = connection
                    .prepare_cached("SELECT id FROM sessions WHERE key = ?")?
                    .query_row([&session], |row| row.get(0))
                    .optional()?;
                let Some(id) = id else { return Ok(None) };
                let mut keys = connection.prepare_cached(
                    "SELECT body ->> '$.idempotencyKey' FROM messages \
                     WHERE session = ? AND json_type(body, '$.idempotencyKey') = 'text'",
                )?;
                let keys = keys.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?;
                Ok::<_, StoreError>(Some(keys))
            })
            .await
    }

    /// Adds messages at the end of a session's transcript, which is made when it is missing. All of them are on disk when
    /// this answers, or none is.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was stored.
    pub async fn take_in(&self, session: SessionRow, messages: Vec<ForeignMessage>) -> Result<(), StoreError> {
        let bytes = 2048 * (1 + messages.len());
        self.database
            .write(Lane::Host, bytes, move |connection| {
                let find = "SELECT id, session_id, last_seq FROM sessions WHERE key = ?";
                let found = || {
                    connection
                        .prepare_cached(find)?
                        .query_row([&session.key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                        .optional()
                };
                let there: Option<(i64, String, i64)> = found()?;
                let there = match there {
                    Some(there) => Some(there),
                    None => {
                        sessions::put(connection, &session, None)?;
                        found()?
                    }
                };
                let Some((id, session_id, mut seq)) = there else {
                    return Err(StoreError::row(format!("session {}", session.key), "it was not stored"));
                };
                let mut insert = connection.prepare_cached(
                    "INSERT INTO messages (session, session_id, seq, role, at_ms, body) VALUES (?, ?, ?, ?, ?, ?)",
                )?;
                let mut latest = 0;
                for message in &messages {
                    let body =
                        serde_json::to_string(&message.body).map_err(|error| StoreError::row("the message", error))?;
                    seq += 1;
                    latest = latest.max(to_signed(message.at_ms));
                    insert.execute((id, &session_id, seq, &message.role, to_signed(message.at_ms), body))?;
                }
                connection
                    .prepare_cached(
                        "UPDATE sessions SET last_seq = ?2, updated_ms = max(updated_ms, ?3) WHERE id = ?1",
                    )?
                    .execute((id, seq, latest))?;
                Ok(())
            })
            .await
    }
}
