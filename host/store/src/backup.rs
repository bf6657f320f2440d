//! Copies of the database files, made while a program writes to them, and putting such a copy back.
//!
//! A copy of a file is what the file held at one moment. The moments of the files of one backup lie right behind each other;
//! no row of one file refers to the other, so that nothing depends on their being the same. A file of a backup stands alone:
//! it has no write-ahead log beside it.

use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use crate::check::{SCHEMAS, examine};
use crate::error::{Located, StoreError};
use crate::file::{self, Schema};

/// One file that was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedFile {
    /// Where the copy is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The version of its schema.
    pub schema_version: i64,
}

/// Copies the databases of `data_dir` into the folder `target`, which is made with mode 0700, its files with 0600. Each copy
/// is checked and on disk before `target` appears, and `target` appears whole. Blocks.
///
/// With `replace`, a backup that is there makes room once the new one is whole; a folder that holds anything else never does.
///
/// # Errors
/// [`StoreError`]; nothing is left behind then, and what was at `target` is as it was.
pub fn back_up(data_dir: &Path, target: &Path, replace: bool) -> Result<Vec<CopiedFile>, StoreError> {
    let target = std::path::absolute(target).map_err(|error| StoreError::io(target, error))?;
    let occupied = is_occupied(&target)?;
    if occupied && !(replace && holds_only_a_backup(&target)?) {
        return Err(StoreError::Occupied { path: target });
    }
    let folder = target.parent().unwrap_or(&target).to_owned();
    file::make_folder(&folder)?;
    let partial = beside(&target, "partial")?;
    file::make_folder(&partial)?;
    let copied = copy_all(data_dir, &partial).and_then(|copied| {
        if occupied {
            remove_backup(&target)?;
        }
        // Over an empty folder this is a replacement, over anything else a refusal.
        std::fs::rename(&partial, &target).map_err(|error| StoreError::io(&target, error))?;
        file::sync_folder(&folder)?;
        Ok(copied)
    });
    if copied.is_err() {
        let _already_failed = std::fs::remove_dir_all(&partial);
    }
    let moved =
        |copied: CopiedFile| CopiedFile { path: target.join(copied.path.file_name().unwrap_or_default()), ..copied };
    Ok(copied?.into_iter().map(moved).collect())
}

/// Puts the files of a backup in the place of those of `data_dir`, which move to the new folder `set_aside`. Nothing may have
/// the data directory open: the caller holds its lock. The backup stays as it is. Blocks.
///
/// Every file is checked and copied before the first is put in its place.
///
/// # Errors
/// [`StoreError`]; up to the first file that was put in its place the data directory is as it was.
pub fn restore(data_dir: &Path, backup: &Path, set_aside: &Path) -> Result<Vec<CopiedFile>, StoreError> {
    let backup = std::path::absolute(backup).map_err(|error| StoreError::io(backup, error))?;
    let data_dir = std::path::absolute(data_dir).map_err(|error| StoreError::io(data_dir, error))?;
    let there: Vec<&Schema> = SCHEMAS.into_iter().filter(|schema| backup.join(schema.file_name).is_file()).collect();
    if there.is_empty() {
        return Err(StoreError::NoDatabases { path: backup });
    }
    file::make_folder(&data_dir)?;
    let waiting = beside(&data_dir.join("restored"), "partial")?;
    file::make_folder(&waiting)?;
    let restored = copy_all(&backup, &waiting).and_then(|copied| {
        file::make_folder(set_aside)?;
        for schema in there {
            exchange(&waiting.join(schema.file_name), &data_dir.join(schema.file_name), set_aside)?;
        }
        file::sync_folder(set_aside)?;
        file::sync_folder(&data_dir)?;
        Ok(copied)
    });
    let _empty_or_failed = std::fs::remove_dir_all(&waiting);
    let moved =
        |copied: CopiedFile| CopiedFile { path: data_dir.join(copied.path.file_name().unwrap_or_default()), ..copied };
    Ok(restored?.into_iter().map(moved).collect())
}

/// Puts `new` in the place of `old`, which moves to `set_aside` with its log: a log that stayed would be played into the new
/// file.
fn exchange(new: &Path, old: &Path, set_aside: &Path) -> Result<(), StoreError> {
    let gone = |result: std::io::Result<()>, path: &Path| match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io(path, error)),
        _ => Ok(()),
    };
    for suffix in ["-wal", "-shm"] {
        let mut name = old.as_os_str().to_owned();
        name.push(suffix);
        let from = PathBuf::from(name);
        gone(std::fs::rename(&from, set_aside.join(from.file_name().unwrap_or_default())), &from)?;
    }
    // A second name, not a move: at no moment there is no file, for which the next start would make an empty one.
    gone(std::fs::hard_link(old, set_aside.join(old.file_name().unwrap_or_default())), old)?;
    std::fs::rename(new, old).map_err(|error| StoreError::io(old, error))
}

