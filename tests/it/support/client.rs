//! A client of the gateway protocol that hides nothing: what is sent and what comes back is JSON. Every frame that comes is
//! held to its closed shape, so a key that no client knows fails whatever test it comes in.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt as _, Stream, StreamExt as _};
use leanclaw_types::frame::{EventFrame, ResponseFrame};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::record::Record;
use super::within;

/// How to connect. The default is an operator that may do everything and speaks version 4.
#[derive(Clone)]
pub(crate) struct Connect {
    pub(crate) protocols: (u8, u8),
    pub(crate) token: Option<String>,
    pub(crate) origin: Option<&'static str>,
    pub(crate) scopes: &'static [&'static str],
}

impl Default for Connect {
    fn default() -> Self {
        Self { protocols: (4, 4), token: None, origin: None, scopes: &["operator.admin"] }
    }
}

impl Connect {
    pub(crate) fn token(token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::default() }
    }

    /// The handshake: `hello-ok`, or the error the gateway gave before it closed.
    pub(crate) async fn to(&self, address: SocketAddr) -> Result<Client, Value> {
        let client = Client::open(address, self.origin).await.expect("the gateway takes WebSockets");
        self.shake_hands(client).await
    }

    /// Like [`Connect::to`], when the gateway may take no WebSockets at the moment.
    pub(crate) async fn try_to(&self, address: SocketAddr) -> Result<Client, Value> {
        let client = Client::open(address, self.origin).await.map_err(|error| json!(error.to_string()))?;
        self.shake_hands(client).await
    }

    async fn shake_hands(&self, mut client: Client) -> Result<Client, Value> {
        let challenge = client.event("connect.challenge").await;
        assert!(challenge["nonce"].is_string() && challenge["ts"].is_u64(), "{challenge}");
        client.hello = client.call("connect", self.params()).await?;
        Ok(client)
    }

    pub(crate) fn params(&self) -> Value {
        let mut params = json!({
            "minProtocol": self.protocols.0, "maxProtocol": self.protocols.1,
            "client": {"id": "test", "version": "1", "platform": "linux", "mode": "test"},
            "role": "operator", "scopes": self.scopes,
        });
        if let Some(token) = &self.token {
            params["auth"] = json!({"token": token});
        }
        params
    }
}

/// A frame of the gateway.
fn read(text: &str) -> Value {
    let frame: Value = serde_json::from_str(text).expect("frames are JSON");
    let wrong = match frame["type"].as_str() {
        Some("event") => serde_json::from_value::<EventFrame>(frame.clone()).err(),
        Some("res") => {
            let mut response = frame.clone();
            // What was no request gets its id back as it was.
            if response["id"].is_number() {
                response["id"] = json!(response["id"].to_string());
            }
            match serde_json::from_value::<ResponseFrame>(response) {
                Ok(ResponseFrame { ok, payload, error, .. }) => {
                    let is_one = ok == error.is_none() && (ok || payload.is_none());
                    assert!(is_one, "a response is one or the other: {text}");
                    None
                }
                Err(error) => Some(error),
            }
        }
        _ => panic!("neither a response nor an event: {text}"),
    };
    assert!(wrong.is_none(), "{wrong:?}: {text}");
    frame
}

/// A frame of the gateway, which is kept as it came.
fn hear(record: &Record, text: &str) -> Value {
    record.heard(text);
    read(text)
}

/// One connection.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    record: Record,
    last_id: u64,
    events: VecDeque<Value>,
    /// The payload of `hello-ok`.
    pub(crate) hello: Value,
}

