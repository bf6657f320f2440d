//! Listings of folders that a guest holds.
//!
//! A listing is read whole when it is asked for and lies in the host's memory, out of sight of the guest's own limit. So
//! a folder is counted first, and all listings that a run holds together have a bound.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

/// Entries in all listings of one run together. A name is at most 255 bytes, so this is some tens of megabytes at worst.
pub(super) const LISTED_ENTRIES: usize = 100_000;

/// The listings that a run holds, by handle.
pub(super) struct Listings {
    most: usize,
    held: HashMap<u32, usize>,
}

impl Listings {
    /// None yet; all together may have `most` entries.
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: HashMap::new() }
    }

    /// Entries that further listings may have.
    pub(super) fn room(&self) -> usize {
        self.most.saturating_sub(self.held.values().sum())
    }

    pub(super) fn hold(&mut self, handle: u32, entries: usize) {
        self.held.insert(handle, entries);
    }

    pub(super) fn forget(&mut self, handle: u32) {
        self.held.remove(&handle);
    }
}

/// How many entries `folder` has, counted to at most `most` and one more.
pub(super) async fn count(folder: Arc<File>, most: usize) -> std::io::Result<usize> {
    let count = move || {
        let mut entries = 0;
        for entry in rustix::fs::Dir::read_from(&*folder)? {
            entry?;
            entries += 1;
            // `.` and `..` are not listed.
            if entries > most.saturating_add(2) {
                break;
            }
        }
        Ok(entries)
    };
    tokio::task::spawn_blocking(count).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
