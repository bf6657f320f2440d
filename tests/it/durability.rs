//! Nothing that was acknowledged is lost, and nothing that is broken is made worse.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Client, Place, Program, env, install_guest, manifest, text};

/// All notes, page by page.
async fn notes(program: &Program) -> BTreeSet<String> {
    let mut client = program.client().await;
    let mut found = BTreeSet::new();
    let mut after = json!({"limit": 200});
    loop {
        let page = client.ok("notes.list", after).await;
        found.extend(page["notes"].as_array().unwrap().iter().map(|note| text(&note["text"]).to_owned()));
        match &page["next"] {
            Value::Null => return found,
            next => after = json!({"limit": 200, "after": next}),
        }
    }
}

/// Adds notes one after another until the connection ends; those whose acknowledgement came.
async fn add_until_the_end(mut client: Client, name: String) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for count in 0.. {
        let note = format!("{name}-{count}");
        let Some(id) = client.send_if_open("notes.add", json!({"text": note})).await else { break };
        match client.answer_if_any(&id).await {
            Some(_) => acknowledged.push(note),
            None => break,
        }
    }
    acknowledged
}

#[tokio::test]
async fn every_acknowledged_note_survives_a_kill() {
    let place = Place::with_examples(&["notes"]).await;
    let mut program = place.start().await;
    program.grant_all("notes").await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..10 {
        let mut writers = Vec::new();
        for writer in 0..3 {
            writers.push(tokio::spawn(add_until_the_end(program.client().await, format!("{round}-{writer}"))));
        }
        // The kill comes while notes are being added, each round after a few more of them.
        let mut watcher = program.client().await;
        for _ in 0..=round {
            watcher.event("notes.changed").await;
        }
        program.kill().await;
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        program = place.start().await;
        assert_eq!(program.plugin("notes").await["state"], "ready", "round {round}");
        let kept = notes(&program).await;
        let lost: Vec<&String> = acknowledged.difference(&kept).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
    }
    assert!(acknowledged.len() >= 10, "{acknowledged:?}");
    program.stop().await;
}

/// A grant is there as a whole, with its audit row, or not at all.
#[tokio::test]
async fn a_kill_during_a_grant_leaves_all_of_it_or_nothing() {
    let place = Place::empty();
    install_guest(&place, &manifest("demo", "1", &json!({})), &leanclaw_test_guests::answers("1").unwrap());
    let mut granted_rounds = 0;
    for round in 0..6 {
        let program = place.start().await;
        let standing = program.plugin("demo").await["granted"].is_null();
        let mut client = program.client().await;
        let method = if standing { "plugins.grant" } else { "plugins.revoke" };
        let id = client.send(method, json!({"pluginId": "demo", "all": true})).await;
        if round % 2 == 0 {
            client.answer(&id).await.unwrap();
        }
        program.kill().await;
        let program = place.start().await;
        let after = program.plugin("demo").await["granted"].is_null();
        if round % 2 == 0 {
            assert_ne!(standing, after, "what was acknowledged counts");
        }
        let rows = place.run(&["audit", "tail", "--json", "--limit", "1000"]).await.json();
        let count = |kind: &str| rows.as_array().unwrap().iter().filter(|row| row["kind"] == kind).count();
        let balance = count("plugin-granted") - count("plugin-revoked");
        assert_eq!(balance, usize::from(!after), "the audit log tells of each grant that counts: {rows}");
        granted_rounds += usize::from(!after);
        program.stop().await;
    }
    assert!(granted_rounds > 0);
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Compiled code runs with the program's rights: what was tampered with is compiled again, not run.
#[tokio::test]
async fn a_damaged_cache_is_made_anew() {
    let place = Place::with_examples(&["notes"]).await;
    let program = place.start().await;
    program.grant_all("notes").await;
    program.client().await.ok("notes.add", json!({"text": "kept"})).await;
    program.stop().await;
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("a flipped bit in the middle", |file| {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).unwrap();
        }),
        ("cut off", |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 3]).unwrap();
        }),
        ("empty", |file| fs::write(file, b"").unwrap()),
        ("open to others", |file| fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap()),
    ];
    for (what, damage) in damages {
        let files = files_below(&place.data().join("cache"));
        let compiled: Vec<_> = files.iter().filter(|file| fs::metadata(file).unwrap().len() > 1024).collect();
        assert!(!compiled.is_empty(), "{files:?}");
        for file in compiled {
            damage(file);
        }
        let program = place.start().await;
        let listed = program.client().await.ok("notes.list", json!({})).await;
        assert_eq!(listed["notes"][0]["text"], "kept", "{what}");
        program.stop().await;
    }
}

