//! How runs end: by who may end them, of a failure, or because their session changes under them.

use futures_util::SinkExt as _;
use leanclaw_types::Failure;
use leanclaw_types::run::RunOutcome;
use serde_json::{Value, json};

use tokio_tungstenite::tungstenite::Message;

use super::chat::{KEY, say, sent, story, told};
use super::{TOKEN, assert_invalid, start, with_token};

#[tokio::test]
async fn a_run_is_ended_by_who_asked_for_it_or_an_admin() {
    for version in [3, 4] {
        let server = start(with_token()).await;
        let mut owner = server.connect(version, &["operator.write"]).await;
        let mut other = server.connect(version, &["operator.write"]).await;
        let none = json!({"ok": true, "aborted": false, "runIds": []});
        assert_eq!(owner.call("chat.abort", json!({"sessionKey": "main"})).await["payload"], none);
        for run_id in ["r1", "r2", "r3"] {
            sent(&mut owner, run_id, "hello").await;
        }
        server.runs.starts("r1");
        server.runs.says("r1", "Half of");
        for params in [json!({"sessionKey": "main"}), json!({"chatJid": "main", "runId": "r1"})] {
            assert_invalid(&other.call("chat.abort", params).await, "unauthorized");
        }
        assert_invalid(&other.call("chat.send", say("s", "stop")).await, "unauthorized");
        assert_invalid(&other.call("sessions.abort", json!({"key": "main"})).await, "unauthorized");
        let unknown = owner.call("chat.abort", json!({"sessionKey": "main", "runId": "nope"})).await;
        assert_eq!(unknown["payload"], none);
        // One that waits ends without ever having begun.
        let one = json!({"ok": true, "aborted": true, "runIds": ["r3"]});
        let mut admin = server.admin().await;
        assert_eq!(admin.call("chat.abort", json!({"sessionKey": "main", "runId": "r3"})).await["payload"], one);
        let ended = story(&mut owner).await;
        assert_eq!(ended.last().unwrap(), "0 chat aborted -", "{ended:?}");
        // All of them at once: the clients hear of it before who asked is answered.
        owner.next_id += 1;
        let id = json!(format!("r{}", owner.next_id));
        owner.send(json!({"type": "req", "id": id, "method": "chat.send", "params": say("s", " Stop! ")})).await;
        let mut aborted = Vec::new();
        let answer = loop {
            let frame = owner.any().await;
            if frame["type"] == "res" {
                break frame["payload"].clone();
            }
            if frame["payload"]["state"] == "aborted" {
                let payload = &frame["payload"];
                aborted.push((
                    payload["runId"].clone(),
                    payload["stopReason"].clone(),
                    payload["message"]["content"][0]["text"].clone(),
                ));
            }
        };
        assert_eq!(answer, json!({"ok": true, "aborted": true, "runIds": ["r1", "r2"]}));
        // The one that waited goes first, so that it never begins.
        let expected = [(json!("r2"), json!("stop"), Value::Null), (json!("r1"), json!("stop"), json!("Half of"))];
        assert_eq!(aborted, expected);
        let again = owner.call("chat.abort", json!({"sessionKey": "main"})).await["payload"].clone();
        assert_eq!(again, none);
        assert_eq!(server.runs.requests().len(), 3, "what says stop is no message");
    }
}

#[tokio::test]
async fn an_end_finds_the_run_that_was_asked_for_right_before_it() {
    let server = start(with_token()).await;
    let mut client = server.connect(4, &["operator.write"]).await;
    let agent = json!({"message": "hello", "idempotencyKey": "k2"});
    for (method, params, run_id) in [("chat.send", say("k1", "hello"), "k1"), ("agent", agent, "k2")] {
        let frames = [(method, params), ("chat.abort", json!({"sessionKey": "main"}))];
        let frames =
            frames.map(|(method, params)| json!({"type": "req", "id": method, "method": method, "params": params}));
        for frame in &frames {
            client.feed(Message::text(frame.to_string())).await.unwrap();
        }
        client.socket.flush().await.unwrap();
        let aborted = loop {
            let frame = client.any().await;
            if frame["id"] == "chat.abort" {
                break frame["payload"].clone();
            }
        };
        assert_eq!(aborted, json!({"ok": true, "aborted": true, "runIds": [run_id]}));
    }
}

