//! `node.pending.*`: work that waits until a node fetches it.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::invoke::pairing_changed;
use super::unknown_node;
use leanclaw_types::frame::ErrorShape;

use crate::connection::{Answer, Call};
use crate::nodes::{Queue, Work};
use crate::phrase::Shape;
use crate::wire::Payload;

#[derive(Deserialize, JsonSchema)]
enum Kind {
    #[serde(rename = "status.request")]
    Status,
    #[serde(rename = "location.request")]
    Location,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Priority {
    Normal,
    High,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Enqueue {
    #[schemars(length(min = 1))]
    node_id: String,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(default)]
    #[schemars(with = "Priority")]
    priority: Option<Priority>,
    #[serde(default)]
    #[schemars(with = "u64", range(min = 1000, max = 86_400_000))]
    expires_in_ms: Option<u64>,
    #[serde(default)]
    #[schemars(with = "bool")]
    #[expect(dead_code, reason = "nothing here can wake a node")]
    wake: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Drain {
    #[serde(default)]
    #[schemars(with = "u64", range(min = 1, max = 10))]
    max_items: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Done {
    #[schemars(length(min = 1))]
    ids: Vec<String>,
}

static ENQUEUE: LazyLock<Shape> = LazyLock::new(Shape::of::<Enqueue>);
static DRAIN: LazyLock<Shape> = LazyLock::new(Shape::of::<Drain>);
static DONE: LazyLock<Shape> = LazyLock::new(Shape::of::<Done>);

/// The node that calls, once it may.
fn own(call: &Call<'_>) -> Result<String, ErrorShape> {
    match &call.session.device {
        Some(id) if call.state.nodes.is_approved(call.session) => Ok(id.clone()),
        _ => Err(pairing_changed()),
    }
}

/// `node.pending.enqueue {nodeId, type, priority?, expiresInMs?, wake?}` → `{nodeId, revision, queued, wakeTriggered}`. Of
/// each type one waits at a time. It is stored before it is answered, and goes with the node's device or its approval.
pub(crate) fn enqueue(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let enqueue: Enqueue = call.read(&ENQUEUE, &[])?;
    let kind = match enqueue.kind {
        Kind::Status => "status.request",
        Kind::Location => "location.request",
    };
    let priority = if enqueue.priority == Some(Priority::High) { "high" } else { "normal" };
    Ok(call.later(|state, session| async move {
        let (id, now_ms) = (enqueue.node_id, state.now_ms());
        let queued = state.nodes.change_queue(&id, now_ms, |queue| {
            if !state.devices.get(&id).is_some_and(|device| device.is_node()) {
                let newest = session.version.is_newest();
                return Err(if newest { pairing_changed() } else { unknown_node() });
            }
            if let Some(same) = queue.work.iter().find(|work| work.kind == kind) {
                return Ok((queue.revision, same.clone()));
            }
            let work = Work {
                id: uuid::Uuid::new_v4().to_string(),
                kind: kind.to_owned(),
                priority: priority.to_owned(),
                created_at_ms: now_ms,
                expires_at_ms: enqueue.expires_in_ms.map(|span_ms| now_ms.saturating_add(span_ms)),
            };
            queue.revision += 1;
            queue.work.push(work.clone());
            Ok((queue.revision, work))
        });
        let (revision, queued) = queued.await?;
        let answer = json!({"nodeId": id, "revision": revision, "queued": queued, "wakeTriggered": false});
        Ok(Payload::json(&answer))
    }))
}

/// `node.pending.drain {maxItems?}` → `{nodeId, revision, items, hasMore}`; what is urgent comes first. It waits on until it
/// is acknowledged.
pub(crate) fn drain(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let drain: Drain = call.read(&DRAIN, &[])?;
    let node = own(call)?;
    let most = usize::try_from(drain.max_items.unwrap_or(4)).unwrap_or(10);
    let Queue { revision, mut work } = call.state.nodes.queue(&node, call.state.now_ms());
    work.sort_by_key(|work| work.priority != "high");
    let more = work.len() > most;
    work.truncate(most);
    Ok(Answer::json(&json!({"nodeId": node, "revision": revision, "items": work, "hasMore": more})))
}

/// `node.pending.pull {}` → `{nodeId, actions}`: actions are for nodes in the background, and nothing here makes any.
pub(crate) fn pull(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    Ok(Answer::json(&json!({"nodeId": own(call)?, "actions": []})))
}

/// `node.pending.ack {ids}` → `{nodeId, ackedIds, remainingCount}`.
pub(crate) fn ack(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let done: Done = call.read(&DONE, &[])?;
    let node = own(call)?;
    Ok(call.later(|state, _| async move {
        let acked = state.nodes.change_queue(&node, state.now_ms(), |queue| {
            let is_done = |work: &Work| done.ids.contains(&work.id);
            let acked: Vec<String> =
                queue.work.iter().filter(|work| is_done(work)).map(|work| work.id.clone()).collect();
            queue.work.retain(|work| !is_done(work));
            queue.revision += u64::from(!acked.is_empty());
            Ok((acked, queue.work.len()))
        });
        let (acked, left) = acked.await?;
        Ok(Payload::json(&json!({"nodeId": node, "ackedIds": acked, "remainingCount": left})))
    }))
}
