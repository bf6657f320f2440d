//! Answers that are whole, however they are written and cut.

use std::task::Poll;

use futures_util::stream::{self, StreamExt};
use leanclaw_test_fakes::Reply;
use leanclaw_types::Failure;
use leanclaw_types::model::{Block, ModelEvent, StopReason, TokenUsage};
use serde_json::{Value, json};

use super::support::*;
use crate::ModelStream;

async fn told(reply: Reply) -> Told {
    let setup = setup().await;
    let told = setup.answer(reply).ask().await;
    assert_eq!(setup.asked().len(), 1);
    told
}

fn greeting() -> Told {
    Told {
        model: "claude-opus-5-5".into(),
        text: "Grüezi 🌧️!".into(),
        blocks: vec![Block::text("Grüezi 🌧️!")],
        end: Some((StopReason::EndTurn, TokenUsage { input: 12, output: 15, cache_read: 2048, cache_write: 1024 })),
        ..Told::default()
    }
}

#[tokio::test]
async fn text_as_a_stream() {
    assert_eq!(told(Reply::sse(body("anthropic-text"))).await, greeting());
}

#[tokio::test]
async fn text_in_one_piece_of_json() {
    let usage = json!({"input_tokens": 12, "output_tokens": 15, "cache_creation_input_tokens": 1024,
        "cache_read_input_tokens": 2048, "server_tool_use": null});
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5",
        "content": [{"type": "text", "text": "Grüezi 🌧️!", "citations": null}],
        "stop_reason": "end_turn", "stop_sequence": null, "usage": usage});
    assert_eq!(told(Reply::json(200, &message)).await, greeting());
}

#[tokio::test]
async fn thinking_and_tools() {
    let told = told(Reply::sse(body("anthropic-thinking-tools"))).await;
    assert_eq!((told.thinking.as_str(), told.text.as_str()), ("Two cities, two calls.", "Checking."));
    let raw = r#"{"type":"thinking","thinking":"Two cities, two calls.","signature":"RmFrZVNpZ25hdHVyZQ=="}"#;
    let blocks = vec![
        Block::Kept { provider: "anthropic".into(), raw: raw.into(), shown: "Two cities, two calls.".into() },
        Block::text("Checking."),
        Block::ToolUse {
            id: "toolu_01AAA".into(),
            name: "get_weather".into(),
            input: json!({"city": "Zürich", "n": 1}),
        },
        Block::ToolUse { id: "toolu_01BBB".into(), name: "list_cities".into(), input: json!({}) },
    ];
    assert_eq!(told.blocks, blocks);
    let usage = TokenUsage { input: 410, output: 96, cache_read: 0, cache_write: 0 };
    assert_eq!(told.end, Some((StopReason::ToolUse, usage)));
}

