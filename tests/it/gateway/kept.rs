//! What clients had the program keep is there after a power cut.

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::support::{Client, Connect, Device, Place, Program, text};

const TOKEN: &str = "t0ken-of-the-test";

async fn connect(program: &Program, protocol: u8) -> Client {
    Connect { protocols: (protocol, protocol), ..Connect::token(TOKEN) }.to(program.address).await.unwrap()
}

/// A node of version 3, which is approved when it is new.
async fn node(program: &Program, device: &Device) -> Client {
    let connect = json!({
        "minProtocol": 3, "maxProtocol": 3, "auth": {"token": TOKEN}, "commands": ["system.which"], "caps": ["system"],
    });
    device.knock(program.address, None, connect).await.unwrap()
}

/// What a device gets that asks for everything.
async fn scopes_of(program: &Program, device: &Device) -> Value {
    let connect = json!({"auth": {"token": TOKEN}, "scopes": ["operator.admin"]});
    device.knock(program.address, None, connect).await.unwrap().hello["auth"]["scopes"].clone()
}

/// A question that one client asks and another one answers.
async fn question(program: &Program, answered_by: &mut Client) {
    let mut agent = connect(program, 3).await;
    let asked = agent.send("exec.approval.request", json!({"id": "kept", "command": "uname -a"})).await;
    answered_by.event("exec.approval.requested").await;
    answered_by.ok("exec.approval.resolve", json!({"id": "kept", "decision": "allow-once"})).await;
    assert_eq!(agent.answer(&asked).await.unwrap()["decision"], "allow-once");
}

/// What the history of approvals tells of that question.
async fn history(client: &mut Client) -> Value {
    let told = client.ok("approval.history", json!({})).await;
    told["items"][0].clone()
}

fn texts(history: &Value) -> Vec<&str> {
    history["messages"].as_array().unwrap().iter().map(|message| text(&message["content"][0]["text"])).collect()
}

/// Makes groups, puts sessions into them, and does to each group what can be done.
async fn group(client: &mut Client) {
    client.ok("sessions.groups.put", json!({"names": ["Work", "Home", "Gone"], "sectionOrder": ["Home"]})).await;
    for (key, group) in [("main", "Work"), ("other", "Gone")] {
        client.ok("sessions.patch", json!({"key": key, "category": group})).await;
    }
    client.ok("sessions.groups.update", json!({"name": "Work", "cwd": "/work", "worktree": false})).await;
    client.ok("sessions.groups.rename", json!({"name": "Work", "to": "Garden"})).await;
    client.ok("sessions.groups.delete", json!({"name": "Gone"})).await;
}

/// Whether heartbeats are on; nothing tells that before an agent has one, so the database is asked.
fn heartbeats(place: &Place) -> Vec<String> {
    let path = place.data().join("core.db");
    let core = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut rows = core.prepare("SELECT body FROM records WHERE kind = 'heartbeat'").unwrap();
    rows.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_power_cut() {
    let place = Place::empty();
    place.write_config(&format!("{{gateway: {{auth: {{token: '{TOKEN}'}}}}}}"));
    let program = place.start().await;
    let mut client = connect(&program, 4).await;
    let mut old = connect(&program, 3).await;
    let (phone, host) =
        (Device::numbered(20, ("cli", "cli", "operator")), Device::numbered(21, ("node-host", "node", "node")));

    client.ok("voicewake.set", json!({"triggers": ["hey", "claw"]})).await;
    client.ok("set-heartbeats", json!({"enabled": false})).await;
    client.ok("sessions.create", json!({"key": "main"})).await;
    for text in ["1", "2", "3"] {
        client.ok("chat.inject", json!({"sessionKey": "main", "message": text})).await;
    }
    let cut = client.ok("sessions.compact", json!({"key": "main", "maxLines": 2})).await;
    assert_eq!((&cut["compacted"], &cut["kept"]), (&json!(true), &json!(2)));
    group(&mut client).await;
    question(&program, &mut old).await;
    let asked = history(&mut client).await;
    assert_eq!((&asked["id"], &asked["decision"]), (&json!("kept"), &json!("allow-once")), "{asked}");
    assert_eq!(scopes_of(&program, &phone).await, json!(["operator.admin"]));
    client.ok("device.role.set", json!({"deviceId": phone.id(), "role": "viewer"})).await;
    let mut box_of_node = node(&program, &host).await;
    let enqueue = |kind: &str| json!({"nodeId": host.id(), "type": kind});
    let done = client.ok("node.pending.enqueue", enqueue("location.request")).await["queued"]["id"].clone();
    let waits = client.ok("node.pending.enqueue", enqueue("status.request")).await["queued"]["id"].clone();
    box_of_node.ok("node.pending.ack", json!({"ids": [done]})).await;
    program.kill().await;

    let program = place.start().await;
    let mut client = connect(&program, 4).await;
    assert_eq!(client.ok("voicewake.get", json!({})).await, json!({"triggers": ["hey", "claw"]}));
    assert_eq!(texts(&client.ok("chat.history", json!({"sessionKey": "main"})).await), ["2", "3"]);
    let groups = client.ok("sessions.groups.list", json!({})).await;
    let names = json!([{"name": "Garden", "position": 0}, {"name": "Home", "position": 1}]);
    assert_eq!((&groups["groups"], &groups["sectionOrder"]), (&names, &json!(["Home"])));
    let defaults = client.ok("sessions.groups.defaults", json!({})).await;
    assert_eq!(defaults["defaults"], json!([{"name": "Garden", "cwd": "/work", "worktree": false}]));
    let listed = client.ok("sessions.list", json!({})).await;
    let category = |key: &str| {
        let mut rows = listed["sessions"].as_array().unwrap().iter();
        rows.find(|row| row["key"] == format!("agent:main:{key}")).unwrap().get("category").cloned()
    };
    assert_eq!((category("main"), category("other")), (Some(json!("Garden")), None), "{listed}");
    assert_eq!(history(&mut client).await, asked);
    assert_eq!(scopes_of(&program, &phone).await, json!(["operator.read", "operator.sessions.read"]));
    let mut box_of_node = node(&program, &host).await;
    let drained = box_of_node.ok("node.pending.drain", json!({})).await;
    let ids: Vec<&Value> = drained["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
    assert_eq!(ids, [&waits], "{drained}");
    drop((client, box_of_node));
    program.stop().await;
    assert_eq!(heartbeats(&place), ["false"]);
}
