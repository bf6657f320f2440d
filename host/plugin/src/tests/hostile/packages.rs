//! What lies in the plugin folder and should not, or not so.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use leanclaw_test_guests as guests;
use leanclaw_types::plugin::PluginState;
use serde_json::json;

use crate::tests::support::{Bench, manifest, with};

/// A folder with these files under its place in the plugin folder, put there in one step.
fn put(bench: &Bench, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let hidden = bench.folder.path().join(format!(".{name}"));
    std::fs::create_dir_all(&hidden).unwrap();
    for (file, bytes) in files {
        std::fs::write(hidden.join(file), bytes).unwrap();
    }
    let place = bench.folder.path().join(name);
    std::fs::rename(hidden, &place).unwrap();
    place
}

fn mkfifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

const MANIFEST: &str = "leanclaw.plugin.json";

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_cannot_name_what_lies_outside() {
    let bench = Bench::with_witness().await;
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("plugin.wasm"), guests::answers("1").unwrap()).unwrap();
    let absolute = outside.path().join("plugin.wasm").display().to_string();
    let mains = [
        "../witness/plugin.wasm",
        "a/../../witness/plugin.wasm",
        &absolute,
        "~/plugin.wasm",
        "..\\witness\\plugin.wasm",
        "",
    ];
    for (number, main) in mains.iter().enumerate() {
        let text = with(manifest("p"), json!({ "main": main })).to_string();
        put(&bench, &format!("p{number}"), &[(MANIFEST, text.as_bytes())]);
    }
    for number in 0..mains.len() {
        let reason = bench.until_refused(&format!("p{number}")).await;
        assert!(reason.contains("`main`") && reason.contains("relative path") && reason.contains("hint:"), "{reason}");
    }
    for (name, main) in [("missing", "other.wasm"), ("folder", ".wasm")] {
        let text = with(manifest("q"), json!({ "main": format!("{main}/plugin.wasm") })).to_string();
        put(&bench, name, &[(MANIFEST, text.as_bytes())]);
        let reason = bench.until_refused(name).await;
        assert!(reason.contains("cannot be read") && reason.contains("hint:"), "{reason}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn symbolic_links_are_not_followed() {
    let bench = Bench::with_witness().await;
    let outside = tempfile::tempdir().unwrap();
    let wasm = guests::answers("1").unwrap();
    let text = manifest("p").to_string();
    std::fs::write(outside.path().join("plugin.wasm"), &wasm).unwrap();
    std::fs::write(outside.path().join(MANIFEST), &text).unwrap();
    let folder = bench.folder.path();
    let prepare = |name: &str| {
        let hidden = folder.join(format!(".{name}"));
        std::fs::create_dir(&hidden).unwrap();
        hidden
    };
    let show = |name: &str| std::fs::rename(folder.join(format!(".{name}")), folder.join(name)).unwrap();

    symlink(outside.path(), folder.join("whole")).unwrap();
    symlink(outside.path().join("plugin.wasm"), folder.join("bare.wasm")).unwrap();
    let hidden = prepare("component");
    std::fs::write(hidden.join(MANIFEST), &text).unwrap();
    symlink(outside.path().join("plugin.wasm"), hidden.join("plugin.wasm")).unwrap();
    show("component");
    let hidden = prepare("inner");
    std::fs::write(hidden.join(MANIFEST), with(manifest("p"), json!({"main": "build/plugin.wasm"})).to_string())
        .unwrap();
    symlink(outside.path(), hidden.join("build")).unwrap();
    show("inner");
    let hidden = prepare("manifest");
    symlink(outside.path().join(MANIFEST), hidden.join(MANIFEST)).unwrap();
    std::fs::write(hidden.join("plugin.wasm"), &wasm).unwrap();
    show("manifest");

    for name in ["whole", "bare.wasm", "component", "inner", "manifest"] {
        let reason = bench.until_refused(name).await;
        assert!(reason.contains("symbolic link") && reason.contains("hint:"), "{name}: {reason}");
    }
    assert!(bench.plugins.inspect(&"p".parse().unwrap()).is_err());
    // The same files as themselves are a plugin.
    put(&bench, "good", &[(MANIFEST, text.as_bytes()), ("plugin.wasm", &wasm)]);
    bench.until("p", |info| info.path.ends_with("good") && info.state == PluginState::NeedsGrant).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_manifests_are_refused() {
    let bench = Bench::with_witness().await;
    let deep = format!(r#"{{"id":"p","kind":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let schema = format!(r#"{{"id":"p","configSchema":{}{}}}"#, r#"{"not":"#.repeat(50_000), "}".repeat(50_000));
    let large = format!(r#"{{"id":"p","description":"{}"}}"#, "a".repeat(10 * 1024 * 1024));
    let cases: [(&str, &str, &str); 9] = [
        ("deep", &deep, "recursion"),
        ("schema", &schema, "recursion"),
        ("large", &large, "1048576"),
        ("empty", "", "does not parse"),
        ("list", "[]", "does not parse"),
        ("twice", r#"{"id":"p","id":"witness"}"#, "duplicate"),
        ("path", r#"{"id":"../p"}"#, "id"),
        ("limit", r#"{"id":"p","limits":{"memoryMib":100000}}"#, "1 to 512"),
        ("escape", "{\"id\":\"p\",\"permissions\":{\"\\u001b[2J\":1}}", "\\u{1b}"),
    ];
    for (name, text, _) in cases {
        put(&bench, name, &[(MANIFEST, text.as_bytes())]);
    }
    for (name, _, part) in cases {
        let reason = bench.until_refused(name).await;
        assert!(reason.contains(part) && reason.contains("hint:"), "{name}: {reason}");
        assert!(reason.len() < 2000 && !reason.contains('\u{1b}'), "{name}: {reason:?}");
    }
    let bytes = crate::embed_manifest(&guests::answers("1").unwrap(), &large).unwrap();
    // In one step: a part of ten million bytes is refused for something else.
    std::fs::write(bench.folder.path().join(".carried"), bytes).unwrap();
    std::fs::rename(bench.folder.path().join(".carried"), bench.folder.path().join("carried.wasm")).unwrap();
    assert!(bench.until_refused("carried.wasm").await.contains("1048576"));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_reaches_outside_is_refused() {
    let bench = Bench::with_witness().await;
    let schema = json!({"configSchema": {"$ref": "http://127.0.0.1:9/schema.json"}});
    let info = bench.try_install(&with(manifest("p"), schema), &guests::answers("1").unwrap()).await;
    assert_eq!(info.state, PluginState::Faulted);
    assert!(info.reason.contains("schema") && info.reason.contains("hint:"), "{}", info.reason);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_and_folders_in_a_files_place_are_refused_without_waiting() {
    let bench = Bench::with_witness().await;
    let folder = bench.folder.path();
    mkfifo(&folder.join("bare.wasm"));
    let hidden = folder.join(".component");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::write(hidden.join(MANIFEST), manifest("p").to_string()).unwrap();
    mkfifo(&hidden.join("plugin.wasm"));
    std::fs::rename(&hidden, folder.join("component")).unwrap();
    let hidden = folder.join(".manifest");
    std::fs::create_dir(&hidden).unwrap();
    mkfifo(&hidden.join(MANIFEST));
    std::fs::rename(&hidden, folder.join("manifest")).unwrap();
    let hidden = folder.join(".directory");
    std::fs::create_dir_all(hidden.join("plugin.wasm")).unwrap();
    std::fs::write(hidden.join(MANIFEST), manifest("p").to_string()).unwrap();
    std::fs::rename(&hidden, folder.join("directory")).unwrap();
    for name in ["bare.wasm", "component", "manifest", "directory"] {
        let reason = bench.until_refused(name).await;
        assert!(reason.contains("not a regular file") && reason.contains("hint:"), "{name}: {reason}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_component_is_loaded_once_it_is_whole() {
    let bench = Bench::with_witness().await;
    let whole = guests::answers("1").unwrap();
    let (first, rest) = whole.split_at(whole.len() / 2);
    let place = put(&bench, "p", &[(MANIFEST, manifest("p").to_string().as_bytes()), ("plugin.wasm", first)]);
    bench.until("p", |info| info.state == PluginState::NeedsGrant).await;
    let info = bench.grant("p").await;
    assert_eq!(info.state, PluginState::Faulted);
    assert!(info.reason.contains("cut off"), "{}", info.reason);
    let append = |bytes: &[u8]| {
        let mut file = std::fs::OpenOptions::new().append(true).open(place.join("plugin.wasm")).unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
    };
    append(rest);
    bench.until("p", |info| info.state == PluginState::Ready).await;
    assert_eq!(bench.run("p", "{}").await.unwrap(), "1");

    // The same while an old version runs: it serves until the new one is whole.
    let whole = guests::answers("2").unwrap();
    let (first, rest) = whole.split_at(whole.len() / 2);
    std::fs::write(place.join("plugin.wasm"), first).unwrap();
    bench.until("p", |info| info.reason.contains("the old one keeps running")).await;
    assert_eq!(bench.run("p", "{}").await.unwrap(), "1");
    append(rest);
    bench.until("p", |info| info.reason.is_empty()).await;
    assert_eq!(bench.run("p", "{}").await.unwrap(), "2");

    // A bare component carries its manifest at its end: half of one is refused, the whole one is a plugin.
    let bare = crate::embed_manifest(&whole, r#"{"id":"bare"}"#).unwrap();
    let path = bench.folder.path().join("bare.wasm");
    std::fs::write(&path, &bare[..bare.len() / 2]).unwrap();
    assert!(bench.until_refused("bare.wasm").await.contains("hint:"));
    std::fs::write(&path, &bare).unwrap();
    bench.until("bare", |info| info.state == PluginState::NeedsGrant).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_plugins_with_one_id_do_not_share_anything() {
    let bench = Bench::with_witness().await;
    bench.install(&manifest("p"), &guests::answers("1").unwrap()).await;
    let files = [(MANIFEST, manifest("p").to_string().into_bytes()), ("plugin.wasm", guests::answers("2").unwrap())];
    put(&bench, "a-second", &files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice())));
    let reason = bench.until_refused("a-second").await;
    assert!(reason.contains("is taken by") && reason.contains("hint:"), "{reason}");
    assert_eq!(bench.run("p", "{}").await.unwrap(), "1");
    assert_eq!(bench.plugins.list().len(), 2);
    bench.close().await;
}
