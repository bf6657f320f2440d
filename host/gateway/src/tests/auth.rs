//! Who gets in.

use std::sync::Arc;

use leanclaw_types::redact::Secret;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Error;
use tokio_util::sync::CancellationToken;

use super::devices::{Phone, proxied};
use super::fake_runs::FakeRuns;
use super::{Client, FakeHost, MemoryRecords, Rows, Server, TOKEN, assert_invalid, connect_params, start, with_token};
use crate::{Credential, Gateway, GatewayConfig, GatewayError, Role, Services, serve};

async fn knock(client: &mut Client, protocol: u64, id: &str, auth: Value) -> Value {
    let mut params = connect_params(protocol, protocol);
    params["client"]["id"] = json!(id);
    if !auth.is_null() {
        params["auth"] = auth;
    }
    client.call("connect", params).await
}

async fn refused(server: &Server, protocol: u64, id: &str, auth: Value) -> Value {
    let mut client = server.open().await;
    let response = knock(&mut client, protocol, id, auth).await;
    assert_eq!(response["ok"], false, "{response}");
    let (code, reason) = client.closed().await;
    assert_eq!(code, 1008);
    let message = response["error"]["message"].as_str().unwrap();
    assert!(message.starts_with(&reason) && reason.len() <= 120, "{reason}");
    response["error"].clone()
}

#[tokio::test]
async fn wrong_and_missing_tokens_are_told_apart() {
    let server = start(with_token()).await;
    for (protocol, id, hint) in [
        (3, "cli", "set gateway.remote.token to match gateway.auth.token"),
        (4, "cli", "use this gateway's gateway.auth.token or pair the device"),
        (4, "gateway-client", "provide gateway auth token"),
    ] {
        let error = refused(&server, protocol, id, json!({"token": "wrong"})).await;
        assert_eq!(error["code"], "INVALID_REQUEST");
        assert_eq!(error["message"], format!("unauthorized: gateway token mismatch ({hint})"));
        assert_eq!(
            error["details"],
            json!({"code": "AUTH_TOKEN_MISMATCH", "authReason": "token_mismatch",
                "canRetryWithDeviceToken": false, "recommendedNextStep": "update_auth_credentials"})
        );
    }
    let error = refused(&server, 3, "cli", json!({"password": TOKEN})).await;
    assert_eq!(error["details"]["code"], "AUTH_TOKEN_MISSING");
    assert_eq!(error["details"]["recommendedNextStep"], "update_auth_configuration");
    for auth in [Value::Null, json!({}), json!({"token": ""})] {
        let error = refused(&server, 4, "cli", auth).await;
        assert_eq!(
            (error["code"].as_str(), error["message"].as_str()),
            (Some("NOT_PAIRED"), Some("device identity required"))
        );
        assert_eq!(error["details"]["code"], "DEVICE_IDENTITY_REQUIRED");
        assert!(error["details"]["hints"][0].as_str().unwrap().contains("LEANCLAW_GATEWAY_API_KEY"));
    }
    let rows = server.audit.all();
    assert_eq!(
        rows.iter().filter(|row| row["kind"] == "auth-denied").count(),
        3,
        "one row per kind of refusal: {rows:?}"
    );
    assert!(!format!("{rows:?}").contains("wrong"));
}

#[tokio::test]
async fn version_4_takes_the_token_from_either_field() {
    let server = start(with_token()).await;
    let mut client = server.open().await;
    assert_eq!(knock(&mut client, 4, "cli", json!({"password": TOKEN})).await["ok"], true);
}

