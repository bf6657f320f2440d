//! Files that are no component, or not one for this host.

use std::path::Path;

use leanclaw_test_guests as guests;
use leanclaw_test_guests::Guest;
use leanclaw_types::plugin::{PluginInfo, PluginState};
use serde_json::json;

use crate::tests::support::{Bench, manifest};

/// Puts files that cannot be loaded into the folder, all at once, and gives what became of each.
async fn install_all(bench: &Bench, files: &[(String, Vec<u8>)]) -> Vec<PluginInfo> {
    for (id, bytes) in files {
        bench.drop_in(&manifest(id), bytes);
    }
    let mut found = Vec::new();
    for (id, _) in files {
        bench.until(id, |info| info.state == PluginState::NeedsGrant).await;
        found.push(bench.grant(id).await);
    }
    found
}

/// The same, and every one is refused with a hint.
async fn all_refused(bench: &Bench, files: &[(String, Vec<u8>)]) -> Vec<PluginInfo> {
    let found = install_all(bench, files).await;
    for info in &found {
        assert_eq!(info.state, PluginState::Faulted, "{}: {}", info.id, info.reason);
        assert!(info.reason.contains("hint:"), "{}: {}", info.id, info.reason);
    }
    found
}

/// A generator with a fixed beginning, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(limit).unwrap()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_component_is_refused_with_the_way_to_make_one() {
    let bench = Bench::with_witness().await;
    let cases = [
        ("module", wat::parse_str("(module)").unwrap(), "component new"),
        ("hollow", wat::parse_str("(component)").unwrap(), "exports nothing the host calls"),
        ("empty", Vec::new(), "00 61 73 6d"),
        ("text", b"(component)".to_vec(), "wasm-tools parse"),
        ("elf", [b"\x7fELF".as_slice(), &[0; 60]].concat(), "00 61 73 6d"),
    ];
    let files: Vec<_> = cases.iter().map(|(id, bytes, _)| ((*id).to_owned(), bytes.clone())).collect();
    for (info, (_, _, hint)) in all_refused(&bench, &files).await.iter().zip(cases) {
        assert!(info.reason.contains(hint), "{}: {}", info.id, info.reason);
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_and_random_bytes_are_refused() {
    let bench = Bench::with_witness().await;
    let whole = guests::echo().unwrap();
    let cuts = [1, 4, 8, 9, whole.len() / 4, whole.len() / 2, whole.len() - 100, whole.len() - 1];
    let mut files: Vec<_> = cuts.iter().map(|at| (format!("cut-{at}"), whole[..*at].to_vec())).collect();
    for seed in 1..=8 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut bytes: Vec<u8> = (0..dice.below(4000) + 8).map(|_| dice.roll().to_le_bytes()[0]).collect();
        if seed % 2 == 0 {
            bytes[..8].copy_from_slice(b"\0asm\x0d\0\x01\0");
        }
        files.push((format!("random-{seed}"), bytes));
    }
    all_refused(&bench, &files).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_bit_never_hurts_the_host() {
    let bench = Bench::with_witness().await;
    let whole = guests::echo().unwrap();
    let mut dice = Dice(42);
    let files: Vec<_> = (0..24)
        .map(|number| {
            let mut bytes = whole.clone();
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
            (format!("bit-{number}"), bytes)
        })
        .collect();
    for info in install_all(&bench, &files).await {
        // A bit in a name or a constant does no harm; whatever still runs is a plugin like any other.
        if info.state == PluginState::Ready {
            let _ = bench.run(info.id.as_str(), "1").await;
        } else {
            assert!(info.reason.contains("hint:"), "{}: {}", info.id, info.reason);
        }
    }
    bench.close().await;
}

/// A copy of the contract under another version, with `change` applied to each file.
fn other_contract(version: &str, change: impl Fn(String) -> String) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let files = |folder: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "wit")).collect()
    };
    std::fs::create_dir(copy.path().join("deps")).unwrap();
    for file in files(&guests::wit_folder()) {
        let text = std::fs::read_to_string(&file)
            .unwrap()
            .replace("leanclaw:plugin@0.1.0", &format!("leanclaw:plugin@{version}"));
        std::fs::write(copy.path().join(file.file_name().unwrap()), change(text)).unwrap();
    }
    for file in files(&guests::wit_folder().join("deps")) {
        std::fs::copy(&file, copy.path().join("deps").join(file.file_name().unwrap())).unwrap();
    }
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_for_another_version_is_told_which_one_is_served() {
    let bench = Bench::with_witness().await;
    let mut files = Vec::new();
    for version in ["0.2.0", "1.0.0"] {
        let contract = other_contract(version, |text| text);
        let guest = Guest::method("import settings;", "(call $settings.get (call $room)) unreachable");
        files.push((
            format!("v{}", version.replace('.', "-")),
            guest.against(contract.path(), version).build().unwrap(),
        ));
    }
    for info in all_refused(&bench, &files).await {
        assert!(info.reason.contains("wrong version (host offers 0.1.0)"), "{}", info.reason);
        assert!(info.reason.contains("build against its `wit` folder"), "{}", info.reason);
    }
    let same = other_contract("0.1.0", |text| text);
    let wasm = Guest::method("", "(call $number (i32.const 7))").against(same.path(), "0.1.0").build().unwrap();
    bench.install(&manifest("same"), &wasm).await;
    assert_eq!(bench.run("same", "{}").await.unwrap(), "7");
    bench.close().await;
}

