//! What stands in for a model on a development machine that has no key for one: a script that answers like Anthropic's Messages
//! API, over the same rules as [`anthropic::check`].
//!
//! Asked about files, it uses the agent's tools `glob` and `read` and then says what they found, from their results alone; to
//! anything else it says that it is no model. It remembers nothing: all it goes by stands in each request.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::anthropic::{self, MESSAGES};
use crate::record::Recorded;
use crate::reply::Reply;
use crate::server::FakeServer;

/// What it calls itself where a model is named.
pub const MODEL: &str = "scripted-stand-in";
/// Words that ask about files, in small letters.
const ABOUT_FILES: [&str; 8] = ["file", "folder", "director", "workspace", "read", "datei", "ordner", "verzeichnis"];
/// Files that are looked into.
const MAX_READ: usize = 3;
/// Files that are named.
const MAX_NAMED: usize = 10;
/// Lines of each file that are read.
const LINES: u64 = 5;
/// Characters that are quoted.
const MAX_QUOTED_CHARS: usize = 200;
/// Characters of a tool's input that come at once.
const INPUT_PIECE_CHARS: usize = 8;
/// So many bytes of a request count as a token.
const TOKEN_BYTES: usize = 4;

const WHO: &str = "I am a scripted stand-in, not a model";

/// Has the server answer as the stand-in, a pause of `pace` before each piece of an answer.
pub fn serve(server: &FakeServer, pace: Duration) {
    server.always("POST", MESSAGES, move |request| answer(request, pace));
    server.always("POST", "/v1/messages/count_tokens", |request| {
        Reply::json(200, &json!({"input_tokens": tokens(request.body.len())}))
    });
    server.always("GET", "/v1/models", |_| {
        let supported = json!({"supported": true});
        let types = json!({"adaptive": supported, "disabled": supported});
        let model = json!({
            "type": "model", "id": MODEL, "display_name": "Scripted stand-in (not a model)", "max_input_tokens": 200_000,
            "max_tokens": 8_000, "capabilities": {"thinking": {"types": types}, "image_input": {"supported": false}},
        });
        Reply::json(200, &json!({"data": [model], "has_more": false, "first_id": MODEL, "last_id": MODEL}))
    });
}

fn answer(request: &Recorded, pace: Duration) -> Reply {
    let body = match anthropic::check(request, &[]) {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    if body.get("stream") != Some(&Value::Bool(true)) {
        return anthropic::error(400, "invalid_request_error", "the stand-in answers as a stream only");
    }
    let mut parts = Asked::of(&body).answer();
    if field(body.get("thinking").unwrap_or(&Value::Null), "type") == "disabled" {
        parts.retain(|part| !matches!(part, Part::Thinking(_)));
    }
    written(&parts, field(&body, "model"), tokens(request.body.len()), pace)
}

fn tokens(bytes: usize) -> usize {
    bytes / TOKEN_BYTES + 1
}

/// A block of an answer.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Thinking(String),
    Text(String),
    Use { name: &'static str, input: Value },
}

/// What a tool gave back.
#[derive(Debug, Clone)]
struct Given {
    tool: String,
    /// The file that was read; empty for other tools.
    path: String,
    text: String,
    is_error: bool,
}

/// What is asked, and what has been done about it.
struct Asked<'a> {
    text: String,
    tools: Vec<&'a str>,
    given: Vec<Given>,
}

impl<'a> Asked<'a> {
    fn of(body: &'a Value) -> Self {
        let messages = list(body, "messages");
        // Results of tools come in the name of the user, too, and are no words.
        let is_asked = |message: &&Value| field(message, "role") == "user" && !text_of(message).is_empty();
        let at = messages.iter().rposition(|message| is_asked(&message)).unwrap_or(0);
        let tools = list(body, "tools").iter().map(|tool| field(tool, "name")).collect();
        let text = messages.get(at).map(text_of).unwrap_or_default();
        Self { text, tools, given: given(messages.get(at..).unwrap_or_default()) }
    }

