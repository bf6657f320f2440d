//! WebSockets take the same way out.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use leanclaw_types::net::{HostPattern, Placement, SecretRule};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request as Asked, Response as Answer};
use url::Url;

use super::support::*;
use crate::*;

/// Echoes messages; greets with the `authorization` header it got and accepts the subprotocol `chat`.
async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut greeting = String::new();
                let look = |asked: &Asked, mut answer: Answer| -> Result<Answer, ErrorResponse> {
                    if let Some(value) = asked.headers().get("authorization") {
                        greeting = value.to_str().unwrap().to_owned();
                        answer.headers_mut().insert("x-echo", value.clone());
                    }
                    if asked.headers().contains_key("sec-websocket-protocol") {
                        answer.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
                    }
                    Ok(answer)
                };
                let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, look).await else { return };
                if !greeting.is_empty() {
                    let _ = socket.send(Message::text(greeting)).await;
                }
                while let Some(Ok(message)) = socket.next().await {
                    let echoed = match message {
                        Message::Text(_) | Message::Binary(_) => socket.send(message).await,
                        _ => Ok(()),
                    };
                    if echoed.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn socket_url(address: SocketAddr) -> Url {
    Url::parse(&format!("ws://{address}/socket")).unwrap()
}

async fn connect(handle: &EgressHandle, url: &Url, headers: HeaderMap) -> Result<Socket, EgressError> {
    handle.connect_websocket(url.clone(), headers, &[], soon()).await
}

fn text(text: &str) -> SocketMessage {
    SocketMessage::Text(text.into())
}

#[tokio::test]
async fn messages_go_both_ways_with_the_grants_and_not_without() {
    let url = socket_url(echo_server().await);
    let (egress, recorder) = egress();
    let open = |policy| egress.open(policy, Arc::new(NoSecrets));

    let mut socket = connect(&open(all_for(&url)), &url, HeaderMap::new()).await.unwrap();
    assert_eq!(socket.protocol(), None);
    socket.ping().await.unwrap();
    for message in [text("h\u{e9}llo"), SocketMessage::Binary(vec![0, 255].into())] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.receive().await, Some(Ok(message)));
    }
    socket.close(1000, "done").await.unwrap();

    let mut no_socket = all_for(&url);
    no_socket.sockets.clear();
    let error = connect(&open(no_socket), &url, HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.code(), "denied");
    assert!(error.hints()[0].starts_with("leanclaw plugin grant notes socket:http://127.0.0.1:"));
    let mut no_private = all_for(&url);
    no_private.private.clear();
    let error = connect(&open(no_private), &url, HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.code(), "address-refused");
    assert_eq!(
        recorder.lines(),
        ["notes WEBSOCKET 101 8/8", "notes WEBSOCKET denied: denied", "notes WEBSOCKET denied: address-refused"]
    );
}

#[tokio::test]
async fn secrets_go_into_the_handshake_and_do_not_come_back() {
    let url = socket_url(echo_server().await);
    let mut policy = all_for(&url);
    policy.secrets = vec![SecretRule {
        name: "key".into(),
        host: HostPattern::for_url(&url).unwrap(),
        placement: Placement::Header("authorization".into()),
    }];
    let handle = egress().0.open(policy, Arc::new(Values(vec![("key", "s3cr3t-value")])));
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer {{secret:key}}".parse().unwrap());
    let mut socket = connect(&handle, &url, headers).await.unwrap();
    // The server greets with what it got.
    assert_eq!(socket.receive().await, Some(Ok(text("Bearer [secret:key]"))));
    assert_eq!(socket.headers()["x-echo"], "Bearer [secret:key]");
    socket.send(SocketMessage::Binary("x s3cr3t-value".into())).await.unwrap();
    assert_eq!(socket.receive().await, Some(Ok(SocketMessage::Binary("x [secret:key]".into()))));

    let error = socket.send(text("say {{secret:key}}")).await.unwrap_err();
    assert_eq!(error.code(), "secret-not-declared");
    socket.send(text("say {{secret:unknown}}")).await.unwrap();
    assert_eq!(socket.receive().await, Some(Ok(text("say {{secret:unknown}}"))));

    let mut by_hand = HeaderMap::new();
    by_hand.insert("authorization", "Bearer mine".parse().unwrap());
    assert_eq!(connect(&handle, &url, by_hand).await.unwrap_err().code(), "forbidden-header");
}

