//! Many calls at once, slow readers, stopping.

use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{PATIENCE, start, start_with, with_token};
use crate::hub::Event;

fn slow(id: &str) -> Value {
    json!({"type": "req", "id": id, "method": "notes.slow", "params": {"name": id, "answer": id}})
}

#[tokio::test]
async fn calls_run_side_by_side_and_answer_as_they_finish() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    for id in ["a", "b", "c"] {
        client.send(slow(id)).await;
    }
    // A call that is done at once overtakes them.
    client.send(json!({"type": "req", "id": "h", "method": "health"})).await;
    assert_eq!(client.next().await["id"], "h");
    for id in ["c", "a", "b"] {
        server.host.release(id);
        assert_eq!(client.next().await["payload"], id);
    }
}

#[tokio::test]
async fn calls_in_flight_are_bounded_and_the_rest_waits() {
    let mut config = with_token();
    config.limits.calls_in_flight = 2;
    let server = start(config).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    for id in ["a", "b", "c"] {
        client.send(slow(id)).await;
    }
    client.send(json!({"type": "req", "id": "h", "method": "health"})).await;
    // Neither `c` nor `health` is read while two calls run.
    server.host.release("c");
    let early = tokio::time::timeout(Duration::from_millis(100), client.next()).await;
    assert!(early.is_err(), "{early:?}");
    server.host.release("b");
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(client.next().await["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(order, ["b", "c", "h"]);
}

#[tokio::test]
async fn a_thousand_pipelined_calls_are_all_answered() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    for number in 0..1000 {
        let frame = json!({"type": "req", "id": number.to_string(), "method": "notes.echo", "params": {"n": number}});
        client.feed(Message::text(frame.to_string())).await.unwrap();
    }
    client.socket.flush().await.unwrap();
    for number in 0..1000 {
        assert_eq!(client.next().await["payload"]["n"], number);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_and_others_are_not() {
    let mut config = with_token();
    config.limits.buffered_bytes = 256 * 1024;
    config.limits.close_grace = PATIENCE;
    let server = start(config).await;
    let mut slow = server.connect(4, &["operator.read"]).await;
    let mut quick = server.connect(4, &["operator.read"]).await;
    let block = "x".repeat(64 * 1024);
    // More than the kernel's buffers and our own hold together.
    for number in 0..400 {
        server.host.emit("notes.changed", json!({"n": number, "block": block}));
        assert_eq!(quick.event("notes.changed").await["payload"]["n"], number);
    }
    assert_eq!(slow.closed().await, (1008, "slow consumer".into()));
    assert_eq!(quick.call("health", json!({})).await["ok"], true);
}

/// On one thread, so that the client's connection surely looks at nothing in between.
#[tokio::test]
async fn a_client_that_more_happens_to_than_may_wait_is_cut_off() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    for number in 0..600 {
        server.gateway.state.hub.broadcast(Event::new("notes.changed", &json!({"n": number}).to_string()));
    }
    assert_eq!(client.closed().await, (1008, "slow consumer".into()), "it would miss one without knowing");
}

#[tokio::test]
async fn a_slow_client_loses_ticks_but_stays() {
    let mut config = with_token();
    config.limits.tick_interval = Duration::from_millis(5);
    config.limits.buffered_bytes = 0;
    let server = start(config).await.that_makes_things_up("that not one byte may wait");
    let mut client = server.connect(4, &["operator.read"]).await;
    let big = "x".repeat(8 * 1024 * 1024);
    client.send(json!({"type": "req", "id": "big", "method": "notes.echo", "params": {"big": big}})).await;
    // While the answer does not fit, ticks are dropped; nothing closes.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(client.response(&json!("big")).await["payload"]["big"].as_str().unwrap().len(), big.len());
    client.event("tick").await;
}

#[tokio::test]
async fn a_request_that_came_while_nothing_was_read_is_answered() {
    let mut config = with_token();
    config.limits.read_pause_bytes = 1;
    let server = start(config).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    client.fall_behind("big").await;
    client.send(json!({"type": "req", "id": "h", "method": "health"})).await;
    // Nothing but the answer's last bytes leaving makes the gateway read on: the next ping is further off than patience.
    assert_eq!(client.response(&json!("big")).await["ok"], true);
    assert_eq!(client.response(&json!("h")).await["ok"], true);
}

#[tokio::test]
async fn stopping_tells_everyone_ends_their_calls_and_closes_with_1012() {
    for (protocol, payload) in [
        (3, json!({"reason": "gateway stopping", "restartExpectedMs": null})),
        (4, json!({"reason": "gateway stopping"})),
    ] {
        let server = start(with_token()).await;
        let mut client = server.connect(protocol, &["operator.read"]).await;
        let mut waiting = server.open().await;
        client.send(slow("a")).await;
        client.send(json!({"type": "req", "id": "h", "method": "health"})).await;
        assert_eq!(client.next().await["id"], "h");
        let host = std::sync::Arc::clone(&server.host);
        let address = server.address;
        let stopped = tokio::spawn(server.stop());
        assert_eq!(client.event("shutdown").await["payload"], payload);
        host.release("a");
        assert_eq!(client.next().await["payload"], "a");
        assert_eq!(client.closed().await, (1012, "service restart".into()));
        assert_eq!(waiting.closed().await, (1012, "service restart".into()));
        drop((client, waiting));
        tokio::time::timeout(PATIENCE, stopped).await.unwrap().unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn a_call_that_never_ends_does_not_hold_up_the_stop() {
    let mut config = with_token();
    config.limits.drain = Duration::from_millis(50);
    let server = start(config).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    client.send(slow("a")).await;
    client.call("health", json!({})).await;
    let stopped = tokio::spawn(server.stop());
    assert_eq!(client.closed().await, (1012, "service restart".into()));
    drop(client);
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_is_forgotten() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    client.send(slow("a")).await;
    client.call("health", json!({})).await;
    client.socket.close(None).await.unwrap();
    let gone = async {
        while server.gateway.connected() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn the_program_rests_once_the_last_client_has_gone_and_not_before() {
    let mut config = with_token();
    config.limits.alone_after = Duration::from_millis(1);
    let rested = Arc::new(tokio::sync::Semaphore::new(0));
    let told = Arc::clone(&rested);
    let rest = move || told.add_permits(1);
    let server = start_with(config, Arc::default(), |services| services.rest = Some(Arc::new(rest))).await;
    let (first, mut second) =
        (server.connect(4, &["operator.read"]).await, server.connect(3, &["operator.read"]).await);
    drop(first);
    // Far more than the pause; the socket of the second is no longer the HTTP server's.
    for _ in 0..100 {
        assert_eq!(second.call("health", json!({})).await["ok"], true);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(rested.available_permits(), 0);
    drop(second);
    tokio::time::timeout(PATIENCE, rested.acquire()).await.unwrap().unwrap().forget();
    let mut third = server.connect(4, &["operator.read"]).await;
    assert_eq!(third.call("health", json!({})).await["ok"], true);
    drop(third);
    tokio::time::timeout(PATIENCE, rested.acquire()).await.unwrap().unwrap().forget();
}
