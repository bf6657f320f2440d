//! What goes to an agent: through a task of its own, so that whoever sends never waits, and counted, so that an agent that does
//! not read cannot have more and more kept for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use leanclaw_sandbox::Input;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// What may wait for an agent, in bytes: several of the longest messages there are.
const MOST_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// The way to an agent. Cheap to clone.
#[derive(Clone)]
pub(super) struct ToAgent {
    lines: mpsc::UnboundedSender<String>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl ToAgent {
    /// Begins to write to `input`. What is returned beside it ends that.
    pub(super) fn open(input: Input) -> (Self, AbortHandle) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting_bytes = Arc::default();
        let writing = tokio::spawn(write(input, receiver, Arc::clone(&waiting_bytes)));
        (Self { lines: sender, waiting_bytes }, writing.abort_handle())
    }

    /// Sends a line. What cannot be sent, as the agent is gone, is noticed where it is read from.
    pub(super) fn send(&self, line: Option<String>) {
        let Some(line) = line else { return };
        self.waiting_bytes.fetch_add(line.len(), Ordering::Relaxed);
        let _ = self.lines.send(line);
    }

    /// Whether more waits for the agent than it can be given time for.
    pub(super) fn is_clogged(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) > MOST_WAITING_BYTES
    }
}

async fn write(mut input: Input, mut lines: mpsc::UnboundedReceiver<String>, waiting_bytes: Arc<AtomicUsize>) {
    while let Some(line) = lines.recv().await {
        if input.send(line.as_bytes()).await.is_err() {
            return;
        }
        waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
    }
}
