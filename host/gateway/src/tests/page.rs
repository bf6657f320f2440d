//! What the Control UI asks for when a page of it is opened.

use serde_json::{Value, json};

use super::{Client, Server, TOKEN, assert_invalid, connect_params, start, with_token};

async fn ok(client: &mut Client, method: &str, params: Value) -> Value {
    let response = client.call(method, params).await;
    assert_eq!(response["ok"], true, "{method}: {response}");
    response["payload"].clone()
}

#[tokio::test]
async fn a_chat_starts_with_what_was_said_and_what_can_be_chosen() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    ok(&mut admin, "sessions.patch", json!({"key": "main", "label": "Home"})).await;
    for number in 1..=3 {
        server.records.say("agent:main:main", "user", json!({"content": format!("line {number}")}), number);
    }
    let asked = json!({"sessionKey": "agent:main:main", "limit": 2, "maxBytes": 262_144});
    let startup = ok(&mut admin, "chat.startup", asked.clone()).await;
    let history = ok(&mut admin, "chat.history", asked).await;
    for (name, value) in history.as_object().unwrap() {
        assert_eq!(&startup[name], value, "{name}");
    }
    assert_eq!((startup["messages"].as_array().unwrap().len(), &startup["totalMessages"]), (2, &json!(3)));
    assert_eq!(startup["sessionInfo"]["label"], "Home");
    assert_eq!(startup["metadata"], ok(&mut admin, "chat.metadata", json!({"sessionKey": "main"})).await);
    assert_eq!(startup["metadata"]["models"], json!([]));
    // A page is opened before anything was said.
    let fresh = ok(&mut admin, "chat.startup", json!({"sessionKey": "agent:main:new"})).await;
    assert_eq!((&fresh["messages"], fresh.get("sessionId")), (&json!([]), None));
    assert_invalid(
        &admin.call("chat.startup", json!({})).await,
        "invalid chat.startup params: must have required property 'sessionKey'",
    );
    assert_eq!(admin.call("chat.metadata", json!({"sessionKey": "agent:a"})).await["ok"], false);
    let server = server.again(with_token()).await;
    let again = ok(&mut server.admin().await, "chat.startup", json!({"sessionKey": "main", "limit": 2})).await;
    assert_eq!((&again["messages"], &again["sessionInfo"]["label"]), (&startup["messages"], &json!("Home")));
}

#[tokio::test]
async fn a_transcript_is_one_branch_that_ends_with_its_newest_message() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    ok(&mut admin, "sessions.patch", json!({"key": "main"})).await;
    let asked = json!({"sessionKey": "main"});
    assert_eq!(ok(&mut admin, "sessions.branches.list", asked.clone()).await, json!({"branches": []}));
    server.records.say("agent:main:main", "user", json!({"content": "first"}), 1);
    server.records.say("agent:main:main", "assistant", json!({"content": [{"type": "text", "text": " last "}]}), 2);
    let one = json!([{
        "leafEntryId": "2", "headline": "last", "messageCount": 2, "updatedAt": "1970-01-01T00:00:00.002Z",
        "active": true,
    }]);
    assert_eq!(ok(&mut admin, "sessions.branches.list", asked.clone()).await["branches"], one);
    let server = server.again(with_token()).await;
    assert_eq!(ok(&mut server.admin().await, "sessions.branches.list", asked).await["branches"], one);
}

#[tokio::test]
async fn others_see_which_sessions_a_page_shows() {
    let server = start(with_token()).await;
    let mut page = server.admin().await;
    let mut other = server.admin().await;
    let seen = |presence: &Value| {
        let entries = presence.as_array().unwrap().iter();
        entries.filter_map(|entry| entry.get("watchedSessions").cloned()).collect::<Vec<_>>()
    };
    let set = ok(&mut page, "sessions.viewers.set", json!({"sessionKeys": ["main", "agent:main:main", "b"]})).await;
    assert_eq!(set, json!({"sessionKeys": ["agent:main:main", "agent:main:b"]}));
    let presence = ok(&mut other, "system-presence", json!({})).await;
    assert_eq!(seen(&presence), [json!(["agent:main:main", "agent:main:b"])]);
    ok(&mut page, "sessions.viewers.set", json!({"sessionKeys": []})).await;
    assert_eq!(seen(&ok(&mut other, "system-presence", json!({})).await), Vec::<Value>::new());
    ok(&mut page, "sessions.viewers.set", json!({"sessionKeys": ["main"]})).await;
    drop(page);
    loop {
        let event = other.event("presence").await;
        let gone = event["payload"]["presence"].as_array().unwrap().iter().any(|entry| entry["reason"] == "disconnect");
        if gone {
            assert_eq!(seen(&event["payload"]["presence"]), Vec::<Value>::new());
            break;
        }
    }
}

