//! Runs of agents: what was taken on, whose turn came, and how it ended.
//!
//! A run comes with the message it answers in one transaction, so that neither is there without the other. It waits, goes on
//! and ends; after a crash one that went on is found as such, and whoever starts the program decides what becomes of it. Whose
//! turn it is, how long it may take and what it does is the caller's business.
//!
//! A run belongs to its session. When that goes, so do its runs; when its transcript begins anew, those that have not ended
//! end. How runs ended is kept for a day, of the newest [`MAX_ENDED`] only, and without what they were asked, which is in the transcript.

use leanclaw_types::model::TokenUsage;
use leanclaw_types::run::{AbortReason, RunEnd, RunOutcome, RunRequest, RunState};
use leanclaw_types::session::{NewMessage, TranscriptMessage};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::error::StoreError;
use crate::queue::Lane;
use crate::store::Store;
use crate::{to_signed, to_unsigned, transcripts};

/// Ended runs that are kept; those that ended first go first.
pub(crate) const MAX_ENDED: i64 = 10_000;
/// How long an ended run is kept, in milliseconds.
pub(crate) const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// Ended runs that are looked at, and deleted at most, with one that is taken on or ends, so that no write takes long.
const MAX_DELETED: u32 = 8;

const COLUMNS: &str = "number, id, message, seq, state, attempts, created_ms, started_ms, request, ending";

/// What became of a message that was to be taken on. What is said of the store is on disk.
#[expect(clippy::large_enum_variant, reason = "there are few at a time, and none is kept in a list")]
#[derive(Debug, Clone, PartialEq)]
pub enum TakenRun {
    /// It is in the transcript and its run waits, as the one of this number: see [`StoredRun::number`].
    New(TranscriptMessage, i64),
    /// There is a run of that id already, of the same session and for a message with the same `content`.
    Known(TranscriptMessage, RunState),
    /// The same was said under this idempotency key before, since the session's last reset, and no run of that id is known: it
    /// ended so long ago that it was forgotten, or what was said was not for an agent. Nothing was stored.
    Past(TranscriptMessage),
    /// Something else was said under that id, or in another session. Nothing was stored.
    Conflict,
    /// As many runs of the session wait as may. Nothing was stored.
    Full,
    /// There is no such session. Nothing was stored.
    Missing,
}

/// A run as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRun {
    /// Rises with every run of every session, and never comes back: the order in which they were taken on.
    pub number: i64,
    /// What was asked for; its words and pictures are gone once the run ended.
    pub request: RunRequest,
    /// The message it answers, as in [`TranscriptMessage::id`].
    pub message_id: i64,
    /// The same, as in [`TranscriptMessage::seq`].
    pub message_seq: u64,
    /// Where it stands.
    pub state: RunState,
    /// How often its turn came.
    pub attempts: u32,
    /// When it was taken on, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When its turn came first, in milliseconds since the Unix epoch.
    pub started_ms: Option<u64>,
}

impl Store {
    /// Takes a message on for an agent: adds it to the transcript of `request.session_key` and has a run of it wait, both or
    /// nothing, unless there is a run of that id already or `most_waiting` runs of the session wait. It is on disk when this
    /// answers. What the same id stands for is in [`TakenRun`].
    ///
    /// # Errors
    /// [`StoreError`] when nothing was stored.
    pub async fn take_run(
        &self,
        request: RunRequest,
        message: NewMessage,
        most_waiting: u32,
    ) -> Result<TakenRun, StoreError> {
        let body = transcripts::json(&message)?;
        let text = serde_json::to_string(&request).map_err(|error| StoreError::row("the run", error))?;
        self.database
            .write(Lane::Host, body.len() + text.len(), move |connection| {
                let Some(session) = session(connection, &request.session_key)? else { return Ok(TakenRun::Missing) };
                if let Some(taken) = taken_before(connection, session, &request, &message)? {
                    return Ok(taken);
                }
                if waiting(connection, session)? >= i64::from(most_waiting) {
                    return Ok(TakenRun::Full);
                }
                let added = transcripts::add(connection, &request.session_key, message, body)?;
                let Some(message) = added else { return Ok(TakenRun::Missing) };
                let number = insert(connection, session, &request.run_id, &text, &message)?;
                prune(connection, message.at_ms)?;
                Ok::<_, StoreError>(TakenRun::New(message, number))
            })
            .await
    }

    /// A run's turn has come: one that waits goes on, and that is on disk when this answers. False when it does not wait.
    ///
    /// # Errors
    /// [`StoreError`] when nothing changed.
    pub async fn start_run(&self, run_id: &str, at_ms: u64) -> Result<bool, StoreError> {
        let run_id = run_id.to_owned();
        self.database
            .write(Lane::Host, 128, move |connection| {
                let changed = connection
                    .prepare_cached(
                        "UPDATE runs SET state = 'running', attempts = attempts + 1, started_ms = coalesce(started_ms, ?2) \
                         WHERE id = ?1 AND state = 'waiting'",
                    )?
                    .execute((run_id, to_signed(at_ms)))?;
                Ok::<_, StoreError>(changed > 0)
            })
            .await
    }

