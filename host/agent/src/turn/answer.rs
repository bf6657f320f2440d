//! One model call: its events are shown as they come and put together to an answer.

use leanclaw_types::agent::{MODEL_CANCEL, MODEL_STREAM, ModelCancel, ModelStream};
use leanclaw_types::failure::Failure;
use leanclaw_types::model::{Block, ModelCall, ModelEvent, StopReason, TokenUsage};
use serde_json::Value;

use super::{Turn, failure_of};
use crate::link::Wait;
use crate::peer::{Gone, Peer, Ticket};
use crate::update::Updates;

/// A whole answer.
pub(super) struct Answer {
    pub(super) blocks: Vec<Block>,
    pub(super) reason: StopReason,
    pub(super) usage: TokenUsage,
}

/// What became of a model call. The words that were shown of an answer that is not whole are kept.
pub(super) enum Asked {
    Whole(Answer),
    Cancelled { partial: String },
    Failed { failure: Failure, partial: String },
}

impl Turn<'_, '_> {
    /// Calls the model with the conversation as it stands.
    pub(super) fn ask_model(&mut self) -> Result<Asked, Gone> {
        let session = &mut *self.session;
        session.calls = session.calls.saturating_add(1);
        let call_id = format!("{}-call-{}", session.id, session.calls);
        self.peer.listen(Some(call_id.clone()));
        // Lent to the call, because a conversation may be megabytes long.
        let stream = ModelStream {
            session_id: session.id.clone(),
            call_id: call_id.clone(),
            call: ModelCall {
                model: session.setup.model.clone(),
                system: std::mem::take(&mut session.system),
                messages: std::mem::take(&mut session.history),
                tools: std::mem::take(&mut session.tools),
                max_tokens: session.setup.max_tokens,
                thinking: session.setup.thinking,
            },
        };
        let ticket = self.peer.ask(MODEL_STREAM, &stream);
        let ModelCall { system, messages, tools, .. } = stream.call;
        session.system = system;
        session.history = messages;
        session.tools = tools;

        let updates = Updates { session: &session.id, workspace: &session.workspace };
        let asked = Collected::default().listen(self.peer, &updates, ticket)?;
        self.peer.listen(None);
        if matches!(asked, Asked::Cancelled { .. }) {
            self.peer.forget(ticket);
            self.peer.notify(MODEL_CANCEL, &ModelCancel { call_id });
        }
        Ok(asked)
    }
}

/// What has come of an answer.
#[derive(Default)]
struct Collected {
    blocks: Vec<Block>,
    /// Words that came since the last whole block.
    words: String,
    finished: Option<(StopReason, TokenUsage)>,
}

impl Collected {
    fn listen(mut self, peer: &mut Peer<'_>, updates: &Updates<'_>, ticket: Ticket) -> Result<Asked, Gone> {
        loop {
            while let Some(event) = peer.next_event() {
                self.take(peer, updates, event);
            }
            if peer.is_cancelled() {
                return Ok(Asked::Cancelled { partial: self.partial() });
            }
            if let Some(answer) = peer.answer::<Value>(ticket) {
                return Ok(self.end(answer));
            }
            peer.take(Wait::Forever)?;
        }
    }

    fn take(&mut self, peer: &mut Peer<'_>, updates: &Updates<'_>, event: ModelEvent) {
        if self.finished.is_some() {
            return;
        }
        match event {
            ModelEvent::Started { .. } => {}
            ModelEvent::Text { delta } => {
                updates.text(peer, &delta);
                self.words.push_str(&delta);
            }
            ModelEvent::Thinking { delta } => updates.thought(peer, &delta),
            ModelEvent::Block { block } => {
                if let Block::Text { text } = &block {
                    if self.words.is_empty() {
                        // A provider that does not stream sends whole blocks only.
                        updates.text(peer, text);
                    }
                    self.words.clear();
                }
                self.blocks.push(block);
            }
            ModelEvent::Finished { reason, usage } => self.finished = Some((reason, usage)),
        }
    }

    fn end(mut self, answer: Result<Value, agent_client_protocol_schema::v1::Error>) -> Asked {
        let failure = match (answer, self.finished) {
            (Ok(_), Some((reason, usage))) => {
                if !self.words.is_empty() {
                    // Words that were shown belong to the answer, whole block or not.
                    self.blocks.push(Block::text(std::mem::take(&mut self.words)));
                }
                let is_said = |block: &Block| !matches!(block, Block::Text { text } if text.is_empty());
                self.blocks.retain(is_said);
                return Asked::Whole(Answer { blocks: self.blocks, reason, usage });
            }
            (Ok(_), None) => {
                let mut failure = Failure::unavailable("The model's answer was cut off before its end.");
                failure.hints.push("ask again".to_owned());
                failure
            }
            (Err(error), _) => failure_of(error, "The model could not be called"),
        };
        Asked::Failed { failure, partial: self.partial() }
    }

    /// The words of an answer that is not whole. Its tools never run, and what only a provider understands is only good whole.
    fn partial(&self) -> String {
        let mut partial = String::new();
        for block in &self.blocks {
            if let Block::Text { text } = block {
                partial.push_str(text);
            }
        }
        partial.push_str(&self.words);
        partial
    }
}
