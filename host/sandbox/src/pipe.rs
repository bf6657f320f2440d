//! A bounded pipe of bytes between the host and a guest in the same process.
//!
//! Whoever writes waits while it is full, whoever reads waits while it is empty. Nothing runs in the background: what
//! was written is there to be read at once, also when the writer is gone.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Default)]
struct State {
    bytes: BytesMut,
    is_writer_gone: bool,
    is_reader_gone: bool,
    /// One of each is enough: all handles of one side belong to one task.
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Pipe {
    capacity_bytes: usize,
    state: Mutex<State>,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The other end of a pipe is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// Both ends of a pipe that holds `capacity_bytes`.
pub(crate) fn pipe(capacity_bytes: usize) -> (Writer, Reader) {
    let pipe = Arc::new(Pipe { capacity_bytes, state: Mutex::default() });
    (Writer(Arc::new(WriteEnd(Arc::clone(&pipe)))), Reader(Arc::new(ReadEnd(pipe))))
}

struct WriteEnd(Arc<Pipe>);
struct ReadEnd(Arc<Pipe>);

impl Drop for WriteEnd {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_writer_gone = true;
        wake(state.reader.take());
    }
}

impl Drop for ReadEnd {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_reader_gone = true;
        state.bytes = BytesMut::new();
        wake(state.writer.take());
    }
}

/// The end that writes; closed when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Writer(Arc<WriteEnd>);

impl Writer {
    /// Bytes that find room now.
    pub(crate) fn room_bytes(&self) -> Result<usize, Closed> {
        let pipe = &self.0.0;
        let state = pipe.lock();
        if state.is_reader_gone { Err(Closed) } else { Ok(pipe.capacity_bytes.saturating_sub(state.bytes.len())) }
    }

    /// Writes all of `bytes`, or, when there is no room at all or they are more than the pipe ever holds, nothing.
    ///
    /// Several handles may each have been promised the same room, so up to twice the capacity is held.
    pub(crate) fn push(&self, bytes: &[u8]) -> Result<bool, Closed> {
        let pipe = &self.0.0;
        let mut state = pipe.lock();
        if state.is_reader_gone {
            return Err(Closed);
        }
        if bytes.len() > pipe.capacity_bytes || state.bytes.len() > pipe.capacity_bytes {
            return Ok(false);
        }
        state.bytes.extend_from_slice(bytes);
        wake(state.reader.take());
        Ok(true)
    }

    /// Waits for room, or for the reader to go.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let pipe = &self.0.0;
        let mut state = pipe.lock();
        if state.is_reader_gone || state.bytes.len() < pipe.capacity_bytes {
            return Poll::Ready(());
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        std::task::ready!(self.poll_room(context));
        let pushed = self.room_bytes().and_then(|room| {
            let part = bytes.get(..room.min(bytes.len())).unwrap_or_default();
            self.push(part).map(|_| part.len())
        });
        Poll::Ready(pushed.map_err(|Closed| std::io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let mut state = self.0.0.lock();
        state.is_writer_gone = true;
        wake(state.reader.take());
        Poll::Ready(Ok(()))
    }
}

/// The end that reads; closed when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Reader(Arc<ReadEnd>);

impl Reader {
    /// Up to `most` bytes of what is there: nothing when there is nothing yet, [`Closed`] when nothing will come.
    pub(crate) fn pull(&self, most: usize) -> Result<Bytes, Closed> {
        let mut state = self.0.0.lock();
        if state.bytes.is_empty() && state.is_writer_gone {
            return Err(Closed);
        }
        let length = most.min(state.bytes.len());
        let taken = state.bytes.split_to(length).freeze();
        if length > 0 {
            wake(state.writer.take());
        }
        Ok(taken)
    }

    /// Waits for bytes, or for the writer to go.
    pub(crate) fn poll_bytes(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.0.lock();
        if !state.bytes.is_empty() || state.is_writer_gone {
            return Poll::Ready(());
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        std::task::ready!(self.poll_bytes(context));
        if let Ok(bytes) = self.pull(buffer.remaining()) {
            buffer.put_slice(&bytes);
        }
        Poll::Ready(Ok(()))
    }
}
