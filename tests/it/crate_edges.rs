//! Which crate of the workspace may depend on which.
//!
//! The table is the layout: leaves may be used by all, the crates in the middle know nothing of each other and are put
//! together in `leanclaw`. A dependency that is not in it, of any kind (normal, dev or build), fails here, and so does a
//! crate without a row.

use std::process::Command;

use serde_json::Value;

/// What a crate may depend on.
#[derive(Clone, Copy)]
enum May {
    /// These crates of the workspace and no others.
    Use(&'static [&'static str]),
    /// All of them: programs that put things together or look at them from outside.
    UseAll,
}

const TYPES: &str = "leanclaw-types";
const EGRESS: &str = "leanclaw-egress";
const WASM: &str = "leanclaw-wasm";

const GUESTS: &str = "leanclaw-test-guests";
const FAKES: &str = "leanclaw-test-fakes";

/// Crates that every other may use in its tests, and none in its program.
const DEV_ONLY: &[&str] = &[GUESTS, FAKES];

const TABLE: &[(&str, May)] = &[
    // Leaves.
    (TYPES, May::Use(&[])),
    (EGRESS, May::Use(&[TYPES])),
    (WASM, May::Use(&[TYPES])),
    // The middle: leaves only.
    ("leanclaw-store", May::Use(&[TYPES, EGRESS, WASM])),
    ("leanclaw-plugin", May::Use(&[TYPES, EGRESS, WASM])),
    ("leanclaw-gateway", May::Use(&[TYPES, EGRESS, WASM])),
    ("leanclaw-sandbox", May::Use(&[TYPES, EGRESS, WASM])),
    ("leanclaw-providers", May::Use(&[TYPES, EGRESS, WASM])),
    // Runs inside the sandbox, also as a component: it shares the wire's types and nothing that is host.
    ("leanclaw-agent", May::Use(&[TYPES])),
    // Plugin authors depend on it from outside; the host must be free to change without it.
    ("leanclaw-plugin-sdk", May::Use(&[])),
    // Must compile in seconds on a fresh clone.
    ("xtask", May::Use(&[])),
    // Guests that tests of any crate may run; see DEV_ONLY.
    (GUESTS, May::Use(&[])),
    // Servers that tests talk to in place of real ones; see DEV_ONLY.
    (FAKES, May::Use(&[])),
    // The top.
    ("leanclaw", May::UseAll),
    ("leanclaw-tests", May::UseAll),
    ("leanclaw-bench", May::UseAll),
];

/// Heavy or powerful dependencies from outside, and the only crates that may name them as a normal dependency.
const CONFINED: &[(&str, &[&str])] = &[
    // A binary that links it weighs 100 MB in debug; most unit tests must not.
    ("wasmtime", &[WASM, "leanclaw-plugin", "leanclaw-sandbox", "leanclaw", "leanclaw-tests", "leanclaw-bench"]),
    ("rusqlite", &["leanclaw-store", "leanclaw-tests", "leanclaw-bench"]),
    ("axum", &["leanclaw-gateway", "leanclaw", "leanclaw-tests", "leanclaw-bench"]),
];

/// Clients that could leave the machine by a second way, past [`EGRESS`].
const OTHER_WAYS_OUT: &[&str] = &["reqwest", "ureq", "isahc", "curl", "attohttpc", "native-tls", "openssl"];

/// The same as a part of a library that does other things as well: the library, the part, and who may have it.
const WAYS_OUT_IN_PARTS: &[(&str, &str, &[&str])] = &[
    ("hyper", "client", &[EGRESS, "leanclaw-tests"]),
    ("hyper-util", "client", &[]),
    ("hyper-util", "client-legacy", &[]),
    // The command line is a client of the gateway, and of nothing else.
    ("tokio-tungstenite", "connect", &[EGRESS, "leanclaw", "leanclaw-tests", "leanclaw-bench"]),
    ("wasmtime-wasi-http", "default-send-request", &[]),
];

/// One dependency as it stands in a manifest.
#[derive(Debug, PartialEq, Eq)]
struct Edge {
    from: String,
    to: String,
    features: Vec<String>,
    normal: bool,
}

fn metadata() -> Value {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().expect("cargo metadata has this field").to_owned()
}

