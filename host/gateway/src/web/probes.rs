//! `/health`, `/ready`, `/startup` and their `z` spellings.

use std::sync::Arc;

use axum::extract::{Request, State as Extract};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::is_trusted;
use super::reply::{Reply, json_reply};
use crate::auth::Peer;
use crate::gateway::State;
use crate::wire::joined;

/// The process answers.
pub(super) async fn live() -> Reply {
    let mut reply = Reply::new("{\"ok\":true,\"status\":\"live\"}".into());
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// The gateway takes connections.
pub(super) async fn started(Extract(state): Extract<Arc<State>>) -> Reply {
    if state.draining() {
        json_reply(StatusCode::SERVICE_UNAVAILABLE, &json!({"ok": false, "status": "draining"}))
    } else {
        json_reply(StatusCode::OK, &json!({"ok": true, "status": "started"}))
    }
}

/// Every part can serve. What is missing is told to local and authenticated callers only.
pub(super) async fn ready(Extract(state): Extract<Arc<State>>, request: Request) -> Reply {
    let missing: Vec<Value> = state
        .services
        .readiness
        .iter()
        .filter_map(|part| Some(json!({"name": part.name(), "reason": part.missing()?})))
        .collect();
    let ready = missing.is_empty() && !state.draining();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if is_trusted(&state, &request, Peer::is_local).is_err() {
        return json_reply(status, &json!({"ready": ready}));
    }
    let failing: Vec<&Value> = missing.iter().filter_map(|part| part.get("name")).collect();
    let body = json!({"ready": ready, "failing": failing, "uptimeMs": state.uptime_ms()});
    json_reply(status, &joined(body, (!missing.is_empty()).then(|| ("details", json!(missing)))))
}
