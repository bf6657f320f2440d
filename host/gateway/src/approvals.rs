//! Questions that wait for a person: may this command run, may this plugin do that.
//!
//! Who asked cannot answer: neither the connection nor another one of its device. (Connections without a device that show the
//! same credential are not told apart: with a shared token alone nobody could answer then.) A question ends with a decision, with its time, or at once when nobody is there who could answer;
//! what became of it is told for a while longer. In version 3 everybody with `operator.approvals` hears of it and may answer; in
//! version 4 admins, and who can show no question is nobody who could answer it. Where the two meet the stricter one holds, so
//! that nobody gains by speaking the older one. A question that waits does not outlive the program: who asked is gone then
//! as well. What became of the others is kept ([`crate::decisions`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leanclaw_types::Failure;
use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::decisions::{DECISIONS, Decisions};
use crate::handshake::Session;
use crate::methods::{ADMIN, APPROVALS};
use crate::services::Records;
use crate::shelf::Shelf;

/// Questions that may wait at once.
const MAX_OPEN: usize = 256;
/// Those of one device, or of one caller without, so that none keeps others from asking.
const MAX_OPEN_OF_ONE: usize = 64;
/// The longest id that who asks may choose.
const MAX_ID_CHARS: usize = 128;
/// The most that one question may take, as JSON.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Time for which it is told what became of a question.
const TOLD_FOR_MS: u64 = 15_000;

/// Ids of clients of version 4 that can show any question.
const SHOW_ALL: [&str; 2] = ["openclaw-control-ui", "gateway-client"];

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Exec,
    Plugin,
}

impl Kind {
    pub(crate) fn requested(self) -> &'static str {
        match self {
            Self::Exec => "exec.approval.requested",
            Self::Plugin => "plugin.approval.requested",
        }
    }

    pub(crate) fn resolved(self) -> &'static str {
        match self {
            Self::Exec => "exec.approval.resolved",
            Self::Plugin => "plugin.approval.resolved",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Plugin => "plugin",
        }
    }

    /// What a client of version 4 says that can show these, and the ids of those that can without a word.
    fn shown_by(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Exec => ("exec-approvals", &["openclaw-macos", "openclaw-ios", "openclaw-android"]),
            Self::Plugin => ("plugin-approvals", &["openclaw-tui"]),
        }
    }

    /// Whether a client can show people such a question. Version 3 has no word for that, so there each can.
    fn can_be_shown_by(self, session: &Session) -> bool {
        let (cap, clients) = self.shown_by();
        let id = session.client.id.as_str();
        session.version == ProtocolVersion::V3
            || SHOW_ALL.contains(&id)
            || clients.contains(&id)
            || session.caps.iter().any(|can| can == "approvals" || can == cap)
    }
}

/// How a question ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody said `allow-once`, `allow-always` or `deny`.
    Decided(String, Decider),
    /// Nobody did in time.
    TimedOut,
    /// Nobody is there who could.
    NoRoute,
}

/// Who decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decider {
    pub(crate) device: Option<String>,
    /// The caller, such as `client:token`.
    pub(crate) actor: String,
}

/// Who asked: a connection, the device it is of, the caller, and the version it speaks.
#[derive(Debug)]
struct Asker {
    connection: String,
    device: Option<String>,
    /// As in audit rows.
    caller: String,
    version: ProtocolVersion,
}

impl Asker {
    /// Whether both are one who asks: the same device, or without one the same caller.
    fn is_one_with(&self, other: &Self) -> bool {
        self.device == other.device && (self.device.is_some() || self.caller == other.caller)
    }
}

/// One question.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) request: Value,
    pub(crate) created_at_ms: u64,
    pub(crate) expires_at_ms: u64,
    asked_by: Asker,
    end: watch::Sender<Option<End>>,
    /// Whether its end is on disk, or could not be brought there.
    settled: watch::Sender<bool>,
}

