//! The gateway over real sockets, in front of a host that only pretends to run plugins.

mod absent;
mod agent;
mod agents;
mod approvals;
mod arbitrary;
mod audience;
mod auth;
mod channels;
mod chat;
mod chat_ends;
mod config;
mod control_ui;
mod coverage;
mod devices;
mod events;
pub(crate) mod fake;
mod fake_runs;
mod fake_sessions;
mod flow;
mod frames;
mod groups;
mod guard;
mod handshake;
mod hooks;
mod logs;
mod methods;
mod node_progress;
mod node_tokens;
mod nodes;
mod once;
mod page;
mod presence;
mod questions;
mod rates;
#[path = "../../../../tests/it/support/record.rs"]
mod record;
mod roles;
mod scopes;
mod sessions;
mod shapes;
mod starting;
mod status;
mod taken_back;
mod talk;
mod web;
mod workspace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use leanclaw_types::clock::ManualClock;
use leanclaw_types::redact::Secret;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use crate::{Gateway, GatewayConfig, GatewayError, Services, serve};
use fake::{FakeHost, MemoryRecords, Rows};
use fake_runs::FakeRuns;
use record::Record;

/// Longer than anything here takes, shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(20);
const TOKEN: &str = "the-token";

/// A gateway that listens.
struct Server {
    address: SocketAddr,
    host: Arc<FakeHost>,
    records: Arc<MemoryRecords>,
    runs: Arc<FakeRuns>,
    audit: Arc<Rows>,
    clock: Arc<ManualClock>,
    gateway: Gateway,
    stop: CancellationToken,
    running: JoinHandle<Result<(), GatewayError>>,
    /// Why what its clients hear is held to nothing, where a test has them told what no gateway says.
    makes_up: Option<&'static str>,
}

fn with_token() -> GatewayConfig {
    let mut config = GatewayConfig::new("1.2.3");
    config.auth.token = Some(Secret::new(TOKEN));
    config
}

async fn start(config: GatewayConfig) -> Server {
    start_on(config, Arc::default()).await
}

/// As [`start`], on what another gateway has kept.
async fn start_on(config: GatewayConfig, records: Arc<MemoryRecords>) -> Server {
    start_with(config, records, |_| {}).await
}

/// As [`start_on`], with other services.
async fn start_with(config: GatewayConfig, records: Arc<MemoryRecords>, change: impl FnOnce(&mut Services)) -> Server {
    let host = Arc::new(FakeHost::default());
    let runs = Arc::new(FakeRuns::over(Arc::clone(&records)));
    let audit = Arc::new(Rows::default());
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let mut services = Services::new(
        Arc::clone(&host) as _,
        Arc::clone(&records) as _,
        Arc::clone(&records) as _,
        Arc::clone(&audit) as _,
        Arc::clone(&runs) as _,
    );
    services.clock = Arc::clone(&clock) as _;
    services.readiness = vec![Arc::clone(&host) as _];
    change(&mut services);
    let gateway = Gateway::open(config, services).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(serve(listener, gateway.clone(), stop.clone()));
    Server { address, host, records, runs, audit, clock, gateway, stop, running, makes_up: None }
}

