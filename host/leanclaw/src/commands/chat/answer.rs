//! What a gateway's events make of one answer: which words are new, where a message ends, which tools were used, how it ended.
//!
//! It neither reads from the gateway nor prints. Events of other runs, events that are malformed and events that come too
//! late change nothing. Where an event tells the whole message so far, that is what counts: pieces may have been dropped on
//! the way.

use std::collections::HashSet;

use leanclaw_types::text::escape;
use serde_json::Value;

use crate::client::Event;

/// What is shown of a tool's name, in characters.
const MAX_NAME_CHARS: usize = 60;
/// What is shown of a tool's input, in characters.
const MAX_INPUT_CHARS: usize = 100;

/// What is to be shown, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// More words of the message that is being written.
    Words(String),
    /// The next words are another message's.
    Break,
    /// A tool is used; both on one line.
    Tool {
        /// Its name.
        name: String,
        /// Its input, cut; empty when there is none to show.
        input: String,
    },
    /// A tool that was used failed.
    ToolFailed {
        /// Its name.
        name: String,
    },
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ending {
    /// How.
    pub(super) outcome: Outcome,
    /// The agent's last message, or what there is of it.
    pub(super) text: String,
    /// What it used, as the gateway tells it.
    pub(super) usage: Option<Value>,
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is whole.
    Done,
    /// Somebody or something ended it: the gateway's word for what.
    Aborted(String),
    /// It failed.
    Failed {
        /// The gateway's words.
        message: String,
        /// The gateway's word for the kind of failure; empty when it has none.
        kind: String,
    },
}

/// One answer while it is written.
#[derive(Debug)]
pub(super) struct Answer {
    run_id: String,
    session_key: Option<String>,
    /// What was shown of the message that is being written.
    shown: String,
    /// Whether a tool was used since, so that what comes may be another message.
    is_behind_tool: bool,
    last_seq: u64,
    tools: HashSet<String>,
    ending: Option<Ending>,
}

impl Answer {
    /// The answer of a run of which nothing was heard yet.
    pub(super) fn new(run_id: &str) -> Self {
        Self {
            run_id: run_id.to_owned(),
            session_key: None,
            shown: String::new(),
            is_behind_tool: false,
            last_seq: 0,
            tools: HashSet::new(),
            ending: None,
        }
    }

    /// Which run it is.
    pub(super) fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The session, as the gateway's events call it.
    pub(super) fn session_key(&self) -> Option<&str> {
        self.session_key.as_deref()
    }

    /// How it ended; none while it goes on.
    pub(super) fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Takes an event; what is to be shown of it.
    pub(super) fn hear(&mut self, event: &Event) -> Vec<Step> {
        let payload = &event.payload;
        if self.ending.is_some() || text(payload, "runId") != Some(self.run_id.as_str()) {
            return Vec::new();
        }
        if let Some(key) = text(payload, "sessionKey").filter(|key| !key.is_empty()) {
            self.session_key = Some(key.to_owned());
        }
        match event.name.as_str() {
            "chat" => self.chat(payload),
            "agent" if text(payload, "stream") == Some("tool") => {
                self.tool(payload.get("data").unwrap_or(&Value::Null))
            }
            _ => Vec::new(),
        }
    }

    /// What was shown was cut off: the message is shown again from its beginning.
    pub(super) fn begin_again(&mut self) {
        self.shown.clear();
    }

    /// Takes an event where others were missed: only an end counts, as it tells the whole message.
    pub(super) fn hear_end(&mut self, event: &Event) -> Vec<Step> {
        let is_end = matches!(text(&event.payload, "state"), Some("final" | "aborted" | "error"));
        if is_end { self.hear(event) } else { Vec::new() }
    }

    /// Takes the end as the gateway stored it, for who could not hear it.
    pub(super) fn end(&mut self, ending: Ending) -> Vec<Step> {
        if self.ending.is_some() {
            return Vec::new();
        }
        let steps = self.settle(&ending.text);
        self.ending = Some(ending);
        steps
    }

    fn chat(&mut self, payload: &Value) -> Vec<Step> {
        let whole = payload.get("message").and_then(message_text);
        let outcome = match text(payload, "state") {
            Some("delta") => return self.delta(payload, whole.as_deref()),
            Some("final") => Outcome::Done,
            Some("aborted") => Outcome::Aborted(text(payload, "stopReason").unwrap_or_default().to_owned()),
            Some("error") => Outcome::Failed {
                message: text(payload, "errorMessage").or(whole.as_deref()).unwrap_or_default().to_owned(),
                kind: text(payload, "errorKind").unwrap_or_default().to_owned(),
            },
            _ => return Vec::new(),
        };
        // The message of an error may be the error once more, in words for clients that show messages only.
        let whole = whole.filter(|_| !matches!(outcome, Outcome::Failed { .. }));
        let text = whole.unwrap_or_else(|| self.shown.clone());
        let usage = [payload.get("usage"), payload.pointer("/message/usage")].into_iter().flatten();
        let usage = usage.into_iter().find(|usage| usage.is_object()).cloned();
        self.end(Ending { outcome, text, usage })
    }

