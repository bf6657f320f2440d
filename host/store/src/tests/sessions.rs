//! Sessions and transcripts, in a real file.

use leanclaw_types::session::{
    DecideSession, MarkedSession, NewMessage, SessionChange, SessionKind, SessionLookup, SessionMark, SessionOutcome,
    SessionQuery, SessionRow, TranscriptQuery, UsageQuery,
};
use rusqlite::{Connection, StatementStatus, params_from_iter};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::store;
use crate::sessions::{MARK, page_sql};
use crate::{ForeignMessage, Store};

pub(super) fn row(key: &str, updated_ms: u64) -> SessionRow {
    SessionRow {
        key: key.into(),
        session_id: format!("id-of-{key}"),
        agent: key.split(':').nth(1).unwrap_or("main").into(),
        kind: if key == "global" { SessionKind::Global } else { SessionKind::Direct },
        label: None,
        archived: false,
        created_ms: 1,
        updated_ms,
        entry: json!({"displayName": format!("Über {key}")}).as_object().unwrap().clone(),
    }
}

pub(super) async fn put(store: &Store, row: SessionRow) -> SessionOutcome {
    store.change_session(row.key.clone(), Box::new(|_| SessionChange::Put(row))).await.unwrap()
}

async fn keys(store: &Store, query: SessionQuery) -> (Vec<String>, u64) {
    let page = store.sessions(query).await.unwrap();
    (page.rows.into_iter().map(|row| row.key).collect(), page.total)
}

fn say(text: &str) -> serde_json::Map<String, Value> {
    json!({"content": text}).as_object().unwrap().clone()
}

pub(super) fn newest(limit: u64) -> TranscriptQuery {
    TranscriptQuery { limit, ..TranscriptQuery::default() }
}

#[tokio::test]
async fn sessions_are_kept_and_found_after_a_restart() {
    let (folder, store) = store();
    for (key, at) in [("agent:main:a", 1), ("agent:ada:b", 3), ("agent:main:c", 3), ("global", 9)] {
        assert_eq!(put(&store, row(key, at)).await, SessionOutcome::Done);
    }
    let mut named = row("agent:main:a", 2);
    named.label = Some("Mine".into());
    assert_eq!(put(&store, named.clone()).await, SessionOutcome::Done);
    let mut thief = row("agent:main:c", 4);
    thief.label = Some("Mine".into());
    assert_eq!(put(&store, thief).await, SessionOutcome::LabelTaken);
    store.close().await;

    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.session("agent:main:a").unwrap(), Some(named.clone()));
    assert_eq!(store.session("agent:main:none").unwrap(), None);
    let all = ["agent:main:c", "agent:ada:b", "agent:main:a"].map(str::to_owned).to_vec();
    let live = SessionQuery { archived: Some(false), limit: Some(20), ..SessionQuery::default() };
    assert_eq!(keys(&store, live.clone()).await, (all.clone(), 3));
    let page = SessionQuery { offset: 1, limit: Some(1), ..live.clone() };
    assert_eq!(keys(&store, page).await, (all[1..2].to_vec(), 3));
    let searched = SessionQuery { search: Some("ÜBER AGENT:ADA".into()), ..live.clone() };
    assert_eq!(keys(&store, searched).await, (all[1..2].to_vec(), 1));
    let ada = SessionQuery { agents: Some(vec!["ada".into()]), ..live.clone() };
    assert_eq!(keys(&store, ada).await, (all[1..2].to_vec(), 1));
    let global = SessionQuery { include_global: true, limit: Some(1), ..live.clone() };
    assert_eq!(keys(&store, global).await, (vec!["global".into()], 4));
    put(&store, row("agent:main:subagent:x", 9)).await;
    let own = SessionQuery { exclude_subagents: true, ..live.clone() };
    assert_eq!(keys(&store, own).await, (all.clone(), 3));
    store
        .change_session("agent:main:subagent:x".into(), Box::new(|_| SessionChange::Remove { transcript: true }))
        .await
        .unwrap();
    let recent = SessionQuery { updated_since_ms: Some(3), ..live };
    assert_eq!(keys(&store, recent).await, (all[..2].to_vec(), 2));
    for lookup in [
        SessionLookup::Id("id-of-agent:main:a".into()),
        SessionLookup::IdStart("id-of-agent:main:a".into()),
        SessionLookup::Label { label: "Mine".into(), agent: None },
        SessionLookup::Label { label: "Mine".into(), agent: Some("main".into()) },
    ] {
        assert_eq!(store.find_sessions(&lookup).unwrap(), [named.clone()], "{lookup:?}");
    }
    let other = SessionLookup::Label { label: "Mine".into(), agent: Some("ada".into()) };
    assert_eq!(store.find_sessions(&other).unwrap(), []);
}

