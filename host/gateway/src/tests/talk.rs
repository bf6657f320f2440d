//! Messages into sessions, shorter transcripts, many sessions at once, and the words that nodes listen for.

use std::sync::Arc;

use leanclaw_types::session::TranscriptQuery;
use serde_json::{Value, json};

use crate::{Records as _, Sessions as _};

use super::{assert_invalid, start, start_on, with_token};

#[tokio::test]
async fn a_message_is_stored_once_and_told_to_who_follows_the_session() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    let mut follower = server.connect(4, &["operator.read"]).await;
    let mut lister = server.connect(4, &["operator.read"]).await;
    let mut old = server.connect(3, &["operator.read"]).await;
    for client in [&mut follower, &mut old] {
        assert_eq!(client.call("sessions.messages.subscribe", json!({"key": "main"})).await["ok"], true);
    }
    assert_eq!(lister.call("sessions.subscribe", json!({})).await["ok"], true);
    let gone = writer.call("sessions.send", json!({"key": "none", "message": "hi"})).await;
    assert_invalid(&gone, "session not found: agent:main:none; sessions.create makes it");
    let send = json!({"key": "main", "message": "hello", "idempotencyKey": "k1"});
    let sent = writer.call("sessions.send", send.clone()).await["payload"].clone();
    assert_eq!((&sent["runId"], &sent["messageSeq"]), (&json!("k1"), &json!(1)), "{sent}");
    assert_eq!((&sent["runStarted"], &sent["status"]), (&json!(true), &json!("started")), "{sent}");
    let told = follower.event("session.message").await["payload"].clone();
    assert_eq!((&told["sessionKey"], &told["messageSeq"]), (&json!("agent:main:main"), &json!(1)), "{told}");
    assert_eq!((&told["message"]["role"], &told["message"]["content"][0]["text"]), (&json!("user"), &json!("hello")));
    assert_eq!(told["session"]["key"], "agent:main:main");
    for reason in ["create", "send"] {
        let changed = lister.event("sessions.changed").await["payload"].clone();
        assert_eq!(changed["reason"], reason, "it hears that, and not what was said: {changed}");
    }
    // Version 3 hears of the same, each part as its own lists and transcripts show it.
    let heard = old.event("session.message").await["payload"].clone();
    assert_eq!((&heard["messageId"], &heard["messageSeq"]), (&told["messageId"], &told["messageSeq"]), "{heard}");
    let history = old.call("chat.history", json!({"sessionKey": "main"})).await["payload"]["messages"].clone();
    assert_eq!(history, json!([heard["message"]]));
    assert_eq!(old.call("sessions.subscribe", json!({})).await["payload"], json!({"subscribed": true}));
    assert_eq!(writer.call("sessions.patch", json!({"key": "b", "label": "B"})).await["ok"], true);
    let changed = old.event("sessions.changed").await["payload"].clone();
    let listed = old.call("sessions.list", json!({"label": "B"})).await["payload"]["sessions"].clone();
    assert_eq!((&changed["sessionKey"], listed), (&json!("agent:main:b"), json!([changed["session"]])));

    let again = writer.call("sessions.send", send).await["payload"].clone();
    assert_eq!(again["messageId"], sent["messageId"]);
    let other = json!({"key": "main", "message": "another", "idempotencyKey": "k1"});
    let used = "this idempotencyKey was used for another message; use a new one";
    assert_invalid(&writer.call("sessions.send", other).await, used);
    for bad in [json!({"message": " "}), json!({"message": "a\u{0}b"}), json!({"message": "a", "attachments": [{}]})] {
        let mut params = json!({"key": "main"});
        params.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        assert_eq!(writer.call("sessions.send", params).await["ok"], false, "{bad}");
    }
    let records = Arc::clone(&server.records);
    server.stop().await;
    let server = start_on(with_token(), records).await;
    let mut reader = server.connect(3, &["operator.read"]).await;
    let history = reader.call("chat.history", json!({"sessionKey": "main"})).await["payload"].clone();
    assert_eq!(history["messages"].as_array().unwrap().len(), 1, "{history}");
    assert_eq!(history["messages"][0]["content"][0]["text"], "hello");
}

