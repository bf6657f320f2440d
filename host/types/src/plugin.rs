//! What the rest of the program, the CLI and gateway clients see of a plugin.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{AccountId, PluginId};
use crate::manifest::Lifecycle;
use crate::permission::Permissions;

/// Where a plugin stands. Shown with a reason by the CLI, `plugins.list`, the log and the readiness probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginState {
    /// Being read, compiled or linked.
    Loading,
    /// Waits for an admin: nothing was granted yet, or a new version asks for more.
    NeedsGrant,
    /// Serves calls.
    Ready,
    /// Fails again and again, or cannot be loaded.
    Faulted,
    /// Switched off, or holds no component.
    Disabled,
}

impl PluginState {
    /// The state as it is written everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::NeedsGrant => "needs-grant",
            Self::Ready => "ready",
            Self::Faulted => "faulted",
            Self::Disabled => "disabled",
        }
    }
}

/// One plugin (and account) as listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginInfo {
    /// The plugin's id.
    pub id: PluginId,
    /// The account.
    pub account: AccountId,
    /// The name for people.
    pub name: String,
    /// The version its manifest states.
    pub version: String,
    /// The description its manifest states.
    pub description: String,
    /// Where it stands.
    pub state: PluginState,
    /// Why it stands there and what to do, one or more lines; empty when ready.
    pub reason: String,
    /// What the component exports, as far as it was ever looked at: `channel`, `skill`, `method`, `hook`, `webhook`, `poll`, `socket`, `http`.
    pub exports: Vec<String>,
    /// Ids of the channels that its manifest says it serves.
    #[serde(default)]
    pub channels: Vec<String>,
    /// Lifecycle of its instances.
    pub lifecycle: Lifecycle,
    /// What the manifest asks for.
    pub requested: Permissions,
    /// What an admin granted and the manifest asks for; none when nothing was granted.
    pub granted: Option<Permissions>,
    /// Text forms of what is asked for and not granted.
    pub missing: Vec<String>,
    /// Names of its tools.
    pub tools: Vec<String>,
    /// Names of its gateway methods, with the plugin's id in front.
    pub methods: Vec<String>,
    /// Lower-case hex SHA-256 of the component; none when there is no component.
    pub sha256: Option<String>,
    /// Where it was found.
    pub path: String,
    /// Counters since the program started.
    pub stats: PluginStats,
}

/// What was deleted of a plugin, of all its accounts together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Purged {
    /// Accounts that had been granted something.
    pub grants: u64,
    /// Secrets.
    pub secrets: u64,
    /// Messages that it had handed in.
    pub messages: u64,
    /// Entries of its key-value store.
    pub kv_entries: u64,
}

/// Counters of one plugin since the program started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStats {
    /// Guest calls.
    pub calls: u64,
    /// Calls that ended in a failure the guest returned.
    pub failures: u64,
    /// Calls that ended in a trap.
    pub traps: u64,
    /// Calls that ran out of time.
    pub timeouts: u64,
    /// Times a resident instance was built anew after a fault.
    pub restarts: u64,
    /// Highest linear memory of one instance, in bytes.
    pub peak_memory_bytes: u64,
    /// Denied outgoing requests.
    pub egress_denied: u64,
}

/// One gateway method of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MethodSpec {
    /// The plugin.
    pub plugin: PluginId,
    /// The name without the plugin's id.
    pub name: String,
    /// One or two sentences.
    pub description: String,
    /// The operator scope a caller needs.
    pub scope: String,
    /// JSON Schema of the parameters.
    pub params_schema: Value,
    /// JSON Schema of the result.
    pub result_schema: Value,
    /// Anything further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

impl MethodSpec {
    /// The name on the wire: `<plugin>.<method>`.
    #[must_use]
    pub fn wire_name(&self) -> String {
        self.shown().to_string()
    }

    /// [`Self::wire_name`], made only where it is shown.
    pub fn shown(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(move |out| write!(out, "{}.{}", self.plugin, self.name))
    }
}

/// One tool of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolSpec {
    /// The plugin.
    pub plugin: PluginId,
    /// The tool's name, unique among all loaded plugins.
    pub name: String,
    /// What a model reads to choose it.
    pub description: String,
    /// JSON Schema of the input.
    pub input_schema: Value,
    /// JSON Schema of the structured output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// `reads`, `writes`, `network`, `spends-money`, `irreversible`, ...
    pub effects: Vec<String>,
    /// Whether calling it twice is the same as once.
    pub idempotent: bool,
    /// Anything further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

/// What a tool gave back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolOutput {
    /// Structured output, checked against the tool's output schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<Value>,
    /// Text for a model or a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Files it made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ToolFile>,
    /// Whether the tool says it failed.
    #[serde(default)]
    pub is_error: bool,
}

/// A file that a tool made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolFile {
    /// Its media type.
    pub media_type: String,
    /// Its content, base64 with padding when serialised by a gateway.
    pub data: Vec<u8>,
}

/// An event a plugin emitted, or `plugins.changed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginEvent {
    /// The name on the wire: `<plugin>.<event>` or `plugins.changed`.
    pub event: String,
    /// Its payload.
    pub payload: Value,
}

/// One line of a plugin's log ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Rises by one per line of this plugin.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// trace, debug, info, warn, error.
    pub level: String,
    /// The call it belongs to; empty when it belongs to none.
    pub call_id: String,
    /// Where it came from: `log`, `stdout`, `stderr`, `progress` and `text` (said by a call about itself), `host`.
    pub source: String,
    /// The text, escaped so that it is safe on a terminal.
    pub message: String,
}
