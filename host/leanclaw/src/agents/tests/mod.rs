//! Runs from the request to their end, with an agent, a model and tools that do what each test says, on the real store.

mod after_a_crash;
mod faults;
mod stopping;
mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use leanclaw_gateway::Runs as _;
use leanclaw_types::run::{RunOutcome, RunState, RunTaken};
use serde_json::json;
use support::{FakeAgent, KEY, USAGE, echo, eventually, request, script, setup};

#[tokio::test]
async fn a_message_is_answered_stored_and_told() {
    let setup = setup(echo()).await;
    let taken = setup.agents.start(request("r", KEY, "hi")).await.unwrap();
    let RunTaken::New(message) = taken else { panic!("{taken:?}") };
    assert_eq!((message.role.as_str(), &message.body["content"][0]["text"]), ("user", &json!("hi")));
    let end = setup.agents.wait("r").await;
    assert_eq!((&end.outcome, end.text.as_str(), end.usage), (&RunOutcome::Done, "You said: hi", USAGE));
    assert_eq!((end.provider.as_deref(), end.model.as_deref()), (Some("fake"), Some("model-1-exactly")));
    assert_eq!(setup.seen.words("r"), ["said user", "started", "text You said: hi", "said assistant", "ended Done"]);
    let expected =
        [("user", "hi"), ("assistant", "You said: hi")].map(|(role, text)| (role.to_owned(), text.to_owned()));
    assert_eq!(setup.said(KEY).await, expected);
    // It is remembered by the store alone.
    assert!(setup.agents.active(KEY).is_empty());
    assert_eq!(setup.agents.state("r"), Some(RunState::Ended(end.clone())));
    assert_eq!(setup.agents.wait("r").await, end);
    let workspace = setup.folder.path().join("agents/main/workspace");
    assert!(workspace.is_dir());
}

#[tokio::test]
async fn a_session_says_what_its_last_answer_read_however_many_there_were() {
    let setup = setup(echo()).await;
    for run in ["a", "b"] {
        setup.agents.start(request(run, KEY, run)).await.unwrap();
        setup.agents.wait(run).await;
        let entry = setup.store.session(KEY).unwrap().unwrap().entry;
        let told = ["inputTokens", "outputTokens", "totalTokens", "totalTokensFresh"].map(|name| entry[name].clone());
        assert_eq!(told, [json!(3), json!(2), json!(3), json!(true)], "{run}");
    }
}

#[tokio::test]
async fn the_same_message_again_is_the_same_run_and_another_is_refused() {
    let setup = setup(echo()).await;
    setup.agents.start(request("r", KEY, "hi")).await.unwrap();
    setup.agents.wait("r").await;
    let again = setup.agents.start(request("r", KEY, "hi")).await.unwrap();
    assert!(matches!(again, RunTaken::Known(_, RunState::Ended(_))), "{again:?}");
    for other in [request("r", KEY, "ho"), request("r", "agent:main:b", "hi")] {
        let refused = setup.agents.start(other).await.unwrap_err();
        assert!(refused.message.contains("idempotencyKey"), "{refused:?}");
    }
    let missing = setup.agents.start(request("x", "agent:main:nowhere", "hi")).await.unwrap_err();
    assert_eq!(missing.code, "not-found");
    assert_eq!(setup.started.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_session_has_one_turn_at_a_time_and_all_together_no_more_than_allowed() {
    let setup = setup(echo()).await;
    setup.model.gate.forget_permits(1000);
    for (run, key) in [("a1", KEY), ("a2", KEY), ("b1", "agent:main:b"), ("c1", "agent:main:c")] {
        setup.agents.start(request(run, key, run)).await.unwrap();
    }
    eventually("two go on", || setup.started.load(Ordering::SeqCst) == 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(setup.started.load(Ordering::SeqCst), 2, "the others wait");
    let active = setup.agents.active(KEY);
    assert_eq!(active.iter().map(|run| run.run_id.as_str()).collect::<Vec<_>>(), ["a1", "a2"]);
    assert!(!active[1].is_running);
    setup.model.gate.add_permits(1000);
    for run in ["a1", "a2", "b1", "c1"] {
        assert_eq!(setup.agents.wait(run).await.outcome, RunOutcome::Done, "{run}");
    }
    assert_eq!(setup.most_at_once.load(Ordering::SeqCst), 2);
    // The second of the session was told what the first had answered, in this order.
    let texts: Vec<String> = setup.said(KEY).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["a1", "a2", "You said: a1", "You said: a2"]);
}

#[tokio::test]
async fn an_agent_is_told_what_was_said_before_and_what_it_can_do() {
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = std::sync::Arc::clone(&told);
    let setup = setup(script(move |mut agent: FakeAgent| {
        let kept = std::sync::Arc::clone(&kept);
        async move {
            agent.open().await;
            kept.lock().unwrap().push(agent.setup.clone());
            agent.answer("fine").await;
        }
    }))
    .await;
    for run in ["r1", "r2"] {
        setup.agents.start(request(run, KEY, run)).await.unwrap();
        setup.agents.wait(run).await;
    }
    let told = told.lock().unwrap();
    assert_eq!(told[0].get("history"), Some(&json!([])));
    let history = json!([
        {"role": "user", "content": [{"type": "text", "text": "r1"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "fine"}]},
    ]);
    assert_eq!(told[1]["history"], history);
    assert_eq!((&told[0]["model"], &told[0]["maxTokens"]), (&json!("model-1"), &json!(500)));
    assert_eq!(told[0]["tools"][0]["name"], "p_say");
    assert!(told[0]["date"].as_str().unwrap().contains("UTC"), "{told:?}");
}

#[tokio::test]
async fn tools_run_as_the_agent_and_only_those_that_were_offered() {
    let setup = setup(script(async |mut agent: FakeAgent| {
        agent.open().await;
        let call = |name: &str| json!({"sessionId": "s", "toolCallId": "1", "name": name, "input": {"a": 1}});
        let unrecorded = agent.ask("_leanclaw/tool/call", call("p_say")).await.unwrap_err();
        assert!(unrecorded["message"].as_str().unwrap().contains("not in the transcript"), "{unrecorded}");
        let uses = json!([{"type": "toolUse", "id": "1", "name": "p_say", "input": {"a": 1}}]);
        agent.record("assistant", uses).await.unwrap();
        let refused = agent.ask("_leanclaw/tool/call", call("p.say")).await.unwrap_err();
        assert!(refused["message"].as_str().unwrap().contains("There is no tool"), "{refused}");
        let result = agent.ask("_leanclaw/tool/call", call("p_say")).await.unwrap();
        agent.answer(result["content"][0]["text"].as_str().unwrap()).await;
    }))
    .await;
    setup.agents.start(request("r", KEY, "hi")).await.unwrap();
    assert_eq!(setup.agents.wait("r").await.text, "got {\"a\":1}");
    let called = setup.tools.0.lock().unwrap();
    assert_eq!(called.len(), 1);
    let (name, caller) = &called[0];
    assert_eq!((name.as_str(), caller.kind.as_str(), caller.id.as_str()), ("p.say", "agent", "main"));
    assert!(caller.scopes.is_empty() && caller.session_key.as_deref() == Some(KEY));
}