    /// Has a run that goes on wait again, at its old place in the order: for one that a crash cut short. False when it does not
    /// go on.
    ///
    /// # Errors
    /// [`StoreError`] when nothing changed.
    pub async fn put_run_back(&self, run_id: &str) -> Result<bool, StoreError> {
        let run_id = run_id.to_owned();
        self.database
            .write(Lane::Host, 128, move |connection| {
                let changed = connection
                    .prepare_cached("UPDATE runs SET state = 'waiting' WHERE id = ? AND state = 'running'")?
                    .execute([run_id])?;
                Ok::<_, StoreError>(changed > 0)
            })
            .await
    }

    /// A run is over, whether its turn had come or not. Gives the end that is stored, once it is on disk: the first one counts.
    /// None when there is no such run, which its session may have taken with it.
    ///
    /// # Errors
    /// [`StoreError`] when nothing changed.
    pub async fn end_run(&self, run_id: &str, end: RunEnd) -> Result<Option<RunEnd>, StoreError> {
        let run_id = run_id.to_owned();
        let json = text(&end)?;
        self.database
            .write(Lane::Host, json.len(), move |connection| {
                if end_one(connection, &run_id, end.ended_ms, &json)? {
                    prune(connection, end.ended_ms)?;
                    return Ok(Some(end));
                }
                let stored: Option<Option<String>> = connection
                    .prepare_cached("SELECT ending FROM runs WHERE id = ?")?
                    .query_row([&run_id], |row| row.get(0))
                    .optional()?;
                stored.map(|ending| parsed_end(&run_id, ending.as_deref())).transpose()
            })
            .await
    }

    /// Every run that waits or goes on, in the order in which they were taken on. A row that cannot be read is left out with a
    /// warning.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub async fn open_runs(&self) -> Result<Vec<StoredRun>, StoreError> {
        self.database
            .read_many(|connection| {
                // Found first and read in order: what was asked for may be large, and need not be sorted.
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM runs WHERE number IN \
                     (SELECT number FROM runs WHERE state IN ('waiting', 'running')) ORDER BY number"
                ))?;
                let mut runs = Vec::new();
                for raw in statement.query_map([], RawRun::read)? {
                    match raw?.parse() {
                        Ok(run) => runs.push(run),
                        Err(error) => tracing::warn!(%error, "a run is ignored"),
                    }
                }
                Ok(runs)
            })
            .await
    }

    /// The run with that id; none when there never was one or it was forgotten. One row.
    ///
    /// # Errors
    /// [`StoreError`] when the file or the row cannot be read.
    pub fn run(&self, run_id: &str) -> Result<Option<StoredRun>, StoreError> {
        self.database.read(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM runs WHERE id = ?");
            let raw = connection.prepare_cached(&sql)?.query_row([run_id], RawRun::read).optional()?;
            raw.map(RawRun::parse).transpose()
        })
    }
}

