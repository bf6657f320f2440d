//! Scenarios 7 and C: what goes wrong.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Check, Ground, check};
use crate::support::text;

pub(super) const CHECKS: &[Check] = &[
    check("errors: unknown method", |on| {
        Box::pin(async move {
            let error = on.operator().await.refused("nonexistent.method", json!({})).await;
            assert_eq!(error["code"], "INVALID_REQUEST");
            assert!(text(&error["message"]).contains("Unknown method"), "{error}");
        })
    }),
    check("errors: exception", |on| {
        Box::pin(async move { assert_thrown(&on, "throws-error.run", "Test error").await })
    }),
    check("chaos: error thrown", |on| {
        Box::pin(async move { assert_thrown(&on, "throws-error.run", "Test error").await })
    }),
    check("chaos: text thrown", |on| Box::pin(async move { assert_thrown(&on, "throws-text.run", "").await })),
    check("errors: broken JSON twice", |on| {
        Box::pin(async move {
            let answers = answers(&on, &["{broken", "{also broken"]).await;
            assert_eq!(answers, ["INVALID_REQUEST", "INVALID_REQUEST"]);
        })
    }),
    check("errors: missing parameter", |on| {
        Box::pin(async move {
            let error = on.operator().await.refused("chat.send", json!({"text": "hello"})).await;
            assert!(error["code"].is_string() && error["message"].is_string(), "{error}");
        })
    }),
    check("errors: empty frame", |on| {
        Box::pin(async move { assert_eq!(answers(&on, &[""]).await, ["INVALID_REQUEST"]) })
    }),
    check("errors: no id", |on| {
        Box::pin(async move {
            assert_eq!(answers(&on, &[r#"{"type":"req","method":"health"}"#]).await, ["INVALID_REQUEST"]);
        })
    }),
    check("errors: no method", |on| {
        Box::pin(async move {
            assert_eq!(answers(&on, &[r#"{"type":"req","id":"1"}"#]).await, ["INVALID_REQUEST"]);
        })
    }),
];

async fn assert_thrown(on: &Ground, method: &str, said: &str) {
    let error = on.operator().await.refused(method, json!({})).await;
    assert_eq!(error["code"], "UNAVAILABLE", "{error}");
    assert!(text(&error["message"]).contains(said), "{error}");
}

/// The error codes of the answers to these frames: of those that come before the answer to a `health` after them.
async fn answers(on: &Ground, frames: &[&str]) -> Vec<Value> {
    let mut client = on.operator().await;
    for frame in frames {
        client.send_message(Message::text(*frame)).await.unwrap();
    }
    let last = client.send("health", json!({})).await;
    let mut codes = Vec::new();
    loop {
        let answer = client.next_response().await;
        if answer["id"] == last {
            return codes;
        }
        codes.push(answer["error"]["code"].clone());
    }
}