impl Client {
    /// Connects with all rights to a gateway without a token.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Connect::default().to(address).await.expect("the gateway lets local programs in")
    }

    /// A WebSocket on which nothing was said yet.
    pub(crate) async fn open(address: SocketAddr, origin: Option<&str>) -> Result<Self, Error> {
        let stream = within("a connection", TcpStream::connect(address)).await?;
        Self::open_over(stream, address, origin).await
    }

    /// As [`Client::open`], with headers.
    pub(crate) async fn open_with(address: SocketAddr, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let stream = within("a connection", TcpStream::connect(address)).await?;
        Self::upgraded(stream, address, headers).await
    }

    /// As [`Client::open`], over a connection that is there.
    pub(crate) async fn open_over(stream: TcpStream, address: SocketAddr, origin: Option<&str>) -> Result<Self, Error> {
        let headers: Vec<(&'static str, &str)> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        Self::upgraded(stream, address, &headers).await
    }

    async fn upgraded(stream: TcpStream, address: SocketAddr, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{address}/").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header value"));
        }
        let large = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
        let handshake = tokio_tungstenite::client_async_with_config(request, stream, Some(large));
        let (socket, _) = within("the upgrade", handshake).await?;
        Ok(Self { socket, record: Record::open(), last_id: 0, events: VecDeque::new(), hello: Value::Null })
    }

    /// Calls a method: its payload, or the error.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.send(method, params).await;
        self.answer(&id).await
    }

    /// Calls a method that is to succeed.
    pub(crate) async fn ok(&mut self, method: &str, params: Value) -> Value {
        match self.call(method, params).await {
            Ok(payload) => payload,
            Err(error) => panic!("{method}: {error}"),
        }
    }

    /// Calls a method that is to fail.
    pub(crate) async fn refused(&mut self, method: &str, params: Value) -> Value {
        match self.call(method, params).await {
            Ok(payload) => panic!("{method} succeeded: {payload}"),
            Err(error) => error,
        }
    }

    /// Sends a request without waiting; its id.
    pub(crate) async fn send(&mut self, method: &str, params: Value) -> String {
        self.send_if_open(method, params).await.expect("the request can be sent")
    }

    /// Like [`Client::send`], when the connection may have ended.
    pub(crate) async fn send_if_open(&mut self, method: &str, params: Value) -> Option<String> {
        self.last_id += 1;
        let id = format!("r{}", self.last_id);
        let frame = json!({"type": "req", "id": id, "method": method, "params": params});
        self.send_message(Message::text(frame.to_string())).await.ok().map(|()| id)
    }

    pub(crate) async fn send_message(&mut self, message: Message) -> Result<(), Error> {
        self.record.sent(&message);
        within("a message is sent", self.socket.send(message)).await
    }

    /// Sends a message that ends the connection, and reads meanwhile: code and reason of the close frame.
    pub(crate) async fn send_and_hear_the_end(self, message: Message) -> Option<(u16, String)> {
        let Self { socket, record, .. } = self;
        record.sent(&message);
        let (mut sink, mut stream) = socket.split();
        // It is ended in the middle of that.
        let sending = async {
            let _ = sink.send(message).await;
        };
        let ((), (_, said)) = futures_util::future::join(sending, to_the_end(&mut stream, &record)).await;
        said
    }

    /// Waits for the answer to a request; events that come meanwhile are kept.
    pub(crate) async fn answer(&mut self, id: &str) -> Result<Value, Value> {
        let frame = self.frame(|frame| frame["type"] == "res" && frame["id"] == id).await;
        if frame["ok"] == true { Ok(frame["payload"].clone()) } else { Err(frame["error"].clone()) }
    }

    /// Like [`Client::answer`], when the connection may end first.
    pub(crate) async fn answer_if_any(&mut self, id: &str) -> Option<Value> {
        while let Some(Ok(message)) = within("an answer", self.socket.next()).await {
            let Message::Text(text) = message else { continue };
            let frame = hear(&self.record, &text);
            if frame["type"] == "res" && frame["id"] == id {
                return (frame["ok"] == true).then(|| frame["payload"].clone());
            }
        }
        None
    }

    /// The payload of the next event of this name; others are skipped.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        self.event_frame(name).await["payload"].clone()
    }

    /// As [`Client::event`], the frame whole.
    pub(crate) async fn event_frame(&mut self, name: &str) -> Value {
        if let Some(at) = self.events.iter().position(|event| event["event"] == name) {
            return self.events.remove(at).expect("it is there");
        }
        self.frame(|frame| frame["type"] == "event" && frame["event"] == name).await
    }

    /// Whether an event of this name came while something else was waited for.
    pub(crate) fn heard(&self, name: &str) -> bool {
        self.events.iter().any(|event| event["event"] == name)
    }

    /// The next frame that is a response, whatever it answers.
    pub(crate) async fn next_response(&mut self) -> Value {
        self.frame(|frame| frame["type"] == "res").await
    }

    /// As [`Client::next_response`], as it was sent.
    pub(crate) async fn next_response_as_text(&mut self) -> String {
        self.frame_and_text(|frame| frame["type"] == "res").await.1
    }

    /// All frames up to the end of the connection, as they were sent, with code and reason of the close frame.
    pub(crate) async fn rest_as_text(&mut self) -> (Vec<String>, Option<(u16, String)>) {
        to_the_end(&mut self.socket, &self.record).await
    }

    async fn frame(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.frame_and_text(wanted).await.0
    }

    async fn frame_and_text(&mut self, wanted: impl Fn(&Value) -> bool) -> (Value, String) {
        loop {
            let message = match within("a frame", self.socket.next()).await {
                Some(Ok(message)) => message,
                other => panic!("the connection ended: {other:?}"),
            };
            match message {
                Message::Text(text) => {
                    let frame = hear(&self.record, &text);
                    if wanted(&frame) {
                        return (frame, text.to_string());
                    }
                    if frame["type"] == "event" {
                        self.events.push_back(frame);
                    }
                }
                Message::Close(close) => panic!("the gateway closed the connection: {close:?}"),
                _ => {}
            }
        }
    }

    /// Reads to the end of the connection: code and reason of the close frame; none when there was none.
    pub(crate) async fn closed(&mut self) -> Option<(u16, String)> {
        to_the_end(&mut self.socket, &self.record).await.1
    }
}

