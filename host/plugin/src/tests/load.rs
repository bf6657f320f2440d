//! More calls than a plugin may serve at once.

use std::task::Poll;

use leanclaw_test_guests as guests;
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
