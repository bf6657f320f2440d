//! What methods answer.

use serde_json::{Value, json};

use super::{assert_invalid, start, with_token};

#[tokio::test]
async fn health_is_the_snapshot_in_each_version() {
    let server = start(with_token()).await;
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let base = [
        "ok",
        "ts",
        "durationMs",
        "channels",
        "channelOrder",
        "channelLabels",
        "heartbeatSeconds",
        "defaultAgentId",
        "agents",
        "sessions",
    ];
    // No scope is needed.
    let mut old = server.connect(3, &[]).await;
    let health = old.call("health", json!({"whatever": 1})).await["payload"].clone();
    assert_eq!(keys(&health), base);
    let mut new = server.connect(4, &[]).await;
    let health = new.call("health", json!({})).await["payload"].clone();
    assert_eq!(keys(&health), base.iter().copied().chain(["plugins"]).collect::<Vec<_>>());
    assert_eq!(health["plugins"]["errors"][0]["error"], "it traps");
    // The cache stands still until a probe.
    server.clock.advance(5);
    let again = new.call("health", json!({"probe": false})).await["payload"].clone();
    assert_eq!(again["ts"], health["ts"]);
    let probed = new.call("health", json!({"probe": true})).await["payload"].clone();
    assert_eq!(probed["ts"].as_u64().unwrap(), health["ts"].as_u64().unwrap() + 5);
}

