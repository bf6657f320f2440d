//! The wire to a program: whole lines in, whole lines out, each within its bounds.
//!
//! A line that breaks a bound ends the run: after half a message nothing on the wire can be trusted to be where it seems.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::exit::{Cause, WireFault};
use crate::run::Control;

/// Bytes asked for at once.
const READ_BYTES: usize = 16 * 1024;

/// A line could not pass.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The program ended or closed its input.
    #[error("the program does not read any more")]
    Closed,
    /// A message with a line break in it would be two; nothing was sent.
    #[error("a message to a program must be one line")]
    NotOneLine,
    /// The program left the message unread; the run was ended.
    #[error("the program did not read a message within {limit:?} and was ended")]
    Unread {
        /// [`crate::RunLimits::input_deadline`].
        limit: Duration,
    },
    /// An earlier message was given up halfway, so no other can follow it; the run was ended.
    #[error("an earlier message to the program was given up halfway")]
    Broken,
    /// The program wrote a line that is too long; the run was ended.
    #[error("the program wrote a line of more than {limit_bytes} bytes and was ended")]
    LineTooLong {
        /// [`crate::RunLimits::line_bytes`].
        limit_bytes: usize,
    },
    /// The pipe itself failed.
    #[error("the wire to the program failed: {0}")]
    Io(#[from] std::io::Error),
}

impl WireError {
    /// What can be done about it, one sentence per line.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::LineTooLong { .. } => vec!["let the agent send large content in pieces".into()],
            Self::Unread { .. } => vec!["an agent has to read its input also while it works".into()],
            _ => Vec::new(),
        }
    }
}

/// Writes to a program's standard input, which ends when this is dropped.
pub struct Input {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
    control: Arc<Control>,
    deadline: Duration,
    is_mid_line: bool,
}

impl Input {
    pub(crate) fn new(stream: Box<dyn AsyncWrite + Send + Unpin>, control: Arc<Control>, deadline: Duration) -> Self {
        Self { stream, control, deadline, is_mid_line: false }
    }

    /// Sends one message, a line without its end, and waits until the pipe to the program has taken all of it.
    ///
    /// Not cancel-safe: dropping the future may leave half a message behind, and the next one then ends the run.
    ///
    /// # Errors
    /// [`WireError`]. After [`WireError::Unread`] and [`WireError::Broken`] the run is over.
    pub async fn send(&mut self, line: &[u8]) -> Result<(), WireError> {
        if line.contains(&b'\n') {
            return Err(WireError::NotOneLine);
        }
        if std::mem::replace(&mut self.is_mid_line, true) {
            self.control.end(Cause::Killed);
            return Err(WireError::Broken);
        }
        let stream = &mut self.stream;
        let whole = async {
            stream.write_all(line).await?;
            stream.write_all(b"\n").await?;
            stream.flush().await
        };
        match tokio::time::timeout(self.deadline, whole).await {
            Ok(Ok(())) => {
                self.is_mid_line = false;
                self.control.touch();
                Ok(())
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                // Nobody will read what is missing of the line.
                self.is_mid_line = false;
                Err(WireError::Closed)
            }
            Ok(Err(error)) => Err(WireError::Io(error)),
            Err(_) => {
                self.control.end(Cause::BrokeWire(WireFault::InputUnread));
                Err(WireError::Unread { limit: self.deadline })
            }
        }
    }
}

/// Reads a program's standard output line by line.
pub struct Output {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    control: Arc<Control>,
    line_bytes: usize,
    buffer: BytesMut,
    /// Bytes of the buffer in which there is no end of a line.
    searched_bytes: usize,
    is_over: bool,
}

impl Output {
    pub(crate) fn new(stream: Box<dyn AsyncRead + Send + Unpin>, control: Arc<Control>, line_bytes: usize) -> Self {
        Self { stream, control, line_bytes, buffer: BytesMut::new(), searched_bytes: 0, is_over: false }
    }

    /// The next line without its end, which is `\n` or `\r\n`; none after the last one. What a program leaves without an
    /// end when it closes its output is a line too. Cancel-safe.
    ///
    /// A program whose output is not read is held up once the pipe is full, and nothing of it is lost.
    ///
    /// # Errors
    /// [`WireError::LineTooLong`], which ends the run, and [`WireError::Io`].
    pub async fn next_line(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        loop {
            let unsearched = self.buffer.get(self.searched_bytes..).unwrap_or_default();
            if let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') {
                let line = self.take(self.searched_bytes + at)?;
                self.buffer.advance(1);
                return Ok(Some(line));
            }
            self.searched_bytes = self.buffer.len();
            // One byte more may be the `\r` of the end.
            if self.buffer.len() > self.line_bytes.saturating_add(1) {
                return Err(self.too_long());
            }
            if self.is_over {
                let rest = self.buffer.len();
                return if rest == 0 { Ok(None) } else { self.take(rest).map(Some) };
            }
            self.buffer.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                self.is_over = true;
            }
            self.control.touch();
        }
    }

    /// Takes the first `length` bytes as a line.
    fn take(&mut self, length: usize) -> Result<Vec<u8>, WireError> {
        let line = self.buffer.split_to(length);
        self.searched_bytes = 0;
        let text = line.strip_suffix(b"\r").unwrap_or(&line);
        if text.len() > self.line_bytes { Err(self.too_long()) } else { Ok(text.to_vec()) }
    }

    fn too_long(&mut self) -> WireError {
        self.control.end(Cause::BrokeWire(WireFault::LineTooLong));
        self.buffer.clear();
        self.searched_bytes = 0;
        // Nothing is read any more, also not what is in the pipe.
        self.stream = Box::new(tokio::io::empty());
        self.is_over = true;
        WireError::LineTooLong { limit_bytes: self.line_bytes }
    }
}
