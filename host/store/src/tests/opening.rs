use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::runs::{done, request, said as user};
use super::{denied, key, received, store};
use crate::file::Schema;
use crate::{AuditQuery, KvStore, Store, StoreError, TakenRun};

/// A data directory that holds `name`, made by `sql`.
fn folder_with(name: &str, sql: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let connection = Connection::open(folder.path().join(name)).unwrap();
    connection.execute_batch(sql).unwrap();
    folder
}

fn schema_of(path: PathBuf) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement =
        connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Opening must fail and leave the folder as it is, to the byte.
fn refused(folder: &Path) -> StoreError {
    let contents = || {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .map(|path| (std::fs::read(&path).unwrap(), path))
            .collect();
        files.sort();
        files
    };
    let before = contents();
    let error = Store::open(folder).unwrap_err();
    assert_eq!(contents(), before);
    assert!(error.to_string().contains("core.db"), "{error}");
    assert!(!error.hints().is_empty());
    error
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    for garbage in [&b"not a database"[..], &[7; 10_000], b"SQLite format 3\0 but then something else entirely"] {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("core.db"), garbage).unwrap();
        let error = refused(folder.path());
        assert!(matches!(error, StoreError::NotADatabase { .. }), "{error:?}");
        assert!(error.hints()[0].contains("mv "), "{:?}", error.hints());
    }
}

#[test]
fn a_newer_database_is_left_alone() {
    let folder = folder_with(
        "core.db",
        "PRAGMA application_id = 0x4c43636f; PRAGMA user_version = 99; CREATE TABLE future (x);",
    );
    let error = refused(folder.path());
    assert!(matches!(error, StoreError::TooNew { found: 99, supported: 6, .. }), "{error:?}");
    assert!(error.to_string().contains("newer LeanClaw"), "{error}");
}

#[test]
fn another_programs_database_is_left_alone() {
    for sql in [
        "CREATE TABLE theirs (x);",
        "PRAGMA user_version = 1; CREATE TABLE theirs (x);",
        "PRAGMA application_id = 0x4c436b76; PRAGMA user_version = 1; CREATE TABLE owners (x);",
    ] {
        let error = refused(folder_with("core.db", sql).path());
        assert!(matches!(error, StoreError::Foreign { .. }), "{sql}: {error:?}");
    }
}

#[test]
fn a_damaged_database_is_said_to_be_damaged() {
    let (folder, store) = store();
    drop(store);
    let path = folder.path().join("core.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // The first page's table of cells; the header before it stays good.
    bytes[100..400].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(error.hints()[0].contains(".recover"), "{:?}", error.hints());
}

#[tokio::test]
async fn a_held_database_is_said_to_be_held() {
    let impatient = Schema { busy_timeout: Duration::from_millis(1), ..crate::store::SCHEMA };
    let folder = folder_with("core.db", "");
    let holder = Connection::open(folder.path().join("core.db")).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = Store::open_with(folder.path(), &impatient).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    assert!(error.hints()[0].contains("leanclaw start"), "{:?}", error.hints());
    holder.execute_batch("ROLLBACK").unwrap();

    let store = Store::open_with(folder.path(), &impatient).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.append_audit(denied("s")).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }) && error.is_retryable(), "{error:?}");
    holder.execute_batch("ROLLBACK").unwrap();
    store.append_audit(denied("s")).await.unwrap();
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("made/here");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;

    let store = Store::open(&folder).unwrap();
    let kv = KvStore::open(&folder).unwrap();
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    drop((store, kv));

    // A copy that came with wider rights loses them.
    let path = folder.join("core.db");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _store = Store::open(&folder).unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let parent = TempDir::new().unwrap();
    std::fs::write(parent.path().join("file"), "").unwrap();
    let error = Store::open(&parent.path().join("file")).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }) && error.to_string().contains("file"), "{error:?}");
    assert!(error.hints()[0].contains("LEANCLAW_DATA_DIR"));
}

#[tokio::test]
async fn a_version_1_core_database_keeps_all_it_holds() {
    let folder = folder_with("core.db", include_str!("data/core-version-1.sql"));
    let store = Store::open(folder.path()).unwrap();
    let grant = store.grant(&key("notes")).await.unwrap().unwrap();
    assert_eq!(grant.permissions.kv.unwrap().quota_bytes, 1000);
    assert_eq!((grant.granted_at_ms, grant.granted_by.as_str()), (1_700_000_000_000, "client:cli"));
    let audit = store.audit_tail(AuditQuery::default()).await.unwrap();
    assert_eq!(audit.iter().map(|row| row.id).collect::<Vec<_>>(), [7]);
    assert_eq!(store.append_audit(denied("s")).await.unwrap(), 8);
    assert_eq!(store.specs("aa").await.unwrap().as_deref(), Some("{\"tools\":[]}"));
    let inbox = store.inbox_after(0, 10).await.unwrap();
    assert_eq!(inbox[0].received.message.parts[0].blob.as_ref().unwrap().data, b"hi");
    assert_eq!(store.submit(received("m1")).await.unwrap(), crate::Submitted::Duplicate { id: 3 });
    assert_eq!(store.secret(&key("notes/work"), "key").unwrap().unwrap().expose(), "hunter2");
    assert_eq!(store.records("device").unwrap(), [("old".to_owned(), "{\"a\":1}".to_owned())]);
    assert_eq!(store.sessions_at_a_glance(5).unwrap(), []);
    drop(store);
    let connection = Connection::open(folder.path().join("core.db")).unwrap();
    assert_eq!(connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap(), 6);
}

