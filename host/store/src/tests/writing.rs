use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

use leanclaw_types::redact::Secret;
use rusqlite::Connection;

use super::{denied, key, received, store};
use crate::database::Database;
use crate::queue::Lane;
use crate::{AuditQuery, Store, StoreError};

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + 'a>>;

/// A write whose future was polled once: it is accepted and waits for the writer.
fn accept<'a, T: Send + 'static>(
    store: &'a Store,
    work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> Answer<'a, T> {
    let mut write: Answer<'a, T> = Box::pin(store.database.write(Lane::Host, 0, work));
    assert!(write.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    write
}

/// Holds the writer until the sender is dropped, so that what is accepted meanwhile becomes one batch.
fn hold(store: &Store) -> (mpsc::Sender<()>, Answer<'_, ()>) {
    let (release, held) = mpsc::channel::<()>();
    let (started, wait) = mpsc::channel();
    let first = accept(store, move |_| {
        started.send(()).unwrap();
        let _ = held.recv();
        Ok(())
    });
    wait.recv().unwrap();
    (release, first)
}

fn keep(name: &'static str) -> impl FnOnce(&Connection) -> Result<(), StoreError> + Send + 'static {
    move |connection| {
        connection.execute("INSERT INTO records VALUES ('k', ?1, '')", [name])?;
        Ok(())
    }
}

fn kept(store: &Store) -> Vec<String> {
    store.records("k").unwrap().into_iter().map(|(id, _)| id).collect()
}

fn outside(store: &Store) -> impl FnMut() -> i64 + Send + use<> {
    let path = store.database.read(|connection| Ok::<_, StoreError>(connection.path().unwrap().to_owned())).unwrap();
    let other = Connection::open(path).unwrap();
    move || other.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_batch_is_one_transaction_and_is_answered_after_it() {
    let (_folder, store) = store();
    let mut count_outside = outside(&store);
    let (release, first) = hold(&store);
    let mut one = accept(&store, keep("a"));
    let two = accept(&store, keep("b"));
    let (seen, during) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let mut look_outside = outside(&store);
    let three = accept(&store, move |connection| {
        let inside: i64 = connection.query_row("SELECT count(*) FROM records", [], |row| row.get(0))?;
        seen.send((inside, look_outside())).unwrap();
        let _ = wait.recv();
        Ok(())
    });
    drop(release);
    assert_eq!(during.recv().unwrap(), (2, 0), "the third write sees the first two; nobody else does yet");
    assert!(matches!(one.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    drop(go_on);
    first.await.unwrap();
    one.await.unwrap();
    assert_eq!(count_outside(), 2, "an answered write is there for everybody, and so is its whole batch");
    two.await.unwrap();
    three.await.unwrap();
}

#[tokio::test]
async fn a_write_that_fails_takes_no_other_with_it() {
    let (_folder, store) = store();
    let (release, first) = hold(&store);
    let good = accept(&store, keep("a"));
    let bad = accept(&store, |connection| {
        connection.execute("INSERT INTO records VALUES ('k', 'half', '')", [])?;
        connection.execute("INSERT INTO records VALUES ('k', 'a', '')", [])?;
        Ok(())
    });
    let late = accept(&store, keep("b"));
    drop(release);
    first.await.unwrap();
    good.await.unwrap();
    assert!(matches!(bad.await, Err(StoreError::Sqlite { .. })));
    late.await.unwrap();
    assert_eq!(kept(&store), ["a", "b"]);
}

#[tokio::test]
async fn nobody_is_told_yes_when_the_transaction_is_lost() {
    let (_folder, store) = store();
    let (release, first) = hold(&store);
    let before = accept(&store, keep("a"));
    // What SQLite does by itself on some failures of the disk.
    let failing = accept(&store, |connection| {
        connection.execute_batch("ROLLBACK")?;
        Err::<(), _>(StoreError::row("x", "y"))
    });
    let after = accept(&store, keep("b"));
    let unaware = accept(&store, |connection| Ok(connection.execute_batch("ROLLBACK")?));
    let last = accept(&store, keep("c"));
    drop(release);
    first.await.unwrap();
    assert!(matches!(before.await, Err(StoreError::RolledBack { .. })));
    assert!(matches!(failing.await, Err(StoreError::Row { .. })), "its own reason");
    assert!(matches!(after.await, Err(StoreError::RolledBack { .. })));
    assert!(matches!(unaware.await, Err(StoreError::RolledBack { .. })));
    last.await.unwrap();
    assert_eq!(kept(&store), ["c"]);
}

#[tokio::test]
async fn a_full_disk_is_said_and_survived() {
    let (_folder, store) = store();
    let limit = |pages: i64| {
        move |connection: &Connection| {
            let pages =
                if pages == 0 { connection.query_row("PRAGMA page_count", [], |row| row.get(0))? } else { pages };
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
            Ok::<_, StoreError>(())
        }
    };
    store.database.write(Lane::Host, 0, limit(0)).await.unwrap();
    let large = Secret::new("x".repeat(100_000));
    let error = store.put_secret(&key("notes"), "k", large.clone(), denied("s")).await.unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("core.db") && error.hints()[0].contains("space"), "{error}");
    assert!(store.secret_names(&key("notes")).await.unwrap().is_empty());
    store.database.write(Lane::Host, 0, limit(1_000_000)).await.unwrap();
    store.put_secret(&key("notes"), "k", large, denied("s")).await.unwrap();
    assert_eq!(store.audit_tail(AuditQuery::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_accepted_write_happens_even_if_nobody_waits() {
    let (folder, store) = store();
    let (release, first) = hold(&store);
    drop(accept(&store, keep("a")));
    let mut message: Pin<Box<dyn Future<Output = _>>> = Box::pin(store.submit(received("m1")));
    assert!(message.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(message);
    drop(first);
    drop(release);
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(kept(&store), ["a"]);
    assert_eq!(store.inbox_after(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let (folder, store) = store();
    let (release, first) = hold(&store);
    let accepted = accept(&store, keep("a"));
    let closing = async {
        drop(release);
        store.close().await;
    };
    closing.await;
    first.await.unwrap();
    accepted.await.unwrap();
    assert!(matches!(store.append_audit(denied("s")).await, Err(StoreError::Closed)));
    assert!(matches!(store.grant(&key("notes")).await, Err(StoreError::Closed)));
    assert!(matches!(store.grants().await, Err(StoreError::Closed)));
    store.close().await;
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["core.db"], "the log is folded in");
}

#[tokio::test]
async fn an_answer_means_on_disk() {
    let folder = tempfile::TempDir::new().unwrap();
    for schema in [crate::store::SCHEMA, crate::kv::SCHEMA] {
        let database = Database::open(folder.path(), &schema).unwrap();
        let settings = database.write(Lane::Host, 0, |connection| {
            let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
            let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            let foreign_keys: bool = connection.pragma_query_value(None, "foreign_keys", |row| row.get(0))?;
            Ok::<_, StoreError>((synchronous, mode, foreign_keys))
        });
        assert_eq!(settings.await.unwrap(), (2, "wal".to_owned(), true), "2 is FULL");
    }
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let (_folder, store) = store();
    let write = |connection: &Connection| {
        connection.execute("INSERT INTO records VALUES ('k', 'a', '')", [])?;
        Ok::<_, StoreError>(())
    };
    assert!(matches!(store.database.read(write), Err(StoreError::NoAccess { .. })));
}
