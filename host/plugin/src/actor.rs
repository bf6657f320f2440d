//! Resident instances: one store that serves a bounded mailbox, one call after the other.
//!
//! A caller that finds the instance idle runs its call itself, on its own task: a call that never waits costs no other
//! task and no switch between threads. What waits is moved to a task of its own, so that a caller that goes away never
//! takes an instance with it that others share. Who finds the instance busy leaves a job in the mailbox, and whoever
//! is done with the instance hands it to a task that empties the mailbox, in order. Nothing runs while nobody calls.
//!
//! A fault drops the store; the next call builds a new one after a growing pause. Too many faults in a short time end in
//! giving up, visibly. An instance is also replaced after many calls, after some hours and near its memory limit,
//! because linear memory never shrinks. Jobs that were accepted are served even when the unit is replaced meanwhile, but not
//! once the plugin is taken away.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use leanclaw_types::{Failure, failure::code};
use leanclaw_wasm::Limited;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::calls::{GuestCall, GuestReply};
use crate::guest::Live;
use crate::state::{CallContext, Frame};
use crate::stats::Stats;
use crate::unit::Unit;

/// Calls that may wait for one instance.
pub(crate) const MAILBOX: usize = 128;
/// How many of them may be webhooks: anybody can send those, and what the host brings itself (polls, sockets) must always
/// find a place. It brings one call at a time from each of its drivers.
pub(crate) const WEBHOOKS: usize = MAILBOX - 32;
/// An instance is replaced when it uses this part of its memory limit.
const RECYCLE_MEMORY_PERCENT: usize = 80;
/// This many faults
const FAULT_LIMIT: usize = 5;
/// within this time are a crash loop.
const FAULT_WINDOW: Duration = Duration::from_secs(10 * 60);
/// Pause after the first fault; it doubles with every further one in the window.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// When a resident instance that does no wrong is replaced all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recycling {
    /// After this many calls; at least 1. Default 10,000.
    pub calls: u64,
    /// When it is this old, as soon as the call that is running has ended. Default 6 hours.
    pub age: Duration,
}

impl Default for Recycling {
    fn default() -> Self {
        Self { calls: 10_000, age: Duration::from_secs(6 * 60 * 60) }
    }
}

/// What an instance is for. Deliveries and inbound work of one channel never share an instance: they meet in kv only. Nor
/// do hooks share one with what a plugin is called for: others wait for a hook, and whoever may call its methods could hold
/// them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Methods, tools, routes.
    Calls,
    /// Hooks.
    Hooks,
    /// `deliver` and `perform`.
    Outbound,
    /// Webhooks, polls, sockets.
    Inbound,
}

struct Job {
    frame: Frame,
    answer: oneshot::Sender<Result<GuestReply, Failure>>,
}

/// One resident instance and the calls that wait for it.
pub(crate) struct Actor {
    desk: Mutex<Desk>,
}

/// Either the instance is here and nobody waits, or somebody works with it.
struct Desk {
    idle: Option<Box<Resident>>,
    waiting: VecDeque<Job>,
}

impl Actor {
    /// An actor whose instance is made by its first call.
    pub(crate) fn new() -> Arc<Self> {
        let idle = Some(Box::new(Resident::default()));
        Arc::new(Self { desk: Mutex::new(Desk { idle, waiting: VecDeque::new() }) })
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `call`, now or when it is its turn. Dropping the future takes back a call that still waits; one that runs is
    /// finished all the same, and its guest is told that nobody waits.
    pub(crate) async fn call(
        self: &Arc<Self>,
        unit: &Arc<Unit>,
        call: GuestCall,
        context: CallContext,
    ) -> Result<GuestReply, Failure> {
        // Dropped with this future, it tells a guest that goes on without its caller.
        let waiting = context.waiting();
        let mut turn = match self.arrive(unit, Unit::frame(Some(call), context)) {
            Ok(Arrival::Turn(turn)) => turn,
            Ok(Arrival::Waits(answered)) => {
                let answer = answered.await.unwrap_or_else(|_| Err(gone(unit)));
                waiting.over();
                return answer;
            }
            Err(refusal) => {
                waiting.over();
                return Err(refusal);
            }
        };
        // Its size is what a call allocates: all that is rare in it is boxed on its own.
        let mut work = Box::pin(async move {
            let result = turn.serve().await;
            turn.pass_on();
            result
        });
        let answer = match std::future::poll_fn(|task| Poll::Ready(work.as_mut().poll(task))).await {
            Poll::Ready(result) => result,
            Poll::Pending => tokio::spawn(work).await.unwrap_or_else(|_| Err(gone(unit))),
        };
        waiting.over();
        answer
    }

    /// Takes the idle instance, or a place in the mailbox.
    fn arrive(self: &Arc<Self>, unit: &Arc<Unit>, frame: Frame) -> Result<Arrival, Failure> {
        let mut desk = self.desk();
        if let Some(resident) = desk.idle.take() {
            drop(desk);
            let (actor, unit) = (Arc::clone(self), Arc::clone(unit));
            return Ok(Arrival::Turn(Turn {
                actor,
                unit,
                resident: Some(resident),
                frame: Some(frame),
                is_running: true,
            }));
        }
        let most = if matches!(frame.work, Some(GuestCall::Webhook(_))) { WEBHOOKS } else { MAILBOX };
        if desk.waiting.len() >= most {
            desk.waiting.retain(|job| !job.answer.is_closed());
        }
        if desk.waiting.len() >= most {
            let key = &unit.shared().key;
            let message = format!("{most} calls wait for the plugin `{key}` already.");
            return Err(Failure::new(code::RATE_LIMITED, message)
                .hint("a resident instance serves one call at a time: send fewer at once")
                .retry_after(250));
        }
        let (answer, answered) = oneshot::channel();
        desk.waiting.push_back(Job { frame, answer });
        Ok(Arrival::Waits(answered))
    }
}

pub(crate) fn gone(unit: &Unit) -> Failure {
    Failure::unavailable(format!("The plugin `{}` was unloaded.", unit.shared().key))
        .hint("leanclaw plugin list shows what is installed")
        .retry_after(250)
}

enum Arrival {
    Turn(Turn),
    Waits(oneshot::Receiver<Result<GuestReply, Failure>>),
}

/// The right to work with the instance.
struct Turn {
    actor: Arc<Actor>,
    unit: Arc<Unit>,
    resident: Option<Box<Resident>>,
    /// The call whose turn it is.
    frame: Option<Frame>,
    is_running: bool,
}

impl Turn {
    async fn serve(&mut self) -> Result<GuestReply, Failure> {
        match self.resident.as_deref_mut() {
            Some(resident) => resident.one(&self.unit, &mut self.frame).await,
            None => Err(gone(&self.unit)),
        }
    }

