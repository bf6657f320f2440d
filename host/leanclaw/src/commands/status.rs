//! `leanclaw status` and `leanclaw health`: how a gateway stands, in a few lines.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use super::fields::{flag, text, words};
use super::gateway::Plain;
use crate::client::GatewayClient;
use crate::config::Flags;
use crate::output;

/// `leanclaw status`: what there is and what waits.
pub(crate) fn run(flags: Flags, plain: Plain) -> Result<()> {
    let talk = async |client: &mut GatewayClient| {
        let status = client.request("status", Some(json!({}))).await?;
        let health = client.request("health", Some(json!({}))).await?;
        let listed = client.request("plugins.list", Some(json!({"leanclaw": true}))).await?;
        let rows = listed.get("plugins").and_then(Value::as_array).into_iter().flatten();
        let plugins: Vec<&Value> = rows.filter_map(|row| row.get("leanclaw")).collect();
        Ok(json!({"status": status, "health": health, "plugins": plugins}))
    };
    plain.talk(flags, talk, |payload, _| output::text(shown(payload).trim_end()))
}

/// `leanclaw health`: whether it is well, and what is not.
pub(crate) fn health(flags: Flags, plain: Plain) -> Result<()> {
    plain.call(flags, "health", json!({"probe": true}), |payload, _| output::text(well(payload).trim_end()))
}

fn shown(payload: &Value) -> String {
    let of = |part: &str| payload.get(part).unwrap_or(&Value::Null);
    let (status, health) = (of("status"), of("health"));
    let mut lines = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing into a text cannot fail.
        let _ = writeln!(lines, "{name:<10} {value}");
    };
    line("version", &text(status, "runtimeVersion"));
    line("health", if flag(health, "ok") { "ok" } else { "not ok" });
    line("plugins", &plugins(of("plugins")));
    line("sessions", &count(status.pointer("/sessions/count")));
    let channels = words(status, "channelSummary");
    line("channels", if channels.is_empty() { "none" } else { &channels });
    let waiting = status.get("queuedSystemEvents").and_then(Value::as_array).map_or(0, Vec::len);
    line("events", &format!("{waiting} waiting for an agent"));
    lines
}

/// How many plugins stand where, such as `3 ready, 1 faulted`.
fn plugins(list: &Value) -> String {
    let mut states: Vec<(String, usize)> = Vec::new();
    for plugin in list.as_array().into_iter().flatten() {
        let state = text(plugin, "state");
        match states.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => states.push((state, 1)),
        }
    }
    if states.is_empty() {
        return "none".to_owned();
    }
    states.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

fn count(value: Option<&Value>) -> String {
    value.and_then(Value::as_u64).unwrap_or(0).to_string()
}

fn well(health: &Value) -> String {
    let mut lines = if flag(health, "ok") { "ok\n".to_owned() } else { "not ok\n".to_owned() };
    let of = |part: &str| health.get(part).unwrap_or(&Value::Null);
    for id in of("channelOrder").as_array().into_iter().flatten().filter_map(Value::as_str) {
        let channel = of("channels").get(id).unwrap_or(&Value::Null);
        let why = text(channel, "lastError");
        let state = if flag(channel, "running") { "running" } else { why.lines().next().unwrap_or("not running") };
        let _ = writeln!(lines, "channel {}: {state}", text(of("channelLabels"), id));
    }
    for plugin in of("plugins").get("errors").and_then(Value::as_array).into_iter().flatten() {
        let why = text(plugin, "error");
        let _ = writeln!(lines, "plugin {}: {}", text(plugin, "id"), why.lines().next().unwrap_or_default());
    }
    let _ = writeln!(lines, "sessions: {}", count(health.pointer("/sessions/count")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_counted_by_where_they_stand() {
        let list = json!([{"state": "ready"}, {"state": "faulted"}, {"state": "ready"}]);
        assert_eq!((plugins(&list), plugins(&json!([]))), ("2 ready, 1 faulted".into(), "none".into()));
    }

    #[test]
    fn health_names_what_is_not_well() {
        let health = json!({
            "ok": true, "channelOrder": ["hook"], "channels": {"hook": {"running": false, "lastError": "it traps\nsee"}},
            "channelLabels": {"hook": "Webhook"}, "sessions": {"count": 2},
            "plugins": {"errors": [{"id": "x", "error": "no"}]},
        });
        assert_eq!(well(&health), "ok\nchannel Webhook: it traps\nplugin x: no\nsessions: 2\n");
    }
}
