//! Nodes with a token, as version 3 has them: announced by one connection, approved by another, verified by a third and after
//! a restart, and good for nothing else.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::services::Records as _;

use super::{Client, Server, assert_invalid, start, start_on, with_token};

const PAIRING: &str = "operator.pairing";

async fn announce(client: &mut Client, node: &str) -> Value {
    let claim =
        json!({"nodeId": node, "displayName": "N1", "platform": "linux", "caps": ["x"], "commands": ["system.run"]});
    let answer = client.call("node.pair.request", claim).await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer["payload"].clone()
}

async fn approve(client: &mut Client, announced: &Value) -> Value {
    let answer = client.call("node.pair.approve", json!({"requestId": announced["request"]["requestId"]})).await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer["payload"]["node"].clone()
}

async fn verified(client: &mut Client, node: &str, token: &Value) -> Value {
    client.call("node.pair.verify", json!({"nodeId": node, "token": token})).await["payload"].clone()
}

async fn listed(client: &mut Client) -> Value {
    client.call("node.pair.list", json!({})).await["payload"].clone()
}

fn written(server: &Server, action: &str) -> usize {
    let rows = server.records.audit.lock().unwrap();
    rows.iter().filter(|row| serde_json::to_value(row).unwrap()["action"] == action).count()
}

#[tokio::test]
async fn a_token_is_asked_for_given_and_verified_also_after_a_restart() {
    let server = start(with_token()).await;
    let mut asks = server.connect(3, &[PAIRING]).await;
    let mut decides = server.connect(3, &[PAIRING]).await;
    let announced = announce(&mut asks, "n1").await;
    let ts = server.gateway.state.now_ms();
    let request = json!({
        "requestId": announced["request"]["requestId"], "nodeId": "n1", "displayName": "N1", "platform": "linux",
        "caps": ["x"], "commands": ["system.run"], "isRepair": false, "ts": ts,
    });
    assert_eq!(announced, json!({"status": "pending", "request": request, "created": true}));
    assert_eq!(decides.event("node.pair.requested").await["payload"], request);
    server.clock.advance(10);
    let again = asks.call("node.pair.request", json!({"nodeId": "n1", "commands": ["more"]})).await["payload"].clone();
    assert_eq!(again, json!({"status": "pending", "request": request, "created": false}), "what was said first counts");
    assert_eq!(listed(&mut decides).await, json!({"pending": [request], "paired": []}));

    let node = approve(&mut decides, &announced).await;
    let (token, now) = (node["token"].clone(), server.gateway.state.now_ms());
    assert_eq!(token.as_str().unwrap().len(), 43);
    let expected = json!({
        "nodeId": "n1", "token": token, "displayName": "N1", "platform": "linux", "caps": ["x"],
        "commands": ["system.run"], "createdAtMs": now, "approvedAtMs": now,
    });
    assert_eq!(node, expected);
    assert_eq!(asks.event("node.pair.resolved").await["payload"]["decision"], "approved");
    assert_eq!(listed(&mut asks).await, json!({"pending": [], "paired": [node]}));
    assert_eq!(verified(&mut asks, "n1", &token).await, json!({"ok": true, "node": node}));
    for (id, wrong) in [("n1", json!("bad")), ("n2", token.clone())] {
        assert_eq!(verified(&mut asks, id, &wrong).await, json!({"ok": false}), "{id} {wrong}");
    }
    let renamed = decides.call("node.rename", json!({"nodeId": "n1", "displayName": "N1b"})).await;
    assert_eq!(renamed["payload"], json!({"nodeId": "n1", "displayName": "N1b"}));

    let records = Arc::clone(&server.records);
    let kept = format!("{:?}", records.load("node-token").unwrap());
    assert!(kept.contains("N1b") && !kept.contains(token.as_str().unwrap()), "it is kept nowhere: {kept}");
    assert_eq!((written(&server, "token-approved"), written(&server, "renamed")), (1, 1));
    server.stop().await;
    let server = start_on(with_token(), records).await;
    let mut client = server.connect(3, &[PAIRING, "operator.read"]).await;
    assert_eq!(verified(&mut client, "n1", &token).await["node"]["displayName"], "N1b");
    let row = client.call("node.list", json!({})).await["payload"]["nodes"].clone();
    let expected = json!([{
        "nodeId": "n1", "displayName": "N1b", "platform": "linux", "caps": ["x"], "commands": ["system.run"],
        "paired": true, "connected": false,
    }]);
    assert_eq!(row, expected);

    let announced = announce(&mut client, "n1").await;
    assert_eq!(announced["request"]["isRepair"], true);
    let node = approve(&mut client, &announced).await;
    assert_eq!((&node["createdAtMs"], node["token"] == token), (&json!(now), false), "{node}");
    assert_eq!(verified(&mut client, "n1", &token).await["ok"], false, "the one before is good no more");
    assert_eq!(verified(&mut client, "n1", &node["token"]).await["ok"], true);
    assert_eq!(client.call("node.pair.remove", json!({"nodeId": "n1"})).await["payload"], json!({"nodeId": "n1"}));
    assert_eq!(verified(&mut client, "n1", &node["token"]).await["ok"], false);
    assert_invalid(&client.call("node.pair.remove", json!({"nodeId": "n1"})).await, "unknown nodeId");
    assert_eq!(listed(&mut client).await, json!({"pending": [], "paired": []}));
}

