//! Plugin administration through a running program's gateway.

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::{LogLine, PluginInfo};
use leanclaw_types::{PluginId, PluginKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::PluginAdmin;
use crate::client::GatewayClient;

/// Talks to the gateway methods `plugins.*`.
#[derive(Debug)]
pub(crate) struct Online {
    client: GatewayClient,
}

impl Online {
    pub(crate) fn new(client: GatewayClient) -> Self {
        Self { client }
    }

    /// Calls a method and reads one field of its result.
    async fn ask<T: DeserializeOwned>(&mut self, method: &str, params: Value, field: &str) -> Result<T> {
        let mut payload = self.client.request(method, Some(params)).await?;
        let value = payload.get_mut(field).map(Value::take).unwrap_or_default();
        serde_json::from_value(value).with_context(|| format!("the gateway's answer to `{method}` is not understood"))
    }
}

/// The parameters that name a plugin and account.
fn about(key: &PluginKey) -> Value {
    json!({ "pluginId": key.plugin, "accountId": key.account })
}

fn changing(key: &PluginKey, change: &GrantChange) -> Value {
    json!({ "pluginId": key.plugin, "accountId": key.account, "all": change.all, "items": change.items })
}

/// A row of a list: clients of OpenClaw read the fields around it, this program its own view of the plugin.
#[derive(Debug, Deserialize)]
struct Row {
    leanclaw: PluginInfo,
}

fn infos(rows: Vec<Row>) -> Vec<PluginInfo> {
    rows.into_iter().map(|row| row.leanclaw).collect()
}

#[async_trait]
impl PluginAdmin for Online {
    async fn list(&mut self) -> Result<Vec<PluginInfo>> {
        self.ask("plugins.list", json!({}), "plugins").await.map(infos)
    }

    async fn inspect(&mut self, key: &PluginKey) -> Result<PluginInfo> {
        self.ask("plugins.inspect", about(key), "leanclaw").await
    }

    async fn grant(&mut self, key: &PluginKey, change: &GrantChange) -> Result<PluginInfo> {
        self.ask("plugins.grant", changing(key, change), "leanclaw").await
    }

    async fn revoke(&mut self, key: &PluginKey, change: &GrantChange) -> Result<PluginInfo> {
        self.ask("plugins.revoke", changing(key, change), "leanclaw").await
    }

    async fn logs(&mut self, plugin: &PluginId, after_seq: Option<u64>, limit: u32) -> Result<Vec<LogLine>> {
        let mut params = json!({ "pluginId": plugin, "limit": limit });
        if let (Some(after_seq), Some(params)) = (after_seq, params.as_object_mut()) {
            params.insert("afterSeq".to_owned(), after_seq.into());
        }
        self.ask("plugins.logs", params, "lines").await
    }

    async fn reload(&mut self, plugin: Option<&PluginId>) -> Result<Vec<PluginInfo>> {
        let params = plugin.map_or_else(|| json!({}), |plugin| json!({ "pluginId": plugin }));
        self.ask("plugins.reload", params, "plugins").await.map(infos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{connect, receive, send, serve, welcome};

    fn plugin() -> Value {
        json!({
            "id": "notes", "account": "work", "name": "Notes", "version": "1.0.0", "description": "",
            "state": "ready", "reason": "", "exports": ["method"], "lifecycle": "per-call", "requested": {},
            "granted": {}, "missing": [], "tools": [], "methods": [], "sha256": null, "path": "/p",
            "stats": {"calls": 0, "failures": 0, "traps": 0, "timeouts": 0, "restarts": 0, "peakMemoryBytes": 0,
                      "egressDenied": 0}
        })
    }

    /// Answers requests one by one with `payloads` and checks what was asked against `expected`.
    async fn serve_each(exchanges: Vec<(&'static str, Value, Value)>) -> Online {
        let url = serve(|mut socket| async move {
            welcome(&mut socket).await;
            for (method, params, payload) in exchanges {
                let request = receive(&mut socket).await;
                assert_eq!((&request["method"], &request["params"]), (&json!(method), &params));
                send(&mut socket, json!({"type": "res", "id": request["id"], "ok": true, "payload": payload})).await;
            }
        })
        .await;
        Online::new(connect(&url).await.unwrap())
    }

    #[tokio::test]
    async fn every_command_is_one_gateway_method() {
        let row = json!({"id": "notes", "enabled": true, "leanclaw": plugin()});
        let one = json!({"ok": true, "plugin": {"id": "notes"}, "leanclaw": plugin()});
        let line = json!({"seq": 4, "atMs": 1, "level": "info", "callId": "", "source": "log", "message": "m"});
        let key = json!({"pluginId": "notes", "accountId": "work"});
        let change = json!({"pluginId": "notes", "accountId": "work", "all": false, "items": ["kv"]});
        let mut online = serve_each(vec![
            ("plugins.list", json!({}), json!({"plugins": [row], "diagnostics": []})),
            ("plugins.inspect", key, one.clone()),
            ("plugins.grant", change.clone(), one.clone()),
            ("plugins.revoke", change, one),
            ("plugins.logs", json!({"pluginId": "notes", "limit": 5, "afterSeq": 3}), json!({"lines": [line]})),
            ("plugins.reload", json!({}), json!({"ok": true, "plugins": [row]})),
        ])
        .await;
        let key: PluginKey = "notes/work".parse().unwrap();
        let change = GrantChange { all: false, items: vec!["kv".into()] };
        assert_eq!(online.list().await.unwrap().len(), 1);
        assert_eq!(online.inspect(&key).await.unwrap().account, key.account);
        assert_eq!(online.grant(&key, &change).await.unwrap().id, key.plugin);
        assert_eq!(online.revoke(&key, &change).await.unwrap().id, key.plugin);
        assert_eq!(online.logs(&key.plugin, Some(3), 5).await.unwrap()[0].seq, 4);
        assert_eq!(online.reload(None).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn another_gateway_that_knows_other_plugins_is_an_error_not_a_crash() {
        let mut online =
            serve_each(vec![("plugins.list", json!({}), json!({"plugins": [{"id": "openclaw-thing"}]}))]).await;
        let error = format!("{:#}", online.list().await.unwrap_err());
        assert!(error.contains("`plugins.list`") && error.contains("leanclaw"), "{error}");
    }
}
