//! A host that pretends to run plugins, and a list that takes audit rows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use leanclaw_types::audit::AuditRecord;
use leanclaw_types::permission::{GrantChange, Permissions};
use leanclaw_types::plugin::{LogLine, MethodSpec, PluginEvent, PluginInfo, Purged, ToolFile, ToolOutput, ToolSpec};
use leanclaw_types::{Caller, Failure, PluginId, PluginKey};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast};

use crate::{
    AuditSink, PluginHost, PluginMethod, Readiness, RecordChange, Records, RouteBody, WebhookReply, WebhookRequest,
};

#[derive(Default)]
pub(super) struct Rows(Mutex<Vec<AuditRecord>>);

impl AuditSink for Rows {
    fn audit(&self, record: AuditRecord) {
        self.0.lock().unwrap().push(record);
    }
}

/// Documents in memory.
#[derive(Default)]
pub(crate) struct MemoryRecords {
    documents: Mutex<BTreeMap<(String, String), String>>,
    pub(crate) audit: Mutex<Vec<AuditRecord>>,
    /// Sessions by key.
    pub(super) sessions: Mutex<BTreeMap<String, super::fake_sessions::MemorySession>>,
    /// How often they were asked for with a wish to change them.
    pub(super) revision: std::sync::atomic::AtomicU64,
    /// Whether storing fails.
    pub(crate) broken: AtomicBool,
    /// While somebody holds it, what was said in a session is stored and not answered.
    pub(super) said: tokio::sync::Mutex<()>,
    /// The same for documents, and for sessions as such.
    pub(super) changed: tokio::sync::Mutex<()>,
}

#[async_trait]
impl Records for MemoryRecords {
    fn load(&self, kind: &str) -> Result<Vec<(String, String)>, Failure> {
        let documents = self.documents.lock().unwrap();
        let of_kind = documents.iter().filter(|((own, _), _)| own == kind);
        Ok(of_kind.map(|((_, id), body)| (id.clone(), body.clone())).collect())
    }

    async fn change(&self, changes: Vec<RecordChange>, audit: Vec<AuditRecord>) -> Result<(), Failure> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Failure::unavailable("the disk is full"));
        }
        {
            let mut documents = self.documents.lock().unwrap();
            for change in changes {
                let key = (change.kind.to_owned(), change.id);
                match change.body {
                    Some(body) => drop(documents.insert(key, body)),
                    None => drop(documents.remove(&key)),
                }
            }
        }
        self.audit.lock().unwrap().extend(audit);
        drop(self.changed.lock().await);
        Ok(())
    }
}

impl Rows {
    pub(super) fn all(&self) -> Vec<Value> {
        self.0.lock().unwrap().iter().map(|row| serde_json::to_value(row).unwrap()).collect()
    }
}

#[derive(Default)]
struct Gates(Mutex<BTreeMap<String, Arc<Semaphore>>>);

impl Gates {
    fn gate(&self, name: &str) -> Arc<Semaphore> {
        let mut gates = self.0.lock().unwrap();
        Arc::clone(gates.entry(name.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))))
    }
}

/// One of the methods of `notes`.
struct FakeMethod {
    name: String,
    gates: Arc<Gates>,
}

pub(super) struct FakeHost {
    pub(super) events: broadcast::Sender<Arc<PluginEvent>>,
    /// Opened per `notes.slow` call, by its `name`, per tool call by its `gate`, and per message to a place `slow…`.
    gates: Arc<Gates>,
    pub(super) changes: Mutex<Vec<(String, String, GrantChange, Caller)>>,
    pub(super) webhooks: Mutex<Vec<WebhookRequest>>,
    /// Tools that were called and places that messages were sent to.
    pub(super) done: Mutex<Vec<String>>,
    /// Messages that were sent.
    pub(super) sent: Mutex<Vec<leanclaw_types::message::Outbound>>,
    /// Plugins and accounts that have a secret.
    pub(super) logins: Mutex<Vec<String>>,
    pub(super) unready: AtomicBool,
    /// Whether its channel cannot reach its service.
    pub(super) cut_off: AtomicBool,
    /// Listed after the others.
    pub(super) more: Mutex<Vec<PluginInfo>>,
    /// When there is one, calls are asked about, and the one of that method is refused.
    pub(super) guard: Mutex<Option<String>>,
    /// What was asked.
    pub(super) questions: Mutex<Vec<Value>>,
}

