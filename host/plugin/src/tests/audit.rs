//! What the audit log says of loads: every outcome is one row, with the one who wanted it.

use std::path::Path;
use std::sync::Arc;

use leanclaw_test_guests as guests;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::plugin::PluginState;
use serde_json::json;

use super::support::{Bench, caller, manifest, settings, with};

const ADMIN: &str = "client:test";

fn rows(bench: &Bench, of: impl Fn(&AuditRecord) -> Option<String>) -> Vec<String> {
    bench.memory.audit.lock().unwrap().iter().filter_map(of).collect()
}

/// `actor state version` of every state row about the plugin.
fn states(bench: &Bench, id: &str) -> Vec<String> {
    rows(bench, |row| match &row.event {
        AuditEvent::PluginState { plugin, version, state, .. } if plugin == id => {
            Some(format!("{} {state} {version}", row.actor))
        }
        _ => None,
    })
}

/// `actor plugin` of every refusal of what lies in the folder under `name`.
fn refusals(bench: &Bench, name: &str) -> Vec<String> {
    let place = bench.folder.path().join(name).display().to_string();
    rows(bench, |row| match &row.event {
        AuditEvent::PluginRefused { path, plugin, reason, .. } if *path == place => {
            assert!(reason.contains("hint:"), "{reason}");
            Some(format!("{} {}", row.actor, plugin.as_deref().unwrap_or("-")))
        }
        _ => None,
    })
}

/// Puts a file into the folder, or in the place of one, in one step: a half-written one would be a row of its own.
fn put_file(folder: &Path, name: &str, bytes: &[u8]) {
    let hidden = folder.join(".hidden");
    std::fs::write(&hidden, bytes).unwrap();
    std::fs::rename(hidden, folder.join(name)).unwrap();
}

/// Puts a method plugin `id` that answers `answer` into the folder under `name`, in one step.
fn put(folder: &Path, name: &str, id: &str, answer: &str) {
    let hidden = folder.join(".hidden-plugin");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::write(hidden.join("leanclaw.plugin.json"), manifest(id).to_string()).unwrap();
    std::fs::write(hidden.join("plugin.wasm"), guests::answers(answer).unwrap()).unwrap();
    std::fs::rename(hidden, folder.join(name)).unwrap();
}

