//! Hooks: what they see, what they may change, and what becomes of bad ones.

use leanclaw_test_guests::Guest;
use leanclaw_types::Failure;
use leanclaw_types::plugin::ToolOutput;
use serde_json::{Value, json};

use super::support::{Bench, asking, assert_failed, context, manifest, with};
use super::webhooks::message;

/// A tool `echo` that takes `{"n": INTEGER}` and gives it back.
async fn with_echo() -> Bench {
    let bench = Bench::with_witness().await;
    let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#;
    let tool = json!({"name": "echo", "description": "d", "input-schema": schema, "output-schema": schema});
    let guest = Guest::new("export skill;").answer("skill.tools", json!({ "ok": [tool] })).run(
        "skill.invoke",
        "(local.set $area (call $room))
         (i32.store8 offset=8 (local.get $area) (i32.const 1))
         (i32.store offset=12 (local.get $area) (local.get $input))
         (i32.store offset=16 (local.get $area) (local.get $input_len))
         (local.get $area)",
    );
    bench.install(&manifest("toolbox"), &guest.build().unwrap()).await;
    bench
}

fn asks(id: &str, event: &str) -> Value {
    asking(id, json!({ "hooks": [event] }))
}

/// A hook on `event` with this decision.
fn decides(event: &str, decision: Value) -> Vec<u8> {
    let guest = Guest::new("export hook;").answer("hook.events", json!([event]));
    guest.answer("hook.handle", json!({ "ok": decision })).build().unwrap()
}

async fn echo(bench: &Bench, n: u32) -> Result<ToolOutput, Failure> {
    bench.plugins.invoke_tool("echo", &json!({ "n": n }).to_string(), context()).await
}

async fn echoed(bench: &Bench, n: u32) -> Value {
    echo(bench, n).await.unwrap().structured.unwrap()
}