#[tokio::test]
async fn what_was_stored_is_told_although_who_said_it_went_away() {
    let server = start(with_token()).await;
    let mut follower = server.connect(4, &["operator.read"]).await;
    assert_eq!(follower.call("sessions.messages.subscribe", json!({"key": "main"})).await["ok"], true);
    let mut writer = server.connect(4, &["operator.write"]).await;
    let held = server.records.said.lock().await;
    let params = json!({"key": "main", "message": "hello", "idempotencyKey": "k1"});
    writer.send(json!({"type": "req", "id": "s", "method": "sessions.send", "params": params})).await;
    while server.records.transcript("agent:main:main", newest()).await.unwrap().messages.is_empty() {
        tokio::task::yield_now().await;
    }
    drop(writer);
    while server.gateway.state.hub.len() > 1 {
        tokio::task::yield_now().await;
    }
    drop(held);
    assert_eq!(follower.event("session.message").await["payload"]["message"]["content"][0]["text"], "hello");
}

/// Has a client ask for something, and go away once `is_stored`, while what is stored is not answered yet.
async fn ask_and_leave(server: &super::Server, method: &str, params: Value, is_stored: impl Fn() -> bool) {
    let mut writer = server.connect(4, &["operator.write"]).await;
    let others = server.gateway.state.hub.len() - 1;
    let held = server.records.changed.lock().await;
    writer.send(json!({"type": "req", "id": "w", "method": method, "params": params})).await;
    while !is_stored() {
        tokio::task::yield_now().await;
    }
    drop(writer);
    while server.gateway.state.hub.len() > others {
        tokio::task::yield_now().await;
    }
    drop(held);
}

#[tokio::test]
async fn the_words_are_told_although_who_set_them_went_away() {
    let server = start(with_token()).await;
    let mut listener = server.connect(4, &["operator.read"]).await;
    let stored = || !server.records.load("voicewake").unwrap().is_empty();
    ask_and_leave(&server, "voicewake.set", json!({"triggers": ["hey"]}), stored).await;
    assert_eq!(listener.event("voicewake.changed").await["payload"], json!({"triggers": ["hey"]}));
}

#[tokio::test]
async fn all_of_many_sessions_are_changed_although_who_asked_went_away() {
    let server = start(with_token()).await;
    let mut listener = server.connect(4, &["operator.read"]).await;
    assert_eq!(listener.call("sessions.subscribe", json!({})).await["ok"], true);
    let params = json!({"targets": [{"key": "a"}, {"key": "b"}, {"key": "c"}], "patch": {"pinned": true}});
    let stored = || !server.records.sessions.lock().unwrap().is_empty();
    ask_and_leave(&server, "sessions.patchMany", params, stored).await;
    for key in ["agent:main:a", "agent:main:b", "agent:main:c"] {
        assert_eq!(listener.event("sessions.changed").await["payload"]["sessionKey"], key);
    }
}

fn newest() -> TranscriptQuery {
    TranscriptQuery { limit: 10, ..TranscriptQuery::default() }
}

#[tokio::test]
async fn nothing_is_said_in_a_session_whose_policy_forbids_it() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    let send = json!({"key": "main", "message": "hello"});
    assert_eq!(admin.call("sessions.send", send.clone()).await["ok"], true);
    assert_eq!(server.records.transcript("agent:main:main", newest()).await.unwrap().messages.len(), 1);
    let policy = json!({"key": "main", "sendPolicy": "deny"});
    assert_eq!(admin.call("sessions.patch", policy).await["ok"], true);
    assert_invalid(&admin.call("sessions.send", send.clone()).await, "send blocked by session policy");
    assert_eq!(server.records.transcript("agent:main:main", newest()).await.unwrap().messages.len(), 1);
    let policy = json!({"key": "main", "sendPolicy": "allow"});
    assert_eq!(admin.call("sessions.patch", policy).await["ok"], true);
    assert_eq!(admin.call("sessions.send", send).await["ok"], true);
}

