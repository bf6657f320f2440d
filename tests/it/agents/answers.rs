//! What comes back: to the client that asked, to those who look on, and to whoever comes later.

use serde_json::{Value, json};

use super::{Setup, workspace};
use crate::support::{Client, Connect, text};

const ANSWER: &str = "You want to buy milk and ship on Friday.";

/// The `chat` events of a run up to its end.
pub(super) async fn until_end(client: &mut Client, run: &str) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let event = client.event("chat").await;
        if event["runId"] != run {
            continue;
        }
        let is_end = matches!(event["state"].as_str(), Some("final" | "aborted" | "error"));
        events.push(event);
        if is_end {
            return events;
        }
    }
}

fn send(message: &str, run: &str) -> Value {
    json!({"sessionKey": "main", "message": message, "idempotencyKey": run})
}

fn said(message: &Value) -> String {
    let parts = message["content"].as_array().cloned().unwrap_or_default();
    parts.iter().filter_map(|part| part["text"].as_str()).collect()
}

#[tokio::test]
async fn an_agent_looks_at_files_and_answers_everybody_who_listens() {
    let setup = Setup::start().await;
    let mut client = setup.program.client().await;
    let mut old = Connect { protocols: (3, 3), ..Connect::default() }.to(setup.program.address).await.unwrap();
    let started = client.ok("chat.send", send("summarise the files in this folder", "run-1")).await;
    assert_eq!((&started["runId"], &started["status"]), (&json!("run-1"), &json!("started")), "{started}");
    for client in [&mut client, &mut old] {
        let events = until_end(client, "run-1").await;
        let last = events.last().unwrap();
        assert_eq!((&last["state"], said(&last["message"]).as_str()), (&json!("final"), ANSWER), "{events:?}");
        assert!(events.iter().any(|event| event["state"] == "delta"), "{events:?}");
        assert_eq!(last["sessionKey"], "agent:main:main");
    }
    let history = client.ok("chat.history", json!({"sessionKey": "main"})).await;
    let roles: Vec<&str> = history["messages"].as_array().unwrap().iter().map(|one| text(&one["role"])).collect();
    let expected = ["user", "assistant", "toolResult", "assistant", "toolResult", "toolResult", "assistant"];
    assert_eq!(roles, expected, "{history}");
    assert_eq!(said(&history["messages"][6]), ANSWER);
    assert_eq!(old.ok("chat.history", json!({"sessionKey": "main"})).await["messages"].as_array().unwrap().len(), 7);
    // The model is asked with the host's key, and the agent knows neither that nor where the model is.
    let asked = setup.model.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|one| one.header("x-api-key") == Some(super::model::KEY)));
    assert!(asked[0].json()["system"].to_string().contains("LeanClaw"), "{}", asked[0].text());
    let row = &client.ok("sessions.list", json!({})).await["sessions"][0];
    assert_eq!((&row["inputTokens"], &row["outputTokens"]), (&json!(10), &json!(15)), "the last call read 10: {row}");
    setup.program.stop().await;
}

#[tokio::test]
async fn the_command_line_shows_the_answer_and_the_conversation_goes_on() {
    let setup = Setup::start().await;
    let first = setup.place.run(&["chat", "summarise the files in this folder"]).await;
    assert!(first.out.contains(ANSWER), "{first:?}");
    let second = setup.place.run(&["chat", "thanks"]).await.ok();
    assert!(second.contains("You said: thanks"), "{second}");
    let told = setup.model.asked().last().unwrap().json();
    assert_eq!(told["messages"].as_array().unwrap().len(), 7, "it is told what was said before: {told}");
    let failed = setup.place.run(&["chat", "fail"]).await;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(failed.err.contains("out for lunch"), "{failed:?}");
    setup.program.stop().await;
}

