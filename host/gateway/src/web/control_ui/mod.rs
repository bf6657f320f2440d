//! An installed Control UI (OpenClaw's page, built for version 3 or 4) on the gateway's port, and the documents it asks for.
//!
//! What it owns: which path is a file of the page, which one is the page itself, and the headers that keep the page from
//! running or loading anything that is not its own. What it refuses to own: the page, and who may connect. The page is
//! public, as it holds nothing: whoever opens it must still show a credential on its socket.

mod documents;
mod files;
mod page;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::response::IntoResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};

use super::reply::{self, Reply};
use crate::gateway::State;
use files::Missing;

/// First parts of paths that belong to the gateway's interfaces: what is not there is not the page either.
const NOT_THE_PAGE: [&str; 8] = ["api", "v1", "hooks", "tools", "avatar", "__openclaw", "__openclaw__", "metrics"];

/// Says where the page is, or that it cannot be served.
pub(crate) fn announce(state: &State, address: SocketAddr) {
    let page = &state.live.now().control_ui;
    let Some(root) = &page.root else { return };
    let url = format!("http://{address}{}/", page.base_path);
    match files::open_below(root, Path::new(files::INDEX)) {
        Ok(_) => tracing::info!(url, "the Control UI is served"),
        Err(missing) => tracing::warn!(url, why = missing.why(root), "the Control UI cannot be served"),
    }
}

/// Answers what no other route takes.
pub(super) async fn answer(state: &Arc<State>, request: Request<()>) -> Reply {
    let live = state.live.now();
    let base = live.control_ui.base_path.as_str();
    let path = request.uri().path();
    if !base.is_empty() && path == base {
        return to_the_page(base, request.uri().query());
    }
    let Some(inner) = path.strip_prefix(base).filter(|inner| inner.starts_with('/')) else { return reply::not_found() };
    let reading = request.method() == Method::GET || request.method() == Method::HEAD;
    if let Some(document) = documents::named(inner) {
        return if reading {
            guarded(document.answer(state, &request))
        } else {
            reply::method_not_allowed("GET, HEAD")
        };
    }
    if !reading {
        return if inner == "/" { reply::method_not_allowed("GET, HEAD") } else { reply::not_found() };
    }
    match &live.control_ui.root {
        Some(root) => file_or_page(root, base, inner, &request).await,
        None if inner == "/" && wants_page(request.headers()) => page::none_is_configured(),
        None => reply::not_found(),
    }
}

async fn file_or_page(root: &Path, base: &str, inner: &str, request: &Request<()>) -> Reply {
    let Some(wanted) = files::relative(inner) else { return guarded(reply::not_found()) };
    let is_page = wanted.as_os_str().is_empty() || wanted.as_os_str() == files::INDEX;
    if !is_page {
        match files::open(root, &wanted, request.headers()).await {
            Ok(file) => return guarded(file.answer(request.headers())),
            Err(Missing::Unusable(why)) => return guarded(unusable(&why)),
            Err(Missing::NotThere) if !is_place_in_the_page(&wanted, inner) => return guarded(reply::not_found()),
            Err(Missing::NotThere) => {}
        }
    }
    match page::index(root, base, request.headers()).await {
        Ok(page) => guarded(page),
        Err(why) => guarded(unusable(&why)),
    }
}

/// Whether a path without a file may be one that the page itself makes sense of, such as `/settings/logs`.
fn is_place_in_the_page(wanted: &Path, inner: &str) -> bool {
    let mut parts = inner.split('/').filter(|part| !part.is_empty());
    let first = parts.next().unwrap_or_default();
    // Below a plugin's name are its routes.
    let of_a_plugin = first == "plugins" && parts.nth(1).is_some();
    !NOT_THE_PAGE.contains(&first) && !of_a_plugin && !files::is_asset(wanted)
}

/// Whether whoever asks would show a page.
fn wants_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/html"))
}

fn to_the_page(base: &str, query: Option<&str>) -> Reply {
    let target = query.map_or_else(|| format!("{base}/"), |query| format!("{base}/?{query}"));
    let Ok(target) = HeaderValue::try_from(target) else { return reply::not_found() };
    guarded((StatusCode::FOUND, [(header::LOCATION, target)]).into_response())
}

/// What is configured cannot be served. The path is told only in the log, as anybody may ask.
fn unusable(why: &str) -> Reply {
    tracing::warn!(why, "the Control UI cannot be served");
    reply::error(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "the folder that gateway.controlUi.root (LEANCLAW_CONTROL_UI_ROOT) names holds no Control UI that can be read; \
         the log says why. It must be the folder with index.html, such as node_modules/openclaw/dist/control-ui",
    )
}

/// What every answer to the page carries: nothing may frame it, and nothing runs that is not its own.
fn guarded(mut reply: Reply) -> Reply {
    let defaults = [
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in defaults {
        reply.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Some(policy) = page::policy(&[]) {
        reply.headers_mut().entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_page_have_no_extension_and_are_no_interface() {
        for (path, page) in [
            ("/chat", true),
            ("/settings/logs/", true),
            ("/chat/v1.2", true),
            ("/plugins", true),
            ("/plugins/notes", true),
            ("/plugins/notes/anything", false),
            ("/api/users/1", false),
            ("/v1/models", false),
            ("/__openclaw__/canvas", false),
            ("/old.js", false),
            ("/deep/logo.SVG", false),
        ] {
            let wanted = path.trim_matches('/');
            assert_eq!(is_place_in_the_page(Path::new(wanted), path), page, "{path}");
        }
    }
}
