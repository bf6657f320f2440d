//! Time, memory and failures.

use super::*;
use crate::{SandboxError, TimeLimit};

#[tokio::test]
async fn codes_say_how_a_program_ended() {
    assert_eq!(cause_of("").await, Cause::Finished(0));
    assert_eq!(cause_of("(return (i32.const 1))").await, Cause::Finished(1));
    assert_eq!(cause_of("(call $leave (i32.const 7))").await, Cause::Finished(7));
    assert_eq!(cause_of("(call $exit.exit (i32.const 1))").await, Cause::Finished(1));
    assert_eq!(cause_of("(call $exit.exit (i32.const 0))").await, Cause::Finished(0));
}

#[tokio::test]
async fn a_trap_is_reported_with_its_place() {
    let Cause::Trapped(report) = cause_of("unreachable").await else { panic!("it trapped") };
    assert!(report.message.contains("unreachable") && !report.backtrace.is_empty(), "{report:?}");
}

/// On one thread: a guest that kept it would let nobody else on.
#[tokio::test]
async fn an_endless_loop_ends_with_its_time_while_others_go_on() {
    let place = Place::of(&program(SPIN)).await.with(|limits| limits.wall_clock = Duration::from_millis(500));
    let other = Place::of(&echo()).await;
    let mut spinning = place.start().await;
    let mut run = other.start().await;
    for _ in 0..3 {
        run.input.send(b"hello").await.unwrap();
        assert_eq!(run.output.next_line().await.unwrap().unwrap(), b"hello");
    }
    let early = tokio::time::timeout(Duration::ZERO, spinning.process.wait()).await;
    assert!(early.is_err(), "the others were served while it went on: {early:?}");
    let exit = ended(&mut spinning).await;
    assert_eq!(exit.cause, Cause::TimedOut(TimeLimit::WallClock));
    assert!(exit.duration >= Duration::from_millis(500), "{exit:?}");
}

#[tokio::test]
async fn kill_ends_whatever_a_program_does() {
    for guest in [program(SPIN), program("(call $sleep)"), echo()] {
        let place = Place::of(&guest).await;
        let mut run = place.start().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(place.wasm.free_instances(), 7);
        assert_eq!(place.sandbox.describe().await.running, 1);
        let exit = tokio::time::timeout(PLENTY, run.process.kill()).await.unwrap();
        assert_eq!(exit.cause, Cause::Killed);
        assert_eq!(place.wasm.free_instances(), 8, "its place is free when kill returns");
        assert_eq!(place.sandbox.describe().await.running, 0);
        assert_eq!(run.output.next_line().await.unwrap(), None);
        assert_eq!(run.process.kill().await, exit, "the first cause stays");
    }
}

#[tokio::test]
async fn a_killer_works_from_elsewhere() {
    let place = Place::of(&program(SPIN)).await;
    let mut run = place.start().await;
    let killer = run.process.killer();
    tokio::spawn(async move { killer() });
    assert_eq!(ended(&mut run).await.cause, Cause::Killed);
}

#[tokio::test]
async fn a_program_that_nobody_holds_ends() {
    for guest in [program(SPIN), program("(call $sleep)")] {
        let place = Place::of(&guest).await;
        drop(place.start().await);
        let freed = async {
            while place.wasm.free_instances() < 8 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PLENTY, freed).await.expect("its place comes back");
    }
}

#[tokio::test]
async fn memory_stops_at_its_limit() {
    let grow = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";
    let limit_bytes = 32 * 1024 * 1024;
    let set = |limits: &mut RunLimits| limits.memory_bytes = limit_bytes;
    let dies = Place::of(&program(&format!("{grow} unreachable"))).await.with(set);
    assert_eq!(dies.exit().await.cause, Cause::OutOfMemory { limit_bytes });
    let copes =
        Place::of(&program(&format!("{grow} (call $leave (i32.div_u (memory.size) (i32.const 16)))"))).await.with(set);
    let Cause::Finished(mebibytes) = copes.exit().await.cause else { panic!("it ends by itself") };
    assert!((30..=32).contains(&mebibytes), "{mebibytes} MiB");
}

#[tokio::test]
async fn handles_stop_at_their_limit() {
    let Cause::Trapped(report) = cause_of("(loop $more (drop (call $stdin.get-stdin)) (br $more))").await else {
        panic!("it ends")
    };
    assert!(report.message.contains("256 open resource handles"), "{report:?}");
}

#[tokio::test]
async fn what_is_no_program_is_refused_with_a_hint() {
    let wasm = engine(1);
    let load = async |bytes: Vec<u8>| WasiSandbox::load(&wasm, &WasmSource::bytes(bytes)).await.err().unwrap();
    let no_program = load(leanclaw_test_guests::echo().unwrap()).await;
    assert!(matches!(no_program, SandboxError::Program { .. }), "{no_program}");
    assert!(no_program.failure().hints.iter().any(|hint| hint.contains("wasm32-wasip2")));
    let rubbish = load(b"rubbish".to_vec()).await;
    assert!(matches!(rubbish, SandboxError::Load(_)) && !rubbish.hints().is_empty(), "{rubbish}");
}
