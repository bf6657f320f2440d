//! Runs as clients hear of them: what happens in one becomes `agent` and `chat` events, in the words of each version.
//!
//! It owns what was told of each run that goes on: how many events, and how much of which text. How runs come about is not
//! its business. What it keeps of a run is bounded, and goes when the run ends.

mod live;
mod telling;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use leanclaw_types::Failure;
use leanclaw_types::run::{RunEvent, RunStep};
use leanclaw_types::session::SessionRow;
use serde_json::{Value, json};

use crate::gateway::State;
use crate::services::RunWatcher;
use live::{Live, Whose};
use telling::Telling;

pub(crate) use telling::{FAILED, chat_payload};

/// Runs of which is kept what was told. Of those beyond that clients hear the same, counted from 1 each time.
const MAX_LIVE: usize = 4096;
/// What an agent says that has nothing to say.
const SILENT: &str = "NO_REPLY";

/// What was told of the runs that go on, by their names.
#[derive(Default)]
pub(crate) struct LiveRuns(Mutex<HashMap<String, Arc<Mutex<Live>>>>);

impl LiveRuns {
    /// The run of that name, from its first event on. `last` takes it out.
    fn take(&self, run_id: &str, last: bool) -> Arc<Mutex<Live>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last {
            return all.remove(run_id).unwrap_or_default();
        }
        if let Some(live) = all.get(run_id) {
            return Arc::clone(live);
        }
        let live = Arc::default();
        if all.len() < MAX_LIVE {
            all.insert(run_id.to_owned(), Arc::clone(&live));
        }
        live
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Hears of runs for a gateway, as long as that is there.
struct Watcher(Weak<State>);

impl RunWatcher for Watcher {
    fn saw(&self, event: &RunEvent) {
        if let Some(state) = self.0.upgrade() {
            tell(&state, event);
        }
    }
}

/// Has a gateway told of runs from here on.
pub(crate) fn watch(state: &Arc<State>) {
    state.services.runs.watch(Arc::new(Watcher(Arc::downgrade(state))));
}

/// The run itself is locked while clients are told, so that they are told in order; whoever sends to clients never asks for a
/// run.
fn tell(state: &State, event: &RunEvent) {
    // The message that a run answers is told before anything of the run is known.
    if let RunStep::Said(message) = &event.step
        && message.role == "user"
    {
        if let Some(row) = row_of(state, event) {
            state.session_said(&row, message);
        }
        return;
    }
    let live = state.live_runs.take(&event.run_id, matches!(event.step, RunStep::Ended(_)));
    let mut live = live.lock().unwrap_or_else(PoisonError::into_inner);
    // Words come often, and what they need of the session is known by then.
    let is_known = live.whose.is_some() && matches!(event.step, RunStep::Text(_) | RunStep::Thinking(_));
    let row = if is_known { None } else { row_of(state, event) };
    if let Some(row) = &row {
        live.whose = Some(Whose { agent: row.agent.clone(), session_id: Some(row.session_id.clone()) });
    }
    let mut telling = Telling::new(state, event, &mut live, row.as_ref());
    match &event.step {
        RunStep::Started => telling.started(),
        RunStep::Text(words) => telling.said_more(words),
        // No version of the protocol has an event for what a model thinks; it is in the transcript.
        RunStep::Thinking(_) => {}
        RunStep::Tool { call_id, name, phase } => telling.tool(call_id, name, phase),
        RunStep::Said(message) => {
            if message.role == "assistant" {
                telling.message_is_over();
            }
            if let Some(row) = &row {
                state.session_said(row, message);
                state.session_changed(&row.key, "message", Some(row));
            }
        }
        RunStep::Ended(end) => {
            telling.ended(end);
            state.session_changed(&event.session_key, "run", row.as_ref());
        }
    }
}

fn row_of(state: &State, event: &RunEvent) -> Option<SessionRow> {
    state.services.sessions.get(&event.session_key).unwrap_or_else(|failure| {
        tracing::warn!(%failure, session = %event.session_key, "the session of a run cannot be read");
        None
    })
}

/// Whether a reply is none that is shown.
pub(crate) fn is_silent(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text == SILENT
}

/// Why a run failed, as a person reads it: what is wrong, and the first thing to do about it.
pub(crate) fn words_of(failure: &Failure) -> String {
    match failure.hints.first() {
        Some(hint) => format!("{}\n{hint}", failure.message),
        None => failure.message.clone(),
    }
}

/// What an agent says, as `chat` events carry it.
pub(crate) fn assistant(text: &str, at_ms: u64) -> Value {
    json!({"role": "assistant", "content": [{"type": "text", "text": text}], "timestamp": at_ms})
}
