//! `device.pair.*` and `device.token.*`: who may connect, and with what token.
//!
//! Nobody gives a device more than they hold themselves. Whatever is taken back closes the device's connections at once.

use std::sync::{Arc, LazyLock};

use leanclaw_types::Caller;
use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::Role;
use crate::connection::{Answer, Call, audit_missing_scope};
use crate::devices::{Device, covers, resolved, unknown_device};
use crate::phrase::Shape;
use crate::wire::Payload;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    #[schemars(length(min = 1))]
    request_id: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Which {
    #[schemars(length(min = 1))]
    device_id: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rename {
    #[schemars(length(min = 1))]
    device_id: String,
    #[schemars(length(min = 1, max = 64))]
    label: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SetRole {
    #[schemars(length(min = 1))]
    device_id: String,
    #[serde(default)]
    role: Option<Role>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TokenOf {
    #[schemars(length(min = 1))]
    device_id: String,
    #[schemars(length(min = 1))]
    role: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rotate {
    #[schemars(length(min = 1))]
    device_id: String,
    #[schemars(length(min = 1))]
    role: String,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    scopes: Option<Vec<String>>,
}

/// What a device hears whose connections end, and what did it.
const REMOVED: &str = "access was taken back: this device was removed (device.pair.remove)";
const ANOTHER_ROLE: &str = "access was changed: this device has another role (device.role.set); connect again";
const ROTATED: &str =
    "access was taken back: this device's token was rotated (device.token.rotate); connect with the new one";
const REVOKED: &str = "access was taken back: this device's token was revoked (device.token.revoke)";

static REQUEST: LazyLock<Shape> = LazyLock::new(Shape::of::<Request>);
static WHICH: LazyLock<Shape> = LazyLock::new(Shape::of::<Which>);
static RENAME: LazyLock<Shape> = LazyLock::new(Shape::of::<Rename>);
static SET_ROLE: LazyLock<Shape> = LazyLock::new(Shape::of::<SetRole>);
static TOKEN_OF: LazyLock<Shape> = LazyLock::new(Shape::of::<TokenOf>);
static ROTATE: LazyLock<Shape> = LazyLock::new(Shape::of::<Rotate>);

/// `device.pair.list {}` → `{pending, paired}`.
pub(crate) fn list(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    let devices = &call.state.devices;
    let connected = call.state.hub.sessions();
    let row = |device: Arc<Device>| {
        let id = &device.about.device_id;
        let mut shown = device.shown(call.session.version);
        if let Some(tokens) = shown.get_mut("tokens").and_then(Value::as_array_mut) {
            for token in tokens.iter_mut().filter_map(Value::as_object_mut) {
                let role = token.get("role").and_then(Value::as_str).unwrap_or_default();
                if let Some(at_ms) = devices.last_used(id, role) {
                    token.insert("lastUsedAtMs".into(), json!(at_ms));
                }
            }
        }
        if call.session.version.is_newest()
            && let Some(shown) = shown.as_object_mut()
        {
            let here = connected.iter().any(|session| session.device.as_ref() == Some(id));
            shown.insert("connected".into(), json!(here));
        }
        shown
    };
    let paired: Vec<Value> = devices.all().into_iter().map(row).collect();
    Ok(Answer::json(&json!({"pending": devices.pending(call.state.now_ms()), "paired": paired})))
}

/// `device.pair.approve {requestId}` → `{requestId, device}`.
pub(crate) fn approve(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let request: Request = call.read(&REQUEST, &[])?;
    Ok(call.later(|state, session| async move {
        let now_ms = state.now_ms();
        let pending = state.devices.take(&request.request_id, now_ms, |pending| {
            if covers(&session.caller.scopes, &pending.scopes) {
                return Ok(());
            }
            let missing = missing(&session.caller.scopes, &pending.scopes);
            audit_missing_scope(&state, &session.caller, "device.pair.approve", &missing);
            Err(ErrorShape::invalid(format!("missing scope: {missing}")))
        })?;
        let approved = state.devices.approve(pending.clone().into(), "owner", &session.caller.actor(), now_ms).await;
        let device = approved.inspect_err(|_| state.devices.put_back(pending.clone()))?;
        resolved(&state, &request.request_id, &device.about.device_id, "approved");
        Ok(Payload::json(&json!({"requestId": request.request_id, "device": device.shown(session.version)})))
    }))
}

/// `device.pair.reject {requestId}` → `{requestId, deviceId}`.
pub(crate) fn reject(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let request: Request = call.read(&REQUEST, &[])?;
    Ok(call.later(|state, session| async move {
        let now_ms = state.now_ms();
        let pending = state.devices.take(&request.request_id, now_ms, |_| Ok(()))?;
        let written = state.devices.rejected(&pending, &session.caller.actor(), now_ms).await;
        written.inspect_err(|_| state.devices.put_back(pending.clone()))?;
        let device = &pending.about.device_id;
        resolved(&state, &pending.request_id, device, "rejected");
        Ok(Payload::json(&json!({"requestId": pending.request_id, "deviceId": device})))
    }))
}

/// `device.pair.remove {deviceId}` → `{deviceId}`. What it was approved for as a node goes with it.
pub(crate) fn remove(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let which: Which = call.read(&WHICH, &[])?;
    Ok(call.later(|state, session| async move {
        let (id, now_ms) = (&which.device_id, state.now_ms());
        state.devices.remove(id, &state.nodes, &session.caller.actor(), now_ms).await?;
        state.hub.close_where(|other| (other.device.as_ref() == Some(id)).then_some(REMOVED));
        state.nodes.withdraw(id);
        Ok(Payload::json(&json!({"deviceId": which.device_id})))
    }))
}

/// `device.pair.rename {deviceId, label}` → `{deviceId, label}`.
pub(crate) fn rename(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let rename: Rename = call.read(&RENAME, &[])?;
    Ok(call.later(|state, session| async move {
        let (actor, label) = (session.caller.actor(), rename.label.clone());
        let what = ("renamed", actor.as_str(), state.now_ms());
        let change = |device: &mut Device| {
            device.label = Some(label);
            Ok(())
        };
        state.devices.change(&rename.device_id, what, change).await?;
        Ok(Payload::json(&json!({"deviceId": rename.device_id, "label": rename.label})))
    }))
}

/// `device.role.set {deviceId, role}` → `{deviceId, role}`: what a device is good for at most; no role takes the bound
/// away. Its connections end, so that it comes back with what it may.
pub(crate) fn set_role(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let set: SetRole = call.read(&SET_ROLE, &[])?;
    Ok(call.later(|state, session| async move {
        let (actor, access) = (session.caller.actor(), set.role);
        let what = ("role-changed", actor.as_str(), state.now_ms());
        let change = |device: &mut Device| {
            device.access = access;
            Ok(())
        };
        state.devices.change(&set.device_id, what, change).await?;
        // Its own as well, if it set that itself: by then the answer is on its way.
        state.hub.close_where(|other| (other.device.as_ref() == Some(&set.device_id)).then_some(ANOTHER_ROLE));
        Ok(Payload::json(&json!({"deviceId": set.device_id, "role": access})))
    }))
}

/// `device.token.rotate {deviceId, role, scopes?}` → `{deviceId, role, scopes, rotatedAtMs}` and the new token, which
/// version 4 gives to the device itself only.
pub(crate) fn rotate(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let rotate: Rotate = call.read(&ROTATE, &[])?;
    let unknown = unknown_token(call.session.version, "rotation");
    Ok(call.later(|state, session| async move {
        let (actor, now_ms, salt) = (session.caller.actor(), state.now_ms(), state.devices.salt()?);
        let Rotate { device_id, role, scopes } = rotate;
        let what = ("token-rotated", actor.as_str(), now_ms);
        let change = |device: &mut Device| {
            let approved = device.scopes.clone();
            let token = device.tokens.iter_mut().find(|token| token.role == role).ok_or_else(|| unknown.clone())?;
            // A token that is made anew is given, also one that was revoked: with no other scopes named, those that it had.
            let wanted = scopes.unwrap_or_else(|| token.scopes.clone());
            if let Some(holder) = [&approved, &session.caller.scopes].into_iter().find(|have| !covers(have, &wanted)) {
                audit_missing_scope(&state, &session.caller, "device.token.rotate", &missing(holder, &wanted));
                return Err(unknown.clone());
            }
            token.scopes = wanted;
            token.scopes.sort();
            token.scopes.dedup();
            token.salt = salt;
            token.rotated_at_ms = Some(now_ms);
            token.revoked_at_ms = None;
            Ok(token.scopes.clone())
        };
        let scopes = state.devices.change(&device_id, what, change).await;
        let scopes = scopes.map_err(|error| if error == unknown_device() { unknown } else { error })?;
        let own = session.device.as_ref() == Some(&device_id);
        // Whoever came in by the old token has to show the new one.
        state.hub.close_where(|other| {
            let is_of_token = other.device.as_ref() == Some(&device_id) && other.caller.role == role;
            (is_of_token && other.id != session.id).then_some(ROTATED)
        });
        let mut answer = json!({"deviceId": device_id, "role": role, "scopes": scopes, "rotatedAtMs": now_ms});
        if let Some(answer) = answer.as_object_mut() {
            let newest = session.version.is_newest();
            if own || !newest {
                let text = state.devices.token_text(&device_id, &role).map(|(text, _)| text);
                answer.insert("token".into(), json!(text));
            }
            if newest {
                let delivery = if own { "in-band" } else { "withheld-cross-device" };
                answer.insert("tokenDelivery".into(), json!(delivery));
            }
        }
        Ok(Payload::json(&answer))
    }))
}

/// `device.token.revoke {deviceId, role}` → `{deviceId, role, revokedAtMs}`.
pub(crate) fn revoke(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let token_of: TokenOf = call.read(&TOKEN_OF, &[])?;
    let unknown = unknown_token(call.session.version, "revocation");
    Ok(call.later(|state, session| async move {
        let (actor, now_ms) = (session.caller.actor(), state.now_ms());
        let TokenOf { device_id, role } = token_of;
        let change = |device: &mut Device| {
            let token = device.tokens.iter_mut().find(|token| token.role == role).ok_or_else(|| unknown.clone())?;
            token.revoked_at_ms = Some(now_ms);
            Ok(())
        };
        let what = ("token-revoked", actor.as_str(), now_ms);
        let revoked = state.devices.change(&device_id, what, change).await;
        revoked.map_err(|error| if error == unknown_device() { unknown } else { error })?;
        state.hub.close_where(|other| {
            let is_of_token = other.device.as_ref() == Some(&device_id) && other.caller.role == role;
            is_of_token.then_some(REVOKED)
        });
        Ok(Payload::json(&json!({"deviceId": device_id, "role": role, "revokedAtMs": now_ms})))
    }))
}

/// `gateway.identity.get` → `{deviceId, publicKey}`. Parameters are ignored, as the real gateway ignores them.
pub(crate) fn identity(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let (device_id, public_key) = call.state.keys.identity();
    Ok(Answer::json(&json!({"deviceId": device_id, "publicKey": public_key})))
}

/// The first scope that is wanted and not had.
fn missing(had: &[String], wanted: &[String]) -> String {
    let holder = Caller::client("", "", had.to_vec());
    wanted.iter().find(|scope| !holder.holds(scope)).cloned().unwrap_or_default()
}

fn unknown_token(version: ProtocolVersion, what: &str) -> ErrorShape {
    let error = match version {
        ProtocolVersion::V3 => ErrorShape::invalid("unknown deviceId/role"),
        ProtocolVersion::V4 => ErrorShape::invalid(format!("device token {what} denied")),
    };
    error.hint(
        "leanclaw devices list shows which tokens a device has; nobody gives one more than the device and they themselves have",
    )
}
