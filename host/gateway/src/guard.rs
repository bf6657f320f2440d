//! Asking plugins about calls, where one wants to be asked (the hook `authorize`). It comes after the scope, so a plugin only
//! ever takes away.

use std::sync::Arc;

use leanclaw_types::audit::AuditEvent;
use leanclaw_types::frame::ErrorShape;
use leanclaw_types::{Caller, Failure};
use serde_json::{Value, json};

use crate::connection::{Answer, Call};
use crate::error::failure_to_error;
use crate::gateway::State;
use crate::handshake::Session;
use crate::methods::{self, Method, Scope};

/// What an admin does without anybody being asked: with these a plugin that refuses everything, or cannot be asked, is found,
/// repaired (given what it waits for, read from disk again), or its right is taken back.
const WAY_OUT: [&str; 5] = ["plugins.list", "plugins.inspect", "plugins.revoke", "plugins.grant", "plugins.reload"];

/// Runs a method of the gateway's own, if no plugin objects.
pub(crate) fn own(call: &Call<'_>, method: &'static Method) -> Result<Answer, ErrorShape> {
    if WAY_OUT.contains(&method.name) && call.session.caller.holds(methods::ADMIN) {
        return (method.handler)(call);
    }
    let only_reads = match method.scope {
        Scope::Open => true,
        Scope::Needs(scope) => scope == methods::READ,
        Scope::Node | Scope::Depends => false,
    };
    let (state, session, params) = (Arc::clone(call.state), Arc::clone(call.session), call.params.to_owned());
    Ok(Answer::Asked(Box::pin(async move {
        let asked = ask(&state, &session, method.name, only_reads).await;
        let call = Call { state: &state, session: &session, method: method.name, params: &params };
        asked.and_then(|()| (method.handler)(&call)).unwrap_or_else(Answer::error)
    })))
}

/// Asks whether a call over a connection may run.
///
/// # Errors
/// A plugin refuses it; that is written down.
pub(crate) async fn ask(state: &State, session: &Session, method: &str, only_reads: bool) -> Result<(), ErrorShape> {
    let client = &session.client;
    let question = json!({
        "method": method, "role": session.caller.role, "scopes": session.caller.scopes,
        "client": {
            "id": client.id, "mode": client.mode, "version": client.version, "platform": client.platform,
        },
        "device": session.device, "remote": session.peer.ip().to_string(), "protocol": session.version.number(),
    });
    let asked = put(state, Arc::clone(&session.caller), method, question, only_reads).await;
    asked.map_err(|failure| failure_to_error(session.version, &failure))
}

/// Asks whether a request over HTTP that needs `scope` may run.
///
/// # Errors
/// A plugin refuses it; that is written down.
pub(crate) async fn ask_http(
    state: &State,
    caller: &Caller,
    (method, scope): (&str, &str),
    remote: &str,
) -> Result<(), Failure> {
    let question = json!({
        "method": method, "role": caller.role, "scopes": caller.scopes, "remote": remote,
        "client": {"id": "http", "mode": "http", "version": "", "platform": ""},
    });
    put(state, Arc::new(caller.clone()), method, question, scope == methods::READ).await
}

async fn put(
    state: &State,
    caller: Arc<Caller>,
    method: &str,
    question: Value,
    only_reads: bool,
) -> Result<(), Failure> {
    let asked = state.services.plugins.authorize(question, only_reads, Arc::clone(&caller)).await;
    asked.inspect_err(|failure| {
        let reason = failure.message.clone();
        state.audit_denial(&caller, &format!("guard {method}"), |repeated| AuditEvent::CallRefused {
            method: method.to_owned(),
            reason,
            repeated,
        });
    })
}
