//! What was acknowledged is there after a SIGKILL. The test runs its own binary again as the program that is killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::{denied, grant, granted, key, received};
use crate::{AuditQuery, KvStore, Store, Submitted};

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

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::durability::the_program_that_is_killed", "--nocapture"])
        .env(FOLDER_VARIABLE, folder.path())
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
