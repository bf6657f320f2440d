//! Which runs wait and which go on: one line of runs per session, each worked through by a task of its own.
//!
//! It knows the order and nothing of what a run does. A run is taken by whoever claims it: the task of its line when its turn
//! comes, or whoever ends it before.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use leanclaw_types::run::{AbortReason, ActiveRun, RunEnd, RunRequest, RunState};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A run that has not ended.
pub(super) struct Running {
    pub(super) request: RunRequest,
    /// Its place in the order.
    number: i64,
    state: watch::Sender<RunState>,
    /// Ends it early.
    pub(super) stop: CancellationToken,
    why: OnceLock<AbortReason>,
    is_claimed: AtomicBool,
}

impl Running {
    pub(super) fn new(request: RunRequest, number: i64) -> Arc<Self> {
        Arc::new(Self {
            request,
            number,
            state: watch::Sender::new(RunState::Waiting),
            stop: CancellationToken::new(),
            why: OnceLock::new(),
            is_claimed: AtomicBool::new(false),
        })
    }

    /// Has it end early; the first reason counts.
    pub(super) fn stop_for(&self, why: AbortReason) {
        let _ = self.why.set(why);
        self.stop.cancel();
    }

    /// Why it was to end early, if it was.
    pub(super) fn stopped_for(&self) -> Option<AbortReason> {
        self.stop.is_cancelled().then(|| self.why.get().copied().unwrap_or(AbortReason::Rpc))
    }

    /// True for the first who asks: it is theirs to run or to end.
    pub(super) fn claim(&self) -> bool {
        !self.is_claimed.swap(true, Ordering::AcqRel)
    }

    pub(super) fn state(&self) -> RunState {
        self.state.borrow().clone()
    }

    /// What others may know of it.
    pub(super) fn shown(&self) -> ActiveRun {
        ActiveRun {
            run_id: self.request.run_id.clone(),
            session_key: self.request.session_key.clone(),
            owner: self.request.owner.clone(),
            is_running: matches!(self.state(), RunState::Running),
        }
    }

