//! A guest's stdout and stderr, line by line into its log ring.
//!
//! The pipes are handed to WASI when the store is made and outlive single calls of a resident instance, so they share a
//! small cell with the store's state that says which call is running and how many lines it has left.
//!
//! A line that is not ended is shown as well when its call waits or computes on without adding to it: a prompt or a
//! "fetching ..." before a call that hangs is the line one wants to see.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use leanclaw_wasm::Limits;
use tokio::io::AsyncWrite;
use tokio::time::Sleep;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::logs::{Level, LogRing};
use crate::state::call_id;

/// Bytes a guest may write at once; it waits for nobody, so this only bounds one host call.
const WRITE_BYTES: usize = 64 * 1024;

/// How long a line that is not ended may stay as it is before it is shown. Longer than a guest takes from one piece of a
/// line to the next, also when it is interrupted in between.
const OPEN_LINE_PAUSE: Duration = Duration::from_millis(100);

/// Which of the two outputs.
#[derive(Debug, Clone, Copy)]
enum Output {
    Stdout,
    Stderr,
}

impl Output {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The cell both pipes of one instance share.
struct Cell {
    logs: Arc<LogRing>,
    call: AtomicU64,
    lines_left: AtomicU32,
    lines_per_call: u32,
    line_bytes: usize,
    open: Mutex<OpenLines>,
}

/// What was written since the last end of a line.
#[derive(Default)]
struct OpenLines {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Rises with every write.
    writes: u64,
}

impl OpenLines {
    fn of(&mut self, output: Output) -> &mut Vec<u8> {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }
}

impl Cell {
    fn open(&self) -> MutexGuard<'_, OpenLines> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one line, as long as the call may write.
    fn line(&self, output: Output, line: &[u8]) {
        let left = self.lines_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let call = call_id(self.call.load(Ordering::Relaxed));
        match left {
            Ok(1) => {
                self.logs.write(Level::Warn, "host", &call, "log limit of this call reached; later output is dropped")
            }
            Ok(_) => {
                let text = String::from_utf8_lossy(line);
                self.logs.write(Level::Info, output.name(), &call, text.trim_end_matches('\r'));
            }
            Err(_) => {}
        }
    }

    /// Ends the lines that are open.
    fn flush(&self) {
        let mut open = self.open();
        for output in [Output::Stdout, Output::Stderr] {
            let line = std::mem::take(open.of(output));
            if !line.is_empty() {
                self.line(output, &line);
            }
        }
    }

    /// The number of the last write, if it left a line open.
    fn last_open_write(&self) -> Option<u64> {
        let open = self.open();
        (!open.stdout.is_empty() || !open.stderr.is_empty()).then_some(open.writes)
    }
}

/// Both pipes of one instance.
#[derive(Clone)]
pub(crate) struct LogPipe(Arc<Cell>);

impl LogPipe {
    pub(crate) fn new(logs: Arc<LogRing>, call: u64, limits: &Limits) -> Self {
        Self(Arc::new(Cell {
            logs,
            call: AtomicU64::new(call),
            lines_left: AtomicU32::new(limits.log_lines_per_call),
            lines_per_call: limits.log_lines_per_call,
            line_bytes: limits.log_line_bytes,
            open: Mutex::default(),
        }))
    }

    pub(crate) fn begin(&self, call: u64) {
        self.0.call.store(call, Ordering::Relaxed);
        self.0.lines_left.store(self.0.lines_per_call, Ordering::Relaxed);
    }

    pub(crate) fn stdout(&self) -> Pipe {
        Pipe { cell: Arc::clone(&self.0), output: Output::Stdout }
    }

    pub(crate) fn stderr(&self) -> Pipe {
        Pipe { cell: Arc::clone(&self.0), output: Output::Stderr }
    }

    /// Runs a guest call, shows the lines it leaves open while it goes on, and ends them when it is over.
    pub(crate) async fn attend<F: Future>(&self, mut call: Pin<&mut F>) -> F::Output {
        let mut watch = OpenLineWatch::default();
        let result = std::future::poll_fn(|context| {
            let polled = call.as_mut().poll(context);
            if polled.is_pending() {
                watch.look(&self.0, context);
            }
            polled
        })
        .await;
        self.0.flush();
        result
    }
}

/// Watches for lines that stay open. Nothing is armed as long as there is none.
#[derive(Default)]
struct OpenLineWatch {
    since: Option<(u64, Pin<Box<Sleep>>)>,
}

impl OpenLineWatch {
    fn look(&mut self, cell: &Cell, context: &mut Context<'_>) {
        let Some(write) = cell.last_open_write() else {
            self.since = None;
            return;
        };
        if self.since.as_ref().is_none_or(|(seen, _)| *seen != write) {
            self.since = Some((write, Box::pin(tokio::time::sleep(OPEN_LINE_PAUSE))));
        }
        // Armed for this task, so that a call that only waits is looked at again.
        if let Some((_, pause)) = &mut self.since
            && pause.as_mut().poll(context).is_ready()
        {
            self.since = None;
            cell.flush();
        }
    }
}

/// One of the two.
#[derive(Clone)]
pub(crate) struct Pipe {
    cell: Arc<Cell>,
    output: Output,
}

impl Pipe {
    /// Takes what was written, and shows the lines that it ends.
    pub(crate) fn take(&self, bytes: &[u8]) {
        let mut open = self.cell.open();
        open.writes += 1;
        let line = open.of(self.output);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = self.cell.line_bytes.saturating_sub(line.len());
            line.extend(text.iter().take(room));
            if text.len() < piece.len() {
                self.cell.line(self.output, &std::mem::take(line));
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
