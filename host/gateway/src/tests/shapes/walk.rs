//! The calls, on a gateway that has something to tell of what they ask for.

use std::sync::Arc;
use std::time::Duration;

use leanclaw_types::Failure;
use leanclaw_types::plugin::PluginInfo;
use leanclaw_types::run::{RunModel, RunOutcome, RunStep, ToolPhase};
use serde_json::{Value, json};

use super::super::config::MemorySettings;
use super::super::devices::{Phone, REMOTE, proxied};
use super::super::fake::plugin;
use super::super::nodes::{COMMANDS, Host};
use super::super::{PATIENCE, Server, TOKEN, connect_params, start, start_with, with_token};
use super::{Old, Recorded};

/// A session in which an agent has answered, and one that was set to what can be set.
pub(super) async fn sessions(recorded: &Recorded) {
    let server = start(with_token()).await;
    let mut old = Old::connect(&server, recorded).await;
    let (key, now_ms) = ("agent:main:told", 1_700_000_000_000);
    old.ok("sessions.patch", json!({"key": key, "label": "Told", "thinkingLevel": "low", "model": "fake/echo"})).await;
    let levels = json!({
        "key": "set", "label": "Set", "thinkingLevel": "low", "verboseLevel": "on", "reasoningLevel": "on",
        "responseUsage": "tokens", "model": "fake/echo",
    });
    old.ok("sessions.patch", levels).await;
    server.records.say(key, "user", json!({"content": [{"type": "text", "text": "hi"}]}), now_ms);
    // Whole amounts: all that was recorded cost nothing, so that the shapes have integers.
    let usage =
        json!({"input": 10, "output": 5, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 15, "cost": {"total": 2}});
    let said = json!({
        "content": [{"type": "text", "text": "hello"}], "provider": "fake", "model": "echo", "usage": usage,
        "api": "openai-completions", "stopReason": "stop",
    });
    server.records.say(key, "assistant", said, now_ms);
    let told = json!({"key": key});
    let calls = [
        ("sessions.list", json!({})),
        ("sessions.list", json!({"includeDerivedTitles": true, "includeLastMessage": true, "includeGlobal": true})),
        ("sessions.preview", json!({"keys": ["told", "set", "none"]})),
        ("sessions.resolve", told.clone()),
        ("sessions.get", told.clone()),
        ("chat.history", json!({"sessionKey": key})),
        ("chat.history", json!({"sessionKey": "agent:main:none"})),
        ("chat.abort", json!({"sessionKey": key})),
        ("sessions.usage", json!({})),
        ("sessions.usage.logs", told.clone()),
        ("sessions.usage.timeseries", told.clone()),
        ("usage.cost", json!({"days": 7})),
        ("usage.status", json!({})),
        ("status", json!({})),
        ("health", json!({"probe": true})),
        ("sessions.compact", json!({"key": "set"})),
        ("sessions.reset", told.clone()),
        ("sessions.delete", told),
    ];
    for (method, params) in calls {
        old.ok(method, params).await;
    }
}

