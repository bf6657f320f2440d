//! Runs that are ended before their time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use leanclaw_gateway::Runs as _;
use leanclaw_types::run::{AbortReason, RunOutcome, RunState};

use super::support::{FakeAgent, KEY, echo, eventually, request, script, setup};

const BY_RPC: RunOutcome = RunOutcome::Aborted { by: AbortReason::Rpc };

#[tokio::test]
async fn a_run_that_is_stopped_stops_its_model_call_and_keeps_what_was_said() {
    // It shows words, waits for the model, and says nothing more: neither that it was stopped, nor what there was.
    let setup = setup(script(async |mut agent: FakeAgent| {
        agent.open().await;
        agent.show("half an ans").await;
        let _ = agent.model().await;
        std::future::pending::<()>().await;
    }))
    .await;
    setup.model.gate.forget_permits(1000);
    setup.agents.start(request("r", KEY, "hi")).await.unwrap();
    eventually("the model is asked", || setup.model.going_on.load(Ordering::SeqCst) == 1).await;
    let stopped = tokio::spawn({
        let agents = setup.agents.clone();
        async move { agents.abort("r", AbortReason::Rpc).await }
    });
    eventually("the call ends", || setup.model.going_on.load(Ordering::SeqCst) == 0).await;
    assert!(stopped.await.unwrap());
    let end = setup.agents.wait("r").await;
    assert_eq!((&end.outcome, end.text.as_str()), (&BY_RPC, "half an ans"));
    assert_eq!(setup.said(KEY).await.last().unwrap().1, "half an ans");
    assert_eq!(setup.seen.words("r").last().unwrap(), "ended Aborte");
    assert!(!setup.agents.abort("r", AbortReason::Rpc).await, "it has ended");
    assert_eq!(setup.store.session(KEY).unwrap().unwrap().entry["abortedLastRun"], true);
}

#[tokio::test]
async fn a_run_that_waits_is_taken_out_of_its_line_at_once() {
    let setup = setup(echo()).await;
    setup.model.gate.forget_permits(1000);
    for run in ["r1", "r2", "r3"] {
        setup.agents.start(request(run, KEY, run)).await.unwrap();
    }
    assert!(setup.agents.abort("r2", AbortReason::Stop).await);
    let end = setup.agents.wait("r2").await;
    assert_eq!((end.outcome, end.started_ms), (RunOutcome::Aborted { by: AbortReason::Stop }, None));
    setup.model.gate.add_permits(1000);
    for run in ["r1", "r3"] {
        assert_eq!(setup.agents.wait(run).await.outcome, RunOutcome::Done);
    }
    assert_eq!(setup.started.load(Ordering::SeqCst), 2);
    assert_eq!(setup.seen.words("r2"), ["said user", "ended Aborte"]);
}

/// Whoever asked for an end may be gone before it is stored.
#[tokio::test]
async fn an_abort_that_nobody_waits_for_is_carried_out() {
    let setup = setup(echo()).await;
    setup.model.gate.forget_permits(1000);
    for run in ["r1", "r2", "r3"] {
        setup.agents.start(request(run, KEY, run)).await.unwrap();
    }
    {
        let mut aborting = std::pin::pin!(setup.agents.abort("r2", AbortReason::Rpc));
        assert!(futures_util::poll!(&mut aborting).is_pending());
    }
    setup.model.gate.add_permits(1000);
    assert_eq!(setup.agents.wait("r2").await.outcome, BY_RPC);
    assert_eq!(setup.agents.wait("r3").await.outcome, RunOutcome::Done, "its line goes on");
}

/// An agent that was told to stop may say what there was, and nothing else.
#[tokio::test]
async fn a_stopped_agent_has_no_model_and_no_tools_any_more() {
    let setup = setup(script(async |mut agent: FakeAgent| {
        agent.open().await;
        let uses = serde_json::json!([{"type": "toolUse", "id": "1", "name": "p_say", "input": {}}]);
        agent.record("assistant", uses).await.unwrap();
        while agent.line().await.is_some_and(|line| line["method"] != "session/cancel") {}
        let call = serde_json::json!({"sessionId": "s", "toolCallId": "1", "name": "p_say", "input": {}});
        let refused = agent.ask("_leanclaw/tool/call", call).await.unwrap_err();
        let model = agent.model().await.unwrap_err();
        let said = format!("{} {}", refused["message"], model["message"]);
        agent.record("assistant", serde_json::json!([{"type": "text", "text": said}])).await.unwrap();
        agent.end("cancelled").await;
    }))
    .await;
    setup.agents.start(request("r", KEY, "hi")).await.unwrap();
    eventually("it has begun", || setup.seen.words("r").contains(&"said assistant".to_owned())).await;
    assert!(setup.agents.abort("r", AbortReason::Rpc).await);
    let end = setup.agents.wait("r").await;
    assert_eq!(end.text.matches("The run was stopped.").count(), 2, "{end:?}");
    assert!(setup.tools.0.lock().unwrap().is_empty() && setup.model.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_ended_and_the_next_one_has_its_turn() {
    let setup = setup(echo()).await;
    setup.model.gate.forget_permits(1000);
    let mut slow = request("r1", KEY, "slow");
    slow.timeout_ms = Some(50);
    setup.agents.start(slow).await.unwrap();
    setup.agents.start(request("r2", KEY, "next")).await.unwrap();
    let end = setup.agents.wait("r1").await;
    assert_eq!(end.outcome, RunOutcome::Aborted { by: AbortReason::Timeout });
    setup.model.gate.add_permits(1000);
    assert_eq!(setup.agents.wait("r2").await.text, "You said: next");
}

#[tokio::test]
async fn a_stopping_program_lets_go_of_its_runs_and_finds_them_again() {
    let first = setup(echo()).await;
    first.model.gate.forget_permits(1000);
    first.agents.start(request("r1", KEY, "one")).await.unwrap();
    first.agents.start(request("r2", KEY, "two")).await.unwrap();
    eventually("it goes on", || first.model.going_on.load(Ordering::SeqCst) == 1).await;
    tokio::time::timeout(Duration::from_secs(5), first.agents.close()).await.unwrap();
    assert!(first.agents.start(request("r3", KEY, "three")).await.unwrap_err().message.contains("stopping"));
    assert_eq!(first.store.run("r1").unwrap().unwrap().state, RunState::Running);
    let second = super::support::setup_on(echo(), first.store.clone(), first.folder.clone(), &super::support::config());
    second.agents.resume().await;
    for (run, text) in [("r1", "You said: one"), ("r2", "You said: two")] {
        assert_eq!(second.agents.wait(run).await.text, text);
    }
}
