//! `POST /tools/invoke`.

use std::sync::Arc;

use axum::extract::{Request, State as Extract};
use http::StatusCode;
use leanclaw_types::failure::code;
use leanclaw_types::text::shown;
use serde_json::{Value, json};

use super::reply::{Reply, json_reply};
use super::{authorize, body, reply};
use crate::gateway::State;
use crate::methods::{WRITE, tools};

/// `{tool | name | toolName, args? | params?, sessionKey?, dryRun?}` → `{ok, result: {content, details?}}`.
pub(super) async fn invoke(Extract(state): Extract<Arc<State>>, request: Request) -> Reply {
    let access = match authorize(&state, &request, "tools.invoke", WRITE).await {
        Ok(access) => access,
        Err(refusal) => return *refusal,
    };
    let (parts, body) = request.into_parts();
    let text = match body::read(&state, &parts.headers, body, state.config.limits.tool_body_bytes).await {
        Ok(text) => text,
        Err(refusal) => return *refusal,
    };
    let call: Value = match serde_json::from_slice(&text) {
        Ok(call @ Value::Object(_)) => call,
        Ok(_) => return invalid_json("the body must be a JSON object"),
        Err(error) => return invalid_json(&error.to_string()),
    };
    let field = |names: &[&str]| names.iter().find_map(|name| call.get(*name));
    let Some(tool) = field(&["tool", "name", "toolName"]).and_then(Value::as_str).filter(|tool| !tool.is_empty())
    else {
        return refused(StatusCode::BAD_REQUEST, "invalid_request", "tools.invoke requires name");
    };
    let empty = json!({});
    let args = match field(&["args", "params"]) {
        None | Some(Value::Null) => &empty,
        Some(args @ Value::Object(_)) => args,
        Some(_) => {
            return refused(StatusCode::BAD_REQUEST, "invalid_request", "tools.invoke requires args to be an object");
        }
    };
    if call.get("dryRun") == Some(&Value::Bool(true)) {
        let known = state.services.plugins.tools().iter().any(|spec| spec.name == tool);
        return if known { json_reply(StatusCode::OK, &json!({"ok": true, "dryRun": true})) } else { unknown(tool) };
    }
    let mut caller = access.caller;
    caller.session_key = call.get("sessionKey").and_then(Value::as_str).map(str::to_owned);
    match state.services.plugins.invoke_tool(tool, &args.to_string(), caller).await {
        Ok(output) if output.is_error => {
            let message = output.text.as_deref().unwrap_or("the tool failed");
            refused(StatusCode::INTERNAL_SERVER_ERROR, "tool_error", message)
        }
        Ok(output) => json_reply(StatusCode::OK, &json!({"ok": true, "result": tools::result(&output)})),
        Err(failure) if failure.code == code::NOT_FOUND => unknown(tool),
        Err(failure) => {
            let status = crate::error::failure_to_status(&failure);
            let kind = match status {
                StatusCode::INTERNAL_SERVER_ERROR => "tool_error",
                StatusCode::BAD_REQUEST => "invalid_request",
                _ => failure.code.as_str(),
            };
            let details = crate::error::failure_details(&failure);
            let body = json!({"ok": false, "error": {"type": kind, "message": failure.message, "details": details}});
            let answer = json_reply(status, &body);
            match failure.retry_after_ms {
                Some(milliseconds) => reply::retry_after(answer, milliseconds),
                None => answer,
            }
        }
    }
}

fn unknown(tool: &str) -> Reply {
    refused(StatusCode::NOT_FOUND, "not_found", &format!("Tool not available: {}", shown(tool, 200)))
}

fn refused(status: StatusCode, kind: &str, message: &str) -> Reply {
    json_reply(status, &json!({"ok": false, "error": {"type": kind, "message": message}}))
}

fn invalid_json(message: &str) -> Reply {
    reply::error(StatusCode::BAD_REQUEST, "invalid_request_error", message)
}