#[tokio::test]
async fn a_transcript_is_cut_to_the_newest_and_not_summed_up_by_nobody() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    let mut old = server.connect(3, &["operator.admin"]).await;
    let none = old.call("sessions.compact", json!({"key": "main"})).await["payload"].clone();
    assert_eq!(none, json!({"ok": true, "key": "agent:main:main", "compacted": false, "reason": "no transcript"}));
    for text in ["1", "2", "3"] {
        let send = json!({"key": "main", "message": text});
        assert_eq!(admin.call("sessions.send", send).await["ok"], true);
    }
    let summed = admin.call("sessions.compact", json!({"key": "main"})).await["payload"].clone();
    assert_eq!((&summed["ok"], &summed["compacted"]), (&json!(false), &json!(false)));
    assert!(summed["reason"].as_str().unwrap().contains("no summary"), "{summed}");
    let fits = old.call("sessions.compact", json!({"key": "main"})).await["payload"].clone();
    assert_eq!((&fits["compacted"], &fits["kept"]), (&json!(false), &json!(3)));
    let cut = admin.call("sessions.compact", json!({"key": "main", "maxLines": 2})).await["payload"].clone();
    assert_eq!((&cut["compacted"], &cut["kept"], &cut["archived"]), (&json!(true), &json!(2), &json!("core.db")));
    drop((admin, old));
    let server = server.again(with_token()).await;
    let mut reader = server.connect(4, &["operator.read"]).await;
    let history = reader.call("chat.history", json!({"sessionKey": "main"})).await["payload"].clone();
    let texts: Vec<_> =
        history["messages"].as_array().unwrap().iter().map(|message| &message["content"][0]["text"]).collect();
    assert_eq!(texts, ["2", "3"], "also after a restart");
    let denied = server.connect(4, &["operator.write"]).await.call("sessions.compact", json!({"key": "main"})).await;
    assert_eq!(denied["error"]["details"]["missingScope"], "operator.admin");
}

#[tokio::test]
async fn many_sessions_are_changed_one_by_one() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    let made = writer.call("sessions.create", json!({"key": "a"})).await["payload"].clone();
    let patch = json!({
        "targets": [
            {"key": "a", "expectedSessionId": made["sessionId"]}, {"key": "b", "agentId": "main"},
            {"key": "a", "expectedSessionId": "other"},
        ],
        "patch": {"pinned": true, "label": null},
    });
    let outcomes = writer.call("sessions.patchMany", patch).await["payload"]["outcomes"].clone();
    assert_eq!(outcomes[0], json!({"ok": true, "key": "a"}), "{outcomes}");
    assert_eq!(outcomes[1], json!({"ok": true, "key": "b", "agentId": "main"}));
    assert_eq!((&outcomes[2]["ok"], &outcomes[2]["error"]["code"]), (&json!(false), &json!("INVALID_REQUEST")));
    let admin_only = json!({"targets": [{"key": "a"}], "patch": {"execSecurity": "full"}});
    let denied = writer.call("sessions.patchMany", admin_only).await;
    assert_eq!(denied["error"]["details"]["missingScope"], "operator.admin");
    let unknown = writer.call("sessions.patchMany", json!({"targets": [{"key": "a"}], "patch": {"key": "b"}})).await;
    assert!(unknown["error"]["message"].as_str().unwrap().contains("unexpected property 'key'"), "{unknown}");
    drop(writer);
    let server = server.again(with_token()).await;
    let mut reader = server.connect(4, &["operator.read"]).await;
    for key in ["a", "b"] {
        let row = reader.call("sessions.describe", json!({"key": key})).await["payload"]["session"].clone();
        assert_eq!(row["pinned"], true, "{row}");
    }
    // An older client is not told what it cannot know.
    let mut old = server.connect(3, &["operator.read"]).await;
    let row = old.call("sessions.list", json!({})).await["payload"]["sessions"][0].clone();
    for field in ["pinned", "pinnedAt", "lifecycleRevision", "archived", "createdAt", "agentId"] {
        assert_eq!(row.get(field), None, "{row}");
    }
}

#[tokio::test]
async fn the_words_nodes_listen_for_are_kept_and_told() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.write"]).await;
    let usual = client.call("voicewake.get", json!({})).await["payload"].clone();
    assert_eq!(usual, json!({"triggers": ["openclaw", "claude", "computer"]}));
    let mut other = server.connect(3, &["operator.read"]).await;
    let set = client.call("voicewake.set", json!({"triggers": [" hey ", ""]})).await["payload"].clone();
    assert_eq!(set, json!({"triggers": ["hey"]}));
    assert_eq!(other.event("voicewake.changed").await["payload"], set);
    let records = Arc::clone(&server.records);
    server.stop().await;
    let server = start_on(with_token(), records).await;
    let mut client = server.connect(3, &["operator.write"]).await;
    assert_eq!(client.call("voicewake.get", json!({})).await["payload"], set);
    assert_eq!(client.call("voicewake.set", json!({"triggers": []})).await["payload"], usual);
    assert_eq!(client.call("voicewake.get", json!({})).await["payload"], usual);
}