fn replaces(n: u32) -> Value {
    json!({"verdict": "replace", "payload": json!({"input": {"n": n}}).to_string()})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_veto_needs_the_grant_and_names_the_way_out() {
    let bench = with_echo().await;
    assert_eq!(echoed(&bench, 1).await, json!({"n": 1}));
    for (id, verdict) in [("denies", "deny"), ("skips", "skip")] {
        let decision = json!({"verdict": verdict, "reason": "not \u{1b}[1mtoday"});
        bench.install(&asks(id, "before-tool-call"), &decides("before-tool-call", decision)).await;
        let failure = echo(&bench, 1).await.unwrap_err();
        assert_failed(&failure, "denied");
        assert!(failure.message.contains(id) && failure.message.contains("not \\u{1b}[1mtoday"), "{failure}");
        assert_eq!(failure.hints, [format!("leanclaw plugin revoke {id} hook:before-tool-call")]);
        bench.revoke(id).await;
        assert_eq!(echoed(&bench, 1).await, json!({"n": 1}), "without the grant it is not asked");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_rewrite_in_the_order_of_their_ids() {
    let bench = with_echo().await;
    bench.install(&asks("b", "before-tool-call"), &decides("before-tool-call", replaces(7))).await;
    assert_eq!(echoed(&bench, 1).await, json!({"n": 7}));
    bench.install(&asks("a", "before-tool-call"), &decides("before-tool-call", replaces(6))).await;
    assert_eq!(echoed(&bench, 1).await, json!({"n": 7}), "b comes after a");
    bench.install(&asks("c", "before-tool-call"), &decides("before-tool-call", replaces(8))).await;
    assert_eq!(echoed(&bench, 1).await, json!({"n": 8}));
    let after = json!({"verdict": "replace", "payload": json!({"text": "said", "structured": {"n": 9}}).to_string()});
    bench.install(&asks("d", "after-tool-call"), &decides("after-tool-call", after)).await;
    let output = echo(&bench, 1).await.unwrap();
    assert_eq!((output.structured, output.text.as_deref()), (Some(json!({"n": 9})), Some("said")));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_has_to_fit_the_tools_schemas() {
    let bench = with_echo().await;
    let input = json!({"verdict": "replace", "payload": r#"{"input":{"n":"text"}}"#});
    bench.install(&asks("input", "before-tool-call"), &decides("before-tool-call", input)).await;
    assert_eq!(echo(&bench, 1).await.unwrap_err().code, "invalid-input");
    bench.revoke("input").await;
    let output = json!({"verdict": "replace", "payload": r#"{"structured":{"n":"text"}}"#});
    bench.install(&asks("output", "after-tool-call"), &decides("after-tool-call", output)).await;
    let failure = echo(&bench, 1).await.unwrap_err();
    assert_eq!(failure.code, "internal", "{failure:?}");
    assert!(failure.message.contains("after-tool-call"), "{failure}");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_hook_is_passed_over() {
    let bench = with_echo().await;
    let event = "before-tool-call";
    let failing = Guest::new("export hook;").answer("hook.events", json!([event]));
    let bad = [
        ("traps", failing.build().unwrap()),
        (
            "fails",
            failing.clone().answer("hook.handle", json!({"err": {"code": "denied", "message": "no"}})).build().unwrap(),
        ),
        ("spins", failing.clone().run("hook.handle", "(loop $again (br $again)) unreachable").build().unwrap()),
        ("garbage", decides(event, json!({"verdict": "replace", "payload": "{not json"}))),
        ("nothing", decides(event, json!({"verdict": "replace"}))),
        ("strange", decides(event, json!({"verdict": "explode", "reason": "x".repeat(100_000)}))),
        ("other", decides(event, json!({"verdict": "replace", "payload": "[1,2]"}))),
    ];
    for (id, wasm) in &bad {
        let quick = with(asks(id, event), json!({"limits": {"callTimeoutMs": 250}}));
        bench.install(&quick, wasm).await;
    }
    assert_eq!(echoed(&bench, 3).await, json!({"n": 3}));
    for id in ["traps", "spins"] {
        assert_eq!(bench.audited("plugin-trap", id), 1, "{id}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_can_be_rewritten_but_stays_the_same_message() {
    let bench = Bench::with_witness().await;
    // The receipt says what place and key the message had: 0 and 72 bytes into it.
    let channel = Guest::new("export channel;").answer("channel.describe", json!({"id": "parley"})).run(
        "channel.deliver",
        "(local.set $area (call $room))
         (i32.store8 offset=8 (local.get $area) (i32.const 1))
         (i64.store offset=12 align=4 (local.get $area) (i64.load offset=72 align=4 (local.get $arguments)))
         (i32.store8 offset=20 (local.get $area) (i32.const 1))
         (i64.store offset=24 align=4 (local.get $area) (i64.load align=4 (local.get $arguments)))
         (local.get $area)",
    );
    bench.install(&with(manifest("parley"), json!({"channels": ["parley"]})), &channel.build().unwrap()).await;
    let mut rewritten = message("forged");
    rewritten.place.id = "elsewhere".into();
    let payload = serde_json::to_string(&rewritten).unwrap();
    let hook = decides("before-send", json!({"verdict": "replace", "payload": payload}));
    bench.install(&asks("rewrites", "before-send"), &hook).await;
    let key = "parley".parse().unwrap();
    let receipt = bench.plugins.deliver(&key, message("mine"), context()).await.unwrap();
    assert_eq!((receipt.message_id.as_deref(), receipt.extra), (Some("mine"), Some(json!("elsewhere"))));
    bench.revoke("rewrites").await;
    let hook = decides("before-send", json!({"verdict": "replace", "payload": "{}"}));
    bench.install(&asks("breaks", "before-send"), &hook).await;
    let failure = bench.plugins.deliver(&key, message("mine"), context()).await.unwrap_err();
    assert_failed(&failure, "internal");
    bench.close().await;
}

/// A channel `parley` whose webhook hands in the message `m1` and answers what became of it. Its own hook denies every
/// message; it is not asked about its own.
async fn with_chat() -> Bench {
    let bench = Bench::with_witness().await;
    let message = json!({
        "id": "m1", "sender": {"id": "s"}, "place": {"id": "p", "kind": "direct"},
        "parts": [{"kind": "text", "text": "my password is 1234"}], "sent-at": 7
    });
    let guest = Guest::new("import inbox; export webhook; export hook;")
        .arguments("message", "inbox.submit", vec![message])
        .fields(super::webhooks::REPLY)
        .answer("hook.events", json!([MESSAGE]))
        .answer("hook.handle", json!({"ok": {"verdict": "deny"}}))
        .run(
            "webhook.handle",
            "(call $inbox.submit (global.get $message) (local.tee $area (call $room)))
             (call $reply (i32.const 200) (i32.load offset=8 (local.get $area)) (i32.load offset=12 (local.get $area)))",
        );
    let chat = asking("parley", json!({"inbox": true, "webhook": true, "hooks": [MESSAGE]}));
    bench.install(&with(chat, json!({"channels": ["parley"]})), &guest.build().unwrap()).await;
    bench
}

const MESSAGE: &str = "message-received";

async fn handed_in(bench: &Bench) -> String {
    let request = super::webhooks::request("");
    let reply = bench.plugins.webhook(&"parley".parse().unwrap(), request, context()).await.unwrap();
    String::from_utf8(reply.body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_came_in_can_be_dropped_with_the_grant_only() {
    let bench = with_chat().await;
    assert_eq!(handed_in(&bench).await, "accepted");
    bench.install(&asks("denies", MESSAGE), &decides(MESSAGE, json!({"verdict": "deny", "reason": "spam"}))).await;
    assert_eq!(handed_in(&bench).await, "denied");
    assert_eq!(bench.memory.inbox.lock().unwrap().len(), 1, "it is not stored");
    let line = bench.until_line("parley", "message dropped").await;
    assert!(line.message.contains("denies") && line.message.contains("spam"), "{}", line.message);
    assert!(line.call_id.starts_with("call-"), "{line:?}");
    bench.revoke("denies").await;
    assert_eq!(handed_in(&bench).await, "accepted");
    assert_eq!(bench.memory.inbox.lock().unwrap().len(), 2);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_came_in_is_stored_as_it_was_rewritten() {
    let bench = with_chat().await;
    let clean = json!({
        "id": "forged", "sender": {"id": "s"}, "place": {"id": "p", "kind": "direct"},
        "parts": [{"kind": "text", "text": "my password is ****"}], "sentAtMs": 7
    });
    let payload = json!({"message": clean, "plugin": "witness", "receivedAtMs": 0}).to_string();
    let hook = decides(MESSAGE, json!({"verdict": "replace", "payload": payload}));
    bench.install(&asks("cleans", MESSAGE), &hook).await;
    assert_eq!(handed_in(&bench).await, "accepted");
    let stored = bench.memory.inbox.lock().unwrap()[0].clone();
    assert_eq!(stored.message.parts[0].text.as_deref(), Some("my password is ****"));
    assert_eq!(
        (stored.message.id.as_str(), stored.plugin.as_str()),
        ("m1", "parley"),
        "those are not the hook's to say"
    );
    assert!(stored.received_at_ms > 0);
    bench.revoke("cleans").await;
    let hook = decides(MESSAGE, json!({"verdict": "replace", "payload": r#"{"message":{}}"#}));
    bench.install(&asks("breaks", MESSAGE), &hook).await;
    assert_eq!(handed_in(&bench).await, "internal", "what should have been cleaned is not stored as it was");
    assert_eq!(bench.memory.inbox.lock().unwrap().len(), 1);
    bench.close().await;
}

/// Else two plugins that answer messages with messages would do so without end.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_asked_about_a_message_hands_in_none() {
    let bench = with_chat().await;
    let message = json!({"id": "m2", "sender": {"id": "s"}, "place": {"id": "p"}});
    let guest = Guest::new("import inbox; export hook;")
        .arguments("message", "inbox.submit", vec![message])
        .answer("hook.events", json!([MESSAGE]))
        .run(
            "hook.handle",
            "(call $inbox.submit (global.get $message) (local.tee $area (call $room)))
             (if (i32.eqz (i32.load8_u (local.get $area))) (then unreachable))
             (call $room)",
        );
    let asks = asking("answers", json!({"inbox": true, "hooks": [MESSAGE]}));
    bench.install(&asks, &guest.build().unwrap()).await;
    assert_eq!(handed_in(&bench).await, "accepted");
    assert_eq!(bench.audited("plugin-trap", "answers"), 0, "it was refused");
    assert_eq!(bench.inspect("answers").stats.calls, 1, "it was asked");
    assert_eq!(bench.memory.inbox.lock().unwrap().len(), 1);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_does_not_exist_is_refused_with_those_that_do() {
    let bench = Bench::with_witness().await;
    bench.drop_in(&asks("typo", "before-sent"), &decides("before-sent", json!({"verdict": "deny"})));
    let reason = bench.until_refused("typo").await;
    for part in ["`before-sent`", "before-run", "message-received", "before-send", "hint:"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    bench.close().await;
}
