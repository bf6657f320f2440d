//! Checking, backing up and restoring, mostly while the stores are open and written to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use tempfile::TempDir;

use super::runs::{request, said};
use super::sessions::{put, row};
use super::{denied, key, received, record};
use crate::{AuditQuery, KvStore, Store, StoreError, TakenRun, back_up, check_databases, restore};

async fn filled() -> (TempDir, Store, KvStore) {
    let folder = TempDir::new().unwrap();
    let (store, kv) = (Store::open(folder.path()).unwrap(), KvStore::open(folder.path()).unwrap());
    store.submit(received("m1")).await.unwrap();
    let served = [record("device", "d", Some("{}")), record("key", "identity", Some("\"k\""))];
    store.change_records(served.into(), vec![]).await.unwrap();
    kv.put(&key("notes"), "k", vec![1; 100], None, None, u64::MAX).await.unwrap();
    put(&store, row("agent:main:main", 1)).await;
    let taken = store.take_run(request("r", "agent:main:main"), said("r", "hi", 7), 1).await.unwrap();
    assert!(matches!(taken, TakenRun::New(..)), "{taken:?}");
    (folder, store, kv)
}

fn problems(folder: &Path) -> Vec<(String, String)> {
    let all = check_databases(folder).unwrap();
    let of = |file: &crate::CheckedFile| {
        assert_eq!(file.problems.is_empty(), file.hints.is_empty(), "{file:?}");
        let name = file.path.file_name().unwrap().to_string_lossy().into_owned();
        file.problems.iter().map(move |problem| (name.clone(), problem.clone())).collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

fn break_with(folder: &Path, file: &str, sql: &str) {
    Connection::open(folder.join(file)).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn good_files_are_good_while_they_are_open() {
    let (folder, _store, _kv) = filled().await;
    assert_eq!(problems(folder.path()), []);
    let checked = check_databases(folder.path()).unwrap();
    assert_eq!(checked.len(), 2);
    assert!(checked.iter().all(|file| file.schema_version == Some(file.supported_version)), "{checked:?}");
}

#[tokio::test]
async fn what_the_first_start_makes_is_not_missed_before_it() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.change_records(vec![record("device", "d", Some("{}"))], vec![]).await.unwrap();
    assert_eq!(problems(folder.path()), []);
    assert_eq!(check_databases(folder.path()).unwrap()[1].schema_version, None);
    store.change_records(vec![record("key", "identity", Some("\"k\""))], vec![]).await.unwrap();
    let found = problems(folder.path());
    assert!(found.len() == 1 && found[0].0 == "plugin-kv.db" && found[0].1.contains("is missing"), "{found:?}");
}

#[tokio::test]
async fn what_no_longer_fits_together_is_said() {
    let breaks = [
        ("core.db", "INSERT INTO session_counts VALUES ('ada', 0, 'direct', 5)", "agent ada that are not there"),
        ("core.db", "UPDATE runs SET message = 99", "run r answers a message that is not there"),
        ("core.db", "UPDATE runs SET state = 'ended'", "run r is neither open nor ended"),
        ("core.db", "UPDATE runs SET state = 'paused'", "run r is neither open nor ended"),
        ("core.db", "UPDATE runs SET request = 'x'", "run r is not JSON"),
        ("core.db", "PRAGMA foreign_keys = 0; UPDATE runs SET session = 99", "a row of runs refers to one of sessions"),
        ("core.db", "PRAGMA foreign_keys = 0; DELETE FROM inbox", "a row of inbox_blobs refers to one of inbox"),
        ("core.db", "UPDATE records SET body = 'x' WHERE kind = 'device'", "record device/d is not JSON"),
        ("plugin-kv.db", "UPDATE owners SET stored_bytes = 7", "notes/default take 101 bytes where 7 are counted"),
        ("core.db", "PRAGMA user_version = 0; DROP TABLE inbox_blobs", "empty"),
        ("core.db", "PRAGMA user_version = 99", "newer LeanClaw"),
    ];
    for (file, sql, expected) in breaks {
        let (folder, store, kv) = filled().await;
        drop((store, kv));
        break_with(folder.path(), file, sql);
        let found = problems(folder.path());
        assert!(found.len() == 1 && found[0].0 == file && found[0].1.contains(expected), "{sql}: {found:?}");
    }
}

#[tokio::test]
async fn damage_and_absence_are_said() {
    let (folder, store, kv) = filled().await;
    drop((store, kv));
    std::fs::remove_file(folder.path().join("plugin-kv.db")).unwrap();
    let path = folder.path().join("core.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let last_pages = bytes.len() - 8192;
    bytes[last_pages..].fill(0x55);
    std::fs::write(&path, bytes).unwrap();
    let found = problems(folder.path());
    assert!(found.iter().any(|(file, problem)| file == "plugin-kv.db" && problem.contains("missing")), "{found:?}");
    assert!(found.iter().any(|(file, _)| file == "core.db"), "{found:?}");

    let empty = TempDir::new().unwrap();
    assert!(matches!(check_databases(empty.path()), Err(StoreError::NoDatabases { .. })));
    assert!(matches!(
        back_up(folder.path(), &empty.path().join("b"), false),
        Err(StoreError::Corrupt { .. } | StoreError::NotADatabase { .. })
    ));
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "a backup that failed leaves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_while_everything_is_written_is_whole_and_can_be_put_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, store, kv) = filled().await;
    let (store, kv, stop) = (Arc::new(store), Arc::new(kv), Arc::new(AtomicBool::new(false)));
    let writing = tokio::spawn({
        let (store, kv, stop) = (Arc::clone(&store), Arc::clone(&kv), Arc::clone(&stop));
        async move {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                store.append_audit(denied(&number.to_string())).await.unwrap();
                kv.put(&key("notes"), "count", number.to_string().into_bytes(), None, None, u64::MAX).await.unwrap();
            }
            number
        }
    });
    let place = TempDir::new().unwrap();
    let backup = place.path().join("made/here");
    let mut audited = 0;
    for _ in 0..3 {
        let copied = tokio::task::block_in_place(|| back_up(folder.path(), &backup, true)).unwrap();
        assert_eq!(copied.len(), 2);
        assert_eq!(problems(&backup), []);
        // Looking at a backup may leave a log beside it, which is a part of it.
        for entry in std::fs::read_dir(&backup).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o700);
        let rows = Connection::open(backup.join("core.db")).unwrap();
        let now: i64 = rows.query_row("SELECT count(*) FROM audit", [], |row| row.get(0)).unwrap();
        assert!(now >= audited);
        audited = now;
    }
    stop.store(true, Ordering::Relaxed);
    let written: i64 = writing.await.unwrap();
    assert!(audited <= written);
    // What comes after the backup is what restoring it undoes.
    store.change_records(vec![record("device", "late", Some("{}"))], vec![]).await.unwrap();
    store.close().await;
    kv.close().await;
    drop((store, kv));

    // A program that was killed leaves a log; it belongs to the old file and must not be played into the restored one.
    std::fs::write(folder.path().join("core.db-wal"), b"of the old one").unwrap();
    let aside = folder.path().join("replaced");
    restore(folder.path(), &backup, &aside).unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.records("device").unwrap(), [("d".to_owned(), "{}".to_owned())]);
    assert_eq!(store.open_runs().await.unwrap()[0].request, request("r", "agent:main:main"));
    let rows = store.audit_tail(AuditQuery { limit: 1000, ..AuditQuery::default() }).await.unwrap();
    assert_eq!(i64::try_from(rows.len()).unwrap(), audited.min(1000));
    drop(store);
    std::fs::remove_file(aside.join("core.db-wal")).unwrap();
    assert_eq!(Store::open(&aside).unwrap().records("device").unwrap().len(), 2, "what was there is kept");
    assert!(backup.join("core.db").is_file(), "the backup stays");
}

