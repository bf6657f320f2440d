//! The command line, and where things lie.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Calls of a whole soak.
const SOAK_CALLS: u64 = 1_000_000;
/// Calls of a quick one.
const QUICK_SOAK_CALLS: u64 = 200_000;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", about = "Measures LeanClaw, each figure beside a reference from the same run")]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Plugins: instances, calls, the WebSocket, start, memory, the folder, soak.
    Plugins(Plugins),
    /// The gateway: calls, sessions, handshakes, HTTP, start, memory, events.
    Gateway(Gateway),
    /// A bare engine with components loaded, until its input ends: the reference for memory.
    #[command(hide = true)]
    ReferenceEngine {
        /// Component files.
        components: Vec<PathBuf>,
    },
}

/// `bench plugins`.
#[derive(Debug, Args)]
pub(crate) struct Plugins {
    /// Only this part.
    #[arg(long)]
    pub(crate) only: Option<Suite>,
    /// Fewer rounds: a first look, not figures to quote.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Ends with exit code 1 when a figure misses its target.
    #[arg(long)]
    pub(crate) check: bool,
    /// Calls of the soak; the first 100000 (at most a tenth) are warm-up.
    #[arg(long)]
    pub(crate) calls: Option<u64>,
}

impl Plugins {
    pub(crate) fn soak_calls(&self) -> u64 {
        self.calls.unwrap_or(if self.quick { QUICK_SOAK_CALLS } else { SOAK_CALLS })
    }
}

/// A part of `bench plugins`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// A fresh instance per call.
    Fresh,
    /// A resident instance.
    Resident,
    /// Methods through the WebSocket.
    Socket,
    /// Start time and memory.
    Start,
    /// A plugin beside another that spins.
    Beside,
    /// Plugins put into the folder, replaced and removed.
    Folder,
    /// Many calls with traps and timeouts.
    Soak,
}

impl Suite {
    pub(crate) const ALL: [Self; 7] =
        [Self::Fresh, Self::Resident, Self::Socket, Self::Beside, Self::Start, Self::Folder, Self::Soak];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Resident => "resident",
            Self::Socket => "socket",
            Self::Start => "start",
            Self::Beside => "beside",
            Self::Folder => "folder",
            Self::Soak => "soak",
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Fresh => "a call on a fresh instance against the bare engine's cycle",
            Self::Resident => "a call on a resident instance against the bare engine's call",
            Self::Socket => "a plugin's method against `health` on the same WebSockets",
            Self::Start => "time from exec to ready, and memory",
            Self::Beside => "calls of a plugin while guests of another spin",
            Self::Folder => "time from a change of the plugin folder to the answer",
            Self::Soak => "memory over many calls with traps and timeouts",
        }
    }
}

/// Idle connections of a whole run.
const IDLE: usize = 5000;
/// Of a quick one.
const QUICK_IDLE: usize = 1000;

/// `bench gateway`.
#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// Only this part; may be named more than once.
    #[arg(long)]
    pub(crate) only: Vec<Part>,
    /// Fewer rounds: a first look, not figures to quote.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Ends with exit code 1 when a figure misses its target.
    #[arg(long)]
    pub(crate) check: bool,
    /// Idle connections; 5000, or 1000 of a quick run.
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=16_000))]
    pub(crate) connections: Option<usize>,
    /// Stored sessions that lists are compared with; 100000, or 10000 of a quick run.
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) sessions: Option<usize>,
}

impl Gateway {
    pub(crate) fn connections(&self) -> usize {
        self.connections.unwrap_or(if self.quick { QUICK_IDLE } else { IDLE })
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.unwrap_or(if self.quick { 10_000 } else { 100_000 })
    }

    /// The parts to measure, in their order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().filter(|part| self.only.is_empty() || self.only.contains(part))
    }
}

/// A part of `bench gateway`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The method `health`.
    Health,
    /// The method `sessions.list`.
    Sessions,
    /// Handshakes.
    Handshakes,
    /// `GET /health`.
    Http,
    /// Start time and memory.
    Start,
    /// Memory of idle connections.
    Idle,
    /// An event for many clients.
    Broadcast,
    /// OpenClaw's own gateway, where it is installed.
    Openclaw,
}