impl Question {
    pub(crate) fn new(kind: Kind, id: String, request: Value, (now_ms, for_ms): (u64, u64), asker: &Session) -> Self {
        let (end, _) = watch::channel(None);
        let expires_at_ms = now_ms.saturating_add(for_ms);
        let asked_by = Asker {
            connection: asker.id.clone(),
            device: asker.device.clone(),
            caller: format!("{}:{}", asker.caller.kind, asker.caller.id),
            version: asker.version,
        };
        let settled = watch::Sender::new(false);
        Self { kind, id, request, created_at_ms: now_ms, expires_at_ms, asked_by, end, settled }
    }

    /// What may be decided: all, where who asked did not say.
    pub(crate) fn allowed(&self) -> Vec<&str> {
        match self.request.get("allowedDecisions").and_then(Value::as_array) {
            Some(allowed) => allowed.iter().filter_map(Value::as_str).collect(),
            None => DECISIONS.to_vec(),
        }
    }

    /// Whether that is who asked.
    pub(crate) fn is_by(&self, session: &Session) -> bool {
        self.asked_by.connection == session.id
            || self.asked_by.device.is_some() && self.asked_by.device == session.device
    }

    /// The device that asked.
    pub(crate) fn device(&self) -> Option<&str> {
        self.asked_by.device.as_deref()
    }

    /// Whether that connection may know of it.
    pub(crate) fn is_visible_to(&self, session: &Session) -> bool {
        let is_old = session.version == ProtocolVersion::V3 && self.asked_by.version == ProtocolVersion::V3;
        let holds = |scope: &str| session.caller.role == "operator" && session.caller.holds(scope);
        holds(ADMIN) || holds(APPROVALS) && (is_old || self.is_by(session))
    }

    /// Whether that connection is told what becomes of it.
    pub(crate) fn is_told_to(&self, session: &Session) -> bool {
        self.is_visible_to(session) && self.kind.can_be_shown_by(session)
    }

    /// Whether that connection is told that it is asked. Who asks in version 4 is not.
    pub(crate) fn is_announced_to(&self, session: &Session) -> bool {
        let is_asker = self.asked_by.connection == session.id;
        self.is_told_to(session) && !(is_asker && session.version.is_newest())
    }

    /// Whether somebody at that connection could decide.
    pub(crate) fn can_be_answered_by(&self, session: &Session) -> bool {
        !self.is_by(session) && self.is_told_to(session)
    }

    /// `{id, request, createdAtMs, expiresAtMs}`.
    pub(crate) fn shown(&self) -> Value {
        json!({
            "id": self.id, "request": self.request, "createdAtMs": self.created_at_ms,
            "expiresAtMs": self.expires_at_ms,
        })
    }

    /// Ends it, unless it has ended. False when it had.
    pub(crate) fn finish(&self, end: End) -> bool {
        self.end.send_if_modified(|now| {
            let open = now.is_none();
            if open {
                *now = Some(end);
            }
            open
        })
    }

    /// How it ends; its time passes while this waits.
    pub(crate) async fn outcome(&self, now_ms: u64) -> End {
        let mut end = self.end.subscribe();
        let left = Duration::from_millis(self.expires_at_ms.saturating_sub(now_ms));
        let ended = tokio::time::timeout(left, end.wait_for(Option::is_some)).await.map(|ended| ended.is_ok());
        if ended != Ok(true) {
            self.finish(End::TimedOut);
        }
        self.end.borrow().clone().unwrap_or(End::TimedOut)
    }

    /// Its end has been written down, as far as that was possible.
    pub(crate) fn settle(&self) {
        self.settled.send_replace(true);
    }

