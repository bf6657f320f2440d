//! A runtime over a temporary folder, with everything it needs in memory.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use leanclaw_egress::{Egress, FixedResolver};
use leanclaw_types::audit::AuditRecord;
use leanclaw_types::clock::SystemClock;
use leanclaw_types::message::Received;
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::{PluginInfo, PluginState};
use leanclaw_types::redact::Secret;
use leanclaw_types::{AccountId, Caller, Failure, PluginId, PluginKey};
use leanclaw_wasm::{EngineSettings, Wasm};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::services::{Audit, Grants, Inbox, Kv, KvEntry, KvPut, Memo, Secrets, Services, Settings, StoredGrant};
use crate::{CallContext, EgressWatch, Mode, Plugins, PluginsOptions};

/// Everything the runtime needs, in memory.
#[derive(Default)]
pub(super) struct Memory {
    kv: Mutex<HashMap<(PluginKey, String), KvEntry>>,
    grants: Mutex<HashMap<PluginKey, StoredGrant>>,
    memo: Mutex<HashMap<String, String>>,
    pub(super) audit: Mutex<Vec<AuditRecord>>,
    pub(super) inbox: Mutex<Vec<Received>>,
    pub(super) settings: Mutex<BTreeMap<String, Value>>,
    pub(super) secrets: Mutex<BTreeMap<String, String>>,
    pub(super) accounts: Mutex<Vec<AccountId>>,
}

#[async_trait]
impl Kv for Memory {
    async fn get(&self, key: &PluginKey, name: &str) -> Result<Option<KvEntry>, Failure> {
        Ok(self.kv.lock().unwrap().get(&(key.clone(), name.to_owned())).cloned())
    }
    async fn put(&self, key: &PluginKey, name: &str, value: Vec<u8>, _put: KvPut) -> Result<u64, Failure> {
        let mut kv = self.kv.lock().unwrap();
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
        Ok(self.grants.lock().unwrap().get(key).cloned())
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
    fn refusal(&self, _plugin: &PluginId) -> Option<String> {
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

/// A running runtime.
pub(super) struct Bench {
    pub(super) plugins: Plugins,
    pub(super) memory: Arc<Memory>,
    pub(super) folder: TempDir,
    stop: CancellationToken,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(super) fn caller() -> Caller {
    Caller::client("test", "operator", vec!["operator.admin".into()])
}

pub(super) fn context() -> CallContext {
    CallContext::of(caller())
}

impl Bench {
    /// A runtime over an empty folder. The name `metadata.test` resolves to the cloud's metadata address and
    /// `inside.test` to this machine.
    pub(super) async fn new() -> Self {
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        let resolver = FixedResolver::new()
            .with("metadata.test", [address("169.254.169.254")])
            .with("inside.test", [address("127.0.0.1")]);
        let memory = Arc::new(Memory::default());
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
        let folder = tempfile::tempdir().unwrap();
        let wasm = Wasm::new(EngineSettings { max_instances: 50, ..EngineSettings::default() }).unwrap();
        let watch = EgressWatch::new(memory.clone(), Arc::new(SystemClock));
        let egress = Egress::new(Arc::new(resolver), watch.clone());
        let stop = CancellationToken::new();
        let plugins = Plugins::new(PluginsOptions { wasm, egress, watch,
            services,
            folder: Some(folder.path().to_path_buf()),
            mode: Mode::Serving,
        });
        plugins.start(stop.clone()).await;
        Self { plugins, memory, folder, stop }
    }

    /// Puts a plugin into the folder in one step, as an installer does.
    pub(super) fn drop_in(&self, manifest: &Value, wasm: &[u8]) {
        let id = manifest["id"].as_str().unwrap();
        let hidden = self.folder.path().join(format!(".{id}.new"));
        std::fs::create_dir_all(&hidden).unwrap();
        std::fs::write(hidden.join("leanclaw.plugin.json"), manifest.to_string()).unwrap();
        std::fs::write(hidden.join("plugin.wasm"), wasm).unwrap();
        let place = self.folder.path().join(id);
        let _ = std::fs::remove_dir_all(&place);
        std::fs::rename(hidden, place).unwrap();
    }

    /// Installs a plugin, grants all it asks for, and waits until it is ready.
    pub(super) async fn install(&self, manifest: &Value, wasm: &[u8]) -> PluginInfo {
        self.drop_in(manifest, wasm);
        let id = manifest["id"].as_str().unwrap();
        self.until(id, |info| info.state != PluginState::Loading).await;
        self.grant(id).await;
        self.until(id, |info| info.state == PluginState::Ready).await
    }

    pub(super) async fn grant(&self, id: &str) -> PluginInfo {
        let change = GrantChange { all: true, items: vec![] };
        self.plugins.grant(&caller(), &id.parse().unwrap(), &change).await.unwrap()
    }

    /// Waits until the plugin is there and `done` says so.
    pub(super) async fn until(&self, id: &str, done: impl Fn(&PluginInfo) -> bool) -> PluginInfo {
        let key: PluginKey = id.parse().unwrap();
        for _ in 0..1500 {
            if let Ok(info) = self.plugins.inspect(&key)
                && done(&info)
            {
                return info;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("`{id}` never got there: {:#?} {:#?}", self.plugins.inspect(&key), self.plugins.problems());
    }

    /// Waits until something in the folder is refused.
    pub(super) async fn until_problem(&self, part: &str) -> String {
        for _ in 0..1500 {
            let problems = self.plugins.problems();
            if let Some((path, reason)) = problems.iter().find(|(_, reason)| reason.contains(part)) {
                return format!("{}: {reason}", path.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing was refused with {part:?}: {:#?}", self.plugins.problems());
    }

    pub(super) async fn run(&self, id: &str, params: &str) -> Result<String, Failure> {
        self.plugins.call_method(&format!("{id}.run"), params, context()).await
    }
}

/// The manifest of a method plugin called `id`.
pub(super) fn manifest(id: &str) -> Value {
    json!({ "id": id, "version": "1.0.0", "main": "plugin.wasm" })
}

/// `base` with further fields.
pub(super) fn with(mut base: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        base[name] = value.clone();
    }
    base
}
