//! One WebSocket on one TCP stream, polled by its connection's task.
//!
//! Reading, pings and closing are tungstenite's; it is driven directly on the TCP stream so that the frame limit can rise
//! after the handshake. Messages are written here, all into one buffer: what is ready leaves in one write, the bytes a slow
//! client has not taken are known, and a connection that does nothing keeps no buffer at all.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message, Utf8Bytes};

/// Bytes in the write buffer above which messages wait in the queue.
const WRITE_BATCH_BYTES: usize = 64 * 1024;
/// The read buffer, and so the most that is read at a time.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// The largest write buffer that an idle socket keeps.
const KEPT_BYTES: usize = 1024;
/// The most the protocol holds of its own while the write buffer is full. Above it, it answers only the newest ping: a peer
/// that pings and never reads fills no memory.
const PROTOCOL_BYTES: usize = 4 * 1024;
/// The first byte of a text message that is one frame (RFC 6455, section 5.2).
const TEXT: u8 = 0x81;

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
    /// Messages that found the write buffer full.
    queue: VecDeque<Utf8Bytes>,
    queued_bytes: usize,
    /// Whole frames, the first of them perhaps written in part.
    out: BytesMut,
    /// The protocol has something to write and found the write buffer full.
    refused: bool,
}

impl Socket {
    /// Takes over an upgraded stream; `early` is what the HTTP side had read too much. It is part of that side's whole read
    /// buffer, which must not live on in it: it would double what an idle connection costs.
    pub(crate) fn new(stream: TcpStream, early: Bytes, frame_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(PROTOCOL_BYTES)
            .max_message_size(Some(frame_bytes))
            .max_frame_size(Some(frame_bytes));
        // With its whole capacity from the start: a message that is still in use when the buffer is full makes the protocol
        // take a new one, of the capacity that the first one began with.
        let mut buffer = Vec::with_capacity(READ_BUFFER_BYTES);
        buffer.extend_from_slice(&early);
        drop(early);
        let protocol = WebSocketContext::from_partially_read(buffer, Role::Server, Some(config));
        Self { stream, protocol, queue: VecDeque::new(), queued_bytes: 0, out: BytesMut::new(), refused: false }
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
        self.queued_bytes + self.out.len()
    }

    /// Queues a message.
    pub(crate) fn push(&mut self, text: Utf8Bytes) {
        if self.queue.is_empty() && self.out.len() < WRITE_BATCH_BYTES {
            put_frame(&mut self.out, text.as_str());
        } else {
            self.queued_bytes += text.len();
            self.queue.push_back(text);
        }
    }

    /// Queues a ping.
    pub(crate) fn ping(&mut self, context: &mut Context<'_>) {
        // An error here comes back at the next read or flush.
        let _ = self.drive(context, |protocol, pipe| protocol.write(pipe, Message::Ping(Bytes::new())));
    }

    /// Lets the protocol read from the stream and write into the buffer.
    fn drive<T>(
        &mut self,
        context: &mut Context<'_>,
        act: impl FnOnce(&mut WebSocketContext, &mut Pipe<'_, '_>) -> tungstenite::Result<T>,
    ) -> tungstenite::Result<T> {
        let Self { stream, protocol, out, refused, .. } = self;
        act(protocol, &mut Pipe { stream, out, refused, context })
    }

