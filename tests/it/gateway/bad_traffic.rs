//! Bad frames on the wire, one by one, as `tests/data/bad-traffic.json` has them from the protocol: in both versions the
//! answer, and whether the connection goes on.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, Connect, Place, text};

fn situations(part: &str) -> Vec<Value> {
    let table: Value = serde_json::from_str(include_str!("../../data/bad-traffic.json")).unwrap();
    table[part].as_array().unwrap().clone()
}

/// Checks a response against the table: id and code whole, of the message the beginning.
fn assert_answer(response: &Value, expected: &Value, protocol: u8, situation: &str) {
    let code = expected["code"].get(protocol.to_string()).unwrap_or(&expected["code"]);
    let error = &response["error"];
    assert_eq!((&response["id"], &error["code"]), (&expected["id"], code), "{situation}: {response}");
    assert!(text(&error["message"]).starts_with(text(&expected["message"])), "{situation}: {response}");
}

#[tokio::test]
async fn before_the_handshake_it_ends_the_connection() {
    let place = Place::empty();
    let program = place.start().await;
    for case in situations("before the handshake") {
        let situation = text(&case["situation"]);
        let mut client = Client::open(program.address, None).await.unwrap();
        client.event("connect.challenge").await;
        client.send_message(Message::text(text(&case["send"]))).await.unwrap();
        let (frames, closed) = client.rest().await;
        match case.get("answer") {
            None => assert!(frames.is_empty(), "{situation}: {frames:?}"),
            Some(expected) => {
                assert_eq!(frames.len(), 1, "{situation}: {frames:?}");
                assert_answer(&frames[0], expected, 4, situation);
            }
        }
        let (code, reason) = closed.expect("it says why it closes");
        assert_eq!(json!(code), case["close"][0], "{situation}");
        let expected = text(&case["close"][1]);
        assert!(reason.starts_with(expected) && reason.is_empty() == expected.is_empty(), "{situation}: {reason}");
        assert!(reason.len() <= 120, "{situation}: {reason}");
    }
    program.stop().await;
}

#[tokio::test]
async fn after_the_handshake_it_is_answered_and_the_connection_goes_on() {
    let place = Place::empty();
    let program = place.start().await;
    for protocol in [3, 4] {
        for case in situations("after the handshake") {
            let situation = text(&case["situation"]);
            let is_reader = case.get("scopes").is_some();
            let scopes: &[&str] = if is_reader { &["operator.read"] } else { &["operator.admin"] };
            let connect = Connect { protocols: (protocol, protocol), scopes, ..Connect::default() };
            let mut client = connect.to(program.address).await.unwrap();
            client.send_message(Message::text(text(&case["send"]))).await.unwrap();
            if let Some(expected) = case.get("answer") {
                assert_answer(&client.next_response().await, expected, protocol, situation);
            }
            // The next answer is that to the next request.
            let id = client.send("health", json!({})).await;
            let response = client.next_response().await;
            assert_eq!((&response["id"], &response["ok"]), (&json!(id), &json!(true)), "{situation}: {response}");
        }
    }
    program.stop().await;
}