#[tokio::test]
async fn a_device_may_end_its_runs_over_another_connection() {
    let server = start(with_token()).await;
    let phone = super::devices::Phone::new(140);
    let scopes = ["operator.write"];
    let token = json!({"token": TOKEN});
    let mut first = phone.knock(&server, &[], (4, "operator"), &scopes, token.clone()).await.0;
    let mut second = phone.knock(&server, &[], (4, "operator"), &scopes, token).await.0;
    sent(&mut first, "r1", "hello").await;
    drop(first);
    let ended = second.call("sessions.abort", json!({"runId": "r1"})).await["payload"].clone();
    assert_eq!(ended, json!({"ok": true, "abortedRunId": "r1", "status": "aborted"}));
}

#[tokio::test]
async fn the_turn_of_a_session_is_ended_with_or_without_what_waits_behind_it() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    let none = json!({"ok": true, "abortedRunId": null, "status": "no-active-run"});
    assert_eq!(writer.call("sessions.abort", json!({"key": "main"})).await["payload"], none);
    assert_eq!(writer.call("sessions.abort", json!({"runId": "nope"})).await["payload"], none);
    assert_invalid(&writer.call("sessions.abort", json!({})).await, "key or runId required");
    for run_id in ["r1", "r2", "r3"] {
        sent(&mut writer, run_id, "hello").await;
    }
    server.runs.starts("r1");
    let elsewhere = json!({"key": "other", "runId": "r1"});
    assert_eq!(writer.call("sessions.abort", elsewhere).await["payload"], none);
    let first = writer.call("sessions.abort", json!({"key": "main"})).await["payload"].clone();
    assert_eq!(first, json!({"ok": true, "abortedRunId": "r1", "status": "aborted"}));
    let rest = writer.call("sessions.abort", json!({"key": "main", "clearQueued": true})).await["payload"].clone();
    assert_eq!(rest["abortedRunId"], "r2");
    assert_eq!(writer.call("sessions.abort", json!({"key": "main"})).await["payload"], none);
}

fn refusal() -> Failure {
    let mut failure = Failure::new("auth-required", "The key for fake was refused.");
    failure.extra = Some(json!({"provider": "fake", "status": 401, "errorType": "authentication_error"}));
    failure.hint("leanclaw provider set-key fake").hint("another hint")
}

#[tokio::test]
async fn a_failure_is_told_with_what_to_do_about_it() {
    let server = start(with_token()).await;
    let mut v3 = server.connect(3, &["operator.write"]).await;
    let mut v4 = server.connect(4, &["operator.write"]).await;
    sent(&mut v3, "r1", "hello").await;
    server.runs.starts("r1");
    server.runs.ends("r1", RunOutcome::Failed { failure: refusal() }, "");
    let words = "The key for fake was refused.\nleanclaw provider set-key fake";
    let final_text = format!("2 chat final ⚠️ Agent failed before reply: {words}");
    assert_eq!(story(&mut v3).await, ["1 lifecycle start", "2 lifecycle error", &final_text]);
    let error = loop {
        let (name, payload) = told(&mut v4).await;
        if name == "chat" {
            break payload;
        }
        if payload["data"]["phase"] == "error" {
            assert_eq!(payload["data"]["error"], words, "{payload}");
        }
    };
    let expected = json!({
        "runId": "r1", "sessionKey": KEY, "seq": 2, "state": "error", "agentId": "main", "errorMessage": words,
        "errorKind": "unknown",
        "errorDetail": {
            "provider": "fake", "model": "echo", "providerErrorType": "authentication_error", "httpStatus": 401,
            "providerErrorMessagePreview": "The key for fake was refused.",
        },
    });
    assert_eq!(error, expected);
    // Who sends it again is told as well: version 4 in both ways at once.
    assert_eq!(v3.call("chat.send", say("r1", "hello")).await["payload"], json!({"runId": "r1", "status": "error"}));
    let again = v4.call("chat.send", say("r1", "hello")).await;
    let text = format!("⚠️ Agent failed before reply: {words}");
    assert_eq!((&again["ok"], &again["error"]), (&json!(false), &json!({"code": "UNAVAILABLE", "message": text})));
    assert_eq!(again["payload"], json!({"runId": "r1", "status": "error", "summary": text}));
    for (code, extra, kind) in [
        ("rate-limited", Value::Null, "rate_limit"),
        ("timed-out", Value::Null, "timeout"),
        ("too-large", Value::Null, "context_length"),
        ("denied", json!({"errorType": "refusal"}), "refusal"),
    ] {
        sent(&mut v3, code, "hello").await;
        let failure = Failure { extra: Some(extra), ..Failure::new(code, "No.") };
        server.runs.ends(code, RunOutcome::Failed { failure }, "");
        let error = loop {
            let payload = v4.event("chat").await["payload"].clone();
            if payload["runId"] == code {
                break payload;
            }
        };
        assert_eq!((&error["errorKind"], error.get("errorDetail")), (&json!(kind), None), "{error}");
    }
}

