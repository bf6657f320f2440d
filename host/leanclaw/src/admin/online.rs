//! Plugin administration through a running program's gateway.

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::{LogLine, PluginInfo, Purged};
use leanclaw_types::{PluginId, PluginKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Folder, PluginAdmin};
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

    /// Calls a method.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        Ok(self.client.request(method, Some(params)).await?)
    }

    /// Calls a method and reads one field of its result.
    async fn ask<T: DeserializeOwned>(&mut self, method: &str, params: Value, field: &str) -> Result<T> {
        let mut payload = self.client.request(method, Some(params)).await?;
        field_of(&mut payload, method, field)
    }

    /// Calls a method that answers with plugins and diagnostics.
    async fn ask_folder(&mut self, method: &str, params: Value) -> Result<Folder> {
        let mut payload = self.client.request(method, Some(params)).await?;
        let rows: Vec<Row> = field_of(&mut payload, method, "plugins")?;
        // Without diagnostics nothing is wrong; those that name no package are about plugins that are listed.
        let diagnostics: Vec<Value> = field_of(&mut payload, method, "diagnostics").unwrap_or_default();
        let refused = diagnostics.into_iter().filter_map(|diagnostic| serde_json::from_value(diagnostic).ok());
        Ok(Folder { plugins: rows.into_iter().map(|row| row.leanclaw).collect(), refused: refused.collect() })
    }
}

fn field_of<T: DeserializeOwned>(payload: &mut Value, method: &str, field: &str) -> Result<T> {
    let value = payload.get_mut(field).map(Value::take).unwrap_or_default();
    serde_json::from_value(value).with_context(|| format!("the gateway's answer to `{method}` is not understood"))
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

#[async_trait]
impl PluginAdmin for Online {
    async fn list(&mut self) -> Result<Folder> {
        self.ask_folder("plugins.list", json!({"leanclaw": true})).await
    }

    async fn inspect(&mut self, key: &PluginKey) -> Result<PluginInfo> {
        self.ask("plugins.inspect", about(key), "leanclaw").await
    }

    async fn grant(&mut self, key: &PluginKey, change: &GrantChange) -> Result<PluginInfo> {
        self.ask("plugins.grant", changing(key, change), "leanclaw").await
    }

    async fn revoke(&mut self, key: &PluginKey, change: &GrantChange) -> Result<Option<PluginInfo>> {
        self.ask("plugins.revoke", changing(key, change), "leanclaw").await
    }

    async fn logs(&mut self, plugin: &PluginId, after_seq: Option<u64>, limit: u32) -> Result<Vec<LogLine>> {
        let mut params = json!({ "pluginId": plugin, "limit": limit });
        if let (Some(after_seq), Some(params)) = (after_seq, params.as_object_mut()) {
            params.insert("afterSeq".to_owned(), after_seq.into());
        }
        self.ask("plugins.logs", params, "lines").await
    }

    async fn purge(&mut self, plugin: &PluginId) -> Result<Purged> {
        self.ask("plugins.purge", json!({ "pluginId": plugin }), "deleted").await
    }

    async fn reload(&mut self, plugin: Option<&PluginId>) -> Result<Folder> {
        let params = plugin.map_or_else(|| json!({}), |plugin| json!({ "pluginId": plugin }));
        self.ask_folder("plugins.reload", params).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::Refused;
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
        let diagnostics = json!([
            {"level": "warn", "message": "notes: it waits"},
            {"level": "error", "message": "/p/x: no", "source": "/p/x", "reason": "no"},
        ]);
        let key = json!({"pluginId": "notes", "accountId": "work"});
        let change = json!({"pluginId": "notes", "accountId": "work", "all": false, "items": ["kv"]});
        let mut online = serve_each(vec![
            ("plugins.list", json!({"leanclaw": true}), json!({"plugins": [row], "diagnostics": diagnostics})),
            ("plugins.inspect", key, one.clone()),
            ("plugins.grant", change.clone(), one.clone()),
            ("plugins.revoke", change.clone(), one),
            ("plugins.revoke", change, json!({"ok": true, "plugin": {"id": "notes"}, "leanclaw": null})),
            (
                "plugins.purge",
                json!({"pluginId": "notes"}),
                json!({"ok": true, "deleted": {"grants": 0, "secrets": 0, "messages": 0, "kvEntries": 4}}),
            ),
            ("plugins.logs", json!({"pluginId": "notes", "limit": 5, "afterSeq": 3}), json!({"lines": [line]})),
            ("plugins.reload", json!({}), json!({"ok": true, "plugins": [row], "diagnostics": diagnostics})),
        ])
        .await;
        let key: PluginKey = "notes/work".parse().unwrap();
        let change = GrantChange { all: false, items: vec!["kv".into()] };
        let refused = [Refused { path: "/p/x".into(), reason: "no".into() }];
        let listed = online.list().await.unwrap();
        assert_eq!((listed.plugins.len(), listed.refused), (1, refused.to_vec()));
        assert_eq!(online.inspect(&key).await.unwrap().account, key.account);
        assert_eq!(online.grant(&key, &change).await.unwrap().id, key.plugin);
        assert_eq!(online.revoke(&key, &change).await.unwrap().unwrap().id, key.plugin);
        assert!(online.revoke(&key, &change).await.unwrap().is_none(), "it is not installed");
        assert_eq!(online.purge(&key.plugin).await.unwrap(), Purged { kv_entries: 4, ..Purged::default() });
        assert_eq!(online.logs(&key.plugin, Some(3), 5).await.unwrap()[0].seq, 4);
        let reloaded = online.reload(None).await.unwrap();
        assert_eq!((reloaded.plugins.len(), reloaded.refused), (1, refused.to_vec()));
    }

    #[tokio::test]
    async fn another_gateway_that_knows_other_plugins_is_an_error_not_a_crash() {
        let mut online = serve_each(vec![(
            "plugins.list",
            json!({"leanclaw": true}),
            json!({"plugins": [{"id": "openclaw-thing"}]}),
        )])
        .await;
        let error = format!("{:#}", online.list().await.unwrap_err());
        assert!(error.contains("`plugins.list`") && error.contains("leanclaw"), "{error}");
    }
}