#[tokio::test]
async fn plugin_methods_get_their_params_untouched_and_answer_raw() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.write"]).await;
    client.send_text(r#"{"type":"req","id":"a\"b","method":"notes.echo","params":{"n":1.50e1,"s":"\u0041"}}"#).await;
    loop {
        if let Some(Ok(message)) = client.message().await
            && let Ok(text) = message.to_text()
            && text.contains("\"res\"")
        {
            assert_eq!(text, r#"{"type":"res","id":"a\"b","ok":true,"payload":{"n":1.50e1,"s":"\u0041"}}"#);
            break;
        }
    }
    let escaped = json!({"type": "req", "id": "e", "method": "notes.echo"}).to_string().replace("echo", "ec\\u0068o");
    client.send_text(escaped).await;
    assert_eq!(client.response(&json!("e")).await["payload"], json!({}));
    assert_eq!(client.call("notes.add", json!({})).await["payload"], json!({"id": 1}));
    let who = client.call("notes.who", json!({})).await["payload"].clone();
    assert_eq!(
        (who["kind"].as_str(), who["id"].as_str(), who["role"].as_str()),
        (Some("client"), Some("token"), Some("operator"))
    );
    assert_eq!(who["scopes"], json!(["operator.write"]));
}

#[tokio::test]
async fn a_plugin_method_needs_its_scope() {
    let server = start(with_token()).await;
    let mut reader = server.connect(4, &["operator.read"]).await;
    let response = reader.call("notes.add", json!({})).await;
    assert_eq!(response["error"]["details"]["missingScope"], "operator.write");
    assert_eq!(reader.call("notes.echo", json!({})).await["ok"], true);
    let rows = server.audit.all();
    let row = rows.iter().find(|row| row["kind"] == "scope-denied").unwrap();
    assert_eq!(
        (row["method"].as_str(), row["scope"].as_str(), row["actor"].as_str()),
        (Some("notes.add"), Some("operator.write"), Some("client:token"))
    );
}

#[tokio::test]
async fn a_failure_says_what_to_do() {
    let server = start(with_token()).await;
    for (protocol, code) in [(3, "INVALID_REQUEST"), (4, "FORBIDDEN")] {
        let mut client = server.connect(protocol, &["operator.read"]).await;
        assert_eq!(
            client.call("notes.fail", json!({})).await["error"],
            json!({"code": code, "message": "Not granted: kv.\nleanclaw plugin grant notes kv",
                "details": {"code": "denied", "hints": ["leanclaw plugin grant notes kv"]},
                "retryable": true, "retryAfterMs": 7})
        );
    }
}

#[tokio::test]
async fn plugins_list_has_the_known_keys_and_adds_ours_for_who_asks() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    let known = client.call("plugins.list", json!({})).await["payload"].clone();
    assert!(known["plugins"].as_array().unwrap().iter().all(|row| row.get("leanclaw").is_none()), "{known}");
    let list = client.call("plugins.list", json!({"leanclaw": true})).await["payload"].clone();
    let plugins = list["plugins"].as_array().unwrap();
    let states: Vec<&str> = plugins.iter().map(|plugin| plugin["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["enabled", "error", "disabled"]);
    assert_eq!(plugins[1]["error"], "it traps");
    assert_eq!((plugins[2]["installed"].as_bool(), plugins[2]["enabled"].as_bool()), (Some(true), Some(false)));
    assert_eq!(plugins[2]["leanclaw"]["state"], "needs-grant");
    assert_eq!(list["diagnostics"].as_array().unwrap().len(), 3);
    assert_eq!(list["mutationAllowed"], false);
    assert!(list["generation"].is_u64());
}

#[tokio::test]
async fn plugins_are_inspected_by_any_of_their_names() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    for params in
        [json!({"pluginId": "notes"}), json!({"plugin": "notes/default"}), json!({"id": "notes", "account": "default"})]
    {
        let payload = client.call("plugins.inspect", params.clone()).await["payload"].clone();
        assert_eq!(
            (payload["ok"].as_bool(), payload["leanclaw"]["id"].as_str()),
            (Some(true), Some("notes")),
            "{params}"
        );
        assert_eq!((&payload["declared"]["contracts"], &payload["reviewToken"]), (&json!(["method"]), &json!("none")));
        assert_eq!(payload["grants"]["hooks"]["allowPromptInjection"]["effective"], false);
    }
    let response = client.call("plugins.inspect", json!({"pluginId": "nope"})).await;
    assert_invalid(&response, "There is no plugin nope.\nleanclaw plugin list");
    assert_eq!(response["error"]["details"]["code"], "not-found");
    assert_eq!(
        client.call("plugins.inspect", json!({"pluginId": "../x"})).await["error"]["details"]["code"],
        "invalid-input"
    );
}

#[tokio::test]
async fn grants_need_admin_and_carry_the_caller() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    for method in ["plugins.grant", "plugins.revoke", "plugins.purge", "plugins.reload"] {
        let response = writer.call(method, json!({"pluginId": "notes"})).await;
        assert_eq!(response["error"]["code"], "FORBIDDEN", "{method}");
    }
    assert!(server.host.changes.lock().unwrap().is_empty());

    let mut admin = server.admin().await;
    let response = admin.call("plugins.grant", json!({"pluginId": "notes", "items": ["kv:5"]})).await;
    assert_eq!(response["payload"]["plugin"]["id"], "notes");
    admin.call("plugins.revoke", json!({"pluginId": "notes", "all": true})).await;
    let changes = server.host.changes.lock().unwrap().clone();
    assert_eq!(
        (changes[0].0.as_str(), changes[0].1.as_str(), changes[0].2.items.as_slice()),
        ("grant", "notes", &["kv:5".to_owned()][..])
    );
    assert_eq!((changes[1].0.as_str(), changes[1].2.all), ("revoke", true));
    assert_eq!(changes[0].3.id, "token");
    let kept = admin.call("plugins.revoke", json!({"pluginId": "gone", "all": true})).await["payload"].clone();
    assert_eq!((&kept["ok"], &kept["plugin"]["installed"]), (&json!(true), &json!(false)), "{kept}");
    assert!(kept["leanclaw"].is_null(), "{kept}");
    let purged = admin.call("plugins.purge", json!({"pluginId": "gone"})).await["payload"].clone();
    assert_eq!(purged["deleted"], json!({"grants": 1, "secrets": 2, "messages": 3, "kvEntries": 4}));
    assert_eq!(purged["plugin"], json!({"id": "gone", "installed": false, "enabled": false}));
    assert_eq!(server.host.changes.lock().unwrap().last().unwrap().0, "purge");
    let installed = admin.call("plugins.purge", json!({"pluginId": "notes"})).await;
    assert_eq!(installed["error"]["details"]["code"], "conflict");
    let reloaded = admin.call("plugins.reload", json!({"pluginId": "broken"})).await["payload"].clone();
    assert_eq!(reloaded["plugins"].as_array().unwrap().len(), 1);
    assert_eq!(admin.call("plugins.reload", json!({})).await["payload"]["plugins"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn logs_can_be_followed() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    let first = client.call("plugins.logs", json!({"pluginId": "notes", "limit": 2})).await["payload"].clone();
    assert_eq!((first["lines"][0]["seq"].as_u64(), first["lastSeq"].as_u64()), (Some(4), Some(5)));
    let rest = client.call("plugins.logs", json!({"pluginId": "notes", "afterSeq": 5})).await["payload"].clone();
    assert_eq!((rest["lines"].as_array().unwrap().len(), rest["lastSeq"].as_u64()), (0, Some(5)));
    assert_eq!(client.call("plugins.logs", json!({"pluginId": "nope"})).await["ok"], false);
}

#[tokio::test]
async fn the_tool_catalog_has_a_group_per_plugin() {
    let server = start(with_token()).await;
    let mut old = server.connect(3, &["operator.read"]).await;
    let catalog = old.call("tools.catalog", json!({})).await["payload"].clone();
    assert_eq!(catalog["agentId"], "main");
    assert_eq!(catalog["profiles"].as_array().unwrap().len(), 4);
    assert_eq!(
        catalog["groups"][0]["tools"][0],
        json!({"id": "convert", "label": "convert", "description": "Converts.", "source": "plugin", "pluginId": "units", "defaultProfiles": []})
    );
    let mut new = server.connect(4, &["operator.read"]).await;
    let catalog = new.call("tools.catalog", json!({"agentId": "main"})).await["payload"].clone();
    assert_eq!(catalog["groups"][0]["tools"].as_array().unwrap().len(), 2);
    assert_eq!(catalog["groups"][0]["tools"][0]["risk"], "low");
    assert_eq!(new.call("tools.catalog", json!({"includePlugins": false})).await["payload"]["groups"], json!([]));
    assert_invalid(&new.call("tools.catalog", json!({"agentId": "x"})).await, "unknown agent id \"x\"");
}

#[tokio::test]
async fn tools_are_invoked_in_both_spellings() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.write"]).await;
    let params = json!({"name": "convert", "args": {"a": 1}, "sessionKey": "agent:main:main", "idempotencyKey": "k"});
    let payload = client.call("tools.invoke", params).await["payload"].clone();
    assert_eq!(
        (payload["ok"].as_bool(), payload["toolName"].as_str(), payload["source"].as_str()),
        (Some(true), Some("convert"), Some("plugin"))
    );
    assert_eq!(payload["output"]["content"][0], json!({"type": "text", "text": "1 m = 100 cm"}));
    assert_eq!(payload["output"]["content"][1], json!({"type": "image", "mimeType": "image/png", "data": "AQID"}));
    assert_eq!(payload["output"]["details"], json!({"input": {"a": 1}, "sessionKey": "agent:main:main"}));

    let payload =
        client.call("tools.invoke", json!({"toolName": "convert", "params": {"fail": true}})).await["payload"].clone();
    assert_eq!(payload["ok"], false);
    assert_eq!(payload["error"], json!({"code": "tool_error", "message": "no such unit"}));
    let payload = client.call("tools.invoke", json!({"name": "nope"})).await["payload"].clone();
    assert_eq!((payload["ok"].as_bool(), payload["error"]["code"].as_str()), (Some(false), Some("not-found")));
    assert_invalid(
        &client.call("tools.invoke", json!({})).await,
        "invalid tools.invoke params: must have required property 'name'",
    );
    let mut reader = server.connect(4, &["operator.read"]).await;
    assert_eq!(
        reader.call("tools.invoke", json!({"name": "convert"})).await["error"]["details"]["missingScope"],
        "operator.write"
    );
}

#[tokio::test]
async fn send_goes_through_a_channel_and_says_what_became_of_it() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.write"]).await;
    let sent = client.call("send", json!({"to": "ada", "message": "hi", "idempotencyKey": "k1"})).await;
    assert_eq!(sent["payload"], json!({"runId": "k1", "messageId": "sent-to-ada", "channel": "hook"}));
    let busy = json!({"to": "busy", "message": "hi", "channel": "hook", "idempotencyKey": "k2"});
    let busy = client.call("send", busy).await;
    assert_eq!((&busy["error"]["code"], &busy["error"]["retryAfterMs"]), (&json!("UNAVAILABLE"), &json!(700)));
    let original = client.call("send", json!({"chatJid": "ada", "text": "hi"})).await;
    assert_eq!(original["payload"]["messageId"], "sent-to-ada", "as the original LeanClaw spells it: {original}");
    assert!(!original["payload"]["runId"].as_str().unwrap().is_empty());
    assert_invalid(
        &client.call("send", json!({"to": "ada", "message": "hi"})).await,
        "invalid send params: must have required property 'idempotencyKey'",
    );
    let signed = client.call("send", json!({"chatJid": "ada", "text": "hi", "sender": "s", "senderName": "S"})).await;
    assert_eq!(signed["ok"], true, "{signed}");
    let unknown =
        client.call("send", json!({"to": "a", "message": "hi", "channel": "whatsapp", "idempotencyKey": "k3"})).await;
    assert_invalid(&unknown, "unsupported channel: whatsapp; ready are: hook");
    // What OpenClaw's schemas name besides.
    let all = json!({
        "to": "ada", "message": "hi", "agentId": "main", "silent": true, "gifPlayback": true, "asVoice": false,
        "forceDocument": false, "filename": "a", "contentType": "b", "mediaUrl": "", "mediaUrls": [],
        "idempotencyKey": "k5",
    });
    for version in [3, 4] {
        let mut client = server.connect(version, &["operator.write"]).await;
        assert_eq!(client.call("send", all.clone()).await["ok"], true);
        for (name, value) in [
            ("mediaUrl", json!("https://x/a.png")),
            ("mediaUrls", json!(["https://x/a.png"])),
            ("buffer", json!("AA==")),
            ("parseMode", json!("HTML")),
        ] {
            let mut more = all.clone();
            more[name] = value;
            let refused = client.call("send", more).await;
            assert_invalid(&refused, &format!("`{name}` cannot be sent: a message is text only"));
        }
    }
    let mut reader = server.connect(4, &["operator.read"]).await;
    let denied = reader.call("send", json!({"to": "a", "idempotencyKey": "k4"})).await;
    assert_eq!(denied["error"]["code"], "FORBIDDEN");
}

#[tokio::test]
async fn what_could_not_be_taken_is_a_diagnostic() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    let mut admin = server.connect(4, &["operator.admin"]).await;
    for answer in [client.call("plugins.list", json!({})).await, admin.call("plugins.reload", json!({})).await] {
        let diagnostics = answer["payload"]["diagnostics"].as_array().unwrap();
        let refused = json!({
            "level": "error", "message": "/plugins/broken: it holds no manifest",
            "source": "/plugins/broken", "reason": "it holds no manifest",
        });
        assert!(diagnostics.contains(&refused), "{diagnostics:?}");
    }
}
