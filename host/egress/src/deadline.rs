//! How long something may take: the caller's deadline, the owner's limits and the guest's wishes, whichever is first.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::EgressError;
use crate::policy::EgressLimits;

/// A moment after which the caller no longer wants an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline that lies `duration` from now. A duration too long for the clock counts as 30 years.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        let now = Instant::now();
        let far = Duration::from_secs(30 * 365 * 24 * 3600);
        Self(now.checked_add(duration).unwrap_or_else(|| now + far))
    }

    /// The time left; zero once it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(crate) fn instant(self) -> Instant {
        self.0
    }
}

/// Timeouts a guest asks for. They can only shorten the owner's limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GuestTimeouts {
    /// Instead of [`EgressLimits::connect_timeout`].
    pub connect: Option<Duration>,
    /// Instead of [`EgressLimits::first_byte_timeout`].
    pub first_byte: Option<Duration>,
    /// Instead of [`EgressLimits::between_bytes_timeout`].
    pub between_bytes: Option<Duration>,
}

/// The times that hold for one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timetable {
    pub(crate) end: Deadline,
    pub(crate) connect: Duration,
    pub(crate) first_byte: Duration,
    pub(crate) between_bytes: Duration,
}

impl Timetable {
    pub(crate) fn new(limits: &EgressLimits, wished: GuestTimeouts, deadline: Deadline) -> Self {
        let shorter = |wish: Option<Duration>, limit: Duration| wish.map_or(limit, |wish| wish.min(limit));
        Self {
            end: deadline.min(Deadline::after(limits.total_timeout)),
            connect: shorter(wished.connect, limits.connect_timeout),
            first_byte: shorter(wished.first_byte, limits.first_byte_timeout),
            between_bytes: shorter(wished.between_bytes, limits.between_bytes_timeout),
        }
    }

    /// Runs one phase, which ends with an error at its own limit or at the end of the whole request.
    pub(crate) async fn within<T>(
        &self,
        phase: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<T, EgressError>>,
    ) -> Result<T, EgressError> {
        let phase_end = Deadline::after(limit);
        let phase_name = if phase_end <= self.end { phase } else { OVERALL };
        match tokio::time::timeout_at(phase_end.min(self.end).instant(), work).await {
            Ok(result) => result,
            Err(_) => Err(EgressError::TimedOut { phase: phase_name }),
        }
    }
}

/// The phase named when the whole request took too long.
pub(crate) const OVERALL: &str = "the whole request";
