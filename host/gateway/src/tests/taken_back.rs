//! What is taken back from a device or a node: at once, as a whole, and from nobody but who may.

use serde_json::{Value, json};

use super::devices::Phone;
use super::nodes::{Host, approve};
use super::{TOKEN, assert_invalid, start, with_token};
use crate::Records as _;

const LOCAL: &[(&str, &str)] = &[];
const OPERATOR: (u64, &str) = (4, "operator");

fn shared() -> Value {
    json!({"token": TOKEN})
}

#[tokio::test]
async fn nobody_revives_a_token_that_is_good_for_more_than_they_may() {
    let server = start(with_token()).await;
    let phone = Phone::new(120);
    let (_client, response) = phone.knock(&server, LOCAL, OPERATOR, &["operator.admin"], shared()).await;
    let token = json!({"deviceToken": response["payload"]["auth"]["deviceToken"]});
    let which = json!({"deviceId": phone.id(), "role": "operator"});
    let mut admin = server.admin().await;
    assert_eq!(admin.call("device.token.revoke", which.clone()).await["ok"], true);
    for (protocol, denied) in [(3, "unknown deviceId/role"), (4, "device token rotation denied")] {
        let mut clerk = server.connect(protocol, &["operator.pairing"]).await;
        assert_invalid(&clerk.call("device.token.rotate", which.clone()).await, denied);
    }
    let of_clerk = |row: &Value| row["kind"] == "scope-denied" && row["scope"] == "operator.admin";
    assert_eq!(server.audit.all().iter().filter(|row| of_clerk(row)).count(), 1);
    let (_, refused) = phone.knock(&server, LOCAL, OPERATOR, &["operator.read"], token).await;
    assert_eq!(refused["error"]["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH", "it stays revoked: {refused}");
    assert_eq!(admin.call("device.token.rotate", which).await["payload"]["scopes"], json!(["operator.admin"]));
}

#[tokio::test]
async fn who_lowers_or_removes_their_own_device_hears_that_it_was_done_and_loses_the_connection() {
    let server = start(with_token()).await;
    let (lowers, removes) = (Phone::new(121), Phone::new(122));
    for (phone, method, more, why) in [
        (&lowers, "device.role.set", json!({"role": "viewer"}), "another role (device.role.set)"),
        (&removes, "device.pair.remove", json!({}), "was removed (device.pair.remove)"),
    ] {
        let (mut client, _) = phone.knock(&server, LOCAL, OPERATOR, &["operator.admin"], shared()).await;
        let mut params = json!({"deviceId": phone.id()});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = client.call(method, params).await;
        assert_eq!(answer["payload"]["deviceId"], json!(phone.id()), "{answer}");
        let (code, reason) = client.closed().await;
        assert_eq!(code, 1008);
        assert!(reason.contains(why), "{reason}");
    }
    let (_, lowered) = lowers.knock(&server, LOCAL, OPERATOR, &["operator.admin"], shared()).await;
    assert_eq!(lowered["payload"]["auth"]["scopes"], json!(["operator.read", "operator.sessions.read"]), "{lowered}");
}

#[tokio::test]
async fn a_device_or_a_node_is_removed_as_a_whole_or_not_at_all() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    let host = Host::new(123);
    let mut node = host.connect(&server, 4, &["system.which"]).await;
    assert_eq!(approve(&mut admin).await["ok"], true);
    let kept = |kind: &str| server.records.load(kind).unwrap().len();
    assert_eq!((kept("device"), kept("node")), (1, 1));

    // While the write waits all of it is in it, so none of it can fail by itself.
    let storing = server.records.changed.lock().await;
    let params = json!({"deviceId": host.id()});
    admin.send(json!({"type": "req", "id": "r", "method": "device.pair.remove", "params": params})).await;
    while kept("device") == 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(kept("node"), 0);
    drop(storing);
    assert_eq!(admin.response(&json!("r")).await["ok"], true);
    assert!(node.closed().await.1.contains("device.pair.remove"));

    let mut old = server.connect(3, &["operator.admin"]).await;
    let _back = host.connect(&server, 3, &["system.which"]).await;
    let asked = old.call("node.pair.request", json!({"nodeId": host.id()})).await["payload"]["request"].clone();
    let request = json!({"requestId": asked["requestId"]});
    assert_eq!(old.call("node.pair.approve", request).await["ok"], true, "{asked}");
    assert_eq!(kept("node-token"), 1);
    let storing = server.records.changed.lock().await;
    let params = json!({"nodeId": host.id()});
    admin.send(json!({"type": "req", "id": "n", "method": "node.pair.remove", "params": params})).await;
    while kept("node-token") == 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(kept("node"), 1, "that it was removed is kept");
    drop(storing);
    assert_eq!(admin.response(&json!("n")).await["ok"], true);
    let actions: Vec<Value> =
        server.records.audit.lock().unwrap().iter().map(|row| json!(row)["action"].clone()).collect();
    assert_eq!(actions[actions.len() - 2..], [json!("removed"), json!("token-removed")], "{actions:?}");
}

#[tokio::test]
async fn who_is_being_let_in_while_something_is_taken_back_has_to_ask_again() {
    let server = start(with_token()).await;
    let host = Host::new(124);
    let storing = server.records.changed.lock().await;
    // The node is decided on and waits for the store; what lets it in may be what goes meanwhile.
    let meanwhile = async {
        while server.records.load("device").unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        server.gateway.state.hub.close_where(|_| None);
        drop(storing);
    };
    let (mut node, ()) = tokio::join!(host.connect(&server, 4, &["system.which"]), meanwhile);
    let why = "access was changed while this client connected; connect again";
    assert_eq!(node.closed().await, (1008, why.into()));
    let mut admin = server.admin().await;
    assert_eq!(admin.call("node.pair.list", json!({})).await["payload"]["pending"], json!([]), "it never came");
    let mut again = host.connect(&server, 4, &["system.which"]).await;
    assert_eq!(again.call("health", json!({})).await["ok"], true);
}
