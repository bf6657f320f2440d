//! Processes: what this one may be looked at by, the children it starts, and, as the first process of a container, the orphans
//! that are left to it.
//!
//! Whoever waits for any child takes the exit status from whoever started that one. So all waiting happens under one lock, and
//! what was collected for somebody else is kept for them.

use std::collections::HashMap;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};

/// How often the first process of a container looks for orphans.
const REAPING_EVERY: Duration = Duration::from_millis(500);
/// How often somebody who waits for a killed child looks.
const TICK: Duration = Duration::from_millis(2);

/// The children that somebody waits for, with their exit status once it was collected.
static OWNED: LazyLock<Mutex<HashMap<i32, Option<ExitStatus>>>> = LazyLock::new(Mutex::default);

fn all_owned() -> MutexGuard<'static, HashMap<i32, Option<ExitStatus>>> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that somebody waits for; killed with its group when it is dropped.
pub(crate) struct Owned {
    pid: Pid,
    child: Mutex<Child>,
}

impl Owned {
    /// Starts `command`, which must ask for a process group of its own.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut owned = all_owned();
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the child has no process id"))?;
        owned.insert(pid.as_raw_pid(), None);
        Ok(Self { pid, child: Mutex::new(child) })
    }

    /// Its exit status, once it has ended.
    pub(crate) fn ended(&self) -> io::Result<Option<ExitStatus>> {
        let mut owned = all_owned();
        if let Some(Some(status)) = owned.get(&self.pid.as_raw_pid()) {
            return Ok(Some(*status));
        }
        let status = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
        owned.insert(self.pid.as_raw_pid(), status);
        Ok(status)
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            thread::sleep(TICK);
        }
    }

    /// Kills every process in its group.
    pub(crate) fn kill_group(&self) {
        // There may be none left.
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if matches!(self.ended(), Ok(None)) {
            self.kill_group();
            let _ = self.wait();
        }
        all_owned().remove(&self.pid.as_raw_pid());
    }
}

/// Keeps other processes of the same user from reading this one's memory and descriptors. Without it a tool could write to
/// the host in the agent's name through `/proc`.
///
/// # Errors
/// When the system refuses; then nothing else may be started.
pub fn keep_private() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Collects orphans from now on, if this is the first process of its container.
pub fn reap_if_first() {
    if rustix::process::getpid().is_init() {
        thread::spawn(|| {
            loop {
                reap_orphans();
                thread::sleep(REAPING_EVERY);
            }
        });
    }
}

/// Collects every child that has ended.
fn reap_orphans() {
    let mut owned = all_owned();
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if let Some(kept) = owned.get_mut(&pid.as_raw_pid()) {
            *kept = Some(ExitStatus::from_raw(status.as_raw()));
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;

    /// Orphans come to this process here as they come to the first one of a container.
    #[test]
    fn orphans_are_collected_and_nobody_loses_an_exit_status() {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("orphan");
        // The child gives its own child away and goes on for a while.
        let script = format!("(sleep 0.1 & echo $! > {}); sleep 0.5; exit 7", note.display());
        let owned = Owned::spawn(Command::new("/bin/sh").args(["-c", &script]).process_group(0)).unwrap();
        let mut status = None;
        for _ in 0..1000 {
            reap_orphans();
            status = owned.ended().unwrap();
            if status.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(status.unwrap().code(), Some(7));
        reap_orphans();
        let orphan = std::fs::read_to_string(note).unwrap();
        assert!(!std::path::Path::new(&format!("/proc/{}", orphan.trim())).exists(), "no zombie is left");
    }
}
