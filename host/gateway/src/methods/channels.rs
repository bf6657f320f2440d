//! `channels.*`: the channels that plugins serve.
//!
//! A plugin runs as a whole; a channel of it is not started or stopped by itself. Whoever asks for that is told which
//! setting does it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::plugin::PluginState;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::phrase::Shape;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Status {
    #[serde(default)]
    #[schemars(with = "bool")]
    #[expect(dead_code, reason = "what is shown is known at any time, so there is nothing to probe")]
    probe: Option<bool>,
    #[serde(default)]
    #[schemars(with = "u64")]
    #[expect(dead_code, reason = "what is shown is known at any time, so there is nothing to wait for")]
    timeout_ms: Option<u64>,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    channel: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Which {
    #[schemars(length(min = 1))]
    channel: String,
    #[serde(default)]
    #[schemars(with = "String")]
    account_id: Option<String>,
}

static STATUS: LazyLock<Shape> = LazyLock::new(Shape::of::<Status>);
static WHICH: LazyLock<Shape> = LazyLock::new(Shape::of::<Which>);

/// A channel of one account.
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) label: String,
    plugin: String,
    account: String,
    configured: bool,
    running: bool,
    /// Why it does not run; empty when it does.
    reason: String,
}

impl Shown {
    /// How it stands, in a word or a line.
    pub(crate) fn state(&self) -> String {
        if self.running { "running".to_owned() } else { self.reason.lines().next().unwrap_or("stopped").to_owned() }
    }

    /// The same without the account, which is named beside it.
    fn summary(&self) -> Value {
        let mut summary = self.to_json();
        if let Some(summary) = summary.as_object_mut() {
            summary.shift_remove("accountId");
        }
        summary
    }

    fn to_json(&self) -> Value {
        let error = if self.reason.is_empty() { Value::Null } else { json!(self.reason) };
        json!({
            "accountId": self.account, "enabled": self.configured, "configured": self.configured,
            "running": self.running, "lastStartAt": null, "lastStopAt": null, "lastError": error,
            "lastInboundAt": null, "lastOutboundAt": null,
        })
    }
}

/// Every channel of every plugin and account. A plugin that is not ready has not told what its channel is called; it is
/// shown by its own name.
pub(crate) fn all(state: &State) -> Vec<Shown> {
    let ready = state.services.plugins.channels();
    let mut shown = Vec::new();
    for plugin in state.services.plugins.list() {
        if !plugin.exports.iter().any(|export| export == "channel") {
            continue;
        }
        let own = ready.iter().find(|channel| channel.key.plugin == plugin.id && channel.key.account == plugin.account);
        shown.push(Shown {
            id: own.map_or_else(|| plugin.id.to_string(), |channel| channel.id.clone()),
            label: own.map(|channel| channel.title.clone()).filter(|title| !title.is_empty()).unwrap_or(plugin.name),
            plugin: plugin.id.to_string(),
            account: plugin.account.to_string(),
            configured: !matches!(plugin.state, PluginState::Disabled | PluginState::NeedsGrant),
            running: own.is_some(),
            reason: plugin.reason,
        });
    }
    shown
}

fn by_id(state: &State, only: Option<&str>) -> BTreeMap<String, Vec<Shown>> {
    let mut by_id: BTreeMap<String, Vec<Shown>> = BTreeMap::new();
    for channel in all(state) {
        if only.is_none_or(|wanted| wanted == channel.id) {
            by_id.entry(channel.id.clone()).or_default().push(channel);
        }
    }
    by_id
}

/// The account that stands for a channel.
fn usual(accounts: &[Shown]) -> Option<&Shown> {
    accounts.iter().find(|channel| channel.account == "default").or(accounts.first())
}

/// Summaries, order and labels, as the health snapshot shows them.
pub(crate) fn at_a_glance(state: &State) -> (Value, Vec<String>, Value) {
    let by_id = by_id(state, None);
    let (mut channels, mut labels) = (Map::new(), Map::new());
    for (id, own) in &by_id {
        if let Some(first) = usual(own) {
            channels.insert(id.clone(), first.summary());
            labels.insert(id.clone(), json!(first.label));
        }
    }
    (Value::Object(channels), by_id.into_keys().collect(), Value::Object(labels))
}

