//! Messages of a transcript: their text, and how much of them goes over the wire.

use leanclaw_types::frame::ProtocolVersion;
use leanclaw_types::session::TranscriptMessage;
use serde_json::{Map, Value, json};

/// Stands in for a message that is too large.
const OMITTED: &str = "[chat.history omitted: message too large]";

/// What the program keeps with a message for itself.
const KEPT: &str = "__leanclaw";

/// How much of a transcript goes out at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    /// Characters of one text.
    pub(crate) text_chars: usize,
    /// Bytes of one message.
    pub(crate) message_bytes: usize,
    /// Bytes of all of them.
    pub(crate) total_bytes: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { text_chars: 12_000, message_bytes: 128 * 1024, total_bytes: 6 * 1024 * 1024 }
    }
}

/// A message as a client sees it.
pub(crate) fn shown(message: &TranscriptMessage, version: ProtocolVersion, caps: &Caps) -> Value {
    let mut shown = Map::new();
    shown.insert("role".into(), json!(message.role));
    shown.extend(message.body.clone());
    shown.entry("timestamp").or_insert(json!(message.at_ms));
    shown.shift_remove(KEPT);
    if !version.is_newest() {
        shown.shift_remove("__openclaw");
    }
    if let Some(content) = shown.get_mut("content") {
        cut(content, caps.text_chars);
    }
    let mut shown = Value::Object(shown);
    if shown.to_string().len() > caps.message_bytes {
        shown = json!({
            "role": message.role, "content": [{"type": "text", "text": OMITTED}], "timestamp": message.at_ms,
        });
    }
    if version.is_newest()
        && let Some(object) = shown.as_object_mut()
    {
        let mut about = object.get("__openclaw").and_then(Value::as_object).cloned().unwrap_or_default();
        about.insert("id".into(), json!(message.id.to_string()));
        about.insert("seq".into(), json!(message.seq));
        object.insert("__openclaw".into(), Value::Object(about));
    }
    shown
}

/// The newest messages that fit together; the others are dropped.
pub(crate) fn kept(mut messages: Vec<Value>, total_bytes: usize) -> Vec<Value> {
    let mut room = total_bytes;
    let fitting = messages.iter().rev().take_while(|message| {
        let bytes = message.to_string().len();
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    });
    let keep = fitting.count();
    messages.split_off(messages.len() - keep)
}

fn cut(content: &mut Value, chars: usize) {
    match content {
        Value::String(text) => cut_text(text, chars),
        Value::Array(parts) => {
            for part in parts.iter_mut().filter_map(Value::as_object_mut) {
                for name in ["text", "thinking"] {
                    if let Some(Value::String(text)) = part.get_mut(name) {
                        cut_text(text, chars);
                    }
                }
            }
        }
        _ => {}
    }
}

fn cut_text(text: &mut String, chars: usize) {
    if let Some((end, _)) = text.char_indices().nth(chars) {
        text.truncate(end);
        text.push_str("\n...(truncated)...");
    }
}

/// What a message says in words, without its tool calls.
pub(crate) fn text_of(message: &TranscriptMessage) -> String {
    match message.body.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter(|part| part.get("type").and_then(Value::as_str) == Some("text"));
            let texts: Vec<&str> = texts.filter_map(|part| part.get("text")?.as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

/// A message in lines of a preview: `{role, text}`, each text of at most `max_chars` characters.
pub(crate) fn preview(message: &TranscriptMessage, max_chars: usize) -> Vec<Value> {
    let short = |text: &str| {
        let text = text.trim();
        match text.char_indices().nth(max_chars) {
            None => text.to_owned(),
            Some(_) => text.chars().take(max_chars.saturating_sub(1)).chain(['…']).collect(),
        }
    };
    let mut items = Vec::new();
    let text = text_of(message);
    if !text.trim().is_empty() {
        let role = match message.role.as_str() {
            "user" | "assistant" | "system" => message.role.as_str(),
            "toolResult" => "tool",
            _ => "other",
        };
        items.push(json!({"role": role, "text": short(&text)}));
    }
    let parts = message.body.get("content").and_then(Value::as_array);
    for part in parts.into_iter().flatten() {
        if part.get("type").and_then(Value::as_str) == Some("toolCall") {
            let name = part.get("name").and_then(Value::as_str).unwrap_or("tool");
            items.push(json!({"role": "tool", "text": short(&format!("call {name}"))}));
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(content: Value) -> TranscriptMessage {
        let body = json!({"content": content}).as_object().unwrap().clone();
        TranscriptMessage { id: 9, seq: 2, role: "assistant".into(), body, at_ms: 5 }
    }

    #[test]
    fn long_texts_are_cut_and_huge_messages_are_replaced() {
        let caps = Caps { text_chars: 3, message_bytes: 200, total_bytes: 1000 };
        let cut = shown(&message(json!([{"type": "text", "text": "äbcdef"}])), ProtocolVersion::V3, &caps);
        assert_eq!(cut["content"][0]["text"], "äbc\n...(truncated)...");
        assert_eq!((cut["timestamp"].as_u64(), cut.get("__openclaw")), (Some(5), None));
        let huge = message(json!([{"type": "toolCall", "arguments": {"data": "x".repeat(500)}}]));
        let huge = shown(&huge, ProtocolVersion::V4, &caps);
        assert_eq!(huge["content"][0]["text"], OMITTED);
        assert_eq!((&huge["__openclaw"]["id"], &huge["__openclaw"]["seq"]), (&json!("9"), &json!(2)));
    }

    #[test]
    fn what_is_kept_with_a_message_is_not_shown() {
        let mut said = message(json!([]));
        said.body.insert(KEPT.into(), json!({"blocks": ["raw"]}));
        said.body.insert("__openclaw".into(), json!({"runId": "r"}));
        let old = shown(&said, ProtocolVersion::V3, &Caps::default());
        assert_eq!(old, json!({"role": "assistant", "content": [], "timestamp": 5}));
        let new = shown(&said, ProtocolVersion::V4, &Caps::default());
        assert_eq!((new.get(KEPT), &new["__openclaw"]), (None, &json!({"runId": "r", "id": "9", "seq": 2})));
    }

    #[test]
    fn the_newest_messages_are_kept() {
        let messages = vec![json!("aaaa"), json!("bbbb"), json!("cccc")];
        assert_eq!(kept(messages.clone(), 12), [json!("bbbb"), json!("cccc")]);
        assert_eq!(kept(messages.clone(), 5), [] as [Value; 0]);
        assert_eq!(kept(messages, 100).len(), 3);
    }

    #[test]
    fn a_preview_names_tools_and_shortens_texts() {
        let said = message(json!([{"type": "text", "text": "I will look"}, {"type": "toolCall", "name": "exec"}]));
        let items = preview(&said, 6);
        assert_eq!(items, [json!({"role": "assistant", "text": "I wil…"}), json!({"role": "tool", "text": "call …"})]);
        let items = preview(&message(json!("hi")), 20);
        assert_eq!(items, [json!({"role": "assistant", "text": "hi"})]);
    }
}
