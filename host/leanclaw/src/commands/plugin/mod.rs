//! `leanclaw plugin ...`: the commands that look at plugins and change what they may do.

mod grant;
mod logs;
mod show;

use anyhow::Result;
use clap::{Args, Subcommand};
use leanclaw_types::{PluginId, PluginKey};

use super::{block_on, configure};
use crate::admin;
use crate::config::{Config, Flags};
use crate::locate::Named;
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the plugins and where each stands
    List(Listing),
    /// Show everything about one plugin
    Inspect(Inspect),
    /// Give a plugin rights that its manifest asks for
    Grant(grant::Grant),
    /// Take rights back
    Revoke(grant::Revoke),
    /// Show what a plugin logged
    Logs(logs::Logs),
    /// Read one plugin, or all, from the folder again
    Reload(Reload),
}

#[derive(Debug, Args)]
pub(crate) struct Listing {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The plugin, with its account if it is not the default one
    #[arg(value_name = "ID[/ACCOUNT]")]
    plugin: PluginKey,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// The plugin; all of them when it is left out
    #[arg(value_name = "ID")]
    plugin: Option<PluginId>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(flags: Flags, command: Command) -> Result<()> {
    let named = Named::by(&flags);
    let config = configure(flags)?;
    block_on(dispatch(&config, named, command))
}

async fn dispatch(config: &Config, named: Named, command: Command) -> Result<()> {
    let mut admin = admin::open(config, named).await?;
    let admin = admin.as_mut();
    match command {
        Command::List(arguments) => {
            let plugins = admin.list().await?;
            show::list(&plugins, arguments.json)
        }
        Command::Inspect(Inspect { plugin, json }) => {
            let plugin = admin.inspect(&plugin).await?;
            if json { output::json(&plugin) } else { output::text(&show::details(&plugin)) }
        }
        Command::Grant(arguments) => grant::grant(admin, &arguments).await,
        Command::Revoke(arguments) => grant::revoke(admin, &arguments).await,
        Command::Logs(arguments) => logs::run(admin, &arguments, &config.time_zone).await,
        Command::Reload(Reload { plugin, json }) => {
            let plugins = admin.reload(plugin.as_ref()).await?;
            show::list(&plugins, json)
        }
    }
}