#[tokio::test]
async fn a_version_5_core_database_keeps_what_was_said_and_takes_runs() {
    let folder = folder_with("core.db", include_str!("data/core-version-5.sql"));
    let store = Store::open(folder.path()).unwrap();
    let key = "agent:main:main";
    let session = store.session(key).unwrap().unwrap();
    assert_eq!((session.session_id.as_str(), session.label.as_deref()), ("5c1e", Some("Mine")));
    let said = store.history(key, std::collections::HashSet::new(), usize::MAX).await.unwrap();
    assert_eq!(said.iter().map(|message| (message.id, message.seq)).collect::<Vec<_>>(), [(12, 2), (13, 3)]);
    assert_eq!(store.open_runs().await.unwrap(), []);
    let taken = store.take_run(request("r", key), user("r", "hi", 1_700_000_000_004), 1).await.unwrap();
    let TakenRun::New(message, 1) = taken else { panic!("{taken:?}") };
    assert_eq!((message.id, message.seq), (14, 4));
    assert!(store.start_run("r", 1_700_000_000_005).await.unwrap());
    assert!(store.end_run("r", done(1_700_000_000_006)).await.unwrap().is_some());
    store.close().await;
    drop(KvStore::open(folder.path()).unwrap());
    for checked in crate::check_databases(folder.path()).unwrap() {
        assert_eq!((checked.schema_version, checked.problems), (Some(checked.supported_version), Vec::new()));
    }
}

#[tokio::test]
async fn a_version_1_kv_database_keeps_all_it_holds() {
    let folder = folder_with("plugin-kv.db", include_str!("data/kv-version-1.sql"));
    let store = KvStore::open(folder.path()).unwrap();
    let entry = store.get(&key("notes"), "k").await.unwrap().unwrap();
    assert_eq!((entry.value, entry.revision), (vec![1, 2, 3], 9));
    assert_eq!(store.usage(&key("notes")).await.unwrap(), 4);
    assert_eq!(store.put(&key("notes"), "k", vec![], Some(9), None, 100).await.unwrap(), 10);
}

#[test]
fn an_old_database_ends_up_like_a_new_one() {
    let (new, store) = store();
    drop(store);
    for old in [include_str!("data/core-version-1.sql"), include_str!("data/core-version-5.sql")] {
        let old = folder_with("core.db", old);
        drop(Store::open(old.path()).unwrap());
        assert_eq!(schema_of(old.path().join("core.db")), schema_of(new.path().join("core.db")));
    }

    drop(KvStore::open(new.path()).unwrap());
    let old = folder_with("plugin-kv.db", include_str!("data/kv-version-1.sql"));
    drop(KvStore::open(old.path()).unwrap());
    assert_eq!(schema_of(old.path().join("plugin-kv.db")), schema_of(new.path().join("plugin-kv.db")));
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_old_version_whole() {
    const FIRST: &str = include_str!("../../migrations/core-1.sql");
    let folder = folder_with("core.db", include_str!("data/core-version-1.sql"));
    let failing = Schema {
        migrations: &[FIRST, "CREATE TABLE next (x); DROP TABLE secrets;", "not sql"],
        ..crate::store::SCHEMA
    };
    Store::open_with(folder.path(), &failing).unwrap_err();
    let old = Schema { migrations: &[FIRST], ..crate::store::SCHEMA };
    assert_eq!(Store::open_with(folder.path(), &old).unwrap().secret_names(&key("notes/work")).await.unwrap(), ["key"]);

    let good = Schema {
        migrations: &[
            FIRST,
            "CREATE TABLE next (x)",
            "INSERT INTO next VALUES (1)",
            "CREATE TABLE later (x)",
            "CREATE TABLE later_still (x)",
            "CREATE TABLE later_yet (x)",
            "CREATE TABLE last (x)",
        ],
        ..crate::store::SCHEMA
    };
    for _ in 0..2 {
        // Each step runs once, however often the file is opened.
        let store = Store::open_with(folder.path(), &good).unwrap();
        assert_eq!(store.secret_names(&key("notes/work")).await.unwrap(), ["key"]);
        drop(store);
        let connection = Connection::open(folder.path().join("core.db")).unwrap();
        assert_eq!(connection.query_row("SELECT count(*) FROM next", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }
    assert!(matches!(refused(folder.path()), StoreError::TooNew { found: 7, supported: 6, .. }));
}
