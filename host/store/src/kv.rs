//! The plugins' key-value data. A file and a writer thread of its own: whatever plugins do here never holds up a grant,
//! an audit row or an inbound message.
//!
//! Everything is keyed by plugin and account; no call can name another's data.

use std::path::Path;
use std::sync::Arc;

use leanclaw_types::clock::{Clock, SystemClock};
use leanclaw_types::{AccountId, PluginId, PluginKey};

use crate::database::Database;
use crate::error::StoreError;
use crate::file::Schema;
use crate::kv_error::KvError;
use crate::kv_sql::{self, Put};
use crate::queue::Lane;

/// The longest key, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 512;
/// The largest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// Keys that one [`KvStore::keys`] gives at most.
pub const MAX_LISTED_KEYS: u32 = 1000;

/// `LCkv`.
pub(crate) const SCHEMA: Schema = Schema::new("plugin-kv.db", 0x4c43_6b76, &[include_str!("../migrations/kv-1.sql")]);

/// An entry as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was put.
    pub value: Vec<u8>,
    /// Its revision. Every put of this plugin and account gives a higher one, whatever was deleted or cleared between.
    pub revision: u64,
}

/// The plugins' key-value data, in `<data directory>/plugin-kv.db`.
///
/// An acknowledged write is on disk, as in [`Store`](crate::Store): plugins keep there what they have already answered
/// for, such as which messages they took. That costs a sync of the disk, shared by all that wait at that moment.
///
/// Entries past their time are gone for every call at once; the space they take on disk is freed bit by bit by the
/// plugin's later writes.
pub struct KvStore {
    pub(crate) database: Database,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for KvStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("KvStore")
    }
}

impl KvStore {
    /// Opens or makes `<data_dir>/plugin-kv.db`; the directory too, with mode 0700. Takes a few milliseconds, and blocks.
    ///
    /// # Errors
    /// [`StoreError`] when the file is not ours, newer than this program, damaged, locked or not accessible. Such a file
    /// is left as it was.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with_clock(data_dir, Arc::new(SystemClock))
    }

    /// [`KvStore::open`] with the clock that times to live are measured by.
    ///
    /// # Errors
    /// Those of [`KvStore::open`].
    pub fn open_with_clock(data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Ok(Self { database: Database::open(data_dir, &SCHEMA)?, clock })
    }

    /// Finishes every accepted write, refuses further ones, closes the file. Calling it again does nothing.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// What keeps `plugin-kv.db` from being written, as [`Store::trouble`](crate::Store::trouble) says it of the other file.
    #[must_use]
    pub fn trouble(&self) -> Option<StoreError> {
        self.database.trouble()
    }

    /// The entry under `key`, unless there is none or its time is over.
    ///
    /// # Errors
    /// [`KvError::Store`] when the file cannot be read.
    #[expect(clippy::unused_async, reason = "where it reads is not part of the interface")]
    pub async fn get(&self, owner: &PluginKey, key: &str) -> Result<Option<Entry>, KvError> {
        let now_ms = self.clock.now_ms();
        self.database.read(|connection| kv_sql::get(connection, owner, key, now_ms))
    }

    /// Stores `value` under `key` and answers with the entry's new revision once it is on disk.
    ///
    /// * `if_revision`: none stores over whatever is there, `Some(0)` only where nothing is, `Some(n)` only over revision
    ///   `n`.
    /// * `ttl_seconds`: none keeps the entry until it is deleted, also when the entry before it had a time; `Some(0)` is
    ///   over at once.
    /// * `quota_bytes`: what keys and values of this plugin and account may take together. An entry that takes no more
    ///   than the one it replaces is stored even when a lowered quota is exceeded already.
    ///
    /// # Errors
    /// [`KvError`]; nothing was changed then.
    pub async fn put(
        &self,
        owner: &PluginKey,
        key: &str,
        value: Vec<u8>,
        if_revision: Option<u64>,
        ttl_seconds: Option<u32>,
        quota_bytes: u64,
    ) -> Result<u64, KvError> {
        if key.len() > MAX_KEY_BYTES {
            return Err(KvError::KeyTooLong { bytes: key.len() });
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(KvError::ValueTooLarge { bytes: value.len() });
        }
        let bytes = key.len() + value.len();
        let put = Put { key: key.to_owned(), value, if_revision, ttl_seconds, quota_bytes };
        let (owner, clock) = (owner.clone(), Arc::clone(&self.clock));
        self.database
            .write(Lane::Plugin(owner.clone()), bytes, move |connection| {
                kv_sql::put(connection, &owner, &put, clock.now_ms())
            })
            .await
    }

    /// Deletes the entry under `key`. True when there was one whose time was not over.
    ///
    /// # Errors
    /// [`KvError::Store`] when nothing was changed.
    pub async fn delete(&self, owner: &PluginKey, key: &str) -> Result<bool, KvError> {
        let (owner, key, clock) = (owner.clone(), key.to_owned(), Arc::clone(&self.clock));
        self.database
            .write(Lane::Plugin(owner.clone()), key.len(), move |connection| {
                kv_sql::delete(connection, &owner, &key, clock.now_ms())
            })
            .await
    }

    /// Keys that begin with `prefix` and come after `after`, in the order of their bytes, at most `limit` of them and at
    /// most [`MAX_LISTED_KEYS`]. No character of `prefix` means anything but itself.
    ///
    /// # Errors
    /// [`KvError::Store`] when the file cannot be read.
    pub async fn keys(
        &self,
        owner: &PluginKey,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, KvError> {
        let (owner, prefix, after) = (owner.clone(), prefix.to_owned(), after.map(str::to_owned));
        let now_ms = self.clock.now_ms();
        self.database
            .read_many(move |connection| {
                kv_sql::keys(connection, &owner, &prefix, after.as_deref(), limit.min(MAX_LISTED_KEYS), now_ms)
            })
            .await
    }

    /// Bytes that the keys and values of this plugin and account take, those whose time is over left out.
    ///
    /// # Errors
    /// [`KvError::Store`] when the file cannot be read.
    pub async fn usage(&self, owner: &PluginKey) -> Result<u64, KvError> {
        let owner = owner.clone();
        let now_ms = self.clock.now_ms();
        self.database.read_many(move |connection| kv_sql::usage(connection, &owner, now_ms)).await
    }

    /// Deletes everything of this plugin and account. Revisions go on where they were.
    ///
    /// # Errors
    /// [`KvError::Store`] when nothing was changed.
    pub async fn clear(&self, owner: &PluginKey) -> Result<(), KvError> {
        let owner = owner.clone();
        self.database.write(Lane::Plugin(owner.clone()), 0, move |connection| kv_sql::clear(connection, &owner)).await
    }

    /// Deletes everything of this plugin, in all its accounts, also what `accounts` wrote before this was called and is
    /// not on disk yet. Revisions go on where they were. Gives how many entries there were.
    ///
    /// # Errors
    /// [`KvError::Store`] when not everything was deleted.
    pub async fn forget(&self, plugin: &PluginId, accounts: &[AccountId]) -> Result<u64, KvError> {
        for account in accounts {
            // Lanes overtake each other; after this nothing waits in this one.
            let key = PluginKey { plugin: plugin.clone(), account: account.clone() };
            self.database.write(Lane::Plugin(key), 0, |_| Ok::<_, KvError>(())).await?;
        }
        let plugin = plugin.clone();
        let lane = Lane::Plugin(PluginKey::default_account(plugin.clone()));
        self.database.write(lane, 0, move |connection| kv_sql::clear_all(connection, &plugin)).await
    }
}
