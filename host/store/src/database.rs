//! One database file with its writer thread and its readers.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::{Located, StoreError};
use crate::file::{self, Schema};
use crate::queue::{Lane, Queue, Write};
use crate::readers::Readers;
use crate::trouble::Trouble;
use crate::writer::Writer;

/// An open file. Dropping it finishes what was accepted, on the thread that drops it.
pub(crate) struct Database {
    path: PathBuf,
    queue: Arc<Queue>,
    readers: Arc<Readers>,
    commits: Arc<AtomicU64>,
    trouble: Arc<Trouble>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Database {
    pub(crate) fn open(data_dir: &Path, schema: &Schema) -> Result<Self, StoreError> {
        Self::open_prepared(data_dir, schema, "")
    }

    /// As [`Self::open`]; `preparation` is SQL for the connection that writes.
    pub(crate) fn open_prepared(data_dir: &Path, schema: &Schema, preparation: &str) -> Result<Self, StoreError> {
        let (connection, path) = file::open_writer(data_dir, schema)?;
        connection.execute_batch(preparation).map_err(|error| StoreError::from(error).at(&path))?;
        let queue = Arc::new(Queue::default());
        let commits = Arc::new(AtomicU64::new(0));
        let trouble = Arc::new(Trouble::new(&path));
        let writer = Writer {
            connection,
            path: path.clone(),
            queue: Arc::clone(&queue),
            commits: Arc::clone(&commits),
            trouble: Arc::clone(&trouble),
            retry_pause: schema.retry_pause,
            failed: Cell::default(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("write {}", schema.file_name))
            .spawn(move || writer.run())
            .map_err(|error| StoreError::io(&path, error))?;
        let readers = Arc::new(Readers::new(path.clone()));
        Ok(Self { path, queue, readers, commits, trouble, thread: Mutex::new(Some(thread)) })
    }

    /// Runs `work` in the next transaction and answers once that is on disk.
    ///
    /// `bytes` is about what it stores. The write is accepted when this is first polled; it happens even if the future is
    /// then dropped.
    pub(crate) async fn write<T, E>(
        &self,
        lane: Lane,
        bytes: usize,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Located + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.queue.push(lane, bytes, Box::new(Task { work: Some(work), result: None, reply }))?;
        match answer.await {
            Ok(result) => result.map_err(|error: E| error.at(&self.path)),
            Err(_) => Err(StoreError::Closed.into()),
        }
    }

    /// How often a transaction of the writer ended.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// What keeps the file from being written, if anything does; it names the file without its folder.
    pub(crate) fn trouble(&self) -> Option<StoreError> {
        self.trouble.now()
    }

    /// Queues a write that nobody waits for, whose owner sees to it that there is only one at a time.
    pub(crate) fn push_exempt(&self, lane: Lane, write: Box<dyn Write>) -> Result<(), StoreError> {
        self.queue.push_exempt(lane, write)
    }

    /// Reads a row or two, on this thread.
    pub(crate) fn read<T, E>(&self, read: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError> + Located,
    {
        self.readers.read(read)
    }

    /// Reads what may be many rows, on a thread that may block.
    pub(crate) async fn read_many<T, E>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Located + Send + 'static,
    {
        let _turn = self.readers.long_read().await?;
        let readers = Arc::clone(&self.readers);
        match tokio::task::spawn_blocking(move || readers.read(read)).await {
            Ok(answer) => answer,
            // The runtime is shutting down.
            Err(_) => Err(StoreError::Closed.into()),
        }
    }

    /// Finishes what was accepted, refuses the rest, closes the file.
    pub(crate) async fn close(&self) {
        let Some(thread) = self.stop() else { return };
        if tokio::task::spawn_blocking(move || thread.join()).await.is_err() {
            tracing::warn!(path = %self.path.display(), "the runtime stopped before the database was closed");
        }
    }

    fn stop(&self) -> Option<JoinHandle<()>> {
        self.readers.close();
        self.queue.close();
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(thread) = self.stop()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the writer thread panicked");
        }
    }
}

/// A write with somebody who waits for its answer.
struct Task<T, E, W> {
    work: Option<W>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, W> Write for Task<T, E, W>
where
    T: Send,
    E: From<StoreError> + Located + Send,
    W: FnOnce(&Connection) -> Result<T, E> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), Option<StoreError>> {
        match self.result.insert(self.work.take().ok_or(None)?(connection)) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.file_failure().cloned()),
        }
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
        let answer = match outcome {
            // Even a refusal is void when what it saw in the transaction never came to be.
            Err(error) => Err(error.into()),
            Ok(()) => self.result.unwrap_or_else(|| Err(StoreError::Closed.into())),
        };
        // Whoever asked may have stopped waiting.
        let _ = self.reply.send(answer);
    }
}
