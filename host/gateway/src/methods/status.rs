//! `status`, heartbeats and `wake`.

use std::collections::HashMap;
use std::sync::LazyLock;

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::plugin::PluginState;
use leanclaw_types::session::SessionRow;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::phrase::Shape;
use crate::pulse::Queued;
use crate::sessions::STORE_PATH;
use crate::snapshot::DEFAULT_AGENT;
use crate::wire::{Payload, joined};

/// Sessions that are named, of each agent and together.
const RECENT: u32 = 10;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wake {
    mode: Mode,
    #[schemars(length(min = 1))]
    text: String,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    #[expect(dead_code, reason = "every event waits for the one agent there is")]
    session_key: Option<String>,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    #[expect(dead_code, reason = "every event waits for the one agent there is")]
    agent_id: Option<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Mode {
    Now,
    NextHeartbeat,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Switch {
    enabled: bool,
}

static WAKE: LazyLock<Shape> = LazyLock::new(Shape::of::<Wake>);
static SWITCH: LazyLock<Shape> = LazyLock::new(Shape::of::<Switch>);

/// `status {includeChannelSummary?}` → how things stand, for a person. Other keys are ignored, as the real gateway does.
pub(crate) fn status(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let params: Value = serde_json::from_str(call.params).unwrap_or_default();
    let with_channels = params.get("includeChannelSummary") != Some(&Value::Bool(false));
    let state = call.state;
    let queued: Vec<String> = state.pulse.queued().iter().map(|event| event.text.clone()).collect();
    let beats = |(agent, _): &(String, _)| heartbeat(call.session.version, agent);
    let heartbeats: Vec<Value> = state.agents.all().iter().map(beats).collect();
    let status = json!({
        "runtimeVersion": state.config.version,
        "heartbeat": {"defaultAgentId": DEFAULT_AGENT, "agents": heartbeats},
        "channelSummary": if with_channels { channel_lines(state) } else { Vec::new() },
        "queuedSystemEvents": queued,
        "sessions": sessions(state),
    });
    let more = if call.session.version.is_newest() { newest(state) } else { Map::new() };
    Ok(Answer::json(&joined(status, more)))
}

/// The sessions that changed last, all together and by agent. What is left of a deleted agent is among all of them only.
fn sessions(state: &State) -> Value {
    let store = &state.services.sessions;
    let agents = store.at_a_glance(RECENT).unwrap_or_else(|failure| {
        tracing::warn!(%failure, "the sessions cannot be counted");
        Vec::new()
    });
    let now_ms = state.now_ms();
    let mut all: Vec<(u64, Value)> = Vec::new();
    let mut told: HashMap<&str, Value> = HashMap::new();
    for own in &agents {
        let rows = own.recent.iter().filter_map(|(key, _)| store.get(key).ok().flatten());
        let recent: Vec<(u64, Value)> = rows.map(|row| (row.updated_ms, recent(&row, now_ms))).collect();
        let shown: Vec<&Value> = recent.iter().map(|(_, row)| row).collect();
        told.insert(&own.agent, json!({"agentId": own.agent, "path": STORE_PATH, "count": own.count, "recent": shown}));
        all.extend(recent);
    }
    all.sort_by_key(|(updated_ms, _)| std::cmp::Reverse(*updated_ms));
    let recent: Vec<Value> = all.into_iter().take(RECENT as usize).map(|(_, row)| row).collect();
    let none = |id: &str| json!({"agentId": id, "path": STORE_PATH, "count": 0, "recent": []});
    let mut of = |(id, _): (String, _)| told.remove(id.as_str()).unwrap_or_else(|| none(&id));
    let by_agent: Vec<Value> = state.agents.all().into_iter().map(&mut of).collect();
    let model = state.default_model();
    json!({
        "paths": [STORE_PATH],
        "count": agents.iter().map(|own| own.count).sum::<u64>(),
        "defaults": {
            "model": model.as_ref().map(|model| &model.id), "contextTokens": model.and_then(|model| model.context_tokens),
        },
        "recent": recent,
        "byAgent": by_agent,
    })
}

fn recent(row: &SessionRow, now_ms: u64) -> Value {
    let own = |name: &str| row.entry.get(name).cloned();
    json!({
        "agentId": row.agent,
        "key": row.key,
        "kind": row.kind.as_str(),
        "sessionId": row.session_id,
        "updatedAt": row.updated_ms,
        "age": now_ms.saturating_sub(row.updated_ms),
        "systemSent": own("systemSent").unwrap_or(Value::Bool(false)),
        "abortedLastRun": own("abortedLastRun").unwrap_or(Value::Bool(false)),
        "thinkingLevel": own("thinkingLevel").unwrap_or_else(|| json!("off")),
        "totalTokens": own("totalTokens"),
        "totalTokensFresh": own("totalTokensFresh").unwrap_or(Value::Bool(false)),
        "remainingTokens": null,
        "percentUsed": null,
        "model": own("modelOverride"),
        "contextTokens": null,
        "flags": [],
    })
}

/// Nothing wakes agents, so no heartbeat comes, whatever the switch says.
fn heartbeat(version: ProtocolVersion, agent: &str) -> Value {
    let heartbeat = json!({"agentId": agent, "enabled": false, "every": "disabled", "everyMs": null});
    joined(heartbeat, version.is_newest().then(|| ("waitingForRoute", json!(false))))
}

/// What version 4 adds.
fn newest(state: &State) -> Map<String, Value> {
    let faulted = state.services.plugins.list().into_iter().filter(|plugin| plugin.state == PluginState::Faulted);
    let degraded: Vec<Value> = faulted.map(|plugin| json!({"id": plugin.id, "error": plugin.reason})).collect();
    let zeros = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), json!(0))).collect::<Map<_, _>>();
    let more = json!({
        "hostDesktop": {"enabled": false, "state": "disabled", "port": 0},
        "degradedSecretOwners": [],
        "degradedPlugins": degraded,
        "tasks": {
            "total": 0, "active": 0, "terminal": 0, "failures": 0,
            "byStatus": zeros(&["queued", "running", "succeeded", "failed", "timed_out", "cancelled", "lost"]),
            "byRuntime": zeros(&["subagent", "acp", "cli", "cron"]),
        },
        "taskAudit": {
            "total": 0, "warnings": 0, "errors": 0,
            "byCode": zeros(&[
                "stale_queued", "stale_running", "lost", "delivery_failed", "missing_cleanup", "inconsistent_timestamps",
            ]),
        },
    });
    more.as_object().cloned().unwrap_or_default()
}

