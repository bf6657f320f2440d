//! What the Messages API of Anthropic refuses, and how its errors look.
//!
//! Only rules that a client can break are here; what a model would answer is for the script.

use serde_json::{Value, json};

use crate::record::Recorded;
use crate::reply::Reply;

/// The route of a message.
pub const MESSAGES: &str = "/v1/messages";
/// The versions of the interface that there are.
const VERSIONS: &[&str] = &["2023-06-01", "2026-10-21"];
/// What a token of a login needs beside it.
const OAUTH_BETA: &str = "oauth-2025-04-20";
/// How a token of a login begins.
const OAUTH_PREFIX: &str = "sk-ant-oat01-";
/// Models that always think as they see fit.
const ALWAYS_ADAPTIVE: &[&str] = &["claude-opus-5-5", "claude-fable-5-1", "claude-fable-5-2"];

/// An error as the server words it, with a request id.
#[must_use]
pub fn error(status: u16, kind: &str, message: &str) -> Reply {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011FAKE"});
    Reply::json(status, &body).header("request-id", "req_011FAKE")
}

fn refuse(message: &str) -> Reply {
    error(400, "invalid_request_error", message)
}

/// Checks a request for a message. `kept` are blocks of earlier answers that have to come back byte for byte.
///
/// # Errors
/// The reply that refuses it.
pub fn check(request: &Recorded, kept: &[&str]) -> Result<Value, Box<Reply>> {
    let body = request.json();
    let version = request.header("anthropic-version").unwrap_or_default();
    let problem = who(request)
        .or_else(|| (!VERSIONS.contains(&version)).then(|| refuse("anthropic-version: unknown version")))
        .or_else(|| parameters(&body, version))
        .or_else(|| conversation(&body))
        .or_else(|| {
            let changed = kept.iter().any(|block| !request.text().contains(block));
            changed.then(|| refuse("thinking blocks in the latest assistant message cannot be modified"))
        });
    problem.map_or(Ok(body), |reply| Err(Box::new(reply)))
}

fn who(request: &Recorded) -> Option<Reply> {
    let refuse = |message: &str| Some(error(401, "authentication_error", message));
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match (request.header("x-api-key"), bearer) {
        (None, None) => refuse("x-api-key header is required"),
        (Some(key), _) if key.starts_with(OAUTH_PREFIX) => refuse("invalid x-api-key"),
        (_, Some(token)) if token.starts_with(OAUTH_PREFIX) => {
            let betas = request.header("anthropic-beta").unwrap_or_default();
            let named = betas.split(',').any(|beta| beta.trim() == OAUTH_BETA);
            if named { None } else { refuse("OAuth authentication is currently not supported.") }
        }
        _ => None,
    }
}

fn parameters(body: &Value, version: &str) -> Option<Reply> {
    let field = |name: &str| body.get(name).filter(|value| !value.is_null());
    if field("model").is_none() || field("max_tokens").is_none() {
        return Some(refuse("model and max_tokens are required"));
    }
    let sampling = ["temperature", "top_p", "top_k"].into_iter().find(|name| field(name).is_some());
    if let (Some(name), "2026-10-21") = (sampling, version) {
        return Some(refuse(&format!("{name}: Extra inputs are not permitted")));
    }
    let kind = |name: &str| field(name).and_then(|value| value.get("type")).and_then(Value::as_str);
    if !matches!(kind("tool_choice"), None | Some("auto" | "none")) {
        return Some(refuse("tool_choice forces tool use, which this model does not support"));
    }
    let adaptive = field("model").and_then(Value::as_str).is_some_and(|model| ALWAYS_ADAPTIVE.contains(&model));
    if adaptive && !matches!(kind("thinking"), None | Some("adaptive")) {
        return Some(refuse("thinking.type: this model supports adaptive thinking only"));
    }
    None
}

/// The ids in blocks of one kind of a message.
fn ids<'a>(message: &'a Value, kind: &str, field: &str) -> Vec<&'a str> {
    let blocks = message.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let wanted = blocks.iter().filter(|block| block.get("type").and_then(Value::as_str) == Some(kind));
    wanted.filter_map(|block| block.get(field)?.as_str()).collect()
}

