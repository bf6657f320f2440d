//! Between a model's messages and a transcript's.
//!
//! A transcript is what people read, in the words of the gateway protocol, and all that is kept: what a model is told of a
//! conversation is made from it again. What only a provider understands goes along under a key of our own ([`KEPT`]), which
//! no client is shown.

use std::collections::HashMap;

use leanclaw_types::model::{Block, ModelMessage, Role, TokenUsage};
use leanclaw_types::run::RunRequest;
use leanclaw_types::session::{NewMessage, TranscriptMessage};
use serde_json::{Map, Value, json};

/// Holds the blocks of a message that its `content` does not hold word for word.
const KEPT: &str = "__leanclaw";
/// Holds what the protocol says about a message beside it.
const ABOUT: &str = "__openclaw";

/// The message that a run answers.
pub(super) fn prompt(request: &RunRequest, at_ms: u64) -> NewMessage {
    let mut content: Vec<Value> = Vec::new();
    if !request.message.is_empty() {
        content.push(json!({"type": "text", "text": request.message}));
    }
    let pictures = request.images.iter();
    content.extend(pictures.map(|image| json!({"type": "image", "data": image.data, "mimeType": image.media_type})));
    let body = json!({
        "content": content, "idempotencyKey": request.run_id, (ABOUT): {"runId": request.run_id},
    });
    NewMessage { role: "user".to_owned(), body: object(body), at_ms }
}

/// The same for the agent.
pub(super) fn prompt_blocks(request: &RunRequest) -> Vec<Block> {
    let words = (!request.message.is_empty()).then(|| Block::text(request.message.clone()));
    let pictures = request.images.iter();
    let pictures =
        pictures.map(|image| Block::Image { media_type: image.media_type.clone(), data: image.data.clone() });
    words.into_iter().chain(pictures).collect()
}

/// What is known of an answer beside its words.
#[derive(Debug, Clone, Default)]
pub(super) struct Answered {
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) usage: TokenUsage,
}

/// An answer of the model, as it is stored. `stop` is what the protocol calls the reason why it ended.
pub(super) fn answer(run_id: &str, blocks: Vec<Block>, answered: &Answered, stop: &str, at_ms: u64) -> NewMessage {
    let content: Vec<Value> = blocks.iter().filter_map(answer_part).collect();
    let usage = &answered.usage;
    let mut body = object(json!({
        "content": content, "provider": answered.provider, "model": answered.model, "stopReason": stop,
        "usage": {
            "input": usage.input, "output": usage.output, "cacheRead": usage.cache_read, "cacheWrite": usage.cache_write,
            "totalTokens": usage.total(),
        },
        (ABOUT): {"runId": run_id},
    }));
    if blocks.iter().any(|block| matches!(block, Block::Kept { .. } | Block::InvalidToolUse { .. })) {
        body.insert(KEPT.to_owned(), json!({"blocks": blocks}));
    }
    NewMessage { role: "assistant".to_owned(), body, at_ms }
}

/// Notes that a run ended before its time, for people; no model is told.
pub(super) fn broken_off(run_id: &str, why: &str, at_ms: u64) -> NewMessage {
    let body = json!({"content": [], "stopReason": "error", "errorMessage": why, (ABOUT): {"runId": run_id}});
    NewMessage { role: "assistant".to_owned(), body: object(body), at_ms }
}

fn answer_part(block: &Block) -> Option<Value> {
    Some(match block {
        Block::Text { text } => json!({"type": "text", "text": text}),
        Block::Image { media_type, data } => json!({"type": "image", "data": data, "mimeType": media_type}),
        Block::ToolUse { id, name, input } => json!({"type": "toolCall", "id": id, "name": name, "arguments": input}),
        Block::InvalidToolUse { id, name, .. } => json!({"type": "toolCall", "id": id, "name": name, "arguments": {}}),
        Block::Kept { shown, .. } if !shown.is_empty() => json!({"type": "thinking", "thinking": shown}),
        Block::Kept { .. } | Block::ToolResult { .. } => return None,
    })
}

/// What tools gave back, each as a message of its own. `names` knows the tools by the uses they answer.
pub(super) fn results(run_id: &str, blocks: &[Block], names: &HashMap<String, String>, at_ms: u64) -> Vec<NewMessage> {
    let result = |block: &Block| {
        let Block::ToolResult { tool_use_id, content, is_error } = block else { return None };
        let content: Vec<Value> = content.iter().filter_map(answer_part).collect();
        let body = json!({
            "toolCallId": tool_use_id, "toolName": names.get(tool_use_id).map_or("tool", String::as_str),
            "content": content, "isError": is_error, (ABOUT): {"runId": run_id},
        });
        Some(NewMessage { role: "toolResult".to_owned(), body: object(body), at_ms })
    };
    blocks.iter().filter_map(result).collect()
}

/// The run that a message belongs to; none for one that no run brought about.
pub(super) fn run_of(message: &TranscriptMessage) -> Option<&str> {
    message.body.get(ABOUT)?.get("runId")?.as_str()
}

