//! Why the store cannot do something, and what a person can do about it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use leanclaw_types::Failure;
use rusqlite::ErrorCode;

/// A failure of a database file. Every variant says what happened; [`StoreError::hints`] says what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A directory or file cannot be made or protected.
    #[error("Cannot prepare `{}`: {source}.", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The file is not an SQLite database.
    #[error("`{}` is not a database; it was left as it is.", .path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is a database of another program, or LeanClaw's other one.
    #[error("`{}` is a database, but not the one LeanClaw keeps under this name; it was left as it is.", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer LeanClaw wrote the file.
    #[error(
        "`{}` was written by a newer LeanClaw (schema {found}; this one knows up to {supported}); it was left as it is.",
        .path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest schema version this program knows.
        supported: i64,
    },
    /// The file system cannot share the memory that write-ahead logging needs.
    #[error("`{}` cannot use write-ahead logging (its journal mode stays `{mode}`).", .path.display())]
    NoWriteAheadLog {
        /// The file.
        path: PathBuf,
        /// The journal mode SQLite stayed in.
        mode: String,
    },
    /// The file is damaged.
    #[error("`{}` is damaged: {message}.", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        message: String,
    },
    /// Another program holds the file.
    #[error("`{}` is held by another program.", .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// No space is left.
    #[error("The disk that holds `{}` is full; nothing was stored.", .path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The system refused to read or write: a broken disk, a quota, a limit on the size of files.
    #[error("The disk that holds `{}` failed; nothing was stored: {message}.", .path.display())]
    DiskFailed {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        message: String,
    },
    /// The file cannot be opened or written with the rights this process has.
    #[error("`{}` cannot be opened or written: {message}.", .path.display())]
    NoAccess {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        message: String,
    },
    /// What was stored is in the log and cannot be folded into the file.
    #[error("`{}` cannot take in what was stored, so its log grows: {message}.", .path.display())]
    LogKept {
        /// The file.
        path: PathBuf,
        /// Why not.
        message: String,
    },
    /// A row does not hold what this program writes there.
    #[error("`{}` holds an unreadable row ({row}): {message}.", .path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Which row, for a person.
        row: String,
        /// What is wrong with it.
        message: String,
    },
    /// A write beside this one failed in a way that took the whole transaction with it.
    #[error("Nothing was stored in `{}`: a write in the same transaction failed.", .path.display())]
    RolledBack {
        /// The file.
        path: PathBuf,
    },
    /// Any other failure of SQLite.
    #[error("`{}`: {source}.", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// A copy would lie where something is.
    #[error("`{}` is there already and was left as it is.", .path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// There is no database where one was looked for.
    #[error("There is no database of LeanClaw in `{}`.", .path.display())]
    NoDatabases {
        /// The folder.
        path: PathBuf,
    },
    /// It is a database, and not one that can be taken in.
    #[error("`{}` is not a database of the TypeScript LeanClaw: {message}.", .path.display())]
    NotTheOriginal {
        /// The file.
        path: PathBuf,
        /// How that shows.
        message: String,
    },
    /// More writes wait than may; nothing was stored.
    #[error("Too many writes wait for the disk; nothing was stored.")]
    Overloaded,
    /// The inbox keeps as much of this plugin as it may.
    #[error("The inbox holds {limit_bytes} bytes of messages of `{plugin}`; nothing was stored.")]
    InboxFull {
        /// The plugin.
        plugin: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// The store is closed.
    #[error("The store is closed; nothing was stored.")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    /// The file's name is filled in where the error leaves the database.
    fn from(error: rusqlite::Error) -> Self {
        let path = PathBuf::new();
        let message = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt { path, message },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            Some(ErrorCode::SystemIoFailure) => Self::DiskFailed { path, message },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Self::NoAccess { path, message }
            }
            _ => Self::Sqlite { path, source: Arc::new(error) },
        }
    }
}

/// An error that can be told which file it is about.
pub(crate) trait Located {
    fn at(self, path: &Path) -> Self;

    /// The error, where it says that the file cannot be used, whatever is to be done with it.
    fn file_failure(&self) -> Option<&StoreError>;
}

