//! Agents at work: a message is taken on, its turn comes, an agent in a sandbox answers it, and what it says is stored and told.
//!
//! This folder owns the order of runs ([`book`]), the host's side of the wire to an agent ([`turn`], [`frame`], [`updates`]),
//! what an agent is told ([`prompt`], [`words`]) and which model it has ([`models`]). It refuses to own where an agent runs
//! (`leanclaw-sandbox`), what is kept (`leanclaw-store`) and who may ask (`leanclaw-gateway`).
//!
//! * A message and its run are on disk before anybody is told that they were taken on, and a run's end before it is told.
//! * Runs of one session happen one after the other, and no more at once than [`AgentsConfig::max_concurrent`].
//! * An agent has no key and no network: models are called here, with the model that the session has.
//! * A run that a crash cut short is run again when nothing of it was done, and else ends with an error that says so.
//!
//! [`AgentsConfig::max_concurrent`]: crate::config::AgentsConfig::max_concurrent

mod book;
mod desk;
mod frame;
mod model_calls;
mod models;
mod prompt;
mod recovery;
mod sandbox;
#[cfg(test)]
mod tests;
mod turn;
mod updates;
mod wire;
mod words;
mod work;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use leanclaw_egress::Egress;
use leanclaw_gateway::{RunWatcher, Runs};
use leanclaw_store::{Store, TakenRun};
use leanclaw_types::Failure;
use leanclaw_types::clock::Clock;
use leanclaw_types::model::TokenUsage;
use leanclaw_types::run::{
    AbortReason, ActiveRun, RunEnd, RunEvent, RunModel, RunOutcome, RunRequest, RunState, RunStep, RunTaken,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::AgentsConfig;
use book::{Book, Running};
pub(crate) use desk::ToolBox;
use models::Models;
pub(crate) use sandbox::SandboxSource;

/// Runs of one session that may wait.
const MOST_WAITING: u32 = 50;
/// What messages may wait in memory, all together, in bytes.
const MOST_WAITING_BYTES: usize = 256 * 1024 * 1024;
/// How often somebody who waits looks for a run that is stored and not taken up.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long runs have to let go of their sandboxes when the program stops.
const CLOSING: Duration = Duration::from_secs(5);

/// What agents work with.
pub(crate) struct Means {
    pub(crate) store: Arc<Store>,
    pub(crate) tools: Arc<dyn ToolBox>,
    pub(crate) egress: Egress,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sandbox: SandboxSource,
    /// The folder of the agents' workspaces.
    pub(crate) folder: PathBuf,
    pub(crate) time_zone: TimeZone,
}

/// Those who hear what happens in runs.
#[derive(Default)]
struct Watchers(RwLock<Vec<Arc<dyn RunWatcher>>>);

impl Watchers {
    fn tell(&self, event: &RunEvent) {
        for watcher in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            watcher.saw(event);
        }
    }
}

struct Inner {
    means: Means,
    models: Models,
    watchers: Arc<Watchers>,
    book: Book,
    /// How many runs may go on at once.
    places: Semaphore,
    run_timeout: Duration,
    /// The program stops.
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// Runs agents. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Agents(Arc<Inner>);

impl Agents {
    /// Agents that nobody asks anything yet.
    ///
    /// # Errors
    /// A provider of models cannot be made of what is configured.
    pub(crate) fn new(config: &AgentsConfig, means: Means) -> Result<Self, Failure> {
        let models = Models::new(config, &means.egress, &means.clock)?;
        Ok(Self::with_models(config, means, models))
    }