impl Default for FakeHost {
    fn default() -> Self {
        Self {
            events: broadcast::channel(1024).0,
            gates: Arc::default(),
            changes: Mutex::default(),
            webhooks: Mutex::default(),
            done: Mutex::default(),
            sent: Mutex::default(),
            logins: Mutex::default(),
            unready: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
            more: Mutex::default(),
            guard: Mutex::default(),
            questions: Mutex::default(),
        }
    }
}

pub(super) fn plugin(id: &str, state: &str, reason: &str) -> PluginInfo {
    let granted = (state == "ready").then(|| Permissions { events: vec!["changed".into()], ..Permissions::default() });
    serde_json::from_value(json!({
        "id": id, "account": "default", "name": id, "version": "0.1.0", "description": "d", "state": state,
        "reason": reason, "exports": ["method"], "lifecycle": "per-call", "requested": {}, "granted": granted,
        "missing": [], "tools": [], "methods": [], "sha256": null, "path": "/p", "stats": {
            "calls": 0, "failures": 0, "traps": 0, "timeouts": 0, "restarts": 0, "peakMemoryBytes": 0, "egressDenied": 0
        }
    }))
    .unwrap()
}

impl FakeHost {
    pub(super) fn emit(&self, event: &str, payload: Value) {
        let _ = self.events.send(Arc::new(PluginEvent { event: event.into(), payload }));
    }

    /// Lets the call that waits at the gate of that name go on.
    pub(super) fn release(&self, name: &str) {
        self.gates.gate(name).add_permits(1);
    }

    fn note(&self, what: &str, key: &PluginKey, change: GrantChange, caller: &Caller) -> Result<PluginInfo, Failure> {
        self.changes.lock().unwrap().push((what.into(), key.to_string(), change, caller.clone()));
        self.inspect(key)
    }
}

#[async_trait]
impl PluginMethod for FakeMethod {
    fn scope(&self) -> &str {
        if self.name == "add" { "operator.write" } else { "operator.read" }
    }

    async fn call(&self, params: &str, caller: Arc<Caller>) -> Result<String, Failure> {
        match self.name.as_str() {
            "echo" => Ok(params.to_owned()),
            "who" => Ok(serde_json::to_string(&*caller).unwrap()),
            "slow" => {
                let params: Value = serde_json::from_str(params).unwrap();
                let gate = self.gates.gate(params["name"].as_str().unwrap());
                gate.acquire().await.unwrap().forget();
                Ok(params["answer"].to_string())
            }
            "fail" => Err(Failure::denied("Not granted: kv.").hint("leanclaw plugin grant notes kv").retry_after(7)),
            _ => Ok("{\"id\":1}".into()),
        }
    }
}

#[async_trait]
impl PluginHost for FakeHost {
    fn list(&self) -> Vec<PluginInfo> {
        let mut all = vec![
            plugin("notes", "ready", ""),
            plugin("broken", "faulted", "it traps"),
            plugin("new", "needs-grant", "grant it"),
        ];
        all.extend(self.more.lock().unwrap().iter().cloned());
        all
    }

    fn inspect(&self, key: &PluginKey) -> Result<PluginInfo, Failure> {
        let found = self.list().into_iter().find(|plugin| plugin.id == key.plugin && plugin.account == key.account);
        found.ok_or_else(|| Failure::not_found(format!("There is no plugin {key}.")).hint("leanclaw plugin list"))
    }

    async fn grant(&self, caller: &Caller, key: &PluginKey, change: GrantChange) -> Result<PluginInfo, Failure> {
        self.note("grant", key, change, caller)
    }