#[tokio::test]
async fn a_conversation_begins_anew_once_and_what_went_on_in_it_ends() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    let denied = writer.call("chat.send", say("n1", "/new")).await;
    assert_eq!(denied["error"]["details"]["missingScope"], "operator.admin");
    sent(&mut writer, "r1", "hello").await;
    server.runs.starts("r1");
    let mut admin = server.admin().await;
    let begun = admin.call("chat.send", say("n1", "/new")).await["payload"].clone();
    assert_eq!(begun, json!({"runId": "n1", "status": "started"}));
    let ended = story(&mut writer).await;
    assert_eq!(ended.last().unwrap(), "1 chat aborted -", "{ended:?}");
    let said = loop {
        let payload = writer.event("chat").await["payload"].clone();
        if payload["runId"] == "n1" {
            break payload;
        }
    };
    assert_eq!((&said["seq"], &said["message"]["model"]), (&json!(1), &json!("gateway-injected")), "{said}");
    let history = json!({"sessionKey": "main"});
    assert_eq!(writer.call("chat.history", history.clone()).await["payload"]["messages"], json!([]));
    // What is said in it at once is a run; who says it again takes nothing away.
    for _ in 0..2 {
        let begun = admin.call("chat.send", say("n2", "/reset now this")).await["payload"].clone();
        assert_eq!(begun, json!({"runId": "n2", "status": "started"}));
    }
    assert_eq!(server.runs.requests().last().unwrap().message, "now this");
    assert_eq!(writer.call("chat.history", history).await["payload"]["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_goes_on_ends_when_its_session_is_reset_shortened_or_deleted() {
    let server = start(with_token()).await;
    let mut admin = server.admin().await;
    for (number, (method, more)) in [
        ("sessions.reset", json!({})),
        ("sessions.compact", json!({"maxLines": 1})),
        ("sessions.delete", json!({"expectedSessionId": "another"})),
        ("sessions.delete", json!({})),
    ]
    .into_iter()
    .enumerate()
    {
        let run_id = format!("r{number}");
        for run_id in [&run_id, &format!("{run_id}b")] {
            let send = json!({"sessionKey": "notes", "message": "hello", "idempotencyKey": run_id});
            assert_eq!(admin.call("chat.send", send).await["payload"]["status"], "started");
        }
        server.runs.starts(&run_id);
        let mut params = json!({"key": "notes"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let changed = admin.call(method, params).await;
        let active = crate::Runs::active(&*server.runs, "agent:main:notes").len();
        if changed["ok"] == true {
            assert_eq!(active, 0, "{method} {more}");
        } else {
            assert_eq!(active, 2, "nothing ends for a session that stays: {changed}");
        }
    }
}
