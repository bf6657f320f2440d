//! Sessions and their transcripts, as the store keeps them and the gateway shows them.

use std::sync::Arc;

use serde_json::{Map, Value};

/// The agent that a session key without one belongs to.
pub const DEFAULT_AGENT: &str = "main";

/// What kind of conversation a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// With one person.
    Direct,
    /// With several.
    Group,
    /// The one that everybody shares.
    Global,
    /// What came from nowhere known.
    Unknown,
    /// A scheduled job's.
    Cron,
}

impl SessionKind {
    /// The name it is stored under.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Group => "group",
            Self::Global => "global",
            Self::Unknown => "unknown",
            Self::Cron => "cron",
        }
    }

    /// The kind of that name; [`SessionKind::Unknown`] for a name that is not known.
    #[must_use]
    pub fn of(name: &str) -> Self {
        [Self::Direct, Self::Group, Self::Global, Self::Cron]
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .unwrap_or(Self::Unknown)
    }
}

/// One session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    /// Its canonical key, such as `agent:main:main`.
    pub key: String,
    /// A UUID, another one after a reset by version 3.
    pub session_id: String,
    /// The agent it belongs to.
    pub agent: String,
    /// What kind it is.
    pub kind: SessionKind,
    /// A name given to it, unique among an agent's sessions.
    pub label: Option<String>,
    /// Whether it was put away.
    pub archived: bool,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it last changed, in milliseconds since the Unix epoch.
    pub updated_ms: u64,
    /// Everything else about it, by the names the gateway protocol uses.
    pub entry: Map<String, Value>,
}

/// Which sessions are asked for. Every condition must hold.
#[derive(Debug, Clone, Default)]
pub struct SessionQuery {
    /// Of one of these agents; none for all.
    pub agents: Option<Vec<String>>,
    /// In which a person said something since its transcript began.
    pub spoken_in: bool,
    /// Put away or not; none for both.
    pub archived: Option<bool>,
    /// The shared one too.
    pub include_global: bool,
    /// Those from nowhere known too.
    pub include_unknown: bool,
    /// With exactly this label.
    pub label: Option<String>,
    /// Made by the session of this key.
    pub spawned_by: Option<String>,
    /// Not those that another session made for a task of its own (`agent:<agent>:subagent:…`).
    pub exclude_subagents: bool,
    /// With this in key, label, session id or display name; the case of letters is ignored.
    pub search: Option<String>,
    /// Changed at this time or later, in milliseconds since the Unix epoch.
    pub updated_since_ms: Option<u64>,
    /// The one in which a person said something last comes first, and those in which nobody did come last. Else, and among
    /// equals, the one that changed last comes first.
    pub last_spoken_first: bool,
    /// Skip this many.
    pub offset: u64,
    /// Give at most this many; none for all.
    pub limit: Option<u64>,
}

/// An answer to a [`SessionQuery`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionPage {
    /// The sessions, in the order that was asked for.
    pub rows: Vec<SessionRow>,
    /// How many there are without offset and limit.
    pub total: u64,
}

/// Stands for one session in one state: after any change to its row or its transcript its mark is another, which no session
/// ever had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionMark {
    /// The session. One that is removed and made anew is another.
    pub session: i64,
    /// The state it is in.
    pub revision: i64,
}

/// Asks whoever lists which sessions it still knows: for each mark what it kept of that one, or none, in the same order. Runs
/// while the store is read: it must be quick and do nothing else.
pub type RecallSessions = Box<dyn FnOnce(&[SessionMark]) -> Vec<Option<Arc<str>>> + Send>;

/// A session in a [`MarkedPage`].
#[derive(Debug, Clone, PartialEq)]
pub enum MarkedSession {
    /// It was not read: this is what was kept of it.
    Kept(Arc<str>),
    /// It was not known in its state.
    Read(SessionMark, Box<SessionRow>),
}

/// As [`SessionPage`], without what was known of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MarkedPage {
    /// The sessions, in the order that was asked for.
    pub rows: Vec<MarkedSession>,
    /// How many there are without offset and limit.
    pub total: u64,
}

/// How to find sessions other than by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionLookup {
    /// By session id.
    Id(String),
    /// By how the session id begins.
    IdStart(String),
    /// By label, of one agent or of all.
    Label {
        /// The label.
        label: String,
        /// The agent; none for all.
        agent: Option<String>,
    },
}

/// What is to become of a session.
#[derive(Debug, Clone)]
pub enum SessionChange {
    /// It stays as it is.
    Nothing,
    /// It is stored like this; made when it is missing.
    Put(SessionRow),
    /// It is stored like this, and its transcript begins anew; what was said before is kept out of sight.
    Restart(SessionRow),
    /// It is stored like this, and of its transcript only the newest messages stay in sight; the older ones are kept.
    Keep {
        /// The session.
        row: SessionRow,
        /// How many messages stay.
        messages: u64,
    },
    /// It goes.
    Remove {
        /// What was said in it goes too.
        transcript: bool,
    },
}

