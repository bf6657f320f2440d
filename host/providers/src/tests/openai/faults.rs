//! Answers that break, servers that refuse, and what is tried again.

use std::time::{Duration, Instant};

use leanclaw_test_fakes::openai::error;
use leanclaw_test_fakes::{End, FakeServer, Reply};
use leanclaw_types::failure::code;
use leanclaw_types::redact::Secret;
use serde_json::{Value, json};

use super::support::*;
use crate::{Credential, Provider};

fn partial() -> String {
    events(&[&say("Hi")])
}

#[tokio::test]
async fn a_stream_that_ends_early_is_an_error_with_what_came() {
    let cut_line = format!("{}data: {{\"choices\":[{{\"del", partial());
    let counted = events(&[&say("Hi"), &used(9, 4, 1)]);
    let unfinished_reason = format!("{}data: {}", partial(), ends_with("stop"));
    for (text, ends, read) in [
        (partial(), [End::Whole, End::Close], 0),
        (cut_line, [End::Whole, End::Close], 0),
        (counted, [End::Whole, End::Close], 5),
        (unfinished_reason, [End::Whole, End::Close], 0),
        // The answer is whole then, but nobody can know that no more of it was on its way.
        (events(&[&say("Hi"), &ends_with("stop")]), [End::Close, End::Close], 0),
    ] {
        for end in ends {
            let setup = local().await;
            let told = setup.answer_checked(Reply::sse(text.clone()).end(end)).ask().await;
            assert_eq!(told.text, "Hi");
            let failure = told.failure();
            assert_eq!((failure.code.as_str(), failure.retryable), (code::UNAVAILABLE, false), "{text} {end:?}");
            assert_eq!(told.extra()["usage"]["input"], read);
            assert_eq!(setup.asked().len(), 1, "what was seen is not asked for again");
        }
    }
}

#[tokio::test]
async fn an_end_without_a_reason_is_an_error() {
    for told in [
        told(Reply::sse(events(&[&say("Hi"), END]))).await,
        told(Reply::sse(events(&[&say("Hi"), &ends_with(""), END]))).await,
        told(Reply::sse(events(&[END]))).await,
        told(Reply::json(200, &json!({"choices": [{"message": {"content": "Hi"}, "finish_reason": null}]}))).await,
    ] {
        assert_eq!(told.failure().code, code::UNAVAILABLE);
        assert!(told.failure().message.contains("without a reason"), "{}", told.failure().message);
    }
}

#[tokio::test]
async fn a_server_that_gives_up_is_an_error() {
    for reason in ["error", "abort"] {
        let told = told(Reply::sse(answer_of(&[say("Hi")], reason))).await;
        assert_eq!((told.text.as_str(), told.failure().code.as_str()), ("Hi", code::UNAVAILABLE));
        assert_eq!(told.extra()["errorType"], reason);
    }
}

#[tokio::test]
async fn a_stream_that_ends_before_anything_was_seen_is_asked_for_again() {
    let role = chunk(&json!({"role": "assistant", "content": ""}));
    for begun in [String::new(), events(&[&role])] {
        for end in [End::Whole, End::Close, End::Reset] {
            let setup = local().await;
            setup.answer_checked(Reply::sse(begun.clone()).end(end)).answer_checked(Reply::sse(greets()));
            assert_eq!(setup.ask().await.text, "Hi");
            assert_eq!(setup.asked().len(), 2);
        }
    }
}

#[tokio::test]
async fn a_reset_in_the_middle_is_not_tried_again() {
    let setup = local().await;
    let reply = Reply::sse(partial()).after(Duration::from_millis(30), ": \n").end(End::Reset);
    let told = setup.answer_checked(reply).ask().await;
    assert_eq!((told.text.as_str(), told.failure().code.as_str()), ("Hi", code::UNAVAILABLE));
    assert!(!told.failure().retryable);
    assert_eq!(setup.asked().len(), 1);
}

#[tokio::test]
async fn a_reset_before_the_answer_sends_the_same_again() {
    let setup = local().await;
    setup.answer(Reply::reset()).answer(Reply::reset()).answer_checked(Reply::sse(greets()));
    assert_eq!(setup.ask().await.text, "Hi");
    let asked = setup.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|request| request.body == asked[0].body && request.headers == asked[0].headers));
}

