//! What a program writes to its standard error: cut, escaped and counted, line by line, to whoever asked for the run.
//!
//! Nothing here waits: a program cannot be held up by its own log, and the log cannot be filled by it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leanclaw_types::text::escape;

/// One line for the log of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLine<'text> {
    /// The line, escaped and bounded.
    pub text: &'text str,
    /// Whether the sandbox says it, and not the program.
    pub is_hosts: bool,
}

/// Takes the log lines of a run. Called in the midst of the program's turn, so it must neither wait nor panic.
pub type LogSink = Arc<dyn Fn(LogLine<'_>) + Send + Sync>;

/// The standard error of one run.
#[derive(Clone)]
pub struct ProgramLog(Arc<Inner>);

struct Inner {
    sink: LogSink,
    lines: u64,
    line_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Vec<u8>,
    /// Whether a line was begun, also if nothing of it is kept.
    is_open: bool,
    seen: u64,
}

impl ProgramLog {
    pub(crate) fn new(sink: LogSink, lines: u64, line_bytes: usize) -> Self {
        Self(Arc::new(Inner { sink, lines, line_bytes, state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was written, and passes on the lines that it ends.
    pub fn take(&self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let mut state = self.state();
            let room = self.0.line_bytes.saturating_sub(state.open.len());
            state.open.extend(text.iter().take(room));
            state.is_open = true;
            if text.len() < piece.len() {
                self.end_line(state);
            }
        }
    }

    /// Ends a line that is open.
    pub(crate) fn flush(&self) {
        let state = self.state();
        if state.is_open {
            self.end_line(state);
        }
    }

    /// Lines seen, and how many of them were not kept.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let seen = self.state().seen;
        (seen, seen.saturating_sub(self.0.lines))
    }

    fn end_line(&self, mut state: MutexGuard<'_, State>) {
        let line = std::mem::take(&mut state.open);
        state.is_open = false;
        state.seen = state.seen.saturating_add(1);
        let seen = state.seen;
        // The sink is somebody else's code: never under the lock.
        drop(state);
        let say = |text: &str, is_hosts| (self.0.sink)(LogLine { text, is_hosts });
        if seen <= self.0.lines {
            say(&escape(String::from_utf8_lossy(&line).trim_end_matches('\r')), false);
        } else if seen == self.0.lines + 1 {
            say(&format!("the run has written {} log lines; later ones are only counted", self.0.lines), true);
        }
    }
}
