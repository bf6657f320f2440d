//! Results of version 4 for which the published schema has no shape of their own: held to the shapes of its that reach them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::{Client, start, with_token};
use super::shape;

/// What the schema says of their parts.
fn shapes() -> BTreeMap<String, String> {
    let facts: Value = serde_json::from_str(include_str!("../../../../../tests/data/shapes-v4.json")).unwrap();
    serde_json::from_value(facts["results"].clone()).unwrap()
}

async fn ok(client: &mut Client, method: &str, params: Value) -> Value {
    let response = client.call(method, params).await;
    assert_eq!(response["ok"], true, "{method}: {response}");
    let validator = jsonschema::validator_for(&shape::schema(&shapes()[method])).unwrap();
    let wrong: Vec<String> = validator.iter_errors(&response["payload"]).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{method}: {wrong:?} in {response}");
    response["payload"].clone()
}

/// Each parameter that the schema names is taken, and none besides.
async fn takes(client: &mut Client, method: &str, all: &Value) {
    for name in all.as_object().unwrap().keys() {
        let mut wrong = all.clone();
        wrong[name] = json!([0]);
        let refused = client.call(method, wrong).await;
        let said = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(said.starts_with(&format!("invalid {method} params: at /{name}")), "{refused}");
    }
    let mut more = all.clone();
    more["colour"] = json!("red");
    let refused = client.call(method, more).await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("unexpected property 'colour'"), "{refused}");
}

#[tokio::test]
async fn a_question_that_waits_is_told_as_it_is_presented_elsewhere() {
    let server = start(with_token()).await;
    let scopes = &["operator.approvals"];
    let (mut agent, mut approver) = (server.connect(4, scopes).await, server.admin().await);
    for (id, more) in [("bare", json!({})), ("full", json!({"host": "node", "nodeId": "n", "agentId": "main"}))] {
        let mut params = json!({"id": id, "command": "uname -a", "twoPhase": true});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(agent.call("exec.approval.request", params).await["payload"]["status"], "accepted");
        let told = ok(&mut approver, "exec.approval.get", json!({"id": id})).await;
        let elsewhere = approver.call("approval.get", json!({"id": id})).await["payload"]["approval"].clone();
        assert_eq!((&told["id"], &told["expiresAtMs"]), (&elsewhere["id"], &elsewhere["expiresAtMs"]));
        for (name, value) in elsewhere["presentation"].as_object().unwrap() {
            let is_told = told.get(name).unwrap_or(&Value::Null);
            assert!(name == "kind" || is_told == value, "{name}: {told} {elsewhere}");
        }
    }
    takes(&mut approver, "exec.approval.get", &json!({"id": "bare"})).await;
}

#[tokio::test]
async fn breaking_off_what_does_not_run_says_so() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.write"]).await;
    let all = json!({"key": "main", "runId": "r", "agentId": "main", "clearQueued": true});
    for params in [json!({"key": "main"}), json!({"runId": "r"}), all.clone()] {
        let told = ok(&mut client, "sessions.abort", params).await;
        assert_eq!(told, json!({"ok": true, "abortedRunId": null, "status": "no-active-run"}));
    }
    takes(&mut client, "sessions.abort", &all).await;
}

#[tokio::test]
async fn an_action_takes_all_that_the_schema_names() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.write"]).await;
    let all = json!({
        "channel": "hook", "action": "send", "params": {"to": "ada", "message": "hi"},
        "reply": {"replyToId": "m1", "source": "implicit", "mode": "first"}, "accountId": "default",
        "requesterAccountId": "a", "requesterSenderId": "s", "senderIsOwner": true, "sessionKey": "main",
        "sessionId": "id", "inboundTurnKind": "user_request", "agentId": "main",
        "toolContext": {"currentChannelId": "c", "replyToMode": "off"}, "conversationReadOrigin": "direct-operator",
        "idempotencyKey": "k",
    });
    let told = ok(&mut client, "message.action", all.clone()).await;
    assert_eq!((&told["action"], &told["to"]), (&json!("send"), &json!("ada")));
    takes(&mut client, "message.action", &all).await;
}
