//! What is said of a file that cannot be written, and when it stops being said.

use std::time::Duration;

use leanclaw_types::redact::Secret;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{denied, key, kv_store};
use crate::database::Database;
use crate::file::Schema;
use crate::queue::Lane;
use crate::{KvError, Store, StoreError};

/// So that nobody waits long.
const HASTY: Schema =
    Schema { busy_timeout: Duration::from_millis(1), retry_pause: Duration::from_millis(1), ..crate::store::SCHEMA };
/// Long enough for many attempts.
const WHILE: Duration = Duration::from_millis(50);

fn hasty_store() -> (TempDir, Store) {
    let folder = TempDir::new().unwrap();
    let store = Store::open_with(folder.path(), &HASTY).unwrap();
    (folder, store)
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
