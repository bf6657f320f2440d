//! What the plugin runtime needs, on the store and the configuration.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use leanclaw_egress::{Egress, SystemResolver};
use leanclaw_plugin::services::{
    Audit, Grants, Inbox, Kv, KvEntry, KvPut, Memo, Secrets, Services, Settings, StoredGrant,
};
use leanclaw_plugin::{EgressWatch, Mode, Plugins, PluginsOptions, Recycling};
use leanclaw_store::{GrantRow, KvStore, Store, Submitted};
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::clock::{Clock, SystemClock};
use leanclaw_types::message::Received;
use leanclaw_types::redact::Secret;
use leanclaw_types::{AccountId, Failure, PluginId, PluginKey};
use leanclaw_wasm::{EngineSettings, Wasm};
use serde_json::Value;

use crate::config::{Config, PluginsConfig, Pooling};

/// The plugin section of the configuration, which may change while the program runs.
pub(crate) type SharedPlugins = Arc<RwLock<PluginsConfig>>;

/// The stores and the configuration, as the plugin runtime sees them.
struct Backing {
    store: Arc<Store>,
    kv: Arc<KvStore>,
    plugins: SharedPlugins,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Kv for Backing {
    async fn get(&self, key: &PluginKey, name: &str) -> Result<Option<KvEntry>, Failure> {
        let found = self.kv.get(key, name).await?;
        Ok(found.map(|entry| KvEntry { value: entry.value, revision: entry.revision }))
    }

    async fn put(&self, key: &PluginKey, name: &str, value: Vec<u8>, put: KvPut) -> Result<u64, Failure> {
        Ok(self.kv.put(key, name, value, put.if_revision, put.ttl_seconds, put.quota_bytes).await?)
    }

    async fn delete(&self, key: &PluginKey, name: &str) -> Result<bool, Failure> {
        Ok(self.kv.delete(key, name).await?)
    }

    async fn keys(
        &self,
        key: &PluginKey,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, Failure> {
        Ok(self.kv.keys(key, prefix, after, limit).await?)
    }
}

/// A stored grant, as the plugin runtime sees it.
fn stored(row: GrantRow) -> (PluginKey, StoredGrant) {
    let grant = StoredGrant { permissions: row.permissions, decided: row.decided, granted_by: row.granted_by };
    (row.key, grant)
}

#[async_trait]
impl Grants for Backing {
    async fn grant(&self, key: &PluginKey) -> Result<Option<StoredGrant>, Failure> {
        Ok(self.store.grant(key).await?.map(|row| stored(row).1))
    }

    async fn grants(&self) -> Result<Vec<(PluginKey, StoredGrant)>, Failure> {
        Ok(self.store.grants().await?.into_iter().map(stored).collect())
    }

    async fn put_grant(&self, key: &PluginKey, grant: StoredGrant, audit: AuditRecord) -> Result<(), Failure> {
        let row = GrantRow {
            key: key.clone(),
            permissions: grant.permissions,
            granted_at_ms: self.clock.now_ms(),
            granted_by: grant.granted_by,
            decided: grant.decided,
        };
        Ok(self.store.put_grant(row, audit).await?)
    }

    async fn remove_grant(&self, key: &PluginKey, audit: AuditRecord) -> Result<(), Failure> {
        self.store.remove_grant(key, audit).await?;
        Ok(())
    }
}

impl Backing {
    fn plugins(&self) -> RwLockReadGuard<'_, PluginsConfig> {
        self.plugins.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settings for Backing {
    fn refusal(&self, key: &PluginKey) -> Option<String> {
        self.plugins().refusal(key)
    }

    fn accounts(&self, plugin: &PluginId) -> Vec<AccountId> {
        self.plugins().accounts(plugin)
    }

    fn settings(&self, key: &PluginKey) -> Value {
        Value::Object(self.plugins().settings(key))
    }
}

impl Secrets for Backing {
    fn secret(&self, key: &PluginKey, name: &str) -> Option<Secret> {
        self.store.secret(key, name).unwrap_or_else(|error| {
            tracing::error!(plugin = %key, name, %error, "a secret cannot be read");
            None
        })
    }
}

#[async_trait]
impl Inbox for Backing {
    async fn submit(&self, message: Received) -> Result<String, Failure> {
        Ok(match self.store.submit(message).await? {
            Submitted::Accepted { .. } => "accepted".to_owned(),
            Submitted::Duplicate { .. } => "duplicate".to_owned(),
        })
    }
}

#[async_trait]
impl Memo for Backing {
    async fn recall(&self, key: &str) -> Option<String> {
        self.store.specs(key).await.unwrap_or_else(|error| {
            tracing::warn!(key, %error, "what was learnt of a component cannot be read; it is asked again");
            None
        })
    }

    async fn remember(&self, key: String, value: String) {
        if let Err(error) = self.store.put_specs(&key, value).await {
            tracing::warn!(key, %error, "what was learnt of a component cannot be kept; it is asked again next time");
        }
    }
}

impl Audit for Backing {
    fn audit(&self, record: AuditRecord) {
        self.store.audit_soon(record);
    }
}

/// The audit log of a command that only looks: it finds plugins in a state and brings none about, so the states it finds
/// are not written down.
struct Looking(Arc<Backing>);

impl Audit for Looking {
    fn audit(&self, record: AuditRecord) {
        if !matches!(record.event, AuditEvent::PluginState { .. } | AuditEvent::PluginRefused { .. }) {
            self.0.audit(record);
        }
    }
}

/// Everything a program with plugins holds.
pub(crate) struct Parts {
    pub(crate) store: Arc<Store>,
    pub(crate) kv: Arc<KvStore>,
    pub(crate) plugins: Plugins,
    /// What the configuration says about plugins; a change counts from the next reload of a plugin on.
    pub(crate) section: SharedPlugins,
    /// The way out, to be told where the program listens.
    pub(crate) egress: Egress,
    /// What guests run on.
    pub(crate) wasm: Wasm,
}

impl Parts {
    /// Closes the stores, after everything that was accepted is written.
    pub(crate) async fn close(&self) {
        self.store.close().await;
        self.kv.close().await;
    }
}

/// Opens the stores, makes the engine, and puts the plugin runtime on them. Nothing is loaded yet.
///
/// # Errors
/// A store or the engine cannot be opened; the error says which and what to do.
pub(crate) fn open(config: &Config, mode: Mode) -> Result<Parts> {
    open_with_cache(config, mode, cache_dir(&config.data_dir))
}

/// Where compiled code of a data directory is kept.
pub(crate) fn cache_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("cache").join("components")
}

/// As [`open`], with compiled code kept elsewhere.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_with_cache(config: &Config, mode: Mode, cache_dir: PathBuf) -> Result<Parts> {
    let store = Arc::new(Store::open_bounded(&config.data_dir, config.audit_rows)?);
    let kv = Arc::new(KvStore::open(&config.data_dir)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let wasm = Wasm::new(engine_settings(config, cache_dir)).context("the plugin engine cannot be made")?;
    let section: SharedPlugins = Arc::new(RwLock::new(config.plugins.clone()));
    let backing = Arc::new(Backing {
        store: Arc::clone(&store),
        kv: Arc::clone(&kv),
        plugins: Arc::clone(&section),
        clock: Arc::clone(&clock),
    });
    let watch = EgressWatch::new(backing.clone(), Arc::clone(&clock));
    let egress = Egress::new(Arc::new(SystemResolver::default()), watch.clone());
    let services = Services {
        kv: backing.clone(),
        grants: backing.clone(),
        settings: backing.clone(),
        secrets: backing.clone(),
        inbox: backing.clone(),
        memo: backing.clone(),
        audit: if mode == Mode::Passive { Arc::new(Looking(backing)) } else { backing },
        clock,
    };
    let folder = Some(config.plugins.dir.clone());
    let recycling = Recycling::default();
    let options =
        PluginsOptions { wasm: wasm.clone(), egress: egress.clone(), watch, services, folder, mode, recycling };
    Ok(Parts { store, kv, plugins: Plugins::new(options), section, egress, wasm })
}

fn engine_settings(config: &Config, cache_dir: PathBuf) -> EngineSettings {
    EngineSettings {
        pooling: match config.wasm.pooling {
            Pooling::Auto => leanclaw_wasm::Pooling::Auto,
            Pooling::Off => leanclaw_wasm::Pooling::Off,
        },
        max_instances: config.wasm.max_instances,
        cache_dir: Some(cache_dir),
        ..EngineSettings::default()
    }
}
