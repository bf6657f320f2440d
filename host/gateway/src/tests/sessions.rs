//! Sessions: made, changed, looked into and gone, seen from other connections and after a restart.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use leanclaw_types::frame::ProtocolVersion;
use serde_json::{Value, json};

use super::fake::MemoryRecords;
use super::{Client, Server, assert_invalid, start, start_on, with_token};
use crate::sessions::Look;

const READ: &[&str] = &["operator.read"];
const WRITE: &[&str] = &["operator.write"];
const ADMIN: &[&str] = &["operator.admin"];

async fn ok(client: &mut Client, method: &str, params: Value) -> Value {
    let response = client.call(method, params).await;
    assert_eq!(response["ok"], true, "{method}: {response}");
    response["payload"].clone()
}

fn keys(page: &Value) -> Vec<&str> {
    page["sessions"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect()
}

/// What the same client would see after the gateway was started again.
async fn restarted(server: Server) -> Server {
    server.again(with_token()).await
}

#[tokio::test]
async fn what_lists_keep_of_a_session_goes_with_it() {
    let server = start(with_token()).await;
    let mut admin = server.connect(4, ADMIN).await;
    for key in ["a", "b"] {
        ok(&mut admin, "sessions.patch", json!({"key": key, "label": format!("label of {key}")})).await;
    }
    let marks = ["agent:main:a", "agent:main:b"].map(|key| server.records.mark(key));
    let look = Look { version: ProtocolVersion::V4, title: false, last: false };
    let kept = || server.gateway.state.rows.recall(&marks, |_| look).iter().map(Option::is_some).collect::<Vec<_>>();
    ok(&mut admin, "sessions.list", json!({})).await;
    assert_eq!(kept(), [true, true]);
    ok(&mut admin, "sessions.delete", json!({"key": "a"})).await;
    assert_eq!(kept(), [false, true]);
}

#[tokio::test]
async fn a_patch_makes_a_session_that_others_see_also_after_a_restart() {
    let server = start(with_token()).await;
    let mut admin = server.connect(3, ADMIN).await;
    let patch = json!({"key": "agent:main:cap", "label": "Cap", "thinkingLevel": "LOW", "model": "fake/echo"});
    let made = ok(&mut admin, "sessions.patch", patch).await;
    assert_eq!((&made["ok"], &made["key"]), (&json!(true), &json!("agent:main:cap")));
    assert_eq!(made["entry"]["thinkingLevel"], "low");
    assert_eq!(made["resolved"], json!({"modelProvider": "fake", "model": "echo"}));
    assert!(made["path"].is_string() && made["entry"]["sessionId"].as_str().unwrap().len() == 36);
    assert_eq!(made["entry"].get("lifecycleRevision"), None, "version 3 knows no such thing");

    let server = restarted(server).await;
    let mut reader = server.connect(3, READ).await;
    let page = ok(&mut reader, "sessions.list", json!({})).await;
    let row = &page["sessions"][0];
    assert_eq!((&row["label"], &row["sessionId"]), (&json!("Cap"), &made["entry"]["sessionId"]));
    assert_eq!((&row["kind"], &row["model"]), (&json!("direct"), &json!("echo")));
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&page), ["ts", "path", "count", "defaults", "sessions"]);
    for field in ["key", "kind", "updatedAt", "sessionId", "totalTokensFresh", "systemSent", "abortedLastRun"] {
        assert!(row.get(field).is_some(), "{field}: {row}");
    }
    assert_eq!(ok(&mut reader, "sessions.resolve", json!({"label": "Cap"})).await["key"], "agent:main:cap");

    let mut admin = server.connect(4, ADMIN).await;
    let cleared = json!({"sessionKey": "cap", "label": null, "model": null, "verboseLevel": "full"});
    let entry = ok(&mut admin, "sessions.patch", cleared).await["entry"].clone();
    assert_eq!((entry.get("label"), entry.get("model")), (None, None));
    assert_eq!((&entry["verboseLevel"], &entry["thinkingLevel"]), (&json!("full"), &json!("low")));
    assert!(entry["lifecycleRevision"].is_string() && entry["createdAt"].is_u64());
    assert_invalid(&reader.call("sessions.resolve", json!({"label": "Cap"})).await, "No session found: Cap");
}