#[tokio::test]
async fn the_agent_method_answers_twice_and_the_wait_hears_of_the_end() {
    let setup = Setup::start().await;
    let mut client = setup.program.client().await;
    let params = json!({"message": "hello", "sessionKey": "main", "idempotencyKey": "run-2"});
    let id = client.send("agent", params).await;
    let accepted = client.answer(&id).await.unwrap();
    assert_eq!(accepted["status"], "accepted", "{accepted}");
    let mut other = setup.program.client().await;
    let waited = other.ok("agent.wait", json!({"runId": "run-2", "timeoutMs": 30_000})).await;
    assert_eq!(waited["status"], "ok", "{waited}");
    let done = client.answer(&id).await.unwrap();
    assert_eq!(done["result"]["payloads"][0]["text"], "You said: hello", "{done}");
    // The same again is the same run.
    let again =
        other.ok("chat.send", json!({"sessionKey": "main", "message": "hello", "idempotencyKey": "run-2"})).await;
    assert_eq!(again["status"], "ok", "{again}");
    assert_eq!(setup.model.asked().len(), 1);
    setup.program.stop().await;
}

#[tokio::test]
async fn an_agent_writes_into_its_own_workspace_only() {
    let setup = Setup::start().await;
    let outside = setup.place.work().join("outside.txt");
    std::fs::write(&outside, "not yours\n").unwrap();
    std::os::unix::fs::symlink(&outside, workspace(&setup.place).join("link.txt")).unwrap();
    let mut client = setup.program.client().await;
    client.ok("chat.send", send("the link", "run-3")).await;
    let answer = said(&until_end(&mut client, "run-3").await.last().unwrap()["message"]);
    assert!(!answer.contains("not yours"), "{answer}");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "not yours\n");
    assert!(!setup.place.data().join("agents/escaped.txt").exists());
    assert_eq!(std::fs::read_to_string(workspace(&setup.place).join("own.txt")).unwrap(), "kept", "{answer}");
    setup.program.stop().await;
}

/// As large as a picture may be: it goes to the model, also when the next message is answered.
#[tokio::test]
async fn a_large_picture_reaches_the_model_and_is_no_obstacle_for_what_follows() {
    let setup = Setup::start().await;
    let mut client = setup.program.client().await;
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.resize(4_900_000, 7);
    let picture = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let mut asked = send("look", "run-4");
    asked["attachments"] = json!([{"type": "image", "mimeType": "image/png", "content": picture}]);
    client.ok("chat.send", asked).await;
    assert_eq!(until_end(&mut client, "run-4").await.last().unwrap()["state"], "final");
    assert!(setup.model.asked()[0].text().contains(&picture));
    client.ok("chat.send", send("and now?", "run-5")).await;
    assert_eq!(said(&until_end(&mut client, "run-5").await.last().unwrap()["message"]), "You said: and now?");
    setup.program.stop().await;
}

#[tokio::test]
async fn a_server_on_this_machine_answers_without_a_key() {
    let (place, server) = (crate::support::Place::empty(), super::model::local().await);
    place.add_compiled(super::compiled().await);
    let (url, component) = (server.url(), super::component());
    let program = place
        .start_with(move |command| {
            command.env("LEANCLAW_LOCAL_LLM_BASE_URL", url).env("LEANCLAW_LOCAL_LLM_MODEL", "small-1");
            command.env("LEANCLAW_AGENT", component);
        })
        .await;
    let answer = place.run(&["chat", "hello"]).await.ok();
    assert!(answer.contains("Locally: hello"), "{answer}");
    program.stop().await;
}

#[tokio::test]
async fn models_are_listed_as_their_provider_names_them() {
    let setup = Setup::start().await;
    let mut client = setup.program.client().await;
    let models = crate::support::eventually("the models are known", async || {
        let listed = client.ok("models.list", json!({})).await;
        listed["models"].as_array().filter(|models| !models.is_empty()).cloned()
    })
    .await;
    assert_eq!((&models[0]["id"], &models[0]["provider"]), (&json!("claude-test-1"), &json!("anthropic")));
    setup.program.stop().await;
}
