//! `exec.approvals.node.*`: the rules by which a node runs commands. They are the node's own; it is asked for them.

use std::sync::LazyLock;

use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::frame::ErrorShape;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::invoke::{Order, ready};
use super::{WHICH, Which};
use crate::connection::{Answer, Call};
use crate::phrase::Shape;
use crate::wire::Payload;

const GET: &str = "system.execApprovals.get";
const SET: &str = "system.execApprovals.set";

/// What a node is told is for the node to check: of some kinds it keeps a file, others have rules of their own.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Set {
    #[schemars(length(min = 1))]
    node_id: String,
    #[serde(default)]
    #[schemars(with = "Map<String, Value>")]
    file: Option<Map<String, Value>>,
    #[serde(default)]
    #[schemars(with = "Map<String, Value>")]
    native: Option<Map<String, Value>>,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    base_hash: Option<String>,
}

static SHAPE: LazyLock<Shape> = LazyLock::new(Shape::of::<Set>);

/// `exec.approvals.node.get {nodeId}` → what the node answers: `{path, exists, hash, file}`, or rules of its own kind.
pub(crate) fn rules(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let which: Which = call.read(&WHICH, &[])?;
    ask(call, &which.node_id, GET, Map::new())
}

/// `exec.approvals.node.set {nodeId, file | native, baseHash?}` → what the node answers; it refuses what is out of date.
pub(crate) fn set_rules(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let set: Set = call.read(&SHAPE, &[])?;
    let mut params = Map::new();
    match (set.file, set.native) {
        (Some(file), None) => drop(params.insert("file".into(), Value::Object(file))),
        (None, Some(native)) => params.extend(native),
        _ => return Err(ErrorShape::invalid("exec.approvals.node.set takes either `file` or `native`")),
    }
    params.extend(set.base_hash.map(|hash| ("baseHash".to_owned(), Value::String(hash))));
    ask(call, &set.node_id, SET, params)
}

fn ask(call: &Call<'_>, node: &str, command: &str, params: Map<String, Value>) -> Result<Answer, ErrorShape> {
    let order = Order {
        node: ready(call, node, command)?,
        command: command.to_owned(),
        params: Some(Value::Object(params)),
        timeout_ms: None,
        idempotency_key: uuid::Uuid::new_v4().to_string(),
        follower: None,
    };
    let answer = order.send(call.state, call.session.version)?;
    let actor = call.session.caller.actor();
    let (at_ms, node) = (call.state.now_ms(), node.to_owned());
    // Once the node was asked, the rules may be others, whatever it says and also when it says nothing.
    let row = (command == SET).then_some(move |action: &str| AuditRecord {
        at_ms,
        actor,
        event: AuditEvent::NodeChanged { node, action: action.to_owned(), commands: Vec::new() },
    });
    Ok(call.later(move |state, _| async move {
        let outcome = answer.await.outcome;
        if let Some(row) = row {
            state.services.audit.audit(row(if outcome.is_ok() { "rules-set" } else { "rules-set-unconfirmed" }));
        }
        Ok(Payload::json(&outcome?.0))
    }))
}
