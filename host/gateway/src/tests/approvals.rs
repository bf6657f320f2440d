//! Questions that wait for a person.

use std::sync::Arc;

use serde_json::{Value, json};

use super::devices::Phone;
use super::{Client, TOKEN, assert_invalid, start, start_on, with_token};
use crate::approvals::{End, Kind};

pub(super) const APPROVALS: &[&str] = &["operator.approvals"];
pub(super) const ADMIN: &[&str] = &["operator.admin"];

pub(super) async fn ask(client: &mut Client, id: &str, method: &str, params: Value) {
    client.send(json!({"type": "req", "id": id, "method": method, "params": params})).await;
}

#[tokio::test]
async fn a_question_reaches_who_may_answer_and_the_answer_who_asked() {
    let server = start(with_token()).await;
    for protocol in [3, 4] {
        let mut agent = server.connect(protocol, APPROVALS).await;
        let mut approver = server.connect(protocol, if protocol == 3 { APPROVALS } else { ADMIN }).await;
        let mut reader = server.connect(protocol, &["operator.read"]).await;
        let id = format!("apr-{protocol}");
        let params = json!({"id": id, "command": "uname -a", "cwd": "/work", "timeoutMs": 60_000, "twoPhase": true});
        ask(&mut agent, "q", "exec.approval.request", params).await;
        let accepted = agent.response(&json!("q")).await["payload"].clone();
        assert_eq!((&accepted["status"], &accepted["id"]), (&json!("accepted"), &json!(id)));
        let route = (protocol == 4).then(|| json!("approval-client"));
        assert_eq!(accepted.get("deliveryRoute"), route.as_ref(), "version 3 knows none");
        let event = approver.event("exec.approval.requested").await["payload"].clone();
        assert_eq!(event["expiresAtMs"], json!(accepted["createdAtMs"].as_u64().unwrap() + 60_000));
        assert_eq!((&event["request"]["command"], &event["request"]["cwd"]), (&json!("uname -a"), &json!("/work")));
        assert_eq!(event["request"].get("nodeId"), Some(&Value::Null), "what is not given is shown as null");
        let waiting = approver.call("exec.approval.list", json!({})).await["payload"].clone();
        assert_eq!(waiting[0]["id"], json!(id));

        let decide = |decision: &str| json!({"id": id, "decision": decision});
        assert_invalid(&approver.call("exec.approval.resolve", decide("maybe")).await, "invalid decision");
        let own = agent.call("exec.approval.resolve", decide("allow-once")).await;
        assert!(own["error"]["message"].as_str().unwrap().contains("who asks"), "{own}");
        ask(&mut approver, "d", "exec.approval.resolve", decide("allow-once")).await;
        let resolved = approver.event("exec.approval.resolved").await["payload"].clone();
        assert_eq!(approver.response(&json!("d")).await["payload"], json!({"ok": true}));
        let end = agent.response(&json!("q")).await["payload"].clone();
        assert_eq!((&end["decision"], &end["id"]), (&json!("allow-once"), &json!(id)));
        assert_eq!(
            (&resolved["decision"], &resolved["request"]["command"]),
            (&json!("allow-once"), &json!("uname -a"))
        );
        let again = approver.call("exec.approval.resolve", decide("deny")).await;
        assert_invalid(&again, "unknown or expired approval id");
        assert_eq!(again["error"]["details"]["reason"] == "APPROVAL_NOT_FOUND", protocol == 4);
        let late = reader.call("exec.approval.waitDecision", json!({"id": id})).await;
        assert_eq!(late["error"]["message"], "missing scope: operator.approvals");
        let late = approver.call("exec.approval.waitDecision", json!({"id": id})).await;
        assert_eq!(late["payload"]["decision"], "allow-once", "it is told for a while");
        // Nobody without the scope has heard of it.
        reader.send(json!({"type": "req", "id": "h", "method": "health"})).await;
        assert_eq!(reader.next().await["type"], "res");
    }
    let rows = server.audit.all();
    let row = rows.iter().find(|row| row["kind"] == "approval-decided").unwrap();
    assert_eq!((&row["decision"], &row["id"]), (&json!("allow-once"), &json!("apr-3")));
    // A question ends with the gateway it was asked at; what became of it is kept.
    let server = server.again(with_token()).await;
    let mut approver = server.connect(4, ADMIN).await;
    assert_eq!(approver.call("exec.approval.list", json!({})).await["payload"], json!([]));
    let late = approver.call("exec.approval.waitDecision", json!({"id": "apr-4"})).await;
    assert_invalid(&late, "approval expired or not found");
    let kept = approver.call("approval.get", json!({"id": "apr-4"})).await["payload"]["approval"].clone();
    assert_eq!(kept["decision"], "allow-once", "{kept}");
}

