//! Rights that were not given are not there; the same guest works once they are, and fails again when they are taken.

use leanclaw_test_guests as guests;
use leanclaw_test_guests::Guest;
use leanclaw_types::plugin::PluginState;
use serde_json::{Value, json};

use crate::tests::servers::Server;
use crate::tests::support::{Bench, asking, assert_failed, assert_told, manifest};

/// Gives back the failure in `$area` if there is one, else `null`.
const TOLD: &str = "(if (i32.load8_u (local.get $area)) (then (return (local.get $area))))
    (call $ok (global.get $null) (global.get $null_len))";

/// One guest per interface that has to be granted: its id, what it has to ask for, and the guest.
fn grantable(server: &Server) -> Vec<(&'static str, Value, Guest)> {
    let message = json!({"id": "m1", "sender": {"id": "s"}, "place": {"id": "p", "kind": "direct"}});
    let kv = "(call $kv.delete (global.get $name) (global.get $name_len) (local.tee $area (call $room)))";
    let hmac = "(call $credentials.hmac-sha256 (global.get $name) (global.get $name_len)
        (global.get $null) (global.get $null_len) (local.tee $area (call $room)))";
    let emit = "(call $events.emit (global.get $name) (global.get $name_len)
        (global.get $null) (global.get $null_len) (local.tee $area (call $room)))";
    let submit = "(call $inbox.submit (global.get $message) (local.tee $area (call $room)))";
    let fetch = guests::fetch(&[]).run(
        "method.invoke",
        &[
            guests::FETCH,
            "(if (i32.load8_u (local.get $area)) (then (return (local.get $area))))
             (call $ok (global.get $null) (global.get $null_len))",
        ]
        .concat(),
    );
    let guest = |imports: &str, call: &str| Guest::method(imports, &format!("{call} {TOLD}")).text("name", "thing");
    vec![
        ("kv", json!({"kv": {}}), guest("import kv;", kv)),
        ("credentials", json!({"secrets": [{"name": "thing", "hmac": true}]}), guest("import credentials;", hmac)),
        ("http", json!({"privateHttp": [server.origin()]}), fetch.text("url", &server.url("/"))),
        ("events", json!({"events": ["thing"]}), guest("import events;", emit)),
        (
            "inbox",
            json!({"inbox": true}),
            guest("import inbox;", submit).arguments("message", "inbox.submit", vec![message]),
        ),
        ("standard", json!({"privateHttp": [server.origin()]}), guests::wasi_fetch(&server.address().to_string(), "/")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_not_granted_is_not_linked() {
    let bench = Bench::with_witness().await;
    let server = Server::body("null").await;
    for name in ["credentials", "credentials-mute"] {
        bench.memory.secrets.lock().unwrap().insert(format!("{name}:thing"), "value".into());
    }
    let all = grantable(&server);
    for (id, permissions, guest) in &all {
        let wasm = guest.build().unwrap();
        bench.drop_in(&manifest(&format!("{id}-mute")), &wasm);
        bench.drop_in(&asking(id, permissions.clone()), &wasm);
    }
    for (id, ..) in &all {
        let mute = format!("{id}-mute");
        bench.until(&mute, |info| info.state == PluginState::NeedsGrant).await;
        let info = bench.grant(&mute).await;
        assert_eq!(info.state, PluginState::NeedsGrant, "{mute}: what was not asked for is not granted either");
        assert!(
            info.reason.contains("not granted") && info.reason.contains("is imported but not asked for"),
            "{}",
            info.reason
        );
        assert!(info.reason.contains("in the manifest"), "{}", info.reason);
        assert_eq!(bench.run(&mute, "{}").await.unwrap_err().code, "not-found");
    }
    for (id, ..) in &all {
        bench.until(id, |info| info.state == PluginState::NeedsGrant).await;
        for _ in 0..2 {
            let info = bench.grant(id).await;
            assert_eq!(info.state, PluginState::Ready, "{}", info.reason);
            assert_eq!(bench.run(id, "{}").await.unwrap(), "null", "{id}");
            let info = bench.revoke(id).await;
            assert_eq!(info.state, PluginState::NeedsGrant, "{id}");
            assert!(info.reason.contains(&format!("leanclaw plugin grant {id} --all")), "{}", info.reason);
            assert_eq!(bench.run(id, "{}").await.unwrap_err().code, "not-found", "{id}");
        }
    }
    assert_eq!(bench.memory.inbox.lock().unwrap().len(), 2);
    assert_eq!(server.requests().len(), 4);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_holds_as_much_as_was_granted() {
    let bench = Bench::with_witness().await;
    let put = "(call $kv.put (global.get $name) (global.get $name_len) (local.get $params) (local.get $params_len)
        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (local.tee $area (call $room)))";
    let keeps = Guest::method("import kv;", &format!("{put} {TOLD}")).text("name", "thing").build().unwrap();
    bench.install(&asking("keeps", json!({"kv": {"quotaBytes": 10}})), &keeps).await;
    assert_eq!(bench.run("keeps", "12345").await.unwrap(), "null");
    assert_eq!(bench.run("keeps", "123456").await.unwrap_err().code, "budget-exhausted");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_is_granted_serves_only_what_was_named() {
    let bench = Bench::with_witness().await;
    // The event is named by the call.
    let emit =
        "(call $events.emit (i32.add (local.get $params) (i32.const 1)) (i32.sub (local.get $params_len) (i32.const 2))
        (global.get $null) (global.get $null_len) (local.tee $area (call $room)))";
    let emits = Guest::method("import events;", &format!("{emit} {TOLD}")).build().unwrap();
    bench.install(&asking("emits", json!({"events": ["a", "b"]})), &emits).await;
    let mut events = bench.plugins.subscribe();
    for name in ["a", "b"] {
        assert_eq!(bench.run("emits", &json!(name).to_string()).await.unwrap(), "null");
        assert_eq!(events.recv().await.unwrap().event, format!("emits.{name}"));
    }
    bench.revoke("emits").await;
    bench.grant_items("emits", &["event:a"]).await;
    assert_eq!(bench.run("emits", r#""a""#).await.unwrap(), "null");
    for name in ["b", "c", "plugins.changed", "../a", "a\u{1b}[2J"] {
        let failure = bench.run("emits", &format!("\"{name}\"")).await.unwrap_err();
        assert_eq!(failure.code, "denied", "{failure:?}");
        assert!(failure.message.contains("hint: leanclaw plugin grant emits event:"), "{failure}");
        assert!(!failure.message.contains('\u{1b}'), "{failure}");
    }

    let sign = "(call $credentials.hmac-sha256 (i32.add (local.get $params) (i32.const 1)) (i32.sub (local.get $params_len) (i32.const 2))
        (global.get $null) (global.get $null_len) (local.tee $area (call $room)))";
    let signs = Guest::method("import credentials;", &format!("{sign} {TOLD}")).build().unwrap();
    let secrets = json!({"secrets": [{"name": "key", "hmac": true}, {"name": "token", "host": "a.example", "header": "x-token"}]});
    bench.install(&asking("signs", secrets), &signs).await;
    for name in ["key", "token", "other"] {
        bench.memory.secrets.lock().unwrap().insert(format!("signs:{name}"), "value".into());
    }
    assert_eq!(bench.run("signs", r#""key""#).await.unwrap(), "null");
    for name in ["token", "other"] {
        let failure = bench.run("signs", &format!("\"{name}\"")).await.unwrap_err();
        assert_eq!(failure.code, "denied", "{failure:?}");
        assert!(failure.message.contains(&format!("secret:{name}@hmac")), "{failure}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_no_json_or_too_large_is_no_event() {
    let bench = Bench::with_witness().await;
    let emit = "(call $events.emit (global.get $a) (global.get $a_len) (local.get $params) (local.get $params_len)
        (local.tee $area (call $room)))";
    let emits = Guest::method("import events;", &format!("{emit} {TOLD}")).text("a", "a").build().unwrap();
    bench.install(&asking("emits", json!({"events": ["a"]})), &emits).await;
    let deep = "[".repeat(200_000);
    let large = json!("x".repeat(300_000)).to_string();
    let cases = [
        ("{", "invalid-input", "a payload is JSON text"),
        (&deep, "invalid-input", "a payload is JSON text"),
        (&large, "too-large", "send what changed"),
    ];
    for (payload, code, hint) in cases {
        assert_told(&bench.run("emits", payload).await.unwrap_err(), code, hint);
    }
    assert_eq!(bench.run("emits", r#"{"n":1}"#).await.unwrap(), "null");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_manifest_asks_for_can_be_granted() {
    let bench = Bench::with_witness().await;
    bench.drop_in(&asking("p", json!({"events": ["a"]})), &guests::answers("1").unwrap());
    bench.until("p", |info| info.state == PluginState::NeedsGrant).await;
    let change =
        leanclaw_types::permission::GrantChange { all: false, items: vec!["http:https://evil.example".into()] };
    let failure =
        bench.plugins.grant(&crate::tests::support::caller(), &"p".parse().unwrap(), &change).await.unwrap_err();
    assert_failed(&failure, "invalid-input");
    assert_eq!(bench.inspect("p").state, PluginState::NeedsGrant);
    bench.close().await;
}