fn channel_lines(state: &State) -> Vec<String> {
    let channels = super::channels::all(state);
    channels.iter().map(|channel| format!("{}: {}", channel.label, channel.state())).collect()
}

/// `last-heartbeat` → the last heartbeat's event: none, as nothing wakes agents.
pub(crate) fn last_heartbeat(_: &Call<'_>) -> Result<Answer, ErrorShape> {
    Ok(Answer::json(&Value::Null))
}

/// `set-heartbeats {enabled}` → `{ok, enabled}`. Kept for when there are heartbeats.
pub(crate) fn set_heartbeats(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let Switch { enabled } = call.read(&SWITCH, &[])?;
    Ok(call.later(move |state, _| async move {
        state.pulse.switch(enabled).await?;
        Ok(Payload::json(&json!({"ok": true, "enabled": state.pulse.enabled()})))
    }))
}

/// `wake {mode, text}` → `{ok: true}`: an event waits for the agent's next turn.
pub(crate) fn wake(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let wake = wake_params(call)?;
    let mode = match wake.mode {
        Mode::Now => "now",
        Mode::NextHeartbeat => "next-heartbeat",
    };
    Ok(call.later(move |state, _| async move {
        let event = Queued { text: wake.text.trim().to_owned(), mode: mode.to_owned(), at_ms: state.now_ms() };
        state.pulse.queue(event).await?;
        Ok(Payload::json(&json!({"ok": true})))
    }))
}

fn wake_params(call: &Call<'_>) -> Result<Wake, ErrorShape> {
    let mut params: Map<String, Value> = serde_json::from_str(call.params).unwrap_or_default();
    if call.session.version.is_newest() {
        let known = WAKE.properties();
        params.retain(|name, _| known.contains(&name.as_str()));
    }
    let wake: Wake = WAKE.read(call.session.version, Value::Object(params)).map_err(|problems| {
        // Both versions spell this enumeration as a union of constants.
        let union = "at /mode: must be equal to constant; at /mode: must match a schema in anyOf";
        let problems = problems.replace("at /mode: must be equal to one of the allowed values", union);
        ErrorShape::invalid(format!("invalid {} params: {problems}", call.method))
    })?;
    if wake.text.trim().is_empty() {
        return Err(ErrorShape::invalid("invalid wake params: text must not be blank"));
    }
    Ok(wake)
}
