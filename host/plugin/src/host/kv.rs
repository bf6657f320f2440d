//! `kv`: the plugin's own store, by plugin and account.

use leanclaw_types::Failure;

use crate::bindings::imports::kv::{Entry, Host};
use crate::bindings::imports::types;
use crate::services::KvPut;
use crate::state::{InstanceState, to_guest};

/// Names one listing may give.
const MAX_NAMES: u32 = 1000;

type Answer<T> = wasmtime::Result<Result<T, types::Failure>>;

fn answer<T>(result: Result<T, Failure>) -> Answer<T> {
    Ok(result.map_err(|failure| to_guest(&failure)))
}

impl Host for InstanceState {
    async fn get(&mut self, key: String) -> Answer<Option<Entry>> {
        self.enter()?;
        let found = self.shared.services.kv.get(&self.shared.key, &key).await;
        answer(found.map(|entry| entry.map(|entry| Entry { value: entry.value, revision: entry.revision })))
    }

    async fn put(
        &mut self,
        key: String,
        value: Vec<u8>,
        if_revision: Option<u64>,
        ttl_seconds: Option<u32>,
    ) -> Answer<u64> {
        self.enter()?;
        // The interface is linked only with a kv grant, so a quota is there; zero would refuse everything.
        let quota_bytes = self.shared.granted.kv.as_ref().map_or(0, |kv| kv.quota_bytes);
        let put = KvPut { if_revision, ttl_seconds, quota_bytes };
        answer(self.shared.services.kv.put(&self.shared.key, &key, value, put).await)
    }

    async fn delete(&mut self, key: String) -> Answer<bool> {
        self.enter()?;
        answer(self.shared.services.kv.delete(&self.shared.key, &key).await)
    }

    async fn keys(&mut self, prefix: String, after: Option<String>, limit: u32) -> Answer<Vec<String>> {
        self.enter()?;
        let limit = limit.min(MAX_NAMES);
        answer(self.shared.services.kv.keys(&self.shared.key, &prefix, after.as_deref(), limit).await)
    }
}
