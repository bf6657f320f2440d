//! `tools.catalog` and `tools.invoke`, and what they share with `POST /tools/invoke`.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leanclaw_types::Failure;
use leanclaw_types::failure::code;
use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::plugin::{ToolOutput, ToolSpec};
use leanclaw_types::text::shown;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::connection::{Answer, Call};
use crate::error::failure_details;
use crate::once::{self, Call as OnceCall, Ended, What};
use crate::phrase::Shape;
use crate::sessions::Key;
use crate::snapshot::DEFAULT_AGENT;
use crate::wire::{Payload, joined};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Catalog {
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    agent_id: Option<String>,
    #[serde(default)]
    #[schemars(with = "bool")]
    include_plugins: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Effective {
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    agent_id: Option<String>,
    /// Every session may call the same tools, whichever agent's it is.
    #[schemars(length(min = 1))]
    session_key: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Invoke {
    #[schemars(length(min = 1))]
    name: String,
    #[serde(default)]
    args: Map<String, Value>,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    session_key: Option<String>,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    agent_id: Option<String>,
    #[serde(default)]
    #[schemars(with = "bool")]
    #[expect(dead_code, reason = "real clients send it; no tool here asks for a confirmation")]
    confirm: Option<bool>,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    idempotency_key: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    #[expect(dead_code, reason = "real clients send it; there are no conversations to read here")]
    conversation_read_origin: Option<String>,
}

static CATALOG: LazyLock<Shape> = LazyLock::new(Shape::of::<Catalog>);
static EFFECTIVE: LazyLock<Shape> = LazyLock::new(Shape::of::<Effective>);
static INVOKE: LazyLock<Shape> = LazyLock::new(Shape::of::<Invoke>);

/// `tools.catalog {agentId?, includePlugins?}` → `{agentId, profiles, groups}`, one group per plugin.
pub(crate) fn catalog(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let catalog: Catalog = call.read(&CATALOG, &[])?;
    let agent = known_agent(call, catalog.agent_id)?;
    let tools = if catalog.include_plugins == Some(false) { Vec::new() } else { call.state.services.plugins.tools() };
    let mut groups: Vec<(String, Vec<Value>)> = Vec::new();
    for tool in &tools {
        let plugin = tool.plugin.to_string();
        let entry = catalog_entry(tool, call.session.version);
        match groups.iter_mut().find(|(id, _)| *id == plugin) {
            Some((_, entries)) => entries.push(entry),
            None => groups.push((plugin, vec![entry])),
        }
    }
    let groups: Vec<Value> = groups
        .into_iter()
        .map(|(plugin, tools)| {
            json!({"id": format!("plugin:{plugin}"), "label": plugin, "source": "plugin", "pluginId": plugin, "tools": tools})
        })
        .collect();
    let profiles = [("minimal", "Minimal"), ("coding", "Coding"), ("messaging", "Messaging"), ("full", "Full")];
    let profiles: Vec<Value> = profiles.iter().map(|(id, label)| json!({"id": id, "label": label})).collect();
    Ok(Answer::json(&json!({"agentId": agent, "profiles": profiles, "groups": groups})))
}

fn catalog_entry(tool: &ToolSpec, version: ProtocolVersion) -> Value {
    let entry = json!({
        "id": tool.name, "label": tool.name, "description": tool.description,
        "source": "plugin", "pluginId": tool.plugin, "defaultProfiles": [],
    });
    let tags: Vec<&String> = tool.effects.iter().filter(|effect| !effect.is_empty()).collect();
    // Version 3 has a closed shape without these.
    let newest = [("risk", json!(risk(tool))), ("tags", json!(tags))];
    joined(entry, newest.into_iter().filter(|_| version.is_newest()))
}

/// `tools.effective {sessionKey, agentId?}` → `{agentId, profile, groups}`: what can be called from a session.
pub(crate) fn effective(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked: Effective = call.read(&EFFECTIVE, &[("key", "sessionKey")])?;
    let agent = known_agent(call, Some(Key::read(&asked.session_key, asked.agent_id.as_deref())?.agent))?;
    let entry = |tool: &ToolSpec| {
        let mut entry = catalog_entry(tool, ProtocolVersion::V4);
        if let Some(entry) = entry.as_object_mut() {
            entry.shift_remove("defaultProfiles");
            entry.insert("rawDescription".into(), json!(tool.description));
        }
        entry
    };
    let tools: Vec<Value> = call.state.services.plugins.tools().iter().map(entry).collect();
    let group = json!({"id": "plugin", "label": "Plugins", "source": "plugin", "tools": tools});
    let groups = if tools.is_empty() { json!([]) } else { json!([group]) };
    Ok(Answer::json(&json!({"agentId": agent, "profile": "full", "groups": groups})))
}

fn risk(tool: &ToolSpec) -> &'static str {
    let has = |effect: &str| tool.effects.iter().any(|known| known == effect);
    if has("irreversible") || has("spends-money") {
        "high"
    } else if tool.effects.iter().all(|effect| effect == "reads") {
        "low"
    } else {
        "medium"
    }
}

/// The agent that is meant: the one that was named, which there must be, else the default one. All agents have the same tools.
pub(super) fn known_agent(call: &Call<'_>, named: Option<String>) -> Result<String, ErrorShape> {
    let agent = named.unwrap_or_else(|| DEFAULT_AGENT.to_owned());
    if call.state.agents.get(&agent).is_none() {
        return Err(ErrorShape::invalid(format!("unknown agent id \"{}\"", shown(&agent, 80))));
    }
    Ok(agent)
}

/// `tools.invoke {name, args?, …}` → `{ok, toolName, output?, source?, error?}`. The original LeanClaw's spelling
/// `{toolName, params}` is read besides. The same idempotency key of the same caller runs the tool once.
pub(crate) fn invoke(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let aliases = [("toolName", "name"), ("tool", "name"), ("params", "args")];
    let invoke: Invoke = call.read(&INVOKE, &aliases)?;
    let Invoke { name, args, session_key, agent_id, idempotency_key, .. } = invoke;
    let agent = known_agent(call, agent_id)?;
    let input = Value::Object(args).to_string();
    let what = What::of(&[&name, &input, session_key.as_deref().unwrap_or_default(), &agent]);
    let state = Arc::clone(call.state);
    let mut caller = leanclaw_types::Caller::clone(&call.session.caller);
    caller.session_key = session_key;
    caller.extra = idempotency_key.as_ref().map(|key| json!({"idempotencyKey": key}));
    let work = async move {
        let answer = state.services.plugins.invoke_tool(&name, &input, caller).await;
        // Of a tool that is not there, or could not be called now, nothing has run.
        let has_run = answer.as_ref().err().is_none_or(|failure| !failure.retryable && failure.code != code::NOT_FOUND);
        Ended { outcome: Ok(Payload::json(&told(&name, answer))), is_final: has_run }
    };
    match idempotency_key {
        None => Ok(Answer::Later(Box::pin(async { work.await.outcome }))),
        Some(key) => {
            let this = OnceCall::of(&call.session.caller, call.method, "", &key);
            once::run(call.state, this, what, || Ok(work))
        }
    }
}

fn told(name: &str, answer: Result<ToolOutput, Failure>) -> Value {
    match answer {
        Ok(output) => {
            let failed = output.is_error.then(|| {
                json!({"code": "tool_error", "message": output.text.clone().unwrap_or_else(|| "the tool failed".into())})
            });
            let told = json!({"ok": failed.is_none(), "toolName": name, "output": result(&output), "source": "plugin"});
            joined(told, failed.map(|error| ("error", error)))
        }
        Err(failure) => json!({
            "ok": false, "toolName": name,
            "error": {"code": failure.code, "message": failure.message, "details": failure_details(&failure)},
        }),
    }
}

/// A tool's output in OpenClaw's shape: `{content: [{type, …}], details?}`.
pub(crate) fn result(output: &ToolOutput) -> Value {
    let mut content: Vec<Value> = Vec::new();
    let text = output.text.clone().or_else(|| output.structured.as_ref().map(Value::to_string));
    if let Some(text) = text {
        content.push(json!({"type": "text", "text": text}));
    }
    for file in &output.files {
        let kind = if file.media_type.starts_with("image/") { "image" } else { "file" };
        content.push(json!({"type": kind, "mimeType": file.media_type, "data": STANDARD.encode(&file.data)}));
    }
    joined(json!({"content": content}), output.structured.clone().map(|details| ("details", details)))
}
