//! Nodes: who approves them, what may be asked of them, and what becomes of it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::{Client, Server, TOKEN, assert_invalid, start, start_on, with_token};
use crate::auth::device::id_of;
use crate::hub::Event;

pub(super) const COMMANDS: [&str; 3] = ["system.run", "system.which", "camera.snap"];

pub(super) struct Host(Ed25519KeyPair);

impl Host {
    pub(super) fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    pub(super) fn id(&self) -> String {
        id_of(self.0.public_key().as_ref())
    }

    /// What the node says of a call that is over: a `payload`, a `payloadJSON` or an `error`.
    pub(super) fn result(&self, id: &Value, what: &str, value: Value) -> Value {
        json!({"id": id, "nodeId": self.id(), "ok": what != "error", what: value})
    }

    pub(super) async fn connect(&self, server: &Server, protocol: u64, commands: &[&str]) -> Client {
        self.connect_asking(server, protocol, commands, &[]).await
    }

    /// As [`Host::connect`], and asks for scopes.
    pub(super) async fn connect_asking(
        &self,
        server: &Server,
        protocol: u64,
        commands: &[&str],
        scopes: &[&str],
    ) -> Client {
        let mut client = server.open().await;
        let (nonce, at) = (client.challenge["payload"]["nonce"].as_str().unwrap(), &client.challenge["payload"]["ts"]);
        let signed_scopes = scopes.join(",");
        let payload = format!("v3|{}|node-host|node|node|{signed_scopes}|{at}|{TOKEN}|{nonce}|linux|", self.id());
        let params = json!({
            "minProtocol": protocol, "maxProtocol": protocol, "role": "node", "scopes": scopes, "auth": {"token": TOKEN},
            "caps": ["system"], "commands": commands, "permissions": {"screen.record": true},
            "client": {"id": "node-host", "version": "1", "platform": "linux", "mode": "node", "displayName": "box"},
            "device": {"id": self.id(), "publicKey": URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref()),
                "signature": URL_SAFE_NO_PAD.encode(self.0.sign(payload.as_bytes()).as_ref()),
                "signedAt": at, "nonce": nonce},
        });
        let response = client.call("connect", params).await;
        assert_eq!(response["ok"], true, "{response}");
        client
    }
}

pub(super) async fn approve(admin: &mut Client) -> Value {
    let listed = admin.call("node.pair.list", json!({})).await;
    let request = listed["payload"]["pending"][0]["requestId"].clone();
    admin.call("node.pair.approve", json!({"requestId": request})).await
}

/// Sends a call and does not wait for its answer.
pub(super) async fn ask(client: &mut Client, id: &str, node: &str, command: &str, more: Value) {
    let mut params = json!({"nodeId": node, "command": command, "params": {"bins": ["ls"]}, "idempotencyKey": id});
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.send(json!({"type": "req", "id": id, "method": "node.invoke", "params": params})).await;
}

