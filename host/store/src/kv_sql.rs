//! What the key-value calls do inside a transaction or a read.
//!
//! `owners.stored_bytes` counts every stored entry. Entries whose time is over still count there until they are swept, so
//! what a plugin uses is that number less those entries.

use leanclaw_types::{PluginId, PluginKey};
use rusqlite::{Connection, OptionalExtension};

use crate::error::StoreError;
use crate::kv::Entry;
use crate::kv_error::KvError;
use crate::{to_signed, to_unsigned};

/// Entries past their time that one write sweeps; bounds how long it holds the writer.
const MAX_SWEPT: i64 = 64;

/// What to store.
pub(crate) struct Put {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) if_revision: Option<u64>,
    pub(crate) ttl_seconds: Option<u32>,
    pub(crate) quota_bytes: u64,
}

/// An owner's row.
struct Owner {
    id: i64,
    revision: i64,
    stored_bytes: i64,
}

/// What is stored under a key already.
struct Stored {
    revision: i64,
    bytes: i64,
    is_over: bool,
}

pub(crate) fn get(
    connection: &Connection,
    owner: &PluginKey,
    key: &str,
    now_ms: u64,
) -> Result<Option<Entry>, KvError> {
    let mut statement = connection.prepare_cached(
        "SELECT value, entries.revision FROM owners JOIN entries ON entries.owner = owners.id
         WHERE plugin = ?1 AND account = ?2 AND key = ?3 AND (expires_at_ms IS NULL OR expires_at_ms > ?4)",
    )?;
    let names = (owner.plugin.as_str(), owner.account.as_str(), key.as_bytes(), to_signed(now_ms));
    let entry = statement
        .query_row(names, |row| Ok(Entry { value: row.get(0)?, revision: to_unsigned(row.get(1)?) }))
        .optional()?;
    Ok(entry)
}

pub(crate) fn put(connection: &Connection, owner: &PluginKey, put: &Put, now_ms: u64) -> Result<u64, KvError> {
    let mut row = find_or_make_owner(connection, owner)?;
    row.stored_bytes -= sweep(connection, row.id, now_ms)?;
    let stored = stored(connection, row.id, &put.key, now_ms)?;

    let found = stored.as_ref().filter(|stored| !stored.is_over).map(|stored| to_unsigned(stored.revision));
    match put.if_revision {
        Some(expected) if expected != found.unwrap_or(0) => return Err(KvError::Conflict { found }),
        _ => {}
    }

    let bytes = i64::try_from(put.key.len() + put.value.len()).unwrap_or(i64::MAX);
    let replaced_bytes = stored.as_ref().map_or(0, |stored| stored.bytes);
    let live_replaced_bytes = stored.as_ref().filter(|stored| !stored.is_over).map_or(0, |stored| stored.bytes);
    let grows = bytes > live_replaced_bytes;
    // What is over counts here too, so this is the quick way to a yes, never to a no.
    if grows && row.stored_bytes - replaced_bytes + bytes > to_signed(put.quota_bytes) {
        let used = row.stored_bytes - over_bytes(connection, row.id, now_ms)?;
        if used - live_replaced_bytes + bytes > to_signed(put.quota_bytes) {
            return Err(KvError::QuotaExceeded { used: to_unsigned(used), quota: put.quota_bytes });
        }
    }

    row.revision += 1;
    row.stored_bytes += bytes - replaced_bytes;
    let expires_at_ms = put.ttl_seconds.map(|seconds| to_signed(now_ms.saturating_add(u64::from(seconds) * 1000)));
    connection
        .prepare_cached(
            "INSERT INTO entries (owner, key, revision, expires_at_ms, bytes, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (owner, key) DO UPDATE SET revision = excluded.revision,
             expires_at_ms = excluded.expires_at_ms, bytes = excluded.bytes, value = excluded.value",
        )?
        .execute((row.id, put.key.as_bytes(), row.revision, expires_at_ms, bytes, &put.value))?;
    save_owner(connection, &row)?;
    Ok(to_unsigned(row.revision))
}

pub(crate) fn delete(connection: &Connection, owner: &PluginKey, key: &str, now_ms: u64) -> Result<bool, KvError> {
    let Some(mut row) = find_owner(connection, owner)? else { return Ok(false) };
    let stored = stored(connection, row.id, key, now_ms)?;
    if let Some(stored) = &stored {
        connection
            .prepare_cached("DELETE FROM entries WHERE owner = ?1 AND key = ?2")?
            .execute((row.id, key.as_bytes()))?;
        row.stored_bytes -= stored.bytes;
    }
    row.stored_bytes -= sweep(connection, row.id, now_ms)?;
    save_owner(connection, &row)?;
    Ok(stored.is_some_and(|stored| !stored.is_over))
}

pub(crate) fn keys(
    connection: &Connection,
    owner: &PluginKey,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
    now_ms: u64,
) -> Result<Vec<String>, KvError> {
    let mut statement = connection.prepare_cached(
        "SELECT key FROM owners JOIN entries ON entries.owner = owners.id
         WHERE plugin = ?1 AND account = ?2 AND key >= ?3 AND key < ?4 AND (?5 IS NULL OR key > ?5)
         AND (expires_at_ms IS NULL OR expires_at_ms > ?6) ORDER BY key LIMIT ?7",
    )?;
    // A list that goes on starts where it left off, not at the prefix.
    let from = after.filter(|after| *after > prefix).unwrap_or(prefix);
    let parameters = (
        owner.plugin.as_str(),
        owner.account.as_str(),
        from.as_bytes(),
        end_of_prefix(prefix),
        after.map(str::as_bytes),
        to_signed(now_ms),
        limit,
    );
    let rows = statement.query_map(parameters, |row| row.get::<_, Vec<u8>>(0))?;
    rows.map(|key| String::from_utf8(key?).map_err(|error| StoreError::row("a key", error).into())).collect()
}

