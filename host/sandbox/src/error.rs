//! Why a run could not be started.

use std::path::PathBuf;

use leanclaw_types::{Failure, failure::code};
use leanclaw_wasm::LoadError;

/// A run could not be started, or a sandbox not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A mount is not acceptable.
    #[error("the mount at `{}` is refused: {reason}", guest.escape_debug())]
    Mount {
        /// Where the program would have seen it.
        guest: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A folder that is to be mounted cannot be opened.
    #[error("the folder {} cannot be mounted at {}: {source}", path.display(), guest.escape_debug())]
    Folder {
        /// On the host.
        path: PathBuf,
        /// Where the program would have seen it.
        guest: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program cannot be loaded.
    #[error("the agent's component cannot be loaded: {0}")]
    Load(#[from] LoadError),
    /// The program is a component, but none that can be run here.
    #[error("the agent's component cannot be run in this sandbox: {message}")]
    Program {
        /// What does not fit; escaped.
        message: String,
    },
    /// The backend itself failed.
    #[error("{0}")]
    Backend(Failure),
}

impl SandboxError {
    /// What can be done about it, one sentence per line.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Mount { .. } => {
                vec!["a mount is a folder of the host and an absolute path inside, such as `/extra/notes`".into()]
            }
            Self::Folder { path, .. } => vec![format!(
                "{} has to be a folder, not a file or a symbolic link, that this user may read",
                path.display()
            )],
            Self::Load(error) => error.hints(),
            Self::Program { .. } => vec![
                "build the agent for wasm32-wasip2: it exports wasi:cli/run and imports nothing but WASI 0.2".into(),
                "a sandboxed agent has no network: wasi:http is not there to be imported".into(),
            ],
            Self::Backend(failure) => failure.hints.clone(),
        }
    }

    /// The same in the shape that clients are answered in.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let code = match self {
            Self::Mount { .. } => code::DENIED,
            Self::Folder { .. } => code::UNAVAILABLE,
            Self::Load(_) | Self::Program { .. } => code::INTERNAL,
            Self::Backend(failure) => return failure.clone(),
        };
        self.hints().into_iter().fold(Failure::new(code, self.to_string()), Failure::hint)
    }
}