#[tokio::test]
async fn thinking_that_is_not_shown() {
    let told = told(Reply::sse(body("anthropic-thinking-omitted"))).await;
    let kept = |raw: &str| Block::Kept { provider: "anthropic".into(), raw: raw.into(), shown: String::new() };
    let thinking = kept(r#"{"type":"thinking","thinking":"","signature":"T21pdHRlZA=="}"#);
    let redacted = kept(r#"{"type":"redacted_thinking","data":"RW5jcnlwdGVk"}"#);
    assert_eq!(told.blocks, [thinking, redacted, Block::text("42")]);
    assert_eq!(told.thinking, "");
}

#[tokio::test]
async fn blocks_that_are_not_known_are_kept_as_they_were_written() {
    let raw = r#"{ "type":"web_search_tool_result", "n":1.50, "text_é":"\u00e9" }"#;
    let begin = format!(r#"{{"type":"content_block_start","index":0,"content_block":{raw}}}"#);
    let piece = r#"{"type":"content_block_delta","index":0,"delta":{"type":"newest_delta","x":1}}"#;
    let called = r#"{"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"s","name":"w","input":{}}}"#;
    let input =
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"q\": 1.0}"}}"#;
    let stop = r#"{"type":"content_block_stop","index":1}"#;
    let parts = [START, &begin, piece, BLOCK_STOP, called, input, stop, &ends("pause_turn"), STOP];
    let told = told(Reply::sse(events(&parts))).await;
    let kept = |raw: &str| Block::Kept { provider: "anthropic".into(), raw: raw.into(), shown: String::new() };
    let call = r#"{"type":"server_tool_use","id":"s","name":"w","input":{"q": 1.0}}"#;
    assert_eq!(told.blocks, [kept(raw), kept(call)]);
    assert_eq!(told.reason(), StopReason::Paused);
}

#[tokio::test]
async fn every_benign_way_to_write_it_reads_the_same() {
    let text = body("anthropic-text");
    let nameless: String =
        text.lines().filter(|line| !line.starts_with("event:")).map(|line| format!("{line}\n")).collect();
    let unknown = "event: newest\ndata: {\"type\":\"newest\",\"x\":{}}\n\nevent: without-data\n\ndata:\n\nnothing\n\n";
    let flood = "event: ping\ndata: {\"type\":\"ping\"}\n\n: still here\n\n".repeat(2000);
    for variant in [
        text.replace('\n', "\r\n"),
        text.replace('\n', "\r"),
        text.replace(": ", ":"),
        text.replace("data: {\"type\"", "data: {\ndata: \"type\""),
        format!("\u{feff}{text}"),
        format!(": hello\n\nid: 1\nretry: 5\n{text}"),
        nameless,
        format!("{unknown}{text}"),
        text.replacen("\n\n", &format!("\n\n{flood}"), 1),
        format!("{text}data: what comes after the end is not read"),
    ] {
        assert_eq!(told(Reply::sse(variant.clone())).await, greeting(), "{variant:.300}");
    }
}

#[tokio::test]
async fn no_way_to_cut_it_changes_it() {
    let escaped = body("anthropic-text").replace("🌧️", "\\ud83c\\udf27\\ufe0f").replace('\n', "\r\n");
    for size_bytes in [1, 2, 7, usize::MAX] {
        assert_eq!(told(Reply::sse(body("anthropic-text")).cut_every(size_bytes)).await, greeting());
        assert_eq!(told(Reply::sse(escaped.clone()).cut_every(size_bytes)).await, greeting());
    }
}

#[tokio::test]
async fn half_a_surrogate_pair_becomes_a_replacement_character() {
    let half = TEXT.replace("Hi", "a\\ud83c");
    let told = told(Reply::sse(events(&[START, TEXT_START, &half, BLOCK_STOP, &ends("end_turn"), STOP]))).await;
    assert_eq!(told.text, "a\u{fffd}");
}

#[tokio::test]
async fn what_may_be_missing_or_null_or_new_is_tolerated() {
    let start = r#"{"type":"message_start","message":{"usage":null,"newest":1}}"#;
    let text_start = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","citations":null}}"#;
    let delta = r#"{"type":"message_delta","delta":{"stop_reason":"newest_reason","stop_details":null},"usage":{"input_tokens":null,"output_tokens":3}}"#;
    let told = told(Reply::sse(events(&[start, text_start, TEXT, BLOCK_STOP, delta, STOP]))).await;
    assert_eq!((told.text.as_str(), told.reason()), ("Hi", StopReason::Other));
    assert_eq!(told.end.unwrap().1, TokenUsage { output: 3, ..TokenUsage::default() });
}

#[tokio::test]
async fn an_answer_of_nothing_is_an_answer() {
    let told = told(Reply::sse(events(&[START, &ends("end_turn"), STOP]))).await;
    assert_eq!((told.blocks.len(), told.reason()), (0, StopReason::EndTurn));
    let empty = json!({"type": "message", "content": [], "stop_reason": "end_turn", "model": "m"});
    assert_eq!(super::answers::told(Reply::json(200, &empty)).await.blocks, []);
}

#[tokio::test]
async fn every_reason_to_end_is_told_apart() {
    for (name, reason) in [
        ("end_turn", StopReason::EndTurn),
        ("max_tokens", StopReason::MaxTokens),
        ("stop_sequence", StopReason::Other),
        ("tool_use", StopReason::ToolUse),
        ("pause_turn", StopReason::Paused),
        ("refusal", StopReason::Refused),
        ("model_context_window_exceeded", StopReason::ContextFull),
    ] {
        let mut parts = vec![START.to_owned(), TEXT_START.into(), TEXT.into(), BLOCK_STOP.into(), ends(name)];
        if name == "refusal" {
            let mut delta: Value = serde_json::from_str(&parts[4]).unwrap();
            delta["delta"]["stop_details"] = json!({"type": "refusal", "category": "cyber", "explanation": "no"});
            parts[4] = delta.to_string();
        }
        parts.push(STOP.into());
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let told = told(Reply::sse(events(&parts))).await;
        assert_eq!((told.text.as_str(), told.reason()), ("Hi", reason));
    }
}

#[tokio::test]
async fn what_is_used_is_the_last_that_was_said_of_each_count() {
    let start = r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":7,"output_tokens":1,"cache_read_input_tokens":50}}}"#;
    let first = r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":3,"cache_read_input_tokens":null}}"#;
    let last = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":8,"cache_creation_input_tokens":4}}"#;
    let told_of = told(Reply::sse(events(&[start, first, last, STOP]))).await;
    assert_eq!(told_of.end.unwrap().1, TokenUsage { input: 7, output: 8, cache_read: 50, cache_write: 4 });
    let silent = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#;
    let told_of = told(Reply::sse(events(&[start, silent, STOP]))).await;
    assert_eq!(told_of.end.unwrap().1, TokenUsage { input: 7, output: 1, cache_read: 50, cache_write: 0 });
}

#[tokio::test]
async fn nothing_is_read_after_the_end() {
    let finished = ModelEvent::Finished { reason: StopReason::EndTurn, usage: TokenUsage::default() };
    for end in [Ok(finished), Err(Failure::unavailable("x"))] {
        let events = stream::iter([end.clone()]).chain(stream::poll_fn(|_| -> Poll<Option<_>> { panic!("read on") }));
        let mut stream = ModelStream::new(events);
        assert_eq!((stream.next().await, stream.next().await), (Some(end), None));
    }
}
