//! What was acknowledged is there after a SIGKILL. The test runs its own binary again as the program that is killed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use leanclaw_types::run::RunState;
use leanclaw_types::session::NewMessage;

use super::runs::{done, request, said};
use super::sessions::{put, row};
use super::{denied, grant, granted, key, received};
use crate::{AuditQuery, KvStore, Store, Submitted, TakenRun, check_databases};

const FOLDER_VARIABLE: &str = "STORE_TEST_FOLDER";
const ACKNOWLEDGED: usize = 60;

/// Does nothing unless the test below starts it: then it writes and says so until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER_VARIABLE) else { return };
    let store = Arc::new(Store::open(folder.as_ref()).unwrap());
    let kv = Arc::new(KvStore::open(folder.as_ref()).unwrap());
    let mut tasks = Vec::new();
    for task in 0..4 {
        let (store, kv) = (Arc::clone(&store), Arc::clone(&kv));
        tasks.push(tokio::spawn(async move {
            for number in 0.. {
                let name = format!("{task}-{number}");
                store.submit(received(&name)).await.unwrap();
                println!("acknowledged inbox {name}");
                kv.put(&key("notes"), &name, name.clone().into_bytes(), None, None, u64::MAX).await.unwrap();
                println!("acknowledged kv {name}");
                store.put_grant(grant(&format!("p{name}")), granted(&name)).await.unwrap();
                println!("acknowledged grant {name}");
                store.append_audit(denied(&name)).await.unwrap();
                println!("acknowledged audit {name}");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// Does nothing unless the test below starts it: then it takes runs on, some of which end, and says so until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_that_is_killed_in_its_runs() {
    let Some(folder) = std::env::var_os(FOLDER_VARIABLE) else { return };
    let store = Arc::new(Store::open(folder.as_ref()).unwrap());
    let mut tasks = Vec::new();
    for task in 0..4 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            let key = format!("agent:main:{task}");
            put(&store, row(&key, 1)).await;
            for number in 0.. {
                let name = format!("{task}-{number}");
                let taken = store.take_run(request(&name, &key), said(&name, &name, 7), u32::MAX).await.unwrap();
                assert!(matches!(taken, TakenRun::New(..)), "{taken:?}");
                println!("acknowledged taken {name}");
                if number % 3 == 0 {
                    continue;
                }
                assert!(store.start_run(&name, 8).await.unwrap());
                println!("acknowledged started {name}");
                store.append_run_messages(&key, replies(&name)).await.unwrap().unwrap();
                println!("acknowledged said {name}");
                if number % 3 == 1 {
                    continue;
                }
                store.end_run(&name, done(9)).await.unwrap().unwrap();
                println!("acknowledged ended {name}");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// What the run of that name says.
fn replies(name: &str) -> Vec<NewMessage> {
    ["first", "second"].map(|part| said(&format!("{part} of {name}"), part, 9)).into()
}

/// Runs the test of that name as a program of its own, and kills it once it has acknowledged enough. Gives all it did.
fn acknowledged_before_the_kill(program: &str, folder: &Path) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("tests::durability::{program}"), "--nocapture"])
        .env(FOLDER_VARIABLE, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut acknowledged: Vec<String> = Vec::new();
    while acknowledged.len() < ACKNOWLEDGED {
        // The end of its output means that it died by itself.
        let line = lines.next().expect("the program ended before it was killed");
        acknowledged.extend(line.split_once("acknowledged ").map(|(_, what)| what.to_owned()));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said between the last line read and the kill counts as well.
    acknowledged.extend(lines.filter_map(|line| line.split_once("acknowledged ").map(|(_, what)| what.to_owned())));
    acknowledged
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::TempDir::new().unwrap();
    let acknowledged = acknowledged_before_the_kill("the_program_that_is_killed", folder.path());
    let store = Store::open(folder.path()).unwrap();
    let kv = KvStore::open(folder.path()).unwrap();
    let audit = store.audit_tail(AuditQuery { limit: 1000, ..AuditQuery::default() }).await.unwrap();
    for what in acknowledged {
        let (kind, name) = what.split_once(' ').unwrap();
        let is_there = match kind {
            "inbox" => matches!(store.submit(received(name)).await.unwrap(), Submitted::Duplicate { .. }),
            "kv" => kv.get(&key("notes"), name).await.unwrap().is_some_and(|entry| entry.value == name.as_bytes()),
            "grant" => store.grant(&key(&format!("p{name}"))).await.unwrap().is_some(),
            "audit" => audit.iter().any(|row| row.record == denied(name)),
            _ => panic!("{what}"),
        };
        assert!(is_there, "{what}");
    }
}

#[tokio::test]
async fn every_run_that_was_taken_on_is_found_after_a_kill_where_it_stood_and_once() {
    let folder = tempfile::TempDir::new().unwrap();
    let acknowledged = acknowledged_before_the_kill("the_program_that_is_killed_in_its_runs", folder.path());
    let store = Store::open(folder.path()).unwrap();
    let mut said_in = HashMap::new();
    for task in 0..4 {
        let key = format!("agent:main:{task}");
        let said = store.history(&key, std::collections::HashSet::new(), usize::MAX).await.unwrap();
        said_in.insert(key, said.into_iter().map(|message| message.body).collect::<Vec<_>>());
    }
    let open: Vec<String> = store.open_runs().await.unwrap().into_iter().map(|run| run.request.run_id).collect();
    for what in acknowledged {
        let (step, name) = what.split_once(' ').unwrap();
        let run = store.run(name).unwrap().unwrap_or_else(|| panic!("{what}"));
        let is_so = match step {
            "taken" => true,
            "started" | "said" => run.state != RunState::Waiting,
            "ended" => run.state == RunState::Ended(done(9)),
            _ => panic!("{what}"),
        };
        assert!(is_so, "{what}: {run:?}");
        let is_open = !matches!(run.state, RunState::Ended(_));
        assert_eq!(open.iter().filter(|id| *id == name).count(), usize::from(is_open), "{what}");
        let key = format!("agent:main:{}", name.split_once('-').unwrap().0);
        let mut messages = vec![said(name, name, 7)];
        messages.extend(if step == "said" || step == "ended" { replies(name) } else { Vec::new() });
        for message in messages {
            assert_eq!(said_in[&key].iter().filter(|body| **body == message.body).count(), 1, "{what}: {message:?}");
        }
        let again = store.take_run(request(name, &key), said(name, name, 7), u32::MAX).await.unwrap();
        assert!(matches!(&again, TakenRun::Known(_, state) if *state == run.state), "{what}: {again:?}");
    }
    // Of what nobody learnt of, too, a run and its message are both there or both not.
    let checked = check_databases(folder.path()).unwrap();
    assert!(checked.iter().all(|file| file.problems.is_empty()), "{checked:?}");
    let said: usize =
        said_in.values().flatten().filter(|body| body["content"][0]["text"] == body["idempotencyKey"]).count();
    let file = rusqlite::Connection::open(folder.path().join("core.db")).unwrap();
    let runs: i64 = file.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap();
    assert_eq!(usize::try_from(runs).unwrap(), said);
}
