//! `leanclaw devices` and `leanclaw nodes` against the real gateway, with a device that comes from elsewhere over a socket.

use serde_json::{Value, json};

use crate::support::{Client, Device, Place, Program, text};

const TOKEN: &str = "t0ken-of-the-test";

/// A place whose program believes a proxy on this machine about where callers come from.
fn place() -> Place {
    let place = Place::empty();
    place.write_config(&format!("{{gateway: {{auth: {{token: '{TOKEN}'}}, trustedProxies: ['127.0.0.1']}}}}"));
    place
}

async fn knock(program: &Program, device: &Device, auth: Value) -> Result<Client, Value> {
    let connect = json!({"scopes": ["operator.read", "operator.write"], "auth": auth});
    device.knock(program.address, Some("9.9.9.9"), connect).await
}

fn shared() -> Value {
    json!({"token": TOKEN})
}

/// The command's only line.
async fn said(place: &Place, arguments: &[&str]) -> String {
    place.run(arguments).await.ok().trim_end().to_owned()
}

#[tokio::test]
async fn a_device_is_let_in_and_sent_away() {
    let place = place();
    let program = place.start().await;
    let device = Device::numbered(1, ("cli", "cli", "operator"));
    let id = device.id();
    let short = &id[..12];
    assert!(place.run(&["devices"]).await.ok().contains("No device is paired yet."));
    let refused = knock(&program, &device, shared()).await.err().expect("nobody let it in");
    let request = text(&refused["details"]["requestId"]).to_owned();
    let listed = place.run(&["devices"]).await.ok();
    for shown in [&request, short, "9.9.9.9", "read,write", "leanclaw devices approve"] {
        assert!(listed.contains(shown), "{shown}: {listed}");
    }

    let answer = place.run(&["devices", "reject", &request, "--json"]).await.json();
    assert_eq!(answer["deviceId"], id, "{answer}");
    let none = place.run(&["devices", "approve"]).await.failed(1);
    assert!(none.contains("no device waits to be approved") && none.contains("`leanclaw devices list`"), "{none}");
    knock(&program, &device, shared()).await.err().expect("it was sent away, and waits again");
    assert_eq!(said(&place, &["pairing", "approve"]).await, format!("{short} approved"), "the only one that waits");
    let mut client = knock(&program, &device, shared()).await.expect("it is let in");
    client.ok("status", json!({})).await;

    assert_eq!(said(&place, &["devices", "rename", &id[..6], "My phone"]).await, format!("{short} renamed"));
    let listed = place.run(&["pairing", "list"]).await.ok();
    assert!(listed.contains("My phone") && !listed.contains("WAITING"), "{listed}");
    let unknown = place.run(&["devices", "rename", "x", "Nobody's"]).await.failed(1);
    assert!(unknown.contains("no device's id begins with `x`"), "{unknown}");

    assert_eq!(said(&place, &["devices", "remove", short]).await, format!("{short} removed"));
    let (code, reason) = client.closed().await.expect("it says why");
    assert!(code == 1008 && reason.contains("device was removed"), "{code} {reason}");
    knock(&program, &device, shared()).await.err().expect("it has to be approved again");
    program.stop().await;
}

#[tokio::test]
async fn what_a_device_may_do_and_its_token_are_changed() {
    let place = place();
    let program = place.start().await;
    let device = Device::numbered(2, ("cli", "cli", "operator"));
    let id = device.id();
    let short = &id[..12];
    knock(&program, &device, shared()).await.err().expect("it waits");
    said(&place, &["devices", "approve"]).await;
    let client = knock(&program, &device, shared()).await.expect("it is let in");
    let token = client.hello["auth"]["deviceToken"].clone();
    let mut client = knock(&program, &device, json!({"deviceToken": token})).await.expect("by its own token too");

    let said_of_role = said(&place, &["devices", "role", short, "viewer"]).await;
    assert_eq!(said_of_role, format!("{short} is good for: viewer"));
    assert_eq!(client.closed().await.expect("it says why").0, 1008);
    let viewer = knock(&program, &device, shared()).await.expect("it is still let in");
    assert_eq!(viewer.hello["auth"]["scopes"], json!(["operator.read"]));
    let unknown = place.run(&["devices", "role", short, "king"]).await.failed(2);
    assert!(unknown.contains("admin, user, viewer, any"), "{unknown}");
    said(&place, &["devices", "role", short, "any"]).await;
    let all = knock(&program, &device, shared()).await.expect("it is still let in");
    assert_eq!(all.hello["auth"]["scopes"], json!(["operator.read", "operator.write"]));

    let rotated = said(&place, &["devices", "rotate", short]).await;
    assert!(rotated.starts_with(&format!("{short} has a new token")), "{rotated}");
    let old = knock(&program, &device, json!({"deviceToken": token})).await.err().expect("the old one is gone");
    assert_eq!(old["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH", "{old}");
    let fresh =
        knock(&program, &device, shared()).await.expect("it gets the new one").hello["auth"]["deviceToken"].clone();
    assert_ne!(fresh, token);
    knock(&program, &device, json!({"deviceToken": fresh})).await.expect("the new one opens");
    assert_eq!(said(&place, &["devices", "revoke", short]).await, format!("{short} has no token any more"));
    knock(&program, &device, json!({"deviceToken": fresh})).await.err().expect("it is taken back");
    program.stop().await;
}

#[tokio::test]
async fn a_node_is_approved_asked_named_and_taken_away() {
    let place = Place::empty();
    let program = place.start().await;
    let device = Device::numbered(3, ("node-host", "node", "node"));
    let id = device.id();
    let short = &id[..12];
    assert!(place.run(&["nodes"]).await.ok().contains("There is no node yet."));
    let connect = json!({"commands": ["system.which"], "caps": ["system"]});
    let knock = async || device.knock(program.address, None, connect.clone()).await.expect("it is of this machine");
    let mut node = knock().await;
    let listed = place.run(&["nodes"]).await.ok();
    assert!(listed.contains("WAITING") && listed.contains(short) && listed.contains("connected, waits"), "{listed}");
    assert_eq!(said(&place, &["nodes", "approve"]).await, format!("{short} approved"));
    let renamed = said(&place, &["nodes", "rename", short, "Box"]).await;
    assert_eq!(renamed, "renamed to Box");

    let invoked = tokio::spawn({
        let command = place.command(&["nodes", "invoke", short, "system.which", "--params", r#"{"bins": ["ls"]}"#]);
        crate::support::run(command)
    });
    let asked = node.event("node.invoke.request").await;
    assert_eq!((&asked["command"], text(&asked["paramsJSON"])), (&json!("system.which"), r#"{"bins":["ls"]}"#));
    let answer = json!({"id": asked["id"], "nodeId": id, "ok": true, "payloadJSON": r#"{"bins":{"ls":"/bin/ls"}}"#});
    node.ok("node.invoke.result", answer).await;
    assert_eq!(invoked.await.unwrap().json(), json!({"bins": {"ls": "/bin/ls"}}));
    let listed = place.run(&["nodes", "list"]).await.ok();
    assert!(listed.contains("Box") && listed.contains("system.which") && !listed.contains("WAITING"), "{listed}");

    let removed = said(&place, &["nodes", "remove", short]).await;
    assert_eq!(removed, format!("{short} is approved for nothing any more"));
    node.closed().await;
    let _waits = knock().await;
    let rejected = said(&place, &["nodes", "reject"]).await;
    assert_eq!(rejected, format!("{short} rejected"));
    program.stop().await;
}
