//! Construction, fallback and the ticker.

use std::time::Instant;

use super::*;
use crate::EngineError;
use crate::ticker::Ticker;

/// Nothing here takes a hundredth of this.
const NEVER: Duration = Duration::from_secs(20);

/// Waits for something another thread does; fails only if it never happens.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < NEVER, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn a_pool_the_machine_cannot_hold_falls_back_and_says_so() {
    // 400,000 memories of 4 GiB are more than any address space.
    let wasm = Wasm::new(EngineSettings { max_instances: 100_000, ..EngineSettings::default() }).unwrap();
    let Allocator::OnDemand { reason } = wasm.allocator() else { panic!("{:?}", wasm.allocator()) };
    assert!(reason.contains("100000 instances"), "{reason}");
    let component = component(&wasm, &guest(DOUBLE)).await;
    let (mut store, instance) = start(&wasm, &component, Limits::default()).await.unwrap();
    assert_eq!(run(&mut store, instance, PLENTY, 4).await.unwrap(), 8);
}

#[test]
fn unusable_settings_are_named() {
    for (settings, expected) in [
        (EngineSettings { max_instances: 0, ..EngineSettings::default() }, "max_instances"),
        (EngineSettings { max_memory_bytes: 0, ..EngineSettings::default() }, "max_memory_bytes"),
        (EngineSettings { max_memory_bytes: usize::MAX, ..EngineSettings::default() }, "max_memory_bytes"),
        (EngineSettings { epoch_tick: Duration::ZERO, ..EngineSettings::default() }, "epoch_tick"),
    ] {
        let error = Wasm::new(settings).unwrap_err();
        assert!(matches!(&error, EngineError::Setting { name, .. } if *name == expected), "{error}");
        assert!(!error.hints().is_empty());
    }
}

#[test]
fn the_default_pool_can_be_reserved() {
    let wasm = Wasm::new(EngineSettings::default()).unwrap();
    assert!(matches!(wasm.allocator(), Allocator::Pooling { .. }), "{:?}", wasm.allocator());
}

#[test]
fn the_ticker_sleeps_when_idle_and_wakes_for_every_call() {
    let engine = wasmtime::Engine::default();
    let ticker = Ticker::start(engine.weak(), Duration::from_millis(1)).unwrap();
    for _ in 0..20 {
        eventually("sleep", || ticker.is_asleep());
        let before = ticker.ticks();
        let call = ticker.enter();
        eventually("a tick for the call", || ticker.ticks() > before + 20);
        assert!(!ticker.is_asleep(), "it never sleeps during a call");
        drop(call);
    }
}

#[test]
fn no_wake_up_is_lost_between_threads() {
    let engine = wasmtime::Engine::default();
    let ticker = Ticker::start(engine.weak(), Duration::from_micros(100)).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..4_u64 {
            let ticker = &ticker;
            scope.spawn(move || {
                // Pauses around the ticker's own time to fall asleep (10 ticks), so that calls meet it on the way.
                for round in 0..60_u64 {
                    std::thread::sleep(Duration::from_micros(900 + (round * 37 + seed * 131) % 600));
                    let _call = ticker.enter();
                    let before = ticker.ticks();
                    eventually("a tick during the call", || ticker.ticks() > before);
                }
            });
        }
    });
}

#[test]
fn the_ticker_thread_ends_with_the_engine() {
    let wasm = Wasm::new(settings(Pooling::Off)).unwrap();
    eventually("sleep", || wasm.ticker().is_asleep());
    let ended = wasm.ticker().thread_probe();
    let copy = wasm.clone();
    drop(wasm);
    assert!(!ended());
    drop(copy);
    eventually("the end of a sleeping ticker", &ended);

    // Even with a call that never ends, an engine that is gone ends the thread: its share of the state goes.
    let engine = wasmtime::Engine::default();
    let ticker = Ticker::start(engine.weak(), Duration::from_millis(1)).unwrap();
    let _call = ticker.enter();
    assert!(ticker.is_alive());
    drop(engine);
    eventually("the end of a busy ticker", || !ticker.is_alive());
}

#[test]
fn handles_may_travel_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Wasm>();
    check::<crate::InstancePermit>();
    check::<crate::LazyComponent>();
    check::<crate::WasmSource>();
    fn send<T: Send>() {}
    send::<GuestStore<Data>>();
    send::<CallError>();
}

/// What the log line of the start is written from.
#[test]
fn the_report_says_which_allocator_is_in_use_and_whether_pages_are_scanned() {
    let wasm = Wasm::new(settings(Pooling::Auto)).unwrap();
    let Allocator::Pooling { pagemap_scan } = wasm.allocator() else { panic!("{:?}", wasm.allocator()) };
    assert_eq!(*pagemap_scan, wasmtime::PoolingAllocationConfig::is_pagemap_scan_available());
    let wasm = Wasm::new(settings(Pooling::Off)).unwrap();
    let Allocator::OnDemand { reason } = wasm.allocator() else { panic!("{:?}", wasm.allocator()) };
    assert!(reason.contains("switched off"), "{reason}");
}
