//! Secrets reach the declared server and nobody else, and do not come back.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http_body_util::StreamBody;
use leanclaw_types::net::{HostPattern, Placement, SecretRule};
use tokio::io::AsyncWriteExt;
use url::Url;

use super::support::*;
use crate::*;

const VALUE: &str = "s3cr3t/value+1";

fn with_secret(url: &Url, placement: Placement) -> EgressPolicy {
    let mut policy = all_for(url);
    policy.secrets = vec![SecretRule { name: "key".into(), host: HostPattern::for_url(url).unwrap(), placement }];
    policy
}

fn open(policy: EgressPolicy) -> EgressHandle {
    egress().0.open(policy, Arc::new(Values(vec![("key", VALUE), ("other", "never granted")])))
}

fn authorization() -> Placement {
    Placement::Header("authorization".into())
}

#[tokio::test]
async fn the_server_gets_the_value_and_the_guest_its_name() {
    let server = Server::echo().await;
    for (placement, path, header, arrives) in [
        (authorization(), "/", Some("Bearer {{secret:key}}"), "authorization: Bearer s3cr3t/value+1\r\n"),
        (Placement::Path, "/bot{{secret:key}}/x", None, "GET /bots3cr3t%2Fvalue+1/x HTTP"),
        (Placement::Query("k".into()), "/?k={{secret:key}}&z", None, "GET /?k=s3cr3t%2Fvalue%2B1&z HTTP"),
    ] {
        let url = server.url(path);
        let mut request = get(&url);
        if let Some(header) = header {
            request = with_header(request, "authorization", header);
        }
        let (_, echoed) = fetch(&open(with_secret(&url, placement.clone())), request).await.unwrap();
        let received = server.requests().pop().unwrap();
        assert!(received.contains(arrives), "{received}");
        assert!(echoed.contains("[secret:key]") && !echoed.contains("s3cr3t"), "{echoed}");

        // The same request without the grant does not leave.
        let before = server.connections().await;
        let mut ungranted = with_secret(&url, placement);
        ungranted.secrets.clear();
        let mut request = get(&url);
        if let Some(header) = header {
            request = with_header(request, "authorization", header);
        }
        assert_eq!(fetch(&open(ungranted), request).await.unwrap_err().code(), "secret-not-declared");
        assert_eq!(server.connections().await, before);
    }
}

#[tokio::test]
async fn a_secret_goes_to_its_own_host_only() {
    let server = Server::echo().await;
    let other = Server::echo().await;
    let (url, elsewhere) = (server.url("/"), other.url("/"));
    let mut policy = with_secret(&url, authorization());
    policy.allow.extend(all_for(&elsewhere).allow);
    policy.private.extend(all_for(&elsewhere).private);
    let request = |url| with_header(get(url), "authorization", "{{secret:key}}");
    let handle = open(policy);
    assert!(fetch(&handle, request(&url)).await.is_ok());
    assert_eq!(fetch(&handle, request(&elsewhere)).await.unwrap_err().code(), "secret-not-declared");
    assert_eq!(other.connections().await, 0);
    // One that exists but was never granted is not used either.
    let request = with_header(get(&url), "authorization", "{{secret:other}}");
    assert_eq!(fetch(&handle, request).await.unwrap_err().code(), "secret-not-declared");
}

#[tokio::test]
async fn a_header_that_carries_a_secret_cannot_be_set_by_hand() {
    let server = Server::echo().await;
    let url = server.url("/");
    for (name, value) in [("authorization", "Bearer mine"), ("cookie", "session=mine")] {
        let by_hand = || with_header(get(&url), name, value);
        let handle = open(with_secret(&url, Placement::Header(name.into())));
        assert_eq!(fetch(&handle, by_hand()).await.unwrap_err().code(), "forbidden-header");
        let both = with_header(with_header(get(&url), name, "{{secret:key}}"), name, value);
        assert_eq!(fetch(&handle, both).await.unwrap_err().code(), "forbidden-header");
        assert!(fetch(&open(with_secret(&url, Placement::Path)), by_hand()).await.is_ok());
    }
}

