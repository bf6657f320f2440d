//! A turn: from a prompt to the end of the answer, in rounds of a model call and the tools it asks for.
//!
//! Everything that is said is recorded with the host before it is acted on: a prompt before the model is asked, an answer
//! before its tools run, results before the model is asked again. What the host did not store did not happen.

mod answer;
mod uses;

use agent_client_protocol_schema::v1::{Meta, PromptResponse, StopReason as TurnEnd};
use leanclaw_types::agent::{Recorded, SETUP, TRANSCRIPT_APPEND, TurnReport};
use leanclaw_types::failure::{Failure, code};
use leanclaw_types::model::{Block, ModelMessage, Role, StopReason};
use serde_json::Value;

use crate::peer::{Gone, Peer};
use crate::session::Session;
use crate::update::Updates;
use answer::{Answer, Asked};

/// Why a turn has no end that the protocol has a name for.
#[derive(Debug)]
pub(crate) enum TurnError {
    Gone,
    Failed(Failure),
}

impl From<Gone> for TurnError {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Runs a turn.
///
/// # Errors
/// When the host is gone, or the model or the transcript failed.
pub(crate) fn run(peer: &mut Peer<'_>, session: &mut Session, prompt: Vec<Block>) -> Result<PromptResponse, TurnError> {
    peer.begin_turn(&session.id);
    let mut turn = Turn { peer, session, report: TurnReport::default() };
    let ended = turn.rounds(prompt);
    let report = serde_json::to_value(&turn.report).unwrap_or(Value::Null);
    peer.end_turn();
    match ended {
        Ok(reason) => {
            let meta: Meta = [(SETUP.to_owned(), report)].into_iter().collect();
            Ok(PromptResponse::new(reason).meta(meta))
        }
        Err(TurnError::Failed(mut failure)) => {
            failure.extra = Some(report);
            Err(TurnError::Failed(failure))
        }
        Err(TurnError::Gone) => Err(TurnError::Gone),
    }
}

/// What comes after an answer.
enum Next {
    /// The model is asked again.
    Round,
    End(TurnEnd),
}

struct Turn<'t, 'l> {
    peer: &'t mut Peer<'l>,
    session: &'t mut Session,
    report: TurnReport,
}

impl Turn<'_, '_> {
    fn rounds(&mut self, prompt: Vec<Block>) -> Result<TurnEnd, TurnError> {
        // A result comes before all else in the message after its use.
        let mut content = self.session.missing_results();
        content.extend(prompt);
        self.record(Role::User, content)?;
        loop {
            self.peer.drain();
            if self.peer.is_cancelled() {
                return Ok(TurnEnd::Cancelled);
            }
            self.report.rounds = self.report.rounds.saturating_add(1);
            let answer = match self.ask_model()? {
                Asked::Whole(answer) => answer,
                Asked::Cancelled { partial } => {
                    self.record_partial(partial)?;
                    return Ok(TurnEnd::Cancelled);
                }
                Asked::Failed { failure, partial } => {
                    self.record_partial(partial)?;
                    return Err(TurnError::Failed(failure));
                }
            };
            self.report.usage.add(&answer.usage);
            if let Next::End(end) = self.after(answer)? {
                return Ok(end);
            }
        }
    }

    fn after(&mut self, answer: Answer) -> Result<Next, TurnError> {
        let Answer { blocks, reason, .. } = answer;
        match reason {
            StopReason::ToolUse | StopReason::EndTurn | StopReason::Other => {
                if blocks.iter().any(|block| block.use_id().is_some()) {
                    return self.use_tools(blocks);
                }
                self.record(Role::Assistant, blocks)?;
                self.end_unless_followed_up(TurnEnd::EndTurn)
            }
            StopReason::Paused if !blocks.is_empty() => {
                self.record(Role::Assistant, blocks)?;
                if self.is_last_round() { self.stop_after_rounds() } else { Ok(Next::Round) }
            }
            StopReason::Paused => self.end_unless_followed_up(TurnEnd::EndTurn),
            StopReason::MaxTokens => {
                let limit = self.session.setup.max_tokens;
                let whole = blocks.len();
                let kept = without_uses(blocks);
                let note = if kept.len() < whole {
                    format!("[The answer was cut off at {limit} tokens; the tools it asked for were not run.]")
                } else {
                    format!("[The answer was cut off at {limit} tokens.]")
                };
                self.record(Role::Assistant, kept)?;
                self.say(&note);
                self.end_unless_followed_up(TurnEnd::MaxTokens)
            }
            StopReason::ContextFull => {
                self.report.context_full = true;
                self.record(Role::Assistant, without_uses(blocks))?;
                self.say("[The conversation is too long for the model. It has to be compacted or begun anew.]");
                Ok(Next::End(TurnEnd::MaxTokens))
            }
            StopReason::Refused => {
                self.record(Role::Assistant, without_uses(blocks))?;
                Ok(Next::End(TurnEnd::Refusal))
            }
        }
    }

