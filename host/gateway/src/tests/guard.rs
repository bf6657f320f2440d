//! Plugins that are asked about calls.

use serde_json::json;

use super::web::{bearer, request};
use super::{Server, start, with_token};

#[tokio::test]
async fn a_plugin_is_asked_after_the_scope_and_can_only_refuse() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.write"]).await;
    assert_eq!(client.call("wake", json!({"mode": "now", "text": "x"})).await["ok"], true);
    assert!(server.host.questions.lock().unwrap().is_empty(), "nobody wants to be asked");

    *server.host.guard.lock().unwrap() = Some("wake".into());
    let refused = client.call("wake", json!({"mode": "now", "text": "x"})).await;
    assert_eq!(refused["error"]["code"], "FORBIDDEN", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("`warden`"), "{refused}");
    assert_eq!(refused["error"]["details"]["hints"][0], "leanclaw plugin revoke warden hook:authorize");
    let denied = client.call("config.get", json!({"a": 1})).await;
    assert_eq!(denied["error"]["code"], "INVALID_REQUEST", "allowed by the plugin, refused by the method: {denied}");
    assert_eq!(client.call("plugins.revoke", json!({})).await["error"]["message"], "missing scope: operator.admin");
    assert_eq!(client.call("notes.echo", json!({"a": 1})).await["payload"], json!({"a": 1}));
    assert_eq!(client.call("notes.add", json!({})).await["ok"], true);
    assert_eq!(client.call("plugins.list", json!({})).await["ok"], true);

    let asked = server.host.questions.lock().unwrap().clone();
    let short: Vec<_> =
        asked.iter().map(|row| (row["question"]["method"].as_str().unwrap(), row["reads"] == true)).collect();
    let expected = [
        ("wake", false),
        ("config.get", true),
        ("notes.echo", true),
        ("notes.add", false),
        // Only an admin goes by the way out.
        ("plugins.list", true),
    ];
    assert_eq!(short, expected);
    let question = &asked[0]["question"];
    assert_eq!((question["role"].as_str(), &question["scopes"]), (Some("operator"), &json!(["operator.write"])));
    assert_eq!((&question["client"]["id"], &question["protocol"]), (&json!("gateway-client"), &json!(4)));
    assert_eq!(question["remote"], "127.0.0.1");
    let rows = server.audit.all();
    let row = rows.iter().find(|row| row["kind"] == "call-refused").unwrap();
    assert_eq!((row["method"].as_str(), row["actor"].as_str()), (Some("wake"), Some("client:token")));
}

#[tokio::test]
async fn a_plugin_is_asked_about_requests_over_http_too() {
    let server = start(with_token()).await;
    *server.host.guard.lock().unwrap() = Some("tools.invoke".into());
    let bearer = bearer();
    let convert = async |server: &Server| {
        request(server, "POST /tools/invoke", &[("authorization", &bearer)], "{\"tool\":\"convert\"}").await
    };
    let refused = convert(&server).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert!(refused.body.contains("`warden`"), "{}", refused.body);
    let question = server.host.questions.lock().unwrap()[0]["question"].clone();
    assert_eq!((&question["client"]["id"], &question["remote"]), (&json!("http"), &json!("127.0.0.1")));
    *server.host.guard.lock().unwrap() = Some("nothing".into());
    assert_eq!(convert(&server).await.status, 200);
    // Whether it only reads goes by the scope that is asked for, as over a socket.
    server.host.questions.lock().unwrap().clear();
    for method in ["GET", "POST"] {
        let line = format!("{method} /plugins/notes/http/x");
        assert_eq!(request(&server, &line, &[("authorization", &bearer)], "").await.status, 200);
    }
    let reads: Vec<_> = server.host.questions.lock().unwrap().iter().map(|asked| asked["reads"] == true).collect();
    assert_eq!(reads, [true, false]);
}

#[tokio::test]
async fn an_admin_can_always_take_the_right_back() {
    let server = start(with_token()).await;
    *server.host.guard.lock().unwrap() = Some("plugins.revoke".into());
    let mut admin = server.connect(3, &["operator.admin"]).await;
    assert_eq!(admin.call("plugins.list", json!({})).await["ok"], true);
    for (method, params) in [
        ("plugins.revoke", json!({"pluginId": "notes", "items": ["kv"]})),
        ("plugins.inspect", json!({"pluginId": "notes"})),
        ("plugins.grant", json!({"pluginId": "notes", "all": true})),
        ("plugins.reload", json!({"pluginId": "notes"})),
    ] {
        *server.host.guard.lock().unwrap() = Some(method.into());
        let answer = admin.call(method, params).await;
        assert_eq!(answer["ok"], true, "{method}: {answer}");
    }
    assert!(server.host.questions.lock().unwrap().is_empty(), "repairing asks nobody");
    *server.host.guard.lock().unwrap() = Some("status".into());
    let refused = admin.call("status", json!({})).await;
    assert_eq!(refused["error"]["code"], "INVALID_REQUEST", "as version 3 says it: {refused}");
    assert_eq!(admin.call("status", json!({})).await["ok"], false);
    let rows = server.audit.all();
    assert_eq!(rows.iter().filter(|row| row["kind"] == "call-refused").count(), 1, "{rows:?}");
}

#[tokio::test]
async fn a_call_in_two_phases_keeps_both_when_a_plugin_is_asked_first() {
    let server = start(with_token()).await;
    *server.host.guard.lock().unwrap() = Some("nothing".into());
    let mut agent = server.connect(4, &["operator.approvals"]).await;
    let mut approver = server.admin().await;
    let params = json!({"id": "q", "command": "ls", "twoPhase": true});
    agent.send(json!({"type": "req", "id": "q", "method": "exec.approval.request", "params": params})).await;
    approver.event("exec.approval.requested").await;
    assert_eq!(agent.response(&json!("q")).await["payload"]["status"], "accepted");
    let decide = json!({"id": "q", "decision": "allow-once"});
    assert_eq!(approver.call("exec.approval.resolve", decide).await["ok"], true);
    assert_eq!(agent.response(&json!("q")).await["payload"]["decision"], "allow-once");
}
