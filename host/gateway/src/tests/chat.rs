//! Talking to an agent: what is taken on, and what a run is told as.

use leanclaw_types::Failure;
use leanclaw_types::run::{RunModel, RunOutcome, RunStep, ToolPhase};
use serde_json::{Value, json};

use super::fake_runs::BEGIN_MS;
use super::{Client, Server, TOKEN, assert_invalid, connect_params, start, with_token};

pub(super) const KEY: &str = "agent:main:main";

pub(super) fn say(run_id: &str, message: &str) -> Value {
    json!({"sessionKey": "main", "message": message, "idempotencyKey": run_id})
}

/// Sends a message, which is taken on as a new run.
pub(super) async fn sent(client: &mut Client, run_id: &str, message: &str) -> Value {
    let sent = client.call("chat.send", say(run_id, message)).await;
    assert_eq!((&sent["payload"]["runId"], &sent["payload"]["status"]), (&json!(run_id), &json!("started")), "{sent}");
    sent["payload"].clone()
}

/// The payload of the next `chat` or `agent` event, with the event's name.
pub(super) async fn told(client: &mut Client) -> (String, Value) {
    loop {
        let frame = client.any().await;
        if let Some(name) = frame["event"].as_str().filter(|name| ["agent", "chat"].contains(name)) {
            return (name.to_owned(), frame["payload"].clone());
        }
    }
}

/// What a client is told until a run ends for it, each in a few words.
pub(super) async fn story(client: &mut Client) -> Vec<String> {
    let mut story = Vec::new();
    loop {
        let (name, payload) = told(client).await;
        let text = payload["message"]["content"][0]["text"].as_str().unwrap_or("-").to_owned();
        let line = match name.as_str() {
            "agent" => {
                let data = &payload["data"];
                let what = [&data["phase"], &data["delta"]].into_iter().find_map(Value::as_str).unwrap_or("-");
                format!("{} {} {what}", payload["seq"], payload["stream"].as_str().unwrap())
            }
            _ => format!("{} chat {} {text}", payload["seq"], payload["state"].as_str().unwrap()),
        };
        let ends = name == "chat" && ["final", "error", "aborted"].contains(&payload["state"].as_str().unwrap());
        story.push(line);
        if ends {
            return story;
        }
    }
}

#[tokio::test]
async fn a_run_is_told_in_order_and_in_the_words_of_each_version() {
    let server = start(with_token()).await;
    let mut v3 = server.connect(3, &["operator.write"]).await;
    let mut v4 = server.connect(4, &["operator.read"]).await;
    sent(&mut v3, "r1", "hello").await;
    let runs = &server.runs;
    runs.starts("r1");
    for (after_ms, words) in [(0, "One"), (100, " two"), (50, " three"), (10, " four")] {
        runs.pass_ms(after_ms);
        runs.says("r1", words);
    }
    runs.said("r1", "One two three four");
    runs.ends("r1", RunOutcome::Done, "One two three four");
    let v3_story = [
        "1 lifecycle start",
        "2 assistant One",
        "2 chat delta One",
        "3 assistant  two",
        "4 assistant  three",
        "4 chat delta One two three",
        "5 assistant  four",
        "6 lifecycle end",
        "6 chat delta One two three four",
        "6 chat final One two three four",
    ];
    assert_eq!(story(&mut v3).await, v3_story);
    let mut deltas = Vec::new();
    loop {
        let (name, payload) = told(&mut v4).await;
        assert_eq!((&payload["agentId"], &payload["sessionKey"]), (&json!("main"), &json!(KEY)), "{payload}");
        match (name.as_str(), payload["state"].as_str()) {
            ("chat", Some("delta")) => deltas.push(payload["deltaText"].as_str().unwrap().to_owned()),
            ("chat", state) => {
                let expected = json!({
                    "runId": "r1", "sessionKey": KEY, "seq": 6, "state": "final", "agentId": "main",
                    "message": {
                        "role": "assistant", "content": [{"type": "text", "text": "One two three four"}],
                        "timestamp": BEGIN_MS + 160,
                    },
                    "usage": {"input": 10, "output": 5, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 15},
                });
                assert_eq!((state, &payload), (Some("final"), &expected));
                break;
            }
            _ => {
                assert!(payload["sessionId"].is_string(), "{payload}");
                let has_item = payload["data"]["itemId"] == "message:1";
                assert_eq!(has_item, payload["stream"] == "assistant", "{payload}");
            }
        }
    }
    assert_eq!(deltas, ["One", " two", " three", " four"]);
    assert_eq!(server.gateway.state.live_runs.len(), 0, "nothing is kept of what is over");
}