impl Part {
    const ALL: [Self; 8] = [
        Self::Health,
        Self::Sessions,
        Self::Handshakes,
        Self::Http,
        Self::Start,
        Self::Idle,
        Self::Broadcast,
        Self::Openclaw,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Sessions => "sessions",
            Self::Handshakes => "handshakes",
            Self::Http => "http",
            Self::Start => "start",
            Self::Idle => "idle",
            Self::Broadcast => "broadcast",
            Self::Openclaw => "openclaw",
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Health => "`health` against a bare WebSocket that answers with as many bytes",
            Self::Sessions => "`sessions.list` against a bare WebSocket, and with many sessions against few",
            Self::Handshakes => "handshakes with a device's signature against bare upgrades",
            Self::Http => "`GET /health` against a bare route",
            Self::Start => "time from exec to ready, and memory, without plugins",
            Self::Idle => "memory of idle connections against a bare WebSocket's with small buffers",
            Self::Broadcast => "an event for a thousand clients",
            Self::Openclaw => "`health` beside a real OpenClaw gateway",
        }
    }
}

/// Where things lie in the clone.
#[derive(Debug)]
pub(crate) struct Places {
    /// The clone.
    pub(crate) root: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
    /// Where this program and those it starts lie.
    pub(crate) programs: PathBuf,
    /// Where the bench keeps what it makes.
    pub(crate) output: PathBuf,
}

impl Places {
    /// Finds the clone by this package's folder and the target folder by this program's own place in it.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("not inside a clone")?.to_owned();
        let program = std::env::current_exe().context("this program's own path is unknown")?;
        let programs = program.parent().context("this program lies nowhere")?.to_owned();
        let target = programs.parent().context("this program lies outside a target folder")?.to_owned();
        let output = target.join("bench");
        std::fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
        Ok(Self { root, target, programs, output })
    }

    /// A program built beside this one.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.programs.join(name);
        if !path.is_file() {
            bail!("{} is not there; `cargo xtask bench` builds it", path.display());
        }
        Ok(path)
    }

    /// The example plugins, built by `cargo xtask`.
    pub(crate) fn examples(&self) -> PathBuf {
        let beside = self.target.join("plugins");
        // A target folder of one's own for a trial build has no plugins in it.
        if beside.is_dir() { beside } else { self.root.join("target/plugins") }
    }

    /// The component tools, installed by `cargo xtask setup`.
    pub(crate) fn tools(&self) -> PathBuf {
        let beside = self.target.join("tools/bin");
        if beside.is_dir() { beside } else { self.root.join("target/tools/bin") }
    }

    /// The programs of an OpenClaw, where `cargo xtask test clients` installed it.
    pub(crate) fn openclaw(&self) -> Option<PathBuf> {
        let folder =
            std::env::var_os("LEANCLAW_TEST_CLIENTS").map_or_else(|| self.target.join("clients"), PathBuf::from);
        let programs = folder.join("openclaw-v4/node_modules/.bin");
        programs.join("openclaw").exists().then_some(programs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(arguments: &[&str]) -> Gateway {
        let line = ["bench", "gateway"].iter().chain(arguments);
        match Options::try_parse_from(line).unwrap().command {
            Command::Gateway(gateway) => gateway,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parts_are_chosen_and_sizes_have_defaults() {
        let all = gateway(&[]);
        assert_eq!((all.parts().count(), all.connections(), all.sessions(), all.check), (8, 5000, 100_000, false));
        let some = gateway(&["--only", "http", "--only", "health", "--quick", "--connections", "7"]);
        assert_eq!(some.parts().collect::<Vec<_>>(), [Part::Health, Part::Http], "in the order of the run");
        assert_eq!((some.connections(), some.sessions()), (7, 10_000));
        for bad in [["--only", "nothing"], ["--connections", "0"], ["--sessions", "many"]] {
            assert!(Options::try_parse_from(["bench", "gateway"].iter().chain(&bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn each_part_goes_by_its_name() {
        for part in Part::ALL {
            assert_eq!(gateway(&["--only", part.name()]).parts().collect::<Vec<_>>(), [part]);
        }
    }
}
