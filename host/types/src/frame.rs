//! Gateway frames: what travels on the WebSocket, protocol versions 3 and 4.
//!
//! Every shape is closed, as the real clients' validators are: an unknown key is an error in both directions. Reading
//! borrows from the text it reads, and `params` stays raw JSON, so that what belongs to a plugin is never re-written.
//! What a frame means (auth, scopes, methods) belongs to the gateway; the parameters of single methods live beside the
//! methods.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The protocol versions the gateway speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// Version 3.
    V3,
    /// Version 4.
    V4,
}

impl ProtocolVersion {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }

    /// Whether it is the newest one, which knows more than the one before.
    #[must_use]
    pub fn is_newest(self) -> bool {
        self == Self::V4
    }

    /// The version for a client that accepts `minimum..=maximum`: the newest one inside the range, none when there is
    /// none.
    #[must_use]
    pub fn negotiate(minimum: u64, maximum: u64) -> Option<Self> {
        [Self::V4, Self::V3].into_iter().find(|version| (minimum..=maximum).contains(&version.number()))
    }
}

/// Top-level error codes.
pub mod error_code {
    /// Bad frame or parameters, unknown method or id, failed authentication.
    pub const INVALID_REQUEST: &str = "INVALID_REQUEST";
    /// No device identity, or one that waits for approval.
    pub const NOT_PAIRED: &str = "NOT_PAIRED";
    /// Not possible now, or failed on this side.
    pub const UNAVAILABLE: &str = "UNAVAILABLE";
    /// A scope or a right is missing (version 4).
    pub const FORBIDDEN: &str = "FORBIDDEN";
}

/// A request as a client sends it, borrowed from its text.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RequestFrame<'a> {
    /// Always `req`.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// Chosen by the client, echoed in the response.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// The method.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// The parameters as they were written; absent and `null` are the same.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub params: Option<&'a RawValue>,
    /// A W3C trace context, at most 128 characters.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Cow<'a, str>>,
    /// The profile the client believes it is bound to, 1 to 128 characters.
    #[serde(rename = "expectedProfileId", default, borrow, skip_serializing_if = "Option::is_none")]
    pub expected_profile_id: Option<Cow<'a, str>>,
}

impl<'a> RequestFrame<'a> {
    /// Reads a request strictly: none when the text is not one. Why not is told by validating against
    /// [`RequestFrameShape`], which is only worth its time when this fails.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Self> {
        let frame: Self = serde_json::from_str(text).ok()?;
        let short = |text: &Option<Cow<'_, str>>| text.as_ref().is_none_or(|text| text.chars().count() <= 128);
        let good = frame.kind == "req"
            && !frame.id.is_empty()
            && !frame.method.is_empty()
            && short(&frame.traceparent)
            && short(&frame.expected_profile_id)
            && frame.expected_profile_id.as_ref().is_none_or(|profile| !profile.is_empty());
        good.then_some(frame)
    }

    /// The text of the parameters, `{}` when there are none.
    #[must_use]
    pub fn params_text(&self) -> &'a str {
        self.params.map_or("{}", RawValue::get)
    }
}

/// The schema of a request frame, for naming what is wrong with one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestFrameShape {
    /// Always `req`.
    #[serde(rename = "type")]
    #[schemars(schema_with = "request_type")]
    pub kind: String,
    /// Not empty.
    #[schemars(length(min = 1))]
    pub id: String,
    /// Not empty.
    #[schemars(length(min = 1))]
    pub method: String,
    /// Anything.
    #[serde(default)]
    pub params: Value,
    /// At most 128 characters.
    #[serde(default)]
    #[schemars(with = "String", length(max = 128))]
    pub traceparent: Option<String>,
    /// 1 to 128 characters.
    #[serde(rename = "expectedProfileId", default)]
    #[schemars(with = "String", length(min = 1, max = 128))]
    pub expected_profile_id: Option<String>,
}

fn request_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "const": "req"})
}