#[tokio::test]
async fn a_message_of_the_agent_after_a_tool_takes_the_place_of_the_one_before() {
    let server = start(with_token()).await;
    let mut v3 = server.connect(3, &["operator.write"]).await;
    let mut v4 = server.connect(4, &["operator.read"]).await;
    sent(&mut v3, "r1", "hello").await;
    let runs = &server.runs;
    runs.starts("r1");
    runs.says("r1", "I will");
    runs.says("r1", " look.");
    runs.said("r1", "I will look.");
    runs.says("r1", "Done");
    runs.said("r1", "Done");
    runs.ends("r1", RunOutcome::Done, "Done");
    let chats = |story: Vec<String>| -> Vec<String> {
        story.into_iter().filter_map(|line| line.split_once(" chat ").map(|(_, rest)| rest.to_owned())).collect()
    };
    // What version 3 was not told yet comes before anything else does.
    let expected = ["delta I will", "delta I will look.", "delta Done", "final Done"];
    assert_eq!(chats(story(&mut v3).await), expected);
    let mut deltas = Vec::new();
    while deltas.len() < 3 {
        let payload = v4.event("chat").await["payload"].clone();
        deltas.push((payload["deltaText"].clone(), payload.get("replace").cloned()));
    }
    assert_eq!(deltas, [(json!("I will"), None), (json!(" look."), None), (json!("Done"), Some(json!(true)))]);
}

#[tokio::test]
async fn an_empty_or_silent_reply_is_no_message() {
    let server = start(with_token()).await;
    let mut v4 = server.connect(4, &["operator.write"]).await;
    for (run_id, text) in [("r1", ""), ("r2", "NO_REPLY"), ("r3", " NO_REPLY\n")] {
        sent(&mut v4, run_id, "hello").await;
        server.runs.answers(run_id, text);
        let payload = v4.event("chat").await["payload"].clone();
        assert_eq!((&payload["state"], payload.get("message")), (&json!("final"), None), "{payload}");
    }
}