/// What a model is told was said.
///
/// Messages of one run belong together although somebody may have written in between: a model takes a result only right after
/// the use that it answers. What no person began is left out, as a conversation begins with a person.
pub(super) fn history(messages: &[TranscriptMessage]) -> Vec<ModelMessage> {
    let mut groups: Vec<(Option<&str>, Vec<&TranscriptMessage>)> = Vec::new();
    for message in messages {
        let run = run_of(message);
        let known = groups.iter_mut().find(|(other, _)| run.is_some() && *other == run);
        match known {
            Some((_, group)) => group.push(message),
            None => groups.push((run, vec![message])),
        }
    }
    let mut told: Vec<ModelMessage> = Vec::new();
    for message in groups.into_iter().flat_map(|(_, group)| group) {
        let Some((role, blocks)) = told_blocks(message) else { continue };
        match told.last_mut() {
            // The results of several tools are one message, and so are words that follow on words.
            Some(last) if last.role == role => last.content.extend(blocks),
            _ => told.push(ModelMessage { role, content: blocks }),
        }
    }
    let begins = told.iter().position(is_a_persons).unwrap_or(told.len());
    answered(told.split_off(begins))
}

/// The same conversation with one result for each use, and none for what is no use: a run may have been cut off in between, and
/// the beginning of a long conversation is left out. What the last message lacks, the agent adds itself.
fn answered(mut told: Vec<ModelMessage>) -> Vec<ModelMessage> {
    let mut uses: Vec<String> = Vec::new();
    for message in &mut told {
        if message.role == Role::Assistant {
            uses = message.content.iter().filter_map(|block| block.use_id().map(str::to_owned)).collect();
            continue;
        }
        message.content.retain(|block| match block {
            Block::ToolResult { tool_use_id, .. } => {
                let at = uses.iter().position(|id| id == tool_use_id);
                at.map(|at| uses.swap_remove(at)).is_some()
            }
            _ => true,
        });
        let interrupted = uses.drain(..).map(|tool_use_id| Block::ToolResult {
            tool_use_id,
            content: vec![Block::text("Interrupted: it may have done all, a part or none of its work.")],
            is_error: true,
        });
        let missing: Vec<Block> = interrupted.collect();
        message.content.splice(0..0, missing);
    }
    told.retain(|message| !message.content.is_empty());
    told
}

fn is_a_persons(message: &ModelMessage) -> bool {
    let is_result = |block: &Block| matches!(block, Block::ToolResult { .. });
    message.role == Role::User && !message.content.iter().any(is_result)
}

/// Whose words a message is to a model, and which; none when they are none of its business.
fn told_blocks(message: &TranscriptMessage) -> Option<(Role, Vec<Block>)> {
    let body = &message.body;
    let (role, blocks) = match message.role.as_str() {
        "user" => (Role::User, blocks_of(body.get("content"))),
        "assistant" => {
            let kept = body.get(KEPT).and_then(|kept| kept.get("blocks"));
            let kept = kept.and_then(|blocks| serde_json::from_value(blocks.clone()).ok());
            (Role::Assistant, kept.unwrap_or_else(|| blocks_of(body.get("content"))))
        }
        "toolResult" => {
            let result = Block::ToolResult {
                tool_use_id: body.get("toolCallId")?.as_str()?.to_owned(),
                content: blocks_of(body.get("content")),
                is_error: body.get("isError").and_then(Value::as_bool).unwrap_or(false),
            };
            (Role::User, vec![result])
        }
        _ => return None,
    };
    (!blocks.is_empty()).then_some((role, blocks))
}

fn blocks_of(content: Option<&Value>) -> Vec<Block> {
    match content {
        Some(Value::String(text)) if !text.is_empty() => vec![Block::text(text.clone())],
        Some(Value::Array(parts)) => parts.iter().filter_map(block).collect(),
        _ => Vec::new(),
    }
}

fn block(part: &Value) -> Option<Block> {
    let text = |name: &str| part.get(name)?.as_str().map(str::to_owned);
    match part.get("type")?.as_str()? {
        "text" => text("text").filter(|text| !text.is_empty()).map(Block::text),
        "image" => Some(Block::Image { media_type: text("mimeType")?, data: text("data")? }),
        "toolCall" => {
            let input = part.get("arguments").filter(|input| input.is_object()).cloned().unwrap_or_else(|| json!({}));
            Some(Block::ToolUse { id: text("id")?, name: text("name")?, input })
        }
        _ => None,
    }
}

