use std::sync::Arc;

use leanclaw_types::Failure;
use leanclaw_types::clock::ManualClock;
use tempfile::TempDir;

use super::{key, kv_store};
use crate::queue::Lane;
use crate::{Entry, KvError, KvStore, MAX_KEY_BYTES, MAX_VALUE_BYTES};

const ROOMY: u64 = 10_000_000;

fn timed() -> (TempDir, KvStore, Arc<ManualClock>) {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let store = KvStore::open_with_clock(folder.path(), clock.clone()).unwrap();
    (folder, store, clock)
}

#[tokio::test]
async fn what_is_put_is_got_also_after_a_reopen() {
    let (folder, store) = kv_store();
    let revision = store.put(&key("a"), "k", vec![0, 255], None, None, ROOMY).await.unwrap();
    store.close().await;
    assert!(store.get(&key("a"), "k").await.is_err());
    let store = KvStore::open(folder.path()).unwrap();
    assert_eq!(store.get(&key("a"), "k").await.unwrap(), Some(Entry { value: vec![0, 255], revision }));
    assert_eq!(store.get(&key("a"), "other").await.unwrap(), None);
}

#[tokio::test]
async fn plugins_and_accounts_do_not_see_each_other() {
    let (_folder, store) = kv_store();
    for (owner, value) in [("a", 1), ("a/work", 2), ("b", 3)] {
        store.put(&key(owner), "k", vec![value], None, None, 2).await.unwrap();
    }
    store.clear(&key("b")).await.unwrap();
    assert!(store.delete(&key("a/work"), "k").await.unwrap());
    assert_eq!(store.get(&key("a"), "k").await.unwrap().unwrap().value, [1]);
    assert_eq!(store.keys(&key("b"), "", None, 10).await.unwrap(), [""; 0]);
    assert_eq!(store.usage(&key("a")).await.unwrap(), 2);
}

#[tokio::test]
async fn a_put_can_depend_on_the_revision() {
    let (_folder, store) = kv_store();
    let owner = key("a");
    let put = async |revision| store.put(&owner, "k", vec![1], revision, None, ROOMY).await;
    assert!(matches!(put(Some(5)).await, Err(KvError::Conflict { found: None })));
    let first = put(Some(0)).await.unwrap();
    assert!(matches!(put(Some(0)).await, Err(KvError::Conflict { found }) if found == Some(first)));
    let second = put(Some(first)).await.unwrap();
    assert!(matches!(put(Some(first)).await, Err(KvError::Conflict { found }) if found == Some(second)));
    let third = put(None).await.unwrap();
    assert!(first < second && second < third);
}