#[tokio::test]
async fn a_password_stands_in_for_the_token() {
    let mut config = with_token();
    config.auth.password = Some(Secret::new("open sesame"));
    let server = start(config).await;
    let mut client = server.open().await;
    let response = knock(&mut client, 3, "cli", json!({"password": "open sesame"})).await;
    assert_eq!(response["payload"]["snapshot"]["authMode"], "password", "{response}");
    let mut client = server.open().await;
    let response = knock(&mut client, 4, "cli", json!({"token": "open sesame"})).await;
    assert_eq!(response["payload"]["auth"]["method"], "password");
    for (protocol, auth, code) in [
        (3, json!({"token": "open sesame"}), "AUTH_PASSWORD_MISSING"),
        (4, json!({"token": TOKEN}), "AUTH_PASSWORD_MISMATCH"),
        (3, json!({"password": TOKEN}), "AUTH_PASSWORD_MISMATCH"),
    ] {
        let error = refused(&server, protocol, "cli", auth).await;
        assert_eq!(error["details"]["code"], code);
        assert!(error["message"].as_str().unwrap().starts_with("unauthorized: gateway password m"));
    }
}

#[tokio::test]
async fn roles_are_operator_or_node_and_a_node_is_known_by_its_device_only() {
    let server = start(with_token()).await;
    for (role, code, message) in
        [("king", "INVALID_REQUEST", "invalid role"), ("node", "NOT_PAIRED", "device identity required")]
    {
        let mut client = server.open().await;
        let mut params = connect_params(4, 4);
        params["role"] = json!(role);
        params["auth"] = json!({"token": TOKEN});
        let response = client.call("connect", params).await;
        assert_eq!(response["error"]["code"], code);
        assert_eq!(response["error"]["message"], message);
        assert_eq!(client.closed().await, (1008, message.to_owned()));
    }
}

#[tokio::test]
async fn without_a_token_only_direct_local_programs_get_in() {
    let server = start(GatewayConfig::new("0")).await;
    let mut client = server.open().await;
    let mut params = connect_params(4, 4);
    params["scopes"] = json!(["operator.admin"]);
    let response = client.call("connect", params.clone()).await;
    assert_eq!(response["payload"]["auth"]["method"], "none");
    assert_eq!(client.call("plugins.list", json!({})).await["ok"], true);

    for headers in
        [&[("origin", "http://localhost:3000")][..], &[("host", "evil.example")], &[("sec-fetch-site", "cross-site")]]
    {
        let mut client = server.open_with("/", headers).await;
        let response = client.call("connect", params.clone()).await;
        assert_eq!(response["error"]["details"]["code"], "DEVICE_IDENTITY_REQUIRED", "{headers:?}");
        assert!(response.to_string().contains("LEANCLAW_GATEWAY_API_KEY"));
        assert_eq!(client.closed().await.0, 1008);
    }
}

#[tokio::test]
async fn pages_need_an_allowed_origin() {
    let mut config = with_token();
    config.live.allowed_origins = vec!["https://ui.example".into()];
    let server = start(config).await;
    for (origin, allowed) in
        [("https://evil.example", false), ("null", false), ("https://ui.example", true), ("http://127.0.0.1:1", true)]
    {
        let mut client = server.open_with("/", &[("origin", origin)]).await;
        let response = knock(&mut client, 4, "cli", json!({"token": TOKEN})).await;
        assert_eq!(response["ok"], allowed, "{origin} {response}");
        if !allowed {
            assert_eq!(response["error"]["details"]["code"], "CONTROL_UI_ORIGIN_NOT_ALLOWED");
        }
    }
    let mut client = server.open().await;
    let response = knock(&mut client, 4, "openclaw-control-ui", json!({"token": TOKEN})).await;
    assert_invalid(
        &response,
        "origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)",
    );
    assert_eq!(response["error"]["details"]["reason"], "origin missing or invalid");
}

#[tokio::test]
async fn an_untrusted_proxy_on_this_machine_is_refused_before_the_upgrade() {
    let server = start(with_token()).await;
    for header in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        match server.dial("/", &[(header, "for=1.2.3.4")]).await {
            Err(Error::Http(response)) => {
                assert_eq!(response.status(), 403);
                let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
                assert!(body.contains("gateway.trustedProxies"), "{body}");
            }
            other => panic!("{header}: {:?}", other.err()),
        }
    }
    let server = start(proxied()).await;
    let mut client = server.open_with("/", &[("x-forwarded-for", "9.9.9.9")]).await;
    assert_eq!(knock(&mut client, 4, "cli", json!({"token": TOKEN})).await["ok"], true);
}

