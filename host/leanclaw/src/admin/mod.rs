//! Plugin administration as the command line sees it: one trait, so that a command is the same whether a running program
//! does the work or the command does it on the stored data itself.

mod offline;
mod online;

pub(crate) use offline::{Offline, operator};
pub(crate) use online::Online;

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::{LogLine, PluginInfo, Purged};
use leanclaw_types::{PluginId, PluginKey};
use serde::Deserialize;

use crate::client::{ClientError, GatewayClient};
use crate::config::Config;
use crate::locate::{self, Named, Place};
use crate::lock::{LockError, Note};
use crate::report::Advice;

/// How long one administrative call may take. A reload compiles plugins, which takes seconds each.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// How often a running program and the stored data are tried in turn, while programs start and stop.
const ATTEMPTS: u32 = 5;
/// How long a program that is starting is waited for: five seconds.
const STARTING_ATTEMPTS: u32 = 100;
const STARTING_PAUSE: Duration = Duration::from_millis(50);

/// A package in the plugin folder that no plugin came of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Refused {
    /// Its folder or file.
    #[serde(rename = "source")]
    pub(crate) path: String,
    /// Why it was refused.
    pub(crate) reason: String,
}

/// What the plugin folder holds.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Every plugin and account.
    pub(crate) plugins: Vec<PluginInfo>,
    /// What was refused as a whole, so that there is not even a plugin with a reason.
    pub(crate) refused: Vec<Refused>,
}

/// What can be asked about plugins and done to them. Rights are checked by whoever implements it, not by the commands.
#[async_trait]
pub(crate) trait PluginAdmin: Send {
    /// Every plugin and account, and what was refused.
    async fn list(&mut self) -> Result<Folder>;

    /// One plugin and account.
    async fn inspect(&mut self, key: &PluginKey) -> Result<PluginInfo>;

    /// Gives rights; where the plugin stands afterwards.
    async fn grant(&mut self, key: &PluginKey, change: &GrantChange) -> Result<PluginInfo>;

    /// Takes rights back; where the plugin stands afterwards, if it is installed at all.
    async fn revoke(&mut self, key: &PluginKey, change: &GrantChange) -> Result<Option<PluginInfo>>;

    /// The newest `limit` log lines (1 to 5000), oldest first; only those after `after_seq` when it is given.
    async fn logs(&mut self, plugin: &PluginId, after_seq: Option<u64>, limit: u32) -> Result<Vec<LogLine>>;

    /// Deletes what is kept of a plugin that is not installed any more.
    async fn purge(&mut self, plugin: &PluginId) -> Result<Purged>;

    /// Reads one plugin, or all, from the folder again; where they stand afterwards, and all that is refused.
    async fn reload(&mut self, plugin: Option<&PluginId>) -> Result<Folder>;

    /// Finishes what was written. Whoever is asked nothing more should be closed.
    async fn close(&mut self) {}
}

/// Finds whoever administers the plugins of this configuration: the running program, else this command itself on what
/// is stored.
pub(crate) async fn open(config: &Config, named: Named) -> Result<Box<dyn PluginAdmin>> {
    let mut attempts_left = ATTEMPTS;
    loop {
        if let Some(online) = running(config, named, TIMEOUT).await? {
            return Ok(Box::new(online));
        }
        attempts_left -= 1;
        match Offline::begin(config) {
            // A program started in between: it is the one to be asked.
            Err(error) if attempts_left > 0 && error.is::<LockError>() => {}
            begun => return Ok(Box::new(begun?)),
        }
    }
}

/// As [`open`], for a command that has changed what is stored: a program with another data directory knows nothing of it.
pub(crate) async fn open_here(config: &Config, named: Named) -> Result<Box<dyn PluginAdmin>> {
    if is_elsewhere(config, named)? {
        return Ok(Box::new(Offline::begin(config)?));
    }
    open(config, named).await
}

/// As [`running`], but only a program with this data directory, or the one that the command line names.
pub(crate) async fn running_here(config: &Config, named: Named, timeout: Duration) -> Result<Option<Online>> {
    if is_elsewhere(config, named)? { Ok(None) } else { running(config, named, timeout).await }
}

/// Whether only a program with another data directory can be running at the configured address.
pub(crate) fn is_elsewhere(config: &Config, named: Named) -> Result<bool> {
    Ok(matches!(locate::find(config, named)?, Place::Perhaps(_)) && !named.gateway())
}

/// The program that runs, if one does. `timeout` holds for the connection, and again for each answer.
///
/// # Errors
/// One runs and cannot be asked; or the command line names a gateway and nothing answers there.
pub(crate) async fn running(config: &Config, named: Named, timeout: Duration) -> Result<Option<Online>> {
    let mut attempts_left = STARTING_ATTEMPTS;
    loop {
        let (target, note) = match locate::find(config, named)? {
            Place::Running(target, note) => (target, Some(note)),
            Place::Perhaps(target) => (target, None),
            Place::Stored => return Ok(None),
        };
        let error = match GatewayClient::connect(&target, timeout).await {
            Ok(client) => return Ok(Some(Online::new(client))),
            Err(error @ ClientError::NotListening { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        attempts_left -= 1;
        match note {
            // It is starting, and will say where it listens in a moment.
            Some(note) if note.gateway.is_none() && attempts_left > 0 => tokio::time::sleep(STARTING_PAUSE).await,
            Some(note) => return Err(unreachable(note, error)),
            None if named.gateway() => return Err(error.into()),
            None => return Ok(None),
        }
    }
}

/// A program runs, and its gateway is not where it should be.
fn unreachable(note: Note, error: ClientError) -> anyhow::Error {
    let pid = note.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    let hint = "it may be starting or stopping: try again, and look at its log";
    let advice = Advice::new(format!("LeanClaw runs with this data directory{pid}, but {error}")).hint(hint);
    advice.into()
}
