//! The compile cache: what hits, what misses, and what is never trusted.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::*;
use crate::{CacheBounds, CacheOff, CacheStats, Digest, LoadError, WasmSource};

struct Cached {
    directory: tempfile::TempDir,
    settings: EngineSettings,
}

impl Cached {
    fn new(pooling: Pooling) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = EngineSettings { cache_dir: Some(directory.path().join("code")), ..settings(pooling) };
        Self { directory, settings }
    }

    fn code(&self) -> PathBuf {
        self.directory.path().join("code")
    }

    /// A new engine over the same directory, as after a restart.
    fn restart(&self) -> Wasm {
        let wasm = Wasm::new(self.settings.clone()).unwrap();
        assert!(wasm.cache_off().is_none(), "{:?}", wasm.cache_off());
        wasm
    }

    fn entries(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> = std::fs::read_dir(self.code())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "cwasm"))
            .collect();
        paths.sort();
        paths
    }
}

/// A guest that adds `number`, so that different numbers are different components.
fn adder(number: u32) -> WasmSource {
    let core = format!(
        r#"(memory 2) (data (i32.const 70000) "\07")
        (func (export "run") (param i32) (result i32)
            (i32.add (i32.add (local.get 0) (i32.const {number})) (i32.load8_u (i32.const 70000))))"#
    );
    WasmSource::bytes(binary(&guest(&core)))
}

/// Loads the source and checks that it runs as itself.
async fn works(wasm: &Wasm, source: &WasmSource, number: u32) {
    let component = wasm.component(source).await.unwrap();
    let (mut store, instance) = start(wasm, &component, Limits::default()).await.unwrap();
    assert_eq!(run(&mut store, instance, PLENTY, 100).await.unwrap(), 107 + number);
}

const HIT: CacheStats = CacheStats { hits: 1, misses: 0, rejected: 0, compiled: 0, write_failures: 0 };
const COMPILED: CacheStats = CacheStats { hits: 0, misses: 1, rejected: 0, compiled: 1, write_failures: 0 };
const REJECTED: CacheStats = CacheStats { hits: 0, misses: 1, rejected: 1, compiled: 1, write_failures: 0 };

#[tokio::test]
async fn the_second_load_does_not_compile() {
    for pooling in [Pooling::Auto, Pooling::Off] {
        let cached = Cached::new(pooling);
        let wasm = cached.restart();
        works(&wasm, &adder(1), 1).await;
        assert_eq!(wasm.cache_stats(), COMPILED);
        assert_eq!(cached.entries().len(), 1);
        let wasm = cached.restart();
        works(&wasm, &adder(1), 1).await;
        assert_eq!(wasm.cache_stats(), HIT);
        works(&wasm, &adder(2), 2).await;
        assert_eq!(cached.entries().len(), 2);
    }
}

#[tokio::test]
async fn everything_in_the_directory_is_private() {
    let cached = Cached::new(Pooling::Off);
    works(&cached.restart(), &adder(1), 1).await;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&cached.code()), 0o700);
    assert_eq!(mode(&cached.code().join("host-key")), 0o600);
    assert_eq!(mode(&cached.entries()[0]), 0o600);
    assert_eq!(std::fs::read_dir(cached.code()).unwrap().count(), 2, "nothing unfinished is left");
}

#[tokio::test]
async fn a_changed_byte_anywhere_is_a_miss_and_the_component_still_works() {
    let cached = Cached::new(Pooling::Off);
    works(&cached.restart(), &adder(1), 1).await;
    let path = &cached.entries()[0];
    let good = std::fs::read(path).unwrap();
    for position in [0, 20, good.len() / 3, good.len() / 2, good.len() - 70, good.len() - 40, good.len() - 1] {
        let mut bad = good.clone();
        bad[position] ^= 1;
        std::fs::remove_file(path).unwrap();
        write_private(path, &bad);
        let wasm = cached.restart();
        works(&wasm, &adder(1), 1).await;
        assert_eq!(wasm.cache_stats(), REJECTED, "byte {position}");
        let wasm = cached.restart();
        works(&wasm, &adder(1), 1).await;
        assert_eq!(wasm.cache_stats(), HIT, "the bad file was replaced");
    }
    for bad in [Vec::new(), good[..100].to_vec(), good[..good.len() - 1].to_vec(), [&good[..], b"x"].concat()] {
        std::fs::remove_file(path).unwrap();
        write_private(path, &bad);
        let wasm = cached.restart();
        works(&wasm, &adder(1), 1).await;
        assert_eq!(wasm.cache_stats(), REJECTED);
    }
}

