//! The table of bad traffic, row by row (protocol notes, section 1.5).

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::{TOKEN, assert_invalid, connect_params, start, with_token};

#[tokio::test]
async fn a_first_frame_that_is_not_json_closes_without_a_word() {
    let server = start(with_token()).await;
    for text in ["hello", "{", ""] {
        let mut client = server.open().await;
        client.send_text(text).await;
        assert_eq!(client.closed().await, (1000, String::new()), "{text:?}");
    }
    let mut client = server.open().await;
    client.send_message(Message::binary(vec![0xff, 0xfe])).await.unwrap();
    assert_eq!(client.closed().await, (1000, String::new()));
}

#[tokio::test]
async fn a_first_frame_that_is_no_request_is_a_policy_violation() {
    let server = start(with_token()).await;
    for frame in [json!({}), json!([]), json!({"type": "req", "id": "1", "method": "connect", "extra": 1}), json!(1)] {
        let mut client = server.open().await;
        client.send(frame.clone()).await;
        assert_eq!(client.closed().await, (1008, "invalid request frame".into()), "{frame}");
    }
}

#[tokio::test]
async fn the_first_request_must_be_connect() {
    let server = start(with_token()).await;
    let mut client = server.open().await;
    let response = client.call("health", json!({})).await;
    assert_invalid(&response, "invalid handshake: first request must be connect");
    assert_eq!(client.closed().await, (1008, "invalid handshake: first request must be connect".into()));
}

#[tokio::test]
async fn bad_connect_params_are_named_and_the_reason_is_cut() {
    let server = start(with_token()).await;
    for (protocol, message) in [
        (
            3,
            "invalid connect params: at root: unexpected property 'foo'; at /client/id: must be equal to constant; \
             at /client/id: must match a schema in anyOf",
        ),
        (
            4,
            "invalid connect params: at root: unexpected property 'foo'; \
             at /client/id: must be equal to one of the allowed values",
        ),
    ] {
        let mut client = server.open().await;
        let mut params = connect_params(protocol, protocol);
        params["foo"] = json!(1);
        params["client"]["id"] = json!("ios-node");
        assert_invalid(&client.call("connect", params).await, message);
        assert_eq!(client.closed().await, (1008, message[..message.len().min(120)].to_owned()));
    }

    let mut client = server.open().await;
    let response = client.call("connect", json!({"minProtocol": 3, "maxProtocol": 3})).await;
    assert_invalid(&response, "invalid connect params: must have required property 'client'");
    assert_eq!(client.closed().await.0, 1008);
}

#[tokio::test]
async fn after_connect_bad_frames_are_answered_and_nothing_closes() {
    let server = start(with_token()).await;
    let mut client = server.admin().await;
    client.send_text("not json").await;
    client.send(json!({"type": "req", "id": "x", "method": "health", "extra": 1})).await;
    let response = client.response(&json!("x")).await;
    assert_invalid(&response, "invalid request frame: at root: unexpected property 'extra'");
    client.send(json!({"type": "req", "id": 7, "method": "health"})).await;
    assert_invalid(&client.response(&json!(7)).await, "invalid request frame: at /id: must be string");
    client.send(json!({"type": "req", "method": "health"})).await;
    let response = client.response(&json!("invalid")).await;
    assert_invalid(&response, "invalid request frame: must have required property 'id'");
    client.send(json!([1])).await;
    assert_invalid(&client.response(&json!("invalid")).await, "invalid request frame: at root: must be object");
    assert_eq!(client.call("health", json!({})).await["ok"], true);
}

#[tokio::test]
async fn a_second_connect_is_refused_and_binary_frames_are_read() {
    let server = start(with_token()).await;
    let mut client = server.open().await;
    let mut params = connect_params(4, 4);
    params["auth"] = json!({"token": TOKEN});
    let connect = json!({"type": "req", "id": "c", "method": "connect", "params": params});
    client.send_message(Message::binary(connect.to_string().into_bytes())).await.unwrap();
    assert_eq!(client.response(&json!("c")).await["ok"], true);
    let response = client.call("connect", params).await;
    assert_invalid(&response, "connect is only valid as the first request");
    assert_eq!(client.call("health", json!(null)).await["ok"], true);
}

#[tokio::test]
async fn an_unknown_method_is_named_to_admins_only() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    assert_invalid(&admin.call("no.such.method", json!({})).await, "unknown method: no.such.method");

    assert_invalid(&admin.call("notes.nothing", json!({})).await, "unknown method: notes.nothing");

    let mut reader = server.connect(4, &["operator.read"]).await;
    let response = reader.call("no.such.method", json!({})).await;
    assert_eq!(
        response["error"],
        json!({"code": "FORBIDDEN", "message": "missing scope: operator.admin", "details": {
            "code": "MISSING_SCOPE", "missingScope": "operator.admin", "requiredScopes": ["operator.admin"],
        }})
    );
    let mut old = server.connect(3, &["operator.read"]).await;
    let response = old.call("no.such.method", json!({})).await;
    assert_invalid(&response, "missing scope: operator.admin");
    assert_eq!(response["error"].get("details"), None);
    assert_eq!(old.call("another.made.up.name", json!({})).await["ok"], false);
    assert_eq!(reader.call("wake", json!({"mode": "now", "text": "x"})).await["ok"], false);
    server.clock.advance(60_000);
    assert_eq!(old.call("no.such.method", json!({})).await["ok"], false);
    // One row a minute for whatever is made up, and one for what there is.
    let rows = server.audit.all();
    let denied = rows.iter().filter(|row| row["kind"] == "scope-denied");
    let told: Vec<_> = denied.map(|row| (row["method"].as_str().unwrap(), row["repeated"].as_u64().unwrap())).collect();
    assert_eq!(told, [("no.such.method", 0), ("wake", 0), ("no.such.method", 2)]);
}

