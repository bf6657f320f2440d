//! The core database: opening and closing it, and forgetting a plugin. Its tables have modules of their own.

use std::path::Path;
use std::sync::Arc;

use leanclaw_types::audit::AuditRecord;
use leanclaw_types::plugin::Purged;
use leanclaw_types::{AccountId, PluginId, PluginKey};

use crate::audit::{AuditBuffer, append, keeping};
use crate::database::Database;
use crate::error::StoreError;
use crate::file::Schema;
use crate::inbox::{MAX_KEPT_BYTES, Usage};
use crate::queue::Lane;

/// `LCco`.
pub(crate) const SCHEMA: Schema = Schema::new(
    "core.db",
    0x4c43_636f,
    &[
        include_str!("../migrations/core-1.sql"),
        include_str!("../migrations/core-2.sql"),
        include_str!("../migrations/core-3.sql"),
        include_str!("../migrations/core-4.sql"),
        include_str!("../migrations/core-5.sql"),
        include_str!("../migrations/core-6.sql"),
    ],
);

/// What the host keeps, in `<data directory>/core.db`. See the crate's documentation for what an answer promises.
///
/// Share it in an `Arc`. Dropping it finishes what was accepted and blocks until that is on disk; where that must not
/// block, [`Store::close`] comes first.
pub struct Store {
    pub(crate) database: Database,
    pub(crate) audit_buffer: Arc<AuditBuffer>,
    pub(crate) inbox_usage: Arc<Usage>,
    /// The most bytes that the inbox keeps of one plugin.
    pub(crate) inbox_bytes: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Store")
    }
}

impl Store {
    /// Opens or makes `<data_dir>/core.db`; the directory too, with mode 0700. Takes a few milliseconds, and blocks.
    ///
    /// # Errors
    /// [`StoreError`] when the file is not ours, newer than this program, damaged, locked or not accessible. Such a file
    /// is left as it was.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(data_dir, &SCHEMA)
    }

    /// As [`Self::open`], and keeps about `audit_rows` rows of the audit log: with every new row the oldest beyond them are
    /// deleted, a few at a time. Opened the other way, the log is written to and nothing is deleted from it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_bounded(data_dir: &Path, audit_rows: u32) -> Result<Self, StoreError> {
        Self::open_prepared(data_dir, &SCHEMA, &keeping(audit_rows))
    }

    pub(crate) fn open_with(data_dir: &Path, schema: &Schema) -> Result<Self, StoreError> {
        Self::open_prepared(data_dir, schema, "")
    }

    fn open_prepared(data_dir: &Path, schema: &Schema, preparation: &str) -> Result<Self, StoreError> {
        Ok(Self {
            database: Database::open_prepared(data_dir, schema, preparation)?,
            audit_buffer: Arc::default(),
            inbox_usage: Arc::default(),
            inbox_bytes: MAX_KEPT_BYTES,
        })
    }

    /// Finishes every accepted write, refuses further ones, closes the file. Calling it again does nothing.
    pub async fn close(&self) {
        self.flush_audit();
        self.database.close().await;
    }

    /// How often something was stored by this process: another number before any write is answered, and never the same
    /// again for other content.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.database.commits()
    }

    /// What keeps `core.db` from being written, as the last attempt found it; none when nothing does. It is looked at again
    /// every second, also when nobody writes. Cheap. The error names the file without its folder.
    #[must_use]
    pub fn trouble(&self) -> Option<StoreError> {
        self.database.trouble()
    }

    /// Forgets a plugin: grants, secrets and handed in messages of all its accounts, and of what was learnt of components
    /// what is kept under the keys `specs`; with one audit row. Messages that `accounts` handed in before this was called
    /// are gone too when they were not written yet. Gives how much there was; key-value stores are elsewhere.
    ///
    /// # Errors
    /// [`StoreError`] when nothing changed.
    pub async fn forget(
        &self,
        plugin: &PluginId,
        accounts: &[AccountId],
        specs: Vec<String>,
        audit: AuditRecord,
    ) -> Result<Purged, StoreError> {
        for account in accounts {
            // Lanes overtake each other; after this nothing waits in this one.
            let key = PluginKey { plugin: plugin.clone(), account: account.clone() };
            self.database.write(Lane::Plugin(key), 0, |_| Ok::<_, StoreError>(())).await?;
        }
        let forgotten = plugin.clone();
        let purged = self
            .database
            .write(Lane::Host, 256, move |connection| {
                let delete = |table: &str| -> Result<u64, StoreError> {
                    let sql = format!("DELETE FROM {table} WHERE plugin = ?1");
                    let rows = connection.prepare_cached(&sql)?.execute([forgotten.as_str()])?;
                    Ok(u64::try_from(rows).unwrap_or(u64::MAX))
                };
                let purged = Purged {
                    grants: delete("grants")?,
                    secrets: delete("secrets")?,
                    messages: delete("inbox")?,
                    kv_entries: 0,
                };
                for key in &specs {
                    connection.prepare_cached("DELETE FROM specs WHERE sha256 = ?1")?.execute([key])?;
                }
                append(connection, &audit)?;
                Ok::<_, StoreError>(purged)
            })
            .await?;
        self.inbox_usage.forget(plugin);
        Ok(purged)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.flush_audit();
    }
}
