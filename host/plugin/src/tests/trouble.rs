//! A plugin folder that cannot be believed: it is not the same as an empty one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use leanclaw_test_guests as guests;
use leanclaw_types::plugin::PluginState;

use super::support::{Bench, manifest};

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