/// Runs that answer, use a tool, are ended and fail.
pub(super) async fn runs(recorded: &Recorded) {
    let server = start(with_token()).await;
    *server.runs.models.lock().unwrap() = [Some(128_000), None]
        .map(|context_tokens| RunModel {
            provider: "fake".into(),
            id: "echo".into(),
            name: "Echo".into(),
            context_tokens,
            takes_images: context_tokens.map(|_| true),
            is_default: context_tokens.is_some(),
        })
        .into();
    let mut old = Old::over(server.open().await, recorded);
    let mut params = connect_params(3, 3);
    (params["scopes"], params["caps"]) = (json!(["operator.admin"]), json!(["tool-events"]));
    params["auth"] = json!({"token": TOKEN});
    old.ok("connect", params).await;
    old.ok("models.list", json!({})).await;
    old.ok("sessions.patch", json!({"key": "main", "verboseLevel": "full"})).await;
    old.ok("chat.inject", json!({"sessionKey": "main", "message": "injected", "label": "note"})).await;
    let runs = &server.runs;
    for run_id in ["r1", "r2", "r3"] {
        let send = json!({"sessionKey": "main", "message": "hello", "idempotencyKey": run_id});
        old.ok("chat.send", send.clone()).await;
        runs.starts(run_id);
        runs.says(run_id, "Half");
        let tool = |phase| RunStep::Tool { call_id: "call_1".into(), name: "exec".into(), phase };
        runs.happens(run_id, tool(ToolPhase::Started(json!({"command": "ls"}))));
        runs.happens(run_id, tool(ToolPhase::Ended { text: "a file".into(), is_error: false }));
        match run_id {
            "r1" => runs.ends(run_id, RunOutcome::Done, "Half"),
            "r2" => {
                drop(old.ok("chat.send", json!({"sessionKey": "main", "message": "stop", "idempotencyKey": "s"})).await)
            }
            _ => runs.ends(run_id, RunOutcome::Failed { failure: Failure::internal("It broke.") }, ""),
        }
        old.ok("chat.send", send).await;
        old.ok("agent.wait", json!({"runId": run_id})).await;
    }
    old.ok("agent.wait", json!({"runId": "nope", "timeoutMs": 1})).await;
    old.ok("sessions.list", json!({})).await;
    let params = json!({"message": "hello", "idempotencyKey": "a1"});
    let id = old.ask("agent", params.clone()).await;
    old.answer("agent", &id).await;
    runs.answers("a1", "Hi.");
    old.answer("agent", &id).await;
    for event in ["agent", "chat"] {
        old.event(event).await;
    }
}

/// The agents and their files, and what there is of the machine.
pub(super) async fn agents_and_machine(recorded: &Recorded) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    std::fs::write(&log, "one\ntwo\n").unwrap();
    let root = folder.path().join("agents");
    let desk = root.join("desk/workspace");
    let server = start_with(with_token(), Arc::default(), |services| {
        services.agents_dir = Some(root);
        services.log_file = Some(log);
    })
    .await;
    let channels = [plugin("hook", "ready", ""), plugin("mail", "faulted", "it traps")]
        .map(|info| PluginInfo { exports: vec!["channel".into(), "skill".into()], ..info });
    *server.host.more.lock().unwrap() = channels.into();
    let mut old = Old::connect(&server, recorded).await;
    old.ok("agents.create", json!({"name": "Desk", "workspace": desk, "emoji": "🦀"})).await;
    let user = json!({"agentId": "main", "name": "USER.md"});
    let mut written = user.clone();
    written["content"] = json!("# user\n");
    let report = json!({"text": "Node: shed", "instanceId": "shed", "tags": ["garden"], "lastInputSeconds": 3});
    let calls = [
        ("agents.list", json!({})),
        ("agent.identity.get", json!({"agentId": "main"})),
        ("agent.identity.get", json!({"agentId": "desk"})),
        ("agents.files.set", written),
        ("agents.files.get", user),
        ("agents.files.get", json!({"agentId": "main", "name": "SOUL.md"})),
        ("agents.files.list", json!({"agentId": "main"})),
        ("channels.status", json!({"probe": true})),
        ("cron.list", json!({})),
        ("cron.runs", json!({"scope": "all"})),
        ("cron.status", json!({})),
        ("doctor.memory.status", json!({})),
        ("gateway.identity.get", json!({})),
        ("health", json!({})),
        ("last-heartbeat", json!({})),
        ("logs.tail", json!({"limit": 1})),
        ("models.list", json!({})),
        ("set-heartbeats", json!({"enabled": false})),
        ("skills.status", json!({})),
        ("status", json!({})),
        ("system-event", report),
        ("system-presence", json!({})),
        ("tools.catalog", json!({})),
        ("wake", json!({"mode": "now", "text": "hello"})),
        ("voicewake.get", json!({})),
        ("voicewake.set", json!({"triggers": ["hey"]})),
    ];
    for (method, params) in calls {
        old.ok(method, params).await;
    }
    old.event("presence").await;
    old.event("voicewake.changed").await;
    // A plugin that changes is told with how things stand.
    server.host.emit("plugins.changed", json!({"id": "notes"}));
    old.event("health").await;
}

