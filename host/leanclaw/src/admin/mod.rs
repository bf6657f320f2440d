//! Plugin administration as the command line sees it: one trait, so that a command is the same whether a running program
//! does the work or the command does it on the stored data itself.

mod offline;
mod online;

pub(crate) use offline::{Offline, operator};
pub(crate) use online::Online;

use anyhow::Result;
use async_trait::async_trait;
use leanclaw_types::permission::GrantChange;
use leanclaw_types::plugin::{LogLine, PluginInfo};
use leanclaw_types::{PluginId, PluginKey};

use crate::client::{ClientError, GatewayClient};
use crate::config::Config;
use crate::locate::{self, Named, Place};
use crate::lock::Note;
use crate::report::Advice;

/// How long one administrative call may take. A reload compiles plugins, which takes seconds each.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(120);

/// What can be asked about plugins and done to them. Rights are checked by whoever implements it, not by the commands.
#[async_trait]
pub(crate) trait PluginAdmin: Send {
    /// Every plugin and account.
    async fn list(&mut self) -> Result<Vec<PluginInfo>>;

    /// One plugin and account.
    async fn inspect(&mut self, key: &PluginKey) -> Result<PluginInfo>;

    /// Gives rights; where the plugin stands afterwards.
    async fn grant(&mut self, key: &PluginKey, change: &GrantChange) -> Result<PluginInfo>;

    /// Takes rights back; where the plugin stands afterwards.
    async fn revoke(&mut self, key: &PluginKey, change: &GrantChange) -> Result<PluginInfo>;

    /// The newest `limit` log lines (1 to 5000), oldest first; only those after `after_seq` when it is given.
    async fn logs(&mut self, plugin: &PluginId, after_seq: Option<u64>, limit: u32) -> Result<Vec<LogLine>>;

    /// Reads one plugin, or all, from the folder again; where they stand afterwards.
    async fn reload(&mut self, plugin: Option<&PluginId>) -> Result<Vec<PluginInfo>>;

    /// Finishes what was written. Whoever is asked nothing more should be closed.
    async fn close(&mut self) {}
}

/// Finds whoever administers the plugins of this configuration: the running program, else this command itself on what
/// is stored.
pub(crate) async fn open(config: &Config, named: Named) -> Result<Box<dyn PluginAdmin>> {
    Ok(match running(config, named).await? {
        Some(online) => Box::new(online),
        None => Box::new(Offline::new(config.clone())),
    })
}

/// The program that runs, if one does.
///
/// # Errors
/// One runs and cannot be asked; or the command line names a gateway and nothing answers there.
pub(crate) async fn running(config: &Config, named: Named) -> Result<Option<Online>> {
    match locate::find(config, named)? {
        Place::Running(target, note) => match GatewayClient::connect(&target, TIMEOUT).await {
            Ok(client) => Ok(Some(Online::new(client))),
            Err(error @ ClientError::NotListening { .. }) => Err(unreachable(note, error)),
            Err(error) => Err(error.into()),
        },
        Place::Perhaps(target) => match GatewayClient::connect(&target, TIMEOUT).await {
            Ok(client) => Ok(Some(Online::new(client))),
            Err(ClientError::NotListening { .. }) if !named.gateway() => Ok(None),
            Err(error) => Err(error.into()),
        },
        Place::Stored => Ok(None),
    }
}

/// A program runs, and its gateway is not where it should be.
fn unreachable(note: Note, error: ClientError) -> anyhow::Error {
    let pid = note.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    let hint = "it may be starting or stopping: try again, and look at its log";
    let advice = Advice::new(format!("LeanClaw runs with this data directory{pid}, but {error}")).hint(hint);
    advice.into()
}