/// Below 1.0 the minor version is what has to be the same. A newer patch is not refused for its number: only a function
/// that the host lacks keeps the component out, and it is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_for_a_newer_patch_loads_unless_it_needs_what_is_new() {
    let bench = Bench::with_witness().await;
    let newer = other_contract("0.1.9", |text| {
        text.replace("get: func() -> json;", "get: func() -> json;\n    get-newer: func() -> json;")
    });
    let calls = |function: &str| {
        let body = format!(
            "(call $settings.{function} (local.tee $area (call $room)))
             (call $ok (i32.load (local.get $area)) (i32.load offset=4 (local.get $area)))"
        );
        Guest::method("import settings;", &body).against(newer.path(), "0.1.9").build().unwrap()
    };
    bench.install(&manifest("modest"), &calls("get")).await;
    assert_eq!(bench.run("modest", "{}").await.unwrap(), "{}");
    let needs = [("needs".to_owned(), calls("get-newer"))];
    let info = all_refused(&bench, &needs).await.remove(0);
    assert!(info.reason.contains("get-newer"), "{}", info.reason);
    assert!(info.reason.contains("a host as new as the component's contract"), "{}", info.reason);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_with_other_functions_under_the_same_names_is_refused() {
    let bench = Bench::with_witness().await;
    let changed = |from: &'static str, to: &'static str| {
        let all: Vec<_> = std::fs::read_dir(guests::wit_folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let holds = |path: &std::path::PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.contains(from));
        assert!(all.iter().any(holds), "the contract has no {from:?}");
        other_contract("0.1.0", move |text| text.replace(from, to))
    };
    let export = changed("invoke: func(context: context, name: string, params: json)", "invoke: func(name: string)");
    let import = changed("get: func() -> json;", "get: func(path: string) -> json;");
    let asks = "(call $settings.get (i32.const 0) (i32.const 0) (call $room)) unreachable";
    let files = [
        ("export".to_owned(), Guest::method("", "unreachable").against(export.path(), "0.1.0").build().unwrap()),
        ("import".to_owned(), Guest::method("import settings;", asks).against(import.path(), "0.1.0").build().unwrap()),
    ];
    for (info, part) in all_refused(&bench, &files).await.iter().zip(["method", "settings"]) {
        assert!(info.reason.contains(part) && info.reason.contains("`wit` folder"), "{}: {}", info.id, info.reason);
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_the_host_does_not_have_is_named() {
    let bench = Bench::with_witness().await;
    let foreign = r#"(component (import "evil:host/root@1.0.0" (instance)) (instance $it)
        (export "leanclaw:plugin/method@0.1.0" (instance $it)))"#;
    let escapes = r#"(component (import "wasi:sockets/tcp@0.3.0" (instance)) (instance $it)
        (export "leanclaw:plugin/method@0.1.0" (instance $it)))"#;
    let files =
        [("foreign".into(), wat::parse_str(foreign).unwrap()), ("escapes".into(), wat::parse_str(escapes).unwrap())];
    for (info, part) in all_refused(&bench, &files).await.iter().zip(["evil:host/root@1.0.0", "wasi:sockets/tcp@0.3.0"])
    {
        assert!(info.reason.contains(part), "{}: {}", info.id, info.reason);
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_cannot_describe_itself_is_faulted() {
    let bench = Bench::with_witness().await;
    let kinds = ["method.methods", "skill.tools", "hook.events", "channel.describe"];
    let guest = |function: &str| Guest::new(&format!("export {};", function.split_once('.').unwrap().0));
    let trapping: Vec<_> = kinds.iter().map(|name| (name.replace('.', "-"), guest(name).build().unwrap())).collect();
    for info in all_refused(&bench, &trapping).await {
        assert!(info.reason.contains("unreachable"), "{}: {}", info.id, info.reason);
    }
    let refuses = guest("method.methods")
        .answer("method.methods", json!({"err": {"code": "unavailable", "message": "not \u{1b}[1mtoday"}}));
    let found = bench.try_install(&manifest("refuses"), &refuses.build().unwrap()).await;
    assert_eq!(found.state, PluginState::Faulted);
    assert!(found.reason.contains("not \\u{1b}[1mtoday"), "{}", found.reason);
    bench.close().await;
}
