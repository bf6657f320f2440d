//! Plugins that are replaced or removed while they serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use leanclaw_test_guests as guests;
use leanclaw_types::plugin::PluginState;
use serde_json::json;

use super::servers::Gate;
use super::support::{Bench, asking, caller, context, manifest, with};

const LIFECYCLES: [&str; 2] = ["per-call", "resident"];

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_outlives_its_plugin() {
    let bench = Bench::with_witness().await;
    for lifecycle in LIFECYCLES {
        let gate = Gate::start("7").await;
        let waits =
            with(asking("waits", json!({"privateHttp": [gate.server.origin()]})), json!({"lifecycle": lifecycle}));
        bench.install(&waits, &guests::fetch(&[]).build().unwrap()).await;
        let url = json!(gate.server.url("/")).to_string();
        let call = bench.plugins.call_method("waits.run", &url, context());
        let removal = async {
            gate.arrived().await;
            std::fs::remove_dir_all(bench.folder.path().join("waits")).unwrap();
            bench.wait("it stays", || bench.plugins.inspect(&"waits".parse().unwrap()).is_err().then_some(())).await;
            assert_eq!(bench.run("waits", &url).await.unwrap_err().code, "not-found");
            gate.open(1);
        };
        let (answer, ()) = tokio::join!(call, removal);
        assert_eq!(answer.unwrap(), "7", "{lifecycle}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_finish_in_the_version_they_began_in() {
    let bench = Bench::with_witness().await;
    for lifecycle in LIFECYCLES {
        let gate = Gate::start("1").await;
        let id = format!("waits-{lifecycle}");
        let one = with(asking(&id, json!({"privateHttp": [gate.server.origin()]})), json!({"lifecycle": lifecycle}));
        bench.install(&one, &guests::fetch(&[]).build().unwrap()).await;
        let url = json!(gate.server.url("/")).to_string();
        let name = format!("{id}.run");
        // The second waits for its turn behind the first in a resident instance.
        let calls = async {
            let call = || bench.plugins.call_method(&name, &url, context());
            tokio::join!(call(), call())
        };
        let swap = async {
            gate.arrived().await;
            bench.drop_in(&with(one.clone(), json!({"version": "2.0.0"})), &guests::answers("2").unwrap());
            bench.until(&id, |info| info.version == "2.0.0" && info.state == PluginState::Ready).await;
            assert_eq!(bench.run(&id, &url).await.unwrap(), "2");
            gate.open(2);
        };
        let ((first, second), ()) = tokio::join!(calls, swap);
        assert_eq!((first.unwrap(), second.unwrap()), ("1".to_owned(), "1".to_owned()), "{lifecycle}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_twenty_versions_pass() {
    let bench = Bench::with_witness().await;
    for lifecycle in LIFECYCLES {
        let shape = with(manifest("hot"), json!({"lifecycle": lifecycle}));
        bench.install(&shape, &guests::answers("0").unwrap()).await;
        let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (plugins, done, served) = (bench.plugins.clone(), Arc::clone(&done), Arc::clone(&served));
                tokio::spawn(async move {
                    let mut newest = 0_u32;
                    while !done.load(Ordering::Relaxed) {
                        let answer = plugins.call_method("hot.run", "{}", context()).await.unwrap();
                        let version: u32 = answer.parse().unwrap();
                        assert!(version >= newest, "back from {newest} to {version}");
                        newest = version;
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let place = bench.folder.path().join("hot");
        for version in 1..=20 {
            let before = served.load(Ordering::Relaxed);
            std::fs::write(place.join("next"), guests::answers(&version.to_string()).unwrap()).unwrap();
            std::fs::rename(place.join("next"), place.join("plugin.wasm")).unwrap();
            bench.plugins.reload(&caller(), Some(&"hot".parse().unwrap())).await.unwrap();
            assert_eq!(bench.run("hot", "{}").await.unwrap(), version.to_string());
            bench.wait("nobody is served", || (served.load(Ordering::Relaxed) > before).then_some(())).await;
        }
        done.store(true, Ordering::Relaxed);
        for one in callers {
            one.await.unwrap();
        }
        let stats = bench.inspect("hot").stats;
        assert_eq!((stats.failures, stats.traps, stats.timeouts, stats.restarts), (0, 0, 0, 0));
        std::fs::remove_dir_all(place).unwrap();
        bench.wait("it stays", || bench.plugins.inspect(&"hot".parse().unwrap()).is_err().then_some(())).await;
    }
    bench.close().await;
}

/// A version whose description is remembered from before is ready without having run; it has to be loaded all the same,
/// because its file may be replaced before its first call.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_never_called_survives_its_file() {
    let bench = Bench::with_witness().await;
    bench.install(&manifest("first"), &guests::answers("1").unwrap()).await;
    std::fs::remove_dir_all(bench.folder.path().join("first")).unwrap();
    bench.wait("it stays", || bench.plugins.inspect(&"first".parse().unwrap()).is_err().then_some(())).await;
    bench.install(&manifest("second"), &guests::answers("1").unwrap()).await;
    std::fs::write(bench.folder.path().join("second/plugin.wasm"), b"garbage").unwrap();
    bench.until("second", |info| info.reason.contains("the old one keeps running")).await;
    assert_eq!(bench.run("second", "{}").await.unwrap(), "1");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_among_good_ones_stops_nobody() {
    let bench = Bench::with_witness().await;
    bench.install(&manifest("hot"), &guests::answers("1").unwrap()).await;
    let place = bench.folder.path().join("hot");
    let grant = leanclaw_types::permission::GrantChange { all: true, items: vec![] };
    let bad =
        [b"garbage".to_vec(), Vec::new(), wat::parse_str("(module)").unwrap(), wat::parse_str("(component)").unwrap()];
    for bytes in bad {
        std::fs::write(place.join("plugin.wasm"), bytes).unwrap();
        bench.plugins.reload(&caller(), Some(&"hot".parse().unwrap())).await.unwrap();
        let info = bench.inspect("hot");
        assert_eq!(info.state, PluginState::Ready);
        assert!(info.reason.contains("the old one keeps running") && info.reason.contains("hint:"), "{}", info.reason);
        assert_eq!(bench.run("hot", "{}").await.unwrap(), "1");
        // The version that runs is loaded anew for a decision about its rights, although its file is gone.
        let info = bench.plugins.grant(&caller(), &"hot".parse().unwrap(), &grant).await.unwrap();
        assert_eq!(info.state, PluginState::Ready, "{}", info.reason);
        assert_eq!(bench.run("hot", "{}").await.unwrap(), "1");
    }
    std::fs::write(place.join("leanclaw.plugin.json"), "{").unwrap();
    bench.plugins.reload(&caller(), Some(&"hot".parse().unwrap())).await.unwrap();
    assert_eq!(bench.run("hot", "{}").await.unwrap(), "1");
    bench.drop_in(&with(manifest("hot"), json!({"version": "2.0.0"})), &guests::answers("2").unwrap());
    bench.until("hot", |info| info.version == "2.0.0" && info.reason.is_empty()).await;
    assert_eq!(bench.run("hot", "{}").await.unwrap(), "2");
    bench.close().await;
}
