//! Roles of credentials and devices.

use leanclaw_types::redact::Secret;
use serde_json::{Value, json};

use super::devices::Phone;
use super::{Client, Server, connect_params, start, with_token};
use crate::{Credential, GatewayConfig, Role};

const LOCAL: &[(&str, &str)] = &[];
const EVERYTHING: [&str; 4] = ["operator.admin", "operator.read", "operator.write", "operator.pairing"];

pub(super) fn with_roles() -> GatewayConfig {
    let mut config = with_token();
    let credential =
        |name: &str, role| Credential { name: name.into(), secret: Secret::new(format!("of-{name}")), role };
    config.auth.named = vec![credential("ann", Role::User), credential("vic", Role::Viewer)];
    config
}

async fn connect(server: &Server, protocol: u64, auth: Value) -> (Client, Value) {
    let mut client = server.open().await;
    let mut params = connect_params(protocol, protocol);
    params["scopes"] = json!(EVERYTHING);
    params["auth"] = auth;
    let response = client.call("connect", params).await;
    (client, response)
}

#[tokio::test]
async fn a_credential_gives_what_its_role_has_and_no_more() {
    let server = start(with_roles()).await;
    let (mut ann, response) = connect(&server, 4, json!({"token": "of-ann"})).await;
    let auth = &response["payload"]["auth"];
    assert_eq!((auth["method"].as_str(), auth["role"].as_str()), (Some("token"), Some("operator")), "{response}");
    assert_eq!(auth["scopes"][0], "operator.read");
    assert_eq!(ann.call("wake", json!({"mode": "now", "text": "x"})).await["ok"], true);
    let denied = ann.call("plugins.revoke", json!({"plugin": "notes"})).await;
    assert_eq!(denied["error"]["message"], "missing scope: operator.admin");

    let (mut vic, response) = connect(&server, 4, json!({"password": "of-vic"})).await;
    assert_eq!(response["payload"]["auth"]["scopes"], json!(["operator.read", "operator.sessions.read"]));
    assert_eq!(vic.call("status", json!({})).await["ok"], true);
    let denied = vic.call("wake", json!({"mode": "now", "text": "x"})).await;
    assert_eq!(denied["error"]["details"]["missingScope"], "operator.write");
    let who = server.audit.all().into_iter().find(|row| row["kind"] == "scope-denied").unwrap();
    assert_eq!(who["actor"], "client:user:ann");

    let (_, wrong) = connect(&server, 4, json!({"token": "of-nobody"})).await;
    assert_eq!(wrong["error"]["details"]["code"], "AUTH_TOKEN_MISMATCH");
    let (mut old, response) = connect(&server, 3, json!({"token": "of-vic"})).await;
    assert_eq!(response["ok"], true);
    assert_eq!(
        old.call("wake", json!({"mode": "now", "text": "x"})).await["error"]["message"],
        "missing scope: operator.write"
    );
}

#[tokio::test]
async fn the_shared_credential_has_a_role_too() {
    let mut config = with_token();
    config.auth.role = Role::Viewer;
    let server = start(config).await;
    let (_, response) = connect(&server, 4, json!({"token": super::TOKEN})).await;
    assert_eq!(response["payload"]["auth"]["scopes"], json!(["operator.read", "operator.sessions.read"]));
}

/// A device that came in by a weak credential is approved for what that had, so its own token is no way around it.
#[tokio::test]
async fn a_device_token_gives_no_more_than_the_credential_that_paired_it() {
    let server = start(with_roles()).await;
    let phone = Phone::new(40);
    let auth = json!({"token": "of-vic"});
    let (_, response) = phone.knock(&server, LOCAL, (4, "operator"), &["operator.admin"], auth).await;
    let token = response["payload"]["auth"]["deviceToken"].clone();
    assert_eq!(response["payload"]["auth"]["scopes"], json!(["operator.read", "operator.sessions.read"]));
    let auth = json!({"deviceToken": token});
    let (_, response) = phone.knock(&server, LOCAL, (4, "operator"), &["operator.admin"], auth.clone()).await;
    assert_eq!(response["error"]["details"]["code"], "AUTH_SCOPE_MISMATCH", "{response}");
    let (_, response) = phone.knock(&server, LOCAL, (4, "operator"), &["operator.read"], auth).await;
    assert_eq!(response["ok"], true, "{response}");
}

