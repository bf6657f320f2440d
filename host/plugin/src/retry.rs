//! Trying again what could not be loaded for a reason that may pass: a disk that did not answer says nothing about a
//! plugin, and nobody may be there to reload it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::installed::FOLDER;
use crate::runtime::{Inner, Mode};

/// Pause before the first attempt; it doubles with each that fails. The tests wait for it.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1000 });
/// It grows no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Numbers every attempt of the program.
static ATTEMPTS: AtomicU64 = AtomicU64::new(1);

/// What is tried again, by its place in the folder.
#[derive(Default)]
pub(crate) struct Retries(Mutex<HashMap<PathBuf, Retry>>);

#[derive(Default)]
struct Retry {
    failed: u32,
    /// The attempt that somebody waits to make.
    due: Option<u64>,
}

impl Retries {
    /// How long to wait with the next attempt, and its number; none when somebody waits already.
    fn next(&self, path: &Path) -> Option<(Duration, u64)> {
        let mut retries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let retry = retries.entry(path.to_path_buf()).or_default();
        if retry.due.is_some() {
            return None;
        }
        let number = *retry.due.insert(ATTEMPTS.fetch_add(1, Ordering::Relaxed));
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(retry.failed)).min(LONGEST_PAUSE);
        retry.failed = retry.failed.saturating_add(1);
        Some((pause, number))
    }

    /// Whether this attempt is still to be made; whoever asks makes it. It is not when it was forgotten meanwhile, although
    /// another one may be waited for.
    fn begin(&self, path: &Path, number: u64) -> bool {
        let mut retries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        retries.get_mut(path).is_some_and(|retry| retry.due.take_if(|due| *due == number).is_some())
    }

    /// It could be read, or is not there any more. An attempt that is waited for will not be made.
    pub(crate) fn forget(&self, path: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }
}

impl Inner {
    /// Has what lies at `path` read and loaded again after a pause that grows with every failure.
    pub(crate) fn try_again(&self, path: &Path) {
        if self.mode == Mode::Passive {
            return;
        }
        let Some((pause, number)) = self.retries.next(path) else { return };
        let (program, path) = (Weak::clone(&self.loader.program), path.to_path_buf());
        let ending = self.loader.ending.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ending.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let Some(inner) = program.upgrade() else { return };
            if !inner.retries.begin(&path, number) {
                // Loaded by somebody else meanwhile: loading it again would take its state for nothing.
                return;
            }
            if path.symlink_metadata().is_err() {
                // The folder's watcher sees that it went, and when it comes again.
                return inner.retries.forget(&path);
            }
            // Boxed: loading leads here again.
            let wishes = Box::pin(inner.admit(vec![path], &FOLDER.into())).await;
            Box::pin(inner.fulfil_all(wishes)).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_a_bound_and_only_one_waits() {
        let retries = Retries::default();
        let place = Path::new("/plugins/a");
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let (pause, number) = retries.next(place).unwrap();
            pauses.push(pause);
            assert_eq!(retries.next(place), None, "one waits");
            assert!(retries.begin(place, number));
        }
        assert_eq!(pauses[..3], [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]);
        assert_eq!(pauses[39], LONGEST_PAUSE);
        retries.forget(place);
        assert_eq!(retries.next(place).map(|(pause, _)| pause), Some(FIRST_PAUSE));
    }

    #[test]
    fn an_attempt_that_was_forgotten_is_not_made_and_disturbs_no_later_one() {
        let retries = Retries::default();
        let place = Path::new("/plugins/a");
        let (_, forgotten) = retries.next(place).unwrap();
        retries.forget(place);
        assert!(!retries.begin(place, forgotten));
        let (_, later) = retries.next(place).unwrap();
        assert!(!retries.begin(place, forgotten));
        assert_eq!(retries.next(place), None, "the later one still waits");
        assert!(retries.begin(place, later));
        assert!(!retries.begin(place, later), "once");
    }
}