#[tokio::test]
async fn what_is_said_is_stored_once_and_told_and_is_there_after_a_restart() {
    let server = start(with_token()).await;
    for version in [3, 4] {
        let mut writer = server.connect(version, &["operator.write"]).await;
        let mut follower = server.connect(version, &["operator.read"]).await;
        assert_eq!(follower.call("sessions.subscribe", json!({})).await["ok"], true);
        let key = format!("agent:main:made-{version}");
        assert_eq!(follower.call("sessions.messages.subscribe", json!({"key": key})).await["ok"], true);
        let run_id = format!("k{version}");
        let own = json!({"chatJid": format!("made-{version}"), "text": "hello", "idempotencyKey": run_id});
        let sent = writer.call("chat.send", own.clone()).await["payload"].clone();
        let expected = match version {
            3 => json!({"runId": run_id, "status": "started"}),
            _ => json!({"runId": run_id, "status": "started", "messageSeq": 1}),
        };
        assert_eq!(sent, expected);
        assert_eq!(follower.event("sessions.changed").await["payload"]["reason"], "create");
        let said = follower.event("session.message").await["payload"].clone();
        assert_eq!((&said["sessionKey"], &said["message"]["content"][0]["text"]), (&json!(key), &json!("hello")));
        let again = writer.call("chat.send", own.clone()).await["payload"].clone();
        assert_eq!(again, json!({"runId": run_id, "status": "in_flight"}));
        server.runs.answers(&run_id, "Hi.");
        let answer = follower.event("session.message").await["payload"].clone();
        assert_eq!(answer["message"]["content"][0]["text"], "Hi.");
        assert_eq!(writer.call("chat.send", own).await["payload"], json!({"runId": run_id, "status": "ok"}));
        let other = json!({"sessionKey": key, "message": "another", "idempotencyKey": run_id});
        assert_invalid(
            &writer.call("chat.send", other).await,
            "this idempotencyKey was used for another message; use a new one",
        );
    }
    let server = server.again(with_token()).await;
    let mut reader = server.connect(4, &["operator.read"]).await;
    let history = reader.call("chat.history", json!({"sessionKey": "made-4"})).await["payload"]["messages"].clone();
    assert_eq!(
        (&history[0]["content"][0]["text"], &history[1]["content"][0]["text"]),
        (&json!("hello"), &json!("Hi."))
    );
    let id = history[1]["__openclaw"]["id"].clone();
    let one = json!({"sessionKey": "made-4", "messageId": id});
    assert_eq!(reader.call("chat.message.get", one).await["payload"], json!({"ok": true, "message": history[1]}));
    let none = json!({"sessionKey": "made-4", "messageId": "nope"});
    let gone = json!({"ok": false, "unavailableReason": "not_found"});
    assert_eq!(reader.call("chat.message.get", none).await["payload"], gone);
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    for (more, why) in [
        (json!({"message": " \n"}), "message or attachment required"),
        (json!({"message": "a\u{0}b"}), "message must not contain null bytes"),
        (json!({"message": "a", "sessionKey": "agent:nobody:x"}), "unknown agent id \"nobody\""),
        (
            json!({"message": "a", "sessionKey": "agent:x"}),
            "invalid session key: it must look like agent:<agent>:<name>",
        ),
        (
            json!({"message": "a", "sessionId": "old"}),
            "the session was reset since; read its history, and send again with the sessionId it has now",
        ),
    ] {
        let mut params = say("k", "");
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_invalid(&writer.call("chat.send", params).await, why);
    }
    let mut params = say("k", "look");
    params["thinking"] = json!("hard");
    let refused = writer.call("chat.send", params).await;
    assert!(refused["error"]["message"].as_str().unwrap().starts_with("invalid thinking level"), "{refused}");
    let mut params = say("k", "look");
    params["attachments"] = json!([{"fileName": "a.txt", "mimeType": "text/plain", "content": "aGVsbG8="}]);
    let refused = writer.call("chat.send", params).await;
    assert!(refused["error"]["message"].as_str().unwrap().starts_with("attachment a.txt: only pictures"), "{refused}");
    *server.runs.refusal.lock().unwrap() = Some(Failure::unavailable("Too much waits.").retry_after(500));
    let full = writer.call("chat.send", say("k", "hello")).await;
    assert_eq!((&full["error"]["code"], &full["error"]["retryAfterMs"]), (&json!("UNAVAILABLE"), &json!(500)));
    *server.runs.refusal.lock().unwrap() = None;
    assert!(server.runs.requests().is_empty(), "nothing was taken on");
    let denied = json!({"key": "main", "sendPolicy": "deny"});
    assert_eq!(server.admin().await.call("sessions.patch", denied).await["ok"], true);
    assert_invalid(&writer.call("chat.send", say("k", "hello")).await, "send blocked by session policy");
    assert_invalid(
        &server.connect(3, &["operator.write"]).await.call("chat.send", json!({"sessionKey": "main"})).await,
        "invalid chat.send params: must have required property 'message'; must have required property 'idempotencyKey'",
    );
}

#[tokio::test]
async fn what_a_run_is_asked_for_reaches_it() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    let mut params = say("k", "");
    params["attachments"] =
        json!([{"type": "image", "mimeType": "image/png", "content": "data:image/png;base64,iVBORw0KGgo="}]);
    (params["thinking"], params["timeoutMs"]) = (json!("High"), json!(1500));
    assert_eq!(writer.call("chat.send", params).await["payload"]["status"], "started");
    assert_eq!(writer.call("chat.send", say("k2", "/status")).await["payload"]["status"], "started");
    let requests = server.runs.requests();
    let asked = serde_json::to_value(&requests[0]).unwrap();
    let owner = asked["owner"].clone();
    let expected = json!({
        "runId": "k", "sessionKey": KEY, "message": "", "thinking": "high", "timeoutMs": 1500, "owner": owner,
        "images": [{"mediaType": "image/png", "data": "iVBORw0KGgo="}],
    });
    assert_eq!(asked, expected);
    assert!(!requests[0].owner.connection.is_empty() && requests[0].owner.caller == "token", "{owner}");
    assert_eq!(requests[1].message, "/status", "other commands are the agent's to understand");
}

