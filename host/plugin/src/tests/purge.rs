//! Taking away what is kept of a plugin while it still runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leanclaw_test_guests as guests;
use leanclaw_types::{Failure, PluginId};
use serde_json::json;

use super::servers::Gate;
use super::support::{Bench, asking, assert_failed, caller, context, with};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_before_what_runs_of_the_plugin_has_ended() {
    let bench = Bench::with_witness().await;
    let waits: PluginId = "waits".parse().unwrap();
    for lifecycle in ["per-call", "resident"] {
        let gate = Gate::start("7").await;
        let asks = asking("waits", json!({"privateHttp": [gate.server.origin()]}));
        bench.install(&with(asks, json!({ "lifecycle": lifecycle })), &guests::fetch(&[]).build().unwrap()).await;
        let url = json!(gate.server.url("/")).to_string();
        let plugins = bench.plugins.clone();
        let call = tokio::spawn(async move { plugins.call_method("waits.run", &url, context()).await });
        gate.arrived().await;

        let deleted = Arc::new(AtomicBool::new(false));
        let delete = || {
            let (plugins, waits, deleted) = (bench.plugins.clone(), waits.clone(), Arc::clone(&deleted));
            async move |remains: crate::Remains| {
                let units = plugins.inner.loader.units(&waits);
                assert!(!units.is_empty() && units.iter().all(|(_, unit)| unit.strong_count() == 0));
                assert!(plugins.list().iter().all(|info| info.id != waits));
                assert_eq!((remains.accounts.len(), remains.by.as_str()), (1, "client:test"));
                assert!(remains.memo.iter().any(|key| key == "home:waits"), "{:?}", remains.memo);
                assert_eq!(remains.memo.len(), 3, "{:?}", remains.memo);
                deleted.store(true, Ordering::SeqCst);
                Ok::<_, Failure>(())
            }
        };
        let refused = bench.plugins.purge(&caller(), &waits, delete()).await.unwrap_err();
        assert_failed(&refused, "conflict");
        assert!(!deleted.load(Ordering::SeqCst), "it is installed");

        std::fs::remove_dir_all(bench.folder.path().join("waits")).unwrap();
        let admin = caller();
        let (ended, purged) = tokio::join!(call, bench.plugins.purge(&admin, &waits, delete()));
        assert_failed(&ended.unwrap().unwrap_err(), "unavailable");
        purged.unwrap();
        assert!(deleted.load(Ordering::SeqCst), "{lifecycle}");
        assert!(bench.plugins.inner.loader.units(&waits).is_empty());
    }
    bench.close().await;
}