#[tokio::test]
async fn an_echo_is_scrubbed_in_headers_and_across_chunks() {
    let server = Server::start(|_, mut stream| async move {
        let head = format!(
            "HTTP/1.1 401 No\r\nlocation: https://a.example/?k={VALUE}\r\nx-{}: 1\r\ncontent-length: {}\r\n\r\n",
            "plain",
            VALUE.len() * 2 + 4
        );
        let _ = stream.write_all(head.as_bytes()).await;
        for piece in format!("{0}{0}{1}", VALUE, &VALUE[..4]).as_bytes().chunks(3) {
            let _ = stream.write_all(piece).await;
            let _ = stream.flush().await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let url = server.url("/");
    let handle = open(with_secret(&url, authorization()));
    // Also where this very request carried no secret: the server may know it from an earlier one.
    let response = handle.send(get(&url), soon()).await.unwrap();
    assert_eq!(response.headers["location"], "https://a.example/?k=[secret:key]");
    assert!(!response.headers.contains_key("content-length") && response.headers.contains_key("x-plain"));
    assert_eq!(response.body.bytes().await.unwrap(), "[secret:key][secret:key]s3cr");
}

#[tokio::test]
async fn a_compressed_echo_is_not_let_through() {
    let server = Server::fixed("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x07").await;
    let url = server.url("/");
    let handle = open(with_secret(&url, authorization()));
    let asking = |request| with_header(request, "accept-encoding", "gzip");
    assert!(fetch(&handle, asking(get(&url))).await.is_ok());
    let carrying = asking(with_header(get(&url), "authorization", "{{secret:key}}"));
    let error = fetch(&handle, carrying).await.unwrap_err();
    assert_eq!(error.code(), "protocol");
    let asked = |index: usize| server.requests()[index].contains("accept-encoding: identity\r\n");
    assert_eq!((asked(0), asked(1)), (false, true));
}

#[tokio::test]
async fn bodies_are_never_filled_in() {
    let server = Server::echo().await;
    let url = server.url("/");
    let handle = open(with_secret(&url, authorization()));
    let post = |body| Request { body, ..Request::new(Method::POST, url.clone()) };
    let in_chunks = || {
        let frames =
            ["say {{sec", "ret:ke", "y}} please"].map(|piece| Ok::<_, BoxError>(http_body::Frame::data(piece.into())));
        RequestBody::stream(StreamBody::new(futures_util::stream::iter(frames)))
    };
    for body in [RequestBody::bytes("say {{secret:key}} please"), in_chunks()] {
        let error = fetch(&handle, post(body)).await.unwrap_err();
        assert!(error.code() == "secret-not-declared" && error.to_string().contains("the body"), "{error}");
        assert!(error.to_string().contains("/header=authorization only"), "{error}");
    }
    // Text that merely looks like one, as a person may write it in a chat, is sent as it is.
    for text in ["{{secret:unknown}}", "{{secret:", "{{secret:key}", "{{secret:{{secret:keys}}"] {
        let (_, echoed) = fetch(&handle, post(RequestBody::bytes(text))).await.unwrap();
        assert!(echoed.ends_with(text), "{echoed}");
    }
    assert!(!server.requests().iter().any(|request| request.contains("s3cr3t")));
}

#[tokio::test]
async fn neither_errors_nor_debug_output_show_a_value() {
    // The server closes without an answer, so that the request fails after the secret was filled in.
    let server = Server::fixed("").await;
    let url = server.url("/{{secret:key}}");
    let handle = open(with_secret(&url, Placement::Path));
    let error = fetch(&handle, get(&url)).await.unwrap_err();
    assert!(server.requests()[0].contains("s3cr3t"));
    let shown = format!("{error} {error:?} {:?} {handle:?}", error.hints());
    assert!(!shown.contains("s3cr3t"), "{shown}");
}
