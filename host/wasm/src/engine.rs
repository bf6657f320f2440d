//! The engine handle: construction with the pool probe, instance permits, and access to what hangs off it.
//!
//! It owns the process-wide resources (engine, ticker, permits, cache) and refuses to know what is run on them.

use std::num::TryFromIntError;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use wasmtime::Engine;

use crate::cache::{Cache, CacheOff, CacheStats, Counters};
use crate::config::{self, EngineSettings, Pooling};
use crate::source::EngineHash;
use crate::ticker::{ActiveCall, Ticker};
use crate::waiting::Line;

/// Where instances get their memory from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allocator {
    /// A pool reserved at start.
    Pooling {
        /// Whether the kernel tells which pages a guest touched (`PAGEMAP_SCAN`, Linux 6.7), so that only those are
        /// cleared when a slot is used again and the others stay mapped.
        pagemap_scan: bool,
    },
    /// Fresh mappings for every instance.
    OnDemand {
        /// Why there is no pool, in words for an operator.
        reason: String,
    },
}

/// The engine could not be created.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A setting is outside what the engine can do.
    #[error("{name} = {value} is not usable: {expected}")]
    Setting {
        /// The setting's field name.
        name: &'static str,
        /// The value given.
        value: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// Wasmtime refused to start on this machine.
    #[error("the WebAssembly engine cannot start on this machine: {message}")]
    Create {
        /// Wasmtime's own explanation.
        message: String,
    },
    /// The ticker thread could not be started.
    #[error("the epoch ticker thread cannot start")]
    Ticker(#[source] std::io::Error),
}

impl EngineError {
    /// What an operator can do about it, one sentence per line.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Setting { name, expected, .. } => vec![format!("set {name} to a value that is {expected}")],
            Self::Create { .. } => {
                vec!["components run on 64-bit x86, ARM, RISC-V and s390x; check the CPU and the build target".into()]
            }
            Self::Ticker(_) => {
                vec!["raise the process's thread limit (ulimit -u, or pids.max of its control group)".into()]
            }
        }
    }
}

/// The process's WebAssembly engine. Cloning is one reference count; everything is shared.
#[derive(Clone)]
pub struct Wasm {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) engine_hash: EngineHash,
    pub(crate) settings: EngineSettings,
    pub(crate) cache: Result<Cache, CacheOff>,
    pub(crate) counters: Counters,
    /// One compilation at a time: it uses every core it can get, and a second one only doubles the memory.
    pub(crate) compile_gate: Arc<Semaphore>,
    ticker: Ticker,
    permits: Semaphore,
    waiting: Line,
    allocator: Allocator,
}

/// The right to have one live instance. It is returned when dropped; [`crate::GuestStore`] drops it after the store.
pub struct InstancePermit {
    wasm: Wasm,
}

impl Wasm {
    /// Creates the engine, its ticker thread and (unless off) its pool, and opens the cache directory.
    ///
    /// Takes a few milliseconds: the pool is address space, not memory, and no cached code is read. A machine that
    /// refuses the pool, or a cache directory that cannot be trusted, costs a log line and speed, not the start.
    ///
    /// # Errors
    /// [`EngineError`] for a setting out of range, an unsupported machine, or a refused thread.
    pub fn new(settings: EngineSettings) -> Result<Self, EngineError> {
        check(&settings)?;
        let started = Instant::now();
        let (engine, allocator) = create(&settings)?;
        let ticker = Ticker::start(engine.weak(), settings.epoch_tick).map_err(EngineError::Ticker)?;
        let cache = open_cache(&settings);
        let permits = permit_count(settings.max_instances)?;
        report(&allocator, &settings, started);
        Ok(Self {
            inner: Arc::new(Inner {
                engine_hash: EngineHash::of(&engine),
                engine,
                cache,
                counters: Counters::default(),
                compile_gate: Arc::new(Semaphore::new(1)),
                ticker,
                permits: Semaphore::new(permits),
                waiting: Line::default(),
                allocator,
                settings,
            }),
        })
    }

    /// The wasmtime engine, for linkers and reflection. Compile and load through this handle instead of the engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Which allocator is in use, and why.
    #[must_use]
    pub fn allocator(&self) -> &Allocator {
        &self.inner.allocator
    }

    /// The settings this engine was made from.
    #[must_use]
    pub fn settings(&self) -> &EngineSettings {
        &self.inner.settings
    }

