//! HTTP: probes, webhooks and plugins' own routes.

use std::process::Command;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use tokio::time::timeout;

use crate::support::{Place, env, eventually, install_guest, manifest, request};

#[tokio::test]
async fn probes() {
    let place = Place::with_examples(&["notes"]).await;
    let program = place.start().await;
    for path in ["/health", "/healthz"] {
        let health = program.get(path).await;
        assert_eq!((health.status, health.text().as_str()), (200, r#"{"ok":true,"status":"live"}"#));
    }
    assert_eq!(program.ready["ready"], true, "a plugin that waits for an admin holds nothing up: {}", program.ready);
    assert_eq!(program.get("/ready").await.json()["failing"], json!([]));
    assert_eq!(program.get("/nothing").await.status, 404);
    assert_eq!(request(program.address, "POST", "/health", &[], b"").await.status, 405);
    program.stop().await;
}

/// A plugin that cannot be loaded makes the program not ready, and it says which one.
#[tokio::test]
async fn readiness_names_a_faulted_plugin() {
    let place = Place::empty();
    let program = place.start().await;
    let wasm = leanclaw_test_guests::Guest::new("export method;").run("method.methods", "unreachable").build().unwrap();
    install_guest(&place, &manifest("broken", "1", &json!({})), &wasm);
    program.plugin_until("broken", "is there", |found| found["state"] == "needs-grant").await;
    assert_eq!(program.get("/ready").await.status, 200);
    let granted = program.grant_all("broken").await;
    assert_eq!(granted["state"], "faulted", "{granted}");
    let ready = program.get("/ready").await;
    assert_eq!(ready.status, 503);
    assert_eq!(
        ready.json()["details"],
        json!([{"name": "plugins", "reason": "broken is faulted (`leanclaw plugin inspect broken` shows why)"}])
    );
    let elsewhere = request(program.address, "GET", "/ready", &[("host", "evil.example")], b"").await;
    assert_eq!(elsewhere.json(), json!({"ready": false}), "strangers are told no names");
    std::fs::remove_dir_all(place.plugins().join("broken")).unwrap();
    program.plugin_until("broken", "is gone", |found| found.is_null()).await;
    assert_eq!(program.get("/ready").await.status, 200);
    program.stop().await;
}

/// A channel that was let in and does not run makes the program not ready, and it says where to look; one that nobody let in
/// does not.
#[tokio::test]
async fn readiness_names_a_channel_that_does_not_run() {
    let place = Place::empty();
    let program = place.start().await;
    let wasm =
        leanclaw_test_guests::Guest::new("export channel;").run("channel.describe", "unreachable").build().unwrap();
    install_guest(&place, &manifest("mail", "1", &json!({"channels": ["post"]})), &wasm);
    program.plugin_until("mail", "is there", |found| found["state"] == "needs-grant").await;
    assert_eq!(program.get("/ready").await.status, 200);
    assert_eq!(program.grant_all("mail").await["state"], "faulted");
    let ready = program.get("/ready").await;
    let shows_why = "is faulted (`leanclaw plugin inspect mail` shows why)";
    let details = json!([
        {"name": "plugins", "reason": format!("mail {shows_why}")},
        {"name": "channels", "reason": format!("the channel post of mail {shows_why}")},
    ]);
    assert_eq!((ready.status, &ready.json()["details"]), (503, &details));
    assert_eq!(ready.json()["failing"], json!(["plugins", "channels"]));
    let shown = program.client().await.ok("channels.status", json!({})).await["channels"]["post"].clone();
    assert_eq!((&shown["configured"], &shown["running"]), (&json!(true), &json!(false)), "{shown}");
    assert!(place.run(&["plugin", "inspect", "mail"]).await.ok().contains("faulted"));
    std::fs::remove_dir_all(place.plugins().join("mail")).unwrap();
    program.plugin_until("mail", "is gone", |found| found.is_null()).await;
    assert_eq!(program.get("/ready").await.status, 200);
    program.stop().await;
}

/// A program that has no room for another guest is not ready while somebody waits for it, and it says what to do.
#[tokio::test]
async fn readiness_names_a_sandbox_without_room() {
    let place = Place::empty();
    let spins = leanclaw_test_guests::method("(loop (br 0)) unreachable").unwrap();
    install_guest(&place, &manifest("holds", "1", &json!({})), &spins);
    install_guest(&place, &manifest("waits", "1", &json!({})), &leanclaw_test_guests::answers("2").unwrap());
    let program = place.start_with(env("LEANCLAW_MAX_INSTANCES", "1")).await;
    for id in ["holds", "waits"] {
        assert_eq!(program.grant_all(id).await["state"], "ready", "{id}");
    }
    let (mut holder, mut waiter) = (program.client().await, program.client().await);
    holder.send("holds.run", json!({})).await;
    let mut waiting = waiter.send("waits.run", json!({})).await;
    let ready = eventually("somebody waits for too long", async || {
        // Until the one that holds the place has it, there is room for others.
        if timeout(Duration::from_millis(20), waiter.answer(&waiting)).await.is_ok() {
            waiting = waiter.send("waits.run", json!({})).await;
        }
        let ready = program.get("/ready").await;
        (ready.status == 503).then_some(ready)
    })
    .await;
    assert_eq!(ready.json()["failing"], json!(["sandbox"]), "{}", ready.text());
    let reason = ready.json()["details"][0]["reason"].to_string();
    assert!(reason.contains("all 1 are in use") && reason.contains("LEANCLAW_MAX_INSTANCES"), "{reason}");
    drop(holder);
    assert_eq!(waiter.answer(&waiting).await.unwrap(), 2);
    assert_eq!(program.get("/ready").await.status, 200);
    program.stop().await;
}

/// Its body is the text `routed`, whatever is asked.
const ROUTED: &str = "
    (local.set $i (call $types.outgoing-response.new (call $types.fields.new)))
    (call $types.outgoing-response.body (local.get $i) (local.tee $area (call $room)))
    (local.set $j (i32.load offset=4 (local.get $area)))
    (call $types.response-outparam.set (local.get $response-out)
        (i32.const 0) (local.get $i) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (call $types.outgoing-body.write (local.get $j) (local.tee $area (call $room)))
    (local.set $k (i32.load offset=4 (local.get $area)))
    (call $streams.output-stream.blocking-write-and-flush
        (local.get $k) (global.get $routed) (global.get $routed_len) (local.tee $area (call $room)))
    (call $streams.output-stream.drop (local.get $k))
    (call $types.outgoing-body.finish (local.get $j) (i32.const 0) (i32.const 0) (local.tee $area (call $room)))";

#[tokio::test]
async fn a_plugins_own_routes() {
    let place = Place::empty();
    let wasm = leanclaw_test_guests::Guest::new(
        "import wasi:http/types@0.2.12; import wasi:io/streams@0.2.12; export wasi:http/incoming-handler@0.2.12;",
    )
    .text("routed", "<script>routed</script>")
    .run("incoming-handler.handle", ROUTED)
    .build()
    .unwrap();
    install_guest(&place, &manifest("routes", "1", &json!({"permissions": {"httpRoutes": true}})), &wasm);
    let program = place.start().await;
    let before = program.get("/plugins/routes/http/page").await;
    assert_eq!(before.status, 503, "nothing is granted: {before:?}");
    assert!(before.text().contains("leanclaw plugin grant routes --all"), "{}", before.text());
    let granted = program.grant_all("routes").await;
    assert_eq!((&granted["state"], &granted["exports"]), (&json!("ready"), &json!(["http"])), "{granted}");
    for path in ["/plugins/routes/http/page?x=1", "/plugins/routes/http", "/plugins/routes/http/"] {
        let page = program.get(path).await;
        assert_eq!((page.status, page.text().as_str()), (200, "<script>routed</script>"), "{path}");
        assert_eq!(page.header("content-security-policy"), Some("sandbox"), "its scripts run nowhere near ours");
    }
    assert_eq!(program.get("/plugins/routes/hook/").await.status, 404, "it takes no webhooks");
    program.client().await.ok("plugins.revoke", json!({"pluginId": "routes", "items": ["http-routes"]})).await;
    assert_ne!(program.get("/plugins/routes/http/page").await.status, 200);
    program.stop().await;
}

fn signature(key: &str, timestamp: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(format!("in.{timestamp}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

#[tokio::test]
async fn a_signed_webhook_is_taken_once_and_an_unsigned_one_never() {
    let place = Place::with_examples(&["webhook-channel"]).await;
    let program = place.start().await;
    let granted = program.grant_all("webhook-channel").await;
    assert_eq!(granted["state"], "ready", "{granted}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let body = json!({"id": "m1", "from": "ada", "conversation": "c1", "text": "hello"}).to_string();
    let post = async |timestamp: u64, signed: &str| {
        let timestamp = timestamp.to_string();
        let headers = [("x-leanclaw-timestamp", timestamp.as_str()), ("x-leanclaw-signature", signed)];
        request(program.address, "POST", "/plugins/webhook-channel/hook/", &headers, body.as_bytes()).await
    };
    let unsigned = request(program.address, "POST", "/plugins/webhook-channel/hook/", &[], body.as_bytes()).await;
    assert_eq!(unsigned.status, 401, "{unsigned:?}");
    // No secret is stored yet.
    assert_ne!(post(now, &signature("key", now, &body)).await.status, 202);
    set_secret(&place, "webhook-channel", "signing-key", "key").await;
    assert_eq!(post(now, &signature("wrong", now, &body)).await.status, 401);
    assert_eq!(post(now - 4000, &signature("key", now - 4000, &body)).await.status, 401, "too old");
    let taken = post(now, &signature("key", now, &body)).await;
    assert_eq!((taken.status, taken.json()), (202, json!({"status": "accepted"})));
    let again = post(now, &signature("key", now, &body)).await;
    assert_eq!((again.status, again.json()), (409, json!({"status": "duplicate"})));
    assert!(!program.log().contains("hello"), "what people write is not logged");
    program.stop().await;
}

async fn set_secret(place: &Place, plugin: &str, name: &str, value: &str) {
    let file = place.work().join("secret");
    std::fs::write(&file, value).unwrap();
    let from_file = |command: &mut Command| {
        command.stdin(std::fs::File::open(&file).unwrap());
    };
    place.run_with(&["plugin", "secret", "set", plugin, name], from_file).await.ok();
}
