//! Memory, tables, copies and log lines.

use wasmtime::component::Linker;

use super::*;
use crate::LimitKind;

const GROW: &str = r#"(memory 1)
    (func (export "run") (param i32) (result i32) (memory.grow (local.get 0)))"#;
const PAGE: usize = 64 * 1024;

#[tokio::test]
async fn memory_growth_beyond_the_limit_returns_minus_one_and_is_remembered() {
    for wasm in engines() {
        let component = component(&wasm, &guest(GROW)).await;
        let limits = Limits { memory_bytes: 10 * PAGE, ..Limits::default() };
        let (mut store, instance) = start(&wasm, &component, limits).await.unwrap();
        assert_eq!(store.memory_bytes(), PAGE);
        assert_eq!(run(&mut store, instance, PLENTY, 9).await.unwrap(), 1, "up to the limit is allowed");
        assert_eq!(store.memory_bytes(), 10 * PAGE);
        assert_eq!(store.data_mut().limiter.denied(), None);
        assert_eq!(run(&mut store, instance, PLENTY, 1).await.unwrap(), u32::MAX);
        let denied = store.data_mut().limiter.denied().unwrap();
        assert_eq!((denied.what, denied.limit), (LimitKind::Memory, 10 * PAGE as u64));
        assert_eq!(run(&mut store, instance, PLENTY, u32::MAX).await.unwrap(), u32::MAX);
        assert_eq!(store.memory_bytes(), 10 * PAGE, "refused growth is not counted");
    }
}

