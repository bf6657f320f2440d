//! `agent` and `agent.wait`, and messages into sessions: how a run is taken on, and how its end is told.

use std::sync::Arc;

use leanclaw_types::Failure;
use leanclaw_types::run::{AbortReason, RunOutcome};
use serde_json::{Value, json};

use super::chat::{KEY, sent};
use super::fake_runs::BEGIN_MS;
use super::{Client, assert_invalid, start, start_with, with_token};

/// Asks for a run and reads that it was taken on; what is left is the answer that follows under the same id.
async fn ask(client: &mut Client, params: Value) -> Value {
    client.next_id += 1;
    let id = json!(format!("r{}", client.next_id));
    client.send(json!({"type": "req", "id": id, "method": "agent", "params": params})).await;
    let first = client.response(&id).await;
    assert_eq!((&first["ok"], &first["payload"]["status"]), (&json!(true), &json!("accepted")), "{first}");
    id
}

fn message(run_id: &str) -> Value {
    json!({"message": "hello", "idempotencyKey": run_id})
}

#[tokio::test]
async fn a_run_is_answered_when_it_is_taken_on_and_when_it_has_ended() {
    let server = start(with_token()).await;
    for version in [3, 4] {
        let mut client = server.connect(version, &["operator.write"]).await;
        let run_id = format!("a{version}");
        let id = ask(&mut client, message(&run_id)).await;
        server.runs.starts(&run_id);
        server.runs.pass_ms(40);
        server.runs.ends(&run_id, RunOutcome::Done, "Hi.");
        let done = client.response(&id).await["payload"].clone();
        let meta = &done["result"]["meta"];
        let expected = json!({
            "runId": run_id, "status": "ok", "summary": "completed",
            "result": {
                "payloads": [{"text": "Hi.", "mediaUrl": null}],
                "meta": {
                    "durationMs": 40, "aborted": false, "stopReason": "stop",
                    "agentMeta": {
                        "sessionId": meta["agentMeta"]["sessionId"], "provider": "fake", "model": "echo",
                        "usage": {"input": 10, "output": 5, "cacheRead": 0, "cacheWrite": 0, "total": 15},
                    },
                },
            },
        });
        assert_eq!(done, expected);
        // What is over is answered once.
        assert_eq!(client.call("agent", message(&run_id)).await["payload"], done);
    }
    let mut client = server.connect(4, &["operator.write"]).await;
    let id = ask(&mut client, message("silent")).await;
    server.runs.answers("silent", "NO_REPLY");
    assert_eq!(client.response(&id).await["payload"]["result"]["payloads"], json!([]));
    for (run_id, by, told) in [
        ("stopped", AbortReason::Rpc, ("ok", "aborted", "rpc")),
        ("slow", AbortReason::Timeout, ("timeout", "timed out", "timeout")),
    ] {
        let id = ask(&mut client, message(run_id)).await;
        server.runs.starts(run_id);
        server.runs.ends(run_id, RunOutcome::Aborted { by }, "Half");
        let done = client.response(&id).await["payload"].clone();
        let meta = &done["result"]["meta"];
        let is = (&done["status"], &done["summary"], &meta["stopReason"]);
        assert_eq!(is, (&json!(told.0), &json!(told.1), &json!(told.2)), "{done}");
        assert_eq!((&meta["aborted"], &done["result"]["payloads"][0]["text"]), (&json!(true), &json!("Half")));
    }
    let id = ask(&mut client, message("broken")).await;
    let failure = Failure::unavailable("The provider is away.").hint("Try again later.");
    server.runs.ends("broken", RunOutcome::Failed { failure }, "");
    let failed = client.response(&id).await["error"].clone();
    assert_eq!((&failed["code"], &failed["retryable"]), (&json!("UNAVAILABLE"), &json!(true)), "{failed}");
    assert_eq!(failed["message"], "The provider is away.\nTry again later.");
    // Twice at once: both hear of the same run.
    let first = ask(&mut client, message("both")).await;
    let mut other = server.connect(3, &["operator.write"]).await;
    let second = ask(&mut other, message("both")).await;
    server.runs.answers("both", "One.");
    let (first, second) = (client.response(&first).await, other.response(&second).await);
    assert_eq!(first["payload"], second["payload"]);
    assert_eq!(server.runs.requests().iter().filter(|request| request.run_id == "both").count(), 1);
}

