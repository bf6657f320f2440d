//! Messages between people and agents.

use serde_json::Value;

use crate::blob::Blob;

/// A piece of a message.
#[derive(Debug)]
pub struct Part {
    /// `text`, `markdown`, `image`, `audio`, `video`, `file`, `location`, ...
    pub kind: String,
    /// Its text, for kinds that have one.
    pub text: Option<String>,
    /// Its bytes, for kinds that have some.
    pub blob: Option<Blob>,
    /// Anything further.
    pub extra: Option<Value>,
}

impl Part {
    /// Plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: "text".into(), text: Some(text.into()), blob: None, extra: None }
    }

    /// Bytes of a kind, such as `image` or `file`.
    pub fn blob(kind: impl Into<String>, blob: Blob) -> Self {
        Self { kind: kind.into(), text: None, blob: Some(blob), extra: None }
    }
}

/// A conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Place {
    /// The channel's own id of it.
    pub id: String,
    /// `direct`, `group`, `broadcast`.
    pub kind: String,
    /// A thread inside it.
    pub thread: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// Anything further.
    pub extra: Option<Value>,
}

impl Place {
    /// A conversation between two.
    pub fn direct(id: impl Into<String>) -> Self {
        Self { id: id.into(), kind: "direct".into(), ..Self::default() }
    }

    /// A conversation of many.
    pub fn group(id: impl Into<String>) -> Self {
        Self { id: id.into(), kind: "group".into(), ..Self::default() }
    }
}

/// Who wrote.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Person {
    /// The channel's own id of them.
    pub id: String,
    /// Their name.
    pub display_name: Option<String>,
    /// Whether a program writes under this id.
    pub bot: bool,
    /// Anything further.
    pub extra: Option<Value>,
}

/// A message that came in. Which plugin and account it came through, and when, is the host's to say.
#[derive(Debug)]
pub struct Inbound {
    /// The channel's own id; a second message with the same id is dropped as a duplicate.
    pub id: String,
    /// Who wrote it.
    pub sender: Person,
    /// Where.
    pub place: Place,
    /// What.
    pub parts: Vec<Part>,
    /// The message it answers.
    pub reply_to: Option<String>,
    /// When, by the channel's clock, in milliseconds since the Unix epoch.
    pub sent_at_ms: u64,
    /// Anything further.
    pub extra: Option<Value>,
}

/// A message to be sent.
#[derive(Debug)]
pub struct Outbound {
    /// Where to.
    pub place: Place,
    /// What.
    pub parts: Vec<Part>,
    /// The message it answers.
    pub reply_to: Option<String>,
    /// Delivering the same key twice sends once.
    pub idempotency_key: String,
    /// Anything further.
    pub extra: Option<Value>,
}

impl Outbound {
    /// The texts of all parts that have one, with a blank line between them.
    #[must_use]
    pub fn text(&self) -> String {
        self.parts.iter().filter_map(|part| part.text.as_deref()).collect::<Vec<_>>().join("\n\n")
    }
}

/// What a channel says after sending.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Receipt {
    /// The channel's own id of what was sent.
    pub message_id: Option<String>,
    /// Anything further.
    pub extra: Option<Value>,
}
