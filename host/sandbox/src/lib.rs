//! Where an agent runs: the trait every sandbox is behind, and the embedded WASI sandbox.
//!
//! This crate owns how a program is shut in, bounded, talked to and ended. It knows no agent: what the lines on the wire
//! mean, who may have which folder, when a run is due and what becomes of it are decided above. It refuses to give a
//! program anything but its folders and its wire: no network, no variable of the host's environment, no terminal.
//!
//! A [`Run`] is the same whatever runs it: lines in, lines out, log lines aside, one [`Exit`]. A backend brings three
//! streams and a [`Body`]; the bounds on time, lines and log are put around it here ([`Run::spawn`]), once for all.
//! So a backend may make a fresh container for each run, or let a run have one that was kept warm: whatever
//! [`Body::end`] leaves behind is the backend's own affair.

mod error;
mod exit;
mod log;
mod pipe;
mod run;
mod spec;
mod wasi;
mod wire;

#[cfg(test)]
mod tests;

use leanclaw_types::Failure;

pub use error::SandboxError;
pub use exit::{Cause, Exit, Report, TimeLimit, WireFault};
pub use log::{LogLine, LogSink, ProgramLog};
pub use run::{Body, Process, Run, Wire};
pub use spec::{Mount, RunLimits, RunSpec, WORKSPACE};
pub use wasi::WasiSandbox;
pub use wire::{Input, Output, WireError};

/// A place in which programs run apart from the host.
#[async_trait::async_trait]
pub trait Sandbox: Send + Sync {
    /// The backend's short name, as the settings call it: `wasm`, `docker`.
    fn kind(&self) -> &'static str;

    /// How it does, for the status and for `/ready`. Cheap enough to be asked with every such request.
    async fn describe(&self) -> Description;

    /// Starts the program of this sandbox for `spec`, and waits while there is no room for one more. Cancel-safe:
    /// dropping the future leaves nothing running and no place taken.
    ///
    /// # Errors
    /// [`SandboxError`]; [`SandboxError::hints`] says what to do.
    async fn start(&self, spec: RunSpec) -> Result<Run, SandboxError>;
}

/// What a sandbox says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// [`Sandbox::kind`].
    pub kind: &'static str,
    /// One line for an operator: which engine, which image or component.
    pub detail: String,
    /// Runs that go on.
    pub running: usize,
    /// Why a run could not be started now; none when it could.
    pub trouble: Option<Failure>,
}
