//! Polls and WebSockets that the host drives.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use leanclaw_test_guests::Guest;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::servers::Server;
use super::support::{Bench, asking, with};

/// Logs the text at `$at`.
const SAY: &str = "(func $say (param $at i32) (param $length i32)
    (call $log.write (global.get $info) (global.get $info_len) (local.get $at) (local.get $length) (i32.const 0) (i32.const 0)))";

/// Polls `url` every `wait_ms` and logs the body it gets, or the code of the failure.
fn polls(url: &str, wait_ms: u64) -> Guest {
    let request = json!({"method": "get", "url": url, "headers": [{"name": "x-a", "value": "1"}], "timeout-ms": 5000});
    Guest::new("import log; export poll;")
        .text("info", "info")
        .fields(SAY)
        .answer("poll.next", json!({"ok": {"request": request, "wait-ms": wait_ms}}))
        .run(
            "poll.received",
            "(if (local.get $response_0)
                (then (call $say (local.get $response_1) (local.get $response_2)))
                (else (call $say (local.get $response_4) (local.get $response_5))))
             (call $room)",
        )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_polls_and_hands_the_answer_over() {
    let bench = Bench::with_witness().await;
    let server = Server::body("fresh news").await;
    let rights = json!({"poll": true, "privateHttp": [server.origin()]});
    bench.install(&asking("polls", rights), &polls(&server.url("/news"), 50).build().unwrap()).await;
    let line = bench.until_line("polls", "fresh news").await;
    assert_eq!(line.source, "log");
    let request = &server.requests()[0];
    assert!(request.starts_with("GET /news ") && request.contains("x-a: 1"), "{request}");
    bench.wait("it polls once only", || (server.requests().len() >= 3).then_some(())).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_grant_nothing_is_polled_and_taking_it_ends_the_polling() {
    let bench = Bench::with_witness().await;
    let server = Server::body("news").await;
    let rights = json!({"poll": true, "privateHttp": [server.origin()]});
    let wasm = polls(&server.url("/"), 50).build().unwrap();
    bench.install(&asking("silent", json!({"privateHttp": [server.origin()]})), &wasm).await;
    bench.install(&asking("polls", rights), &wasm).await;
    bench.until_line("polls", "news").await;
    let private = format!("private-http:{}", server.origin());
    bench.revoke("polls").await;
    bench.grant_items("polls", &[&private]).await;
    // The instance that served the polls goes with the driver.
    bench.no_instance_is_left().await;
    assert!(bench.lines("silent").is_empty());
    let polled = server.requests().len();
    bench.grant_items("polls", &["poll"]).await;
    bench.wait("it does not poll again", || (server.requests().len() > polled).then_some(())).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_poll_is_told_to_the_plugin_and_backs_off() {
    let bench = Bench::with_witness().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let other = Server::body("1").await;
    let rights = json!({"poll": true, "privateHttp": [closed]});
    bench.install(&asking("refused", rights.clone()), &polls(&closed, 50).build().unwrap()).await;
    bench.install(&asking("denied", rights.clone()), &polls(&other.url("/"), 50).build().unwrap()).await;
    bench.install(&asking("nonsense", rights.clone()), &polls("no address", 50).build().unwrap()).await;
    let cases = [("refused", "unavailable"), ("denied", "denied"), ("nonsense", "invalid-input")];
    for (id, code) in cases {
        bench.until_line(id, code).await;
        bench.until_line(id, "trying again in 1s").await;
        bench.until_line(id, "trying again in 2s").await;
        let said: Vec<_> = bench.lines(id).into_iter().filter(|line| line.source == "log").collect();
        assert!(said.iter().all(|line| line.message == code) && said.len() == 2, "{id}: {said:?}");
    }
    bench.until_line("denied", "hint: leanclaw plugin grant denied --private-http").await;
    assert!(other.requests().is_empty());
    // A plugin's own failure backs off the same way.
    let fails =
        Guest::new("export poll;").answer("poll.next", json!({"err": {"code": "unavailable", "message": "Not yet."}}));
    bench.install(&asking("fails", rights), &fails.build().unwrap()).await;
    bench.until_line("fails", "Not yet. (unavailable); trying again in 1s").await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_whose_polls_keep_failing_is_cut_off() {
    let bench = Bench::with_witness().await;
    let not_yet = json!({"code": "unavailable", "message": "Not yet.", "retry-after-ms": 50});
    let channel = |next: serde_json::Value| {
        let guest = Guest::new("export channel; export poll;").answer("channel.describe", json!({"id": "post"}));
        guest.answer("poll.next", next).build().unwrap()
    };
    let asks = with(asking("mail", json!({"poll": true})), json!({"channels": ["post"]}));
    bench.install(&asks, &channel(json!({"err": not_yet}))).await;
    let cut_off = || bench.plugins.cut_off_channels();
    let found = bench.wait("it fails again and again", || Some(cut_off()).filter(|found| !found.is_empty())).await;
    assert_eq!(found, [("mail".parse().unwrap(), "post".to_owned())]);
    bench.install(&asks, &channel(json!({"ok": {"wait-ms": 50}}))).await;
    bench.wait("the next version works", || cut_off().is_empty().then_some(())).await;
    bench.close().await;
}

/// A WebSocket server that greets, remembers what it is told, and closes once it was told `waking`.
async fn chatter() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                let _ = socket.send(Message::text("hello")).await;
                while let Some(Ok(message)) = socket.next().await {
                    let Message::Text(text) = message else { continue };
                    kept.lock().unwrap().push(text.to_string());
                    if text.as_str() == "waking" {
                        let frame = CloseFrame { code: CloseCode::Away, reason: "good night".into() };
                        let _ = socket.close(Some(frame)).await;
                    }
                }
            });
        }
    });
    (format!("ws://{address}"), told)
}

