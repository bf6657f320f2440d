//! A guest's stdout and stderr, line by line into its log ring.
//!
//! The pipes are handed to WASI when the store is made and outlive single calls of a resident instance, so they share a
//! small cell with the store's state that says which call is running and how many lines it has left.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use leanclaw_wasm::Limits;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::logs::{Level, LogRing};
use crate::state::call_id;

/// Bytes a guest may write at once; it waits for nobody, so this only bounds one host call.
const WRITE_BYTES: usize = 64 * 1024;

/// The cell both pipes of one instance share.
struct Cell {
    logs: Arc<LogRing>,
    call: AtomicU64,
    lines_left: AtomicU32,
    lines_per_call: u32,
    line_bytes: usize,
}

impl Cell {
    /// Takes one line, as long as the call may write.
    fn line(&self, source: &str, line: &[u8]) {
        let left = self.lines_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let call = call_id(self.call.load(Ordering::Relaxed));
        match left {
            Ok(1) => {
                self.logs.write(Level::Warn, "host", &call, "log limit of this call reached; later output is dropped")
            }
            Ok(_) => {
                let text = String::from_utf8_lossy(line);
                self.logs.write(Level::Info, source, &call, text.trim_end_matches('\r'));
            }
            Err(_) => {}
        }
    }
}

/// Both pipes of one instance.
#[derive(Clone)]
pub(crate) struct LogPipe {
    cell: Arc<Cell>,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl LogPipe {
    pub(crate) fn new(logs: Arc<LogRing>, call: u64, limits: &Limits) -> Self {
        let cell = Cell {
            logs,
            call: AtomicU64::new(call),
            lines_left: AtomicU32::new(limits.log_lines_per_call),
            lines_per_call: limits.log_lines_per_call,
            line_bytes: limits.log_line_bytes,
        };
        Self { cell: Arc::new(cell), stdout: Arc::default(), stderr: Arc::default() }
    }

    pub(crate) fn begin(&self, call: u64) {
        self.cell.call.store(call, Ordering::Relaxed);
        self.cell.lines_left.store(self.cell.lines_per_call, Ordering::Relaxed);
    }

    pub(crate) fn stdout(&self) -> Pipe {
        Pipe { cell: Arc::clone(&self.cell), pending: Arc::clone(&self.stdout), source: "stdout" }
    }

    pub(crate) fn stderr(&self) -> Pipe {
        Pipe { cell: Arc::clone(&self.cell), pending: Arc::clone(&self.stderr), source: "stderr" }
    }

    pub(crate) fn flush(&self) {
        for (pending, source) in [(&self.stdout, "stdout"), (&self.stderr, "stderr")] {
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            if !pending.is_empty() {
                let line = std::mem::take(&mut *pending);
                self.cell.line(source, &line);
            }
        }
    }
}

/// One of the two.
#[derive(Clone)]
pub(crate) struct Pipe {
    cell: Arc<Cell>,
    pending: Arc<Mutex<Vec<u8>>>,
    source: &'static str,
}

impl Pipe {
    fn take(&self, bytes: &[u8]) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = self.cell.line_bytes.saturating_sub(pending.len());
            pending.extend(text.iter().take(room));
            if text.len() < piece.len() {
                let line = std::mem::take(&mut *pending);
                self.cell.line(self.source, &line);
            }
        }
    }
}

impl IsTerminal for Pipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Pipe {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait::async_trait]
impl Pollable for Pipe {
    async fn ready(&mut self) {}
}

impl OutputStream for Pipe {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BYTES {
            return Err(StreamError::trap("a write is larger than what check-write allowed"));
        }
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}