    /// The next thing that came in.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, Ending>> {
        loop {
            let unsent = self.out.len();
            let read = self.drive(context, |protocol, pipe| protocol.read(pipe));
            // The answer to a ping or a close. It leaves before the end of the connection is told.
            if self.out.len() > unsent
                && let Poll::Ready(Err(ending)) = self.poll_write(context)
            {
                return Poll::Ready(Err(ending));
            }
            return match read {
                Ok(Message::Text(text)) => Poll::Ready(Ok(Incoming::Text(text))),
                Ok(Message::Binary(bytes)) => {
                    Poll::Ready(Ok(Utf8Bytes::try_from(bytes).map_or(Incoming::Noise, Incoming::Text)))
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Poll::Ready(Ok(Incoming::Alive)),
                // The reply to the peer's close leaves with the next read, which then says that it is over. It is the
                // last that the protocol writes, and must find room.
                Ok(Message::Close(_)) => {
                    self.protocol.set_config(|config| config.max_write_buffer_size = usize::MAX);
                    continue;
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                Err(error) => self.poll_ended(context, &error).map(Err),
            };
        }
    }

    /// Writes what is queued; ready when all of it has left.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        loop {
            ready!(self.poll_write(context))?;
            if std::mem::take(&mut self.refused) {
                // Twice: what found the protocol's own buffer full follows what was in it.
                let flushed =
                    self.drive(context, |protocol, pipe| protocol.flush(pipe).and_then(|()| protocol.flush(pipe)));
                if let Err(error) = flushed {
                    return self.poll_ended(context, &error).map(Err);
                }
            } else if self.queue.is_empty() {
                // Its capacity alone does not tell: what was written is not part of it until it is reclaimed.
                if self.out.try_reclaim(KEPT_BYTES + 1) {
                    self.out = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            while self.out.len() < WRITE_BATCH_BYTES
                && let Some(text) = self.queue.pop_front()
            {
                self.queued_bytes -= text.len();
                put_frame(&mut self.out, text.as_str());
            }
        }
    }

    /// Why no more comes in; ready when the reply to the peer's close, if it is that, has left.
    fn poll_ended(&mut self, context: &mut Context<'_>, error: &Error) -> Poll<Ending> {
        if matches!(error, Error::ConnectionClosed | Error::AlreadyClosed) {
            // Nothing may follow the reply.
            self.forget_queue();
            // A flush comes back here until the reply has left.
            self.refused = true;
            // The second round is for a reply that the protocol still holds.
            for _ in 0..2 {
                if let Err(ending) = ready!(self.poll_write(context)) {
                    return Poll::Ready(ending);
                }
                // It says once more that the connection is closed.
                let _ = self.drive(context, |protocol, pipe| protocol.flush(pipe));
            }
        }
        Poll::Ready(ending(error))
    }

    fn forget_queue(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
    }

    /// Writes the buffer; ready when it is empty.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        while !self.out.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.out)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Ending::Gone)),
                Ok(count) => self.out.advance(count),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says goodbye and waits, at most `grace`, until the peer has taken it. With `keep_queue` what is queued goes out
    /// first.
    pub(crate) async fn close(mut self, code: CloseCode, reason: Utf8Bytes, keep_queue: bool, grace: Duration) {
        let goodbye = async {
            if !keep_queue {
                self.forget_queue();
            }
            // Also without a queue: the protocol takes no close frame while it holds all it may.
            if std::future::poll_fn(|context| self.poll_flush(context)).await.is_err() {
                return;
            }
            let frame = CloseFrame { code, reason };
            std::future::poll_fn(|context| {
                // Queues the frame; only the flush below says whether it has left.
                let _ = self.drive(context, |protocol, pipe| protocol.close(pipe, Some(frame.clone())));
                Poll::Ready(())
            })
            .await;
            if std::future::poll_fn(|context| self.poll_flush(context)).await.is_err() {
                return;
            }
            // Closing a socket with unread bytes resets the connection, and the peer would lose the goodbye.
            let _ = self.stream.shutdown().await;
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

/// Puts a text as one unmasked frame.
fn put_frame(out: &mut BytesMut, text: &str) {
    out.reserve(text.len() + 10);
    out.put_u8(TEXT);
    match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(length @ ..126), _) => out.put_u8(length),
        (_, Ok(length)) => {
            out.put_u8(126);
            out.put_u16(length);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(text.len() as u64);
        }
    }
    out.put_slice(text.as_bytes());
}

/// What the protocol reads from and writes to: the stream, where what would block says so and the task is woken when it no
/// longer would; and the write buffer, which takes so much and no more from a peer that asks and does not read.
struct Pipe<'a, 'b> {
    stream: &'a mut TcpStream,
    out: &'a mut BytesMut,
    refused: &'a mut bool,
    context: &'a mut Context<'b>,
}

impl io::Read for Pipe<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.stream).poll_read(self.context, &mut buffer) {
            Poll::Ready(result) => result.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl io::Write for Pipe<'_, '_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.out.len() >= WRITE_BATCH_BYTES {
            *self.refused = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.out.put_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::WebSocket;

    #[test]
    fn frames_of_every_length_are_read_as_they_were_written() {
        let texts = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000]
            .map(|length| "é".repeat(length / 2) + &"x".repeat(length % 2));
        let mut out = BytesMut::new();
        for text in &texts {
            put_frame(&mut out, text);
        }
        let mut client = WebSocket::from_raw_socket(io::Cursor::new(out.to_vec()), Role::Client, None);
        for text in &texts {
            assert_eq!(client.read().unwrap(), Message::text(text.as_str()));
        }
    }

