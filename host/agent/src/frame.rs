//! One line of the wire: JSON-RPC 2.0, read strictly and without ever failing the program.

use std::borrow::Cow;

use agent_client_protocol_schema::v1::{Error, ErrorCode};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// What the host sent.
#[derive(Debug)]
pub(crate) enum Incoming {
    Request { id: Value, method: String, params: Params },
    Notification { method: String, params: Params },
    Response { id: Value, result: Result<Box<RawValue>, Error> },
}

/// Parameters, read once somebody knows what they have to be.
#[derive(Debug)]
pub(crate) struct Params(Option<Box<RawValue>>);

impl Params {
    /// The parameters as `T`.
    ///
    /// # Errors
    /// -32602 with what is wrong.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let text = self.0.as_ref().map_or("{}", |raw| raw.get());
        serde_json::from_str(text).map_err(|error| invalid_params(format!("params: {error}")))
    }
}

/// A line that cannot be used, and the id to say so to.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) id: Value,
    pub(crate) error: Error,
}

#[derive(Deserialize)]
struct Frame<'l> {
    #[serde(default, borrow)]
    jsonrpc: Option<Cow<'l, str>>,
    #[serde(default, deserialize_with = "present")]
    id: Option<Value>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default, borrow)]
    params: Option<&'l RawValue>,
    #[serde(default, borrow)]
    result: Option<&'l RawValue>,
    #[serde(default)]
    error: Option<Error>,
}

/// A field that is there, `null` included.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// -32602 with `problem` as its message.
pub(crate) fn invalid_params(problem: impl Into<String>) -> Error {
    Error::new(i32::from(ErrorCode::InvalidParams), problem)
}

/// Reads one line.
///
/// # Errors
/// -32700 when it is no JSON, -32600 when it is no message.
pub(crate) fn decode(line: &[u8]) -> Result<Incoming, Rejected> {
    let refused =
        |id: Value, code: ErrorCode, problem: String| Rejected { id, error: Error::new(code.into(), problem) };
    let not_json =
        |problem: String| refused(Value::Null, ErrorCode::ParseError, format!("The line is no JSON: {problem}"));
    let no_message = |id: Value, problem: &str| {
        refused(id, ErrorCode::InvalidRequest, format!("The line is no JSON-RPC 2.0 message: {problem}"))
    };
    let text = std::str::from_utf8(line).map_err(|error| not_json(error.to_string()))?;
    if !text.trim_ascii_start().starts_with('{') {
        // A list would be read as the fields in their order.
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => no_message(Value::Null, "it must be one object"),
            Err(error) => not_json(error.to_string()),
        });
    }
    let frame: Frame<'_> = match serde_json::from_str(text) {
        Ok(frame) => frame,
        Err(error) if error.is_data() => return Err(no_message(Value::Null, &error.to_string())),
        Err(error) => return Err(not_json(error.to_string())),
    };
    let id = match frame.id {
        Some(Value::Array(_) | Value::Object(_) | Value::Bool(_)) => {
            return Err(no_message(Value::Null, "`id` must be a number, a string or null"));
        }
        id => id,
    };
    if frame.jsonrpc.as_deref() != Some("2.0") {
        return Err(no_message(id.unwrap_or(Value::Null), "`jsonrpc` must be \"2.0\""));
    }
    let params = Params(frame.params.map(ToOwned::to_owned));
    match (frame.method, id, frame.result, frame.error) {
        (Some(method), Some(id), ..) => Ok(Incoming::Request { id, method, params }),
        (Some(method), None, ..) => Ok(Incoming::Notification { method, params }),
        (None, Some(id), _, Some(error)) => Ok(Incoming::Response { id, result: Err(error) }),
        // A result of `null` reads as none.
        (None, Some(id), result, None) => {
            Ok(Incoming::Response { id, result: Ok(result.unwrap_or(RawValue::NULL).to_owned()) })
        }
        (None, None, ..) => Err(no_message(Value::Null, "it has neither `method` nor `id`")),
    }
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
    error: Option<&'m Error>,
}

