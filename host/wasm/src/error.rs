//! Why a guest call failed, sorted into what a caller can act on.
//!
//! Text that a guest controls (function names, messages) is escaped here, once, so that it can be logged or shown on a
//! terminal.

use std::time::Duration;

use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};

use crate::limits::{LimitKind, LimitReached, Limiter};

/// Longest guest-controlled text kept in an error, in bytes.
const TEXT_BYTES: usize = 8 * 1024;

/// How the engine words an exhausted copy budget; the error type itself is private to it. Pinned by a test.
const HOSTCALL_FUEL_MESSAGE: &str = "fuel allocated for hostcalls has been exhausted";

/// How the engine words a component that has more parts than [`crate::Limits`] allow. Pinned by a test.
const COMPONENT_SIZE_MESSAGE: &str = "resource limit exceeded";

/// How the engine words a component whose memory or table starts larger than the limiter allows. Pinned by a test.
const MINIMUM_SIZE_MESSAGE: &str = "minimum size of";

/// A guest call failed. Whatever the reason, the store is spent: drop it and make a new one.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The call took longer than it may, computing or waiting.
    #[error("the call did not finish within {limit:?} and was stopped")]
    Timeout {
        /// The limit that applied.
        limit: Duration,
    },
    /// Guest code failed.
    #[error("the guest failed: {}", report.message)]
    Trap {
        /// What happened and where.
        report: Box<TrapReport>,
    },
    /// Guest code failed because, or right after, it was refused more of something.
    #[error("the guest reached its limit of {limit} {what}")]
    LimitExceeded {
        /// Which limit.
        what: LimitKind,
        /// Its value, in the unit of the field of [`crate::Limits`].
        limit: u64,
        /// How the guest failed on it, where guest code was running.
        report: Option<Box<TrapReport>>,
    },
    /// The guest called the host too often.
    #[error("the guest made more than {limit} host calls in one call and was stopped")]
    HostCallFlood {
        /// [`crate::Limits::host_calls_per_call`].
        limit: u64,
    },
    /// The store had already failed, or a call into it was cancelled.
    #[error("this instance already failed or was cancelled and cannot be called again")]
    StoreSpent,
    /// A host function, the linker or the engine failed. Typed host errors can be found by downcasting.
    #[error("{}", printable(&format!("{error:#}")))]
    Other {
        /// The engine's error with its context chain.
        error: wasmtime::Error,
    },
}

/// What is known about a trap. All text is escaped and bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrapReport {
    /// The kind of trap.
    pub code: Trap,
    /// The kind in words.
    pub message: String,
    /// The guest functions that were active, innermost first, one per line; empty when unknown.
    pub backtrace: String,
}

impl CallError {
    /// Sorts an engine error, with what the limiter remembers about refused growth.
    pub(crate) fn classify(error: wasmtime::Error, limiter: &Limiter) -> Self {
        if let Some(reached) = error.downcast_ref::<LimitReached>() {
            return Self::from_limit(*reached, trap_report(&error));
        }
        let limits = limiter.limits();
        match error.downcast_ref::<ResourceTableError>() {
            // An interface that cannot be failed by itself loses its handles when the calls are used up.
            Some(_) if limiter.has_no_host_call_left() => {
                return Self::HostCallFlood { limit: limits.host_calls_per_call.into() };
            }
            Some(ResourceTableError::Full) => return Self::limit(LimitKind::Handles, limits.handles, &error),
            _ => {}
        }
        let report = trap_report(&error);
        let root = error.root_cause().to_string();
        if let Some(reached) = limiter.denied()
            && (report.is_some() || root.contains(MINIMUM_SIZE_MESSAGE))
        {
            return Self::from_limit(reached, report);
        }
        if let Some(report) = report {
            return Self::Trap { report };
        }
        if root.contains(HOSTCALL_FUEL_MESSAGE) {
            return Self::limit(LimitKind::HostcallBytes, limits.hostcall_fuel_bytes, &error);
        }
        if root.contains(COMPONENT_SIZE_MESSAGE) {
            return Self::limit(LimitKind::ComponentSize, limits.instances, &error);
        }
        Self::Other { error }
    }

    fn limit(what: LimitKind, limit: usize, error: &wasmtime::Error) -> Self {
        Self::from_limit(LimitReached { what, limit: u64::try_from(limit).unwrap_or(u64::MAX) }, trap_report(error))
    }

    fn from_limit(reached: LimitReached, report: Option<Box<TrapReport>>) -> Self {
        match reached.what {
            LimitKind::HostCalls => Self::HostCallFlood { limit: reached.limit },
            what => Self::LimitExceeded { what, limit: reached.limit, report },
        }
    }

    /// What can be done about it, one sentence per line.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Timeout { .. } => vec![
                "raise the call's wall-clock limit if the work is really that long".into(),
                "a guest that waits should return and be called again by the host".into(),
            ],
            Self::Trap { report } if report.code == Trap::StackOverflow => {
                vec!["the guest recursed too deeply; its stack is fixed at 512 KiB".into()]
            }
            Self::Trap { .. } => vec!["a panic or abort in the guest's code ends like this; see its log lines".into()],
            Self::LimitExceeded { what: LimitKind::HostcallBytes, .. } => {
                vec!["pass large data in pieces, or raise the limit hostcall_fuel_bytes".into()]
            }
            Self::LimitExceeded { what, .. } => vec![format!("raise the limit {} for this guest", what.setting())],
            Self::HostCallFlood { .. } => {
                vec!["batch the work, or raise the limit host_calls_per_call for this guest".into()]
            }
            Self::StoreSpent => vec!["make a new instance after any failure".into()],
            Self::Other { .. } => Vec::new(),
        }
    }
}

fn trap_report(error: &wasmtime::Error) -> Option<Box<TrapReport>> {
    let code = *error.downcast_ref::<Trap>()?;
    let message = match code {
        Trap::StackOverflow => "stack overflow: call stack exhausted".to_owned(),
        other => {
            let text = other.to_string();
            text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned()
        }
    };
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(render).unwrap_or_default();
    Some(Box::new(TrapReport { code, message, backtrace }))
}

fn render(backtrace: &WasmBacktrace) -> String {
    let mut lines = String::new();
    for frame in backtrace.frames() {
        let module = frame.module().name().unwrap_or("?");
        let function = match (frame.func_name(), frame.func_index()) {
            (Some(name), _) => name.to_owned(),
            (None, index) => format!("function {index}"),
        };
        lines.push_str(&printable(&format!("{module}!{function}")));
        lines.push('\n');
        if lines.len() > TEXT_BYTES {
            break;
        }
    }
    lines
}

/// `text` without anything a terminal would obey, cut to a bounded length.
pub(crate) fn printable(text: &str) -> String {
    let kept = text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or(text);
    leanclaw_types::text::escape_lines(kept)
}
