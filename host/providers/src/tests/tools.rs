//! Tools: what is asked for, what goes back, and what must not run.

use leanclaw_test_fakes::anthropic::{MESSAGES, check};
use leanclaw_test_fakes::{End, Reply};
use leanclaw_types::model::{Block, ModelMessage, Role, StopReason, TokenUsage, ToolDefinition};
use serde_json::json;

use super::support::*;

fn result_of(id: &str, is_error: bool) -> Block {
    Block::ToolResult { tool_use_id: id.into(), content: vec![Block::text("12 °C")], is_error }
}

/// Pieces of a tool's input, as events.
fn pieces(pieces: &[&str]) -> Vec<String> {
    let piece = |text: &&str| {
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": text}})
            .to_string()
    };
    pieces.iter().map(piece).collect()
}

fn tool_answer(input: &[&str], reason: &str) -> String {
    let (pieces, end) = (pieces(input), ends(reason));
    let mut parts = vec![START, TOOL_START];
    parts.extend(pieces.iter().map(String::as_str));
    parts.extend([BLOCK_STOP, end.as_str(), STOP]);
    events(&parts)
}

async fn blocks_of(input: &[&str]) -> Vec<Block> {
    let setup = setup().await;
    setup.answer(Reply::sse(tool_answer(input, "tool_use"))).ask().await.blocks
}

#[tokio::test]
async fn a_loop_of_three_turns_sends_everything_back_unchanged() {
    let setup = setup().await;
    let thought = r#"{"type":"thinking","thinking":"Two cities, two calls.","signature":"RmFrZVNpZ25hdHVyZQ=="}"#;
    for (reply, kept) in [
        (tool_answer(&["{}"], "tool_use"), vec![]),
        (body("anthropic-thinking-tools").to_owned(), vec![]),
        (body("anthropic-text").to_owned(), vec![thought]),
    ] {
        setup.server.push_with("POST", MESSAGES, move |request| match check(request, &kept) {
            Ok(_) => Reply::sse(reply.clone()),
            Err(refusal) => *refusal,
        });
    }
    let mut call = hello();
    call.tools =
        vec![ToolDefinition { name: "n".into(), description: "d".into(), input_schema: json!({"type": "object"}) }];
    let mut used = TokenUsage::default();
    for turn in 0..3 {
        let told = setup.tell(&call).await;
        assert_eq!(told.failure, None, "turn {turn}");
        used.add(&told.end.unwrap().1);
        let uses = told.blocks.iter().filter_map(|block| match block {
            Block::ToolUse { id, .. } => Some(result_of(id, turn == 0)),
            _ => None,
        });
        let mut results: Vec<Block> = uses.collect();
        // Words before the results, and they still come first.
        results.insert(0, Block::text("Here:"));
        call.messages.push(ModelMessage { role: Role::Assistant, content: told.blocks });
        call.messages.push(ModelMessage { role: Role::User, content: results });
    }
    let asked = setup.asked();
    let messages = |turn: usize| asked[turn].json()["messages"].as_array().unwrap().clone();
    assert_eq!([0, 1, 2].map(|turn| messages(turn).len()), [1, 3, 5]);
    assert_eq!(messages(2)[..3], messages(1)[..], "a conversation only grows");
    assert_eq!(messages(1)[2]["content"][0]["is_error"], true);
    let ids = [0, 1].map(|index| messages(2)[4]["content"][index]["tool_use_id"].clone());
    assert_eq!(ids, [json!("toolu_01AAA"), json!("toolu_01BBB")]);
    assert_eq!(used, TokenUsage { input: 9 + 410 + 12, output: 5 + 96 + 15, cache_read: 2048, cache_write: 1024 });
}

#[tokio::test]
async fn an_input_of_nothing_is_an_empty_object() {
    let empty = [Block::ToolUse { id: "t1".into(), name: "n".into(), input: json!({}) }];
    assert_eq!(blocks_of(&[]).await, empty);
    assert_eq!(blocks_of(&[""]).await, empty);
    assert_eq!(blocks_of(&["", "{", "}"]).await, empty);
}

#[tokio::test]
async fn an_input_that_is_no_object_cannot_run_and_can_be_answered() {
    for (pieces, text) in [(["{\"a\":", ""], "{\"a\":"), (["[1", "]"], "[1]"), (["\"", "x\""], "\"x\"")] {
        let blocks = blocks_of(&pieces).await;
        let [Block::InvalidToolUse { id, name, text: kept, problem }] = blocks.as_slice() else { panic!("{blocks:?}") };
        assert_eq!((id.as_str(), name.as_str(), kept.as_str()), ("t1", "n", text));
        assert!(problem.starts_with("The input is not "), "{problem}");
    }
    // The model is told, by a result that the server accepts.
    let setup = setup().await;
    setup.answer(Reply::sse(tool_answer(&["{\"a\":"], "tool_use")));
    let told = setup.ask().await;
    let mut call = hello();
    call.messages.push(ModelMessage { role: Role::Assistant, content: told.blocks });
    call.messages.push(ModelMessage { role: Role::User, content: vec![result_of("t1", true)] });
    setup.server.push_with("POST", MESSAGES, |request| match check(request, &[]) {
        Ok(_) => Reply::sse(hi()),
        Err(refusal) => *refusal,
    });
    assert_eq!(setup.tell(&call).await.text, "Hi");
    assert_eq!(setup.asked()[1].json()["messages"][2]["content"][0]["is_error"], true);
}

