//! Time: answers that begin late, stop, drip, come all at once, or are no longer wanted.

use std::time::{Duration, Instant};

use leanclaw_egress::Deadline;
use leanclaw_test_fakes::{End, Reply};
use leanclaw_types::failure::code;
use leanclaw_types::model::{Block, ModelEvent};

use super::support::*;
use crate::{Provider, Timeouts};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn hasty() -> Wanted {
    let timeouts = Timeouts { first_byte: MS(400), idle: MS(150), ..Timeouts::default() };
    Wanted { timeouts, ..Wanted::default() }
}

fn begun() -> String {
    events(&[&say("Hi")])
}

/// The end of an answer that has begun.
fn rest() -> String {
    answer_of(&[], "stop")
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_told_from_one_that_stops() {
    for reply in [Reply::sse("").end(End::Hang), Reply::sse("").late(Duration::from_secs(60))] {
        let setup = local_with(hasty()).await;
        let failure = setup.answer(reply).refusal().await;
        assert_eq!((failure.code.as_str(), failure.retryable), (code::TIMED_OUT, true));
        assert!(!failure.message.contains("nothing more"), "{}", failure.message);
        assert_eq!(setup.asked().len(), 1, "a slow server is not asked again unasked");
    }
    let setup = local_with(hasty()).await;
    let told = setup.answer(Reply::sse(begun()).end(End::Hang)).ask().await;
    assert_eq!((told.text.as_str(), told.failure().code.as_str()), ("Hi", code::TIMED_OUT));
    assert!(told.failure().message.contains("nothing more of the answer came for 150 ms"), "{:?}", told.failure);
    assert!(setup.server.until(Duration::from_secs(5), |asked| asked[0].disconnected).await);
}

#[tokio::test]
async fn comments_keep_an_answer_alive() {
    let reply = (0..8).fold(Reply::sse(begun()), |reply, _| reply.after(MS(60), ": still here\n\n"));
    let setup = local_with(hasty()).await;
    assert_eq!(setup.answer(reply.after(MS(60), rest())).ask().await.text, "Hi");
}

#[tokio::test]
async fn a_drip_is_ended_by_the_deadline_alone() {
    let drip = || (0..30).fold(Reply::sse(""), |reply, _| reply.after(MS(20), begun())).piece(rest());
    let setup = local_with(hasty()).await;
    assert_eq!(setup.answer(drip()).ask().await.text, "Hi".repeat(30));
    setup.answer(drip());
    let told = listen(setup.provider.stream(&hello(), Deadline::after(MS(300))).await.unwrap()).await;
    assert!(told.text.len() >= 2 && told.text.len() < 60, "{}", told.text);
    assert_eq!(told.failure().code, code::TIMED_OUT);
}

#[tokio::test]
async fn all_at_once_after_a_while_is_the_same() {
    assert_eq!(told(Reply::sse("").after(MS(200), greets())).await.text, "Hi");
}

#[tokio::test]
async fn who_gives_up_closes_the_connection() {
    let setup = local().await;
    setup.answer(Reply::sse(begun()).end(End::Hang));
    let mut stream = setup.provider.stream(&hello(), soon()).await.unwrap();
    assert!(matches!(stream.next().await, Some(Ok(ModelEvent::Started { .. }))));
    assert!(matches!(stream.next().await, Some(Ok(ModelEvent::Text { .. }))));
    assert!(!setup.asked()[0].disconnected);
    let begun = Instant::now();
    drop(stream);
    assert!(setup.server.until(Duration::from_secs(5), |asked| asked[0].disconnected).await);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    tokio::time::sleep(MS(50)).await;
    assert_eq!(setup.asked().len(), 1, "nothing is tried again");
}

#[tokio::test]
async fn the_end_is_the_end_also_where_the_server_does_not_close() {
    let setup = local().await;
    assert_eq!(setup.answer(Reply::sse(greets()).end(End::Hang)).ask().await.text, "Hi");
    assert!(setup.server.until(Duration::from_secs(5), |asked| asked[0].disconnected).await);
}

#[tokio::test]
async fn a_very_long_answer_takes_time_in_proportion() {
    let deltas = events(&[&say(&"x".repeat(250))]).repeat(1000);
    let reply = (0..200).fold(Reply::sse(""), |reply, _| reply.piece(deltas.clone()));
    let setup = local().await;
    setup.answer(reply.piece(rest()));
    let begun = Instant::now();
    let mut stream = setup.provider.stream(&hello(), soon()).await.unwrap();
    let (mut deltas, mut block_bytes) = (0, 0);
    while let Some(event) = stream.next().await {
        match event.unwrap() {
            ModelEvent::Text { .. } => deltas += 1,
            ModelEvent::Block { block: Block::Text { text } } => block_bytes = text.len(),
            _ => {}
        }
    }
    assert_eq!((deltas, block_bytes), (200_000, 50_000_000));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_slow_reader_slows_the_server_down() {
    let piece = events(&[&say(&"x".repeat(100_000))]);
    let setup = local().await;
    setup.answer((0..300).fold(Reply::sse(""), |reply, _| reply.piece(piece.clone())));
    let mut stream = setup.provider.stream(&hello(), soon()).await.unwrap();
    assert!(stream.next().await.is_some());
    // 30 MB do not fit into the buffers of two sockets: had they been read ahead, the server would be done by now.
    assert!(!setup.server.until(Duration::from_secs(1), |asked| asked[0].answered).await);
    drop(stream);
    assert!(setup.server.until(Duration::from_secs(5), |asked| asked[0].disconnected).await);
}
