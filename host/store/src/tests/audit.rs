use std::sync::mpsc;

use leanclaw_types::audit::{AuditEvent, AuditRecord};

use super::{denied, granted, store};
use crate::audit::{MAX_QUEUED, MAX_QUEUED_PER_PLUGIN};
use crate::queue::Lane;
use crate::{AuditQuery, Store, StoreError};

fn egress(plugin: &str) -> AuditRecord {
    let event = AuditEvent::EgressDenied {
        plugin: plugin.into(),
        method: "GET".into(),
        host: "https://a.example:443".into(),
        rule: "not granted".into(),
        hint: "grant it".into(),
    };
    AuditRecord { at_ms: 3, actor: "plugin:x".into(), event }
}

async fn rows(store: &Store, query: AuditQuery) -> Vec<(i64, &'static str)> {
    store.audit_tail(query).await.unwrap().into_iter().map(|row| (row.id, row.record.event.kind())).collect()
}

#[tokio::test]
async fn the_tail_is_the_newest_in_order_and_can_be_followed() {
    let (_folder, store) = store();
    for scope in ["1", "2", "3", "4", "5"] {
        store.append_audit(denied(scope)).await.unwrap();
    }
    let newest = store.audit_tail(AuditQuery { limit: 2, ..AuditQuery::default() }).await.unwrap();
    assert_eq!(newest.iter().map(|row| row.id).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(newest[1].record, denied("5"));
    let query = AuditQuery { limit: 2, after_id: Some(1), ..AuditQuery::default() };
    let followed = store.audit_tail(query).await.unwrap();
    assert_eq!(followed.iter().map(|row| row.id).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test]
async fn rows_are_found_by_plugin_account_and_kind() {
    let (_folder, store) = store();
    for record in [granted("a"), granted("a/work"), egress("a"), granted("ab"), denied("s")] {
        store.append_audit(record).await.unwrap();
    }
    let by_plugin = |plugin: &str| AuditQuery { plugin: Some(plugin.into()), ..AuditQuery::default() };
    let ids = async |query| rows(&store, query).await.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids(by_plugin("a")).await, [1, 2, 3]);
    assert_eq!(ids(by_plugin("a/work")).await, [2]);
    assert_eq!(ids(by_plugin("a/default")).await, [1, 3]);
    assert_eq!(ids(by_plugin("%")).await, [0; 0]);
    let granted_to_a = AuditQuery { kind: Some("plugin-granted".into()), ..by_plugin("a") };
    assert_eq!(ids(granted_to_a).await, [1, 2]);
    assert_eq!(ids(AuditQuery { kind: Some("scope-denied".into()), ..AuditQuery::default() }).await, [5]);
}

#[tokio::test]
async fn queued_rows_keep_their_place_among_awaited_ones() {
    let (_folder, store) = store();
    store.audit_soon(denied("first"));
    store.append_audit(denied("second")).await.unwrap();
    store.audit_soon(denied("third"));
    store.append_audit(denied("fourth")).await.unwrap();
    let found = store.audit_tail(AuditQuery::default()).await.unwrap();
    let expected = ["first", "second", "third", "fourth"].map(denied);
    assert_eq!(found.into_iter().map(|row| row.record).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn queued_rows_are_written_before_the_store_is_gone() {
    for close in [true, false] {
        let (folder, store) = store();
        for _ in 0..10 {
            store.audit_soon(denied("s"));
        }
        if close {
            store.close().await;
        }
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(rows(&store, AuditQuery::default()).await.len(), 10);
    }
}

/// Holds the writer until the sender is dropped.
fn hold(store: &Store) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel();
    let (started, wait) = mpsc::channel();
    let work = move |_: &rusqlite::Connection| {
        started.send(()).unwrap();
        let _ = held.recv();
        Ok::<_, StoreError>(())
    };
    let mut write = Box::pin(store.database.write(Lane::Host, 0, work));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(write.as_mut().poll(&mut context).is_pending());
    wait.recv().unwrap();
    release
}

#[tokio::test]
async fn a_flood_loses_rows_of_its_own_only_and_says_how_many() {
    let (_folder, store) = store();
    let release = hold(&store);
    for _ in 0..MAX_QUEUED_PER_PLUGIN + 30 {
        store.audit_soon(egress("noisy"));
    }
    store.audit_soon(egress("quiet"));
    store.audit_soon(denied("s"));
    drop(release);

    let all = everything(&store).await;
    let count = |plugin: &str| all.iter().filter(|row| row.event == egress(plugin).event).count();
    assert_eq!((count("noisy"), count("quiet")), (MAX_QUEUED_PER_PLUGIN, 1));
    assert!(all.contains(&denied("s")));
    assert_eq!(overflows(&all), [AuditEvent::AuditOverflow { plugin: Some("noisy".into()), dropped: 30 }]);

    // The next flood is counted from nothing.
    store.append_audit(denied("later")).await.unwrap();
    assert_eq!(overflows(&everything(&store).await).len(), 1);
}

#[tokio::test]
async fn the_buffer_is_bounded_for_the_host_too() {
    let (_folder, store) = store();
    let release = hold(&store);
    for _ in 0..MAX_QUEUED + 5 {
        store.audit_soon(denied("s"));
    }
    drop(release);
    let all = everything(&store).await;
    assert_eq!(all.iter().filter(|row| **row == denied("s")).count(), MAX_QUEUED);
    assert_eq!(overflows(&all), [AuditEvent::AuditOverflow { plugin: None, dropped: 5 }]);
}

#[tokio::test]
async fn rows_that_could_not_be_written_are_counted() {
    let (folder, store) = store();
    let run = async |sql: &'static str| {
        let work = move |connection: &rusqlite::Connection| Ok::<_, StoreError>(connection.execute_batch(sql)?);
        store.database.write(Lane::Host, 0, work).await.unwrap();
    };
    run("CREATE TEMP TRIGGER refuse BEFORE INSERT ON main.audit BEGIN SELECT RAISE(ABORT, 'no'); END").await;
    store.audit_soon(egress("a"));
    store.audit_soon(egress("a"));
    run("DROP TRIGGER refuse").await;
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    let all = everything(&store).await;
    assert_eq!(overflows(&all), [AuditEvent::AuditOverflow { plugin: Some("a".into()), dropped: 2 }]);
    assert_eq!(all.len(), 1, "{all:?}");
}

#[tokio::test]
async fn rows_are_queued_however_many_other_writes_wait() {
    let (folder, store) = store();
    let release = hold(&store);
    let mut refused = false;
    while !refused {
        let mut write = Box::pin(store.append_audit(denied("s")));
        let answer = write.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        refused = matches!(answer, std::task::Poll::Ready(Err(StoreError::Overloaded)));
    }
    store.audit_soon(egress("a"));
    drop(release);
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(everything(&store).await.contains(&egress("a")));
}

/// Every row, once everything queued so far is written.
async fn everything(store: &Store) -> Vec<AuditRecord> {
    store.database.write(Lane::Host, 0, |_| Ok::<_, StoreError>(())).await.unwrap();
    let mut all = Vec::new();
    let mut after_id = 0;
    loop {
        let query = AuditQuery { limit: 1000, after_id: Some(after_id), ..AuditQuery::default() };
        let page = store.audit_tail(query).await.unwrap();
        let Some(last) = page.last() else { return all };
        after_id = last.id;
        all.extend(page.into_iter().map(|row| row.record));
    }
}

fn overflows(rows: &[AuditRecord]) -> Vec<AuditEvent> {
    rows.iter().map(|row| row.event.clone()).filter(|event| event.kind() == "audit-overflow").collect()
}

#[tokio::test]
async fn the_oldest_rows_go_a_few_at_a_time() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = crate::Store::open_bounded(folder.path(), 20).unwrap();
    for _ in 0..20 {
        store.append_audit(denied("old")).await.unwrap();
    }
    // As if as many rows again had been written.
    let jump = |connection: &rusqlite::Connection| {
        Ok::<_, StoreError>(connection.execute("UPDATE sqlite_sequence SET seq = seq + 20 WHERE name = 'audit'", ())?)
    };
    store.database.write(Lane::Host, 0, jump).await.unwrap();
    let query = || AuditQuery { after_id: Some(0), ..AuditQuery::default() };
    for left in [12, 4, 0] {
        store.append_audit(denied("new")).await.unwrap();
        let old = rows(&store, query()).await.into_iter().filter(|(id, _)| *id <= 20).count();
        assert_eq!(old, left);
    }
    assert_eq!(rows(&store, query()).await.len(), 3, "no new row is gone");
    store.close().await;
    // A command that knows no bound keeps everything.
    let unbounded = crate::Store::open(folder.path()).unwrap();
    for _ in 0..30 {
        unbounded.append_audit(denied("new")).await.unwrap();
    }
    assert_eq!(rows(&unbounded, query()).await.len(), 33);
}
