//! Ways out that are none.

use leanclaw_test_guests as guests;
use serde_json::json;

use crate::tests::servers::{Server, ok};
use crate::tests::support::{Bench, asking, assert_told, with};

/// `error-code` of `wasi:http`, by its place.
const IP_PROHIBITED: u32 = 4;
const REQUEST_DENIED: u32 = 15;

fn fetch() -> Vec<u8> {
    guests::fetch(&[]).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_granted_is_denied_and_that_is_written_down() {
    let bench = Bench::with_witness().await;
    let (granted, other) = (Server::body("1").await, Server::body("2").await);
    bench.install(&asking("asks", json!({"privateHttp": [granted.origin()]})), &fetch()).await;
    assert_eq!(bench.fetch("asks", &granted.url("/")).await.unwrap(), "1");
    let failure = bench.fetch("asks", &other.url("/secret?x=1")).await.unwrap_err();
    assert_eq!(failure.code, "denied", "{failure:?}");
    let command = format!("leanclaw plugin grant asks --private-http {}", other.origin());
    assert!(failure.message.contains(&command), "{failure}");
    assert!(other.requests().is_empty());
    assert_eq!((bench.audited("egress-denied", "asks"), bench.inspect("asks").stats.egress_denied), (1, 1));
    let lines = bench.lines("asks");
    assert!(lines.iter().any(|line| line.message.contains(&command)), "{lines:?}");
    assert!(lines.iter().all(|line| !line.message.contains("secret")), "no path in a log: {lines:?}");
    for scheme in ["https", "ftp", "file"] {
        let failure = bench.fetch("asks", &other.url("/").replace("http:", &format!("{scheme}:"))).await.unwrap_err();
        assert!(["denied", "invalid-input"].contains(&failure.code.as_str()), "{scheme}: {failure:?}");
    }
    let both = asking("asks", json!({"privateHttp": [granted.origin(), other.origin()]}));
    bench.drop_in(&with(both, json!({"version": "2.0.0"})), &fetch());
    bench.until("asks", |info| info.version == "2.0.0").await;
    bench.grant("asks").await;
    assert_eq!(bench.fetch("asks", &other.url("/")).await.unwrap(), "2");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_inside_needs_a_grant_of_its_own() {
    let bench = Bench::with_witness().await;
    let server = Server::body("7").await;
    let (origin, authority) =
        (format!("http://inside.test:{}", server.port()), format!("inside.test:{}", server.port()));
    let public = json!({"http": [origin]});
    bench.install(&asking("plain", public.clone()), &fetch()).await;
    bench.install(&asking("standard", public), &guests::wasi_fetch(&authority, "/").build().unwrap()).await;
    let failure = bench.fetch("plain", &origin).await.unwrap_err();
    assert_eq!(failure.code, "denied", "{failure:?}");
    assert!(failure.message.contains(&format!("leanclaw plugin grant plain --private-http {origin}")), "{failure}");
    assert!(!failure.message.contains("127.0.0.1"), "where a name leads is not the guest's to know: {failure}");
    assert_eq!(bench.run("standard", "{}").await.unwrap(), (200 + IP_PROHIBITED).to_string());
    assert!(server.requests().is_empty());
    assert_eq!((bench.audited("egress-denied", "plain"), bench.audited("egress-denied", "standard")), (1, 1));

    // The same guests with the grant that names what is inside, without it, and with it again.
    let both = json!({"http": [origin], "privateHttp": [origin]});
    for (id, wasm) in [("plain", fetch()), ("standard", guests::wasi_fetch(&authority, "/").build().unwrap())] {
        bench.replace(&asking(id, both.clone()), "2.0.0", &wasm).await;
    }
    for _ in 0..2 {
        assert_eq!(bench.fetch("plain", &origin).await.unwrap(), "7");
        assert_eq!(bench.run("standard", "{}").await.unwrap(), "7");
        for id in ["plain", "standard"] {
            bench.revoke(id).await;
            bench.grant_items(id, &[&format!("http:{origin}")]).await;
        }
        let answered = server.requests().len();
        assert_told(&bench.fetch("plain", &origin).await.unwrap_err(), "denied", "--private-http");
        assert_eq!(bench.run("standard", "{}").await.unwrap(), (200 + IP_PROHIBITED).to_string());
        assert_eq!(server.requests().len(), answered);
        for id in ["plain", "standard"] {
            bench.grant_items(id, &[&format!("private-http:{origin}")]).await;
        }
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_refused_whatever_is_granted() {
    let bench = Bench::with_witness().await;
    let places = ["http://metadata.test", "http://169.254.169.254", "http://[fd00:ec2::254]"];
    bench.install(&asking("asks", json!({"http": places, "privateHttp": places})), &fetch()).await;
    for place in places {
        let failure = bench.fetch("asks", &format!("{place}/latest/meta-data/")).await.unwrap_err();
        assert_eq!(failure.code, "denied", "{failure:?}");
        assert_told(&failure, "denied", "refused whatever is granted");
    }
    let standard = guests::wasi_fetch("metadata.test", "/latest/meta-data/").build().unwrap();
    bench.install(&asking("standard", json!({"http": places, "privateHttp": places})), &standard).await;
    assert_eq!(bench.run("standard", "{}").await.unwrap(), (200 + IP_PROHIBITED).to_string());

    // The name alone is not what is refused: the same guest reaches a name that leads elsewhere.
    let server = Server::body("7").await;
    let inside = format!("http://inside.test:{}", server.port());
    let rights = json!({"http": places, "privateHttp": [places[0], inside]});
    bench.replace(&asking("asks", rights), "2.0.0", &fetch()).await;
    assert_eq!(bench.fetch("asks", &inside).await.unwrap(), "7");
    assert_eq!(bench.fetch("asks", places[0]).await.unwrap_err().code, "denied");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_spelling_of_this_machine_is_this_machine() {
    let bench = Bench::with_witness().await;
    let server = Server::body("7").await;
    let port = server.port();
    bench
        .install(&asking("asks", json!({"http": [server.origin(), "http://localhost", "http://[::1]"]})), &fetch())
        .await;
    let spellings = [
        "127.0.0.1",
        "0x7f.1",
        "2130706433",
        "127.1",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0.0.0.0",
        "localhost",
    ];
    for host in spellings {
        let failure = bench.fetch("asks", &format!("http://{host}:{port}/")).await.unwrap_err();
        assert_eq!(failure.code, "denied", "{host}: {failure:?}");
    }
    let failure = bench.fetch("asks", &format!("http://user:hunter2@127.0.0.1:{port}/")).await.unwrap_err();
    assert!(["denied", "invalid-input"].contains(&failure.code.as_str()), "{failure:?}");
    assert!(!failure.message.contains("hunter2"), "{failure}");
    assert!(server.requests().is_empty());

    bench.install(&asking("inside", json!({"privateHttp": [server.origin()]})), &fetch()).await;
    assert_eq!(bench.fetch("inside", &server.url("/")).await.unwrap(), "7");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_handed_back_and_not_followed() {
    let bench = Bench::with_witness().await;
    let inside = Server::body("2").await;
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 1\r\n\r\n1", inside.url("/secret"));
    let outside = Server::fixed(&answer).await;
    bench.install(&asking("asks", json!({"privateHttp": [outside.origin()]})), &fetch()).await;
    assert_eq!(bench.fetch("asks", &outside.url("/")).await.unwrap(), "1");
    assert_eq!(bench.fetch("asks", &inside.url("/secret")).await.unwrap_err().code, "denied", "not by hand either");
    let standard = guests::wasi_fetch(&outside.address().to_string(), "/").build().unwrap();
    bench.install(&asking("standard", json!({"privateHttp": [outside.origin()]})), &standard).await;
    assert_eq!(bench.run("standard", "{}").await.unwrap(), "1");
    let stranger = guests::wasi_fetch(&inside.address().to_string(), "/").build().unwrap();
    bench.install(&asking("stranger", json!({"privateHttp": [outside.origin()]})), &stranger).await;
    assert_eq!(bench.run("stranger", "{}").await.unwrap(), (200 + REQUEST_DENIED).to_string());
    assert!(inside.requests().is_empty());

    // With both places granted each can be asked by itself, and a redirect from one to the other is still not followed.
    let both = json!({"privateHttp": [outside.origin(), inside.origin()]});
    bench.replace(&asking("asks", both), "2.0.0", &fetch()).await;
    assert_eq!(bench.fetch("asks", &outside.url("/")).await.unwrap(), "1");
    assert!(inside.requests().is_empty());
    assert_eq!(bench.fetch("asks", &inside.url("/secret")).await.unwrap(), "2");
    bench.revoke("asks").await;
    bench.grant_items("asks", &[&format!("private-http:{}", outside.origin())]).await;
    assert_told(&bench.fetch("asks", &inside.url("/secret")).await.unwrap_err(), "denied", "--private-http");
    assert_eq!(inside.requests().len(), 1);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_taken_up_to_a_size() {
    let bench = Bench::with_witness().await;
    let body = |bytes: usize| json!("x".repeat(bytes - 2)).to_string();
    let (fits, declared) = (Server::body(&body(1024)).await, Server::body(&body(1025)).await);
    // Without a length, the answer ends with the connection.
    let undeclared = Server::fixed(&format!("HTTP/1.1 200 OK\r\n\r\n{}", body(1025))).await;
    let origins = [fits.origin(), declared.origin(), undeclared.origin()];
    let small = with(asking("asks", json!({"privateHttp": &origins})), json!({"limits": {"httpResponseKib": 1}}));
    bench.install(&small, &fetch()).await;
    assert_eq!(bench.fetch("asks", &fits.url("/")).await.unwrap().len(), 1024);
    for server in [&declared, &undeclared] {
        let failure = bench.fetch("asks", &server.url("/")).await.unwrap_err();
        assert_told(&failure, "too-large", "limits.httpResponseKib");
    }
    bench.replace(&with(small, json!({"limits": {"httpResponseKib": 2}})), "2.0.0", &fetch()).await;
    for origin in &origins {
        assert!(bench.fetch("asks", &format!("{origin}/")).await.unwrap().len() >= 1024, "{origin}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_connection_are_the_hosts() {
    let bench = Bench::with_witness().await;
    let server = Server::echo().await;
    let rights = json!({"privateHttp": [server.origin()]});
    for (number, name) in
        ["host", "connection", "transfer-encoding", "proxy-authorization", "bad name"].iter().enumerate()
    {
        let id = format!("h{number}");
        bench.install(&asking(&id, rights.clone()), &guests::fetch(&[(name, "x")]).build().unwrap()).await;
        let failure = bench.fetch(&id, &server.url("/")).await.unwrap_err();
        assert!(["denied", "invalid-input"].contains(&failure.code.as_str()), "{name}: {failure:?}");
    }
    bench.install(&asking("split", rights.clone()), &guests::fetch(&[("x-a", "1\r\nx-b: 2")]).build().unwrap()).await;
    assert_eq!(bench.fetch("split", &server.url("/")).await.unwrap_err().code, "invalid-input");
    assert!(server.requests().is_empty());
    bench.install(&asking("good", rights), &guests::fetch(&[("x-a", "1")]).build().unwrap()).await;
    assert!(bench.fetch("good", &server.url("/")).await.unwrap().contains("x-a: 1"));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_http_is_a_failure() {
    let bench = Bench::with_witness().await;
    let answers = [
        "\0\u{1}garbage\r\n\r\n".to_owned(),
        String::new(),
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort".into(),
        ok("\"fine\""),
    ];
    for (number, answer) in answers.iter().enumerate() {
        let server = Server::fixed(answer).await;
        let id = format!("asks{number}");
        bench.install(&asking(&id, json!({"privateHttp": [server.origin()]})), &fetch()).await;
        let answered = bench.fetch(&id, &server.url("/")).await;
        if number == 3 {
            assert_eq!(answered.unwrap(), "\"fine\"");
        } else {
            let failure = answered.unwrap_err();
            assert_told(&failure, "unavailable", &format!("curl -v {}", server.origin()));
            assert!(failure.retryable);
        }
    }
    bench.close().await;
}