#[tokio::test]
async fn a_node_is_asked_for_nothing_until_what_it_declares_is_approved() {
    let server = start(with_token()).await;
    let host = Host::new(60);
    let mut admin = server.admin().await;
    let mut node = host.connect(&server, 4, &COMMANDS).await;
    let requested = admin.event("node.pair.requested").await["payload"].clone();
    assert_eq!((&requested["nodeId"], &requested["commands"]), (&json!(host.id()), &json!(COMMANDS)));
    assert_eq!(requested["requiredApproveScopes"], json!(["operator.admin", "operator.pairing"]));
    let mut old = server.connect(3, &["operator.pairing"]).await;
    let expected = json!({
        "requestId": requested["requestId"], "nodeId": host.id(), "displayName": "box", "platform": "linux",
        "caps": ["system"], "commands": COMMANDS, "isRepair": false, "ts": requested["ts"],
    });
    assert_eq!(old.call("node.pair.list", json!({})).await["payload"], json!({"pending": [expected], "paired": []}));
    let row = admin.call("node.list", json!({})).await["payload"]["nodes"][0].clone();
    assert_eq!((&row["approvalState"], &row["commands"]), (&json!("pending-approval"), &json!([])), "{row}");
    assert_eq!(row["nodePluginTools"], json!([]));
    assert_eq!(row["pendingRequestId"], requested["requestId"]);
    ask(&mut admin, "early", &host.id(), "system.which", json!({})).await;
    let early = admin.response(&json!("early")).await;
    assert_eq!(early["error"]["details"]["code"], "PAIRING_CHANGED", "{early}");
    assert_eq!(node.call("node.event", json!({"event": "x"})).await["error"]["retryable"], true);
    assert_eq!(node.call("skills.bins", json!({})).await["payload"], json!({"bins": []}));

    let mut pairer = server.connect(4, &["operator.pairing"]).await;
    let denied = approve(&mut pairer).await;
    assert_eq!(denied["error"]["details"]["missingScope"], "operator.admin", "it runs programs: {denied}");
    let approved = approve(&mut admin).await;
    assert_eq!(approved["payload"]["node"]["nodeId"], json!(host.id()), "{approved}");
    assert_eq!(pairer.event("node.pair.resolved").await["payload"]["decision"], "approved");
    let at_ms = &approved["payload"]["node"]["approvedAtMs"];
    let expected = json!({
        "nodeId": host.id(), "displayName": "box", "platform": "linux", "createdAtMs": at_ms, "approvedAtMs": at_ms,
    });
    assert_eq!(old.call("node.pair.list", json!({})).await["payload"], json!({"pending": [], "paired": [expected]}));
    let row = admin.call("node.describe", json!({"nodeId": host.id()})).await["payload"].clone();
    assert_eq!((&row["approvalState"], &row["connected"]), (&json!("approved"), &json!(true)), "{row}");
    assert_eq!(row["commands"], json!(COMMANDS));
    assert!(server.records.audit.lock().unwrap().iter().any(|row| row.event.kind() == "node-changed"));
    let follow = json!({"event": "chat.subscribe", "payloadJSON": "{\"sessionKey\":\"main\"}"});
    let told = node.call("node.event", follow).await["payload"].clone();
    assert_eq!((&told["ok"], &told["handled"]), (&json!(true), &json!(false)), "nothing would follow: {told}");
    assert!(told["reason"].as_str().unwrap().contains("nodes follow no chats"), "{told}");

    // What it declares on top waits again; what it was approved for is kept over a restart.
    drop(node);
    let records = Arc::clone(&server.records);
    server.stop().await;
    let server = start_on(with_token(), records).await;
    let mut admin = server.admin().await;
    let _same = host.connect(&server, 4, &["system.run"]).await;
    assert_eq!(admin.call("node.list", json!({})).await["payload"]["nodes"][0]["approvalState"], "approved");
    let _more = host.connect(&server, 4, &["system.run", "browser.proxy"]).await;
    assert_eq!(admin.call("node.list", json!({})).await["payload"]["nodes"][0]["approvalState"], "pending-approval");
    let removed = admin.call("node.pair.remove", json!({"nodeId": host.id()})).await;
    assert_eq!(removed["payload"]["nodeId"], json!(host.id()));
    assert_invalid(&admin.call("node.pair.remove", json!({"nodeId": host.id()})).await, "unknown nodeId");
    let server = server.again(with_token()).await;
    let _back = host.connect(&server, 4, &["system.run"]).await;
    let row = server.admin().await.call("node.list", json!({})).await["payload"]["nodes"][0].clone();
    assert_eq!(row["approvalState"], "pending-approval", "it stays removed: {row}");
}

