//! Writing frames. Payloads are JSON texts and go out as they are.

use std::borrow::Cow;
use std::sync::Arc;

use leanclaw_types::frame::{ErrorShape, RequestFrame, StateVersion};
use serde_json::Value;
use tungstenite::Utf8Bytes;

/// A result as JSON text.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// Made for this answer.
    Own(String),
    /// Kept for many.
    Shared(Arc<str>),
}

impl Payload {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Own(text) => text,
            Self::Shared(text) => text,
        }
    }

    /// The same, to be kept for many.
    pub(crate) fn shared(self) -> Self {
        match self {
            Self::Own(text) => Self::Shared(text.into()),
            shared @ Self::Shared(_) => shared,
        }
    }

    /// A result from a value.
    pub(crate) fn json(value: &Value) -> Self {
        Self::Own(value.to_string())
    }
}

/// An object, and then `more` in it: any pairs of a name and a value.
pub(crate) fn joined<K: Into<String>>(mut fields: Value, more: impl IntoIterator<Item = (K, Value)>) -> Value {
    if let Some(fields) = fields.as_object_mut() {
        fields.extend(more.into_iter().map(|(name, value)| (name.into(), value)));
    }
    fields
}

/// A request's id as JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Id(String);

impl Id {
    /// The id of a good frame. A borrowed one had no escapes in its JSON text, so it needs none now.
    pub(crate) fn of(frame: &RequestFrame<'_>) -> Self {
        match &frame.id {
            Cow::Borrowed(text) => Self(format!("\"{text}\"")),
            Cow::Owned(text) => Self(quoted(text)),
        }
    }

    /// The id of a bad frame: whatever it was, `"invalid"` when there was none.
    pub(crate) fn of_bad_frame(frame: &Value) -> Self {
        match frame.get("id") {
            Some(id @ (Value::String(_) | Value::Number(_))) => Self(id.to_string()),
            _ => Self("\"invalid\"".into()),
        }
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A response.
pub(crate) fn response(id: &Id, outcome: &Result<Payload, ErrorShape>) -> Utf8Bytes {
    match outcome {
        Ok(payload) => framed(id, ",\"ok\":true,\"payload\":", payload.as_str()),
        Err(error) => framed(id, ",\"ok\":false,\"error\":", &error_text(error)),
    }
}

/// The response to what failed, and what is known of it besides.
pub(crate) fn response_with_both(id: &Id, payload: &Payload, error: &ErrorShape) -> Utf8Bytes {
    framed(id, ",\"ok\":false,\"payload\":", &format!("{},\"error\":{}", payload.as_str(), error_text(error)))
}

fn error_text(error: &ErrorShape) -> String {
    serde_json::to_string(error).unwrap_or_else(|_| "{\"code\":\"UNAVAILABLE\",\"message\":\"\"}".into())
}

fn framed(id: &Id, head: &str, body: &str) -> Utf8Bytes {
    let mut text = String::with_capacity(20 + id.0.len() + head.len() + body.len());
    text.push_str("{\"type\":\"res\",\"id\":");
    text.push_str(&id.0);
    text.push_str(head);
    text.push_str(body);
    text.push('}');
    text.into()
}

/// An event without `seq` and closing brace.
pub(crate) fn event_head(name: &str, payload: &str) -> String {
    format!("{{\"type\":\"event\",\"event\":{},\"payload\":{payload}", quoted(name))
}

/// Completes an event for one connection.
pub(crate) fn event(head: &str, seq: Option<u64>, state_version: Option<StateVersion>) -> Utf8Bytes {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(head.len() + 80);
    text.push_str(head);
    if let Some(seq) = seq {
        let _ = write!(text, ",\"seq\":{seq}");
    }
    if let Some(version) = state_version {
        let _ = write!(text, ",\"stateVersion\":{{\"presence\":{},\"health\":{}}}", version.presence, version.health);
    }
    text.push('}');
    text.into()
}

/// A close reason: at most 120 bytes, cut between characters.
pub(crate) fn close_reason(text: &str) -> Utf8Bytes {
    let mut end = text.len().min(120);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use leanclaw_types::frame::{EventFrame, ResponseFrame};
    use serde_json::json;

    #[test]
    fn ids_are_echoed_exactly() {
        for id in ["1", "a\"b\\", "\u{1F980}\u{0}"] {
            let text = json!({"type": "req", "id": id, "method": "m"}).to_string();
            let frame = RequestFrame::read(&text).unwrap();
            let answer = response(&Id::of(&frame), &Ok(Payload::Own("{}".into())));
            let read: ResponseFrame = serde_json::from_str(answer.as_str()).unwrap();
            assert_eq!((read.kind.as_str(), read.id.as_str(), read.ok), ("res", id, true));
        }
        for (frame, id) in [(json!({"id": 7}), json!(7)), (json!({}), json!("invalid")), (json!([1]), json!("invalid"))]
        {
            let answer = response(&Id::of_bad_frame(&frame), &Err(ErrorShape::invalid("x")));
            assert_eq!(serde_json::from_str::<Value>(answer.as_str()).unwrap()["id"], id);
        }
    }

    #[test]
    fn events_are_closed_shapes() {
        let head = event_head("we\"ird", "{\"a\":1}");
        let version = StateVersion { presence: 1, health: 2 };
        let frame: EventFrame = serde_json::from_str(event(&head, Some(3), Some(version)).as_str()).unwrap();
        assert_eq!((frame.event.as_str(), frame.seq, frame.state_version), ("we\"ird", Some(3), Some(version)));
        let bare: EventFrame = serde_json::from_str(event(&head, None, None).as_str()).unwrap();
        assert_eq!(bare.seq, None);
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        let long = format!("{}é tail", "x".repeat(119));
        assert_eq!(close_reason(&long).as_str(), "x".repeat(119));
        assert_eq!(close_reason("short").as_str(), "short");
    }
}
