//! `skills.*`: what plugins bring that agents can use. A skill is a plugin that exports tools; there are no folders with
//! SKILL.md files.

use std::sync::LazyLock;

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::plugin::{PluginInfo, PluginState};
use leanclaw_types::text;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::config;
use super::tools::known_agent;
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::phrase::{Shape, no_nulls};
use crate::sessions::Key;
use crate::wire::{Payload, joined};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Update {
    #[schemars(length(min = 1))]
    skill_key: String,
    enabled: Option<bool>,
    api_key: Option<String>,
    env: Option<Map<String, Value>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Search {
    #[schemars(length(min = 1))]
    query: Option<String>,
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
}

/// In each of the forms a client may have: they all name something to fetch.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
#[expect(dead_code, reason = "how something is fetched matters to nobody where nothing is")]
struct Install {
    #[schemars(length(min = 1))]
    name: Option<String>,
    #[schemars(length(min = 1))]
    slug: Option<String>,
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(length(min = 1))]
    install_id: Option<String>,
    dangerously_force_unsafe_install: Option<bool>,
    #[schemars(extend("enum" = ["clawhub", "upload"]))]
    source: Option<String>,
    #[schemars(length(min = 1))]
    version: Option<String>,
    #[schemars(length(min = 1))]
    upload_id: Option<String>,
    #[schemars(length(min = 64, max = 64))]
    sha256: Option<String>,
    force: Option<bool>,
    #[schemars(range(min = 1000))]
    timeout_ms: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Status {
    #[schemars(length(min = 1))]
    agent_id: Option<String>,
    #[schemars(length(min = 1))]
    session_key: Option<String>,
    /// As the original LeanClaw has it: only the skill of this id or name.
    name: Option<String>,
}

static STATUS: LazyLock<Shape> = LazyLock::new(Shape::of::<Status>);
static UPDATE: LazyLock<Shape> = LazyLock::new(Shape::of::<Update>);
static SEARCH: LazyLock<Shape> = LazyLock::new(Shape::of::<Search>);
static INSTALL: LazyLock<Shape> = LazyLock::new(Shape::of::<Install>);

/// The plugins that are skills, by the account that is always there.
fn skills(state: &State) -> Vec<PluginInfo> {
    let is_skill = |plugin: &PluginInfo| {
        plugin.account == leanclaw_types::AccountId::default() && plugin.exports.iter().any(|export| export == "skill")
    };
    state.services.plugins.list().into_iter().filter(is_skill).collect()
}

fn is_called(plugin: &PluginInfo, name: &str) -> bool {
    plugin.id.as_str() == name || plugin.name == name
}

fn shown(plugin: &PluginInfo, version: ProtocolVersion) -> Value {
    let nothing = || json!({"bins": [], "anyBins": [], "env": [], "config": [], "os": []});
    let (is_ready, is_off) = (plugin.state == PluginState::Ready, plugin.state == PluginState::Disabled);
    let mut shown = json!({
        "name": plugin.name, "description": plugin.description, "source": "plugin", "bundled": false,
        "filePath": plugin.path, "baseDir": plugin.path, "skillKey": plugin.id, "always": false, "disabled": is_off,
        "blockedByAllowlist": plugin.state == PluginState::NeedsGrant, "eligible": is_ready,
        "requirements": nothing(), "missing": nothing(), "configChecks": [], "install": [],
    });
    if let (ProtocolVersion::V4, Some(shown)) = (version, shown.as_object_mut()) {
        for (name, value) in [
            ("blockedByAgentFilter", false),
            ("platformIncompatible", false),
            ("modelVisible", is_ready),
            ("userInvocable", false),
            ("commandVisible", false),
        ] {
            shown.insert(name.into(), json!(value));
        }
    }
    shown
}

/// `skills.status {agentId?, sessionKey?, name?}` → `{workspaceDir, managedSkillsDir, skills}`, in version 4 with the `agentId`
/// that was named, or whose session was. All agents have the same skills.
pub(crate) fn status(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked: Status = call.read(&STATUS, &[])?;
    let of_session = |key: &String| Key::read(key, asked.agent_id.as_deref()).map(|key| key.agent);
    let of_session = asked.session_key.as_ref().map(of_session).transpose()?;
    let agent = known_agent(call, of_session.or(asked.agent_id))?;
    let version = call.session.version;
    let is_meant = |plugin: &&PluginInfo| asked.name.as_ref().is_none_or(|name| is_called(plugin, name));
    let skills: Vec<Value> = skills(call.state).iter().filter(is_meant).map(|plugin| shown(plugin, version)).collect();
    let status = json!({"workspaceDir": "", "managedSkillsDir": "", "skills": skills});
    Ok(Answer::json(&joined(status, version.is_newest().then(|| ("agentId", json!(agent))))))
}

/// `skills.update {skillKey, enabled?}` → `{ok, skillKey, config}`: switches a plugin on or off, and it stays so.
pub(crate) fn update(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let Update { skill_key: skill, enabled, api_key, env } = call.read(&UPDATE, &[])?;
    if !skills(call.state).iter().any(|plugin| plugin.id.as_str() == skill) {
        let message = format!("unknown skill: {}; skills.status lists those there are", text::shown(&skill, 80));
        return Err(ErrorShape::invalid(message));
    }
    if api_key.is_some_and(|key| !key.is_empty()) || env.is_some_and(|env| !env.is_empty()) {
        return Err(ErrorShape::invalid(format!(
            "a plugin has neither `apiKey` nor `env`; give it a secret with `leanclaw plugin secret set {skill} NAME`"
        )));
    }
    let enabled = enabled
        .ok_or_else(|| ErrorShape::invalid("skills.update changes whether a skill is switched on: say `enabled`"))?;
    Ok(call.later(move |state, session| async move {
        let entry = Map::from_iter([(skill.clone(), json!({"enabled": enabled}))]);
        config::lay_over(&state, &session, &json!({"plugins": {"entries": entry}})).await?;
        Ok(Payload::json(&json!({"ok": true, "skillKey": skill, "config": {"enabled": enabled}})))
    }))
}

/// `skills.search {query?, limit?}` → `{results}`: of the skills there are, those whose id, name or description holds the
/// query. Nothing is looked up elsewhere.
pub(crate) fn search(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let search: Search = call.read(&SEARCH, &[])?;
    let wanted = search.query.unwrap_or_default().to_lowercase();
    let fits = |plugin: &PluginInfo| {
        let text = format!("{}\n{}\n{}", plugin.id, plugin.name, plugin.description);
        text.to_lowercase().contains(&wanted)
    };
    let result = |plugin: PluginInfo| {
        json!({
            "score": 1.0, "slug": plugin.id, "installRef": plugin.id, "displayName": plugin.name,
            "summary": plugin.description, "version": plugin.version,
        })
    };
    let found = skills(call.state).into_iter().filter(fits).take(search.limit.unwrap_or(100));
    let results: Vec<Value> = found.map(result).collect();
    Ok(Answer::json(&json!({"results": results})))
}

/// `skills.install {name, installId, …}` or `{source, slug, …}` → `{ok, message, stdout, stderr, code}`: fine for a skill that
/// is there, as it needs nothing else; other ones are not fetched.
pub(crate) fn install(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let Install { name, slug, .. } = call.read(&INSTALL, &[])?;
    let Some(wanted) = name.or(slug) else {
        return Err(ErrorShape::invalid(
            "skills.install: `name` or `slug` is required; skills.status lists the skills",
        ));
    };
    if skills(call.state).iter().any(|plugin| is_called(plugin, &wanted)) {
        let message = "it is there, and needs nothing else installed";
        return Ok(Answer::json(&json!({"ok": true, "message": message, "stdout": "", "stderr": "", "code": 0})));
    }
    let shown: String = wanted.chars().take(80).collect();
    Err(ErrorShape::invalid(format!(
        "there is no skill {} here, and none is fetched from elsewhere: skills are plugins
to install one from this \
         machine: leanclaw plugin install PATH",
        shown.escape_debug()
    )))
}
