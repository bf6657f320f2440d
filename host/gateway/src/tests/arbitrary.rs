//! Whatever a client sends, the gateway goes on and holds on to nothing.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Server, connect_params, start, with_token};

/// Values per method and connection: fewer than the calls of another role after which a connection ends.
const VALUES: usize = 8;
const ROUNDS: usize = 2;

/// Names that methods read, so that what is made gets past the first check now and then.
const NAMES: &[&str] = &[
    "key",
    "sessionKey",
    "keys",
    "id",
    "ids",
    "limit",
    "offset",
    "agentId",
    "name",
    "raw",
    "baseHash",
    "patch",
    "params",
    "method",
    "command",
    "nodeId",
    "deviceId",
    "requestId",
    "role",
    "scopes",
    "label",
    "message",
    "text",
    "channel",
    "to",
    "idempotencyKey",
    "pluginId",
    "permissions",
    "all",
    "items",
    "tool",
    "args",
    "path",
    "content",
    "jid",
    "folder",
    "cursor",
    "maxBytes",
    "timeoutMs",
    "decision",
    "enabled",
    "mode",
    "startDate",
    "endDate",
    "days",
    "search",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just(String::new()),
        Just("\0".to_owned()),
        Just("main".to_owned()),
        Just("agent:main:main".to_owned()),
        Just("../../etc/passwd".to_owned()),
        Just("\u{202e}\u{1F980}e\u{301}".to_owned()),
        Just("9".repeat(400)),
        "[a-z.-]{1,12}",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        let name = prop_oneof![3 => prop::sample::select(NAMES).prop_map(str::to_owned), 1 => text()];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((name, inner), 0..8).prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

async fn no_client_is_left(server: &Server, tasks: usize, held: usize) {
    let metrics = tokio::runtime::Handle::current().metrics();
    let ended = async {
        while server.gateway.connected() > 0
            || metrics.num_alive_tasks() > tasks
            || Arc::strong_count(&server.gateway.state) > held
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(super::PATIENCE, ended).await.is_err() {
        panic!(
            "{} clients, {} tasks where there were {tasks}, {} holders where there were {held}",
            server.gateway.connected(),
            metrics.num_alive_tasks(),
            Arc::strong_count(&server.gateway.state)
        );
    }
}

fn counts(server: &Server) -> (usize, usize) {
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    (tasks, Arc::strong_count(&server.gateway.state))
}

/// A client came and went, so that what is made for the first one is there.
async fn warm(server: &Server) -> (usize, usize) {
    let mut admin = server.admin().await;
    admin.call("health", json!({})).await;
    drop(admin);
    while server.gateway.connected() > 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    counts(server)
}

#[tokio::test]
async fn no_parameters_of_any_method_stop_it_or_stay() {
    let server = start(with_token()).await;
    let (tasks, held) = warm(&server).await;
    let hello = {
        let mut client = server.open().await;
        let mut params = connect_params(4, 4);
        params["auth"] = json!({"token": super::TOKEN});
        client.call("connect", params).await
    };
    let methods: Vec<String> = serde_json::from_value(hello["payload"]["features"]["methods"].clone()).unwrap();
    // Those of the pretended plugin are no part of the gateway.
    let methods: Vec<&String> = methods.iter().filter(|method| !method.starts_with("notes.")).collect();
    assert!(methods.len() > 50, "{methods:?}");
    let (mut runner, values) = (TestRunner::deterministic(), value());
    for round in 0..ROUNDS {
        for method in &methods {
            let mut client = server.connect(3 + (round as u64 & 1), &["operator.admin"]).await;
            for number in 0..VALUES {
                let params = values.new_tree(&mut runner).unwrap().current();
                let frame = json!({"type": "req", "id": number.to_string(), "method": method, "params": params});
                client.send(frame).await;
            }
            // What waits (for a node, an approval) is left waiting; all that is done at once was answered before this.
            client.send(json!({"type": "req", "id": "last", "method": "health"})).await;
            while client.any().await["id"] != "last" {}
        }
    }
    no_client_is_left(&server, tasks, held).await;
    assert_eq!(server.admin().await.call("health", json!({})).await["ok"], true);
    server.stop().await;
}

#[tokio::test]
async fn no_frames_stop_it_or_stay() {
    let server = start(with_token()).await;
    let (tasks, held) = warm(&server).await;
    let (mut runner, values) = (TestRunner::deterministic(), value());
    for number in 0..300 {
        let made = values.new_tree(&mut runner).unwrap().current();
        let frames = [
            made.to_string(),
            json!({"type": "req", "id": made, "method": "health"}).to_string(),
            json!({"type": "req", "id": "1", "method": made, "params": made}).to_string(),
            format!("{made}{made}"),
        ];
        let frame = &frames[number % frames.len()];
        // As the first frame it ends the connection, also when it is `connect`.
        let mut stranger = server.open().await;
        stranger.send_text(frame.clone()).await;
        stranger.closed().await;
        let mut connect = connect_params(4, 4);
        connect["auth"] = made.clone();
        connect["device"] = made.clone();
        let mut stranger = server.open().await;
        stranger.send(json!({"type": "req", "id": "1", "method": "connect", "params": connect})).await;
        stranger.closed().await;
        // Later it does not.
        let mut client = server.admin().await;
        client.send_text(frame.clone()).await;
        let bytes = frame.as_bytes().iter().rev().copied().collect::<Vec<u8>>();
        futures_util::SinkExt::send(&mut client.socket, Message::binary(bytes)).await.unwrap();
        client.send(json!({"type": "req", "id": "last", "method": "health"})).await;
        while client.any().await["id"] != "last" {}
    }
    no_client_is_left(&server, tasks, held).await;
    server.stop().await;
}
