//! The configuration file over the wire.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use leanclaw_types::{Caller, Failure};
use serde_json::{Map, Value, json};

use super::fake::MemoryRecords;
use super::{Server, assert_invalid, start_with, with_token};
use crate::{CheckedSettings, LiveConfig, OutrankedKey, Reload, Settings, SettingsIssue, changed_keys};

/// A file in memory. `bad: true` is wrong, `token` is a secret; `hot`, `plugins` and what the gateway goes by count at once.
#[derive(Default)]
pub(super) struct MemorySettings {
    text: Mutex<Option<String>>,
    /// What counts at once, as it counts.
    hot: Mutex<Value>,
    applied: Mutex<Vec<String>>,
}

#[async_trait]
impl Settings for MemorySettings {
    fn path(&self) -> String {
        "/c.json".into()
    }

    fn load(&self) -> Result<Option<String>, Failure> {
        Ok(self.text.lock().unwrap().clone())
    }

    fn check(&self, text: &str) -> CheckedSettings {
        // A comment is all of JSON5 that matters here.
        let text: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let Ok(parsed) = serde_json::from_str::<Value>(&text.join("\n")) else {
            let syntax = Some("JSON5 syntax at line 1".to_owned());
            return CheckedSettings {
                parsed: json!({}),
                syntax,
                issues: vec![issue("", "syntax")],
                ..Default::default()
            };
        };
        let mut resolved = parsed.clone();
        if let Some(object) = resolved.as_object_mut() {
            object.insert("environmentToken".into(), json!("from-environment"));
        }
        let mut issues = Vec::new();
        if parsed.get("bad").is_some() {
            issues = vec![issue("bad", "is `true`; expected nothing"), issue("", "does not fit together")];
        }
        let covered = parsed.get("covered").map(|_| issue("covered", "is `1`; expected nothing"));
        let by =
            |key: &str| OutrankedKey { key: key.into(), variable: "OUTRANKED".into(), source: "environment".into() };
        CheckedSettings {
            parsed,
            resolved,
            issues,
            covered: covered.into_iter().collect(),
            outranked: vec![by("gateway.nodes.denyCommands"), by("outranked")],
            ..Default::default()
        }
    }

    fn store(&self, text: &str) -> Result<(), Failure> {
        *self.text.lock().unwrap() = Some(text.to_owned());
        Ok(())
    }

    fn go_by(&self, text: &str) -> Vec<String> {
        let parsed = self.check(text).parsed;
        let hot = json!({"hot": parsed["hot"], "plugins": parsed["plugins"]});
        let keys = changed_keys(&self.hot.lock().unwrap(), &hot);
        *self.hot.lock().unwrap() = hot;
        keys
    }

    async fn apply(&self, _: &Caller, keys: &[String]) {
        self.applied.lock().unwrap().extend(keys.iter().cloned());
    }

    fn live(&self, text: &str) -> Option<LiveConfig> {
        let gateway = &self.check(text).parsed["gateway"];
        let page = &gateway["controlUi"];
        let mut live = LiveConfig::default();
        if let Some(limit) = gateway["rateLimits"]["loopback"]["read"].as_u64() {
            live.rates.loopback.read = u32::try_from(limit).unwrap();
        }
        let texts = |list: &Value| list.as_array().into_iter().flatten().map(text_of).collect::<Vec<String>>();
        live.allowed_origins = texts(&page["allowedOrigins"]);
        live.trusted_proxies = texts(&gateway["trustedProxies"]).iter().map(|ip| ip.parse().unwrap()).collect();
        live.control_ui.root = page["root"].as_str().map(Into::into);
        live.control_ui.base_path = page["basePath"].as_str().unwrap_or_default().to_owned();
        Some(live)
    }

    fn is_secret(&self, key: &str) -> bool {
        key.to_lowercase().ends_with("token")
    }

    fn reload(&self, key: &str) -> Reload {
        let hot = ["hot", "gateway.controlUi", "gateway.rateLimits", "gateway.trustedProxies", "gateway.nodes"];
        if hot.iter().any(|hot| key.starts_with(hot)) { Reload::Hot } else { Reload::Restart }
    }