#[tokio::test]
async fn counts_follow_what_is_put_away_and_removed() {
    let (_folder, store) = store();
    for number in 0..7 {
        put(&store, row(&format!("agent:main:{number}"), number)).await;
    }
    let mut away = row("agent:main:6", 6);
    away.archived = true;
    put(&store, away).await;
    let remove = || Box::new(|_| SessionChange::Remove { transcript: true });
    store.change_session("agent:main:0".into(), remove()).await.unwrap();
    store.change_session("agent:main:none".into(), remove()).await.unwrap();
    let glance = store.sessions_at_a_glance(2).unwrap();
    assert_eq!((glance.len(), glance[0].agent.as_str(), glance[0].count), (1, "main", 5));
    assert_eq!(glance[0].recent, [("agent:main:5".to_owned(), 5), ("agent:main:4".to_owned(), 4)]);
    let away = SessionQuery { archived: Some(true), ..SessionQuery::default() };
    assert_eq!(keys(&store, away).await, (vec!["agent:main:6".into()], 1));
}

#[tokio::test]
async fn sessions_are_listed_by_agents_and_by_what_people_said() {
    let (_folder, store) = store();
    for (key, at) in [("agent:main:a", 4), ("agent:ada:b", 3), ("agent:bob:c", 2), ("agent:main:d", 1)] {
        put(&store, row(key, at)).await;
    }
    for (key, role, at_ms) in [
        ("agent:bob:c", "user", 70),
        ("agent:ada:b", "user", 60),
        ("agent:main:d", "user", 50),
        // What agents say is no interaction, nor is what lies before a session began anew.
        ("agent:main:d", "assistant", 90),
        ("agent:main:a", "assistant", 90),
        ("agent:ada:b", "user", 80),
    ] {
        store.append_message(key, role, say("x"), at_ms).await.unwrap().unwrap();
    }
    let live = SessionQuery { archived: Some(false), limit: Some(20), ..SessionQuery::default() };
    let by = SessionQuery { last_spoken_first: true, ..live.clone() };
    let named = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let all = ["agent:ada:b", "agent:bob:c", "agent:main:d", "agent:main:a"];
    assert_eq!(keys(&store, by.clone()).await, (named(&all), 4));
    let page = SessionQuery { spoken_in: true, offset: 1, limit: Some(1), ..by.clone() };
    assert_eq!(keys(&store, page).await, (named(&["agent:bob:c"]), 3));
    let some = SessionQuery { agents: Some(vec!["main".into(), "bob".into()]), ..live.clone() };
    assert_eq!(keys(&store, some).await, (named(&["agent:main:d", "agent:main:a", "agent:bob:c"]), 3));
    let nobodys = SessionQuery { agents: Some(Vec::new()), ..live };
    assert_eq!(keys(&store, nobodys).await, (Vec::new(), 0));
    store.change_session("agent:ada:b".into(), Box::new(|row| SessionChange::Restart(row.unwrap()))).await.unwrap();
    let spoken = SessionQuery { spoken_in: true, ..by };
    assert_eq!(keys(&store, spoken).await, (named(&["agent:bob:c", "agent:main:d"]), 2));
}

#[tokio::test]
async fn a_change_is_decided_on_what_is_stored() {
    let (_folder, store) = store();
    put(&store, row("agent:main:n", 0)).await;
    let add = || {
        let decide = |row: Option<SessionRow>| {
            let mut row = row.unwrap();
            let count = row.entry.get("n").and_then(Value::as_u64).unwrap_or(0);
            row.entry.insert("n".into(), json!(count + 1));
            SessionChange::Put(row)
        };
        store.change_session("agent:main:n".into(), Box::new(decide))
    };
    let mut running = Vec::new();
    for _ in 0..50 {
        running.push(Box::pin(add()));
    }
    for change in running {
        change.await.unwrap();
    }
    assert_eq!(store.session("agent:main:n").unwrap().unwrap().entry["n"], 50);
}

