//! One thing that happened in a run, told to whoever hears of it.

use leanclaw_types::Failure;
use leanclaw_types::failure::code;
use leanclaw_types::frame::ProtocolVersion;
use leanclaw_types::run::{RunEnd, RunEvent, RunOutcome, ToolPhase};
use leanclaw_types::session::SessionRow;
use serde_json::{Map, Value, json};

use super::live::{Ear, Live, Piece, Whose};
use super::{assistant, is_silent, words_of};
use crate::gateway::State;
use crate::handshake::Session;
use crate::hub::Event;
use crate::methods::READ;
use crate::sessions::{Key, listed};
use crate::snapshot::DEFAULT_AGENT;
use crate::wire::joined;

/// What stands before the reason in place of a reply.
pub(crate) const FAILED: &str = "⚠️ Agent failed before reply: ";
/// What a client says that shows tools.
const SHOWS_TOOLS: &str = "tool-events";
/// Bytes of a tool's input that are told, and characters of what it gave back.
const MAX_INPUT_BYTES: usize = 64 * 1024;
const MAX_RESULT_CHARS: usize = 12_000;
/// Characters of each detail of a provider's error.
const MAX_DETAIL_CHARS: usize = 300;

const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::V3, ProtocolVersion::V4];

/// Whether a slow client may miss it: what comes later says the same again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    MayBeMissed,
    MustArrive,
}

impl Care {
    fn event(self, name: &str) -> Event {
        let event = Event::new(name, "").scope(READ);
        if self == Self::MayBeMissed { event.droppable() } else { event }
    }
}

pub(super) struct Telling<'a> {
    state: &'a State,
    event: &'a RunEvent,
    live: &'a mut Live,
    row: Option<&'a SessionRow>,
    whose: Whose,
}

impl<'a> Telling<'a> {
    pub(super) fn new(state: &'a State, event: &'a RunEvent, live: &'a mut Live, row: Option<&'a SessionRow>) -> Self {
        let named = || Whose {
            agent: Key::read(&event.session_key, None).map_or_else(|_| DEFAULT_AGENT.to_owned(), |key| key.agent),
            session_id: None,
        };
        let whose = live.whose.clone().unwrap_or_else(named);
        Self { state, event, live, row, whose }
    }

    pub(super) fn started(&mut self) {
        self.live.started_ms = Some(self.event.at_ms);
        let data = json!({"phase": "start", "startedAt": self.event.at_ms});
        self.agent_event("lifecycle", Care::MustArrive, |_| data.clone());
    }

    pub(super) fn said_more(&mut self, words: &str) {
        if self.live.is_between_messages() {
            self.flush();
        }
        self.live.add(words);
        self.said_so_far();
        for version in BOTH {
            if let Some(piece) = self.live.piece(Ear::Chat(version), self.event.at_ms) {
                self.delta(version, &piece);
            }
        }
    }

    pub(super) fn message_is_over(&mut self) {
        self.live.message_is_over();
    }

    /// A tool: told to the connection that asked for the run, if it shows tools; that there is one, to all of version 4.
    pub(super) fn tool(&mut self, call_id: &str, name: &str, phase: &ToolPhase) {
        if matches!(phase, ToolPhase::Started(_)) {
            self.flush();
        }
        let owner = &self.event.owner.connection;
        let hears = |session: &Session| {
            session.id == *owner
                && session.caps.iter().any(|cap| cap == SHOWS_TOOLS)
                && session.caller.role == "operator"
                && session.caller.holds(READ)
        };
        // Also where nobody hears it, it has its number.
        let is_heard = self.state.hub.newest(hears).is_some();
        let [v3, v4] = BOTH.map(|version| {
            let data = if is_heard { self.tool_data(version, call_id, name, phase) } else { Value::Null };
            self.agent_payload(version, "tool", data).to_string()
        });
        if is_heard {
            self.state.hub.tell_where(Event::new("agent", &v4).payload_v3(&v3).targeted(), hears);
        }
        let item = self.item(call_id, name, phase);
        let payload = self.agent_payload(ProtocolVersion::V4, "item", item);
        let event = Care::MustArrive.event("agent");
        self.state.hub.broadcast_in(ProtocolVersion::V4, event, || payload.to_string());
    }

