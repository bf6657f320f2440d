//! How often may be called, over sockets.

use leanclaw_types::redact::Secret;
use serde_json::{Value, json};

use super::devices::proxied;
use super::{Client, Server, connect_params, start, with_token};
use crate::{ClassLimits, Credential, GatewayConfig, Role};

fn tight() -> GatewayConfig {
    let mut config = proxied();
    config.live.rates.per_ip = ClassLimits { read: 4, write: 2, admin: 2, expensive: 1 };
    config.live.rates.per_credential = ClassLimits { read: 6, write: 2, admin: 2, expensive: 1 };
    config.auth.named = vec![Credential { name: "ann".into(), secret: Secret::new("of-ann"), role: Role::User }];
    config
}

async fn from(server: &Server, address: &'static str, protocol: u64, token: &str) -> Client {
    let mut client = server.open_with("/", &[("x-forwarded-for", address)]).await;
    let mut params = connect_params(protocol, protocol);
    params["auth"] = json!({"token": token});
    params["scopes"] = json!(["operator.admin"]);
    let response = client.call("connect", params).await;
    assert_eq!(response["ok"], true, "{response}");
    client
}

/// How many of these calls were answered, and the refusal of the first that was not.
async fn calls(client: &mut Client, method: &str, count: usize) -> (usize, Value) {
    for done in 0..count {
        let response = client.call(method, json!({})).await;
        if response["error"]["message"].as_str().is_some_and(|text| text.starts_with("rate limit")) {
            return (done, response["error"].clone());
        }
    }
    (count, Value::Null)
}

#[tokio::test]
async fn an_address_and_a_credential_have_so_many_calls_of_a_class() {
    let server = start(tight()).await;
    let mut one = from(&server, "9.9.9.9", 4, super::TOKEN).await;
    let mut two = from(&server, "9.9.9.9", 3, "of-ann").await;
    assert_eq!(calls(&mut one, "status", 3).await.0, 3);
    let (done, error) = calls(&mut two, "status", 3).await;
    assert_eq!((done, error["code"].as_str(), error["retryable"].as_bool()), (1, Some("UNAVAILABLE"), Some(true)));
    let wait_ms = error["retryAfterMs"].as_u64().unwrap();
    assert_eq!(error["message"], format!("rate limit exceeded for status; retry after {}s", wait_ms.div_ceil(1000)));
    assert_eq!(error["details"], json!({"method": "status", "limit": "4 per 60s"}));
    assert_eq!(calls(&mut one, "no.such.method", 1).await.0, 0, "what is not there counts too");
    assert_eq!(calls(&mut one, "wake", 1).await.0, 1, "another class");
    let mut three = from(&server, "9.9.9.8", 4, super::TOKEN).await;
    let (done, error) = calls(&mut three, "status", 9).await;
    assert_eq!((done, error["details"]["limit"].as_str()), (3, Some("6 per 60s")), "the credential is spent");
    // A new connection is no new start.
    assert_eq!(calls(&mut from(&server, "9.9.9.8", 4, super::TOKEN).await, "status", 1).await.0, 0);
    server.clock.advance(wait_ms);
    assert_eq!(calls(&mut two, "status", 1).await.0, 1, "as it was told");
}

#[tokio::test]
async fn what_is_no_request_and_what_is_for_another_role_count_as_well() {
    let server = start(tight()).await;
    for (address, token, frame, says) in [
        ("9.9.9.1", super::TOKEN, json!({"type": "req", "id": "r", "method": 5}), "invalid request frame"),
        ("9.9.9.2", "of-ann", json!({"type": "req", "id": "r", "method": "node.event"}), "unauthorized role"),
    ] {
        let mut client = from(&server, address, 4, token).await;
        for number in 0..5 {
            client.send(frame.clone()).await;
            let answer = client.response(&json!("r")).await["error"]["message"].clone();
            let expected = if number < 4 { says } else { "rate limit exceeded for " };
            assert!(answer.as_str().unwrap().starts_with(expected), "{number}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_client_on_this_machine_is_not_held_up() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    assert_eq!(calls(&mut client, "health", 3000).await.0, 3000);
}

#[tokio::test]
async fn control_plane_writes_are_limited_per_method() {
    let server = start(with_token()).await;
    let mut old = server.connect(3, &["operator.admin"]).await;
    let (done, error) = calls(&mut old, "config.patch", 9).await;
    assert_eq!((done, error["details"]["limit"].as_str()), (3, Some("3 per 60s")), "{error}");
    let mut new = server.connect(4, &["operator.admin"]).await;
    assert_eq!(calls(&mut new, "config.apply", 40).await.0, 30);
    assert_eq!(calls(&mut new, "config.set", 40).await.0, 40);
}
