//! Watches the plugin folder and says when something in it has changed and come to rest.
//!
//! The operating system's notifications only wake it up; what counts is a look at the files. Something that still
//! changes between two looks is being written, and is looked at again before anyone reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::package::{Fingerprint, candidates};

/// Time between two looks at something that changed; equal looks mean that it is complete.
const SETTLE: Duration = Duration::from_millis(120);
/// How often to look where the system gives no notifications.
const POLL: Duration = Duration::from_millis(500);
/// How often to look although the system does notify: a notification can be lost.
const RECHECK: Duration = Duration::from_secs(60);

/// What lies in the folder, by path.
pub(crate) type Contents = BTreeMap<PathBuf, Fingerprint>;

/// Looks at the folder. A folder that is not there is empty.
pub(crate) async fn look(folder: &Path) -> Contents {
    let folder = folder.to_path_buf();
    let looked = tokio::task::spawn_blocking(move || {
        let paths = candidates(&folder).unwrap_or_default();
        paths.into_iter().map(|path| (path.clone(), Fingerprint::of(&path))).collect()
    });
    looked.await.unwrap_or_default()
}

/// Sends the folder's contents whenever they have changed and come to rest, until `stop`.
pub(crate) async fn watch(
    folder: PathBuf,
    mut known: Contents,
    settled: mpsc::Sender<Contents>,
    stop: CancellationToken,
) {
    let (wake, mut woken) = mpsc::channel::<()>(1);
    let watcher = start_watcher(&folder, wake);
    let interval = if watcher.is_some() { RECHECK } else { POLL };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            event = woken.recv(), if watcher.is_some() => if event.is_none() { return },
            () = tokio::time::sleep(interval) => {}
        }
        let mut seen = look(&folder).await;
        while seen != known {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SETTLE) => {}
            }
            let again = look(&folder).await;
            if again == seen {
                known.clone_from(&seen);
                if settled.send(seen.clone()).await.is_err() {
                    return;
                }
            }
            seen = again;
        }
    }
}

/// Whether a notification tells of a change. Reading does not count: every look opens the folder, and would lead to the
/// next look without end.
fn may_change_contents(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

fn start_watcher(folder: &Path, wake: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may stand for lost notifications.
        if event.map_or(true, |event| may_change_contents(event.kind)) {
            // A full channel means that a look is due already.
            let _ = wake.try_send(());
        }
    });
    let watched = made.and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    match watched {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "no change notifications for the plugin folder; looking every {POLL:?} instead");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look must not wake the watcher that asked for it: the program would look without end.
    #[tokio::test]
    async fn looking_wakes_nobody_and_writing_does() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("plugin")).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let _ = tell.send(event.unwrap());
        })
        .unwrap();
        watcher.watch(folder.path(), RecursiveMode::Recursive).unwrap();
        look(folder.path()).await;
        let marker = folder.path().join("plugin/leanclaw.plugin.json");
        std::fs::write(&marker, "{}").unwrap();
        let mut woken = Vec::new();
        while !woken.contains(&EventKind::Access(AccessKind::Close(AccessMode::Write))) {
            let event = told.recv_timeout(Duration::from_secs(20)).unwrap();
            let about_marker = event.paths.contains(&marker);
            if may_change_contents(event.kind) {
                assert!(about_marker, "{event:?}");
                woken.push(event.kind);
            }
        }
    }
}