    fn with_models(config: &AgentsConfig, means: Means, models: Models) -> Self {
        Self(Arc::new(Inner {
            means,
            models,
            watchers: Arc::default(),
            book: Book::default(),
            places: Semaphore::new(config.max_concurrent as usize),
            run_timeout: config.run_timeout,
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Takes up what was taken on before the program ended; to be called before anybody can ask for a run. Where a provider of
    /// models is configured, the sandbox is got ready and the provider asked which models there are, in the background.
    pub(crate) async fn resume(&self) {
        self.0.recover().await;
        let inner = Arc::clone(&self.0);
        if inner.models.has_provider() {
            self.0.tasks.spawn(async move {
                tokio::select! {
                    () = inner.stopping.cancelled() => {}
                    ((), ()) = async { tokio::join!(inner.models.look(), inner.means.sandbox.get_ready()) } => {}
                }
            });
        }
    }

    /// The program stops: no further turn begins, and what goes on is let go of.
    pub(crate) fn announce_end(&self) {
        self.0.stopping.cancel();
    }

    /// Lets go of every run: those that go on are found as cut short when the program starts again.
    pub(crate) async fn close(&self) {
        self.0.stopping.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(CLOSING, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("agents did not let go of their sandboxes in time");
        }
    }

    /// Why no agent can run although a provider of models is configured, as far as that is known. Without one nobody wants an
    /// agent yet.
    pub(crate) fn trouble(&self) -> Option<Failure> {
        self.0.models.has_provider().then(|| self.0.means.sandbox.trouble()).flatten()
    }
}

impl Inner {
    /// Puts a run into its line, and sees to it that somebody works through that.
    fn enqueue(self: &Arc<Self>, run: &Arc<Running>) {
        if self.book.add(run) {
            let (inner, key) = (Arc::clone(self), run.request.session_key.clone());
            self.tasks.spawn(async move { inner.work_through(&key).await });
        }
    }
}

#[async_trait]
impl Runs for Agents {
    async fn start(&self, request: RunRequest) -> Result<RunTaken, Failure> {
        let inner = &self.0;
        if inner.stopping.is_cancelled() {
            return Err(Failure::unavailable("The gateway is stopping.").hint("send it again in a moment"));
        }
        if inner.book.bytes().saturating_add(book::bytes_of(&request)) > MOST_WAITING_BYTES {
            return Err(
                Failure::unavailable("Too much waits for agents already.").hint("send it again once some is answered")
            );
        }
        let message = words::prompt(&request, inner.means.clock.now_ms());
        match inner.means.store.take_run(request.clone(), message, MOST_WAITING).await? {
            TakenRun::New(message, number) => {
                let run = Running::new(request, number);
                // Before anything else is told of it.
                inner.tell(&run, RunStep::Said(message.clone()));
                inner.enqueue(&run);
                Ok(RunTaken::New(message))
            }
            TakenRun::Known(message, state) => Ok(RunTaken::Known(message, state)),
            TakenRun::Past(message) => {
                let end = RunEnd {
                    outcome: RunOutcome::Done,
                    text: String::new(),
                    started_ms: None,
                    ended_ms: message.at_ms,
                    provider: None,
                    model: None,
                    usage: TokenUsage::default(),
                };
                Ok(RunTaken::Known(message, RunState::Ended(end)))
            }
            TakenRun::Conflict => {
                Err(Failure::invalid("This idempotencyKey was used for another message; use a new one."))
            }
            TakenRun::Full => {
                Err(Failure::unavailable(format!("{MOST_WAITING} messages of this session wait already."))
                    .hint("wait until some are answered, or end them with chat.abort"))
            }
            TakenRun::Missing => Err(Failure::not_found(format!("There is no session {}.", request.session_key))),
        }
    }

    fn state(&self, run_id: &str) -> Option<RunState> {
        if let Some(run) = self.0.book.get(run_id) {
            return Some(run.state());
        }
        let stored = self.0.means.store.run(run_id).unwrap_or_else(|error| {
            tracing::warn!(run = run_id, %error, "a run cannot be read");
            None
        });
        stored.map(|run| run.state)
    }

    fn active(&self, session_key: &str) -> Vec<ActiveRun> {
        self.0.book.of(session_key)
    }

    fn find(&self, run_id: &str) -> Option<ActiveRun> {
        self.0.book.get(run_id).map(|run| run.shown())
    }

    async fn abort(&self, run_id: &str, why: AbortReason) -> bool {
        let Some(run) = self.0.book.get(run_id) else { return false };
        if matches!(run.state(), RunState::Ended(_)) {
            return false;
        }
        run.stop_for(why);
        if run.claim() {
            // Its turn never comes. A task of its own: whoever asked may go away, and what is claimed has to end.
            let (inner, run) = (Arc::clone(&self.0), Arc::clone(&run));
            tokio::spawn(async move { inner.finish(&run, None).await });
        }
        run.ended().await;
        true
    }

    async fn wait(&self, run_id: &str) -> RunEnd {
        loop {
            if let Some(run) = self.0.book.get(run_id) {
                return run.ended().await;
            }
            match self.state(run_id) {
                Some(RunState::Ended(end)) => return end,
                // It was stored a moment ago and comes, or is stored as begun and its end could not be.
                Some(RunState::Waiting | RunState::Running) => tokio::time::sleep(LOOK_AGAIN).await,
                None => std::future::pending::<()>().await,
            }
        }
    }

    fn models(&self) -> Vec<RunModel> {
        self.0.models.list()
    }

    fn watch(&self, watcher: Arc<dyn RunWatcher>) {
        self.0.watchers.0.write().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }
}
