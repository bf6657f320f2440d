//! What must survive a `kill -9`: grants, audit rows, secrets, the inbox, cached specs, sessions with what was said in them, the
//! runs of agents, the gateway's documents ([`Store`], in `core.db`) and the plugins' key-value data ([`KvStore`], in
//! `plugin-kv.db`).
//!
//! This crate owns the two SQLite files, their schemas and their threads. It does not decide: whether a grant is wise, a
//! secret may be used or a message should be answered is the caller's business. It knows no plugin folder, no network and
//! no configuration.
//!
//! **Writing.** Each file has one writer thread. It takes everything that waits, runs it in one transaction (each write in
//! a savepoint of its own, so that one that fails takes no other with it), syncs once and then answers everyone: group
//! commit. `synchronous=FULL` holds for both files, so an acknowledged write survives a power cut as well as a `kill -9`.
//! A write is accepted when its future is first polled; dropping the future afterwards does not take it back. Writes of
//! different plugins take turns, so that one that floods its key-value store delays only itself.
//!
//! **Reading.** Readers have connections of their own and never wait for the writer. Reading a single row (a grant, a
//! secret, a key) happens right on the calling thread: a handful of microseconds when the page is in memory, less than
//! handing it to another thread and back. Whatever may read many rows goes to tokio's blocking threads, a few at a time.
//! A read that begins after a write was acknowledged sees it.
//!
//! **Who can read the files.** They are plain SQLite files, secrets included: the protection is the file mode, 0600 in a
//! data directory created 0700, and that secrets are only ever handed out as
//! [`Secret`](leanclaw_types::redact::Secret). A removed secret is overwritten in the database; a copy may stay in the
//! write-ahead log until that is folded in, at the latest when the program stops.

mod audit;
mod backup;
mod check;
mod database;
mod error;
mod file;
mod grants;
mod inbox;
mod kv;
mod kv_error;
mod kv_sql;
mod original;
mod queue;
mod readers;
mod records;
mod runs;
mod secrets;
mod sessions;
mod specs;
mod store;
mod take_in;
mod transcripts;
mod trouble;
mod writer;

#[cfg(test)]
mod tests;

pub use audit::AuditQuery;
pub use backup::{CopiedFile, back_up, restore};
pub use check::{CheckedFile, check_databases};
pub use error::StoreError;
pub use grants::GrantRow;
pub use inbox::{InboxRow, Submitted};
pub use kv::{Entry, KvStore, MAX_KEY_BYTES, MAX_LISTED_KEYS, MAX_VALUE_BYTES};
pub use kv_error::KvError;
pub use original::Original;
pub use records::RecordChange;
pub use runs::{StoredRun, TakenRun};
pub use store::Store;
pub use take_in::ForeignMessage;

/// SQLite's integers are signed; a time or a counter beyond 2^63 means "never" here.
pub(crate) fn to_signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The way back. Nothing negative is ever stored.
pub(crate) fn to_unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
