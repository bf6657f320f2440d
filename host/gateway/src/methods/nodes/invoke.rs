//! `node.invoke`, and what the node says to it.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use leanclaw_types::audit::AuditEvent;
use leanclaw_types::frame::{ErrorShape, ProtocolVersion, error_code};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::connection_of;
use crate::connection::{Answer, Call};
use crate::gateway::State;
use crate::handshake::Session;
use crate::hub::Event;
use crate::nodes::{Follower, policy};
use crate::once::{self, Call as OnceCall, Ended, What};
use crate::phrase::Shape;
use crate::wire::Payload;

/// Time a node has when the caller names none.
const USUAL_MS: u64 = 30_000;
/// The most a caller may give it.
const MOST_MS: u64 = 600_000;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Invoke {
    #[schemars(length(min = 1))]
    node_id: String,
    #[schemars(length(min = 1))]
    command: String,
    #[serde(default)]
    params: Option<Value>,
    #[serde(default)]
    #[schemars(with = "u64")]
    timeout_ms: Option<u64>,
    #[schemars(length(min = 1, max = 512))]
    idempotency_key: String,
    #[serde(default)]
    #[schemars(with = "String")]
    #[expect(dead_code, reason = "what a turn came from is for the policy of agents, and no agent asks nodes")]
    session_key: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    #[expect(dead_code, reason = "as of `session_key`")]
    turn_source_channel: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    #[expect(dead_code, reason = "as of `session_key`")]
    turn_source_to: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    #[expect(dead_code, reason = "as of `session_key`")]
    turn_source_account_id: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "as of `session_key`")]
    turn_source_thread_id: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Told {
    #[schemars(length(min = 1))]
    id: String,
    #[schemars(length(min = 1))]
    node_id: String,
    ok: bool,
    #[serde(default)]
    payload: Option<Value>,
    #[serde(default, rename = "payloadJSON")]
    payload_json: Option<String>,
    #[serde(default)]
    error: Option<NodeError>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NodeError {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Progress {
    #[schemars(length(min = 1))]
    invoke_id: String,
    #[schemars(length(min = 1))]
    node_id: String,
    seq: u64,
    #[schemars(length(max = 16384))]
    chunk: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Happened {
    #[schemars(length(min = 1))]
    event: String,
    #[serde(default)]
    #[expect(dead_code, reason = "what happened on a node is for agents, and none is told")]
    payload: Option<Value>,
    #[serde(default, rename = "payloadJSON")]
    #[schemars(with = "String")]
    #[expect(dead_code, reason = "as of `payload`")]
    payload_json: Option<String>,
}

static INVOKE: LazyLock<Shape> = LazyLock::new(Shape::of::<Invoke>);
static TOLD: LazyLock<Shape> = LazyLock::new(Shape::of::<Told>);
static PROGRESS: LazyLock<Shape> = LazyLock::new(Shape::of::<Progress>);
static HAPPENED: LazyLock<Shape> = LazyLock::new(Shape::of::<Happened>);

/// What a call for a node cannot be done for.
fn failed(code: &str, message: impl Into<String>) -> ErrorShape {
    ErrorShape::new(error_code::UNAVAILABLE, message).details(json!({"code": code}))
}

/// The node is not there to be asked. Version 4 is told besides, as of what a node itself answers, that nothing was sent.
fn not_connected(version: ProtocolVersion) -> ErrorShape {
    const CODE: &str = "NOT_CONNECTED";
    let message = "node not connected";
    let error = failed(CODE, message);
    match version {
        ProtocolVersion::V3 => error,
        ProtocolVersion::V4 => error.details(json!({
            "code": CODE, "nodeError": {"code": CODE, "message": message}, "nodeCommandDispatched": false,
        })),
    }
}

fn node_error(code: &str, message: &str) -> ErrorShape {
    let details = json!({"nodeError": {"code": code, "message": message}});
    ErrorShape::new(error_code::UNAVAILABLE, format!("{code}: {message}")).details(details)
}

pub(super) fn pairing_changed() -> ErrorShape {
    let mut error = failed("PAIRING_CHANGED", "node pairing changed while invocation was active");
    error.retryable = Some(true);
    error
}

/// Whether that may be asked of the node that is connected.
fn check(call: &Call<'_>, node: &Session, command: &str) -> Result<(), ErrorShape> {
    if !call.state.nodes.is_approved(node) {
        return Err(pairing_changed());
    }
    let platform = &node.client.platform;
    let refused = |reason: &str, why: String| {
        let details = json!({"reason": reason, "command": command});
        Err(ErrorShape::invalid(format!("node command not allowed: {why}")).details(details))
    };
    if !policy::permits(&call.state.live.now().node_commands, platform, command) {
        let why = format!(
            "\"{command}\" is not in the allowlist for platform \"{platform}\" (gateway.nodes.allowCommands in the \
             configuration adds to it, denyCommands takes away)"
        );
        return refused("command not allowlisted", why);
    }
    let declared = node.declared.as_ref().is_some_and(|declared| declared.commands.iter().any(|own| own == command));
    if !declared {
        return refused("command not declared by node", format!("the node does not declare \"{command}\""));
    }
    Ok(())
}

/// The node of that id, connected, if the caller may have that command run on it.
///
/// # Errors
/// It is not connected, or may not be asked for that.
pub(super) fn ready(call: &Call<'_>, id: &str, command: &str) -> Result<Arc<Session>, ErrorShape> {
    let newest = call.session.version.is_newest();
    let Some(node) = connection_of(call.state, id) else {
        let is_known = call.state.devices.get(id).is_some() || call.state.nodes.tokens.get(id).is_some();
        let gone = newest && !is_known;
        return Err(if gone { pairing_changed() } else { not_connected(call.session.version) });
    };
    check(call, &node, command)?;
    Ok(node)
}

/// How a command ended that was sent to a node, and what its caller is told: the node's answer as a value, and as it was written.
pub(super) struct Answered {
    /// `ok`; `failed` when the node says so; `timeout` or `disconnected` when it says nothing, so that the command may have run.
    pub(super) how: &'static str,
    pub(super) outcome: Result<(Value, Option<String>), ErrorShape>,
}

/// A command for a node.
pub(super) struct Order {
    pub(super) node: Arc<Session>,
    pub(super) command: String,
    pub(super) params: Option<Value>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) idempotency_key: String,
    /// The connection that hears how it gets on.
    pub(super) follower: Option<String>,
}

impl Order {
    /// Sends it to the node.
    ///
    /// # Errors
    /// The node cannot be asked now; it was not.
    pub(super) fn send(
        self,
        state: &Arc<State>,
        version: ProtocolVersion,
    ) -> Result<BoxFuture<'static, Answered>, ErrorShape> {
        let Self { node, command, params, timeout_ms, idempotency_key, follower } = self;
        let timeout_ms = timeout_ms.filter(|limit| *limit > 0).unwrap_or(USUAL_MS).min(MOST_MS);
        let follower = follower.map(|connection| Follower::new(connection, idempotency_key.clone(), command.clone()));
        let Some((ticket, answer)) = state.nodes.begin(state, &node.id, follower) else {
            let mut error = failed("BUSY", "too many calls run on that node; retry when some have ended");
            error.retryable = Some(true);
            return Err(error);
        };
        let mut request = json!({
            "id": ticket.id, "nodeId": node.device, "command": command, "timeoutMs": timeout_ms,
            "idempotencyKey": idempotency_key,
        });
        if let (Some(params), Some(request)) = (params, request.as_object_mut()) {
            request.insert("paramsJSON".into(), json!(policy::unapproved(&command, params).to_string()));
        }
        if !state.hub.tell(&node.id, Event::new("node.invoke.request", &request.to_string()).targeted()) {
            return Err(not_connected(version));
        }
        Ok(Box::pin(async move {
            let answered = tokio::time::timeout(Duration::from_millis(timeout_ms), answer).await;
            drop(ticket);
            let gone = format!("node disconnected ({command})");
            let (how, outcome) = match (answered, version) {
                (Err(_), _) => ("timeout", Err(node_error("TIMEOUT", "node invoke timed out"))),
                (Ok(Err(_) | Ok(None)), ProtocolVersion::V4) => {
                    ("disconnected", Err(node_error("DISCONNECTED", &gone)))
                }
                (Ok(Err(_) | Ok(None)), ProtocolVersion::V3) => {
                    ("disconnected", Err(ErrorShape::new(error_code::UNAVAILABLE, format!("Error: {gone}"))))
                }
                (Ok(Ok(Some(Err((code, message))))), _) => ("failed", Err(node_error(&code, &message))),
                (Ok(Ok(Some(Ok((payload, text))))), _) => {
                    let parsed = text.as_deref().and_then(|text| serde_json::from_str(text).ok());
                    ("ok", Ok((payload.or(parsed).unwrap_or_default(), text)))
                }
            };
            Answered { how, outcome }
        }))
    }
}

/// `node.invoke {nodeId, command, params?, timeoutMs?, idempotencyKey}` → `{ok, nodeId, command, payload, payloadJSON}`. The
/// same idempotency key of the same caller runs it once. How it gets on is told to the caller as `node.invoke.progress`.
pub(crate) fn invoke(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let invoke: Invoke = call.read(&INVOKE, &[])?;
    let Invoke { node_id, command, params, timeout_ms, idempotency_key, .. } = invoke;
    if policy::is_about_rules(&command) {
        let refused = "node.invoke does not allow system.execApprovals.*; use exec.approvals.node.*";
        return Err(ErrorShape::invalid(refused).details(json!({"command": command})));
    }
    let this = OnceCall::of(&call.session.caller, call.method, &node_id, &idempotency_key);
    let asked = params.as_ref().map(Value::to_string).unwrap_or_default();
    // What has run is told also when the node is gone since. Once the node was asked, its answer is waited for; it ends
    // with the node's connection at the latest.
    once::run(call.state, this, What::of(&[&command, &asked]), || {
        let node = ready(call, &node_id, &command)?;
        let follower = Some(call.session.id.clone());
        let order = Order { node, command: command.clone(), params, timeout_ms, idempotency_key, follower };
        let answer = order.send(call.state, call.session.version)?;
        let (state, actor) = (Arc::clone(call.state), call.session.caller.actor());
        Ok(async move {
            let Answered { how, outcome } = answer.await;
            // Never its parameters: they are the caller's and the node's.
            let (node, ran) = (node_id.clone(), command.clone());
            state.audit(actor, AuditEvent::NodeInvoked { node, command: ran, outcome: how.to_owned() });
            let outcome = outcome.map(|(payload, text)| {
                let text = text.unwrap_or_else(|| payload.to_string());
                Payload::json(&json!({
                    "ok": true, "nodeId": node_id, "command": command, "payload": payload, "payloadJSON": text,
                }))
            });
            Ended { outcome, is_final: true }
        })
    })
}

fn own(call: &Call<'_>, node: &str) -> Result<(), ErrorShape> {
    if call.session.device.as_deref() == Some(node) {
        return Ok(());
    }
    Err(ErrorShape::invalid("nodeId mismatch"))
}

/// `node.invoke.result {id, nodeId, ok, payload?, payloadJSON?, error?}` → `{ok}`; `ignored` for what is over or was never
/// asked of this connection.
pub(crate) fn result(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let outcome: Told = call.read(&TOLD, &[])?;
    own(call, &outcome.node_id)?;
    let reply = match (outcome.ok, outcome.error) {
        (true, _) => Ok((outcome.payload, outcome.payload_json)),
        (false, error) => {
            let error = error.unwrap_or(NodeError { code: None, message: None });
            let text = |given: Option<String>, or: &str| given.filter(|text| !text.is_empty()).unwrap_or(or.to_owned());
            Err((text(error.code, "UNAVAILABLE"), text(error.message, "node invoke failed")))
        }
    };
    let taken = call.state.nodes.finish(&outcome.id, &call.session.id, reply);
    Ok(Answer::json(&if taken { json!({"ok": true}) } else { json!({"ok": true, "ignored": true}) }))
}

/// `node.invoke.progress {invokeId, nodeId, seq, chunk}` → `{ok}`; `ignored` for what is over or was never asked of this
/// connection, and once a call has told as much as one may. Who asked hears it as an event, unless it cannot keep up; the
/// whole comes with the result.
pub(crate) fn progress(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let progress: Progress = call.read(&PROGRESS, &[])?;
    own(call, &progress.node_id)?;
    let Some(follower) = call.state.nodes.runs_on(&progress.invoke_id, &call.session.id) else {
        return Ok(Answer::json(&json!({"ok": true, "ignored": true})));
    };
    if let Some(follower) = follower {
        let told = json!({
            "nodeId": progress.node_id, "command": follower.command, "idempotencyKey": follower.idempotency_key,
            "seq": progress.seq, "chunk": progress.chunk,
        })
        .to_string();
        if !follower.may_hear(told.len()) {
            return Ok(Answer::json(&json!({"ok": true, "ignored": true})));
        }
        let event = Event::new("node.invoke.progress", &told).targeted().droppable();
        call.state.hub.tell(&follower.connection, event);
    }
    Ok(Answer::json(&json!({"ok": true})))
}

/// What a node could only follow if agents ran.
const FOLLOWING: [&str; 2] = ["chat.subscribe", "chat.unsubscribe"];

/// `node.event {event, payload?, payloadJSON?}` → `{ok}`, in version 4 besides that nothing came of it, and why: what nodes
/// tell is for agents, and what they would follow is what agents say while they run.
pub(crate) fn event(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let happened: Happened = call.read(&HAPPENED, &[])?;
    if !call.state.nodes.is_approved(call.session) {
        return Err(pairing_changed());
    }
    let reason = if FOLLOWING.contains(&happened.event.as_str()) {
        "nodes follow no chats here; an operator hears of messages by sessions.messages.subscribe, and of runs by the \
         events agent and chat"
    } else {
        "nothing here waits for this event"
    };
    Ok(Answer::json(&match call.session.version {
        ProtocolVersion::V3 => json!({"ok": true}),
        ProtocolVersion::V4 => json!({"ok": true, "event": happened.event, "handled": false, "reason": reason}),
    }))
}
