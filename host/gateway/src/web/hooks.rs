//! `/hooks/*`: `POST /hooks/wake`, `/hooks/agent` and names that are configured.
//!
//! A wrong token counts, on this machine too. What is taken is stored before it is answered.

use axum::extract::Request;
use http::{Method, StatusCode, header};
use leanclaw_types::audit::AuditEvent;
use leanclaw_types::frame::{ProtocolVersion, error_code};
use leanclaw_types::model::Thinking;
use leanclaw_types::run::RunOwner;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::reply::{self, Reply, json_reply};
use super::{body, peer_of};
use crate::auth::Peer;
use crate::auth::credential::{bearer, same};
use crate::auth::lockout::Kind;
use crate::gateway::State;
use crate::hooks::{Hooks, filled};
use crate::methods::sessions::{Asker, Turn, check_message, thinking};
use crate::pulse::Queued;
use crate::rate::Class;
use crate::sessions::Key;

/// Characters of a text that is left as an event.
const MAX_TEXT: usize = 4000;

/// What is to become of a hook.
enum Deed {
    Wake { text: String, waits: bool },
    Agent(Box<Errand>),
}

/// What an agent is to do for another program.
#[derive(Default)]
struct Errand {
    message: String,
    agent: Option<String>,
    session_key: Option<String>,
    thinking: Option<Thinking>,
    timeout_ms: Option<u64>,
    /// Stands for this errand, however often it is sent.
    key: Option<String>,
}