#[tokio::test]
async fn without_anybody_or_any_answer_a_question_ends_with_nothing() {
    let server = start(with_token()).await;
    let mut agent = server.connect(4, APPROVALS).await;
    let alone = agent.call("exec.approval.request", json!({"id": "a", "command": "ls", "timeoutMs": 60_000})).await;
    assert_eq!(alone["payload"]["decision"], Value::Null, "{alone}");
    let why = agent.call("exec.approval.waitDecision", json!({"id": "a"})).await;
    assert_eq!(why["payload"]["terminalReason"], "no-route");
    let mut approver = server.connect(4, ADMIN).await;
    let late = agent.call("exec.approval.request", json!({"id": "b", "command": "ls", "timeoutMs": 1})).await;
    assert_eq!(late["payload"]["decision"], Value::Null, "{late}");
    assert_invalid(
        &approver.call("exec.approval.resolve", json!({"id": "b", "decision": "deny"})).await,
        "unknown or expired approval id",
    );
    assert_invalid(
        &agent.call("exec.approval.request", json!({"id": "b", "command": "ls"})).await,
        "approval id already used",
    );
    assert_invalid(
        &agent.call("exec.approval.waitDecision", json!({"id": "x"})).await,
        "approval expired or not found",
    );
    assert_invalid(&agent.call("exec.approval.request", json!({"command": " "})).await, "command is required");
}

#[tokio::test]
async fn the_first_end_of_a_question_stays() {
    let server = start(with_token()).await;
    let mut agent = server.connect(4, APPROVALS).await;
    let mut approver = server.connect(4, ADMIN).await;
    ask(&mut agent, "q", "exec.approval.request", json!({"id": "q", "command": "ls"})).await;
    approver.event("exec.approval.requested").await;
    let state = &server.gateway.state;
    let question = state.approvals.find(Kind::Exec, "q", &state.hub.sessions()[0], 0).unwrap();
    // As of two who decide at once.
    assert!(question.finish(End::NoRoute));
    assert!(!question.finish(End::TimedOut));
    assert_eq!(question.ended(), Some(End::NoRoute));
}

#[tokio::test]
async fn another_connection_of_the_device_that_asks_cannot_answer() {
    let server = start(with_token()).await;
    let phone = Phone::new(70);
    let knock = || phone.knock(&server, &[], (4, "operator"), APPROVALS, json!({"token": TOKEN}));
    let (mut agent, _) = knock().await;
    let (mut same, _) = knock().await;
    let alone = agent.call("exec.approval.request", json!({"id": "alone", "command": "ls"})).await;
    assert_eq!(alone["payload"]["decision"], Value::Null, "nobody is there who could: {alone}");
    let mut approver = server.connect(4, ADMIN).await;
    ask(&mut agent, "q", "exec.approval.request", json!({"id": "q", "command": "ls"})).await;
    approver.event("exec.approval.requested").await;
    let decide = json!({"id": "q", "decision": "allow-once"});
    let own = same.call("exec.approval.resolve", decide.clone()).await;
    assert!(own["error"]["message"].as_str().unwrap().contains("who asks"), "{own}");
    assert_eq!(approver.call("exec.approval.resolve", decide).await["ok"], true);
}

