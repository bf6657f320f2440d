//! Rights that change while a plugin runs, is being replaced, or is not there at all.

use std::sync::Arc;

use leanclaw_test_guests as guests;
use leanclaw_test_guests::Guest;
use leanclaw_types::Failure;
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::PluginState;
use serde_json::{Value, json};

use super::servers::Gate;
use super::stored::HeldLoads;
use super::support::{Bench, PATIENCE, asking, assert_failed, caller, poll_once, with};

/// Emits the event that its parameters name.
fn emits() -> Vec<u8> {
    let body = "(call $events.emit (i32.add (local.get $params) (i32.const 1))
            (i32.sub (local.get $params_len) (i32.const 2))
            (global.get $null) (global.get $null_len) (local.tee $area (call $room)))
        (if (i32.load8_u (local.get $area)) (then (return (local.get $area))))
        (call $ok (global.get $null) (global.get $null_len))";
    Guest::method("import events;", body).build().unwrap()
}

fn two_events(version: &str) -> Value {
    with(asking("emits", json!({"events": ["a", "b"]})), json!({"version": version}))
}

/// What came of emitting the event: `null`, or the code of the failure.
async fn emitted(bench: &Bench, event: &str) -> String {
    bench.run("emits", &json!(event).to_string()).await.unwrap_or_else(|failure| failure.code)
}