/// Says hello when it is opened, logs what it hears, and says `waking` when it is woken.
fn chats(url: &str) -> Guest {
    let says = |text: &str| json!({"ok": {"send": [{"kind": "text", "data": text}]}});
    Guest::new("import log; export socket;")
        .text("info", "info")
        .fields(SAY)
        .answer("socket.target", json!({"ok": {"url": url}}))
        .answer("socket.opened", says("opening"))
        .answer("socket.woken", says("waking"))
        .run(
            "socket.received",
            "(call $say (local.get $frame_2) (local.get $frame_3))
             (local.set $area (call $room))
             (i32.store8 offset=16 (local.get $area) (i32.const 1))
             (i64.store offset=24 (local.get $area) (i64.const 60))
             (local.get $area)",
        )
        .run("socket.closed", "(call $say (local.get $reason) (local.get $reason_len)) (call $room)")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_keeps_a_socket_and_the_plugin_reacts() {
    let bench = Bench::with_witness().await;
    let (url, told) = chatter().await;
    let rights = json!({"sockets": [url], "privateHttp": [url]});
    bench.install(&asking("chats", rights), &chats(&url).build().unwrap()).await;
    bench.until_line("chats", "hello").await;
    bench.until_line("chats", "good night").await;
    assert_eq!(*told.lock().unwrap(), ["opening", "waking"]);
    // It is opened again after a pause.
    bench.wait("it is not opened again", || (told.lock().unwrap().len() > 2).then_some(())).await;
    bench.revoke("chats").await;
    bench.no_instance_is_left().await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_needs_its_own_grant_and_its_target_is_checked() {
    let bench = Bench::with_witness().await;
    let (url, told) = chatter().await;
    let (other, unheard) = chatter().await;
    let wasm = chats(&url).build().unwrap();
    let http = url.replace("ws:", "http:");
    bench.install(&asking("silent", json!({"http": [http], "privateHttp": [http]})), &wasm).await;
    bench
        .install(&asking("denied", json!({"sockets": [url], "privateHttp": [url]})), &chats(&other).build().unwrap())
        .await;
    bench.until_line("denied", "hint: leanclaw plugin grant denied socket:").await;
    bench.install(&asking("inside", json!({"sockets": [url]})), &wasm).await;
    bench.until_line("inside", "hint: leanclaw plugin grant inside --private-http").await;
    assert!(told.lock().unwrap().is_empty() && unheard.lock().unwrap().is_empty());
    assert!(bench.lines("silent").is_empty());
    let binary = json!({"ok": {"send": [{"kind": "text", "data": [255, 254]}]}});
    let bad = chats(&url).answer("socket.opened", binary);
    bench.install(&asking("bad", json!({"sockets": [url], "privateHttp": [url]})), &bad.build().unwrap()).await;
    bench.until_line("bad", "must be UTF-8").await;
    bench.close().await;
}