#[tokio::test]
async fn an_old_version_is_no_way_around_what_was_decided() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    let host = Host::new(65);
    let (which, more) = (&["system.which"], &["system.which", "system.run"]);
    let _fresh = host.connect(&server, 3, which).await;
    let state = async |admin: &mut Client| {
        let row = admin.call("node.describe", json!({"nodeId": host.id()})).await["payload"].clone();
        row["approvalState"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(&mut admin).await, "approved", "nobody decided on it");
    let renamed = json!({"nodeId": host.id(), "displayName": "desk"});
    assert_eq!(admin.call("node.rename", renamed).await["ok"], true);
    assert_eq!(state(&mut admin).await, "approved", "a name decides nothing");
    let removed = admin.call("node.pair.remove", json!({"nodeId": host.id()})).await;
    assert_eq!(removed["ok"], true, "also when it is only connected: {removed}");
    let mut back = host.connect(&server, 3, which).await;
    assert_eq!(state(&mut admin).await, "pending-approval");
    ask(&mut admin, "removed", &host.id(), "system.which", json!({})).await;
    assert_eq!(admin.response(&json!("removed")).await["error"]["details"]["code"], "PAIRING_CHANGED");
    assert_eq!(back.call("node.event", json!({"event": "x"})).await["ok"], false);
    assert_eq!(approve(&mut admin).await["ok"], true);
    assert_eq!(state(&mut admin).await, "approved");
    let _more = host.connect(&server, 3, more).await;
    assert_eq!(state(&mut admin).await, "pending-approval", "it declares more than was approved");

    let other = Host::new(66);
    let waits = other.connect(&server, 4, which).await;
    drop(waits);
    let _old = other.connect(&server, 3, which).await;
    let pending = admin.call("node.pair.list", json!({})).await["payload"]["pending"].clone();
    let of_other = pending.as_array().unwrap().iter().find(|one| one["nodeId"] == json!(other.id())).unwrap();
    let row = admin.call("node.describe", json!({"nodeId": other.id()})).await["payload"].clone();
    assert_eq!(row["approvalState"], "pending-approval", "it waits: {row}");
    let rejected = admin.call("node.pair.reject", json!({"requestId": of_other["requestId"]})).await;
    assert_eq!(rejected["payload"]["nodeId"], json!(other.id()), "{rejected}");
    let records = Arc::clone(&server.records);
    server.stop().await;
    let server = start_on(with_token(), records).await;
    let mut admin = server.admin().await;
    let _refused = other.connect(&server, 3, which).await;
    let row = admin.call("node.describe", json!({"nodeId": other.id()})).await["payload"].clone();
    assert_eq!(row["approvalState"], "pending-approval", "it was refused: {row}");
}

#[tokio::test]
async fn a_device_that_is_removed_takes_its_approval_and_its_work_along() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    let host = Host::new(67);
    let _node = host.connect(&server, 4, &["system.which"]).await;
    assert_eq!(approve(&mut admin).await["ok"], true);
    let work = json!({"nodeId": host.id(), "type": "status.request"});
    assert_eq!(admin.call("node.pending.enqueue", work).await["ok"], true);
    let _more = host.connect(&server, 4, &["system.which", "system.run"]).await;
    assert_eq!(admin.call("device.pair.remove", json!({"deviceId": host.id()})).await["ok"], true);
    let listed = admin.call("node.pair.list", json!({})).await["payload"].clone();
    assert_eq!((&listed["paired"], &listed["pending"]), (&json!([]), &json!([])), "{listed}");
    let mut back = host.connect(&server, 4, &["system.which"]).await;
    let row = admin.call("node.describe", json!({"nodeId": host.id()})).await["payload"].clone();
    assert_eq!(row["approvalState"], "pending-approval", "{row}");
    assert_eq!(approve(&mut admin).await["ok"], true);
    assert_eq!(back.call("node.pending.drain", json!({})).await["payload"]["items"], json!([]));
}

/// The audit rows of commands that nodes were asked to run.
fn invoked(server: &Server) -> Vec<Value> {
    server.audit.all().into_iter().filter(|row| row["kind"] == "node-invoked").collect()
}