#[tokio::test]
async fn nothing_is_overwritten_unless_told_and_nothing_foreign_ever() {
    let (folder, _store, _kv) = filled().await;
    let place = TempDir::new().unwrap();
    let backup = place.path().join("backup");
    back_up(folder.path(), &backup, false).unwrap();
    let again = back_up(folder.path(), &backup, false).unwrap_err();
    assert!(matches!(again, StoreError::Occupied { .. }) && again.hints()[0].contains("--force"), "{again:?}");
    back_up(folder.path(), &backup, true).unwrap();
    std::fs::write(backup.join("mine"), "x").unwrap();
    assert!(matches!(back_up(folder.path(), &backup, true), Err(StoreError::Occupied { .. })));
    assert_eq!(std::fs::read(backup.join("mine")).unwrap(), b"x");
    assert!(back_up(folder.path(), &backup.join("mine"), true).is_err());
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "nothing half is left");
}

#[tokio::test]
async fn a_bad_backup_is_not_put_back() {
    let (folder, store, kv) = filled().await;
    drop((store, kv));
    let place = TempDir::new().unwrap();
    assert!(matches!(
        restore(folder.path(), place.path(), &folder.path().join("aside")),
        Err(StoreError::NoDatabases { .. })
    ));
    std::fs::write(place.path().join("core.db"), b"nothing of the kind, but long enough").unwrap();
    let error = restore(folder.path(), place.path(), &folder.path().join("aside")).unwrap_err();
    assert!(matches!(error, StoreError::NotADatabase { .. }), "{error:?}");
    let newer = place.path().join("newer");
    back_up(folder.path(), &newer, false).unwrap();
    break_with(&newer, "core.db", "PRAGMA user_version = 99");
    let error = restore(folder.path(), &newer, &folder.path().join("aside")).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { .. }), "{error:?}");
    assert!(!folder.path().join("aside").exists());
    assert_eq!(problems(folder.path()), []);
    assert_eq!(Store::open(folder.path()).unwrap().records("device").unwrap().len(), 1);
}