#[tokio::test]
async fn the_session_of_a_run_is_the_one_that_is_meant_and_outlives_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let agents = folder.path().to_owned();
    let server = start_with(with_token(), Arc::default(), |services| services.agents_dir = Some(agents)).await;
    let mut admin = server.admin().await;
    assert_eq!(admin.call("agents.create", json!({"name": "Desk"})).await["ok"], true);
    let known = admin.call("sessions.create", json!({"key": "agent:desk:notes"})).await["payload"]["sessionId"].clone();
    for (number, (more, key)) in [
        (json!({}), KEY),
        (json!({"to": "+15551234"}), KEY),
        (json!({"agentId": "desk"}), "agent:desk:main"),
        (json!({"agentId": "desk", "sessionKey": "x"}), "agent:desk:x"),
        (json!({"sessionKey": "agent:desk:y"}), "agent:desk:y"),
        (json!({"sessionId": known}), "agent:desk:notes"),
        (json!({"sessionId": "abc"}), "agent:main:explicit:abc"),
        (json!({"sessionId": "abc", "sessionKey": " "}), "agent:main:explicit:abc"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut params = message(&format!("a{number}"));
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (params["timeout"], params["extraSystemPrompt"]) = (json!(2), json!("Be brief."));
        ask(&mut admin, params).await;
        let request = server.runs.requests().pop().unwrap();
        assert_eq!(request.session_key, key, "{more}");
        assert_eq!((request.timeout_ms, request.system.as_str()), (Some(2000), "Be brief."));
    }
    assert_invalid(
        &admin.call("agent", json!({"message": "x", "idempotencyKey": "k", "agentId": "nope"})).await,
        "invalid agent params: unknown agent id \"nope\"",
    );
    let mut old = server.connect(3, &["operator.write"]).await;
    assert_invalid(
        &old.call("agent", json!({"message": "x"})).await,
        "invalid agent params: must have required property 'idempotencyKey'",
    );
    let reset = old.call("agent", json!({"message": "/new", "idempotencyKey": "k"})).await;
    assert_invalid(&reset, "missing scope: operator.admin");
    let mut reader = server.connect(4, &["operator.read"]).await;
    let denied = reader.call("agent", json!({"message": "x", "idempotencyKey": "k"})).await;
    assert_eq!(denied["error"]["details"]["missingScope"], "operator.write");
    // Another connection, as those who wait for the runs that end are told so.
    let mut other = server.admin().await;
    let id = ask(&mut other, json!({"message": "/new", "idempotencyKey": "new"})).await;
    let begun = other.response(&id).await["payload"].clone();
    assert_eq!(begun["result"]["payloads"][0]["text"], "A new conversation has begun.");
    ask(&mut other, json!({"message": "/new and then", "idempotencyKey": "more"})).await;
    ask(&mut other, json!({"message": "/new and then", "idempotencyKey": "more"})).await;
    let server = server.again(with_token()).await;
    let mut reader = server.connect(4, &["operator.read"]).await;
    for (key, texts) in [("main", json!("and then")), ("agent:desk:notes", json!("hello"))] {
        let history = reader.call("chat.history", json!({"sessionKey": key})).await["payload"]["messages"].clone();
        assert_eq!((&history[0]["content"][0]["text"], history.as_array().unwrap().len()), (&texts, 1), "{key}");
    }
}

