//! The call a plugin is serving.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::failure::Failure;
use crate::host;

/// The call at hand: who is behind it, how long it may take, and ways to say how far it is.
pub struct Context<'call> {
    pub(crate) handle: host::CallHandle<'call>,
}

impl Context<'_> {
    /// Identifies the call in the log and in the audit trail.
    #[must_use]
    pub fn id(&self) -> String {
        self.handle.id()
    }

    /// Who is behind the call. The host vouches for it.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.handle.caller()
    }

    /// How long the call may still take; after that the host ends it.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        Duration::from_millis(self.handle.remaining_ms())
    }

    /// Whether the caller has taken the call back. Long work asks now and then and ends with
    /// [`code::CANCELLED`](crate::failure::code::CANCELLED); see [`check`](Self::check).
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.handle.cancelled()
    }

    /// For long work: returns early, through `?`, once the caller has taken the call back.
    ///
    /// # Errors
    /// [`code::CANCELLED`](crate::failure::code::CANCELLED).
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_cancelled() {
            return Err(Failure::new(crate::failure::code::CANCELLED, "The caller took the call back."));
        }
        Ok(())
    }

    /// Says how far the work is, in a unit of the plugin's choice.
    pub fn progress(&self, done: u64, total: Option<u64>, note: Option<&str>) {
        self.handle.progress(done, total, note);
    }

    /// Streams a piece of text to the caller before the call ends.
    ///
    /// # Errors
    /// A [`Failure`] of the host: the caller went away, or does not take a stream.
    pub fn emit_text(&self, delta: &str) -> Result<(), Failure> {
        self.handle.emit_text(delta)
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Context").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Who is behind a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Caller {
    /// `client`, `agent`, `sender`, `schedule`, `plugin`, `host`.
    pub kind: String,
    /// Stable within its kind.
    pub id: String,
    /// `operator`, `node`, `admin`, `user`, `viewer`, or empty.
    pub role: String,
    /// Such as `operator.read`.
    pub scopes: Vec<String>,
    /// The session the call belongs to, when there is one.
    pub session_key: Option<String>,
    /// Anything further.
    pub extra: Option<Value>,
}

impl Caller {
    /// Whether the caller holds `scope`. `operator.admin` holds every scope, `operator.write` also holds
    /// `operator.read`. The host has checked a method's own scope before the plugin is called.
    #[must_use]
    pub fn holds(&self, scope: &str) -> bool {
        self.scopes.iter().any(|held| {
            held == scope || held == "operator.admin" || (held == "operator.write" && scope == "operator.read")
        })
    }
}