#[tokio::test]
async fn what_cannot_be_set_changes_nothing() {
    let server = start(with_token()).await;
    let mut admin = server.connect(3, ADMIN).await;
    for (patch, message) in [
        (
            json!({"key": "x", "thinkingLevel": "bogus"}),
            "invalid thinkingLevel (use off|minimal|low|medium|high|adaptive)",
        ),
        (json!({"key": "x", "execAsk": "never"}), "invalid execAsk (use \"off\"|\"on-miss\"|\"always\")"),
        (
            json!({"key": "x", "spawnedBy": "agent:main:main"}),
            "spawnedBy is only supported for subagent:* and acp:* sessions",
        ),
        (json!({"key": "x", "label": "y".repeat(65)}), "invalid label: too long (max 64)"),
        (json!({"key": "a\0b"}), "invalid session key: it holds a control character"),
        (json!({"thinkingLevel": "low"}), "invalid sessions.patch params: must have required property 'key'"),
    ] {
        assert_invalid(&admin.call("sessions.patch", patch).await, message);
    }
    let unknown = admin.call("sessions.patch", json!({"key": "x", "nope": 1})).await;
    assert_invalid(&unknown, "invalid sessions.patch params: at root: unexpected property 'nope'");
    assert_eq!(ok(&mut admin, "sessions.list", json!({})).await["count"], 0);

    ok(&mut admin, "sessions.patch", json!({"key": "a", "label": "mine"})).await;
    let taken = admin.call("sessions.patch", json!({"key": "b", "label": "mine"})).await;
    assert_invalid(&taken, "label already in use: mine");
    let child = json!({"key": "subagent:1", "spawnedBy": "agent:main:main"});
    ok(&mut admin, "sessions.patch", child).await;
    let other = json!({"key": "subagent:1", "spawnedBy": "agent:main:other"});
    assert_invalid(&admin.call("sessions.patch", other).await, "spawnedBy cannot be changed once set");
    server.records.broken.store(true, Ordering::SeqCst);
    let error = admin.call("sessions.patch", json!({"key": "a", "label": "b"})).await;
    assert_eq!(error["error"]["code"], "UNAVAILABLE", "{error}");
    assert_eq!(ok(&mut admin, "sessions.resolve", json!({"label": "mine"})).await["key"], "agent:main:a");
}

#[tokio::test]
async fn in_version_4_looks_need_less_than_rights() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, WRITE).await;
    ok(&mut writer, "sessions.patch", json!({"key": "a", "label": "A", "pinned": true, "permissionMode": "guarded"}))
        .await;
    for more in [json!({"key": "a", "execHost": "gateway"}), json!({"key": "a", "permissionMode": "full"})] {
        let denied = writer.call("sessions.patch", more).await;
        assert_eq!(denied["error"]["details"]["missingScope"], "operator.admin", "{denied}");
    }
    let mut old = server.connect(3, WRITE).await;
    assert_invalid(
        &old.call("sessions.patch", json!({"key": "a", "label": "B"})).await,
        "missing scope: operator.admin",
    );
    let denied = writer.call("sessions.delete", json!({"key": "a"})).await;
    assert_eq!(denied["error"]["code"], "FORBIDDEN");
    assert!(
        writer.call("sessions.delete", json!({"key": "a", "archivedOnly": true})).await["error"]["message"]
            .as_str()
            .unwrap()
            .contains("not archived")
    );
    ok(&mut writer, "sessions.patch", json!({"key": "a", "archived": true})).await;
    assert_eq!(ok(&mut writer, "sessions.list", json!({})).await["totalCount"], 0);
    assert_eq!(keys(&ok(&mut writer, "sessions.list", json!({"archived": "all"})).await), ["agent:main:a"]);
    assert_eq!(ok(&mut writer, "sessions.delete", json!({"key": "a", "archivedOnly": true})).await["deleted"], true);
    let mut reader = server.connect(4, READ).await;
    let denied = reader.call("sessions.create", json!({})).await;
    assert_eq!(denied["error"]["details"]["missingScope"], "operator.write");
}

