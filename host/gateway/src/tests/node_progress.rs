//! Commands that nodes run for a while: once per key, and what they tell meanwhile.

use serde_json::{Value, json};

use super::nodes::{COMMANDS, Host, ask};
use super::{Client, Server, start, with_token};
use crate::hub::Event;
use crate::nodes::MAX_TOLD_BYTES;

/// A call `k` that runs: the node and its connection, who asked, and the id the node knows the call by.
async fn running(server: &Server, seed: u8, scopes: &[&str]) -> (Host, Client, Client, Value) {
    let host = Host::new(seed);
    let mut node = host.connect(server, 3, &COMMANDS).await;
    let mut client = server.connect(4, scopes).await;
    ask(&mut client, "k", &host.id(), "system.which", json!({})).await;
    let id = node.event("node.invoke.request").await["payload"]["id"].clone();
    (host, node, client, id)
}

#[tokio::test]
async fn the_same_key_runs_a_command_once_and_its_progress_reaches_who_asked() {
    let server = start(with_token()).await;
    let (host, mut node, mut client, id) = running(&server, 68, &["operator.write"]).await;
    let chunk = |seq: u64, text: &str| json!({"invokeId": id, "nodeId": host.id(), "seq": seq, "chunk": text});
    assert_eq!(node.call("node.invoke.progress", chunk(0, "half")).await["payload"], json!({"ok": true}));
    let told = client.event("node.invoke.progress").await;
    assert_eq!(
        (&told["payload"]["chunk"], &told["payload"]["idempotencyKey"]),
        (&json!("half"), &json!("k")),
        "{told}"
    );
    assert!(told.get("seq").is_none(), "it is for this connection only");
    // A second connection of the same caller asks again while it runs.
    let mut again = server.connect(4, &["operator.write"]).await;
    ask(&mut again, "k", &host.id(), "system.which", json!({})).await;
    let other = json!({"params": {"bins": ["rm"]}});
    let mut third = server.connect(4, &["operator.write"]).await;
    ask(&mut third, "k", &host.id(), "system.which", other).await;
    assert!(third.response(&json!("k")).await["error"]["message"].as_str().unwrap().contains("another call"));
    let result = host.result(&id, "payload", json!({"ran": 1}));
    assert_eq!(node.call("node.invoke.result", result).await["payload"], json!({"ok": true}));
    for client in [&mut client, &mut again] {
        assert_eq!(client.response(&json!("k")).await["payload"]["payload"], json!({"ran": 1}));
    }
    assert_eq!(node.call("node.invoke.progress", chunk(1, "late")).await["payload"]["ignored"], true);
    ask(&mut again, "k", &host.id(), "system.which", json!({})).await;
    assert_eq!(again.response(&json!("k")).await["payload"]["payload"], json!({"ran": 1}), "also after it has ended");
    ask(&mut again, "new", &host.id(), "system.which", json!({})).await;
    assert_eq!(node.event("node.invoke.request").await["payload"]["idempotencyKey"], "new", "it was asked once only");
}

#[tokio::test]
async fn progress_takes_no_room_from_what_matters() {
    let server = start(with_token()).await;
    let (host, mut node, mut client, id) = running(&server, 73, &["operator.read", "operator.write"]).await;
    client.fall_behind("big").await;
    let chunk = |seq: u64, text: &str| json!({"invokeId": id, "nodeId": host.id(), "seq": seq, "chunk": text});
    for seq in 0..1000 {
        assert_eq!(node.call("node.invoke.progress", chunk(seq, "x")).await["payload"], json!({"ok": true}));
    }
    server.host.emit("notes.changed", json!({}));
    let (mut told, mut big, mut changed) = (0, false, false);
    while !(big && changed) {
        let frame = client.next().await;
        big |= frame["id"] == "big";
        changed |= frame["event"] == "notes.changed";
        told += usize::from(frame["event"] == "node.invoke.progress");
    }
    assert!(told <= 256, "at most what its task had not yet looked at: {told}");

    // Escaped, each is far longer than it was sent.
    let long = "\u{1}".repeat(16_384);
    let fits = MAX_TOLD_BYTES / (6 * long.len());
    let mut ignored = None;
    for seq in 0..=fits {
        let answer = node.call("node.invoke.progress", chunk(seq as u64, &long)).await["payload"].clone();
        if answer["ignored"] == true {
            ignored = Some(seq);
            break;
        }
    }
    assert!(ignored.is_some_and(|seq| seq > fits / 2), "{ignored:?} of {fits}");
    let result = host.result(&id, "payload", json!({"ran": 1}));
    assert_eq!(node.call("node.invoke.result", result).await["payload"], json!({"ok": true}));
    assert_eq!(client.response(&json!("k")).await["payload"]["payload"], json!({"ran": 1}));
}

/// On one thread, so that the task of the operator's connection surely does not run in between.
#[tokio::test]
async fn a_flood_of_progress_between_two_looks_closes_nobody_and_loses_only_progress() {
    let server = start(with_token()).await.that_makes_things_up("progress that holds nothing");
    let mut client = server.connect(4, &["operator.read"]).await;
    let hub = &server.gateway.state.hub;
    let connection = hub.sessions()[0].id.clone();
    let mut taken = 0;
    for _ in 0..1000 {
        let progress = Event::new("node.invoke.progress", "{}").targeted().droppable();
        taken += usize::from(hub.tell(&connection, progress));
    }
    assert_eq!(taken, 256);
    for number in 0..200 {
        hub.broadcast(Event::new("notes.changed", &json!({"n": number}).to_string()));
    }
    for number in 0..200 {
        let mut event = client.next().await;
        while event["event"] == "node.invoke.progress" {
            taken -= 1;
            event = client.next().await;
        }
        assert_eq!(event["payload"]["n"], number, "{event}");
    }
    assert_eq!(taken, 0, "what was taken is told");
    assert_eq!(client.call("health", json!({})).await["ok"], true);
}

/// As above: who did not hear what matters must not go on as if it had.
#[tokio::test]
async fn a_flood_of_what_matters_sends_away_who_cannot_take_it() {
    let server = start(with_token()).await.that_makes_things_up("words that are none");
    let mut client = server.connect(4, &["operator.read"]).await;
    for _ in 0..1000 {
        server.gateway.state.hub.tell_where(Event::new("voicewake.changed", "{}").targeted(), |_| true);
    }
    assert_eq!(client.closed().await.0, 1008);
}

#[tokio::test]
async fn a_call_that_took_long_is_told_again_also_without_the_node() {
    let server = start(with_token()).await;
    let (host, mut node, mut client, id) = running(&server, 70, &["operator.write"]).await;
    server.clock.advance(400_000);
    let result = host.result(&id, "payload", json!({"ran": 1}));
    assert_eq!(node.call("node.invoke.result", result).await["payload"], json!({"ok": true}));
    assert_eq!(client.response(&json!("k")).await["payload"]["payload"], json!({"ran": 1}));
    drop(node);
    while server.gateway.state.hub.len() > 1 {
        tokio::task::yield_now().await;
    }
    ask(&mut client, "k", &host.id(), "system.which", json!({})).await;
    assert_eq!(client.response(&json!("k")).await["payload"]["payload"], json!({"ran": 1}));
    ask(&mut client, &"k".repeat(513), &host.id(), "system.which", json!({})).await;
    let refused = client.response(&json!("k".repeat(513))).await;
    assert_eq!(refused["error"]["code"], "INVALID_REQUEST", "{refused}");
}
