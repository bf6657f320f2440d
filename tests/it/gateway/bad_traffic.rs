//! Bad frames on the wire, one by one, as `tests/data/bad-traffic.json` has them from the protocol: in both versions the
//! answer, byte for byte, and whether the connection goes on.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, Connect, Device, Place, text};

fn situations(part: &str) -> Vec<Value> {
    let table: Value = serde_json::from_str(include_str!("../../data/bad-traffic.json")).unwrap();
    table[part].as_array().unwrap().clone()
}

/// The responses that a situation is answered with in a version.
fn answers(case: &Value, protocol: u8) -> Vec<String> {
    let Some(answer) = case.get("answer") else { return Vec::new() };
    let answer = answer.get(protocol.to_string()).unwrap_or(answer);
    vec![text(answer).to_owned(); times(case)]
}

fn times(case: &Value) -> usize {
    case.get("times").map_or(1, |times| usize::try_from(times.as_u64().unwrap()).unwrap())
}

async fn send(client: &mut Client, case: &Value) {
    for _ in 0..times(case) {
        client.send_message(Message::text(text(&case["send"]))).await.unwrap();
    }
}

/// What comes until the connection ends is the answers and the close frame of the table.
async fn assert_end(client: &mut Client, case: &Value, protocol: u8) {
    let situation = text(&case["situation"]);
    let (frames, closed) = client.rest_as_text().await;
    let responses: Vec<String> = frames.into_iter().filter(|frame| frame.starts_with("{\"type\":\"res\"")).collect();
    assert_eq!(responses, answers(case, protocol), "{situation}");
    assert_eq!(json!(closed.expect("it says why it closes")), case["close"], "{situation}");
}

/// A node, which is known by its device.
async fn node(address: SocketAddr, protocol: u8) -> Client {
    let device = Device::numbered(7, ("node-host", "node", "node"));
    let connect = json!({"minProtocol": protocol, "maxProtocol": protocol});
    device.knock(address, None, connect).await.expect("it is of this machine")
}

#[tokio::test]
async fn before_the_handshake_it_ends_the_connection() {
    let place = Place::empty();
    let program = place.start().await;
    for case in situations("before the handshake") {
        let mut client = Client::open(program.address, None).await.unwrap();
        client.event("connect.challenge").await;
        send(&mut client, &case).await;
        assert_end(&mut client, &case, 4).await;
    }
    program.stop().await;
}

#[tokio::test]
async fn after_the_handshake_it_is_answered_and_the_connection_goes_on() {
    let place = Place::empty();
    let program = place.start().await;
    let operator = async |protocol, scopes| {
        let connect = Connect { protocols: (protocol, protocol), scopes, ..Connect::default() };
        connect.to(program.address).await.unwrap()
    };
    for protocol in [3, 4] {
        for case in situations("after the handshake") {
            let situation = text(&case["situation"]);
            let mut client = match case["by"].as_str() {
                Some("node") => node(program.address, protocol).await,
                Some("reader") => operator(protocol, &["operator.read"]).await,
                None => operator(protocol, &["operator.admin"]).await,
                Some(other) => panic!("{situation}: by {other}"),
            };
            send(&mut client, &case).await;
            if case.get("close").is_some() {
                assert_end(&mut client, &case, protocol).await;
                continue;
            }
            for expected in answers(&case, protocol) {
                assert_eq!(client.next_response_as_text().await, expected, "{situation}, version {protocol}");
            }
            // The next answer is that to the next request.
            let id = client.send("health", json!({})).await;
            let response = client.next_response().await;
            assert_eq!((&response["id"], &response["ok"]), (&json!(id), &json!(true)), "{situation}: {response}");
        }
    }
    program.stop().await;
}
