//! What clients say when they ask for an approval, and what of it decides and is shown.

use serde_json::{Value, json};

use super::approvals::{ADMIN, APPROVALS, ask};
use super::devices::Phone;
use super::{TOKEN, assert_invalid, start, with_token};

/// All that the published schema has, as an OpenClaw program would say it.
fn everything() -> Value {
    json!({
        "id": "all", "command": "rm -r x", "commandArgv": ["rm", "-r", "x"], "cwd": null, "nodeId": null, "host": "gateway",
        "systemRunPlan": {
            "argv": ["rm"], "cwd": null, "commandText": "rm -r x", "commandPreview": "rm", "agentId": null,
            "sessionKey": null, "policySnapshot": {"security": "deny"},
            "mutableFileOperand": {"argvIndex": 1, "path": "x", "sha256": "0"},
        },
        "env": {"SECRET": "hunter2", "A": "b"}, "security": "allowlist", "ask": "on-miss", "warningText": "It deletes.",
        "scope": {"kind": "payment", "amount": "5", "currency": "EUR", "target": "shop"},
        "unavailableDecisions": ["allow-always"], "agentId": "main", "resolvedPath": "/bin/rm",
        "commandSpans": [{"startIndex": 0, "endIndex": 2}, {"startIndex": 1, "endIndex": 99}],
        "sessionKey": "main", "sessionId": "s", "runId": "r", "toolCallId": "t", "turnSourceChannel": "post",
        "turnSourceTo": "ada", "turnSourceAccountId": null, "turnSourceThreadId": 7, "approvalReviewerDeviceIds": ["d"],
        "requireDeliveryRoute": true, "suppressDelivery": false, "deliverToApprovalClientsOnly": true,
        "timeoutMs": 60_000, "twoPhase": true,
    })
}

#[tokio::test]
async fn all_that_bears_on_a_command_is_shown_and_what_was_left_out_cannot_be_decided() {
    let server = start(with_token()).await;
    let mut agent = server.connect(4, APPROVALS).await;
    let mut approver = server.connect(4, ADMIN).await;
    let mut old = server.connect(3, ADMIN).await;
    ask(&mut agent, "q", "exec.approval.request", everything()).await;
    // Version 3 is told what its clients know: they drop an event that holds more.
    let known = old.event("exec.approval.requested").await["payload"]["request"].clone();
    let mut plan = everything()["systemRunPlan"].clone();
    plan.as_object_mut().unwrap().shift_remove("policySnapshot");
    assert_eq!(known["systemRunPlan"], plan);
    for name in ["allowedDecisions", "commandArgv", "commandSpans", "envKeys", "scope", "toolCallId", "warningText"] {
        assert_eq!(known.get(name), None, "{known}");
    }
    let request = approver.event("exec.approval.requested").await["payload"]["request"].clone();
    assert_eq!(
        request["commandSpans"],
        json!([{"startIndex": 0, "endIndex": 2}]),
        "what is within the command: {request}"
    );
    assert_eq!(request["envKeys"], json!(["A", "SECRET"]));
    assert!(!request.to_string().contains("hunter2"), "no value: {request}");
    for name in ["warningText", "scope", "unavailableDecisions", "systemRunPlan", "toolCallId", "turnSourceThreadId"] {
        assert_eq!(request[name], everything()[name], "{request}");
    }
    let allowed = json!(["allow-once", "deny"]);
    assert_eq!(request["allowedDecisions"], allowed);
    assert_eq!(approver.call("exec.approval.get", json!({"id": "all"})).await["payload"]["allowedDecisions"], allowed);
    let always = json!({"id": "all", "kind": "exec", "decision": "allow-always"});
    for (method, params) in
        [("exec.approval.resolve", json!({"id": "all", "decision": "allow-always"})), ("approval.resolve", always)]
    {
        let refused = approver.call(method, params).await;
        assert_invalid(&refused, "allow-always is unavailable for this command; decide allow-once or deny");
        let details = json!({"allowedDecisions": allowed, "reason": "APPROVAL_ALLOW_ALWAYS_UNAVAILABLE"});
        assert_eq!(refused["error"]["details"], details);
    }
    assert_eq!(
        approver.call("exec.approval.resolve", json!({"id": "all", "decision": "allow-once"})).await["ok"],
        true
    );
    assert_eq!(agent.response(&json!("q")).await["payload"]["status"], "accepted");
    assert_eq!(agent.response(&json!("q")).await["payload"]["decision"], "allow-once");
    let kept = approver.call("approval.get", json!({"id": "all"})).await["payload"]["approval"]["presentation"].clone();
    assert_eq!(
        (&kept["scope"], &kept["warningText"]),
        (&everything()["scope"], &everything()["warningText"]),
        "{kept}"
    );
    assert_eq!(kept["allowedDecisions"], allowed);
}

