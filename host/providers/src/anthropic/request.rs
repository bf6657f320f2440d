//! A call in Anthropic's words.
//!
//! The same conversation always becomes the same bytes, so that what grows at its end is found in the provider's cache.

use leanclaw_types::Failure;
use leanclaw_types::model::{Block, ModelCall, ModelMessage, Role};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::ID;
use super::models::{Shape, thinking_parts};
use crate::body::{check_end, check_length, written};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    /// At the top it marks the last block that can be cached, whichever that is.
    cache_control: Value,
    #[serde(skip_serializing_if = "str::is_empty")]
    system: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    messages: Vec<Message<'a>>,
}

#[derive(Serialize)]
struct Tool<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: &'a Value,
}

#[derive(Serialize)]
struct Message<'a> {
    role: Role,
    content: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Plain(Plain<'a>),
    /// A block that goes back as it came.
    Kept(&'a RawValue),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Plain<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: Source<'a>,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Input<'a>,
    },
    ToolResult {
        tool_use_id: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Part<'a>>,
        is_error: bool,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Input<'a> {
    Given(&'a Value),
    Empty {},
}

#[derive(Serialize)]
struct Source<'a> {
    r#type: &'static str,
    media_type: &'a str,
    data: &'a str,
}

/// The body that asks for an answer as a stream.
pub(super) fn message_body(call: &ModelCall, shape: Option<Shape>) -> Result<Vec<u8>, Failure> {
    check_length(call)?;
    body(call, shape, Some(call.max_tokens))
}

/// The body that asks how many tokens the call would read.
pub(super) fn count_body(call: &ModelCall, shape: Option<Shape>) -> Result<Vec<u8>, Failure> {
    body(call, shape, None)
}

fn body(call: &ModelCall, shape: Option<Shape>, max_tokens: Option<u32>) -> Result<Vec<u8>, Failure> {
    let (thinking, output_config) = thinking_parts(call.thinking, shape, call.max_tokens);
    let messages = call.messages.iter().map(message).collect::<Result<Vec<_>, _>>()?;
    // What is left of a message whose blocks another provider kept may be nothing, which would be refused.
    let messages: Vec<Message<'_>> = messages.into_iter().filter(|message| !message.content.is_empty()).collect();
    check_end(messages.last().is_some_and(|last| last.role == Role::User))?;
    let body = Body {
        model: &call.model,
        max_tokens,
        stream: max_tokens.map(|_| true),
        cache_control: json!({"type": "ephemeral"}),
        system: &call.system,
        thinking,
        output_config,
        tools: call.tools.iter().map(tool).collect(),
        messages,
    };
    written(&body)
}

fn tool(tool: &leanclaw_types::model::ToolDefinition) -> Tool<'_> {
    Tool { name: &tool.name, description: &tool.description, input_schema: &tool.input_schema }
}

fn message(message: &ModelMessage) -> Result<Message<'_>, Failure> {
    let mut content = parts(&message.content)?;
    // Results have to come first; among themselves they keep their order, and so does the rest.
    content.sort_by_key(|part| !matches!(part, Part::Plain(Plain::ToolResult { .. })));
    Ok(Message { role: message.role, content })
}

fn parts(blocks: &[Block]) -> Result<Vec<Part<'_>>, Failure> {
    blocks.iter().filter_map(|block| part(block).transpose()).collect()
}