#[tokio::test]
async fn the_machine_is_described() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    let info = ok(&mut admin, "system.info", json!({})).await;
    assert_eq!((&info["platform"], &info["pid"]), (&json!(std::env::consts::OS), &json!(std::process::id())));
    assert!(info["cpuCount"].as_u64().unwrap() > 0, "{info}");
    #[cfg(target_os = "linux")]
    {
        assert!(info["memoryTotalBytes"].as_u64().unwrap() > info["memoryFreeBytes"].as_u64().unwrap(), "{info}");
        assert!(!info["hostname"].as_str().unwrap().is_empty() && info["loadAverage"][2].is_number(), "{info}");
    }
    let environments = ok(&mut admin, "environments.list", json!({"includeDesktopSetup": true})).await;
    assert_eq!(
        (&environments["environments"][0]["id"], &environments["environments"][1]),
        (&json!("gateway"), &Value::Null)
    );
    let mut nobody = server.connect(4, &[]).await;
    assert_eq!(nobody.call("environments.list", json!({})).await["error"]["details"]["missingScope"], "operator.read");
}

#[tokio::test]
async fn lists_are_asked_for_as_the_pages_ask() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    for key in ["main", "subagent:1"] {
        ok(&mut admin, "sessions.patch", json!({"key": key})).await;
    }
    let activity = json!({
        "archived": "all", "includeGlobal": true, "includeUnknown": true, "includePeople": true,
        "excludeSubagents": true, "includeActivitySummary": true, "includeDerivedTitles": true, "sortBy": "activity",
        "limit": 100, "activeMinutes": 10_080,
    });
    let page = ok(&mut admin, "sessions.list", activity).await;
    assert_eq!(
        (&page["count"], &page["totalCount"], &page["sessions"][0]["key"]),
        (&json!(1), &json!(1), &json!("agent:main:main"))
    );
    assert_eq!(ok(&mut admin, "sessions.list", json!({"hasBoard": true})).await["count"], 0);
    assert_eq!(ok(&mut admin, "sessions.list", json!({"activeOnly": true})).await["count"], 0);
    ok(&mut admin, "sessions.patch", json!({"key": "agent:gone:x"})).await;
    for (key, at_ms) in [("agent:main:subagent:1", 20), ("agent:main:main", 10)] {
        server.records.say(key, "user", json!({"content": "hi"}), at_ms);
    }
    let keys = async |admin: &mut Client, params: Value| {
        let page = ok(admin, "sessions.list", params).await;
        page["sessions"].as_array().unwrap().iter().map(|row| row["key"].clone()).collect::<Vec<_>>()
    };
    let own = ["agent:main:subagent:1", "agent:main:main"];
    let spoken = json!({"sortBy": "lastInteractionAt", "requireLastInteraction": true});
    assert_eq!(keys(&mut admin, spoken).await, own);
    let by = json!({"sortBy": "lastInteractionAt"});
    assert_eq!(keys(&mut admin, by).await, [own[0], own[1], "agent:gone:x"]);
    let configured = json!({"configuredAgentsOnly": true});
    assert_eq!(keys(&mut admin, configured.clone()).await.len(), 2, "no agent is called gone");
    assert_eq!(keys(&mut admin, json!({"configuredAgentsOnly": true, "agentId": "gone"})).await, Vec::<Value>::new());
    let by = crate::agents::By { actor: "test".into(), at_ms: 1, version: leanclaw_types::frame::ProtocolVersion::V4 };
    for name in ["Gone", "Desk"] {
        let wish = crate::agents::Wish { name: Some(name.into()), ..crate::agents::Wish::default() };
        server.gateway.state.agents.create(wish, &by).await.unwrap();
    }
    assert_eq!(keys(&mut admin, configured).await.len(), 3, "it is now, and one more has no session");
    assert_eq!(keys(&mut admin, json!({"configuredAgentsOnly": true, "agentId": "gone"})).await, ["agent:gone:x"]);
    assert_eq!(keys(&mut admin, json!({"involvingMe": true})).await, Vec::<Value>::new());
    assert_eq!(keys(&mut admin, json!({"involvingMe": false})).await.len(), 3);
    let cron = json!({
        "agentId": "main", "includeDisabled": true, "includeDeliveryPreviews": false, "compact": true, "limit": 50,
        "offset": 0, "enabled": "all", "sortBy": "nextRunAtMs", "sortDir": "asc",
    });
    let jobs = ok(&mut admin, "cron.list", cron).await;
    assert_eq!((&jobs["limit"], &jobs["snapshotRevision"]), (&json!(50), &json!("0")));
    let runs = json!({"agentId": "main", "scope": "all", "limit": 7, "offset": 3, "status": "all", "sortDir": "desc"});
    let runs = ok(&mut admin, "cron.runs", runs).await;
    assert_eq!((&runs["entries"], &runs["limit"], &runs["offset"]), (&json!([]), &json!(7), &json!(3)));
}