impl<P> Outgoing<'_, P> {
    fn empty() -> Self {
        Self { jsonrpc: "2.0", id: None, method: None, params: None, result: None, error: None }
    }
}

/// A request, or a notification when it has no id.
pub(crate) fn call<P: Serialize>(id: Option<&Value>, method: &str, params: &P) -> serde_json::Result<String> {
    serde_json::to_string(&Outgoing { id, method: Some(method), params: Some(params), ..Outgoing::empty() })
}

/// The answer to a request.
pub(crate) fn answer(id: &Value, result: &Result<Value, Error>) -> serde_json::Result<String> {
    serde_json::to_string(&match result {
        Ok(result) => Outgoing { id: Some(id), result: Some(result), ..Outgoing::empty() },
        Err(error) => Outgoing { id: Some(id), error: Some(error), ..Outgoing::empty() },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rejected(line: &str) -> (Value, i32) {
        let Rejected { id, error } = decode(line.as_bytes()).unwrap_err();
        (id, error.code.into())
    }

    #[test]
    fn each_kind_of_message_is_told_apart() {
        let request = decode(br#"{"jsonrpc":"2.0","id":null,"method":"m","params":{"a":1}}"#).unwrap();
        assert!(matches!(request, Incoming::Request { id: Value::Null, ref method, .. } if method == "m"));
        let note = decode(br#"{"jsonrpc":"2.0","method":"m"}"#).unwrap();
        assert!(matches!(note, Incoming::Notification { ref method, .. } if method == "m"));
        for line in [r#"{"jsonrpc":"2.0","id":1,"result":null}"#, r#"{"jsonrpc":"2.0","id":1}"#] {
            let response = decode(line.as_bytes()).unwrap();
            assert!(matches!(response, Incoming::Response { result: Ok(ref raw), .. } if raw.get() == "null"));
        }
        let line = br#"{"jsonrpc":"2.0","id":"a","error":{"code":-1,"message":"no","data":[1]}}"#;
        let Incoming::Response { result: Err(error), .. } = decode(line).unwrap() else { panic!("an error") };
        assert_eq!(error.data, Some(json!([1])));
    }

    #[test]
    fn what_is_no_message_is_answered_with_the_right_code() {
        assert_eq!(rejected("{"), (Value::Null, -32700));
        assert_eq!(rejected(""), (Value::Null, -32700));
        assert_eq!(rejected(&"[".repeat(100_000)), (Value::Null, -32700));
        assert_eq!(rejected("[]"), (Value::Null, -32600));
        assert_eq!(rejected(r#"["2.0",1,"session/new"]"#), (Value::Null, -32600));
        assert_eq!(rejected("{}"), (Value::Null, -32600));
        assert_eq!(rejected(r#"{"jsonrpc":"2.0"}"#), (Value::Null, -32600));
        assert_eq!(rejected(r#"{"id":7,"method":"m"}"#), (json!(7), -32600));
        assert_eq!(rejected(r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#), (Value::Null, -32600));
        assert_eq!(decode(b"\xff").unwrap_err().error.code, ErrorCode::ParseError);
    }

    #[test]
    fn bad_parameters_are_named() {
        #[derive(Debug, Deserialize)]
        struct Wanted {
            #[expect(dead_code, reason = "only read")]
            name: String,
        }
        let Incoming::Request { params, .. } = decode(br#"{"jsonrpc":"2.0","id":1,"method":"m","params":{}}"#).unwrap()
        else {
            panic!("a request");
        };
        let error = params.read::<Wanted>().unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidParams);
        assert!(error.message.contains("missing field `name`"), "{}", error.message);
    }

    proptest! {
        #[test]
        fn no_line_ends_the_decoder(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&line);
        }

        #[test]
        fn nothing_that_looks_like_a_message_ends_the_decoder(
            id in "(null|1|1e999|\"a\"|\\{\\}|-0|\"\\\\ud800\")",
            method in "(null|\"m\"|1|\\[\\])",
            rest in "(|,\"params\":[1]|,\"result\":null|,\"error\":\\{\\}|,\"id\":2|,)",
        ) {
            let _ = decode(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}{rest}}}"#).as_bytes());
        }
    }
}
