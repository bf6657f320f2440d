//! The epoch ticker: a thread that advances the engine's epoch while, and only while, guest code may be running.
//!
//! It is a plain thread because it must keep time when every executor thread is busy with a spinning guest. It sleeps
//! for good when no guest call is active, so an idle host causes no wake-ups at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::EngineWeak;

/// Ticks without an active call after which the thread goes to sleep. Waking it costs a system call, so a steady
/// stream of short calls should find it awake.
const IDLE_TICKS_BEFORE_SLEEP: u32 = 10;

#[derive(Default)]
struct Shared {
    /// Guest calls in progress.
    active: AtomicUsize,
    /// Set by the thread before it sleeps, cleared by whoever wakes it.
    asleep: AtomicBool,
    stop: AtomicBool,
    ticks: AtomicU64,
}

/// Handle to the ticker thread; dropping it ends the thread.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

/// Proof that a guest call is in progress; the epoch advances while any exists.
pub(crate) struct ActiveCall<'ticker> {
    shared: &'ticker Shared,
}

impl Ticker {
    /// Starts the thread. It holds the engine weakly and ends when the engine is gone.
    pub(crate) fn start(engine: EngineWeak, tick: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen_by_thread = Arc::clone(&shared);
        let handle = std::thread::Builder::new()
            .name("epoch-ticker".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || run(&seen_by_thread, &engine, tick))?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Marks a guest call as active until the returned guard is dropped, waking the thread if it sleeps.
    ///
    /// No wake-up can be lost: this side announces the call and then looks at `asleep`; the thread announces its sleep
    /// and then looks at `active`. With both pairs sequentially consistent at least one of them sees the other.
    pub(crate) fn enter(&self) -> ActiveCall<'_> {
        self.shared.active.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) && self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        ActiveCall { shared: &self.shared }
    }

    #[cfg(test)]
    pub(crate) fn ticks(&self) -> u64 {
        self.shared.ticks.load(Ordering::SeqCst)
    }

    #[cfg(test)]
    pub(crate) fn is_asleep(&self) -> bool {
        self.shared.asleep.load(Ordering::SeqCst)
    }

    /// Whether the thread lives: it drops its share of the state when it ends, however it does.
    pub(crate) fn is_alive(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// Observes whether the thread has ended: it drops its share of the state when it does.
    #[cfg(test)]
    pub(crate) fn thread_probe(&self) -> impl Fn() -> bool + use<> {
        let weak = Arc::downgrade(&self.shared);
        move || weak.strong_count() == 0
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for ActiveCall<'_> {
    fn drop(&mut self) {
        self.shared.active.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run(shared: &Shared, engine: &EngineWeak, tick: Duration) {
    let mut idle_ticks = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        std::thread::park_timeout(tick);
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        // The sleep below may last for hours; it must not keep the engine alive.
        drop(engine);
        shared.ticks.fetch_add(1, Ordering::SeqCst);
        if shared.active.load(Ordering::SeqCst) > 0 {
            idle_ticks = 0;
            continue;
        }
        idle_ticks += 1;
        if idle_ticks >= IDLE_TICKS_BEFORE_SLEEP {
            sleep_until_called(shared);
            idle_ticks = 0;
        }
    }
}

fn sleep_until_called(shared: &Shared) {
    shared.asleep.store(true, Ordering::SeqCst);
    while shared.active.load(Ordering::SeqCst) == 0
        && shared.asleep.load(Ordering::SeqCst)
        && !shared.stop.load(Ordering::SeqCst)
    {
        std::thread::park();
    }
    shared.asleep.store(false, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;

    /// A thread that ended, for whatever reason, is seen to have.
    #[test]
    fn it_is_known_when_nothing_ticks_any_more() {
        let engine = Engine::default();
        let ticker = Ticker::start(engine.weak(), Duration::from_millis(1)).unwrap();
        assert!(ticker.is_alive());
        drop(engine);
        let began = std::time::Instant::now();
        while ticker.is_alive() {
            // It may be on its way to sleep; a call that begins wakes it.
            drop(ticker.enter());
            assert!(began.elapsed() < Duration::from_secs(60), "the thread goes on without an engine");
            std::thread::yield_now();
        }
    }
}
