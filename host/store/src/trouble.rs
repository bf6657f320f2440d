//! Whether a file takes what is written to it, as the last attempt that reached the disk found out.
//!
//! What is wrong is kept until a transaction that wrote something is on disk, or, where only the log could not be folded in,
//! until it is. A transaction that changed nothing proves nothing: it does not reach the disk. Damage is kept for as long as
//! the file is open, as other pages of it may well take what is written.

use std::cell::Cell;
use std::ffi::c_int;
use std::mem::discriminant;
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
    path: PathBuf,
    now: Mutex<Option<StoreError>>,
}

impl Trouble {
    /// Nothing is wrong with the file at `path`.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), now: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong now. It has the file's name without its folder: who may hear what is wrong need not hear where it lies.
    pub(crate) fn now(&self) -> Option<StoreError> {
        let error = self.lock().clone()?;
        Some(error.at(Path::new(self.path.file_name().unwrap_or_default())))
    }

    /// What is wrong now, where that may pass by itself.
    pub(crate) fn passing(&self) -> Option<StoreError> {
        self.lock().clone().filter(|error| !error.is_damage())
    }

    /// Something went wrong; `error` names no file yet. Damage stays known whatever else goes wrong.
    pub(crate) fn note(&self, error: StoreError) {
        let mut now = self.lock();
        if now.as_ref().is_some_and(StoreError::is_damage) && !error.is_damage() {
            return;
        }
        let before = now.replace(error.clone());
        drop(now);
        if before.is_none_or(|before| discriminant(&before) != discriminant(&error)) {
            let error = error.at(&self.path);
            let hint = error.hints().join(" ");
            tracing::error!(path = %self.path.display(), %error, hint, "the database is in trouble");
        }
    }

    /// Everything that was written stands; `log` is whether the log is folded in as far as it has to be, or why it cannot be.
    pub(crate) fn stored(&self, log: Result<bool, StoreError>) {
        let is_in_order = match log {
            Ok(is_in_order) => is_in_order,
            Err(error) => return self.note(error),
        };
        let is_over = |wrong: &mut StoreError| match wrong {
            StoreError::LogKept { .. } => is_in_order,
            other => !other.is_damage(),
        };
        if self.lock().take_if(is_over).is_some() {
            tracing::info!(path = %self.path.display(), "the database takes again what is written to it");
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

/// What the last commit of this thread led to, told once: as [`fold`] does. None when it wrote nothing.
pub(crate) fn committed() -> Option<Result<bool, StoreError>> {
    Some(folded(FOLDED.take()?))
}

/// Folds the log in. False where somebody else is at it, of which nothing is known yet.
pub(crate) fn fold(connection: &Connection) -> Result<bool, StoreError> {
    let is_busy = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, bool>(0));
    match is_busy {
        Ok(is_busy) => Ok(!is_busy),
        Err(error) => folded(Err(error)),
    }
}

fn folded(outcome: rusqlite::Result<()>) -> Result<bool, StoreError> {
    let Err(error) = outcome else { return Ok(true) };
    let message = error.to_string();
    match StoreError::from(error) {
        StoreError::Locked { .. } => Ok(false),
        damage if damage.is_damage() => Err(damage),
        _ => Err(StoreError::LogKept { path: PathBuf::new(), message }),
    }
}

/// Writes something and leaves nothing of it, to find out whether that can be done again.
pub(crate) struct RoomCheck;

impl Write for RoomCheck {
    fn run(&mut self, connection: &Connection) -> Result<(), Option<StoreError>> {
        // What is deleted is overwritten, so that every page of it is written.
        let sql = format!(
            "CREATE TABLE room_check (bytes BLOB); INSERT INTO room_check VALUES (zeroblob({CHECKED_BYTES})); \
             DROP TABLE room_check"
        );
        connection.execute_batch(&sql).map_err(|error| Some(StoreError::from(error)))
    }

    fn finish(self: Box<Self>, _: Result<(), StoreError>) {}
}