#[tokio::test]
async fn a_question_holds_what_its_schema_names_and_nothing_else() {
    let server = start(with_token()).await;
    let mut agent = server.connect(4, APPROVALS).await;
    for (more, problem) in [
        (json!({"comand": "ls"}), "at root: unexpected property 'comand'"),
        (
            json!({"systemRunPlan": {"argv": [], "commandText": "x", "y": 1}}),
            "at /systemRunPlan: unexpected property 'y'",
        ),
        (json!({"unavailableDecisions": ["deny"]}), "at /unavailableDecisions/0: must be equal to"),
        (json!({"commandSpans": [{"startIndex": -1, "endIndex": 1}]}), "at /commandSpans/0/startIndex: must be >= 0"),
        (json!({"scope": {"kind": "war", "target": "x"}}), "at /scope: "),
        (json!({"scope": {"kind": "external-post", "target": "x", "visibility": "public", "to": "y"}}), "at /scope: "),
        (json!({"turnSourceThreadId": []}), "at /turnSourceThreadId: must match a schema in anyOf"),
        (json!({"command": null}), "at /command: must be string"),
    ] {
        let mut params = json!({"command": "ls"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = agent.call("exec.approval.request", params).await["error"]["message"].clone();
        assert!(refused.as_str().unwrap().contains(problem), "{refused}");
    }
    for (more, problem) in [
        (json!({"reason": "x"}), "at root: unexpected property 'reason'"),
        (json!({"mcpTool": {"server": " ", "tool": "x"}}), "at /mcpTool/server: must match pattern"),
        (json!({"allowedDecisions": []}), "at /allowedDecisions: must not have fewer than 1 items"),
        (json!({"severity": "high"}), "at /severity: "),
    ] {
        let mut params = json!({"title": "Send", "description": "to all"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = agent.call("plugin.approval.request", params).await["error"]["message"].clone();
        assert!(refused.as_str().unwrap().contains(problem), "{refused}");
    }
}

/// A node's command is named in its plan alone by OpenClaw's own command line, and whoever always asks allows nothing for good.
#[tokio::test]
async fn what_real_clients_leave_out_or_always_ask_is_understood() {
    let server = start(with_token()).await;
    let mut approver = server.connect(4, ADMIN).await;
    for (protocol, allows_always) in [(3, true), (4, false)] {
        let mut agent = server.connect(protocol, APPROVALS).await;
        let plan = json!({"argv": ["uname"], "cwd": null, "commandText": "uname", "agentId": null, "sessionKey": null});
        let params = json!({
            "id": format!("n{protocol}"), "systemRunPlan": plan, "cwd": null, "nodeId": "n", "host": "node",
            "ask": "always", "timeoutMs": 60_000,
        });
        ask(&mut agent, "q", "exec.approval.request", params).await;
        let event = approver.event("exec.approval.requested").await["payload"].clone();
        assert_eq!(
            (&event["request"]["command"], &event["request"]["systemRunPlan"]),
            (&json!("uname"), &plan),
            "{event}"
        );
        let always = json!({"id": event["id"], "decision": "allow-always"});
        assert_eq!(approver.call("exec.approval.resolve", always).await["ok"], allows_always, "{protocol}");
        let deny = json!({"id": event["id"], "decision": "deny"});
        assert_eq!(approver.call("exec.approval.resolve", deny).await["ok"], !allows_always, "{protocol}");
        agent.response(&json!("q")).await;
    }
}

#[tokio::test]
async fn nobody_keeps_others_from_asking() {
    let server = start(with_token()).await;
    let (mut agent, mut other) = (server.connect(4, APPROVALS).await, server.connect(4, APPROVALS).await);
    let phone = Phone::new(74);
    let (mut device, _) = phone.knock(&server, &[], (4, "operator"), APPROVALS, json!({"token": TOKEN})).await;
    let waits = json!({"command": "ls", "twoPhase": true, "requireDeliveryRoute": false, "timeoutMs": 600_000});
    for number in 0..64 {
        server.clock.advance(5_000);
        ask(&mut agent, &number.to_string(), "exec.approval.request", waits.clone()).await;
        assert_eq!(agent.response(&json!(number.to_string())).await["payload"]["status"], "accepted");
    }
    for same in [&mut agent, &mut other] {
        let refused = same.call("exec.approval.request", waits.clone()).await;
        assert!(refused["error"]["message"].as_str().unwrap().starts_with("64 approvals"), "{refused}");
        assert_eq!(refused["error"]["retryable"], true);
    }
    assert_eq!(device.call("exec.approval.request", waits).await["payload"]["status"], "accepted");
}

#[tokio::test]
async fn who_asks_for_a_plugin_says_what_may_be_decided() {
    let server = start(with_token()).await;
    let mut agent = server.connect(4, APPROVALS).await;
    let mut approver = server.connect(4, ADMIN).await;
    let scope = json!({"kind": "message-send", "target": "all", "recipientCount": 3, "recipients": ["ada"], "audience": "external"});
    let params = json!({
        "title": "Send", "description": "to all", "pluginId": "notes", "detail": null, "severity": null, "scope": scope,
        "toolName": "post", "toolCallId": null, "mcpTool": {"server": "s", "tool": "t"}, "agentId": null,
        "allowedDecisions": ["allow-always", "allow-always"], "sessionKey": null, "approvalReviewerDeviceIds": null,
        "turnSourceChannel": null, "turnSourceTo": null, "turnSourceAccountId": null, "turnSourceThreadId": "7",
    });
    ask(&mut agent, "p", "plugin.approval.request", params).await;
    let event = approver.event("plugin.approval.requested").await["payload"].clone();
    let allowed = json!(["allow-always", "deny"]);
    assert_eq!((&event["request"]["allowedDecisions"], &event["request"]["scope"]), (&allowed, &scope), "{event}");
    let once = approver.call("plugin.approval.resolve", json!({"id": event["id"], "decision": "allow-once"})).await;
    assert_invalid(&once, "allow-once is unavailable for this plugin approval; decide allow-always or deny");
    let shown = approver.call("approval.get", json!({"id": event["id"]})).await["payload"]["approval"].clone();
    assert_eq!((&shown["presentation"]["allowedDecisions"], &shown["presentation"]["scope"]), (&allowed, &scope));
    let always = json!({"id": event["id"], "decision": "allow-always"});
    assert_eq!(approver.call("plugin.approval.resolve", always).await["ok"], true);
    assert_eq!(agent.response(&json!("p")).await["payload"]["decision"], "allow-always");
}
