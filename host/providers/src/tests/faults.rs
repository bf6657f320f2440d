//! Answers that break, servers that refuse, and what is tried again.

use std::time::{Duration, Instant};

use leanclaw_test_fakes::anthropic::error;
use leanclaw_test_fakes::{End, FakeServer, Reply};
use leanclaw_types::failure::code;
use serde_json::json;

use super::support::*;
use crate::Provider;

fn partial() -> String {
    events(&[START, TEXT_START, TEXT])
}

#[tokio::test]
async fn a_stream_that_ends_early_is_an_error_with_what_came() {
    let cut_line = format!("{}data: {{\"type\":\"content_block_de", partial());
    let without_end = events(&[START, TEXT_START, TEXT, BLOCK_STOP, &ends("end_turn")]);
    let unfinished_end = hi().trim_end().to_owned();
    for (text, end, output) in [
        (partial(), End::Whole, 1),
        (partial(), End::Close, 1),
        (cut_line.clone(), End::Whole, 1),
        (cut_line, End::Close, 1),
        (without_end, End::Whole, 5),
        (unfinished_end, End::Whole, 5),
    ] {
        let setup = setup().await;
        let told = setup.answer(Reply::sse(text.clone()).end(end)).ask().await;
        assert_eq!(told.text, "Hi");
        let failure = told.failure();
        assert_eq!((failure.code.as_str(), failure.retryable), (code::UNAVAILABLE, false), "{text}");
        assert_eq!(told.extra()["usage"], json!({"input": 9, "output": output, "cacheRead": 0, "cacheWrite": 0}));
        assert_eq!(setup.asked().len(), 1, "what was seen is not asked for again");
    }
}

#[tokio::test]
async fn a_stream_that_ends_before_anything_was_seen_is_asked_for_again() {
    for begun in [String::new(), events(&[START]), events(&[START, TEXT_START])] {
        for end in [End::Whole, End::Close, End::Reset] {
            let setup = setup().await;
            setup.answer(Reply::sse(begun.clone()).end(end)).answer(Reply::sse(hi()));
            assert_eq!(setup.ask().await.text, "Hi");
            assert_eq!(setup.asked().len(), 2);
        }
    }
}

#[tokio::test]
async fn a_reset_in_the_middle_is_not_tried_again() {
    let setup = setup().await;
    let reply = Reply::sse(partial()).after(Duration::from_millis(30), ": \n").end(End::Reset);
    let told = setup.answer(reply).ask().await;
    assert_eq!((told.text.as_str(), told.failure().code.as_str()), ("Hi", code::UNAVAILABLE));
    assert!(!told.failure().retryable);
    assert_eq!(setup.asked().len(), 1);
}

#[tokio::test]
async fn a_reset_before_the_answer_sends_the_same_again() {
    let setup = setup().await;
    setup.answer(Reply::reset()).answer(Reply::reset()).answer(Reply::sse(hi()));
    assert_eq!(setup.ask().await.text, "Hi");
    let asked = setup.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|request| request.body == asked[0].body && request.headers == asked[0].headers));
}

