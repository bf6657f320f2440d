//! What a guest may use, and the counter that enforces it inside a store.
//!
//! [`Limits`] are numbers with safe defaults; [`Limiter`] is their live state in one store. There is no unlimited
//! value: a [`Limiter`] clamps whatever it is given to [`Limits::MAXIMUM`].

use std::time::Duration;

use tokio::time::Instant;
use wasmtime::ResourceLimiter;

use crate::config::{CORE_INSTANCES_PER_COMPONENT, MEMORIES_PER_COMPONENT, TABLE_ELEMENTS, TABLES_PER_COMPONENT};

const MIB: usize = 1024 * 1024;

/// Upper bounds for one store (memory, tables, handles) and for each call into it (the rest).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of all memories together, in bytes. Default 64 MiB; growth beyond it returns -1 to the guest.
    pub memory_bytes: usize,
    /// Elements of each table. Default 60,000.
    pub table_elements: usize,
    /// Core instances in the component. Default 100.
    pub instances: usize,
    /// Linear memories in the component. Default 4.
    pub memories: usize,
    /// Tables in the component. Default 20.
    pub tables: usize,
    /// Bytes one host call or one result may copy out of the guest. Default 8 MiB.
    pub hostcall_fuel_bytes: usize,
    /// Live resource handles; to be set as the capacity of the store's resource table. Default 4096: what one handle
    /// can make the host keep is bounded by the host's interfaces, and all of them together should not be more than a guest's
    /// own memory.
    pub handles: usize,
    /// Host functions one call may invoke. Default 1,000.
    pub host_calls_per_call: u32,
    /// Log lines one call may write; later ones are dropped and counted. Default 1,000.
    pub log_lines_per_call: u32,
    /// Bytes kept of one log line. Default 4096.
    pub log_line_bytes: usize,
    /// How long one call may take, waiting included. Default 30 s.
    pub wall_clock: Duration,
    /// Bytes of one request for randomness. Default 64 KiB.
    pub random_bytes: u64,
}

impl Limits {
    /// The ceiling of every limit; larger values are clamped to it. Memory is clamped further, to
    /// [`crate::EngineSettings::max_memory_bytes`].
    pub const MAXIMUM: Self = Self {
        memory_bytes: 4096 * MIB,
        table_elements: TABLE_ELEMENTS,
        instances: CORE_INSTANCES_PER_COMPONENT as usize,
        memories: MEMORIES_PER_COMPONENT as usize,
        tables: TABLES_PER_COMPONENT as usize,
        hostcall_fuel_bytes: 128 * MIB,
        handles: 1_000_000,
        host_calls_per_call: 1_000_000,
        log_lines_per_call: 100_000,
        log_line_bytes: 64 * 1024,
        wall_clock: Duration::from_secs(3600),
        random_bytes: 16 * 1024 * 1024,
    };

    /// How long a program may run that is no single call; see [`crate::GuestStore::run`].
    pub const MAXIMUM_RUN: Duration = Duration::from_secs(24 * 3600);

    /// The same limits with every value above [`Limits::MAXIMUM`] brought down to it.
    #[must_use]
    pub fn clamped(self) -> Self {
        let ceiling = Self::MAXIMUM;
        Self {
            memory_bytes: self.memory_bytes.min(ceiling.memory_bytes),
            table_elements: self.table_elements.min(ceiling.table_elements),
            instances: self.instances.min(ceiling.instances),
            memories: self.memories.min(ceiling.memories),
            tables: self.tables.min(ceiling.tables),
            hostcall_fuel_bytes: self.hostcall_fuel_bytes.min(ceiling.hostcall_fuel_bytes),
            handles: self.handles.min(ceiling.handles),
            host_calls_per_call: self.host_calls_per_call.min(ceiling.host_calls_per_call),
            log_lines_per_call: self.log_lines_per_call.min(ceiling.log_lines_per_call),
            log_line_bytes: self.log_line_bytes.min(ceiling.log_line_bytes),
            wall_clock: self.wall_clock.min(ceiling.wall_clock),
            random_bytes: self.random_bytes.min(ceiling.random_bytes),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 * MIB,
            hostcall_fuel_bytes: 8 * MIB,
            handles: 4096,
            host_calls_per_call: 1_000,
            log_lines_per_call: 1_000,
            log_line_bytes: 4096,
            wall_clock: Duration::from_secs(30),
            random_bytes: 64 * 1024,
            ..Self::MAXIMUM
        }
    }
}

/// Which limit a guest ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// [`Limits::memory_bytes`].
    Memory,
    /// [`Limits::table_elements`].
    TableElements,
    /// [`Limits::instances`], [`Limits::memories`] or [`Limits::tables`]: the component itself is too large.
    ComponentSize,
    /// [`Limits::hostcall_fuel_bytes`].
    HostcallBytes,
    /// [`Limits::handles`].
    Handles,
    /// [`Limits::host_calls_per_call`].
    HostCalls,
}

