//! Calls with an idempotency key: each runs once, however often its caller asks for it.

use leanclaw_types::redact::Secret;
use serde_json::{Value, json};

use super::{Client, Server, assert_invalid, connect_params, start, with_token};
use crate::{Credential, Role};

const OTHER_CALL: &str = "this idempotencyKey was used for another call; use a new one";

/// Who came with the shared token is one caller, and Ann is another.
async fn with_ann() -> Server {
    let mut config = with_token();
    config.auth.named = vec![Credential { name: "ann".into(), secret: Secret::new("of-ann"), role: Role::User }];
    start(config).await
}

async fn ann(server: &Server) -> Client {
    let mut client = server.open().await;
    let mut params = connect_params(4, 4);
    params["scopes"] = json!(["operator.write"]);
    params["auth"] = json!({"token": "of-ann"});
    assert_eq!(client.call("connect", params).await["ok"], true);
    client
}

/// A client that has asked for something which takes its time.
async fn asked(server: &Server, method: &str, params: &Value) -> Client {
    let mut client = server.connect(4, &["operator.write"]).await;
    client.send(json!({"type": "req", "id": "k", "method": method, "params": params})).await;
    client.send(json!({"type": "req", "id": "after", "method": "health"})).await;
    assert_eq!(client.response(&json!("after")).await["ok"], true);
    client
}

fn done(server: &Server) -> Vec<String> {
    server.host.done.lock().unwrap().clone()
}

/// The call is made once by two who ask at once, of whom one goes away, and by who asks later. `slow` waits at the gate `gate`.
async fn runs_once(method: &str, gate: &str, slow: Value, other: Value) {
    let server = with_ann().await;
    let gone = asked(&server, method, &slow).await;
    let mut one = asked(&server, method, &slow).await;
    let mut two = asked(&server, method, &slow).await;
    assert_eq!(done(&server).len(), 1, "{:?}", done(&server));
    assert_invalid(&two.call(method, other.clone()).await, OTHER_CALL);
    drop(gone);
    while server.gateway.state.hub.len() > 2 {
        tokio::task::yield_now().await;
    }
    server.host.release(gate);
    let answer = one.response(&json!("k")).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(two.response(&json!("k")).await["payload"], answer["payload"]);
    let mut later = server.connect(3, &["operator.write"]).await;
    assert_eq!(later.call(method, slow.clone()).await["payload"], answer["payload"]);
    assert_invalid(&later.call(method, other).await, OTHER_CALL);
    assert_eq!(done(&server).len(), 1, "{:?}", done(&server));
    server.host.release(gate);
    assert_eq!(ann(&server).await.call(method, slow.clone()).await["ok"], true);
    assert_eq!(done(&server).len(), 2, "another caller's key is its own");
    server.clock.advance(300_001);
    server.host.release(gate);
    assert_eq!(later.call(method, slow).await["ok"], true);
    assert_eq!(done(&server).len(), 3, "it is remembered for five minutes");
}

#[tokio::test]
async fn a_tool_is_called_once_per_key() {
    let call = |args: Value| json!({"name": "convert", "args": args, "idempotencyKey": "k"});
    runs_once("tools.invoke", "g", call(json!({"gate": "g"})), call(json!({"gate": "g", "more": 1}))).await;
}

#[tokio::test]
async fn a_message_is_sent_once_per_key() {
    let send = |text: &str| json!({"to": "slow-ada", "message": text, "idempotencyKey": "k"});
    runs_once("send", "slow-ada", send("hi"), send("ho")).await;
}

#[tokio::test]
async fn an_action_is_done_once_per_key() {
    let act = |text: &str| {
        let params = json!({"to": "slow-ada", "message": text});
        json!({"channel": "hook", "action": "send", "params": params, "idempotencyKey": "k"})
    };
    runs_once("message.action", "slow-ada", act("hi"), act("ho")).await;
}

/// A channel knows no callers, and sends each key that it is given once.
#[tokio::test]
async fn a_channel_is_given_a_key_of_the_caller_and_the_message() {
    let server = with_ann().await;
    let mut one = server.connect(4, &["operator.write"]).await;
    let mut ann = ann(&server).await;
    let send = |text: &str| json!({"to": "ada", "message": text, "idempotencyKey": "1"});
    let act = |text: &str| {
        let params = json!({"to": "ada", "message": text});
        json!({"channel": "hook", "action": "send", "params": params, "idempotencyKey": "1"})
    };
    assert_eq!(one.call("send", send("hi")).await["payload"]["runId"], "1");
    assert_eq!(ann.call("send", send("ho")).await["ok"], true);
    // The other method is no other key.
    assert_invalid(&one.call("message.action", act("ho")).await, OTHER_CALL);
    let again = one.call("message.action", act("hi")).await["payload"].clone();
    assert_eq!((&again["ok"], &again["messageId"]), (&json!(true), &json!("sent-to-ada")), "{again}");
    assert_eq!(done(&server).len(), 2, "it was sent already");
    // Once it is forgotten here, the channel still tells one message from another.
    server.clock.advance(300_001);
    for text in ["hi", "ha"] {
        assert_eq!(one.call("send", send(text)).await["ok"], true);
        server.clock.advance(300_001);
    }
    let sent = server.host.sent.lock().unwrap().clone();
    let keys: Vec<&str> = sent.iter().map(|message| message.idempotency_key.as_str()).collect();
    assert_eq!(keys[0], keys[2], "the same message of the same caller");
    assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{keys:?}");
}

#[tokio::test]
async fn what_was_not_done_can_be_asked_for_with_the_same_key() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.write"]).await;
    for (method, params, ok) in [
        ("send", json!({"to": "busy", "message": "hi", "idempotencyKey": "k"}), false),
        ("tools.invoke", json!({"name": "convert", "args": {"busy": true}, "idempotencyKey": "k"}), true),
        ("tools.invoke", json!({"name": "nothing", "idempotencyKey": "n"}), true),
        ("tools.invoke", json!({"name": "convert"}), true),
    ] {
        server.host.done.lock().unwrap().clear();
        for _ in 0..2 {
            let answer = client.call(method, params.clone()).await;
            assert_eq!(answer["ok"], ok, "{answer}");
        }
        assert_eq!(done(&server).len(), 2, "{params}");
    }
    server.host.done.lock().unwrap().clear();
    let fails = json!({"name": "convert", "args": {"fail": true}, "idempotencyKey": "f"});
    for _ in 0..2 {
        assert_eq!(client.call("tools.invoke", fails.clone()).await["payload"]["error"]["code"], "tool_error");
    }
    assert_eq!(done(&server).len(), 1, "a tool that says no has run");
}
