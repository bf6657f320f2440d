//! `channels.*`: the channels that plugins serve.
//!
//! One account of a channel is started and stopped by the setting that says whether the account is loaded, so that it stays
//! as it was left. A plugin that is switched off as a whole is not switched on from here: whoever asks is told the setting.
//! Which of a plugin's secrets are its login the gateway cannot see, so a logout takes all that its account has.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use leanclaw_types::plugin::PluginState;
use leanclaw_types::{AccountId, PluginKey};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::config;
use crate::connection::{Answer, Call};
use crate::error::{failure_to_error, unavailable};
use crate::gateway::State;
use crate::phrase::Shape;
use crate::wire::{Payload, joined};

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

/// What is said of a channel whose service is not reached.
const CUT_OFF: &str = "its service cannot be reached; `leanclaw plugin logs` shows why";

/// A channel of one account.
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) label: String,
    key: PluginKey,
    /// Whether nothing in the configuration keeps it from running.
    enabled: bool,
    /// Whether an admin decided on it.
    configured: bool,
    running: bool,
    /// Whether it reaches its service, as far as it is known.
    connected: bool,
    /// Why it does not run or reach its service; empty when it does.
    reason: String,
}

impl Shown {
    /// How it stands, in a word or a line.
    pub(crate) fn state(&self) -> String {
        if self.connected { "running".to_owned() } else { self.reason.lines().next().unwrap_or("stopped").to_owned() }
    }

    /// How it is asked for: with the account where that is not the usual one.
    fn named(&self) -> String {
        match self.key.account.as_str() {
            "default" => self.id.clone(),
            account => format!("{} (accountId {account})", self.id),
        }
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
            "accountId": self.key.account, "enabled": self.enabled, "configured": self.configured,
            "running": self.running, "connected": self.connected, "lastStartAt": null, "lastStopAt": null, "lastError": error,
            "lastInboundAt": null, "lastOutboundAt": null,
        })
    }
}

