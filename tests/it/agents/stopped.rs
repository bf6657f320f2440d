//! Runs that do not come to their end by themselves.

use serde_json::json;

use super::answers::until_end;
use super::{Setup, start};
use crate::support::{eventually, request};

#[tokio::test]
async fn an_abort_ends_the_call_of_the_model_and_keeps_what_was_said() {
    let setup = Setup::start().await;
    let mut client = setup.program.client().await;
    client.ok("chat.send", json!({"sessionKey": "main", "message": "ponder", "idempotencyKey": "run-1"})).await;
    let delta = client.event("chat").await;
    assert_eq!(delta["state"], "delta", "{delta}");
    let aborted = client.ok("chat.abort", json!({"sessionKey": "main", "runId": "run-1"})).await;
    assert_eq!((&aborted["aborted"], &aborted["runIds"]), (&json!(true), &json!(["run-1"])), "{aborted}");
    setup.model.until_asked(|asked| asked.iter().any(|one| one.disconnected)).await;
    let history = client.ok("chat.history", json!({"sessionKey": "main"})).await;
    let last = history["messages"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["role"], &last["stopReason"]), (&json!("assistant"), &json!("aborted")), "{history}");
    assert_eq!(last["content"][0]["text"], "I am about to", "{last}");
    setup.program.stop().await;
}

#[tokio::test]
async fn a_kill_in_the_midst_of_a_turn_loses_nothing_and_does_nothing_twice() {
    let setup = Setup::start().await;
    let mut client = setup.program.client().await;
    client.ok("chat.send", json!({"sessionKey": "main", "message": "ponder", "idempotencyKey": "run-1"})).await;
    client.ok("chat.send", json!({"sessionKey": "main", "message": "and then", "idempotencyKey": "run-2"})).await;
    setup.model.until_asked(|asked| asked.len() == 1).await;
    setup.program.kill().await;
    let program = start(&setup.place, &setup.model).await;
    // The first had left nothing behind, so it is asked again; the second has its turn when that is over.
    setup.model.until_asked(|asked| asked.len() == 2).await;
    let mut client = program.client().await;
    eventually("it can be ended", async || {
        let aborted = client.ok("chat.abort", json!({"sessionKey": "main", "runId": "run-1"})).await;
        (aborted["aborted"] == true).then_some(())
    })
    .await;
    let waited = client.ok("agent.wait", json!({"runId": "run-2", "timeoutMs": 30_000})).await;
    assert_eq!(waited["status"], "ok", "{waited}");
    let history = client.ok("chat.history", json!({"sessionKey": "main"})).await;
    let asked = history["messages"].as_array().unwrap().iter().filter(|one| one["role"] == "user").count();
    assert_eq!(asked, 2, "{history}");
    program.stop().await;
}

#[tokio::test]
async fn without_a_key_the_answer_says_what_to_set() {
    let place = crate::support::Place::empty();
    let program = place.start().await;
    let mut client = program.client().await;
    client.ok("chat.send", json!({"sessionKey": "main", "message": "hi", "idempotencyKey": "run-1"})).await;
    let events = until_end(&mut client, "run-1").await;
    let last = events.last().unwrap();
    assert_eq!(last["state"], "error", "{events:?}");
    assert!(last.to_string().contains("LEANCLAW_ANTHROPIC_API_KEY"), "{last}");
    program.stop().await;
}

#[tokio::test]
async fn without_the_agents_component_the_program_says_that_it_is_not_ready() {
    let place = crate::support::Place::empty();
    let model = super::model::Model::start().await;
    let mut starting = place.starting_with(|command| {
        command.env("LEANCLAW_ANTHROPIC_API_KEY", super::model::KEY).env("LEANCLAW_ANTHROPIC_BASE_URL", model.url());
        command.env("LEANCLAW_AGENT", "/nowhere/agent.wasm");
    });
    let address = starting.listening().await;
    let told = eventually("it says so", async || {
        let response = request(address, "GET", "/ready", &[], b"").await;
        (response.status == 503 && response.text().contains("agents cannot run")).then(|| response.text())
    })
    .await;
    assert!(told.contains("leanclaw-agent.wasm") && !told.contains("/nowhere"), "{told}");
}