#[tokio::test]
async fn an_action_sends_through_a_channel_and_others_are_refused() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.write"]).await;
    let act = |action: &str, params: Value| json!({"channel": "hook", "action": action, "params": params, "idempotencyKey": "k"});
    let sent = client.call("message.action", act("send", json!({"to": "ada", "message": "hi", "media": ""}))).await;
    let expected = json!({
        "runId": "k", "messageId": "sent-to-ada", "channel": "hook", "ok": true, "action": "send", "to": "ada",
    });
    assert_eq!(sent["payload"], expected, "{sent}");
    for (action, params, why) in [
        ("react", json!({}), "unsupported action: react"),
        ("send", json!({"message": "hi"}), "`to` is required"),
        ("send", json!({"to": "ada"}), "`message` is required"),
        ("send", json!({"to": "ada", "message": " \n"}), "`message` is required"),
        ("send", json!({"to": "ada", "message": "hi", "media": "/etc/passwd"}), "`media` cannot be sent"),
        ("send", json!({"to": "ada", "message": "hi", "mediaUrls": ["https://x"]}), "`mediaUrls` cannot be sent"),
        ("send", json!({"to": "ada", "message": "hi", "parseMode": "html"}), "`parseMode` cannot be sent"),
    ] {
        let refused = client.call("message.action", act(action, params)).await;
        assert!(refused["error"]["message"].as_str().unwrap().contains(why), "{refused}");
    }
    for (more, why) in [
        (json!({"message": "hi", "mediaUrls": ["https://x"]}), "`mediaUrls` cannot be sent"),
        (json!({"message": "hi", "mediaUrl": "https://x"}), "`mediaUrl` cannot be sent"),
        (json!({"message": "hi", "buffer": "AA=="}), "`buffer` cannot be sent"),
        (json!({"message": "hi", "parseMode": "html"}), "`parseMode` cannot be sent"),
        (json!({"message": " \n", "mediaUrl": ""}), "text is required"),
        (json!({}), "text is required"),
    ] {
        let mut params = json!({"to": "ada", "idempotencyKey": "s"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = client.call("send", params).await;
        assert!(refused["error"]["message"].as_str().unwrap().contains(why), "{refused}");
    }
    let replies = |reply: Value| {
        let mut act = act("send", json!({"to": "ada", "message": "yes"}));
        (act["reply"], act["idempotencyKey"]) = (reply, json!("r"));
        act
    };
    let unknown = client.call("message.action", replies(json!({"replyToId": "7", "to": "bob"}))).await;
    assert!(unknown["error"]["message"].as_str().unwrap().contains("unexpected property 'to'"), "{unknown}");
    let reply = json!({"replyToId": "7", "source": "implicit", "mode": "first"});
    assert_eq!(client.call("message.action", replies(reply)).await["ok"], true);
    assert_eq!(server.host.done.lock().unwrap().len(), 2, "and nothing else went out");
    assert_eq!(server.host.sent.lock().unwrap()[1].reply_to.as_deref(), Some("7"));
    let mut busy = act("send", json!({"to": "busy", "message": "hi"}));
    busy["idempotencyKey"] = json!("busy");
    let busy = client.call("message.action", busy).await;
    assert_eq!(busy["error"]["retryAfterMs"], 700);
}

#[tokio::test]
async fn a_session_may_call_what_plugins_bring() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.read"]).await;
    let effective = client.call("tools.effective", json!({"sessionKey": "main"})).await["payload"].clone();
    let catalog = client.call("tools.catalog", json!({})).await["payload"].clone();
    assert_eq!((&effective["profile"], &effective["groups"][0]["source"]), (&json!("full"), &json!("plugin")));
    let tool = &effective["groups"][0]["tools"][0];
    assert_eq!(tool["id"], catalog["groups"][0]["tools"][0]["id"], "{effective}");
    assert_eq!((&tool["rawDescription"], tool.get("defaultProfiles")), (&tool["description"], None));
    let unknown = client.call("tools.effective", json!({"sessionKey": "main", "agentId": "x"})).await;
    assert_eq!(unknown["ok"], false);
}
