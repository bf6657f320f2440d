//! One line of the wire to an agent: JSON-RPC 2.0, as the host writes and reads it.

use leanclaw_types::Failure;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Something is wrong with what was asked.
pub(super) const INVALID_PARAMS: i64 = -32602;
/// There is no such method.
pub(super) const METHOD_NOT_FOUND: i64 = -32601;
/// It was tried and failed.
pub(super) const INTERNAL_ERROR: i64 = -32603;

/// What an agent sent.
#[derive(Debug)]
pub(super) enum Incoming<'l> {
    Request { id: Value, method: String, params: &'l str },
    Notification { method: String, params: &'l str },
    Response { id: Value, result: Result<&'l str, RpcError> },
}

/// An error as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RpcError {
    pub(super) code: i64,
    pub(super) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Value>,
}

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }
}

impl From<Failure> for RpcError {
    fn from(failure: Failure) -> Self {
        let data = serde_json::to_value(&failure).ok();
        Self { code: INTERNAL_ERROR, message: failure.message, data }
    }
}

#[derive(Deserialize)]
struct Frame<'l> {
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default, borrow)]
    params: Option<&'l RawValue>,
    #[serde(default, borrow)]
    result: Option<&'l RawValue>,
    #[serde(default)]
    error: Option<RpcError>,
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode(line: &str) -> Result<Incoming<'_>, String> {
    let Frame { id, method, params, result, error } =
        serde_json::from_str(line).map_err(|error| format!("the agent wrote a line that is no message: {error}"))?;
    let params = params.map_or("{}", RawValue::get);
    match (method, id) {
        (Some(method), Some(id)) => Ok(Incoming::Request { id, method, params }),
        (Some(method), None) => Ok(Incoming::Notification { method, params }),
        (None, Some(id)) => {
            let result = match error {
                Some(error) => Err(error),
                None => Ok(result.map_or("null", RawValue::get)),
            };
            Ok(Incoming::Response { id, result })
        }
        (None, None) => Err("the agent wrote a message without `method` and `id`".to_owned()),
    }
}

/// Reads the parameters of a request or notification.
///
/// # Errors
/// What is wrong with them, for the answer.
pub(super) fn params<T: DeserializeOwned>(text: &str) -> Result<T, RpcError> {
    serde_json::from_str(text).map_err(|error| RpcError::new(INVALID_PARAMS, format!("params: {error}")))
}

#[derive(Serialize)]
struct Outgoing<'m, P> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'m Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'m RpcError>,
}

fn line<P: Serialize>(frame: &Outgoing<'_, P>) -> Option<String> {
    // Made of JSON values and of types of our own, all of which can be written.
    serde_json::to_string(frame).ok()
}

fn empty<'m, P>() -> Outgoing<'m, P> {
    Outgoing { jsonrpc: "2.0", id: None, method: None, params: None, result: None, error: None }
}

/// A request.
pub(super) fn request(id: i64, method: &str, params: &impl Serialize) -> Option<String> {
    let id = Value::from(id);
    line(&Outgoing { id: Some(&id), method: Some(method), params: Some(params), ..empty() })
}

/// A notification.
pub(super) fn notification(method: &str, params: &impl Serialize) -> Option<String> {
    line(&Outgoing { method: Some(method), params: Some(params), ..empty() })
}

/// The answer to a request.
pub(super) fn response(id: &Value, result: &Result<Value, RpcError>) -> Option<String> {
    match result {
        Ok(value) => line(&Outgoing { id: Some(id), result: Some(value), ..empty() }),
        Err(error) => line(&Outgoing::<Value> { id: Some(id), error: Some(error), ..empty() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_message_is_told_apart() {
        let line = request(1, "initialize", &json!({"a": 1})).unwrap();
        let Ok(Incoming::Request { id, method, params }) = decode(&line) else { panic!("a request: {line}") };
        assert_eq!((id, method.as_str(), params), (json!(1), "initialize", "{\"a\":1}"));
        let line = notification("session/cancel", &json!({})).unwrap();
        assert!(matches!(decode(&line), Ok(Incoming::Notification { .. })));
        let line = response(&json!("x"), &Ok(json!({"b": 2}))).unwrap();
        assert!(matches!(decode(&line), Ok(Incoming::Response { result: Ok("{\"b\":2}"), .. })));
    }

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        let failure = Failure::unavailable("no").hint("wait");
        let line = response(&json!(1), &Err(failure.clone().into())).unwrap();
        let Ok(Incoming::Response { result: Err(error), .. }) = decode(&line) else { panic!("an error: {line}") };
        assert_eq!(serde_json::from_value::<Failure>(error.data.unwrap()).unwrap(), failure);
    }

    #[test]
    fn what_is_no_message_is_said() {
        for line in ["", "[]", "{}", "{\"id\":", "null", "{\"params\":1}"] {
            assert!(decode(line).is_err(), "{line}");
        }
    }
}
