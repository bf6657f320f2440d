//! Frames as this client reads and writes them. Reading is lenient, so that a newer gateway's further fields do no harm.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::Refusal;

/// A request on the wire.
#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) id: &'a str,
    pub(super) method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) params: Option<&'a Value>,
}

/// What a gateway sends.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Incoming {
    #[serde(rename = "res")]
    Response(Response),
    #[serde(rename = "event")]
    Event(Event),
}

/// A response.
#[derive(Debug, Deserialize)]
pub(super) struct Response {
    pub(super) id: String,
    ok: bool,
    #[serde(default)]
    payload: Value,
    error: Option<Box<Refusal>>,
}

impl Response {
    pub(super) fn outcome(self) -> Result<Value, Box<Refusal>> {
        if self.ok { Ok(self.payload) } else { Err(self.error.unwrap_or_default()) }
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Event {
    /// Its name.
    #[serde(rename = "event")]
    pub name: String,
    /// Its payload.
    #[serde(default)]
    pub payload: Value,
    /// Counts broadcasts, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}