/// A client that shows tools, or one that does not.
async fn with_caps(server: &Server, version: u64, caps: &[&str]) -> Client {
    let mut client = server.open().await;
    let mut params = connect_params(version, version);
    (params["scopes"], params["caps"]) = (json!(["operator.admin"]), json!(caps));
    params["auth"] = json!({"token": TOKEN});
    assert_eq!(client.call("connect", params).await["ok"], true);
    client
}

/// The streams and data of the `agent` events of a run, up to its end.
async fn streams(client: &mut Client, run_id: &str) -> Vec<(String, Value)> {
    let mut heard = Vec::new();
    loop {
        let (name, payload) = told(client).await;
        if name == "chat" {
            return heard;
        }
        if payload["runId"] == run_id {
            heard.push((payload["stream"].as_str().unwrap().to_owned(), payload["data"].clone()));
        }
    }
}

#[tokio::test]
async fn tools_are_told_to_the_connection_that_asked_and_shows_them() {
    let server = start(with_token()).await;
    for (version, level) in [(3, "on"), (3, "full"), (4, "on")] {
        let mut asks = with_caps(&server, version, &["tool-events"]).await;
        let mut watches = with_caps(&server, version, &["tool-events"]).await;
        let mut newest = with_caps(&server, 4, &[]).await;
        let verbose = json!({"key": "main", "verboseLevel": level});
        assert_eq!(asks.call("sessions.patch", verbose).await["ok"], true);
        let run_id = format!("r{version}{level}");
        sent(&mut asks, &run_id, "hello").await;
        let runs = &server.runs;
        runs.starts(&run_id);
        let tool = |phase| RunStep::Tool { call_id: "call_1".into(), name: "exec".into(), phase };
        runs.happens(&run_id, tool(ToolPhase::Started(json!({"command": "ls"}))));
        runs.pass_ms(5);
        runs.happens(&run_id, tool(ToolPhase::Ended { text: "a file".into(), is_error: true }));
        runs.ends(&run_id, RunOutcome::Done, "");

        let mut tools = Vec::new();
        loop {
            let frame = asks.any().await;
            if frame["payload"]["stream"] == "tool" {
                assert_eq!(frame.get("seq"), None, "{frame}");
                tools.push(frame["payload"]["data"].clone());
            }
            if frame["payload"]["state"] == "final" {
                break;
            }
        }
        let started = json!({"phase": "start", "name": "exec", "toolCallId": "call_1", "args": {"command": "ls"}});
        let mut ended = json!({"phase": "result", "name": "exec", "toolCallId": "call_1", "isError": true});
        if version == 4 || level == "full" {
            ended["result"] = json!({"content": [{"type": "text", "text": "a file"}]});
        }
        for told in tools.iter_mut().filter(|_| version == 4) {
            assert_eq!(told["session"]["key"], KEY, "{told}");
            told.as_object_mut().unwrap().shift_remove("session");
        }
        assert_eq!(tools, [started, ended]);

        let heard = streams(&mut watches, &run_id).await;
        assert!(heard.iter().all(|(stream, _)| stream != "tool"), "{heard:?}");
        let heard = streams(&mut newest, &run_id).await;
        let items: Vec<_> = heard.into_iter().filter(|(stream, _)| stream == "item").map(|(_, data)| data).collect();
        assert_eq!((&items[0]["phase"], &items[0]["status"]), (&json!("start"), &json!("running")), "{items:?}");
        let at_ms = items[0]["startedAt"].as_u64().unwrap();
        let expected = json!({
            "itemId": "tool:call_1", "toolCallId": "call_1", "name": "exec", "kind": "tool", "phase": "end",
            "title": "exec", "status": "failed", "startedAt": at_ms, "endedAt": at_ms + 5,
        });
        assert_eq!(items[1], expected);
    }
}