    /// Waits until its end has been written down.
    pub(crate) async fn settled(&self) {
        // It is here itself, so nobody can have dropped the sender.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// How it ended; none while it waits.
    pub(crate) fn ended(&self) -> Option<End> {
        self.end.borrow().clone()
    }

    pub(crate) fn is_open(&self, now_ms: u64) -> bool {
        now_ms < self.expires_at_ms && self.end.borrow().is_none()
    }
}

/// All questions, and the rules for commands.
pub(crate) struct Approvals {
    questions: Mutex<BTreeMap<String, Arc<Question>>>,
    /// What became of those that ended.
    pub(crate) decisions: Decisions,
    /// One document: which commands agents may run without asking.
    pub(crate) rules: Shelf<Value>,
}

impl Approvals {
    /// Reads what is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(records: &Arc<dyn Records>) -> Result<Self, Failure> {
        Ok(Self {
            questions: Mutex::default(),
            decisions: Decisions::open(records)?,
            rules: Shelf::open(records, "exec-approvals")?,
        })
    }

    /// The questions without those that nobody is told of any more.
    fn swept(&self, now_ms: u64) -> MutexGuard<'_, BTreeMap<String, Arc<Question>>> {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        questions.retain(|_, old| old.expires_at_ms.saturating_add(TOLD_FOR_MS) > now_ms);
        questions
    }

    /// Notes a question.
    ///
    /// # Errors
    /// There is one of that id, too many wait, or it is too large.
    pub(crate) fn ask(&self, question: Question, now_ms: u64) -> Result<Arc<Question>, ErrorShape> {
        if question.id.chars().count() > MAX_ID_CHARS {
            return Err(ErrorShape::invalid(format!("the approval id is longer than {MAX_ID_CHARS} characters")));
        }
        if matches!(question.id.as_str(), "." | "..") {
            return Err(ErrorShape::invalid("an approval id cannot be a dot or two: it becomes a part of an address"));
        }
        let size_bytes = question.request.to_string().len();
        if size_bytes > MAX_REQUEST_BYTES {
            return Err(ErrorShape::invalid(format!(
                "the approval request takes {size_bytes} bytes and may take {MAX_REQUEST_BYTES}; ask with less detail"
            )));
        }
        let mut questions = self.swept(now_ms);
        if questions.contains_key(&question.id) {
            return Err(ErrorShape::invalid("approval id already used"));
        }
        let of_one = |old: &Question| old.is_open(now_ms) && old.asked_by.is_one_with(&question.asked_by);
        if questions.values().filter(|old| of_one(old)).count() >= MAX_OPEN_OF_ONE {
            let message =
                format!("{MAX_OPEN_OF_ONE} approvals that you asked for wait already; retry when some were decided");
            return Err(crate::error::unavailable(&message));
        }
        if questions.len() >= MAX_OPEN {
            questions.retain(|_, old| old.is_open(now_ms));
        }
        if questions.len() >= MAX_OPEN {
            return Err(crate::error::unavailable("too many approvals wait already; retry when some were decided"));
        }
        let question = Arc::new(question);
        questions.insert(question.id.clone(), Arc::clone(&question));
        Ok(question)
    }

    /// The question of that id, whatever it is about, also one that has ended a short while ago; none that the connection may
    /// not know of.
    pub(crate) fn any(&self, id: &str, session: &Session, now_ms: u64) -> Option<Arc<Question>> {
        self.swept(now_ms).get(id).filter(|question| question.is_visible_to(session)).cloned()
    }

    /// As [`Approvals::any`], about one kind of thing.
    pub(crate) fn find(&self, kind: Kind, id: &str, session: &Session, now_ms: u64) -> Option<Arc<Question>> {
        self.any(id, session, now_ms).filter(|question| question.kind == kind)
    }

    /// Those that wait and that a connection may know of, the oldest first.
    pub(crate) fn waiting(&self, kind: Kind, session: &Session, now_ms: u64) -> Vec<Arc<Question>> {
        let questions = self.swept(now_ms);
        let waits = |one: &Question| one.kind == kind && one.is_open(now_ms) && one.is_visible_to(session);
        let mut waiting: Vec<_> = questions.values().filter(|one| waits(one)).cloned().collect();
        waiting.sort_by_key(|question| question.created_at_ms);
        waiting
    }
}