async fn removed(bench: &Bench, id: &str) {
    std::fs::remove_dir_all(bench.folder.path().join(id)).unwrap();
    bench.wait("it stays", || bench.plugins.inspect(&id.parse().unwrap()).is_err().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_back_is_gone_although_a_bad_version_waits_to_be_loaded() {
    let bench = Bench::with_witness().await;
    bench.install(&two_events("1.0.0"), &emits()).await;
    let id = "emits".parse().unwrap();
    let gate = Arc::clone(bench.plugins.inner.gates.lock().unwrap().get(&id).unwrap());
    let held = gate.lock().await;
    bench.drop_in(&two_events("2.0.0"), b"garbage");
    let waits = || bench.plugins.inner.lock().plugins.get(&id).and_then(|entry| entry.next.as_ref()).map(|_| ());
    bench.wait("nothing waits to be loaded", waits).await;

    let plugins = bench.plugins.clone();
    let change = GrantChange { all: false, items: vec!["event:b".into()] };
    let revoking =
        tokio::spawn(async move { plugins.revoke(&caller(), &"emits".parse().unwrap(), &change).await.unwrap() });
    bench.until("emits", |info| info.state == PluginState::Loading).await;
    assert_eq!(emitted(&bench, "b").await, "not-found", "it acts before anything is loaded");
    drop(held);
    let info = revoking.await.unwrap().unwrap();

    assert_eq!((info.state, info.version.as_str()), (PluginState::Ready, "1.0.0"));
    assert_eq!((info.granted.unwrap().events, info.missing), (vec!["a".to_owned()], vec!["event:b".to_owned()]));
    bench.until("emits", |info| info.reason.contains("the old one keeps running")).await;
    assert_eq!((emitted(&bench, "b").await.as_str(), emitted(&bench, "a").await.as_str()), ("denied", "null"));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_loaded_while_a_right_is_taken_back_never_has_it() {
    let bench = Bench::with_witness().await;
    bench.install(&two_events("1.0.0"), &emits()).await;
    let loads = HeldLoads::new();
    *bench.memory.held_loads.lock().unwrap() = Some(Arc::clone(&loads));
    bench.drop_in(&two_events("2.0.0"), &emits());
    loads.arrived().await;
    let revoking = bench.revoke_item("emits", "event:b");
    let meanwhile = async {
        bench.until("emits", |info| info.state == PluginState::Loading).await;
        loads.open(1);
        // The load that had read the old grant is over, the next one waits.
        loads.arrived().await;
        assert_eq!(emitted(&bench, "b").await, "not-found");
        *bench.memory.held_loads.lock().unwrap() = None;
        loads.open(1);
    };
    tokio::join!(revoking, meanwhile);
    bench.until("emits", |info| info.version == "2.0.0" && info.state == PluginState::Ready).await;
    assert_eq!((emitted(&bench, "b").await.as_str(), emitted(&bench, "a").await.as_str()), ("denied", "null"));
    bench.close().await;
}

/// That calls run one after the other, in a manifest.
fn one_at_a_time(lifecycle: &str) -> Value {
    json!({"lifecycle": lifecycle, "limits": {"concurrency": 1}})
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_run_or_wait_end_when_a_right_is_taken_back() {
    let bench = Bench::with_witness().await;
    for lifecycle in ["per-call", "resident"] {
        let gate = Gate::start("7").await;
        let url = gate.install(&bench, one_at_a_time(lifecycle)).await;
        let (first, second) = gate.occupy(&bench, &url).await;
        assert_eq!(bench.revoke_item("waits", "event:a").await.unwrap().state, PluginState::Ready);
        let (first, second) = (first.await.unwrap().unwrap_err(), second.await.unwrap_err());
        assert_failed(&first, "unavailable");
        assert_failed(&second, "unavailable");
        assert!(!first.retryable && second.retryable && second.retry_after_ms.is_some(), "{lifecycle}");
        gate.open(2);
        assert_eq!(bench.run("waits", &url).await.unwrap(), "7", "{lifecycle}");
        assert_eq!(gate.server.requests().len(), 2, "{lifecycle}: what waited was never sent");
        removed(&bench, "waits").await;
    }
    bench.close().await;
}

/// What runs may know the login or have something that it got with it.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_run_or_wait_end_when_the_login_is_taken_away() {
    let bench = Bench::with_witness().await;
    let key = "waits".parse().unwrap();
    let plugins = bench.plugins.clone();
    let log_out = async |works: bool| {
        let deleted = move |by: String| async move {
            assert_eq!(by, "client:test");
            works.then_some(7).ok_or_else(|| Failure::unavailable("the disk is full"))
        };
        plugins.log_out(&caller(), &key, deleted).await
    };
    assert_failed(&log_out(true).await.unwrap_err(), "not-found");
    for lifecycle in ["per-call", "resident"] {
        for works in [true, false] {
            let gate = Gate::start("7").await;
            let url = gate.install(&bench, one_at_a_time(lifecycle)).await;
            let rights = bench.inspect("waits").granted;
            let (first, second) = gate.occupy(&bench, &url).await;
            let done = log_out(works).await;
            assert_eq!(done.map_err(|failure| failure.code), works.then_some(7).ok_or("unavailable".to_owned()));
            let (first, second) = (first.await.unwrap().unwrap_err(), second.await.unwrap_err());
            assert!(!first.retryable && second.retryable && second.retry_after_ms.is_some(), "{lifecycle}");
            for failure in [first, second] {
                assert_failed(&failure, "unavailable");
                assert!(failure.message.contains("The login of the plugin `waits` was taken away"), "{failure}");
            }
            assert_eq!(bench.inspect("waits").granted, rights, "it has the rights it had");
            gate.open(2);
            assert_eq!(bench.run("waits", &url).await.unwrap(), "7", "{lifecycle}");
            removed(&bench, "waits").await;
        }
    }
    bench.close().await;
}

/// Neither a version that was replaced nor one that was removed goes on with rights that were taken back.
#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_version_that_serves_no_more_end_when_a_right_is_taken_back() {
    let bench = Bench::with_witness().await;
    for lifecycle in ["per-call", "resident"] {
        for is_replaced in [true, false] {
            let gate = Gate::start("7").await;
            let url = gate.install(&bench, one_at_a_time(lifecycle)).await;
            let (first, mut second) = gate.occupy(&bench, &url).await;
            if is_replaced {
                let newer = with(one_at_a_time(lifecycle), json!({"version": "2.0.0"}));
                bench.drop_in(&with(gate.manifest(), newer), &guests::fetch(&[]).build().unwrap());
                bench.until("waits", |info| info.version == "2.0.0" && info.state == PluginState::Ready).await;
                assert!(poll_once(&mut second).await.is_pending(), "replacing it ends nothing");
            } else {
                removed(&bench, "waits").await;
            }
            bench.revoke_item("waits", "event:a").await;
            let (first, second) = (first.await.unwrap().unwrap_err(), second.await.unwrap_err());
            assert_failed(&first, "unavailable");
            assert_failed(&second, "unavailable");
            assert!(!first.retryable && second.retryable, "{lifecycle}: {first:?} {second:?}");
            assert_eq!(gate.server.requests().len(), 1, "{lifecycle}: what waited was never sent");
            if is_replaced {
                removed(&bench, "waits").await;
            }
        }
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_asked_what_it_is_ends_when_a_right_is_taken_back() {
    let bench = Bench::with_witness().await;
    let gate = Gate::start("7").await;
    let guest = guests::fetching("export hook;", &gate.server.url("/"))
        .run("hook.events", &[guests::FETCH, "(call $room)"].concat())
        .answer("hook.handle", json!({"ok": {"verdict": "deny"}}));
    // No limit of the plugin's own ends what is not ended.
    let patient = with(gate.manifest(), json!({"limits": {"callTimeoutMs": 300_000}}));
    bench.drop_in(&patient, &guest.build().unwrap());
    bench.until("waits", |info| info.state == PluginState::NeedsGrant).await;
    let rest = async {
        gate.arrived().await;
        let revoked = async {
            // It is asked again, with the rights that are left, only once the first time has ended.
            tokio::time::timeout(PATIENCE, gate.arrived()).await.expect("the first time goes on");
            gate.open(2);
        };
        tokio::join!(bench.revoke_item("waits", "event:a"), revoked).0.unwrap()
    };
    let (_, info) = tokio::join!(bench.grant("waits"), rest);
    assert_eq!((info.state, info.missing), (PluginState::Ready, vec!["event:a".to_owned()]));
    bench.close().await;
}

/// On one thread, so that two decisions surely begin before one ends.
#[tokio::test]
async fn of_two_decisions_at_once_none_is_lost() {
    let bench = Bench::with_witness().await;
    bench.install(&two_events("1.0.0"), &emits()).await;
    let key = "emits".parse().unwrap();
    let (a, b) = (
        GrantChange { all: false, items: vec!["event:a".into()] },
        GrantChange { all: false, items: vec!["event:b".into()] },
    );
    bench.revoke_item("emits", "event:b").await;
    let caller = caller();
    let (taken, given) = tokio::join!(bench.plugins.revoke(&caller, &key, &a), bench.plugins.grant(&caller, &key, &b));
    taken.unwrap();
    given.unwrap();
    assert_eq!(bench.inspect("emits").granted.unwrap().events, ["b"]);
    assert_eq!((emitted(&bench, "a").await.as_str(), emitted(&bench, "b").await.as_str()), ("denied", "null"));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_of_a_plugin_that_is_gone_can_be_taken_back() {
    let bench = Bench::with_witness().await;
    bench.install(&two_events("1.0.0"), &emits()).await;
    removed(&bench, "emits").await;
    assert!(bench.revoke_item("emits", "event:b").await.is_none());
    bench.drop_in(&two_events("1.0.0"), &emits());
    let info = bench.until("emits", |info| info.state == PluginState::Ready).await;
    assert_eq!(info.granted.unwrap().events, ["a"]);
    removed(&bench, "emits").await;
    let all = GrantChange { all: true, items: vec![] };
    let key = "emits".parse().unwrap();
    assert!(bench.plugins.revoke(&caller(), &key, &all).await.unwrap().is_none());
    assert_failed(&bench.plugins.revoke(&caller(), &key, &all).await.unwrap_err(), "not-found");
    bench.drop_in(&two_events("1.0.0"), &emits());
    bench.until("emits", |info| info.state == PluginState::NeedsGrant).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_asks_for_less_has_only_that() {
    let bench = Bench::with_witness().await;
    bench.install(&two_events("1.0.0"), &emits()).await;
    assert_eq!(emitted(&bench, "b").await, "null");
    bench.drop_in(&with(asking("emits", json!({"events": ["a"]})), json!({"version": "2.0.0"})), &emits());
    bench.until("emits", |info| info.version == "2.0.0" && info.state == PluginState::Ready).await;
    assert_eq!((emitted(&bench, "b").await.as_str(), emitted(&bench, "a").await.as_str()), ("denied", "null"));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_a_version_gave_up_does_not_come_back_by_itself() {
    let bench = Bench::with_witness().await;
    let version =
        |number: &str, events: Value| with(asking("emits", json!({"events": events})), json!({"version": number}));
    bench.install(&version("1.0.0", json!(["a"])), &emits()).await;
    bench.drop_in(&version("2.0.0", json!(["b"])), &emits());
    bench.until("emits", |info| info.version == "2.0.0" && info.state == PluginState::NeedsGrant).await;
    bench.grant("emits").await;
    bench.drop_in(&version("3.0.0", json!(["a", "b"])), &emits());
    bench.until("emits", |info| info.version == "3.0.0" && info.state == PluginState::NeedsGrant).await;
    let info = bench.grant_items("emits", &["event:b"]).await;
    assert_eq!((info.state, info.granted.unwrap().events), (PluginState::Ready, vec!["b".to_owned()]));
    bench.close().await;
}