impl Server {
    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.running).await.unwrap().unwrap().unwrap();
    }

    /// From here on its clients keep no record: they are told what no gateway says, for this reason.
    fn that_makes_things_up(mut self, why: &'static str) -> Self {
        self.makes_up = Some(why);
        self
    }

    /// Ends it, and starts another one on what it has kept.
    async fn again(self, config: GatewayConfig) -> Self {
        let records = Arc::clone(&self.records);
        self.stop().await;
        start_on(config, records).await
    }

    /// A socket that has read its challenge, opened with extra headers.
    async fn open_with(&self, path: &str, headers: &[(&'static str, &str)]) -> Client {
        let mut client = self.dial(path, headers).await.unwrap();
        let challenge = client.next().await;
        assert_eq!(challenge["event"], "connect.challenge");
        client.challenge = challenge;
        client
    }

    async fn open(&self) -> Client {
        self.open_with("/", &[]).await
    }

    async fn dial(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Client, Error> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        let record = self.makes_up.is_none().then(Record::open);
        Ok(Client { socket, challenge: Value::Null, next_id: 0, record })
    }

    /// A connected client with these scopes, by token if there is one.
    async fn connect(&self, protocol: u64, scopes: &[&str]) -> Client {
        let mut client = self.open().await;
        let mut params = connect_params(protocol, protocol);
        params["scopes"] = json!(scopes);
        params["auth"] = json!({"token": TOKEN});
        let response = client.call("connect", params).await;
        assert_eq!(response["ok"], true, "{response}");
        if protocol == 3 {
            assert_eq!(client.next().await["event"], "health");
        }
        client
    }

    async fn admin(&self) -> Client {
        self.connect(4, &["operator.admin"]).await
    }
}

fn connect_params(minimum: u64, maximum: u64) -> Value {
    json!({
        "minProtocol": minimum, "maxProtocol": maximum,
        "client": {"id": "gateway-client", "version": "1", "platform": "linux", "mode": "backend"},
    })
}

/// A WebSocket client.
struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    challenge: Value,
    next_id: u64,
    /// What was said, where it is held to what the protocol says.
    record: Option<Record>,
}

impl Client {
    async fn send_text(&mut self, text: impl Into<String>) {
        self.send_message(Message::text(text.into())).await.unwrap();
    }

    async fn send_message(&mut self, message: Message) -> Result<(), Error> {
        self.feed(message).await?;
        self.socket.flush().await
    }

    /// Hands on a message that goes out with the next ones.
    async fn feed(&mut self, message: Message) -> Result<(), Error> {
        if let Some(record) = &self.record {
            record.sent(&message);
        }
        self.socket.feed(message).await
    }

    async fn send(&mut self, frame: Value) {
        self.send_text(frame.to_string()).await;
    }

    async fn message(&mut self) -> Option<Result<Message, Error>> {
        let message =
            tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the gateway should say something");
        if let (Some(record), Some(Ok(Message::Text(text)))) = (&self.record, &message) {
            record.heard(text);
        }
        message
    }

    /// The next frame. That others came or went is left out: it may be told at any time.
    async fn next(&mut self) -> Value {
        loop {
            let frame = self.any().await;
            if frame["event"] != "presence" {
                return frame;
            }
        }
    }

    /// The next frame, whatever it is.
    async fn any(&mut self) -> Value {
        loop {
            match self.message().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(text.as_str()).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("no frame but {other:?}"),
            }
        }
    }

    /// The next event of that name; other events are skipped.
    async fn event(&mut self, name: &str) -> Value {
        loop {
            let frame = self.any().await;
            if frame["event"] == name {
                return frame;
            }
            assert_eq!(frame["type"], "event", "{frame}");
        }
    }

    /// The response with that id; events are skipped.
    async fn response(&mut self, id: &Value) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == "res" {
                assert_eq!(frame["id"], *id, "{frame}");
                return frame;
            }
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = json!(format!("r{}", self.next_id));
        self.send(json!({"type": "req", "id": id, "method": method, "params": params})).await;
        self.response(&id).await
    }

    /// Asks for an answer of more than the system's buffers hold, and does not read it.
    async fn fall_behind(&mut self, id: &str) {
        let big = "x".repeat(15 << 20);
        self.send(json!({"type": "req", "id": id, "method": "notes.echo", "params": {"big": big}})).await;
        let MaybeTlsStream::Plain(stream) = self.socket.get_ref() else { panic!("no plain stream") };
        stream.peek(&mut [0]).await.unwrap();
    }

    /// The close code and reason; frames before it are skipped.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.message().await {
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Ok(Message::Close(None))) => return (1005, String::new()),
                Some(Ok(_)) => {}
                other => panic!("no close but {other:?}"),
            }
        }
    }
}

/// Fails with `INVALID_REQUEST` and this message.
fn assert_invalid(response: &Value, message: &str) {
    assert_eq!(response["ok"], false, "{response}");
    assert_eq!(response["error"]["code"], "INVALID_REQUEST", "{response}");
    assert_eq!(response["error"]["message"], message, "{response}");
}