#[tokio::test]
async fn who_waits_too_long_or_is_sent_away_gets_no_token() {
    let server = start(with_token()).await;
    let mut client = server.connect(3, &[PAIRING]).await;
    let announced = announce(&mut client, "n1").await;
    let request = json!({"requestId": announced["request"]["requestId"]});
    let rejected = client.call("node.pair.reject", request.clone()).await["payload"].clone();
    assert_eq!(rejected, json!({"requestId": request["requestId"], "nodeId": "n1"}));
    assert_invalid(&client.call("node.pair.approve", request).await, "unknown requestId");
    assert_eq!((written(&server, "token-rejected"), written(&server, "token-approved")), (1, 0));
    let late = announce(&mut client, "n1").await;
    assert_eq!(late["created"], true);
    let reject = json!({"requestId": late["request"]["requestId"]});
    server.records.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(client.call("node.pair.reject", reject).await["error"]["code"], "UNAVAILABLE");
    server.records.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(listed(&mut client).await["pending"][0]["requestId"], late["request"]["requestId"], "it waits on");
    server.clock.advance(5 * 60 * 1000);
    assert_eq!(listed(&mut client).await["pending"], json!([]));
    let approve = client.call("node.pair.approve", json!({"requestId": late["request"]["requestId"]})).await;
    assert_invalid(&approve, "unknown requestId");
    for number in 0..70 {
        announce(&mut client, &format!("flood-{number}")).await;
    }
    let pending = listed(&mut client).await["pending"].clone();
    assert_eq!((pending.as_array().unwrap().len(), &pending[0]["nodeId"]), (64, &json!("flood-6")));
    let long = client.call("node.pair.request", json!({"nodeId": "n", "displayName": "x".repeat(20_000)})).await;
    assert!(long["error"]["message"].as_str().unwrap().starts_with("what is said about a node may have 16384 bytes"));
    let empty = json!({"nodeId": "", "caps": [""], "silent": null, "scopes": []});
    let wrong = client.call("node.pair.request", empty).await["error"]["message"].clone();
    assert_eq!(
        wrong,
        "invalid node.pair.request params: at root: unexpected property 'scopes'; \
         at /nodeId: must NOT have fewer than 1 characters; at /silent: must be boolean; \
         at /caps/0: must NOT have fewer than 1 characters"
    );
}

#[tokio::test]
async fn who_is_sent_away_by_two_is_written_down_once() {
    let server = start(with_token()).await;
    let (mut one, mut two) = (server.connect(3, &[PAIRING]).await, server.connect(3, &[PAIRING]).await);
    let request = json!({"requestId": announce(&mut one, "n1").await["request"]["requestId"]});
    let storing = server.records.changed.lock().await;
    one.send(json!({"type": "req", "id": "first", "method": "node.pair.reject", "params": request})).await;
    while written(&server, "token-rejected") == 0 {
        tokio::task::yield_now().await;
    }
    // The other decision is being stored.
    assert_invalid(&two.call("node.pair.reject", request).await, "unknown requestId");
    drop(storing);
    assert_eq!(one.response(&json!("first")).await["ok"], true);
    assert_eq!(written(&server, "token-rejected"), 1);
}

/// Version 4 has no tokens of nodes: it sees that one waits and decides, and never sees a token.
#[tokio::test]
async fn version_4_decides_on_them_and_has_no_such_methods() {
    let server = start(with_token()).await;
    let mut old = server.connect(3, &[PAIRING]).await;
    let mut new = server.admin().await;
    for method in ["node.pair.request", "node.pair.verify"] {
        let unknown = new.call(method, json!({"nodeId": "n1", "token": "t"})).await;
        assert_invalid(&unknown, &format!("unknown method: {method}"));
        let mut pairer = server.connect(4, &[PAIRING]).await;
        assert_eq!(pairer.call(method, json!({})).await["error"]["details"]["missingScope"], "operator.admin");
        for (protocol, has) in [(3, true), (4, false)] {
            let mut client = server.open().await;
            let mut params = super::connect_params(protocol, protocol);
            params["auth"] = json!({"token": super::TOKEN});
            let hello = client.call("connect", params).await["payload"].clone();
            assert_eq!(
                hello["features"]["methods"].as_array().unwrap().contains(&json!(method)),
                has,
                "{method} {protocol}"
            );
        }
    }
    let announced = announce(&mut old, "n1").await;
    let waits = new.event("node.pair.requested").await["payload"].clone();
    assert_eq!(listed(&mut new).await["pending"], json!([waits]));
    assert_eq!((&waits["requiredApproveScopes"], &waits["silent"]), (&json!([PAIRING]), &json!(false)), "{waits}");
    let node = approve(&mut new, &announced).await;
    assert_eq!((&node["nodeId"], node.get("token")), (&json!("n1"), None), "{node}");
    assert_eq!(listed(&mut new).await["paired"], json!([node]));
    let token = listed(&mut old).await["paired"][0]["token"].clone();
    assert_eq!(verified(&mut old, "n1", &token).await["ok"], true);
    let row = new.call("node.describe", json!({"nodeId": "n1"})).await["payload"].clone();
    assert_eq!((&row["approvalState"], &row["connected"]), (&json!("approved"), &json!(false)), "{row}");
    let call = json!({"nodeId": "n1", "command": "system.run", "idempotencyKey": "k"});
    let refused = new.call("node.invoke", call).await["error"].clone();
    assert_eq!(refused["details"]["code"], "NOT_CONNECTED", "it can never be: {refused}");
}
