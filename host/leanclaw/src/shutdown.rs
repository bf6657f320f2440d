//! Signals: which end the program, and how.
//!
//! SIGTERM and SIGINT become a cancellation that every part of the program listens to. The first one asks for an orderly
//! end; a second one ends the process at once with status 130, for when the orderly end takes too long. A limit on the size
//! of files does not end it at all.

use std::io;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit status after an interrupt that did not end in order, as shells report it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Has a write beyond the limit on the size of files (`ulimit -f`) fail from here on, as any other write that the system
/// refuses does; without this it ends the process and nobody is told why. Programs that are started get the signal as
/// usual: a handler, unlike a signal that is ignored, is not handed on to them.
///
/// # Errors
/// When the handler cannot be installed.
pub fn outlive_file_limit() -> io::Result<()> {
    // The handler stays when the runtime that it was installed in is gone and nobody listens any more.
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(drop)
}

/// Listens for signals from here on; the token is cancelled by the first one.
///
/// Runs inside a tokio runtime.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut signals =
        Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        stop.cancel();
        let name = signals.next().await;
        tracing::warn!(signal = name, "stopped without waiting");
        std::process::exit(INTERRUPTED.into());
    });
    Ok(token)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
