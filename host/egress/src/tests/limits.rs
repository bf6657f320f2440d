//! Sizes, rates, counts and times, each with the same request going through under a larger limit.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http_body_util::StreamBody;
use tokio::io::AsyncWriteExt;
use url::Url;

use super::support::*;
use crate::*;

const SHORT: Duration = Duration::from_millis(60);

async fn with_limits(
    url: &Url,
    request: Request,
    change: impl Fn(&mut EgressLimits),
) -> Result<(u16, String), EgressError> {
    let mut policy = all_for(url);
    change(&mut policy.limits);
    // Long before the deadline of the caller, so that it cannot stand in for a limit.
    tokio::time::timeout(Duration::from_secs(20), fetch_as(policy, request)).await.expect("the limit ends it")
}

fn post(url: &Url, body: RequestBody) -> Request {
    Request { body, ..Request::new(Method::POST, url.clone()) }
}

fn chunks() -> RequestBody {
    let frames = (0..4).map(|_| Ok::<_, BoxError>(http_body::Frame::data("12345".into())));
    RequestBody::stream(StreamBody::new(futures_util::stream::iter(frames)))
}

#[tokio::test]
async fn request_bodies_are_capped() {
    let server = Server::hello().await;
    let url = server.url("/");
    for body in [|| RequestBody::bytes(vec![b'x'; 20]), chunks] {
        assert!(with_limits(&url, post(&url, body()), |limits| limits.request_bytes = 20).await.is_ok());
        let error = with_limits(&url, post(&url, body()), |limits| limits.request_bytes = 19).await.unwrap_err();
        assert_eq!(error, EgressError::TooLarge { what: "the body of the request", limit_bytes: 19 });
    }
    // A length that is known beforehand is not even dialled for.
    assert_eq!(server.connections().await, 3);
}

#[tokio::test]
async fn response_bodies_are_capped() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabcdef",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nabcdef",
    ] {
        let server = Server::fixed(answer).await;
        let url = server.url("/");
        let whole = with_limits(&url, get(&url), |limits| limits.response_bytes = 6).await;
        assert_eq!(whole, Ok((200, "abcdef".into())), "{answer}");
        let error = with_limits(&url, get(&url), |limits| limits.response_bytes = 5).await.unwrap_err();
        assert_eq!(error, EgressError::TooLarge { what: "the body of the response", limit_bytes: 5 }, "{answer}");
    }
}

#[tokio::test]
async fn headers_are_capped_both_ways() {
    let filler = "x".repeat(20_000);
    let server = Server::fixed(format!("HTTP/1.1 200 OK\r\nx-long: {filler}\r\ncontent-length: 0\r\n\r\n")).await;
    let url = server.url("/");
    assert!(with_limits(&url, get(&url), |_| ()).await.is_ok());
    let error = with_limits(&url, get(&url), |limits| limits.header_bytes = 10_000).await.unwrap_err();
    assert_eq!(error, EgressError::TooLarge { what: "the head of the response", limit_bytes: 10_000 });

    let long = || with_header(get(&url), "x-long", &filler);
    assert!(with_limits(&url, long(), |_| ()).await.is_ok());
    let error = with_limits(&url, long(), |limits| limits.header_bytes = 20_000).await.unwrap_err();
    assert_eq!(error.code(), "too-large");
}

#[tokio::test]
async fn an_owner_is_limited_over_all_its_handles_and_others_are_not() {
    let server = Server::hello().await;
    let url = server.url("/");
    let (egress, _) = egress();
    let mut policy = all_for(&url);
    policy.limits.requests_per_minute = 2;
    let open = |policy: &EgressPolicy| egress.open(policy.clone(), Arc::new(NoSecrets));
    assert!(fetch(&open(&policy), get(&url)).await.is_ok());
    assert!(fetch(&open(&policy), get(&url)).await.is_ok());
    let error = fetch(&open(&policy), get(&url)).await.unwrap_err();
    assert_eq!(error.code(), "rate-limited");
    assert!((1..=60_000).contains(&error.retry_after_ms().unwrap()));
    // Denied requests do not count, and another owner has a count of its own.
    assert_eq!(server.connections().await, 2);
    policy.owner = "other".into();
    assert!(fetch(&open(&policy), get(&url)).await.is_ok());
}

