//! The key-value store of a test host: the rules of the real one, in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::failure::{Failure, code};
use crate::kv::Entry;

const MAX_KEY_BYTES: usize = 512;
const MAX_VALUE_BYTES: usize = 1024 * 1024;
const MAX_LISTED_KEYS: u32 = 1000;

#[derive(Debug)]
struct Stored {
    entry: Entry,
    gone_at_ms: Option<u64>,
}

/// Keys in the order of their bytes, with revisions that never repeat.
#[derive(Debug)]
pub(crate) struct FakeKv {
    entries: BTreeMap<String, Stored>,
    quota_bytes: u64,
    now_ms: u64,
    last_revision: u64,
    intruder: Option<(String, Vec<u8>)>,
}

impl FakeKv {
    pub(super) fn new(quota_bytes: u64, now_ms: u64) -> Self {
        Self { entries: BTreeMap::new(), quota_bytes, now_ms, last_revision: 0, intruder: None }
    }

    pub(super) fn set_now_ms(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.entries.retain(|_, stored| stored.gone_at_ms.is_none_or(|gone_at_ms| gone_at_ms > now_ms));
    }

    pub(super) fn set_quota_bytes(&mut self, quota_bytes: u64) {
        self.quota_bytes = quota_bytes;
    }

    pub(super) fn write_after_next_read(&mut self, key: &str, value: &[u8]) {
        self.intruder = Some((key.to_owned(), value.to_vec()));
    }

    pub(crate) fn get(&mut self, key: &str) -> Result<Option<Entry>, Failure> {
        let found = self.entries.get(key).map(|stored| stored.entry.clone());
        if let Some((_, value)) = self.intruder.take_if(|(wanted, _)| wanted == key) {
            self.put(key, &value, None, None)?;
        }
        Ok(found)
    }

    pub(crate) fn put(
        &mut self,
        key: &str,
        value: &[u8],
        if_revision: Option<u64>,
        ttl_seconds: Option<u32>,
    ) -> Result<u64, Failure> {
        if key.len() > MAX_KEY_BYTES {
            return Err(Failure::too_large(format!("The key has {} bytes; the limit is {MAX_KEY_BYTES}.", key.len())));
        }
        if value.len() > MAX_VALUE_BYTES {
            let message = format!("The value has {} bytes; the limit is {MAX_VALUE_BYTES}.", value.len());
            return Err(Failure::too_large(message));
        }
        let found = self.entries.get(key).map(|stored| stored.entry.revision);
        if if_revision.is_some_and(|expected| expected != found.unwrap_or(0)) {
            return Err(Failure::new(code::CONFLICT, "The entry changed."));
        }
        let old_bytes = self.entries.get(key).map_or(0, |stored| key.len() + stored.entry.value.len());
        let new_bytes = key.len() + value.len();
        if new_bytes > old_bytes && (self.used_bytes() - old_bytes + new_bytes) as u64 > self.quota_bytes {
            return Err(Failure::new(code::BUDGET_EXHAUSTED, "The plugin's key-value store is full."));
        }
        self.last_revision += 1;
        let entry = Entry { value: value.to_vec(), revision: self.last_revision };
        let gone_at_ms = ttl_seconds.map(|seconds| self.now_ms + u64::from(seconds) * 1000);
        if gone_at_ms.is_none_or(|gone_at_ms| gone_at_ms > self.now_ms) {
            self.entries.insert(key.to_owned(), Stored { entry, gone_at_ms });
        } else {
            self.entries.remove(key);
        }
        Ok(self.last_revision)
    }

    pub(crate) fn delete(&mut self, key: &str) -> bool {
        self.entries.remove(key).is_some()
    }

    pub(crate) fn keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries
            .range::<str, _>((start, Bound::Unbounded))
            .map(|(key, _)| key)
            .filter(|key| key.starts_with(prefix))
            .take(limit.min(MAX_LISTED_KEYS) as usize)
            .cloned()
            .collect()
    }

    fn used_bytes(&self) -> usize {
        self.entries.iter().map(|(key, stored)| key.len() + stored.entry.value.len()).sum()
    }
}
