//! Working through the runs of a session: each one's turn, its bounds, and its end.

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use leanclaw_sandbox::{RunLimits, RunSpec, WORKSPACE};
use leanclaw_types::Failure;
use leanclaw_types::model::TokenUsage;
use leanclaw_types::run::{AbortReason, RunEnd, RunEvent, RunOutcome, RunState, RunStep};
use leanclaw_types::session::{SessionChange, SessionRow};
use leanclaw_types::text::shown;
use serde_json::json;

use super::book::Running;
use super::desk::{RunDesk, Tools};
use super::turn::{self, Desk, Ended, Work};
use super::{Inner, prompt, sandbox, words};

/// What a model is told of a conversation at most, in bytes of its messages.
const HISTORY_BYTES: usize = 600 * 1024;
/// How long a run may wait for a place in the sandbox once its turn has come.
const PLACE: Duration = Duration::from_secs(120);
/// The longest line that an agent may write, in bytes: as long as what is sent to a provider at most.
const LINE_BYTES: usize = 32 * 1024 * 1024;
/// The most characters of a failure that are logged.
const MOST_LOGGED: usize = 500;
/// Beyond the time of a run: what its sandbox is given, so that the run ends before it.
const MARGIN: Duration = Duration::from_secs(60);

impl Inner {
    /// Works through the runs of a session until none is left, or the program stops.
    pub(super) async fn work_through(self: Arc<Self>, session_key: &str) {
        while let Some(run) = self.book.next(session_key) {
            // One that was stopped takes no place.
            let place = tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                place = self.places.acquire() => place.ok(),
                () = run.stop.cancelled() => None,
            };
            if !run.claim() {
                // Somebody else ends it, and takes it out of the line when it has.
                drop(place);
                tokio::select! {
                    () = self.stopping.cancelled() => return,
                    _ = run.ended() => continue,
                }
            }
            if !self.take_turn(&run).await {
                return;
            }
            drop(place);
        }
    }

    /// False when the program stops in the midst of it: the run stays as it is stored, to be found at the next start. An end
    /// that was reached is always stored and told.
    async fn take_turn(self: &Arc<Self>, run: &Arc<Running>) -> bool {
        let started_ms = self.means.clock.now_ms();
        let ended = match self.means.store.start_run(&run.request.run_id, started_ms).await {
            _ if run.stop.is_cancelled() => None,
            Ok(true) => {
                run.is_now(RunState::Running);
                let running = AssertUnwindSafe(self.bounded(run)).catch_unwind();
                tokio::select! {
                    biased;
                    ended = running => Some(ended.unwrap_or_else(|_| Ended::failed(panicked()))),
                    () = self.stopping.cancelled() => return false,
                }
            }
            // It ended in the store: its session went, or began anew.
            Ok(false) => None,
            Err(error) => Some(Ended::failed(error.into())),
        };
        self.finish(run, ended.map(|ended| (started_ms, ended))).await;
        true
    }

    /// A run within its time.
    async fn bounded(self: &Arc<Self>, run: &Arc<Running>) -> Ended {
        let limit = run.request.timeout_ms.filter(|limit| *limit > 0).map_or(self.run_timeout, Duration::from_millis);
        let limit = limit.min(self.run_timeout);
        let mut running = std::pin::pin!(self.run(run, limit));
        match tokio::time::timeout(limit, &mut running).await {
            Ok(ended) => ended,
            Err(_) => {
                run.stop_for(AbortReason::Timeout);
                running.await
            }
        }
    }

    async fn run(self: &Arc<Self>, run: &Arc<Running>, limit: Duration) -> Ended {
        let begun = tokio::select! {
            begun = self.begin(run, limit) => begun,
            () = run.stop.cancelled() => Err(Failure::unavailable("It was stopped.")),
        };
        match begun {
            Ok((desk, work, sandboxed)) => turn::run(desk, work, sandboxed).await,
            Err(failure) if run.stop.is_cancelled() => Ended { result: None, ..Ended::failed(failure) },
            Err(failure) => Ended::failed(failure),
        }
    }

    /// Everything that has to be there before an agent is asked.
    async fn begin(
        self: &Arc<Self>,
        run: &Arc<Running>,
        limit: Duration,
    ) -> Result<(Arc<RunDesk>, Work, leanclaw_sandbox::Run), Failure> {
        let request = &run.request;
        let row = self.session(&request.session_key)?;
        let desk = Arc::new(self.desk(run, &row));
        desk.tell(RunStep::Started);
        let choice = self.models.choose(&row.entry).await?;
        let mut not_told = self.book.waiting(&request.session_key);
        not_told.insert(request.run_id.clone());
        let messages = self.means.store.history(&request.session_key, not_told, HISTORY_BYTES).await?;
        let history = words::history(&messages);
        let workspace = workspace(self.means.folder.clone(), row.agent.clone()).await?;
        let spec = self.spec(run, &row, workspace, limit);
        let sandbox = self.means.sandbox.get().await?;
        let sandboxed = tokio::time::timeout(PLACE, sandbox.start(spec))
            .await
            .map_err(|_| {
                Failure::unavailable("No place in the sandbox became free in time.")
                    .hint("raise LEANCLAW_MAX_INSTANCES")
            })?
            .map_err(|error| sandbox::failure(&error))?;
        let date = prompt::date(self.means.clock.now_ms(), &self.means.time_zone);
        let tools = desk.tools.definitions.clone();
        let work = Work {
            run_id: request.run_id.clone(),
            prompt: words::prompt_blocks(request),
            setup: prompt::setup(request, &row, &choice, history, tools, date),
            choice,
            workspace: WORKSPACE,
            stop: run.stop.clone(),
        };
        Ok((desk, work, sandboxed))
    }

    fn session(&self, key: &str) -> Result<SessionRow, Failure> {
        self.means.store.session(key)?.ok_or_else(|| Failure::not_found(format!("There is no session {key}.")))
    }

    fn desk(&self, run: &Arc<Running>, row: &SessionRow) -> RunDesk {
        RunDesk {
            store: Arc::clone(&self.means.store),
            tool_box: Arc::clone(&self.means.tools),
            clock: Arc::clone(&self.means.clock),
            watchers: Arc::clone(&self.watchers),
            run: Arc::clone(run),
            agent: row.agent.clone(),
            tools: Tools::of(self.means.tools.tools()),
        }
    }

    fn spec(&self, run: &Running, row: &SessionRow, workspace: PathBuf, limit: Duration) -> RunSpec {
        let id = run.request.run_id.clone();
        RunSpec {
            run_id: id.clone(),
            group: row.agent.clone(),
            workspace,
            mounts: Vec::new(),
            time_zone: self.means.time_zone.iana_name().map(str::to_owned),
            limits: RunLimits {
                wall_clock: limit + MARGIN,
                // A model may think, and a tool work, for as long as the run may take.
                idle: limit + MARGIN,
                // An agent says the whole conversation with each call of the model.
                line_bytes: LINE_BYTES,
                ..RunLimits::default()
            },
            log: Arc::new(move |line| tracing::info!(target: "leanclaw::agent", run = id, "{}", line.text)),
        }
    }

    /// Stores how a run ended, and tells of it. `ended` is none for one whose turn never came.
    pub(super) async fn finish(self: &Arc<Self>, run: &Arc<Running>, ended: Option<(u64, Ended)>) {
        let request = &run.request;
        let last = ended.as_ref().and_then(|(_, ended)| ended.answered.as_ref()).map(|answered| answered.usage);
        let end = self.end(run, ended);
        if let RunOutcome::Failed { failure } = &end.outcome {
            let hints = failure.hints.join("; ");
            let (message, hints) = (shown(&failure.message, MOST_LOGGED), shown(&hints, MOST_LOGGED));
            tracing::warn!(run = request.run_id, code = failure.code, hints, "a run failed: {message}");
            self.note_failure(run, failure).await;
        }
        self.note_usage(run, &end, last).await;
        match self.means.store.end_run(&request.run_id, end.clone()).await {
            Ok(_) => {}
            Err(error) => tracing::error!(run = request.run_id, %error, "the end of a run cannot be stored"),
        }
        self.tell(run, RunStep::Ended(end.clone()));
        self.book.remove(run);
        run.is_now(RunState::Ended(end));
    }

    fn end(&self, run: &Running, ended: Option<(u64, Ended)>) -> RunEnd {
        let (started_ms, ended) = match ended {
            Some((started_ms, ended)) => (Some(started_ms), Some(ended)),
            None => (None, None),
        };
        let aborted = || RunOutcome::Aborted { by: run.stopped_for().unwrap_or(AbortReason::Rpc) };
        let outcome = match ended.as_ref().map(|ended| &ended.result) {
            Some(Some(Ok(()))) => RunOutcome::Done,
            Some(Some(Err(failure))) => RunOutcome::Failed { failure: failure.clone() },
            Some(None) | None => aborted(),
        };
        let answered = ended.as_ref().and_then(|ended| ended.answered.clone());
        RunEnd {
            outcome,
            text: ended.as_ref().map(|ended| without_internal(&ended.text)).unwrap_or_default(),
            started_ms,
            ended_ms: self.means.clock.now_ms(),
            provider: answered.as_ref().map(|answered| answered.provider.clone()),
            model: answered.map(|answered| answered.model),
            usage: ended.map(|ended| ended.usage).unwrap_or_default(),
        }
    }

    /// Has people find in the transcript why there is no answer.
    async fn note_failure(&self, run: &Arc<Running>, failure: &Failure) {
        let message = words::broken_off(&run.request.run_id, &failure.message, self.means.clock.now_ms());
        match self.means.store.append_run_messages(&run.request.session_key, vec![message]).await {
            Ok(stored) => {
                for message in stored.unwrap_or_default() {
                    self.tell(run, RunStep::Said(message));
                }
            }
            Err(error) => {
                tracing::warn!(run = run.request.run_id, %error, "what became of a run is not in its transcript");
            }
        }
    }

    pub(super) fn tell(&self, run: &Running, step: RunStep) {
        let request = &run.request;
        self.watchers.tell(&RunEvent {
            run_id: request.run_id.clone(),
            session_key: request.session_key.clone(),
            owner: request.owner.clone(),
            at_ms: self.means.clock.now_ms(),
            step,
        });
    }

    /// Notes how a run left its session. Clients hold `totalTokens` and `inputTokens` against what a model can take in at once
    /// and warn when that is nearly full, so both say what its last call read; what all calls used, the transcript adds up.
    async fn note_usage(&self, run: &Running, end: &RunEnd, last: Option<TokenUsage>) {
        let (written, is_aborted) = (end.usage.output, matches!(end.outcome, RunOutcome::Aborted { .. }));
        let decide = move |row: Option<SessionRow>| {
            let Some(mut row) = row else { return SessionChange::Nothing };
            if let Some(last) = last {
                let read = last.total().saturating_sub(last.output);
                for (name, tokens) in [("inputTokens", read), ("outputTokens", written), ("totalTokens", read)] {
                    row.entry.insert(name.to_owned(), json!(tokens));
                }
                row.entry.insert("totalTokensFresh".to_owned(), json!(true));
            }
            row.entry.insert("abortedLastRun".to_owned(), json!(is_aborted));
            row.entry.insert("systemSent".to_owned(), json!(true));
            SessionChange::Put(row)
        };
        let changed = self.means.store.change_session(run.request.session_key.clone(), Box::new(decide)).await;
        if let Err(error) = changed {
            tracing::warn!(run = run.request.run_id, %error, "what a run used is not noted in its session");
        }
    }
}

