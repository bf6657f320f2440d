//! `/plugins/<id>/hook/…` (public; the plugin verifies) and `/plugins/<id>/http/…` (needs the gateway's credential).
//! `<id>~<account>` names an account.
//!
//! The gateway's credential never reaches a plugin, and an answer is sandboxed: on the gateway's origin, a page with
//! scripts could read what the gateway's own pages keep there.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State as Extract};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header};
use leanclaw_types::{Failure, PluginKey};

use super::reply::{self, Reply};
use super::{authorize, body, peer_of};
use crate::auth::credential::{bearer, same};
use crate::connection::PLUGIN_ROUTE;
use crate::gateway::State;
use crate::methods::{READ, WRITE};
use crate::plugins::WebhookRequest;
use crate::rate::Class;

/// Headers that belong to a connection, not to a message.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A webhook.
pub(super) async fn hook(Extract(state): Extract<Arc<State>>, request: Request) -> Reply {
    let Some((key, path)) = split(request.uri(), "hook") else { return reply::not_found() };
    let Some(peer) = peer_of(&state, &request) else { return reply::not_found() };
    // Anybody may send one, so nothing is kept of one that nobody takes.
    if let Err(failure) = state.services.plugins.takes_webhooks(&key) {
        return reply::failed(&failure);
    }
    let (ip, now_ms) = (peer.ip(), state.now_ms());
    let who = (ip, format!("webhook:{key}"), peer.is_local());
    if let Err(wait_ms) = state.rates.once((who.0, &who.1, who.2), Class::Expensive, now_ms) {
        return reply::too_often(wait_ms);
    }
    let (parts, body) = request.into_parts();
    let bytes = match body::read(&state, &parts.headers, body, state.config.limits.webhook_body_bytes).await {
        Ok(bytes) => bytes,
        Err(refusal) => return *refusal,
    };
    let headers = without_connection_headers(parts.headers);
    let headers = headers
        .iter()
        .filter(|(name, value)| **name != header::AUTHORIZATION || !is_own_credential(&state, value))
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    let webhook = WebhookRequest {
        method: parts.method.as_str().to_owned(),
        path,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers,
        body: bytes,
        remote: peer.address,
    };
    match state.services.plugins.webhook(&key, webhook).await {
        Ok(answer) => {
            let mut headers = HeaderMap::new();
            for (name, value) in answer.headers {
                if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value)) {
                    headers.append(name, value);
                }
            }
            let status = StatusCode::from_u16(answer.status).ok().filter(|status| status.as_u16() >= 200);
            let Some(status) = status else { return bad_gateway(answer.status) };
            let mut response = Response::new(Body::from(answer.body));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            sandboxed(response)
        }
        Err(failure) => reply::failed(&failure),
    }
}

/// A plugin's own HTTP route.
pub(super) async fn route(Extract(state): Extract<Arc<State>>, request: Request) -> Reply {
    // What only reads is a matter of reading, as far as HTTP tells.
    let scope = if request.method().is_safe() { READ } else { WRITE };
    if let Err(refusal) = authorize(&state, &request, PLUGIN_ROUTE, scope).await {
        return *refusal;
    }
    let Some((key, path)) = split(request.uri(), "http") else { return reply::not_found() };
    let Some(peer) = peer_of(&state, &request) else { return reply::not_found() };
    let (parts, body) = request.into_parts();
    let bytes = match body::read(&state, &parts.headers, body, state.config.limits.route_body_bytes).await {
        Ok(bytes) => bytes,
        Err(refusal) => return *refusal,
    };
    let target = match parts.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut headers = without_connection_headers(parts.headers);
    headers.remove(header::AUTHORIZATION);
    let mut inner = http::Request::new(bytes);
    *inner.method_mut() = parts.method;
    *inner.headers_mut() = headers;
    match target.parse() {
        Ok(uri) => *inner.uri_mut() = uri,
        Err(_) => return reply::not_found(),
    }
    match state.services.plugins.http_route(&key, inner, peer.address).await {
        Ok(answer) if answer.status().as_u16() < 200 => bad_gateway(answer.status().as_u16()),
        Ok(answer) => sandboxed(answer.map(Body::new)),
        Err(failure) => reply::failed(&failure),
    }
}

/// The plugin and the path inside it, from `/plugins/<id>[~<account>]/<kind>[/…]`. The path stays as it was sent.
fn split(uri: &Uri, kind: &str) -> Option<(PluginKey, String)> {
    let (name, rest) = uri.path().strip_prefix("/plugins/")?.split_once('/')?;
    let path = rest.strip_prefix(kind)?;
    let path = if path.is_empty() { "/" } else { path };
    let key = match name.split_once('~') {
        Some((plugin, account)) => PluginKey { plugin: plugin.parse().ok()?, account: account.parse().ok()? },
        None => PluginKey::default_account(name.parse().ok()?),
    };
    Some((key, path.to_owned()))
}

fn is_own_credential(state: &State, value: &HeaderValue) -> bool {
    let Some(given) = value.to_str().ok().and_then(bearer) else { return false };
    state.config.auth.secrets().any(|secret| same(given, secret))
}

fn without_connection_headers(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(HOP_BY_HOP.iter()) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers
}

fn bad_gateway(status: u16) -> Reply {
    let failure =
        Failure::internal(format!("the plugin answered with status {status}, which is not a final HTTP status"));
    let mut reply = reply::failed(&failure);
    *reply.status_mut() = StatusCode::BAD_GATEWAY;
    reply
}

fn sandboxed(mut reply: Reply) -> Reply {
    let mut headers = without_connection_headers(std::mem::take(reply.headers_mut()));
    // The length is the body's own to say.
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    *reply.headers_mut() = headers;
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_plugin_and_keep_their_rest() {
        let read = |path: &str| split(&path.parse().unwrap(), "hook").map(|(key, rest)| (key.to_string(), rest));
        assert_eq!(read("/plugins/chat/hook"), Some(("chat".into(), "/".into())));
        assert_eq!(read("/plugins/chat/hook/a%2Fb/c"), Some(("chat".into(), "/a%2Fb/c".into())));
        assert_eq!(read("/plugins/chat~work/hook/x"), Some(("chat/work".into(), "/x".into())));
        for bad in ["/plugins/Chat/hook/", "/plugins/a~b~c/hook/", "/plugins/%2e%2e/hook/", "/plugins/~x/hook"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn headers_of_the_connection_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("connection", "x-secret, close"), ("x-secret", "1"), ("te", "trailers"), ("x-kept", "1")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let left = without_connection_headers(headers);
        assert_eq!(left.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }
}
