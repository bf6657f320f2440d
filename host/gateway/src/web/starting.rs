//! Who comes before the program has opened what it needs.
//!
//! The listener is bound first, so that a second program on the same port ends at once. Until the gateway serves, the doorman
//! answers in its stead: the process lives, nothing is ready, come again. He knows no credential and no client.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use leanclaw_types::clock::{Clock as _, SystemClock};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::reply::{self, Reply};
use super::upgrade;
use crate::config::Limits;
use crate::connection;
use crate::error::GatewayError;

/// A start that takes less than this sends nobody away: who comes meanwhile waits in the listener's queue and is served.
const QUIET: Duration = Duration::from_millis(250);
/// Connections he answers at once. The others wait in the listener's queue.
const MAX_CONNECTIONS: usize = 128;
/// Time after a failed accept before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// When to come again.
const RETRY_MS: u64 = 1000;

/// Answers at the gateway's address until the gateway does.
#[derive(Debug)]
pub struct Doorman {
    relieved: CancellationToken,
    task: JoinHandle<TcpListener>,
}

impl Doorman {
    /// Puts him at a listener. WebSockets get their challenge, and after their `connect` the error `UNAVAILABLE` "gateway
    /// starting; retry shortly" and the close code 1013. `/health` says that the process lives, all else that it starts (503).
    #[must_use]
    pub fn post(listener: TcpListener, limits: &Limits) -> Self {
        let relieved = CancellationToken::new();
        let task = tokio::spawn(watch(listener, relieved.clone(), Arc::new(limits.clone())));
        Self { relieved, task }
    }

    /// Takes the listener back. Who was being answered gets his answer.
    ///
    /// # Errors
    /// [`GatewayError::Listener`] when the runtime is stopping.
    pub async fn relieve(self) -> Result<TcpListener, GatewayError> {
        self.relieved.cancel();
        self.task.await.map_err(|error| GatewayError::Listener(io::Error::other(error)))
    }
}

async fn watch(listener: TcpListener, relieved: CancellationToken, limits: Arc<Limits>) -> TcpListener {
    if relieved.run_until_cancelled(tokio::time::sleep(QUIET)).await.is_none() {
        return listener;
    }
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = relieved.run_until_cancelled(async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        });
        match accepted.await {
            None | Some((Err(_), _)) => return listener,
            Some((Ok(slot), Ok((stream, remote)))) => {
                tokio::spawn(answer(stream, remote, Arc::new(slot), Arc::clone(&limits)));
            }
            Some((_, Err(error))) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One request per connection, so that nobody holds on to him.
async fn answer(stream: TcpStream, remote: SocketAddr, slot: Arc<OwnedSemaphorePermit>, limits: Arc<Limits>) {
    let (header_timeout, whole) = (limits.http_header_timeout, limits.handshake_timeout);
    let service = service_fn(move |request| {
        let mut reply = respond(request, &slot, &limits);
        reply::secure(&mut reply);
        async move { Ok::<_, Infallible>(reply) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Ok(Err(error)) = tokio::time::timeout(whole, connection).await {
        tracing::debug!(%remote, %error, "an HTTP connection ended badly");
    }
}

fn respond<B>(mut request: Request<B>, slot: &Arc<OwnedSemaphorePermit>, limits: &Arc<Limits>) -> Reply {
    if upgrade::asks_for_websocket(&request) {
        let accept = match upgrade::accept_of(request.headers()) {
            Ok(accept) => accept,
            Err(refusal) => return *refusal,
        };
        if let Some(upgraded) = request.extensions_mut().remove::<OnUpgrade>() {
            tokio::spawn(turn_away(upgraded, Arc::clone(slot), Arc::clone(limits)));
            return upgrade::switching(accept);
        }
    }
    let probe = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, body) = match request.uri().path() {
        "/health" | "/healthz" if probe => (StatusCode::OK, json!({"ok": true, "status": "live"})),
        "/startup" | "/startupz" if probe => {
            (StatusCode::SERVICE_UNAVAILABLE, json!({"ok": false, "status": "starting"}))
        }
        "/ready" | "/readyz" if probe => (StatusCode::SERVICE_UNAVAILABLE, json!({"ready": false})),
        _ => {
            let error = json!({"message": "gateway starting; retry shortly", "type": "unavailable"});
            (StatusCode::SERVICE_UNAVAILABLE, json!({"error": error}))
        }
    };
    let mut reply = reply::json_reply(status, &body);
    reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    if status == StatusCode::OK { reply } else { reply::retry_after(reply, RETRY_MS) }
}

async fn turn_away(upgraded: OnUpgrade, slot: Arc<OwnedSemaphorePermit>, limits: Arc<Limits>) {
    let Ok(upgraded) = upgraded.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
    connection::turn_away(parts.io.into_inner(), parts.read_buf, &limits, SystemClock.now_ms()).await;
    drop(slot);
}