#[tokio::test]
async fn lists_are_filtered_and_come_in_pages() {
    let server = start(with_token()).await;
    let mut admin = server.connect(4, ADMIN).await;
    for key in ["one", "agent:ada:two", "whatsapp:group:three", "global"] {
        server.clock.advance(60_000);
        ok(&mut admin, "sessions.patch", json!({"key": key, "color": "red"})).await;
    }
    let all = ["agent:main:whatsapp:group:three", "agent:ada:two", "agent:main:one"];
    let page = ok(&mut admin, "sessions.list", json!({"limit": 2})).await;
    assert_eq!(keys(&page), all[..2]);
    let told =
        ["count", "totalCount", "limitApplied", "nextOffset", "hasMore", "owners"].map(|name| page[name].clone());
    assert_eq!(told, [json!(2), json!(3), json!(2), json!(2), json!(true), json!([])]);
    assert_eq!(page["sessions"][0]["kind"], "group");
    let rest = ok(&mut admin, "sessions.list", json!({"limit": 2, "offset": 2})).await;
    assert_eq!((keys(&rest), &rest["nextOffset"], &rest["hasMore"]), (vec![all[2]], &Value::Null, &json!(false)));
    for (filter, expected) in [
        (json!({"agentId": "ada"}), vec!["agent:ada:two"]),
        (json!({"includeGlobal": true, "limit": 1}), vec!["global"]),
        (json!({"search": "THREE"}), vec![all[0]]),
        (json!({"activeMinutes": 1}), vec![all[0]]),
        (json!({"label": "none"}), vec![]),
        (json!({"ownerId": "somebody"}), vec![]),
    ] {
        assert_eq!(keys(&ok(&mut admin, "sessions.list", filter.clone()).await), expected, "{filter}");
    }
    assert_invalid(
        &admin.call("sessions.list", json!({"limit": 0})).await,
        "invalid sessions.list params: at /limit: must be >= 1",
    );
    let bad = admin.call("sessions.list", json!({"archived": 1})).await;
    assert_invalid(&bad, "invalid sessions.list params: at /archived: must be equal to one of the allowed values");
    let null = admin.call("sessions.list", json!({"label": null})).await;
    assert_invalid(&null, "invalid sessions.list params: at /label: must be string");
    let server = restarted(server).await;
    let again = ok(&mut server.connect(4, READ).await, "sessions.list", json!({"limit": 2, "offset": 1})).await;
    assert_eq!(keys(&again), all[1..], "also after a restart");
}

#[tokio::test]
async fn version_3_resets_to_another_session_and_version_4_to_another_life() {
    let server = start(with_token()).await;
    let mut new = server.connect(4, ADMIN).await;
    let first = ok(&mut new, "sessions.patch", json!({"key": "cap", "label": "Cap"})).await["entry"].clone();
    let key = "agent:main:cap";
    server.records.say(key, "user", json!({"content": "before"}), 1);
    let second = ok(&mut new, "sessions.reset", json!({"key": "cap"})).await;
    assert_eq!(second["entry"]["sessionId"], first["sessionId"]);
    assert_ne!(second["entry"]["lifecycleRevision"], first["lifecycleRevision"]);
    assert_eq!((&second["entry"]["label"], &second["resolved"]), (&json!("Cap"), &json!({})));
    let mut old = server.connect(3, ADMIN).await;
    assert_eq!(ok(&mut old, "chat.history", json!({"sessionKey": key})).await["messages"], json!([]));
    let third = ok(&mut old, "sessions.reset", json!({"key": key, "reason": "new"})).await;
    assert_ne!(third["entry"]["sessionId"], first["sessionId"]);
    assert_eq!((third["entry"]["totalTokensFresh"].as_bool(), third.get("resolved")), (Some(true), None));
    let server = restarted(server).await;
    let mut reader = server.connect(4, READ).await;
    let described = ok(&mut reader, "sessions.describe", json!({"key": key})).await;
    assert_eq!(described["session"]["sessionId"], third["entry"]["sessionId"]);
    assert_eq!(ok(&mut reader, "sessions.describe", json!({"key": "none"})).await, json!({"session": null}));
}

