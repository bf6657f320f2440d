//! What this crate repeats from the workspace because it is copied out of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The lines of a TOML section.
fn section(manifest: &str, name: &str) -> Vec<String> {
    let start = format!("[{name}]");
    let lines = manifest.lines().skip_while(|line| *line != start).skip(1);
    let lines: Vec<String> = lines.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect();
    assert!(!lines.is_empty(), "no section {name}");
    lines.into_iter().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn the_lints_are_those_of_the_workspace() {
    let (workspace, own) = (read("../../Cargo.toml"), read("Cargo.toml"));
    for tool in ["rust", "clippy"] {
        assert_eq!(section(&own, &format!("lints.{tool}")), section(&workspace, &format!("workspace.lints.{tool}")));
    }
    for line in section(&workspace, "workspace.package") {
        assert!(section(&own, "package").contains(&line), "{line}");
    }
}

#[test]
fn the_manifest_stands_alone() {
    assert!(!read("Cargo.toml").lines().any(|line| line.contains("workspace = true") && !line.starts_with('#')));
}