    fn offers(&self, tool: &str) -> bool {
        self.tools.contains(&tool)
    }

    fn answer(&self) -> Vec<Part> {
        let said = self.text.to_lowercase();
        let is_about_files = ABOUT_FILES.iter().any(|word| said.contains(word));
        if !is_about_files || !self.offers("glob") {
            return self.echo();
        }
        let Some(listed) = self.given.iter().find(|given| given.tool == "glob") else {
            return vec![
                Part::Thinking("This is about files. The script says: look which ones there are.".to_owned()),
                Part::Text("I look which files there are.".to_owned()),
                Part::Use { name: "glob", input: json!({"pattern": "*"}) },
            ];
        };
        let files = files(listed);
        let is_read = self.given.iter().any(|given| given.tool == "read");
        if files.is_empty() || is_read || !self.offers("read") {
            return self.summary(listed, &files);
        }
        let mut chosen = files.clone();
        chosen.sort_by_key(|file| !(file.ends_with(".md") || file.ends_with(".txt")));
        let count = chosen.len().min(MAX_READ);
        let thinking = format!("The script says: look into {count} of {}.", files.len());
        let uses = chosen.into_iter().take(count);
        let uses = uses.map(|path| Part::Use { name: "read", input: json!({"path": path, "limit": LINES}) });
        std::iter::once(Part::Thinking(thinking)).chain(uses).collect()
    }

    fn summary(&self, listed: &Given, files: &[&str]) -> Vec<Part> {
        let mut text = match files {
            _ if listed.is_error => format!("The files could not be listed: {}", quoted(&listed.text)),
            [] => "There are no files in the workspace.".to_owned(),
            [one] => format!("There is one file in the workspace: `{one}`."),
            many => {
                let named: Vec<String> = many.iter().take(MAX_NAMED).map(|file| format!("`{file}`")).collect();
                let left_out = many.len() - named.len();
                let more = if left_out > 0 { format!(" and {left_out} more") } else { String::new() };
                format!("There are {} files in the workspace: {}{more}.", many.len(), named.join(", "))
            }
        };
        for read in self.given.iter().filter(|given| given.tool == "read") {
            let says = match (read.is_error, first_line(&read.text)) {
                (true, _) => format!("could not be read: {}", quoted(&read.text)),
                (false, "") => "begins with nothing that is text".to_owned(),
                (false, line) => format!("begins with “{}”", quoted(line)),
            };
            text.push_str(&format!("\n* `{}` {says}", read.path));
        }
        text.push_str(&format!("\n\n{WHO}: this is what the tools returned, in words that were there before."));
        vec![Part::Thinking("The script says: tell what the tools returned.".to_owned()), Part::Text(text)]
    }

    fn echo(&self) -> Vec<Part> {
        let said =
            if self.text.is_empty() { "nothing in words".to_owned() } else { format!("“{}”", quoted(&self.text)) };
        let text = format!(
            "{WHO}: no key for one is set, so nobody has thought about what you said, which was {said}. Ask me which files \
             there are, and I use the agent's real tools on its real workspace."
        );
        vec![Part::Thinking("There is nothing in the script about this.".to_owned()), Part::Text(text)]
    }
}

fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The words in a message, or in what a tool gave back.
fn text_of(message: &Value) -> String {
    if let Some(text) = message.get("content").and_then(Value::as_str) {
        return text.to_owned();
    }
    let texts = list(message, "content").iter().filter(|block| field(block, "type") == "text");
    texts.map(|block| field(block, "text")).collect::<Vec<_>>().join("\n")
}

