use std::time::Duration;

use leanclaw_plugin_sdk::Headers;
use leanclaw_plugin_sdk::failure::code;
use leanclaw_plugin_sdk::testing::TestHost;
use serde_json::{Value, json};

use super::*;

fn host() -> TestHost {
    let host = TestHost::with_manifest(include_str!("../leanclaw.plugin.json")).unwrap();
    host.set_secret("signing-key", "key");
    host
}

fn body(id: &str) -> Value {
    json!({"id": id, "from": "ada", "conversation": "room", "text": "Hello"})
}

fn signed_at(seconds: u64, body: &Value) -> Request {
    let body = body.to_string().into_bytes();
    let timestamp = seconds.to_string();
    let signature = signature::sign(Direction::In, &timestamp, &body).unwrap();
    let headers: Headers =
        [(TIMESTAMP_HEADER, timestamp.as_str()), (SIGNATURE_HEADER, signature.as_str())].into_iter().collect();
    Request { method: "POST".into(), path: "/".into(), headers, body, ..Request::default() }
}

fn signed(host: &TestHost, body: &Value) -> Request {
    signed_at(host.now_ms() / 1000, body)
}

#[test]
fn a_signed_message_goes_to_the_inbox() {
    let host = host();
    let payload = json!({
        "id": "m1", "from": "ada", "fromName": "Ada", "conversation": "room", "group": true, "thread": "t",
        "text": "Hello", "replyTo": "m0", "sentAtMs": 5
    });
    let reply = handle(&signed(&host, &payload)).unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (202, br#"{"status":"accepted"}"#.as_slice()));
    let messages = host.take_inbox();
    assert_eq!(messages.len(), 1);
    let message = &messages[0];
    assert_eq!((message.id.as_str(), message.sent_at_ms, message.reply_to.as_deref()), ("m1", 5, Some("m0")));
    assert_eq!((message.sender.id.as_str(), message.sender.display_name.as_deref()), ("ada", Some("Ada")));
    let place = &message.place;
    assert_eq!((place.id.as_str(), place.kind.as_str(), place.thread.as_deref()), ("room", "group", Some("t")));
    assert_eq!(message.parts[0].text.as_deref(), Some("Hello"));
}

#[test]
fn what_is_not_signed_or_not_fresh_is_refused() {
    let host = host();
    let now = host.now_ms() / 1000;
    let fine = signed(&host, &body("m1"));
    let mut unsigned = fine.clone();
    unsigned.headers = Headers::new();
    let mut changed = fine.clone();
    changed.body = body("m2").to_string().into_bytes();
    let mut redated = fine;
    redated.headers.set(TIMESTAMP_HEADER, (now + 1).to_string());
    for (request, what) in [
        (unsigned, "unsigned"),
        (changed, "another body"),
        (redated, "another time"),
        (signed_at(now - 301, &body("m1")), "too old"),
        (signed_at(now + 301, &body("m1")), "too far ahead"),
    ] {
        assert_eq!(handle(&request).unwrap().status, 401, "{what}");
    }
    assert!(host.take_inbox().is_empty());
    assert_eq!(host.log().iter().filter(|line| line.level == "warn").count(), 5);
    assert_eq!(handle(&signed_at(now - 300, &body("m1"))).unwrap().status, 202);
    assert_eq!(handle(&signed_at(now + 300, &body("m2"))).unwrap().status, 202);
}

#[test]
fn the_window_is_a_setting() {
    let host = host();
    host.set_settings(json!({"replayWindowSeconds": 10}));
    let now = host.now_ms() / 1000;
    assert_eq!(handle(&signed_at(now - 11, &body("m1"))).unwrap().status, 401);
    assert_eq!(handle(&signed_at(now - 10, &body("m1"))).unwrap().status, 202);
}

#[test]
fn a_message_is_taken_once_as_long_as_it_is_fresh() {
    let host = host();
    let ahead = signed_at(host.now_ms() / 1000 + 300, &body("m1"));
    assert_eq!(handle(&ahead).unwrap().status, 202);
    // Without the inbox's own memory: the window alone must hold.
    assert_eq!(host.take_inbox().len(), 1);
    host.advance(Duration::from_secs(600));
    assert_eq!(handle(&ahead).unwrap().status, 409);
    host.advance(Duration::from_secs(1));
    assert_eq!(handle(&ahead).unwrap().status, 401);
    assert!(host.take_inbox().is_empty());
}

#[test]
fn a_message_that_was_not_stored_may_come_again() {
    let host = host();
    let request = signed(&host, &body("m1"));
    host.set_inbox_answer(Err(Failure::unavailable("The disk is full.")));
    assert_eq!(handle(&request).unwrap_err().code, code::UNAVAILABLE);
    host.set_inbox_answer(Ok("throttled"));
    assert_eq!(handle(&request).unwrap().status, 429);
    host.set_inbox_answer(Ok("accepted"));
    assert_eq!(handle(&request).unwrap().status, 202);
}

#[test]
fn the_inbox_decides_about_the_sender() {
    let host = host();
    for (id, answer, status) in [("a", "pairing-required", 200), ("b", "denied", 403), ("c", "duplicate", 409)] {
        host.set_inbox_answer(Ok(answer));
        let reply = handle(&signed(&host, &body(id))).unwrap();
        assert_eq!((reply.status, reply.body), (status, json!({ "status": answer }).to_string().into_bytes()));
    }
}

#[test]
fn what_is_not_a_message_is_named() {
    let host = host();
    let fine = signed(&host, &body("m1"));
    assert_eq!(handle(&Request { method: "GET".into(), ..fine.clone() }).unwrap().headers.get("allow"), Some("POST"));
    assert_eq!(handle(&Request { path: "/x".into(), ..fine.clone() }).unwrap().status, 404);
    assert_eq!(handle(&Request { body: vec![0; MAX_BODY_BYTES + 1], ..fine }).unwrap().status, 413);
    for bad in [json!({"id": "m1"}), body(""), body(&"x".repeat(MAX_ID_CHARACTERS + 1)), json!([])] {
        assert_eq!(handle(&signed(&host, &bad)).unwrap_err().code, code::INVALID_INPUT, "{bad}");
    }
    assert!(host.take_inbox().is_empty());
}

#[test]
fn without_its_key_the_channel_takes_nothing() {
    let host = host();
    let request = signed(&host, &body("m1"));
    let bare = TestHost::with_manifest(include_str!("../leanclaw.plugin.json")).unwrap();
    assert_eq!(handle(&request).unwrap_err().code, code::UNAVAILABLE);
    assert!(bare.take_inbox().is_empty());
}