/// Whatever version who looks speaks.
#[tokio::test]
async fn what_version_4_asks_is_known_to_who_asks_and_to_admins() {
    let server = start(with_token()).await;
    let phone = Phone::new(72);
    let mut admin = server.connect(4, ADMIN).await;
    let (mut agent, _) = phone.knock(&server, &[], (4, "operator"), APPROVALS, json!({"token": TOKEN})).await;
    let (mut same, _) = phone.knock(&server, &[], (3, "operator"), APPROVALS, json!({"token": TOKEN})).await;
    let mut others = [server.connect(4, APPROVALS).await, server.connect(3, APPROVALS).await];
    let ids = |answer: Value| -> Vec<String> {
        let items = answer["payload"].get("items").unwrap_or(&answer["payload"]).as_array().unwrap().clone();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    ask(&mut agent, "q", "exec.approval.request", json!({"id": "q", "command": "ls"})).await;
    admin.event("exec.approval.requested").await;
    for other in &mut others {
        assert!(ids(other.call("exec.approval.list", json!({})).await).is_empty());
        let decide = json!({"id": "q", "decision": "allow-once"});
        assert_invalid(&other.call("exec.approval.resolve", decide).await, "unknown or expired approval id");
        let wait = other.call("exec.approval.waitDecision", json!({"id": "q"})).await;
        assert_invalid(&wait, "approval expired or not found");
    }
    let mut other = others.into_iter().next().unwrap();
    for (method, more) in [
        ("exec.approval.get", json!({"id": "q"})),
        ("approval.get", json!({"id": "q"})),
        ("approval.resolve", json!({"id": "q", "kind": "exec", "decision": "deny"})),
    ] {
        let refused = other.call(method, more).await;
        assert!(refused.to_string().contains("APPROVAL_NOT_FOUND"), "{method}: {refused}");
    }
    for knows in [&mut agent, &mut same, &mut admin] {
        assert_eq!(ids(knows.call("exec.approval.list", json!({})).await), ["q"]);
    }
    let decide = json!({"id": "q", "decision": "deny"});
    assert_eq!(admin.call("exec.approval.resolve", decide).await["ok"], true);
    assert_eq!(agent.response(&json!("q")).await["payload"]["decision"], "deny");
    // Nor is anybody else told of its end, by an event or afterwards.
    other.send(json!({"type": "req", "id": "h", "method": "approval.history", "params": {}})).await;
    let answer = other.next().await;
    assert_eq!((&answer["type"], ids(answer.clone()).len()), (&json!("res"), 0), "{answer}");
    assert_eq!(other.call("approval.get", json!({"id": "q"})).await["ok"], false);
    for knows in [&mut agent, &mut admin] {
        assert_eq!(ids(knows.call("approval.history", json!({})).await), ["q"]);
        let known = knows.call("approval.get", json!({"id": "q"})).await["payload"]["approval"].clone();
        assert_eq!((&known["status"], known.get("asker")), (&json!("denied"), None));
    }
}

#[tokio::test]
async fn who_can_show_no_question_is_nobody_who_could_answer() {
    let server = start(with_token()).await;
    let mut agent = server.connect(4, APPROVALS).await;
    let command = json!({"command": "ls", "twoPhase": true, "timeoutMs": 600_000});
    let plugin = json!({"title": "Send", "description": "to all", "twoPhase": true, "timeoutMs": 600_000});
    for (caps, shows_exec, shows_plugin) in [
        (json!([]), false, false),
        (json!(["tool-events"]), false, false),
        (json!(["approvals"]), true, true),
        (json!(["exec-approvals"]), true, false),
        (json!(["plugin-approvals"]), false, true),
    ] {
        let mut admin = server.open().await;
        let mut params = super::connect_params(4, 4);
        params["client"]["id"] = json!("cli");
        params["client"]["mode"] = json!("cli");
        params["caps"] = caps.clone();
        params["scopes"] = json!(ADMIN);
        params["auth"] = json!({"token": TOKEN});
        assert_eq!(admin.call("connect", params).await["ok"], true);
        for (kind, params, shows) in [("exec", &command, shows_exec), ("plugin", &plugin, shows_plugin)] {
            let answer = agent.call(&format!("{kind}.approval.request"), params.clone()).await["payload"].clone();
            let route = shows.then(|| json!("approval-client"));
            assert_eq!(answer.get("deliveryRoute"), route.as_ref(), "{caps} {kind}: {answer}");
            if !shows {
                // The first and only answer, at once.
                assert_eq!((answer.get("decision"), answer.get("status")), (Some(&Value::Null), None), "{answer}");
            }
        }
        drop(admin);
        while server.gateway.state.hub.len() > 1 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_question_may_wait_for_who_comes_later() {
    let server = start(with_token()).await;
    let mut agent = server.connect(4, APPROVALS).await;
    let later = json!({"id": "l", "command": "ls", "twoPhase": true, "requireDeliveryRoute": false});
    ask(&mut agent, "l", "exec.approval.request", later).await;
    let accepted = agent.response(&json!("l")).await["payload"].clone();
    assert_eq!((&accepted["status"], &accepted["deliveryRoute"]), (&json!("accepted"), &json!("none")));
    let mut admin = server.connect(4, ADMIN).await;
    let quiet = json!({"id": "s", "command": "ls", "suppressDelivery": true});
    assert_eq!(agent.call("exec.approval.request", quiet).await["payload"]["decision"], Value::Null, "nobody is told");
    let decide = json!({"id": "l", "decision": "allow-once"});
    admin.send(json!({"type": "req", "id": "d", "method": "exec.approval.resolve", "params": decide})).await;
    assert_eq!(admin.next().await["event"], "exec.approval.resolved", "the first that it hears of any");
    assert_eq!(agent.response(&json!("l")).await["payload"]["decision"], "allow-once");
}

#[tokio::test]
async fn a_question_is_of_a_bounded_size() {
    let server = start(with_token()).await;
    let mut agent = server.connect(4, APPROVALS).await;
    let long = agent.call("exec.approval.request", json!({"id": "x".repeat(129), "command": "ls"})).await;
    assert_invalid(&long, "the approval id is longer than 128 characters");
    let large = agent.call("exec.approval.request", json!({"command": "x".repeat(65 * 1024)})).await;
    assert!(large["error"]["message"].as_str().unwrap().contains("may take 65536"), "{large}");
    let most = json!({"id": "x".repeat(128), "command": "x".repeat(60 * 1024)});
    assert_eq!(agent.call("exec.approval.request", most).await["ok"], true);
}

#[tokio::test]
async fn plugins_ask_on_their_own_list() {
    let server = start(with_token()).await;
    let mut agent = server.connect(4, APPROVALS).await;
    let mut approver = server.connect(4, ADMIN).await;
    let params = json!({"title": "Send", "description": "to all", "severity": "warning", "pluginId": "notes"});
    ask(&mut agent, "p", "plugin.approval.request", params).await;
    let event = approver.event("plugin.approval.requested").await["payload"].clone();
    assert_eq!((&event["request"]["title"], &event["request"]["pluginId"]), (&json!("Send"), &json!("notes")));
    assert_eq!(approver.call("exec.approval.list", json!({})).await["payload"], json!([]));
    assert_eq!(approver.call("plugin.approval.list", json!({})).await["payload"][0]["id"], event["id"]);
    let decide = json!({"id": event["id"], "decision": "deny"});
    assert_invalid(&approver.call("exec.approval.resolve", decide.clone()).await, "unknown or expired approval id");
    assert_eq!(approver.call("plugin.approval.resolve", decide).await["payload"]["ok"], true);
    assert_eq!(agent.response(&json!("p")).await["payload"]["decision"], "deny");
    let late = approver.call("plugin.approval.waitDecision", json!({"id": event["id"]})).await;
    assert_eq!(late["payload"]["decision"], "deny", "{late}");
    let server = server.again(with_token()).await;
    let mut approver = server.connect(4, ADMIN).await;
    assert_eq!(approver.call("plugin.approval.list", json!({})).await["payload"], json!([]));
    let late = approver.call("plugin.approval.waitDecision", json!({"id": event["id"]})).await;
    assert_invalid(&late, "approval expired or not found");
    let kept = approver.call("approval.get", json!({"id": event["id"]})).await["payload"]["approval"].clone();
    assert_eq!((&kept["decision"], &kept["presentation"]["title"]), (&json!("deny"), &json!("Send")), "{kept}");
}

#[tokio::test]
async fn rules_are_kept_and_changed_only_by_who_has_read_them() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    let first = admin.call("exec.approvals.get", json!({})).await["payload"].clone();
    assert_eq!((&first["exists"], &first["resolvedDefaults"]["security"]), (&json!(false), &json!("deny")), "{first}");
    let file = json!({"version": 1, "defaults": {"security": "allowlist"},
        "agents": {"main": {"allowlist": [{"pattern": "/bin/ls"}]}}, "socket": {"token": "secret"}});
    let set = admin.call("exec.approvals.set", json!({"file": file})).await["payload"].clone();
    assert_eq!((&set["exists"], &set["file"]["defaults"]["security"]), (&json!(true), &json!("allowlist")), "{set}");
    assert!(!set.to_string().contains("secret"));
    let again = "re-run exec.approvals.get and retry";
    let blind = admin.call("exec.approvals.set", json!({"file": {"version": 1}})).await;
    assert_invalid(&blind, &format!("exec approvals base hash required; {again}"));
    let stale = admin.call("exec.approvals.set", json!({"file": {"version": 1}, "baseHash": first["hash"]})).await;
    assert_invalid(&stale, &format!("exec approvals changed since last load; {again}"));
    let bad = admin.call("exec.approvals.set", json!({"file": {"version": 2}, "baseHash": set["hash"]})).await;
    assert_eq!(bad["error"]["code"], "INVALID_REQUEST", "{bad}");
    let records = Arc::clone(&server.records);
    server.stop().await;
    let server = start_on(with_token(), records).await;
    let kept =
        server.connect(3, &["operator.admin"]).await.call("exec.approvals.get", json!({})).await["payload"].clone();
    assert_eq!((&kept["hash"], &kept["file"]), (&set["hash"], &set["file"]));
    assert!(kept.get("resolvedDefaults").is_none(), "version 3 knows none");
}

#[tokio::test]
async fn what_became_of_questions_is_kept_and_shown_page_by_page() {
    let server = start(with_token()).await;
    let mut agent = server.connect(4, APPROVALS).await;
    let alone = json!({"id": "alone", "command": "ls", "agentId": "main"});
    assert_eq!(agent.call("exec.approval.request", alone).await["payload"]["decision"], Value::Null);
    let mut approver = server.connect(4, ADMIN).await;
    ask(&mut agent, "q", "exec.approval.request", json!({"id": "q/1", "command": "rm x", "host": "node"})).await;
    approver.event("exec.approval.requested").await;
    let one = approver.call("exec.approval.get", json!({"id": "q/1"})).await["payload"].clone();
    assert_eq!((&one["commandText"], &one["host"]), (&json!("rm x"), &json!("node")), "{one}");
    let pending = approver.call("approval.get", json!({"id": "q/1"})).await["payload"]["approval"].clone();
    assert_eq!((&pending["status"], &pending["urlPath"]), (&json!("pending"), &json!("/approve/q%2F1")), "{pending}");
    assert_eq!(approver.call("exec.approval.resolve", json!({"id": "q/1", "decision": "deny"})).await["ok"], true);
    assert_eq!(agent.response(&json!("q")).await["payload"]["decision"], "deny");
    let gone = approver.call("exec.approval.get", json!({"id": "q/1"})).await;
    assert_invalid(&gone, "unknown or expired approval id");

    let plugin = json!({"title": "Send", "description": "to all", "pluginId": "notes"});
    ask(&mut agent, "p", "plugin.approval.request", plugin).await;
    let id = approver.event("plugin.approval.requested").await["payload"]["id"].clone();
    let resolve = json!({"id": id, "kind": "plugin", "decision": "allow-once"});
    let wrong = json!({"id": id, "kind": "exec", "decision": "allow-once"});
    assert_eq!(approver.call("approval.resolve", wrong).await["error"]["code"], "APPROVAL_NOT_FOUND");
    let own = agent.call("approval.resolve", resolve.clone()).await;
    assert!(own["error"]["message"].as_str().unwrap().contains("who asks"), "{own}");
    let resolved = approver.call("approval.resolve", resolve.clone()).await["payload"].clone();
    assert_eq!((&resolved["applied"], &resolved["approval"]["status"]), (&json!(true), &json!("allowed")));
    assert_eq!(agent.response(&json!("p")).await["payload"]["decision"], "allow-once");
    let again = approver.call("approval.resolve", resolve).await["payload"].clone();
    assert_eq!((&again["applied"], &again["approval"]["decision"]), (&json!(false), &json!("allow-once")));
    drop(agent);

    let records = Arc::clone(&server.records);
    server.stop().await;
    let server = start_on(with_token(), records).await;
    let mut approver = server.connect(4, ADMIN).await;
    let page = approver.call("approval.history", json!({"limit": 2})).await["payload"].clone();
    let ids = |page: &Value| -> Vec<Value> {
        page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect()
    };
    assert_eq!(ids(&page), [id.clone(), json!("q/1")], "the newest first: {page}");
    let denied = &page["items"][1];
    assert_eq!((&denied["status"], &denied["decision"]), (&json!("denied"), &json!("deny")), "{denied}");
    assert_eq!((&denied["reason"], &denied["resolver"]["id"]), (&json!("user"), &json!("client:token")), "{denied}");
    assert_eq!(denied["presentation"]["commandText"], "rm x");
    let rest = approver.call("approval.history", json!({"cursor": page["nextCursor"]})).await["payload"].clone();
    assert_eq!((ids(&rest), rest.get("nextCursor")), (vec![json!("alone")], None));
    assert_eq!(rest["items"][0]["reason"], "no-route");
    assert_eq!(rest["items"][0]["source"], json!({"agentId": "main"}));
    let plugins = approver.call("approval.history", json!({"kind": "plugin"})).await["payload"].clone();
    assert_eq!(ids(&plugins), [id]);
    let old = approver.call("approval.get", json!({"id": "alone"})).await["payload"]["approval"].clone();
    assert_eq!(old["status"], "denied");
    assert_eq!(approver.call("approval.get", json!({"id": "?"})).await["error"]["code"], "APPROVAL_NOT_FOUND");
}

#[tokio::test]
async fn a_question_whose_asker_went_away_ends_in_the_history_all_the_same() {
    let server = start(with_token()).await;
    let mut agent = server.connect(4, APPROVALS).await;
    let mut approver = server.connect(4, ADMIN).await;
    ask(&mut agent, "q", "exec.approval.request", json!({"id": "left", "command": "ls", "timeoutMs": 50})).await;
    approver.event("exec.approval.requested").await;
    drop(agent);
    let status = async |approver: &mut Client| {
        let found = approver.call("approval.history", json!({})).await;
        found["payload"]["items"][0]["status"].clone()
    };
    while status(&mut approver).await == Value::Null {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&mut approver).await, "expired");
}

#[tokio::test]
async fn the_history_has_an_end_that_what_nobody_answers_reaches_first() {
    let server = start(with_token()).await;
    let mut agent = server.connect(4, APPROVALS).await;
    let mut approver = server.connect(4, ADMIN).await;
    ask(&mut agent, "q", "exec.approval.request", json!({"id": "said", "command": "ls"})).await;
    approver.event("exec.approval.requested").await;
    let denied = approver.call("exec.approval.resolve", json!({"id": "said", "decision": "deny"})).await;
    assert_eq!(denied["ok"], true, "{denied}");
    agent.response(&json!("q")).await;
    drop(approver);
    while server.gateway.state.hub.len() > 1 {
        tokio::task::yield_now().await;
    }
    for number in 0..crate::decisions::MAX_KEPT + 2 {
        let alone = json!({"id": number.to_string(), "command": "ls"});
        assert_eq!(agent.call("exec.approval.request", alone).await["ok"], true);
        // Nobody can answer, so each has ended; it is forgotten once it was told for a while.
        server.clock.advance(20_000);
        agent.call("exec.approval.list", json!({})).await;
    }
    let mut approver = server.connect(4, ADMIN).await;
    let count = async |approver: &mut Client| approver.call("approval.get", json!({"id": "1"})).await["ok"] == true;
    while count(&mut approver).await {
        tokio::task::yield_now().await;
    }
    assert!(crate::Records::load(&*server.records, "approval").unwrap().len() <= crate::decisions::MAX_KEPT);
    assert_eq!(approver.call("approval.get", json!({"id": "said"})).await["ok"], true, "a person said that");
}