#[tokio::test]
async fn a_session_goes_but_the_main_one_stays() {
    let server = start(with_token()).await;
    let mut admin = server.connect(4, ADMIN).await;
    ok(&mut admin, "sessions.patch", json!({"key": "cap", "label": "Cap"})).await;
    let wrong = json!({"key": "cap", "expectedSessionId": "another"});
    assert!(admin.call("sessions.delete", wrong).await["error"]["message"].as_str().unwrap().contains("changed"));
    let gone = ok(&mut admin, "sessions.delete", json!({"key": "cap"})).await;
    assert_eq!(gone, json!({"ok": true, "key": "agent:main:cap", "deleted": true, "archived": []}));
    let server = restarted(server).await;
    let mut admin = server.connect(3, ADMIN).await;
    assert_eq!(ok(&mut admin, "sessions.delete", json!({"key": "agent:main:cap"})).await["deleted"], false);
    assert_invalid(
        &admin.call("sessions.resolve", json!({"key": "agent:main:cap"})).await,
        "No session found: agent:main:cap",
    );
    for main in ["main", "agent:main:main"] {
        let refused = admin.call("sessions.delete", json!({"key": main})).await;
        assert_invalid(&refused, "Cannot delete the main session (agent:main:main).");
    }
}

#[tokio::test]
async fn the_alias_main_resolves_as_each_version_has_it() {
    let server = start(with_token()).await;
    let mut old = server.connect(3, READ).await;
    assert_invalid(&old.call("sessions.resolve", json!({"key": "main"})).await, "No session found: main");
    let mut new = server.connect(4, READ).await;
    let main = ok(&mut new, "sessions.resolve", json!({"key": "main"})).await;
    assert_eq!(main, json!({"ok": true, "key": "agent:main:main", "agentId": "main"}));
    let missing = ok(&mut new, "sessions.resolve", json!({"key": "none", "allowMissing": true})).await;
    assert_eq!(missing, json!({"ok": false}));
    assert_eq!(new.call("sessions.resolve", json!({})).await["ok"], false);
    let mut admin = server.connect(3, ADMIN).await;
    let id = ok(&mut admin, "sessions.patch", json!({"key": "main"})).await["entry"]["sessionId"].clone();
    assert_eq!(
        ok(&mut old, "sessions.resolve", json!({"key": "main"})).await,
        json!({"ok": true, "key": "agent:main:main"})
    );
    assert_eq!(ok(&mut old, "sessions.resolve", json!({"sessionId": id})).await["key"], "agent:main:main");
    let short = id.as_str().unwrap()[..8].to_owned();
    assert_eq!(ok(&mut new, "sessions.resolve", json!({"shortId": short})).await["key"], "agent:main:main");
}

#[tokio::test]
async fn creating_twice_with_one_idempotency_key_makes_one_session() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, WRITE).await;
    let params = json!({"idempotencyKey": "k", "agentId": "ada", "label": "Mine", "thinkingLevel": "high"});
    let made = ok(&mut writer, "sessions.create", params.clone()).await;
    assert!(made["key"].as_str().unwrap().starts_with("agent:ada:dashboard:"));
    assert_eq!((&made["entry"]["label"], &made["runStarted"]), (&json!("Mine"), &json!(false)));
    let server = restarted(server).await;
    let mut writer = server.connect(4, WRITE).await;
    let again = ok(&mut writer, "sessions.create", params).await;
    assert_eq!((&again["key"], &again["sessionId"]), (&made["key"], &made["sessionId"]));
    let other = ok(&mut writer, "sessions.create", json!({"message": "hello"})).await;
    assert_ne!(other["key"], made["key"]);
    assert_eq!((&other["runStarted"], other.get("runError")), (&json!(true), None), "{other}");
    assert_eq!(ok(&mut writer, "sessions.list", json!({})).await["totalCount"], 2);
    let refused = writer.call("sessions.create", json!({"worktree": true})).await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("`worktree`"), "{refused}");
}

