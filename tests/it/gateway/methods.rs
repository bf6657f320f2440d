//! Methods: the gateway's own, those of plugins, and tools.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Connect, Place, Program, held_fetch, request, text};

async fn with_notes() -> (Place, Program) {
    let place = Place::with_examples(&["notes"]).await;
    let program = place.start().await;
    program.grant_all("notes").await;
    (place, program)
}

#[tokio::test]
async fn a_plugin_answers_and_its_event_reaches_others() {
    let (_place, program) = with_notes().await;
    let mut author = program.client().await;
    let mut reader = Connect { protocols: (3, 3), scopes: &["operator.read"], ..Connect::default() }
        .to(program.address)
        .await
        .unwrap();
    let mut nobody = Connect { scopes: &[], ..Connect::default() }.to(program.address).await.unwrap();
    for client in [&author, &reader] {
        let methods = client.hello["features"]["methods"].as_array().unwrap();
        for method in ["health", "plugins.list", "tools.invoke", "notes.add", "notes.list"] {
            assert!(methods.contains(&json!(method)), "{method}: {methods:?}");
        }
        assert!(client.hello["features"]["events"].as_array().unwrap().contains(&json!("notes.changed")));
    }
    let note = author.ok("notes.add", json!({"text": "  buy milk "})).await;
    assert_eq!((&note["id"], &note["text"]), (&json!(1), &json!("buy milk")));
    for client in [&mut author, &mut reader] {
        assert_eq!(client.event("notes.changed").await, json!({"change": "added", "id": 1}));
    }
    assert_eq!(reader.ok("notes.list", json!({})).await, json!({"notes": [note]}));
    assert_eq!(author.ok("notes.search", json!({"query": "MILK"})).await["notes"], json!([note]));
    assert_eq!(author.ok("notes.remove", json!({"id": 1})).await, json!({"removed": true}));
    assert_eq!(reader.event("notes.changed").await, json!({"change": "removed", "id": 1}));
    assert_eq!(reader.ok("notes.list", json!({})).await, json!({"notes": []}));
    // Whoever may read nothing is told nothing. The answer comes after every event before it.
    nobody.ok("health", json!({})).await;
    assert!(!nobody.heard("notes.changed"));
    program.stop().await;
}

#[tokio::test]
async fn a_scope_that_is_missing_is_named() {
    let (place, program) = with_notes().await;
    for (protocols, code) in [((3, 3), "INVALID_REQUEST"), ((4, 4), "FORBIDDEN")] {
        let reader = Connect { protocols, scopes: &["operator.read"], ..Connect::default() };
        let mut reader = reader.to(program.address).await.unwrap();
        reader.ok("notes.list", json!({})).await;
        for (method, scope) in [("notes.add", "operator.write"), ("plugins.grant", "operator.admin")] {
            let error = reader.refused(method, json!({"text": "x"})).await;
            assert_eq!(error["code"], code, "{error}");
            assert_eq!(error["message"], format!("missing scope: {scope}"));
        }
        // The same call with the scope.
        let writer = Connect { protocols, scopes: &["operator.write"], ..Connect::default() };
        writer.to(program.address).await.unwrap().ok("notes.add", json!({"text": "x"})).await;
    }
    let audited = place.run(&["audit", "tail", "--kind", "scope-denied", "--json"]).await.json();
    let first = &audited[0];
    assert_eq!((&first["method"], &first["scope"]), (&json!("notes.add"), &json!("operator.write")), "{audited}");
    program.stop().await;
}