    /// More of the message: `whole` is all of it so far, where the event tells that.
    fn delta(&mut self, payload: &Value, whole: Option<&str>) -> Vec<Step> {
        let seq = payload.get("seq").and_then(Value::as_u64).unwrap_or(self.last_seq);
        if seq < self.last_seq {
            return Vec::new();
        }
        self.last_seq = seq;
        let more = text(payload, "deltaText");
        if payload.get("replace") == Some(&Value::Bool(true)) {
            return whole.or(more).map(|text| self.begin(text)).unwrap_or_default();
        }
        match (whole, more) {
            (Some(whole), _) if whole.starts_with(&self.shown) => self.go_on_to(whole),
            (Some(whole), _) if self.shown.starts_with(whole) && !self.is_behind_tool => Vec::new(),
            (Some(whole), _) => self.begin(whole),
            (None, Some(more)) if self.is_behind_tool => self.begin(more),
            (None, Some(more)) => self.go_on_to(&format!("{}{more}", self.shown)),
            (None, None) => Vec::new(),
        }
    }

    /// The message is this one, as far as it is written: it begins with what was shown.
    fn go_on_to(&mut self, whole: &str) -> Vec<Step> {
        let more = whole.get(self.shown.len()..).unwrap_or_default().to_owned();
        if more.is_empty() {
            return Vec::new();
        }
        self.is_behind_tool = false;
        self.shown.push_str(&more);
        vec![Step::Words(more)]
    }

    /// Another message begins.
    fn begin(&mut self, text: &str) -> Vec<Step> {
        let is_first = self.shown.is_empty();
        self.is_behind_tool = false;
        self.shown = text.to_owned();
        let words = (!text.is_empty()).then(|| Step::Words(text.to_owned()));
        (!is_first).then_some(Step::Break).into_iter().chain(words).collect()
    }

    /// The message is this one and is whole. What was shown of it is not shown again, and the white space around it may
    /// have been taken off since.
    fn settle(&mut self, text: &str) -> Vec<Step> {
        if text.trim() == self.shown.trim() {
            return Vec::new();
        }
        let rest = text.strip_prefix(self.shown.as_str()).or_else(|| text.strip_prefix(self.shown.trim_start()));
        match rest {
            Some(rest) => self.go_on_to(&format!("{}{rest}", self.shown)),
            None => self.begin(text),
        }
    }

    fn tool(&mut self, data: &Value) -> Vec<Step> {
        let name = cut(text(data, "name").filter(|name| !name.is_empty()).unwrap_or("tool"), MAX_NAME_CHARS);
        let is_error = data.get("isError") == Some(&Value::Bool(true));
        match text(data, "phase") {
            Some("start") if self.is_new(data) => {
                self.is_behind_tool = true;
                let input = data.get("args").map(shown_input).unwrap_or_default();
                vec![Step::Break, Step::Tool { name, input }]
            }
            Some("result") if is_error => vec![Step::Break, Step::ToolFailed { name }],
            _ => Vec::new(),
        }
    }

    /// Whether this use was not told before.
    fn is_new(&mut self, data: &Value) -> bool {
        text(data, "toolCallId").is_none_or(|id| self.tools.insert(id.to_owned()))
    }
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

/// What a message says in words; none when it has none at all.
pub(super) fn message_text(message: &Value) -> Option<String> {
    let content = message.get("content").unwrap_or(message);
    if let Some(text) = content.as_str() {
        return Some(text.to_owned());
    }
    let parts = content.as_array()?.iter().filter(|part| text(part, "type") == Some("text"));
    let texts: Vec<&str> = parts.filter_map(|part| text(part, "text")).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// An input on one line: the fields with their values.
fn shown_input(input: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let line = match input {
        Value::Null => String::new(),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
            fields.join(" ")
        }
        other => plain(other),
    };
    cut(&line, MAX_INPUT_CHARS)
}

/// The beginning of a text, on one line.
fn cut(text: &str, most_chars: usize) -> String {
    let is_cut = text.chars().nth(most_chars).is_some();
    let mut line = escape(&text.chars().take(most_chars).collect::<String>());
    if is_cut {
        line.push('…');
    }
    line
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
