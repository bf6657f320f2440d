//! What agents and the scheduler will do: parts of scenario 3, and scenarios 10 and 11.

use serde_json::{Value, json};

use super::{Check, Ground, check};
use crate::support::{Client, text};

pub(super) const CHECKS: &[Check] = &[
    check("methods: sessions.compact", |on| {
        Box::pin(async move {
            on.operator().await.ok("sessions.compact", json!({})).await;
        })
    }),
    check("methods: sessions.send", |on| {
        Box::pin(async move {
            let mut client = on.operator().await;
            let made = client.ok("sessions.patch", json!({"sessionKey": "sess-1"})).await;
            for session in ["sess-1", text(&made["entry"]["sessionId"])] {
                let sent = client.ok("sessions.send", json!({"sessionId": session, "text": "hello"})).await;
                assert_eq!((&sent["key"], &sent["sessionId"]), (&made["key"], &made["entry"]["sessionId"]), "{sent}");
            }
        })
    }),
    check("methods: models.list", |on| {
        Box::pin(async move {
            let models = on.operator().await.ok("models.list", json!({})).await;
            let models = models.get("models").unwrap_or(&models).as_array().unwrap().clone();
            assert_rows(&models, &["id", "provider", "name"]);
        })
    }),
    check("methods: providers.list", |on| {
        Box::pin(async move {
            let providers = on.operator().await.ok("providers.list", json!({})).await;
            assert_rows(providers.as_array().unwrap(), &["id", "name", "configured"]);
        })
    }),
    check("methods: agent", |on| {
        Box::pin(async move {
            let answer = on.operator().await.ok("agent", json!({"prompt": "hello"})).await;
            assert_eq!((&answer["status"], &answer["runId"]), (&json!("not_supported"), &Value::Null));
        })
    }),
    check("methods: chat.send", |on| Box::pin(async move { assert_sent(&mut on.operator().await).await })),
    check("methods: chat.abort", |on| Box::pin(async move { assert_aborted(&on).await })),
    check("chat: send", |on| Box::pin(async move { assert_sent(&mut on.operator().await).await })),
    check("chat: send without chatJid", |on| {
        Box::pin(async move { assert_names(&on, "chat.send", json!({"text": "hello"}), "chatJid").await })
    }),
    check("chat: send without text", |on| {
        Box::pin(async move { assert_names(&on, "chat.send", json!({"chatJid": "chat@test"}), "text").await })
    }),
    check("chat: abort", |on| Box::pin(async move { assert_aborted(&on).await })),
    check("chat: abort without chatJid", |on| {
        Box::pin(async move { assert_names(&on, "chat.abort", json!({}), "chatJid").await })
    }),
    check("methods: cron.list", |on| {
        Box::pin(async move { assert!(on.operator().await.ok("cron.list", json!({})).await.is_array()) })
    }),
    check("methods: cron.status", |on| {
        Box::pin(async move { assert!(on.operator().await.ok("cron.status", json!({})).await["running"].is_boolean()) })
    }),
    check("methods: cron.add", |on| {
        Box::pin(async move {
            added(&mut on.operator().await, "interval", "60000").await;
        })
    }),
    check("methods: cron.remove", |on| Box::pin(async move { assert_removed(&mut on.operator().await).await })),
    check("methods: cron.run", |on| {
        Box::pin(async move {
            let mut client = on.operator().await;
            let task = added(&mut client, "interval", "60000").await;
            assert_eq!(client.ok("cron.run", json!({"taskId": task["taskId"]})).await["queued"], true);
        })
    }),
    check("cron: cron", |on| {
        Box::pin(async move {
            added(&mut on.operator().await, "cron", "0 9 * * *").await;
        })
    }),
    check("cron: interval", |on| {
        Box::pin(async move {
            added(&mut on.operator().await, "interval", "300000").await;
        })
    }),
    check("cron: once", |on| {
        Box::pin(async move {
            added(&mut on.operator().await, "once", "2099-01-01T00:00:00.000Z").await;
        })
    }),
    check("cron: list", |on| {
        Box::pin(async move {
            let mut client = on.operator().await;
            let task = added(&mut client, "cron", "0 9 * * *").await;
            let list = client.ok("cron.list", json!({})).await;
            let found = list.as_array().unwrap().iter().find(|row| row["id"] == task["taskId"]).unwrap();
            assert_eq!(found["prompt"], "Do something");
        })
    }),
    check("cron: remove", |on| Box::pin(async move { assert_removed(&mut on.operator().await).await })),
    check("cron: invalid", |on| Box::pin(async move { assert_refused_task(&on, task("cron", "not-a-cron")).await })),
    check("cron: missing", |on| Box::pin(async move { assert_refused_task(&on, json!({"prompt": "x"})).await })),
    check("cron: event", |on| {
        Box::pin(async move {
            let (mut one, mut other) = (on.operator().await, on.operator().await);
            let task = added(&mut one, "interval", "60000").await;
            let event = other.event("cron").await;
            assert_eq!((&event["action"], &event["taskId"]), (&json!("added"), &task["taskId"]));
        })
    }),
];

fn assert_rows(rows: &[Value], names: &[&str]) {
    assert!(!rows.is_empty());
    assert!(rows.iter().all(|row| names.iter().all(|name| row.get(name).is_some())), "{rows:?}");
}

async fn assert_sent(client: &mut Client) {
    let sent = client.ok("chat.send", json!({"chatJid": "chat@test", "text": "hello"})).await;
    assert!(!text(&sent["messageId"]).is_empty() && sent["piped"].is_boolean(), "{sent}");
}

async fn assert_aborted(on: &Ground) {
    assert_eq!(on.operator().await.ok("chat.abort", json!({"chatJid": "chat@test"})).await["aborted"], true);
}

async fn assert_names(on: &Ground, method: &str, params: Value, name: &str) {
    let error = on.operator().await.refused(method, params).await;
    assert!(text(&error["message"]).contains(name), "{error}");
}

fn task(kind: &str, value: &str) -> Value {
    json!({"groupFolder": "main", "chatJid": "chat@test", "prompt": "Do something", "scheduleType": kind, "scheduleValue": value})
}

async fn added(client: &mut Client, kind: &str, value: &str) -> Value {
    let added = client.ok("cron.add", task(kind, value)).await;
    assert!(added["taskId"].is_string() && added["nextRun"].is_string(), "{added}");
    added
}

async fn assert_removed(client: &mut Client) {
    let task = added(client, "interval", "60000").await;
    assert_eq!(client.ok("cron.remove", json!({"taskId": task["taskId"]})).await["removed"], true);
    let list = client.ok("cron.list", json!({})).await;
    assert!(list.as_array().unwrap().iter().all(|row| row["id"] != task["taskId"]), "{list}");
}

/// Refused because of the task, and not because there is no such method.
async fn assert_refused_task(on: &Ground, task: Value) {
    let error = on.operator().await.refused("cron.add", task).await;
    assert!(!text(&error["message"]).starts_with("unknown method"), "{error}");
}
