//! From an HTTP request to a WebSocket.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use super::Line;
use super::reply::{self, Reply};
use crate::connection::{self, Arrival};
use crate::gateway::State;

/// Bytes of a `Sec-WebSocket-Key` (RFC 6455, section 4.1).
const KEY_BYTES: usize = 16;

/// Whether a request asks for a WebSocket, well or badly.
pub(super) fn asks_for_websocket<B>(request: &http::Request<B>) -> bool {
    request.method() == Method::GET && lists(request.headers(), &header::UPGRADE, "websocket")
}

/// Answers the upgrade and starts the connection's task.
pub(super) fn upgrade(state: &Arc<State>, mut request: Request) -> Reply {
    let headers = request.headers();
    let accept = match accept_of(headers) {
        Ok(accept) => accept,
        Err(refusal) => return *refusal,
    };
    let Some(line) = request.extensions().get::<Line>().cloned() else { return no_handshake() };
    let peer = state.peer(line.remote, headers);
    if peer.hidden_behind_proxy {
        state.audit_refusal(&peer, "PROXY_NOT_TRUSTED");
        return reply::error(
            StatusCode::FORBIDDEN,
            "forbidden",
            "this connection came through a proxy on the gateway's machine; add the proxy's address to gateway.trustedProxies",
        );
    }
    if state.draining() {
        return reply::error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the gateway is stopping");
    }
    let Some(ticket) = state.sockets.enter(peer.ip(), state.config.limits.unauthenticated_sockets_per_ip) else {
        let reply = reply::error(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "too many sockets from this address have not finished their handshake",
        );
        return reply::retry_after(reply, 1000);
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return reply::error(StatusCode::BAD_REQUEST, "invalid_request_error", "this connection cannot be upgraded");
    };
    let Line { place, unknown, stop, tasks, .. } = line;
    let state = Arc::clone(state);
    tasks.spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        // The server hands every request a plain TCP stream, so this always fits.
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
        let stream = parts.io.into_inner();
        connection::run(Arrival { state, peer, stream, early: parts.read_buf, held: (ticket, unknown), stop }).await;
        drop(place);
    });
    switching(accept)
}

/// The answer that an upgrade request expects, or why it is none.
pub(super) fn accept_of(headers: &HeaderMap) -> Result<HeaderValue, Box<Reply>> {
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut reply =
            reply::error(StatusCode::UPGRADE_REQUIRED, "invalid_request_error", "WebSocket version 13 is needed");
        reply.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(Box::new(reply));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| lists(headers, &header::CONNECTION, "upgrade"));
    let key = key.filter(|key| STANDARD.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == KEY_BYTES));
    let accept = key.map(|key| derive_accept_key(key.as_bytes())).and_then(|accept| HeaderValue::try_from(accept).ok());
    accept.ok_or_else(|| Box::new(no_handshake()))
}

fn no_handshake() -> Reply {
    reply::error(StatusCode::BAD_REQUEST, "invalid_request_error", "not a WebSocket handshake")
}

/// `101`: from here on it is a WebSocket.
pub(super) fn switching(accept: HeaderValue) -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    reply.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    reply.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    reply
}

/// Whether a comma-separated header lists a token.
fn lists(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|entry| entry.trim().eq_ignore_ascii_case(token))
}
