//! What a server says, piece by piece, and how it ends.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

/// A piece of a body.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// How long to wait before it is written.
    pub delay: Duration,
    /// What is written, at once and as one chunk of the transfer encoding.
    pub bytes: Bytes,
}

/// How a reply ends once everything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The body ends as HTTP wants it to, so that only the content can tell that something is missing.
    Whole,
    /// The connection is closed in the middle of the body.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing more comes and the connection stays, until the client closes it.
    Hang,
}

/// A scripted reply.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status; none leaves out the whole head, so that the end comes before it.
    pub status: Option<u16>,
    /// Headers besides those of the framing.
    pub headers: Vec<(String, String)>,
    /// How long to wait before the head.
    pub head_delay: Duration,
    /// The body.
    pub chunks: Vec<Chunk>,
    /// The end.
    pub end: End,
}

impl Reply {
    /// A status without headers and body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            headers: Vec::new(),
            head_delay: Duration::ZERO,
            chunks: Vec::new(),
            end: End::Whole,
        }
    }

    /// An event stream with this body, in one piece.
    #[must_use]
    pub fn sse(body: impl Into<Bytes>) -> Self {
        Self::status(200).header("content-type", "text/event-stream; charset=utf-8").piece(body)
    }

    /// JSON.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::status(status).header("content-type", "application/json").piece(body.to_string())
    }

    /// A web page, as proxies answer.
    #[must_use]
    pub fn html(status: u16, body: &'static str) -> Self {
        Self::status(status).header("content-type", "text/html").piece(body)
    }

    /// A connection that is reset before anything was said.
    #[must_use]
    pub fn reset() -> Self {
        Self { status: None, ..Self::status(0) }.end(End::Reset)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a piece of the body.
    #[must_use]
    pub fn piece(self, bytes: impl Into<Bytes>) -> Self {
        self.after(Duration::ZERO, bytes)
    }

    /// Adds a piece of the body that comes after a pause.
    #[must_use]
    pub fn after(mut self, delay: Duration, bytes: impl Into<Bytes>) -> Self {
        self.chunks.push(Chunk { delay, bytes: bytes.into() });
        self
    }

    /// Cuts the body so far into pieces of `size_bytes`.
    #[must_use]
    pub fn cut_every(mut self, size_bytes: usize) -> Self {
        let whole: Vec<u8> = self.chunks.iter().flat_map(|chunk| chunk.bytes.iter().copied()).collect();
        let pieces = whole.chunks(size_bytes.max(1));
        self.chunks = pieces.map(|piece| Chunk { delay: Duration::ZERO, bytes: piece.to_vec().into() }).collect();
        self
    }

    /// Sets the end.
    #[must_use]
    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// Waits before the head.
    #[must_use]
    pub fn late(mut self, head_delay: Duration) -> Self {
        self.head_delay = head_delay;
        self
    }
}
