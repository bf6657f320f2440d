//! Guests that do something harmless far too often.

use leanclaw_test_guests::Guest;
use leanclaw_types::Failure;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::tests::servers::Server;
use crate::tests::support::{Bench, asking, assert_failed, context, manifest, with};

const NULL: &str = "(call $ok (global.get $null) (global.get $null_len))";

/// Lines that a plugin's ring holds.
const RING_LINES: usize = 1000;

/// `instructions`, `count` times.
fn repeat(count: u32, instructions: &str) -> String {
    format!(
        "(local.set $k (i32.const {count}))
         (loop $again {instructions} (br_if $again (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))"
    )
}

fn busy(base: Value) -> Value {
    with(base, json!({"limits": {"hostCalls": 1_000_000, "callTimeoutMs": 120_000}}))
}

async fn while_serving(bench: &Bench, id: &str) -> Result<String, Failure> {
    let name = format!("{id}.run");
    let (result, ()) = tokio::join!(bench.plugins.call_method(&name, "{}", context()), async {
        for _ in 0..10 {
            bench.still_serving().await;
        }
    });
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn host_calls_are_counted_per_call() {
    let bench = Bench::with_witness().await;
    let asks = |count| {
        let body = repeat(count, "(call $settings.get (call $room))");
        Guest::method("import settings;", &(body + NULL)).build().unwrap()
    };
    bench.install(&manifest("asks"), &asks(1000)).await;
    for _ in 0..3 {
        assert_eq!(bench.run("asks", "{}").await.unwrap(), "null", "every call starts at zero");
    }
    bench.install(&manifest("floods"), &asks(1001)).await;
    let failure = while_serving(&bench, "floods").await.unwrap_err();
    assert_failed(&failure, "budget-exhausted");
    assert!(failure.hints.iter().any(|hint| hint.contains("limits.hostCalls")), "{:?}", failure.hints);
    bench.drop_in(&with(manifest("floods"), json!({"version": "2.0.0", "limits": {"hostCalls": 1001}})), &asks(1001));
    bench.until("floods", |info| info.version == "2.0.0").await;
    assert_eq!(bench.run("floods", "{}").await.unwrap(), "null");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_are_counted() {
    let bench = Bench::with_witness().await;
    let make = "(call $blobs.writer.new (global.get $null) (global.get $null_len))";
    let keeps = repeat(20_000, &format!("(drop {make})")) + NULL;
    let gives_back = repeat(20_000, &format!("(call $blobs.writer.drop {make})")) + NULL;
    let standard = repeat(20_000, "(drop (call $types.fields.new))") + NULL;
    let tidy = Guest::method("import blobs;", &gives_back).build().unwrap();
    bench.install(&busy(manifest("tidy")), &tidy).await;
    assert_eq!(while_serving(&bench, "tidy").await.unwrap(), "null");
    for (id, imports, body) in
        [("hoards", "import blobs;", keeps), ("standard", "import wasi:http/types@0.2.12;", standard)]
    {
        bench.install(&busy(manifest(id)), &Guest::method(imports, &body).build().unwrap()).await;
        let failure = while_serving(&bench, id).await.unwrap_err();
        assert_failed(&failure, "budget-exhausted");
        assert!(failure.message.contains("handles"), "{failure}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_parks_in_the_host_is_bounded_like_its_memory() {
    let bench = Bench::with_witness().await;
    // Writes 100,000 bytes at a time until it is refused, and gives the refusal.
    let body = "(local.set $i (call $blobs.writer.new (global.get $null) (global.get $null_len)))
        (loop $again
            (call $blobs.writer.write (local.get $i) (i32.const 16) (i32.const 100000) (local.tee $area (call $room)))
            (br_if $again (i32.eqz (i32.load8_u (local.get $area)))))
        (local.get $area)";
    let wasm = Guest::method("import blobs;", body).build().unwrap();
    let small = with(manifest("parks"), json!({"limits": {"memoryMib": 2, "hostCalls": 1_000_000}}));
    bench.install(&small, &wasm).await;
    let failure = bench.run("parks", "{}").await.unwrap_err();
    assert_eq!(failure.code, "too-large", "{failure:?}");
    assert!(failure.message.contains("2097152"), "{failure}");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_log_lines_leave_a_bounded_log() {
    let bench = Bench::with_witness().await;
    let line = "(call $log.write (global.get $info) (global.get $info_len) (global.get $text) (global.get $text_len)
        (i32.const 0) (i32.const 0))";
    let guest =
        Guest::method("import log;", &(repeat(1_000_000, line) + NULL)).text("info", "info").text("text", "flood");
    bench.install(&busy(manifest("writes")), &guest.build().unwrap()).await;
    assert_eq!(while_serving(&bench, "writes").await.unwrap(), "null");

    // 245 writes of 4096 empty lines each.
    let print = "(call $streams.output-stream.blocking-write-and-flush
        (local.get $i) (global.get $blank) (global.get $blank_len) (call $room))";
    let body = format!("(local.set $i (call $stdout.get-stdout)) {} {NULL}", repeat(245, print));
    let imports = "import wasi:cli/stdout@0.2.12; import wasi:io/streams@0.2.12;";
    let guest = Guest::method(imports, &body).text("blank", &"\n".repeat(4096));
    bench.install(&busy(manifest("prints")), &guest.build().unwrap()).await;
    assert_eq!(while_serving(&bench, "prints").await.unwrap(), "null");

    for id in ["writes", "prints"] {
        let lines = bench.lines(id);
        assert_eq!(lines.len(), RING_LINES, "{id}");
        let last = lines.last().unwrap();
        assert!(last.message.contains("log limit of this call reached"), "{id}: {last:?}");
        assert!(last.seq < 1100, "lines beyond the limit were written: {last:?}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_are_cut_and_cannot_drive_a_terminal() {
    let bench = Bench::with_witness().await;
    let nasty = "\u{1b}[2J\rred\nnext\u{202e}\u{0}";
    let line = |name: &str| {
        format!(
            "(call $log.write (i32.load (global.get ${name})) (i32.load offset=4 (global.get ${name}))
                (i32.load offset=8 (global.get ${name})) (i32.load offset=12 (global.get ${name}))
                (i32.load offset=16 (global.get ${name})) (i32.load offset=20 (global.get ${name})))"
        )
    };
    let print = "(call $streams.output-stream.blocking-write-and-flush
        (call $stderr.get-stderr) (global.get $printed) (global.get $printed_len) (call $room))";
    let imports = "import log; import wasi:cli/stderr@0.2.12; import wasi:io/streams@0.2.12;";
    let many: Vec<Value> = (0..100).map(|number| json!([format!("n{number}"), "v"])).collect();
    let guest = Guest::method(imports, &format!("{}{}{}{print}{NULL}", line("nasty"), line("long"), line("many")))
        .arguments("nasty", "log.write", vec![json!("shout"), json!(nasty), json!([[nasty, nasty]])])
        .arguments("long", "log.write", vec![json!("warn"), json!("x".repeat(100_000)), json!([])])
        .arguments("many", "log.write", vec![json!("debug"), json!("fields"), json!(many)])
        .text("printed", &format!("{nasty}{}", "y".repeat(4000)));
    bench.install(&manifest("shows"), &guest.build().unwrap()).await;
    assert_eq!(bench.run("shows", "{}").await.unwrap(), "null");
    let lines = bench.lines("shows");
    assert_eq!(
        lines.iter().map(|line| line.source.as_str()).collect::<Vec<_>>(),
        ["log", "log", "log", "stderr", "stderr"]
    );
    assert_eq!(
        lines.iter().map(|line| line.level.as_str()).collect::<Vec<_>>(),
        ["info", "warn", "debug", "info", "info"]
    );
    for line in &lines {
        assert!(line.message.len() <= 4096, "{}", line.message.len());
        assert!(!line.message.contains(|letter: char| letter.is_control() || letter == '\u{202e}'), "{line:?}");
        assert!(line.call_id.starts_with("call-"), "{line:?}");
    }
    assert!(lines[0].message.starts_with("\\u{1b}[2J\\rred\\nnext\\u{202e}\\u{0} "), "{:?}", lines[0]);
    assert!(lines[2].message.contains("n31=v") && !lines[2].message.contains("n32=v"), "{:?}", lines[2]);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_flood_costs_a_slow_reader_events_and_nobody_else_anything() {
    let bench = Bench::with_witness().await;
    let emit = "(call $events.emit (global.get $name) (global.get $name_len) (global.get $null) (global.get $null_len) (call $room))";
    let guest = Guest::method("import events;", &(repeat(5000, emit) + NULL)).text("name", "changed");
    bench.install(&busy(asking("emits", json!({"events": ["changed"]}))), &guest.build().unwrap()).await;
    let mut slow = bench.plugins.subscribe();
    assert_eq!(while_serving(&bench, "emits").await.unwrap(), "null");
    assert!(matches!(slow.recv().await, Err(RecvError::Lagged(_))));
    assert_eq!(slow.recv().await.unwrap().event, "emits.changed");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_per_minute() {
    let bench = Bench::with_witness().await;
    let server = Server::body("7").await;
    let slow = with(
        asking("asks", json!({"privateHttp": [server.origin()]})),
        json!({"limits": {"httpRequestsPerMinute": 2}}),
    );
    bench.install(&slow, &leanclaw_test_guests::fetch(&[]).build().unwrap()).await;
    for _ in 0..2 {
        assert_eq!(bench.fetch("asks", &server.url("/")).await.unwrap(), "7");
    }
    let failure = bench.fetch("asks", &server.url("/")).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("rate-limited", true), "{failure:?}");
    assert!(failure.retry_after_ms.is_some_and(|wait| wait > 0), "{failure:?}");
    assert_eq!(server.requests().len(), 2);
    bench.close().await;
}