/// Callers are told apart by a trusted proxy: the tests have no address but loopback.
async fn remote(server: &Server, ip: &str) -> Client {
    server.open_with("/", &[("x-forwarded-for", ip)]).await
}

/// Shows `auth` so many times from there; each time it is refused with that code.
async fn guess(server: &Server, protocol: u64, times: usize, auth: Value, code: &str) {
    for _ in 0..times {
        let response = knock(&mut remote(server, "9.9.9.9").await, protocol, "cli", auth.clone()).await;
        assert_eq!(response["error"]["details"]["code"], code, "{response}");
    }
}

#[tokio::test]
async fn ten_wrong_tokens_lock_an_address_out() {
    let server = start(proxied()).await;
    guess(&server, 4, 10, json!({"token": "wrong"}), "AUTH_TOKEN_MISMATCH").await;
    let mut client = remote(&server, "9.9.9.9").await;
    let response = knock(&mut client, 4, "cli", json!({"token": TOKEN})).await;
    assert_invalid(&response, "unauthorized: too many failed authentication attempts (retry later)");
    assert_eq!(response["error"]["details"]["code"], "AUTH_RATE_LIMITED");
    assert_eq!(
        (response["error"]["retryable"].as_bool(), response["error"]["retryAfterMs"].as_u64()),
        (Some(true), Some(300_000))
    );

    // Version 3 says nothing of retrying, and tells who shows nothing what is missing.
    for (auth, code) in [
        (json!({"token": "wrong"}), "AUTH_RATE_LIMITED"),
        (json!({"token": TOKEN}), "AUTH_RATE_LIMITED"),
        (json!({"password": TOKEN}), "AUTH_RATE_LIMITED"),
        (json!({}), "DEVICE_IDENTITY_REQUIRED"),
    ] {
        let response = knock(&mut remote(&server, "9.9.9.9").await, 3, "cli", auth.clone()).await;
        assert_eq!(response["error"]["details"]["code"], code, "{auth}");
        assert!(response["error"].get("retryAfterMs").is_none());
    }
    let mut other = remote(&server, "9.9.9.8").await;
    assert_eq!(knock(&mut other, 4, "cli", json!({"token": TOKEN})).await["ok"], true);
    server.clock.advance(300_001);
    let mut client = remote(&server, "9.9.9.9").await;
    assert_eq!(knock(&mut client, 4, "cli", json!({"token": TOKEN})).await["ok"], true);
}

#[tokio::test]
async fn no_version_and_no_route_is_a_way_to_go_on_guessing() {
    let server = start(proxied()).await;
    guess(&server, 3, 10, json!({"token": "wrong"}), "AUTH_TOKEN_MISMATCH").await;
    for protocol in [3, 4] {
        let response = knock(&mut remote(&server, "9.9.9.9").await, protocol, "cli", json!({"token": TOKEN})).await;
        assert_eq!(response["error"]["details"]["code"], "AUTH_RATE_LIMITED", "{protocol}: {response}");
    }
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("x-forwarded-for", "9.9.9.9"), ("authorization", authorization.as_str())];
    assert_eq!(super::web::request(&server, "GET /metrics", &headers, "").await.status, 429);
}

#[tokio::test]
async fn a_named_credential_is_guessed_at_in_no_field_and_forgives_nothing() {
    let mut config = proxied();
    config.auth.named = vec![Credential { name: "ann".into(), secret: Secret::new("of-ann"), role: Role::Viewer }];
    let server = start(config).await;
    guess(&server, 3, 9, json!({"password": "wrong"}), "AUTH_TOKEN_MISSING").await;
    assert_eq!(knock(&mut remote(&server, "9.9.9.9").await, 3, "cli", json!({"token": "of-ann"})).await["ok"], true);
    knock(&mut remote(&server, "9.9.9.9").await, 4, "cli", json!({"token": "wrong"})).await;
    let response = knock(&mut remote(&server, "9.9.9.9").await, 4, "cli", json!({"token": "of-ann"})).await;
    assert_eq!(response["error"]["details"]["code"], "AUTH_RATE_LIMITED", "{response}");
}