/// The words of a message.
pub(super) fn text_of(blocks: &[Block]) -> String {
    let texts = blocks.iter().filter_map(|block| match block {
        Block::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use leanclaw_types::run::{RunImage, RunOwner};

    use super::*;

    fn request(run_id: &str, message: &str) -> RunRequest {
        RunRequest {
            run_id: run_id.into(),
            session_key: "agent:main:main".into(),
            message: message.into(),
            images: Vec::new(),
            thinking: None,
            timeout_ms: None,
            system: String::new(),
            owner: RunOwner::default(),
        }
    }

    /// Messages as a transcript has them, in their order.
    fn transcript(messages: impl IntoIterator<Item = NewMessage>) -> Vec<TranscriptMessage> {
        let stored = |(at, message): (usize, NewMessage)| {
            let NewMessage { role, body, at_ms } = message;
            TranscriptMessage { id: at as i64 + 1, seq: at as u64 + 1, role, body, at_ms }
        };
        messages.into_iter().enumerate().map(stored).collect()
    }

    fn uses(id: &str) -> Vec<Block> {
        vec![
            Block::Kept { provider: "anthropic".into(), raw: "{\"type\":\"thinking\"}".into(), shown: "hm".into() },
            Block::text("I look."),
            Block::ToolUse { id: id.into(), name: "read".into(), input: json!({"path": "a"}) },
        ]
    }

    fn result(id: &str) -> Block {
        Block::ToolResult { tool_use_id: id.into(), content: vec![Block::text("found")], is_error: false }
    }

    #[test]
    fn a_conversation_comes_back_as_the_model_said_it() {
        let mut first = request("r1", "look");
        first.images = vec![RunImage { media_type: "image/png".into(), data: "AA==".into() }];
        let answered = Answered::default();
        let names = HashMap::from([("1".to_owned(), "read".to_owned())]);
        let mut messages = vec![prompt(&first, 1), answer("r1", uses("1"), &answered, "toolUse", 2)];
        messages.extend(results("r1", &[result("1")], &names, 3));
        messages.push(answer("r1", vec![Block::text("done")], &answered, "stop", 4));
        messages.push(prompt(&request("r2", "and now?"), 5));
        let messages = transcript(messages);
        assert_eq!(messages[2].body["toolName"], "read");
        assert_eq!(messages[1].body["content"][0], json!({"type": "thinking", "thinking": "hm"}));
        let told = history(&messages[..4]);
        let expected = [
            (Role::User, prompt_blocks(&first)),
            (Role::Assistant, uses("1")),
            (Role::User, vec![result("1")]),
            (Role::Assistant, vec![Block::text("done")]),
        ];
        assert_eq!(told, expected.map(|(role, content)| ModelMessage { role, content }));
    }

    #[test]
    fn what_was_written_meanwhile_comes_after_the_answer_that_was_under_way() {
        let answered = Answered::default();
        let messages = vec![
            prompt(&request("r1", "one"), 1),
            answer("r1", uses("1"), &answered, "toolUse", 2),
            prompt(&request("r2", "two"), 3),
            results("r1", &[result("1")], &HashMap::new(), 4).remove(0),
            answer("r1", vec![Block::text("first")], &answered, "stop", 6),
        ];
        let told = history(&transcript(messages));
        let roles: Vec<Role> = told.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::User, Role::Assistant, Role::User]);
        assert_eq!(told[2].content, [result("1")]);
        assert_eq!(told.last().unwrap().content, [Block::text("two")]);
    }

    /// A model refuses a conversation with a use without a result, or the other way round.
    #[test]
    fn each_use_has_one_result_whatever_was_cut_off() {
        let answered = Answered::default();
        let messages = transcript(vec![
            prompt(&request("r1", "one"), 1),
            answer("r1", uses("1"), &answered, "toolUse", 2),
            prompt(&request("r2", "two"), 3),
            results("r0", &[result("0")], &HashMap::new(), 4).remove(0),
            answer("r2", vec![Block::text("fine")], &answered, "stop", 5),
        ]);
        let told = history(&messages);
        let [Block::ToolResult { tool_use_id, is_error: true, .. }, Block::Text { text }] = &told[2].content[..] else {
            panic!("{told:?}")
        };
        assert_eq!((tool_use_id.as_str(), text.as_str()), ("1", "two"));
        assert_eq!(told.len(), 4);
    }

    #[test]
    fn what_is_no_words_of_the_conversation_is_left_out() {
        let answered = Answered::default();
        let messages = transcript(vec![
            results("r0", &[result("0")], &HashMap::new(), 1).remove(0),
            answer("r0", vec![Block::text("the end of something older")], &answered, "stop", 2),
            prompt(&request("r1", "hi"), 3),
            broken_off("r1", "no model", 4),
            NewMessage { role: "custom".into(), body: Map::new(), at_ms: 5 },
        ]);
        let told = history(&messages);
        assert_eq!(told, [ModelMessage { role: Role::User, content: vec![Block::text("hi")] }]);
        assert!(history(&[]).is_empty());
    }

    #[test]
    fn a_message_of_an_older_make_is_understood() {
        let body = object(json!({"content": "hello"}));
        let messages = [TranscriptMessage { id: 1, seq: 1, role: "user".into(), body, at_ms: 1 }];
        assert_eq!(history(&messages)[0].content, [Block::text("hello")]);
    }
}
