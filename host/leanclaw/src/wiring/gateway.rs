//! What the gateway needs, on the plugin runtime and the store.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use leanclaw_gateway::{
    AuditSink, Channel, PluginHost, PluginMethod, RecordChange, Records, RouteBody, WebhookReply, WebhookRequest,
};
use leanclaw_plugin::{CallContext, ChannelDescription, Method, Plugins};
use leanclaw_store::{KvStore, Store};
use leanclaw_types::audit::AuditRecord;
use leanclaw_types::message::{Outbound, Receipt};
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::{LogLine, MethodSpec, PluginEvent, PluginInfo, Purged, ToolOutput, ToolSpec};
use leanclaw_types::{Caller, Failure, PluginId, PluginKey, call};
use tokio::sync::broadcast;

use super::{log_out, purge};

/// The plugin runtime and the audit log, as the gateway sees them.
pub(crate) struct PluginGateway {
    pub(crate) plugins: Plugins,
    pub(crate) store: Arc<Store>,
    pub(crate) kv: Arc<KvStore>,
}

/// A plugin's method, as the gateway sees it.
struct Found(Method);

#[async_trait]
impl PluginMethod for Found {
    fn scope(&self) -> &str {
        self.0.scope()
    }

    async fn call(&self, params: &str, caller: Arc<Caller>) -> Result<String, Failure> {
        self.0.call(params, CallContext::of(caller)).await
    }
}

/// A caller from outside whose identity only the plugin can establish.
fn stranger(remote: SocketAddr) -> CallContext {
    CallContext::of(Caller {
        kind: call::kind::CLIENT.into(),
        id: format!("http:{}", remote.ip()),
        role: String::new(),
        scopes: Vec::new(),
        session_key: None,
        extra: None,
    })
}

fn header_list(map: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

fn header_map(list: Vec<(String, Vec<u8>)>) -> http::HeaderMap {
    let mut map = http::HeaderMap::with_capacity(list.len());
    for (name, value) in list {
        // They came in over HTTP, so they are valid; one that is not carries nothing a plugin could rely on.
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value)) {
            map.append(name, value);
        }
    }
    map
}

#[async_trait]
impl PluginHost for PluginGateway {
    fn list(&self) -> Vec<PluginInfo> {
        self.plugins.list()
    }

    fn inspect(&self, key: &PluginKey) -> Result<PluginInfo, Failure> {
        self.plugins.inspect(key)
    }

    async fn grant(&self, caller: &Caller, key: &PluginKey, change: GrantChange) -> Result<PluginInfo, Failure> {
        self.plugins.grant(caller, key, &change).await
    }

    async fn revoke(
        &self,
        caller: &Caller,
        key: &PluginKey,
        change: GrantChange,
    ) -> Result<Option<PluginInfo>, Failure> {
        self.plugins.revoke(caller, key, &change).await
    }

    async fn purge(&self, caller: &Caller, plugin: &PluginId) -> Result<Purged, Failure> {
        purge(&self.plugins, (&self.store, &self.kv), caller, plugin).await
    }

    async fn log_out(&self, caller: &Caller, key: &PluginKey) -> Result<bool, Failure> {
        log_out(&self.plugins, &self.store, caller, key).await
    }

    async fn reload(&self, caller: &Caller, plugin: Option<&PluginId>) -> Result<Vec<PluginInfo>, Failure> {
        self.plugins.reload(caller, plugin).await
    }

    fn logs(&self, plugin: &PluginId, after_seq: Option<u64>, limit: usize) -> Result<Vec<LogLine>, Failure> {
        self.plugins.logs(plugin, after_seq, limit)
    }

    fn methods(&self) -> Vec<MethodSpec> {
        self.plugins.methods()
    }

    fn method(&self, wire_name: &str) -> Option<Box<dyn PluginMethod>> {
        self.plugins.method(wire_name).map(|method| Box::new(Found(method)) as _)
    }

    fn guards_calls(&self) -> bool {
        self.plugins.guards_calls()
    }

    async fn authorize(
        &self,
        question: serde_json::Value,
        only_reads: bool,
        caller: Arc<Caller>,
    ) -> Result<(), Failure> {
        self.plugins.authorize(question, only_reads, CallContext::of(caller)).await
    }

    fn tools(&self) -> Vec<ToolSpec> {
        self.plugins.tools()
    }

    async fn invoke_tool(&self, tool: &str, input: &str, caller: Caller) -> Result<ToolOutput, Failure> {
        self.plugins.invoke_tool(tool, input, CallContext::of(caller)).await
    }

    fn takes_webhooks(&self, key: &PluginKey) -> Result<(), Failure> {
        self.plugins.takes_webhooks(key)
    }

    async fn webhook(&self, key: &PluginKey, request: WebhookRequest) -> Result<WebhookReply, Failure> {
        let context = stranger(request.remote);
        let request = leanclaw_plugin::WebhookRequest {
            method: request.method,
            path: request.path,
            query: request.query,
            headers: header_map(request.headers),
            body: request.body,
            remote: request.remote.to_string(),
        };
        let reply = self.plugins.webhook(key, request, context).await?;
        Ok(WebhookReply { status: reply.status, headers: header_list(&reply.headers), body: reply.body })
    }

    async fn http_route(
        &self,
        key: &PluginKey,
        request: http::Request<Bytes>,
        remote: SocketAddr,
    ) -> Result<http::Response<RouteBody>, Failure> {
        let response = self.plugins.http_route(key, request, stranger(remote)).await?;
        Ok(response.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync()))
    }

    fn problems(&self) -> Vec<(String, String)> {
        let problems = self.plugins.problems().into_iter();
        problems.map(|(path, reason)| (path.display().to_string(), reason)).collect()
    }

    fn channels(&self) -> Vec<Channel> {
        let cut_off = self.plugins.cut_off_channels();
        let shown = |(key, channel): (PluginKey, ChannelDescription)| {
            let cut_off = cut_off.iter().any(|(other, _)| *other == key);
            Channel { key, id: channel.id, title: channel.title, cut_off }
        };
        self.plugins.channels().into_iter().map(shown).collect()
    }

    async fn deliver(&self, key: &PluginKey, message: Outbound, caller: Caller) -> Result<Receipt, Failure> {
        self.plugins.deliver(key, message, CallContext::of(caller)).await
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<PluginEvent>> {
        self.plugins.subscribe()
    }
}

impl AuditSink for PluginGateway {
    fn audit(&self, record: AuditRecord) {
        self.store.audit_soon(record);
    }
}

#[async_trait]
impl Records for PluginGateway {
    fn load(&self, kind: &str) -> Result<Vec<(String, String)>, Failure> {
        Ok(self.store.records(kind)?)
    }

    async fn change(&self, changes: Vec<RecordChange>, audit: Vec<AuditRecord>) -> Result<(), Failure> {
        let stored = |change: RecordChange| leanclaw_store::RecordChange {
            kind: change.kind.to_owned(),
            id: change.id,
            body: change.body,
        };
        Ok(self.store.change_records(changes.into_iter().map(stored).collect(), audit).await?)
    }
}
