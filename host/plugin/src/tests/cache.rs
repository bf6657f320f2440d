//! Compiled code on disk that somebody has changed.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leanclaw_test_guests as guests;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::plugin::PluginState;
use leanclaw_wasm::EngineSettings;

use super::support::{Bench, manifest, settings};

fn with_cache(place: &Path) -> EngineSettings {
    EngineSettings { cache_dir: Some(place.join("code")), ..settings() }
}

fn entries(place: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(place.join("code")).unwrap().map(|entry| entry.unwrap().path());
    let mut compiled: Vec<_> =
        all.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect();
    compiled.sort();
    compiled
}

/// The program starts again over the same folder, store and cache.
async fn restarted(bench: Bench, place: &Path) -> Bench {
    let (memory, folder) = (Arc::clone(&bench.memory), Arc::clone(&bench.folder));
    drop(bench);
    let bench = Bench::over(memory, folder, with_cache(place)).await;
    assert!(bench.wasm.cache_off().is_none(), "{:?}", bench.wasm.cache_off());
    for id in ["one", "two", "witness"] {
        bench.until(id, |info| info.state == PluginState::Ready).await;
    }
    bench
}

async fn all_are_themselves(bench: &Bench) {
    assert_eq!(bench.run("one", "{}").await.unwrap(), "1");
    assert_eq!(bench.run("two", "{}").await.unwrap(), "2");
    bench.still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_or_changed_code_is_never_run() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::over(Arc::default(), Arc::new(tempfile::tempdir().unwrap()), with_cache(place.path())).await;
    bench.install(&manifest("witness"), &guests::echo().unwrap()).await;
    bench.install(&manifest("one"), &guests::answers("1").unwrap()).await;
    bench.install(&manifest("two"), &guests::answers("2").unwrap()).await;
    all_are_themselves(&bench).await;
    let compiled = entries(place.path());
    assert_eq!(compiled.len(), 3);

    let bench = restarted(bench, place.path()).await;
    all_are_themselves(&bench).await;
    let stats = bench.wasm.cache_stats();
    assert_eq!((stats.hits, stats.compiled, stats.rejected), (3, 0, 0), "good code is used");

    // Every entry gets another's code.
    let contents: Vec<Vec<u8>> = compiled.iter().map(|path| std::fs::read(path).unwrap()).collect();
    for (number, path) in compiled.iter().enumerate() {
        std::fs::write(path, &contents[(number + 1) % contents.len()]).unwrap();
    }
    let bench = restarted(bench, place.path()).await;
    all_are_themselves(&bench).await;
    let stats = bench.wasm.cache_stats();
    assert_eq!((stats.hits, stats.compiled, stats.rejected), (0, 3, 3));

    // One byte of each is changed, somewhere in the code.
    for path in entries(place.path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        std::fs::write(&path, bytes).unwrap();
    }
    let bench = restarted(bench, place.path()).await;
    all_are_themselves(&bench).await;
    let stats = bench.wasm.cache_stats();
    assert_eq!((stats.hits, stats.compiled, stats.rejected), (0, 3, 3));

    let bench = restarted(bench, place.path()).await;
    all_are_themselves(&bench).await;
    assert_eq!(bench.wasm.cache_stats().hits, 3, "the bad entries were replaced");
    bench.close().await;
}

/// What was known at the start is loaded when it is first called, so that may be when it turns out that it cannot be.
#[tokio::test(flavor = "multi_thread")]
async fn code_that_is_gone_when_it_is_first_called_is_a_fault_that_everybody_sees() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::over(Arc::default(), Arc::new(tempfile::tempdir().unwrap()), with_cache(place.path())).await;
    for id in ["one", "two", "witness"] {
        bench.install(&manifest(id), &guests::echo().unwrap()).await;
    }
    let bench = restarted(bench, place.path()).await;
    entries(place.path()).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    std::fs::write(bench.folder.path().join("one/plugin.wasm"), b"garbage").unwrap();
    let failure = bench.run("one", "{}").await.unwrap_err();
    assert_eq!(failure.code, "unavailable", "{failure:?}");
    bench.until("one", |info| info.state == PluginState::Faulted).await;
    let tells = |row: &AuditRecord| matches!(&row.event, AuditEvent::PluginState { state, .. } if state == "faulted");
    bench
        .wait("no row", || {
            let rows = bench.memory.audit.lock().unwrap();
            rows.iter().any(|row| row.actor == "plugin:one" && tells(row)).then_some(())
        })
        .await;
    assert_eq!(bench.run("two", "1").await.unwrap(), "1");
    bench.close().await;
}

/// Holds a file so that whoever opens it without waiting is told to come again, until what is returned is dropped.
#[expect(unsafe_code, reason = "the standard library has no leases")]
fn held(path: &Path) -> File {
    let file = File::open(path).unwrap();
    // SAFETY: the descriptor is open for the time of both calls, and both take numbers only.
    let done = unsafe {
        let lease = libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK);
        // Nobody is to be signalled that another one wants the file: that would end the tests.
        [lease, libc::fcntl(file.as_raw_fd(), libc::F_SETOWN, 0)]
    };
    assert_eq!(done, [0, 0], "{}", std::io::Error::last_os_error());
    file
}

/// What may pass says nothing about the plugin: the call is told to come again, and the next one reads the code.
#[tokio::test(flavor = "multi_thread")]
async fn code_that_cannot_be_read_when_it_is_first_called_is_read_by_the_next_call() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::over(Arc::default(), Arc::new(tempfile::tempdir().unwrap()), with_cache(place.path())).await;
    for id in ["one", "two", "witness"] {
        bench.install(&manifest(id), &guests::answers("1").unwrap()).await;
    }
    let bench = restarted(bench, place.path()).await;
    entries(place.path()).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let holder = held(&bench.folder.path().join("one/plugin.wasm"));
    for _ in 0..2 {
        let failure = bench.run("one", "{}").await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retry_after_ms), ("unavailable", Some(1000)), "{failure:?}");
        let info = bench.plugins.inspect(&"one".parse().unwrap()).unwrap();
        assert_eq!(info.state, PluginState::Ready, "{}", info.reason);
    }
    assert_eq!(bench.lines("one").len(), 2, "each is in its log: {:?}", bench.lines("one"));
    drop(holder);
    assert_eq!(bench.run("one", "{}").await.unwrap(), "1");
}