#[tokio::test]
async fn a_database_of_garbage_stops_the_start_and_is_left_alone() {
    for name in ["core.db", "plugin-kv.db"] {
        let place = Place::empty();
        let garbage = b"this was a database once".repeat(1000);
        let file = place.data().join(name);
        fs::write(&file, &garbage).unwrap();
        let error = place.refused_start(|_| {}).await;
        assert!(error.contains(&file.display().to_string()), "{error}");
        assert!(error.contains("hint: "), "{error}");
        assert_eq!(fs::read(&file).unwrap(), garbage, "it is left as it was");
        assert!(!place.data().join(format!("{name}-wal")).exists());
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_not_touched() {
    let place = Place::empty();
    place.start().await.stop().await;
    let file = place.data().join("core.db");
    let mut bytes = fs::read(&file).unwrap();
    // The user version of an SQLite file: four bytes, the largest first.
    bytes[60..64].copy_from_slice(&9999_u32.to_be_bytes());
    fs::write(&file, &bytes).unwrap();
    let error = place.refused_start(|_| {}).await;
    assert!(error.contains("9999") && error.contains("hint: "), "{error}");
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[tokio::test]
async fn one_data_directory_has_one_program() {
    let place = Place::empty();
    let program = place.start().await;
    let error = place.refused_start(|_| {}).await;
    let process = program.process_id();
    assert_eq!(
        error,
        format!(
            "error: LeanClaw is already running with this data directory (process {process}): {}\n\
             hint: stop it with `kill {process}`\n\
             hint: or give this one a directory of its own with LEANCLAW_DATA_DIR or --data-dir\n",
            place.data().display()
        )
    );
    program.client().await.ok("health", json!({})).await;
    program.kill().await;
    // What a killed program leaves behind does not stand in the way of the next.
    place.start().await.stop().await;
}

#[tokio::test]
async fn one_port_has_one_program() {
    let (place, other) = (Place::empty(), Place::empty());
    let program = place.start().await;
    let error = other.refused_start(env("LEANCLAW_GATEWAY_PORT", &program.address.port().to_string())).await;
    assert_eq!(
        error.lines().filter(|line| line.starts_with("error: ") || line.starts_with("hint: ")).collect::<Vec<_>>(),
        [
            &format!("error: cannot listen on {}", program.address),
            "hint: another program listens there; --port or LEANCLAW_GATEWAY_PORT names another port, 0 takes any free one",
        ]
    );
    program.stop().await;
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_is_named() {
    let place = Place::empty();
    // Also for a user that may write everywhere: nothing can be made below a file.
    let blocked = place.work().join("file/data");
    fs::write(place.work().join("file"), "").unwrap();
    let error = place.refused_start(env("LEANCLAW_DATA_DIR", blocked.to_str().unwrap())).await;
    assert!(error.contains(&blocked.display().to_string()) && error.contains("LEANCLAW_DATA_DIR"), "{error}");
    let shared = place.work().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("something"), "").unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
    let error = place.refused_start(env("LEANCLAW_DATA_DIR", shared.to_str().unwrap())).await;
    assert!(error.contains("other users can read it (mode 755)"), "{error}");
    let fresh = place.work().join("fresh/data");
    let program = place.start_in(&fresh).await;
    assert_eq!(fs::metadata(&fresh).unwrap().permissions().mode() & 0o7777, 0o700);
    program.stop().await;
}

/// The start of a user who may not write there, which root cannot play: the kernel lets root write anyway.
#[tokio::test]
async fn a_data_directory_without_the_right_to_write_is_named() {
    let place = Place::empty();
    place.start().await.stop().await;
    fs::set_permissions(place.data(), fs::Permissions::from_mode(0o500)).unwrap();
    for name in ["leanclaw.lock", "core.db", "plugin-kv.db"] {
        fs::set_permissions(place.data().join(name), fs::Permissions::from_mode(0o400)).unwrap();
    }
    let may_write_anyway = fs::write(place.data().join("probe"), "").is_ok();
    if !may_write_anyway {
        let error = place.refused_start(|_| {}).await;
        assert!(error.contains(&place.data().display().to_string()) && error.contains("hint: "), "{error}");
    }
    fs::set_permissions(place.data(), fs::Permissions::from_mode(0o700)).unwrap();
}
