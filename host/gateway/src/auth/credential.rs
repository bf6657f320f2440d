//! Deciding about one caller.

use std::sync::Arc;

use leanclaw_types::Caller;
use leanclaw_types::frame::{ClientInfo, ConnectAuth, ConnectParams, ErrorShape, ProtocolVersion, error_code};
use leanclaw_types::redact::Secret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::auth::Peer;
use crate::auth::device::{self, Flaw, Identity};
use crate::auth::lockout::Lockout;
use crate::auth::roles::Role;
use crate::config::{Auth, Fixed, LiveConfig};
use crate::devices::{Devices, covers};

/// What would let a caller in who has nothing to show.
const HOW_TO_ENTER: [&str; 2] = [
    "set LEANCLAW_GATEWAY_API_KEY (gateway.auth.token) on the gateway and send the same token",
    "or call from the gateway's own machine, directly, without a web page or proxy between",
];

/// A caller who may enter.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// How it proved itself: `token`, `password`, `device-token` or `none`.
    pub(crate) method: &'static str,
    /// Who it is, as the host vouches for it.
    pub(crate) caller: Caller,
    /// The device it proved to be.
    pub(crate) device: Option<String>,
    /// That device's token, and when it was made.
    pub(crate) token: Option<(String, u64)>,
}

/// A caller that has proved something. What it may do is decided next.
#[derive(Debug, Clone)]
pub(crate) struct Proven {
    /// What it showed.
    pub(crate) shown: Shown,
    /// The device it proved to be.
    pub(crate) identity: Option<Identity>,
}

/// What a caller was let in by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// As [`Access::method`].
    pub(crate) method: &'static str,
    /// Who that is, when no device says more: `token`, `password`, `loopback` or `user:<name>`.
    pub(crate) principal: String,
    /// What it is good for at most.
    pub(crate) role: Role,
}

impl Shown {
    fn new(method: &'static str, role: Role) -> Self {
        let principal = if method == "none" { "loopback" } else { method };
        Self { method, principal: principal.to_owned(), role }
    }

