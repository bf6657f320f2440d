//! Where this test process finds the program and the built plugins, and where it keeps its files.
//!
//! The program is linked into a folder of this process, so that a build that runs meanwhile does not change it between
//! two tests. Folders of test processes that are gone are removed by the next one.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::Place;

/// Set by `cargo xtask test`.
const BINARY: &str = "LEANCLAW_TEST_BINARY";
/// Set by `cargo xtask test`.
const PLUGINS: &str = "LEANCLAW_TEST_PLUGINS";

const PREFIX: &str = "it-";

/// The folder of this process.
pub(super) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(all).expect("the target folder can be written");
        for entry in fs::read_dir(all).expect("it can be read").flatten() {
            let name = entry.file_name();
            let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
            if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
                // Another test process may be removing the same one.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let own = all.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&own).expect("a folder can be made");
        own
    })
}

/// The `leanclaw` program.
pub(super) fn binary() -> &'static Path {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let built = std::env::var_os(BINARY).map(PathBuf::from).or_else(build)?;
        let own = folder().join("leanclaw");
        let copied = fs::hard_link(&built, &own).or_else(|_| fs::copy(&built, &own).map(drop));
        copied.unwrap_or_else(|error| panic!("cannot copy {}: {error}", built.display()));
        Some(own)
    });
    // Tried once: every test would fail in the same way.
    built.as_deref().expect("leanclaw builds; see above for why it does not")
}

fn build() -> Option<PathBuf> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--offline", "--package", "leanclaw"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    status.success().then(|| target().join("debug/leanclaw"))
}

/// Cargo's target folder.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder")
}

/// The folder of a built example plugin.
pub(super) fn example(id: &str) -> PathBuf {
    let all = std::env::var_os(PLUGINS).map_or_else(|| target().join("plugins"), PathBuf::from);
    let folder = all.join(id);
    assert!(folder.join("leanclaw.plugin.json").is_file(), "{id} is not built: run `cargo xtask build`");
    folder
}

/// Compiled code of an example plugin, made once by a program of its own, so that not every test waits for a compiler.
/// The folder is a cache as the program keeps it in its data directory.
pub(super) async fn compiled(id: &str) -> PathBuf {
    static MADE: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let cache = folder().join(format!("cache-of-{id}"));
    let is_made = || MADE.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|made| made == id);
    let _turn = ONE_AT_A_TIME.lock().await;
    if !is_made() {
        let place = Place::empty();
        place.add_example(id);
        let program = place.start().await;
        program.grant_all(id).await;
        program.stop().await;
        copy(&place.data().join("cache"), &cache);
        MADE.lock().unwrap_or_else(PoisonError::into_inner).push(id.to_owned());
    }
    cache
}

/// Copies a folder and what is in it; folders become readable by their owner only.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("the folder can be read") {
        let entry = entry.expect("an entry can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}
