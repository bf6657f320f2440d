//! Taking away what is kept of a plugin while it still runs.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leanclaw_test_guests as guests;
use leanclaw_types::{Failure, PluginId};
use serde_json::json;

use super::servers::Gate;
use super::support::{Bench, asking, assert_failed, caller, context, manifest, settings, with};
use crate::Recycling;

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

/// The table knows what is loaded; the folder knows what is installed.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_of_a_plugin_that_lies_in_the_folder_and_is_in_no_table() {
    let (memory, folder) = (Arc::default(), Arc::new(tempfile::tempdir().unwrap()));
    let bench = Bench::not_started(memory, folder, settings(), Recycling::default());
    let purge = |id: &'static str| {
        let plugins = bench.plugins.clone();
        async move { plugins.purge(&caller(), &id.parse().unwrap(), async |_| Ok(())).await }
    };
    let echo = guests::echo().unwrap();
    bench.drop_in(&manifest("early"), &echo);
    assert_failed(&purge("early").await.unwrap_err(), "conflict");
    bench.start().await;
    std::fs::remove_dir_all(bench.folder.path().join("early")).unwrap();
    purge("early").await.unwrap();

    let set_mode = |name: &str, mode| {
        let path = bench.folder.path().join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    // Refused whatever it says, under a name that is not its id.
    bench.drop_in(&manifest("open"), &echo);
    set_mode("open", 0o777);
    std::fs::rename(bench.folder.path().join("open"), bench.folder.path().join("other")).unwrap();
    bench.until_refused("other").await;
    // Refused before anybody can tell whose it is.
    std::fs::create_dir(bench.folder.path().join("vague")).unwrap();
    std::fs::write(bench.folder.path().join("vague/leanclaw.plugin.json"), "{").unwrap();
    bench.until_refused("vague").await;
    for id in ["open", "vague"] {
        let failure = purge(id).await.unwrap_err();
        assert_failed(&failure, "conflict");
        assert!(failure.hints[0].contains(&format!("leanclaw plugin remove {id} --purge")), "{failure:?}");
    }
    purge("other").await.unwrap();
    std::fs::remove_dir_all(bench.folder.path().join("other")).unwrap();
    std::fs::remove_dir_all(bench.folder.path().join("vague")).unwrap();
    purge("open").await.unwrap();
    purge("vague").await.unwrap();

    set_mode("", 0o777);
    assert_failed(&purge("open").await.unwrap_err(), "unavailable");
    set_mode("", 0o700);
    purge("open").await.unwrap();
}
