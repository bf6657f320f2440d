//! Events: who gets them, in what order.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::{TOKEN, connect_params, start, with_token};
use crate::hub::{Event, OWN_EVENTS};

#[tokio::test]
async fn plugin_events_reach_readers_in_order_without_gaps() {
    let server = start(with_token()).await;
    let mut reader = server.connect(4, &["operator.read"]).await;
    let mut nobody = server.connect(4, &[]).await;
    server.host.emit("notes.changed", json!({"n": 1}));
    server.host.emit("plugins.changed", json!({"id": "notes"}));
    server.host.emit("notes.changed", json!({"n": 2}));
    let (mut seen, mut seq) = (Vec::new(), 0);
    while seen.len() < 4 {
        let event = reader.any().await;
        seq += 1;
        assert_eq!(event["seq"], seq, "counted per connection, without a gap");
        // That the two came may be told at any time in between.
        if event["event"] != "presence" {
            seen.push((event["event"].as_str().unwrap().to_owned(), event["payload"]["n"].as_u64()));
        }
    }
    let expected =
        [("notes.changed", Some(1)), ("plugins.changed", None), ("health", None), ("notes.changed", Some(2))];
    assert_eq!(seen, expected.map(|(name, n)| (name.to_owned(), n)));
    // Without the scope only the open event arrives, and it is the first of this connection.
    let event = nobody.next().await;
    assert_eq!((event["event"].as_str(), event["seq"].as_u64()), (Some("health"), Some(1)));
    assert!(event["stateVersion"]["health"].as_u64().unwrap() >= 2);
}

#[tokio::test]
async fn ticks_and_pings_come_by_themselves() {
    let mut config = with_token();
    config.limits.tick_interval = Duration::from_millis(20);
    config.limits.ping_interval = Duration::from_millis(20);
    config.limits.health_interval = Duration::from_millis(20);
    let server = start(config).await;
    let mut client = server.connect(4, &[]).await;
    assert_eq!(client.event("tick").await["payload"], json!({"ts": 1_700_000_000_000_u64}));
    client.event("health").await;
    loop {
        if let Some(Ok(message)) = client.message().await
            && message.is_ping()
        {
            break;
        }
    }
}

#[tokio::test]
async fn a_peer_that_never_answers_a_ping_is_dropped() {
    let mut config = with_token();
    config.limits.ping_interval = Duration::from_millis(20);
    let server = start(config).await;
    // Not polled, the client answers no ping.
    let silent = server.connect(4, &[]).await;
    assert_eq!(server.gateway.connected(), 1);
    let gone = async {
        while server.gateway.connected() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(super::PATIENCE, gone).await.unwrap();
    drop(silent);
}

#[tokio::test]
async fn a_peer_whose_pongs_wait_behind_its_own_calls_is_not_taken_for_dead() {
    let mut config = with_token();
    config.limits.ping_interval = Duration::from_millis(10);
    config.limits.calls_in_flight = 1;
    let server = start(config).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    client.send(json!({"type": "req", "id": "a", "method": "notes.slow", "params": {"name": "a", "answer": 1}})).await;
    for _ in 0..8 {
        while !client.message().await.unwrap().unwrap().is_ping() {}
    }
    server.host.release("a");
    assert_eq!(client.response(&json!("a")).await["payload"], 1);
}

#[tokio::test]
async fn a_connection_is_told_what_was_announced_to_it_and_nothing_else() {
    let server = start(with_token()).await.that_makes_things_up("events that hold nothing");
    let mut writer = server.admin().await;
    assert_eq!(writer.call("sessions.patch", json!({"key": "main"})).await["ok"], true);
    for protocol in [3, 4] {
        let mut client = server.open().await;
        let mut params = connect_params(protocol, protocol);
        params["auth"] = json!({"token": TOKEN});
        params["scopes"] = json!(["operator.admin"]);
        let hello = client.call("connect", params).await["payload"].clone();
        let announced = hello["features"]["events"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        let announced: BTreeSet<String> = announced.map(str::to_owned).collect();
        assert_eq!(client.call("sessions.subscribe", json!({})).await["ok"], true);
        assert_eq!(client.call("sessions.messages.subscribe", json!({"key": "main"})).await["ok"], true);

        // Those that have to be asked for come as they do when something happens; of the others only the name counts.
        assert_eq!(writer.call("sessions.send", json!({"key": "main", "message": "hi"})).await["ok"], true);
        let of_sessions = ["sessions.changed", "session.message"];
        let plain = OWN_EVENTS.into_iter().filter(|name| !of_sessions.contains(name) && *name != "connect.challenge");
        for name in plain.chain(["notes.changed", "test.end"]) {
            server.gateway.state.hub.broadcast(Event::new(name, "{}"));
        }
        let mut told = BTreeSet::from(["connect.challenge".to_owned()]);
        loop {
            let name = client.any().await["event"].as_str().unwrap().to_owned();
            if name == "test.end" {
                break;
            }
            told.insert(name);
        }
        assert_eq!(told, announced, "version {protocol}");
        assert_eq!(told.contains("config.changed"), protocol == 4);
    }
}
