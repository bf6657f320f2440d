//! A bare axum server: what a gateway cannot be faster than. A route, a WebSocket that answers each text with as many
//! bytes as it was asked for, and one that hands each text to all. It reads no JSON, knows nobody and refuses nothing.

use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use futures_util::{FutureExt as _, SinkExt as _};
use serde::Deserialize;
use tokio::sync::broadcast::Sender;

/// Buffers of a socket that is to take little memory.
const SMALL_BYTES: usize = 4 * 1024;
/// Texts that a slow listener may lag behind by.
const BACKLOG: usize = 64;

#[derive(Deserialize)]
struct Asked {
    /// Bytes of each answer; without it, the text itself comes back.
    bytes: Option<usize>,
    /// Whether the buffers are small.
    #[serde(default)]
    small: bool,
    /// Whether it only speaks, and hears nothing of what is said to all.
    #[serde(default)]
    mute: bool,
}

fn main() -> Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).context("the port is missing")?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        let listener = listener.tap_io(|stream| {
            // A socket that cannot do this is a little slower.
            let _ = stream.set_nodelay(true);
        });
        let live = ([(CONTENT_TYPE, "application/json")], "{\"ok\":true,\"status\":\"live\"}");
        let router = Router::new()
            .route("/ready", get(async || "ready"))
            .route("/health", get(async move || live))
            .route("/echo", get(echo))
            .route("/all", get(all))
            .with_state(Sender::new(BACKLOG));
        Ok(axum::serve(listener, router).await?)
    })
}

async fn echo(Query(asked): Query<Asked>, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = if asked.small {
        upgrade.read_buffer_size(SMALL_BYTES).write_buffer_size(0).max_write_buffer_size(1 << 20)
    } else {
        upgrade
    };
    let answer = asked.bytes.map(|bytes| Utf8Bytes::from("x".repeat(bytes)));
    upgrade.on_upgrade(move |socket| answer_each(socket, answer))
}

async fn answer_each(mut socket: WebSocket, answer: Option<Utf8Bytes>) {
    while let Some(Ok(message)) = socket.recv().await {
        // Like a gateway, it writes once for all that has come already.
        let mut here = Some(message);
        while let Some(message) = here {
            if let Message::Text(text) = message
                && socket.feed(Message::Text(answer.clone().unwrap_or(text))).await.is_err()
            {
                return;
            }
            here = match socket.recv().now_or_never() {
                Some(Some(Ok(message))) => Some(message),
                Some(_) => return,
                None => None,
            };
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

async fn all(Query(asked): Query<Asked>, State(said): State<Sender<Utf8Bytes>>, upgrade: WebSocketUpgrade) -> Response {
    let text = Utf8Bytes::from("x".repeat(asked.bytes.unwrap_or_default()));
    upgrade.on_upgrade(move |mut socket| async move {
        let mut heard = if asked.mute { Sender::new(1) } else { said.clone() }.subscribe();
        loop {
            tokio::select! {
                message = socket.recv() => match message {
                    // Nobody may listen yet.
                    Some(Ok(Message::Text(_))) => drop(said.send(text.clone())),
                    Some(Ok(_)) => {}
                    _ => return,
                },
                text = heard.recv(), if !asked.mute => match text {
                    Ok(text) => if socket.send(Message::Text(text)).await.is_err() { return },
                    // Who lags hears the next one.
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                },
            }
        }
    })
}