#[tokio::test]
async fn whoever_waits_for_a_run_is_told_how_it_ended() {
    let server = start(with_token()).await;
    for version in [3, 4] {
        let mut client = server.connect(version, &["operator.write"]).await;
        let wait = |run_id: &str, timeout_ms: u64| json!({"runId": run_id, "timeoutMs": timeout_ms});
        let gone = client.call("agent.wait", wait("nope", 1)).await["payload"].clone();
        assert_eq!(gone, json!({"runId": "nope", "status": "timeout"}));
        let [good, cut, bad] = ["good", "cut", "bad"].map(|name| format!("{name}{version}"));
        for run_id in [&good, &cut, &bad] {
            sent(&mut client, run_id, "hello").await;
        }
        client.send(json!({"type": "req", "id": "w", "method": "agent.wait", "params": {"runId": good}})).await;
        server.runs.answers(&good, "Hi.");
        let told = client.response(&json!("w")).await["payload"].clone();
        assert_eq!(
            (&told["status"], &told["startedAt"], &told["endedAt"]),
            (&json!("ok"), &json!(BEGIN_MS), &json!(BEGIN_MS))
        );
        let reply = json!({"disposition": "visible", "text": "Hi."});
        assert_eq!(told.get("terminalReply"), (version == 4).then_some(&reply), "{told}");
        server.runs.ends(&cut, RunOutcome::Aborted { by: AbortReason::Rpc }, "");
        let told = client.call("agent.wait", wait(&cut, 1000)).await["payload"].clone();
        assert_eq!((&told["status"], told.get("startedAt")), (&json!("timeout"), None), "{told}");
        let failure = Failure::internal("It broke.").hint("See the log.");
        server.runs.ends(&bad, RunOutcome::Failed { failure }, "");
        let told = client.call("agent.wait", wait(&bad, 1000)).await["payload"].clone();
        assert_eq!((&told["status"], &told["error"]), (&json!("error"), &json!("It broke.\nSee the log.")));
    }
}

#[tokio::test]
async fn two_messages_into_a_session_are_two_runs_in_their_order() {
    let server = start(with_token()).await;
    let mut writer = server.connect(4, &["operator.write"]).await;
    let first = json!({"key": "main", "message": "one", "idempotencyKey": "k1"});
    let taken = writer.call("sessions.send", first.clone()).await["payload"].clone();
    assert_eq!(
        (&taken["status"], &taken["runStarted"], taken.get("runError")),
        (&json!("started"), &json!(true), None)
    );
    assert_eq!(writer.call("sessions.send", json!({"key": "main", "message": "two"})).await["ok"], true);
    let active = crate::Runs::active(&*server.runs, KEY);
    assert_eq!(active.len(), 2, "{active:?}");
    assert_eq!(writer.call("sessions.send", first.clone()).await["payload"]["status"], "in_flight");
    server.runs.ends("k1", RunOutcome::Failed { failure: Failure::internal("It broke.") }, "");
    let failed = writer.call("sessions.send", first).await["payload"].clone();
    assert_eq!((&failed["status"], &failed["messageId"]), (&json!("error"), &taken["messageId"]), "{failed}");
    assert_eq!(failed["runError"], json!({"code": "UNAVAILABLE", "message": "It broke."}));
    // A session may be made with something to answer.
    let create = json!({"key": "made", "message": "three", "idempotencyKey": "c"});
    let made = writer.call("sessions.create", create.clone()).await["payload"].clone();
    assert_eq!((&made["runStarted"], &made["status"]), (&json!(true), &json!("started")), "{made}");
    assert_eq!(writer.call("sessions.create", create).await["payload"]["runId"], made["runId"]);
    assert_eq!(server.runs.requests().len(), 3);
    *server.runs.refusal.lock().unwrap() = Some(Failure::unavailable("Too much waits."));
    let made = writer.call("sessions.create", json!({"key": "full", "task": "four"})).await["payload"].clone();
    assert_eq!((&made["ok"], &made["runStarted"]), (&json!(true), &json!(false)), "{made}");
    assert_eq!(made["runError"]["message"], "Too much waits.");
}
