//! What components say of themselves (tools, methods, exports), by the component's hash.
//!
//! A cache: the text is the caller's, losing it costs time only.

use rusqlite::OptionalExtension;

use crate::error::StoreError;
use crate::queue::Lane;
use crate::store::Store;

/// Entries kept; the oldest go first. A plugin under development makes one per build.
pub(crate) const MAX_SPECS: i64 = 2048;

impl Store {
    /// Keeps `specs`, JSON text, for the component with this lower-case hex SHA-256, in place of what was kept for it.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was stored.
    pub async fn put_specs(&self, sha256: &str, specs: impl Into<String>) -> Result<(), StoreError> {
        let (sha256, specs) = (sha256.to_owned(), specs.into());
        self.database
            .write(Lane::Host, specs.len(), move |connection| {
                connection
                    .prepare_cached("INSERT OR REPLACE INTO specs (sha256, specs) VALUES (?1, ?2)")?
                    .execute([sha256, specs])?;
                connection
                    .prepare_cached("DELETE FROM specs WHERE id <= (SELECT max(id) FROM specs) - ?1")?
                    .execute([MAX_SPECS])?;
                Ok(())
            })
            .await
    }

    /// What is kept for the component with this SHA-256.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    #[expect(clippy::unused_async, reason = "where it reads is not part of the interface")]
    pub async fn specs(&self, sha256: &str) -> Result<Option<String>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT specs FROM specs WHERE sha256 = ?1")?;
            Ok(statement.query_row([sha256], |row| row.get(0)).optional()?)
        })
    }
}