#[tokio::test]
async fn a_server_that_says_when_is_asked_again_then() {
    let setup = setup().await;
    let limited = || error(429, "rate_limit_error", "Slow down.");
    setup.answer(limited().header("retry-after", "2")).answer(Reply::sse(hi()));
    assert_eq!(setup.ask().await.text, "Hi");
    let asked = setup.asked();
    let waited = asked[1].arrived - asked[0].arrived;
    assert!(asked.len() == 2 && waited >= Duration::from_secs(2), "{waited:?}");
    // The clock of the tests says 20:00:00.
    for (name, value) in [("retry-after", "Mon, 23 Nov 2026 20:00:00 GMT"), ("retry-after-ms", "30"), ("x", "absent")] {
        let setup = self::setup().await;
        let begun = Instant::now();
        setup.answer(limited().header(name, value)).answer(Reply::sse(hi()));
        assert_eq!(setup.ask().await.text, "Hi", "{name}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
    for (name, value, wait_ms) in
        [("retry-after", "3600", 3_600_000), ("retry-after", "Mon, 23 Nov 2026 21:00:00 GMT", 3_600_000)]
    {
        let setup = self::setup().await;
        let failure = setup.answer(limited().header(name, value)).refusal().await;
        assert_eq!((failure.code.as_str(), failure.retryable), (code::RATE_LIMITED, true));
        assert_eq!(failure.retry_after_ms, Some(wait_ms));
        assert_eq!(setup.asked().len(), 1, "such a wait is for the caller to decide on");
    }
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_a_few_times() {
    for status in [408, 409, 429, 500, 502, 503, 504, 529] {
        let setup = setup().await;
        let page = || Reply::html(status, "<html>Bad\u{1b}[2J Gateway</html>").header("request-id", "req_9");
        setup.answer(page()).answer(page()).answer(page()).answer(page());
        let failure = setup.refusal().await;
        assert_eq!(setup.asked().len(), 3, "{status}");
        assert!(failure.retryable && !failure.hints.is_empty(), "{failure:?}");
        assert!(failure.message.contains("<html>Bad\\u{1b}[2J Gateway"), "{}", failure.message);
        let extra = failure.extra.unwrap();
        assert_eq!(extra, json!({"provider": "anthropic", "status": status, "requestId": "req_9", "attempts": 3}));
    }
}

#[tokio::test]
async fn the_word_of_the_server_on_asking_again_counts() {
    let setup = setup().await;
    let failure = setup.answer(error(500, "api_error", "no").header("x-should-retry", "false")).refusal().await;
    assert_eq!((setup.asked().len(), failure.retryable), (1, false));
    setup.answer(error(400, "invalid_request_error", "once more").header("x-should-retry", "true"));
    setup.answer(Reply::sse(hi()));
    assert_eq!(setup.ask().await.text, "Hi");
}

#[tokio::test]
async fn a_refusal_says_what_helps_and_hides_the_key() {
    let long = format!("bad {KEY}\n{}", "x".repeat(5000));
    for (status, kind, code_of, hint) in [
        (400, "invalid_request_error", code::INVALID_INPUT, "request id"),
        (401, "authentication_error", code::AUTH_REQUIRED, "LEANCLAW_ANTHROPIC_API_KEY"),
        (402, "billing_error", code::BUDGET_EXHAUSTED, "credit"),
        (403, "permission_error", code::DENIED, "right"),
        (404, "not_found_error", code::NOT_FOUND, "list the models"),
        (413, "request_too_large", code::TOO_LARGE, "compact"),
    ] {
        let setup = setup().await;
        let failure = setup.answer(error(status, kind, &long)).refusal().await;
        assert_eq!((failure.code.as_str(), failure.retryable, setup.asked().len()), (code_of, false, 1));
        assert!(failure.hints[0].contains(hint), "{:?}", failure.hints);
        assert!(failure.message.contains("bad [redacted]\\nxxx") && failure.message.len() < 700, "{}", failure.message);
        assert!(!format!("{failure:?}").contains(KEY));
        let extra = failure.extra.unwrap();
        let known = json!({"provider": "anthropic", "status": status, "errorType": kind, "requestId": "req_011FAKE", "attempts": 1});
        assert_eq!(extra, known);
    }
    let setup = setup().await;
    let failure = setup.answer(error(400, "invalid_request_error", "prompt is too long: 3 > 2")).refusal().await;
    assert_eq!((failure.code.as_str(), failure.hints[0].contains("compact")), (code::TOO_LARGE, true));
}

#[tokio::test]
async fn what_may_be_spent_does_not_come_back_by_waiting() {
    let body = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "m",
        "details": {"error_code": "enforced_spend_limit_reached"}}});
    let setup = setup().await;
    let failure = setup.answer(Reply::json(429, &body).header("retry-after", "1")).refusal().await;
    assert_eq!((failure.code.as_str(), failure.retryable, setup.asked().len()), (code::BUDGET_EXHAUSTED, false, 1));
    assert_eq!(failure.extra.unwrap()["errorCode"], "enforced_spend_limit_reached");
}

