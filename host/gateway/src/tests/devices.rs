//! Devices: pairing, tokens, and what is taken back.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::{Client, Server, TOKEN, assert_invalid, start, start_on, with_token};
use crate::auth::device::id_of;
use crate::{GatewayConfig, Limits};

const LOCAL: &[(&str, &str)] = &[];
/// A caller from elsewhere, as a trusted proxy reports it: the tests have no address but loopback.
pub(super) const REMOTE: &[(&str, &str)] = &[("x-forwarded-for", "9.9.9.9")];

pub(super) struct Phone {
    pair: Ed25519KeyPair,
    platform: &'static str,
    /// Its client's id and mode.
    client: (&'static str, &'static str),
}

impl Phone {
    pub(super) fn new(seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        Self { pair, platform: "iOS 18", client: ("openclaw-ios", "ui") }
    }

    pub(super) fn id(&self) -> String {
        id_of(self.pair.public_key().as_ref())
    }

    /// Parameters of `connect`, signed for the nonce of `client`'s socket.
    fn params(&self, client: &Client, protocol: u64, role: &str, scopes: &[&str], auth: Value) -> Value {
        let (nonce, at) = (client.challenge["payload"]["nonce"].as_str().unwrap(), &client.challenge["payload"]["ts"]);
        let token = ["token", "deviceToken"].iter().find_map(|name| auth[name].as_str()).unwrap_or_default();
        let (client_id, mode) = self.client;
        let payload = format!(
            "v3|{}|{client_id}|{mode}|{role}|{}|{at}|{token}|{nonce}|{}|iphone",
            self.id(),
            scopes.join(","),
            self.platform.to_lowercase()
        );
        json!({
            "minProtocol": protocol, "maxProtocol": protocol, "role": role, "scopes": scopes, "auth": auth,
            "client": {"id": client_id, "version": "1", "platform": self.platform, "mode": mode,
                "deviceFamily": "iPhone", "displayName": "phone"},
            "device": {"id": self.id(), "publicKey": URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref()),
                "signature": URL_SAFE_NO_PAD.encode(self.pair.sign(payload.as_bytes()).as_ref()),
                "signedAt": at, "nonce": nonce},
        })
    }

    pub(super) async fn knock(
        &self,
        server: &Server,
        from: &[(&'static str, &str)],
        (protocol, role): (u64, &str),
        scopes: &[&str],
        auth: Value,
    ) -> (Client, Value) {
        let mut client = server.open_with("/", from).await;
        let params = self.params(&client, protocol, role, scopes, auth);
        let response = client.call("connect", params).await;
        (client, response)
    }
}

pub(super) fn proxied() -> GatewayConfig {
    let mut config = with_token();
    config.live.trusted_proxies = vec!["127.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    config
}

fn shared() -> Value {
    json!({"token": TOKEN})
}

const OPERATOR: (u64, &str) = (4, "operator");
const READ: &[&str] = &["operator.read"];

async fn pairing_admin(server: &Server) -> Client {
    // Through the proxy as well, where one is trusted; the token alone is enough.
    server.connect(4, &["operator.admin"]).await
}

#[tokio::test]
async fn a_device_on_this_machine_is_paired_at_once_and_needs_the_shared_token_no_more() {
    let server = start(with_token()).await;
    let phone = Phone::new(1);
    let (mut client, response) = phone.knock(&server, LOCAL, OPERATOR, READ, shared()).await;
    let auth = &response["payload"]["auth"];
    assert_eq!((auth["method"].as_str(), auth["scopes"].clone()), (Some("token"), json!(READ)), "{response}");
    let token = auth["deviceToken"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 43);
    assert_eq!(auth["issuedAtMs"], 1_700_000_000_000_u64);
    assert_eq!(client.call("system-presence", json!({})).await["ok"], true);

    for field in ["token", "deviceToken"] {
        let (_, response) = phone.knock(&server, LOCAL, OPERATOR, READ, json!({field: token})).await;
        assert_eq!(response["payload"]["auth"]["method"], "device-token", "{field} {response}");
        assert_eq!(response["payload"]["auth"]["deviceToken"], token.as_str(), "the same until it is rotated");
    }
    let (_, old) = phone.knock(&server, LOCAL, (3, "operator"), READ, shared()).await;
    assert_eq!(old["payload"]["auth"]["deviceToken"], token.as_str());
    assert!(old["payload"]["auth"].get("method").is_none());
    // Another device's token is worth nothing.
    let (mut thief, response) =
        Phone::new(2).knock(&server, LOCAL, OPERATOR, READ, json!({"deviceToken": token})).await;
    assert_eq!(response["error"]["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH");
    assert!(thief.closed().await.1.contains("device token mismatch"));
    let kept = server.records.audit.lock().unwrap().len();
    assert_eq!(kept, 1, "one pairing, one row");
}

#[tokio::test]
async fn a_restart_forgets_no_device_and_no_token() {
    let server = start(with_token()).await;
    let phone = Phone::new(3);
    let (_, response) = phone.knock(&server, LOCAL, OPERATOR, READ, shared()).await;
    let token = response["payload"]["auth"]["deviceToken"].clone();
    let identity = pairing_admin(&server).await.call("gateway.identity.get", json!({})).await["payload"].clone();
    let records = Arc::clone(&server.records);
    server.stop().await;
    let server = start_on(with_token(), records).await;
    let (_, response) = phone.knock(&server, LOCAL, OPERATOR, READ, json!({"deviceToken": token})).await;
    assert_eq!(response["payload"]["auth"]["method"], "device-token", "{response}");
    let again = pairing_admin(&server).await.call("gateway.identity.get", json!({})).await["payload"].clone();
    assert_eq!(identity, again);
    assert_eq!(identity["deviceId"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn a_device_from_elsewhere_waits_for_an_admin() {
    let server = start(proxied()).await;
    let mut admin = pairing_admin(&server).await;
    let mut outsider = server.connect(4, &["operator.read", "operator.write"]).await;
    let phone = Phone::new(4);
    let (mut client, response) = phone.knock(&server, REMOTE, OPERATOR, READ, shared()).await;
    let error = &response["error"];
    assert_eq!(error["code"], "NOT_PAIRED");
    assert_eq!(error["message"], "pairing required: device is not approved yet");
    let details = &error["details"];
    assert_eq!((details["reason"].as_str(), details["deviceId"].clone()), (Some("not-paired"), json!(phone.id())));
    let request = details["requestId"].as_str().unwrap().to_owned();
    let reason = format!("pairing required: device is not approved yet (requestId: {request})");
    assert_eq!(client.closed().await, (1008, reason));
    let event = admin.event("device.pair.requested").await;
    assert_eq!(
        (event["payload"]["requestId"].clone(), event["payload"]["remoteIp"].clone()),
        (json!(request), json!("9.9.9.9"))
    );

    // Asking again is the same request; version 3 is told in its own words.
    let (_, again) = phone.knock(&server, REMOTE, (3, "operator"), READ, shared()).await;
    assert_eq!(again["error"]["message"], "pairing required");
    assert_eq!(again["error"]["details"]["requestId"], request.as_str());
    let listed = admin.call("device.pair.list", json!({})).await["payload"].clone();
    assert_eq!((listed["pending"].as_array().unwrap().len(), listed["paired"].clone()), (1, json!([])));
    let denied = outsider.call("device.pair.list", json!({})).await;
    assert_eq!(denied["error"]["details"]["missingScope"], "operator.pairing");

    let approved = admin.call("device.pair.approve", json!({"requestId": request})).await;
    assert_eq!(approved["payload"]["device"]["approvedVia"], "owner", "{approved}");
    assert!(!approved.to_string().contains("salt"));
    assert_eq!(admin.event("device.pair.resolved").await["payload"]["decision"], "approved");
    let (_, response) = phone.knock(&server, REMOTE, OPERATOR, READ, shared()).await;
    assert_eq!(response["ok"], true, "{response}");
    assert_invalid(&admin.call("device.pair.approve", json!({"requestId": request})).await, "unknown requestId");
    let mut older = server.connect(3, &["operator.pairing"]).await;
    let listed = older.call("device.pair.list", json!({})).await["payload"]["paired"][0].clone();
    assert_eq!((&listed["deviceId"], listed.get("approvedVia")), (&json!(phone.id()), None), "{listed}");
    let server = server.again(proxied()).await;
    let (_, response) = phone.knock(&server, REMOTE, OPERATOR, READ, shared()).await;
    assert_eq!(response["ok"], true, "it stays approved: {response}");
}

#[tokio::test]
async fn more_scopes_another_role_and_another_platform_need_approval() {
    let server = start(proxied()).await;
    let mut admin = pairing_admin(&server).await;
    let mut phone = Phone::new(5);
    let (_, response) = phone.knock(&server, REMOTE, OPERATOR, READ, shared()).await;
    let approve = |response: &Value| json!({"requestId": response["error"]["details"]["requestId"]});
    assert_eq!(admin.call("device.pair.approve", approve(&response)).await["ok"], true);

    let (_, more) = phone.knock(&server, REMOTE, OPERATOR, &["operator.admin"], shared()).await;
    assert_eq!(more["error"]["details"]["reason"], "scope-upgrade");
    assert_eq!(more["error"]["details"]["approvedScopes"], json!(READ));
    let (_, node) = phone.knock(&server, REMOTE, (4, "node"), &[], shared()).await;
    assert_eq!(node["error"]["details"]["reason"], "role-upgrade");
    phone.platform = "Android";
    let (_, moved) = phone.knock(&server, REMOTE, OPERATOR, READ, shared()).await;
    assert_eq!(moved["error"]["details"]["reason"], "metadata-upgrade");
    phone.platform = "iOS 18";

    // Nobody gives more than they hold, and the request stays for who can.
    let mut clerk = server.connect(4, &["operator.pairing"]).await;
    let (_, more) = phone.knock(&server, REMOTE, OPERATOR, &["operator.admin"], shared()).await;
    assert_invalid(&clerk.call("device.pair.approve", approve(&more)).await, "missing scope: operator.admin");
    assert_eq!(admin.call("device.pair.approve", approve(&more)).await["ok"], true);
    let (_, response) = phone.knock(&server, REMOTE, OPERATOR, &["operator.admin"], shared()).await;
    assert_eq!(response["ok"], true);
    let rejected = phone.knock(&server, REMOTE, (4, "node"), &[], shared()).await.1;
    assert_eq!(clerk.call("device.pair.reject", approve(&rejected)).await["payload"]["deviceId"], json!(phone.id()));
    assert_eq!(admin.call("device.pair.list", json!({})).await["payload"]["pending"], json!([]));
    let kept = serde_json::to_value(&*server.records.audit.lock().unwrap()).unwrap();
    let row = kept.as_array().unwrap().last().unwrap();
    assert_eq!((&row["action"], &row["device"]), (&json!("rejected"), &json!(phone.id())), "{kept}");
    let denied: Vec<Value> = server.audit.all().into_iter().filter(|row| row["kind"] == "scope-denied").collect();
    let expected = ("device.pair.approve", "operator.admin");
    assert_eq!((denied[0]["method"].as_str().unwrap(), denied[0]["scope"].as_str().unwrap()), expected, "{denied:?}");
    assert_eq!(denied.len(), 1);
    let server = server.again(proxied()).await;
    let again = phone.knock(&server, REMOTE, (4, "node"), &[], shared()).await.1["error"]["details"].clone();
    assert_eq!(again["reason"], "role-upgrade", "it stays rejected: {again}");
    assert_ne!(again["requestId"], rejected["error"]["details"]["requestId"]);
}

#[tokio::test]
async fn a_rejection_that_cannot_be_written_down_is_none() {
    let server = start(proxied()).await;
    let (_, waits) = Phone::new(24).knock(&server, REMOTE, OPERATOR, READ, shared()).await;
    let request = json!({"requestId": waits["error"]["details"]["requestId"]});
    let mut admin = pairing_admin(&server).await;
    server.records.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(admin.call("device.pair.reject", request.clone()).await["error"]["code"], "UNAVAILABLE");
    server.records.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(admin.call("device.pair.reject", request).await["ok"], true, "it waited on");
}

#[tokio::test]
async fn who_gives_a_token_more_than_it_may_have_is_written_down_once() {
    let server = start(with_token()).await;
    let phone = Phone::new(25);
    assert_eq!(phone.knock(&server, LOCAL, OPERATOR, READ, shared()).await.1["ok"], true);
    let mut clerk = server.connect(4, &["operator.pairing"]).await;
    let more = json!({"deviceId": phone.id(), "role": "operator", "scopes": ["operator.admin"]});
    for _ in 0..3 {
        assert_invalid(&clerk.call("device.token.rotate", more.clone()).await, "device token rotation denied");
    }
    let denied: Vec<Value> = server.audit.all().into_iter().filter(|row| row["kind"] == "scope-denied").collect();
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!((&denied[0]["method"], &denied[0]["scope"]), (&json!("device.token.rotate"), &json!("operator.admin")));
}

#[tokio::test]
async fn on_this_machine_too_another_role_and_another_platform_need_approval() {
    let server = start(with_token()).await;
    let mut phone = Phone::new(21);
    assert_eq!(phone.knock(&server, LOCAL, OPERATOR, READ, shared()).await.1["ok"], true);
    assert_eq!(phone.knock(&server, LOCAL, OPERATOR, &["operator.write"], shared()).await.1["ok"], true);
    let (_, node) = phone.knock(&server, LOCAL, (4, "node"), &[], shared()).await;
    assert_eq!(node["error"]["details"]["reason"], "role-upgrade", "{node}");
    phone.platform = "Android";
    let (_, moved) = phone.knock(&server, LOCAL, OPERATOR, READ, shared()).await;
    assert_eq!(moved["error"]["details"]["reason"], "metadata-upgrade", "{moved}");
}

#[tokio::test]
async fn a_helper_of_this_machine_is_not_paired_and_one_from_elsewhere_is() {
    let server = start(with_token()).await;
    let mut helper = Phone::new(22);
    helper.client = ("gateway-client", "backend");
    let (_, response) = helper.knock(&server, LOCAL, OPERATOR, READ, shared()).await;
    assert_eq!((&response["ok"], &response["payload"]["auth"]["deviceToken"]), (&json!(true), &Value::Null));
    let server = start(proxied()).await;
    let (_, response) = helper.knock(&server, REMOTE, OPERATOR, READ, shared()).await;
    assert_eq!(response["error"]["details"]["reason"], "not-paired", "{response}");
}

#[tokio::test]
async fn so_many_devices_wait_and_the_oldest_makes_room() {
    let server = start(proxied()).await;
    let mut admin = pairing_admin(&server).await;
    let phones: Vec<Phone> = (100..170).map(Phone::new).collect();
    for phone in &phones {
        phone.knock(&server, REMOTE, OPERATOR, READ, shared()).await;
    }
    let listed = admin.call("device.pair.list", json!({})).await["payload"]["pending"].clone();
    let waiting: Vec<&Value> = listed.as_array().unwrap().iter().map(|request| &request["deviceId"]).collect();
    assert_eq!(waiting.len(), 64);
    assert!(waiting.contains(&&json!(phones[69].id())) && !waiting.contains(&&json!(phones[0].id())));
}

#[tokio::test]
async fn a_device_that_is_removed_is_cut_off() {
    let server = start(with_token()).await;
    let mut admin = pairing_admin(&server).await;
    let phone = Phone::new(23);
    let (mut client, _) = phone.knock(&server, LOCAL, OPERATOR, READ, shared()).await;
    assert_eq!(admin.call("device.pair.remove", json!({"deviceId": phone.id()})).await["ok"], true);
    let why = "access was taken back: this device was removed (device.pair.remove)";
    assert_eq!(client.closed().await, (1008, why.into()));
}

#[tokio::test]
async fn a_request_is_forgotten_after_five_minutes() {
    let server = start(proxied()).await;
    let (_, response) = Phone::new(6).knock(&server, REMOTE, OPERATOR, READ, shared()).await;
    server.clock.advance(5 * 60 * 1000);
    let mut admin = pairing_admin(&server).await;
    let request = json!({"requestId": response["error"]["details"]["requestId"]});
    assert_invalid(&admin.call("device.pair.approve", request).await, "unknown requestId");
}

#[tokio::test]
async fn tokens_are_rotated_and_revoked_and_connections_end_with_them() {
    let server = start(with_token()).await;
    let mut admin = pairing_admin(&server).await;
    let phone = Phone::new(7);
    let (mut client, response) = phone.knock(&server, LOCAL, OPERATOR, READ, shared()).await;
    let first = response["payload"]["auth"]["deviceToken"].clone();
    let which = json!({"deviceId": phone.id(), "role": "operator"});

    let rotated = admin.call("device.token.rotate", which.clone()).await["payload"].clone();
    assert_eq!(rotated["tokenDelivery"], "withheld-cross-device");
    assert!(rotated.get("token").is_none());
    let why = "access was taken back: this device's token was rotated (device.token.rotate); connect with the new one";
    assert_eq!(client.closed().await, (1008, why.into()));
    let (_, old) = phone.knock(&server, LOCAL, OPERATOR, READ, json!({"deviceToken": first})).await;
    assert_eq!(old["error"]["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH");
    let (client, response) = phone.knock(&server, LOCAL, OPERATOR, READ, shared()).await;
    let second = response["payload"]["auth"]["deviceToken"].clone();
    assert_ne!(first, second);
    drop((admin, client));
    let server = server.again(with_token()).await;
    let by = async |server: &Server, token: &Value| {
        let (client, response) = phone.knock(server, LOCAL, OPERATOR, READ, json!({"deviceToken": token})).await;
        (client, response["ok"].clone())
    };
    assert_eq!(by(&server, &first).await.1, false, "also after a restart");
    let (mut client, known) = by(&server, &second).await;
    assert_eq!(known, true);

    let mut admin = pairing_admin(&server).await;
    assert_eq!(admin.call("device.token.revoke", which.clone()).await["payload"]["role"], "operator");
    assert!(client.closed().await.1.contains("(device.token.revoke)"));
    assert_eq!(by(&server, &second).await.1, false);
    let nobody = json!({"deviceId": "nobody", "role": "operator"});
    assert_invalid(&admin.call("device.token.rotate", nobody.clone()).await, "device token rotation denied");
    let mut old = server.connect(3, &["operator.admin"]).await;
    assert_invalid(&old.call("device.token.revoke", nobody).await, "unknown deviceId/role");

    assert_eq!(admin.call("device.pair.rename", json!({"deviceId": phone.id(), "label": "mine"})).await["ok"], true);
    drop(old);
    let server = server.again(with_token()).await;
    let mut admin = pairing_admin(&server).await;
    assert_eq!(by(&server, &second).await.1, false, "it stays revoked");
    assert_eq!(admin.call("device.pair.list", json!({})).await["payload"]["paired"][0]["label"], "mine");
    assert_eq!(admin.call("device.pair.remove", json!({"deviceId": phone.id()})).await["ok"], true);
    assert_invalid(&admin.call("device.pair.remove", json!({"deviceId": phone.id()})).await, "unknown deviceId");
    let server = server.again(with_token()).await;
    let listed = pairing_admin(&server).await.call("device.pair.list", json!({})).await["payload"]["paired"].clone();
    assert_eq!(listed, json!([]), "it stays away");
    let actions: Vec<Value> = server
        .records
        .audit
        .lock()
        .unwrap()
        .iter()
        .map(|row| serde_json::to_value(row).unwrap()["action"].clone())
        .collect();
    assert_eq!(actions, ["paired", "token-rotated", "token-revoked", "renamed", "removed"]);
}

#[tokio::test]
async fn a_token_is_good_for_what_its_device_was_approved_for() {
    let server = start(with_token()).await;
    let phone = Phone::new(8);
    let (_, response) = phone.knock(&server, LOCAL, OPERATOR, READ, shared()).await;
    let token = json!({"deviceToken": response["payload"]["auth"]["deviceToken"]});
    let (_, more) = phone.knock(&server, LOCAL, OPERATOR, &["operator.write"], token.clone()).await;
    assert_eq!(more["error"]["details"]["code"], "AUTH_SCOPE_MISMATCH");
    let (_, more) = phone.knock(&server, LOCAL, (3, "operator"), &["operator.write"], token).await;
    assert_eq!(more["error"]["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH");
}

#[tokio::test]
async fn a_signature_is_good_for_one_socket() {
    let server = start(with_token()).await;
    let phone = Phone::new(9);
    let client = server.open().await;
    let replayed = phone.params(&client, 4, "operator", READ, shared());
    let mut other = server.open().await;
    let response = other.call("connect", replayed.clone()).await;
    assert_eq!(response["error"]["message"], "device nonce mismatch");
    assert_eq!(
        response["error"]["details"],
        json!({"code": "DEVICE_AUTH_NONCE_MISMATCH", "reason": "device-nonce-mismatch"})
    );
    assert_eq!(other.closed().await, (1008, "device nonce mismatch".into()));
    server.clock.advance(120_001);
    let mut client = client;
    let response = client.call("connect", replayed).await;
    assert_eq!(response["error"]["details"]["code"], "DEVICE_AUTH_SIGNATURE_EXPIRED");
    assert!(response["error"]["details"]["hints"][0].as_str().unwrap().contains("clocks"), "{response}");
}

#[tokio::test]
async fn without_a_credential_a_page_needs_an_approved_device() {
    let server = start(GatewayConfig::new("0")).await;
    let page: &[(&str, &str)] = &[("origin", "http://localhost:3000")];
    let phone = Phone::new(10);
    let (_, response) = phone.knock(&server, page, OPERATOR, READ, json!({})).await;
    let request = json!({"requestId": response["error"]["details"]["requestId"]});
    assert_eq!(response["error"]["details"]["reason"], "not-paired", "{response}");
    let mut admin = server.connect(4, &["operator.admin"]).await;
    assert_eq!(admin.call("device.pair.approve", request).await["ok"], true);
    let (_, response) = phone.knock(&server, page, OPERATOR, READ, json!({})).await;
    assert_eq!(response["payload"]["auth"]["method"], "none", "{response}");
}

#[tokio::test]
async fn pages_and_nodes_are_known_by_their_device_only() {
    let server = start(with_token()).await;
    for (id, mode, role, code) in [
        ("openclaw-control-ui", "webchat", "operator", "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"),
        ("node-host", "node", "node", "DEVICE_IDENTITY_REQUIRED"),
    ] {
        let mut client = server.open_with("/", &[("origin", "http://127.0.0.1:5")]).await;
        let params = json!({"minProtocol": 4, "maxProtocol": 4, "role": role, "auth": shared(),
            "client": {"id": id, "version": "1", "platform": "linux", "mode": mode}});
        let response = client.call("connect", params).await;
        assert_eq!(response["error"]["details"]["code"], code, "{response}");
    }
}

/// The code that a device from elsewhere is refused with; none when it is not.
async fn refused(server: &Server, phone: &Phone, auth: Value) -> Option<String> {
    let (_, response) = phone.knock(server, REMOTE, OPERATOR, READ, auth).await;
    response["error"]["details"]["code"].as_str().map(str::to_owned)
}

/// A gateway that locks out after three, a device that it has approved, and that device's token.
async fn with_a_device(seed: u8) -> (Server, Phone, Value) {
    let mut config = proxied();
    config.limits = Limits { auth_attempts: 3, ..Limits::default() };
    let server = start(config).await;
    let phone = Phone::new(seed);
    let (_, response) = phone.knock(&server, REMOTE, OPERATOR, READ, shared()).await;
    let request = json!({"requestId": response["error"]["details"]["requestId"]});
    assert_eq!(pairing_admin(&server).await.call("device.pair.approve", request).await["ok"], true);
    let (_, response) = phone.knock(&server, REMOTE, OPERATOR, READ, shared()).await;
    let token = response["payload"]["auth"]["deviceToken"].clone();
    (server, phone, token)
}

#[tokio::test]
async fn wrong_device_tokens_lock_device_tokens_out_and_nothing_else() {
    let (server, phone, token) = with_a_device(11).await;
    for _ in 0..3 {
        let code = refused(&server, &phone, json!({"deviceToken": "guess"})).await;
        assert_eq!(code.as_deref(), Some("AUTH_DEVICE_TOKEN_MISMATCH"));
    }
    let code = refused(&server, &phone, json!({"deviceToken": token})).await;
    assert_eq!(code.as_deref(), Some("AUTH_RATE_LIMITED"), "also the right one");
    assert_eq!(refused(&server, &phone, shared()).await, None, "the shared token is another credential");
    server.clock.advance(300_001);
    assert_eq!(refused(&server, &phone, json!({"deviceToken": token})).await, None);
}

#[tokio::test]
async fn a_token_that_a_paired_device_had_once_locks_nobody_out_who_shows_the_shared_one() {
    let (server, phone, token) = with_a_device(13).await;
    for _ in 0..3 {
        assert_eq!(refused(&server, &phone, json!({"token": "stale"})).await.as_deref(), Some("AUTH_TOKEN_MISMATCH"));
    }
    assert_eq!(refused(&server, &phone, json!({"deviceToken": token})).await.as_deref(), Some("AUTH_RATE_LIMITED"));
    assert_eq!(refused(&server, &phone, shared()).await, None);
    // Nor is that a way to go on guessing at it: from here on it counts as what it is held against. Whether it is the
    // device's own nobody looks, which is what it hears.
    for guess in [json!("guess"), token, json!("another")] {
        assert_eq!(refused(&server, &phone, json!({"token": guess})).await.as_deref(), Some("AUTH_RATE_LIMITED"));
    }
    assert_eq!(refused(&server, &phone, shared()).await.as_deref(), Some("AUTH_RATE_LIMITED"));
}

#[tokio::test]
async fn a_device_token_in_both_fields_is_that_and_no_guess_at_the_shared_one() {
    let (server, phone, token) = with_a_device(16).await;
    let (both, stale) = (|text: &Value| json!({"token": text, "deviceToken": text}), json!("stale"));
    // As clients of version 3 send what they have kept. A device that is not paired has nothing that could be guessed.
    for _ in 0..4 {
        assert!(refused(&server, &Phone::new(17), both(&stale)).await.is_some());
    }
    assert_eq!(refused(&server, &phone, both(&token)).await, None);
    for _ in 0..3 {
        let code = refused(&server, &phone, both(&stale)).await;
        assert_eq!(code.as_deref(), Some("AUTH_DEVICE_TOKEN_MISMATCH"));
    }
    assert_eq!(refused(&server, &phone, both(&token)).await.as_deref(), Some("AUTH_RATE_LIMITED"));
    assert_eq!(refused(&server, &phone, shared()).await, None, "nobody guessed at it");
}

#[tokio::test]
async fn wrong_shared_tokens_lock_no_device_out_that_shows_its_own() {
    let (server, phone, token) = with_a_device(14).await;
    // Who is no device of this gateway guesses at the shared token, whatever it says besides.
    for _ in 0..3 {
        let guess = json!({"token": "guess", "deviceToken": "other"});
        refused(&server, &Phone::new(15), guess).await;
    }
    assert_eq!(refused(&server, &phone, shared()).await.as_deref(), Some("AUTH_RATE_LIMITED"));
    server.clock.advance(300_001);
    for _ in 0..3 {
        // The answer tells whether the guess was right, so it counts.
        assert_eq!(refused(&server, &phone, json!({"token": "guess", "deviceToken": token})).await, None);
    }
    assert_eq!(refused(&server, &phone, shared()).await.as_deref(), Some("AUTH_RATE_LIMITED"));
    for field in ["token", "deviceToken"] {
        assert_eq!(refused(&server, &phone, json!({field: token})).await, None, "{field}");
    }
    for _ in 0..3 {
        let code = refused(&server, &phone, json!({"token": "guess"})).await;
        assert_eq!(code.as_deref(), Some("AUTH_RATE_LIMITED"));
    }
    assert_eq!(refused(&server, &phone, json!({"token": token})).await.as_deref(), Some("AUTH_RATE_LIMITED"));
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_granted() {
    let server = start(with_token()).await;
    server.records.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let phone = Phone::new(12);
    let (_, response) = phone.knock(&server, LOCAL, OPERATOR, READ, shared()).await;
    assert_eq!(response["error"]["code"], "UNAVAILABLE", "{response}");
    server.records.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(phone.knock(&server, LOCAL, OPERATOR, READ, shared()).await.1["ok"], true);
}

#[tokio::test]
async fn a_request_goes_on_waiting_when_who_approves_may_not() {
    let server = start(proxied()).await;
    let phone = Phone::new(90);
    let (_, refused) = phone.knock(&server, REMOTE, OPERATOR, &["operator.admin"], shared()).await;
    let id = refused["error"]["details"]["requestId"].clone();
    let mut pairer = server.connect(4, &["operator.pairing"]).await;
    let denied = pairer.call("device.pair.approve", json!({"requestId": id})).await;
    assert_eq!(denied["error"]["message"], "missing scope: operator.admin", "{denied}");
    let mut admin = pairing_admin(&server).await;
    let listed = admin.call("device.pair.list", json!({})).await["payload"]["pending"].clone();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["requestId"]), (1, &id));
    assert!(listed[0].get("by").is_none(), "what it showed is nobody's business");
    assert_eq!(admin.call("device.pair.approve", json!({"requestId": id})).await["ok"], true);
}