#[tokio::test]
async fn changes_reach_those_who_asked() {
    let server = start(with_token()).await;
    let mut all = server.connect(4, READ).await;
    let mut one = server.connect(4, READ).await;
    let mut none = server.connect(4, READ).await;
    assert_eq!(ok(&mut all, "sessions.subscribe", json!({})).await, json!({"subscribed": true}));
    let followed = ok(&mut one, "sessions.messages.subscribe", json!({"key": "b", "includeApprovals": true})).await;
    assert_eq!((&followed["key"], &followed["approvalReplay"]["approvals"]), (&json!("agent:main:b"), &json!([])));
    let listed = ok(&mut none, "sessions.subscribe", json!({"limit": 5})).await;
    assert_eq!((&listed["subscribed"], &listed["list"]["count"]), (&json!(true), &json!(0)));
    ok(&mut none, "sessions.unsubscribe", json!({})).await;

    let mut admin = server.connect(4, ADMIN).await;
    for (method, key) in
        [("sessions.patch", "a"), ("sessions.patch", "b"), ("sessions.reset", "b"), ("sessions.delete", "b")]
    {
        ok(&mut admin, method, json!({"key": key})).await;
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        let event = all.event("sessions.changed").await["payload"].clone();
        assert_eq!(event.get("session").is_some(), event["reason"] != "delete", "{event}");
        seen.push((event["sessionKey"].as_str().unwrap().to_owned(), event["reason"].as_str().unwrap().to_owned()));
    }
    let expected = [("a", "patch"), ("b", "patch"), ("b", "reset"), ("b", "delete")];
    assert_eq!(seen, expected.map(|(key, reason)| (format!("agent:main:{key}"), reason.to_owned())));
    let first = one.event("sessions.changed").await;
    assert_eq!((&first["payload"]["sessionKey"], &first["seq"]), (&json!("agent:main:b"), &json!(1)));
    assert_eq!(ok(&mut one, "sessions.messages.unsubscribe", json!({"key": "b"})).await["subscribed"], false);
    // Whoever did not ask, or asked no longer, hears the next event of all as its first.
    server.host.emit("plugins.changed", json!({"id": "notes"}));
    assert_eq!(none.next().await["event"], "plugins.changed");
}

#[tokio::test]
async fn history_is_what_was_said_within_its_caps() {
    let server = start(with_token()).await;
    let mut admin = server.connect(4, ADMIN).await;
    let mut old = server.connect(3, READ).await;
    let empty = ok(&mut old, "chat.history", json!({"sessionKey": "main"})).await;
    assert_eq!(empty, json!({"sessionKey": "main", "messages": [], "thinkingLevel": "off"}));
    let made = ok(&mut admin, "sessions.patch", json!({"key": "main", "thinkingLevel": "low"})).await;
    let key = "agent:main:main";
    for (number, role) in ["user", "assistant", "user"].into_iter().enumerate() {
        let text = if number == 1 { "x".repeat(20_000) } else { format!("message {number}") };
        server.records.say(key, role, json!({"content": [{"type": "text", "text": text}]}), number as u64);
    }
    let said = ok(&mut old, "chat.history", json!({"chatJid": "main", "limit": 2})).await;
    assert_eq!((&said["sessionId"], &said["thinkingLevel"]), (&made["entry"]["sessionId"], &json!("low")));
    let texts: Vec<&str> =
        said["messages"].as_array().unwrap().iter().map(|m| m["content"][0]["text"].as_str().unwrap()).collect();
    assert!(texts[0].starts_with("xxx") && texts[0].len() < 12_100, "{}", texts[0].len());
    assert_eq!((texts[1], said["messages"][1].get("__openclaw")), ("message 2", None));
    assert_invalid(
        &old.call("chat.history", json!({"limit": 0})).await,
        "invalid chat.history params: must have required property 'sessionKey'; at /limit: must be >= 1",
    );

    let page = ok(&mut admin, "chat.history", json!({"sessionKey": "main", "limit": 2})).await;
    let told = ["totalMessages", "hasMore", "nextOffset", "pendingInputs"].map(|name| page[name].clone());
    assert_eq!(told, [json!(3), json!(true), json!(2), json!({"items": [], "total": 0})]);
    assert_eq!((&page["messages"][1]["__openclaw"]["seq"], &page["sessionInfo"]["key"]), (&json!(3), &json!(key)));
    let rest = ok(&mut admin, "chat.history", json!({"sessionKey": "main", "offset": 2})).await;
    assert_eq!((&rest["messages"][0]["content"][0]["text"], &rest["hasMore"]), (&json!("message 0"), &json!(false)));

    server.records.say(key, "assistant", json!({"content": "news"}), 9);
    let cursor = json!({"sessionKey": "main", "cursor": page["deltaCursor"]});
    let delta = ok(&mut admin, "chat.history", cursor.clone()).await;
    assert_eq!((&delta["kind"], &delta["messages"][0]["message"]["content"]), (&json!("delta"), &json!("news")));
    let next = ok(&mut admin, "chat.history", json!({"sessionKey": "main", "cursor": delta["deltaCursor"]})).await;
    assert_eq!(next["messages"], json!([]));
    ok(&mut admin, "sessions.reset", json!({"key": "main"})).await;
    assert_eq!(ok(&mut admin, "chat.history", cursor).await, json!({"kind": "reset"}));
    assert_eq!(ok(&mut old, "sessions.get", json!({"key": "main"})).await, json!({"messages": []}));
    let anew = json!([{"type": "text", "text": "anew"}]);
    server.records.say(key, "user", json!({"content": anew}), 10);
    let server = restarted(server).await;
    let mut old = server.connect(3, READ).await;
    for (method, name) in [("sessions.get", "key"), ("chat.history", "sessionKey")] {
        let kept = ok(&mut old, method, json!({name: "main"})).await["messages"].clone();
        assert_eq!((kept.as_array().unwrap().len(), &kept[0]["content"]), (1, &anew), "{method}: {kept}");
    }
}

