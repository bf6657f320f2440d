//! Lines to and from the host.
//!
//! A link carries lines and knows nothing of what they say. A line that is longer than [`MAX_LINE_BYTES`] is skipped, however
//! long it is, without being held.

use std::io::{self, BufRead, Write as _};

/// The longest line that is taken, in bytes: a prompt with a few large pictures fits.
pub const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

/// How long to wait for a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until one is there.
    Forever,
    /// Not at all. A link that cannot look without waiting answers [`Received::Nothing`].
    Not,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A line without its end.
    Line(Vec<u8>),
    /// A line that was too long and is gone.
    TooLong,
    /// No line yet; only with [`Wait::Not`].
    Nothing,
    /// There will be no more lines.
    Closed,
}

/// A way to the host and back.
pub trait Link {
    /// Sends a line, given without its end.
    ///
    /// # Errors
    /// When the host is gone.
    fn send(&mut self, line: &str) -> io::Result<()>;

    /// The next line.
    fn receive(&mut self, wait: Wait) -> Received;
}

/// Reads the next line, skipping what is over `max_bytes`.
fn read_line(reader: &mut impl BufRead, max_bytes: usize) -> Received {
    let mut line = Vec::new();
    let mut is_too_long = false;
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Received::Closed,
        };
        if buffer.is_empty() {
            // A line that was cut off by the end says nothing that could be relied on.
            return Received::Closed;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        is_too_long |= line.len().saturating_add(part.len()) > max_bytes;
        if is_too_long {
            line = Vec::new();
        } else {
            line.extend_from_slice(part);
        }
        let used = part.len().saturating_add(usize::from(end.is_some()));
        reader.consume(used);
        match end {
            Some(_) if is_too_long => return Received::TooLong,
            // Blank lines are nobody's message.
            Some(_) if line.trim_ascii().is_empty() => line.clear(),
            Some(_) => return Received::Line(line),
            None => {}
        }
    }
}

fn write_line(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(line.as_bytes())?;
    output.write_all(b"\n")?;
    output.flush()
}

/// Standard input and output. A thread reads, so that what the host says is there while a tool runs.
#[cfg(not(target_family = "wasm"))]
#[derive(Debug)]
pub struct Stdio {
    lines: std::sync::mpsc::Receiver<Received>,
}

#[cfg(not(target_family = "wasm"))]
impl Stdio {
    /// The most lines that wait to be looked at; the host waits from there on.
    const WAITING_LINES: usize = 64;

    /// Begins to read.
    #[must_use]
    pub fn open() -> Self {
        let (sender, lines) = std::sync::mpsc::sync_channel(Self::WAITING_LINES);
        std::thread::spawn(move || {
            let mut input = io::stdin().lock();
            loop {
                let received = read_line(&mut input, MAX_LINE_BYTES);
                let is_end = received == Received::Closed;
                if sender.send(received).is_err() || is_end {
                    return;
                }
            }
        });
        Self { lines }
    }
}

#[cfg(not(target_family = "wasm"))]
impl Link for Stdio {
    fn send(&mut self, line: &str) -> io::Result<()> {
        write_line(line)
    }

    fn receive(&mut self, wait: Wait) -> Received {
        use std::sync::mpsc::TryRecvError;
        match wait {
            Wait::Forever => self.lines.recv().unwrap_or(Received::Closed),
            Wait::Not => match self.lines.try_recv() {
                Ok(received) => received,
                Err(TryRecvError::Empty) => Received::Nothing,
                Err(TryRecvError::Disconnected) => Received::Closed,
            },
        }
    }
}

/// Standard input and output of a component, which has no threads: what the host says during a tool is read after it.
#[cfg(target_family = "wasm")]
#[derive(Debug)]
pub struct Stdio {
    input: io::StdinLock<'static>,
}

#[cfg(target_family = "wasm")]
impl Stdio {
    /// Takes the input.
    #[must_use]
    pub fn open() -> Self {
        Self { input: io::stdin().lock() }
    }
}

#[cfg(target_family = "wasm")]
impl Link for Stdio {
    fn send(&mut self, line: &str) -> io::Result<()> {
        write_line(line)
    }

    fn receive(&mut self, wait: Wait) -> Received {
        match wait {
            Wait::Forever => read_line(&mut self.input, MAX_LINE_BYTES),
            Wait::Not => Received::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_are_bounded_and_the_next_one_is_whole() {
        let input = format!("one\n\n \r\n{}\ntwo\nunfinished", "x".repeat(1000));
        for capacity in [1, 7, 4096] {
            let mut reader = BufReader::with_capacity(capacity, input.as_bytes());
            let mut next = || read_line(&mut reader, 10);
            assert_eq!(next(), Received::Line(b"one".to_vec()));
            assert_eq!(next(), Received::TooLong);
            assert_eq!(next(), Received::Line(b"two".to_vec()));
            assert_eq!(next(), Received::Closed);
            assert_eq!(next(), Received::Closed);
        }
    }
}
