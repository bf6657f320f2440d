//! Deciding about one caller.

use leanclaw_types::Caller;
use leanclaw_types::frame::{ClientInfo, ConnectAuth, ConnectParams, ErrorShape, ProtocolVersion, error_code};
use leanclaw_types::redact::Secret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::auth::Peer;
use crate::auth::lockout::Lockout;
use crate::config::GatewayConfig;

/// What would let a caller in who has nothing to show.
const HOW_TO_ENTER: [&str; 2] = [
    "set LEANCLAW_GATEWAY_API_KEY (gateway.auth.token) on the gateway and send the same token",
    "or call from the gateway's own machine, directly, without a web page or proxy between",
];

/// A caller who may enter.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// How it proved itself: `token` or `none`.
    pub(crate) method: &'static str,
    /// Who it is, as the host vouches for it.
    pub(crate) caller: Caller,
}

/// A caller who may not.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What it is told.
    pub(crate) error: ErrorShape,
    /// The detail code, for the audit row.
    pub(crate) code: &'static str,
}

impl Refusal {
    fn new(top: &str, code: &'static str, message: impl Into<String>, details: Value) -> Self {
        Self { error: ErrorShape::new(top, message).details(details), code }
    }
}

/// What a decision is made from, besides the caller.
pub(crate) struct Door<'a> {
    pub(crate) config: &'a GatewayConfig,
    pub(crate) lockout: &'a Lockout,
    pub(crate) now_ms: u64,
}