    /// The credential that one of these texts is. All are compared, whichever matches first.
    fn find(auth: &Auth, (method, secret): (&'static str, &Secret), own: &[&str], any: &[&str]) -> Option<Self> {
        let is = |given: &[&str], secret: &Secret| given.iter().fold(false, |found, text| found | same(text, secret));
        let mut shown = is(own, secret).then(|| Self::new(method, auth.role));
        for credential in &auth.named {
            if is(any, &credential.secret) && shown.is_none() {
                let principal = format!("user:{}", credential.name);
                shown = Some(Self { method, principal, role: credential.role });
            }
        }
        shown
    }
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
    pub(crate) config: &'a Fixed,
    pub(crate) live: Arc<LiveConfig>,
    pub(crate) lockout: &'a Lockout,
    pub(crate) devices: &'a Devices,
    pub(crate) now_ms: u64,
}

/// Decides about a `connect`, in the order the real gateway checks.
pub(crate) fn decide(
    door: &Door<'_>,
    peer: &Peer,
    version: ProtocolVersion,
    connect: &ConnectParams,
    nonce: &str,
) -> Result<Proven, Refusal> {
    let role = connect.role.as_deref().unwrap_or("operator");
    if role != "operator" && role != "node" {
        return Err(Refusal { error: ErrorShape::invalid("invalid role"), code: "INVALID_ROLE" });
    }
    check_page(door, peer, &connect.client)?;
    let shared = shared(door, peer, version, connect);
    if let Shared::Locked(left_ms) = shared {
        return Err(rate_limited(version, left_ms));
    }
    let Some(proof) = &connect.device else {
        let shown = settle(door, peer, version, connect, shared)?;
        needs_device(role, &connect.client)?;
        return Ok(Proven { shown, identity: None });
    };
    let identity = device::verify(connect, proof, nonce, door.now_ms).map_err(flawed)?;
    if let Shared::Right(shown) = shared {
        door.lockout.succeeded(peer);
        return Ok(Proven { shown, identity: Some(identity) });
    }
    match device_token(door, version, connect, &identity, role) {
        Ok(true) => {
            door.lockout.succeeded(peer);
            Ok(Proven { shown: Shown::new("device-token", Role::Admin), identity: Some(identity) })
        }
        Ok(false) if matches!(shared, Shared::Page) => {
            Ok(Proven { shown: Shown::new("none", Role::Admin), identity: Some(identity) })
        }
        Ok(false) => {
            settle(door, peer, version, connect, shared).map(|shown| Proven { shown, identity: Some(identity) })
        }
        Err(refusal) => {
            door.lockout.failed(peer, door.now_ms);
            Err(refusal)
        }
    }
}

/// What the shared credential came to.
#[derive(Debug, Clone)]
enum Shared {
    /// It is right, or none is configured and the caller is local.
    Right(Shown),
    /// None is configured, and a page on this machine asks: only a paired device may.
    Page,
    Wrong,
    Missing,
    /// Nothing at all was shown, or nothing could help.
    Nothing,
    /// Too many wrong ones; milliseconds left.
    Locked(u64),
}

fn shared(door: &Door<'_>, peer: &Peer, version: ProtocolVersion, connect: &ConnectParams) -> Shared {
    let Some((method, secret)) = door.config.auth.credential() else {
        return match (peer.direct_loopback, peer.from_page) {
            (true, false) => Shared::Right(Shown::new("none", Role::Admin)),
            // A page whose request says who it is was held against the allowed origins before.
            (true, true) if peer.origin.is_some() => Shared::Page,
            _ => Shared::Nothing,
        };
    };
    let nothing = ConnectAuth::default();
    let auth = connect.auth.as_ref().unwrap_or(&nothing);
    let (own, other) = if method == "password" { (&auth.password, &auth.token) } else { (&auth.token, &auth.password) };
    // Version 3 reads the secret from its own field only; version 4 takes it from either.
    let other = other.as_deref().filter(|_| version == ProtocolVersion::V4);
    let given: Vec<&str> = own.as_deref().into_iter().chain(other).filter(|text| !text.is_empty()).collect();
    let any = [auth.token.as_deref(), auth.password.as_deref()];
    let any: Vec<&str> = any.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    let right = Shown::find(&door.config.auth, (method, secret), &given, &any);
    let locked_ms = door.lockout.locked(peer, door.now_ms);
    if let Some(left_ms) = locked_ms.filter(|_| version == ProtocolVersion::V4 || !given.is_empty() && right.is_none())
    {
        return Shared::Locked(left_ms);
    }
    if let Some(shown) = right {
        return Shared::Right(shown);
    }
    if !given.is_empty() {
        return Shared::Wrong;
    }
    let shows_anything = [&auth.token, &auth.password, &auth.device_token, &auth.bootstrap_token];
    let shows_anything = shows_anything.iter().any(|field| field.as_ref().is_some_and(|text| !text.is_empty()));
    if connect.device.is_none() && !shows_anything { Shared::Nothing } else { Shared::Missing }
}

/// Turns what the shared credential came to into an answer, and counts a wrong one.
fn settle(
    door: &Door<'_>,
    peer: &Peer,
    version: ProtocolVersion,
    connect: &ConnectParams,
    shared: Shared,
) -> Result<Shown, Refusal> {
    let kind = door.config.auth.credential().map_or("token", |(kind, _)| kind);
    match shared {
        Shared::Right(shown) => {
            door.lockout.succeeded(peer);
            Ok(shown)
        }
        Shared::Locked(left_ms) => Err(rate_limited(version, left_ms)),
        Shared::Page | Shared::Nothing => Err(nothing_to_show(peer)),
        Shared::Missing => Err(credential_refusal(kind, "missing", version, connect)),
        Shared::Wrong => {
            door.lockout.failed(peer, door.now_ms);
            Err(credential_refusal(kind, "mismatch", version, connect))
        }
    }
}

/// Whether the caller showed its device's own token.
///
/// # Errors
/// It showed one that is wrong, or that is not good for all it asks.
fn device_token(
    door: &Door<'_>,
    version: ProtocolVersion,
    connect: &ConnectParams,
    identity: &Identity,
    role: &str,
) -> Result<bool, Refusal> {
    let auth = connect.auth.as_ref();
    let own = auth.and_then(|auth| auth.device_token.as_deref()).filter(|text| !text.is_empty());
    let given = own.or_else(|| auth.and_then(|auth| auth.token.as_deref())).filter(|text| !text.is_empty());
    let Some(given) = given else { return Ok(false) };
    let device = door.devices.get(&identity.id);
    let token = device.and_then(|device| door.devices.token_shown(&device, role, given));
    let mismatch = if own.is_some() { "AUTH_DEVICE_TOKEN_MISMATCH" } else { "AUTH_TOKEN_MISMATCH" };
    match token {
        None if own.is_none() => Ok(false),
        None => Err(device_token_refusal(mismatch, "device_token_mismatch", "device token mismatch")),
        Some(token) if covers(&token.scopes, &connect.scopes) => Ok(true),
        Some(_) if version == ProtocolVersion::V4 => Err(device_token_refusal(
            "AUTH_SCOPE_MISMATCH",
            "scope_mismatch",
            "the device token is not approved for all requested scopes",
        )),
        Some(_) => Err(device_token_refusal(mismatch, "device_token_mismatch", "device token mismatch")),
    }
}

fn device_token_refusal(code: &'static str, reason: &str, what: &str) -> Refusal {
    Refusal::new(
        error_code::INVALID_REQUEST,
        code,
        format!(
            "unauthorized: {what} (connect with the gateway's shared credential once, or rotate the token with \
                 `leanclaw devices rotate`)"
        ),
        json!({"code": code, "authReason": reason, "canRetryWithDeviceToken": false,
            "recommendedNextStep": "update_auth_credentials"}),
    )
}

fn flawed(flaw: Flaw) -> Refusal {
    let (message, code, reason) = flaw.words();
    Refusal::new(error_code::INVALID_REQUEST, code, message, json!({"code": code, "reason": reason}))
}

/// Nodes and pages are known by their device only.
fn needs_device(role: &str, client: &ClientInfo) -> Result<(), Refusal> {
    let code = match role {
        "node" => "DEVICE_IDENTITY_REQUIRED",
        _ if is_page_client(client) => "CONTROL_UI_DEVICE_IDENTITY_REQUIRED",
        _ => return Ok(()),
    };
    let message = match code {
        "DEVICE_IDENTITY_REQUIRED" => "device identity required",
        _ => "control ui requires device identity (use HTTPS or localhost secure context)",
    };
    Err(Refusal::new(error_code::NOT_PAIRED, code, message, json!({"code": code})))
}

/// Whether a client is a web page by its own account.
pub(crate) fn is_page_client(client: &ClientInfo) -> bool {
    client.mode == "webchat" || matches!(client.id.as_str(), "openclaw-control-ui" | "webchat-ui")
}

fn check_page(door: &Door<'_>, peer: &Peer, client: &ClientInfo) -> Result<(), Refusal> {
    if peer.origin.is_none() && !is_page_client(client) {
        return Ok(());
    }
    peer.check_origin(&door.live).map_err(|reason| {
        Refusal::new(
            error_code::INVALID_REQUEST,
            "CONTROL_UI_ORIGIN_NOT_ALLOWED",
            "origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)",
            json!({"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": reason}),
        )
    })
}

fn credential_refusal(kind: &str, what: &str, version: ProtocolVersion, connect: &ConnectParams) -> Refusal {
    let (code, reason) = match (kind, what) {
        ("password", "missing") => ("AUTH_PASSWORD_MISSING", "password_missing"),
        ("password", _) => ("AUTH_PASSWORD_MISMATCH", "password_mismatch"),
        (_, "missing") => ("AUTH_TOKEN_MISSING", "token_missing"),
        _ => ("AUTH_TOKEN_MISMATCH", "token_mismatch"),
    };
    let hint = hint(kind, version, &connect.client);
    // Whoever has a device may have a token of its own at hand.
    let retry = what == "mismatch" && connect.device.is_some();
    let next = match what {
        _ if retry => "retry_with_device_token",
        "missing" => "update_auth_configuration",
        _ => "update_auth_credentials",
    };
    Refusal::new(
        error_code::INVALID_REQUEST,
        code,
        format!("unauthorized: gateway {kind} {what} ({hint})"),
        json!({"code": code, "authReason": reason, "canRetryWithDeviceToken": retry, "recommendedNextStep": next}),
    )
}

fn hint(kind: &str, version: ProtocolVersion, client: &ClientInfo) -> &'static str {
    match (kind, client.id.as_str(), version) {
        ("password", ..) if is_page_client(client) => "enter the password in Control UI settings",
        ("password", "cli", _) => "set gateway.remote.password to match gateway.auth.password",
        ("password", ..) => "provide gateway auth password",
        _ if is_page_client(client) => "open the dashboard URL and paste the token in Control UI settings",
        (_, "cli", ProtocolVersion::V3) => "set gateway.remote.token to match gateway.auth.token",
        (_, "cli", ProtocolVersion::V4) => "use this gateway's gateway.auth.token or pair the device",
        _ => "provide gateway auth token",
    }
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

/// Decides about a request on an authenticated HTTP route. Who shows a credential may do
/// what its role may.
pub(crate) fn decide_http(door: &Door<'_>, peer: &Peer, authorization: Option<&str>) -> Result<Access, HttpRefusal> {
    if peer.hidden_behind_proxy {
        return Err(HttpRefusal::Forbidden(
            "this request came through a proxy on the gateway's machine; add the proxy to gateway.trustedProxies",
        ));
    }
    let access = |shown: Shown| {
        let scopes = shown.role.scopes().iter().map(|scope| (*scope).to_owned()).collect();
        let caller = Caller::client(shown.principal, "operator", scopes);
        Access { method: shown.method, caller, device: None, token: None }
    };
    let Some((method, secret)) = door.config.auth.credential() else {
        if peer.direct_loopback && !peer.from_page {
            return Ok(access(Shown::new("none", Role::Admin)));
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
    let Some(shown) = Shown::find(&door.config.auth, (method, secret), &[given], &[given]) else {
        door.lockout.failed(peer, door.now_ms);
        return Err(HttpRefusal::Unauthorized);
    };
    door.lockout.succeeded(peer);
    Ok(access(shown))
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
