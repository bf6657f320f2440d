//! One plugin and account that can be called: its linked component, its bounds, and how a call gets an instance.
//!
//! Per-call: every call has a store of its own, dropped with it. Resident: calls go through the mailbox of an actor
//! ([`crate::actor`]). Whether a caller may call at all is decided before this.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::manifest::Lifecycle;
use leanclaw_types::{Failure, failure::code};
use leanclaw_wasm::{CallError, InstancePermit, LazyComponent, Wasm};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use crate::actor::{Actor, Recycling, Role};
use crate::calls::{self, GuestCall, GuestReply};
use crate::error::{PluginError, call_failure, outcome};
use crate::guest::{self, Guest, Live};
use crate::linker::{Linkers, Shape};
use crate::logs::Level;
use crate::state::{CallContext, Frame, Shared, call_id};
use crate::stats::Stats;

/// Numbers every guest call of the program.
static CALLS: AtomicU64 = AtomicU64::new(1);

/// Numbers every unit of the program.
static UNITS: AtomicU64 = AtomicU64::new(1);

/// Calls that may wait for a turn, per call that may run.
const WAITING_PER_RUNNING: usize = 8;

/// What a unit is made of.
pub(crate) struct UnitParts {
    pub(crate) wasm: Wasm,
    pub(crate) linkers: Arc<Linkers>,
    pub(crate) component: Arc<LazyComponent>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) concurrency: usize,
    pub(crate) recycling: Recycling,
    pub(crate) stats: Arc<Stats>,
    /// Told when the unit gives up on a resident instance.
    pub(crate) faulted: mpsc::UnboundedSender<Faulted>,
}

/// A unit that crashed again and again.
#[derive(Debug, Clone)]
pub(crate) struct Faulted {
    pub(crate) key: leanclaw_types::PluginKey,
    pub(crate) unit: u64,
    pub(crate) reason: String,
}

/// What a unit had and has lost, so that nothing may go on in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Rights were taken back.
    Rights,
    /// Its login was taken away.
    Login,
}

impl Lost {
    /// What it was, what became of it, and how the plugin is loaded then.
    pub(crate) fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Rights => ("Rights", "were taken back", "with the rights that are left"),
            Self::Login => ("The login", "was taken away", "without it"),
        }
    }
}

/// The resident instances of one unit, one per role.
struct Actors {
    calls: Arc<Actor>,
    hooks: Arc<Actor>,
    outbound: Arc<Actor>,
    inbound: Arc<Actor>,
}

impl Actors {
    fn new() -> Self {
        Self { calls: Actor::new(), hooks: Actor::new(), outbound: Actor::new(), inbound: Actor::new() }
    }

    fn of(&self, role: Role) -> &Arc<Actor> {
        match role {
            Role::Calls => &self.calls,
            Role::Hooks => &self.hooks,
            Role::Outbound => &self.outbound,
            Role::Inbound => &self.inbound,
        }
    }
}

/// Places for calls that have an instance of their own each.
struct Lane {
    running: Semaphore,
    waiting: Semaphore,
}

impl Lane {
    fn new(concurrency: usize) -> Self {
        Self { running: Semaphore::new(concurrency), waiting: Semaphore::new(concurrency * WAITING_PER_RUNNING) }
    }
}

/// A plugin and account that can be called.
pub(crate) struct Unit {
    parts: UnitParts,
    guest: OnceCell<Arc<Guest>>,
    calls: Lane,
    /// Hooks wait for hooks only, as in [`Role`].
    hooks: Lane,
    actors: Actors,
    /// Tells it from the units that came before it under the same key.
    number: u64,
    /// Ends what runs on the unit's own account: polls, sockets, actors' back-off.
    pub(crate) stop: CancellationToken,
    /// How many of its drivers keep failing.
    pub(crate) cut_off: AtomicU32,
    /// What this unit lost, once it has.
    lost: OnceLock<Lost>,
    /// Cancelled after that: what runs in it ends.
    revoked: CancellationToken,
    /// Whether rights were taken back or the plugin was unloaded: nothing begins in it any more.
    is_closed: AtomicBool,
    /// Cancelled after that: what waits is turned away.
    closed: CancellationToken,
}

