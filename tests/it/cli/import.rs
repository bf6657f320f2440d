//! `leanclaw import`, on a database with the schema of the TypeScript LeanClaw.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Place, text};

const SCHEMA: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE chats (jid TEXT PRIMARY KEY, name TEXT, last_message_time TEXT, channel TEXT, is_group INTEGER DEFAULT 0);
CREATE TABLE messages (id TEXT, chat_jid TEXT, sender TEXT, sender_name TEXT, content TEXT, timestamp TEXT,
    is_from_me INTEGER, is_bot_message INTEGER DEFAULT 0, PRIMARY KEY (id, chat_jid),
    FOREIGN KEY (chat_jid) REFERENCES chats (jid));
CREATE INDEX idx_timestamp ON messages (timestamp);
CREATE TABLE scheduled_tasks (id TEXT PRIMARY KEY, group_folder TEXT NOT NULL, chat_jid TEXT NOT NULL, prompt TEXT NOT NULL,
    schedule_type TEXT NOT NULL, schedule_value TEXT NOT NULL, context_mode TEXT DEFAULT 'isolated', next_run TEXT,
    last_run TEXT, last_result TEXT, status TEXT DEFAULT 'active', created_at TEXT NOT NULL);
CREATE TABLE task_run_logs (id INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT, run_at TEXT, duration_ms INTEGER,
    status TEXT, result TEXT, error TEXT);
CREATE TABLE router_state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sessions (group_folder TEXT PRIMARY KEY, session_id TEXT NOT NULL);
CREATE TABLE registered_groups (jid TEXT PRIMARY KEY, name TEXT NOT NULL, folder TEXT NOT NULL UNIQUE,
    trigger_pattern TEXT NOT NULL, added_at TEXT NOT NULL, container_config TEXT, requires_trigger INTEGER DEFAULT 1,
    is_main INTEGER DEFAULT 0);
CREATE TABLE audit_log (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT, event_type TEXT, actor TEXT, target TEXT,
    details TEXT, outcome TEXT);
CREATE TABLE provider_usage (id INTEGER PRIMARY KEY AUTOINCREMENT, group_name TEXT, provider TEXT, input_tokens INTEGER,
    output_tokens INTEGER, recorded_at TEXT);
CREATE TABLE compaction_log (id INTEGER PRIMARY KEY AUTOINCREMENT, group_folder TEXT, original_tokens INTEGER,
    compacted_tokens INTEGER, model TEXT, compacted_at TEXT);
CREATE TABLE agents (id TEXT PRIMARY KEY, name TEXT, description TEXT, model TEXT, system_prompt TEXT, tools TEXT,
    created_at TEXT, updated_at TEXT);
CREATE TABLE schema_version (version INTEGER PRIMARY KEY);
INSERT INTO schema_version VALUES (1);";

const CONTENT: &str = "
INSERT INTO chats VALUES ('team@g.us', 'Team', '2026-01-05T15:04:06.000Z', 'whatsapp', 1),
    ('ann', 'Ann', '2026-01-05T15:00:00.000Z', 'telegram', 0), ('silent', 'Nobody', NULL, NULL, 0);
INSERT INTO messages VALUES
    ('m2', 'team@g.us', 'bot', 'Andy', 'Hello Ann', '2026-01-05T15:04:06.000Z', 1, 1),
    ('m1', 'team@g.us', 'ann', 'Ann', '@Andy hello ü', '2026-01-05T15:04:05.000Z', 0, 0),
    ('m1', 'ann', 'ann', 'Ann', 'to you alone', '2026-01-05T15:00:00.000Z', 0, 0),
    ('m3', 'ann', 'ann', 'Ann', 'at no time', 'yesterday', 0, 0),
    ('m4', 'ann', 'ann', 'Ann', NULL, '2026-01-05T15:00:02.000Z', 0, 0);
INSERT INTO registered_groups VALUES
    ('team@g.us', 'Team', 'team', '@Andy', '2026-01-01T00:00:00.000Z', '{\"timeout\": 5}', 1, 1),
    ('bad', 'Bad', '../outside', '@Andy', '2026-01-01T00:00:00.000Z', NULL, 1, 0);
INSERT INTO agents VALUES ('helper', 'Helper', 'helps', 'some-model', 'Be kind.', 'a,b', '2026-01-01T00:00:00.000Z', NULL);
INSERT INTO scheduled_tasks (id, group_folder, chat_jid, prompt, schedule_type, schedule_value, created_at) VALUES
    ('task-1-abc', 'team', 'team@g.us', 'say hello', 'cron', '0 9 * * *', '2026-01-01T00:00:00.000Z');
INSERT INTO router_state VALUES ('last_timestamp', '2026-01-05T15:04:06.000Z');";

/// A folder as the original leaves it.
fn original(place: &Place) -> PathBuf {
    let folder = place.work().join("original");
    fs::create_dir_all(folder.join("store")).unwrap();
    let connection = Connection::open(database(&folder)).unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    connection.execute_batch(CONTENT).unwrap();
    folder
}

fn database(folder: &Path) -> PathBuf {
    folder.join("store/leanclaw.db")
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder.join("store")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

fn added(outcome: &Value) -> [&Value; 4] {
    ["groups", "agents", "sessions", "messages"].map(|what| &outcome[what]["added"])
}

fn kept<'a>(outcome: &'a Value, name: &str) -> &'a Value {
    let all = outcome["kept"].as_array().unwrap();
    all.iter().find(|kept| kept["name"] == name).unwrap_or_else(|| panic!("{name}: {outcome}"))
}

/// Who said what.
fn said(history: &Value) -> Vec<(&str, &str)> {
    let messages = history["messages"].as_array().unwrap().iter();
    messages.map(|message| (text(&message["role"]), text(&message["content"][0]["text"]))).collect()
}

