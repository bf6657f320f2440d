//! Everything the runtime needs of the rest of the program, in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use leanclaw_types::audit::AuditRecord;
use leanclaw_types::message::Received;
use leanclaw_types::redact::Secret;
use leanclaw_types::{AccountId, Failure, PluginId, PluginKey};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::services::{Audit, Grants, Inbox, Kv, KvEntry, KvPut, Memo, Secrets, Settings, StoredGrant};

/// Everything the runtime needs, in memory.
#[derive(Default)]
pub(super) struct Memory {
    kv: Mutex<HashMap<(PluginKey, String), KvEntry>>,
    pub(super) grants: Mutex<HashMap<PluginKey, StoredGrant>>,
    memo: Mutex<HashMap<String, String>>,
    pub(super) audit: Mutex<Vec<AuditRecord>>,
    pub(super) inbox: Mutex<Vec<Received>>,
    pub(super) settings: Mutex<BTreeMap<String, Value>>,
    pub(super) secrets: Mutex<BTreeMap<String, String>>,
    pub(super) accounts: Mutex<Vec<AccountId>>,
    /// When there is one, every load waits here after it has read its grant.
    pub(super) held_loads: Mutex<Option<Arc<HeldLoads>>>,
    /// How often reading a grant fails from now on.
    pub(super) failing_grants: Mutex<usize>,
}

/// Loads that wait.
#[derive(Debug)]
pub(super) struct HeldLoads {
    arrived: Semaphore,
    open: Semaphore,
}

impl HeldLoads {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { arrived: Semaphore::new(0), open: Semaphore::new(0) })
    }

    /// Waits for one more load.
    pub(super) async fn arrived(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }

    /// Lets `count` loads go on.
    pub(super) fn open(&self, count: usize) {
        self.open.add_permits(count);
    }
}

impl Memory {
    /// Whether reading a grant fails this time.
    fn fails(&self) -> bool {
        let mut left = self.failing_grants.lock().unwrap();
        let fails = *left > 0;
        *left = left.saturating_sub(1);
        fails
    }
}

#[async_trait]
impl Kv for Memory {
    async fn get(&self, key: &PluginKey, name: &str) -> Result<Option<KvEntry>, Failure> {
        Ok(self.kv.lock().unwrap().get(&(key.clone(), name.to_owned())).cloned())
    }
    async fn put(&self, key: &PluginKey, name: &str, value: Vec<u8>, put: KvPut) -> Result<u64, Failure> {
        let mut kv = self.kv.lock().unwrap();
        let revision = kv.get(&(key.clone(), name.to_owned())).map_or(0, |entry| entry.revision);
        if put.if_revision.is_some_and(|wanted| wanted != revision) {
            return Err(Failure::new("conflict", "Another revision."));
        }
        let others = kv.iter().filter(|((owner, other), _)| owner == key && other != name);
        let used: usize = others.map(|((_, other), entry)| other.len() + entry.value.len()).sum();
        if (used + name.len() + value.len()) as u64 > put.quota_bytes {
            return Err(Failure::new("budget-exhausted", "The quota."));
        }
        let entry = kv.entry((key.clone(), name.to_owned())).or_insert(KvEntry { value: vec![], revision: 0 });
        *entry = KvEntry { value, revision: entry.revision + 1 };
        Ok(entry.revision)
    }
    async fn delete(&self, key: &PluginKey, name: &str) -> Result<bool, Failure> {
        Ok(self.kv.lock().unwrap().remove(&(key.clone(), name.to_owned())).is_some())
    }
    async fn keys(
        &self,
        key: &PluginKey,
        prefix: &str,
        _after: Option<&str>,
        _limit: u32,
    ) -> Result<Vec<String>, Failure> {
        let kv = self.kv.lock().unwrap();
        Ok(kv
            .keys()
            .filter(|(owner, name)| owner == key && name.starts_with(prefix))
            .map(|(_, name)| name.clone())
            .collect())
    }
}

#[async_trait]
impl Grants for Memory {
    async fn grant(&self, key: &PluginKey) -> Result<Option<StoredGrant>, Failure> {
        if self.fails() {
            return Err(Failure::unavailable("The store is busy."));
        }
        let found = self.grants.lock().unwrap().get(key).cloned();
        // Whoever reads in order to write gives others the time to come in between.
        tokio::task::yield_now().await;
        Ok(found)
    }
    async fn grants(&self) -> Result<Vec<(PluginKey, StoredGrant)>, Failure> {
        let grants = self.grants.lock().unwrap();
        Ok(grants.iter().map(|(key, grant)| (key.clone(), grant.clone())).collect())
    }
    async fn put_grant(&self, key: &PluginKey, grant: StoredGrant, audit: AuditRecord) -> Result<(), Failure> {
        self.grants.lock().unwrap().insert(key.clone(), grant);
        self.audit(audit);
        Ok(())
    }
    async fn remove_grant(&self, key: &PluginKey, audit: AuditRecord) -> Result<(), Failure> {
        self.grants.lock().unwrap().remove(key);
        self.audit(audit);
        Ok(())
    }
}

impl Settings for Memory {
    fn refusal(&self, _key: &PluginKey) -> Option<String> {
        None
    }
    fn accounts(&self, _plugin: &PluginId) -> Vec<AccountId> {
        self.accounts.lock().unwrap().clone()
    }
    fn settings(&self, key: &PluginKey) -> Value {
        self.settings.lock().unwrap().get(&key.to_string()).cloned().unwrap_or_else(|| json!({}))
    }
}

impl Secrets for Memory {
    fn secret(&self, key: &PluginKey, name: &str) -> Option<Secret> {
        self.secrets.lock().unwrap().get(&format!("{key}:{name}")).map(Secret::new)
    }
}

#[async_trait]
impl Inbox for Memory {
    async fn submit(&self, message: Received) -> Result<String, Failure> {
        self.inbox.lock().unwrap().push(message);
        Ok("accepted".into())
    }
}

#[async_trait]
impl Memo for Memory {
    async fn recall(&self, key: &str) -> Option<String> {
        let held = self.held_loads.lock().unwrap().clone();
        if let Some(held) = held.filter(|_| key.starts_with("description:")) {
            held.arrived.add_permits(1);
            held.open.acquire().await.unwrap().forget();
        }
        self.memo.lock().unwrap().get(key).cloned()
    }
    async fn remember(&self, key: String, value: String) {
        self.memo.lock().unwrap().insert(key, value);
    }
}

impl Audit for Memory {
    fn audit(&self, record: AuditRecord) {
        self.audit.lock().unwrap().push(record);
    }
}