    async fn revoke(
        &self,
        caller: &Caller,
        key: &PluginKey,
        change: GrantChange,
    ) -> Result<Option<PluginInfo>, Failure> {
        if key.plugin.as_str() == "gone" {
            return Ok(None);
        }
        self.note("revoke", key, change, caller).map(Some)
    }

    async fn purge(&self, caller: &Caller, plugin: &PluginId) -> Result<Purged, Failure> {
        let key = PluginKey::default_account(plugin.clone());
        if self.inspect(&key).is_ok() {
            return Err(Failure::new("conflict", format!("{plugin} is installed.")));
        }
        self.changes.lock().unwrap().push(("purge".into(), plugin.to_string(), GrantChange::default(), caller.clone()));
        Ok(Purged { grants: 1, secrets: 2, messages: 3, kv_entries: 4 })
    }

    async fn log_out(&self, caller: &Caller, key: &PluginKey) -> Result<bool, Failure> {
        self.note("log-out", key, GrantChange::default(), caller)?;
        let mut logins = self.logins.lock().unwrap();
        let before = logins.len();
        logins.retain(|login| *login != key.to_string());
        Ok(logins.len() < before)
    }

    async fn reload(&self, caller: &Caller, plugin: Option<&PluginId>) -> Result<Vec<PluginInfo>, Failure> {
        tokio::task::yield_now().await;
        let _ = caller;
        Ok(self.list().into_iter().filter(|info| plugin.is_none_or(|plugin| info.id == *plugin)).collect())
    }

    fn logs(&self, plugin: &PluginId, after_seq: Option<u64>, limit: usize) -> Result<Vec<LogLine>, Failure> {
        self.inspect(&PluginKey::default_account(plugin.clone()))?;
        let after_seq = after_seq.unwrap_or(0);
        let line = |seq| LogLine {
            seq,
            at_ms: 1,
            level: "info".into(),
            call_id: String::new(),
            source: "log".into(),
            message: format!("line {seq}"),
        };
        let lines: Vec<LogLine> = (1..=5).filter(|seq| *seq > after_seq).map(line).collect();
        Ok(lines[lines.len().saturating_sub(limit)..].to_vec())
    }

    fn methods(&self) -> Vec<MethodSpec> {
        ["add", "echo", "slow", "fail", "who"]
            .iter()
            .map(|name| MethodSpec {
                plugin: PluginId::new("notes").unwrap(),
                name: (*name).into(),
                description: String::new(),
                scope: "operator.read".into(),
                params_schema: json!({}),
                result_schema: json!({}),
                extra: None,
            })
            .collect()
    }

    fn method(&self, wire_name: &str) -> Option<Box<dyn PluginMethod>> {
        let name =
            wire_name.strip_prefix("notes.").filter(|name| self.methods().iter().any(|spec| spec.name == *name))?;
        Some(Box::new(FakeMethod { name: name.to_owned(), gates: Arc::clone(&self.gates) }))
    }

    fn guards_calls(&self) -> bool {
        self.guard.lock().unwrap().is_some()
    }

    async fn authorize(&self, question: Value, only_reads: bool, caller: Arc<Caller>) -> Result<(), Failure> {
        self.questions.lock().unwrap().push(json!({"question": question, "reads": only_reads, "caller": caller.id}));
        let refused = self.guard.lock().unwrap().as_deref() == question["method"].as_str();
        let hint = "leanclaw plugin revoke warden hook:authorize";
        if refused { Err(Failure::denied("The plugin `warden` said deny: no").hint(hint)) } else { Ok(()) }
    }

    fn tools(&self) -> Vec<ToolSpec> {
        ["convert", "compare"]
            .iter()
            .map(|name| ToolSpec {
                plugin: PluginId::new("units").unwrap(),
                name: (*name).into(),
                description: "Converts.".into(),
                input_schema: json!({}),
                output_schema: None,
                effects: vec!["reads".into()],
                idempotent: true,
                extra: None,
            })
            .collect()
    }

