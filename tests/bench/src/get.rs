//! `GET`s on one HTTP connection, read just far enough to know where an answer ends.

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::wire::tcp;

/// No answer here is longer.
const MOST_BYTES: usize = 1 << 20;

/// One HTTP connection.
pub struct Getter {
    stream: TcpStream,
    request: Vec<u8>,
    read: Vec<u8>,
}

impl Getter {
    /// Connects from the address of a number.
    ///
    /// # Errors
    /// Nothing listens there.
    pub async fn open(port: u16, path: &str, number: usize) -> Result<Self> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n").into_bytes();
        Ok(Self { stream: tcp(port, number).await?, request, read: Vec::with_capacity(4096) })
    }

    /// One request; the status of its answer.
    ///
    /// # Errors
    /// The connection broke, or the answer does not say how long it is.
    pub async fn get(&mut self) -> Result<u16> {
        self.stream.write_all(&self.request).await?;
        self.read.clear();
        loop {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                bail!("the server closed the connection");
            }
            if let Some((status, bytes)) = whole(&self.read)? {
                if self.read.len() > bytes {
                    bail!("more came than was asked for");
                }
                return Ok(status);
            }
        }
    }
}

/// Status and length of the answer that `read` begins with; none while it is not all there.
fn whole(read: &[u8]) -> Result<Option<(u16, usize)>> {
    if read.len() > MOST_BYTES {
        bail!("the answer does not end");
    }
    let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(read.get(..end).unwrap_or_default()).context("an answer that is no text")?;
    let status = head.get(9..12).and_then(|status| status.parse().ok()).context("an answer without a status")?;
    let length = head.lines().filter_map(|line| line.split_once(": "));
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value).next();
    let length: usize = length.context("an answer without a length")?.parse()?;
    let bytes = end + 4 + length;
    Ok((read.len() >= bytes).then_some((status, bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_over_when_its_length_is_there() {
        let text = b"HTTP/1.1 200 OK\r\na: b\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(whole(text).unwrap(), Some((200, text.len())));
        assert_eq!(whole(&text[..text.len() - 1]).unwrap(), None);
        assert_eq!(whole(&text[..20]).unwrap(), None);
        assert!(whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "no length");
        assert!(whole(&vec![b'a'; MOST_BYTES + 1]).is_err());
    }
}
