//! What a caller is told who is not let in: the codes and words that clients know, and what would help.

use leanclaw_types::frame::{ClientInfo, ConnectParams, ProtocolVersion, error_code};
use leanclaw_types::text::shown;
use serde_json::json;

use crate::auth::Peer;
use crate::auth::credential::{Refusal, is_page_client};
use crate::auth::device::Flaw;

/// What would let a caller in who has nothing to show.
const HOW_TO_ENTER: [&str; 2] = [
    "set LEANCLAW_GATEWAY_API_KEY (gateway.auth.token) on the gateway and send the same token",
    "or call from the gateway's own machine, directly, without a web page or proxy between",
];

pub(super) fn device_token_refusal(code: &'static str, reason: &str, what: &str) -> Refusal {
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

pub(super) fn flawed(flaw: Flaw) -> Refusal {
    let (message, code, reason) = flaw.words();
    let mut refusal = Refusal::new(error_code::INVALID_REQUEST, code, message, json!({"code": code, "reason": reason}));
    if flaw == Flaw::Stale {
        let hint = "the clocks of the two machines differ by more than two minutes: set them right";
        refusal.error = refusal.error.hint(hint);
    }
    refusal
}

/// It came through a proxy that was believed when it came, and is trusted no more.
pub(super) fn distrusted() -> Refusal {
    Refusal::new(
        error_code::INVALID_REQUEST,
        "PROXY_NOT_TRUSTED",
        "unauthorized: a proxy in between is no longer trusted (add its address to gateway.trustedProxies)",
        json!({"code": "PROXY_NOT_TRUSTED", "recommendedNextStep": "review_auth_configuration"}),
    )
}

pub(super) fn credential_refusal(kind: &str, what: &str, version: ProtocolVersion, connect: &ConnectParams) -> Refusal {
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

pub(super) fn rate_limited(version: ProtocolVersion, left_ms: u64) -> Refusal {
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
    if version.is_newest() {
        refusal.error.retryable = Some(true);
        refusal.error.retry_after_ms = Some(left_ms);
    }
    refusal
}

pub(super) fn nothing_to_show(peer: &Peer) -> Refusal {
    let mut hints: Vec<String> = HOW_TO_ENTER.iter().map(|hint| (*hint).to_owned()).collect();
    if let Some(origin) = &peer.origin {
        let shown = shown(origin, 200);
        hints.insert(0, format!("the web page {shown} may only connect with the gateway's token"));
    }
    Refusal::new(
        error_code::NOT_PAIRED,
        "DEVICE_IDENTITY_REQUIRED",
        "device identity required",
        json!({"code": "DEVICE_IDENTITY_REQUIRED", "hints": hints}),
    )
}