#[tokio::test]
async fn messages_and_sockets_are_capped() {
    let url = socket_url(echo_server().await);
    let (egress, _) = egress();
    let open = |message_bytes| {
        let mut policy = all_for(&url);
        policy.limits.socket_message_bytes = message_bytes;
        policy.limits.sockets = 1;
        policy.limits.connect_timeout = std::time::Duration::from_millis(60);
        egress.open(policy, Arc::new(NoSecrets))
    };
    let mut socket = connect(&open(10), &url, HeaderMap::new()).await.unwrap();
    assert_eq!(socket.send(text("12345678901")).await.unwrap_err().code(), "too-large");
    socket.send(text("1234567890")).await.unwrap();
    assert_eq!(socket.receive().await, Some(Ok(text("1234567890"))));
    let error = connect(&open(10), &url, HeaderMap::new()).await.unwrap_err();
    assert_eq!(error, EgressError::Busy { owner: "notes".into(), what: "WebSockets", limit: 1 });
    drop(socket);
    assert!(connect(&open(10), &url, HeaderMap::new()).await.is_ok());
}

#[tokio::test]
async fn a_message_over_the_limit_is_not_taken_in() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = socket_url(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let _ = socket.send(Message::text("x".repeat(11))).await;
        while socket.next().await.is_some() {}
    });
    let mut policy = all_for(&url);
    policy.limits.socket_message_bytes = 10;
    let handle = egress().0.open(policy, Arc::new(NoSecrets));
    let mut socket = connect(&handle, &url, HeaderMap::new()).await.unwrap();
    let error = socket.receive().await.unwrap().unwrap_err();
    assert_eq!(error, EgressError::TooLarge { what: "the WebSocket message", limit_bytes: 10 });
}

#[tokio::test]
async fn a_subprotocol_is_chosen_among_those_offered() {
    let url = socket_url(echo_server().await);
    let handle = egress().0.open(all_for(&url), Arc::new(NoSecrets));
    let ask = async |offered: &[&str]| {
        let offered: Vec<String> = offered.iter().map(|name| (*name).to_owned()).collect();
        handle.connect_websocket(url.clone(), HeaderMap::new(), &offered, soon()).await
    };
    assert_eq!(ask(&["other", "chat"]).await.unwrap().protocol(), Some("chat"));
    assert_eq!(ask(&["other"]).await.unwrap_err().code(), "protocol");
    for bad in ["a b", "a,b", "a\r\nx: y", ""] {
        assert_eq!(ask(&[bad]).await.unwrap_err().code(), "invalid-request", "{bad:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_no_websocket_is_told_by_its_status() {
    for (answer, part) in [
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "status 401"),
        ("HTTP/1.1 302 Found\r\nlocation: ws://127.0.0.1/\r\ncontent-length: 0\r\n\r\n", "status 302"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: d3Jvbmc=\r\n\r\n",
            "not valid",
        ),
    ] {
        let server = Server::fixed(answer).await;
        let url = socket_url(server.address);
        let handle = egress().0.open(all_for(&url), Arc::new(NoSecrets));
        let error = connect(&handle, &url, HeaderMap::new()).await.unwrap_err();
        assert!(error.code() == "protocol" && error.to_string().contains(part), "{error}");
    }
    let handle = egress().0.open(nothing(), Arc::new(NoSecrets));
    let error = connect(&handle, &"https://127.0.0.1/".parse().unwrap(), HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.code(), "invalid-request");
}

#[tokio::test]
async fn a_server_that_answers_no_ping_is_given_up() {
    let url = socket_url(echo_server().await);
    let (egress, recorder) = egress();
    let mut socket = connect(&egress.open(all_for(&url), Arc::new(NoSecrets)), &url, HeaderMap::new()).await.unwrap();
    // Whatever comes in is a sign of life. The answers to the pings come before the echo.
    for _ in 0..5 {
        socket.ping().await.unwrap();
        socket.send(text("still there?")).await.unwrap();
        assert_eq!(socket.receive().await.unwrap().unwrap(), text("still there?"));
    }
    for _ in 0..2 {
        socket.ping().await.unwrap();
    }
    // Nothing was read since.
    let error = socket.ping().await.unwrap_err();
    assert_eq!(error.code(), "timed-out");
    assert!(error.is_retryable());
    drop(socket);
    assert_eq!(recorder.lines(), ["notes WEBSOCKET failed: timed-out"]);
}
