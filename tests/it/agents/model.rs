//! A model over real HTTP, as Anthropic serves them: it looks at files when it is asked about files, and else says what it was
//! told.

use std::time::Duration;

use leanclaw_test_fakes::anthropic::{MESSAGES, check};
use leanclaw_test_fakes::{End, FakeServer, Recorded, Reply};
use serde_json::{Value, json};

pub(super) const KEY: &str = "sk-ant-api03-that-no-agent-sees";
const MODELS: &str = "/v1/models";

pub(super) struct Model {
    server: FakeServer,
}

impl Model {
    pub(super) async fn start() -> Self {
        let server = FakeServer::start().await.expect("a port is free");
        let listed = json!({
            "data": [{"type": "model", "id": "claude-test-1", "display_name": "Claude Test 1", "created_at": "2026-09-22T00:00:00Z"}],
            "has_more": false, "first_id": "claude-test-1", "last_id": "claude-test-1",
        });
        server.always("GET", MODELS, move |_| Reply::json(200, &listed));
        server.always("POST", MESSAGES, |request| {
            check(request, &[]).map_or_else(|refusal| *refusal, |body| answer(&body))
        });
        Self { server }
    }

    pub(super) fn url(&self) -> String {
        self.server.url()
    }

    /// What it was asked, in the order of arrival.
    pub(super) fn asked(&self) -> Vec<Recorded> {
        let asked = self.server.requests().into_iter();
        asked.filter(|request| request.path == MESSAGES).collect()
    }

    /// Waits until it was asked something like that.
    pub(super) async fn until_asked(&self, wanted: impl Fn(&[Recorded]) -> bool) {
        let only = |all: &[Recorded]| all.iter().filter(|one| one.path == MESSAGES).cloned().collect::<Vec<_>>();
        let came = self.server.until(Duration::from_secs(60), |all| wanted(&only(all))).await;
        assert!(came, "{:?}", self.asked());
    }
}

/// A server that speaks OpenAI's format and asks for no key.
pub(super) async fn local() -> FakeServer {
    let server = FakeServer::start().await.expect("a port is free");
    let listed = json!({"object": "list", "data": [{"id": "small-1", "object": "model"}]});
    server.always("GET", MODELS, move |_| Reply::json(200, &listed));
    server.always("POST", "/v1/chat/completions", |request| {
        assert_eq!(request.header("authorization"), None);
        let said = request.json()["messages"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
        let chunk = |delta: Value, reason: Value| {
            json!({"id": "c", "model": "small-1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        };
        let text = format!("Locally: {}", said["content"].as_str().unwrap_or_default());
        let chunks = [chunk(json!({"role": "assistant", "content": text}), Value::Null), chunk(json!({}), json!("stop"))];
        let events: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        Reply::sse(format!("{events}data: [DONE]\n\n"))
    });
    server
}

/// What the person said last.
pub(super) fn last_words(body: &Value) -> String {
    let messages = body["messages"].as_array().expect("messages");
    let of = |message: &Value| {
        let parts = message["content"].as_array().cloned().unwrap_or_default();
        parts.iter().rev().find(|part| part["type"] == "text").and_then(|part| part["text"].as_str().map(str::to_owned))
    };
    messages.iter().rev().filter(|message| message["role"] == "user").find_map(of).unwrap_or_default()
}

/// What the tools of the last message gave back.
fn results(body: &Value) -> Vec<String> {
    let last = body["messages"].as_array().and_then(|messages| messages.last()).cloned().unwrap_or_default();
    let parts = last["content"].as_array().cloned().unwrap_or_default();
    let results = parts.iter().filter(|part| part["type"] == "tool_result");
    results.map(|part| part["content"].to_string()).collect()
}

fn answer(body: &Value) -> Reply {
    let (said, results) = (last_words(body), results(body));
    let words = |text: &str| json!({"type": "text", "text": text});
    let uses = |id: &str, name: &str, input: Value| json!({"type": "tool_use", "id": id, "name": name, "input": input});
    match (said.as_str(), results.as_slice()) {
        (said, []) if said.contains("files") => {
            stream(&[words("I look."), uses("t1", "glob", json!({"pattern": "*"}))])
        }
        (said, [found]) if said.contains("files") && found.contains("notes.md") => {
            stream(&[uses("t2", "read", json!({"path": "notes.md"})), uses("t3", "read", json!({"path": "plan.txt"}))])
        }
        (said, [one, two]) if said.contains("files") => {
            assert!(one.contains("Buy milk.") && two.contains("Ship on Friday."), "{one} {two}");
            stream(&[words("You want to buy milk and ship on Friday.")])
        }
        ("the link", []) => stream(&[
            uses("t1", "read", json!({"path": "link.txt"})),
            uses("t2", "write", json!({"path": "link.txt", "content": "mine now"})),
            uses("t3", "write", json!({"path": "../../escaped.txt", "content": "mine now"})),
            uses("t4", "write", json!({"path": "own.txt", "content": "kept"})),
        ]),
        ("the link", results) => stream(&[words(&results.join("\n"))]),
        ("ponder", _) => {
            let begun = events(&[words("I am about to")], false);
            Reply::sse(begun).end(End::Hang)
        }
        ("fail", _) => {
            leanclaw_test_fakes::anthropic::error(400, "invalid_request_error", "the model is out for lunch")
        }
        (said, _) => stream(&[words(&format!("You said: {said}"))]),
    }
}

/// A whole answer of these blocks.
fn stream(blocks: &[Value]) -> Reply {
    Reply::sse(events(blocks, true))
}

fn events(blocks: &[Value], is_whole: bool) -> String {
    let usage = json!({"input_tokens": 10, "output_tokens": 5});
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test-1", "content": [], "stop_reason": null,
        "stop_sequence": null, "usage": usage,
    });
    let mut all = vec![("message_start", json!({"message": message}))];
    for (index, block) in blocks.iter().enumerate() {
        let is_use = block["type"] == "tool_use";
        let mut empty = block.clone();
        let deltas: Vec<Value> = if is_use {
            empty["input"] = json!({});
            vec![json!({"type": "input_json_delta", "partial_json": block["input"].to_string()})]
        } else {
            empty["text"] = json!("");
            let text = block["text"].as_str().expect("words").split_inclusive(' ');
            text.map(|word| json!({"type": "text_delta", "text": word})).collect()
        };
        all.push(("content_block_start", json!({"index": index, "content_block": empty})));
        all.extend(deltas.into_iter().map(|delta| ("content_block_delta", json!({"index": index, "delta": delta}))));
        if is_whole {
            all.push(("content_block_stop", json!({"index": index})));
        }
    }
    if is_whole {
        let uses_tools = blocks.iter().any(|block| block["type"] == "tool_use");
        let reason = if uses_tools { "tool_use" } else { "end_turn" };
        all.push(("message_delta", json!({"delta": {"stop_reason": reason, "stop_sequence": null}, "usage": usage})));
        all.push(("message_stop", json!({})));
    }
    let text = |(name, mut data): (&str, Value)| {
        data["type"] = json!(name);
        format!("event: {name}\ndata: {data}\n\n")
    };
    all.into_iter().map(text).collect()
}
