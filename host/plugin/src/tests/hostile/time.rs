//! Guests that do not end.

use leanclaw_test_guests as guests;
use leanclaw_types::plugin::PluginState;
use serde_json::{Value, json};

use crate::tests::servers::Server;
use crate::tests::support::{Bench, asking, assert_failed, context, manifest, with};

const SPIN: &str = "(loop $again (br $again)) unreachable";

/// A manifest with little time for a call.
fn hasty(base: Value) -> Value {
    with(base, json!({"limits": {"callTimeoutMs": 250}}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endless_loop_is_stopped_while_others_are_served() {
    let bench = Bench::with_witness().await;
    bench.install(&hasty(manifest("spin")), &guests::method(SPIN).unwrap()).await;
    let spinning = bench.plugins.call_method("spin.run", "{}", context());
    let (spun, ()) = tokio::join!(spinning, async {
        for _ in 0..20 {
            bench.still_serving().await;
        }
    });
    let failure = spun.unwrap_err();
    assert_failed(&failure, "timed-out");
    assert!(failure.hints.iter().any(|hint| hint.contains("callTimeoutMs")), "{:?}", failure.hints);
    assert_eq!(bench.inspect("spin").stats.timeouts, 1);
    assert_eq!(bench.audited("plugin-trap", "spin"), 1);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_spins_before_it_can_be_asked_anything_is_faulted() {
    let bench = Bench::with_witness().await;
    let starting =
        guests::Guest::method("", "unreachable").fields("(func $spin (loop $again (br $again))) (start $spin)");
    let describing = guests::Guest::new("export method;").run("method.methods", SPIN);
    for (id, guest) in [("start", starting), ("describe", describing)] {
        let info = bench.try_install(&hasty(manifest(id)), &guest.build().unwrap()).await;
        assert_eq!(info.state, PluginState::Faulted);
        assert!(info.reason.contains("250ms") && info.reason.contains("callTimeoutMs"), "{}", info.reason);
        assert_eq!(bench.run(id, "{}").await.unwrap_err().code, "not-found");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_server_that_drips_ends_with_the_call() {
    let bench = Bench::with_witness().await;
    let (server, closed) = Server::drip().await;
    let to_server = json!({"privateHttp": [server.origin()]});
    bench.install(&hasty(asking("plain", to_server.clone())), &guests::fetch(&[]).build().unwrap()).await;
    let standard = guests::wasi_fetch(&server.address().to_string(), "/").build().unwrap();
    bench.install(&hasty(asking("standard", to_server)), &standard).await;
    let url = server.url("/");
    let (plain, standard, ()) =
        tokio::join!(bench.fetch("plain", &url), bench.run("standard", "{}"), bench.still_serving());
    for failure in [plain.unwrap_err(), standard.unwrap_err()] {
        assert_failed(&failure, "timed-out");
        assert!(failure.hints.iter().any(|hint| hint.contains("callTimeoutMs")), "{:?}", failure.hints);
        // The connection goes with the call.
        closed.acquire().await.unwrap().forget();
    }
    assert_eq!((bench.inspect("plain").stats.timeouts, bench.inspect("standard").stats.timeouts), (1, 1));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_limits_its_own_waiting_is_told_and_lives() {
    let bench = Bench::with_witness().await;
    let (server, closed) = Server::drip().await;
    let wasm = guests::fetch_within(&[], Some(200)).build().unwrap();
    bench.install(&asking("patient", json!({"privateHttp": [server.origin()]})), &wasm).await;
    let failure = bench.fetch("patient", &server.url("/")).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("timed-out", true), "{failure:?}");
    closed.acquire().await.unwrap().forget();
    let stats = bench.inspect("patient").stats;
    assert_eq!((stats.failures, stats.timeouts, stats.traps), (1, 0, 0));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_clock_ends_with_the_call() {
    let bench = Bench::with_witness().await;
    let waits = |nanoseconds: u64| {
        let body = format!(
            "(call $poll.pollable.block (call $monotonic-clock.subscribe-duration (i64.const {nanoseconds})))
             (call $ok (global.get $null) (global.get $null_len))"
        );
        let imports = "import wasi:clocks/monotonic-clock@0.2.12; import wasi:io/poll@0.2.12;";
        guests::Guest::method(imports, &body).build().unwrap()
    };
    bench.install(&hasty(manifest("for-ever")), &waits(u64::MAX >> 1)).await;
    assert_failed(&bench.run("for-ever", "{}").await.unwrap_err(), "timed-out");
    bench.install(&manifest("a-moment"), &waits(1000)).await;
    assert_eq!(bench.run("a-moment", "{}").await.unwrap(), "null");
    bench.close().await;
}