#[tokio::test]
async fn a_call_reaches_the_node_and_its_answer_the_caller() {
    let server = start(with_token()).await;
    let (host, other) = (Host::new(61), Host::new(62));
    let mut node = host.connect(&server, 3, &COMMANDS).await;
    let mut stranger = other.connect(&server, 3, &COMMANDS).await;
    let mut client = server.connect(3, &["operator.write"]).await;
    ask(&mut client, "c1", &host.id(), "system.which", json!({})).await;
    let event = node.event("node.invoke.request").await;
    assert!(event.get("seq").is_none(), "it is for this node only: {event}");
    let request = event["payload"].clone();
    assert_eq!((&request["command"], &request["paramsJSON"]), (&json!("system.which"), &json!("{\"bins\":[\"ls\"]}")));
    assert_eq!((&request["timeoutMs"], &request["idempotencyKey"]), (&json!(30000), &json!("c1")));
    let result = |node: &Host| node.result(&request["id"], "payloadJSON", json!("{\"a\":1}"));
    let forged = stranger.call("node.invoke.result", result(&other)).await;
    assert_eq!(forged["payload"], json!({"ok": true, "ignored": true}), "it was not asked");
    assert_invalid(&stranger.call("node.invoke.result", result(&host)).await, "nodeId mismatch");
    assert_eq!(node.call("node.invoke.result", result(&host)).await["payload"], json!({"ok": true}));
    let answer = client.response(&json!("c1")).await;
    let expected = json!({"ok": true, "nodeId": host.id(), "command": "system.which", "payload": {"a": 1},
        "payloadJSON": "{\"a\":1}"});
    assert_eq!(answer["payload"], expected, "{answer}");
    assert_eq!(node.call("node.invoke.result", result(&host)).await["payload"]["ignored"], true, "it is over");

    let forged = json!({"params": {"command": ["ls"], "approved": true, "approvalDecision": "allow-always"}});
    ask(&mut client, "forged", &host.id(), "system.run", forged).await;
    let request = node.event("node.invoke.request").await["payload"].clone();
    assert_eq!(request["paramsJSON"], "{\"command\":[\"ls\"]}", "a caller cannot say that a person approved");

    ask(&mut client, "c2", &host.id(), "system.which", json!({})).await;
    let id = node.event("node.invoke.request").await["payload"]["id"].clone();
    node.call("node.invoke.result", host.result(&id, "error", json!({"code": "NOPE", "message": "not here"}))).await;
    let error = client.response(&json!("c2")).await["error"].clone();
    assert_eq!((&error["code"], &error["message"]), (&json!("UNAVAILABLE"), &json!("NOPE: not here")));
    assert_eq!(error["details"]["nodeError"]["code"], "NOPE");
    let row = |outcome: &str| {
        json!({
            "kind": "node-invoked", "atMs": server.gateway.state.now_ms(), "actor": "client:token", "node": host.id(),
            "command": "system.which", "outcome": outcome,
        })
    };
    assert_eq!(invoked(&server), [row("ok"), row("failed")], "and none of what has not ended");
}

#[tokio::test]
async fn what_may_not_be_asked_is_not_sent() {
    let server = start(with_token()).await;
    let host = Host::new(63);
    let mut node = host.connect(&server, 3, &COMMANDS).await;
    let mut client = server.connect(4, &["operator.write"]).await;
    for (command, reason) in
        [("camera.snap", "command not allowlisted"), ("browser.proxy", "command not declared by node")]
    {
        ask(&mut client, command, &host.id(), command, json!({})).await;
        let answer = client.response(&json!(command)).await;
        assert_eq!(answer["error"]["details"]["reason"], reason, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().starts_with("node command not allowed: "));
    }
    let mut admin = server.admin().await;
    for command in ["system.execApprovals.get", "system.execApprovals.set"] {
        ask(&mut admin, "rules", &host.id(), command, json!({})).await;
        let refused = "node.invoke does not allow system.execApprovals.*; use exec.approvals.node.*";
        assert_invalid(&admin.response(&json!("rules")).await, refused);
    }
    let mut config = with_token();
    config.live.node_commands.allow = vec!["camera.snap".into()];
    config.live.node_commands.deny = vec!["system.which".into()];
    let own = start(config).await;
    let mut camera = host.connect(&own, 3, &COMMANDS).await;
    let mut caller = own.connect(4, &["operator.write"]).await;
    ask(&mut caller, "denied", &host.id(), "system.which", json!({})).await;
    let denied = caller.response(&json!("denied")).await;
    assert!(denied["error"]["message"].as_str().unwrap().contains("gateway.nodes.allowCommands"), "{denied}");
    ask(&mut caller, "allowed", &host.id(), "camera.snap", json!({})).await;
    assert_eq!(camera.event("node.invoke.request").await["payload"]["command"], "camera.snap");
    let mut reader = server.connect(4, &["operator.read"]).await;
    ask(&mut reader, "reader", &host.id(), "system.which", json!({})).await;
    assert_eq!(reader.response(&json!("reader")).await["error"]["message"], "missing scope: operator.write");
    assert_invalid(&node.call("status", json!({})).await, "unauthorized role: node");
    assert_eq!(node.call("health", json!({})).await["ok"], true);
    ask(&mut client, "nobody", "nobody", "system.which", json!({})).await;
    assert_eq!(client.response(&json!("nobody")).await["error"]["details"]["code"], "PAIRING_CHANGED");
    let mut old = server.connect(3, &["operator.write"]).await;
    ask(&mut old, "nobody", "nobody", "system.which", json!({})).await;
    let answer = old.response(&json!("nobody")).await;
    assert_eq!(
        (&answer["error"]["message"], &answer["error"]["details"]["code"]),
        (&json!("node not connected"), &json!("NOT_CONNECTED"))
    );
}

