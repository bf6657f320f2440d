//! Lines in and out, and programs that do not keep to them.

use super::*;
use crate::pipe::{Closed, pipe};
use crate::{TimeLimit, WireError, WireFault};

/// Writes `x` as often as `$i` says, 4096 at once.
const FLOOD: &str = "
    (memory.fill (local.tee $j (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4096)))
        (i32.const 120) (i32.const 4096))
    (local.set $area (call $room))
    (local.set $k (call $stdout.get-stdout))
    (loop $more
        (call $streams.output-stream.blocking-write-and-flush
            (local.get $k) (local.get $j) (i32.const 4096) (local.get $area))
        (br_if $more (i32.gt_s (local.tee $i (i32.sub (local.get $i) (i32.const 4096))) (i32.const 0))))";

fn flood(bytes: usize) -> Guest {
    program(&format!("(local.set $i (i32.const {bytes})) {FLOOD}"))
}

#[tokio::test]
async fn lines_go_in_and_come_out() {
    let place = Place::of(&echo()).await;
    let Run { mut input, mut output, mut process } = place.start().await;
    for line in ["{\"jsonrpc\":\"2.0\"}", "", "\u{1f980} unicode", "with cr\r"] {
        input.send(line.as_bytes()).await.unwrap();
        let back = output.next_line().await.unwrap().unwrap();
        assert_eq!(String::from_utf8(back).unwrap(), line.trim_end_matches('\r'));
    }
    let long = vec![b'y'; 1_000_000];
    let (sent, back) = tokio::join!(input.send(&long), output.next_line());
    sent.unwrap();
    assert_eq!(back.unwrap().unwrap(), long, "more than any pipe holds");
    assert!(matches!(input.send(b"two\nlines").await, Err(WireError::NotOneLine)));
    drop(input);
    assert_eq!(output.next_line().await.unwrap(), None, "an input that ended ends the program");
    assert_eq!(process.wait().await.cause, Cause::Finished(0));
    assert_eq!(process.wait().await.cause, Cause::Finished(0), "the answer stays");
}

#[tokio::test]
async fn what_a_program_wrote_is_read_after_its_end() {
    let place =
        Place::of(&program("(call $say (global.get $text) (global.get $text_len))").text("text", "one\ntwo")).await;
    let mut run = place.start().await;
    assert_eq!(ended(&mut run).await.cause, Cause::Finished(0));
    assert_eq!(run.output.next_line().await.unwrap().unwrap(), b"one");
    assert_eq!(run.output.next_line().await.unwrap().unwrap(), b"two", "a last line without an end");
    assert_eq!(run.output.next_line().await.unwrap(), None);
    assert!(matches!(run.input.send(b"late").await, Err(WireError::Closed)));
}

#[tokio::test]
async fn a_program_whose_output_is_not_read_is_held_up_and_nothing_is_lost() {
    let bytes = 1024 * 1024;
    let place = Place::of(&flood(bytes)).await;
    let mut run = place.start().await;
    let early = tokio::time::timeout(Duration::from_millis(300), run.process.wait()).await;
    assert!(early.is_err(), "it cannot have written all of it: {early:?}");
    let line = run.output.next_line().await.unwrap().unwrap();
    assert_eq!(line.len(), bytes);
    assert_eq!(ended(&mut run).await.cause, Cause::Finished(0));
}

#[test]
fn a_pipe_holds_what_it_may_and_no_more() {
    let (writer, reader) = pipe(8);
    assert_eq!(writer.room_bytes(), Ok(8));
    assert_eq!(writer.push(b"123456789"), Ok(false), "more than it ever holds");
    assert_eq!(writer.push(b"12345678"), Ok(true));
    assert_eq!(writer.room_bytes(), Ok(0));
    // Another handle that was promised the room before.
    assert_eq!(writer.push(b"abcdefgh"), Ok(true));
    assert_eq!(writer.push(b"x"), Ok(false), "and a third one was not");
    assert_eq!(reader.pull(100).unwrap(), "12345678abcdefgh");
    assert_eq!(reader.pull(100).unwrap(), "");
    drop(writer.clone());
    assert_eq!(reader.pull(100).unwrap(), "", "one of two writers is no end");
    drop(writer);
    assert_eq!(reader.pull(100), Err(Closed));

    let (writer, reader) = pipe(8);
    drop(reader);
    assert_eq!(writer.push(b"1"), Err(Closed));
}