/// Copies every database of one folder into another.
fn copy_all(from: &Path, to: &Path) -> Result<Vec<CopiedFile>, StoreError> {
    let from = std::path::absolute(from).map_err(|error| StoreError::io(from, error))?;
    let mut sources = Vec::new();
    for schema in SCHEMAS {
        let path = from.join(schema.file_name);
        if path.is_file() {
            let source = begin(&path, schema).map_err(|error| error.at(&path))?;
            sources.push((schema, path, source));
        }
    }
    if sources.is_empty() {
        return Err(StoreError::NoDatabases { path: from });
    }
    let mut copied = Vec::new();
    for (schema, path, source) in sources {
        let target = to.join(schema.file_name);
        file::make_file(to, &target)?;
        copy(&source, &target).map_err(|error| error.at(&path))?;
        drop(source);
        stand_alone(&target).map_err(|error| error.at(&target))?;
        let (schema_version, problems) = examine(&target, schema)?;
        if let Some(problem) = problems.into_iter().next() {
            // The copy is true to its source, so it is the source that is damaged.
            return Err(StoreError::Corrupt { path, message: problem });
        }
        let synced = std::fs::File::open(&target).and_then(|file| {
            file.sync_all()?;
            file.metadata()
        });
        let bytes = synced.map_err(|error| StoreError::io(&target, error))?.len();
        copied.push(CopiedFile { path: target, bytes, schema_version });
    }
    file::sync_folder(to)?;
    Ok(copied)
}

/// Opens a file and holds on to what it holds now.
fn begin(path: &Path, schema: &Schema) -> Result<Connection, StoreError> {
    let connection = file::open_reader(path)?;
    connection.execute_batch("BEGIN")?;
    // The first read is what fixes the moment.
    file::check(&connection, schema)?;
    Ok(connection)
}

fn copy(source: &Connection, target: &Path) -> Result<(), StoreError> {
    let mut copy = open_alone(target)?;
    let backup = Backup::new(source, &mut copy)?;
    let step = backup.step(-1).map_err(|error| {
        let writing = is_about_writing(&error);
        let error = StoreError::from(error);
        if writing { error.at(target) } else { error }
    });
    match step? {
        StepResult::Done => Ok(()),
        _ => Err(StoreError::Locked { path: PathBuf::new() }),
    }
}

/// Whether the disk of the copy failed, and not that of the source, which is only read.
fn is_about_writing(error: &rusqlite::Error) -> bool {
    let Some(error) = error.sqlite_error() else { return false };
    let reading = [ffi::SQLITE_IOERR_READ, ffi::SQLITE_IOERR_SHORT_READ];
    error.code == ErrorCode::DiskFull
        || error.code == ErrorCode::SystemIoFailure && !reading.contains(&error.extended_code)
}

/// Takes the mark off a copy that says that a log lies beside it.
fn stand_alone(path: &Path) -> Result<(), StoreError> {
    let copy = open_alone(path)?;
    let mode: String = copy.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0))?;
    if mode == "delete" { Ok(()) } else { Err(StoreError::Locked { path: path.to_owned() }) }
}

fn open_alone(path: &Path) -> Result<Connection, StoreError> {
    Ok(Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?)
}

/// A name in the same folder that nothing has yet.
fn beside(path: &Path, purpose: &str) -> Result<PathBuf, StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{purpose}-{}", std::process::id()));
    if beside.exists() { Err(StoreError::Occupied { path: beside }) } else { Ok(beside) }
}

fn is_occupied(target: &Path) -> Result<bool, StoreError> {
    match std::fs::read_dir(target) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io(target, error)),
    }
}

fn holds_only_a_backup(target: &Path) -> Result<bool, StoreError> {
    let failed = |error| StoreError::io(target, error);
    for entry in std::fs::read_dir(target).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !SCHEMAS.iter().any(|schema| is_of(schema, &name.to_string_lossy())) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a file is a database's or lies beside one: looking at a copy may have made it a log.
fn is_of(schema: &Schema, name: &str) -> bool {
    name.strip_prefix(schema.file_name).is_some_and(|rest| matches!(rest, "" | "-wal" | "-shm"))
}

fn remove_backup(target: &Path) -> Result<(), StoreError> {
    std::fs::remove_dir_all(target).map_err(|error| StoreError::io(target, error))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::tests::{key, record};
    use crate::{KvStore, Store};

    /// What is written while the first file is copied is in no copy, also not in that of the second.
    #[tokio::test]
    async fn every_copy_is_of_the_moment_at_which_the_backup_began() {
        let folder = TempDir::new().unwrap();
        let (store, kv) = (Store::open(folder.path()).unwrap(), KvStore::open(folder.path()).unwrap());
        let write = async |name: &str| {
            store.change_records(vec![record("device", name, Some("{}"))], vec![]).await.unwrap();
            kv.put(&key("notes"), name, vec![1], None, None, u64::MAX).await.unwrap();
        };
        write("before").await;
        let sources = SCHEMAS.map(|schema| (schema, begin(&folder.path().join(schema.file_name), schema).unwrap()));
        write("meanwhile").await;
        let place = TempDir::new().unwrap();
        let counts = sources.map(|(schema, source)| {
            let target = place.path().join(schema.file_name);
            file::make_file(place.path(), &target).unwrap();
            copy(&source, &target).unwrap();
            stand_alone(&target).unwrap();
            let table = if schema.file_name == "core.db" { "records" } else { "entries" };
            let copied = Connection::open(&target).unwrap();
            copied.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap()
        });
        assert_eq!(counts, [1, 1]);
    }
}
