//! Messages that channels handed in: stored once, before the channel is told that they were taken.

use leanclaw_types::PluginKey;
use leanclaw_types::message::Received;
use rusqlite::{Connection, OptionalExtension};

use crate::error::StoreError;
use crate::queue::Lane;
use crate::store::Store;

/// Messages that one [`Store::inbox_after`] gives at most.
const MAX_LISTED: u32 = 1000;

/// What became of a message that was handed in. Either way it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// It is new.
    Accepted {
        /// Its row, rising.
        id: i64,
    },
    /// The same plugin, account and channel handed in a message with this message id before; that one stays as it is.
    Duplicate {
        /// The row of the first one.
        id: i64,
    },
}

/// A message as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxRow {
    /// Rises with every message.
    pub id: i64,
    /// The message.
    pub received: Received,
}

impl Store {
    /// Stores a message unless it is there already, and answers once it is on disk.
    ///
    /// # Errors
    /// [`StoreError`] when it was not stored; the channel should hand it in again.
    pub async fn submit(&self, mut received: Received) -> Result<Submitted, StoreError> {
        let blobs = take_blobs(&mut received);
        let json = serde_json::to_string(&received).map_err(|error| StoreError::row("the message", error))?;
        let bytes = json.len() + blobs.iter().map(|(_, data)| data.len()).sum::<usize>();
        let key = PluginKey { plugin: received.plugin.clone(), account: received.account.clone() };
        self.database
            .write(Lane::Plugin(key), bytes, move |connection| insert(connection, &received, &json, &blobs))
            .await
    }

    /// The messages after row `id` (0: from the first), oldest first, at most `limit` of them and at most 1000.
    ///
    /// # Errors
    /// [`StoreError`] when the file or a row cannot be read.
    pub async fn inbox_after(&self, id: i64, limit: u32) -> Result<Vec<InboxRow>, StoreError> {
        self.database
            .read_many(move |connection| {
                let mut statement =
                    connection.prepare_cached("SELECT id, received FROM inbox WHERE id > ?1 ORDER BY id LIMIT ?2")?;
                let rows = statement.query_map((id, limit.min(MAX_LISTED)), |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
                })?;
                rows.map(|row| {
                    let (id, json) = row?;
                    let mut received = serde_json::from_str(&json)
                        .map_err(|error| StoreError::row(format!("inbox message {id}"), error))?;
                    give_blobs_back(connection, id, &mut received)?;
                    Ok(InboxRow { id, received })
                })
                .collect()
            })
            .await
    }
}

fn insert(
    connection: &Connection,
    received: &Received,
    json: &str,
    blobs: &[(usize, Vec<u8>)],
) -> Result<Submitted, StoreError> {
    let identity = [received.plugin.as_str(), received.account.as_str(), &received.channel, &received.message.id];
    let known = connection
        .prepare_cached("SELECT id FROM inbox WHERE plugin = ?1 AND account = ?2 AND channel = ?3 AND message_id = ?4")?
        .query_row(identity, |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(Submitted::Duplicate { id });
    }
    let [plugin, account, channel, message_id] = identity;
    let id = connection
        .prepare_cached(
            "INSERT INTO inbox (plugin, account, channel, message_id, received) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .insert([plugin, account, channel, message_id, json])?;
    let mut statement =
        connection.prepare_cached("INSERT INTO inbox_blobs (inbox_id, part, data) VALUES (?1, ?2, ?3)")?;
    for (part, data) in blobs {
        statement.execute((id, i64::try_from(*part).unwrap_or(i64::MAX), data))?;
    }
    Ok(Submitted::Accepted { id })
}

/// Takes the bytes out of the message's blobs: position of the part, and bytes.
fn take_blobs(received: &mut Received) -> Vec<(usize, Vec<u8>)> {
    let parts = received.message.parts.iter_mut().enumerate();
    parts
        .filter_map(|(part, content)| content.blob.as_mut().map(|blob| (part, std::mem::take(&mut blob.data))))
        .filter(|(_, data)| !data.is_empty())
        .collect()
}

fn give_blobs_back(connection: &Connection, id: i64, received: &mut Received) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached("SELECT part, data FROM inbox_blobs WHERE inbox_id = ?1")?;
    for row in statement.query_map([id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))? {
        let (part, data) = row?;
        let content = usize::try_from(part).ok().and_then(|part| received.message.parts.get_mut(part));
        if let Some(blob) = content.and_then(|content| content.blob.as_mut()) {
            blob.data = data;
        }
    }
    Ok(())
}