/// How a call on a live instance ended.
type Outcome = Result<Result<GuestReply, Failure>, CallError>;

impl Unit {
    pub(crate) fn new(parts: UnitParts) -> Arc<Self> {
        let concurrency = parts.concurrency.max(1);
        Arc::new(Self {
            guest: OnceCell::new(),
            calls: Lane::new(concurrency),
            hooks: Lane::new(concurrency),
            actors: Actors::new(),
            number: UNITS.fetch_add(1, Ordering::Relaxed),
            stop: CancellationToken::new(),
            cut_off: AtomicU32::new(0),
            lost: OnceLock::new(),
            is_closed: AtomicBool::new(false),
            revoked: CancellationToken::new(),
            closed: CancellationToken::new(),
            parts,
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.parts.shared
    }

    pub(crate) fn stats(&self) -> &Arc<Stats> {
        &self.parts.stats
    }

    /// Tells it from the units that came before it under the same key.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The linked component, loading it if this is its first use.
    pub(crate) async fn guest(&self) -> Result<Arc<Guest>, PluginError> {
        if let Some(made) = self.guest.get() {
            return Ok(Arc::clone(made));
        }
        let made = self.guest.get_or_try_init(async || {
            let component = self.parts.component.get().await?;
            let shape = Shape::of(&self.parts.shared.granted, guest::serves_http(component));
            Guest::link(component, &self.parts.linkers, &shape)
                .map(Arc::new)
                .map_err(|error| PluginError::Link(crate::logs::escape_lines(&format!("{error:#}"))))
        });
        // Boxed, like all that only a first or a waiting call needs: the futures of the calls are moved on their way.
        Box::pin(made).await.cloned()
    }

    /// A frame for the next call.
    pub(crate) fn frame(work: Option<GuestCall>, context: CallContext) -> Frame {
        Frame { call: CALLS.fetch_add(1, Ordering::Relaxed), context, work }
    }

    /// Runs `call`, on a fresh instance or in the mailbox of `role`.
    ///
    /// # Errors
    /// What the guest answered, or what became of the call: `timed-out`, `budget-exhausted`, `internal`, `rate-limited`
    /// when too many calls wait, `unavailable` when a resident instance is being rebuilt or no instance became free in time.
    pub(crate) async fn call(
        self: &Arc<Self>,
        role: Role,
        call: GuestCall,
        context: CallContext,
    ) -> Result<GuestReply, Failure> {
        let lane = match role {
            Role::Calls => Some(&self.calls),
            Role::Hooks => Some(&self.hooks),
            Role::Outbound | Role::Inbound => None,
        };
        match lane.filter(|_| self.parts.lifecycle != Lifecycle::Resident) {
            Some(lane) => Box::pin(self.fresh(lane, call, context)).await,
            None => self.actors.of(role).call(self, call, context).await,
        }
    }

    async fn fresh(&self, lane: &Lane, call: GuestCall, context: CallContext) -> Result<GuestReply, Failure> {
        let guest = self.loaded().await?;
        let _turn = self.turn(lane).await?;
        let export = call.export();
        let frame = Self::frame(Some(call), context);
        let number = frame.call;
        let mut live = self.live(guest, frame).await?;
        let result = self.run(&mut live, export).await?;
        self.parts.stats.memory(live.store.memory_bytes());
        self.settle(number, export, result)
    }

    /// The linked component for a call.
    ///
    /// # Errors
    /// `unavailable` when it cannot be loaded, or will not be called any more.
    pub(crate) async fn loaded(&self) -> Result<Arc<Guest>, Failure> {
        if let Some(made) = self.guest.get() {
            return Ok(Arc::clone(made));
        }
        Box::pin(self.unless_closed(self.guest())).await?.map_err(|error| self.cannot_load(&error))
    }

    /// An instance for the call in `frame`, or room for it: the guest is made within the call.
    ///
    /// # Errors
    /// `unavailable` when none became free in the time of a call, or the unit will not be called any more.
    pub(crate) async fn live(&self, guest: Arc<Guest>, frame: Frame) -> Result<Live, Failure> {
        let permit = match self.parts.wasm.try_instance_permit() {
            Some(permit) => permit,
            None => Box::pin(self.wait_for_instance()).await?,
        };
        Ok(Live::new(permit, guest, Arc::clone(&self.parts.shared), frame))
    }

    async fn wait_for_instance(&self) -> Result<InstancePermit, Failure> {
        let Self { parts: UnitParts { wasm, shared, .. }, .. } = self;
        let permit = tokio::time::timeout(shared.limits.wall_clock, wasm.instance_permit());
        self.unless_closed(permit).await?.map_err(|_| guest::crowded(wasm, shared))
    }

    /// Waits for `work`, but not longer than there is a point in it.
    async fn unless_closed<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(self.refusal()),
            done = work => Ok(done),
        }
    }