#[tokio::test]
async fn a_transcript_begins_anew_and_numbers_never_come_back() {
    let (folder, store) = store();
    let key = "agent:main:a";
    assert_eq!(store.append_message(key, "user", say("lost"), 1).await.unwrap(), None);
    put(&store, row(key, 1)).await;
    for number in 1..=5 {
        let message = store.append_message(key, "user", say(&number.to_string()), number).await.unwrap().unwrap();
        assert_eq!((message.seq, message.id), (number, number as i64));
    }
    assert_eq!(store.session(key).unwrap().unwrap().updated_ms, 5);
    let seqs = |transcript: &leanclaw_types::session::Transcript| {
        transcript.messages.iter().map(|message| message.seq).collect::<Vec<_>>()
    };
    let last = store.transcript(key, newest(2)).await.unwrap();
    assert_eq!((seqs(&last), last.total, last.last_seq), (vec![4, 5], 5, 5));
    assert_eq!(last.messages[1].body, say("5"));
    let before = TranscriptQuery { offset: 2, ..newest(2) };
    assert_eq!(seqs(&store.transcript(key, before).await.unwrap()), [2, 3]);
    let first = TranscriptQuery { oldest: true, ..newest(1) };
    assert_eq!(seqs(&store.transcript(key, first).await.unwrap()), [1]);
    let new = TranscriptQuery { after_seq: Some(4), ..newest(9) };
    assert_eq!(seqs(&store.transcript(key, new).await.unwrap()), [5]);

    let again = row(key, 6);
    store.change_session(key.into(), Box::new(|_| SessionChange::Restart(again))).await.unwrap();
    let empty = store.transcript(key, newest(9)).await.unwrap();
    assert_eq!((seqs(&empty), empty.total, empty.starts_after_seq), (vec![], 0, 5));
    assert_eq!(store.append_message(key, "user", say("6"), 7).await.unwrap().unwrap().seq, 6);
    // Told about the past or not, it stays out of sight.
    let all = TranscriptQuery { after_seq: Some(0), ..newest(9) };
    assert_eq!(seqs(&store.transcript(key, all).await.unwrap()), [6]);
    store.close().await;
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(seqs(&store.transcript(key, newest(9)).await.unwrap()), [6]);

    let kept = |folder: &TempDir| {
        let connection = Connection::open(folder.path().join("core.db")).unwrap();
        connection.query_row("SELECT count(*) FROM messages", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(kept(&folder), 6, "what was said before is kept");
    let remove = |transcript| Box::new(move |_| SessionChange::Remove { transcript });
    store.change_session(key.into(), remove(true)).await.unwrap();
    assert_eq!(kept(&folder), 0);
    put(&store, row(key, 8)).await;
    assert_eq!(store.append_message(key, "user", say("7"), 7).await.unwrap().unwrap().id, 7);
    store.change_session(key.into(), remove(false)).await.unwrap();
    put(&store, row(key, 9)).await;
    assert_eq!(store.transcript(key, newest(9)).await.unwrap().messages, []);
    assert_eq!(kept(&folder), 1);
}

#[tokio::test]
async fn usage_is_summed_by_session_day_and_model() {
    let (_folder, store) = store();
    const DAY: u64 = 86_400_000;
    for key in ["agent:main:a", "agent:ada:b"] {
        put(&store, row(key, 1)).await;
        store.append_message(key, "user", say("hi"), DAY).await.unwrap();
        for (at, cost) in
            [(DAY + 1, json!({"total": 0.5, "input": 0.25})), (DAY + 2, Value::Null), (2 * DAY, Value::Null)]
        {
            let usage = json!({"input": 10, "output": 5.0, "totalTokens": 15, "cost": cost});
            let body = json!({"provider": "fake", "model": "echo", "usage": usage, "stopReason": "stop"});
            store.append_message(key, "assistant", body.as_object().unwrap().clone(), at).await.unwrap();
        }
    }
    let all = UsageQuery { until_ms: 9 * DAY, ..UsageQuery::default() };
    let cells = store.usage_of_sessions(all.clone()).await.unwrap();
    assert_eq!(cells.len(), 6);
    let main = store.usage_of_sessions(UsageQuery { key: Some("agent:main:a".into()), ..all.clone() }).await.unwrap();
    assert_eq!(
        main.iter().map(|cell| (cell.day, cell.role.as_str())).collect::<Vec<_>>(),
        [(1, "assistant"), (1, "user"), (2, "assistant")]
    );
    let tokens = &main[0].tokens;
    assert_eq!((main[0].messages, tokens.input, tokens.output, tokens.total), (2, 20, 10, 30));
    assert_eq!((tokens.total_cost, tokens.input_cost, tokens.missing_costs), (0.5, 0.25, 1));
    assert_eq!((main[0].first_ms, main[0].last_ms, main[0].errors), (DAY + 1, DAY + 2, 0));
    let shifted = UsageQuery { agent: Some("ada".into()), day_shift_ms: -1, ..all.clone() };
    let days: Vec<i64> = store.usage_of_sessions(shifted).await.unwrap().iter().map(|cell| cell.day).collect();
    assert_eq!(days, [0, 1], "the user's message falls on the day before: {days:?}");
    let late = UsageQuery { from_ms: 2 * DAY, ..all };
    assert_eq!(store.usage_of_sessions(late).await.unwrap().len(), 2);
}

#[tokio::test]
async fn lists_of_many_sessions_read_only_what_they_show() {
    let (folder, store) = store();
    put(&store, row("agent:main:first", 1)).await;
    drop(store);
    let connection = Connection::open(folder.path().join("core.db")).unwrap();
    connection
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
             INSERT INTO sessions (key, session_id, agent, kind, archived, created_ms, updated_ms, last_seq,
                 starts_after_seq, search, entry)
             SELECT 'agent:main:' || i, 'id' || i, iif(i % 10, 'main', 'ada'), 'direct', 0, 1, i, 0, 0, '', '{}' FROM n",
        )
        .unwrap();
    for agent in [None, Some("ada".to_owned())] {
        let query = SessionQuery {
            agents: agent.map(|agent| vec![agent]),
            archived: Some(false),
            limit: Some(20),
            ..SessionQuery::default()
        };
        let (sql, values) = page_sql(&query, MARK);
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = values.into_iter().chain([20.into(), 0.into()]);
        let steps: Vec<String> =
            plan.query_map(params_from_iter(values), |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        let index = if query.agents.is_some() { "sessions_by_agent" } else { "sessions_by_time" };
        assert!(
            steps.len() == 1 && steps[0].contains(&format!("SEARCH sessions USING COVERING INDEX {index}")),
            "{steps:?}"
        );
    }
    drop(connection);
    let store = Store::open(folder.path()).unwrap();
    let query = SessionQuery { archived: Some(false), limit: Some(20), ..SessionQuery::default() };
    let page = store.sessions(query.clone()).await.unwrap();
    assert_eq!((page.rows.len(), page.total, page.rows[0].updated_ms), (20, 100_000, 100_000));
    let page = store.sessions(SessionQuery { agents: Some(vec!["ada".into()]), ..query }).await.unwrap();
    assert_eq!((page.rows.len(), page.total), (20, 10_000));
    assert_eq!(store.sessions_at_a_glance(5).unwrap().iter().map(|own| own.count).sum::<u64>(), 100_000);
}

#[tokio::test]
async fn what_is_put_aside_stays_on_disk_and_what_is_added_again_is_there_once() {
    let (folder, store) = store();
    let key = "agent:main:a";
    put(&store, row(key, 1)).await;
    for number in 1..=5 {
        store.append_message(key, "user", say(&number.to_string()), number).await.unwrap();
    }
    let keep = |messages| Box::new(move |row: Option<SessionRow>| SessionChange::Keep { row: row.unwrap(), messages });
    store.change_session(key.into(), keep(2)).await.unwrap();
    let left = store.transcript(key, newest(9)).await.unwrap();
    assert_eq!((left.messages.len(), left.total, left.starts_after_seq), (2, 2, 3));
    store.change_session(key.into(), keep(9)).await.unwrap();
    assert_eq!(store.transcript(key, newest(9)).await.unwrap().total, 2, "what is out of sight does not come back");
    let kept = Connection::open(folder.path().join("core.db")).unwrap();
    assert_eq!(kept.query_row("SELECT count(*) FROM messages", [], |row| row.get::<_, i64>(0)).unwrap(), 5);

    let message = |id: &str| {
        let body = json!({"content": "hi", "idempotencyKey": id}).as_object().unwrap().clone();
        NewMessage { role: "user".into(), body, at_ms: 9 }
    };
    assert_eq!(store.append_once("agent:main:none", message("k")).await.unwrap(), None);
    let first = store.append_once(key, message("k")).await.unwrap().unwrap();
    assert!(!first.repeated);
    store.close().await;
    let store = Store::open(folder.path()).unwrap();
    let again = store.append_once(key, message("k")).await.unwrap().unwrap();
    assert!(again.repeated && again.message.id == first.message.id, "{again:?}");
    assert!(!store.append_once(key, message("other")).await.unwrap().unwrap().repeated);
    assert_eq!(store.transcript(key, newest(9)).await.unwrap().total, 4);
}

#[tokio::test]
async fn what_is_added_again_is_found_by_its_key_however_much_was_said_since() {
    let (folder, store) = store();
    let key = "agent:main:a";
    put(&store, row(key, 1)).await;
    put(&store, row("agent:main:b", 1)).await;
    let message = |id: serde_json::Value| {
        let body = json!({"content": "hi", "idempotencyKey": id}).as_object().unwrap().clone();
        NewMessage { role: "user".into(), body, at_ms: 9 }
    };
    let first = store.append_once(key, message(json!("k"))).await.unwrap().unwrap();
    for number in 0..250 {
        store.append_message(key, "user", say("more"), 10 + number).await.unwrap();
    }
    let again = store.append_once(key, message(json!("k"))).await.unwrap().unwrap();
    assert!(again.repeated);
    assert_eq!(again.message, first.message);
    assert!(!store.append_once("agent:main:b", message(json!("k"))).await.unwrap().unwrap().repeated);
    assert!(!store.append_once(key, message(json!(7))).await.unwrap().unwrap().repeated);
    assert!(!store.append_once(key, message(json!("7"))).await.unwrap().unwrap().repeated, "another kind of key");
    let restart = Box::new(|row: Option<SessionRow>| SessionChange::Restart(row.unwrap()));
    store.change_session(key.into(), restart).await.unwrap();
    let anew = store.append_once(key, message(json!("k"))).await.unwrap().unwrap();
    assert!(!anew.repeated, "what was said before the reset is out of sight");
    assert_eq!(store.append_once(key, message(json!("k"))).await.unwrap().unwrap().message, anew.message);

    let file = Connection::open(folder.path().join("core.db")).unwrap();
    let mut plan = file.prepare(&format!("EXPLAIN QUERY PLAN {}", crate::transcripts::SAME)).unwrap();
    let steps: Vec<String> = plan.query_map(("a", "b"), |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
    let by_key = "SEARCH m USING INDEX messages_by_idempotency_key (session=? AND <expr>=?)";
    assert!(steps.iter().any(|step| step == by_key), "{steps:?}");
}

#[tokio::test]
async fn whoever_keeps_what_was_read_learns_of_every_change() {
    let (_folder, store) = store();
    let mut seen = store.commits();
    let mut changed = |store: &Store| std::mem::replace(&mut seen, store.commits()) != store.commits();
    assert!(!changed(&store));
    put(&store, row("agent:main:a", 1)).await;
    assert!(changed(&store));
    store.append_message("agent:main:a", "user", say("hello"), 5).await.unwrap();
    assert!(changed(&store));
    assert!(!changed(&store), "reading changes nothing");
    let removing = Box::new(|_| SessionChange::Remove { transcript: true });
    store.change_session("agent:main:a".into(), removing).await.unwrap();
    assert!(changed(&store));
}

/// The marks of all sessions, the one that changed last first.
pub(super) async fn marks(store: &Store) -> Vec<SessionMark> {
    let page = store.marked_sessions(SessionQuery::default(), Box::new(|marks| vec![None; marks.len()])).await.unwrap();
    let mark = |row: &MarkedSession| match row {
        MarkedSession::Read(mark, _) => *mark,
        MarkedSession::Kept(_) => panic!("nothing is kept"),
    };
    page.rows.iter().map(mark).collect()
}

#[tokio::test]
async fn a_session_has_another_mark_after_every_change() {
    let (_folder, store) = store();
    put(&store, row("agent:main:b", 1)).await;
    let [other] = marks(&store).await[..] else { panic!("one session") };
    let mut seen = std::collections::HashSet::new();
    let key = "agent:main:a";
    let mut labelled = row(key, 5);
    labelled.label = Some("same time".into());
    let keep = |row: Option<SessionRow>| SessionChange::Keep { row: row.unwrap(), messages: 1 };
    let changes: [DecideSession; 6] = [
        Box::new(|_| SessionChange::Put(row("agent:main:a", 5))),
        Box::new(|_| SessionChange::Put(labelled)),
        Box::new(|row| SessionChange::Restart(row.unwrap())),
        Box::new(keep),
        Box::new(|row| SessionChange::Put(SessionRow { agent: "ada".into(), archived: true, ..row.unwrap() })),
        Box::new(|row| SessionChange::Put(row.unwrap())),
    ];
    let mut expect_new = async |what: &str| {
        let [first, second] = marks(&store).await[..] else { panic!("two sessions") };
        assert!(seen.insert(first), "{what}");
        assert_eq!(second, other, "{what}");
    };
    for (number, change) in changes.into_iter().enumerate() {
        store.change_session(key.into(), change).await.unwrap();
        expect_new(&format!("change {number}")).await;
    }
    store.append_message(key, "user", say("at no new time"), 2).await.unwrap();
    expect_new("a message").await;
    let said = ForeignMessage { role: "user".into(), body: say("before"), at_ms: 2 };
    store.take_in(row(key, 5), vec![said]).await.unwrap();
    expect_new("taken in").await;
    // Also what nothing here does.
    for sql in [
        "UPDATE messages SET body = '{}' WHERE seq = 1",
        "DELETE FROM messages WHERE seq = 1",
        "INSERT INTO messages (session, session_id, seq, role, at_ms, body) SELECT id, 'x', 1, 'user', 1, '{}' FROM sessions \
         WHERE key = 'agent:main:a'",
    ] {
        let change = move |connection: &Connection| {
            let changed = connection.execute(sql, [])?;
            Ok::<_, crate::StoreError>(changed)
        };
        assert_eq!(store.database.write(crate::queue::Lane::Host, 0, change).await.unwrap(), 1, "{sql}");
        expect_new(sql).await;
    }
    let [mark, _] = marks(&store).await[..] else { panic!("two sessions") };
    let remove = || Box::new(|_| SessionChange::Remove { transcript: true });
    let removed = store.change_session(key.into(), remove()).await.unwrap();
    assert_eq!(removed, SessionOutcome::Removed { session: mark.session });
    assert_eq!(store.change_session(key.into(), remove()).await.unwrap(), SessionOutcome::Done, "there was none");
    put(&store, row(key, 5)).await;
    expect_new("made anew").await;
}

#[tokio::test]
async fn a_message_that_moves_changes_both_sessions() {
    let (_folder, store) = store();
    for key in ["agent:main:a", "agent:main:b"] {
        put(&store, row(key, 1)).await;
    }
    store.append_message("agent:main:a", "user", say("hello"), 1).await.unwrap();
    let before = marks(&store).await;
    let change = |connection: &Connection| {
        connection.execute("UPDATE messages SET session = (SELECT id FROM sessions WHERE key = 'agent:main:b')", [])?;
        Ok::<_, crate::StoreError>(())
    };
    store.database.write(crate::queue::Lane::Host, 0, change).await.unwrap();
    let after = marks(&store).await;
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "{before:?} {after:?}");
}

#[tokio::test]
async fn a_row_that_is_known_is_not_read() {
    let (_folder, store) = store();
    for (key, at) in [("agent:main:a", 1), ("agent:ada:b", 2), ("agent:main:c", 3), ("global", 9)] {
        put(&store, row(key, at)).await;
    }
    let known = marks(&store).await[1];
    let recall = move |marks: &[SessionMark]| marks.iter().map(|mark| (*mark == known).then(|| "b".into())).collect();
    let query = SessionQuery { archived: Some(false), limit: Some(2), ..SessionQuery::default() };
    let page = store.marked_sessions(query.clone(), Box::new(recall)).await.unwrap();
    assert_eq!(page.total, 3);
    let [MarkedSession::Read(_, read), kept] = &page.rows[..] else { panic!("{page:?}") };
    assert_eq!((**read).clone(), store.sessions(query).await.unwrap().rows[0]);
    assert_eq!(*kept, MarkedSession::Kept("b".into()));
}

#[tokio::test]
async fn statements_are_prepared_once_whatever_is_bound_to_them() {
    let (_folder, store) = store();
    put(&store, row("agent:main:a", 1)).await;
    store
        .database
        .read(|connection| {
            for agent in ["main", "ada", "main"] {
                let query =
                    SessionQuery { agents: Some(vec![agent.into()]), archived: Some(false), ..SessionQuery::default() };
                let (sql, values) = page_sql(&query, MARK);
                let mut statement = connection.prepare_cached(&sql)?;
                let values = values.into_iter().chain([20.into(), 0.into()]);
                statement.query_map(params_from_iter(values), |_| Ok(()))?.for_each(drop);
                assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{agent}");
            }
            Ok::<_, crate::StoreError>(())
        })
        .unwrap();
}
