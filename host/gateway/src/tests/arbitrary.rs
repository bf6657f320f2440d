//! Whatever a client sends, the gateway goes on and holds on to nothing.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::hooks::with_hooks;
use super::nodes::{COMMANDS, Host, approve, ask};
use super::web::request;
use super::{Client, Server, connect_params, start, with_token};
use crate::methods::{TABLE, role_fits};

/// Values per method and connection: fewer than the calls of another role after which a connection ends.
const VALUES: usize = 8;

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

/// The gateway's own methods that a client of that version is told of.
async fn announced(server: &Server, protocol: u64) -> Vec<String> {
    let mut client = server.open().await;
    let mut params = connect_params(protocol, protocol);
    params["auth"] = json!({"token": super::TOKEN});
    let hello = client.call("connect", params).await;
    let methods: Vec<String> = serde_json::from_value(hello["payload"]["features"]["methods"].clone()).unwrap();
    // Those of the pretended plugin are no part of the gateway.
    methods.into_iter().filter(|method| !method.starts_with("notes.")).collect()
}

/// Calls a method with whatever comes to mind, and waits until that is done with.
async fn call_with_anything(client: &mut Client, method: &str, values: &[Value]) {
    for (number, params) in values.iter().enumerate() {
        client.send(json!({"type": "req", "id": number.to_string(), "method": method, "params": params})).await;
    }
    // What waits (for a node, an approval) is left waiting; all that is done at once was answered before this.
    client.send(json!({"type": "req", "id": "last", "method": "health"})).await;
    while client.any().await["id"] != "last" {}
}

#[tokio::test]
async fn no_parameters_of_any_method_stop_it_or_stay() {
    let server = start(with_token()).await;
    let (tasks, held) = warm(&server).await;
    let (mut runner, values) = (TestRunner::deterministic(), vec(value(), VALUES));
    for protocol in [3, 4] {
        let methods = announced(&server, protocol).await;
        assert!(methods.len() > 50, "{methods:?}");
        assert_eq!(methods.iter().any(|method| method == "node.pair.verify"), protocol == 3, "{methods:?}");
        for method in &methods {
            let mut client = server.connect(protocol, &["operator.admin"]).await;
            let values = values.new_tree(&mut runner).unwrap().current();
            call_with_anything(&mut client, method, &values).await;
        }
    }
    no_client_is_left(&server, tasks, held).await;
    assert_eq!(server.admin().await.call("health", json!({})).await["ok"], true);
    server.stop().await;
}

#[tokio::test]
async fn no_parameters_of_an_approved_node_stop_it_or_stay() {
    let server = start(with_token()).await;
    let (tasks, held) = warm(&server).await;
    let host = Host::new(110);
    let mut admin = server.admin().await;
    drop(host.connect(&server, 4, &COMMANDS).await);
    approve(&mut admin).await;
    let known = admin.call("node.describe", json!({"nodeId": host.id()})).await["payload"].clone();
    assert_eq!(known["approvalState"], "approved", "{known}");
    let of_nodes: Vec<&str> =
        TABLE.iter().filter(|method| role_fits("node", method.name, Some(method))).map(|method| method.name).collect();
    assert!(of_nodes.contains(&"node.invoke.result") && of_nodes.contains(&"node.event"), "{of_nodes:?}");
    let (mut runner, values) = (TestRunner::deterministic(), vec(value(), 2 * VALUES));
    for protocol in [3, 4] {
        for method in &of_nodes {
            let mut node = host.connect(&server, protocol, &COMMANDS).await;
            // While it is asked for something, so that there is a call to answer.
            let id = json!(format!("{protocol}-{method}"));
            ask(&mut admin, id.as_str().unwrap(), &host.id(), "system.which", json!({})).await;
            let asked = node.event("node.invoke.request").await["payload"]["id"].clone();
            let mut values = values.new_tree(&mut runner).unwrap().current();
            for value in values.iter_mut().filter_map(Value::as_object_mut).step_by(2) {
                value.insert("id".into(), asked.clone());
                value.insert("invokeId".into(), asked.clone());
                value.insert("nodeId".into(), json!(host.id()));
            }
            call_with_anything(&mut node, method, &values).await;
            drop(node);
            assert_eq!(admin.response(&id).await["type"], "res", "{method}: who asked is answered, whatever happened");
        }
    }
    drop(admin);
    no_client_is_left(&server, tasks, held).await;
    assert_eq!(server.admin().await.call("health", json!({})).await["ok"], true);
    server.stop().await;
}

#[tokio::test]
async fn no_bodies_stop_it_or_stay() {
    let mut config = with_hooks();
    config.hooks.as_mut().unwrap().body_bytes = 64 * 1024;
    let server = start(config).await;
    let (tasks, held) = warm(&server).await;
    let (mut runner, values) = (TestRunner::deterministic(), (value(), text(), 0.0..1.0_f64));
    let mut taken = 0;
    for number in 0..400 {
        server.clock.advance(5_000);
        let (made, word, part) = values.new_tree(&mut runner).unwrap().current();
        let whole = match number % 4 {
            0 => made.to_string(),
            1 => json!({"tool": word, "name": "convert", "args": made, "text": word, "message": made}).to_string(),
            2 => json!({"tool": "convert", "args": {"name": made}, "text": word, "mode": "now"}).to_string(),
            _ => json!({"build": made, "message": word, "sessionKey": made}).to_string(),
        };
        // Every eighth ends too early.
        let most = if number % 8 == 7 { (whole.len() as f64 * part) as usize } else { whole.len() };
        let body: String = whole.char_indices().take_while(|(at, _)| *at < most).map(|(_, letter)| letter).collect();
        for (path, token) in [
            ("tools/invoke", super::TOKEN),
            ("hooks/wake", "hook-token"),
            ("hooks/agent", "hook-token"),
            ("hooks/ci", "hook-token"),
        ] {
            let bearer = format!("Bearer {token}");
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            let answer = request(&server, &format!("POST /{path}"), &headers, &body).await;
            // What begins with 5 would be a fault.
            assert!(answer.status < 500 && answer.status != 429, "{path} {body}: {} {}", answer.status, answer.body);
            taken += usize::from(answer.status == 200);
        }
    }
    assert!(taken > 100, "most were refused at once: {taken}");
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
        client.send_message(Message::binary(bytes)).await.unwrap();
        client.send(json!({"type": "req", "id": "last", "method": "health"})).await;
        while client.any().await["id"] != "last" {}
    }
    no_client_is_left(&server, tasks, held).await;
    server.stop().await;
}
