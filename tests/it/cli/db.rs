//! `leanclaw db`: checked, copied and put back, beside a running program and without one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::support::{Place, Program, text};

async fn level(program: &Program) -> Value {
    let listed = program.client().await.ok("sessions.list", json!({})).await;
    listed["sessions"][0]["thinkingLevel"].clone()
}

async fn set_level(program: &Program, level: &str) {
    let params = json!({"key": "main", "thinkingLevel": level});
    program.client().await.ok("sessions.patch", params).await;
}

#[tokio::test]
async fn a_backup_of_a_running_program_brings_everything_back() {
    let place = Place::empty();
    let program = place.start().await;
    set_level(&program, "high").await;
    let checked = place.run(&["db", "check", "--json"]).await.json();
    assert_eq!((&checked["ok"], checked["databases"].as_array().unwrap().len()), (&json!(true), 2), "{checked}");
    assert_eq!(checked["databases"][0]["schemaVersion"], checked["databases"][0]["supportedVersion"], "{checked}");

    let made = place.run(&["db", "backup", "--json"]).await.json();
    let backup = text(&made["path"]).to_owned();
    assert!(backup.starts_with(place.data().join("backups").to_str().unwrap()), "{made}");
    for file in made["databases"].as_array().unwrap() {
        let mode = fs::metadata(text(&file["path"])).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let again = place.run(&["db", "backup", &backup]).await.failed(1);
    assert!(again.contains("is there already") && again.contains("--force"), "{again}");
    set_level(&program, "low").await;

    let held = place.run(&["db", "restore", &backup, "--yes"]).await.failed(1);
    assert!(held.contains("already running"), "{held}");
    assert_eq!(level(&program).await, "low");
    program.stop().await;
    let unasked = place.run(&["db", "restore", &backup]).await.failed(1);
    assert!(unasked.contains("--yes"), "{unasked}");
    let restored = place.run(&["db", "restore", &backup, "--yes", "--json"]).await.json();
    place.run(&["db", "check"]).await.ok();
    let program = place.start().await;
    assert_eq!(level(&program).await, "high");
    program.stop().await;
    let replaced = text(&restored["replaced"]);
    assert!(fs::metadata(format!("{replaced}/core.db")).unwrap().len() > 0, "what was there is kept");
    let rows = place.run(&["audit", "tail", "--kind", "databases-copied", "--json"]).await.json();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["action"]), (1, &json!("restored")), "{rows}");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do() {
    let place = Place::empty();
    let none = place.run(&["db", "check"]).await.failed(1);
    assert!(none.contains("There is no database") && none.contains("leanclaw start"), "{none}");
    place.start().await.stop().await;
    let file = place.data().join("core.db");
    let mut bytes = fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0x55);
    fs::write(&file, &bytes).unwrap();
    let checked = place.run(&["db", "check"]).await;
    assert!(checked.out.contains("core.db: not good") && checked.out.contains("plugin-kv.db: good"), "{checked:?}");
    assert_eq!(checked.status.code(), Some(1));
    assert!(checked.err.contains("leanclaw db restore") && checked.err.contains("cannot be relied on"), "{checked:?}");
    let refused = place.run(&["db", "backup"]).await.failed(1);
    assert!(refused.contains("damaged"), "{refused}");
    assert_eq!(fs::read(&file).unwrap(), bytes, "it is left as it was");
}
