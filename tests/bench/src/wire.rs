//! A client of the gateway protocol, version 4: enough to connect with a token and to call.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Waits no longer than this for an answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection that said `hello-ok`.
pub struct Wire {
    socket: WebSocketStream<TcpStream>,
    next: u64,
}

impl Wire {
    /// Connects to `127.0.0.1:port` and proves itself with `token`.
    ///
    /// # Errors
    /// Nothing listens there, or it does not take the token.
    pub async fn connect(port: u16, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://127.0.0.1:{port}/"), stream).await?;
        let mut wire = Self { socket, next: 0 };
        wire.text().await.context("no challenge")?;
        let client = json!({"id": "cli", "version": "1.0.0", "platform": "linux", "mode": "cli"});
        let params = json!({
            "minProtocol": 4, "maxProtocol": 4, "client": client, "role": "operator",
            "scopes": ["operator.admin", "operator.read", "operator.write"], "caps": [], "auth": {"token": token},
        });
        wire.call("connect", &params).await.context("the gateway refused the handshake")?;
        Ok(wire)
    }

    /// Calls a method and gives its payload. Events that come meanwhile are dropped.
    ///
    /// # Errors
    /// The gateway answered with an error, or the connection broke.
    pub async fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.next += 1;
        let id = format!("call-{}", self.next);
        let request = json!({"type": "req", "id": id, "method": method, "params": params});
        self.send(request.to_string()).await?;
        loop {
            let text = self.text().await?;
            let mut frame: Value = serde_json::from_str(&text)?;
            if frame.get("id").and_then(Value::as_str) != Some(&id) {
                continue;
            }
            if frame.get("ok") != Some(&Value::Bool(true)) {
                bail!("{method}: {}", frame.get("error").unwrap_or(&Value::Null));
            }
            return Ok(frame.get_mut("payload").map(Value::take).unwrap_or_default());
        }
    }

    /// Sends one text and flushes.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, text: String) -> Result<()> {
        Ok(self.socket.send(Message::text(text)).await?)
    }

    /// Puts one text into the write buffer.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn feed(&mut self, text: String) -> Result<()> {
        Ok(self.socket.feed(Message::text(text)).await?)
    }

    /// Writes what was put into the buffer.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn flush(&mut self) -> Result<()> {
        Ok(self.socket.flush().await?)
    }

    /// The next text.
    ///
    /// # Errors
    /// The connection broke or was closed, or nothing came for two minutes.
    pub async fn text(&mut self) -> Result<Utf8Bytes> {
        tokio::time::timeout(PATIENCE, self.next()).await.context("the gateway went silent")?
    }

    /// The next text, however long it takes.
    ///
    /// # Errors
    /// The connection broke or was closed.
    pub async fn next(&mut self) -> Result<Utf8Bytes> {
        loop {
            let message = self.socket.next().await.context("the gateway closed the connection")??;
            if let Some(text) = text_of(message)? {
                return Ok(text);
            }
        }
    }

    /// The next text if it is here already.
    ///
    /// # Errors
    /// The connection broke or was closed.
    pub fn next_now(&mut self) -> Result<Option<Utf8Bytes>> {
        match self.socket.next().now_or_never() {
            None => Ok(None),
            Some(message) => text_of(message.context("the gateway closed the connection")??),
        }
    }
}

fn text_of(message: Message) -> Result<Option<Utf8Bytes>> {
    match message {
        Message::Text(text) => Ok(Some(text)),
        Message::Close(frame) => bail!("the gateway closed the connection: {frame:?}"),
        _ => Ok(None),
    }
}
