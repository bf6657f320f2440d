//! `groups.*`: which chats belong to which agent and folder. These methods are LeanClaw's own.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::agents::later;
use crate::connection::{Answer, Call};
use crate::groups::{Group, Wish};
use crate::phrase::{Shape, no_nulls};
use crate::snapshot::DEFAULT_AGENT;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Register {
    #[schemars(length(min = 1))]
    jid: String,
    #[schemars(length(min = 1))]
    name: String,
    #[schemars(length(min = 1))]
    folder: String,
    #[serde(default)]
    trigger: Option<String>,
    #[serde(default)]
    requires_trigger: Option<bool>,
    #[serde(default)]
    is_main: Option<bool>,
    #[serde(default)]
    agent_id: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = no_nulls)]
struct Update {
    #[schemars(length(min = 1))]
    jid: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    trigger: Option<String>,
    #[serde(default)]
    requires_trigger: Option<bool>,
    #[serde(default)]
    agent_id: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Which {
    #[schemars(length(min = 1))]
    jid: String,
}

static REGISTER: LazyLock<Shape> = LazyLock::new(Shape::of::<Register>);
static UPDATE: LazyLock<Shape> = LazyLock::new(Shape::of::<Update>);
static WHICH: LazyLock<Shape> = LazyLock::new(Shape::of::<Which>);

/// A chat may also be called `chatJid`.
const ALIASES: [(&str, &str); 1] = [("chatJid", "jid")];

/// `groups.list {}` → `[{jid, name, folder, isMain, trigger, requiresTrigger, agentId, addedAtMs}]`.
pub(crate) fn list(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    let rows: Vec<Value> = call.state.chat_groups.all().iter().map(|(chat, group)| shown(chat, group)).collect();
    Ok(Answer::json(&json!(rows)))
}

/// `groups.register {jid, name, folder, trigger?, requiresTrigger?, isMain?, agentId?}` → the group.
pub(crate) fn register(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let params: Register = call.read(&REGISTER, &ALIASES)?;
    Ok(later(call, |state, by| async move {
        let group = Group {
            name: params.name,
            folder: params.folder,
            trigger: params.trigger.filter(|text| !text.is_empty()),
            requires_trigger: params.requires_trigger.unwrap_or(true),
            is_main: params.is_main.unwrap_or(false),
            agent_id: params.agent_id.unwrap_or_else(|| DEFAULT_AGENT.to_owned()),
            added_at_ms: by.at_ms,
        };
        let group = state.chat_groups.register(&params.jid, group, &state.agents, &by).await?;
        Ok(shown(&params.jid, &group))
    }))
}

/// `groups.update {jid, name?, trigger?, requiresTrigger?, agentId?}` → the group; an empty `trigger` takes it away.
pub(crate) fn update(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let params: Update = call.read(&UPDATE, &ALIASES)?;
    Ok(later(call, |state, by| async move {
        let Update { jid, name, trigger, requires_trigger, agent_id } = params;
        let wish = Wish { name, trigger, requires_trigger, agent_id };
        let group = state.chat_groups.update(&jid, wish, &state.agents, &by).await?;
        Ok(shown(&jid, &group))
    }))
}

/// `groups.remove {jid}` → `{ok, jid}`. The group's folder and sessions stay.
pub(crate) fn remove(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let which: Which = call.read(&WHICH, &ALIASES)?;
    Ok(later(call, |state, by| async move {
        state.chat_groups.remove(&which.jid, &by).await?;
        Ok(json!({"ok": true, "jid": which.jid}))
    }))
}

fn shown(chat: &str, group: &Group) -> Value {
    json!({
        "jid": chat, "name": group.name, "folder": group.folder, "isMain": group.is_main, "trigger": group.trigger,
        "requiresTrigger": group.requires_trigger, "agentId": group.agent_id, "addedAtMs": group.added_at_ms,
    })
}
