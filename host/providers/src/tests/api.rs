//! What is Anthropic's alone: its versions, its list of models, counting, its cache.

use leanclaw_test_fakes::Reply;
use leanclaw_test_fakes::anthropic::{MESSAGES, check, error};
use leanclaw_types::failure::code;
use leanclaw_types::model::{Block, Role, Thinking};
use serde_json::{Value, json};

use super::support::*;
use crate::Provider;
use crate::anthropic::ApiVersion;

#[tokio::test]
async fn both_versions_accept_what_is_sent() {
    for (version, name) in [(ApiVersion::V20230601, "2023-06-01"), (ApiVersion::V20261021, "2026-10-21")] {
        let setup = setup_with(Options { version, ..Options::default() }).await;
        setup.server.always("POST", MESSAGES, |request| match check(request, &[]) {
            Ok(_) => Reply::sse(hi()),
            Err(refusal) => *refusal,
        });
        for thinking in [None, Some(Thinking::Adaptive), Some(Thinking::High)] {
            let mut call = hello();
            call.thinking = thinking;
            assert_eq!(setup.tell(&call).await.failure, None, "{name} {thinking:?}");
        }
        let asked = &setup.asked()[1];
        assert_eq!(asked.header("anthropic-version"), Some(name));
        assert_eq!(asked.header("content-type"), Some("application/json"));
        let sent = asked.json();
        assert_eq!((&sent["stream"], &sent["system"]), (&json!(true), &json!("Be terse.")));
        assert_eq!(sent["cache_control"], json!({"type": "ephemeral"}));
        assert_eq!(sent["thinking"], json!({"type": "adaptive", "display": "summarized"}));
        assert_eq!(setup.asked()[2].json()["output_config"], json!({"effort": "high"}));
    }
}

#[tokio::test]
async fn a_prefilled_answer_is_refused_before_it_is_sent() {
    let setup = setup().await;
    let prefilled = call(vec![(Role::User, vec![Block::text("a")]), (Role::Assistant, vec![Block::text("b")])]);
    let failure = setup.provider.stream(&prefilled, soon()).await.unwrap_err();
    assert_eq!((failure.code.as_str(), setup.asked().len()), (code::INVALID_INPUT, 0));
}

#[tokio::test]
async fn thinking_that_was_changed_is_refused_and_the_refusal_surfaces() {
    let kept = r#"{"type":"thinking","thinking":"a","signature":"b"}"#;
    let setup = setup().await;
    let turn = |raw: &str| {
        let block = Block::Kept { provider: "anthropic".into(), raw: raw.into(), shown: "a".into() };
        call(vec![
            (Role::User, vec![Block::text("a")]),
            (Role::Assistant, vec![block, Block::text("c")]),
            (Role::User, vec![Block::text("d")]),
        ])
    };
    setup.server.always("POST", MESSAGES, move |request| match check(request, &[kept]) {
        Ok(_) => Reply::sse(hi()),
        Err(refusal) => *refusal,
    });
    assert_eq!(setup.tell(&turn(kept)).await.text, "Hi");
    let told = setup.tell(&turn(&kept.replace(':', ": "))).await;
    assert!(told.failure().message.contains("thinking blocks"), "{:?}", told.failure);
}