#[tokio::test]
async fn words_are_put_into_an_agents_mouth() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    let mut old = server.connect(3, &["operator.admin"]).await;
    let words = json!({"sessionKey": "main", "message": "injected", "label": "note"});
    assert_invalid(
        &admin.call("chat.inject", words.clone()).await,
        "session not found: agent:main:main; sessions.create makes it",
    );
    assert_eq!(admin.call("sessions.patch", json!({"key": "main", "label": "Main"})).await["ok"], true);
    let injected = admin.call("chat.inject", words).await["payload"].clone();
    let payload = old.event("chat").await["payload"].clone();
    let run_id = format!("inject-{}", injected["messageId"].as_str().unwrap());
    assert_eq!((&payload["runId"], &payload["seq"], &payload["state"]), (&json!(run_id), &json!(0), &json!("final")));
    assert_eq!(payload["message"]["content"][0]["text"], "[note]\n\ninjected");
    assert_eq!(payload["message"]["model"], "gateway-injected");
    let server = server.again(with_token()).await;
    let history = server.admin().await.call("chat.history", json!({"sessionKey": "main"})).await["payload"].clone();
    assert_eq!(history["messages"][0]["content"][0]["text"], "[note]\n\ninjected");
    assert_eq!(history["messages"][0]["role"], "assistant");
}

#[tokio::test]
async fn the_models_that_runs_can_use_are_named() {
    let server = start(with_token()).await;
    let mut v3 = server.connect(3, &["operator.read"]).await;
    let mut v4 = server.connect(4, &["operator.read"]).await;
    assert_eq!(v4.call("models.list", json!(null)).await["payload"], json!({"models": []}));
    let before = v4.call("sessions.list", json!({})).await["payload"]["defaults"].clone();
    assert_eq!((&before["modelProvider"], &before["contextTokens"]), (&Value::Null, &Value::Null), "{before}");
    let model = |id: &str, context_tokens, takes_images, is_default| RunModel {
        provider: "fake".into(),
        id: id.into(),
        name: id.to_uppercase(),
        context_tokens,
        takes_images,
        is_default,
    };
    *server.runs.models.lock().unwrap() =
        vec![model("echo", Some(128_000), Some(true), true), model("other", None, None, false)];
    let listed = v3.call("models.list", json!({})).await["payload"]["models"].clone();
    let expected = json!([
        {"id": "echo", "name": "ECHO", "provider": "fake", "contextWindow": 128_000, "input": ["text", "image"]},
        {"id": "other", "name": "OTHER", "provider": "fake"},
    ]);
    assert_eq!(listed, expected);
    let listed = v4.call("models.list", json!({"view": "default", "includeDetails": true})).await["payload"].clone();
    assert_eq!((&listed["models"][0]["tags"], listed["models"][1].get("tags")), (&json!(["default"]), None));
    for (method, params) in [("chat.metadata", json!({})), ("chat.startup", json!({"sessionKey": "main"}))] {
        let payload = v4.call(method, params).await["payload"].clone();
        let metadata = if method == "chat.startup" { &payload["metadata"] } else { &payload };
        assert_eq!(metadata["models"], listed["models"], "{method}");
    }
    // Also where the same list was asked for before.
    let list = v4.call("sessions.list", json!({})).await["payload"]["defaults"].clone();
    let history = v4.call("chat.history", json!({"sessionKey": "main"})).await["payload"]["defaults"].clone();
    for defaults in [list, history] {
        let told = (&defaults["modelProvider"], &defaults["model"], &defaults["contextTokens"]);
        assert_eq!(told, (&json!("fake"), &json!("echo"), &json!(128_000)));
    }
    let agent = v4.call("agents.list", json!({})).await["payload"]["agents"][0].clone();
    assert_eq!(agent["model"], json!({"primary": "fake/echo"}), "its page takes messages for it");
    let status = v3.call("status", json!({})).await["payload"]["sessions"]["defaults"].clone();
    assert_eq!(status, json!({"model": "echo", "contextTokens": 128_000}));
    let providers = v4.call("models.authStatus", json!({})).await["payload"]["providers"].clone();
    assert_eq!(
        (&providers[0]["provider"], &providers[0]["status"], &providers[1]),
        (&json!("fake"), &json!("static"), &Value::Null)
    );
    let providers = v4.call("providers.list", json!({})).await["payload"].clone();
    assert_eq!(providers, json!([{"id": "fake", "name": "fake", "configured": true}]));
}
