//! Counters of one plugin, kept across reloads.

use std::sync::atomic::{AtomicU64, Ordering};

use leanclaw_types::plugin::PluginStats;

/// Live counters.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) calls: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) traps: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) peak_memory_bytes: AtomicU64,
    pub(crate) egress_denied: AtomicU64,
}

impl Stats {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn memory(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        // Looked at first: nearly no call raises it, and all calls of the plugin share it.
        if self.peak_memory_bytes.load(Ordering::Relaxed) < bytes {
            self.peak_memory_bytes.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> PluginStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PluginStats {
            calls: read(&self.calls),
            failures: read(&self.failures),
            traps: read(&self.traps),
            timeouts: read(&self.timeouts),
            restarts: read(&self.restarts),
            peak_memory_bytes: read(&self.peak_memory_bytes),
            egress_denied: read(&self.egress_denied),
        }
    }
}