#[tokio::test]
async fn the_cache_is_written_once_and_read_after() {
    let setup = setup().await;
    let start = |written: u64, read: u64| {
        let usage = json!({"input_tokens": 3, "output_tokens": 1, "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read});
        json!({"type": "message_start", "message": {"model": "m", "usage": usage}}).to_string()
    };
    for start in [start(900, 0), start(20, 900)] {
        setup.answer(Reply::sse(events(&[&start, TEXT_START, TEXT, BLOCK_STOP, &ends("end_turn"), STOP])));
    }
    let mut used = setup.ask().await.end.unwrap().1;
    used.add(&setup.ask().await.end.unwrap().1);
    assert_eq!((used.input, used.cache_write, used.cache_read), (6, 920, 900));
    let asked = setup.asked();
    assert_eq!(asked[0].body, asked[1].body, "the same call is the same bytes");
}

#[tokio::test]
async fn limits_of_a_subscription_surface_as_a_limit() {
    let setup = setup().await;
    let reply = error(429, "rate_limit_error", "This request would exceed your account's rate limit.")
        .header("anthropic-ratelimit-unified-status", "rejected")
        .header("anthropic-ratelimit-unified-5h-utilization", "1.02")
        .header("retry-after", "7200");
    let failure = setup.answer(reply).refusal().await;
    assert_eq!((failure.code.as_str(), failure.retry_after_ms), (code::RATE_LIMITED, Some(7_200_000)));
}

#[tokio::test]
async fn a_path_before_the_route_is_kept() {
    let setup = setup_with(Options { path: "/gateway/anthropic/", ..Options::default() }).await;
    setup.server.push("POST", "/gateway/anthropic/v1/messages", Reply::sse(hi()));
    assert_eq!(setup.ask().await.text, "Hi");
}

#[tokio::test]
async fn tokens_are_counted_for_the_same_call() {
    let setup = setup().await;
    let route = "/v1/messages/count_tokens";
    setup.server.push("POST", route, error(529, "overloaded_error", "Overloaded"));
    setup.server.push("POST", route, Reply::json(200, &json!({"input_tokens": 2095, "newest": 1})));
    assert_eq!(setup.provider.count_tokens(&hello(), soon()).await.unwrap(), 2095);
    let sent = setup.asked()[1].json();
    assert!(sent.get("max_tokens").is_none() && sent.get("stream").is_none(), "{sent}");
    assert_eq!(sent["messages"], json!([{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]));
    setup.server.push("POST", route, Reply::json(200, &json!({"tokens": 1})));
    let failure = setup.provider.count_tokens(&hello(), soon()).await.unwrap_err();
    assert!(failure.message.contains("input_tokens"), "{}", failure.message);
}

fn model(id: &str, capabilities: Value) -> Value {
    json!({"type": "model", "id": id, "display_name": format!("Claude {id}"), "max_input_tokens": 1_000_000,
        "max_tokens": 128_000, "retires_at": null, "capabilities": capabilities})
}

#[tokio::test]
async fn models_are_listed_page_by_page() {
    let supported = |yes: bool| json!({"supported": yes});
    let types = json!({"adaptive": supported(true), "disabled": supported(false), "between_tools": supported(true)});
    let capable = json!({"image_input": supported(true), "effort": supported(true), "thinking": {"types": types}});
    let first = json!({"data": [model("new", capable)], "has_more": true, "last_id": "new"});
    let second = json!({"data": [{"id": "old"}, model("null", Value::Null)], "has_more": false, "last_id": "null"});
    let setup = setup().await;
    setup.server.push("GET", "/v1/models", Reply::json(200, &first));
    setup.server.push("GET", "/v1/models", Reply::json(200, &second));
    let models = setup.provider.models(soon()).await.unwrap();
    let asked = setup.asked();
    assert_eq!(
        asked.iter().map(|request| request.query.as_str()).collect::<Vec<_>>(),
        ["limit=1000", "limit=1000&after_id=new"]
    );
    assert_eq!((asked[0].header("x-api-key"), asked[0].header("content-type")), (Some(KEY), None));
    let listed = serde_json::to_value(&models).unwrap();
    let whole = json!({"id": "new", "name": "Claude new", "contextTokens": 1_000_000, "maxOutputTokens": 128_000,
        "takesImages": true});
    assert_eq!((&listed[0], &listed[1]), (&whole, &json!({"id": "old", "name": "old"})));
    assert_eq!(models[2].takes_images, None);
    // What the list says of a model decides how it is asked.
    let mut call = hello();
    (call.model, call.thinking) = ("new".into(), Some(Thinking::Off));
    assert_eq!(setup.answer(Reply::sse(hi())).tell(&call).await.text, "Hi");
    assert_eq!(setup.asked()[2].json()["thinking"], json!({"type": "between_tools"}));
}

#[tokio::test]
async fn a_list_that_does_not_end_is_left() {
    let setup = setup().await;
    let page = json!({"data": [{"id": "same"}], "has_more": true, "last_id": "same"});
    setup.server.always("GET", "/v1/models", move |_| Reply::json(200, &page));
    assert_eq!(setup.provider.models(soon()).await.unwrap().len(), 2);
    setup.server.push("GET", "/v1/models", error(403, "permission_error", "no"));
    assert_eq!(setup.provider.models(soon()).await.unwrap_err().code, code::DENIED);
}