#[tokio::test]
async fn what_there_is_none_of_is_said_in_the_shape_that_pages_read() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    for (method, params, answer) in [
        ("question.list", json!({}), json!({"questions": []})),
        ("taskSuggestions.list", json!({"agentId": "main"}), json!({"suggestions": []})),
        ("openclaw.approval.list", json!({}), json!([])),
        ("chat.abort", json!({"sessionKey": "main"}), json!({"ok": true, "aborted": false, "runIds": []})),
        ("hooks.status", json!({"agentId": "main"}), json!({"workspaceDir": "", "managedHooksDir": "", "hooks": []})),
        ("users.list", json!({}), json!({"profiles": []})),
        ("users.prefs.get", json!({"keys": ["ui.theme"]}), json!({"status": "no_durable_identity"})),
        ("progressCard.get", json!({"sessionKey": "agent:main:main"}), json!({"card": null})),
        (
            "board.get",
            json!({"sessionKey": "agent:main:main", "agentId": "main"}),
            json!({"sessionKey": "agent:main:main", "revision": 0, "tabs": [], "widgets": []}),
        ),
    ] {
        assert_eq!(ok(&mut admin, method, params).await, answer, "{method}");
    }
    assert_invalid(
        &admin.call("board.get", json!({"agentId": ""})).await,
        "invalid board.get params: must have required property 'sessionKey'; \
         at /agentId: must not have fewer than 1 characters",
    );
    assert_invalid(
        &admin.call("question.list", json!({"all": true})).await,
        "invalid question.list params: at root: unexpected property 'all'",
    );
}

#[tokio::test]
async fn the_address_of_a_page_finds_its_session() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    let number = "agent:main:00000000-0000-4000-8000-000000000001";
    for (key, label) in [("agent:main:garden", "Roses"), (number, "Trip to Rome")] {
        ok(&mut admin, "sessions.patch", json!({"key": key, "label": label})).await;
    }
    let asked = |key: &str, slug: &str| {
        json!({
            "reference": {"key": key, "slug": slug}, "agentId": "main", "allowMissing": true, "includeGlobal": true,
            "includeUnknown": true,
        })
    };
    let found = ok(&mut admin, "sessions.resolve", asked("agent:main:garden", "garden")).await;
    assert_eq!(found, json!({"ok": true, "key": "agent:main:garden", "agentId": "main"}));
    let named = ok(&mut admin, "sessions.resolve", asked("agent:main:trip-to-rome", "trip-to-rome")).await;
    assert_eq!(named["key"], number);
    // A name counts only where the key says nothing.
    let other = ok(&mut admin, "sessions.resolve", asked("agent:main:roses", "roses")).await;
    assert_eq!(other, json!({"ok": false}));
    let missing = admin.call("sessions.resolve", json!({"reference": {"key": "agent:main:none"}})).await;
    assert_invalid(&missing, "No session found: agent:main:none");
}

#[tokio::test]
async fn groups_are_kept_and_take_their_sessions_along() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    let put = json!({"names": ["Work", "Home", "Work"], "sectionOrder": ["pinned", "Home"]});
    let made = ok(&mut writer, "sessions.groups.put", put).await;
    let groups = json!([{"name": "Work", "position": 0}, {"name": "Home", "position": 1}]);
    assert_eq!((&made["ok"], &made["groups"], made.get("updatedSessions")), (&json!(true), &groups, None));
    for (key, group) in [("a", "Work"), ("b", "Work"), ("c", "Home")] {
        ok(&mut writer, "sessions.patch", json!({"key": key, "category": group})).await;
    }
    let update = json!({"name": "Work", "cwd": "/work", "worktree": false});
    let defaults = json!([{"name": "Work", "cwd": "/work", "worktree": false}]);
    assert_eq!(ok(&mut writer, "sessions.groups.update", update).await, json!({"ok": true, "defaults": defaults}));
    let category = |page: &Value| {
        let rows = page["sessions"].as_array().unwrap().iter();
        let mut all: Vec<_> = rows.map(|row| (row["key"].to_string(), row["category"].to_string())).collect();
        all.sort();
        all.into_iter().map(|(_, category)| category).collect::<Vec<_>>()
    };
    let mut watcher = server.connect(4, &["operator.read"]).await;
    ok(&mut watcher, "sessions.subscribe", json!({})).await;
    let renamed = ok(&mut writer, "sessions.groups.rename", json!({"name": "Work", "to": "Garden"})).await;
    assert_eq!((&renamed["updatedSessions"], &renamed["groups"][0]["name"]), (&json!(2), &json!("Garden")));
    assert_eq!(watcher.event("sessions.changed").await["payload"]["session"]["category"], "Garden");

    let server = server.again(with_token()).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    let listed = ok(&mut writer, "sessions.groups.list", json!({})).await;
    assert_eq!((&listed["groups"][0]["name"], &listed["sectionOrder"]), (&json!("Garden"), &json!(["pinned", "Home"])));
    let defaults = ok(&mut writer, "sessions.groups.defaults", json!({})).await;
    assert_eq!(defaults["defaults"][0]["name"], "Garden");
    let page = ok(&mut writer, "sessions.list", json!({})).await;
    assert_eq!(category(&page), ["\"Garden\"", "\"Garden\"", "\"Home\""]);
    assert_eq!(ok(&mut writer, "sessions.groups.delete", json!({"name": "Garden"})).await["updatedSessions"], 2);
    let page = ok(&mut writer, "sessions.list", json!({})).await;
    assert_eq!(category(&page), ["null", "null", "\"Home\""]);
    let unknown = writer.call("sessions.groups.delete", json!({"name": "Garden"})).await;
    assert_invalid(&unknown, "unknown session group: \"Garden\"");
    let incomplete = writer.call("sessions.groups.update", json!({"name": "Home", "worktree": true})).await;
    assert_invalid(&incomplete, "invalid sessions.groups.update params: must have required property 'cwd'");
    let server = server.again(with_token()).await;
    let mut reader = server.connect(4, &["operator.read"]).await;
    let left = ok(&mut reader, "sessions.groups.list", json!({})).await["groups"].clone();
    assert_eq!((left.as_array().unwrap().len(), &left[0]["name"]), (1, &json!("Home")), "it stays away: {left}");
    assert_eq!(category(&ok(&mut reader, "sessions.list", json!({})).await), ["null", "null", "\"Home\""]);
}

