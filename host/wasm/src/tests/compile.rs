//! What is refused before and by the compiler.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

async fn refused(wasm: &Wasm, bytes: Vec<u8>) -> CompileError {
    let Err(error) = wasm.compile(bytes).await else { panic!("must be refused") };
    assert!(!error.hints().is_empty() && error.hints().iter().all(|hint| !hint.is_empty()), "{error}");
    error
}

#[tokio::test]
async fn every_kind_of_wrong_file_is_named() {
    for wasm in engines() {
        let module = refused(&wasm, binary("(module (func))")).await;
        assert!(matches!(module, CompileError::CoreModule), "{module}");
        assert!(module.hints().concat().contains("wasm32-wasip2"));

        let text = refused(&wasm, guest(DOUBLE).into_bytes()).await;
        assert!(matches!(text, CompileError::NotWasm { text: true }), "{text}");
        for bytes in [b"".to_vec(), b"#!/bin/sh\n".to_vec(), b"\x7fELF\x02\x01\x01".to_vec(), vec![0; 4096]] {
            let error = refused(&wasm, bytes).await;
            assert!(matches!(error, CompileError::NotWasm { text: false }), "{error}");
        }

        let precompiled = wasm.engine().precompile_component(&binary(&guest(DOUBLE))).unwrap();
        let error = refused(&wasm, precompiled).await;
        assert!(matches!(error, CompileError::Precompiled), "{error}");
        let precompiled = wasm.engine().precompile_module(&binary("(module)")).unwrap();
        assert!(matches!(refused(&wasm, precompiled).await, CompileError::Precompiled));
    }
}

/// The lengths at which a component may be cut and still be one: between its outermost sections.
fn section_boundaries(component: &[u8]) -> Vec<usize> {
    let mut boundaries = vec![8];
    let mut position = 8;
    while position < component.len() {
        position += 1;
        let (mut size, mut shift) = (0, 0);
        loop {
            let byte = component[position];
            position += 1;
            size |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        position += size;
        boundaries.push(position);
    }
    assert_eq!(position, component.len());
    boundaries
}

#[tokio::test]
async fn a_component_cut_off_inside_a_section_is_refused() {
    let wasm = Wasm::new(settings(Pooling::Off)).unwrap();
    let whole = binary(&guest(DOUBLE));
    let boundaries = section_boundaries(&whole);
    assert!(boundaries.len() > 5);
    wasm.compile(whole.clone()).await.unwrap();
    for length in (4..whole.len()).filter(|length| !boundaries.contains(length)) {
        let error = refused(&wasm, whole[..length].to_vec()).await;
        assert!(
            matches!(error, CompileError::Truncated { size_bytes } if size_bytes == length as u64),
            "{length}: {error}"
        );
    }
}

#[tokio::test]
async fn random_and_damaged_bytes_never_do_harm() {
    let wasm = Wasm::new(settings(Pooling::Off)).unwrap();
    let whole = binary(&guest(&format!("(memory 1) (table 4 funcref) {DOUBLE}")));
    for seed in 0..400 {
        let mut random = StdRng::seed_from_u64(seed);
        let bytes = if seed % 2 == 0 {
            let mut bytes = whole.clone();
            for _ in 0..random.random_range(1..6) {
                let position = random.random_range(0..bytes.len());
                bytes[position] = random.random();
            }
            bytes
        } else {
            let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
            bytes.extend((0..random.random_range(0..300)).map(|_| random.random::<u8>()));
            bytes
        };
        // Damage may go unnoticed where it changes a name or a constant; a crash of the compiler may not happen.
        if let Err(error) = wasm.compile(bytes).await {
            assert!(!matches!(error, CompileError::Crashed), "seed {seed}");
            assert!(!error.hints().is_empty());
        }
    }
    // The engine is unharmed.
    let component = component(&wasm, &guest(DOUBLE)).await;
    let (mut store, instance) = start(&wasm, &component, Limits::default()).await.unwrap();
    assert_eq!(run(&mut store, instance, PLENTY, 2).await.unwrap(), 4);
}

#[tokio::test]
async fn size_is_limited_before_anything_else() {
    let whole = binary(&guest(DOUBLE));
    let size_bytes = whole.len() as u64;
    for (max_component_bytes, allowed) in [(size_bytes, true), (size_bytes - 1, false)] {
        let wasm = Wasm::new(EngineSettings { max_component_bytes, ..settings(Pooling::Off) }).unwrap();
        match wasm.compile(whole.clone()).await {
            Ok(_) => assert!(allowed),
            Err(CompileError::TooLarge { limit_bytes, .. }) => {
                assert!(!allowed);
                assert_eq!(limit_bytes, max_component_bytes);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn what_this_host_does_not_offer_is_refused_when_it_is_compiled() {
    for wasm in engines() {
        let wide = refused(&wasm, binary(&guest(&format!("(memory i64 1) {DOUBLE}")))).await;
        assert!(matches!(&wide, CompileError::Unsupported { .. }), "{wide}");
        assert!(wide.hints().concat().contains("32-bit"), "{wide}: {:?}", wide.hints());

        let asynchronous = refused(&wasm, binary(r#"(component (import "f" (func async (result u32))))"#)).await;
        assert!(asynchronous.hints().concat().contains("WASI 0.2"), "{asynchronous}");
    }
}

#[tokio::test]
async fn a_component_beyond_the_pools_ceilings_is_refused_when_it_is_loaded() {
    let [pooled, on_demand] = engines();
    let memories = "(memory 1)".repeat(1 + crate::MEMORIES_PER_COMPONENT as usize);
    let bytes = binary(&guest(&format!("{memories} {DOUBLE}")));
    let error = refused(&pooled, bytes.clone()).await;
    assert!(matches!(&error, CompileError::Unsupported { message } if message.contains("memor")), "{error}");
    // Without a pool the store's own limit says the same.
    let component = on_demand.compile(bytes).await.unwrap();
    let error = start(&on_demand, &component, Limits::MAXIMUM).await.err().unwrap();
    assert!(matches!(error, CallError::LimitExceeded { what: crate::LimitKind::ComponentSize, .. }), "{error:?}");
}

/// The gate is one for the whole engine, whatever is compiled and whichever way it was asked for.
#[tokio::test]
async fn different_components_are_compiled_one_at_a_time() {
    let wasm = Wasm::new(settings(Pooling::Off)).unwrap();
    let other = guest(r#"(func (export "run") (param i32) (result i32) (local.get 0))"#);
    let gate = std::sync::Arc::clone(&wasm.inner.compile_gate);
    assert_eq!(gate.available_permits(), 1);
    let held = std::sync::Arc::clone(&gate).acquire_owned().await.unwrap();
    let spawned = [binary(&guest(DOUBLE)), binary(&other)].map(|bytes| {
        let wasm = wasm.clone();
        tokio::spawn(async move { wasm.compile(bytes).await.map(drop) })
    });
    let third = {
        let (wasm, source) = (wasm.clone(), crate::WasmSource::bytes(binary(&guest(TRAP))));
        tokio::spawn(async move { wasm.component(&source).await.map(drop) })
    };
    // Time for every one of them to get as far as it can.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(wasm.cache_stats().compiled, 0, "nothing is compiled past the gate");
    drop(held);
    for task in spawned {
        task.await.unwrap().unwrap();
    }
    third.await.unwrap().unwrap();
    assert_eq!((wasm.cache_stats().compiled, gate.available_permits()), (3, 1));
}