fn read(metadata: &Value) -> (Vec<String>, Vec<Edge>) {
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let names = packages.iter().map(|package| text(package, "name")).collect();
    let edges = packages.iter().flat_map(|package| {
        let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
        dependencies.iter().map(|dependency| Edge {
            from: text(package, "name"),
            to: text(dependency, "name"),
            features: serde_json::from_value(dependency["features"].clone()).expect("a list of features"),
            normal: dependency["kind"].is_null(),
        })
    });
    (names, edges.collect())
}

/// Everything in which the workspace departs from the tables above.
fn violations(packages: &[String], edges: &[Edge]) -> Vec<String> {
    let row = |name: &str| TABLE.iter().find(|(package, _)| *package == name).map(|(_, may)| *may);
    let without_row = packages.iter().filter(|package| row(package).is_none());
    let mut found: Vec<String> =
        without_row.map(|package| format!("{package} has no row in the table of tests/it/crate_edges.rs")).collect();
    for Edge { from, to, features, normal } in edges {
        let inside = packages.contains(to);
        if let (true, Some(May::Use(allowed))) = (inside, row(from))
            && !allowed.contains(&to.as_str())
            && (*normal || !DEV_ONLY.contains(&to.as_str()))
        {
            found.push(format!("{from} depends on {to}; it may use {allowed:?}"));
        }
        let confined = CONFINED.iter().find(|(name, _)| name == to);
        if let (true, Some((_, homes))) = (*normal, confined)
            && !homes.contains(&from.as_str())
        {
            found.push(format!("{from} depends on {to}, which only {homes:?} may"));
        }
        for (name, part, homes) in WAYS_OUT_IN_PARTS {
            if *normal && name == to && features.iter().any(|own| own == part) && !homes.contains(&from.as_str()) {
                found.push(format!(
                    "{from} has `{part}` of {to}; everything that leaves the machine goes through {EGRESS}"
                ));
            }
        }
        if *normal && OTHER_WAYS_OUT.contains(&to.as_str()) {
            found.push(format!("{from} depends on {to}; everything that leaves the machine goes through {EGRESS}"));
        }
    }
    found
}

#[test]
fn the_workspace_has_only_the_edges_of_the_table() {
    let (packages, edges) = read(&metadata());
    assert!(packages.iter().any(|package| package == "leanclaw"), "not the workspace: {packages:?}");
    let found = violations(&packages, &edges);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The check itself: the same lists pass without and fail with one wrong edge.
#[test]
fn a_wrong_edge_is_found() {
    let packages: Vec<String> =
        ["leanclaw-store", "leanclaw-gateway", TYPES, GUESTS].into_iter().map(str::to_owned).collect();
    let edge =
        |from: &str, to: &str, normal| Edge { from: from.to_owned(), to: to.to_owned(), features: Vec::new(), normal };
    let good = || vec![edge("leanclaw-store", TYPES, true), edge(TYPES, "serde", true)];
    let one_wrong = |wrong: Edge| violations(&packages, &good().into_iter().chain([wrong]).collect::<Vec<_>>());

    assert_eq!(violations(&packages, &good()), [""; 0]);
    assert_eq!(one_wrong(edge("leanclaw-gateway", "leanclaw-store", true)).len(), 1);
    assert_eq!(one_wrong(edge("leanclaw-gateway", "leanclaw-store", false)).len(), 1, "dev dependencies count too");
    assert_eq!(one_wrong(edge(TYPES, "wasmtime", true)).len(), 1);
    assert_eq!(one_wrong(edge("leanclaw-gateway", "reqwest", true)).len(), 1);
    let part = |from: &str, part: &str| Edge { features: vec![part.to_owned()], ..edge(from, "hyper", true) };
    assert_eq!(one_wrong(part("leanclaw-gateway", "client")).len(), 1);
    assert_eq!(one_wrong(part("leanclaw-gateway", "server")).len(), 0);

    assert_eq!(one_wrong(edge("leanclaw-store", GUESTS, true)).len(), 1);
    assert_eq!(one_wrong(edge("leanclaw-store", GUESTS, false)).len(), 0, "tests may run guests");

    let newcomer: Vec<String> = vec!["leanclaw-new".to_owned()];
    assert_eq!(violations(&newcomer, &[]).len(), 1);
}