    async fn pair() -> (Socket, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Socket::new(listener.accept().await.unwrap().0, Bytes::new(), 1 << 20), peer)
    }

    async fn poll<T>(mut work: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        std::future::poll_fn(|context| Poll::Ready(work(context))).await
    }

    /// Reads as a client, which takes frames of any length, until a close; the texts' and the pongs' bytes, and the code.
    fn read_to_close(peer: TcpStream) -> tokio::task::JoinHandle<(usize, usize, CloseCode)> {
        let peer = peer.into_std().unwrap();
        peer.set_nonblocking(false).unwrap();
        tokio::task::spawn_blocking(move || {
            let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
            let mut client = WebSocket::from_raw_socket(peer, Role::Client, Some(config));
            let (mut texts, mut pongs) = (0, 0);
            loop {
                match client.read().unwrap() {
                    Message::Text(text) => texts += text.len(),
                    Message::Pong(pong) => pongs += pong.len(),
                    Message::Close(Some(frame)) => return (texts, pongs, frame.code),
                    other => panic!("{other:?}"),
                }
            }
        })
    }

    #[tokio::test]
    async fn a_peer_that_pings_and_never_reads_fills_no_memory_and_is_told_goodbye() {
        let (mut socket, peer) = pair().await;
        let mut ping = vec![0x89, 0x80 | 125, 0, 0, 0, 0];
        ping.extend([0; 125]);
        let pings = ping.repeat(1000);
        let mut most = 0;
        let mut sent = 0;
        // Far more than the system's own buffers hold.
        while sent < 64 << 20 {
            match peer.try_write(&pings[sent % ping.len()..]) {
                Ok(count) => sent += count,
                Err(_) => tokio::task::yield_now().await,
            }
            while let Poll::Ready(Ok(Incoming::Alive)) = poll(|context| socket.poll_read(context)).await {}
            most = most.max(socket.unsent_bytes());
        }
        let limit = WRITE_BATCH_BYTES + PROTOCOL_BYTES + ping.len();
        assert!((WRITE_BATCH_BYTES..limit).contains(&most), "{most}");
        // What else was kept for it would come now.
        let reading = read_to_close(peer);
        socket.close(CloseCode::Policy, Utf8Bytes::from_static("enough"), false, Duration::from_secs(60)).await;
        let (_, pongs, code) = reading.await.unwrap();
        assert_eq!(code, CloseCode::Policy);
        assert!(pongs < sent / 2, "{pongs} bytes of pongs for {sent} bytes of pings");
    }

