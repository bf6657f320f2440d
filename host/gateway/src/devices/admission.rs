//! From a proven `connect` to what the connection may do: pairing, and what is asked of an admin.

use leanclaw_types::Caller;
use leanclaw_types::frame::{ClientInfo, ConnectParams, ErrorShape, ProtocolVersion, error_code};
use serde_json::json;

use super::{About, Pending, Reason};
use crate::auth::device::Identity;
use crate::auth::{Access, Peer, Proven, Refusal, Role};
use crate::gateway::State;
use crate::hub::Event;
use crate::methods::PAIRING;

/// What a device wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) about: About,
    pub(crate) role: String,
    pub(crate) scopes: Vec<String>,
    /// What it showed, as [`super::Device::paired_by`].
    pub(crate) by: String,
}

impl From<Pending> for Wish {
    fn from(request: Pending) -> Self {
        Self { about: request.about, role: request.role, scopes: request.scopes, by: request.by }
    }
}

/// Decides what a caller that has proved itself may do.
///
/// # Errors
/// It must be paired first, or cannot be.
pub(crate) async fn admit(
    state: &State,
    peer: &Peer,
    version: ProtocolVersion,
    connect: &ConnectParams,
    proven: Proven,
) -> Result<Access, Refusal> {
    let role = connect.role.as_deref().unwrap_or("operator");
    let mut scopes: Vec<String> = Vec::new();
    for scope in &connect.scopes {
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    let shown = proven.shown;
    let mut scopes = shown.role.allow(scopes);
    let Some(identity) = proven.identity.filter(|_| !is_own_backend(&connect.client, peer, shown.method)) else {
        let caller = Caller::client(shown.principal, role, scopes);
        return Ok(Access { method: shown.method, caller, device: None, token: None });
    };
    let now_ms = state.now_ms();
    let mut access = shown.role;
    if shown.method == "device-token"
        && let Some(bound) = credential_behind(state, &identity.id)?
    {
        scopes = bound.allow(scopes);
        access = access.min(bound);
    }
    // What an admin made of a device holds whatever it shows.
    if let Some(bound) = state.devices.get(&identity.id).and_then(|device| device.access) {
        scopes = bound.allow(scopes);
        access = access.min(bound);
    }
    if role == "node" && access == Role::Viewer {
        return Err(only_looks());
    }
    if shown.method != "device-token" {
        let wish = wish(&identity, connect, peer, (role, &scopes, &shown.principal));
        if let Some(reason) = state.devices.obstacle(&wish) {
            // A node does things for others, which a credential that pairs nobody cannot begin.
            let may_be_silent = role != "node" || access == Role::Admin;
            pair(state, peer, version, (&connect.client, may_be_silent), (wish, reason)).await?;
        } else {
            state.devices.shown_again(&identity.id, &shown.principal, now_ms).await?;
        }
    }
    state.devices.note_use(&identity.id, role, now_ms);
    let caller = Caller::client(format!("device:{}", identity.id), role, scopes);
    let token = state.devices.token_text(&identity.id, role);
    Ok(Access { method: shown.method, caller, device: Some(identity.id), token })
}

/// What the credential that a device was paired with is good for now, if it has a name.
///
/// # Errors
/// It is gone, and so is what came of it.
fn credential_behind(state: &State, device: &str) -> Result<Option<Role>, Refusal> {
    let by = state.devices.get(device).and_then(|device| device.paired_by.clone());
    let Some(name) = by.as_deref().and_then(|by| by.strip_prefix("user:")) else { return Ok(None) };
    let credential = state.config.auth.named.iter().find(|credential| credential.name == name);
    credential.map(|credential| Some(credential.role)).ok_or_else(|| {
        let why = format!(
            "unauthorized: device token mismatch: the credential `{name}` (gateway.auth.users) that this device was paired \
             with is gone; connect it with another one"
        );
        let details = json!({
            "code": "AUTH_DEVICE_TOKEN_MISMATCH", "authReason": "device_token_mismatch",
            "canRetryWithDeviceToken": false, "recommendedNextStep": "update_auth_credentials",
        });
        Refusal { error: ErrorShape::invalid(why).details(details), code: "AUTH_DEVICE_TOKEN_MISMATCH" }
    })
}

fn wish(
    identity: &Identity,
    connect: &ConnectParams,
    peer: &Peer,
    (role, scopes, by): (&str, &[String], &str),
) -> Wish {
    let remote = (!peer.direct_loopback).then(|| peer.ip().to_string());
    let about = About::new(&identity.id, &identity.public_key, &connect.client, remote);
    Wish { about, role: role.to_owned(), scopes: scopes.to_vec(), by: by.to_owned() }
}

/// Who only looks is no node.
fn only_looks() -> Refusal {
    let why = "unauthorized: the role `viewer` is not good for a node; connect it with a credential of the role `user` or \
        `admin` (`gateway.auth.users`, `gateway.auth.role`), or raise its device's with `leanclaw devices role ID user`";
    let details = json!({"code": "ROLE_NOT_ALLOWED", "recommendedNextStep": "update_auth_credentials"});
    Refusal { error: ErrorShape::invalid(why).details(details), code: "ROLE_NOT_ALLOWED" }
}

/// A program's own helper with the shared credential on this machine: it is let in by that credential alone, and its
/// device is not paired.
fn is_own_backend(client: &ClientInfo, peer: &Peer, method: &str) -> bool {
    let shared = matches!(method, "token" | "password" | "none");
    shared && peer.direct_loopback && client.id == "gateway-client" && client.mode == "backend"
}

/// Pairs a client of this machine; has any other wait for an admin.
async fn pair(
    state: &State,
    peer: &Peer,
    version: ProtocolVersion,
    (client, may_be_silent): (&ClientInfo, bool),
    (wish, reason): (Wish, Reason),
) -> Result<(), Refusal> {
    let now_ms = state.now_ms();
    // A page of this gateway is as local as a program, provided that a credential told it from any other page.
    let page = !peer.from_page || (state.config.auth.is_set() && crate::auth::is_page_client(client));
    let silent = may_be_silent && reason.may_be_silent() && peer.direct_loopback && page;
    let device = wish.about.device_id.clone();
    if silent {
        let actor = format!("client:device:{device}");
        let stored = state.devices.approve(wish, "silent", &actor, now_ms).await;
        stored.map_err(|error| Refusal { error, code: "PAIRING_NOT_STORED" })?;
        resolved(state, &uuid::Uuid::new_v4().to_string(), &device, "approved");
        return Ok(());
    }
    let request = state.devices.ask(wish, reason, false, now_ms);
    if let Ok(payload) = serde_json::to_string(&request) {
        state.hub.broadcast(Event::new("device.pair.requested", &payload).scope(PAIRING));
    }
    tracing::info!(
        device,
        reason = reason.name(),
        request = request.request_id,
        "a device waits for approval; `leanclaw devices list` shows it"
    );
    Err(must_be_paired(state, version, &request, reason))
}

/// Tells those who may pair what became of a request.
pub(crate) fn resolved(state: &State, request: &str, device: &str, decision: &str) {
    let payload = json!({"requestId": request, "deviceId": device, "decision": decision, "ts": state.now_ms()});
    state.hub.broadcast(Event::new("device.pair.resolved", &payload.to_string()).scope(PAIRING));
}

fn must_be_paired(state: &State, version: ProtocolVersion, request: &Pending, reason: Reason) -> Refusal {
    let refusal = |error: ErrorShape| Refusal { error, code: "PAIRING_REQUIRED" };
    let hint = format!("leanclaw devices approve {}", request.request_id);
    if version == ProtocolVersion::V3 {
        let details = json!({
            "code": "PAIRING_REQUIRED", "requestId": request.request_id, "reason": reason.name(), "hints": [hint],
        });
        return refusal(ErrorShape::new(error_code::NOT_PAIRED, "pairing required").details(details));
    }
    let why = match reason {
        Reason::NotPaired => "device is not approved yet",
        Reason::RoleUpgrade => "device is asking for a higher role than currently approved",
        Reason::ScopeUpgrade => "device is asking for more scopes than currently approved",
        Reason::MetadataUpgrade => "device identity changed and must be re-approved",
    };
    let mut details = json!({
        "code": "PAIRING_REQUIRED", "reason": reason.name(), "requestId": request.request_id,
        "remediationHint": format!("Approve this device with `{hint}`."),
        "deviceId": request.about.device_id, "requestedRole": request.role, "requestedScopes": request.scopes,
        "recommendedNextStep": "wait_then_retry", "retryable": false, "pauseReconnect": true,
    });
    if let (Some(device), Some(details)) = (state.devices.get(&request.about.device_id), details.as_object_mut()) {
        details.insert("approvedRoles".into(), json!(device.roles));
        details.insert("approvedScopes".into(), json!(device.scopes));
    }
    refusal(ErrorShape::new(error_code::NOT_PAIRED, format!("pairing required: {why}")).details(details))
}