#[tokio::test]
async fn previews_and_titles_come_from_the_transcript() {
    let server = start(with_token()).await;
    let mut admin = server.connect(4, ADMIN).await;
    for key in ["a", "b"] {
        ok(&mut admin, "sessions.patch", json!({"key": key})).await;
    }
    server.records.say("agent:main:a", "user", json!({"content": "What is\n the weather?"}), 1);
    server.records.say("agent:main:a", "assistant", json!({"content": [{"type": "text", "text": "Rain."}]}), 2);
    let params = json!({"keys": ["a", "b", "agent:main:none", "x\0"], "maxChars": 20});
    let previews = ok(&mut admin, "sessions.preview", params).await["previews"].clone();
    let statuses: Vec<_> = previews.as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["ok", "empty", "missing", "error"]);
    assert_eq!(previews[0]["key"], "a");
    assert_eq!(previews[0]["items"][1], json!({"role": "assistant", "text": "Rain."}));
    for name in ["chatJid", "sessionKey"] {
        let one = ok(&mut admin, "sessions.preview", json!({name: "a", "limit": 1})).await["previews"].clone();
        assert_eq!((&one[0]["items"][0]["text"], &one[1]), (&json!("Rain."), &Value::Null), "{one}");
    }
    let both = admin.call("sessions.preview", json!({"keys": ["a"], "chatJid": "b"})).await;
    assert_invalid(&both, "invalid sessions.preview params: at root: unexpected property 'chatJid'");
    let params = json!({"search": "main:a", "includeDerivedTitles": true, "includeLastMessage": true});
    let row = ok(&mut admin, "sessions.list", params).await["sessions"][0].clone();
    assert_eq!((&row["derivedTitle"], &row["lastMessagePreview"]), (&json!("What is the weather?"), &json!("Rain.")));
    let server = restarted(server).await;
    let params = json!({"keys": ["a", "b"], "maxChars": 20});
    let again = ok(&mut server.connect(4, READ).await, "sessions.preview", params).await;
    assert_eq!((&again["previews"][0], &again["previews"][1]["status"]), (&previews[0], &json!("empty")), "{again}");
}

#[tokio::test]
async fn the_health_tells_how_many_sessions_there_are() {
    let records = Arc::new(MemoryRecords::default());
    let server = start_on(with_token(), records).await;
    let mut admin = server.connect(4, ADMIN).await;
    ok(&mut admin, "sessions.patch", json!({"key": "a"})).await;
    server.clock.advance(1000);
    ok(&mut admin, "sessions.patch", json!({"key": "agent:ada:b"})).await;
    let health = ok(&mut server.connect(3, &[]).await, "health", json!({})).await;
    assert_eq!(health["sessions"]["count"], 2);
    let recent = &health["sessions"]["recent"];
    assert_eq!((&recent[0]["key"], &recent[1]["age"]), (&json!("agent:ada:b"), &json!(1000)));
    let main = &health["agents"][0];
    assert_eq!(
        (&main["agentId"], &main["isDefault"], &main["sessions"]["count"]),
        (&json!("main"), &json!(true), &json!(1))
    );
    let heartbeat = main["heartbeat"].as_object().unwrap();
    let fields: Vec<&str> = heartbeat.keys().map(String::as_str).collect();
    assert_eq!(fields, ["enabled", "every", "everyMs", "prompt", "target", "ackMaxChars"]);
    let status = ok(&mut admin, "status", json!({})).await["sessions"].clone();
    assert_eq!((&status["count"], &status["byAgent"][0]["count"]), (&json!(2), &json!(1)));
    assert_eq!((&status["recent"][0]["key"], &status["recent"][1]["age"]), (&json!("agent:ada:b"), &json!(1000)));
    ok(&mut admin, "sessions.delete", json!({"key": "a"})).await;
    assert_eq!(ok(&mut admin, "health", json!({})).await["sessions"]["count"], 1);
}

