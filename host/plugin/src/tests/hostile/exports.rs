//! A trap in each export that the host calls.

use futures_util::{SinkExt, StreamExt};
use leanclaw_test_guests::Guest;
use leanclaw_types::message::{Outbound, Place};
use leanclaw_types::plugin::PluginState;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::tests::servers::Server;
use crate::tests::support::{Bench, asking, assert_failed, context, manifest, with};
use crate::tests::webhooks::{message, request};

fn place() -> Place {
    message("k").place
}

/// Says what it offers, and traps in everything.
fn traps() -> Guest {
    let tool = json!({"name": "trap", "input-schema": "{}"});
    Guest::new(
        "export method; export skill; export hook; export channel; export channel-actions; export webhook;
         export wasi:http/incoming-handler@0.2.12;",
    )
    .methods()
    .answer("skill.tools", json!({"ok": [tool]}))
    .answer("hook.events", json!(["before-send"]))
    .answer("channel.describe", json!({"id": "t", "title": "T", "abilities": ["typing"]}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_in_any_export_is_a_failure_that_names_it() {
    let bench = Bench::with_witness().await;
    let rights = json!({"webhook": true, "httpRoutes": true, "hooks": ["before-send"]});
    let asks = with(asking("traps", rights), json!({"channels": ["t"]}));
    bench.install(&asks, &traps().build().unwrap()).await;
    let key = "traps".parse().unwrap();
    let plugins = &bench.plugins;
    let http = http::Request::builder().uri("http://localhost/").body(bytes::Bytes::new()).unwrap();
    let failures = [
        ("method.invoke", plugins.call_method("traps.run", "{}", context()).await.unwrap_err()),
        ("skill.invoke", plugins.invoke_tool("trap", "{}", context()).await.unwrap_err()),
        // Its hook traps too, and is passed over.
        ("channel.deliver", plugins.deliver(&key, message("k"), context()).await.unwrap_err()),
        ("channel-actions.perform", plugins.perform(&key, "typing", place(), &json!({}), context()).await.unwrap_err()),
        ("webhook.handle", plugins.webhook(&key, request("{}"), context()).await.unwrap_err()),
        ("incoming-handler.handle", plugins.http_route(&key, http, context()).await.unwrap_err()),
    ];
    for (export, failure) in &failures {
        assert_failed(failure, "internal");
        assert!(failure.message.contains(export) && failure.message.contains("unreachable"), "{export}: {failure}");
    }
    let calls = failures.len() + 1;
    assert_eq!(bench.audited("plugin-trap", "traps"), calls);
    assert!(bench.lines("traps").iter().any(|line| line.message.starts_with("hook.handle:")));
    let info = bench.inspect("traps");
    assert_eq!((info.state, info.stats.traps), (PluginState::Ready, u64::try_from(calls).unwrap()));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_in_a_poll_is_logged_and_tried_again_later() {
    let bench = Bench::with_witness().await;
    let server = Server::body("1").await;
    let rights = json!({"poll": true, "privateHttp": [server.origin()]});
    let next =
        json!({"ok": {"request": {"method": "GET", "url": server.url("/"), "timeout-ms": 5000}, "wait-ms": 60_000}});
    let asks = Guest::new("export poll;");
    bench.install(&asking("asks", rights.clone()), &asks.build().unwrap()).await;
    bench.install(&asking("hears", rights), &asks.answer("poll.next", next).build().unwrap()).await;
    for (id, export) in [("asks", "poll.next"), ("hears", "poll.received")] {
        let line = bench.until_line(id, &format!("{export}: ")).await;
        assert!(line.message.contains("unreachable"), "{line:?}");
        bench.until_line(id, "trying again in 1s").await;
        bench.until_line(id, &format!("hint: leanclaw plugin logs {id}")).await;
    }
    bench.close().await;
}

/// Greets every WebSocket and answers until it is closed.
async fn greeter() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                let _ = socket.send(Message::text("hello")).await;
                while let Some(Ok(_)) = socket.next().await {}
            });
        }
    });
    format!("ws://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_in_any_part_of_a_socket_is_logged() {
    let bench = Bench::with_witness().await;
    let url = greeter().await;
    let rights = json!({"sockets": [url], "privateHttp": [url]});
    let calm = json!({"ok": {"send": [], "wake-after-ms": 50}});
    let closes = json!({"ok": {"send": [], "close": true}});
    let parts = ["socket.target", "socket.opened", "socket.received", "socket.woken", "socket.closed"];
    for part in parts {
        let mut guest = Guest::new("export socket;");
        for (other, answer) in [
            ("socket.target", json!({"ok": {"url": url}})),
            ("socket.opened", calm.clone()),
            ("socket.received", if part == "socket.closed" { closes.clone() } else { calm.clone() }),
            ("socket.woken", calm.clone()),
            ("socket.closed", json!({"ok": null})),
        ] {
            if other != part {
                guest = guest.answer(other, answer);
            }
        }
        bench.install(&asking(&part.replace('.', "-"), rights.clone()), &guest.build().unwrap()).await;
    }
    for part in parts {
        let line = bench.until_line(&part.replace('.', "-"), &format!("{part}: ")).await;
        assert!(line.message.contains("unreachable"), "{line:?}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_guest_that_always_traps_ends_faulted() {
    let bench = Bench::with_witness().await;
    let wasm = leanclaw_test_guests::method("unreachable").unwrap();
    bench.install(&with(manifest("crash"), json!({"lifecycle": "resident"})), &wasm).await;
    for _ in 0..5 {
        assert_failed(&bench.run("crash", "{}").await.unwrap_err(), "internal");
    }
    let info = bench.until("crash", |info| info.state == PluginState::Faulted).await;
    assert!(info.reason.contains("leanclaw plugin reload crash"), "{}", info.reason);
    assert_eq!(info.stats.restarts, 5);
    assert_eq!(bench.run("crash", "{}").await.unwrap_err().code, "not-found");
    let lines = bench.lines("crash");
    assert!(lines.iter().any(|line| line.message.contains("unreachable") && line.level == "error"), "{lines:?}");
    bench.plugins.reload(&crate::tests::support::caller(), Some(&"crash".parse().unwrap())).await.unwrap();
    bench.until("crash", |info| info.state == PluginState::Ready).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_gives_a_failure_of_its_own_is_not_believed_too_far() {
    let bench = Bench::with_witness().await;
    let failure = json!({
        "code": format!("no\u{1b}[2J{}", "x".repeat(1000)), "message": "m\u{7}".repeat(10_000), "retryable": true,
        "retry-after-ms": u64::MAX, "extra": "{not json"
    });
    let guest = Guest::new("export method;").methods().answer("method.invoke", json!({"err": failure}));
    bench.install(&manifest("lies"), &guest.build().unwrap()).await;
    let failure = bench.run("lies", "{}").await.unwrap_err();
    assert!(failure.code.len() < 100 && !failure.code.contains('\u{1b}'), "{}", failure.code);
    assert!(failure.message.len() <= 4096 * 8 && !failure.message.contains('\u{7}'), "{}", failure.message.len());
    assert_eq!((failure.retryable, failure.extra), (true, None));
    bench.close().await;
}

/// A delivery that carries as much as a message can.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_trapping_guest_was_handed_is_given_back() {
    let bench = Bench::with_witness().await;
    let asks = with(
        asking("traps", json!({"hooks": ["before-send"], "webhook": true, "httpRoutes": true})),
        json!({"channels": ["t"]}),
    );
    bench.install(&asks, &traps().build().unwrap()).await;
    let mut large: Outbound = message("k");
    large.parts[0].blob =
        Some(leanclaw_types::message::Blob { media_type: "image/png".into(), data: vec![7; 1 << 20] });
    for _ in 0..3 {
        assert_failed(
            &bench.plugins.deliver(&"traps".parse().unwrap(), large.clone(), context()).await.unwrap_err(),
            "internal",
        );
    }
    bench.close().await;
}