/// Reads to the end of a connection: the frames as they were sent, and code and reason of the close frame.
async fn to_the_end(
    stream: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    record: &Record,
) -> (Vec<String>, Option<(u16, String)>) {
    let (mut frames, mut said) = (Vec::new(), None);
    while let Some(Ok(message)) = within("the end of the connection", stream.next()).await {
        match message {
            Message::Text(text) => {
                hear(record, &text);
                frames.push(text.to_string());
            }
            Message::Close(Some(close)) => said = Some((u16::from(close.code), close.reason.to_string())),
            _ => {}
        }
    }
    (frames, said)
}

#[test]
fn a_frame_is_held_to_its_shape() {
    let response = json!({"type": "res", "id": "1", "ok": true, "payload": {"any": "thing"}});
    let error =
        json!({"code": "INVALID_REQUEST", "message": "no", "retryable": true, "retryAfterMs": 5, "details": {}});
    let refusal = json!({"type": "res", "id": 7, "ok": false, "error": error});
    let versions = json!({"presence": 1, "health": 2});
    let event = json!({"type": "event", "event": "tick", "payload": {"ts": 1}, "seq": 3, "stateVersion": versions});
    for good in [&response, &refusal, &event] {
        read(&good.to_string());
    }
    let without = |frame: &Value, name: &str| {
        let mut frame = frame.clone();
        frame.as_object_mut().unwrap().remove(name);
        frame
    };
    let with = |frame: &Value, at: &str, name: &str| {
        let mut frame = frame.clone();
        frame.pointer_mut(at).unwrap()[name] = json!({"code": "x", "message": "y"});
        frame
    };
    let bad = [
        with(&response, "", "extra"),
        with(&response, "", "error"),
        with(&refusal, "", "payload"),
        with(&refusal, "/error", "extra"),
        with(&event, "", "stream"),
        with(&event, "/stateVersion", "extra"),
        without(&response, "ok"),
        without(&refusal, "error"),
        without(&event, "event"),
        json!({"type": "req", "id": "1", "method": "x"}),
    ];
    for frame in bad {
        let read = std::panic::catch_unwind(|| read(&frame.to_string()));
        assert!(read.is_err(), "{frame} was taken");
    }
}