#[tokio::test]
async fn a_node_that_goes_or_is_silent_ends_what_it_was_asked() {
    let server = start(with_token()).await;
    let host = Host::new(64);
    let mut node = host.connect(&server, 3, &COMMANDS).await;
    let mut old = server.connect(3, &["operator.write"]).await;
    let mut new = server.connect(4, &["operator.write"]).await;
    ask(&mut old, "slow", &host.id(), "system.run", json!({"timeoutMs": 1})).await;
    let late = old.response(&json!("slow")).await;
    assert_eq!(late["error"]["message"], "TIMEOUT: node invoke timed out");
    assert_eq!(late["error"]["details"]["nodeError"]["code"], "TIMEOUT");
    ask(&mut old, "o", &host.id(), "system.run", json!({})).await;
    ask(&mut new, "n", &host.id(), "system.run", json!({})).await;
    for _ in 0..3 {
        node.event("node.invoke.request").await;
    }
    drop(node);
    assert_eq!(old.response(&json!("o")).await["error"]["message"], "Error: node disconnected (system.run)");
    assert_eq!(new.response(&json!("n")).await["error"]["message"], "DISCONNECTED: node disconnected (system.run)");
    ask(&mut old, "gone", &host.id(), "system.run", json!({})).await;
    assert_eq!(old.response(&json!("gone")).await["error"]["details"], json!({"code": "NOT_CONNECTED"}));
    ask(&mut new, "gone", &host.id(), "system.run", json!({})).await;
    let gone = new.response(&json!("gone")).await["error"].clone();
    assert_eq!((&gone["code"], &gone["message"]), (&json!("UNAVAILABLE"), &json!("node not connected")));
    let node_error = json!({"code": "NOT_CONNECTED", "message": "node not connected"});
    let details = json!({"code": "NOT_CONNECTED", "nodeError": node_error, "nodeCommandDispatched": false});
    assert_eq!(gone["details"], details);
    let outcomes: Vec<Value> = invoked(&server).iter().map(|row| row["outcome"].clone()).collect();
    assert_eq!(outcomes, ["timeout", "disconnected", "disconnected"], "what was not sent has no row");
}

