//! What the gateway needs from whatever runs plugins.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use leanclaw_types::message::{Outbound, Receipt};
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::{LogLine, MethodSpec, PluginEvent, PluginInfo, Purged, ToolOutput, ToolSpec};
use leanclaw_types::{Caller, Failure, PluginId, PluginKey};
use tokio::sync::broadcast;

/// The body of a plugin's HTTP answer; it may stream.
pub type RouteBody = UnsyncBoxBody<Bytes, Failure>;

/// A request on a plugin's public webhook address. The plugin verifies it.
#[derive(Debug, Clone)]
pub struct WebhookRequest {
    /// The HTTP method.
    pub method: String,
    /// What follows `/plugins/<id>/hook`, as sent (percent-encoding kept); at least `/`.
    pub path: String,
    /// The query without `?`, as sent; empty when there is none.
    pub query: String,
    /// Headers in order, names in lower case. The gateway's own credential is never among them.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Bytes,
    /// Who sent it, as far as trusted proxies allow to say.
    pub remote: SocketAddr,
}

/// A plugin's answer to a webhook.
#[derive(Debug, Clone, Default)]
pub struct WebhookReply {
    /// The status, 200 to 599; anything else becomes 502.
    pub status: u16,
    /// Headers. Those that belong to the connection are dropped.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Bytes,
}

/// A channel that messages can be sent through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// The plugin and account that serve it.
    pub key: PluginKey,
    /// The channel's id, as clients name it.
    pub id: String,
    /// Its name for people; may be empty.
    pub title: String,
    /// Whether it runs and its service has not been reached for a while.
    pub cut_off: bool,
}

/// A method as it was found: whoever holds its scope may call this version of it, whatever takes its place meanwhile.
#[async_trait]
pub trait PluginMethod: Send + Sync {
    /// The scope a caller needs.
    fn scope(&self) -> &str;

    /// Calls it. `params` and the result are JSON texts; both are checked against the method's schemas.
    ///
    /// # Errors
    /// Whatever the plugin or the host says.
    async fn call(&self, params: &str, caller: Arc<Caller>) -> Result<String, Failure>;
}

/// Runs plugins. Scopes are checked before any of this is called; grants are the host's own business.
#[async_trait]
pub trait PluginHost: Send + Sync + 'static {
    /// Every plugin and account, in a stable order.
    fn list(&self) -> Vec<PluginInfo>;

    /// One plugin and account.
    ///
    /// # Errors
    /// `not-found`.
    fn inspect(&self, key: &PluginKey) -> Result<PluginInfo, Failure>;

    /// Gives a plugin rights.
    ///
    /// # Errors
    /// `not-found`, `invalid-input` for an item the manifest does not ask for.
    async fn grant(&self, caller: &Caller, key: &PluginKey, change: GrantChange) -> Result<PluginInfo, Failure>;

    /// Takes rights back, also of a plugin that is not installed, of which there is nothing to show afterwards.
    ///
    /// # Errors
    /// `not-found` when nothing is granted, `invalid-input` for an item that is not granted.
    async fn revoke(
        &self,
        caller: &Caller,
        key: &PluginKey,
        change: GrantChange,
    ) -> Result<Option<PluginInfo>, Failure>;

    /// Deletes what is kept of a plugin that is not installed any more: rights, secrets, data, messages it handed in. What
    /// still runs of it is ended first.
    ///
    /// # Errors
    /// `conflict` while it is installed; `unavailable` when it does not end, or nothing could be deleted.
    async fn purge(&self, caller: &Caller, plugin: &PluginId) -> Result<Purged, Failure>;

    /// Deletes the secrets of a plugin and account, each with a row in the audit log, and ends what runs of it, so that nothing
    /// goes on with them; then it is loaded anew. Whether there were any.
    ///
    /// # Errors
    /// `not-found`; `unavailable` when not all of them could be deleted: then the same call deletes the rest.
    async fn log_out(&self, caller: &Caller, key: &PluginKey) -> Result<bool, Failure>;

    /// Reads one plugin, or all of them, from the folder again; returns where they stand now.
    ///
    /// # Errors
    /// `not-found`.
    async fn reload(&self, caller: &Caller, plugin: Option<&PluginId>) -> Result<Vec<PluginInfo>, Failure>;

    /// The newest `limit` lines of a plugin's log with a sequence number above `after_seq`, oldest first.
    ///
    /// # Errors
    /// `not-found`.
    fn logs(&self, plugin: &PluginId, after_seq: Option<u64>, limit: usize) -> Result<Vec<LogLine>, Failure>;

    /// Every method that can be called now.
    fn methods(&self) -> Vec<MethodSpec>;

    /// The method that can be called by this name now. Looked up once per call: it must be cheap.
    fn method(&self, wire_name: &str) -> Option<Box<dyn PluginMethod>>;

    /// Whether a plugin wants to be asked about calls. Asked once per call: it must be cheap.
    fn guards_calls(&self) -> bool;

    /// Asks the plugins that want to be asked whether a call may run. It has its scope already: they can only refuse.
    ///
    /// # Errors
    /// `denied`, naming the plugin: one said so, or one could not be asked and the call does not only read.
    async fn authorize(
        &self,
        question: serde_json::Value,
        only_reads: bool,
        caller: Arc<Caller>,
    ) -> Result<(), Failure>;

    /// Every tool that can be called now.
    fn tools(&self) -> Vec<ToolSpec>;

    /// Calls a tool. `input` is a JSON text.
    ///
    /// # Errors
    /// `not-found` when there is no such tool, else whatever the plugin or the host says.
    async fn invoke_tool(&self, tool: &str, input: &str, caller: Caller) -> Result<ToolOutput, Failure>;

    /// Whether a plugin takes webhooks. Asked before the body of one is read: it must be cheap.
    ///
    /// # Errors
    /// Why it takes none.
    fn takes_webhooks(&self, key: &PluginKey) -> Result<(), Failure>;

    /// Hands a webhook to a plugin.
    ///
    /// # Errors
    /// `not-found` when there is no such plugin or it takes no webhooks; `rate-limited`; whatever the plugin says.
    async fn webhook(&self, key: &PluginKey, request: WebhookRequest) -> Result<WebhookReply, Failure>;

    /// Hands an HTTP request to a plugin's own routes. The URI is relative to the plugin: path and query only.
    ///
    /// # Errors
    /// `not-found` when there is no such plugin or it has no routes; whatever the plugin says.
    async fn http_route(
        &self,
        key: &PluginKey,
        request: http::Request<Bytes>,
        remote: SocketAddr,
    ) -> Result<http::Response<RouteBody>, Failure>;

    /// What lies in the plugin folder and could not be taken: its path and why.
    fn problems(&self) -> Vec<(String, String)>;

    /// The channels that are ready.
    fn channels(&self) -> Vec<Channel>;

    /// Sends a message through a channel; returns once the channel has taken it.
    ///
    /// # Errors
    /// Whatever the plugin, a hook or the host says.
    async fn deliver(&self, key: &PluginKey, message: Outbound, caller: Caller) -> Result<Receipt, Failure>;

    /// `plugins.changed` and the events that plugins emit.
    fn subscribe(&self) -> broadcast::Receiver<Arc<PluginEvent>>;
}
