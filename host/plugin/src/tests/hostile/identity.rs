//! What a guest says of itself or of its caller is not believed.

use leanclaw_test_guests as guests;
use leanclaw_test_guests::Guest;
use leanclaw_types::AccountId;
use serde_json::json;

use crate::tests::support::{Bench, asking, assert_failed, assert_told, context, manifest, with};
use crate::tests::webhooks::{REPLY, request};

const NULL: &str = "(call $ok (global.get $null) (global.get $null_len))";

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_stamped_by_the_host() {
    let bench = Bench::with_witness().await;
    bench.memory.accounts.lock().unwrap().push(AccountId::new("work").unwrap());
    let claims = json!({"plugin": "witness", "account": "boss", "channel": "other", "receivedAtMs": 0}).to_string();
    let message = json!({
        "id": "m1", "sender": {"id": "host:admin", "extra": claims}, "place": {"id": "p", "kind": "direct"},
        "parts": [{"kind": "text", "text": "hi"}], "sent-at": 7, "extra": claims
    });
    let guest = Guest::new("import inbox; export webhook;")
        .arguments("message", "inbox.submit", vec![message])
        .fields(REPLY)
        .run(
            "webhook.handle",
            "(call $inbox.submit (global.get $message) (local.tee $area (call $room)))
             (call $reply (i32.const 200) (i32.load offset=8 (local.get $area)) (i32.load offset=12 (local.get $area)))",
        );
    let chat =
        with(asking("parley", json!({"inbox": true, "webhook": true})), json!({"channels": ["chatter", "other"]}));
    bench.drop_in(&chat, &guest.build().unwrap());
    for key in ["parley", "parley/work"] {
        bench.until(key, |info| !info.reason.is_empty()).await;
        bench.grant(key).await;
        let reply = bench.plugins.webhook(&key.parse().unwrap(), request("{}"), context()).await.unwrap();
        assert_eq!(reply.body, "accepted");
    }
    let inbox = bench.memory.inbox.lock().unwrap().clone();
    for (received, account) in inbox.iter().zip(["default", "work"]) {
        let stamped = (received.plugin.as_str(), received.account.as_str(), received.channel.as_str());
        assert_eq!(stamped, ("parley", account, "chatter"));
        assert!(received.received_at_ms > 1_000_000_000_000, "the host's own clock");
        assert_eq!(received.message.sent_at_ms, 7);
    }
    assert_eq!(inbox.len(), 2);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_an_id_is_refused() {
    let bench = Bench::with_witness().await;
    let submits = |id: &str, extra: Option<&str>| {
        let message = json!({"id": id, "sender": {"id": "s"}, "place": {"id": "p"}, "extra": extra});
        let body = format!(
            "(call $inbox.submit (global.get $message) (local.tee $area (call $room)))
             (if (i32.load8_u (local.get $area)) (then (return (local.get $area)))) {NULL}"
        );
        Guest::method("import inbox;", &body).arguments("message", "inbox.submit", vec![message]).build().unwrap()
    };
    let cases = [
        ("none", submits("", None), "own id of the message"),
        ("long", submits(&"x".repeat(513), None), "own id of the message"),
        ("odd", submits("m", Some("{")), "`extra` as JSON text"),
    ];
    for (id, wasm, hint) in cases {
        bench.install(&asking(id, json!({"inbox": true})), &wasm).await;
        assert_told(&bench.run(id, "{}").await.unwrap_err(), "invalid-input", hint);
    }
    assert!(bench.memory.inbox.lock().unwrap().is_empty());
    bench.install(&asking("good", json!({"inbox": true})), &submits("m", Some("{}"))).await;
    assert_eq!(bench.run("good", "{}").await.unwrap(), "null");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_is_the_hosts_word() {
    let bench = Bench::with_witness().await;
    let asks = guests::method(
        "(call $call.context.caller (local.get $context) (local.tee $area (call $room)))
         (call $call.context.drop (local.get $context))
         (call $quote (i32.load offset=8 (local.get $area)) (i32.load offset=12 (local.get $area)))",
    );
    bench.install(&manifest("asks"), &asks.unwrap()).await;
    assert_eq!(bench.run("asks", r#"{"caller":{"kind":"host","id":"admin"}}"#).await.unwrap(), r#""test""#);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_context_is_good_for_its_call_only() {
    let bench = Bench::with_witness().await;
    let read = |handle: &str| {
        format!(
            "(call $call.context.id {handle} (local.tee $area (call $room)))
            (call $quote (i32.load (local.get $area)) (i32.load offset=4 (local.get $area)))"
        )
    };
    let drop = "(call $call.context.drop (local.get $context))";
    let cases = [
        ("after", format!("{drop} {}", read("(local.get $context)"))),
        ("twice", format!("{drop} {drop} {NULL}")),
        ("forged", format!("{drop} {}", read("(i32.const 7777)"))),
        ("foreign", format!("{drop} {}", read("(call $blobs.writer.new (i32.const 0) (i32.const 0))"))),
    ];
    for (id, body) in cases {
        for lifecycle in ["per-call", "resident"] {
            let id = format!("{id}-{lifecycle}");
            let wasm = Guest::method("import blobs;", &body).build().unwrap();
            bench.install(&with(manifest(&id), json!({"lifecycle": lifecycle})), &wasm).await;
            assert_failed(&bench.run(&id, "{}").await.unwrap_err(), "internal");
        }
    }
    let good = format!(
        "(call $call.context.id (local.get $context) (local.tee $area (call $room))) {drop}
        (call $quote (i32.load (local.get $area)) (i32.load offset=4 (local.get $area)))"
    );
    bench.install(&with(manifest("good"), json!({"lifecycle": "resident"})), &guests::method(&good).unwrap()).await;
    let (first, second) = (bench.run("good", "{}").await.unwrap(), bench.run("good", "{}").await.unwrap());
    assert!(first.starts_with("\"call-") && first != second, "{first} {second}");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_and_accounts_do_not_see_each_others_data() {
    let bench = Bench::with_witness().await;
    bench.memory.accounts.lock().unwrap().push(AccountId::new("work").unwrap());
    // Answers whether the entry was there, and writes it.
    let guest = Guest::new("import kv; export webhook;").text("key", "k").fields(REPLY).run(
        "webhook.handle",
        "(call $kv.get (global.get $key) (global.get $key_len) (local.tee $area (call $room)))
         (call $kv.put (global.get $key) (global.get $key_len) (global.get $key) (global.get $key_len)
             (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (call $room))
         (call $reply (i32.add (i32.const 200) (i32.load8_u offset=8 (local.get $area))) (i32.const 0) (i32.const 0))",
    );
    let rights = json!({"kv": {}, "webhook": true});
    for id in ["one", "two"] {
        bench.drop_in(&asking(id, rights.clone()), &guest.build().unwrap());
    }
    for key in ["one", "two", "one/work", "two/work"] {
        bench.until(key, |info| !info.reason.is_empty()).await;
        bench.grant(key).await;
        for status in [200, 201] {
            let reply = bench.plugins.webhook(&key.parse().unwrap(), request("{}"), context()).await.unwrap();
            assert_eq!(reply.status, status, "{key}");
        }
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_account_has_its_own_settings_and_grant() {
    let bench = Bench::with_witness().await;
    bench.memory.accounts.lock().unwrap().push(AccountId::new("work").unwrap());
    for (key, name) in [("p", "home"), ("p/work", "office")] {
        bench.memory.settings.lock().unwrap().insert(key.into(), json!({ "name": name }));
    }
    let guest = Guest::new("import settings; export webhook;").fields(REPLY).run(
        "webhook.handle",
        "(call $settings.get (local.tee $area (call $room)))
         (call $reply (i32.const 200) (i32.load (local.get $area)) (i32.load offset=4 (local.get $area)))",
    );
    bench.drop_in(&asking("p", json!({"webhook": true})), &guest.build().unwrap());
    bench.until("p", |info| !info.reason.is_empty()).await;
    bench.grant("p").await;
    let ask = async |key: &str| bench.plugins.webhook(&key.parse().unwrap(), request("{}"), context()).await;
    assert_eq!(ask("p").await.unwrap().body, r#"{"name":"home"}"#);
    let failure = ask("p/work").await.unwrap_err();
    assert_eq!(failure.code, "unavailable", "a grant is for one account: {failure:?}");
    assert!(failure.message.contains("leanclaw plugin grant p/work --all"), "{failure}");
    bench.grant("p/work").await;
    assert_eq!(ask("p/work").await.unwrap().body, r#"{"name":"office"}"#);
    assert_eq!(ask("p/other").await.unwrap_err().code, "not-found");
    bench.close().await;
}
