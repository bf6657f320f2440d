//! The writer thread: one transaction for everything that waits, one sync, then the answers.
//!
//! While the file cannot be written it tries again every second, also when nobody writes, so that what is said of the file
//! stays true once the cause is gone.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::{Located, StoreError};
use crate::queue::{Queue, Write};
use crate::trouble::{self, RoomCheck, Trouble};

/// Owns the one connection that writes.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    pub(crate) queue: Arc<Queue>,
    /// Counted before anyone learns that a write was stored.
    pub(crate) commits: Arc<AtomicU64>,
    /// Told before anyone learns that a write failed.
    pub(crate) trouble: Arc<Trouble>,
    pub(crate) retry_pause: Duration,
    /// Whether the file failed a write of this batch: what is stored beside it does not make that good.
    pub(crate) failed: Cell<bool>,
}

/// What became of a write's surroundings.
enum Ran {
    /// It stands, or was undone alone, in the open transaction.
    InTransaction,
    /// It failed and SQLite undid the whole transaction.
    EndedTransaction,
}

/// Nobody may wait for a thread that is gone, however it went.
struct AbandonOnExit(Arc<Queue>);

impl Drop for AbandonOnExit {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Writer {
    /// Serves the queue until it is closed and empty.
    pub(crate) fn run(self) {
        let _guard = AbandonOnExit(Arc::clone(&self.queue));
        trouble::fold_after_commits(&self.connection);
        let mut retry_at = None;
        while let Some(batch) = self.queue.take_batch(retry_at) {
            self.write(batch);
            retry_at = self.retry(retry_at);
        }
        // The last connection to close folds the log into the database.
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(path = %self.path.display(), %error, "closing the database failed");
        }
    }

    /// Finds out whether what is wrong with the file has passed, once that is due. Gives when it is due next; none while
    /// nothing is wrong that may pass.
    fn retry(&self, due: Option<Instant>) -> Option<Instant> {
        let wrong = self.trouble.passing()?;
        match due {
            Some(due) if due > Instant::now() => return Some(due),
            Some(_) => {
                self.try_again(&wrong);
                self.trouble.passing()?;
            }
            None => {}
        }
        Some(Instant::now() + self.retry_pause)
    }

    fn try_again(&self, wrong: &StoreError) {
        if matches!(wrong, StoreError::LogKept { .. }) {
            self.trouble.stored(trouble::fold(&self.connection));
        } else {
            self.write(vec![Box::new(RoomCheck)]);
        }
    }

    fn write(&self, batch: Vec<Box<dyn Write>>) {
        let mut done: Vec<Box<dyn Write>> = Vec::with_capacity(batch.len());
        self.failed.set(false);
        for mut write in batch {
            if self.connection.is_autocommit()
                && let Err(error) = self.execute("BEGIN IMMEDIATE")
            {
                write.finish(Err(self.noted(error)));
                continue;
            }
            match self.run_in_savepoint(write.as_mut()) {
                Ok(Ran::InTransaction) => done.push(write),
                Ok(Ran::EndedTransaction) => write.finish(Ok(())),
                Err(error) => {
                    write.finish(Err(self.noted(error)));
                    self.roll_back();
                }
            }
            // A full disk or a failing one makes SQLite undo the whole transaction, not only the statement: what came
            // before in it is gone as well. What comes after starts a new one.
            if self.connection.is_autocommit() {
                for lost in done.drain(..) {
                    lost.finish(Err(StoreError::RolledBack { path: self.path.clone() }));
                }
            }
        }
        let outcome = self.commit();
        for write in done {
            write.finish(outcome.clone());
        }
    }

    fn run_in_savepoint(&self, write: &mut dyn Write) -> Result<Ran, StoreError> {
        self.execute("SAVEPOINT one_write")?;
        let ran = write.run(&self.connection);
        let keep = ran.is_ok();
        if let Err(Some(error)) = ran {
            self.noted(error);
        }
        if self.connection.is_autocommit() {
            // The savepoint is gone as well. A write that failed knows why; one that did not must not think it is stored.
            let lost = StoreError::RolledBack { path: PathBuf::new() };
            return if keep { Err(lost) } else { Ok(Ran::EndedTransaction) };
        }
        if !keep {
            self.execute("ROLLBACK TO one_write")?;
        }
        self.execute("RELEASE one_write")?;
        Ok(Ran::InTransaction)
    }