#[tokio::test]
async fn an_error_in_the_middle_is_told_with_what_came() {
    let setup = setup().await;
    let told = setup.answer(Reply::sse(body("anthropic-midstream-error"))).ask().await;
    assert_eq!(told.text, "Partial");
    let failure = told.failure();
    assert_eq!((failure.code.as_str(), failure.retryable), (code::UNAVAILABLE, false));
    assert!(failure.message.ends_with(": Overloaded") && failure.hints[0].contains("another model"), "{failure:?}");
    let extra = told.extra();
    assert_eq!((&extra["errorType"], &extra["requestId"]), (&json!("overloaded_error"), &json!("req_011FAKE")));
    assert_eq!(extra["usage"]["input"], 9);
    // Before anything was seen it is like a server that refuses.
    let error_event = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    setup.answer(Reply::sse(events(&[START, error_event]))).answer(Reply::sse(hi()));
    assert_eq!(setup.ask().await.text, "Hi");
    assert_eq!(setup.asked().len(), 3);
}

#[tokio::test]
async fn a_malformed_stream_is_an_error_and_is_held_within_bounds() {
    let endless = vec![b'x'; 5 * 1024 * 1024];
    for (bad, says) in [
        ("data: {\"type\":\n\n".into(), "cannot be read"),
        ("data: {\"type\":\"ping\"\0}\n\n".into(), "cannot be read"),
        (events(&[r#"{"type":"content_block_delta","index":7,"delta":{}}"#]), "has not begun"),
        (events(&[TEXT_START]), "begins twice"),
        (events(&[BLOCK_STOP, STOP]), "without a reason"),
        (String::from_utf8(endless).unwrap(), "a line of the event stream is larger than 4194304 bytes"),
    ] {
        let setup = setup().await;
        let told = setup.answer(Reply::sse(format!("{}{bad}", partial()))).ask().await;
        assert_eq!((told.text.as_str(), told.failure().code.as_str()), ("Hi", code::UNAVAILABLE));
        assert!(told.failure().message.contains(says), "{}", told.failure().message);
    }
    // Fields without colon and events without data are no errors.
    let setup = setup().await;
    let told = setup.answer(Reply::sse(format!("data\n\nevent: x\n\n{}", hi()))).ask().await;
    assert_eq!(told.text, "Hi");
}

#[tokio::test]
async fn what_is_no_stream_is_an_error_that_shows_it() {
    let setup = setup().await;
    let failure = setup.answer(Reply::html(200, "<html>Log in to the hotel</html>")).refusal().await;
    assert!(failure.message.contains("`text/html`") && failure.message.contains("hotel"), "{}", failure.message);
    let packed = Reply::sse(vec![0x1f, 0x8b, 8, 0]).header("content-encoding", "gzip");
    let failure = setup.answer(packed).refusal().await;
    assert!(failure.message.contains("compressed (gzip)"), "{}", failure.message);
    let failure = setup.answer(Reply::json(200, &json!({"hello": 1}))).refusal().await;
    assert!(failure.message.contains("no content"), "{}", failure.message);
    let error_body = json!({"type": "error", "error": {"type": "not_found_error", "message": "m"}});
    assert_eq!(setup.answer(Reply::json(200, &error_body)).refusal().await.code, code::NOT_FOUND);
    assert_eq!(setup.asked().len(), 4);
    assert!(setup.asked().iter().all(|request| request.header("accept-encoding").is_none()));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = FakeServer::start().await.unwrap();
    for status in [301, 302, 307, 308] {
        let setup = setup().await;
        let location = format!("{}/v1/messages", elsewhere.url().replace("127.0.0.1", "localhost"));
        let failure = setup.answer(Reply::status(status).header("location", &location)).refusal().await;
        assert_eq!((failure.code.as_str(), failure.retryable, setup.asked().len()), (code::DENIED, false, 1));
        assert!(failure.message.contains("points to localhost"), "{}", failure.message);
        assert!(failure.hints[0].contains("LEANCLAW_ANTHROPIC_BASE_URL"), "{:?}", failure.hints);
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn nobody_there_is_tried_again_and_then_said() {
    let setup = setup().await;
    let (server, provider) = (setup.server, setup.provider);
    drop(server);
    // The port is free once the task that held it has ended.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let failure = provider.stream(&hello(), soon()).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (code::UNAVAILABLE, true));
    assert!(failure.hints[0].contains("LEANCLAW_ANTHROPIC_BASE_URL"), "{:?}", failure.hints);
    let extra = failure.extra.unwrap();
    assert_eq!((&extra["egress"], &extra["attempts"]), (&json!("connect-failed"), &json!(3)));
}
