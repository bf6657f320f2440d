//! What a request may look like and how it arrives.

use http::Method;
use http_body_util::StreamBody;

use super::support::*;
use crate::*;

async fn sent(request: Request) -> Result<String, EgressError> {
    let server = Server::echo().await;
    let mut request = request;
    request.url = server.url(&format!("{}?{}", request.url.path(), request.url.query().unwrap_or_default()));
    fetch_as(all_for(&request.url), request).await.map(|(_, text)| text.replace(&server.address.to_string(), "SERVER"))
}

fn to_anywhere() -> Request {
    get(&"http://127.0.0.1/a/b?c=d".parse().unwrap())
}

#[tokio::test]
async fn a_plain_request_arrives_as_written() {
    let text = sent(with_header(to_anywhere(), "x-one", "1")).await.unwrap();
    assert_eq!(text, "GET /a/b?c=d HTTP/1.1\r\nx-one: 1\r\nconnection: close\r\nhost: SERVER\r\n\r\n");
}

#[tokio::test]
async fn bodies_arrive_with_their_length_or_in_chunks() {
    let post = |body| Request { method: Method::POST, body, ..to_anywhere() };
    let text = sent(post(RequestBody::bytes("four"))).await.unwrap();
    assert!(text.contains("content-length: 4\r\n") && text.ends_with("\r\n\r\nfour"), "{text}");
    let text = sent(with_header(post(RequestBody::bytes("four")), "content-length", "4")).await.unwrap();
    assert!(text.contains("content-length: 4\r\n") && text.ends_with("\r\n\r\nfour"), "{text}");
    let text = sent(post(RequestBody::empty())).await.unwrap();
    assert!(text.contains("content-length: 0\r\n"), "{text}");
    let text = sent(post(stream(&["fo", "ur"]))).await.unwrap();
    assert!(text.contains("transfer-encoding: chunked") && text.contains("2\r\nfo\r\n2\r\nur\r\n0\r\n"), "{text}");
    let text = sent(with_header(post(stream(&["fo", "ur"])), "content-length", "4")).await.unwrap();
    assert!(text.contains("content-length: 4\r\n") && text.ends_with("\r\n\r\nfour"), "{text}");
}

fn stream(chunks: &'static [&'static str]) -> RequestBody {
    let frames = chunks.iter().map(|chunk| Ok::<_, BoxError>(http_body::Frame::data(chunk.as_bytes().into())));
    RequestBody::stream(StreamBody::new(futures_util::stream::iter(frames)))
}

#[tokio::test]
async fn headers_of_the_connection_are_the_hosts() {
    for name in [
        "host",
        "connection",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "sec-websocket-key",
    ] {
        let error = sent(with_header(to_anywhere(), name, "x")).await.unwrap_err();
        assert!(matches!(&error, EgressError::ForbiddenHeader { name: refused, .. } if refused == name), "{error}");
    }
    // Without a secret that goes there, these are the guest's own.
    for name in ["authorization", "cookie", "user-agent", "accept-encoding", "range"] {
        let text = sent(with_header(to_anywhere(), name, "x")).await.unwrap();
        assert!(text.contains(&format!("{name}: x\r\n")), "{text}");
    }
}

#[tokio::test]
async fn a_false_content_length_is_refused() {
    let post =
        |body, length| with_header(Request { method: Method::POST, body, ..to_anywhere() }, "content-length", length);
    for length in ["3", "5", "+4", "-1", "4, 4", "99999999999999999999", "four"] {
        let error = sent(post(RequestBody::bytes("four"), length)).await.unwrap_err();
        assert_eq!(error.code(), "forbidden-header", "{length}");
    }
    let twice = with_header(post(RequestBody::bytes("four"), "4"), "content-length", "5");
    assert_eq!(sent(twice).await.unwrap_err().code(), "forbidden-header");
    for length in ["3", "5"] {
        let error = sent(post(stream(&["fo", "ur"]), length)).await.unwrap_err();
        assert!(error.to_string().contains("content-length"), "{length}: {error}");
    }
}

#[tokio::test]
async fn what_is_not_a_request_is_refused() {
    for (method, url) in [
        (Method::GET, "ftp://127.0.0.1/"),
        (Method::GET, "file:///etc/passwd"),
        (Method::GET, "data:text/plain,x"),
        (Method::GET, "ws://127.0.0.1/"),
        (Method::GET, "http://user@127.0.0.1/"),
        (Method::GET, "http://user:word@127.0.0.1/"),
        (Method::GET, "http://:word@127.0.0.1/"),
        (Method::CONNECT, "http://127.0.0.1/"),
        (Method::TRACE, "http://127.0.0.1/"),
    ] {
        let mut policy = nothing();
        policy.allow = vec!["http://127.0.0.1".parse().unwrap()];
        policy.private = policy.allow.clone();
        let error = fetch_as(policy, Request::new(method, url.parse().unwrap())).await.unwrap_err();
        assert_eq!(error.code(), "invalid-request", "{url}: {error}");
        assert!(!error.to_string().contains("word@"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_is_handed_over_without_the_connections_headers() {
    let server = Server::fixed(
        "HTTP/1.1 404 Nope\r\nconnection: close, x-hop\r\nkeep-alive: 5\r\ntransfer-encoding: chunked\r\n\
         content-encoding: gzip\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\n3\r\n\x1f\x07z\r\n0\r\nx-trailer: 1\r\n\r\n",
    )
    .await;
    let url = server.url("/");
    let handle = egress().0.open(all_for(&url), std::sync::Arc::new(NoSecrets));
    let response = handle.send(get(&url), soon()).await.unwrap();
    assert_eq!(response.status, 404);
    let mut names: Vec<&str> = response.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-encoding", "set-cookie"]);
    assert_eq!(response.headers.get_all("set-cookie").iter().count(), 2);
    // Nothing is decompressed.
    assert_eq!(response.body.bytes().await.unwrap(), "\x1f\x07z");
}

#[tokio::test]
async fn an_answer_that_is_no_http_or_is_cut_off_is_an_error() {
    for answer in [
        "",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ] {
        let server = Server::fixed(answer).await;
        let url = server.url("/");
        let error = fetch_as(all_for(&url), get(&url)).await.unwrap_err();
        assert_eq!(error.code(), "protocol", "{answer:?}: {error}");
    }
}
