//! The writer thread: one transaction for everything that waits, one sync, then the answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use crate::error::{Located, StoreError};
use crate::queue::{Queue, Write};

/// Owns the one connection that writes.
pub(crate) struct Writer {
    connection: Connection,
    path: PathBuf,
    queue: Arc<Queue>,
    /// Counted before anyone learns that a write was stored.
    commits: Arc<AtomicU64>,
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
    pub(crate) fn new(connection: Connection, path: PathBuf, queue: Arc<Queue>, commits: Arc<AtomicU64>) -> Self {
        Self { connection, path, queue, commits }
    }

    /// Serves the queue until it is closed and empty.
    pub(crate) fn run(self) {
        let _guard = AbandonOnExit(Arc::clone(&self.queue));
        while let Some(batch) = self.queue.take_batch() {
            self.write(batch);
        }
        // The last connection to close folds the log into the database.
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(path = %self.path.display(), %error, "closing the database failed");
        }
    }

    fn write(&self, batch: Vec<Box<dyn Write>>) {
        let mut done: Vec<Box<dyn Write>> = Vec::with_capacity(batch.len());
        for mut write in batch {
            if self.connection.is_autocommit()
                && let Err(error) = self.execute("BEGIN IMMEDIATE")
            {
                write.finish(Err(error));
                continue;
            }
            match self.run_in_savepoint(write.as_mut()) {
                Ok(Ran::InTransaction) => done.push(write),
                Ok(Ran::EndedTransaction) => write.finish(Ok(())),
                Err(error) => {
                    write.finish(Err(error));
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
        let keep = write.run(&self.connection);
        if self.connection.is_autocommit() {
            // The savepoint is gone as well. A write that failed knows why; one that did not must not think it is stored.
            let lost = StoreError::RolledBack { path: self.path.clone() };
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
        outcome
    }

    /// Ends a transaction that could not be ended well; else the next batch would run inside it.
    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            tracing::error!(%error, "rolling back failed");
        }
    }

    fn execute(&self, sql: &'static str) -> Result<(), StoreError> {
        let run = || self.connection.prepare_cached(sql)?.execute([]).map(|_| ());
        run().map_err(|error| StoreError::from(error).at(&self.path))
    }
}