/// Devices from elsewhere: one that is let in, one that is refused, one that waits.
pub(super) async fn devices(recorded: &Recorded) {
    let server = start(proxied()).await;
    let mut admin = Old::connect(&server, recorded).await;
    let phones = [90, 91, 92].map(Phone::new);
    let scopes = ["operator.read", "operator.write"];
    for phone in &phones {
        phone.knock(&server, REMOTE, (3, "operator"), &scopes, json!({"token": TOKEN})).await;
    }
    let mut requests = Vec::new();
    for _ in &phones {
        requests.push(admin.event("device.pair.requested").await["requestId"].clone());
    }
    admin.ok("device.pair.approve", json!({"requestId": requests[0]})).await;
    admin.ok("device.pair.reject", json!({"requestId": requests[1]})).await;
    admin.event("device.pair.resolved").await;
    phones[0].knock(&server, REMOTE, (3, "operator"), &scopes, json!({"token": TOKEN})).await;
    let listed = admin.ok("device.pair.list", json!({})).await;
    assert_eq!((listed["pending"].as_array().unwrap().len(), listed["paired"].as_array().unwrap().len()), (1, 1));
    assert_eq!(listed["pending"][0]["remoteIp"], "9.9.9.9", "who decides sees where it comes from");
    let token = json!({"deviceId": phones[0].id(), "role": "operator"});
    admin.ok("device.token.rotate", token.clone()).await;
    admin.ok("device.token.revoke", token).await;
    let tokens = admin.ok("device.pair.list", json!({})).await["paired"][0]["tokens"][0].clone();
    assert!(tokens["rotatedAtMs"].is_u64() && tokens["revokedAtMs"].is_u64() && tokens["lastUsedAtMs"].is_u64());
    admin.ok("device.pair.remove", json!({"deviceId": phones[0].id()})).await;
}

/// A node of version 3 that is asked for something, and for which work waits.
pub(super) async fn nodes(recorded: &Recorded) {
    let server = start(with_token()).await;
    let host = Host::new(93);
    let mut node = Old::over(host.connect(&server, 3, &COMMANDS).await, recorded);
    let mut admin = Old::connect(&server, recorded).await;
    let id = host.id();
    node.ok("skills.bins", json!({})).await;
    node.ok("node.event", json!({"event": "voice.transcript", "payloadJSON": "{}"})).await;
    admin.ok("node.list", json!({})).await;
    admin.ok("node.describe", json!({"nodeId": id})).await;
    admin.ok("node.rename", json!({"nodeId": id, "displayName": "desk"})).await;
    admin.ok("node.list", json!({})).await;
    admin.ok("node.describe", json!({"nodeId": id})).await;
    admin.ok("node.pending.enqueue", json!({"nodeId": id, "type": "status.request"})).await;
    admin.ok("node.pending.enqueue", json!({"nodeId": id, "type": "location.request", "expiresInMs": 5000})).await;
    node.ok("node.pending.drain", json!({})).await;
    node.ok("node.pending.pull", json!({})).await;
    let which = json!({"nodeId": id, "command": "system.which", "params": {"bins": ["ls"]}, "idempotencyKey": "k"});
    for payload in [json!({"payloadJSON": "{\"a\":1}"}), json!({"payload": {"a": 1}})] {
        let mut which = which.clone();
        which["idempotencyKey"] = json!(payload.to_string());
        let asked = admin.ask("node.invoke", which).await;
        let request = node.event("node.invoke.request").await;
        let mut result = json!({"id": request["id"], "nodeId": id, "ok": true});
        result.as_object_mut().unwrap().extend(payload.as_object().unwrap().clone());
        node.ok("node.invoke.result", result.clone()).await;
        admin.answer("node.invoke", &asked).await;
        assert_eq!(node.ok("node.invoke.result", result).await["ignored"], true);
    }
}

