//! What goes over HTTP as JSON, for the description at `/openapi.json`. A test holds real answers to it.

use schemars::JsonSchema;
use serde_json::{Map, Value};

/// The process answers.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct Live {
    ok: bool,
    /// `live`.
    status: String,
}

/// Whether every part can serve.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct Ready {
    ready: bool,
    /// Names of the parts that cannot; only for who is local or shows the credential.
    #[serde(default)]
    failing: Vec<String>,
    #[serde(default)]
    uptime_ms: u64,
    /// Why they cannot.
    #[serde(default)]
    details: Vec<Part>,
}

/// A part that cannot serve.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct Part {
    name: String,
    reason: String,
}

/// Whether the gateway takes connections.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct Started {
    ok: bool,
    /// `started` or `draining`.
    status: String,
}

/// How the Control UI is to be shown.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct PageSettings {
    /// The path that the page is served below; empty at the top.
    base_path: String,
    assistant_name: String,
    assistant_avatar: String,
    assistant_agent_id: String,
    /// Which program this is, and all below: only for who is on this machine or shows the credential.
    #[serde(default)]
    server_version: String,
    #[serde(default)]
    terminal_enabled: bool,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// An agent's picture.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct Picture {
    /// The picture itself, as a `data:` address; none where the agent has none.
    avatar_url: Option<String>,
    /// `data` or `none`.
    avatar_status: String,
    /// Why there is none: `missing`.
    avatar_reason: Option<String>,
    /// Always null.
    avatar_source: Option<String>,
}

/// Counters of the program and its plugins.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct Metrics {
    status: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// A call of a tool. `name` and `toolName` are the same as `tool`, `params` the same as `args`.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct ToolCall {
    tool: String,
    #[serde(default)]
    args: Map<String, Value>,
    /// The session it is called for.
    #[serde(default)]
    session_key: Option<String>,
    /// Only looks whether there is such a tool.
    #[serde(default)]
    dry_run: bool,
}

/// What a tool answered.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct ToolAnswer {
    /// `true`.
    ok: bool,
    /// None when it was only looked for.
    #[serde(default)]
    result: Option<ToolResult>,
    #[serde(default)]
    dry_run: bool,
}

/// What came of a tool.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct ToolResult {
    /// Parts with a `type`: `text`, `image`, `file`.
    content: Vec<Map<String, Value>>,
    /// The same for programs.
    #[serde(default)]
    details: Value,
}

/// A tool could not be called, or failed.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct ToolError {
    /// `false`.
    ok: bool,
    error: Why,
}

/// Something went wrong.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct Error {
    error: Why,
}

/// Something went wrong; some say `ok: false` besides.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct AnyError {
    #[serde(default)]
    ok: bool,
    error: Why,
}

/// What went wrong.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct Why {
    message: String,
    /// Such as `unauthorized`, `rate_limited`, `not_found`.
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    details: Value,
}

/// An event for an agent.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct HookWake {
    text: String,
    /// `now` (the default) or `next-heartbeat`.
    #[serde(default)]
    mode: Option<String>,
}

/// A message for an agent.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct HookAgent {
    message: String,
    /// `main` where none is named.
    #[serde(default)]
    agent_id: Option<String>,
    /// Only where `hooks.allowRequestSessionKey` is true; else the run has a session of its own.
    #[serde(default)]
    session_key: Option<String>,
    /// How much the model may think: `off`, `minimal`, `low`, `medium`, `high`, `xhigh` or `adaptive`.
    #[serde(default)]
    thinking: Option<String>,
    /// How long the run may take.
    #[serde(default)]
    timeout_seconds: Option<u64>,
    /// Stands for this run, however often it is asked for; the header `Idempotency-Key` does too.
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// An event is stored, or a run is taken on.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct HookTaken {
    /// `true`.
    ok: bool,
    /// Of an event: `now` or `next-heartbeat`.
    #[serde(default)]
    mode: Option<String>,
    /// Of an event: `queued`.
    #[serde(default)]
    event_outcome: Option<String>,
    /// Of a run: its name.
    #[serde(default)]
    run_id: Option<String>,
}

/// A hook could not be carried out.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is all that counts")]
pub(super) struct HookRefused {
    /// `false`.
    ok: bool,
    error: String,
}
