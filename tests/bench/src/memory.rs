//! Everything the plugin runtime needs from the rest of the program, in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use leanclaw_plugin::services::{
    Audit, Grants, Inbox, Kv, KvEntry, KvPut, Memo, Secrets, Services, Settings, StoredGrant,
};
use leanclaw_types::audit::AuditRecord;
use leanclaw_types::clock::SystemClock;
use leanclaw_types::message::Received;
use leanclaw_types::redact::Secret;
use leanclaw_types::{AccountId, Failure, PluginId, PluginKey};
use serde_json::{Value, json};

/// Grants and what was learnt of components; the rest is empty, because no guest of the bench asks for it.
#[derive(Default)]
pub(crate) struct Memory {
    grants: Mutex<HashMap<PluginKey, StoredGrant>>,
    memo: Mutex<HashMap<String, String>>,
}

impl Memory {
    /// Services on a fresh memory.
    pub(crate) fn services() -> (Arc<Self>, Services) {
        let memory = Arc::new(Self::default());
        let services = Services {
            kv: memory.clone(),
            grants: memory.clone(),
            settings: memory.clone(),
            secrets: memory.clone(),
            inbox: memory.clone(),
            memo: memory.clone(),
            audit: memory.clone(),
            clock: Arc::new(SystemClock),
        };
        (memory, services)
    }
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Kv for Memory {
    async fn get(&self, _key: &PluginKey, _name: &str) -> Result<Option<KvEntry>, Failure> {
        Ok(None)
    }

    async fn put(&self, _key: &PluginKey, _name: &str, _value: Vec<u8>, _put: KvPut) -> Result<u64, Failure> {
        Err(Failure::unavailable("The bench keeps no values."))
    }

    async fn delete(&self, _key: &PluginKey, _name: &str) -> Result<bool, Failure> {
        Ok(false)
    }

    async fn keys(&self, _: &PluginKey, _: &str, _: Option<&str>, _: u32) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Grants for Memory {
    async fn grant(&self, key: &PluginKey) -> Result<Option<StoredGrant>, Failure> {
        Ok(held(&self.grants).get(key).cloned())
    }

    async fn grants(&self) -> Result<Vec<(PluginKey, StoredGrant)>, Failure> {
        Ok(held(&self.grants).iter().map(|(key, grant)| (key.clone(), grant.clone())).collect())
    }

    async fn put_grant(&self, key: &PluginKey, grant: StoredGrant, _audit: AuditRecord) -> Result<(), Failure> {
        held(&self.grants).insert(key.clone(), grant);
        Ok(())
    }

    async fn remove_grant(&self, key: &PluginKey, _audit: AuditRecord) -> Result<(), Failure> {
        held(&self.grants).remove(key);
        Ok(())
    }
}

impl Settings for Memory {
    fn refusal(&self, _key: &PluginKey) -> Option<String> {
        None
    }

    fn accounts(&self, _plugin: &PluginId) -> Vec<AccountId> {
        Vec::new()
    }

    fn settings(&self, _key: &PluginKey) -> Value {
        json!({})
    }
}

impl Secrets for Memory {
    fn secret(&self, _key: &PluginKey, _name: &str) -> Option<Secret> {
        None
    }
}

#[async_trait]
impl Inbox for Memory {
    async fn submit(&self, _message: Received) -> Result<String, Failure> {
        Ok("accepted".into())
    }
}

#[async_trait]
impl Memo for Memory {
    async fn recall(&self, key: &str) -> Option<String> {
        held(&self.memo).get(key).cloned()
    }

    async fn remember(&self, key: String, value: String) {
        held(&self.memo).insert(key, value);
    }
}

impl Audit for Memory {
    fn audit(&self, _record: AuditRecord) {}
}
