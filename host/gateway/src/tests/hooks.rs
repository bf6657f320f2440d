//! Hooks over HTTP: what others may tell the agent.

use std::sync::Arc;

use leanclaw_types::redact::Secret;
use serde_json::json;

use super::web::{bearer, request};
use super::{start, start_on, with_token};
use crate::GatewayConfig;

pub(super) fn with_hooks() -> GatewayConfig {
    let mut config = with_token();
    let mut hooks = crate::Hooks::new(Secret::new("hook-token"));
    hooks.body_bytes = 200;
    hooks.mappings = vec![
        crate::HookMapping { path: Some("ci".into()), template: "build {{build.id}}".into(), ..Default::default() },
        crate::HookMapping { path: Some("empty".into()), template: "{{nothing}}".into(), ..Default::default() },
        crate::HookMapping {
            path: Some("run".into()),
            template: "do it".into(),
            runs_agent: true,
            ..Default::default()
        },
    ];
    config.hooks = Some(hooks);
    config
}

#[tokio::test]
async fn hooks_leave_events_that_outlive_the_gateway() {
    let server = start(with_hooks()).await;
    let post = async |path: &str, body: &str| {
        request(&server, &format!("POST /hooks/{path}"), &[("authorization", "Bearer hook-token")], body).await
    };
    let taken = post("wake", "{\"text\": \" hello \", \"mode\": \"next-heartbeat\"}").await;
    assert_eq!(taken.json(), json!({"ok": true, "mode": "next-heartbeat", "eventOutcome": "queued"}), "{}", taken.body);
    let own = [("x-openclaw-token", "hook-token")];
    assert_eq!(request(&server, "POST /hooks/ci", &own, "{\"build\": {\"id\": 7}}").await.status, 200);
    assert_eq!(post("empty", "{}").await.status, 204);
    for (path, body, status, why) in [
        ("wake", "{}", 400, "text required"),
        ("wake", "{\"text\": \"x\", \"mode\": \"later\"}", 400, "mode must be"),
        ("agent", "{}", 400, "message required"),
        ("agent", "{\"message\": \"x\", \"sessionKey\": \"s\"}", 400, "sessionKey is disabled"),
        ("agent", "{\"message\": \"x\", \"agentId\": \"nobody\"}", 400, "unknown agent id"),
        ("agent", "{\"message\": \"x\", \"thinking\": \"hard\"}", 400, "invalid thinking level"),
        ("wake", "{no", 400, "key must be a string"),
        ("nope", "{}", 404, "Not Found"),
        ("", "{}", 404, "Not Found"),
        ("wake", &"x".repeat(201), 413, "at most 200 bytes"),
    ] {
        let answer = post(path, body).await;
        assert!(
            answer.status == status && answer.body.contains(why),
            "{path} {body}: {} {}",
            answer.status,
            answer.body
        );
    }
    let right = [("authorization", "Bearer hook-token")];
    let wrong = request(&server, "GET /hooks/wake", &right, "").await;
    assert_eq!((wrong.status, wrong.headers["allow"].as_str()), (405, "POST"));
    let rows = server.audit.all();
    let taken: Vec<_> = rows.iter().filter(|row| row["kind"] == "hook-taken").map(|row| row["hook"].clone()).collect();
    assert_eq!(taken, ["wake", "ci"]);

    let records = Arc::clone(&server.records);
    server.stop().await;
    let server = start_on(with_hooks(), records).await;
    let status = server.connect(4, &["operator.read"]).await.call("status", json!({})).await["payload"].clone();
    assert_eq!(status["queuedSystemEvents"], json!(["hello", "build 7"]), "{status}");
}

