//! Whatever guests do, the host is afterwards what it was: no descriptor, no task, no instance more.

use leanclaw_test_guests as guests;
use leanclaw_test_guests::Guest;
use serde_json::{Value, json};

use crate::tests::servers::Server;
use crate::tests::support::{Bench, asking, context, is_alone, manifest, with};

const NAME: &str = "tests::hostile::leaks::hundreds_of_hostile_calls_leave_no_descriptor_and_no_task";

/// Descriptors are the process's, and other tests open theirs: this one runs again in a process of its own.
#[test]
fn hundreds_of_hostile_calls_leave_no_descriptor_and_no_task() {
    if !is_alone(NAME) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure());
}

/// The hostile plugins by id, with what each is called with.
async fn install_all(bench: &Bench, drip: &Server, broken: &Server, closed: &str) -> Vec<(String, String)> {
    let fetch = guests::fetch(&[]).build().unwrap();
    let reach = |id: &str, origin: &str| asking(id, json!({"privateHttp": [origin]}));
    let hasty = |base: Value| with(base, json!({"limits": {"callTimeoutMs": 20, "httpRequestsPerMinute": 6000}}));
    let eager = |base: Value| with(base, json!({"limits": {"httpRequestsPerMinute": 6000}}));
    let handles = "(local.set $k (i32.const 11000)) (loop $again
        (drop (call $blobs.writer.new (global.get $null) (global.get $null_len)))
        (br_if $again (local.tee $k (i32.sub (local.get $k) (i32.const 1))))) unreachable";
    let print = "(call $streams.output-stream.blocking-write-and-flush (call $stdout.get-stdout)
        (global.get $null) (global.get $null_len) (call $room)) unreachable";
    let streams = "import wasi:cli/stdout@0.2.12; import wasi:io/streams@0.2.12;";
    let standard = guests::wasi_fetch(&drip.address().to_string(), "/").build().unwrap();
    let many: Vec<(Value, Vec<u8>, String)> = vec![
        (manifest("traps"), guests::method("unreachable").unwrap(), "{}".into()),
        (hasty(manifest("spins")), guests::method("(loop $l (br $l)) unreachable").unwrap(), "{}".into()),
        (
            with(manifest("handles"), json!({"limits": {"hostCalls": 1_000_000}})),
            Guest::method("import blobs;", handles).build().unwrap(),
            "{}".into(),
        ),
        (manifest("prints"), Guest::method(streams, print).build().unwrap(), "{}".into()),
        (hasty(reach("drips", &drip.origin())), fetch.clone(), json!(drip.url("/")).to_string()),
        (hasty(reach("drips-standard", &drip.origin())), standard, "{}".into()),
        (eager(reach("broken", &broken.origin())), fetch.clone(), json!(broken.url("/")).to_string()),
        (eager(reach("refused", closed)), fetch.clone(), json!(closed).to_string()),
        (eager(reach("denied", &drip.origin())), fetch, json!(broken.url("/")).to_string()),
    ];
    let mut calls = Vec::new();
    for (manifest, wasm, params) in many {
        bench.install(&manifest, &wasm).await;
        calls.push((manifest["id"].as_str().unwrap().to_owned(), params));
    }
    calls
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// One round: every plugin fails once, alone and beside the others, and one call is given up while it runs.
async fn round(bench: &Bench, calls: &[(String, String)]) {
    let all = calls.iter().map(|(id, params)| bench.run(id, params));
    for (answer, (id, _)) in futures_util::future::join_all(all).await.into_iter().zip(calls) {
        // The time of a request ends with that of its call. A guest that hears of it first may still say so: 300, cut off.
        let is_cut_off = id == "drips-standard" && matches!(&answer, Ok(text) if text == "300");
        assert!(answer.is_err() || is_cut_off, "{id} answered {answer:?}");
    }
    let (plugins, url) = (bench.plugins.clone(), calls[4].1.clone());
    let given_up = tokio::spawn(async move { plugins.call_method("drips.run", &url, context()).await });
    tokio::task::yield_now().await;
    given_up.abort();
    let _ = given_up.await;
}

async fn measure() {
    let bench = Bench::with_witness().await;
    let (drip, _closed) = Server::drip().await;
    let broken = Server::fixed("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort").await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let calls = install_all(&bench, &drip, &broken, closed.trim_end_matches('/')).await;
    // The first rounds open what stays open: the runtime's own, and what is kept per host.
    for _ in 0..3 {
        round(&bench, &calls).await;
    }
    bench.no_instance_is_left().await;
    let settled = || (tasks(), descriptors());
    let before = quiet(settled).await;
    for _ in 0..40 {
        round(&bench, &calls).await;
    }
    bench.no_instance_is_left().await;
    bench
        .wait("a descriptor or a task stays", || {
            let after = settled();
            (after.0 <= before.0 && after.1 <= before.1).then_some(())
        })
        .await;
    bench.close().await;
}

/// What `look` gives once it gives the same for a while.
async fn quiet<T: PartialEq>(look: impl Fn() -> T) -> T {
    let mut last = look();
    let mut same = 0;
    while same < 20 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let now = look();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}
