//! Handing in messages that people wrote. Needs `permissions.inbox`.

use crate::failure::Failure;
use crate::host;
use crate::message::Inbound;

/// What became of a message that was handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Submission {
    /// Stored; it will be answered.
    Accepted,
    /// Its id was seen before; nothing happens.
    Duplicate,
    /// The sender must be paired by an admin first.
    PairingRequired,
    /// The sender may not write here.
    Denied,
    /// The sender writes too much.
    Throttled,
    /// Something newer than this SDK.
    Other(String),
}

impl Submission {
    fn from_wire(text: String) -> Self {
        match text.as_str() {
            "accepted" => Self::Accepted,
            "duplicate" => Self::Duplicate,
            "pairing-required" => Self::PairingRequired,
            "denied" => Self::Denied,
            "throttled" => Self::Throttled,
            _ => Self::Other(text),
        }
    }

    /// The text on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::PairingRequired => "pairing-required",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::Other(text) => text,
        }
    }
}

/// Hands in a message. When this returns, the message is stored: only then tell the sender's server that it arrived.
///
/// # Errors
/// A [`Failure`] of the host; the message is not stored then, and its server should send it again.
pub fn submit(message: Inbound) -> Result<Submission, Failure> {
    host::inbox_submit(message).map(Submission::from_wire)
}