#[tokio::test]
async fn every_text_that_is_looked_at_counts() {
    let server = start(super::devices::proxied()).await;
    let two = json!({"token": "one", "password": "two"});
    // Version 3 looks at one of them.
    for (version, ip, code) in [(3, "9.9.9.8", "AUTH_TOKEN_MISMATCH"), (4, "9.9.9.9", "AUTH_RATE_LIMITED")] {
        for _ in 0..5 {
            knock(&mut remote(&server, ip).await, version, "cli", two.clone()).await;
        }
        let sixth = knock(&mut remote(&server, ip).await, version, "cli", two.clone()).await;
        assert_eq!(sixth["error"]["details"]["code"], code, "{version}");
    }
    let same = json!({"token": "one", "password": "one"});
    for _ in 0..9 {
        knock(&mut remote(&server, "9.9.9.7").await, 4, "cli", same.clone()).await;
    }
    let right = knock(&mut remote(&server, "9.9.9.7").await, 4, "cli", json!({"token": TOKEN})).await;
    assert_eq!(right["ok"], true, "twice the same is one: {right}");
}

#[tokio::test]
async fn who_comes_in_is_written_down_once_a_minute() {
    let server = start(super::devices::proxied()).await;
    let token = json!({"token": TOKEN});
    for ip in ["9.9.9.9", "9.9.9.9", "9.9.9.8", "9.9.9.9"] {
        assert_eq!(knock(&mut remote(&server, ip).await, 4, "cli", token.clone()).await["ok"], true);
    }
    knock(&mut remote(&server, "9.9.9.7").await, 4, "cli", json!({"token": "wrong"})).await;
    server.clock.advance(60_000);
    assert_eq!(knock(&mut remote(&server, "9.9.9.9").await, 3, "gateway-client", token).await["ok"], true);
    let rows = server.audit.all();
    let accepted: Vec<&Value> = rows.iter().filter(|row| row["kind"] == "auth-accepted").collect();
    let told: Vec<_> = accepted.iter().map(|row| (row["client"].as_str().unwrap(), row["repeated"].as_u64())).collect();
    assert_eq!(told, [("cli", Some(0)), ("cli", Some(0)), ("gateway-client", Some(2))], "{rows:?}");
    assert!(accepted[0]["remote"].as_str().unwrap().starts_with("9.9.9.9:"));
    assert_eq!((&accepted[0]["actor"], &accepted[0]["method"]), (&json!("client:token"), &json!("token")));
    assert!(!format!("{rows:?}").contains(TOKEN));
}

