//! What the host and the built-in agent say to each other beyond the Agent Client Protocol.
//!
//! The wire is the Agent Client Protocol: JSON-RPC, one message per line, over the agent's standard input and output. An
//! agent of another make speaks that and no more. The built-in agent has no key, no network and no clock of its own, so it
//! asks the host for what it lacks, with these methods; their names begin with `_`, as that protocol demands of extensions.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Block, ModelCall, ModelEvent, ModelMessage, Thinking, TokenUsage, ToolDefinition};

/// Agent to host, a request with [`ModelStream`]: call a model. While it answers, the host sends [`MODEL_EVENT`]s; the
/// response, `{}`, comes after the last of them. An error's `data` is a [`crate::Failure`].
pub const MODEL_STREAM: &str = "_leanclaw/model/stream";
/// Host to agent, a notification with [`ModelStreamed`].
pub const MODEL_EVENT: &str = "_leanclaw/model/event";
/// Agent to host, a notification with [`ModelCancel`]: nobody waits for the answer any more.
pub const MODEL_CANCEL: &str = "_leanclaw/model/cancel";
/// Agent to host, a request with [`HostToolCall`]: run one of the host's tools. The response is a [`HostToolResult`].
pub const TOOL_CALL: &str = "_leanclaw/tool/call";
/// Agent to host, a request with [`Recorded`]: messages that belong into the transcript, what the prompt said included: what
/// the agent records is the whole conversation, and what [`SessionSetup::history`] wants back. The agent acts on what it says
/// only after the response, `{}`, says that it is stored.
pub const TRANSCRIPT_APPEND: &str = "_leanclaw/transcript/append";
/// Host to agent, a notification with [`FollowUp`]: somebody wrote while the turn was running. [`TurnReport::follow_ups`] says
/// how many of them the turn took in.
pub const TURN_MESSAGE: &str = "_leanclaw/turn/message";

/// The key in `_meta` of `session/new` under which the built-in agent finds its [`SessionSetup`], and in `_meta` of the response
/// to `session/prompt` under which it puts its [`TurnReport`].
pub const SETUP: &str = "leanclaw";

/// What the built-in agent is told of a session when it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionSetup {
    /// The model, as its provider names it.
    pub model: String,
    /// How much it may think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// The most tokens of one answer.
    pub max_tokens: u32,
    /// What the host has to say about the agent, its group and its memory.
    #[serde(default)]
    pub system: String,
    /// What was said before.
    #[serde(default)]
    pub history: Vec<ModelMessage>,
    /// What the host can do for it.
    #[serde(default)]
    pub tools: Vec<ToolDefinition>,
    /// The most model calls of one turn; at least 1.
    pub max_rounds: u32,
    /// The tools that run only after `session/request_permission` allowed that very use. What "always" means is the host's to
    /// remember: it is asked each time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ask_before: Vec<String>,
    /// Today's date as the agent shall read it, with the weekday and the time zone where they matter; it has no clock.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub date: String,
}

/// How a turn went, beside why it ended. A turn that ended with an error has it in `extra` of the [`crate::Failure`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TurnReport {
    /// How many model calls it made.
    pub rounds: u32,
    /// What the answers used together.
    pub usage: TokenUsage,
    /// How many [`FollowUp`]s are in the transcript now, counted from the first of this turn. Those that came after them are
    /// not, and the agent forgets them: the host sends them again as a prompt.
    pub follow_ups: u32,
    /// Whether the conversation is too long for the model.
    pub context_full: bool,
}

/// A model call under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelStream {
    /// The session.
    pub session_id: String,
    /// The agent's name for this call.
    pub call_id: String,
    /// The call.
    pub call: ModelCall,
}

/// An event of a model call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelStreamed {
    /// The call.
    pub call_id: String,
    /// What came.
    pub event: ModelEvent,
}

/// A model call that nobody waits for any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelCancel {
    /// The call.
    pub call_id: String,
}

/// A call of one of the host's tools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostToolCall {
    /// The session.
    pub session_id: String,
    /// The model's name for this use.
    pub tool_call_id: String,
    /// The tool.
    pub name: String,
    /// Its input; an object.
    pub input: Value,
}

/// What a host's tool returned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostToolResult {
    /// Text and pictures.
    pub content: Vec<Block>,
    /// Whether it failed.
    #[serde(default)]
    pub is_error: bool,
}

/// Messages for the transcript.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// The session.
    pub session_id: String,
    /// The messages, oldest first.
    pub messages: Vec<ModelMessage>,
}

/// What somebody wrote while the turn was running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FollowUp {
    /// The session.
    pub session_id: String,
    /// The text, as the prompt would have had it.
    pub text: String,
}
