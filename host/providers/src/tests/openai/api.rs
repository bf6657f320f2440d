//! What such servers have of their own: addresses, keys or none, their list of models, and what is sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use leanclaw_test_fakes::Reply;
use leanclaw_test_fakes::openai::{COMPLETIONS, MODELS, check, error};
use leanclaw_types::failure::code;
use leanclaw_types::model::{Block, Role, Thinking};
use leanclaw_types::redact::Secret;
use serde_json::{Value, json};

use super::support::*;
use crate::openai::{OpenAi, OpenAiSettings};
use crate::{Credential, Provider, Timeouts};

async fn with_credential(credential: Credential) -> Setup<OpenAi> {
    local_with(Wanted { credential, ..Wanted::default() }).await
}

#[tokio::test]
async fn what_is_sent_is_what_a_server_accepts() {
    let setup = local().await;
    setup.answer_checked(Reply::sse(greets())).answer_checked(Reply::sse(greets()));
    let image = Block::Image { media_type: "image/png".into(), data: "AA==".into() };
    let mut with_image = call(vec![(Role::User, vec![Block::text("What is it?"), image])]);
    with_image.thinking = Some(Thinking::High);
    assert_eq!(setup.tell(&with_image).await.failure, None);
    assert_eq!(setup.ask().await.failure, None);
    let asked = &setup.asked()[0];
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(asked.header("user-agent"), Some(concat!("leanclaw/", env!("CARGO_PKG_VERSION"))));
    let sent = asked.json();
    assert_eq!((&sent["stream"], &sent["stream_options"]), (&json!(true), &json!({"include_usage": true})));
    assert_eq!((&sent["max_tokens"], &sent["reasoning_effort"]), (&json!(1000), &json!("high")));
    assert_eq!(sent["messages"][0], json!({"role": "system", "content": "Be terse."}));
    let parts = json!([{"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]);
    assert_eq!(sent["messages"][1], json!({"role": "user", "content": parts}));
    assert_eq!(setup.asked()[1].json()["messages"][1], json!({"role": "user", "content": "Hello"}));
}

#[tokio::test]
async fn a_server_that_asks_nobody_is_shown_nothing() {
    let setup = local().await;
    setup.answer_checked(Reply::sse(greets()));
    setup.server.push("GET", MODELS, Reply::json(200, &json!({"data": []})));
    assert_eq!(setup.ask().await.text, "Hi");
    assert_eq!(setup.provider.models(soon()).await.unwrap(), []);
    assert!(setup.asked().iter().all(|request| request.header("authorization").is_none()));
    // One that asks after all says so, and so does what helps.
    setup.server.push_with("POST", COMPLETIONS, |request| *check(request, Some("k")).unwrap_err());
    let failure = setup.refusal().await;
    assert_eq!((failure.code.as_str(), setup.asked().len()), (code::AUTH_REQUIRED, 3));
    assert_eq!(failure.hints, ["Local server wants a key: set LEANCLAW_LOCAL_LLM_API_KEY"]);
}

#[tokio::test]
async fn a_key_goes_out_as_a_bearer_and_an_empty_one_not_at_all() {
    let secret = || Secret::new(SERVER_KEY);
    for credential in [Credential::Key(secret()), Credential::BearerKey(secret()), Credential::Token(secret())] {
        let setup = with_credential(credential).await;
        setup.server.push_with("POST", COMPLETIONS, |request| match check(request, Some(SERVER_KEY)) {
            Ok(_) => Reply::sse(greets()),
            Err(refusal) => *refusal,
        });
        assert_eq!(setup.ask().await.text, "Hi");
        assert!(!format!("{:?} {:?}", setup.provider, setup.server).contains(SERVER_KEY), "nothing shows it");
    }
    let setup = with_credential(Credential::Key(Secret::new(""))).await;
    assert_eq!((setup.refusal().await.code.as_str(), setup.asked().len()), (code::AUTH_REQUIRED, 0));
}

#[tokio::test]
async fn a_key_that_is_refused_is_renewed_once() {
    let server = leanclaw_test_fakes::FakeServer::start().await.unwrap();
    let base_url: url::Url = server.url().parse().unwrap();
    let key = |text: &str| Credential::Key(Secret::new(text));
    let renewed = Arc::new(Renewed {
        left: Mutex::new(vec![Ok(Some(key("new-key"))), Ok(Some(key("other")))]),
        now: Mutex::new(key("old-key")),
        renewals: AtomicUsize::new(0),
    });
    let means = means(&base_url, renewed.clone(), soon_again(), Timeouts::default());
    let provider = Arc::new(OpenAi::new(OpenAiSettings::new(base_url, "URL"), means).unwrap());
    server.always("POST", COMPLETIONS, |request| match check(request, Some("new-key")) {
        Ok(_) => Reply::sse(greets()),
        Err(refusal) => *refusal,
    });
    let calls = (0..20).map(|_| {
        let provider = Arc::clone(&provider);
        tokio::spawn(async move { tell(&*provider, &hello()).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().text, "Hi");
    }
    assert_eq!((renewed.renewals.load(Ordering::SeqCst), server.requests().len()), (1, 40));
    // A second refusal is final.
    server.always("POST", COMPLETIONS, |_| error(401, "invalid_request_error", Some("invalid_api_key"), "no"));
    assert_eq!(tell(&*provider, &hello()).await.failure().code, code::AUTH_REQUIRED);
    assert_eq!(server.requests().len(), 42);
}

#[tokio::test]
async fn the_address_may_end_in_every_way() {
    for path in ["", "/", "/v1", "/v1/", "/v1//"] {
        let setup = local_with(Wanted { path, ..Wanted::default() }).await;
        setup.answer_checked(Reply::sse(greets()));
        setup.server.push("GET", MODELS, Reply::json(200, &json!({"data": [{"id": "m"}]})));
        assert_eq!(setup.ask().await.text, "Hi", "{path}");
        assert_eq!(setup.provider.models(soon()).await.unwrap().len(), 1, "{path}");
    }
    let setup = local_with(Wanted { path: "/gateway/openai", ..Wanted::default() }).await;
    setup.server.push("POST", "/gateway/openai/v1/chat/completions", Reply::sse(greets()));
    assert_eq!(setup.ask().await.text, "Hi");
}

#[tokio::test]
async fn an_address_of_no_web_server_is_refused() {
    for address in ["unix:/run/llm.sock", "mailto:a@b", "file:///v1"] {
        let base_url: url::Url = address.parse().unwrap();
        let means = means(&base_url, fixed(Credential::None), soon_again(), Timeouts::default());
        let failure = OpenAi::new(OpenAiSettings::new(base_url, "LEANCLAW_LOCAL_LLM_BASE_URL"), means).unwrap_err();
        assert_eq!(failure.code, code::INVALID_INPUT);
        assert!(failure.hints[0].contains("LEANCLAW_LOCAL_LLM_BASE_URL"), "{:?}", failure.hints);
    }
}

#[tokio::test]
async fn models_are_listed_with_what_the_server_adds() {
    let setup = local().await;
    let list = |data: Value| Reply::json(200, &json!({"object": "list", "data": data}));
    setup.server.push("GET", MODELS, list(json!([
        {"id": "qwen", "object": "model", "created": 1, "owned_by": "vllm", "max_model_len": 8192},
        {"id": "meta/llama", "name": "Llama", "context_length": 131_072, "top_provider": {"max_completion_tokens": 4096},
            "architecture": {"input_modalities": ["text", "image"]}},
        {"id": "plain", "max_model_len": null, "architecture": {"input_modalities": ["text"]}},
        {"object": "model"},
        {"id": ""},
    ])));
    let listed = serde_json::to_value(setup.provider.models(soon()).await.unwrap()).unwrap();
    let wanted = json!([
        {"id": "qwen", "name": "qwen", "contextTokens": 8192},
        {"id": "meta/llama", "name": "Llama", "contextTokens": 131_072, "maxOutputTokens": 4096, "takesImages": true},
        {"id": "plain", "name": "plain", "takesImages": false},
    ]);
    assert_eq!((listed, setup.asked()[0].header("content-type")), (wanted, None));
    // What the list says of a model's room bounds what it is asked for.
    let mut call = hello();
    (call.model, call.max_tokens) = ("qwen".into(), 32_000);
    assert_eq!(setup.answer_checked(Reply::sse(greets())).tell(&call).await.text, "Hi");
    assert_eq!(setup.asked()[1].json()["max_tokens"], 4096);
}

#[tokio::test]
async fn a_list_of_nothing_is_a_list_and_what_is_none_is_an_error() {
    let setup = local().await;
    for body in [json!({"object": "list", "data": []}), json!({"data": null}), json!({})] {
        setup.server.push("GET", MODELS, Reply::json(200, &body));
        assert_eq!(setup.provider.models(soon()).await.unwrap(), [], "{body}");
    }
    setup.server.push("GET", MODELS, Reply::html(200, "<html>"));
    assert_eq!(setup.provider.models(soon()).await.unwrap_err().code, code::UNAVAILABLE);
    setup.server.push("GET", MODELS, error(403, "permission_error", None, "no"));
    assert_eq!(setup.provider.models(soon()).await.unwrap_err().code, code::DENIED);
}

#[tokio::test]
async fn tokens_are_not_counted_before_an_answer() {
    let setup = local().await;
    let failure = setup.provider.count_tokens(&hello(), soon()).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable, setup.asked().len()), (code::UNSUPPORTED, false, 0));
}

#[tokio::test]
async fn a_prefilled_answer_is_refused_before_it_is_sent() {
    let setup = local().await;
    let prefilled = call(vec![(Role::User, vec![Block::text("a")]), (Role::Assistant, vec![Block::text("b")])]);
    let failure = setup.provider.stream(&prefilled, soon()).await.unwrap_err();
    assert_eq!((failure.code.as_str(), setup.asked().len()), (code::INVALID_INPUT, 0));
}

#[tokio::test]
async fn the_same_call_is_the_same_bytes() {
    let setup = local().await;
    setup.answer_checked(Reply::sse(greets())).answer_checked(Reply::sse(greets()));
    let first = setup.ask().await.end.unwrap().1;
    assert_eq!((first.input, first.cache_read), (5, 4));
    setup.ask().await;
    let asked = setup.asked();
    assert_eq!(asked[0].body, asked[1].body);
}

#[tokio::test]
async fn a_provider_has_the_id_and_the_name_it_is_given() {
    assert_eq!(local().await.provider.id(), "local");
    let server = leanclaw_test_fakes::FakeServer::start().await.unwrap();
    let base_url: url::Url = server.url().parse().unwrap();
    let means = means(&base_url, fixed(Credential::None), soon_again(), Timeouts::default());
    let settings =
        OpenAiSettings { id: "openrouter".into(), name: "OpenRouter".into(), ..OpenAiSettings::new(base_url, "URL") };
    let provider = OpenAi::new(settings, means).unwrap();
    server.push("POST", COMPLETIONS, error(404, "not_found_error", Some("model_not_found"), "no such model"));
    let failure = provider.stream(&hello(), soon()).await.unwrap_err();
    assert_eq!((provider.id(), failure.extra.unwrap()["provider"].as_str()), ("openrouter", Some("openrouter")));
    assert_eq!(failure.message, "OpenRouter answered 404 (Not Found): no such model");
}
