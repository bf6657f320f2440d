//! A bounded store: the only way guest code runs.
//!
//! [`GuestStore`] ties a wasmtime store to its instance permit and its limiter, and [`GuestStore::call`] puts the three
//! bounds around everything that enters the guest. It holds at most one component instance by convention: a store
//! frees nothing until it is dropped.
//!
//! What a call costs beyond the bare engine is two atomic additions, one clock reading and an epoch load. Nothing is
//! allocated, locked or spawned, and no timer is armed, unless the guest actually waits or runs for a whole tick.

use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::task::coop;
use tokio::time::Instant;
use wasmtime::{AsContext, AsContextMut, Store, StoreContext, StoreContextMut, UpdateDeadline};

use crate::engine::{InstancePermit, Wasm};
use crate::error::CallError;
use crate::limits::{Limited, Limits};

/// A store with limits, an instance permit and a memory of having failed.
///
/// It dereferences to [`Store`] and works wherever wasmtime takes `impl AsContextMut`. Enter the guest only inside
/// [`GuestStore::call`] or [`GuestStore::run`]: elsewhere no epoch ticks and no limit on time applies.
pub struct GuestStore<T: Limited> {
    // Dropped in this order: the permit may only be returned once the pool slots are free again.
    store: Store<T>,
    permit: InstancePermit,
    spent: bool,
}

impl<T: Limited> GuestStore<T> {
    /// A fresh store over `data`, whose limiter's memory limit is clamped to the engine's.
    #[must_use]
    pub fn new(permit: InstancePermit, mut data: T) -> Self {
        let wasm = permit.wasm();
        let limiter = data.limiter();
        limiter.clamp_memory(wasm.settings().max_memory_bytes);
        let hostcall_fuel_bytes = limiter.limits().hostcall_fuel_bytes;
        let mut store = Store::new(wasm.engine(), data);
        store.limiter(|data| data.limiter());
        store.set_hostcall_fuel(hostcall_fuel_bytes);
        // tokio's own yield goes to the back of the queue; wasmtime's plain yield would be polled again first.
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
        Self { store, permit, spent: false }
    }

    /// Runs `work`, which enters the guest through the store it is given, for at most `wall_clock` (itself at most
    /// [`Limits::MAXIMUM`]). Instantiation runs guest code too and belongs inside.
    ///
    /// Needs a tokio runtime with its timer enabled. Per-call counters start at zero. After any error, and after dropping the returned future before it finished,
    /// the instance is in an unknown state: every further call fails with [`CallError::StoreSpent`] and the store has
    /// to be dropped. Not cancel-safe in that sense: cancelling kills the instance.
    ///
    /// # Errors
    /// [`CallError`], sorted by what the caller can do about it.
    pub async fn call<R, F>(&mut self, wall_clock: Duration, work: F) -> Result<R, CallError>
    where
        F: AsyncFnOnce(&mut Store<T>) -> wasmtime::Result<R>,
    {
        let limit = wall_clock.min(Limits::MAXIMUM.wall_clock);
        let deadline = self.begin(limit)?;
        let outcome = {
            let _active = self.permit.enter_call();
            finish_by(deadline, pin!(work(&mut self.store))).await
        };
        self.finish(limit, outcome)
    }

    /// [`GuestStore::call`] for a program that runs from its start to its end and talks with the host meanwhile: nobody
    /// waits for one answer of it, so it may go on for as long as [`Limits::MAXIMUM_RUN`]. All other bounds are those of
    /// a call.
    ///
    /// Such a program mostly waits. The epoch advances only while its code runs, so that it wakes nobody meanwhile.
    ///
    /// # Errors
    /// As [`GuestStore::call`].
    pub async fn run<R, F>(&mut self, wall_clock: Duration, work: F) -> Result<R, CallError>
    where
        F: AsyncFnOnce(&mut Store<T>) -> wasmtime::Result<R>,
    {
        let limit = wall_clock.min(Limits::MAXIMUM_RUN);
        let deadline = self.begin(limit)?;
        let outcome = {
            let permit = &self.permit;
            let mut work = pin!(work(&mut self.store));
            let work = poll_fn(|context| {
                let _active = permit.enter_call();
                work.as_mut().poll(context)
            });
            finish_by(deadline, pin!(work)).await
        };
        self.finish(limit, outcome)
    }

    /// Starts a call and says when it has to be over. The store counts as spent until the call is.
    fn begin(&mut self, limit: Duration) -> Result<Instant, CallError> {
        if self.spent {
            return Err(CallError::StoreSpent);
        }
        self.spent = true;
        let deadline = Instant::now() + limit;
        self.store.set_epoch_deadline(1);
        self.store.data_mut().limiter().begin_call(deadline);
        Ok(deadline)
    }

    fn finish<R>(&mut self, limit: Duration, outcome: Option<wasmtime::Result<R>>) -> Result<R, CallError> {
        match outcome {
            Some(Ok(value)) => {
                self.spent = false;
                Ok(value)
            }
            Some(Err(error)) => Err(CallError::classify(error, self.store.data_mut().limiter())),
            None => Err(CallError::Timeout { limit }),
        }
    }

    /// Whether the store has failed or was cancelled, and can only be dropped.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// The engine this store belongs to.
    #[must_use]
    pub fn wasm(&self) -> &Wasm {
        self.permit.wasm()
    }

    /// Linear memory granted to the guest so far, in bytes.
    pub fn memory_bytes(&mut self) -> usize {
        self.store.data_mut().limiter().memory_bytes()
    }
}

impl<T: Limited> Deref for GuestStore<T> {
    type Target = Store<T>;

    fn deref(&self) -> &Store<T> {
        &self.store
    }
}

impl<T: Limited> DerefMut for GuestStore<T> {
    fn deref_mut(&mut self) -> &mut Store<T> {
        &mut self.store
    }
}

impl<T: Limited> AsContext for GuestStore<T> {
    type Data = T;

    fn as_context(&self) -> StoreContext<'_, T> {
        self.store.as_context()
    }
}

impl<T: Limited> AsContextMut for GuestStore<T> {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, T> {
        self.store.as_context_mut()
    }
}

/// The output of `future`, or `None` once `deadline` has passed.
///
/// The timer is armed only when the first poll does not finish. Each later poll reads the clock as well, so a guest
/// that keeps every thread busy cannot delay its own end by starving the timer.
///
/// Pinned by the caller: taken by value, a large future would lie in this one twice.
pub(crate) async fn finish_by<F: Future>(deadline: Instant, mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut timer: Option<Pin<Box<_>>> = None;
    poll_fn(|context| {
        if timer.is_some() && Instant::now() >= deadline {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        if timer.is_none() {
            timer = Some(Box::pin(coop::unconstrained(tokio::time::sleep_until(deadline))));
        }
        match &mut timer {
            Some(timer) => timer.as_mut().poll(context).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}