    fn commit(&self) -> Result<(), StoreError> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        let outcome = self.execute("COMMIT");
        self.commits.fetch_add(1, Ordering::AcqRel);
        self.roll_back();
        // Of a batch with a write that the file failed, that failure is what is told.
        if let Some(log) = trouble::committed()
            && !self.failed.get()
        {
            self.trouble.stored(log);
        }
        outcome.map_err(|error| self.noted(error))
    }

    /// Ends a transaction that could not be ended well; else the next batch would run inside it.
    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            tracing::error!(%error, "rolling back failed");
        }
    }

    /// Has it be known that the file could not be written. Gives the error with the file's full name.
    fn noted(&self, error: StoreError) -> StoreError {
        self.failed.set(true);
        self.trouble.note(error.clone());
        error.at(&self.path)
    }

    /// An error names no file yet.
    fn execute(&self, sql: &'static str) -> Result<(), StoreError> {
        Ok(self.connection.prepare_cached(sql)?.execute([]).map(|_| ())?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::file;

    /// Stores a row and says what became of it.
    struct Put(Sender<Result<(), StoreError>>);

    impl Write for Put {
        fn run(&mut self, connection: &Connection) -> Result<(), Option<StoreError>> {
            let stored = connection.execute_batch("INSERT INTO kept VALUES (1)");
            stored.map_err(|error| Some(StoreError::from(error)))
        }

        fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
            self.0.send(outcome).unwrap();
        }
    }

    impl Writer {
        fn put(&self) -> Result<(), StoreError> {
            let (sender, receiver) = channel();
            self.write(vec![Box::new(Put(sender))]);
            receiver.try_recv().unwrap()
        }

        fn set_read_only(&self, on: bool) {
            self.connection.pragma_update(None, "query_only", on).unwrap();
        }
    }

    /// SQLite refuses as it does where the disk was mounted anew for reading only, which takes an administrator.
    #[test]
    fn a_file_that_only_lets_itself_be_read_is_said_to_be_one_until_it_takes_writes_again() {
        let folder = tempfile::TempDir::new().unwrap();
        let (connection, path) = file::open_writer(folder.path(), &crate::store::SCHEMA).unwrap();
        connection.execute_batch("CREATE TABLE kept (n)").unwrap();
        let trouble = Arc::new(Trouble::new(&path));
        let writer = Writer {
            connection,
            path: path.clone(),
            queue: Arc::default(),
            commits: Arc::default(),
            trouble: Arc::clone(&trouble),
            retry_pause: Duration::from_secs(1),
            failed: Cell::default(),
        };
        trouble::fold_after_commits(&writer.connection);
        writer.put().unwrap();
        assert!(writer.retry(None).is_none(), "nothing is wrong, so nothing is due");

        writer.set_read_only(true);
        let refused = writer.put().unwrap_err();
        assert!(matches!(refused, StoreError::NoAccess { .. }), "{refused:?}");
        let said = format!("{refused} {}", refused.hints().join(" "));
        for part in [path.to_str().unwrap(), "readonly", "the right to read and write", "LEANCLAW_DATA_DIR"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let wrong = trouble.now().expect("nothing can be stored");
        assert!(matches!(wrong, StoreError::NoAccess { .. }), "{wrong:?}");
        assert!(!wrong.to_string().contains(folder.path().to_str().unwrap()), "not where it lies: {wrong}");
        let due = writer.retry(None).expect("it is tried again");
        assert_eq!(writer.retry(Some(due)), Some(due), "and not before that");
        assert!(writer.retry(Some(Instant::now())).is_some() && trouble.now().is_some(), "it is as it was");

        writer.set_read_only(false);
        assert!(writer.retry(Some(Instant::now())).is_none(), "nobody had to write");
        assert!(trouble.now().is_none());
        writer.put().unwrap();
        let kept: i64 = writer.connection.query_row("SELECT count(*) FROM kept", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 2, "what was refused was not stored, and nothing else is lost");
    }
}
