//! Scenarios 5 and 6: many clients, and the end of the program.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Check, Ground, check, connect, join};
use crate::support::{Client, Held, Place, Program, env, held_fetch, text};

pub(super) const CHECKS: &[Check] = &[
    check("clients: two", |on| {
        Box::pin(async move { assert_ne!(conn_id(&on.operator().await), conn_id(&on.operator().await)) })
    }),
    check("clients: broadcast", |on| {
        Box::pin(async move {
            let (mut one, mut other) = (on.operator().await, on.operator().await);
            let note = one.ok("notes.add", json!({"text": "hello world"})).await;
            for client in [&mut one, &mut other] {
                assert_eq!(client.event("notes.changed").await, json!({"change": "added", "id": note["id"]}));
            }
        })
    }),
    check("clients: one leaves", |on| {
        Box::pin(async move {
            let (one, mut other) = (on.operator().await, on.operator().await);
            drop(one);
            assert_eq!(other.ok("health", json!({})).await["ok"], true);
        })
    }),
    check("clients: modes", |on| {
        Box::pin(async move {
            let (mut seen, mut open) = (BTreeSet::new(), Vec::new());
            for who in ["backend", "cli", "ui"] {
                let client = on.join(who).await.unwrap();
                seen.insert(conn_id(&client));
                open.push(client);
            }
            assert_eq!(seen.len(), 3);
        })
    }),
    check("clients: presence", |on| {
        Box::pin(async move {
            let (one, other) = (on.operator().await, on.operator().await);
            let presence = other.hello["snapshot"]["presence"].as_array().unwrap().clone();
            let ids: Vec<&Value> = presence.iter().map(|entry| &entry["connId"]).collect();
            assert!(ids.contains(&&json!(conn_id(&one))) && ids.contains(&&json!(conn_id(&other))), "{presence:?}");
        })
    }),
    check("clients: ten", |on| {
        Box::pin(async move {
            let opened = futures_util::future::join_all((0..10).map(|_| on.operator())).await;
            assert_eq!(opened.iter().map(conn_id).collect::<BTreeSet<_>>().len(), 10);
            for mut client in opened {
                assert_eq!(client.ok("health", json!({})).await["ok"], true);
            }
        })
    }),
    check("restart: close code", |_| {
        Box::pin(async move {
            let place = Place::empty();
            let program = place.start().await;
            let (mut one, mut other) = (operator(&program).await, operator(&program).await);
            program.terminate();
            for client in [&mut one, &mut other] {
                assert_eq!(client.closed().await.map(|(code, _)| code), Some(1001));
            }
        })
    }),
    check("restart: same port", |_| {
        Box::pin(async move {
            let place = Place::empty();
            let program = place.start().await;
            let port = program.address.port();
            operator(&program).await;
            program.stop().await;
            let again = on_port(&place, port).await;
            operator(&again).await.ok("health", json!({})).await;
        })
    }),
    check("restart: new connId", |_| {
        Box::pin(async move {
            let place = Place::empty();
            let program = place.start().await;
            let (port, before) = (program.address.port(), conn_id(&operator(&program).await));
            program.stop().await;
            let again = on_port(&place, port).await;
            assert_ne!(conn_id(&operator(&again).await), before);
        })
    }),
    check("restart: in flight", |_| Box::pin(async move { close_during_a_call().await })),
    check("restart: three times", |_| {
        Box::pin(async move {
            let place = Place::empty();
            for _ in 0..3 {
                let program = place.start().await;
                operator(&program).await.ok("health", json!({})).await;
                program.stop().await;
            }
        })
    }),
    check("chaos: close during a call", |_| Box::pin(async move { close_during_a_call().await })),
    check("chaos: garbage", |on| Box::pin(async move { garbage(on).await })),
    check("chaos: hundred", |on| Box::pin(async move { healthy(&on, 100).await })),
    check("errors: rapid", |on| Box::pin(async move { healthy(&on, 20).await })),
    check("chaos: gone in the handshake", |_| {
        Box::pin(async move {
            let place = Place::empty();
            let program = place.start().await;
            let leaving = Client::open(program.address, None).await.unwrap();
            drop(leaving);
            super::until_connections(&program, 0).await;
            program.stop().await;
        })
    }),
];

fn conn_id(client: &Client) -> String {
    text(&client.hello["server"]["connId"]).to_owned()
}

async fn operator(program: &Program) -> Client {
    join(program, connect("operator")).await.unwrap()
}

async fn on_port(place: &Place, port: u16) -> Program {
    place.start_with(env("LEANCLAW_GATEWAY_PORT", &port.to_string())).await
}

/// A call that never ends by itself, and the end of the program.
async fn close_during_a_call() {
    let place = Place::empty();
    let server = Held::start("7").await;
    held_fetch(&place, server.address, "1", &json!({}));
    let program = place.start().await;
    program.grant_all("held").await;
    let mut client = operator(&program).await;
    client.send("held.run", json!(format!("http://{}/", server.address))).await;
    server.arrived().await;
    program.terminate();
    assert!(client.closed().await.is_some(), "the client is told");
}

async fn garbage(on: Arc<Ground>) {
    use tokio_tungstenite::tungstenite::Message;
    let (mut bad, mut one, mut other) = (on.operator().await, on.operator().await, on.operator().await);
    for text in ["garbage", "{{{", "\0\0", "[]", "null", "{\"type\":\"req\"}"] {
        bad.send_message(Message::text(text)).await.unwrap();
    }
    for client in [&mut one, &mut other] {
        assert_eq!(client.ok("health", json!({})).await["ok"], true);
    }
}

async fn healthy(on: &Ground, times: usize) {
    let mut client = on.operator().await;
    let mut ids = Vec::new();
    for _ in 0..times {
        ids.push(client.send("health", json!({})).await);
    }
    for id in ids {
        assert_eq!(client.answer(&id).await.unwrap()["ok"], true);
    }
}