#[tokio::test]
async fn devices_and_requests_over_http_are_written_down_when_they_come_in_too() {
    let server = start(with_token()).await;
    let phone = Phone::new(130);
    let knock = async |auth: Value| phone.knock(&server, &[], (4, "operator"), &["operator.read"], auth).await.1;
    let token = knock(json!({"token": TOKEN})).await["payload"]["auth"]["deviceToken"].clone();
    assert_eq!(knock(json!({"deviceToken": token})).await["ok"], true);
    for bearer in ["Bearer wrong", &format!("Bearer {TOKEN}")] {
        let body = "{\"tool\":\"convert\"}";
        super::web::request(&server, "POST /tools/invoke", &[("authorization", bearer)], body).await;
    }
    let accepted = server.audit.all().into_iter().filter(|row| row["kind"] == "auth-accepted");
    let told: Vec<Value> = accepted.map(|row| json!([row["client"], row["method"], row["device"]])).collect();
    let expected = [
        json!(["openclaw-ios", "token", phone.id()]),
        json!(["openclaw-ios", "device-token", phone.id()]),
        json!(["http", "token", null]),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn the_log_tells_once_of_a_proxy_that_does_not_say_who_calls() {
    let server = start(super::devices::proxied()).await;
    let told = || server.gateway.state.unnamed_behind.lock().unwrap().len();
    remote(&server, "9.9.9.9").await;
    assert_eq!(told(), 0);
    server.open_with("/", &[("x-forwarded-for", "unknown")]).await;
    super::web::request(&server, "GET /metrics", &[], "").await;
    assert_eq!(told(), 1);
}

#[tokio::test]
async fn whoever_is_let_in_by_less_than_all_there_is_pays_for_guessing_at_the_rest() {
    let vic = |role| Credential { name: "vic".into(), secret: Secret::new("of-vic"), role };
    // Each shows what it has, and beside or before it what it wants to know.
    let beside = [json!({"token": "guess", "password": "of-vic"}), json!({"token": "of-vic", "password": "guess"})];
    for (own, named, tries) in [
        (Role::Admin, Role::Viewer, beside.to_vec()),
        (Role::Viewer, Role::Admin, vec![json!({"token": "guess"}), json!({"token": TOKEN})]),
        (Role::Viewer, Role::Admin, vec![json!({"token": TOKEN, "password": "guess"})]),
    ] {
        for version in [3, 4] {
            let mut config = proxied();
            config.auth.role = own;
            config.auth.named = vec![vic(named)];
            let server = start(config).await;
            let mut answers = Vec::new();
            for auth in tries.iter().cycle().take(21) {
                let response = knock(&mut remote(&server, "9.9.9.9").await, version, "cli", auth.clone()).await;
                answers.push(response["error"]["details"]["code"].clone());
            }
            assert_eq!(answers.last().unwrap(), "AUTH_RATE_LIMITED", "{tries:?}: {answers:?}");
        }
    }
}

#[tokio::test]
async fn callers_without_a_name_behind_a_proxy_on_this_machine_are_locked_out_as_well() {
    let server = start(proxied()).await;
    for number in 0..10 {
        // Who invents an address left of what is none is not told apart by it.
        let chain = format!("9.9.9.{number}, unknown");
        knock(&mut remote(&server, &chain).await, 4, "cli", json!({"token": "wrong"})).await;
    }
    let response = knock(&mut remote(&server, "9.9.9.99, unknown").await, 4, "cli", json!({"token": TOKEN})).await;
    assert_eq!(response["error"]["details"]["code"], "AUTH_RATE_LIMITED", "{response}");
}

#[tokio::test]
async fn sockets_that_do_not_finish_their_handshake_are_capped_per_address() {
    let mut config = proxied();
    config.limits.unauthenticated_sockets_per_ip = 3;
    let server = start(config).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(remote(&server, "9.9.9.9").await);
    }
    match server.dial("/", &[("x-forwarded-for", "9.9.9.9")]).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 429),
        other => panic!("{:?}", other.err()),
    }
    remote(&server, "9.9.9.8").await;
    // Who gets in no longer counts.
    assert_eq!(knock(&mut waiting[0], 4, "cli", json!({"token": TOKEN})).await["ok"], true);
    remote(&server, "9.9.9.9").await;
}

#[tokio::test]
async fn an_open_address_without_a_token_is_not_served() {
    for (token, served) in [(None, false), (Some(Secret::new("t")), true)] {
        let mut config = GatewayConfig::new("0");
        config.auth.token = token;
        let host = Arc::new(FakeHost::default());
        let records = Arc::new(MemoryRecords::default());
        let runs = Arc::new(FakeRuns::over(Arc::clone(&records)));
        let services = Services::new(host, Arc::clone(&records) as _, records, Arc::new(Rows::default()), runs);
        let gateway = Gateway::open(config, services).await.unwrap();
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let result = serve(listener, gateway, stop).await;
        match result {
            Ok(()) => assert!(served),
            Err(GatewayError::OpenBind { .. }) => assert!(!served),
            Err(other) => panic!("{other}"),
        }
    }
}