#[tokio::test]
async fn several_memories_share_one_limit() {
    let core = r#"(memory $a 1) (memory $b 1)
        (func (export "run") (param i32) (result i32)
            (drop (memory.grow $a (local.get 0)))
            (memory.grow $b (local.get 0)))"#;
    for wasm in engines() {
        let component = component(&wasm, &guest(core)).await;
        let limits = Limits { memory_bytes: 10 * PAGE, ..Limits::default() };
        let (mut store, instance) = start(&wasm, &component, limits).await.unwrap();
        assert_eq!(run(&mut store, instance, PLENTY, 5).await.unwrap(), u32::MAX);
        assert_eq!(store.memory_bytes(), 7 * PAGE);
        assert_eq!(run(&mut store, instance, PLENTY, 1).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn giving_up_for_lack_of_memory_names_the_limit() {
    let core = r#"(memory 1)
        (func (export "run") (param i32) (result i32)
            (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then unreachable))
            (i32.const 1))"#;
    for wasm in engines() {
        let component = component(&wasm, &guest(core)).await;
        let (mut store, instance) = start(&wasm, &component, Limits::default()).await.unwrap();
        assert_eq!(run(&mut store, instance, PLENTY, 10).await.unwrap(), 1);
        let error = run(&mut store, instance, PLENTY, 60_000).await.unwrap_err();
        let CallError::LimitExceeded { what: LimitKind::Memory, limit, report: Some(_) } = error else {
            panic!("{error:?}")
        };
        assert_eq!(limit, Limits::default().memory_bytes as u64);
    }
}

#[tokio::test]
async fn a_component_that_starts_too_large_names_the_limit() {
    for wasm in engines() {
        let core = format!("(memory 64) {DOUBLE}");
        let component = component(&wasm, &guest(&core)).await;
        let small = Limits { memory_bytes: 63 * PAGE, ..Limits::default() };
        let error = start(&wasm, &component, small).await.err().unwrap();
        assert!(matches!(error, CallError::LimitExceeded { what: LimitKind::Memory, .. }), "{error:?}");
        let enough = Limits { memory_bytes: 64 * PAGE, ..Limits::default() };
        start(&wasm, &component, enough).await.unwrap();

        let none = Limits { memories: 0, ..Limits::default() };
        let error = start(&wasm, &component, none).await.err().unwrap();
        assert!(matches!(error, CallError::LimitExceeded { what: LimitKind::ComponentSize, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_engines_memory_ceiling_holds_whatever_the_limits_say() {
    for pooling in [Pooling::Auto, Pooling::Off] {
        let wasm = Wasm::new(EngineSettings { max_memory_bytes: 16 * PAGE, ..settings(pooling) }).unwrap();
        let component = component(&wasm, &guest(GROW)).await;
        let limits = Limits { memory_bytes: usize::MAX, ..Limits::default() };
        let (mut store, instance) = start(&wasm, &component, limits).await.unwrap();
        assert_eq!(run(&mut store, instance, PLENTY, 15).await.unwrap(), 1);
        assert_eq!(run(&mut store, instance, PLENTY, 1).await.unwrap(), u32::MAX);
    }
}

#[tokio::test]
async fn table_growth_beyond_the_limit_returns_minus_one_and_is_remembered() {
    let core = r#"(table 1 funcref)
        (func (export "run") (param i32) (result i32) (table.grow (ref.null func) (local.get 0)))"#;
    for wasm in engines() {
        let component = component(&wasm, &guest(core)).await;
        let limits = Limits { table_elements: 100, ..Limits::default() };
        let (mut store, instance) = start(&wasm, &component, limits).await.unwrap();
        assert_eq!(run(&mut store, instance, PLENTY, 99).await.unwrap(), 1);
        assert_eq!(run(&mut store, instance, PLENTY, 1).await.unwrap(), u32::MAX);
        assert_eq!(store.data_mut().limiter.denied().unwrap().what, LimitKind::TableElements);
    }
}

/// Exports `text: func(u32) -> string`, a string of that many zero bytes; imports `take: func(string)` and passes
/// the same string to it from `run`.
const TEXT: &str = r#"(component
    (import "take" (func $take (param "text" string)))
    (core module $memory (memory (export "memory") 400))
    (core instance $mem (instantiate $memory))
    (core func $take (canon lower (func $take) (memory (core memory $mem "memory"))))
    (core module $m
        (import "" "memory" (memory 400))
        (import "" "take" (func $take (param i32 i32)))
        (func (export "run") (param i32) (result i32)
            (call $take (i32.const 65536) (local.get 0))
            (i32.const 3))
        (func (export "text") (param i32) (result i32)
            (i32.store (i32.const 0) (i32.const 65536))
            (i32.store (i32.const 4) (local.get 0))
            (i32.const 0)))
    (core instance $i (instantiate $m (with "" (instance
        (export "memory" (memory $mem "memory"))
        (export "take" (func $take))))))
    (func (export "run") (param "n" u32) (result u32) (canon lift (core func $i "run")))
    (func (export "text") (param "n" u32) (result string)
        (canon lift (core func $i "text") (memory (core memory $mem "memory")))))"#;

#[tokio::test]
async fn huge_strings_are_bounded_in_both_directions() {
    const MIB: u32 = 1024 * 1024;
    for wasm in engines() {
        let component = component(&wasm, TEXT).await;
        let mut linker = Linker::<Data>::new(wasm.engine());
        linker.root().func_wrap("take", |_, (_text,): (String,)| Ok(())).unwrap();
        for (bytes, hostcall_fuel_bytes, allowed) in
            [(16 * MIB, 8 * MIB, false), (16 * MIB, 32 * MIB, true), (MIB, 8 * MIB, true)]
        {
            let limits = Limits { hostcall_fuel_bytes: hostcall_fuel_bytes as usize, ..Limits::default() };
            let (mut store, instance) = start_with(&linker, &wasm, &component, limits).await.unwrap();
            let returned = store
                .call(PLENTY, async |store| {
                    let function = instance.get_typed_func::<(u32,), (String,)>(&mut *store, "text")?;
                    Ok(function.call_async(&mut *store, (bytes,)).await?.0)
                })
                .await;
            let (mut store, instance) = start_with(&linker, &wasm, &component, limits).await.unwrap();
            let passed = run(&mut store, instance, PLENTY, bytes).await;
            if allowed {
                assert_eq!(returned.unwrap().len(), bytes as usize);
                assert_eq!(passed.unwrap(), 3);
            } else {
                for error in [returned.unwrap_err(), passed.unwrap_err()] {
                    assert!(
                        matches!(error, CallError::LimitExceeded { what: LimitKind::HostcallBytes, limit, .. }
                            if limit == u64::from(8 * MIB)),
                        "{error:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn no_limit_can_be_lifted() {
    let endless = Limits {
        memory_bytes: usize::MAX,
        table_elements: usize::MAX,
        instances: usize::MAX,
        memories: usize::MAX,
        tables: usize::MAX,
        hostcall_fuel_bytes: usize::MAX,
        handles: usize::MAX,
        host_calls_per_call: u32::MAX,
        log_lines_per_call: u32::MAX,
        log_line_bytes: usize::MAX,
        wall_clock: Duration::MAX,
        random_bytes: u64::MAX,
    };
    assert_eq!(*Limiter::new(endless).limits(), Limits::MAXIMUM);
    assert_eq!(Limits::default().clamped(), Limits::default(), "the defaults are within the maximum");
}

#[test]
fn log_lines_are_clipped_between_characters_and_counted_when_dropped() {
    let mut limiter = Limiter::new(Limits { log_lines_per_call: 2, log_line_bytes: 4, ..Limits::default() });
    assert_eq!(limiter.clip_log_line("abc"), "abc");
    assert_eq!(limiter.clip_log_line("abcdef"), "abcd");
    assert_eq!(limiter.clip_log_line("abc\u{e9}"), "abc");
    assert!(limiter.admit_log_line() && limiter.admit_log_line());
    assert!(!limiter.admit_log_line() && !limiter.admit_log_line());
    assert_eq!(limiter.log_lines_dropped(), 2);
    limiter.begin_call(tokio::time::Instant::now());
    assert!(limiter.admit_log_line());
    assert_eq!(limiter.log_lines_dropped(), 0);
}