/// `channels.status {probe?, timeoutMs?}` → every channel with its accounts.
pub(crate) fn status(call: &Call<'_>) -> Answer {
    let params: Status = match call.read(&STATUS, &[]) {
        Ok(params) => params,
        Err(error) => return Answer::error(error),
    };
    let by_id = by_id(call.state, params.channel.as_deref());
    let (mut labels, mut channels, mut accounts, mut defaults) = (Map::new(), Map::new(), Map::new(), Map::new());
    let mut meta = Vec::new();
    for (id, own) in &by_id {
        let Some(first) = usual(own) else { continue };
        labels.insert(id.clone(), json!(first.label));
        meta.push(json!({"id": id, "label": first.label, "detailLabel": first.label}));
        channels.insert(id.clone(), first.summary());
        accounts.insert(id.clone(), own.iter().map(Shown::to_json).collect());
        defaults.insert(id.clone(), json!(first.account));
    }
    let order: Vec<&String> = by_id.keys().collect();
    let mut status = json!({
        "ts": call.state.now_ms(), "channelOrder": order, "channelLabels": labels, "channelDetailLabels": labels,
        "channelSystemImages": {}, "channelMeta": meta, "channels": channels, "channelAccounts": accounts,
        "channelDefaultAccountId": defaults,
    });
    if call.session.version == ProtocolVersion::V4
        && let Some(object) = status.as_object_mut()
    {
        object.insert("statusIssues".into(), json!([]));
    }
    Answer::json(&status)
}

/// `channels.start {channel, accountId?}`: fine when it runs, else how to start it.
pub(crate) fn start(call: &Call<'_>) -> Answer {
    answer(call, |channel| {
        if channel.running {
            return Ok(json!({"channel": channel.id, "accountId": channel.account, "started": true}));
        }
        Err(format!(
            "channel {} does not run: {}\nif its plugin is switched off: leanclaw config set plugins.entries.{}.enabled true",
            channel.id, channel.reason, channel.plugin
        ))
    })
}

/// `channels.stop {channel, accountId?}`: fine when it does not run, else how to stop it.
pub(crate) fn stop(call: &Call<'_>) -> Answer {
    answer(call, |channel| {
        if !channel.running {
            return Ok(json!({"channel": channel.id, "accountId": channel.account, "stopped": true}));
        }
        Err(format!(
            "channel {} runs as long as its plugin does\nto stop the plugin: leanclaw config set plugins.entries.{}.enabled false",
            channel.id, channel.plugin
        ))
    })
}

/// `channels.logout {channel, accountId?}`: how to take the login away; the gateway cannot see which secret it is.
pub(crate) fn logout(call: &Call<'_>) -> Answer {
    answer(call, |channel| {
        Err(format!(
            "channel {0} keeps its login in the secrets of its plugin\nto see them: leanclaw plugin secret list {1}\nto \
             take one away: leanclaw plugin secret remove {1} NAME",
            channel.id, channel.plugin
        ))
    })
}

fn answer(call: &Call<'_>, act: impl FnOnce(&Shown) -> Result<Value, String>) -> Answer {
    let which: Which = match call.read(&WHICH, &[]) {
        Ok(which) => which,
        Err(error) => return Answer::error(error),
    };
    let account = which.account_id.as_deref().filter(|account| !account.is_empty()).unwrap_or("default");
    let channels = all(call.state);
    let found = channels.iter().find(|channel| channel.id == which.channel && channel.account == account);
    let Some(channel) = found else {
        return Answer::error(ErrorShape::invalid(format!("invalid {} channel", call.method)));
    };
    match act(channel) {
        Ok(payload) => Answer::json(&payload),
        Err(message) => Answer::error(ErrorShape::invalid(message)),
    }
}
