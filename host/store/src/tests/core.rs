use leanclaw_types::plugin::Purged;
use leanclaw_types::redact::Secret;

use super::{denied, grant, granted, key, received, record, store};
use crate::specs::MAX_SPECS;
use crate::{AuditQuery, Store, StoreError, Submitted};

#[tokio::test]
async fn everything_is_there_after_a_reopen() {
    let (folder, store) = store();
    store.put_grant(grant("notes/work"), granted("notes/work")).await.unwrap();
    store.put_specs("aa", "{}").await.unwrap();
    store.put_secret(&key("notes"), "token", Secret::new("hunter2"), denied("s")).await.unwrap();
    store.change_records(vec![record("device", "ada", Some("{}"))], Vec::new()).await.unwrap();
    let first = store.submit(received("m1")).await.unwrap();
    drop(store);

    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.grant(&key("notes/work")).await.unwrap(), Some(grant("notes/work")));
    assert_eq!(store.grants().await.unwrap(), [grant("notes/work")]);
    assert_eq!(store.specs("aa").await.unwrap().as_deref(), Some("{}"));
    assert_eq!(store.secret(&key("notes"), "token").unwrap().unwrap().expose(), "hunter2");
    assert_eq!(store.records("device").unwrap(), [("ada".to_owned(), "{}".to_owned())]);
    let inbox = store.inbox_after(0, 10).await.unwrap();
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0].received, received("m1"));
    assert_eq!(first, Submitted::Accepted { id: inbox[0].id });
    assert_eq!(store.audit_tail(AuditQuery::default()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_grant_belongs_to_one_plugin_and_account() {
    let (_folder, store) = store();
    store.put_grant(grant("notes/work"), granted("notes/work")).await.unwrap();
    for other in ["notes", "notes/home", "note/work"] {
        assert_eq!(store.grant(&key(other)).await.unwrap(), None, "{other}");
    }
    let mut less = grant("notes/work");
    less.permissions.inbox = false;
    store.put_grant(less.clone(), granted("notes/work")).await.unwrap();
    assert_eq!(store.grants().await.unwrap(), [less]);
}

#[tokio::test]
async fn a_grant_and_its_audit_row_are_one() {
    let (_folder, store) = store();
    // The audit row cannot be written: so there must be no grant either.
    let refuse = "CREATE TEMP TRIGGER refuse BEFORE INSERT ON main.audit BEGIN SELECT RAISE(ABORT, 'no'); END";
    run(&store, refuse).await;
    store.put_grant(grant("notes"), granted("notes")).await.unwrap_err();
    store.put_secret(&key("notes"), "token", Secret::new("x"), denied("s")).await.unwrap_err();
    assert_eq!(store.grant(&key("notes")).await.unwrap(), None);
    assert!(store.secret_names(&key("notes")).await.unwrap().is_empty());

    run(&store, "DROP TRIGGER refuse").await;
    store.put_grant(grant("notes"), granted("notes")).await.unwrap();
    run(&store, refuse).await;
    store.remove_grant(&key("notes"), granted("notes")).await.unwrap_err();
    assert!(store.grant(&key("notes")).await.unwrap().is_some());
}

async fn run(store: &Store, sql: &'static str) {
    let work = move |connection: &rusqlite::Connection| Ok::<_, StoreError>(connection.execute_batch(sql)?);
    store.database.write(crate::queue::Lane::Host, 0, work).await.unwrap();
}

#[tokio::test]
async fn removing_what_is_not_there_leaves_no_audit_row() {
    let (_folder, store) = store();
    assert!(!store.remove_grant(&key("notes"), granted("notes")).await.unwrap());
    assert!(!store.remove_secret(&key("notes"), "token", denied("s")).await.unwrap());
    assert!(store.audit_tail(AuditQuery::default()).await.unwrap().is_empty());

    store.put_grant(grant("notes"), granted("notes")).await.unwrap();
    assert!(store.remove_grant(&key("notes"), granted("notes")).await.unwrap());
    assert_eq!(store.grant(&key("notes")).await.unwrap(), None);
    assert_eq!(store.audit_tail(AuditQuery::default()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_unreadable_grant_is_named_and_hides_no_other() {
    let (_folder, store) = store();
    store.put_grant(grant("notes"), granted("notes")).await.unwrap();
    run(&store, "INSERT INTO grants VALUES ('bad', 'default', '{\"sudo\":true}', 1, 'x', 'y')").await;
    assert_eq!(store.grants().await.unwrap(), [grant("notes")]);
    let error = store.grant(&key("bad")).await.unwrap_err();
    assert!(error.hints()[0].contains("leanclaw plugin grant bad"), "{error} {:?}", error.hints());
}

#[tokio::test]
async fn a_message_is_taken_once() {
    let (_folder, store) = store();
    let Submitted::Accepted { id } = store.submit(received("m1")).await.unwrap() else { panic!("not accepted") };
    let mut again = received("m1");
    again.received_at_ms = 99;
    assert_eq!(store.submit(again).await.unwrap(), Submitted::Duplicate { id });

    // Another channel, account or plugin may use the same id.
    let mut elsewhere = [received("m1"), received("m1"), received("m1")];
    elsewhere[0].channel = "other".into();
    elsewhere[1].account = "other".parse().unwrap();
    elsewhere[2].plugin = "other".parse().unwrap();
    for message in elsewhere {
        assert!(matches!(store.submit(message).await.unwrap(), Submitted::Accepted { .. }));
    }
    let all = store.inbox_after(0, 10).await.unwrap();
    assert_eq!(all.len(), 4);
    assert_eq!(all[0].received.received_at_ms, 5, "the first one stays");
    assert_eq!(store.inbox_after(all[1].id, 1).await.unwrap(), all[2..3]);
    assert!(store.inbox_after(all[3].id, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_hand_in_the_same_message_one_is_first() {
    let (_folder, store) = store();
    let store = std::sync::Arc::new(store);
    let tasks = (0..20).map(|_| {
        tokio::spawn({
            let store = std::sync::Arc::clone(&store);
            async move { store.submit(received("m1")).await.unwrap() }
        })
    });
    let mut accepted = 0;
    for task in tasks.collect::<Vec<_>>() {
        accepted += usize::from(matches!(task.await.unwrap(), Submitted::Accepted { .. }));
    }
    assert_eq!(accepted, 1);
}

#[tokio::test]
async fn secrets_are_listed_by_name_and_removed_for_good() {
    let (folder, store) = store();
    let marker = "correct-horse-battery-staple";
    store.put_secret(&key("notes"), "b", Secret::new(marker), denied("s")).await.unwrap();
    store.put_secret(&key("notes"), "a", Secret::new("x"), denied("s")).await.unwrap();
    assert_eq!(store.secret_names(&key("notes")).await.unwrap(), ["a", "b"]);
    assert!(store.secret_names(&key("notes/work")).await.unwrap().is_empty());
    assert!(store.secret(&key("notes/work"), "b").unwrap().is_none());

    assert!(store.remove_secret(&key("notes"), "b", denied("s")).await.unwrap());
    assert!(store.secret(&key("notes"), "b").unwrap().is_none());
    store.close().await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(marker.len()).any(|window| window == marker.as_bytes()));
    }
}

#[tokio::test]
async fn documents_change_together_with_their_audit_rows_or_not_at_all() {
    let (_folder, store) = store();
    let both =
        vec![record("device", "b", Some("1")), record("device", "a", Some("2")), record("agent", "a", Some("3"))];
    store.change_records(both, vec![denied("s")]).await.unwrap();
    let text = |id: &str, body: &str| (id.to_owned(), body.to_owned());
    assert_eq!(store.records("device").unwrap(), [text("a", "2"), text("b", "1")]);
    let change = vec![record("device", "a", Some("4")), record("device", "b", None)];
    store.change_records(change, vec![denied("s")]).await.unwrap();
    assert_eq!(store.records("device").unwrap(), [text("a", "4")]);
    assert_eq!(store.records("agent").unwrap(), [text("a", "3")]);
    assert_eq!(store.audit_tail(AuditQuery::default()).await.unwrap().len(), 2);
    let trigger = |connection: &rusqlite::Connection| {
        let refuse = "CREATE TEMP TRIGGER t BEFORE DELETE ON main.records BEGIN SELECT RAISE(ABORT, 'no'); END";
        Ok::<_, StoreError>(connection.execute_batch(refuse)?)
    };
    store.database.write(crate::queue::Lane::Host, 0, trigger).await.unwrap();
    let half = vec![record("device", "c", Some("5")), record("agent", "a", None)];
    assert!(store.change_records(half, vec![denied("s")]).await.is_err());
    assert_eq!(store.records("device").unwrap(), [text("a", "4")]);
    assert_eq!(store.audit_tail(AuditQuery::default()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_oldest_specs_make_room() {
    let (_folder, store) = store();
    store.put_specs("first", "1").await.unwrap();
    store.put_specs("second", "2").await.unwrap();
    store.put_specs("first", "3").await.unwrap();
    assert_eq!(store.specs("first").await.unwrap().as_deref(), Some("3"));
    // As if so many builds had come after that only the newest few have room.
    let later = MAX_SPECS + 1;
    let work = move |connection: &rusqlite::Connection| {
        connection.execute("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'specs'", [later])?;
        Ok::<_, StoreError>(())
    };
    store.database.write(crate::queue::Lane::Host, 0, work).await.unwrap();
    store.put_specs("third", "4").await.unwrap();
    assert_eq!(store.specs("second").await.unwrap(), None);
    assert_eq!(store.specs("first").await.unwrap().as_deref(), Some("3"));
    assert_eq!(store.specs("third").await.unwrap().as_deref(), Some("4"));
}

#[tokio::test]
async fn a_plugin_is_forgotten_in_all_its_accounts_and_no_other_is() {
    let (_folder, store) = store();
    for owner in ["notes", "notes/work", "notes2"] {
        store.put_grant(grant(owner), granted(owner)).await.unwrap();
        store.put_secret(&key(owner), "token", Secret::new("x"), denied("s")).await.unwrap();
        let mut message = received("m");
        (message.plugin, message.account) = (key(owner).plugin, key(owner).account);
        store.submit(message).await.unwrap();
        store.put_specs(owner, "{}").await.unwrap();
    }
    let accounts = [key("notes").account, key("notes/work").account];
    let purged = store.forget(&key("notes").plugin, &accounts, vec!["notes".into()], denied("s")).await.unwrap();
    assert_eq!(purged, Purged { grants: 2, secrets: 2, messages: 2, kv_entries: 0 });
    let left = store.inbox_after(0, 10).await.unwrap();
    assert_eq!(left.iter().map(|row| row.received.plugin.as_str()).collect::<Vec<_>>(), ["notes2"]);
    assert_eq!((store.specs("notes").await.unwrap(), store.specs("notes2").await.unwrap()), (None, Some("{}".into())));
    assert_eq!(store.grants().await.unwrap(), [grant("notes2")]);
    for (owner, names) in [("notes", 0), ("notes/work", 0), ("notes2", 1)] {
        assert_eq!(store.secret_names(&key(owner)).await.unwrap().len(), names, "{owner}");
    }
}

#[tokio::test]
async fn a_plugin_fills_its_own_part_of_the_inbox_only() {
    let (folder, mut store) = store();
    store.inbox_bytes = 3000;
    let large = |id: &str| {
        let mut message = received(id);
        message.message.parts[1].blob.as_mut().unwrap().data = vec![7; 800];
        message
    };
    for id in ["m1", "m2"] {
        assert!(matches!(store.submit(large(id)).await.unwrap(), Submitted::Accepted { .. }), "{id}");
    }
    let refused = |error: StoreError| {
        assert!(matches!(error, StoreError::InboxFull { limit_bytes: 3000, .. }), "{error:?}");
        let failure = leanclaw_types::Failure::from(error);
        assert_eq!((failure.code.as_str(), failure.hints.is_empty()), ("rate-limited", false), "{failure:?}");
    };
    refused(store.submit(large("m3")).await.unwrap_err());
    assert!(matches!(store.submit(large("m1")).await.unwrap(), Submitted::Duplicate { .. }));
    let mut other = large("m3");
    other.plugin = "mail".parse().unwrap();
    assert!(matches!(store.submit(other).await.unwrap(), Submitted::Accepted { .. }));
    store.close().await;
    let mut store = crate::Store::open(folder.path()).unwrap();
    store.inbox_bytes = 3000;
    refused(store.submit(large("m3")).await.unwrap_err());
    assert_eq!(store.inbox_after(0, 10).await.unwrap().len(), 3);
}
