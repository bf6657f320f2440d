//! What servers that speak OpenAI's Chat Completions refuse, and how their errors look.
//!
//! Only rules that a client can break are here, the strictest of each kind of server; what a model would answer is for the
//! script.

use serde_json::{Value, json};

use crate::record::Recorded;
use crate::reply::Reply;

/// The route of an answer.
pub const COMPLETIONS: &str = "/v1/chat/completions";
/// The route of the list of models.
pub const MODELS: &str = "/v1/models";

/// An error as the server words it, with a request id.
#[must_use]
pub fn error(status: u16, kind: &str, code: Option<&str>, message: &str) -> Reply {
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    Reply::json(status, &body).header("x-request-id", "req_fake")
}

fn refuse(message: &str) -> Reply {
    error(400, "invalid_request_error", None, message)
}

/// Checks a request for an answer. `key` is what the server wants to be shown; none for one that asks nobody.
///
/// # Errors
/// The reply that refuses it.
pub fn check(request: &Recorded, key: Option<&str>) -> Result<Value, Box<Reply>> {
    let body = request.json();
    let messages = list(&body, "messages");
    let problem = who(request, key)
        .or_else(|| parameters(&body))
        .or_else(|| list(&body, "tools").iter().find_map(definition))
        .or_else(|| messages.iter().enumerate().find_map(|(at, message)| shape(at, message)))
        .or_else(|| order(messages));
    problem.map_or(Ok(body), |reply| Err(Box::new(reply)))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

fn who(request: &Recorded, key: Option<&str>) -> Option<Reply> {
    let shown = request.header("authorization");
    let bearer = shown.and_then(|value| value.strip_prefix("Bearer "));
    match (key, shown) {
        (None, None) => None,
        (None, Some(_)) if bearer.is_none_or(|key| key.trim().is_empty()) => {
            Some(refuse("the header authorization is malformed"))
        }
        (None, Some(_)) => None,
        (Some(wanted), _) if bearer == Some(wanted) => None,
        _ => Some(error(401, "invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided")),
    }
}

fn parameters(body: &Value) -> Option<Reply> {
    if text(body, "model").is_none_or(str::is_empty) {
        return Some(refuse("you must provide a model parameter"));
    }
    if list(body, "messages").is_empty() {
        return Some(refuse("[] is too short - 'messages'"));
    }
    if body.get("tools").is_some() && list(body, "tools").is_empty() {
        return Some(refuse("[] is too short - 'tools'"));
    }
    if body.get("stream_options").is_some() && body.get("stream") != Some(&json!(true)) {
        return Some(refuse("The 'stream_options' parameter is only allowed when 'stream' is enabled."));
    }
    let lengths: Vec<&Value> =
        ["max_tokens", "max_completion_tokens"].iter().filter_map(|name| body.get(name)).collect();
    if lengths.len() > 1 {
        return Some(refuse("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."));
    }
    if lengths.iter().any(|length| length.as_u64().is_none_or(|length| length == 0)) {
        return Some(refuse("max_tokens must be at least 1"));
    }
    let effort = body.get("reasoning_effort");
    let is_known = effort.is_none_or(|effort| ["low", "medium", "high"].iter().any(|known| effort == known));
    (!is_known).then(|| refuse("Invalid value for 'reasoning_effort'"))
}

fn is_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(is_legal)
}

fn definition(tool: &Value) -> Option<Reply> {
    let function = tool.get("function").unwrap_or(&Value::Null);
    let is_good = text(tool, "type") == Some("function")
        && text(function, "name").is_some_and(is_name)
        && function.get("parameters").is_some_and(Value::is_object);
    (!is_good).then(|| refuse("Invalid 'tools': expected a function with a name and parameters"))
}

/// What a single message may look like.
fn shape(at: usize, message: &Value) -> Option<Reply> {
    let content = message.get("content").unwrap_or(&Value::Null);
    let calls = message.get("tool_calls");
    let is_text = content.is_string();
    let is_good = match text(message, "role").unwrap_or_default() {
        "system" | "developer" => is_text,
        "user" => is_text || (!list(message, "content").is_empty() && list(message, "content").iter().all(is_part)),
        "assistant" => {
            let calls = list(message, "tool_calls");
            (is_text || (content.is_null() && !calls.is_empty())) && calls.iter().all(is_call)
        }
        "tool" => is_text && text(message, "tool_call_id").is_some_and(|id| !id.is_empty()),
        role => {
            let known = "['system', 'assistant', 'user', 'function', 'tool', 'developer']";
            return Some(refuse(&format!("'{role}' is not one of {known} - 'messages.{at}.role'")));
        }
    };
    let is_empty = calls.is_some_and(|calls| calls.as_array().is_none_or(Vec::is_empty));
    (!is_good || is_empty).then(|| refuse(&format!("Invalid 'messages.{at}': its content or its calls are malformed")))
}

fn is_part(part: &Value) -> bool {
    match text(part, "type") {
        Some("text") => text(part, "text").is_some_and(|text| !text.is_empty()),
        Some("image_url") => part.pointer("/image_url/url").and_then(Value::as_str).is_some_and(|url| {
            url.starts_with("https://") || (url.starts_with("data:image/") && url.contains(";base64,"))
        }),
        _ => false,
    }
}

