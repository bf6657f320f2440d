//! Looking at the files of a data directory without changing them, whether a program has them open or not.
//!
//! Three things are looked at: SQLite's own structure, the references between rows, and what this crate keeps true across
//! tables. All of a file is seen as it was at one moment.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::{Located, StoreError};
use crate::file::{self, Schema};

/// Every file of a data directory.
pub(crate) const SCHEMAS: [&Schema; 2] = [&crate::store::SCHEMA, &crate::kv::SCHEMA];

/// Problems of one kind that are told of one file at most.
const MAX_PROBLEMS: usize = 20;

/// What this crate keeps true beyond what SQLite checks: each statement gives a text for each row that breaks it.
const CORE_RULES: &[&str] = &[
    "SELECT 'session_counts says ' || coalesce(c.count, 0) || ' where there are ' || s.count || ' sessions (agent ' || s.agent || ')'
     FROM (SELECT agent, archived, kind, count(*) AS count FROM sessions GROUP BY agent, archived, kind) s
     LEFT JOIN session_counts c USING (agent, archived, kind) WHERE c.count IS NOT s.count",
    "SELECT 'session_counts counts sessions of agent ' || agent || ' that are not there' FROM session_counts c
     WHERE count <> 0 AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.agent = c.agent AND s.archived = c.archived AND s.kind = c.kind)",
    "SELECT 'session ' || key || ' has a message numbered higher than its last one' FROM sessions s
     WHERE last_seq < (SELECT max(seq) FROM messages m WHERE m.session = s.id)",
    "SELECT 'session ' || key || ' holds an entry that is not JSON' FROM sessions WHERE NOT json_valid(entry)",
    "SELECT 'message ' || id || ' is not JSON' FROM messages WHERE NOT json_valid(body)",
    "SELECT 'run ' || id || ' answers a message that is not there' FROM runs
     WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = runs.message)",
    "SELECT 'run ' || id || ' is neither open nor ended' FROM runs WHERE state NOT IN ('waiting', 'running', 'ended')
     OR (state = 'ended') <> (ending IS NOT NULL) OR (state = 'ended') <> (ended_number IS NOT NULL)",
    "SELECT 'run ' || id || ' is not JSON' FROM runs WHERE NOT json_valid(request) OR NOT json_valid(coalesce(ending, 'null'))",
    "SELECT 'record ' || kind || '/' || id || ' is not JSON' FROM records WHERE NOT json_valid(body)",
    "SELECT 'the grant of ' || plugin || '/' || account || ' is not JSON' FROM grants
     WHERE NOT json_valid(permissions) OR NOT json_valid(decided)",
];

const KV_RULES: &[&str] = &["SELECT 'the entries of ' || o.plugin || '/' || o.account || ' take ' || e.bytes || ' bytes where ' || o.stored_bytes || ' are counted'
     FROM owners o JOIN (SELECT owner, sum(bytes) AS bytes FROM entries GROUP BY owner) e ON e.owner = o.id
     WHERE e.bytes <> o.stored_bytes"];

/// What was found of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFile {
    /// Where it is, or would be.
    pub path: PathBuf,
    /// The version of its schema; none when it could not be read, or when the file is not made yet: then nothing is wrong.
    pub schema_version: Option<i64>,
    /// The newest version of its schema that this program knows. An older file is migrated by the next start.
    pub supported_version: i64,
    /// What is wrong with it, a sentence each. None is good.
    pub problems: Vec<String>,
    /// What to do about it.
    pub hints: Vec<String>,
}

/// Looks at every database file of a data directory. Blocks, for as long as reading them whole takes; a program that has them
/// open goes on meanwhile.
///
/// # Errors
/// [`StoreError::NoDatabases`] when there is none at all. Whatever is wrong with a file is in the answer.
pub fn check_databases(data_dir: &Path) -> Result<Vec<CheckedFile>, StoreError> {
    let folder = std::path::absolute(data_dir).map_err(|error| StoreError::io(data_dir, error))?;
    if !SCHEMAS.iter().any(|schema| folder.join(schema.file_name).exists()) {
        return Err(StoreError::NoDatabases { path: folder });
    }
    Ok(SCHEMAS.iter().map(|schema| checked(&folder, schema)).collect())
}

fn checked(folder: &Path, schema: &Schema) -> CheckedFile {
    let path = folder.join(schema.file_name);
    let mut checked = CheckedFile {
        path: path.clone(),
        schema_version: None,
        supported_version: schema.version(),
        problems: Vec::new(),
        hints: Vec::new(),
    };
    if !path.exists() && schema.file_name == crate::kv::SCHEMA.file_name && !has_served(folder) {
        return checked;
    }
    if !path.exists() {
        checked.problems.push(format!("`{}` is missing.", path.display()));
        checked
            .hints
            .push("The next start makes an empty one; put a backup in its place (`leanclaw db restore`).".into());
        return checked;
    }
    match examine(&path, schema) {
        Ok((version, problems)) => {
            checked.schema_version = Some(version);
            if let Some(first) = problems.first() {
                checked.hints = StoreError::Corrupt { path, message: first.clone() }.hints();
            }
            checked.problems = problems;
        }
        Err(error) => {
            checked.problems.push(error.to_string());
            checked.hints = error.hints();
        }
    }
    checked
}

/// Whether a program has ever served from this folder: commands alone make `core.db` and no more. What cannot be told counts
/// as yes, so that a file that was lost is missed.
fn has_served(folder: &Path) -> bool {
    let look = || -> Result<bool, StoreError> {
        let connection = file::open_reader(&folder.join(crate::store::SCHEMA.file_name))?;
        // The gateway's own key is made by its first start.
        Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM records WHERE kind = 'key')", [], |row| row.get(0))?)
    };
    look().unwrap_or(true)
}

/// The schema version of a file and what is wrong with it.
///
/// # Errors
/// It is not ours, newer than this program, or cannot be read at all.
pub(crate) fn examine(path: &Path, schema: &Schema) -> Result<(i64, Vec<String>), StoreError> {
    let look = || {
        let connection = file::open_reader(path)?;
        connection.execute_batch("BEGIN")?;
        let version = file::check(&connection, schema)?;
        if version == 0 {
            return Ok((version, vec!["It is empty.".to_owned()]));
        }
        let mut problems = texts(&connection, &format!("PRAGMA integrity_check({MAX_PROBLEMS})"))?;
        problems.retain(|line| line != "ok");
        problems.extend(texts(
            &connection,
            "SELECT 'a row of ' || \"table\" || ' refers to one of ' || parent || ' that is not there' \
             FROM pragma_foreign_key_check",
        )?);
        if problems.is_empty() && version == schema.version() {
            let rules = if schema.file_name == crate::kv::SCHEMA.file_name { KV_RULES } else { CORE_RULES };
            for rule in rules {
                problems.extend(texts(&connection, rule)?);
            }
        }
        problems.truncate(MAX_PROBLEMS);
        Ok((version, problems))
    };
    look().map_err(|error: StoreError| error.at(path))
}

fn texts(connection: &Connection, sql: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.take(MAX_PROBLEMS).collect::<Result<_, _>>()?)
}
