//! Servers that plugins are sent to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::within;

/// A server whose answers wait until they are let go: a call that asks it is in flight exactly as long as a test wants.
pub(crate) struct Held {
    pub(crate) address: SocketAddr,
    arrived: Arc<Semaphore>,
    may_go: Arc<Semaphore>,
    server: JoinHandle<()>,
}

impl Held {
    /// Answers every request with the JSON `body`.
    pub(crate) async fn start(body: &'static str) -> Self {
        let (listener, address) = listen().await;
        let (arrived, may_go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let server = tokio::spawn({
            let (arrived, may_go) = (Arc::clone(&arrived), Arc::clone(&may_go));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (arrived, may_go) = (Arc::clone(&arrived), Arc::clone(&may_go));
                    tokio::spawn(async move {
                        let mut stream = stream;
                        read_head(&mut stream).await;
                        arrived.add_permits(1);
                        if let Ok(permit) = may_go.acquire().await {
                            permit.forget();
                        }
                        answer(&mut stream, "application/json", body).await;
                    });
                }
            }
        });
        Self { address, arrived, may_go, server }
    }

    /// Waits until one more request has come in.
    pub(crate) async fn arrived(&self) {
        within("a request to the test's server", self.arrived.acquire()).await.expect("it is never closed").forget();
    }

    /// Lets one request go.
    pub(crate) fn let_go(&self) {
        self.may_go.add_permits(1);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A server of one feed with one item.
pub(crate) struct Rss {
    pub(crate) address: SocketAddr,
    server: JoinHandle<()>,
}

impl Rss {
    pub(crate) async fn start() -> Self {
        const FEED: &str = "<?xml version=\"1.0\"?><rss version=\"2.0\"><channel><title>Test</title>\
            <item><title>First</title><link>https://news.example/1</link></item></channel></rss>";
        let (listener, address) = listen().await;
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                read_head(&mut stream).await;
                answer(&mut stream, "application/rss+xml", FEED).await;
            }
        });
        Self { address, server }
    }
}

impl Drop for Rss {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    (listener, address)
}

async fn read_head(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    let mut buffer = [0_u8; 1024];
    while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => seen.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
}

async fn answer(stream: &mut TcpStream, kind: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // The program may have been killed meanwhile.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

/// A request as it came in.
#[derive(Debug)]
pub(crate) struct Received {
    /// `POST /path HTTP/1.1`.
    pub(crate) line: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    async fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut seen = Vec::new();
        let mut buffer = [0_u8; 4096];
        loop {
            if let Some(whole) = Self::whole(&seen) {
                return Some(whole);
            }
            match stream.read(&mut buffer).await {
                Ok(count) if count > 0 => seen.extend_from_slice(&buffer[..count]),
                _ => return None,
            }
        }
    }

    /// The request, once all of it is there.
    fn whole(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let line = lines.next()?.to_owned();
        let fields = lines.filter_map(|line| line.split_once(':'));
        let headers = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        let mut whole = Self { line, headers, body: bytes[end + 4..].to_vec() };
        let length: usize = whole.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        if whole.header("transfer-encoding").is_some() {
            whole.body = bytes[end + 4..].strip_suffix(b"0\r\n\r\n").map(super::http::joined)?;
            return Some(whole);
        }
        (whole.body.len() >= length).then_some(whole)
    }
}

/// A server that keeps what it is sent and answers each request with the next of the given answers; after the last one
/// it hangs up instead.
pub(crate) struct Recorder {
    address: SocketAddr,
    received: UnboundedReceiver<Received>,
    server: JoinHandle<()>,
}

impl Recorder {
    /// Answers are given as they go over the wire, with their bodies if they have some.
    pub(crate) async fn start(answers: &[&'static str]) -> Self {
        let (listener, address) = listen().await;
        let (sender, received) = tokio::sync::mpsc::unbounded_channel();
        let mut answers = VecDeque::from(answers.to_vec());
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = Received::read(&mut stream).await else { continue };
                let _ = sender.send(request);
                if let Some(answer) = answers.pop_front() {
                    // Each request has a connection of its own, so that each has its answer.
                    let (status, rest) = answer.split_once("\r\n").expect("a status line");
                    let end = if rest.contains("\r\n\r\n") { "" } else { "\r\n" };
                    let whole = format!("{status}\r\nconnection: close\r\n{rest}{end}");
                    let _ = stream.write_all(whole.as_bytes()).await;
                }
            }
        });
        Self { address, received, server }
    }

    /// `http://` and the address.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request.
    pub(crate) async fn received(&mut self) -> Received {
        within("a request to the test's server", self.received.recv()).await.expect("the server runs")
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.server.abort();
    }
}