#[tokio::test]
async fn wrong_parameters_and_unknown_methods_are_explained() {
    let (_place, program) = with_notes().await;
    let mut client = program.client().await;
    let mut said = Vec::new();
    for (method, params) in [
        ("notes.add", json!({})),
        ("notes.add", json!({"text": 7})),
        ("notes.add", json!({"text": "x", "colour": "red"})),
        ("notes.add", json!({"text": " "})),
        ("notes.add", json!([])),
        ("notes.nothing", json!({})),
        ("no.such.method", json!({})),
        ("plugins.inspect", json!({"pluginId": "none"})),
        ("plugins.inspect", json!({"pluginId": "../etc"})),
        ("plugins.inspect", json!({"pluginID": "notes"})),
    ] {
        let error = client.refused(method, params).await;
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
        said.push(text(&error["message"]).to_owned());
    }
    assert_eq!(
        said,
        [
            "invalid notes.add params: must have required property 'text'",
            "invalid notes.add params: at /text: must be string",
            "invalid notes.add params: at root: unexpected property 'colour'",
            "The note is empty.",
            "invalid notes.add params: at root: must be object",
            "unknown method: notes.nothing",
            "unknown method: no.such.method",
            "No plugin `none` is installed.\nleanclaw plugin list shows what is there",
            "`..` is not a valid plugin id: use 1 to 64 of a-z, 0-9, `-`, `_`, starting with a letter or digit",
            "invalid plugins.inspect params: must have required property 'pluginId'; at root: unexpected property 'pluginID'",
        ]
    );
    program.stop().await;
}

#[tokio::test]
async fn what_happens_to_plugins_is_told_and_can_be_asked() {
    let place = Place::with_examples(&["notes"]).await;
    let program = place.start().await;
    let mut client = program.client().await;
    let mut watcher = Connect { scopes: &["operator.read"], ..Connect::default() }.to(program.address).await.unwrap();
    let before = client.ok("plugins.list", json!({"leanclaw": true})).await;
    assert_eq!(before["plugins"][0]["state"], "disabled");
    assert_eq!(before["plugins"][0]["leanclaw"]["state"], "needs-grant");
    let error = client.refused("notes.add", json!({"text": "x"})).await;
    let message = text(&error["message"]);
    assert!(message.starts_with("unknown method: notes.add\nThe plugin `notes` is needs-grant: "), "{message}");
    assert!(message.contains("leanclaw plugin grant notes --all"), "{message}");
    // One right of two: the plugin needs both to be linked.
    let partly = client.ok("plugins.grant", json!({"pluginId": "notes", "items": ["event:changed"]})).await;
    assert_eq!(partly["leanclaw"]["state"], "needs-grant", "{partly}");
    let wholly = client.ok("plugins.grant", json!({"pluginId": "notes", "all": true})).await;
    assert_eq!(wholly["leanclaw"]["state"], "ready", "{wholly}");
    assert_eq!(wholly["plugin"]["enabled"], true);
    loop {
        let states = watcher.event("plugins.changed").await;
        if states["plugins"]["notes"] == "ready" {
            break;
        }
    }
    client.ok("notes.add", json!({"text": "x"})).await;
    let revoked = client.ok("plugins.revoke", json!({"pluginId": "notes", "items": ["kv:4194304"]})).await;
    assert_eq!(revoked["leanclaw"]["state"], "needs-grant", "{revoked}");
    client.refused("notes.add", json!({"text": "x"})).await;
    let reloaded = client.ok("plugins.reload", json!({"pluginId": "notes"})).await;
    assert_eq!(reloaded["plugins"][0]["id"], "notes");
    let logs = client.ok("plugins.logs", json!({"pluginId": "notes"})).await;
    assert!(logs["lines"].is_array(), "{logs}");
    let kinds: Vec<Value> = place.run(&["audit", "tail", "--json"]).await.json().as_array().unwrap().clone();
    let kinds: Vec<&str> = kinds.iter().map(|row| text(&row["kind"])).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "plugin-granted").count(), 2, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "plugin-revoked").count(), 1, "{kinds:?}");
    program.stop().await;

    let program = place.start().await;
    let mut client = program.client().await;
    let kept = client.ok("plugins.inspect", json!({"pluginId": "notes"})).await["leanclaw"].clone();
    assert_eq!(kept["state"], "needs-grant", "{kept}");
    assert_eq!((&kept["granted"]["events"], kept["granted"].get("kv")), (&json!(["changed"]), None), "{kept}");
    fs::remove_dir_all(place.plugins().join("notes")).unwrap();
    let purged = client.ok("plugins.purge", json!({"pluginId": "notes"})).await;
    assert_eq!(purged["deleted"]["grants"], 1, "{purged}");
    assert!(purged["deleted"]["kvEntries"].as_u64() > Some(0), "the note: {purged}");
    program.stop().await;
    place.add_example("notes");
    let program = place.start().await;
    let mut client = program.client().await;
    let afresh = client.ok("plugins.inspect", json!({"pluginId": "notes"})).await["leanclaw"].clone();
    assert_eq!(afresh["granted"], Value::Null, "nothing is left of it: {afresh}");
    program.grant_all("notes").await;
    assert_eq!(client.ok("notes.list", json!({})).await["notes"], json!([]));
    program.stop().await;
}

