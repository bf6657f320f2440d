//! The other small things the gateway needs from the program.

use async_trait::async_trait;
use leanclaw_types::Failure;
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

/// One document of the gateway that is stored or taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    /// What it is, such as `device`.
    pub kind: &'static str,
    /// Which one.
    pub id: String,
    /// Its JSON text; none takes it away.
    pub body: Option<String>,
}

/// Keeps the gateway's small documents (devices, agents, approvals). They are few: the gateway holds them in memory and
/// reads them only when it starts.
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// Every document of a kind, as id and JSON text. May block.
    ///
    /// # Errors
    /// The store cannot be read.
    fn load(&self, kind: &str) -> Result<Vec<(String, String)>, Failure>;

    /// Stores all of these changes with their audit rows, or nothing. What was answered survives a `kill -9`.
    ///
    /// # Errors
    /// The store cannot be written.
    async fn change(&self, changes: Vec<RecordChange>, audit: Vec<AuditRecord>) -> Result<(), Failure>;
}
