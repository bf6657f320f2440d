//! A client of the gateway protocol, versions 3 and 4: what `leanclaw call` and the plugin commands speak.
//!
//! One socket, one request at a time; events that arrive meanwhile are kept for [`GatewayClient::next_event`]. It
//! proves itself with the shared token and holds no device identity. It never reconnects: what a command that loses its
//! gateway can do about it, it knows itself.

mod error;
mod frames;
mod target;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use leanclaw_types::frame::{ClientInfo, ConnectAuth, ConnectParams};
use leanclaw_types::redact::Secret;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

pub use error::{ClientError, Refusal};
pub use frames::Event;
pub use target::Target;

use frames::{Incoming, Request};

/// Events that are kept while a request waits for its response; the oldest go first.
const MAX_KEPT_EVENTS: usize = 1024;

/// What the command line asks for: everything an operator may do.
const SCOPES: [&str; 5] =
    ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.pairing"];

/// A connection that said `hello-ok`.
#[derive(Debug)]
pub struct GatewayClient {
    socket: WebSocketStream<TcpStream>,
    url: String,
    events: VecDeque<Event>,
    hello: Value,
    timeout: Duration,
}

impl GatewayClient {
    /// Connects and proves itself. `timeout` bounds this and every later request.
    ///
    /// # Errors
    /// [`ClientError`], worded by what went wrong: nothing listens, it is no gateway, the token is refused, ...
    pub async fn connect(target: &Target, timeout: Duration) -> Result<Self, ClientError> {
        Self::connect_with(target, timeout, &[]).await
    }

    /// The same for a command that can show what not every client is sent: `caps`, as the protocol names them.
    ///
    /// # Errors
    /// As [`GatewayClient::connect`].
    pub async fn connect_with(target: &Target, timeout: Duration, caps: &[&str]) -> Result<Self, ClientError> {
        let url = target.url.to_string();
        within(timeout, &url, "to connect", Self::shake_hands(target, timeout, caps)).await
    }

    /// Calls a method and waits for its response: the payload, `null` when it has none. Parameters that are `None` are
    /// left out.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the gateway answers with an error, else what broke.
    pub async fn request(&mut self, method: &str, params: Option<Value>) -> Result<Value, ClientError> {
        let (timeout, url) = (self.timeout, self.url.clone());
        let waited_for = format!("for the response to `{method}`");
        within(timeout, &url, &waited_for, self.exchange(method, params))
            .await?
            .map_err(|refusal| ClientError::Refused { method: method.to_owned(), refusal })
    }

