//! Scenarios 1, 2 and 9: health over HTTP, the handshake, the form of frames.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Check, check, connect, join};
use crate::support::{Client, request, text};

/// Error codes the original knows, as far as its test names them.
const CODES: [&str; 7] =
    ["INVALID_REQUEST", "UNAUTHORIZED", "UNAVAILABLE", "RATE_LIMITED", "AGENT_TIMEOUT", "NOT_LINKED", "NOT_PAIRED"];

pub(super) const CHECKS: &[Check] = &[
    check("boot: health", |on| Box::pin(async move { assert_live(&on.program.get("/health").await.json()) })),
    check("boot: challenge first", |on| {
        Box::pin(async move {
            let challenge = challenge(on.program.address).await;
            assert!(challenge["nonce"].is_string() && challenge["ts"].is_number(), "{challenge}");
        })
    }),
    check("boot: nonces differ", |on| {
        Box::pin(async move {
            let (first, second) = (challenge(on.program.address).await, challenge(on.program.address).await);
            assert_ne!(first["nonce"], second["nonce"]);
            assert!(!text(&first["nonce"]).is_empty() && !text(&second["nonce"]).is_empty());
        })
    }),
    check("boot: connect", |on| Box::pin(async move { assert_eq!(on.operator().await.hello["type"], "hello-ok") })),
    check("boot: hello-ok", |on| Box::pin(async move { assert_hello(&on.operator().await.hello) })),
    check("boot: hello-ok auth", |on| {
        Box::pin(async move {
            let auth = on.operator().await.hello["auth"].clone();
            assert!(!text(&auth["deviceToken"]).is_empty() && auth["role"].is_string() && auth["scopes"].is_array());
        })
    }),
    check("boot: protocol", |on| Box::pin(async move { assert_eq!(on.operator().await.hello["protocol"], 3) })),
    check("boot: too old", |on| Box::pin(async move { assert_refused(&on, 1, 2).await })),
    check("boot: too new", |on| Box::pin(async move { assert_refused(&on, 99, 99).await })),
    check("boot: waits", |on| {
        Box::pin(async move {
            let mut quiet = Client::open(on.program.address, None).await.unwrap();
            quiet.event("connect.challenge").await;
            // Others come and go meanwhile.
            on.operator().await.ok("health", json!({})).await;
            assert_eq!(quiet.ok("connect", connect("operator")).await["type"], "hello-ok");
        })
    }),
    check("boot: broken JSON", |on| {
        Box::pin(async move {
            let mut client = Client::open(on.program.address, None).await.unwrap();
            client.event("connect.challenge").await;
            client.send_message(Message::text("{not valid json!!!")).await.unwrap();
            let error = client.next_response().await["error"].clone();
            assert_eq!(error["code"], "INVALID_REQUEST");
            assert!(text(&error["message"]).contains("Invalid JSON"));
        })
    }),
    check("boot: method first", |on| {
        Box::pin(async move {
            let mut client = Client::open(on.program.address, None).await.unwrap();
            client.event("connect.challenge").await;
            assert_eq!(client.refused("health", json!({})).await["code"], "UNAUTHORIZED");
        })
    }),
    check("frames: response", |on| Box::pin(async move { assert_frame(&asked(&on, "some-id").await) })),
    check("frames: id", |on| {
        Box::pin(async move {
            let frame = asked(&on, "my-custom-id-42").await;
            assert_eq!((&frame["id"], &frame["type"]), (&json!("my-custom-id-42"), &json!("res")));
        })
    }),
    check("frames: success", |on| {
        Box::pin(async move {
            let frame = asked(&on, "x").await;
            assert!(frame["id"].is_string() && frame["ok"] == true && frame.get("payload").is_some(), "{frame}");
        })
    }),
    check("frames: unknown method", |on| {
        Box::pin(async move {
            let error = on.operator().await.refused("nonexistent.method", json!({})).await;
            assert!(error["code"].is_string() && error["message"].is_string(), "{error}");
        })
    }),
    check("frames: error code", |on| {
        Box::pin(async move {
            let error = on.operator().await.refused("nonexistent.method", json!({})).await;
            assert!(CODES.contains(&text(&error["code"])), "{error}");
        })
    }),
    check("frames: broadcast", |on| {
        Box::pin(async move {
            let mut client = on.operator().await;
            let note = client.ok("notes.add", json!({"text": "for all"})).await;
            let frame = client.event_frame("notes.changed").await;
            assert_eq!(frame["payload"], json!({"change": "added", "id": note["id"]}));
            assert!(frame["seq"].is_u64(), "{frame}");
        })
    }),
    check("frames: seq", |on| {
        Box::pin(async move {
            let mut client = on.operator().await;
            let mut seen = Vec::new();
            for number in 0..3 {
                client.ok("notes.add", json!({"text": format!("note {number}")})).await;
                seen.push(client.event_frame("notes.changed").await["seq"].as_u64().unwrap());
            }
            assert!(seen.is_sorted_by(|earlier, later| earlier < later), "{seen:?}");
        })
    }),
    check("frames: maxPayload", |on| {
        Box::pin(async move { assert_eq!(on.operator().await.hello["policy"]["maxPayload"], 16_777_216) })
    }),
    check("frames: parallel", |on| {
        Box::pin(async move {
            let mut client = on.operator().await;
            let wanted: BTreeSet<String> = (0..10).map(|number| format!("parallel-{number}")).collect();
            for id in &wanted {
                let frame = json!({"type": "req", "id": id, "method": "health"});
                client.send_message(Message::text(frame.to_string())).await.unwrap();
            }
            let mut answered = BTreeSet::new();
            for _ in 0..10 {
                let frame = client.next_response().await;
                assert_eq!(frame["ok"], true, "{frame}");
                answered.insert(text(&frame["id"]).to_owned());
            }
            assert_eq!(answered, wanted);
        })
    }),
    check("http: health", |on| {
        Box::pin(async move {
            let health = on.program.get("/health").await;
            assert_eq!(health.status, 200);
            assert_live(&health.json());
        })
    }),
    check("http: ready", |on| {
        Box::pin(async move {
            let ready = on.program.get("/ready").await;
            assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)));
        })
    }),
    check("http: metrics", |on| {
        Box::pin(async move {
            let metrics = on.program.get("/metrics").await;
            assert_eq!(metrics.status, 200);
            assert!(metrics.json()["uptime"].is_number() && metrics.json()["memoryUsageMb"].is_number());
        })
    }),
    check("http: unknown path", |on| {
        Box::pin(async move {
            let unknown = on.program.get("/unknown-path").await;
            assert_eq!(unknown.status, 404);
            assert!(unknown.json().get("error").is_some(), "{unknown:?}");
        })
    }),
    check("http: HEAD", |on| {
        Box::pin(async move {
            let head = request(on.program.address, "HEAD", "/health", &[], b"").await;
            assert_eq!((head.status, head.body.len()), (200, 0));
        })
    }),
    check("http: POST", |on| {
        Box::pin(async move {
            let posted = request(on.program.address, "POST", "/health", &[], b"").await;
            assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
            assert_eq!(posted.json()["error"], "Method Not Allowed");
        })
    }),
];

