//! The command line: what can be typed, and which function each command is.
//!
//! Exit status: 0 when it worked, 1 when it failed, 2 when it was typed wrong, 130 when a person interrupted what it had
//! begun elsewhere. A reader that goes away early (`leanclaw plugin list | head -1`) is no failure.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::commands::gateway::Plain;
use crate::commands::{
    agents, audit, call, channels, chat, completions, db, devices, groups, import, logs, nodes, plugin, sessions,
    settings, start, status, version,
};
use crate::config::Flags;
use crate::output;
use crate::report::{self, Interrupted, Report};
use crate::shutdown;

const EXIT_STATUS: &str = "Exit status: 0 it worked, 1 it failed, 2 it was typed wrong.";

/// A security-first AI assistant runtime
///
/// Without a command, `leanclaw` starts the program.
#[derive(Debug, Parser)]
#[command(name = "leanclaw", version, after_help = EXIT_STATUS)]
pub(crate) struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway and the plugins until a signal stops them
    Start,
    /// Show the settings in effect and where each comes from, and change them
    Config(settings::Arguments),
    /// Show the version
    Version(version::Arguments),
    /// Call a method of a gateway and print its result as JSON
    Call(call::Arguments),
    /// Talk to an agent: send it a message, and print its answer as it is written
    Chat(chat::Arguments),
    /// Show what a gateway has and what waits there
    Status(Plain),
    /// Show whether a gateway is well
    Health(Plain),
    /// Look at the channels of a gateway, start and stop them
    Channels(channels::Arguments),
    /// Manage plugins and what they may do
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Manage the devices that may connect to the gateway
    #[command(visible_alias = "pairing")]
    Devices(devices::Arguments),
    /// Manage the nodes: devices that are asked to do things
    Nodes(nodes::Arguments),
    /// Read the log of the program
    Logs(logs::Arguments),
    /// Look at the sessions of a gateway and change them
    Sessions(sessions::Arguments),
    /// Look at the agents of a gateway and change them
    Agents(agents::Arguments),
    /// Look at the groups of a gateway and change them
    Groups(groups::Arguments),
    /// Read the audit log
    #[command(subcommand)]
    Audit(audit::Command),
    /// Check the databases, copy them while they are in use, put a copy back
    #[command(subcommand)]
    Db(db::Command),
    /// Take in what the TypeScript LeanClaw kept: groups, agents, chats, messages, allowlists
    Import(import::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
}

/// Runs the program: reads the command line, runs the command, reports what went wrong.
#[must_use]
pub fn main() -> ExitCode {
    // Where that cannot be, everything else still works.
    let _unhandled = shutdown::outlive_file_limit();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; when nobody reads them, there is nobody to tell.
            let _unread = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if report::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => ExitCode::from(shutdown::INTERRUPTED),
        Err(error) => {
            output::error(&Report::of(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let Cli { flags, command } = cli;
    match command.unwrap_or(Command::Start) {
        Command::Start => start::run(flags),
        Command::Config(arguments) => settings::run(flags, arguments),
        Command::Version(arguments) => version::run(&arguments),
        Command::Call(arguments) => call::run(flags, arguments),
        Command::Chat(arguments) => chat::run(flags, arguments),
        Command::Status(plain) => status::run(flags, plain),
        Command::Health(plain) => status::health(flags, plain),
        Command::Channels(arguments) => channels::run(flags, arguments),
        Command::Plugin(command) => plugin::run(flags, command),
        Command::Devices(arguments) => devices::run(flags, arguments),
        Command::Nodes(arguments) => nodes::run(flags, arguments),
        Command::Logs(arguments) => logs::run(flags, arguments),
        Command::Sessions(arguments) => sessions::run(flags, arguments),
        Command::Agents(arguments) => agents::run(flags, arguments),
        Command::Groups(arguments) => groups::run(flags, arguments),
        Command::Audit(command) => audit::run(flags, command),
        Command::Db(command) => db::run(flags, command),
        Command::Import(arguments) => import::run(flags, &arguments),
        Command::Completions(arguments) => completions::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_starts_and_settings_may_stand_anywhere() {
        assert!(Cli::try_parse_from(["leanclaw"]).unwrap().command.is_none());
        let cli = Cli::try_parse_from(["leanclaw", "start", "--port", "1"]).unwrap();
        assert_eq!(cli.flags.port.as_deref(), Some("1"));
        let cli = Cli::try_parse_from(["leanclaw", "--port", "1", "plugin", "list"]).unwrap();
        assert_eq!(cli.flags.port.as_deref(), Some("1"));
        assert_eq!(Cli::try_parse_from(["leanclaw", "strat"]).unwrap_err().exit_code(), 2);
    }
}
