//! Guests that do not end.

use leanclaw_test_guests as guests;
use leanclaw_test_guests::Guest;
use leanclaw_types::plugin::PluginState;
use serde_json::{Value, json};

use crate::tests::servers::Server;
use crate::tests::support::{Bench, asking, assert_failed, assert_told, context, manifest, with};

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
async fn the_same_long_work_ends_when_its_limit_allows_it() {
    let bench = Bench::with_witness().await;
    // More than any machine does within a millisecond and the two ticks it takes to notice.
    let work = "(local.set $k (i32.const 300000000))
        (loop $again (br_if $again (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
        (call $ok (global.get $null) (global.get $null_len))";
    let (works, within) = (guests::method(work).unwrap(), |limit: u64| {
        with(manifest("works"), json!({"limits": {"callTimeoutMs": limit}}))
    });
    bench.install(&within(1), &works).await;
    assert_told(&bench.run("works", "{}").await.unwrap_err(), "timed-out", "limits.callTimeoutMs");
    bench.replace(&within(300_000), "2.0.0", &works).await;
    assert_eq!(bench.run("works", "{}").await.unwrap(), "null");
    bench.replace(&within(1), "3.0.0", &works).await;
    assert_told(&bench.run("works", "{}").await.unwrap_err(), "timed-out", "limits.callTimeoutMs");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_is_waited_for_as_long_as_the_limit_allows() {
    let bench = Bench::with_witness().await;
    let (server, bytes) = Server::doled("12345").await;
    let to_server = |id: &str| asking(id, json!({"privateHttp": [server.origin()]}));
    let guests = [
        ("plain", guests::fetch(&[]).build().unwrap()),
        ("standard", guests::wasi_fetch(&server.address().to_string(), "/").build().unwrap()),
    ];
    for (id, wasm) in guests {
        bench.install(&hasty(to_server(id)), &wasm).await;
        assert_told(&bench.fetch(id, &server.url("/")).await.unwrap_err(), "timed-out", "limits.callTimeoutMs");
        bench.replace(&with(to_server(id), json!({"limits": {"callTimeoutMs": 120_000}})), "2.0.0", &wasm).await;
        bytes.add_permits(5);
        let answer = bench.fetch(id, &server.url("/")).await.unwrap();
        // What the standard guest gives back is the first piece.
        assert!(!answer.is_empty() && "12345".starts_with(&answer), "{answer}");
    }
    bench.close().await;
}

/// Says that it has begun, and then does `instructions` for ever.
fn endless(imports: &str, instructions: &str) -> Vec<u8> {
    let begun = "(call $log.write (global.get $info) (global.get $info_len) (global.get $begun) (global.get $begun_len)
        (i32.const 0) (i32.const 0))";
    let body = format!("{begun} (loop $for_ever {instructions} (br $for_ever)) unreachable");
    let guest = Guest::method(&format!("import log; {imports}"), &body).text("info", "info").text("begun", "begun");
    guest.text("blank", &"\n".repeat(4096)).build().unwrap()
}

/// No limit on time ends these: they run until they are given up, and the witness answers while they do.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whatever_a_guest_does_for_ever_others_are_served_meanwhile() {
    let bench = Bench::with_witness().await;
    let print = "(call $streams.output-stream.blocking-write-and-flush
        (call $stdout.get-stdout) (global.get $blank) (global.get $blank_len) (local.tee $area (i32.const 8)))";
    let cases = [
        ("computes", "", ""),
        ("grows-memory", "", "(drop (memory.grow (i32.const 60000)))"),
        ("fills-memory", "", "(memory.fill (i32.const 100000) (i32.const 7) (i32.const 90000))"),
        ("prints", "import wasi:cli/stdout@0.2.12; import wasi:io/streams@0.2.12;", print),
        (
            "makes-handles",
            "import wasi:clocks/monotonic-clock@0.2.12; import wasi:io/poll@0.2.12;",
            "(call $poll.pollable.drop (call $monotonic-clock.subscribe-duration (i64.const 1)))",
        ),
        ("asks-the-time", "import wasi:clocks/monotonic-clock@0.2.12;", "(drop (call $monotonic-clock.now))"),
        (
            "waits",
            "import wasi:clocks/monotonic-clock@0.2.12; import wasi:io/poll@0.2.12;",
            "(call $poll.pollable.block (call $monotonic-clock.subscribe-duration (i64.const 0x7000000000000000)))",
        ),
    ];
    for (id, imports, instructions) in cases {
        let patient = with(manifest(id), json!({"limits": {"callTimeoutMs": 300_000}}));
        bench.install(&patient, &endless(imports, instructions)).await;
        // What is printed drives the first line out of the log.
        let sign = if id == "prints" { "log limit of this call reached" } else { "begun" };
        bench
            .serves_others_during(id, "{}", async || {
                bench.until_line(id, sign).await;
            })
            .await;
    }
    let (server, closed) = Server::drip().await;
    let patient =
        with(asking("drips", json!({"privateHttp": [server.origin()]})), json!({"limits": {"callTimeoutMs": 300_000}}));
    bench.install(&patient, &guests::fetch(&[]).build().unwrap()).await;
    bench
        .serves_others_during("drips", &json!(server.url("/")).to_string(), async || {
            bench.wait("no request", || server.requests().first().map(|_| ())).await;
        })
        .await;
    closed.acquire().await.unwrap().forget();
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
    assert_told(&failure, "timed-out", "limits.callTimeoutMs");
    assert!(failure.retryable);
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
