//! The template of `leanclaw plugin new --lang rust`, filled in outside of the repository with a copy of this crate: it
//! builds as a component and its test passes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Copies a folder, with `change` made to the text of each file.
fn copy(from: &Path, to: &Path, change: &dyn Fn(String) -> String) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target, change);
        } else {
            std::fs::write(target, change(std::fs::read_to_string(entry.path()).unwrap())).unwrap();
        }
    }
}

fn cargo(folder: &Path, arguments: &[&str]) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdk-guests");
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(folder).args(arguments).arg("--quiet").arg("--target-dir").arg(target);
    assert!(command.status().unwrap().success(), "cargo {arguments:?} in {}", folder.display());
}

#[test]
fn a_new_plugin_builds_and_passes_its_test_outside_of_the_repository() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path();
    let vendor = plugin.join("vendor/leanclaw");
    copy(&repository().join("plugin-sdk/templates/rust"), plugin, &|text| {
        text.replace("{{id}}", "9-lives")
            .replace("{{name}}", "Nine lives")
            .replace("{{sdk}}", r#"{ path = "vendor/leanclaw/plugin-sdk/rust" }"#)
    });
    let as_it_is = |text| text;
    copy(&repository().join("wit"), &vendor.join("wit"), &as_it_is);
    copy(&repository().join("plugin-sdk/rust/src"), &vendor.join("plugin-sdk/rust/src"), &as_it_is);
    for file in ["Cargo.toml", "README.md"] {
        let from = repository().join("plugin-sdk/rust").join(file);
        std::fs::copy(from, vendor.join("plugin-sdk/rust").join(file)).unwrap();
    }
    // Versions that are built already; cargo takes out what the plugin does not use.
    let lock = repository().join("plugin-sdk/rust/tests/guests/Cargo.lock");
    std::fs::copy(lock, plugin.join("Cargo.lock")).unwrap();
    let filled = std::fs::read_to_string(plugin.join("leanclaw.plugin.json")).unwrap();
    assert!(!filled.contains("{{"), "{filled}");
    cargo(plugin, &["build", "--target", "wasm32-wasip2"]);
    cargo(plugin, &["test"]);
}
