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
use crate::trust;

/// Time between two looks at something that changed; equal looks mean that it is complete. The tests put whole files
/// into the folder, and wait for many of them.
const SETTLE: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 120 });
/// How often to look where the system gives no notifications.
const POLL: Duration = Duration::from_millis(500);
/// How often to look although the system does notify: a notification can be lost.
const RECHECK: Duration = Duration::from_secs(60);

/// What lies in the folder, by path.
pub(crate) type Contents = BTreeMap<PathBuf, Fingerprint>;

/// What a look found, or why nothing can be said of the folder, with what to do about it.
pub(crate) type Look = Result<Contents, String>;

/// Looks at the folder. A folder that is not there is empty. One that cannot be read, or that others may write to, is
/// neither empty nor to be believed.
///
/// # Errors
/// The reason, for people.
pub(crate) async fn look(folder: &Path) -> Look {
    let folder = folder.to_path_buf();
    let looked = tokio::task::spawn_blocking(move || look_now(&folder));
    looked.await.unwrap_or_else(|error| Err(format!("the plugin folder cannot be looked at: {error}")))
}

fn look_now(folder: &Path) -> Look {
    let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    if folder.symlink_metadata().as_ref().is_err_and(is_gone) {
        return Ok(Contents::new());
    }
    if let Some(reason) = trust::problem(folder) {
        return Err(reason);
    }
    let paths = candidates(folder).map_err(|error| {
        format!(
            "the plugin folder cannot be read: {error}\nhint: what runs goes on; nothing is loaded until it can be read"
        )
    })?;
    Ok(paths.into_iter().map(|path| (path.clone(), Fingerprint::of(&path))).collect())
}

/// Sends the folder's contents whenever they have changed and come to rest, until `stop`; and once, when nothing can be
/// said of it any more. What was known stands until it can be read again.
pub(crate) async fn watch(
    folder: PathBuf,
    mut known: Contents,
    mut trouble: Option<String>,
    settled: mpsc::Sender<Look>,
    stop: CancellationToken,
) {
    let (wake, mut woken) = mpsc::channel::<()>(1);
    let watcher = start_watcher(&folder, wake);
    loop {
        // The first look comes after the watcher is there: what changed before that was not told.
        let rested = tokio::select! {
            () = stop.cancelled() => return,
            rested = come_to_rest(&folder, &mut known, &settled) => rested,
        };
        let said = match &rested {
            Ok(()) if trouble.is_some() => settled.send(Ok(known.clone())).await,
            Err(reason) if trouble.as_ref() != Some(reason) => settled.send(Err(reason.clone())).await,
            _ => Ok(()),
        };
        if said.is_err() {
            return;
        }
        trouble = rested.err();
        let interval = if watcher.is_some() && trouble.is_none() { RECHECK } else { POLL };
        tokio::select! {
            () = stop.cancelled() => return,
            event = woken.recv(), if watcher.is_some() => if event.is_none() { return },
            () = tokio::time::sleep(interval) => {}
        }
    }
}

/// Looks until nothing changes any more, and tells of what changed. Whoever is told having gone away ends it too.
async fn come_to_rest(folder: &Path, known: &mut Contents, settled: &mpsc::Sender<Look>) -> Result<(), String> {
    let mut seen = look(folder).await?;
    loop {
        tokio::time::sleep(SETTLE).await;
        let again = look(folder).await?;
        let rested = at_rest(known, &seen, &again);
        if rested != *known {
            known.clone_from(&rested);
            if settled.send(Ok(rested)).await.is_err() {
                return Ok(());
            }
        }
        // One quiet look is not enough even when nothing has changed: what is written into a new folder before the
        // system watches that folder is not told.
        if again == seen && again == *known {
            return Ok(());
        }
        seen = again;
    }
}

/// What two looks agree on. Of what still changes, the former state stands, so that one plugin that takes long to be
/// written does not hold up the others.
fn at_rest(known: &Contents, seen: &Contents, again: &Contents) -> Contents {
    let paths = known.keys().chain(again.keys());
    let state = |path: &PathBuf| if seen.get(path) == again.get(path) { again.get(path) } else { known.get(path) };
    paths.filter_map(|path| Some((path.clone(), state(path)?.clone()))).collect()
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

    #[test]
    fn what_is_still_written_keeps_its_former_state() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Fingerprint::of(&path)
        };
        let contents = |entries: &[(&str, &Fingerprint)]| -> Contents {
            entries.iter().map(|(name, found)| (PathBuf::from(name), (*found).clone())).collect()
        };
        let (old, half, whole) = (stamp("a", "1"), stamp("a", "12"), stamp("a", "123"));
        let known = contents(&[("a", &old), ("gone", &old)]);
        let seen = contents(&[("a", &half), ("b", &old), ("c", &half)]);
        let again = contents(&[("a", &whole), ("b", &old), ("c", &whole)]);
        assert_eq!(at_rest(&known, &seen, &again), contents(&[("a", &old), ("b", &old)]));
        assert_eq!(at_rest(&known, &again, &again), again);
    }

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
        look(folder.path()).await.unwrap();
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
