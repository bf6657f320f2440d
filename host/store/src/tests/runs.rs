//! Runs and the messages they answer, in a real file.

use std::sync::Arc;

use leanclaw_types::Failure;
use leanclaw_types::model::TokenUsage;
use leanclaw_types::run::{AbortReason, RunEnd, RunImage, RunOutcome, RunOwner, RunRequest, RunState};
use leanclaw_types::session::{NewMessage, SessionChange, SessionMark, SessionQuery, SessionRow, TranscriptMessage};
use rusqlite::{Connection, params_from_iter};
use serde_json::{Map, Value, json};

use super::sessions::{marks, newest, put, row};
use super::store;
use crate::runs::{END, MAX_ENDED, PRUNE, WAITING};
use crate::transcripts::{HISTORY, OF_RUN};
use crate::{Store, StoreError, StoredRun, TakenRun};

pub(super) const KEY: &str = "agent:main:main";
pub(super) const OTHER: &str = "agent:ada:main";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) fn request(id: &str, key: &str) -> RunRequest {
    RunRequest {
        run_id: id.into(),
        session_key: key.into(),
        message: "hi".into(),
        images: vec![RunImage { media_type: "image/png".into(), data: "AA==".into() }],
        thinking: None,
        timeout_ms: Some(5),
        system: String::new(),
        owner: RunOwner { connection: "c1".into(), device: None, caller: "client".into() },
    }
}