/// Nodes of version 4, which wait, and nodes with tokens, which only version 3 has, seen by an admin of version 3.
pub(super) async fn pairing_of_nodes(recorded: &Recorded) {
    let server = start(with_token()).await;
    let mut admin = Old::connect(&server, recorded).await;
    let _kept =
        [Host::new(94).connect(&server, 4, &COMMANDS).await, Host::new(95).connect(&server, 4, &COMMANDS).await];
    let mut requests = Vec::new();
    for _ in 0..2 {
        requests.push(admin.event("node.pair.requested").await["requestId"].clone());
    }
    admin.ok("node.pair.list", json!({})).await;
    admin.ok("node.pair.approve", json!({"requestId": requests[0]})).await;
    admin.ok("node.pair.reject", json!({"requestId": requests[1]})).await;
    admin.event("node.pair.resolved").await;
    for claim in
        [json!({"nodeId": "bare"}), json!({"nodeId": "n1", "displayName": "N1", "platform": "linux", "caps": ["x"]})]
    {
        let id = claim["nodeId"].clone();
        let asked = admin.ok("node.pair.request", claim).await;
        let listed = admin.ok("node.pair.list", json!({})).await;
        assert_eq!(listed["pending"][0]["nodeId"], id, "{listed}");
        let approved = admin.ok("node.pair.approve", json!({"requestId": asked["request"]["requestId"]})).await;
        admin.ok("node.pair.verify", json!({"nodeId": id, "token": approved["node"]["token"]})).await;
        admin.ok("node.pair.verify", json!({"nodeId": id, "token": "wrong"})).await;
    }
    admin.ok("node.pair.list", json!({})).await;
    admin.ok("node.list", json!({})).await;
}

/// A question that is answered, one that nobody can answer, and the rules.
pub(super) async fn approvals(recorded: &Recorded) {
    let server = start(with_token()).await;
    let mut agent = Old::connect(&server, recorded).await;
    agent.ok("exec.approval.request", json!({"command": "ls", "timeoutMs": 1000})).await;
    let mut approver = Old::connect(&server, recorded).await;
    for cwd in [Value::Null, json!("/work")] {
        let question = json!({"command": "uname -a", "cwd": cwd, "host": "node", "ask": "always", "twoPhase": true});
        let asked = agent.ask("exec.approval.request", question).await;
        agent.answer("exec.approval.request", &asked).await;
        let id = approver.event("exec.approval.requested").await["id"].clone();
        approver.ok("exec.approval.resolve", json!({"id": id, "decision": "allow-once"})).await;
        approver.event("exec.approval.resolved").await;
        agent.answer("exec.approval.request", &asked).await;
        approver.ok("exec.approval.waitDecision", json!({"id": id})).await;
    }
    approver.ok("exec.approvals.get", json!({})).await;
    let rule = json!({"pattern": "/usr/bin/uname"});
    let file = json!({"version": 1, "defaults": {"security": "deny"}, "agents": {"main": {"allowlist": [rule]}}});
    approver.ok("exec.approvals.set", json!({"file": file})).await;
    approver.ok("exec.approvals.get", json!({})).await;
}

/// The configuration file, and the switch of a skill, which is a part of it.
pub(super) async fn settings(recorded: &Recorded) {
    let server = start_with(with_token(), Arc::default(), |services| {
        services.settings = Some(Arc::new(MemorySettings::default()));
    })
    .await;
    let skill = PluginInfo { exports: vec!["skill".into()], ..plugin("clock", "ready", "") };
    server.host.more.lock().unwrap().push(skill);
    let mut old = Old::connect(&server, recorded).await;
    old.ok("config.get", json!({})).await;
    old.ok("config.set", json!({"raw": "{\"gateway\": {\"port\": 1, \"token\": \"hunter2\"}}"})).await;
    old.ok("config.get", json!({})).await;
    old.ok("config.schema", json!({})).await;
    old.ok("config.schema.lookup", json!({"path": "gateway"})).await;
    old.ok("skills.update", json!({"skillKey": "clock", "enabled": false})).await;
}

/// Time goes on, and then the gateway goes.
pub(super) async fn the_end(recorded: &Recorded) {
    let mut config = with_token();
    config.limits.tick_interval = Duration::from_millis(20);
    let server = start(config).await;
    let mut old = Old::connect(&server, recorded).await;
    old.event("tick").await;
    let Server { stop, running, .. } = server;
    stop.cancel();
    old.event("shutdown").await;
    drop(old);
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
}
