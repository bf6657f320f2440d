//! The end: in order, with a goodbye, and with what is in flight finished. And the end of the last connection.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, Connect, Held, Place, Program, eventually, held_fetch};

/// A program with a call in flight that waits for a server.
struct Busy {
    server: Held,
    program: Program,
    client: Client,
    /// The call's id.
    call: String,
    _place: Place,
}

impl Busy {
    async fn with(answer: &'static str, lifecycle: &str) -> Self {
        let place = Place::empty();
        let server = Held::start(answer).await;
        held_fetch(&place, server.address, "1", &json!({ "lifecycle": lifecycle }));
        let program = place.start().await;
        program.grant_all("held").await;
        let mut client = program.client().await;
        let call = client.send("held.run", json!(format!("http://{}/", server.address))).await;
        server.arrived().await;
        Self { server, program, client, call, _place: place }
    }
}

#[tokio::test]
async fn a_signal_says_goodbye_to_clients_and_ends_with_status_0() {
    for by_terminal in [false, true] {
        let place = Place::empty();
        let program = place.start().await;
        let mut newer = program.client().await;
        let mut older = Connect { protocols: (3, 3), ..Connect::default() }.to(program.address).await.unwrap();
        let mut stranger = crate::support::Client::open(program.address, None).await.unwrap();
        if by_terminal {
            program.interrupt()
        } else {
            program.terminate()
        };
        assert_eq!(newer.event("shutdown").await["reason"], "gateway stopping");
        assert_eq!(older.event("shutdown").await, json!({"reason": "gateway stopping", "restartExpectedMs": null}));
        for client in [&mut newer, &mut older, &mut stranger] {
            assert_eq!(client.closed().await.map(|(code, _)| code), Some(1012));
        }
        let (status, log) = program.end().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains(if by_terminal { "SIGINT" } else { "SIGTERM" }), "{log}");
        assert!(log.trim_end().ends_with("stopped"), "{log}");
    }
}

/// Who was let in gets its answer, from a fresh instance and from a resident one.
#[tokio::test]
async fn a_call_in_flight_is_finished_first() {
    for lifecycle in ["per-call", "resident"] {
        let Busy { server, program, mut client, call, _place } = Busy::with("\"done\"", lifecycle).await;
        program.terminate();
        client.event("shutdown").await;
        server.let_go();
        assert_eq!(client.answer(&call).await, Ok(json!("done")), "{lifecycle}");
        assert_eq!(client.closed().await.map(|(code, _)| code), Some(1012));
        let (status, log) = program.end().await;
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

/// A call that does not end is given up: the program ends all the same.
#[tokio::test]
async fn a_call_that_hangs_does_not_hold_up_the_end() {
    let Busy { server: _server, program, mut client, call: _call, _place } = Busy::with("1", "per-call").await;
    program.terminate();
    let (status, log) = program.end().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(client.closed().await.map(|(code, _)| code), Some(1012));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let Busy { server: _server, program, mut client, call: _call, _place } = Busy::with("1", "per-call").await;
    program.terminate();
    // The first one has been taken when clients are told; two that come together count as one.
    client.event("shutdown").await;
    program.interrupt();
    let (status, log) = program.end().await;
    assert_eq!(status.code(), Some(130), "{log}");
}

/// Nobody new is let in while the program ends, and those inside are asked nothing more.
#[tokio::test]
async fn the_door_closes_first() {
    let Busy { server, program, mut client, call, _place } = Busy::with("1", "per-call").await;
    program.terminate();
    client.event("shutdown").await;
    eventually("connections are refused", async || {
        std::net::TcpStream::connect(program.address).is_err().then_some(())
    })
    .await;
    // It may be read or not; it is not an error of the connection.
    client.send_message(Message::text(r#"{"type":"req","id":"late","method":"health"}"#)).await.unwrap();
    server.let_go();
    assert_eq!(client.answer(&call).await, Ok(json!(1)));
    let (status, _) = program.end().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn what_only_clients_need_is_given_back_when_the_last_has_gone() {
    let place = Place::empty();
    let program = place.start().await;
    let mut client = program.client().await;
    client.ok("health", json!({})).await;
    let with_client = program.resident_bytes();
    drop(client);
    eventually("less memory", async || (program.resident_bytes() + (1 << 20) < with_client).then_some(())).await;
    program.client().await.ok("health", json!({})).await;
    program.stop().await;
}
