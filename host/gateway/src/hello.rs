//! The answer to a good `connect`.

use leanclaw_types::Caller;
use leanclaw_types::frame::{HelloAuth, HelloFeatures, HelloOk, HelloPolicy, HelloServer, ProtocolVersion};
use leanclaw_types::plugin::PluginState;
use serde_json::{Value, json};

use crate::auth::Access;
use crate::gateway::State;
use crate::hub::own_events;
use crate::methods;
use crate::snapshot::DEFAULT_AGENT;
use crate::wire::joined;

/// Builds `hello-ok` for one connection.
pub(crate) fn hello(state: &State, version: ProtocolVersion, connection: &str, access: &Access) -> HelloOk {
    let newest = version.is_newest();
    let limits = &state.config.limits;
    HelloOk {
        kind: "hello-ok".into(),
        protocol: version.number(),
        server: HelloServer {
            version: state.config.version.clone(),
            boot_id: newest.then(|| state.boot_id.clone()),
            conn_id: connection.to_owned(),
        },
        features: HelloFeatures {
            methods: methods(state, version),
            events: events(state, version),
            capabilities: newest.then(Vec::new),
        },
        snapshot: snapshot(state, version, &access.caller),
        // Version 3 tells what was granted only together with a device token, and tells a node nothing.
        auth: (newest || (access.token.is_some() && access.caller.role != "node")).then(|| HelloAuth {
            method: newest.then(|| access.method.into()),
            role: access.caller.role.clone(),
            scopes: access.caller.scopes.clone(),
            device_token: access.token.as_ref().map(|(token, _)| token.clone()),
            issued_at_ms: access.token.as_ref().map(|(_, issued_at_ms)| *issued_at_ms),
        }),
        policy: HelloPolicy {
            max_payload: limits.frame_bytes as u64,
            max_buffered_bytes: limits.buffered_bytes as u64,
            tick_interval_ms: u64::try_from(limits.tick_interval.as_millis()).unwrap_or(u64::MAX).max(1),
        },
    }
}

fn methods(state: &State, version: ProtocolVersion) -> Vec<String> {
    let own = methods::TABLE.iter().filter(|method| method.is_in(version)).map(|method| method.name.to_owned());
    own.chain(state.services.plugins.methods().iter().map(leanclaw_types::plugin::MethodSpec::wire_name)).collect()
}

fn events(state: &State, version: ProtocolVersion) -> Vec<String> {
    let mut events: Vec<String> = own_events(version).map(str::to_owned).collect();
    for plugin in state.services.plugins.list() {
        let granted = plugin.granted.filter(|_| plugin.state == PluginState::Ready);
        for name in granted.iter().flat_map(|granted| &granted.events) {
            let event = format!("{}.{name}", plugin.id);
            if !events.contains(&event) {
                events.push(event);
            }
        }
    }
    events
}

fn snapshot(state: &State, version: ProtocolVersion, caller: &Caller) -> Value {
    let health: Value = serde_json::from_str(state.current_health().text(version)).unwrap_or_else(|_| json!({}));
    let snapshot = json!({
        "presence": state.presence(version, caller),
        "health": health,
        "stateVersion": state.state_version(),
        "uptimeMs": state.uptime_ms(),
        "sessionDefaults": {
            "defaultAgentId": DEFAULT_AGENT,
            "mainKey": "main",
            "mainSessionKey": format!("agent:{DEFAULT_AGENT}:main"),
            "scope": "per-sender",
        },
        "authMode": state.config.auth.credential().map_or("none", |(kind, _)| kind),
    });
    let phase = if state.draining() { "draining" } else { "accepting" };
    joined(snapshot, version.is_newest().then(|| ("suspension", json!({"phase": phase}))))
}
