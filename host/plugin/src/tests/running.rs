//! What a call may say and learn while it runs, what it leaves in the log, and what it waits for before it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use leanclaw_test_guests::{self as guests, Guest};
use leanclaw_types::Failure;
use leanclaw_wasm::EngineSettings;
use serde_json::json;
use tokio::task::JoinHandle;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::servers::Gate;
use super::support::{Bench, asking, assert_failed, context, is_alone, manifest, poll_once, settings, with};

/// Fetches what its parameter names, then says whether its answer is still wanted: 0, or 1 and a line in its log.
fn looks_up_after_a_wait() -> Vec<u8> {
    Guest::method(
        "import http; import blobs; import log;",
        "(call $http.send (global.get $get) (global.get $get_len)
            (i32.add (local.get $params) (i32.const 1)) (i32.sub (local.get $params_len) (i32.const 2))
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (call $room))
         (local.set $i (call $call.context.cancelled (local.get $context)))
         (if (local.get $i) (then (call $log.write (global.get $gone) (global.get $gone_len)
            (global.get $gone) (global.get $gone_len) (i32.const 0) (i32.const 0))))
         (call $number (local.get $i))",
    )
    .text("get", "GET")
    .text("gone", "nobody waits")
    .build()
    .unwrap()
}

async fn install_waiting(bench: &Bench, gate: &Gate, id: &str, lifecycle: &str) -> String {
    let asks = asking(id, json!({"privateHttp": [gate.server.origin()]}));
    bench.install(&with(asks, json!({"lifecycle": lifecycle})), &looks_up_after_a_wait()).await;
    json!(gate.server.url("/")).to_string()
}