#[tokio::test]
async fn what_is_kept_of_groups_is_bounded() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    let names = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    ok(&mut writer, "sessions.groups.put", json!({"names": names(200), "sectionOrder": names(500)})).await;
    // The same name again and again would be one group, and take long to find that out.
    for (method, params, why) in [
        ("put", json!({"names": vec!["a"; 201]}), "at /names: must not have more than 200 items"),
        ("put", json!({"names": ["a".repeat(513)]}), "at /names/0: must not have more than 512 characters"),
        (
            "put",
            json!({"names": [], "sectionOrder": names(501)}),
            "at /sectionOrder: must not have more than 500 items",
        ),
        (
            "update",
            json!({"name": "1", "cwd": "/".repeat(4097), "worktree": true}),
            "at /cwd: must not have more than 4096 characters",
        ),
    ] {
        let refused = writer.call(&format!("sessions.groups.{method}"), params).await;
        assert_invalid(&refused, &format!("invalid sessions.groups.{method} params: {why}"));
    }
}

/// What a client is told when it connects.
async fn snapshot(server: &Server, version: u64, scopes: &[&str]) -> Value {
    let mut client = server.open().await;
    let mut params = connect_params(version, version);
    params["auth"] = json!({"token": TOKEN});
    params["scopes"] = json!(scopes);
    client.call("connect", params).await["payload"]["snapshot"].clone()
}

#[tokio::test]
async fn shown_sessions_are_told_only_to_who_may_read_and_in_few_bytes() {
    let server = start(with_token()).await;
    let mut page = server.admin().await;
    let long: Vec<String> = (0..50).map(|number| format!("agent:main:{number:0>300}")).collect();
    let set = ok(&mut page, "sessions.viewers.set", json!({"sessionKeys": long})).await;
    let kept: Vec<&str> = set["sessionKeys"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!((kept.len(), kept[0]), (13, long[0].as_str()));
    let here = |snapshot: &Value| snapshot["presence"].to_string().contains("agent:main:");
    for (version, scopes, told) in
        [(4, &["operator.read"][..], true), (4, &[], false), (3, &["operator.read"], false), (3, &[], false)]
    {
        assert_eq!(here(&snapshot(&server, version, scopes).await), told, "{version} {scopes:?}");
    }
    let mut old = server.connect(3, &[]).await;
    let mut reader = server.connect(4, &["operator.read"]).await;
    let (told, event) = (reader.event("presence").await, old.event("presence").await);
    assert!(here(&told["payload"]) && !here(&event["payload"]), "{event}");
}

#[tokio::test]
async fn the_same_sessions_again_are_no_change() {
    let server = start(with_token()).await;
    let mut page = server.admin().await;
    let show = json!({"sessionKeys": ["main"]});
    ok(&mut page, "sessions.viewers.set", show.clone()).await;
    let before = server.gateway.state.presence.version();
    ok(&mut page, "sessions.viewers.set", show).await;
    assert_eq!(server.gateway.state.presence.version(), before);
    ok(&mut page, "sessions.viewers.set", json!({"sessionKeys": []})).await;
    assert_eq!(server.gateway.state.presence.version(), before + 1);
}