    /// A place among the calls that may run at once.
    async fn turn<'lane>(&self, lane: &'lane Lane) -> Result<SemaphorePermit<'lane>, Failure> {
        match lane.running.try_acquire() {
            Ok(turn) => Ok(turn),
            Err(_) => Box::pin(self.wait_for_turn(lane)).await,
        }
    }

    async fn wait_for_turn<'lane>(&self, lane: &'lane Lane) -> Result<SemaphorePermit<'lane>, Failure> {
        let busy = || {
            let key = &self.parts.shared.key;
            Failure::new(code::RATE_LIMITED, format!("Too many calls of the plugin `{key}` are waiting."))
                .hint("raise limits.concurrency in its manifest; above the default it needs a grant")
                .retry_after(100)
        };
        let _place = lane.waiting.try_acquire().map_err(|_| busy())?;
        let wait = self.parts.shared.limits.wall_clock;
        match self.unless_closed(tokio::time::timeout(wait, lane.running.acquire())).await? {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(busy()),
        }
    }

    /// Rights of this unit were taken back, or its login was: what waits is turned away, what runs is ended, and nothing
    /// polls or listens for it any more. Whoever revokes takes it out of the table first.
    pub(crate) fn revoke(&self, lost: Lost) {
        // What came first is the reason; all ends by it.
        let _ = self.lost.set(lost);
        self.is_closed.store(true, Ordering::SeqCst);
        self.revoked.cancel();
        self.closed.cancel();
        self.stop.cancel();
    }

    /// The plugin was taken away: what waits is turned away, and what runs is told that nobody is there any more. Other
    /// than for a version that is replaced, whose calls end as they would have.
    pub(crate) fn unload(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.parts.shared.ending.cancel();
        self.closed.cancel();
        self.stop.cancel();
    }

    /// Whether a call may begin.
    ///
    /// # Errors
    /// `unavailable`, to be tried again, when something was taken from it or the plugin was unloaded.
    pub(crate) fn check_open(&self) -> Result<(), Failure> {
        if self.is_closed.load(Ordering::SeqCst) { Err(self.refusal()) } else { Ok(()) }
    }

    /// Why nothing begins in it any more.
    fn refusal(&self) -> Failure {
        if self.lost.get().is_some() { self.withdrawn() } else { crate::actor::gone(self) }
    }

    pub(crate) fn withdrawn(&self) -> Failure {
        let (what, became, then) = self.lost().words();
        let key = &self.parts.shared.key;
        Failure::unavailable(format!("{what} of the plugin `{key}` {became} before this call began."))
            .hint(format!("call again: it is being loaded {then}"))
            .retry_after(250)
    }

    fn lost(&self) -> Lost {
        self.lost.get().copied().unwrap_or(Lost::Rights)
    }

    /// Runs the call in the frame of a live instance. After an error the instance has to be dropped.
    ///
    /// # Errors
    /// `unavailable` when something was taken from it before or meanwhile: a guest that could go on would keep using it.
    pub(crate) async fn run(&self, live: &mut Live, export: &'static str) -> Result<Outcome, Failure> {
        self.check_open()?;
        let wall_clock = self.parts.shared.limits.wall_clock;
        let work = pin!(live.run(export, wall_clock, calls::run));
        let Some(result) = self.unless_revoked(work).await else {
            let shared = &self.parts.shared;
            let (what, became, _) = self.lost().words();
            shared.logs.write(
                Level::Warn,
                "host",
                "",
                &format!("{export} was ended: {} {became}", what.to_lowercase()),
            );
            let message = format!("{what} of the plugin `{}` {became} while this call ran.", shared.key);
            return Err(
                Failure::new(code::UNAVAILABLE, message).hint("it was ended; it may have done a part of its work")
            );
        };
        Ok(result)
    }

    /// Drives `work` to its end; none when rights are taken back before that.
    pub(crate) async fn unless_revoked<W: Future>(&self, mut work: Pin<&mut W>) -> Option<W::Output> {
        let mut revoked = None;
        std::future::poll_fn(|task| {
            if let Poll::Ready(result) = work.as_mut().poll(task) {
                return Poll::Ready(Some(result));
            }
            // Asked only when the guest waits or yields, so that a call that does neither pays nothing.
            revoked.get_or_insert_with(|| Box::pin(self.revoked.cancelled())).as_mut().poll(task).map(|()| None)
        })
        .await
    }

    /// Counts, logs and audits how a call ended, and makes a bad end a failure.
    pub(crate) fn settle(
        &self,
        call: u64,
        export: &'static str,
        result: Result<Result<GuestReply, Failure>, CallError>,
    ) -> Result<GuestReply, Failure> {
        let stats = &self.parts.stats;
        Stats::count(&stats.calls);
        let error = match result {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(failure)) => {
                Stats::count(&stats.failures);
                return Err(failure);
            }
            Err(error) => error,
        };
        let shared = &self.parts.shared;
        Stats::count(if matches!(error, CallError::Timeout { .. }) { &stats.timeouts } else { &stats.traps });
        let id = call_id(call);
        let mut message = format!("{export}: {error}");
        if let CallError::Trap { report } = &error
            && !report.backtrace.is_empty()
        {
            message.push('\n');
            message.push_str(&report.backtrace);
        }
        for line in message.lines() {
            shared.logs.write(Level::Error, "host", &id, line);
        }
        shared.services.audit.audit(AuditRecord {
            at_ms: shared.services.clock.now_ms(),
            actor: format!("plugin:{}", shared.key),
            event: AuditEvent::PluginTrap {
                plugin: shared.key.to_string(),
                call_id: id,
                export: export.into(),
                what: outcome(&error).into(),
                message: crate::logs::cut(&error.to_string(), 500).to_owned(),
            },
        });
        Err(call_failure(&shared.key.to_string(), export, &error))
    }

    /// Tells the runtime that this unit is beyond repair by itself.
    pub(crate) fn give_up(&self, reason: String) {
        // The runtime is gone only when the program ends.
        let _ = self.parts.faulted.send(Faulted { key: self.parts.shared.key.clone(), unit: self.number, reason });
    }

    /// For a call that comes before the code is there and finds that it cannot be loaded: the caller is told, and so is
    /// whoever looks at the plugin. What may pass is left to the next call to try again.
    fn cannot_load(&self, error: &PluginError) -> Failure {
        if error.is_transient() {
            self.parts.shared.logs.write(Level::Warn, "host", "", &error.reason());
            return load_failure(error).retry_after(1000);
        }
        self.give_up(format!("{}\nhint: leanclaw plugin reload {}", error.reason(), self.parts.shared.key));
        load_failure(error)
    }

    /// When a resident instance is replaced.
    pub(crate) fn recycling(&self) -> Recycling {
        self.parts.recycling
    }

    /// How long one call may take.
    pub(crate) fn wall_clock(&self) -> Duration {
        self.parts.shared.limits.wall_clock
    }
}

/// A plugin that cannot be loaded, for a caller.
fn load_failure(error: &PluginError) -> Failure {
    let mut failure = Failure::unavailable(error.to_string());
    failure.hints = error.hints();
    failure
}
