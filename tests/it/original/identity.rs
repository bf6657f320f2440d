//! Scenarios 8 and 12: keys and nodes.

use serde_json::{Value, json};

use super::{Check, Ground, KEY, check, connect, join, with_key};
use crate::support::{Client, text};

pub(super) const CHECKS: &[Check] = &[
    check("auth: no key", |on| Box::pin(async move { assert_eq!(on.operator().await.hello["type"], "hello-ok") })),
    check("auth: no token", |_| {
        Box::pin(async move {
            let (_place, program) = with_key().await;
            let error = join(&program, connect("operator")).await.err().unwrap();
            assert_eq!(error["code"], "UNAUTHORIZED");
        })
    }),
    check("auth: right token", |_| {
        Box::pin(async move {
            let (_place, program) = with_key().await;
            assert_eq!(join(&program, with_token(KEY)).await.unwrap().hello["type"], "hello-ok");
        })
    }),
    check("auth: wrong token", |_| {
        Box::pin(async move {
            let (_place, program) = with_key().await;
            let error = join(&program, with_token("wrong-key-456")).await.err().unwrap();
            assert_eq!(error["code"], "UNAUTHORIZED");
        })
    }),
    check("auth: deviceToken", |on| {
        Box::pin(async move { assert!(!text(&on.operator().await.hello["auth"]["deviceToken"]).is_empty()) })
    }),
    check("auth: role", |on| {
        Box::pin(async move {
            node(&on, json!({})).await;
        })
    }),
    check("auth: scopes", |on| {
        Box::pin(async move {
            let mut params = connect("operator");
            let scopes = json!(["operator.admin", "ui.read", "custom.scope"]);
            params["scopes"] = scopes.clone();
            assert_eq!(join(&on.program, params).await.unwrap().hello["auth"]["scopes"], scopes);
        })
    }),
    check("node: caps", |on| {
        Box::pin(async move {
            node(&on, json!({"caps": ["tool-events", "exec"]})).await;
        })
    }),
    check("node: commands", |on| {
        Box::pin(async move {
            node(&on, json!({"commands": ["status", "restart", "exec"]})).await;
        })
    }),
    check("node: permissions", |on| {
        Box::pin(async move {
            node(&on, json!({"permissions": {"agent.execute": true, "shell.run": true}})).await;
        })
    }),
    check("node: device", |on| {
        Box::pin(async move {
            let device = json!({
                "id": "device-abc-123", "publicKey": "cHVibGlja2V5", "signature": "c2lnbmF0dXJl", "signedAt": 1,
                "nonce": "nonce-xyz-789",
            });
            node(&on, json!({"device": device})).await;
        })
    }),
    check("node: health", |on| {
        Box::pin(async move {
            let health = node(&on, json!({})).await.ok("health", json!({})).await;
            assert!(health["uptimeMs"].is_number(), "{health}");
        })
    }),
    check("node: status", |on| {
        Box::pin(async move {
            let status = node(&on, json!({})).await.ok("status", json!({})).await;
            assert!(status["uptimeMs"].is_number(), "{status}");
        })
    }),
];

fn with_token(token: &str) -> Value {
    let mut params = connect("operator");
    params["auth"] = json!({"token": token});
    params
}

/// The original's node, changed; it has to be let in as one.
async fn node(on: &Ground, changes: Value) -> Client {
    let mut params = connect("node");
    params.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let client = join(&on.program, params).await.unwrap();
    assert_eq!(client.hello["auth"]["role"], "node");
    client
}
