//! A plugin folder that cannot be believed: it is not the same as an empty one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use leanclaw_test_guests as guests;
use leanclaw_types::plugin::PluginState;

use super::support::{Bench, manifest};
use crate::package::broken_disk;

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_is_not_empty_and_one_that_is_not_there_is() {
    let place = tempfile::tempdir().unwrap();
    assert!(crate::folder::look(&place.path().join("none")).await.unwrap().is_empty());
    let file = place.path().join("file");
    std::fs::write(&file, "").unwrap();
    let reason = crate::folder::look(&file).await.unwrap_err();
    assert!(reason.contains("cannot be read") && reason.contains("hint:"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_loaded_from_a_folder_that_others_may_write_to_and_what_runs_goes_on() {
    let bench = Bench::with_witness().await;
    set_mode(bench.folder.path(), 0o777);
    let reason = bench.until_problem("may write to").await;
    assert!(reason.contains("chmod -R go-w"), "{reason}");
    bench.drop_in(&manifest("late"), &guests::answers("1").unwrap());
    bench.still_serving().await;
    assert!(bench.plugins.inspect(&"late".parse().unwrap()).is_err());
    set_mode(bench.folder.path(), 0o700);
    bench.until("late", |info| info.state == PluginState::NeedsGrant).await;
    assert!(bench.plugins.problems().is_empty());
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_others_may_write_to_is_refused_until_it_is_closed() {
    let bench = Bench::with_witness().await;
    let hidden = bench.folder.path().join(".open");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::write(hidden.join("leanclaw.plugin.json"), manifest("open").to_string()).unwrap();
    std::fs::write(hidden.join("plugin.wasm"), guests::answers("1").unwrap()).unwrap();
    set_mode(&hidden.join("plugin.wasm"), 0o666);
    let place = bench.folder.path().join("open");
    std::fs::rename(hidden, &place).unwrap();
    let reason = bench.until_refused("open").await;
    assert!(reason.contains("plugin.wasm (mode 666)") && reason.contains("chmod -R go-w"), "{reason}");
    set_mode(&place.join("plugin.wasm"), 0o644);
    bench.until("open", |info| info.state == PluginState::NeedsGrant).await;
    set_mode(&place, 0o775);
    bench.until("open", |info| info.reason.contains("(mode 775)")).await;
    bench.close().await;
}

/// A disk that did not answer says nothing about the plugin.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_disk_did_not_give_is_read_again_and_what_is_wrong_is_not() {
    let bench = Bench::with_witness().await;
    let part = |name: &str| bench.folder.path().join("late").join(name);
    // Most reads of the manifest are those of the folder's watcher, which only wants to know whether something changed.
    for (broken, times) in [("leanclaw.plugin.json", 12), ("plugin.wasm", 4)] {
        broken_disk::fail(&part(broken), times);
        bench.drop_in(&manifest("late"), &guests::answers("1").unwrap());
        bench.until("late", |info| info.state == PluginState::NeedsGrant).await;
        assert_eq!(broken_disk::left(&part(broken)), 0, "{broken} was read all the same");
        assert!(bench.plugins.problems().is_empty());
        std::fs::remove_dir_all(bench.folder.path().join("late")).unwrap();
        bench.wait("late stays", || bench.plugins.inspect(&"late".parse().unwrap()).is_err().then_some(())).await;
    }
    let refusals = bench.audited("plugin-refused", "late");
    bench.try_install(&manifest("late"), b"not a component").await;
    let wrong = bench.until("late", |info| info.state == PluginState::Faulted).await;
    assert!(!wrong.reason.contains("tried again"), "{}", wrong.reason);
    assert_eq!(bench.audited("plugin-refused", "late"), refusals);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_busy_while_a_plugin_is_loaded_does_not_keep_it_from_being_loaded() {
    let bench = Bench::with_witness().await;
    bench.install(&manifest("late"), &guests::answers("1").unwrap()).await;
    let states = bench.audited("plugin-state", "late");
    *bench.memory.failing_grants.lock().unwrap() = 3;
    bench.drop_in(
        &super::support::with(manifest("late"), serde_json::json!({"version": "2"})),
        &guests::answers("2").unwrap(),
    );
    let ready = bench.until("late", |info| info.version == "2" && info.state == PluginState::Ready).await;
    assert_eq!((ready.reason.as_str(), bench.run("late", "").await.unwrap().as_str()), ("", "2"));
    assert_eq!(*bench.memory.failing_grants.lock().unwrap(), 0);
    assert_eq!(bench.audited("plugin-state", "late"), states + 1, "the old version went on");
    bench.close().await;
}
