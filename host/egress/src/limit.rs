//! How many requests one owner has in flight and how often it starts one.
//!
//! The counts belong to the owner, not to a handle: every handle of an owner draws on the same ones, so opening handles
//! buys nothing. The limits belong to the handle's policy and may differ between two handles for a while, after a grant
//! changed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The counts stay right even when another holder panicked: each change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The counts of one owner.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) requests: Arc<Places>,
    pub(crate) sockets: Arc<Places>,
    starts: Mutex<VecDeque<Instant>>,
}

impl Usage {
    /// Notes one more start.
    ///
    /// # Errors
    /// The time until a start will be allowed again, when `limit` starts lie within the last minute.
    pub(crate) fn note_start(&self, limit: usize) -> Result<(), Duration> {
        let now = Instant::now();
        let mut starts = lock(&self.starts);
        while starts.front().is_some_and(|start| now.saturating_duration_since(*start) >= WINDOW) {
            starts.pop_front();
        }
        if starts.len() < limit {
            starts.push_back(now);
            return Ok(());
        }
        // With a limit lowered below the number of starts on record, more than one must leave the window.
        let blocking = starts.get(starts.len().saturating_sub(limit.max(1)));
        Err(blocking.map_or(WINDOW, |start| WINDOW.saturating_sub(now.saturating_duration_since(*start))))
    }
}

/// Places for things that run at once.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: Mutex<usize>,
    freed: Notify,
}

impl Places {
    fn try_take(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let mut taken = lock(&self.taken);
        if *taken >= limit {
            return None;
        }
        *taken += 1;
        Some(Place(Arc::new(Taken(Arc::clone(self)))))
    }

    /// Waits until fewer than `limit` places are taken, and takes one. Dropping the future leaves the queue.
    pub(crate) async fn take(self: &Arc<Self>, limit: usize) -> Place {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // Registered before looking, so that a place freed in between is not missed.
            freed.as_mut().enable();
            if let Some(place) = self.try_take(limit) {
                return place;
            }
            freed.await;
        }
    }
}

/// One place; dropping it and all its clones frees it.
#[derive(Debug, Clone)]
pub(crate) struct Place(#[expect(dead_code, reason = "it is held for its drop")] Arc<Taken>);

#[derive(Debug)]
struct Taken(Arc<Places>);

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = lock(&self.0.taken);
        *taken = taken.saturating_sub(1);
        drop(taken);
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn starts_are_counted_over_a_sliding_minute() {
        let usage = Usage::default();
        assert_eq!(usage.note_start(2), Ok(()));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(usage.note_start(2), Ok(()));
        assert_eq!(usage.note_start(2), Err(Duration::from_secs(40)));
        assert_eq!(usage.note_start(1), Err(Duration::from_secs(60)));
        assert_eq!(usage.note_start(3), Ok(()));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(usage.note_start(3), Ok(()));
        assert_eq!(usage.note_start(0), Err(Duration::from_secs(60)));
    }

    #[tokio::test]
    async fn a_freed_place_goes_to_one_who_waits() {
        let places = Arc::new(Places::default());
        let first = places.take(1).await;
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { drop(places.take(1).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
        assert!(places.try_take(0).is_none());
        assert!(places.try_take(1).is_some());
    }
}