#[tokio::test]
async fn a_node_needs_more_than_a_look_and_an_approval() {
    let server = start(with_roles()).await;
    for protocol in [3, 4] {
        let knock = async |seed: u8, token: &str| {
            Phone::new(seed).knock(&server, LOCAL, (protocol, "node"), &[], json!({"token": token})).await.1
        };
        let seed = 50 + u8::try_from(protocol).unwrap() * 4;
        let looks = knock(seed, "of-vic").await;
        assert_eq!(looks["error"]["details"]["code"], "ROLE_NOT_ALLOWED", "{looks}");
        let uses = knock(seed + 1, "of-ann").await;
        assert_eq!(uses["error"]["details"]["reason"], "not-paired", "somebody approves it first: {uses}");
        let own = knock(seed + 2, super::TOKEN).await;
        assert_eq!(own["ok"], true, "{own}");
    }
}

#[tokio::test]
async fn a_device_is_good_for_what_an_admin_says_whatever_it_shows() {
    let server = start(with_roles()).await;
    let phone = Phone::new(41);
    let shared = json!({"token": super::TOKEN});
    let knock = || phone.knock(&server, LOCAL, (4, "operator"), &["operator.admin"], shared.clone());
    let (mut client, response) = knock().await;
    let token = response["payload"]["auth"]["deviceToken"].clone();
    let mut admin = server.admin().await;
    let bound = admin.call("device.role.set", json!({"deviceId": phone.id(), "role": "viewer"})).await;
    assert_eq!(bound["payload"], json!({"deviceId": phone.id(), "role": "viewer"}), "{bound}");
    assert_eq!(client.closed().await.0, 1008, "what it may has changed");
    let viewer = json!(["operator.read", "operator.sessions.read"]);
    assert_eq!(knock().await.1["payload"]["auth"]["scopes"], viewer);
    let auth = json!({"deviceToken": token});
    let (_, by_token) = phone.knock(&server, LOCAL, (4, "operator"), &["operator.admin"], auth).await;
    assert_eq!(by_token["payload"]["auth"]["scopes"], viewer);
    drop(admin);
    let server = server.again(with_roles()).await;
    let knock = || phone.knock(&server, LOCAL, (4, "operator"), &["operator.admin"], shared.clone());
    assert_eq!(knock().await.1["payload"]["auth"]["scopes"], viewer, "also after a restart");
    let mut admin = server.admin().await;
    let listed = admin.call("device.pair.list", json!({})).await;
    assert_eq!(listed["payload"]["paired"][0]["accessRole"], "viewer", "{listed}");
    assert!(server.records.audit.lock().unwrap().iter().any(|row| format!("{row:?}").contains("role-changed")));

    let nonsense = admin.call("device.role.set", json!({"deviceId": phone.id(), "role": "king"})).await;
    assert_eq!(nonsense["error"]["code"], "INVALID_REQUEST");
    admin.call("device.role.set", json!({"deviceId": phone.id()})).await;
    assert_eq!(knock().await.1["payload"]["auth"]["scopes"], json!(["operator.admin"]));
}

#[tokio::test]
async fn a_device_is_good_for_what_the_credential_it_was_paired_with_still_is() {
    let server = start(with_roles()).await;
    let (ann, vic) = (Phone::new(80), Phone::new(81));
    let pair = async |server: &Server, phone: &Phone, auth: Value| {
        let (_, hello) = phone.knock(server, LOCAL, (4, "operator"), &["operator.write"], auth).await;
        hello["payload"]["auth"].clone()
    };
    let token = pair(&server, &ann, json!({"token": "of-ann"})).await["deviceToken"].clone();
    let others = pair(&server, &vic, json!({"token": super::TOKEN})).await["deviceToken"].clone();
    let own = async |server: &Server, phone: &Phone, token: &Value| {
        phone.knock(server, LOCAL, (4, "operator"), &["operator.write"], json!({"deviceToken": token})).await.1
    };
    assert_eq!(own(&server, &ann, &token).await["payload"]["auth"]["scopes"][0], "operator.write");

    let records = std::sync::Arc::clone(&server.records);
    server.stop().await;
    let mut lowered = with_roles();
    lowered.auth.named[0].role = Role::Viewer;
    let server = super::start_on(lowered, std::sync::Arc::clone(&records)).await;
    let bound = own(&server, &ann, &token).await;
    assert_eq!(bound["payload"]["auth"]["scopes"], json!(["operator.read"]), "{bound}");
    server.stop().await;

    let mut gone = with_roles();
    gone.auth.named.remove(0);
    let server = super::start_on(gone, std::sync::Arc::clone(&records)).await;
    let refused = own(&server, &ann, &token).await;
    assert_eq!(refused["error"]["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("gateway.auth.users"), "{refused}");
    assert_eq!(own(&server, &vic, &others).await["ok"], true, "the shared token's is another matter");
    // Another credential that it shows lets it in, and counts from then on.
    let again = pair(&server, &ann, json!({"token": super::TOKEN})).await;
    assert_eq!(again["scopes"], json!(["operator.write"]), "{again}");
    assert_eq!(own(&server, &ann, &token).await["ok"], true);
}
