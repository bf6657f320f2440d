//! More calls than a plugin may serve at once.

use std::task::Poll;

use leanclaw_test_guests as guests;
use leanclaw_types::plugin::PluginState;
use serde_json::json;

use super::servers::Gate;
use super::support::{Bench, asking, assert_failed, context, poll_once, with};

/// Calls that may wait for a turn, per call that may run.
const WAITING: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_concurrency_wait_and_beyond_the_queue_are_refused() {
    let bench = Bench::with_witness().await;
    let gate = Gate::start("7").await;
    let narrow =
        with(asking("waits", json!({"privateHttp": [gate.server.origin()]})), json!({"limits": {"concurrency": 2}}));
    bench.install(&narrow, &guests::fetch(&[]).build().unwrap()).await;
    let url = json!(gate.server.url("/")).to_string();
    let call = || Box::pin(bench.plugins.call_method("waits.run", &url, context()));
    let running = async { tokio::join!(call(), call()) };
    let rest = async {
        gate.arrived().await;
        gate.arrived().await;
        let mut waiting: Vec<_> = (0..2 * WAITING).map(|_| call()).collect();
        for one in &mut waiting {
            assert!(poll_once(one).await.is_pending());
        }
        let Poll::Ready(refused) = poll_once(&mut call()).await else { panic!("one too many was accepted") };
        let refused = refused.unwrap_err();
        assert_failed(&refused, "rate-limited");
        assert!(refused.hints[0].contains("limits.concurrency") && refused.retryable, "{refused:?}");
        assert_eq!(gate.server.requests().len(), 2, "two run, the others wait");
        bench.still_serving().await;
        // A caller that gives up makes room.
        drop(waiting.pop());
        let mut late = call();
        assert!(poll_once(&mut late).await.is_pending());
        waiting.push(late);
        gate.open(2 + 2 * WAITING);
        for one in waiting {
            assert_eq!(one.await.unwrap(), "7");
        }
    };
    let ((first, second), ()) = tokio::join!(running, rest);
    assert_eq!((first.unwrap(), second.unwrap()), ("7".to_owned(), "7".to_owned()));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_takes_its_instance_along() {
    let bench = Bench::with_witness().await;
    let gate = Gate::start("7").await;
    bench
        .install(&asking("waits", json!({"privateHttp": [gate.server.origin()]})), &guests::fetch(&[]).build().unwrap())
        .await;
    let free = bench.wasm.free_instances();
    let url = json!(gate.server.url("/")).to_string();
    let call = tokio::spawn({
        let plugins = bench.plugins.clone();
        let url = url.clone();
        async move { plugins.call_method("waits.run", &url, context()).await }
    });
    gate.arrived().await;
    assert_eq!(bench.wasm.free_instances(), free - 1);
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(bench.wasm.free_instances(), free);
    gate.open(2);
    assert_eq!(bench.run("waits", &url).await.unwrap(), "7");
    bench.close().await;
}

/// Rights that are taken back and a plugin that is taken away are waited for by others, who must not wait for a crowd.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_instance_is_turned_away_with_the_plugin() {
    let bench = Bench::new().await;
    let echo = guests::echo().unwrap();
    for lifecycle in ["per-call", "resident"] {
        let asks = asking(lifecycle, json!({"kv": {"quotaBytes": 10}}));
        bench.install(&with(asks, json!({ "lifecycle": lifecycle })), &echo).await;
        let mut taken = Vec::new();
        let method = format!("{lifecycle}.run");
        let call = || Box::pin(bench.plugins.call_method(&method, "1", context()));

        taken.extend(std::iter::from_fn(|| bench.wasm.try_instance_permit()));
        let mut waiting = call();
        assert!(poll_once(&mut waiting).await.is_pending());
        let withdrawn = async {
            let failure = waiting.await.unwrap_err();
            assert_failed(&failure, "unavailable");
            assert!(failure.message.contains("were taken back"), "{lifecycle}: {failure}");
            // What is left of its rights is loaded, for which an instance is needed.
            taken.clear();
        };
        tokio::join!(withdrawn, bench.revoke(lifecycle));
        bench.until(lifecycle, |info| info.state == PluginState::Ready).await;

        taken.extend(std::iter::from_fn(|| bench.wasm.try_instance_permit()));
        let mut waiting = call();
        assert!(poll_once(&mut waiting).await.is_pending());
        std::fs::remove_dir_all(bench.folder.path().join(lifecycle)).unwrap();
        let failure = waiting.await.unwrap_err();
        assert_eq!(failure.code, "unavailable");
        assert!(failure.message.contains("was unloaded"), "{lifecycle}: {failure}");
        drop(taken);
    }
    bench.no_instance_is_left().await;
}
