//! Who waits for the right to an instance, and since when somebody does.
//!
//! It only counts: who comes next is the semaphore's to say.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The line of those who wait.
#[derive(Default)]
pub(crate) struct Line(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    count: usize,
    /// When the line was last empty before the first of them came.
    since: Option<Instant>,
}

/// A place in the line, left when dropped.
pub(crate) struct Place<'line>(&'line Line);

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn join(&self) -> Place<'_> {
        let mut waiting = self.lock();
        waiting.count += 1;
        waiting.since.get_or_insert_with(Instant::now);
        Place(self)
    }

    /// How long the line has not been empty; none while it is.
    pub(crate) fn lasts(&self) -> Option<Duration> {
        self.lock().since.map(|since| since.elapsed())
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.count -= 1;
        if waiting.count == 0 {
            waiting.since = None;
        }
    }
}
