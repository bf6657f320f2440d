//! How a session looks on the wire.

use leanclaw_types::frame::ProtocolVersion;
use leanclaw_types::run::RunModel;
use leanclaw_types::session::{SessionKind, SessionRow};
use serde_json::{Map, Value, json};

/// Where sessions are kept, as far as a client may know.
pub(crate) const STORE_PATH: &str = "core.db";

/// What a version 3 client knows of an entry.
const OLDEST: [&str; 36] = [
    "abortedLastRun",
    "channel",
    "chatType",
    "contextTokens",
    "deliveryContext",
    "displayName",
    "elevatedLevel",
    "execAsk",
    "execHost",
    "execNode",
    "execSecurity",
    "fastMode",
    "groupActivation",
    "groupId",
    "inputTokens",
    "lastAccountId",
    "lastChannel",
    "lastTo",
    "modelOverride",
    "origin",
    "outputTokens",
    "providerOverride",
    "reasoningLevel",
    "responseUsage",
    "sendPolicy",
    "space",
    "spawnDepth",
    "spawnedBy",
    "spawnedWorkspaceDir",
    "subagentControlScope",
    "subagentRole",
    "systemSent",
    "thinkingLevel",
    "totalTokens",
    "totalTokensFresh",
    "verboseLevel",
];

/// What is part of an entry and not of a row in a list.
const ENTRY_ONLY: [&str; 6] =
    ["providerOverride", "modelOverride", "createdVia", "delivery", "totalTokensVersion", "compactionCount"];

/// What new sessions use, with the model that runs use where nothing else is said, if there is one.
pub(crate) fn defaults(version: ProtocolVersion, model: Option<&RunModel>) -> Value {
    let mut defaults = json!({
        "modelProvider": model.map(|model| &model.provider), "model": model.map(|model| &model.id),
        "contextTokens": model.and_then(|model| model.context_tokens),
    });
    if version.is_newest()
        && let Some(defaults) = defaults.as_object_mut()
    {
        let runtime = json!({
            "id": "auto", "cloudPlacementSupported": false, "devicePlacementSupported": false, "source": "implicit",
        });
        defaults.insert("agentRuntime".into(), runtime);
        defaults.insert("modelSelectionTarget".into(), json!("session"));
        defaults.insert("thinkingLevels".into(), json!([{"id": "off", "label": "off"}]));
        defaults.insert("thinkingOptions".into(), json!(["off"]));
        defaults.insert("thinkingDefault".into(), json!("off"));
    }
    defaults
}

/// A row of `sessions.list`. It tells of the stored row and of nothing else, as a list keeps it until that changes.
pub(crate) fn listed(row: &SessionRow, version: ProtocolVersion) -> Value {
    let newest = version.is_newest();
    let kind = match row.kind {
        SessionKind::Cron if !newest => SessionKind::Direct,
        kind => kind,
    };
    let mut shown = Map::new();
    shown.insert("key".into(), json!(row.key));
    shown.insert("kind".into(), json!(kind.as_str()));
    if let Some(label) = &row.label {
        shown.insert("label".into(), json!(label));
    }
    shown.insert("updatedAt".into(), json!(row.updated_ms));
    shown.insert("sessionId".into(), json!(row.session_id));
    shown.insert("totalTokensFresh".into(), json!(false));
    let knows = |name: &String| newest || OLDEST.contains(&name.as_str());
    for (name, value) in &row.entry {
        if !ENTRY_ONLY.contains(&name.as_str()) && knows(name) {
            shown.insert(name.clone(), value.clone());
        }
    }
    shown.extend(model(row));
    if newest {
        shown.insert("agentId".into(), json!(row.agent));
        shown.insert("createdAt".into(), json!(row.created_ms));
        shown.insert("archived".into(), json!(row.archived));
        shown.insert("visibility".into(), json!("shared"));
        shown.insert("permissionModePending".into(), json!(false));
        shown.insert("participants".into(), json!([]));
        shown.insert("expandedParticipants".into(), json!([]));
    }
    Value::Object(shown)
}

/// The entry that `sessions.patch` and its like answer with.
pub(crate) fn entry(row: &SessionRow, version: ProtocolVersion) -> Value {
    let newest = version.is_newest();
    let mut shown = Map::new();
    shown.insert("sessionId".into(), json!(row.session_id));
    shown.insert("updatedAt".into(), json!(row.updated_ms));
    for (name, value) in &row.entry {
        if newest || OLDEST.contains(&name.as_str()) {
            shown.insert(name.clone(), value.clone());
        }
    }
    if let Some(label) = &row.label {
        shown.insert("label".into(), json!(label));
    }
    shown.extend(model(row));
    if newest {
        shown.insert("createdAt".into(), json!(row.created_ms));
        if row.archived {
            shown.insert("archived".into(), json!(true));
        }
    }
    Value::Object(shown)
}

/// `{modelProvider?, model?}`: what the session's next run uses, as far as it was chosen.
pub(crate) fn resolved(row: &SessionRow) -> Value {
    Value::Object(model(row))
}

fn model(row: &SessionRow) -> Map<String, Value> {
    let chosen = [("modelProvider", "providerOverride"), ("model", "modelOverride")];
    chosen.iter().filter_map(|(name, own)| Some(((*name).to_owned(), row.entry.get(*own)?.clone()))).collect()
}
