//! What this crate needs from the rest of the program, one small trait per need. The binary implements them on the
//! store and the configuration; tests implement them in memory.

use std::sync::Arc;

use async_trait::async_trait;
use leanclaw_types::audit::AuditRecord;
use leanclaw_types::clock::Clock;
use leanclaw_types::message::Received;
use leanclaw_types::permission::Permissions;
use leanclaw_types::redact::Secret;
use leanclaw_types::{AccountId, Failure, PluginId, PluginKey};
use serde_json::Value;

/// A value in a plugin's key-value store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    /// The bytes.
    pub value: Vec<u8>,
    /// Rises with every write of this plugin and account.
    pub revision: u64,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct KvPut {
    /// None: over whatever is there. `Some(0)`: only if absent. `Some(n)`: only over revision `n`.
    pub if_revision: Option<u64>,
    /// Seconds until the entry is gone; none is for ever.
    pub ttl_seconds: Option<u32>,
    /// The most bytes that all keys and values of this plugin and account may take.
    pub quota_bytes: u64,
}

/// Key-value storage, separate per plugin and account.
#[async_trait]
pub trait Kv: Send + Sync {
    /// Reads an entry.
    async fn get(&self, key: &PluginKey, name: &str) -> Result<Option<KvEntry>, Failure>;
    /// Writes an entry and gives its revision; `conflict` when `if_revision` does not hold, `budget-exhausted` over the
    /// quota.
    async fn put(&self, key: &PluginKey, name: &str, value: Vec<u8>, put: KvPut) -> Result<u64, Failure>;
    /// Removes an entry; whether it was there.
    async fn delete(&self, key: &PluginKey, name: &str) -> Result<bool, Failure>;
    /// Names that start with `prefix`, sorted, after `after`.
    async fn keys(
        &self,
        key: &PluginKey,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Failure>;
}

/// What an admin gave a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGrant {
    /// The rights.
    pub permissions: Permissions,
    /// What the manifest asked for when the admin last decided. A manifest that asks for more than this waits for a new
    /// decision.
    pub decided: Permissions,
    /// Who decided, as `kind:id`.
    pub granted_by: String,
}

/// Where grants are kept.
#[async_trait]
pub trait Grants: Send + Sync {
    /// The grant of one plugin and account, if any.
    async fn grant(&self, key: &PluginKey) -> Result<Option<StoredGrant>, Failure>;
    /// Every grant.
    async fn grants(&self) -> Result<Vec<(PluginKey, StoredGrant)>, Failure>;
    /// Writes a grant and its audit row in one transaction.
    async fn put_grant(&self, key: &PluginKey, grant: StoredGrant, audit: AuditRecord) -> Result<(), Failure>;
    /// Removes a grant, with its audit row, in one transaction.
    async fn remove_grant(&self, key: &PluginKey, audit: AuditRecord) -> Result<(), Failure>;
}

/// Settings from the configuration.
pub trait Settings: Send + Sync {
    /// Why the configuration keeps this account of a plugin from being loaded and what to change; none when it does not.
    fn refusal(&self, key: &PluginKey) -> Option<String>;
    /// The accounts that are configured beside the default one.
    fn accounts(&self, plugin: &PluginId) -> Vec<AccountId>;
    /// The settings of one account, not yet validated; an empty object when there are none.
    fn settings(&self, key: &PluginKey) -> Value;
}

/// Where secret values come from. They never reach a guest.
pub trait Secrets: Send + Sync {
    /// The value of a secret, if an admin stored one. Asked at the last moment, for every use; must be quick.
    fn secret(&self, key: &PluginKey, name: &str) -> Option<Secret>;
}

/// Where messages that people wrote go.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Stores a message before it answers: `accepted`, `duplicate`, `pairing-required`, `denied`, `throttled`.
    async fn submit(&self, message: Received) -> Result<String, Failure>;
}

/// What was learnt from a component once and holds for ever, keyed by text.
#[async_trait]
pub trait Memo: Send + Sync {
    /// What was stored under `key`.
    async fn recall(&self, key: &str) -> Option<String>;
    /// Stores a text under `key`. A failure only costs time later, so it is not reported.
    async fn remember(&self, key: String, value: String);
}

/// Where audit rows go. Must not block.
pub trait Audit: Send + Sync {
    /// Takes one row.
    fn audit(&self, record: AuditRecord);
}

/// Everything the plugin runtime needs.
#[derive(Clone)]
pub struct Services {
    /// Key-value storage.
    pub kv: Arc<dyn Kv>,
    /// Grants.
    pub grants: Arc<dyn Grants>,
    /// Settings.
    pub settings: Arc<dyn Settings>,
    /// Secrets.
    pub secrets: Arc<dyn Secrets>,
    /// The inbox.
    pub inbox: Arc<dyn Inbox>,
    /// Memory across restarts.
    pub memo: Arc<dyn Memo>,
    /// The audit log.
    pub audit: Arc<dyn Audit>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}
