//! `index.html`: put where it is served, and allowed to run its own scripts and no others.

use std::io::Read as _;
use std::path::Path;

use axum::body::Body;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use sha2::{Digest, Sha256};

use super::Reply;
use super::files::{self, INDEX};

/// Largest page.
const MAX_PAGE_BYTES: u64 = 1024 * 1024;
/// Names the build to the page. The page then insists that the gateway is of the same build, which no other program can be.
const BUILD: &str = "data-openclaw-control-ui-build-id";
/// Tells the page below which path it is.
const BASE: &str = "data-openclaw-control-ui-base-path";

/// What to say at `/` when there is no page.
const NONE: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>LeanClaw</title></head><body>\
<h1>LeanClaw's gateway is running</h1><p>It has no Control UI to show yet. To use OpenClaw's:</p><ol>\
<li>install it: <code>npm install --ignore-scripts openclaw</code></li>\
<li>say where it is: <code>leanclaw config set gateway.controlUi.root \"$PWD/node_modules/openclaw/dist/control-ui\"</code></li>\
<li>reload this page</li></ol></body></html>";

/// The page for a browser that found none.
pub(super) fn none_is_configured() -> Reply {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    ];
    (StatusCode::NOT_FOUND, headers, NONE).into_response()
}

/// The page, served below `base`.
///
/// # Errors
/// Why it cannot be read.
pub(super) async fn index(root: &Path, base: &str, headers: &HeaderMap) -> Result<Reply, String> {
    let root = root.to_owned();
    let text = tokio::task::spawn_blocking(move || read(&root)).await.map_err(|error| error.to_string())??;
    let page = placed(&text, base);
    let tag = files::tag_of(page.as_bytes());
    let policy = policy(&script_hashes(&page));
    let mut reply = if files::knows(headers, &tag) {
        let mut reply = Response::new(Body::empty());
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        ([(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))], page).into_response()
    };
    let headers = reply.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.extend(policy.map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    headers.extend(HeaderValue::try_from(tag).ok().map(|tag| (header::ETAG, tag)));
    Ok(reply)
}

fn read(root: &Path) -> Result<String, String> {
    let (file, _) = files::open_below(root, Path::new(INDEX)).map_err(|missing| missing.why(root))?;
    let mut text = String::new();
    let read = file.take(MAX_PAGE_BYTES + 1).read_to_string(&mut text).map_err(|error| format!("{INDEX}: {error}"))?;
    if read as u64 > MAX_PAGE_BYTES {
        return Err(format!("{INDEX} has more than {MAX_PAGE_BYTES} bytes"));
    }
    Ok(text)
}

/// The page with its own files named from the top, so that it can be opened at any of its places.
fn placed(page: &str, base: &str) -> String {
    let page = page.replace("src=\"./", &format!("src=\"{base}/")).replace("href=\"./", &format!("href=\"{base}/"));
    let Some(start) = page.find("<html") else { return page };
    let Some(length) = page.get(start..).and_then(|rest| rest.find('>')) else { return page };
    let (Some(before), Some(tag), Some(after)) =
        (page.get(..start), page.get(start + 5..start + length), page.get(start + length..))
    else {
        return page;
    };
    let tag = without_attribute(tag, BUILD);
    format!("{before}<html {BASE}=\"{base}\"{tag}{after}")
}

fn without_attribute(tag: &str, name: &str) -> String {
    let Some(start) = tag.find(&format!(" {name}=\"")) else { return tag.to_owned() };
    let value = start + name.len() + 3;
    let end = tag.get(value..).and_then(|rest| rest.find('"')).map(|length| value + length + 1);
    let (Some(before), Some(after)) = (tag.get(..start), end.and_then(|end| tag.get(end..))) else {
        return tag.to_owned();
    };
    format!("{before}{after}")
}

/// The hashes of the scripts that stand in the page itself.
fn script_hashes(page: &str) -> Vec<String> {
    let mut hashes = Vec::new();
    let mut rest = page;
    while let Some((attributes, after)) = rest.split_once("<script").and_then(|(_, rest)| rest.split_once('>')) {
        let Some((script, next)) = after.split_once("</script") else { break };
        let is_file = attributes.split_whitespace().any(|attribute| attribute.starts_with("src="));
        if !is_file && !script.is_empty() {
            hashes.push(format!("'sha256-{}'", STANDARD.encode(Sha256::digest(script.as_bytes()))));
        }
        rest = next;
    }
    hashes
}

/// What the page may load and run. Pictures from elsewhere are not among it: the text that a model writes can name them,
/// and fetching one tells its server what stands in the name.
pub(super) fn policy(hashes: &[String]) -> Option<HeaderValue> {
    let hashes = hashes.iter().fold(String::new(), |all, hash| format!("{all} {hash}"));
    let policy = format!(
        "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; form-action 'self'; \
         script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
         media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; manifest-src 'self'; \
         frame-src 'self'; connect-src 'self' data: ws: wss:"
    );
    HeaderValue::try_from(policy).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_put_in_its_place_and_claims_no_build() {
        let page =
            format!("<!doctype html>\n<html {BUILD}=\"2026.9.6-x\" lang=\"en\"><script src=\"./a.js\"></script>");
        let placed = placed(&page, "/ui");
        assert_eq!(
            placed,
            format!("<!doctype html>\n<html {BASE}=\"/ui\" lang=\"en\"><script src=\"/ui/a.js\"></script>")
        );
        assert_eq!(super::placed("no page", ""), "no page");
    }

    #[test]
    fn only_scripts_of_the_page_itself_are_named() {
        let page =
            "<script data-x=\"1\">one()</script><script type=\"module\" src=\"/a.js\"></script><script></script>";
        let hash = STANDARD.encode(Sha256::digest(b"one()"));
        assert_eq!(script_hashes(page), [format!("'sha256-{hash}'")]);
        let policy = policy(&script_hashes(page)).unwrap();
        let policy = policy.to_str().unwrap();
        assert!(policy.contains(&format!("script-src 'self' 'sha256-{hash}';")), "{policy}");
        assert!(!policy.contains("https:"), "{policy}");
    }
}
