//! What is written down for good: one typed row per effect or denial.

use serde::{Deserialize, Serialize};

/// What happened. Serialises with a `kind` tag, the name of the variant in kebab case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum AuditEvent {
    /// An admin gave a plugin rights.
    PluginGranted {
        /// `plugin` or `plugin/account`.
        plugin: String,
        /// Text forms of what was added.
        added: Vec<String>,
        /// Text forms of all that is granted now.
        granted: Vec<String>,
    },
    /// An admin took rights back.
    PluginRevoked {
        /// `plugin` or `plugin/account`.
        plugin: String,
        /// Text forms of what was taken.
        removed: Vec<String>,
        /// Text forms of what is left.
        granted: Vec<String>,
    },
    /// A plugin's state changed.
    PluginState {
        /// The plugin.
        plugin: String,
        /// The version its manifest states.
        version: String,
        /// The new state.
        state: String,
        /// Why.
        reason: String,
        /// SHA-256 of the component, if there is one.
        sha256: Option<String>,
    },
    /// What lies in the plugin folder was not loaded: it cannot be read, another plugin has its id, or it cannot run and
    /// the version before it goes on. Written once for what does not change.
    PluginRefused {
        /// Where it lies.
        path: String,
        /// `plugin` or `plugin/account`, as far as it is known.
        plugin: Option<String>,
        /// Why, with what to do about it.
        reason: String,
        /// SHA-256 of the component, if there is one and it could be read.
        sha256: Option<String>,
    },
    /// A guest call ended in a trap, a timeout or a broken limit.
    PluginTrap {
        /// The plugin.
        plugin: String,
        /// The call.
        call_id: String,
        /// The export that was called.
        export: String,
        /// `trap`, `timeout`, `limit`.
        what: String,
        /// One line.
        message: String,
    },
    /// An outgoing request was refused.
    EgressDenied {
        /// The plugin.
        plugin: String,
        /// The request's method.
        method: String,
        /// Scheme, host and port; never path, query or headers.
        host: String,
        /// The rule that refused it.
        rule: String,
        /// What would allow it.
        hint: String,
    },
    /// A plugin was put into or taken out of the plugin folder by a command.
    PluginInstalled {
        /// The plugin.
        plugin: String,
        /// `install`, `remove` or `purge`.
        action: String,
        /// SHA-256 of the component, if there is one.
        sha256: Option<String>,
    },
    /// A secret was stored or removed.
    SecretChanged {
        /// `plugin` or `plugin/account`.
        plugin: String,
        /// The secret's name.
        name: String,
        /// `set` or `removed`.
        action: String,
    },
    /// Somebody was let in at the gateway's door.
    AuthAccepted {
        /// The peer's address.
        remote: String,
        /// What the client says it is: the id it connects with, or `http`.
        client: String,
        /// How it proved itself: `token`, `password`, `device-token` or `none`.
        method: String,
        /// The device it proved to be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// How many more times the same caller came from the same host since the last row about it; those have no row of
        /// their own.
        #[serde(default)]
        repeated: u64,
    },
    /// A client was refused at the gateway's door.
    AuthDenied {
        /// The peer's address.
        remote: String,
        /// The detail code the client got.
        code: String,
        /// How many equal ones of the same host came since the last row about it; those have no row of their own.
        #[serde(default)]
        repeated: u64,
    },
    /// An agent was made, changed or taken away, or one of its files was written.
    AgentChanged {
        /// The agent's id.
        agent: String,
        /// `created`, `updated`, `deleted` or `file-set`.
        action: String,
        /// The file, when it is about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
    },
    /// A group was registered, changed or taken away.
    GroupChanged {
        /// The chat that the group belongs to.
        group: String,
        /// `registered`, `updated` or `removed`.
        action: String,
    },
    /// A device was paired, changed or removed.
    DeviceChanged {
        /// The device's id.
        device: String,
        /// `paired`, `rejected`, `removed`, `token-rotated`, `token-revoked`, `renamed`, `role-changed` or
        /// `credential-changed`.
        action: String,
        /// The scopes it is approved for; those it asked for where it was rejected.
        scopes: Vec<String>,
    },
    /// What a node may be asked for was decided on, or its name was, or whether it has a token; or somebody sent it other rules.
    NodeChanged {
        /// The node's id: that of its device, or the one by which it was announced.
        node: String,
        /// `approved`, `rejected`, `removed` or `renamed`; `token-approved`, `token-rejected` or `token-removed`; `rules-set`
        /// or, where the node did not say so, `rules-set-unconfirmed`.
        action: String,
        /// The commands it is about.
        commands: Vec<String>,
    },
    /// A command was sent to a node.
    NodeInvoked {
        /// The node's id.
        node: String,
        /// The command; never its parameters.
        command: String,
        /// `ok`; `failed` when the node says so; `timeout` or `disconnected` when it said nothing, so that it may have run.
        outcome: String,
    },
    /// Somebody decided on a question that waited for a person.
    ApprovalDecided {
        /// `exec` or `plugin`.
        what: String,
        /// The question.
        id: String,
        /// `allow-once`, `allow-always` or `deny`.
        decision: String,
    },
    /// The configuration file was changed.
    ConfigChanged {
        /// `set`, `apply` or `patch`.
        action: String,
        /// The keys that changed; never their values.
        keys: Vec<String>,
    },
    /// Settings of the gateway or of plugins began to count while it ran, as somebody changed the configuration file through it.
    ConfigLive {
        /// The keys; never their values.
        keys: Vec<String>,
        /// Those of them that this change did not write: the file had been edited before.
        edited: Vec<String>,
    },
    /// A hook of another program was taken.
    HookTaken {
        /// Its name: what follows the path of the hooks.
        hook: String,
        /// When it counts: `now` or `next-heartbeat`.
        mode: String,
    },
    /// A caller lacked the scope for a method.
    ScopeDenied {
        /// The method.
        method: String,
        /// The scope it needs.
        scope: String,
        /// How many equal ones of the same caller came since the last row about it; those have no row of their own.
        #[serde(default)]
        repeated: u64,
    },
    /// A plugin's `authorize` hook refused a call, or could not be asked about one that does not only read; or the method is
    /// for callers of another role.
    CallRefused {
        /// The method.
        method: String,
        /// What the caller was told.
        reason: String,
        /// How many equal ones of the same caller came since the last row about it; those have no row of their own.
        #[serde(default)]
        repeated: u64,
    },
    /// The databases were copied to or from a place, secrets included.
    DatabasesCopied {
        /// `backed-up` or `restored`.
        action: String,
        /// The folder that holds or held the copy.
        path: String,
    },
    /// What another program had kept was taken in.
    DataImported {
        /// Where it was.
        path: String,
        /// How many groups came.
        groups: u64,
        /// How many sessions came.
        sessions: u64,
        /// How many messages came.
        messages: u64,
    },
    /// Rows came faster than they could be written, and these were not written one by one.
    AuditOverflow {
        /// The plugin they were about, if any.
        plugin: Option<String>,
        /// How many rows are missing.
        dropped: u64,
    },
}

