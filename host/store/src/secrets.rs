//! Secrets of plugins. They leave this crate as [`Secret`] only, and no listing holds a value.

use leanclaw_types::PluginKey;
use leanclaw_types::audit::AuditRecord;
use leanclaw_types::redact::Secret;
use rusqlite::OptionalExtension;

use crate::audit::append;
use crate::error::StoreError;
use crate::queue::Lane;
use crate::store::Store;

impl Store {
    /// Stores a secret in place of the one before, with its audit row.
    ///
    /// # Errors
    /// [`StoreError`] when neither was stored.
    pub async fn put_secret(
        &self,
        key: &PluginKey,
        name: &str,
        secret: Secret,
        audit: AuditRecord,
    ) -> Result<(), StoreError> {
        let (key, name) = (key.clone(), name.to_owned());
        self.database
            .write(Lane::Host, secret.expose().len(), move |connection| {
                connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO secrets (plugin, account, name, value) VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute([key.plugin.as_str(), key.account.as_str(), &name, secret.expose()])?;
                append(connection, &audit)?;
                Ok(())
            })
            .await
    }

    /// A secret's value.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub fn secret(&self, key: &PluginKey, name: &str) -> Result<Option<Secret>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT value FROM secrets WHERE plugin = ?1 AND account = ?2 AND name = ?3")?;
            let names = [key.plugin.as_str(), key.account.as_str(), name];
            Ok(statement.query_row(names, |row| row.get::<_, String>(0).map(Secret::new)).optional()?)
        })
    }

    /// The names of a plugin's secrets, sorted.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub async fn secret_names(&self, key: &PluginKey) -> Result<Vec<String>, StoreError> {
        let key = key.clone();
        self.database
            .read_many(move |connection| {
                let mut statement = connection
                    .prepare_cached("SELECT name FROM secrets WHERE plugin = ?1 AND account = ?2 ORDER BY name")?;
                let names = statement.query_map([key.plugin.as_str(), key.account.as_str()], |row| row.get(0))?;
                Ok(names.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Removes a secret. True when there was one; only then is the audit row written.
    ///
    /// # Errors
    /// [`StoreError`] when nothing changed.
    pub async fn remove_secret(&self, key: &PluginKey, name: &str, audit: AuditRecord) -> Result<bool, StoreError> {
        let (key, name) = (key.clone(), name.to_owned());
        self.database
            .write(Lane::Host, 256, move |connection| {
                let removed = connection
                    .prepare_cached("DELETE FROM secrets WHERE plugin = ?1 AND account = ?2 AND name = ?3")?
                    .execute([key.plugin.as_str(), key.account.as_str(), &name])?;
                if removed > 0 {
                    append(connection, &audit)?;
                }
                Ok(removed > 0)
            })
            .await
    }
}