/// Answers a request below the path of the hooks; `name` is what follows it.
pub(super) async fn answer(state: &State, hooks: &Hooks, request: Request, name: &str) -> Reply {
    let Some(peer) = peer_of(state, &request) else { return reply::not_found() };
    if let Err(refusal) = admit(state, hooks, &peer, &request) {
        return *refusal;
    }
    if request.method() != Method::POST {
        return reply::method_not_allowed("POST");
    }
    let who = (peer.ip(), "hooks", peer.is_local());
    if let Err(wait_ms) = state.rates.once(who, Class::Write, state.now_ms()) {
        return reply::too_often(wait_ms);
    }
    let (parts, sent) = request.into_parts();
    let bytes = match body::read(state, &parts.headers, sent, hooks.body_bytes).await {
        Ok(bytes) => bytes,
        Err(refusal) => return *refusal,
    };
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    let said: Value = match serde_json::from_slice(text) {
        Ok(said) => said,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let key = parts.headers.get("idempotency-key").and_then(|value| value.to_str().ok());
    match deed(hooks, name, &said, key) {
        Ok(Some(deed)) => carry_out(state, &peer, name, deed).await,
        Ok(None) => empty(),
        Err(refusal) => *refusal,
    }
}

/// Whether the token is right.
fn admit(state: &State, hooks: &Hooks, peer: &Peer, request: &Request) -> Result<(), Box<Reply>> {
    let query = request.uri().query().unwrap_or_default();
    if query.split('&').any(|pair| pair == "token" || pair.starts_with("token=")) {
        let why = "Hook token must be provided via Authorization: Bearer <token> or X-OpenClaw-Token header (query \
                   parameters are not allowed).";
        return Err(Box::new(plain(StatusCode::BAD_REQUEST, why)));
    }
    if let Some(left_ms) = state.lockout.locked(peer, Kind::Hook, state.now_ms()) {
        return Err(Box::new(reply::retry_after(plain(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests"), left_ms)));
    }
    let headers = request.headers();
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    let own = headers.get("x-openclaw-token").and_then(|value| value.to_str().ok()).map(str::trim);
    if authorization.or(own).is_some_and(|given| same(given, &hooks.token)) {
        state.lockout.succeeded(peer, Kind::Hook);
        return Ok(());
    }
    state.lockout.failed(peer, Kind::Hook, state.now_ms());
    state.audit_refusal(peer, "HOOK_TOKEN_MISMATCH");
    Err(Box::new(plain(StatusCode::UNAUTHORIZED, "Unauthorized")))
}

fn deed(hooks: &Hooks, name: &str, said: &Value, key: Option<&str>) -> Result<Option<Deed>, Box<Reply>> {
    let text = |field: &str| said.get(field).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let bad = |why: &str| Err(Box::new(refused(StatusCode::BAD_REQUEST, why)));
    match name {
        "wake" => {
            let Some(event) = text("text") else { return bad("text required") };
            let waits = match said.get("mode") {
                None | Some(Value::Null) => false,
                Some(mode) if mode == "now" => false,
                Some(mode) if mode == "next-heartbeat" => true,
                Some(_) => return bad("mode must be now or next-heartbeat"),
            };
            Ok(Some(Deed::Wake { text: event.to_owned(), waits }))
        }
        "agent" => {
            let Some(message) = text("message") else { return bad("message required") };
            if text("sessionKey").is_some() && !hooks.allow_session_key {
                let why = "sessionKey is disabled for external /hooks/agent payloads; set hooks.allowRequestSessionKey=true \
                           to enable";
                return bad(why);
            }
            let level = text("thinking");
            let thinking =
                thinking(level).map_err(|error| Box::new(refused(StatusCode::BAD_REQUEST, &error.message)))?;
            let seconds = said.get("timeoutSeconds").and_then(Value::as_u64).filter(|seconds| *seconds > 0);
            Ok(Some(Deed::Agent(Box::new(Errand {
                message: message.to_owned(),
                agent: text("agentId").map(str::to_owned),
                session_key: text("sessionKey").map(str::to_owned),
                thinking,
                timeout_ms: seconds.map(|seconds| seconds.saturating_mul(1000)),
                key: key.or(text("idempotencyKey")).map(str::to_owned),
            }))))
        }
        _ => {
            let Some(mapping) = hooks.mapping(name, said) else { return Err(Box::new(reply::not_found())) };
            let text = filled(&mapping.template, said).trim().to_owned();
            Ok(match text {
                text if text.is_empty() => None,
                message if mapping.runs_agent => {
                    let key = key.map(str::to_owned);
                    Some(Deed::Agent(Box::new(Errand { message, key, ..Errand::default() })))
                }
                text => Some(Deed::Wake { text, waits: mapping.waits_for_heartbeat }),
            })
        }
    }
}

async fn carry_out(state: &State, peer: &Peer, name: &str, deed: Deed) -> Reply {
    let (text, waits) = match deed {
        Deed::Wake { text, waits } => (text, waits),
        Deed::Agent(errand) => return send_out(state, peer, name, *errand).await,
    };
    let text: String = text.chars().take(MAX_TEXT).collect();
    let mode = if waits { "next-heartbeat" } else { "now" };
    let event = Queued { text, mode: mode.to_owned(), at_ms: state.now_ms() };
    if let Err(error) = state.pulse.queue(event).await {
        return refused(StatusCode::SERVICE_UNAVAILABLE, &error.message);
    }
    let hook: String = name.chars().take(120).collect();
    state.audit(format!("hook:{}", peer.ip()), AuditEvent::HookTaken { hook, mode: mode.to_owned() });
    json_reply(StatusCode::OK, &json!({"ok": true, "mode": mode, "eventOutcome": "queued"}))
}

/// Has an agent run for another program, in a session of its own where none is named.
async fn send_out(state: &State, peer: &Peer, name: &str, errand: Errand) -> Reply {
    let own = errand.key.as_ref().map_or_else(uuid::Uuid::new_v4, |key| {
        let mut bytes = [0; 16];
        let digest = Sha256::new().chain_update(name).chain_update([0]).chain_update(key).finalize();
        bytes.iter_mut().zip(digest).for_each(|(byte, hashed)| *byte = hashed);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    });
    let key = errand.session_key.unwrap_or_else(|| format!("hook:{own}"));
    let hook: String = name.chars().take(120).collect();
    let caller = format!("hook:{}", peer.ip());
    let taken = async {
        check_message(&errand.message, false)?;
        let turn = Turn {
            thinking: errand.thinking,
            timeout_ms: errand.timeout_ms,
            system: format!(
                "The message comes from another program, through the hook {hook:?}, and not from a person."
            ),
            ..Turn::plain(format!("hook-{own}"), Key::read(&key, errand.agent.as_deref())?, errand.message)
        };
        let owner = RunOwner { caller: caller.clone(), ..RunOwner::default() };
        turn.take(state, Asker { version: ProtocolVersion::V4, owner }).await
    };
    match taken.await {
        Ok(_) => {
            state.audit(caller, AuditEvent::HookTaken { hook, mode: "agent".to_owned() });
            json_reply(StatusCode::OK, &json!({"ok": true, "runId": format!("hook-{own}")}))
        }
        Err(error) if error.code == error_code::INVALID_REQUEST => refused(StatusCode::BAD_REQUEST, &error.message),
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, &error.message),
    }
}

fn refused(status: StatusCode, why: &str) -> Reply {
    json_reply(status, &json!({"ok": false, "error": why}))
}

fn plain(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Reply::new(text.into());
    *reply.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}

/// Taken, and nothing is to be done.
fn empty() -> Reply {
    let mut reply = Reply::default();
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}
