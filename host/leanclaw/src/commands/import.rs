//! `leanclaw import`: what the TypeScript LeanClaw kept, taken in.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use leanclaw_store::Store;

use super::{block_on, configure};
use crate::config::Flags;
use crate::import::{self, Outcome, Tally};
use crate::{data_dir, lock, output};

/// The command's arguments.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The folder the TypeScript LeanClaw runs in, or its database file
    path: PathBuf,
    /// The folder of its sender-allowlist.json and mount-allowlist.json; without it, ~/.config/leanclaw
    #[arg(long, value_name = "FOLDER")]
    allowlists: Option<PathBuf>,
    /// Say what would come, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(flags: Flags, arguments: &Arguments) -> Result<()> {
    let config = configure(flags)?;
    let settings = arguments.allowlists.clone().or_else(home_settings);
    let source = import::find(&arguments.path, settings)?;
    data_dir::prepare(&config.data_dir)?;
    // A gateway holds groups and agents in memory and would not see what is written beneath it.
    let _lock = lock::acquire_for_command(&config.data_dir)?;
    let store = Store::open(&config.data_dir)?;
    let outcome = block_on(async {
        let outcome = import::take_in(&source, &store, arguments.dry_run).await;
        store.close().await;
        outcome
    })?;
    if arguments.json { output::json(&outcome) } else { show(&outcome) }
}

fn home_settings() -> Option<PathBuf> {
    etcetera::home_dir().ok().map(|home| home.join(".config/leanclaw"))
}

fn show(outcome: &Outcome) -> Result<()> {
    let verb = if outcome.dry_run { "would be added" } else { "added" };
    let line = |name: &str, tally: &Tally| format!("{name}: {} {verb}, {} there already", tally.added, tally.there);
    output::text(&format!("From {}:", outcome.source.display()))?;
    for (name, tally) in [
        ("groups", &outcome.groups),
        ("agents", &outcome.agents),
        ("sessions", &outcome.sessions),
        ("messages", &outcome.messages),
    ] {
        output::text(&format!("  {}", line(name, tally)))?;
    }
    if !outcome.kept.is_empty() {
        output::text("Kept as it was, for what is not there yet:")?;
    }
    for kept in &outcome.kept {
        let more = if kept.tally.added + kept.tally.there > kept.first.len() as u64 { ", ..." } else { "" };
        output::text(&format!("  {} (waits for {})", line(&kept.name, &kept.tally), kept.waits_for))?;
        output::text(&format!("    {}{more}", kept.first.join(", ")))?;
    }
    for problem in &outcome.problems {
        output::warning(problem);
    }
    if outcome.further_problems > 0 {
        output::warning(&format!("and {} more of that kind", outcome.further_problems));
    }
    Ok(())
}