impl Located for StoreError {
    fn at(mut self, file: &Path) -> Self {
        match &mut self {
            Self::Io { path, .. }
            | Self::NotADatabase { path }
            | Self::Foreign { path }
            | Self::TooNew { path, .. }
            | Self::NoWriteAheadLog { path, .. }
            | Self::Corrupt { path, .. }
            | Self::Locked { path }
            | Self::DiskFull { path }
            | Self::DiskFailed { path, .. }
            | Self::NoAccess { path, .. }
            | Self::LogKept { path, .. }
            | Self::Row { path, .. }
            | Self::NotTheOriginal { path, .. }
            | Self::RolledBack { path }
            | Self::Sqlite { path, .. } => {
                if path.as_os_str().is_empty() {
                    file.clone_into(path);
                }
            }
            Self::Occupied { .. }
            | Self::NoDatabases { .. }
            | Self::Overloaded
            | Self::InboxFull { .. }
            | Self::Closed => {}
        }
        self
    }

    fn file_failure(&self) -> Option<&Self> {
        let is_of_file = matches!(
            self,
            Self::NotADatabase { .. }
                | Self::Corrupt { .. }
                | Self::Locked { .. }
                | Self::DiskFull { .. }
                | Self::DiskFailed { .. }
                | Self::NoAccess { .. }
        );
        is_of_file.then_some(self)
    }
}

impl StoreError {
    /// A row that does not read back.
    pub(crate) fn row(row: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self::Row { path: PathBuf::new(), row: row.into(), message: problem.to_string() }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source: Arc::new(source) }
    }

    /// Whether the file itself is wrong: what it takes now says nothing about what it holds.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::NotADatabase { .. })
    }

    /// Whether the same call may succeed later without anybody doing anything about the file.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Locked { .. }
                | Self::DiskFull { .. }
                | Self::DiskFailed { .. }
                | Self::RolledBack { .. }
                | Self::Overloaded
        )
    }

    /// What to do about it, one line each.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Io { path, .. } | Self::NoAccess { path, .. } => format!(
                "Give the user that runs LeanClaw the right to read and write `{}` and its folder, or name another data \
                 directory with LEANCLAW_DATA_DIR.",
                path.display()
            ),
            Self::NotADatabase { path } | Self::Foreign { path } => format!(
                "Move it out of the way (`mv {0} {0}.old`), put a backup in its place (`leanclaw db restore`), or name \
                 another data directory with LEANCLAW_DATA_DIR.",
                path.display()
            ),
            Self::TooNew { .. } => {
                "Run the newer LeanClaw, or name another data directory with LEANCLAW_DATA_DIR.".to_owned()
            }
            Self::NoWriteAheadLog { .. } => {
                "Put the data directory on a local disk (LEANCLAW_DATA_DIR); network file systems cannot do this."
                    .to_owned()
            }
            Self::Corrupt { path, .. } => format!(
                "Stop LeanClaw and put a backup in its place (`leanclaw db restore`, which keeps what is there); without \
                 one, `sqlite3 {0} .recover | sqlite3 {0}.recovered` saves what can be read.",
                path.display()
            ),
            Self::Locked { .. } => {
                "If `leanclaw start` runs with this data directory, use its commands while it runs or stop it first; \
                 close any other program that has the file open."
                    .to_owned()
            }
            Self::DiskFull { .. } | Self::RolledBack { .. } => {
                "Check that the disk has space left and works, then try again.".to_owned()
            }
            Self::LogKept { .. } => {
                "Check that the disk has space left and that no quota and no limit on the size of files (`ulimit -f`) is \
                 reached; it is tried again by itself."
                    .to_owned()
            }
            Self::DiskFailed { .. } => {
                "Check that the disk works and that no quota and no limit on the size of files (`ulimit -f`) is reached, \
                 then try again."
                    .to_owned()
            }
            Self::Row { row, .. } => format!("Write it anew with this LeanClaw: {row}."),
            Self::Sqlite { .. } => return Vec::new(),
            Self::InboxFull { .. } => "Messages are taken again once some of those are handled.".to_owned(),
            Self::Occupied { .. } => {
                "Name another place; --force replaces a folder that holds nothing but a backup.".to_owned()
            }
            Self::NotTheOriginal { .. } => {
                "Name its folder or its file; it keeps its database in `store/leanclaw.db`.".to_owned()
            }
            Self::NoDatabases { .. } => {
                "The first `leanclaw start` makes them; --data-dir or LEANCLAW_DATA_DIR names another data directory."
                    .to_owned()
            }
            Self::Overloaded => "Try again in a moment.".to_owned(),
            Self::Closed => "LeanClaw is stopping; try again when it runs.".to_owned(),
        };
        vec![hint]
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        let mut failure = if matches!(error, StoreError::InboxFull { .. }) {
            Self::new(leanclaw_types::failure::code::RATE_LIMITED, message)
        } else if error.is_retryable() || matches!(error, StoreError::Closed) {
            Self::unavailable(message)
        } else {
            Self::internal(message)
        };
        failure.hints = error.hints();
        failure
    }
}
