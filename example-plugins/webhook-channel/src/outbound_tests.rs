use leanclaw_plugin_sdk::failure::code;
use leanclaw_plugin_sdk::testing::{Stub, TestHost};
use leanclaw_plugin_sdk::{Part, Place};
use serde_json::{Value, json};

use super::*;

const URL: &str = "https://hooks.example.com/leanclaw";

fn host() -> TestHost {
    let host = TestHost::with_manifest(include_str!("../leanclaw.plugin.json")).unwrap();
    host.set_secret("signing-key", "key");
    host.set_settings(json!({"url": URL}));
    host
}

fn message(key: &str) -> Outbound {
    Outbound {
        place: Place::direct("room"),
        parts: vec![Part::text("Hello"), Part::text("again")],
        reply_to: Some("m1".into()),
        idempotency_key: key.into(),
        extra: None,
    }
}

#[test]
fn a_message_is_signed_sent_and_receipted() {
    let host = host();
    host.stub_http("POST", URL, Stub::json(&json!({"messageId": "77"})));
    assert_eq!(deliver(&message("k1")).unwrap().message_id.as_deref(), Some("77"));
    let requests = host.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(
        serde_json::from_slice::<Value>(&request.body).unwrap(),
        json!({
            "idempotencyKey": "k1", "sender": "LeanClaw", "conversation": "room", "group": false,
            "text": "Hello\n\nagain", "replyTo": "m1"
        })
    );
    assert_eq!(request.headers.get("idempotency-key"), Some("k1"));
    assert_eq!(request.headers.get("content-type"), Some("application/json"));
    let timestamp = request.headers.get(TIMESTAMP_HEADER).unwrap();
    assert_eq!(timestamp, (host.now_ms() / 1000).to_string());
    let signature = request.headers.get(SIGNATURE_HEADER).unwrap();
    assert!(signature::verify(Direction::Out, timestamp, &request.body, signature).unwrap());
    assert!(!signature::verify(Direction::In, timestamp, &request.body, signature).unwrap());
}

#[test]
fn one_key_is_sent_once_and_keeps_its_receipt() {
    let host = host();
    host.stub_http("POST", URL, Stub::json(&json!({"messageId": "1"})));
    host.stub_http("POST", URL, Stub::json(&json!({"messageId": "2"})));
    let first = deliver(&message("k1")).unwrap();
    assert_eq!(deliver(&message("k1")).unwrap(), first);
    assert_eq!(host.requests().len(), 1);
    assert_eq!(deliver(&message("k2")).unwrap().message_id.as_deref(), Some("2"));
}

#[test]
fn an_answer_that_does_not_read_is_still_a_delivery() {
    let host = host();
    for stub in [Stub::status(204), Stub::body("text/html", "<p>ok"), Stub::body("text/plain", "x".repeat(70_000))] {
        host.stub_http("POST", URL, stub);
    }
    for key in ["k1", "k2", "k3"] {
        assert_eq!(deliver(&message(key)).unwrap().message_id, None);
        deliver(&message(key)).unwrap();
    }
    assert_eq!(host.requests().len(), 3);
}

#[test]
fn a_failure_says_when_to_try_again_and_is_not_remembered() {
    let host = host();
    for stub in [
        Stub::status(429).header("retry-after", "7"),
        Stub::status(503),
        Stub::failure(Failure::timed_out("The server did not answer.")),
        Stub::status(410),
        Stub::json(&json!({"messageId": "9"})),
    ] {
        host.stub_http("POST", URL, stub);
    }
    let outcomes: Vec<_> = (0..4)
        .map(|_| deliver(&message("k1")).unwrap_err())
        .map(|failure| (failure.code, failure.retryable, failure.retry_after_ms))
        .collect();
    assert_eq!(
        outcomes,
        [
            (code::RATE_LIMITED.to_owned(), true, Some(7_000)),
            (code::UNAVAILABLE.to_owned(), true, None),
            (code::TIMED_OUT.to_owned(), true, None),
            (code::NOT_FOUND.to_owned(), false, None),
        ]
    );
    assert_eq!(deliver(&message("k1")).unwrap().message_id.as_deref(), Some("9"));
}

#[test]
fn what_cannot_be_sent_is_not() {
    let host = host();
    let mut file = message("k1");
    file.parts.push(Part::blob("image", Blob::new("image/png", vec![1])));
    let mut empty = message("k1");
    empty.parts.clear();
    let mut long = message("k1");
    long.parts = vec![Part::text("x".repeat(MAX_TEXT_BYTES as usize + 1))];
    for (message, expected) in [(file, code::UNSUPPORTED), (empty, code::UNSUPPORTED), (long, code::TOO_LARGE)] {
        assert_eq!(deliver(&message).unwrap_err().code, expected);
    }
    host.set_settings(json!({}));
    assert_eq!(deliver(&message("k1")).unwrap_err().code, code::UNSUPPORTED);
    host.set_settings(json!({"url": "https://elsewhere.example.com/"}));
    assert_eq!(deliver(&message("k1")).unwrap_err().code, code::DENIED);
    assert!(host.requests().is_empty());
}