impl LimitKind {
    /// What is counted, in words, with its unit.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Memory => "bytes of linear memory",
            Self::TableElements => "table elements",
            Self::ComponentSize => "core instances, memories or tables in the component",
            Self::HostcallBytes => "bytes copied between guest and host in one step",
            Self::Handles => "open resource handles",
            Self::HostCalls => "host calls in one call",
        }
    }

    /// The name of the field of [`Limits`] to raise.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Self::Memory => "memory_bytes",
            Self::TableElements => "table_elements",
            Self::ComponentSize => "instances, memories, tables",
            Self::HostcallBytes => "hostcall_fuel_bytes",
            Self::Handles => "handles",
            Self::HostCalls => "host_calls_per_call",
        }
    }
}

impl std::fmt::Display for LimitKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.describe())
    }
}

/// A limit was reached. Host functions return it with `?`, which ends the call with the matching [`crate::CallError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {limit} {what} is reached")]
pub struct LimitReached {
    /// Which limit.
    pub what: LimitKind,
    /// Its value, in the unit of the field of [`Limits`].
    pub limit: u64,
}

/// Implemented by the data of every store: it gives the host side its [`Limiter`].
pub trait Limited: Send + 'static {
    /// The limiter of this store. Must always be the same one.
    fn limiter(&mut self) -> &mut Limiter;
}

/// The live counters of one store. Lives in the store's data; see [`Limited`].
#[derive(Debug)]
pub struct Limiter {
    limits: Limits,
    memory_bytes: usize,
    denied: Option<LimitReached>,
    host_calls: u32,
    log_lines: u32,
    log_lines_dropped: u64,
    deadline: Option<Instant>,
}

impl Limiter {
    /// A limiter with `limits`, clamped to [`Limits::MAXIMUM`].
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: limits.clamped(),
            memory_bytes: 0,
            denied: None,
            host_calls: 0,
            log_lines: 0,
            log_lines_dropped: 0,
            deadline: None,
        }
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Linear memory granted so far, in bytes, over all memories. Memory never shrinks within a store. An upper bound:
    /// a growth that was granted here and then failed in the operating system still counts.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// The latest growth that was refused since the current (or last) call began.
    #[must_use]
    pub fn denied(&self) -> Option<LimitReached> {
        self.denied
    }

    /// When the current call will be ended; what a host function waits for should end before it.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Time left of the current call, for clamping timeouts that a guest chose. Zero when no call was begun.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Counts one host call. Every host function calls this first.
    ///
    /// # Errors
    /// [`LimitReached`] above [`Limits::host_calls_per_call`]; returning it ends the guest's call.
    pub fn count_host_call(&mut self) -> Result<(), LimitReached> {
        if self.host_calls >= self.limits.host_calls_per_call {
            return Err(LimitReached { what: LimitKind::HostCalls, limit: self.limits.host_calls_per_call.into() });
        }
        self.host_calls += 1;
        Ok(())
    }

    /// Whether the current (or last) call made all the host calls it may.
    pub(crate) fn has_no_host_call_left(&self) -> bool {
        self.host_calls >= self.limits.host_calls_per_call
    }

    /// Whether one more log line may be kept in this call. When not, the line is counted as dropped.
    pub fn admit_log_line(&mut self) -> bool {
        if self.log_lines >= self.limits.log_lines_per_call {
            self.log_lines_dropped = self.log_lines_dropped.saturating_add(1);
            return false;
        }
        self.log_lines += 1;
        true
    }

    /// Log lines dropped in the current (or last) call.
    #[must_use]
    pub fn log_lines_dropped(&self) -> u64 {
        self.log_lines_dropped
    }

    /// The part of `line` that is kept: at most [`Limits::log_line_bytes`], cut between characters.
    #[must_use]
    pub fn clip_log_line<'line>(&self, line: &'line str) -> &'line str {
        line.get(..line.floor_char_boundary(self.limits.log_line_bytes)).unwrap_or(line)
    }

    pub(crate) fn begin_call(&mut self, deadline: Instant) {
        self.denied = None;
        self.host_calls = 0;
        self.log_lines = 0;
        self.log_lines_dropped = 0;
        self.deadline = Some(deadline);
    }

    pub(crate) fn clamp_memory(&mut self, max_memory_bytes: usize) {
        self.limits.memory_bytes = self.limits.memory_bytes.min(max_memory_bytes);
    }

    fn deny(&mut self, what: LimitKind, limit: usize) {
        self.denied = Some(LimitReached { what, limit: u64::try_from(limit).unwrap_or(u64::MAX) });
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.limits.memory_bytes {
            self.deny(LimitKind::Memory, self.limits.memory_bytes);
            return Ok(false);
        }
        // The memory's own declared maximum is the guest's affair, not a limit of ours.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.limits.table_elements {
            self.deny(LimitKind::TableElements, self.limits.table_elements);
            return Ok(false);
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.tables
    }

    fn memories(&self) -> usize {
        self.limits.memories
    }
}
