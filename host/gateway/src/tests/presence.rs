//! Who is here.

use serde_json::{Value, json};

use super::{TOKEN, assert_invalid, connect_params, start, with_token};

async fn here(client: &mut super::Client) -> Vec<Value> {
    client.call("system-presence", json!({"anything": 1})).await["payload"].as_array().unwrap().clone()
}

#[tokio::test]
async fn clients_come_and_go_and_others_hear_of_it() {
    let server = start(with_token()).await;
    let mut watcher = server.connect(4, &["operator.read"]).await;
    watcher.event("presence").await;
    let mut outsider = server.connect(4, &[]).await;
    watcher.event("presence").await;

    let mut visitor = server.open().await;
    let mut params = connect_params(4, 4);
    params["auth"] = json!({"token": TOKEN});
    params["client"]["instanceId"] = json!("visitor-1");
    params["client"]["displayName"] = json!("Ada's laptop");
    visitor.call("connect", params).await;
    let event = watcher.event("presence").await;
    let entries = event["payload"]["presence"].as_array().unwrap();
    assert_eq!((entries[0]["mode"].as_str(), entries[0]["reason"].as_str()), (Some("gateway"), Some("self")));
    let entry = entries.iter().find(|entry| entry["instanceId"] == "visitor-1").unwrap();
    assert_eq!((entry["host"].as_str(), entry["reason"].as_str()), (Some("Ada's laptop"), Some("connect")));
    let version = event["stateVersion"]["presence"].as_u64().unwrap();

    drop(visitor);
    let event = watcher.event("presence").await;
    assert!(event["stateVersion"]["presence"].as_u64().unwrap() > version);
    let find = |entries: &[Value]| entries.iter().find(|entry| entry["instanceId"] == "visitor-1").cloned();
    assert_eq!(find(&here(&mut watcher).await).unwrap()["reason"], "disconnect");
    server.clock.advance(5 * 60 * 1000);
    assert_eq!(find(&here(&mut watcher).await), None, "who is long gone is not shown");

    // Who may not read hears nothing of others: the answer is the first thing it gets.
    outsider.send(json!({"type": "req", "id": "h", "method": "system-presence"})).await;
    assert_eq!(outsider.any().await["error"]["details"]["code"], "MISSING_SCOPE");
}

#[tokio::test]
async fn a_command_line_is_not_shown() {
    let server = start(with_token()).await;
    let mut client = server.open().await;
    let mut params = connect_params(4, 4);
    params["client"] = json!({"id": "cli", "version": "1", "platform": "linux", "mode": "cli"});
    params["auth"] = json!({"token": TOKEN});
    params["scopes"] = json!(["operator.read"]);
    client.call("connect", params).await;
    assert_eq!(here(&mut client).await.len(), 1);
}

#[tokio::test]
async fn what_is_reported_is_shown_to_others() {
    let server = start(with_token()).await;
    let mut reporter = server.admin().await;
    let mut reader = server.connect(3, &["operator.read"]).await;
    let report = json!({"text": "Node: shed", "instanceId": "shed", "tags": ["garden"], "lastInputSeconds": 3});
    assert_eq!(reporter.call("system-event", report).await["payload"], json!({"ok": true}));
    let entries = here(&mut reader).await;
    let entry = entries.iter().find(|entry| entry["instanceId"] == "shed").unwrap();
    assert_eq!(entry["tags"], json!(["garden"]));
    assert_eq!(entry["ts"], 1_700_000_000_000_u64);

    let response = reporter.call("system-event", json!({"text": "x", "colour": "red"})).await;
    assert_invalid(&response, "invalid system-event params: at root: unexpected property 'colour'");
    let mut old = server.connect(3, &["operator.admin"]).await;
    assert_invalid(&old.call("system-event", json!({"text": " "})).await, "text required");
    assert_eq!(old.call("system-event", json!({"text": "x", "colour": "red"})).await["ok"], true);
}

#[tokio::test]
async fn who_closes_one_of_two_tabs_is_still_here() {
    let server = start(with_token()).await;
    let mut watcher = server.admin().await;
    let mut tabs = Vec::new();
    for _ in 0..3 {
        let mut tab = server.open().await;
        let mut params = connect_params(4, 4);
        params["auth"] = json!({"token": TOKEN});
        params["client"]["instanceId"] = json!("page");
        assert_eq!(tab.call("connect", params).await["ok"], true);
        tabs.push(tab);
    }
    let own = |entries: Vec<Value>| {
        let own = entries.into_iter().filter(|entry| entry["instanceId"] == "page").collect::<Vec<_>>();
        assert_eq!(own.len(), 1, "{own:?}");
        own[0]["reason"].as_str().unwrap().to_owned()
    };
    // The one that came last goes first, then the one before it.
    for left in [2, 1, 0] {
        let before = server.gateway.state.presence.version();
        drop(tabs.pop());
        while server.gateway.state.presence.version() == before {
            tokio::task::yield_now().await;
        }
        let expected = if left > 0 { "connect" } else { "disconnect" };
        assert_eq!(own(here(&mut watcher).await), expected, "{left} are left");
    }
}
