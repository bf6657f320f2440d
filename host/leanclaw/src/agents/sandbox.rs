//! The sandbox that agents run in, made ready once. Until it is, runs wait for it; when it cannot be, each of them says why.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use leanclaw_sandbox::{Sandbox, WasiSandbox};
use leanclaw_types::Failure;
use leanclaw_wasm::{Wasm, WasmSource};
use tokio::sync::OnceCell;

/// How the sandbox is made.
enum Origin {
    /// The agent's component, in the program's own process.
    Wasm { wasm: Wasm, locate: fn() -> Result<PathBuf, Failure> },
    #[cfg(test)]
    Given,
}

/// A sandbox that may have to be made ready first.
pub(crate) struct SandboxSource {
    origin: Origin,
    ready: OnceCell<Arc<dyn Sandbox>>,
    trouble: Mutex<Option<Failure>>,
}

impl SandboxSource {
    /// The embedded sandbox, with the agent's component of the file that is located whenever it is needed.
    pub(crate) fn wasm(wasm: Wasm, locate: fn() -> Result<PathBuf, Failure>) -> Self {
        let trouble = Mutex::new(locate().err());
        Self { origin: Origin::Wasm { wasm, locate }, ready: OnceCell::new(), trouble }
    }

    #[cfg(test)]
    pub(crate) fn given(sandbox: Arc<dyn Sandbox>) -> Self {
        Self { origin: Origin::Given, ready: OnceCell::new_with(Some(sandbox)), trouble: Mutex::default() }
    }

    #[cfg(test)]
    pub(crate) fn wasm_missing() -> Self {
        Self { origin: Origin::Given, ready: OnceCell::new(), trouble: Mutex::default() }
    }

    /// The sandbox. Whoever comes while it is being made waits for it, and whoever comes after it failed has it tried again.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) async fn get(&self) -> Result<Arc<dyn Sandbox>, Failure> {
        let made = self.ready.get_or_try_init(|| self.make()).await;
        let trouble = made.as_ref().err().cloned();
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        made.cloned()
    }

    /// Makes it before somebody needs it.
    pub(super) async fn get_ready(&self) {
        match self.get().await {
            Ok(sandbox) => {
                tracing::info!(sandbox = sandbox.kind(), "agents run in: {}", sandbox.describe().await.detail)
            }
            Err(failure) => {
                tracing::warn!(
                    code = failure.code,
                    hints = failure.hints.join("; "),
                    "agents cannot run: {}",
                    failure.message
                );
            }
        }
    }

    /// Why no agent can run, as far as that was tried.
    pub(crate) fn trouble(&self) -> Option<Failure> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn make(&self) -> Result<Arc<dyn Sandbox>, Failure> {
        match &self.origin {
            Origin::Wasm { wasm, locate } => {
                let source = WasmSource::file(locate()?);
                let sandbox = WasiSandbox::load(wasm, &source).await.map_err(|error| failure(&error))?;
                Ok(Arc::new(sandbox))
            }
            #[cfg(test)]
            Origin::Given => Err(Failure::internal("It was given.")),
        }
    }
}

/// What an error of a sandbox is to whoever asked for a run.
pub(super) fn failure(error: &leanclaw_sandbox::SandboxError) -> Failure {
    let failure = Failure::unavailable(format!("The sandbox cannot be started: {error}."));
    error.hints().into_iter().fold(failure, Failure::hint)
}