fn conversation(body: &Value) -> Option<Reply> {
    let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let role = |message: &Value| message.get("role").and_then(Value::as_str).map(str::to_owned);
    match messages.last().map(role) {
        None => return Some(refuse("messages: at least one message is required")),
        Some(Some(last)) if last == "assistant" => {
            return Some(refuse("This model does not support assistant message prefill."));
        }
        Some(_) => {}
    }
    for (index, message) in messages.iter().enumerate() {
        let mut wanted = ids(message, "tool_use", "id");
        if wanted.is_empty() {
            continue;
        }
        let answer = messages.get(index + 1).unwrap_or(&Value::Null);
        let mut given = ids(answer, "tool_result", "tool_use_id");
        let first = answer.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let results_first = first
            .iter()
            .take(given.len())
            .all(|block| block.get("type").and_then(Value::as_str) == Some("tool_result"));
        wanted.sort_unstable();
        given.sort_unstable();
        if wanted != given || !results_first {
            return Some(refuse("tool_use ids were found without tool_result blocks immediately after"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn request(headers: &[(&str, &str)], body: &Value) -> Recorded {
        Recorded {
            method: "POST".into(),
            path: MESSAGES.into(),
            query: String::new(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.to_string().into(),
            arrived: Instant::now(),
            answered: false,
            disconnected: false,
        }
    }

    fn refused(headers: &[(&str, &str)], body: &Value) -> Option<u16> {
        check(&request(headers, body), &[]).err().and_then(|reply| reply.status)
    }

    #[test]
    fn each_rule_refuses_what_breaks_it_and_nothing_else() {
        let old = [("x-api-key", "sk-ant-api03-k"), ("anthropic-version", "2023-06-01")];
        let new = [("authorization", "Bearer sk-ant-api03-k"), ("anthropic-version", "2026-10-21")];
        let good = json!({"model": "claude-opus-5-5", "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]});
        let with = |name: &str, value: Value| {
            let mut body = good.clone();
            body[name] = value;
            body
        };
        assert_eq!((refused(&old, &good), refused(&new, &good)), (None, None));
        assert_eq!(refused(&[("anthropic-version", "2023-06-01")], &good), Some(401));
        assert_eq!(refused(&[("x-api-key", "k"), ("anthropic-version", "2024-01-01")], &good), Some(400));
        assert_eq!(refused(&old, &with("temperature", json!(0.5))), None);
        assert_eq!(refused(&new, &with("temperature", json!(0.5))), Some(400));
        assert_eq!(refused(&old, &with("tool_choice", json!({"type": "any"}))), Some(400));
        assert_eq!(refused(&old, &with("thinking", json!({"type": "enabled", "budget_tokens": 1024}))), Some(400));
        assert_eq!(refused(&old, &with("thinking", json!({"type": "adaptive"}))), None);
        let call = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "n", "input": {}}]});
        let result = json!({"type": "tool_result", "tool_use_id": "1"});
        assert_eq!(refused(&old, &with("messages", json!([call]))), Some(400));
        let text = json!({"type": "text", "text": "t"});
        let turn = |content: Value| with("messages", json!([call, {"role": "user", "content": content}]));
        assert_eq!(refused(&old, &turn(json!([result, text]))), None);
        assert_eq!(refused(&old, &turn(json!([text, result]))), Some(400));
        assert_eq!(refused(&old, &turn(json!([text]))), Some(400));
        assert!(check(&request(&old, &good), &["{\"type\":\"thinking\"}"]).is_err());
    }

    #[test]
    fn a_login_needs_its_beta_and_its_own_header() {
        let body = json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]});
        let token = ("authorization", "Bearer sk-ant-oat01-t");
        let version = ("anthropic-version", "2023-06-01");
        assert_eq!(refused(&[token, version], &body), Some(401));
        assert_eq!(refused(&[token, version, ("anthropic-beta", "a, oauth-2025-04-20")], &body), None);
        assert_eq!(refused(&[("x-api-key", "sk-ant-oat01-t"), version], &body), Some(401));
    }
}