/// What is summed up of use.
const TOTALS: [&str; 11] = [
    "input",
    "output",
    "cacheRead",
    "cacheWrite",
    "totalTokens",
    "totalCost",
    "inputCost",
    "outputCost",
    "cacheReadCost",
    "cacheWriteCost",
    "missingCostEntries",
];

#[tokio::test]
async fn usage_is_counted_from_what_was_said() {
    let server = start(with_token()).await;
    let mut admin = server.connect(4, ADMIN).await;
    let mut old = server.connect(3, READ).await;
    let zeros = |totals: &Value| {
        TOTALS.iter().all(|name| totals[name] == json!(0)) && totals.as_object().unwrap().len() == TOTALS.len()
    };
    let nothing = ok(&mut old, "usage.cost", json!({"days": 7, "unknown": 1})).await;
    assert!(zeros(&nothing["totals"]), "{nothing}");
    assert_eq!((&nothing["days"], &nothing["daily"], nothing.get("cacheStatus")), (&json!(8), &json!([]), None));
    let nothing = ok(&mut admin, "usage.cost", json!({})).await;
    assert_eq!((&nothing["days"], nothing["daily"].as_array().unwrap().len()), (&json!(30), 30));
    assert!(zeros(&ok(&mut admin, "sessions.usage", json!({})).await["totals"]));
    assert_eq!(ok(&mut old, "usage.status", json!({})).await["providers"], json!([]));

    let key = "agent:main:a";
    ok(&mut admin, "sessions.patch", json!({"key": "a"})).await;
    ok(&mut admin, "sessions.patch", json!({"key": "silent"})).await;
    let now = 1_700_000_000_000;
    server.records.say(key, "user", json!({"content": "hi"}), now - 86_400_000);
    for cost in [0.5, 0.25] {
        let usage = json!({"input": 10, "output": 5, "totalTokens": 15, "cost": {"total": cost}});
        let body = json!({"content": "hello", "provider": "fake", "model": "echo", "usage": usage});
        server.records.say(key, "assistant", body, now);
    }
    let cost = ok(&mut old, "usage.cost", json!({"startDate": "2023-11-14", "endDate": "2023-11-14"})).await;
    assert_eq!((&cost["days"], &cost["totals"]["totalTokens"]), (&json!(2), &json!(30)));
    assert_eq!((&cost["daily"][0]["date"], &cost["daily"][0]["totalCost"]), (&json!("2023-11-14"), &json!(0.75)));
    assert_eq!(old.call("usage.cost", json!({"startDate": "2023-02-30"})).await["ok"], false);

    let usage = ok(&mut admin, "sessions.usage", json!({"range": "7d"})).await;
    assert_eq!((&usage["startDate"], &usage["endDate"]), (&json!("2023-11-08"), &json!("2023-11-14")));
    let rows = usage["sessions"].as_array().unwrap();
    let said = &rows.iter().find(|row| row["key"] == key).unwrap()["usage"];
    assert_eq!(said["activityDates"], json!(["2023-11-13", "2023-11-14"]));
    assert_eq!((&said["messageCounts"]["total"], &said["totalTokens"]), (&json!(3), &json!(30)));
    assert_eq!((&said["modelUsage"][0]["model"], &said["modelUsage"][0]["count"]), (&json!("echo"), &json!(2)));
    assert!(rows.iter().any(|row| row["key"] == "agent:main:silent" && row["usage"].is_null()));
    assert_eq!(usage["aggregates"]["byProvider"][0]["provider"], "fake");
    assert_eq!(
        (&usage["aggregates"]["sessionCount"], &usage["aggregates"]["messages"]["user"]),
        (&json!(1), &json!(1))
    );
    let mine = ok(&mut old, "sessions.usage", json!({"key": "silent"})).await;
    assert_eq!((mine["sessions"].as_array().unwrap().len(), &mine["totals"]["totalTokens"]), (1, &json!(0)));
    let server = restarted(server).await;
    let mut reader = server.connect(4, READ).await;
    let again = ok(&mut reader, "sessions.usage", json!({"range": "7d"})).await;
    assert_eq!((&again["totals"], &again["aggregates"]), (&usage["totals"], &usage["aggregates"]));
    let day = json!({"startDate": "2023-11-14", "endDate": "2023-11-14"});
    assert_eq!(ok(&mut reader, "usage.cost", day).await["totals"], cost["totals"]);
}

