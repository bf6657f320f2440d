//! `leanclaw db ...`: looking after the databases of a data directory.
//!
//! Checking and backing up work whether a program runs or not; restoring waits for none.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use leanclaw_store::{CheckedFile, CopiedFile};
use leanclaw_types::audit::AuditEvent;
use serde_json::{Value, json};

use super::{block_on, configure};
use crate::config::Flags;
use crate::report::Advice;
use crate::{data_dir, lock, output};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at every database: its structure, what refers to what, its version
    Check(Check),
    /// Copy the databases into a folder, also while the program runs
    ///
    /// Each file of the copy is what it was at one moment. They hold secrets, and so does the copy: its folder is closed to
    /// other users. Agents' files, plugins and the configuration file are not in it.
    Backup(Backup),
    /// Put a backup in the place of the databases, while no program runs
    ///
    /// What was there is kept in a folder beside them.
    Restore(Restore),
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// A folder to look at, such as a backup, instead of the data directory
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The folder to make; without it, one named by the time in `backups` in the data directory
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Replace a backup that is there
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The folder of the backup
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(flags: Flags, command: Command) -> Result<()> {
    let data_dir = configure(flags)?.data_dir;
    match command {
        Command::Check(arguments) => check(&data_dir, &arguments),
        Command::Backup(arguments) => backup(&data_dir, arguments),
        Command::Restore(arguments) => restore(&data_dir, &arguments),
    }
}

fn check(data_dir: &Path, arguments: &Check) -> Result<()> {
    let folder = arguments.path.as_deref().unwrap_or(data_dir);
    let files = leanclaw_store::check_databases(folder)?;
    let bad = files.iter().filter(|file| !file.problems.is_empty()).count();
    if arguments.json {
        let shown: Vec<Value> = files.iter().map(checked_json).collect();
        output::json(&json!({"ok": bad == 0, "databases": shown}))?;
    } else {
        for file in &files {
            output::text(&format!("{}: {}", file.path.display(), verdict(file)))?;
            for problem in &file.problems {
                output::text(&format!("  {problem}"))?;
            }
        }
    }
    if bad == 0 {
        return Ok(());
    }
    let mut hints: Vec<String> = Vec::new();
    for hint in files.into_iter().flat_map(|file| file.hints) {
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    let message = format!("{bad} of the databases in {} cannot be relied on", folder.display());
    Err(hints.into_iter().fold(Advice::new(message), Advice::hint).into())
}

fn verdict(file: &CheckedFile) -> String {
    match file.schema_version {
        _ if !file.problems.is_empty() => "not good".to_owned(),
        Some(version) if version < file.supported_version => {
            format!("good (schema {version}; the next start brings it to {})", file.supported_version)
        }
        Some(version) => format!("good (schema {version})"),
        None => "not made yet; the first start makes it".to_owned(),
    }
}

fn checked_json(file: &CheckedFile) -> Value {
    json!({
        "path": file.path,
        "ok": file.problems.is_empty(),
        "schemaVersion": file.schema_version,
        "supportedVersion": file.supported_version,
        "problems": file.problems,
        "hints": file.hints,
    })
}

fn backup(data_dir: &Path, arguments: Backup) -> Result<()> {
    let Backup { path, force, json: as_json } = arguments;
    let target = path.unwrap_or_else(|| data_dir.join("backups").join(stamp()));
    let target = std::path::absolute(&target).unwrap_or(target);
    let files = leanclaw_store::back_up(data_dir, &target, force)?;
    // The copy is made and good; that it cannot be written down is no reason to call it failed.
    if let Err(error) = write_down(data_dir, "backed-up", &target) {
        output::warning(&format!("the backup is made, but the audit log cannot tell of it: {error}"));
    }
    show(&json!({"path": target, "databases": copied_json(&files)}), as_json, || {
        format!("The databases are backed up to {}, secrets included.", target.display())
    })
}

fn restore(data_dir: &Path, arguments: &Restore) -> Result<()> {
    let Restore { path, yes, json: as_json } = arguments;
    let question = format!("Replace the databases of {} by those of {}?", data_dir.display(), path.display());
    let agreed = *yes || (output::can_ask() && output::ask(&question)?);
    if !agreed {
        return Err(Advice::new("nothing was restored").hint("--yes restores without a question").into());
    }
    data_dir::prepare(data_dir)?;
    let _lock = lock::acquire_for_command(data_dir)?;
    let aside = data_dir.join(format!("replaced-{}", stamp()));
    let files = leanclaw_store::restore(data_dir, path, &aside)?;
    if let Err(error) = write_down(data_dir, "restored", path) {
        output::warning(&format!("the backup is restored, but the audit log cannot tell of it: {error}"));
    }
    show(&json!({"path": path, "replaced": aside, "databases": copied_json(&files)}), *as_json, || {
        format!("The databases are restored. What was there before is in {}.", aside.display())
    })
}

fn copied_json(files: &[CopiedFile]) -> Vec<Value> {
    let one = |file: &CopiedFile| json!({"path": file.path, "bytes": file.bytes, "schemaVersion": file.schema_version});
    files.iter().map(one).collect()
}

fn show(value: &Value, as_json: bool, text: impl FnOnce() -> String) -> Result<()> {
    if as_json { output::json(value) } else { output::text(&text()) }
}

/// A name for a folder: the time in UTC, which sorts and never comes back.
fn stamp() -> String {
    Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string()
}

/// Secrets went somewhere, or what holds changed: the audit log of the data directory tells of it.
fn write_down(data_dir: &Path, action: &str, path: &Path) -> Result<()> {
    let event = AuditEvent::DatabasesCopied { action: action.to_owned(), path: path.display().to_string() };
    block_on(super::write_down(data_dir, event))
}
