//! What is said of a file that cannot be written, and when it stops being said.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use leanclaw_types::redact::Secret;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{denied, key, kv_store};
use crate::database::Database;
use crate::error::StoreError::{Corrupt, DiskFull, LogKept};
use crate::file::Schema;
use crate::queue::Lane;
use crate::trouble::{self, Trouble};
use crate::{KvError, Store, StoreError};

/// So that nobody waits long.
const HASTY: Schema =
    Schema { busy_timeout: Duration::from_millis(1), retry_pause: Duration::from_millis(1), ..crate::store::SCHEMA };
/// So that nothing is tried again meanwhile.
const PATIENT: Schema = Schema { retry_pause: Duration::from_secs(3600), ..crate::store::SCHEMA };
/// Long enough for many attempts.
const WHILE: Duration = Duration::from_millis(50);

fn hasty_store() -> (TempDir, Store) {
    let folder = TempDir::new().unwrap();
    let store = Store::open_with(folder.path(), &HASTY).unwrap();
    (folder, store)
}

fn full() -> StoreError {
    DiskFull { path: PathBuf::new() }
}

fn corrupt() -> StoreError {
    Corrupt { path: PathBuf::new(), message: "page 7".into() }
}

fn log_kept() -> StoreError {
    LogKept { path: PathBuf::new(), message: "no room".into() }
}

/// Lets the file have so many pages; none: no more than it has. Writes nothing.
async fn bound(database: &Database, pages: Option<i64>) {
    let set = move |connection: &Connection| {
        let has = || connection.query_row("PRAGMA page_count", [], |row| row.get(0));
        let pages = pages.map_or_else(has, Ok)?;
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        Ok::<_, StoreError>(())
    };
    database.write(Lane::Host, 0, set).await.unwrap();
}

