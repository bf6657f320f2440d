//! Calls: time, traps, floods, and what a failed store still does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use wasmtime::Trap;
use wasmtime::component::{Linker, ResourceTableError};

use super::*;
use crate::LimitKind;

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn an_endless_loop_is_stopped_while_others_are_served_on_the_same_thread() {
    for wasm in engines() {
        let spin = component(&wasm, &guest(SPIN)).await;
        let double = component(&wasm, &guest(DOUBLE)).await;
        let (mut other, other_instance) = start(&wasm, &double, Limits::default()).await.unwrap();
        let spinning = Arc::new(AtomicBool::new(false));
        let finished = Arc::new(AtomicBool::new(false));
        let spinner = tokio::spawn({
            let (wasm, spinning, finished) = (wasm.clone(), Arc::clone(&spinning), Arc::clone(&finished));
            async move {
                let (mut store, instance) = start(&wasm, &spin, Limits::default()).await.unwrap();
                spinning.store(true, Ordering::SeqCst);
                let result = run(&mut store, instance, SHORT, 0).await;
                finished.store(true, Ordering::SeqCst);
                result
            }
        });
        let mut served_meanwhile = 0;
        while !finished.load(Ordering::SeqCst) {
            assert_eq!(run(&mut other, other_instance, PLENTY, 21).await.unwrap(), 42);
            served_meanwhile += u32::from(spinning.load(Ordering::SeqCst));
            tokio::task::yield_now().await;
        }
        // Without yielding, the first poll of the spinner would never have returned to this loop.
        assert!(served_meanwhile > 0);
        assert!(matches!(spinner.await.unwrap(), Err(CallError::Timeout { limit }) if limit == SHORT));
    }
}

#[tokio::test]
async fn waiting_in_the_host_for_ever_is_stopped() {
    for wasm in engines() {
        let mut linker = Linker::<Data>::new(wasm.engine());
        linker
            .root()
            .func_wrap_async("host", |_, (): ()| Box::new(std::future::pending::<wasmtime::Result<()>>()))
            .unwrap();
        let component = component(&wasm, &calls_host(1)).await;
        let (mut store, instance) = start_with(&linker, &wasm, &component, Limits::default()).await.unwrap();
        let result = run(&mut store, instance, SHORT, 0).await;
        assert!(matches!(result, Err(CallError::Timeout { .. })), "{result:?}");
        assert!(!result.unwrap_err().hints().is_empty());
    }
}

#[tokio::test]
async fn a_store_that_failed_or_was_cancelled_refuses_further_calls_and_frees_its_place() {
    for wasm in engines() {
        let spin = component(&wasm, &guest(SPIN)).await;
        let trap = component(&wasm, &guest(TRAP)).await;
        let all = wasm.free_instances();

        let (mut store, instance) = start(&wasm, &trap, Limits::default()).await.unwrap();
        assert_eq!(wasm.free_instances(), all - 1);
        let failed = run(&mut store, instance, PLENTY, 0).await;
        assert!(
            matches!(&failed, Err(CallError::Trap { report }) if report.code == Trap::UnreachableCodeReached),
            "{failed:?}"
        );
        assert!(store.is_spent());
        assert!(matches!(run(&mut store, instance, PLENTY, 0).await, Err(CallError::StoreSpent)));
        drop(store);

        let (mut store, instance) = start(&wasm, &spin, Limits::default()).await.unwrap();
        assert!(matches!(run(&mut store, instance, SHORT, 0).await, Err(CallError::Timeout { .. })));
        assert!(matches!(run(&mut store, instance, PLENTY, 0).await, Err(CallError::StoreSpent)));
        drop(store);

        let (mut store, instance) = start(&wasm, &spin, Limits::default()).await.unwrap();
        let cancelled = tokio::time::timeout(SHORT, run(&mut store, instance, PLENTY, 0)).await;
        assert!(cancelled.is_err());
        assert!(matches!(run(&mut store, instance, PLENTY, 0).await, Err(CallError::StoreSpent)));
        drop(store);
        assert_eq!(wasm.free_instances(), all);
    }
}