#[tokio::test]
async fn a_tool_that_was_cut_off_does_not_run() {
    for reason in ["max_tokens", "model_context_window_exceeded", "refusal"] {
        for input in [["{\"a\": 1", ""], ["{\"a\": 1", "}"]] {
            let setup = setup().await;
            let told = setup.answer(Reply::sse(tool_answer(&input, reason))).ask().await;
            assert_eq!((told.blocks.len(), told.failure), (0, None), "{reason}");
        }
    }
    let open = pieces(&["{\"a\""]);
    let never_ended = events(&[START, TOOL_START, &open[0], &ends("max_tokens"), STOP]);
    let setup = setup().await;
    let told = setup.answer(Reply::sse(never_ended)).ask().await;
    assert_eq!((told.blocks.len(), told.reason()), (0, StopReason::MaxTokens));
}

#[tokio::test]
async fn only_the_last_tool_is_the_one_that_was_cut_off() {
    let second = TOOL_START.replace("\"index\":0", "\"index\":1").replace("t1", "t2");
    let stop = BLOCK_STOP.replace("\"index\":0", "\"index\":1");
    let setup = setup().await;
    let parts = [START, TOOL_START, BLOCK_STOP, &second, &stop, &ends("max_tokens"), STOP];
    let told = setup.answer(Reply::sse(events(&parts))).ask().await;
    assert_eq!(told.blocks, [Block::ToolUse { id: "t1".into(), name: "n".into(), input: json!({}) }]);
}

#[tokio::test]
async fn blocks_that_overlap_come_out_in_their_order() {
    let text_start = TEXT_START.replace("\"index\":0", "\"index\":1");
    let text = TEXT.replace("\"index\":0", "\"index\":1");
    let stop = BLOCK_STOP.replace("\"index\":0", "\"index\":1");
    let setup = setup().await;
    let parts = [START, TOOL_START, &text_start, &text, &stop, BLOCK_STOP, &ends("tool_use"), STOP];
    let told = setup.answer(Reply::sse(events(&parts))).ask().await;
    let tool = Block::ToolUse { id: "t1".into(), name: "n".into(), input: json!({}) };
    assert_eq!(told.blocks, [tool, Block::text("Hi")]);
}

#[tokio::test]
async fn a_stream_that_breaks_within_a_tool_gives_no_tool() {
    let setup = setup().await;
    let begun = pieces(&["{\"a\""]);
    let whole = events(&[START, TEXT_START, TEXT, BLOCK_STOP]);
    let tool = events(&[&TOOL_START.replace(":0", ":1"), &begun[0].replace(":0", ":1")]);
    for end in [End::Whole, End::Close] {
        let told = setup.answer(Reply::sse(format!("{whole}{tool}")).end(end)).ask().await;
        assert_eq!(told.blocks, [Block::text("Hi")]);
        assert_eq!(told.failure().code, "unavailable");
    }
    // The block had ended, but nobody said that the answer was whole.
    let told = setup.answer(Reply::sse(events(&[START, TOOL_START, BLOCK_STOP]))).answer(Reply::sse(hi())).ask().await;
    assert_eq!((told.text.as_str(), told.blocks), ("Hi", vec![Block::text("Hi")]), "asked again: nothing was seen");
}

#[tokio::test]
async fn a_huge_input_is_put_together() {
    let setup = setup().await;
    let long = "x".repeat(8 * 1024 * 1024);
    let text = json!({"a": long}).to_string();
    let parts: Vec<&str> = text.as_bytes().chunks(1000).map(|part| std::str::from_utf8(part).unwrap()).collect();
    let begun = std::time::Instant::now();
    let told = setup.answer(Reply::sse(tool_answer(&parts, "tool_use"))).ask().await;
    assert_eq!(told.blocks, [Block::ToolUse { id: "t1".into(), name: "n".into(), input: json!({"a": long}) }]);
    // What grows with the square of the length takes minutes here.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn thinking_between_tools_stays_between_them() {
    let at = |part: &str, index: u64| part.replace("\"index\":0", &format!("\"index\":{index}"));
    let thought =
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"thinking","thinking":"","signature":"s"}}"#;
    let second = at(TOOL_START, 2).replace("t1", "t2");
    let (end_1, end_2) = (at(BLOCK_STOP, 1), at(BLOCK_STOP, 2));
    let setup = setup().await;
    let parts = [START, TOOL_START, BLOCK_STOP, thought, &end_1, &second, &end_2, &ends("tool_use"), STOP];
    let told = setup.answer(Reply::sse(events(&parts))).ask().await;
    let tool = |id: &str| Block::ToolUse { id: id.into(), name: "n".into(), input: json!({}) };
    let raw = r#"{"type":"thinking","thinking":"","signature":"s"}"#;
    let kept = Block::Kept { provider: "anthropic".into(), raw: raw.into(), shown: String::new() };
    assert_eq!(told.blocks, [tool("t1"), kept, tool("t2")]);
}
