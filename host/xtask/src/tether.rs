//! Programs that end when this one does, however it ends: with an error, by Ctrl-C, by `kill -9`.
//!
//! Such a program runs below a second process of this one, which holds the reading end of a pipe and ends the program once
//! nobody holds the other end. The kernel closes that with the process that had it, so nothing has to be done in time.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::arguments::Arguments;
use crate::repository::Repository;

/// The command of the second process, which is told the program and its arguments; not for people.
pub(crate) const COMMAND: &str = "tether";
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The exit status of a program that a signal ended, and of one that was ended here.
const ENDED: u8 = 255;

/// A program on its tether. Dropping it ends the program and waits for that.
pub(crate) struct Tethered(Child);

impl Tethered {
    /// Starts `program`; the other arguments are added, and its outputs set, by `shape`.
    pub(crate) fn start(repository: &Repository, program: &OsStr, shape: impl FnOnce(&mut Command)) -> Result<Self> {
        let own = std::env::current_exe().context("cannot find this program's own path")?;
        let mut command = repository.command(own);
        command.arg(COMMAND).arg(program);
        shape(&mut command);
        let child = command.stdin(Stdio::piped()).spawn();
        child.map(Self).with_context(|| format!("cannot run {}", program.display()))
    }

    /// How it ended; none while it runs.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// Has it ended soon.
    pub(crate) fn let_go(&mut self) {
        drop(self.0.stdin.take());
    }
}

impl Drop for Tethered {
    fn drop(&mut self) {
        self.let_go();
        // There is nobody left to tell.
        let _ = self.0.wait();
    }
}

/// The second process.
pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let program = arguments.next().context("the program to run is missing")?;
    let mut command = Command::new(&program);
    let child = command.args(arguments.rest()).stdin(Stdio::null()).spawn();
    let child = child.with_context(|| format!("cannot run {program}"))?;
    watch(child, io::stdin()).map(ExitCode::from)
}

/// Waits for the end of `child` and gives its exit status; ends it when `tether` comes to its end first.
fn watch(mut child: Child, mut tether: impl Read + Send + 'static) -> Result<u8> {
    let (held, is_held) = mpsc::channel::<()>();
    thread::spawn(move || {
        // However it ends, it is not held any more.
        let _ = io::copy(&mut tether, &mut io::sink());
        drop(held);
    });
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(ENDED));
        }
        if let Err(RecvTimeoutError::Disconnected) = is_held.recv_timeout(POLL_INTERVAL) {
            child.kill()?;
            child.wait()?;
            return Ok(ENDED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_program_ends_when_nobody_holds_it() {
        let mut child = shell("echo begun; exec sleep 600");
        let mut output = child.stdout.take().unwrap();
        let mut begun = [0; 6];
        output.read_exact(&mut begun).unwrap();
        assert_eq!(watch(child, io::empty()).unwrap(), ENDED);
        // Its end of the pipe is closed: it is gone.
        assert_eq!(output.read(&mut begun).unwrap(), 0);
    }

    #[test]
    fn a_program_that_is_held_ends_by_itself() {
        let (held, _holder) = io::pipe().unwrap();
        assert_eq!(watch(shell("exit 77"), held).unwrap(), 77);
    }
}
