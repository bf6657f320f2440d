//! What a guest says is there to be read while its call goes on.

use leanclaw_test_guests as guests;
use leanclaw_test_guests::Guest;
use serde_json::json;

use super::servers::Gate;
use super::support::{Bench, asking, context, manifest, with};

const IMPORTS: &str = "import log; import http; import blobs; import wasi:cli/stdout@0.2.12;
    import wasi:cli/stderr@0.2.12; import wasi:io/streams@0.2.12;";

/// Writes a text of the guest to `stdout` or `stderr`.
fn print(to: &str, text: &str) -> String {
    format!(
        "(call $streams.output-stream.blocking-write-and-flush (call ${to}.get-{to})
            (global.get ${text}) (global.get ${text}_len) (call $room))"
    )
}

fn texts(guest: Guest) -> Guest {
    guest
        .text("info", "info")
        .text("first", "asking the server")
        .text("whole", "line one\nline two\npart of ")
        .text("rest", "line three\n")
        .text("open", "waiting ...")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_is_read_meanwhile_also_where_its_line_is_open() {
    let bench = Bench::with_witness().await;
    let gate = Gate::start("7").await;
    let body = format!(
        "(call $log.write (global.get $info) (global.get $info_len) (global.get $first) (global.get $first_len)
            (i32.const 0) (i32.const 0))
         {} {} {}
         (call $http.send (global.get $get) (global.get $get_len)
            (i32.add (local.get $params) (i32.const 1)) (i32.sub (local.get $params_len) (i32.const 2))
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (call $room))
         {}
         (call $ok (global.get $null) (global.get $null_len))",
        print("stdout", "whole"),
        print("stdout", "rest"),
        print("stderr", "open"),
        print("stderr", "rest"),
    );
    let wasm = texts(Guest::method(IMPORTS, &body)).text("get", "GET").build().unwrap();
    for lifecycle in ["per-call", "resident"] {
        let rights = asking(lifecycle, json!({"privateHttp": [gate.server.origin()]}));
        bench.install(&with(rights, json!({ "lifecycle": lifecycle })), &wasm).await;
        let (plugins, url) = (bench.plugins.clone(), json!(gate.server.url("/")).to_string());
        let call = tokio::spawn(async move { plugins.call_method(&format!("{lifecycle}.run"), &url, context()).await });
        gate.arrived().await;
        bench.until_line(lifecycle, "waiting ...").await;
        let said = |bench: &Bench| -> Vec<(String, String)> {
            bench.lines(lifecycle).into_iter().map(|line| (line.source, line.message)).collect()
        };
        let line = |source: &str, text: &str| (source.to_owned(), text.to_owned());
        let meanwhile = [
            line("log", "asking the server"),
            line("stdout", "line one"),
            line("stdout", "line two"),
            line("stdout", "part of line three"),
            line("stderr", "waiting ..."),
        ];
        assert_eq!(said(&bench), meanwhile, "a line that was completed is one");
        assert!(!call.is_finished());
        bench.still_serving().await;
        gate.open(1);
        assert_eq!(call.await.unwrap().unwrap(), "null");
        let after = said(&bench);
        assert_eq!(after[..5], meanwhile);
        assert_eq!(after[5..], [line("stderr", "line three")], "what follows a line that was shown is a line");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_that_computes_for_ever_is_read_meanwhile() {
    let bench = Bench::with_witness().await;
    let body = format!("{} (loop $for_ever (br $for_ever)) unreachable", print("stdout", "open"));
    let wasm = texts(Guest::method(IMPORTS, &body)).build().unwrap();
    bench.install(&with(manifest("spins"), json!({"limits": {"callTimeoutMs": 300_000}})), &wasm).await;
    bench
        .serves_others_during("spins", "{}", async || {
            let line = bench.until_line("spins", "waiting ...").await;
            assert_eq!(line.source, "stdout");
        })
        .await;
    bench.close().await;
}

/// A call that ends says all it has said, once.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_line_ends_with_its_call() {
    let bench = Bench::with_witness().await;
    let says = |end: &str| {
        let body = format!("{} {end}", print("stderr", "open"));
        texts(Guest::method(IMPORTS, &body)).build().unwrap()
    };
    bench.install(&manifest("returns"), &says("(call $ok (global.get $null) (global.get $null_len))")).await;
    assert_eq!(bench.run("returns", "{}").await.unwrap(), "null");
    bench.install(&manifest("traps"), &says("unreachable")).await;
    bench.run("traps", "{}").await.unwrap_err();
    bench
        .install(
            &with(manifest("hangs"), json!({"limits": {"callTimeoutMs": 1}})),
            &says("(loop $l (br $l)) unreachable"),
        )
        .await;
    bench.run("hangs", "{}").await.unwrap_err();
    for id in ["returns", "traps", "hangs"] {
        let shown = bench.lines(id).iter().filter(|line| line.message == "waiting ...").count();
        assert_eq!(shown, 1, "{id}");
    }
    bench.install(&manifest("echo"), &guests::echo().unwrap()).await;
    assert!(bench.lines("echo").is_empty());
    bench.close().await;
}

/// As [`print`], in numbers; `count` is what the guest claims.
fn print_in_numbers(to: u8, count: usize, text: &str) -> String {
    let mut numbers = [0_u64; 8];
    for (number, bytes) in numbers.iter_mut().zip(text.as_bytes().chunks(8)) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        *number = u64::from_le_bytes(word);
    }
    let numbers: String = numbers.iter().map(|number| format!("(i64.const {number})")).collect();
    format!("(call $log.print (i32.const {to}) (i32.const {count}) {numbers})")
}

/// The way of guests that have no WASI output: the same lines, put together in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_in_numbers_is_lines_too() {
    let bench = Bench::with_witness().await;
    let whole = "a".repeat(64);
    let body = [
        print_in_numbers(0, 12, "line one\nlin"),
        print_in_numbers(1, 5, "wrong"),
        print_in_numbers(0, 6, "e two\n, and not this"),
        print_in_numbers(0, 64, &whole),
        // More than there can be is all there is.
        print_in_numbers(0, 255, &format!("{}\n", "b".repeat(63))),
        // Far more often than a call may ask anything of the host: whoever prints says little at a time.
        format!(
            "(local.set $params_len (i32.const 5000))
             (loop $again
                {}
                (local.set $params_len (i32.sub (local.get $params_len) (i32.const 1)))
                (br_if $again (local.get $params_len)))",
            print_in_numbers(1, 0, "nothing"),
        ),
        "(call $ok (global.get $null) (global.get $null_len))".to_owned(),
    ]
    .concat();
    bench.install(&manifest("prints"), &texts(Guest::method("import log;", &body)).build().unwrap()).await;
    assert_eq!(bench.run("prints", "{}").await.unwrap(), "null");
    let said: Vec<(String, String)> =
        bench.lines("prints").into_iter().map(|line| (line.source, line.message)).collect();
    let line = |source: &str, text: &str| (source.to_owned(), text.to_owned());
    let long = format!("{whole}{}", "b".repeat(63));
    assert_eq!(
        said,
        [line("stdout", "line one"), line("stdout", "line two"), line("stdout", &long), line("stderr", "wrong")]
    );
    bench.close().await;
}
