//! HTTP/1.1 on the socket: reading one request, writing one reply in pieces.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::record::Recorded;
use crate::reply::{End, Reply};

/// The largest head of a request that is read, in bytes.
const MAX_HEAD_BYTES: usize = 256 * 1024;
/// The largest body of a request that is read, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads until `bytes` holds more than before.
async fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = vec![0_u8; 16 * 1024];
    let count = stream.read(&mut buffer).await?;
    if count == 0 {
        return Err(broken("the client closed the connection within a request"));
    }
    bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
    Ok(())
}

fn find(bytes: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(wanted.len()).position(|window| window == wanted).map(|at| at + from)
}

/// Reads a request with its body.
pub(crate) async fn read_request(stream: &mut TcpStream) -> io::Result<Recorded> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n", 0) {
            break end;
        }
        if bytes.len() > MAX_HEAD_BYTES {
            return Err(broken("the head is too long"));
        }
        read_more(stream, &mut bytes).await?;
    };
    let rest = bytes.split_off(head_end + 4);
    let head = String::from_utf8(bytes).map_err(|_| broken("the head is not text"))?;
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().ok_or_else(|| broken("there is no target"))?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Recorded {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Bytes::new(),
        arrived: Instant::now(),
        answered: false,
        disconnected: false,
    };
    let body = if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        read_chunks(stream, rest).await?
    } else {
        let length = request.header("content-length").map_or(Ok(0), str::parse);
        let length: usize = length.map_err(|_| broken("content-length is no number"))?;
        read_length(stream, rest, length).await?
    };
    request.body = body.into();
    request.arrived = Instant::now();
    Ok(request)
}

async fn read_length(stream: &mut TcpStream, mut bytes: Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    if length > MAX_BODY_BYTES {
        return Err(broken("the body is too long"));
    }
    while bytes.len() < length {
        read_more(stream, &mut bytes).await?;
    }
    bytes.truncate(length);
    Ok(bytes)
}

async fn read_chunks(stream: &mut TcpStream, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let line_end = loop {
            if let Some(end) = find(&bytes, b"\r\n", at) {
                break end;
            }
            read_more(stream, &mut bytes).await?;
        };
        let size = bytes.get(at..line_end).and_then(|line| std::str::from_utf8(line).ok());
        let size =
            size.and_then(|line| usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).ok());
        let size = size.ok_or_else(|| broken("a chunk has no size"))?;
        if size == 0 {
            return Ok(body);
        }
        if body.len().saturating_add(size) > MAX_BODY_BYTES {
            return Err(broken("the body is too long"));
        }
        let start = line_end + 2;
        while bytes.len() < start + size + 2 {
            read_more(stream, &mut bytes).await?;
        }
        body.extend_from_slice(bytes.get(start..start + size).unwrap_or_default());
        at = start + size + 2;
    }
}

/// How writing a reply went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// To its end.
    Whole,
    /// The client closed first.
    Disconnected,
}

/// Waits until the client has closed its side; what it still sends is read and dropped.
async fn gone(stream: &mut TcpStream) {
    let mut buffer = [0_u8; 1024];
    while matches!(stream.read(&mut buffer).await, Ok(count) if count > 0) {}
}

/// Waits, and sees whether the client goes meanwhile.
async fn pause(stream: &mut TcpStream, delay: Duration) -> Written {
    if delay.is_zero() {
        return Written::Whole;
    }
    tokio::select! {
        () = tokio::time::sleep(delay) => Written::Whole,
        () = gone(stream) => Written::Disconnected,
    }
}

/// Writes everything, while looking whether the client goes: a full socket would hide that for good.
async fn write(stream: &mut TcpStream, bytes: &[u8]) -> Written {
    let (mut reading, mut writing) = stream.split();
    let mut buffer = [0_u8; 64];
    let gone = async { while matches!(reading.read(&mut buffer).await, Ok(count) if count > 0) {} };
    tokio::select! {
        biased;
        result = writing.write_all(bytes) => {
            if result.is_ok() { Written::Whole } else { Written::Disconnected }
        }
        () = gone => Written::Disconnected,
    }
}

fn head(reply: &Reply, status: u16) -> String {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\nconnection: close\r\ntransfer-encoding: chunked\r\n");
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head
}

/// Writes a reply and ends the connection as it says.
pub(crate) async fn write_reply(mut stream: TcpStream, reply: &Reply) -> Written {
    // Pieces are to arrive as they are; without this they would wait for each other.
    let _ = stream.set_nodelay(true);
    let written = write_pieces(&mut stream, reply).await;
    if written == Written::Disconnected {
        return written;
    }
    match reply.end {
        End::Whole => {
            if reply.status.is_some() && write(&mut stream, b"0\r\n\r\n").await == Written::Disconnected {
                return Written::Disconnected;
            }
            let _ = stream.shutdown().await;
        }
        End::Close => drop(stream.shutdown().await),
        End::Reset => drop(stream.set_zero_linger()),
        End::Hang => {
            gone(&mut stream).await;
            return Written::Disconnected;
        }
    }
    Written::Whole
}

async fn write_pieces(stream: &mut TcpStream, reply: &Reply) -> Written {
    if pause(stream, reply.head_delay).await == Written::Disconnected {
        return Written::Disconnected;
    }
    let Some(status) = reply.status else { return Written::Whole };
    if write(stream, head(reply, status).as_bytes()).await == Written::Disconnected {
        return Written::Disconnected;
    }
    for chunk in &reply.chunks {
        if pause(stream, chunk.delay).await == Written::Disconnected {
            return Written::Disconnected;
        }
        // An empty chunk would end the body.
        if chunk.bytes.is_empty() {
            continue;
        }
        let mut framed = format!("{:x}\r\n", chunk.bytes.len()).into_bytes();
        framed.extend_from_slice(&chunk.bytes);
        framed.extend_from_slice(b"\r\n");
        if write(stream, &framed).await == Written::Disconnected {
            return Written::Disconnected;
        }
    }
    Written::Whole
}