/// An error as a response carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ErrorShape {
    /// One of [`error_code`].
    pub code: String,
    /// For a person; some clients match on its text.
    pub message: String,
    /// For a program; by convention it has a `code` of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// Whether the same call may succeed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// When to come back, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl ErrorShape {
    /// An error with a code and a message.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: None, retryable: None, retry_after_ms: None }
    }

    /// `INVALID_REQUEST` with a message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(error_code::INVALID_REQUEST, message)
    }

    /// Adds details.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Says in `details.hints` what to do about it, where the message is the protocol's own. Details that are there are an
    /// object.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        let mut details = match self.details.take() {
            Some(Value::Object(details)) => details,
            _ => Map::new(),
        };
        let hints = details.entry("hints").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(hints) = hints {
            hints.push(Value::String(hint.into()));
        }
        self.details = Some(Value::Object(details));
        self
    }
}

/// A response, as a client reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseFrame {
    /// Always `res`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The request's id.
    pub id: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// The result, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// The error, when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorShape>,
}

/// Process-wide counters that rise when presence or health change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateVersion {
    /// Changes of presence.
    pub presence: u64,
    /// Refreshes of health.
    pub health: u64,
}

/// An event, as a client reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventFrame {
    /// Always `event`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The event's name.
    pub event: String,
    /// Its payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// Counts the broadcasts of this connection from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Only on `presence` and `health`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_version: Option<StateVersion>,
}

/// Ids a client may give itself in `client.id`.
pub const CLIENT_IDS: [&str; 17] = [
    "webchat-ui",
    "openclaw-control-ui",
    "openclaw-browser-copilot",
    "openclaw-tui",
    "webchat",
    "cli",
    "gateway-client",
    "openclaw-macos",
    "openclaw-linux",
    "openclaw-ios",
    "openclaw-watchos",
    "openclaw-android",
    "node-host",
    "openclaw-worker",
    "test",
    "fingerprint",
    "openclaw-probe",
];

/// Ids that clients of the original LeanClaw give themselves; OpenClaw has no client of these names.
pub const ORIGINAL_CLIENT_IDS: [&str; 5] =
    ["openclaw-operator", "openclaw-cli", "openclaw-ui", "openclaw-daemon", "openclaw-node"];

/// Modes a client may state in `client.mode`.
pub const CLIENT_MODES: [&str; 8] = ["webchat", "cli", "ui", "backend", "node", "worker", "probe", "test"];

fn client_id(_: &mut SchemaGenerator) -> Schema {
    let ids = [&CLIENT_IDS[..], &ORIGINAL_CLIENT_IDS[..]].concat();
    json_schema!({"type": "string", "enum": ids})
}

fn client_mode(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": CLIENT_MODES})
}

fn non_empty_strings(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string", "minLength": 1}})
}

/// Parameters of `connect`: the union of what versions 3 and 4 allow.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectParams {
    /// The lowest protocol version the client speaks.
    #[schemars(range(min = 1))]
    pub min_protocol: u64,
    /// The highest protocol version the client speaks.
    #[schemars(range(min = 1))]
    pub max_protocol: u64,
    /// What the client says it is. Nothing is decided by it that a liar could gain from.
    pub client: ClientInfo,
    /// What the client can show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "non_empty_strings")]
    pub caps: Vec<String>,
    /// Commands a node can run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "non_empty_strings")]
    pub commands: Vec<String>,
    /// A node's permissions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub permissions: BTreeMap<String, bool>,
    /// A node's `PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub path_env: Option<String>,
    /// `operator` (the default) or `node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1))]
    pub role: Option<String>,
    /// The scopes the client asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "non_empty_strings")]
    pub scopes: Vec<String>,
    /// A signed device identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeviceProof")]
    pub device: Option<DeviceProof>,
    /// Credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ConnectAuth")]
    pub auth: Option<ConnectAuth>,
    /// The client's language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub locale: Option<String>,
    /// The client's user agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub user_agent: Option<String>,
    /// Version 4; kept as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub model_catalog: Option<Value>,
    /// Version 4; kept as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub computer_use: Option<Value>,
    /// Version 4; kept as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub worker_runs: Option<Value>,
}

