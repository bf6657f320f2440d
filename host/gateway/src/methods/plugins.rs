//! `plugins.*`: what is installed, what it may do, and giving or taking rights.
//!
//! Keys that OpenClaw has keep OpenClaw's meaning; what only LeanClaw knows is under `leanclaw`. In `plugins.list`, which
//! OpenClaw's clients know as a closed shape, it is there only for who asks for it.

use std::sync::{Arc, LazyLock};

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::{PluginInfo, PluginState};
use leanclaw_types::{AccountId, Failure, PluginId, PluginKey};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::connection::{Answer, Call};
use crate::error::failure_to_error;
use crate::phrase::Shape;
use crate::wire::{Payload, joined};

/// A plugin may also be called `plugin` or `id`.
const ALIASES: [(&str, &str); 3] = [("plugin", "pluginId"), ("id", "pluginId"), ("account", "accountId")];

/// The most log lines in one answer.
const MAX_LOG_LINES: u32 = 5000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct List {
    /// Whether each row has LeanClaw's own view of the plugin besides, which OpenClaw's clients do not know.
    #[serde(default)]
    leanclaw: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Named {
    /// `plugin` or `plugin/account`.
    #[schemars(length(min = 1))]
    plugin_id: String,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    account_id: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    #[schemars(length(min = 1))]
    plugin_id: String,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    account_id: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    items: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Purge {
    #[schemars(length(min = 1))]
    plugin_id: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Reload {
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    plugin_id: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Logs {
    #[schemars(length(min = 1))]
    plugin_id: String,
    #[serde(default)]
    #[schemars(with = "u64")]
    after_seq: Option<u64>,
    #[serde(default = "default_log_lines")]
    #[schemars(range(min = 1, max = 5000))]
    limit: u32,
}

fn default_log_lines() -> u32 {
    200
}

static LIST: LazyLock<Shape> = LazyLock::new(Shape::of::<List>);
static NAMED: LazyLock<Shape> = LazyLock::new(Shape::of::<Named>);
static CHANGE: LazyLock<Shape> = LazyLock::new(Shape::of::<Change>);
static PURGE: LazyLock<Shape> = LazyLock::new(Shape::of::<Purge>);
static RELOAD: LazyLock<Shape> = LazyLock::new(Shape::of::<Reload>);
static LOGS: LazyLock<Shape> = LazyLock::new(Shape::of::<Logs>);

/// `plugins.list {leanclaw?}` → `{plugins, diagnostics, mutationAllowed, generation}`. A diagnostic is `{level, message}`;
/// one about a package that could not be taken at all has `source`, its path, and `reason` beside them.
pub(crate) fn list(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let List { leanclaw } = call.read(&LIST, &[])?;
    let plugins = call.state.services.plugins.list();
    let shown = if leanclaw { row } else { plain };
    Ok(Answer::json(&json!({
        "plugins": plugins.iter().map(shown).collect::<Vec<_>>(),
        "diagnostics": diagnostics(&plugins, call.state.services.plugins.problems()),
        // Clients may not install or switch plugins here; grants have their own methods.
        "mutationAllowed": false,
        "generation": call.state.health.latest().version,
    })))
}

/// What is wrong with plugins that are there, and with packages (path and reason) that were refused as a whole.
fn diagnostics(plugins: &[PluginInfo], refused: Vec<(String, String)>) -> Vec<Value> {
    let standing = plugins
        .iter()
        .filter(|plugin| !plugin.reason.is_empty())
        .map(|plugin| json!({"level": "warn", "message": format!("{}: {}", key_of(plugin), plugin.reason)}));
    let refused = refused.into_iter().map(|(path, reason)| {
        let message = format!("{path}: {reason}");
        json!({"level": "error", "message": message, "source": path, "reason": reason})
    });
    standing.chain(refused).collect()
}

/// `plugins.inspect {pluginId, accountId?}` → `{ok, plugin, declared, reviewToken, grants, leanclaw}`: what the plugin asks for,
/// as OpenClaw's page shows it, and how it stands.
pub(crate) fn inspect(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let named: Named = call.read(&NAMED, &ALIASES)?;
    let found = key(&named.plugin_id, named.account_id.as_deref())
        .and_then(|key| call.state.services.plugins.inspect(&key))
        .map_err(|failure| failure_to_error(call.session.version, &failure))?;
    Ok(Answer::json(&joined(one(&found), reviewed(&found))))
}

/// `plugins.grant {pluginId, accountId?, all?, items?}` → `{ok, plugin, leanclaw}`.
pub(crate) fn grant(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    change(call, true)
}

/// `plugins.revoke {pluginId, accountId?, all?, items?}` → `{ok, plugin, leanclaw}`; `leanclaw` is null when the plugin is
/// not installed.
pub(crate) fn revoke(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    change(call, false)
}

fn change(call: &Call<'_>, give: bool) -> Result<Answer, ErrorShape> {
    let change: Change = call.read(&CHANGE, &ALIASES)?;
    let version = call.session.version;
    let key = key(&change.plugin_id, change.account_id.as_deref());
    let key = key.map_err(|failure| failure_to_error(version, &failure))?;
    let (state, caller) = (Arc::clone(call.state), Arc::clone(&call.session.caller));
    let change = GrantChange { all: change.all, items: change.items };
    Ok(Answer::Later(Box::pin(async move {
        let plugins = &state.services.plugins;
        let result = if give {
            plugins.grant(&caller, &key, change).await.map(Some)
        } else {
            plugins.revoke(&caller, &key, change).await
        };
        let shown = |plugin: Option<PluginInfo>| plugin.map_or_else(|| absent(&key), |plugin| one(&plugin));
        result.map(|plugin| Payload::json(&shown(plugin))).map_err(|failure| failure_to_error(version, &failure))
    })))
}

/// `plugins.purge {pluginId}` → `{ok, plugin, deleted: {grants, secrets, messages, kvEntries}}`: what was kept of a plugin
/// that is not installed any more, of all its accounts.
pub(crate) fn purge(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let purge: Purge = call.read(&PURGE, &ALIASES)?;
    let version = call.session.version;
    let plugin: PluginId = purge.plugin_id.parse().map_err(invalid_id)?;
    let (state, caller) = (Arc::clone(call.state), Arc::clone(&call.session.caller));
    Ok(Answer::Later(Box::pin(async move {
        let result = state.services.plugins.purge(&caller, &plugin).await;
        let key = PluginKey::default_account(plugin);
        let result = result.map(|deleted| {
            let mut shown = absent(&key);
            if let Some(shown) = shown.as_object_mut() {
                shown.shift_remove("leanclaw");
                shown.insert("deleted".into(), json!(deleted));
            }
            Payload::json(&shown)
        });
        result.map_err(|failure| failure_to_error(version, &failure))
    })))
}

/// `plugins.reload {pluginId?}` → `{ok, plugins, diagnostics}`, the diagnostics as in `plugins.list`.
pub(crate) fn reload(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let reload: Reload = call.read(&RELOAD, &ALIASES)?;
    let version = call.session.version;
    let plugin: Option<PluginId> = reload.plugin_id.map(|id| id.parse()).transpose().map_err(invalid_id)?;
    let (state, caller) = (Arc::clone(call.state), Arc::clone(&call.session.caller));
    Ok(Answer::Later(Box::pin(async move {
        let result = state.services.plugins.reload(&caller, plugin.as_ref()).await;
        let result = result.map(|plugins| {
            let rows: Vec<Value> = plugins.iter().map(row).collect();
            let diagnostics = diagnostics(&plugins, state.services.plugins.problems());
            Payload::json(&json!({"ok": true, "plugins": rows, "diagnostics": diagnostics}))
        });
        result.map_err(|failure| failure_to_error(version, &failure))
    })))
}

/// `plugins.logs {pluginId, afterSeq?, limit?}` → `{pluginId, lines, lastSeq}`; pass `lastSeq` back as `afterSeq` to
/// get only newer lines.
pub(crate) fn logs(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let logs: Logs = call.read(&LOGS, &ALIASES)?;
    let plugin: PluginId = logs.plugin_id.parse().map_err(invalid_id)?;
    let limit = usize::try_from(logs.limit.min(MAX_LOG_LINES)).unwrap_or(1);
    let lines = call.state.services.plugins.logs(&plugin, logs.after_seq, limit);
    let lines = lines.map_err(|failure| failure_to_error(call.session.version, &failure))?;
    let last_seq = lines.last().map(|line| line.seq).or(logs.after_seq);
    Ok(Answer::json(&json!({"pluginId": plugin, "lines": lines, "lastSeq": last_seq})))
}

fn key(plugin: &str, account: Option<&str>) -> Result<PluginKey, Failure> {
    let invalid = |error: leanclaw_types::id::InvalidId| Failure::invalid(error.to_string());
    let mut key: PluginKey = plugin.parse().map_err(invalid)?;
    if let Some(account) = account {
        key.account = AccountId::new(account).map_err(invalid)?;
    }
    Ok(key)
}

fn invalid_id(error: leanclaw_types::id::InvalidId) -> ErrorShape {
    ErrorShape::invalid(error.to_string())
}

fn key_of(plugin: &PluginInfo) -> PluginKey {
    PluginKey { plugin: plugin.id.clone(), account: plugin.account.clone() }
}

/// One plugin as OpenClaw's list has it, with LeanClaw's own view under `leanclaw`.
fn row(plugin: &PluginInfo) -> Value {
    let mut row = plain(plugin);
    if let Some(object) = row.as_object_mut() {
        object.insert("leanclaw".into(), json!(plugin));
    }
    row
}

/// One plugin as OpenClaw's list has it.
fn plain(plugin: &PluginInfo) -> Value {
    let mut row = identity(plugin);
    let state = match plugin.state {
        PluginState::Ready | PluginState::Loading => "enabled",
        PluginState::NeedsGrant | PluginState::Disabled => "disabled",
        PluginState::Faulted => "error",
    };
    if let Some(object) = row.as_object_mut() {
        object.insert("state".into(), json!(state));
        object.insert("removable".into(), json!(false));
        if plugin.state == PluginState::Faulted {
            object.insert("error".into(), json!(plugin.reason));
        }
    }
    row
}

fn identity(plugin: &PluginInfo) -> Value {
    let name = if plugin.name.is_empty() { plugin.id.as_str() } else { &plugin.name };
    let enabled = matches!(plugin.state, PluginState::Ready | PluginState::Loading | PluginState::Faulted);
    let mut identity = json!({
        "id": plugin.id, "name": name, "description": plugin.description, "origin": "leanclaw",
        "installed": true, "enabled": enabled,
    });
    if let Some(object) = identity.as_object_mut()
        && !plugin.version.is_empty()
    {
        object.insert("version".into(), json!(plugin.version));
    }
    identity
}

/// A plugin that is not installed.
fn absent(key: &PluginKey) -> Value {
    json!({"ok": true, "plugin": {"id": key.plugin, "installed": false, "enabled": false}, "leanclaw": null})
}

/// What OpenClaw's page looks at before a plugin is let do anything. Rights are LeanClaw's own; of those that OpenClaw gives to
/// hooks there are none.
fn reviewed(plugin: &PluginInfo) -> [(&'static str, Value); 3] {
    let declared = json!({
        "channels": plugin.channels, "providers": [], "tools": plugin.tools, "contracts": plugin.exports,
        "hooks": plugin.requested.hooks, "mcpServers": [], "cliCommands": [], "cliBackends": [], "skills": [],
        "dangerousConfigFlags": [],
    });
    // Of the very code that was looked at, where there is some.
    let token = plugin.sha256.as_deref().unwrap_or("none");
    let no = json!({"effective": false});
    let grants = json!({"hooks": {"allowPromptInjection": no, "allowConversationAccess": no}});
    [("declared", declared), ("reviewToken", json!(token)), ("grants", grants)]
}

fn one(plugin: &PluginInfo) -> Value {
    json!({"ok": true, "plugin": identity(plugin), "leanclaw": plugin})
}