pub(crate) fn usage(connection: &Connection, owner: &PluginKey, now_ms: u64) -> Result<u64, KvError> {
    // One statement sees one state of the file.
    let mut statement = connection.prepare_cached(
        "SELECT stored_bytes - (SELECT ifnull(sum(bytes), 0) FROM entries
                                WHERE owner = owners.id AND expires_at_ms <= ?3)
         FROM owners WHERE plugin = ?1 AND account = ?2",
    )?;
    let names = (owner.plugin.as_str(), owner.account.as_str(), to_signed(now_ms));
    let used: Option<i64> = statement.query_row(names, |row| row.get(0)).optional()?;
    Ok(used.map_or(0, to_unsigned))
}

pub(crate) fn clear(connection: &Connection, owner: &PluginKey) -> Result<(), KvError> {
    let Some(mut row) = find_owner(connection, owner)? else { return Ok(()) };
    connection.prepare_cached("DELETE FROM entries WHERE owner = ?1")?.execute([row.id])?;
    row.stored_bytes = 0;
    save_owner(connection, &row)
}

pub(crate) fn clear_all(connection: &Connection, plugin: &PluginId) -> Result<u64, KvError> {
    let entries = connection
        .prepare_cached("DELETE FROM entries WHERE owner IN (SELECT id FROM owners WHERE plugin = ?1)")?
        .execute([plugin.as_str()])?;
    connection.prepare_cached("UPDATE owners SET stored_bytes = 0 WHERE plugin = ?1")?.execute([plugin.as_str()])?;
    Ok(u64::try_from(entries).unwrap_or(u64::MAX))
}

/// The first byte string after all that begin with `prefix`. UTF-8 has no byte 0xff, so the last byte can always be
/// raised, and 0xff alone comes after every key.
fn end_of_prefix(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last = last.saturating_add(1),
        None => end.push(0xff),
    }
    end
}

fn find_owner(connection: &Connection, owner: &PluginKey) -> Result<Option<Owner>, KvError> {
    let row = connection
        .prepare_cached("SELECT id, revision, stored_bytes FROM owners WHERE plugin = ?1 AND account = ?2")?
        .query_row([owner.plugin.as_str(), owner.account.as_str()], |row| {
            Ok(Owner { id: row.get(0)?, revision: row.get(1)?, stored_bytes: row.get(2)? })
        })
        .optional()?;
    Ok(row)
}

fn find_or_make_owner(connection: &Connection, owner: &PluginKey) -> Result<Owner, KvError> {
    if let Some(row) = find_owner(connection, owner)? {
        return Ok(row);
    }
    let id = connection
        .prepare_cached("INSERT INTO owners (plugin, account, revision, stored_bytes) VALUES (?1, ?2, 0, 0)")?
        .insert([owner.plugin.as_str(), owner.account.as_str()])?;
    Ok(Owner { id, revision: 0, stored_bytes: 0 })
}

fn save_owner(connection: &Connection, row: &Owner) -> Result<(), KvError> {
    connection.prepare_cached("UPDATE owners SET revision = ?2, stored_bytes = ?3 WHERE id = ?1")?.execute((
        row.id,
        row.revision,
        row.stored_bytes,
    ))?;
    Ok(())
}

fn stored(connection: &Connection, owner: i64, key: &str, now_ms: u64) -> Result<Option<Stored>, KvError> {
    let row = connection
        .prepare_cached(
            "SELECT revision, bytes, ifnull(expires_at_ms <= ?3, false) FROM entries WHERE owner = ?1 AND key = ?2",
        )?
        .query_row((owner, key.as_bytes(), to_signed(now_ms)), |row| {
            Ok(Stored { revision: row.get(0)?, bytes: row.get(1)?, is_over: row.get(2)? })
        })
        .optional()?;
    Ok(row)
}

/// Bytes of the owner's entries whose time is over.
fn over_bytes(connection: &Connection, owner: i64, now_ms: u64) -> Result<i64, KvError> {
    let bytes = connection
        .prepare_cached("SELECT ifnull(sum(bytes), 0) FROM entries WHERE owner = ?1 AND expires_at_ms <= ?2")?
        .query_row((owner, to_signed(now_ms)), |row| row.get(0))?;
    Ok(bytes)
}

/// Removes some of the owner's entries whose time is over, the oldest first; gives their bytes.
fn sweep(connection: &Connection, owner: i64, now_ms: u64) -> Result<i64, KvError> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE owner = ?1 AND expires_at_ms <= ?2
                                          ORDER BY expires_at_ms LIMIT ?3) RETURNING bytes",
    )?;
    let mut swept = 0;
    for bytes in statement.query_map((owner, to_signed(now_ms), MAX_SWEPT), |row| row.get::<_, i64>(0))? {
        swept += bytes?;
    }
    Ok(swept)
}
