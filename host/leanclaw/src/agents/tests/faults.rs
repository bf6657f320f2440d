//! Agents that do not do what they should.

use std::sync::atomic::Ordering;

use leanclaw_gateway::Runs as _;
use leanclaw_types::Failure;
use leanclaw_types::run::{RunEnd, RunOutcome};
use serde_json::json;

use super::support::{FakeAgent, KEY, echo, eventually, request, script, setup, setup_on};

fn failure(end: &RunEnd) -> &Failure {
    match &end.outcome {
        RunOutcome::Failed { failure } => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_agent_that_dies_is_an_error_that_people_find_in_the_transcript() {
    let setup = setup(script(async |mut agent: FakeAgent| {
        agent.open().await;
        agent.show("I was about to").await;
    }))
    .await;
    setup.agents.start(request("r", KEY, "hi")).await.unwrap();
    let end = setup.agents.wait("r").await;
    assert!(failure(&end).message.contains("ended before its turn"), "{end:?}");
    let texts: Vec<String> = setup.said(KEY).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts[..2], ["hi", "I was about to"]);
    assert!(texts[2].contains("ended before its turn"), "{texts:?}");
}

#[tokio::test]
async fn the_model_is_the_hosts_to_choose() {
    let setup = setup(echo()).await;
    setup.agents.start(request("r", KEY, "hi")).await.unwrap();
    setup.agents.wait("r").await;
    let calls = setup.model.calls.lock().unwrap();
    assert_eq!((calls[0].model.as_str(), calls[0].max_tokens), ("model-1", 500), "whatever the agent named");
}

#[tokio::test]
async fn what_an_agent_makes_up_is_answered_or_passed_over() {
    let setup = setup(script(async |mut agent: FakeAgent| {
        agent.open().await;
        for line in [json!([1]), json!("x"), json!({}), json!({"method": 7}), json!({"id": 99, "result": {}})] {
            agent.say(line).await;
        }
        let unknown = agent.ask("_leanclaw/secrets/read", json!({})).await.unwrap_err();
        assert_eq!(unknown["code"], -32601);
        for method in ["_leanclaw/model/stream", "_leanclaw/tool/call", "_leanclaw/transcript/append"] {
            assert_eq!(agent.ask(method, json!({"sessionId": 1})).await.unwrap_err()["code"], -32602, "{method}");
        }
        let asked = agent.ask("session/request_permission", json!({})).await.unwrap();
        assert_eq!(asked, json!({"outcome": {"outcome": "cancelled"}}));
        agent.answer("still here").await;
    }))
    .await;
    setup.agents.start(request("r", KEY, "hi")).await.unwrap();
    assert_eq!(setup.agents.wait("r").await.text, "still here");
}

#[tokio::test]
async fn an_agent_that_floods_and_never_reads_holds_up_nobody_else() {
    let setup = setup(script(async |mut agent: FakeAgent| {
        if agent.open().await && agent.prompt == "flood" {
            // The id comes back, so that each answer is as long as the question.
            let id = "x".repeat(1_000_000);
            for _ in 0..100 {
                agent.say(json!({"jsonrpc": "2.0", "id": id, "method": "nothing", "params": {}})).await;
            }
            std::future::pending::<()>().await;
        } else {
            agent.answer("quick").await;
        }
    }))
    .await;
    setup.agents.start(request("r1", KEY, "flood")).await.unwrap();
    setup.agents.start(request("r2", "agent:main:b", "hi")).await.unwrap();
    assert_eq!(setup.agents.wait("r2").await.text, "quick");
    let end = setup.agents.wait("r1").await;
    assert!(failure(&end).message.contains("does not read the answers"), "{end:?}");
}

#[tokio::test]
async fn without_a_provider_a_run_says_what_to_set() {
    let first = setup(echo()).await;
    let means = setup_on(echo(), first.store.clone(), first.folder.clone(), &super::support::config());
    let agents = means.without_models();
    agents.start(request("r", KEY, "hi")).await.unwrap();
    let end = agents.wait("r").await;
    assert!(failure(&end).hints[0].contains("LEANCLAW_ANTHROPIC_API_KEY"), "{end:?}");
    assert!(agents.models().is_empty());
}

#[tokio::test]
async fn a_session_that_goes_away_takes_its_runs_with_it() {
    let (told, answers) = tokio::sync::mpsc::unbounded_channel();
    let setup = setup(script(move |mut agent: FakeAgent| {
        let told = told.clone();
        async move {
            agent.open().await;
            let _ = agent.model().await;
            let answer = agent.record("assistant", json!([{"type": "text", "text": "x"}])).await;
            told.send(answer).unwrap();
            agent.end("end_turn").await;
        }
    }))
    .await;
    let mut answers = answers;
    setup.model.gate.forget_permits(1000);
    setup.agents.start(request("r", KEY, "hi")).await.unwrap();
    eventually("the model is asked", || setup.model.going_on.load(Ordering::SeqCst) == 1).await;
    let remove = leanclaw_types::session::SessionChange::Remove { transcript: true };
    setup.store.change_session(KEY.to_owned(), Box::new(|_| remove)).await.unwrap();
    setup.model.gate.add_permits(1000);
    let answer = answers.recv().await.unwrap();
    assert!(answer.unwrap_err()["message"].as_str().unwrap().contains("session is gone"));
    eventually("its line is empty", || setup.agents.active(KEY).is_empty()).await;
    assert!(setup.store.run("r").unwrap().is_none());
    assert!(setup.seen.words("r").last().unwrap().starts_with("ended"), "whoever waits hears of it");
}