/// Decides on a session with no other change in between. Runs inside the transaction: it must be quick and do nothing
/// else.
pub type DecideSession = Box<dyn FnOnce(Option<SessionRow>) -> SessionChange + Send>;

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionOutcome {
    /// It is on disk.
    Done,
    /// It is on disk: there was a session, and it is gone.
    Removed {
        /// Which one, as in [`SessionMark::session`].
        session: i64,
    },
    /// Nothing changed: another session of the agent has that label.
    LabelTaken,
}

/// One message of a transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct TranscriptMessage {
    /// Rises with every message of every session, and never comes back.
    pub id: i64,
    /// Rises with every message of its session, across resets, from 1.
    pub seq: u64,
    /// Who speaks: `user`, `assistant`, `toolResult`, `custom`.
    pub role: String,
    /// The message as the gateway protocol shows it: `content` and what else belongs to it.
    pub body: Map<String, Value>,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// A message that is to be added to a transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMessage {
    /// Who speaks, as in [`TranscriptMessage::role`].
    pub role: String,
    /// The message, as in [`TranscriptMessage::body`]. Among the newest messages of a session, one with the same
    /// `idempotencyKey` is the same message.
    pub body: Map<String, Value>,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// A message that is in the transcript now.
#[derive(Debug, Clone, PartialEq)]
pub struct Appended {
    /// The message.
    pub message: TranscriptMessage,
    /// Whether it was there already.
    pub repeated: bool,
}

/// Which messages of a transcript are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct TranscriptQuery {
    /// Only those with a higher sequence number.
    pub after_seq: Option<u64>,
    /// Only those up to this message id, itself included.
    pub up_to_id: Option<i64>,
    /// The oldest instead of the newest.
    pub oldest: bool,
    /// Skip this many at that end.
    pub offset: u64,
    /// Give at most this many, and at most 1000.
    pub limit: u64,
}

/// A session's current transcript, or a part of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transcript {
    /// The messages, oldest first.
    pub messages: Vec<TranscriptMessage>,
    /// How many there are since the last reset.
    pub total: u64,
    /// The sequence number of the newest message, 0 when there never was one.
    pub last_seq: u64,
    /// The sequence number before the first message since the last reset: another one after each reset.
    pub starts_after_seq: u64,
}

/// Which usage is asked for.
#[derive(Debug, Clone, Default)]
pub struct UsageQuery {
    /// Of this session.
    pub key: Option<String>,
    /// Of this agent's sessions.
    pub agent: Option<String>,
    /// From this time on, in milliseconds since the Unix epoch.
    pub from_ms: u64,
    /// Before this time, in milliseconds since the Unix epoch.
    pub until_ms: u64,
    /// What to add to a time before its day is taken, in milliseconds.
    pub day_shift_ms: i64,
}

/// What one model used in one session on one day, or what one role said there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UsageCell {
    /// The session's key.
    pub key: String,
    /// The day, in days since the Unix epoch.
    pub day: i64,
    /// Who spoke.
    pub role: String,
    /// The model's provider.
    pub provider: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Messages.
    pub messages: u64,
    /// Messages that report an error.
    pub errors: u64,
    /// When the first and the last of them came, in milliseconds since the Unix epoch.
    pub first_ms: u64,
    /// See `first_ms`.
    pub last_ms: u64,
    /// Tokens and costs.
    pub tokens: TokenSums,
}

/// Tokens, and what they cost in dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenSums {
    /// Tokens read by the model, not from its cache.
    pub input: u64,
    /// Tokens the model wrote.
    pub output: u64,
    /// Tokens read from the cache.
    pub cache_read: u64,
    /// Tokens written to the cache.
    pub cache_write: u64,
    /// All of them.
    pub total: u64,
    /// What `input` cost, in dollars.
    pub input_cost: f64,
    /// What `output` cost, in dollars.
    pub output_cost: f64,
    /// What `cache_read` cost, in dollars.
    pub cache_read_cost: f64,
    /// What `cache_write` cost, in dollars.
    pub cache_write_cost: f64,
    /// What all of it cost, in dollars.
    pub total_cost: f64,
    /// Messages with tokens and without a cost.
    pub missing_costs: u64,
}

impl TokenSums {
    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Self) {
        self.input += other.input;
        self.output += other.output;
        self.cache_read += other.cache_read;
        self.cache_write += other.cache_write;
        self.total += other.total;
        self.input_cost += other.input_cost;
        self.output_cost += other.output_cost;
        self.cache_read_cost += other.cache_read_cost;
        self.cache_write_cost += other.cache_write_cost;
        self.total_cost += other.total_cost;
        self.missing_costs += other.missing_costs;
    }
}

/// The sessions of one agent at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentSessions {
    /// The agent.
    pub agent: String,
    /// How many it has, without those put away.
    pub count: u64,
    /// Key and time of the last change (milliseconds since the Unix epoch) of those that changed last, newest first.
    pub recent: Vec<(String, u64)>,
}