/// What a client says it is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientInfo {
    /// One of [`CLIENT_IDS`] or [`ORIGINAL_CLIENT_IDS`].
    #[schemars(schema_with = "client_id")]
    pub id: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1))]
    pub display_name: Option<String>,
    /// Its version.
    #[schemars(length(min = 1))]
    pub version: String,
    /// Its build, version 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 96))]
    pub build_id: Option<String>,
    /// Its operating system.
    #[schemars(length(min = 1))]
    pub platform: String,
    /// Such as `phone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1))]
    pub device_family: Option<String>,
    /// The hardware model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1))]
    pub model_identifier: Option<String>,
    /// Its time zone, version 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// One of [`CLIENT_MODES`].
    #[schemars(schema_with = "client_mode")]
    pub mode: String,
    /// Tells two copies of the same client apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1))]
    pub instance_id: Option<String>,
}

/// A signed device identity as sent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceProof {
    /// Lower-case hex SHA-256 of the raw public key.
    #[schemars(length(min = 1))]
    pub id: String,
    /// Ed25519 public key, base64url without padding.
    #[schemars(length(min = 1))]
    pub public_key: String,
    /// Signature over the device payload, base64url without padding.
    #[schemars(length(min = 1))]
    pub signature: String,
    /// When it was signed, in milliseconds since the Unix epoch.
    pub signed_at: u64,
    /// The nonce of this socket's challenge.
    #[schemars(length(min = 1))]
    pub nonce: String,
}

/// Credentials as sent. Each is compared and dropped; none is stored or logged.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConnectAuth {
    /// The shared token, or a device token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub token: Option<String>,
    /// The shared password.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub password: Option<String>,
    /// A device token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub device_token: Option<String>,
    /// A setup code's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub bootstrap_token: Option<String>,
    /// Version 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub approval_runtime_token: Option<String>,
    /// Version 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub agent_runtime_identity_token: Option<String>,
}

impl std::fmt::Debug for ConnectAuth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ConnectAuth(")?;
        formatter.write_str(crate::redact::REDACTED)?;
        formatter.write_str(")")
    }
}

/// Payload of the response to `connect`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HelloOk {
    /// Always `hello-ok`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version chosen.
    pub protocol: u64,
    /// Who answers.
    pub server: HelloServer,
    /// What it can do.
    pub features: HelloFeatures,
    /// How things stand: `presence`, `health`, `stateVersion`, `uptimeMs`, `sessionDefaults`, `authMode`.
    pub snapshot: Value,
    /// What the connection may do. Version 3 sends it only with a device token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<HelloAuth>,
    /// Bounds the client should know.
    pub policy: HelloPolicy,
}

/// The server in [`HelloOk`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloServer {
    /// The program's version.
    pub version: String,
    /// Names this start of the program (version 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Names the connection.
    pub conn_id: String,
}

/// What the server can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloFeatures {
    /// Every method that answers.
    pub methods: Vec<String>,
    /// Every event that is sent.
    pub events: Vec<String>,
    /// Further abilities (version 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
}

/// What the connection may do.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloAuth {
    /// How the caller proved itself: `token`, `password`, `device-token`, `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `operator` or `node`.
    pub role: String,
    /// The scopes it got.
    pub scopes: Vec<String>,
    /// A token of the caller's own device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_token: Option<String>,
    /// When that token was made, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at_ms: Option<u64>,
}

impl std::fmt::Debug for HelloAuth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { method, role, scopes, .. } = self;
        formatter.debug_struct("HelloAuth").field("method", method).field("role", role).field("scopes", scopes).finish()
    }
}

/// Bounds the client should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HelloPolicy {
    /// The largest frame, in bytes.
    pub max_payload: u64,
    /// The most unsent bytes before a slow client is cut off.
    pub max_buffered_bytes: u64,
    /// Milliseconds between two ticks.
    pub tick_interval_ms: u64,
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