    pub(super) fn ended(&mut self, end: &RunEnd) {
        match &end.outcome {
            RunOutcome::Done => {
                self.lifecycle_end(end, &json!({}));
                self.flush();
                let message = (!is_silent(&end.text)).then(|| assistant(&end.text, end.ended_ms));
                let mut fields = message_field(message.as_ref());
                fields.extend(usage(end).map(|usage| ("usage", usage)));
                for version in BOTH {
                    self.chat(version, Care::MustArrive, "final", fields.clone());
                }
            }
            RunOutcome::Aborted { by } => {
                let said =
                    if end.text.is_empty() && !self.live.is_between_messages() { self.live.text() } else { &end.text };
                let message = (!is_silent(said)).then(|| assistant(said, end.ended_ms));
                for version in BOTH {
                    let mut fields = vec![("stopReason", json!(by.as_str()))];
                    fields.extend(message_field(message.as_ref()));
                    self.chat(version, Care::MustArrive, "aborted", fields);
                }
                self.lifecycle_end(end, &json!({"aborted": true, "stopReason": by.as_str()}));
            }
            RunOutcome::Failed { failure } => self.failed(end, failure),
        }
    }

    fn failed(&mut self, end: &RunEnd, failure: &Failure) {
        let words = words_of(failure);
        let mut data = json!({"phase": "error", "error": words, "endedAt": end.ended_ms});
        if let Some(started_ms) = end.started_ms.or(self.live.started_ms) {
            data = joined(data, [("startedAt", json!(started_ms))]);
        }
        self.agent_event("lifecycle", Care::MustArrive, |_| data.clone());
        // Version 3 is given the reason in place of a reply.
        let message = assistant(&format!("{FAILED}{words}"), end.ended_ms);
        self.chat(ProtocolVersion::V3, Care::MustArrive, "final", message_field(Some(&message)));
        let mut fields = vec![("errorMessage", json!(words)), ("errorKind", json!(error_kind(failure)))];
        fields.extend(error_detail(end, failure).map(|detail| ("errorDetail", detail)));
        self.chat(ProtocolVersion::V4, Care::MustArrive, "error", fields);
    }

    /// Says that a run is over that clients were told of.
    fn lifecycle_end(&mut self, end: &RunEnd, more: &Value) {
        let Some(started_ms) = end.started_ms.or(self.live.started_ms) else { return };
        if let Some(piece) = self.live.rest(Ear::Agent, self.event.at_ms) {
            self.assistant(&piece);
        }
        let data = json!({"phase": "end", "startedAt": started_ms, "endedAt": end.ended_ms});
        let more = more.as_object().cloned().unwrap_or_default();
        let data = joined(data, more);
        self.agent_event("lifecycle", Care::MustArrive, |_| data.clone());
    }

    /// Tells what of the message so far `agent` events have not told.
    fn said_so_far(&mut self) {
        if let Some(piece) = self.live.piece(Ear::Agent, self.event.at_ms) {
            self.assistant(&piece);
        }
    }

    fn assistant(&mut self, piece: &Piece) {
        let item = format!("message:{}", self.live.messages + 1);
        self.agent_event("assistant", Care::MayBeMissed, |version| {
            let data = json!({"text": piece.text, "delta": piece.delta});
            joined(data, version.is_newest().then(|| ("itemId", json!(item))))
        });
    }

    /// Tells what of the message so far `chat` events have not told.
    fn flush(&mut self) {
        for version in BOTH {
            if let Some(piece) = self.live.rest(Ear::Chat(version), self.event.at_ms) {
                self.delta(version, &piece);
            }
        }
    }

    fn delta(&self, version: ProtocolVersion, piece: &Piece) {
        let message = assistant(&piece.text, self.event.at_ms);
        let mut fields = message_field(Some(&message));
        if version.is_newest() {
            fields.push(("deltaText", json!(piece.delta)));
            fields.extend(piece.replaces.then(|| ("replace", json!(true))));
        }
        self.chat(version, Care::MayBeMissed, "delta", fields);
    }

    fn chat(&self, version: ProtocolVersion, care: Care, state: &str, fields: Vec<(&str, Value)>) {
        self.state.hub.broadcast_in(version, care.event("chat"), || {
            let run = (self.event.run_id.as_str(), self.live.seq(version));
            chat_payload(version, run, (&self.event.session_key, &self.whose.agent), state, fields).to_string()
        });
    }

    /// An `agent` event for everybody, in each version under its own number.
    fn agent_event(&mut self, stream: &str, care: Care, data: impl Fn(ProtocolVersion) -> Value) {
        for version in BOTH {
            let payload = self.agent_payload(version, stream, data(version));
            self.state.hub.broadcast_in(version, care.event("agent"), || payload.to_string());
        }
    }

    fn agent_payload(&mut self, version: ProtocolVersion, stream: &str, data: Value) -> Value {
        let payload = json!({
            "runId": self.event.run_id, "stream": stream, "data": data, "sessionKey": self.event.session_key,
            "seq": self.live.next_seq(version), "ts": self.event.at_ms,
        });
        if !version.is_newest() {
            return payload;
        }
        let session = self.whose.session_id.as_ref().map(|id| ("sessionId", json!(id)));
        joined(payload, [("agentId", json!(self.whose.agent))].into_iter().chain(session))
    }

