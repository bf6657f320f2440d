//! The HTTP surface.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use leanclaw_types::redact::Secret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::devices::proxied;
use super::hooks::with_hooks;
use super::{PATIENCE, Server, TOKEN, start, with_token};
use crate::GatewayConfig;

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn raw(server: &Server, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Some(Answer { status, headers: headers.collect(), body: body.to_owned() })
}

pub(super) async fn request(server: &Server, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut text = format!("{line} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "host") {
        text.push_str("host: localhost\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    raw(server, text.as_bytes()).await.expect("an answer")
}

pub(super) fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

#[tokio::test]
async fn probes() {
    let server = start(with_token()).await;
    for path in ["/health", "/healthz"] {
        let answer = request(&server, &format!("GET {path}"), &[], "").await;
        assert_eq!((answer.status, answer.json()), (200, json!({"ok": true, "status": "live"})));
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        assert!(answer.headers.contains_key("permissions-policy"));
        let head = request(&server, &format!("HEAD {path}"), &[], "").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        let wrong = request(&server, &format!("POST {path}"), &[], "").await;
        assert_eq!(
            (wrong.status, wrong.headers["allow"].as_str(), wrong.body.as_str()),
            (405, "GET, HEAD", "Method Not Allowed")
        );
    }
    assert_eq!(request(&server, "GET /startupz", &[], "").await.json(), json!({"ok": true, "status": "started"}));
    let ready = request(&server, "GET /ready", &[], "").await;
    assert_eq!(
        (ready.status, ready.json()["ready"].as_bool(), ready.json()["failing"].clone()),
        (200, Some(true), json!([]))
    );
    server.host.unready.store(true, Ordering::SeqCst);
    let ready = request(&server, "GET /readyz", &[], "").await;
    assert_eq!((ready.status, ready.json()["failing"].clone()), (503, json!(["plugins"])));
    assert_eq!(ready.json()["details"][0]["reason"], "two plugins are loading");
    // From elsewhere only the verdict, unless the credential is shown.
    let far = [("x-forwarded-for", "9.9.9.9")];
    assert_eq!(request(&server, "GET /readyz", &far, "").await.json(), json!({"ready": false}));
    let shown = [("host", "gateway.example"), ("authorization", &bearer())];
    assert_eq!(request(&server, "GET /readyz", &shown, "").await.json()["failing"], json!(["plugins"]));
}

#[tokio::test]
async fn metrics_are_json_or_text_and_not_for_strangers() {
    let server = start(with_token()).await;
    let client = server.admin().await;
    let json = request(&server, "GET /metrics", &[("accept", "*/*")], "").await;
    let figures = json.json();
    assert_eq!((json.status, &figures["status"], &figures["connections"]), (200, &json!("ok"), &json!(1)));
    assert!(figures["uptime"].is_number() && figures["memoryUsageMb"].is_u64(), "{figures}");
    assert_eq!((&figures["connectedChannels"], &figures["plugins"]["faulted"]), (&json!(1), &json!(1)));
    for (line, accept) in [("GET /metrics", "text/plain"), ("GET /metrics/prometheus", "*/*")] {
        let text = request(&server, line, &[("accept", accept)], "").await;
        assert_eq!(
            (text.status, text.headers["content-type"].as_str()),
            (200, "text/plain; version=0.0.4; charset=utf-8")
        );
        assert!(text.body.contains("# TYPE leanclaw_connections gauge\nleanclaw_connections 1\n"), "{}", text.body);
        assert!(
            text.body.contains("leanclaw_plugin_calls_total{plugin=\"notes\",account=\"default\"} 0\n"),
            "{}",
            text.body
        );
    }
    drop(client);
    server.host.unready.store(true, Ordering::SeqCst);
    assert_eq!(request(&server, "GET /metrics", &[], "").await.json()["status"], "degraded");
    let head = request(&server, "HEAD /metrics", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let wrong = request(&server, "POST /metrics", &[], "").await;
    assert_eq!((wrong.status, wrong.headers["allow"].as_str()), (405, "GET, HEAD"));
    let far = ("x-forwarded-for", "9.9.9.9");
    let server = start(proxied()).await;
    assert_eq!(request(&server, "GET /metrics", &[far], "").await.status, 401);
    assert_eq!(request(&server, "GET /metrics", &[far, ("authorization", &bearer())], "").await.status, 200);
    assert_eq!(request(&server, "GET /metrics", &[far, ("authorization", "Bearer wrong")], "").await.status, 401);
}

#[tokio::test]
async fn a_scrape_without_a_credential_is_no_failed_login() {
    let server = start(proxied()).await;
    let (far, bearer) = (("x-forwarded-for", "9.9.9.9"), bearer());
    for path in ["/metrics", "/metrics/prometheus"] {
        for _ in 0..20 {
            assert_eq!(request(&server, &format!("GET {path}"), &[far], "").await.status, 401);
        }
    }
    let right = [far, ("authorization", bearer.as_str())];
    assert_eq!(request(&server, "GET /metrics", &right, "").await.status, 200);
    assert!(server.audit.all().is_empty(), "{:?}", server.audit.all());
    for _ in 0..10 {
        let wrong = [far, ("authorization", "Bearer wrong")];
        assert_eq!(request(&server, "GET /metrics", &wrong, "").await.status, 401);
    }
    assert_eq!(request(&server, "GET /metrics", &right, "").await.status, 429, "a wrong one is");
}

#[tokio::test]
async fn unknown_paths_and_bad_upgrades() {
    let server = start(with_token()).await;
    let missing = request(&server, "GET /nope", &[], "").await;
    assert_eq!(
        (missing.status, missing.json()),
        (404, json!({"error": {"message": "Not Found", "type": "not_found"}}))
    );
    let upgrade = [("upgrade", "websocket"), ("sec-websocket-version", "8"), ("sec-websocket-key", "x")];
    assert_eq!(request(&server, "GET /ws", &upgrade, "").await.status, 426);
    let upgrade = [("upgrade", "websocket"), ("sec-websocket-version", "13"), ("connection", "upgrade")];
    assert_eq!(request(&server, "GET /ws", &upgrade, "").await.status, 400);
    for key in ["short", "c2hvcnQ=", "not base64 at all !!"] {
        let with_key = [&upgrade[..], &[("sec-websocket-key", key)]].concat();
        assert_eq!(request(&server, "GET /ws", &with_key, "").await.status, 400, "{key}");
    }
}

#[tokio::test]
async fn tools_over_http() {
    let server = start(with_token()).await;
    let bearer = bearer();
    let auth = [("authorization", bearer.as_str())];
    let call = |body: Value| {
        let body = body.to_string();
        let server = &server;
        async move { request(server, "POST /tools/invoke", &auth, &body).await }
    };
    let good = call(json!({"tool": "convert", "args": {"a": 1}, "sessionKey": "s"})).await;
    assert_eq!(good.status, 200);
    assert_eq!(good.json()["result"]["content"][0], json!({"type": "text", "text": "1 m = 100 cm"}));
    assert_eq!(good.json()["result"]["details"], json!({"input": {"a": 1}, "sessionKey": "s"}));
    for body in [json!({"name": "convert"}), json!({"toolName": "convert", "params": {}})] {
        assert_eq!(call(body).await.status, 200);
    }
    let unknown = call(json!({"tool": "nope"})).await;
    let error = json!({"ok": false, "error": {"type": "not_found", "message": "Tool not available: nope"}});
    assert_eq!((unknown.status, unknown.json()), (404, error));
    let nameless = call(json!({})).await;
    let error = json!({"ok": false, "error": {"type": "invalid_request", "message": "tools.invoke requires name"}});
    assert_eq!((nameless.status, nameless.json()), (400, error));
    let failed = call(json!({"tool": "convert", "args": {"fail": true}})).await;
    let error = json!({"ok": false, "error": {"type": "tool_error", "message": "no such unit"}});
    assert_eq!((failed.status, failed.json()), (500, error));
    assert_eq!(call(json!({"tool": "convert", "args": {"trap": true}})).await.json()["error"]["type"], "tool_error");
    assert_eq!(call(json!({"tool": "convert", "dryRun": true})).await.json(), json!({"ok": true, "dryRun": true}));
    let broken = request(&server, "POST /tools/invoke", &auth, "{").await;
    assert_eq!((broken.status, broken.json()["error"]["type"].as_str()), (400, Some("invalid_request_error")));
    let wrong = request(&server, "GET /tools/invoke", &auth, "").await;
    assert_eq!((wrong.status, wrong.headers["allow"].as_str()), (405, "POST"));
}

#[tokio::test]
async fn http_callers_prove_themselves() {
    let server = start(with_token()).await;
    for headers in [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", TOKEN)]] {
        let answer = request(&server, "POST /tools/invoke", headers, "{\"tool\":\"convert\"}").await;
        let body = json!({"error": {"message": "Unauthorized", "type": "unauthorized"}});
        assert_eq!((answer.status, answer.json()), (401, body), "{headers:?}");
    }
    let bearer = bearer();
    let proxied = [("authorization", bearer.as_str()), ("x-forwarded-for", "1.2.3.4")];
    let answer = request(&server, "POST /tools/invoke", &proxied, "{\"tool\":\"convert\"}").await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("gateway.trustedProxies"));

    let open = start(GatewayConfig::new("0")).await;
    assert_eq!(request(&open, "POST /tools/invoke", &[], "{\"tool\":\"convert\"}").await.status, 200);
    for headers in [("origin", "http://localhost"), ("sec-fetch-site", "cross-site"), ("host", "evil.example")] {
        let answer = request(&open, "POST /tools/invoke", &[headers], "{\"tool\":\"convert\"}").await;
        assert_eq!(answer.status, 403, "{headers:?}");
        assert!(answer.body.contains("LEANCLAW_GATEWAY_API_KEY"));
    }
}

#[tokio::test]
async fn who_lacks_the_scope_is_counted_and_written_down_once() {
    let mut config = proxied();
    config.live.rates.per_credential.expensive = 2;
    config.auth.named =
        vec![crate::Credential { name: "vic".into(), secret: Secret::new("of-vic"), role: crate::Role::Viewer }];
    let server = start(config).await;
    let headers = [("x-forwarded-for", "9.9.9.9"), ("authorization", "Bearer of-vic")];
    for status in [403, 403, 429] {
        let answer = request(&server, "POST /tools/invoke", &headers, "{\"tool\":\"convert\"}").await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    let rows = server.audit.all();
    assert_eq!(rows.iter().filter(|row| row["kind"] == "scope-denied").count(), 1, "{rows:?}");
}

#[tokio::test]
async fn wrong_bearers_lock_an_address_out() {
    let server = start(proxied()).await;
    let from = ("x-forwarded-for", "9.9.9.9");
    for _ in 0..10 {
        let answer = request(&server, "POST /tools/invoke", &[from, ("authorization", "Bearer no")], "{}").await;
        assert_eq!(answer.status, 401);
    }
    let bearer = bearer();
    let answer = request(&server, "POST /tools/invoke", &[from, ("authorization", &bearer)], "{}").await;
    assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (429, "300"));
    let answer = request(&server, "POST /tools/invoke", &[("authorization", bearer.as_str())], "{}").await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn webhooks_are_public_and_handed_on_as_sent() {
    let server = start(with_token()).await;
    let headers = [("authorization", "Bearer for-the-plugin"), ("x-forwarded-for", "1.1.1.1"), ("x-sign", "abc")];
    let answer = request(&server, "PUT /plugins/chat~work/hook/a%2Fb?q=1&r", &headers, "payload").await;
    assert_eq!((answer.status, answer.body.as_str()), (202, "hello chat/work"));
    // A page of the gateway's own origin must not run a plugin's scripts.
    assert_eq!(answer.headers["content-security-policy"], "sandbox");
    assert_eq!(answer.headers["content-type"], "text/html");
    assert!(!answer.headers.contains_key("x-gone"));
    let bearer = bearer();
    request(&server, "POST /plugins/chat/hook", &[("authorization", bearer.as_str())], "").await;
    let seen = std::mem::take(&mut *server.host.webhooks.lock().unwrap());
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str(), seen[0].query.as_str()), ("PUT", "/a%2Fb", "q=1&r"));
    assert_eq!(&seen[0].body[..], b"payload");
    assert!(seen[0].headers.contains(&("x-sign".into(), b"abc".to_vec())));
    assert!(seen[0].headers.contains(&("authorization".into(), b"Bearer for-the-plugin".to_vec())));
    assert!(seen[0].remote.ip().is_loopback());
    assert_eq!(seen[1].path, "/");
    assert!(!seen[1].headers.iter().any(|(name, _)| name == "authorization"), "the gateway's token reached a plugin");
    assert_eq!(request(&server, "POST /plugins/nope/hook/", &[], "").await.status, 404);
    assert_eq!(request(&server, "POST /plugins/..%2fx/hook/", &[], "").await.status, 404);
}

#[tokio::test]
async fn plugin_routes_need_the_credential_and_never_see_it() {
    let server = start(with_token()).await;
    assert_eq!(request(&server, "GET /plugins/notes/http/x", &[], "").await.status, 401);
    let bearer = bearer();
    let headers = [("authorization", bearer.as_str()), ("x-kept", "1")];
    let answer = request(&server, "PATCH /plugins/notes/http/x/y?z=1", &headers, "b").await;
    assert_eq!(
        answer.json(),
        json!({"key": "notes", "method": "PATCH", "uri": "/x/y?z=1", "authorization": false, "kept": true, "body": "b"})
    );
    assert_eq!(answer.headers["content-security-policy"], "sandbox");
    let root = request(&server, "GET /plugins/notes/http", &headers, "").await;
    assert_eq!(root.json()["uri"], "/");
}

#[tokio::test]
async fn bodies_and_heads_are_bounded_in_size() {
    let mut config = with_token();
    config.limits.webhook_body_bytes = 1000;
    let server = start(config).await;
    assert_eq!(request(&server, "POST /plugins/chat/hook/", &[], &"x".repeat(1000)).await.status, 202);
    let large = request(&server, "POST /plugins/chat/hook/", &[], &"x".repeat(1001)).await;
    assert_eq!(large.status, 413);
    assert!(large.body.contains("1000"));
    let announced =
        b"POST /plugins/chat/hook/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1001\r\n\r\n";
    assert_eq!(raw(&server, announced).await.unwrap().status, 413, "it is not waited for");
    let nobodys = request(&server, "POST /plugins/nope/hook/", &[], &"x".repeat(1001)).await;
    assert_eq!(nobodys.status, 404, "the body of a webhook that nobody takes is not looked at");
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 1001, "x".repeat(1001));
    let chunked = format!(
        "POST /plugins/chat/hook/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"
    );
    assert_eq!(raw(&server, chunked.as_bytes()).await.unwrap().status, 413);
    let many = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    let flood = raw(&server, format!("GET /health HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await;
    assert_eq!(flood.unwrap().status, 431);
}

#[tokio::test]
async fn bodies_and_heads_are_bounded_in_time() {
    let mut config = with_token();
    config.limits.http_body_timeout = Duration::from_millis(50);
    let server = start(config).await;
    let slow_body =
        b"POST /plugins/chat/hook/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 10\r\n\r\nabc";
    assert_eq!(raw(&server, slow_body).await.unwrap().status, 408);

    let mut config = with_token();
    config.limits.http_header_timeout = Duration::from_millis(50);
    let server = start(config).await;
    // A head that never ends: the connection is closed without waiting for more.
    let slow_head = raw(&server, b"GET /health HTTP/1.1\r\nhost: x\r\n").await;
    assert!(slow_head.is_none_or(|answer| answer.status == 408));
}

#[tokio::test]
async fn connections_of_one_address_are_capped_and_authenticated_sockets_do_not_count() {
    let mut config = with_token();
    config.limits.connections_per_ip = 3;
    let server = start(config).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(server.admin().await);
    }
    let idle: Vec<TcpStream> = {
        let mut idle = Vec::new();
        for _ in 0..3 {
            idle.push(TcpStream::connect(server.address).await.unwrap());
        }
        idle
    };
    // Accepted in order, so the three above are counted by the time this one is.
    assert!(raw(&server, b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.is_none());
    drop(idle);
    let mut clients = clients.into_iter();
    assert_eq!(clients.next().unwrap().call("health", json!({})).await["ok"], true);
}

#[tokio::test]
async fn http_callers_may_do_what_their_role_may() {
    let mut config = with_token();
    let credential =
        |name: &str, role| crate::Credential { name: name.into(), secret: Secret::new(format!("of-{name}")), role };
    config.auth.named = vec![credential("ann", crate::Role::User), credential("vic", crate::Role::Viewer)];
    let server = start(config).await;
    for (who, post, get) in [("ann", 200, 200), ("vic", 403, 200), ("eve", 401, 401)] {
        let bearer = format!("Bearer of-{who}");
        let headers = [("authorization", bearer.as_str())];
        let answer = request(&server, "POST /tools/invoke", &headers, "{\"tool\":\"convert\",\"args\":{}}").await;
        assert_eq!(answer.status, post, "{who}");
        assert_eq!(request(&server, "GET /plugins/notes/http/x", &headers, "").await.status, get, "{who}");
        let changed = request(&server, "POST /plugins/notes/http/x", &headers, "").await;
        assert_eq!(changed.status, post, "{who}");
    }
}

#[tokio::test]
async fn every_route_that_is_described_is_there_and_answers_as_it_is_described() {
    let server = start(with_hooks()).await;
    let described = request(&server, "GET /openapi.json", &[], "").await;
    assert!(described.json() == crate::web::described(), "the file that is served is another one");
    let document = described.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, crate::web::table().iter().map(|(path, _)| *path).collect::<Vec<_>>());
    let head = [("authorization", bearer())];
    let headers: Vec<(&str, &str)> = head.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for (path, methods) in crate::web::table() {
        let real =
            path.replace("{key}", "chat").replace("{name}", "ci").replace("{rest}", "any").replace("{agent}", "main");
        let hook = [("authorization", "Bearer hook-token")];
        let with: &[(&str, &str)] = if path.starts_with("/hooks") { &hook } else { &headers };
        if methods == ["GET"] {
            let head = request(&server, &format!("HEAD {real}"), with, "").await;
            let get = request(&server, &format!("GET {real}"), with, "").await;
            assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{path}");
        }
        let wrong = request(&server, &format!("OPTIONS {real}"), with, "").await;
        let allow = match methods {
            ["GET"] if path != "/{rest}" => Some("GET, HEAD"),
            ["POST"] => Some("POST"),
            _ => None,
        };
        match allow {
            Some(allow) => assert_eq!((wrong.status, wrong.headers["allow"].as_str()), (405, allow), "{path}"),
            None => assert_ne!(wrong.status, 405, "{path} takes any method, or has no page"),
        }
    }
    // What is answered is of the shape that is described.
    let tool = "{\"tool\": \"nope\"}";
    for (method, path, body) in [
        ("GET", "/health", ""),
        ("GET", "/ready", ""),
        ("GET", "/startupz", ""),
        ("GET", "/metrics", ""),
        ("POST", "/tools/invoke", tool),
        ("POST", "/tools/invoke", "{}"),
        ("GET", "/control-ui-config.json", ""),
        ("GET", "/__openclaw/control-ui-config.json", ""),
        ("GET", "/__openclaw__/control-ui-config.json", ""),
        ("GET", "/avatar/{agent}?meta=1", ""),
        ("GET", "/avatar/{agent}", ""),
    ] {
        let line = format!("{method} {}", path.replace("{agent}", "main"));
        let answer = request(&server, &line, &headers, body).await;
        let path = path.split('?').next().unwrap();
        let said = &document["paths"][path][method.to_lowercase()]["responses"][answer.status.to_string()];
        let mut schema = said["content"]["application/json"]["schema"].clone();
        assert!(schema.is_object(), "{path} {} is not described", answer.status);
        schema["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(validator.is_valid(&answer.json()), "{path}: {}", answer.body);
    }
}