    fn use_tools(&mut self, blocks: Vec<Block>) -> Result<Next, TurnError> {
        let uses = uses::of(&blocks);
        self.record(Role::Assistant, blocks)?;
        let is_last = self.is_last_round();
        let mut content = if is_last {
            let why = "Not run: the turn reached its limit of model calls.";
            uses::refused(uses, why)
        } else {
            self.run_uses(uses)?
        };
        self.peer.drain();
        if is_last {
            self.record(Role::User, content)?;
            return self.stop_after_rounds();
        }
        let is_cancelled = self.peer.is_cancelled();
        let follow_ups = if is_cancelled { Vec::new() } else { self.peer.take_follow_ups() };
        let count = follow_ups.len();
        content.extend(follow_ups.into_iter().map(Block::text));
        self.record(Role::User, content)?;
        self.count_follow_ups(count);
        Ok(if is_cancelled { Next::End(TurnEnd::Cancelled) } else { Next::Round })
    }

    /// Ends the turn, or goes on when somebody wrote meanwhile.
    fn end_unless_followed_up(&mut self, end: TurnEnd) -> Result<Next, TurnError> {
        self.peer.drain();
        if self.is_last_round() || self.peer.is_cancelled() {
            return Ok(Next::End(end));
        }
        let follow_ups = self.peer.take_follow_ups();
        if follow_ups.is_empty() {
            return Ok(Next::End(end));
        }
        let count = follow_ups.len();
        self.record(Role::User, follow_ups.into_iter().map(Block::text).collect())?;
        self.count_follow_ups(count);
        Ok(Next::Round)
    }

    fn count_follow_ups(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.report.follow_ups = self.report.follow_ups.saturating_add(count);
    }

    fn is_last_round(&self) -> bool {
        self.report.rounds >= self.session.setup.max_rounds
    }

    fn stop_after_rounds(&mut self) -> Result<Next, TurnError> {
        let text = format!(
            "I stopped after {} model calls, which is the limit of one turn. Write again and I will go on from here.",
            self.report.rounds
        );
        // It is a part of the conversation, so that the model knows of it.
        self.record(Role::Assistant, vec![Block::text(text.clone())])?;
        self.say(&text);
        Ok(Next::End(TurnEnd::MaxTurnRequests))
    }

    /// Tells those who look on something that is not the model's.
    fn say(&mut self, text: &str) {
        let updates = Updates { session: &self.session.id, workspace: &self.session.workspace };
        updates.text(self.peer, text);
    }

    fn record_partial(&mut self, partial: String) -> Result<(), TurnError> {
        let blocks = if partial.trim().is_empty() { Vec::new() } else { vec![Block::text(partial)] };
        self.record(Role::Assistant, blocks)
    }

    /// Has the host store a message; one without content is none.
    fn record(&mut self, role: Role, content: Vec<Block>) -> Result<(), TurnError> {
        if content.is_empty() {
            return Ok(());
        }
        let mut recorded =
            Recorded { session_id: self.session.id.clone(), messages: vec![ModelMessage { role, content }] };
        let ticket = self.peer.ask(TRANSCRIPT_APPEND, &recorded);
        if let Err(error) = self.peer.wait_for::<Value>(ticket)? {
            let failure = failure_of(error, "The transcript could not be written");
            return Err(TurnError::Failed(failure));
        }
        self.session.history.append(&mut recorded.messages);
        Ok(())
    }
}

fn without_uses(blocks: Vec<Block>) -> Vec<Block> {
    blocks.into_iter().filter(|block| block.use_id().is_none()).collect()
}

/// The failure in an error of the host's, or one made of its words.
fn failure_of(error: agent_client_protocol_schema::v1::Error, what: &str) -> Failure {
    let told = error.data.and_then(|data| serde_json::from_value(data).ok());
    told.unwrap_or_else(|| Failure::new(code::INTERNAL, format!("{what}: {}", error.message)))
}

#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;