#[tokio::test]
async fn a_revision_never_comes_back() {
    let (folder, store) = kv_store();
    let owner = key("a");
    let mut last = store.put(&owner, "k", vec![], None, None, ROOMY).await.unwrap();
    assert!(store.delete(&owner, "k").await.unwrap());
    assert!(!store.delete(&owner, "k").await.unwrap());
    for round in 0..3 {
        let next = store.put(&owner, "k", vec![], Some(0), None, ROOMY).await.unwrap();
        assert!(next > last, "round {round}");
        last = next;
        store.clear(&owner).await.unwrap();
    }
    drop(store);
    let store = KvStore::open(folder.path()).unwrap();
    assert!(store.put(&owner, "k", vec![], None, None, ROOMY).await.unwrap() > last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_increments_all_count() {
    const TASKS: u32 = 6;
    const EACH: u32 = 15;
    let (_folder, store) = kv_store();
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(increment(Arc::clone(&store), EACH))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let entry = store.get(&key("a"), "n").await.unwrap().unwrap();
    assert_eq!(u32::from_le_bytes(entry.value.try_into().unwrap()), TASKS * EACH);
    assert_eq!(entry.revision, u64::from(TASKS * EACH), "a refused put uses up no revision");
}

async fn increment(store: Arc<KvStore>, times: u32) {
    let owner = key("a");
    for _ in 0..times {
        loop {
            let entry = store.get(&owner, "n").await.unwrap();
            let revision = entry.as_ref().map_or(0, |entry| entry.revision);
            let count = entry.map_or(0, |entry| u32::from_le_bytes(entry.value.try_into().unwrap()));
            let value = (count + 1).to_le_bytes().to_vec();
            match store.put(&owner, "n", value, Some(revision), None, ROOMY).await {
                Ok(_) => break,
                Err(KvError::Conflict { found }) => assert_ne!(found, Some(revision)),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test]
async fn keys_and_values_count_and_updates_count_the_difference() {
    let (_folder, store) = kv_store();
    let owner = key("a");
    let put = async |key: &str, bytes: usize, quota| store.put(&owner, key, vec![0; bytes], None, None, quota).await;
    put("k", 9, 10).await.unwrap();
    assert_eq!(store.usage(&owner).await.unwrap(), 10);
    assert!(matches!(put("l", 0, 10).await, Err(KvError::QuotaExceeded { used: 10, quota: 10 })));
    assert!(matches!(put("k", 10, 10).await, Err(KvError::QuotaExceeded { used: 10, quota: 10 })));
    assert_eq!(store.get(&owner, "l").await.unwrap(), None);
    put("k", 4, 10).await.unwrap();
    put("lmn", 2, 10).await.unwrap();
    assert_eq!(store.usage(&owner).await.unwrap(), 10);
    assert!(store.delete(&owner, "k").await.unwrap());
    assert_eq!(store.usage(&owner).await.unwrap(), 5);

    // After an admin lowered the quota, what does not grow is still stored.
    put("lmn", 2, 3).await.unwrap();
    assert!(matches!(put("x", 0, 3).await, Err(KvError::QuotaExceeded { used: 5, quota: 3 })));
    store.clear(&owner).await.unwrap();
    assert_eq!(store.usage(&owner).await.unwrap(), 0);
    put("xyz", 0, 3).await.unwrap();
}

#[tokio::test]
async fn the_largest_key_and_value_fit_and_one_more_byte_does_not() {
    let (_folder, store) = kv_store();
    let owner = key("a");
    let longest = "k".repeat(MAX_KEY_BYTES);
    let put = async |key: &str, bytes: usize| store.put(&owner, key, vec![7; bytes], None, None, ROOMY).await;
    put(&longest, MAX_VALUE_BYTES).await.unwrap();
    assert_eq!(store.get(&owner, &longest).await.unwrap().unwrap().value.len(), MAX_VALUE_BYTES);
    assert!(matches!(put(&format!("{longest}k"), 0).await, Err(KvError::KeyTooLong { bytes: 513 })));
    assert!(matches!(put("k", MAX_VALUE_BYTES + 1).await, Err(KvError::ValueTooLarge { bytes: 1_048_577 })));
}

#[tokio::test]
async fn an_entry_is_gone_when_its_time_is_over() {
    let (_folder, store, clock) = timed();
    let owner = key("a");
    let first = store.put(&owner, "k", vec![1; 9], None, Some(10), 10).await.unwrap();
    clock.advance(9_999);
    assert_eq!(store.get(&owner, "k").await.unwrap().unwrap().revision, first);
    assert!(matches!(store.put(&owner, "l", vec![], None, None, 10).await, Err(KvError::QuotaExceeded { .. })));
    clock.advance(1);
    assert_eq!(store.get(&owner, "k").await.unwrap(), None);
    assert_eq!(store.keys(&owner, "", None, 10).await.unwrap(), [""; 0]);
    assert_eq!(store.usage(&owner).await.unwrap(), 0);
    assert!(!store.delete(&owner, "k").await.unwrap());

    let second = store.put(&owner, "k", vec![2; 9], Some(0), Some(10), 10).await.unwrap();
    assert!(second > first);
    // Putting it again without a time keeps it for good.
    store.put(&owner, "k", vec![3; 9], Some(second), None, 10).await.unwrap();
    clock.advance(1_000_000);
    assert_eq!(store.get(&owner, "k").await.unwrap().unwrap().value, [3; 9]);
    store.put(&owner, "k", vec![4; 9], None, Some(0), 10).await.unwrap();
    assert_eq!(store.get(&owner, "k").await.unwrap(), None);
}

#[tokio::test]
async fn entries_past_their_time_do_not_count_and_are_swept() {
    const ENTRIES: usize = 200;
    let (folder, store, clock) = timed();
    let owner = key("a");
    let puts = (0..ENTRIES).map(|number| {
        let (store, owner) = (&store, &owner);
        async move { store.put(owner, &format!("{number:03}"), vec![], None, Some(1), 600).await.unwrap() }
    });
    join_all(puts).await;
    assert!(matches!(store.put(&owner, "x", vec![], None, None, 600).await, Err(KvError::QuotaExceeded { .. })));
    clock.advance(1_000);
    // More are over than one write sweeps; the whole quota is free all the same.
    store.put(&owner, "x", vec![0; 599], None, None, 600).await.unwrap();
    assert_eq!(store.usage(&owner).await.unwrap(), 600);
    for _ in 0..4 {
        store.put(&owner, "x", vec![0; 599], None, None, 600).await.unwrap();
    }
    assert_eq!(store.usage(&owner).await.unwrap(), 600);
    drop(store);
    let connection = rusqlite::Connection::open(folder.path().join("plugin-kv.db")).unwrap();
    let left: i64 = connection.query_row("SELECT count(*) FROM entries", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1);
}

/// Polls all of them on this task, so that they share transactions.
async fn join_all(futures: impl Iterator<Item = impl Future>) {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn a_prefix_means_its_own_bytes() {
    let (_folder, store) = kv_store();
    let owner = key("a");
    let all = [
        "",
        "A",
        "a",
        "a%",
        "a%b",
        "a_",
        "a_b",
        "a\0b",
        "aa",
        "ab",
        "b",
        "\u{e9}",
        "\u{e9}a",
        "\u{10ffff}",
        "\u{10ffff}z",
    ];
    join_all(all.iter().map(|name| store.put(&owner, name, vec![], None, None, ROOMY))).await;
    for prefix in all.iter().copied().chain(["_", "%", "*", "z", "\u{10ffff}zz"]) {
        let mut expected: Vec<&str> = all.iter().copied().filter(|name| name.starts_with(prefix)).collect();
        expected.sort_unstable();
        assert_eq!(store.keys(&owner, prefix, None, 100).await.unwrap(), expected, "{prefix:?}");
    }
}

#[tokio::test]
async fn keys_come_in_pages() {
    let (_folder, store) = kv_store();
    let owner = key("a");
    let names: Vec<String> = (0..1100).map(|number| format!("k{number:04}")).collect();
    for some in names.chunks(500) {
        join_all(some.iter().map(|name| store.put(&owner, name, vec![], None, None, ROOMY))).await;
    }
    let first = store.keys(&owner, "k", None, u32::MAX).await.unwrap();
    assert_eq!(first, names[..1000]);
    assert_eq!(store.keys(&owner, "k", Some(&first[999]), 60).await.unwrap(), names[1000..1060]);
    assert_eq!(store.keys(&owner, "k", Some("k1099"), 60).await.unwrap(), [""; 0]);
    assert_eq!(store.keys(&owner, "k", Some("a"), 1).await.unwrap(), names[..1]);
    assert_eq!(store.keys(&owner, "k", Some("z"), 1).await.unwrap(), [""; 0]);
    assert_eq!(store.keys(&owner, "k", None, 0).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let failure = Failure::from(KvError::QuotaExceeded { used: 5, quota: 10 });
    assert_eq!(failure.code, "budget-exhausted");
    assert!(failure.message.contains("5 of 10") && failure.hints[1].contains("plugin grant"), "{failure:?}");
    let failure = Failure::from(KvError::Conflict { found: Some(3) });
    assert_eq!((failure.code.as_str(), &failure.extra.unwrap()["revision"]), ("conflict", &3.into()));
    let failure = Failure::from(KvError::Store(crate::StoreError::Overloaded));
    assert!(failure.retryable && failure.code == "unavailable");
}

#[tokio::test]
async fn a_plugin_is_forgotten_in_all_its_accounts_and_no_other_is() {
    let (_folder, store) = kv_store();
    for owner in ["a", "a/work", "ab"] {
        store.put(&key(owner), "k", b"v".to_vec(), None, None, ROOMY).await.unwrap();
    }
    // What waits to be written when it is forgotten is gone as well.
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let hold = store.database.write(Lane::Host, 0, move |_| {
        gate.recv().unwrap();
        Ok::<_, KvError>(())
    });
    let work = key("a/work");
    let late = |name: &'static str| store.put(&work, name, b"v".to_vec(), None, None, ROOMY);
    let accounts = [work.account.clone()];
    let forgotten = store.forget(&work.plugin, &accounts);
    let (held, one, two, entries, ()) =
        tokio::join!(hold, late("1"), late("2"), forgotten, async { open.send(()).unwrap() });
    held.unwrap();
    one.and(two).unwrap();
    assert_eq!(entries.unwrap(), 4);
    for (owner, bytes) in [("a", 0), ("a/work", 0), ("ab", 2)] {
        assert_eq!(store.usage(&key(owner)).await.unwrap(), bytes, "{owner}");
        assert_eq!(store.get(&key(owner), "k").await.unwrap().is_some(), bytes > 0, "{owner}");
    }
}