    /// What the connection that asked for the run is told of a tool. Version 3 is told what it gave back only where the
    /// session says so.
    fn tool_data(&self, version: ProtocolVersion, call_id: &str, name: &str, phase: &ToolPhase) -> Value {
        let data = match phase {
            ToolPhase::Started(input) => {
                let args = match input.to_string().len() {
                    fits if fits <= MAX_INPUT_BYTES => input.clone(),
                    bytes => json!({"omitted": format!("{bytes} bytes")}),
                };
                json!({"phase": "start", "name": name, "toolCallId": call_id, "args": args})
            }
            ToolPhase::Ended { text, is_error } => {
                let data = json!({"phase": "result", "name": name, "toolCallId": call_id, "isError": is_error});
                let level = self.row.and_then(|row| row.entry.get("verboseLevel")?.as_str());
                let is_told = version.is_newest() || level == Some("full");
                let text = || text.chars().take(MAX_RESULT_CHARS).collect::<String>();
                joined(data, is_told.then(|| ("result", json!({"content": [{"type": "text", "text": text()}]}))))
            }
        };
        let session = self.row.filter(|_| version.is_newest()).map(|row| ("session", listed(row, version)));
        joined(data, session)
    }

    fn item(&mut self, call_id: &str, name: &str, phase: &ToolPhase) -> Value {
        let at_ms = self.event.at_ms;
        let (phase, status, times) = match phase {
            ToolPhase::Started(_) => {
                self.live.tool_began(call_id, at_ms);
                ("start", "running", vec![("startedAt", json!(at_ms))])
            }
            ToolPhase::Ended { is_error, .. } => {
                let began = self.live.tool_ended(call_id).map(|began_ms| ("startedAt", json!(began_ms)));
                let status = if *is_error { "failed" } else { "completed" };
                ("end", status, began.into_iter().chain([("endedAt", json!(at_ms))]).collect())
            }
        };
        let item = json!({
            "itemId": format!("tool:{call_id}"), "toolCallId": call_id, "name": name, "kind": "tool", "phase": phase,
            "title": name, "status": status,
        });
        joined(item, times)
    }
}

/// What the model calls of a run used; none when there was none.
fn usage(end: &RunEnd) -> Option<Value> {
    end.model.as_ref()?;
    let used = &end.usage;
    Some(json!({
        "input": used.input, "output": used.output, "cacheRead": used.cache_read, "cacheWrite": used.cache_write,
        "totalTokens": used.input + used.output + used.cache_read + used.cache_write,
    }))
}

fn message_field(message: Option<&Value>) -> Vec<(&'static str, Value)> {
    message.map(|message| ("message", message.clone())).into_iter().collect()
}

/// A `chat` event's payload. `run` is its name and the number of the `agent` event behind it, `whose` the session and its agent.
pub(crate) fn chat_payload(
    version: ProtocolVersion,
    (run_id, seq): (&str, u64),
    (session_key, agent): (&str, &str),
    state: &str,
    fields: Vec<(&str, Value)>,
) -> Value {
    let payload = json!({"runId": run_id, "sessionKey": session_key, "seq": seq, "state": state});
    let agent = version.is_newest().then(|| ("agentId", json!(agent)));
    joined(payload, agent.into_iter().chain(fields))
}

/// What version 4 calls the reason.
fn error_kind(failure: &Failure) -> &'static str {
    let of_provider = failure.extra.as_ref().and_then(|extra| extra.get("errorType")?.as_str()).unwrap_or_default();
    match failure.code.as_str() {
        code::RATE_LIMITED => "rate_limit",
        code::TIMED_OUT => "timeout",
        code::TOO_LARGE => "context_length",
        _ if of_provider.contains("refusal") => "refusal",
        _ if of_provider.contains("context_length") => "context_length",
        _ => "unknown",
    }
}

/// What the provider of the model said about it; none when it was none that failed.
fn error_detail(end: &RunEnd, failure: &Failure) -> Option<Value> {
    let extra = failure.extra.as_ref()?;
    let text = |name: &str| extra.get(name).and_then(Value::as_str).map(str::to_owned);
    let provider = text("provider")?;
    let mut detail = Map::new();
    let texts = [
        ("provider", Some(provider)),
        ("model", end.model.clone()),
        ("providerErrorType", text("errorType")),
        ("providerErrorMessagePreview", Some(failure.message.clone())),
    ];
    for (name, text) in texts {
        detail
            .extend(text.map(|text| (name.to_owned(), json!(text.chars().take(MAX_DETAIL_CHARS).collect::<String>()))));
    }
    let status = extra.get("status").and_then(Value::as_u64).filter(|status| (100..=599).contains(status));
    detail.extend(status.map(|status| ("httpStatus".to_owned(), json!(status))));
    Some(Value::Object(detail))
}
