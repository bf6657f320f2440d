//! Scenario 3: what each method answers. Those of agents and the scheduler are in `later.rs`.

use serde_json::{Value, json};

use super::{Check, check};
use crate::support::text;

pub(super) const CHECKS: &[Check] = &[
    check("methods: health", |on| {
        Box::pin(async move { assert_up(&on.operator().await.ok("health", json!({})).await) })
    }),
    check("methods: status", |on| {
        Box::pin(async move { assert_up(&on.operator().await.ok("status", json!({})).await) })
    }),
    check("methods: sessions.list", |on| {
        Box::pin(async move { assert_array(&on.operator().await.ok("sessions.list", json!({})).await) })
    }),
    check("methods: sessions.create", |on| {
        Box::pin(async move {
            let made = on.operator().await.ok("sessions.create", json!({"name": "test-session"})).await;
            assert!(!made.is_null());
        })
    }),
    check("methods: sessions.patch", |on| {
        Box::pin(async move {
            on.operator().await.ok("sessions.patch", json!({"sessionKey": "patched"})).await;
        })
    }),
    check("methods: sessions.delete", |on| {
        Box::pin(async move {
            let mut client = on.operator().await;
            client.ok("sessions.patch", json!({"sessionKey": "deleted"})).await;
            client.ok("sessions.delete", json!({"sessionKey": "deleted"})).await;
        })
    }),
    check("methods: sessions.reset", |on| {
        Box::pin(async move {
            on.operator().await.ok("sessions.reset", json!({"sessionKey": "reset"})).await;
        })
    }),
    check("methods: sessions.resolve", |on| {
        Box::pin(async move {
            let mut client = on.operator().await;
            client.ok("sessions.patch", json!({"sessionKey": "resolved"})).await;
            let found = client.ok("sessions.resolve", json!({"sessionKey": "resolved"})).await;
            assert!(found.is_null() || found.is_object(), "{found}");
        })
    }),
    check("methods: config.get", |on| {
        Box::pin(async move { assert!(on.operator().await.ok("config.get", json!({})).await.is_object()) })
    }),
    check("methods: config.set", |on| {
        Box::pin(async move {
            let answer = on.operator().await.ok("config.set", json!({"key": "test", "value": "value"})).await;
            assert_eq!(answer["applied"], false);
        })
    }),
    check("methods: config.patch", |on| {
        Box::pin(async move {
            let answer = on.operator().await.ok("config.patch", json!({"changes": {}})).await;
            assert_eq!(answer["applied"], false);
        })
    }),
    check("methods: config.schema", |on| {
        Box::pin(async move { assert_eq!(on.operator().await.ok("config.schema", json!({})).await["type"], "object") })
    }),
    check("methods: channels.status", |on| {
        Box::pin(async move { assert_array(&on.operator().await.ok("channels.status", json!({})).await) })
    }),
    check("methods: channels.logout", |on| {
        Box::pin(async move {
            on.operator().await.ok("channels.logout", json!({"channel": "post"})).await;
        })
    }),
    check("methods: groups.list", |on| {
        Box::pin(async move { assert_array(&on.operator().await.ok("groups.list", json!({})).await) })
    }),
    check("methods: tools.catalog", |on| {
        Box::pin(async move { assert_array(&on.operator().await.ok("tools.catalog", json!({})).await) })
    }),
    check("methods: agents.list", |on| {
        Box::pin(async move { assert_array(&on.operator().await.ok("agents.list", json!({})).await) })
    }),
    check("methods: logs.tail", |on| {
        Box::pin(async move { assert_array(&on.operator().await.ok("logs.tail", json!({})).await) })
    }),
    check("methods: gateway.identity.get", |on| {
        Box::pin(async move {
            let identity = on.operator().await.ok("gateway.identity.get", json!({})).await;
            assert!(identity["version"].is_string());
            assert_eq!((&identity["name"], &identity["runtime"]), (&json!("LeanClaw"), &json!("leanclaw")));
        })
    }),
    check("methods: wake", |on| {
        Box::pin(async move {
            on.operator().await.ok("wake", json!({})).await;
        })
    }),
    check("methods: send", |on| {
        Box::pin(async move {
            let sent = on.operator().await.ok("send", json!({"chatJid": "chat@test", "text": "hello"})).await;
            assert!(!text(&sent["messageId"]).is_empty(), "{sent}");
        })
    }),
    check("methods: system-presence", |on| {
        Box::pin(async move {
            let presence = on.operator().await.ok("system-presence", json!({})).await;
            let entries = presence.as_array().unwrap();
            assert!(!entries.is_empty());
            assert!(entries.iter().all(|entry| entry["connId"].is_string() && !entry["ts"].is_null()), "{presence}");
        })
    }),
    check("methods: system-event", |on| {
        Box::pin(async move {
            let answer = on.operator().await.ok("system-event", json!({"event": "test", "ts": 1})).await;
            assert_eq!(answer["received"], true);
        })
    }),
    check("methods: tools.effective", |on| {
        Box::pin(async move {
            let effective = on.operator().await.ok("tools.effective", json!({"sessionKey": "sess-1"})).await;
            assert!(effective["tools"].is_array());
            assert_eq!(effective["sessionKey"], "sess-1");
        })
    }),
    check("methods: tools.effective without a session", |on| {
        Box::pin(async move {
            let effective = on.operator().await.ok("tools.effective", json!({})).await;
            assert!(effective["tools"].is_array());
            assert_eq!(effective["sessionKey"], Value::Null);
        })
    }),
    check("methods: exec.approval.resolve", |on| {
        Box::pin(async move {
            let params = json!({"approvalId": "none", "approved": true});
            assert_eq!(on.operator().await.ok("exec.approval.resolve", params).await["resolved"], false);
        })
    }),
];

fn assert_up(answer: &Value) {
    assert!(answer["ok"] == true && answer["uptimeMs"].is_number(), "{answer}");
}

fn assert_array(answer: &Value) {
    assert!(answer.is_array(), "{answer}");
}