#[tokio::test]
async fn work_waits_until_it_is_acknowledged_and_names_are_kept() {
    let server = start(with_token()).await;
    let host = Host::new(65);
    let mut node = host.connect(&server, 3, &COMMANDS).await;
    let mut admin = server.connect(4, &["operator.admin"]).await;
    let enqueue = |kind: &str, more: Value| {
        let mut params = json!({"nodeId": host.id(), "type": kind});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let first = admin.call("node.pending.enqueue", enqueue("status.request", json!({}))).await["payload"].clone();
    assert_eq!((&first["revision"], &first["queued"]["priority"]), (&json!(1), &json!("normal")), "{first}");
    let again = admin.call("node.pending.enqueue", enqueue("status.request", json!({}))).await["payload"].clone();
    assert_eq!(again["queued"]["id"], first["queued"]["id"], "one of a kind waits at a time");
    let urgent = json!({"priority": "high", "expiresInMs": 5000});
    admin.call("node.pending.enqueue", enqueue("location.request", urgent)).await;
    let bad = admin.call("node.pending.enqueue", enqueue("other", json!({}))).await;
    assert!(
        bad["error"]["message"].as_str().unwrap().starts_with("invalid node.pending.enqueue params: at /type"),
        "{bad}"
    );
    let drained = node.call("node.pending.drain", json!({"maxItems": 1})).await["payload"].clone();
    assert_eq!((&drained["items"][0]["type"], &drained["hasMore"]), (&json!("location.request"), &json!(true)));
    server.clock.advance(6000);
    let acked = node.call("node.pending.ack", json!({"ids": [first["queued"]["id"]]})).await["payload"].clone();
    assert_eq!((&acked["ackedIds"][0], &acked["remainingCount"]), (&first["queued"]["id"], &json!(0)));
    assert_eq!(node.call("node.pending.drain", json!({})).await["payload"]["items"], json!([]));
    assert_eq!(node.call("node.pending.pull", json!({})).await["payload"]["actions"], json!([]));
    server.records.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let lost = admin.call("node.pending.enqueue", enqueue("status.request", json!({}))).await;
    assert_eq!(lost["error"]["code"], "UNAVAILABLE", "{lost}");
    server.records.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(node.call("node.pending.drain", json!({})).await["payload"]["items"], json!([]));
    let kept = admin.call("node.pending.enqueue", enqueue("status.request", json!({}))).await["payload"].clone();
    admin.call("node.pending.enqueue", enqueue("location.request", json!({"expiresInMs": 60_000}))).await;

    let renamed = admin.call("node.rename", json!({"nodeId": host.id(), "displayName": "the box"})).await;
    assert_eq!(renamed["payload"], json!({"nodeId": host.id(), "displayName": "the box"}));
    assert_eq!(admin.call("node.list", json!({})).await["payload"]["nodes"][0]["displayName"], "the box");
    assert_invalid(&admin.call("node.rename", json!({"nodeId": "x", "displayName": "y"})).await, "unknown nodeId");
    assert_invalid(&admin.call("node.describe", json!({"nodeId": "x"})).await, "unknown nodeId");
    drop((admin, node));
    let server = server.again(with_token()).await;
    let mut node = host.connect(&server, 3, &COMMANDS).await;
    let mut admin = server.admin().await;
    let nodes = admin.call("node.list", json!({})).await["payload"]["nodes"].clone();
    assert_eq!(nodes[0]["displayName"], "the box", "also after a restart");
    assert_eq!(node.call("node.pending.drain", json!({})).await["payload"]["items"].as_array().unwrap().len(), 2);
    server.clock.advance(66_000);
    let drained = node.call("node.pending.drain", json!({})).await["payload"].clone();
    assert_eq!((&drained["items"], &drained["revision"]), (&json!([kept["queued"]]), &json!(5)), "work as well");
    let removed = admin.call("node.pair.remove", json!({"nodeId": host.id()})).await;
    assert_eq!(removed["ok"], true, "{removed}");
    let mut back = host.connect(&server, 4, &["system.which"]).await;
    let approved = approve(&mut admin).await["payload"]["node"].clone();
    assert_eq!((&approved["name"], approved.get("queue")), (&json!("the box"), None), "{approved}");
    assert_eq!(
        back.call("node.pending.drain", json!({})).await["payload"]["items"],
        json!([]),
        "it went with the rest"
    );
}

#[tokio::test]
async fn every_node_hears_the_words_and_an_operator_once() {
    let server = start(with_token()).await;
    let mut nodes =
        [Host::new(71).connect(&server, 3, &COMMANDS).await, Host::new(72).connect(&server, 4, &COMMANDS).await];
    let mut reader = server.connect(4, &["operator.read"]).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    let words = json!({"triggers": ["hey"]});
    assert_eq!(writer.call("voicewake.set", words.clone()).await["payload"], words);
    for node in &mut nodes {
        while node.event("voicewake.changed").await["payload"] != words {}
    }
    assert_eq!(reader.event("voicewake.changed").await["payload"], words);
    let next = json!({"triggers": ["you"]});
    writer.call("voicewake.set", next.clone()).await;
    assert_eq!(reader.event("voicewake.changed").await["payload"], next, "each change once");
}

#[tokio::test]
async fn a_node_hears_nothing_that_is_for_operators_whatever_it_asks_for() {
    let server = start(with_token()).await.that_makes_things_up("events that nobody knows");
    let mut node = Host::new(74).connect_asking(&server, 4, &COMMANDS, &["operator.admin"]).await;
    let hub = &server.gateway.state.hub;
    hub.broadcast(Event::new("test.for-operators", "{}").scope("operator.read"));
    hub.broadcast(Event::new("test.for-all", "{}"));
    let mut heard = Vec::new();
    while heard.last().is_none_or(|name| name != "test.for-all") {
        heard.push(node.any().await["event"].as_str().unwrap().to_owned());
    }
    assert!(!heard.contains(&"test.for-operators".to_owned()), "{heard:?}");
}

#[tokio::test]
async fn the_rules_of_a_node_are_asked_of_the_node() {
    let server = start(with_token()).await;
    let host = Host::new(69);
    let mut node = host.connect(&server, 3, &["system.execApprovals.get", "system.execApprovals.set"]).await;
    let mut admin = server.admin().await;
    let call = |method: &str, params: Value| json!({"type": "req", "id": "r", "method": method, "params": params});
    let file = json!({"version": 1, "defaults": {"security": "deny"}});
    admin.send(call("exec.approvals.node.get", json!({"nodeId": host.id()}))).await;
    let asked = node.event("node.invoke.request").await["payload"].clone();
    assert_eq!((&asked["command"], &asked["paramsJSON"]), (&json!("system.execApprovals.get"), &json!("{}")));
    let shown = json!({"path": "/x", "exists": true, "hash": "h", "file": file});
    node.call("node.invoke.result", host.result(&asked["id"], "payloadJSON", json!(shown.to_string()))).await;
    assert_eq!(admin.response(&json!("r")).await["payload"], shown);

    let set = json!({"nodeId": host.id(), "file": file, "baseHash": "h"});
    admin.send(call("exec.approvals.node.set", set.clone())).await;
    let asked = node.event("node.invoke.request").await["payload"].clone();
    let sent: Value = serde_json::from_str(asked["paramsJSON"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&asked["command"], &sent),
        (&json!("system.execApprovals.set"), &json!({"file": file, "baseHash": "h"}))
    );
    let stale = json!({"code": "INVALID_REQUEST", "message": "exec approvals changed"});
    node.call("node.invoke.result", host.result(&asked["id"], "error", stale)).await;
    assert_eq!(admin.response(&json!("r")).await["error"]["message"], "INVALID_REQUEST: exec approvals changed");
    let written = |action: &str| server.audit.all().iter().filter(|row| row["action"] == action).count();
    assert_eq!((written("rules-set"), written("rules-set-unconfirmed")), (0, 1), "the node says that nothing was set");

    admin.send(call("exec.approvals.node.set", set.clone())).await;
    let asked = node.event("node.invoke.request").await["payload"].clone();
    node.call("node.invoke.result", host.result(&asked["id"], "payload", shown.clone())).await;
    assert_eq!(admin.response(&json!("r")).await["payload"], shown);
    assert_eq!((written("rules-set"), written("rules-set-unconfirmed")), (1, 1));
    let both = json!({"nodeId": host.id(), "file": {}, "native": {}});
    assert!(admin.call("exec.approvals.node.set", both).await["error"]["message"].as_str().unwrap().contains("either"));
    admin.send(call("exec.approvals.node.set", set)).await;
    node.event("node.invoke.request").await;
    drop(node);
    let gone = admin.response(&json!("r")).await;
    assert_eq!(gone["error"]["details"]["nodeError"]["code"], "DISCONNECTED", "{gone}");
    assert_eq!((written("rules-set"), written("rules-set-unconfirmed")), (1, 2));
    let mut other = server.admin().await;
    while other.call("node.list", json!({})).await["payload"]["nodes"][0]["connected"] == true {
        tokio::task::yield_now().await;
    }
    let gone = other.call("exec.approvals.node.get", json!({"nodeId": host.id()})).await;
    assert_eq!(gone["error"]["details"]["code"], "NOT_CONNECTED", "{gone}");
}
