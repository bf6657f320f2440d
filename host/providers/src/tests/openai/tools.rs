//! Tools: what is asked for, what goes back, and what must not run.

use leanclaw_test_fakes::openai::COMPLETIONS;
use leanclaw_test_fakes::{End, Reply};
use leanclaw_types::model::{Block, StopReason, TokenUsage, ToolDefinition};
use serde_json::{Value, json};

use super::support::*;

fn calls(pieces: &Value) -> String {
    chunk(&json!({"tool_calls": pieces}))
}

/// The beginning of the use number `index`.
fn begin(index: u64, id: &str) -> String {
    calls(&json!([{"index": index, "id": id, "type": "function", "function": {"name": "n", "arguments": ""}}]))
}

fn more(index: u64, arguments: &str) -> String {
    calls(&json!([{"index": index, "function": {"arguments": arguments}}]))
}

fn tool(id: &str, input: Value) -> Block {
    Block::ToolUse { id: id.into(), name: "n".into(), input }
}

fn result_of(id: &str, is_error: bool) -> Block {
    Block::ToolResult { tool_use_id: id.into(), content: vec![Block::text("12 °C")], is_error }
}

async fn told_of(chunks: &[String], reason: &str) -> Told {
    told(Reply::sse(answer_of(chunks, reason))).await
}

async fn blocks_of(chunks: &[String]) -> Vec<Block> {
    let told = told_of(chunks, "tool_calls").await;
    assert_eq!(told.reason(), StopReason::ToolUse);
    told.blocks
}

