//! A client of the gateway protocol, version 4: enough to connect with a token and to call.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::{Map, Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::device::{CLIENT, Device, SCOPES};

/// Waits no longer than this for an answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// A client's own buffers are part of what every round costs in either arm, so they are small.
const BUFFER_BYTES: usize = 16 * 1024;
/// Calls of [`Wire::call_many`] in flight; a gateway takes 256 of one connection.
const MANY_AT_ONCE: usize = 200;
/// Addresses of 127.0.0.0/8 that clients come from.
const ADDRESSES: usize = 250;

/// A connection of its own address to `127.0.0.1:port`; numbers that are the same share an address.
///
/// # Errors
/// Nothing listens there.
pub async fn tcp(port: u16, number: usize) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((address(number), 0)))?;
    let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The address a client of this number comes from: never 127.0.0.1 itself, which others use.
fn address(number: usize) -> Ipv4Addr {
    let last = u8::try_from(number % ADDRESSES + 1).unwrap_or(1);
    Ipv4Addr::new(127, 10, 0, last)
}

/// A connection that said `hello-ok`, or one to a server that wants no handshake.
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
        Self::greet(Self::open(port, "", 0).await?, token, None).await
    }

    /// The same as a device, from the address of a number.
    ///
    /// # Errors
    /// Nothing listens there, or it does not take the token or the device.
    pub async fn connect_as(port: u16, token: &str, number: usize, device: &Device) -> Result<Self> {
        Self::greet(Self::open(port, "", number).await?, token, Some(device)).await
    }

    /// Opens a WebSocket from the address of a number, and says nothing on it.
    ///
    /// # Errors
    /// Nothing listens there, or it answers with something else.
    pub async fn open(port: u16, path: &str, number: usize) -> Result<Self> {
        let stream = tcp(port, number).await?;
        let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
        let address = format!("ws://127.0.0.1:{port}/{path}");
        let (socket, _) = tokio_tungstenite::client_async_with_config(address, stream, Some(config)).await?;
        Ok(Self { socket, next: 0 })
    }

    async fn greet(mut self, token: &str, device: Option<&Device>) -> Result<Self> {
        let challenge: Value = serde_json::from_str(&self.text().await.context("no challenge")?)?;
        let nonce =
            challenge.pointer("/payload/nonce").and_then(Value::as_str).context("a challenge without a nonce")?;
        let client: Map<String, Value> = CLIENT.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
        let mut params = json!({
            "minProtocol": 4, "maxProtocol": 4, "client": client, "role": "operator", "scopes": SCOPES, "caps": [],
            "auth": {"token": token},
        });
        if let (Some(device), Some(params)) = (device, params.as_object_mut()) {
            params.insert("device".to_owned(), device.proof(token, nonce));
        }
        self.call_unread("connect", &params).await.context("the gateway refused the handshake")?;
        Ok(self)
    }

    /// Calls a method and gives its payload. Events that come meanwhile are dropped.
    ///
    /// # Errors
    /// The gateway answered with an error, or the connection broke.
    pub async fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        let text = self.call_unread(method, params).await?;
        let mut frame: Value = serde_json::from_str(&text)?;
        Ok(frame.get_mut("payload").map(Value::take).unwrap_or_default())
    }

    /// Calls a method and gives the whole answer as it came: a client that reads it would be measured as well.
    ///
    /// # Errors
    /// The gateway answered with an error, or the connection broke.
    pub async fn call_unread(&mut self, method: &str, params: &Value) -> Result<Utf8Bytes> {
        self.next += 1;
        let id = self.next.to_string();
        self.send(request(&id, method, params)).await?;
        loop {
            let text = self.text().await?;
            match answer(&text) {
                Some((answered, true)) if answered == id => return Ok(text),
                Some((answered, false)) if answered == id => bail!("{method}: {text}"),
                _ => {}
            }
        }
    }

    /// Calls a method `count` times with parameters by number, some of them at once.
    ///
    /// # Errors
    /// The gateway answered one with an error, or the connection broke.
    pub async fn call_many(&mut self, method: &str, count: usize, params: impl Fn(usize) -> Value) -> Result<()> {
        let (mut sent, mut done) = (0, 0);
        while done < count {
            while sent < count && sent - done < MANY_AT_ONCE {
                self.feed(request(&format!("many-{sent}"), method, &params(sent))).await?;
                sent += 1;
            }
            self.flush().await?;
            let mut text = Some(self.text().await?);
            while let Some(frame) = text {
                match answer(&frame) {
                    Some((id, true)) if id.starts_with("many-") => done += 1,
                    Some((id, false)) if id.starts_with("many-") => bail!("{method}: {frame}"),
                    _ => {}
                }
                text = self.next_now()?;
            }
        }
        Ok(())
    }

    /// Sends one text and flushes.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<()> {
        Ok(self.socket.send(Message::Text(text.into())).await?)
    }

    /// Puts one text into the write buffer.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn feed(&mut self, text: impl Into<Utf8Bytes>) -> Result<()> {
        Ok(self.socket.feed(Message::Text(text.into())).await?)
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

/// A request as text. Neither `id` nor `method` needs an escape.
#[must_use]
pub fn request(id: &str, method: &str, params: &Value) -> String {
    format!("{{\"type\":\"req\",\"id\":\"{id}\",\"method\":\"{method}\",\"params\":{params}}}")
}

/// The id of a response and whether it is `ok`, found without reading the rest. None for an event.
#[must_use]
pub fn answer(text: &Utf8Bytes) -> Option<(&str, bool)> {
    let (id, rest) = text.as_str().strip_prefix("{\"type\":\"res\",\"id\":\"")?.split_once('"')?;
    Some((id, rest.starts_with(",\"ok\":true")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_events() {
        let good: Utf8Bytes = r#"{"type":"res","id":"7","ok":true,"payload":null}"#.into();
        let bad: Utf8Bytes = r#"{"type":"res","id":"8","ok":false,"error":{}}"#.into();
        let event: Utf8Bytes = r#"{"type":"event","event":"tick","payload":{},"seq":1}"#.into();
        assert_eq!((answer(&good), answer(&bad), answer(&event)), (Some(("7", true)), Some(("8", false)), None));
        assert_eq!(request("7", "m", &json!({"a": 1})), r#"{"type":"req","id":"7","method":"m","params":{"a":1}}"#);
    }

    #[test]
    fn clients_come_from_many_addresses_of_this_machine() {
        let all: std::collections::HashSet<Ipv4Addr> = (0..5000).map(address).collect();
        assert_eq!(all.len(), ADDRESSES);
        assert!(all.iter().all(|address| address.is_loopback() && *address != Ipv4Addr::LOCALHOST));
    }
}
