//! Runs that a test drives by hand: nothing happens in one until the test says so.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use leanclaw_types::Failure;
use leanclaw_types::model::TokenUsage;
use leanclaw_types::run::{
    AbortReason, ActiveRun, RunEnd, RunEvent, RunModel, RunOutcome, RunRequest, RunState, RunStep, RunTaken,
};
use leanclaw_types::session::{NewMessage, TranscriptMessage};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::fake::MemoryRecords;
use crate::{RunWatcher, Runs, Sessions as _};

/// When the first thing happens, in milliseconds since the Unix epoch.
pub(super) const BEGIN_MS: u64 = 1_700_000_000_000;

struct FakeRun {
    request: RunRequest,
    message: TranscriptMessage,
    state: RunState,
    started_ms: Option<u64>,
    text: String,
}

pub(super) struct FakeRuns {
    records: Arc<MemoryRecords>,
    runs: Mutex<Vec<FakeRun>>,
    watchers: Mutex<Vec<Arc<dyn RunWatcher>>>,
    pub(super) models: Mutex<Vec<RunModel>>,
    /// Why no run is taken on.
    pub(super) refusal: Mutex<Option<Failure>>,
    now_ms: Mutex<u64>,
    changed: watch::Sender<()>,
}

impl FakeRuns {
    pub(super) fn over(records: Arc<MemoryRecords>) -> Self {
        Self {
            records,
            runs: Mutex::default(),
            watchers: Mutex::default(),
            models: Mutex::default(),
            refusal: Mutex::default(),
            now_ms: Mutex::new(BEGIN_MS),
            changed: watch::channel(()).0,
        }
    }

    /// What was asked for, in its order.
    pub(super) fn requests(&self) -> Vec<RunRequest> {
        self.runs.lock().unwrap().iter().map(|run| run.request.clone()).collect()
    }

    /// Has time go by.
    pub(super) fn pass_ms(&self, more_ms: u64) {
        *self.now_ms.lock().unwrap() += more_ms;
    }

    /// Something happens in a run.
    pub(super) fn happens(&self, run_id: &str, step: RunStep) {
        let at_ms = *self.now_ms.lock().unwrap();
        let event = {
            let mut runs = self.runs.lock().unwrap();
            let run = runs.iter_mut().find(|run| run.request.run_id == run_id).unwrap();
            match &step {
                RunStep::Started => (run.state, run.started_ms) = (RunState::Running, Some(at_ms)),
                RunStep::Text(words) => run.text.push_str(words),
                RunStep::Ended(end) => run.state = RunState::Ended(end.clone()),
                _ => {}
            }
            let RunRequest { session_key, owner, .. } = run.request.clone();
            RunEvent { run_id: run_id.to_owned(), session_key, owner, at_ms, step }
        };
        for watcher in self.watchers.lock().unwrap().iter() {
            watcher.saw(&event);
        }
        self.changed.send_replace(());
    }

    pub(super) fn starts(&self, run_id: &str) {
        self.happens(run_id, RunStep::Started);
    }

    pub(super) fn says(&self, run_id: &str, words: &str) {
        self.happens(run_id, RunStep::Text(words.to_owned()));
    }

    /// What the agent said is in the transcript.
    pub(super) fn said(&self, run_id: &str, text: &str) {
        let key = self.requests().into_iter().find(|request| request.run_id == run_id).unwrap().session_key;
        let body = json!({"content": [{"type": "text", "text": text}], "provider": "fake", "model": "echo"});
        let message = self.stored(&key, "assistant", body);
        self.happens(run_id, RunStep::Said(message));
    }

    pub(super) fn ends(&self, run_id: &str, outcome: RunOutcome, text: &str) {
        let ended_ms = *self.now_ms.lock().unwrap();
        let started_ms = self.runs.lock().unwrap().iter().find(|run| run.request.run_id == run_id).unwrap().started_ms;
        let model = started_ms.map(|_| "echo".to_owned());
        let usage = TokenUsage { input: 10, output: 5, ..TokenUsage::default() };
        let provider = model.is_some().then(|| "fake".to_owned());
        let end = RunEnd { outcome, text: text.to_owned(), started_ms, ended_ms, provider, model, usage };
        self.happens(run_id, RunStep::Ended(end));
    }