/// Ends every run of a session that waits or goes on, because what they answer is out of sight.
pub(crate) fn end_all(connection: &Connection, session_key: &str, ended_ms: u64) -> Result<(), StoreError> {
    let mut open = connection.prepare_cached(
        "SELECT id, started_ms FROM runs WHERE session = (SELECT id FROM sessions WHERE key = ?) \
         AND state IN ('waiting', 'running') ORDER BY number",
    )?;
    let open: Vec<(String, Option<i64>)> =
        open.query_map([session_key], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (run_id, started_ms) in open {
        let end = RunEnd {
            outcome: RunOutcome::Aborted { by: AbortReason::Rpc },
            text: String::new(),
            started_ms: started_ms.map(to_unsigned),
            ended_ms,
            provider: None,
            model: None,
            usage: TokenUsage::default(),
        };
        end_one(connection, &run_id, ended_ms, &text(&end)?)?;
    }
    Ok(())
}

fn session(connection: &Connection, key: &str) -> Result<Option<i64>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id FROM sessions WHERE key = ?")?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}

/// What there is of that run, or of its message, from before.
fn taken_before(
    connection: &Connection,
    session: i64,
    request: &RunRequest,
    message: &NewMessage,
) -> Result<Option<TakenRun>, StoreError> {
    let known: Option<(i64, i64, String, Option<String>)> = connection
        .prepare_cached("SELECT session, message, state, ending FROM runs WHERE id = ?")?
        .query_row([&request.run_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let is_same = |said: &TranscriptMessage| said.body.get("content") == message.body.get("content");
    let Some((of_session, message_id, state, ending)) = known else {
        let said = transcripts::said_before(connection, &request.session_key, message)?;
        return Ok(said.map(|said| if is_same(&said) { TakenRun::Past(said) } else { TakenRun::Conflict }));
    };
    if of_session != session {
        return Ok(Some(TakenRun::Conflict));
    }
    let said = transcripts::by_id(connection, message_id)?
        .ok_or_else(|| StoreError::row(format!("run {}", request.run_id), "its message is not there"))?;
    if !is_same(&said) {
        return Ok(Some(TakenRun::Conflict));
    }
    Ok(Some(TakenRun::Known(said, parsed_state(&request.run_id, &state, ending.as_deref())?)))
}

fn waiting(connection: &Connection, session: i64) -> Result<i64, StoreError> {
    let mut count = connection.prepare_cached(WAITING)?;
    Ok(count.query_row([session], |row| row.get(0))?)
}

/// How many runs of a session wait.
pub(crate) const WAITING: &str = "SELECT count(*) FROM runs WHERE session = ? AND state = 'waiting'";

/// Stores a run that waits; gives its number.
fn insert(
    connection: &Connection,
    session: i64,
    run_id: &str,
    request: &str,
    message: &TranscriptMessage,
) -> Result<i64, StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO runs (id, session, message, seq, state, attempts, created_ms, request) \
         VALUES (?, ?, ?, ?, 'waiting', 0, ?, ?)",
    )?;
    let (seq, created_ms) = (to_signed(message.seq), to_signed(message.at_ms));
    Ok(statement.insert((run_id, session, message.id, seq, created_ms, request))?)
}

/// Ends a run; false when it had ended, or there is none.
fn end_one(connection: &Connection, run_id: &str, ended_ms: u64, end: &str) -> Result<bool, StoreError> {
    let changed = connection.prepare_cached(END)?.execute((run_id, to_signed(ended_ms), end))?;
    Ok(changed > 0)
}

/// Ends one run.
pub(crate) const END: &str = "
UPDATE runs SET state = 'ended', ended_ms = ?2, ending = ?3, request = json_set(json_remove(request, '$.images'), '$.message', ''), ended_number = 1 +
    coalesce((SELECT ended_number FROM runs WHERE state = 'ended' ORDER BY ended_number DESC LIMIT 1), 0)
WHERE id = ?1 AND state <> 'ended'
";

/// Deletes what ended too long ago, or too many ended since, a few at a time.
fn prune(connection: &Connection, now_ms: u64) -> Result<(), StoreError> {
    let before_ms = to_signed(now_ms).saturating_sub(KEPT_MS);
    connection.prepare_cached(PRUNE)?.execute((before_ms, MAX_ENDED, MAX_DELETED))?;
    Ok(())
}

/// Of the runs that ended first, those that are not to be kept.
pub(crate) const PRUNE: &str = "
DELETE FROM runs WHERE number IN (
    SELECT number FROM (
        SELECT number, ended_number, ended_ms FROM runs WHERE state = 'ended' ORDER BY ended_number LIMIT ?3
    ) WHERE ended_ms < ?1 OR ended_number + ?2 <=
        (SELECT ended_number FROM runs WHERE state = 'ended' ORDER BY ended_number DESC LIMIT 1)
)
";

/// A row whose texts are not read yet.
struct RawRun {
    number: i64,
    run_id: String,
    message_id: i64,
    message_seq: u64,
    state: String,
    attempts: u32,
    created_ms: u64,
    started_ms: Option<u64>,
    request: String,
    ending: Option<String>,
}

impl RawRun {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            run_id: row.get(1)?,
            message_id: row.get(2)?,
            message_seq: to_unsigned(row.get(3)?),
            state: row.get(4)?,
            attempts: row.get(5)?,
            created_ms: to_unsigned(row.get(6)?),
            started_ms: row.get::<_, Option<i64>>(7)?.map(to_unsigned),
            request: row.get(8)?,
            ending: row.get(9)?,
        })
    }

    fn parse(self) -> Result<StoredRun, StoreError> {
        Ok(StoredRun {
            number: self.number,
            request: serde_json::from_str(&self.request).map_err(|error| unreadable(&self.run_id, error))?,
            message_id: self.message_id,
            message_seq: self.message_seq,
            state: parsed_state(&self.run_id, &self.state, self.ending.as_deref())?,
            attempts: self.attempts,
            created_ms: self.created_ms,
            started_ms: self.started_ms,
        })
    }
}

fn parsed_state(run_id: &str, state: &str, ending: Option<&str>) -> Result<RunState, StoreError> {
    match state {
        "waiting" => Ok(RunState::Waiting),
        "running" => Ok(RunState::Running),
        "ended" => Ok(RunState::Ended(parsed_end(run_id, ending)?)),
        other => Err(unreadable(run_id, format!("it is said to be `{other}`"))),
    }
}

fn parsed_end(run_id: &str, ending: Option<&str>) -> Result<RunEnd, StoreError> {
    let ending = ending.ok_or_else(|| unreadable(run_id, "it ended, and not how"))?;
    serde_json::from_str(ending).map_err(|error| unreadable(run_id, error))
}

fn text(end: &RunEnd) -> Result<String, StoreError> {
    serde_json::to_string(end).map_err(|error| StoreError::row("the end of a run", error))
}

fn unreadable(run_id: &str, problem: impl std::fmt::Display) -> StoreError {
    StoreError::row(format!("run {run_id}"), problem)
}
