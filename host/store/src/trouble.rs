//! Whether a file takes what is written to it, as the last attempt that reached the disk found out.
//!
//! What is wrong is kept until a transaction that wrote something is on disk. One that changed nothing proves nothing: it
//! does not reach the disk.

use std::cell::Cell;
use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use crate::error::{Located, StoreError};
use crate::queue::Write;

/// Pages in the log from which on a commit folds it into the database.
const LOG_PAGES: c_int = 1000;
/// What is written to find out whether there is room again, in bytes: more than most writes take, so that room for it is
/// room for them. What a write that failed left of the log is too little for it.
const CHECKED_BYTES: usize = 64 * 1024;

/// What is wrong with a file, if anything is.
pub(crate) struct Trouble {
    /// The file's name without its folder: who may hear what is wrong need not hear where it lies.
    file: PathBuf,
    now: Mutex<Option<StoreError>>,
}

impl Trouble {
    /// Nothing is wrong with the file at `path`.
    pub(crate) fn new(path: &Path) -> Self {
        Self { file: path.file_name().map(PathBuf::from).unwrap_or_default(), now: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong now.
    pub(crate) fn now(&self) -> Option<StoreError> {
        self.lock().clone()
    }

    /// Something went wrong; `error` names no file yet.
    pub(crate) fn note(&self, error: StoreError) {
        let error = error.at(&self.file);
        let before = self.lock().replace(error.clone());
        if before.is_none() {
            tracing::error!(%error, "the database is in trouble");
        }
    }

    /// Something was written, and all is well.
    pub(crate) fn is_over(&self) {
        if self.lock().take().is_some() {
            tracing::info!(file = %self.file.display(), "the database can be written again");
        }
    }
}

thread_local! {
    /// What became of the log after the last commit of this thread that wrote something.
    static FOLDED: Cell<Option<rusqlite::Result<()>>> = const { Cell::new(None) };
}

/// Folds the log in after commits on this connection, as SQLite does by itself without telling anybody when it cannot: then
/// the log grows for as long as there is room for it. What came of it is for the thread that commits.
pub(crate) fn fold_after_commits(connection: &Connection) {
    connection.wal_hook(Some(after_commit));
}

fn after_commit(log: &Wal, pages: c_int) -> rusqlite::Result<()> {
    FOLDED.set(Some(if pages < LOG_PAGES { Ok(()) } else { log.checkpoint() }));
    // An error from here would be taken for one of the commit, which stands.
    Ok(())
}

/// What the last commit of this thread led to, told once: whether the log is in order. None when it wrote nothing.
pub(crate) fn committed() -> Option<Result<(), StoreError>> {
    Some(folded(FOLDED.take()?))
}

/// Tries again to fold in a log that could not be.
pub(crate) fn fold(connection: &Connection) -> Result<(), StoreError> {
    folded(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())))
}

fn folded(outcome: rusqlite::Result<()>) -> Result<(), StoreError> {
    match outcome.map_err(StoreError::from) {
        // Somebody else is folding it in.
        Ok(()) | Err(StoreError::Locked { .. }) => Ok(()),
        Err(error) => Err(StoreError::LogKept { path: PathBuf::new(), message: error.cause() }),
    }
}

/// Writes something and leaves nothing of it, to find out whether that can be done again.
#[derive(Default)]
pub(crate) struct RoomCheck(Option<StoreError>);

impl Write for RoomCheck {
    fn run(&mut self, connection: &Connection) -> bool {
        // What is deleted is overwritten, so that every page of it is written.
        let sql = format!(
            "CREATE TABLE room_check (bytes BLOB); INSERT INTO room_check VALUES (zeroblob({CHECKED_BYTES})); \
             DROP TABLE room_check"
        );
        self.0 = connection.execute_batch(&sql).err().map(StoreError::from);
        self.0.is_none()
    }

    fn failure(&self) -> Option<StoreError> {
        self.0.clone()
    }

    fn finish(self: Box<Self>, _: Result<(), StoreError>) {}
}
