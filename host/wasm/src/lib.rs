//! The WebAssembly engine: one wasmtime engine per process, bounded stores, the epoch ticker, and the compile cache.
//!
//! This crate owns *how* guest code is compiled, cached, instantiated and stopped. It knows no plugin: no interface
//! of ours, no manifest, no grant, no host function. Those belong to the crates built on it, which bring a
//! [`wasmtime::component::Linker`] and a store type and get back three promises:
//!
//! * **A guest cannot hold the host.** Every call runs inside [`GuestStore::call`]: epochs make a spinning guest
//!   yield, a wall-clock limit ends it, [`Limits`] bound its memory, tables, copies and counters, and a store that
//!   failed once refuses to be used again.
//! * **A guest cannot exhaust the pool.** A store exists only together with an [`InstancePermit`], and there are
//!   exactly as many permits as the pool has slots, so that "too many" is a wait and never an error.
//! * **Native code is only ever our own.** Precompiled code is refused from outside; what the cache wrote is mapped
//!   again only after its authentication code was checked through the very descriptor that is mapped.

mod cache;
mod compile;
mod config;
mod engine;
mod error;
mod footprint;
mod limits;
mod load;
mod source;
mod store;
mod ticker;
mod waiting;

#[cfg(test)]
mod tests;

pub use cache::{CacheBounds, CacheOff, CacheStats};
pub use compile::CompileError;
pub use config::{
    CORE_INSTANCES_PER_COMPONENT, EngineSettings, MAX_COMPONENT_BYTES, MEMORIES_PER_COMPONENT, Pooling, TABLE_ELEMENTS,
    TABLES_PER_COMPONENT,
};
pub use engine::{Allocator, EngineError, InstancePermit, Wasm};
pub use error::{CallError, TrapReport};
pub use footprint::forget_code;
pub use limits::{LimitKind, LimitReached, Limited, Limiter, Limits};
pub use load::{LazyComponent, LoadError};
pub use source::{Digest, FileStamp, WasmSource, digest_file};
pub use store::GuestStore;
