//! Why a plugin could not be loaded or called.

use std::path::PathBuf;

use leanclaw_types::manifest::ManifestError;
use leanclaw_types::{Failure, failure::code};
use leanclaw_wasm::{CallError, LoadError};

use crate::diagnose::Diagnosis;

/// Why a plugin is not ready.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The package is not one.
    #[error("{0}")]
    Package(String),
    /// A file of the package cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others than the user of this program may change the package; the text says what to do.
    #[error("{0}")]
    Untrusted(String),
    /// The manifest was refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The component was refused or does not compile.
    #[error("The component cannot be loaded: {0}")]
    Load(#[from] LoadError),
    /// Imports and exports do not fit the host or the grant.
    #[error("The component does not fit: {0}")]
    Incompatible(Box<Diagnosis>),
    /// Linking failed although the names fit: a function or a type differs.
    #[error("The component cannot be linked: {0}")]
    Link(String),
    /// What the component says of itself is not acceptable.
    #[error("The component's description of itself is not acceptable: {0}")]
    Description(String),
    /// A call that loading needs failed.
    #[error("{0}")]
    Call(Failure),
    /// The component was asked what it is and answered that it failed; whatever it says of that, it says so again.
    #[error("The component does not describe itself: {0}")]
    Answer(Failure),
    /// The settings do not fit the manifest's schema.
    #[error("The settings of `{plugin}` do not fit its configSchema: {problem}")]
    Settings {
        /// The plugin.
        plugin: String,
        /// What is wrong, with its place.
        problem: String,
    },
    /// A service of the host failed.
    #[error("{0}")]
    Service(Failure),
}

impl PluginError {
    /// What to do about it, one line each.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Load(error) => error.hints(),
            Self::Incompatible(diagnosis) => diagnosis.hints.clone(),
            Self::Untrusted(_) => Vec::new(),
            _ if self.is_transient() => {
                vec!["it is tried again by itself; if it stays like this, see what this machine's disk and limits say".into()]
            }
            Self::Link(_) => vec![
                "build the component against this host's `wit` folder, or use a host as new as the component's contract"
                    .into(),
            ],
            Self::Settings { plugin, .. } => {
                vec![format!("correct plugins.entries.{plugin}.config in the configuration file")]
            }
            Self::Answer(failure) if failure.hints.is_empty() => {
                vec!["correct what its tools or methods answer; leanclaw plugin check PATH shows it".into()]
            }
            Self::Call(failure) | Self::Answer(failure) | Self::Service(failure) => failure.hints.clone(),
            Self::Manifest(_) => vec!["the manifest's fields are in wit/manifest.schema.json".into()],
            Self::Package(_) | Self::Read { .. } => vec![
                "a plugin is a folder with a leanclaw.plugin.json and the component it names, or one .wasm that carries its manifest; leanclaw plugin check PATH looks closer".into(),
            ],
            Self::Description(_) => {
                vec!["correct the component or its manifest; leanclaw plugin check PATH shows both".into()]
            }
        }
    }

    /// Whether it says nothing about the plugin and may pass by itself: a disk that does not answer, a machine that is
    /// short of something, a service of the host that is busy.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::Load(LoadError::Read { source, .. }) => may_pass(source),
            Self::Service(_) => true,
            Self::Call(failure) => failure.code == code::UNAVAILABLE && failure.retryable,
            _ => false,
        }
    }

    /// The error with its hints, as a state's reason.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut reason = self.to_string();
        // A diagnosis carries its hints in its own text.
        if !matches!(self, Self::Incompatible(_)) {
            for hint in self.hints() {
                reason.push_str("\nhint: ");
                reason.push_str(&hint);
            }
        }
        reason
    }
}

/// Whether the same read may succeed later, although nobody changed the file.
fn may_pass(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, OutOfMemory, ResourceBusy, StaleNetworkFileHandle, TimedOut, WouldBlock};
    let kinds = [Interrupted, OutOfMemory, ResourceBusy, StaleNetworkFileHandle, TimedOut, WouldBlock];
    let numbers = [libc::EIO, libc::EMFILE, libc::ENFILE, libc::ENOBUFS];
    kinds.contains(&error.kind()) || error.raw_os_error().is_some_and(|number| numbers.contains(&number))
}

/// A guest call that ended badly, for the caller.
pub(crate) fn call_failure(plugin: &str, export: &str, error: &CallError) -> Failure {
    let message = format!("The plugin `{plugin}` failed in `{export}`: {error}.");
    let failure = match error {
        CallError::Timeout { .. } => Failure::new(code::TIMED_OUT, message)
            .hint("raise limits.callTimeoutMs in its manifest if the work is really that long; above the default it needs a grant"),
        CallError::HostCallFlood { .. } => Failure::new(code::BUDGET_EXHAUSTED, message)
            .hint("raise limits.hostCalls in its manifest (above the default it needs a grant), or batch the work"),
        CallError::LimitExceeded { what: leanclaw_wasm::LimitKind::Memory, .. } => {
            Failure::new(code::BUDGET_EXHAUSTED, message).hint("raise limits.memoryMib in its manifest; above the default it needs a grant")
        }
        CallError::LimitExceeded { .. } => Failure::new(code::BUDGET_EXHAUSTED, message)
            .hint("work in smaller pieces and give back what is finished; this limit is fixed"),
        CallError::Trap { report } if report.code == wasmtime::Trap::StackOverflow => {
            Failure::new(code::INTERNAL, message).hint("the guest recursed too deeply; its stack is fixed at 512 KiB")
        }
        CallError::Trap { .. } | CallError::StoreSpent | CallError::Other { .. } => {
            Failure::new(code::INTERNAL, message)
        }
    };
    failure.hint(format!("leanclaw plugin logs {plugin}"))
}

/// The audit word for how a call ended.
pub(crate) fn outcome(error: &CallError) -> &'static str {
    match error {
        CallError::Timeout { .. } => "timeout",
        CallError::HostCallFlood { .. } | CallError::LimitExceeded { .. } => "limit",
        CallError::Trap { .. } | CallError::StoreSpent | CallError::Other { .. } => "trap",
    }
}
