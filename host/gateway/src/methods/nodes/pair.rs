//! `node.pair.*` and `node.rename`: what a node may be asked for, decided by somebody who may pair.

use std::sync::{Arc, LazyLock};

use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::frame::ErrorShape;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{WHICH, Which, is_device, tokens, unknown_node};
use crate::connection::{Answer, Call};
use crate::handshake::Session;
use crate::nodes::{self, Node};
use crate::phrase::Shape;
use crate::shelf::Change;
use crate::wire::Payload;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Decide {
    #[schemars(length(min = 1))]
    request_id: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rename {
    #[schemars(length(min = 1))]
    node_id: String,
    #[schemars(length(min = 1, max = 200))]
    display_name: String,
}

/// What a node hears that was removed.
const REMOVED: &str = "access was taken back: this node was removed (node.pair.remove)";

static DECIDE: LazyLock<Shape> = LazyLock::new(Shape::of::<Decide>);
static RENAME: LazyLock<Shape> = LazyLock::new(Shape::of::<Rename>);

/// What is written down about a decision.
pub(super) fn written(session: &Session, node: &str, action: &str, commands: &[String], now_ms: u64) -> AuditRecord {
    let actor = session.caller.actor();
    let event =
        AuditEvent::NodeChanged { node: node.to_owned(), action: action.to_owned(), commands: commands.to_vec() };
    AuditRecord { at_ms: now_ms, actor, event }
}

/// `node.pair.list {}` → `{pending, paired}`, of devices and of nodes with a token.
pub(crate) fn paired(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    let (nodes, version) = (&call.state.nodes, call.session.version);
    let mut pending: Vec<Value> = nodes.pending().iter().map(|request| request.shown(version)).collect();
    pending.extend(nodes.tokens.pending(call.state.now_ms()).iter().map(|asked| asked.shown(version)));
    let approved = nodes.kept.all().into_iter().filter(|(_, node)| node.approved_at_ms.is_some());
    let mut paired: Vec<Value> = approved.map(|(_, node)| node.shown(version)).collect();
    paired.extend(tokens::all(call));
    Ok(Answer::json(&json!({"pending": pending, "paired": paired})))
}

/// `node.pair.approve {requestId}` → `{requestId, node}`. Counts at once, also for the node that is connected.
pub(crate) fn approve(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let decide: Decide = call.read(&DECIDE, &[])?;
    let (state, session) = (Arc::clone(call.state), Arc::clone(call.session));
    if let Some(asked) = state.nodes.tokens.find(&decide.request_id, state.now_ms()) {
        return Ok(Answer::Later(Box::pin(tokens::approve(state, session, asked))));
    }
    let request = state.nodes.find(&decide.request_id)?;
    for scope in &request.required_approve_scopes {
        call.require(scope)?;
    }
    Ok(Answer::Later(Box::pin(async move {
        let request = state.nodes.take(&request.request_id)?;
        let now_ms = state.now_ms();
        let id = request.about.node_id.clone();
        let stored = state.nodes.kept.change(|shelf| {
            if state.devices.get(&id).is_none() {
                return Err(ErrorShape::invalid("the node's device is not paired any more; approve that first"));
            }
            let before = shelf.get(&id);
            let node = Node {
                about: request.about.clone(),
                created_at_ms: before.as_ref().map_or(now_ms, |node| node.created_at_ms),
                approved_at_ms: Some(now_ms),
                denied_at_ms: None,
                name: before.as_ref().and_then(|node| node.name.clone()),
                queue: before.map(|node| node.queue.clone()).unwrap_or_default(),
            };
            let row = written(&session, &id, "approved", &node.about.declared.commands, now_ms);
            Ok((Change::nothing().put(id.clone(), node.clone()).audit(row), node))
        });
        let node = stored.await.inspect_err(|_| state.nodes.put_back(request.clone()))?;
        nodes::resolved(&state, &request.request_id, &id, "approved");
        Ok(Payload::json(&json!({"requestId": request.request_id, "node": node.shown(session.version)})))
    })))
}

/// `node.pair.reject {requestId}` → `{requestId, nodeId}`. What the node was approved for before stays.
pub(crate) fn reject(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let decide: Decide = call.read(&DECIDE, &[])?;
    let (state, session) = (Arc::clone(call.state), Arc::clone(call.session));
    if let Some(asked) = state.nodes.tokens.find(&decide.request_id, state.now_ms()) {
        return Ok(Answer::Later(Box::pin(tokens::reject(state, session, asked))));
    }
    Ok(Answer::Later(Box::pin(async move {
        let request = state.nodes.find(&decide.request_id)?;
        let (id, now_ms) = (&request.about.node_id, state.now_ms());
        let stored = state.nodes.kept.change(|shelf| {
            let row = written(&session, id, "rejected", &request.about.declared.commands, now_ms);
            let change = Change::nothing().audit(row);
            let before = shelf.get(id);
            if before.as_ref().is_some_and(|node| node.approved_at_ms.is_some()) {
                return Ok((change, ()));
            }
            Ok::<_, ErrorShape>((change.put(id.clone(), denied(before.as_deref(), id, now_ms)), ()))
        });
        stored.await?;
        // Only now: while it waits, no version of the node is good for anything.
        state.nodes.take(&request.request_id)?;
        nodes::resolved(&state, &request.request_id, id, "rejected");
        Ok(Payload::json(&json!({"requestId": request.request_id, "nodeId": id})))
    })))
}

/// `node.pair.remove {nodeId}` → `{nodeId}`: what it was approved for counts no more, nor its token, and its connections end. It is asked
/// for nothing, whatever version it comes back with, until it is approved.
pub(crate) fn remove(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let which: Which = call.read(&WHICH, &[])?;
    Ok(call.later(move |state, session| async move {
        let (id, now_ms) = (which.node_id, state.now_ms());
        let is_node = is_device(&state, &id);
        let removed = state.nodes.kept.change_with(&state.nodes.tokens.kept, |shelf, holders| {
            let (before, had_token) = (shelf.get(&id), holders.get(&id).is_some());
            let is_known = before.as_ref().map_or(is_node, |node| node.denied_at_ms.is_none());
            if !is_known && !had_token {
                return Err(unknown_node());
            }
            let (mut node, mut token) = (Change::nothing(), Change::nothing());
            if is_known {
                let row = written(&session, &id, "removed", &[], now_ms);
                node = node.put(id.clone(), denied(before.as_deref(), &id, now_ms)).audit(row);
            }
            if had_token {
                token = token.remove(id.clone()).audit(written(&session, &id, "token-removed", &[], now_ms));
            }
            Ok((node, token, had_token))
        });
        if removed.await? {
            state.nodes.tokens.withdraw(&id);
        }
        state.nodes.withdraw(&id);
        let is_gone = |other: &Session| other.declared.is_some() && other.device.as_ref() == Some(&id);
        state.hub.close_where(|other| is_gone(other).then_some(REMOVED));
        Ok(Payload::json(&json!({"nodeId": id})))
    }))
}

/// `node.rename {nodeId, displayName}` → the same.
pub(crate) fn rename(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let rename: Rename = call.read(&RENAME, &[])?;
    let (state, session, id) = (Arc::clone(call.state), Arc::clone(call.session), rename.node_id);
    if !is_device(&state, &id) {
        return Ok(Answer::Later(Box::pin(tokens::rename(state, session, id, rename.display_name))));
    }
    Ok(Answer::Later(Box::pin(async move {
        let now_ms = state.now_ms();
        let renamed = state.nodes.kept.change(|shelf| {
            let mut node = shelf.get(&id).map_or_else(|| Node::undecided(&id, now_ms), |node| Node::clone(&node));
            node.name = Some(rename.display_name.clone());
            let row = written(&session, &id, "renamed", &[], now_ms);
            Ok::<_, ErrorShape>((Change::nothing().put(id.clone(), node).audit(row), ()))
        });
        renamed.await?;
        Ok(Payload::json(&json!({"nodeId": id, "displayName": rename.display_name})))
    })))
}

/// What is kept about a node that was refused or removed: that, and the name that somebody gave it. What waited for it goes.
fn denied(before: Option<&Node>, id: &str, now_ms: u64) -> Node {
    let mut node = Node::undecided(id, now_ms);
    node.denied_at_ms = Some(now_ms);
    node.name = before.and_then(|node| node.name.clone());
    node.created_at_ms = before.map_or(now_ms, |node| node.created_at_ms);
    node
}
