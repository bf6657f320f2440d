//! What an agent shows of itself while it works: updates of the Agent Client Protocol in, steps of a run out.
//!
//! They are for show. An update that cannot be read is passed over: agents may show more than there is a use for.

use std::collections::{HashMap, HashSet};

use leanclaw_types::run::{RunStep, ToolPhase};
use serde::Deserialize;
use serde_json::Value;

/// The most that is said in one message, in bytes; what comes after it is passed over.
const MAX_TEXT_BYTES: usize = 512 * 1024;
/// Tools that are open at once, the longest id of one and the longest name, and its largest input; what is over is passed over.
const MAX_OPEN: usize = 256;
const MAX_ID_BYTES: usize = 128;
const MAX_INPUT_BYTES: usize = 64 * 1024;
/// The most of a tool's output that is shown, in bytes.
const MAX_SHOWN_BYTES: usize = 16 * 1024;

#[derive(Deserialize)]
struct Notification {
    update: Update,
}

#[derive(Deserialize)]
#[serde(tag = "sessionUpdate", rename_all = "snake_case")]
enum Update {
    AgentMessageChunk {
        content: Content,
    },
    AgentThoughtChunk {
        content: Content,
    },
    #[serde(alias = "tool_call_update")]
    ToolCall(Tool),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool {
    tool_call_id: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    raw_input: Option<Value>,
    #[serde(default)]
    content: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    text: Option<String>,
}

/// What was shown so far.
#[derive(Debug, Default)]
pub(super) struct Updates {
    /// Words of a message that is not written down yet.
    text: String,
    begun: HashSet<String>,
    inputs: HashMap<String, (String, Value)>,
}

impl Updates {
    /// What an update tells. `names` knows the tools by the model's names for their uses.
    pub(super) fn steps(&mut self, params: &str, names: &HashMap<String, String>) -> Vec<RunStep> {
        let Ok(Notification { update }) = serde_json::from_str(params) else { return Vec::new() };
        match update {
            Update::AgentMessageChunk { content: Content { text: Some(text) } } => {
                if self.text.len().saturating_add(text.len()) > MAX_TEXT_BYTES {
                    return Vec::new();
                }
                self.text.push_str(&text);
                vec![RunStep::Text(text)]
            }
            Update::AgentThoughtChunk { content: Content { text: Some(text) } } if text.len() <= MAX_TEXT_BYTES => {
                vec![RunStep::Thinking(text)]
            }
            Update::ToolCall(tool) => self.tool(tool, names),
            Update::AgentMessageChunk { .. } | Update::AgentThoughtChunk { .. } | Update::Other => Vec::new(),
        }
    }

    fn tool(&mut self, tool: Tool, names: &HashMap<String, String>) -> Vec<RunStep> {
        let Tool { tool_call_id: id, title, status, raw_input, content } = tool;
        let is_new = !self.inputs.contains_key(&id);
        if id.len() > MAX_ID_BYTES || (is_new && self.inputs.len() >= MAX_OPEN) {
            return Vec::new();
        }
        let known = self.inputs.entry(id.clone()).or_insert_with(|| {
            let title = title.unwrap_or_else(|| "tool".to_owned());
            let name: String = title.split_whitespace().next().unwrap_or("tool").chars().take(64).collect();
            (names.get(&id).cloned().unwrap_or(name), Value::Object(serde_json::Map::new()))
        });
        if let Some(input) = raw_input.filter(|input| input.to_string().len() <= MAX_INPUT_BYTES) {
            known.1 = input;
        }
        let (name, input) = known.clone();
        let mut steps = Vec::new();
        let step = |phase| RunStep::Tool { call_id: id.clone(), name: name.clone(), phase };
        let is_over = matches!(status.as_deref(), Some("completed" | "failed"));
        if (is_over || status.as_deref() == Some("in_progress")) && self.begun.insert(id.clone()) {
            steps.push(step(ToolPhase::Started(input)));
        }
        if is_over {
            let text = shown(&content.unwrap_or_default());
            steps.push(step(ToolPhase::Ended { text, is_error: status.as_deref() == Some("failed") }));
            self.inputs.remove(&id);
            self.begun.remove(&id);
        }
        steps
    }

