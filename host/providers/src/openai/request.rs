//! A call in the words of Chat Completions.
//!
//! It is written in the plainest of the forms that the format has, as templates of models on this machine know no other:
//! words as one string, what is no longer said left out, and one message after the other by turns. The same conversation
//! always becomes the same bytes, so that what grows at its end is found in the server's cache.

use leanclaw_types::Failure;
use leanclaw_types::model::{Block, ModelCall, ModelMessage, Role, Thinking, ToolDefinition};
use serde::Serialize;
use serde_json::Value;

use super::LengthField;
use crate::body::{check_end, check_length, written};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    function: Definition<'a>,
}

#[derive(Serialize)]
struct Definition<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Message<'a> {
    System {
        content: &'a str,
    },
    User {
        content: Content<'a>,
    },
    Assistant {
        /// Null where it only asks for tools.
        content: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: String,
    },
}

#[derive(Serialize)]
struct ToolCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    /// JSON within a string.
    arguments: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Words(String),
    Parts(Vec<Part<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

/// The body that asks for an answer as a stream. `room` is how many tokens the model has room for, where that is known.
pub(super) fn body(call: &ModelCall, length: LengthField, room: Option<u64>) -> Result<Vec<u8>, Failure> {
    check_length(call)?;
    let mut messages = Vec::new();
    if !call.system.is_empty() {
        messages.push(Message::System { content: &call.system });
    }
    for turn in turns(&call.messages) {
        match turn {
            (Role::User, blocks) => push_user(blocks, &mut messages),
            (Role::Assistant, blocks) => push_assistant(blocks, &mut messages),
        }
    }
    check_end(matches!(messages.last(), Some(Message::User { .. } | Message::Tool { .. })))?;
    // Servers that know their room refuse an answer that could not fit into it with anything before it.
    let half = room.map_or(u32::MAX, |room| u32::try_from(room / 2).unwrap_or(u32::MAX).max(1));
    let most = Some(call.max_tokens.min(half));
    let (max_tokens, max_completion_tokens) = match length {
        LengthField::MaxTokens => (most, None),
        LengthField::MaxCompletionTokens => (None, most),
    };
    written(&Body {
        model: &call.model,
        messages,
        tools: call.tools.iter().map(tool).collect(),
        max_tokens,
        max_completion_tokens,
        reasoning_effort: call.thinking.and_then(effort),
        stream: true,
        stream_options: StreamOptions { include_usage: true },
    })
}

/// The steps that all servers with this field know. None of them means "not at all", and a server decides for itself
/// where it is not told.
fn effort(thinking: Thinking) -> Option<&'static str> {
    match thinking {
        Thinking::Off | Thinking::Adaptive => None,
        Thinking::Minimal | Thinking::Low => Some("low"),
        Thinking::Medium => Some("medium"),
        Thinking::High | Thinking::Xhigh => Some("high"),
    }
}

fn tool(tool: &ToolDefinition) -> Tool<'_> {
    let ToolDefinition { name, description, input_schema } = tool;
    Tool { r#type: "function", function: Definition { name, description, parameters: input_schema } }
}

/// Whether a block is sent at all: other providers' blocks and words of nothing are not.
fn is_sent(block: &Block) -> bool {
    match block {
        Block::Kept { .. } => false,
        Block::Text { text } => !text.is_empty(),
        _ => true,
    }
}

/// Who says what, by turns: where nothing is left of a message, those before and after it are one, as many templates
/// refuse two messages of the same in a row.
fn turns(messages: &[ModelMessage]) -> Vec<(Role, Vec<&Block>)> {
    let mut turns: Vec<(Role, Vec<&Block>)> = Vec::new();
    for message in messages {
        let sent: Vec<&Block> = message.content.iter().filter(|block| is_sent(block)).collect();
        match turns.last_mut() {
            _ if sent.is_empty() => {}
            Some((role, blocks)) if *role == message.role => blocks.extend(sent),
            _ => turns.push((message.role, sent)),
        }
    }
    turns
}

