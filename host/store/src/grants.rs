//! What admins granted. A change and the audit row that tells of it are one transaction: neither is ever there alone.

use leanclaw_types::audit::AuditRecord;
use leanclaw_types::permission::Permissions;
use leanclaw_types::{AccountId, PluginId, PluginKey};
use rusqlite::{OptionalExtension, Row};

use crate::audit::append;
use crate::error::StoreError;
use crate::queue::Lane;
use crate::store::Store;
use crate::{to_signed, to_unsigned};

/// The rights of one plugin and account, as granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// Whose rights.
    pub key: PluginKey,
    /// Which rights; may be none at all, which is still a grant.
    pub permissions: Permissions,
    /// When, in milliseconds since the Unix epoch.
    pub granted_at_ms: u64,
    /// Who granted them: `kind:id` of a caller, such as `client:cli`.
    pub granted_by: String,
    /// What the manifest asked for when the admin last decided; a manifest that asks for more waits for a new decision.
    pub decided: Permissions,
}

/// A row as SQLite has it.
struct RawGrant {
    plugin: String,
    account: String,
    permissions: String,
    granted_at_ms: i64,
    granted_by: String,
    decided: String,
}

impl RawGrant {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            plugin: row.get(0)?,
            account: row.get(1)?,
            permissions: row.get(2)?,
            granted_at_ms: row.get(3)?,
            granted_by: row.get(4)?,
            decided: row.get(5)?,
        })
    }

    fn parse(self) -> Result<GrantRow, StoreError> {
        let unreadable = |problem: String| {
            StoreError::row(format!("`leanclaw plugin grant {}/{}`", self.plugin, self.account), problem)
        };
        Ok(GrantRow {
            key: PluginKey {
                plugin: PluginId::new(&self.plugin).map_err(|error| unreadable(error.to_string()))?,
                account: AccountId::new(&self.account).map_err(|error| unreadable(error.to_string()))?,
            },
            permissions: serde_json::from_str(&self.permissions).map_err(|error| unreadable(error.to_string()))?,
            granted_at_ms: to_unsigned(self.granted_at_ms),
            granted_by: self.granted_by,
            decided: serde_json::from_str(&self.decided).map_err(|error| unreadable(error.to_string()))?,
        })
    }
}

impl Store {
    /// What is granted to this plugin and account. None: nothing was ever granted, or all was taken back.
    ///
    /// # Errors
    /// [`StoreError`] when the file or the row cannot be read.
    #[expect(clippy::unused_async, reason = "where it reads is not part of the interface")]
    pub async fn grant(&self, key: &PluginKey) -> Result<Option<GrantRow>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT plugin, account, permissions, granted_at_ms, granted_by, decided FROM grants
                 WHERE plugin = ?1 AND account = ?2",
            )?;
            let raw = statement.query_row([key.plugin.as_str(), key.account.as_str()], RawGrant::read).optional()?;
            raw.map(RawGrant::parse).transpose()
        })
    }

    /// Every grant, by plugin and account. A row that cannot be read is left out with a warning, as if nothing were
    /// granted: one bad row must not keep every other plugin from loading.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub async fn grants(&self) -> Result<Vec<GrantRow>, StoreError> {
        self.database
            .read_many(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT plugin, account, permissions, granted_at_ms, granted_by, decided FROM grants
                     ORDER BY plugin, account",
                )?;
                let mut grants = Vec::new();
                for raw in statement.query_map([], RawGrant::read)? {
                    match raw?.parse() {
                        Ok(grant) => grants.push(grant),
                        Err(error) => tracing::warn!(%error, "a grant is ignored"),
                    }
                }
                Ok(grants)
            })
            .await
    }

    /// Stores a grant in place of the one before, with its audit row.
    ///
    /// # Errors
    /// [`StoreError`] when neither was stored.
    pub async fn put_grant(&self, grant: GrantRow, audit: AuditRecord) -> Result<(), StoreError> {
        let text = |permissions: &Permissions| {
            serde_json::to_string(permissions)
                .map_err(|error| StoreError::row(format!("the grant of {}", grant.key), error))
        };
        let (permissions, decided) = (text(&grant.permissions)?, text(&grant.decided)?);
        self.database
            .write(Lane::Host, permissions.len() + decided.len(), move |connection| {
                connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO grants
                         (plugin, account, permissions, granted_at_ms, granted_by, decided)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    )?
                    .execute((
                        grant.key.plugin.as_str(),
                        grant.key.account.as_str(),
                        permissions,
                        to_signed(grant.granted_at_ms),
                        grant.granted_by,
                        decided,
                    ))?;
                append(connection, &audit)?;
                Ok(())
            })
            .await
    }

    /// Takes a whole grant back. True when there was one; only then is the audit row written.
    ///
    /// # Errors
    /// [`StoreError`] when nothing changed.
    pub async fn remove_grant(&self, key: &PluginKey, audit: AuditRecord) -> Result<bool, StoreError> {
        let key = key.clone();
        self.database
            .write(Lane::Host, 256, move |connection| {
                let removed = connection
                    .prepare_cached("DELETE FROM grants WHERE plugin = ?1 AND account = ?2")?
                    .execute([key.plugin.as_str(), key.account.as_str()])?;
                if removed > 0 {
                    append(connection, &audit)?;
                }
                Ok(removed > 0)
            })
            .await
    }
}