/// Every channel of every plugin and account. One of which no account is ready is called as the manifest says, else as its
/// plugin is.
pub(crate) fn all(state: &State) -> Vec<Shown> {
    let ready = state.services.plugins.channels();
    let mut shown = Vec::new();
    for plugin in state.services.plugins.list() {
        // One that is switched off or broken may never have been looked at; one that waits for a grant is no channel yet.
        let is_meant = matches!(plugin.state, PluginState::Disabled | PluginState::Faulted | PluginState::Loading)
            && !plugin.channels.is_empty();
        if !is_meant && !plugin.exports.iter().any(|export| export == "channel") {
            continue;
        }
        let of_plugin = || ready.iter().filter(|channel| channel.key.plugin == plugin.id);
        let own = of_plugin().find(|channel| channel.key.account == plugin.account);
        // Every account of a plugin serves the same channel.
        let named = own.or_else(|| of_plugin().next());
        let cut_off = own.is_some_and(|channel| channel.cut_off);
        shown.push(Shown {
            id: named
                .map(|channel| &channel.id)
                .or(plugin.channels.first())
                .cloned()
                .unwrap_or_else(|| plugin.id.to_string()),
            label: named.map(|channel| channel.title.clone()).filter(|title| !title.is_empty()).unwrap_or(plugin.name),
            key: PluginKey { plugin: plugin.id, account: plugin.account },
            enabled: plugin.state != PluginState::Disabled,
            configured: plugin.state != PluginState::NeedsGrant,
            running: own.is_some(),
            connected: own.is_some_and(|channel| !channel.cut_off),
            reason: if cut_off { CUT_OFF.to_owned() } else { plugin.reason },
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
    accounts.iter().find(|channel| channel.key.account == AccountId::default()).or(accounts.first())
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
pub(crate) fn status(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let params: Status = call.read(&STATUS, &[])?;
    let by_id = by_id(call.state, params.channel.as_deref());
    let (mut labels, mut channels, mut accounts, mut defaults) = (Map::new(), Map::new(), Map::new(), Map::new());
    let mut meta = Vec::new();
    for (id, own) in &by_id {
        let Some(first) = usual(own) else { continue };
        labels.insert(id.clone(), json!(first.label));
        meta.push(json!({"id": id, "label": first.label, "detailLabel": first.label}));
        channels.insert(id.clone(), first.summary());
        accounts.insert(id.clone(), own.iter().map(Shown::to_json).collect());
        defaults.insert(id.clone(), json!(first.key.account));
    }
    let order: Vec<&String> = by_id.keys().collect();
    let status = json!({
        "ts": call.state.now_ms(), "channelOrder": order, "channelLabels": labels, "channelDetailLabels": labels,
        "channelSystemImages": {}, "channelMeta": meta, "channels": channels, "channelAccounts": accounts,
        "channelDefaultAccountId": defaults,
    });
    let issues = call.session.version.is_newest().then(|| ("statusIssues", json!([])));
    Ok(Answer::json(&joined(status, issues)))
}

/// `channels.start {channel, accountId?}` → `{channel, accountId, started: true}`, once it runs. It stays so.
pub(crate) fn start(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    switch(call, true)
}

/// `channels.stop {channel, accountId?}` → `{channel, accountId, stopped: true}`, once it does not. It stays so.
pub(crate) fn stop(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    switch(call, false)
}

fn switch(call: &Call<'_>, on: bool) -> Result<Answer, ErrorShape> {
    let channel = which(call)?;
    Ok(call.later(move |state, session| async move {
        let Shown { id, key, running, .. } = channel;
        let PluginKey { plugin, account } = &key;
        let word = if on { "started" } else { "stopped" };
        let done = Payload::json(&json!({"channel": id, "accountId": account, word: true}));
        // How it stands says nothing about how it will stand after the next start: an account may be stopped while it fails.
        let setting = ["plugins", "entries", plugin.as_str(), "accounts", account.as_str(), "enabled"];
        let said = config::said(&state, &session, &setting).await?;
        let is_on = said.is_none_or(|said| said != json!(false));
        if running == on && is_on == on {
            return Ok(done);
        }
        let accounts = Map::from_iter([(account.to_string(), json!({"enabled": on}))]);
        let entry = Map::from_iter([(plugin.to_string(), json!({"accounts": accounts}))]);
        config::lay_over(&state, &session, &json!({"plugins": {"entries": entry}})).await?;
        state.broadcast_health();
        match all(&state).into_iter().find(|own| own.key == key).filter(|now| now.running != on) {
            None => Ok(done),
            Some(now) if on => Err(unavailable(&format!("channel {} does not run: {}", now.id, now.reason))),
            Some(now) => Err(unavailable(&format!("channel {} still runs; its account could not be stopped", now.id))),
        }
    }))
}

/// `channels.logout {channel, accountId?}` → `{channel, accountId, cleared, loggedOut: true}`, once the secrets of the
/// account's plugin are gone and nothing goes on with them. `cleared` says whether there were any.
pub(crate) fn logout(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let Shown { id, key, .. } = which(call)?;
    Ok(call.later(move |state, session| async move {
        let cleared = state.services.plugins.log_out(&session.caller, &key).await;
        state.broadcast_health();
        let cleared = cleared.map_err(|failure| failure_to_error(session.version, &failure))?;
        Ok(Payload::json(&json!({"channel": id, "accountId": key.account, "cleared": cleared, "loggedOut": true})))
    }))
}

/// The channel and account that are meant. A plugin's own name is one of its channel as well: while none of its accounts is
/// ready there is no other.
fn which(call: &Call<'_>) -> Result<Shown, ErrorShape> {
    let which: Which = call.read(&WHICH, &[])?;
    let account = which.account_id.as_deref().filter(|account| !account.is_empty()).unwrap_or("default");
    let is_meant = |channel: &Shown| channel.id == which.channel || channel.key.plugin.as_str() == which.channel;
    let known = all(call.state);
    let hint = match known.iter().map(Shown::named).collect::<Vec<_>>() {
        none if none.is_empty() => {
            "no plugin serves a channel; leanclaw plugin list shows how plugins stand".to_owned()
        }
        named => format!("there are: {}", named.join(", ")),
    };
    let found = known.into_iter().find(|channel| is_meant(channel) && channel.key.account.as_str() == account);
    found.ok_or_else(|| ErrorShape::invalid(format!("invalid {} channel", call.method)).hint(hint))
}