#[tokio::test]
async fn a_loop_of_three_turns_is_one_that_a_server_accepts() {
    let setup = local().await;
    setup.answer_checked(Reply::sse(answer_of(&[say("Looking."), begin(0, "call_0"), more(0, "{}")], "tool_calls")));
    setup.answer_checked(Reply::sse(body("openai-tools"))).answer_checked(Reply::sse(body("openai-text")));
    let mut call = hello();
    call.tools =
        vec![ToolDefinition { name: "n".into(), description: "d".into(), input_schema: json!({"type": "object"}) }];
    let mut used = TokenUsage::default();
    for turn in 0..3 {
        let told = setup.tell(&call).await;
        assert_eq!(told.failure, None, "turn {turn}");
        used.add(&told.end.unwrap().1);
        let mut results = vec![Block::text("Here:")];
        results.extend(told.blocks.iter().filter_map(Block::use_id).map(|id| result_of(id, turn == 0)));
        call = went_on(call, told.blocks, results);
    }
    let asked = setup.asked();
    let messages = |turn: usize| asked[turn].json()["messages"].as_array().unwrap().clone();
    let roles =
        |turn: usize| messages(turn).iter().map(|one| one["role"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(roles(0), ["system", "user"]);
    assert_eq!(roles(1), ["system", "user", "assistant", "tool", "user"]);
    assert_eq!(roles(2)[5..], ["assistant", "tool", "tool", "user"]);
    assert_eq!(messages(2)[..5], messages(1)[..], "a conversation only grows");
    // An error has no mark of its own in this format: its words say it.
    assert_eq!(messages(1)[3], json!({"role": "tool", "tool_call_id": "call_0", "content": "12 °C"}));
    assert_eq!([6, 7].map(|at| messages(2)[at]["tool_call_id"].clone()), [json!("call_A"), json!("call_B")]);
    assert_eq!(messages(2)[5]["tool_calls"][0]["function"]["arguments"], r#"{"city":"Bern"}"#);
    assert_eq!(used, TokenUsage { input: 5 + 80 + 12, output: 5 + 31 + 6, cache_read: 4 + 8, cache_write: 0 });
}

#[tokio::test]
async fn an_input_of_nothing_is_an_empty_object() {
    assert_eq!(blocks_of(&[begin(0, "t")]).await, [tool("t", json!({}))]);
    assert_eq!(blocks_of(&[begin(0, "t"), more(0, " ")]).await, [tool("t", json!({}))]);
    let absent = calls(&json!([{"index": 0, "id": "t", "function": {"name": "n"}}]));
    assert_eq!(blocks_of(&[absent]).await, [tool("t", json!({}))]);
}

#[tokio::test]
async fn an_input_that_is_no_object_cannot_run_and_can_be_answered() {
    for text in ["{\"a\":", "[1]", "\"x\""] {
        let blocks = blocks_of(&[begin(0, "t"), more(0, text)]).await;
        let [Block::InvalidToolUse { id, name, text: kept, problem }] = blocks.as_slice() else { panic!("{blocks:?}") };
        assert_eq!((id.as_str(), name.as_str(), kept.as_str()), ("t", "n", text));
        assert!(problem.starts_with("The input is not "), "{problem}");
    }
    // The model is told, by a result that the server accepts.
    let setup = local().await;
    setup.answer_checked(Reply::sse(answer_of(&[begin(0, "t"), more(0, "{\"a\":")], "tool_calls")));
    setup.answer_checked(Reply::sse(greets()));
    let told = setup.ask().await;
    let next = went_on(hello(), told.blocks, vec![result_of("t", true)]);
    assert_eq!(setup.tell(&next).await.text, "Hi");
    assert_eq!(setup.asked()[1].json()["messages"][2]["tool_calls"][0]["function"]["arguments"], "{}");
}

#[tokio::test]
async fn every_way_to_number_the_pieces_puts_them_together() {
    let whole = |index: Value, id: Value, arguments: Value| {
        let mut call = json!({"index": index, "id": id, "function": {"name": "n", "arguments": arguments}});
        call.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        call
    };
    let two = [tool("t", json!({"a": 1})), tool("u", json!({"b": 2}))];
    let (first, second) = (json!("{\"a\":1}"), json!("{\"b\":2}"));
    for chunks in [
        // In one delta; in two; without numbers; all with the same number.
        vec![calls(&json!([whole(json!(0), json!("t"), first.clone()), whole(json!(1), json!("u"), second.clone())]))],
        vec![
            calls(&json!([whole(Value::Null, json!("t"), first.clone())])),
            calls(&json!([whole(Value::Null, json!("u"), second.clone())])),
        ],
        vec![calls(&json!([whole(json!(0), json!("t"), first.clone()), whole(json!(0), json!("u"), second.clone())]))],
        // Numbered from 1, out of order in time, the name and the id with every piece.
        vec![
            calls(&json!([whole(json!(1), json!("t"), json!("{\"a\""))])),
            calls(&json!([whole(json!(2), json!("u"), json!("{"))])),
            calls(&json!([whole(json!(1), json!("t"), json!(":1}"))])),
            calls(&json!([whole(json!(2), json!("u"), json!("\"b\":2}"))])),
        ],
        // Pieces that say only the id, or nothing.
        vec![
            calls(&json!([whole(Value::Null, json!("t"), json!("{\"a\""))])),
            calls(&json!([{"function": {"arguments": ":"}}])),
            calls(&json!([whole(Value::Null, json!("u"), json!("{\"b\":"))])),
            calls(&json!([{"id": "t", "function": {"arguments": "1}"}}])),
            calls(&json!([{"id": "u", "function": {"arguments": "2}"}}])),
        ],
        // Not in a string.
        vec![calls(&json!([
            whole(json!(0), json!("t"), json!({"a": 1})),
            whole(json!(1), json!("u"), json!({"b": 2})),
        ]))],
    ] {
        assert_eq!(blocks_of(&chunks).await, two, "{chunks:?}");
    }
    let old = chunk(&json!({"function_call": {"name": "n", "arguments": "{\"a\":"}}));
    let rest = chunk(&json!({"function_call": {"arguments": "1}"}}));
    let blocks = told_of(&[old, rest], "function_call").await;
    assert_eq!(blocks.reason(), StopReason::ToolUse);
    let [Block::ToolUse { input, .. }] = blocks.blocks.as_slice() else { panic!("{blocks:?}") };
    assert_eq!(*input, json!({"a": 1}));
}

#[tokio::test]
async fn tools_count_whatever_the_reason_is_called() {
    for reason in ["stop", "tool_calls", "function_call"] {
        let told = told_of(&[begin(0, "t")], reason).await;
        assert_eq!((told.reason(), told.blocks), (StopReason::ToolUse, vec![tool("t", json!({}))]), "{reason}");
    }
}

#[tokio::test]
async fn each_use_has_an_id_of_its_own() {
    let ids = |blocks: &[Block]| blocks.iter().filter_map(Block::use_id).map(str::to_owned).collect::<Vec<_>>();
    let nameless = json!([{"function": {"name": "n"}}, {"id": "", "function": {"name": "n"}}, {"id": "t", "function": {"name": "n"}}]);
    let found = ids(&blocks_of(&[calls(&nameless)]).await);
    assert!(found.len() == 3 && found[0] != found[1] && found[2] == "t", "{found:?}");
    assert!(found[..2].iter().all(|id| id.len() > "call_".len() && id.starts_with("call_")), "{found:?}");
    // The same id for two uses of one answer, and again in the next.
    let twice = [begin(0, "t"), begin(1, "t")];
    let found = ids(&blocks_of(&twice).await);
    assert!(found[0] == "t" && found[1] != "t", "{found:?}");
    let setup = local().await;
    for _ in 0..2 {
        setup.answer_checked(Reply::sse(answer_of(&[begin(0, "t")], "tool_calls")));
    }
    let first = setup.ask().await.blocks;
    let again = setup.tell(&went_on(hello(), first.clone(), vec![result_of("t", false)])).await.blocks;
    assert_eq!(ids(&first), ["t"]);
    assert_ne!(ids(&again), ["t"]);
}

#[tokio::test]
async fn a_use_without_a_name_is_an_error() {
    let told =
        told_of(&[calls(&json!([{"index": 0, "id": "t", "function": {"arguments": "{}"}}]))], "tool_calls").await;
    assert!(told.failure().message.contains("no name"), "{}", told.failure().message);
}

#[tokio::test]
async fn a_tool_that_was_cut_off_does_not_run() {
    for reason in ["length", "content_filter", "model_length"] {
        for text in ["{\"a\": 1", "{\"a\": 1}"] {
            let told = told_of(&[begin(0, "t"), more(0, text)], reason).await;
            assert_eq!((told.blocks.len(), told.failure), (0, None), "{reason}");
        }
        let told = told_of(&[begin(0, "t"), begin(1, "u")], reason).await;
        assert_eq!(told.blocks, [tool("t", json!({}))], "only the last was being written");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_within_a_tool_gives_no_tool() {
    let begun = events(&[&say("Hi"), &begin(0, "t"), &more(0, "{\"a\"")]);
    let whole = events(&[&say("Hi"), &begin(0, "t"), &more(0, "{\"a\":1}")]);
    for text in [begun, whole] {
        for end in [End::Whole, End::Close] {
            let told = told(Reply::sse(text.clone()).end(end)).await;
            assert_eq!((told.text.as_str(), told.blocks.len()), ("Hi", 0));
            assert_eq!(told.failure().code, "unavailable");
        }
    }
    // With nothing seen it is asked again.
    let setup = local().await;
    setup.answer_checked(Reply::sse(events(&[&begin(0, "t")]))).answer_checked(Reply::sse(greets()));
    assert_eq!((setup.ask().await.text.as_str(), setup.asked().len()), ("Hi", 2));
}

#[tokio::test]
async fn white_space_before_tools_is_no_block() {
    let told = told_of(&[say("\n\n"), begin(0, "t")], "tool_calls").await;
    assert_eq!(told.blocks, [tool("t", json!({}))]);
}

#[tokio::test]
async fn a_huge_input_is_put_together() {
    let long = "x".repeat(8 * 1024 * 1024);
    let text = json!({"a": long}).to_string();
    let mut chunks = vec![begin(0, "t")];
    chunks.extend(text.as_bytes().chunks(1000).map(|part| more(0, std::str::from_utf8(part).unwrap())));
    let begun = std::time::Instant::now();
    assert_eq!(blocks_of(&chunks).await, [tool("t", json!({"a": long}))]);
    // What grows with the square of the length takes minutes here.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_would_refuse_is_not_asked_in_vain() {
    // Held to the rules by the same call with a result that answers nothing.
    let setup = local().await;
    setup.answer_checked(Reply::sse(greets()));
    let stray = went_on(hello(), vec![Block::text("a")], vec![result_of("t", false)]);
    let failure = setup.tell(&stray).await.failure.unwrap();
    assert!(failure.message.contains("must be a response"), "{}", failure.message);
    assert_eq!(setup.asked()[0].path, COMPLETIONS);
}