#[tokio::test]
async fn deep_recursion_is_a_stack_overflow_with_a_backtrace() {
    let core = r#"(func $deeper (export "run") (param i32) (result i32)
        (i32.add (i32.const 1) (call $deeper (i32.add (local.get 0) (i32.const 1)))))"#;
    for wasm in engines() {
        let component = component(&wasm, &guest(core)).await;
        let (mut store, instance) = start(&wasm, &component, Limits::default()).await.unwrap();
        let error = run(&mut store, instance, PLENTY, 0).await.unwrap_err();
        let CallError::Trap { report } = &error else { panic!("{error:?}") };
        assert_eq!(report.code, Trap::StackOverflow);
        assert!(report.backtrace.contains("deeper"), "{}", report.backtrace);
        assert!(error.hints().concat().contains("recurs"));
    }
}

#[tokio::test]
async fn guest_names_cannot_write_to_a_terminal() {
    let core = "(func $\"evil\\1b[2J\\0aname\" (export \"run\") (param i32) (result i32) unreachable)";
    for wasm in engines() {
        let component = component(&wasm, &guest(core)).await;
        let (mut store, instance) = start(&wasm, &component, Limits::default()).await.unwrap();
        let CallError::Trap { report } = run(&mut store, instance, PLENTY, 0).await.unwrap_err() else { panic!() };
        assert!(report.backtrace.contains("evil"), "{}", report.backtrace);
        assert!(!report.backtrace.contains('\u{1b}'));
    }
}

