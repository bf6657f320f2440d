//! Resident instances: one task that owns a store and serves a bounded mailbox.
//!
//! A fault drops the store; the next call builds a new one after a growing pause. Too many faults in a short time end in
//! giving up, visibly. An instance is also replaced after many calls, after some hours and near its memory limit,
//! because linear memory never shrinks. Jobs that were accepted are served even when the unit is replaced meanwhile.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use leanclaw_types::{Failure, failure::code};
use leanclaw_wasm::Limited;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::calls::{self, GuestCall, GuestReply};
use crate::guest::Live;
use crate::state::CallContext;
use crate::stats::Stats;
use crate::unit::{Unit, load_failure};

/// Calls that may wait for one instance.
const MAILBOX: usize = 32;
/// An instance is replaced after this many calls,
const RECYCLE_CALLS: u64 = 10_000;
/// or this old,
const RECYCLE_AGE: Duration = Duration::from_secs(6 * 60 * 60);
/// or when it uses this part of its memory limit.
const RECYCLE_MEMORY_PERCENT: usize = 80;
/// This many faults
const FAULT_LIMIT: usize = 5;
/// within this time are a crash loop.
const FAULT_WINDOW: Duration = Duration::from_secs(10 * 60);
/// Pause after the first fault; it doubles with every further one in the window.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What an instance is for. Deliveries and inbound work of one channel never share an instance: they meet in kv only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Methods, tools, hooks, routes.
    Calls,
    /// `deliver` and `perform`.
    Outbound,
    /// Webhooks, polls, sockets.
    Inbound,
}

struct Job {
    call: GuestCall,
    context: CallContext,
    answer: oneshot::Sender<Result<GuestReply, Failure>>,
}

/// A mailbox. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Actor {
    mailbox: mpsc::Sender<Job>,
    plugin: Arc<str>,
}

impl Actor {
    /// Starts the task of one role. It holds the unit only while it works, so that it ends with it.
    pub(crate) fn start(unit: &Arc<Unit>, role: Role) -> Self {
        let (mailbox, jobs) = mpsc::channel(MAILBOX);
        let resident = Resident {
            unit: Arc::downgrade(unit),
            live: None,
            served: 0,
            born: Instant::now(),
            faults: VecDeque::new(),
            given_up: false,
        };
        let plugin = unit.shared().key.to_string().into();
        tracing::debug!(plugin = %unit.shared().key, ?role, "resident instance started");
        tokio::spawn(resident.serve(jobs));
        Self { mailbox, plugin }
    }

    pub(crate) async fn call(&self, call: GuestCall, context: CallContext) -> Result<GuestReply, Failure> {
        let (answer, answered) = oneshot::channel();
        self.mailbox.try_send(Job { call, context, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::new(
                code::RATE_LIMITED,
                format!("{MAILBOX} calls wait for the plugin `{}` already.", self.plugin),
            )
            .retry_after(250),
            mpsc::error::TrySendError::Closed(_) => self.gone(),
        })?;
        answered.await.unwrap_or_else(|_| Err(self.gone()))
    }

    fn gone(&self) -> Failure {
        Failure::unavailable(format!("The plugin `{}` was unloaded.", self.plugin)).retry_after(250)
    }
}

/// The task's own state.
struct Resident {
    unit: Weak<Unit>,
    live: Option<Live>,
    served: u64,
    born: Instant,
    faults: VecDeque<Instant>,
    given_up: bool,
}

impl Resident {
    async fn serve(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            // Callers hold the unit while they wait, so it is there for every job that somebody still wants.
            let Some(unit) = self.unit.upgrade() else { break };
            let result = self.one(&unit, job.call, job.context).await;
            // A caller that went away does not want the answer.
            let _ = job.answer.send(result);
        }
    }

    async fn one(&mut self, unit: &Arc<Unit>, call: GuestCall, context: CallContext) -> Result<GuestReply, Failure> {
        self.wait_after_faults(unit).await?;
        let guest = unit.guest().await.map_err(|error| load_failure(&error))?;
        let frame = Unit::frame(context);
        let number = frame.call;
        let export = call.export();
        let mut live = match self.live.take() {
            Some(mut live) => {
                live.store.data_mut().begin(frame);
                live
            }
            None => {
                self.served = 0;
                self.born = Instant::now();
                Live::new(unit.wasm(), guest, Arc::clone(unit.shared()), frame).await
            }
        };
        let result = live.run(unit.wall_clock(), async |store, instance| calls::run(call, store, instance).await).await;
        let memory_bytes = live.store.memory_bytes();
        unit.stats().memory(memory_bytes);
        if result.is_err() {
            // The store is dropped here: after a trap or a timeout nothing in it can be trusted.
            drop(live);
            self.fault(unit);
        } else {
            self.served += 1;
            let limit = live.store.data_mut().limiter().limits().memory_bytes;
            let worn = self.served >= RECYCLE_CALLS
                || self.born.elapsed() >= RECYCLE_AGE
                || memory_bytes.saturating_mul(100) >= limit.saturating_mul(RECYCLE_MEMORY_PERCENT);
            self.live = (!worn).then_some(live);
        }
        unit.settle(number, export, result)
    }

    fn fault(&mut self, unit: &Arc<Unit>) {
        let now = Instant::now();
        Stats::count(&unit.stats().restarts);
        self.faults.push_back(now);
        while self.faults.front().is_some_and(|first| now.duration_since(*first) > FAULT_WINDOW) {
            self.faults.pop_front();
        }
        if self.faults.len() >= FAULT_LIMIT && !self.given_up {
            self.given_up = true;
            let key = &unit.shared().key;
            unit.give_up(format!(
                "its resident instance failed {FAULT_LIMIT} times within {} minutes\nhint: leanclaw plugin logs {key}\nhint: leanclaw plugin reload {key}",
                FAULT_WINDOW.as_secs() / 60
            ));
        }
    }

    async fn wait_after_faults(&mut self, unit: &Arc<Unit>) -> Result<(), Failure> {
        if self.given_up {
            let key = &unit.shared().key;
            return Err(Failure::unavailable(format!("The plugin `{key}` is faulted: it failed again and again."))
                .hint(format!("leanclaw plugin reload {key}")));
        }
        let Some(last) = self.faults.back() else { return Ok(()) };
        let doublings = u32::try_from(self.faults.len().saturating_sub(1)).unwrap_or(u32::MAX).min(10);
        let until = *last + FIRST_PAUSE * 2_u32.pow(doublings);
        if self.live.is_none() && Instant::now() < until {
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = unit.stop.cancelled() => {}
            }
        }
        Ok(())
    }
}