    fn schema(&self) -> (Value, Map<String, Value>) {
        let port = json!({"type": "integer"});
        let gateway = json!({"type": "object", "properties": {"port": port, "token": {"type": "string"}}});
        let any = json!({"type": "object", "additionalProperties": gateway});
        let hints = json!({"gateway.token": {"label": "Token", "sensitive": true}});
        let schema = json!({"type": "object", "properties": {"gateway": gateway, "entries": any}});
        (schema, hints.as_object().unwrap().clone())
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn issue(path: &str, message: &str) -> SettingsIssue {
    SettingsIssue { path: path.into(), message: message.into() }
}

async fn start(text: Option<&str>) -> (Server, Arc<MemorySettings>) {
    let settings = Arc::new(MemorySettings::default());
    *settings.text.lock().unwrap() = text.map(str::to_owned);
    (start_on(&settings, Arc::default()).await, settings)
}

async fn start_on(settings: &Arc<MemorySettings>, records: Arc<MemoryRecords>) -> Server {
    let own = Arc::clone(settings);
    start_with(with_token(), records, |services| services.settings = Some(own)).await
}

/// Ends it, and starts another one over the same file and what it has kept.
async fn restarted(server: Server, settings: &Arc<MemorySettings>) -> Server {
    let records = Arc::clone(&server.records);
    server.stop().await;
    start_on(settings, records).await
}

async fn read(client: &mut super::Client) -> Value {
    client.call("config.get", json!({})).await["payload"].clone()
}

const TEXT: &str = "{\"gateway\": {\"port\": 1, \"token\": \"hunter2\"}}";

#[tokio::test]
async fn no_secret_is_read_and_each_version_has_its_hash() {
    let (server, _) = start(Some(TEXT)).await;
    let mut old = server.connect(3, &["operator.read"]).await;
    let mut new = server.connect(4, &["operator.read"]).await;
    let (v3, v4) = (read(&mut old).await, read(&mut new).await);
    for file in [&v3, &v4] {
        assert!(!file.to_string().contains("hunter2") && !file.to_string().contains("from-environment"), "{file}");
        assert_eq!(file["config"]["gateway"], json!({"port": 1, "token": "__OPENCLAW_REDACTED__"}));
        assert_eq!(file["raw"], TEXT.replace("hunter2", "__OPENCLAW_REDACTED__"));
        assert_eq!((file["exists"].as_bool(), file["valid"].as_bool()), (Some(true), Some(true)));
        assert_eq!(file["resolved"]["environmentToken"], "__OPENCLAW_REDACTED__");
    }
    let hash = v3["hash"].as_str().unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    assert!(v4["hash"].as_str().unwrap().starts_with("hmac-sha256:v1:"), "{v4}");
    assert_eq!(v4["configRevisionHash"], v4["hash"]);
}

#[tokio::test]
async fn a_change_is_stored_told_and_written_down_and_is_there_after_a_restart() {
    let (server, settings) = start(Some(TEXT)).await;
    let mut writer = server.admin().await;
    let mut reader = server.connect(4, &["operator.read"]).await;
    let hash = read(&mut writer).await["hash"].clone();
    let raw = "// mine\n{\"gateway\": {\"port\": 2, \"token\": \"__OPENCLAW_REDACTED__\"}, \"hot\": {\"x\": 1}}";
    let answer = writer.call("config.set", json!({"raw": raw, "baseHash": hash})).await["payload"].clone();
    assert_eq!((answer["ok"].as_bool(), answer["path"].as_str()), (Some(true), Some("/c.json")));
    assert_eq!(answer["config"]["gateway"], json!({"port": 2, "token": "__OPENCLAW_REDACTED__"}));
    assert_eq!(answer["restart"]["keys"], json!(["gateway.port"]));
    assert_eq!(answer["restart"]["required"], true);
    let event = reader.event("config.changed").await["payload"].clone();
    assert_eq!((&event["hash"], &event["path"]), (&answer["hash"], &json!("/c.json")));
    assert_eq!(*settings.applied.lock().unwrap(), ["hot.x"]);
    let stored = settings.check(&settings.load().unwrap().unwrap()).parsed;
    assert_eq!(stored["gateway"]["token"], "hunter2", "the sentinel keeps what is stored");
    let rows = serde_json::to_value(&*server.records.audit.lock().unwrap()).unwrap();
    assert_eq!(rows[0]["kind"], "config-changed");
    assert_eq!((&rows[0]["action"], &rows[0]["keys"]), (&json!("set"), &json!(["gateway.port", "hot.x"])));
    // A patch of the hot key alone needs no restart.
    let patch = json!({"raw": "{\"hot\": {\"x\": null, \"y\": 2}}", "baseHash": answer["hash"], "note": "n"});
    let patched = writer.call("config.patch", patch).await["payload"].clone();
    assert_eq!((&patched["restart"]["required"], &patched["config"]["hot"]), (&json!(false), &json!({"y": 2})));
    assert!(patched.get("sentinel").is_some());

    let server = restarted(server, &settings).await;
    let again = read(&mut server.admin().await).await;
    assert_eq!((&again["config"], &again["hash"]), (&patched["config"], &patched["hash"]));
}

/// Lays a patch over the file.
async fn patch(writer: &mut super::Client, patch: Value) -> Value {
    let hash = read(writer).await["hash"].clone();
    let answer = writer.call("config.patch", json!({"raw": patch.to_string(), "baseHash": hash})).await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer["payload"]["restart"].clone()
}

#[tokio::test]
async fn what_may_change_counts_without_a_start_and_for_who_is_there() {
    let (server, _) = start(Some("{}")).await;
    let mut writer = server.admin().await;
    let mut reader = server.connect(4, &["operator.read"]).await;

    let page = async || {
        let mut page = server.open_with("/", &[("origin", "https://ui.example")]).await;
        let mut params = super::connect_params(4, 4);
        params["auth"] = json!({"token": super::TOKEN});
        page.call("connect", params).await
    };
    assert_eq!(page().await["error"]["details"]["code"], "CONTROL_UI_ORIGIN_NOT_ALLOWED");
    let restart =
        patch(&mut writer, json!({"gateway": {"controlUi": {"allowedOrigins": ["https://ui.example"]}}, "cold": 1}))
            .await;
    assert_eq!((&restart["required"], &restart["keys"]), (&json!(true), &json!(["cold"])));
    assert_eq!(page().await["ok"], true);

    assert_eq!(reader.call("status", json!({})).await["ok"], true);
    let limit = |limit: Value| json!({"gateway": {"rateLimits": {"loopback": {"read": limit}}}});
    let restart = patch(&mut writer, limit(json!(1))).await;
    assert_eq!((&restart["required"], &restart["keys"]), (&json!(false), &json!([])));
    let refused = reader.call("status", json!({})).await["error"].clone();
    assert_eq!(refused["details"], json!({"method": "status", "limit": "1 per 60s"}), "{refused}");
    let lay = json!({"raw": limit(Value::Null).to_string(), "replacePaths": []});
    assert_invalid(
        &writer.call("config.patch", lay).await,
        "config base hash required for gateway.rateLimits.loopback.read; re-run config.get and retry with baseHash",
    );
    let limited = writer.call("config.get", json!({})).await;
    assert_eq!(limited["error"]["retryable"], true, "the writer as well: {limited}");
    server.clock.advance(120_000);
    patch(&mut writer, limit(Value::Null)).await;
    assert_eq!(reader.call("status", json!({})).await["ok"], true);
    assert_eq!(reader.call("status", json!({})).await["ok"], true, "no limit of one any more");

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "<html>the page</html>").unwrap();
    let before = super::web::request(&server, "GET /", &[], "").await;
    assert_ne!(before.status, 200);
    patch(&mut writer, json!({"gateway": {"controlUi": {"root": folder.path()}}})).await;
    let status = async |path: &str| super::web::request(&server, &format!("GET {path}"), &[], "").await.status;
    assert_eq!((status("/").await, status("/favicon.svg").await), (200, 404));
    patch(&mut writer, json!({"gateway": {"controlUi": {"basePath": "/claw"}}})).await;
    assert_eq!((status("/").await, status("/claw/").await), (404, 200), "it has moved");
    assert_eq!(reader.call("status", json!({})).await["ok"], true, "where the page is lets nobody in");

    let proxied = [("x-forwarded-for", "9.9.9.9")];
    assert!(server.dial("/", &proxied).await.is_err());
    patch(&mut writer, json!({"gateway": {"trustedProxies": ["127.0.0.1"]}})).await;
    assert!(server.dial("/", &proxied).await.is_ok());
    assert_eq!(reader.call("status", json!({})).await["ok"], true, "who is there came without a proxy");
}

/// A connection from that origin or through that proxy.
async fn from(server: &Server, header: (&'static str, &str)) -> super::Client {
    let mut client = server.open_with("/", &[header]).await;
    let response = knock(&mut client).await;
    assert_eq!(response["ok"], true, "{response}");
    client
}

async fn knock(client: &mut super::Client) -> Value {
    let mut params = super::connect_params(4, 4);
    params["auth"] = json!({"token": super::TOKEN});
    params["scopes"] = json!(["operator.admin"]);
    client.call("connect", params).await
}

const ORIGIN_GONE: &str = "access was taken back: the page's origin is no longer in gateway.controlUi.allowedOrigins";
const PROXY_GONE: &str = "access was taken back: a proxy in between is no longer in gateway.trustedProxies";

#[tokio::test]
async fn an_origin_that_is_taken_out_ends_what_it_let_in() {
    let origins = |origins: &[&str]| json!({"gateway": {"controlUi": {"allowedOrigins": origins}}});
    let (server, _) = start(Some("{}")).await;
    let mut writer = server.admin().await;
    patch(&mut writer, origins(&["https://one.example", "https://two.example"])).await;
    let mut one = from(&server, ("origin", "https://one.example")).await;
    let mut two = from(&server, ("origin", "https://two.example")).await;
    let mut own = from(&server, ("origin", "http://localhost:1")).await;
    let mut late = server.open_with("/", &[("origin", "https://one.example")]).await;
    patch(&mut writer, origins(&["https://two.example"])).await;
    assert_eq!(one.closed().await, (1008, ORIGIN_GONE.into()));
    assert_eq!(knock(&mut late).await["error"]["details"]["code"], "CONTROL_UI_ORIGIN_NOT_ALLOWED");
    for client in [&mut two, &mut own, &mut writer] {
        assert_eq!(client.call("status", json!({})).await["ok"], true);
    }
    // Who takes out what it came by itself hears that it is done.
    patch(&mut two, origins(&[])).await;
    assert_eq!(two.closed().await, (1008, ORIGIN_GONE.into()));
    assert_eq!(own.call("status", json!({})).await["ok"], true, "a page on this machine needs no list");
}

#[tokio::test]
async fn a_proxy_that_is_trusted_no_more_ends_what_came_through_it() {
    let proxies = |proxies: &[&str]| json!({"gateway": {"trustedProxies": proxies}});
    let (server, _) = start(Some("{}")).await;
    let mut writer = server.admin().await;
    patch(&mut writer, proxies(&["127.0.0.1", "10.0.0.1"])).await;
    let mut near = from(&server, ("x-forwarded-for", "9.9.9.9")).await;
    let mut far = from(&server, ("x-forwarded-for", "9.9.9.9, 10.0.0.1")).await;
    patch(&mut writer, proxies(&["127.0.0.1"])).await;
    assert_eq!(far.closed().await, (1008, PROXY_GONE.into()), "it is known by the word of 10.0.0.1");
    assert_eq!(near.call("status", json!({})).await["ok"], true);
    let mut late = server.open_with("/", &[("x-forwarded-for", "9.9.9.9")]).await;
    patch(&mut writer, proxies(&[])).await;
    assert_eq!(near.closed().await, (1008, PROXY_GONE.into()));
    let refused = knock(&mut late).await;
    assert_eq!((&refused["ok"], &refused["error"]["details"]["code"]), (&json!(false), &json!("PROXY_NOT_TRUSTED")));
    let why = "unauthorized: a proxy in between is no longer trusted (add its address to gateway.trustedProxies)";
    assert_eq!(late.closed().await, (1008, why.into()), "it was believed before it said who it is");
    assert_eq!(writer.call("status", json!({})).await["ok"], true);
}

#[tokio::test]
async fn what_was_edited_before_is_told_and_written_down_with_what_counts() {
    let (server, settings) = start(Some("{}")).await;
    let mut writer = server.admin().await;
    let edited = json!({"gateway": {"controlUi": {"allowedOrigins": ["https://of.hand"]}}});
    settings.store(&edited.to_string()).unwrap();
    let restart = patch(&mut writer, json!({"gateway": {"trustedProxies": ["10.0.0.1"]}})).await;
    let (proxies, origins) = ("gateway.trustedProxies", "gateway.controlUi.allowedOrigins");
    assert_eq!((&restart["live"], &restart["edited"]), (&json!([proxies, origins]), &json!([origins])), "{restart}");
    let rows = serde_json::to_value(&*server.records.audit.lock().unwrap()).unwrap();
    assert_eq!((&rows[0]["kind"], &rows[0]["keys"]), (&json!("config-changed"), &json!([proxies])));
    let expected = json!({
        "kind": "config-live", "keys": [proxies, origins], "edited": [origins],
        "actor": rows[0]["actor"], "atMs": rows[0]["atMs"],
    });
    assert_eq!(rows[1], expected);
    let restart = patch(&mut writer, json!({"other": 1})).await;
    assert_eq!((restart.get("live"), restart.get("edited")), (None, None), "nothing of it counts otherwise");
    assert_eq!(server.records.audit.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn settings_of_plugins_that_were_edited_before_are_told_and_written_down_too() {
    let (server, settings) = start(Some("{}")).await;
    let mut writer = server.admin().await;
    settings.store(&json!({"plugins": {"entries": {"b": {"enabled": false}}}}).to_string()).unwrap();
    let restart = patch(&mut writer, json!({"plugins": {"entries": {"a": {"enabled": false}}}})).await;
    let (a, b) = ("plugins.entries.a.enabled", "plugins.entries.b.enabled");
    assert_eq!((&restart["live"], &restart["edited"]), (&json!([b, a]), &json!([b])), "{restart}");
    assert_eq!(*settings.applied.lock().unwrap(), [b, a], "what was edited is applied as well");
    let rows = serde_json::to_value(&*server.records.audit.lock().unwrap()).unwrap();
    assert_eq!(rows[0]["kind"], "config-changed");
    assert_eq!((&rows[1]["kind"], &rows[1]["edited"]), (&json!("config-live"), &json!([b])), "{rows}");
}

#[tokio::test]
async fn a_key_that_something_else_speaks_for_is_not_said_to_count() {
    let (server, _) = start(Some("{}")).await;
    let mut writer = server.admin().await;
    let deny = "gateway.nodes.denyCommands";
    let restart =
        patch(&mut writer, json!({"gateway": {"nodes": {"denyCommands": ["x"]}}, "outranked": 1, "cold": 1})).await;
    assert_eq!(restart["keys"], json!(["cold"]), "a start does not help the other: {restart}");
    let by = |key: &str| json!({"key": key, "variable": "OUTRANKED", "source": "environment"});
    assert_eq!((&restart["outranked"], restart.get("live")), (&json!([by(deny), by("outranked")]), None));
    let restart = patch(&mut writer, json!({"cold": 2})).await;
    assert_eq!(restart.get("outranked"), None, "only what is changed is told of");
}

#[tokio::test]
async fn a_text_without_sentinels_keeps_its_comments() {
    let (server, settings) = start(None).await;
    let mut writer = server.connect(3, &["operator.admin"]).await;
    let raw = "// mine\n{\"gateway\": {\"port\": 2}}";
    let answer = writer.call("config.apply", json!({"raw": raw, "sessionKey": "main", "restartDelayMs": 0})).await;
    assert_eq!(answer["ok"], true, "no hash is needed for the first file: {answer}");
    assert_eq!(settings.load().unwrap().as_deref(), Some(raw));
    let seen = read(&mut server.connect(4, &["operator.read"]).await).await;
    assert_eq!((&seen["raw"], &seen["config"]["gateway"]["port"]), (&json!(raw), &json!(2)), "{seen}");
    let server = restarted(server, &settings).await;
    assert_eq!(read(&mut server.connect(4, &["operator.read"]).await).await["raw"], raw);
}

#[tokio::test]
async fn a_write_that_may_not_be_changes_nothing_and_says_why() {
    let (server, settings) = start(Some(TEXT)).await;
    for protocol in [3, 4] {
        let mut writer = server.connect(protocol, &["operator.admin"]).await;
        let hash = read(&mut writer).await["hash"].clone();
        let set = |raw: &str, hash: &Value| json!({"raw": raw, "baseHash": hash});
        let response = writer.call("config.set", json!({"raw": "{}"})).await;
        assert_invalid(&response, "config base hash required; re-run config.get and retry");
        let response = writer.call("config.set", set("{}", &json!("old"))).await;
        assert_invalid(&response, "config changed since last load; re-run config.get and retry");
        assert_invalid(&writer.call("config.set", set("{x", &hash)).await, "JSON5 syntax at line 1");
        let response = writer.call("config.set", set("{\"bad\": true}", &hash)).await;
        assert_invalid(&response, "invalid config: bad: is `true`; expected nothing; <root>: does not fit together");
        assert_eq!(response["error"]["details"]["issues"][1], json!({"path": "", "message": "does not fit together"}));
        let response = writer.call("config.patch", set("[1]", &hash)).await;
        assert_invalid(&response, "config.patch raw must be an object");
        let response =
            writer.call("config.patch", set("{\"new\": {\"token\": \"__OPENCLAW_REDACTED__\"}}", &hash)).await;
        assert!(
            response["error"]["message"].as_str().unwrap().starts_with("invalid config: new.token: "),
            "{response}"
        );
        let response = writer.call("config.patch", json!({"raw": "{\"ui\": {\"seamColor\": 1}}"})).await;
        let message = match protocol {
            3 => "config base hash required; re-run config.get and retry",
            _ => "config base hash required for ui.seamColor; re-run config.get and retry with baseHash",
        };
        assert_invalid(&response, message);
        let mut reader = server.connect(protocol, &["operator.write"]).await;
        let response = reader.call("config.set", set("{}", &hash)).await;
        assert_eq!(response["error"]["message"], "missing scope: operator.admin");
    }
    assert_eq!(settings.load().unwrap().as_deref(), Some(TEXT));
}

#[tokio::test]
async fn a_wrong_value_that_something_covers_is_told_and_cannot_be_written_anew() {
    let (server, settings) = start(Some("{\"covered\": 1}")).await;
    let mut writer = server.admin().await;
    let file = read(&mut writer).await;
    assert_eq!((&file["valid"], &file["warnings"][0]["path"]), (&json!(true), &json!("covered")), "{file}");
    patch(&mut writer, json!({"other": 1})).await;
    let hash = read(&mut writer).await["hash"].clone();
    let again = writer.call("config.patch", json!({"raw": "{\"covered\": 2}", "baseHash": hash})).await;
    assert_invalid(&again, "invalid config: covered: is `1`; expected nothing");
    assert_eq!(settings.check(&settings.load().unwrap().unwrap()).parsed, json!({"covered": 1, "other": 1}));
    patch(&mut writer, json!({"covered": null})).await;
}

#[tokio::test]
async fn the_schema_can_be_read_as_a_whole_and_by_path() {
    let (server, _) = start(None).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    let whole = client.call("config.schema", json!({})).await["payload"].clone();
    assert_eq!(whole["uiHints"]["gateway.token"]["sensitive"], true);
    assert_eq!((&whole["version"], &whole["generatedAt"]), (&json!("1.2.3"), &json!("2023-11-14T22:13:20.000Z")));
    let node = client.call("config.schema.lookup", json!({"path": "gateway"})).await["payload"].clone();
    assert_eq!((&node["schema"], &node["reloadKind"]), (&json!({"type": "object"}), &json!("restart")));
    let token = &node["children"][1];
    assert_eq!(
        (&token["key"], &token["path"], &token["type"]),
        (&json!("token"), &json!("gateway.token"), &json!("string"))
    );
    assert_eq!(token["hint"]["label"], "Token");
    let below = client.call("config.schema.lookup", json!({"path": "entries.x.port"})).await["payload"].clone();
    assert_eq!(below["schema"], json!({"type": "integer"}));
    let response = client.call("config.schema.lookup", json!({"path": "nope"})).await;
    assert_invalid(&response, "config schema path not found");
    let mut old = server.connect(3, &["operator.read"]).await;
    let node = old.call("config.schema.lookup", json!({"path": "gateway"})).await["payload"].clone();
    assert_eq!(node.get("reloadKind"), None);
}

#[tokio::test]
async fn a_skill_and_a_channel_are_switched_in_the_file_and_stay_so() {
    let (server, settings) = start(Some("// mine\n{\"gateway\": {\"token\": \"hunter2\"}}")).await;
    let mut skill = super::fake::plugin("tools", "ready", "");
    skill.exports = vec!["skill".into()];
    let mut channel = super::fake::plugin("hook", "ready", "");
    channel.exports = vec!["channel".into()];
    let mut off = super::fake::plugin("mail", "disabled", "it is switched off");
    off.channels = vec!["mail".into()];
    *server.host.more.lock().unwrap() = vec![skill, channel, off];
    let mut admin = server.admin().await;
    let shown = admin.call("skills.status", json!({})).await["payload"]["skills"][0].clone();
    assert_eq!((&shown["skillKey"], &shown["eligible"]), (&json!("tools"), &json!(true)), "{shown}");
    for (name, number) in [("tools", 1), ("other", 0)] {
        let named = admin.call("skills.status", json!({"name": name})).await["payload"]["skills"].clone();
        assert_eq!(named.as_array().map(Vec::len), Some(number), "{named}");
    }
    let off = admin.call("skills.update", json!({"skillKey": "tools", "enabled": false})).await["payload"].clone();
    assert_eq!(off, json!({"ok": true, "skillKey": "tools", "config": {"enabled": false}}));
    let stored = || settings.check(&settings.load().unwrap().unwrap()).parsed;
    assert_eq!(stored()["plugins"]["entries"]["tools"], json!({"enabled": false}));
    assert_eq!(stored()["gateway"]["token"], "hunter2", "what else is there stays");
    assert_eq!(*settings.applied.lock().unwrap(), ["plugins.entries.tools.enabled"]);
    let rows = serde_json::to_value(&*server.records.audit.lock().unwrap()).unwrap();
    assert_eq!(rows[0]["keys"], json!(["plugins.entries.tools.enabled"]));
    for (params, why) in [
        (json!({"skillKey": "nope", "enabled": true}), "unknown skill: nope"),
        (json!({"skillKey": "tools", "apiKey": "k"}), "leanclaw plugin secret set tools NAME"),
        (json!({"skillKey": "tools"}), "say `enabled`"),
    ] {
        let refused = admin.call("skills.update", params).await;
        assert!(refused["error"]["message"].as_str().unwrap().contains(why), "{refused}");
    }
    let found = admin.call("skills.search", json!({"query": "TOOL"})).await["payload"]["results"].clone();
    assert_eq!((found.as_array().unwrap().len(), &found[0]["installRef"]), (1, &json!("tools")));
    assert_eq!(admin.call("skills.search", json!({"query": "zz"})).await["payload"]["results"], json!([]));
    let there = admin.call("skills.install", json!({"name": "tools", "installId": "x"})).await;
    assert_eq!(there["payload"]["code"], 0);
    for (params, why) in [
        (json!({"source": "clawhub", "slug": "x"}), "leanclaw plugin install PATH"),
        (json!({"name": "x", "installId": "x", "timeoutMs": 1000}), "there is no skill x here"),
        (json!({"slug": "tools", "from": "afar"}), "unexpected property 'from'"),
        (json!({"timeoutMs": 1000}), "`name` or `slug` is required"),
    ] {
        let refused = admin.call("skills.install", params).await;
        assert!(refused["error"]["message"].as_str().unwrap().contains(why), "{refused}");
    }

    // The host of this test goes on whatever the file says, and that is said.
    let stop = admin.call("channels.stop", json!({"channel": "hook"})).await;
    assert!(stop["error"]["message"].as_str().unwrap().contains("still runs"), "{stop}");
    let begun = admin.call("channels.start", json!({"channel": "mail"})).await;
    assert!(begun["error"]["message"].as_str().unwrap().contains("does not run"), "{begun}");
    let server = restarted(server, &settings).await;
    let entries = read(&mut server.admin().await).await["parsed"]["plugins"]["entries"].clone();
    let account = |on: bool| json!({"accounts": {"default": {"enabled": on}}});
    assert_eq!(entries, json!({"tools": {"enabled": false}, "hook": account(false), "mail": account(true)}));
}

/// It would be tried again with the next start or load.
#[tokio::test]
async fn a_channel_that_fails_is_stopped_in_the_file_and_once() {
    let (server, settings) = start(Some("{}")).await;
    let mut broken = super::fake::plugin("fax", "faulted", "it traps");
    broken.channels = vec!["fax".into()];
    *server.host.more.lock().unwrap() = vec![broken];
    let mut admin = server.admin().await;
    for _ in 0..2 {
        let stop = admin.call("channels.stop", json!({"channel": "fax"})).await["payload"].clone();
        assert_eq!(stop, json!({"channel": "fax", "accountId": "default", "stopped": true}));
        assert_eq!(*settings.applied.lock().unwrap(), ["plugins.entries.fax.accounts.default.enabled"]);
    }
    let server = restarted(server, &settings).await;
    let entries = read(&mut server.admin().await).await["parsed"]["plugins"]["entries"].clone();
    assert_eq!(entries["fax"]["accounts"]["default"], json!({"enabled": false}));
}
