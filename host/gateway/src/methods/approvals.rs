//! `exec.approval.*`, `plugin.approval.*` and `exec.approvals.*`: asking people, and the rules that spare asking.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::APPROVALS;
use super::questions::{AskCommand, AskPlugin, SHOWN, Waiting};
use crate::approvals::{Decider, End, Kind, Question};
use crate::connection::{Answer, Call};
use crate::decisions::{self, DECISIONS};
use crate::digest::sha256;
use crate::gateway::State;
use crate::handshake::Session;
use crate::hub::Event;
use crate::phrase::Shape;
use crate::shelf::Change;
use crate::wire::Payload;

/// Time people have when nobody says how long.
const USUAL_MS: u64 = 120_000;
const MOST_MS: u64 = 600_000;
const RULES: &str = "file";

/// The question that is meant.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    #[schemars(length(min = 1))]
    pub(super) id: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Decide {
    #[schemars(length(min = 1))]
    id: String,
    #[schemars(length(min = 1))]
    decision: String,
    /// Who decided, as a channel says it; this connection answers for it.
    #[serde(default, rename = "reviewer")]
    _reviewer: Option<Value>,
    #[serde(default, rename = "grantExpiresInDays")]
    #[schemars(with = "u64")]
    _grant_expires_in_days: Option<u64>,
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Defaults {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    security: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ask: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ask_fallback: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auto_allow_skills: Option<bool>,
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    pattern: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command_text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arg_pattern: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_used_at: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_used_command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_resolved_path: Option<String>,
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OfAgent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    security: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ask: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ask_fallback: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auto_allow_skills: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allowlist: Option<Vec<Rule>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mcp_tools: Option<Vec<Value>>,
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[schemars(range(min = 1, max = 1))]
    version: u64,
    /// For programs that ask over a socket of their own; nothing here does.
    #[serde(default, rename = "socket", skip_serializing)]
    _socket: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    defaults: Option<Defaults>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agents: Option<BTreeMap<String, OfAgent>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SetRules {
    file: File,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    base_hash: Option<String>,
}

/// Where to look for a question that is not found.
pub(super) const WHERE: &str =
    "exec.approval.list and plugin.approval.list say what waits, approval.history what has ended";

static ASK_COMMAND: LazyLock<Shape> = LazyLock::new(Shape::of::<AskCommand>);
static ASK_PLUGIN: LazyLock<Shape> = LazyLock::new(Shape::of::<AskPlugin>);
pub(super) static WHICH: LazyLock<Shape> = LazyLock::new(Shape::of::<Which>);
static DECIDE: LazyLock<Shape> = LazyLock::new(Shape::of::<Decide>);
static SET_RULES: LazyLock<Shape> = LazyLock::new(Shape::of::<SetRules>);

fn actor(session: &Session) -> String {
    format!("{}:{}", session.caller.kind, session.caller.id)
}

/// `exec.approval.request {command | commandArgv, id?, timeoutMs?, twoPhase?, requireDeliveryRoute?, suppressDelivery?, ...}`
/// → `{id, decision, createdAtMs, expiresAtMs}`; with `twoPhase`, where it waits, first `{status: "accepted", id, ...}`, in
/// version 4 with `deliveryRoute`.
pub(crate) fn request_exec(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let mut asked: AskCommand = call.read(&ASK_COMMAND, &[])?;
    let id = asked.id.take().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let waiting = asked.waiting();
    ask(call, (Kind::Exec, id, asked.request(call.session.version)?), &waiting)
}

/// `plugin.approval.request {title, description, timeoutMs?, twoPhase?, ...}`, as `exec.approval.request`.
pub(crate) fn request_plugin(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked: AskPlugin = call.read(&ASK_PLUGIN, &[])?;
    let waiting = asked.waiting();
    let id = format!("plugin:{}", uuid::Uuid::new_v4());
    ask(call, (Kind::Plugin, id, asked.request()), &waiting)
}

fn ask(call: &Call<'_>, (kind, id, request): (Kind, String, Value), how: &Waiting) -> Result<Answer, ErrorShape> {
    let now_ms = call.state.now_ms();
    let for_ms = how.timeout_ms.unwrap_or(USUAL_MS).min(MOST_MS);
    let question = Question::new(kind, id, request, (now_ms, for_ms), call.session);
    let question = call.state.approvals.ask(question, now_ms)?;
    decisions::watch(call.state, &question);
    let has_route =
        !how.is_quiet && call.state.hub.sessions().iter().any(|session| question.can_be_answered_by(session));
    let waits = has_route || !how.needs_route;
    if !waits {
        question.finish(End::NoRoute);
    } else if !how.is_quiet {
        let event = told_per_version(kind.requested(), kind, question.shown()).scope(APPROVALS);
        call.state.hub.broadcast_where(event, |session| question.is_announced_to(session));
    }
    let mut accepted = json!({
        "status": "accepted", "id": question.id, "createdAtMs": question.created_at_ms,
        "expiresAtMs": question.expires_at_ms,
    });
    let newest = call.session.version.is_newest();
    if let Some(accepted) = accepted.as_object_mut().filter(|_| newest) {
        accepted.insert("deliveryRoute".into(), json!(if has_route { "approval-client" } else { "none" }));
    }
    let waiting = Box::pin(async move {
        let end = question.outcome(now_ms).await;
        Ok(Payload::json(&outcome(&question, &end, false, newest)))
    });
    let is_told_first = how.two_phase && waits;
    Ok(if is_told_first { Answer::Twice(Payload::json(&accepted), waiting) } else { Answer::Later(waiting) })
}

/// An event with a question in it. Version 3 is told what it knows of a command; its clients drop an event that holds more.
fn told_per_version(name: &str, kind: Kind, payload: Value) -> Event {
    let event = Event::new(name, &payload.to_string());
    if kind == Kind::Plugin {
        return event;
    }
    let mut old = payload;
    if let Some(request) = old.get_mut("request").and_then(Value::as_object_mut) {
        request.retain(|field, _| SHOWN.contains(&field.as_str()));
        if let Some(plan) = request.get_mut("systemRunPlan").and_then(Value::as_object_mut) {
            plan.shift_remove("policySnapshot");
        }
    }
    event.payload_v3(&old.to_string())
}

fn outcome(question: &Question, end: &End, late: bool, newest: bool) -> Value {
    let decision = if let End::Decided(decision, _) = end { json!(decision) } else { Value::Null };
    let mut answer = json!({
        "id": question.id, "decision": decision, "createdAtMs": question.created_at_ms,
        "expiresAtMs": question.expires_at_ms,
    });
    let reason = match end {
        End::NoRoute => Some("no-route"),
        End::TimedOut => Some("timeout"),
        End::Decided(..) => None,
    };
    if let (Some(reason), true, Some(answer)) = (reason, newest && late, answer.as_object_mut()) {
        answer.insert("terminalReason".into(), json!(reason));
    }
    answer
}

fn wait(call: &Call<'_>, kind: Kind) -> Result<Answer, ErrorShape> {
    let which: Which = call.read(&WHICH, &[])?;
    let now_ms = call.state.now_ms();
    let Some(question) = call.state.approvals.find(kind, &which.id, call.session, now_ms) else {
        return Err(ErrorShape::invalid("approval expired or not found").hint(WHERE));
    };
    let newest = call.session.version.is_newest();
    Ok(Answer::Later(Box::pin(async move {
        let end = question.outcome(now_ms).await;
        Ok(Payload::json(&outcome(&question, &end, true, newest)))
    })))
}

/// `exec.approval.waitDecision {id}`, as the last answer to `exec.approval.request`.
pub(crate) fn wait_exec(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    wait(call, Kind::Exec)
}

/// `plugin.approval.waitDecision {id}`.
pub(crate) fn wait_plugin(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    wait(call, Kind::Plugin)
}

fn list(call: &Call<'_>, kind: Kind) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    let waiting = call.state.approvals.waiting(kind, call.session, call.state.now_ms());
    Ok(Answer::json(&waiting.iter().map(|question| question.shown()).collect()))
}

/// `exec.approval.list {}` → what waits: `[{id, request, createdAtMs, expiresAtMs}]`.
pub(crate) fn list_exec(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    list(call, Kind::Exec)
}

/// `plugin.approval.list {}`.
pub(crate) fn list_plugin(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    list(call, Kind::Plugin)
}

fn resolve(call: &Call<'_>, kind: Kind) -> Result<Answer, ErrorShape> {
    let asked: Decide = call.read(&DECIDE, &[])?;
    let question = decide(call, kind, &asked.id, &asked.decision)?;
    Ok(Answer::Later(Box::pin(async move {
        question.settled().await;
        Ok(Payload::json(&json!({"ok": true})))
    })))
}

/// Decides on a question that waits, and tells those who may know. It is on disk once the question is settled.
pub(super) fn decide(call: &Call<'_>, kind: Kind, id: &str, decision: &str) -> Result<Arc<Question>, ErrorShape> {
    if !DECISIONS.contains(&decision) {
        return Err(ErrorShape::invalid("invalid decision").hint(format!("say one of {}", DECISIONS.join(", "))));
    }
    let now_ms = call.state.now_ms();
    let found = call.state.approvals.find(kind, id, call.session, now_ms);
    let open = found.filter(|question| question.is_open(now_ms));
    let question = open.ok_or_else(|| unknown(call.session.version))?;
    if question.is_by(call.session) {
        return Err(ErrorShape::invalid(
            "who asks for an approval cannot give it; another device or client with operator.admin has to",
        ));
    }
    let allowed = question.allowed();
    if !allowed.contains(&decision) {
        return Err(unavailable_decision(kind, decision, &allowed));
    }
    let decider = Decider { device: call.session.device.clone(), actor: actor(call.session) };
    if !question.finish(End::Decided(decision.to_owned(), decider)) {
        return Err(unknown(call.session.version));
    }
    let event = AuditEvent::ApprovalDecided {
        what: kind.name().to_owned(),
        id: question.id.clone(),
        decision: decision.to_owned(),
    };
    call.state.audit(actor(call.session), event);
    let by = call.session.client.display_name.as_ref().unwrap_or(&call.session.client.id);
    let resolved = json!({
        "id": question.id, "decision": decision, "resolvedBy": by, "ts": now_ms, "request": question.request,
    });
    let event = told_per_version(kind.resolved(), kind, resolved).scope(APPROVALS);
    call.state.hub.broadcast_where(event, |session| question.is_told_to(session));
    Ok(question)
}

/// What to answer when who asked left a decision out.
fn unavailable_decision(kind: Kind, decision: &str, allowed: &[&str]) -> ErrorShape {
    let (what, details) = match kind {
        Kind::Exec => ("command", json!({"reason": "APPROVAL_ALLOW_ALWAYS_UNAVAILABLE", "allowedDecisions": allowed})),
        Kind::Plugin => ("plugin approval", json!({"allowedDecisions": allowed})),
    };
    let others = allowed.join(" or ");
    ErrorShape::invalid(format!("{decision} is unavailable for this {what}; decide {others}")).details(details)
}

/// `exec.approval.resolve {id, decision}` → `{ok}`.
pub(crate) fn resolve_exec(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    resolve(call, Kind::Exec)
}

/// `plugin.approval.resolve {id, decision}` → `{ok}`.
pub(crate) fn resolve_plugin(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    resolve(call, Kind::Plugin)
}

pub(super) fn unknown(version: ProtocolVersion) -> ErrorShape {
    let error = ErrorShape::invalid("unknown or expired approval id");
    match version {
        ProtocolVersion::V3 => error.hint(WHERE),
        ProtocolVersion::V4 => error.details(json!({
            "reason": "APPROVAL_NOT_FOUND",
            "remediation": "Ask for it again: what waits is forgotten when its time is over or the gateway restarts. What \
                another device asks is known to admins only: connect with operator.admin to decide on that.",
        })),
    }
}

fn snapshot(state: &State, version: ProtocolVersion) -> Value {
    let kept = state.approvals.rules.get(RULES);
    let file = kept.as_deref().cloned().unwrap_or_else(|| json!({"version": 1, "defaults": {}, "agents": {}}));
    let mut shown = json!({
        "path": "core.db#exec-approvals", "exists": kept.is_some(), "hash": hash(&file), "file": file,
    });
    if version.is_newest() {
        let of = |name: &str, usual: Value| file.pointer(&format!("/defaults/{name}")).cloned().unwrap_or(usual);
        let resolved = json!({
            "security": of("security", json!("deny")), "ask": of("ask", json!("on-miss")),
            "askFallback": of("askFallback", json!("deny")), "autoAllowSkills": of("autoAllowSkills", json!(false)),
        });
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("resolvedDefaults".into(), resolved);
        }
    }
    shown
}

fn hash(file: &Value) -> String {
    sha256(file.to_string().as_bytes())
}

/// `exec.approvals.get {}` → `{path, exists, hash, file, resolvedDefaults?}`.
pub(crate) fn rules(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    Ok(Answer::json(&snapshot(call.state, call.session.version)))
}

/// `exec.approvals.set {file, baseHash}` → as `exec.approvals.get`. Refused when somebody changed it meanwhile.
pub(crate) fn set_rules(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let set: SetRules = call.read(&SET_RULES, &[])?;
    Ok(call.later(move |state, session| async move {
        let stored = state.approvals.rules.change(|shelf| {
            if let Some(before) = shelf.get(RULES) {
                let again = "re-run exec.approvals.get and retry";
                match &set.base_hash {
                    None => return Err(ErrorShape::invalid(format!("exec approvals base hash required; {again}"))),
                    Some(base) if *base != hash(&before) => {
                        return Err(ErrorShape::invalid(format!("exec approvals changed since last load; {again}")));
                    }
                    Some(_) => {}
                }
            }
            let file = serde_json::to_value(&set.file).map_err(|error| ErrorShape::invalid(error.to_string()))?;
            let event = AuditEvent::ConfigChanged { action: "set".into(), keys: vec!["exec.approvals".into()] };
            let row = AuditRecord { at_ms: state.now_ms(), actor: actor(&session), event };
            Ok((Change::nothing().put(RULES, file).audit(row), ()))
        });
        stored.await?;
        Ok(Payload::json(&snapshot(&state, session.version)))
    }))
}
