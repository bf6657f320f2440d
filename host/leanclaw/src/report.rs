//! From an error to what a person reads: the message, its causes, and what to do about it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use leanclaw_types::Failure;
use serde::Serialize;

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::data_dir::DataDirError;
use crate::lock::LockError;
use crate::run::BindError;

/// An error with advice, for commands that have no error type of their own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Advice {
    message: String,
    hints: Vec<String>,
}

impl Advice {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new() }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// A person interrupted what a command does elsewhere. What became of that was told.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// An error, ready to be shown.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    pub(crate) message: String,
    pub(crate) causes: Vec<String>,
    pub(crate) hints: Vec<String>,
}

impl Report {
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let mut causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        causes.dedup();
        let mut hints: Vec<String> = Vec::new();
        // Whoever names a file that could not be written thinks of rights first, and they are not what is missing here.
        let about_room: Option<&str> = error.chain().find_map(|cause| about_room(io_kind_of(cause)?));
        let known = error.chain().flat_map(hints_of).filter(|_| about_room.is_none());
        for hint in about_room.map(str::to_owned).into_iter().chain(known) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        Self { message: error.to_string(), causes, hints }
    }
}

/// Whether the reader of our output went away.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// What to do when the system takes no more of what is written; none for an error of any other kind.
pub(crate) fn about_room(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::FileTooLarge => Some(
            "a limit on the size of files was reached: raise it (`ulimit -f`, or LimitFSIZE= of a service), then try again",
        ),
        io::ErrorKind::StorageFull => Some("make space on that disk, then try again"),
        io::ErrorKind::QuotaExceeded => {
            Some("the quota of this user on that disk is used up: make space, then try again")
        }
        _ => None,
    }
}

fn io_kind_of(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let shared = || error.downcast_ref::<Arc<io::Error>>().map(Arc::as_ref);
    error.downcast_ref::<io::Error>().or_else(shared).map(io::Error::kind)
}

/// Every error type that knows what to do about itself.
fn hints_of(error: &(dyn Error + 'static)) -> Vec<String> {
    if let Some(error) = error.downcast_ref::<Advice>() {
        return error.hints.clone();
    }
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return error.hints();
    }
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return error.hints();
    }
    if let Some(error) = error.downcast_ref::<BindError>() {
        return error.hints();
    }
    if let Some(error) = error.downcast_ref::<LockError>() {
        return error.hints();
    }
    if let Some(error) = error.downcast_ref::<DataDirError>() {
        return error.hints();
    }
    if let Some(error) = error.downcast_ref::<leanclaw_store::StoreError>() {
        return error.hints();
    }
    if let Some(error) = error.downcast_ref::<leanclaw_plugin::PluginError>() {
        return error.hints();
    }
    error.downcast_ref::<Failure>().map(|failure| failure.hints.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn hints_are_found_wherever_the_error_sits_and_said_once() {
        let failure = Failure::denied("No.").hint("do this");
        let error = Err::<(), _>(failure).context("It failed").context("It really failed").unwrap_err();
        let report = Report::of(&error);
        assert_eq!(report.message, "It really failed");
        assert_eq!(report.causes, ["It failed", "No."]);
        assert_eq!(report.hints, ["do this"]);
    }

    #[test]
    fn a_disk_that_takes_no_more_is_no_matter_of_rights() {
        let source = io::Error::from(io::ErrorKind::FileTooLarge);
        let error = LockError::Io { path: "/d/leanclaw.lock".into(), source };
        let hints = Report::of(&error.into()).hints;
        assert!(hints.len() == 1 && hints[0].contains("ulimit -f"), "{hints:?}");
        let source = Arc::new(io::Error::from(io::ErrorKind::StorageFull));
        let error = leanclaw_store::StoreError::Io { path: "/d".into(), source };
        let hints = Report::of(&error.into()).hints;
        assert!(hints.len() == 1 && hints[0].contains("make space"), "{hints:?}");
        let error = LockError::Io { path: "/d".into(), source: io::Error::from(io::ErrorKind::PermissionDenied) };
        assert!(Report::of(&error.into()).hints[0].contains("writable"));
    }

    #[test]
    fn a_reader_that_left_is_recognised_under_context() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("printing");
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow::anyhow!("other")));
    }
}