/// Calls the host function `host` `times` times.
fn calls_host(times: u32) -> String {
    format!(
        r#"(component
            (import "host" (func $host))
            (core func $lowered (canon lower (func $host)))
            (core module $m
                (import "" "host" (func $host))
                (func (export "run") (param i32) (result i32)
                    (local $left i32)
                    (local.set $left (i32.const {times}))
                    (loop
                        (call $host)
                        (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                    (i32.const 7)))
            (core instance $i (instantiate $m (with "" (instance (export "host" (func $lowered))))))
            (func (export "run") (param "n" u32) (result u32) (canon lift (core func $i "run"))))"#
    )
}

#[tokio::test]
async fn a_host_call_flood_is_stopped_and_the_count_starts_anew_with_each_call() {
    for wasm in engines() {
        let mut linker = Linker::<Data>::new(wasm.engine());
        linker.root().func_wrap("host", |mut store, (): ()| Ok(store.data_mut().limiter().count_host_call()?)).unwrap();
        let limits = Limits { host_calls_per_call: 100, ..Limits::default() };
        let allowed = component(&wasm, &calls_host(100)).await;
        let (mut store, instance) = start_with(&linker, &wasm, &allowed, limits).await.unwrap();
        for _ in 0..3 {
            assert_eq!(run(&mut store, instance, PLENTY, 0).await.unwrap(), 7);
        }
        let flood = component(&wasm, &calls_host(101)).await;
        let (mut store, instance) = start_with(&linker, &wasm, &flood, limits).await.unwrap();
        let result = run(&mut store, instance, PLENTY, 0).await;
        assert!(matches!(result, Err(CallError::HostCallFlood { limit: 100 })), "{result:?}");
    }
}

#[tokio::test]
async fn a_handle_flood_is_stopped_at_the_tables_capacity() {
    for wasm in engines() {
        let mut linker = Linker::<Data>::new(wasm.engine());
        linker
            .root()
            .func_wrap("host", |mut store, (): ()| -> wasmtime::Result<()> {
                store.data_mut().table.push(0_u8)?;
                Ok(())
            })
            .unwrap();
        for (times, allowed) in [(50, true), (51, false)] {
            let component = component(&wasm, &calls_host(times)).await;
            let limits = Limits { handles: 50, ..Limits::default() };
            let (mut store, instance) = start_with(&linker, &wasm, &component, limits).await.unwrap();
            match run(&mut store, instance, PLENTY, 0).await {
                Ok(7) => assert!(allowed),
                Err(CallError::LimitExceeded { what: LimitKind::Handles, limit: 50, .. }) => assert!(!allowed),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_typed_error_of_the_host_comes_through() {
    for wasm in engines() {
        let mut linker = Linker::<Data>::new(wasm.engine());
        linker
            .root()
            .func_wrap("host", |_, (): ()| -> wasmtime::Result<()> { Err(ResourceTableError::NotPresent.into()) })
            .unwrap();
        let component = component(&wasm, &calls_host(1)).await;
        let (mut store, instance) = start_with(&linker, &wasm, &component, Limits::default()).await.unwrap();
        let Err(CallError::Other { error }) = run(&mut store, instance, PLENTY, 0).await else { panic!() };
        assert!(matches!(error.downcast_ref(), Some(ResourceTableError::NotPresent)));
    }
}

#[tokio::test]
async fn host_functions_see_the_time_left() {
    static LEFT_MILLISECONDS: AtomicU32 = AtomicU32::new(0);
    let [wasm, _] = engines();
    let mut linker = Linker::<Data>::new(wasm.engine());
    linker
        .root()
        .func_wrap("host", |mut store, (): ()| {
            let left = store.data_mut().limiter().remaining();
            LEFT_MILLISECONDS.store(u32::try_from(left.as_millis()).unwrap(), Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
    let component = component(&wasm, &calls_host(1)).await;
    let (mut store, instance) = start_with(&linker, &wasm, &component, Limits::default()).await.unwrap();
    run(&mut store, instance, PLENTY, 0).await.unwrap();
    let left = LEFT_MILLISECONDS.load(Ordering::SeqCst);
    assert!(left > 0 && left <= 60_000, "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_instances_than_the_pool_holds_just_wait() {
    for wasm in engines() {
        let component = component(&wasm, &guest(&format!("(memory 1) {DOUBLE}"))).await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..200_u32 {
            let (wasm, component) = (wasm.clone(), component.clone());
            tasks.spawn(async move {
                let (mut store, instance) = start(&wasm, &component, Limits::default()).await?;
                tokio::task::yield_now().await;
                let doubled = run(&mut store, instance, PLENTY, number).await?;
                assert_eq!(doubled, number * 2);
                Ok::<_, CallError>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap().unwrap();
        }
        assert_eq!(wasm.free_instances(), 8);
    }
}

#[tokio::test]
async fn a_permit_is_refused_only_while_all_are_taken() {
    let [wasm, _] = engines();
    let taken: Vec<_> = std::iter::from_fn(|| wasm.try_instance_permit()).collect();
    assert_eq!(taken.len(), 8);
    assert!(wasm.try_instance_permit().is_none());
    drop(taken);
    assert!(wasm.try_instance_permit().is_some());
}

/// What a future gives when it is asked once.
fn asked_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(given) => Some(given),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn it_is_known_for_how_long_somebody_waits_for_a_permit() {
    let [wasm, _] = engines();
    let mut taken: Vec<_> = std::iter::from_fn(|| wasm.try_instance_permit()).collect();
    assert_eq!(wasm.waiting(), None, "all are taken, and nobody waits");
    let (mut first, mut second) = (Box::pin(wasm.instance_permit()), Box::pin(wasm.instance_permit()));
    assert!(asked_once(first.as_mut()).is_none() && asked_once(second.as_mut()).is_none());
    let waited = wasm.waiting().expect("two wait");
    taken.pop();
    let permit = asked_once(first.as_mut()).expect("it is its turn");
    assert!(wasm.waiting().is_some_and(|now| now >= waited), "one of them still waits");
    drop(second);
    assert_eq!(wasm.waiting(), None, "who gives up waits no more");
    drop(permit);
    assert!(wasm.is_ticking());
}

/// Store data that notes, while it is dropped, how many instances could be created.
struct Witness {
    limiter: Limiter,
    wasm: Wasm,
    free_while_dropping: Arc<AtomicU32>,
}

impl Limited for Witness {
    fn limiter(&mut self) -> &mut Limiter {
        &mut self.limiter
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.free_while_dropping.store(u32::try_from(self.wasm.free_instances()).unwrap(), Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_permit_outlives_its_store_so_that_no_one_finds_the_pool_full() {
    let [wasm, _] = engines();
    let free_while_dropping = Arc::new(AtomicU32::new(u32::MAX));
    let witness = Witness {
        limiter: Limiter::new(Limits::default()),
        wasm: wasm.clone(),
        free_while_dropping: Arc::clone(&free_while_dropping),
    };
    let store = GuestStore::new(wasm.instance_permit().await, witness);
    drop(store);
    assert_eq!(free_while_dropping.load(Ordering::SeqCst), 7, "the place was free before the store was gone");
    assert_eq!(wasm.free_instances(), 8);
}

#[tokio::test]
async fn a_guest_that_starves_the_timer_is_stopped_by_the_clock() {
    let polls = Arc::new(AtomicU32::new(0));
    // Ready again at once, like a guest that only yields: for such a task the runtime looks at its timers only every
    // 61 polls.
    let busy = std::future::poll_fn({
        let polls = Arc::clone(&polls);
        move |context| {
            polls.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            context.waker().wake_by_ref();
            std::task::Poll::<()>::Pending
        }
    });
    let deadline = tokio::time::Instant::now() + Duration::from_millis(50);
    assert_eq!(
        tokio::spawn(async move { crate::store::finish_by(deadline, std::pin::pin!(busy)).await }).await.unwrap(),
        None
    );
    let polls = polls.load(Ordering::SeqCst);
    assert!(polls <= 4, "{polls} polls of 20 ms within 50 ms");
}

#[tokio::test(start_paused = true)]
async fn a_run_may_take_longer_than_a_call_and_neither_takes_for_ever() {
    let wasm = engines().into_iter().next().unwrap();
    let mut linker = Linker::<Data>::new(wasm.engine());
    linker
        .root()
        .func_wrap_async("host", |_, (): ()| Box::new(std::future::pending::<wasmtime::Result<()>>()))
        .unwrap();
    let component = component(&wasm, &calls_host(1)).await;
    for (is_run, ceiling) in [(false, Limits::MAXIMUM.wall_clock), (true, Limits::MAXIMUM_RUN)] {
        let (mut store, instance) = start_with(&linker, &wasm, &component, Limits::default()).await.unwrap();
        let started = tokio::time::Instant::now();
        let work = async |store: &mut wasmtime::Store<Data>| {
            let function = instance.get_typed_func::<(u32,), (u32,)>(&mut *store, "run")?;
            Ok(function.call_async(&mut *store, (0,)).await?.0)
        };
        let result = if is_run { store.run(Duration::MAX, work).await } else { store.call(Duration::MAX, work).await };
        assert!(matches!(result, Err(CallError::Timeout { limit }) if limit == ceiling), "{result:?}");
        assert!(started.elapsed() >= ceiling && started.elapsed() < ceiling + PLENTY);
        assert!(store.is_spent());
    }
    assert!(Limits::MAXIMUM_RUN > Limits::MAXIMUM.wall_clock);
}

#[tokio::test]
async fn a_run_that_waits_lets_the_ticker_sleep_and_is_stopped_all_the_same_when_it_spins() {
    for wasm in engines() {
        let mut linker = Linker::<Data>::new(wasm.engine());
        let go_on = Arc::new(tokio::sync::Notify::new());
        let waits = Arc::clone(&go_on);
        linker
            .root()
            .func_wrap_async("host", move |_, (): ()| {
                let waits = Arc::clone(&waits);
                Box::new(async move {
                    waits.notified().await;
                    Ok(())
                })
            })
            .unwrap();
        let waiting = component(&wasm, &calls_host(1).replace("(i32.const 7)", "(loop (br 0)) unreachable")).await;
        let (mut store, instance) = start_with(&linker, &wasm, &waiting, Limits::default()).await.unwrap();
        let begun = tokio::time::Instant::now();
        let run = tokio::spawn(async move {
            store
                .run(Duration::from_secs(3), async |store| {
                    let function = instance.get_typed_func::<(u32,), (u32,)>(&mut *store, "run")?;
                    Ok(function.call_async(&mut *store, (0,)).await?.0)
                })
                .await
        });
        let asleep = async {
            while !wasm.ticker().is_asleep() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(2), asleep).await.expect("nobody needs the ticker");
        go_on.notify_one();
        // On this one thread, a guest that did not yield would let nothing of this go on.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let result = tokio::time::timeout(PLENTY, run).await.unwrap().unwrap();
        assert!(matches!(result, Err(CallError::Timeout { .. })), "{result:?}");
        assert!(begun.elapsed() >= Duration::from_secs(3));
    }
}
