//! `sessions.patch`: changing what a session remembers. Null takes a field away.

use std::sync::LazyLock;

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::session::{SessionChange, SessionRow};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Expected, KEY_ALIASES, change, fresh, touch};
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::methods::{ADMIN, WRITE};
use crate::phrase::Shape;
use crate::sessions::{Key, STORE_PATH, entry, resolved};
use crate::wire::Payload;

/// The parameters of both versions. What is left out stays; what is null goes.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the shape is what is asked for; what was sent is taken field by field")]
struct Patch {
    #[schemars(length(min = 1))]
    key: String,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(length(min = 1))]
    expected_session_id: Option<String>,
    #[schemars(length(min = 1))]
    expected_lifecycle_revision: Option<String>,
    expected_permission_mode: Option<String>,
    expected_tool_overrides: Option<Map<String, Value>>,
    expected_marked_unread_at: Option<f64>,
    #[schemars(length(min = 1, max = 512))]
    label: Option<String>,
    icon: Option<String>,
    color: Option<String>,
    #[schemars(length(min = 1, max = 512))]
    category: Option<String>,
    #[schemars(extend("enum" = ["chat", "dashboard"]))]
    board_face: Option<String>,
    #[schemars(length(max = 120))]
    status_note: Option<String>,
    #[schemars(extend("enum" = ["hand", "key", "alert", "flag", "lock", "hourglass", null]))]
    attention: Option<String>,
    #[schemars(range(min = 1, max = 120))]
    ttl_minutes: Option<u64>,
    archived: Option<bool>,
    pinned: Option<bool>,
    unread: Option<bool>,
    #[schemars(length(min = 1))]
    context_window: Option<String>,
    #[schemars(length(min = 1))]
    thinking_level: Option<String>,
    #[schemars(extend("enum" = [true, false, "auto", null]))]
    fast_mode: Option<Value>,
    tool_overrides: Option<Map<String, Value>>,
    #[schemars(length(min = 1))]
    verbose_level: Option<String>,
    #[schemars(length(min = 1))]
    trace_level: Option<String>,
    #[schemars(length(min = 1))]
    reasoning_level: Option<String>,
    #[schemars(extend("enum" = ["off", "tokens", "full", "on", null]))]
    response_usage: Option<String>,
    #[schemars(length(min = 1))]
    elevated_level: Option<String>,
    #[schemars(length(min = 1))]
    exec_host: Option<String>,
    #[schemars(length(min = 1))]
    exec_security: Option<String>,
    #[schemars(length(min = 1))]
    exec_ask: Option<String>,
    #[schemars(length(min = 1))]
    exec_node: Option<String>,
    #[schemars(extend("enum" = ["read-only", "guarded", "workspace", "full", null]))]
    permission_mode: Option<String>,
    #[schemars(length(min = 1))]
    model: Option<String>,
    #[schemars(length(min = 1))]
    spawned_by: Option<String>,
    #[schemars(length(min = 1))]
    spawned_workspace_dir: Option<String>,
    spawn_depth: Option<u64>,
    #[schemars(extend("enum" = ["orchestrator", "leaf", null]))]
    subagent_role: Option<String>,
    #[schemars(extend("enum" = ["children", "none", null]))]
    subagent_control_scope: Option<String>,
    #[schemars(length(min = 1))]
    completion_owner_session_key: Option<String>,
    #[schemars(extend("enum" = [1, null]))]
    inherited_tool_policy_version: Option<u64>,
    inherited_tool_allow: Option<Vec<String>>,
    inherited_tool_deny: Option<Vec<String>>,
    #[schemars(extend("enum" = ["allow", "deny", null]))]
    send_policy: Option<String>,
    #[schemars(extend("enum" = ["mention", "always", null]))]
    group_activation: Option<String>,
}

static PATCH: LazyLock<Shape> = LazyLock::new(Shape::of::<Patch>);

/// Parameters that are no fields of the session.
const NOT_FIELDS: [&str; 7] = [
    "key",
    "agentId",
    "expectedSessionId",
    "expectedLifecycleRevision",
    "expectedPermissionMode",
    "expectedToolOverrides",
    "expectedMarkedUnreadAt",
];

/// Fields that change how a session looks or which model it uses, and not what it may do. In version 4 `operator.write`
/// is enough for them.
const COSMETIC: [&str; 16] = [
    "label",
    "displayName",
    "icon",
    "color",
    "category",
    "boardFace",
    "statusNote",
    "attention",
    "ttlMinutes",
    "archived",
    "pinned",
    "unread",
    "contextWindow",
    "model",
    "thinkingLevel",
    "fastMode",
];

/// Fields with a few good values, as people may spell them.
const LEVELS: [(&str, &[&str]); 7] = [
    ("verboseLevel", &["on", "off", "full"]),
    ("traceLevel", &["on", "off", "raw"]),
    ("reasoningLevel", &["on", "off", "stream"]),
    ("elevatedLevel", &["on", "off", "ask", "full"]),
    ("execHost", &["auto", "sandbox", "gateway", "node"]),
    ("execSecurity", &["deny", "allowlist", "full"]),
    ("execAsk", &["off", "on-miss", "always"]),
];

