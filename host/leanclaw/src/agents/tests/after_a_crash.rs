//! What was taken on before the program ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use leanclaw_gateway::Runs as _;
use leanclaw_store::TakenRun;
use leanclaw_types::model::Block;
use leanclaw_types::run::RunOutcome;

use super::support::{KEY, Setup, config, echo, request, setup, setup_on};
use crate::agents::words::{self, Answered};

/// A store on which a program ended while it had taken these messages on and begun the first, `times` times.
async fn cut_short(times: u32) -> Setup {
    let before = setup(echo()).await;
    for run in ["r1", "r2"] {
        let asked = request(run, KEY, run);
        let taken = before.store.take_run(asked.clone(), words::prompt(&asked, 5), 10).await.unwrap();
        assert!(matches!(taken, TakenRun::New(..)), "{taken:?}");
    }
    for _ in 1..times {
        before.store.start_run("r1", 6).await.unwrap();
        before.store.put_run_back("r1").await.unwrap();
    }
    before.store.start_run("r1", 7).await.unwrap();
    before
}

async fn started_again(before: &Setup) -> Setup {
    let again = setup_on(echo(), Arc::clone(&before.store), Arc::clone(&before.folder), &config());
    again.agents.resume().await;
    again
}

#[tokio::test]
async fn what_left_nothing_behind_is_run_again_in_the_old_order() {
    let again = started_again(&cut_short(1).await).await;
    for run in ["r1", "r2"] {
        assert_eq!(again.agents.wait(run).await.outcome, RunOutcome::Done, "{run}");
    }
    let texts: Vec<String> = again.said(KEY).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["r1", "r2", "You said: r1", "You said: r2"]);
}

#[tokio::test]
async fn what_had_begun_to_act_is_not_done_twice() {
    let before = cut_short(1).await;
    let began = words::answer("r1", vec![Block::text("I delete it.")], &Answered::default(), "toolUse", 8);
    before.store.append_run_messages(KEY, vec![began]).await.unwrap();
    let again = started_again(&before).await;
    let end = again.agents.wait("r1").await;
    let RunOutcome::Failed { failure } = &end.outcome else { panic!("{end:?}") };
    assert!(failure.message.contains("while this was being answered"), "{failure:?}");
    assert_eq!(again.agents.wait("r2").await.outcome, RunOutcome::Done, "the next one has its turn");
    assert_eq!(again.started.load(Ordering::SeqCst), 1);
    assert_eq!(again.seen.words("r1"), ["said assistant", "ended Failed"]);
}

#[tokio::test]
async fn what_was_answered_and_not_stored_as_ended_is_not_answered_again() {
    let before = cut_short(1).await;
    let reply = words::answer("r1", vec![Block::text("Done.")], &Answered::default(), "stop", 8);
    before.store.append_run_messages(KEY, vec![reply]).await.unwrap();
    let again = started_again(&before).await;
    let end = again.agents.wait("r1").await;
    assert_eq!((end.outcome, end.text.as_str()), (RunOutcome::Done, "Done."));
    assert_eq!(again.agents.wait("r2").await.outcome, RunOutcome::Done);
    assert_eq!(again.started.load(Ordering::SeqCst), 1);
}

/// However much waits behind it.
#[tokio::test]
async fn what_a_run_did_is_found_behind_a_large_message_that_came_later() {
    let before = cut_short(1).await;
    let began = words::answer("r1", vec![Block::text("I delete it.")], &Answered::default(), "toolUse", 8);
    before.store.append_run_messages(KEY, vec![began]).await.unwrap();
    let large = request("r3", KEY, &"x".repeat(6_000_000));
    before.store.take_run(large.clone(), words::prompt(&large, 9), 10).await.unwrap();
    let again = started_again(&before).await;
    assert!(matches!(again.agents.wait("r1").await.outcome, RunOutcome::Failed { .. }));
    assert_eq!(again.agents.wait("r3").await.outcome, RunOutcome::Done);
}

#[tokio::test]
async fn what_ends_the_program_each_time_is_given_up() {
    let again = started_again(&cut_short(3).await).await;
    let end = again.agents.wait("r1").await;
    assert!(matches!(&end.outcome, RunOutcome::Failed { failure } if failure.message.contains("3 times")), "{end:?}");
}