/// The program ends, `meanwhile` happens to the folder, and it starts again.
async fn restarted(bench: Bench, meanwhile: impl FnOnce(&Path)) -> Bench {
    let (memory, folder) = (Arc::clone(&bench.memory), Arc::clone(&bench.folder));
    drop(bench);
    meanwhile(folder.path());
    Bench::over(memory, folder, settings()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_load_is_one_row_with_the_one_who_wanted_it() {
    let bench = Bench::new().await;
    bench.drop_in(&manifest("p"), &guests::answers("1").unwrap());
    bench.until("p", |info| info.state == PluginState::NeedsGrant).await;
    bench.grant("p").await;
    let mut expected = vec!["host:folder needs-grant 1.0.0".to_owned(), format!("{ADMIN} ready 1.0.0")];
    assert_eq!(states(&bench, "p"), expected);
    bench.plugins.reload(&caller(), Some(&"p".parse().unwrap())).await.unwrap();
    expected.push(format!("{ADMIN} ready 1.0.0"));
    assert_eq!(states(&bench, "p"), expected);
    let newer = with(manifest("p"), json!({"version": "2.0.0"}));
    put_file(bench.folder.path(), "p/leanclaw.plugin.json", newer.to_string().as_bytes());
    bench.until("p", |info| info.version == "2.0.0" && info.state == PluginState::Ready).await;
    expected.push("host:folder ready 2.0.0".into());
    assert_eq!(states(&bench, "p"), expected);
    std::fs::remove_dir_all(bench.folder.path().join("p")).unwrap();
    bench.wait("it stays", || bench.plugins.list().is_empty().then_some(())).await;
    expected.push("host:folder removed 2.0.0".into());
    assert_eq!(states(&bench, "p"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_gives_up_is_a_row_of_its_own() {
    let bench = Bench::new().await;
    let traps = guests::Guest::method("", "unreachable").build().unwrap();
    bench.install(&with(manifest("p"), json!({"lifecycle": "resident"})), &traps).await;
    for _ in 0..5 {
        bench.run("p", "{}").await.unwrap_err();
    }
    bench.until("p", |info| info.state == PluginState::Faulted).await;
    assert_eq!(states(&bench, "p").last().unwrap(), "plugin:p faulted 1.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_replacement_is_a_row() {
    let bench = Bench::new().await;
    bench.install(&manifest("p"), &guests::answers("1").unwrap()).await;
    let before = states(&bench, "p");
    put_file(bench.folder.path(), "p/plugin.wasm", b"garbage");
    bench.until("p", |info| info.reason.contains("the old one keeps running")).await;
    assert_eq!(refusals(&bench, "p"), ["host:folder p"]);
    put_file(bench.folder.path(), "p/leanclaw.plugin.json", b"{");
    bench.until("p", |info| info.reason.contains("does not parse")).await;
    assert_eq!(refusals(&bench, "p"), ["host:folder p", "host:folder p"]);
    // Somebody who asks again is told again.
    bench.plugins.reload(&caller(), Some(&"p".parse().unwrap())).await.unwrap();
    assert_eq!(refusals(&bench, "p").last().unwrap(), &format!("{ADMIN} p"));
    assert_eq!(states(&bench, "p"), before, "its state did not change");
    assert_eq!(bench.run("p", "{}").await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_one_row_until_it_changes() {
    let bench = Bench::new().await;
    bench.install(&manifest("p"), &guests::answers("1").unwrap()).await;
    std::os::unix::fs::symlink("/", bench.folder.path().join("link.wasm")).unwrap();
    put(bench.folder.path(), "copy", "p", "2");
    put_file(bench.folder.path(), "bad.wasm", b"garbage");
    for name in ["link.wasm", "copy", "bad.wasm"] {
        bench.until_refused(name).await;
    }
    // Each further change has the refused ones looked at again.
    for id in ["q", "r"] {
        bench.install(&manifest(id), &guests::answers("1").unwrap()).await;
    }
    assert_eq!(refusals(&bench, "link.wasm"), ["host:folder -"]);
    assert_eq!(refusals(&bench, "copy"), ["host:folder p"]);
    assert_eq!(refusals(&bench, "bad.wasm"), ["host:folder -"]);
    bench.plugins.reload(&caller(), None).await.unwrap();
    assert_eq!(refusals(&bench, "bad.wasm"), ["host:folder -".to_owned(), format!("{ADMIN} -")]);
    std::fs::remove_file(bench.folder.path().join("bad.wasm")).unwrap();
    let gone = || bench.plugins.problems().iter().all(|(path, _)| !path.ends_with("bad.wasm")).then_some(());
    bench.wait("the problem stays", gone).await;
    put_file(bench.folder.path(), "bad.wasm", b"garbage");
    bench.until_refused("bad.wasm").await;
    assert_eq!(refusals(&bench, "bad.wasm").len(), 3, "it came anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_an_id_stays_with_the_package_that_had_it() {
    let bench = Bench::new().await;
    bench.install(&manifest("demo"), &guests::answers("1").unwrap()).await;
    put(bench.folder.path(), "a-copy", "demo", "666");
    assert!(bench.until_refused("a-copy").await.contains("is taken by"));
    assert_eq!(bench.run("demo", "{}").await.unwrap(), "1");
    let bench = restarted(bench, |_| ()).await;
    assert!(bench.until_refused("a-copy").await.contains("is taken by"));
    bench.until("demo", |info| info.state == PluginState::Ready).await;
    assert_eq!(bench.run("demo", "{}").await.unwrap(), "1");
    assert_eq!(refusals(&bench, "a-copy").len(), 2, "one for each start");
    // Renamed while nothing runs: its component tells which one it was.
    let moved = |folder: &Path| std::fs::rename(folder.join("demo"), folder.join("z-moved")).unwrap();
    let bench = restarted(bench, moved).await;
    bench.until("demo", |info| info.state == PluginState::Ready && info.path.ends_with("z-moved")).await;
    assert!(bench.until_refused("a-copy").await.contains("z-moved"));
    assert_eq!(bench.run("demo", "{}").await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_nobody_is_known_to_have_had_is_given_to_none() {
    let bench = Bench::new().await;
    bench.install(&manifest("demo"), &guests::answers("1").unwrap()).await;
    let replaced = |folder: &Path| {
        std::fs::remove_dir_all(folder.join("demo")).unwrap();
        put(folder, "a", "demo", "2");
        put(folder, "b", "demo", "3");
    };
    let bench = restarted(bench, replaced).await;
    for name in ["a", "b"] {
        let reason = bench.until_refused(name).await;
        for part in ["a and by ", "b, and none", "hint: keep the one you trust"] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
        assert_eq!(refusals(&bench, name), ["host:folder demo"]);
    }
    assert!(bench.plugins.list().is_empty());
    assert_eq!(bench.run("demo", "{}").await.unwrap_err().code, "not-found");
    // An admin decides by leaving one.
    std::fs::remove_dir_all(bench.folder.path().join("a")).unwrap();
    bench.until("demo", |info| info.state == PluginState::Ready && info.path.ends_with("b")).await;
    assert_eq!(bench.run("demo", "{}").await.unwrap(), "3");
}
