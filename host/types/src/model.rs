//! What an agent asks of a model and what comes back, in no provider's words.
//!
//! An agent never reaches a provider itself: it hands a [`ModelCall`] to the host, which adds the credential, reserves the
//! budget and hands back [`ModelEvent`]s. What only one provider understands (thinking with its signature, the blocks of
//! its own tools) is carried as [`Block::Kept`], unchanged, because the provider checks that it comes back so.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One call of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelCall {
    /// The model, as its provider names it.
    pub model: String,
    /// What the agent is told about itself; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// The conversation so far, oldest first. It begins with the user and ends with the user or a tool's result.
    pub messages: Vec<ModelMessage>,
    /// What the model may ask to be run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolDefinition>,
    /// The most tokens of the answer, thinking included; at least 1.
    pub max_tokens: u32,
    /// How much the model may think; none leaves it to the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
}

/// How much a model thinks before it answers. Each provider has its own scale; the nearest step counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thinking {
    /// Not at all, where it can be switched off.
    Off,
    /// As little as there is.
    Minimal,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// More than that, where there is more.
    Xhigh,
    /// As the model itself sees fit.
    Adaptive,
}

/// Whose words a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A person's, and what tools returned.
    User,
    /// The model's.
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelMessage {
    /// Whose words.
    pub role: Role,
    /// What it consists of, in order.
    pub content: Vec<Block>,
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Block {
    /// Words.
    Text {
        /// The words.
        text: String,
    },
    /// A picture.
    Image {
        /// Such as `image/png`.
        media_type: String,
        /// The bytes in Base64.
        data: String,
    },
    /// The model asks for a tool.
    ToolUse {
        /// Names this use, and ties the result to it.
        id: String,
        /// The tool.
        name: String,
        /// Its input; an object.
        input: Value,
    },
    /// The model asks for a tool with an input that is no JSON object. It cannot run. Who runs tools answers it with a
    /// [`Block::ToolResult`] that is an error and says what is wrong, so that the model can ask again; to the provider it
    /// goes back as a use with an empty input.
    InvalidToolUse {
        /// Names this use, and ties the result to it.
        id: String,
        /// The tool.
        name: String,
        /// What came in place of the input.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What a tool returned.
    ToolResult {
        /// The use it answers.
        tool_use_id: String,
        /// Text and pictures.
        content: Vec<Block>,
        /// Whether the tool failed.
        #[serde(default)]
        is_error: bool,
    },
    /// What only its provider understands, to be given back to it as it was.
    Kept {
        /// The provider.
        provider: String,
        /// The block as the provider gave it, byte for byte.
        raw: String,
        /// What of it a person may read, such as the thinking.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        shown: String,
    },
}

impl Block {
    /// A block of words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// Names the use of a tool, valid or not, that has to have a [`Block::ToolResult`]; none for what is no use.
    #[must_use]
    pub fn use_id(&self) -> Option<&str> {
        match self {
            Self::ToolUse { id, .. } | Self::InvalidToolUse { id, .. } => Some(id),
            Self::Text { .. } | Self::Image { .. } | Self::ToolResult { .. } | Self::Kept { .. } => None,
        }
    }
}

/// A tool as a model is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolDefinition {
    /// 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// What it does and when to use it.
    pub description: String,
    /// A JSON Schema of type object.
    pub input_schema: Value,
}

/// What a model's answer consists of, in the order in which it arrives. Nothing but [`ModelEvent::Finished`] ends an answer:
/// one that ends without it was cut off, and its tools must not run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ModelEvent {
    /// The provider has begun to answer.
    Started {
        /// The model that answers, which may be another than was asked for.
        model: String,
    },
    /// More words.
    Text {
        /// The words that came.
        delta: String,
    },
    /// More thinking that a person may read.
    Thinking {
        /// The words that came.
        delta: String,
    },
    /// A block is whole. Blocks come in the order in which they belong into the message.
    Block {
        /// The block.
        block: Block,
    },
    /// The answer is whole.
    Finished {
        /// Why it ended.
        reason: StopReason,
        /// What it used.
        usage: TokenUsage,
    },
}

/// Why an answer ended. A reason that is not known here reads as [`StopReason::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopReason {
    /// The model said all it had to say.
    EndTurn,
    /// It asks for tools.
    ToolUse,
    /// It ran into [`ModelCall::max_tokens`]. A tool use at its end is incomplete.
    MaxTokens,
    /// The conversation is too long for the model.
    ContextFull,
    /// It was stopped for what it was about to say.
    Refused,
    /// A tool of the provider's own pauses it: the same conversation with this answer goes on.
    Paused,
    /// Another reason.
    #[serde(other)]
    Other,
}

/// Tokens that an answer used, as the provider counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TokenUsage {
    /// Read at full price: neither from a cache nor into one.
    pub input: u64,
    /// Written, thinking included.
    pub output: u64,
    /// Read from the provider's cache.
    pub cache_read: u64,
    /// Read, and put into the provider's cache.
    pub cache_write: u64,
}

impl TokenUsage {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output).saturating_add(self.cache_read).saturating_add(self.cache_write)
    }

    /// Adds what another answer used.
    pub fn add(&mut self, other: &Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Transcripts keep these shapes, so they may grow and never change.
    #[test]
    fn shapes_on_the_wire() {
        let blocks = json!([
            {"type": "text", "text": "hi"},
            {"type": "image", "mediaType": "image/png", "data": "AA=="},
            {"type": "toolUse", "id": "1", "name": "read", "input": {"path": "a"}},
            {"type": "invalidToolUse", "id": "1", "name": "read", "text": "{", "problem": "it ends too early"},
            {"type": "toolResult", "toolUseId": "1", "content": [{"type": "text", "text": "b"}], "isError": false},
            {"type": "kept", "provider": "anthropic", "raw": "{ \"type\":\"thinking\" }", "shown": "hm"},
        ]);
        let read: Vec<Block> = serde_json::from_value(blocks.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), blocks);
        let events = json!([
            {"type": "started", "model": "m"},
            {"type": "text", "delta": "h"},
            {"type": "thinking", "delta": "h"},
            {"type": "block", "block": {"type": "text", "text": "h"}},
            {"type": "finished", "reason": "toolUse", "usage": {"input": 1, "output": 2, "cacheRead": 3, "cacheWrite": 4}},
        ]);
        let read: Vec<ModelEvent> = serde_json::from_value(events.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), events);
    }

    #[test]
    fn a_reason_that_is_not_known_does_not_end_the_reading() {
        assert_eq!(serde_json::from_value::<StopReason>(json!("somethingNew")).unwrap(), StopReason::Other);
    }

    #[test]
    fn usage_adds_up_and_never_overflows() {
        let mut sum = TokenUsage { input: u64::MAX, output: 1, cache_read: 2, cache_write: 3 };
        sum.add(&TokenUsage { input: 1, output: 1, cache_read: 1, cache_write: 1 });
        assert_eq!(sum, TokenUsage { input: u64::MAX, output: 2, cache_read: 3, cache_write: 4 });
        assert_eq!(sum.total(), u64::MAX);
    }
}