/// A call on a task of its own.
fn calling(bench: &Bench, id: &str, url: &str) -> JoinHandle<Result<String, Failure>> {
    let (plugins, name, url) = (bench.plugins.clone(), format!("{id}.run"), url.to_owned());
    tokio::spawn(async move { plugins.call_method(&name, &url, context()).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_is_told_when_its_caller_goes() {
    let bench = Bench::with_witness().await;
    let gate = Gate::start("7").await;
    let url = install_waiting(&bench, &gate, "stays", "resident").await;
    let mut call = Box::pin(bench.plugins.call_method("stays.run", &url, context()));
    assert!(poll_once(&mut call).await.is_pending());
    gate.arrived().await;
    drop(call);
    gate.open(1);
    bench.until_line("stays", "nobody waits").await;
    gate.open(1);
    assert_eq!(bench.run("stays", &url).await.unwrap(), "0", "the next caller is there");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_told_that_its_plugin_was_removed_and_not_that_it_was_replaced() {
    for lifecycle in ["per-call", "resident"] {
        let bench = Bench::with_witness().await;
        let gate = Gate::start("7").await;
        let url = install_waiting(&bench, &gate, "waits", lifecycle).await;
        let call = calling(&bench, "waits", &url);
        gate.arrived().await;
        bench.install(&manifest("waits"), &guests::answers("2").unwrap()).await;
        gate.open(1);
        assert_eq!(call.await.unwrap().unwrap(), "0", "{lifecycle}: replaced");

        let url = install_waiting(&bench, &gate, "goes", lifecycle).await;
        let call = calling(&bench, "goes", &url);
        gate.arrived().await;
        std::fs::remove_dir_all(bench.folder.path().join("goes")).unwrap();
        bench.wait("it stays", || bench.plugins.inspect(&"goes".parse().unwrap()).is_err().then_some(())).await;
        gate.open(1);
        assert_eq!(call.await.unwrap().unwrap(), "1", "{lifecycle}: removed");
        bench.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_told_that_the_program_ends() {
    let bench = Bench::with_witness().await;
    let gate = Gate::start("7").await;
    let url = install_waiting(&bench, &gate, "waits", "per-call").await;
    let call = calling(&bench, "waits", &url);
    gate.arrived().await;
    bench.plugins.announce_end();
    gate.open(1);
    assert_eq!(call.await.unwrap().unwrap(), "1");
    bench.close().await;
}

/// Reports progress and a piece of text, then emits that piece until it is refused when its parameter is longer than `{}`.
fn reports() -> Vec<u8> {
    Guest::method(
        "",
        "(call $call.context.progress (local.get $context) (i64.const 3) (i32.const 1) (i64.const 10)
            (i32.const 1) (global.get $piece) (global.get $piece_len))
         (call $call.context.emit-text (local.get $context) (global.get $piece) (global.get $piece_len)
            (local.tee $area (call $room)))
         (if (i32.load8_u (local.get $area)) (then (return (local.get $area))))
         (if (i32.gt_u (local.get $params_len) (i32.const 2)) (then
            (loop $again
                (call $call.context.emit-text (local.get $context) (global.get $piece) (global.get $piece_len)
                    (local.get $area))
                (br_if $again (i32.eqz (i32.load8_u (local.get $area)))))
            (return (local.get $area))))
         (call $ok (global.get $null) (global.get $null_len))",
    )
    .text("piece", "a \u{1b}piece")
    .build()
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_reports_is_in_the_log() {
    let bench = Bench::with_witness().await;
    bench.install(&with(manifest("says"), json!({"limits": {"hostCalls": 5000}})), &reports()).await;
    assert_eq!(bench.run("says", "{}").await.unwrap(), "null");
    let lines = bench.lines("says");
    let said: Vec<_> = lines.iter().map(|line| (line.source.as_str(), line.message.as_str())).collect();
    assert_eq!(said, [("progress", "3 of 10 a \\u{1b}piece"), ("text", "a \\u{1b}piece")]);
    for line in &lines {
        assert!(line.level == "debug" && line.call_id.starts_with("call-"), "{line:?}");
    }
    let failure = bench.run("says", "[1,2]").await.unwrap_err();
    assert_eq!(failure.code, "budget-exhausted", "{failure:?}");
    bench.until_line("says", "log limit of this call reached").await;
    bench.plugins.announce_end();
    assert_eq!(bench.run("says", "{}").await.unwrap_err().code, "cancelled");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_instance_waits_no_longer_than_for_a_call() {
    let one = EngineSettings { max_instances: 1, ..settings() };
    let bench = Bench::over(Arc::default(), Arc::new(tempfile::tempdir().unwrap()), one).await;
    bench.install(&with(manifest("holds"), json!({"lifecycle": "resident"})), &guests::answers("1").unwrap()).await;
    let quick = json!({"limits": {"callTimeoutMs": 250}});
    bench.install(&with(manifest("waits"), quick.clone()), &guests::answers("2").unwrap()).await;
    let resident = with(with(manifest("queues"), quick), json!({"lifecycle": "resident"}));
    bench.install(&resident, &guests::answers("3").unwrap()).await;
    assert_eq!(bench.run("holds", "{}").await.unwrap(), "1");
    for id in ["waits", "queues"] {
        let failure = bench.run(id, "{}").await.unwrap_err();
        assert_failed(&failure, "unavailable");
        assert!(failure.hints[0].contains("LEANCLAW_MAX_INSTANCES") && failure.retryable, "{failure:?}");
        assert_eq!(bench.audited("plugin-trap", id), 0, "that is no fault of the plugin");
    }
    assert_eq!(bench.run("holds", "{}").await.unwrap(), "1");
    std::fs::remove_dir_all(bench.folder.path().join("holds")).unwrap();
    bench.wait("nothing is free", || (bench.wasm.free_instances() == 1).then_some(())).await;
    assert_eq!(bench.run("waits", "{}").await.unwrap(), "2");
}

/// The fields of every guest call's span, as they stand when it ends.
#[derive(Clone)]
struct Spans {
    most: Level,
    made: Arc<Mutex<Vec<BTreeMap<String, String>>>>,
}

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most && metadata.name() == "guest_call"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = BTreeMap::from([("target".to_owned(), span.metadata().target().to_owned())]);
        span.record(&mut Fields(&mut fields));
        let mut made = self.made.lock().unwrap();
        made.push(fields);
        Id::from_u64(u64::try_from(made.len()).unwrap())
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let at = usize::try_from(span.into_u64()).unwrap() - 1;
        values.record(&mut Fields(&mut self.made.lock().unwrap()[at]));
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn event(&self, _event: &Event<'_>) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

/// The spans of one good, one failed and one trapping call, when lines up to this level are shown.
async fn spans(most: Level) -> Vec<BTreeMap<String, String>> {
    let spans = Spans { most, made: Arc::default() };
    let bench = Bench::new().await;
    let _shown = tracing::subscriber::set_default(spans.clone());
    let failure = json!({"err": {"code": "denied", "message": "no"}});
    let fails = Guest::new("export method;").methods().answer("method.invoke", failure).build().unwrap();
    bench.install(&manifest("good"), &guests::answers("1").unwrap()).await;
    bench.install(&with(manifest("fails"), json!({"lifecycle": "resident"})), &fails).await;
    bench.install(&manifest("traps"), &guests::method("unreachable").unwrap()).await;
    for id in ["good", "fails", "traps"] {
        let _ = bench.run(id, "{}").await;
    }
    let made = spans.made.lock().unwrap();
    made.iter().filter(|span| span["export"] == "method.invoke").cloned().collect()
}

const SPANS: &str = "tests::running::a_guest_call_is_a_span_with_its_outcome_where_spans_are_shown";

/// Who listens in a test listens to its thread; whether anybody does is kept per process, so it has one of its own.
#[test]
fn a_guest_call_is_a_span_with_its_outcome_where_spans_are_shown() {
    if !is_alone(SPANS) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let calls = runtime.block_on(spans(Level::DEBUG));
    let ended: Vec<_> = calls.iter().map(|span| (span["plugin"].as_str(), span["outcome"].as_str())).collect();
    assert_eq!(ended, [("good", "ok"), ("fails", "failure"), ("traps", "trap")]);
    for span in calls {
        assert_eq!(span["target"], crate::LOG_TARGET);
        assert!(span["call_id"].starts_with("call-"), "{span:?}");
        assert!(span["duration_us"].parse::<u64>().is_ok(), "{span:?}");
    }
    assert!(runtime.block_on(spans(Level::INFO)).is_empty());
}
