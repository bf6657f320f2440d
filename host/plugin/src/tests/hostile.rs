//! Guests that mean harm: each ends in a typed error with a hint, and others are served meanwhile.

use leanclaw_test_guests as guests;
use leanclaw_types::plugin::PluginState;
use serde_json::json;

use super::support::{Bench, manifest, with};

fn guest(invoke: &str) -> Vec<u8> {
    guests::method(&[], "", &[], invoke).unwrap()
}

async fn with_witness() -> Bench {
    let bench = Bench::new().await;
    bench.install(&manifest("witness"), &guests::echo().unwrap()).await;
    bench
}

/// Others are served, and the plugin itself still is asked again.
async fn still_serving(bench: &Bench) {
    assert_eq!(bench.run("witness", "5").await.unwrap(), "5");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endless_loop_is_stopped_while_others_are_served() {
    let bench = with_witness().await;
    let short = with(manifest("spin"), json!({"limits": {"callTimeoutMs": 300}}));
    bench.install(&short, &guest("(loop $again (br $again)) unreachable")).await;
    let spinning = bench.plugins.call_method("spin.run", "{}", super::support::context());
    let (spun, ()) = tokio::join!(spinning, async {
        for _ in 0..20 {
            still_serving(&bench).await;
        }
    });
    let failure = spun.unwrap_err();
    assert_eq!(failure.code, "timed-out");
    assert!(failure.hints.iter().any(|hint| hint.contains("callTimeoutMs")), "{:?}", failure.hints);
    assert_eq!(bench.plugins.inspect(&"spin".parse().unwrap()).unwrap().stats.timeouts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_growth_is_refused_and_the_call_lives() {
    let bench = with_witness().await;
    let small = with(manifest("grow"), json!({"limits": {"memoryMib": 1}}));
    let wasm = guest(
        "(if (i32.ne (memory.grow (i32.const 1000)) (i32.const -1)) (then unreachable))
         (call $ok (global.get $null) (global.get $null_len))",
    );
    bench.install(&small, &wasm).await;
    assert_eq!(bench.run("grow", "{}").await.unwrap(), "null");
    let large = with(manifest("grow"), json!({"version": "2.0.0", "limits": {"memoryMib": 100}}));
    bench.drop_in(&large, &wasm);
    bench.until("grow", |info| info.version == "2.0.0").await;
    assert_eq!(
        bench.run("grow", "{}").await.unwrap_err().code,
        "internal",
        "the growth was allowed, so the guest traps"
    );
    still_serving(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traps_are_reported_and_counted() {
    let bench = with_witness().await;
    bench.install(&manifest("trap"), &guest("unreachable")).await;
    for _ in 0..3 {
        let failure = bench.run("trap", "{}").await.unwrap_err();
        assert_eq!(failure.code, "internal");
        assert!(failure.hints.iter().any(|hint| hint == "leanclaw plugin logs trap"), "{:?}", failure.hints);
    }
    let info = bench.plugins.inspect(&"trap".parse().unwrap()).unwrap();
    assert_eq!((info.stats.traps, info.state), (3, PluginState::Ready));
    let lines = bench.plugins.logs(&"trap".parse().unwrap(), None, 100).unwrap();
    assert!(lines.iter().any(|line| line.message.contains("unreachable")), "{lines:?}");
    let audited = bench.memory.audit.lock().unwrap().iter().filter(|row| row.event.kind() == "plugin-trap").count();
    assert_eq!(audited, 3);
    still_serving(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_guest_that_always_traps_ends_faulted() {
    let bench = with_witness().await;
    bench.install(&with(manifest("crash"), json!({"lifecycle": "resident"})), &guest("unreachable")).await;
    for _ in 0..5 {
        assert_eq!(bench.run("crash", "{}").await.unwrap_err().code, "internal");
    }
    let info = bench.until("crash", |info| info.state == PluginState::Faulted).await;
    assert!(info.reason.contains("leanclaw plugin reload crash"), "{}", info.reason);
    assert_eq!(info.stats.restarts, 5);
    bench.plugins.reload(&super::support::caller(), Some(&"crash".parse().unwrap())).await.unwrap();
    bench.until("crash", |info| info.state == PluginState::Ready).await;
    still_serving(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_not_granted_is_not_linked() {
    let bench = with_witness().await;
    let import = r#"(import "leanclaw:plugin/kv@0.1.0" "delete" (func $delete (param i32 i32 i32)))"#;
    let wasm = guests::method(
        &["kv"],
        import,
        &[("key", "k")],
        "(call $delete (global.get $key) (global.get $key_len) (call $alloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 72)))
         (call $ok (global.get $null) (global.get $null_len))",
    )
    .unwrap();
    bench.drop_in(&manifest("kv"), &wasm);
    bench.until("kv", |info| info.state == PluginState::NeedsGrant).await;
    let info = bench.grant("kv").await;
    assert_eq!(info.state, PluginState::NeedsGrant, "granting nothing links nothing");
    assert!(info.reason.contains("not granted") && info.reason.contains("quotaBytes"), "{}", info.reason);

    bench.drop_in(&with(manifest("kv"), json!({"version": "2.0.0", "permissions": {"kv": {}}})), &wasm);
    bench.until("kv", |info| info.version == "2.0.0").await;
    let info = bench.grant("kv").await;
    assert_eq!(info.state, PluginState::Ready, "{}", info.reason);
    assert_eq!(bench.run("kv", "{}").await.unwrap(), "null");
    still_serving(&bench).await;
}
