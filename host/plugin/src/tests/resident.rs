//! Instances that stay, and their mailboxes.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use leanclaw_test_guests as guests;
use leanclaw_test_guests::Guest;
use leanclaw_types::plugin::PluginState;
use serde_json::{Value, json};

use super::servers::Gate;
use super::support::{Bench, asking, assert_failed, caller, context, manifest, poll_once, with};
use crate::Recycling;
use crate::actor::{MAILBOX, Role, WEBHOOKS};
use crate::calls::{GuestCall, GuestReply};

fn resident(base: Value) -> Value {
    with(base, json!({"lifecycle": "resident"}))
}

/// Counts its calls; one with more than two bytes of parameters traps.
fn counts() -> Vec<u8> {
    let body = "(if (i32.gt_u (local.get $params_len) (i32.const 2)) (then unreachable))
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (call $number (global.get $count))";
    Guest::method("", body).fields("(global $count (mut i32) (i32.const 0))").build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_keeps_its_state_until_it_fails_and_others_keep_none() {
    let bench = Bench::with_witness().await;
    bench.install(&manifest("fresh"), &counts()).await;
    bench.install(&resident(manifest("stays")), &counts()).await;
    for number in 1..=3 {
        assert_eq!(bench.run("fresh", "{}").await.unwrap(), "1");
        assert_eq!(bench.run("stays", "{}").await.unwrap(), number.to_string());
    }
    for restarts in 1..=2 {
        assert_failed(&bench.run("stays", "[1,2]").await.unwrap_err(), "internal");
        assert_eq!(bench.run("stays", "{}").await.unwrap(), "1", "a new instance");
        assert_eq!(bench.run("stays", "{}").await.unwrap(), "2");
        assert_eq!(bench.inspect("stays").stats.restarts, restarts);
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_near_its_memory_limit_is_replaced() {
    let bench = Bench::with_witness().await;
    let body = "(drop (memory.grow (i32.const 13)))
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (call $number (global.get $count))";
    let wasm = Guest::method("", body).fields("(global $count (mut i32) (i32.const 0))").build().unwrap();
    let small = with(resident(manifest("grows")), json!({"limits": {"memoryMib": 2}}));
    bench.install(&small, &wasm).await;
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(bench.run("grows", "{}").await.unwrap());
    }
    assert_eq!(counts, ["1", "2", "1", "2"], "4 + 2 * 13 of 32 pages are more than 80 percent");
    assert_eq!(bench.inspect("grows").stats.restarts, 0, "that is no fault");
    bench.close().await;
}

/// Calls of one resident instance, each of which gives the number of calls it had.
async fn counted(bench: &Bench, id: &str, calls: usize) -> Vec<String> {
    let mut counts = Vec::new();
    for _ in 0..calls {
        counts.push(bench.run(id, "{}").await.unwrap());
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_may_know_the_login_is_replaced_when_it_is_taken_away() {
    let bench = Bench::with_witness().await;
    bench.install(&resident(manifest("stays")), &counts()).await;
    let (admin, key) = (caller(), "stays".parse().unwrap());
    for _ in 0..2 {
        assert_eq!(counted(&bench, "stays", 2).await, ["1", "2"]);
        bench.plugins.log_out(&admin, &key, async |_| Ok(())).await.unwrap();
    }
    assert_eq!(bench.inspect("stays").stats.restarts, 0, "that is no fault");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_replaced_after_many_calls() {
    let bench = Bench::recycling(Recycling { calls: 3, ..Recycling::default() }).await;
    bench.install(&resident(manifest("stays")), &counts()).await;
    assert_eq!(counted(&bench, "stays", 7).await, ["1", "2", "3", "1", "2", "3", "1"]);
    assert_eq!(bench.inspect("stays").stats.restarts, 0, "that is no fault");
    let Recycling { calls, age } = Recycling::default();
    assert_eq!((calls, age), (10_000, Duration::from_secs(21_600)));
}

/// The clock stands still but for what the test adds to it.
#[tokio::test]
async fn an_instance_is_replaced_when_it_is_old() {
    let age = Duration::from_secs(1000);
    let bench = Bench::recycling(Recycling { age, ..Recycling::default() }).await;
    bench.install(&with(resident(manifest("stays")), json!({"limits": {"callTimeoutMs": 1000}})), &counts()).await;
    tokio::time::pause();
    assert_eq!(counted(&bench, "stays", 2).await, ["1", "2"]);
    tokio::time::advance(age / 2).await;
    assert_eq!(counted(&bench, "stays", 2).await, ["3", "4"]);
    tokio::time::advance(age / 2).await;
    assert_eq!(counted(&bench, "stays", 3).await, ["5", "1", "2"], "the call that finds it old is its last");
    tokio::time::advance(age).await;
    assert_eq!(counted(&bench, "stays", 2).await, ["3", "1"]);
    assert_eq!(bench.inspect("stays").stats.restarts, 0, "that is no fault");
}

/// How much the standing clock had to be moved on for a call to be served.
async fn virtual_wait(bench: &Bench, params: &str) -> u64 {
    let before = tokio::time::Instant::now();
    let _ = bench.run("crash", params).await;
    u64::try_from(before.elapsed().as_millis()).unwrap()
}

#[tokio::test]
async fn the_pause_after_a_fault_doubles_and_faults_are_forgotten() {
    let bench = Bench::with_witness().await;
    bench.install(&resident(manifest("crash")), &counts()).await;
    tokio::time::pause();
    const TRAPS: &str = "[1,2]";
    assert_eq!(virtual_wait(&bench, TRAPS).await, 0);
    for pause in [100, 200, 400] {
        let waited = virtual_wait(&bench, TRAPS).await;
        // A timer is rounded up to the next millisecond.
        assert!((pause..=pause + 2).contains(&waited), "{waited} and not {pause}");
    }
    // Four faults. The pause counts from the last one, and an instance that lives has none.
    tokio::time::advance(Duration::from_millis(700)).await;
    let waited = virtual_wait(&bench, "{}").await;
    assert!((100..=102).contains(&waited), "{waited}");
    assert_eq!(virtual_wait(&bench, "{}").await, 0);
    // Ten minutes later they are forgotten: this one is the first again, not the fifth.
    tokio::time::advance(Duration::from_secs(601)).await;
    assert_eq!(virtual_wait(&bench, TRAPS).await, 0);
    let waited = virtual_wait(&bench, "{}").await;
    assert!((100..=102).contains(&waited), "{waited}");
    let info = bench.inspect("crash");
    assert_eq!((info.state, info.stats.restarts), (PluginState::Ready, 5));
}

#[tokio::test]
async fn others_do_not_wait_for_a_guest_that_crashed_and_a_new_version_ends_the_wait() {
    let bench = Bench::with_witness().await;
    bench.install(&resident(manifest("crash")), &counts()).await;
    tokio::time::pause();
    assert_failed(&bench.run("crash", "[1,2]").await.unwrap_err(), "internal");
    let mut waits = Box::pin(bench.plugins.call_method("crash.run", "{}", context()));
    assert!(poll_once(&mut waits).await.is_pending());
    let before = tokio::time::Instant::now();
    bench.still_serving().await;
    assert_eq!(before.elapsed(), Duration::ZERO, "the witness did not wait for the pause");
    tokio::time::resume();
    bench.replace(&resident(manifest("crash")), "2.0.0", &counts()).await;
    assert_eq!(waits.await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_refuses_and_what_was_accepted_is_served() {
    let bench = Bench::with_witness().await;
    let gate = Gate::start("7").await;
    let more = json!({"lifecycle": "resident", "limits": {"httpRequestsPerMinute": 1000}});
    let url = gate.install(&bench, more).await;
    let call = || Box::pin(bench.plugins.call_method("waits.run", &url, context()));
    let mut first = call();
    assert!(poll_once(&mut first).await.is_pending());
    let rest = async {
        gate.arrived().await;
        let mut waiting: Vec<_> = (0..MAILBOX).map(|_| call()).collect();
        for one in &mut waiting {
            assert!(poll_once(one).await.is_pending());
        }
        let Poll::Ready(refused) = poll_once(&mut call()).await else { panic!("one too many was accepted") };
        let refused = refused.unwrap_err();
        assert_failed(&refused, "rate-limited");
        assert!(refused.retryable && refused.retry_after_ms.is_some());
        bench.still_serving().await;
        gate.open(MAILBOX + 1);
        for one in waiting {
            assert_eq!(one.await.unwrap(), "7");
        }
    };
    let (first, ()) = tokio::join!(first, rest);
    assert_eq!(first.unwrap(), "7");
    assert_eq!(gate.server.requests().len(), MAILBOX + 1);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_a_mailbox_does_not_begin_once_the_plugin_is_removed() {
    let bench = Bench::with_witness().await;
    let gate = Gate::start("7").await;
    let url = gate.install(&bench, json!({"lifecycle": "resident"})).await;
    let (first, second) = gate.occupy(&bench, &url).await;
    std::fs::remove_dir_all(bench.folder.path().join("waits")).unwrap();
    bench.wait("it stays", || bench.plugins.inspect(&"waits".parse().unwrap()).is_err().then_some(())).await;
    gate.open(2);
    let second = second.await.unwrap_err();
    assert_eq!(first.await.unwrap().unwrap(), "7", "what had begun goes on");
    assert_failed(&second, "unavailable");
    assert!(second.message.contains("was unloaded"), "{second:?}");
    assert_eq!(gate.server.requests().len(), 1);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_webhooks_leaves_places_for_polls_and_sockets() {
    let bench = Bench::with_witness().await;
    let gate = Gate::start("7").await;
    let guest = guests::fetching("export webhook; export poll;", &gate.server.url("/"))
        .fields(super::webhooks::REPLY)
        .run("webhook.handle", &[guests::FETCH, "(call $reply (i32.const 200) (i32.const 0) (i32.const 0))"].concat())
        .answer("poll.next", json!({"ok": {"wait-ms": 5}}));
    // Without the grant to poll nothing but the test asks for a poll.
    let rights = json!({"webhook": true, "privateHttp": [gate.server.origin()]});
    bench.install(&asking("parley", rights), &guest.build().unwrap()).await;
    let key: leanclaw_types::PluginKey = "parley".parse().unwrap();
    let hook = || {
        let (plugins, key) = (bench.plugins.clone(), key.clone());
        Box::pin(async move { plugins.webhook(&key, super::webhooks::request(""), context()).await })
    };
    let running = tokio::spawn(hook());
    gate.arrived().await;
    let mut waiting = Vec::new();
    for _ in 0..WEBHOOKS {
        let mut one = hook();
        assert!(poll_once(&mut one).await.is_pending());
        waiting.push(one);
    }
    assert_failed(&hook().await.unwrap_err(), "rate-limited");
    let unit = Arc::clone(&bench.plugins.inner.table.load().units[&key].unit);
    let mut poll = Box::pin(unit.call(Role::Inbound, GuestCall::PollNext, context()));
    assert!(poll_once(&mut poll).await.is_pending(), "a poll finds a place");
    drop(waiting);
    gate.open(1);
    assert_eq!(running.await.unwrap().unwrap().status, 200);
    assert!(matches!(poll.await.unwrap(), GuestReply::PollStep(_)));
    drop(unit);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inbound_and_outbound_work_do_not_share_an_instance() {
    let bench = Bench::with_witness().await;
    let count = "(global.set $count (i32.add (global.get $count) (i32.const 1)))";
    let guest = Guest::new("export channel; export webhook;")
        .fields("(global $count (mut i32) (i32.const 0))")
        .fields(super::webhooks::REPLY)
        .answer("channel.describe", json!({"id": "parley"}))
        .run(
            "webhook.handle",
            &format!("{count} (call $reply (i32.add (i32.const 200) (global.get $count)) (i32.const 0) (i32.const 0))"),
        )
        .run("channel.deliver", &format!("{count} (call $room)"));
    let chat = with(asking("parley", json!({"webhook": true})), json!({"channels": ["parley"]}));
    bench.install(&chat, &guest.build().unwrap()).await;
    let key = "parley".parse().unwrap();
    for number in 1..=3 {
        bench.plugins.deliver(&key, super::webhooks::message("k"), context()).await.unwrap();
        let reply = bench.plugins.webhook(&key, super::webhooks::request(""), context()).await.unwrap();
        assert_eq!(reply.status, 200 + number);
    }
    bench.close().await;
}

/// Tasks are dropped when a program ends; those who wait in a mailbox are told, and nothing starts anew.
#[test]
fn a_program_that_ends_while_calls_wait_ends_quietly() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (bench, mut waiting) = runtime.block_on(async {
        let bench = Bench::with_witness().await;
        let gate = Gate::start("7").await;
        let url = gate.install(&bench, json!({"lifecycle": "resident"})).await;
        let (_runs, waiting) = gate.occupy(&bench, &url).await;
        (bench, waiting)
    });
    drop(runtime);
    let answer = futures_util::FutureExt::now_or_never(&mut waiting).unwrap();
    assert_eq!(answer.unwrap_err().code, "unavailable");
    drop(bench);
}
