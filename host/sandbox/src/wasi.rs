//! The embedded sandbox: an agent that is a `wasi:cli/command` component, in the program's own process.
//!
//! A run is a fresh store. It has its folders, its wire, the clocks and randomness, and nothing else: sockets are linked
//! so that components load, and hold nothing; `wasi:http` is not linked at all.
//!
//! **How often a run may call the host is not counted.** A run may last for hours, so no number would be right, and none
//! is needed: what a single call can make the host keep or do is bounded, and a guest makes one call after the other, on
//! its own task, giving way to others with every tick. Each copy is within the hostcall budget, each request for
//! randomness within its size, open handles (and with them file descriptors, streams and timers) within
//! [`Limits::handles`], listings within their entries (`files.rs`), output within a pipe that the host empties, log lines
//! within their number, and what goes to the disk within the run's own budget (`budget.rs`).
//!
//! **Nothing a guest waits for holds a thread of the runtime**: its pipes and timers are polled, and each work on files
//! is done on a thread for blocking work. Such work cannot be taken back: when a run is killed, one read or write that
//! the system has begun still comes to its end.
//!
//! Places come from the pool that plugins use as well, so whoever starts runs must not take all of it for them.

mod budget;
mod entries;
mod files;
mod state;
mod stdio;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leanclaw_types::Failure;
use leanclaw_types::text::escape_lines;
use leanclaw_wasm::{CallError, GuestStore, InstancePermit, LimitKind, Limits, Wasm, WasmSource};
use wasmtime::component::{InstancePre, Linker};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::error::SandboxError;
use crate::exit::{Cause, Report, TimeLimit};
use crate::pipe::pipe;
use crate::run::{Body, Run, Wire};
use crate::spec::RunSpec;
use crate::{Description, Sandbox};
use entries::Listings;
use state::{Folders, RunState, Streams};

/// Bytes that each direction of the wire holds.
const PIPE_BYTES: usize = 64 * 1024;

/// Handles of one run. Each may be a file descriptor of this process, of which it has some thousands for everything.
const HANDLES: usize = 256;

/// Runs agents as components in this process.
pub struct WasiSandbox {
    wasm: Wasm,
    program: CommandPre<RunState>,
    running: Arc<AtomicUsize>,
    /// Entries in all listings that one run holds.
    listed_entries: usize,
}

impl WasiSandbox {
    #[cfg(test)]
    pub(crate) fn with_listed_entries(mut self, most: usize) -> Self {
        self.listed_entries = most;
        self
    }

    /// Loads the agent's component and links it, once for all of its runs.
    ///
    /// # Errors
    /// [`SandboxError::Load`] when it cannot be read or compiled, [`SandboxError::Program`] when it is no program or
    /// wants more than WASI 0.2.
    pub async fn load(wasm: &Wasm, source: &WasmSource) -> Result<Self, SandboxError> {
        let component = wasm.component(source).await?;
        let link = || -> wasmtime::Result<InstancePre<RunState>> {
            let mut linker = Linker::new(wasm.engine());
            wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
            files::add_to_linker(&mut linker)?;
            linker.instantiate_pre(&component)
        };
        let program = link().and_then(CommandPre::new);
        let program = program.map_err(|error| SandboxError::Program { message: shown(&error) })?;
        Ok(Self { wasm: wasm.clone(), program, running: Arc::default(), listed_entries: entries::LISTED_ENTRIES })
    }
}

