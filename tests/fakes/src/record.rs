//! What a server was asked.

use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Such as `POST`.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// What follows the `?`; empty without one.
    pub query: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// When the whole request was there.
    pub arrived: Instant,
    /// Whether the reply was sent to its end, whatever end that was.
    pub answered: bool,
    /// Whether the client closed the connection before that.
    pub disconnected: bool,
}

impl Recorded {
    /// The first header called `name` (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
