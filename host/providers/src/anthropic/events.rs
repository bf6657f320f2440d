//! Anthropic's stream, event by event, and an answer that came in one piece.
//!
//! What is not known here (events, blocks, pieces of blocks, reasons to end) is let pass, as Anthropic adds to all of them
//! within a version. Blocks are given out whole and in their order. A use of a tool at the end of an answer is held back
//! until it is known why the answer ended: one that was cut off must not run.

use std::collections::{BTreeMap, VecDeque};

use leanclaw_types::model::{Block, ModelEvent, StopReason, TokenUsage};
use serde::Deserialize;
use serde_json::Map;
use serde_json::value::{RawValue, to_raw_value};

use super::ID;
use crate::answer::{Broken, Decoder};
use crate::json::RawObject;
use crate::parts::{garbled, read, say, tool_use};
use crate::problem::Said;
use crate::sse::SseEvent;

/// Any event; which fields are there depends on its type.
#[derive(Deserialize)]
struct Frame {
    #[serde(default)]
    r#type: Option<String>,
    message: Option<Message>,
    index: Option<u64>,
    content_block: Option<Box<RawValue>>,
    delta: Option<Delta>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Message {
    model: Option<String>,
    content: Option<Vec<Box<RawValue>>>,
    stop_reason: Option<String>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Delta {
    r#type: Option<String>,
    text: Option<String>,
    partial_json: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

/// A block as it begins.
#[derive(Deserialize)]
struct Start {
    r#type: String,
    text: Option<String>,
    thinking: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Box<RawValue>>,
}

/// A block that has begun.
enum Open {
    Text(String),
    Tool { id: String, name: String, given: Option<String>, pieces: String },
    Kept { raw: Box<RawValue>, thinking: String, signature: String, pieces: String, is_changed: bool },
}

enum Slot {
    Open(Open),
    /// Whole, and waiting for those before it.
    Done(Option<Block>),
}

/// Reads one answer.
#[derive(Default)]
pub(super) struct Events {
    usage: TokenUsage,
    stop_reason: Option<String>,
    slots: BTreeMap<u64, Slot>,
    /// A use of a tool after which nothing has come yet.
    held: Option<Block>,
}

impl Decoder for Events {
    fn event(&mut self, event: &SseEvent, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        if event.data.is_empty() {
            return Ok(());
        }
        let frame: Frame = read(&event.data, "an event")?;
        match frame.r#type.as_deref().unwrap_or(&event.name) {
            "message_start" => {
                let message = frame.message.ok_or_else(|| garbled("a message begins without a message"))?;
                self.begin(message, out);
                Ok(())
            }
            "content_block_start" => {
                let (Some(index), Some(raw)) = (frame.index, frame.content_block) else {
                    return Err(garbled("a block begins without a block"));
                };
                self.begin_block(index, raw, out)
            }
            "content_block_delta" => {
                let (Some(index), Some(delta)) = (frame.index, frame.delta) else {
                    return Err(garbled("a piece of a block is missing"));
                };
                self.continue_block(index, delta, out)
            }
            "content_block_stop" => {
                let index = frame.index.ok_or_else(|| garbled("a block ends that has no number"))?;
                self.end_block(index)?;
                self.release(out);
                Ok(())
            }
            "message_delta" => {
                let reason = frame.delta.and_then(|delta| delta.stop_reason);
                self.stop_reason = reason.or(self.stop_reason.take());
                self.count(frame.usage);
                Ok(())
            }
            "message_stop" => self.finish(out),
            "error" => Err(error_in(&event.data)),
            _ => Ok(()),
        }
    }

    fn whole(&mut self, text: &str, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        let kind: Frame = read(text, "the answer")?;
        if kind.r#type.as_deref() == Some("error") {
            return Err(error_in(text));
        }
        let mut message: Message = read(text, "the answer")?;
        let blocks = message.content.take().ok_or_else(|| garbled("the answer has no content"))?;
        self.stop_reason = message.stop_reason.take();
        self.begin(message, out);
        for (index, raw) in (0..).zip(blocks) {
            self.begin_block(index, raw, out)?;
            self.end_block(index)?;
            self.release(out);
        }
        self.finish(out)
    }

    fn usage(&self) -> TokenUsage {
        self.usage
    }
}

impl Events {
    fn begin(&mut self, message: Message, out: &mut VecDeque<ModelEvent>) {
        self.count(message.usage);
        out.push_back(ModelEvent::Started { model: message.model.unwrap_or_default() });
    }

    /// Counts are the sums so far, and what is not said keeps its value.
    fn count(&mut self, usage: Option<Usage>) {
        let Some(usage) = usage else { return };
        let known = &mut self.usage;
        known.input = usage.input_tokens.unwrap_or(known.input);
        known.output = usage.output_tokens.unwrap_or(known.output);
        known.cache_write = usage.cache_creation_input_tokens.unwrap_or(known.cache_write);
        known.cache_read = usage.cache_read_input_tokens.unwrap_or(known.cache_read);
    }

    fn begin_block(&mut self, index: u64, raw: Box<RawValue>, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        let start: Start = read(raw.get(), "a block")?;
        let open = match start.r#type.as_str() {
            "text" => {
                let text = start.text.unwrap_or_default();
                say(&text, out, |delta| ModelEvent::Text { delta });
                Open::Text(text)
            }
            "tool_use" => {
                let (Some(id), Some(name)) = (start.id, start.name) else {
                    return Err(garbled("a use of a tool has no id or no name"));
                };
                let given = start.input.map(|input| input.get().to_owned()).filter(|input| input != "null");
                Open::Tool { id, name, given, pieces: String::new() }
            }
            _ => {
                let thinking = start.thinking.unwrap_or_default();
                say(&thinking, out, |delta| ModelEvent::Thinking { delta });
                let (signature, pieces) = (String::new(), String::new());
                Open::Kept { raw, thinking, signature, pieces, is_changed: false }
            }
        };
        match self.slots.insert(index, Slot::Open(open)) {
            None => Ok(()),
            Some(_) => Err(garbled("a block begins twice")),
        }
    }

