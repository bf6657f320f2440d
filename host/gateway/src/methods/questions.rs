//! What clients say when they ask for an approval, and what of it who answers is shown.
//!
//! Who answers is shown all that bears on the decision, and no value of an environment. Who may answer is not up to who asks,
//! so names of devices that should review are read and not gone by.

use std::collections::BTreeMap;

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::decisions::DECISIONS;

/// Fields of a command that approvers are shown, in their order; what was not given is shown as null.
pub(super) const SHOWN: [&str; 15] = [
    "command",
    "systemRunBinding",
    "systemRunPlan",
    "cwd",
    "nodeId",
    "host",
    "security",
    "ask",
    "agentId",
    "resolvedPath",
    "sessionKey",
    "turnSourceChannel",
    "turnSourceTo",
    "turnSourceAccountId",
    "turnSourceThreadId",
];
/// Fields that they are shown where they were given: version 3 knows none of them.
const ALSO_SHOWN: [&str; 7] =
    ["commandArgv", "warningText", "scope", "unavailableDecisions", "sessionId", "runId", "toolCallId"];

/// What an approval is about, in numbers and names, where whoever asks knows that.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Scope {
    MessageSend {
        #[schemars(length(min = 1, max = 128))]
        target: String,
        #[schemars(range(min = 1, max = 1_000_000))]
        recipient_count: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(length(max = 5), inner(length(min = 1, max = 128)))]
        recipients: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Audience")]
        audience: Option<Audience>,
    },
    Payment {
        #[schemars(length(min = 1, max = 40))]
        amount: String,
        #[schemars(length(min = 1, max = 12))]
        currency: String,
        #[schemars(length(min = 1, max = 128))]
        target: String,
    },
    ExternalPost {
        #[schemars(length(min = 1, max = 128))]
        target: String,
        visibility: Visibility,
    },
    StandingGrant {
        #[schemars(length(min = 1, max = 128))]
        automation: String,
        #[schemars(length(min = 1, max = 256))]
        command: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "u64", range(min = 1, max = 3650))]
        expires_in_days: Option<u64>,
    },
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Audience {
    Internal,
    External,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Visibility {
    Public,
    Restricted,
}

/// A number or a text: channels call their threads by either.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Thread {
    Name(String),
    Number(serde_json::Number),
}

/// How a node prepared to run the command; what it says there is checked by the node itself.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Plan {
    argv: Vec<String>,
    cwd: Option<String>,
    command_text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command_preview: Option<String>,
    agent_id: Option<String>,
    session_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    policy_snapshot: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mutable_file_operand: Option<MutableFile>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MutableFile {
    argv_index: u64,
    path: String,
    sha256: String,
}

/// A part of the command that is to be set off, in UTF-16 code units.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Span {
    start_index: u64,
    #[schemars(range(min = 1))]
    end_index: u64,
}

/// What somebody who asks for a command can leave out.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum MayBeUnavailable {
    AllowAlways,
}

/// How a question waits for its answer.
pub(super) struct Waiting {
    pub(super) timeout_ms: Option<u64>,
    pub(super) two_phase: bool,
    /// Whether it ends at once when nobody is told of it who could answer.
    pub(super) needs_route: bool,
    pub(super) is_quiet: bool,
}

/// `exec.approval.request`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AskCommand {
    #[serde(default, skip_serializing)]
    #[schemars(with = "String", length(min = 1))]
    pub(super) id: Option<String>,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    command: Option<String>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    command_argv: Option<Vec<String>>,
    #[serde(default)]
    #[schemars(with = "Plan")]
    system_run_plan: Option<Plan>,
    #[serde(default, skip_serializing)]
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    #[schemars(length(min = 1))]
    node_id: Option<String>,
    host: Option<String>,
    security: Option<String>,
    ask: Option<String>,
    warning_text: Option<String>,
    #[serde(default)]
    #[schemars(with = "Scope")]
    scope: Option<Scope>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 1))]
    unavailable_decisions: Vec<MayBeUnavailable>,
    #[serde(default, skip_serializing)]
    command_spans: Vec<Span>,
    agent_id: Option<String>,
    resolved_path: Option<String>,
    session_key: Option<String>,
    session_id: Option<String>,
    run_id: Option<String>,
    tool_call_id: Option<String>,
    turn_source_channel: Option<String>,
    turn_source_to: Option<String>,
    turn_source_account_id: Option<String>,
    turn_source_thread_id: Option<Thread>,
    #[serde(default, rename = "approvalReviewerDeviceIds", skip_serializing)]
    #[schemars(inner(length(min = 1)))]
    _approval_reviewer_device_ids: Vec<String>,
    /// Said to be false, it waits although nobody is there who could answer.
    #[serde(default, skip_serializing)]
    #[schemars(with = "bool")]
    require_delivery_route: Option<bool>,
    /// Nobody is told that it waits.
    #[serde(default, skip_serializing)]
    suppress_delivery: bool,
    /// Questions go to clients that can answer them, and nowhere else.
    #[serde(default, rename = "deliverToApprovalClientsOnly", skip_serializing)]
    _deliver_to_approval_clients_only: bool,
    #[serde(default, skip_serializing)]
    #[schemars(with = "u64", range(min = 1))]
    timeout_ms: Option<u64>,
    #[serde(default, skip_serializing)]
    two_phase: bool,
}

impl AskCommand {
    pub(super) fn waiting(&self) -> Waiting {
        Waiting {
            timeout_ms: self.timeout_ms,
            two_phase: self.two_phase,
            needs_route: self.require_delivery_route != Some(false),
            is_quiet: self.suppress_delivery,
        }
    }