/// Thinking levels that version 3 names, and those it takes besides.
const THINKING_V3: [&str; 6] = ["off", "minimal", "low", "medium", "high", "adaptive"];
const THINKING_V4: [&str; 9] = ["off", "minimal", "low", "medium", "high", "xhigh", "adaptive", "max", "ultra"];

/// Where a session comes from: said once, by sessions that others make.
const LINEAGE: [&str; 5] = ["spawnedBy", "spawnedWorkspaceDir", "spawnDepth", "subagentRole", "subagentControlScope"];

/// `sessions.patch {key, …}` → `{ok, path, key, entry, resolved}`. Makes the session when it is missing.
pub(crate) fn patch(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let params: Map<String, Value> = call.read(&PATCH, KEY_ALIASES)?;
    call.require(needed(call.session.version, &params))?;
    Ok(call.later(move |state, session| async move {
        let row = patched(&state, &session, params).await?;
        Ok(Payload::json(&json!({
            "ok": true, "path": STORE_PATH, "key": row.key, "entry": entry(&row, session.version),
            "resolved": resolved(&row),
        })))
    }))
}

/// Changes one session, and tells who wants to know.
async fn patched(state: &State, session: &Session, params: Map<String, Value>) -> Result<SessionRow, ErrorShape> {
    let text = |name: &str| params.get(name).and_then(Value::as_str).map(str::to_owned);
    let key = Key::read(&text("key").unwrap_or_default(), text("agentId").as_deref())?;
    let expected = Expected {
        session_id: text("expectedSessionId"),
        lifecycle_revision: text("expectedLifecycleRevision"),
        updated_ms: None,
    };
    let (now_ms, version, own, label) = (state.now_ms(), session.version, key.clone(), text_of_label(&params));
    let decide = move |row: Option<SessionRow>| {
        expected.check(row.as_ref())?;
        let mut row = row.unwrap_or_else(|| fresh(&own, now_ms));
        apply(&mut row, &own, &params, version, now_ms)?;
        touch(&mut row, now_ms);
        Ok((SessionChange::Put(row.clone()), row))
    };
    let row = change(state, session, &key, decide).await.map_err(|error| name_label(error, label.as_deref()))?;
    state.session_changed(&row.key, "patch", Some(&row));
    Ok(row)
}

/// The same changes of many sessions.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Many {
    #[schemars(length(min = 1, max = 100))]
    targets: Vec<Target>,
    #[schemars(with = "Changes")]
    patch: Map<String, Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Target {
    #[schemars(length(min = 1))]
    key: String,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    agent_id: Option<String>,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    expected_session_id: Option<String>,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    expected_lifecycle_revision: Option<String>,
}

/// What `sessions.patch` takes, without which session it is about.
struct Changes;

impl JsonSchema for Changes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Changes".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = Patch::json_schema(generator);
        schema.remove("required");
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|name, _| !NOT_FIELDS.contains(&name.as_str()));
        }
        schema
    }
}

static MANY: LazyLock<Shape> = LazyLock::new(Shape::of::<Many>);

/// `sessions.patchMany {targets, patch}` → `{outcomes: [{ok, key, agentId?, error?}]}`, one per target in their order.
pub(crate) fn patch_many(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let many: Many = call.read(&MANY, &[])?;
    call.require(needed(call.session.version, &many.patch))?;
    Ok(call.later(move |state, session| async move {
        let mut outcomes = Vec::with_capacity(many.targets.len());
        for target in many.targets {
            let mut outcome = json!({"ok": true, "key": target.key});
            let mut params = many.patch.clone();
            params.insert("key".into(), json!(target.key));
            let more = [
                ("agentId", target.agent_id),
                ("expectedSessionId", target.expected_session_id),
                ("expectedLifecycleRevision", target.expected_lifecycle_revision),
            ];
            for (name, value) in more.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                if let Some(outcome) = outcome.as_object_mut().filter(|_| name == "agentId") {
                    outcome.insert(name.into(), json!(value));
                }
                params.insert(name.into(), json!(value));
            }
            if let (Err(error), Some(outcome)) = (patched(&state, &session, params).await, outcome.as_object_mut()) {
                outcome.insert("ok".into(), json!(false));
                outcome.insert("error".into(), json!(error));
            }
            outcomes.push(outcome);
        }
        Ok(Payload::json(&json!({"outcomes": outcomes})))
    }))
}

fn text_of_label(params: &Map<String, Value>) -> Option<String> {
    params.get("label").and_then(Value::as_str).map(str::to_owned)
}

/// Says which label is taken.
fn name_label(mut error: ErrorShape, label: Option<&str>) -> ErrorShape {
    if error.message == "label already in use"
        && let Some(label) = label
    {
        error.message = format!("label already in use: {label}");
    }
    error
}

