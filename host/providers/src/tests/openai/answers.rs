//! Answers that are whole, however they are written and cut.

use leanclaw_test_fakes::Reply;
use leanclaw_types::model::{Block, StopReason, TokenUsage};
use serde_json::{Value, json};

use super::support::*;

fn greeting() -> Told {
    Told {
        model: "local-model".into(),
        text: "Grüezi 🌧️!".into(),
        blocks: vec![Block::text("Grüezi 🌧️!")],
        end: Some((StopReason::EndTurn, TokenUsage { input: 12, output: 6, cache_read: 8, cache_write: 0 })),
        ..Told::default()
    }
}

fn whole(message: &Value, reason: &str) -> Value {
    json!({"id": "chatcmpl-9", "object": "chat.completion", "created": 1, "model": "local-model",
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": reason}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 6, "prompt_tokens_details": {"cached_tokens": 8}}})
}

#[tokio::test]
async fn text_as_a_stream() {
    assert_eq!(told(Reply::sse(body("openai-text"))).await, greeting());
}

#[tokio::test]
async fn an_answer_in_one_piece_from_a_server_that_does_not_stream() {
    let message = json!({"role": "assistant", "content": "Grüezi 🌧️!", "refusal": null});
    assert_eq!(told(Reply::json(200, &whole(&message, "stop"))).await, greeting());
    let calls = json!([{"id": "call_1", "type": "function", "function": {"name": "n", "arguments": "{\"a\":1}"}}]);
    let message = json!({"content": "", "reasoning_content": "Hm.", "tool_calls": calls, "annotations": []});
    let told = told(Reply::json(200, &whole(&message, "tool_calls"))).await;
    let tool = Block::ToolUse { id: "call_1".into(), name: "n".into(), input: json!({"a": 1}) };
    assert_eq!((told.thinking.as_str(), told.blocks.as_slice()), ("Hm.", [tool].as_slice()));
    assert_eq!(told.reason(), StopReason::ToolUse);
}

#[tokio::test]
async fn tools_whose_pieces_come_by_turns() {
    let told = told(Reply::sse(body("openai-tools"))).await;
    let blocks = [
        Block::ToolUse { id: "call_A".into(), name: "get_weather".into(), input: json!({"city": "Bern"}) },
        Block::ToolUse { id: "call_B".into(), name: "get_time".into(), input: json!({}) },
    ];
    assert_eq!(told.blocks, blocks);
    assert_eq!(told.end, Some((StopReason::ToolUse, TokenUsage { input: 80, output: 31, ..TokenUsage::default() })));
}

#[tokio::test]
async fn thinking_under_each_of_its_names() {
    for field in ["reasoning_content", "reasoning", "reasoning_text"] {
        let mut thought = json!({"content": null});
        thought[field] = json!("Hm. ");
        let told = told(Reply::sse(answer_of(&[chunk(&thought), say("Hi")], "stop"))).await;
        assert_eq!((told.thinking.as_str(), told.text.as_str()), ("Hm. ", "Hi"), "{field}");
        assert_eq!(told.blocks, [Block::text("Hi")]);
    }
    let details = json!([{"type": "reasoning.text", "text": "Hm. "}, {"type": "reasoning.encrypted", "data": "x"}]);
    for thought in [
        json!({"reasoning_details": details}),
        json!({"reasoning": "Hm. ", "reasoning_details": details}),
        json!({"reasoning_content": "", "reasoning": "Hm. "}),
        json!({"reasoning_content": {"unknown": 1}, "reasoning": "Hm. "}),
        json!({"content": "<think>Hm. </think>\n\n"}),
    ] {
        let told = told(Reply::sse(answer_of(&[chunk(&thought), say("Hi")], "stop"))).await;
        assert_eq!((told.thinking.as_str(), told.text.as_str()), ("Hm. ", "Hi"), "{thought}");
        assert_eq!(told.blocks, [Block::text("Hi")]);
    }
}

#[tokio::test]
async fn thinking_between_marks_however_it_is_cut() {
    let text = " <think>a < b</think>\nHi";
    for size in [1, 3, 50] {
        let pieces: Vec<String> =
            text.as_bytes().chunks(size).map(|piece| say(std::str::from_utf8(piece).unwrap())).collect();
        let told = told(Reply::sse(answer_of(&pieces, "stop"))).await;
        assert_eq!((told.thinking.as_str(), told.text.as_str()), ("a < b", "Hi"), "{size}");
    }
    let never_ends = told(Reply::sse(answer_of(&[say("<think>a</th")], "length"))).await;
    assert_eq!((never_ends.thinking.as_str(), never_ends.blocks.len()), ("a</th", 0));
    assert_eq!(told(Reply::sse(answer_of(&[say("<thi")], "stop"))).await.blocks, [Block::text("<thi")]);
}

#[tokio::test]
async fn thinking_does_not_go_back() {
    let setup = local().await;
    setup.answer_checked(Reply::sse(answer_of(&[chunk(&json!({"reasoning": "secretly"})), say("Hi")], "stop")));
    setup.answer_checked(Reply::sse(greets()));
    let told = setup.ask().await;
    assert_eq!(told.thinking, "secretly");
    let next = went_on(hello(), told.blocks, vec![Block::text("And?")]);
    assert_eq!(setup.tell(&next).await.text, "Hi");
    assert!(!setup.asked()[1].text().contains("secretly"));
    assert_eq!(setup.asked()[1].json()["messages"][2], json!({"role": "assistant", "content": "Hi"}));
}

#[tokio::test]
async fn every_benign_way_to_write_it_reads_the_same() {
    let text = body("openai-text");
    let unknown = "event: newest\ndata: {\"object\":\"newest\",\"model\":\"local-model\",\"x\":{}}\n\nevent: without-data\n\ndata:\n\nnothing\n\n";
    for variant in [
        text.replace('\n', "\r\n"),
        text.replace('\n', "\r"),
        text.replace("data: ", "data:"),
        text.replace("data: {\"id\"", "data: {\ndata: \"id\""),
        text.replace("data: {", "event: message\ndata: {"),
        format!("\u{feff}{text}"),
        format!(": hello\n\nid: 1\nretry: 5\n{text}"),
        format!("{unknown}{text}"),
        text.replacen("\n\n", &format!("\n\n{}", ": ping\n\n".repeat(2000)), 1),
        text.replace("data: [DONE]\n\n", ""),
        text.replace("data: [DONE]", "data: [DONE] "),
        text.replace("\"finish_reason\":null", "\"finish_reason\":\"\""),
        text.replace("\"finish_reason\":null", "\"finish_reason\":null,\"error\":null"),
        text.replace("\"choices\":[{\"index\":0,", "\"choices\":[{"),
        text.replace("\"content\":\"\"", "\"content\":null"),
        format!("{text}data: what comes after the end is not read"),
    ] {
        assert_eq!(told(Reply::sse(variant.clone())).await, greeting(), "{variant:.300}");
    }
}

#[tokio::test]
async fn no_way_to_cut_it_changes_it() {
    let escaped = body("openai-text").replace("🌧️", "\\ud83c\\udf27\\ufe0f").replace('\n', "\r\n");
    for size_bytes in [1, 2, 7, usize::MAX] {
        assert_eq!(told(Reply::sse(body("openai-text")).cut_every(size_bytes)).await, greeting());
        assert_eq!(told(Reply::sse(escaped.clone()).cut_every(size_bytes)).await, greeting());
    }
}

#[tokio::test]
async fn half_a_surrogate_pair_becomes_a_replacement_character() {
    let half = say("aX").replace('X', "\\ud83c");
    assert_eq!(told(Reply::sse(answer_of(&[half], "stop"))).await.text, "a\u{fffd}");
}

#[tokio::test]
async fn what_may_be_missing_or_null_or_new_is_tolerated() {
    for (parts, text) in [
        (vec![r#"{"choices":[{"delta":{"content":"Hi","newest":1},"finish_reason":"newest"}]}"#], "Hi"),
        (
            vec![
                r#"{"model":null,"choices":null,"usage":null}"#,
                r#"{"choices":[{"delta":{"content":"Hi"},"finish_reason":"newest"}]}"#,
            ],
            "Hi",
        ),
        (
            vec![
                r#"{"choices":[{"delta":{"content":[{"type":"text","text":"H"},{"type":"newest"},{"text":"i"}]},"finish_reason":"newest"}]}"#,
            ],
            "Hi",
        ),
        (vec![r#"{"choices":[{"delta":{"content":{"newest":1},"tool_calls":null},"finish_reason":"newest"}]}"#], ""),
        (
            vec![
                r#"{"choices":[{"delta":null,"finish_reason":"newest"}],"usage":{"prompt_tokens":null,"prompt_tokens_details":null}}"#,
            ],
            "",
        ),
        (vec![r#"{"choices":[{"delta":{"refusal":"Hi"},"finish_reason":"newest"}]}"#], "Hi"),
        (
            vec![
                r#"{"choices":[{"index":1,"delta":{"content":"another"}},{"index":0,"delta":{"content":"Hi"},"finish_reason":"newest"}]}"#,
            ],
            "Hi",
        ),
    ] {
        let told = told(Reply::sse(events(&parts))).await;
        assert_eq!((told.text.as_str(), told.reason()), (text, StopReason::Other), "{parts:?}");
        assert_eq!(told.end.unwrap().1, TokenUsage::default());
    }
}

#[tokio::test]
async fn an_answer_of_nothing_is_an_answer() {
    for parts in [vec![], vec![say("")], vec![chunk(&json!({"role": "assistant", "content": null}))], vec![say(" \n")]]
    {
        let told = told(Reply::sse(answer_of(&parts, "stop"))).await;
        assert_eq!((told.blocks.len(), told.reason()), (0, StopReason::EndTurn), "{parts:?}");
    }
    for message in [json!({}), json!({"content": null}), json!({"content": "", "tool_calls": []})] {
        let told = told(Reply::json(200, &whole(&message, "stop"))).await;
        assert_eq!((told.blocks.len(), told.reason()), (0, StopReason::EndTurn), "{message}");
    }
}

#[tokio::test]
async fn every_reason_to_end_is_told_apart() {
    for (name, reason) in [
        ("stop", StopReason::EndTurn),
        ("length", StopReason::MaxTokens),
        ("model_length", StopReason::ContextFull),
        ("content_filter", StopReason::Refused),
        ("tool_calls", StopReason::EndTurn),
        ("function_call", StopReason::EndTurn),
        ("eos_of_somebody", StopReason::Other),
    ] {
        let told = told(Reply::sse(answer_of(&[say("Hi")], name))).await;
        assert_eq!((told.text.as_str(), told.reason()), ("Hi", reason), "{name}");
    }
}

#[tokio::test]
async fn what_is_used_is_the_last_that_was_said() {
    let count = |parts: &[&str]| {
        let mut all = vec![say("Hi"), ends_with("stop")];
        all.extend(parts.iter().map(|part| (*part).to_owned()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        events(&all)
    };
    let usage = |input, output, cache_read| TokenUsage { input, output, cache_read, cache_write: 0 };
    let (first, last) = (used(5, 0, 1), used(9, 4, 7));
    for (parts, wanted) in [
        (vec![], usage(0, 0, 0)),
        (vec![first.as_str(), last.as_str(), END], usage(5, 7, 4)),
        (vec![last.as_str(), r#"{"choices":[],"usage":null}"#, END], usage(5, 7, 4)),
        (vec![r#"{"usage":{"prompt_tokens":3,"completion_tokens":2}}"#], usage(3, 2, 0)),
        // More from the cache than was read cannot be.
        (vec![r#"{"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":9}}}"#], usage(0, 0, 3)),
    ] {
        let told = told(Reply::sse(count(&parts))).await;
        assert_eq!(told.end, Some((StopReason::EndTurn, wanted)), "{parts:?}");
    }
}