/// A row to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who did it: `kind:id` of a caller, such as `client:cli` or `host:folder`.
    pub actor: String,
    /// What happened.
    #[serde(flatten)]
    pub event: AuditEvent,
}

/// A row as read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Rises by one per row.
    pub id: i64,
    /// The row.
    #[serde(flatten)]
    pub record: AuditRecord,
}

impl AuditEvent {
    /// The tag, as stored in the `kind` column.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PluginGranted { .. } => "plugin-granted",
            Self::PluginRevoked { .. } => "plugin-revoked",
            Self::PluginState { .. } => "plugin-state",
            Self::PluginRefused { .. } => "plugin-refused",
            Self::PluginTrap { .. } => "plugin-trap",
            Self::EgressDenied { .. } => "egress-denied",
            Self::PluginInstalled { .. } => "plugin-installed",
            Self::SecretChanged { .. } => "secret-changed",
            Self::AuthAccepted { .. } => "auth-accepted",
            Self::AuthDenied { .. } => "auth-denied",
            Self::AgentChanged { .. } => "agent-changed",
            Self::GroupChanged { .. } => "group-changed",
            Self::DeviceChanged { .. } => "device-changed",
            Self::NodeChanged { .. } => "node-changed",
            Self::NodeInvoked { .. } => "node-invoked",
            Self::ApprovalDecided { .. } => "approval-decided",
            Self::ConfigChanged { .. } => "config-changed",
            Self::ConfigLive { .. } => "config-live",
            Self::HookTaken { .. } => "hook-taken",
            Self::ScopeDenied { .. } => "scope-denied",
            Self::CallRefused { .. } => "call-refused",
            Self::DatabasesCopied { .. } => "databases-copied",
            Self::DataImported { .. } => "data-imported",
            Self::AuditOverflow { .. } => "audit-overflow",
        }
    }

    /// The plugin it is about, if any.
    #[must_use]
    pub fn plugin(&self) -> Option<&str> {
        match self {
            Self::PluginGranted { plugin, .. }
            | Self::PluginRevoked { plugin, .. }
            | Self::PluginState { plugin, .. }
            | Self::PluginTrap { plugin, .. }
            | Self::EgressDenied { plugin, .. }
            | Self::PluginInstalled { plugin, .. }
            | Self::SecretChanged { plugin, .. } => Some(plugin),
            Self::PluginRefused { plugin, .. } | Self::AuditOverflow { plugin, .. } => plugin.as_deref(),
            Self::AgentChanged { .. }
            | Self::AuthAccepted { .. }
            | Self::AuthDenied { .. }
            | Self::CallRefused { .. }
            | Self::DatabasesCopied { .. }
            | Self::DataImported { .. }
            | Self::GroupChanged { .. }
            | Self::ApprovalDecided { .. }
            | Self::ConfigChanged { .. }
            | Self::ConfigLive { .. }
            | Self::HookTaken { .. }
            | Self::NodeChanged { .. }
            | Self::NodeInvoked { .. }
            | Self::DeviceChanged { .. }
            | Self::ScopeDenied { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_column_is_the_tag() {
        let refused = AuditEvent::PluginRefused { path: "/p".into(), plugin: None, reason: "bad".into(), sha256: None };
        let live = AuditEvent::ConfigLive { keys: vec!["k".into()], edited: Vec::new() };
        for event in [AuditEvent::ScopeDenied { method: "m".into(), scope: "s".into(), repeated: 2 }, refused, live] {
            let record = AuditRecord { at_ms: 1, actor: "host:test".into(), event };
            let value = serde_json::to_value(&record).unwrap();
            assert_eq!(value["kind"], record.event.kind());
            assert_eq!(serde_json::from_value::<AuditRecord>(value).unwrap(), record);
        }
    }
}
