//! Messages between people and agents, as channels hand them over.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A piece of a message. `kind` is text, markdown, image, audio, video, file, location, ...
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// What it is.
    pub kind: String,
    /// Its text, for kinds that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its bytes, for kinds that have some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Blob>,
    /// Anything further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

/// Bytes with a media type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// Such as `image/png`.
    pub media_type: String,
    /// The content.
    pub data: Vec<u8>,
}

/// A conversation. `kind` is direct, group, broadcast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The channel's own id of it.
    pub id: String,
    /// What it is.
    pub kind: String,
    /// A thread inside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Anything further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

/// Who wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// The channel's own id of them.
    pub id: String,
    /// Their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Whether it is a program.
    #[serde(default)]
    pub bot: bool,
    /// Anything further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

/// A message that came in. Which plugin, account and channel it came from, and when, is the host's to say: it is in
/// [`Received`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inbound {
    /// The channel's own id; the key for deduplication.
    pub id: String,
    /// Who wrote it.
    pub sender: Person,
    /// Where.
    pub place: Place,
    /// What.
    pub parts: Vec<Part>,
    /// The message it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// When, by the channel's clock, in milliseconds since the Unix epoch.
    pub sent_at_ms: u64,
    /// Anything further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

/// An inbound message with what the host vouches for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    /// The plugin it came through.
    pub plugin: crate::id::PluginId,
    /// The account it came through.
    pub account: crate::id::AccountId,
    /// The channel it came through, as the plugin's manifest declares it.
    pub channel: String,
    /// When it arrived, in milliseconds since the Unix epoch.
    pub received_at_ms: u64,
    /// What the plugin handed in.
    pub message: Inbound,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outbound {
    /// Where to.
    pub place: Place,
    /// What.
    pub parts: Vec<Part>,
    /// The message it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Delivering the same key twice sends once.
    pub idempotency_key: String,
    /// Anything further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

/// What a channel says after sending.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The channel's own id of what was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Anything further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}