    #[tokio::test]
    async fn a_close_that_finds_the_buffer_full_is_answered() {
        let (mut socket, peer) = pair().await;
        let text = "x".repeat(32 << 20);
        socket.push(text.as_str().into());
        assert!(poll(|context| socket.poll_flush(context)).await.is_pending(), "more than the system takes");
        socket.push("never said".repeat(10_000).into());
        // A close frame with code 1000.
        peer.writable().await.unwrap();
        assert_eq!(peer.try_write(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8]).unwrap(), 8);
        while !socket.refused {
            assert!(poll(|context| socket.poll_read(context)).await.is_pending(), "the reply has not left");
            tokio::task::yield_now().await;
        }
        let reading = read_to_close(peer);
        let ended = std::future::poll_fn(|context| match socket.poll_read(context) {
            Poll::Ready(Err(ending)) => Poll::Ready(ending),
            Poll::Ready(Ok(other)) => panic!("{other:?}"),
            Poll::Pending => match socket.poll_flush(context) {
                Poll::Ready(Err(ending)) => Poll::Ready(ending),
                Poll::Ready(Ok(())) => panic!("the reply has not left"),
                Poll::Pending => Poll::Pending,
            },
        })
        .await;
        drop(socket);
        assert_eq!(ended, Ending::Gone);
        assert_eq!(reading.await.unwrap(), (text.len(), 0, CloseCode::Normal), "nothing is said after it");
    }

    #[tokio::test]
    async fn what_came_together_is_read_at_once_also_while_messages_are_in_use() {
        let (mut socket, peer) = pair().await;
        // Eight masked text frames of 60 bytes.
        let batch = [&[TEXT, 0x80 | 60, 0, 0, 0, 0][..], &[b'x'; 60]].concat().repeat(8);
        let (mut in_use, mut torn) = (Vec::new(), 0);
        for _ in 0..100 {
            assert_eq!(peer.try_write(&batch).unwrap(), batch.len());
            for place in 0..8 {
                let Ok(Incoming::Text(text)) = std::future::poll_fn(|context| socket.poll_read(context)).await else {
                    panic!("no text")
                };
                in_use.push(text);
                let left = poll(|context| socket.stream.poll_peek(context, &mut ReadBuf::new(&mut [0]))).await;
                torn += usize::from(place == 0 && left.is_ready());
            }
        }
        let per_buffer = READ_BUFFER_BYTES / batch.len();
        assert!(
            torn <= 100 / per_buffer + 1,
            "{torn} of 100 were read in pieces, not only those at the end of a buffer"
        );
    }

    #[tokio::test]
    async fn an_idle_socket_keeps_no_large_buffer_whatever_it_wrote() {
        let (mut socket, _peer) = pair().await;
        for length in [10, KEPT_BYTES, KEPT_BYTES + 1, 5000, 4 * KEPT_BYTES, 50_000] {
            socket.push("x".repeat(length).into());
            std::future::poll_fn(|context| socket.poll_flush(context)).await.unwrap();
            assert!(!socket.out.try_reclaim(KEPT_BYTES + 1), "after {length} bytes");
        }
    }

    #[tokio::test]
    async fn a_full_buffer_holds_nothing_back_once_it_is_taken() {
        let (mut socket, peer) = pair().await;
        let text = "x".repeat(100_000);
        for _ in 0..100 {
            socket.push(text.as_str().into());
        }
        assert!(poll(|context| socket.poll_flush(context)).await.is_pending(), "more than the system takes");
        // It finds the buffer full.
        let ping = |context: &mut Context<'_>| {
            socket.ping(context);
            Poll::Ready(())
        };
        assert!(poll(ping).await.is_ready());
        let reading = tokio::spawn(async move {
            let peer = peer.into_std().unwrap();
            peer.set_nonblocking(false).unwrap();
            tokio::task::spawn_blocking(move || {
                let mut client = WebSocket::from_raw_socket(peer, Role::Client, None);
                let messages: Vec<Message> = (0..101).map(|_| client.read().unwrap()).collect();
                let texts = messages.iter().filter(|message| **message == Message::text(text.as_str())).count();
                (texts, messages.contains(&Message::Ping(Bytes::new())))
            })
            .await
            .unwrap()
        });
        std::future::poll_fn(|context| socket.poll_flush(context)).await.unwrap();
        assert_eq!(reading.await.unwrap(), (100, true));
        assert_eq!((socket.unsent_bytes(), socket.out.capacity()), (0, 0), "idle, it keeps no buffer");
    }
}
