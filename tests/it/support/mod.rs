//! What the black-box tests stand on: the real program in folders of its own, a WebSocket client, plain HTTP, and small
//! servers.
//!
//! Nothing here sleeps for a fixed time and hopes: [`eventually`] looks again until something is so. The limits are there
//! to end a test that hangs, and say nothing about how fast the program is.

mod client;
mod device;
mod gateway;
mod guests;
mod http;
mod place;
mod program;
mod record;
mod scratch;
mod server;
mod terminal;

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use client::{Client, Connect};
pub(crate) use device::Device;
pub(crate) use gateway::{Peer, ScriptedGateway};
pub(crate) use guests::{held_fetch, install_guest, manifest};
pub(crate) use http::{Response, raw, request};
pub(crate) use place::{Place, Run, env, run, through};
pub(crate) use program::Program;
pub(crate) use server::{Held, Received, Recorder, Rss};
pub(crate) use terminal::run_at_terminal;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks until there is something to see.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_or(what, async || look().await.ok_or("nothing yet")).await
}

/// Looks until there is something to see; what was seen instead is shown when it does not come.
pub(crate) async fn eventually_or<T, E: std::fmt::Debug>(what: &str, look: impl AsyncFnMut() -> Result<T, E>) -> T {
    eventually_within(PATIENCE, what, look).await
}

/// As [`eventually_or`], with a patience of its own: for compilers.
pub(crate) async fn eventually_within<T, E: std::fmt::Debug>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(instead) if started.elapsed() > patience => {
                panic!("waited {patience:?} for this: {what}; there is: {instead:?}")
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Ends a test that hangs.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("waited {PATIENCE:?} for this: {what}"),
    }
}

/// Says that this test cannot be run here. It ends as if it had passed; `cargo xtask test` counts it as not run.
pub(crate) fn not_run(reason: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("{test}: NOT RUN: {reason}");
    if let Some(list) = std::env::var_os("LEANCLAW_TEST_NOT_RUN") {
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list).expect("it can be noted");
        list.write_all(format!("{test}: {reason}\n").as_bytes()).expect("it can be noted");
    }
}

/// The text in a JSON value.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}
