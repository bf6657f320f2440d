//! Connections that read. They never wait for the writer.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::error::{Located, StoreError};
use crate::file;

/// Connections kept open while nobody uses them.
const MAX_IDLE: usize = 8;
/// Long reads that run at once.
const MAX_LONG_READS: usize = 4;

/// The readers of one file. One more than [`MAX_IDLE`] may be open while it is in use, never more than there are threads.
pub(crate) struct Readers {
    path: PathBuf,
    /// None once closed.
    idle: Mutex<Option<Vec<Connection>>>,
    long_reads: Semaphore,
}

impl Readers {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Some(Vec::new())), long_reads: Semaphore::new(MAX_LONG_READS) }
    }

    fn idle(&self) -> MutexGuard<'_, Option<Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads on this thread.
    pub(crate) fn read<T, E>(&self, read: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError> + Located,
    {
        // A statement of its own: the lock is not held while opening or reading.
        let free = match self.idle().as_mut() {
            None => return Err(StoreError::Closed.into()),
            Some(idle) => idle.pop(),
        };
        let connection = match free {
            Some(connection) => connection,
            None => file::open_reader(&self.path).map_err(|error| error.at(&self.path))?,
        };
        let answer = read(&connection).map_err(|error| error.at(&self.path));
        if let Some(idle) = self.idle().as_mut()
            && idle.len() < MAX_IDLE
        {
            idle.push(connection);
        }
        answer
    }

    /// Waits for the right to read much. Held while reading.
    pub(crate) async fn long_read(&self) -> Result<tokio::sync::SemaphorePermit<'_>, StoreError> {
        self.long_reads.acquire().await.map_err(|_| StoreError::Closed)
    }

    /// Closes what is idle now and, later, what is in use.
    pub(crate) fn close(&self) {
        self.long_reads.close();
        drop(self.idle().take());
    }
}