/// Decides about a `connect`, in the order the real gateway checks.
pub(crate) fn decide(
    door: &Door<'_>,
    peer: &Peer,
    version: ProtocolVersion,
    connect: &ConnectParams,
) -> Result<Access, Refusal> {
    let role = connect.role.as_deref().unwrap_or("operator");
    if role != "operator" && role != "node" {
        return Err(Refusal { error: ErrorShape::invalid("invalid role"), code: "INVALID_ROLE" });
    }
    check_page(door, peer, &connect.client)?;
    let method = match &door.config.auth.token {
        Some(token) => {
            check_token(door, peer, version, connect, token)?;
            "token"
        }
        None if peer.direct_loopback && !peer.from_page => "none",
        None => return Err(nothing_to_show(peer)),
    };
    if role == "node" {
        return Err(node(connect));
    }
    let principal = if method == "token" { "token" } else { "loopback" };
    let mut scopes: Vec<String> = Vec::new();
    for scope in &connect.scopes {
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    Ok(Access { method, caller: Caller::client(principal, role, scopes) })
}

fn check_page(door: &Door<'_>, peer: &Peer, client: &ClientInfo) -> Result<(), Refusal> {
    let page_client = client.mode == "webchat" || matches!(client.id.as_str(), "openclaw-control-ui" | "webchat-ui");
    if peer.origin.is_none() && !page_client {
        return Ok(());
    }
    peer.check_origin(door.config).map_err(|reason| {
        Refusal::new(
            error_code::INVALID_REQUEST,
            "CONTROL_UI_ORIGIN_NOT_ALLOWED",
            "origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)",
            json!({"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": reason}),
        )
    })
}

fn check_token(
    door: &Door<'_>,
    peer: &Peer,
    version: ProtocolVersion,
    connect: &ConnectParams,
    token: &Secret,
) -> Result<(), Refusal> {
    let nothing = ConnectAuth::default();
    let auth = connect.auth.as_ref().unwrap_or(&nothing);
    // Version 3 reads the token from its own field only; version 4 takes it from either.
    let password = auth.password.as_deref().filter(|_| version == ProtocolVersion::V4);
    let given: Vec<&str> = auth.token.as_deref().into_iter().chain(password).filter(|text| !text.is_empty()).collect();
    // Every field is compared, whichever matches first.
    let right = given.iter().fold(false, |right, text| right | same(text, token));
    let locked_ms = door.lockout.locked(peer, door.now_ms);
    if let Some(left_ms) = locked_ms.filter(|_| version == ProtocolVersion::V4 || !given.is_empty() && !right) {
        return Err(rate_limited(version, left_ms));
    }
    if right {
        door.lockout.succeeded(peer);
        return Ok(());
    }
    if !given.is_empty() {
        door.lockout.failed(peer, door.now_ms);
        return Err(token_refusal("AUTH_TOKEN_MISMATCH", "token_mismatch", "mismatch", version, &connect.client));
    }
    let shows_anything = auth.password.is_some() || auth.device_token.is_some() || auth.bootstrap_token.is_some();
    if connect.device.is_none() && !shows_anything {
        return Err(nothing_to_show(peer));
    }
    Err(token_refusal("AUTH_TOKEN_MISSING", "token_missing", "missing", version, &connect.client))
}

fn token_refusal(
    code: &'static str,
    reason: &str,
    what: &str,
    version: ProtocolVersion,
    client: &ClientInfo,
) -> Refusal {
    let hint = match (client.id.as_str(), client.mode.as_str(), version) {
        ("openclaw-control-ui" | "webchat-ui", ..) | (_, "webchat", _) => {
            "open the dashboard URL and paste the token in Control UI settings"
        }
        ("cli", _, ProtocolVersion::V3) => "set gateway.remote.token to match gateway.auth.token",
        ("cli", _, ProtocolVersion::V4) => "use this gateway's gateway.auth.token or pair the device",
        _ => "provide gateway auth token",
    };
    let next = if what == "missing" { "update_auth_configuration" } else { "update_auth_credentials" };
    Refusal::new(
        error_code::INVALID_REQUEST,
        code,
        format!("unauthorized: gateway token {what} ({hint})"),
        json!({"code": code, "authReason": reason, "canRetryWithDeviceToken": false, "recommendedNextStep": next}),
    )
}

fn rate_limited(version: ProtocolVersion, left_ms: u64) -> Refusal {
    let mut refusal = Refusal::new(
        error_code::INVALID_REQUEST,
        "AUTH_RATE_LIMITED",
        "unauthorized: too many failed authentication attempts (retry later)",
        json!({
            "code": "AUTH_RATE_LIMITED",
            "authReason": "rate_limited",
            "canRetryWithDeviceToken": false,
            "recommendedNextStep": "wait_then_retry",
        }),
    );
    if version == ProtocolVersion::V4 {
        refusal.error.retryable = Some(true);
        refusal.error.retry_after_ms = Some(left_ms);
    }
    refusal
}

fn nothing_to_show(peer: &Peer) -> Refusal {
    let mut hints: Vec<String> = HOW_TO_ENTER.iter().map(|hint| (*hint).to_owned()).collect();
    if let Some(origin) = &peer.origin {
        let shown = origin.chars().take(200).collect::<String>().escape_debug().to_string();
        hints.insert(0, format!("the web page {shown} may only connect with the gateway's token"));
    }
    Refusal::new(
        error_code::NOT_PAIRED,
        "DEVICE_IDENTITY_REQUIRED",
        "device identity required",
        json!({"code": "DEVICE_IDENTITY_REQUIRED", "hints": hints}),
    )
}

fn node(connect: &ConnectParams) -> Refusal {
    if connect.device.is_none() {
        return Refusal::new(
            error_code::NOT_PAIRED,
            "DEVICE_IDENTITY_REQUIRED",
            "device identity required",
            json!({"code": "DEVICE_IDENTITY_REQUIRED"}),
        );
    }
    Refusal::new(
        error_code::NOT_PAIRED,
        "PAIRING_REQUIRED",
        "pairing required: this gateway takes no nodes; connect with role operator",
        json!({"code": "PAIRING_REQUIRED", "reason": "not-paired"}),
    )
}

/// What an HTTP caller without access is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HttpRefusal {
    /// No credential, or a wrong one.
    Unauthorized,
    /// A credential would not help; the text says what would.
    Forbidden(&'static str),
    /// Too many wrong credentials; milliseconds left.
    Locked(u64),
}

/// Decides about a request on an authenticated HTTP route. Who shows the shared token is an admin.
pub(crate) fn decide_http(door: &Door<'_>, peer: &Peer, authorization: Option<&str>) -> Result<Access, HttpRefusal> {
    if peer.hidden_behind_proxy {
        return Err(HttpRefusal::Forbidden(
            "this request came through a proxy on the gateway's machine; add the proxy to gateway.trustedProxies",
        ));
    }
    let admin = |id: &str| Caller::client(id, "operator", vec!["operator.admin".into()]);
    let Some(token) = &door.config.auth.token else {
        if peer.direct_loopback && !peer.from_page {
            return Ok(Access { method: "none", caller: admin("loopback") });
        }
        return Err(HttpRefusal::Forbidden(
            "without a token only direct callers on the gateway's own machine are let in; set LEANCLAW_GATEWAY_API_KEY \
             (gateway.auth.token) and send it as `Authorization: Bearer <token>`",
        ));
    };
    if let Some(left_ms) = door.lockout.locked(peer, door.now_ms) {
        return Err(HttpRefusal::Locked(left_ms));
    }
    let Some(given) = authorization.and_then(bearer) else { return Err(HttpRefusal::Unauthorized) };
    if !same(given, token) {
        door.lockout.failed(peer, door.now_ms);
        return Err(HttpRefusal::Unauthorized);
    }
    door.lockout.succeeded(peer);
    Ok(Access { method: "token", caller: admin("token") })
}

/// The credential in an `Authorization` header.
pub(crate) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, credential) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim()).filter(|credential| !credential.is_empty())
}

/// Compares in a time that tells nothing: neither where the two differ nor how long the token is.
pub(crate) fn same(given: &str, token: &Secret) -> bool {
    let digest = |text: &str| <[u8; 32]>::from(Sha256::digest(text.as_bytes()));
    bool::from(digest(given).ct_eq(&digest(token.expose())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_read_and_compared() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for bad in ["", "Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(bearer(bad), None, "{bad:?}");
        }
        let token = Secret::new("abc");
        assert!(same("abc", &token));
        for bad in ["", "ab", "abcd", "abC"] {
            assert!(!same(bad, &token), "{bad:?}");
        }
    }
}
