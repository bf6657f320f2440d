//! One module per command: its arguments and what it does. Only these modules print, through [`crate::output`].

use std::path::Path;

use anyhow::{Context as _, Result};
use leanclaw_store::Store;
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::clock::{Clock as _, SystemClock};

use crate::config::{self, Flags, Resolution, Sources};
use crate::output;

pub(crate) mod agents;
pub(crate) mod audit;
pub(crate) mod call;
pub(crate) mod channels;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod db;
pub(crate) mod devices;
mod fields;
pub(crate) mod gateway;
pub(crate) mod groups;
pub(crate) mod import;
pub(crate) mod logs;
pub(crate) mod nodes;
mod pairing;
pub(crate) mod plugin;
pub(crate) mod sessions;
pub(crate) mod settings;
mod settings_edit;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod version;

/// Who acts in the audit rows of commands that work on the stored data themselves.
pub(crate) const ACTOR: &str = "client:cli";

/// Adds a row to the audit log of a data directory, for a command that changed something there itself.
async fn write_down(data_dir: &Path, event: AuditEvent) -> Result<()> {
    let record = AuditRecord { at_ms: SystemClock.now_ms(), actor: ACTOR.to_owned(), event };
    let store = Store::open(data_dir)?;
    store.append_audit(record).await?;
    store.close().await;
    Ok(())
}

/// Resolves the settings of this process; warnings are left to the caller.
fn resolve(flags: Flags) -> Result<Resolution> {
    Ok(config::resolve(&sources(flags)?)?)
}

/// What the settings of this process are resolved from.
fn sources(flags: Flags) -> Result<Sources> {
    Sources::of_process(flags).context("the working directory cannot be told")
}

/// Resolves the settings of this process for a command that a person runs: warnings go to standard error.
fn configure(flags: Flags) -> Result<config::Config> {
    let resolution = resolve(flags)?;
    for warning in &resolution.warnings {
        output::warning(warning);
    }
    Ok(resolution.config)
}

/// Runs asynchronous work to its end on this thread.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("no runtime could be made")?.block_on(work)
}
