//! What runs add to transcripts, and what models are told of them.

use std::collections::HashSet;

use leanclaw_types::session::{NewMessage, SessionChange};
use rusqlite::Connection;
use serde_json::json;

use super::runs::{KEY, OTHER, body, change, execute, new, said, transcript, with_sessions};
use super::sessions::row;
use crate::Store;

#[tokio::test]
async fn what_a_run_says_is_added_together_or_not_at_all() {
    let (_folder, store) = with_sessions().await;
    let say = |id: &str, text: &str| NewMessage { role: "assistant".into(), ..said(id, text, 9) };
    let plain = |text: &str| {
        let body = body(&json!({"content": text, "usage": {"input": 1}}));
        NewMessage { role: "toolResult".into(), body, at_ms: 12 }
    };
    assert_eq!(store.append_run_messages("agent:main:none", vec![plain("x")]).await.unwrap(), None);
    assert_eq!(store.append_run_messages(KEY, Vec::new()).await.unwrap(), Some(Vec::new()));
    let all = vec![say("a", "one"), plain("two"), say("b", "three")];
    let added = store.append_run_messages(KEY, all.clone()).await.unwrap().unwrap();
    assert_eq!(added, transcript(&store, KEY).await);
    assert_eq!(added.iter().map(|message| message.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(
        added.iter().map(|message| &message.body).collect::<Vec<_>>(),
        [&all[0].body, &all[1].body, &all[2].body]
    );
    assert_eq!(store.session(KEY).unwrap().unwrap().updated_ms, 12);
    let again = store.append_run_messages(KEY, vec![say("b", "three"), say("c", "four")]).await.unwrap().unwrap();
    assert_eq!((&again[0], again[1].seq), (&added[2], 4), "what has a key is added once");

    execute(
        &store,
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON main.messages WHEN NEW.seq = 6 BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    store.append_run_messages(KEY, vec![plain("five"), plain("six")]).await.unwrap_err();
    assert_eq!(transcript(&store, KEY).await.len(), 4);
    execute(&store, "DROP TRIGGER refuse").await;
    change(&store, SessionChange::Restart(row(KEY, 20))).await;
    let late = store.append_run_messages(KEY, vec![plain("late")]).await.unwrap().unwrap();
    assert_eq!(transcript(&store, KEY).await, late, "what comes late is in the transcript as it is now");
    change(&store, SessionChange::Remove { transcript: true }).await;
    assert_eq!(store.append_run_messages(KEY, vec![plain("too late")]).await.unwrap(), None);
}

#[tokio::test]
async fn a_models_history_is_the_newest_that_fits() {
    let (_folder, store) = with_sessions().await;
    let mut sizes = Vec::new();
    let mut ids = Vec::new();
    for (number, length) in [10, 20, 300, 40, 50].into_iter().enumerate() {
        let body = body(&json!({"content": "ä".repeat(length)}));
        sizes.push(serde_json::to_string(&body).unwrap().len());
        let at_ms = u64::try_from(number).unwrap();
        let message = NewMessage { role: "user".into(), body, at_ms };
        ids.push(store.append_once(KEY, message).await.unwrap().unwrap().message.id);
        store.append_once(OTHER, said(&format!("{number}"), "x", 1)).await.unwrap();
    }
    let history = async |most: usize| {
        let found = store.history(KEY, HashSet::new(), most).await.unwrap();
        found.iter().map(|message| message.id).collect::<Vec<_>>()
    };
    assert_eq!(history(usize::MAX).await, ids);
    assert_eq!(history(sizes.iter().sum()).await, ids);
    assert_eq!(history(sizes.iter().sum::<usize>() - 1).await, ids[1..]);
    let last_two = sizes[3] + sizes[4];
    assert_eq!(history(last_two).await, ids[3..]);
    assert_eq!(history(last_two + sizes[0] + sizes[1]).await, ids[3..], "none is left out in between");
    assert_eq!(history(sizes[4] - 1).await, [0; 0]);
    assert_eq!(store.history("agent:main:none", HashSet::new(), 100).await.unwrap(), []);
    assert_eq!(store.history(KEY, HashSet::new(), usize::MAX).await.unwrap(), transcript(&store, KEY).await);

    change(&store, SessionChange::Restart(row(KEY, 9))).await;
    assert_eq!(history(usize::MAX).await, [0; 0]);
    let (message, _) = new(&store, "r", KEY).await;
    assert_eq!(history(usize::MAX).await, [message.id]);
}

#[tokio::test]
async fn what_belongs_to_some_runs_is_left_out_and_what_a_run_left_behind_is_found() {
    let (_folder, store) = with_sessions().await;
    let of = |run: &str, text: &str| {
        let body = body(&json!({"content": text, "__openclaw": {"runId": run}}));
        NewMessage { role: "user".into(), body, at_ms: 1 }
    };
    let large = "x".repeat(1000);
    let said = vec![of("a", "1"), of("b", &large), of("a", "2"), of("c", &large)];
    let said = store.append_run_messages(KEY, said).await.unwrap().unwrap();
    let without = HashSet::from(["b".to_owned(), "c".to_owned()]);
    let told = store.history(KEY, without, 200).await.unwrap();
    assert_eq!(told, [said[0].clone(), said[2].clone()], "what is left out takes no room");
    let last = async |run: &str, prompt: i64| store.last_of_run(KEY, run, prompt).await.unwrap();
    assert_eq!(last("a", said[0].id).await, Some(said[2].clone()));
    assert_eq!((last("a", said[2].id).await, last("b", said[1].id).await), (None, None));
}

#[tokio::test]
async fn more_than_a_page_of_history_is_read() {
    let (folder, store) = with_sessions().await;
    store.close().await;
    let file = Connection::open(folder.path().join("core.db")).unwrap();
    file.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO messages (session, session_id, seq, role, at_ms, body)
         SELECT (SELECT id FROM sessions WHERE key = 'agent:main:main'), 'x', i, 'user', i, '{}' FROM n;
         UPDATE sessions SET last_seq = 3000 WHERE key = 'agent:main:main'",
    )
    .unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.history(KEY, HashSet::new(), usize::MAX).await.unwrap().len(), 3000);
    let some = store.history(KEY, HashSet::new(), 2 * 2500).await.unwrap();
    assert_eq!((some.len(), some[0].seq, some[2499].seq), (2500, 501, 3000));
}