/// The scope that these changes need.
fn needed(version: ProtocolVersion, params: &Map<String, Value>) -> &'static str {
    let mut fields = params.iter().filter(|(name, _)| !NOT_FIELDS.contains(&name.as_str()));
    let harmless = |(name, value): (&String, &Value)| {
        COSMETIC.contains(&name.as_str()) || (name == "permissionMode" && !value.is_null() && value != "full")
    };
    if version.is_newest() && fields.all(harmless) { WRITE } else { ADMIN }
}

/// Makes the changes, field by field.
///
/// # Errors
/// The first one that cannot be made.
pub(super) fn apply(
    row: &mut SessionRow,
    key: &Key,
    params: &Map<String, Value>,
    version: ProtocolVersion,
    now_ms: u64,
) -> Result<(), ErrorShape> {
    for (name, value) in params.iter().filter(|(name, _)| !NOT_FIELDS.contains(&name.as_str())) {
        match name.as_str() {
            "label" => set_label(row, value.as_str(), version)?,
            "model" => set_model(row, value.as_str()),
            "archived" => {
                row.archived = value.as_bool().unwrap_or(false);
                set(row, "archivedAt", &json!(row.archived.then_some(now_ms)));
            }
            "pinned" => {
                let pinned = value.as_bool().unwrap_or(false);
                set(row, "pinned", &json!(pinned.then_some(true)));
                set(row, "pinnedAt", &json!(pinned.then_some(now_ms)));
            }
            "thinkingLevel" => {
                let level = level(name, value, thinking_levels(version), "|", "")?;
                set(row, name, &level);
            }
            lineage if LINEAGE.contains(&lineage) => set_lineage(row, key, lineage, value)?,
            other => {
                let known = LEVELS.iter().find(|(own, _)| *own == other);
                let value = known.map_or(Ok(value.clone()), |(own, good)| level(own, value, good, "|", "\""))?;
                set(row, other, &value);
            }
        }
    }
    Ok(())
}

fn thinking_levels(version: ProtocolVersion) -> &'static [&'static str] {
    match version {
        ProtocolVersion::V3 => &THINKING_V3,
        ProtocolVersion::V4 => &THINKING_V4,
    }
}

/// Null takes a field away.
fn set(row: &mut SessionRow, name: &str, value: &Value) {
    if value.is_null() {
        row.entry.shift_remove(name);
    } else {
        row.entry.insert(name.to_owned(), value.clone());
    }
}

fn level(name: &str, value: &Value, good: &[&str], between: &str, quote: &str) -> Result<Value, ErrorShape> {
    let Some(given) = value.as_str() else { return Ok(Value::Null) };
    let given = given.trim().to_lowercase();
    // Version 3 does not name this one: not every model has it.
    let quietly = name == "thinkingLevel" && given == "xhigh";
    if good.contains(&given.as_str()) || quietly {
        return Ok(json!(given));
    }
    let good: Vec<String> = good.iter().map(|level| format!("{quote}{level}{quote}")).collect();
    Err(ErrorShape::invalid(format!("invalid {name} (use {})", good.join(between))))
}

fn set_label(row: &mut SessionRow, label: Option<&str>, version: ProtocolVersion) -> Result<(), ErrorShape> {
    let most = if version == ProtocolVersion::V3 { 64 } else { 512 };
    let label = label.map(str::trim);
    if label == Some("") {
        return Err(ErrorShape::invalid("invalid label: empty"));
    }
    if label.is_some_and(|label| label.chars().count() > most) {
        return Err(ErrorShape::invalid(format!("invalid label: too long (max {most})")));
    }
    row.label = label.map(str::to_owned);
    Ok(())
}

/// `provider/model`, or a model of whichever provider is the default.
fn set_model(row: &mut SessionRow, model: Option<&str>) {
    let (provider, model) = match model.map(str::trim) {
        None => (None, None),
        Some(model) => {
            model.split_once('/').map_or((None, Some(model)), |(provider, model)| (Some(provider), Some(model)))
        }
    };
    set(row, "providerOverride", &json!(provider));
    set(row, "modelOverride", &json!(model));
}

fn set_lineage(row: &mut SessionRow, key: &Key, name: &str, value: &Value) -> Result<(), ErrorShape> {
    let known = row.entry.get(name);
    if value.is_null() {
        return match known {
            None => Ok(()),
            Some(_) => Err(ErrorShape::invalid(format!("{name} cannot be cleared once set"))),
        };
    }
    if !key.may_be_spawned() {
        return Err(ErrorShape::invalid(format!("{name} is only supported for subagent:* and acp:* sessions")));
    }
    if known.is_some_and(|known| known != value) {
        return Err(ErrorShape::invalid(format!("{name} cannot be changed once set")));
    }
    set(row, name, value);
    Ok(())
}
