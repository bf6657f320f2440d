//! Who is let in, and that the gateway asks for the token that the configuration names, wherever it names it.

use serde_json::{Value, json};

use crate::support::{Client, Connect, Place, Program, env, request};

const TOKEN: &str = "t0ken-of-the-test";

async fn refused(program: &Program, connect: &Connect) -> Value {
    match connect.to(program.address).await {
        Ok(_) => panic!("it was let in"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn both_protocol_versions_and_every_range_that_holds_one() {
    let place = Place::empty();
    let program = place.start().await;
    for (protocols, spoken) in [((3, 3), 3), ((4, 4), 4), ((3, 4), 4), ((1, 99), 4), ((1, 3), 3)] {
        let connect = Connect { protocols, ..Connect::default() };
        let mut client = connect.to(program.address).await.unwrap();
        assert_eq!(client.hello["type"], "hello-ok");
        assert_eq!(client.hello["protocol"], spoken, "{protocols:?}");
        assert_eq!(client.hello["server"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(client.hello["snapshot"]["authMode"], "none");
        assert_eq!(client.ok("health", json!({})).await["ok"], true);
    }
    for protocols in [(1, 2), (5, 9)] {
        let error = refused(&program, &Connect { protocols, ..Connect::default() }).await;
        assert_eq!(error["details"]["code"], "PROTOCOL_MISMATCH", "{error}");
    }
    program.stop().await;
}

/// Without the token, with a wrong one, with the right one: the control that makes the test worth something.
async fn asks_for(program: &Program, token: &str) {
    let error = refused(program, &Connect::default()).await;
    assert_eq!(error["code"], "NOT_PAIRED", "{error}");
    let error = refused(program, &Connect::token("t0ken-of-the-tesT")).await;
    assert_eq!(error["details"]["code"], "AUTH_TOKEN_MISMATCH", "{error}");
    for protocols in [(3, 3), (4, 4)] {
        let mut client = Connect { protocols, ..Connect::token(token) }.to(program.address).await.unwrap();
        assert_eq!(client.hello["snapshot"]["authMode"], "token");
        client.ok("plugins.list", json!({})).await;
    }
}

#[tokio::test]
async fn the_token_of_the_environment_is_asked_for() {
    let place = Place::empty();
    let program = place.start_with(env("LEANCLAW_GATEWAY_API_KEY", TOKEN)).await;
    asks_for(&program, TOKEN).await;
    program.stop().await;
}

#[tokio::test]
async fn the_token_of_the_dotenv_file_is_asked_for() {
    let place = Place::empty();
    place.write_dotenv(&format!("# mine\nLEANCLAW_GATEWAY_API_KEY='{TOKEN}'\n"));
    let program = place.start().await;
    asks_for(&program, TOKEN).await;
    program.stop().await;
}

#[tokio::test]
async fn the_token_of_the_configuration_file_is_asked_for_under_both_of_its_names() {
    for text in [format!("{{gateway: {{auth: {{token: '{TOKEN}'}}}}}}"), format!("{{gateway: {{apiKey: '{TOKEN}'}}}}")]
    {
        let place = Place::empty();
        place.write_config(&text);
        let program = place.start().await;
        asks_for(&program, TOKEN).await;
        program.stop().await;
    }
}

#[tokio::test]
async fn the_token_of_a_named_configuration_file_is_asked_for() {
    let place = Place::empty();
    place.write_config("{gateway: {auth: {token: 'another'}}}");
    let file = place.work().join("mine.json5");
    std::fs::write(&file, format!("{{gateway: {{auth: {{token: '{TOKEN}'}}}}}}")).unwrap();
    let program = place
        .start_with(|command| {
            command.args(["--config", "mine.json5"]);
        })
        .await;
    asks_for(&program, TOKEN).await;
    program.stop().await;
}

#[tokio::test]
async fn http_routes_ask_for_the_token_too() {
    let place = Place::empty();
    let program = place.start_with(env("LEANCLAW_GATEWAY_API_KEY", TOKEN)).await;
    let body = br#"{"tool": "no-such-tool"}"#;
    let right = format!("Bearer {TOKEN}");
    for (authorization, status) in [("", 401), ("Bearer wrong", 401), ("Basic dDp0", 401), (right.as_str(), 404)] {
        let headers = [("authorization", authorization), ("content-type", "application/json")];
        let response = request(program.address, "POST", "/tools/invoke", &headers, body).await;
        assert_eq!(response.status, status, "{authorization}: {response:?}");
        let response = request(program.address, "GET", "/plugins/none/http/", &headers, b"").await;
        assert_eq!(response.status, status, "{authorization}: {response:?}");
    }
    assert_eq!(program.get("/health").await.status, 200, "the probe is open");
    program.stop().await;
}

#[tokio::test]
async fn without_a_token_only_programs_of_this_machine_get_in_and_no_web_page() {
    let place = Place::empty();
    let program = place.start().await;
    Client::connect(program.address).await;
    let page = Connect { origin: Some("https://evil.example"), ..Connect::default() };
    let error = refused(&program, &page).await;
    assert_eq!(error["details"]["code"], "CONTROL_UI_ORIGIN_NOT_ALLOWED", "{error}");
    // A page served by another local program has no more rights than any other page.
    let local_page = Connect { origin: Some("http://localhost:3000"), ..Connect::default() };
    let error = refused(&program, &local_page).await;
    assert_eq!(error["code"], "NOT_PAIRED", "{error}");
    let body = br#"{"tool": "no-such-tool"}"#;
    for (headers, status) in [
        (vec![], 404),
        (vec![("origin", "https://evil.example")], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("host", "evil.example")], 403),
        (vec![("x-forwarded-for", "127.0.0.1")], 403),
    ] {
        let response = request(program.address, "POST", "/tools/invoke", &headers, body).await;
        assert_eq!(response.status, status, "{headers:?}: {response:?}");
    }
    program.stop().await;
}

#[tokio::test]
async fn an_address_that_others_reach_needs_a_token() {
    let place = Place::empty();
    for host in ["0.0.0.0", "lan", "::"] {
        let error = place.refused_start(env("LEANCLAW_GATEWAY_HOST", host)).await;
        assert!(error.contains("LEANCLAW_GATEWAY_API_KEY") && error.contains("127.0.0.1"), "{error}");
    }
    let started = place.start_with(|command| {
        command.env("LEANCLAW_GATEWAY_HOST", "0.0.0.0").env("LEANCLAW_GATEWAY_API_KEY", TOKEN);
    });
    let program = started.await;
    asks_for(&program, TOKEN).await;
    let called = place.run_with(&["call", "health"], env("LEANCLAW_GATEWAY_API_KEY", TOKEN)).await;
    assert_eq!(called.json()["ok"], true, "a command finds a program that listens on every address");
    program.stop().await;
}