fn assert_live(health: &Value) {
    assert_eq!((&health["ok"], &health["status"]), (&json!(true), &json!("live")), "{health}");
}

async fn challenge(address: std::net::SocketAddr) -> Value {
    Client::open(address, None).await.unwrap().event("connect.challenge").await
}

async fn assert_refused(on: &super::Ground, minimum: u64, maximum: u64) {
    let mut params = connect("operator");
    params["minProtocol"] = json!(minimum);
    params["maxProtocol"] = json!(maximum);
    let error = join(&on.program, params).await.err().expect("it is refused");
    assert!(error["code"].is_string() && error["message"].is_string(), "{error}");
}

/// The frame that answers `health`.
async fn asked(on: &super::Ground, id: &str) -> Value {
    let mut client = on.operator().await;
    let frame = json!({"type": "req", "id": id, "method": "health"});
    client.send_message(Message::text(frame.to_string())).await.unwrap();
    client.next_response().await
}

fn assert_frame(frame: &Value) {
    let known = ["type", "id", "ok", "payload", "error"];
    assert!(frame.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{frame}");
    assert!(frame["type"] == "res" && frame["id"].is_string() && frame["ok"].is_boolean(), "{frame}");
}

fn assert_hello(hello: &Value) {
    assert_eq!(hello["type"], "hello-ok");
    assert!(hello["protocol"].is_u64(), "{hello}");
    for name in ["version", "connId"] {
        assert!(!text(&hello["server"][name]).is_empty(), "{hello}");
    }
    for name in ["methods", "events"] {
        assert!(!hello["features"][name].as_array().unwrap().is_empty(), "{hello}");
    }
    let snapshot = &hello["snapshot"];
    assert!(snapshot["presence"].is_array() && snapshot["health"].is_object(), "{snapshot}");
    assert!(snapshot["uptimeMs"].is_u64() && snapshot["authMode"].is_string(), "{snapshot}");
    for name in ["presence", "health"] {
        assert!(snapshot["stateVersion"][name].is_number(), "{snapshot}");
    }
    for name in ["maxPayload", "maxBufferedBytes", "tickIntervalMs"] {
        assert!(hello["policy"][name].as_u64().unwrap() > 0, "{hello}");
    }
}