    /// Counters of the compile cache since start.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        self.inner.counters.snapshot()
    }

    /// Why compiled code is not cached; `None` when it is.
    #[must_use]
    pub fn cache_off(&self) -> Option<&CacheOff> {
        self.inner.cache.as_ref().err()
    }

    /// Waits for the right to one more live instance, first come first served. Cancel-safe.
    pub async fn instance_permit(&self) -> InstancePermit {
        if let Some(permit) = self.try_instance_permit() {
            return permit;
        }
        let _place = self.inner.waiting.join();
        match self.inner.permits.acquire().await {
            Ok(permit) => permit.forget(),
            // Only a closed semaphore fails, and nothing closes this one.
            Err(_) => std::future::pending().await,
        }
        InstancePermit { wasm: self.clone() }
    }

    /// The right to one more live instance if one is free right now.
    #[must_use]
    pub fn try_instance_permit(&self) -> Option<InstancePermit> {
        self.inner.permits.try_acquire().ok()?.forget();
        Some(InstancePermit { wasm: self.clone() })
    }

    /// Instances that could be created right now without waiting.
    #[must_use]
    pub fn free_instances(&self) -> usize {
        self.inner.permits.available_permits()
    }

    /// For how long one call or another has been waiting for an instance; none while nobody waits.
    #[must_use]
    pub fn waiting(&self) -> Option<Duration> {
        self.inner.waiting.lasts()
    }

    /// Whether the thread lives that advances the epoch. Without it a guest that spins holds its executor thread until its
    /// call has no time left.
    #[must_use]
    pub fn is_ticking(&self) -> bool {
        self.inner.ticker.is_alive()
    }

    #[cfg(test)]
    pub(crate) fn ticker(&self) -> &Ticker {
        &self.inner.ticker
    }
}

impl std::fmt::Debug for Wasm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Wasm").field("allocator", &self.inner.allocator).finish_non_exhaustive()
    }
}

impl InstancePermit {
    /// The engine this permit belongs to.
    #[must_use]
    pub fn wasm(&self) -> &Wasm {
        &self.wasm
    }

    pub(crate) fn enter_call(&self) -> ActiveCall<'_> {
        self.wasm.inner.ticker.enter()
    }
}

impl Drop for InstancePermit {
    fn drop(&mut self) {
        self.wasm.inner.permits.add_permits(1);
    }
}

fn check(settings: &EngineSettings) -> Result<(), EngineError> {
    let refuse = |name, value: String, expected| Err(EngineError::Setting { name, value, expected });
    if settings.max_instances == 0 || settings.max_instances > 100_000 {
        return refuse("max_instances", settings.max_instances.to_string(), "between 1 and 100000");
    }
    let memory_bytes = settings.max_memory_bytes;
    if memory_bytes < 64 * 1024 || u64::try_from(memory_bytes).is_ok_and(|bytes| bytes > 1 << 32) {
        return refuse("max_memory_bytes", memory_bytes.to_string(), "between 65536 (one page) and 4294967296 (4 GiB)");
    }
    if settings.epoch_tick.as_micros() < 100 || settings.epoch_tick.as_secs() >= 1 {
        return refuse("epoch_tick", format!("{:?}", settings.epoch_tick), "at least 100 us and less than 1 s");
    }
    Ok(())
}

fn permit_count(max_instances: u32) -> Result<usize, EngineError> {
    usize::try_from(max_instances).map_err(|_: TryFromIntError| EngineError::Setting {
        name: "max_instances",
        value: max_instances.to_string(),
        expected: "a number of this machine's word size",
    })
}

/// Building the pool *is* the probe: the reservation either succeeds, and is then the one that is used, or it fails at
/// once. A separate trial reservation would double the cost of every start.
fn create(settings: &EngineSettings) -> Result<(Engine, Allocator), EngineError> {
    let reason = match settings.pooling {
        Pooling::Off => "pooling is switched off".to_owned(),
        Pooling::Auto => match Engine::new(&config::pooled(settings)) {
            Ok(engine) => return Ok((engine, Allocator::Pooling { pagemap_scan: config::can_scan_pagemap() })),
            Err(error) => format!("no pool for {} instances: {error:#}", settings.max_instances),
        },
    };
    let engine =
        Engine::new(&config::on_demand()).map_err(|error| EngineError::Create { message: format!("{error:#}") })?;
    Ok((engine, Allocator::OnDemand { reason }))
}

fn open_cache(settings: &EngineSettings) -> Result<Cache, CacheOff> {
    let directory = settings.cache_dir.as_ref().ok_or(CacheOff::NotConfigured)?;
    Cache::open(directory, settings.cache_bounds).inspect_err(|off| {
        tracing::warn!(
            reason = %off,
            hints = ?off.hints(),
            "compiled plugins are not cached; every start compiles them again"
        );
    })
}

fn report(allocator: &Allocator, settings: &EngineSettings, started: Instant) {
    let startup_microseconds = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (name, pagemap_scan, reason) = match allocator {
        Allocator::Pooling { pagemap_scan } => ("pooling", *pagemap_scan, ""),
        Allocator::OnDemand { reason } => ("on-demand", false, reason.as_str()),
    };
    tracing::info!(
        allocator = name,
        pagemap_scan,
        reason,
        max_instances = settings.max_instances,
        startup_microseconds,
        "WebAssembly engine ready"
    );
}
