//! Runs: what an agent does with one message, as a run is asked for, told of while it goes on, and remembered when it ended.
//!
//! A run is named by the idempotency key of whoever asked for it. Runs of one session happen one after the other, in the order
//! in which they were taken on.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Failure;
use crate::model::{Thinking, TokenUsage};
use crate::session::TranscriptMessage;

/// A message that an agent is to answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRequest {
    /// Names the run; the idempotency key of whoever asks.
    pub run_id: String,
    /// The session, by its canonical key. It has to be there.
    pub session_key: String,
    /// What is said; may be empty when there are pictures.
    pub message: String,
    /// Pictures that belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<RunImage>,
    /// How much the model may think; none leaves it to the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// How long the run may take from when its turn comes, in milliseconds; none leaves it to the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Said to the agent beside what it is always told; none when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// Who asks.
    pub owner: RunOwner,
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunImage {
    /// Such as `image/png`.
    pub media_type: String,
    /// The bytes in Base64.
    pub data: String,
}

/// Who asked for a run: who may end it, and who is told of its tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunOwner {
    /// The connection; empty when it was none.
    pub connection: String,
    /// The device that the connection proved to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The caller's id, as in [`crate::Caller::id`].
    pub caller: String,
}

/// What became of a [`RunRequest`].
#[expect(clippy::large_enum_variant, reason = "there are few at a time, and none is kept in a list")]
#[derive(Debug, Clone, PartialEq)]
pub enum RunTaken {
    /// It is stored, and its turn comes.
    New(TranscriptMessage),
    /// There is a run of that name already, for the same message.
    Known(TranscriptMessage, RunState),
}

/// Where a run stands.
#[expect(clippy::large_enum_variant, reason = "there are few at a time, and none is kept in a list")]
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// Its turn has not come.
    Waiting,
    /// It goes on.
    Running,
    /// It is over.
    Ended(RunEnd),
}

/// A run that waits or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveRun {
    /// Which one.
    pub run_id: String,
    /// Its session.
    pub session_key: String,
    /// Who asked for it.
    pub owner: RunOwner,
    /// Whether its turn has come.
    pub is_running: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunEnd {
    /// How.
    pub outcome: RunOutcome,
    /// The reply: the text of the agent's last message; what there is of it when the run was cut short.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// When its turn came, in milliseconds since the Unix epoch; none when it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When it ended, in milliseconds since the Unix epoch.
    pub ended_ms: u64,
    /// The provider that was asked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that answered last, as its provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What its model calls used.
    #[serde(default)]
    pub usage: TokenUsage,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum RunOutcome {
    /// The agent said all it had to say.
    Done,
    /// Somebody ended it, or it took too long.
    Aborted {
        /// Which.
        by: AbortReason,
    },
    /// It could not go on.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// Why a run was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AbortReason {
    /// A method that does that.
    Rpc,
    /// A message that says so.
    Stop,
    /// Its time was over.
    Timeout,
}

impl AbortReason {
    /// As the gateway protocol calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rpc => "rpc",
            Self::Stop => "stop",
            Self::Timeout => "timeout",
        }
    }
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEvent {
    /// The run.
    pub run_id: String,
    /// Its session.
    pub session_key: String,
    /// Who asked for it.
    pub owner: RunOwner,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What.
    pub step: RunStep,
}

/// What happens in a run: first [`RunStep::Said`] of the message it answers, then [`RunStep::Started`], anything but an end,
/// [`RunStep::Ended`]. One that never had its turn only ends.
#[derive(Debug, Clone, PartialEq)]
pub enum RunStep {
    /// Its turn has come.
    Started,
    /// More words of the agent's message. They belong to one message up to the next [`RunStep::Said`] of the assistant.
    Text(String),
    /// More thinking that a person may read.
    Thinking(String),
    /// A tool.
    Tool {
        /// The model's name for this use.
        call_id: String,
        /// The tool.
        name: String,
        /// What of it.
        phase: ToolPhase,
    },
    /// This is in the transcript now.
    Said(TranscriptMessage),
    /// It is over.
    Ended(RunEnd),
}

/// What happens with a tool.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolPhase {
    /// It begins, with this input.
    Started(Value),
    /// It is over.
    Ended {
        /// What it gave back, in words.
        text: String,
        /// Whether it failed.
        is_error: bool,
    },
}

/// A model that runs can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunModel {
    /// Its provider.
    pub provider: String,
    /// As its provider names it.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The most tokens of a conversation, where that is known.
    pub context_tokens: Option<u64>,
    /// Whether it sees pictures, where that is known.
    pub takes_images: Option<bool>,
    /// Whether runs use it where nothing else is said.
    pub is_default: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The store keeps these texts, so they may grow and never change.
    #[test]
    fn shapes_that_are_stored() {
        let request = json!({
            "runId": "r", "sessionKey": "agent:main:main", "message": "hi",
            "images": [{"mediaType": "image/png", "data": "AA=="}], "thinking": "low", "timeoutMs": 5, "system": "s",
            "owner": {"connection": "c", "device": "d", "caller": "client"},
        });
        let read: RunRequest = serde_json::from_value(request.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), request);
        for outcome in [
            json!({"is": "done"}),
            json!({"is": "aborted", "by": "timeout"}),
            json!({"is": "failed", "failure": serde_json::to_value(Failure::unavailable("no")).unwrap()}),
        ] {
            let usage = json!({"input": 1, "output": 2, "cacheRead": 0, "cacheWrite": 0});
            let end = json!({
                "outcome": outcome, "text": "t", "startedMs": 1, "endedMs": 2, "provider": "p", "model": "m", "usage": usage,
            });
            let read: RunEnd = serde_json::from_value(end.clone()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), end);
        }
    }
}