    /// The next event, however long it takes; none when the gateway closed the connection in order.
    ///
    /// # Errors
    /// [`ClientError`] when the connection broke.
    pub async fn next_event(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.read().await {
                Ok(Incoming::Event(event)) => return Ok(Some(event)),
                // Nothing waits for it: a second response, or one that came after its timeout.
                Ok(Incoming::Response(_)) => {}
                Err(ClientError::Closed { code: 1000 | 1001 | 1012, .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next event that came while a response was waited for, if there is one.
    pub fn kept_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The payload of `hello-ok`.
    #[must_use]
    pub fn hello(&self) -> &Value {
        &self.hello
    }

    /// Says goodbye. The connection is over, whether that is heard or not.
    pub async fn close(mut self) {
        let goodbye = self.socket.close(None);
        let _either_way = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }

    async fn shake_hands(target: &Target, timeout: Duration, caps: &[&str]) -> Result<Self, ClientError> {
        let url = target.url.to_string();
        let socket = open_socket(target).await?;
        let mut client = Self { socket, url, events: VecDeque::new(), hello: Value::Null, timeout };
        client.await_challenge().await?;
        let params = serde_json::to_value(connect_params(target.token.as_ref(), caps));
        let answer = client.exchange("connect", params.ok()).await.map_err(|error| error.during_handshake())?;
        client.hello = answer.map_err(|refusal| ClientError::ConnectRefused {
            url: client.url.clone(),
            refusal,
            token_from: target.token_from.clone(),
        })?;
        if client.hello.get("type").and_then(Value::as_str) != Some("hello-ok") {
            return Err(client.not_a_gateway("it answered `connect` with something else than hello-ok"));
        }
        Ok(client)
    }

    /// The server speaks first.
    async fn await_challenge(&mut self) -> Result<(), ClientError> {
        match self.read().await.map_err(|error| error.during_handshake())? {
            Incoming::Event(event) if event.name == "connect.challenge" => Ok(()),
            _ => Err(self.not_a_gateway("its first message is not a challenge")),
        }
    }

    /// Sends a request and reads until its response comes.
    async fn exchange(
        &mut self,
        method: &str,
        params: Option<Value>,
    ) -> Result<Result<Value, Box<Refusal>>, ClientError> {
        let id = uuid::Uuid::new_v4().to_string();
        let request = Request { kind: "req", id: &id, method, params: params.as_ref() };
        let text = serde_json::to_string(&request).map_err(|error| self.not_a_gateway(&error.to_string()))?;
        let sent = self.socket.send(Message::text(text)).await;
        if let Err(error) = sent {
            // The reason for the closed connection is among the messages that were not read yet.
            return match self.read().await {
                Err(closed @ ClientError::Closed { .. }) => Err(closed),
                _ => Err(self.broken(error)),
            };
        }
        loop {
            match self.read().await? {
                Incoming::Response(response) if response.id == id => return Ok(response.outcome()),
                Incoming::Response(_) => {}
                Incoming::Event(event) => {
                    if self.events.len() == MAX_KEPT_EVENTS {
                        self.events.pop_front();
                    }
                    self.events.push_back(event);
                }
            }
        }
    }

    /// The next frame. A message that is no frame is an error: this is then no gateway.
    async fn read(&mut self) -> Result<Incoming, ClientError> {
        loop {
            let message = match self.socket.next().await {
                None => return Err(self.closed(None)),
                Some(Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)) => {
                    return Err(self.closed(None));
                }
                Some(Err(error)) => return Err(self.broken(error)),
                Some(Ok(message)) => message,
            };
            let frame = match &message {
                Message::Text(text) => serde_json::from_str(text),
                Message::Binary(bytes) => serde_json::from_slice(bytes),
                Message::Close(frame) => {
                    let frame = frame.as_ref().map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                    return Err(self.closed(frame));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            return frame.map_err(|_| self.not_a_gateway("it sent a message that is not a gateway frame"));
        }
    }

    fn closed(&self, frame: Option<(u16, String)>) -> ClientError {
        // 1006 is what a connection without a close frame counts as.
        let (code, reason) = frame.unwrap_or((1006, String::new()));
        ClientError::Closed { url: self.url.clone(), code, reason }
    }

    fn broken(&self, source: tungstenite::Error) -> ClientError {
        ClientError::Broken { url: self.url.clone(), source: Box::new(source) }
    }

    fn not_a_gateway(&self, what: &str) -> ClientError {
        ClientError::NotAGateway { url: self.url.clone(), what: what.to_owned() }
    }
}

async fn within<T>(
    timeout: Duration,
    url: &str,
    waited_for: &str,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
        Err(ClientError::TimedOut { url: url.to_owned(), waited_for: waited_for.to_owned(), timeout })
    })
}

async fn open_socket(target: &Target) -> Result<WebSocketStream<TcpStream>, ClientError> {
    let url = target.url.to_string();
    let (host, port) = target.address();
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|source| ClientError::NotListening { url: url.clone(), source })?;
    // Small frames go back and forth: waiting to fill a packet only adds latency.
    stream.set_nodelay(true).map_err(|source| ClientError::NotListening { url: url.clone(), source })?;
    let not_a_gateway = |what: String| ClientError::NotAGateway { url: url.clone(), what };
    match tokio_tungstenite::client_async(url.as_str(), stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => {
            let status = response.status();
            Err(not_a_gateway(format!("it answered the WebSocket upgrade with HTTP {status}")))
        }
        Err(tungstenite::Error::Io(source)) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            Err(ClientError::Broken { url: url.clone(), source: Box::new(tungstenite::Error::Io(source)) })
        }
        Err(error) => Err(not_a_gateway(format!("it does not speak WebSocket ({error})"))),
    }
}

fn connect_params(token: Option<&Secret>, caps: &[&str]) -> ConnectParams {
    ConnectParams {
        min_protocol: 3,
        max_protocol: 4,
        client: ClientInfo {
            id: "cli".to_owned(),
            display_name: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build_id: None,
            platform: std::env::consts::OS.to_owned(),
            device_family: None,
            model_identifier: None,
            time_zone: None,
            mode: "cli".to_owned(),
            instance_id: None,
        },
        caps: caps.iter().map(|cap| (*cap).to_owned()).collect(),
        commands: Vec::new(),
        permissions: std::collections::BTreeMap::new(),
        path_env: None,
        role: Some("operator".to_owned()),
        scopes: SCOPES.map(str::to_owned).into(),
        device: None,
        auth: token.map(|token| ConnectAuth { token: Some(token.expose().to_owned()), ..ConnectAuth::default() }),
        locale: None,
        user_agent: None,
        model_catalog: None,
        computer_use: None,
        worker_runs: None,
    }
}
