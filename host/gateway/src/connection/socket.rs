//! One WebSocket on one TCP stream, polled by its connection's task.
//!
//! The protocol state machine is tungstenite's; it is driven directly on the TCP stream so that the frame limit can rise
//! after the handshake, so that many ready messages leave in one write, and so that the bytes a slow client has not
//! taken are known.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message, Utf8Bytes};

/// Bytes handed to the protocol before they are written.
const WRITE_BATCH_BYTES: usize = 64 * 1024;
/// The read buffer of an idle socket.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// What came in.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message: text, or binary that holds text.
    Text(Utf8Bytes),
    /// A binary message that is not UTF-8; it cannot be a frame.
    Noise,
    /// A ping or a pong.
    Alive,
}

/// Why no more will come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The peer has gone.
    Gone,
    /// The peer broke a rule; close with this code.
    Broken(CloseCode),
}

/// One WebSocket.
pub(crate) struct Socket {
    stream: TcpStream,
    protocol: WebSocketContext,
    /// Messages not yet handed to the protocol.
    queue: VecDeque<Utf8Bytes>,
    queued_bytes: usize,
    /// Bytes handed to the protocol and not known to be written.
    buffered_bytes: usize,
    unflushed: bool,
}

impl Socket {
    /// Takes over an upgraded stream; `early` is what the HTTP side had read too much.
    pub(crate) fn new(stream: TcpStream, early: &Bytes, frame_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(2 * WRITE_BATCH_BYTES)
            .max_message_size(Some(frame_bytes))
            .max_frame_size(Some(frame_bytes));
        let protocol = WebSocketContext::from_partially_read(early.to_vec(), Role::Server, Some(config));
        Self { stream, protocol, queue: VecDeque::new(), queued_bytes: 0, buffered_bytes: 0, unflushed: false }
    }

    /// Raises the frame limit once the peer is known.
    pub(crate) fn allow_frames_of(&mut self, bytes: usize) {
        self.protocol.set_config(|config| {
            config.max_message_size = Some(bytes);
            config.max_frame_size = Some(bytes);
        });
    }

    /// Bytes the peer has not taken.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.queued_bytes + self.buffered_bytes
    }

    /// Queues a message.
    pub(crate) fn push(&mut self, text: Utf8Bytes) {
        self.queued_bytes += text.len();
        self.queue.push_back(text);
    }

    /// Queues a ping.
    pub(crate) fn ping(&mut self, context: &mut Context<'_>) {
        let mut pipe = Pipe { stream: &mut self.stream, context };
        // An error here comes back at the next read or flush.
        let _ = self.protocol.write(&mut pipe, Message::Ping(Bytes::new()));
        self.unflushed = true;
    }

    /// The next thing that came in.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, Ending>> {
        loop {
            let mut pipe = Pipe { stream: &mut self.stream, context };
            return match self.protocol.read(&mut pipe) {
                Ok(Message::Text(text)) => Poll::Ready(Ok(Incoming::Text(text))),
                Ok(Message::Binary(bytes)) => {
                    Poll::Ready(Ok(Utf8Bytes::try_from(bytes).map_or(Incoming::Noise, Incoming::Text)))
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Poll::Ready(Ok(Incoming::Alive)),
                // The reply to the peer's close leaves with the next read, which then says that it is over.
                Ok(Message::Close(_)) => continue,
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                Err(error) => Poll::Ready(Err(ending(&error))),
            };
        }
    }

    /// Writes what is queued; ready when all of it has left.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        loop {
            if self.unflushed {
                let mut pipe = Pipe { stream: &mut self.stream, context };
                match self.protocol.flush(&mut pipe) {
                    Ok(()) => {
                        self.unflushed = false;
                        self.buffered_bytes = 0;
                    }
                    Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                    Err(error) => return Poll::Ready(Err(ending(&error))),
                }
            }
            if self.queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if let Err(ending) = self.fill(context) {
                return Poll::Ready(Err(ending));
            }
        }
    }

    /// Hands queued messages to the protocol until a batch is full.
    fn fill(&mut self, context: &mut Context<'_>) -> Result<(), Ending> {
        while self.buffered_bytes < WRITE_BATCH_BYTES {
            let Some(text) = self.queue.pop_front() else { break };
            self.queued_bytes -= text.len();
            self.buffered_bytes += text.len();
            self.unflushed = true;
            let mut pipe = Pipe { stream: &mut self.stream, context };
            match self.protocol.write(&mut pipe, Message::Text(text)) {
                Ok(()) => {}
                // Taken all the same; the flush carries on from here.
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(ending(&error)),
            }
        }
        Ok(())
    }

    /// Says goodbye and waits, at most `grace`, until the peer has taken it. With `keep_queue` what is queued goes out
    /// first.
    pub(crate) async fn close(mut self, code: CloseCode, reason: Utf8Bytes, keep_queue: bool, grace: Duration) {
        let goodbye = async {
            if keep_queue && std::future::poll_fn(|context| self.poll_flush(context)).await.is_err() {
                return;
            }
            self.queue.clear();
            let frame = CloseFrame { code, reason };
            std::future::poll_fn(|context| {
                let mut pipe = Pipe { stream: &mut self.stream, context };
                // Queues the frame; only the flush below says whether it has left.
                let _ = self.protocol.close(&mut pipe, Some(frame.clone()));
                Poll::Ready(())
            })
            .await;
            self.unflushed = true;
            if std::future::poll_fn(|context| self.poll_flush(context)).await.is_err() {
                return;
            }
            // Closing a socket with unread bytes resets the connection, and the peer would lose the goodbye.
            let _ = self.stream.shutdown().await;
            // On the heap: here it would be part of every connection's task from its first moment.
            let mut scratch = vec![0_u8; 4096];
            while let Ok(count) = tokio::io::AsyncReadExt::read(&mut self.stream, &mut scratch).await {
                if count == 0 {
                    break;
                }
            }
        };
        // Who does not take the goodbye in time loses it.
        let _ = tokio::time::timeout(grace, goodbye).await;
    }
}

fn ending(error: &Error) -> Ending {
    use tungstenite::error::ProtocolError;
    match error {
        Error::Capacity(_) => Ending::Broken(CloseCode::Size),
        Error::Utf8(_) => Ending::Broken(CloseCode::Invalid),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ending::Gone,
        Error::Protocol(_) => Ending::Broken(CloseCode::Protocol),
        _ => Ending::Gone,
    }
}

/// The TCP stream as the protocol wants it: what would block says so, and the task is woken when it no longer would.
struct Pipe<'a, 'b> {
    stream: &'a mut TcpStream,
    context: &'a mut Context<'b>,
}

fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Read for Pipe<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        now(Pin::new(&mut *self.stream).poll_read(self.context, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl io::Write for Pipe<'_, '_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.stream).poll_write(self.context, buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        now(Pin::new(&mut *self.stream).poll_flush(self.context))
    }
}
