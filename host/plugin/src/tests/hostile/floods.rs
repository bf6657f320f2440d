//! Guests that do something harmless far too often.

use leanclaw_test_guests as guests;
use leanclaw_test_guests::Guest;
use leanclaw_types::Failure;
use leanclaw_types::plugin::PluginState;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::tests::servers::Server;
use crate::tests::support::{Bench, asking, assert_failed, assert_told, context, manifest, with};

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

async fn while_serving(bench: &Bench, id: &str, params: &str) -> Result<String, Failure> {
    let name = format!("{id}.run");
    let (result, ()) = tokio::join!(bench.plugins.call_method(&name, params, context()), async {
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
    let failure = while_serving(&bench, "floods", "{}").await.unwrap_err();
    assert_failed(&failure, "budget-exhausted");
    assert!(failure.hints.iter().any(|hint| hint.contains("limits.hostCalls")), "{:?}", failure.hints);
    bench.replace(&with(manifest("floods"), json!({"limits": {"hostCalls": 1001}})), "2.0.0", &asks(1001)).await;
    assert_eq!(bench.run("floods", "{}").await.unwrap(), "null");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_are_counted() {
    let bench = Bench::with_witness().await;
    // A thousand handles per byte of parameters; how many there may be is fixed.
    let keeps = |make: &str| {
        format!(
            "(local.set $k (i32.mul (local.get $params_len) (i32.const 1000)))
             (loop $again {make} (br_if $again (local.tee $k (i32.sub (local.get $k) (i32.const 1))))) {NULL}"
        )
    };
    let make = "(call $blobs.writer.new (global.get $null) (global.get $null_len))";
    let gives_back = keeps(&format!("(call $blobs.writer.drop {make})"));
    bench.install(&busy(manifest("tidy")), &Guest::method("import blobs;", &gives_back).build().unwrap()).await;
    assert_eq!(while_serving(&bench, "tidy", &"1".repeat(20)).await.unwrap(), "null");
    let ours = ("hoards", "import blobs;", keeps(&format!("(drop {make})")));
    let standard = ("standard", "import wasi:http/types@0.2.12;", keeps("(drop (call $types.fields.new))"));
    for (id, imports, body) in [ours, standard] {
        let rights = json!({"http": ["https://example.com"]});
        bench.install(&busy(asking(id, rights)), &Guest::method(imports, &body).build().unwrap()).await;
        for _ in 0..2 {
            assert_eq!(while_serving(&bench, id, "1111").await.unwrap(), "null");
            let failure = while_serving(&bench, id, "11111").await.unwrap_err();
            assert_told(&failure, "budget-exhausted", "smaller pieces");
            assert!(failure.message.contains("4096 open resource handles"), "{failure}");
        }
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
    for (mebibytes, bytes) in [(2, "2097152"), (3, "3145728"), (200, "67108864")] {
        let id = format!("parks-{mebibytes}");
        let limits = json!({"limits": {"memoryMib": mebibytes, "hostCalls": 1_000_000}});
        bench.install(&with(manifest(&id), limits), &wasm).await;
        let failure = bench.run(&id, "{}").await.unwrap_err();
        assert_told(&failure, "too-large", "limits.memoryMib");
        assert!(failure.message.contains(bytes), "{failure}");
    }
    // What is dropped makes room again: twice as much as it may hold at once.
    let tidy = "(local.set $k (i32.const 40))
        (loop $again
            (local.set $i (call $blobs.writer.new (global.get $null) (global.get $null_len)))
            (call $blobs.writer.write (local.get $i) (i32.const 16) (i32.const 100000) (local.tee $area (call $room)))
            (if (i32.load8_u (local.get $area)) (then (return (local.get $area))))
            (call $blobs.writer.drop (local.get $i))
            (br_if $again (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))";
    let tidy = Guest::method("import blobs;", &format!("{tidy} {NULL}")).build().unwrap();
    bench.install(&with(manifest("tidy"), json!({"limits": {"memoryMib": 2}})), &tidy).await;
    assert_eq!(bench.run("tidy", "{}").await.unwrap(), "null");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_standard_http_are_counted_and_not_there_without_a_right() {
    let bench = Bench::with_witness().await;
    // Makes and drops: never more than one handle.
    let asks = |count| {
        let body = repeat(count, "(call $types.fields.drop (call $types.fields.new))") + NULL;
        Guest::method("import wasi:http/types@0.2.12;", &body).build().unwrap()
    };
    let rights = json!({"http": ["https://example.com"]});
    bench.install(&asking("asks", rights.clone()), &asks(500)).await;
    for _ in 0..3 {
        assert_eq!(bench.run("asks", "{}").await.unwrap(), "null", "every call starts at zero");
    }
    bench.install(&asking("floods", rights), &asks(502)).await;
    let failure = while_serving(&bench, "floods", "{}").await.unwrap_err();
    assert_failed(&failure, "budget-exhausted");
    assert!(failure.hints.iter().any(|hint| hint.contains("limits.hostCalls")), "{:?}", failure.hints);
    let mute = bench.try_install(&manifest("mute"), &asks(1)).await;
    assert_ne!(mute.state, PluginState::Ready, "{mute:?}");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_handle_keeps_in_the_host_is_bounded() {
    let bench = Bench::with_witness().await;
    // Each gives what the last call answered: 0 for good, 1 for a refusal.
    let request = "(local.set $i (call $types.outgoing-request.new (call $types.fields.new)))";
    let answer = "(call $number (local.get $j))";
    let cases = [
        (
            "method",
            "(local.set $j (call $types.outgoing-request.set-method (local.get $i) (i32.const 9) (global.get $text) (global.get $text_len)))",
            64,
        ),
        (
            "host",
            "(local.set $j (call $types.outgoing-request.set-authority (local.get $i) (i32.const 1) (global.get $text) (global.get $text_len)))",
            512,
        ),
        (
            "path",
            "(local.set $j (call $types.outgoing-request.set-path-with-query (local.get $i) (i32.const 1) (global.get $text) (global.get $text_len)))",
            8192,
        ),
        (
            "fields",
            "(call $types.fields.append (call $types.fields.new) (global.get $null) (global.get $null_len)
            (global.get $text) (global.get $text_len) (local.tee $area (call $room)))
            (local.set $j (i32.load8_u (local.get $area)))",
            16_000,
        ),
    ];
    for (id, call, most) in cases {
        for (length, expected) in [(most, "0"), (most + 500, "1")] {
            let text = format!("/{}", "a".repeat(length - 1));
            let text = if id == "path" { text } else { text.replace('/', "a") };
            let guest = Guest::method("import wasi:http/types@0.2.12;", &[request, call, answer].concat());
            let id = format!("{id}-{expected}");
            let rights = json!({"http": ["https://example.com"]});
            bench.install(&asking(&id, rights), &guest.text("text", &text).build().unwrap()).await;
            let answer = bench.run(&id, "{}").await;
            // Fields that are too large end the call, by the word of the standard.
            let refused = answer.as_ref().err().is_some_and(|failure| failure.message.contains("total size of fields"));
            assert!(answer.as_deref() == Ok(expected) || (refused && expected == "1"), "{id} of {length}: {answer:?}");
        }
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_type_is_bounded_and_its_refusal_is_told() {
    let bench = Bench::with_witness().await;
    let told = "(if (i32.load8_u (local.get $area)) (then (return (local.get $area))))";
    let new = "(local.set $i (call $blobs.writer.new (global.get $text) (global.get $text_len)))";
    let writes = "(call $blobs.writer.write (local.get $i) (global.get $null) (global.get $null_len) (local.tee $area (call $room)))";
    let finishes = "(call $blobs.writer.finish (local.get $i) (local.tee $area (call $room)))";
    for (number, use_it) in [writes, finishes].into_iter().enumerate() {
        for (length, expected) in [(256, Ok("null".to_owned())), (257, Err("too-large".to_owned()))] {
            let id = format!("m{number}-{length}");
            let guest = Guest::method("import blobs;", &[new, use_it, told, NULL].concat());
            bench.install(&manifest(&id), &guest.text("text", &"t".repeat(length)).build().unwrap()).await;
            let result = bench.run(&id, "{}").await.map_err(|failure| failure.code);
            assert_eq!(result, expected, "{id}");
        }
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_types_count_among_what_is_parked() {
    let bench = Bench::with_witness().await;
    // 4000 writers of 256 bytes fill a good part of the room; what the guest then writes has to fit beside them.
    let hoard = repeat(4000, "(drop (call $blobs.writer.new (global.get $text) (global.get $text_len)))");
    let body = format!(
        "{hoard} (local.set $i (call $blobs.writer.new (global.get $null) (global.get $null_len)))
         (call $blobs.writer.write (local.get $i) (i32.const 16) (i32.const 1200000) (local.tee $area (call $room)))
         (if (i32.load8_u (local.get $area)) (then (return (local.get $area)))) {NULL}"
    );
    let grow = "(drop (memory.grow (i32.const 20)))";
    let wasm = Guest::method("import blobs;", &[grow, &body].concat()).text("text", &"t".repeat(256)).build().unwrap();
    for (id, mib, expected) in [("tight", 2, Err("too-large".to_owned())), ("roomy", 4, Ok("null".to_owned()))] {
        let limits = json!({"limits": {"memoryMib": mib, "hostCalls": 1_000_000}});
        bench.install(&with(manifest(id), limits), &wasm).await;
        assert_eq!(bench.run(id, "{}").await.map_err(|failure| failure.code), expected, "{id}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_handed_on_no_longer_counts() {
    let bench = Bench::with_witness().await;
    // The context has the first handle of a call, the blob the second.
    let message = json!({"id": "m", "sender": {"id": "s"}, "place": {"id": "p", "kind": "direct"},
        "parts": [{"kind": "file", "blob": 2}]});
    let blob = "(local.set $i (call $blobs.writer.new (global.get $null) (global.get $null_len)))
        (call $blobs.writer.write (local.get $i) (i32.const 16) (i32.const 600000) (local.tee $area (call $room)))
        (if (i32.load8_u (local.get $area)) (then (return (local.get $area))))
        (call $blobs.writer.finish (local.get $i) (local.tee $area (call $room)))";
    let submits = "(call $inbox.submit (global.get $message) (local.tee $area (call $room)))
        (if (i32.load8_u (local.get $area)) (then (return (local.get $area))))";
    let grow = "(drop (memory.grow (i32.const 10)))";
    let body = [grow, &repeat(8, &[blob, submits].concat()), NULL].concat();
    let guest = Guest::method("import blobs; import inbox;", &body).arguments("message", "inbox.submit", vec![message]);
    let small = with(asking("sends", json!({"inbox": true})), json!({"limits": {"memoryMib": 2}}));
    bench.install(&small, &guest.build().unwrap()).await;
    assert_eq!(bench.run("sends", "{}").await.unwrap(), "null");
    assert_eq!(bench.memory.inbox.lock().unwrap().len(), 8);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_come_in_count_until_they_are_dropped() {
    let bench = Bench::with_witness().await;
    let server = Server::body(&"7".repeat(600_000)).await;
    let fetch = &[guests::FETCH, "(if (i32.load8_u (local.get $area)) (then (return (local.get $area))))"].concat();
    let drops = "(call $blobs.blob.drop (i32.load offset=20 (local.get $area)))";
    let guest = |steps: &[&str]| {
        let guest = guests::fetch(&[]).text("url", &server.url("/"));
        guest.run("method.invoke", &[&repeat(5, &steps.concat()), NULL].concat()).build().unwrap()
    };
    let small = |id| with(asking(id, json!({"privateHttp": [server.origin()]})), json!({"limits": {"memoryMib": 2}}));
    bench.install(&small("hoards"), &guest(&[fetch])).await;
    assert_eq!(bench.run("hoards", "{}").await.unwrap_err().code, "too-large");
    bench.install(&small("tidy"), &guest(&[fetch, drops])).await;
    assert_eq!(bench.run("tidy", "{}").await.unwrap(), "null");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_opens_no_descriptor_of_the_host() {
    let bench = Bench::with_witness().await;
    // A good answer has its case in the first byte: 0 would be a socket.
    let create = "(call $tcp-create-socket.create-tcp-socket (i32.const 0) (local.tee $area (call $room)))
        (call $udp-create-socket.create-udp-socket (i32.const 0) (local.tee $i (call $room)))
        (call $number (i32.add (i32.load8_u (local.get $area)) (i32.load8_u (local.get $i))))";
    let imports = "import wasi:sockets/tcp-create-socket@0.2.12; import wasi:sockets/udp-create-socket@0.2.12;";
    bench.install(&manifest("opens"), &Guest::method(imports, create).build().unwrap()).await;
    assert_eq!(bench.run("opens", "{}").await.unwrap(), "2", "both are refused");
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
    assert_eq!(while_serving(&bench, "writes", "{}").await.unwrap(), "null");

    // 245 writes of 4096 empty lines each.
    let print = "(call $streams.output-stream.blocking-write-and-flush
        (local.get $i) (global.get $blank) (global.get $blank_len) (call $room))";
    let body = format!("(local.set $i (call $stdout.get-stdout)) {} {NULL}", repeat(245, print));
    let imports = "import wasi:cli/stdout@0.2.12; import wasi:io/streams@0.2.12;";
    let guest = Guest::method(imports, &body).text("blank", &"\n".repeat(4096));
    bench.install(&busy(manifest("prints")), &guest.build().unwrap()).await;
    assert_eq!(while_serving(&bench, "prints", "{}").await.unwrap(), "null");

    for id in ["writes", "prints"] {
        let lines = bench.lines(id);
        assert_eq!(lines.len(), RING_LINES, "{id}");
        let last = lines.last().unwrap();
        assert!(last.message.contains("log limit of this call reached"), "{id}: {last:?}");
        assert!(last.seq < 1100, "lines beyond the limit were written: {last:?}");
    }
    bench.close().await;
}

/// 111 lines per byte of parameters, of both kinds; a call may write 1000.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_stays_below_the_log_limit_loses_nothing() {
    let bench = Bench::with_witness().await;
    let line = "(call $log.write (global.get $info) (global.get $info_len) (global.get $text) (global.get $text_len)
        (i32.const 0) (i32.const 0))";
    let print = "(call $streams.output-stream.blocking-write-and-flush
        (local.get $i) (global.get $printed) (global.get $printed_len) (call $room))";
    let imports = "import log; import wasi:cli/stdout@0.2.12; import wasi:io/streams@0.2.12;";
    for (id, say, source) in [("writes", line, "log"), ("prints", print, "stdout")] {
        let body = format!(
            "(local.set $i (call $stdout.get-stdout))
             (local.set $k (i32.mul (local.get $params_len) (i32.const 111)))
             (loop $again {say} (br_if $again (local.tee $k (i32.sub (local.get $k) (i32.const 1))))) {NULL}"
        );
        let guest = Guest::method(imports, &body).text("info", "info").text("text", "line").text("printed", "line\n");
        bench.install(&busy(manifest(id)), &guest.build().unwrap()).await;
        assert_eq!(bench.run(id, "111111111").await.unwrap(), "null");
        let lines = bench.lines(id);
        assert_eq!(lines.iter().filter(|kept| kept.source == source && kept.message == "line").count(), 999, "{id}");
        assert!(!lines.iter().any(|line| line.message.contains("log limit")), "{id}");
        assert_eq!(bench.run(id, "1111111111").await.unwrap(), "null");
        bench.until_line(id, "log limit of this call reached").await;
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
    assert_eq!(while_serving(&bench, "emits", "{}").await.unwrap(), "null");
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
    bench.install(&slow, &guests::fetch(&[]).build().unwrap()).await;
    for _ in 0..2 {
        assert_eq!(bench.fetch("asks", &server.url("/")).await.unwrap(), "7");
    }
    let failure = bench.fetch("asks", &server.url("/")).await.unwrap_err();
    assert_told(&failure, "rate-limited", "limits.httpRequestsPerMinute");
    assert!(failure.retryable);
    assert!(failure.retry_after_ms.is_some_and(|wait| wait > 0), "{failure:?}");
    assert_eq!(server.requests().len(), 2);
    let fast = with(slow, json!({"limits": {"httpRequestsPerMinute": 3}}));
    bench.replace(&fast, "2.0.0", &guests::fetch(&[]).build().unwrap()).await;
    // A new version does not begin a new minute.
    assert_eq!(bench.fetch("asks", &server.url("/")).await.unwrap(), "7");
    assert_told(&bench.fetch("asks", &server.url("/")).await.unwrap_err(), "rate-limited", "httpRequestsPerMinute");
    bench.close().await;
}
