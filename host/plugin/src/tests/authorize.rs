//! The hook `authorize`: it narrows, names itself, and does not open when it breaks.

use std::sync::Arc;

use leanclaw_test_guests as guests;
use leanclaw_test_guests::Guest;
use leanclaw_types::plugin::PluginState;
use leanclaw_types::{Failure, PluginId};
use serde_json::{Value, json};

use super::servers::Gate;
use super::stored::HeldLoads;
use super::support::{Bench, asking, assert_failed, caller, context, settings, with};
use crate::Recycling;

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

fn allows() -> Vec<u8> {
    decides(json!({"verdict": "continue"}))
}

/// Checks that the guard counts as one that cannot be asked because of `why`: what only reads goes on, the rest does not.
async fn assert_shut(bench: &Bench, why: &str) -> Failure {
    assert!(bench.plugins.guards_calls(), "nobody is asked: {why}");
    ask(bench, "status", true).await.unwrap();
    let failure = ask(bench, "config.set", false).await.unwrap_err();
    assert_failed(&failure, "denied");
    assert!(failure.message.contains("`warden`") && failure.message.contains(why), "{failure}");
    assert!(!failure.message.contains("hint:"), "{failure}");
    assert!(failure.hints.iter().any(|hint| hint.starts_with("leanclaw plugin revoke warden hook:authorize")));
    failure
}

/// The program as it starts again over what `bench` leaves, before it has looked at its plugins.
async fn restarted(bench: Bench) -> Bench {
    let (memory, folder) = (Arc::clone(&bench.memory), Arc::clone(&bench.folder));
    drop(bench);
    let bench = Bench::not_started(memory, folder, settings(), Recycling::default());
    bench.plugins.expect_guards().await.unwrap();
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn until_it_is_loaded_it_counts_as_one_that_cannot_be_asked() {
    let bench = Bench::with_witness().await;
    bench.install(&asks("warden"), &allows()).await;
    let bench = restarted(bench).await;
    assert_shut(&bench, "not loaded yet").await;
    let held = HeldLoads::new();
    *bench.memory.held_loads.lock().unwrap() = Some(Arc::clone(&held));
    bench.start().await;
    held.arrived().await;
    held.arrived().await;
    assert_shut(&bench, "it is loading").await;
    *bench.memory.held_loads.lock().unwrap() = None;
    held.open(2);
    bench.until("warden", |info| info.state == PluginState::Ready).await;
    ask(&bench, "config.set", false).await.unwrap();
    bench.until("witness", |info| info.state == PluginState::Ready).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_waits_for_a_grant_is_still_to_be_asked_when_it_had_the_right() {
    let bench = Bench::with_witness().await;
    bench.drop_in(&asks("warden"), &allows());
    bench.until("warden", |info| info.state == PluginState::NeedsGrant).await;
    assert!(!bench.plugins.guards_calls(), "the right was never given");
    bench.grant("warden").await;
    // The second version does not even ask for the hook any more: the admin has not said yes to that either.
    for (version, asked) in [("2.0.0", json!({"hooks": [EVENT], "inbox": true})), ("3.0.0", json!({"webhook": true}))] {
        bench.drop_in(&with(asking("warden", asked), json!({ "version": version })), &allows());
        bench.until("warden", |info| info.version == version && info.state == PluginState::NeedsGrant).await;
        let failure = assert_shut(&bench, "it is needs-grant").await;
        assert!(failure.hints.iter().any(|hint| hint.starts_with("leanclaw plugin grant warden --all")), "{failure:?}");
        assert!(failure.hints.iter().any(|hint| hint.starts_with("leanclaw plugin inspect warden")), "{failure:?}");
    }
    bench.drop_in(&with(asks("warden"), json!({"version": "4.0.0"})), b"no component");
    bench.until("warden", |info| info.version == "4.0.0" && info.state == PluginState::Faulted).await;
    assert_shut(&bench, "it is faulted").await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_installed_is_not_asked_and_one_that_cannot_be_read_is() {
    let bench = Bench::with_witness().await;
    bench.install(&asks("warden"), &allows()).await;
    let place = bench.folder.path().join("warden");
    std::fs::write(place.join("leanclaw.plugin.json"), "{").unwrap();
    let bench = restarted(bench).await;
    bench.start().await;
    bench.until_refused("warden").await;
    assert_shut(&bench, "not loaded").await;
    std::fs::remove_dir_all(&place).unwrap();
    bench.wait("it stays", || (!bench.plugins.guards_calls()).then_some(())).await;
    ask(&bench, "config.set", false).await.unwrap();

    let bench = restarted(bench).await;
    assert_shut(&bench, "not loaded yet").await;
    bench.start().await;
    assert!(!bench.plugins.guards_calls(), "it is not there");

    let id: PluginId = "warden".parse().unwrap();
    let memory = Arc::clone(&bench.memory);
    let delete = move |_| async move {
        memory.grants.lock().unwrap().retain(|key, _| key.plugin.as_str() != "warden");
        Ok(())
    };
    bench.plugins.purge(&caller(), &id, delete).await.unwrap();
    bench.drop_in(&asks("warden"), &allows());
    bench.until("warden", |info| info.state == PluginState::NeedsGrant).await;
    assert!(!bench.plugins.guards_calls(), "what is stored of it was deleted");
    bench.until("witness", |info| info.state == PluginState::Ready).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_can_be_taken_back_before_it_is_loaded() {
    let bench = Bench::with_witness().await;
    bench.install(&asks("warden"), &allows()).await;
    let bench = restarted(bench).await;
    assert_shut(&bench, "not loaded yet").await;
    assert!(bench.revoke_item("warden", "hook:authorize").await.is_none());
    assert!(!bench.plugins.guards_calls());
    ask(&bench, "config.set", false).await.unwrap();
    bench.start().await;
    bench.until("warden", |info| info.state == PluginState::Ready).await;
    assert!(!bench.plugins.guards_calls());
    bench.until("witness", |info| info.state == PluginState::Ready).await;
    bench.close().await;
}

/// Whoever may call the guard's own methods must not be able to hold up everybody's calls with them.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_is_asked_while_its_own_methods_are_busy() {
    let gate = Gate::start("7").await;
    let fetches = guests::fetch(&[]).beside("export hook;").answer("hook.events", json!([EVENT]));
    let wasm = fetches.answer("hook.handle", json!({"ok": {"verdict": "continue"}})).build().unwrap();
    for lifecycle in ["resident", "per-call"] {
        let bench = Bench::with_witness().await;
        let asks = asking("warden", json!({"hooks": [EVENT], "privateHttp": [gate.server.origin()]}));
        let narrow = json!({"lifecycle": lifecycle, "limits": {"concurrency": 1}});
        bench.install(&with(asks, narrow), &wasm).await;
        let url = json!(gate.server.url("/")).to_string();
        let plugins = bench.plugins.clone();
        let slow = tokio::spawn(async move { plugins.call_method("warden.run", &url, context()).await });
        gate.arrived().await;
        ask(&bench, "config.set", false).await.unwrap();
        assert!(!slow.is_finished(), "{lifecycle}");
        gate.open(1);
        assert_eq!(slow.await.unwrap().unwrap(), "7");
        bench.close().await;
    }
}