    /// What was said is written down; what comes now is another message.
    pub(super) fn begin_message(&mut self) {
        self.text.clear();
    }

    /// What was said and not written down.
    pub(super) fn take_text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

/// The words of a tool's output.
fn shown(content: &[Value]) -> String {
    let text = |part: &Value| Some(part.get("content")?.get("text")?.as_str()?.to_owned());
    let mut all: String = content.iter().filter_map(text).collect::<Vec<_>>().join("\n");
    if all.len() > MAX_SHOWN_BYTES {
        all.truncate(all.floor_char_boundary(MAX_SHOWN_BYTES));
        all.push('…');
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn update(updates: &mut Updates, update: Value) -> Vec<RunStep> {
        let names = HashMap::from([("1".to_owned(), "read".to_owned())]);
        updates.steps(&json!({"sessionId": "s", "update": update}).to_string(), &names)
    }

    #[test]
    fn words_are_told_and_remembered_until_they_are_written_down() {
        let mut updates = Updates::default();
        let chunk = |kind: &str, text: &str| json!({"sessionUpdate": kind, "content": {"type": "text", "text": text}});
        assert_eq!(update(&mut updates, chunk("agent_message_chunk", "a")), [RunStep::Text("a".into())]);
        update(&mut updates, chunk("agent_message_chunk", "b"));
        assert_eq!(update(&mut updates, chunk("agent_thought_chunk", "c")), [RunStep::Thinking("c".into())]);
        assert_eq!(updates.take_text(), "ab");
        update(&mut updates, chunk("agent_message_chunk", "d"));
        updates.begin_message();
        assert_eq!(updates.take_text(), "");
    }

    #[test]
    fn a_tool_begins_once_and_ends_with_what_it_gave_back() {
        let mut updates = Updates::default();
        let announced = json!({
            "sessionUpdate": "tool_call", "toolCallId": "1", "title": "read a", "status": "pending", "rawInput": {"path": "a"},
        });
        assert!(update(&mut updates, announced).is_empty());
        let step = |phase| RunStep::Tool { call_id: "1".into(), name: "read".into(), phase };
        let begun = json!({"sessionUpdate": "tool_call_update", "toolCallId": "1", "status": "in_progress"});
        assert_eq!(update(&mut updates, begun), [step(ToolPhase::Started(json!({"path": "a"})))]);
        let content = json!([{"type": "content", "content": {"type": "text", "text": "found"}}, {"type": "diff"}]);
        let done = json!({
            "sessionUpdate": "tool_call_update", "toolCallId": "1", "status": "failed", "content": content,
        });
        let expected = [step(ToolPhase::Ended { text: "found".into(), is_error: true })];
        assert_eq!(update(&mut updates, done), expected);
    }

    #[test]
    fn nothing_that_an_agent_shows_is_kept_without_end() {
        let mut updates = Updates::default();
        let piece = "x".repeat(300_000);
        let chunk = json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": piece}});
        let told: usize = (0..10).map(|_| update(&mut updates, chunk.clone()).len()).sum();
        assert_eq!((told, updates.take_text().len()), (1, 300_000));
        let tool = |id: &str| json!({"sessionUpdate": "tool_call", "toolCallId": id, "status": "in_progress"});
        let begun: usize = (0..1000).map(|id| update(&mut updates, tool(&id.to_string())).len()).sum();
        assert_eq!((begun, updates.inputs.len(), updates.begun.len()), (256, 256, 256));
        assert!(update(&mut updates, tool(&"x".repeat(129))).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        let mut updates = Updates::default();
        let names = HashMap::new();
        for params in ["", "{}", "{\"update\":{\"sessionUpdate\":\"plan\",\"entries\":[]}}", "{\"update\":1}"] {
            assert!(updates.steps(params, &names).is_empty(), "{params}");
        }
    }
}
