//! What a run may put on the disk.
//!
//! WASI has no quota, so each run has a budget that only shrinks: bytes that it writes, and entries that it makes. A run
//! makes the disk fuller by at most those bytes, plus what the file system needs for that many entries (a block each, as
//! a rule). Holes in files take no space and are not counted; what is deleted is not given back. Nothing here bounds what
//! a group keeps over many runs: that is for whoever owns the folder, by looking at it between runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

/// What is left of it.
pub(super) struct Budget {
    bytes: AtomicU64,
    entries: AtomicU64,
}

/// Too little is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Budget {
    pub(super) fn new(bytes: u64, entries: u64) -> Self {
        Self { bytes: AtomicU64::new(bytes), entries: AtomicU64::new(entries) }
    }

    fn left_bytes(&self) -> usize {
        usize::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// Takes all of `length` bytes or nothing.
    pub(super) fn take_bytes(&self, length: usize) -> Result<(), Exhausted> {
        take(&self.bytes, u64::try_from(length).unwrap_or(u64::MAX))
    }

    /// Gives back bytes that were taken and not written.
    pub(super) fn give_back_bytes(&self, length: u64) {
        self.bytes.fetch_add(length, Ordering::Relaxed);
    }

    pub(super) fn take_entry(&self) -> Result<(), Exhausted> {
        take(&self.entries, 1)
    }

    pub(super) fn give_back_entry(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }
}

fn take(from: &AtomicU64, amount: u64) -> Result<(), Exhausted> {
    let taken = from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount));
    taken.map(|_| ()).map_err(|_| Exhausted)
}

/// The error of a full disk, which is what a guest sees.
fn full() -> StreamError {
    StreamError::LastOperationFailed(std::io::Error::from(rustix::io::Errno::NOSPC).into())
}

/// A stream into a file, within a budget.
pub(super) struct Metered {
    inner: DynOutputStream,
    budget: Arc<Budget>,
}

impl Metered {
    pub(super) fn new(inner: DynOutputStream, budget: &Arc<Budget>) -> Self {
        Self { inner, budget: Arc::clone(budget) }
    }
}

#[async_trait::async_trait]
impl Pollable for Metered {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait::async_trait]
impl OutputStream for Metered {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.budget.take_bytes(bytes.len()).map_err(|Exhausted| full())?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.inner.check_write()? {
            0 => Ok(0),
            _ if self.budget.left_bytes() == 0 => Err(full()),
            room => Ok(room.min(self.budget.left_bytes())),
        }
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.budget.take_bytes(bytes.len()).map_err(|Exhausted| full())?;
        self.inner.blocking_write_and_flush(bytes).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}
