//! Who hears of what: every event the gateway sends by itself, as it comes when what it tells of really happens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::approvals::ask as ask_person;
use super::config::MemorySettings;
use super::devices::Phone;
use super::nodes::{COMMANDS, Host, ask};
use super::roles::with_roles;
use super::{Client, PATIENCE, Server, start_with};
use crate::hub::OWN_EVENTS;

/// Who may hear of an event.
#[derive(Clone, Copy)]
enum Audience {
    /// Everybody, whatever it may.
    All,
    /// Operators who hold the scope.
    Holders(&'static str),
    /// Operators who hold the scope and speak version 4.
    NewestHolders(&'static str),
    /// Version 3 as a whole; of version 4 operators who hold the scope.
    OldOrHolders(&'static str),
    /// Operators who hold the scope and speak version 3, and admins.
    OldHolders(&'static str),
    /// Operators who hold the scope, and every node.
    HoldersAndNodes(&'static str),
    /// The node that is asked, and no other.
    Asked,
    /// The connection that asked, and no other.
    Asker,
}
use Audience::{All, Asked, Asker, Holders, HoldersAndNodes, NewestHolders, OldHolders, OldOrHolders};

const ADMIN: &str = "operator.admin";
const READ: &str = "operator.read";
const WRITE: &str = "operator.write";
const PAIRING: &str = "operator.pairing";
const APPROVALS: &str = "operator.approvals";
/// An event of a plugin, which stands for all of those.
const OF_A_PLUGIN: &str = "notes.changed";

const EVENTS: &[(&str, Audience)] = &[
    ("connect.challenge", All),
    ("tick", All),
    ("health", All),
    ("presence", OldOrHolders(READ)),
    ("shutdown", All),
    ("plugins.changed", Holders(READ)),
    ("config.changed", NewestHolders(READ)),
    ("sessions.changed", Holders(READ)),
    ("session.message", Holders(READ)),
    ("agent", Holders(READ)),
    ("chat", Holders(READ)),
    ("voicewake.changed", HoldersAndNodes(READ)),
    ("device.pair.requested", Holders(PAIRING)),
    ("device.pair.resolved", Holders(PAIRING)),
    ("exec.approval.requested", OldHolders(APPROVALS)),
    ("exec.approval.resolved", OldHolders(APPROVALS)),
    ("plugin.approval.requested", OldHolders(APPROVALS)),
    ("plugin.approval.resolved", OldHolders(APPROVALS)),
    ("node.pair.requested", Holders(PAIRING)),
    ("node.pair.resolved", Holders(PAIRING)),
    ("node.invoke.request", Asked),
    ("node.invoke.progress", Asker),
    (OF_A_PLUGIN, Holders(READ)),
];

/// Who listens.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Part {
    /// An operator with one scope, or with none.
    Operator(&'static str),
    /// The operator who asks the node for something.
    Asker,
    /// A node that is asked for nothing, and that asked for every scope.
    Bystander,
    /// The node that is asked.
    Asked,
}

struct Watcher {
    part: Part,
    protocol: u64,
    client: Client,
    /// The names of all it was told.
    heard: BTreeSet<String>,
}

impl Watcher {
    /// The scopes that it holds, what they include aside.
    fn holds(&self, scope: &str) -> bool {
        match self.part {
            Part::Operator(held) => held == scope || held == ADMIN,
            Part::Asker => scope == WRITE || scope == READ,
            Part::Bystander | Part::Asked => false,
        }
    }

    fn may_hear(&self, audience: Audience) -> bool {
        let is_node = matches!(self.part, Part::Bystander | Part::Asked);
        match audience {
            All => true,
            Holders(scope) => self.holds(scope),
            NewestHolders(scope) => self.protocol == 4 && self.holds(scope),
            OldHolders(scope) => self.holds(scope) && (self.protocol == 3 || self.holds(ADMIN)),
            OldOrHolders(scope) => self.protocol == 3 || self.holds(scope),
            HoldersAndNodes(scope) => is_node || self.holds(scope),
            Asked => self.part == Part::Asked,
            Asker => self.part == Part::Asker,
        }
    }

    /// Notes what it is told until that event comes.
    async fn until(&mut self, event: &str) -> Value {
        loop {
            let frame = self.client.any().await;
            self.heard.extend(frame["event"].as_str().map(str::to_owned));
            if frame["event"] == event {
                return frame;
            }
        }
    }
}

/// Takes a place, before it is told anything but that it may prove who it is.
fn watch(found: &mut Vec<Watcher>, part: Part, protocol: u64, client: Client) {
    let heard = BTreeSet::from([client.challenge["event"].as_str().unwrap().to_owned()]);
    found.push(Watcher { part, protocol, client, heard });
}

/// Of each version everybody who may listen, approved where that matters, and the host of the node that is asked.
async fn watchers(server: &Server, admin: &mut Client) -> (Vec<Watcher>, [Host; 2]) {
    const EVERY_SCOPE: [&str; 5] = [ADMIN, READ, WRITE, PAIRING, APPROVALS];
    let mut found = Vec::new();
    let hosts = [Host::new(120), Host::new(121)];
    for (protocol, asked) in [3, 4].into_iter().zip(&hosts) {
        for scope in ["", READ, PAIRING, APPROVALS, ADMIN] {
            let scopes: &[&str] = if scope.is_empty() { &[] } else { &[scope] };
            let client = server.connect(protocol, scopes).await;
            watch(&mut found, Part::Operator(scope), protocol, client);
        }
        let client = server.connect(protocol, &[WRITE]).await;
        watch(&mut found, Part::Asker, protocol, client);
        let seed = 122 + u8::try_from(protocol).unwrap();
        let client = Host::new(seed).connect_asking(server, protocol, &COMMANDS, &EVERY_SCOPE).await;
        watch(&mut found, Part::Bystander, protocol, client);
        let client = asked.connect(server, protocol, &COMMANDS).await;
        watch(&mut found, Part::Asked, protocol, client);
    }
    // Who of version 4 came new waits; who is told that, and that it was approved, is seen below.
    let pending = admin.call("node.pair.list", json!({})).await["payload"]["pending"].clone();
    for request in pending.as_array().unwrap() {
        let id = json!({"requestId": request["requestId"]});
        assert_eq!(admin.call("node.pair.approve", id).await["ok"], true);
    }
    (found, hosts)
}

/// Whatever can be asked for is on for everybody, also for who may not ask for it: it is no way around the scope.
fn follow_everything(server: &Server) {
    for session in server.gateway.state.hub.sessions() {
        session.subscriptions.set_all(true);
        assert!(session.subscriptions.follow("agent:main:main"));
    }
}

/// Has time go by until that client has seen these events.
async fn wait_for(client: &mut Client, mut names: BTreeSet<&str>) {
    while !names.is_empty() {
        let frame = client.any().await;
        names.remove(frame["event"].as_str().unwrap());
    }
}

async fn settings_sessions_and_devices(server: &Server, admin: &mut Client) {
    server.host.emit(OF_A_PLUGIN, json!({"n": 1}));
    server.host.emit("plugins.changed", json!({"id": "notes"}));
    wait_for(admin, BTreeSet::from(["health"])).await;
    for (method, params) in [
        ("config.set", json!({"raw": "{\"hot\": 1}"})),
        ("voicewake.set", json!({"triggers": ["hey"]})),
        ("sessions.patch", json!({"key": "main", "label": "Main"})),
        ("sessions.send", json!({"key": "main", "message": "hello"})),
    ] {
        let response = admin.call(method, params).await;
        assert_eq!(response["ok"], true, "{method}: {response}");
    }
    let send = json!({"sessionKey": "main", "message": "hello", "idempotencyKey": "run"});
    assert_eq!(admin.call("chat.send", send).await["ok"], true);
    server.runs.answers("run", "Hi.");
    // One device waits for somebody who decides on it, another is this machine's own.
    let waits = Phone::new(123).knock(server, &[], (4, "node"), &[], json!({"token": "of-ann"})).await.1;
    assert_eq!(waits["error"]["details"]["reason"], "not-paired", "{waits}");
    let paired = Phone::new(124).knock(server, &[], (4, "operator"), &[], json!({"token": super::TOKEN})).await.1;
    assert_eq!(paired["ok"], true, "{paired}");
}

async fn questions(server: &Server, admin: &mut Client) {
    // What version 3 asks is told to all of version 3 who hold the scope; what version 4 asks to admins only.
    let phone = Phone::new(130);
    for protocol in [3, 4] {
        let knock = phone.knock(server, &[], (protocol, "operator"), &[APPROVALS], json!({"token": super::TOKEN}));
        let (mut agent, response) = knock.await;
        assert_eq!(response["ok"], true, "{response}");
        for (kind, params) in
            [("exec", json!({"command": "ls"})), ("plugin", json!({"title": "Send", "description": "to all"}))]
        {
            ask_person(&mut agent, kind, &format!("{kind}.approval.request"), params).await;
            let id = admin.event(&format!("{kind}.approval.requested")).await["payload"]["id"].clone();
            let decide = json!({"id": id, "decision": "deny"});
            assert_eq!(admin.call(&format!("{kind}.approval.resolve"), decide).await["ok"], true);
            assert_eq!(agent.response(&json!(kind)).await["payload"]["decision"], "deny");
        }
    }
}

/// Has each node that may be asked run something for who asks in its version, and tell how it goes.
async fn commands(watchers: &mut [Watcher], hosts: &[Host]) {
    for (protocol, host) in [3, 4].into_iter().zip(hosts) {
        let of = |part: Part| move |watcher: &Watcher| watcher.part == part && watcher.protocol == protocol;
        let asker = watchers.iter().position(of(Part::Asker)).unwrap();
        ask(&mut watchers[asker].client, "k", &host.id(), "system.which", json!({})).await;
        let asked = watchers.iter().position(of(Part::Asked)).unwrap();
        let id = watchers[asked].until("node.invoke.request").await["payload"]["id"].clone();
        let progress = json!({"invokeId": id, "nodeId": host.id(), "seq": 0, "chunk": "half"});
        let call = json!({"type": "req", "id": "p", "method": "node.invoke.progress", "params": progress});
        watchers[asked].client.send(call).await;
        watchers[asker].until("node.invoke.progress").await;
    }
}

#[tokio::test]
async fn every_event_reaches_who_may_hear_it_and_nobody_else() {
    let listed: BTreeSet<_> = EVENTS.iter().map(|(name, _)| *name).filter(|name| *name != OF_A_PLUGIN).collect();
    assert_eq!(listed, BTreeSet::from(OWN_EVENTS), "each event has one line in the table");

    let mut config = with_roles();
    config.limits.tick_interval = Duration::from_millis(20);
    let own = Arc::new(MemorySettings::default());
    let server = start_with(config, Arc::default(), |services| services.settings = Some(own)).await;
    let mut admin = server.admin().await;
    let (mut watchers, hosts) = watchers(&server, &mut admin).await;
    follow_everything(&server);
    // Whoever hears these was the last to come, so everybody was there to hear them.
    let mut last = server.connect(4, &[READ]).await;
    wait_for(&mut last, BTreeSet::from(["tick", "presence"])).await;
    settings_sessions_and_devices(&server, &mut admin).await;
    questions(&server, &mut admin).await;
    commands(&mut watchers, &hosts).await;

    server.stop.cancel();
    let mut wrong = Vec::new();
    for watcher in &mut watchers {
        watcher.until("shutdown").await;
        for (name, audience) in EVENTS {
            let (hears, may) = (watcher.heard.remove(*name), watcher.may_hear(*audience));
            if hears != may {
                let what = if hears { "hears" } else { "does not hear" };
                wrong.push(format!("version {} {:?} {what} {name}", watcher.protocol, watcher.part));
            }
        }
        assert_eq!(watcher.heard, BTreeSet::new(), "an event that is in no list");
    }
    assert_eq!(wrong, Vec::<String>::new());
    drop((watchers, admin, last));
    tokio::time::timeout(PATIENCE, server.running).await.unwrap().unwrap().unwrap();
}