    /// Ends the turn: the instance is idle, or goes to a task that serves what waits.
    fn pass_on(&mut self) {
        let mut desk = self.actor.desk();
        if desk.waiting.is_empty() {
            desk.idle = self.resident.take();
            return;
        }
        drop(desk);
        let Some(resident) = self.resident.take() else { return };
        let (actor, unit) = (Arc::clone(&self.actor), Arc::clone(&self.unit));
        tokio::spawn(Self { actor, unit, resident: Some(resident), frame: None, is_running: false }.empty_mailbox());
    }

    /// Serves what waits, until nothing does.
    async fn empty_mailbox(mut self) {
        self.is_running = true;
        while let Some(job) = self.next() {
            self.frame = Some(job.frame);
            let result = self.serve().await;
            // A caller that went away does not want the answer.
            let _ = job.answer.send(result);
            tokio::task::coop::consume_budget().await;
        }
    }

    /// The next call that somebody still waits for. With none left the instance is idle from here on.
    fn next(&mut self) -> Option<Job> {
        let mut desk = self.actor.desk();
        loop {
            match desk.waiting.pop_front() {
                Some(job) if job.answer.is_closed() => {}
                Some(job) => return Some(job),
                None => {
                    desk.idle = self.resident.take();
                    return None;
                }
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.resident.is_none() {
            return;
        }
        if self.is_running && std::thread::panicking() {
            return self.pass_on();
        }
        // The runtime ends and drops its tasks; whoever waits is told.
        let mut desk = self.actor.desk();
        desk.waiting.clear();
        desk.idle = self.resident.take();
    }
}

async fn make_live(unit: &Unit, frame: Frame) -> Result<Live, Failure> {
    let guest = unit.loaded().await?;
    unit.live(guest, frame).await
}

/// An instance with its history.
#[derive(Default)]
struct Resident {
    live: Option<Live>,
    served: u64,
    born: Option<Instant>,
    faults: VecDeque<Instant>,
    given_up: bool,
}

impl Resident {
    /// Runs the call in `frame`.
    async fn one(&mut self, unit: &Arc<Unit>, frame: &mut Option<Frame>) -> Result<GuestReply, Failure> {
        // Spent and still here: the call before this one ended in a panic.
        self.live.take_if(|live| live.store.is_spent());
        if self.live.is_none() || self.given_up {
            Box::pin(self.wait_after_faults(unit)).await?;
        }
        unit.check_open()?;
        let Some(frame) = frame.take() else { return Err(gone(unit)) };
        let number = frame.call;
        let export = frame.work.as_ref().map_or("", GuestCall::export);
        let live = match &mut self.live {
            Some(live) => {
                live.store.data_mut().begin(frame);
                live
            }
            none => {
                self.served = 0;
                self.born = Some(Instant::now());
                none.insert(Box::pin(make_live(unit, frame)).await?)
            }
        };
        let result = match unit.run(live, export).await {
            Ok(result) => result,
            Err(withdrawn) => {
                self.live = None;
                return Err(withdrawn);
            }
        };
        let memory_bytes = live.store.memory_bytes();
        unit.stats().memory(memory_bytes);
        if result.is_err() {
            // After a trap or a timeout nothing in the store can be trusted.
            self.live = None;
            self.fault(unit);
        } else {
            self.served += 1;
            // What it parks in the host counts like its memory: a guest that never drops a blob is replaced too.
            let held_bytes = memory_bytes.max(live.store.data().parked_bytes);
            let recycling = unit.recycling();
            let limiter = live.store.data_mut().limiter();
            // Its deadline stands for the time of the call, which is then not asked for twice.
            let is_old = self.born.zip(limiter.deadline()).is_some_and(|(born, end)| end >= born + recycling.age);
            let is_full =
                held_bytes.saturating_mul(100) >= limiter.limits().memory_bytes.saturating_mul(RECYCLE_MEMORY_PERCENT);
            if self.served >= recycling.calls || is_old || is_full {
                self.live = None;
            }
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