#[tokio::test]
async fn a_line_that_is_too_long_ends_the_run() {
    let place = Place::of(&flood(100_000_000)).await.with(|limits| limits.line_bytes = 10_000);
    let mut run = place.start().await;
    let error = run.output.next_line().await.unwrap_err();
    assert!(matches!(error, WireError::LineTooLong { limit_bytes: 10_000 }) && !error.hints().is_empty(), "{error}");
    assert_eq!(run.output.next_line().await.unwrap(), None, "nothing after it is believed");
    assert_eq!(ended(&mut run).await.cause, Cause::BrokeWire(WireFault::LineTooLong));
}

#[tokio::test]
async fn the_longest_line_passes_and_one_byte_more_does_not() {
    let place = Place::of(&echo()).await.with(|limits| limits.line_bytes = 1000);
    let mut run = place.start().await;
    for line in [vec![b'a'; 1000], [vec![b'a'; 1000], vec![b'\r']].concat()] {
        run.input.send(&line).await.unwrap();
        assert_eq!(run.output.next_line().await.unwrap().unwrap().len(), 1000);
    }
    run.input.send(&[b'a'; 1001]).await.unwrap();
    assert!(matches!(run.output.next_line().await, Err(WireError::LineTooLong { .. })));
}

#[tokio::test]
async fn a_program_that_does_not_read_holds_nobody_up_for_ever() {
    let place = Place::of(&program("(call $sleep)")).await.with(|limits| {
        limits.input_deadline = Duration::from_millis(200);
    });
    let mut run = place.start().await;
    let error = loop {
        if let Err(error) = run.input.send(&[b'a'; 30_000]).await {
            break error;
        }
    };
    assert!(matches!(error, WireError::Unread { .. }) && !error.hints().is_empty(), "{error}");
    assert_eq!(ended(&mut run).await.cause, Cause::BrokeWire(WireFault::InputUnread));
}

#[tokio::test]
async fn after_half_a_message_no_other_follows() {
    let place = Place::of(&program("(call $sleep)")).await;
    let mut run = place.start().await;
    let given_up = tokio::time::timeout(Duration::from_millis(100), run.input.send(&[b'a'; 200_000])).await;
    assert!(given_up.is_err());
    assert!(matches!(run.input.send(b"next").await, Err(WireError::Broken)));
    assert_eq!(ended(&mut run).await.cause, Cause::Killed);
}

#[tokio::test]
async fn the_log_is_escaped_bounded_and_counted() {
    let complain = "(local.set $i (i32.const 5000))
        (loop $more
            (call $complain (global.get $text) (global.get $text_len))
            (br_if $more (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))";
    let place = Place::of(&program(complain).text("text", "\u{1b}[2Jowned and so on\r\n")).await.with(|limits| {
        limits.log_lines = 10;
        limits.log_line_bytes = 9;
    });
    let exit = place.exit().await;
    assert_eq!((exit.cause, exit.log_lines, exit.log_lines_dropped), (Cause::Finished(0), 5000, 4990));
    let lines = place.lines.lock().unwrap();
    assert_eq!(lines.len(), 11, "and one that says so");
    assert_eq!(lines[0], ("\\u{1b}[2Jowned".to_owned(), false));
    assert!(lines[10].1 && lines[10].0.contains("10"), "{:?}", lines[10]);
}

#[tokio::test]
async fn a_log_line_without_end_is_shown_at_the_end() {
    let place = Place::of(
        &program("(call $complain (global.get $text) (global.get $text_len)) unreachable").text("text", "why"),
    )
    .await;
    assert!(matches!(place.exit().await.cause, Cause::Trapped(_)));
    assert_eq!(*place.lines.lock().unwrap(), [("why".to_owned(), false)]);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_run_and_words_keep_it() {
    let place = Place::of(&echo()).await.with(|limits| {
        limits.idle = Duration::from_secs(60);
        limits.wall_clock = Duration::from_secs(1000);
    });
    let mut run = place.start().await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(40)).await;
        run.input.send(b"still here").await.unwrap();
        assert_eq!(run.output.next_line().await.unwrap().unwrap(), b"still here");
    }
    let exit = run.process.wait().await;
    assert_eq!(exit.cause, Cause::TimedOut(TimeLimit::Idle));
    assert!(exit.duration >= Duration::from_secs(260) && exit.duration < Duration::from_secs(270), "{exit:?}");
}
