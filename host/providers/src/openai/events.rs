//! The stream of Chat Completions, chunk by chunk, and an answer that came in one piece.
//!
//! Uses of tools come in pieces that say by number or by id where they belong. They are put together, and given out behind
//! the words once it is known why the answer ended: one that was cut off must not run. An id that a server leaves out, or
//! gives to a second use, is replaced, as a result is found by its id.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use leanclaw_types::model::{Block, ModelEvent, StopReason, TokenUsage};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::thinking::{Parted, Splitter};
use crate::answer::{Broken, Decoder};
use crate::parts::{garbled, read, say, tool_use};
use crate::problem::Said;
use crate::sse::SseEvent;

/// How the stream says that nothing more comes.
const DONE: &str = "[DONE]";
/// The most uses of tools in one answer.
const MOST_TOOLS: usize = 1000;

/// A chunk, or an answer in one piece.
#[derive(Deserialize)]
struct Frame {
    object: Option<String>,
    model: Option<String>,
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    index: Option<u64>,
    delta: Option<Piece>,
    message: Option<Piece>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Piece {
    content: Option<Words>,
    /// What a model says in place of an answer that it refuses.
    refusal: Option<Words>,
    reasoning_content: Option<Words>,
    reasoning: Option<Words>,
    reasoning_text: Option<Words>,
    reasoning_details: Option<Words>,
    tool_calls: Option<Vec<ToolPiece>>,
    /// What `tool_calls` were before there could be several.
    function_call: Option<Function>,
}

/// Words as servers write them: as they are, or in parts. What is neither is passed over.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Plain(String),
    Parts(Vec<Part>),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

#[derive(Deserialize)]
struct ToolPiece {
    index: Option<u64>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Default, Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<Arguments>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Arguments {
    /// A part of the JSON.
    Text(String),
    /// All of it, from servers that do not put it into a string.
    Whole(Value),
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

/// A use of a tool as far as it has come.
#[derive(Default)]
struct Tool {
    index: Option<u64>,
    id: Option<String>,
    name: String,
    arguments: String,
}

/// Reads one answer.
pub(super) struct Events {
    /// The ids that uses of tools have in the conversation.
    taken: Arc<HashSet<String>>,
    begun: bool,
    usage: TokenUsage,
    splitter: Splitter,
    text: String,
    tools: Vec<Tool>,
    /// The use to which the last piece belongs.
    last_tool: Option<usize>,
    reason: Option<String>,
}

impl Words {
    fn text(self) -> String {
        match self {
            Self::Plain(text) => text,
            Self::Parts(parts) => parts.into_iter().filter_map(|part| part.text).collect(),
            Self::Other(_) => String::new(),
        }
    }
}

impl Piece {
    /// What it says of the model's thinking. Some servers say the same under two names.
    fn take_thinking(&mut self) -> String {
        let fields =
            [&mut self.reasoning_content, &mut self.reasoning, &mut self.reasoning_text, &mut self.reasoning_details];
        let said = fields.into_iter().filter_map(|field| field.take().map(Words::text)).find(|text| !text.is_empty());
        said.unwrap_or_default()
    }
}

impl Decoder for Events {
    fn event(&mut self, event: &SseEvent, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        match event.data.trim() {
            "" => Ok(()),
            DONE => self.finish(out),
            data => {
                let mut frame: Frame = read(data, "an event")?;
                if event.name == "error" || frame.is_error() {
                    return Err(error_in(data));
                }
                let choice = frame.take_choice();
                let (delta, reason) = choice.map(|choice| (choice.delta, choice.finish_reason)).unwrap_or_default();
                self.take(frame, delta.unwrap_or_default(), reason, out)
            }
        }
    }

    fn whole(&mut self, text: &str, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        let mut frame: Frame = read(text, "the answer")?;
        if frame.is_error() {
            return Err(error_in(text));
        }
        let choice = frame.take_choice().ok_or_else(|| garbled("the answer has no choices"))?;
        let message = choice.message.ok_or_else(|| garbled("the answer has no message"))?;
        self.take(frame, message, choice.finish_reason, out)?;
        self.finish(out)
    }

    fn end_of_stream(&mut self, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        // Not all servers say that nothing more comes. Why the answer ended is what counts.
        if self.reason.is_some() { self.finish(out) } else { Ok(()) }
    }

    fn usage(&self) -> TokenUsage {
        self.usage
    }
}

impl Frame {
    fn is_error(&self) -> bool {
        self.error.is_some() || self.object.as_deref() == Some("error")
    }

    /// The first answer; others were not asked for.
    fn take_choice(&mut self) -> Option<Choice> {
        self.choices.take()?.into_iter().find(|choice| choice.index.unwrap_or(0) == 0)
    }
}

impl Events {
    pub(super) fn new(taken: Arc<HashSet<String>>) -> Self {
        Self {
            taken,
            begun: false,
            usage: TokenUsage::default(),
            splitter: Splitter::default(),
            text: String::new(),
            tools: Vec::new(),
            last_tool: None,
            reason: None,
        }
    }

    fn take(
        &mut self,
        frame: Frame,
        mut piece: Piece,
        reason: Option<String>,
        out: &mut VecDeque<ModelEvent>,
    ) -> Result<(), Broken> {
        if !std::mem::replace(&mut self.begun, true) {
            out.push_back(ModelEvent::Started { model: frame.model.unwrap_or_default() });
        }
        self.count(frame.usage);
        say(&piece.take_thinking(), out, |delta| ModelEvent::Thinking { delta });
        for words in [piece.content, piece.refusal].into_iter().flatten() {
            let parted = self.splitter.push(&words.text());
            self.tell(parted, out);
        }
        for tool in piece.tool_calls.unwrap_or_default() {
            self.put(tool)?;
        }
        if let Some(function) = piece.function_call {
            self.put(ToolPiece { index: Some(0), id: None, function: Some(function) })?;
        }
        // Some servers give an empty one with every chunk.
        self.reason = reason.filter(|reason| !reason.is_empty()).or(self.reason.take());
        Ok(())
    }

    fn tell(&mut self, parted: Parted, out: &mut VecDeque<ModelEvent>) {
        say(&parted.thinking, out, |delta| ModelEvent::Thinking { delta });
        self.text.push_str(&parted.words);
        say(&parted.words, out, |delta| ModelEvent::Text { delta });
    }

    /// Counts are the sums so far. What comes from the cache is among what was read.
    fn count(&mut self, usage: Option<Usage>) {
        let Some(usage) = usage else { return };
        let read = usage.prompt_tokens.unwrap_or(self.usage.input.saturating_add(self.usage.cache_read));
        let cached = usage.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0).min(read);
        self.usage.input = read.saturating_sub(cached);
        self.usage.cache_read = cached;
        self.usage.output = usage.completion_tokens.unwrap_or(self.usage.output);
    }

    /// Puts a piece of a use to the pieces before it.
    fn put(&mut self, piece: ToolPiece) -> Result<(), Broken> {
        let ToolPiece { index, id, function } = piece;
        let Function { name, arguments } = function.unwrap_or_default();
        let (id, name) = (id.filter(|id| !id.is_empty()), name.filter(|name| !name.is_empty()));
        let at = self.place(index, id.as_deref(), name.is_some());
        let at = at.unwrap_or(self.tools.len());
        if at >= MOST_TOOLS {
            return Err(garbled(format!("the answer asks for more than {MOST_TOOLS} tools")));
        }
        if at == self.tools.len() {
            self.tools.push(Tool { index, ..Tool::default() });
        }
        self.last_tool = Some(at);
        let Some(tool) = self.tools.get_mut(at) else { return Ok(()) };
        tool.id = tool.id.take().or(id);
        if let Some(name) = name.filter(|_| tool.name.is_empty()) {
            tool.name = name;
        }
        match arguments {
            Some(Arguments::Text(text)) => tool.arguments.push_str(&text),
            Some(Arguments::Whole(value)) => tool.arguments.push_str(&value.to_string()),
            None => {}
        }
        Ok(())
    }

    /// Where a piece belongs; none where it begins a use.
    fn place(&self, index: Option<u64>, id: Option<&str>, has_name: bool) -> Option<usize> {
        match (index, id) {
            // The same number for two uses, which have an id each.
            (Some(_), Some(id)) if has_name => self
                .tools
                .iter()
                .rposition(|tool| tool.index == index && tool.id.as_deref().is_none_or(|own| own == id)),
            (Some(_), _) => self.tools.iter().rposition(|tool| tool.index == index),
            (None, Some(id)) => self.tools.iter().rposition(|tool| tool.id.as_deref() == Some(id)),
            // What neither says where it belongs nor begins anything goes on with the last.
            (None, None) if has_name => None,
            (None, None) => self.tools.len().checked_sub(1),
        }
    }

    fn finish(&mut self, out: &mut VecDeque<ModelEvent>) -> Result<(), Broken> {
        let reason = self.reason.take().ok_or_else(|| garbled("the answer ends without a reason"))?;
        if matches!(reason.as_str(), "error" | "abort") {
            let message = "the server ended the answer before it was whole".to_owned();
            return Err(Broken::Said(500, Said { kind: Some(reason), message, ..Said::default() }));
        }
        let rest = self.splitter.end();
        self.tell(rest, out);
        let text = std::mem::take(&mut self.text);
        // White space alone is left over before tools, and some providers would refuse it in the next call.
        if !text.trim().is_empty() {
            out.push_back(ModelEvent::Block { block: Block::Text { text } });
        }
        let cut = matches!(reason.as_str(), "length" | "content_filter" | "model_length");
        let uses = self.uses(cut)?;
        let reason = stop_reason(&reason, !uses.is_empty());
        out.extend(uses.into_iter().map(|block| ModelEvent::Block { block }));
        out.push_back(ModelEvent::Finished { reason, usage: self.usage });
        Ok(())
    }

    /// The uses as blocks, without the one that was being written when the answer was cut.
    fn uses(&mut self, cut: bool) -> Result<Vec<Block>, Broken> {
        let mut own = HashSet::new();
        let mut uses = Vec::new();
        for (at, tool) in std::mem::take(&mut self.tools).into_iter().enumerate() {
            if cut && self.last_tool == Some(at) {
                continue;
            }
            if tool.name.is_empty() {
                return Err(garbled("a use of a tool has no name"));
            }
            let id = tool.id.filter(|id| !self.taken.contains(id) && !own.contains(id));
            let id = id.unwrap_or_else(|| format!("call_{:016x}", rand::random::<u64>()));
            own.insert(id.clone());
            uses.push(tool_use(id, tool.name, &tool.arguments));
        }
        Ok(uses)
    }
}

fn stop_reason(name: &str, asks_for_tools: bool) -> StopReason {
    match name {
        "length" => StopReason::MaxTokens,
        "model_length" => StopReason::ContextFull,
        "content_filter" => StopReason::Refused,
        // Many servers say `stop` although they ask for tools, and some the other way round.
        "stop" | "tool_calls" | "function_call" if asks_for_tools => StopReason::ToolUse,
        "stop" | "tool_calls" | "function_call" => StopReason::EndTurn,
        _ => StopReason::Other,
    }
}

/// An error in the middle, with the status that the same error has before the answer began.
fn error_in(text: &str) -> Broken {
    let said = Said::read(text);
    let named = |name: &Option<String>| match name.as_deref().unwrap_or_default() {
        "invalid_request_error" | "context_length_exceeded" | "exceed_context_size_error" | "BadRequestError" => {
            Some(400)
        }
        "authentication_error" | "invalid_api_key" => Some(401),
        "permission_error" => Some(403),
        "not_found_error" | "model_not_found" | "NotFoundError" => Some(404),
        "rate_limit_exceeded" | "rate_limit_error" | "insufficient_quota" => Some(429),
        "overloaded" | "overloaded_error" | "unavailable_error" => Some(503),
        _ => None,
    };
    let status = said.status.filter(|status| (400..600).contains(status));
    let status = status.or_else(|| named(&said.code)).or_else(|| named(&said.kind)).unwrap_or(500);
    Broken::Said(status, said)
}