#[async_trait::async_trait]
impl Sandbox for WasiSandbox {
    fn kind(&self) -> &'static str {
        "wasm"
    }

    async fn describe(&self) -> Description {
        // Nobody can be said to wait in vain before a second; a burst of starts does that as well.
        let waiting = self.wasm.waiting().filter(|since| *since >= Duration::from_secs(1));
        let trouble = if !self.wasm.is_ticking() {
            Some(Failure::internal("The WebAssembly engine lost its clock.").hint("restart LeanClaw"))
        } else {
            waiting.map(|_| {
                Failure::unavailable("All instances there may be are in use.").hint("raise LEANCLAW_MAX_INSTANCES")
            })
        };
        Description {
            kind: self.kind(),
            detail: "embedded WASI: no network, no shell, the group's folder as /workspace".into(),
            running: self.running.load(Ordering::Relaxed),
            trouble,
        }
    }

    async fn start(&self, spec: RunSpec) -> Result<Run, SandboxError> {
        spec.check()?;
        let folders = Folders::open(&spec).await?;
        // The last thing waited for: from here on the permit belongs to what is dropped with the run.
        let permit = self.wasm.instance_permit().await;
        let log = Run::log(&spec);
        let (stdin, guest_stdin) = pipe(PIPE_BYTES);
        let (guest_stdout, stdout) = pipe(PIPE_BYTES);
        let limits = guest_limits(&spec);
        let streams = Streams { stdin: guest_stdin, stdout: guest_stdout, log: log.clone() };
        let state = RunState::new(&spec, limits, folders, streams, Listings::new(self.listed_entries));
        let body = Program::new(self, permit, state, &spec);
        let wire = Wire { stdin: Box::new(stdin), stdout: Box::new(stdout) };
        Ok(Run::spawn(self.kind(), &spec, log, wire, Box::new(body)))
    }
}

fn guest_limits(spec: &RunSpec) -> Limits {
    let memory_bytes = usize::try_from(spec.limits.memory_bytes).unwrap_or(usize::MAX);
    Limits { memory_bytes, handles: HANDLES, ..Limits::default() }
}

/// One run's program.
struct Program {
    store: Option<GuestStore<RunState>>,
    program: CommandPre<RunState>,
    wall_clock: Duration,
    running: Arc<AtomicUsize>,
}

impl Program {
    fn new(sandbox: &WasiSandbox, permit: InstancePermit, state: RunState, spec: &RunSpec) -> Self {
        sandbox.running.fetch_add(1, Ordering::Relaxed);
        Self {
            store: Some(GuestStore::new(permit, state)),
            program: sandbox.program.clone(),
            wall_clock: spec.limits.wall_clock,
            running: Arc::clone(&sandbox.running),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait::async_trait]
impl Body for Program {
    async fn run(&mut self) -> Cause {
        let Self { store, program, wall_clock, .. } = self;
        let Some(store) = store else { return failed("the run has ended already") };
        let ran = store.run(*wall_clock, async |store| {
            let command = program.instantiate_async(&mut *store).await?;
            command.wasi_cli_run().call_run(&mut *store).await
        });
        match ran.await {
            Ok(Ok(())) => Cause::Finished(0),
            Ok(Err(())) => Cause::Finished(1),
            Err(error) => cause(error),
        }
    }

    async fn end(&mut self) {
        // Closes the guest's end of the wire and its files, and gives its place back.
        self.store = None;
    }
}

fn failed(message: impl Into<String>) -> Cause {
    Cause::Failed(Report { message: message.into(), backtrace: String::new() })
}

/// What an error of the engine says about the run.
fn cause(error: CallError) -> Cause {
    let trapped = |message: String| Cause::Trapped(Report { message, backtrace: String::new() });
    match error {
        CallError::Timeout { .. } => Cause::TimedOut(TimeLimit::WallClock),
        CallError::Trap { report } => {
            Cause::Trapped(Report { message: report.message.clone(), backtrace: report.backtrace.clone() })
        }
        CallError::LimitExceeded { what: LimitKind::Memory, limit, .. } => Cause::OutOfMemory { limit_bytes: limit },
        CallError::LimitExceeded { .. } | CallError::HostCallFlood { .. } => trapped(error.to_string()),
        CallError::StoreSpent => failed(error.to_string()),
        CallError::Other { error } => match error.downcast_ref::<I32Exit>() {
            Some(exit) => Cause::Finished(exit.0),
            // A host function ended the run, which it does only when the guest breaks the rules of its interface.
            None => trapped(shown(&error)),
        },
    }
}

/// Longest text kept of an error of the engine, in bytes.
const TEXT_BYTES: usize = 4096;

/// An error of the engine, which may name what a guest chose, made safe to show.
fn shown(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    escape_lines(text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or(&text))
}
