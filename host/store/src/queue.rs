//! What waits for a writer thread: lanes that take turns.
//!
//! Order holds within a lane, never between lanes. A lane is bounded, so that a flood is refused instead of filling the
//! memory; an empty lane accepts any one write, however large.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use leanclaw_types::PluginKey;
use rusqlite::Connection;

use crate::error::StoreError;

/// Writes that may wait in one lane.
pub(crate) const MAX_LANE_WRITES: usize = 1024;
/// Bytes that may wait in one lane.
pub(crate) const MAX_LANE_BYTES: usize = 16 * 1024 * 1024;
/// Writes in one transaction; bounds how long the first of them waits for the sync.
const MAX_BATCH_WRITES: usize = 256;
/// Bytes in one transaction.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// On whose behalf a write is made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// The host's own: grants, audit, secrets. One lane, so that audit rows keep their order.
    Host,
    /// A plugin's.
    Plugin(PluginKey),
}

/// A write that waits.
pub(crate) trait Write: Send {
    /// Does it, inside a savepoint. An error: undo it; the error says why where that is because the file could not be used.
    fn run(&mut self, connection: &Connection) -> Result<(), Option<StoreError>>;
    /// Called once, after the transaction was committed or was lost.
    fn finish(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Waiting {
    write: Box<dyn Write>,
    bytes: usize,
}

#[derive(Default)]
struct LaneQueue {
    writes: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Default)]
struct State {
    lanes: HashMap<Lane, LaneQueue>,
    /// Lanes with something in them, each once, the next one first.
    turns: VecDeque<Lane>,
    closed: bool,
}

impl LaneQueue {
    fn is_full_for(&self, bytes: usize) -> bool {
        let is_full = self.writes.len() >= MAX_LANE_WRITES || self.bytes.saturating_add(bytes) > MAX_LANE_BYTES;
        is_full && !self.writes.is_empty()
    }
}

/// The queue of one writer thread.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts a write of about `bytes`, unless its lane is full.
    pub(crate) fn push(&self, lane: Lane, bytes: usize, write: Box<dyn Write>) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.lanes.get(&lane).is_some_and(|queue| queue.is_full_for(bytes)) {
            return Err(StoreError::Overloaded);
        }
        state.add(lane, Waiting { write, bytes })?;
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Accepts a write even if its lane is full. For what its owner bounds: one write at a time, of bounded size.
    pub(crate) fn push_exempt(&self, lane: Lane, write: Box<dyn Write>) -> Result<(), StoreError> {
        self.state().add(lane, Waiting { write, bytes: 0 })?;
        self.wake.notify_one();
        Ok(())
    }

    /// Waits for writes and takes as many as fit in one transaction, one from each lane in turn. Where none came `until` that
    /// moment it takes none. None: closed and empty.
    pub(crate) fn take_batch(&self, until: Option<Instant>) -> Option<Vec<Box<dyn Write>>> {
        let mut state = self.state();
        while state.turns.is_empty() {
            if state.closed {
                return None;
            }
            let Some(until) = until else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(Vec::new());
            }
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut batch = Vec::new();
        let mut batch_bytes = 0_usize;
        while batch.len() < MAX_BATCH_WRITES && batch_bytes < MAX_BATCH_BYTES {
            let Some(waiting) = state.take_next() else { break };
            batch_bytes = batch_bytes.saturating_add(waiting.bytes);
            batch.push(waiting.write);
        }
        Some(batch)
    }

    /// Accepts nothing more. What was accepted is still handed out.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.wake.notify_all();
    }

    /// Closes and forgets what waits: there is nobody left to do it. Whoever waits for an answer learns that.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.closed = true;
        let left = std::mem::take(&mut state.lanes);
        state.turns.clear();
        drop(state);
        for waiting in left.into_values().flat_map(|queue| queue.writes) {
            waiting.write.finish(Err(StoreError::Closed));
        }
    }
}

impl State {
    fn add(&mut self, lane: Lane, waiting: Waiting) -> Result<(), StoreError> {
        if self.closed {
            return Err(StoreError::Closed);
        }
        let queue = self.lanes.entry(lane.clone()).or_default();
        if queue.writes.is_empty() {
            self.turns.push_back(lane);
        }
        queue.bytes = queue.bytes.saturating_add(waiting.bytes);
        queue.writes.push_back(waiting);
        Ok(())
    }

    fn take_next(&mut self) -> Option<Waiting> {
        let lane = self.turns.pop_front()?;
        let queue = self.lanes.get_mut(&lane)?;
        let waiting = queue.writes.pop_front()?;
        queue.bytes = queue.bytes.saturating_sub(waiting.bytes);
        if queue.writes.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.turns.push_back(lane);
        }
        Some(waiting)
    }
}