    /// What they are shown who may answer.
    ///
    /// # Errors
    /// There is no command.
    pub(super) fn request(self, version: ProtocolVersion) -> Result<Value, ErrorShape> {
        let of_plan = self.system_run_plan.as_ref();
        let command = self.command.clone().or_else(|| self.command_argv.as_ref().map(|words| words.join(" ")));
        let command = command.or_else(|| of_plan.map(|plan| plan.command_text.clone()));
        let Some(command) = command.filter(|command| !command.trim().is_empty()) else {
            return Err(ErrorShape::invalid("command is required"));
        };
        let always_asks = self.ask.as_deref() == Some("always") && version == ProtocolVersion::V4;
        let may_always = !always_asks && self.unavailable_decisions.is_empty();
        let mut given = match serde_json::to_value(&self) {
            Ok(Value::Object(given)) => given,
            _ => Map::new(),
        };
        let spans = spans(&self.command_spans, &command);
        given.insert("command".into(), json!(command));
        let mut request = Map::new();
        for field in SHOWN {
            request.insert(field.to_owned(), given.shift_remove(field).unwrap_or(Value::Null));
        }
        let more = ALSO_SHOWN.into_iter().filter_map(|field| Some((field.to_owned(), given.shift_remove(field)?)));
        request.extend(more.filter(|(_, value)| !value.is_null()));
        if !spans.is_empty() {
            request.insert("commandSpans".into(), json!(spans));
        }
        if !self.env.is_empty() {
            request.insert("envKeys".into(), self.env.into_keys().collect());
        }
        if !may_always || version == ProtocolVersion::V4 {
            let allowed = DECISIONS.into_iter().filter(|decision| may_always || *decision != "allow-always");
            request.insert("allowedDecisions".into(), allowed.collect());
        }
        Ok(Value::Object(request))
    }
}

/// Those parts that are within the command and do not overlap, in their order: they only set off what is shown anyway.
fn spans(given: &[Span], command: &str) -> Vec<Span> {
    let end = command.encode_utf16().count() as u64;
    let mut fitting: Vec<Span> =
        given.iter().filter(|span| span.start_index < span.end_index && span.end_index <= end).copied().collect();
    fitting.sort_by_key(|span| (span.start_index, std::cmp::Reverse(span.end_index)));
    let mut from = 0;
    fitting.retain(|span| {
        let is_behind = span.start_index >= from;
        if is_behind {
            from = span.end_index;
        }
        is_behind
    });
    fitting
}

/// What somebody who asks for a plugin lets be decided.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Allowed {
    AllowOnce,
    AllowAlways,
    Deny,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Info,
    Warning,
    Critical,
}

/// A tool of a server that speaks MCP.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct McpTool {
    #[schemars(regex(pattern = r"\S"))]
    server: String,
    #[schemars(regex(pattern = r"\S"))]
    tool: String,
}

/// `plugin.approval.request`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AskPlugin {
    #[schemars(length(min = 1, max = 80))]
    title: String,
    #[schemars(length(min = 1, max = 512))]
    description: String,
    #[schemars(length(min = 1))]
    plugin_id: Option<String>,
    #[schemars(length(min = 1, max = 16_384))]
    detail: Option<String>,
    severity: Option<Severity>,
    scope: Option<Scope>,
    tool_name: Option<String>,
    tool_call_id: Option<String>,
    #[serde(default)]
    #[schemars(with = "McpTool")]
    mcp_tool: Option<McpTool>,
    #[schemars(length(min = 1, max = 3))]
    allowed_decisions: Option<Vec<Allowed>>,
    agent_id: Option<String>,
    session_key: Option<String>,
    #[serde(default, rename = "approvalReviewerDeviceIds", skip_serializing)]
    _approval_reviewer_device_ids: Option<Vec<String>>,
    turn_source_channel: Option<String>,
    turn_source_to: Option<String>,
    turn_source_account_id: Option<String>,
    turn_source_thread_id: Option<Thread>,
    #[serde(default, skip_serializing)]
    #[schemars(with = "u64", range(min = 1, max = 600_000))]
    timeout_ms: Option<u64>,
    #[serde(default, skip_serializing)]
    two_phase: bool,
}

impl AskPlugin {
    pub(super) fn waiting(&self) -> Waiting {
        Waiting { timeout_ms: self.timeout_ms, two_phase: self.two_phase, needs_route: true, is_quiet: false }
    }

    /// What they are shown who may answer: what was given. To deny is always possible.
    pub(super) fn request(self) -> Value {
        let mut request = match serde_json::to_value(&self) {
            Ok(Value::Object(request)) => request,
            _ => Map::new(),
        };
        request.retain(|_, value| !value.is_null());
        if let Some(Value::Array(named)) = request.get("allowedDecisions") {
            let may = |decision: &&str| *decision == "deny" || named.iter().any(|named| named == decision);
            let allowed: Value = DECISIONS.into_iter().filter(may).collect();
            request.insert("allowedDecisions".into(), allowed);
        }
        Value::Object(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(given: &[(u64, u64)], command: &str) -> Vec<(u64, u64)> {
        let given: Vec<Span> = given
            .iter()
            .map(|(start_index, end_index)| Span { start_index: *start_index, end_index: *end_index })
            .collect();
        spans(&given, command).iter().map(|span| (span.start_index, span.end_index)).collect()
    }

    #[test]
    fn only_what_is_within_the_command_is_set_off() {
        assert_eq!(places(&[(5, 7), (0, 2), (1, 4), (0, 1), (6, 8), (3, 3)], "ls \u{1f980} x"), [(0, 2), (5, 7)]);
        assert_eq!(places(&[(0, 3)], "ls"), []);
    }
}
