//! Settings of the engine and their translation into a wasmtime configuration.
//!
//! All pool sizes derive from one number, [`EngineSettings::max_instances`], times a per-component ceiling. Wasmtime
//! refuses a component above a ceiling when it is loaded, so whoever holds one of the `max_instances` permits can
//! never find the pool empty.

use std::path::PathBuf;
use std::time::Duration;

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::cache::CacheBounds;

/// Linear memories one component may define. Single-language components have one; a composed one has one per part.
/// Each costs 4 GiB of *address space* per pool slot, which is why this ceiling is small.
pub const MEMORIES_PER_COMPONENT: u32 = 4;

/// Tables one component may define. Toolchains add one per core module that needs indirect calls.
pub const TABLES_PER_COMPONENT: u32 = 20;

/// Core instances one component may contain; JavaScript and Python components bring 20 to 40. Only a counter.
pub const CORE_INSTANCES_PER_COMPONENT: u32 = 100;

/// Elements one table may hold; a Python interpreter needs more than 10,000. 8 bytes of address space each.
pub const TABLE_ELEMENTS: usize = 60_000;

/// Memory that a pool slot keeps resident between two instances, so that the next one takes no page faults there.
/// More than 1 MiB brought nothing measurable and stays in the resident set for ever.
const KEEP_RESIDENT_BYTES: usize = 1024 * 1024;

/// Runtime bookkeeping (not linear memory) of one component instance, core instances included.
const INSTANCE_METADATA_BYTES: usize = 4 * 1024 * 1024;

/// The largest component of the program, in bytes: for everything that reads, builds, installs or compiles one.
pub const MAX_COMPONENT_BYTES: u64 = 50 * 1024 * 1024;

/// Whether instances come out of a preallocated pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// Reserve a pool; where the machine refuses the reservation, fall back to on-demand allocation and say so.
    #[default]
    Auto,
    /// Map and unmap memory for every instance: slower per instance, needs little address space.
    Off,
}

/// What the engine is built from. `EngineSettings::default()` is what the program uses; no value means "unlimited".
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Pool or on-demand allocation.
    pub pooling: Pooling,
    /// Live instances of the whole process, at least 1 (default 1000). Also the number of instance permits.
    pub max_instances: u32,
    /// The most linear memory any guest may ever get, in bytes (default 512 MiB); per-guest limits are clamped to it.
    pub max_memory_bytes: usize,
    /// How often a running guest yields to others (default 10 ms).
    pub epoch_tick: Duration,
    /// Where compiled code is kept; `None` compiles in every process. Must be a directory of ours with mode 0700.
    pub cache_dir: Option<PathBuf>,
    /// How much the cache may keep.
    pub cache_bounds: CacheBounds,
    /// The largest component that is compiled at all, in bytes (default [`MAX_COMPONENT_BYTES`]): compiling is the one thing a
    /// hostile file can make expensive before any of its code runs.
    pub max_component_bytes: u64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            pooling: Pooling::Auto,
            max_instances: 1000,
            max_memory_bytes: 512 * 1024 * 1024,
            epoch_tick: Duration::from_millis(10),
            cache_dir: None,
            cache_bounds: CacheBounds::default(),
            max_component_bytes: MAX_COMPONENT_BYTES,
        }
    }
}

/// The configuration common to both allocators.
pub(crate) fn on_demand() -> Config {
    let mut config = Config::new();
    config
        // Guests are synchronous components. Calls are several times cheaper without the concurrency machinery, and a
        // component that needs it is refused when it is compiled.
        .concurrency_support(false)
        .epoch_interruption(true)
        .wasm_memory64(false)
        .memory_init_cow(true)
        // Function names come from the name section. Debug information is guest-controlled input to a large parser
        // and is not worth reading on every trap.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

/// Whether this kernel can tell which pages of a slot were touched.
pub(crate) fn can_scan_pagemap() -> bool {
    PoolingAllocationConfig::is_pagemap_scan_available()
}

/// The configuration with a pool sized for `settings.max_instances`.
pub(crate) fn pooled(settings: &EngineSettings) -> Config {
    let instances = settings.max_instances;
    // Without the scan, "keep resident" clears the whole megabyte each time and costs more than it saves.
    let keep_resident_bytes = if can_scan_pagemap() { KEEP_RESIDENT_BYTES } else { 0 };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(instances.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT))
        .total_stacks(instances)
        .total_gc_heaps(instances)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_memories_per_module(MEMORIES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .max_component_instance_size(INSTANCE_METADATA_BYTES)
        .max_core_instance_size(INSTANCE_METADATA_BYTES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(settings.max_memory_bytes)
        .linear_memory_keep_resident(keep_resident_bytes)
        .table_keep_resident(keep_resident_bytes)
        .pagemap_scan(Enabled::Auto);
    let mut config = on_demand();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
