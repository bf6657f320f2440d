//! What is told about each request, for audit and metrics.
//!
//! Every request ends in exactly one record: completed, failed, denied or cancelled. A record names no path, no query,
//! no header and no secret.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::EgressError;

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// The whole response was read. For a WebSocket: it was opened and is closed now (status 101).
    Completed {
        /// The HTTP status.
        status: u16,
    },
    /// It failed; [`EgressError::is_denial`] tells a refusal by rule from a failure of the network.
    Failed(&'a EgressError),
    /// The caller dropped it, or dropped the response before its end.
    Cancelled,
}

/// One ended request.
#[derive(Debug, Clone, Copy)]
pub struct EgressRecord<'a> {
    /// Who asked.
    pub owner: &'a str,
    /// The HTTP method; `WEBSOCKET` for a WebSocket.
    pub method: &'a str,
    /// Scheme, host and port.
    pub origin: &'a str,
    /// The address that was dialled, once there was one. For operators only: it tells how names resolve inside.
    pub address: Option<IpAddr>,
    /// How it ended.
    pub outcome: Outcome<'a>,
    /// Bytes of body (or messages) sent.
    pub request_bytes: u64,
    /// Bytes of body (or messages) received.
    pub response_bytes: u64,
    /// From the call to the end.
    pub duration: Duration,
}

/// Is told about every ended request. Called in the middle of the work: hand over and return.
pub trait EgressObserver: Send + Sync + 'static {
    /// One request ended.
    fn record(&self, record: &EgressRecord<'_>);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl EgressObserver for NoObserver {
    fn record(&self, _record: &EgressRecord<'_>) {}
}

/// A request under way. Dropping it without an end records it as cancelled.
pub(crate) struct Flight {
    observer: Arc<dyn EgressObserver>,
    owner: String,
    method: String,
    origin: String,
    started: Instant,
    ended: bool,
    pub(crate) address: Option<IpAddr>,
    pub(crate) status: u16,
    pub(crate) sent_bytes: Arc<AtomicU64>,
    pub(crate) received_bytes: u64,
}

impl Flight {
    pub(crate) fn begin(observer: &Arc<dyn EgressObserver>, owner: &str, method: &str, origin: String) -> Self {
        Self {
            observer: Arc::clone(observer),
            owner: owner.to_owned(),
            method: method.to_owned(),
            origin,
            started: Instant::now(),
            ended: false,
            address: None,
            status: 0,
            sent_bytes: Arc::default(),
            received_bytes: 0,
        }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The response was read to its end.
    pub(crate) fn complete(&mut self) {
        self.end(Outcome::Completed { status: self.status });
    }

    /// It ended with `error`.
    pub(crate) fn fail(&mut self, error: &EgressError) {
        self.end(Outcome::Failed(error));
    }

    fn end(&mut self, outcome: Outcome<'_>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let record = EgressRecord {
            owner: &self.owner,
            method: &self.method,
            origin: &self.origin,
            address: self.address,
            outcome,
            request_bytes: self.sent_bytes.load(Ordering::Relaxed),
            response_bytes: self.received_bytes,
            duration: self.started.elapsed(),
        };
        let result = match outcome {
            Outcome::Completed { .. } => "completed",
            Outcome::Failed(error) => error.code(),
            Outcome::Cancelled => "cancelled",
        };
        tracing::debug!(
            owner = record.owner,
            method = record.method,
            origin = record.origin,
            result,
            status = self.status,
            request_bytes = record.request_bytes,
            response_bytes = record.response_bytes,
            duration_ms = u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX),
            "egress"
        );
        self.observer.record(&record);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.end(Outcome::Cancelled);
    }
}
