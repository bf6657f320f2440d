//! The other small things the gateway needs from the program.

use std::sync::Arc;

use async_trait::async_trait;
use leanclaw_types::Failure;
use leanclaw_types::audit::AuditRecord;
use leanclaw_types::run::{AbortReason, ActiveRun, RunEnd, RunEvent, RunModel, RunRequest, RunState, RunTaken};
use leanclaw_types::session::{
    AgentSessions, Appended, DecideSession, MarkedPage, NewMessage, RecallSessions, SessionLookup, SessionOutcome,
    SessionPage, SessionQuery, SessionRow, Transcript, TranscriptQuery, UsageCell, UsageQuery,
};

/// Takes typed rows that must be kept. Must not block: it is called on the path of a request.
pub trait AuditSink: Send + Sync + 'static {
    /// Writes one row, now or soon.
    fn audit(&self, record: AuditRecord);
}

/// One part of the program that `/ready` waits for.
pub trait Readiness: Send + Sync + 'static {
    /// Its name, such as `database`.
    fn name(&self) -> &str;
    /// Why it cannot serve now, in one line that holds no secret and no path; none when it can. Must be cheap.
    fn missing(&self) -> Option<String>;
}

/// One document of the gateway that is stored or taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    /// What it is, such as `device`.
    pub kind: &'static str,
    /// Which one.
    pub id: String,
    /// Its JSON text; none takes it away.
    pub body: Option<String>,
}

/// Keeps the gateway's small documents (devices, agents, approvals). They are few: the gateway holds them in memory and
/// reads them only when it starts.
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// Every document of a kind, as id and JSON text. May block.
    ///
    /// # Errors
    /// The store cannot be read.
    fn load(&self, kind: &str) -> Result<Vec<(String, String)>, Failure>;

    /// Stores all of these changes with their audit rows, or nothing. What was answered survives a `kill -9`.
    ///
    /// # Errors
    /// The store cannot be written.
    async fn change(&self, changes: Vec<RecordChange>, audit: Vec<AuditRecord>) -> Result<(), Failure>;
}

/// Keeps sessions and what was said in them. There may be very many.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// Another number after every change to what the other methods tell, at the latest once that change is answered.
    fn revision(&self) -> u64;

    /// The sessions that were asked for, the one that changed last first.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn list(&self, query: SessionQuery) -> Result<SessionPage, Failure>;

    /// As [`Sessions::list`], without reading the rows that `recall` knows: every other one comes with its mark, under which
    /// it can be kept.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn list_marked(&self, query: SessionQuery, recall: RecallSessions) -> Result<MarkedPage, Failure>;

    /// The session with that key. One row: must be quick.
    ///
    /// # Errors
    /// The store cannot be read.
    fn get(&self, key: &str) -> Result<Option<SessionRow>, Failure>;

    /// A few sessions, found in another way. Must be quick.
    ///
    /// # Errors
    /// The store cannot be read.
    fn find(&self, lookup: &SessionLookup) -> Result<Vec<SessionRow>, Failure>;

    /// Decides on a session with no other change in between, and stores that. What was answered survives a `kill -9`.
    ///
    /// # Errors
    /// The store cannot be written: then nothing changed.
    async fn change(&self, key: String, decide: DecideSession) -> Result<SessionOutcome, Failure>;

    /// A session's transcript or a part of it; empty when there is no such session.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn transcript(&self, key: &str, query: TranscriptQuery) -> Result<Transcript, Failure>;

    /// Adds a message to a session's transcript, once per `idempotencyKey` in its body; none when there is no such session.
    /// What was answered survives a `kill -9`.
    ///
    /// # Errors
    /// The store cannot be written: then nothing was added.
    async fn append(&self, key: &str, message: NewMessage) -> Result<Option<Appended>, Failure>;

    /// What was said and used in a span of time.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn usage(&self, query: UsageQuery) -> Result<Vec<UsageCell>, Failure>;

    /// Every agent that has sessions, with the `recent` that changed last. Must be quick.
    ///
    /// # Errors
    /// The store cannot be read.
    fn at_a_glance(&self, recent: u32) -> Result<Vec<AgentSessions>, Failure>;
}

/// Runs agents. The gateway asks for runs and tells its clients of them; when a run's turn comes, where it happens and what it
/// may do are decided behind this.
#[async_trait]
pub trait Runs: Send + Sync + 'static {
    /// Takes a message on for an agent: it is in the transcript, and it and its run survive a `kill -9`, before this answers.
    ///
    /// # Errors
    /// `invalid` when another message has that run's name, `not-found` when there is no such session; else the store cannot be
    /// written, or more waits than may wait: then nothing was taken on.
    async fn start(&self, request: RunRequest) -> Result<RunTaken, Failure>;

    /// Where a run stands; none when nobody knows it, or no more.
    fn state(&self, run_id: &str) -> Option<RunState>;

    /// The runs of a session that wait or go on, in their order. Must be quick.
    fn active(&self, session_key: &str) -> Vec<ActiveRun>;

    /// The run of that name, if it waits or goes on. Must be quick.
    fn find(&self, run_id: &str) -> Option<ActiveRun>;

    /// Ends a run that waits or goes on, its model call and its tools with it; what it said so far stays in the transcript. Its
    /// end was told when this answers. False when it had ended before.
    async fn abort(&self, run_id: &str, why: AbortReason) -> bool;

    /// Waits for a run's end; for ever for one that nobody knows.
    async fn wait(&self, run_id: &str) -> RunEnd;

    /// The models that runs can use, the default among them. Must be quick.
    fn models(&self) -> Vec<RunModel>;

    /// Has somebody told of what happens in runs from here on.
    fn watch(&self, watcher: Arc<dyn RunWatcher>);
}

/// Hears what happens in runs.
pub trait RunWatcher: Send + Sync + 'static {
    /// Something happened. The events of one run come in their order. Must not block: the run waits meanwhile.
    fn saw(&self, event: &RunEvent);
}