    pub(super) fn is_now(&self, state: RunState) {
        self.state.send_replace(state);
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) -> RunEnd {
        let mut states = self.state.subscribe();
        loop {
            if let RunState::Ended(end) = &*states.borrow_and_update() {
                return end.clone();
            }
            if states.changed().await.is_err() {
                // It is held by whoever waits here, and so is its sender.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// What a request takes in memory, in bytes.
pub(super) fn bytes_of(request: &RunRequest) -> usize {
    let pictures: usize = request.images.iter().map(|image| image.data.len()).sum();
    pictures + request.message.len() + request.system.len()
}

#[derive(Default)]
struct Lines {
    /// What all requests take in memory, in bytes.
    bytes: usize,
    sessions: HashMap<String, VecDeque<Arc<Running>>>,
    runs: HashMap<String, Arc<Running>>,
}

/// All runs that have not ended.
#[derive(Default)]
pub(super) struct Book(Mutex<Lines>);

impl Book {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a run into the line of its session. True when that line is new and somebody has to work through it.
    pub(super) fn add(&self, run: &Arc<Running>) -> bool {
        let mut lines = self.lines();
        lines.runs.insert(run.request.run_id.clone(), Arc::clone(run));
        lines.bytes += bytes_of(&run.request);
        let is_new = !lines.sessions.contains_key(&run.request.session_key);
        let line = lines.sessions.entry(run.request.session_key.clone()).or_default();
        // Two that were stored at once may come here in the other order.
        let at = line.iter().position(|other| other.number > run.number && !other.is_claimed.load(Ordering::Acquire));
        line.insert(at.unwrap_or(line.len()), Arc::clone(run));
        is_new
    }

    /// The next run of a session. The line is gone when there is none.
    pub(super) fn next(&self, session_key: &str) -> Option<Arc<Running>> {
        let mut lines = self.lines();
        let next = lines.sessions.get(session_key).and_then(|line| line.front().cloned());
        if next.is_none() {
            lines.sessions.remove(session_key);
        }
        next
    }

    /// Takes a run that has ended out.
    pub(super) fn remove(&self, run: &Running) {
        let mut lines = self.lines();
        if lines.runs.remove(&run.request.run_id).is_some() {
            lines.bytes = lines.bytes.saturating_sub(bytes_of(&run.request));
        }
        if let Some(line) = lines.sessions.get_mut(&run.request.session_key) {
            line.retain(|other| other.number != run.number);
        }
    }

    /// What all requests take in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.lines().bytes
    }

    pub(super) fn get(&self, run_id: &str) -> Option<Arc<Running>> {
        self.lines().runs.get(run_id).cloned()
    }

    /// The runs of a session, in their order.
    pub(super) fn of(&self, session_key: &str) -> Vec<ActiveRun> {
        let lines = self.lines();
        lines.sessions.get(session_key).into_iter().flatten().map(|run| run.shown()).collect()
    }

    /// The runs of a session whose turn has not come.
    pub(super) fn waiting(&self, session_key: &str) -> HashSet<String> {
        self.of(session_key).into_iter().filter(|run| !run.is_running).map(|run| run.run_id).collect()
    }
}

#[cfg(test)]
mod tests {
    use leanclaw_types::model::TokenUsage;
    use leanclaw_types::run::{RunOutcome, RunOwner};

    use super::*;

    fn run(number: i64, session: &str) -> Arc<Running> {
        let request = RunRequest {
            run_id: format!("r{number}"),
            session_key: session.into(),
            message: "hi".into(),
            images: Vec::new(),
            thinking: None,
            timeout_ms: None,
            system: String::new(),
            owner: RunOwner::default(),
        };
        Running::new(request, number)
    }

    #[test]
    fn each_session_has_a_line_in_the_order_in_which_runs_were_taken_on() {
        let book = Book::default();
        let (first, second, third) = (run(1, "a"), run(2, "a"), run(3, "a"));
        assert!(book.add(&first));
        assert!(!book.add(&third));
        assert!(!book.add(&second));
        assert!(book.add(&run(4, "b")));
        let order: Vec<String> = book.of("a").into_iter().map(|run| run.run_id).collect();
        assert_eq!(order, ["r1", "r2", "r3"]);
        first.is_now(RunState::Running);
        assert_eq!(book.waiting("a"), HashSet::from(["r2".to_owned(), "r3".to_owned()]));
        for expected in ["r1", "r2", "r3"] {
            let next = book.next("a").unwrap();
            assert_eq!(next.request.run_id, expected);
            book.remove(&next);
        }
        assert!(book.next("a").is_none());
        assert!(book.add(&run(5, "a")), "the line is new again");
        assert!(book.get("r4").is_some() && book.get("r1").is_none());
        assert_eq!(book.bytes(), 2 * "hi".len());
    }

    #[test]
    fn a_run_that_goes_on_is_not_overtaken() {
        let book = Book::default();
        let later = run(2, "a");
        book.add(&later);
        assert!(later.claim() && !later.claim());
        book.add(&run(1, "a"));
        assert_eq!(book.next("a").unwrap().request.run_id, "r2");
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_the_end() {
        let run = run(1, "a");
        let end = RunEnd {
            outcome: RunOutcome::Done,
            text: String::new(),
            started_ms: None,
            ended_ms: 1,
            provider: None,
            model: None,
            usage: TokenUsage::default(),
        };
        let waiting = tokio::spawn({
            let run = Arc::clone(&run);
            async move { run.ended().await }
        });
        tokio::task::yield_now().await;
        run.is_now(RunState::Running);
        run.is_now(RunState::Ended(end.clone()));
        assert_eq!(waiting.await.unwrap(), end);
        assert_eq!(run.ended().await, end);
        assert_eq!(run.stopped_for(), None);
        run.stop_for(AbortReason::Stop);
        run.stop_for(AbortReason::Timeout);
        assert_eq!(run.stopped_for(), Some(AbortReason::Stop));
    }
}