#[tokio::test]
async fn a_server_that_says_when_is_asked_again_then() {
    let limited = || error(429, "requests", Some("rate_limit_exceeded"), "Slow down.");
    let setup = local().await;
    setup.answer(limited().header("retry-after", "2")).answer_checked(Reply::sse(greets()));
    assert_eq!(setup.ask().await.text, "Hi");
    let asked = setup.asked();
    let waited = asked[1].arrived - asked[0].arrived;
    assert!(asked.len() == 2 && waited >= Duration::from_secs(2), "{waited:?}");
    // The clock of the tests says 20:00:00.
    for (name, value) in [("retry-after", "Mon, 23 Nov 2026 20:00:00 GMT"), ("retry-after-ms", "30"), ("x", "absent")] {
        let setup = local().await;
        let begun = Instant::now();
        setup.answer(limited().header(name, value)).answer_checked(Reply::sse(greets()));
        assert_eq!(setup.ask().await.text, "Hi", "{name}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
    for value in ["3600", "Mon, 23 Nov 2026 21:00:00 GMT"] {
        let setup = local().await;
        let failure = setup.answer(limited().header("retry-after", value)).refusal().await;
        assert_eq!((failure.code.as_str(), failure.retryable), (code::RATE_LIMITED, true));
        assert_eq!((failure.retry_after_ms, setup.asked().len()), (Some(3_600_000), 1));
        assert_eq!(failure.extra.unwrap()["errorCode"], "rate_limit_exceeded");
    }
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_a_few_times() {
    for status in [408, 409, 429, 500, 502, 503, 504, 529] {
        let setup = local().await;
        let page = || Reply::html(status, "<html>Bad\u{1b}[2J Gateway</html>").header("x-request-id", "req_9");
        setup.answer(page()).answer(page()).answer(page()).answer(page());
        let failure = setup.refusal().await;
        assert_eq!(setup.asked().len(), 3, "{status}");
        assert!(failure.retryable && !failure.hints.is_empty(), "{failure:?}");
        assert!(failure.message.contains("<html>Bad\\u{1b}[2J Gateway"), "{}", failure.message);
        let extra = failure.extra.unwrap();
        assert_eq!(extra, json!({"provider": "local", "status": status, "requestId": "req_9", "attempts": 3}));
    }
}

#[tokio::test]
async fn a_server_that_still_loads_its_model_is_waited_for() {
    let loading = json!({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}});
    let setup = local().await;
    setup.answer(Reply::json(503, &loading)).answer(Reply::json(503, &loading)).answer_checked(Reply::sse(greets()));
    let begun = Instant::now();
    assert_eq!((setup.ask().await.text.as_str(), setup.asked().len()), ("Hi", 3));
    // Four times the first pause of the tests, and then the longest, each at most a quarter shorter.
    assert!(begun.elapsed() >= Duration::from_millis(12 + 15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_word_of_the_server_on_asking_again_counts() {
    let setup = local().await;
    let failure =
        setup.answer(error(500, "server_error", None, "no").header("x-should-retry", "false")).refusal().await;
    assert_eq!((setup.asked().len(), failure.retryable), (1, false));
    setup.answer(error(400, "invalid_request_error", None, "once more").header("x-should-retry", "true"));
    setup.answer_checked(Reply::sse(greets()));
    assert_eq!(setup.ask().await.text, "Hi");
}

#[tokio::test]
async fn a_refusal_says_what_helps_and_hides_the_key() {
    let long = format!("bad {SERVER_KEY}\n{}", "x".repeat(5000));
    for (status, kind, code_of, hint) in [
        (400, "invalid_request_error", code::INVALID_INPUT, "request id"),
        (401, "invalid_request_error", code::AUTH_REQUIRED, "set a valid key: LEANCLAW_LOCAL_LLM_API_KEY"),
        (402, "insufficient_credits", code::BUDGET_EXHAUSTED, "credit"),
        (403, "permission_error", code::DENIED, "right"),
        (404, "not_found_error", code::NOT_FOUND, "LEANCLAW_LOCAL_LLM_BASE_URL"),
        (413, "request_too_large", code::TOO_LARGE, "compact"),
        (422, "invalid_request_error", code::INVALID_INPUT, "request id"),
    ] {
        let credential = Credential::Key(Secret::new(SERVER_KEY));
        let setup = local_with(Wanted { credential, ..Wanted::default() }).await;
        let failure = setup.answer(error(status, kind, Some("c"), &long)).refusal().await;
        assert_eq!((failure.code.as_str(), failure.retryable, setup.asked().len()), (code_of, false, 1), "{status}");
        assert!(failure.hints[0].contains(hint), "{:?}", failure.hints);
        assert!(failure.message.contains("bad [redacted]\\nxxx") && failure.message.len() < 700, "{}", failure.message);
        assert!(!format!("{failure:?}").contains(SERVER_KEY));
        let known = json!({"provider": "local", "status": status, "errorType": kind, "errorCode": "c",
            "requestId": "req_fake", "attempts": 1});
        assert_eq!(failure.extra.unwrap(), known);
    }
}

#[tokio::test]
async fn errors_nested_and_flat_and_as_words_are_read() {
    for body in [
        json!({"error": {"code": 400, "message": "Told so.", "type": "invalid_request_error"}}),
        json!({"object": "error", "message": "Told so.", "type": "BadRequestError", "param": null, "code": 400}),
        json!({"error": "Told so."}),
        json!({"detail": "Told so."}),
    ] {
        let failure = local().await.answer(Reply::json(400, &body)).refusal().await;
        assert_eq!(failure.code, code::INVALID_INPUT);
        assert!(failure.message.ends_with("400 (Bad Request): Told so."), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_told_as_such() {
    let nested =
        |kind: &str, code: Value, message: &str| json!({"error": {"type": kind, "code": code, "message": message}});
    let openai = nested("invalid_request_error", json!("context_length_exceeded"), "Too many tokens.");
    let llama = nested("exceed_context_size_error", json!(400), "the request exceeds the available context size");
    let vllm = json!({"object": "error", "type": "BadRequestError", "code": 400,
        "message": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."});
    let words = json!({"error": "input length exceeds the context length"});
    for body in [openai.clone(), llama.clone(), vllm.clone(), words] {
        let setup = local().await;
        let failure = setup.answer(Reply::json(400, &body)).refusal().await;
        assert_eq!(
            (failure.code.as_str(), failure.retryable, setup.asked().len()),
            (code::TOO_LARGE, false, 1),
            "{body}"
        );
        assert!(failure.hints[0].contains("compact"), "{:?}", failure.hints);
    }
    // Found out when the answer had begun.
    for body in [openai, llama, vllm] {
        let told = told(Reply::sse(events(&[&body.to_string()]))).await;
        assert_eq!(told.failure().code, code::TOO_LARGE, "{body}");
    }
}

#[tokio::test]
async fn what_may_be_spent_does_not_come_back_by_waiting() {
    let setup = local().await;
    let spent = error(429, "insufficient_quota", Some("insufficient_quota"), "m").header("retry-after", "1");
    let failure = setup.answer(spent).refusal().await;
    assert_eq!((failure.code.as_str(), failure.retryable, setup.asked().len()), (code::BUDGET_EXHAUSTED, false, 1));
}

#[tokio::test]
async fn an_error_in_the_middle_is_told_with_what_came() {
    let setup = local().await;
    let told = setup.answer_checked(Reply::sse(body("openai-midstream-error"))).ask().await;
    assert_eq!((told.text.as_str(), setup.asked().len()), ("Par", 1));
    let failure = told.failure();
    assert_eq!((failure.code.as_str(), failure.retryable), (code::UNAVAILABLE, false));
    assert!(failure.message.ends_with("upstream overloaded") && !failure.hints.is_empty(), "{failure:?}");
    let extra = told.extra();
    assert_eq!((&extra["errorType"], &extra["errorCode"]), (&json!("server_error"), &json!("overloaded")));
    // Before anything was seen it is like a server that refuses.
    let named = "event: error\ndata: {\"message\":\"upstream overloaded\"}\n\n".to_owned();
    for bad in [events(&[r#"{"error":{"message":"m","type":"server_error"}}"#]), named] {
        let setup = local().await;
        setup.answer_checked(Reply::sse(bad)).answer_checked(Reply::sse(greets()));
        assert_eq!((setup.ask().await.text.as_str(), setup.asked().len()), ("Hi", 2));
    }
}

#[tokio::test]
async fn an_error_in_the_middle_means_what_it_means_before() {
    for (kind, code_of_error, wanted) in [
        ("authentication_error", json!(null), code::AUTH_REQUIRED),
        ("permission_error", json!(null), code::DENIED),
        ("invalid_request_error", json!("model_not_found"), code::NOT_FOUND),
        ("x", json!("insufficient_quota"), code::BUDGET_EXHAUSTED),
        ("rate_limit_error", json!(null), code::RATE_LIMITED),
        ("invalid_request_error", json!(null), code::INVALID_INPUT),
        ("x", json!(404), code::NOT_FOUND),
        ("authentication_error", json!(7), code::AUTH_REQUIRED),
        ("x", json!(null), code::UNAVAILABLE),
    ] {
        let error = json!({"error": {"type": kind, "code": code_of_error, "message": "m"}});
        let told = told(Reply::sse(events(&[&say("Hi"), &error.to_string()]))).await;
        assert_eq!((told.failure().code.as_str(), told.failure().retryable), (wanted, false), "{error}");
    }
}

#[tokio::test]
async fn a_malformed_stream_is_an_error_and_is_held_within_bounds() {
    let endless = vec![b'x'; 5 * 1024 * 1024];
    let tools = (0..=1000).map(|index| json!({"index": index, "function": {"name": "n"}})).collect::<Vec<_>>();
    for (bad, says) in [
        ("data: {\"choices\":\n\n".into(), "cannot be read"),
        ("data: {\"choices\":[]\0}\n\n".into(), "cannot be read"),
        ("data: [\n\n".into(), "cannot be read"),
        (events(&[&chunk(&json!({"tool_calls": tools}))]), "more than 1000 tools"),
        (String::from_utf8(endless).unwrap(), "a line of the event stream is larger than 4194304 bytes"),
    ] {
        let told = told(Reply::sse(format!("{}{bad}", partial()))).await;
        assert_eq!((told.text.as_str(), told.failure().code.as_str()), ("Hi", code::UNAVAILABLE));
        assert!(told.failure().message.contains(says), "{}", told.failure().message);
    }
    // Fields without colon and events without data are no errors.
    assert_eq!(told(Reply::sse(format!("data\n\nevent: x\n\n{}", greets()))).await.text, "Hi");
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_that_shows_it() {
    let setup = local().await;
    let failure = setup.answer(Reply::html(200, "<html>Log in to the hotel</html>")).refusal().await;
    assert!(failure.message.contains("`text/html`") && failure.message.contains("hotel"), "{}", failure.message);
    assert!(failure.hints[0].contains("LEANCLAW_LOCAL_LLM_BASE_URL"), "{:?}", failure.hints);
    let packed = Reply::sse(vec![0x1f, 0x8b, 8, 0]).header("content-encoding", "gzip");
    let failure = setup.answer(packed).refusal().await;
    assert!(failure.message.contains("compressed (gzip)"), "{}", failure.message);
    for (body, says) in [
        (json!({"hello": 1}), "no choices"),
        (json!({"choices": []}), "no choices"),
        (json!({"choices": [{"finish_reason": "stop"}]}), "no message"),
        (json!([1]), "cannot be read"),
    ] {
        let failure = setup.answer(Reply::json(200, &body)).refusal().await;
        assert!(failure.message.contains(says), "{}", failure.message);
    }
    let error_body = json!({"error": {"type": "not_found_error", "message": "m"}});
    assert_eq!(setup.answer(Reply::json(200, &error_body)).refusal().await.code, code::NOT_FOUND);
    assert_eq!(setup.asked().len(), 7);
    assert!(setup.asked().iter().all(|request| request.header("accept-encoding").is_none()));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = FakeServer::start().await.unwrap();
    for status in [301, 302, 307, 308] {
        let setup = local().await;
        let location = format!("{}/v1/chat/completions", elsewhere.url().replace("127.0.0.1", "localhost"));
        let failure = setup.answer(Reply::status(status).header("location", &location)).refusal().await;
        assert_eq!((failure.code.as_str(), failure.retryable, setup.asked().len()), (code::DENIED, false, 1));
        assert!(failure.hints[0].contains("LEANCLAW_LOCAL_LLM_BASE_URL"), "{:?}", failure.hints);
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn nobody_there_is_tried_again_and_then_said() {
    let setup = local().await;
    let (server, provider) = (setup.server, setup.provider);
    drop(server);
    // The port is free once the task that held it has ended.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let failure = provider.stream(&hello(), soon()).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (code::UNAVAILABLE, true));
    assert!(failure.hints[0].contains("LEANCLAW_LOCAL_LLM_BASE_URL"), "{:?}", failure.hints);
    let extra = failure.extra.unwrap();
    assert_eq!((&extra["egress"], &extra["attempts"]), (&json!("connect-failed"), &json!(3)));
}
