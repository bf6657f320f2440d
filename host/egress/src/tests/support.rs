//! A server that does what a test says, an observer that remembers, and policies to start from.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use leanclaw_types::redact::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::*;

pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server on this machine; it ends with the test's runtime.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// The port each accepted connection came from.
    accepted: Arc<Mutex<Vec<u16>>>,
    probes: AtomicUsize,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers each connection's request with what `answer` does with it.
    pub(super) async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(String, TcpStream) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (counted, kept, answer) = (Arc::clone(&accepted), Arc::clone(&requests), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut stream, peer)) = listener.accept().await {
                counted.lock().unwrap().push(peer.port());
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                tokio::spawn(async move {
                    let request = read_request(&mut stream).await;
                    if !request.is_empty() {
                        kept.lock().unwrap().push(request.clone());
                        answer(request, stream).await;
                    }
                });
            }
        });
        Self { address, accepted, probes: AtomicUsize::new(0), requests }
    }

    /// Answers every request with these bytes and closes.
    pub(super) async fn fixed(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::start(move |_, mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                let _ = stream.write_all(&answer).await;
            }
        })
        .await
    }

    /// Answers with a short text.
    pub(super) async fn hello() -> Self {
        Self::fixed("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await
    }

    /// Answers with the request itself as the body.
    pub(super) async fn echo() -> Self {
        Self::start(|request, mut stream| async move {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.len());
            let _ = stream.write_all(format!("{head}{request}").as_bytes()).await;
        })
        .await
    }

    pub(super) fn url(&self, path: &str) -> Url {
        self.url_for("127.0.0.1", path)
    }

    pub(super) fn url_for(&self, host: &str, path: &str) -> Url {
        Url::parse(&format!("http://{host}:{}{path}", self.address.port())).unwrap()
    }

    /// How many connections were made to it until now. Connections are accepted in order, so one of our own, once it is
    /// accepted, proves that every earlier one is counted.
    pub(super) async fn connections(&self) -> usize {
        let probe = TcpStream::connect(self.address).await.unwrap();
        let port = probe.local_addr().unwrap().port();
        let probes = self.probes.fetch_add(1, Ordering::SeqCst) + 1;
        loop {
            let accepted = self.accepted.lock().unwrap().clone();
            if accepted.contains(&port) {
                return accepted.len() - probes;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Reads a request with its body.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let complete = match length {
                Some(length) => body.len() >= length,
                None => !lower.contains("transfer-encoding: chunked") || body.ends_with("0\r\n\r\n"),
            };
            if complete {
                return text;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return text,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Remembers how each request ended: `owner method origin outcome address`.
#[derive(Default)]
pub(super) struct Recorder(Mutex<Vec<String>>);

impl EgressObserver for Recorder {
    fn record(&self, record: &EgressRecord<'_>) {
        let outcome = match record.outcome {
            Outcome::Completed { status } => {
                format!("{status} {}/{}", record.request_bytes, record.response_bytes)
            }
            Outcome::Failed(error) => {
                format!("{}{}", if error.is_denial() { "denied: " } else { "failed: " }, error.code())
            }
            Outcome::Cancelled => "cancelled".into(),
        };
        let line = format!("{} {} {outcome}", record.owner, record.method);
        self.0.lock().unwrap().push(line);
    }
}

impl Recorder {
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Secrets from a list.
pub(super) struct Values(pub(super) Vec<(&'static str, &'static str)>);

impl SecretSource for Values {
    fn get(&self, name: &str) -> Option<Secret> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| Secret::new(*value))
    }
}

/// Egress that knows no names, and the records it makes.
pub(super) fn egress() -> (Egress, Arc<Recorder>) {
    egress_with(FixedResolver::new())
}

pub(super) fn egress_with(resolver: impl Resolver) -> (Egress, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    (Egress::new(Arc::new(resolver), recorder.clone()), recorder)
}

/// A policy that grants nothing.
pub(super) fn nothing() -> EgressPolicy {
    EgressPolicy::new("notes")
}

/// A policy under which `url` can be reached although it is on this machine.
pub(super) fn all_for(url: &Url) -> EgressPolicy {
    let pattern = leanclaw_types::net::HostPattern::for_url(url).unwrap();
    let mut policy = nothing();
    policy.allow.push(pattern.clone());
    policy.sockets.push(pattern.clone());
    policy.private.push(pattern);
    policy
}

pub(super) fn get(url: &Url) -> Request {
    Request::new(Method::GET, url.clone())
}

pub(super) fn with_header(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers.append(name, value.parse().unwrap());
    request
}

/// More time than any test needs.
pub(super) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(120))
}

/// Sends and reads the whole answer as text.
pub(super) async fn fetch(handle: &EgressHandle, request: Request) -> Result<(u16, String), EgressError> {
    let response = handle.send(request, soon()).await?;
    let status = response.status.as_u16();
    let body = response.body.bytes().await?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// The same for a policy of its own, without secrets.
pub(super) async fn fetch_as(policy: EgressPolicy, request: Request) -> Result<(u16, String), EgressError> {
    fetch(&egress().0.open(policy, Arc::new(NoSecrets)), request).await
}
