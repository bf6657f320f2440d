//! A run from its start to its end, whatever it runs in: the bounds on time, and who may end it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::exit::{Cause, Exit, Report, TimeLimit};
use crate::log::ProgramLog;
use crate::spec::{RunLimits, RunSpec};
use crate::wire::{Input, Output};

/// What no run lasts longer than, whatever its limits say.
const MAXIMUM_RUN: Duration = leanclaw_wasm::Limits::MAXIMUM_RUN;

/// What a backend brings: the program itself.
#[async_trait::async_trait]
pub trait Body: Send + 'static {
    /// Runs until the program ends by itself. The future is dropped when it is to end earlier.
    async fn run(&mut self) -> Cause;

    /// Takes away what is left of the program, so that nothing of it goes on. Called once, whatever ended it, before
    /// anybody learns that it ended.
    async fn end(&mut self);
}

/// The streams of a program, as its host sees them.
pub struct Wire {
    /// Its standard input. What is written here has to wait while the program does not read.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output. A program has to wait while nobody reads here, so that no more than a pipe is held.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
}

/// A program that runs. Dropping it, or its [`Process`] alone, ends the program.
///
/// Its parts may be taken apart and used by different tasks.
pub struct Run {
    /// To the program.
    pub input: Input,
    /// From the program.
    pub output: Output,
    /// The program itself.
    pub process: Process,
}

impl Run {
    /// Puts the bounds of `spec` around `body` and starts it. Has to be called inside a tokio runtime.
    ///
    /// `log` is what [`Run::log`] made for the same spec.
    #[must_use]
    pub fn spawn(kind: &'static str, spec: &RunSpec, log: ProgramLog, wire: Wire, body: Box<dyn Body>) -> Self {
        let limits = spec.limits;
        let control = Arc::new(Control::new());
        let span = tracing::info_span!("run", run = %spec.run_id, group = %spec.group, sandbox = kind);
        let ending = supervise(body, Arc::clone(&control), limits, log).instrument(span);
        Self {
            input: Input::new(wire.stdin, Arc::clone(&control), limits.input_deadline),
            output: Output::new(wire.stdout, Arc::clone(&control), limits.line_bytes),
            process: Process { task: tokio::spawn(ending), control, started: Instant::now(), exit: None },
        }
    }

    /// Where the backend has to put the program's standard error.
    #[must_use]
    pub fn log(spec: &RunSpec) -> ProgramLog {
        ProgramLog::new(Arc::clone(&spec.log), spec.limits.log_lines, spec.limits.log_line_bytes)
    }
}

/// A program that runs, without its wire. Dropping it ends the program.
pub struct Process {
    task: JoinHandle<Exit>,
    control: Arc<Control>,
    started: Instant,
    exit: Option<Exit>,
}

impl Process {
    /// Waits for the end, after which nothing of the program goes on. Cancel-safe; later calls give the same answer.
    pub async fn wait(&mut self) -> Exit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        let exit = match (&mut self.task).await {
            Ok(exit) => exit,
            Err(error) => {
                let message = format!("the task of the run ended before the run: {error}");
                let cause = Cause::Failed(Report { message, backtrace: String::new() });
                Exit { cause, duration: self.started.elapsed(), log_lines: 0, log_lines_dropped: 0 }
            }
        };
        self.exit.insert(exit).clone()
    }

    /// Ends the program at once, whatever it does, and waits until it has ended. A program that has ended before keeps
    /// its own cause.
    pub async fn kill(&mut self) -> Exit {
        self.control.end(Cause::Killed);
        self.wait().await
    }

    /// What ends the program from elsewhere, without waiting.
    pub fn killer(&self) -> impl Fn() + Send + Sync + use<> {
        let control = Arc::clone(&self.control);
        move || control.end(Cause::Killed)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.control.end(Cause::Killed);
    }
}

/// What the parts of a run share.
pub(crate) struct Control {
    stop: CancellationToken,
    cause: OnceLock<Cause>,
    touched: Mutex<Instant>,
}

impl Control {
    fn new() -> Self {
        Self { stop: CancellationToken::new(), cause: OnceLock::new(), touched: Mutex::new(Instant::now()) }
    }

    /// Ends the run; the first cause counts.
    pub(crate) fn end(&self, cause: Cause) {
        let _ = self.cause.set(cause);
        self.stop.cancel();
    }

    /// Notes that something passed over the wire.
    pub(crate) fn touch(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    async fn ended(&self) -> Cause {
        self.stop.cancelled().await;
        self.cause.get().cloned().unwrap_or(Cause::Killed)
    }

    /// Waits until nothing has passed for `limit`.
    async fn silent_for(&self, limit: Duration) {
        loop {
            let touched = *self.touched.lock().unwrap_or_else(PoisonError::into_inner);
            if touched.elapsed() >= limit {
                return;
            }
            tokio::time::sleep_until(touched + limit).await;
        }
    }
}

/// A fault of the backend must not keep what is left of a program from being cleared away.
async fn unwound(run: impl Future<Output = Cause>) -> Cause {
    let mut run = std::pin::pin!(run);
    let polled = std::future::poll_fn(|context| {
        let poll = std::panic::AssertUnwindSafe(|| run.as_mut().poll(context));
        match std::panic::catch_unwind(poll) {
            Ok(poll) => poll,
            Err(_) => Poll::Ready(Cause::Failed(Report {
                message: "the sandbox panicked; the log says where".into(),
                backtrace: String::new(),
            })),
        }
    });
    polled.await
}

async fn supervise(mut body: Box<dyn Body>, control: Arc<Control>, limits: RunLimits, log: ProgramLog) -> Exit {
    let started = Instant::now();
    let cause = tokio::select! {
        // Whoever ends a run is heard before the run is.
        biased;
        cause = control.ended() => cause,
        () = tokio::time::sleep(limits.wall_clock.min(MAXIMUM_RUN)) => Cause::TimedOut(TimeLimit::WallClock),
        () = control.silent_for(limits.idle.min(MAXIMUM_RUN)) => Cause::TimedOut(TimeLimit::Idle),
        cause = unwound(body.run()) => cause,
    };
    body.end().await;
    drop(body);
    log.flush();
    let (log_lines, log_lines_dropped) = log.counts();
    let exit = Exit { cause, duration: started.elapsed(), log_lines, log_lines_dropped };
    let duration_ms = u64::try_from(exit.duration.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(outcome = exit.cause.word(), duration_ms, log_lines, log_lines_dropped, "run ended: {}", exit.cause);
    exit
}