/// What tools gave back in these messages.
fn given(messages: &[Value]) -> Vec<Given> {
    let blocks = || messages.iter().flat_map(|message| list(message, "content"));
    let uses = blocks().filter(|block| field(block, "type") == "tool_use");
    let uses: HashMap<&str, &Value> = uses.map(|block| (field(block, "id"), block)).collect();
    let results = blocks().filter(|block| field(block, "type") == "tool_result");
    let given = results.filter_map(|result| {
        let own = uses.get(field(result, "tool_use_id"))?;
        Some(Given {
            tool: field(own, "name").to_owned(),
            path: own.pointer("/input/path").and_then(Value::as_str).unwrap_or_default().to_owned(),
            text: text_of(result),
            is_error: result.get("is_error") == Some(&Value::Bool(true)),
        })
    });
    given.collect()
}

/// The paths in a list that `glob` gave; its remarks stand in brackets, and so does the word that there is nothing.
fn files(listed: &Given) -> Vec<&str> {
    if listed.is_error || listed.text.starts_with("No file matches") {
        return Vec::new();
    }
    listed.text.lines().filter(|line| !line.is_empty() && !line.starts_with('[')).collect()
}

/// The first line of what `read` gave, without its number.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    match line.split_once('\t') {
        Some((number, rest)) if number.trim().parse::<u64>().is_ok() => rest,
        _ => line,
    }
}

fn quoted(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", one_line.get(..end).unwrap_or_default()),
        None => one_line,
    }
}

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", field(data, "type"))
}

/// The events of one block: its begin, its pieces, its end.
fn block(index: usize, part: &Part, message: &str) -> Vec<Value> {
    let id = || format!("toolu_{message}_{index}");
    let (begin, pieces) = match part {
        Part::Thinking(text) => {
            let mut pieces: Vec<Value> =
                words(text).map(|word| json!({"type": "thinking_delta", "thinking": word})).collect();
            pieces.push(json!({"type": "signature_delta", "signature": "U2NyaXB0ZWQ="}));
            (json!({"type": "thinking", "thinking": "", "signature": ""}), pieces)
        }
        Part::Text(text) => {
            let pieces = words(text).map(|word| json!({"type": "text_delta", "text": word})).collect();
            (json!({"type": "text", "text": ""}), pieces)
        }
        Part::Use { name, input } => {
            let letters: Vec<char> = input.to_string().chars().collect();
            let pieces = letters
                .chunks(INPUT_PIECE_CHARS)
                .map(|piece| json!({"type": "input_json_delta", "partial_json": piece.iter().collect::<String>()}));
            (json!({"type": "tool_use", "id": id(), "name": name, "input": {}}), pieces.collect())
        }
    };
    let begin = json!({"type": "content_block_start", "index": index, "content_block": begin});
    let deltas = pieces.into_iter().map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta}));
    let end = json!({"type": "content_block_stop", "index": index});
    std::iter::once(begin).chain(deltas).chain([end]).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}

/// The answer on the wire.
fn written(parts: &[Part], model: &str, input_tokens: usize, pace: Duration) -> Reply {
    // Ids of uses must not come twice in a conversation, which grows with each answer.
    let message = format!("standin{input_tokens}");
    let usage = json!({
        "input_tokens": input_tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1,
    });
    let begin = json!({"type": "message_start", "message": {
        "id": format!("msg_{message}"), "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage,
    }});
    let blocks: Vec<Value> = parts.iter().enumerate().flat_map(|(index, part)| block(index, part, &message)).collect();
    let uses_tools = parts.iter().any(|part| matches!(part, Part::Use { .. }));
    let reason = if uses_tools { "tool_use" } else { "end_turn" };
    let delta = json!({"stop_reason": reason, "stop_sequence": null});
    let end = json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": blocks.len()}});
    let reply = Reply::status(200).header("content-type", "text/event-stream; charset=utf-8");
    let paced = blocks.iter().fold(reply.piece(event(&begin)), |reply, data| reply.after(pace, event(data)));
    paced.piece(event(&end)).piece(event(&json!({"type": "message_stop"})))
}

#[cfg(test)]
#[path = "stand_in_tests.rs"]
mod tests;
