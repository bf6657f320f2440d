//! The HTTP surface on the gateway's port: probes, metrics, `POST /tools/invoke`, plugin routes, hooks, the Control UI, and the
//! WebSocket upgrade on every other path.
//!
//! Probes, webhooks and the Control UI's files are public, everything else wants the gateway's credential. No answer of a plugin runs as a page
//! of the gateway's own origin.

mod body;
mod control_ui;
mod hooks;
mod metrics;
mod openapi;
mod plugin_routes;
mod probes;
mod reply;
mod routes;
mod shapes;
mod starting;
mod tools;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Extract};
use http::{StatusCode, header};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::auth::open_counts::Ticket;
use crate::auth::{Access, Peer, decide_http};
use crate::connection::audit_missing_scope;
use crate::crowd::Place;
use crate::gateway::State;
use crate::methods::READ;
use crate::rate::Class;
use reply::Reply;

pub(crate) use control_ui::announce as announce_page;
pub(crate) use reply::secure;
pub use starting::Doorman;

#[cfg(test)]
pub(crate) fn described() -> serde_json::Value {
    openapi::described()
}

/// Every route's path and methods; none where it takes any.
#[cfg(test)]
pub(crate) fn table() -> Vec<(&'static str, &'static [&'static str])> {
    routes::ROUTES.iter().map(|route| (route.path, route.methods)).collect()
}

/// What helps whose credential is good for less than is asked.
const OTHER_CREDENTIAL: &str = "show a credential whose role allows it, or change what this one is good for (gateway.auth.role, \
     gateway.auth.users.<name>.role) and start the gateway again";

/// What is known of a request's TCP connection.
#[derive(Clone)]
pub(crate) struct Line {
    /// The socket's peer.
    pub(crate) remote: SocketAddr,
    /// Counts against the cap on connections; held as long as the socket lives.
    pub(crate) place: Arc<Place>,
    /// Counts against the cap on unauthenticated connections of one address.
    pub(crate) unknown: Arc<Ticket>,
    /// The gateway stops.
    pub(crate) stop: CancellationToken,
    /// Where upgraded connections run.
    pub(crate) tasks: tokio_util::task::TaskTracker,
}

/// All routes: those of the table ([`routes::ROUTES`]), and whatever else is asked for.
pub(crate) fn router(state: Arc<State>) -> Router {
    routes::router().fallback(upgrade_or_page).with_state(state)
}

async fn upgrade_or_page(Extract(state): Extract<Arc<State>>, request: Request) -> Reply {
    if upgrade::asks_for_websocket(&request) {
        return upgrade::upgrade(&state, request);
    }
    let path = request.uri().path().to_owned();
    let hooks = state.config.hooks.as_ref();
    if let Some((hooks, name)) = hooks.and_then(|hooks| Some((hooks, hooks.below(&path)?))) {
        hooks::answer(&state, hooks, request, name).await
    } else {
        control_ui::answer(&state, request.map(drop)).await
    }
}

/// Where a request comes from.
fn peer_of<B>(state: &State, request: &http::Request<B>) -> Option<Peer> {
    let line = request.extensions().get::<Line>()?;
    Some(state.peer(line.remote, request.headers()))
}

/// Who makes a request on an authenticated route, or the answer that refuses it.
fn authenticate<B>(state: &State, request: &http::Request<B>) -> Result<Access, Box<Reply>> {
    let Some(peer) = peer_of(state, request) else { return Err(Box::new(reply::unauthorized())) };
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    decide_http(&state.door(), &peer, authorization).map_err(|refusal| {
        let (code, reply) = reply::refused(&refusal);
        state.audit_refusal(&peer, code);
        Box::new(reply)
    })
}

/// Whether who makes a request may see what is not for everybody: where `needs_none` says so of where it comes from, without
/// a credential. To ask without one from elsewhere is no failed login.
fn is_trusted<B>(state: &State, request: &http::Request<B>, needs_none: fn(&Peer) -> bool) -> Result<(), Box<Reply>> {
    if peer_of(state, request).is_some_and(|peer| needs_none(&peer)) {
        return Ok(());
    }
    if !request.headers().contains_key(header::AUTHORIZATION) {
        return Err(Box::new(reply::unauthorized()));
    }
    authenticate(state, request).map(drop)
}

/// As [`authenticate`], for a route that needs a scope and that plugins may refuse. The request is looked at at once.
fn authorize<'a, B>(
    state: &'a State,
    request: &http::Request<B>,
    what: &'a str,
    scope: &'a str,
) -> impl Future<Output = Result<Access, Box<Reply>>> + Send + use<'a, B> {
    let peer = peer_of(state, request);
    let remote = peer.as_ref().map(|peer| peer.ip().to_string()).unwrap_or_default();
    let access = authenticate(state, request).and_then(|access| {
        let Some(peer) = peer else { return Err(Box::new(reply::unauthorized())) };
        let who = (peer.ip(), access.caller.id.as_str(), peer.is_local());
        let class = if scope == READ { Class::Read } else { Class::Expensive };
        match state.rates.once(who, class, state.now_ms()) {
            Ok(()) => {
                state.audit_login(&peer, "http", &access);
                Ok(access)
            }
            Err(wait_ms) => Err(Box::new(reply::too_often(wait_ms))),
        }
    });
    let access = access.and_then(|access| {
        if access.caller.holds(scope) {
            return Ok(access);
        }
        audit_missing_scope(state, &access.caller, what, scope);
        let details = json!({"hints": [OTHER_CREDENTIAL]});
        let error = json!({"type": "forbidden", "message": format!("missing scope: {scope}"), "details": details});
        Err(Box::new(reply::json_reply(StatusCode::FORBIDDEN, &json!({"ok": false, "error": error}))))
    });
    async move {
        let access = access?;
        if state.services.plugins.guards_calls() {
            let asked = crate::guard::ask_http(state, &access.caller, (what, scope), &remote).await;
            asked.map_err(|failure| Box::new(reply::failed(&failure)))?;
        }
        Ok(access)
    }
}