    async fn invoke_tool(&self, tool: &str, input: &str, caller: Caller) -> Result<ToolOutput, Failure> {
        let input: Value = serde_json::from_str(input).unwrap();
        self.done.lock().unwrap().push(tool.to_owned());
        if let Some(gate) = input["gate"].as_str() {
            self.gates.gate(gate).acquire().await.unwrap().forget();
        }
        match tool {
            "convert" if input["busy"] == true => Err(Failure::unavailable("The tool is busy.")),
            "convert" if input["fail"] == true => {
                Ok(ToolOutput { text: Some("no such unit".into()), is_error: true, ..ToolOutput::default() })
            }
            "convert" if input["trap"] == true => Err(Failure::internal("The plugin trapped.")),
            "convert" => Ok(ToolOutput {
                structured: Some(json!({"input": input, "sessionKey": caller.session_key})),
                text: Some("1 m = 100 cm".into()),
                files: vec![ToolFile { media_type: "image/png".into(), data: vec![1, 2, 3] }],
                is_error: false,
            }),
            _ => Err(Failure::not_found(format!("There is no tool {tool}."))),
        }
    }

    fn takes_webhooks(&self, key: &PluginKey) -> Result<(), Failure> {
        if key.plugin.as_str() == "chat" {
            return Ok(());
        }
        Err(Failure::not_found(format!("There is no plugin {key}.")))
    }

    async fn webhook(&self, key: &PluginKey, request: WebhookRequest) -> Result<WebhookReply, Failure> {
        self.webhooks.lock().unwrap().push(request);
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        Ok(WebhookReply {
            status: 202,
            headers: vec![
                header("content-type", "text/html"),
                header("connection", "x-gone"),
                header("x-gone", "1"),
                header("content-security-policy", "default-src *"),
            ],
            body: Bytes::from(format!("hello {key}")),
        })
    }

    async fn http_route(
        &self,
        key: &PluginKey,
        request: http::Request<Bytes>,
        _remote: SocketAddr,
    ) -> Result<http::Response<RouteBody>, Failure> {
        let seen = json!({
            "key": key.to_string(), "method": request.method().as_str(), "uri": request.uri().to_string(),
            "authorization": request.headers().contains_key("authorization"),
            "kept": request.headers().contains_key("x-kept"),
            "body": String::from_utf8_lossy(request.body()),
        });
        let body = Full::new(Bytes::from(seen.to_string())).map_err(|never| match never {}).boxed_unsync();
        Ok(http::Response::new(body))
    }

    fn problems(&self) -> Vec<(String, String)> {
        vec![("/plugins/broken".into(), "it holds no manifest".into())]
    }

    fn channels(&self) -> Vec<crate::Channel> {
        let cut_off = self.cut_off.load(Ordering::SeqCst);
        vec![crate::Channel { key: "hook".parse().unwrap(), id: "hook".into(), title: "Webhook".into(), cut_off }]
    }

    async fn deliver(
        &self,
        _key: &PluginKey,
        message: leanclaw_types::message::Outbound,
        _caller: Caller,
    ) -> Result<leanclaw_types::message::Receipt, Failure> {
        self.done.lock().unwrap().push(message.place.id.clone());
        self.sent.lock().unwrap().push(message.clone());
        if message.place.id.starts_with("slow") {
            self.gates.gate(&message.place.id).acquire().await.unwrap().forget();
        }
        if message.place.id == "busy" {
            return Err(Failure::unavailable("The channel is busy.").retry_after(700));
        }
        let told = (message.place.id != "silent").then(|| format!("sent-to-{}", message.place.id));
        Ok(leanclaw_types::message::Receipt { message_id: told, extra: None })
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<PluginEvent>> {
        self.events.subscribe()
    }
}

impl Readiness for FakeHost {
    fn name(&self) -> &str {
        "plugins"
    }

    fn missing(&self) -> Option<String> {
        self.unready.load(Ordering::SeqCst).then(|| "two plugins are loading".into())
    }
}
