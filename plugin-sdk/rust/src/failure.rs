//! The one way in which a call fails.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Documented values of [`Failure::code`]. A reader treats one it does not know as [`INTERNAL`](code::INTERNAL).
pub mod code {
    /// The input does not fit what the callee documents.
    pub const INVALID_INPUT: &str = "invalid-input";
    /// A rule forbids it.
    pub const DENIED: &str = "denied";
    /// The caller has not shown who it is.
    pub const AUTH_REQUIRED: &str = "auth-required";
    /// What was named does not exist.
    pub const NOT_FOUND: &str = "not-found";
    /// The state changed underneath.
    pub const CONFLICT: &str = "conflict";
    /// Too many calls.
    pub const RATE_LIMITED: &str = "rate-limited";
    /// A budget (bytes, calls, tokens) is used up.
    pub const BUDGET_EXHAUSTED: &str = "budget-exhausted";
    /// Larger than the limit the message names.
    pub const TOO_LARGE: &str = "too-large";
    /// The time allowed ran out.
    pub const TIMED_OUT: &str = "timed-out";
    /// The caller took the call back.
    pub const CANCELLED: &str = "cancelled";
    /// Not possible now, perhaps later.
    pub const UNAVAILABLE: &str = "unavailable";
    /// The callee does not do this at all.
    pub const UNSUPPORTED: &str = "unsupported";
    /// A fault of the callee.
    pub const INTERNAL: &str = "internal";
}

/// Why a call failed.
///
/// ```
/// use leanclaw_plugin_sdk::{Failure, failure::code};
///
/// let failure = Failure::rate_limited("The service takes one message a second.").retry_after_ms(1_000);
/// assert_eq!(failure.code, code::RATE_LIMITED);
/// assert!(failure.retryable);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// One of [`code`], or a code of the plugin's own.
    pub code: String,
    /// One sentence for a person; the host cuts it at 4 KiB.
    pub message: String,
    /// Whether the same call may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// When to try again, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Anything further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

impl Failure {
    /// A failure that is final.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: false, retry_after_ms: None, extra: None }
    }

    /// The input does not fit ([`code::INVALID_INPUT`]).
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_INPUT, message)
    }

    /// A rule forbids it ([`code::DENIED`]).
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(code::DENIED, message)
    }

    /// What was named does not exist ([`code::NOT_FOUND`]).
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(code::NOT_FOUND, message)
    }

    /// The state changed underneath ([`code::CONFLICT`]); retryable.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(code::CONFLICT, message).retryable()
    }

    /// Too many calls ([`code::RATE_LIMITED`]); retryable.
    pub fn rate_limited(message: impl Into<String>) -> Self {
        Self::new(code::RATE_LIMITED, message).retryable()
    }

    /// Larger than a limit, which the message names ([`code::TOO_LARGE`]).
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(code::TOO_LARGE, message)
    }

    /// The time allowed ran out ([`code::TIMED_OUT`]); retryable.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self::new(code::TIMED_OUT, message).retryable()
    }

    /// Not possible now ([`code::UNAVAILABLE`]); retryable.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(code::UNAVAILABLE, message).retryable()
    }

    /// This plugin does not do that ([`code::UNSUPPORTED`]).
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(code::UNSUPPORTED, message)
    }

    /// A fault on this side ([`code::INTERNAL`]).
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(code::INTERNAL, message)
    }

    /// Marks the failure as worth trying again.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Marks the failure as worth trying again after `retry_after_ms` milliseconds.
    #[must_use]
    pub fn retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self.retryable()
    }

    /// Adds details for a program to read.
    #[must_use]
    pub fn extra(mut self, extra: Value) -> Self {
        self.extra = Some(extra);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Failure {}

impl From<serde_json::Error> for Failure {
    /// JSON that this plugin stored or made itself does not read or write: a fault on this side. Input of a caller is
    /// parsed by the SDK, which says [`code::INVALID_INPUT`].
    fn from(error: serde_json::Error) -> Self {
        Self::internal(format!("JSON does not fit: {error}."))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::NotFound => Self::not_found(error.to_string()),
            ErrorKind::PermissionDenied => Self::denied(error.to_string()),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::timed_out(error.to_string()),
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::Interrupted => {
                Self::unavailable(error.to_string())
            }
            _ => Self::internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_others_keep_their_meaning() {
        let missing: Failure = std::io::Error::from(std::io::ErrorKind::NotFound).into();
        assert_eq!(missing.code, code::NOT_FOUND);
        let late: Failure = std::io::Error::from(std::io::ErrorKind::TimedOut).into();
        assert!(late.retryable);
        let broken: Failure = serde_json::from_str::<u8>("x").unwrap_err().into();
        assert_eq!((broken.code.as_str(), broken.retryable), (code::INTERNAL, false));
    }
}