/// A block; none where the provider would refuse it (empty words) or not understand it (kept by another).
fn part(block: &Block) -> Result<Option<Part<'_>>, Failure> {
    let plain = match block {
        Block::Text { text } if text.is_empty() => return Ok(None),
        Block::Text { text } => Plain::Text { text },
        Block::Image { media_type, data } => Plain::Image { source: Source { r#type: "base64", media_type, data } },
        Block::ToolUse { id, name, input } => Plain::ToolUse { id, name, input: Input::Given(input) },
        Block::InvalidToolUse { id, name, .. } => Plain::ToolUse { id, name, input: Input::Empty {} },
        Block::ToolResult { tool_use_id, content, is_error } => {
            Plain::ToolResult { tool_use_id, content: parts(content)?, is_error: *is_error }
        }
        Block::Kept { provider, .. } if provider != ID => return Ok(None),
        Block::Kept { raw, .. } => {
            let raw = serde_json::from_str(raw)
                .map_err(|error| Failure::invalid(format!("A block kept for {ID} is no JSON any more: {error}.")))?;
            return Ok(Some(Part::Kept(raw)));
        }
    };
    Ok(Some(Part::Plain(plain)))
}

#[cfg(test)]
mod tests {
    use leanclaw_types::model::{Thinking, ToolDefinition};

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

    fn text_of(call: &ModelCall) -> String {
        String::from_utf8(message_body(call, None).unwrap()).unwrap()
    }

    #[test]
    fn a_call_is_written_field_by_field() {
        let mut call = call(vec![(Role::User, vec![Block::text("a")])]);
        let minimal = r#"{"model":"m","max_tokens":10,"stream":true,"cache_control":{"type":"ephemeral"},"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}"#;
        assert_eq!(text_of(&call), minimal);
        call.system = "s".into();
        call.thinking = Some(Thinking::Off);
        let schema = json!({"type": "object"});
        call.tools = vec![ToolDefinition { name: "n".into(), description: "d".into(), input_schema: schema.clone() }];
        let body: Value = serde_json::from_str(&text_of(&call)).unwrap();
        assert_eq!(body["system"], "s");
        assert_eq!(body["thinking"], json!({"type": "disabled"}));
        assert_eq!(body["tools"], json!([{"name": "n", "description": "d", "input_schema": schema}]));
        let count: Value = serde_json::from_slice(&count_body(&call, None).unwrap()).unwrap();
        assert!(count.get("max_tokens").is_none() && count.get("stream").is_none(), "{count}");
    }

    #[test]
    fn every_kind_of_block_finds_its_shape() {
        let raw = r#"{ "type":"thinking" , "thinking":"\u00fc","signature":"x" }"#;
        let kept = |provider: &str| Block::Kept { provider: provider.into(), raw: raw.into(), shown: "ü".into() };
        let use_of = |id: &str| Block::ToolUse { id: id.into(), name: "n".into(), input: json!({"b": 1, "a": 2}) };
        let invalid = Block::InvalidToolUse { id: "2".into(), name: "n".into(), text: "{".into(), problem: "p".into() };
        let result =
            |id: &str, content: Vec<Block>| Block::ToolResult { tool_use_id: id.into(), content, is_error: id == "2" };
        let image = Block::Image { media_type: "image/png".into(), data: "AA==".into() };
        let call = call(vec![
            (Role::User, vec![Block::text("a"), image.clone()]),
            (Role::Assistant, vec![kept("other")]),
            (Role::Assistant, vec![kept(ID), Block::text(""), use_of("1"), invalid]),
            (Role::User, vec![Block::text("b"), result("1", vec![image]), result("2", vec![])]),
        ]);
        let text = text_of(&call);
        assert!(text.contains(&format!("[{raw},{{")), "{text}");
        assert!(text.contains(r#""input":{"b":1,"a":2}"#), "{text}");
        let body: Value = serde_json::from_str(&text).unwrap();
        let source = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}});
        assert_eq!(body["messages"][0]["content"][1], source);
        assert_eq!(body["messages"][1]["content"][2], json!({"type": "tool_use", "id": "2", "name": "n", "input": {}}));
        let results = json!([
            {"type": "tool_result", "tool_use_id": "1", "content": [source], "is_error": false},
            {"type": "tool_result", "tool_use_id": "2", "is_error": true},
            {"type": "text", "text": "b"},
        ]);
        assert_eq!(body["messages"][2]["content"], results);
    }

    #[test]
    fn what_would_be_refused_is_not_sent() {
        let mut none = call(vec![(Role::User, vec![Block::text("a")])]);
        none.max_tokens = 0;
        assert!(message_body(&none, None).is_err());
        let prefilled = call(vec![(Role::User, vec![Block::text("a")]), (Role::Assistant, vec![Block::text("b")])]);
        assert!(message_body(&prefilled, None).is_err());
        assert!(message_body(&call(vec![(Role::User, vec![Block::text("")])]), None).is_err());
        let broken = Block::Kept { provider: ID.into(), raw: "{".into(), shown: String::new() };
        assert!(message_body(&call(vec![(Role::User, vec![broken])]), None).is_err());
    }
}
