//! Secrets go where they were declared to go, and nowhere else; least of all to the guest.

use leanclaw_test_guests as guests;
use serde_json::{Value, json};

use crate::tests::servers::Server;
use crate::tests::support::{Bench, asking};

const VALUE: &str = "s3cr3t-v4lue";

/// Rights to reach both servers, and a token for the first one's `authorization`.
fn rights(server: &Server, other: &Server) -> Value {
    let token = json!({"name": "token", "host": server.origin(), "header": "authorization"});
    json!({"privateHttp": [server.origin(), other.origin()], "secrets": [token]})
}

async fn install(bench: &Bench, id: &str, rights: Value, header: (&str, &str)) {
    bench.memory.secrets.lock().unwrap().insert(format!("{id}:token"), VALUE.into());
    bench.install(&asking(id, rights), &guests::fetch(&[header]).build().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_filled_in_where_it_is_declared_and_scrubbed_from_the_answer() {
    let bench = Bench::with_witness().await;
    let (server, other) = (Server::echo().await, Server::echo().await);
    let placeholder = ("authorization", "Bearer {{secret:token}}");
    install(&bench, "asks", rights(&server, &other), placeholder).await;
    let answer = bench.fetch("asks", &server.url("/")).await.unwrap();
    assert!(server.requests()[0].contains(&format!("authorization: Bearer {VALUE}")), "{:?}", server.requests());
    assert!(answer.contains("authorization: Bearer ") && !answer.contains(VALUE), "the server echoed it: {answer}");

    let failure = bench.fetch("asks", &other.url("/")).await.unwrap_err();
    assert_eq!(failure.code, "denied", "another host: {failure:?}");
    assert!(failure.message.contains("token") && failure.message.contains("permissions.secrets"), "{failure}");
    assert!(other.requests().is_empty());

    bench.revoke("asks").await;
    bench.grant_items("asks", &[&format!("private-http:{}", server.origin())]).await;
    let failure = bench.fetch("asks", &server.url("/")).await.unwrap_err();
    assert_eq!(failure.code, "denied", "the right to the secret was taken: {failure:?}");
    assert_eq!(server.requests().len(), 1);
    bench.grant("asks").await;
    assert!(bench.fetch("asks", &server.url("/")).await.is_ok());

    bench.memory.secrets.lock().unwrap().clear();
    let failure = bench.fetch("asks", &server.url("/")).await.unwrap_err();
    assert!(failure.message.contains("leanclaw plugin secret set asks token"), "{failure}");
    let lines = bench.lines("asks");
    assert!(lines.iter().all(|line| !line.message.contains(VALUE)), "{lines:?}");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_stays_out_of_every_other_place() {
    let bench = Bench::with_witness().await;
    let (server, other) = (Server::echo().await, Server::echo().await);
    install(&bench, "header", rights(&server, &other), ("x-token", "{{secret:token}}")).await;
    install(&bench, "unknown", rights(&server, &other), ("authorization", "{{secret:other}}")).await;
    for id in ["header", "unknown"] {
        let failure = bench.fetch(id, &server.url("/")).await.unwrap_err();
        assert_eq!(failure.code, "denied", "{id}: {failure:?}");
    }
    install(&bench, "address", rights(&server, &other), ("x-a", "1")).await;
    for path in ["/{{secret:token}}", "/?q={{secret:token}}", "/?{{secret:token}}=1", "/%7B%7Bsecret:token%7D%7D"] {
        let answer = bench.fetch("address", &server.url(path)).await;
        assert!(
            answer.as_ref().is_err_and(|failure| failure.code == "denied") || !answer.unwrap().contains(VALUE),
            "{path}"
        );
    }
    assert!(server.requests().iter().all(|request| !request.contains(VALUE)), "{:?}", server.requests());
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_of_the_guests_own_does_not_take_the_secrets_place() {
    let bench = Bench::with_witness().await;
    let (server, other) = (Server::echo().await, Server::echo().await);
    install(&bench, "forges", rights(&server, &other), ("authorization", "Bearer mine")).await;
    let failure = bench.fetch("forges", &server.url("/")).await.unwrap_err();
    assert_eq!(failure.code, "denied", "{failure:?}");
    assert!(failure.message.contains("authorization") && failure.message.contains("{{secret:NAME}}"), "{failure}");
    assert!(server.requests().is_empty());
    assert_eq!(bench.audited("egress-denied", "forges"), 1);
    // Where no secret is declared, the header is the guest's own affair.
    assert!(bench.fetch("forges", &other.url("/")).await.unwrap().contains("authorization: Bearer mine"));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_plugins_secret_is_not_anothers() {
    let bench = Bench::with_witness().await;
    let (server, other) = (Server::echo().await, Server::echo().await);
    let placeholder = ("authorization", "{{secret:token}}");
    install(&bench, "rich", rights(&server, &other), placeholder).await;
    install(&bench, "poor", rights(&server, &other), placeholder).await;
    bench.memory.secrets.lock().unwrap().remove("poor:token");
    assert!(bench.fetch("rich", &server.url("/")).await.is_ok());
    let failure = bench.fetch("poor", &server.url("/")).await.unwrap_err();
    assert!(failure.message.contains("leanclaw plugin secret set poor token"), "{failure}");
    assert_eq!(server.requests().len(), 1);
    bench.close().await;
}
