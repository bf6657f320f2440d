//! `approval.*` and `exec.approval.get`: one question, and what became of those that ended.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::approvals::{WHERE, WHICH, Which, decide, unknown};
use crate::approvals::Kind;
use crate::connection::{Answer, Call};
use crate::decisions::{self, DECISIONS};
use crate::phrase::Shape;
use crate::wire::Payload;

/// Decisions on a page when nobody says how many.
const USUAL: usize = 50;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum About {
    Exec,
    Plugin,
    /// Nothing here acts on its own, so there are none.
    SystemAgent,
}

impl About {
    fn name(&self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Plugin => "plugin",
            Self::SystemAgent => "system-agent",
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Decide {
    #[schemars(length(min = 1))]
    id: String,
    kind: About,
    #[schemars(extend("enum" = DECISIONS))]
    decision: String,
    /// Who decided, as a channel says it; this connection answers for it.
    #[serde(default, rename = "reviewer")]
    _reviewer: Option<Value>,
    #[serde(default, rename = "grantExpiresInDays")]
    #[schemars(with = "u64")]
    _grant_expires_in_days: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct History {
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 512))]
    cursor: Option<String>,
    #[serde(default)]
    #[schemars(with = "usize", range(min = 1, max = 100))]
    limit: Option<usize>,
    #[serde(default)]
    #[schemars(with = "About")]
    kind: Option<About>,
}

static DECIDE: LazyLock<Shape> = LazyLock::new(Shape::of::<Decide>);
static HISTORY: LazyLock<Shape> = LazyLock::new(Shape::of::<History>);

/// `exec.approval.get {id}` → `{id, commandText, allowedDecisions, host, nodeId, agentId, expiresAtMs}` of one that waits.
pub(crate) fn waiting(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let which: Which = call.read(&WHICH, &[])?;
    let now_ms = call.state.now_ms();
    let found = call.state.approvals.find(Kind::Exec, &which.id, call.session, now_ms);
    let open = found.filter(|question| question.is_open(now_ms));
    let Some(question) = open else { return Err(unknown(call.session.version)) };
    let of = |field: &str| question.request.get(field).cloned().unwrap_or_default();
    Ok(Answer::json(&json!({
        "id": question.id, "commandText": of("command"), "allowedDecisions": question.allowed(),
        "host": of("host"), "nodeId": of("nodeId"), "agentId": of("agentId"), "expiresAtMs": question.expires_at_ms,
    })))
}

fn not_found() -> ErrorShape {
    ErrorShape::new("APPROVAL_NOT_FOUND", "approval not found").hint(WHERE)
}

/// One that waits, or has ended.
fn found(call: &Call<'_>, id: &str) -> Result<Value, ErrorShape> {
    if let Some(question) = call.state.approvals.any(id, call.session, call.state.now_ms()) {
        return Ok(decisions::shown(&question, call.state.now_ms()));
    }
    let may_be = |decision: &decisions::Decision| decision.id == id && decision.is_visible_to(call.session);
    let kept = call.state.approvals.decisions.newest().into_iter().find(|(_, decision)| may_be(decision));
    let (_, decision) = kept.ok_or_else(not_found)?;
    Ok(decision.shown())
}

/// `approval.get {id}` → `{approval}`, whether it waits or has ended.
pub(crate) fn get(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let which: Which = call.read(&WHICH, &[])?;
    Ok(Answer::json(&json!({"approval": found(call, &which.id)?})))
}

/// `approval.resolve {id, kind, decision}` → `{applied, approval}`; not applied to one that has ended already.
pub(crate) fn resolve(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked: Decide = call.read(&DECIDE, &[])?;
    let approval = found(call, &asked.id)?;
    if approval.pointer("/presentation/kind") != Some(&json!(asked.kind.name())) {
        return Err(not_found());
    }
    if approval.get("status") != Some(&json!("pending")) {
        return Ok(Answer::json(&json!({"applied": false, "approval": approval})));
    }
    let kind = if matches!(asked.kind, About::Exec) { Kind::Exec } else { Kind::Plugin };
    let question = decide(call, kind, &asked.id, &asked.decision)?;
    let now_ms = call.state.now_ms();
    Ok(Answer::Later(Box::pin(async move {
        question.settled().await;
        Ok(Payload::json(&json!({"applied": true, "approval": decisions::shown(&question, now_ms)})))
    })))
}

/// `approval.history {cursor?, limit?, kind?}` → `{items, nextCursor?}`: what became of questions, the newest first.
pub(crate) fn history(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let asked: History = call.read(&HISTORY, &[])?;
    let older = |place: &String| asked.cursor.as_ref().is_none_or(|cursor| place < cursor);
    let of_kind = |kind: &About, about: &decisions::Decision| about.is_about(kind.name());
    let all = call.state.approvals.decisions.newest();
    let fits = |decision: &decisions::Decision| {
        decision.is_visible_to(call.session) && asked.kind.as_ref().is_none_or(|kind| of_kind(kind, decision))
    };
    let mut fitting = all.iter().filter(|(place, decision)| older(place) && fits(decision));
    let page: Vec<_> = fitting.by_ref().take(asked.limit.unwrap_or(USUAL)).collect();
    let items: Vec<Value> = page.iter().map(|(_, decision)| decision.shown()).collect();
    let mut answer = json!({"items": items});
    if let (Some(_), Some((place, _)), Some(answer)) = (fitting.next(), page.last(), answer.as_object_mut()) {
        answer.insert("nextCursor".into(), json!(place));
    }
    Ok(Answer::json(&answer))
}
