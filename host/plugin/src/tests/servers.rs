//! Servers on this machine that do what a test says. They end with the test's runtime.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use leanclaw_types::Failure;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::support::{Bench, asking, context, poll_once, with};

/// What a call of a method came to.
type Answer = Result<String, Failure>;

/// Answers every request by a rule and remembers them.
#[derive(Clone)]
pub(super) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Lets `answer` deal with each request and its connection.
    pub(super) async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(String, TcpStream) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), requests: Arc::default() };
        let (requests, answer) = (Arc::clone(&server.requests), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                tokio::spawn(async move {
                    let request = read_head(&mut stream).await;
                    // A connection that is given up before anything was sent is no request.
                    if request.is_empty() {
                        return;
                    }
                    requests.lock().unwrap().push(request.clone());
                    answer(request, stream).await;
                });
            }
        });
        server
    }

    /// Answers every request with these bytes and closes.
    pub(super) async fn fixed(answer: &str) -> Self {
        let answer: Arc<str> = answer.into();
        Self::start(move |_, mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        })
        .await
    }

    /// Answers every request with this body.
    pub(super) async fn body(body: &str) -> Self {
        Self::fixed(&ok(body)).await
    }

    /// Answers with the request itself as a JSON string.
    pub(super) async fn echo() -> Self {
        Self::start(|request, mut stream| async move {
            let _ = stream.write_all(ok(&serde_json::Value::from(request).to_string()).as_bytes()).await;
        })
        .await
    }

    /// Sends headers and then a byte a second, until the other side closes; gives a permit for each that did.
    pub(super) async fn drip() -> (Self, Arc<Semaphore>) {
        let closed = Arc::new(Semaphore::new(0));
        let noted = Arc::clone(&closed);
        let server = Self::start(move |_, mut stream| {
            let noted = Arc::clone(&noted);
            async move {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;
                let mut rest = [0_u8; 64];
                loop {
                    tokio::select! {
                        _ = stream.read(&mut rest) => break,
                        () = tokio::time::sleep(Duration::from_secs(1)) => {
                            let _ = stream.write_all(b"1").await;
                        }
                    }
                }
                noted.add_permits(1);
            }
        });
        (server.await, closed)
    }

    /// Sends headers and then a byte of `body` per permit.
    pub(super) async fn doled(body: &'static str) -> (Self, Arc<Semaphore>) {
        let permits = Arc::new(Semaphore::new(0));
        let allowed = Arc::clone(&permits);
        let server = Self::start(move |_, mut stream| {
            let allowed = Arc::clone(&allowed);
            async move {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).await;
                let (mut reads, mut writes) = stream.split();
                let dole = async {
                    for byte in body.bytes() {
                        allowed.acquire().await.unwrap().forget();
                        let _ = writes.write_all(&[byte]).await;
                    }
                };
                let mut rest = [0_u8; 64];
                // Who goes away takes no more of the permits.
                tokio::select! {
                    _ = reads.read(&mut rest) => {}
                    () = dole => {}
                }
            }
        });
        (server.await, permits)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What a grant names.
    pub(super) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// A server that holds every request until it is told to answer: a call that waits for it is in flight for as long as a
/// test wants.
pub(super) struct Gate {
    pub(super) server: Server,
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// Answers each request with `body` once it is let through.
    pub(super) async fn start(body: &str) -> Self {
        let (arrived, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (notes, opens, body) = (Arc::clone(&arrived), Arc::clone(&open), Arc::<str>::from(ok(body)));
        let server = Server::start(move |_, mut stream| {
            let (notes, opens, body) = (Arc::clone(&notes), Arc::clone(&opens), Arc::clone(&body));
            async move {
                notes.add_permits(1);
                opens.acquire().await.unwrap().forget();
                let _ = stream.write_all(body.as_bytes()).await;
            }
        });
        Self { server: server.await, arrived, open }
    }

    /// The manifest of a plugin `waits` that may call this server, with a right beside that.
    pub(super) fn manifest(&self) -> Value {
        asking("waits", json!({"privateHttp": [self.server.origin()], "events": ["a"]}))
    }

    /// Installs a plugin `waits`, whose calls wait here; `more` goes into its manifest. Gives the parameters of a call.
    pub(super) async fn install(&self, bench: &Bench, more: Value) -> String {
        let wasm = leanclaw_test_guests::fetch(&[]).build().unwrap();
        bench.install(&with(self.manifest(), more), &wasm).await;
        json!(self.server.url("/")).to_string()
    }

    /// Two calls of the plugin that [`Gate::install`] made, which takes one at a time: one that runs and is held here,
    /// and one that waits for it to end.
    pub(super) async fn occupy(&self, bench: &Bench, params: &str) -> (JoinHandle<Answer>, BoxFuture<'static, Answer>) {
        let call = || -> BoxFuture<'static, Answer> {
            let (plugins, params) = (bench.plugins.clone(), params.to_owned());
            Box::pin(async move { plugins.call_method("waits.run", &params, context()).await })
        };
        let runs = tokio::spawn(call());
        self.arrived().await;
        let mut waits = call();
        assert!(poll_once(&mut waits).await.is_pending());
        (runs, waits)
    }

    /// Waits for one more request.
    pub(super) async fn arrived(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }

    /// Lets `count` requests through.
    pub(super) fn open(&self, count: usize) {
        self.open.add_permits(count);
    }
}

/// A good response with this body.
pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Reads a request without body.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 4096];
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
