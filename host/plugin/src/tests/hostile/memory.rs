//! Guests that want more memory, tables or stack than they may have, or hand over more than the host takes.

use leanclaw_test_guests as guests;
use leanclaw_test_guests::Guest;
use leanclaw_types::plugin::PluginState;
use serde_json::json;

use crate::tests::support::{Bench, asking, assert_failed, assert_told, manifest, with};

const NULL: &str = "(call $ok (global.get $null) (global.get $null_len))";

#[tokio::test(flavor = "multi_thread")]
async fn memory_growth_is_refused_and_the_call_lives() {
    let bench = Bench::with_witness().await;
    let grow = "(memory.grow (i32.const 1000))";
    let polite = guests::method(&format!("(call $number (i32.eq {grow} (i32.const -1)))")).unwrap();
    let small = with(manifest("grow"), json!({"limits": {"memoryMib": 1}}));
    bench.install(&small, &polite).await;
    assert_eq!(bench.run("grow", "{}").await.unwrap(), "1");
    bench.replace(&with(manifest("grow"), json!({"limits": {"memoryMib": 100}})), "2.0.0", &polite).await;
    assert_eq!(bench.run("grow", "{}").await.unwrap(), "0");
    assert!(bench.inspect("grow").stats.peak_memory_bytes > 1000 * 65536);

    let greedy = guests::method(&format!("(if (i32.eq {grow} (i32.const -1)) (then unreachable)) {NULL}")).unwrap();
    bench.install(&with(manifest("greedy"), json!({"limits": {"memoryMib": 1}})), &greedy).await;
    let failure = bench.run("greedy", "{}").await.unwrap_err();
    assert_failed(&failure, "budget-exhausted");
    assert!(failure.hints.iter().any(|hint| hint.contains("memoryMib")), "{:?}", failure.hints);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_starts_too_large_is_faulted_and_fits_with_a_larger_limit() {
    let bench = Bench::with_witness().await;
    // 80 MiB beside its own memory.
    let wasm = Guest::method("", NULL).fields("(memory $second 1280)").build().unwrap();
    let info = bench.try_install(&manifest("large"), &wasm).await;
    assert_eq!(info.state, PluginState::Faulted);
    assert!(info.reason.contains("memoryMib"), "{}", info.reason);
    bench.replace(&with(manifest("large"), json!({"limits": {"memoryMib": 100}})), "2.0.0", &wasm).await;
    assert_eq!(bench.run("large", "{}").await.unwrap(), "null");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_above_the_default_is_there_only_with_the_grant() {
    let bench = Bench::with_witness().await;
    // 94 MiB more than it starts with; 0 is said when it got them.
    let wasm = guests::method("(call $number (i32.eq (memory.grow (i32.const 1500)) (i32.const -1)))").unwrap();
    let wants = |mib: u32| with(asking("wants", json!({"inbox": true})), json!({"limits": {"memoryMib": mib}}));
    bench.drop_in(&wants(100), &wasm);
    let info = bench.until("wants", |info| info.state == PluginState::NeedsGrant).await;
    assert_eq!(info.missing, ["inbox", "limit:memoryMib=100"]);
    assert!(info.reason.contains("limit:memoryMib=100"), "{}", info.reason);

    let info = bench.grant_items("wants", &["inbox"]).await;
    assert_eq!((info.state, info.missing), (PluginState::Ready, vec!["limit:memoryMib=100".to_owned()]));
    assert_eq!(bench.run("wants", "{}").await.unwrap(), "1", "it has what every plugin has");
    bench.grant_items("wants", &["limit:memoryMib=100"]).await;
    assert_eq!(bench.run("wants", "{}").await.unwrap(), "0");

    bench.drop_in(&wants(200), &wasm);
    let info = bench.until("wants", |info| info.reason.contains("limit:memoryMib=200")).await;
    assert_eq!(info.granted.unwrap().limits.memory_mib, Some(100), "the old grant is kept: {}", info.reason);
    bench.drop_in(&wants(100), &wasm);
    bench.until("wants", |info| info.state == PluginState::Ready && info.reason.is_empty()).await;
    bench.revoke_item("wants", "limit:memoryMib=100").await;
    assert_eq!(bench.run("wants", "{}").await.unwrap(), "1");
    bench.close().await;
}

/// The bounds on tables, stack and answers are fixed, so what is shown is one guest that does as much as its parameters
/// are long. These are the parameters.
fn bytes(count: usize) -> String {
    "1".repeat(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn table_growth_is_bounded() {
    let bench = Bench::with_witness().await;
    let grow = "(table.grow $many (ref.null func) (i32.mul (local.get $params_len) (i32.const 10000)))";
    let body = format!("(if (i32.eq {grow} (i32.const -1)) (then unreachable)) {NULL}");
    let grows = Guest::method("", &body).fields("(table $many 1 funcref)").build().unwrap();
    bench.install(&manifest("grows"), &grows).await;
    for _ in 0..2 {
        assert_eq!(bench.run("grows", &bytes(5)).await.unwrap(), "null");
        let failure = bench.run("grows", &bytes(6)).await.unwrap_err();
        assert_told(&failure, "budget-exhausted", "smaller pieces");
        assert!(failure.message.contains("60000 table elements"), "{failure}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recursion_is_bounded() {
    let bench = Bench::with_witness().await;
    let body = "(call $number (call $dive (i32.mul (local.get $params_len) (i32.const 100))))";
    let dive = "(func $dive (param $left i32) (result i32)
        (if (result i32) (local.get $left)
            (then (i32.add (i32.const 1) (call $dive (i32.sub (local.get $left) (i32.const 1)))))
            (else (i32.const 0))))";
    bench.install(&manifest("dives"), &Guest::method("", body).fields(dive).build().unwrap()).await;
    for _ in 0..2 {
        assert_eq!(bench.run("dives", &bytes(10)).await.unwrap(), "1000");
        // Half a MiB of stack does not hold a million calls.
        let failure = bench.run("dives", &bytes(10_000)).await.unwrap_err();
        assert_told(&failure, "internal", "recursed too deeply");
        assert!(failure.message.contains("stack"), "{failure}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_lie_about_their_place_are_failures() {
    let bench = Bench::with_witness().await;
    let lies = [("beyond", 0x7fff_0000_u32, 16_u32), ("around", 0xffff_fff0, 0x100), ("endless", 16, u32::MAX)];
    for (id, address, length) in lies {
        let lie = json!({"ok": {"address": address, "length": length}});
        let text = Guest::new("export method;").methods().answer("method.invoke", lie.clone()).build().unwrap();
        bench.install(&manifest(id), &text).await;
        assert_failed(&bench.run(id, "{}").await.unwrap_err(), "internal");
        let list = Guest::new("export method;").answer("method.methods", lie).build().unwrap();
        let info = bench.try_install(&manifest(&format!("{id}-list")), &list).await;
        assert_eq!(info.state, PluginState::Faulted);
        assert!(info.reason.contains("hint:"), "{}", info.reason);
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_taken_up_to_a_size() {
    let bench = Bench::with_witness().await;
    let roomy = |id: &str| with(manifest(id), json!({"limits": {"memoryMib": 160}}));
    // A JSON string of a million blanks per byte of parameters, in memory that is really there.
    let body = "(drop (memory.grow (i32.const 2000)))
        (local.set $area (i32.const 200000))
        (local.set $i (i32.mul (local.get $params_len) (i32.const 1000000)))
        (memory.fill (local.get $area) (i32.const 32) (local.get $i))
        (i32.store8 (local.get $area) (i32.const 34))
        (i32.store8 (i32.add (local.get $area) (i32.sub (local.get $i) (i32.const 1))) (i32.const 34))
        (call $ok (local.get $area) (local.get $i))";
    bench.install(&roomy("says"), &guests::method(body).unwrap()).await;
    for _ in 0..2 {
        assert_eq!(bench.run("says", &bytes(1)).await.unwrap().len(), 1_000_000);
        for too_much in [9, 100] {
            let failure = bench.run("says", &bytes(too_much)).await.unwrap_err();
            assert_told(&failure, "budget-exhausted", "smaller pieces");
            assert!(failure.message.contains("bytes copied"), "{failure}");
        }
    }

    // Ten million empty strings: nothing to copy, but each would cost the host its own bookkeeping.
    let list = Guest::new("export hook;").run(
        "hook.events",
        "(drop (memory.grow (i32.const 2000)))
         (local.set $area (call $room))
         (i32.store (local.get $area) (i32.const 262144))
         (i32.store offset=4 (local.get $area) (i32.const 10000000))
         (local.get $area)",
    );
    let info = bench.try_install(&roomy("list"), &list.build().unwrap()).await;
    assert_eq!(info.state, PluginState::Faulted);
    assert!(info.reason.contains("bytes copied") && info.reason.contains("hint:"), "{}", info.reason);
    let short = Guest::new("export hook;").answer("hook.events", json!(["before-send"]));
    bench
        .install(
            &with(roomy("short-list"), json!({"permissions": {"hooks": ["before-send"]}})),
            &short.build().unwrap(),
        )
        .await;
    bench.close().await;
}