#[tokio::test]
async fn what_has_a_home_gets_there_and_the_rest_is_kept() {
    let place = Place::empty();
    let folder = original(&place);
    let source = folder.to_str().unwrap();
    let before = files(&folder);
    place.write_config("{}");
    let settings = place.home().join(".config/leanclaw");
    let senders =
        r#"{"default": {"allow": "*", "mode": "trigger"}, "chats": {"ann": {"allow": ["ann"], "mode": "drop"}}}"#;
    fs::write(settings.join("sender-allowlist.json"), senders).unwrap();

    let dry = place.run(&["import", source, "--dry-run", "--json"]).await.json();
    assert_eq!(added(&dry), [&json!(1), &json!(1), &json!(3), &json!(4)], "{dry}");
    let first = place.run(&["import", source, "--json"]).await.json();
    assert_eq!(added(&first), added(&dry), "{first}");
    assert_eq!(first["problems"], dry["problems"]);
    let problems: Vec<&str> = first["problems"].as_array().unwrap().iter().map(text).collect();
    for part in [
        "group \"bad\" cannot be one here: folder must",
        "message \"m3\" of chat \"ann\" has no readable time",
        "message \"m4\" of chat \"ann\" has no text",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
    }
    let tasks = kept(&first, "scheduled_tasks");
    assert_eq!(
        (&tasks["added"], &tasks["first"], &tasks["waitsFor"]),
        (&json!(1), &json!(["task-1-abc"]), &json!("the scheduler"))
    );
    assert_eq!(kept(&first, "registered_groups")["added"], 2, "also the one that is no group here");
    kept(&first, "sender-allowlist.json");
    assert_eq!(files(&folder), before, "the source is only read");

    let again = place.run(&["import", source, "--json"]).await.json();
    assert_eq!(added(&again), [&json!(0); 4], "{again}");
    assert!(again["kept"].as_array().unwrap().iter().all(|kept| kept["added"] == 0), "{again}");
    // What came since then comes, and nothing twice.
    let connection = Connection::open(database(&folder)).unwrap();
    let late = "INSERT INTO messages VALUES ('m9', 'ann', 'ann', 'Ann', 'later', '2026-01-06T00:00:00.000Z', 0, 0)";
    connection.execute_batch(late).unwrap();
    // The file name itself, while its program has it open and a log beside it.
    let late = place.run(&["import", database(&folder).to_str().unwrap(), "--json"]).await.json();
    assert_eq!(added(&late), [&json!(0), &json!(0), &json!(0), &json!(1)], "{late}");
    drop(connection);

    let program = place.start().await;
    let mut client = program.client().await;
    let groups = client.ok("groups.list", json!({})).await.to_string();
    assert!(groups.contains("team@g.us") && groups.contains("@Andy") && !groups.contains("outside"), "{groups}");
    assert!(client.ok("agents.list", json!({})).await.to_string().contains("helper"));
    let history = client.ok("chat.history", json!({"sessionKey": "team@g.us"})).await;
    assert_eq!(said(&history), [("user", "@Andy hello ü"), ("assistant", "Hello Ann")], "{history}");
    assert_eq!(history["messages"][0]["senderLabel"], "Ann");
    let private = client.ok("chat.history", json!({"sessionKey": "ann"})).await;
    assert_eq!(private["messages"].as_array().unwrap().len(), 3, "{private}");
    let refused = place.run(&["import", source]).await.failed(1);
    assert!(refused.contains("already running"), "{refused}");
    program.stop().await;
    place.run(&["db", "check"]).await.ok();
    let rows = place.run(&["audit", "tail", "--kind", "data-imported", "--json"]).await.json();
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
}

#[tokio::test]
async fn what_cannot_be_taken_in_is_named_and_nothing_comes() {
    let place = Place::empty();
    let file = place.work().join("x.db");
    let source = file.to_str().unwrap();
    let none = place.run(&["import", source]).await.failed(1);
    assert!(none.contains("there is no database") && none.contains("store/leanclaw.db"), "{none}");
    fs::write(&file, "garbage of some length, which is no database at all".repeat(50)).unwrap();
    let garbage = place.run(&["import", source]).await.failed(1);
    assert!(garbage.contains("is not a database"), "{garbage}");
    for (sql, expected) in [
        ("CREATE TABLE other (x);", "it has no table `chats`"),
        ("CREATE TABLE chats (jid); CREATE TABLE messages (x); CREATE TABLE registered_groups (x);", "no column `id`"),
        (&format!("{SCHEMA} UPDATE schema_version SET version = 7;"), "its schema has version 7"),
    ] {
        let _ = fs::remove_file(&file);
        Connection::open(&file).unwrap().execute_batch(sql).unwrap();
        let foreign = place.run(&["import", source]).await.failed(1);
        assert!(foreign.contains(expected), "{foreign}");
    }
    let folder = original(&place);
    let lists = place.work().join("lists");
    fs::create_dir(&lists).unwrap();
    fs::write(lists.join("mount-allowlist.json"), r#"{"allowedRoots": []}"#).unwrap();
    let (folder, lists) = (folder.to_str().unwrap(), lists.to_str().unwrap());
    let wrong = place.run(&["import", folder, "--allowlists", lists]).await.failed(1);
    assert!(wrong.contains("mount-allowlist.json") && wrong.contains("blockedPatterns"), "{wrong}");
    let dry = place.run(&["import", folder, "--dry-run", "--json"]).await.json();
    assert_eq!(added(&dry), [&json!(1), &json!(1), &json!(3), &json!(4)], "nothing of it came: {dry}");
}
