//! The audit log: rows that are written with what they tell of, rows that are awaited, and rows that are queued.
//!
//! Queued rows share one bounded buffer that is written in one go. Each plugin has a share of it, so that a plugin that
//! makes a flood of denials loses rows of its own only; how many is written in a row of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leanclaw_types::audit::{AuditEvent, AuditRecord, AuditRow};
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::error::{Located as _, StoreError};
use crate::queue::{Lane, Write};
use crate::store::Store;

/// Rows that may wait to be written.
pub(crate) const MAX_QUEUED: usize = 4096;
/// Rows about one plugin that may wait to be written.
pub(crate) const MAX_QUEUED_PER_PLUGIN: usize = 512;
/// Rows deleted at most with one that is written: what is over the limit, a few at a time, so that no write takes long.
const MAX_DELETED: u32 = 8;
/// Rows that one [`Store::audit_tail`] gives at most.
const MAX_LISTED: u32 = 1000;

/// Which audit rows to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// How many rows at most; never more than 1000. Default 100.
    pub limit: u32,
    /// None: the newest rows. Some: the first rows after this id, which is how a reader follows the log.
    pub after_id: Option<i64>,
    /// Rows about this plugin only: `plugin` for all its accounts, `plugin/account` for one.
    pub plugin: Option<String>,
    /// Rows of this kind only, such as `egress-denied`.
    pub kind: Option<String>,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self { limit: 100, after_id: None, plugin: None, kind: None }
    }
}

impl Store {
    /// Writes a row and answers with its id once it is on disk.
    ///
    /// # Errors
    /// [`StoreError`] when it was not written.
    pub async fn append_audit(&self, record: AuditRecord) -> Result<i64, StoreError> {
        self.database.write(Lane::Host, 512, move |connection| append(connection, &record)).await
    }

    /// Queues a row and returns at once. When rows come faster than they can be written, the ones over the limit (4096 in
    /// all, 512 about one plugin) are counted, and an `audit-overflow` row says how many are missing.
    ///
    /// Rows queued or appended by one thread are written in that order.
    pub fn audit_soon(&self, record: AuditRecord) {
        if self.audit_buffer.add(record) {
            self.flush_audit();
        }
    }

    /// Has the queued rows written, unless that is under way. Also called before closing: the count of rows that a failing
    /// disk refused has one more chance then.
    pub(crate) fn flush_audit(&self) {
        if !self.audit_buffer.start_flush() {
            return;
        }
        let flush = Flush { buffer: Arc::clone(&self.audit_buffer), written: Vec::new() };
        if let Err(error) = self.database.push_exempt(Lane::Host, Box::new(flush)) {
            self.audit_buffer.end_flush();
            tracing::warn!(%error, "audit rows cannot be written");
        }
    }

    /// Rows in ascending order of their ids. A row that this program cannot read (a newer one wrote it) is left out with
    /// a warning.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub async fn audit_tail(&self, query: AuditQuery) -> Result<Vec<AuditRow>, StoreError> {
        self.database.read_many(move |connection| tail(connection, &query)).await
    }
}

/// Writes one row in the current transaction; gives its id.
pub(crate) fn append(connection: &Connection, record: &AuditRecord) -> Result<i64, StoreError> {
    let json = serde_json::to_string(record).map_err(|error| StoreError::row("an audit row", error))?;
    let (plugin, account) = record.event.plugin().map_or((None, None), |plugin| {
        let (plugin, account) = split(plugin);
        (Some(plugin), account)
    });
    let mut statement =
        connection.prepare_cached("INSERT INTO audit (kind, plugin, account, record) VALUES (?1, ?2, ?3, ?4)")?;
    Ok(statement.insert((record.event.kind(), plugin, account, json))?)
}

/// What the writing connection needs in order to keep about `kept` rows: with every new row it deletes some of the oldest
/// that are beyond them. Ids rise by one with every row.
pub(crate) fn keeping(kept: u32) -> String {
    format!(
        "CREATE TEMP TRIGGER audit_is_bounded AFTER INSERT ON main.audit BEGIN
             DELETE FROM audit WHERE id IN
                 (SELECT id FROM audit WHERE id <= NEW.id - {kept} ORDER BY id LIMIT {MAX_DELETED});
         END"
    )
}

/// The plugin, and the account where one other than the default is named.
fn split(key: &str) -> (&str, Option<&str>) {
    match key.split_once('/') {
        Some((plugin, "default")) => (plugin, None),
        Some((plugin, account)) => (plugin, Some(account)),
        None => (key, None),
    }
}