/// Results first, each a message of its own, and then the words and pictures.
fn push_user<'a>(blocks: Vec<&'a Block>, messages: &mut Vec<Message<'a>>) {
    let mut parts = Vec::new();
    for block in blocks {
        match block {
            Block::ToolResult { tool_use_id, content, is_error } => {
                messages.push(Message::Tool { tool_call_id: tool_use_id, content: result_text(content, *is_error) });
            }
            Block::Image { media_type, data } => {
                parts.push(Part::ImageUrl { image_url: ImageUrl { url: format!("data:{media_type};base64,{data}") } });
            }
            Block::Text { text } => parts.push(Part::Text { text }),
            Block::ToolUse { .. } | Block::InvalidToolUse { .. } | Block::Kept { .. } => {}
        }
    }
    if !parts.is_empty() {
        messages.push(Message::User { content: plainest(parts) });
    }
}

fn plainest(parts: Vec<Part<'_>>) -> Content<'_> {
    let words: Option<Vec<&str>> = parts
        .iter()
        .map(|part| match part {
            Part::Text { text } => Some(*text),
            Part::ImageUrl { .. } => None,
        })
        .collect();
    words.map_or(Content::Parts(parts), |words| Content::Words(words.join("\n\n")))
}

/// A result has words alone, so of a picture stands there that it was one. Nothing at all would leave a model to guess.
fn result_text(content: &[Block], is_error: bool) -> String {
    let lines = content.iter().filter_map(|block| match block {
        Block::Text { text } if !text.is_empty() => Some(text.clone()),
        Block::Image { media_type, .. } => Some(format!("[a picture ({media_type}) that cannot be shown here]")),
        _ => None,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    match (text.is_empty(), is_error) {
        (false, _) => text,
        (true, true) => "[the tool failed and said nothing]".to_owned(),
        (true, false) => "[done, without output]".to_owned(),
    }
}

fn push_assistant<'a>(blocks: Vec<&'a Block>, messages: &mut Vec<Message<'a>>) {
    let (mut words, mut tool_calls) = (Vec::new(), Vec::new());
    let mut call = |id, name, arguments| {
        tool_calls.push(ToolCall { id, r#type: "function", function: Function { name, arguments } });
    };
    for block in blocks {
        match block {
            Block::Text { text } => words.push(text.as_str()),
            Block::ToolUse { id, name, input } => call(id.as_str(), name.as_str(), input.to_string()),
            Block::InvalidToolUse { id, name, .. } => call(id, name, "{}".to_owned()),
            Block::Image { .. } | Block::ToolResult { .. } | Block::Kept { .. } => {}
        }
    }
    let content = (!words.is_empty()).then(|| words.join("\n\n"));
    if content.is_some() || !tool_calls.is_empty() {
        messages.push(Message::Assistant { content, tool_calls });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(messages: Vec<(Role, Vec<Block>)>) -> ModelCall {
        ModelCall {
            model: "m".into(),
            system: String::new(),
            messages: messages.into_iter().map(|(role, content)| ModelMessage { role, content }).collect(),
            tools: Vec::new(),
            max_tokens: 10,
            thinking: None,
        }
    }

    fn json_of(call: &ModelCall) -> Value {
        serde_json::from_slice(&body(call, LengthField::MaxTokens, None).unwrap()).unwrap()
    }

    #[test]
    fn a_call_is_written_field_by_field() {
        let mut call = call(vec![(Role::User, vec![Block::text("a")])]);
        let text = String::from_utf8(body(&call, LengthField::MaxTokens, None).unwrap()).unwrap();
        let minimal = r#"{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":10,"stream":true,"stream_options":{"include_usage":true}}"#;
        assert_eq!(text, minimal);
        call.system = "s".into();
        let schema = json!({"type": "object"});
        call.tools = vec![ToolDefinition { name: "n".into(), description: "d".into(), input_schema: schema.clone() }];
        let body = json_of(&call);
        assert_eq!(body["messages"][0], json!({"role": "system", "content": "s"}));
        let function = json!({"name": "n", "description": "d", "parameters": schema});
        assert_eq!(body["tools"], json!([{"type": "function", "function": function}]));
    }

    #[test]
    fn the_length_has_the_servers_name_and_fits_into_its_room() {
        let call = call(vec![(Role::User, vec![Block::text("a")])]);
        let with = |length, room| -> Value { serde_json::from_slice(&body(&call, length, room).unwrap()).unwrap() };
        let own = with(LengthField::MaxCompletionTokens, None);
        assert_eq!((&own["max_completion_tokens"], own.get("max_tokens")), (&json!(10), None));
        for (room, most) in [(1000, 10), (12, 6), (1, 1), (u64::MAX, 10)] {
            assert_eq!(with(LengthField::MaxTokens, Some(room))["max_tokens"], most, "{room}");
        }
    }

    #[test]
    fn thinking_is_asked_for_in_three_steps() {
        let mut call = call(vec![(Role::User, vec![Block::text("a")])]);
        for (thinking, effort) in [
            (Thinking::Off, Value::Null),
            (Thinking::Adaptive, Value::Null),
            (Thinking::Minimal, json!("low")),
            (Thinking::Low, json!("low")),
            (Thinking::Medium, json!("medium")),
            (Thinking::High, json!("high")),
            (Thinking::Xhigh, json!("high")),
        ] {
            call.thinking = Some(thinking);
            assert_eq!(json_of(&call)["reasoning_effort"], effort, "{thinking:?}");
        }
    }

    #[test]
    fn every_kind_of_block_finds_its_shape() {
        let kept = |provider: &str| Block::Kept { provider: provider.into(), raw: "{}".into(), shown: "x".into() };
        let used = Block::ToolUse { id: "1".into(), name: "n".into(), input: json!({"b": 1, "a": "ü"}) };
        let invalid = Block::InvalidToolUse { id: "2".into(), name: "n".into(), text: "{".into(), problem: "p".into() };
        let image = Block::Image { media_type: "image/png".into(), data: "AA==".into() };
        let result = |id: &str, content: Vec<Block>, is_error: bool| Block::ToolResult {
            tool_use_id: id.into(),
            content,
            is_error,
        };
        let body = json_of(&call(vec![
            (Role::User, vec![Block::text("a"), image.clone(), Block::text("b")]),
            (Role::Assistant, vec![kept("anthropic"), used, Block::text("c"), Block::text("d"), invalid]),
            (
                Role::User,
                vec![
                    Block::text("e"),
                    result("1", vec![Block::text("f"), image], false),
                    result("2", vec![], true),
                    Block::text("g"),
                ],
            ),
        ]));
        let function = |arguments: &str| json!({"name": "n", "arguments": arguments});
        let wanted = json!([
            {"role": "user", "content": [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                {"type": "text", "text": "b"},
            ]},
            {"role": "assistant", "content": "c\n\nd", "tool_calls": [
                {"id": "1", "type": "function", "function": function(r#"{"b":1,"a":"ü"}"#)},
                {"id": "2", "type": "function", "function": function("{}")},
            ]},
            {"role": "tool", "tool_call_id": "1", "content": "f\n[a picture (image/png) that cannot be shown here]"},
            {"role": "tool", "tool_call_id": "2", "content": "[the tool failed and said nothing]"},
            {"role": "user", "content": "e\n\ng"},
        ]);
        assert_eq!(body["messages"], wanted);
    }

    #[test]
    fn what_is_left_is_said_by_turns() {
        let kept = Block::Kept { provider: "local".into(), raw: "{}".into(), shown: "x".into() };
        let body = json_of(&call(vec![
            (Role::User, vec![Block::text("a")]),
            (Role::Assistant, vec![kept, Block::text("")]),
            (Role::User, vec![Block::text("b")]),
        ]));
        assert_eq!(body["messages"], json!([{"role": "user", "content": "a\n\nb"}]));
    }

    #[test]
    fn what_would_be_refused_is_not_sent() {
        let refused = |call: &ModelCall| body(call, LengthField::MaxTokens, None).is_err();
        let mut none = call(vec![(Role::User, vec![Block::text("a")])]);
        assert!(!refused(&none));
        none.max_tokens = 0;
        assert!(refused(&none));
        assert!(refused(&call(vec![(Role::User, vec![Block::text("a")]), (Role::Assistant, vec![Block::text("b")])])));
        assert!(refused(&call(vec![(Role::User, vec![Block::text("")])])));
        assert!(refused(&call(vec![])));
    }
}
