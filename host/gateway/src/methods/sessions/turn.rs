//! A message for an agent: what every method that asks for a run has in common.

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use leanclaw_types::model::Thinking;
use leanclaw_types::run::{RunEnd, RunImage, RunOutcome, RunOwner, RunRequest, RunState, RunTaken};
use leanclaw_types::session::{SessionChange, SessionRow, TranscriptMessage};
use serde_json::{Value, json};

use super::{change_in, failed_in, fresh};
use crate::gateway::State;
use crate::handshake::Session;
use crate::sessions::{Begun, Key};

/// Bytes of one message.
const MAX_BYTES: usize = 1024 * 1024;
/// The longest name of a run, in bytes: it goes out with every event of it.
const MAX_NAME_BYTES: usize = 256;
/// Bytes of what an agent is told beside what it is always told.
const MAX_SYSTEM_BYTES: usize = 64 * 1024;
/// How much a model may think, as clients say it.
const THINKING: &str = "off, minimal, low, medium, high, xhigh, adaptive";

/// A message that an agent is to answer.
pub(crate) struct Turn {
    pub(crate) run_id: String,
    pub(crate) key: Key,
    pub(crate) message: String,
    pub(crate) images: Vec<RunImage>,
    pub(crate) thinking: Option<Thinking>,
    /// None leaves it to the program.
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) system: String,
    /// The session's id, as the client believes.
    pub(crate) session_id: Option<String>,
    /// Whether the session is made when it is missing, as an agent's main one always is.
    pub(crate) makes: bool,
    /// Has its connection's wishes for an end wait until it was taken on.
    pub(crate) begun: Option<Begun>,
}

/// Who asks for a run, and in which version's words errors are told.
pub(crate) struct Asker {
    pub(crate) version: ProtocolVersion,
    pub(crate) owner: RunOwner,
}

impl From<&Session> for Asker {
    fn from(session: &Session) -> Self {
        let (connection, caller) = (session.id.clone(), session.caller.id.clone());
        Self { version: session.version, owner: RunOwner { connection, device: session.device.clone(), caller } }
    }
}

/// A message that was taken on, now or before.
pub(crate) struct Taken {
    pub(crate) row: SessionRow,
    pub(crate) message: TranscriptMessage,
    /// Where its run stands; none when it is new.
    pub(crate) before: Option<RunState>,
}

impl Taken {
    /// As clients are told where the run stands.
    pub(crate) fn status(&self) -> &'static str {
        match &self.before {
            None => "started",
            Some(RunState::Waiting | RunState::Running) => "in_flight",
            Some(RunState::Ended(RunEnd { outcome: RunOutcome::Failed { .. }, .. })) => "error",
            Some(RunState::Ended(_)) => "ok",
        }
    }
}

impl Turn {
    /// A message with nothing beside it.
    pub(crate) fn plain(run_id: String, key: Key, message: String) -> Self {
        Self {
            run_id,
            key,
            message,
            images: Vec::new(),
            thinking: None,
            timeout_ms: None,
            system: String::new(),
            session_id: None,
            makes: true,
            begun: None,
        }
    }

