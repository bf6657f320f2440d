//! Agents and their files: written by one client, read by another and after a restart.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::fake::MemoryRecords;
use super::{Server, assert_invalid, start_with, with_token};

pub(super) async fn over(records: &Arc<MemoryRecords>, folder: &Path) -> Server {
    let root = folder.join("agents");
    start_with(with_token(), Arc::clone(records), |services| services.agents_dir = Some(root)).await
}

/// A gateway, the folder that its agents are in, and what it keeps.
pub(super) async fn fresh() -> (TempDir, Arc<MemoryRecords>, Server) {
    let (folder, records) = (tempfile::tempdir().unwrap(), Arc::new(MemoryRecords::default()));
    let server = over(&records, folder.path()).await;
    (folder, records, server)
}

fn actions(records: &MemoryRecords) -> Vec<(String, String)> {
    let rows = records.audit.lock().unwrap().iter().map(|row| serde_json::to_value(row).unwrap()).collect::<Vec<_>>();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let agents = rows.iter().filter(|row| row["kind"] == "agent-changed");
    agents.map(|row| (text(row, "agent"), text(row, "action"))).collect()
}

#[tokio::test]
async fn agents_are_made_changed_and_taken_away_for_good() {
    let (folder, records, server) = fresh().await;
    let mut admin = server.admin().await;
    let workspace = folder.path().join("agents/work-bot/workspace");
    let mut wish = json!({"name": "Work Bot", "workspace": "~/elsewhere", "emoji": "🦀", "model": "m1"});
    let foreign = format!(
        "unsupported workspace \"~/elsewhere\": every agent has its own in the gateway's data directory; leave `workspace` \
         out, or say {}",
        workspace.display()
    );
    assert_invalid(&admin.call("agents.create", wish.clone()).await, &foreign);
    wish["workspace"] = json!(workspace);
    let made = admin.call("agents.create", wish).await["payload"].clone();
    let expected =
        json!({"ok": true, "agentId": "work-bot", "name": "Work Bot", "workspace": workspace, "model": "m1"});
    assert_eq!(made, expected);
    for (protocol, name, message) in [
        (4, "work bot", "agent \"work-bot\" already exists"),
        (4, "Main", "agent \"main\" already exists"),
        (3, "Main", "\"main\" is reserved"),
        (4, "漢字", "no agent id can be made of \"漢字\""),
        (4, "a\u{1b}b", "name holds control characters"),
    ] {
        let mut client = server.connect(protocol, &["operator.admin"]).await;
        assert_invalid(&client.call("agents.create", json!({ "name": name })).await, message);
    }
    let change = json!({"agentId": "work-bot", "name": "Desk", "model": null, "emoji": ""});
    assert_eq!(admin.call("agents.update", change).await["payload"], json!({"ok": true, "agentId": "work-bot"}));
    assert_invalid(&admin.call("agents.update", json!({"agentId": "nope"})).await, "agent \"nope\" not found");
    let elsewhere = json!({"agentId": "work-bot", "workspace": "~/elsewhere"});
    assert_invalid(&admin.call("agents.update", elsewhere).await, &foreign);
    drop(admin);
    server.stop().await;

    let server = over(&records, folder.path()).await;
    let mut old = server.connect(3, &["operator.read"]).await;
    let listed = old.call("agents.list", json!({})).await["payload"]["agents"].clone();
    assert_eq!(listed, json!([{"id": "main"}, {"id": "work-bot", "name": "Desk", "identity": {"name": "Desk"}}]));
    let mut new = server.connect(4, &["operator.read"]).await;
    let listed = new.call("agents.list", json!({})).await["payload"]["agents"][1].clone();
    assert_eq!((&listed["workspace"], &listed["createdVia"]), (&json!(workspace), &json!("operator")), "{listed}");
    let identity = new.call("agent.identity.get", json!({"sessionKey": "agent:work-bot:main"})).await;
    let expected = json!({"agentId": "work-bot", "name": "Desk", "nameSource": "config", "avatar": "D"});
    assert_eq!(identity["payload"], expected);
    assert_eq!(new.call("agents.delete", json!({"agentId": "work-bot"})).await["error"]["code"], "FORBIDDEN");

    let mut admin = server.admin().await;
    assert_invalid(&admin.call("agents.delete", json!({"agentId": "main"})).await, "\"main\" cannot be deleted");
    let gone = admin.call("agents.delete", json!({"agentId": "work-bot"})).await["payload"].clone();
    let path = folder.path().join("agents/work-bot");
    let removed = json!([{"path": path, "method": "missing"}]);
    assert_eq!(gone, json!({"ok": true, "agentId": "work-bot", "removedBindings": 0, "removed": removed}));
    assert_eq!(new.call("agents.list", json!({})).await["payload"]["agents"].as_array().unwrap().len(), 1);
    let said = |agent: &str, action: &str| (agent.to_owned(), action.to_owned());
    let expected = ["created", "updated", "deleted"].map(|action| said("work-bot", action));
    assert_eq!(actions(&records), expected);
    drop((old, new, admin));
    server.stop().await;
    let server = over(&records, folder.path()).await;
    let left = server.connect(4, &["operator.read"]).await.call("agents.list", json!({})).await["payload"].clone();
    assert_eq!(left["agents"].as_array().unwrap().len(), 1, "it stays away: {left}");
    server.stop().await;
}

