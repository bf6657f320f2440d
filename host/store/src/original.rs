//! Reading the database of the TypeScript LeanClaw, and never writing to it.
//!
//! Rows come as JSON objects by column name: SQLite lets any column hold anything, so what a row means is decided by who
//! reads it. All of it is read as it was at one moment.

use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row};
use serde_json::{Map, Value, json};

use crate::error::{Located, StoreError};

/// Tables that make it what it is.
const NEEDED: [&str; 3] = ["chats", "messages", "registered_groups"];
/// The version of its schema that is known.
const VERSION: i64 = 1;

/// The original's database.
pub struct Original {
    connection: Connection,
    path: PathBuf,
}

impl std::fmt::Debug for Original {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Original").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Original {
    /// Opens the file for reading only. A file that no program has open is not even given a log beside it.
    ///
    /// # Errors
    /// It is no database, not the original's, or of a version of its schema that is not known.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let path = std::path::absolute(path).map_err(|error| StoreError::io(path, error))?;
        std::fs::metadata(&path).map_err(|error| StoreError::io(&path, error))?;
        let connection = connect(&path).map_err(|error| error.at(&path))?;
        let original = Self { connection, path };
        original.recognise().map_err(|error| error.at(&original.path))?;
        Ok(original)
    }

    fn recognise(&self) -> Result<(), StoreError> {
        let foreign = |message: String| StoreError::NotTheOriginal { path: PathBuf::new(), message };
        self.connection.execute_batch("BEGIN")?;
        let tables = self.tables()?;
        if let Some(missing) = NEEDED.iter().find(|needed| !tables.iter().any(|table| table == *needed)) {
            return Err(foreign(format!("it has no table `{missing}`")));
        }
        let mut columns = self.connection.prepare("SELECT name FROM pragma_table_info('messages')")?;
        let columns: Vec<String> = columns.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for needed in ["id", "chat_jid", "content", "timestamp"] {
            if !columns.iter().any(|column| column == needed) {
                return Err(foreign(format!("its table `messages` has no column `{needed}`")));
            }
        }
        if tables.iter().any(|table| table == "schema_version") {
            let sql = "SELECT CAST(max(version) AS INTEGER) FROM schema_version";
            let version: Option<i64> = self.connection.query_row(sql, [], |row| row.get(0))?;
            if version.is_some_and(|version| version != VERSION) {
                let found = version.unwrap_or_default();
                return Err(foreign(format!("its schema has version {found}, and only {VERSION} is known")));
            }
        }
        Ok(())
    }

    /// Its tables by name, SQLite's own left out.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub fn tables(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' ORDER BY name";
        let mut statement = self.connection.prepare(sql)?;
        let names = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>();
        names.map_err(|error| StoreError::from(error).at(&self.path))
    }

    /// Calls `each` with every row of a table.
    ///
    /// # Errors
    /// [`StoreError`] when the table cannot be read; `each` may have been called by then.
    pub fn each_row(&self, table: &str, mut each: impl FnMut(Map<String, Value>)) -> Result<(), StoreError> {
        let mut read = || {
            let mut statement = self.connection.prepare(&format!("SELECT * FROM {}", quoted(table)))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(object(row)?);
            }
            Ok(())
        };
        read().map_err(|error: StoreError| error.at(&self.path))
    }

    /// The messages of every chat: the chat and the numbers to ask [`Self::message`] for, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn messages_by_chat(&self) -> Result<Vec<(String, Vec<i64>)>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare(
                "SELECT rowid, coalesce(CAST(chat_jid AS TEXT), '') FROM messages ORDER BY 2, timestamp, rowid",
            )?;
            let mut rows = statement.query([])?;
            let mut chats: Vec<(String, Vec<i64>)> = Vec::new();
            while let Some(row) = rows.next()? {
                let (number, chat) = (row.get(0)?, text(row.get_ref(1)?));
                match chats.last_mut() {
                    Some((last, numbers)) if *last == chat => numbers.push(number),
                    _ => chats.push((chat, vec![number])),
                }
            }
            Ok(chats)
        };
        read().map_err(|error: StoreError| error.at(&self.path))
    }

    /// One message.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub fn message(&self, number: i64) -> Result<Map<String, Value>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare_cached("SELECT * FROM messages WHERE rowid = ?1")?;
            Ok(statement.query_row([number], object).optional()?.unwrap_or_default())
        };
        read().map_err(|error: StoreError| error.at(&self.path))
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let has_log = std::fs::metadata(PathBuf::from(log)).is_ok_and(|log| log.len() > 0);
    if has_log {
        return Ok(Connection::open_with_flags(path, flags)?);
    }
    // Nobody writes to it, so it can be taken as it lies there: SQLite needs no shared memory then, and makes none.
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Ok(Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

fn object(row: &Row<'_>) -> rusqlite::Result<Map<String, Value>> {
    let mut object = Map::new();
    let names: Vec<String> = row.as_ref().column_names().into_iter().map(str::to_owned).collect();
    for (index, name) in names.into_iter().enumerate() {
        let value = match row.get_ref(index)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => json!(number),
            ValueRef::Real(number) => json!(number),
            value @ ValueRef::Text(_) => Value::String(text(value)),
            ValueRef::Blob(bytes) => {
                Value::String(format!("blob:{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
            }
        };
        object.insert(name, value);
    }
    Ok(object)
}
