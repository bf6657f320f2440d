//! Opening a database file: where it lies, who may read it, which schema it holds.
//!
//! Nothing is written to a file before it is known to be ours and not newer than this program.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::{Located, StoreError};

/// How long a connection waits for another program's lock, such as a CLI command's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two attempts to write to a file that could not be written.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// One kind of database file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema {
    /// Its name in the data directory.
    pub(crate) file_name: &'static str,
    /// Written into the file's header, so that no other database is taken for ours.
    pub(crate) application_id: i32,
    /// Step N leads from version N to N+1. A step that was released is never edited.
    pub(crate) migrations: &'static [&'static str],
    /// How long to wait for another program's lock.
    pub(crate) busy_timeout: Duration,
    /// How long to wait before finding out whether a file that could not be written can be written again.
    pub(crate) retry_pause: Duration,
}

impl Schema {
    pub(crate) const fn new(file_name: &'static str, application_id: i32, migrations: &'static [&'static str]) -> Self {
        let (busy_timeout, retry_pause) = (BUSY_TIMEOUT, RETRY_PAUSE);
        Self { file_name, application_id, migrations, busy_timeout, retry_pause }
    }

    pub(crate) fn version(&self) -> i64 {
        i64::try_from(self.migrations.len()).unwrap_or(i64::MAX)
    }
}

/// Opens the file for its writer, made and migrated where needed. Also gives the file's full path.
pub(crate) fn open_writer(data_dir: &Path, schema: &Schema) -> Result<(Connection, PathBuf), StoreError> {
    // SQLite reads a name that begins with `file:` as a URI; an absolute path cannot.
    let folder = std::path::absolute(data_dir).map_err(|error| StoreError::io(data_dir, error))?;
    make_folder(&folder)?;
    let path = folder.join(schema.file_name);
    make_file(&folder, &path)?;
    let connection = prepare(&path, schema).map_err(|error| error.at(&path))?;
    Ok((connection, path))
}

/// Opens a further connection for reading. The writer must be open: it is what makes the file's log and shared memory.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    keep_plans(&connection)?;
    // The system caches the file too; a large cache per reader would only cost memory.
    connection.pragma_update(None, "cache_size", -512)?;
    Ok(connection)
}

/// Has a statement be planned once and not again for each value that is bound to it. Without this, a partial index on a table
/// is enough for every statement with a condition on that table to be prepared anew each time it runs.
fn keep_plans(connection: &Connection) -> Result<(), StoreError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn prepare(path: &Path, schema: &Schema) -> Result<Connection, StoreError> {
    let mut connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // SQLite opens what it may not write for reading only, says nothing of it, and stays with that for good, whatever is done
    // about the file; and its log would be one that nobody may write.
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        return Err(StoreError::NoAccess { path: path.to_owned(), message: "it can only be read".into() });
    }
    connection.busy_timeout(schema.busy_timeout)?;
    keep_plans(&connection)?;
    let current = check(&connection, schema)?;
    keep_private(path)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::NoWriteAheadLog { path: path.to_owned(), mode });
    }
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What was deleted (a secret, a plugin's data) is overwritten.
    connection.pragma_update(None, "secure_delete", true)?;
    // A log that once grew large gives its space back.
    connection.pragma_update(None, "journal_size_limit", 16 * 1024 * 1024)?;
    connection.set_prepared_statement_cache_capacity(64);
    if current < schema.version() {
        migrate(&mut connection, schema)?;
    }
    Ok(connection)
}

/// The file's schema version, or why it must not be touched.
pub(crate) fn check(connection: &Connection, schema: &Schema) -> Result<i64, StoreError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_new = version == 0 && application == 0 && tables == 0;
    if !is_new && application != schema.application_id {
        return Err(StoreError::Foreign { path: PathBuf::new() });
    }
    if version > schema.version() {
        return Err(StoreError::TooNew { path: PathBuf::new(), found: version, supported: schema.version() });
    }
    Ok(version)
}

/// Takes every step the file lacks, all in one transaction: a crash leaves the old version, whole.
fn migrate(connection: &mut Connection, schema: &Schema) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Read again under the lock: another process may have migrated meanwhile.
    let done = usize::try_from(check(&transaction, schema)?).unwrap_or(0);
    for step in schema.migrations.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", schema.application_id)?;
    transaction.pragma_update(None, "user_version", schema.version())?;
    transaction.commit()?;
    tracing::info!(file = schema.file_name, from = done, to = schema.version(), "database migrated");
    Ok(())
}

pub(crate) fn make_folder(folder: &Path) -> Result<(), StoreError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| StoreError::io(folder, error))
}

/// Makes an empty file that only its owner can read, before SQLite would make one that more can. The log and the shared
/// memory get the same mode from SQLite.
///
/// A file that exists is not opened here: closing any handle of a file drops the locks SQLite holds on it in this process.
pub(crate) fn make_file(folder: &Path, path: &Path) -> Result<(), StoreError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => sync_folder(folder),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::io(path, error)),
    }
}

/// Makes the new file's name survive a power cut.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    std::fs::File::open(folder).and_then(|opened| opened.sync_all()).map_err(|error| StoreError::io(folder, error))
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_folder: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// Takes the rights of group and others away from a file that was copied here with them.
#[cfg(unix)]
fn keep_private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let file = PathBuf::from(name);
        // The log and the shared memory need not exist.
        let Ok(metadata) = std::fs::metadata(&file) else { continue };
        if metadata.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))
                .map_err(|error| StoreError::io(&file, error))?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn keep_private(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}
