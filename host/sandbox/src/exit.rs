//! How a run ended.

use std::time::Duration;

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Why it ended.
    pub cause: Cause,
    /// From its start to its end.
    pub duration: Duration,
    /// Lines the program wrote to its standard error.
    pub log_lines: u64,
    /// How many of them were not kept.
    pub log_lines_dropped: u64,
}

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The program ended by itself with this code; 0 is success.
    Finished(i32),
    /// The host ended it, or nobody held it any more.
    Killed,
    /// It had no time left.
    TimedOut(TimeLimit),
    /// It was refused memory and gave up.
    OutOfMemory {
        /// The limit, in bytes.
        limit_bytes: u64,
    },
    /// It did what ends a program: a trap, a signal, or a limit other than memory.
    Trapped(Report),
    /// It did not keep to lines, so that its wire is of no more use.
    BrokeWire(WireFault),
    /// The sandbox failed, not the program.
    Failed(Report),
}

/// Which time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLimit {
    /// [`crate::RunLimits::wall_clock`].
    WallClock,
    /// [`crate::RunLimits::idle`].
    Idle,
}

/// In which way a wire broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireFault {
    /// A line was longer than [`crate::RunLimits::line_bytes`].
    LineTooLong,
    /// A message stayed unread for [`crate::RunLimits::input_deadline`].
    InputUnread,
}

/// What is known of a failure. All text is escaped and bounded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What happened, in one sentence.
    pub message: String,
    /// The functions that were active, innermost first, one per line; empty when unknown.
    pub backtrace: String,
}

impl Cause {
    /// A word for logs and audit rows.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Finished(0) => "finished",
            Self::Finished(_) => "failed",
            Self::Killed => "killed",
            Self::TimedOut(TimeLimit::WallClock) => "timed-out",
            Self::TimedOut(TimeLimit::Idle) => "idle",
            Self::OutOfMemory { .. } => "out-of-memory",
            Self::Trapped(_) => "trapped",
            Self::BrokeWire(WireFault::LineTooLong) => "line-too-long",
            Self::BrokeWire(WireFault::InputUnread) => "input-unread",
            Self::Failed(_) => "sandbox-failed",
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Finished(code) => write!(formatter, "it ended with code {code}"),
            Self::Killed => formatter.write_str("it was ended by the host"),
            Self::TimedOut(TimeLimit::WallClock) => formatter.write_str("it took longer than a run may"),
            Self::TimedOut(TimeLimit::Idle) => formatter.write_str("it was silent for longer than a run may be"),
            Self::OutOfMemory { limit_bytes } => {
                write!(formatter, "it needed more than its {limit_bytes} bytes of memory")
            }
            Self::Trapped(report) => write!(formatter, "it failed: {}", report.message),
            Self::BrokeWire(WireFault::LineTooLong) => formatter.write_str("it wrote a line that is too long"),
            Self::BrokeWire(WireFault::InputUnread) => formatter.write_str("it did not read what was sent to it"),
            Self::Failed(report) => write!(formatter, "the sandbox failed: {}", report.message),
        }
    }
}
