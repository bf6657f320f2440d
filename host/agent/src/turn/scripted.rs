//! A scripted host in memory.

use std::collections::VecDeque;
use std::io;

use serde_json::{Value, json};

use crate::link::{Link, Received, Wait};

pub(super) type React<'h> = Box<dyn FnMut(&Value, &mut Lines) + 'h>;

/// A host: looks at each line the agent sends and says what it answers.
pub(super) struct Host<'h> {
    pub(super) waiting: VecDeque<Received>,
    pub(super) said: Vec<Value>,
    pub(super) react: React<'h>,
    /// Whether the transcript is stored; otherwise it is the reaction's to answer.
    pub(super) stores: bool,
}

/// What the host sends.
#[derive(Default)]
pub(super) struct Lines(pub(super) Vec<Value>);

impl Lines {
    pub(super) fn result(&mut self, asked: &Value, result: Value) {
        self.0.push(json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}));
    }

    pub(super) fn error(&mut self, asked: &Value, code: i32, message: &str, data: Value) {
        let error = json!({"code": code, "message": message, "data": data});
        self.0.push(json!({"jsonrpc": "2.0", "id": asked["id"], "error": error}));
    }

    pub(super) fn note(&mut self, method: &str, params: Value) {
        self.0.push(json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    pub(super) fn event(&mut self, asked: &Value, event: Value) {
        self.note("_leanclaw/model/event", json!({"callId": asked["params"]["callId"], "event": event}));
    }

    /// A whole answer of these blocks.
    pub(super) fn answer(&mut self, asked: &Value, blocks: Value, reason: &str) {
        self.event(asked, json!({"type": "started", "model": "m"}));
        for block in blocks.as_array().unwrap() {
            if let Some(text) = block["text"].as_str() {
                self.event(asked, json!({"type": "text", "delta": text}));
            }
            self.event(asked, json!({"type": "block", "block": block}));
        }
        self.event(asked, json!({"type": "finished", "reason": reason, "usage": {"input": 10, "output": 1}}));
        self.result(asked, json!({}));
    }

    pub(super) fn cancel(&mut self) {
        self.note("session/cancel", json!({"sessionId": "session-1"}));
    }

    pub(super) fn follow_up(&mut self, text: &str) {
        self.note("_leanclaw/turn/message", json!({"sessionId": "session-1", "text": text}));
    }
}

impl Link for Host<'_> {
    fn send(&mut self, line: &str) -> io::Result<()> {
        let message: Value = serde_json::from_str(line).unwrap();
        let mut lines = Lines::default();
        match message["method"].as_str() {
            Some("_leanclaw/transcript/append") if self.stores => lines.result(&message, json!({})),
            _ => (self.react)(&message, &mut lines),
        }
        self.said.push(message);
        self.waiting.extend(lines.0.iter().map(|line| Received::Line(line.to_string().into_bytes())));
        Ok(())
    }

    fn receive(&mut self, wait: Wait) -> Received {
        match self.waiting.pop_front() {
            Some(received) => received,
            None if wait == Wait::Not => Received::Nothing,
            None => Received::Closed,
        }
    }
}

/// A workspace and what the host said of it.
pub(super) struct Scene {
    pub(super) folder: tempfile::TempDir,
    pub(super) setup: Value,
    pub(super) stores: bool,
}

/// What the agent said.
pub(super) struct Said(pub(super) Vec<Value>);

impl Scene {
    pub(super) fn new() -> Self {
        let tool = json!({"name": "lookup", "description": "Looks up.", "inputSchema": {"type": "object"}});
        let setup = json!({"model": "m", "maxTokens": 100, "maxRounds": 5, "system": "Be good.", "tools": [tool]});
        Self { folder: tempfile::tempdir().unwrap(), setup, stores: true }
    }

    /// Runs prompts, each after the answer to the one before it.
    pub(super) fn run_prompts(&self, prompts: &[&str], react: impl FnMut(&Value, &mut Lines)) -> Said {
        let mut react = react;
        let mut prompts: VecDeque<Value> = prompts
            .iter()
            .enumerate()
            .map(|(index, text)| {
                let params = json!({"sessionId": "session-1", "prompt": [{"type": "text", "text": text}]});
                json!({"jsonrpc": "2.0", "id": format!("p{}", index + 1), "method": "session/prompt", "params": params})
            })
            .collect();
        let meta = json!({"leanclaw": self.setup});
        let session = json!({"cwd": self.folder.path(), "mcpServers": [], "_meta": meta});
        let opening = [
            json!({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": {"protocolVersion": 1}}),
            json!({"jsonrpc": "2.0", "id": "s", "method": "session/new", "params": session}),
        ];
        let mut host = Host {
            waiting: opening.iter().map(|line| Received::Line(line.to_string().into_bytes())).collect(),
            said: Vec::new(),
            stores: self.stores,
            react: Box::new(move |message, lines| {
                let is_answer_of_ours = message["method"].is_null() && message["id"] != "i";
                match prompts.front() {
                    Some(_) if is_answer_of_ours => lines.0.extend(prompts.pop_front()),
                    _ => react(message, lines),
                }
            }),
        };
        crate::run(&mut host);
        Said(host.said)
    }

    pub(super) fn run(&self, react: impl FnMut(&Value, &mut Lines)) -> Said {
        self.run_prompts(&["hello"], react)
    }

    pub(super) fn put(&self, path: &str, text: &str) {
        std::fs::write(self.folder.path().join(path), text).unwrap();
    }
}

impl Said {
    pub(super) fn of(&self, method: &str) -> Vec<&Value> {
        self.0.iter().filter(|line| line["method"] == method).collect()
    }

    pub(super) fn response(&self, id: &str) -> &Value {
        self.0.iter().find(|line| line["id"] == id && line["method"].is_null()).unwrap()
    }

    pub(super) fn stop_reason(&self) -> &str {
        self.response("p1")["result"]["stopReason"].as_str().unwrap_or_else(|| panic!("{}", self.response("p1")))
    }

    pub(super) fn report(&self) -> &Value {
        &self.response("p1")["result"]["_meta"]["leanclaw"]
    }

    /// Every message that was recorded.
    pub(super) fn recorded(&self) -> Vec<&Value> {
        self.of("_leanclaw/transcript/append").iter().map(|line| &line["params"]["messages"][0]).collect()
    }

    pub(super) fn updates(&self, kind: &str) -> Vec<&Value> {
        let all = self.of("session/update").into_iter().map(|line| &line["params"]["update"]);
        all.filter(|update| update["sessionUpdate"] == kind).collect()
    }

    pub(super) fn shown_text(&self) -> String {
        self.updates("agent_message_chunk").iter().map(|update| update["content"]["text"].as_str().unwrap()).collect()
    }
}

pub(super) fn is_model_call(message: &Value) -> bool {
    message["method"] == "_leanclaw/model/stream"
}

pub(super) fn last_message(call: &Value) -> &Value {
    call["params"]["call"]["messages"].as_array().unwrap().last().unwrap()
}

pub(super) fn tool_use(id: &str, name: &str, input: Value) -> Value {
    json!({"type": "toolUse", "id": id, "name": name, "input": input})
}
