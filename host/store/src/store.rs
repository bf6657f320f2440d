//! The core database: opening and closing it, and forgetting a plugin. Its tables have modules of their own.

use std::path::Path;
use std::sync::Arc;

use leanclaw_types::PluginId;
use leanclaw_types::audit::AuditRecord;

use crate::audit::{AuditBuffer, append};
use crate::database::Database;
use crate::error::StoreError;
use crate::file::Schema;
use crate::inbox::{MAX_KEPT_BYTES, Usage};
use crate::queue::Lane;

/// `LCco`.
pub(crate) const SCHEMA: Schema = Schema::new(
    "core.db",
    0x4c43_636f,
    &[include_str!("../migrations/core-1.sql"), include_str!("../migrations/core-2.sql")],
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

    pub(crate) fn open_with(data_dir: &Path, schema: &Schema) -> Result<Self, StoreError> {
        Ok(Self {
            database: Database::open(data_dir, schema)?,
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

    /// Forgets a plugin: grants and secrets of all its accounts, with one audit row.
    ///
    /// # Errors
    /// [`StoreError`] when nothing changed.
    pub async fn forget(&self, plugin: &PluginId, audit: AuditRecord) -> Result<(), StoreError> {
        let plugin = plugin.clone();
        self.database
            .write(Lane::Host, 256, move |connection| {
                for table in ["grants", "secrets"] {
                    let sql = format!("DELETE FROM {table} WHERE plugin = ?1");
                    connection.prepare_cached(&sql)?.execute([plugin.as_str()])?;
                }
                append(connection, &audit)?;
                Ok(())
            })
            .await
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.flush_audit();
    }
}
