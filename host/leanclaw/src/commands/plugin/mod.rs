//! `leanclaw plugin ...`: the commands that look at plugins and change what they may do, and those that make, try and
//! install them.

mod build;
mod check;
mod dev;
mod grant;
mod install;
mod kept;
mod live;
mod logs;
mod new;
mod news;
mod run;
mod secret;
mod show;

use anyhow::Result;
use clap::{Args, Subcommand};
use leanclaw_types::{PluginId, PluginKey};

use super::{block_on, configure};
use crate::admin::{self, PluginAdmin};
use crate::config::{Config, Flags};
use crate::locate::Named;
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new plugin that builds as it is
    New(new::New),
    /// Build a plugin and make it ready to be installed
    Build(build::Build),
    /// Tell whether this host would run a plugin, what it needs and what it offers
    Check(check::Check),
    /// Call a plugin once, without installing it
    Run(run::Run),
    /// Build and swap a plugin at every change of its sources
    Dev(dev::Dev),
    /// Put a plugin into the plugin folder
    Install(install::Install),
    /// Take a plugin out of the plugin folder
    Remove(install::Remove),
    /// Manage the secrets that the host uses for a plugin
    #[command(subcommand)]
    Secret(secret::Command),
    #[command(flatten)]
    Administer(Administer),
}

/// The commands that are one question or one change.
#[derive(Debug, Subcommand)]
pub(crate) enum Administer {
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
    /// Print JSON: a list of plugins; a package that was refused is an entry with "state": "refused" and no id
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
    /// Print JSON, as `plugin list --json` does
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(flags: Flags, command: Command) -> Result<()> {
    let named = Named::by(&flags);
    // A new plugin needs no settings, and settings that are wrong must not be in its way.
    if let Command::New(arguments) = &command {
        return new::run(arguments);
    }
    let config = configure(flags)?;
    block_on(async {
        match &command {
            Command::New(arguments) => new::run(arguments),
            Command::Build(arguments) => build::run(&config, arguments),
            Command::Check(arguments) => check::run(&config, arguments).await,
            Command::Run(arguments) => run::run(&config, arguments).await,
            Command::Dev(arguments) => dev::run(&config, named, arguments).await,
            Command::Install(arguments) => install::install(&config, named, arguments).await,
            Command::Remove(arguments) => install::remove(&config, named, arguments).await,
            Command::Secret(command) => secret::run(&config, named, command).await,
            Command::Administer(command) => {
                let mut admin = admin::open(&config, named).await?;
                let done = administer(admin.as_mut(), (&config, named), command).await;
                admin.close().await;
                done
            }
        }
    })
}

async fn administer(
    admin: &mut dyn PluginAdmin,
    (config, named): (&Config, Named),
    command: &Administer,
) -> Result<()> {
    match command {
        Administer::Inspect(Inspect { plugin, json }) => {
            let plugin = admin.inspect(plugin).await?;
            if *json { output::json(&plugin) } else { output::text(&show::details(&plugin)) }
        }
        Administer::Grant(arguments) => grant::grant(admin, arguments).await,
        Administer::Revoke(arguments) => grant::revoke(admin, arguments).await,
        Administer::Logs(arguments) => logs::run(admin, arguments, &config.time_zone).await,
        Administer::Reload(Reload { plugin, json }) => {
            let folder = admin.reload(plugin.as_ref()).await?;
            show::list(&folder, *json)
        }
        Administer::List(Listing { json }) => {
            let folder = admin.list().await?;
            show::list(&folder, *json)?;
            kept::note(config, named, &folder.plugins).await
        }
    }
}
