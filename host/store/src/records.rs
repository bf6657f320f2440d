//! Small documents of the gateway (paired devices, agents, approvals): JSON text by kind and id.
//!
//! Their owner keeps them in memory and writes every change through, so all of a kind are read at once, at the start.
//! What they mean is not known here.

use leanclaw_types::audit::AuditRecord;

use crate::audit::append;
use crate::error::StoreError;
use crate::queue::Lane;
use crate::store::Store;

/// One document that is stored or taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    /// What it is, such as `device`.
    pub kind: String,
    /// Which one.
    pub id: String,
    /// Its text; none takes it away.
    pub body: Option<String>,
}

impl Store {
    /// Every document of a kind, as id and text, sorted by id. Blocks: meant for the start.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub fn records(&self, kind: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.database.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT id, body FROM records WHERE kind = ?1 ORDER BY id")?;
            let rows = statement.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Stores all of these changes or none, with their audit rows.
    ///
    /// # Errors
    /// [`StoreError`] when nothing changed.
    pub async fn change_records(&self, changes: Vec<RecordChange>, audit: Vec<AuditRecord>) -> Result<(), StoreError> {
        let bytes = changes.iter().map(|change| change.body.as_ref().map_or(64, String::len)).sum();
        self.database
            .write(Lane::Host, bytes, move |connection| {
                for RecordChange { kind, id, body } in &changes {
                    match body {
                        Some(body) => connection
                            .prepare_cached("INSERT OR REPLACE INTO records (kind, id, body) VALUES (?1, ?2, ?3)")?
                            .execute([kind, id, body])?,
                        None => connection
                            .prepare_cached("DELETE FROM records WHERE kind = ?1 AND id = ?2")?
                            .execute([kind, id])?,
                    };
                }
                for record in &audit {
                    append(connection, record)?;
                }
                Ok(())
            })
            .await
    }
}
