//! Developer commands: `cargo xtask <command>`.
//!
//! Owns what a fresh clone needs before LeanClaw runs: the `wasm32-wasip2` target, the JavaScript and Python component
//! tools, the agent's component, the example plugins, the test suites and the release archive. It refuses to know how the host works: it builds
//! the `leanclaw` binary and talks to it through its command line only, and depends on no crate of the workspace.

mod agent;
mod archive;
mod arguments;
mod bench;
mod component;
mod dist;
mod fingerprint;
mod fuzz;
mod interpreter;
mod plugins;
mod repository;
mod setup;
mod stand_in;
mod start;
mod suites;
mod tether;
mod toolchain;
mod tools;
mod ui;
mod wasm_target;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::arguments::Arguments;
use crate::repository::Repository;

/// One command: its name, how its arguments look, what it does (a line of the help), and the function behind it.
struct Command {
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    run: fn(&Repository, Arguments) -> Result<ExitCode>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "start",
        arguments: "[leanclaw start arguments]",
        summary: "set up, build, and run the gateway with the example plugins",
        run: start::run,
    },
    Command {
        name: "test",
        arguments: "[suite...] [--list]",
        summary: "set up, build, and run every test suite, or those named",
        run: suites::run,
    },
    Command {
        name: "setup",
        arguments: "[--sysroot DIR] [--tools auto|packages|cargo] [--pack FILE] [--remove]",
        summary: "provide the wasm32-wasip2 target and the JavaScript and Python component tools",
        run: setup::run,
    },
    Command {
        name: "build",
        arguments: "",
        summary: "set up, then build the leanclaw binary, the agent and the example plugins",
        run: plugins::run,
    },
    Command {
        name: "bench",
        arguments: "gateway|plugins [--only PART] [--quick] [--check]",
        summary: "build the benchmarks in release mode and run them",
        run: bench::run,
    },
    Command {
        name: "fuzz",
        arguments: "[target...] [--seconds N] | target --input FILE",
        summary: "build the fuzz targets and run each, or those named, for a minute",
        run: fuzz::run,
    },
    Command { name: "dist", arguments: "", summary: "build the release archive in target/dist", run: dist::run },
];

fn help() -> String {
    let mut text = String::from("usage: cargo xtask <command> [arguments]\n");
    for command in COMMANDS {
        text.push_str(&format!("\n  {:<6} {}", command.name, command.summary));
    }
    text.push_str("\n  help   this list; `cargo xtask <command> --help` shows a command's arguments");
    text
}

fn dispatch(mut arguments: Arguments) -> Result<ExitCode> {
    let Some(name) = arguments.next() else {
        ui::print(&help());
        return Ok(ExitCode::FAILURE);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        ui::print(&help());
        return Ok(ExitCode::SUCCESS);
    }
    if name == start::GRANT_COMMAND {
        return start::grant_examples(&Repository::locate()?, arguments);
    }
    if name == start::DETACH_COMMAND {
        return start::detach(arguments);
    }
    if name == tether::COMMAND {
        return tether::run(arguments);
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        bail!("there is no command `{name}`\n\n{}", help());
    };
    if command.name != "bench" && arguments.wants_help() {
        ui::print(&format!("usage: cargo xtask {} {}\n\n{}", command.name, command.arguments, command.summary));
        return Ok(ExitCode::SUCCESS);
    }
    (command.run)(&Repository::locate()?, arguments)
}

fn main() -> ExitCode {
    match dispatch(Arguments::from_process()) {
        Ok(code) => code,
        Err(error) => {
            ui::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
