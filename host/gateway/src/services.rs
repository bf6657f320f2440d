//! The other small things the gateway needs from the program.

use leanclaw_types::audit::AuditRecord;

/// Takes typed rows that must be kept. Must not block: it is called on the path of a request.
pub trait AuditSink: Send + Sync + 'static {
    /// Writes one row, now or soon.
    fn audit(&self, record: AuditRecord);
}

/// One part of the program that `/ready` waits for.
pub trait Readiness: Send + Sync + 'static {
    /// Its name, such as `database`.
    fn name(&self) -> &str;
    /// Whether it can serve now. Must be cheap.
    fn ready(&self) -> bool;
    /// Why not, in one line; empty when it can.
    fn reason(&self) -> String;
}
