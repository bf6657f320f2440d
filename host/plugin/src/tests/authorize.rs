//! The hook `authorize`: it narrows, names itself, and does not open when it breaks.

use leanclaw_test_guests::Guest;
use leanclaw_types::Failure;
use serde_json::{Value, json};

use super::support::{Bench, asking, assert_failed, context, with};

const EVENT: &str = "authorize";

fn asks(id: &str) -> Value {
    asking(id, json!({ "hooks": [EVENT] }))
}

fn hook() -> Guest {
    Guest::new("export hook;").answer("hook.events", json!([EVENT]))
}

fn decides(decision: Value) -> Vec<u8> {
    hook().answer("hook.handle", json!({ "ok": decision })).build().unwrap()
}

async fn ask(bench: &Bench, method: &str, only_reads: bool) -> Result<(), Failure> {
    bench.plugins.authorize(json!({"method": method, "role": "operator"}), only_reads, context()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_only_with_the_grant_and_names_the_plugin_and_the_way_out() {
    let bench = Bench::with_witness().await;
    assert!(!bench.plugins.guards_calls());
    ask(&bench, "wake", false).await.unwrap();
    bench.install(&asks("warden"), &decides(json!({"verdict": "deny", "reason": "not \u{1b}[1mnow"}))).await;
    assert!(bench.plugins.guards_calls());
    for only_reads in [true, false] {
        let failure = ask(&bench, "wake", only_reads).await.unwrap_err();
        assert_failed(&failure, "denied");
        assert_eq!(failure.message, "The plugin `warden` does not allow `wake`: not \\u{1b}[1mnow");
        assert_eq!(failure.hints, ["leanclaw plugin revoke warden hook:authorize"]);
    }
    bench.revoke("warden").await;
    assert!(!bench.plugins.guards_calls(), "nobody is asked any more");
    ask(&bench, "wake", false).await.unwrap();
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_says_otherwise_changes_nothing() {
    let bench = Bench::with_witness().await;
    for (id, verdict) in [("a", "continue"), ("b", "replace"), ("c", "explode")] {
        let decision = json!({"verdict": verdict, "payload": r#"{"scopes":["operator.admin"]}"#});
        bench.install(&asks(id), &decides(decision)).await;
    }
    ask(&bench, "config.set", false).await.unwrap();
    bench.install(&asks("d"), &decides(json!({"verdict": "skip"}))).await;
    assert!(ask(&bench, "config.set", false).await.unwrap_err().message.contains("`d`"), "all are asked");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_refuses_what_does_not_only_read() {
    let bad = [
        ("traps", hook().build().unwrap()),
        ("fails", hook().answer("hook.handle", json!({"err": {"code": "denied", "message": "no"}})).build().unwrap()),
        ("spins", hook().run("hook.handle", "(loop $again (br $again)) unreachable").build().unwrap()),
        ("garbage", decides(json!({"verdict": "replace", "payload": "{not json"}))),
    ];
    for (id, wasm) in &bad {
        let bench = Bench::with_witness().await;
        bench.install(&with(asks(id), json!({"limits": {"callTimeoutMs": 250}})), wasm).await;
        let failure = ask(&bench, "config.set", false).await.unwrap_err();
        assert_failed(&failure, "denied");
        assert!(failure.message.contains(id) && failure.message.contains("could not be asked"), "{failure}");
        ask(&bench, "status", true).await.unwrap();
        bench.close().await;
    }
}