#[tokio::test]
async fn files_are_kept_in_the_workspace_and_nothing_else_is_reached() {
    let (folder, _records, server) = fresh().await;
    let mut admin = server.admin().await;
    let workspace = folder.path().join("agents/main/workspace");
    let set = json!({"agentId": "main", "name": "USER.md", "content": "# user\n"});
    let written = admin.call("agents.files.set", set.clone()).await["payload"].clone();
    assert_eq!((&written["workspace"], &written["file"]["size"]), (&json!(workspace), &json!(7)), "{written}");
    assert_eq!(std::fs::read_to_string(workspace.join("USER.md")).unwrap(), "# user\n");
    assert_eq!(server.audit.all().iter().filter(|row| row["file"] == "USER.md").count(), 1);

    let mut reader = server.connect(3, &["operator.read"]).await;
    let read = reader.call("agents.files.get", json!({"agentId": "main", "name": "USER.md"})).await;
    assert_eq!(read["payload"]["file"]["content"], "# user\n");
    let files = reader.call("agents.files.list", json!({"agentId": "main"})).await["payload"]["files"].clone();
    let missing: Vec<bool> = files.as_array().unwrap().iter().map(|file| file["missing"].as_bool().unwrap()).collect();
    assert_eq!(missing, [true, true, true, true, false, true, true, true]);
    assert!(files[0].get("expectedAbsent").is_none());
    let mut newest = server.connect(4, &["operator.read"]).await;
    let absent = newest.call("agents.files.get", json!({"agentId": "main", "name": "SOUL.md"})).await;
    assert_eq!(absent["payload"]["file"]["expectedAbsent"], true);
    assert_eq!(newest.call("agents.files.set", set).await["error"]["code"], "FORBIDDEN");

    for name in ["../x", "/etc/passwd", "user.md", "USER.md/../../x", "a\0"] {
        let response = admin.call("agents.files.get", json!({"agentId": "main", "name": name})).await;
        let message = format!("unsupported file \"{}\"", name.escape_debug());
        assert_invalid(&response, &message);
    }
    let nobody = json!({"agentId": "../main", "name": "USER.md"});
    assert_invalid(&admin.call("agents.files.get", nobody.clone()).await, "agent \"../main\" not found");
    assert_invalid(&reader.call("agents.files.get", nobody).await, "unknown agent id \"../main\"");
    let large = json!({"agentId": "main", "name": "SOUL.md", "content": "x".repeat(1024 * 1024 + 1)});
    let refused = admin.call("agents.files.set", large).await["error"].clone();
    assert!(refused["message"].as_str().unwrap().contains("SOUL.md has more than 1048576 bytes"), "{refused}");
    assert_eq!((&refused["code"], refused.get("retryable")), (&json!("INVALID_REQUEST"), None), "{refused}");
    drop((admin, reader, newest));
    server.stop().await;
}

/// What an agent runs may leave links in its workspace that lead to what the program can read and it cannot.
#[tokio::test]
async fn links_are_not_followed() {
    let (folder, _records, server) = fresh().await;
    let mut admin = server.admin().await;
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2").unwrap();
    let workspace = folder.path().join("agents/main/workspace");
    std::fs::create_dir_all(&workspace).unwrap();
    symlink(&secret, workspace.join("SOUL.md")).unwrap();
    let get = json!({"agentId": "main", "name": "SOUL.md"});
    let refused = admin.call("agents.files.get", get.clone()).await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("no plain file"), "{refused}");
    std::fs::write(workspace.join("USER.md"), "me").unwrap();
    let pipe = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, workspace.join("TOOLS.md"), pipe.0, pipe.1, 0).unwrap();
    let listed = admin.call("agents.files.list", json!({"agentId": "main"})).await["payload"]["files"].clone();
    let there = |name: &str| {
        let files = listed.as_array().unwrap();
        files.iter().find(|file| file["name"] == name).unwrap()["missing"] == false
    };
    assert_eq!((there("SOUL.md"), there("TOOLS.md"), there("USER.md")), (false, false, true), "{listed}");
    let pipe = admin.call("agents.files.get", json!({"agentId": "main", "name": "TOOLS.md"})).await;
    assert!(pipe["error"]["message"].as_str().unwrap().contains("no plain file"), "{pipe}");
    let set = json!({"agentId": "main", "name": "SOUL.md", "content": "kind"});
    assert_eq!(admin.call("agents.files.set", set.clone()).await["ok"], true);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "hunter2");
    assert_eq!(admin.call("agents.files.get", get.clone()).await["payload"]["file"]["content"], "kind");

    let elsewhere = folder.path().join("elsewhere");
    std::fs::rename(&workspace, &elsewhere).unwrap();
    symlink(&elsewhere, &workspace).unwrap();
    for (method, params) in [("agents.files.get", get), ("agents.files.set", set)] {
        let refused = admin.call(method, params).await;
        assert!(refused["error"]["message"].as_str().unwrap().contains("is no folder"), "{refused}");
    }
    admin.call("agents.create", json!({"name": "b"})).await;
    admin.call("agents.files.set", json!({"agentId": "b", "name": "SOUL.md", "content": "x"})).await;
    let gone = admin.call("agents.delete", json!({"agentId": "b"})).await["payload"].clone();
    assert_eq!(gone["removed"][0]["method"], "trash", "{gone}");
    assert!(!folder.path().join("agents/b").exists());
    let kept = std::fs::read_dir(folder.path().join("agents/.trash")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_to_string(kept.join("workspace/SOUL.md")).unwrap(), "x");
    drop(admin);
    server.stop().await;
}