#[tokio::test]
async fn hooks_send_an_agent_out_once_per_key() {
    let server = start(with_hooks()).await;
    let post = async |path: &str, key: &str, body: &str| {
        let headers = [("authorization", "Bearer hook-token"), ("idempotency-key", key)];
        request(&server, &format!("POST /hooks/{path}"), &headers, body).await
    };
    let errand = "{\"message\": \"look\", \"thinking\": \"low\", \"timeoutSeconds\": 2}";
    let first = post("agent", "k1", errand).await;
    assert_eq!((first.status, &first.json()["ok"]), (200, &json!(true)), "{}", first.body);
    assert_eq!(post("agent", "k1", errand).await.json(), first.json(), "once");
    let other = post("run", "k1", "{}").await;
    assert_ne!(other.json()["runId"], first.json()["runId"], "another hook has keys of its own");
    let requests = server.runs.requests();
    let messages: Vec<&str> = requests.iter().map(|request| request.message.as_str()).collect();
    assert_eq!(messages, ["look", "do it"]);
    let asked = serde_json::to_value(&requests[0]).unwrap();
    assert_eq!((&asked["thinking"], &asked["timeoutMs"]), (&json!("low"), &json!(2000)), "{asked}");
    assert!(requests[0].session_key.starts_with("agent:main:hook:") && requests[0].system.contains("another program"));
    assert!(requests[0].owner.caller.starts_with("hook:"), "{asked}");
    *server.runs.refusal.lock().unwrap() = Some(leanclaw_types::Failure::unavailable("Too much waits."));
    let full = post("agent", "k2", errand).await;
    assert_eq!((full.status, &full.json()["error"]), (503, &json!("Too much waits.")));
    let rows = server.audit.all();
    assert!(rows.iter().any(|row| row["kind"] == "hook-taken" && row["mode"] == "agent"), "{rows:?}");
}

#[tokio::test]
async fn hooks_know_their_own_token_only_and_count_wrong_ones() {
    let server = start(with_hooks()).await;
    let wake = "{\"text\": \"x\"}";
    let in_address = request(&server, "POST /hooks/wake?token=hook-token", &[], wake).await;
    assert!(in_address.status == 400 && in_address.body.contains("query parameters are not allowed"));
    let gateways = request(&server, "POST /hooks/wake", &[("authorization", &bearer())], wake).await;
    assert_eq!((gateways.status, gateways.body.as_str()), (401, "Unauthorized"), "the gateway's own token is none");
    let hooks = request(&server, "POST /tools/invoke", &[("authorization", "Bearer hook-token")], "{}").await;
    assert_eq!(hooks.status, 401, "a hook's token lets nobody in");
    for _ in 1..20 {
        assert_eq!(request(&server, "POST /hooks/wake", &[], wake).await.status, 401);
    }
    let right = [("authorization", "Bearer hook-token")];
    let locked = request(&server, "POST /hooks/wake", &right, wake).await;
    assert_eq!((locked.status, locked.headers["retry-after"].as_str()), (429, "60"), "this machine is not exempt");
    server.clock.advance(60_000);
    assert_eq!(request(&server, "POST /hooks/wake", &right, wake).await.status, 200);
    assert!(server.audit.all().iter().any(|row| row["code"] == "HOOK_TOKEN_MISMATCH"));
    let off = start(with_token()).await;
    assert_eq!(request(&off, "POST /hooks/wake", &right, wake).await.status, 404, "they are off by default");
}

#[tokio::test]
async fn hooks_and_webhooks_are_counted_with_the_other_calls() {
    let mut config = with_hooks();
    config.live.rates.loopback.write = 1;
    config.live.rates.loopback.expensive = 1;
    let server = start(config).await;
    let right = [("authorization", "Bearer hook-token")];
    let wake = async || request(&server, "POST /hooks/wake", &right, "{\"text\": \"x\"}").await;
    let webhook = async || request(&server, "POST /plugins/chat/hook/", &[], "x").await;
    assert_eq!((wake().await.status, webhook().await.status), (200, 202));
    for refused in [wake().await, webhook().await] {
        assert_eq!(refused.status, 429, "{}", refused.body);
        assert!(refused.headers.contains_key("retry-after"));
    }
    server.clock.advance(120_000);
    assert_eq!((wake().await.status, webhook().await.status), (200, 202));
}