pub(super) fn body(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub(super) fn said(id: &str, text: &str, at_ms: u64) -> NewMessage {
    let body = body(&json!({"content": [{"type": "text", "text": text}], "idempotencyKey": id}));
    NewMessage { role: "user".into(), body, at_ms }
}

pub(super) fn done(ended_ms: u64) -> RunEnd {
    RunEnd {
        outcome: RunOutcome::Done,
        text: "hello".into(),
        started_ms: Some(1),
        ended_ms,
        provider: Some("fake".into()),
        model: None,
        usage: TokenUsage { input: 3, ..TokenUsage::default() },
    }
}

pub(super) async fn with_sessions() -> (tempfile::TempDir, Store) {
    let (folder, store) = store();
    for key in [KEY, OTHER] {
        put(&store, row(key, 1)).await;
    }
    (folder, store)
}

async fn take(store: &Store, id: &str, key: &str) -> TakenRun {
    store.take_run(request(id, key), said(id, "hi", 7), 100).await.unwrap()
}

pub(super) async fn new(store: &Store, id: &str, key: &str) -> (TranscriptMessage, i64) {
    match take(store, id, key).await {
        TakenRun::New(message, number) => (message, number),
        other => panic!("{id} is not new: {other:?}"),
    }
}

pub(super) async fn transcript(store: &Store, key: &str) -> Vec<TranscriptMessage> {
    store.transcript(key, newest(1000)).await.unwrap().messages
}

async fn open(store: &Store) -> Vec<(String, RunState, u32)> {
    let runs = store.open_runs().await.unwrap();
    runs.into_iter().map(|run| (run.request.run_id, run.state, run.attempts)).collect()
}

fn state(store: &Store, id: &str) -> Option<RunState> {
    store.run(id).unwrap().map(|run| run.state)
}

pub(super) async fn change(store: &Store, change: SessionChange) {
    let decide = Box::new(move |_: Option<SessionRow>| change);
    store.change_session(KEY.into(), decide).await.unwrap();
}

pub(super) async fn execute(store: &Store, sql: &'static str) {
    let work = move |connection: &Connection| Ok::<_, StoreError>(connection.execute_batch(sql)?);
    store.database.write(crate::queue::Lane::Host, 0, work).await.unwrap();
}

#[tokio::test]
async fn a_run_waits_goes_on_and_ends_and_each_is_there_after_a_restart() {
    let (folder, mut store) = with_sessions().await;
    let before = marks(&store).await;
    let (message, number) = new(&store, "r", KEY).await;
    assert_eq!((message.seq, &message.role, &message.body), (1, &"user".into(), &said("r", "hi", 7).body));
    assert_eq!(transcript(&store, KEY).await, std::slice::from_ref(&message));
    assert_eq!(store.session(KEY).unwrap().unwrap().updated_ms, 7);
    let changed: Vec<SessionMark> = marks(&store).await.into_iter().filter(|mark| !before.contains(mark)).collect();
    assert_eq!(changed.len(), 1, "a list shows what was said");

    let mut expected = StoredRun {
        number,
        request: request("r", KEY),
        message_id: message.id,
        message_seq: 1,
        state: RunState::Waiting,
        attempts: 0,
        created_ms: 7,
        started_ms: None,
    };
    let reopened = async |store: Store| {
        store.close().await;
        Store::open(folder.path()).unwrap()
    };
    assert!(!store.put_run_back("r").await.unwrap(), "it does not go on");
    store = reopened(store).await;
    assert_eq!(store.run("r").unwrap(), Some(expected.clone()));
    assert_eq!(store.open_runs().await.unwrap(), [expected.clone()]);

    assert!(store.start_run("r", 8).await.unwrap());
    assert!(!store.start_run("r", 9).await.unwrap(), "it goes on already");
    store = reopened(store).await;
    (expected.state, expected.attempts, expected.started_ms) = (RunState::Running, 1, Some(8));
    assert_eq!(store.open_runs().await.unwrap(), [expected.clone()]);

    assert!(store.put_run_back("r").await.unwrap());
    assert_eq!(open(&store).await, [("r".into(), RunState::Waiting, 1)]);
    assert!(store.start_run("r", 10).await.unwrap());
    assert_eq!(open(&store).await, [("r".into(), RunState::Running, 2)]);

    assert_eq!(store.end_run("r", done(11)).await.unwrap(), Some(done(11)));
    store = reopened(store).await;
    assert_eq!(store.end_run("r", done(12)).await.unwrap(), Some(done(11)), "the first end counts");
    assert!(!store.start_run("r", 13).await.unwrap() && !store.put_run_back("r").await.unwrap(), "it is over");
    (expected.state, expected.attempts) = (RunState::Ended(done(11)), 2);
    expected.request.images.clear();
    expected.request.message.clear();
    assert_eq!(store.run("r").unwrap(), Some(expected), "its first start stays, its words and pictures are let go");
    assert_eq!(store.open_runs().await.unwrap(), []);
}

#[tokio::test]
async fn a_run_whose_turn_never_came_ends_as_well_and_one_that_nobody_knows_does_not() {
    let (_folder, store) = with_sessions().await;
    new(&store, "r", KEY).await;
    let failed = RunEnd {
        outcome: RunOutcome::Failed { failure: Failure::unavailable("no model answers").hint("try again") },
        started_ms: None,
        ..done(9)
    };
    assert_eq!(store.end_run("r", failed.clone()).await.unwrap(), Some(failed.clone()));
    assert_eq!(state(&store, "r"), Some(RunState::Ended(failed)));
    assert_eq!(store.end_run("none", done(9)).await.unwrap(), None);
    assert!(!store.start_run("none", 1).await.unwrap());
    assert_eq!(store.run("none").unwrap(), None);
}

#[tokio::test]
async fn the_same_again_is_the_same_run_wherever_it_stands_and_anything_else_is_refused() {
    let (_folder, store) = with_sessions().await;
    assert_eq!(take(&store, "r", "agent:main:none").await, TakenRun::Missing);
    let (message, _) = new(&store, "r", KEY).await;
    let states = [RunState::Waiting, RunState::Running, RunState::Ended(done(9))];
    for (number, state) in states.into_iter().enumerate() {
        match number {
            1 => assert!(store.start_run("r", 8).await.unwrap()),
            2 => assert!(store.end_run("r", done(9)).await.unwrap().is_some()),
            _ => {}
        }
        assert_eq!(take(&store, "r", KEY).await, TakenRun::Known(message.clone(), state));
        let other = store.take_run(request("r", KEY), said("r", "something else", 7), 100).await.unwrap();
        assert_eq!(other, TakenRun::Conflict);
        assert_eq!(take(&store, "r", OTHER).await, TakenRun::Conflict);
    }
    assert_eq!(transcript(&store, KEY).await, [message]);
    assert_eq!(transcript(&store, OTHER).await, []);
}

#[tokio::test]
async fn what_was_said_under_a_key_before_is_not_said_nor_run_again() {
    let (_folder, store) = with_sessions().await;
    let before = store.append_once(KEY, said("r", "hi", 3)).await.unwrap().unwrap().message;
    assert_eq!(take(&store, "r", KEY).await, TakenRun::Past(before.clone()));
    let other = store.take_run(request("r", KEY), said("r", "something else", 7), 100).await.unwrap();
    assert_eq!(other, TakenRun::Conflict);
    assert_eq!(transcript(&store, KEY).await, [before]);
    assert_eq!(store.open_runs().await.unwrap(), []);
    // In another session it is another message.
    new(&store, "r", OTHER).await;
}

#[tokio::test]
async fn only_so_many_runs_of_a_session_wait() {
    let (_folder, store) = with_sessions().await;
    let take_of_two = async |id: &str, key: &str| store.take_run(request(id, key), said(id, "hi", 7), 2).await.unwrap();
    for id in ["a", "b"] {
        assert!(matches!(take_of_two(id, KEY).await, TakenRun::New(..)));
    }
    assert_eq!(take_of_two("c", KEY).await, TakenRun::Full);
    assert_eq!(transcript(&store, KEY).await.len(), 2, "what was refused is not in the transcript");
    assert!(matches!(take_of_two("a", KEY).await, TakenRun::Known(_, RunState::Waiting)), "it has its place");
    assert!(matches!(take_of_two("d", OTHER).await, TakenRun::New(..)), "others do not count");
    assert!(store.start_run("a", 8).await.unwrap());
    assert!(matches!(take_of_two("c", KEY).await, TakenRun::New(..)), "what goes on does not wait");
    assert_eq!(take_of_two("e", KEY).await, TakenRun::Full);
    store.end_run("b", done(9)).await.unwrap();
    assert!(matches!(take_of_two("e", KEY).await, TakenRun::New(..)), "nor does what ended");
    assert_eq!(store.take_run(request("f", OTHER), said("f", "hi", 7), 0).await.unwrap(), TakenRun::Full);
}

#[tokio::test]
async fn runs_of_all_sessions_are_in_the_order_in_which_they_were_taken_on() {
    let (folder, store) = with_sessions().await;
    let (mut numbers, mut expected) = (Vec::new(), Vec::new());
    for (id, key) in [("z", KEY), ("b", OTHER), ("y", KEY), ("a", OTHER), ("m", KEY)] {
        numbers.push(new(&store, id, key).await.1);
        expected.push(id.to_owned());
    }
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    for id in ["a", "z"] {
        assert!(store.start_run(id, 8).await.unwrap());
    }
    assert!(store.put_run_back("z").await.unwrap());
    store.close().await;
    let store = Store::open(folder.path()).unwrap();
    let found = store.open_runs().await.unwrap();
    assert_eq!(found.iter().map(|run| run.number).collect::<Vec<_>>(), numbers);
    assert_eq!(found.into_iter().map(|run| run.request.run_id).collect::<Vec<_>>(), expected);
    for id in ["a", "m"] {
        store.end_run(id, done(9)).await.unwrap();
    }
    execute(&store, "DELETE FROM runs WHERE id = 'm'").await;
    let next = new(&store, "next", OTHER).await.1;
    assert!(next > numbers[4], "a number never comes back: {next} {numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_ask_for_the_same_run_one_is_first() {
    let (_folder, store) = with_sessions().await;
    let store = Arc::new(store);
    let ask = |_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { take(&store, "r", KEY).await })
    };
    let (mut first, mut known) = (Vec::new(), Vec::new());
    for task in (0..20).map(ask).collect::<Vec<_>>() {
        match task.await.unwrap() {
            TakenRun::New(message, _) => first.push(message),
            TakenRun::Known(message, RunState::Waiting) => known.push(message),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((first.len(), known.len()), (1, 19));
    assert!(known.iter().all(|message| *message == first[0]));
    assert_eq!(transcript(&store, KEY).await, first);
}

#[tokio::test]
async fn a_run_and_its_message_are_one() {
    let (_folder, store) = with_sessions().await;
    let refuse = "CREATE TEMP TRIGGER refuse BEFORE INSERT ON main.runs BEGIN SELECT RAISE(ABORT, 'no'); END";
    execute(&store, refuse).await;
    let error = store.take_run(request("r", KEY), said("r", "hi", 7), 100).await.unwrap_err();
    assert!(!Failure::from(error).message.is_empty());
    assert_eq!(transcript(&store, KEY).await, []);
    assert_eq!(store.session(KEY).unwrap().unwrap().updated_ms, 1);
    execute(&store, "DROP TRIGGER refuse").await;
    assert_eq!(new(&store, "r", KEY).await.0.seq, 1);
}

#[tokio::test]
async fn a_session_that_goes_takes_its_runs_with_it() {
    for transcript in [true, false] {
        let (folder, store) = with_sessions().await;
        for id in ["waits", "goes-on", "ended"] {
            new(&store, id, KEY).await;
        }
        new(&store, "other", OTHER).await;
        store.start_run("goes-on", 8).await.unwrap();
        store.end_run("ended", done(9)).await.unwrap();
        change(&store, SessionChange::Remove { transcript }).await;
        store.close().await;
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(open(&store).await, [("other".into(), RunState::Waiting, 0)]);
        for id in ["waits", "goes-on", "ended"] {
            assert_eq!(store.run(id).unwrap(), None, "{id}");
            assert_eq!(store.end_run(id, done(9)).await.unwrap(), None, "{id}");
        }
        assert!(!store.start_run("waits", 9).await.unwrap());
        assert_eq!(take(&store, "waits", KEY).await, TakenRun::Missing);
        // One of the same key is another session.
        put(&store, row(KEY, 1)).await;
        new(&store, "waits", KEY).await;
    }
}

#[tokio::test]
async fn runs_whose_transcript_begins_anew_end_and_stay_known() {
    let (_folder, store) = with_sessions().await;
    let (waits, _) = new(&store, "waits", KEY).await;
    let (goes_on, _) = new(&store, "goes-on", KEY).await;
    let (ended, _) = new(&store, "ended", KEY).await;
    new(&store, "other", OTHER).await;
    store.start_run("goes-on", 8).await.unwrap();
    store.end_run("ended", done(9)).await.unwrap();
    change(&store, SessionChange::Put(row(KEY, 20))).await;
    change(&store, SessionChange::Keep { row: row(KEY, 20), messages: 1 }).await;
    assert_eq!(store.open_runs().await.unwrap().len(), 3, "no other change ends one");
    let mut taken = row(KEY, 21);
    taken.label = Some("Taken".into());
    put(&store, SessionRow { key: "agent:main:third".into(), ..taken.clone() }).await;
    change(&store, SessionChange::Restart(taken)).await;
    assert_eq!(store.open_runs().await.unwrap().len(), 3, "nor one that did not happen");

    change(&store, SessionChange::Restart(row(KEY, 22))).await;
    assert_eq!(open(&store).await, [("other".into(), RunState::Waiting, 0)]);
    let aborted = |started_ms| {
        let outcome = RunOutcome::Aborted { by: AbortReason::Rpc };
        let end = RunEnd { outcome, text: String::new(), started_ms, provider: None, ..done(22) };
        RunEnd { usage: TokenUsage::default(), ..end }
    };
    let ends = [(waits, "waits", aborted(None)), (goes_on, "goes-on", aborted(Some(8))), (ended, "ended", done(9))];
    for (message, id, end) in ends {
        assert_eq!(take(&store, id, KEY).await, TakenRun::Known(message, RunState::Ended(end.clone())), "{id}");
        assert_eq!(store.end_run(id, done(30)).await.unwrap(), Some(end), "{id}");
    }
    assert_eq!(transcript(&store, KEY).await, [], "what was said is not said again");
    assert_eq!(new(&store, "next", KEY).await.0.seq, 4);
}

#[tokio::test]
async fn ended_runs_are_kept_for_a_day() {
    let (_folder, store) = with_sessions().await;
    let ids: Vec<String> = (0..20).map(|number| format!("r{number}")).collect();
    for id in &ids {
        new(&store, id, KEY).await;
    }
    for id in &ids {
        store.end_run(id, done(1000)).await.unwrap();
    }
    let kept = |store: &Store| ids.iter().filter(|id| store.run(id).unwrap().is_some()).count();
    let at = async |id: &str, at_ms: u64| store.take_run(request(id, OTHER), said(id, "hi", at_ms), 100).await.unwrap();
    at("a", 1000 + DAY_MS).await;
    assert_eq!(kept(&store), 20, "to the day");
    at("b", 1001 + DAY_MS).await;
    assert_eq!(kept(&store), 12, "a few with each write");
    store.end_run("b", done(1001 + DAY_MS)).await.unwrap();
    assert_eq!(kept(&store), 4);
    store.end_run("a", done(1001 + DAY_MS)).await.unwrap();
    assert_eq!(kept(&store), 0);
    assert!(state(&store, "a").is_some() && state(&store, "b").is_some());
    // Its message is still there: the same again is not run again.
    assert!(matches!(take(&store, "r0", KEY).await, TakenRun::Past(_)));
}

#[tokio::test]
async fn only_the_newest_ended_runs_are_kept() {
    let (folder, store) = with_sessions().await;
    new(&store, "waits", KEY).await;
    new(&store, "first", KEY).await;
    store.close().await;
    let file = Connection::open(folder.path().join("core.db")).unwrap();
    // As many as may be and a few more, all of them since the two above were taken on.
    let ended = serde_json::to_string(&done(5)).unwrap();
    file.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO runs (id, session, message, seq, state, attempts, created_ms, ended_number, ended_ms, request, ending)
         SELECT 'r' || i, (SELECT min(id) FROM sessions), 1, 1, 'ended', 0, 5, i, 5, '{}', ?2 FROM n",
        (MAX_ENDED + 10, ended),
    )
    .unwrap();
    let count = || file.query_row("SELECT count(*) FROM runs", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), MAX_ENDED + 12);
    let store = Store::open(folder.path()).unwrap();
    store.end_run("first", done(6)).await.unwrap();
    assert_eq!(count(), MAX_ENDED + 4, "a few with each write");
    new(&store, "second", KEY).await;
    assert_eq!(count(), MAX_ENDED + 2, "that many, and two that wait");
    store.end_run("second", done(6)).await.unwrap();
    assert_eq!(count(), MAX_ENDED + 1);
    assert_eq!(
        state(&store, "first"),
        Some(RunState::Ended(done(6))),
        "who ended last stays, whenever it was taken on"
    );
    assert_eq!(open(&store).await.len(), 1);
}