#[tokio::test]
async fn a_place_is_held_until_the_response_is_read_or_dropped() {
    let server = Server::fixed("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    let url = server.url("/");
    let (egress, recorder) = egress();
    let mut policy = all_for(&url);
    policy.limits.concurrency = 1;
    policy.limits.connect_timeout = SHORT;
    let handle = egress.open(policy.clone(), Arc::new(NoSecrets));
    let unread = handle.send(get(&url), soon()).await.unwrap();
    let error = fetch(&handle.clone(), get(&url)).await.unwrap_err();
    assert_eq!(error, EgressError::Busy { owner: "notes".into(), what: "requests", limit: 1 });

    // One that may wait goes on as soon as the place is free.
    policy.limits.connect_timeout = Duration::from_secs(30);
    let patient = egress.open(policy, Arc::new(NoSecrets));
    let waiting = tokio::spawn({
        let url = url.clone();
        async move { fetch(&patient, get(&url)).await }
    });
    tokio::task::yield_now().await;
    drop(unread);
    assert_eq!(waiting.await.unwrap(), Ok((200, "hello".into())));
    assert_eq!(recorder.lines(), ["notes GET failed: busy", "notes GET cancelled", "notes GET 200 0/5"]);
}

/// Sends `head`, then one byte every few milliseconds for ever.
async fn dripping(head: &'static str) -> Server {
    Server::start(move |_, mut stream| async move {
        let _ = stream.write_all(head.as_bytes()).await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Sends `head` and then nothing, without closing.
async fn silent(head: &'static str) -> Server {
    Server::start(move |_, mut stream| async move {
        let _ = stream.write_all(head.as_bytes()).await;
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn a_dripping_server_is_stopped_by_the_deadline() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nx-endless: "] {
        let server = dripping(head).await;
        let url = server.url("/");
        let handle = egress().0.open(all_for(&url), Arc::new(NoSecrets));
        let result = match handle.send(get(&url), Deadline::after(SHORT)).await {
            Ok(response) => response.body.bytes().await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(result, Err(EgressError::TimedOut { phase: "the whole request" }), "{head:?}");
        let limited = with_limits(&url, get(&url), |limits| limits.total_timeout = SHORT).await;
        assert_eq!(limited, Err(EgressError::TimedOut { phase: "the whole request" }), "{head:?}");
    }
}

#[tokio::test]
async fn each_silence_has_a_limit_of_its_own() {
    let server = silent("").await;
    let url = server.url("/");
    let error = with_limits(&url, get(&url), |limits| limits.first_byte_timeout = SHORT).await.unwrap_err();
    assert_eq!(error, EgressError::TimedOut { phase: "waiting for the response" });

    let server = silent("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await;
    let url = server.url("/");
    let error = with_limits(&url, get(&url), |limits| limits.between_bytes_timeout = SHORT).await.unwrap_err();
    assert_eq!(error, EgressError::TimedOut { phase: "waiting for more of the response" });
}

#[tokio::test]
async fn a_guest_can_shorten_a_limit_and_not_lengthen_it() {
    let server = silent("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await;
    let url = server.url("/");
    let asking = |between_bytes| Request {
        timeouts: GuestTimeouts { between_bytes: Some(between_bytes), ..GuestTimeouts::default() },
        ..get(&url)
    };
    let long = Duration::from_secs(600);
    for (guest, limit) in [(SHORT, long), (long, SHORT)] {
        let error = with_limits(&url, asking(guest), |limits| limits.between_bytes_timeout = limit).await.unwrap_err();
        assert_eq!(error, EgressError::TimedOut { phase: "waiting for more of the response" });
    }
    let handle = egress().0.open(all_for(&url), Arc::new(NoSecrets));
    let response = handle.send(asking(long), Deadline::after(SHORT)).await.unwrap();
    assert_eq!(response.body.bytes().await, Err(EgressError::TimedOut { phase: "the whole request" }));
}

#[tokio::test]
async fn a_request_that_is_dropped_is_on_record() {
    let server = silent("").await;
    let url = server.url("/");
    let (egress, recorder) = egress();
    let handle = egress.open(all_for(&url), Arc::new(NoSecrets));
    let given_up = tokio::time::timeout(SHORT, handle.send(get(&url), soon())).await;
    assert!(given_up.is_err());
    assert_eq!(recorder.lines(), ["notes GET cancelled"]);
}
