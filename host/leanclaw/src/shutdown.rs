//! Turns SIGTERM and SIGINT into a cancellation that every part of the program listens to.
//!
//! The first signal asks for an orderly end; a second one ends the process at once with status 130, for when the
//! orderly end takes too long. It also keeps a limit on the size of files from ending the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit status after a second signal, as shells report an interrupt.
const INTERRUPTED: i32 = 130;

/// Listens for signals from here on; the token is cancelled by the first one.
///
/// Runs inside a tokio runtime.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut signals =
        Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    // What is listened for no longer ends the process: the write fails instead, and is answered for like any other.
    let file_too_large = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let _kept = file_too_large;
        let name = signals.next().await;
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        stop.cancel();
        let name = signals.next().await;
        tracing::warn!(signal = name, "stopped without waiting");
        std::process::exit(INTERRUPTED);
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