fn write_private(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn another_components_code_under_this_name_is_a_miss() {
    let cached = Cached::new(Pooling::Off);
    let wasm = cached.restart();
    works(&wasm, &adder(1), 1).await;
    works(&wasm, &adder(2), 2).await;
    let [first, second] = &cached.entries()[..] else { panic!() };
    let parked = cached.code().join("parked");
    std::fs::rename(first, &parked).unwrap();
    std::fs::rename(second, first).unwrap();
    std::fs::rename(&parked, second).unwrap();
    let wasm = cached.restart();
    works(&wasm, &adder(1), 1).await;
    assert_eq!(wasm.cache_stats(), REJECTED);
    works(&wasm, &adder(2), 2).await;
    assert_eq!(wasm.cache_stats().rejected, 2);
}

#[tokio::test]
async fn code_of_another_host_key_is_a_miss() {
    let (ours, theirs) = (Cached::new(Pooling::Off), Cached::new(Pooling::Off));
    works(&ours.restart(), &adder(1), 1).await;
    works(&theirs.restart(), &adder(1), 1).await;
    std::fs::rename(&theirs.entries()[0], &ours.entries()[0]).unwrap();
    let wasm = ours.restart();
    works(&wasm, &adder(1), 1).await;
    assert_eq!(wasm.cache_stats(), REJECTED);
}

#[tokio::test]
async fn links_pipes_and_readable_files_are_not_used() {
    let cached = Cached::new(Pooling::Off);
    works(&cached.restart(), &adder(1), 1).await;
    let path = &cached.entries()[0];
    let aside = cached.code().join("aside");

    std::fs::rename(path, &aside).unwrap();
    symlink(&aside, path).unwrap();
    let wasm = cached.restart();
    works(&wasm, &adder(1), 1).await;
    assert_eq!(wasm.cache_stats(), REJECTED);

    std::fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    let wasm = cached.restart();
    works(&wasm, &adder(1), 1).await;
    assert_eq!(wasm.cache_stats(), REJECTED);

    std::fs::remove_file(path).unwrap();
    let made = std::process::Command::new("mkfifo").arg("-m").arg("600").arg(path).status().unwrap();
    assert!(made.success());
    let wasm = cached.restart();
    works(&wasm, &adder(1), 1).await;
    assert_eq!(wasm.cache_stats(), REJECTED);
}

#[tokio::test]
async fn a_directory_others_may_enter_turns_the_cache_off_with_the_command_to_fix_it() {
    let cached = Cached::new(Pooling::Off);
    std::fs::create_dir(cached.code()).unwrap();
    std::fs::set_permissions(cached.code(), Permissions::from_mode(0o755)).unwrap();
    let wasm = Wasm::new(cached.settings.clone()).unwrap();
    let off = wasm.cache_off().unwrap();
    assert!(matches!(off, CacheOff::TooOpen { mode: 0o755, .. }), "{off}");
    assert!(off.hints()[0].starts_with("run `chmod go-rwx "), "{:?}", off.hints());
    works(&wasm, &adder(1), 1).await;
    assert_eq!(std::fs::read_dir(cached.code()).unwrap().count(), 0, "nothing was written there");

    std::fs::set_permissions(cached.code(), Permissions::from_mode(0o700)).unwrap();
    works(&cached.restart(), &adder(1), 1).await;
    assert_eq!(cached.entries().len(), 1);
}

#[tokio::test]
async fn a_key_that_is_readable_or_damaged_turns_the_cache_off() {
    let cached = Cached::new(Pooling::Off);
    drop(cached.restart());
    let key = cached.code().join("host-key");
    let bytes = std::fs::read(&key).unwrap();
    assert_eq!(bytes.len(), 32);
    drop(cached.restart());
    assert_eq!(std::fs::read(&key).unwrap(), bytes, "the key stays the same");

    std::fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    let wasm = Wasm::new(cached.settings.clone()).unwrap();
    assert!(matches!(wasm.cache_off(), Some(CacheOff::TooOpen { mode: 0o640, .. })));
    for bad in [&bytes[..31], &[&bytes[..], b"x"].concat()] {
        write_private(&key, bad);
        let wasm = Wasm::new(cached.settings.clone()).unwrap();
        assert!(matches!(wasm.cache_off(), Some(CacheOff::BadKey { .. })));
        works(&wasm, &adder(1), 1).await;
    }
}

#[tokio::test]
async fn an_unusable_directory_costs_speed_only() {
    let cached = Cached::new(Pooling::Off);
    std::fs::write(cached.code(), "a file").unwrap();
    let wasm = Wasm::new(cached.settings.clone()).unwrap();
    assert!(matches!(wasm.cache_off(), Some(CacheOff::Io { .. })), "{:?}", wasm.cache_off());
    works(&wasm, &adder(1), 1).await;
}

#[tokio::test]
async fn a_directory_that_vanishes_costs_speed_only() {
    let cached = Cached::new(Pooling::Off);
    let wasm = cached.restart();
    std::fs::remove_dir_all(cached.code()).unwrap();
    works(&wasm, &adder(1), 1).await;
    assert_eq!(wasm.cache_stats(), CacheStats { write_failures: 1, ..COMPILED });
}

#[tokio::test]
async fn a_known_digest_spares_reading_the_file() {
    let cached = Cached::new(Pooling::Off);
    let path = cached.directory.path().join("adder.wasm");
    let crate::source::Origin::Bytes(bytes) = adder(3).origin else { panic!() };
    std::fs::write(&path, &bytes).unwrap();
    let (digest, stamp) = crate::digest_file(&path).await.unwrap();
    assert_eq!(digest, Digest::of(&bytes));
    assert_eq!(stamp, crate::FileStamp::of(&path.metadata().unwrap()));
    let source = WasmSource::file(&path).with_digest(digest);
    works(&cached.restart(), &source, 3).await;
    std::fs::remove_file(&path).unwrap();
    let wasm = cached.restart();
    works(&wasm, &source, 3).await;
    assert_eq!(wasm.cache_stats(), HIT);

    // A file that is not what the digest says is neither run nor cached under that digest.
    let other = WasmSource::file(&path).with_digest(Digest::of(b"something else"));
    std::fs::write(&path, &bytes).unwrap();
    let error = wasm.component(&other).await.err().unwrap();
    assert!(matches!(error, LoadError::Changed { actual, .. } if actual == digest), "{error}");
    assert_eq!(cached.entries().len(), 1);
}

#[tokio::test]
async fn unreadable_files_are_named() {
    let cached = Cached::new(Pooling::Off);
    let wasm = cached.restart();
    for path in [cached.directory.path().join("missing.wasm"), cached.directory.path().to_owned()] {
        let error = wasm.component(&WasmSource::file(&path)).await.err().unwrap();
        assert!(matches!(&error, LoadError::Read { path: named, .. } if *named == path), "{error}");
        assert!(error.hints()[0].contains(path.to_str().unwrap()));
    }
    let error = wasm.component(&WasmSource::bytes(binary("(module)"))).await.err().unwrap();
    assert!(matches!(error, LoadError::Compile(crate::CompileError::CoreModule)));
    let large = Wasm::new(EngineSettings { max_component_bytes: 10, ..cached.settings.clone() }).unwrap();
    let path = cached.directory.path().join("large.wasm");
    std::fs::write(&path, [0; 11]).unwrap();
    let error = large.component(&WasmSource::file(&path)).await.err().unwrap();
    assert!(matches!(error, LoadError::Compile(crate::CompileError::TooLarge { size_bytes: 11, .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_want_the_same_component_compile_it_once() {
    let cached = Cached::new(Pooling::Off);
    let wasm = cached.restart();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let wasm = wasm.clone();
        tasks.spawn(async move { works(&wasm, &adder(1), 1).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(wasm.cache_stats().compiled, 1);
}

#[tokio::test]
async fn a_lazy_component_is_loaded_on_first_use_and_retried_after_a_failure() {
    let cached = Cached::new(Pooling::Off);
    let wasm = cached.restart();
    let path = cached.directory.path().join("late.wasm");
    let lazy = wasm.lazy_component(WasmSource::file(&path));
    assert!(lazy.get().await.is_err());
    assert!(lazy.loaded().is_none());
    let crate::source::Origin::Bytes(bytes) = adder(1).origin else { panic!() };
    std::fs::write(&path, &bytes).unwrap();
    lazy.get().await.unwrap();
    lazy.get().await.unwrap();
    assert_eq!(wasm.cache_stats().compiled, 1);
    assert!(lazy.loaded().is_some());
}

#[tokio::test]
async fn engines_with_other_settings_do_not_share_code() {
    let cached = Cached::new(Pooling::Off);
    works(&cached.restart(), &adder(1), 1).await;
    let mut config = crate::config::on_demand();
    config.cranelift_opt_level(wasmtime::OptLevel::None);
    let other = wasmtime::Engine::new(&config).unwrap();
    let ours = cached.restart();
    let hash = crate::source::EngineHash::of;
    assert_ne!(hash(&other).0, hash(ours.engine()).0);
    assert_eq!(hash(cached.restart().engine()).0, hash(ours.engine()).0);
}

#[tokio::test]
async fn the_cache_stays_within_its_bounds_and_leaves_foreign_files_alone() {
    let mut cached = Cached::new(Pooling::Off);
    cached.settings.cache_bounds = CacheBounds { max_entries: 2, ..CacheBounds::default() };
    let wasm = cached.restart();
    let old = |path: &Path, hours: u64| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    let crashed = cached.code().join(".writing-0123");
    let running = cached.code().join(".writing-4567");
    let foreign = cached.code().join("README");
    for path in [&crashed, &running, &foreign] {
        std::fs::write(path, "x").unwrap();
    }
    old(&crashed, 2);
    old(&foreign, 100_000);

    works(&wasm, &adder(1), 1).await;
    let first = cached.entries();
    old(&first[0], 3);
    works(&wasm, &adder(2), 2).await;
    works(&wasm, &adder(3), 3).await;
    assert_eq!(cached.entries().len(), 2);
    assert!(!first[0].exists(), "the oldest went");
    assert!(!crashed.exists() && running.exists() && foreign.exists());

    cached.settings.cache_bounds = CacheBounds { max_bytes: 1, ..CacheBounds::default() };
    works(&cached.restart(), &adder(4), 4).await;
    assert_eq!(cached.entries().len(), 0);

    cached.settings.cache_bounds = CacheBounds::default();
    works(&cached.restart(), &adder(5), 5).await;
    old(&cached.entries()[0], 91 * 24);
    works(&cached.restart(), &adder(6), 6).await;
    assert_eq!(cached.entries().len(), 1);
}

#[tokio::test]
async fn use_keeps_an_entry_young_and_running_code_survives_its_file() {
    let cached = Cached::new(Pooling::Off);
    works(&cached.restart(), &adder(1), 1).await;
    let path = cached.entries()[0].clone();
    let old = SystemTime::now() - Duration::from_secs(40 * 24 * 3600);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    let wasm = cached.restart();
    let component = wasm.component(&adder(1)).await.unwrap();
    assert_eq!(wasm.cache_stats(), HIT);
    assert!(path.metadata().unwrap().modified().unwrap() > old + Duration::from_secs(3600));
    std::fs::remove_file(&path).unwrap();
    let (mut store, instance) = start(&wasm, &component, Limits::default()).await.unwrap();
    assert_eq!(run(&mut store, instance, PLENTY, 1).await.unwrap(), 9);
}
