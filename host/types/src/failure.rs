//! The one shape in which a call fails, from a plugin's `result` to a gateway error.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Documented values of [`Failure::code`]. The list may grow; a reader treats an unknown code as `internal`.
pub mod code {
    /// The input does not fit what the callee documents.
    pub const INVALID_INPUT: &str = "invalid-input";
    /// A rule forbids it; the message names the rule and how to allow it.
    pub const DENIED: &str = "denied";
    /// The caller has not shown who it is.
    pub const AUTH_REQUIRED: &str = "auth-required";
    /// What was named does not exist.
    pub const NOT_FOUND: &str = "not-found";
    /// The state changed underneath (a revision did not match).
    pub const CONFLICT: &str = "conflict";
    /// Too many calls; `retry_after_ms` says when to come back.
    pub const RATE_LIMITED: &str = "rate-limited";
    /// A budget (tokens, bytes, calls) is used up.
    pub const BUDGET_EXHAUSTED: &str = "budget-exhausted";
    /// Larger than the limit the message names.
    pub const TOO_LARGE: &str = "too-large";
    /// The time allowed for the call ran out.
    pub const TIMED_OUT: &str = "timed-out";
    /// The caller took the call back.
    pub const CANCELLED: &str = "cancelled";
    /// Not possible now, perhaps later.
    pub const UNAVAILABLE: &str = "unavailable";
    /// The callee does not do this at all.
    pub const UNSUPPORTED: &str = "unsupported";
    /// A fault of the callee, such as a trap.
    pub const INTERNAL: &str = "internal";
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct Failure {
    /// One of [`code`], or a code of the plugin's own.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
    /// Whether the same call may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// When to try again, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Anything further, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
    /// What to do about it, one line each (commands, config lines).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure that is final.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            retryable: false,
            retry_after_ms: None,
            extra: None,
            hints: Vec::new(),
        }
    }

    /// The input does not fit.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_INPUT, message)
    }

    /// A rule forbids it.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(code::DENIED, message)
    }

    /// What was named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(code::NOT_FOUND, message)
    }

    /// Not possible now; may be retried.
    pub fn unavailable(message: impl Into<String>) -> Self {
        let mut failure = Self::new(code::UNAVAILABLE, message);
        failure.retryable = true;
        failure
    }

    /// A fault on this side.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(code::INTERNAL, message)
    }

    /// Adds one line that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Marks the failure as worth retrying after `retry_after_ms`.
    #[must_use]
    pub fn retry_after(mut self, retry_after_ms: u64) -> Self {
        self.retryable = true;
        self.retry_after_ms = Some(retry_after_ms);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_back_from_its_json() {
        let failure = Failure::denied("No.").hint("leanclaw plugin grant x --all").retry_after(5);
        let text = serde_json::to_string(&failure).unwrap();
        assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
        assert!(text.contains("\"retryAfterMs\":5"), "{text}");
    }
}
