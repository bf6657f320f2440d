//! Taking in what the TypeScript LeanClaw kept: its database and its allowlist files.
//!
//! Groups, agents, chats and messages become what they are here. Every row of every other table, and what those have beyond
//! what is known here, is kept as it was, in documents of the kind `original.<table>`: the parts of LeanClaw that will use
//! them find them there. The source is only read. What is there already is left as it is, so the same source may be taken
//! in again, and then brings what is new in it.

mod allowlists;
mod messages;
mod rows;

use std::path::{Path, PathBuf};

use anyhow::Result;
use leanclaw_store::{Original, Store};
use leanclaw_types::audit::{AuditEvent, AuditRecord};
use leanclaw_types::clock::{Clock as _, SystemClock};
use serde::Serialize;

use crate::commands::ACTOR;
use crate::report::Advice;

/// Documents written at once.
const BATCH: usize = 500;
/// Problems of which each is told.
const MAX_PROBLEMS: usize = 100;

/// What to take in, and from where.
#[derive(Debug)]
pub(crate) struct Source {
    /// The database file.
    pub(crate) database: PathBuf,
    /// The folder of its allowlist files, if it is there.
    pub(crate) settings: Option<PathBuf>,
}

/// How many came and how many were there already.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) added: u64,
    pub(crate) there: u64,
}

impl Tally {
    fn count(&mut self, is_new: bool) {
        *(if is_new { &mut self.added } else { &mut self.there }) += 1;
    }
}

/// What has no home here yet, and is kept as it was.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    /// The table or file.
    pub(crate) name: String,
    /// Rows that came and rows that were there already.
    #[serde(flatten)]
    pub(crate) tally: Tally,
    /// The first of its rows by their names.
    pub(crate) first: Vec<String>,
    /// The kind of the documents that hold them.
    pub(crate) kept_as: String,
    /// What they wait for.
    pub(crate) waits_for: &'static str,
}

/// What became of everything.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    pub(crate) source: PathBuf,
    pub(crate) dry_run: bool,
    pub(crate) groups: Tally,
    pub(crate) agents: Tally,
    pub(crate) sessions: Tally,
    pub(crate) messages: Tally,
    pub(crate) kept: Vec<Kept>,
    /// What could not become what it is here; its rows are kept all the same.
    pub(crate) problems: Vec<String>,
    /// Problems beyond those that are told.
    pub(crate) further_problems: u64,
}

impl Outcome {
    fn problem(&mut self, problem: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.further_problems += 1;
        }
    }

    fn added_anything(&self) -> bool {
        let tallies = [&self.groups, &self.agents, &self.sessions, &self.messages];
        tallies.into_iter().chain(self.kept.iter().map(|kept| &kept.tally)).any(|tally| tally.added > 0)
    }
}

/// Finds the database: the file itself, or a folder of the original that holds it.
///
/// # Errors
/// There is nothing of the kind.
pub(crate) fn find(path: &Path, settings: Option<PathBuf>) -> Result<Source> {
    let places = [path.join("store/leanclaw.db"), path.join("leanclaw.db")];
    let database =
        if path.is_file() { Some(path.to_owned()) } else { places.into_iter().find(|place| place.is_file()) };
    let Some(database) = database else {
        let message = format!("there is no database of the TypeScript LeanClaw at {}", path.display());
        let hint = "name the folder it runs in, which holds `store/leanclaw.db`, or the file itself";
        return Err(Advice::new(message).hint(hint).into());
    };
    Ok(Source { database, settings })
}

/// Takes everything in. With `dry_run` nothing is stored, and the outcome says what would be.
///
/// # Errors
/// The source cannot be read, or the store cannot be written. What was stored by then stays: taking the source in again goes
/// on from there.
pub(crate) async fn take_in(source: &Source, store: &Store, dry_run: bool) -> Result<Outcome> {
    let original = Original::open(&source.database)?;
    let mut outcome = Outcome { source: source.database.clone(), dry_run, ..Outcome::default() };
    if let Some(folder) = &source.settings {
        // First, since they are refused as a whole when one of them is wrong.
        allowlists::take_in(folder, store, &mut outcome).await?;
    }
    let names = rows::take_in(&original, store, &mut outcome).await?;
    messages::take_in(&original, store, &names, &mut outcome).await?;
    if outcome.added_anything() && !dry_run {
        let event = AuditEvent::DataImported {
            path: source.database.display().to_string(),
            groups: outcome.groups.added,
            sessions: outcome.sessions.added,
            messages: outcome.messages.added,
        };
        store.append_audit(AuditRecord { at_ms: SystemClock.now_ms(), actor: ACTOR.to_owned(), event }).await?;
    }
    Ok(outcome)
}
