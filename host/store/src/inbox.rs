//! Messages that channels handed in: stored once, before the channel is told that they were taken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use leanclaw_types::message::Received;
use leanclaw_types::{PluginId, PluginKey};
use rusqlite::{Connection, OptionalExtension};

use crate::error::StoreError;
use crate::queue::Lane;
use crate::store::Store;

/// Messages that one [`Store::inbox_after`] gives at most.
const MAX_LISTED: u32 = 1000;

/// Bytes of messages that are kept of one plugin, all its accounts together.
pub(crate) const MAX_KEPT_BYTES: u64 = 256 * 1024 * 1024;

/// How much is kept of each plugin, as far as that was asked for since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<HashMap<PluginId, u64>>);

impl Usage {
    /// Counts `bytes` more of `plugin`.
    ///
    /// # Errors
    /// [`StoreError::InboxFull`], and what reading the file says the first time.
    fn add(&self, connection: &Connection, plugin: &PluginId, bytes: u64, most: u64) -> Result<(), StoreError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = match known.get(plugin) {
            Some(held) => *held,
            None => held_bytes(connection, plugin)?,
        };
        let total = held.saturating_add(bytes);
        if total > most {
            known.insert(plugin.clone(), held);
            return Err(StoreError::InboxFull { plugin: plugin.to_string(), limit_bytes: most });
        }
        known.insert(plugin.clone(), total);
        Ok(())
    }

    /// Has `plugin` counted anew: something may not have been written.
    pub(crate) fn forget(&self, plugin: &PluginId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(plugin);
    }
}

/// What the file holds of a plugin. Reads no content, but every row of the plugin.
fn held_bytes(connection: &Connection, plugin: &PluginId) -> Result<u64, StoreError> {
    let sum = |sql: &str| -> Result<u64, StoreError> {
        let bytes: i64 = connection.prepare_cached(sql)?.query_row([plugin.as_str()], |row| row.get(0))?;
        Ok(u64::try_from(bytes).unwrap_or_default())
    };
    let texts = sum("SELECT coalesce(sum(octet_length(received)), 0) FROM inbox WHERE plugin = ?1")?;
    let blobs = sum(
        "SELECT coalesce(sum(octet_length(data)), 0) FROM inbox_blobs JOIN inbox ON inbox.id = inbox_id WHERE plugin = ?1",
    )?;
    Ok(texts.saturating_add(blobs))
}

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
    /// [`StoreError`] when it was not stored; the channel should hand it in again. [`StoreError::InboxFull`] when what is
    /// kept of the plugin has 256 MiB.
    pub async fn submit(&self, mut received: Received) -> Result<Submitted, StoreError> {
        let blobs = take_blobs(&mut received);
        let json = serde_json::to_string(&received).map_err(|error| StoreError::row("the message", error))?;
        let bytes = json.len() + blobs.iter().map(|(_, data)| data.len()).sum::<usize>();
        let key = PluginKey { plugin: received.plugin.clone(), account: received.account.clone() };
        let (usage, plugin, most) = (Arc::clone(&self.inbox_usage), received.plugin.clone(), self.inbox_bytes);
        let stored = self
            .database
            .write(Lane::Plugin(key), bytes, move |connection| {
                if let Some(id) = known(connection, &received)? {
                    return Ok(Submitted::Duplicate { id });
                }
                usage.add(connection, &received.plugin, u64::try_from(bytes).unwrap_or(u64::MAX), most)?;
                insert(connection, &received, &json, &blobs)
            })
            .await;
        if stored.is_err() {
            self.inbox_usage.forget(&plugin);
        }
        stored
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

fn identity(received: &Received) -> [&str; 4] {
    [received.plugin.as_str(), received.account.as_str(), &received.channel, &received.message.id]
}

/// The row of a message that was handed in before.
fn known(connection: &Connection, received: &Received) -> Result<Option<i64>, StoreError> {
    let found = connection
        .prepare_cached("SELECT id FROM inbox WHERE plugin = ?1 AND account = ?2 AND channel = ?3 AND message_id = ?4")?
        .query_row(identity(received), |row| row.get(0))
        .optional()?;
    Ok(found)
}

fn insert(
    connection: &Connection,
    received: &Received,
    json: &str,
    blobs: &[(usize, Vec<u8>)],
) -> Result<Submitted, StoreError> {
    let [plugin, account, channel, message_id] = identity(received);
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