    /// Has it taken on, and tells who follows the session what was said.
    ///
    /// # Errors
    /// There is no such agent or session, or nothing may be said there, or it cannot be taken on.
    pub(crate) async fn take(self, state: &State, asker: impl Into<Asker>) -> Result<Taken, ErrorShape> {
        let Asker { version, owner } = asker.into();
        check_name(&self.run_id)?;
        if self.system.len() > MAX_SYSTEM_BYTES {
            let message = format!("extraSystemPrompt takes more than {MAX_SYSTEM_BYTES} bytes; say less");
            return Err(ErrorShape::invalid(message));
        }
        let _until_taken = self.begun;
        if state.agents.get(&self.key.agent).is_none() {
            return Err(ErrorShape::invalid(format!("unknown agent id \"{}\"", self.key.agent)));
        }
        let row = there(state, version, &self.key, self.makes).await?;
        if self.session_id.as_ref().is_some_and(|id| *id != row.session_id) {
            let message = "the session was reset since; read its history, and send again with the sessionId it has now";
            return Err(ErrorShape::invalid(message));
        }
        if row.entry.get("sendPolicy").and_then(Value::as_str) == Some("deny") {
            let hint = "an admin lifts that: leanclaw call sessions.patch '{\"key\": \"…\", \"sendPolicy\": null}'";
            return Err(ErrorShape::invalid("send blocked by session policy").hint(hint));
        }
        let request = RunRequest {
            run_id: self.run_id,
            session_key: row.key.clone(),
            message: self.message,
            images: self.images,
            thinking: self.thinking,
            timeout_ms: self.timeout_ms,
            system: self.system,
            owner,
        };
        match state.services.runs.start(request).await.map_err(failed_in(version))? {
            RunTaken::New(message) => {
                // It is stored, and who follows the session was told what was said; the row at hand does where the newest
                // cannot be read.
                let row = state.services.sessions.get(&row.key).ok().flatten().unwrap_or(row);
                state.session_changed(&row.key, "send", Some(&row));
                Ok(Taken { row, message, before: None })
            }
            RunTaken::Known(message, before) => Ok(Taken { row, message, before: Some(before) }),
        }
    }
}

/// The session; made when it is missing, where it may be.
async fn there(state: &State, version: ProtocolVersion, key: &Key, makes: bool) -> Result<SessionRow, ErrorShape> {
    let (own, now_ms) = (key.clone(), state.now_ms());
    let decide = move |row: Option<SessionRow>| match row {
        Some(row) => Ok((SessionChange::Nothing, (row, false))),
        None if makes || own.is_main() => {
            let row = fresh(&own, now_ms);
            Ok((SessionChange::Put(row.clone()), (row, true)))
        }
        None => Err(missing(&own)),
    };
    let (row, is_new) = change_in(version, state, key, decide).await?;
    if is_new {
        state.session_changed(&row.key, "create", Some(&row));
    }
    Ok(row)
}

/// There is no such session.
pub(crate) fn missing(key: &Key) -> ErrorShape {
    ErrorShape::invalid(format!("session not found: {}; sessions.create makes it", key.text))
}

/// Whether that can name a run.
fn check_name(run_id: &str) -> Result<(), ErrorShape> {
    let is_name = (1..=MAX_NAME_BYTES).contains(&run_id.len()) && !run_id.chars().any(char::is_control);
    let message = || format!("idempotencyKey must be 1 to {MAX_NAME_BYTES} bytes without control characters");
    if is_name { Ok(()) } else { Err(ErrorShape::invalid(message())) }
}

/// Whether something was said that can be taken on.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_message(message: &str, has_images: bool) -> Result<(), ErrorShape> {
    if message.trim().is_empty() && !has_images {
        return Err(ErrorShape::invalid("message or attachment required"));
    }
    if message.contains('\0') {
        return Err(ErrorShape::invalid("message must not contain null bytes"));
    }
    if message.len() > MAX_BYTES {
        return Err(ErrorShape::invalid(format!("message takes more than {MAX_BYTES} bytes; send less at once")));
    }
    Ok(())
}

/// How much the model may think, as a client says it.
///
/// # Errors
/// It is no such level.
pub(crate) fn thinking(level: Option<&str>) -> Result<Option<Thinking>, ErrorShape> {
    let Some(level) = level.map(str::trim).filter(|level| !level.is_empty()) else { return Ok(None) };
    let own = match level.to_lowercase().as_str() {
        "max" | "ultra" => "xhigh".to_owned(),
        other => other.to_owned(),
    };
    let read = serde_json::from_value(json!(own)).map(Some);
    read.map_err(|_| ErrorShape::invalid(format!("invalid thinking level {level:?} (use {THINKING})")))
}