fn panicked() -> Failure {
    Failure::internal("The run ended in a fault of LeanClaw's own.").hint("the log says where: leanclaw logs")
}

/// A reply without what an agent keeps for itself (`<internal>…</internal>`).
fn without_internal(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some((before, after)) = rest.split_once("<internal>") {
        kept.push_str(before);
        rest = after.split_once("</internal>").map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    kept.trim().to_owned()
}

/// The workspace of an agent, made when it is missing.
async fn workspace(folder: PathBuf, agent: String) -> Result<PathBuf, Failure> {
    let path = folder.join(agent).join("workspace");
    let made = tokio::task::spawn_blocking({
        let path = path.clone();
        move || make_private(&path).and_then(|()| path.canonicalize())
    });
    let made = made.await.map_err(|_| Failure::internal("Making the workspace ended before its time."))?;
    made.map_err(|error| {
        Failure::unavailable(format!("The agent's workspace {} cannot be made: {error}.", path.display()))
            .hint("the user that LeanClaw runs as has to own its data directory")
    })
}

fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_keeps_for_itself_is_not_part_of_its_reply() {
        assert_eq!(without_internal("a <internal>b</internal> c<internal>d"), "a  c");
        assert_eq!(without_internal("<internal>b</internal>"), "");
        assert_eq!(without_internal("plain </internal>"), "plain </internal>");
    }

    #[tokio::test]
    async fn a_workspace_is_made_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let made = workspace(folder.path().join("agents"), "main".into()).await.unwrap();
        assert!(made.ends_with("agents/main/workspace"), "{made:?}");
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(folder.path().join("file"), "").unwrap();
        let failure = workspace(folder.path().join("file"), "main".into()).await.unwrap_err();
        assert!(failure.message.contains("cannot be made"), "{failure:?}");
    }
}