    fn continue_block(&mut self, index: u64, delta: Delta, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        let Some(Slot::Open(open)) = self.slots.get_mut(&index) else {
            return Err(garbled("a block goes on that has not begun"));
        };
        match (delta.r#type.as_deref().unwrap_or_default(), open) {
            ("text_delta", Open::Text(text)) => {
                let more = delta.text.unwrap_or_default();
                text.push_str(&more);
                say(&more, out, |delta| ModelEvent::Text { delta });
            }
            ("input_json_delta", Open::Tool { pieces, .. }) => {
                pieces.push_str(&delta.partial_json.unwrap_or_default());
            }
            ("input_json_delta", Open::Kept { pieces, is_changed, .. }) => {
                pieces.push_str(&delta.partial_json.unwrap_or_default());
                *is_changed = true;
            }
            ("thinking_delta", Open::Kept { thinking, is_changed, .. }) => {
                let more = delta.thinking.unwrap_or_default();
                thinking.push_str(&more);
                *is_changed = true;
                say(&more, out, |delta| ModelEvent::Thinking { delta });
            }
            ("signature_delta", Open::Kept { signature, is_changed, .. }) => {
                signature.push_str(&delta.signature.unwrap_or_default());
                *is_changed = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn end_block(&mut self, index: u64) -> Result<(), Broken> {
        let Some(slot) = self.slots.get_mut(&index) else { return Err(garbled("a block ends that has not begun")) };
        if let Slot::Open(open) = std::mem::replace(slot, Slot::Done(None)) {
            *slot = Slot::Done(close(open)?);
        }
        Ok(())
    }

    /// Gives out what is whole and has nothing open before it.
    fn release(&mut self, out: &mut VecDeque<ModelEvent>) {
        while let Some(first) = self.slots.first_entry().filter(|first| matches!(first.get(), Slot::Done(_))) {
            let Slot::Done(Some(block)) = first.remove() else { continue };
            out.extend(self.held.take().map(|block| ModelEvent::Block { block }));
            if matches!(block, Block::ToolUse { .. } | Block::InvalidToolUse { .. }) {
                self.held = Some(block);
            } else {
                out.push_back(ModelEvent::Block { block });
            }
        }
    }

    fn finish(&mut self, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        let reason = self.stop_reason.take().ok_or_else(|| garbled("the answer ends without a reason"))?;
        let reason = stop_reason(&reason);
        let is_cut = matches!(reason, StopReason::MaxTokens | StopReason::ContextFull | StopReason::Refused);
        let open: Vec<u64> = self.slots.keys().copied().collect();
        for index in open {
            if let Some(Slot::Open(Open::Tool { .. })) = self.slots.get(&index)
                && is_cut
            {
                self.slots.insert(index, Slot::Done(None));
            }
            self.end_block(index)?;
        }
        self.release(out);
        let last = self.held.take().filter(|_| !is_cut);
        out.extend(last.map(|block| ModelEvent::Block { block }));
        out.push_back(ModelEvent::Finished { reason, usage: self.usage });
        Ok(())
    }
}

/// A whole block; none where it is nothing.
fn close(open: Open) -> Result<Option<Block>, Broken> {
    Ok(match open {
        Open::Text(text) => (!text.is_empty()).then_some(Block::Text { text }),
        Open::Tool { id, name, given, pieces } => {
            let text = if pieces.trim().is_empty() { given.unwrap_or_default() } else { pieces };
            Some(tool_use(id, name, &text))
        }
        Open::Kept { raw, thinking, signature, pieces, is_changed } => {
            let raw = if is_changed { completed(&raw, &thinking, &signature, &pieces)? } else { raw.get().to_owned() };
            Some(Block::Kept { provider: ID.to_owned(), raw, shown: thinking })
        }
    })
}

/// A kept block with the pieces that came after its beginning put in; all else stays as it was written.
fn completed(raw: &RawValue, thinking: &str, signature: &str, pieces: &str) -> Result<String, Broken> {
    let unwritable = |error: serde_json::Error| garbled(format!("a block cannot be kept: {error}"));
    let mut object: RawObject = read(raw.get(), "a block")?;
    for (name, value) in [("thinking", thinking), ("signature", signature)] {
        if !value.is_empty() {
            object.set(name, to_raw_value(value).map_err(unwritable)?);
        }
    }
    if !pieces.trim().is_empty() {
        // Anthropic's own tool with an input that is no JSON could not go back.
        let input = RawValue::from_string(pieces.to_owned());
        object.set("input", input.or_else(|_| to_raw_value(&Map::new())).map_err(unwritable)?);
    }
    serde_json::to_string(&object).map_err(unwritable)
}

fn stop_reason(name: &str) -> StopReason {
    match name {
        "end_turn" => StopReason::EndTurn,
        "tool_use" => StopReason::ToolUse,
        "max_tokens" => StopReason::MaxTokens,
        "model_context_window_exceeded" => StopReason::ContextFull,
        "refusal" => StopReason::Refused,
        "pause_turn" => StopReason::Paused,
        _ => StopReason::Other,
    }
}

/// An error in the middle, with the status that the same error has before the answer began.
fn error_in(text: &str) -> Broken {
    let said = Said::read(text);
    let status = match said.kind.as_deref().unwrap_or_default() {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "conflict_error" => 409,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    };
    Broken::Said(status, said)
}