#[tokio::test]
async fn a_method_of_a_plugin_that_does_not_serve_says_what_it_waits_for() {
    let server = start(with_token()).await;
    server.host.more.lock().unwrap().push(super::fake::plugin("slow", "loading", "being compiled and linked"));
    for version in [3, 4] {
        let mut reader = server.connect(version, &["operator.read"]).await;
        assert_eq!(
            reader.call("new.add", json!({})).await["error"],
            json!({
                "code": "INVALID_REQUEST",
                "message": "unknown method: new.add\nThe plugin `new` is needs-grant: grant it",
                "details": {"code": "PLUGIN_NOT_READY", "plugin": "new", "state": "needs-grant", "reason": "grant it"},
            })
        );
        let error = reader.call("slow.add", json!({})).await["error"].clone();
        assert_eq!((&error["retryable"], &error["retryAfterMs"]), (&json!(true), &json!(1000)), "{error}");
        assert_eq!(error["details"]["reason"], "being compiled and linked");
    }
    // Who may not see plugins is told what anybody is.
    let mut stranger = server.connect(4, &["operator.pairing"]).await;
    let error = stranger.call("new.add", json!({})).await["error"].clone();
    assert_eq!(error["message"], "missing scope: operator.admin", "{error}");
}

#[tokio::test]
async fn repeated_calls_of_the_wrong_role_close_after_the_eleventh_answer() {
    let server = start(with_token()).await;
    let mut client = server.admin().await;
    for _ in 0..10 {
        assert_invalid(&client.call("node.event", json!({})).await, "unauthorized role: operator");
    }
    // A good call in between starts the count again.
    assert_eq!(client.call("health", json!({})).await["ok"], true);
    for _ in 0..11 {
        assert_invalid(&client.call("skills.bins", json!({})).await, "unauthorized role: operator");
    }
    assert_eq!(client.closed().await, (1008, "repeated unauthorized calls".into()));
    let refused: Vec<_> = server.audit.all().into_iter().filter(|row| row["kind"] == "call-refused").collect();
    let expected = json!("unauthorized role: operator");
    assert!(!refused.is_empty() && refused.iter().all(|row| row["reason"] == expected), "{refused:?}");
    let methods: std::collections::BTreeSet<_> = refused.iter().map(|row| row["method"].as_str().unwrap()).collect();
    assert_eq!(methods.len(), refused.len(), "each method once: {refused:?}");
}

#[tokio::test]
async fn frames_are_bounded_tightly_before_hello_and_widely_after() {
    let mut config = with_token();
    config.limits.frame_bytes = 256 * 1024;
    let server = start(config).await;
    let mut client = server.open().await;
    let _ = client.send_message(Message::text("x".repeat(64 * 1024 + 1))).await;
    assert_eq!(client.closed().await, (1009, String::new()));

    let mut client = server.admin().await;
    let long = "x".repeat(200 * 1024);
    let response = client.call("notes.echo", json!({"text": long})).await;
    assert_eq!(response["payload"]["text"], json!(long));
    let _ = client.send_message(Message::text("x".repeat(256 * 1024 + 1))).await;
    assert_eq!(client.closed().await, (1009, String::new()));
}

#[tokio::test]
async fn bad_params_are_named_per_version() {
    let server = start(with_token()).await;
    for (protocol, message) in [
        (
            3,
            "invalid plugins.logs params: must have required property 'pluginId'; at root: unexpected property 'foo'; at /limit: must be >= 1",
        ),
        (
            4,
            "invalid plugins.logs params: must have required property 'pluginId'; at root: unexpected property 'foo'; at /limit: must be >= 1",
        ),
    ] {
        let mut client = server.connect(protocol, &["operator.read"]).await;
        assert_invalid(&client.call("plugins.logs", json!({"limit": 0, "foo": 1})).await, message);
        let less = if protocol == 3 { "NOT" } else { "not" };
        let message = format!("invalid plugins.inspect params: at /pluginId: must {less} have fewer than 1 characters");
        assert_invalid(&client.call("plugins.inspect", json!({"pluginId": ""})).await, &message);
        assert_invalid(
            &client.call("plugins.list", json!([])).await,
            "invalid plugins.list params: at root: must be object",
        );
    }
}
