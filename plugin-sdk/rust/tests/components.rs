//! What real components made with this crate import and export: exactly what their plugins name and use. The host links
//! only what is granted, so an import too many would keep a plugin from loading.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use wasmparser::{Parser, Payload};

/// Interfaces of the contract, of wasi:http, and whatever else is not the standard library's own.
#[derive(Debug, Default, PartialEq, Eq)]
struct Interfaces {
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
}

fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdk-guests");
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/Cargo.toml");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--examples", "--target", "wasm32-wasip2", "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(&target)
            .status()
            .unwrap();
        assert!(status.success(), "the guests do not build; `cargo xtask setup` installs what they need");
        target.join("wasm32-wasip2/debug/examples")
    })
}

/// Everything a guest imports and exports.
fn everything(guest: &str) -> Interfaces {
    let bytes = std::fs::read(built().join(format!("{guest}.wasm"))).unwrap();
    let mut found = Interfaces::default();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) if depth > 0 => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                found.imports.extend(section.into_iter().map(|import| import.unwrap().name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                found.exports.extend(section.into_iter().map(|export| export.unwrap().name.name.to_owned()));
            }
            _ => {}
        }
    }
    found
}

fn interfaces(guest: &str) -> Interfaces {
    let mut found = everything(guest);
    // The standard library's; the host offers these to everyone, with nothing in them.
    found.imports.retain(|name| {
        !["wasi:io/", "wasi:cli/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/"]
            .iter()
            .any(|own| name.starts_with(own))
    });
    found
}

fn names(package: &str, version: &str, interfaces: &[&str]) -> BTreeSet<String> {
    interfaces.iter().map(|interface| format!("{package}/{interface}@{version}")).collect()
}

fn ours(interfaces: &[&str]) -> BTreeSet<String> {
    names("leanclaw:plugin", "0.1.0", interfaces)
}

fn http(interfaces: &[&str]) -> BTreeSet<String> {
    names("wasi:http", "0.2.12", interfaces)
}

#[test]
fn methods_and_a_skill_in_one_component_ask_for_no_grant() {
    let found = interfaces("methods_and_skill");
    assert_eq!(found.exports, ours(&["method", "skill"]));
    // The types of the exports, and the log, which everyone has.
    assert_eq!(found.imports, ours(&["types", "call", "blobs", "log"]));
}

#[test]
fn what_calls_nothing_of_the_system_imports_nothing_of_it() {
    for guest in ["methods_and_skill", "channel_with_all"] {
        let imports = everything(guest).imports;
        let system: Vec<_> = imports.iter().filter(|name| name.starts_with("wasi:")).collect();
        assert_eq!(system, Vec::<&String>::new(), "{guest}");
    }
}

#[test]
fn a_channel_has_all_its_sides_and_needs_no_grant_by_itself() {
    let found = interfaces("channel_with_all");
    assert_eq!(found.exports, ours(&["channel", "channel-actions", "webhook", "poll", "socket"]));
    assert_eq!(found.imports, ours(&["types", "blobs", "messages", "log"]));
}

#[test]
fn routes_do_not_open_the_way_out() {
    let found = interfaces("hook_and_routes");
    assert_eq!(found.exports, &ours(&["hook"]) | &http(&["incoming-handler"]));
    assert_eq!(found.imports, &ours(&["types", "call", "log"]) | &http(&["types"]));
}

#[test]
fn what_is_called_is_imported() {
    let found = interfaces("every_import");
    assert_eq!(found.exports, ours(&["method"]));
    let called =
        ["types", "call", "blobs", "messages", "log", "settings", "kv", "credentials", "events", "http", "inbox"];
    assert_eq!(found.imports, &ours(&called) | &http(&["types", "outgoing-handler"]));
}