#[tokio::test]
async fn the_use_of_one_session_is_told_answer_by_answer() {
    let server = start(with_token()).await;
    let (mut admin, mut old) = (server.connect(4, ADMIN).await, server.connect(3, READ).await);
    let (key, now) = ("agent:main:a", 1_700_000_000_000_u64);
    let id = ok(&mut admin, "sessions.patch", json!({"key": "a"})).await["entry"]["sessionId"].clone();
    server.records.say(key, "user", json!({"content": "hi"}), now);
    for cost in [0.5, 0.25] {
        let usage = json!({"input": 10, "output": 5, "totalTokens": 15, "cost": {"total": cost}});
        server.records.say(key, "assistant", json!({"content": "hello", "usage": usage}), now);
    }
    let series = ok(&mut old, "sessions.usage.timeseries", json!({"key": key})).await;
    assert_eq!((&series["sessionId"], &series["points"][1]["cumulativeTokens"]), (&id, &json!(30)));
    assert_eq!(series["points"][1]["cumulativeCost"], 0.75);
    let none = old.call("sessions.usage.timeseries", json!({"key": "none"})).await;
    assert_invalid(&none, "No transcript found for session: agent:main:none");
    let logs = ok(&mut old, "sessions.usage.logs", json!({"key": "a", "limit": 2})).await["logs"].clone();
    assert_eq!(logs.as_array().unwrap().len(), 2);
    assert_eq!(logs[1], json!({"timestamp": now, "role": "assistant", "content": "hello", "tokens": 15, "cost": 0.25}));
    let server = restarted(server).await;
    let mut reader = server.connect(4, READ).await;
    let again = ok(&mut reader, "sessions.usage.timeseries", json!({"key": key})).await;
    assert_eq!(again["points"], series["points"], "also after a restart");
    assert_eq!(ok(&mut reader, "sessions.usage.logs", json!({"key": "a", "limit": 2})).await["logs"], logs);
}

#[tokio::test]
async fn a_list_that_is_asked_for_again_is_as_new_as_the_last_change() {
    let server = start(with_token()).await;
    let (mut admin, mut old) = (server.connect(4, ADMIN).await, server.connect(3, ADMIN).await);
    ok(&mut admin, "sessions.create", json!({"key": "agent:main:a"})).await;
    let mut first = ok(&mut admin, "sessions.list", json!({})).await;
    let mut again = ok(&mut admin, "sessions.list", json!({})).await;
    assert!(first["ts"].as_u64() <= again["ts"].as_u64() && again["ts"].is_u64());
    (first["ts"], again["ts"]) = (json!(0), json!(0));
    assert_eq!(first, again);
    assert_eq!(ok(&mut old, "sessions.list", json!({})).await.get("totalCount"), None, "another version");
    for label in ["One", "Two"] {
        ok(&mut admin, "sessions.patch", json!({"key": "agent:main:a", "label": label})).await;
        for client in [&mut admin, &mut old] {
            assert_eq!(ok(client, "sessions.list", json!({})).await["sessions"][0]["label"], label);
        }
    }
    ok(&mut admin, "sessions.delete", json!({"key": "agent:main:a"})).await;
    assert_eq!(ok(&mut admin, "sessions.list", json!({})).await["count"], 0);
    let without_scope = server.connect(4, &["operator.write"]).await.call("sessions.list", json!({})).await;
    assert_eq!(without_scope["ok"], json!(true), "who writes may read");
    let refused = server.connect(4, &["operator.pairing"]).await.call("sessions.list", json!({})).await;
    assert_eq!(refused["error"]["details"]["missingScope"], "operator.read", "kept or not");
}