#[tokio::test]
async fn runs_are_looked_up_by_indexes_however_many_there_are() {
    let (folder, _store) = with_sessions().await;
    let file = Connection::open(folder.path().join("core.db")).unwrap();
    for (sql, values) in [(WAITING, 1), (END, 3), (PRUNE, 3), (HISTORY, 1), (OF_RUN, 3)] {
        let mut plan = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = plan.query_map(params_from_iter(0..values), |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        let is_costly = |step: &String| step.starts_with("SCAN runs") || step.contains("TEMP B-TREE");
        assert!(!steps.is_empty() && !steps.iter().any(is_costly), "{sql}: {steps:?}");
    }
}

#[tokio::test]
async fn a_run_that_cannot_be_read_is_named_and_hides_no_other() {
    let (_folder, store) = with_sessions().await;
    for id in ["bad", "worse", "good"] {
        new(&store, id, KEY).await;
    }
    execute(&store, "UPDATE runs SET request = '{\"x\": 1}' WHERE id = 'bad'").await;
    execute(&store, "UPDATE runs SET state = 'ended' WHERE id = 'worse'").await;
    assert_eq!(open(&store).await, [("good".into(), RunState::Waiting, 0)]);
    for id in ["bad", "worse"] {
        let error = store.run(id).unwrap_err();
        assert!(error.to_string().contains(&format!("run {id}")), "{error}");
    }
    assert!(matches!(store.end_run("worse", done(9)).await, Err(StoreError::Row { .. })));
}

#[tokio::test]
async fn a_list_of_sessions_is_as_it_was_while_a_run_goes_on_and_ends() {
    let (_folder, store) = with_sessions().await;
    new(&store, "r", KEY).await;
    let before = (marks(&store).await, store.sessions(SessionQuery::default()).await.unwrap());
    let commits = store.commits();
    store.start_run("r", 8).await.unwrap();
    store.end_run("r", done(9)).await.unwrap();
    assert_eq!((marks(&store).await, store.sessions(SessionQuery::default()).await.unwrap()), before);
    assert!(store.commits() > commits);
}