fn tail(connection: &Connection, query: &AuditQuery) -> Result<Vec<AuditRow>, StoreError> {
    let mut sql = String::from("SELECT id, record FROM audit WHERE true");
    let mut values = Vec::new();
    if let Some(kind) = &query.kind {
        sql.push_str(" AND kind = ?");
        values.push(Value::from(kind.clone()));
    }
    if let Some(key) = &query.plugin {
        let (plugin, account) = split(key);
        sql.push_str(" AND plugin = ?");
        values.push(Value::from(plugin.to_owned()));
        if let Some(account) = account {
            sql.push_str(" AND account = ?");
            values.push(Value::from(account.to_owned()));
        } else if key.contains('/') {
            sql.push_str(" AND account IS NULL");
        }
    }
    if let Some(after_id) = query.after_id {
        sql.push_str(" AND id > ? ORDER BY id LIMIT ?");
        values.push(Value::from(after_id));
    } else {
        sql.push_str(" ORDER BY id DESC LIMIT ?");
    }
    values.push(Value::from(i64::from(query.limit.min(MAX_LISTED))));

    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = Vec::new();
    for row in statement
        .query_map(rusqlite::params_from_iter(values), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?
    {
        let (id, json) = row?;
        match serde_json::from_str(&json) {
            Ok(record) => rows.push(AuditRow { id, record }),
            Err(error) => tracing::warn!(id, %error, "an audit row cannot be read"),
        }
    }
    if query.after_id.is_none() {
        rows.reverse();
    }
    Ok(rows)
}

/// Rows that wait, and counts of those that found no room.
#[derive(Default)]
pub(crate) struct AuditBuffer(Mutex<Buffered>);

#[derive(Default)]
struct Buffered {
    waiting: Vec<AuditRecord>,
    /// Rows that wait, by plugin.
    shares: HashMap<Option<String>, usize>,
    dropped: HashMap<Option<String>, Dropped>,
    flushing: bool,
}

#[derive(Debug, Clone, Copy)]
struct Dropped {
    count: u64,
    last_at_ms: u64,
}

fn plugin_of(record: &AuditRecord) -> Option<String> {
    record.event.plugin().map(|key| split(key).0.to_owned())
}

impl AuditBuffer {
    fn lock(&self) -> MutexGuard<'_, Buffered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps or counts a row. True when nobody is about to write what waits.
    fn add(&self, record: AuditRecord) -> bool {
        let mut buffered = self.lock();
        let plugin = plugin_of(&record);
        // Rows about no plugin are the host's own and may take all the room there is.
        let share_limit = if plugin.is_some() { MAX_QUEUED_PER_PLUGIN } else { MAX_QUEUED };
        let is_full = buffered.waiting.len() >= MAX_QUEUED;
        let share = buffered.shares.entry(plugin.clone()).or_default();
        if is_full || *share >= share_limit {
            buffered.count_dropped(plugin, 1, record.at_ms);
        } else {
            *share += 1;
            buffered.waiting.push(record);
        }
        !buffered.flushing
    }

    /// True when there is something to write and this caller shall have it written.
    fn start_flush(&self) -> bool {
        let mut buffered = self.lock();
        let has_rows = !buffered.waiting.is_empty() || !buffered.dropped.is_empty();
        let start = has_rows && !buffered.flushing;
        buffered.flushing |= start;
        start
    }

    fn end_flush(&self) {
        self.lock().flushing = false;
    }

    /// Everything to write now, the rows about missing rows last. Whatever is added from here on needs a new flush.
    fn take(&self) -> Vec<AuditRecord> {
        let mut buffered = self.lock();
        buffered.flushing = false;
        buffered.shares.clear();
        let mut records = std::mem::take(&mut buffered.waiting);
        records.extend(buffered.dropped.drain().map(|(plugin, dropped)| AuditRecord {
            at_ms: dropped.last_at_ms,
            actor: "host:store".to_owned(),
            event: AuditEvent::AuditOverflow { plugin, dropped: dropped.count },
        }));
        records
    }

    /// Counts rows whose transaction failed.
    fn lose(&self, records: &[AuditRecord]) {
        let mut buffered = self.lock();
        for record in records {
            let count = if let AuditEvent::AuditOverflow { dropped, .. } = record.event { dropped } else { 1 };
            buffered.count_dropped(plugin_of(record), count, record.at_ms);
        }
    }
}

impl Buffered {
    fn count_dropped(&mut self, plugin: Option<String>, count: u64, at_ms: u64) {
        let dropped = self.dropped.entry(plugin).or_insert(Dropped { count: 0, last_at_ms: at_ms });
        dropped.count = dropped.count.saturating_add(count);
        dropped.last_at_ms = dropped.last_at_ms.max(at_ms);
    }
}

/// Writes what waits when its turn comes.
struct Flush {
    buffer: Arc<AuditBuffer>,
    written: Vec<AuditRecord>,
}

impl Write for Flush {
    fn run(&mut self, connection: &Connection) -> Result<(), Option<StoreError>> {
        self.written = self.buffer.take();
        for record in &self.written {
            if let Err(error) = append(connection, record) {
                tracing::error!(%error, "audit rows could not be written");
                self.buffer.lose(&self.written);
                self.written.clear();
                return Err(error.file_failure().cloned());
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
        if let Err(error) = outcome {
            tracing::error!(%error, rows = self.written.len(), "audit rows could not be written");
            self.buffer.lose(&self.written);
            self.buffer.end_flush();
        }
    }
}
