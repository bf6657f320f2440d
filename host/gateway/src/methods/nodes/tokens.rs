//! `node.pair.request` and `node.pair.verify`, and the part that `node.pair.*` and `node.rename` have in them: nodes with a
//! token, as version 3 has them.

use std::sync::{Arc, LazyLock};

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::pair::written;
use crate::connection::{Answer, Call, Outcome};
use crate::gateway::State;
use crate::handshake::Session;
use crate::nodes;
use crate::nodes::tokens::{Asked, Claim, Holder, has_room};
use crate::phrase::Shape;
use crate::shelf::{Change, Shelf};
use crate::wire::Payload;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Shown {
    #[schemars(length(min = 1))]
    node_id: String,
    #[schemars(length(min = 1))]
    token: String,
}

static CLAIM: LazyLock<Shape> = LazyLock::new(Shape::of::<Claim>);
static SHOWN: LazyLock<Shape> = LazyLock::new(Shape::of::<Shown>);

/// `node.pair.request {nodeId, displayName?, platform?, …}` → `{status, request, created}`: `created` is false for a node that
/// waits already, whose request is the one that is told.
pub(crate) fn request(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let claim: Claim = call.read(&CLAIM, &[])?;
    let (asked, created) = call.state.nodes.tokens.ask(claim, call.state.now_ms())?;
    if created {
        nodes::requested(call.state, |version| asked.shown(version));
    }
    let shown = asked.shown(call.session.version);
    Ok(Answer::json(&json!({"status": "pending", "request": shown, "created": created})))
}

/// `node.pair.verify {nodeId, token}` → `{ok, node?}`: whether that is the node's token.
pub(crate) fn verify(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let shown: Shown = call.read(&SHOWN, &[])?;
    let tokens = &call.state.nodes.tokens;
    let keys = &call.state.keys;
    match tokens.verify(keys, &shown.node_id, &shown.token) {
        Some(holder) => Ok(Answer::json(&json!({"ok": true, "node": holder.shown(keys)}))),
        None => Ok(Answer::json(&json!({"ok": false}))),
    }
}

/// Gives a node that waits its token; the answer of `node.pair.approve`. Which node has a token decides nothing about what
/// a node may be asked for, so whoever may pair may approve it, whatever commands it is said to have.
pub(super) async fn approve(state: Arc<State>, session: Arc<Session>, asked: Asked) -> Outcome {
    let now_ms = state.now_ms();
    let tokens = &state.nodes.tokens;
    let asked = tokens.take(&asked.request_id, now_ms)?;
    let id = asked.claim.node_id.clone();
    let made = tokens.made(&state.keys, asked.claim.clone(), now_ms);
    let stored = match made {
        Ok(holder) => {
            let change = |shelf: &Shelf<Holder>| {
                has_room(shelf, &id)?;
                let row = written(&session, &id, "token-approved", &[], now_ms);
                Ok((Change::nothing().put(id.clone(), holder.clone()).audit(row), holder))
            };
            tokens.kept.change(change).await
        }
        Err(error) => Err(error),
    };
    let holder = stored.inspect_err(|_| tokens.put_back(asked.clone(), now_ms))?;
    nodes::resolved(&state, &asked.request_id, &id, "approved");
    Ok(Payload::json(&json!({"requestId": asked.request_id, "node": shown(&state, &session, &holder)})))
}

/// Sends a node that waits for a token away; the answer of `node.pair.reject`. A token that it has already stays good.
pub(super) async fn reject(state: Arc<State>, session: Arc<Session>, asked: Asked) -> Outcome {
    let now_ms = state.now_ms();
    let tokens = &state.nodes.tokens;
    let asked = tokens.take(&asked.request_id, now_ms)?;
    let id = asked.claim.node_id.clone();
    let row = written(&session, &id, "token-rejected", &[], now_ms);
    let stored = tokens.kept.change(|_| Ok((Change::nothing().audit(row), ()))).await;
    stored.inspect_err(|_| tokens.put_back(asked.clone(), now_ms))?;
    nodes::resolved(&state, &asked.request_id, &id, "rejected");
    Ok(Payload::json(&json!({"requestId": asked.request_id, "nodeId": id})))
}

/// Gives a node that has a token another name; the answer of `node.rename`.
pub(super) async fn rename(state: Arc<State>, session: Arc<Session>, node: String, name: String) -> Outcome {
    let renamed = state.nodes.tokens.kept.change(|shelf| {
        let mut holder = shelf.get(&node).map(|holder| Holder::clone(&holder)).ok_or_else(super::unknown_node)?;
        holder.claim.display_name = Some(name.clone());
        let row = written(&session, &node, "renamed", &[], state.now_ms());
        Ok((Change::nothing().put(node.clone(), holder).audit(row), ()))
    });
    renamed.await?;
    Ok(Payload::json(&json!({"nodeId": node, "displayName": name})))
}

/// The nodes that have a token, as `node.pair.list` shows them.
pub(super) fn all(call: &Call<'_>) -> Vec<Value> {
    let holders = call.state.nodes.tokens.all();
    holders.iter().map(|holder| shown(call.state, call.session, holder)).collect()
}

fn shown(state: &State, session: &Session, holder: &Holder) -> Value {
    match session.version {
        ProtocolVersion::V3 => holder.shown(&state.keys),
        ProtocolVersion::V4 => holder.shown_without(&state.keys),
    }
}

/// A node that has a token and is no device, as `node.list` shows it: it is never connected.
pub(super) fn row(holder: &Holder, version: ProtocolVersion) -> Map<String, Value> {
    let claim = &holder.claim;
    let mut row = Map::new();
    row.insert("nodeId".into(), json!(claim.node_id));
    let name = claim.display_name.clone().unwrap_or_else(|| claim.node_id.chars().take(12).collect());
    row.insert("displayName".into(), json!(name));
    let texts = [("platform", &claim.platform), ("version", &claim.version), ("deviceFamily", &claim.device_family)];
    row.extend(texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), json!(text.as_ref()?)))));
    row.insert("caps".into(), json!(claim.caps.as_deref().unwrap_or_default()));
    row.insert("commands".into(), json!(claim.commands.as_deref().unwrap_or_default()));
    if version.is_newest() {
        row.insert("sessionHost".into(), json!(false));
        row.insert("nodePluginTools".into(), json!([]));
        row.insert("approvalState".into(), json!("approved"));
        row.insert("approvedAtMs".into(), json!(holder.approved_at_ms));
    }
    row.insert("paired".into(), json!(true));
    row.insert("connected".into(), json!(false));
    row
}
