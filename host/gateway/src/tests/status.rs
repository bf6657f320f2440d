//! `status`, heartbeats, `wake`, and what answers that there is nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{assert_invalid, start, start_on, with_token};

#[tokio::test]
async fn what_is_queued_is_seen_by_others_and_after_a_restart() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    let wake = json!({"mode": "now", "text": " hi ", "sessionKey": "main", "whatever": 1});
    assert_eq!(writer.call("wake", wake).await["payload"], json!({"ok": true}));
    let mut old = server.connect(3, &["operator.admin"]).await;
    assert_eq!(old.call("wake", json!({"mode": "next-heartbeat", "text": "later"})).await["ok"], true);
    assert_eq!(old.call("status", Value::Null).await["payload"]["queuedSystemEvents"], json!(["hi", "later"]));
    let set = old.call("set-heartbeats", json!({"enabled": false})).await;
    assert_eq!(set["payload"], json!({"ok": true, "enabled": false}));
    let records = Arc::clone(&server.records);
    server.stop().await;

    let server = start_on(with_token(), Arc::clone(&records)).await;
    let mut client = server.admin().await;
    assert_eq!(client.call("status", json!({})).await["payload"]["queuedSystemEvents"], json!(["hi", "later"]));
    assert!(!server.gateway.state.pulse.enabled());
    // Old ones make room, and one that cannot be stored is not answered with ok.
    for number in 0..25 {
        client.call("wake", json!({"mode": "now", "text": format!("event {number}")})).await;
    }
    let queued = client.call("status", json!({})).await["payload"]["queuedSystemEvents"].clone();
    let queued = queued.as_array().unwrap();
    assert_eq!((queued.len(), &queued[0], &queued[19]), (20, &json!("event 5"), &json!("event 24")));
    records.broken.store(true, Ordering::SeqCst);
    assert_eq!(client.call("wake", json!({"mode": "now", "text": "lost"})).await["error"]["code"], "UNAVAILABLE");
    assert_eq!(client.call("set-heartbeats", json!({"enabled": true})).await["error"]["code"], "UNAVAILABLE");
    assert!(!server.gateway.state.pulse.enabled());
}

#[tokio::test]
async fn parameters_are_checked() {
    let server = start(with_token()).await;
    for protocol in [3, 4] {
        let mut client = server.connect(protocol, &["operator.admin"]).await;
        let response = client.call("wake", json!({"mode": "later", "text": "x"})).await;
        let union = "at /mode: must be equal to constant; at /mode: must match a schema in anyOf";
        assert_invalid(&response, &format!("invalid wake params: {union}"));
        let missing = match protocol {
            3 => "must have required property 'mode'; must have required property 'text'",
            _ => "must have required property 'mode'",
        };
        assert_invalid(&client.call("wake", json!({})).await, &format!("invalid wake params: {missing}"));
        let response = client.call("set-heartbeats", json!({"enabled": "yes"})).await;
        assert_invalid(&response, "invalid set-heartbeats params: at /enabled: must be boolean");
        let response = client.call("cron.list", json!({"foo": 1})).await;
        assert_invalid(&response, "invalid cron.list params: at root: unexpected property 'foo'");
    }
}

#[tokio::test]
async fn status_has_what_each_version_knows() {
    let server = start(with_token()).await;
    let mut old = server.connect(3, &["operator.read"]).await;
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let base = ["runtimeVersion", "heartbeat", "channelSummary", "queuedSystemEvents", "sessions"];
    let status = old.call("status", json!({"unknown": 1})).await["payload"].clone();
    assert_eq!(keys(&status), base);
    assert_eq!((&status["runtimeVersion"], &status["heartbeat"]["defaultAgentId"]), (&json!("1.2.3"), &json!("main")));
    let mut new = server.connect(4, &["operator.read"]).await;
    let status = new.call("status", json!({"includeChannelSummary": false})).await["payload"].clone();
    assert_eq!(status["degradedPlugins"], json!([{"id": "broken", "error": "it traps"}]));
    assert_eq!(status["tasks"]["byStatus"]["timed_out"], 0);
    assert_eq!(new.call("last-heartbeat", Value::Null).await["payload"], Value::Null);
}

#[tokio::test]
async fn what_there_is_none_of_is_an_empty_list() {
    let server = start(with_token()).await;
    for (protocol, scope) in [(3, "operator.admin"), (4, "operator.admin")] {
        let mut client = server.connect(protocol, &[scope]).await;
        for (method, field) in [
            ("models.list", "models"),
            ("skills.status", "skills"),
            ("commands.list", "commands"),
            ("cron.list", "jobs"),
            ("tasks.list", "tasks"),
        ] {
            assert_eq!(client.call(method, json!({})).await["payload"][field], json!([]), "{method}");
        }
        assert_eq!(client.call("providers.list", json!({})).await["payload"], json!([]));
        let cron = client.call("cron.status", json!({})).await["payload"].clone();
        assert_eq!((&cron["enabled"], &cron["jobs"]), (&json!(false), &json!(0)));
        assert_eq!(client.call("update.status", json!({})).await["payload"]["updateAvailable"], Value::Null);
        // What real clients say to them, in the schemas and out of them, and nothing else.
        for (method, params) in [
            ("models.list", Value::Null),
            ("models.list", json!({"view": "configured", "preparedOnly": true, "agentId": "main"})),
            ("models.list", json!({"agentId": "main", "includeDetails": true})),
            ("models.list", json!({"agentId": "main", "sessionKey": "agent:main:main", "view": "configured"})),
            ("skills.status", json!({"agentId": "main", "sessionKey": "main"})),
            ("skills.status", json!({"name": "notes"})),
            ("commands.list", json!({"agentId": "main", "scope": "text", "includeArgs": false})),
            ("tasks.list", json!({"sessionKey": "main", "status": ["completed"], "sortBy": "endedAt", "limit": 100})),
            ("tasks.list", json!({"status": "queued"})),
            ("update.status", json!({"refreshCheckout": false})),
        ] {
            assert_eq!(client.call(method, params).await["ok"], true, "{method}");
            let unknown = client.call(method, json!({"nope": 1})).await;
            assert_invalid(&unknown, &format!("invalid {method} params: at root: unexpected property 'nope'"));
        }
        // The original LeanClaw's spelling of what is broken off.
        for (method, aborted) in [("chat.abort", "runIds"), ("sessions.abort", "abortedRunId")] {
            let answer = client.call(method, json!({"chatJid": "main"})).await;
            assert!(answer["payload"].get(aborted).is_some(), "{answer}");
        }
        let agents = client.call("agents.list", json!({})).await["payload"].clone();
        assert_eq!((&agents["defaultId"], &agents["agents"][0]["id"]), (&json!("main"), &json!("main")));
        let identity = client.call("agent.identity.get", json!({"sessionKey": "agent:main:main"})).await;
        assert_eq!(identity["payload"]["agentId"], "main");
        let response = client.call("agent.identity.get", json!({"agentId": "x"})).await;
        let unknown = if protocol == 3 { "unknown agent id \"x\"" } else { "agent \"x\" not found" };
        assert_invalid(&response, unknown);
    }
}