#[tokio::test]
async fn tools_are_listed_and_called_over_both_doors() {
    let place = Place::with_examples(&["feed-reader"]).await;
    let program = place.start().await;
    program.grant_all("feed-reader").await;
    let mut client = program.client().await;
    let catalog = client.ok("tools.catalog", json!({})).await;
    let group = &catalog["groups"][0];
    assert_eq!((&group["id"], &group["tools"][0]["id"]), (&json!("plugin:feed-reader"), &json!("read_feed")));
    let bad = json!({"name": "read_feed", "args": {"url": "http://127.0.0.1:9/"}});
    let outcome = client.ok("tools.invoke", bad.clone()).await;
    assert_eq!((&outcome["ok"], &outcome["error"]["code"]), (&json!(false), &json!("denied")), "{outcome}");
    let outcome = client.ok("tools.invoke", json!({"name": "read_feed", "args": {}})).await;
    assert_eq!(outcome["error"]["code"], "invalid-input", "{outcome}");
    let outcome = client.ok("tools.invoke", json!({"name": "nothing", "args": {}})).await;
    assert_eq!(outcome["error"]["code"], "not-found", "{outcome}");
    let kind = [("content-type", "application/json")];
    let post =
        async |body: Value| request(program.address, "POST", "/tools/invoke", &kind, body.to_string().as_bytes()).await;
    let denied = post(json!({"tool": "read_feed", "args": {"url": "http://127.0.0.1:9/"}})).await;
    assert_eq!(denied.status, 403, "{denied:?}");
    assert_eq!(post(json!({"tool": "nothing", "args": {}})).await.status, 404);
    assert_eq!(post(json!(["not an object"])).await.status, 400);
    assert_eq!(program.get("/tools/invoke").await.status, 405);
    program.stop().await;
}

#[tokio::test]
async fn what_was_stored_survives_a_restart() {
    let (place, program) = with_notes().await;
    let note = program.client().await.ok("notes.add", json!({"text": "keep me"})).await;
    program.stop().await;
    let program = place.start().await;
    assert_eq!(program.plugin("notes").await["state"], "ready", "the grant was kept");
    let mut client = program.client().await;
    assert_eq!(client.ok("notes.list", json!({})).await["notes"], json!([note]));
    assert_eq!(client.ok("notes.add", json!({"text": "next"})).await["id"], 2);
    program.stop().await;
}

/// Answers come when they are ready, not in the order of the requests.
#[tokio::test]
async fn a_slow_call_holds_up_nobody() {
    let place = Place::empty();
    let server = crate::support::Held::start("7").await;
    held_fetch(&place, server.address, "1", &json!({}));
    let program = place.start().await;
    program.grant_all("held").await;
    let mut client = program.client().await;
    let slow = client.send("held.run", json!(format!("http://{}/", server.address))).await;
    server.arrived().await;
    client.ok("health", json!({})).await;
    server.let_go();
    assert_eq!(client.answer(&slow).await, Ok(json!(7)));
    program.stop().await;
}
