//! Trying again what could not be loaded for a reason that may pass: a disk that did not answer says nothing about a
//! plugin, and nobody may be there to reload it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::installed::FOLDER;
use crate::runtime::{Inner, Mode};

/// Pause before the first attempt; it doubles with each that fails. The tests wait for it.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1000 });
/// It grows no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What is tried again, by its place in the folder.
#[derive(Default)]
pub(crate) struct Retries(Mutex<HashMap<PathBuf, Retry>>);

#[derive(Default)]
struct Retry {
    failed: u32,
    /// Somebody waits to try it again.
    is_due: bool,
}

impl Retries {
    /// How long to wait with the next attempt; none when somebody waits already.
    fn next(&self, path: &Path) -> Option<Duration> {
        let mut retries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let retry = retries.entry(path.to_path_buf()).or_default();
        if retry.is_due {
            return None;
        }
        retry.is_due = true;
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(retry.failed)).min(LONGEST_PAUSE);
        retry.failed = retry.failed.saturating_add(1);
        Some(pause)
    }

    fn begun(&self, path: &Path) {
        let mut retries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(retry) = retries.get_mut(path) {
            retry.is_due = false;
        }
    }

    /// It could be read, or is not there any more.
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
        let Some(pause) = self.retries.next(path) else { return };
        let (program, path) = (Weak::clone(&self.loader.program), path.to_path_buf());
        let ending = self.loader.ending.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ending.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let Some(inner) = program.upgrade() else { return };
            inner.retries.begun(&path);
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
            pauses.extend(retries.next(place));
            assert_eq!(retries.next(place), None, "one waits");
            retries.begun(place);
        }
        assert_eq!(pauses[..3], [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]);
        assert_eq!(pauses[39], LONGEST_PAUSE);
        retries.forget(place);
        assert_eq!(retries.next(place), Some(FIRST_PAUSE));
    }
}
