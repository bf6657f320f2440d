//! `node.*`: the devices that are asked to do things, and asking them.

mod invoke;
mod pair;
mod rules;
mod tokens;
mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::nodes::Request;
use crate::phrase::Shape;

pub(crate) use invoke::{event, invoke, progress, result};
pub(crate) use pair::{approve, paired, reject, remove, rename};
pub(crate) use rules::{rules, set_rules};
pub(crate) use tokens::{request, verify};
pub(crate) use work::{ack, drain, enqueue, pull};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Which {
    #[schemars(length(min = 1))]
    node_id: String,
}

static WHICH: LazyLock<Shape> = LazyLock::new(Shape::of::<Which>);

fn unknown_node() -> ErrorShape {
    ErrorShape::invalid("unknown nodeId").hint("leanclaw nodes list shows the nodes there are")
}

/// The connection of a node; of several the one that came last.
fn connection_of(state: &State, id: &str) -> Option<Arc<Session>> {
    state.hub.newest(|session| session.declared.is_some() && session.device.as_deref() == Some(id))
}

/// The connections of nodes, by node; of several the one that came last.
fn connected(state: &State) -> BTreeMap<String, Arc<Session>> {
    let nodes = state.hub.sessions().into_iter().filter(|session| session.declared.is_some());
    nodes.filter_map(|session| Some((session.device.clone()?, session))).collect()
}

/// Every node: devices that are paired as one, those that are connected, and the others that have a token. In the order of
/// their ids.
fn rows(state: &State, version: ProtocolVersion) -> Vec<(String, Map<String, Value>)> {
    let connected = connected(state);
    let mut ids: Vec<String> = connected.keys().cloned().collect();
    let paired = state.devices.all();
    ids.extend(paired.iter().filter(|device| device.is_node()).map(|device| device.about.device_id.clone()));
    let pending = state.nodes.pending();
    let row = |id: String| {
        let row = row(state, version, &id, (connected.get(&id), &pending));
        (id, row)
    };
    let mut rows: BTreeMap<_, _> = ids.into_iter().map(row).collect();
    for holder in state.nodes.tokens.all() {
        rows.entry(holder.claim.node_id.clone()).or_insert_with(|| tokens::row(&holder, version));
    }
    rows.into_iter().collect()
}

/// Whether a node is a device: paired as one, or connected.
fn is_device(state: &State, id: &str) -> bool {
    state.devices.get(id).is_some_and(|device| device.is_node()) || connection_of(state, id).is_some()
}

fn row(
    state: &State,
    version: ProtocolVersion,
    id: &str,
    (session, pending): (Option<&Arc<Session>>, &[Request]),
) -> Map<String, Value> {
    let device = state.devices.get(id);
    let kept = state.nodes.kept.get(id);
    let mut row = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            row.insert(key.to_owned(), value);
        }
    };
    let about = device.as_ref().map(|device| &device.about);
    let client = session.map(|session| &session.client);
    let name = kept.as_ref().and_then(|node| node.name.clone());
    let name = name.or_else(|| client.and_then(|client| client.display_name.clone()));
    let name = name.or_else(|| about.and_then(|about| about.display_name.clone()));
    put("nodeId", json!(id));
    put("displayName", json!(name.unwrap_or_else(|| id.chars().take(12).collect())));
    put("platform", json!(client.map(|client| &client.platform).or(about.map(|about| &about.platform))));
    put("version", json!(client.map(|client| &client.version)));
    let family = client.and_then(|client| client.device_family.as_ref());
    put("deviceFamily", json!(family.or(about.and_then(|about| about.device_family.as_ref()))));
    let approved = session.map_or_else(
        || kept.as_ref().is_some_and(|node| node.approved_at_ms.is_some()),
        |session| state.nodes.is_approved(session),
    );
    let declared = session.and_then(|session| session.declared.clone());
    let declared = declared.or_else(|| kept.as_ref().map(|node| node.about.declared.clone())).unwrap_or_default();
    let shown = if approved { declared.clone() } else { crate::nodes::Declared::default() };
    put("caps", json!(shown.caps));
    put("commands", json!(shown.commands));
    if !shown.permissions.is_empty() {
        put("permissions", json!(shown.permissions));
    }
    if version.is_newest() {
        put("clientId", json!(client.map(|client| &client.id).or(about.map(|about| &about.client_id))));
        put("clientMode", json!(client.map(|client| &client.mode).or(about.map(|about| &about.client_mode))));
        put("sessionHost", json!(false));
        // What nodes offer to agents is not taken in.
        put("nodePluginTools", json!([]));
        put("approvalState", json!(if approved { "approved" } else { "pending-approval" }));
        let waits = pending.iter().find(|request| request.about.node_id == id);
        if let Some(request) = waits.filter(|_| !approved) {
            put("pendingRequestId", json!(request.request_id));
            put("pendingDeclaredCaps", json!(request.about.declared.caps));
            put("pendingDeclaredCommands", json!(request.about.declared.commands));
            put("pendingDeclaredPermissions", json!(request.about.declared.permissions));
        }
        let approved_at_ms = kept.as_ref().and_then(|node| node.approved_at_ms);
        put("approvedAtMs", json!(approved_at_ms.or(device.as_ref().map(|device| device.approved_at_ms))));
    }
    put("connectedAtMs", json!(session.map(|session| session.connected_at_ms)));
    put("paired", json!(device.is_some()));
    put("connected", json!(session.is_some()));
    row
}

/// `node.list {}` → `{ts, nodes}`.
pub(crate) fn list(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    let nodes: Vec<Value> =
        rows(call.state, call.session.version).into_iter().map(|(_, row)| Value::Object(row)).collect();
    Ok(Answer::json(&json!({"ts": call.state.now_ms(), "nodes": nodes})))
}

/// `node.describe {nodeId}` → one row of `node.list`, with `ts`.
pub(crate) fn describe(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let which: Which = call.read(&WHICH, &[])?;
    let (state, version, id) = (call.state, call.session.version, which.node_id);
    let mut row = if is_device(state, &id) {
        row(state, version, &id, (connection_of(state, &id).as_ref(), &state.nodes.pending()))
    } else {
        let holder = state.nodes.tokens.get(&id).ok_or_else(unknown_node)?;
        tokens::row(&holder, version)
    };
    row.insert("ts".into(), json!(call.state.now_ms()));
    Ok(Answer::json(&Value::Object(row)))
}
