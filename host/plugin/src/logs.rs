//! What guests say, line by line: into the program's log and into a ring per plugin that `plugin logs` shows.
//!
//! A line is written the moment it is complete, also while the call hangs. Guest text is cut, and escaped so that it can
//! be shown on a terminal. This module does not decide who may read the ring.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use leanclaw_types::clock::Clock;
use leanclaw_types::plugin::LogLine;

/// The `tracing` target of guest text and of what the host says about a guest's calls: whoever sets up the log decides
/// about it apart from this crate's own lines.
pub const LOG_TARGET: &str = "plugin";

/// Lines kept per plugin.
const RING_LINES: usize = 1000;

/// The newest lines of one plugin.
pub(crate) struct LogRing {
    plugin: String,
    clock: Arc<dyn Clock>,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    next_seq: u64,
    kept: VecDeque<LogLine>,
}

impl LogRing {
    pub(crate) fn new(plugin: String, clock: Arc<dyn Clock>) -> Self {
        Self { plugin, clock, lines: Mutex::default() }
    }

    /// Takes one line of guest text (`source` is log, stdout, stderr) or of the host's own (`host`).
    pub(crate) fn write(&self, level: Level, source: &str, call_id: &str, text: &str) {
        let message = escape(text);
        level.emit(&self.plugin, call_id, source, &message);
        let at_ms = self.clock.now_ms();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = lines.next_seq;
        lines.next_seq += 1;
        if lines.kept.len() == RING_LINES {
            lines.kept.pop_front();
        }
        lines.kept.push_back(LogLine {
            seq,
            at_ms,
            level: level.as_str().into(),
            call_id: call_id.into(),
            source: source.into(),
            message,
        });
    }

    /// The newest `limit` lines, or the first `limit` after `after_seq`; oldest first.
    pub(crate) fn read(&self, after_seq: Option<u64>, limit: usize) -> Vec<LogLine> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match after_seq {
            Some(after) => lines.kept.iter().filter(|line| line.seq > after).take(limit).cloned().collect(),
            None => lines.kept.iter().skip(lines.kept.len().saturating_sub(limit)).cloned().collect(),
        }
    }
}

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    /// Reads a guest's word for it; an unknown one is `info`.
    pub(crate) fn from_guest(word: &str) -> Self {
        match word {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "warn" | "warning" => Self::Warn,
            "error" | "fatal" => Self::Error,
            _ => Self::Info,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    fn emit(self, plugin: &str, call_id: &str, source: &str, message: &str) {
        match self {
            Self::Trace => tracing::trace!(target: LOG_TARGET, plugin, call_id, source, "{message}"),
            Self::Debug => tracing::debug!(target: LOG_TARGET, plugin, call_id, source, "{message}"),
            Self::Info => tracing::info!(target: LOG_TARGET, plugin, call_id, source, "{message}"),
            Self::Warn => tracing::warn!(target: LOG_TARGET, plugin, call_id, source, "{message}"),
            Self::Error => tracing::error!(target: LOG_TARGET, plugin, call_id, source, "{message}"),
        }
    }
}

pub(crate) use leanclaw_types::text::{escape, escape_lines};

/// Cuts `text` to at most `bytes` at a character boundary.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let mut end = bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use leanclaw_types::clock::ManualClock;

    #[test]
    fn guest_text_cannot_drive_a_terminal() {
        assert_eq!(escape("a\u{1b}[2Jb\r\u{202e}c\td"), "a\\u{1b}[2Jb\\r\\u{202e}c\td");
    }

    #[test]
    fn the_ring_keeps_the_newest_and_numbers_them() {
        let ring = LogRing::new("p".into(), Arc::new(ManualClock::at(7)));
        for number in 0..RING_LINES + 5 {
            ring.write(Level::Debug, "log", "c1", &number.to_string());
        }
        let newest = ring.read(None, 2);
        assert_eq!(newest.iter().map(|line| line.message.as_str()).collect::<Vec<_>>(), ["1003", "1004"]);
        assert_eq!(ring.read(Some(newest[0].seq), 10).len(), 1);
        assert_eq!(ring.read(None, 10_000).len(), RING_LINES);
    }

    #[test]
    fn cutting_respects_characters() {
        assert_eq!(cut("a\u{e9}b", 2), "a");
        assert_eq!(cut("abc", 3), "abc");
    }
}
