//! Who comes before the gateway serves.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Client, connect_params};
use crate::{Doorman, Limits};

async fn status_of(address: std::net::SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    // He ends the connection after one answer, asked or not.
    stream.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(text.to_lowercase().contains("x-content-type-options: nosniff"), "{text}");
    assert_eq!(status == 503, text.to_lowercase().contains("retry-after: 1\r\n"), "{text}");
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

async fn knock(address: std::net::SocketAddr, first: &str) -> (Vec<Value>, (u16, String)) {
    let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/ws")).await.unwrap();
    let record = Some(super::record::Record::open());
    let mut client = Client { socket, challenge: Value::Null, next_id: 0, record };
    let mut frames = vec![client.next().await];
    assert_eq!(frames.remove(0)["event"], "connect.challenge");
    client.send_text(first).await;
    while let Some(Ok(message)) = client.message().await {
        match message {
            tokio_tungstenite::tungstenite::Message::Text(text) => frames.push(serde_json::from_str(&text).unwrap()),
            tokio_tungstenite::tungstenite::Message::Close(Some(close)) => {
                return (frames, (close.code.into(), close.reason.to_string()));
            }
            _ => {}
        }
    }
    panic!("it says why it closes");
}

#[tokio::test]
async fn who_comes_too_early_is_told_to_come_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let doorman = Doorman::post(listener, &Limits::default());
    assert_eq!(status_of(address, "GET", "/healthz").await.0, 200);
    assert_eq!(status_of(address, "HEAD", "/health").await.0, 200);
    let (status, body) = status_of(address, "GET", "/startupz").await;
    assert_eq!((status, body.as_str()), (503, r#"{"ok":false,"status":"starting"}"#));
    let (status, body) = status_of(address, "GET", "/ready").await;
    assert_eq!((status, body.as_str()), (503, r#"{"ready":false}"#));
    for (method, path) in [("POST", "/tools/invoke"), ("GET", "/"), ("POST", "/health")] {
        let (status, body) = status_of(address, method, path).await;
        assert!(status == 503 && body.contains("gateway starting"), "{method} {path}: {status} {body}");
    }
    let connect = |protocol| {
        json!({"type": "req", "id": "c", "method": "connect", "params": connect_params(protocol, protocol)}).to_string()
    };
    for protocol in [3, 4] {
        let (frames, close) = knock(address, &connect(protocol)).await;
        let error = json!({"code": "UNAVAILABLE", "message": "gateway starting; retry shortly", "retryable": true,
            "retryAfterMs": 500, "details": {"reason": "startup-sidecars"}});
        assert_eq!(frames, [json!({"type": "res", "id": "c", "ok": false, "error": error})]);
        assert_eq!(close, (1013, "gateway starting".to_owned()));
    }
    // Bad traffic is answered as always.
    assert_eq!(knock(address, "no JSON").await, (vec![], (1000, String::new())));
    assert_eq!(knock(address, "[]").await, (vec![], (1008, "invalid request frame".to_owned())));
    assert_eq!(knock(address, &connect(7)).await.1, (1002, "protocol mismatch".to_owned()));
    assert_eq!(doorman.relieve().await.unwrap().local_addr().unwrap(), address);
}

/// A start as quick as most sends nobody away: who came is still in the queue of the listener.
#[tokio::test]
async fn a_quick_start_sends_nobody_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut early = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    early.write_all(b"early").await.unwrap();
    let listener = Doorman::post(listener, &Limits::default()).relieve().await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    let mut word = [0; 5];
    accepted.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"early");
}