#[tokio::test]
async fn groups_of_an_agent_that_goes_belong_to_the_default_one() {
    let (folder, records, server) = fresh().await;
    let mut admin = server.admin().await;
    for name in ["a", "b"] {
        assert_eq!(admin.call("agents.create", json!({ "name": name })).await["ok"], true);
    }
    for (number, agent) in ["a", "b", "a", "main"].into_iter().enumerate() {
        let (jid, folder) = (format!("tg:{number}"), format!("f{number}"));
        let group = json!({"jid": jid, "name": "Team", "folder": folder, "agentId": agent});
        assert_eq!(admin.call("groups.register", group).await["ok"], true);
    }
    let before = records.audit.lock().unwrap().len();
    let gone = admin.call("agents.delete", json!({"agentId": "a"})).await["payload"].clone();
    assert_eq!(gone["removedBindings"], 2, "{gone}");
    let written: Vec<Value> =
        records.audit.lock().unwrap()[before..].iter().map(|row| serde_json::to_value(row).unwrap()).collect();
    let what: Vec<&str> = written.iter().filter_map(|row| row["kind"].as_str()).collect();
    assert_eq!(what, ["agent-changed", "group-changed", "group-changed"], "{written:?}");
    drop(admin);
    server.stop().await;

    let server = over(&records, folder.path()).await;
    let mut reader = server.connect(3, &["operator.read"]).await;
    let groups = reader.call("groups.list", json!({})).await["payload"].clone();
    let agents: Vec<&Value> = groups.as_array().unwrap().iter().map(|group| &group["agentId"]).collect();
    assert_eq!(agents, ["main", "b", "main", "main"]);
    drop(reader);
    server.stop().await;
}

#[tokio::test]
async fn every_agent_is_known_wherever_one_is_named() {
    let (_folder, _records, server) = fresh().await;
    let mut admin = server.admin().await;
    for key in ["main", "agent:gone:x"] {
        assert_eq!(admin.call("sessions.patch", json!({ "key": key })).await["ok"], true);
    }
    let ids = |list: &Value| list.as_array().unwrap().iter().map(|own| own["agentId"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&admin.call("health", json!({})).await["payload"]["agents"]), ["main"], "no agent has that name");
    assert_eq!(admin.call("agents.create", json!({"name": "Desk"})).await["ok"], true);
    let health = admin.call("health", json!({})).await["payload"].clone();
    assert_eq!(ids(&health["agents"]), ["main", "desk"]);
    assert_eq!((&health["agents"][1]["sessions"]["count"], &health["sessions"]["count"]), (&json!(0), &json!(2)));
    let status = admin.call("status", json!({})).await["payload"].clone();
    assert_eq!(ids(&status["heartbeat"]["agents"]), ["main", "desk"]);
    assert_eq!(ids(&status["sessions"]["byAgent"]), ["main", "desk"]);
    assert_eq!((&status["sessions"]["count"], status["sessions"]["recent"].as_array().unwrap().len()), (&json!(2), 2));

    let by_name = |agent: &str| json!({ "agentId": agent });
    let by_session = |agent: &str| json!({"sessionKey": format!("agent:{agent}:main")});
    let both = json!({"sessionKey": "main", "agentId": "desk"});
    for (method, named, unknown) in [
        ("tools.catalog", by_name("desk"), by_name("gone")),
        ("tools.effective", by_session("desk"), by_session("gone")),
        ("tools.effective", both.clone(), by_session("gone")),
        ("skills.status", by_name("desk"), by_name("gone")),
        ("skills.status", by_session("desk"), by_session("gone")),
        ("skills.status", both, by_name("gone")),
    ] {
        assert_eq!(admin.call(method, named).await["payload"]["agentId"], "desk", "{method}");
        assert_invalid(&admin.call(method, unknown).await, "unknown agent id \"gone\"");
    }
    assert_eq!(admin.call("skills.status", json!({})).await["payload"]["agentId"], "main");
    let invoke = |agent: &str| json!({"name": "convert", "agentId": agent});
    assert_eq!(admin.call("tools.invoke", invoke("desk")).await["ok"], true);
    assert_invalid(&admin.call("tools.invoke", invoke("gone")).await, "unknown agent id \"gone\"");
    assert_eq!(admin.call("agents.delete", by_name("desk")).await["ok"], true);
    assert_eq!(ids(&admin.call("health", json!({})).await["payload"]["agents"]), ["main"]);
    drop(admin);
    server.stop().await;
}
