//! Groups: written by one client, read by another and after a restart.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fake::MemoryRecords;
use super::{assert_invalid, start_on, with_token};

fn team(jid: &str, folder: &str) -> Value {
    json!({"jid": jid, "name": "Team", "folder": folder})
}

#[tokio::test]
async fn groups_are_registered_changed_and_removed_for_good() {
    let records = Arc::new(MemoryRecords::default());
    let server = start_on(with_token(), Arc::clone(&records)).await;
    let mut admin = server.admin().await;
    let expected = json!({
        "jid": "tg:1", "name": "Team", "folder": "team", "isMain": false, "trigger": null, "requiresTrigger": true,
        "agentId": "main", "addedAtMs": 1_700_000_000_000_u64,
    });
    assert_eq!(admin.call("groups.register", team("tg:1", "team")).await["payload"], expected);
    let main = json!({"chatJid": "tg:2", "name": "Home", "folder": "home", "isMain": true});
    assert_eq!(admin.call("groups.register", main).await["payload"]["isMain"], true);
    let mut second_main = team("tg:3", "other");
    second_main["isMain"] = json!(true);
    let mut strangers = team("tg:3", "other");
    strangers["agentId"] = json!("nobody");
    let folder_rule =
        "folder must have 1 to 64 of A-Z, a-z, 0-9, `_`, `-`, begin with a letter or digit, and not be `global`";
    for (params, message) in [
        (team("tg:1", "again"), "group \"tg:1\" is registered already"),
        (team("tg:3", "Team"), "folder \"Team\" belongs to group \"tg:1\""),
        (second_main, "group \"tg:2\" is the main one already"),
        (strangers, "agent \"nobody\" not found"),
        (team("tg:3", "../x"), folder_rule),
        (team("tg:3", "a/b"), folder_rule),
        (team("tg:3", "Global"), folder_rule),
        (team("tg:3", "-a"), folder_rule),
        (team("a\nb", "x"), "jid holds control characters"),
    ] {
        assert_invalid(&admin.call("groups.register", params).await, message);
    }
    let change = json!({"jid": "tg:1", "trigger": "@bot", "requiresTrigger": false});
    let changed = admin.call("groups.update", change).await["payload"].clone();
    assert_eq!((&changed["trigger"], &changed["name"]), (&json!("@bot"), &json!("Team")), "{changed}");
    assert_invalid(&admin.call("groups.update", json!({"jid": "x"})).await, "group \"x\" not found");
    drop(admin);
    server.stop().await;

    let server = start_on(with_token(), Arc::clone(&records)).await;
    let mut reader = server.connect(3, &["operator.read"]).await;
    let listed = reader.call("groups.list", json!({})).await["payload"].clone();
    assert_eq!((&listed[0], &listed[1]["folder"]), (&changed, &json!("home")), "{listed}");
    assert_eq!(reader.call("groups.remove", json!({"jid": "tg:1"})).await["ok"], false);
    let mut admin = server.admin().await;
    let removed = admin.call("groups.remove", json!({"jid": "tg:1"})).await;
    assert_eq!(removed["payload"], json!({"ok": true, "jid": "tg:1"}));
    assert_eq!(reader.call("groups.list", json!({})).await["payload"].as_array().unwrap().len(), 1);
    let rows = records.audit.lock().unwrap().iter().filter(|row| row.event.kind() == "group-changed").count();
    assert_eq!(rows, 4);
    drop((admin, reader));
    server.stop().await;
    let server = start_on(with_token(), Arc::clone(&records)).await;
    let left = server.connect(4, &["operator.read"]).await.call("groups.list", json!({})).await["payload"].clone();
    assert_eq!((left.as_array().unwrap().len(), &left[0]["jid"]), (1, &json!("tg:2")), "it stays away: {left}");
    server.stop().await;
}

/// The agent goes while the registration waits for its turn.
#[tokio::test]
async fn a_group_never_gets_an_agent_that_is_gone() {
    let (folder, records) = (tempfile::tempdir().unwrap(), Arc::new(MemoryRecords::default()));
    let server = super::agents::over(&records, folder.path()).await;
    let (mut admin, mut other) = (server.admin().await, server.admin().await);
    assert_eq!(admin.call("agents.create", json!({"name": "Ada"})).await["ok"], true);
    let held = server.records.changed.lock().await;
    let call = |method: &str, params: Value| json!({"type": "req", "id": "c", "method": method, "params": params});
    admin.send(call("agents.delete", json!({"agentId": "ada"}))).await;
    while crate::Records::load(&*server.records, "agent").unwrap().iter().any(|(id, _)| id == "ada") {
        tokio::task::yield_now().await;
    }
    let mut of_ada = team("tg:1", "team");
    of_ada["agentId"] = json!("ada");
    other.send(call("groups.register", of_ada)).await;
    other.send(json!({"type": "req", "id": "after", "method": "health"})).await;
    assert_eq!(other.response(&json!("after")).await["ok"], true);
    drop(held);
    assert_eq!(admin.response(&json!("c")).await["ok"], true);
    assert_invalid(&other.response(&json!("c")).await, "agent \"ada\" not found");
}