    /// All of a simple run.
    pub(super) fn answers(&self, run_id: &str, text: &str) {
        self.starts(run_id);
        self.says(run_id, text);
        self.said(run_id, text);
        self.ends(run_id, RunOutcome::Done, text);
    }

    fn stored(&self, key: &str, role: &str, body: Value) -> TranscriptMessage {
        self.records.say(key, role, body, *self.now_ms.lock().unwrap());
        self.records.last(key)
    }
}

#[async_trait]
impl Runs for FakeRuns {
    async fn start(&self, request: RunRequest) -> Result<RunTaken, Failure> {
        if let Some(failure) = self.refusal.lock().unwrap().clone() {
            return Err(failure);
        }
        let known = {
            let runs = self.runs.lock().unwrap();
            let known = runs.iter().find(|run| run.request.run_id == request.run_id);
            known.map(|run| (run.request.clone(), run.message.clone(), run.state.clone()))
        };
        if let Some((known, message, state)) = known {
            let is_same = (&known.message, &known.images, &known.session_key)
                == (&request.message, &request.images, &request.session_key);
            return match is_same {
                true => Ok(RunTaken::Known(message, state)),
                false => Err(Failure::invalid("this idempotencyKey was used for another message; use a new one")),
            };
        }
        let body = Map::from_iter([("content".to_owned(), json!([{"type": "text", "text": request.message}]))]);
        let new = NewMessage { role: "user".to_owned(), body, at_ms: *self.now_ms.lock().unwrap() };
        let appended = self.records.append(&request.session_key, new).await?;
        let message = appended.ok_or_else(|| Failure::not_found("There is no such session."))?.message;
        let run = FakeRun {
            request,
            message: message.clone(),
            state: RunState::Waiting,
            started_ms: None,
            text: String::new(),
        };
        let run_id = run.request.run_id.clone();
        self.runs.lock().unwrap().push(run);
        self.happens(&run_id, RunStep::Said(message.clone()));
        Ok(RunTaken::New(message))
    }

    fn state(&self, run_id: &str) -> Option<RunState> {
        let runs = self.runs.lock().unwrap();
        runs.iter().find(|run| run.request.run_id == run_id).map(|run| run.state.clone())
    }

    fn active(&self, session_key: &str) -> Vec<ActiveRun> {
        let runs = self.runs.lock().unwrap();
        let active = runs.iter().filter(|run| run.request.session_key == session_key).filter_map(|run| {
            let is_running = match run.state {
                RunState::Waiting => false,
                RunState::Running => true,
                RunState::Ended(_) => return None,
            };
            let RunRequest { run_id, session_key, owner, .. } = run.request.clone();
            Some(ActiveRun { run_id, session_key, owner, is_running })
        });
        active.collect()
    }

    fn find(&self, run_id: &str) -> Option<ActiveRun> {
        let key = self.requests().into_iter().find(|request| request.run_id == run_id)?.session_key;
        self.active(&key).into_iter().find(|run| run.run_id == run_id)
    }

    async fn abort(&self, run_id: &str, why: AbortReason) -> bool {
        if self.find(run_id).is_none() {
            return false;
        }
        let text = {
            let runs = self.runs.lock().unwrap();
            runs.iter().find(|run| run.request.run_id == run_id).unwrap().text.clone()
        };
        self.ends(run_id, RunOutcome::Aborted { by: why }, &text);
        true
    }

    async fn wait(&self, run_id: &str) -> RunEnd {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(RunState::Ended(end)) = self.state(run_id) {
                return end;
            }
            changed.changed().await.unwrap();
        }
    }

    fn models(&self) -> Vec<RunModel> {
        self.models.lock().unwrap().clone()
    }

    fn watch(&self, watcher: Arc<dyn RunWatcher>) {
        self.watchers.lock().unwrap().push(watcher);
    }
}