/// Waits until nothing is wrong any more, and writes nothing.
async fn until_well(database: &Database) {
    let wait = async {
        while database.trouble().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it is found out that all is well");
}

#[tokio::test]
async fn a_full_disk_is_trouble_until_there_is_room_and_nobody_has_to_write() {
    let (folder, store) = hasty_store();
    assert!(store.trouble().is_none());
    bound(&store.database, None).await;
    let large = || Secret::new("x".repeat(100_000));
    store.put_secret(&key("notes"), "k", large(), denied("s")).await.unwrap_err();
    let wrong = store.trouble().expect("the disk is full");
    assert!(matches!(wrong, StoreError::DiskFull { .. }), "{wrong:?}");
    let said = format!("{wrong} {:?}", wrong.hints());
    assert!(said.contains("`core.db`") && said.contains("space"), "{said}");
    assert!(!said.contains(folder.path().to_str().unwrap()), "not where it lies: {said}");

    store.database.write(Lane::Host, 0, |_| Ok::<_, StoreError>(())).await.unwrap();
    assert!(store.trouble().is_some(), "nothing was written, so nothing is proved");
    tokio::time::sleep(WHILE).await;
    assert!(store.trouble().is_some(), "there is no more room than before");
    bound(&store.database, Some(1_000_000)).await;
    until_well(&store.database).await;
    let left: i64 = store
        .database
        .read(|connection| {
            let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'room_check'";
            Ok::<_, StoreError>(connection.query_row(sql, [], |row| row.get(0))?)
        })
        .unwrap();
    assert_eq!(left, 0, "finding out leaves nothing behind");
    store.put_secret(&key("notes"), "k", large(), denied("s")).await.unwrap();
}

#[tokio::test]
async fn plugins_data_is_in_trouble_on_its_own_and_a_write_that_succeeds_ends_it() {
    let (_folder, store) = kv_store();
    let put = async |name: &str| store.put(&key("notes"), name, vec![7; 500_000], None, None, u64::MAX).await;
    bound(&store.database, None).await;
    assert!(matches!(put("k").await, Err(KvError::Store(StoreError::DiskFull { .. }))));
    assert!(store.trouble().expect("the disk is full").to_string().contains("`plugin-kv.db`"));
    bound(&store.database, Some(1_000_000)).await;
    put("k").await.unwrap();
    assert!(store.trouble().is_none(), "known before the answer");
    assert!(matches!(
        store.put(&key("notes"), "k", vec![1], Some(0), None, u64::MAX).await,
        Err(KvError::Conflict { .. })
    ));
    assert!(store.trouble().is_none(), "a refusal is no trouble of the file");
}

#[tokio::test]
async fn a_file_that_another_program_holds_is_trouble() {
    let (folder, store) = hasty_store();
    let other = Connection::open(folder.path().join("core.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(store.append_audit(denied("s")).await, Err(StoreError::Locked { .. })));
    assert!(matches!(store.trouble(), Some(StoreError::Locked { .. })));
    other.execute_batch("ROLLBACK").unwrap();
    until_well(&store.database).await;
}

#[tokio::test]
async fn a_long_log_is_folded_in_while_the_file_is_open() {
    let (folder, store) = hasty_store();
    let large = || Secret::new("x".repeat(5_000_000));
    for name in ["a", "b", "c", "d"] {
        store.put_secret(&key("notes"), name, large(), denied("s")).await.unwrap();
    }
    let bytes = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    assert!(bytes("core.db") > 20_000_000 && bytes("core.db-wal") < 10_000_000, "{}", bytes("core.db-wal"));
    assert!(store.trouble().is_none());
}

#[tokio::test]
async fn a_damaged_file_stays_one_whatever_else_is_written() {
    let (folder, store) = hasty_store();
    store.database.write(Lane::Host, 0, |_| Err::<(), _>(corrupt())).await.unwrap_err();
    store.append_audit(denied("s")).await.unwrap();
    store.database.write(Lane::Host, 0, |_| Err::<(), _>(full())).await.unwrap_err();
    tokio::time::sleep(WHILE).await;
    let wrong = store.trouble().expect("that the rest of it takes writes makes nothing whole");
    assert!(matches!(wrong, Corrupt { .. }), "{wrong:?}");
    drop(store);
    assert!(Store::open_with(folder.path(), &HASTY).unwrap().trouble().is_none());
}

#[tokio::test]
async fn what_is_stored_beside_a_write_that_failed_does_not_make_that_good() {
    let folder = TempDir::new().unwrap();
    let store = Store::open_with(folder.path(), &PATIENT).unwrap();
    // The writer is held, so that the two that come next are in one transaction.
    let (entered, is_held) = tokio::sync::oneshot::channel();
    let (release, held) = mpsc::channel();
    let hold = store.database.write(Lane::Host, 0, move |_| {
        entered.send(()).unwrap();
        held.recv().unwrap();
        Ok::<_, StoreError>(())
    });
    let fail = store.database.write(Lane::Host, 0, |_| Err::<(), _>(full()));
    let both = async {
        is_held.await.unwrap();
        tokio::join!(biased; fail, store.append_audit(denied("s")), async { release.send(()).unwrap() })
    };
    let (held, (failed, stored, ())) = tokio::join!(hold, both);
    held.unwrap();
    failed.unwrap_err();
    stored.unwrap();
    let wrong = store.trouble().expect("the file failed somebody");
    assert!(matches!(wrong, DiskFull { .. }), "{wrong:?}");
    store.append_audit(denied("s")).await.unwrap();
    assert!(store.trouble().is_none(), "the next one failed nobody");
}

#[test]
fn a_log_that_is_kept_is_over_once_it_is_folded_in() {
    let trouble = Trouble::new(Path::new("/folder/core.db"));
    trouble.stored(Err(log_kept()));
    trouble.stored(Ok(false));
    assert!(matches!(trouble.now(), Some(LogKept { .. })), "nobody knows yet what becomes of it");
    trouble.stored(Ok(true));
    assert!(trouble.now().is_none());
    trouble.note(full());
    trouble.stored(Ok(false));
    assert!(trouble.now().is_none(), "what the log is like says nothing of room for what was stored");
    trouble.stored(Err(corrupt()));
    trouble.stored(Err(log_kept()));
    assert!(trouble.now().is_some_and(|wrong| wrong.is_damage()));
    assert!(trouble.passing().is_none());
}

#[tokio::test]
async fn a_log_that_somebody_else_folds_in_is_not_known_to_be() {
    let (folder, store) = hasty_store();
    let open = || Connection::open(folder.path().join("core.db")).unwrap();
    let (reader, other, ours) = (open(), open(), open());
    let tables = "SELECT count(*) FROM sqlite_schema";
    reader.execute_batch(&format!("BEGIN; {tables}")).unwrap();
    store.append_audit(denied("s")).await.unwrap();
    // Once it has the log it waits for the reader.
    other.busy_timeout(Duration::from_secs(60)).unwrap();
    let is_busy = move || other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0)).unwrap();
    let folding = std::thread::spawn(move || while is_busy() {});
    let begun = Instant::now();
    while trouble::fold(&ours).unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(60) && !folding.is_finished(), "it ends with the reader");
        std::thread::sleep(Duration::from_millis(1));
    }
    reader.execute_batch("ROLLBACK").unwrap();
    folding.join().unwrap();
    assert!(trouble::fold(&ours).unwrap());
}