fn is_call(call: &Value) -> bool {
    let function = call.get("function").unwrap_or(&Value::Null);
    text(call, "id").is_some_and(|id| !id.is_empty())
        && text(call, "type") == Some("function")
        && text(function, "name").is_some_and(is_name)
        && text(function, "arguments")
            .is_some_and(|text| serde_json::from_str::<Value>(text).is_ok_and(|it| it.is_object()))
}

/// What may follow what: results what asked for them, all of them, and otherwise turns.
fn order(messages: &[Value]) -> Option<Reply> {
    let mut open: Vec<&str> = Vec::new();
    let mut before = "";
    for message in messages {
        let role = text(message, "role").unwrap_or_default();
        if role == "tool" {
            let id = text(message, "tool_call_id").unwrap_or_default();
            let Some(at) = open.iter().position(|known| *known == id) else {
                let what = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
                return Some(refuse(what));
            };
            open.remove(at);
        } else if !open.is_empty() {
            let what = "An assistant message with 'tool_calls' must be followed by tool messages responding to each";
            return Some(refuse(&format!("{what} 'tool_call_id': {}", open.join(", "))));
        } else if role == before {
            return Some(refuse("Conversation roles must alternate user/assistant/user/assistant/..."));
        }
        open.extend(list(message, "tool_calls").iter().filter_map(|call| text(call, "id")));
        before = role;
    }
    (!open.is_empty()).then(|| refuse("An assistant message with 'tool_calls' must be followed by tool messages"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn request(authorization: Option<&str>, body: &Value) -> Recorded {
        Recorded {
            method: "POST".into(),
            path: COMPLETIONS.into(),
            query: String::new(),
            headers: authorization.map(|value| ("authorization".to_owned(), value.to_owned())).into_iter().collect(),
            body: body.to_string().into(),
            arrived: Instant::now(),
            answered: false,
            disconnected: false,
        }
    }

    fn refused(body: &Value) -> Option<u16> {
        check(&request(None, body), None).err().and_then(|reply| reply.status)
    }

    fn good() -> Value {
        json!({"model": "m", "messages": [{"role": "user", "content": "a"}]})
    }

    #[test]
    fn each_parameter_that_breaks_a_rule_is_refused() {
        assert_eq!(refused(&good()), None);
        let with = |name: &str, value: Value| {
            let mut body = good();
            body[name] = value;
            refused(&body)
        };
        let tool = |name: &str| json!([{"type": "function", "function": {"name": name, "parameters": {}}}]);
        for (name, good, bad) in [
            ("model", json!("x"), json!("")),
            ("messages", json!([{"role": "user", "content": "a"}]), json!([])),
            ("tools", tool("n"), json!([])),
            ("tools", tool("a-B_9"), tool("a.b")),
            ("max_tokens", json!(1), json!(0)),
            ("reasoning_effort", json!("low"), json!("none")),
        ] {
            assert_eq!((with(name, good), with(name, bad)), (None, Some(400)), "{name}");
        }
        assert_eq!(with("stream_options", json!({"include_usage": true})), Some(400));
        let mut both = good();
        both["max_tokens"] = json!(1);
        both["max_completion_tokens"] = json!(1);
        assert_eq!(refused(&both), Some(400));
    }

    #[test]
    fn each_message_that_breaks_a_rule_is_refused() {
        let with = |messages: Value| refused(&json!({"model": "m", "messages": messages}));
        let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "n", "arguments": "{}"}});
        let calls = json!({"role": "assistant", "content": null, "tool_calls": [call("1"), call("2")]});
        let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "r"});
        let user = json!({"role": "user", "content": "a"});
        assert_eq!(with(json!([user, calls, result("2"), result("1"), user])), None);
        let image =
            |url: &str| json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
        assert_eq!((with(image("data:image/png;base64,AA==")), with(image("AA=="))), (None, Some(400)));
        let mut raw = calls.clone();
        raw["tool_calls"][0]["function"]["arguments"] = json!({});
        for bad in [
            json!([{"role": "human", "content": "a"}]),
            json!([{"role": "user", "content": []}]),
            json!([{"role": "assistant", "content": null}]),
            json!([{"role": "assistant", "content": "a", "tool_calls": []}]),
            json!([user, user]),
            json!([user, result("1")]),
            json!([user, calls, result("1"), user]),
            json!([user, calls, result("1"), result("1")]),
            json!([user, calls, result("1")]),
            json!([user, raw, result("1"), result("2")]),
        ] {
            assert_eq!(with(bad.clone()), Some(400), "{bad}");
        }
    }

    #[test]
    fn who_asks_is_looked_at_where_a_key_is_wanted() {
        let status = |shown: Option<&str>, key: Option<&str>| {
            check(&request(shown, &good()), key).err().and_then(|reply| reply.status)
        };
        assert_eq!((status(None, None), status(Some("Bearer x"), None)), (None, None));
        assert_eq!((status(Some("Bearer "), None), status(Some(""), None)), (Some(400), Some(400)));
        assert_eq!(status(Some("Bearer k"), Some("k")), None);
        for shown in [None, Some("Bearer x"), Some("k")] {
            assert_eq!(status(shown, Some("k")), Some(401));
        }
    }
}
