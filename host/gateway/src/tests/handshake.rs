//! Challenge, versions, `hello-ok`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{TOKEN, assert_invalid, connect_params, start, with_token};

#[tokio::test]
async fn the_challenge_comes_at_once_on_any_path() {
    let server = start(with_token()).await;
    let mut nonces = Vec::new();
    for path in ["/", "/ws", "/anything/at/all?x=1"] {
        let client = server.open_with(path, &[]).await;
        let payload = client.challenge["payload"].as_object().unwrap();
        assert_eq!(payload.keys().collect::<Vec<_>>(), ["nonce", "ts"]);
        assert_eq!(payload["ts"], 1_700_000_000_000_u64);
        assert!(client.challenge.get("seq").is_none());
        nonces.push(payload["nonce"].as_str().unwrap().to_owned());
    }
    nonces.dedup();
    assert_eq!(nonces.len(), 3);
}

#[tokio::test]
async fn who_says_nothing_is_closed() {
    let mut config = with_token();
    config.limits.handshake_timeout = Duration::from_millis(50);
    let server = start(config).await;
    let mut client = server.open().await;
    assert_eq!(client.closed().await, (1000, String::new()));
}

#[tokio::test]
async fn the_version_follows_the_range() {
    let server = start(with_token()).await;
    for (minimum, maximum, protocol) in [(3, 3, 3), (4, 4, 4), (3, 4, 4), (1, 99, 4)] {
        let mut client = server.open().await;
        let mut params = connect_params(minimum, maximum);
        params["auth"] = json!({"token": TOKEN});
        let response = client.call("connect", params).await;
        assert_eq!(response["payload"]["protocol"], protocol, "{minimum}..{maximum} {response}");
    }
    for (minimum, maximum) in [(5, 9), (1, 2), (99, 99)] {
        let mut client = server.open().await;
        let response = client.call("connect", connect_params(minimum, maximum)).await;
        assert_invalid(&response, "protocol mismatch");
        assert_eq!(
            response["error"]["details"],
            json!({"code": "PROTOCOL_MISMATCH", "clientMinProtocol": minimum, "clientMaxProtocol": maximum,
                "expectedProtocol": 4, "minimumProbeProtocol": 3})
        );
        assert_eq!(client.closed().await, (1002, "protocol mismatch".into()));
    }
}

async fn hello(protocol: u64) -> Value {
    let server = start(with_token()).await;
    let mut client = server.open().await;
    let mut params = connect_params(protocol, protocol);
    params["auth"] = json!({"token": TOKEN});
    params["scopes"] = json!(["operator.read", "operator.read", "operator.write"]);
    client.call("connect", params).await["payload"].clone()
}

#[tokio::test]
async fn hello_of_version_4() {
    let hello = hello(4).await;
    assert_eq!(hello["type"], "hello-ok");
    assert_eq!(hello["server"]["version"], "1.2.3");
    assert!(hello["server"]["connId"].is_string() && hello["server"]["bootId"].is_string());
    let auth = json!({"method": "token", "role": "operator", "scopes": ["operator.read", "operator.write"]});
    assert_eq!(hello["auth"], auth);
    assert_eq!(
        hello["policy"],
        json!({"maxPayload": 26_214_400, "maxBufferedBytes": 52_428_800, "tickIntervalMs": 30_000})
    );
    let snapshot = &hello["snapshot"];
    assert_eq!(snapshot["sessionDefaults"]["mainSessionKey"], "agent:main:main");
    assert_eq!(snapshot["authMode"], "token");
    assert_eq!(snapshot["suspension"], json!({"phase": "accepting"}));
    assert_eq!(snapshot["health"]["plugins"]["loaded"], json!(["notes"]));
    assert_eq!(snapshot["presence"][0]["mode"], "gateway");
    assert!(snapshot["stateVersion"]["health"].as_u64().unwrap() >= 1);
    let methods = hello["features"]["methods"].as_array().unwrap();
    for method in ["health", "plugins.list", "tools.invoke", "notes.add"] {
        assert!(methods.contains(&json!(method)), "{method}");
    }
    let events = hello["features"]["events"].as_array().unwrap();
    for event in ["tick", "health", "shutdown", "plugins.changed", "notes.changed"] {
        assert!(events.contains(&json!(event)), "{event}");
    }
    // The plugins that wait for a grant or are broken emit nothing.
    assert!(!events.contains(&json!("new.changed")));
}

#[tokio::test]
async fn hello_of_version_3() {
    let hello = hello(3).await;
    assert!(hello.get("auth").is_none());
    assert!(hello["features"].get("capabilities").is_none());
    assert!(hello["server"].get("bootId").is_none());
    assert!(hello["snapshot"].get("suspension").is_none());
    assert!(hello["snapshot"]["health"].get("plugins").is_none());
    assert_eq!(hello["snapshot"]["health"]["ok"], true);
}

#[tokio::test]
async fn every_advertised_method_answers_to_its_name() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    let hello = hello(4).await;
    for method in hello["features"]["methods"].as_array().unwrap() {
        let method = method.as_str().unwrap();
        if method == "notes.slow" {
            continue;
        }
        let response = admin.call(method, json!({})).await;
        let message = response["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(!message.starts_with("unknown method"), "{method}: {message}");
    }
}

#[tokio::test]
async fn requests_sent_right_behind_connect_are_answered() {
    let server = start(with_token()).await;
    let mut client = server.open().await;
    let mut params = connect_params(4, 4);
    params["auth"] = json!({"token": TOKEN});
    client.send(json!({"type": "req", "id": "c", "method": "connect", "params": params})).await;
    client.send(json!({"type": "req", "id": "h", "method": "health"})).await;
    assert_eq!(client.response(&json!("c")).await["payload"]["protocol"], 4);
    assert_eq!(client.response(&json!("h")).await["payload"]["ok"], true);
}

#[tokio::test]
async fn only_version_3_gets_a_health_event_right_away() {
    let server = start(with_token()).await;
    let mut old = server.open().await;
    let mut params = connect_params(3, 3);
    params["auth"] = json!({"token": TOKEN});
    old.call("connect", params).await;
    let event = old.next().await;
    assert_eq!((event["event"].as_str(), event["seq"].as_u64()), (Some("health"), Some(1)));
    assert!(event["stateVersion"]["health"].is_u64());

    let mut new = server.admin().await;
    new.send(json!({"type": "req", "id": "h", "method": "health"})).await;
    assert_eq!(new.next().await["id"], "h");
}
